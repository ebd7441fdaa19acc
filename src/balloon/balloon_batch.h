/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A batch: the pages of many messages, sorted, merged, and then given back or
 * taken from the ledger together.
 *
 * Theory of operation: what a message names is judged against guest memory and
 * collected as runs.  balloon_batch_close() sorts the runs, merges what touches,
 * whatever messages it came from, enters it into the ledger, and has each merged
 * run discarded by one call.  Only then the messages may be acknowledged.
 *
 * Turns: 64 KiB of message can name 229,152 runs, or one run all of a large guest's
 * memory, so that what a batch costs has nothing to do with how many messages it is.
 * It is carried out in turns of BALLOON_TURN_DISCARDS calls and BALLOON_TURN_BYTES, both
 * of which are some ten to some hundred milliseconds of touched memory, and between two
 * turns the thread does what else is wanted of it.  A longer run is cut where its file
 * is at a multiple of BALLOON_TURN_BYTES, which no page crosses.  No discard is left
 * over at the end of a turn: what is in the ledger may change until the next.
 *
 * Blocks: where the kernel keeps memory in pieces larger than 4 KiB (hugetlbfs,
 * tmpfs with huge pages; memory_backing::block), a piece that is completed by
 * several batches is discarded again as a whole, since only that frees it well or
 * at all.  That touches pages that were acknowledged before, so it is done only for
 * a driver that has negotiated VIRTIO_BALLOON_F_MUST_TELL_HOST: such a one uses no
 * page of the balloon before it has our answer to its deflation, so that what the
 * ledger has is not in use.  Pieces are counted in the file, not in guest-physical
 * addresses: the two need not be aligned to each other.
 *
 * Ownership: the arrays are the batch's; memory, ledger, counters and host are
 * borrowed.  Allocates in init() alone.
 * Threads: the queues'.
 * Trust: runs are hostile until balloon_batch_covers() has seen them.
 */
#ifndef UMBRA_BALLOON_BALLOON_BATCH_H
#define UMBRA_BALLOON_BALLOON_BATCH_H

#include "balloon/balloon_host.h"
#include "balloon/ledger.h"
#include "balloon/page_run.h"

enum balloon_kind {
	BALLOON_INFLATE, /* into the ledger, and discarded */
	BALLOON_DEFLATE, /* out of the ledger */
	BALLOON_REPORT,  /* discarded */
};

/* Written by the queues' thread with relaxed stores, read by any. */
struct balloon_counters {
	uint64_t pages;    /* in the balloon */
	uint64_t unfreed;  /* of them, that the host has not got back */
	uint64_t adopted;  /* beside them: written by the device's thread */
	int discard_error; /* of the last discard that failed, an errno; 0 */
	uint64_t discards, discarded_bytes, freed_bytes, discard_errors;
	uint64_t reported_bytes;
	uint64_t kept_bytes; /* named by the guest, and not given back: memory_backing::keeps */
	uint64_t messages, refused_messages, refused_records;
	uint64_t translate_us, discard_us; /* spent on pages, without and in the discards */
};

#define BALLOON_BATCH_RUNS_MAX 65536u /* 1 MiB of them */
#define BALLOON_TURN_DISCARDS 4096u   /* 128 KiB of them */
#define BALLOON_TURN_BYTES (UINT64_C(1) << 30)

struct balloon_batch {
	struct balloon_host *host;
	const struct memory *memory;
	struct ledger *ledger; /* of @memory */
	struct balloon_counters *counters;
	bool whole_blocks; /* the driver has MUST_TELL_HOST */
	bool single_pages; /* discard each page by itself, to compare */
	unsigned int region_hint;

	struct page_run *runs;
	uint32_t count;
	uint32_t at; /* once it is closed: the first run that is not yet carried out */
	/* Pages that the ledger got, and those of the batch that the host has yet to get: who
	 * looks at the counters between two turns finds in the balloon what the host has got. */
	uint64_t added, undiscarded;
	struct balloon_discard *discards;
	unsigned int discard_count;
	/* Pages in [failed_first, failed_end) could not be discarded since
	 * balloon_batch_begin().  first >= end: all were. */
	uint64_t failed_first, failed_end;
};

UMBRA_MUST_CHECK int balloon_batch_init(struct balloon_batch *b, struct balloon_host *host,
					struct balloon_counters *counters, struct umbra_error *err);
void balloon_batch_fini(struct balloon_batch *b);

void balloon_batch_begin(struct balloon_batch *b);

/* Is all of @run guest memory? */
bool balloon_batch_covers(struct balloon_batch *b, struct page_run run);

static inline bool balloon_batch_has_room(const struct balloon_batch *b, uint32_t count)
{
	return count <= BALLOON_BATCH_RUNS_MAX - b->count;
}

/* Add runs that are covered, for which there is room. */
void balloon_batch_add(struct balloon_batch *b, const struct page_run *runs, uint32_t count);

/*
 * Add the @count pfns of the stock protocol at @pfns, for which there is room.  Those that are no
 * guest memory are left out; returns how many.  [*first, *end) is widened to hold the rest.
 */
uint32_t balloon_batch_add_pfns(struct balloon_batch *b, const void *pfns, uint32_t count,
				uint64_t *first, uint64_t *end);

/* All has been added: merge it, and enter it into the ledger. */
void balloon_batch_close(struct balloon_batch *b, enum balloon_kind kind);
/* One turn of a batch that is closed.  True: all is carried out, and it is empty. */
UMBRA_MUST_CHECK bool balloon_batch_turn(struct balloon_batch *b, enum balloon_kind kind);
/* Forget what is not carried out. */
void balloon_batch_drop(struct balloon_batch *b);

#endif
