/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A vhost-user-blk front-end without a guest: one ring, requests of one size.
 *
 * Theory of operation: the front-end of tests/front, with one queue that is polled.
 * Memory is one memfd, which holds the ring, the indirect tables, and for each of
 * `depth` slots a request header, a status byte and a buffer.  A slot has at most one
 * request in flight.  The ring is driven as a guest's driver would: EVENT_IDX,
 * INDIRECT_DESC, one indirect table of three segments a request, a kick only where the
 * device wishes it, no calls while completions are looked at anyway.
 *
 * Ownership: open() makes everything, close() ends it.  Threads: one.
 * Trust: the back-end's used ring is judged by ring/driver_ring.h; status byte
 * and used length of every request are judged here.
 * Implements: virtio 1.2, 5.2.6; vhost-user, front-end.
 */
#ifndef UMBRA_BENCH_BLK_FRONT_H
#define UMBRA_BENCH_BLK_FRONT_H

#include <stdbool.h>
#include <stdint.h>

#include "umbra/error.h"

#define BLK_FRONT_RING_SIZE 256u /* entries, what most guests have */

struct blk_front;

/* Connect to @path and start ring 0.  @depth: 1 to BLK_FRONT_RING_SIZE slots of
 * @block_size bytes, a multiple of 512. */
UMBRA_MUST_CHECK int blk_front_open(const char *path, unsigned int depth, uint32_t block_size,
				    struct blk_front **out, struct umbra_error *err);

/* Stop the ring and disconnect.  -EPROTO: the back-end says that it stopped
 * anywhere but after the last request.  The front-end is gone in any case. */
UMBRA_MUST_CHECK int blk_front_close(struct blk_front **front, struct umbra_error *err);

/* Whole blocks on the disk. */
uint64_t blk_front_blocks(const struct blk_front *f);

/* The buffer of a slot, block_size bytes; the caller's unless in flight. */
void *blk_front_buffer(struct blk_front *f, unsigned int slot);

/* Queue a request on a slot with none in flight. */
void blk_front_submit(struct blk_front *f, unsigned int slot, bool write, uint64_t block);

/* Make what was queued visible, and kick if the device wishes it. */
void blk_front_publish(struct blk_front *f);

/* Get one request back.  1: *@slot, and whether the device did it in full;
 * 0: none; -EPROTO: the device broke the ring. */
UMBRA_MUST_CHECK int blk_front_reap(struct blk_front *f, unsigned int *slot, bool *good,
				    struct umbra_error *err);

/*
 * Ask for a call, and sleep until one comes, unless a completion is there
 * already; at most @timeout_ms.  0: look again, whatever the cause.
 * -ECONNRESET: the back-end is gone.
 */
UMBRA_MUST_CHECK int blk_front_sleep(struct blk_front *f, int timeout_ms, struct umbra_error *err);

struct blk_front_counts {
	uint64_t kicks;  /* sent */
	uint64_t calls;  /* received; some while we were awake */
	uint64_t sleeps; /* system calls that waited for a call */
};

struct blk_front_counts blk_front_counts(const struct blk_front *f);

#endif
