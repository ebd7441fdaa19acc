/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The flight table: hand-written cases, a naive reference model under random operations, and
 * tables that lie.  What a kill leaves is tests/kill.
 *
 * The random tests print their seed; UMBRA_SEED=seed repeats one.
 */
#include "flight/flight_table.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "flight/flight_judge.h"
#include "random.h"

#define HEADS_MOST 16u
#define IDS_MOST 16u

/* ---- a table, the guest's two indices beside it, and what a reader makes of it ---- */

static struct {
	struct flight_sizes sizes;
	uint8_t *memory;
	size_t bytes;
	struct flight_table table;
	struct flight list[HEADS_MOST], judged_list[HEADS_MOST];
	struct flight_judged judged;
	struct umbra_error err;
	uint16_t used, avail;
} t;

static void table_free(void)
{
	free(t.memory);
	t.memory = NULL;
}

static struct ring_position position(void)
{
	return (struct ring_position){ RING_SPLIT, t.avail, t.used };
}

static int format(const struct flight_sizes *sizes)
{
	return flight_format(&t.table, &(struct flight_config){ .sizes = *sizes,
								.memory = t.memory,
								.list = t.list,
								.at = position() });
}

static void table_make(uint32_t heads, uint32_t ids, uint32_t descs)
{
	table_free();
	t.sizes = (struct flight_sizes){ heads, ids, descs };
	t.bytes = flight_bytes(&t.sizes);
	t.memory = aligned_alloc(FLIGHT_ALIGN, t.bytes);
	assert_non_null(t.memory);
	memset(t.memory, 0xa5, t.bytes);
	t.used = t.avail = 0;
	assert_int_equal(format(&t.sizes), 0);
}

static void table_begin(uint16_t avail, uint16_t unknown)
{
	t.used = (uint16_t)(avail - unknown);
	t.avail = avail;
	flight_begin(&t.table, position());
}

static int judge(void)
{
	return flight_judge(t.memory, t.bytes, t.sizes.heads, position(), t.judged_list, &t.judged,
			    &t.err);
}

static void judge_sound(void)
{
	if (judge())
		fail_msg("%s", t.err.text);
}

static void take_entry(uint16_t head, uint16_t id, bool asks, uint32_t writable)
{
	struct flight_entry *e = flight_entry(&t.table, head);

	flight_prepare(&t.table, e, id, asks, writable);
	flight_take(&t.table, e);
}

static void take(uint16_t head, uint16_t id, bool asks)
{
	assert_false(flight_is_flying(&t.table, flight_entry(&t.table, head)));
	take_entry(head, id, asks, 4096);
	assert_true(flight_is_flying(&t.table, flight_entry(&t.table, head)));
	t.avail++;
}

static void complete(uint16_t head)
{
	flight_note(&t.table, head);
	t.used++;
	flight_publish(&t.table);
}

static enum flight_fate fate(uint16_t head)
{
	judge_sound();
	return flight_fate(&t.judged, head);
}

/* ---- hand-written ------------------------------------------------------------------ */

static void test_a_chain_is_taken_handed_over_and_completed(void **state)
{
	(void)state;
	table_make(4, 8, 0);
	table_begin(65534, 0);
	take(2, 7, true);
	assert_int_equal(fate(2), FLIGHT_TAKEN);
	flight_hand_over(&t.table);
	assert_int_equal(fate(2), FLIGHT_HANDED_OVER);
	assert_int_equal(t.judged.list[0].id, 7);
	assert_true(t.judged.list[0].asks);
	assert_int_equal(t.judged.list[0].writable, 4096);
	assert_int_equal(flight_owed(&t.table), 1);
	flight_note(&t.table, 2);
	assert_int_equal(fate(2), FLIGHT_HANDED_OVER); /* the guest does not know yet */
	t.used++;
	assert_int_equal(fate(2), FLIGHT_NOT_TAKEN_OR_COMPLETED); /* now it does */
	flight_publish(&t.table);
	assert_int_equal(fate(2), FLIGHT_NOT_TAKEN_OR_COMPLETED);
	assert_int_equal(flight_owed(&t.table), 0);
	assert_int_equal((uint16_t)t.judged.next, 65535);
}

