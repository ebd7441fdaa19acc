/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a shadow device needs of the system it runs on, beside what every device does
 * (ring/device_host.h): memory and eventfds of its own, to wait, and who hears of events.
 *
 * Threads: every call comes from the device's thread.
 */
#ifndef UMBRA_QUEUE_SHADOW_HOST_H
#define UMBRA_QUEUE_SHADOW_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/process_mark.h"
#include "memory/memory.h"
#include "queue/shadow_queue.h"
#include "ring/device_host.h"
#include "umbra/error.h"
#include "umbra/shadow_device.h"

struct shadow_host {
	struct device_host *device; /* who serves its queues; borrowed */
	const struct shadow_host_ops *ops;
};

struct shadow_host_ops {
	/* Sleep about @us microseconds.  -ECANCELED: stop waiting for anything.
	 * -ECONNRESET: the back-end is gone. */
	int (*wait_us)(struct shadow_host *host, uint64_t us);

	/* @size bytes of zeroed memory with an fd that a back-end can map but
	 * not resize.  Fills host, size, and a backing with one reference. */
	int (*make_memory)(struct shadow_host *host, uint64_t size, struct memory_region *out,
			   struct umbra_error *err);
	int (*make_eventfd)(struct shadow_host *host, int *out, struct umbra_error *err);
	/* The process at the other end of the back-end's connection; pid 0: it is not known. */
	void (*name_backend)(struct shadow_host *host, struct process_mark *out);
	/* Has the process @mark, which somebody else may have made up, ended for certain?  If not,
	 * it is watched in place of the one whose connection is lost next. */
	bool (*has_ended)(struct shadow_host *host, const struct process_mark *mark);
	/* Has an eventfd room for a notification? */
	bool (*can_notify)(struct shadow_host *host, int fd);

	void (*event)(struct shadow_host *host, const struct umbra_event *event);
};

#endif
