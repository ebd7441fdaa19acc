/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a balloon device needs of the system it runs on.
 *
 * Time, discarding, threads and notifications come in through these operations,
 * so that the device makes no system call and is tested with a simulated host.
 *
 * Threads: the device's unless it says otherwise.
 */
#ifndef UMBRA_BALLOON_BALLOON_HOST_H
#define UMBRA_BALLOON_BALLOON_HOST_H

#include <stdint.h>

#include "memory/memory.h"
#include "ring/queue_service.h"
#include "umbra/error.h"

/* Why memory is not given back to the host: memory_backing::keeps. */
enum balloon_keep {
	BALLOON_KEEP_NOTHING, /* it is given back */
	BALLOON_KEEP_PINNED,  /* the operator says that devices have it pinned */
	BALLOON_KEEP_FILE,    /* a file on a file system: its content may be meant to stay */
	BALLOON_KEEP_NAMED,   /* memory, but somebody can open it by a name */
	BALLOON_KEEP_OUTSIDE, /* the operator has named other regions */
	BALLOON_KEEP_HELD,    /* a process has told that a device has it pinned */
	BALLOON_KEEP_UNKNOWN, /* it cannot be known whether one has */
};

/* balloon_discard::result: kept, as the region's `keeps` says now. */
#define BALLOON_KEPT 1

/* Memory to be given back to the host. */
struct balloon_discard {
	const struct memory_region *region;
	uint64_t offset, length; /* in the region, bytes; within it */
	int result;              /* 0, BALLOON_KEPT or -errno, filled by the host */
};

struct balloon_host {
	const struct balloon_host_ops *ops;
};

struct balloon_host_ops {
	uint64_t (*now_us)(struct balloon_host *host);

	/* May the memory of @region be discarded?  Sets its backing's `keeps`. */
	void (*judge)(struct balloon_host *host, const struct memory_region *region);

	/*
	 * Give the host the memory of these, which are disjoint; returns when that
	 * is done, with the number of bytes that the host had really held, as far
	 * as it can tell.  On the queues' thread.
	 */
	uint64_t (*discard)(struct balloon_host *host, struct balloon_discard *list,
			    unsigned int count);

	/*
	 * Begin to serve a queue (with one pass unasked); when one breaks, call
	 * balloon_device_check_queues() soon.  All queues of a device are served by
	 * one thread.  end: when it returns, no thread touches the queue any more.
	 */
	int (*serve_begin)(struct balloon_host *host, struct queue_service *service,
			   struct umbra_error *err);
	void (*serve_end)(struct balloon_host *host, struct queue_service *service);

	/* Write to an eventfd (or a socket that stands for one); -1: nothing. */
	void (*notify)(struct balloon_host *host, int fd);

	/* The size of the balloon has changed, or statistics have come: call balloon_device_step()
	 * soon.  On the queues' thread. */
	void (*moved)(struct balloon_host *host);
	/* The configuration space has changed: tell the front-end. */
	void (*config_changed)(struct balloon_host *host);
};

#endif
