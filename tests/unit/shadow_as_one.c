/* SPDX-License-Identifier: BSD-2-Clause */
/* A device that is started and stopped as a whole, behind a front-end that speaks ring by ring. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/shm.h"
#include "sim.h"

static struct sim *sim_as_one(unsigned int traits, unsigned int rings)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 8, V1 | EVENT);

	sim_run_as_one(sim, traits);
	sim->tells_base = true;
	sim_boot(sim, rings, V1 | EVENT);
	return sim;
}

static uint64_t lost(const struct sim *sim, unsigned int queue)
{
	return shadow_device_counters(sim->device, queue)->lost;
}

static uint64_t returned(const struct sim *sim, unsigned int queue)
{
	return shadow_device_counters(sim->device, queue)->returned;
}

static void request(struct sim *sim, unsigned int queue, uint64_t serial)
{
	assert_int_equal(sim_guest_add(sim, queue, 1, 1, serial), 1);
}

static void room(struct sim *sim, unsigned int queue, uint64_t serial)
{
	assert_int_equal(sim_guest_add(sim, queue, 0, 1, serial), 1);
}

/* The guest gets @serial next, once the back-end has used all that it can have. */
static void arrives(struct sim *sim, unsigned int queue, uint64_t serial)
{
	uint64_t got;
	uint32_t len;

	sim_run(sim);
	sim_backend_take(sim, queue, 1000);
	if (sim->queues[queue].held_count)
		sim_backend_complete(sim, queue, 0);
	sim_run(sim);
	assert_int_equal(sim_guest_get(sim, queue, &got, &len), 1);
	assert_int_equal(got, serial);
}

static void nothing_arrives(struct sim *sim, unsigned int queue)
{
	uint64_t got;
	uint32_t len;

	sim_run(sim);
	assert_int_equal(sim_guest_get(sim, queue, &got, &len), 0);
}

static uint16_t ring_stop(struct sim *sim, unsigned int queue)
{
	struct umbra_error err = { "" };
	uint16_t base = 0xffff;

	assert_int_equal(ring_stop_at(sim->front, queue, &base, &err), 0);
	return base;
}

/* --- starting ---------------------------------------------------------------- */

static void rings_that_start_one_by_one_start_the_device_once(void **state)
{
	(void)state;
	for (size_t k = 0; k < SIM_KINDS; k++) {
		struct sim *sim = sim_as_one(sim_kinds[k], 4);

		assert_int_equal(sim->device_starts, 1);
		for (unsigned int q = 0; q < 4; q++)
			assert_int_equal(sim->queues[q].starts, 1);
		assert_int_equal(shadow_device_tend_ms(sim->device), -1);
		assert_int_equal(shadow_device_state(sim->device),
				 sim_kinds[k] & BACKEND_KEEPS_INDEX ? UMBRA_DEVICE_PASSTHROUGH
								    : UMBRA_DEVICE_SHADOWED);
		sim_free(sim);
	}
}

static void a_device_is_not_started_before_the_pause_or_driver_ok(void **state)
{
	struct sim *sim = sim_as_one(SUSPENDING, 2);
	struct umbra_error err = { "" };
	uint8_t status;
	uint16_t base[2];

	(void)state;
	base[0] = ring_stop(sim, 0);
	base[1] = ring_stop(sim, 1);
	assert_int_equal(sim_ring_start(sim, 0, base[0]), 0);
	assert_int_equal(sim_ring_start(sim, 1, base[1]), 0);
	shadow_device_tend(sim->device); /* too early */
	assert_int_equal(sim->device_starts, 1);
	assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_NEGOTIATING);
	assert_true(shadow_device_tend_ms(sim->device) > 0);

	assert_int_equal(sim->front->ops->set_status(sim->front, 0xf, &err), 0);
	assert_int_equal(sim->device_starts, 2);
	assert_int_equal(shadow_device_tend_ms(sim->device), -1);
	assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_PASSTHROUGH);
	assert_int_equal(sim->front->ops->get_status(sim->front, &status, &err), 0);
	assert_int_equal(status, 0xf);

	assert_int_equal(sim->front->ops->set_status(sim->front, 0, &err), 0);
	assert_false(sim->runs);
	assert_int_equal(sim->front->ops->get_status(sim->front, &status, &err), 0);
	assert_int_equal(status, 0);
	assert_int_equal(shadow_device_tend_ms(sim->device), -1);
	sim_free(sim);
}

