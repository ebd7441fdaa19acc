/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A shadow queue in front of a device that sees guest memory elsewhere.
 *
 * The guest's memory here is a plan of regions that nobody looks into: what
 * counts is which addresses the device is given.  Only the guest's indirect
 * tables are read, so that the guest's ring and its tables are one more region.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/shm.h"
#include "flights.h"
#include "queue/chain_translate.h"
#include "queue/shadow_queue.h"

#define INDIRECT BIT64(VIRTIO_RING_F_INDIRECT_DESC)
#define IN_ORDER BIT64(VIRTIO_F_IN_ORDER)

#define R_BYTES 0x1000u
#define REGIONS_MAX 16u

/* Where the guest sees a region, and where the device does. */
struct place {
	uint64_t gpa, iova, size;
};

/*
 * 0 and 1 adjoin for both.  1 and 2 adjoin for the guest alone, and so do 2 and
 * 3, which the device sees the other way round.  4 stands alone.
 */
static const struct place plan[] = {
	{ 0x10000, 0x800000, R_BYTES }, { 0x11000, 0x801000, R_BYTES },
	{ 0x12000, 0x41000, R_BYTES },  { 0x13000, 0x40000, R_BYTES },
	{ 0x20000, 0x900000, R_BYTES },
};

struct rig {
	struct driver_ring guest;
	struct shadow_queue queue;
	struct device_ring device;
	struct shadow_counters counters;
	struct memory *memory;
	struct driver_layout guest_layout;
	struct ring_seg *segs, *device_segs;
	struct ring_chain got; /* what the device took last */
	void *ring_memory[4];
};

static void rig_memory(struct rig *g, const struct place *places, unsigned int count)
{
	struct memory_region regions[REGIONS_MAX + 1] = { 0 };
	struct memory *memory;
	uint64_t uva = 0x1000;

	assert_true(count <= REGIONS_MAX);
	for (unsigned int i = 0; i < count; i++) {
		regions[i] = (struct memory_region){ .gpa = { places[i].gpa },
						     .uva = { uva },
						     .size = places[i].size,
						     .host = (uint8_t *)(uintptr_t)uva };
		uva += places[i].size;
	}
	regions[count] = (struct memory_region){ .gpa = { (uintptr_t)g->ring_memory[0] },
						 .uva = { (uintptr_t)g->ring_memory[0] },
						 .size = g->guest_layout.shared_bytes,
						 .host = g->ring_memory[0] };
	assert_int_equal(memory_create(regions, count + 1, &memory, NULL), 0);
	for (unsigned int i = 0; i < memory->count; i++)
		for (unsigned int j = 0; j < count; j++)
			if (memory->regions[i].gpa.v == places[j].gpa)
				memory->regions[i].iova.v = places[j].iova;
	memory->translated = true;
	memory_unref(&g->memory);
	g->memory = memory;
	g->queue.guest.memory = memory;
	g->queue.guest.memory_hint = 0;
}

static struct driver_ring_config ring_config(struct rig *g, int which, uint16_t size,
					     uint64_t features)
{
	struct driver_layout layout = driver_ring_layout(size, features, 0);

	g->ring_memory[2 * which] = aligned_alloc(64, align_up(layout.shared_bytes, 64));
	g->ring_memory[2 * which + 1] = aligned_alloc(64, align_up(layout.private_bytes, 64));
	assert_true(g->ring_memory[2 * which] && g->ring_memory[2 * which + 1]);
	return (struct driver_ring_config){
		.size = size,
		.features = features,
		.shared = g->ring_memory[2 * which],
		.shared_addr = { (uintptr_t)g->ring_memory[2 * which] },
		.private = g->ring_memory[2 * which + 1],
	};
}

static struct rig *rig_new(uint16_t guest_size, uint64_t guest_features, uint16_t back_size,
			   uint64_t back_features)
{
	struct rig *g = calloc(1, sizeof(*g));
	struct driver_ring_config guest;
	struct shadow_queue_config config;

	assert_non_null(g);
	guest = ring_config(g, 0, guest_size, guest_features);
	g->guest_layout = driver_ring_layout(guest_size, guest_features, 0);
	assert_int_equal(driver_ring_init(&g->guest, &guest), 0);
	/* Exactly as long as promised, so that a sanitizer sees what is beyond. */
	g->segs = calloc(MAX(guest_size, back_size), sizeof(*g->segs));
	g->device_segs = calloc(back_size, sizeof(*g->device_segs));
	assert_true(g->segs && g->device_segs);
	config = (struct shadow_queue_config){
		.guest = { .split = g->guest.split, .features = guest_features },
		.back = ring_config(g, 1, back_size, back_features),
		.segs = g->segs,
		.counters = &g->counters,
		.flights = flights_new(guest_size, back_size),
	};
	assert_non_null(config.flights);
	assert_int_equal(shadow_queue_init(&g->queue, &config), 0);
	device_ring_init(&g->device, &(struct device_ring_config){ .split = g->queue.back.split,
								   .features = back_features });
	g->got.segs = g->device_segs;
	rig_memory(g, plan, ARRAY_SIZE(plan));
	return g;
}

