/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The memory table of a shadow device: the guest's regions and one of ours.
 *
 * Theory of operation.  The back-end gets the front-end's table plus one region of ours, in
 * a hole of it, cut into one slot per ring; it gets it with the table, before
 * anybody asks for a shadow, because a back-end drops and remaps everything on
 * a new table, which no running ring would survive.  Where the back-end takes
 * no further region, the device works passed through and says why the shadow
 * cannot be had.
 *
 * A device that is mapped (BACKEND_MAPS) says first where it will see each
 * region, and ours; where that is not where the guest sees it, descriptors are
 * translated, which only the shadow can do.
 *
 * A network device whose control queue is followed needs it whatever the mode.
 *
 * A change of the table while rings run: the rings are paused, looked up in the
 * new table, and go on; a table in which a running ring is not found is refused
 * and the old one stays.
 *
 * Implements: SET_MEM_TABLE, ADD_MEM_REG, REM_MEM_REG of the vhost-user
 * specification.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "shadow/shadow_device_private.h"

#define REGIONS_WITHOUT_SLOTS 8u /* vhost-user: regions in one SET_MEM_TABLE */

/* Where the hole for our own memory is looked for first: above what guests use
 * for memory, below where user space is mapped. */
#define OWN_ADDRESS_FIRST (1ull << 46)
#define OWN_ADDRESS_ALIGN (1ull << 30)

/* The lowest address from OWN_ADDRESS_FIRST on where @size bytes are free in
 * guest-physical and in front-end-virtual space alike; 0: there is none. */
static uint64_t hole_find(const struct memory *m, uint64_t size)
{
	uint64_t at = OWN_ADDRESS_FIRST;

	for (unsigned int i = 0; i <= 2 * m->count; i++) {
		uint64_t end = 0;

		for (unsigned int j = 0; j < m->count; j++) {
			const struct memory_region *r = &m->regions[j];

			if (at < r->gpa.v + r->size && r->gpa.v < at + size)
				end = MAX(end, r->gpa.v + r->size);
			if (at < r->uva.v + r->size && r->uva.v < at + size)
				end = MAX(end, r->uva.v + r->size);
		}
		if (!end)
			return at;
		if (end > UINT64_MAX - size - OWN_ADDRESS_ALIGN)
			return 0;
		at = align_up(end, OWN_ADDRESS_ALIGN);
	}
	return 0;
}

static bool is_free(const struct memory *m, uint64_t at, uint64_t size)
{
	for (unsigned int i = 0; i < m->count; i++) {
		const struct memory_region *r = &m->regions[i];

		if ((at < r->gpa.v + r->size && r->gpa.v < at + size) ||
		    (at < r->uva.v + r->size && r->uva.v < at + size))
			return false;
	}
	return true;
}

static unsigned int queues_possible(struct shadow_device *d)
{
	struct umbra_error ignored;
	uint64_t count;

	if (d->backend->ops->get_queue_num(d->backend, &count, &ignored) || !count)
		return QUEUES_DEFAULT;
	return (unsigned int)MIN(count, (uint64_t)UMBRA_QUEUES_MAX);
}

/*
 * Make our own region if the device may need it, and find it a place beside
 * the regions of @m.  Where that cannot be, d->no_shadow says why, and the
 * device works without.
 */
static int own_place(struct shadow_device *d, const struct memory *m, struct umbra_error *err)
{
	uint64_t at;
	int rc;

	if (d->mode == UMBRA_SHADOW_OFF && !shadow_control_find(d))
		return 0;
	if (!d->own.backing) {
		rc = d->host->ops->make_memory(d->host, queues_possible(d) * SHADOW_SLOT_BYTES,
					       &d->own, err);
		if (rc)
			return rc;
	} else if (is_free(m, d->own.gpa.v, d->own.size)) {
		return 0;
	} else if (shadow_device_any(d, RING_SHADOWED)) {
		return error_set(err, -EINVAL,
				 "the memory table covers 0x%" PRIx64 ", where the running shadow "
				 "rings are",
				 d->own.gpa.v);
	}
	at = hole_find(m, d->own.size);
	if (!at)
		return error_set(err, -EINVAL,
				 "the memory table leaves no hole of %" PRIu64
				 " bytes for the shadow rings",
				 d->own.size);
	d->own.gpa.v = at;
	d->own.uva.v = at;
	d->own.iova = at;
	return 0;
}

