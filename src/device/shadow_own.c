/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Our own memory at the back-end, in which the shadow rings lie.
 *
 * Theory of operation.  The back-end may lock or pin what it maps, so it maps little:
 * one region, sent with the first memory table, for the rings that the front-end
 * has named by then, at least OWN_BYTES_FIRST.  It is sent before anybody asks for
 * a shadow, because that is when a VMM sends one: no ring runs, and a new table drops
 * and remaps everything.
 *
 * Each ring gets a piece of it when it starts shadowed, as long as its layout
 * needs, and keeps it for its next lives.  Pieces are given one behind the other, and
 * taken back together: when there is no room, and no ring of a region is shadowed.
 * One whose ring was let go of with chains in flight is spoiled: a late completion may
 * still be written there, and a ring that stood there would take it for its
 * own.  It is never given again while the connection lasts.
 *
 * When more is needed,
 *
 *   - a back-end with CONFIGURE_MEM_SLOTS gets one region more (ADD_MEM_REG, which VMMs
 *     send to a running device when they plug memory in);
 *   - another one gets a new table, in which ours is larger, while it has no ring: the
 *     order of a VMM whose guest reboots.  It drops and remaps the guest's
 *     memory on that, so its first region is larger, OWN_BYTES_FIXED;
 *   - a device that is mapped and stopped as a whole is stopped whenever rings start,
 *     and its larger region takes the place of the smaller;
 *   - else, and beyond `max`, the ring cannot be shadowed, and the error says so.
 *
 * A table of the front-end's that covers the place of ours: ours moves, which the
 * back-end is told, region by region or with the whole table.  While a shadow ring is
 * in it, it cannot, and the table is refused.
 *
 * Trust.  The back-end maps this memory while the guest is passed through, too, and a
 * guest that knows its place can name it as a buffer.  That is of no consequence to
 * anybody else: nothing in it outlives the start of a ring, which lays it out anew;
 * what is read back from it are used rings and event words, which are judged as
 * a hostile device's; what it shows are addresses of the same guest's buffers; and
 * what descriptors a guest might forge there, its own device can be shown by it
 * while it is passed through.  While it is shadowed a guest cannot name it, because
 * its descriptors are judged by its own table.  Rejected: to take it away while
 * the device is passed through.  That is two messages more in each switch, of
 * which one (REM_MEM_REG of a region in use until just now) no VMM sends.
 *
 * Threads: the device's thread.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "device/shadow_device_private.h"

#define OWN_BYTES_FIRST (2ull << 20) /* three rings of 256 */
#define OWN_BYTES_FIXED (8ull << 20) /* thirteen */
#define OWN_BYTES_UNIT (2ull << 20)  /* a huge page, where the host gives one */
/* In all, if nothing else is said: so much, or more where there may be more queues; one of
 * 1024 needs 0.8 MiB. */
#define OWN_BYTES_MAX (64ull << 20)
#define OWN_BYTES_MAX_QUEUE (1ull << 20)

#define REGIONS_WITHOUT_SLOTS 8u /* vhost-user: regions in one SET_MEM_TABLE */

/* Where the hole for our own memory is looked for first: above what guests use
 * for memory, below where user space is mapped. */
#define OWN_ADDRESS_FIRST (1ull << 46)
#define OWN_ADDRESS_ALIGN (1ull << 30)

static bool meets(const struct memory_region *r, uint64_t at, uint64_t size)
{
	return (at < r->gpa.v + r->size && r->gpa.v < at + size) ||
	       (at < r->uva.v + r->size && r->uva.v < at + size);
}

/* Where what lies in the way of [@at, @at + @size) ends; 0: nothing does.  Our own region
 * number @but is not looked at. */
static uint64_t way_end(const struct memory *m, const struct shadow_own *own, unsigned int but,
			uint64_t at, uint64_t size)
{
	uint64_t end = 0;

	for (unsigned int i = 0; i < m->count; i++)
		if (meets(&m->regions[i], at, size)) {
			if (at < m->regions[i].gpa.v + m->regions[i].size)
				end = MAX(end, m->regions[i].gpa.v + m->regions[i].size);
			if (at < m->regions[i].uva.v + m->regions[i].size)
				end = MAX(end, m->regions[i].uva.v + m->regions[i].size);
		}
	for (unsigned int i = 0; i < own->count; i++)
		if (i != but && own->regions[i].at.gpa.v && meets(&own->regions[i].at, at, size))
			end = MAX(end, own->regions[i].at.gpa.v + own->regions[i].at.size);
	return end;
}

