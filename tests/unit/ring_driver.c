/* SPDX-License-Identifier: BSD-2-Clause */
/* What the driver side promises, against a device that may lie. */
#include "ring_rig.h"

static struct driver_seg segs[SPLIT_SIZE_MAX];

/* @count segments, the first @readable of them readable, 10 bytes each. */
static const struct driver_seg *make_segs(uint32_t count, uint32_t readable)
{
	for (uint32_t i = 0; i < count; i++)
		segs[i] = (struct driver_seg){ .addr = { BUF + 16ull * i },
					       .len = 10,
					       .writable = i >= readable };
	return segs;
}

static int add(struct driver_rig *d, uint32_t count, uint64_t token)
{
	return driver_ring_add(&d->ring, make_segs(count, 0), count, token);
}

static void expect_broken_used(struct driver_rig *d, enum ring_fault fault, uint64_t value,
			       uint64_t limit)
{
	struct driver_done done;

	assert_int_equal(driver_ring_get(&d->ring, &done), -EPROTO);
	assert_int_equal(d->ring.error.fault, fault);
	assert_int_equal(d->ring.error.value, value);
	assert_int_equal(d->ring.error.limit, limit);
	assert_int_equal(driver_ring_get(&d->ring, &done), -EPROTO);
	assert_int_equal(add(d, 1, 0), -EPROTO);
	assert_int_equal(driver_ring_unadd(&d->ring, 0), -EPROTO);
	assert_true(driver_ring_arm(&d->ring));
	assert_int_equal(d->ring.error.fault, fault);
}

/* ---- layout --------------------------------------------------------------- */

static void the_layout_is_bounded_and_does_not_overlap(void **state)
{
	(void)state;
	for (uint32_t size = 1; size <= SPLIT_SIZE_MAX; size *= 2) {
		struct driver_layout l = driver_ring_layout((uint16_t)size, INDIRECT, 0);
		size_t small = 16ul * l.small_len * size, large = 16ul * l.large_count * size;

		assert_true(l.ring.avail >= 16ul * size);
		assert_true(l.ring.used >= l.ring.avail + split_avail_bytes(size));
		assert_true(l.ring.total >= l.ring.used + split_used_bytes(size));
		assert_int_equal(l.ring.used % 64, 0);
		assert_true(l.small_tables >= l.ring.total);
		assert_int_equal(l.small_tables % 16, 0);
		assert_true(l.large_tables >= l.small_tables + small);
		assert_true(l.shared_bytes >= l.large_tables + large);
		assert_true(small <= 2u << 20);
		assert_true(large <= 1u << 18);
		assert_true(l.small_len <= size);
		assert_int_equal(l.large_count == 0,
				 size == 1 || l.small_len == size || size > 16384);
		l = driver_ring_layout((uint16_t)size, 0, 0);
		assert_int_equal(l.small_len + l.large_count, 0);
		assert_int_equal(l.shared_bytes, l.ring.total);
	}
}

static void impossible_sizes_are_refused(void **state)
{
	static const uint16_t sizes[] = { 0, 3, 255, 32769, 65535 };
	struct driver_ring ring;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		assert_int_equal(
			driver_ring_init(&ring, &(struct driver_ring_config){ .size = sizes[i] }),
			-EINVAL);
}

/* ---- room ----------------------------------------------------------------- */

/* Slots are counted per descriptor: 3 + 4 + 1 fill a ring of 8 exactly. */
static void chains_that_fill_the_ring_exactly_fit_and_not_one_more(void **state)
{
	struct driver_rig *d = driver_rig_new(8, 0, 0);
	bool seen[8] = { false };

	(void)state;
	assert_int_equal(add(d, 3, 0), 1);
	assert_int_equal(add(d, 4, 1), 1);
	assert_int_equal(add(d, 2, 9), 0);
	assert_int_equal(add(d, 1, 2), 1);
	assert_int_equal(add(d, 1, 9), 0);
	assert_int_equal(d->ring.free_count, 0);
	for (unsigned int c = 0; c < 3; c++) {
		uint16_t i = shm_load16(&d->ring.split.avail->ring[c]);

		for (;;) {
			struct split_desc_copy v = split_desc_load(&d->ring.split.desc[i]);

			assert_false(seen[i]);
			seen[i] = true;
			if (!(v.flags & F_NEXT))
				break;
			i = v.next;
		}
	}
	for (unsigned int i = 0; i < 8; i++)
		assert_true(seen[i]);
	driver_rig_free(d);
}

