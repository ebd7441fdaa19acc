/* SPDX-License-Identifier: BSD-2-Clause */
/* Which IO virtual addresses are taken: see iova_space.h. */
#include "memory/iova_space.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"

void iova_space_init(struct iova_space *space, iova_t first, iova_t last)
{
	space->first = first;
	space->last = last;
	space->count = 0;
}

/* Is [@iova, @iova + @size) (@size > 0) inside the range, whether taken or not? */
static bool is_in_range(const struct iova_space *space, iova_t iova, uint64_t size)
{
	return iova.v >= space->first.v && iova.v <= space->last.v &&
	       size - 1 <= space->last.v - iova.v;
}

/* Index of the first taken range that ends at @iova or above; count: none. */
static unsigned int range_from(const struct iova_space *space, iova_t iova)
{
	unsigned int i = 0;

	while (i < space->count && space->taken[i].last.v < iova.v)
		i++;
	return i;
}

int iova_space_take_at(struct iova_space *space, iova_t iova, uint64_t size)
{
	struct iova_range *r;
	unsigned int i;

	if (!size || !is_in_range(space, iova, size))
		return -EINVAL;
	i = range_from(space, iova);
	r = &space->taken[i];
	if (i < space->count && r->first.v <= iova.v + (size - 1))
		return -EBUSY;
	if (space->count == IOVA_RANGES_MAX)
		return -ENOSPC;
	memmove(r + 1, r, (space->count - i) * sizeof(*r));
	*r = (struct iova_range){ .first = iova, .last = { iova.v + (size - 1) } };
	space->count++;
	return 0;
}

static uint64_t natural_align(uint64_t size)
{
	uint64_t lowest_bit = size & -size;

	return MIN(MAX(lowest_bit, IOVA_ALIGN_MIN), IOVA_ALIGN_MAX);
}

/* Where do @size bytes fit into the gap [@first, @last]?  False: they do not. */
static bool gap_fit(uint64_t first, uint64_t last, uint64_t size, bool highest, iova_t *iova)
{
	uint64_t align = natural_align(size);
	uint64_t low, high;

	if (first > UINT64_MAX - (align - 1) || last < size - 1)
		return false;
	low = align_up(MAX(first, IOVA_ALIGN_MIN), align);
	high = (last - (size - 1)) & ~(align - 1);
	if (high < low)
		return false;
	iova->v = highest ? high : low;
	return true;
}

int iova_space_take(struct iova_space *space, uint64_t size, bool highest, iova_t *iova)
{
	if (!size)
		return -EINVAL;
	for (unsigned int step = 0; step <= space->count; step++) {
		unsigned int i = highest ? space->count - step : step; /* the gap before taken[i] */
		uint64_t first = space->first.v, last = space->last.v;

		if (i > 0) {
			if (space->taken[i - 1].last.v == UINT64_MAX)
				continue;
			first = space->taken[i - 1].last.v + 1;
		}
		if (i < space->count) {
			if (space->taken[i].first.v == 0)
				continue;
			last = space->taken[i].first.v - 1;
		}
		if (first <= last && gap_fit(first, last, size, highest, iova))
			return iova_space_take_at(space, *iova, size);
	}
	return -ENOSPC;
}
