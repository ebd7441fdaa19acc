/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the page-run codec promises: what goes in comes out, in few bytes, and the
 * document's examples are true.
 *
 * UMBRA_SEED=seed repeats a random run; the seed is printed.
 */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "page_run_rig.h"
#include "random.h"

#define PAGES_IN_GIB (1u << 18)

static uint64_t seed;

/* ---- what the encoder writes ----------------------------------------------- */

/* Encode @count runs; they must fit.  Returns the length. */
static uint32_t encode(uint8_t *message, uint32_t size, const struct page_run *runs, size_t count)
{
	struct page_run_encoder e;
	uint32_t length;

	page_run_encode_begin(&e, message, size);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(page_run_encode(&e, runs[i]), runs[i].count);
	length = page_run_encode_finish(&e);
	assert_in_range(length, PAGE_RUN_HEADER_BYTES, size);
	return length;
}

static void one_run_comes_back(uint64_t pfn, uint64_t count, uint32_t bytes)
{
	uint8_t message[1024];
	struct page_run run = { pfn, count };
	uint32_t length = encode(message, sizeof(message), &run, 1);
	struct decoded *got = decode(message, length);

	assert_in_range(length, 0, bytes);
	assert_int_equal(got->code, PAGE_RUN_OK);
	assert_int_equal(page_runs_merge(got->runs, got->run_count), 1);
	is_run(got->runs[0], pfn, count);
}

static void a_lone_page_is_one_extent(void **state)
{
	static const uint64_t pfns[] = { 0,    1,         63,         64,
					 128,  64 * 1000, 0xffffffff, 0x100000000,
					 4096, 1 << 18,   1ull << 51, PAGE_RUN_PFN_END - 64 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(pfns); i++)
		one_run_comes_back(pfns[i], 1, 16);
	one_run_comes_back(PAGE_RUN_PFN_END - 1, 1, 16);
}

static void a_dense_run_is_a_few_extents(void **state)
{
	(void)state;
	one_run_comes_back(PAGES_IN_GIB, PAGES_IN_GIB, 16);
	one_run_comes_back(12345, PAGES_IN_GIB, 16);
	one_run_comes_back(0, 7 * PAGES_IN_GIB, 8 + 3 * 8);
	one_run_comes_back(77, 63, 8 + 2 * 8);
	one_run_comes_back(77, 191, 8 + 8 + 2 * 8); /* 128 and 63 */
	one_run_comes_back(0, 1ull << 51, 16);
	one_run_comes_back(0, PAGE_RUN_PFN_END - 1, 8 + 51 * 8);
	for (unsigned int order = 0; order < 52; order++)
		one_run_comes_back(order, 1ull << order, 16);
}

static void an_empty_message_is_a_header(void **state)
{
	uint8_t message[16];

	(void)state;
	assert_int_equal(encode(message, sizeof(message), NULL, 0), 8);
	assert_int_equal(decode(message, 8)->code, PAGE_RUN_OK);
	assert_int_equal(decode(message, 8)->record_count, 0);
}

static void a_message_never_outgrows_its_buffer(void **state)
{
	struct page_run_encoder e;

	(void)state;
	for (uint32_t size = 0; size < 200; size++) {
		uint8_t *message;
		uint64_t taken, pages = 0;
		uint32_t length, i = 0;
		struct decoded *got;

		message = malloc(size < 8 ? 8 : size);
		assert_non_null(message);
		page_run_encode_begin(&e, message, size);
		/* Runs of 1 to 7 pages with gaps of 1 to 4. */
		do {
			taken = page_run_encode(&e, (struct page_run){ 16 * i, 1 + i % 7 });
			pages += taken;
		} while (taken == 1 + i++ % 7);
		length = page_run_encode_finish(&e);
		assert_in_range(length, 8, size < 8 ? 8 : size);
		assert_int_equal(length > 8, size >= PAGE_RUN_MESSAGE_BYTES_MIN);
		assert_int_equal(e.pages, pages);
		got = decode(message, length);
		assert_int_equal(got->record_count, e.records);
		for (i = 0; i < got->record_count; i++)
			pages -= got->records[i].pages;
		assert_int_equal(pages, 0);
		free(message);
	}
}

