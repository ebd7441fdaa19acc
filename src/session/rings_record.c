/* SPDX-License-Identifier: BSD-2-Clause */
/* What a front-end said of rings that are served, as a record: see rings_record.h. */
#include "session/rings_record.h"

#include <errno.h>
#include <inttypes.h>

#include "base/error.h"
#include "base/fd.h"
#include "host/mapping.h"
#include "host/peer_fd.h"
#include "ring/split_look.h"

enum ring_life { RING_STOPPED, RING_STARTED, RING_BROKEN };

/* --- memory ---------------------------------------------------------------------------- */

static void memory_save(const struct memory *memory, struct record *w)
{
	/* None is not the same as one without regions. */
	RECORD_PUT(w, "memory", memory != NULL, memory ? memory->count : 0);
	for (unsigned int i = 0; memory && i < memory->count; i++) {
		const struct memory_region *r = &memory->regions[i];

		RECORD_PUT(w, "region", r->gpa.v, r->uva.v, r->size, r->backing->fd_offset);
		record_put_fd(w, r->backing->fd);
	}
}

static int region_resume(struct record *in, struct memory_region *region, struct umbra_error *err)
{
	struct mapping_request request;
	uint64_t v[4];
	int fd = -1, rc = record_get(in, "region", v, 4, err);

	if (!rc)
		rc = record_get_fd(in, &fd, err);
	if (!rc && fd < 0)
		rc = error_set(err, -EINVAL, "the region at gpa 0x%" PRIx64 " has no file", v[0]);
	if (rc)
		return rc;
	request = (struct mapping_request){
		.gpa = { v[0] }, .uva = { v[1] }, .size = v[2], .offset = v[3]
	};
	rc = mapping_create(&fd, &request, region, err);
	fd_close(&fd);
	return rc;
}

static int memory_inherit(struct guest_rings *g, struct record *in, struct umbra_error *err)
{
	struct virtio_device *device = &g->virtio;
	struct memory_region regions[MEMORY_REGIONS_MAX];
	unsigned int mapped = 0;
	uint64_t v[2];
	int rc = record_get(in, "memory", v, 2, err);

	if (!rc && (v[0] > 1 || v[1] > MEMORY_REGIONS_MAX))
		rc = error_set(err, -EINVAL, "a memory table of %" PRIu64 " regions", v[1]);
	while (!rc && mapped < v[1]) {
		rc = region_resume(in, &regions[mapped], err);
		mapped += !rc;
	}
	if (!rc && v[0])
		rc = device->ops->set_memory(device, regions, mapped, err);
	while (mapped--)
		memory_backing_unref(regions[mapped].backing);
	return rc;
}

/* --- rings ------------------------------------------------------------------------------- */

static enum ring_life life_of(const struct served_ring *r)
{
	if (r->state == SERVED_BROKEN)
		return RING_BROKEN;
	return served_ring_is_started(r) ? RING_STARTED : RING_STOPPED;
}

static void ring_save(const struct served_ring *r, struct record *w)
{
	const struct guest_ring *f = &r->front;

	RECORD_PUT(w, "ring", f->index, f->size, f->has_addr, f->addr.desc.v, f->addr.avail.v,
		   f->addr.used.v, f->base.avail, f->enabled, life_of(r));
	record_put_fd(w, f->kick_fd);
	record_put_fd(w, f->call_fd);
	record_put_fd(w, f->err_fd);
}

/* It starts where it has used all before. */
static int ring_start(struct guest_rings *g, struct served_ring *r, int *kick_fd,
		      struct umbra_error *err)
{
	struct virtio_device *device = &g->virtio;
	struct ring_position at;
	int rc = guest_ring_find(&r->front, g->memory, err);

	if (rc)
		return rc;
	at = split_said(&r->front.split);
	at.avail = at.used;
	rc = device->ops->ring_set_base(device, r->front.index, at, err);
	return rc ? rc : device->ops->ring_set_kick(device, r->front.index, kick_fd, err);
}

