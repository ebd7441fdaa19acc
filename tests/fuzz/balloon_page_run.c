/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libFuzzer: the page-run codec agrees with a reader, a writer and a set that have
 * no wits.
 *
 * The first byte chooses:
 *	0	the rest is a message; it is decoded by both
 *	1	the rest is runs, 5 bytes each, and the size of the messages; what
 *		the encoder makes of them is read back by the one without wits
 *	2	the rest is a stock array; runs are merged
 *	3	the rest is the records of a message; the header is right
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "balloon/page_run.h"
#include "fuzz.h"

typedef unsigned __int128 wide;

#define END ((wide)1 << 52)
#define DOMAIN (1u << 17) /* pages that the sets below can hold */

/* ---- the reader without wits ----------------------------------------------- */

static wide field(const uint8_t *bytes, unsigned int from, unsigned int to)
{
	wide v = 0;

	for (unsigned int bit = from; bit < to; bit++)
		if (bytes[bit / 8] >> bit % 8 & 1)
			v += (wide)1 << (bit - from);
	return v;
}

struct naive_record {
	enum page_run_refusal refusal;
	struct page_run pages[448]; /* in 4 KiB pages; not merged */
	unsigned int count;
	size_t next; /* offset of the next record; 0: none can be found */
};

static void naive_read(struct naive_record *r, const uint8_t *message, size_t at, size_t end)
{
	wide pfn = field(message + at, 0, 52), shift = field(message + at, 52, 58);
	wide length = field(message + at, 58, 64), each = 1;

	r->count = 0;
	r->refusal = PAGE_RUN_ACCEPTED;
	r->next = 0;
	if (length % 8)
		r->refusal = PAGE_RUN_BITMAP_LENGTH;
	else if (at + 8 + length > end)
		r->refusal = PAGE_RUN_TRUNCATED;
	if (r->refusal)
		return;
	r->next = at + 8 + (size_t)length;
	if (shift < 12) {
		r->refusal = PAGE_RUN_PAGE_SHIFT;
		return;
	}
	for (wide i = 12; i < shift; i++)
		each *= 2;
	for (unsigned int bit = 0; bit < (length ? 8 * length : 1); bit++) {
		wide first = pfn + bit * each;

		if (length && !field(message + at + 8, bit, bit + 1))
			continue;
		if (first + each > END) {
			r->refusal = PAGE_RUN_BEYOND;
			r->count = 0;
			return;
		}
		r->pages[r->count++] = (struct page_run){ (uint64_t)first, (uint64_t)each };
	}
}

static void both_read(const uint8_t *data, size_t size)
{
	uint8_t *message = copy_of(data, size);
	struct page_run runs[PAGE_RUN_RECORD_RUNS_MAX];
	static struct naive_record naive;
	struct page_run_record record;
	struct page_run_decoder d;
	enum page_run_code code = page_run_decode_begin(&d, message, size);
	size_t at = 8, end = 8;
	uint32_t index = 0;

	if (size < 8) {
		require(code == PAGE_RUN_BAD_LENGTH);
	} else if (field(message, 0, 32)) {
		require(code == PAGE_RUN_BAD_HEADER);
	} else if (field(message, 32, 64) % 8 || 8 + field(message, 32, 64) > size) {
		require(code == PAGE_RUN_BAD_LENGTH);
	} else {
		require(code == PAGE_RUN_OK);
		end += (size_t)field(message, 32, 64);
	}

	while (page_run_decode_next(&d, runs, &record)) {
		unsigned int i = 0;
		uint64_t pages = 0;

		require(at && at < end && record.index == index++);
		naive_read(&naive, message, at, end);
		require(record.refusal == naive.refusal);
		for (uint32_t run = 0; run < record.runs; run++) {
			uint64_t next = runs[run].pfn;

			require(!run || next > runs[run - 1].pfn + runs[run - 1].count);
			while (next < runs[run].pfn + runs[run].count) {
				require(i < naive.count && naive.pages[i].pfn == next);
				next += naive.pages[i++].count;
			}
			require(next == runs[run].pfn + runs[run].count);
			pages += runs[run].count;
		}
		require(i == naive.count && pages == record.pages);
		at = naive.next;
	}
	require((!at || at == end) && d.records == index);
	free(message);
}

static void with_header(const uint8_t *data, size_t size)
{
	size_t length = size / 8 * 8;
	uint8_t *message = calloc(1, 8 + length);

	require(message);
	for (unsigned int i = 0; i < 4; i++)
		message[4 + i] = (uint8_t)(length >> 8 * i);
	if (length)
		memcpy(message + 8, data, length);
	both_read(message, 8 + length);
	free(message);
}

