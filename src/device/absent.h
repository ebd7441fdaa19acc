/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A back-end that is away: what stands in its place while its rings are held.
 *
 * Theory of operation.  Front-ends do not wait: they read a configuration, change a memory
 * table, stop and start their rings whenever their guest or their operator likes.  So what a
 * back-end has said is learnt as it is relayed, and answered from here when it is away; what
 * the front-end says meanwhile is accepted, since the device keeps it and tells the next
 * back-end all of it.  What nobody can answer is refused with -EREMOTEIO: protocol features that
 * were never asked for, a part of the configuration that was never read, or a write to it, which
 * only the device can judge.
 *
 * A ring is never started here: a device that is held leaves its rings WANTED.
 *
 * Threads: the device's thread.
 */
#ifndef UMBRA_DEVICE_ABSENT_H
#define UMBRA_DEVICE_ABSENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bits.h"
#include "virtio/virtio_ops.h"

#define LEARNT_CONFIG_MAX 256u /* bytes; vhost-user: of one GET_CONFIG */

/* What a back-end has said to its front-end, and what was said to it that it kept. */
struct learnt {
	uint64_t features, protocol_features;
	bool has_protocol_features;         /* it was asked for them */
	uint64_t queue_count, memory_slots; /* 0: it was not asked */
	uint8_t status;                     /* what the front-end set last */
	uint64_t mtu;                       /* likewise; 0: it set none */
	uint8_t config[LEARNT_CONFIG_MAX];
	uint64_t config_known[LEARNT_CONFIG_MAX / 64];   /* a bit for each byte */
	uint64_t config_written[LEARNT_CONFIG_MAX / 64]; /* since the last reset; of those known */
};

/* The configuration has @size bytes of @data at @offset. */
void learnt_config(struct learnt *learnt, uint32_t offset, const void *data, uint32_t size);
/* Are all of these bytes known? */
bool learnt_has_config(const struct learnt *learnt, uint32_t offset, uint32_t size);

/* Bytes up to the last one that is known. */
uint32_t learnt_config_size(const struct learnt *learnt);

/* The same, since the driver has written it: the next back-end is told. */
void learnt_write(struct learnt *learnt, uint32_t offset, const void *data, uint32_t size);
/* The device was reset: what was written is as the device likes. */
void learnt_forget_writes(struct learnt *learnt);
/* The first run of written bytes from *@offset on: where it begins, and how long it is; 0: there is
 * none. */
uint32_t learnt_next_write(const struct learnt *learnt, uint32_t *offset);

struct absent {
	struct virtio_device device; /* first member */
	struct learnt *learnt;       /* borrowed */
};

/* The absent one of whom @learnt is known. */
void absent_init(struct absent *absent, struct learnt *learnt);

#endif