/* With requests on the first ring, taken and not taken, when the second comes. */
static void a_ring_that_comes_late_restarts_the_device_and_nothing_is_lost(void **state)
{
	(void)state;
	for (size_t k = 0; k < SIM_KINDS; k++) {
		struct sim *sim = sim_as_one(sim_kinds[k], 2);
		uint16_t base = ring_stop(sim, 1);

		sim_pause(sim);
		assert_true(sim->queues[0].started);
		assert_false(sim->queues[1].started);
		request(sim, 0, 1);
		arrives(sim, 0, 1);
		room(sim, 0, 2);
		sim_run(sim);
		if (sim_kinds[k] != RESETTING) /* passed through, it would be waited for */
			assert_int_equal(sim_backend_take(sim, 0, 1), 1);
		assert_int_equal(sim_ring_start(sim, 1, base), 0);
		assert_true(sim->queues[0].started); /* not yet */
		sim_pause(sim);
		assert_true(sim->queues[1].started);
		arrives(sim, 0, 2);
		request(sim, 1, 3);
		arrives(sim, 1, 3);
		assert_int_equal(sim->requests_lost, 0);
		sim_free(sim);
	}
}

static void a_disabled_ring_is_left_out_until_it_is_enabled(void **state)
{
	(void)state;
	for (size_t k = 0; k < SIM_KINDS; k++) {
		struct sim *sim = sim_as_one(sim_kinds[k], 2);
		struct umbra_error err = { "" };

		assert_int_equal(sim->front->ops->ring_enable(sim->front, 1, false, &err), 0);
		sim_pause(sim);
		assert_true(sim->queues[0].started);
		assert_false(sim->queues[1].started);
		request(sim, 1, 1);
		request(sim, 0, 2);
		sim_run(sim);
		assert_int_equal(sim_backend_take(sim, 1, 1), 0);
		arrives(sim, 0, 2);
		assert_int_equal(sim->front->ops->ring_enable(sim->front, 1, true, &err), 0);
		sim_pause(sim);
		arrives(sim, 1, 1);
		sim_free(sim);
	}
}

/* --- stopping ---------------------------------------------------------------- */

static void rings_that_stop_in_a_row_stop_the_device_once(void **state)
{
	(void)state;
	for (size_t k = 0; k < SIM_KINDS; k++) {
		struct sim *sim = sim_as_one(sim_kinds[k], 3);

		request(sim, 1, 1);
		arrives(sim, 1, 1);
		assert_int_equal(ring_stop(sim, 0), 0);
		assert_int_equal(ring_stop(sim, 1), 1);
		assert_int_equal(ring_stop(sim, 2), 0);
		assert_int_equal(sim->device_stops, 1);
		assert_int_equal(sim->device_starts, 1);
		sim_pause(sim);
		assert_int_equal(sim->device_starts, 1);
		assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_NEGOTIATING);
		sim_free(sim);
	}
}

static void one_ring_of_two_stops_and_the_other_goes_on(void **state)
{
	(void)state;
	for (size_t k = 0; k < SIM_KINDS; k++) {
		struct sim *sim = sim_as_one(sim_kinds[k], 2);

		for (uint64_t i = 0; i < 20; i++) { /* beyond the ring's size */
			request(sim, 0, i);
			arrives(sim, 0, i);
		}
		request(sim, 1, 77);
		assert_int_equal(ring_stop(sim, 0), 20);
		sim_pause(sim);
		assert_true(sim->queues[1].started);
		arrives(sim, 1, 77);
		assert_int_equal(sim_ring_start(sim, 0, 20), 0);
		sim_pause(sim);
		request(sim, 0, 20);
		sim->queues[0].guest_awake = true;
		arrives(sim, 0, 20);
		sim_free(sim);
	}
}