static void a_chain_without_room_leaves_the_ring_untouched(void **state)
{
	static const uint64_t features[] = { 0, INDIRECT };

	(void)state;
	for (size_t f = 0; f < ARRAY_SIZE(features); f++) {
		struct driver_rig *d = driver_rig_new(32, features[f], 65533);
		struct driver_ring before;
		uint8_t *shared = malloc(d->layout.shared_bytes);
		uint8_t *private = malloc(d->layout.private_bytes);

		assert_non_null(shared);
		assert_non_null(private);
		while (add(d, 31, 0) > 0)
			;
		memcpy(shared, d->shared, d->layout.shared_bytes);
		memcpy(private, d->private, d->layout.private_bytes);
		before = d->ring;
		assert_int_equal(add(d, 31, 1), 0);
		assert_memory_equal(shared, d->shared, d->layout.shared_bytes);
		assert_memory_equal(private, d->private, d->layout.private_bytes);
		assert_memory_equal(&before, &d->ring, sizeof(before));
		free(shared);
		free(private);
		driver_rig_free(d);
	}
}

static void what_can_never_fit_is_told_apart_from_what_must_wait(void **state)
{
	static const uint64_t features[] = { 0, INDIRECT };

	(void)state;
	for (size_t f = 0; f < ARRAY_SIZE(features); f++) {
		struct driver_rig *d = driver_rig_new(4, features[f], 0);

		assert_int_equal(add(d, 5, 0), -EMSGSIZE);
		assert_int_equal(driver_ring_add(&d->ring, segs, UINT32_MAX, 0), -EMSGSIZE);
		assert_int_equal(add(d, 0, 0), -EINVAL);
		assert_int_equal(add(d, 4, 0), 1);
		for (int i = 0; i < 4; i++)
			(void)!add(d, 1, 0);
		assert_int_equal(add(d, 1, 0), 0);
		assert_int_equal(add(d, 5, 0), -EMSGSIZE);
		assert_int_equal(d->ring.error.fault, RING_OK);
		driver_rig_free(d);
	}
}

/* An empty ring takes every chain up to its size, with and without tables. */
static void an_empty_ring_has_room_for_the_longest_chain(void **state)
{
	static const uint64_t features[] = { 0, INDIRECT, IN_ORDER, INDIRECT | IN_ORDER };

	(void)state;
	for (size_t f = 0; f < ARRAY_SIZE(features); f++) {
		for (uint32_t size = 1; size <= SPLIT_SIZE_MAX; size *= 8) {
			struct driver_rig *d = driver_rig_new((uint16_t)size, features[f], 0);
			struct driver_done done;

			for (uint16_t round = 0; round < 5; round++) {
				assert_int_equal(add(d, size, round), 1);
				driver_ring_publish(&d->ring);
				put_used(d, round,
					 shm_load16(&d->ring.split.avail->ring[round & (size - 1)]),
					 0);
				put_used_idx(d, (uint16_t)(round + 1));
				assert_int_equal(driver_ring_get(&d->ring, &done), 1);
				assert_int_equal(done.token, round);
				assert_int_equal(d->ring.free_count, size);
			}
			driver_rig_free(d);
		}
	}
}

/* Many long chains: first the large tables, then direct descriptors, then no
 * room; and every table comes back. */
