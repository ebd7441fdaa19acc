/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Promises of the balloon device, kept before a driver that may say anything.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_balloon.h>
#include <linux/virtio_config.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "balloon_rig.h"
#include "base/bits.h"
#include "base/shm.h"

#define BASIC BIT64(VIRTIO_F_VERSION_1)
#define MUST_TELL BIT64(VIRTIO_BALLOON_F_MUST_TELL_HOST)
#define STATS BIT64(VIRTIO_BALLOON_F_STATS_VQ)
#define POISON BIT64(VIRTIO_BALLOON_F_PAGE_POISON)
#define REPORTING BIT64(VIRTIO_BALLOON_F_REPORTING)
#define BITMAP BIT64(PAGE_RUN_FEATURE_BIT)

#define INFLATE 0u
#define DEFLATE 1u
#define RING_SIZE 128u
#define PAGE 4096u
/* The first page of LOW behind the rings. */
#define FREE_PFN (LOW_PFN + (RINGS_BYTES >> 12))

static struct rig *begin(uint64_t features)
{
	struct rig *g = rig_new(0);

	rig_negotiate(g, BASIC | features);
	rig_set_memory(g, true, true);
	rig_start(g, INFLATE, RING_SIZE, 0);
	rig_start(g, DEFLATE, RING_SIZE, 0);
	rig_run(g);
	return g;
}

static struct umbra_balloon_info info_of(struct rig *g)
{
	struct umbra_balloon_info info;

	balloon_device_info(g->device, &info);
	return info;
}

static uint64_t ballooned(struct rig *g)
{
	return info_of(g).ballooned_bytes / PAGE;
}

/* One buffer with these pfns, to the end. */
static void send_pfns(struct rig *g, unsigned int queue, const uint32_t *pfns, size_t count)
{
	uint32_t len;

	rig_reuse(g);
	rig_send(g, queue, pfns, count * sizeof(*pfns), NULL);
	rig_run(g);
	assert_int_equal(rig_get(g, queue, &len), 1);
	assert_int_equal(len, 0);
}

static size_t message_make(uint8_t *bytes, size_t size, const struct page_run *runs, size_t count)
{
	struct page_run_encoder e;

	page_run_encode_begin(&e, bytes, (page_run_u32)size);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(page_run_encode(&e, runs[i]), runs[i].count);
	return page_run_encode_finish(&e);
}

/* One message, to the end; its status. */
static struct page_run_status send_message(struct rig *g, unsigned int queue, const void *bytes,
					   size_t size)
{
	uint64_t status;
	uint32_t len;

	rig_reuse(g);
	rig_send(g, queue, bytes, size, &status);
	rig_run(g);
	assert_int_equal(rig_get(g, queue, &len), 1);
	assert_int_equal(len, PAGE_RUN_STATUS_BYTES);
	return page_run_status_load(rig_at(g, status));
}

static struct page_run_status send_runs(struct rig *g, unsigned int queue,
					const struct page_run *runs, size_t count)
{
	uint8_t bytes[4096];

	return send_message(g, queue, bytes, message_make(bytes, sizeof(bytes), runs, count));
}

static struct page_run_status send_run(struct rig *g, unsigned int queue, uint64_t pfn,
				       uint64_t count)
{
	const struct page_run run = { pfn, count };

	return send_runs(g, queue, &run, 1);
}

static void put_word(uint8_t *at, uint64_t v)
{
	for (unsigned int i = 0; i < 8; i++)
		at[i] = (uint8_t)(v >> 8 * i);
}

#define assert_status(got, want_pages, want_code, want_record)                                     \
	do {                                                                                       \
		struct page_run_status status_ = (got);                                            \
		assert_int_equal(status_.code, want_code);                                         \
		assert_int_equal(status_.pages, want_pages);                                       \
		assert_int_equal(status_.record, want_record);                                     \
	} while (0)