/* Put @r, our own region number @but, into a hole of guest-physical and front-end-virtual
 * space alike. */
static int region_put(const struct memory *m, const struct shadow_own *own, unsigned int but,
		      struct memory_region *r, struct umbra_error *err)
{
	uint64_t at = OWN_ADDRESS_FIRST, end;

	for (unsigned int i = 0; i <= 2 * m->count + own->count; i++) {
		end = way_end(m, own, but, at, r->size);
		if (!end) {
			r->gpa.v = r->uva.v = r->iova.v = at;
			return 0;
		}
		if (end > UINT64_MAX - r->size - OWN_ADDRESS_ALIGN)
			break;
		at = align_up(end, OWN_ADDRESS_ALIGN);
	}
	return error_set(err, -EINVAL,
			 "the memory table leaves no hole of %" PRIu64
			 " bytes for the shadow rings",
			 r->size);
}

/* --- how much there may be -------------------------------------------------- */

static uint64_t own_bytes(const struct shadow_own *own)
{
	uint64_t bytes = 0;

	for (unsigned int i = 0; i < own->count; i++)
		bytes += own->regions[i].at.size;
	return bytes;
}

static uint64_t own_bytes_max(const struct shadow_device *d)
{
	uint64_t queues = MIN(MAX(d->queues_max, lanes_count(d->lanes)), UMBRA_QUEUES_MAX);

	return d->own.max ? d->own.max : MAX(OWN_BYTES_MAX, queues * OWN_BYTES_MAX_QUEUE);
}

/* Regions that the back-end takes one by one; 0: it takes none but with a table. */
static uint64_t slots_learn(struct shadow_device *d)
{
	struct umbra_error ignored;

	if (!d->slots_max && d->backend->ops->get_memory_slots(d->backend, &d->slots_max, &ignored))
		d->slots_max = 0;
	return d->slots_max;
}

static bool is_mapped(const struct shadow_device *d)
{
	return d->backend->traits & BACKEND_MAPS;
}

bool shadow_own_fits(struct shadow_device *d, unsigned int guest_regions, unsigned int index)
{
	uint64_t learnt = slots_learn(d), slots = learnt ? learnt : REGIONS_WITHOUT_SLOTS;
	bool fits = is_mapped(d) || guest_regions + (uint64_t)index + 1 <= slots;

	if (index)
		return fits;
	d->no_shadow[0] = '\0';
	if (!fits)
		snprintf(d->no_shadow, sizeof(d->no_shadow),
			 "the guest's memory has %u regions and the back-end takes %" PRIu64
			 ": none is left for the shadow rings",
			 guest_regions, slots);
	return fits;
}

uint64_t shadow_own_slots(const struct shadow_device *d, uint64_t slots)
{
	if (slots <= 1 || d->mode == UMBRA_SHADOW_OFF)
		return 0;
	return slots >= 4 * SHADOW_OWN_REGIONS ? SHADOW_OWN_REGIONS : 1;
}

static uint64_t ring_needs(const struct shadow_device *d, const struct lane *r)
{
	struct lane_context c = shadow_lanes_context(d);

	return lane_own_bytes(r, &c, shadow_lanes_kind(d, r, true));
}

/* What all rings that were named need, whatever becomes of them. */
static uint64_t all_need(const struct shadow_device *d)
{
	uint64_t bytes = 0;

	for (unsigned int i = 0; i < lanes_count(d->lanes); i++)
		bytes += ring_needs(d, lane_at(d->lanes, i));
	return bytes;
}

/* --- pieces ----------------------------------------------------------------- */

static void piece_drop(struct lane *r)
{
	if (lane_piece(r)->at.backing)
		memory_backing_unref(lane_piece(r)->at.backing);
	lane_piece(r)->at = (struct memory_region){ 0 };
}

static bool lies_in(const struct lane *r, const struct own_region *o)
{
	return lane_piece(r)->at.backing && lane_piece(r)->at.backing == o->at.backing;
}

