/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A vhost-user front-end without a guest: memory, queues and threads for a
 * device of any type.  The workloads (blk.c, net.c) are built on it, and the
 * disk of the benchmarks (bench/blk_front.c).
 *
 * Theory of operation: plays the guest and its VMM.  Memory is one or several
 * memfds, one after the other in this process, and laid out in guest-physical
 * addresses as asked for: adjoining, so that a segment may reach from one region
 * into the next, or apart and in reverse order, so that each buffer across a
 * border takes two segments and every address wants translation.  Each queue is
 * a ring of ring/driver_ring.h and a thread that takes back what the device has
 * used, as an interrupt handler does; others add buffers.
 *
 * The thread of a queue sleeps until it is called, and for nothing else: a buffer
 * that is there when the patience is over, without a call, is an error.  Who wants to
 * see to that itself has no such thread (is_polled), and takes back from the ring.
 *
 * Ownership: front_open() makes all, front_close() ends all, or front_drop() after an
 * error.
 * Threads: main is the only one to send messages.  A queue is locked by its
 * mutex; callbacks of requests run under it, on the queue's thread.  Counters
 * are atomic.
 * Trust: none.  What comes back is judged by driver_ring and by the workload; a
 * complaint (front_complain()) is counted and printed, a failure (front_fail())
 * ends the program.
 * Implements: virtio 1.2, 2.7; vhost-user, front-end.
 */
#ifndef UMBRA_TESTS_FRONT_H
#define UMBRA_TESTS_FRONT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "host/notifier.h"
#include "memory/memory.h"
#include "ring/driver_ring.h"
#include "umbra/error.h"

#define FRONT_QUEUES_MAX 16u
#define FRONT_REGIONS_MAX 64u /* QEMU's own limit for vhost-user is lower */
#define FRONT_SEGS_MAX 1024u  /* of a request, after borders of regions cut it */

struct front_options {
	const char *socket, *control, *name;
	unsigned int patience_s;  /* without any progress, before it is a failure */
	unsigned int regions;     /* of memory */
	uint64_t gpa_base;        /* bytes, whole pages */
	uint64_t gpa_gap;         /* between regions, bytes; 0: they adjoin */
	bool one_file;            /* regions are parts of one memfd */
	bool indirect, event_idx; /* wanted, where offered */
	unsigned int ring_size;
	uint32_t table_max;  /* segments of the longest request, where the ring is shorter */
	unsigned int queues; /* at most */
	bool is_polled;      /* queues have no threads; all is done by main */
	uint64_t seed;
};

/* A buffer on its way. */
struct front_request {
	/* It has come back, with @len bytes written. */
	void (*done)(struct front_request *r);
	uint32_t len;
	bool clamped;
};

struct front;

struct front_queue {
	struct front *front;
	unsigned int index;
	pthread_mutex_t lock;
	pthread_cond_t room; /* some descriptors have become free */
	struct driver_ring ring;
	void *private;
	bool added; /* since the last publishing */
	int kick_fd, call_fd;
	struct notifier kick;
	pthread_t thread;
	uint64_t kicks, calls; /* atomic */
};

struct front {
	const struct front_options *options;
	struct virtio_device *backend;
	uint64_t offered, features; /* virtio, of the device; negotiated */
	uint64_t protocol;          /* negotiated */
	struct memory_region regions[FRONT_REGIONS_MAX];
	struct memory_backing backings[FRONT_REGIONS_MAX];
	unsigned int region_count;
	uint8_t *memory; /* all regions */
	uint64_t memory_size, memory_used;
	struct front_queue queues[FRONT_QUEUES_MAX];
	unsigned int queue_count;
	int bell_fd;       /* the goal is reached, or something has failed */
	int stop_fd;       /* readable for good: the threads of the queues end */
	uint64_t progress; /* atomic; what the workload counts, see front_count() */
	uint64_t goal;     /* atomic; of progress, for which main waits */
	uint64_t errors;   /* atomic */
	bool failed;       /* atomic; then: */
	char failure[UMBRA_ERROR_SIZE];
};

