/* SPDX-License-Identifier: BSD-2-Clause */
/* Where a ring stands as a number, for tests, which count split rings. */
#ifndef UMBRA_TESTS_UNIT_POSITIONS_H
#define UMBRA_TESTS_UNIT_POSITIONS_H

#include "virtio/virtio_ops.h"

static inline int ring_stop_at(struct virtio_device *v, unsigned int index, uint16_t *base,
			       struct umbra_error *err)
{
	struct ring_position at = ring_position_start(RING_SPLIT);
	int rc = v->ops->ring_stop(v, index, &at, err);

	*base = at.avail;
	return rc;
}

static inline int ring_base_at(struct virtio_device *v, unsigned int index, uint16_t *base,
			       struct umbra_error *err)
{
	struct ring_position at = ring_position_start(RING_SPLIT);
	int rc = v->ops->ring_base(v, index, &at, err);

	*base = at.avail;
	return rc;
}

static inline int ring_set_base_at(struct virtio_device *v, unsigned int index, uint16_t base,
				   struct umbra_error *err)
{
	return v->ops->ring_set_base(v, index, ring_position_split(base), err);
}

#endif
