/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An entropy device (virtio 1.2, section 5.4), on the guest's own ring: the smallest device
 * there is, to show what a further kind of device is made of.
 *
 * One queue, whose buffers the device fills with bytes; no configuration space.
 *
 * Ownership: the ring's fds and the memory are the device's; what it was made with is
 * borrowed.
 * Threads: the device's; the queue in service belongs to a worker.
 */
#ifndef UMBRA_TESTS_ENTROPY_DEVICE_H
#define UMBRA_TESTS_ENTROPY_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#include "ring/chain.h"
#include "ring/device_host.h"
#include "ring/device_ring.h"
#include "umbra/error.h"
#include "virtio/guest_ring.h"
#include "virtio/virtio_ops.h"

struct entropy_device {
	struct virtio_device virtio; /* first: see virtio/virtio_ops.h */
	struct device_host *host;
	const uint8_t *bytes; /* that are given, one after the other, and again from the start */
	size_t size, at;
	uint64_t given, kicks; /* atomic */

	struct memory *memory; /* the guest's, or NULL */
	uint64_t features;     /* that the guest took */
	uint8_t status;
	struct guest_ring front; /* what the front-end said of the ring */
	struct device_ring ring; /* once it is started */
	struct ring_chain chain;
	struct queue_service service;
	bool started, serving;
	char broken[UMBRA_ERROR_SIZE]; /* why; "" */
};

void entropy_device_init(struct entropy_device *d, struct device_host *host, const uint8_t *bytes,
			 size_t size);
/* A front-end has gone: let go of everything of its. */
void entropy_device_detach(struct entropy_device *d);
void entropy_device_check_queues(struct entropy_device *d);

#endif
