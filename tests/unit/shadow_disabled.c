/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A ring that the front-end has disabled is nobody's: its driver may be unbound, and its memory
 * anything (UML says no more than that when a driver goes).
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

#define FEATURES (BIT64(VIRTIO_F_VERSION_1) | BIT64(VIRTIO_RING_F_EVENT_IDX))

static const enum hush_way families[] = { HUSH_NOT, HUSH_BY_KICK, HUSH_BY_ENABLE };

static void enable(struct sim *sim, unsigned int queue, bool enabled)
{
	struct umbra_error err = { "" };

	assert_int_equal(sim->front->ops->ring_enable(sim->front, queue, enabled, &err), 0);
}

/* The back-end's turn, whatever its ring holds by now. */
static void backend_works(struct sim *sim)
{
	for (unsigned int q = 0; q < SIM_QUEUES; q++) {
		sim_backend_take(sim, q, 8);
		while (sim->queues[q].held_count)
			sim_backend_complete(sim, q, 0);
	}
}

/* One request there and back. */
static void request_goes_round(struct sim *sim, unsigned int queue, uint64_t serial)
{
	uint64_t got = 0;
	uint32_t len;

	sim->queues[queue].guest_awake = true;
	assert_int_equal(sim_guest_add(sim, queue, 1, 1, serial), 1);
	for (int i = 0; i < 4; i++) {
		sim_run(sim);
		backend_works(sim);
	}
	assert_int_equal(sim_guest_get(sim, queue, &got, &len), 1);
	assert_int_equal(got, serial);
}

static struct sim *boot(enum hush_way family, bool shadowed)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 8, FEATURES);

	sim_hush_by(sim, family);
	sim->while_waiting = backend_works;
	sim_boot(sim, 2, FEATURES);
	assert_int_equal(sim_switch(sim, shadowed, NULL), 0);
	request_goes_round(sim, 0, 1);
	request_goes_round(sim, 1, 2);
	return sim;
}

static void a_disabled_ring_takes_no_part_in_a_switch_and_is_neither_read_nor_kicked(void **state)
{
	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(families); k++)
		for (int shadowed = 0; shadowed < 2; shadowed++) {
			struct sim *sim = boot(families[k], shadowed);
			uint8_t *ring = sim->guest.host, before[4096];
			uint64_t kicks;

			enable(sim, 0, false);
			kicks = sim_notified(sim, sim->queues[0].kick_fd);
			/* 238 chains to do, for whoever reads it */
			memset(ring, 0xee, sizeof(before));
			memcpy(before, ring, sizeof(before));
			for (int i = 0; i < 5; i++) {
				assert_int_equal(sim_switch(sim, !shadowed, NULL), 0);
				backend_works(sim);
				request_goes_round(sim, 1, (uint64_t)(10 + 2 * i));
				assert_int_equal(sim_switch(sim, shadowed, NULL), 0);
				backend_works(sim);
				request_goes_round(sim, 1, (uint64_t)(11 + 2 * i));
			}
			assert_memory_equal(ring, before, sizeof(before));
			assert_int_equal(sim_notified(sim, sim->queues[0].kick_fd), kicks);
			assert_false(sim->queues[0].started);
			assert_true(sim->host.now_us < 100000); /* nor waited for */
			sim_free(sim);
		}
}

static void it_starts_where_it_stood_and_in_the_mode_of_the_day_when_it_is_enabled(void **state)
{
	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(families); k++)
		for (int shadowed = 0; shadowed < 2; shadowed++) {
			struct sim *sim = boot(families[k], shadowed);
			const struct sim_queue *q = &sim->queues[0];

			for (uint64_t i = 3; i < 20; i++) {
				bool mode = i % 2 ? shadowed : !shadowed;

				enable(sim, 0, false);
				assert_int_equal(sim_switch(sim, mode, NULL), 0);
				enable(sim, 0, true);
				assert_true(q->started);
				assert_int_equal(q->told.kick_fd != q->kick_fd, mode);
				request_goes_round(sim, 0, i);
				request_goes_round(sim, 1, 100 + i);
			}
			sim_free(sim);
		}
}

/* What the driver made available while its ring was disabled, with a kick that nobody
 * heard, is found when the ring is enabled. */
static void a_kick_of_a_disabled_ring_is_not_lost(void **state)
{
	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(families); k++)
		for (int shadowed = 0; shadowed < 2; shadowed++) {
			struct sim *sim = boot(families[k], shadowed);
			uint64_t got = 0;
			uint32_t len;

			enable(sim, 0, false);
			assert_int_equal(sim_guest_add(sim, 0, 1, 1, 7), 1);
			sim_run(sim);
			backend_works(sim);
			assert_int_equal(sim_guest_get(sim, 0, &got, &len), 0);
			enable(sim, 0, true);
			for (int i = 0; i < 4; i++) {
				sim_run(sim);
				backend_works(sim);
			}
			assert_int_equal(sim_guest_get(sim, 0, &got, &len), 1);
			assert_int_equal(got, 7);
			sim_free(sim);
		}
}

static void a_ring_that_is_set_up_before_it_is_enabled_begins_then(void **state)
{
	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(families); k++) {
		struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 8, FEATURES);
		const struct sim_queue *q = &sim->queues[0];

		sim_hush_by(sim, families[k]);
		sim_boot(sim, 1, FEATURES);
		request_goes_round(sim, 0, 1);
		/* unbound and bound again */
		enable(sim, 0, false);
		assert_int_equal(sim_switch(sim, true, NULL), 0);
		memset(sim->guest.host, 0, 4096);
		{
			struct driver_ring_config config = {
				.size = sim->size,
				.features = FEATURES,
				.shared = sim->guest.host,
				.shared_addr = { SIM_GPA },
				.private = q->private,
			};

			assert_int_equal(driver_ring_init(&sim->queues[0].driver, &config), 0);
		}
		assert_int_equal(sim_ring_start(sim, 0, 0), 0);
		assert_true(q->told.kick_fd != q->kick_fd); /* shadowed */
		request_goes_round(sim, 0, 9);
		sim_free(sim);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_disabled_ring_takes_no_part_in_a_switch_and_is_neither_read_nor_kicked),
		cmocka_unit_test(
			it_starts_where_it_stood_and_in_the_mode_of_the_day_when_it_is_enabled),
		cmocka_unit_test(a_kick_of_a_disabled_ring_is_not_lost),
		cmocka_unit_test(a_ring_that_is_set_up_before_it_is_enabled_begins_then),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
