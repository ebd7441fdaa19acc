/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a balloon device needs of the system it runs on, beside what every device does
 * (ring/device_host.h; one thread serves all its queues): somebody who discards memory.
 *
 * Threads: the device's unless it says otherwise.
 */
#ifndef UMBRA_BALLOON_BALLOON_HOST_H
#define UMBRA_BALLOON_BALLOON_HOST_H

#include <stdint.h>

#include "memory/memory.h"
#include "ring/device_host.h"
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
	struct device_host *device; /* who serves its queues; borrowed */
	const struct balloon_host_ops *ops;
};

struct balloon_host_ops {
	/* May the memory of @region be discarded?  Sets its backing's `keeps`. */
	void (*judge)(struct balloon_host *host, const struct memory_region *region);

	/*
	 * Give the host the memory of these, which are disjoint; returns when that
	 * is done, with the number of bytes that the host had really held, as far
	 * as it can tell.  On the queues' thread.
	 */
	uint64_t (*discard)(struct balloon_host *host, struct balloon_discard *list,
			    unsigned int count);

	/* @bytes of zeros for the ledger, where another program than this can find them: a
	 * reference to their backing is the caller's.  NULL: there is no such place. */
	int (*make_room)(struct balloon_host *host, uint64_t bytes, struct memory_region *room,
			 struct umbra_error *err);

	/* The size of the balloon has changed, or statistics have come: call balloon_device_step()
	 * soon.  On the queues' thread. */
	void (*moved)(struct balloon_host *host);
};

#endif