static void test_a_head_is_in_flight_until_it_is_completed(void **state)
{
	(void)state;
	table_make(4, 4, 0);
	take(1, 0, false);
	flight_note(&t.table, 1);
	assert_true(flight_is_flying(&t.table, flight_entry(&t.table, 1)));
	t.used++;
	flight_publish(&t.table);
	take(1, 1, false);
	assert_int_equal(fate(1), FLIGHT_TAKEN);
}

static void test_a_writable_length_of_32_bits_leaves_the_copy_alone(void **state)
{
	(void)state;
	table_make(2, 2, 0);
	take_entry(0, 0, false, UINT32_MAX);
	t.avail++;
	judge_sound();
	assert_int_equal(t.judged.list[0].writable, UINT32_MAX);
	assert_int_equal(t.judged.list[0].count, 0);
}

static void test_the_newest_go_back_to_the_ring(void **state)
{
	(void)state;
	table_make(4, 4, 0);
	take(0, 0, false);
	take(3, 1, false);
	flight_hand_over(&t.table);
	take(2, 2, false);
	flight_untake(&t.table, 2);
	assert_int_equal(fate(2), FLIGHT_NOT_TAKEN_OR_COMPLETED);
	assert_int_equal(fate(3), FLIGHT_HANDED_OVER);
	flight_untake(&t.table, 3);
	assert_int_equal(fate(3), FLIGHT_NOT_TAKEN_OR_COMPLETED);
	assert_int_equal(t.judged.handed, t.judged.next);
	assert_int_equal(fate(0), FLIGHT_HANDED_OVER);
}

static void test_what_a_back_end_did_not_take_is_handed_back(void **state)
{
	(void)state;
	table_make(4, 4, 0);
	take(0, 0, true);
	take(3, 1, false);
	take(1, 2, true);
	flight_hand_over(&t.table);
	complete(3);
	flight_hand_back(&t.table, 1);
	assert_int_equal(fate(0), FLIGHT_HANDED_OVER);
	assert_int_equal(fate(1), FLIGHT_TAKEN);
	flight_hand_back(&t.table, 1);
	assert_int_equal(fate(0), FLIGHT_TAKEN);
}

static void test_a_new_shadow_has_nothing_and_is_given_all_that_waits(void **state)
{
	uint32_t count, waiting = 0;

	(void)state;
	table_make(4, 4, 0);
	take(0, 0, true);
	take(3, 1, false);
	take(1, 2, false);
	flight_hand_over(&t.table);
	take(2, 3, true); /* never shown to anybody */
	flight_lose(&t.table, 0);
	flight_renew(&t.table);
	assert_int_equal(fate(0), FLIGHT_LOST);
	assert_int_equal(fate(3), FLIGHT_TAKEN);
	assert_int_equal(fate(2), FLIGHT_TAKEN);
	assert_int_equal(t.judged.list[3].head, 2);
	assert_int_equal(t.judged.list[3].life, 0);
	assert_true(t.judged.list[2].life > 0);
	count = flight_list(&t.table);
	assert_int_equal(count, 4);
	for (uint32_t i = 0; i < count; i++) {
		if (!flight_waits(&t.list[i]))
			continue;
		flight_retake(&t.table, t.list[i].head, (uint16_t)waiting++);
	}
	assert_int_equal(waiting, 3);
	assert_int_equal(fate(3), FLIGHT_TAKEN);
	flight_hand_over(&t.table);
	assert_int_equal(fate(3), FLIGHT_HANDED_OVER);
	assert_int_equal(fate(1), FLIGHT_HANDED_OVER);
	assert_int_equal(fate(0), FLIGHT_LOST);
	assert_int_equal(t.judged.list[2].id, 1);
	assert_false(t.judged.list[2].asks);
	assert_true(t.judged.list[3].asks);
	assert_int_equal(flight_owed(&t.table), 4);
}

