/* SPDX-License-Identifier: BSD-2-Clause */
/* Switching a device between its modes loses, repeats and drops nothing. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/shm.h"
#include "sim.h"

#define V1 BIT64(VIRTIO_F_VERSION_1)
#define INDIRECT BIT64(VIRTIO_RING_F_INDIRECT_DESC)
#define EVENT BIT64(VIRTIO_RING_F_EVENT_IDX)

static int switch_to(struct sim *sim, bool shadowed)
{
	struct umbra_error err = { "" };

	return shadow_device_switch(sim->device, shadowed, &err);
}

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
		assert_int_equal(switch_to(sim, true), 0);
		sim_run(sim);
		assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_SHADOWED);
		assert_int_equal(switch_to(sim, false), 0);
		assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_PASSTHROUGH);
	}
	assert_int_equal(sim->now_us, 0); /* nothing was waited for */
	settle(sim, 0, &got);
	assert_int_equal(got, 5);
	sim_free(sim);
}

static void complete_oldest(struct sim *sim)
{
	if (sim->now_us < 1000)
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
		uint64_t before = sim->now_us = 0;

		for (uint64_t i = 0; i < 4; i++)
			assert_int_equal(sim_guest_add(sim, 0, 1, 1, i), 1);
		sim_run(sim);
		assert_int_equal(sim_backend_take(sim, 0, 3), 3);
		assert_int_equal(switch_to(sim, round % 2 == 0), 0);
		assert_true(sim->now_us - before >= 1000);
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
	assert_int_equal(shadow_device_switch(sim->device, true, &err), -ETIMEDOUT);
	assert_non_null(strstr(err.text, "queue 0"));
	assert_non_null(strstr(err.text, "EVENT_IDX"));
	assert_int_equal(sim->queues[0].held_count, 1);
	assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_PASSTHROUGH);
	settle(sim, 0, &got);
	assert_int_equal(got, 4);
	assert_int_equal(switch_to(sim, true), 0);
	sim_free(sim);
}

/* The guest adds one for each that comes back. */
static void busy_guest(struct sim *sim)
{
	uint64_t serial;
	uint32_t len;

	sim->queues[0].guest_awake = true;
	sim_backend_take(sim, 0, 8); /* once for each kick */
	if (sim->now_us % 400 == 0 && sim->queues[0].held_count)
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
		sim->now_us = 0;
		assert_int_equal(switch_to(sim, true), 0);
		assert_true(sim->now_us < 100000);
		sim_run(sim);
		assert_int_equal(switch_to(sim, false), 0);
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
	sim->backend.hush = BACKEND_HUSH_ENABLE;
	sim_boot(sim, 1, V1 | EVENT);
	sim_backend_take(sim, 0, 1);
	sim->while_waiting = backend_never_wakes;
	assert_int_equal(switch_to(sim, true), -ETIMEDOUT); /* later than it was promised */
	assert_true(sim->now_us >= 100000);
	assert_true(sim->backend.leaves_kicks);
	sim->now_us = 0;
	assert_int_equal(switch_to(sim, true), 0);
	assert_int_equal(switch_to(sim, false), 0);
	assert_int_equal(sim->now_us, 0);
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
		assert_int_equal(switch_to(sim, shadowed), 0);
		for (uint64_t i = 0; i < 6; i++)
			assert_int_equal(sim_guest_add(sim, 0, 1, 0, i), 1);
		sim_run(sim);
		assert_int_equal(sim_backend_take(sim, 0, 4), 4);
		assert_int_equal(shadow_device_switch(sim->device, !shadowed, &err), -ETIMEDOUT);
		assert_non_null(strstr(err.text, "queue 0"));
		assert_non_null(strstr(err.text, "6 chains"));
		assert_non_null(strstr(err.text, "100 ms"));
		assert_true(sim->now_us >= 100000 && sim->now_us < 110000);
		assert_int_equal(shadow_device_state(sim->device),
				 shadowed ? UMBRA_DEVICE_SHADOWED : UMBRA_DEVICE_PASSTHROUGH);
		/* no fd of the mode that was not reached is left behind */
		assert_int_equal(sim->queues[0].told.call_fd == sim->queues[0].call_fd, !shadowed);
		assert_int_equal(sim->queues[0].told.kick_fd == sim->queues[0].kick_fd, !shadowed);
		settle(sim, 0, &got);
		assert_int_equal(got, 6);
		assert_int_equal(switch_to(sim, !shadowed), 0);
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
		assert_int_equal(switch_to(sim, true), 0);
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
		assert_int_equal(switch_to(sim, true), 0);
		sim->fail_stop = which;
		sim->fail_stop_code = -ECONNRESET;
		assert_int_equal(shadow_device_switch(sim->device, false, &err), -ECONNRESET);
		assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_BACKEND_LOST);
		for (unsigned int q = 0; q < 2; q++)
			assert_null(sim->services[q]);
		/* whatever the front-end asks now gets an answer */
		assert_int_equal(shadow_device_ring_stop(sim->device, 0, &base, &err), 0);
		assert_int_equal(shadow_device_switch(sim->device, true, &err), 0);
		sim_free(sim);
	}
}

