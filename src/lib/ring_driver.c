/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The driver role of umbra/ring.h over ring/driver_ring.h.
 *
 * Segments are copied between the public and the inner struct: the two may
 * then grow apart, and 16 bytes cost less than a promise to the contrary.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/error.h"
#include "lib/ring_private.h"

struct umbra_driver_ring {
	struct driver_ring ring;
	struct driver_memory memory;
	struct driver_seg segs[]; /* as many as the longest chain has */
};

size_t umbra_driver_ring_shared_bytes(uint32_t size, uint64_t features, uint32_t table_max)
{
	if (ring_size_check("", size, NULL) || table_max > SPLIT_SIZE_MAX)
		return 0;
	return driver_ring_layout((uint16_t)size, features, table_max).shared_bytes;
}

int umbra_driver_ring_create(const struct umbra_driver_ring_config *config,
			     struct umbra_driver_ring **out, struct umbra_error *err)
{
	struct umbra_driver_ring *r;
	struct driver_memory memory;
	struct driver_ring_config inner;
	int rc = driver_config_from(config, &inner, &memory, err);

	if (rc)
		return rc;
	r = calloc(1, sizeof(*r) + MAX(inner.size, inner.table_max) * sizeof(r->segs[0]));
	if (!r) {
		driver_memory_free(&memory);
		return error_set(err, -ENOMEM, "driver ring: no memory for a ring of %u",
				 config->size);
	}
	r->memory = memory;
	rc = driver_ring_init(&r->ring, &inner);
	if (rc) { /* what it refuses has been refused already */
		umbra_driver_ring_destroy(&r);
		return error_set(err, rc, "driver ring: cannot be laid out");
	}
	*out = r;
	return 0;
}

void umbra_driver_ring_parts(const struct umbra_driver_ring *ring, struct umbra_ring_parts *parts)
{
	parts_from(&ring->ring.split, parts);
}

int umbra_driver_ring_add(struct umbra_driver_ring *ring, const struct umbra_segment *segments,
			  uint32_t count, uint64_t token)
{
	if (count > ring->ring.layout.longest)
		return ring->ring.error.fault ? -EPROTO : -EMSGSIZE;
	for (uint32_t i = 0; i < count; i++)
		ring->segs[i] = (struct driver_seg){ .addr = { segments[i].address },
						     .len = segments[i].length,
						     .writable = segments[i].writable };
	return driver_ring_add(&ring->ring, ring->segs, count, token);
}

void umbra_driver_ring_publish(struct umbra_driver_ring *ring)
{
	driver_ring_publish(&ring->ring);
}

bool umbra_driver_ring_must_kick(struct umbra_driver_ring *ring)
{
	return driver_ring_must_kick(&ring->ring);
}

int umbra_driver_ring_get(struct umbra_driver_ring *ring, struct umbra_done *done)
{
	struct driver_done inner;
	int rc = driver_ring_get(&ring->ring, &inner);

	if (rc > 0)
		*done = (struct umbra_done){ .token = inner.token,
					     .length = inner.len,
					     .clamped = inner.clamped };
	return rc;
}

int umbra_driver_ring_unadd(struct umbra_driver_ring *ring, uint16_t count)
{
	return driver_ring_unadd(&ring->ring, count);
}

void umbra_driver_ring_disarm(struct umbra_driver_ring *ring)
{
	driver_ring_disarm(&ring->ring);
}

bool umbra_driver_ring_arm(struct umbra_driver_ring *ring)
{
	return driver_ring_arm(&ring->ring);
}

uint32_t umbra_driver_ring_in_flight(const struct umbra_driver_ring *ring)
{
	return driver_ring_in_flight(&ring->ring);
}

void umbra_driver_ring_error(const struct umbra_driver_ring *ring, struct umbra_error *err)
{
	error_from(&ring->ring.error, err);
}

void umbra_driver_ring_destroy(struct umbra_driver_ring **ring)
{
	struct umbra_driver_ring *r = *ring;

	*ring = NULL;
	if (!r)
		return;
	driver_memory_free(&r->memory);
	free(r);
}
