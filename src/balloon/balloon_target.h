/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a target means in pages.
 *
 * Theory of operation: a person asks for what the guest shall keep, or for what shall
 * be taken from it.  A driver understands only how many pages shall be in the balloon.
 * Between the two stands the base, the guest's memory, which nobody states for
 * certain: a memory table also names what is no memory of the guest's (a region of
 * virtio-mem of which nothing is plugged, an NVDIMM, ivshmem), or not yet (a DIMM
 * that is not on line).  In this order it is what the operator says, what the guest
 * says itself, and the sum of the table.
 *
 * Too large a base starves the guest, too small a one costs a few pages.  So a number
 * of pages, once made of a wish, gets smaller by itself when the base turns out to be
 * smaller, and never larger; and a floor stays with the guest unless a wish says that
 * it means it.
 *
 * Threads: any; no state.  Trust: the base may be a guest's word.  It can keep its
 * memory to itself anyway; it cannot have more taken than the table has.
 */
#ifndef UMBRA_BALLOON_BALLOON_TARGET_H
#define UMBRA_BALLOON_BALLOON_TARGET_H

#include <stdint.h>

#include "umbra/balloon.h"
#include "umbra/error.h"

struct balloon_base {
	enum umbra_balloon_base kind;
	uint64_t bytes;
	uint64_t within; /* bytes of the regions that the balloon may touch */
};

/* What stays with a guest of @base bytes: @configured, or with 0 a sixteenth of it, but
 * 64 MiB at least, or half of it where that is less. */
uint64_t balloon_target_floor(uint64_t configured, uint64_t base);

/* Pages that shall be in the balloon. */
uint32_t balloon_target_pages(const struct umbra_balloon_target *wish,
			      const struct balloon_base *base, uint64_t floor);

/* -EINVAL: the wish is below the floor, and does not say that it means it. */
UMBRA_MUST_CHECK int balloon_target_check(const struct umbra_balloon_target *wish, uint64_t base,
					  uint64_t floor, struct umbra_error *err);

#endif