#define assert_discards(g, ...)                                                                    \
	do {                                                                                       \
		const struct rig_discard want_[] = { __VA_ARGS__ };                                \
		assert_int_equal((g)->discard_count, ARRAY_SIZE(want_));                           \
		assert_memory_equal((g)->discards, want_, sizeof(want_));                          \
		(g)->discard_count = 0;                                                            \
	} while (0)

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
	struct ring_seg segs[64];
	uint8_t m[64], status[PAGE_RUN_STATUS_BYTES];
	size_t size = message_make(m, sizeof(m), &run, 1);
	uint32_t len, count = 0;

	(void)state;
	for (size_t i = 0; i < size; i++)
		segs[count++] = (struct ring_seg){ .addr = rig_put(g, m + i, 1), .len = 1 };
	for (size_t i = 0; i < sizeof(status) + 4; i++)
		segs[count++] =
			(struct ring_seg){ .addr = rig_put(g, "\xee", 1), .len = 1, .writable = 1 };
	assert_int_equal(driver_ring_add(&g->rings[INFLATE], segs, count, 0), 1);
	driver_ring_publish(&g->rings[INFLATE]);
	g->ready[INFLATE] = true;
	rig_run(g);
	assert_int_equal(rig_get(g, INFLATE, &len), 1);
	assert_int_equal(len, PAGE_RUN_STATUS_BYTES);
	for (size_t i = 0; i < sizeof(status); i++)
		status[i] = *rig_at(g, segs[size + i].addr);
	assert_status(page_run_status_load(status), 3, PAGE_RUN_OK, 2);
	assert_int_equal(*rig_at(g, segs[size + 16].addr), 0xee);
	rig_free(g);
}

