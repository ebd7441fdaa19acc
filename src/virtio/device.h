/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a device does for its front-end: the back-end's half of vhost-user as a
 * table of functions.
 *
 * The vhost-user server (vhost_user/vhost_user_server.h) turns each message into one
 * call of this table and knows nothing else of a device.  A shadow device is one
 * implementation, a balloon another.
 *
 * Every call that can fail returns 0 or a negative errno value, and then fills
 * its error text.  -EINVAL: the front-end asked for nonsense; -ECANCELED: the
 * device is being stopped; other codes are the device's own.  A failure leaves
 * the device as it was.  set_mtu and send_rarp are NULL in a device that is no
 * network card; all others are there.
 *
 * Ownership: `int fd` is borrowed, `int *fd` is consumed on success.  Regions
 * are mapped and have a backing; a device that keeps one takes a reference.
 * Threads: one, the device's thread.
 * Trust: sizes, counts and the ring's index are as vhost_message_check() leaves
 * them: bounded, but not yet meaningful.
 */
#ifndef UMBRA_VIRTIO_DEVICE_H
#define UMBRA_VIRTIO_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "umbra/error.h"

struct memory_region;

struct vhost_ring_addr {
	uva_t desc, avail, used;
};

struct vhost_device_ops {
	int (*get_features)(void *opaque, uint64_t *features, struct umbra_error *err);
	int (*set_features)(void *opaque, uint64_t features, struct umbra_error *err);
	/* Those that need the device; the server adds its own, e.g. REPLY_ACK. */
	int (*get_protocol_features)(void *opaque, uint64_t *features, struct umbra_error *err);
	int (*set_protocol_features)(void *opaque, uint64_t features, struct umbra_error *err);
	int (*get_queue_num)(void *opaque, uint64_t *count, struct umbra_error *err);
	int (*get_memory_slots)(void *opaque, uint64_t *count, struct umbra_error *err);

	int (*set_memory)(void *opaque, const struct memory_region *regions, unsigned int count,
			  struct umbra_error *err);
	int (*add_region)(void *opaque, const struct memory_region *region,
			  struct umbra_error *err);
	int (*remove_region)(void *opaque, gpa_t gpa, uva_t uva, uint64_t size,
			     struct umbra_error *err);

	int (*ring_set_size)(void *opaque, unsigned int index, uint32_t size,
			     struct umbra_error *err);
	int (*ring_set_addr)(void *opaque, unsigned int index, const struct vhost_ring_addr *addr,
			     struct umbra_error *err);
	int (*ring_set_base)(void *opaque, unsigned int index, uint32_t base,
			     struct umbra_error *err);
	/* *@fd -1: no fd came, the other end polls (or, for err, wants none).  A
	 * kick starts the ring. */
	int (*ring_set_kick)(void *opaque, unsigned int index, int *fd, struct umbra_error *err);
	int (*ring_set_call)(void *opaque, unsigned int index, int *fd, struct umbra_error *err);
	int (*ring_set_err)(void *opaque, unsigned int index, int *fd, struct umbra_error *err);
	int (*ring_enable)(void *opaque, unsigned int index, bool enabled, struct umbra_error *err);
	/* Stop the ring.  *@base: where it can be started again. */
	int (*ring_stop)(void *opaque, unsigned int index, uint16_t *base, struct umbra_error *err);

	int (*get_config)(void *opaque, uint32_t offset, void *data, uint32_t size,
			  struct umbra_error *err);
	int (*set_config)(void *opaque, uint32_t offset, const void *data, uint32_t size,
			  uint32_t flags, struct umbra_error *err);
	int (*get_status)(void *opaque, uint8_t *status, struct umbra_error *err);
	int (*set_status)(void *opaque, uint8_t status, struct umbra_error *err);
	int (*reset)(void *opaque, struct umbra_error *err);
	int (*set_mtu)(void *opaque, uint64_t mtu, struct umbra_error *err);
	int (*send_rarp)(void *opaque, const uint8_t mac[6], struct umbra_error *err);
};

/* A device as the server sees it.  Both are borrowed. */
struct vhost_device {
	const struct vhost_device_ops *ops;
	void *opaque; /* first argument of each */
};

#endif
