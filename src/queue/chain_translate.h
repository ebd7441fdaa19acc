/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A chain of the guest's, as a mapped device must be told it.
 *
 * Theory of operation: behind an IOMMU a device sees guest memory at IO virtual
 * addresses, region by region (memory/memory.h).  So each segment's address is
 * replaced.  A segment that crosses from one region into the next stays one
 * where the device sees the two next to each other, too, and is cut where it
 * does not; the pieces follow each other in the chain, with the direction of
 * the segment, so that the device reads and writes the same bytes in the same
 * order, and what it says to have written counts in the guest's chain.
 *
 * How many pieces may there be?  A chain that is longer than the queue is none
 * (virtio 1.2, 2.7.5.3.1), also as an indirect table, so the caller's limit is
 * the size of the device's ring, and no array has to be longer.  Buffers that
 * do not overlap are cut once at each such border at the most, and a chain that
 * the guest makes shorter than the ring by the number of borders always fits.
 * A hostile one can name the same large buffer over and over; the work is
 * bounded by the limit.
 *
 * Rejected: joining segments that happen to adjoin, to make room for pieces.
 * Drivers have joined what adjoins already, and it would move borders between
 * buffers that the device may care about.
 *
 * Threads: the owner of the chain.  Trust: the chain has been judged
 * (ring/chain.h) with the same snapshot.
 */
#ifndef UMBRA_QUEUE_CHAIN_TRANSLATE_H
#define UMBRA_QUEUE_CHAIN_TRANSLATE_H

#include "memory/memory.h"
#include "ring/chain.h"

/*
 * Turn the guest-physical addresses of @chain into IO virtual ones, in its own array, which
 * must hold @limit segments: chain_translated() are they, and chain->segs means nothing any
 * more.
 * -EMSGSIZE: it would have more than @limit segments; its count is as before.
 */
UMBRA_MUST_CHECK int chain_translate(struct ring_chain *chain, const struct memory *memory,
				     uint32_t limit);

/* The segments of a chain that was translated. */
static inline struct driver_seg *chain_translated(const struct ring_chain *chain)
{
	return (struct driver_seg *)(void *)chain->segs;
}

/* The segments of a chain whose device sees memory as the guest does: iova_as_guest() of
 * each, for nothing. */
static inline const struct driver_seg *chain_as_guest(const struct ring_chain *chain)
{
	return (const struct driver_seg *)(const void *)chain->segs;
}

#endif
