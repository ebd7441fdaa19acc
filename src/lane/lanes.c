/* SPDX-License-Identifier: BSD-2-Clause */
/* All lanes of a device, and what can be asked of one: see lane.h. */
#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "lane/own_ring.h"
#include "lane/past.h"
#include "ring/split_look.h"

static void forget(struct lane *r)
{
	guest_ring_forget(&r->front);
	/* Ours, too: no front-end leaves anything behind for the next. */
	own_ring_close(r);
	r->error[0] = '\0';
	lane_flights_bring(&r->flights, NULL, 0);
	lane_flights_free(&r->flights);
	r->left = false;
	ghosts_forget(r);
}

/* --- all lanes of a device ------------------------------------------------ */

static void init(struct lane *r, unsigned int index)
{
	*r = (struct lane){
		.back_kick_fd = -1,
		.back_call_fd = -1,
	};
	guest_ring_init(&r->front, index);
}

int lanes_create(struct lanes **out)
{
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	for (unsigned int i = 0; i < UMBRA_QUEUES_MAX; i++)
		init(&(*out)->lane[i], i);
	return 0;
}

void lanes_destroy(struct lanes **lanes)
{
	if (!*lanes)
		return;
	lanes_forget(*lanes);
	free(*lanes);
	*lanes = NULL;
}

struct lane *lanes_name(struct lanes *lanes, unsigned int index)
{
	if (index >= lanes->count)
		lanes->count = index + 1;
	return &lanes->lane[index];
}

unsigned int lanes_count(const struct lanes *lanes)
{
	return lanes->count;
}

struct lane *lane_at(const struct lanes *lanes, unsigned int index)
{
	return (struct lane *)&lanes->lane[index];
}

bool lanes_any(const struct lanes *lanes, bool (*is)(const struct lane *r))
{
	for (unsigned int i = 0; i < lanes->count; i++)
		if (is(&lanes->lane[i]))
			return true;
	return false;
}

void lanes_forget(struct lanes *lanes)
{
	for (unsigned int i = 0; i < lanes->count; i++)
		forget(&lanes->lane[i]);
	lanes->count = 0;
}

/* --- what can be asked of one ---------------------------------------------- */

unsigned int lane_index(const struct lane *r)
{
	return r->front.index;
}

struct guest_ring *lane_front(const struct lane *r)
{
	return (struct guest_ring *)&r->front;
}

struct lane_piece *lane_piece(const struct lane *r)
{
	return (struct lane_piece *)&r->own;
}

const struct shadow_counters *lane_counters(const struct lane *r)
{
	return &r->counters;
}

const char *lane_error(const struct lane *r)
{
	return r->error;
}

bool lane_is_stopped(const struct lane *r)
{
	return r->state == LANE_STOPPED;
}

bool lane_is_wanted(const struct lane *r)
{
	return r->state == LANE_WANTED;
}

bool lane_is_broken(const struct lane *r)
{
	return r->state == LANE_BROKEN || r->state == LANE_BURIED;
}

bool lane_is_passed(const struct lane *r)
{
	return lane_runs(r) && r->kind == LANE_PASSED;
}

bool lane_is_shadowed(const struct lane *r)
{
	return lane_runs(r) && r->kind != LANE_PASSED;
}

bool lane_runs(const struct lane *r)
{
	return r->state == LANE_STARTED || r->state == LANE_RUNNING || lane_is_resting(r);
}

bool lane_is_started(const struct lane *r)
{
	return r->state == LANE_STARTED;
}

bool lane_is_halted(const struct lane *r)
{
	return r->state == LANE_HALTED || r->state == LANE_BURIED;
}

bool lane_is_resting(const struct lane *r)
{
	return r->state == LANE_HUSHED || r->state == LANE_HALTED;
}

bool lane_is_at_backend(const struct lane *r)
{
	return (lane_runs(r) || lane_is_broken(r)) && !lane_is_halted(r);
}

bool lane_has_queue(const struct lane *r)
{
	return r->queue || r->control;
}

bool lane_is_followed(const struct lane *r)
{
	return r->control;
}

bool lane_is_served(const struct lane *r)
{
	return r->is_served;
}

bool lane_is_new_to_guest(const struct lane *r)
{
	return split_begins(&r->front.split, r->front.base);
}

bool lane_has_left(const struct lane *r)
{
	return r->left;
}

bool lane_has_failed(const struct lane *r, const char **fault)
{
	if (!lane_is_shadowed(r) || !r->is_served ||
	    !__atomic_load_n(&r->service.broken, __ATOMIC_ACQUIRE))
		return false;
	*fault = r->service.fault;
	return true;
}

void lane_say_tables(struct lane *r)
{
	uint32_t longest = __atomic_load_n(&r->counters.table_longest, __ATOMIC_RELAXED);

	if (!longest || r->table_said)
		return;
	r->table_said = true;
	log_warning("queue %u: the guest's driver builds indirect tables that are longer than the "
		    "ring (%u descriptors on a ring of %u), which the virtio specification "
		    "forbids; they are forwarded as they are",
		    r->front.index, longest, r->front.size);
}

bool lane_is_forgotten(const struct lane *r)
{
	return r->forgotten;
}
