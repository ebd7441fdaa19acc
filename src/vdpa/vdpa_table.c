/* SPDX-License-Identifier: BSD-2-Clause */
/* What a vhost-vdpa device has mapped: see vdpa_table.h. */
#include "vdpa/vdpa_table.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/vhost.h>
#include <linux/vhost_types.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/log.h"
#include "host/memory_hold.h"
#include "memory/iova_space.h"

#define PAGE IOVA_ALIGN_MIN /* an IOMMU maps nothing smaller */

void vdpa_table_init(struct vdpa_table *table, struct vdpa_chardev *chardev, iova_t first,
		     iova_t last, bool batches)
{
	*table = (struct vdpa_table){
		.chardev = chardev,
		.first = first,
		.last = last,
		.batches = batches,
	};
}

static void regions_free(struct memory_region *regions, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		memory_backing_unref(regions[i].backing);
	free(regions);
}

void vdpa_table_fini(struct vdpa_table *table)
{
	regions_free(table->regions, table->count);
	table->regions = NULL;
	table->count = 0;
}

/* --- where to ------------------------------------------------------------- */

/* The mapped region that is the same piece of memory as @r, or NULL. */
static const struct memory_region *find_mapped(const struct vdpa_table *table,
					       const struct memory_region *r)
{
	for (unsigned int i = 0; i < table->count; i++) {
		const struct memory_region *have = &table->regions[i];

		if (have->gpa.v == r->gpa.v && have->size == r->size)
			return have;
	}
	return NULL;
}

static bool has_region(const struct memory *memory, const struct memory_region *own,
		       const struct memory_region *r)
{
	if (own->gpa.v == r->gpa.v && own->size == r->size)
		return true;
	for (unsigned int i = 0; i < memory->count; i++) {
		const struct memory_region *m = &memory->regions[i];

		if (m->gpa.v == r->gpa.v && m->size == r->size)
			return true;
	}
	return false;
}

/* Every region of the guest's at its gpa, if that can be: 0, or an error. */
static int place_as_guest(const struct vdpa_table *table, struct iova_space *space,
			  struct memory *memory)
{
	for (unsigned int i = 0; i < memory->count; i++) {
		struct memory_region *r = &memory->regions[i];
		const struct memory_region *mapped = find_mapped(table, r);
		int rc;

		if (mapped && mapped->iova.v != r->gpa.v)
			return -EBUSY;
		rc = iova_space_take_at(space, iova_as_guest(r->gpa), r->size);
		if (rc)
			return rc;
		r->iova = iova_as_guest(r->gpa);
	}
	return 0;
}

/* Every region of the guest's where there is room. */
static int place_anywhere(const struct vdpa_table *table, struct iova_space *space,
			  struct memory *memory, struct umbra_error *err)
{
	for (unsigned int i = 0; i < memory->count; i++) {
		const struct memory_region *mapped = find_mapped(table, &memory->regions[i]);

		if (mapped && iova_space_take_at(space, mapped->iova, mapped->size))
			return error_set(err, -EINVAL,
					 "memory region at gpa 0x%" PRIx64
					 " cannot keep its place at 0x%" PRIx64,
					 mapped->gpa.v, mapped->iova.v);
	}
	for (unsigned int i = 0; i < memory->count; i++) {
		struct memory_region *r = &memory->regions[i];
		const struct memory_region *mapped = find_mapped(table, r);

		if (mapped)
			r->iova = mapped->iova;
		else if (iova_space_take(space, r->size, false, &r->iova))
			return error_set(err, -ENOSPC,
					 "memory region at gpa 0x%" PRIx64 " of 0x%" PRIx64
					 " bytes has no place in the device's range 0x%" PRIx64
					 " to 0x%" PRIx64,
					 r->gpa.v, r->size, table->first.v, table->last.v);
	}
	return 0;
}

/* Stay away from what leaves the table now: a buffer of it may yet be with the
 * device.  Where there is not so much room, it must do. */
static void take_leaving(const struct vdpa_table *table, struct iova_space *space,
			 const struct memory *memory, const struct memory_region *own)
{
	for (unsigned int i = 0; i < table->count; i++) {
		const struct memory_region *r = &table->regions[i];

		if (!has_region(memory, own, r))
			(void)!iova_space_take_at(space, r->iova, r->size);
	}
}