static void a_backend_that_lies_about_its_base_breaks_that_ring_alone(void **state)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 8, V1);
	struct umbra_shadow_info *info = calloc(1, sizeof(*info));
	struct umbra_error err = { "" };

	(void)state;
	sim_boot(sim, 2, V1);
	assert_int_equal(switch_to(sim, true), 0);
	assert_int_equal(sim_guest_add(sim, 0, 0, 2, 1), 1);
	sim_run(sim);
	sim->base_lie = 5; /* more than it was given, on both */
	assert_int_equal(shadow_device_switch(sim->device, false, &err), -EPROTO);
	assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_BROKEN);
	shadow_device_info(sim->device, info);
	assert_non_null(strstr(info->queues[0].error, "stopped at index 5"));
	free(info);
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
	assert_int_equal(switch_to(sim, true), 0);
	assert_int_equal(sim_guest_add(sim, 0, 1, 1, 1), 1);
	sim_run(sim);
	assert_int_equal(sim_backend_take(sim, 0, 1), 1);
	/* 100 chains at once on a ring of 8 */
	shm_store16(&q->driver.split.avail->idx, 101);
	sim->notified[q->kick_fd]++;
	sim_run(sim);
	assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_BROKEN);

	assert_int_equal(sim_guest_add(sim, 1, 1, 1, 9), 1);
	settle(sim, 1, &got);
	assert_int_equal(got, 1);

	/* The driver resets it; what is in flight must not end in its next life. */
	sim->while_waiting = complete_oldest;
	assert_int_equal(shadow_device_ring_stop(sim->device, 0, &base, &err), 0);
	assert_int_equal(q->held_count, 0);
	assert_int_equal(q->started, false);
	assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_SHADOWED);
	sim_free(sim);
}

static void messages_that_repeat_what_is_known_do_not_touch_the_backend(void **state)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 8, V1);
	struct umbra_error err = { "" };
	struct split_offsets o = split_offsets(8);

	(void)state;
	sim_boot(sim, 1, V1);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(shadow_device_set_features(sim->device, V1, &err), 0);
		assert_int_equal(shadow_device_ring_set_size(sim->device, 0, 8, &err), 0);
		assert_int_equal(shadow_device_ring_set_addr(sim->device, 0,
							     (uva_t){ SIM_UVA + o.desc },
							     (uva_t){ SIM_UVA + o.avail },
							     (uva_t){ SIM_UVA + o.used }, &err),
				 0);
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
		assert_int_equal(shadow_device_ring_stop(sim->device, 0, &base, &err), 0);
		assert_int_equal(base, got);
		if (i % 3 == 0)
			assert_int_equal(switch_to(sim, i % 6 == 0), 0);
		assert_int_equal(sim_ring_start(sim, 0, base), 0);
	}
	settle(sim, 0, &got);
	assert_int_equal(got, given);
	sim_free(sim);
}

