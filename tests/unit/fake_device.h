/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A device that does nothing but remember what it was told, for tests
 * of the vhost-user server.
 */
#ifndef UMBRA_TESTS_FAKE_DEVICE_H
#define UMBRA_TESTS_FAKE_DEVICE_H

#include "memory/memory.h"
#include "virtio/virtio_ops.h"

struct fake_device {
	struct virtio_device virtio; /* first member */
	/* What it answers. */
	int fail; /* the code that every call returns, or 0 */
	uint64_t features, protocol_features, queue_num, memory_slots;
	uint16_t base;
	uint8_t status;
	uint8_t config[256];

	/* What it was told. */
	unsigned int calls;
	char heard[128]; /* the last call: its name, its arguments */
	struct memory_region regions[16];
	unsigned int region_count;
	int kick_fd, call_fd, err_fd; /* the last ones; owned */
	bool started[4];              /* by a kick, of the first rings */
};

void fake_device_init(struct fake_device *d);

/* Give back what it holds. */
void fake_device_fini(struct fake_device *d);

#endif
