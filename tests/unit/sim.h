/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A simulated host, a simulated back-end and a simulated guest for one shadow
 * device, in one thread and with a clock of their own.
 *
 * The back-end is a device ring per queue on the memory that it was told of. It
 * takes chains and completes them when the test says so, and can be told to
 * misbehave as real back-ends do not: that is what it is for.
 *
 * It is a vhost-user back-end of one of three families (vhost_user_hush.h, enum hush_way), and
 * hushed as by the client: KICK, as libvhost-user, hangs up where it has to call for a chain of a
 * ring that was stopped; ENABLE, as those of the rust-vmm crates, dies where a ring is stopped in
 * the midst of a round, or with a kick that is not read; NOT, as DPDK, completes what it has before
 * it answers to a stop.  With traits it is a device that is started as a whole: sim_as_one.c.
 */
#ifndef UMBRA_TESTS_UNIT_SIM_H
#define UMBRA_TESTS_UNIT_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "device/shadow_device.h"
#include "feature_bits.h"
#include "positions.h"
#include "ring/driver_ring.h"
#include "sim_host.h"
#include "vhost_user/vhost_user_hush.h"

/* The three kinds of devices that are started as a whole: traits for sim_run_as_one(). */
#define SUSPENDING (BACKEND_MAPS | BACKEND_SUSPENDS | BACKEND_KEEPS_INDEX)
#define RESETTING (BACKEND_MAPS | BACKEND_KEEPS_INDEX)
#define FORGETFUL BACKEND_MAPS
#define SIM_KINDS 3u
extern const unsigned int sim_kinds[SIM_KINDS];

#define SIM_QUEUES SIM_HOST_QUEUES
#define SIM_GPA 0x10000000ull
#define SIM_UVA 0x7f0000000000ull
#define SIM_SLOT (4ull << 20) /* guest memory per queue: its ring, then its data */
#define SIM_HELD_MAX 1024u

struct sim_held {
	uint16_t head;
	uint32_t writable;
	uint64_t serial; /* read from the chain's first bytes */
	bool asks;       /* it has readable bytes */
};

struct sim_queue {
	/* guest */
	struct driver_ring driver;
	void *private;
	int kick_fd, call_fd;
	bool guest_awake; /* it looks for used chains; else it waits for a call */
	uint64_t calls_heard;
	/* back-end */
	bool awake; /* it looks for chains; else it waits for a kick */
	uint64_t kicks_heard;
	bool started, enabled;
	bool noted, must_stop; /* of a whole device: ring_start(), device_stop() came */
	struct virtio_ring told;
	struct device_ring device;
	struct ring_seg segs[1024];
	struct sim_held held[SIM_HELD_MAX];
	unsigned int held_count;
	unsigned int starts, stops;
};

struct sim {
	struct sim_host host;
	struct virtio_device backend;
	struct virtio_ops ops;
	struct vhost_user_hush hush;
	struct shadow_device *device;
	struct virtio_device *front; /* the same, as a front-end sees it */
	uint64_t features;           /* offered by the back-end */
	uint64_t accepted;           /* set at the back-end */
	uint64_t queue_num, slots;
	uint16_t size;

	/* A whole device: sim_be(). */
	bool runs;
	uint32_t device_id;
	bool tells_base;      /* it has ring_base() */
	bool answers_first;   /* with a kick it has heard, and sees to it next */
	bool is_liar;         /* suspended, it keeps what it took */
	uint64_t iova_offset; /* where it sees guest memory: so far above */
	unsigned int device_starts, device_stops;
	uint64_t requests_lost; /* that it had when it was reset */

	void (*while_waiting)(struct sim *sim); /* the world goes on */
	/* The back-end takes all that is available of the queue, before it answers. */
	void (*before_answer)(struct sim *sim, unsigned int queue);