static void a_kick_fd_that_is_exchanged_under_a_running_ring_is_heard(void **state)
{
	static const enum backend_hush hushes[] = { BACKEND_HUSH_NOT, BACKEND_HUSH_KICK,
						    BACKEND_HUSH_ENABLE };

	(void)state;
	for (size_t i = 0; i < 2 * ARRAY_SIZE(hushes); i++) {
		struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 8, V1 | EVENT);
		struct umbra_error err = { "" };
		uint64_t got = 0, given = 0;

		sim->backend.hush = hushes[i / 2];
		sim->while_waiting = complete_oldest;
		sim_boot(sim, 1, V1 | EVENT);
		assert_int_equal(switch_to(sim, i % 2), 0);
		sim->now_us = 1000;
		for (int round = 0; round < 10; round++) {
			int fd = sim->next_fd++;

			/* one in its hands, one that it has not seen */
			assert_int_equal(sim_guest_add(sim, 0, 1, 1, given++), 1);
			sim_run(sim);
			assert_int_equal(sim_backend_take(sim, 0, 1), 1);
			assert_int_equal(sim_guest_add(sim, 0, 1, 1, given++), 1);
			sim->queues[0].kick_fd = fd;
			assert_int_equal(shadow_device_ring_set_kick(sim->device, 0, &fd, &err), 0);
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

/* passt; its guest's kicks are in nobody's hand. */
static void a_backend_that_ends_at_a_late_kick_is_not_stopped_under_a_running_guest(void **state)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 8, V1);
	struct umbra_error err = { "" };
	uint64_t got = 0;
	uint16_t base;

	(void)state;
	sim->backend.hush = BACKEND_HUSH_ENABLE;
	sim->backend.ends_at_late_kick = true;
	sim->while_waiting = complete_oldest;
	sim_boot(sim, 1, V1);
	sim_backend_take(sim, 0, 1);
	assert_int_equal(shadow_device_switch(sim->device, true, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "shadow=on"));
	assert_int_equal(sim->queues[0].stops, 0);
	assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_PASSTHROUGH);
	/* The front-end, whose guest stands still, stops it; then it is shadowed, and back,
	 * since those kicks are ours. */
	assert_int_equal(shadow_device_ring_stop(sim->device, 0, &base, &err), 0);
	assert_int_equal(switch_to(sim, true), 0);
	assert_int_equal(sim_ring_start(sim, 0, base), 0);
	assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_SHADOWED);
	assert_int_equal(sim_guest_add(sim, 0, 1, 1, 7), 1);
	settle(sim, 0, &got);
	assert_int_equal(got, 1);
	sim->now_us = 1000;
	assert_int_equal(switch_to(sim, false), 0);
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
	assert_int_equal(shadow_device_get_features(sim->device, &offered, &err), 0);
	assert_int_equal(shadow_device_set_features(sim->device, V1, &err), 0);
	for (unsigned int i = 0; i < 8; i++) {
		table[i] = sim->guest;
		table[i].size = 4096;
		table[i].gpa.v += i * 4096;
		table[i].uva.v += i * 4096;
		table[i].host += i * 4096;
	}
	assert_int_equal(shadow_device_set_memory(sim->device, table, 8, &err), 0);
	assert_int_equal(sim->backend_memory->count, 8);
	assert_int_equal(shadow_device_switch(sim->device, true, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "8 regions"));
	assert_int_equal(shadow_device_set_memory(sim->device, table, 7, &err), 0);
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
		assert_int_equal(switch_to(sim, i % 2), 0);
		assert_int_equal(sim_guest_add(sim, 0, 1, 1, i), 1);
		assert_int_equal(shadow_device_add_region(sim->device, &extra, &err), 0);
		settle(sim, 0, &got);
		assert_int_equal(got, i + 1);
		assert_int_equal(shadow_device_remove_region(sim->device, extra.gpa, extra.uva,
							     extra.size, &err),
				 0);
	}
	/* a table without the ring is refused, and the ring lives on */
	assert_int_equal(shadow_device_set_memory(sim->device, &extra, 1, &err), -EINVAL);
	assert_non_null(strstr(err.text, "queue 0"));
	assert_int_equal(sim_guest_add(sim, 0, 1, 1, 77), 1);
	settle(sim, 0, &got);
	assert_int_equal(got, 21);
	sim_free(sim);
}

/* --- everything at random ------------------------------------------------------ */

#define SERIALS 4096u /* per queue in one run */

/* Back-ends as they are found. */
struct family {
	const char *name;
	enum backend_hush hush;
	unsigned int traits; /* with BACKEND_WHOLE: sim_be_whole() */
	bool tells_base;
	uint64_t iova_offset;
	bool can_pass;
	unsigned int rounds;
};

