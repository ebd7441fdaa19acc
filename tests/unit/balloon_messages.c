/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Promises of the balloon device about messages: what they move, what is discarded,
 * what they are answered.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "balloon_talk.h"
#include "base/shm.h"
#include "random.h"

/* --- the stock protocol --------------------------------------------------------- */

static void stock_pfns_in_any_order_become_one_discard(void **state)
{
	struct rig *g = begin(0);
	uint32_t pfns[256];

	(void)state;
	for (uint32_t i = 0; i < 256; i++)
		pfns[i] = (uint32_t)FREE_PFN + (i * 77 + 5) % 256;
	send_pfns(g, INFLATE, pfns, 256);
	assert_discards(g, { FREE_PFN, 256 });
	assert_int_equal(ballooned(g), 256);
	assert_int_equal(rig_at(g, LOW_GPA + RINGS_BYTES)[0], 0);
	assert_int_equal(rig_at(g, LOW_GPA + RINGS_BYTES + 256 * PAGE)[0], 0x5a);
	send_pfns(g, DEFLATE, pfns, 256);
	assert_int_equal(g->discard_count, 0);
	assert_int_equal(ballooned(g), 0);
	rig_free(g);
}

static void time_is_told_with_and_without_discarding(void **state)
{
	struct rig *g = begin(0);
	uint32_t pfn = (uint32_t)FREE_PFN;

	(void)state;
	g->read_us = 10;
	g->discard_us = 700;
	send_pfns(g, INFLATE, &pfn, 1);
	assert_int_equal(info_of(g).discard_us, 710);
	assert_int_equal(info_of(g).translate_us, 20); /* before it and after it */
	send_pfns(g, DEFLATE, &pfn, 1);
	assert_int_equal(info_of(g).discard_us, 710);
	assert_int_equal(info_of(g).translate_us, 30);
	rig_free(g);
}

static void pages_merge_across_buffers_that_are_available_together(void **state)
{
	struct rig *g = begin(0);
	uint32_t len;

	(void)state;
	for (uint32_t i = 0; i < 60; i++) {
		uint32_t pfn = (uint32_t)FREE_PFN + (i % 2 ? 59 - i / 2 : i / 2);

		rig_send(g, INFLATE, &pfn, sizeof(pfn), NULL);
	}
	rig_run(g);
	assert_int_equal(rig_get(g, INFLATE, &len), 60);
	assert_discards(g, { FREE_PFN, 60 });
	rig_free(g);
}

static void more_buffers_than_a_batch_are_all_served(void **state)
{
	struct rig *g = begin(0);
	uint32_t len;

	(void)state;
	for (uint32_t i = 0; i < RING_SIZE; i++) {
		uint32_t pfn = (uint32_t)FREE_PFN + 2 * i;

		rig_send(g, INFLATE, &pfn, sizeof(pfn), NULL);
	}
	rig_run(g);
	assert_int_equal(rig_get(g, INFLATE, &len), RING_SIZE);
	assert_int_equal(ballooned(g), RING_SIZE);
	assert_int_equal(info_of(g).messages, RING_SIZE);
	rig_free(g);
}

static void inflating_twice_or_deflating_what_is_not_there_changes_nothing(void **state)
{
	struct rig *g = begin(0);
	uint32_t pfns[4] = { (uint32_t)FREE_PFN, (uint32_t)FREE_PFN, (uint32_t)FREE_PFN + 9,
			     (uint32_t)FREE_PFN + 9 };

	(void)state;
	send_pfns(g, DEFLATE, pfns, 4);
	assert_int_equal(ballooned(g), 0);
	send_pfns(g, INFLATE, pfns, 4);
	send_pfns(g, INFLATE, pfns, 4);
	assert_int_equal(ballooned(g), 2);
	send_pfns(g, DEFLATE, pfns, 1);
	send_pfns(g, DEFLATE, pfns, 2);
	assert_int_equal(ballooned(g), 1);
	rig_free(g);
}

