/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The in-flight region of vhost-user: what a guest is owed, in memory that the front-end keeps.
 *
 * Theory of operation.  The region is a second record beside the flight table (flight_table.h),
 * written store by store in the order of the specification, and read but once: when a
 * ring starts in an umbra that has no table of it, since the one that had is dead
 * (region_judge.h).  While an umbra lives the table is the truth.  To keep one record only, in the
 * region, was rejected: the front-end maps it, so that every look at what is in flight would be
 * a look at hostile bytes; and the region lacks what the table knows of the back-end's side
 * (ids, lives, ghosts).  What the second record costs stands in docs/performance.md.
 *
 *	taken		counter, then inflight
 *	completed	next and last_batch_head, before the guest's used->idx is stored
 *			inflight of each, then used_idx, after it
 *
 * `counter` is the order of the flight table, which a successor continues above all that it
 * finds.  A flight that was given up (lost) stays: nobody has completed it.  used_idx is laid out
 * as the guest's ring has it before the version says that there is a region, and a ring that
 * begins anew takes the version away first.
 *
 * Behind the regions of the queues, in the same memory, lies a tail of our own.  It names the
 * process that may be executing what is in flight, for which the specification has no word,
 * and is stored when the one before is known to be dead and before the next is given anything.
 * A front-end passes the memory on as it is, so the tail comes back with it; where it does not,
 * because another back-end made the memory, nobody knows who executes.
 *
 * Ownership: the memory is the caller's, and mapped while it is written.
 * Threads: the words of a queue are its owner's; the tail is the device's thread's.
 * Trust: what is written here is never believed by who wrote it.
 * Implements: the vhost-user specification, "Inflight I/O tracking", split virtqueue.  Its words
 * are in the machine's byte order, which here is little-endian, as the rings are.
 */
#ifndef UMBRA_FLIGHT_REGION_H
#define UMBRA_FLIGHT_REGION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/process_mark.h"
#include "base/shm.h"

#define REGION_VERSION 1u
#define REGION_ALIGN 64u /* bytes; the region of each queue begins so */

struct region_desc {
	uint8_t inflight; /* 1: by this head a chain is in flight */
	uint8_t padding[5];
	le16 next;    /* of those of the last batch: the head that was noted before */
	le64 counter; /* the order in which it was taken */
};

struct region_queue {
	le64 features; /* 0 */
	le16 version;  /* 0: nobody keeps it */
	le16 desc_num; /* entries of desc */
	le16 last_batch_head;
	le16 used_idx;
	struct region_desc desc[];
};

_Static_assert(sizeof(struct region_desc) == 16, "as the specification has it");
_Static_assert(sizeof(struct region_queue) == 16, "as the specification has it");

/* ---- the memory of a device -------------------------------------------------- */

struct region_tail;

/* A device's region in memory: its shape, and where its parts are. */
struct region_map {
	uint8_t *memory;
	uint32_t queues, size;    /* entries of each queue */
	struct region_tail *tail; /* NULL: there is none */
};

/* Bytes of the regions of so many queues, without and with the tail. */
size_t region_queues_bytes(uint32_t queues, uint32_t size);
size_t region_bytes(uint32_t queues, uint32_t size);

/* Memory of @bytes, at least region_queues_bytes(), has a region of this shape.  @is_new: it
 * becomes one that nobody has kept yet, with a tail; otherwise it has one, or has none. */
void region_map(struct region_map *map, void *memory, size_t bytes, uint32_t queues, uint32_t size,
		bool is_new);
/* Of queue @index; NULL: the region has no such. */
struct region_queue *region_queue_at(const struct region_map *map, uint32_t index);

/* Flights that the queue's region shows, at the most; some may be completed. */
uint32_t region_count(const struct region_queue *q, uint32_t size);

enum region_peer {
	REGION_PEER_NOBODY, /* nothing was given to anybody */
	REGION_PEER_KNOWN,
	REGION_PEER_UNKNOWN, /* there is no tail, or one that makes no sense */
};

/* Whoever the back-end is from here on. */
void region_store_peer(const struct region_map *map, const struct process_mark *peer);
enum region_peer region_load_peer(const struct region_map *map, struct process_mark *peer);

/* ---- one queue's, by its owner ------------------------------------------------- */

/* Nobody keeps it any more, and nothing is in flight. */
void region_void(struct region_queue *q, uint32_t size);

static inline void region_take(struct region_queue *q, uint16_t head, uint64_t counter)
{
	struct region_desc *d = &q->desc[head];

	shm_store64_release(&d->counter, counter);
	shm_store8_release(&d->inflight, 1);
}

/* It is over, or was not taken after all. */
static inline void region_end(struct region_queue *q, uint16_t head)
{
	shm_store8_release(&q->desc[head].inflight, 0);
}

static inline void region_note(struct region_queue *q, uint16_t head)
{
	shm_store16_release(&q->desc[head].next, shm_load16(&q->last_batch_head));
	shm_store16_release(&q->last_batch_head, head);
}

#endif
