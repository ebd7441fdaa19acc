/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the state machine of a device needs of the system it runs on.
 *
 * Time, memory, eventfds and threads come in through these operations, so that
 * the state machine makes no system call and is tested with a simulated host.
 *
 * Threads: every call comes from the device's thread.
 */
#ifndef UMBRA_QUEUE_SHADOW_HOST_H
#define UMBRA_QUEUE_SHADOW_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include "memory/memory.h"
#include "queue/shadow_queue.h"
#include "umbra/error.h"
#include "umbra/shadow_device.h"

struct shadow_host {
	const struct shadow_host_ops *ops;
};

struct shadow_host_ops {
	uint64_t (*now_us)(struct shadow_host *host);
	/* Sleep about @us microseconds.  -ECANCELED: stop waiting for anything. */
	int (*wait_us)(struct shadow_host *host, uint64_t us);

	/* @size bytes of zeroed memory with an fd that a back-end can map but
	 * not resize.  Fills host, size, and a backing with one reference. */
	int (*make_memory)(struct shadow_host *host, uint64_t size, struct memory_region *out,
			   struct umbra_error *err);
	int (*make_eventfd)(struct shadow_host *host, int *out, struct umbra_error *err);
	/* Write to an eventfd (or a socket that stands for one); -1: nothing. */
	void (*notify)(struct shadow_host *host, int fd);
	/* Has it room for a notification? */
	bool (*can_notify)(struct shadow_host *host, int fd);
	/* Has its reader read all notifications?  -1: yes. */
	bool (*is_heard)(struct shadow_host *host, int fd);

	/* Begin to serve (with one pass unasked); when a queue breaks, call
	 * shadow_device_check_queues() soon.  end: when it returns, no
	 * thread touches the queue any more. */
	int (*serve_begin)(struct shadow_host *host, struct queue_service *service,
			   struct umbra_error *err);
	void (*serve_end)(struct shadow_host *host, struct queue_service *service);

	void (*event)(struct shadow_host *host, const struct umbra_event *event);
	/* The configuration space (or the status) has changed: tell the front-end. */
	void (*config_changed)(struct shadow_host *host);
};

#endif
