/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The in-flight region: what is written is read, and regions that lie.  What a kill leaves is
 * tests/kill.
 *
 * The random test prints its seed; UMBRA_SEED=seed repeats one.
 */
#include "flight/region.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "flight/region_judge.h"
#include "random.h"

#define HEADS 8u
#define SIZE 16u /* of the region: more than the ring has */
#define BASE 65533u

static struct {
	uint8_t memory[4096] __attribute__((aligned(64)));
	uint8_t table_memory[4096] __attribute__((aligned(64)));
	struct region_map map;
	struct region_queue *q;
	struct flight_table table;
	struct flight list[HEADS], judged_list[HEADS];
	struct region_judged judged;
	struct umbra_error err;
	uint16_t used, avail; /* the guest's ring */
} t;

static struct ring_position said(void)
{
	return (struct ring_position){ RING_SPLIT, t.avail, t.used };
}

static void table_make(void)
{
	assert_int_equal(
		flight_format(&t.table,
			      &(struct flight_config){ .sizes = { .heads = HEADS, .ids = HEADS },
						       .memory = t.table_memory,
						       .list = t.list,
						       .at = ring_position_split(t.used) }),
		0);
}

/* A ring at @base of which nothing is in flight, kept in region 1 of 2. */
static int setup(void **state)
{
	(void)state;
	memset(&t, 0xa5, sizeof(t));
	t.used = t.avail = BASE;
	region_map(&t.map, t.memory, region_bytes(2, SIZE), 2, SIZE, true);
	t.q = region_queue_at(&t.map, 1);
	table_make();
	flight_keep(&t.table, t.q, SIZE);
	flight_stand(&t.table, said());
	return 0;
}

static void take(uint16_t head)
{
	struct flight_entry *e = flight_entry(&t.table, head);

	flight_prepare(&t.table, e, head, true, 1);
	flight_take(&t.table, e);
	t.avail++;
}

static int judge(void)
{
	return region_flights(t.q, SIZE, HEADS, said(), t.judged_list, &t.judged, &t.err);
}

static void says(unsigned int count, const uint16_t *heads)
{
	if (judge())
		fail_msg("%s", t.err.text);
	assert_true(t.judged.is_kept);
	assert_int_equal(t.judged.count, count);
	for (unsigned int i = 0; i < count; i++)
		assert_int_equal(t.judged.list[i].head, heads[i]);
}

/* After @lie the region is refused with @code, in words that have @text. */
#define refuses(lie, code, words)                                                                  \
	do {                                                                                       \
		setup(NULL);                                                                       \
		take(3);                                                                           \
		take(5);                                                                           \
		says(2, (const uint16_t[]){ 3, 5 });                                               \
		lie;                                                                               \
		assert_int_equal(judge(), code);                                                   \
		if (!strstr(t.err.text, words))                                                    \
			fail_msg("\"%s\" has not \"%s\"", t.err.text, words);                      \
	} while (0)

/* ---- what is kept ------------------------------------------------------------------- */

static void test_what_is_in_flight_is_read_in_the_order_in_which_it_was_taken(void **state)
{
	(void)state;
	says(0, NULL);
	take(6);
	take(0);
	take(4);
	says(3, (const uint16_t[]){ 6, 0, 4 });
	flight_note(&t.table, 0);
	flight_close(&t.table);
	says(3, (const uint16_t[]){ 6, 0, 4 });
	t.used++;
	says(2, (const uint16_t[]){ 6, 4 }); /* its mark stands still */
	flight_publish(&t.table);
	says(2, (const uint16_t[]){ 6, 4 });
	take(0);
	says(3, (const uint16_t[]){ 6, 4, 0 });
	assert_int_equal(t.judged.used, (uint16_t)(BASE + 1));
}

static void test_what_goes_back_to_the_ring_is_not_in_flight(void **state)
{
	(void)state;
	take(6);
	take(0);
	flight_untake(&t.table, 0);
	t.avail--;
	says(1, (const uint16_t[]){ 6 });
}