/* What it has taken it uses by then, whether it can say where it stopped or not. */
static void a_suspended_device_is_not_waited_for(void **state)
{
	static const unsigned int suspending[] = { SUSPENDING, BACKEND_MAPS | BACKEND_SUSPENDS };

	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(suspending); k++) {
		struct sim *sim = sim_as_one(suspending[k], 2);
		struct umbra_error err = { "" };
		uint64_t got, start;
		uint32_t len;

		assert_int_equal(sim_switch(sim, true, &err), 0);
		request(sim, 0, 1);
		request(sim, 0, 2);
		sim_run(sim);
		assert_int_equal(sim_backend_take(sim, 0, 1), 1);
		start = sim->host.now_us;
		assert_int_equal(ring_stop(sim, 0), 1);
		assert_true(sim->host.now_us - start <
			    50000); /* the hush at most, not the deadline */
		assert_int_equal(sim_guest_get(sim, 0, &got, &len), 1);
		assert_int_equal(got, 1);
		assert_int_equal(lost(sim, 0), 0);
		assert_int_equal(sim_ring_start(sim, 0, 1), 0);
		sim_pause(sim);
		sim->queues[0].guest_awake = true;
		arrives(sim, 0, 2);
		sim_free(sim);
	}
}

/* --- what cannot be suspended -------------------------------------------------- */

/* Room that nobody wrote to goes back to the guest's ring, or into the next shadow. */
static void receive_buffers_that_the_device_never_used_come_again(void **state)
{
	struct sim *sim = sim_as_one(RESETTING, 1);
	struct umbra_error err = { "" };
	uint64_t got, start;
	uint32_t len;

	(void)state;
	assert_int_equal(sim_switch(sim, true, &err), 0);
	for (uint64_t i = 0; i < 5; i++)
		room(sim, 0, i);
	sim_run(sim);
	assert_int_equal(sim_backend_take(sim, 0, 3), 3);
	start = sim->host.now_us;
	assert_int_equal(sim_switch(sim, false, &err), 0);
	assert_int_equal(sim->host.now_us, start); /* nothing was waited for */
	assert_int_equal(lost(sim, 0), 0);
	assert_int_equal(returned(sim, 0), 3);
	for (uint64_t i = 0; i < 5; i++)
		arrives(sim, 0, i);

	/* Out of order: 1 and 3 stay with the device, 4 was never taken. */
	assert_int_equal(sim_switch(sim, true, &err), 0);
	for (uint64_t i = 0; i < 5; i++)
		room(sim, 0, i);
	sim_run(sim);
	assert_int_equal(sim_backend_take(sim, 0, 4), 4);
	sim_backend_complete(sim, 0, 2);
	sim_backend_complete(sim, 0, 0);
	sim_run(sim);
	assert_int_equal(sim_guest_get(sim, 0, &got, &len), 1);
	assert_int_equal(got, 2);
	assert_int_equal(sim_guest_get(sim, 0, &got, &len), 1);
	assert_int_equal(got, 0);
	assert_int_equal(sim_switch(sim, false, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "1 chains"));
	assert_non_null(strstr(err.text, "not the newest"));
	assert_non_null(strstr(err.text, "stays shadowed"));
	assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_SHADOWED);
	/* 1 waits in the table, before all others; 3 and 4 were taken anew */
	arrives(sim, 0, 1);
	arrives(sim, 0, 3);
	arrives(sim, 0, 4);
	nothing_arrives(sim, 0);
	assert_int_equal(sim_switch(sim, false, &err), 0);
	assert_int_equal(lost(sim, 0), 0);
	sim_free(sim);
}