static void long_chains_fall_back_to_direct_descriptors(void **state)
{
	const uint16_t size = 1024, count = 100, tables = 16;
	struct driver_rig *d = driver_rig_new(size, INDIRECT, 0);
	struct driver_done done;

	(void)state;
	assert_int_equal(d->layout.large_count, tables);
	for (unsigned int round = 0; round < 3; round++) {
		uint16_t base = d->ring.avail_idx;
		uint16_t added = 0;

		while (add(d, count, added) == 1)
			added++;
		assert_int_equal(added, tables + (size - tables) / count);
		assert_int_equal(d->ring.large_free_count, 0);
		driver_ring_publish(&d->ring);
		for (uint16_t i = 0; i < added; i++) {
			uint16_t at = (uint16_t)(base + i) & (size - 1);

			put_used(d, (uint16_t)(base + i),
				 shm_load16(&d->ring.split.avail->ring[at]), 0);
		}
		put_used_idx(d, (uint16_t)(base + added));
		for (uint16_t i = 0; i < added; i++) {
			assert_int_equal(driver_ring_get(&d->ring, &done), 1);
			assert_int_equal(done.token, i);
		}
		assert_int_equal(d->ring.free_count, size);
		assert_int_equal(d->ring.large_free_count, tables);
	}
	driver_rig_free(d);
}

/* A chain that is longer than what is free waits; the next completion makes
 * room, and it is not lost. */
static void a_chain_that_waited_fits_after_the_next_completion(void **state)
{
	struct driver_rig *d = driver_rig_new(4, 0, 0);
	struct driver_done done;

	(void)state;
	assert_int_equal(add(d, 2, 1), 1);
	assert_int_equal(add(d, 3, 2), 0);
	driver_ring_publish(&d->ring);
	put_used(d, 0, shm_load16(&d->ring.split.avail->ring[0]), 0);
	put_used_idx(d, 1);
	assert_int_equal(driver_ring_get(&d->ring, &done), 1);
	assert_int_equal(add(d, 3, 2), 1);
	driver_rig_free(d);
}

static void a_million_chains_of_three_leak_no_descriptor(void **state)
{
	static const uint64_t features[] = { 0, INDIRECT, IN_ORDER };

	(void)state;
	for (size_t f = 0; f < ARRAY_SIZE(features); f++) {
		struct driver_rig *d = driver_rig_new(256, features[f], 0);
		struct driver_done done;
		bool is_free[256] = { false };
		uint16_t used = 0, i;

		for (uint32_t n = 0; n < 1000000; n++) {
			i = shm_load16(&d->ring.split.avail->ring[used & 255]);
			assert_int_equal(add(d, 3, n), 1);
			i = shm_load16(&d->ring.split.avail->ring[used & 255]);
			driver_ring_publish(&d->ring);
			put_used(d, used, i, 30);
			put_used_idx(d, ++used);
			if (driver_ring_get(&d->ring, &done) != 1 || done.token != n ||
			    done.len != 30)
				fail();
		}
		assert_int_equal(d->ring.free_count, 256);
		i = 0; /* each descriptor can be had again, alone */
		for (uint32_t n = 0; n < 256; n++)
			assert_int_equal(add(d, 1, n), 1);
		for (uint32_t n = 0; n < 256; n++) {
			uint16_t head =
				shm_load16(&d->ring.split.avail->ring[(uint16_t)(used + n) & 255]);

			assert_false(is_free[head]);
			is_free[head] = true;
		}
		assert_int_equal(add(d, 1, 0), 0);
		driver_rig_free(d);
	}
}

/* ---- devices that lie ----------------------------------------------------- */

/* All that the device can write is rewritten at each step; the free list and
 * the links live elsewhere. */
