/* SPDX-License-Identifier: BSD-2-Clause */
/* The pages of many messages, carried out together: see balloon_batch.h. */
#include "balloon/balloon_batch.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "base/error.h"

#define PAGE_BYTES (UINT64_C(1) << PAGE_RUN_SHIFT)

int balloon_batch_init(struct balloon_batch *b, struct balloon_host *host,
		       struct balloon_counters *counters, struct umbra_error *err)
{
	*b = (struct balloon_batch){ .host = host, .counters = counters };
	b->runs = calloc(BALLOON_BATCH_RUNS_MAX, sizeof(*b->runs));
	b->discards = calloc(BALLOON_TURN_DISCARDS, sizeof(*b->discards));
	if (b->runs && b->discards)
		return 0;
	balloon_batch_fini(b);
	return error_set(err, -ENOMEM, "no memory for a balloon's batch");
}

void balloon_batch_fini(struct balloon_batch *b)
{
	free(b->runs);
	free(b->discards);
	b->runs = NULL;
	b->discards = NULL;
}

void balloon_batch_begin(struct balloon_batch *b)
{
	b->failed_first = UINT64_MAX;
	b->failed_end = 0;
}

/* --- discarding ------------------------------------------------------------- */

/* Has the host got this back? */
static void note_result(struct balloon_batch *b, const struct balloon_discard *d)
{
	unsigned int index = (unsigned int)(d->region - b->memory->regions);
	uint64_t pfn = (d->region->gpa.v + d->offset) >> PAGE_RUN_SHIFT;
	uint64_t count = d->length >> PAGE_RUN_SHIFT;

	if (d->result)
		ledger_mark_unfreed(b->ledger, index, pfn, count);
	else
		ledger_mark_freed(b->ledger, index, pfn, count);
}

static void note_failure(struct balloon_batch *b, const struct balloon_discard *d)
{
	uint64_t gpa = d->region->gpa.v + d->offset;

	counter_add(&b->counters->discard_errors, 1);
	__atomic_store_n(&b->counters->discard_error, -d->result, __ATOMIC_RELAXED);
	b->failed_first = MIN(b->failed_first, gpa >> PAGE_RUN_SHIFT);
	b->failed_end = MAX(b->failed_end, (gpa + d->length + PAGE_BYTES - 1) >> PAGE_RUN_SHIFT);
}

static void discards_flush(struct balloon_batch *b)
{
	uint64_t bytes = 0, done = 0, freed, start;

	if (!b->discard_count)
		return;
	start = device_host_now_us(b->host->device);
	freed = b->host->ops->discard(b->host, b->discards, b->discard_count);
	counter_add(&b->counters->discard_us, device_host_now_us(b->host->device) - start);
	for (unsigned int i = 0; i < b->discard_count; i++) {
		note_result(b, &b->discards[i]);
		if (b->discards[i].result == BALLOON_KEPT)
			counter_add(&b->counters->kept_bytes, b->discards[i].length);
		else if (b->discards[i].result)
			note_failure(b, &b->discards[i]);
		else
			bytes += b->discards[i].length;
		done += b->discards[i].result != BALLOON_KEPT;
	}
	counter_add(&b->counters->discards, done);
	counter_add(&b->counters->discarded_bytes, bytes);
	counter_add(&b->counters->freed_bytes, freed);
	b->discard_count = 0;
}

/* [start, end) of the file of @region, which holds it. */
static void discard_add(struct balloon_batch *b, const struct memory_region *region, uint64_t start,
			uint64_t end)
{
	uint64_t fd_offset = region->backing ? region->backing->fd_offset : 0;
	struct balloon_discard *last = &b->discards[b->discard_count ? b->discard_count - 1 : 0];

	/* Blocks that were completed on both sides of a gap may overlap. */
	if (b->discard_count && !b->single_pages && last->region == region &&
	    start - fd_offset <= last->offset + last->length) {
		if (end - fd_offset > last->offset + last->length)
			last->length = end - fd_offset - last->offset;
		return;
	}
	/* Blocks that are completed page by page may be more than a turn's. */
	if (b->discard_count == BALLOON_TURN_DISCARDS)
		discards_flush(b);
	b->discards[b->discard_count++] = (struct balloon_discard){
		.region = region,
		.offset = start - fd_offset,
		.length = end - start,
	};
}

/* Is every page of the block that holds byte @at of the file in the balloon?
 * Then *@start is where the block begins. */
