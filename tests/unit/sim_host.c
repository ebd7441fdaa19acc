/* SPDX-License-Identifier: BSD-2-Clause */
/* A simulated host for a device: see sim_host.h. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "sim_host.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"

static struct sim_host *host_of(struct device_host *device)
{
	return (struct sim_host *)(void *)((char *)device - offsetof(struct sim_host, device));
}

static struct sim_host *host_of_shadow(struct shadow_host *shadow)
{
	return (struct sim_host *)(void *)((char *)shadow - offsetof(struct sim_host, shadow));
}

/* --- numbers that stand for eventfds ------------------------------------------ */

static int number_make(struct sim_host *host, int *out, struct umbra_error *err)
{
	(void)err;
	*out = host->next_fd++;
	return 0;
}

static void number_notify(struct sim_host *host, int fd)
{
	if (fd >= 0)
		host->notified[fd]++;
}

static bool number_was_notified(struct sim_host *host, int fd)
{
	uint64_t heard;

	if (fd < 0)
		return false;
	heard = host->heard[fd];
	host->heard[fd] = host->notified[fd];
	return heard != host->notified[fd];
}

static const struct sim_fds numbers = {
	.make = number_make,
	.notify = number_notify,
	.was_notified = number_was_notified,
};

uint64_t sim_host_notified(const struct sim_host *host, int fd)
{
	return fd < 0 ? 0 : host->notified[fd];
}

/* --- what a device asks for --------------------------------------------------- */

static uint64_t host_now_us(struct device_host *device)
{
	return host_of(device)->now_us;
}

static void host_notify(struct device_host *device, int fd)
{
	struct sim_host *host = host_of(device);

	host->fds->notify(host, fd);
}

static int host_serve_begin(struct device_host *device, struct queue_service *service,
			    struct umbra_error *err)
{
	struct sim_host *host = host_of(device);

	assert_true(service->index < SIM_HOST_QUEUES);
	assert_null(host->services[service->index]);
	if (host->fail_serves && host->fail_serves--)
		return error_set(err, -EPERM, "simulated: queue %u's eventfds cannot be watched",
				 service->index);
	host->services[service->index] = service;
	host->is_fresh[service->index] = true;
	return 0;
}

static void host_serve_end(struct device_host *device, struct queue_service *service)
{
	struct sim_host *host = host_of(device);

	assert_ptr_equal(host->services[service->index], service);
	host->services[service->index] = NULL;
}

static void host_config_changed(struct device_host *device)
{
	host_of(device)->configs_changed++;
}

static const struct device_host_ops device_host_ops = {
	.now_us = host_now_us,
	.notify = host_notify,
	.serve_begin = host_serve_begin,
	.serve_end = host_serve_end,
	.config_changed = host_config_changed,
};

static int host_wait_us(struct shadow_host *shadow, uint64_t us)
{
	struct sim_host *host = host_of_shadow(shadow);

	host->now_us += us;
	if (host->while_waiting)
		host->while_waiting(host);
	return host->stopped;
}

static void own_release(struct memory_backing *backing)
{
	free(*(void **)(backing + 1));
	free(backing);
}

static int host_make_memory(struct shadow_host *shadow, uint64_t size, struct memory_region *out,
			    struct umbra_error *err)
{
	struct memory_backing *backing = calloc(1, sizeof(*backing) + sizeof(void *));
	void *memory = aligned_alloc(4096, align_up(size, 4096));

	(void)shadow;
	(void)err;
	assert_non_null(backing);
	assert_non_null(memory);
	memset(memory, 0xa5, size); /* the ring layer must not count on zeros */
	*(void **)(backing + 1) = memory;
	backing->refs = 1;
	backing->fd = -1;
	backing->release = own_release;
	*out = (struct memory_region){ .host = memory, .size = size, .backing = backing };
	return 0;
}

static void host_name_backend(struct shadow_host *shadow, struct process_mark *out)
{
	*out = host_of_shadow(shadow)->backend_mark;
}

static bool host_has_ended(struct shadow_host *shadow, const struct process_mark *mark)
{
	struct sim_host *h = host_of_shadow(shadow);

	h->asked_for = *mark;
	return h->is_ended && mark->pid;
}

static int host_make_eventfd(struct shadow_host *shadow, int *out, struct umbra_error *err)
{
	struct sim_host *host = host_of_shadow(shadow);

	return host->fds->make(host, out, err);
}

static bool host_can_notify(struct shadow_host *shadow, int fd)
{
	(void)shadow;
	(void)fd;
	return true;
}

static void host_event(struct shadow_host *shadow, const struct umbra_event *event)
{
	struct sim_host *host = host_of_shadow(shadow);

	if (host->event_count < SIM_EVENTS_MAX)
		host->events[host->event_count++] = *event;
	if (event->kind != UMBRA_EVENT_QUEUE_BROKEN)
		return;
	host->queues_broken |= 1u << event->queue;
	snprintf(host->broken_reason, sizeof(host->broken_reason), "%s", event->reason);
}

/* --- what its threads do ------------------------------------------------------- */

static bool service_pass(struct sim_host *host, unsigned int index)
{
	struct queue_service *s = host->services[index];
	unsigned int owed = 0;
	bool is_due;
	int rc;

	if (!s || s->broken)
		return false;
	is_due = host->fds->was_notified(host, s->kick_in);
	is_due |= host->fds->was_notified(host, s->call_in);
	if (!is_due && !host->is_fresh[index])
		return false;
	rc = s->pass(s->queue, &owed);
	host->is_fresh[index] = rc > 0 && rc & QUEUE_MORE;
	if (rc < 0)
		__atomic_store_n(&s->broken, true, __ATOMIC_RELEASE);
	else
		owed = (unsigned int)rc;
	if (owed & QUEUE_KICK_BACKEND)
		host->fds->notify(host, s->kick_out);
	if (owed & QUEUE_CALL_GUEST)
		host->fds->notify(host, s->call_out);
	return true;
}

bool sim_host_serve(struct sim_host *host)
{
	bool any = false;

	for (unsigned int i = 0; i < SIM_HOST_QUEUES; i++)
		any |= service_pass(host, i);
	return any;
}

/* --- all ---------------------------------------------------------------------- */

void sim_host_init(struct sim_host *host, const struct sim_fds *fds)
{
	*host = (struct sim_host){
		.device.ops = &device_host_ops,
		.shadow = { &host->device, &host->ops },
		.ops = {
			.wait_us = host_wait_us,
			.make_memory = host_make_memory,
			.make_eventfd = host_make_eventfd,
			.name_backend = host_name_backend,
			.has_ended = host_has_ended,
			.can_notify = host_can_notify,
			.event = host_event,
		},
		.fds = fds ? fds : &numbers,
		.next_fd = SIM_FIRST_FD,
	};
	if (fds)
		return;
	host->notified = calloc(SIM_FDS, sizeof(*host->notified));
	host->heard = calloc(SIM_FDS, sizeof(*host->heard));
	assert_true(host->notified && host->heard);
}

void sim_host_fini(struct sim_host *host)
{
	for (unsigned int i = 0; i < SIM_HOST_QUEUES; i++)
		assert_null(host->services[i]);
	free(host->notified);
	free(host->heard);
}
