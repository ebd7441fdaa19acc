/* SPDX-License-Identifier: BSD-2-Clause */
/* What the two sides promise together: indices that wrap, and notifications,
 * judged by the bytes in memory. */
#include "ring_rig.h"

static struct ring_seg taken_segs[SPLIT_SIZE_MAX];

struct pair {
	struct driver_rig *d;
	struct device_ring device;
	struct ring_chain chain;
};

static struct pair pair_new(uint16_t size, uint64_t features, uint16_t base)
{
	struct pair p = { .d = driver_rig_new(size, features, base), .chain.segs = taken_segs };

	device_on(&p.device, p.d, features, base);
	return p;
}

static void pair_free(struct pair *p)
{
	driver_rig_free(p->d);
}

static void add_one(struct pair *p, uint64_t token)
{
	struct driver_seg seg = { .addr = { token }, .len = 1, .writable = 1 };

	assert_int_equal(driver_ring_add(&p->d->ring, &seg, 1, token), 1);
}

static void give(struct pair *p, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		add_one(p, i);
	driver_ring_publish(&p->d->ring);
}

static void take_and_use(struct pair *p, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		assert_int_equal(device_ring_take(&p->device, &p->chain), 1);
		device_ring_complete(&p->device, p->chain.head, 0);
	}
	device_ring_publish(&p->device);
}

static void get_all(struct pair *p)
{
	struct driver_done done;

	while (driver_ring_get(&p->d->ring, &done) == 1)
		;
	assert_int_equal(p->d->ring.error.fault, RING_OK);
}

static unsigned int byte_of(const void *p, size_t i)
{
	return ((const uint8_t *)p)[i];
}

/* ---- wrapping ------------------------------------------------------------- */

static void indices_wrap_at_every_size(void **state)
{
	static const uint16_t sizes[] = { 1, 2, 4, 256, 32768 };
	static const uint64_t features[] = { 0, EVENT_IDX, INDIRECT, EVENT_IDX | IN_ORDER };

	(void)state;
	for (size_t s = 0; s < ARRAY_SIZE(sizes) * ARRAY_SIZE(features); s++) {
		uint16_t size = sizes[s / ARRAY_SIZE(features)];
		uint64_t f = features[s % ARRAY_SIZE(features)];
		struct pair p = pair_new(size, f, 65530);
		uint64_t added = 0, got = 0, taken = 0;
		struct driver_done done;

		while (got < 3 * 65536 + 10) {
			unsigned int batch = 1 + (unsigned int)(added % size);

			for (unsigned int i = 0; i < batch; i++)
				add_one(&p, added++);
			driver_ring_publish(&p.d->ring);
			for (unsigned int i = 0; i < batch; i++) {
				if (device_ring_take(&p.device, &p.chain) != 1 ||
				    p.chain.segs[0].addr.v != taken++)
					fail();
				device_ring_complete(&p.device, p.chain.head, 1);
			}
			if (device_ring_take(&p.device, &p.chain) != 0)
				fail();
			device_ring_publish(&p.device);
			for (unsigned int i = 0; i < batch; i++)
				if (driver_ring_get(&p.d->ring, &done) != 1 || done.token != got++)
					fail();
			if (driver_ring_get(&p.d->ring, &done) != 0)
				fail();
		}
		assert_int_equal(p.d->ring.last_used, (uint16_t)(65530 + got));
		assert_int_equal(shm_load16(&p.d->ring.split.avail->idx), (uint16_t)(65530 + got));
		pair_free(&p);
	}
}

/* ---- endianness, by bytes ------------------------------------------------- */

