/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is refused leaves what was there: the old eventfd serves on, the other queues run,
 * and who asked is told the truth.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "sim.h"

static struct sim *boot(unsigned int rings, bool shadowed)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 8, V1 | EVENT);
	struct umbra_error err;

	sim_boot(sim, rings, V1 | EVENT);
	assert_int_equal(shadow_device_switch(sim->device, shadowed, &err), 0);
	sim_run(sim);
	return sim;
}

static enum umbra_device_state state_of(struct sim *sim)
{
	return shadow_device_state(sim->device);
}

/* --- eventfds ----------------------------------------------------------------- */

/* A front-end says its kick fd, its call fd or its err fd. */
#define SETTERS 3u

static int set_fd(struct sim *sim, unsigned int setter, unsigned int queue, int *fd,
		  struct umbra_error *err)
{
	const struct virtio_ops *ops = sim->front->ops;

	if (setter == 0)
		return ops->ring_set_kick(sim->front, queue, fd, err);
	if (setter == 1)
		return ops->ring_set_call(sim->front, queue, fd, err);
	return ops->ring_set_err(sim->front, queue, fd, err);
}

static void an_eventfd_that_is_refused_leaves_the_old_one(void **state)
{
	(void)state;
	for (unsigned int n = 0; n < 2 * SETTERS; n++) {
		bool shadowed = n % 2, here = shadowed && n / 2 < 2;
		struct sim *sim = boot(2, shadowed);
		struct umbra_error err = { "" };
		int fd = sim->host.next_fd++, given = fd;

		if (here)
			sim->host.fail_serves = 1;
		else
			sim->fail_fds = 1;
		assert_int_equal(set_fd(sim, n / 2, 0, &fd, &err), here ? -EPERM : -EREMOTEIO);
		assert_int_equal(fd, given); /* still the caller's */
		assert_non_null(strstr(err.text, "simulated"));
		assert_int_equal(state_of(sim),
				 shadowed ? UMBRA_DEVICE_SHADOWED : UMBRA_DEVICE_PASSTHROUGH);
		for (uint64_t i = 0; i < 20; i++)
			sim_serve(sim, 0, i);
		sim_serve(sim, 1, 50);
		/* And the next one that is good is taken. */
		sim->queues[0].kick_fd = n / 2 == 0 ? given : sim->queues[0].kick_fd;
		sim->queues[0].call_fd = n / 2 == 1 ? given : sim->queues[0].call_fd;
		sim->queues[0].calls_heard = sim_notified(sim, sim->queues[0].call_fd);
		assert_int_equal(set_fd(sim, n / 2, 0, &fd, &err), 0);
		assert_int_equal(fd, -1);
		sim_serve(sim, 0, 60);
		assert_int_equal(shadow_device_switch(sim->device, !shadowed, &err), 0);
		sim_serve(sim, 0, 61);
		sim_free(sim);
	}
}

/* Nobody serves a queue without saying so. */
static void a_queue_whose_old_eventfd_cannot_be_had_back_is_broken(void **state)
{
	(void)state;
	for (unsigned int n = 0; n < 2 * 2; n++) { /* kick and call */
		bool shadowed = n % 2;
		struct sim *sim = boot(2, shadowed);
		struct umbra_error err = { "" };
		int fd = sim->host.next_fd++;
		uint16_t base;

		if (shadowed)
			sim->host.fail_serves = 2;
		else
			sim->fail_fds = 2;
		assert_int_not_equal(set_fd(sim, n / 2, 0, &fd, &err), 0);
		assert_int_equal(state_of(sim), UMBRA_DEVICE_BROKEN);
		/* The words of either, and not once more of which queue. */
		assert_ptr_equal(strstr(sim_info(sim)->queues[0].error, "simulated"),
				 sim_info(sim)->queues[0].error);
		sim_serve(sim, 1, 1);
		/* The front-end stops it, and starts it anew. */
		assert_int_equal(ring_stop_at(sim->front, 0, &base, &err), 0);
		assert_int_equal(sim_ring_start(sim, 0, base), 0);
		sim_serve(sim, 0, 2);
		sim_free(sim);
	}
}

/* --- a queue too many ------------------------------------------------------------ */