static bool block_is_complete(const struct balloon_batch *b, unsigned int index, uint64_t at,
			      uint64_t block, uint64_t *start)
{
	const struct ledger_region *r = &b->ledger->regions[index];
	uint64_t begin = at & ~(block - 1);

	if (begin < r->file_offset || (begin - r->file_offset) % PAGE_BYTES ||
	    begin - r->file_offset + block > r->count * PAGE_BYTES)
		return false;
	*start = begin;
	return ledger_has(b->ledger, index, r->first + ((begin - r->file_offset) >> PAGE_RUN_SHIFT),
			  block >> PAGE_RUN_SHIFT);
}

/* Note what of @run lies in front of @start and behind @end, bytes of the file, which
 * are discarded. */
static void note_unfreed_beside(struct balloon_batch *b, unsigned int index, struct page_run run,
				uint64_t start, uint64_t end)
{
	const struct ledger_region *r = &b->ledger->regions[index];
	uint64_t from = r->file_offset + ((run.pfn - r->first) << PAGE_RUN_SHIFT);
	uint64_t to = from + (run.count << PAGE_RUN_SHIFT);

	if (start >= end)
		start = end = to;
	if (start > from)
		ledger_mark_unfreed(b->ledger, index, run.pfn, (start - from) >> PAGE_RUN_SHIFT);
	if (end < to)
		ledger_mark_unfreed(b->ledger, index, run.pfn + ((end - from) >> PAGE_RUN_SHIFT),
				    (to - end) >> PAGE_RUN_SHIFT);
}

/* Discard pages that region @index holds. */
static void discard_run(struct balloon_batch *b, enum balloon_kind kind, unsigned int index,
			struct page_run run)
{
	const struct memory_region *region = &b->memory->regions[index];
	const struct ledger_region *r = &b->ledger->regions[index];
	uint64_t page = region->backing ? MAX(region->backing->page, PAGE_BYTES) : PAGE_BYTES;
	uint64_t block = region->backing ? MAX(region->backing->block, page) : page;
	uint64_t start = r->file_offset + ((run.pfn - r->first) << PAGE_RUN_SHIFT);
	uint64_t end = start + (run.count << PAGE_RUN_SHIFT), at;

	/* The guest is without the page all the same, and that is all it is told: a
	 * record may be applied without discarding. */
	if (region->backing && __atomic_load_n(&region->backing->keeps, __ATOMIC_RELAXED)) {
		counter_add(&b->counters->kept_bytes, end - start);
		ledger_mark_unfreed(b->ledger, index, run.pfn, run.count);
		return;
	}
	if (kind == BALLOON_INFLATE && b->whole_blocks && block > PAGE_BYTES) {
		if (start % block && block_is_complete(b, index, start, block, &at))
			start = at;
		if (end % block && block_is_complete(b, index, end, block, &at))
			end = at + block;
	}
	/* A part of a page that cannot be split gives nothing back. */
	if (page > PAGE_BYTES) {
		start = align_up(start, page);
		end &= ~(page - 1);
		note_unfreed_beside(b, index, run, start, end);
		if (start >= end)
			return;
	}
	for (; b->single_pages && end - start > page; start += page)
		discard_add(b, region, start, start + page);
	discard_add(b, region, start, end);
}

/* --- carrying out ------------------------------------------------------------ */

/* The front part of *@run that one region holds, out of it; -1: nothing holds its
 * first page. */
static int run_split(struct balloon_batch *b, struct page_run *run, struct page_run *part)
{
	int index = ledger_find(b->ledger, &b->region_hint, run->pfn);
	const struct ledger_region *r;

	if (index < 0)
		return index;
	r = &b->ledger->regions[index];
	part->pfn = run->pfn;
	part->count = MIN(run->count, r->first + r->count - run->pfn);
	run->pfn += part->count;
	run->count -= part->count;
	return index;
}

bool balloon_batch_covers(struct balloon_batch *b, struct page_run run)
{
	struct page_run part;

	while (run.count)
		if (run_split(b, &run, &part) < 0)
			return false;
	return true;
}

static void enter(struct balloon_batch *b, enum balloon_kind kind, struct page_run run)
{
	struct page_run part;

	while (run.count) {
		unsigned int index = (unsigned int)run_split(b, &run, &part);

		if (kind == BALLOON_INFLATE)
			ledger_put(b->ledger, index, part.pfn, part.count);
		else if (kind == BALLOON_DEFLATE)
			ledger_take(b->ledger, index, part.pfn, part.count);
		else
			counter_add(&b->counters->reported_bytes, part.count << PAGE_RUN_SHIFT);
	}
}

static void pages_show(struct balloon_batch *b)
{
	__atomic_store_n(&b->counters->pages, b->ledger->pages - MIN(b->added, b->undiscarded),
			 __ATOMIC_RELAXED);
}