/* Is a shadow in it, whether it runs or is broken? */
static bool region_is_used(const struct shadow_device *d, const struct own_region *o)
{
	for (unsigned int i = 0; i < lanes_count(d->lanes); i++) {
		const struct lane *r = lane_at(d->lanes, i);

		if (lane_has_queue(r) && lies_in(r, o))
			return true;
	}
	return false;
}

/* Nobody is in it: what was given is free again, but for what is spoiled. */
static void region_clear(struct shadow_device *d, struct own_region *o)
{
	for (unsigned int i = 0; i < lanes_count(d->lanes); i++) {
		struct lane *r = lane_at(d->lanes, i);

		if (!lies_in(r, o))
			continue;
		o->spoiled |= lane_piece(r)->is_spoiled;
		lane_piece(r)->is_spoiled = false;
		piece_drop(r);
	}
	if (!o->spoiled)
		o->given = 0;
}

static bool piece_find(struct shadow_device *d, struct lane *r, uint64_t bytes)
{
	struct shadow_own *own = &d->own;

	for (unsigned int i = 0; i < own->count; i++) {
		struct own_region *o = &own->regions[i];

		if (!lies_in(r, o))
			continue;
		if (o->sent && lane_piece(r)->at.size >= bytes && !lane_piece(r)->is_spoiled)
			return true;
		o->spoiled |= lane_piece(r)->is_spoiled;
	}
	piece_drop(r);
	lane_piece(r)->is_spoiled = false;
	for (unsigned int i = 0; i < own->count; i++) {
		struct own_region *o = &own->regions[i];

		if (!o->sent || bytes > o->at.size - o->given)
			continue;
		lane_piece(r)->at = (struct memory_region){
			.gpa = { o->at.gpa.v + o->given },
			.uva = { o->at.uva.v + o->given },
			.iova = { o->at.iova.v + o->given },
			.size = bytes,
			.host = o->at.host + o->given,
			.backing = o->at.backing,
		};
		memory_backing_ref(lane_piece(r)->at.backing);
		o->given += bytes;
		return true;
	}
	return false;
}

static bool needs_piece(const struct shadow_device *d, const struct lane *r,
			const struct lane *only, bool shadowed)
{
	return shadow_begin_includes(r, only) && shadow_lanes_kind(d, r, shadowed) != LANE_PASSED;
}

/* A piece for each ring that is about to start: what is missing, in bytes. */
static uint64_t pieces_find(struct shadow_device *d, const struct lane *only, bool shadowed)
{
	uint64_t missing = 0;

	for (unsigned int i = 0; i < lanes_count(d->lanes); i++) {
		struct lane *r = lane_at(d->lanes, i);
		uint64_t bytes = ring_needs(d, r);

		if (needs_piece(d, r, only, shadowed) && !piece_find(d, r, bytes))
			missing += bytes;
	}
	return missing;
}

/* --- growing ---------------------------------------------------------------- */

static bool can_add(struct shadow_device *d)
{
	return !is_mapped(d) && slots_learn(d) && d->own.count < SHADOW_OWN_REGIONS &&
	       shadow_own_fits(d, d->memory->count, d->own.count);
}

/* Has the back-end no ring that a new table could take away? */
static bool can_renew(const struct shadow_device *d)
{
	if (shadow_backend_runs_as_one(d)) /* nothing has been started yet */
		return true;
	for (unsigned int i = 0; i < lanes_count(d->lanes); i++)
		if (lane_is_at_backend(lane_at(d->lanes, i)))
			return false;
	return true;
}

static int region_add(struct shadow_device *d, uint64_t size, struct umbra_error *err)
{
	struct own_region *o = &d->own.regions[d->own.count];
	int rc;

	*o = (struct own_region){ .sent = true };
	rc = d->host->ops->make_memory(d->host, size, &o->at, err);
	if (rc)
		return rc;
	rc = region_put(d->memory, &d->own, d->own.count, &o->at, err);
	if (!rc)
		rc = d->backend->ops->add_region(d->backend, &o->at, err);
	if (rc) {
		memory_backing_unref(o->at.backing);
		return rc;
	}
	d->own.count++;
	return 0;
}