static void a_device_that_rewrites_descriptors_harms_only_itself(void **state)
{
	static const uint64_t features[] = { 0, INDIRECT };

	(void)state;
	for (size_t f = 0; f < ARRAY_SIZE(features); f++) {
		struct driver_rig *d = driver_rig_new(8, features[f], 0);
		struct driver_done done;
		uint16_t used = 0;

		for (unsigned int n = 0; n < 1000; n++) {
			uint16_t heads[2];

			assert_int_equal(add(d, 3, n), 1);
			assert_int_equal(add(d, 5, n + 5000), 1);
			driver_ring_publish(&d->ring);
			for (unsigned int i = 0; i < 2; i++)
				heads[i] = shm_load16(&d->ring.split.avail->ring[(used + i) & 7]);
			memset(d->shared, (int)(n & 0xff), d->layout.shared_bytes);
			shm_store16(&d->ring.split.used->idx, used);
			put_used(d, used, heads[1], 50);
			put_used(d, (uint16_t)(used + 1), heads[0], 30);
			used = (uint16_t)(used + 2);
			put_used_idx(d, used);
			assert_int_equal(driver_ring_get(&d->ring, &done), 1);
			assert_int_equal(done.token, n + 5000);
			assert_int_equal(done.len, 50);
			assert_int_equal(driver_ring_get(&d->ring, &done), 1);
			assert_int_equal(done.token, n);
			assert_int_equal(d->ring.free_count, 8);
		}
		driver_rig_free(d);
	}
}

static void a_used_index_beyond_what_is_in_flight_breaks_the_ring(void **state)
{
	struct driver_rig *d = driver_rig_new(8, 0, 65535);

	(void)state;
	assert_int_equal(add(d, 1, 0), 1);
	assert_int_equal(add(d, 1, 0), 1);
	driver_ring_publish(&d->ring);
	put_used_idx(d, (uint16_t)(65535 + 3));
	expect_broken_used(d, RING_USED_JUMPED, 3, 2);
	driver_rig_free(d);
}

static void a_used_index_that_goes_back_breaks_the_ring(void **state)
{
	struct driver_rig *d = driver_rig_new(8, 0, 0);

	(void)state;
	assert_int_equal(add(d, 1, 0), 1);
	driver_ring_publish(&d->ring);
	put_used_idx(d, 65535);
	expect_broken_used(d, RING_USED_JUMPED, 65535, 1);
	driver_rig_free(d);
}

/* Back between what was got and what was seen: noticed when it is looked at. */
static void a_used_index_that_takes_chains_back_breaks_the_ring(void **state)
{
	struct driver_rig *d = driver_rig_new(8, 0, 65534);
	struct driver_done done;

	(void)state;
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(add(d, 1, i), 1);
	driver_ring_publish(&d->ring);
	for (uint16_t i = 0; i < 3; i++)
		put_used(d, (uint16_t)(65534 + i), i, 0);
	put_used_idx(d, (uint16_t)(65534 + 3));
	assert_int_equal(driver_ring_get(&d->ring, &done), 1);
	put_used_idx(d, (uint16_t)(65534 + 2));
	assert_int_equal(driver_ring_unadd(&d->ring, 2), -EPROTO);
	expect_broken_used(d, RING_USED_JUMPED, 1, 3);
	driver_rig_free(d);
}

static void a_chain_that_was_never_shown_cannot_be_used(void **state)
{
	struct driver_rig *d = driver_rig_new(8, 0, 0);

	(void)state;
	assert_int_equal(add(d, 1, 0), 1);
	put_used(d, 0, 0, 0);
	put_used_idx(d, 1);
	expect_broken_used(d, RING_USED_JUMPED, 1, 0);
	driver_rig_free(d);

	d = driver_rig_new(8, 0, 0);
	assert_int_equal(add(d, 1, 0), 1);
	driver_ring_publish(&d->ring);
	assert_int_equal(add(d, 1, 1), 1); /* gets descriptor 1; not published */
	put_used(d, 0, 1, 0);
	put_used_idx(d, 1);
	expect_broken_used(d, RING_USED_NOT_IN_FLIGHT, 1, 0);
	driver_rig_free(d);
}

static void a_used_id_outside_the_ring_breaks_it(void **state)
{
	/* 65536 and its like would be a legal id if it were cut to 16 bits */
	static const uint32_t ids[] = { 8, 9, 65535, 65536, 0x80000000, UINT32_MAX };
	static const uint64_t features[] = { 0, IN_ORDER };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		for (size_t f = 0; f < ARRAY_SIZE(features); f++) {
			struct driver_rig *d = driver_rig_new(8, features[f], 0);

			assert_int_equal(add(d, 1, 0), 1);
			driver_ring_publish(&d->ring);
			put_used(d, 0, ids[i], 0);
			put_used_idx(d, 1);
			expect_broken_used(d, RING_USED_ID_RANGE, ids[i], 8);
			driver_rig_free(d);
		}
	}
}