	/* faults: what the call returns once, counted down to 0 */
	int fail_start, fail_start_code, fail_start_again;
	int fail_stop, fail_stop_code;
	int fail_device_start, fail_device_start_code;
	int fail_device_stop, fail_device_stop_code;
	bool is_silent; /* a completion after a stop does not end the connection */
	int fail_fds;   /* so many fds are refused */
	int fail_memory_code;
	int fail_add, fail_add_code;
	int fail_reset_code;  /* though it forgets all the same */
	int base_lie;         /* added to the base that ring_stop answers, ... */
	bool answers_at_once; /* of the NOT family: a stop, and completes later all the same */
	unsigned int honest;  /* ... but for these rings' (bits) */

	struct memory *backend_memory;      /* what it was told */
	unsigned int tables, adds, removes; /* how often it was told: whole, a region */
	struct memory_region guest;         /* the one region of the guest */
	struct sim_queue queues[SIM_QUEUES];
};

static inline struct sim *sim_of(struct virtio_device *backend)
{
	return (struct sim *)(void *)((char *)backend - offsetof(struct sim, backend));
}

/* A device in front of a back-end, nothing negotiated yet. */
struct sim *sim_new(enum umbra_shadow_mode mode, uint16_t size, uint64_t features);
void sim_free(struct sim *sim);

/* Before booting: it is of another family. */
void sim_hush_by(struct sim *sim, enum hush_way way);
/* Before booting: it is a device that is started as a whole, with @traits beside. */
void sim_run_as_one(struct sim *sim, unsigned int traits);
/* The back-end's side of it, for sim.c's own operations. */
int sim_whole_ring_start(struct sim *sim, unsigned int index, const struct virtio_ring *ring,
			 struct umbra_error *err);
int sim_whole_ring_stop(struct sim *sim, unsigned int index, struct ring_position *base,
			struct umbra_error *err);
/* The ring that @q was told of begins to run. */
void sim_ring_open(struct sim *sim, struct sim_queue *q);

/* Features, memory, then @count rings started and enabled, as a VMM would. */
void sim_boot(struct sim *sim, unsigned int count, uint64_t guest_features);
/* The front-end pauses, or waits for a retry: the clock moves on, and the device is
 * tended. */
void sim_pause(struct sim *sim);
/* Where the front-end sees the ring. */
struct virtio_ring_addr sim_ring_addr(const struct sim *sim, unsigned int queue);
/* (Re)start one ring at the guest's present index. */
int sim_ring_start(struct sim *sim, unsigned int queue, uint16_t base);
/* A driver that knows nothing of an earlier one lays its ring out. */
void sim_driver_begin(struct sim *sim, unsigned int queue, uint64_t features);
/* Switch all rings: the device's answer.  @err may be NULL. */
int sim_switch(struct sim *sim, bool shadowed, struct umbra_error *err);

/* All that can be seen of the device, until the next call. */
const struct umbra_shadow_picture *sim_info(const struct sim *sim);

/* Guest: add a chain of @out readable and @in writable segments that carries
 * @serial in the first; 1, or 0 if the ring is full. */
int sim_guest_add(struct sim *sim, unsigned int queue, unsigned int out, unsigned int in,
		  uint64_t serial);
/* Guest: get a chain back: 1 and its serial, or 0.  A guest that finds nothing
 * arms its ring and sleeps until it is called. */
int sim_guest_get(struct sim *sim, unsigned int queue, uint64_t *serial, uint32_t *len);

/* Back-end: take up to @max chains; returns how many.  A back-end that finds
 * nothing arms its ring and sleeps until it is kicked. */
unsigned int sim_backend_take(struct sim *sim, unsigned int queue, unsigned int max);
/* Back-end: complete held chain number @which (0: the oldest). */
void sim_backend_complete(struct sim *sim, unsigned int queue, unsigned int which);

/* The back-end serves one request of the guest's, which waits to be called; nothing else is
 * on the ring. */
void sim_serve(struct sim *sim, unsigned int queue, uint64_t serial);

/* The back-end has died, and with it what it had: there is another, which knows nothing. */
void sim_bury(struct sim *sim);

/* Let all queues in service pass, if they were notified, until they sleep. */
void sim_run(struct sim *sim);

/* How often @fd was notified. */
uint64_t sim_notified(const struct sim *sim, int fd);

#endif