/* A front-end that stops a machine and lets it go on finds all its room again. */
static void kept_buffers_outlive_a_stop_but_not_a_reset(void **state)
{
	(void)state;
	for (int is_reset = 0; is_reset < 2; is_reset++) {
		struct sim *sim = sim_as_one(FORGETFUL, 1);
		uint64_t got;
		uint32_t len;
		uint16_t base;

		room(sim, 0, 0);
		room(sim, 0, 1);
		sim_run(sim);
		assert_int_equal(sim_backend_take(sim, 0, 2), 2);
		sim_backend_complete(sim, 0, 1);
		sim_run(sim);
		assert_int_equal(sim_guest_get(sim, 0, &got, &len), 1);
		assert_int_equal(got, 1);
		base = ring_stop(sim, 0);
		assert_int_equal(base, 2);
		if (is_reset) /* the driver forgets its ring, and what is on it */
			shm_store16(&sim->queues[0].driver.split.used->idx, base);
		assert_int_equal(sim_ring_start(sim, 0, base), 0);
		sim_pause(sim);
		sim_run(sim);
		assert_int_equal(sim_backend_take(sim, 0, 2), !is_reset);
		sim_free(sim);
	}
}

static void complete_late(struct sim *sim)
{
	if (sim->host.now_us >= 20000 && sim->queues[0].held_count)
		sim_backend_complete(sim, 0, 0);
}

static void requests_are_waited_for_before_a_reset(void **state)
{
	(void)state;
	for (int shadowed = 0; shadowed < 2; shadowed++) {
		struct sim *sim = sim_as_one(RESETTING, 1);
		struct umbra_error err = { "" };
		uint64_t got;
		uint32_t len;

		assert_int_equal(sim_switch(sim, shadowed, &err), 0);
		sim->while_waiting = complete_late;
		request(sim, 0, 1);
		request(sim, 0, 2);
		sim_run(sim);
		assert_int_equal(sim_backend_take(sim, 0, 2), 2);
		assert_int_equal(sim_switch(sim, !shadowed, &err), 0);
		assert_true(sim->host.now_us >= 20000);
		assert_int_equal(sim->requests_lost, 0);
		assert_int_equal(sim_guest_get(sim, 0, &got, &len), 1);
		assert_int_equal(sim_guest_get(sim, 0, &got, &len), 1);
		sim_free(sim);
	}
}

/* 8 chains on the guest's ring, a device that takes rings of 4. */
static void a_guest_ring_too_large_for_the_device_is_shadowed_by_a_smaller_one(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < SIM_KINDS; i++) {
		struct sim *sim = sim_new(UMBRA_SHADOW_ON, 8, V1 | EVENT);
		struct umbra_error err = { "" };
		uint64_t serial = 0, got;
		uint32_t len;

		sim->backend.ring_max = 7; /* no power of two */
		sim_run_as_one(sim, sim_kinds[i]);
		sim_boot(sim, 1, V1 | EVENT);
		for (int round = 0; round < 20; round++) {
			for (int n = 0; n < 8; n++)
				assert_int_equal(sim_guest_add(sim, 0, 1, 0, ++serial), 1);
			sim_run(sim);
			assert_int_equal(sim->queues[0].told.size, 4);
			for (unsigned int done = 0; done < 8;) {
				unsigned int n = sim_backend_take(sim, 0, 3);

				assert_true(n > 0);
				for (; n; n--, done++)
					sim_backend_complete(sim, 0, 0);
				sim_run(sim);
			}
			for (uint64_t n = serial - 7; n <= serial; n++) {
				assert_int_equal(sim_guest_get(sim, 0, &got, &len), 1);
				assert_int_equal(got, n);
			}
		}
		assert_int_equal(shadow_device_switch(sim->device, false, &err), -EPERM);
		sim_free(sim);
	}
}

