// SPDX-License-Identifier: GPL-2.0
/*
 * The pages of the balloon, and how they are got from the system and given back.
 *
 * Theory of operation.  Memory is taken in two grades:
 *
 *  - Chunks: whole pageblocks or more (2 or 4 MiB on x86), as one allocation,
 *    which stays one.  A chunk cannot be moved, and need not be: it fragments
 *    nothing, since no larger block could form around it without taking it out
 *    of the balloon.  It is allocated as unmovable memory, so that ZONE_MOVABLE
 *    and CMA areas, which promise to be movable, never hold one.
 *  - Pieces: anything smaller, and anything from movable-only memory.  The
 *    allocation may be of any order, but is split at once into single pages, each
 *    of which the kernel's balloon compaction can move by itself.  The kernel
 *    moves single balloon pages only: a larger piece left whole would be a rock
 *    in the way of compaction.  Splitting costs some 10 ns a page, and the message
 *    to the host still names the run as one.
 *
 * The largest order is tried first, and each order until it fails.  Only single
 * pages, the last resort, may wait for reclaim, and not for long
 * (__GFP_NORETRY); larger ones take what is free (no reclaim, no compaction, no
 * waking of kswapd).
 *
 * Pages are given back in the reverse order, pieces first: what remains in the
 * balloon is what fragments the guest least.
 *
 * Ownership.  A page is in exactly one place: the system, a message's cargo, or
 * the pool.  It enters the pool only when the host has acknowledged it: until
 * then it must be neither moved nor given back, since the host may yet discard
 * it.  Compaction may take pieces out of the pool for a while ("isolated"); they
 * are still counted in piece_pages and always return, here or as another page.
 *
 * Locking: all under balloon.lock; the list of pieces also has the kernel's
 * spinlock, since compaction isolates from it.
 */

#include <linux/bitops.h>
#include <linux/delay.h>
#include <linux/gfp.h>
#include <linux/log2.h>
#include <linux/swap.h>
#include <linux/vmstat.h>

#include "compat.h"
#include "pool.h"

/* Take what is free, and leave the reserves alone. */
#define GFP_TAKE (__GFP_NOMEMALLOC | __GFP_NORETRY | __GFP_NOWARN)
#define GFP_CHUNK ((GFP_HIGHUSER & ~__GFP_RECLAIM) | GFP_TAKE)
#define GFP_PIECES ((COMPAT_GFP_PIECES & ~__GFP_RECLAIM) | GFP_TAKE)

/* Pieces in one cargo: they change hands under a spinlock, with interrupts off,
 * at some 20 ns each. */
#define CARGO_PIECES_MAX 8192u

/* ---- runs ------------------------------------------------------------------- */

static unsigned int run_cost(const struct run_list *list, u64 count)
{
	return list->stock ? count : hweight64(count);
}

void run_list_reset(struct run_list *list)
{
	list->count = 0;
	list->cost = 0;
	list->pages = 0;
}

/*
 * Add pages of ours; the caller has seen that there is room for them as a run of
 * their own.  A neighbour of the last run joins it, which never costs more.
 */
void run_list_add(struct run_list *list, unsigned long pfn, unsigned long pages)
{
	struct page_run run = { (u64)pfn * HOST_PAGES, (u64)pages * HOST_PAGES };
	struct page_run *last = list->count ? &list->runs[list->count - 1] : NULL;

	list->pages += run.count;
	if (last && (last->pfn + last->count == run.pfn || run.pfn + run.count == last->pfn)) {
		list->cost -= run_cost(list, last->count);
		last->pfn = min(last->pfn, run.pfn);
		last->count += run.count;
		list->cost += run_cost(list, last->count);
		return;
	}
	list->runs[list->count++] = run;
	list->cost += run_cost(list, run.count);
}

void cargo_init(struct cargo *cargo)
{
	INIT_LIST_HEAD(&cargo->chunks);
	INIT_LIST_HEAD(&cargo->pieces);
	cargo->pages = 0;
	cargo->piece_pages = 0;
}

/* ---- from the system -------------------------------------------------------- */

void pool_init(struct pool *pool)
{
	INIT_LIST_HEAD(&pool->chunks);
	balloon_devinfo_init(&pool->pieces);
	pool->chunk_pages = 0;
	pool->piece_pages = 0;
}

