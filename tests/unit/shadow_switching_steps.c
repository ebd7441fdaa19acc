/* SPDX-License-Identifier: BSD-2-Clause */
/* Switching a device between its modes, one thing at a time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/shm.h"
#include "sim.h"

/* Everybody acts until nothing moves; the back-end completes all it takes. */
static void settle(struct sim *sim, unsigned int queue, uint64_t *got)
{
	uint64_t serial;
	uint32_t len;
	bool moved;

	do {
		moved = false;
		sim_run(sim);
		moved |= sim_backend_take(sim, queue, 1000) > 0;
		while (sim->queues[queue].held_count) {
			sim_backend_complete(sim, queue, 0);
			moved = true;
		}
		sim_run(sim);
		while (sim_guest_get(sim, queue, &serial, &len)) {
			(*got)++;
			moved = true;
		}
	} while (moved);
}

/* --- one thing at a time ---------------------------------------------------- */

static void chains_that_the_backend_never_took_go_back_and_come_again(void **state)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 8, V1 | INDIRECT | EVENT);
	uint64_t got = 0;

	(void)state;
	sim_boot(sim, 1, V1 | INDIRECT | EVENT);
	for (uint64_t i = 0; i < 5; i++)
		assert_int_equal(sim_guest_add(sim, 0, 0, 3, i), 1);
	/* a receive queue: nobody will use these for a long time */
	for (int i = 0; i < 10; i++) {
		assert_int_equal(sim_switch(sim, true, NULL), 0);
		sim_run(sim);
		assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_SHADOWED);
		assert_int_equal(sim_switch(sim, false, NULL), 0);
		assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_PASSTHROUGH);
	}
	assert_int_equal(sim->host.now_us, 0); /* nothing was waited for */
	settle(sim, 0, &got);
	assert_int_equal(got, 5);
	sim_free(sim);
}

static void complete_oldest(struct sim *sim)
{
	if (sim->host.now_us < 1000)
		return;
	sim_backend_take(sim, 0, 1);
	if (sim->queues[0].held_count)
		sim_backend_complete(sim, 0, 0);
}

/* Here and below: on one that hangs up, or dies, if it is stopped in the midst of its work. */
static void chains_that_the_backend_took_are_waited_for(void **state)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 8, V1 | EVENT);
	uint64_t got = 0;

	(void)state;
	sim_boot(sim, 1, V1 | EVENT);
	sim->while_waiting = complete_oldest;
	for (int round = 0; round < 4; round++) {
		uint64_t before = sim->host.now_us = 0;

		for (uint64_t i = 0; i < 4; i++)
			assert_int_equal(sim_guest_add(sim, 0, 1, 1, i), 1);
		sim_run(sim);
		assert_int_equal(sim_backend_take(sim, 0, 3), 3);
		assert_int_equal(sim_switch(sim, round % 2 == 0, NULL), 0);
		assert_true(sim->host.now_us - before >= 1000);
		assert_int_equal(sim->queues[0].held_count, 0);
		settle(sim, 0, &got);
		assert_int_equal(got, 4 * (round + 1));
	}
	sim_free(sim);
}

/* Nothing is guessed from what a ring looks like for a while. */
static void where_nobody_knows_what_was_taken_the_switch_fails_rather_than_race(void **state)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 8, V1);
	struct umbra_error err = { "" };
	uint64_t got = 0;

	(void)state;
	sim_boot(sim, 1, V1);
	for (uint64_t i = 0; i < 4; i++)
		assert_int_equal(sim_guest_add(sim, 0, 1, 1, i), 1);
	assert_int_equal(sim_backend_take(sim, 0, 3), 3);
	/* It took the fourth when it was told to be quiet, and keeps it. */
	for (int i = 0; i < 3; i++)
		sim_backend_complete(sim, 0, 0);
	assert_int_equal(shadow_device_switch(sim->device, true, &err), -ETIME);
	assert_non_null(strstr(err.text, "queue 0"));
	assert_non_null(strstr(err.text, "EVENT_IDX"));
	assert_int_equal(sim->queues[0].held_count, 1);
	assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_PASSTHROUGH);
	settle(sim, 0, &got);
	assert_int_equal(got, 4);
	assert_int_equal(sim_switch(sim, true, NULL), 0);
	sim_free(sim);
}