static int fds_inherit(struct record *in, int fds[3], struct umbra_error *err)
{
	static const enum peer_fd_use uses[] = { PEER_FD_KICK, PEER_FD_CALL, PEER_FD_ERR };
	int rc = 0;

	for (unsigned int i = 0; !rc && i < 3; i++) {
		rc = record_get_fd(in, &fds[i], err);
		if (!rc && fds[i] >= 0)
			rc = peer_fd_check(fds[i], uses[i], err);
	}
	return rc;
}

/* Say of ring @index what was said, of which @v are the numbers. */
static int ring_say(struct guest_rings *g, unsigned int index, const uint64_t v[9], int fds[3],
		    struct umbra_error *err)
{
	struct virtio_device *device = &g->virtio;
	struct served_ring *r = g->kind->ring(g, index);
	const struct virtio_ring_addr addr = { { v[3] }, { v[4] }, { v[5] } };
	const struct ring_position base = { .layout = RING_SPLIT, .avail = (uint16_t)v[6] };
	int rc = 0;

	if (v[1])
		rc = device->ops->ring_set_size(device, index, (uint32_t)v[1], err);
	if (!rc && v[2])
		rc = device->ops->ring_set_addr(device, index, &addr, err);
	if (!rc)
		rc = device->ops->ring_set_base(device, index, base, err);
	if (!rc)
		rc = device->ops->ring_set_call(device, index, &fds[1], err);
	if (!rc)
		rc = device->ops->ring_set_err(device, index, &fds[2], err);
	if (!rc && v[8] == RING_STARTED)
		rc = ring_start(g, r, &fds[0], err);
	if (!rc && v[8] == RING_BROKEN)
		served_ring_break(g, r, "it was broken before this program began");
	return rc ? rc : device->ops->ring_enable(device, index, v[7], err);
}

static int ring_inherit(struct guest_rings *g, unsigned int index, struct record *in,
			struct umbra_error *err)
{
	int fds[3] = { -1, -1, -1 };
	uint64_t v[9];
	int rc = record_get(in, "ring", v, 9, err);

	if (!rc && (v[0] != index || v[1] > UINT16_MAX || v[2] > 1 || v[6] > UINT16_MAX ||
		    v[7] > 1 || v[8] > RING_BROKEN))
		rc = error_set(err, -EINVAL, "queue %u is one that no front-end can have described",
			       index);
	if (!rc)
		rc = fds_inherit(in, fds, err);
	if (!rc)
		rc = ring_say(g, index, v, fds, err);
	for (unsigned int i = 0; i < 3; i++)
		fd_close(&fds[i]);
	return rc;
}

/* --- all of it ----------------------------------------------------------------------------- */

void rings_save(struct guest_rings *g, struct record *w)
{
	RECORD_PUT(w, "device", g->features, g->status, g->kind->count);
	memory_save(g->memory, w);
	for (unsigned int i = 0; i < g->kind->count; i++)
		ring_save(g->kind->ring(g, i), w);
}

int rings_inherit(struct guest_rings *g, struct record *in, struct umbra_error *err)
{
	struct virtio_device *device = &g->virtio;
	uint64_t v[3];
	int rc = record_get(in, "device", v, 3, err);

	if (!rc && (v[1] > UINT8_MAX || v[2] != g->kind->count))
		rc = error_set(err, -EINVAL, "a device of %" PRIu64 " queues; %s has %u", v[2],
			       g->kind->name, g->kind->count);
	if (!rc && v[0])
		rc = device->ops->set_features(device, v[0], err);
	if (!rc)
		rc = memory_inherit(g, in, err);
	for (unsigned int i = 0; !rc && i < g->kind->count; i++)
		rc = ring_inherit(g, i, in, err);
	return rc ? rc : device->ops->set_status(device, (uint8_t)v[1], err);
}

void rings_call(struct guest_rings *g)
{
	for (unsigned int i = 0; i < g->kind->count; i++) {
		const struct served_ring *r = g->kind->ring(g, i);

		if (r->state == SERVED_RUNNING)
			device_host_notify(g->host, r->front.call_fd);
	}
}
