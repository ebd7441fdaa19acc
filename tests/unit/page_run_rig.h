/* SPDX-License-Identifier: BSD-2-Clause */
/* Page-run messages written by hand, and all that a message yields. */
#ifndef UMBRA_TESTS_PAGE_RUN_RIG_H
#define UMBRA_TESTS_PAGE_RUN_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "balloon/page_run.h"
#include "base/bits.h"

/* A block of its own for each message, so that a step outside is seen. */
static inline uint8_t *copy_of(const uint8_t *bytes, size_t length)
{
	uint8_t *copy = malloc(length ? length : 1);

	assert_non_null(copy);
	if (length)
		memcpy(copy, bytes, length);
	return copy;
}

/* ---- a message written by hand -------------------------------------------- */

struct by_hand {
	uint8_t bytes[2048];
	size_t length;
};

static inline void word(struct by_hand *m, uint64_t v)
{
	for (unsigned int i = 0; i < 8; i++)
		m->bytes[m->length++] = (uint8_t)(v >> 8 * i);
}

static inline struct by_hand header(uint64_t cmd, uint64_t flag, uint64_t id, uint64_t data_len)
{
	struct by_hand m = { .length = 0 };

	word(&m, cmd | flag << 8 | id << 16 | data_len << 32);
	return m;
}

static inline void record(struct by_hand *m, uint64_t pfn, uint64_t page_shift, uint64_t bmap_len)
{
	word(m, pfn | page_shift << 52 | bmap_len << 58);
}

/* Everything that a message yields. */
struct decoded {
	enum page_run_code code;
	struct page_run_record records[256];
	struct page_run runs[4096];
	uint32_t record_count, run_count;
};

static inline struct decoded *decode(const uint8_t *bytes, size_t length)
{
	static struct decoded all;
	uint8_t *message = copy_of(bytes, length);
	struct page_run_decoder d;

	memset(&all, 0, sizeof(all));
	all.code = page_run_decode_begin(&d, message, length);
	while (all.record_count < ARRAY_SIZE(all.records) &&
	       all.run_count + PAGE_RUN_RECORD_RUNS_MAX < ARRAY_SIZE(all.runs) &&
	       page_run_decode_next(&d, &all.runs[all.run_count], &all.records[all.record_count])) {
		all.run_count += all.records[all.record_count].runs;
		all.record_count++;
	}
	assert_int_equal(all.record_count, d.records);
	free(message);
	return &all;
}

static inline struct decoded *decode_hand(const struct by_hand *m)
{
	return decode(m->bytes, m->length);
}

static inline void is_run(struct page_run run, uint64_t pfn, uint64_t count)
{
	assert_int_equal(run.pfn, pfn);
	assert_int_equal(run.count, count);
}

#endif