/* It has heard the kick when it says that it has taken nothing. */
static void a_device_that_is_about_to_take_is_asked_twice(void **state)
{
	struct sim *sim = sim_as_one(RESETTING, 1);
	struct umbra_error err = { "" };
	uint64_t got;
	uint32_t len;

	(void)state;
	sim->while_waiting = complete_late;
	sim->answers_first = true;
	sim_backend_take(sim, 0, 1); /* nothing: it sleeps */
	request(sim, 0, 1);
	assert_int_equal(sim_switch(sim, true, &err), 0);
	assert_int_equal(sim->requests_lost, 0);
	assert_int_equal(sim_guest_get(sim, 0, &got, &len), 1);
	sim_free(sim);
}

static void a_device_that_keeps_a_request_for_ever_is_not_reset_under_it(void **state)
{
	(void)state;
	for (int shadowed = 0; shadowed < 2; shadowed++) {
		struct sim *sim = sim_as_one(RESETTING, 2);
		struct umbra_error err = { "" };

		assert_int_equal(sim_switch(sim, shadowed, &err), 0);
		request(sim, 0, 1);
		sim_run(sim);
		assert_int_equal(sim_backend_take(sim, 0, 1), 1);
		assert_int_equal(sim_switch(sim, !shadowed, &err), -ETIME);
		assert_non_null(strstr(err.text, "queue 0"));
		assert_non_null(strstr(err.text, "VHOST_BACKEND_F_SUSPEND"));
		assert_non_null(strstr(err.text, "1 requests are still with it"));
		assert_int_equal(sim->device_stops, shadowed); /* of the first switch */
		assert_int_equal(sim_info(sim)->info.shadow_wanted, shadowed);
		request(sim, 1, 2);
		arrives(sim, 1, 2);
		arrives(sim, 0, 1);
		assert_int_equal(sim_switch(sim, !shadowed, &err), 0);

		/* The front-end that stops the ring gets it, at the deadline. */
		request(sim, 0, 3);
		sim_run(sim);
		assert_int_equal(sim_backend_take(sim, 0, 1), 1);
		assert_int_equal(lost(sim, 0), 0);
		assert_int_equal(ring_stop(sim, 0), 2);
		assert_int_equal(sim->requests_lost, 1);
		assert_int_equal(lost(sim, 0), 1);
		sim_pause(sim);
		request(sim, 1, 4);
		arrives(sim, 1, 4);
		sim_free(sim);
	}
}

/* So old that its index looks new: still it is the one that was taken, and lost. */
static void a_request_that_outlives_a_turn_of_the_index_is_not_taken_for_a_new_one(void **state)
{
	struct sim *sim = sim_as_one(RESETTING, 1);
	struct umbra_error err = { "" };
	uint64_t got;
	uint32_t len;

	(void)state;
	assert_int_equal(sim_switch(sim, true, &err), 0);
	request(sim, 0, 0);
	sim_run(sim);
	assert_int_equal(sim_backend_take(sim, 0, 1), 1);
	for (uint64_t i = 1; i < 65536; i++) {
		request(sim, 0, i);
		sim_run(sim);
		assert_int_equal(sim_backend_take(sim, 0, 1), 1);
		sim_backend_complete(sim, 0, 1);
		sim_run(sim);
		assert_int_equal(sim_guest_get(sim, 0, &got, &len), 1);
		assert_int_equal(got, i);
	}
	request(sim, 0, 65536);
	sim_run(sim);
	assert_int_equal(ring_stop(sim, 0), 0); /* 65536: the newest is to be taken again */
	assert_int_equal(sim->requests_lost, 1);
	assert_int_equal(lost(sim, 0), 1);
	sim_free(sim);
}

