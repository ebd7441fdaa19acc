/* SPDX-License-Identifier: BSD-2-Clause */
/* What is promised of positions, of either layout, and of a look at a ring of others. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "ring/split_look.h"

/* A packed ring's place, as somebody finds it who counts one descriptor after the other. */
struct walker {
	uint16_t size, slot;
	bool wrap;
};

static uint16_t walker_place(const struct walker *w)
{
	return (uint16_t)(w->slot | (w->wrap ? 0x8000 : 0));
}

static void walker_step(struct walker *w)
{
	if (++w->slot == w->size) {
		w->slot = 0;
		w->wrap = !w->wrap;
	}
}

/* All sizes to 9, which need not be powers of two, and the largest. */
static const uint16_t sizes[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 256, 32768 };

/* @n, at most @size, more are taken. */
static void position_take(struct ring_position *p, uint16_t n, uint32_t size)
{
	p->avail = ring_place_after(p->layout, p->avail, n, size);
}

static uint16_t start_wraps(const struct ring_position *p)
{
	return p->avail >> 15 & p->used >> 15;
}

static void a_ring_begins_at_its_start(void **state)
{
	struct ring_position split = ring_position_start(RING_SPLIT);
	struct ring_position packed = ring_position_start(RING_PACKED);

	(void)state;
	assert_int_equal(split.avail | split.used, 0);
	assert_int_equal(packed.avail & packed.used & 0x7fff, 0);
	assert_int_equal(start_wraps(&packed), 1); /* virtio 1.2, 2.8.1: both counters are 1 */
	assert_true(ring_position_is_start(split) && ring_position_is_start(packed));
	position_take(&packed, 1, 4);
	assert_false(ring_position_is_start(packed));
	ring_position_complete(&packed, 1, 4);
	assert_false(ring_position_is_start(packed));
	assert_int_equal(ring_outstanding(packed, 4), 0);
}

static void packed_places_are_where_one_walks_to(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint16_t size = sizes[i], most = size > 9 ? 9 : size;
		struct walker w = { size, 0, true };
		struct ring_position p = ring_position_start(RING_PACKED);

		for (uint32_t n = 0; n < 5u * size; n++) {
			struct ring_position q = p;
			struct walker v = w;

			assert_int_equal(p.avail, walker_place(&w));
			for (uint16_t k = 0; k <= most; k++) {
				assert_int_equal(q.avail, walker_place(&v));
				assert_int_equal(ring_taken_since(q, p, size), k);
				assert_int_equal(ring_outstanding(q, size), k);
				q = p;
				position_take(&q, (uint16_t)(k + 1), size);
				walker_step(&v);
				if (k == size) /* more than a ring has is never outstanding */
					break;
			}
			position_take(&p, 1, size);
			ring_position_complete(&p, 1, size);
			walker_step(&w);
		}
	}
}

/* A full ring and an empty one have the same slots, and differ in the wrap counter. */
static void a_full_ring_is_not_an_empty_one(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct ring_position p = ring_position_start(RING_PACKED), before;

		for (uint32_t n = 0; n < 3u * sizes[i]; n++) {
			before = p;
			assert_int_equal(ring_outstanding(p, sizes[i]), 0);
			position_take(&p, sizes[i], sizes[i]);
			assert_int_equal(ring_outstanding(p, sizes[i]), sizes[i]);
			ring_position_complete(&p, sizes[i], sizes[i]);
			assert_int_equal(ring_outstanding(p, sizes[i]), 0);
			assert_int_equal(ring_used_since(p, before, sizes[i]), sizes[i]);
			position_take(&p, 1, sizes[i]);
			ring_position_complete(&p, 1, sizes[i]);
		}
	}
}

static void split_indices_run_over_16_bits(void **state)
{
	(void)state;
	for (uint32_t from = 65530; from < 65540; from++)
		for (uint16_t n = 0; n < 12; n++) {
			struct ring_position p = ring_position_split((uint16_t)from), q = p;

			position_take(&q, n, 8);
			assert_int_equal(q.avail, (uint16_t)(from + n));
			assert_int_equal(ring_taken_since(q, p, 8), n);
			assert_int_equal(ring_outstanding(q, 8), n);
			assert_int_equal(ring_outstanding(ring_position_drained(q), 8), 0);
			assert_int_equal(ring_position_drained(q).avail, q.avail);
			assert_memory_equal(
				&(struct ring_position[]){ ring_position_with(p, n, 8) }, &q,
				sizeof(q));
		}
}