/* The guest adds one for each that comes back. */
static void busy_guest(struct sim *sim)
{
	uint64_t serial;
	uint32_t len;

	sim->queues[0].guest_awake = true;
	sim_backend_take(sim, 0, 8); /* once for each kick */
	if (sim->host.now_us % 400 == 0 && sim->queues[0].held_count)
		sim_backend_complete(sim, 0, 0);
	if (sim_guest_get(sim, 0, &serial, &len))
		assert_int_equal(sim_guest_add(sim, 0, 1, 1, serial), 1);
}

static void a_ring_without_event_idx_under_load_is_sounded(void **state)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 8, V1);

	(void)state;
	sim_boot(sim, 1, V1);
	sim->while_waiting = busy_guest;
	for (uint64_t i = 0; i < 4; i++)
		assert_int_equal(sim_guest_add(sim, 0, 1, 1, i), 1);
	for (int round = 0; round < 20; round++) {
		sim_backend_take(sim, 0, 8);
		sim->host.now_us = 0;
		assert_int_equal(sim_switch(sim, true, NULL), 0);
		assert_true(sim->host.now_us < 100000);
		sim_run(sim);
		assert_int_equal(sim_switch(sim, false, NULL), 0);
	}
	assert_int_equal(sim->queues[0].driver.error.fault, RING_OK);
	sim_free(sim);
}

static void backend_never_wakes(struct sim *sim)
{
	(void)sim;
}

/* One that looks at a disabled ring's kicks never: found out once, at the deadline. */
static void a_backend_that_leaves_kicks_unread_is_waited_for_once(void **state)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 8, V1 | EVENT);

	(void)state;
	sim_hush_by(sim, HUSH_BY_ENABLE);
	sim_boot(sim, 1, V1 | EVENT);
	sim_backend_take(sim, 0, 1);
	sim->while_waiting = backend_never_wakes;
	assert_int_equal(sim_switch(sim, true, NULL), -ETIME); /* later than it was promised */
	assert_true(sim->host.now_us >= 100000);
	assert_true(sim->hush.leaves_kicks);
	sim->host.now_us = 0;
	assert_int_equal(sim_switch(sim, true, NULL), 0);
	assert_int_equal(sim_switch(sim, false, NULL), 0);
	assert_int_equal(sim->host.now_us, 0);
	sim_free(sim);
}

static void a_backend_that_keeps_chains_makes_the_switch_fail_and_the_old_mode_go_on(void **state)
{
	(void)state;
	for (int shadowed = 0; shadowed < 2; shadowed++) {
		struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 8, V1 | EVENT);
		struct umbra_error err = { "" };
		uint64_t got = 0;

		sim_boot(sim, 1, V1 | EVENT);
		assert_int_equal(sim_switch(sim, shadowed, NULL), 0);
		for (uint64_t i = 0; i < 6; i++)
			assert_int_equal(sim_guest_add(sim, 0, 1, 0, i), 1);
		sim_run(sim);
		assert_int_equal(sim_backend_take(sim, 0, 4), 4);
		assert_int_equal(shadow_device_switch(sim->device, !shadowed, &err), -ETIME);
		assert_non_null(strstr(err.text, "queue 0"));
		assert_non_null(strstr(err.text, "6 chains"));
		assert_non_null(strstr(err.text, "100 ms"));
		assert_true(sim->host.now_us >= 100000 && sim->host.now_us < 110000);
		assert_int_equal(shadow_device_state(sim->device),
				 shadowed ? UMBRA_DEVICE_SHADOWED : UMBRA_DEVICE_PASSTHROUGH);
		/* no fd of the mode that was not reached is left behind */
		assert_int_equal(sim->queues[0].told.call_fd == sim->queues[0].call_fd, !shadowed);
		assert_int_equal(sim->queues[0].told.kick_fd == sim->queues[0].kick_fd, !shadowed);
		settle(sim, 0, &got);
		assert_int_equal(got, 6);
		assert_int_equal(sim_switch(sim, !shadowed, NULL), 0);
		sim_free(sim);
	}
}

static void a_ring_that_does_not_start_in_the_new_mode_goes_on_in_the_old_one(void **state)
{
	(void)state;
	for (int which = 1; which <= 3; which++) {
		struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 8, V1 | EVENT);
		struct umbra_error err = { "" };
		uint64_t got = 0;

		sim_boot(sim, 3, V1 | EVENT);
		sim->fail_start = which;
		sim->fail_start_code = -EREMOTEIO;
		assert_int_equal(sim_guest_add(sim, 1, 1, 1, 7), 1);
		assert_int_equal(shadow_device_switch(sim->device, true, &err), -EREMOTEIO);
		assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_PASSTHROUGH);
		for (unsigned int q = 0; q < 3; q++)
			assert_true(sim->queues[q].started);
		settle(sim, 1, &got);
		assert_int_equal(got, 1);
		assert_int_equal(sim_switch(sim, true, NULL), 0);
		sim_free(sim);
	}
}