static void what_a_device_that_cannot_be_asked_has_is_not_guessed(void **state)
{
	struct sim *sim = sim_as_one(RESETTING, 1);
	struct umbra_error err = { "" };
	uint64_t start;

	(void)state;
	sim->tells_base = false;
	request(sim, 0, 1);
	arrives(sim, 0, 1);
	start = sim->host.now_us;
	assert_int_equal(sim_switch(sim, true, &err), -ETIME);
	assert_non_null(strstr(err.text, "as far as it can be asked"));
	assert_true(sim->host.now_us - start >= 100000);
	assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_PASSTHROUGH);
	request(sim, 0, 2);
	arrives(sim, 0, 2);

	/* A front-end that stops its ring is obeyed, and told the truth. */
	sim_backend_take(sim, 0, 1); /* asleep, with avail_event at 2 */
	request(sim, 0, 3);
	assert_int_equal(sim_backend_take(sim, 0, 1), 1); /* and that does not show */
	assert_int_equal(ring_stop(sim, 0), 3);
	assert_int_equal(sim->requests_lost, 1);
	assert_int_equal(lost(sim, 0), 1);
	sim_free(sim);
}

static void a_device_that_is_suspended_and_keeps_requests_lies(void **state)
{
	struct sim *sim = sim_as_one(SUSPENDING, 1);
	struct umbra_error err = { "" };

	(void)state;
	assert_int_equal(sim_switch(sim, true, &err), 0);
	sim->is_liar = true;
	request(sim, 0, 1);
	room(sim, 0, 2);
	request(sim, 0, 3);
	sim_run(sim);
	assert_int_equal(sim_backend_take(sim, 0, 2), 2);
	assert_int_equal(sim_switch(sim, false, &err), -ETIME);
	assert_non_null(strstr(err.text, "took 2 chains"));
	assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_SHADOWED);
	assert_int_equal(lost(sim, 0), 1);
	assert_int_equal(returned(sim, 0), 1);
	arrives(sim, 0, 2);
	arrives(sim, 0, 3);
	sim_free(sim);
}

static void a_device_without_ring_state_is_always_shadowed_and_says_why(void **state)
{
	struct sim *sim = sim_as_one(FORGETFUL, 1);
	struct sim *off = sim_new(UMBRA_SHADOW_OFF, 8, V1);
	struct umbra_error err = { "" };

	(void)state;
	assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_SHADOWED);
	assert_int_equal(sim_switch(sim, false, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "keeps no ring state"));
	assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_SHADOWED);

	sim_run_as_one(off, FORGETFUL);
	sim_boot(off, 1, V1);
	assert_int_equal(shadow_device_state(off->device), UMBRA_DEVICE_NEGOTIATING);
	assert_non_null(strstr(sim_info(off)->info.reason, "keeps no ring state"));
	sim_free(sim);
	sim_free(off);
}

/* --- steps that fail ------------------------------------------------------------- */

static void whatever_step_of_a_switch_fails_the_old_mode_goes_on(void **state)
{
	(void)state;
	for (int step = 0; step < 4; step++)
		for (int n = 0; n < 4; n++) {
			struct sim *sim = sim_as_one(n & 1 ? SUSPENDING : RESETTING, 2);
			bool shadowed = n & 2;
			struct umbra_error err = { "" };
			int *const fails[] = { &sim->fail_device_stop, &sim->fail_start,
					       &sim->fail_start, &sim->fail_device_start };

			assert_int_equal(sim_switch(sim, shadowed, &err), 0);
			sim->fail_device_stop_code = sim->fail_start_code =
				sim->fail_device_start_code = -EREMOTEIO;
			*fails[step] = step == 2 ? 2 : 1;
			room(sim, 1, 1);
			request(sim, 0, 2);
			assert_int_equal(sim_switch(sim, !shadowed, &err), -EREMOTEIO);
			assert_non_null(strstr(err.text, shadowed ? "stays shadowed"
								  : "stays passed through"));
			assert_non_null(strstr(err.text, "simulated"));
			assert_int_equal(sim_info(sim)->info.switches_failed, 1);
			assert_int_equal(shadow_device_state(sim->device),
					 shadowed ? UMBRA_DEVICE_SHADOWED
						  : UMBRA_DEVICE_PASSTHROUGH);
			arrives(sim, 0, 2);
			arrives(sim, 1, 1);
			assert_int_equal(sim_switch(sim, !shadowed, &err), 0);
			sim_free(sim);
		}
}

