/* SPDX-License-Identifier: BSD-2-Clause */
/* Feature bits of rings, by the names that tests call them. */
#ifndef UMBRA_TESTS_UNIT_FEATURE_BITS_H
#define UMBRA_TESTS_UNIT_FEATURE_BITS_H

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "base/bits.h"

#define V1 BIT64(VIRTIO_F_VERSION_1)
#define EVENT BIT64(VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT BIT64(VIRTIO_RING_F_INDIRECT_DESC)
#define IN_ORDER BIT64(VIRTIO_F_IN_ORDER)

#endif
