/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The simulated back-end as a device that is started as a whole: see sim.h.
 *
 * Strict where the real ones are: vdpa_sim takes up the used ring where avail
 * begins; vp_vdpa knows no index; a reset device never uses what it had.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "sim.h"

#include <linux/virtio_config.h>

#include "base/error.h"
#include "base/shm.h"

#define NO_BASE 0xdeadu /* what a device answers that keeps no index */

/* Nothing is programmed while it runs, and nothing twice. */

const unsigned int sim_kinds[SIM_KINDS] = { SUSPENDING, RESETTING, FORGETFUL };

int sim_whole_ring_start(struct sim *sim, unsigned int index, const struct virtio_ring *ring,
			 struct umbra_error *err)
{
	struct sim_queue *q = &sim->queues[index];

	(void)err;
	assert_false(sim->runs);
	assert_false(q->noted);
	assert_true(ring->enabled || sim->ops.ring_enable);
	if (!(sim->backend.traits & BACKEND_KEEPS_INDEX))
		assert_int_equal(ring->base.avail, 0);
	q->told = *ring;
	q->noted = true;
	return 0;
}

static int whole_device_start(struct virtio_device *b, struct umbra_error *err)
{
	struct sim *sim = sim_of(b);

	assert_false(sim->runs);
	if (sim->fail_device_start && --sim->fail_device_start == 0)
		return error_set(err, sim->fail_device_start_code,
				 "simulated: the device does not start");
	for (unsigned int i = 0; i < SIM_QUEUES; i++) {
		struct sim_queue *q = &sim->queues[i];

		assert_false(q->must_stop);
		if (q->noted)
			sim_ring_open(sim, q);
	}
	sim->runs = true;
	sim->device_starts++;
	return 0;
}

/* Suspended, it uses what it took; reset, it forgets. */
static int whole_device_stop(struct virtio_device *b, struct umbra_error *err)
{
	struct sim *sim = sim_of(b);

	assert_true(sim->runs);
	if (sim->fail_device_stop && --sim->fail_device_stop == 0)
		return error_set(err, sim->fail_device_stop_code,
				 "simulated: the device does not stop");
	for (unsigned int i = 0; i < SIM_QUEUES; i++) {
		struct sim_queue *q = &sim->queues[i];

		assert_null(sim->host.services[i]); /* nobody feeds it any more */
		while (q->held_count && b->traits & BACKEND_SUSPENDS && !sim->is_liar)
			sim_backend_complete(sim, i, 0);
		for (unsigned int h = 0; h < q->held_count; h++)
			sim->requests_lost += q->held[h].asks;
		q->held_count = 0;
		q->must_stop = q->noted;
		q->started = false;
	}
	sim->runs = false;
	sim->device_stops++;
	return 0;
}

int sim_whole_ring_stop(struct sim *sim, unsigned int index, struct ring_position *base,
			struct umbra_error *err)
{
	struct sim_queue *q = &sim->queues[index];

	(void)err;
	assert_false(sim->runs);
	assert_true(q->noted);
	q->stops += q->must_stop;
	*base = ring_position_split(NO_BASE);
	if (sim->backend.traits & BACKEND_KEEPS_INDEX && q->must_stop)
		*base = ring_position_split(
			(uint16_t)(q->device.last_avail +
				   (sim->honest & 1u << index ? 0 : sim->base_lie)));
	q->noted = q->must_stop = false;
	return 0;
}

static int whole_ring_base(struct virtio_device *b, unsigned int index, struct ring_position *base,
			   struct umbra_error *err)
{
	struct sim *sim = sim_of(b);

	if (!sim->tells_base)
		return error_set(err, -EOPNOTSUPP, "simulated: no base of a running ring");
	assert_true(sim->queues[index].started);
	*base = ring_position_split(sim->queues[index].device.last_avail);
	if (sim->answers_first)
		sim_backend_take(sim, index, SIM_HELD_MAX);
	return 0;
}

static int whole_place_memory(struct virtio_device *b, struct memory *memory,
			      struct memory_region *own, struct umbra_error *err)
{
	struct sim *sim = sim_of(b);

	(void)err;
	for (unsigned int i = 0; i < memory->count; i++)
		memory->regions[i].iova.v = memory->regions[i].gpa.v + sim->iova_offset;
	memory->translated = sim->iova_offset;
	own->iova.v = own->gpa.v + 2 * sim->iova_offset;
	return 0;
}

static void whole_info(const struct virtio_device *b, struct umbra_backend_info *info)
{
	const struct sim *sim = (const void *)((const char *)b - offsetof(struct sim, backend));

	*info = (struct umbra_backend_info){ .device_id = sim->device_id };
}

void sim_run_as_one(struct sim *sim, unsigned int traits)
{
	sim->backend.traits = BACKEND_RUNS_AS_ONE | BACKEND_HEARS_NEW_KICKS | traits;
	sim->ops.device_start = whole_device_start;
	sim->ops.device_stop = whole_device_stop;
	sim->ops.ring_base = whole_ring_base;
	sim->ops.info = whole_info;
	if (traits & BACKEND_MAPS) {
		sim->features |= BIT64(VIRTIO_F_ACCESS_PLATFORM);
		sim->ops.place_memory = whole_place_memory;
	}
	/* Nothing for the front-end's words: a call is a crash. */
	sim->ops.set_status = NULL;
	sim->ops.get_status = NULL;
	sim->ops.ring_rest = NULL;
	sim->ops.ring_sound = NULL;
	sim->ops.ring_presume_rest = NULL;
	sim->ops.ring_enable = NULL;
}
