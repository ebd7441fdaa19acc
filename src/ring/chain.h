/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A buffer as it travels between rings: a chain of segments.
 *
 * A chain is always a private copy.  It is made by copying each descriptor out
 * of shared memory once and judging the copy, so that nothing a peer does
 * afterwards can change what was judged.  Readable segments come before
 * writable ones (virtio 1.2, 2.6.4.2).
 */
#ifndef UMBRA_RING_CHAIN_H
#define UMBRA_RING_CHAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"

/* On the guest's ring. */
struct ring_seg {
	gpa_t addr;
	uint32_t len;      /* bytes, > 0 */
	uint32_t writable; /* 1: the device writes it; 0: the device reads it */
};

/*
 * On a ring of ours: as the device there sees it.  Of the same layout, and may alias, so
 * that a chain becomes one where it is (queue/chain_translate.h): a type costs nothing.
 */
struct __attribute__((may_alias)) driver_seg {
	iova_t addr;
	uint32_t len;
	uint32_t writable;
};

_Static_assert(sizeof(struct driver_seg) == sizeof(struct ring_seg), "one layout");

struct ring_chain {
	struct ring_seg *segs; /* the taker's array, as long as the longest chain may be */
	uint32_t count;        /* segments, >= 1 */
	uint32_t readable;     /* the first so many are readable, the rest writable */
	uint64_t readable_bytes;
	uint64_t writable_bytes;
	uint16_t head; /* what completes the chain on the ring that it came from */
};

#endif
