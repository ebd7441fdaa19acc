/* SPDX-License-Identifier: BSD-2-Clause */
/* What a vhost-user back-end is told of one ring: see vhost_user_client_private.h. */
#include "vhost_user/vhost_user_client_private.h"

#include <errno.h>

#include "base/bits.h"
#include "base/error.h"
#include "host/notifier.h"

static void state_message(struct vhost_user_message *m, uint32_t request, unsigned int index,
			  uint32_t num)
{
	vhost_user_message_init(m, request, 0, sizeof(m->payload.state));
	m->payload.state = (struct vhost_vring_state){ .index = index, .num = num };
}

static void addr_message(struct vhost_user_message *m, unsigned int index,
			 const struct virtio_ring_addr *addr)
{
	vhost_user_message_init(m, VHOST_USER_SET_VRING_ADDR, 0, sizeof(m->payload.addr));
	m->payload.addr = (struct vhost_vring_addr){
		.index = index,
		.desc_user_addr = addr->desc.v,
		.avail_user_addr = addr->avail.v,
		.used_user_addr = addr->used.v,
	};
}

static void fd_message(struct vhost_user_message *m, uint32_t request, unsigned int index, int fd)
{
	vhost_user_message_init(m, request, 0, sizeof(m->payload.u64));
	m->payload.u64 = index;
	if (fd >= 0)
		m->fds[m->fd_count++] = fd;
	else
		m->payload.u64 |= VHOST_USER_VRING_NO_FD;
}

static int ring_check_index(unsigned int index, struct umbra_error *err)
{
	if (index < VHOST_USER_QUEUES_MAX)
		return 0;
	return error_set(err, -EINVAL, "back-end: queue %u; vhost-user has less than %u", index,
			 VHOST_USER_QUEUES_MAX);
}

/*
 * GET_VRING_BASE makes libvhost-user let go of its call fd at once, although
 * it may still complete what it holds; a completion that has to notify then
 * finds no fd, and libvhost-user ends the whole connection ("Error writing
 * eventfd: Bad file descriptor", QEMU 7.2).  The shadow waits for what it holds, but
 * cannot for a front-end that stops its ring by force; so it gets a call fd again, on which
 * nobody listens, in the same burst, in most cases before it can turn to anything else.
 */
int client_ring_stop(struct virtio_device *b, unsigned int index, struct ring_position *base,
		     struct umbra_error *err)
{
	struct client *c = client_of(b);
	struct vhost_user_message burst[2], m;
	unsigned int n = 0;
	int rc = ring_check_index(index, err);

	if (rc)
		return rc;
	state_message(&burst[n++], VHOST_USER_GET_VRING_BASE, index, 0);
	if (c->hush.way == HUSH_BY_KICK)
		fd_message(&burst[n++], VHOST_USER_SET_VRING_CALL, index, c->late_call_fd);
	rc = vhost_user_requester_burst(&c->r, burst, n, err);
	if (!rc || rc == -EINPROGRESS) /* messages are handled in order */
		c->begun[index / 64] &= ~BIT64(index % 64);
	if (rc)
		return error_prefix(err, rc, "queue %u", index);
	vhost_user_hush_note(&c->hush, index, -1);
	m = burst[0];
	if (m.payload.state.index != index ||
	    ring_position_from_wire(RING_SPLIT, m.payload.state.num, base)) {
		struct umbra_error local;

		err = err ? err : &local;
		error_set(err, -EPROTO,
			  "back-end: the reply to GET_VRING_BASE says queue %u, index %u; expected "
			  "queue %u and an index of 16 bits",
			  m.payload.state.index, m.payload.state.num, index);
		return vhost_user_requester_lose(&c->r, -EPROTO, err);
	}
	return 0;
}

int client_ring_start(struct virtio_device *b, unsigned int index, const struct virtio_ring *ring,
		      struct umbra_error *err)
{
	struct client *c = client_of(b);
	struct vhost_user_message m[8];
	unsigned int n = 0;
	struct ring_position base;
	int rc = ring_check_index(index, err);

	if (rc)
		return rc;
	state_message(&m[n++], VHOST_USER_SET_VRING_NUM, index, ring->size);
	addr_message(&m[n++], index, &ring->addr);
	/* After the address: libvhost-user takes an index from the ring then. */
	state_message(&m[n++], VHOST_USER_SET_VRING_BASE, index, ring_position_to_wire(ring->base));
	fd_message(&m[n++], VHOST_USER_SET_VRING_CALL, index, ring->call_fd);
	fd_message(&m[n++], VHOST_USER_SET_VRING_ERR, index, ring->err_fd);
	fd_message(&m[n++], VHOST_USER_SET_VRING_KICK, index, ring->kick_fd);
	/* Without bit 30 a ring is enabled from the start. */
	if (c->features & F_PROTOCOL)
		state_message(&m[n++], VHOST_USER_SET_VRING_ENABLE, index, ring->enabled);
	c->begun[index / 64] |= BIT64(index % 64);
	rc = vhost_user_requester_set(&c->r, m, n, err);
	/* The steps after the one that was refused have been made, too: the ring
	 * must not run on what it had before. */
	if (rc == -EREMOTEIO && client_ring_stop(b, index, &base, NULL))
		rc = -ECONNRESET;
	if (rc)
		return error_prefix(err, rc, "queue %u", index);
	vhost_user_hush_note(&c->hush, index, ring->kick_fd);
	return 0;
}

