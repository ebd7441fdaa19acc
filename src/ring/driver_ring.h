/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The driver's role on a ring: adds chains, gets them back.
 *
 * Theory of operation: free descriptors, the links of each chain and what is in
 * flight are kept in private tables; what lies in shared memory is written and
 * never read back, except for the device's used ring and its event words.  A
 * device that scribbles over descriptors harms nobody but itself.
 *
 * A chain of one segment takes one descriptor.  A longer one takes one
 * descriptor and an indirect table where INDIRECT_DESC is negotiated and a
 * table of a fitting class is free (many small tables, some as long as the
 * ring: see driver_ring_layout()), else one descriptor per segment.  A chain
 * that finds no room is left untouched, and is sure to fit once the ring is
 * empty, unless it is longer than the longest.
 *
 * A chain that is longer than the ring (device_ring.h says who builds such) goes
 * into a table of its own length, of a third class, or waits until one comes back.
 * That class is this ring's alone: another ring that took them all would leave a
 * chain here waiting for completions there, and rings would have to wake each
 * other across threads.
 *
 * The order in which chains were added is kept: driver_ring_unadd() takes back
 * the newest ones, which the device has not consumed, and IN_ORDER completes
 * the oldest ones in one entry.  Of those, only the last has a length; the
 * others count as written in full (virtio 1.2, 2.7.9).
 *
 * Ownership: all memory is the caller's, sized by driver_ring_layout().
 * Threads: one owner at a time.
 * Trust: used ids, lengths and indices are hostile: out of range, not in
 * flight, used twice, more used than in flight break the ring (fault.h); a
 * length beyond the chain's writable bytes is clamped and reported.
 * Implements: virtio 1.2, sections 2.7, 2.7.5.3, 2.7.7, 2.7.9, 2.7.10.
 */
#ifndef UMBRA_RING_DRIVER_RING_H
#define UMBRA_RING_DRIVER_RING_H

#include "ring/chain.h"
#include "ring/fault.h"
#include "ring/position.h"
#include "ring/split.h"
#include "umbra/error.h"

struct driver_slot; /* per descriptor, private: driver_ring.c */

/* How much memory a driver ring of a given size wants, and where. */
struct driver_layout {
	struct split_offsets ring; /* of the three parts in shared memory */
	size_t small_tables;       /* offset of the small indirect tables, one per descriptor */
	size_t large_tables;       /* offset of the large ones, each of `size` descriptors */
	size_t long_tables;        /* offset of those that are longer than the ring */
	uint16_t small_len;        /* descriptors in a small table; 0: no indirect tables */
	uint16_t large_count;      /* large tables */
	uint16_t long_count;       /* long tables */
	uint32_t longest;          /* descriptors in a long table, or `size`: the longest chain */
	size_t shared_bytes;       /* in all; the device must see these */
	size_t private_bytes;      /* in all; the device must not */
};

/* @table_max: segments of the longest chain, where it may be longer than the ring, and
 * INDIRECT_DESC is negotiated; at most SPLIT_SIZE_MAX. */
struct driver_layout driver_ring_layout(uint16_t size, uint64_t features, uint32_t table_max);

struct driver_ring_config {
	uint16_t size;      /* a power of two, 1 to SPLIT_SIZE_MAX */
	uint64_t features;  /* negotiated; EVENT_IDX, INDIRECT_DESC, IN_ORDER count */
	void *shared;       /* driver_layout.shared_bytes, 64-byte aligned; the ring is zeroed,
			       the tables are not: the device is only led to what was written */
	iova_t shared_addr; /* the same memory in the device's address space */
	void *private;      /* driver_layout.private_bytes, 16-byte aligned */
	struct ring_position base; /* to start from, with nothing outstanding */
	uint32_t table_max;        /* as given to driver_ring_layout() */
};

struct driver_ring {
	struct split_ring split;
	iova_t shared_addr;
	struct driver_layout layout;
	bool event_idx, indirect, in_order;
	uint16_t avail_idx;       /* next avail entry to write */
	uint16_t avail_published; /* what avail->idx says */
	uint16_t avail_signalled; /* avail->idx when the device was last considered for a kick */
	bool avail_signalled_valid;
	uint16_t last_used;     /* next used entry to read */
	uint16_t used_seen;     /* newest used->idx that was read and judged */
	uint16_t in_order_left; /* chains that the used entry at hand still completes */
	uint32_t in_order_len;  /* the length in that entry, which is its last chain's */
	uint16_t free_count;    /* free descriptors */
	uint16_t free_head;     /* first of them */
	uint16_t large_free_head, large_free_count;
	uint16_t long_free_head, long_free_count;
	struct driver_slot *slots;
	uint16_t *order; /* heads in the order of adding, by avail index */
	struct split_desc *small_tables, *large_tables; /* in shared memory */
	uint16_t *
		table_next; /* free lists: of large tables, and behind them of long ones; private */
	struct ring_error error; /* error.fault != RING_OK: broken */
};

