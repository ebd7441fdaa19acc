/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The page-bitmap protocol's messages (docs/balloon-protocol.md).
 *
 * Theory of operation.  A cost is a number of 64-bit words.  A run of n pages
 * costs one extent for each bit that is set in n; a bitmap costs one word and one
 * more for 64 pages.  The encoder looks ahead by one record: runs are collected in
 * a bitmap that is not yet written, and when it is, the cheaper form is taken.
 *
 *	run --> pending, while neighbours come
 *	            --> large power-of-two parts: extents, at once
 *	            --> the rest: joins the bitmap in the making,
 *	                or that is written and the rest begins a new one
 *
 * The pages of the bitmap in the making are as large as its runs allow, so that a
 * guest in which every other 64 KiB is in use gets bits for 64 KiB; they shrink
 * when a run comes that needs it.  A run joins when that is not dearer than to
 * stand alone, and not across 64 clear bits: an empty word costs as much as the
 * first word of a new record.
 *
 * Invariant: used + 8 * (cost of the bitmap in the making + cost of the pending
 * run standing alone) <= size.  So everything that was accepted can be written,
 * and no set of runs, in whatever order, is ever longer than extents would be.
 *
 * Rejected: extents that overlap (any run in two words), since then pages are named
 * twice and the count in the status means nothing; an optimal split by dynamic
 * programming, which needs all runs at once and memory for them.
 *
 * Compilers' __builtin_ctzll and __builtin_popcountll are calls into their library
 * on some machines, and a kernel module does not have that.
 */
#include "page_run.h"

#define WORD_BYTES 8u
#define WORD_BITS 64u

/* The header word and a record's first word: shift and width of each field. */
#define HEADER_ZERO_BITS 32u /* cmd, flag, id */
#define RECORD_SHIFT_AT 52u
#define RECORD_SHIFT_MASK 0x3fu
#define RECORD_LENGTH_AT 58u

/* ---- bytes and bits -------------------------------------------------------- */

static page_run_u64 load(const page_run_u8 *p, unsigned int bytes)
{
	page_run_u64 v = 0;

	for (unsigned int i = 0; i < bytes; i++)
		v |= (page_run_u64)p[i] << 8 * i;
	return v;
}

static void store(page_run_u8 *p, page_run_u64 v, unsigned int bytes)
{
	for (unsigned int i = 0; i < bytes; i++)
		p[i] = (page_run_u8)(v >> 8 * i);
}

static page_run_u32 ones(page_run_u64 v)
{
	v -= v >> 1 & 0x5555555555555555ull;
	v = (v & 0x3333333333333333ull) + (v >> 2 & 0x3333333333333333ull);
	v = (v + (v >> 4)) & 0x0f0f0f0f0f0f0f0full;
	return (page_run_u32)(v * 0x0101010101010101ull >> 56);
}

/* The lowest bit that is set in @v, which is not 0. */
static page_run_u64 lowest(page_run_u64 v)
{
	return v & (~v + 1);
}

static page_run_u32 lowest_at(page_run_u64 v)
{
	return ones(lowest(v) - 1);
}

static page_run_u32 words_for(page_run_u64 units)
{
	return (page_run_u32)((units + WORD_BITS - 1) / WORD_BITS);
}

/* The first bit of @bits in [from, end) that is set (@flip 0) or clear (@flip ~0);
 * @end if there is none. */
static page_run_u32 bits_find(const page_run_u64 *bits, page_run_u32 from, page_run_u32 end,
			      page_run_u64 flip)
{
	while (from < end) {
		page_run_u64 rest = (bits[from / WORD_BITS] ^ flip) >> from % WORD_BITS;

		if (rest) {
			from += lowest_at(rest);
			return from < end ? from : end;
		}
		from = (from | (WORD_BITS - 1)) + 1;
	}
	return end;
}

/* The first run of set bits in [*to, end) becomes [*from, *to); false if none. */
static bool bits_next_run(const page_run_u64 *bits, page_run_u32 end, page_run_u32 *from,
			  page_run_u32 *to)
{
	*from = bits_find(bits, *to, end, 0);
	*to = bits_find(bits, *from, end, ~0ull);
	return *from < end;
}

static void bits_set(page_run_u64 *bits, page_run_u32 from, page_run_u32 to)
{
	while (from < to) {
		page_run_u32 left = WORD_BITS - from % WORD_BITS;
		page_run_u32 n = to - from < left ? to - from : left;

		bits[from / WORD_BITS] |= ~0ull >> (WORD_BITS - n) << from % WORD_BITS;
		from += n;
	}
}

/* ---- status ---------------------------------------------------------------- */