static void a_run_that_does_not_fit_is_taken_in_part(void **state)
{
	uint8_t message[16];
	struct page_run_encoder e;

	(void)state;
	page_run_encode_begin(&e, message, sizeof(message));
	assert_int_equal(page_run_encode(&e, (struct page_run){ 5, 0xfffff }), 0x80000);
	assert_int_equal(page_run_encode(&e, (struct page_run){ 0x80005, 0x7ffff }), 0);
	assert_int_equal(page_run_encode_finish(&e), 16);
	is_run(decode(message, 16)->runs[0], 5, 0x80000);
}

static void a_message_is_never_longer_than_every_device_takes(void **state)
{
	uint8_t *message = malloc(70000);
	struct page_run_encoder e;
	uint64_t pfn = 0;

	(void)state;
	assert_non_null(message);
	page_run_encode_begin(&e, message, 70000);
	while (page_run_encode(&e, (struct page_run){ pfn, 1 }) == 1)
		pfn += 1000;
	assert_int_equal(page_run_encode_finish(&e), PAGE_RUN_MESSAGE_BYTES_MAX);
	assert_int_equal(e.records, PAGE_RUN_MESSAGE_BYTES_MAX / 8 - 1);
	free(message);
}

static void all_pages_that_there_can_be_are_two_messages(void **state)
{
	const uint64_t half = 1ull << 51;
	struct page_run_encoder e;
	uint8_t message[64];

	(void)state;
	page_run_encode_begin(&e, message, sizeof(message));
	assert_int_equal(page_run_encode(&e, (struct page_run){ 0, half }), half);
	assert_int_equal(page_run_encode(&e, (struct page_run){ half, half }), 0);
	assert_int_equal(page_run_encode_finish(&e), 16);
	is_run(decode(message, 16)->runs[0], 0, half);
	one_run_comes_back(half, half, 16);
}

static void a_bitmap_has_no_empty_word(void **state)
{
	struct page_run runs[22] = { { 0, 1 } };
	uint8_t message[256];

	(void)state;
	for (size_t i = 1; i < ARRAY_SIZE(runs); i++)
		runs[i] = (struct page_run){ 300 + 2 * i, 1 };
	/* A header, an extent, a bitmap of one word. */
	assert_int_equal(encode(message, sizeof(message), runs, ARRAY_SIZE(runs)), 8 + 8 + 16);
}

static void a_stray_page_does_not_make_a_bitmap_finer(void **state)
{
	struct page_run runs[11];
	uint8_t message[256];

	(void)state;
	for (size_t i = 0; i < 10; i++)
		runs[i] = (struct page_run){ 32 * i, 16 };
	runs[10] = (struct page_run){ 341, 1 };
	/* A header, a bitmap of units of 64 KiB, an extent. */
	assert_int_equal(encode(message, sizeof(message), runs, ARRAY_SIZE(runs)), 8 + 16 + 8);
}

static void tight_buffers_hold_what_was_accepted(void **state)
{
	(void)state;
	for (unsigned int round = 0; round < 20000; round++) {
		uint32_t size = 16 + below(120), length, i = 0;
		uint8_t *message = malloc(size);
		struct page_run_encoder e;
		uint64_t taken, want, pfn = below(100), pages = 0;
		uint32_t gap = 1 + below(100), order = below(8), longest = 1 + below(300);
		struct decoded *got;

		assert_non_null(message);
		page_run_encode_begin(&e, message, size);
		do {
			want = below(3) ? 1u << order : 1 + below(longest);
			taken = page_run_encode(&e, (struct page_run){ pfn, want });
			pages += taken;
			pfn += want + 1 + below(gap);
			if (!below(20))
				pfn = below(100000);
		} while (taken == want && ++i < 1000);
		length = page_run_encode_finish(&e);
		if (length > size)
			fail_msg("%u bytes in %u, seed %" PRIu64, length, size, seed);
		got = decode(message, length);
		for (i = 0; i < got->record_count; i++)
			pages -= got->records[i].pages;
		assert_int_equal(pages, 0);
		free(message);
	}
}