static void test_a_ring_that_begins_anew_owes_only_what_is_unknown(void **state)
{
	(void)state;
	table_make(4, 4, 4);
	take(0, 0, true);
	take(3, 1, false);
	flight_ghost_set(&t.table, 2, true);
	table_begin(3, 2);
	judge_sound();
	assert_int_equal(t.judged.count, 0);
	assert_int_equal(t.judged.unknown, 2);
	assert_int_equal(flight_owed(&t.table), 2);
	assert_int_equal((uint16_t)t.judged.next, 3);
	take(3, 0, false);
	assert_int_equal(flight_owed(&t.table), 3);
	complete(3);
	assert_int_equal(flight_owed(&t.table), 2);
	judge_sound();
	assert_int_equal(t.table.ghost_count, 1);
}

static void test_flights_stay_where_the_ring_stands_as_the_table_does(void **state)
{
	(void)state;
	table_make(4, 4, 0);
	take(0, 0, true);
	take(3, 1, false);
	flight_hand_over(&t.table);
	flight_stand(&t.table, position());
	assert_int_equal(fate(0), FLIGHT_HANDED_OVER);
	assert_int_equal(fate(3), FLIGHT_HANDED_OVER);
	t.used++; /* by somebody else, and which of the two nobody knows */
	flight_stand(&t.table, position());
	judge_sound();
	assert_int_equal(t.judged.count, 0);
	assert_int_equal(t.judged.unknown, 1);
	t.avail = t.used; /* elsewhere */
	flight_stand(&t.table, position());
	judge_sound();
	assert_int_equal(flight_owed(&t.table), 0);
}

static void test_lives_that_can_be_counted_no_further_are_counted_anew(void **state)
{
	(void)state;
	table_make(4, 4, 0);
	flight_renew(&t.table);
	shm_store64(&t.table.header->life, FLIGHT_LIFE_MAX - 1); /* as even as it was */
	take(0, 0, true);
	flight_stand(&t.table, position());
	flight_renew(&t.table);
	judge_sound();
	assert_int_equal(t.judged.life, FLIGHT_LIFE_MAX);
	assert_int_equal(t.judged.count, 1);
	flight_stand(&t.table, position());
	flight_renew(&t.table);
	judge_sound();
	assert_true(t.judged.life < 4);
	assert_int_equal(t.judged.count, 0);
	assert_int_equal(t.judged.unknown, 1);
	take(1, 0, false);
	flight_hand_over(&t.table);
	assert_int_equal(fate(1), FLIGHT_HANDED_OVER);
}

static void test_ghosts_come_and_go_by_id(void **state)
{
	uint16_t ids[4];

	(void)state;
	table_make(2, 4, 0);
	flight_ghost_set(&t.table, 3, true);
	flight_ghost_set(&t.table, 1, true);
	flight_ghost_set(&t.table, 1, true);
	assert_int_equal(t.table.ghost_count, 2);
	assert_int_equal(flight_ghosts(&t.table, ids), 2);
	assert_int_equal(ids[0], 1);
	assert_int_equal(ids[1], 3);
	flight_ghost_set(&t.table, 3, false);
	assert_int_equal(flight_ghosts(&t.table, ids), 1);
	judge_sound();
}

static void test_a_copy_is_what_was_copied_until_the_chain_is_over(void **state)
{
	const struct split_desc_copy descs[3] = { { .addr = 0x1000, .len = 16, .flags = 1 },
						  { .addr = UINT64_MAX, .len = UINT32_MAX },
						  { .addr = 0x3000, .len = 1, .flags = 6 } };
	struct split_desc_copy got[3];

	(void)state;
	table_make(4, 4, 4);
	take(0, 0, true);
	assert_int_equal(flight_copy(&t.table, 0, descs, 2), 0);
	take(1, 1, true);
	assert_int_equal(flight_copy(&t.table, 1, descs, 3), -ENOSPC);
	assert_int_equal(flight_copy(&t.table, 1, descs + 2, 1), 0);
	complete(0);
	take(0, 0, true);
	assert_int_equal(flight_copy(&t.table, 0, descs, 3), 0);
	judge_sound();
	assert_int_equal(t.judged.list[1].count, 3);
	flight_copied(&t.table, &t.judged.list[1], got);
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(got[i].addr, descs[i].addr);
		assert_int_equal(got[i].len, descs[i].len);
		assert_int_equal(got[i].flags, descs[i].flags);
	}
	assert_int_equal(t.judged.list[1].writable, 4096);
	flight_copied(&t.table, &t.judged.list[0], got);
	assert_int_equal(got[0].addr, 0x3000);
}