static void rig_free(struct rig *g)
{
	for (size_t i = 0; i < ARRAY_SIZE(g->ring_memory); i++)
		free(g->ring_memory[i]);
	memory_unref(&g->memory);
	flights_free(g->queue.flights);
	free(g->segs);
	free(g->device_segs);
	free(g);
}

/* The guest's own driver: what its ring says are guest-physical addresses. */
static void guest_add(struct rig *g, const struct ring_seg *segs, uint32_t count, uint64_t token)
{
	const struct driver_seg *as_guest = (const struct driver_seg *)(const void *)segs;

	assert_int_equal(driver_ring_add(&g->guest, as_guest, count, token), 1);
	driver_ring_publish(&g->guest);
}

static int run(struct rig *g)
{
	unsigned int owed;
	int actions;

	do
		actions = shadow_queue_pass(&g->queue, &owed);
	while (actions > 0 && actions & SHADOW_MORE);
	return actions < 0 ? actions : 0;
}

static void device_takes(struct rig *g, const struct ring_seg *want, uint32_t count)
{
	assert_int_equal(device_ring_take(&g->device, &g->got), 1);
	assert_int_equal(g->got.count, count);
	for (uint32_t i = 0; i < count; i++) {
		assert_int_equal(g->got.segs[i].addr.v, want[i].addr.v);
		assert_int_equal(g->got.segs[i].len, want[i].len);
		assert_int_equal(g->got.segs[i].writable, want[i].writable);
	}
}

/* The device says that it has written @said, and the guest is told @told. */
static void device_uses(struct rig *g, uint32_t said, uint64_t token, uint32_t told)
{
	struct driver_done done;

	device_ring_complete(&g->device, g->got.head, said);
	device_ring_publish(&g->device);
	assert_int_equal(run(g), 0);
	assert_int_equal(driver_ring_get(&g->guest, &done), 1);
	assert_int_equal(done.token, token);
	assert_int_equal(done.len, told);
	assert_false(done.clamped);
}

/* ---- single chains --------------------------------------------------------- */

struct example {
	const char *name;
	struct ring_seg segs[4];
	struct ring_seg want[8];
};

/* Segments end at the first of length 0. */
static const struct example examples[] = {
	{ "one segment", { { { 0x20010 }, 16, 1 } }, { { { 0x900010 }, 16, 1 } } },
	{ "the first byte of a region", { { { 0x12000 }, 1, 0 } }, { { { 0x41000 }, 1, 0 } } },
	{ "the last byte of a region", { { { 0x12fff }, 1, 0 } }, { { { 0x41fff }, 1, 0 } } },
	{ "a whole region", { { { 0x20000 }, R_BYTES, 1 } }, { { { 0x900000 }, R_BYTES, 1 } } },
	{ "several regions",
	  { { { 0x20010 }, 16, 0 },
	    { { 0x10020 }, 32, 0 },
	    { { 0x13030 }, 48, 1 },
	    { { 0x11fff }, 1, 1 } },
	  { { { 0x900010 }, 16, 0 },
	    { { 0x800020 }, 32, 0 },
	    { { 0x40030 }, 48, 1 },
	    { { 0x801fff }, 1, 1 } } },
	{ "across a border that adjoins for both",
	  { { { 0x10ffe }, 4, 0 } },
	  { { { 0x800ffe }, 4, 0 } } },
	{ "across a border that adjoins for the guest alone",
	  { { { 0x11ffe }, 4, 0 } },
	  { { { 0x801ffe }, 2, 0 }, { { 0x41000 }, 2, 0 } } },
	{ "across a border that the device sees the other way round",
	  { { { 0x12fff }, 0x1001, 1 } },
	  { { { 0x41fff }, 1, 1 }, { { 0x40000 }, 0x1000, 1 } } },
	{ "over all that adjoins",
	  { { { 0x10000 }, 0x4000, 1 } },
	  { { { 0x800000 }, 0x2000, 1 }, { { 0x41000 }, 0x1000, 1 }, { { 0x40000 }, 0x1000, 1 } } },
	{ "cut on both sides of the border between read and write",
	  { { { 0x20000 }, 8, 0 },
	    { { 0x11ffc }, 8, 0 },
	    { { 0x12ffc }, 8, 1 },
	    { { 0x20100 }, 8, 1 } },
	  { { { 0x900000 }, 8, 0 },
	    { { 0x801ffc }, 4, 0 },
	    { { 0x41000 }, 4, 0 },
	    { { 0x41ffc }, 4, 1 },
	    { { 0x40000 }, 4, 1 },
	    { { 0x900100 }, 8, 1 } } },
	{ "the same buffer twice",
	  { { { 0x11fff }, 2, 0 }, { { 0x11fff }, 2, 1 } },
	  { { { 0x801fff }, 1, 0 },
	    { { 0x41000 }, 1, 0 },
	    { { 0x801fff }, 1, 1 },
	    { { 0x41000 }, 1, 1 } } },
};