static void test_what_is_given_up_stays(void **state)
{
	(void)state;
	take(6);
	flight_hand_over(&t.table);
	flight_lose(&t.table, 6);
	says(1, (const uint16_t[]){ 6 });
}

static void test_a_ring_that_begins_anew_has_none(void **state)
{
	(void)state;
	take(6);
	flight_forget(&t.table);
	assert_int_equal(judge(), 0);
	assert_false(t.judged.is_kept);
	t.used = t.avail = 7;
	flight_stand(&t.table, said());
	says(0, NULL);
	assert_true(flight_is_kept(&t.table));
}

static void test_a_ring_with_chains_that_nobody_knows_is_not_kept(void **state)
{
	(void)state;
	t.avail += 2;
	flight_stand(&t.table, said());
	assert_false(flight_is_kept(&t.table));
	assert_int_equal(judge(), 0);
	assert_false(t.judged.is_kept);
}

static void test_a_successor_goes_on_above_what_it_finds(void **state)
{
	(void)state;
	take(6);
	take(0);
	take(4);
	flight_note(&t.table, 0);
	flight_close(&t.table);
	t.used++;
	says(2, (const uint16_t[]){ 6, 4 });
	memset(t.table_memory, 0xa5, sizeof(t.table_memory));
	table_make();
	flight_adopt(&t.table, t.q, SIZE, &t.judged);
	assert_true(flight_stands(&t.table, said()));
	assert_int_equal(flight_list(&t.table), 2);
	assert_int_equal(t.list[0].head, 6);
	assert_int_equal(t.list[1].head, 4);
	for (unsigned int i = 0; i < 2; i++)
		assert_true(flight_waits(&t.list[i]) && t.list[i].asks);
	says(2, (const uint16_t[]){ 6, 4 });
	take(1);
	says(3, (const uint16_t[]){ 6, 4, 1 });
	assert_int_equal(shm_load16(&t.q->used_idx), t.used);
	assert_int_equal(shm_load8(&t.q->desc[0].inflight), 0);
}

/* ---- what is refused ------------------------------------------------------------------ */

static void test_a_region_that_contradicts_itself_or_the_ring_is_refused(void **state)
{
	(void)state;
	refuses(shm_store16(&t.q->version, 2), -EINVAL, "its version is 2, expected 1");
	refuses(shm_store16(&t.q->desc_num, 8), -EPROTO, "it is of 8 entries");
	refuses(t.used += HEADS + 1, -EPROTO, "expected at most 8 more");
	refuses((t.used++, shm_store16(&t.q->last_batch_head, HEADS)), -EPROTO,
		"names head 8 as number 0, which the ring has not");
	refuses((t.used += 2, shm_store16(&t.q->last_batch_head, 3),
		 shm_store16(&t.q->desc[3].next, 3)),
		-EPROTO, "names head 3 as number 1, which it named before");
	refuses(t.q->desc[2].inflight = 2, -EPROTO, "head 2 has the mark 2");
	refuses(t.q->desc[HEADS].inflight = 1, -EPROTO, "0, since the ring is smaller");
	refuses(shm_store64(&t.q->desc[3].counter, UINT64_MAX), -EPROTO, "to which no ring counts");
	refuses(shm_store64(&t.q->desc[3].counter, shm_load64(&t.q->desc[5].counter)), -EPROTO,
		"heads 3 and 5 were both taken as number");
	refuses(t.avail--, -EPROTO, "2 chains are in flight, and the guest's ring has made only 1");
}

