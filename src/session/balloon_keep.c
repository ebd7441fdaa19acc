/* SPDX-License-Identifier: BSD-2-Clause */
/* A balloon that outlives its program: see balloon_keep.h. */
#include "session/balloon_keep.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "host/mapping.h"
#include "session/rings_record.h"

static struct guest_rings *rings_of(struct balloon_device *d)
{
	return (struct guest_rings *)(void *)balloon_device_virtio(d);
}

void balloon_keep_write(struct keep *k, const struct session *s, struct balloon_device *d)
{
	bool is_served = s->front.state == FRONT_END_SERVED;
	struct umbra_error err;
	struct record w;

	if (!k->state.host)
		return;
	record_write(&w);
	record_put_fd(&w, balloon_device_ledger_fd(d));
	balloon_device_save(d, &w);
	RECORD_PUT(&w, "connected", is_served);
	if (is_served && vhost_user_server_save(s->front.server, &w, &err)) {
		record_free(&w);
		return;
	}
	if (is_served)
		rings_save(rings_of(d), &w);
	keep_write(k, &w);
}

/* --- going on ------------------------------------------------------------------------------- */

/* Consumes *@fd. */
static int room_map(int *fd, struct memory_region *room, struct umbra_error *err)
{
	struct mapping_request request = { .offset = 0 };
	struct stat file;
	int rc;

	if (fstat(*fd, &file))
		rc = error_set(err, -errno, "%s", strerror(errno));
	else {
		request.size = (uint64_t)file.st_size;
		rc = mapping_create(fd, &request, room, err);
	}
	fd_close(fd);
	return rc ? error_prefix(err, rc, "the ledger") : 0;
}

static int balloon_inherit(struct record *in, struct balloon_device *d, struct umbra_error *err)
{
	struct memory_region room = { .size = 0 };
	int fd = -1, rc = record_get_fd(in, &fd, err);

	if (!rc && fd >= 0)
		rc = room_map(&fd, &room, err);
	if (!rc)
		rc = balloon_device_inherit(d, in, room.host ? &room : NULL, err);
	if (room.host)
		memory_backing_unref(room.backing);
	return rc;
}

static int front_inherit(struct record *in, struct session *s, struct balloon_device *d,
			 struct umbra_error *err)
{
	struct virtio_device *device = balloon_device_virtio(d);
	int rc = front_end_inherit_served(&s->front, in, device, s->end.fd, err);

	if (rc)
		return rc;
	device->ops->attach(device, NULL);
	rc = rings_inherit(rings_of(d), in, err);
	if (!rc)
		rc = record_end(in, err);
	if (rc) {
		device->ops->detach(device);
		front_end_part(&s->front, false);
	}
	return rc;
}

/* The front-end, if it was connected and its connection is of use. */
static void front_go_on(const struct keep *k, struct record *in, struct session *s,
			struct balloon_device *d)
{
	struct umbra_error err = { "" };
	uint64_t connected;
	int rc = record_get_count(in, "connected", 1, &connected, &err);

	if (!rc && !connected)
		return;
	if (!rc && k->found_in_message)
		rc = error_set(&err, -EBUSY, "the program ended in the midst of a message");
	if (!rc)
		rc = front_inherit(in, s, d, &err);
	if (rc) {
		log_warning("the front-end of the program before is given up: %s", err.text);
		return;
	}
	pthread_mutex_lock(&s->lock);
	s->frontends++;
	pthread_mutex_unlock(&s->lock);
	__atomic_store_n(&s->has_rings, true, __ATOMIC_SEQ_CST); /* [end] */
}

bool balloon_keep_go_on(struct keep *k, struct session *s, struct balloon_device *d)
{
	struct record *in = &k->found;
	struct umbra_error err = { "" };
	int rc;

	if (!in->is_read)
		return false;
	rc = balloon_inherit(in, d, &err);
	if (!rc) {
		front_go_on(k, in, s, d);
		rc = balloon_device_go_on(d, &err);
	}
	if (rc)
		log_warning("what the program before knew of the balloon is lost: %s", err.text);
	else
		log_info("going on where the program before was: %s",
			 s->front.state == FRONT_END_SERVED
				 ? "its front-end is connected"
				 : "it had no front-end, or none is left");
	keep_forget_found(k);
	return true;
}

bool balloon_keep_is_heard(const struct session *s)
{
	struct pollfd front = front_end_poll(&s->front);

	return s->front.state != FRONT_END_SERVED || poll(&front, 1, 0) <= 0;
}

void balloon_keep_serve(struct balloon_device *d)
{
	balloon_device_serve(d);
	rings_call(rings_of(d));
}