static void test_sizes_that_no_ring_has_are_refused(void **state)
{
	static const struct flight_sizes wrong[] = { { 0, 1, 0 }, { 3, 1, 0 },     { 65536, 1, 0 },
						     { 4, 0, 0 }, { 4, 65536, 0 }, { 4, 4, 3 } };

	(void)state;
	table_make(4, 4, 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_int_equal(format(&wrong[i]), -EINVAL);
	judge_sound(); /* and what was there stands */
}

/* ---- tables that lie --------------------------------------------------------------- */

static struct flight_header *header(void)
{
	return (void *)t.memory;
}

static void expect_refused(int rc, const char *text)
{
	assert_int_equal(judge(), rc);
	if (!strstr(t.err.text, text))
		fail_msg("\"%s\" does not say \"%s\"", t.err.text, text);
}

static void lying_make(void)
{
	table_make(4, 4, 4);
	take(0, 0, true);
	take(1, 1, true);
	flight_hand_over(&t.table);
	judge_sound();
}

static void test_what_is_no_table_is_refused(void **state)
{
	(void)state;
	lying_make();
	t.bytes = 8;
	expect_refused(-EINVAL, "8 bytes");
	t.bytes = sizeof(struct flight_header);
	expect_refused(-EINVAL, "expected");
	lying_make();
	shm_store64(&header()->magic, 5);
	expect_refused(-EINVAL, "begins with 0x5");
	lying_make();
	shm_store32(&header()->version, 2);
	expect_refused(-EINVAL, "version is 2, expected 1");
	lying_make();
	shm_store32(&header()->heads, 5);
	expect_refused(-EINVAL, "5 heads");
	lying_make();
	shm_store32(&header()->ids, 8);
	expect_refused(-EINVAL, "checksum");
	lying_make();
	t.sizes.heads = 2;
	expect_refused(-EINVAL, "ring of 4, expected 2");
}

static void test_a_table_that_breaks_an_invariant_is_refused(void **state)
{
	(void)state;
	lying_make();
	shm_store64(&header()->life, 0);
	expect_refused(-EPROTO, "life 0");
	lying_make();
	shm_store64(&t.table.life->unknown, 5);
	expect_refused(-EPROTO, "5 unknown");
	lying_make();
	shm_store64(&t.table.life->begin, 4);
	expect_refused(-EPROTO, "began at 4");
	lying_make();
	t.used = 5;
	expect_refused(-EPROTO, "guest's ring is at 5");
	lying_make();
	t.used = 2;
	shm_store16(&t.table.log[1], 4);
	shm_store16(&t.table.log[0], 1);
	expect_refused(-EPROTO, "head 4 was completed");
	shm_store16(&t.table.log[1], 1);
	expect_refused(-EPROTO, "twice");
	lying_make();
	t.avail--;
	expect_refused(-EPROTO, "2 chains are in flight");
	lying_make();
	shm_store64(&t.table.entries[2].order, t.table.next);
	t.avail++;
	shm_store64(&t.table.life->handed, t.table.next + 2);
	expect_refused(-EPROTO, "handed over up to");
	lying_make();
	shm_store64(&t.table.entries[1].order, t.table.next + 7);
	expect_refused(-EPROTO, "head 1 has the order");
	lying_make();
	shm_store64(&t.table.entries[1].order, t.table.next - 2);
	expect_refused(-EPROTO, "both have the order");
	lying_make();
	shm_store64(&t.table.entries[1].back, t.table.mark | 4);
	expect_refused(-EPROTO, "as 4 in life");
	shm_store64(&t.table.entries[1].back, t.table.mark | 1 << 20 | 1);
	expect_refused(-EPROTO, "with 0x100000");
	shm_store64(&t.table.entries[1].back, t.table.mark | 0);
	expect_refused(-EPROTO, "head 1 as 0");
	lying_make();
	shm_store64(&t.table.entries[1].extent, UINT64_C(1) << 48 | UINT64_C(4) << 32);
	expect_refused(-EPROTO, "copy 0 of head 1");
	shm_store64(&t.table.entries[1].extent, UINT64_C(5) << 48);
	expect_refused(-EPROTO, "copy 4 of head 1");
	lying_make();
	shm_store16(&t.table.ghosts[2], 2);
	expect_refused(-EPROTO, "id 2 is a ghost 2 times");
}

/* What comes out obeys the invariants, whatever went in. */
static void judged_check(void)
{
	const struct flight_judged *j = &t.judged;
	bool ids[IDS_MOST] = { false };

	assert_true(j->count + j->unknown <= t.sizes.heads);
	assert_int_equal(j->next - j->used, j->count + j->unknown);
	assert_true(j->handed <= j->next);
	for (uint32_t i = 0; i < j->count; i++) {
		const struct flight *f = &j->list[i];

		assert_true(f->head < t.sizes.heads && f->id < t.sizes.ids);
		assert_true(f->order >= j->begin && f->order < j->next);
		assert_true(!i || f->order > f[-1].order);
		if (f->life != j->life || f->lost)
			continue;
		assert_false(ids[f->id]);
		ids[f->id] = true;
	}
}

static void test_random_lies_are_refused_or_obey_the_invariants(void **state)
{
	unsigned int sound = 0, refused = 0;

	(void)state;
	random_begin_anew();
	for (unsigned int round = 0; round < 200000; round++) {
		uint32_t words, lies = 1 + below(3);

		if (round % 64 == 0) {
			table_make(1u << below(5), 1 + below(IDS_MOST), below(2) * HEADS_MOST);
			table_begin((uint16_t)random64(), 0);
			for (uint16_t i = 0; i < MIN(t.sizes.heads, t.sizes.ids); i++)
				if (below(2))
					take(i, i, below(2));
			flight_hand_over(&t.table);
		}
		words = (uint32_t)(t.bytes / 8);
		while (lies--) {
			uint64_t *word = (uint64_t *)(void *)t.memory + below(words);

			*word = below(2) ? random64() : *word + below(5) - 2;
		}
		if (below(4) == 0)
			t.used = (uint16_t)(t.used + below(5) - 2);
		if (judge()) {
			assert_true(t.err.text[0]);
			refused++;
		} else {
			judged_check();
			sound++;
		}
	}
	printf("%u tables obeyed, %u were refused\n", sound, refused);
	assert_true(sound > 100 && refused > 100);
}

/* ---- a naive model ------------------------------------------------------------------ */

struct model_chain {
	bool flying, asks, lost, handed, given; /* given: to the shadow that there is */
	uint16_t head, id;
	uint32_t writable, number; /* in the order of taking */
	uint16_t copied;
	uint64_t copy; /* address of the first copied descriptor */
};

static struct {
	struct model_chain by_head[HEADS_MOST];
	uint32_t taken; /* numbers given */
	uint32_t copies_free;
	bool ghosts[IDS_MOST];
} m;

static uint32_t model_count(bool (*is)(const struct model_chain *c))
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < t.sizes.heads; i++)
		n += m.by_head[i].flying && (!is || is(&m.by_head[i]));
	return n;
}