static uint32_t segs_count(const struct ring_seg *segs, uint32_t most)
{
	uint32_t n = 0;

	while (n < most && segs[n].len)
		n++;
	return n;
}

static uint32_t bytes_writable(const struct ring_seg *segs, uint32_t count)
{
	uint32_t bytes = 0;

	for (uint32_t i = 0; i < count; i++)
		bytes += segs[i].writable ? segs[i].len : 0;
	return bytes;
}

static void a_chain_reaches_the_device_at_the_devices_addresses(void **state)
{
	(void)state;
	for (unsigned int indirect = 0; indirect < 4; indirect++) {
		uint64_t guest = indirect & 1 ? INDIRECT : 0, back = indirect & 2 ? INDIRECT : 0;

		for (size_t i = 0; i < ARRAY_SIZE(examples); i++) {
			const struct example *e = &examples[i];
			uint32_t count = segs_count(e->segs, ARRAY_SIZE(e->segs));
			uint32_t pieces = segs_count(e->want, ARRAY_SIZE(e->want));
			uint32_t writable = bytes_writable(e->segs, count);
			struct rig *g = rig_new(8, guest, 8, back);

			print_message("%s, indirect %u\n", e->name, indirect);
			guest_add(g, e->segs, count, 7);
			assert_int_equal(run(g), 0);
			device_takes(g, e->want, pieces);
			assert_int_equal(g->got.writable_bytes, writable);
			/* what it says to have written is held to the guest's chain */
			device_uses(g, UINT32_MAX, 7, writable);
			assert_int_equal(g->counters.clamped, 1);
			guest_add(g, e->segs, count, 8);
			assert_int_equal(run(g), 0);
			device_takes(g, e->want, pieces);
			device_uses(g, writable / 2, 8, writable / 2);
			assert_int_equal(g->counters.clamped, 1);
			assert_int_equal(g->counters.bytes_in, writable + writable / 2);
			rig_free(g);
		}
	}
}

static void a_snapshot_that_is_not_translated_is_left_alone(void **state)
{
	const struct ring_seg seg = { { 0x11fff }, 2, 1 };
	struct rig *g = rig_new(4, 0, 4, 0);

	(void)state;
	g->memory->translated = false;
	guest_add(g, &seg, 1, 1);
	assert_int_equal(run(g), 0);
	device_takes(g, &seg, 1);
	rig_free(g);
}

static void a_new_snapshot_counts_for_chains_that_are_taken_after_it(void **state)
{
	static const struct place moved[] = { { 0x10000, 0x800000, R_BYTES },
					      { 0x12000, 0x77000, R_BYTES } };
	const struct ring_seg kept = { { 0x10000 }, 8, 1 }, changed = { { 0x12000 }, 8, 1 };
	struct rig *g = rig_new(4, 0, 4, 0);

	(void)state;
	guest_add(g, &changed, 1, 1);
	assert_int_equal(run(g), 0);
	rig_memory(g, moved, ARRAY_SIZE(moved));
	guest_add(g, &kept, 1, 2);
	guest_add(g, &changed, 1, 3);
	assert_int_equal(run(g), 0);
	device_takes(g, &(struct ring_seg){ { 0x41000 }, 8, 1 }, 1);
	device_uses(g, 8, 1, 8);
	device_takes(g, &(struct ring_seg){ { 0x800000 }, 8, 1 }, 1);
	device_uses(g, 8, 2, 8);
	device_takes(g, &(struct ring_seg){ { 0x77000 }, 8, 1 }, 1);
	device_uses(g, 8, 3, 8);
	rig_free(g);
}

