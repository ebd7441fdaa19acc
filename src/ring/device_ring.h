/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The device's role on a ring: takes chains, completes them.
 *
 * Theory of operation: last_avail counts the chains taken; used_idx counts the
 * chains completed; both are private, and the shared words are only ever
 * stored from them.  A taken chain is a judged copy (chain.h).  Completions are
 * written one by one and become visible to the driver together, with one
 * release store in device_ring_publish().
 *
 * Long tables.  A driver must not build a chain that is longer than its ring (virtio
 * 1.2, 2.7.5.3.1), and Linux does in an indirect table, where the device lets it
 * (a disk's seg_max + 2 on a smaller ring).  Every widely used device takes such
 * tables, so a guest has never heard that they are wrong.  They are taken here as
 * well, up to config.table_max, and table_longest tells.
 *
 * Ownership: the ring's memory, the guest's memory and the chain's segment
 * array belong to the caller and outlive the struct.  Nothing is allocated.
 * Threads: one owner at a time.
 * Trust: everything in the ring is hostile.  A violation breaks the ring for
 * good: see fault.h.  Chains that were taken before may still be completed.
 * The three addresses are the caller's to check: mapped, and aligned as
 * split.h says.
 * Implements: virtio 1.2, sections 2.7 (split), 2.7.5.3 (indirect), 2.7.7 and
 * 2.7.10 (notification suppression), 2.7.9 (IN_ORDER, which only obliges the
 * caller: complete in the order of taking).
 */
#ifndef UMBRA_RING_DEVICE_RING_H
#define UMBRA_RING_DEVICE_RING_H

#include <assert.h>

#include "memory/memory.h"
#include "ring/chain.h"
#include "ring/fault.h"
#include "ring/position.h"
#include "ring/split.h"

struct device_ring {
	struct split_ring split;
	const struct memory *memory;          /* what descriptors may point into; NULL: anything
						 that the driver says, for rings inside one program;
						 then indirect tables are host pointers */
	unsigned int memory_hint, table_hint; /* regions of the last buffer, the last table */
	bool event_idx, indirect;
	uint16_t last_avail;       /* next avail entry to take */
	uint16_t avail_seen;       /* newest avail->idx that was read and judged */
	uint16_t used_idx;         /* next used entry to write */
	uint16_t used_published;   /* what used->idx says */
	uint16_t used_signalled;   /* used->idx when the driver was last considered for a call */
	bool used_signalled_valid; /* false after init: the next publish calls */
	uint32_t table_max;        /* descriptors of an indirect table at most, >= split.size */
	uint32_t table_longest;    /* of those that were longer than the ring; 0: none was */
	struct ring_error error;   /* error.fault != RING_OK: broken */
};

struct device_ring_config {
	struct split_ring split;
	const struct memory *memory;
	uint64_t features;       /* negotiated; EVENT_IDX and INDIRECT_DESC count */
	struct ring_position at; /* where to go on */
	uint32_t table_max;      /* descriptors of an indirect table at most; where the ring has
				    more, these */
};

/* Start, or go on, with a ring.  Writes nothing to shared memory. */
void device_ring_init(struct device_ring *r, const struct device_ring_config *config);

/*
 * Take the next chain.  1: *@chain is filled (chain->segs must hold
 * table_max entries); 0: nothing is available; -EPROTO: broken, see r->error.
 */
UMBRA_MUST_CHECK int device_ring_take(struct device_ring *r, struct ring_chain *chain);

/* Give the last @count taken chains back: they will be taken again.  The caller
 * must not have completed them. */
void device_ring_untake(struct device_ring *r, uint16_t count);

/* Copy and judge once more the chain that was taken as @head and is not completed.
 * As device_ring_take(), but there always is one. */
UMBRA_MUST_CHECK int device_ring_reread(struct device_ring *r, uint16_t head,
					struct ring_chain *chain);

/*
 * Write a completion: @len bytes were written to the chain's writable part.
 * The driver sees it after device_ring_publish().
 *
 * The entry is ours to write: the driver has read what the entry held `size`
 * completions ago, because since then it made a chain available, and its
 * release store of avail->idx comes after its reads ([avail-publish]).  Inline: a call costs 5
 * instructions a buffer.
 */
static inline void device_ring_complete(struct device_ring *r, uint16_t head, uint32_t len)
{
	struct split_used_elem *e = &r->split.used->ring[r->used_idx & (r->split.size - 1)];

	assert(r->used_idx != r->last_avail); /* the caller completes what it never took */
	shm_store32(&e->id, head);
	shm_store32(&e->len, len);
	r->used_idx++;
}

/* Make all written completions visible to the driver. */
void device_ring_publish(struct device_ring *r);

/* Must the driver be called for what was published since the last time this
 * was asked?  Yes for the first publish after init, whatever the driver wishes.
 * (Full fence inside: see the .c.) */
bool device_ring_must_call(struct device_ring *r);

/* Ask for no kicks while we are looking anyway. */
void device_ring_disarm(struct device_ring *r);

/* Ask for a kick at the next available chain.  True: one is there already (it
 * may have come before the driver saw our wish), or the ring is broken: go on
 * taking. */
UMBRA_MUST_CHECK bool device_ring_arm(struct device_ring *r);

/* Chains that wait to be taken?  One relaxed look at avail->idx. */
bool device_ring_has_avail(const struct device_ring *r);

/* Where the ring stands. */
static inline struct ring_position device_ring_position(const struct device_ring *r)
{
	return (struct ring_position){ RING_SPLIT, r->last_avail, r->used_idx };
}

/* Taken and not yet completed. */
static inline uint16_t device_ring_outstanding(const struct device_ring *r)
{
	return (uint16_t)(r->last_avail - r->used_idx);
}

#endif