/* The largest order that one message of this kind can name. */
static unsigned int order_max(const struct run_list *list)
{
	if (!list->stock)
		return MAX_PAGE_ORDER;
	return min_t(unsigned int, MAX_PAGE_ORDER, ilog2(list->cost_max / HOST_PAGES));
}

/* Start at the top: what was fragmented a while ago may have healed. */
void ladder_reset(struct ladder *ladder, const struct run_list *list)
{
	ladder->order = order_max(list);
	ladder->whole = ladder->order >= pageblock_order;
}

/* After a failure at this order.  False: that was the last one. */
static bool ladder_down(struct ladder *ladder, const struct run_list *list, unsigned int order)
{
	if (ladder->whole && order > pageblock_order) {
		ladder->order = order - 1;
	} else if (ladder->whole) {
		ladder->whole = false;
		ladder->order = order_max(list);
	} else if (order) {
		ladder->order = order - 1;
	} else {
		return false;
	}
	return true;
}

static void adjust_managed(struct pool *pool, struct page *page, long pages)
{
	if (!pool->managed_unchanged)
		adjust_managed_page_count(page, pages);
}

/*
 * The kernel counts the pages that its list of pieces gets and gives, as events and,
 * where it has that, as pages that are in a balloon.  Of chunks we tell it.
 */
static void count_chunk(struct page *page, bool enters)
{
	long pages = 1l << page_private(page);

	count_vm_events(enters ? BALLOON_INFLATE : BALLOON_DEFLATE, pages);
	compat_count_balloon_pages(page, enters ? pages : -pages);
}

static struct page *allocate_chunk(struct cargo *cargo, unsigned int order)
{
	struct page *page = alloc_pages(GFP_CHUNK, order);

	if (!page)
		return NULL;
	set_page_private(page, order);
	list_add(&page->lru, &cargo->chunks);
	return page;
}

static struct page *allocate_pieces(struct cargo *cargo, unsigned int order)
{
	struct page *page = order ? alloc_pages(GFP_PIECES, order) : balloon_page_alloc();
	unsigned int i;

	if (!page)
		return NULL;
	if (order)
		split_page(page, order);
	for (i = 0; i < 1u << order; i++)
		list_add(&page[i].lru, &cargo->pieces);
	cargo->piece_pages += 1 << order;
	return page;
}

/*
 * Allocate once, at most @want pages, and add them to the cargo and to the list.
 * False: the cargo or the list is full, or the system has nothing to give, which
 * is so if the cargo is empty.
 */
bool pool_allocate(struct pool *pool, struct cargo *cargo, struct run_list *list,
		   struct ladder *ladder, unsigned long want)
{
	for (;;) {
		unsigned int order = min_t(unsigned int, ladder->order, ilog2(want));
		unsigned int room = run_list_room(list);
		struct page *page;
		bool whole;

		if (list->stock)
			room /= HOST_PAGES;
		if (!room)
			return false;
		if (list->stock)
			order = min_t(unsigned int, order, ilog2(room));

		whole = ladder->whole && order >= pageblock_order;
		if (!whole && cargo->piece_pages + (1u << order) > CARGO_PIECES_MAX)
			return false;
		page = whole ? allocate_chunk(cargo, order) : allocate_pieces(cargo, order);
		if (page) {
			cargo->pages += 1 << order;
			adjust_managed(pool, page, -(1L << order));
			run_list_add(list, page_to_pfn(page), 1 << order);
			return true;
		}
		if (!ladder_down(ladder, list, order))
			return false;
	}
}

/* ---- into the pool, and out of it ------------------------------------------- */

/* The host has these pages now. */
void pool_store(struct pool *pool, struct cargo *cargo)
{
	struct page *page;

	list_for_each_entry(page, &cargo->chunks, lru)
		count_chunk(page, true);
	list_splice_init(&cargo->chunks, &pool->chunks);
	pool->chunk_pages += cargo->pages - cargo->piece_pages;
	if (cargo->piece_pages)
		balloon_page_list_enqueue(&pool->pieces, &cargo->pieces);
	pool->piece_pages += cargo->piece_pages;
	cargo_init(cargo);
}

/* Make pieces of a chunk, since less than the whole is wanted.  Allocates
 * nothing. */