static void a_chain_that_goes_back_is_translated_anew(void **state)
{
	static const struct place moved[] = { { 0x12000, 0x77000, R_BYTES } };
	const struct ring_seg seg = { { 0x12000 }, 8, 1 };
	struct rig *g = rig_new(4, 0, 4, 0);

	(void)state;
	guest_add(g, &seg, 1, 1);
	assert_int_equal(run(g), 0);
	assert_int_equal(shadow_queue_rewind(&g->queue, ring_position_split(0)), 0);
	rig_memory(g, moved, 1);
	assert_int_equal(run(g), 0);
	device_takes(g, &(struct ring_seg){ { 0x77000 }, 8, 1 }, 1);
	rig_free(g);
}

/* ---- what does not fit ----------------------------------------------------- */

/* @count segments, of which @cut fall into two pieces. */
static uint32_t segs_cut(struct ring_seg *segs, uint32_t count, uint32_t cut)
{
	for (uint32_t i = 0; i < count; i++)
		segs[i] = (struct ring_seg){ .addr = { i < cut ? 0x11fff : 0x20000 + 16 * i },
					     .len = 2,
					     .writable = i >= count / 2 };
	return count;
}

static void a_chain_may_have_as_many_pieces_as_the_ring_has_descriptors(void **state)
{
	struct ring_seg segs[16];

	(void)state;
	for (unsigned int indirect = 0; indirect < 2; indirect++) {
		struct rig *g = rig_new(16, 0, 16, indirect ? INDIRECT : 0);

		guest_add(g, segs, segs_cut(segs, 8, 8), 1);
		assert_int_equal(run(g), 0);
		assert_int_equal(device_ring_take(&g->device, &g->got), 1);
		assert_int_equal(g->got.count, 16);
		assert_int_equal(g->got.readable, 8);
		device_uses(g, 8, 1, 8);
		guest_add(g, segs, segs_cut(segs, 16, 0), 2);
		assert_int_equal(run(g), 0);
		assert_int_equal(device_ring_take(&g->device, &g->got), 1);
		assert_int_equal(g->got.count, 16);
		rig_free(g);
	}
}

static void a_chain_with_more_pieces_is_refused_with_a_reason(void **state)
{
	struct ring_seg segs[16];
	char text[256];

	(void)state;
	for (unsigned int indirect = 0; indirect < 2; indirect++) {
		for (uint32_t count = 9; count <= 16; count++) {
			struct rig *g = rig_new(16, INDIRECT, 16, indirect ? INDIRECT : 0);

			guest_add(g, segs, segs_cut(segs, 1, 0), 1);
			guest_add(g, segs, segs_cut(segs, count, 17 - count), 2);
			assert_int_equal(run(g), -EPROTO);
			shadow_queue_error(&g->queue, text, sizeof(text));
			assert_non_null(strstr(text, "memory regions that the device sees apart"));
			assert_non_null(strstr(text, "ring takes (16)"));
			assert_int_equal(g->queue.chain.count, count);
			/* what came before it is on its way, and nothing else is */
			assert_int_equal(shadow_queue_in_flight(&g->queue), 1);
			assert_int_equal(device_ring_take(&g->device, &g->got), 1);
			assert_int_equal(device_ring_take(&g->device, &g->got), 0);
			rig_free(g);
		}
	}
}

static void a_chain_longer_than_the_ring_is_not_blamed_on_the_regions(void **state)
{
	struct ring_seg segs[8];
	struct rig *g = rig_new(8, 0, 4, 0);
	char text[256];

	(void)state;
	guest_add(g, segs, segs_cut(segs, 5, 1), 1);
	assert_int_equal(run(g), -EPROTO);
	shadow_queue_error(&g->queue, text, sizeof(text));
	assert_non_null(strstr(text, "a chain of 5 segments has more segments"));
	assert_null(strstr(text, "regions"));
	rig_free(g);
}

static void a_larger_ring_of_the_device_takes_more_pieces_than_the_guests_has(void **state)
{
	struct ring_seg segs[4];
	struct rig *g = rig_new(4, 0, 8, 0);

	(void)state;
	guest_add(g, segs, segs_cut(segs, 4, 4), 1);
	assert_int_equal(run(g), 0);
	assert_int_equal(device_ring_take(&g->device, &g->got), 1);
	assert_int_equal(g->got.count, 8);
	rig_free(g);
}