static const struct family families[] = {
	{ .name = "completes before it stops (DPDK)", .can_pass = true, .rounds = 2 },
	{ .name = "hushed by its kick fd (libvhost-user)",
	  .hush = BACKEND_HUSH_KICK,
	  .can_pass = true,
	  .rounds = 4 },
	{ .name = "hushed by being disabled (rust-vmm)",
	  .hush = BACKEND_HUSH_ENABLE,
	  .can_pass = true,
	  .rounds = 4 },
	{ .name = "suspends, keeps index (vdpa_sim)",
	  .hush = BACKEND_HUSH_KICK,
	  .traits = BACKEND_WHOLE | BACKEND_MAPS | BACKEND_SUSPENDS | BACKEND_KEEPS_INDEX,
	  .can_pass = true,
	  .rounds = 2 },
	{ .name = "keeps index (VDUSE)",
	  .hush = BACKEND_HUSH_KICK,
	  .traits = BACKEND_WHOLE | BACKEND_MAPS | BACKEND_KEEPS_INDEX,
	  .tells_base = true,
	  .can_pass = true,
	  .rounds = 2 },
	{ .name = "neither (vp_vdpa)",
	  .hush = BACKEND_HUSH_KICK,
	  .traits = BACKEND_WHOLE | BACKEND_MAPS,
	  .rounds = 1 },
	{ .name = "suspends, keeps no index",
	  .hush = BACKEND_HUSH_KICK,
	  .traits = BACKEND_WHOLE | BACKEND_MAPS | BACKEND_SUSPENDS,
	  .rounds = 1 },
	{ .name = "keeps index, translated",
	  .hush = BACKEND_HUSH_KICK,
	  .traits = BACKEND_WHOLE | BACKEND_MAPS | BACKEND_KEEPS_INDEX,
	  .tells_base = true,
	  .iova_offset = 1ull << 40,
	  .rounds = 1 },
};

struct load {
	struct sim *sim;
	const struct family *family;
	unsigned int queues;
	uint32_t random;
	uint64_t given[SIM_QUEUES], got[SIM_QUEUES], oldest[SIM_QUEUES];
	uint8_t taken[SIM_QUEUES][SERIALS], returned[SIM_QUEUES][SERIALS];
	bool asks[SIM_QUEUES][SERIALS];
	uint32_t writable[SIM_QUEUES][SERIALS];
	bool down[SIM_QUEUES], extra;
	uint16_t base[SIM_QUEUES];
	unsigned int switches, refused, stops, faults;
};

static uint32_t draw(struct load *l, uint32_t below)
{
	l->random = l->random * 1664525u + 1013904223u;
	return (uint32_t)(((uint64_t)(l->random >> 8) * below) >> 24);
}

static struct load *current;

/* A request is taken once.  Room that a device was reset with comes again. */
static void backend_turn(struct load *l, unsigned int q, unsigned int max)
{
	struct sim_queue *sq = &l->sim->queues[q];
	unsigned int before = sq->held_count;

	sim_backend_take(l->sim, q, max);
	for (unsigned int i = before; i < sq->held_count; i++) {
		uint64_t serial = sq->held[i].serial;

		assert_true(serial < l->given[q]);
		assert_false(l->returned[q][serial]);
		l->taken[q][serial]++;
		if (l->asks[q][serial])
			assert_int_equal(l->taken[q][serial], 1);
		for (unsigned int j = 0; j < i; j++)
			assert_true(sq->held[j].serial != serial);
	}
}

static void complete_any(struct load *l, unsigned int q)
{
	unsigned int held = l->sim->queues[q].held_count;

	if (held)
		sim_backend_complete(l->sim, q, draw(l, held));
}

static void guest_turn(struct load *l, unsigned int q)
{
	uint64_t serial;
	uint32_t len;

	if (!sim_guest_get(l->sim, q, &serial, &len))
		return;
	assert_true(serial < l->given[q]);
	assert_int_equal(++l->returned[q][serial], 1);
	assert_true(l->taken[q][serial] >= 1);
	assert_int_equal(len, l->writable[q][serial]);
	l->got[q]++;
	while (l->oldest[q] < l->given[q] && l->returned[q][l->oldest[q]])
		l->oldest[q]++;
}