static void pfns_that_are_no_memory_are_refused_and_the_others_count(void **state)
{
	struct rig *g = begin(0);
	uint32_t high_end = (uint32_t)(HIGH_PFN + (HIGH_BYTES >> 12));
	uint32_t pfns[] = {
		0,
		(uint32_t)LOW_PFN - 1,
		(uint32_t)(LOW_PFN + (LOW_BYTES >> 12)), /* the hole's first */
		(uint32_t)(LOW_PFN + (LOW_BYTES >> 12)) - 1,
		(uint32_t)HIGH_PFN - 1,
		(uint32_t)HIGH_PFN,
		high_end - 1,
		high_end,
		UINT32_MAX,
	};

	(void)state;
	send_pfns(g, INFLATE, pfns, ARRAY_SIZE(pfns));
	assert_int_equal(ballooned(g), 3);
	assert_int_equal(info_of(g).refused_records, 6);
	assert_discards(g, { LOW_PFN + (LOW_BYTES >> 12) - 1, 1 }, { HIGH_PFN, 1 },
			{ high_end - 1, 1 });
	assert_int_equal(info_of(g).state, UMBRA_BALLOON_RUNNING);
	rig_free(g);
}

static void stock_messages_of_odd_lengths_are_completed(void **state)
{
	static const uint8_t bytes[7] = { 0 };
	struct rig *g = begin(0);
	uint32_t len;

	(void)state;
	rig_send(g, INFLATE, bytes, 3, NULL); /* no pfn at all */
	rig_send(g, INFLATE, bytes, 7, NULL); /* one, and it is no memory */
	rig_run(g);
	assert_int_equal(rig_get(g, INFLATE, &len), 2);
	assert_int_equal(info_of(g).refused_messages, 1);
	assert_int_equal(info_of(g).refused_records, 1);
	assert_int_equal(g->discard_calls, 0);
	rig_free(g);
}

/* --- the page-bitmap protocol ------------------------------------------------------ */

static void one_record_moves_all_of_a_region(void **state)
{
	struct rig *g = begin(BITMAP);
	uint64_t pages = HIGH_BYTES >> 12;

	(void)state;
	assert_status(send_run(g, INFLATE, HIGH_PFN, pages), pages, PAGE_RUN_OK, 1);
	assert_discards(g, { HIGH_PFN, pages });
	assert_int_equal(ballooned(g), pages);
	assert_int_equal(info_of(g).discarded_bytes, HIGH_BYTES);
	assert_int_equal(info_of(g).freed_bytes, HIGH_BYTES);
	assert_status(send_run(g, DEFLATE, HIGH_PFN, pages), pages, PAGE_RUN_OK, 1);
	assert_int_equal(ballooned(g), 0);
	rig_free(g);
}

static void a_record_that_leaves_guest_memory_is_refused_as_a_whole(void **state)
{
	const uint64_t low_end = LOW_PFN + (LOW_BYTES >> 12);
	struct rig *g = begin(BITMAP);
	struct page_run runs[3] = { { FREE_PFN, 1 }, { low_end - 1, 2 }, { HIGH_PFN, 1 } };

	(void)state;
	assert_status(send_runs(g, INFLATE, runs, 3), 2, PAGE_RUN_OUTSIDE, 1);
	assert_discards(g, { FREE_PFN, 1 }, { HIGH_PFN, 1 });
	assert_int_equal(ballooned(g), 2);
	assert_int_equal(info_of(g).refused_records, 1);
	/* The first and the last page of each region are memory. */
	assert_status(send_run(g, INFLATE, low_end - 1, 1), 1, PAGE_RUN_OK, 1);
	assert_status(send_run(g, INFLATE, HIGH_PFN - 1, 1), 0, PAGE_RUN_OUTSIDE, 0);
	assert_status(send_run(g, INFLATE, HIGH_PFN + (HIGH_BYTES >> 12) - 1, 1), 1, PAGE_RUN_OK,
		      1);
	assert_status(send_run(g, INFLATE, HIGH_PFN + (HIGH_BYTES >> 12), 1), 0, PAGE_RUN_OUTSIDE,
		      0);
	rig_free(g);
}