static void without_room_for_a_status_nothing_is_written(void **state)
{
	struct rig *g = begin(BITMAP);
	const struct page_run run = { FREE_PFN, 3 };
	uint8_t m[64];
	struct ring_seg segs[2] = {
		{ .len = (uint32_t)message_make(m, sizeof(m), &run, 1) },
		{ .len = PAGE_RUN_STATUS_BYTES - 1, .writable = 1 },
	};
	uint32_t len;

	(void)state;
	segs[0].addr = rig_put(g, m, segs[0].len);
	segs[1].addr =
		rig_put(g, "\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee", 15);
	assert_int_equal(driver_ring_add(&g->rings[INFLATE], segs, 2, 0), 1);
	driver_ring_publish(&g->rings[INFLATE]);
	g->ready[INFLATE] = true;
	rig_run(g);
	assert_int_equal(rig_get(g, INFLATE, &len), 1);
	assert_int_equal(len, 0);
	for (unsigned int i = 0; i < 15; i++)
		assert_int_equal(rig_at(g, segs[1].addr)[i], 0xee);
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

/* --- the account ---------------------------------------------------------------------- */

static void a_memory_table_that_changes_keeps_the_account_right(void **state)
{
	struct rig *g = begin(BITMAP);

	(void)state;
	send_run(g, INFLATE, FREE_PFN, 10);
	send_run(g, INFLATE, HIGH_PFN, 20);
	assert_int_equal(ballooned(g), 30);
	rig_set_memory(g, true, true); /* said again */
	assert_int_equal(ballooned(g), 30);
	rig_set_memory(g, true, false); /* unplugged */
	assert_int_equal(ballooned(g), 10);
	assert_status(send_run(g, INFLATE, HIGH_PFN, 1), 0, PAGE_RUN_OUTSIDE, 0);
	rig_set_memory(g, true, true); /* plugged in again: other memory by now */
	assert_int_equal(ballooned(g), 10);
	send_run(g, INFLATE, HIGH_PFN, 20);
	g->high_file.file_inode = 3; /* another file in its place */
	rig_set_memory(g, true, true);
	assert_int_equal(ballooned(g), 10);
	send_run(g, DEFLATE, FREE_PFN, 10);
	assert_int_equal(ballooned(g), 0);
	rig_free(g);
}

static void a_fresh_driver_starts_with_an_empty_account(void **state)
{
	struct rig *g = begin(BITMAP);
	struct umbra_error err;
	uint16_t base;

	(void)state;
	send_run(g, INFLATE, FREE_PFN, 10);
	rig_stop(g, INFLATE, &base);
	rig_stop(g, DEFLATE, &base);
	assert_int_equal(ballooned(g), 10); /* the machine may just be paused */
	rig_start(g, INFLATE, RING_SIZE, 0);
	assert_int_equal(ballooned(g), 0);
	rig_start(g, DEFLATE, RING_SIZE, 0);
	send_run(g, INFLATE, FREE_PFN, 10);
	assert_int_equal(balloon_device_ops.reset(g->device, &err), 0);
	assert_int_equal(ballooned(g), 0);
	rig_negotiate(g, BASIC | BITMAP);
	rig_start(g, INFLATE, RING_SIZE, 0);
	rig_start(g, DEFLATE, RING_SIZE, 0);
	send_run(g, INFLATE, FREE_PFN, 10);
	assert_int_equal(balloon_device_ops.set_status(g->device, 4, &err), 0);
	assert_int_equal(balloon_device_ops.set_status(g->device, 0, &err), 0);
	assert_int_equal(ballooned(g), 0);
	rig_free(g);
}

static void a_paused_machine_goes_on_with_its_account(void **state)
{
	struct rig *g = begin(BITMAP);
	uint16_t inflate, deflate;

	(void)state;
	send_run(g, INFLATE, FREE_PFN, 10);
	rig_stop(g, INFLATE, &inflate);
	rig_stop(g, DEFLATE, &deflate);
	assert_int_equal(inflate, 1);
	assert_int_equal(deflate, 0);
	rig_start(g, INFLATE, RING_SIZE, inflate);
	rig_start(g, DEFLATE, RING_SIZE, deflate);
	rig_run(g);
	assert_int_equal(ballooned(g), 10);
	send_run(g, DEFLATE, FREE_PFN, 4);
	assert_int_equal(ballooned(g), 6);
	rig_free(g);
}

static void a_front_end_that_comes_back_finds_its_account(void **state)
{
	struct rig *g = begin(BITMAP);
	uint16_t base;

	(void)state;
	send_run(g, INFLATE, FREE_PFN, 10);
	rig_stop(g, INFLATE, &base);
	balloon_device_detach(g->device);
	assert_int_equal(ballooned(g), 0);
	assert_int_equal(info_of(g).state, UMBRA_BALLOON_WAITING);
	assert_int_equal(info_of(g).memory_bytes, 0);
	balloon_device_attach(g->device);
	rig_negotiate(g, BASIC | BITMAP);
	rig_set_memory(g, true, true);
	rig_start(g, INFLATE, RING_SIZE, base);
	assert_int_equal(ballooned(g), 10);
	/* Another guest has rings that are new. */
	balloon_device_detach(g->device);
	balloon_device_attach(g->device);
	rig_negotiate(g, BASIC | BITMAP);
	rig_set_memory(g, true, true);
	rig_start(g, INFLATE, RING_SIZE, 0);
	assert_int_equal(ballooned(g), 0);
	rig_free(g);
}

static void a_driver_that_is_set_up_anew_without_a_stop_is_a_fresh_one(void **state)
{
	struct rig *g = begin(BITMAP);

	(void)state;
	send_run(g, INFLATE, FREE_PFN, 10);
	rig_start(g, INFLATE, RING_SIZE, 0);
	rig_start(g, DEFLATE, RING_SIZE, 0);
	assert_int_equal(ballooned(g), 0);
	send_run(g, INFLATE, FREE_PFN, 5);
	assert_int_equal(ballooned(g), 5);
	assert_int_equal(info_of(g).state, UMBRA_BALLOON_RUNNING);
	rig_free(g);
}

static void buffers_that_an_earlier_life_took_and_kept_are_served(void **state)
{
	struct rig *g = begin(BITMAP);
	const struct page_run run = { FREE_PFN, 3 };
	uint8_t m[64];
	uint32_t len;
	uint16_t base;

	(void)state;
	send_run(g, INFLATE, FREE_PFN + 8, 1);
	rig_stop(g, INFLATE, &base);
	rig_send(g, INFLATE, m, message_make(m, sizeof(m), &run, 1), NULL);
	/* The front-end believes that it has been taken: the base is behind it. */
	assert_int_equal(balloon_device_ops.ring_set_base(g->device, INFLATE, base + 1, NULL), 0);
	g->services[INFLATE] = NULL;
	{
		int kick = 1000;
		struct umbra_error err;

		assert_int_equal(balloon_device_ops.ring_set_kick(g->device, INFLATE, &kick, &err),
				 0);
	}
	rig_run(g);
	assert_int_equal(rig_get(g, INFLATE, &len), 1);
	assert_int_equal(ballooned(g), 4);
	rig_free(g);
}

/* --- statistics and reports --------------------------------------------------------------- */

static size_t stat_put(uint8_t *at, uint16_t tag, uint64_t value)
{
	at[0] = (uint8_t)tag;
	at[1] = (uint8_t)(tag >> 8);
	put_word(at + 2, value);
	return 10;
}

static void statistics_are_kept_and_asked_for(void **state)
{
	struct rig *g = begin(STATS);
	uint8_t bytes[64];
	size_t size = 0;
	uint32_t len;

	(void)state;
	rig_start(g, 2, 8, 0);
	assert_true(info_of(g).stats.age_ms == UINT64_MAX);
	size += stat_put(bytes + size, VIRTIO_BALLOON_S_MEMFREE, 0);
	size += stat_put(bytes + size, VIRTIO_BALLOON_S_MEMTOT, UINT64_MAX);
	size += stat_put(bytes + size, 999, 7); /* of a later version */
	rig_send(g, 2, bytes, size + 9, NULL);  /* and a part of one */
	rig_run(g);
	g->now_us += 3000000;
	assert_int_equal(info_of(g).stats.age_ms, 3000);
	/* 0 and absent are two things. */
	assert_int_equal(info_of(g).stats.present, 1u << 4 | 1u << 5);
	assert_true(info_of(g).stats.values[5] == UINT64_MAX);
	assert_int_equal(rig_get(g, 2, &len), 0); /* kept */
	balloon_device_ask_stats(g->device);
	rig_run(g);
	assert_int_equal(rig_get(g, 2, &len), 1);
	assert_int_equal(g->calls[2], 1);
	stat_put(bytes, VIRTIO_BALLOON_S_SWAP_IN, 5);
	rig_send(g, 2, bytes, 10, NULL);
	rig_run(g);
	assert_int_equal(info_of(g).stats.present, 1);
	assert_int_equal(info_of(g).stats.age_ms, 0);
	rig_free(g);
}

static void a_kept_buffer_is_taken_again_after_a_pause(void **state)
{
	struct rig *g = begin(STATS);
	uint8_t bytes[16];
	uint16_t base;
	uint32_t len;

	(void)state;
	rig_start(g, 2, 8, 0);
	rig_send(g, 2, bytes, stat_put(bytes, 0, 1), NULL);
	rig_run(g);
	rig_stop(g, 2, &base);
	assert_int_equal(base, 0);
	{
		int kick = 1004;
		struct umbra_error err;

		assert_int_equal(balloon_device_ops.ring_set_kick(g->device, 2, &kick, &err), 0);
	}
	rig_run(g);
	balloon_device_ask_stats(g->device);
	rig_run(g);
	assert_int_equal(rig_get(g, 2, &len), 1);
	rig_free(g);
}

static void report(struct rig *g, unsigned int queue, uint64_t gpa, uint32_t size)
{
	struct ring_seg seg = { .addr = gpa, .len = size, .writable = 1 };
	uint32_t len;

	assert_int_equal(driver_ring_add(&g->rings[queue], &seg, 1, 0), 1);
	driver_ring_publish(&g->rings[queue]);
	g->ready[queue] = true;
	rig_run(g);
	assert_int_equal(rig_get(g, queue, &len), 1);
	assert_int_equal(len, 0);
}

/* Linux counts the queues that it has; the specification those that there could be. */
static void reports_are_heard_on_whatever_queue_they_come(void **state)
{
	static const struct {
		uint64_t features;
		unsigned int queue;
	} cases[] = { { REPORTING, 2 }, { REPORTING | STATS, 3 }, { REPORTING | STATS, 4 } };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct rig *g = begin(cases[i].features);

		rig_start(g, cases[i].queue, 8, 0);
		report(g, cases[i].queue, HIGH_GPA + 8192, 3 * PAGE);
		assert_discards(g, { HIGH_PFN + 2, 3 });
		assert_int_equal(ballooned(g), 0);
		assert_int_equal(info_of(g).reported_bytes, 3 * PAGE);
		rig_free(g);
	}
}

