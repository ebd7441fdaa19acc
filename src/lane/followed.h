/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The control queue of a network device as the queue of a ring: where it differs
 * from a shadow queue in the life that lane.h describes.
 *
 * It is always between guest and device, in either mode, and its ring at the
 * device begins at 0 each time, since refused and replayed commands make the two
 * rings' indices strangers (control_queue.h).  A stop does not wait for it: a
 * device that is stopped is reset, which undoes the command that it had, and
 * after the replay the command is submitted again.
 *
 * Threads: the device's thread.
 */
#ifndef UMBRA_LANE_FOLLOWED_H
#define UMBRA_LANE_FOLLOWED_H

#include "lane/lane_private.h"

/* Lay it out in our own memory and join it to the guest's ring.  -EOPNOTSUPP, -EINVAL,
 * -ENOMEM. */
UMBRA_MUST_CHECK int ring_control_build(struct lane *r, const struct lane_context *c,
					struct umbra_error *err);

/* The guest's ring has been found elsewhere. */
void ring_control_resolve(struct lane *r, const struct lane_context *c);

/* A halted one leaves the guest's ring to others. */
void ring_control_finish(struct lane *r);

#endif
