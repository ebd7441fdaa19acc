/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The memory table of a shadow device: the guest's regions and one of ours.
 *
 * Theory of operation.  The back-end gets the front-end's table plus our own
 * region, in a hole of it (shadow_own.c).  Where the back-end takes no further region,
 * the device works passed through and says why the shadow cannot be had.
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
#include "device/shadow_device_private.h"

/* After the table has changed: the rings that run must be in it. */
static int rings_resolve(struct shadow_device *d, const struct memory *m, struct umbra_error *err)
{
	for (unsigned int i = 0; i < lanes_count(d->lanes); i++) {
		struct lane *r = lane_at(d->lanes, i);
		struct lane_context c = shadow_lanes_context(d);
		int rc;

		if (lane_is_stopped(r) || lane_is_wanted(r))
			continue; /* looked up when it starts */
		c.memory = m;
		rc = lane_resolve(r, &c, err);
		if (rc)
			return rc;
	}
	return 0;
}

static void rings_pause(struct shadow_device *d)
{
	for (unsigned int i = 0; i < lanes_count(d->lanes); i++) {
		struct lane_context c = shadow_lanes_context(d);

		lane_pause(lane_at(d->lanes, i), &c);
	}
}

static int rings_unpause(struct shadow_device *d, struct umbra_error *err)
{
	for (unsigned int i = 0; i < lanes_count(d->lanes); i++) {
		struct lane *r = lane_at(d->lanes, i);
		struct lane_context c = shadow_lanes_context(d);
		int rc = lane_is_shadowed(r) ? lane_unpause(r, &c, err) : 0;

		if (rc)
			return rc;
	}
	return 0;
}

/* How a new table goes to the back-end: whole, or one region's difference.  What it was told
 * of our own memory, as of @plan, is in d->own afterwards, whatever it returns. */
typedef int table_teller(struct shadow_device *d, const struct memory *m,
			 const struct shadow_own *plan, const void *what, struct umbra_error *err);

/* Descriptors must be translated from here on: no ring can be passed through. */
static int translation_allow(struct shadow_device *d, struct umbra_error *err)
{
	if (!lanes_any(d->lanes, lane_is_passed))
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
	struct shadow_own plan;
	struct umbra_error later;
	int rc, rc_back;

	rings_pause(d);
	rc = shadow_own_plan(d, m, &plan, err);
	if (!rc && d->backend->ops->place_memory)
		rc = d->backend->ops->place_memory(d->backend, m, &plan.regions[0].at, err);
	if (!rc && m->translated)
		rc = translation_allow(d, err);
	if (!rc)
		rc = rings_resolve(d, m, err);
	if (!rc)
		rc = tell(d, m, &plan, what, err);
	if (rc) {
		/* The old table stays; its rings were found in it before. */
		rc_back = d->memory ? rings_resolve(d, d->memory, &later) : 0;
		if (d->memory && !backend_is_lost(rc))
			(void)shadow_own_fits(d, d->memory->count, 0); /* it was asked of @m */
		memory_unref(&m);
	} else {
		rc_back = 0;
		memory_unref(&d->memory);
		d->memory = m;
	}
	if (!rc_back && !backend_is_lost(rc))
		rc_back = rings_unpause(d, &later);
	if (rc_back)
		log_error("%s", later.text);
	return shadow_backend_judge(d, rc, err);
}

static int tell_table(struct shadow_device *d, const struct memory *m,
		      const struct shadow_own *plan, const void *what, struct umbra_error *err)
{
	struct memory_region *table = calloc(m->count + SHADOW_OWN_REGIONS, sizeof(*table));
	unsigned int count = m->count, fitting = 0;
	int rc = 0;

	(void)what;
	if (!table)
		return error_set(err, -ENOMEM, "no memory for a table of %u regions", count);
	if (count)
		memcpy(table, m->regions, count * sizeof(*table));
	while (fitting < plan->count && shadow_own_fits(d, m->count, fitting))
		table[count++] = plan->regions[fitting++].at;
	for (unsigned int i = fitting; i < plan->count && !rc; i++)
		if (shadow_own_is_used(d, i))
			rc = error_set(
				err, -EINVAL,
				"the memory table has %u regions, which leaves no room at the "
				"back-end for the running shadow rings",
				m->count);
	if (!rc)
		rc = d->backend->ops->set_memory(d->backend, table, count, err);
	for (unsigned int i = 0; i < plan->count && !rc; i++)
		shadow_own_put(d, i, &plan->regions[i], i < fitting);
	free(table);
	return rc;
}

int shadow_set_memory(struct virtio_device *self, const struct memory_region *regions,
		      unsigned int count, struct umbra_error *err)
{
	struct shadow_device *d = shadow_of(self);
	struct memory *m;
	int rc = shadow_backend_check(d, err);

	if (!rc)
		rc = memory_create(regions, count, &m, err);
	return rc ? rc : memory_replace(d, m, tell_table, NULL, err);
}

static int tell_added(struct shadow_device *d, const struct memory *m,
		      const struct shadow_own *plan, const void *what, struct umbra_error *err)
{
	const struct memory_region *asked = what;
	const struct memory_region *region = memory_find(m, asked->gpa); /* placed, in here */
	int rc = 0;

	for (unsigned int i = 0; i < plan->count && !rc; i++)
		if (d->own.regions[i].sent || shadow_own_fits(d, m->count, i))
			rc = shadow_own_move(d, i, &plan->regions[i], err);
	return rc ? rc : d->backend->ops->add_region(d->backend, region, err);
}

int shadow_add_region(struct virtio_device *self, const struct memory_region *region,
		      struct umbra_error *err)
{
	struct shadow_device *d = shadow_of(self);
	unsigned int count = d->memory ? d->memory->count : 0;
	struct memory_region *table;
	struct memory *m;
	int rc = shadow_backend_check(d, err);

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

static int tell_removed(struct shadow_device *d, const struct memory *m,
			const struct shadow_own *plan, const void *what, struct umbra_error *err)
{
	(void)m;
	(void)plan; /* in a smaller table nothing is in the way */
	return d->backend->ops->remove_region(d->backend, what, err);
}

int shadow_remove_region(struct virtio_device *self, const struct memory_region *region,
			 struct umbra_error *err)
{
	struct shadow_device *d = shadow_of(self);
	struct memory_region *table, removed = { 0 };
	unsigned int remaining = 0;
	struct memory *m;
	int rc = shadow_backend_check(d, err);

	if (rc)
		return rc;
	table = calloc(d->memory ? d->memory->count + 1 : 1, sizeof(*table));
	if (!table)
		return error_set(err, -ENOMEM, "no memory for a memory table");
	for (unsigned int i = 0; d->memory && i < d->memory->count; i++) {
		const struct memory_region *r = &d->memory->regions[i];

		if (r->gpa.v == region->gpa.v && r->uva.v == region->uva.v &&
		    r->size == region->size)
			removed = *r;
		else
			table[remaining++] = *r;
	}
	rc = removed.size ? memory_create(table, remaining, &m, err)
			  : error_set(err, -EINVAL,
				      "REM_MEM_REG: no region of 0x%" PRIx64
				      " bytes at gpa 0x%" PRIx64 " and user address 0x%" PRIx64,
				      region->size, region->gpa.v, region->uva.v);
	free(table);
	return rc ? rc : memory_replace(d, m, tell_removed, &removed, err);
}