void page_run_status_store(page_run_u8 *bytes, struct page_run_status status)
{
	store(bytes, status.pages, 8);
	store(bytes + 8, status.code, 4);
	store(bytes + 12, status.record, 4);
}

struct page_run_status page_run_status_load(const page_run_u8 *bytes)
{
	return (struct page_run_status){
		.pages = load(bytes, 8),
		.code = (page_run_u32)load(bytes + 8, 4),
		.record = (page_run_u32)load(bytes + 12, 4),
	};
}

/* ---- encoder --------------------------------------------------------------- */

static void write_word(struct page_run_encoder *e, page_run_u64 word)
{
	store(e->message + e->used, word, WORD_BYTES);
	e->used += WORD_BYTES;
}

/* The first word of a record; pages of 2^@order times 4 KiB, @words of bitmap follow. */
static void write_record(struct page_run_encoder *e, page_run_u64 pfn, page_run_u32 order,
			 page_run_u32 words)
{
	write_word(e, pfn | (page_run_u64)(PAGE_RUN_SHIFT + order) << RECORD_SHIFT_AT |
			      (page_run_u64)(words * WORD_BYTES) << RECORD_LENGTH_AT);
	e->records++;
}

/* @count pages from @pfn as extents, the small ones first. */
static void write_extents(struct page_run_encoder *e, page_run_u64 pfn, page_run_u64 count)
{
	while (count) {
		page_run_u64 part = lowest(count);

		write_record(e, pfn, lowest_at(part), 0);
		pfn += part;
		count -= part;
	}
}

static page_run_u32 cheaper(page_run_u32 extents, page_run_u64 units)
{
	page_run_u32 bitmap = 1 + words_for(units);

	return extents < bitmap ? extents : bitmap;
}

/* What the bitmap in the making costs. */
static page_run_u32 made_cost(const struct page_run_encoder *e)
{
	return e->units ? cheaper(e->extents, e->units) : 0;
}

/*
 * What a run of @count pages costs when it stands alone.  The best way is to write
 * its large power-of-two parts as extents and to keep the rest, *@keep pages, whose
 * bits fit into one bitmap, open for what comes.
 */
static page_run_u32 run_cost(page_run_u64 count, page_run_u64 *keep)
{
	page_run_u32 order = lowest_at(count), all = ones(count), kept = 0, best = all + 1;
	page_run_u64 rest = 0;

	while (rest != count) {
		page_run_u32 cost;

		rest |= lowest(count - rest);
		kept++;
		if (rest >> order > PAGE_RUN_BITMAP_PAGES_MAX)
			break;
		cost = all - kept + cheaper(kept, rest >> order);
		if (cost <= best) {
			best = cost;
			*keep = rest;
		}
	}
	return best;
}

/* Write the bitmap in the making, in the cheaper form. */
static void made_write(struct page_run_encoder *e)
{
	page_run_u32 words = words_for(e->units), order = e->shift - PAGE_RUN_SHIFT;
	page_run_u32 from, to = 0;

	if (made_cost(e) < e->extents) {
		write_record(e, e->base, order, words);
		for (page_run_u32 i = 0; i < words; i++)
			write_word(e, e->bits[i]);
	} else {
		while (bits_next_run(e->bits, e->units, &from, &to))
			write_extents(e, e->base + ((page_run_u64)from << order),
				      (page_run_u64)(to - from) << order);
	}
	e->units = 0;
	e->extents = 0;
}

/* Make the pages of the bitmap in the making 2^@by times smaller; they fit. */
static void made_refine(struct page_run_encoder *e, page_run_u32 by)
{
	page_run_u64 coarse[PAGE_RUN_BITMAP_WORDS_MAX];
	page_run_u32 from, to = 0;

	for (page_run_u32 i = 0; i < PAGE_RUN_BITMAP_WORDS_MAX; i++) {
		coarse[i] = e->bits[i];
		e->bits[i] = 0;
	}
	while (bits_next_run(coarse, e->units, &from, &to))
		bits_set(e->bits, from << by, to << by);
	e->units <<= by;
	e->shift -= by;
}

/* Join the bitmap in the making, if that is right and not dearer. */
static bool made_join(struct page_run_encoder *e, struct page_run run)
{
	page_run_u32 order = e->shift - PAGE_RUN_SHIFT, finer;
	page_run_u64 size = (page_run_u64)e->units << order, at = run.pfn - e->base, keep, units;

	if (!e->units || run.pfn < e->base || at < size)
		return false;
	finer = lowest_at(at | run.count);
	if (finer > order)
		finer = order;
	units = (at + run.count) >> finer;
	if (units > PAGE_RUN_BITMAP_PAGES_MAX || (at - size) >> finer >= WORD_BITS)
		return false;
	if (cheaper(e->extents + ones(run.count), units) >
	    made_cost(e) + run_cost(run.count, &keep))
		return false;

	if (finer < order)
		made_refine(e, order - finer);
	bits_set(e->bits, (page_run_u32)(at >> finer), (page_run_u32)units);
	e->units = (page_run_u32)units;
	e->extents += ones(run.count);
	return true;
}