static void an_id_that_is_used_twice_breaks_the_ring(void **state)
{
	struct driver_rig *d = driver_rig_new(8, 0, 0);
	struct driver_done done;

	(void)state;
	assert_int_equal(add(d, 1, 0), 1);
	assert_int_equal(add(d, 1, 1), 1);
	driver_ring_publish(&d->ring);
	put_used(d, 0, 0, 0);
	put_used(d, 1, 0, 0);
	put_used_idx(d, 2);
	assert_int_equal(driver_ring_get(&d->ring, &done), 1);
	expect_broken_used(d, RING_USED_NOT_IN_FLIGHT, 0, 0);
	driver_rig_free(d);
}

static void the_middle_of_a_chain_is_no_id(void **state)
{
	struct driver_rig *d = driver_rig_new(8, 0, 0);

	(void)state;
	assert_int_equal(add(d, 3, 0), 1); /* descriptors 0, 1, 2 */
	driver_ring_publish(&d->ring);
	put_used(d, 0, 1, 0);
	put_used_idx(d, 1);
	expect_broken_used(d, RING_USED_NOT_IN_FLIGHT, 1, 0);
	driver_rig_free(d);
}

/* A length is a device's claim: it is clamped, told, and nothing breaks. */
static void a_length_beyond_the_chain_is_clamped_and_told(void **state)
{
	static const uint32_t claims[] = { 0, 19, 20, 21, UINT32_MAX };
	struct driver_rig *d = driver_rig_new(8, 0, 0);

	(void)state;
	for (uint16_t i = 0; i < ARRAY_SIZE(claims); i++) {
		struct driver_done done;

		assert_int_equal(driver_ring_add(&d->ring, make_segs(4, 2), 4, i), 1);
		driver_ring_publish(&d->ring);
		put_used(d, i, shm_load16(&d->ring.split.avail->ring[i & 7]), claims[i]);
		put_used_idx(d, (uint16_t)(i + 1));
		assert_int_equal(driver_ring_get(&d->ring, &done), 1);
		assert_int_equal(done.len, MIN(claims[i], 20));
		assert_int_equal(done.clamped, claims[i] > 20);
	}
	driver_rig_free(d);
}

static void more_than_4_gib_of_writable_bytes_do_not_wrap(void **state)
{
	struct driver_rig *d = driver_rig_new(8, 0, 0);
	struct driver_seg huge[2] = { { { 0 }, UINT32_MAX, 1 }, { { 0 }, 2, 1 } };
	struct driver_done done;

	(void)state;
	assert_int_equal(driver_ring_add(&d->ring, huge, 2, 0), 1);
	driver_ring_publish(&d->ring);
	put_used(d, 0, 0, UINT32_MAX);
	put_used_idx(d, 1);
	assert_int_equal(driver_ring_get(&d->ring, &done), 1);
	assert_true(done.len == UINT32_MAX && !done.clamped);
	driver_rig_free(d);
}

/* ---- IN_ORDER ------------------------------------------------------------- */