static void numbers_that_overflow_are_refused(void **state)
{
	struct rig *g = begin(BITMAP);
	uint8_t m[64];
	uint64_t words[][2] = {
		/* header, record: start, shift 63; the last page; beyond all */
		{ 8ull << 32, FREE_PFN | 63ull << 52 },
		{ 8ull << 32, (BIT64(52) - 1) | 12ull << 52 },
		{ 8ull << 32, (BIT64(52) - 1) | 13ull << 52 },
		{ 8ull << 32, FREE_PFN | 11ull << 52 },
		{ 8ull << 32, FREE_PFN | 12ull << 52 | 8ull << 58 },
		{ 8ull << 32, FREE_PFN | 12ull << 52 | 7ull << 58 },
		{ 16ull << 32, FREE_PFN | 12ull << 52 },
		{ 0xfffffff8ull << 32, FREE_PFN | 12ull << 52 },
		{ 8ull << 32 | 1, FREE_PFN | 12ull << 52 },
		{ 9ull << 32, FREE_PFN | 12ull << 52 },
	};
	enum page_run_code codes[] = { PAGE_RUN_OUTSIDE,    PAGE_RUN_OUTSIDE,
				       PAGE_RUN_BAD_RECORD, PAGE_RUN_BAD_RECORD,
				       PAGE_RUN_BAD_RECORD, PAGE_RUN_BAD_RECORD,
				       PAGE_RUN_BAD_LENGTH, PAGE_RUN_BAD_LENGTH,
				       PAGE_RUN_BAD_HEADER, PAGE_RUN_BAD_LENGTH };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		put_word(m, words[i][0]);
		put_word(m + 8, words[i][1]);
		assert_status(send_message(g, INFLATE, m, 16), 0, codes[i], 0);
	}
	assert_int_equal(g->discard_calls, 0);
	assert_int_equal(ballooned(g), 0);
	/* And the queue still works. */
	assert_status(send_run(g, INFLATE, FREE_PFN, 1), 1, PAGE_RUN_OK, 1);
	rig_free(g);
}

static void the_longest_message_is_taken_and_a_longer_one_is_not(void **state)
{
	struct rig *g = begin(BITMAP);
	size_t size = PAGE_RUN_MESSAGE_BYTES_MAX;
	uint8_t *m = calloc(1, size + 8);

	(void)state;
	for (size_t at = 8; at < size + 8; at += 8)
		put_word(m + at, FREE_PFN | 12ull << 52);
	put_word(m, (uint64_t)(size - 8) << 32);
	assert_status(send_message(g, INFLATE, m, size), size / 8 - 1, PAGE_RUN_OK, size / 8 - 1);
	assert_discards(g, { FREE_PFN, 1 });
	/* The buffer may be longer than its message. */
	assert_status(send_message(g, INFLATE, m, size + 8), size / 8 - 1, PAGE_RUN_OK,
		      size / 8 - 1);
	put_word(m, (uint64_t)size << 32);
	assert_status(send_message(g, INFLATE, m, size + 8), 0, PAGE_RUN_BAD_LENGTH, 0);
	free(m);
	rig_free(g);
}

static void a_message_and_its_status_may_lie_in_pieces_of_a_byte(void **state)
{
	struct rig *g = begin(BITMAP);
	const struct page_run run = { FREE_PFN, 3 };
	struct driver_seg segs[64];
	uint8_t m[64], status[PAGE_RUN_STATUS_BYTES];
	size_t size = message_make(m, sizeof(m), &run, 1);
	uint32_t len, count = 0;

	(void)state;
	for (size_t i = 0; i < size; i++)
		segs[count++] = (struct driver_seg){ .addr = { rig_put(g, m + i, 1) }, .len = 1 };
	for (size_t i = 0; i < sizeof(status) + 4; i++)
		segs[count++] = (struct driver_seg){ .addr = { rig_put(g, "\xee", 1) },
						     .len = 1,
						     .writable = 1 };
	assert_int_equal(driver_ring_add(&g->rings[INFLATE], segs, count, 0), 1);
	driver_ring_publish(&g->rings[INFLATE]);
	g->ready[INFLATE] = true;
	rig_run(g);
	assert_int_equal(rig_get(g, INFLATE, &len), 1);
	assert_int_equal(len, PAGE_RUN_STATUS_BYTES);
	for (size_t i = 0; i < sizeof(status); i++)
		status[i] = *rig_at(g, segs[size + i].addr.v);
	assert_status(page_run_status_load(status), 3, PAGE_RUN_OK, 2);
	assert_int_equal(*rig_at(g, segs[size + 16].addr.v), 0xee);
	rig_free(g);
}