static void only_whole_pages_of_a_report_are_discarded(void **state)
{
	struct rig *g = begin(REPORTING);

	(void)state;
	rig_start(g, 2, 8, 0);
	report(g, 2, HIGH_GPA + 1, PAGE);
	assert_int_equal(g->discard_count, 0);
	report(g, 2, HIGH_GPA + 1, 3 * PAGE - 2);
	assert_discards(g, { HIGH_PFN + 1, 1 });
	rig_free(g);
}

static void reported_pages_that_are_poisoned_stay_as_they_are(void **state)
{
	static const uint8_t poison[4] = { 0xaa, 0xaa, 0xaa, 0xaa };
	struct rig *g = begin(REPORTING | POISON);
	struct umbra_error err;

	(void)state;
	rig_start(g, 2, 8, 0);
	assert_int_equal(balloon_device_ops.set_config(g->device, 12, poison, 4, 0, &err), 0);
	report(g, 2, HIGH_GPA, 4 * PAGE);
	assert_int_equal(g->discard_calls, 0);
	assert_int_equal(*rig_at(g, HIGH_GPA), 0x5a);
	rig_free(g);
}

/* --- configuration and features --------------------------------------------------------------- */

static uint32_t config_get(struct rig *g, uint32_t offset)
{
	uint8_t bytes[4];
	struct umbra_error err;

	assert_int_equal(balloon_device_ops.get_config(g->device, offset, bytes, 4, &err), 0);
	return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
	       (uint32_t)bytes[3] << 24;
}