static void what_fits_as_extents_is_taken_in_any_order(void **state)
{
	(void)state;
	for (unsigned int round = 0; round < 5000; round++) {
		uint32_t count = 1 + below(40), longest = 1 + below(400), spread = 1 + below(5000);
		struct page_run runs[40];
		uint32_t size = 8;
		uint8_t *message;

		for (uint32_t i = 0; i < count; i++) {
			runs[i] = (struct page_run){ below(spread), 1 + below(longest) };
			if (i && below(2))
				runs[i].pfn = runs[i - 1].pfn + runs[i - 1].count + below(3);
			size += 8 * (uint32_t)__builtin_popcountll(runs[i].count);
		}
		message = malloc(size);
		assert_non_null(message);
		encode(message, size, runs, count);
		free(message);
	}
}

static void neighbours_become_one_run(void **state)
{
	uint8_t message[256];
	struct page_run_encoder e;

	(void)state;
	page_run_encode_begin(&e, message, sizeof(message));
	for (uint64_t i = 0; i < 1u << 16; i++)
		assert_int_equal(page_run_encode(&e, (struct page_run){ 100 + i, 1 }), 1);
	assert_int_equal(page_run_encode_finish(&e), 16);
	page_run_encode_begin(&e, message, sizeof(message));
	for (uint64_t i = 1u << 16; i-- > 0;)
		assert_int_equal(page_run_encode(&e, (struct page_run){ 100 + i, 1 }), 1);
	assert_int_equal(page_run_encode_finish(&e), 16);
	assert_int_equal(e.pages, 1u << 16);
	assert_int_equal(e.records, 1);
}

/* ---- random sets of pages --------------------------------------------------- */

enum shape { DENSE, HALF, SPARSE, FRAGMENTED, CLUSTERED, ORDERS, SHAPES };

static const char *const shape_names[SHAPES] = {
	[DENSE] = "dense",
	[HALF] = "50 % random",
	[SPARSE] = "sparse, 1 of 256",
	[FRAGMENTED] = "every other 64 KiB",
	[CLUSTERED] = "clusters",
	[ORDERS] = "random power-of-two chunks",
};

struct set {
	uint32_t pages;
	uint8_t *has;
	struct page_run *runs; /* what makes up @has, increasing, with gaps */
	uint32_t run_count, page_count;
};

static void fill(struct set *s, enum shape shape)
{
	uint32_t i = 0;

	memset(s->has, 0, s->pages);
	for (i = 0; i < s->pages && shape != CLUSTERED && shape != ORDERS; i++)
		s->has[i] = shape == DENSE    ? 1
			    : shape == HALF   ? (uint8_t)below(2)
			    : shape == SPARSE ? !below(256)
					      : i / 16 % 2 == 0;
	for (i = 0; shape == CLUSTERED && i < s->pages; i += below(2000)) {
		uint32_t length = below(300), odds = 1 + below(8);

		for (; length-- && i < s->pages; i++)
			s->has[i] = !below(odds);
	}
	for (i = 0; shape == ORDERS && i < s->pages / 200; i++) {
		uint32_t length = 1u << below(11), at = below(s->pages) & ~(length - 1);

		memset(s->has + at, 1, MIN(length, s->pages - at));
	}

	s->run_count = s->page_count = 0;
	for (i = 0; i < s->pages; i++) {
		if (s->has[i] && (!i || !s->has[i - 1]))
			s->runs[s->run_count++] = (struct page_run){ .pfn = i };
		s->runs[s->run_count ? s->run_count - 1 : 0].count += s->has[i];
		s->page_count += s->has[i];
	}
}

static void set_new(struct set *s, uint32_t pages)
{
	s->pages = pages;
	s->has = calloc(pages, 1);
	s->runs = calloc(pages, sizeof(*s->runs));
	assert_non_null(s->has);
	assert_non_null(s->runs);
}