static void space_begin(const struct vdpa_table *table, struct iova_space *space,
			const struct memory_region *own_mapped)
{
	iova_space_init(space, table->first, table->last);
	if (own_mapped) /* nothing else is taken yet, and it is in the range */
		(void)!iova_space_take_at(space, own_mapped->iova, own_mapped->size);
}

static int place_own(const struct vdpa_table *table, struct iova_space *space,
		     const struct memory_region *mapped, struct memory_region *own,
		     struct umbra_error *err)
{
	if (mapped) {
		own->iova = mapped->iova;
		return 0;
	}
	own->iova = iova_as_guest(own->gpa);
	if (!iova_space_take_at(space, own->iova, own->size) ||
	    !iova_space_take(space, own->size, true, &own->iova))
		return 0;
	return error_set(err, -ENOSPC,
			 "the shadow's own memory of 0x%" PRIx64
			 " bytes has no place in the device's range 0x%" PRIx64 " to 0x%" PRIx64,
			 own->size, table->first.v, table->last.v);
}

int vdpa_table_place(struct vdpa_table *table, struct memory *memory, struct memory_region *own,
		     struct umbra_error *err)
{
	const struct memory_region *own_mapped = own->size ? find_mapped(table, own) : NULL;
	struct iova_space *space = malloc(sizeof(*space)); /* 16 KiB */
	int rc;

	if (!space)
		return error_set(err, -ENOMEM, "no memory to place a memory table");
	space_begin(table, space, own_mapped);
	rc = place_as_guest(table, space, memory);
	if (rc) {
		space_begin(table, space, own_mapped);
		take_leaving(table, space, memory, own);
		rc = place_anywhere(table, space, memory, err);
	}
	if (rc == -ENOSPC) {
		space_begin(table, space, own_mapped);
		rc = place_anywhere(table, space, memory, err);
	}
	if (!rc && own->size)
		rc = place_own(table, space, own_mapped, own, err);
	free(space);
	table->own = own->gpa;
	memory->translated = false;
	for (unsigned int i = 0; i < memory->count; i++)
		memory->translated |= memory->regions[i].iova.v != memory->regions[i].gpa.v;
	return rc;
}

/* --- messages ------------------------------------------------------------- */

static int message(struct vdpa_table *table, uint8_t type, const struct memory_region *r,
		   struct umbra_error *err)
{
	struct vhost_msg_v2 m;

	memset(&m, 0, sizeof(m)); /* the padding, too, goes to the kernel */
	m.type = VHOST_IOTLB_MSG_V2;
	m.iotlb.type = type;
	if (r) {
		m.iotlb.iova = r->iova.v;
		m.iotlb.size = r->size;
	}
	if (type == VHOST_IOTLB_UPDATE) {
		m.iotlb.uaddr = (uintptr_t)r->host;
		m.iotlb.perm = VHOST_ACCESS_RW;
	}
	return vdpa_chardev_write(table->chardev, &m, sizeof(m), err);
}

static int batch(struct vdpa_table *table, uint8_t type, struct umbra_error *err)
{
	return table->batches ? message(table, type, NULL, err) : 0;
}

static int map(struct vdpa_table *table, const struct memory_region *r, uint64_t total,
	       uint64_t limit, struct umbra_error *err)
{
	struct umbra_error local = { "" };
	char hint[96] = "";
	int rc;

	err = err ? err : &local;
	rc = message(table, VHOST_IOTLB_UPDATE, r, err);
	if (!rc)
		return 0;
	/* The kernel gives one code for every cause.  VDUSE takes every piece of
	 * shared memory; most others pin it, and there are two limits to that. */
	if (limit < total)
		snprintf(hint, sizeof(hint), "RLIMIT_MEMLOCK is %" PRIu64 " of %" PRIu64 " bytes",
			 limit, total);
	else
		snprintf(hint, sizeof(hint),
			 "has it more than vhost_vdpa.max_iotlb_entries contiguous pieces?");
	error_prefix(err, rc,
		     "memory region at gpa 0x%" PRIx64 " of 0x%" PRIx64
		     " bytes cannot be mapped for the device at 0x%" PRIx64 " (%s)",
		     r->gpa.v, r->size, r->iova.v, hint);
	return rc;
}

