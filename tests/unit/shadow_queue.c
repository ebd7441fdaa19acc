/* SPDX-License-Identifier: BSD-2-Clause */
/* A shadow queue between a hostile driver and a hostile device, and between
 * rings of different size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#include "base/shm.h"
#include "flights.h"
#include "queue/shadow_queue.h"

#define INDIRECT BIT64(VIRTIO_RING_F_INDIRECT_DESC)
#define EVENT BIT64(VIRTIO_RING_F_EVENT_IDX)

/* A guest's driver, the queue, and a device, all in one address space. */
struct rig {
	struct driver_ring guest;
	struct shadow_queue queue;
	struct device_ring device;
	struct shadow_counters counters;
	struct ring_seg *segs, *device_segs;
	void *memory[4];
	uint8_t data[4096];
};

static void ring_config(struct rig *g, int which, uint16_t size, uint64_t features,
			struct driver_ring_config *config)
{
	struct driver_layout layout = driver_ring_layout(size, features, 0);

	g->memory[2 * which] = aligned_alloc(64, align_up(layout.shared_bytes, 64));
	g->memory[2 * which + 1] = aligned_alloc(64, align_up(layout.private_bytes, 64));
	assert_true(g->memory[2 * which] && g->memory[2 * which + 1]);
	*config = (struct driver_ring_config){
		.size = size,
		.features = features,
		.shared = g->memory[2 * which],
		.shared_addr = { (uintptr_t)g->memory[2 * which] },
		.private = g->memory[2 * which + 1],
	};
}

static struct rig *rig_new(uint16_t guest_size, uint64_t guest_features, uint16_t back_size,
			   uint64_t back_features)
{
	struct rig *g = calloc(1, sizeof(*g));
	struct driver_ring_config guest;
	struct shadow_queue_config config;

	assert_non_null(g);
	ring_config(g, 0, guest_size, guest_features, &guest);
	assert_int_equal(driver_ring_init(&g->guest, &guest), 0);
	g->segs = calloc(guest_size, sizeof(*g->segs));
	g->device_segs = calloc(back_size, sizeof(*g->segs));
	config = (struct shadow_queue_config){
		.guest = { .split = g->guest.split, .features = guest_features },
		.segs = g->segs,
		.counters = &g->counters,
		.flights = flights_new(guest_size, back_size),
	};
	assert_non_null(config.flights);
	ring_config(g, 1, back_size, back_features, &config.back);
	assert_int_equal(shadow_queue_init(&g->queue, &config), 0);
	device_ring_init(&g->device, &(struct device_ring_config){ .split = g->queue.back.split,
								   .features = back_features });
	return g;
}

static void rig_free(struct rig *g)
{
	for (size_t i = 0; i < ARRAY_SIZE(g->memory); i++)
		free(g->memory[i]);
	flights_free(g->queue.flights);
	free(g->segs);
	free(g->device_segs);
	free(g);
}

/* The guest adds a chain of @count segments of 16 bytes, the last one writable. */
static void guest_add(struct rig *g, unsigned int count, uint64_t token)
{
	struct driver_seg segs[64];

	assert_true(count <= 64);
	for (unsigned int i = 0; i < count; i++)
		segs[i] = (struct driver_seg){ .addr = { (uintptr_t)g->data + 16 * i },
					       .len = 16,
					       .writable = i == count - 1 };
	assert_int_equal(driver_ring_add(&g->guest, segs, count, token), 1);
	driver_ring_publish(&g->guest);
}

/* All passes until the queue sleeps; what it wanted done meanwhile. */
static int run(struct rig *g)
{
	unsigned int owed;
	int all = 0, actions;

	do {
		actions = shadow_queue_pass(&g->queue, &owed);
		if (actions < 0)
			return actions;
		all |= actions;
	} while (actions & SHADOW_MORE);
	return all;
}

/* The device takes one chain; 1 or 0, its head in *@head. */
static int device_take(struct rig *g, uint16_t *head)
{
	struct ring_chain chain = { .segs = g->device_segs };
	int rc = device_ring_take(&g->device, &chain);

	assert_true(rc >= 0);
	*head = chain.head;
	return rc;
}

static void device_use(struct rig *g, uint16_t head, uint32_t len)
{
	device_ring_complete(&g->device, head, len);
	device_ring_publish(&g->device);
}

/* A used entry, written past the device side's own checks. */
static void device_lies(struct rig *g, uint16_t at, uint32_t id, uint16_t new_idx)
{
	struct split_ring *s = &g->queue.back.split;

	shm_store32(&s->used->ring[at & (s->size - 1)].id, id);
	shm_store32(&s->used->ring[at & (s->size - 1)].len, 0);
	shm_store16_release(&s->used->idx, new_idx);
}

