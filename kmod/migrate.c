// SPDX-License-Identifier: GPL-2.0
/*
 * Compaction moves pages of the balloon.
 *
 * The kernel isolates a piece from the pool, brings a free page, and asks us to
 * let that take its place: nothing is copied, the host is told of both.  Moves are
 * collected into a trade of up to TRADE_PAGES, which makes two messages: the new
 * pages on the inflate queue, the old ones on the deflate queue.  The work sends
 * it at once; what comes while it gets there goes along.
 *
 * The new page enters the pool when the device has acknowledged it; until then it
 * is in no list that compaction or deflate could find.  Of the old page we keep our
 * reference until the device knows, so that it cannot come back to the balloon by
 * another message first.  Nobody waits: if there is no idle message, or if
 * somebody holds the lock, compaction may try again (-EAGAIN).
 *
 * Both pages are counted in pool.piece_pages as one all the time.
 */

#include <linux/migrate.h>
#include <linux/pagemap.h>

#include "balloon.h"
#include "compat.h"

/* The list for one page of ours each, of TRADE_PAGES at most. */
static void trade_list_init(struct run_list *list, struct page_run *runs, bool stock)
{
	list->runs = runs;
	list->stock = stock;
	list->cost_max = stock ? min(STOCK_PAGES_MAX, TRADE_PAGES * HOST_PAGES) : TRADE_PAGES;
	run_list_reset(list);
}

static bool trade_open(struct balloon *balloon)
{
	struct trade *trade = &balloon->trade;

	if (trade->in)
		return true;
	trade->in = message_get(&balloon->inflate, MESSAGE_NORMAL);
	if (!trade->in)
		return false;
	trade->out = message_get(&balloon->deflate, MESSAGE_NORMAL);
	if (!trade->out) {
		message_put(&balloon->inflate, trade->in);
		trade->in = NULL;
		return false;
	}
	trade->in->is_trade = true;
	trade->out->is_trade = true;
	trade->count = 0;
	return true;
}

static bool trade_is_full(const struct trade *trade)
{
	return trade->count == TRADE_PAGES ||
	       run_list_room(&trade->in_list) < (trade->in_list.stock ? HOST_PAGES : 1);
}

/* Send what has been collected. */
void migrate_flush(struct balloon *balloon)
{
	struct trade *trade = &balloon->trade;
	struct message *in = trade->in, *out = trade->out;

	lockdep_assert_held(&balloon->lock);

	if (!in)
		return;
	trade->in = NULL;
	trade->out = NULL;
	/* If the device is broken, the books close without it. */
	if (message_send(balloon, &balloon->inflate, in, &trade->in_list, MESSAGE_NORMAL)) {
		migrate_settle(in);
		balloon->pool.piece_pages -= in->cargo.pages;
		pool_store(&balloon->pool, &in->cargo);
		message_put(&balloon->inflate, in);
	}
	if (message_send(balloon, &balloon->deflate, out, &trade->out_list, MESSAGE_NORMAL)) {
		while (out->moved_count)
			put_page(out->moved[--out->moved_count]);
		message_put(&balloon->deflate, out);
	}
}

/* Before the new pages of a trade go into the pool. */
void migrate_settle(struct message *message)
{
	struct page *page;

	list_for_each_entry(page, &message->cargo.pieces, lru)
		compat_wait_unlocked(page);
}

#if COMPAT_PAGES_MOVE
/*
 * Let @newpage take the place of @page.  Both are locked, and @page is isolated;
 * its list head is compaction's.
 */
static int migrate_page(struct balloon_dev_info *pieces, struct page *newpage, struct page *page,
			enum migrate_mode mode)
{
	struct balloon *balloon = container_of(pieces, struct balloon, pool.pieces);
	struct trade *trade = &balloon->trade;
	int err = -EAGAIN;

	/* The work may hold it while it allocates, which may be what compacts. */
	if (!mutex_trylock(&balloon->lock))
		return err;
	if (!balloon->running || balloon->stalled)
		goto out;
	if (trade->in && trade_is_full(trade))
		migrate_flush(balloon);
	if (!trade->in)
		messages_reap(balloon);
	if (!trade_open(balloon))
		goto out;

	if (!balloon->pool.managed_unchanged && page_zone(page) != page_zone(newpage)) {
		adjust_managed_page_count(page, 1);
		adjust_managed_page_count(newpage, -1);
	}
	/* The kernel forgets one that moves among the pages of balloons, and counts
	 * the new one when it enters the pool. */
	compat_count_balloon_pages(page, -1);
	count_vm_event(BALLOON_MIGRATE);
	err = compat_page_leaves(pieces, page);

	get_page(newpage); /* ours */
	list_add(&newpage->lru, &trade->in->cargo.pieces);
	trade->in->cargo.pages++;
	trade->in->cargo.piece_pages++;
	run_list_add(&trade->in_list, page_to_pfn(newpage), 1);

	trade->out->moved[trade->out->moved_count++] = page; /* with our reference */
	run_list_add(&trade->out_list, page_to_pfn(page), 1);
	trade->count++;
	trade->moved++;
	balloon_kick(balloon);
out:
	mutex_unlock(&balloon->lock);
	return err;
}
#endif

void migrate_start(struct balloon *balloon)
{
	struct trade *trade = &balloon->trade;

	trade_list_init(&trade->in_list, trade->in_runs, !balloon->page_bitmap);
	trade_list_init(&trade->out_list, trade->out_runs, !balloon->page_bitmap);
#if COMPAT_PAGES_MOVE
	balloon->pool.pieces.migratepage = migrate_page;
#endif
}
