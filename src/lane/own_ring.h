/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The ring of ours that the back-end has of a lane that is not passed through, whatever queue
 * stands between it and the guest's.
 *
 * Threads: the device's thread.
 */
#ifndef UMBRA_LANE_OWN_RING_H
#define UMBRA_LANE_OWN_RING_H

#include "lane/lane_ops.h"
#include "lane/lane_private.h"

/* The guest's size, if the device takes rings so large (VDUSE: 128).  A smaller
 * shadow ring is filled and refilled: the guest never knows. */
uint16_t own_ring_size(const struct lane *r, const struct lane_context *c);

/* It was laid out in the lane's piece of our own memory, as @layout. */
void own_ring_place(struct lane *r, const struct split_offsets *ring);

/* Hand it to the back-end at @base. */
UMBRA_MUST_CHECK int own_ring_start(struct lane *r, const struct lane_context *c,
				    struct ring_position base, bool enabled,
				    struct umbra_error *err);

/* A queue has completed to the guest what the back-end has used; it returned @actions, and @owed
 * if that is an error.  0, -EPROTO. */
UMBRA_MUST_CHECK int own_ring_completed(const struct lane *r, const struct lane_context *c,
					int actions, unsigned int owed);

/* Serve it, and no more: lane_pause(). */
UMBRA_MUST_CHECK int own_ring_serve(struct lane *r, const struct lane_context *c,
				    struct umbra_error *err);

/* We use the front-end's fds, but what goes wrong on the ring the back-end says. */
UMBRA_MUST_CHECK int own_ring_use_fd(struct lane *r, const struct lane_context *c,
				     enum virtio_ring_fd which, int fd, struct umbra_error *err);
/* Close our eventfds: the next back-end gets others. */
void own_ring_close(struct lane *r);

#endif