static void split_chunk(struct pool *pool)
{
	struct page *page = list_first_entry(&pool->chunks, struct page, lru);
	unsigned int i, order = page_private(page);
	LIST_HEAD(pieces);

	list_del(&page->lru);
	set_page_private(page, 0);
	/* They were counted when they came, as a chunk, and will be again. */
	count_vm_events(BALLOON_INFLATE, -(1L << order));
	compat_count_balloon_pages(page, -(1L << order));
	split_page(page, order);
	/* The kernel's list turns the order around, and hands out its head first. */
	for (i = 0; i < 1u << order; i++)
		list_add_tail(&page[i].lru, &pieces);
	balloon_page_list_enqueue(&pool->pieces, &pieces);
	pool->chunk_pages -= 1 << order;
	pool->piece_pages += 1 << order;
}

static unsigned long take_pieces(struct pool *pool, struct cargo *cargo, struct run_list *list,
				 unsigned long want)
{
	struct page *page;
	LIST_HEAD(pieces);
	size_t taken;

	want = min3(want, (unsigned long)run_list_room(list) / (list->stock ? HOST_PAGES : 1),
		    (unsigned long)CARGO_PIECES_MAX - cargo->piece_pages);
	taken = want ? balloon_page_list_dequeue(&pool->pieces, &pieces, want) : 0;
	list_for_each_entry(page, &pieces, lru)
		run_list_add(list, page_to_pfn(page), 1);
	list_splice(&pieces, &cargo->pieces);
	cargo->pages += taken;
	cargo->piece_pages += taken;
	pool->piece_pages -= taken;
	return taken;
}

/* Take the first chunk as it is, if there is one and the list has room. */
void pool_take_chunk(struct pool *pool, struct cargo *cargo, struct run_list *list)
{
	struct page *page = list_first_entry_or_null(&pool->chunks, struct page, lru);
	unsigned int order;

	if (!page || !run_list_room(list))
		return;
	order = page_private(page);
	count_chunk(page, false);
	list_move(&page->lru, &cargo->chunks);
	cargo->pages += 1 << order;
	pool->chunk_pages -= 1 << order;
	run_list_add(list, page_to_pfn(page), 1 << order);
}

/*
 * Take up to @want pages that make one message.  Fewer, perhaps none, if the list
 * is full, or if compaction has isolated some just now.  Allocates nothing.
 */
void pool_take(struct pool *pool, struct cargo *cargo, struct run_list *list, unsigned long want)
{
	while (want) {
		unsigned long before = cargo->pages;
		struct page *page;

		if (!take_pieces(pool, cargo, list, want)) {
			page = list_first_entry_or_null(&pool->chunks, struct page, lru);
			if (!page || !run_list_room(list) || cargo->piece_pages >= CARGO_PIECES_MAX)
				return;
			if (want < 1ul << page_private(page)) {
				split_chunk(pool);
				continue;
			}
			pool_take_chunk(pool, cargo, list);
		}
		want -= cargo->pages - before;
	}
}

/* Give all pages of a cargo back to the system. */
void pool_release(struct pool *pool, struct cargo *cargo)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, &cargo->chunks, lru) {
		unsigned int order = page_private(page);

		list_del(&page->lru);
		set_page_private(page, 0);
		adjust_managed(pool, page, 1L << order);
		__free_pages(page, order);
	}
	list_for_each_entry_safe(page, next, &cargo->pieces, lru) {
		list_del(&page->lru);
		adjust_managed(pool, page, 1);
		put_page(page);
	}
	cargo_init(cargo);
}

/*
 * Give all pages of the pool back.  Waits for those that compaction has isolated: it
 * returns them soon, whatever the device does.  And, where the kernel counts them
 * itself, for the last one that it has moved: it looks at pool.pieces once more after
 * our method has returned, and that may be freed next.
 */
void pool_empty(struct pool *pool)
{
	struct cargo cargo;
	struct page *page;

	list_for_each_entry(page, &pool->chunks, lru)
		count_chunk(page, false);
	cargo_init(&cargo);
	list_splice_init(&pool->chunks, &cargo.chunks);
	pool->chunk_pages = 0;
	pool_release(pool, &cargo);
	while (pool->piece_pages || READ_ONCE(pool->pieces.isolated_pages)) {
		size_t taken = balloon_page_list_dequeue(&pool->pieces, &cargo.pieces,
							 CARGO_PIECES_MAX);

		pool->piece_pages -= taken;
		pool_release(pool, &cargo);
		if (!taken)
			msleep(1);
	}
}