static int unmap(struct vdpa_table *table, const struct memory_region *r, struct umbra_error *err)
{
	return message(table, VHOST_IOTLB_INVALIDATE, r, err);
}

/* What is mapped is not known any more. */
static int confused(struct vdpa_table *table, int rc, struct umbra_error *err)
{
	if (rc == -EREMOTEIO || rc == -EOPNOTSUPP)
		rc = error_prefix(err, -ECONNRESET, "the device's memory table is lost");
	return vdpa_chardev_lose(table->chardev, rc, err);
}

/* --- who else has it --------------------------------------------------------- */

/* Tell others that the device has @r pinned.  A disk is not refused for that. */
static void region_pin(struct vdpa_table *table, const struct memory_region *r)
{
	int rc;

	if (!r->backing->file_inode)
		return; /* our own */
	rc = memory_hold_pin(r->backing, table->chardev->path);
	if (rc)
		log_warning(
			"memory region at gpa 0x%" PRIx64
			": other processes cannot be told that %s has it pinned (%s); a balloon "
			"of this guest must be told --pinned",
			r->gpa.v, table->chardev->path, strerror(-rc));
}

static bool is_being_discarded(const struct memory_region *r)
{
	return r->backing && memory_hold_is_discarding(r->backing);
}

int vdpa_table_settle(struct vdpa_table *table, struct umbra_error *err)
{
	for (unsigned int i = 0; i < table->count; i++)
		if (is_being_discarded(&table->regions[i])) {
			table->stale = true;
			return error_set(
				err, -EREMOTEIO,
				"back-end: memory region at gpa 0x%" PRIx64
				" is being given back to the host by a balloon; the device "
				"cannot start before that has ended",
				table->regions[i].gpa.v);
		}
	return 0;
}

/* --- a new table ---------------------------------------------------------- */

static bool overlaps(const struct memory_region *a, const struct memory_region *b)
{
	return a->iova.v <= b->iova.v + (b->size - 1) && b->iova.v <= a->iova.v + (a->size - 1);
}

static bool is_same(const struct memory_region *a, const struct memory_region *b)
{
	/* No other mapping can be at this place: we hold a reference on this one. */
	return a->iova.v == b->iova.v && a->size == b->size && a->host == b->host;
}

static bool contains(const struct memory_region *regions, unsigned int count,
		     const struct memory_region *r)
{
	for (unsigned int i = 0; i < count; i++)
		if (is_same(&regions[i], r))
			return true;
	return false;
}

static int mapping_check(const struct vdpa_table *table, const struct memory_region *r,
			 struct umbra_error *err)
{
	if (!r->backing || r->backing->fd < 0 ||
	    __atomic_load_n(&r->backing->cut, __ATOMIC_ACQUIRE))
		return error_set(err, -EINVAL,
				 "memory region at gpa 0x%" PRIx64 " of 0x%" PRIx64
				 " bytes is no shared memory file, which the device needs",
				 r->gpa.v, r->size);
	if (!r->size || (r->gpa.v | r->iova.v | r->size | (uintptr_t)r->host) % PAGE)
		return error_set(
			err, -EINVAL,
			"memory region at gpa 0x%" PRIx64 " of 0x%" PRIx64
			" bytes: a device maps whole pages of %llu bytes, here at 0x%" PRIx64
			" in its addresses and 0x%" PRIx64 " in ours",
			r->gpa.v, r->size, PAGE, r->iova.v, (uint64_t)(uintptr_t)r->host);
	if (r->iova.v < table->first.v || r->iova.v > table->last.v ||
	    r->size - 1 > table->last.v - r->iova.v)
		return error_set(err, -EINVAL,
				 "memory region at gpa 0x%" PRIx64 " of 0x%" PRIx64
				 " bytes at 0x%" PRIx64 " is outside the device's range 0x%" PRIx64
				 " to 0x%" PRIx64,
				 r->gpa.v, r->size, r->iova.v, table->first.v, table->last.v);
	return 0;
}