static void guest_give(struct load *l, unsigned int q)
{
	uint64_t serial = l->given[q];
	unsigned int size = l->sim->size, out = 1, in = 0;

	if (serial == SERIALS || serial - l->oldest[q] >= 256)
		return;        /* its place in memory may be in use */
	if (draw(l, 3) == 0) { /* a receive buffer */
		out = 0;
		in = 1 + draw(l, size < 6 ? size : 6);
	} else if (size > 1) {
		in = draw(l, size < 6 ? size - 1 : 6);
		out += draw(l, size - in < 3 ? size - in : 3);
	}
	l->asks[q][serial] = out > 0;
	l->writable[q][serial] = in * 64 - (out ? 0 : (uint32_t)(serial % 8));
	l->given[q]++; /* the back-end may see it before add() returns */
	if (!sim_guest_add(l->sim, q, out, in, serial))
		l->given[q]--;
}

/* While a switch waits, the guest goes on and the back-end completes. */
static void world_goes_on(struct sim *sim)
{
	struct load *l = current;
	unsigned int q = draw(l, l->queues);

	assert_ptr_equal(l->sim, sim);
	if (draw(l, 2))
		guest_give(l, q);
	/* One that is not hushed goes on taking, but uses more than it takes. */
	if ((sim->runs || !sim->backend.traits) && draw(l, 2))
		backend_turn(l, q, 1 + draw(l, 8));
	for (unsigned int n = 6; n; n--)
		complete_any(l, draw(l, l->queues));
	guest_turn(l, q);
}

static void takes_all(struct sim *sim, unsigned int q)
{
	assert_ptr_equal(current->sim, sim);
	backend_turn(current, q, 1000);
}

static void ring_down_or_up(struct load *l, unsigned int q)
{
	struct umbra_error err = { "" };

	if (l->down[q]) {
		assert_int_equal(sim_ring_start(l->sim, q, l->base[q]), 0);
		/* The guest that was stopped looks at its rings when it goes on. */
		l->sim->queues[q].guest_awake = true;
	} else {
		assert_int_equal(shadow_device_ring_stop(l->sim->device, q, &l->base[q], &err), 0);
		l->stops++;
	}
	l->down[q] = !l->down[q];
}

static void table_change(struct load *l)
{
	struct memory_region extra = l->sim->guest;
	struct umbra_error err = { "" };

	extra.gpa.v = SIM_GPA + SIM_QUEUES * SIM_SLOT;
	extra.uva.v = SIM_UVA + SIM_QUEUES * SIM_SLOT;
	extra.size = 4096;
	if (l->extra)
		assert_int_equal(shadow_device_remove_region(l->sim->device, extra.gpa, extra.uva,
							     extra.size, &err),
				 0);
	else
		assert_int_equal(shadow_device_add_region(l->sim->device, &extra, &err), 0);
	l->extra = !l->extra;
}

/* One step of the switch fails, or none. */
static void fault_choose(struct load *l)
{
	struct sim *sim = l->sim;

	sim->fail_start = sim->fail_stop = sim->fail_device_start = sim->fail_device_stop = 0;
	sim->fail_start_code = sim->fail_device_start_code = sim->fail_device_stop_code =
		sim->fail_stop_code = -EREMOTEIO;
	if (!sim->backend.traits)
		return;
	switch (draw(l, 8)) {
	case 0:
		sim->fail_start = 1 + (int)draw(l, 3);
		break;
	case 1:
		sim->fail_device_start = 1 + (int)draw(l, 2);
		break;
	case 2:
		sim->fail_device_stop = 1;
		break;
	}
}