static void a_backend_that_is_lost_in_a_switch_leaves_nothing_running(void **state)
{
	(void)state;
	for (int which = 1; which <= 2; which++) {
		struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 8, V1);
		struct umbra_error err = { "" };
		uint16_t base;

		sim_boot(sim, 2, V1);
		assert_int_equal(sim_switch(sim, true, NULL), 0);
		sim->fail_stop = which;
		sim->fail_stop_code = -ECONNRESET;
		assert_int_equal(shadow_device_switch(sim->device, false, &err), -ECONNRESET);
		assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_BACKEND_LOST);
		for (unsigned int q = 0; q < 2; q++)
			assert_null(sim->host.services[q]);
		/* whatever the front-end asks now gets an answer */
		assert_int_equal(ring_stop_at(sim->front, 0, &base, &err), 0);
		assert_int_equal(shadow_device_switch(sim->device, true, &err), 0);
		sim_free(sim);
	}
}

static void a_backend_that_lies_about_its_base_breaks_that_ring_alone(void **state)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 8, V1);
	struct umbra_error err = { "" };

	(void)state;
	sim_boot(sim, 2, V1);
	assert_int_equal(sim_switch(sim, true, NULL), 0);
	assert_int_equal(sim_guest_add(sim, 0, 0, 2, 1), 1);
	sim_run(sim);
	sim->base_lie = 5; /* more than it was given, on both */
	assert_int_equal(shadow_device_switch(sim->device, false, &err), -EPROTO);
	assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_BROKEN);
	assert_non_null(strstr(sim_info(sim)->queues[0].error, "stopped at index 5"));
	sim_free(sim);
}

static void the_modes_on_and_off_refuse_to_be_switched(void **state)
{
	struct sim *on = sim_new(UMBRA_SHADOW_ON, 8, V1);
	struct sim *off = sim_new(UMBRA_SHADOW_OFF, 8, V1);
	struct umbra_error err = { "" };

	(void)state;
	sim_boot(on, 1, V1);
	sim_boot(off, 1, V1);
	assert_int_equal(shadow_device_state(on->device), UMBRA_DEVICE_SHADOWED);
	assert_int_equal(shadow_device_switch(on->device, false, &err), -EPERM);
	assert_non_null(strstr(err.text, "shadow=on"));
	assert_int_equal(shadow_device_state(off->device), UMBRA_DEVICE_PASSTHROUGH);
	assert_int_equal(shadow_device_switch(off->device, true, &err), -EPERM);
	assert_non_null(strstr(err.text, "shadow=off"));
	sim_free(on);
	sim_free(off);
}

static void a_guest_that_breaks_its_ring_keeps_its_other_rings(void **state)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 8, V1);
	struct sim_queue *q = &sim->queues[0];
	struct umbra_error err = { "" };
	uint64_t got = 0;
	uint16_t base;

	(void)state;
	sim_boot(sim, 2, V1);
	assert_int_equal(sim_switch(sim, true, NULL), 0);
	assert_int_equal(sim_guest_add(sim, 0, 1, 1, 1), 1);
	sim_run(sim);
	assert_int_equal(sim_backend_take(sim, 0, 1), 1);
	/* 100 chains at once on a ring of 8 */
	shm_store16(&q->driver.split.avail->idx, 101);
	sim->host.notified[q->kick_fd]++;
	sim_run(sim);
	assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_BROKEN);

	assert_int_equal(sim_guest_add(sim, 1, 1, 1, 9), 1);
	settle(sim, 1, &got);
	assert_int_equal(got, 1);

	/* The driver resets it; what is in flight must not end in its next life. */
	sim->while_waiting = complete_oldest;
	assert_int_equal(ring_stop_at(sim->front, 0, &base, &err), 0);
	assert_int_equal(q->held_count, 0);
	assert_int_equal(q->started, false);
	assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_SHADOWED);
	sim_free(sim);
}

static void messages_that_repeat_what_is_known_do_not_touch_the_backend(void **state)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 8, V1);
	struct virtio_ring_addr addr = sim_ring_addr(sim, 0);
	struct umbra_error err = { "" };

	(void)state;
	sim_boot(sim, 1, V1);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(sim->front->ops->set_features(sim->front, V1, &err), 0);
		assert_int_equal(sim->front->ops->ring_set_size(sim->front, 0, 8, &err), 0);
		assert_int_equal(sim->front->ops->ring_set_addr(sim->front, 0, &addr, &err), 0);
	}
	assert_int_equal(sim->queues[0].starts, 1);
	assert_int_equal(sim->queues[0].stops, 0);
	assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_PASSTHROUGH);
	sim_free(sim);
}