static void set_free(struct set *s)
{
	free(s->has);
	free(s->runs);
}

struct sink {
	const struct set *set;
	uint8_t *seen;
	uint64_t bytes, base;
	uint32_t messages;
};

/* Decode a message, and tick off each of its pages: it is wanted, and new. */
static void tick_off(struct sink *sink, const struct page_run_encoder *e, const uint8_t *bytes,
		     uint32_t length)
{
	uint8_t *message = copy_of(bytes, length);
	struct page_run runs[PAGE_RUN_RECORD_RUNS_MAX];
	struct page_run_record r;
	struct page_run_decoder d;
	uint64_t pages = 0;

	assert_int_equal(page_run_decode_begin(&d, message, length), PAGE_RUN_OK);
	while (page_run_decode_next(&d, runs, &r)) {
		assert_int_equal(r.refusal, PAGE_RUN_ACCEPTED);
		pages += r.pages;
		for (uint32_t i = 0; i < r.runs; i++)
			for (uint64_t p = runs[i].pfn - sink->base, n = runs[i].count; n--; p++)
				if (p >= sink->set->pages || !sink->set->has[p] || sink->seen[p]++)
					fail_msg("page %" PRIu64 ", seed %" PRIu64, p, seed);
	}
	assert_int_equal(pages, e->pages);
	assert_int_equal(d.records, e->records);
	sink->bytes += length;
	sink->messages++;
	free(message);
}

/* Send all runs, in messages of @size bytes.  Returns their length. */
static uint64_t send_all(const struct set *s, const struct page_run *runs, uint32_t count,
			 uint64_t base, uint32_t size)
{
	struct sink sink = { .set = s, .base = base, .seen = calloc(s->pages, 1) };
	uint8_t *message = malloc(size);
	struct page_run_encoder e;

	assert_non_null(sink.seen);
	assert_non_null(message);
	page_run_encode_begin(&e, message, size);
	for (uint32_t i = 0; i < count; i++) {
		struct page_run run = { runs[i].pfn + base, runs[i].count };

		for (;;) {
			uint64_t taken = page_run_encode(&e, run);

			run.pfn += taken;
			run.count -= taken;
			if (!run.count)
				break;
			tick_off(&sink, &e, message, page_run_encode_finish(&e));
			page_run_encode_begin(&e, message, size);
		}
	}
	tick_off(&sink, &e, message, page_run_encode_finish(&e));
	if (memcmp(sink.seen, s->has, s->pages))
		fail_msg("pages are missing, seed %" PRIu64, seed);
	free(message);
	free(sink.seen);
	return sink.bytes;
}

static uint64_t cost_as_extents(const struct set *s)
{
	uint64_t bytes = 8;

	for (uint32_t i = 0; i < s->run_count; i++)
		bytes += 8 * (uint64_t)__builtin_popcountll(s->runs[i].count);
	return bytes;
}

/* 4 KiB bitmaps as long as can be, from the first page that is left. */
static uint64_t cost_as_bitmaps(const struct set *s)
{
	uint64_t bytes = 8;

	for (uint32_t i = 0; i < s->pages; i++) {
		uint32_t last = i;

		if (!s->has[i])
			continue;
		for (uint32_t j = i; j < MIN(i + 448, s->pages); j++)
			last = s->has[j] ? j : last;
		bytes += 8 + 8 * ((last - i) / 64 + 1);
		i += 447;
	}
	return bytes;
}

static void every_set_comes_back_in_any_order(void **state)
{
	static const uint64_t bases[] = { 0, 1, 0x12345, PAGE_RUN_PFN_END - 20000 };
	struct set s;

	(void)state;
	set_new(&s, 20000);
	for (unsigned int round = 0; round < 24; round++) {
		uint64_t base = bases[round % ARRAY_SIZE(bases)];
		uint32_t size = below(4) ? 16 + below(600) : 65536;

		fill(&s, round % SHAPES);
		send_all(&s, s.runs, s.run_count, base, size);
		for (uint32_t i = 0; i < s.run_count / 2; i++) {
			struct page_run t = s.runs[i];

			s.runs[i] = s.runs[s.run_count - 1 - i];
			s.runs[s.run_count - 1 - i] = t;
		}
		send_all(&s, s.runs, s.run_count, base, size);
		for (uint32_t i = 0; i + 1 < s.run_count; i++) {
			uint32_t j = i + below(s.run_count - i);
			struct page_run t = s.runs[i];

			s.runs[i] = s.runs[j];
			s.runs[j] = t;
		}
		send_all(&s, s.runs, s.run_count, base, size);
	}
	set_free(&s);
}

