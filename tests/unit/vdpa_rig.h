/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest, the real shadow device, the real vhost-vdpa back-end, and a simulated
 * kernel (vdpa_sim.h) with a simulated disk behind it; in one thread and with a
 * clock of its own.
 *
 * The disk works on the rings that the simulated kernel was told of, and sees
 * memory only through what is mapped: an address that is not mapped, or to something
 * else, fails the test.  A request carries a serial number and a pattern in one
 * region of guest memory, and its answer goes to another.
 */
#ifndef UMBRA_TESTS_UNIT_VDPA_RIG_H
#define UMBRA_TESTS_UNIT_VDPA_RIG_H

#include <stdbool.h>
#include <stdint.h>

#include "device/shadow_device.h"
#include "positions.h"
#include "ring/device_ring.h"
#include "ring/driver_ring.h"
#include "sim_host.h"
#include "vdpa_sim.h"

#define RIG_QUEUES 2u
#define RIG_REGIONS_MAX 16u
#define RIG_HELD_MAX 1024u
#define RIG_REGION_BYTES (1ull << 20)
#define RIG_GPA 0x10000000ull

struct rig_held {
	uint16_t head;
	uint64_t serial, answer_at; /* iova */
};

struct rig_queue {
	/* guest */
	uint16_t size;
	struct driver_ring driver;
	void *private;
	int kick_fd, call_fd, err_fd; /* its own duplicates */
	bool is_awake;                /* it looks for used chains; else it waits for a call */
	uint64_t added, got;          /* requests, since the ring was made */

	/* disk */
	bool is_open;      /* it has seen the ring run, ... */
	unsigned int life; /* ... in the device's life of this number */
	bool has_heard;    /* it looks for chains; else it waits for a kick */
	struct device_ring ring;
	struct ring_seg segs[1024];
	struct rig_held held[RIG_HELD_MAX];
	unsigned int held_count;
	uint64_t lost; /* requests that it had when it was reset */
};

struct rig {
	struct sim_host host;
	struct vdpa_sim sim;
	struct virtio_device *backend;
	struct shadow_device *device;
	struct virtio_device *front; /* the same, as a front-end sees it */
	struct umbra_error err;
	struct rig_queue queues[RIG_QUEUES];

	/* 0: rings and requests.  1: answers.  More: what a test wants. */
	struct memory_region regions[RIG_REGIONS_MAX];
	unsigned int region_count;

	bool holds;  /* the disk uses nothing before somebody waits for it */
	bool sleeps; /* the disk takes nothing */
	void (*before)(struct rig *rig, unsigned long request); /* a system call */

	/* What must be as it was in the end. */
	unsigned int fds, mappings;
	unsigned int own_memories; /* of the shadow's, that are alive */
};

/* A simulated kernel to be changed, and a device in front of nothing. */
void rig_init(struct rig *rig);
/* Everything is given back: this is checked. */
void rig_fini(struct rig *rig);

/* One more region of guest memory. */
struct memory_region *rig_region_add(struct rig *rig, uint64_t gpa);

/* A front-end comes; it goes, or (@lost: why) the back-end does, after which nothing
 * of theirs may be left: this is checked. */
void rig_attach(struct rig *rig);
void rig_detach(struct rig *rig, const char *lost);
/* Each a step of a front-end's; 0 or the device's answer. */
int rig_negotiate(struct rig *rig);
int rig_tell_memory(struct rig *rig, unsigned int count);
/* A new ring of @size entries with a driver that has just begun. */
void rig_queue_make(struct rig *rig, unsigned int queue, uint16_t size);
int rig_ring_start(struct rig *rig, unsigned int queue, uint16_t base);
/* Nothing more comes of the front-end for a while. */
void rig_pause(struct rig *rig);
/* All of these, with rings of @size; the first @count regions.  They must succeed. */
void rig_boot(struct rig *rig, uint16_t size);

/* The guest adds @count requests, and kicks if the device wants it. */
void rig_ask(struct rig *rig, unsigned int queue, unsigned int count);
/* All work that somebody was notified of is done; the guest has taken its answers. */
void rig_run(struct rig *rig);
/* Requests that the guest waits for. */
uint64_t rig_open_requests(const struct rig *rig, unsigned int queue);
/* @count requests, one by one, are answered. */
void rig_expect_served(struct rig *rig, unsigned int queue, unsigned int count);

/* The back-end's fds are polled as the event loop does: 0, or it is lost. */
int rig_dispatch(struct rig *rig);

/* The disk answers the oldest request that it holds with a used entry that names @id. */
void rig_lie_used(struct rig *rig, unsigned int queue, uint32_t id);

#endif
