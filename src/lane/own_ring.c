/* SPDX-License-Identifier: BSD-2-Clause */
/* The ring of ours that the back-end has: see own_ring.h. */
#include "lane/own_ring.h"

#include "base/fd.h"

uint16_t own_ring_size(const struct lane *r, const struct lane_context *c)
{
	uint16_t size = r->front.size;

	while (c->backend->ring_max && size > c->backend->ring_max)
		size /= 2;
	return size;
}

void own_ring_place(struct lane *r, const struct split_offsets *ring)
{
	uint64_t at = r->own.at.uva.v;

	r->shadow_desc = (uva_t){ at + ring->desc };
	r->shadow_avail = (uva_t){ at + ring->avail };
	r->shadow_used = (uva_t){ at + ring->used };
}

int own_ring_start(struct lane *r, const struct lane_context *c, struct ring_position base,
		   bool enabled, struct umbra_error *err)
{
	const struct virtio_ring ring = {
		.size = r->back_size,
		.base = base,
		.addr = { r->shadow_desc, r->shadow_avail, r->shadow_used },
		.kick_fd = r->back_kick_fd,
		.call_fd = r->back_call_fd,
		.err_fd = r->front.err_fd,
		.enabled = enabled,
	};

	return c->backend->ops->ring_start(c->backend, r->front.index, &ring, err);
}

int own_ring_completed(const struct lane *r, const struct lane_context *c, int actions,
		       unsigned int owed)
{
	if (actions < 0 ? owed & SHADOW_CALL_GUEST : (unsigned int)actions & SHADOW_CALL_GUEST)
		device_host_notify(c->host->device, r->front.call_fd);
	return actions < 0 ? actions : 0;
}

int own_ring_serve(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	int rc;

	if (r->is_served)
		return 0;
	r->service = (struct queue_service){
		.index = r->front.index,
		.kick_in = r->front.kick_fd,
		.call_in = r->back_call_fd,
		.kick_out = r->back_kick_fd,
		.call_out = r->front.call_fd,
		.kicks_in = &r->counters.kicks_in,
		.calls_in = &r->counters.calls_in,
	};
	r->ops->service(r, &r->service);
	rc = device_host_serve_begin(c->host->device, &r->service, err);
	if (!rc)
		r->is_served = true;
	return rc;
}

void own_ring_close(struct lane *r)
{
	fd_close(&r->back_kick_fd);
	fd_close(&r->back_call_fd);
}

void lane_pause(struct lane *r, const struct lane_context *c)
{
	if (r->is_served)
		device_host_serve_end(c->host->device, &r->service);
	r->is_served = false;
}

int own_ring_use_fd(struct lane *r, const struct lane_context *c, enum virtio_ring_fd which, int fd,
		    struct umbra_error *err)
{
	if (which == VIRTIO_RING_ERR)
		return c->backend->ops->ring_exchange(c->backend, r->front.index, which, fd, err);
	lane_pause(r, c); /* no thread uses the old one */
	*lane_front_fd(r, which) = fd;
	return r->state == LANE_RUNNING ? own_ring_serve(r, c, err) : 0;
}
