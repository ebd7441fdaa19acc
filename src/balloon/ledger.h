/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The ledger: which pages of the guest are in the balloon.
 *
 * Theory of operation: one bit for each whole page of 4 KiB that lies in a region
 * of the memory table, and the sum of the bits.  A second bit says that the host has not got the
 * page back, as where a discard has failed; it goes with the first.  Inflating what is in, or
 * deflating what is not, changes neither, so that `actual` stays right whatever a
 * driver says, and says twice.
 *
 * A ledger belongs to one memory table.  When the table changes, a new one is made
 * that takes over the pages that are still there: those at the same guest-physical
 * address in the same place of the same file.
 *
 * Bounds: a byte, or two for what the host has not got back, for 32 KiB of guest memory, of which
 * only what was ballooned is ever touched; at most LEDGER_PAGES_MAX pages, which is what num_pages
 * of the configuration space can say.
 *
 * Threads: one owner at a time.  Trust: the caller gives pages that a region
 * holds; ledger_find() says which those are.
 */
#ifndef UMBRA_BALLOON_LEDGER_H
#define UMBRA_BALLOON_LEDGER_H

#include <stdbool.h>
#include <stdint.h>

#include "memory/memory.h"
#include "umbra/error.h"

#define LEDGER_PAGES_MAX (UINT64_C(1) << 32) /* 16 TiB */

struct ledger_region {
	uint64_t first, count; /* whole pages of 4 KiB: [first, first + count) */
	uint64_t file_device, file_inode;
	uint64_t file_offset; /* of the first page, bytes */
	uint64_t *bits;
	uint64_t *unfreed; /* of these, the pages that the host has not got back */
};

struct ledger {
	uint64_t pages;   /* that are in the balloon */
	uint64_t unfreed; /* of them, that the host has not got back */
	unsigned int count;
	struct ledger_region regions[]; /* as in the memory table, in its order */
};

/*
 * A ledger for @memory, with what @before (NULL: nothing) knows of the same pages.
 * -ENOMEM; -EINVAL: more than LEDGER_PAGES_MAX.
 */
UMBRA_MUST_CHECK int ledger_create(const struct memory *memory, const struct ledger *before,
				   struct ledger **out, struct umbra_error *err);
void ledger_destroy(struct ledger **ledger);

/* Nothing is in the balloon any more. */
void ledger_clear(struct ledger *ledger);

/* The index of the region that holds page @pfn, or -1.  *@hint: see memory_host(). */
int ledger_find(const struct ledger *ledger, unsigned int *hint, uint64_t pfn);

/* Put [pfn, pfn + count), which region @index holds, in or take it out.  Returns
 * how many pages of them were not, or were, there. */
uint64_t ledger_put(struct ledger *ledger, unsigned int index, uint64_t pfn, uint64_t count);
uint64_t ledger_take(struct ledger *ledger, unsigned int index, uint64_t pfn, uint64_t count);

/* Note of what is in the balloon of [pfn, pfn + count), which region @index holds, that
 * the host has not got it back; or that it has. */
void ledger_mark_unfreed(struct ledger *ledger, unsigned int index, uint64_t pfn, uint64_t count);
void ledger_mark_freed(struct ledger *ledger, unsigned int index, uint64_t pfn, uint64_t count);

/* Is some file of memory in both? */
bool ledger_is_related(const struct ledger *ledger, const struct ledger *other);

/* Are all of [pfn, pfn + count), which region @index holds, in the balloon? */
bool ledger_has(const struct ledger *ledger, unsigned int index, uint64_t pfn, uint64_t count);

#endif