static void every_word_is_little_endian_and_in_its_place(void **state)
{
	struct pair p = pair_new(4, EVENT_IDX, 0x1233);
	struct driver_seg seg = { .addr = { UINT64_C(0x1122334455667788) },
				  .len = 0xa1b2c3d4,
				  .writable = 1 };
	const struct split_ring *s = &p.d->ring.split;
	struct driver_done done;

	(void)state;
	assert_int_equal(driver_ring_add(&p.d->ring, &seg, 1, 0), 1);
	driver_ring_publish(&p.d->ring);
	for (unsigned int i = 0; i < 8; i++)
		assert_int_equal(byte_of(s->desc, i), 0x88 - 0x11 * i);
	assert_int_equal(byte_of(s->desc, 8), 0xd4);
	assert_int_equal(byte_of(s->desc, 9), 0xc3);
	assert_int_equal(byte_of(s->desc, 10), 0xb2);
	assert_int_equal(byte_of(s->desc, 11), 0xa1);
	assert_int_equal(byte_of(s->desc, 12), F_WRITE);
	assert_int_equal(byte_of(s->desc, 13), 0);
	assert_int_equal(byte_of(s->avail, 2), 0x34);
	assert_int_equal(byte_of(s->avail, 3), 0x12);

	assert_int_equal(device_ring_take(&p.device, &p.chain), 1);
	assert_false(device_ring_arm(&p.device)); /* avail_event: 4 + 8 * 4 bytes into used */
	assert_int_equal(byte_of(s->used, 36), 0x34);
	assert_int_equal(byte_of(s->used, 37), 0x12);
	device_ring_complete(&p.device, p.chain.head, 0x01020304);
	device_ring_publish(&p.device);
	assert_int_equal(byte_of(s->used, 2), 0x34);
	assert_int_equal(byte_of(s->used, 3), 0x12);
	for (unsigned int i = 0; i < 4; i++) /* entry 0x1233 & 3 */
		assert_int_equal(byte_of(s->used, 4 + 8 * 3 + 4 + i), 4 - i);
	assert_int_equal(driver_ring_get(&p.d->ring, &done), 1);
	assert_false(driver_ring_arm(&p.d->ring)); /* used_event: 4 + 2 * 4 bytes into avail */
	assert_int_equal(byte_of(s->avail, 12), 0x34);
	assert_int_equal(byte_of(s->avail, 13), 0x12);
	pair_free(&p);
}

static void flags_are_little_endian_and_in_their_place(void **state)
{
	struct pair p = pair_new(4, 0, 0);
	const struct split_ring *s = &p.d->ring.split;

	(void)state;
	device_ring_disarm(&p.device);
	driver_ring_disarm(&p.d->ring);
	assert_int_equal(byte_of(s->used, 0), 1);
	assert_int_equal(byte_of(s->used, 1), 0);
	assert_int_equal(byte_of(s->avail, 0), 1);
	assert_int_equal(byte_of(s->avail, 1), 0);
	assert_false(device_ring_arm(&p.device));
	assert_false(driver_ring_arm(&p.d->ring));
	assert_int_equal(byte_of(s->used, 0), 0);
	assert_int_equal(byte_of(s->avail, 0), 0);
	pair_free(&p);
}

/* virtio 1.2, 2.7.7.1 and 2.7.10.1: with EVENT_IDX the flags stay 0. */
static void flags_stay_zero_with_event_idx(void **state)
{
	struct pair p = pair_new(4, EVENT_IDX, 0);

	(void)state;
	device_ring_disarm(&p.device);
	driver_ring_disarm(&p.d->ring);
	assert_int_equal(shm_load16(&p.d->ring.split.used->flags), 0);
	assert_int_equal(shm_load16(&p.d->ring.split.avail->flags), 0);
	pair_free(&p);
}

/* ---- notifications -------------------------------------------------------- */

static void the_first_publish_always_notifies(void **state)
{
	static const uint64_t features[] = { 0, EVENT_IDX };

	(void)state;
	for (size_t f = 0; f < ARRAY_SIZE(features); f++) {
		struct pair p = pair_new(4, features[f], 1000);

		assert_false(driver_ring_must_kick(&p.d->ring));
		assert_false(device_ring_must_call(&p.device));
		shm_store16(&p.d->ring.split.avail->flags, 1);
		shm_store16(&p.d->ring.split.used->flags, 1);
		give(&p, 1);
		assert_true(driver_ring_must_kick(&p.d->ring));
		take_and_use(&p, 1);
		assert_true(device_ring_must_call(&p.device));
		pair_free(&p);
	}
}

