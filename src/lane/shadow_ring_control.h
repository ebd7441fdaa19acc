/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The control queue of a network device as the queue of a ring: where it differs
 * from a shadow queue in the life that shadow_ring.h describes.
 *
 * It is always between guest and device, in either mode, and its ring at the
 * device begins at 0 each time, since refused and replayed commands make the two
 * rings' indices strangers (control_queue.h).  A stop does not wait for it: a
 * device that is stopped is reset, which undoes the command that it had, and
 * after the replay the command is submitted again.
 *
 * Threads: the device's thread.
 */
#ifndef UMBRA_LANE_SHADOW_RING_CONTROL_H
#define UMBRA_LANE_SHADOW_RING_CONTROL_H

#include "lane/shadow_ring.h"

/* Lay it out in our own memory and join it to the guest's ring.  -EOPNOTSUPP, -EINVAL,
 * -ENOMEM. */
UMBRA_MUST_CHECK int ring_control_build(struct shadow_ring *r, const struct ring_context *c,
					struct umbra_error *err);

/* The guest's ring has been found elsewhere. */
void ring_control_resolve(struct shadow_ring *r, const struct ring_context *c);

/* A halted one leaves the guest's ring to others. */
void ring_control_finish(struct shadow_ring *r);

#endif
