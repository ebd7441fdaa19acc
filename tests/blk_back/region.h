/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The in-flight region of a split ring, as a back-end keeps it.
 *
 * Theory of operation: the specification's, step by step, each store of it a point (point.h).
 * It is written by its own code, and shares none with src/flight, which is held against it.
 *
 * What the specification leaves open:
 *   - A region that is new (version 0) begins at the used index that the ring has, which
 *     need not be 0; the version is stored last, so that what is cut off in between begins anew.
 *   - The avail index is not in the region: all that was taken is used or in flight, so it is the
 *     used index and as many more as are in flight.
 *   - Queues' regions follow each other at multiples of 64 bytes, as widely used back-ends have it.
 *
 * Ownership: the memory is the front-end's file, mapped by the caller.
 * Trust: none in a region that another program left: what would lead out of it is refused.
 * Implements: vhost-user, "Inflight I/O tracking", split virtqueue.
 */
#ifndef UMBRA_TESTS_BLK_BACK_REGION_H
#define UMBRA_TESTS_BLK_BACK_REGION_H

#include <stddef.h>
#include <stdint.h>

#include "point.h"
#include "umbra/error.h"

struct blk_region_desc {
	uint8_t inflight;
	uint8_t padding[5];
	uint16_t next;
	uint64_t counter;
};

struct blk_region {
	uint64_t features;
	uint16_t version;
	uint16_t desc_num;
	uint16_t last_batch_head;
	uint16_t used_idx;
	struct blk_region_desc desc[];
};

/* Bytes of one queue's part. */
size_t blk_region_bytes(uint16_t size);

/*
 * A ring of @size begins, or goes on, with the region, and its used index is @used_idx.  The heads
 * that are in flight go to @heads (@size of them), in the order of their counter; *@counter is
 * the next one.  Returns their number.  -EPROTO: it is no region of this ring.
 */
UMBRA_MUST_CHECK int blk_region_begin(struct blk_region *r, const struct blk_place *at,
				      uint16_t size, uint16_t used_idx, uint16_t *heads,
				      uint64_t *counter, struct umbra_error *err);

/* @head is taken. */
void blk_region_take(struct blk_region *r, const struct blk_place *at, uint16_t head,
		     uint64_t counter);

/* @head belongs to the batch that is about to be published. */
void blk_region_batch(struct blk_region *r, const struct blk_place *at, uint16_t head);

/* The batch, which at->about has, was published, and the used index is @used_idx. */
void blk_region_publish(struct blk_region *r, const struct blk_place *at, uint16_t used_idx);

#endif