static void nothing_published_needs_no_notification(void **state)
{
	static const uint64_t features[] = { 0, EVENT_IDX };

	(void)state;
	for (size_t f = 0; f < ARRAY_SIZE(features); f++) {
		struct pair p = pair_new(4, features[f], 0);

		give(&p, 1);
		assert_true(driver_ring_must_kick(&p.d->ring));
		assert_false(driver_ring_must_kick(&p.d->ring));
		add_one(&p, 0); /* added, not published */
		assert_false(driver_ring_must_kick(&p.d->ring));
		take_and_use(&p, 1);
		assert_true(device_ring_must_call(&p.device));
		assert_false(device_ring_must_call(&p.device));
		pair_free(&p);
	}
}

static void without_event_idx_the_flags_decide(void **state)
{
	struct pair p = pair_new(4, 0, 0);

	(void)state;
	give(&p, 1);
	assert_true(driver_ring_must_kick(&p.d->ring));
	take_and_use(&p, 1);
	assert_true(device_ring_must_call(&p.device));
	get_all(&p);
	for (unsigned int i = 0; i < 10; i++) {
		bool wanted = i & 1;

		if (wanted) {
			assert_false(device_ring_arm(&p.device));
			assert_false(driver_ring_arm(&p.d->ring));
		} else {
			device_ring_disarm(&p.device);
			driver_ring_disarm(&p.d->ring);
		}
		give(&p, 2);
		assert_int_equal(driver_ring_must_kick(&p.d->ring), wanted);
		take_and_use(&p, 2);
		assert_int_equal(device_ring_must_call(&p.device), wanted);
		get_all(&p);
	}
	pair_free(&p);
}

/* One notification when the index passes the armed one, none before the next
 * arming; over more than a turn of the index. */
static void with_event_idx_each_arming_gives_one_notification(void **state)
{
	struct pair p = pair_new(8, EVENT_IDX, 65000);

	(void)state;
	give(&p, 1);
	assert_true(driver_ring_must_kick(&p.d->ring));
	take_and_use(&p, 1);
	assert_true(device_ring_must_call(&p.device));
	get_all(&p);
	for (unsigned int i = 0; i < 10000; i++) {
		if (device_ring_arm(&p.device) || driver_ring_arm(&p.d->ring))
			fail();
		for (unsigned int n = 0; n < 4; n++) {
			give(&p, 1 + i % 8);
			if (driver_ring_must_kick(&p.d->ring) != (n == 0))
				fail();
			take_and_use(&p, 1 + i % 8);
			if (device_ring_must_call(&p.device) != (n == 0))
				fail();
			get_all(&p);
		}
	}
	pair_free(&p);
}

/* The driver asks to be told only when the fourth chain is used. */
static void a_later_event_gives_a_later_call(void **state)
{
	struct pair p = pair_new(8, EVENT_IDX, 65533);

	(void)state;
	give(&p, 1);
	take_and_use(&p, 1);
	assert_true(device_ring_must_call(&p.device));
	get_all(&p);
	shm_store16(split_used_event(&p.d->ring.split), (uint16_t)(65534 + 3));
	give(&p, 8);
	for (unsigned int i = 0; i < 8; i++) {
		take_and_use(&p, 1);
		assert_int_equal(device_ring_must_call(&p.device), i == 3);
	}
	pair_free(&p);
}

