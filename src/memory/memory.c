/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest's memory as an immutable snapshot: see memory.h. */
#include "memory/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

void memory_backing_ref(struct memory_backing *backing)
{
	__atomic_fetch_add(&backing->refs, 1, __ATOMIC_RELAXED);
}

/* Acquire and release: whatever others did with the mapping is before the
 * release function that takes it away. */
void memory_backing_unref(struct memory_backing *backing)
{
	if (__atomic_sub_fetch(&backing->refs, 1, __ATOMIC_ACQ_REL) == 0)
		backing->release(backing);
}

static int compare_gpa(const void *a, const void *b)
{
	const struct memory_region *x = a, *y = b;

	return (x->gpa.v > y->gpa.v) - (x->gpa.v < y->gpa.v);
}

static int region_check(const struct memory_region *r, struct umbra_error *err)
{
	if (r->size == 0)
		return error_set(err, -EINVAL, "memory region at gpa 0x%" PRIx64 " is empty",
				 r->gpa.v);
	if (addr_range_wraps(r->gpa.v, r->size) || addr_range_wraps(r->uva.v, r->size) ||
	    addr_range_wraps((uintptr_t)r->host, r->size))
		return error_set(err, -EINVAL,
				 "memory region at gpa 0x%" PRIx64 " of 0x%" PRIx64
				 " bytes goes past the end of an address space",
				 r->gpa.v, r->size);
	return 0;
}

static int regions_check_disjoint(const struct memory *m, struct umbra_error *err)
{
	for (unsigned int i = 0; i < m->count; i++) {
		const struct memory_region *a = &m->regions[i];

		for (unsigned int j = i + 1; j < m->count; j++) {
			const struct memory_region *b = &m->regions[j];

			if (b->gpa.v - a->gpa.v < a->size)
				return error_set(err, -EINVAL,
						 "memory regions at gpa 0x%" PRIx64
						 " and 0x%" PRIx64 " overlap",
						 a->gpa.v, b->gpa.v);
			if (a->uva.v < b->uva.v + b->size && b->uva.v < a->uva.v + a->size)
				return error_set(err, -EINVAL,
						 "memory regions at gpa 0x%" PRIx64
						 " and 0x%" PRIx64 " overlap in user addresses",
						 a->gpa.v, b->gpa.v);
		}
	}
	return 0;
}

/*
 * Buckets for @count regions: eight or more for each, so that a region's border
 * lies in few of them.  At the most 4096.
 */
#define BUCKETS_LEAST 256u /* low memory of a PC: a few small regions below large ones */

static unsigned int buckets_max(unsigned int count)
{
	unsigned int n = BUCKETS_LEAST;

	while (n < 8 * count)
		n *= 2;
	return n;
}

_Static_assert(MEMORY_REGIONS_MAX <= 512, "the buckets and their bound are counted for this");

/*
 * buckets[i] is the first region that ends after bucket i begins.  So an address
 * in bucket i is in one of the regions buckets[i] to buckets[i + 1], or in none.
 */
static void buckets_fill(struct memory *m, uint16_t *buckets)
{
	unsigned int limit = buckets_max(m->count), shift = 0, r = 0;
	uint64_t base, span;

	if (!m->count)
		return;
	base = m->regions[0].gpa.v;
	span = m->regions[m->count - 1].gpa.v + m->regions[m->count - 1].size - base;
	while ((span - 1) >> shift >= limit)
		shift++;
	m->bucket_base = base;
	m->bucket_shift = (uint8_t)shift;
	m->bucket_count = (uint16_t)(((span - 1) >> shift) + 1);
	m->buckets = buckets;
	for (unsigned int i = 0; i < m->bucket_count; i++) {
		uint64_t begin = base + ((uint64_t)i << shift); /* before the last region's end */

		while (m->regions[r].gpa.v + m->regions[r].size <= begin)
			r++;
		buckets[i] = (uint16_t)r;
	}
	buckets[m->bucket_count] = (uint16_t)(m->count - 1);
}

int memory_create(const struct memory_region *regions, unsigned int count, struct memory **out,
		  struct umbra_error *err)
{
	struct memory *m;
	int rc;

	if (count > MEMORY_REGIONS_MAX)
		return error_set(err, -EINVAL,
				 "memory table of %u regions; at most %u are supported", count,
				 MEMORY_REGIONS_MAX);
	for (unsigned int i = 0; i < count; i++) {
		rc = region_check(&regions[i], err);
		if (rc)
			return rc;
	}
	m = calloc(1, sizeof(*m) + count * sizeof(*regions) +
			      (buckets_max(count) + 1) * sizeof(*m->buckets));
	if (!m)
		return error_set(err, -ENOMEM, "no memory for a table of %u regions", count);
	m->refs = 1;
	m->count = count;
	if (count)
		memcpy(m->regions, regions, count * sizeof(*regions));
	qsort(m->regions, count, sizeof(*regions), compare_gpa);
	rc = regions_check_disjoint(m, err);
	if (rc) {
		free(m);
		return rc;
	}
	for (unsigned int i = 0; i < count; i++) {
		m->regions[i].iova = iova_as_guest(m->regions[i].gpa);
		if (m->regions[i].backing)
			memory_backing_ref(m->regions[i].backing);
	}
	buckets_fill(m, (uint16_t *)(m->regions + count));
	*out = m;
	return 0;
}