/* One larger region instead of those that are there, which nobody is in. */
static int region_renew(struct shadow_device *d, uint64_t size, struct umbra_error *err)
{
	struct shadow_own none = { .count = 0 };
	struct own_region larger = { .sent = true };
	struct memory_region *table;
	unsigned int count = d->memory->count;
	int rc = d->host->ops->make_memory(d->host, size, &larger.at, err);

	if (rc)
		return rc;
	table = calloc(count + 1, sizeof(*table));
	if (!table)
		rc = error_set(err, -ENOMEM, "no memory for a table of %u regions", count);
	if (!rc)
		rc = region_put(d->memory, &none, 0, &larger.at, err);
	if (!rc && d->backend->ops->place_memory)
		rc = d->backend->ops->place_memory(d->backend, d->memory, &larger.at, err);
	if (!rc) {
		if (count)
			memcpy(table, d->memory->regions, count * sizeof(*table));
		table[count] = larger.at;
		rc = d->backend->ops->set_memory(d->backend, table, count + 1, err);
	}
	free(table);
	if (rc) {
		memory_backing_unref(larger.at.backing);
		return rc;
	}
	for (unsigned int i = 0; i < d->own.count; i++) {
		region_clear(d, &d->own.regions[i]);
		memory_backing_unref(d->own.regions[i].at.backing);
	}
	d->own.regions[0] = larger;
	d->own.count = 1;
	return 0;
}

static uint64_t round_up(uint64_t bytes, uint64_t most)
{
	return MIN(align_up(bytes, OWN_BYTES_UNIT), most);
}

/* @only: as of shadow_own_find(). */
static int refuse(const struct shadow_device *d, const struct lane *only, uint64_t missing,
		  struct umbra_error *err)
{
	int rc = error_set(err, -EOPNOTSUPP,
			   "%" PRIu64 " KiB more of shadow memory are needed than the %" PRIu64
			   " KiB that the back-end has, of %" PRIu64
			   " KiB that it may have (--shadow-memory)%s",
			   missing >> 10, own_bytes(&d->own) >> 10, own_bytes_max(d) >> 10,
			   is_mapped(d) || d->slots_max
				   ? ""
				   : ", and without CONFIGURE_MEM_SLOTS it gets more only while "
				     "none of its queues runs");

	return only ? error_prefix(err, rc, "queue %u", lane_index(only)) : rc;
}

/* What is there is @missing bytes short. */
static int own_grow(struct shadow_device *d, const struct lane *only, uint64_t missing,
		    struct umbra_error *err)
{
	uint64_t have = own_bytes(&d->own), most = own_bytes_max(d), all = all_need(d);

	if (can_add(d)) {
		/* So much that SHADOW_OWN_REGIONS of them reach the bound; at least as much again.
		 */
		uint64_t left = most - MIN(have, most);
		uint64_t last = d->own.count + 1 == SHADOW_OWN_REGIONS ? left : have;
		uint64_t size = round_up(MAX(missing, last), left);

		return size >= missing ? region_add(d, size, err) : refuse(d, only, missing, err);
	}
	if (can_renew(d) && round_up(all, most) >= all)
		return region_renew(d, MAX(round_up(all, most), MIN(have, most)), err);
	return refuse(d, only, missing, err);
}

int shadow_own_find(struct shadow_device *d, const struct lane *only, bool shadowed,
		    struct umbra_error *err)
{
	uint64_t missing = pieces_find(d, only, shadowed);
	int rc;

	if (!missing)
		return 0;
	if (!d->memory || !d->own.count)
		return error_set(
			err, -EOPNOTSUPP,
			"the queues cannot be shadowed: there is no shadow memory, because "
			"there is no memory table");
	for (unsigned int i = 0; i < d->own.count; i++)
		if (!region_is_used(d, &d->own.regions[i]))
			region_clear(d, &d->own.regions[i]);
	missing = pieces_find(d, only, shadowed);
	rc = missing ? own_grow(d, only, missing, err) : 0;
	if (!rc && pieces_find(d, only, shadowed))
		rc = refuse(d, only, missing, err);
	return rc;
}

