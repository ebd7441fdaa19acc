/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Indirect tables that are longer than the ring: on the device's side, on the
 * driver's, and through a shadow queue from one to the other.
 */
#include "flights.h"
#include "ring_rig.h"

#include <stdio.h>

#include "queue/shadow_queue.h"

#define TABLE_MAX 2048u

/* ---- the device's side ------------------------------------------------------ */

/* A ring of 4 whose device takes tables of @table_max. */
static struct rig *device_new(uint32_t table_max)
{
	struct rig *g = rig_new(4, INDIRECT, 0);

	device_ring_init(&g->device, &(struct device_ring_config){ .split = g->split,
								   .memory = g->memory,
								   .features = INDIRECT,
								   .table_max = table_max });
	free(g->chain.segs);
	g->chain.segs = calloc(g->device.table_max, sizeof(*g->chain.segs));
	assert_non_null(g->chain.segs);
	return g;
}

/* Chain @head: a table of @count descriptors, all linked, the last writable. */
static void put_chain(struct rig *g, uint16_t head, uint32_t count)
{
	put_indirect(g, head, 16 * count);
	for (uint32_t i = 0; i < count; i++)
		put_table(g, i, BUF + 16 * i, 16, i + 1 < count ? F_NEXT : F_WRITE, i + 1);
	make_available(g, head);
}

static void a_table_longer_than_the_ring_is_taken_whole_and_noted(void **state)
{
	struct rig *g = device_new(TABLE_MAX);

	(void)state;
	put_chain(g, 0, 4);
	assert_int_equal(rig_take(g), 1);
	assert_int_equal(g->device.table_longest, 0); /* as long as the ring is in order */
	put_chain(g, 1, TABLE_MAX);
	assert_int_equal(rig_take(g), 1);
	assert_int_equal(g->chain.count, TABLE_MAX);
	assert_int_equal(g->chain.readable, TABLE_MAX - 1);
	for (uint32_t i = 0; i < TABLE_MAX; i++)
		assert_int_equal(g->chain.segs[i].addr.v, BUF + 16 * i);
	assert_int_equal(g->device.table_longest, TABLE_MAX);
	put_chain(g, 2, 5);
	assert_int_equal(rig_take(g), 1);
	assert_int_equal(g->device.table_longest, TABLE_MAX);
	rig_free(g);
}

static void a_table_beyond_the_bound_breaks_the_ring_with_both_numbers(void **state)
{
	static const uint32_t bounds[] = { 0, 3, 4, 5, 128, TABLE_MAX };
	char text[256], expected[256];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bounds); i++) {
		uint32_t most = MAX(bounds[i], 4u); /* never less than the ring */
		struct rig *g = device_new(bounds[i]);

		put_chain(g, 0, most);
		assert_int_equal(rig_take(g), 1);
		put_chain(g, 1, most + 1);
		expect_broken(g, RING_INDIRECT_TOO_LONG, most + 1, most);
		snprintf(
			expected, sizeof(expected),
			"the driver's chain 1 has an indirect table of %u descriptors, expected %u "
			"at most",
			most + 1, most);
		assert_string_equal(ring_error_text(&g->device.error, text, sizeof(text)),
				    expected);
		rig_free(g);
	}
}

static void a_loop_in_a_long_table_ends_at_its_length(void **state)
{
	struct rig *g = device_new(TABLE_MAX);

	(void)state;
	put_indirect(g, 0, 16 * 300);
	put_table(g, 0, BUF, 1, F_NEXT, 1);
	put_table(g, 1, BUF, 1, F_NEXT, 0);
	make_available(g, 0);
	expect_broken(g, RING_CHAIN_TOO_LONG, 300, 300);
	rig_free(g);
}

/* ---- the driver's side ------------------------------------------------------ */

static struct driver_seg segs[TABLE_MAX + 1];

static void segs_fill(uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		segs[i] = (struct driver_seg){ .addr = { BUF + 16ull * i },
					       .len = 16,
					       .writable = i == count - 1 };
}

static struct driver_ring *driver_new(struct driver_rig *d, uint16_t size, uint64_t features)
{
	struct driver_ring_config config = { .size = size,
					     .features = features,
					     .table_max = TABLE_MAX };

	d->layout = driver_ring_layout(size, features, TABLE_MAX);
	d->shared = aligned_alloc(64, align_up(d->layout.shared_bytes, 64));
	d->private = aligned_alloc(16, align_up(d->layout.private_bytes, 16));
	assert_true(d->shared && d->private);
	config.shared = d->shared;
	config.shared_addr = (iova_t){ (uintptr_t)d->shared };
	config.private = d->private;
	assert_int_equal(driver_ring_init(&d->ring, &config), 0);
	return &d->ring;
}

static void driver_free(struct driver_rig *d)
{
	free(d->shared);
	free(d->private);
}