/* ---- the writer without wits, and the set ------------------------------------ */

static uint8_t wanted[DOMAIN + 256], got[DOMAIN + 256];

static void tick_off(const uint8_t *bytes, uint32_t length)
{
	uint8_t *message = copy_of(bytes, length);
	static struct naive_record naive;

	require(length >= 8 && field(message, 0, 32) == 0 && field(message, 32, 64) == length - 8);
	for (size_t at = 8; at < length; at = naive.next) {
		naive_read(&naive, message, at, length);
		require(!naive.refusal && naive.next);
		for (unsigned int i = 0; i < naive.count; i++)
			for (uint64_t p = 0; p < naive.pages[i].count; p++) {
				require(naive.pages[i].pfn + p < sizeof(got));
				got[naive.pages[i].pfn + p]++;
			}
	}
	free(message);
}

static void both_write(const uint8_t *data, size_t size)
{
	uint32_t room = size ? 16 + data[0] * 2u : 16, full = 0;
	uint8_t *message = malloc(room);
	struct page_run_encoder e;
	uint32_t last = 0;

	require(message);
	memset(wanted, 0, sizeof(wanted));
	memset(got, 0, sizeof(got));
	page_run_encode_begin(&e, message, room);
	for (size_t i = 1; i + 4 < size; i += 5) {
		/* Relative to the last one if the top bit is set. */
		uint32_t number = data[i] | data[i + 1] << 8 | (data[i + 2] & 1) << 16;
		struct page_run run = { number, 1 + (data[i + 3] | (data[i + 4] & 3u) << 8) };

		if (data[i + 2] & 0x80)
			run.pfn = (last + (number & 0x3f)) % DOMAIN;
		run.count = run.pfn + run.count > DOMAIN ? 1 : run.count;
		last = (uint32_t)(run.pfn + run.count);
		for (uint64_t p = 0; p < run.count; p++)
			wanted[run.pfn + p]++;
		while (run.count) {
			uint64_t taken = page_run_encode(&e, run);

			require(taken <= run.count);
			full = taken ? 0 : full + 1;
			require(full < 2);
			run.pfn += taken;
			run.count -= taken;
			if (!run.count)
				break;
			tick_off(message, page_run_encode_finish(&e));
			page_run_encode_begin(&e, message, room);
		}
	}
	tick_off(message, page_run_encode_finish(&e));
	require(!memcmp(wanted, got, sizeof(got)));
	free(message);
}

static void both_merge(const uint8_t *data, size_t size)
{
	uint32_t count = (uint32_t)(size / 2), n;
	struct page_run *runs = malloc(count ? count * sizeof(*runs) : 1);
	uint8_t *pfns = malloc(count ? 4 * count : 1);

	require(runs && pfns);
	memset(wanted, 0, sizeof(wanted));
	memset(got, 0, sizeof(got));
	for (uint32_t i = 0; i < count; i++) {
		uint32_t pfn = data[2 * i] | (data[2 * i + 1] & 3u) << 8;

		memcpy(pfns + 4 * i, (uint8_t[]){ (uint8_t)pfn, (uint8_t)(pfn >> 8), 0, 0 }, 4);
		wanted[pfn] = 1;
	}
	n = page_runs_from_pfns(runs, pfns, count);
	require(n <= count);
	/* Make the runs overlap: now and then one grows. */
	for (uint32_t i = 0; i < n && i < size; i++)
		if (data[i] >= 0xf0) {
			runs[i].count += data[i] & 0xf;
			memset(wanted + runs[i].pfn, 1, runs[i].count);
		}
	n = page_runs_merge(runs, n);
	for (uint32_t i = 0; i < n; i++) {
		require(!i || runs[i].pfn > runs[i - 1].pfn + runs[i - 1].count);
		for (uint64_t p = 0; p < runs[i].count; p++)
			got[runs[i].pfn + p] = 1;
	}
	require(!memcmp(wanted, got, sizeof(got)));
	free(runs);
	free(pfns);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	switch (data[0] % 4) {
	case 0:
		both_read(data + 1, size - 1);
		break;
	case 1:
		both_write(data + 1, size - 1);
		break;
	case 2:
		both_merge(data + 1, size - 1);
		break;
	case 3:
		with_header(data + 1, size - 1);
		break;
	}
	return 0;
}
