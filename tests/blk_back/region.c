/* SPDX-License-Identifier: BSD-2-Clause */
/* The in-flight region of a split ring: see region.h. */
#include "region.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>

#include "base/error.h"

#define VERSION 1u
#define ALIGN 64u /* bytes */

size_t blk_region_bytes(uint16_t size)
{
	size_t bytes = sizeof(struct blk_region) + size * sizeof(struct blk_region_desc);

	return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

static uint16_t load(const uint16_t *p)
{
	return le16toh(__atomic_load_n(p, __ATOMIC_ACQUIRE));
}

/* The last batch is in the used ring, and its marks may still be set. */
static int batch_undo(struct blk_region *r, const struct blk_place *at, uint16_t size,
		      uint16_t used_idx, struct umbra_error *err)
{
	uint16_t count = (uint16_t)(used_idx - load(&r->used_idx)),
		 head = load(&r->last_batch_head);

	if (count > size)
		return error_set(err, -EPROTO,
				 "the in-flight region's used_idx is %u; the ring's is %u, "
				 "more than its size %u further",
				 load(&r->used_idx), used_idx, size);
	for (; count; count--) {
		if (head >= size)
			return error_set(err, -EPROTO,
					 "the in-flight region's last batch has head %u; "
					 "the ring has %u",
					 head, size);
		blk_store(at, BLK_FLIGHT_UNDO, &r->desc[head].inflight, 1, 0);
		head = load(&r->desc[head].next);
	}
	blk_store(at, BLK_FLIGHT_USED_IDX, &r->used_idx, 2, used_idx);
	return 0;
}

static const struct blk_region *sorted;

static uint64_t counter_of(uint16_t head)
{
	return le64toh(__atomic_load_n(&sorted->desc[head].counter, __ATOMIC_RELAXED));
}

static int by_counter(const void *a, const void *b)
{
	uint64_t x = counter_of(*(const uint16_t *)a), y = counter_of(*(const uint16_t *)b);

	return x < y ? -1 : x > y;
}

int blk_region_begin(struct blk_region *r, const struct blk_place *at, uint16_t size,
		     uint16_t used_idx, uint16_t *heads, uint64_t *counter, struct umbra_error *err)
{
	int count = 0, rc;

	*counter = 1;
	if (load(&r->version) == 0) {
		blk_store(at, BLK_FLIGHT_DESC_NUM, &r->desc_num, 2, size);
		blk_store(at, BLK_FLIGHT_USED_IDX, &r->used_idx, 2, used_idx);
		blk_store(at, BLK_FLIGHT_VERSION, &r->version, 2, VERSION);
		return 0;
	}
	if (load(&r->version) != VERSION || load(&r->desc_num) != size)
		return error_set(err, -EPROTO,
				 "the in-flight region is of version %u with %u descriptors; "
				 "expected version %u with %u",
				 load(&r->version), load(&r->desc_num), VERSION, size);
	rc = batch_undo(r, at, size, used_idx, err);
	if (rc)
		return rc;
	for (uint16_t head = 0; head < size; head++)
		if (__atomic_load_n(&r->desc[head].inflight, __ATOMIC_ACQUIRE))
			heads[count++] = head;
	sorted = r;
	qsort(heads, (size_t)count, sizeof(*heads), by_counter);
	if (count)
		*counter = counter_of(heads[count - 1]) + 1;
	return count;
}

void blk_region_take(struct blk_region *r, const struct blk_place *at, uint16_t head,
		     uint64_t counter)
{
	blk_store(at, BLK_FLIGHT_COUNTER, &r->desc[head].counter, 8, counter);
	blk_store(at, BLK_FLIGHT_SET, &r->desc[head].inflight, 1, 1);
}

void blk_region_batch(struct blk_region *r, const struct blk_place *at, uint16_t head)
{
	blk_store(at, BLK_FLIGHT_NEXT, &r->desc[head].next, 2, load(&r->last_batch_head));
	blk_store(at, BLK_FLIGHT_BATCH, &r->last_batch_head, 2, head);
}

void blk_region_publish(struct blk_region *r, const struct blk_place *at, uint16_t used_idx)
{
	for (unsigned int i = 0; i < at->about_count; i++) {
		struct blk_place one = *at;

		one.about = &at->about[i];
		one.about_count = 1;
		blk_store(&one, BLK_FLIGHT_CLEAR, &r->desc[at->about[i].head].inflight, 1, 0);
	}
	blk_store(at, BLK_FLIGHT_USED_IDX, &r->used_idx, 2, used_idx);
}
