/* SPDX-License-Identifier: BSD-2-Clause */
/* A chain as a mapped device must be told it: see chain_translate.h. */
#include "queue/chain_translate.h"

#include <assert.h>
#include <errno.h>

/* The first piece of what is left of the guest's @seg: its length. */
static uint32_t cut_find(const struct memory *memory, const struct ring_seg *seg, iova_t *iova)
{
	uint64_t len = memory_translate(memory, seg->addr, seg->len, iova);

	assert(len); /* device_ring_take() has asked memory_covers() */
	return (uint32_t)len;
}

/* Into how many pieces does @seg fall?  Counts no further than @limit + 1. */
static uint32_t pieces_count(const struct memory *memory, struct ring_seg seg, uint32_t limit)
{
	uint32_t count = 0;

	while (seg.len && count <= limit) {
		iova_t iova;
		uint32_t len = cut_find(memory, &seg, &iova);

		seg.addr.v += len;
		seg.len -= len;
		count++;
	}
	return count;
}

/* Write the pieces of @seg from @to on. */
static void pieces_write(const struct memory *memory, struct ring_seg seg, struct driver_seg *to)
{
	while (seg.len) {
		iova_t iova;
		uint32_t len = cut_find(memory, &seg, &iova);

		*to++ = (struct driver_seg){ .addr = iova, .len = len, .writable = seg.writable };
		seg.addr.v += len;
		seg.len -= len;
	}
}

/*
 * The segments from @first on are not translated yet, and some fall into
 * pieces.  They are counted first; then the chain grows into its place from its
 * end, so that no segment is written over before it has been read.
 */
static __attribute__((cold, noinline)) int
chain_cut(struct ring_chain *chain, const struct memory *memory, uint32_t first, uint32_t limit)
{
	uint32_t count = first, readable = MIN(chain->readable, first), at;

	for (uint32_t i = first; i < chain->count; i++) {
		uint32_t pieces = pieces_count(memory, chain->segs[i], limit - count);

		if (pieces > limit - count)
			return -EMSGSIZE;
		count += pieces;
		if (!chain->segs[i].writable)
			readable += pieces;
	}
	at = count;
	for (uint32_t i = chain->count; i-- > first;) {
		struct ring_seg seg = chain->segs[i];

		at -= pieces_count(memory, seg, limit);
		pieces_write(memory, seg, &chain_translated(chain)[at]);
	}
	chain->count = count;
	chain->readable = readable;
	return 0;
}

int chain_translate(struct ring_chain *chain, const struct memory *memory, uint32_t limit)
{
	uint32_t count = chain->count;

	if (unlikely(count > limit))
		return -EMSGSIZE;
	for (uint32_t i = 0; i < count; i++) {
		struct ring_seg *seg = &chain->segs[i];
		iova_t iova;
		uint64_t len = memory_translate(memory, seg->addr, seg->len, &iova);

		if (unlikely(len < seg->len))
			return chain_cut(chain, memory, i, limit);
		/* Now a driver_seg; written as what it was, so that the compiler knows what
		 * this store cannot have changed (4 instructions a buffer). */
		seg->addr.v = iova.v;
	}
	return 0;
}