static void pieces_that_find_no_room_now_wait_for_a_completion(void **state)
{
	struct ring_seg segs[4];
	struct rig *g = rig_new(8, 0, 8, 0);

	(void)state;
	guest_add(g, segs, segs_cut(segs, 3, 3), 1);
	guest_add(g, segs, segs_cut(segs, 3, 3), 2);
	assert_int_equal(run(g), 0);
	for (uint64_t token = 1; token <= 2; token++) {
		assert_int_equal(shadow_queue_in_flight(&g->queue), 1);
		assert_int_equal(device_ring_take(&g->device, &g->got), 1);
		assert_int_equal(g->got.count, 6);
		device_uses(g, 1, token, 1);
	}
	rig_free(g);
}

/* ---- hostile guests -------------------------------------------------------- */

static void an_address_that_no_region_holds_never_reaches_the_device(void **state)
{
	static const struct ring_seg bad[] = {
		{ { 0xffff }, 2, 0 },
		{ { 0x13fff }, 2, 0 },
		{ { 0x14000 }, 1, 0 },
		{ { 0x1ffff }, 2, 0 },
		{ { 0x20fff }, 2, 0 },
		{ { 0x10000 }, UINT32_MAX, 0 },
		{ { 0 }, 1, 0 },
		{ { UINT64_MAX }, 1, 0 },
		{ { UINT64_MAX - 1 }, 2, 0 },
		{ { UINT64_MAX }, UINT32_MAX, 0 },
		{ { 0x800000 }, 1, 0 } /* an IOVA is no address of its */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		const struct ring_seg segs[] = { { { 0x11fff }, 2, 0 }, bad[i] };
		struct rig *g = rig_new(4, 0, 4, 0);

		guest_add(g, segs, 2, 1);
		assert_int_equal(run(g), -EPROTO);
		assert_int_equal(g->queue.error.fault, RING_OUTSIDE_MEMORY);
		assert_int_equal(device_ring_take(&g->device, &g->got), 0);
		rig_free(g);
	}
}

/* ---- against a reference that goes byte by byte ---------------------------- */

static uint64_t seed;

static uint64_t below(uint64_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (seed * 0x2545f4914f6cdd1du >> 16) % n;
}

struct model {
	struct place places[REGIONS_MAX];
	unsigned int count;
};

/* A few regions of a few bytes.  No two of them share a byte of the device's. */
static void model_places(struct model *m)
{
	uint64_t gpa = 0x1000, iova = 0x100000;
	unsigned int order[REGIONS_MAX];

	m->count = 1 + (unsigned int)below(REGIONS_MAX);
	for (unsigned int i = 0; i < m->count; i++) {
		gpa += below(3) ? 0 : 1 + below(100);
		m->places[i] = (struct place){ .gpa = gpa, .size = 1 + below(40) };
		gpa += m->places[i].size;
		order[i] = i;
	}
	for (unsigned int i = m->count; below(3) && i-- > 1;) {
		unsigned int j = (unsigned int)below(i + 1ul), t = order[i];

		order[i] = order[j];
		order[j] = t;
	}
	for (unsigned int i = 0; i < m->count; i++) {
		iova += below(2) ? 0 : 1 + below(100);
		m->places[order[i]].iova = iova;
		iova += m->places[order[i]].size;
	}
}

static uint64_t naive_iova(const struct model *m, uint64_t gpa)
{
	for (unsigned int i = 0; i < m->count; i++)
		if (gpa >= m->places[i].gpa && gpa - m->places[i].gpa < m->places[i].size)
			return m->places[i].iova + (gpa - m->places[i].gpa);
	return 0;
}

/* Guest memory from @gpa on. */
static uint64_t naive_rest(const struct model *m, uint64_t gpa)
{
	uint64_t n = 0;

	while (naive_iova(m, gpa + n))
		n++;
	return n;
}

static uint32_t naive_translate(const struct model *m, const struct ring_seg *segs, uint32_t count,
				struct ring_seg *out)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < count; i++) {
		for (uint32_t b = 0; b < segs[i].len; b++) {
			uint64_t iova = naive_iova(m, segs[i].addr.v + b);

			if (b && iova == out[n - 1].addr.v + out[n - 1].len)
				out[n - 1].len++;
			else
				out[n++] = (struct ring_seg){ { iova }, 1, segs[i].writable };
		}
	}
	return n;
}

