/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A queue of a test's disk: the device side of a split ring, and the requests on it.
 *
 * Theory of operation.  blk_queue_serve() takes all that is available (or as many as --depth
 * lets it), so that they are in flight together, executes them in an order that is
 * not that of the guest (queue->options), and publishes them in batches; until nothing is left.
 * Each store is a point (point.h), and what they look like in between is:
 *
 *	take		[flight-counter, flight-set], take, [avail-event]
 *	execute		execute, then disk-read and guest-data for each sector, or disk-write and
 *			disk-generation, or disk-flush; guest-status
 *	complete	used-id, used-len, [flight-next, flight-batch]
 *	publish		used-idx, [flight-clear for each, flight-used-idx], call
 *
 * It is written by its own code, from the specification: what it shares with src/ is error texts.
 *
 * Chains are looked up in the guest's memory when they are executed, and a request that is kept
 * holds what was found: so it completes what it was, whatever becomes of the ring meanwhile.
 *
 * Ownership: rings, region, memory, disk and fds are the caller's.  blk_queue_forget() frees the
 *rest, also if a hook has left by longjmp(). Threads: one. Trust: an index, head or chain that
 *cannot be stops the queue (broken). Implements: virtio 1.2, 2.7 (split virtqueues), 5.2 (block
 *device).
 */
#ifndef UMBRA_TESTS_BLK_BACK_QUEUE_H
#define UMBRA_TESTS_BLK_BACK_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "disk.h"
#include "point.h"
#include "region.h"
#include "umbra/error.h"

enum blk_order { BLK_ORDER_RANDOM, BLK_ORDER_IN, BLK_ORDER_REVERSE };

struct blk_options {
	enum blk_order order; /* of execution */
	uint64_t seed;        /* of the random order */
	unsigned int batch;   /* completions that are published at once; 0: all there are */
	unsigned int depth;   /* requests that are in flight at once; 0: all there are */
};

/* The guest's memory. */
struct blk_memory {
	void *opaque;
	/* @len bytes at @gpa, or NULL. */
	uint8_t *(*find)(void *opaque, uint64_t gpa, uint64_t len);
};

struct blk_seg {
	uint8_t *p;
	uint32_t len;
};

/* A request's buffers: readable ones first. */
struct blk_chain {
	struct blk_seg *segs; /* room for segs_max */
	unsigned int count, readable, segs_max;
	uint64_t readable_bytes, writable_bytes;
};

struct blk_kept {
	struct blk_taken taken;
	struct blk_chain chain;
};

/* Where the ring lies. */
struct blk_ring {
	uint16_t size;
	void *desc, *avail, *used; /* NULL: not known */
};

struct blk_queue {
	/* the caller's */
	const struct blk_hook *hook;
	const struct blk_options *options;
	const struct blk_memory *memory;
	struct blk_disk *disk;
	uint64_t *numbers; /* of requests taken; shared by all queues */
	unsigned int index;
	struct blk_ring ring;
	struct blk_region *region; /* NULL: what is in flight is not kept track of */
	bool event_idx;
	bool takes_no_more; /* what was taken is served to its end */
	int call_fd;        /* -1: nobody wants to be called */
	/* our own */
	bool running;
	uint16_t last_avail, used_idx, call_idx;
	uint64_t counter; /* of the region */
	uint64_t random;
	struct blk_taken *taken; /* and not executed; ring.size of them */
	unsigned int taken_count;
	struct blk_taken *batch; /* and executed, not published */
	unsigned int batch_count;
	struct blk_kept *kept;
	unsigned int kept_count;
	struct blk_chain chain;
	struct umbra_error broken; /* "": it is not */
};

/*
 * Begin, or go on, at @base; with a region, where that says.  -EPROTO: the region cannot be
 * this ring's.  -ENOMEM.
 */
UMBRA_MUST_CHECK int blk_queue_start(struct blk_queue *q, uint16_t base, struct umbra_error *err);

/* Serve all that is available. */
void blk_queue_serve(struct blk_queue *q);

/* It is served no more; what it keeps, it keeps.  Returns the base. */
uint16_t blk_queue_stop(struct blk_queue *q);

/* What was kept is executed and completed, on the ring that the queue has now. */
void blk_queue_release(struct blk_queue *q);

/* Free what is our own. */
void blk_queue_forget(struct blk_queue *q);

#endif