static void a_chain_that_finds_no_room_waits_and_is_woken_by_a_completion(void **state)
{
	struct rig *g = rig_new(16, EVENT, 4, EVENT);
	uint64_t got = 0, taken = 0;
	struct driver_done done;
	uint16_t head;

	(void)state;
	for (uint64_t i = 0; i < 5; i++)
		guest_add(g, 3, i); /* 15 descriptors for a ring of 4 */
	while (got < 5) {
		run(g);
		assert_int_equal(shadow_queue_in_flight(&g->queue), 1);
		assert_int_equal(device_take(g, &head), 1);
		device_use(g, head, 16);
		taken++;
		run(g);
		assert_int_equal(driver_ring_get(&g->guest, &done), 1);
		assert_int_equal(done.token, got);
		got++;
	}
	assert_int_equal(taken, 5);
	assert_int_equal(device_take(g, &head), 0);
	rig_free(g);
}

static void a_chain_that_can_never_fit_is_refused_with_a_reason(void **state)
{
	struct rig *g = rig_new(16, 0, 4, 0);
	char text[256];
	uint16_t head;

	(void)state;
	guest_add(g, 2, 1);
	guest_add(g, 5, 2);
	assert_int_equal(run(g), -EPROTO);
	assert_non_null(strstr(shadow_queue_error(&g->queue, text, sizeof(text)),
			       "more segments than the back-end's ring"));
	/* what came before it is on its way, and nothing else is */
	assert_int_equal(shadow_queue_in_flight(&g->queue), 1);
	assert_int_equal(device_take(g, &head), 1);
	assert_int_equal(device_take(g, &head), 0);
	rig_free(g);
}

static void an_indirect_ring_takes_chains_that_are_longer_than_its_rest(void **state)
{
	struct rig *g = rig_new(64, INDIRECT, 16, INDIRECT);

	(void)state;
	for (uint64_t i = 0; i < 16; i++)
		guest_add(g, 3, i);
	run(g);
	assert_int_equal(shadow_queue_in_flight(&g->queue), 16);
	rig_free(g);
}

static void a_used_length_beyond_the_chain_is_clamped_and_counted(void **state)
{
	struct rig *g = rig_new(4, 0, 4, 0);
	struct driver_done done;
	uint16_t head;

	(void)state;
	guest_add(g, 2, 7);
	run(g);
	assert_int_equal(device_take(g, &head), 1);
	device_use(g, head, 1u << 30);
	run(g);
	assert_int_equal(driver_ring_get(&g->guest, &done), 1);
	assert_int_equal(done.len, 16);
	assert_false(done.clamped); /* the guest never sees the lie */
	assert_int_equal(g->counters.clamped, 1);
	assert_int_equal(g->counters.bytes_in, 16);
	rig_free(g);
}

static void a_device_that_lies_breaks_the_queue_after_what_was_true(void **state)
{
	static const struct {
		const char *name;
		uint32_t id;
		uint16_t jump;
		enum ring_fault fault;
	} lies[] = {
		{ "an id outside the ring", 4, 2, RING_USED_ID_RANGE },
		{ "an id of no chain", 3, 2, RING_USED_NOT_IN_FLIGHT },
		{ "the same id again", UINT32_MAX, 2, RING_USED_NOT_IN_FLIGHT },
		{ "more than was given", 0, 5, RING_USED_JUMPED },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		struct rig *g = rig_new(4, 0, 4, 0);
		struct driver_done done;
		unsigned int owed = 0;
		uint16_t head;
		char text[256];
		int rc;

		print_message("%s\n", lies[i].name);
		guest_add(g, 1, 1);
		guest_add(g, 1, 2);
		run(g);
		assert_int_equal(device_take(g, &head), 1);
		device_use(g, head, 0);
		device_lies(g, 1, lies[i].id == UINT32_MAX ? head : lies[i].id, lies[i].jump);
		rc = shadow_queue_pass(&g->queue, &owed);
		assert_int_equal(rc, -EPROTO);
		assert_int_equal(g->queue.error.fault, lies[i].fault);
		assert_true(strlen(shadow_queue_error(&g->queue, text, sizeof(text))) > 20);
		if (lies[i].jump == 2) { /* the true one before it is not withheld */
			assert_true(owed & SHADOW_CALL_GUEST);
			assert_int_equal(driver_ring_get(&g->guest, &done), 1);
		}
		assert_int_equal(driver_ring_get(&g->guest, &done), 0);
		/* and it stays broken */
		assert_int_equal(shadow_queue_pass(&g->queue, &owed), -EPROTO);
		rig_free(g);
	}
}

