/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where a ring stands.
 *
 * Theory of operation: a ring stands at two places: `avail`, of the next chain that its
 * device takes, and `used`, of the next completion that it writes.  What lies between is
 * taken and not completed: outstanding.  Either place goes round a circle.  A split ring's
 * indices run freely over 16 bits, whatever the ring's size.  A packed ring's are slots of
 * the ring, and a wrap counter in bit 15 that turns over with each round; so its circle is
 * two rounds long, which tells a full ring from an empty one.  In a split ring both count
 * chains, in a packed one descriptors.
 *
 * Whatever stops, starts, rewinds or compares rings does it with the functions below, and
 * counts what they return; nobody else computes with indices.  Those of the split layout
 * compile to the 16-bit subtraction that they are.
 *
 * On the wire (SET_VRING_BASE, GET_VRING_BASE, and the kernel's VHOST_ requests of the same
 * names) a position is one number: of a split ring `avail` alone, since `used` stands in the
 * ring's memory; of a packed ring, whose memory does not have it, both.
 *
 * Trust: a position that came over the wire or out of a ring's words is a peer's word until
 * ring_position_can_stand() has judged it.  Every function bears any value, and answers
 * something.
 * Threads: any; no state.
 * Implements: virtio 1.2, sections 2.7 (split: indices), 2.8.1 (packed: wrap counters); the
 * vhost-user specification, "A vring state description".
 */
#ifndef UMBRA_RING_POSITION_H
#define UMBRA_RING_POSITION_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include "umbra/error.h"

enum ring_layout { RING_SPLIT, RING_PACKED };

/* All zero: a split ring that begins. */
struct ring_position {
	enum ring_layout layout;
	uint16_t avail; /* where the device takes next */
	uint16_t used;  /* where it completes next */
};

#define RING_WRAP_COUNTER 0x8000u /* of a packed ring's place; below it: the slot */

/* ---- places on the circle ------------------------------------------------- */

/* How far along the circle of a packed ring of @size: below twice the size, if the slot is
 * one of the ring. */
static inline uint32_t packed_distance(uint16_t place, uint32_t size)
{
	return (place & ~RING_WRAP_COUNTER) + (place & RING_WRAP_COUNTER ? 0 : size);
}

/* From @from on to @to. */
static inline uint16_t ring_place_since(enum ring_layout layout, uint16_t to, uint16_t from,
					uint32_t size)
{
	if (layout == RING_SPLIT)
		return (uint16_t)(to - from);
	return (uint16_t)((packed_distance(to, size) + 2 * size -
			   packed_distance(from, size) % (2 * size)) %
			  (2 * size));
}

/* @n, at most @size, further. */
static inline uint16_t ring_place_after(enum ring_layout layout, uint16_t place, uint16_t n,
					uint32_t size)
{
	uint32_t at;

	if (layout == RING_SPLIT)
		return (uint16_t)(place + n);
	at = (packed_distance(place, size) + n) % (2 * size);
	return (uint16_t)(at < size ? at | RING_WRAP_COUNTER : at - size);
}

/* ---- positions ------------------------------------------------------------ */

/* Where a ring begins. */
static inline struct ring_position ring_position_start(enum ring_layout layout)
{
	uint16_t place = layout == RING_SPLIT ? 0 : RING_WRAP_COUNTER;

	return (struct ring_position){ layout, place, place };
}

/* A split ring that stands at @avail, and has nothing outstanding. */
static inline struct ring_position ring_position_split(uint16_t avail)
{
	return (struct ring_position){ RING_SPLIT, avail, avail };
}

/* Taken and not completed, on a ring of @size. */
static inline uint16_t ring_outstanding(struct ring_position p, uint32_t size)
{
	return ring_place_since(p.layout, p.avail, p.used, size);
}

/* Taken on the way from @before to @p. */
static inline uint16_t ring_taken_since(struct ring_position p, struct ring_position before,
					uint32_t size)
{
	return ring_place_since(p.layout, p.avail, before.avail, size);
}

/* Completed on the way from @before to @p. */
static inline uint16_t ring_used_since(struct ring_position p, struct ring_position before,
				       uint32_t size)
{
	return ring_place_since(p.layout, p.used, before.used, size);
}

/* @n, at most @size, more are completed. */
static inline void ring_position_complete(struct ring_position *p, uint16_t n, uint32_t size)
{
	p->used = ring_place_after(p->layout, p->used, n, size);
}

/* The same ring with @n, at most @size, outstanding, whatever it has completed: avail is
 * that far ahead of used. */
static inline struct ring_position ring_position_with(struct ring_position p, uint16_t n,
						      uint32_t size)
{
	p.avail = ring_place_after(p.layout, p.used, n, size);
	return p;
}

/* The same ring, when all that was taken is completed. */
static inline struct ring_position ring_position_drained(struct ring_position p)
{
	p.used = p.avail;
	return p;
}

/* Has this ring never been worked on? */
static inline bool ring_position_is_start(struct ring_position p)
{
	struct ring_position start = ring_position_start(p.layout);

	return p.avail == start.avail && p.used == start.used;
}

/*
 * Can a ring of @size, whose driver and device say @said (what is available, and what is
 * used), stand where @p would have it take next?  All of it are words of peers: @p is not
 * believed outside of what is said, where a device would repeat what is done or take what
 * nobody has made available.  What is available has to be learnt after @p, since the driver
 * goes on.
 */
static inline bool ring_position_can_stand(struct ring_position p, struct ring_position said,
					   uint32_t size)
{
	uint16_t open = ring_outstanding(said, size);

	if (p.layout == RING_PACKED && (p.avail & ~RING_WRAP_COUNTER) >= size)
		return false;
	return open <= size && ring_place_since(p.layout, p.avail, said.used, size) <= open;
}

/* ---- on the wire ---------------------------------------------------------- */

static inline uint32_t ring_position_to_wire(struct ring_position p)
{
	return p.layout == RING_SPLIT ? p.avail : p.avail | (uint32_t)p.used << 16;
}

/*
 * The position that @wire is, of a ring of @layout; of a split ring as if nothing were
 * outstanding, which only its memory tells.  -EINVAL: it is none.
 */
static inline UMBRA_MUST_CHECK int ring_position_from_wire(enum ring_layout layout, uint32_t wire,
							   struct ring_position *p)
{
	if (layout == RING_SPLIT && wire > UINT16_MAX)
		return -EINVAL;
	*p = (struct ring_position){ .layout = layout,
				     .avail = (uint16_t)wire,
				     .used = (uint16_t)(layout == RING_SPLIT ? wire : wire >> 16) };
	return 0;
}

#endif