/* After the table has changed: the rings that run must be in it. */
static int rings_resolve(struct shadow_device *d, const struct memory *m, struct umbra_error *err)
{
	for (unsigned int i = 0; i < d->ring_count; i++) {
		struct shadow_ring *r = &d->rings[i];
		struct memory_region slot;
		struct ring_context c = shadow_device_context(d, r, &slot);
		int rc;

		if (r->run == RING_STOPPED || r->run == RING_WANTED)
			continue; /* looked up when it starts */
		c.memory = m;
		rc = shadow_ring_resolve(r, &c, err);
		if (rc)
			return rc;
	}
	return 0;
}

static void rings_pause(struct shadow_device *d)
{
	for (unsigned int i = 0; i < d->ring_count; i++) {
		struct memory_region slot;
		struct ring_context c = shadow_device_context(d, &d->rings[i], &slot);

		shadow_ring_pause(&d->rings[i], &c);
	}
}

static int rings_unpause(struct shadow_device *d, struct umbra_error *err)
{
	for (unsigned int i = 0; i < d->ring_count; i++) {
		struct shadow_ring *r = &d->rings[i];
		struct memory_region slot;
		struct ring_context c = shadow_device_context(d, r, &slot);
		int rc = r->run == RING_SHADOWED ? shadow_ring_unpause(r, &c, err) : 0;

		if (rc)
			return rc;
	}
	return 0;
}

/* How a new table goes to the back-end: whole, or one region's difference. */
typedef int table_teller(struct shadow_device *d, const struct memory *m, const void *what,
			 struct umbra_error *err);

/* Descriptors must be translated from here on: no ring can be passed through. */
static int translation_allow(struct shadow_device *d, struct umbra_error *err)
{
	if (!shadow_device_any(d, RING_PASSED))
		return 0;
	return error_set(err, -EOPNOTSUPP,
			 "the new memory table has a region that the device can only be shown "
			 "elsewhere than the guest sees it, and the running queues are passed "
			 "through: switch the shadow on first");
}

/* Replace the guest's memory by @m (consumed), telling the back-end by @tell. */
static int memory_replace(struct shadow_device *d, struct memory *m, table_teller *tell,
			  const void *what, struct umbra_error *err)
{
	struct memory_region own_before = d->own;
	struct umbra_error later;
	int rc, rc_back;

	rings_pause(d);
	rc = own_place(d, m, err);
	if (!rc && d->backend->ops->place_memory)
		rc = d->backend->ops->place_memory(d->backend, m, &d->own, err);
	if (!rc && m->translated)
		rc = translation_allow(d, err);
	if (!rc)
		rc = rings_resolve(d, m, err);
	if (!rc)
		rc = tell(d, m, what, err);
	if (rc) {
		/* The old table stays; its rings were found in it before. */
		if (own_before.backing)
			d->own = own_before;
		rc_back = d->memory ? rings_resolve(d, d->memory, &later) : 0;
		memory_unref(&m);
	} else {
		rc_back = 0;
		memory_unref(&d->memory);
		d->memory = m;
	}
	if (!rc_back && !shadow_device_is_fatal(rc))
		rc_back = rings_unpause(d, &later);
	if (rc_back)
		log_error("%s", later.text);
	return shadow_device_lose(d, rc, err);
}

static bool slots_allow_own(struct shadow_device *d, unsigned int guest_regions)
{
	uint64_t slots = d->slots_max ? d->slots_max : REGIONS_WITHOUT_SLOTS;

	if (d->backend->traits & BACKEND_MAPS || guest_regions + (uint64_t)1 <= slots) {
		d->no_shadow[0] = '\0';
		return true;
	}
	snprintf(d->no_shadow, sizeof(d->no_shadow),
		 "the guest's memory has %u regions and the back-end takes %" PRIu64
		 ": none is left for the shadow rings",
		 guest_regions, slots);
	return false;
}

static int tell_whole(struct shadow_device *d, const struct memory *m, const void *what,
		      struct umbra_error *err)
{
	struct memory_region *table = calloc(m->count + 1, sizeof(*table));
	unsigned int count = m->count;
	int rc;

