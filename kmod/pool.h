/* SPDX-License-Identifier: GPL-2.0 */
/* The pages of the balloon: see pool.c. */
#ifndef UMBRA_POOL_H
#define UMBRA_POOL_H

#include <linux/list.h>
#include <linux/mm.h>

#include "compat.h"
#include "page_run.h"

/* Pages of the host's protocol in one of ours. */
#define HOST_PAGES (1u << (PAGE_SHIFT - PAGE_RUN_SHIFT))

/*
 * Runs that will make one message.  @cost is an upper bound of what they take in
 * it: 64-bit words for the page-bitmap protocol, where n pages are at most one
 * extent for each bit that is set in n; array entries for the stock protocol.
 */
struct run_list {
	struct page_run *runs;
	unsigned int count;
	unsigned int cost, cost_max;
	bool stock;
	u64 pages; /* of 4 KiB */
};

/* Pages that belong to neither the system nor the pool: a message has them. */
struct cargo {
	struct list_head chunks; /* head pages; page_private() is the order */
	struct list_head pieces;
	unsigned long pages; /* all of them */
	unsigned long piece_pages;
};

/* Pages that the host has. */
struct pool {
	struct list_head chunks; /* as above */
	unsigned long chunk_pages;
	struct balloon_dev_info pieces;
	unsigned long piece_pages; /* also those that compaction has isolated */
	bool managed_unchanged;	   /* the guest's total does not shrink: DEFLATE_ON_OOM */
};

/* How large the next allocation may be; goes down as the guest runs out. */
struct ladder {
	unsigned int order;
	bool whole; /* chunks: pageblocks and larger */
};

void run_list_reset(struct run_list *list);
void run_list_add(struct run_list *list, unsigned long pfn, unsigned long pages);
static inline unsigned int run_list_room(const struct run_list *list)
{
	return list->cost_max - list->cost;
}

void cargo_init(struct cargo *cargo);

void pool_init(struct pool *pool);
static inline unsigned long pool_pages(const struct pool *pool)
{
	return pool->chunk_pages + pool->piece_pages;
}

void ladder_reset(struct ladder *ladder, const struct run_list *list);
bool pool_allocate(struct pool *pool, struct cargo *cargo, struct run_list *list,
		   struct ladder *ladder, unsigned long want);
void pool_store(struct pool *pool, struct cargo *cargo);
void pool_take(struct pool *pool, struct cargo *cargo, struct run_list *list, unsigned long want);
void pool_take_chunk(struct pool *pool, struct cargo *cargo, struct run_list *list);
void pool_release(struct pool *pool, struct cargo *cargo);
void pool_empty(struct pool *pool);

#endif