static int fail_again(struct virtio_device *b, struct umbra_error *err)
{
	(void)b;
	snprintf(err->text, sizeof(err->text), "simulated: out of memory");
	return -ENOMEM;
}

static void a_device_that_starts_in_neither_mode_is_tried_again(void **state)
{
	struct sim *sim = sim_as_one(RESETTING, 2);
	int (*device_start)(struct virtio_device *, struct umbra_error *) = sim->ops.device_start;
	struct umbra_error err = { "" };
	uint64_t before;

	(void)state;
	request(sim, 0, 1);
	sim->ops.device_start = fail_again;
	assert_int_equal(sim_switch(sim, true, &err), -ENOMEM);
	assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_NEGOTIATING);
	assert_non_null(strstr(sim_info(sim)->info.reason, "out of memory"));
	for (int i = 0; i < 3; i++) {
		before = sim->host.now_us;
		sim_pause(sim);
		assert_int_equal(sim->host.now_us - before, 1000000u << i);
		assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_NEGOTIATING);
	}
	sim->ops.device_start = device_start;
	sim_pause(sim);
	assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_PASSTHROUGH);
	assert_string_equal(sim_info(sim)->info.reason, "");
	arrives(sim, 0, 1);
	sim_free(sim);
}

static void a_device_that_is_lost_leaves_nothing_running(void **state)
{
	(void)state;
	for (int step = 0; step < 4; step++) {
		struct sim *sim = sim_as_one(RESETTING, 2);
		struct umbra_error err = { "" };
		int *const fails[] = { &sim->fail_device_stop, &sim->fail_start, &sim->fail_stop,
				       &sim->fail_device_start };

		assert_int_equal(sim_switch(sim, true, &err), 0);
		sim->fail_device_stop_code = sim->fail_start_code = sim->fail_stop_code =
			sim->fail_device_start_code = -ECONNRESET;
		*fails[step] = 1;
		request(sim, 0, 1);
		assert_int_equal(sim_switch(sim, false, &err), -ECONNRESET);
		assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_BACKEND_LOST);
		for (unsigned int q = 0; q < 2; q++)
			assert_null(sim->host.services[q]);
		shadow_device_tend(sim->device);
		assert_int_equal(shadow_device_tend_ms(sim->device), -1);
		sim_free(sim);
	}
}

/* The device says where a ring stopped, and one that does not is believed to
 * have done what its kind promises. */
static void a_ring_that_does_not_say_where_it_stopped_goes_on(void **state)
{
	(void)state;
	for (int n = 0; n < 4; n++) {
		struct sim *sim = sim_as_one(n & 1 ? SUSPENDING : RESETTING, 2);
		bool shadowed = n & 2;
		struct umbra_error err = { "" };

		assert_int_equal(sim_switch(sim, shadowed, &err), 0);
		request(sim, 0, 1);
		sim->fail_stop = 1;
		sim->fail_stop_code = -EREMOTEIO;
		if (shadowed)
			arrives(sim, 0, 1);
		assert_int_equal(sim_switch(sim, !shadowed, &err), 0);
		if (!shadowed)
			arrives(sim, 0, 1);
		request(sim, 0, 2);
		arrives(sim, 0, 2);
		sim_free(sim);
	}
}

/* --- a broken ring, a new table ---------------------------------------------------- */

