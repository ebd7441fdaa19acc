/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A balloon device on a simulated host, in front of a guest of two regions with a
 * hole between them.
 *
 *	LOW	LOW_BYTES at gpa LOW_GPA; its first RINGS_BYTES hold rings and buffers
 *	HIGH	HIGH_BYTES at gpa HIGH_GPA
 *
 * The host has one thread, rig_run(); a discard fills the memory with zeros and
 * is remembered.  What must hold for every discard is checked right there: it lies
 * within its region, it does not overlap another of its list, and no buffer that was
 * made available since has been used.
 */
#ifndef UMBRA_TESTS_BALLOON_RIG_H
#define UMBRA_TESTS_BALLOON_RIG_H

#include "balloon/balloon_device.h"
#include "balloon/page_run.h"
#include "positions.h"
#include "ring/driver_ring.h"

#define LOW_GPA UINT64_C(0x40000000)
#define HIGH_GPA UINT64_C(0x80003000) /* not aligned to anything but a page */
#define LOW_BYTES (UINT64_C(8) << 20)
#define HIGH_BYTES (UINT64_C(4) << 20)
#define RINGS_BYTES UINT64_C(0x100000)
#define RING_BYTES UINT64_C(0x10000) /* for each queue */
#define BUFFERS UINT64_C(0x80000)    /* offset of the buffers in LOW */
#define UVA_OFFSET UINT64_C(0x7f0000000000)

#define LOW_PFN (LOW_GPA >> 12)
#define HIGH_PFN (HIGH_GPA >> 12)
#define RIG_DISCARDS_MAX 8192

struct rig_discard {
	uint64_t pfn, count;
};

struct rig {
	struct device_host device_host;
	struct balloon_host host;
	struct balloon_device *device;
	struct virtio_device *virtio; /* the same, as a front-end sees it */
	uint8_t *low, *high;
	struct memory_backing low_file, high_file;
	uint64_t now_us;
	uint64_t read_us;    /* that each look at the clock takes */
	uint64_t discard_us; /* that each list of discards takes */
	int fail_discards;   /* the code that every discard gets, or 0 */
	bool fail_low;       /* only those in LOW */
	struct rig_discard discards[RIG_DISCARDS_MAX];
	unsigned int discard_count, discard_calls;
	unsigned int moved, configs_changed;
	unsigned int fail_serves;           /* the host does not serve so many queues */
	unsigned int calls[BALLOON_QUEUES]; /* that the guest got */
	struct queue_service *services[BALLOON_QUEUES];
	bool ready[BALLOON_QUEUES]; /* was kicked, or begins */
	uint16_t used_before[BALLOON_QUEUES];
	/* The driver's side, of the queues that were started with rig_start(). */
	struct driver_ring rings[BALLOON_QUEUES];
	void *privates[BALLOON_QUEUES];
	uint64_t buffer; /* the next free byte behind BUFFERS; grows until rig_reuse() */
};

#define RIG_STALL_MS 5000u

struct rig *rig_new(unsigned int hide);
struct rig *rig_make(const struct balloon_device_config *config);
void rig_free(struct rig *g);

/* The memory table: both regions, unless told otherwise. */
void rig_set_memory(struct rig *g, bool low, bool high);

/* Features, memory, and queues 0 and 1 with @size entries from @base. */
void rig_negotiate(struct rig *g, uint64_t features);
void rig_start(struct rig *g, unsigned int index, uint16_t size, uint16_t base);
void rig_stop(struct rig *g, unsigned int index, uint16_t *base);

/* Let the host serve all queues until they sleep. */
void rig_run(struct rig *g);
/* Let it give one pass to one queue; true: more is to be done there. */
bool rig_pass(struct rig *g, unsigned int index);

/* All buffers have come back: begin with the first again. */
void rig_reuse(struct rig *g);

/* Put bytes into a buffer of the guest; its gpa. */
uint64_t rig_put(struct rig *g, const void *bytes, size_t size);
/* Where the guest sees @gpa. */
uint8_t *rig_at(struct rig *g, uint64_t gpa);

/* A buffer of one readable part, and (@status) a place for the status; its gpa. */
void rig_send(struct rig *g, unsigned int index, const void *bytes, size_t size, uint64_t *status);
/* How many buffers came back on the queue; the last one's length in *@len. */
unsigned int rig_get(struct rig *g, unsigned int index, uint32_t *len);

#endif