static void try_switch(struct load *l)
{
	static struct umbra_shadow_info info;
	struct sim *sim = l->sim;
	bool shadowed;
	int rc;

	shadow_device_info(sim->device, &info);
	shadowed = !info.shadow_wanted;
	fault_choose(l);
	rc = switch_to(sim, shadowed);
	shadow_device_info(sim->device, &info);
	if (!l->family->can_pass) {
		assert_int_equal(rc, info.shadow_wanted ? -EOPNOTSUPP : 0);
	} else if (!sim->backend.traits) {
		assert_int_equal(rc, 0);
	} else if (rc == -EREMOTEIO) {
		l->faults++;
	} else if (rc == -ETIMEDOUT || rc == -EOPNOTSUPP) {
		/* It kept requests; or it had used room out of order. */
		assert_false(sim->backend.traits & BACKEND_SUSPENDS);
		l->refused++;
	} else {
		assert_int_equal(rc, 0);
	}
	if (!rc)
		l->switches++;
	fault_choose(l);
	sim->fail_start = sim->fail_device_start = sim->fail_device_stop = 0;
}

static void random_step(struct load *l, unsigned int q)
{
	switch (draw(l, 12)) {
	case 0 ... 3:
		guest_give(l, q);
		break;
	case 4 ... 5:
		backend_turn(l, q, 1 + draw(l, 4));
		break;
	case 6 ... 7:
		complete_any(l, q);
		break;
	case 8:
		sim_run(l->sim);
		break;
	case 9 ... 10:
		guest_turn(l, q);
		break;
	case 11:
		if (draw(l, 4) == 0)
			try_switch(l);
		else if (draw(l, 8) == 0)
			ring_down_or_up(l, q);
		else if (draw(l, 8) == 0)
			table_change(l);
		else
			sim_pause(l->sim);
		break;
	}
}

static void run_load(const struct family *family, uint16_t size, uint64_t features, uint32_t seed)
{
	struct load *l = calloc(1, sizeof(*l));
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, size, features);
	bool done = false;

	assert_non_null(l);
	l->sim = sim;
	l->family = family;
	l->queues = 2;
	l->random = seed;
	current = l;
	sim->backend.hush = family->hush;
	if (family->traits)
		sim_be_whole(sim, family->traits);
	sim->tells_base = family->tells_base;
	sim->iova_offset = family->iova_offset;
	sim->while_waiting = world_goes_on;
	sim->before_answer = takes_all;
	sim_boot(sim, l->queues, features);
	while (!done) {
		random_step(l, draw(l, l->queues));
		done = true;
		for (unsigned int q = 0; q < l->queues; q++)
			done &= l->given[q] == SERIALS;
	}
	for (unsigned int q = 0; q < l->queues; q++)
		if (l->down[q])
			ring_down_or_up(l, q);
	/* No more from the guest: what is under way must arrive by notifications
	 * alone. */
	for (unsigned int i = 0; i < 20 * 256; i++)
		for (unsigned int q = 0; q < l->queues; q++) {
			sim_pause(sim);
			sim_run(sim);
			backend_turn(l, q, 8);
			complete_any(l, q);
			guest_turn(l, q);
		}
	for (unsigned int q = 0; q < l->queues; q++)
		assert_int_equal(l->got[q], SERIALS);
	assert_int_equal(sim->requests_lost, 0);
	print_message("  switches %u, refused %u, faults %u, stops %u\n", l->switches, l->refused,
		      l->faults, l->stops);
	assert_true(l->switches > 10 || !family->can_pass);
	assert_true(l->stops > 3 || !family->traits);
	sim_free(sim);
	free(l);
}

static void random_switching_loses_repeats_and_drops_nothing(void **state)
{
	static const uint16_t sizes[] = { 1, 2, 4, 256 };
	static const uint64_t features[] = { V1, V1 | EVENT, V1 | INDIRECT, V1 | INDIRECT | EVENT };
	const char *given = getenv("UMBRA_SEED");
	uint32_t seed = given ? (uint32_t)strtoul(given, NULL, 0) : (uint32_t)random();

	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(families); k++)
		for (unsigned int n = 0; n < families[k].rounds * ARRAY_SIZE(sizes) * 4; n++) {
			uint16_t size = sizes[n / 4 % 4];
			uint64_t f = features[n % 4];

			print_message("%s, size %u, features 0x%llx, UMBRA_SEED=%u\n",
				      families[k].name, size, (unsigned long long)f, seed);
			run_load(&families[k], size, f, seed);
			seed = given ? seed : seed + 1;
		}
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
		cmocka_unit_test(random_switching_loses_repeats_and_drops_nothing),
	};

	srandom((unsigned int)getpid());
	return cmocka_run_group_tests(tests, NULL, NULL);
}