static void without_room_for_a_status_nothing_is_written(void **state)
{
	struct rig *g = begin(BITMAP);
	const struct page_run run = { FREE_PFN, 3 };
	uint8_t m[64];
	struct driver_seg segs[2] = {
		{ .len = (uint32_t)message_make(m, sizeof(m), &run, 1) },
		{ .len = PAGE_RUN_STATUS_BYTES - 1, .writable = 1 },
	};
	uint32_t len;

	(void)state;
	segs[0].addr.v = rig_put(g, m, segs[0].len);
	segs[1].addr.v =
		rig_put(g, "\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee", 15);
	assert_int_equal(driver_ring_add(&g->rings[INFLATE], segs, 2, 0), 1);
	driver_ring_publish(&g->rings[INFLATE]);
	g->ready[INFLATE] = true;
	rig_run(g);
	assert_int_equal(rig_get(g, INFLATE, &len), 1);
	assert_int_equal(len, 0);
	for (unsigned int i = 0; i < 15; i++)
		assert_int_equal(rig_at(g, segs[1].addr.v)[i], 0xee);
	assert_int_equal(ballooned(g), 3);
	rig_free(g);
}

static void a_discard_that_fails_is_told_in_each_message_that_shares_it(void **state)
{
	struct rig *g = begin(BITMAP);
	struct page_run runs[3] = { { FREE_PFN, 2 }, { FREE_PFN + 2, 2 }, { HIGH_PFN, 1 } };
	uint64_t status[3];
	uint8_t m[64];
	uint32_t len;

	(void)state;
	g->fail_discards = -EIO;
	g->fail_low = true;
	for (unsigned int i = 0; i < 3; i++)
		rig_send(g, INFLATE, m, message_make(m, sizeof(m), &runs[i], 1), &status[i]);
	rig_run(g);
	assert_int_equal(rig_get(g, INFLATE, &len), 3);
	assert_status(page_run_status_load(rig_at(g, status[0])), 0, PAGE_RUN_NOT_DISCARDED, 0);
	assert_status(page_run_status_load(rig_at(g, status[1])), 0, PAGE_RUN_NOT_DISCARDED, 0);
	assert_status(page_run_status_load(rig_at(g, status[2])), 1, PAGE_RUN_OK, 1);
	assert_int_equal(info_of(g).discard_errors, 1);
	rig_free(g);
}

static void more_runs_than_a_batch_holds_are_all_applied(void **state)
{
	/* Bitmaps with every other bit set: 224 runs a record, 1000 records. */
	struct rig *g = begin(BITMAP);
	uint8_t *m = calloc(1, 8 + 1000 * 64);
	uint64_t pages = 0;

	(void)state;
	for (unsigned int i = 0; i < 1000; i++) {
		put_word(m + 8 + i * 64ul, FREE_PFN | 12ull << 52 | 56ull << 58);
		for (unsigned int w = 1; w < 8; w++)
			put_word(m + 8 + i * 64ul + w * 8, 0x5555555555555555);
		pages += 224;
	}
	put_word(m, 64000ull << 32);
	assert_status(send_message(g, INFLATE, m, 8 + 64000), pages, PAGE_RUN_OK, 1000);
	assert_int_equal(ballooned(g), 224);
	free(m);
	rig_free(g);
}

/* --- large pages ---------------------------------------------------------------------- */

#define BLOCK_PAGES 512u
#define BLOCK (BLOCK_PAGES * UINT64_C(4096))

static void a_block_that_several_messages_complete_is_discarded_whole(void **state)
{
	struct rig *g = begin(BITMAP | MUST_TELL);
	uint64_t block = LOW_PFN + 2 * BLOCK_PAGES;

	(void)state;
	g->low_file.block = BLOCK;
	send_run(g, INFLATE, block, 256);
	assert_discards(g, { block, 256 });
	send_run(g, INFLATE, block + 300, 212);
	assert_discards(g, { block + 300, 212 });
	send_run(g, INFLATE, block + 256, 44);
	assert_discards(g, { block, 512 });
	rig_free(g);
}

static void a_page_taken_back_keeps_its_block_from_being_discarded(void **state)
{
	struct rig *g = begin(BITMAP | MUST_TELL);
	uint64_t block = LOW_PFN + 2 * BLOCK_PAGES;

	(void)state;
	g->low_file.block = BLOCK;
	send_run(g, INFLATE, block, 256);
	send_run(g, DEFLATE, block + 255, 1);
	g->discard_count = 0;
	send_run(g, INFLATE, block + 256, 256);
	assert_discards(g, { block + 256, 256 });
	rig_free(g);
}