static void the_driver_is_told_the_target_and_cannot_write_it(void **state)
{
	static const uint8_t ones[16] = { 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0,
					  0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0 };
	struct rig *g = begin(0);
	struct umbra_error err;

	(void)state;
	assert_int_equal(config_get(g, 0), 0);
	g->configs_changed = 0;
	balloon_device_set_target(g->device, (LOW_BYTES + HIGH_BYTES) - 5 * PAGE);
	assert_int_equal(g->configs_changed, 1);
	assert_int_equal(config_get(g, 0), 5);
	assert_int_equal(balloon_device_ops.set_config(g->device, 0, ones, 16, 0, &err), 0);
	assert_int_equal(config_get(g, 0), 5);
	assert_int_equal(config_get(g, 4), 1);
	assert_int_equal(config_get(g, 8), 0);
	assert_int_equal(info_of(g).driver_bytes, PAGE);
	assert_int_equal(info_of(g).ballooned_bytes, 0);
	/* Out of bounds, also by overflow. */
	assert_int_equal(balloon_device_ops.set_config(g->device, 13, ones, 4, 0, &err), -EINVAL);
	assert_int_equal(balloon_device_ops.set_config(g->device, 17, ones, 0, 0, &err), -EINVAL);
	assert_int_equal(balloon_device_ops.set_config(g->device, UINT32_MAX - 3, ones, 8, 0, &err),
			 -EINVAL);
	/* Memory that comes later is the guest's, and the target stays what it was. */
	g->configs_changed = 0;
	rig_set_memory(g, true, false);
	assert_int_equal(config_get(g, 0), 0);
	assert_int_equal(g->configs_changed, 1);
	rig_free(g);
}

