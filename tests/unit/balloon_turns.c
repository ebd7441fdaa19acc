/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Promises of the balloon's queues about what costs much: it is done in turns, others
 * have theirs in between, and whatever happens between two of them, each buffer is
 * completed once and only when its pages have gone.
 */
#include "balloon_talk.h"

#include <stdlib.h>
#include <string.h>

/* Bitmaps with every other bit set, 224 runs each, over and over the same pages: more
 * runs than a batch holds. */
#define RECORDS 1000u
#define MESSAGE_BYTES (8 + RECORDS * 64)
#define PAGES_NAMED (RECORDS * 224ul)

/* Make one available; where its status will be. */
static uint64_t send_large(struct rig *g, unsigned int queue)
{
	uint8_t *m = calloc(1, MESSAGE_BYTES);
	uint64_t status;

	assert_non_null(m);
	put_word(m, (uint64_t)(MESSAGE_BYTES - 8) << 32);
	for (unsigned int i = 0; i < RECORDS; i++) {
		put_word(m + 8 + i * 64ul, FREE_PFN | 12ull << 52 | 56ull << 58);
		for (unsigned int w = 1; w < 8; w++)
			put_word(m + 8 + i * 64ul + w * 8, 0x5555555555555555);
	}
	rig_send(g, queue, m, MESSAGE_BYTES, &status);
	free(m);
	return status;
}

static void expect_done(struct rig *g, unsigned int queue, uint64_t at)
{
	struct page_run_status status = page_run_status_load(rig_at(g, at));
	uint32_t len;

	assert_int_equal(rig_get(g, queue, &len), 1);
	assert_int_equal(len, PAGE_RUN_STATUS_BYTES);
	assert_int_equal(status.pages, PAGES_NAMED);
	assert_int_equal(status.code, PAGE_RUN_OK);
	assert_int_equal(status.record, RECORDS);
}

static bool has_answer(struct rig *g, unsigned int queue)
{
	uint32_t len;

	return rig_get(g, queue, &len);
}

static void a_message_of_many_runs_takes_several_turns_and_is_answered_after_the_last(void **state)
{
	struct rig *g = begin(BITMAP);
	uint64_t status = send_large(g, INFLATE);
	unsigned int turns = 1;

	(void)state;
	while (rig_pass(g, INFLATE) && g->discard_calls < 4) {
		assert_false(has_answer(g, INFLATE));
		turns++;
	}
	/* 224,000 runs, of which a batch holds 65,536. */
	assert_int_equal(turns, 4);
	rig_run(g);
	expect_done(g, INFLATE, status);
	assert_int_equal(info_of(g).messages, 1);
	rig_free(g);
}

static void a_queue_that_is_stopped_between_two_turns_takes_the_message_again(void **state)
{
	struct rig *g = begin(BITMAP);
	uint64_t status = send_large(g, INFLATE);
	uint16_t base;

	(void)state;
	assert_true(rig_pass(g, INFLATE));
	/* Another queue's stop disturbs nothing. */
	rig_stop(g, DEFLATE, &base);
	assert_int_equal(base, 0);
	assert_true(rig_pass(g, INFLATE));
	/* Nothing was completed, so this is where it goes on. */
	assert_false(has_answer(g, INFLATE));
	rig_stop(g, INFLATE, &base);
	assert_int_equal(base, 0);
	rig_free(g);

	g = begin(BITMAP);
	status = send_large(g, INFLATE);
	assert_true(rig_pass(g, INFLATE));
	/* A table that is sent again: the regions that the batch knew are no more. */
	rig_set_memory(g, true, true);
	rig_run(g);
	expect_done(g, INFLATE, status);
	assert_int_equal(info_of(g).messages, 1);
	assert_int_equal(info_of(g).ballooned_bytes, 224 * PAGE);
	rig_free(g);
}

static void a_table_without_the_pages_between_two_turns_has_them_refused(void **state)
{
	struct rig *g = begin(BITMAP);
	uint64_t pfn = HIGH_PFN, at;
	uint8_t m[24];
	struct page_run_status status;

	(void)state;
	/* The whole of HIGH, behind a message that takes several turns. */
	send_large(g, INFLATE);
	put_word(m, 8ull << 32);
	put_word(m + 8, pfn | 12ull << 52);
	rig_send(g, INFLATE, m, 16, &at);
	assert_true(rig_pass(g, INFLATE));
	rig_set_memory(g, true, false);
	rig_run(g);
	status = page_run_status_load(rig_at(g, at));
	assert_int_equal(status.code, PAGE_RUN_OUTSIDE);
	rig_free(g);
}

static void one_batch_at_a_time_and_the_other_queue_is_served_after_it(void **state)
{
	struct rig *g = begin(BITMAP);
	uint64_t inflated = send_large(g, INFLATE), deflated = send_large(g, DEFLATE);

	(void)state;
	assert_true(rig_pass(g, INFLATE));
	assert_true(rig_pass(g, DEFLATE));
	assert_int_equal(info_of(g).ballooned_bytes, 224 * PAGE);
	rig_run(g);
	expect_done(g, INFLATE, inflated);
	expect_done(g, DEFLATE, deflated);
	assert_int_equal(info_of(g).ballooned_bytes, 0);
	rig_free(g);
}

static void a_failed_discard_of_an_early_turn_is_told_at_the_end(void **state)
{
	struct rig *g = begin(BITMAP);
	uint64_t at = send_large(g, INFLATE);
	struct page_run_status status;
	uint32_t len;

	(void)state;
	g->fail_discards = -5;
	assert_true(rig_pass(g, INFLATE));
	g->fail_discards = 0;
	rig_run(g);
	assert_int_equal(rig_get(g, INFLATE, &len), 1);
	status = page_run_status_load(rig_at(g, at));
	assert_int_equal(status.code, PAGE_RUN_NOT_DISCARDED);
	assert_int_equal(status.pages, 0);
	rig_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_message_of_many_runs_takes_several_turns_and_is_answered_after_the_last),
		cmocka_unit_test(a_queue_that_is_stopped_between_two_turns_takes_the_message_again),
		cmocka_unit_test(a_table_without_the_pages_between_two_turns_has_them_refused),
		cmocka_unit_test(one_batch_at_a_time_and_the_other_queue_is_served_after_it),
		cmocka_unit_test(a_failed_discard_of_an_early_turn_is_told_at_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