static int regions_check(const struct vdpa_table *table, const struct memory_region *regions,
			 unsigned int count, struct umbra_error *err)
{
	for (unsigned int i = 0; i < count; i++) {
		int rc = mapping_check(table, &regions[i], err);

		if (rc)
			return rc;
		for (unsigned int j = 0; j < i; j++)
			if (overlaps(&regions[i], &regions[j]))
				return error_set(err, -EINVAL,
						 "memory regions at gpa 0x%" PRIx64
						 " and 0x%" PRIx64
						 " overlap in the device's addresses",
						 regions[j].gpa.v, regions[i].gpa.v);
	}
	return 0;
}

struct change {
	const struct memory_region *wanted;
	unsigned int wanted_count;
	uint64_t total, limit; /* bytes mapped in the end; that may be pinned */
};

/* Must mapped region @r go before what is new can come? */
static bool is_in_the_way(const struct vdpa_table *table, const struct change *c,
			  const struct memory_region *r)
{
	if (contains(c->wanted, c->wanted_count, r))
		return false;
	for (unsigned int i = 0; i < c->wanted_count; i++)
		if (overlaps(&c->wanted[i], r) &&
		    !contains(table->regions, table->count, &c->wanted[i]))
			return true;
	return false;
}

/* Unmap those mapped regions that must go, and either are in the way or not. */
static int unmap_leaving(struct vdpa_table *table, const struct change *c, bool in_the_way,
			 struct umbra_error *err)
{
	for (unsigned int i = 0; i < table->count; i++) {
		const struct memory_region *r = &table->regions[i];
		int rc;

		if (contains(c->wanted, c->wanted_count, r) ||
		    is_in_the_way(table, c, r) != in_the_way)
			continue;
		rc = unmap(table, r, err);
		if (rc)
			return confused(table, rc, err);
	}
	return 0;
}

/* The first @done of the new regions are mapped: back to the old table. */
static int change_undo(struct vdpa_table *table, const struct change *c, unsigned int done,
		       struct umbra_error *err)
{
	int rc = 0;

	for (unsigned int i = 0; i < done && !rc; i++)
		if (!contains(table->regions, table->count, &c->wanted[i]))
			rc = unmap(table, &c->wanted[i], err);
	for (unsigned int i = 0; i < table->count && !rc; i++)
		if (is_in_the_way(table, c, &table->regions[i]))
			rc = map(table, &table->regions[i], c->total, c->limit, err);
	return rc ? confused(table, rc, err) : 0;
}

static int change_make(struct vdpa_table *table, const struct change *c, struct umbra_error *err)
{
	int rc = unmap_leaving(table, c, true, err);
	unsigned int i = 0;

	if (rc)
		return rc;
	for (; i < c->wanted_count && !rc; i++)
		if (!contains(table->regions, table->count, &c->wanted[i]))
			rc = map(table, &c->wanted[i], c->total, c->limit, err);
	if (rc == -ECONNRESET)
		return rc;
	if (rc) {
		struct umbra_error later;
		int rc_back = change_undo(table, c, i - 1, &later);

		if (rc_back && err)
			*err = later;
		return rc_back ? rc_back : rc;
	}
	return unmap_leaving(table, c, false, err);
}

static bool is_changed(const struct vdpa_table *table, const struct change *c)
{
	for (unsigned int i = 0; i < c->wanted_count; i++)
		if (!contains(table->regions, table->count, &c->wanted[i]))
			return true;
	return c->wanted_count != table->count;
}