static void without_must_tell_host_acknowledged_pages_are_left_alone(void **state)
{
	struct rig *g = begin(BITMAP);
	uint64_t block = LOW_PFN + 2 * BLOCK_PAGES;

	(void)state;
	g->low_file.block = BLOCK;
	send_run(g, INFLATE, block, 256);
	g->discard_count = 0;
	send_run(g, INFLATE, block + 256, 256);
	assert_discards(g, { block + 256, 256 });
	rig_free(g);
}

static void pages_that_cannot_be_split_go_when_they_are_complete(void **state)
{
	struct rig *g = begin(BITMAP | MUST_TELL);
	uint64_t block = LOW_PFN + BLOCK_PAGES;

	(void)state;
	g->low_file.page = g->low_file.block = BLOCK;
	assert_int_equal(send_run(g, INFLATE, block, 511).pages, 511);
	assert_int_equal(g->discard_calls, 0);
	assert_int_equal(ballooned(g), 511);
	send_run(g, INFLATE, block + 511, 1);
	assert_discards(g, { block, 512 });
	/* One run over an end of a block, and a whole one. */
	send_run(g, INFLATE, block + 600, 936);
	assert_discards(g, { block + 1024, 512 });
	rig_free(g);
}

static void blocks_are_counted_in_the_file_not_in_guest_addresses(void **state)
{
	struct rig *g = begin(BITMAP | MUST_TELL);
	/* HIGH begins 3 pages behind a block boundary of the guest, and 5 in the file. */
	uint64_t first = HIGH_PFN + BLOCK_PAGES - 5;

	(void)state;
	g->high_file.block = BLOCK;
	g->high_file.fd_offset = 5 * UINT64_C(4096);
	rig_set_memory(g, true, true);
	send_run(g, INFLATE, first, 500);
	g->discard_count = 0;
	send_run(g, INFLATE, first + 500, 12);
	assert_discards(g, { first, 512 });
	/* The part of a block in front of the region is not ours to judge. */
	send_run(g, INFLATE, HIGH_PFN, 500);
	assert_discards(g, { HIGH_PFN, 500 });
	send_run(g, INFLATE, HIGH_PFN + 500, 7);
	assert_discards(g, { HIGH_PFN + 500, 7 });
	rig_free(g);
}

/* --- against a naive model --------------------------------------------------------- */

#define MODEL_PAGES ((LOW_BYTES + HIGH_BYTES - RINGS_BYTES) >> 12)

/* Page number @i of the model, behind the rings, over the hole. */
static uint64_t model_pfn(uint64_t i)
{
	uint64_t low = (LOW_BYTES - RINGS_BYTES) >> 12;

	return i < low ? FREE_PFN + i : HIGH_PFN + (i - low);
}

static int64_t model_index(uint64_t pfn)
{
	uint64_t low = (LOW_BYTES - RINGS_BYTES) >> 12;

	if (pfn - FREE_PFN < low)
		return (int64_t)(pfn - FREE_PFN);
	if (pfn - HIGH_PFN < HIGH_BYTES >> 12)
		return (int64_t)(low + pfn - HIGH_PFN);
	return -1;
}