static uint32_t random_chain(const struct model *m, struct ring_seg *segs, uint32_t most)
{
	uint32_t count = 1 + (uint32_t)below(most), readable = (uint32_t)below(count + 1ul);

	for (uint32_t i = 0; i < count; i++) {
		const struct place *p = &m->places[below(m->count)];
		uint64_t offset = below(3) ? below(p->size) : p->size - 1;
		uint64_t rest = naive_rest(m, p->gpa + offset);

		segs[i] = (struct ring_seg){ .addr = { p->gpa + offset },
					     .len = (uint32_t)(1 + below(below(2) ? rest
										  : MIN(rest, 8))),
					     .writable = i >= readable };
	}
	return count;
}

/* The queue's own view of the chain that it has just forwarded. */
static void chain_is_whole(const struct ring_chain *chain, const struct ring_seg *want,
			   uint32_t pieces)
{
	uint32_t writable = bytes_writable(want, pieces), readable = 0;

	while (readable < pieces && !want[readable].writable)
		readable++;
	assert_int_equal(chain->count, pieces);
	assert_int_equal(chain->readable, readable);
	assert_int_equal(chain->writable_bytes, writable);
}

#define MODEL_SIZE 16u
#define PIECES_MAX (MODEL_SIZE * REGIONS_MAX)

/* One rig, many chains; ends at the first that does not fit. */
static unsigned int model_run(unsigned int chains)
{
	uint64_t guest_features = below(2) ? INDIRECT : 0;
	uint64_t back_features = (below(2) ? INDIRECT : 0) | (below(2) ? IN_ORDER : 0);
	uint16_t guest_size = (uint16_t)(1u << below(5)), back_size = (uint16_t)(1u << below(5));
	struct rig *g = rig_new(guest_size, guest_features, back_size, back_features);
	unsigned int split = 0;
	struct model m;

	model_places(&m);
	rig_memory(g, m.places, m.count);
	for (unsigned int i = 0; i < chains; i++) {
		struct ring_seg segs[MODEL_SIZE], want[PIECES_MAX];
		uint32_t count, pieces, writable, said;

		if (!below(10)) { /* the table changes */
			model_places(&m);
			rig_memory(g, m.places, m.count);
		}
		count = random_chain(&m, segs, 1 + (uint32_t)below(guest_size));
		pieces = naive_translate(&m, segs, count, want);
		guest_add(g, segs, count, i);
		if (pieces > back_size) {
			assert_int_equal(run(g), -EPROTO);
			assert_non_null(g->queue.refusal);
			assert_int_equal(device_ring_take(&g->device, &g->got), 0);
			break;
		}
		assert_int_equal(run(g), 0);
		device_takes(g, want, pieces);
		chain_is_whole(&g->queue.chain, want, pieces);
		split += pieces > count;
		writable = bytes_writable(segs, count);
		said = (uint32_t)below(2ul * writable + 1);
		device_uses(g, said, i, MIN(said, writable));
	}
	rig_free(g);
	return split;
}

static void every_chain_agrees_with_a_translation_byte_by_byte(void **state)
{
	const char *given = getenv("UMBRA_SEED");
	unsigned int split = 0;

	(void)state;
	seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 2 + 1;
	print_message("UMBRA_SEED=%llu\n", (unsigned long long)seed);
	for (unsigned int i = 0; i < 3000; i++)
		split += model_run(60);
	assert_true(split > 3000); /* it is about chains that are cut */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_chain_reaches_the_device_at_the_devices_addresses),
		cmocka_unit_test(a_snapshot_that_is_not_translated_is_left_alone),
		cmocka_unit_test(a_new_snapshot_counts_for_chains_that_are_taken_after_it),
		cmocka_unit_test(a_chain_that_goes_back_is_translated_anew),
		cmocka_unit_test(a_chain_may_have_as_many_pieces_as_the_ring_has_descriptors),
		cmocka_unit_test(a_chain_with_more_pieces_is_refused_with_a_reason),
		cmocka_unit_test(a_chain_longer_than_the_ring_is_not_blamed_on_the_regions),
		cmocka_unit_test(a_larger_ring_of_the_device_takes_more_pieces_than_the_guests_has),
		cmocka_unit_test(pieces_that_find_no_room_now_wait_for_a_completion),
		cmocka_unit_test(an_address_that_no_region_holds_never_reaches_the_device),
		cmocka_unit_test(every_chain_agrees_with_a_translation_byte_by_byte),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