static void a_broken_ring_is_left_out_of_what_follows(void **state)
{
	(void)state;
	for (size_t k = 0; k < SIM_KINDS; k++) {
		struct sim *sim = sim_as_one(sim_kinds[k], 2);
		struct sim_queue *q = &sim->queues[0];
		struct umbra_error err = { "" };

		if (sim_kinds[k] & BACKEND_KEEPS_INDEX)
			assert_int_equal(sim_switch(sim, true, &err), 0);
		shm_store16(&q->driver.split.avail->idx, 101);
		sim->host.notified[q->kick_fd]++;
		sim_run(sim);
		assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_BROKEN);
		if (sim_kinds[k] & BACKEND_KEEPS_INDEX)
			assert_int_equal(sim_switch(sim, false, &err), 0);
		assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_BROKEN);
		request(sim, 1, 1);
		arrives(sim, 1, 1);
		(void)ring_stop(sim, 0);
		sim_pause(sim);
		request(sim, 1, 2);
		arrives(sim, 1, 2);
		assert_true(shadow_device_state(sim->device) == UMBRA_DEVICE_PASSTHROUGH ||
			    sim_kinds[k] == FORGETFUL);
		sim_free(sim);
	}
}

static void a_table_that_needs_translation_is_refused_while_passed_through(void **state)
{
	struct sim *sim = sim_as_one(SUSPENDING, 1);
	struct memory_region extra = sim->guest;
	struct umbra_error err = { "" };

	(void)state;
	extra.gpa.v = SIM_GPA + SIM_QUEUES * SIM_SLOT;
	extra.uva.v = SIM_UVA + SIM_QUEUES * SIM_SLOT;
	extra.size = 4096;
	sim->iova_offset = 1ull << 40;
	assert_int_equal(sim->front->ops->add_region(sim->front, &extra, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "shadow"));
	request(sim, 0, 1);
	arrives(sim, 0, 1);
	sim_free(sim);

	sim = sim_new(UMBRA_SHADOW_AUTO, 8, V1);
	sim_run_as_one(sim, SUSPENDING);
	sim->iova_offset = 1ull << 40;
	sim_boot(sim, 1, V1);
	assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_SHADOWED);
	request(sim, 0, 1);
	arrives(sim, 0, 1);
	assert_int_equal(sim_switch(sim, false, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "translated"));
	sim_free(sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rings_that_start_one_by_one_start_the_device_once),
		cmocka_unit_test(a_device_is_not_started_before_the_pause_or_driver_ok),
		cmocka_unit_test(a_ring_that_comes_late_restarts_the_device_and_nothing_is_lost),
		cmocka_unit_test(a_disabled_ring_is_left_out_until_it_is_enabled),
		cmocka_unit_test(rings_that_stop_in_a_row_stop_the_device_once),
		cmocka_unit_test(one_ring_of_two_stops_and_the_other_goes_on),
		cmocka_unit_test(a_suspended_device_is_not_waited_for),
		cmocka_unit_test(receive_buffers_that_the_device_never_used_come_again),
		cmocka_unit_test(kept_buffers_outlive_a_stop_but_not_a_reset),
		cmocka_unit_test(requests_are_waited_for_before_a_reset),
		cmocka_unit_test(
			a_guest_ring_too_large_for_the_device_is_shadowed_by_a_smaller_one),
		cmocka_unit_test(a_device_that_is_about_to_take_is_asked_twice),
		cmocka_unit_test(a_device_that_keeps_a_request_for_ever_is_not_reset_under_it),
		cmocka_unit_test(
			a_request_that_outlives_a_turn_of_the_index_is_not_taken_for_a_new_one),
		cmocka_unit_test(what_a_device_that_cannot_be_asked_has_is_not_guessed),
		cmocka_unit_test(a_device_that_is_suspended_and_keeps_requests_lies),
		cmocka_unit_test(a_device_without_ring_state_is_always_shadowed_and_says_why),
		cmocka_unit_test(whatever_step_of_a_switch_fails_the_old_mode_goes_on),
		cmocka_unit_test(a_device_that_starts_in_neither_mode_is_tried_again),
		cmocka_unit_test(a_device_that_is_lost_leaves_nothing_running),
		cmocka_unit_test(a_ring_that_does_not_say_where_it_stopped_goes_on),
		cmocka_unit_test(a_broken_ring_is_left_out_of_what_follows),
		cmocka_unit_test(a_table_that_needs_translation_is_refused_while_passed_through),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