static void the_account_and_the_memory_agree_with_a_naive_model(void **state)
{
	static bool in[MODEL_PAGES], zero[MODEL_PAGES];
	static uint32_t pfns[512];
	uint64_t sum = 0;

	(void)state;
	random_begin_anew();
	memset(in, 0, sizeof(in));
	memset(zero, 0, sizeof(zero));
	for (unsigned int with = 0; with < 2; with++) {
		struct rig *g = begin(with ? BITMAP : 0);

		sum = 0;
		memset(in, 0, sizeof(in));
		memset(zero, 0, sizeof(zero));
		for (unsigned int step = 0; step < 2000; step++) {
			unsigned int queue = below(5) < 3 ? INFLATE : DEFLATE;
			uint32_t count = 1 + (uint32_t)below(512);
			uint64_t start = below(MODEL_PAGES);

			for (uint32_t i = 0; i < count; i++) {
				/* Runs up, runs down, anything, and what is no memory. */
				uint64_t at = step % 3 == 0   ? start + i
					      : step % 3 == 1 ? start - i
							      : below(MODEL_PAGES);

				pfns[i] = (uint32_t)model_pfn(at % MODEL_PAGES);
				if (!with && below(50) == 0)
					pfns[i] = (uint32_t)(LOW_PFN + (LOW_BYTES >> 12) +
							     below(1000));
			}
			if (!with) {
				send_pfns(g, queue, pfns, count);
			} else {
				struct page_run runs[512];
				uint32_t n = page_runs_from_pfns(runs, pfns, count);
				uint8_t m[8192];

				n = page_runs_merge(runs, n);
				send_message(g, queue, m, message_make(m, sizeof(m), runs, n));
			}
			for (uint32_t i = 0; i < count; i++) {
				int64_t at = model_index(pfns[i]);

				if (at < 0 || in[at] == (queue == INFLATE))
					continue;
				in[at] = queue == INFLATE;
				zero[at] |= in[at];
				sum += in[at] ? 1 : UINT64_MAX;
			}
			assert_int_equal(ballooned(g), sum);
		}
		for (uint64_t i = 0; i < MODEL_PAGES; i++)
			assert_int_equal(*rig_at(g, model_pfn(i) << 12), zero[i] ? 0 : 0x5a);
		rig_free(g);
	}
}

static void random_messages_never_reach_outside_guest_memory(void **state)
{
	struct rig *g = begin(BITMAP | MUST_TELL);
	uint8_t m[512];

	(void)state;
	random_begin_anew();
	g->low_file.block = g->high_file.block = BLOCK;
	for (unsigned int step = 0; step < 20000; step++) {
		size_t size = 8 + 8 * below(40);

		for (size_t i = 0; i < size; i++)
			m[i] = (uint8_t)below(256);
		/* Half of them with a good header, and records near guest memory. */
		if (step % 2) {
			put_word(m, (uint64_t)(size - 8) << 32);
			for (size_t i = 8; i < size; i += 16)
				put_word(m + i, (FREE_PFN + below(0x50000)) |
							(uint64_t)(12 + below(8)) << 52 |
							(uint64_t)below(8) << 61);
		}
		send_message(g, below(2) ? INFLATE : DEFLATE, m, size); /* the rig checks */
	}
	assert_int_equal(info_of(g).state, UMBRA_BALLOON_RUNNING);
	assert_true(info_of(g).refused_records > 1000);
	rig_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stock_pfns_in_any_order_become_one_discard),
		cmocka_unit_test(time_is_told_with_and_without_discarding),
		cmocka_unit_test(pages_merge_across_buffers_that_are_available_together),
		cmocka_unit_test(more_buffers_than_a_batch_are_all_served),
		cmocka_unit_test(inflating_twice_or_deflating_what_is_not_there_changes_nothing),
		cmocka_unit_test(pfns_that_are_no_memory_are_refused_and_the_others_count),
		cmocka_unit_test(stock_messages_of_odd_lengths_are_completed),
		cmocka_unit_test(one_record_moves_all_of_a_region),
		cmocka_unit_test(a_record_that_leaves_guest_memory_is_refused_as_a_whole),
		cmocka_unit_test(numbers_that_overflow_are_refused),
		cmocka_unit_test(the_longest_message_is_taken_and_a_longer_one_is_not),
		cmocka_unit_test(a_message_and_its_status_may_lie_in_pieces_of_a_byte),
		cmocka_unit_test(without_room_for_a_status_nothing_is_written),
		cmocka_unit_test(a_discard_that_fails_is_told_in_each_message_that_shares_it),
		cmocka_unit_test(more_runs_than_a_batch_holds_are_all_applied),
		cmocka_unit_test(a_block_that_several_messages_complete_is_discarded_whole),
		cmocka_unit_test(a_page_taken_back_keeps_its_block_from_being_discarded),
		cmocka_unit_test(without_must_tell_host_acknowledged_pages_are_left_alone),
		cmocka_unit_test(pages_that_cannot_be_split_go_when_they_are_complete),
		cmocka_unit_test(blocks_are_counted_in_the_file_not_in_guest_addresses),
		cmocka_unit_test(the_account_and_the_memory_agree_with_a_naive_model),
		cmocka_unit_test(random_messages_never_reach_outside_guest_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