static void pages_one_by_one_cost_what_their_runs_cost(void **state)
{
	struct page_run *single = calloc(20000, sizeof(*single));
	struct set s;

	(void)state;
	assert_non_null(single);
	set_new(&s, 20000);
	for (unsigned int shape = 0; shape < SHAPES; shape++) {
		uint32_t n = 0;

		fill(&s, shape);
		for (uint32_t i = 0; i < s.pages; i++)
			if (s.has[i])
				single[n++] = (struct page_run){ i, 1 };
		assert_int_equal(send_all(&s, single, n, 64, 65536),
				 send_all(&s, s.runs, s.run_count, 64, 65536));
	}
	set_free(&s);
	free(single);
}

static void messages_are_small(void **state)
{
	struct set s;

	(void)state;
	set_new(&s, PAGES_IN_GIB);
	printf("1 GiB of pages, bytes of messages of 64 KiB (stock: 4 a page):\n");
	for (unsigned int shape = 0; shape < SHAPES; shape++) {
		uint64_t bytes, extents, bitmaps;

		fill(&s, shape);
		bytes = send_all(&s, s.runs, s.run_count, PAGES_IN_GIB, 65536);
		extents = cost_as_extents(&s);
		bitmaps = cost_as_bitmaps(&s);
		printf("  %-27s %6u pages in %6u runs: %7" PRIu64 ", stock %7u, "
		       "extents alone %7" PRIu64 ", bitmaps alone %6" PRIu64 "\n",
		       shape_names[shape], s.page_count, s.run_count, bytes, 4 * s.page_count,
		       extents, bitmaps);
		assert_true(bytes <= extents);
		assert_true(bytes <= 8 + 8 * (uint64_t)s.page_count);
		/* A run that does not fit into a bitmap's end is not split. */
		assert_true(bytes <= bitmaps + bitmaps / 20);
		if (shape == DENSE)
			assert_int_equal(bytes, 16);
		if (shape == HALF) /* 8 words for 448 pages would be 37,449 bytes */
			assert_true(bytes < 38500);
		if (shape == FRAGMENTED)
			assert_true(bytes < 2500);
	}
	set_free(&s);
}

/* ---- the document's examples ------------------------------------------------- */

/*
 * The bytes of example @number: in the fenced block after "### Example N", the
 * lines that begin with pairs of hexadecimal digits.  A line "status" separates the
 * message from the status.
 */
static void example(unsigned int number, struct by_hand *message, struct by_hand *status)
{
	struct by_hand *m = message;
	char line[512], title[32];
	bool here = false, fenced = false;
	FILE *f = fopen(BALLOON_PROTOCOL, "r");

	memset(message, 0, sizeof(*message));
	memset(status, 0, sizeof(*status));
	assert_non_null(f);
	snprintf(title, sizeof(title), "### Example %u:", number);
	while (fgets(line, sizeof(line), f)) {
		char *at = line;
		unsigned int byte;
		int used;

		if (!here) {
			here = !strncmp(line, title, strlen(title));
		} else if (!strncmp(line, "```", 3)) {
			if (fenced)
				break;
			fenced = true;
		} else if (fenced && !strncmp(line, "status", 6)) {
			m = status;
		} else if (fenced) {
			for (; sscanf(at, "%2x%n", &byte, &used) == 1 && used == 2; at += 3)
				m->bytes[m->length++] = (uint8_t)byte;
		}
	}
	fclose(f);
	if (!message->length || status->length != PAGE_RUN_STATUS_BYTES)
		fail_msg("%s is not in the document", title);
}