static struct model_chain *model_newest(void)
{
	struct model_chain *newest = NULL;

	for (uint32_t i = 0; i < t.sizes.heads; i++)
		if (m.by_head[i].flying && (!newest || m.by_head[i].number > newest->number))
			newest = &m.by_head[i];
	return newest;
}

static bool id_is_free(uint16_t id)
{
	for (uint32_t i = 0; i < t.sizes.heads; i++)
		if (m.by_head[i].flying && m.by_head[i].given && !m.by_head[i].lost &&
		    m.by_head[i].id == id)
			return false;
	return true;
}

static void chain_end(struct model_chain *c)
{
	m.copies_free += c->copied;
	c->flying = false;
}

static void op_take(void)
{
	uint16_t head = (uint16_t)below(t.sizes.heads), id = (uint16_t)below(t.sizes.ids);
	struct model_chain *c = &m.by_head[head];
	struct split_desc_copy descs[3] = { { .addr = random64() } };
	uint16_t count = (uint16_t)below(4);

	/* The guest's ring has no more than it has places. */
	if (!id_is_free(id) || flight_owed(&t.table) == t.sizes.heads)
		return;
	assert_int_equal(flight_is_flying(&t.table, flight_entry(&t.table, head)), c->flying);
	if (c->flying)
		return;
	*c = (struct model_chain){ .flying = true,
				   .given = true,
				   .asks = below(2),
				   .head = head,
				   .id = id,
				   .writable = (uint32_t)random64(),
				   .number = m.taken++ };
	if (t.avail == (uint16_t)t.table.next) /* else an untaken one is there */
		t.avail++;
	take_entry(head, id, c->asks, c->writable);
	if (!count)
		return;
	if (count > m.copies_free) {
		assert_int_equal(flight_copy(&t.table, head, descs, count), -ENOSPC);
		return;
	}
	assert_int_equal(flight_copy(&t.table, head, descs, count), 0);
	c->copied = count;
	c->copy = descs[0].addr;
	m.copies_free -= count;
}