static void one_entry_completes_all_chains_up_to_it(void **state)
{
	struct driver_rig *d = driver_rig_new(8, IN_ORDER, 65534);
	struct driver_done done;
	uint16_t head;

	(void)state;
	for (unsigned int i = 0; i < 6; i++)
		assert_int_equal(driver_ring_add(&d->ring, make_segs(1, 0), 1, i), 1);
	driver_ring_publish(&d->ring);
	/* a batch of four, its entry at the batch's first place, then one of two */
	head = shm_load16(&d->ring.split.avail->ring[(65534 + 3) & 7]);
	put_used(d, 65534, head, 4);
	head = shm_load16(&d->ring.split.avail->ring[(65534 + 5) & 7]);
	put_used(d, (uint16_t)(65534 + 4), head, 11);
	put_used_idx(d, (uint16_t)(65534 + 6));
	for (unsigned int i = 0; i < 6; i++) {
		assert_true(driver_ring_has_used(&d->ring));
		assert_int_equal(driver_ring_get(&d->ring, &done), 1);
		assert_int_equal(done.token, i);
		assert_int_equal(done.len, i == 3 ? 4 : 10); /* those that are skipped: all */
		assert_int_equal(done.clamped, i == 5);
	}
	assert_int_equal(driver_ring_get(&d->ring, &done), 0);
	assert_false(driver_ring_has_used(&d->ring));
	driver_rig_free(d);
}

static void an_in_order_batch_may_be_the_whole_ring(void **state)
{
	static const uint16_t sizes[] = { 1, 2, 256, 32768 };

	(void)state;
	for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
		uint16_t size = sizes[s], base = 65530;
		struct driver_rig *d = driver_rig_new(size, IN_ORDER, base);
		struct driver_done done;

		for (unsigned int round = 0; round < 5; round++) {
			uint16_t last = (uint16_t)(base + size - 1);

			for (uint32_t i = 0; i < size; i++)
				assert_int_equal(add(d, 1, i), 1);
			driver_ring_publish(&d->ring);
			put_used(d, base, shm_load16(&d->ring.split.avail->ring[last & (size - 1)]),
				 0);
			base = (uint16_t)(base + size);
			put_used_idx(d, base);
			for (uint32_t i = 0; i < size; i++) {
				assert_int_equal(driver_ring_get(&d->ring, &done), 1);
				assert_int_equal(done.token, i);
			}
			assert_int_equal(driver_ring_get(&d->ring, &done), 0);
		}
		driver_rig_free(d);
	}
}

static void in_order_descriptors_follow_the_ring(void **state)
{
	struct driver_rig *d = driver_rig_new(8, IN_ORDER, 0);
	struct driver_done done;
	uint16_t expect = 0, used = 0;

	(void)state;
	for (unsigned int n = 0; n < 100; n++) {
		uint32_t count = 1 + n % 5;
		uint16_t head;

		assert_int_equal(add(d, count, n), 1);
		driver_ring_publish(&d->ring);
		head = shm_load16(&d->ring.split.avail->ring[used & 7]);
		assert_int_equal(head, expect);
		for (uint32_t i = 0; i + 1 < count; i++) {
			struct split_desc_copy v =
				split_desc_load(&d->ring.split.desc[(head + i) & 7]);

			assert_int_equal(v.next, (head + i + 1) & 7);
		}
		if (n % 7 == 3) { /* take it back, and the place with it */
			assert_int_equal(driver_ring_unadd(&d->ring, 1), 0);
			continue;
		}
		expect = (uint16_t)((expect + count) & 7);
		put_used(d, used++, head, 0);
		put_used_idx(d, used);
		assert_int_equal(driver_ring_get(&d->ring, &done), 1);
	}
	driver_rig_free(d);
}

/* The id names a chain that is in flight, but not one that the index says is
 * used; or it names one that is not in flight at all. */
static void a_bogus_in_order_id_breaks_the_ring_in_bounded_work(void **state)
{
	struct driver_rig *d = driver_rig_new(8, IN_ORDER, 0);

	(void)state;
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(add(d, 1, i), 1);
	driver_ring_publish(&d->ring);
	put_used(d, 0, 2, 0); /* the third chain, but only two are used */
	put_used_idx(d, 2);
	expect_broken_used(d, RING_USED_OUT_OF_ORDER, 2, 2);
	driver_rig_free(d);

	d = driver_rig_new(8, IN_ORDER, 0);
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(add(d, 1, i), 1);
	driver_ring_publish(&d->ring);
	put_used(d, 0, 7, 0);
	put_used_idx(d, 4);
	expect_broken_used(d, RING_USED_NOT_IN_FLIGHT, 7, 0);
	driver_rig_free(d);
}

