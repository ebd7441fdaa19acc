/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's memory: an immutable snapshot of the front-end's memory table.
 *
 * Theory of operation: a table is sorted and checked once, when it arrives
 * (vhost-user SET_MEM_TABLE, ADD_MEM_REG, REM_MEM_REG), and never changes
 * afterwards.  A change of the table is a new snapshot.  Who uses one holds a
 * reference, so that a queue that still runs on the old table never sees a
 * mapping go away; the last reference unmaps.
 *
 * A device behind an IOMMU may see regions elsewhere than the guest does.  Who
 * places them there fills `iova` and `translated` between memory_create(), which
 * says that all are where the guest sees them, and the first use of the snapshot.
 *
 * Looking an address up: the range from the first region to the end of the last
 * is cut into equal buckets, a power of two bytes each, several for each region,
 * and a table says which regions reach into which bucket.  For most addresses
 * that is one, whatever the number of regions, and the lookup is a subtraction,
 * a shift and a load.  Where a bucket holds several (small regions beside a
 * border, or one region so far away that all others share a bucket) they are
 * searched by halves.  The table is bounded (8 KiB for 512 regions), and it only
 * proposes: it is the region's own numbers that say whether an address is inside.
 *
 * Ownership: each region points to a backing (a mapping), which counts its
 * own references, because two snapshots that differ in one region share the
 * mappings of the others.
 * Threads: a snapshot may be read by any thread; references are atomic.
 * Trust: the numbers of the table come from the front-end and are judged in
 * memory_create(); afterwards every address that a guest writes is judged
 * against them.  The bytes behind the mapping stay hostile for ever.
 */
#ifndef UMBRA_MEMORY_MEMORY_H
#define UMBRA_MEMORY_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/bits.h"
#include "umbra/error.h"

/* A mapping that regions of several snapshots can share. */
struct memory_backing {
	unsigned int refs;                               /* atomic; 1 when made */
	void (*release)(struct memory_backing *backing); /* the last ref has gone */
	int fd;             /* the memory file, or -1; owned by the backing */
	uint64_t fd_offset; /* of the region's first byte in the file, bytes */
	bool cut;           /* atomic; pages of it have gone from under us, and are zeros now */

	/* What the file is; 0 where nobody asked. */
	uint64_t file_device, file_inode; /* its identity */
	bool file_is_memory;              /* pages and nothing else: tmpfs, memfd, hugetlbfs */
	uint32_t file_links;              /* names that it had in folders when it was mapped */
	char file_system[24];             /* "ext4", ...; "" for memory */
	uint64_t page;    /* bytes; the smallest piece that gives memory back when it is removed */
	uint64_t block;   /* bytes, a multiple of @page; what the kernel likes to free as a whole */
	int discard_with; /* atomic; host/discarder.c: what it found to work here */
	int keeps;        /* atomic; why it must not be discarded: enum balloon_keep */
	char keep_who[96];        /* for whom; complete before `keeps` says that it is kept */
	struct memory_hold *hold; /* host/memory_hold.h; what is told to other processes */
};

struct memory_region {
	gpa_t gpa;
	uva_t uva;     /* where the front-end says it sees the region */
	iova_t iova;   /* where a device that is mapped sees it; see `translated` */
	uint64_t size; /* bytes, > 0 */
	uint8_t *host; /* where this process sees the region */
	struct memory_backing *backing; /* may be NULL: nothing to release */
};

#define MEMORY_REGIONS_MAX 512u /* ours; vhost-user names no limit beside the slots */

struct memory {
	unsigned int refs; /* atomic */
	unsigned int count;
	bool translated;                /* the iova of some region is not its gpa */
	uint8_t bucket_shift;           /* a bucket is so many bits of an address */
	uint16_t bucket_count;          /* 0: there are no regions */
	uint64_t bucket_base;           /* gpa of the first bucket, and of the first region */
	const uint16_t *buckets;        /* bucket_count + 1 regions: see memory.c */
	struct memory_region regions[]; /* sorted by gpa, disjoint in gpa and in uva */
};

/*
 * Make a snapshot of @count regions (any order; 0 is legal), taking one
 * reference on each backing.  *@out gets one reference.
 * -EINVAL (named in @err): a region is empty, wraps, or overlaps another in
 * guest-physical or front-end-virtual space.  -ENOMEM.
 */
