/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a split ring's shared words say to one who looks on.
 *
 * Theory of operation: the two that work on a ring (device_ring.h, driver_ring.h) keep
 * where they are to themselves, and read of the shared words what the other side writes.  A
 * ring that is passed through, or about to be started, or left behind, is worked on by
 * others, and all that is known of it stands in its memory.  These functions are that look:
 * each reads a word once, and what it returns no peer changes any more.
 *
 * Threads: any; the ring's memory is mapped.
 * Trust: whatever is returned is a peer's word.  Nothing is written.
 */
#ifndef UMBRA_RING_SPLIT_LOOK_H
#define UMBRA_RING_SPLIT_LOOK_H

#include "ring/position.h"
#include "ring/split.h"

/*
 * What the ring says: avail is what its driver has made available, used what its device has
 * used.  Used is read first, so that an honest ring never says that more is used than is
 * available.
 */
struct ring_position split_said(const struct split_ring *s);

/* The same, where avail is the entry for which the device asks to be kicked.  With EVENT_IDX
 * an honest device that waits has taken all before it. */
struct ring_position split_said_taken(const struct split_ring *s);

/*
 * Can the ring stand at @p->avail?  *@said: what it says, for the refusal.  If it can, then
 * @p->used is what the ring says, and what is outstanding there is known.
 */
UMBRA_MUST_CHECK bool split_can_stand(const struct split_ring *s, struct ring_position *p,
				      struct ring_position *said);

/* Of what was taken up to @at.avail, what the ring does not say to be used. */
uint16_t split_outstanding(const struct split_ring *s, struct ring_position at);

/* Does the life of the ring begin, where its device takes next at @at.avail? */
bool split_begins(const struct split_ring *s, struct ring_position at);

/* The id in the used entry at @at.used. */
uint32_t split_used_id(const struct split_ring *s, struct ring_position at);

#endif