static void every_size_of_ring_carries_the_longest_table(void **state)
{
	(void)state;
	for (uint16_t size = 1; size <= 4096; size *= 2) {
		struct driver_rig d;
		struct driver_ring *r = driver_new(&d, size, INDIRECT);
		uint32_t most = MAX(size, TABLE_MAX);

		segs_fill(TABLE_MAX);
		assert_int_equal(d.layout.longest, most);
		assert_true(d.layout.shared_bytes - d.layout.long_tables <= 256u << 10);
		if (size < TABLE_MAX) {
			struct split_desc_copy v;

			assert_int_equal(driver_ring_add(r, segs, TABLE_MAX, 7), 1);
			v = split_desc_load(&r->split.desc[0]);
			assert_int_equal(v.flags, F_INDIRECT);
			assert_int_equal(v.len, 16 * TABLE_MAX);
			assert_int_equal(r->free_count, size - 1);
			assert_int_equal(driver_ring_add(r, segs, TABLE_MAX + 1, 8), -EMSGSIZE);
		} else {
			assert_int_equal(d.layout.long_count, 0);
		}
		driver_free(&d);
	}
}

static void without_indirect_tables_the_ring_is_the_limit(void **state)
{
	struct driver_rig d;
	struct driver_ring *r = driver_new(&d, 8, 0);

	(void)state;
	segs_fill(9);
	assert_int_equal(d.layout.longest, 8);
	assert_int_equal(driver_ring_add(r, segs, 9, 0), -EMSGSIZE);
	assert_int_equal(r->error.fault, RING_OK);
	driver_free(&d);
}

/* ---- through a shadow queue -------------------------------------------------- */

struct queue_rig {
	struct driver_rig guest, back;
	struct shadow_queue queue;
	struct shadow_counters counters;
	struct device_ring device;
	struct ring_seg *queue_segs, device_segs[TABLE_MAX];
};

static struct queue_rig *queue_new(uint16_t guest_size, uint16_t back_size, uint64_t back_features)
{
	struct queue_rig *q = calloc(1, sizeof(*q));
	struct shadow_queue_config config = { 0 };

	assert_non_null(q);
	driver_new(&q->guest, guest_size, INDIRECT | EVENT_IDX);
	driver_new(&q->back, back_size, back_features); /* for its memory */
	config.guest = (struct device_ring_config){ .split = q->guest.ring.split,
						    .features = INDIRECT | EVENT_IDX,
						    .table_max = TABLE_MAX };
	config.back = (struct driver_ring_config){ .size = back_size,
						   .features = back_features,
						   .shared = q->back.shared,
						   .shared_addr = { (uintptr_t)q->back.shared },
						   .private = q->back.private,
						   .table_max = TABLE_MAX };
	config.counters = &q->counters;
	q->queue_segs = calloc(shadow_queue_segs(&config), sizeof(*q->queue_segs));
	assert_non_null(q->queue_segs);
	config.segs = q->queue_segs;
	config.flights = flights_new(guest_size, back_size);
	assert_non_null(config.flights);
	assert_int_equal(shadow_queue_init(&q->queue, &config), 0);
	device_ring_init(&q->device, &(struct device_ring_config){ .split = q->queue.back.split,
								   .features = back_features,
								   .table_max = TABLE_MAX });
	return q;
}

static void queue_free(struct queue_rig *q)
{
	driver_free(&q->guest);
	driver_free(&q->back);
	flights_free(q->queue.flights);
	free(q->queue_segs);
	free(q);
}

static void guest_add(struct queue_rig *q, uint32_t count, uint64_t token)
{
	segs_fill(count);
	assert_int_equal(driver_ring_add(&q->guest.ring, segs, count, token), 1);
	driver_ring_publish(&q->guest.ring);
}

/* All passes until the queue sleeps, and what they wanted done. */
static int queue_run(struct queue_rig *q)
{
	unsigned int owed;
	int all = 0, actions;

	do {
		actions = shadow_queue_pass(&q->queue, &owed);
		if (actions < 0)
			return actions;
		all |= actions;
	} while (actions & SHADOW_MORE);
	return all;
}

static uint16_t device_take(struct queue_rig *q, uint32_t count)
{
	struct ring_chain chain = { .segs = q->device_segs };

	assert_int_equal(device_ring_take(&q->device, &chain), 1);
	assert_int_equal(chain.count, count);
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(chain.segs[i].addr.v, BUF + 16 * i);
	return chain.head;
}

/* A disk with a seg_max of 126 on a ring of 64. */
static void a_long_table_is_forwarded_as_a_table_of_the_same_length(void **state)
{
	struct queue_rig *q = queue_new(64, 64, INDIRECT | EVENT_IDX);
	struct driver_done done;
	struct split_desc_copy v;
	uint16_t head;

	(void)state;
	guest_add(q, 128, 1);
	assert_true(queue_run(q) & QUEUE_NOTICE);
	head = device_take(q, 128);
	v = split_desc_load(&q->queue.back.split.desc[head]);
	assert_int_equal(v.flags, F_INDIRECT);
	assert_int_equal(v.len, 16 * 128);
	device_ring_complete(&q->device, head, 16);
	device_ring_publish(&q->device);
	assert_true(queue_run(q) & SHADOW_CALL_GUEST);
	assert_int_equal(driver_ring_get(&q->guest.ring, &done), 1);
	assert_int_equal(done.token, 1);
	assert_int_equal(done.len, 16);
	queue_free(q);
}