static void op_hand_over(void)
{
	flight_hand_over(&t.table);
	for (uint32_t i = 0; i < t.sizes.heads; i++)
		m.by_head[i].handed |=
			m.by_head[i].flying && m.by_head[i].given && !m.by_head[i].lost;
}

static void op_complete(void)
{
	uint32_t batch = 1 + below(4);

	while (batch--) {
		struct model_chain *c = &m.by_head[below(t.sizes.heads)];

		if (!c->flying || !c->handed)
			continue;
		flight_note(&t.table, c->head);
		t.used++;
		chain_end(c);
	}
	if (below(2)) /* seen in between */
		judge_sound();
	flight_publish(&t.table);
}

/* The newest chain of all goes back, if it is not completed. */
static void op_untake(void)
{
	struct model_chain *c = model_newest();

	if (!c || c->number != m.taken - 1)
		return;
	flight_untake(&t.table, c->head);
	chain_end(c);
	m.taken--;
}

static bool is_handed(const struct model_chain *c)
{
	return c->handed && !c->lost;
}

static void op_hand_back(void)
{
	uint32_t handed = model_count(is_handed), count = below(handed + 1);

	flight_hand_back(&t.table, (uint16_t)count);
	while (count--) {
		struct model_chain *newest = NULL;

		for (uint32_t i = 0; i < t.sizes.heads; i++) {
			struct model_chain *c = &m.by_head[i];

			if (c->flying && is_handed(c) && (!newest || c->number > newest->number))
				newest = c;
		}
		newest->handed = false;
	}
}

static void op_lose(void)
{
	struct model_chain *c = &m.by_head[below(t.sizes.heads)];

	if (!c->flying || !c->handed)
		return;
	flight_lose(&t.table, c->head);
	c->lost = true;
	c->handed = false;
}

static void op_renew(void)
{
	uint32_t count;
	uint16_t id = 0;

	flight_renew(&t.table);
	for (uint32_t i = 0; i < t.sizes.heads; i++)
		m.by_head[i].handed = m.by_head[i].given = false;
	if (below(2))
		judge_sound();
	count = flight_list(&t.table);
	for (uint32_t i = 0; i < count; i++) {
		struct flight f = t.list[i];

		assert_int_equal(flight_waits(&f), !m.by_head[f.head].lost);
		if (f.lost || id == t.sizes.ids)
			continue;
		m.by_head[f.head].id = id;
		m.by_head[f.head].given = true;
		flight_retake(&t.table, f.head, id++);
	}
}

static void op_begin(void)
{
	uint16_t unknown = (uint16_t)below(t.sizes.heads + 1);

	table_begin((uint16_t)random64(), unknown);
	memset(m.by_head, 0, sizeof(m.by_head));
	m.copies_free = t.sizes.descs;
}

static void op_ghost(void)
{
	uint16_t id = (uint16_t)below(t.sizes.ids);

	m.ghosts[id] = below(2);
	flight_ghost_set(&t.table, id, m.ghosts[id]);
}

static void op_recover(void)
{
	if (flight_recover(&t.table, t.memory, t.bytes, t.sizes.heads, position(), t.list, &t.err))
		fail_msg("%s", t.err.text);
	assert_int_equal(t.table.free_count, m.copies_free);
}

