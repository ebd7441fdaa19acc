/* SPDX-License-Identifier: BSD-2-Clause */
/* The device role of umbra/ring.h over ring/device_ring.h. */
#include <errno.h>
#include <stdlib.h>

#include "base/error.h"
#include "lib/ring_private.h"

struct umbra_device_ring {
	struct device_ring ring;
	struct memory *memory; /* one reference, or NULL */
	struct ring_chain chain;
	struct ring_seg *segs;           /* as many as the longest chain has */
	struct umbra_segment segments[]; /* likewise */
};

int umbra_device_ring_create(const struct umbra_device_ring_config *config,
			     struct umbra_device_ring **out, struct umbra_error *err)
{
	struct umbra_device_ring *r;
	struct device_ring_config inner;
	uint32_t longest;
	int rc = device_config_from(config, &inner, err);

	if (rc)
		return rc;
	longest = MAX(inner.split.size, inner.table_max);
	r = calloc(1, sizeof(*r) + longest * sizeof(r->segments[0]));
	if (r)
		r->segs = calloc(longest, sizeof(r->segs[0]));
	if (!r || !r->segs) {
		free(r);
		return error_set(err, -ENOMEM, "device ring: no memory for a ring of %u",
				 inner.split.size);
	}
	r->memory = snapshot_of(config->memory);
	r->chain.segs = r->segs;
	device_ring_init(&r->ring, &inner);
	*out = r;
	return 0;
}

int umbra_device_ring_take(struct umbra_device_ring *ring, struct umbra_chain *chain)
{
	const struct ring_chain *c = &ring->chain;
	int rc = device_ring_take(&ring->ring, &ring->chain);

	if (rc <= 0)
		return rc;
	for (uint32_t i = 0; i < c->count; i++)
		ring->segments[i] = (struct umbra_segment){ .address = c->segs[i].addr.v,
							    .length = c->segs[i].len,
							    .writable = c->segs[i].writable };
	*chain = (struct umbra_chain){ .segments = ring->segments,
				       .count = c->count,
				       .readable = c->readable,
				       .readable_bytes = c->readable_bytes,
				       .writable_bytes = c->writable_bytes,
				       .head = c->head };
	return 1;
}

int umbra_device_ring_untake(struct umbra_device_ring *ring, uint16_t count)
{
	if (count > device_ring_outstanding(&ring->ring))
		return -EINVAL;
	device_ring_untake(&ring->ring, count);
	return 0;
}

int umbra_device_ring_complete(struct umbra_device_ring *ring, uint16_t head, uint32_t length)
{
	if (device_ring_outstanding(&ring->ring) == 0)
		return -EINVAL;
	device_ring_complete(&ring->ring, head, length);
	return 0;
}

void umbra_device_ring_publish(struct umbra_device_ring *ring)
{
	device_ring_publish(&ring->ring);
}

bool umbra_device_ring_must_call(struct umbra_device_ring *ring)
{
	return device_ring_must_call(&ring->ring);
}

void umbra_device_ring_disarm(struct umbra_device_ring *ring)
{
	device_ring_disarm(&ring->ring);
}

bool umbra_device_ring_arm(struct umbra_device_ring *ring)
{
	return device_ring_arm(&ring->ring);
}

uint32_t umbra_device_ring_outstanding(const struct umbra_device_ring *ring)
{
	return device_ring_outstanding(&ring->ring);
}

void umbra_device_ring_error(const struct umbra_device_ring *ring, struct umbra_error *err)
{
	error_from(&ring->ring.error, err);
}

void umbra_device_ring_destroy(struct umbra_device_ring **ring)
{
	struct umbra_device_ring *r = *ring;

	*ring = NULL;
	if (!r)
		return;
	memory_unref(&r->memory);
	free(r->segs);
	free(r);
}