static void the_documents_examples_are_what_is_sent(void **state)
{
	static const struct {
		struct page_run runs[8];
		uint32_t count;
	} sent[] = {
		{ { { 0x40, 1 } }, 1 },
		{ { { 0x12345, 0x40100 } }, 1 },
		{ { { 0x1000, 1 }, { 0x1002, 2 }, { 0x1007, 1 }, { 0x103f, 1 } }, 4 },
		{ { { 0x8000, 16 },
		    { 0x8020, 16 },
		    { 0x8040, 16 },
		    { 0x8060, 16 },
		    { 0x8080, 16 },
		    { 0x80a0, 16 },
		    { 0x80c0, 16 },
		    { 0x80e0, 16 } },
		  8 },
	};
	struct by_hand message, status;

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(sent); i++) {
		uint8_t bytes[256], answer[PAGE_RUN_STATUS_BYTES];
		struct page_run_encoder e;
		struct decoded *got;

		example(i + 1, &message, &status);
		page_run_encode_begin(&e, bytes, sizeof(bytes));
		for (uint32_t j = 0; j < sent[i].count; j++)
			assert_int_equal(page_run_encode(&e, sent[i].runs[j]),
					 sent[i].runs[j].count);
		assert_int_equal(page_run_encode_finish(&e), message.length);
		assert_memory_equal(bytes, message.bytes, message.length);
		page_run_status_store(answer,
				      (struct page_run_status){ e.pages, PAGE_RUN_OK, e.records });
		assert_memory_equal(answer, status.bytes, sizeof(answer));
		got = decode_hand(&message);
		assert_int_equal(page_runs_merge(got->runs, got->run_count), sent[i].count);
		assert_memory_equal(got->runs, sent[i].runs,
				    sent[i].count * sizeof(struct page_run));
	}
}

static void the_documents_refusals_are_what_is_answered(void **state)
{
	struct by_hand message, status;
	struct page_run_status s;
	struct decoded *got;

	(void)state;
	example(5, &message, &status);
	got = decode_hand(&message);
	assert_int_equal(got->record_count, 3);
	assert_int_equal(got->records[1].refusal, PAGE_RUN_PAGE_SHIFT);
	assert_int_equal(got->run_count, 2);
	is_run(got->runs[0], 0x40, 1);
	is_run(got->runs[1], 0xc0, 1);
	s = page_run_status_load(status.bytes);
	assert_int_equal(s.pages, 2);
	assert_int_equal(s.code, PAGE_RUN_BAD_RECORD);
	assert_int_equal(s.record, 1);

	example(6, &message, &status);
	assert_int_equal(decode_hand(&message)->code, PAGE_RUN_BAD_LENGTH);
	s = page_run_status_load(status.bytes);
	assert_int_equal(s.pages, 0);
	assert_int_equal(s.code, PAGE_RUN_BAD_LENGTH);
	assert_int_equal(s.record, 0);
}

/* ---- status -------------------------------------------------------------------- */

static void a_status_is_16_little_endian_bytes(void **state)
{
	static const uint8_t bytes[PAGE_RUN_STATUS_BYTES] = { 1, 2,  3,  4,  5,  6,  7,  8,
							      9, 10, 11, 12, 13, 14, 15, 16 };
	struct page_run_status s = page_run_status_load(bytes);
	uint8_t back[PAGE_RUN_STATUS_BYTES];

	(void)state;
	assert_int_equal(s.pages, 0x0807060504030201u);
	assert_int_equal(s.code, 0x0c0b0a09u);
	assert_int_equal(s.record, 0x100f0e0du);
	page_run_status_store(back, s);
	assert_memory_equal(back, bytes, sizeof(bytes));
}

/* ---- sets of runs --------------------------------------------------------------- */