static void flight_compare(const struct flight *f)
{
	const struct model_chain *c = &m.by_head[f->head];

	assert_true(c->flying);
	assert_int_equal(f->asks, c->asks);
	assert_int_equal(f->lost, c->lost);
	assert_int_equal(f->handed, c->handed);
	assert_int_equal(f->writable, c->writable);
	assert_int_equal(f->count, c->copied);
	if (c->given)
		assert_int_equal(f->id, c->id);
	if (c->copied) {
		struct split_desc_copy descs[3];

		flight_copied(&t.table, f, descs);
		assert_int_equal(descs[0].addr, c->copy);
	}
}

static void model_compare(void)
{
	uint32_t count = flight_list(&t.table), ghosts = 0;
	uint16_t ids[IDS_MOST];

	judge_sound();
	judged_check();
	assert_int_equal(count, model_count(NULL));
	assert_int_equal(t.judged.count, count);
	assert_int_equal(t.judged.next, t.table.next);
	assert_int_equal((uint16_t)t.table.used, t.used);
	for (uint32_t i = 0; i < count; i++) {
		flight_compare(&t.list[i]);
		flight_compare(&t.judged.list[i]);
		assert_int_equal(t.list[i].order, t.judged.list[i].order);
		if (i)
			assert_true(m.by_head[t.list[i].head].number >
				    m.by_head[t.list[i - 1].head].number);
	}
	for (uint32_t i = 0; i < t.sizes.ids; i++)
		ghosts += m.ghosts[i];
	assert_int_equal(t.table.ghost_count, ghosts);
	assert_int_equal(flight_ghosts(&t.table, ids), ghosts);
	for (uint32_t i = 0; i < ghosts; i++)
		assert_true(m.ghosts[ids[i]]);
}

static void test_a_naive_model_agrees_under_random_operations(void **state)
{
	/* By how often they come. */
	static void (*const ops[])(void) = { op_take,     op_take,      op_take,      op_take,
					     op_take,     op_hand_over, op_hand_over, op_complete,
					     op_complete, op_complete,  op_untake,    op_hand_back,
					     op_lose,     op_renew,     op_recover,   op_ghost };

	(void)state;
	random_begin_anew();
	for (unsigned int round = 0; round < 300; round++) {
		memset(&m, 0, sizeof(m));
		table_make(1u << below(5), 1 + below(IDS_MOST), below(2) * HEADS_MOST);
		m.copies_free = t.sizes.descs;
		table_begin((uint16_t)random64(), 0);
		for (unsigned int i = 0; i < 1000; i++) {
			if (below(200) == 0)
				op_begin();
			ops[below(ARRAY_SIZE(ops))]();
			model_compare();
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_chain_is_taken_handed_over_and_completed),
		cmocka_unit_test(test_a_head_is_in_flight_until_it_is_completed),
		cmocka_unit_test(test_a_writable_length_of_32_bits_leaves_the_copy_alone),
		cmocka_unit_test(test_the_newest_go_back_to_the_ring),
		cmocka_unit_test(test_what_a_back_end_did_not_take_is_handed_back),
		cmocka_unit_test(test_a_new_shadow_has_nothing_and_is_given_all_that_waits),
		cmocka_unit_test(test_a_ring_that_begins_anew_owes_only_what_is_unknown),
		cmocka_unit_test(test_flights_stay_where_the_ring_stands_as_the_table_does),
		cmocka_unit_test(test_lives_that_can_be_counted_no_further_are_counted_anew),
		cmocka_unit_test(test_ghosts_come_and_go_by_id),
		cmocka_unit_test(test_a_copy_is_what_was_copied_until_the_chain_is_over),
		cmocka_unit_test(test_sizes_that_no_ring_has_are_refused),
		cmocka_unit_test(test_what_is_no_table_is_refused),
		cmocka_unit_test(test_a_table_that_breaks_an_invariant_is_refused),
		cmocka_unit_test(test_random_lies_are_refused_or_obey_the_invariants),
		cmocka_unit_test(test_a_naive_model_agrees_under_random_operations),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	table_free();
	return failed;
}