struct memory *memory_ref(struct memory *memory)
{
	__atomic_fetch_add(&memory->refs, 1, __ATOMIC_RELAXED);
	return memory;
}

void memory_unref(struct memory **memory)
{
	struct memory *m = *memory;

	*memory = NULL;
	if (!m || __atomic_sub_fetch(&m->refs, 1, __ATOMIC_ACQ_REL))
		return;
	for (unsigned int i = 0; i < m->count; i++)
		if (m->regions[i].backing)
			memory_backing_unref(m->regions[i].backing);
	free(m);
}

const struct memory_region *memory_find_cut(const struct memory *memory)
{
	for (unsigned int i = 0; i < memory->count; i++) {
		const struct memory_backing *backing = memory->regions[i].backing;

		if (backing && __atomic_load_n(&backing->cut, __ATOMIC_ACQUIRE))
			return &memory->regions[i];
	}
	return NULL;
}

const struct memory_region *memory_find(const struct memory *memory, gpa_t gpa)
{
	/* Below the base this wraps, to what is in no region either. */
	uint64_t bucket = (gpa.v - memory->bucket_base) >> memory->bucket_shift;
	const struct memory_region *r;
	unsigned int low, last;

	if (unlikely(bucket >= memory->bucket_count))
		return NULL;
	low = memory->buckets[bucket];
	last = memory->buckets[bucket + 1];
	while (unlikely(low < last)) {
		unsigned int middle = low + (last - low) / 2;

		r = &memory->regions[middle];
		if (gpa.v >= r->gpa.v + r->size)
			low = middle + 1;
		else
			last = middle;
	}
	r = &memory->regions[low];
	return gpa.v - r->gpa.v < r->size ? r : NULL;
}

uint8_t *memory_host_search(const struct memory *memory, unsigned int *hint, gpa_t gpa,
			    uint64_t len)
{
	const struct memory_region *r;

	if (likely(memory_first(memory, gpa, len, hint)))
		return memory->regions[*hint].host + (gpa.v - memory->regions[*hint].gpa.v);
	r = memory_find(memory, gpa);
	if (!r || len > r->size - (gpa.v - r->gpa.v))
		return NULL;
	*hint = (unsigned int)(r - memory->regions);
	return r->host + (gpa.v - r->gpa.v);
}

static __attribute__((noinline)) bool covers_several(const struct memory *memory,
						     unsigned int *hint, gpa_t gpa, uint64_t len)
{
	const struct memory_region *r = memory_find(memory, gpa);
	const struct memory_region *end = memory->regions + memory->count;
	uint64_t left = len;

	if (!r || addr_range_wraps(gpa.v, len))
		return false;
	*hint = (unsigned int)(r - memory->regions);
	while (left > r->size - (gpa.v - r->gpa.v)) {
		uint64_t here = r->size - (gpa.v - r->gpa.v);

		left -= here;
		gpa.v += here;
		r++;
		if (r == end || r->gpa.v != gpa.v)
			return false;
	}
	return true;
}

/* Most misses of the hint end here, without a register saved. */
bool memory_covers_search(const struct memory *memory, unsigned int *hint, gpa_t gpa, uint64_t len)
{
	return likely(memory_first(memory, gpa, len, hint)) ||
	       covers_several(memory, hint, gpa, len);
}

/* Does a mapped device see region @b, which adjoins @a, adjoin it, too? */
static bool iovas_adjoin(const struct memory_region *a, const struct memory_region *b)
{
	return b->iova.v > a->iova.v && b->iova.v - a->iova.v == a->size;
}

uint64_t memory_translate_search(const struct memory *memory, gpa_t gpa, uint64_t len, iova_t *iova)
{
	const struct memory_region *r = memory_find(memory, gpa);
	const struct memory_region *end = memory->regions + memory->count;
	uint64_t offset, here;

	if (!r)
		return 0;
	offset = gpa.v - r->gpa.v;
	iova->v = r->iova.v + offset;
	for (here = r->size - offset; here < len; here += r->size) {
		const struct memory_region *next = r + 1;

		if (next == end || next->gpa.v - r->gpa.v != r->size || !iovas_adjoin(r, next))
			break;
		r = next;
	}
	return MIN(here, len);
}

uint8_t *memory_host_uva(const struct memory *memory, uva_t uva, uint64_t len)
{
	for (unsigned int i = 0; i < memory->count; i++) {
		const struct memory_region *r = &memory->regions[i];
		uint64_t offset = uva.v - r->uva.v;

		if (offset < r->size && len <= r->size - offset)
			return r->host + offset;
	}
	return NULL;
}

int memory_lacks_ring(const struct memory *memory, unsigned int index, const char *part, uva_t uva,
		      uint64_t bytes, struct umbra_error *err)
{
	if (!memory || !memory->count)
		return error_set(err, -EINVAL,
				 "queue %u: the VMM has shared no memory, in which the %s ring "
				 "could be (with QEMU: share=on is forgotten, or the memory has no "
				 "file, as that of memory-backend-memfd has)",
				 index, part);
	return error_set(err, -EINVAL,
			 "queue %u: the %s ring at user address 0x%" PRIx64 ", %" PRIu64
			 " bytes, is not inside one region of the memory table",
			 index, part, uva.v, bytes);
}