/* Whatever comes back, one by one or all at once, until the ring is armed again. */
static void a_silenced_ring_is_called_for_nothing_that_is_in_flight(void **state)
{
	static const uint64_t features[] = { 0, EVENT_IDX };
	static const uint16_t sizes[] = { 1, 8, SPLIT_SIZE_MAX };

	(void)state;
	for (unsigned int i = 0; i < 2 * ARRAY_SIZE(sizes); i++) {
		uint16_t size = sizes[i / 2];
		struct pair p = pair_new(size, features[i % 2], 65530);

		give(&p, 1);
		take_and_use(&p, 1);
		(void)device_ring_must_call(&p.device);
		get_all(&p);
		for (uint32_t step = 1; step <= size; step = step < size ? size : size + 1u) {
			if (driver_ring_arm(&p.d->ring))
				fail();
			give(&p, size);
			driver_ring_silence(&p.d->ring);
			for (uint32_t n = 0; n < size; n += step) {
				take_and_use(&p, step);
				if (device_ring_must_call(&p.device))
					fail();
			}
			get_all(&p);
			assert_false(driver_ring_arm(&p.d->ring));
			give(&p, 1);
			take_and_use(&p, 1);
			assert_true(device_ring_must_call(&p.device));
			get_all(&p);
		}
		pair_free(&p);
	}
}

static void arming_says_what_came_before_it_was_seen(void **state)
{
	static const uint64_t features[] = { 0, EVENT_IDX };

	(void)state;
	for (size_t f = 0; f < ARRAY_SIZE(features); f++) {
		struct pair p = pair_new(4, features[f], 65535);

		assert_false(device_ring_arm(&p.device));
		assert_false(driver_ring_arm(&p.d->ring));
		give(&p, 2);
		assert_true(device_ring_arm(&p.device));
		assert_int_equal(device_ring_take(&p.device, &p.chain), 1);
		device_ring_complete(&p.device, p.chain.head, 0);
		assert_true(device_ring_arm(&p.device));   /* one has been seen, not taken */
		assert_false(driver_ring_arm(&p.d->ring)); /* completed, not published */
		device_ring_publish(&p.device);
		assert_true(driver_ring_arm(&p.d->ring));
		get_all(&p);
		assert_false(driver_ring_arm(&p.d->ring));
		pair_free(&p);
	}
}

/* A caller that publishes for a whole turn of the index before it asks again
 * is told to notify: the peer may have asked for any index in between. */
static void a_whole_turn_without_asking_notifies(void **state)
{
	static const unsigned int chains[] = { 65535, 65536, 65537, 2 * 65536, 131073 };

	(void)state;
	for (size_t c = 0; c < ARRAY_SIZE(chains); c++) {
		struct pair p = pair_new(4, EVENT_IDX, 77);

		give(&p, 1);
		assert_true(driver_ring_must_kick(&p.d->ring));
		take_and_use(&p, 1);
		assert_true(device_ring_must_call(&p.device));
		get_all(&p);
		assert_false(device_ring_arm(&p.device));
		assert_false(driver_ring_arm(&p.d->ring));
		for (unsigned int i = 0; i < chains[c]; i++) {
			give(&p, 1);
			take_and_use(&p, 1);
			get_all(&p);
		}
		assert_true(driver_ring_must_kick(&p.d->ring));
		assert_true(device_ring_must_call(&p.device));
		pair_free(&p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(indices_wrap_at_every_size),
		cmocka_unit_test(every_word_is_little_endian_and_in_its_place),
		cmocka_unit_test(flags_are_little_endian_and_in_their_place),
		cmocka_unit_test(flags_stay_zero_with_event_idx),
		cmocka_unit_test(the_first_publish_always_notifies),
		cmocka_unit_test(nothing_published_needs_no_notification),
		cmocka_unit_test(without_event_idx_the_flags_decide),
		cmocka_unit_test(with_event_idx_each_arming_gives_one_notification),
		cmocka_unit_test(a_later_event_gives_a_later_call),
		cmocka_unit_test(a_silenced_ring_is_called_for_nothing_that_is_in_flight),
		cmocka_unit_test(arming_says_what_came_before_it_was_seen),
		cmocka_unit_test(a_whole_turn_without_asking_notifies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