int vdpa_table_set(struct vdpa_table *table, const struct memory_region *regions,
		   unsigned int count, struct umbra_error *err)
{
	const struct vhost_vdpa_system *system = table->chardev->system;
	struct change c = { .wanted = regions, .wanted_count = count };
	struct umbra_error local = { "" };
	struct memory_region *mapped;
	int rc, rc_end;

	rc = regions_check(table, regions, count, err);
	if (rc)
		return rc;
	mapped = calloc(count ? count : 1, sizeof(*mapped));
	if (!mapped)
		return error_set(err, -ENOMEM, "no memory for a table of %u regions", count);
	for (unsigned int i = 0; i < count; i++)
		c.total += regions[i].size;
	c.limit = system->pin_limit(system->opaque, c.total);
	/* Told first, looked then. */
	for (unsigned int i = 0; i < count; i++)
		if (!contains(table->regions, table->count, &regions[i])) {
			region_pin(table, &regions[i]);
			table->stale |= is_being_discarded(&regions[i]);
		}
	if (is_changed(table, &c)) {
		rc = batch(table, VHOST_IOTLB_BATCH_BEGIN, err);
		if (!rc) {
			rc = change_make(table, &c, err);
			rc_end = batch(table, VHOST_IOTLB_BATCH_END, &local);
			if (rc_end && rc != -ECONNRESET) {
				rc = confused(table, rc_end, &local);
				if (err)
					*err = local;
			}
		}
	}
	if (rc) {
		free(mapped);
		return rc;
	}
	for (unsigned int i = 0; i < count; i++) {
		mapped[i] = regions[i];
		memory_backing_ref(mapped[i].backing);
	}
	regions_free(table->regions, table->count);
	table->regions = mapped;
	table->count = count;
	return 0;
}

int vdpa_table_add(struct vdpa_table *table, const struct memory_region *region,
		   struct umbra_error *err)
{
	struct memory_region *wanted = calloc(table->count + 1, sizeof(*wanted));
	int rc;

	if (!wanted)
		return error_set(err, -ENOMEM, "no memory for a table of %u regions",
				 table->count + 1);
	if (table->count)
		memcpy(wanted, table->regions, table->count * sizeof(*wanted));
	wanted[table->count] = *region;
	rc = vdpa_table_set(table, wanted, table->count + 1, err);
	free(wanted);
	return rc;
}

int vdpa_table_remove(struct vdpa_table *table, const struct memory_region *region,
		      struct umbra_error *err)
{
	const struct memory_region *gone = find_mapped(table, region);
	struct memory_region *wanted;
	unsigned int count = 0;
	int rc;

	if (!gone)
		return error_set(err, -EINVAL,
				 "memory region at gpa 0x%" PRIx64 " of 0x%" PRIx64
				 " bytes is not mapped for the device",
				 region->gpa.v, region->size);
	wanted = calloc(table->count, sizeof(*wanted));
	if (!wanted)
		return error_set(err, -ENOMEM, "no memory for a table of %u regions", table->count);
	for (unsigned int i = 0; i < table->count; i++)
		if (&table->regions[i] != gone)
			wanted[count++] = table->regions[i];
	rc = vdpa_table_set(table, wanted, count, err);
	free(wanted);
	return rc;
}

int vdpa_table_renew(struct vdpa_table *table, struct umbra_error *err)
{
	struct umbra_error local;
	uint64_t total = 0;
	int rc;

	if (!table->stale)
		return 0;
	err = err ? err : &local;
	rc = batch(table, VHOST_IOTLB_BATCH_BEGIN, err);
	for (unsigned int i = 0; i < table->count && !rc; i++)
		rc = unmap(table, &table->regions[i], err);
	for (unsigned int i = 0; i < table->count; i++)
		total += table->regions[i].size;
	for (unsigned int i = 0; i < table->count && !rc; i++)
		rc = map(table, &table->regions[i], total, UINT64_MAX, err);
	if (!rc)
		rc = batch(table, VHOST_IOTLB_BATCH_END, err);
	if (rc)
		return confused(table, rc, err);
	table->stale = false;
	return 0;
}

/* --- what is there -------------------------------------------------------- */

bool vdpa_table_find(const struct vdpa_table *table, uva_t uva, uint64_t len, iova_t *iova)
{
	for (unsigned int i = 0; i < table->count; i++) {
		const struct memory_region *r = &table->regions[i];
		uint64_t offset = uva.v - r->uva.v;

		if (offset < r->size && len <= r->size - offset) {
			iova->v = r->iova.v + offset;
			return true;
		}
	}
	return false;
}

void vdpa_table_info(const struct vdpa_table *table, struct umbra_backend_info *info)
{
	info->iova_first = table->first.v;
	info->iova_last = table->last.v;
	info->mapped_ranges = table->count;
	for (unsigned int i = 0; i < table->count; i++) {
		const struct memory_region *r = &table->regions[i];

		info->mapped_bytes += r->size;
		info->translated |= r->iova.v != r->gpa.v && r->gpa.v != table->own.v;
	}
}