static void test_random_regions_are_refused_or_sound(void **state)
{
	const uint64_t seed = random_begin_anew();
	unsigned int sound = 0, refused = 0;

	(void)state;
	print_message("seed %#llx\n", (unsigned long long)seed);
	for (unsigned int i = 0; i < 100000; i++) {
		uint16_t taken[HEADS] = { 0 };

		setup(NULL);
		for (uint16_t head = 0; head < HEADS; head++)
			if (below(2))
				take(head);
		t.avail += (uint16_t)below(3);
		t.used += (uint16_t)below(3);
		for (unsigned int n = below(4); n; n--)
			((uint8_t *)t.q)[below(sizeof(*t.q) + SIZE * sizeof(t.q->desc[0]))] =
				(uint8_t)random64();
		if (judge() || !t.judged.is_kept) {
			refused++;
			continue;
		}
		sound++;
		assert_true(t.judged.count <= HEADS);
		for (uint32_t f = 0; f < t.judged.count; f++) {
			assert_true(t.judged.list[f].head < HEADS);
			assert_int_equal(taken[t.judged.list[f].head]++, 0);
			assert_true(!f || t.judged.list[f].order > t.judged.list[f - 1].order);
			assert_true(t.judged.list[f].order < t.judged.counter);
		}
		table_make();
		flight_adopt(&t.table, t.q, SIZE, &t.judged);
		assert_int_equal(flight_list(&t.table), t.judged.count);
	}
	assert_true(sound && refused);
}

/* ---- who executes it ------------------------------------------------------------------- */

static const struct process_mark one = { 4711, 12345, { 1, 2 }, 3 };
static const struct process_mark other = { 4712, 12346, { 1, 2 }, 3 };

static void test_who_executes_it_is_named_by_one_store(void **state)
{
	struct process_mark mark;
	uint8_t before[sizeof(t.memory)];
	const size_t tail = region_queues_bytes(2, SIZE);

	(void)state;
	assert_int_equal(region_load_peer(&t.map, &mark), REGION_PEER_NOBODY);
	region_store_peer(&t.map, &one);
	assert_int_equal(region_load_peer(&t.map, &mark), REGION_PEER_KNOWN);
	assert_true(process_mark_is_same(&mark, &one));
	memcpy(before, t.memory, sizeof(before));
	region_store_peer(&t.map, &other);
	assert_int_equal(region_load_peer(&t.map, &mark), REGION_PEER_KNOWN);
	assert_true(process_mark_is_same(&mark, &other));
	/* Killed before the last store: what else was written does not show. */
	memcpy(t.memory + tail, before + tail, 16);
	assert_int_equal(region_load_peer(&t.map, &mark), REGION_PEER_KNOWN);
	assert_true(process_mark_is_same(&mark, &one));
}

static void test_without_a_tail_of_ours_nobody_knows_who(void **state)
{
	struct process_mark mark;

	(void)state;
	region_store_peer(&t.map, &one);
	region_map(&t.map, t.memory, region_queues_bytes(2, SIZE), 2, SIZE, false);
	assert_int_equal(region_load_peer(&t.map, &mark), REGION_PEER_UNKNOWN);
	region_store_peer(&t.map, &other); /* and it is not written */
	region_map(&t.map, t.memory, region_bytes(2, SIZE), 2, SIZE, false);
	assert_int_equal(region_load_peer(&t.map, &mark), REGION_PEER_KNOWN);
	assert_true(process_mark_is_same(&mark, &one));
	t.memory[region_queues_bytes(2, SIZE)] ^= 1;
	region_map(&t.map, t.memory, region_bytes(2, SIZE), 2, SIZE, false);
	assert_int_equal(region_load_peer(&t.map, &mark), REGION_PEER_UNKNOWN);
	/* One whose process is not known is named as such. */
	setup(NULL);
	region_store_peer(&t.map, &(struct process_mark){ 0 });
	assert_int_equal(region_load_peer(&t.map, &mark), REGION_PEER_UNKNOWN);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup(test_##name, setup)
	const struct CMUnitTest tests[] = {
		T(what_is_in_flight_is_read_in_the_order_in_which_it_was_taken),
		T(what_goes_back_to_the_ring_is_not_in_flight),
		T(what_is_given_up_stays),
		T(a_ring_that_begins_anew_has_none),
		T(a_ring_with_chains_that_nobody_knows_is_not_kept),
		T(a_successor_goes_on_above_what_it_finds),
		T(a_region_that_contradicts_itself_or_the_ring_is_refused),
		T(random_regions_are_refused_or_sound),
		T(who_executes_it_is_named_by_one_store),
		T(without_a_tail_of_ours_nobody_knows_who),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