/* Hand the pending run on. */
static void pending_push(struct page_run_encoder *e)
{
	struct page_run run = e->pending;
	page_run_u64 keep = 0;
	page_run_u32 order;

	e->pending.count = 0;
	if (!run.count || made_join(e, run))
		return;
	made_write(e);
	run_cost(run.count, &keep);
	write_extents(e, run.pfn, run.count - keep);

	order = lowest_at(keep);
	e->base = run.pfn + run.count - keep;
	e->shift = PAGE_RUN_SHIFT + order;
	e->units = (page_run_u32)(keep >> order);
	e->extents = ones(keep);
	for (page_run_u32 i = 0; i < PAGE_RUN_BITMAP_WORDS_MAX; i++)
		e->bits[i] = 0;
	bits_set(e->bits, 0, e->units);
}

/* How many of @more pages can be added to a pending run of @have: all, or all but
 * the smallest power-of-two parts. */
static page_run_u64 room_for(const struct page_run_encoder *e, page_run_u64 have, page_run_u64 more)
{
	page_run_u32 left = (e->size - e->used) / WORD_BYTES, made = made_cost(e);
	page_run_u64 keep;

	for (; more; more -= lowest(more))
		if (have + more < PAGE_RUN_PFN_END && made + run_cost(have + more, &keep) <= left)
			break;
	return more;
}

void page_run_encode_begin(struct page_run_encoder *e, void *message, page_run_u32 size)
{
	if (size > PAGE_RUN_MESSAGE_BYTES_MAX)
		size = PAGE_RUN_MESSAGE_BYTES_MAX;
	*e = (struct page_run_encoder){
		.message = message,
		.size = size < PAGE_RUN_HEADER_BYTES ? PAGE_RUN_HEADER_BYTES : size,
		.used = PAGE_RUN_HEADER_BYTES,
		.shift = PAGE_RUN_SHIFT,
	};
}

page_run_u64 page_run_encode(struct page_run_encoder *e, struct page_run run)
{
	struct page_run *p = &e->pending;
	page_run_u64 taken;

	if (!run.count)
		return 0;
	if (p->count && run.pfn == p->pfn + p->count) {
		taken = room_for(e, p->count, run.count);
		p->count += taken;
	} else if (p->count && run.pfn + run.count == p->pfn &&
		   room_for(e, p->count, run.count) == run.count) {
		taken = run.count;
		p->pfn = run.pfn;
		p->count += taken;
	} else {
		pending_push(e);
		taken = room_for(e, 0, run.count);
		*p = (struct page_run){ .pfn = run.pfn, .count = taken };
	}
	e->pages += taken;
	return taken;
}

page_run_u32 page_run_encode_finish(struct page_run_encoder *e)
{
	pending_push(e);
	made_write(e);
	store(e->message, (page_run_u64)(e->used - PAGE_RUN_HEADER_BYTES) << HEADER_ZERO_BITS,
	      PAGE_RUN_HEADER_BYTES);
	return e->used;
}

/* ---- decoder --------------------------------------------------------------- */

enum page_run_code page_run_decode_begin(struct page_run_decoder *d, const void *message,
					 size_t length)
{
	page_run_u64 header, bytes;

	*d = (struct page_run_decoder){ .at = message, .end = message };
	if (length < PAGE_RUN_HEADER_BYTES)
		return PAGE_RUN_BAD_LENGTH;
	header = load(d->at, PAGE_RUN_HEADER_BYTES);
	if (header & ((1ull << HEADER_ZERO_BITS) - 1))
		return PAGE_RUN_BAD_HEADER;
	bytes = header >> HEADER_ZERO_BITS;
	if (bytes % WORD_BYTES || bytes > length - PAGE_RUN_HEADER_BYTES)
		return PAGE_RUN_BAD_LENGTH;
	d->at += PAGE_RUN_HEADER_BYTES;
	d->end = d->at + bytes;
	return PAGE_RUN_OK;
}

/* The record is refused; if @last, nothing behind it can be found. */
static bool record_refuse(struct page_run_decoder *d, struct page_run_record *record,
			  enum page_run_refusal refusal, bool last)
{
	record->refusal = refusal;
	record->pages = 0;
	record->runs = 0;
	if (last)
		d->at = d->end;
	return true;
}

bool page_run_decode_next(struct page_run_decoder *d, struct page_run *runs,
			  struct page_run_record *record)
{
	page_run_u64 word, pfn, room, bits[PAGE_RUN_BITMAP_WORDS_MAX] = { 1 };
	page_run_u32 shift, bytes, order, from, to = 0;

