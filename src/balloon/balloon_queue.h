/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One queue of a balloon: chains in, batches out, completions back.
 *
 * Theory of operation: a pass takes what is available, up to BALLOON_QUEUE_BATCH
 * chains, adds their pages to the batch, applies it, and completes them; so that
 * pages are merged across buffers, and nothing is acknowledged before its memory
 * has gone.  A batch that costs much takes several passes, and others of the thread's
 * queues and requests have theirs in between; but there is one batch at a time, so that
 * another queue of the device waits until it is done with.  If its queue is taken out of
 * service before, its chains are untaken, and taken anew when it is served again: to
 * inflate or deflate twice is harmless.  The kind of a queue says what its buffers hold:
 *
 *	INFLATE, DEFLATE  readable: a message of the page-bitmap protocol, or 32-bit
 *			  pfns; then, if there is room for it, the status is written
 *	REPORT            writable: the free pages themselves
 *	STATS             readable: the statistics; kept, since to complete it is to ask
 *			  for new ones
 *
 * Ownership: the ring is the guest's.
 * Threads: the queues'; balloon_queue_pause() and _stop(): the device's, while the queue is out of
 * service.
 * Trust: the ring is judged by ring/device_ring.c; what is in the buffers is
 * copied once and judged here.  A message that is nonsense is refused, counted and
 * completed; only a violated ring breaks the queue.
 * Implements: virtio 1.2, 5.5.6, 5.5.6.3, 5.5.6.7; docs/balloon-protocol.md.
 */
#ifndef UMBRA_BALLOON_BALLOON_QUEUE_H
#define UMBRA_BALLOON_BALLOON_QUEUE_H

#include "balloon/balloon_batch.h"
#include "balloon/balloon_stats.h"
#include "virtio/guest_rings.h"

#define BALLOON_QUEUE_BATCH 64u /* chains */
/* More than one chain has: pfns of a message, segments of a report. */
#define BALLOON_QUEUE_CHAIN_RUNS 32768u

enum balloon_queue_kind {
	BALLOON_QUEUE_UNUSED, /* nothing was negotiated for it: never looked at */
	BALLOON_QUEUE_INFLATE,
	BALLOON_QUEUE_DEFLATE,
	BALLOON_QUEUE_STATS,
	BALLOON_QUEUE_REPORT,
};

/* What the queues of a device share; all of it belongs to their thread. */
struct balloon_shared {
	struct balloon_host *host;
	struct balloon_batch batch;
	struct balloon_counters counters;
	struct balloon_stats stats;
	uint64_t stats_wanted;     /* atomic; the generation of the request, 0: there is none */
	uint64_t stats_generation; /* of the request that the guest has; 0: it has none */
	uint64_t stats_turns;      /* `turns` when it got it */
	uint64_t turns;            /* of batches that may move pages */
	bool page_bitmap;          /* messages are of the page-bitmap protocol */
	bool leaves_reports;       /* reported pages are not discarded: see PAGE_POISON */
	uint8_t *message;          /* PAGE_RUN_MESSAGE_BYTES_MAX bytes, for the copy */
	struct page_run *runs;     /* PAGE_RUN_RECORD_RUNS_MAX, of one record */
	struct balloon_answer *answers; /* BALLOON_QUEUE_BATCH */
	/* The batch that is under way. */
	struct balloon_queue *owner; /* whose it is; NULL: there is none; see [batch-owner] */
	unsigned int taken;          /* chains of it: the first of `answers` */
	int last_take_result;        /* what the ring said when no more was taken */
	bool message_goes_on;        /* there is more in the last one: the decoder has it */
	struct page_run_decoder decoder;
	uint32_t refused_messages, refused_records; /* of it */
};

struct balloon_queue {
	struct served_ring served; /* first: see virtio/guest_rings.h */
	enum balloon_queue_kind kind;
	struct balloon_shared *shared;
	bool holds_stats;    /* STATS: a chain waits to be completed, */
	uint16_t stats_head; /* this one */
};

UMBRA_MUST_CHECK int balloon_shared_init(struct balloon_shared *s, struct balloon_host *host,
					 struct umbra_error *err);
void balloon_shared_fini(struct balloon_shared *s);

/* guest_rings_kind::pass. */
int balloon_queue_pass(void *queue, unsigned int *notify);

/* The queue is not served for now: what it was about is as if it had not begun. */
void balloon_queue_pause(struct balloon_queue *q);

/* The queue is not served any more. */
void balloon_queue_stop(struct balloon_queue *q);

#endif