UMBRA_MUST_CHECK int memory_create(const struct memory_region *regions, unsigned int count,
				   struct memory **out, struct umbra_error *err);

struct memory *memory_ref(struct memory *memory);

/* Give *@memory back, if there is one, and leave NULL. */
void memory_unref(struct memory **memory);

void memory_backing_ref(struct memory_backing *backing);
void memory_backing_unref(struct memory_backing *backing);

/* A region of which the front-end has taken pages away, or NULL. */
const struct memory_region *memory_find_cut(const struct memory *memory);

/* The region that holds @gpa, or NULL. */
const struct memory_region *memory_find(const struct memory *memory, gpa_t gpa);

/*
 * The common case of a search: does one region hold all @len bytes at @gpa, and
 * is it the first one of its bucket?  Then its index is in *@index.  No loop and
 * no call; false says nothing.
 */
static inline bool memory_first(const struct memory *memory, gpa_t gpa, uint64_t len,
				unsigned int *index)
{
	/* Below the base this wraps, to what is in no region either. */
	uint64_t bucket = (gpa.v - memory->bucket_base) >> memory->bucket_shift, offset;
	const struct memory_region *r;

	if (unlikely(bucket >= memory->bucket_count))
		return false;
	r = &memory->regions[memory->buckets[bucket]];
	offset = gpa.v - r->gpa.v;
	if (unlikely(offset >= r->size || len > r->size - offset))
		return false;
	*index = memory->buckets[bucket];
	return true;
}

/* Slow half of memory_host(): search, and remember the region in *@hint. */
uint8_t *memory_host_search(const struct memory *memory, unsigned int *hint, gpa_t gpa,
			    uint64_t len);

/*
 * Host address of the @len bytes at @gpa if one region holds them all, else
 * NULL.  *@hint is the caller's memory of the last region that matched (start
 * with 0), which is looked at first: buffers that stay in one region cost nothing
 * more than this function.
 */
static inline uint8_t *memory_host(const struct memory *memory, unsigned int *hint, gpa_t gpa,
				   uint64_t len)
{
	if (likely(*hint < memory->count)) {
		const struct memory_region *r = &memory->regions[*hint];
		uint64_t offset = gpa.v - r->gpa.v; /* wraps to huge if below */

		if (likely(offset < r->size && len <= r->size - offset))
			return r->host + offset;
	}
	return memory_host_search(memory, hint, gpa, len);
}

/* True if guest memory covers all @len (> 0) bytes at @gpa, in one region or
 * in several that adjoin. */
bool memory_covers_search(const struct memory *memory, unsigned int *hint, gpa_t gpa, uint64_t len);

static inline bool memory_covers(const struct memory *memory, unsigned int *hint, gpa_t gpa,
				 uint64_t len)
{
	if (likely(*hint < memory->count)) {
		const struct memory_region *r = &memory->regions[*hint];
		uint64_t offset = gpa.v - r->gpa.v;

		if (likely(offset < r->size && len <= r->size - offset))
			return true;
	}
	return memory_covers_search(memory, hint, gpa, len);
}

/* Slow half of memory_translate(): a segment that crosses, or a bucket with several regions. */
uint64_t memory_translate_search(const struct memory *memory, gpa_t gpa, uint64_t len,
				 iova_t *iova);

/*
 * Where a mapped device sees the @len (> 0) bytes at @gpa: from *@iova on, as
 * many of them as are returned.  Less than @len: the next byte is in another
 * region, which the device does not see next to this one.  0: the first byte is
 * not guest memory.
 */
static inline uint64_t memory_translate(const struct memory *memory, gpa_t gpa, uint64_t len,
					iova_t *iova)
{
	const struct memory_region *r;
	unsigned int index;

	if (unlikely(!memory_first(memory, gpa, len, &index)))
		return memory_translate_search(memory, gpa, len, iova);
	r = &memory->regions[index];
	iova->v = r->iova.v + (gpa.v - r->gpa.v);
	return len;
}

/* As memory_host(), by front-end virtual address: for ring addresses. */
uint8_t *memory_host_uva(const struct memory *memory, uva_t uva, uint64_t len);

/*
 * The error for a part of ring @index ("avail") that memory_host_uva() did not find in
 * @memory, which may be NULL.  Returns -EINVAL.
 */
int memory_lacks_ring(const struct memory *memory, unsigned int index, const char *part, uva_t uva,
		      uint64_t bytes, struct umbra_error *err);

#endif
