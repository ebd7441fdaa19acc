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
	m = calloc(1, sizeof(*m) + count * sizeof(*regions));
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
		m->regions[i].iova = m->regions[i].gpa.v;
		if (m->regions[i].backing)
			memory_backing_ref(m->regions[i].backing);
	}
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
	unsigned int low = 0, high = memory->count;

	while (low < high) {
		unsigned int middle = low + (high - low) / 2;
		const struct memory_region *r = &memory->regions[middle];

		if (gpa.v < r->gpa.v)
			high = middle;
		else if (gpa.v - r->gpa.v >= r->size)
			low = middle + 1;
		else
			return r;
	}
	return NULL;
}

uint8_t *memory_host_search(const struct memory *memory, unsigned int *hint, gpa_t gpa,
			    uint64_t len)
{
	const struct memory_region *r = memory_find(memory, gpa);

	if (!r || len > r->size - (gpa.v - r->gpa.v))
		return NULL;
	*hint = (unsigned int)(r - memory->regions);
	return r->host + (gpa.v - r->gpa.v);
}

bool memory_covers_search(const struct memory *memory, unsigned int *hint, gpa_t gpa, uint64_t len)
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