/* ---- opening and closing: main --------------------------------------------- */

/* Connect, negotiate @wanted bits of the device type, where offered.  Then the
 * workload looks at features and configuration, says how many queues it wants,
 * and start follows. */
UMBRA_MUST_CHECK int front_open(struct front *f, const struct front_options *options,
				uint64_t wanted, struct umbra_error *err);

/* Make memory with @bytes for buffers, and start @queues queues. */
UMBRA_MUST_CHECK int front_start(struct front *f, unsigned int queues, uint64_t bytes,
				 struct umbra_error *err);

/*
 * Stop the queues and disconnect.  -EPROTO: the device says that a queue stopped
 * anywhere but after the last buffer that it has used, although the workload is
 * at rest.
 */
UMBRA_MUST_CHECK int front_close(struct front *f, struct umbra_error *err);

/* Disconnect, and free what was made by then.  No queue has a thread. */
void front_drop(struct front *f);

/* Memory of the guest that is free, zeroed.  NULL: front_start() was told a lie. */
void *front_alloc(struct front *f, uint64_t bytes, uint64_t align);

UMBRA_MUST_CHECK int front_get_config(struct front *f, uint32_t offset, void *data, uint32_t size,
				      struct umbra_error *err);
UMBRA_MUST_CHECK int front_set_config(struct front *f, uint32_t offset, const void *data,
				      uint32_t size, struct umbra_error *err);

/*
 * Wait until progress has reached @goal.  -ETIMEDOUT: none has been made for
 * the patience; -ECONNRESET: the back-end is gone; -EIO: front_fail() was called.
 */
UMBRA_MUST_CHECK int front_wait(struct front *f, uint64_t goal, struct umbra_error *err);

/* ---- requests: any thread ---------------------------------------------------- */

/* Put @len bytes at @host on a list of segments, of which @*count are there. */
void front_seg(const struct front *f, const void *host, uint32_t len, bool writable,
	       struct driver_seg *segs, unsigned int *count);

/* Add a buffer to a queue, whose lock is held; waits for room if there is none and
 * @may_wait, else false.  The device sees it after the next publishing. */
bool front_add(struct front_queue *q, const struct driver_seg *segs, unsigned int count,
	       struct front_request *r, bool may_wait);

/* Show the device what was added, and kick if it wishes that; the lock is held. */
void front_publish(struct front_queue *q);

/* ---- what is said: any thread ------------------------------------------------ */

void front_count(struct front *f, uint64_t progress);
uint64_t front_progress(const struct front *f);
void front_complain(struct front *f, const char *format, ...) __attribute__((format(printf, 2, 3)));
void front_fail(struct front *f, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A well-mixed number of @v. */
uint64_t front_mix(uint64_t v);

/* Words that count from @v on, in @bytes of data, ... */
void front_pattern_write(void *data, uint32_t bytes, uint64_t v);
/* ... and the first that does not; the number of words, if all do. */
uint32_t front_pattern_differs(const void *data, uint32_t bytes, uint64_t v);

/* ---- workloads ----------------------------------------------------------------- */

struct json;

/* A type of device.  All is called by main; @err tells what went wrong. */
struct front_workload {
	const char *name;
	/* Parse one option of one's own, "name=value"; false: not one. */
	bool (*option)(const char *text);
	/* Open, start, and begin with the load. */
	int (*begin)(struct front *f, const struct front_options *options, struct umbra_error *err);
	/* Execute a command of one's own and print what it has to say as members of a
	 * JSON object, each with ", " in front.  -ENOSYS: not one. */
	int (*command)(struct front *f, const char *word, const char *rest,
		       struct umbra_error *err);
	/* End the load, verify what can only be verified now, and print members. */
	int (*end)(struct front *f, struct umbra_error *err);
};

extern const struct front_workload blk_workload, net_workload;

#endif
