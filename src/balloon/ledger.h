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
 * It lies in one piece of memory, the room, and describes itself there: ledger_read() makes of
 * a room that somebody has left a ledger that another takes over.  That may be a process that was
 * killed between any two stores, so each is of a whole word and says something that is true
 * or harmless:
 *   - a page goes in before the device answers for it, so that until then it is the balloon's,
 *     told or not; and the next device is given the same message again;
 *   - a page goes out before its driver hears that it may use it.  A device that took a page for
 *     the balloon's that the guest uses might discard it with its neighbours
 *     (balloon_batch.h, "Blocks"); one that has forgotten a page miscounts it;
 *   - a page that is not in the balloon is not unfreed, whatever its second bit says;
 *   - a room that is not described to its end has no form yet, and is none.
 *
 * Bounds: a byte, or two for what the host has not got back, for 32 KiB of guest memory, of which
 * only what was ballooned is ever touched; at most LEDGER_PAGES_MAX pages, which is what num_pages
 * of the configuration space can say.
 *
 * Threads: one owner at a time.  Trust: the caller gives pages that a region
 * holds; ledger_find() says which those are.  A room that is read may hold anything: what
 * describes it is copied, and the copy judged; of the bits any may be set.
 */
#ifndef UMBRA_BALLOON_LEDGER_H
#define UMBRA_BALLOON_LEDGER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/le.h"
#include "memory/memory.h"
#include "umbra/error.h"

#define LEDGER_PAGES_MAX (UINT64_C(1) << 32) /* 16 TiB */

struct ledger_region {
	uint64_t first, count; /* whole pages of 4 KiB: [first, first + count) */
	uint64_t file_device, file_inode;
	uint64_t file_offset; /* of the first page, bytes */
	le64 *bits;           /* in the room */
	le64 *unfreed;        /* in it; of these, the pages that the host has not got back */
};

struct ledger {
	uint64_t pages;              /* that are in the balloon */
	uint64_t unfreed;            /* of them, that the host has not got back */
	struct memory_backing *room; /* NULL: heap */
	void *heap;
	unsigned int count;
	struct ledger_region regions[]; /* as in the memory table, in its order */
};

/* How much room a ledger for @memory needs.  -EINVAL: it has more than LEDGER_PAGES_MAX. */
UMBRA_MUST_CHECK int ledger_measure(const struct memory *memory, uint64_t *bytes,
				    struct umbra_error *err);

/*
 * A ledger for @memory, with what @before (NULL: nothing) knows of the same pages.  @room: so
 * many zeros, of whose backing it takes a reference; NULL: it has its own.  -ENOMEM; -EINVAL:
 * as ledger_measure().
 */
UMBRA_MUST_CHECK int ledger_create(const struct memory *memory, const struct ledger *before,
				   const struct memory_region *room, struct ledger **out,
				   struct umbra_error *err);

/*
 * What somebody has left in @room, to be handed to ledger_create() as @before, and for nothing
 * else; it takes a reference of the backing.  -EINVAL: it is no ledger; -ENOMEM.
 */
UMBRA_MUST_CHECK int ledger_read(const struct memory_region *room, struct ledger **out,
				 struct umbra_error *err);
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