/* It is there to be seen how long they get; somebody is told once. */
static void a_long_table_is_counted_once_for_each_ring(void **state)
{
	struct queue_rig *q = queue_new(64, 64, INDIRECT | EVENT_IDX);

	(void)state;
	guest_add(q, 64, 0);
	assert_false(queue_run(q) & QUEUE_NOTICE);
	assert_int_equal(q->counters.table_longest, 0);
	guest_add(q, 65, 1);
	assert_true(queue_run(q) & QUEUE_NOTICE);
	assert_int_equal(q->counters.table_longest, 65);
	guest_add(q, 100, 2);
	guest_add(q, 65, 3);
	assert_false(queue_run(q) & QUEUE_NOTICE);
	assert_int_equal(q->counters.table_longest, 100);
	queue_free(q);
}

static void a_chain_that_finds_no_long_table_waits_and_is_woken(void **state)
{
	struct queue_rig *q = queue_new(64, 64, INDIRECT | EVENT_IDX);
	uint32_t tables = q->queue.back.layout.long_count, taken = 0;
	struct driver_done done;
	uint16_t heads[64];

	(void)state;
	assert_in_range(tables, 2, 63);
	for (uint32_t i = 0; i < tables; i++)
		guest_add(q, 128, i);
	queue_run(q);
	for (uint32_t i = 0; i < tables; i++)
		heads[taken++] = device_take(q, 128);
	for (uint32_t round = 0; round < 100; round++) {
		uint16_t head = heads[round % tables];
		struct ring_chain chain = { .segs = q->device_segs };

		/* All long tables of the shadow ring are with the device, which completes
		 * one; the guest adds the next before anybody looks. */
		assert_int_equal(q->queue.back.long_free_count, 0);
		device_ring_complete(&q->device, head, 16);
		device_ring_publish(&q->device);
		assert_int_equal(shadow_queue_in_flight(&q->queue), tables);
		queue_run(q);
		assert_int_equal(driver_ring_get(&q->guest.ring, &done), 1);
		assert_int_equal(done.token, round);
		guest_add(q, 128, round + tables);
		queue_run(q);
		assert_int_equal(device_ring_take(&q->device, &chain), 1);
		heads[round % tables] = chain.head;
	}
	queue_free(q);
}

/* The guest has more tables than the shadow ring: what does not fit waits. */
static void more_long_chains_than_tables_are_all_served_in_order(void **state)
{
	struct queue_rig *q = queue_new(64, 64, INDIRECT | EVENT_IDX);
	uint32_t given = q->queue.back.layout.long_count - 2;
	struct driver_done done;

	(void)state;
	q->queue.back.long_free_count = 2; /* two are there, the others are for ever away */
	for (uint32_t i = 0; i < given; i++)
		guest_add(q, 200, i);
	for (uint32_t i = 0; i < given; i++) {
		uint16_t head;

		queue_run(q);
		assert_int_equal(shadow_queue_in_flight(&q->queue), MIN(2u, given - i));
		head = device_take(q, 200);
		device_ring_complete(&q->device, head, 16);
		device_ring_publish(&q->device);
		queue_run(q);
		assert_int_equal(driver_ring_get(&q->guest.ring, &done), 1);
		assert_int_equal(done.token, i);
	}
	queue_free(q);
}

static void a_guest_chain_longer_than_the_devices_smaller_ring_passes(void **state)
{
	struct queue_rig *q = queue_new(256, 128, INDIRECT);

	(void)state;
	guest_add(q, 200, 1);
	assert_false(queue_run(q) & QUEUE_NOTICE); /* it is no longer than the guest's ring */
	(void)device_take(q, 200);
	queue_free(q);
}

static void a_back_end_without_tables_refuses_with_both_numbers(void **state)
{
	struct queue_rig *q = queue_new(64, 64, 0);
	char text[256];

	(void)state;
	guest_add(q, 128, 1);
	assert_int_equal(queue_run(q), -EPROTO);
	assert_string_equal(shadow_queue_error(&q->queue, text, sizeof(text)),
			    "a chain of 128 segments has more segments than the back-end's ring "
			    "takes (64), and cannot be forwarded");
	queue_free(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_table_longer_than_the_ring_is_taken_whole_and_noted),
		cmocka_unit_test(a_table_beyond_the_bound_breaks_the_ring_with_both_numbers),
		cmocka_unit_test(a_loop_in_a_long_table_ends_at_its_length),
		cmocka_unit_test(every_size_of_ring_carries_the_longest_table),
		cmocka_unit_test(without_indirect_tables_the_ring_is_the_limit),
		cmocka_unit_test(a_long_table_is_forwarded_as_a_table_of_the_same_length),
		cmocka_unit_test(a_long_table_is_counted_once_for_each_ring),
		cmocka_unit_test(a_chain_that_finds_no_long_table_waits_and_is_woken),
		cmocka_unit_test(more_long_chains_than_tables_are_all_served_in_order),
		cmocka_unit_test(a_guest_chain_longer_than_the_devices_smaller_ring_passes),
		cmocka_unit_test(a_back_end_without_tables_refuses_with_both_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