	if (d->at == d->end)
		return false;
	word = load(d->at, WORD_BYTES);
	d->at += WORD_BYTES;
	*record = (struct page_run_record){ .index = d->records++, .refusal = PAGE_RUN_ACCEPTED };

	pfn = word & (PAGE_RUN_PFN_END - 1);
	shift = (page_run_u32)(word >> RECORD_SHIFT_AT) & RECORD_SHIFT_MASK;
	bytes = (page_run_u32)(word >> RECORD_LENGTH_AT);
	if (bytes % WORD_BYTES)
		return record_refuse(d, record, PAGE_RUN_BITMAP_LENGTH, true);
	if (bytes > (size_t)(d->end - d->at))
		return record_refuse(d, record, PAGE_RUN_TRUNCATED, true);
	for (page_run_u32 i = 0; i < bytes / WORD_BYTES; i++, d->at += WORD_BYTES)
		bits[i] = load(d->at, WORD_BYTES);
	if (shift < PAGE_RUN_SHIFT)
		return record_refuse(d, record, PAGE_RUN_PAGE_SHIFT, false);

	/* An extent is a bitmap with one bit.  With no more than @room bits, no
	 * page lies beyond the end, and no shift below overflows. */
	order = shift - PAGE_RUN_SHIFT;
	room = (PAGE_RUN_PFN_END - pfn) >> order;
	while (bits_next_run(bits, bytes ? bytes * 8 : 1, &from, &to)) {
		struct page_run *run = &runs[record->runs];

		if (to > room)
			return record_refuse(d, record, PAGE_RUN_BEYOND, false);
		run->pfn = pfn + ((page_run_u64)from << order);
		run->count = (page_run_u64)(to - from) << order;
		record->pages += run->count;
		record->runs++;
	}
	return true;
}

/* ---- sets of runs ---------------------------------------------------------- */

/* Merge each run with the one before it, if they touch. */
static page_run_u32 merge_neighbours(struct page_run *runs, page_run_u32 count)
{
	page_run_u32 n = 0;

	for (page_run_u32 i = 0; i < count; i++) {
		struct page_run run = runs[i], *last = &runs[n ? n - 1 : 0];
		page_run_u64 end = run.pfn + run.count, last_end = last->pfn + last->count;

		if (!n || run.pfn > last_end || end < last->pfn) {
			runs[n++] = run;
			continue;
		}
		last->pfn = run.pfn < last->pfn ? run.pfn : last->pfn;
		last->count = (end > last_end ? end : last_end) - last->pfn;
	}
	return n;
}

static void swap(struct page_run *a, struct page_run *b)
{
	struct page_run t = *a;

	*a = *b;
	*b = t;
}

/* Let the run at @i sink until both below it are smaller. */
static void heap_sink(struct page_run *runs, page_run_u32 i, page_run_u32 count)
{
	while (i < count / 2) {
		page_run_u32 child = 2 * i + 1;

		if (child + 1 < count && runs[child + 1].pfn > runs[child].pfn)
			child++;
		if (runs[child].pfn <= runs[i].pfn)
			return;
		swap(&runs[i], &runs[child]);
		i = child;
	}
}

/* In place, no recursion, and no order that makes it slow. */
static void heap_sort(struct page_run *runs, page_run_u32 count)
{
	for (page_run_u32 i = count / 2; i-- > 0;)
		heap_sink(runs, i, count);
	while (count > 1) {
		count--;
		swap(&runs[0], &runs[count]);
		heap_sink(runs, 0, count);
	}
}

page_run_u32 page_runs_merge(struct page_run *runs, page_run_u32 count)
{
	bool upwards = true, downwards = true;

	count = merge_neighbours(runs, count);
	for (page_run_u32 i = 1; i < count; i++) {
		upwards = upwards && runs[i].pfn > runs[i - 1].pfn + runs[i - 1].count;
		downwards = downwards && runs[i].pfn < runs[i - 1].pfn;
	}
	if (upwards)
		return count;
	if (downwards)
		for (page_run_u32 i = 0; i < count / 2; i++)
			swap(&runs[i], &runs[count - 1 - i]);
	else
		heap_sort(runs, count);
	return merge_neighbours(runs, count);
}

page_run_u32 page_runs_from_pfns(struct page_run *runs, const void *pfns, page_run_u32 count)
{
	const page_run_u8 *at = pfns;

	for (page_run_u32 i = 0; i < count; i++)
		runs[i] = (struct page_run){ .pfn = load(at + 4 * (size_t)i, 4), .count = 1 };
	return merge_neighbours(runs, count);
}