static void a_queue_too_many_is_refused_and_the_others_do_not_notice(void **state)
{
	static const unsigned int traits[] = {
		0,
		SUSPENDING,
		RESETTING,
	};

	(void)state;
	for (unsigned int n = 0; n < ARRAY_SIZE(traits); n++) {
		struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 8, V1 | EVENT);
		struct umbra_error err = { "" };
		unsigned int events;
		int fd;
		struct virtio_ring_addr addr;

		sim->queue_num = 2;
		sim->tells_base = true;
		if (traits[n])
			sim_run_as_one(sim, traits[n]);
		sim_boot(sim, 2, V1 | EVENT);
		assert_int_equal(shadow_device_switch(sim->device, true, &err), 0);
		sim_serve(sim, 0, 1);
		events = sim->host.event_count;
		for (unsigned int q = 0; q < 2; q++)
			sim->queues[q].starts = sim->queues[q].stops = 0;
		sim->fail_start = 1; /* a back-end that is asked would refuse as well */
		sim->fail_start_code = -EREMOTEIO;
		addr = sim_ring_addr(sim, 2);
		assert_int_equal(sim->front->ops->ring_set_size(sim->front, 2, 8, &err), 0);
		assert_int_equal(sim->front->ops->ring_set_addr(sim->front, 2, &addr, &err), 0);
		fd = sim->host.next_fd++;
		assert_int_equal(sim->front->ops->ring_enable(sim->front, 2, true, &err), 0);
		assert_int_not_equal(sim->front->ops->ring_set_kick(sim->front, 2, &fd, &err), 0);
		assert_non_null(strstr(err.text, "queue 2"));
		assert_true(fd >= 0);
		for (int i = 0; i < 5; i++)
			sim_pause(sim);
		for (unsigned int q = 0; q < 2; q++) {
			assert_int_equal(sim->queues[q].starts, 0);
			assert_int_equal(sim->queues[q].stops, 0);
		}
		assert_int_equal(state_of(sim), UMBRA_DEVICE_SHADOWED);
		assert_int_equal(sim->host.event_count, events);
		assert_int_equal(shadow_device_tend_ms(sim->device), -1);
		sim_serve(sim, 0, 2);
		sim_serve(sim, 1, 3);
		sim->fail_start = 0;
		assert_int_equal(shadow_device_switch(sim->device, false, &err), 0);
		sim_serve(sim, 0, 4);
		sim_free(sim);
	}
}

/* --- a switch ------------------------------------------------------------------- */

static void a_switch_in_which_a_queue_breaks_is_no_success(void **state)
{
	(void)state;
	for (int shadowed = 0; shadowed < 2; shadowed++) {
		struct sim *sim = boot(2, shadowed);
		struct umbra_error err = { "" };
		const struct umbra_shadow_picture *info;

		sim_serve(sim, 0, 1);
		sim->honest = 1u << 1;
		sim->base_lie = 5;
		assert_int_equal(shadow_device_switch(sim->device, !shadowed, &err), -EPROTO);
		assert_non_null(strstr(err.text, "queue 0"));
		assert_non_null(strstr(err.text, "stopped at index 6"));
		assert_non_null(strstr(err.text, shadowed ? "others are passed through"
							  : "others are shadowed"));
		info = sim_info(sim);
		/* All of it. */
		assert_non_null(strstr(err.text, info->queues[0].error));
		assert_int_equal(info->queues[1].shadowed, !shadowed);
		assert_int_equal(info->info.shadow_wanted, !shadowed);
		assert_int_equal(info->info.switches_failed, 1);
		sim_serve(sim, 1, 2);
		/* What is broken already breaks no further switch. */
		assert_int_equal(shadow_device_switch(sim->device, shadowed, &err), 0);
		sim_serve(sim, 1, 3);
		sim_free(sim);
	}
}

/* A wait of ours that was too long is not the end of a connection. */
static void a_switch_that_is_given_up_is_no_backend_that_is_lost(void **state)
{
	(void)state;
	for (int shadowed = 0; shadowed < 2; shadowed++) {
		struct sim *sim = boot(2, shadowed);
		struct umbra_error err = { "" };
		int rc;

		assert_int_equal(sim_guest_add(sim, 1, 1, 1, 7), 1);
		sim_run(sim);
		assert_int_equal(sim_backend_take(sim, 1, 1), 1);
		rc = shadow_device_switch(sim->device, !shadowed, &err);
		assert_true(rc < 0);
		assert_false(backend_is_lost(rc));
		assert_non_null(strstr(err.text, "the device stays"));
		sim_serve(sim, 0, 1);
		/* One that does not answer is. */
		sim_backend_complete(sim, 1, 0);
		sim->fail_start = 1;
		sim->fail_start_code = -ETIMEDOUT;
		rc = shadow_device_switch(sim->device, !shadowed, &err);
		assert_true(backend_is_lost(rc));
		assert_int_equal(state_of(sim), UMBRA_DEVICE_BACKEND_LOST);
		sim_free(sim);
	}
}

/*
 * Queue 0 has not got back into either mode, and is tried again; the back-end keeps a
 * request of queue 1; and a table was refused that would have left no room for the
 * shadow.
 */
