/* SPDX-License-Identifier: BSD-2-Clause */
/* What the wrappers of the ring layer share: see umbra/ring.h. */
#ifndef UMBRA_LIB_RING_PRIVATE_H
#define UMBRA_LIB_RING_PRIVATE_H

#include "memory/memory.h"
#include "ring/device_ring.h"
#include "ring/driver_ring.h"
#include "umbra/ring.h"

struct umbra_memory {
	struct memory *memory; /* one reference */
};

/* The memory that a driver ring wants, whoever provides it. */
struct driver_memory {
	void *shared_own; /* what we allocated; NULL: the caller's is used */
	void *private;
};

/* -EINVAL, named in @err with @name in front: not a size for a ring. */
UMBRA_MUST_CHECK int ring_size_check(const char *name, uint32_t size, struct umbra_error *err);

/* Judge a public configuration and translate it.  @out->memory borrows
 * @said's. */
UMBRA_MUST_CHECK int device_config_from(const struct umbra_device_ring_config *said,
					struct device_ring_config *out, struct umbra_error *err);

/* Judge a public configuration, allocate, and translate it. */
UMBRA_MUST_CHECK int driver_config_from(const struct umbra_driver_ring_config *said,
					struct driver_ring_config *out,
					struct driver_memory *memory, struct umbra_error *err);

void driver_memory_free(struct driver_memory *memory);

void parts_from(const struct split_ring *split, struct umbra_ring_parts *parts);

/* A reference to a public memory's snapshot; NULL of NULL. */
struct memory *snapshot_of(const struct umbra_memory *memory);

void error_from(const struct ring_error *error, struct umbra_error *err);

#endif
