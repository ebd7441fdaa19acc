/* SPDX-License-Identifier: BSD-2-Clause */
/* What the page-run decoder promises of malformed messages: they harm only
 * themselves.  The table is section 3 of docs/balloon-protocol.md. */
#include "page_run_rig.h"

static void a_header_with_unknown_bits_is_refused(void **state)
{
	(void)state;
	for (unsigned int bit = 0; bit < 32; bit++) {
		struct by_hand m = header(0, 0, 0, 8);

		m.bytes[bit / 8] = (uint8_t)(1u << bit % 8);
		record(&m, 1, 12, 0);
		assert_int_equal(decode_hand(&m)->code, PAGE_RUN_BAD_HEADER);
		assert_int_equal(decode_hand(&m)->record_count, 0);
	}
}

static void a_length_that_the_buffer_does_not_hold_is_refused(void **state)
{
	static const uint64_t bad[] = { 1,  4,  7,          9,          15,        17,
					24, 32, 0x7ffffff8, 0xfffffff8, 0xffffffff };
	struct by_hand m = header(0, 0, 0, 0);

	(void)state;
	for (size_t length = 0; length < 8; length++) {
		assert_int_equal(decode(m.bytes, length)->code, PAGE_RUN_BAD_LENGTH);
		assert_int_equal(decode(m.bytes, length)->record_count, 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		m = header(0, 0, 0, bad[i]);
		record(&m, 1, 12, 0);
		record(&m, 3, 12, 0);
		assert_int_equal(decode_hand(&m)->code, PAGE_RUN_BAD_LENGTH);
		assert_int_equal(decode_hand(&m)->record_count, 0);
	}
}

static void what_lies_behind_data_len_is_not_read(void **state)
{
	struct by_hand m = header(0, 0, 0, 8);

	(void)state;
	record(&m, 1, 12, 0);
	record(&m, 3, 12, 0);
	m.bytes[m.length++] = 0xff;
	assert_int_equal(decode_hand(&m)->code, PAGE_RUN_OK);
	assert_int_equal(decode_hand(&m)->record_count, 1);
}

static void a_page_size_below_4_kib_refuses_only_its_record(void **state)
{
	struct decoded *got;

	(void)state;
	for (unsigned int shift = 0; shift < 12; shift++) {
		struct by_hand m = header(0, 0, 0, 32);

		record(&m, 1, shift, 0);
		record(&m, 2, shift, 8);
		word(&m, ~0ull);
		record(&m, 3, 12, 0);
		got = decode_hand(&m);
		assert_int_equal(got->record_count, 3);
		assert_int_equal(got->records[0].refusal, PAGE_RUN_PAGE_SHIFT);
		assert_int_equal(got->records[1].refusal, PAGE_RUN_PAGE_SHIFT);
		assert_int_equal(got->records[2].refusal, PAGE_RUN_ACCEPTED);
		assert_int_equal(got->run_count, 1);
		is_run(got->runs[0], 3, 1);
	}
}

/* A record of one word, or with a bitmap of one word, and a good one behind. */
static struct decoded *with_record(uint64_t pfn, unsigned int shift, uint64_t bitmap)
{
	struct by_hand m = header(0, 0, 0, bitmap ? 24 : 16);

	record(&m, pfn, shift, bitmap ? 8 : 0);
	if (bitmap)
		word(&m, bitmap);
	record(&m, 7, 12, 0);
	return decode_hand(&m);
}

static void is_beyond(const struct decoded *got)
{
	assert_int_equal(got->record_count, 2);
	assert_int_equal(got->records[0].refusal, PAGE_RUN_BEYOND);
	assert_int_equal(got->records[0].pages, 0);
	assert_int_equal(got->records[1].refusal, PAGE_RUN_ACCEPTED);
	assert_int_equal(got->run_count, 1);
	is_run(got->runs[0], 7, 1);
}

static void is_good(const struct decoded *got, uint64_t pfn, uint64_t count)
{
	assert_int_equal(got->record_count, 2);
	assert_int_equal(got->records[0].refusal, PAGE_RUN_ACCEPTED);
	assert_int_equal(got->records[0].pages, count);
	assert_int_equal(got->run_count, 2);
	is_run(got->runs[0], pfn, count);
}

static void what_reaches_past_the_last_page_is_refused(void **state)
{
	const uint64_t last = PAGE_RUN_PFN_END - 1, half = 1ull << 51;

	(void)state;
	is_good(with_record(last, 12, 0), last, 1);
	is_beyond(with_record(last, 13, 0));
	is_beyond(with_record(last, 63, 0));
	is_good(with_record(0, 63, 0), 0, half);
	is_good(with_record(half, 63, 0), half, half);
	is_beyond(with_record(half + 1, 63, 0));

	is_good(with_record(last, 12, 1), last, 1);
	is_beyond(with_record(last, 12, 2));
	is_beyond(with_record(last, 12, 3));
	is_beyond(with_record(last, 12, 1 | 1ull << 63));
	is_good(with_record(last - 63, 12, ~0ull), last - 63, 64);
	is_beyond(with_record(last - 62, 12, ~0ull));
	is_good(with_record(half, 63, 1), half, half);
	is_good(with_record(0, 63, 2), half, half);
	is_beyond(with_record(0, 63, 4));
	is_beyond(with_record(0, 63, ~0ull));
	is_beyond(with_record(0, 63, 1ull << 63));
	is_beyond(with_record(last, 63, ~0ull));
	for (unsigned int shift = 13; shift < 64; shift++) {
		uint64_t size = 1ull << (shift - 12);

		is_good(with_record(PAGE_RUN_PFN_END - size, shift, 0), PAGE_RUN_PFN_END - size,
			size);
		is_good(with_record(PAGE_RUN_PFN_END - size, shift, 1), PAGE_RUN_PFN_END - size,
			size);
		is_beyond(with_record(PAGE_RUN_PFN_END - size + 1, shift, 0));
		is_beyond(with_record(PAGE_RUN_PFN_END - size + 1, shift, 1));
		is_beyond(with_record(PAGE_RUN_PFN_END - size, shift, 2));
	}
}

static void a_bitmap_of_broken_words_ends_the_message(void **state)
{
	(void)state;
	for (unsigned int bmap_len = 0; bmap_len < 64; bmap_len++) {
		struct by_hand m = header(0, 0, 0, 8 + 8 + 64 + 8);
		struct decoded *got;

		record(&m, 1, 12, 0);
		record(&m, 16, 12, bmap_len);
		for (unsigned int i = 0; i < 8; i++)
			word(&m, 12ull << 52); /* set bits, and an extent of one page */
		record(&m, 5, 12, 0);
		got = decode_hand(&m);
		if (bmap_len % 8 == 0) {
			assert_int_equal(got->record_count, 11 - bmap_len / 8);
			continue;
		}
		assert_int_equal(got->record_count, 2);
		assert_int_equal(got->run_count, 1);
		assert_int_equal(got->records[0].refusal, PAGE_RUN_ACCEPTED);
		assert_int_equal(got->records[1].refusal, PAGE_RUN_BITMAP_LENGTH);
	}
}

static void a_truncated_record_ends_the_message(void **state)
{
	(void)state;
	for (unsigned int has = 0; has < 7; has++) {
		struct by_hand m = header(0, 0, 0, 8 + 8 + 8 * has);
		struct decoded *got;

		record(&m, 1, 12, 0);
		record(&m, 2, 12, 56);
		for (unsigned int i = 0; i < 8; i++)
			word(&m, ~0ull); /* there, but behind data_len */
		got = decode_hand(&m);
		assert_int_equal(got->code, PAGE_RUN_OK);
		assert_int_equal(got->record_count, 2);
		assert_int_equal(got->records[1].refusal, PAGE_RUN_TRUNCATED);
		assert_int_equal(got->run_count, 1);
	}
}

static void an_empty_bitmap_is_no_page(void **state)
{
	struct by_hand m = header(0, 0, 0, 24);
	struct decoded *got;

	(void)state;
	record(&m, PAGE_RUN_PFN_END - 1, 63, 8);
	word(&m, 0);
	record(&m, 7, 12, 0);
	got = decode_hand(&m);
	assert_int_equal(got->record_count, 2);
	assert_int_equal(got->records[0].refusal, PAGE_RUN_ACCEPTED);
	assert_int_equal(got->records[0].pages, 0);
	assert_int_equal(got->run_count, 1);
}

static void the_longest_bitmap_is_224_runs(void **state)
{
	struct by_hand m = header(0, 0, 0, 64);
	struct decoded *got;

	(void)state;
	record(&m, 3, 14, 56);
	for (unsigned int i = 0; i < 7; i++)
		word(&m, 0xaaaaaaaaaaaaaaaau);
	got = decode_hand(&m);
	assert_int_equal(got->records[0].runs, PAGE_RUN_RECORD_RUNS_MAX);
	assert_int_equal(got->records[0].pages, 4 * 224);
	is_run(got->runs[0], 3 + 4, 4);
	is_run(got->runs[223], 3 + 4 * 447, 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_header_with_unknown_bits_is_refused),
		cmocka_unit_test(a_length_that_the_buffer_does_not_hold_is_refused),
		cmocka_unit_test(what_lies_behind_data_len_is_not_read),
		cmocka_unit_test(a_page_size_below_4_kib_refuses_only_its_record),
		cmocka_unit_test(what_reaches_past_the_last_page_is_refused),
		cmocka_unit_test(a_bitmap_of_broken_words_ends_the_message),
		cmocka_unit_test(a_truncated_record_ends_the_message),
		cmocka_unit_test(an_empty_bitmap_is_no_page),
		cmocka_unit_test(the_longest_bitmap_is_224_runs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
