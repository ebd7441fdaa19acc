/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What every device of ours needs of the system that it runs on: the time, somebody who
 * serves its queues, and somebody who tells the front-end.
 *
 * Devices make no system call: they call the host that they were created with.  A kind of
 * device that needs more has a table of its own beside this one (queue/shadow_host.h,
 * balloon/balloon_host.h).  In the product the host is a session (session/session.h); the
 * tests simulate one, with a clock that the test moves.
 *
 * Threads: the device's; device_host_now_us() any that serves a queue, too.
 */
#ifndef UMBRA_RING_DEVICE_HOST_H
#define UMBRA_RING_DEVICE_HOST_H

#include <stdint.h>

#include "ring/queue_service.h"
#include "umbra/error.h"

struct device_host {
	const struct device_host_ops *ops;
};

struct device_host_ops {
	uint64_t (*now_us)(struct device_host *host);

	/* Write to an eventfd (or a socket that stands for one); -1: nothing. */
	void (*notify)(struct device_host *host, int fd);

	/*
	 * Begin to serve a queue (with one pass unasked); when one breaks, have the device
	 * look at its queues soon.  end: when it returns, no thread touches the queue any
	 * more.
	 */
	int (*serve_begin)(struct device_host *host, struct queue_service *service,
			   struct umbra_error *err);
	void (*serve_end)(struct device_host *host, struct queue_service *service);

	/* The configuration space (or the status) has changed: tell the front-end. */
	void (*config_changed)(struct device_host *host);
};

static inline uint64_t device_host_now_us(struct device_host *host)
{
	return host->ops->now_us(host);
}

static inline void device_host_notify(struct device_host *host, int fd)
{
	host->ops->notify(host, fd);
}

UMBRA_MUST_CHECK static inline int device_host_serve_begin(struct device_host *host,
							   struct queue_service *service,
							   struct umbra_error *err)
{
	return host->ops->serve_begin(host, service, err);
}

static inline void device_host_serve_end(struct device_host *host, struct queue_service *service)
{
	host->ops->serve_end(host, service);
}

static inline void device_host_config_changed(struct device_host *host)
{
	host->ops->config_changed(host);
}

#endif
