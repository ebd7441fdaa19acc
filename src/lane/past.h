/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Chains that shadows of a ring left with a back-end that may use them yet.
 *
 * Theory of operation.  A back-end that is stopped by force may complete later what it kept, and
 * libvhost-user does it into whatever ring it then knows.  So no two shadows of a ring before
 * one back-end can be taken for each other: an id that was left behind is given to no chain
 * before it has come back (`ghosts`, shadow_queue.h).  It would say something else on the
 * guest's own ring: so the ring is not passed through while there are such, and, the other way
 * round, not shadowed while a back-end has chains of a guest's ring that was passed through
 * (`left`).  All this ends with the connection.
 *
 * Threads: the device's thread.
 */
#ifndef UMBRA_LANE_PAST_H
#define UMBRA_LANE_PAST_H

#include "lane/lane_private.h"

/* Where the back-end completes the ghosts, as long as there are some. */
void ghost_ring_set(struct lane *r, const struct driver_ring *back, struct memory_backing *memory);
/* The shadow is let go of: what has the back-end still of it? */
void ghosts_forget(struct lane *r);
void ghosts_note(struct lane *r);
/* It may have used some since; the next shadow has @size entries. */
void ghosts_look(struct lane *r, uint16_t size);

#endif