void balloon_batch_close(struct balloon_batch *b, enum balloon_kind kind)
{
	const uint64_t shown = b->counters->pages;

	b->count = page_runs_merge(b->runs, b->count);
	b->at = 0;
	b->undiscarded = 0;
	/* All of them before the first discard: a block is complete when the ledger says
	 * so. */
	for (uint32_t i = 0; i < b->count; i++) {
		enter(b, kind, b->runs[i]);
		if (kind == BALLOON_INFLATE)
			b->undiscarded += b->runs[i].count;
	}
	/* With what a batch entered that was dropped between two turns. */
	b->added = b->ledger->pages - MIN(b->ledger->pages, shown);
	pages_show(b);
}

/*
 * How many pages of @part, in region @index, this turn may still discard when it has
 * discarded @bytes: at least one, at most all, and else up to where no page of the file
 * goes on.
 */
static uint64_t turn_part(const struct balloon_batch *b, unsigned int index,
			  const struct page_run *part, uint64_t bytes)
{
	const struct memory_region *region = &b->memory->regions[index];
	const struct ledger_region *r = &b->ledger->regions[index];
	uint64_t page = region->backing ? MAX(region->backing->page, PAGE_BYTES) : PAGE_BYTES;
	uint64_t start = r->file_offset + ((part->pfn - r->first) << PAGE_RUN_SHIFT);
	uint64_t unit = MAX(BALLOON_TURN_BYTES, page), most = unit, end;

	if (b->single_pages) {
		unit = page;
		most = page * (BALLOON_TURN_DISCARDS - b->discard_count);
	}
	if (bytes)
		most = MIN(most, MAX(unit, BALLOON_TURN_BYTES - MIN(bytes, BALLOON_TURN_BYTES)));
	end = (start + most) & ~(unit - 1);
	if (part->count <= (end - start) >> PAGE_RUN_SHIFT)
		return part->count;
	return MAX((end - start) >> PAGE_RUN_SHIFT, 1u);
}

bool balloon_batch_turn(struct balloon_batch *b, enum balloon_kind kind)
{
	uint64_t bytes = 0, uncut;

	while (kind != BALLOON_DEFLATE && b->at < b->count &&
	       b->discard_count < BALLOON_TURN_DISCARDS && bytes < BALLOON_TURN_BYTES) {
		struct page_run *run = &b->runs[b->at], from = *run, part;
		unsigned int index = (unsigned int)run_split(b, &from, &part);

		uncut = part.count;
		part.count = turn_part(b, index, &part, bytes);
		discard_run(b, kind, index, part);
		bytes += part.count << PAGE_RUN_SHIFT;
		b->undiscarded -= MIN(b->undiscarded, part.count);
		run->pfn += part.count;
		run->count -= part.count;
		b->at += !run->count;
		/* Cut: what follows would be merged with it. */
		if (run->count && part.count < uncut)
			break;
	}
	discards_flush(b);
	__atomic_store_n(&b->counters->unfreed, b->ledger->unfreed, __ATOMIC_RELAXED);
	pages_show(b);
	if (kind != BALLOON_DEFLATE && b->at < b->count)
		return false;
	balloon_batch_drop(b);
	return true;
}

void balloon_batch_drop(struct balloon_batch *b)
{
	b->count = b->at = 0;
}

/* --- collecting ---------------------------------------------------------------- */

void balloon_batch_add(struct balloon_batch *b, const struct page_run *runs, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		b->runs[b->count++] = runs[i];
}

uint32_t balloon_batch_add_pfns(struct balloon_batch *b, const void *pfns, uint32_t count,
				uint64_t *first, uint64_t *end)
{
	uint32_t refused = 0, end_at, n;
	struct page_run *runs, part;

	runs = b->runs + b->count;
	n = end_at = page_runs_from_pfns(runs, pfns, count);
	for (uint32_t i = 0; i < n; i++) {
		struct page_run run = runs[i];

		/* As a rule all of it is good and stays where it is. */
		if (likely(balloon_batch_covers(b, run))) {
			*first = MIN(*first, run.pfn);
			*end = MAX(*end, run.pfn + run.count);
			continue;
		}
		runs[i].count = 0;
		while (run.count) {
			if (run_split(b, &run, &part) >= 0) {
				*first = MIN(*first, part.pfn);
				*end = MAX(*end, part.pfn + part.count);
				/* Pieces go behind; a run of n pages was n pfns, so
				 * that there is room. */
				runs[end_at++] = part;
			} else {
				run.pfn++;
				run.count--;
				refused++;
			}
		}
	}
	/* Close the gaps that refused runs have left. */
	for (uint32_t i = 0; i < end_at; i++)
		if (runs[i].count)
			b->runs[b->count++] = runs[i];
	return refused;
}