int shadow_own_check(struct shadow_device *d, const struct lane *only, struct umbra_error *err)
{
	uint64_t missing = 0, room = 0;

	for (unsigned int i = 0; i < lanes_count(d->lanes); i++)
		if (needs_piece(d, lane_at(d->lanes, i), only, true) &&
		    !lane_piece(lane_at(d->lanes, i))->at.size)
			missing += ring_needs(d, lane_at(d->lanes, i));
	for (unsigned int i = 0; i < d->own.count; i++) {
		const struct own_region *o = &d->own.regions[i];
		bool is_free = !o->spoiled && !region_is_used(d, o);

		room += o->sent ? o->at.size - (is_free ? 0 : o->given) : 0;
	}
	if (!missing || missing <= room || !d->memory || can_renew(d))
		return 0; /* if it fails after all, its start says why */
	return can_add(d) && own_bytes(&d->own) + missing <= own_bytes_max(d)
		       ? 0
		       : refuse(d, only, missing - room, err);
}

/* --- with the guest's memory -------------------------------------------------- */

/* Make the first region if the device may need one. */
static int first_make(struct shadow_device *d, struct umbra_error *err)
{
	uint64_t most = own_bytes_max(d), bytes = MAX(all_need(d), OWN_BYTES_FIRST);
	struct own_region *o = &d->own.regions[0];
	int rc;

	if (d->own.count || (d->mode == UMBRA_SHADOW_OFF && !shadow_control_find(d)))
		return 0;
	if (!is_mapped(d) && !slots_learn(d))
		bytes = MAX(bytes, d->own.max ? d->own.max : OWN_BYTES_FIXED);
	*o = (struct own_region){ .sent = false };
	rc = d->host->ops->make_memory(d->host, round_up(bytes, most), &o->at, err);
	if (!rc)
		d->own.count = 1;
	return rc;
}

int shadow_own_plan(struct shadow_device *d, const struct memory *m, struct shadow_own *plan,
		    struct umbra_error *err)
{
	int rc = first_make(d, err);

	*plan = d->own;
	for (unsigned int i = 0; i < plan->count && !rc; i++) {
		struct memory_region *at = &plan->regions[i].at;

		if (at->gpa.v && !way_end(m, plan, i, at->gpa.v, at->size))
			continue;
		if (region_is_used(d, &d->own.regions[i]))
			return error_set(err, -EINVAL,
					 "the memory table covers 0x%" PRIx64
					 ", where the running shadow rings are",
					 at->gpa.v);
		rc = region_put(m, plan, i, at, err);
	}
	return rc;
}

int shadow_own_move(struct shadow_device *d, unsigned int index, const struct own_region *to,
		    struct umbra_error *err)
{
	struct own_region *o = &d->own.regions[index];
	bool moves = o->at.gpa.v != to->at.gpa.v;
	int rc = 0;

	if (o->sent && !moves)
		return 0;
	if (o->sent) {
		rc = d->backend->ops->remove_region(d->backend, &o->at, err);
		if (rc)
			return rc;
		log_warning("the shadow's own memory moves from 0x%" PRIx64 " to 0x%" PRIx64
			    ", because the front-end has put memory there",
			    o->at.gpa.v, to->at.gpa.v);
		o->sent = false;
	}
	rc = d->backend->ops->add_region(d->backend, &to->at, err);
	if (rc)
		return rc;
	shadow_own_put(d, index, to, true);
	return 0;
}

void shadow_own_put(struct shadow_device *d, unsigned int index, const struct own_region *to,
		    bool sent)
{
	struct own_region *o = &d->own.regions[index];

	if (o->at.gpa.v != to->at.gpa.v || o->at.iova.v != to->at.iova.v) {
		region_clear(d, o); /* the pieces are elsewhere now */
		o->at.gpa = to->at.gpa;
		o->at.uva = to->at.uva;
		o->at.iova = to->at.iova;
	}
	o->sent = sent;
}

bool shadow_own_is_used(const struct shadow_device *d, unsigned int index)
{
	return region_is_used(d, &d->own.regions[index]);
}

void shadow_own_fini(struct shadow_device *d)
{
	for (unsigned int i = 0; i < UMBRA_QUEUES_MAX; i++) {
		piece_drop(lane_at(d->lanes, i));
		lane_piece(lane_at(d->lanes, i))->is_spoiled = false;
	}
	for (unsigned int i = 0; i < d->own.count; i++)
		memory_backing_unref(d->own.regions[i].at.backing);
	d->own = (struct shadow_own){ .max = d->own.max };
}