static void merging_leaves_the_same_pages_in_order_and_apart(void **state)
{
	enum { PAGES = 600, RUNS = 300 };

	(void)state;
	for (unsigned int round = 0; round < 2000; round++) {
		uint8_t want[PAGES] = { 0 }, got[PAGES] = { 0 };
		uint32_t count = below(RUNS), length = 1 + below(12), n;
		struct page_run runs[RUNS];

		for (uint32_t i = 0; i < count; i++) {
			runs[i].count = 1 + below(length);
			runs[i].pfn = round % 4 == 0   ? MIN(2 * i, PAGES - 20)
				      : round % 4 == 1 ? PAGES - 20 - MIN(2 * i, PAGES - 20)
						       : below(PAGES - 20);
			memset(want + runs[i].pfn, 1, runs[i].count);
		}
		n = page_runs_merge(runs, count);
		for (uint32_t i = 0; i < n; i++) {
			if (i && runs[i].pfn <= runs[i - 1].pfn + runs[i - 1].count)
				fail_msg("seed %" PRIu64 ", round %u", seed, round);
			memset(got + runs[i].pfn, 1, runs[i].count);
		}
		if (memcmp(want, got, PAGES))
			fail_msg("seed %" PRIu64 ", round %u", seed, round);
	}
}

static void merging_reaches_the_last_page(void **state)
{
	struct page_run runs[] = { { PAGE_RUN_PFN_END - 1, 1 },
				   { 0, 1ull << 51 },
				   { 1ull << 51, 1ull << 51 } };

	(void)state;
	assert_int_equal(page_runs_merge(runs, 0), 0);
	assert_int_equal(page_runs_merge(runs, 3), 1);
	is_run(runs[0], 0, PAGE_RUN_PFN_END);
}

static void stock_arrays_become_runs(void **state)
{
	/* At an odd address: 64; 7, 6, 5; 5 again; 0xffffffff; 0x10203, 0x10204. */
	static const uint8_t bytes[] = { 0xee, 64,   0,    0, 0, 7, 0, 0, 0, 6, 0,
					 0,    0,    5,    0, 0, 0, 5, 0, 0, 0, 0xff,
					 0xff, 0xff, 0xff, 3, 2, 1, 0, 4, 2, 1, 0 };
	struct page_run runs[8];

	(void)state;
	assert_int_equal(page_runs_from_pfns(runs, bytes + 1, 0), 0);
	assert_int_equal(page_runs_from_pfns(runs, bytes + 1, 8), 4);
	assert_int_equal(page_runs_merge(runs, 4), 4);
	is_run(runs[0], 5, 3);
	is_run(runs[1], 64, 1);
	is_run(runs[2], 0x10203, 2);
	is_run(runs[3], 0xffffffff, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_lone_page_is_one_extent),
		cmocka_unit_test(a_dense_run_is_a_few_extents),
		cmocka_unit_test(an_empty_message_is_a_header),
		cmocka_unit_test(a_message_never_outgrows_its_buffer),
		cmocka_unit_test(a_run_that_does_not_fit_is_taken_in_part),
		cmocka_unit_test(a_message_is_never_longer_than_every_device_takes),
		cmocka_unit_test(all_pages_that_there_can_be_are_two_messages),
		cmocka_unit_test(a_bitmap_has_no_empty_word),
		cmocka_unit_test(a_stray_page_does_not_make_a_bitmap_finer),
		cmocka_unit_test(tight_buffers_hold_what_was_accepted),
		cmocka_unit_test(what_fits_as_extents_is_taken_in_any_order),
		cmocka_unit_test(neighbours_become_one_run),
		cmocka_unit_test(every_set_comes_back_in_any_order),
		cmocka_unit_test(pages_one_by_one_cost_what_their_runs_cost),
		cmocka_unit_test(messages_are_small),
		cmocka_unit_test(the_documents_examples_are_what_is_sent),
		cmocka_unit_test(the_documents_refusals_are_what_is_answered),
		cmocka_unit_test(a_status_is_16_little_endian_bytes),
		cmocka_unit_test(merging_leaves_the_same_pages_in_order_and_apart),
		cmocka_unit_test(merging_reaches_the_last_page),
		cmocka_unit_test(stock_arrays_become_runs),
	};

	seed = random_begin_anew();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