/* The judge knows what a naive one finds, who walks from used to available. */
static bool stands_somewhere(struct ring_position p, struct ring_position said, uint32_t size)
{
	for (uint32_t n = 0; n <= size; n++) {
		if (said.used == p.avail)
			break;
		if (said.used == said.avail)
			return false;
		ring_position_complete(&said, 1, size);
	}
	return said.used == p.avail;
}

static void a_position_is_judged_by_what_the_ring_says(void **state)
{
	(void)state;
	for (unsigned int layout = RING_SPLIT; layout <= RING_PACKED; layout++)
		for (uint32_t size = 1; size <= 8; size++)
			for (unsigned int used = 0; used < 2 * size; used++)
				for (unsigned int open = 0; open <= size; open++)
					for (unsigned int at = 0; at < 2 * size + 4; at++) {
						struct ring_position said =
							ring_position_start(layout);
						struct ring_position p = said;

						for (unsigned int n = 0; n < used; n++) {
							position_take(&said, 1, size);
							ring_position_complete(&said, 1, size);
						}
						position_take(&said, (uint16_t)open, size);
						for (unsigned int n = 0; n < at; n++)
							position_take(&p, 1, size);
						assert_int_equal(
							ring_position_can_stand(p, said, size),
							stands_somewhere(p, said, size));
					}
}

/* What lies there is judged, too: a ring that says nonsense has no place at all. */
static void nothing_stands_on_a_ring_that_is_more_than_full(void **state)
{
	struct ring_position said = { RING_SPLIT, 9, 0 };

	(void)state;
	for (uint32_t at = 0; at <= UINT16_MAX; at++)
		assert_false(ring_position_can_stand(ring_position_split((uint16_t)at), said, 8));
	said.used = 1;
	assert_true(ring_position_can_stand(ring_position_split(5), said, 8));
	assert_false(ring_position_can_stand(ring_position_split(0), said, 8));
	assert_false(ring_position_can_stand(ring_position_split(10), said, 8));
}

/* Any number may be said: it is answered, and what is no slot of the ring stands nowhere. */
static void hostile_packed_places_stand_nowhere(void **state)
{
	(void)state;
	for (uint32_t size = 1; size <= 8; size++)
		for (uint32_t place = 0; place <= UINT16_MAX; place++) {
			struct ring_position said = ring_position_start(RING_PACKED), p = said;

			position_take(&said, (uint16_t)size, size);
			p.avail = (uint16_t)place;
			if ((place & 0x7fff) >= size)
				assert_false(ring_position_can_stand(p, said, size));
			said.used = (uint16_t)place; /* no answer is right: there must be one */
			(void)ring_outstanding(said, size);
			(void)ring_position_can_stand(p, said, size);
			position_take(&p, 1, size);
		}
}

static void the_wire_has_all_of_a_packed_position(void **state)
{
	/* The vhost-user specification: 0 to 14 avail, 15 its wrap counter, 16 to 30
	 * used, 31 its wrap counter. */
	static const struct {
		uint32_t wire;
		uint16_t avail_slot, avail_wrap, used_slot, used_wrap;
	} cases[] = {
		{ 0x00000000, 0, 0, 0, 0 },           { 0x80008000, 0, 1, 0, 1 },
		{ 0x00008001, 1, 1, 0, 0 },           { 0x80020003, 3, 0, 2, 1 },
		{ 0xffffffff, 0x7fff, 1, 0x7fff, 1 },
	};
	struct ring_position p;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(ring_position_from_wire(RING_PACKED, cases[i].wire, &p), 0);
		assert_int_equal(p.layout, RING_PACKED);
		assert_int_equal(p.avail & 0x7fff, cases[i].avail_slot);
		assert_int_equal(p.avail >> 15, cases[i].avail_wrap);
		assert_int_equal(p.used & 0x7fff, cases[i].used_slot);
		assert_int_equal(p.used >> 15, cases[i].used_wrap);
		assert_int_equal(ring_position_to_wire(p), cases[i].wire);
	}
}

