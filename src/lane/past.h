/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Chains that shadows of a ring left with a back-end that may use them yet: see lane.h,
 * "lives".
 *
 * Threads: the device's thread.
 */
#ifndef UMBRA_LANE_PAST_H
#define UMBRA_LANE_PAST_H

#include "lane/lane_private.h"

/* Where the back-end completes the ghosts, as long as there are some. */
void ghost_ring_set(struct lane *r, const struct driver_ring *back, struct memory_backing *memory);
/* The shadow is let go of: what has the back-end still of it? */
void ghosts_note(struct lane *r);
/* It may have used some since; the next shadow has @size entries. */
void ghosts_look(struct lane *r, uint16_t size);

#endif
