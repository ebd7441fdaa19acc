/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A split virtqueue's three parts in memory (virtio 1.2, section 2.7).
 *
 * The words are shared with a peer that may change them at any time: read and
 * write them with base/shm.h only.
 */
#ifndef UMBRA_RING_SPLIT_H
#define UMBRA_RING_SPLIT_H

#include <stddef.h>
#include <stdint.h>

#include "base/bits.h"
#include "base/le.h"
#include "base/shm.h"

#define SPLIT_SIZE_MAX 32768u /* virtio 1.2, 2.7: entries */
#define SPLIT_DESC_ALIGN 16u  /* bytes, virtio 1.2, 2.7 */
#define SPLIT_AVAIL_ALIGN 2u
#define SPLIT_USED_ALIGN 4u

struct split_desc {
	le64 addr;
	union {
		struct {
			le32 len;
			le16 flags; /* VRING_DESC_F_* of linux/virtio_ring.h */
			le16 next;
		};
		le64 len_flags_next; /* the three of them: len is the low half */
	};
};

struct split_avail {
	le16 flags;
	le16 idx;
	le16 ring[]; /* size entries, then used_event */
};

struct split_used_elem {
	le32 id;
	le32 len;
};

struct split_used {
	le16 flags;
	le16 idx;
	struct split_used_elem ring[]; /* size entries, then avail_event */
};

/* Where the parts are.  All three are mapped for as long as a ring uses them. */
struct split_ring {
	struct split_desc *desc;
	struct split_avail *avail;
	struct split_used *used;
	uint16_t size; /* entries: a power of two, 1 to SPLIT_SIZE_MAX */
};

/* Bytes of each part, with the event word at its end. */
static inline size_t split_desc_bytes(uint32_t size)
{
	return 16ul * size;
}
static inline size_t split_avail_bytes(uint32_t size)
{
	return 6 + 2ul * size;
}
static inline size_t split_used_bytes(uint32_t size)
{
	return 6 + 8ul * size;
}

static inline le16 *split_used_event(const struct split_ring *r)
{
	return &r->avail->ring[r->size];
}

static inline le16 *split_avail_event(const struct split_ring *r)
{
	return (le16 *)&r->used->ring[r->size];
}

/* A descriptor out of shared memory, in host order. */
struct split_desc_copy {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

/*
 * Copy the descriptor *@d once, with two loads: a descriptor is aligned to 16
 * bytes in a ring and (the caller sees to that) to 8 in an indirect table, so
 * that each load is one access on every 64-bit machine.
 *
 * Both are relaxed.  An honest driver wrote the descriptor before its release
 * store of avail->idx, whatever the width of its stores, and the caller is
 * past the acquire load of that index: [avail-publish].  A dishonest one may
 * give us two halves that never stood together; the copy is judged as it is,
 * so that this is one lie among others.
 */
static inline struct split_desc_copy split_desc_load(const struct split_desc *d)
{
	uint64_t addr = shm_load64(&d->addr), rest = shm_load64(&d->len_flags_next);

	return (struct split_desc_copy){ .addr = addr,
					 .len = (uint32_t)rest,
					 .flags = (uint16_t)(rest >> 32),
					 .next = (uint16_t)(rest >> 48) };
}

/* Write a descriptor, in two stores; the release store of avail->idx publishes
 * it. */
static inline void split_desc_store(struct split_desc *d, struct split_desc_copy v)
{
	shm_store64(&d->addr, v.addr);
	shm_store64(&d->len_flags_next, v.len | (uint64_t)v.flags << 32 | (uint64_t)v.next << 48);
}

/*
 * virtio 1.2, 2.7.7.2 and 2.7.10: with EVENT_IDX the peer asks to be told
 * when the index passes @event.  True if it lies in (@old, @new].
 */
static inline bool split_event_passed(uint16_t event, uint16_t new_idx, uint16_t old_idx)
{
	return (uint16_t)(new_idx - event - 1) < (uint16_t)(new_idx - old_idx);
}

/* Offsets of the parts of a ring of @size that lies in one piece of memory,
 * and its length in bytes.  The piece must be 16-byte aligned. */
struct split_offsets {
	size_t desc, avail, used, total;
};

static inline struct split_offsets split_offsets(uint32_t size)
{
	struct split_offsets o;

	o.desc = 0;
	o.avail = split_desc_bytes(size);
	o.used = align_up(o.avail + split_avail_bytes(size), 64);
	o.total = align_up(o.used + split_used_bytes(size), 64);
	return o;
}

#endif