static void a_stopped_ring_goes_on_where_it_was_whatever_its_mode(void **state)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 8, V1 | EVENT);
	struct umbra_error err = { "" };
	uint64_t got = 0, given = 0;
	uint16_t base;

	(void)state;
	sim_boot(sim, 1, V1 | EVENT);
	for (int i = 0; i < 40; i++) {
		assert_int_equal(sim_guest_add(sim, 0, 1, 1, given++), 1);
		assert_int_equal(sim_guest_add(sim, 0, 1, 1, given++), 1);
		sim_run(sim);
		if (i % 2)
			settle(sim, 0, &got);
		assert_int_equal(ring_stop_at(sim->front, 0, &base, &err), 0);
		assert_int_equal(base, got);
		if (i % 3 == 0)
			assert_int_equal(sim_switch(sim, i % 6 == 0, NULL), 0);
		assert_int_equal(sim_ring_start(sim, 0, base), 0);
	}
	settle(sim, 0, &got);
	assert_int_equal(got, given);
	sim_free(sim);
}

static void a_kick_fd_that_is_exchanged_under_a_running_ring_is_heard(void **state)
{
	static const enum hush_way hushes[] = { HUSH_NOT, HUSH_BY_KICK, HUSH_BY_ENABLE };

	(void)state;
	for (size_t i = 0; i < 2 * ARRAY_SIZE(hushes); i++) {
		struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 8, V1 | EVENT);
		struct umbra_error err = { "" };
		uint64_t got = 0, given = 0;

		sim_hush_by(sim, hushes[i / 2]);
		sim->while_waiting = complete_oldest;
		sim_boot(sim, 1, V1 | EVENT);
		assert_int_equal(sim_switch(sim, i % 2, NULL), 0);
		sim->host.now_us = 1000;
		for (int round = 0; round < 10; round++) {
			int fd = sim->host.next_fd++;

			/* one in its hands, one that it has not seen */
			assert_int_equal(sim_guest_add(sim, 0, 1, 1, given++), 1);
			sim_run(sim);
			assert_int_equal(sim_backend_take(sim, 0, 1), 1);
			assert_int_equal(sim_guest_add(sim, 0, 1, 1, given++), 1);
			sim->queues[0].kick_fd = fd;
			assert_int_equal(sim->front->ops->ring_set_kick(sim->front, 0, &fd, &err),
					 0);
			assert_int_equal(fd, -1);
			settle(sim, 0, &got);
			assert_int_equal(got, given);
			assert_int_equal(sim_guest_add(sim, 0, 1, 1, given++), 1);
			settle(sim, 0, &got);
			assert_int_equal(got, given);
		}
		sim_free(sim);
	}
}

static int passt_check_hush(const struct virtio_device *b, struct umbra_error *err)
{
	(void)b;
	return error_set(err, -EOPNOTSUPP, "simulated: it ends at a kick");
}

/* passt; its guest's kicks are in nobody's hand. */
static void a_backend_that_ends_at_a_late_kick_is_not_stopped_under_a_running_guest(void **state)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 8, V1);
	struct umbra_error err = { "" };
	uint64_t got = 0;
	uint16_t base;

	(void)state;
	sim_hush_by(sim, HUSH_BY_ENABLE);
	sim->ops.check_hush = passt_check_hush;
	sim->while_waiting = complete_oldest;
	sim_boot(sim, 1, V1);
	sim_backend_take(sim, 0, 1);
	assert_int_equal(shadow_device_switch(sim->device, true, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "it ends at a kick: "));
	assert_non_null(strstr(err.text, "shadow=on"));
	assert_int_equal(sim->queues[0].stops, 0);
	assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_PASSTHROUGH);
	/* The front-end, whose guest stands still, stops it; then it is shadowed, and back,
	 * since those kicks are ours. */
	assert_int_equal(ring_stop_at(sim->front, 0, &base, &err), 0);
	assert_int_equal(sim_switch(sim, true, NULL), 0);
	assert_int_equal(sim_ring_start(sim, 0, base), 0);
	assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_SHADOWED);
	assert_int_equal(sim_guest_add(sim, 0, 1, 1, 7), 1);
	settle(sim, 0, &got);
	assert_int_equal(got, 1);
	sim->host.now_us = 1000;
	assert_int_equal(sim_switch(sim, false, NULL), 0);
	assert_int_equal(shadow_device_switch(sim->device, true, &err), -EOPNOTSUPP);
	sim_free(sim);
}