static void a_driver_cannot_take_what_was_not_offered(void **state)
{
	struct rig *g = rig_new(UMBRA_BALLOON_HIDE_PAGE_BITMAP | UMBRA_BALLOON_HIDE_MUST_TELL_HOST);
	struct umbra_error err;
	uint64_t offered;

	(void)state;
	assert_int_equal(balloon_device_ops.get_features(g->device, &offered, &err), 0);
	assert_int_equal(offered & (BITMAP | MUST_TELL | BIT64(VIRTIO_BALLOON_F_FREE_PAGE_HINT)),
			 0);
	assert_int_equal(balloon_device_ops.set_features(g->device, BASIC | BITMAP, &err), -EINVAL);
	assert_int_equal(balloon_device_ops.set_features(g->device, STATS, &err), -EINVAL);
	assert_int_equal(balloon_device_ops.set_features(g->device, BASIC | STATS, &err), 0);
	rig_free(g);
}

/* --- a ring that is violated --------------------------------------------------------------------
 */

static void a_broken_queue_is_reported_and_the_others_go_on(void **state)
{
	struct rig *g = begin(0);
	uint32_t pfn = (uint32_t)FREE_PFN, len;
	struct umbra_error err;
	uint8_t status;

	(void)state;
	send_pfns(g, INFLATE, &pfn, 1);
	/* More chains than the ring holds. */
	shm_store16(&g->rings[INFLATE].split.avail->idx, 5000);
	g->ready[INFLATE] = true;
	rig_run(g);
	assert_int_equal(info_of(g).state, UMBRA_BALLOON_BROKEN);
	assert_non_null(strstr(info_of(g).reason, "available"));
	assert_int_equal(balloon_device_ops.get_status(g->device, &status, &err), 0);
	assert_true(status & VIRTIO_CONFIG_S_NEEDS_RESET);
	send_pfns(g, DEFLATE, &pfn, 1);
	assert_int_equal(ballooned(g), 0);
	assert_int_equal(rig_get(g, INFLATE, &len), 0);
	/* A reset mends it. */
	assert_int_equal(balloon_device_ops.reset(g->device, &err), 0);
	rig_negotiate(g, BASIC);
	rig_start(g, INFLATE, RING_SIZE, 0);
	rig_start(g, DEFLATE, RING_SIZE, 0);
	send_pfns(g, INFLATE, &pfn, 1);
	assert_int_equal(info_of(g).state, UMBRA_BALLOON_RUNNING);
	rig_free(g);
}

static void a_ring_that_loses_its_memory_breaks_and_touches_nothing(void **state)
{
	struct rig *g = begin(0);

	(void)state;
	rig_set_memory(g, false, true);
	assert_int_equal(info_of(g).state, UMBRA_BALLOON_BROKEN);
	assert_null(g->services[INFLATE]);
	assert_null(g->services[DEFLATE]);
	rig_free(g);
}

static void a_guest_may_balloon_its_own_rings(void **state)
{
	struct rig *g = begin(BITMAP);
	const struct page_run run = { LOW_PFN, RINGS_BYTES >> 12 };
	uint8_t m[64];

	(void)state;
	rig_send(g, INFLATE, m, message_make(m, sizeof(m), &run, 1), NULL);
	/* Not looked at while it happens: the rig's own rings vanish. */
	free(g->privates[0]);
	free(g->privates[1]);
	g->privates[0] = g->privates[1] = NULL;
	rig_run(g);
	assert_int_equal(ballooned(g), RINGS_BYTES >> 12);
	rig_free(g);
}

