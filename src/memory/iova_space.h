/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The IO virtual addresses that a device can be given, and which are taken.
 *
 * Theory of operation: the taken ranges are kept in order, so a free one is
 * found by walking the gaps between them.  There are as many as memory regions,
 * and a range is looked for when a memory table changes, so the walk needs no
 * index.  Nothing is given back: another memory table is another space, in which
 * what stays is taken first.  Rejected: addresses that only grow; the range of an
 * IOMMU may be no more than 39 bits, and a VM that plugs memory in and out would
 * use it up.
 *
 * A range is aligned to the largest power of two that divides its size, at most
 * 1 GiB: an IOMMU can then map it with pages as large as memory has them.
 *
 * Threads: one.
 */
#ifndef UMBRA_MEMORY_IOVA_SPACE_H
#define UMBRA_MEMORY_IOVA_SPACE_H

#include <stdbool.h>
#include <stdint.h>

#include "memory/memory.h"
#include "umbra/error.h"

#define IOVA_ALIGN_MIN (1ull << 12) /* bytes; also: 0 is never handed out */
#define IOVA_ALIGN_MAX (1ull << 30) /* bytes; an x86 or arm64 IOMMU's largest common page */
#define IOVA_RANGES_MAX (2 * (MEMORY_REGIONS_MAX + 1)) /* the old table's and the new one's */

struct iova_range {
	iova_t first, last; /* inclusive */
};

struct iova_space {
	iova_t first, last; /* that the device can be given, inclusive */
	unsigned int count;
	struct iova_range taken[IOVA_RANGES_MAX]; /* in order, disjoint */
};

/* Nothing of [@first, @last] is taken. */
void iova_space_init(struct iova_space *space, iova_t first, iova_t last);

/* Take [@iova, @iova + @size): -EINVAL if it is outside the range, -EBUSY if
 * some of it is taken, -ENOSPC beyond IOVA_RANGES_MAX. */
UMBRA_MUST_CHECK int iova_space_take_at(struct iova_space *space, iova_t iova, uint64_t size);

/* Take @size bytes where they are free, and say where in *@iova: the lowest such
 * place, or the @highest.  -EINVAL: @size is 0; -ENOSPC. */
UMBRA_MUST_CHECK int iova_space_take(struct iova_space *space, uint64_t size, bool highest,
				     iova_t *iova);

#endif
