/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A simulated host for a device: a clock that the test moves, threads that are this one,
 * and notifications that are heard when the test lets them be.
 *
 * A queue in service passes in sim_host_serve(), if it was notified, or asked to be called
 * again.  What stands for an eventfd is a number, which nobody opens and whose notifications
 * are counted, unless whoever embeds the host has eventfds of its own (struct sim_fds).
 */
#ifndef UMBRA_TESTS_UNIT_SIM_HOST_H
#define UMBRA_TESTS_UNIT_SIM_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include "queue/shadow_host.h"

#define SIM_HOST_QUEUES 4u
#define SIM_EVENTS_MAX 64u
#define SIM_FDS (1u << 18)
#define SIM_FIRST_FD 1000 /* no real fds: the device closes what it is given */

struct sim_host;

struct sim_fds {
	int (*make)(struct sim_host *host, int *out, struct umbra_error *err);
	void (*notify)(struct sim_host *host, int fd);
	/* Since it was last asked? */
	bool (*was_notified)(struct sim_host *host, int fd);
};

struct sim_host {
	struct device_host device;
	struct shadow_host shadow;
	struct shadow_host_ops ops; /* shadow's, to be changed */

	uint64_t now_us;
	int stopped;                               /* what wait_us returns */
	void (*while_waiting)(struct sim_host *h); /* the world goes on */

	const struct sim_fds *fds;
	int next_fd;
	uint64_t *notified, *heard; /* by number */

	struct queue_service *services[SIM_HOST_QUEUES];
	bool is_fresh[SIM_HOST_QUEUES]; /* one pass unasked */
	int fail_serves;                /* it does not serve so many rings */

	struct process_mark backend_mark; /* the back-end's process */
	struct process_mark asked_for;    /* whether it has ended, ... */
	bool is_ended;                    /* ... and the answer, for one that is known */

	unsigned int configs_changed;
	struct umbra_event events[SIM_EVENTS_MAX]; /* the first of them */
	unsigned int event_count;
	unsigned int queues_broken; /* bits */
	char broken_reason[UMBRA_ERROR_SIZE];
};

/* @fds: NULL for numbers. */
void sim_host_init(struct sim_host *host, const struct sim_fds *fds);
/* Nothing may be served any more: this is checked. */
void sim_host_fini(struct sim_host *host);

/* One pass for each queue that is due; false: all sleep. */
bool sim_host_serve(struct sim_host *host);

/* How often the number @fd was notified. */
uint64_t sim_host_notified(const struct sim_host *host, int fd);

#endif