static void an_in_order_id_from_the_past_breaks_the_ring(void **state)
{
	struct driver_rig *d = driver_rig_new(8, IN_ORDER, 0);
	struct driver_done done;

	(void)state;
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(add(d, 1, i), 1);
	driver_ring_publish(&d->ring);
	put_used(d, 0, 1, 0);
	put_used(d, 2, 1, 0); /* again, where a new one is due */
	put_used_idx(d, 3);
	assert_int_equal(driver_ring_get(&d->ring, &done), 1);
	assert_int_equal(driver_ring_get(&d->ring, &done), 1);
	expect_broken_used(d, RING_USED_NOT_IN_FLIGHT, 1, 0);
	driver_rig_free(d);
}

/* ---- taking back ---------------------------------------------------------- */

static void unadded_chains_are_the_newest_and_their_room_is_back(void **state)
{
	static const uint64_t features[] = { 0, INDIRECT, IN_ORDER };

	(void)state;
	for (size_t f = 0; f < ARRAY_SIZE(features); f++) {
		struct driver_rig *d = driver_rig_new(16, features[f], 65534);
		struct driver_done done;
		uint16_t head;

		for (unsigned int i = 0; i < 4; i++)
			assert_int_equal(add(d, 4, i), 1);
		driver_ring_publish(&d->ring);
		assert_int_equal(driver_ring_unadd(&d->ring, 3), 0);
		assert_int_equal(shm_load16(&d->ring.split.avail->idx), 65535);
		assert_int_equal(driver_ring_in_flight(&d->ring), 1);
		assert_int_equal(driver_ring_unadd(&d->ring, 2), -EINVAL);
		assert_int_equal(add(d, 12, 7), 1);
		driver_ring_publish(&d->ring);
		assert_true(driver_ring_must_kick(&d->ring));
		head = shm_load16(&d->ring.split.avail->ring[65534 & 15]);
		put_used(d, 65534, head, 0);
		head = shm_load16(&d->ring.split.avail->ring[65535 & 15]);
		put_used(d, 65535, head, 0);
		put_used_idx(d, 0);
		assert_int_equal(driver_ring_get(&d->ring, &done), 1);
		assert_int_equal(done.token, 0);
		assert_int_equal(driver_ring_get(&d->ring, &done), 1);
		assert_int_equal(done.token, 7);
		assert_int_equal(d->ring.free_count, 16);
		driver_rig_free(d);
	}
}

static void unpublished_chains_can_be_unadded_unseen(void **state)
{
	struct driver_rig *d = driver_rig_new(4, 0, 10);

	(void)state;
	assert_int_equal(add(d, 1, 0), 1);
	driver_ring_publish(&d->ring);
	assert_int_equal(add(d, 1, 1), 1);
	assert_int_equal(add(d, 1, 2), 1);
	assert_int_equal(driver_ring_unadd(&d->ring, 2), 0);
	assert_int_equal(shm_load16(&d->ring.split.avail->idx), 11);
	assert_int_equal(driver_ring_unadd(&d->ring, 1), 0);
	assert_int_equal(shm_load16(&d->ring.split.avail->idx), 10);
	assert_int_equal(d->ring.free_count, 4);
	driver_rig_free(d);
}

/* A device that completed a newer chain before an older one: the newest is
 * no longer there to be taken back, and a head that went round is no proof. */
static void a_chain_that_came_back_cannot_be_unadded(void **state)
{
	struct driver_rig *d = driver_rig_new(4, 0, 0);
	struct driver_done done;

	(void)state;
	assert_int_equal(add(d, 1, 0), 1);
	assert_int_equal(add(d, 1, 1), 1);
	driver_ring_publish(&d->ring);
	put_used(d, 0, 1, 0);
	put_used_idx(d, 1);
	assert_int_equal(driver_ring_unadd(&d->ring, 2), -EINVAL);
	assert_int_equal(driver_ring_get(&d->ring, &done), 1);
	assert_int_equal(done.token, 1);
	assert_int_equal(driver_ring_unadd(&d->ring, 1), -EINVAL);
	assert_int_equal(add(d, 1, 2), 1); /* descriptor 1 again */
	assert_int_equal(driver_ring_unadd(&d->ring, 2), -EINVAL);
	assert_int_equal(driver_ring_in_flight(&d->ring), 2);
	assert_int_equal(driver_ring_unadd(&d->ring, 1), 0);
	driver_rig_free(d);
}