static void a_queue_that_is_tried_again_does_not_end_the_others(void **state)
{
	struct sim *sim = boot(2, true);
	struct memory_region table[8];
	struct umbra_error err = { "" };
	uint16_t base;
	uint64_t got;
	uint32_t len;

	(void)state;
	sim_serve(sim, 1, 1);
	sim->fail_start = sim->fail_start_again = 1;
	sim->fail_start_code = -EREMOTEIO;
	assert_int_equal(shadow_device_switch(sim->device, false, &err), -EREMOTEIO);
	sim->fail_start = sim->fail_start_again = 0;
	assert_int_equal(ring_stop_at(sim->front, 1, &base, &err), 0);
	assert_int_equal(sim_ring_start(sim, 1, base), 0);
	assert_int_equal(sim_guest_add(sim, 1, 1, 1, 7), 1);
	sim_run(sim);
	assert_int_equal(sim_backend_take(sim, 1, 1), 1);
	for (unsigned int i = 0; i < ARRAY_SIZE(table); i++) {
		table[i] = sim->guest;
		table[i].gpa.v += i * (UINT64_C(1) << 30);
		table[i].uva.v += i * (UINT64_C(1) << 30);
	}
	assert_int_equal(sim->front->ops->set_memory(sim->front, table, ARRAY_SIZE(table), &err),
			 -EINVAL);
	assert_non_null(strstr(err.text, "no room at the back-end"));
	sim_pause(sim);
	assert_int_not_equal(state_of(sim), UMBRA_DEVICE_BACKEND_LOST);
	sim_serve(sim, 0, 2); /* the table that stands has room */
	sim_backend_complete(sim, 1, 0);
	sim_run(sim);
	assert_int_equal(sim_guest_get(sim, 1, &got, &len), 1);
	assert_int_equal(got, 7);
	sim_serve(sim, 1, 3);
	sim_free(sim);
}

/* A queue that was stopped for a switch that failed, and whose new start is refused, is started by
 * the next attempt. */
static void a_stopped_queue_whose_resume_is_refused_is_tried_again(void **state)
{
	(void)state;
	for (unsigned int shadowed = 0; shadowed < 2; shadowed++) {
		struct sim *sim = boot(2, shadowed);
		struct umbra_error err = { "" };

		sim_serve(sim, 0, 1);
		sim_serve(sim, 1, 2);
		sim->fail_stop = 2; /* the second */
		sim->fail_stop_code = -EREMOTEIO;
		sim->fail_start = 1;
		sim->fail_start_code = -EREMOTEIO;
		assert_int_equal(shadow_device_switch(sim->device, !shadowed, &err), -EREMOTEIO);
		assert_int_equal(sim->fail_stop + sim->fail_start, 0);
		assert_false(sim->queues[0].started);
		sim->host.now_us += 1000000; /* the first retry */
		sim_pause(sim);
		assert_true(sim->queues[0].started);
		sim_run(sim);
		sim_serve(sim, 0, 3);
		sim_serve(sim, 1, 4);
		sim_free(sim);
	}
}

/*
 * A ring that cannot be shadowed is started while the others are shadowed: they are switched
 * for it, and that fails.  It does not begin with those that are started in the old mode again.
 */
static void a_ring_for_which_the_others_are_not_switched_is_not_started(void **state)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 8, V1 | EVENT);
	struct umbra_error err = { "" };
	uint16_t base;

	(void)state;
	sim_hush_by(sim, HUSH_NOT);
	sim->answers_at_once = sim->is_silent = true;
	sim_boot(sim, 2, V1 | EVENT);
	assert_int_equal(sim_guest_add(sim, 0, 1, 1, 7), 1);
	assert_int_equal(sim_backend_take(sim, 0, 1), 1);
	sim->base_lie = 5;
	sim->honest = 1u << 1;
	assert_int_equal(sim_switch(sim, true, &err), -EPROTO);
	sim->base_lie = 0;
	assert_int_equal(ring_stop_at(sim->front, 0, &base, &err), 0);
	sim->queues[0].held_count = 0; /* of which nobody knows any more */
	sim_driver_begin(sim, 0, V1 | EVENT);
	for (unsigned int n = 0; n < 2; n++) {
		sim->fail_start = 1;
		sim->fail_start_code = -EREMOTEIO;
		assert_int_equal(sim_ring_start(sim, 0, 0), -EREMOTEIO);
		assert_int_equal(sim->fail_start, 0);
		assert_false(sim->queues[0].started);
		assert_true(sim->queues[1].started);
		assert_true(sim_info(sim)->queues[1].shadowed);
		sim_serve(sim, 1, 8 + n);
	}
	/* Where they are switched, it begins. */
	assert_int_equal(sim_ring_start(sim, 0, 0), 0);
	assert_true(sim->queues[0].started);
	assert_false(sim_info(sim)->queues[1].shadowed);
	sim_serve(sim, 1, 10);
	sim_free(sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_eventfd_that_is_refused_leaves_the_old_one),
		cmocka_unit_test(a_queue_whose_old_eventfd_cannot_be_had_back_is_broken),
		cmocka_unit_test(a_queue_too_many_is_refused_and_the_others_do_not_notice),
		cmocka_unit_test(a_switch_in_which_a_queue_breaks_is_no_success),
		cmocka_unit_test(a_switch_that_is_given_up_is_no_backend_that_is_lost),
		cmocka_unit_test(a_queue_that_is_tried_again_does_not_end_the_others),
		cmocka_unit_test(a_stopped_queue_whose_resume_is_refused_is_tried_again),
		cmocka_unit_test(a_ring_for_which_the_others_are_not_switched_is_not_started),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
