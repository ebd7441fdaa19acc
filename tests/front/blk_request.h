/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A request to a disk: what stands before its data, and when it was done in full.
 * Implements: virtio 1.2, 5.2.6.
 */
#ifndef UMBRA_TESTS_BLK_REQUEST_H
#define UMBRA_TESTS_BLK_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include <linux/virtio_blk.h>

#include "base/le.h"
#include "front.h"

#define SECTOR 512u

/* A status that no device gives stands where it shall write its own. */
static inline void blk_request_fill(struct virtio_blk_outhdr *header, uint8_t *status, bool writes,
				    uint64_t sector)
{
	*header = (struct virtio_blk_outhdr){
		.type = le32_from(writes ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN).raw,
		.sector = le64_from(sector).raw,
	};
	*status = 0xff;
}

/* What the device writes, with @bytes of data. */
static inline uint32_t blk_request_written(bool writes, uint32_t bytes)
{
	return 1 + (writes ? 0 : bytes);
}

static inline bool blk_request_is_good(const struct front_request *r, uint8_t status, bool writes,
				       uint32_t bytes)
{
	return status == VIRTIO_BLK_S_OK && !r->clamped &&
	       r->len == blk_request_written(writes, bytes);
}

#endif