/* --- against a naive model
 * ------------------------------------------------------------------------ */

static uint64_t seed;

static uint64_t dice(uint64_t below)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (seed >> 33) % below;
}

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
	seed = (uint64_t)time(NULL);
	print_message("seed %lu\n", seed);
	memset(in, 0, sizeof(in));
	memset(zero, 0, sizeof(zero));
	for (unsigned int with = 0; with < 2; with++) {
		struct rig *g = begin(with ? BITMAP : 0);

		sum = 0;
		memset(in, 0, sizeof(in));
		memset(zero, 0, sizeof(zero));
		for (unsigned int step = 0; step < 2000; step++) {
			unsigned int queue = dice(5) < 3 ? INFLATE : DEFLATE;
			uint32_t count = 1 + (uint32_t)dice(512);
			uint64_t start = dice(MODEL_PAGES);

			for (uint32_t i = 0; i < count; i++) {
				/* Runs up, runs down, anything, and what is no memory. */
				uint64_t at = step % 3 == 0   ? start + i
					      : step % 3 == 1 ? start - i
							      : dice(MODEL_PAGES);

				pfns[i] = (uint32_t)model_pfn(at % MODEL_PAGES);
				if (!with && dice(50) == 0)
					pfns[i] = (uint32_t)(LOW_PFN + (LOW_BYTES >> 12) +
							     dice(1000));
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
	seed = (uint64_t)time(NULL);
	print_message("seed %lu\n", seed);
	g->low_file.block = g->high_file.block = BLOCK;
	for (unsigned int step = 0; step < 20000; step++) {
		size_t size = 8 + 8 * dice(40);

		for (size_t i = 0; i < size; i++)
			m[i] = (uint8_t)dice(256);
		/* Half of them with a good header, and records near guest memory. */
		if (step % 2) {
			put_word(m, (uint64_t)(size - 8) << 32);
			for (size_t i = 8; i < size; i += 16)
				put_word(m + i, (FREE_PFN + dice(0x50000)) | (12 + dice(8)) << 52 |
							dice(8) << 61);
		}
		send_message(g, dice(2) ? INFLATE : DEFLATE, m, size); /* the rig checks */
	}
	assert_int_equal(info_of(g).state, UMBRA_BALLOON_RUNNING);
	assert_true(info_of(g).refused_records > 1000);
	rig_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stock_pfns_in_any_order_become_one_discard),
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
		cmocka_unit_test(a_memory_table_that_changes_keeps_the_account_right),
		cmocka_unit_test(a_fresh_driver_starts_with_an_empty_account),
		cmocka_unit_test(a_paused_machine_goes_on_with_its_account),
		cmocka_unit_test(a_front_end_that_comes_back_finds_its_account),
		cmocka_unit_test(a_driver_that_is_set_up_anew_without_a_stop_is_a_fresh_one),
		cmocka_unit_test(buffers_that_an_earlier_life_took_and_kept_are_served),
		cmocka_unit_test(statistics_are_kept_and_asked_for),
		cmocka_unit_test(a_kept_buffer_is_taken_again_after_a_pause),
		cmocka_unit_test(reports_are_heard_on_whatever_queue_they_come),
		cmocka_unit_test(only_whole_pages_of_a_report_are_discarded),
		cmocka_unit_test(reported_pages_that_are_poisoned_stay_as_they_are),
		cmocka_unit_test(the_driver_is_told_the_target_and_cannot_write_it),
		cmocka_unit_test(a_driver_cannot_take_what_was_not_offered),
		cmocka_unit_test(a_broken_queue_is_reported_and_the_others_go_on),
		cmocka_unit_test(a_ring_that_loses_its_memory_breaks_and_touches_nothing),
		cmocka_unit_test(a_guest_may_balloon_its_own_rings),
		cmocka_unit_test(the_account_and_the_memory_agree_with_a_naive_model),
		cmocka_unit_test(random_messages_never_reach_outside_guest_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