/* --- memory ------------------------------------------------------------------ */

static void a_table_that_leaves_no_slot_is_passed_through_and_says_why(void **state)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 8, V1);
	struct memory_region table[8];
	struct umbra_error err = { "" };
	uint64_t offered;

	(void)state;
	assert_int_equal(sim->front->ops->get_features(sim->front, &offered, &err), 0);
	assert_int_equal(sim->front->ops->set_features(sim->front, V1, &err), 0);
	for (unsigned int i = 0; i < 8; i++) {
		table[i] = sim->guest;
		table[i].size = 4096;
		table[i].gpa.v += i * 4096;
		table[i].uva.v += i * 4096;
		table[i].host += i * 4096;
	}
	assert_int_equal(sim->front->ops->set_memory(sim->front, table, 8, &err), 0);
	assert_int_equal(sim->backend_memory->count, 8);
	assert_int_equal(shadow_device_switch(sim->device, true, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "8 regions"));
	assert_int_equal(sim->front->ops->set_memory(sim->front, table, 7, &err), 0);
	assert_int_equal(sim->backend_memory->count, 8);
	assert_int_equal(shadow_device_switch(sim->device, true, &err), 0);
	sim_free(sim);
}

static void the_table_can_change_under_running_rings(void **state)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 8, V1);
	struct umbra_error err = { "" };
	struct memory_region extra;
	uint64_t got = 0;

	(void)state;
	sim_boot(sim, 1, V1);
	extra = sim->guest;
	extra.gpa.v = SIM_GPA + SIM_QUEUES * SIM_SLOT;
	extra.uva.v = SIM_UVA + SIM_QUEUES * SIM_SLOT;
	extra.size = 4096;
	for (uint64_t i = 0; i < 20; i++) {
		assert_int_equal(sim_switch(sim, i % 2, NULL), 0);
		assert_int_equal(sim_guest_add(sim, 0, 1, 1, i), 1);
		assert_int_equal(sim->front->ops->add_region(sim->front, &extra, &err), 0);
		settle(sim, 0, &got);
		assert_int_equal(got, i + 1);
		assert_int_equal(sim->front->ops->remove_region(sim->front, &extra, &err), 0);
	}
	/* a table without the ring is refused, and the ring lives on */
	assert_int_equal(sim->front->ops->set_memory(sim->front, &extra, 1, &err), -EINVAL);
	assert_non_null(strstr(err.text, "queue 0"));
	assert_int_equal(sim_guest_add(sim, 0, 1, 1, 77), 1);
	settle(sim, 0, &got);
	assert_int_equal(got, 21);
	sim_free(sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(chains_that_the_backend_never_took_go_back_and_come_again),
		cmocka_unit_test(chains_that_the_backend_took_are_waited_for),
		cmocka_unit_test(
			where_nobody_knows_what_was_taken_the_switch_fails_rather_than_race),
		cmocka_unit_test(a_ring_without_event_idx_under_load_is_sounded),
		cmocka_unit_test(a_backend_that_leaves_kicks_unread_is_waited_for_once),
		cmocka_unit_test(
			a_backend_that_keeps_chains_makes_the_switch_fail_and_the_old_mode_go_on),
		cmocka_unit_test(a_ring_that_does_not_start_in_the_new_mode_goes_on_in_the_old_one),
		cmocka_unit_test(a_backend_that_is_lost_in_a_switch_leaves_nothing_running),
		cmocka_unit_test(a_backend_that_lies_about_its_base_breaks_that_ring_alone),
		cmocka_unit_test(the_modes_on_and_off_refuse_to_be_switched),
		cmocka_unit_test(a_guest_that_breaks_its_ring_keeps_its_other_rings),
		cmocka_unit_test(messages_that_repeat_what_is_known_do_not_touch_the_backend),
		cmocka_unit_test(a_stopped_ring_goes_on_where_it_was_whatever_its_mode),
		cmocka_unit_test(a_kick_fd_that_is_exchanged_under_a_running_ring_is_heard),
		cmocka_unit_test(
			a_backend_that_ends_at_a_late_kick_is_not_stopped_under_a_running_guest),
		cmocka_unit_test(a_table_that_leaves_no_slot_is_passed_through_and_says_why),
		cmocka_unit_test(the_table_can_change_under_running_rings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