/* A chain that came back. */
struct driver_done {
	uint64_t token; /* what driver_ring_add() was given */
	uint32_t len;   /* bytes written, at most the chain's writable bytes */
	bool clamped;   /* the device said more */
};

/* Lay an empty ring out in @config->shared.  -EINVAL: a size that is no power
 * of two or too large. */
UMBRA_MUST_CHECK int driver_ring_init(struct driver_ring *r,
				      const struct driver_ring_config *config);

/*
 * Right after driver_ring_init(): the device may still use @count (not 0) chains of an earlier life
 * of the ring, which had these @ids (below the size, each once).  They stay in flight: no
 * chain is given their ids before they come back, each with @token, so that a late one is
 * never taken for another.  A device that takes one again finds nothing in it.
 */
void driver_ring_adopt(struct driver_ring *r, const uint16_t *ids, uint16_t count, uint64_t token);

/* As driver_ring_add(), by one who knows the sum of the writable bytes (at the most
 * UINT32_MAX). */
UMBRA_MUST_CHECK int driver_ring_add_summed(struct driver_ring *r, const struct driver_seg *segs,
					    uint32_t count, uint32_t writable, uint64_t token);

/*
 * Add a chain of @count segments, readable ones first.  The device sees it
 * after driver_ring_publish().  1: added; 0: no room now, room comes with a
 * completion; -EMSGSIZE: more segments than layout.longest, it can never
 * fit; -EINVAL: no segments; -EPROTO: broken.
 */
UMBRA_MUST_CHECK static inline int driver_ring_add(struct driver_ring *r,
						   const struct driver_seg *segs, uint32_t count,
						   uint64_t token)
{
	uint32_t most = count <= r->layout.longest ? count : 0; /* more are refused */
	uint64_t writable = 0;

	for (uint32_t i = 0; i < most; i++)
		writable += segs[i].writable ? segs[i].len : 0;
	return driver_ring_add_summed(r, segs, count, (uint32_t)MIN(writable, UINT32_MAX), token);
}

/* The id that the next chain will have, if there is room for it. */
static inline uint16_t driver_ring_next_id(const struct driver_ring *r)
{
	return r->free_head;
}

/* Make all added chains visible to the device. */
void driver_ring_publish(struct driver_ring *r);

/* Must the device be kicked for what was published since the last time this
 * was asked?  Yes for the first publish after init, whatever the device wishes.
 * (Full fence inside: see the .c.) */
bool driver_ring_must_kick(struct driver_ring *r);

/* Get one chain back.  1, 0 (none), -EPROTO (broken). */
UMBRA_MUST_CHECK int driver_ring_get(struct driver_ring *r, struct driver_done *done);

/*
 * Take the newest @count chains back, which the device, now stopped, has not
 * consumed; avail->idx goes back with them.  -EINVAL: more than are in flight,
 * or the device has used so many that they cannot be, or one of them has come
 * back already; then nothing has changed.  -EPROTO: broken.
 * driver_ring_must_kick() says yes afterwards, if the index went back.
 */
UMBRA_MUST_CHECK int driver_ring_unadd(struct driver_ring *r, uint16_t count);

/* Does a chain in flight begin at descriptor @head (below the ring's size)?  Then its
 * token, and its age: 1 for the newest chain, 2 for the one before, and so on;
 * UINT16_MAX for one so old that the ring has forgotten its place. */
bool driver_ring_peek(const struct driver_ring *r, uint16_t head, uint64_t *token, uint16_t *age);

/* Ask for no calls while we are looking anyway. */
void driver_ring_disarm(struct driver_ring *r);

/* Ask not to be called for anything that is in flight, for a device that must not try to any
 * more; lasts until driver_ring_arm().  (A device that has never called may call once all
 * the same.) */
void driver_ring_silence(struct driver_ring *r);

/* Ask for a call at the next used chain.  True: one is there already (it may
 * have come before the device saw our wish), or the ring is broken: go on
 * getting. */
UMBRA_MUST_CHECK bool driver_ring_arm(struct driver_ring *r);

/* Used chains that wait to be got?  One relaxed look at used->idx. */
bool driver_ring_has_used(const struct driver_ring *r);

/* Where the ring stands as far as the device was told, and we have seen. */
static inline struct ring_position driver_ring_position(const struct driver_ring *r)
{
	return (struct ring_position){ RING_SPLIT, r->avail_published, r->last_used };
}

/* The same, with what the device says to have used by now. */
struct ring_position driver_ring_said(const struct driver_ring *r);

/* Added and not yet got back. */
static inline uint16_t driver_ring_in_flight(const struct driver_ring *r)
{
	return (uint16_t)(r->avail_idx - r->last_used);
}

#endif