/* One chain stays with the device while the index goes round: its 16-bit place
 * in the order looks new again, and must not be taken for it. */
static void a_chain_that_stays_for_a_whole_turn_of_the_index_comes_back(void **state)
{
	struct driver_rig *d = driver_rig_new(4, 0, 0);
	struct driver_done done;
	uint16_t used = 0;

	(void)state;
	assert_int_equal(add(d, 1, 4711), 1); /* descriptor 0, index 0 */
	for (uint32_t n = 0; n < 65535; n++) {
		assert_int_equal(add(d, 1, n), 1);
		driver_ring_publish(&d->ring);
		put_used(d, used, shm_load16(&d->ring.split.avail->ring[(n + 1) & 3]), 0);
		put_used_idx(d, ++used);
		if (driver_ring_get(&d->ring, &done) != 1 || done.token != n)
			fail();
	}
	assert_int_equal(d->ring.avail_idx, 0);
	assert_int_equal(add(d, 1, 5), 1); /* index 0, not published */
	put_used(d, used, 0, 0);
	put_used_idx(d, ++used);
	assert_int_equal(driver_ring_get(&d->ring, &done), 1);
	assert_int_equal(done.token, 4711);
	driver_rig_free(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_layout_is_bounded_and_does_not_overlap),
		cmocka_unit_test(impossible_sizes_are_refused),
		cmocka_unit_test(chains_that_fill_the_ring_exactly_fit_and_not_one_more),
		cmocka_unit_test(a_chain_without_room_leaves_the_ring_untouched),
		cmocka_unit_test(what_can_never_fit_is_told_apart_from_what_must_wait),
		cmocka_unit_test(an_empty_ring_has_room_for_the_longest_chain),
		cmocka_unit_test(long_chains_fall_back_to_direct_descriptors),
		cmocka_unit_test(a_chain_that_waited_fits_after_the_next_completion),
		cmocka_unit_test(a_million_chains_of_three_leak_no_descriptor),
		cmocka_unit_test(a_device_that_rewrites_descriptors_harms_only_itself),
		cmocka_unit_test(a_used_index_beyond_what_is_in_flight_breaks_the_ring),
		cmocka_unit_test(a_used_index_that_goes_back_breaks_the_ring),
		cmocka_unit_test(a_used_index_that_takes_chains_back_breaks_the_ring),
		cmocka_unit_test(a_chain_that_was_never_shown_cannot_be_used),
		cmocka_unit_test(a_used_id_outside_the_ring_breaks_it),
		cmocka_unit_test(an_id_that_is_used_twice_breaks_the_ring),
		cmocka_unit_test(the_middle_of_a_chain_is_no_id),
		cmocka_unit_test(a_length_beyond_the_chain_is_clamped_and_told),
		cmocka_unit_test(more_than_4_gib_of_writable_bytes_do_not_wrap),
		cmocka_unit_test(one_entry_completes_all_chains_up_to_it),
		cmocka_unit_test(an_in_order_batch_may_be_the_whole_ring),
		cmocka_unit_test(in_order_descriptors_follow_the_ring),
		cmocka_unit_test(a_bogus_in_order_id_breaks_the_ring_in_bounded_work),
		cmocka_unit_test(an_in_order_id_from_the_past_breaks_the_ring),
		cmocka_unit_test(unadded_chains_are_the_newest_and_their_room_is_back),
		cmocka_unit_test(unpublished_chains_can_be_unadded_unseen),
		cmocka_unit_test(a_chain_that_came_back_cannot_be_unadded),
		cmocka_unit_test(a_chain_that_stays_for_a_whole_turn_of_the_index_comes_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