static void a_driver_that_lies_breaks_the_queue_after_what_was_true(void **state)
{
	struct rig *g = rig_new(4, 0, 4, 0);
	struct split_ring *s = &g->guest.split;
	unsigned int owed = 0;
	uint16_t head;

	(void)state;
	guest_add(g, 1, 1);
	shm_store16(&s->avail->ring[1], 200);
	shm_store16_release(&s->avail->idx, 2);
	assert_int_equal(shadow_queue_pass(&g->queue, &owed), -EPROTO);
	assert_int_equal(g->queue.error.fault, RING_HEAD_RANGE);
	assert_true(owed & SHADOW_KICK_BACKEND);
	assert_int_equal(device_take(g, &head), 1);
	assert_int_equal(device_take(g, &head), 0);
	rig_free(g);
}

static void a_head_that_is_in_flight_breaks_the_queue_when_it_comes_again(void **state)
{
	struct rig *g = rig_new(4, 0, 4, 0);
	struct split_ring *s = &g->guest.split;
	unsigned int owed = 0;
	uint16_t head;
	char text[128];

	(void)state;
	guest_add(g, 1, 1);
	shm_store16(&s->avail->ring[1], shm_load16(&s->avail->ring[0]));
	shm_store16_release(&s->avail->idx, 2);
	assert_int_equal(shadow_queue_pass(&g->queue, &owed), -EPROTO);
	assert_string_equal(shadow_queue_error(&g->queue, text, sizeof(text)),
			    "the driver made descriptor 0 available again, before the chain that "
			    "begins there was used");
	assert_true(owed & SHADOW_KICK_BACKEND);
	assert_int_equal(device_take(g, &head), 1); /* once */
	assert_int_equal(device_take(g, &head), 0);
	assert_int_equal(shadow_queue_in_flight(&g->queue), 1);
	assert_int_equal(flight_owed(g->queue.flights), 1);
	rig_free(g);
}

static void an_abandoned_queue_never_writes_to_the_guest_again(void **state)
{
	struct rig *g = rig_new(4, 0, 4, 0);
	struct split_used before, after;
	unsigned int owed;
	uint16_t head;

	(void)state;
	guest_add(g, 1, 1);
	guest_add(g, 1, 2);
	run(g);
	assert_int_equal(device_take(g, &head), 1);
	before = *g->guest.split.used;
	shadow_queue_abandon(&g->queue);
	assert_int_equal(shadow_queue_rewind(&g->queue, ring_position_split(1)), 0);
	device_use(g, head, 0);
	assert_int_equal(shadow_queue_drain(&g->queue, &owed), 0);
	assert_int_equal(shadow_queue_in_flight(&g->queue), 0);
	after = *g->guest.split.used;
	assert_memory_equal(&before, &after, sizeof(before));
	rig_free(g);
}

static void a_base_that_was_never_reached_is_refused(void **state)
{
	struct rig *g = rig_new(4, 0, 4, 0);

	(void)state;
	guest_add(g, 1, 1);
	run(g);
	assert_int_equal(shadow_queue_rewind(&g->queue, ring_position_split(2)), -EPROTO);
	assert_int_equal(shadow_queue_rewind(&g->queue, ring_position_split(0xffff)), -EPROTO);
	assert_int_equal(shadow_queue_rewind(&g->queue, ring_position_split(0)), 0);
	assert_int_equal(shadow_queue_in_flight(&g->queue), 0);
	rig_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_chain_that_finds_no_room_waits_and_is_woken_by_a_completion),
		cmocka_unit_test(a_chain_that_can_never_fit_is_refused_with_a_reason),
		cmocka_unit_test(an_indirect_ring_takes_chains_that_are_longer_than_its_rest),
		cmocka_unit_test(a_used_length_beyond_the_chain_is_clamped_and_counted),
		cmocka_unit_test(a_device_that_lies_breaks_the_queue_after_what_was_true),
		cmocka_unit_test(a_driver_that_lies_breaks_the_queue_after_what_was_true),
		cmocka_unit_test(a_head_that_is_in_flight_breaks_the_queue_when_it_comes_again),
		cmocka_unit_test(an_abandoned_queue_never_writes_to_the_guest_again),
		cmocka_unit_test(a_base_that_was_never_reached_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