	(void)what;
	if (!table)
		return error_set(err, -ENOMEM, "no memory for a table of %u regions", count);
	if (count)
		memcpy(table, m->regions, count * sizeof(*table));
	if (d->own.backing && slots_allow_own(d, count))
		table[count++] = d->own;
	if (count == m->count && shadow_device_any(d, RING_SHADOWED))
		rc = error_set(err, -EINVAL, "%s", d->no_shadow);
	else
		rc = d->backend->ops->set_memory(d->backend, table, count, err);
	if (!rc)
		d->own_sent = count > m->count;
	free(table);
	return rc;
}

int shadow_device_set_memory(struct shadow_device *d, const struct memory_region *regions,
			     unsigned int count, struct umbra_error *err)
{
	struct memory *m;
	int rc = shadow_device_check_backend(d, err);

	if (!rc)
		rc = memory_create(regions, count, &m, err);
	return rc ? rc : memory_replace(d, m, tell_whole, NULL, err);
}

static int tell_added(struct shadow_device *d, const struct memory *m, const void *what,
		      struct umbra_error *err)
{
	const struct memory_region *asked = what;
	const struct memory_region *region = memory_find(m, asked->gpa); /* placed, in here */
	int rc;

	if (d->own.backing && !d->own_sent && slots_allow_own(d, m->count)) {
		rc = d->backend->ops->add_region(d->backend, &d->own, err);
		if (rc)
			return rc;
		d->own_sent = true;
	}
	return d->backend->ops->add_region(d->backend, region, err);
}

int shadow_device_add_region(struct shadow_device *d, const struct memory_region *region,
			     struct umbra_error *err)
{
	unsigned int count = d->memory ? d->memory->count : 0;
	struct memory_region *table;
	struct memory *m;
	int rc = shadow_device_check_backend(d, err);

	if (rc)
		return rc;
	table = calloc(count + 1, sizeof(*table));
	if (!table)
		return error_set(err, -ENOMEM, "no memory for a table of %u regions", count + 1);
	if (count)
		memcpy(table, d->memory->regions, count * sizeof(*table));
	table[count] = *region;
	rc = memory_create(table, count + 1, &m, err);
	free(table);
	return rc ? rc : memory_replace(d, m, tell_added, region, err);
}

static int tell_removed(struct shadow_device *d, const struct memory *m, const void *what,
			struct umbra_error *err)
{
	(void)m;
	return d->backend->ops->remove_region(d->backend, what, err);
}

int shadow_device_remove_region(struct shadow_device *d, gpa_t gpa, uva_t uva, uint64_t size,
				struct umbra_error *err)
{
	struct memory_region *table, removed = { 0 };
	unsigned int kept = 0;
	struct memory *m;
	int rc = shadow_device_check_backend(d, err);

	if (rc)
		return rc;
	table = calloc(d->memory ? d->memory->count + 1 : 1, sizeof(*table));
	if (!table)
		return error_set(err, -ENOMEM, "no memory for a memory table");
	for (unsigned int i = 0; d->memory && i < d->memory->count; i++) {
		const struct memory_region *r = &d->memory->regions[i];

		if (r->gpa.v == gpa.v && r->uva.v == uva.v && r->size == size)
			removed = *r;
		else
			table[kept++] = *r;
	}
	rc = removed.size ? memory_create(table, kept, &m, err)
			  : error_set(err, -EINVAL,
				      "REM_MEM_REG: no region of 0x%" PRIx64
				      " bytes at gpa 0x%" PRIx64 " and user address 0x%" PRIx64,
				      size, gpa.v, uva.v);
	free(table);
	return rc ? rc : memory_replace(d, m, tell_removed, &removed, err);
}

int shadow_device_check_memory(const struct shadow_device *d, struct umbra_error *err)
{
	const struct memory_region *r = d->memory ? memory_find_cut(d->memory) : NULL;

	if (!r)
		return 0;
	return error_set(err, -EFAULT,
			 "the front-end has shrunk the memory file of its region at gpa 0x%" PRIx64
			 ", 0x%" PRIx64 " bytes",
			 r->gpa.v, r->size);
}