int client_rings_take_back(struct client *c, struct umbra_error *err)
{
	struct ring_position base;
	int rc = 0;

	for (unsigned int i = 0; i < VHOST_USER_QUEUES_MAX && !rc; i++)
		if (c->begun[i / 64] & BIT64(i % 64))
			rc = client_ring_stop(&c->backend, i, &base, err);
	return rc;
}

int client_ring_enable(struct virtio_device *b, unsigned int index, bool enabled,
		       struct umbra_error *err)
{
	struct client *c = client_of(b);
	struct vhost_user_message m;
	int rc = ring_check_index(index, err);

	if (rc)
		return rc;
	if (!(c->features & F_PROTOCOL)) {
		if (enabled)
			return 0;
		return error_set(err, -EOPNOTSUPP,
				 "back-end: queue %u cannot be disabled without feature bit 30",
				 index);
	}
	state_message(&m, VHOST_USER_SET_VRING_ENABLE, index, enabled);
	rc = client_set_confirmed(c, &m, err);
	return rc ? error_prefix(err, rc, "queue %u", index) : 0;
}

int client_ring_exchange(struct virtio_device *b, unsigned int index, enum virtio_ring_fd which,
			 int fd, struct umbra_error *err)
{
	static const uint32_t requests[] = {
		[VIRTIO_RING_KICK] = VHOST_USER_SET_VRING_KICK,
		[VIRTIO_RING_CALL] = VHOST_USER_SET_VRING_CALL,
		[VIRTIO_RING_ERR] = VHOST_USER_SET_VRING_ERR,
	};
	struct client *c = client_of(b);
	struct vhost_user_message m;
	int rc = ring_check_index(index, err);

	if (rc)
		return rc;
	fd_message(&m, requests[which], index, fd);
	rc = client_set_confirmed(c, &m, err);
	if (rc)
		return error_prefix(err, rc, "queue %u", index);
	if (which == VIRTIO_RING_KICK)
		vhost_user_hush_note(&c->hush, index, fd);
	return 0;
}

/* --- hushed ---------------------------------------------------------------- */

static int hush_set_kick(void *opaque, unsigned int index, int fd, struct umbra_error *err)
{
	struct client *c = opaque;
	struct vhost_user_message m;
	int rc;

	fd_message(&m, VHOST_USER_SET_VRING_KICK, index, fd);
	rc = client_set_confirmed(c, &m, err);
	return rc ? error_prefix(err, rc, "queue %u", index) : 0;
}

static int hush_set_enabled(void *opaque, unsigned int index, bool enabled, struct umbra_error *err)
{
	struct client *c = opaque;

	return client_ring_enable(&c->backend, index, enabled, err);
}

static int hush_make_eventfd(void *opaque, int *out, struct umbra_error *err)
{
	(void)opaque;
	return notifier_make_eventfd(out, err);
}

static void hush_notify(void *opaque, int fd)
{
	(void)opaque;
	/* Blocked, its counter is full: as good as a notification. */
	(void)notifier_send_guarded(fd);
}

static bool hush_is_heard(void *opaque, int fd)
{
	(void)opaque;
	return notifier_is_heard(fd);
}

const struct vhost_user_hush_means client_hush_means = {
	.set_kick = hush_set_kick,
	.set_enabled = hush_set_enabled,
	.make_eventfd = hush_make_eventfd,
	.notify = hush_notify,
	.is_heard = hush_is_heard,
};

int client_ring_hush(struct virtio_device *b, unsigned int index, bool is_fed,
		     struct umbra_error *err)
{
	int rc = ring_check_index(index, err);

	return rc ? rc : vhost_user_hush_begin(&client_of(b)->hush, index, is_fed, err);
}

int client_ring_unhush(struct virtio_device *b, unsigned int index, struct umbra_error *err)
{
	int rc = ring_check_index(index, err);

	return rc ? rc : vhost_user_hush_end(&client_of(b)->hush, index, err);
}

enum ring_rest client_ring_rest(const struct virtio_device *b, unsigned int index)
{
	return vhost_user_hush_rest(&client_of(b)->hush, index);
}

int client_ring_sound(struct virtio_device *b, unsigned int index, struct umbra_error *err)
{
	int rc = ring_check_index(index, err);

	return rc ? rc : vhost_user_hush_sound(&client_of(b)->hush, index, err);
}

bool client_ring_presume_rest(struct virtio_device *b, unsigned int index, uint64_t waited_ms)
{
	return vhost_user_hush_presume(&client_of(b)->hush, index, waited_ms);
}

int client_check_hush(const struct virtio_device *b, struct umbra_error *err)
{
	const struct vhost_user_family *family = client_of(b)->family;

	return family && family->not_while_kicked
		       ? error_set(err, -EOPNOTSUPP, "%s", family->not_while_kicked)
		       : 0;
}