static void the_wire_has_16_bits_of_a_split_position(void **state)
{
	static const uint32_t lies[] = { 0x10000, 0x12345, 0x80000000, 0xffffffff };
	struct ring_position p = { RING_SPLIT, 7, 3 };

	(void)state;
	assert_int_equal(ring_position_to_wire(p), 7);
	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		assert_int_equal(ring_position_from_wire(RING_SPLIT, lies[i], &p), -EINVAL);
		assert_int_equal(p.avail, 7); /* refused, and nothing made of it */
	}
	assert_int_equal(ring_position_from_wire(RING_SPLIT, 0xffff, &p), 0);
	assert_int_equal(p.avail, 0xffff);
	assert_int_equal(ring_outstanding(p, 8), 0);
	assert_int_equal(ring_position_to_wire(p), 0xffff);
}

/* ---- a look at a ring ----------------------------------------------------- */

#define SIZE 8u

static _Alignas(64) uint8_t bytes[1024];

static struct split_ring ring_make(uint16_t used, uint16_t avail)
{
	struct split_offsets o = split_offsets(SIZE);
	struct split_ring s = { .desc = (void *)(bytes + o.desc),
				.avail = (void *)(bytes + o.avail),
				.used = (void *)(bytes + o.used),
				.size = SIZE };

	memset(bytes, 0, sizeof(bytes));
	shm_store16(&s.used->idx, used);
	shm_store16(&s.avail->idx, avail);
	return s;
}

static void a_look_tells_what_the_ring_says(void **state)
{
	struct split_ring s = ring_make(65533, 2);
	struct ring_position at = ring_position_split(65535);

	(void)state;
	shm_store16(split_avail_event(&s), 1);
	for (uint16_t i = 0; i < SIZE; i++)
		shm_store32(&s.used->ring[i].id, 100u + i);
	assert_int_equal(split_said(&s).used, 65533);
	assert_int_equal(split_said(&s).avail, 2);
	assert_int_equal(split_said_taken(&s).used, 65533);
	assert_int_equal(split_said_taken(&s).avail, 1);
	assert_int_equal(split_outstanding(&s, at), 2);
	assert_int_equal(split_used_id(&s, (struct ring_position){ .used = 65535 }), 107);
	assert_int_equal(split_used_id(&s, (struct ring_position){ .used = 9 }), 101);
}

static void a_judged_position_knows_what_is_outstanding(void **state)
{
	struct split_ring s = ring_make(65533, 2);
	struct ring_position at = ring_position_split(65535), said;

	(void)state;
	assert_true(split_can_stand(&s, &at, &said));
	assert_int_equal(at.avail, 65535);
	assert_int_equal(at.used, 65533);
	assert_int_equal(ring_outstanding(at, SIZE), 2);
	at = ring_position_split(3);
	assert_false(split_can_stand(&s, &at, &said));
	assert_int_equal(at.used, 3); /* as it was */
	assert_int_equal(said.used, 65533);
	assert_int_equal(said.avail, 2);
	at = ring_position_split(65532);
	assert_false(split_can_stand(&s, &at, &said));
}

static void a_life_begins_where_nothing_is_used(void **state)
{
	struct split_ring s = ring_make(0, 5);

	(void)state;
	assert_true(split_begins(&s, ring_position_split(0)));
	assert_false(split_begins(&s, ring_position_split(1)));
	s = ring_make(65533, 0); /* index 0, after 65536 chains */
	assert_false(split_begins(&s, ring_position_split(0)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_ring_begins_at_its_start),
		cmocka_unit_test(packed_places_are_where_one_walks_to),
		cmocka_unit_test(a_full_ring_is_not_an_empty_one),
		cmocka_unit_test(split_indices_run_over_16_bits),
		cmocka_unit_test(a_position_is_judged_by_what_the_ring_says),
		cmocka_unit_test(nothing_stands_on_a_ring_that_is_more_than_full),
		cmocka_unit_test(hostile_packed_places_stand_nowhere),
		cmocka_unit_test(the_wire_has_all_of_a_packed_position),
		cmocka_unit_test(the_wire_has_16_bits_of_a_split_position),
		cmocka_unit_test(a_look_tells_what_the_ring_says),
		cmocka_unit_test(a_judged_position_knows_what_is_outstanding),
		cmocka_unit_test(a_life_begins_where_nothing_is_used),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
