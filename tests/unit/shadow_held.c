/* SPDX-License-Identifier: BSD-2-Clause */
/* A device without a back-end, and a front-end that does not wait for the next one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>

#include "base/shm.h"
#include "device/shadow_device_private.h"
#include "shadow_hold_rig.h"

static struct umbra_error err;

static void what_was_learnt_is_answered(void **state)
{
	struct sim *sim = boot();
	const struct virtio_ops *ask = sim->front->ops;
	uint64_t value = 0;
	uint8_t status;

	(void)state;
	assert_int_equal(ask->get_queue_num(sim->front, &value, &err), 0);
	lose(sim);
	calls = 0;
	assert_int_equal(ask->get_features(sim->front, &value, &err), 0);
	assert_true(value & V1);
	assert_int_equal(ask->get_queue_num(sim->front, &value, &err), 0);
	assert_int_equal(value, 2);
	assert_int_equal(ask->get_config(sim->front, 0, &value, 8, &err), 0);
	assert_int_equal(value, SECTORS);
	assert_int_equal(ask->get_config(sim->front, 8, &value, 8, &err), -EREMOTEIO);
	assert_int_equal(ask->set_config(sim->front, 0, &value, 8, 0, &err), -EREMOTEIO);
	assert_int_equal(ask->get_status(sim->front, &status, &err), 0);
	assert_int_equal(status, 0xf);
	assert_int_equal(calls, 0);
	comes(sim);
	sim_free(sim);
}

static void a_message_that_finds_it_dead_is_to_be_asked_again(void **state)
{
	struct sim *sim = boot();
	uint64_t capacity = 0;

	(void)state;
	request(sim, 0, 1);
	dies_at = calls + 1;
	assert_int_equal(sim->front->ops->get_config(sim->front, 0, &capacity, 8, &err), -ERESTART);
	is(sim, UMBRA_DEVICE_HELD);
	bury(sim);
	assert_int_equal(sim->front->ops->get_config(sim->front, 0, &capacity, 8, &err), 0);
	assert_int_equal(capacity, SECTORS);
	comes(sim);
	has(sim, 0, 1, (const uint64_t[]){ 1 });
	sim_free(sim);
}

/* It is stopped, and goes on at the same index: a VM that is paused. */
static void rings_are_stopped_and_started_without_a_back_end(void **state)
{
	struct sim *sim = boot();
	uint16_t base;

	(void)state;
	request(sim, 0, 1);
	request(sim, 0, 2);
	lose(sim);
	assert_int_equal(ring_stop_at(sim->front, 0, &base, &err), 0);
	assert_int_equal(base, 2);
	assert_int_equal(sim_ring_start(sim, 0, base), 0);
	is(sim, UMBRA_DEVICE_HELD);
	request(sim, 0, 3);
	comes(sim);
	has(sim, 0, 3, (const uint64_t[]){ 1, 2, 3 });
	completes_all(sim, 0);
	gets(sim, 0, 1);
	sim_free(sim);
}

/* As where a driver is unbound and bound again. */
static void rings_are_disabled_and_enabled_without_a_back_end(void **state)
{
	struct sim *sim = boot();
	const struct virtio_ops *ask = sim->front->ops;

	(void)state;
	request(sim, 0, 1);
	lose(sim);
	assert_int_equal(ask->ring_enable(sim->front, 0, false, &err), 0);
	is(sim, UMBRA_DEVICE_HELD);
	assert_int_equal(ask->ring_enable(sim->front, 0, true, &err), 0);
	comes(sim);
	has(sim, 0, 1, (const uint64_t[]){ 1 });
	completes_all(sim, 0);
	gets(sim, 0, 1);

	/* One that is disabled when the next one comes begins when it is enabled. */
	request(sim, 0, 2);
	lose(sim);
	assert_int_equal(ask->ring_enable(sim->front, 0, false, &err), 0);
	comes(sim);
	assert_false(sim->queues[0].started);
	assert_int_equal(ask->ring_enable(sim->front, 0, true, &err), 0);
	has(sim, 0, 1, (const uint64_t[]){ 2 });
	completes_all(sim, 0);
	gets(sim, 0, 2);
	gets_nothing(sim, 0);
	sim_free(sim);
}

/*
 * What was given again, and not taken, can go back to the guest's ring only as far as it is the
 * newest there: the rest waits, whether the ring goes on in this life or in another.
 */
static void a_ring_whose_back_end_did_not_take_what_it_was_given_again_is_stopped(void **state)
{
	(void)state;
	for (unsigned int way = 0; way < 2; way++) {
		struct sim *sim = boot();
		const struct virtio_ops *ask = sim->front->ops;
		uint16_t base;

		returns_with_a_gap(sim);
		if (way == 0) {
			assert_int_equal(ask->ring_enable(sim->front, 0, false, &err), 0);
			assert_int_equal(ask->ring_enable(sim->front, 0, true, &err), 0);
		} else {
			assert_int_equal(ring_stop_at(sim->front, 0, &base, &err), 0);
			assert_int_equal(base, 2); /* 3 is the guest's again, 1 waits */
			assert_int_equal(sim_ring_start(sim, 0, base), 0);
		}
		is(sim, UMBRA_DEVICE_SHADOWED);
		has(sim, 0, 2, (const uint64_t[]){ 1, 3 });
		completes_all(sim, 0);
		gets(sim, 0, 1);
		gets(sim, 0, 3);
		gets_nothing(sim, 0);
		sim_free(sim);
	}
}

/* A back-end that is passed through would never hear of it. */
static void what_waits_is_not_passed_through(void **state)
{
	struct sim *sim = boot_with(UMBRA_SHADOW_AUTO, VIRTIO_ID_BLOCK);
	uint16_t base;

	(void)state;
	assert_int_equal(shadow_device_switch(sim->device, true, &err), 0);
	returns_with_a_gap(sim);
	assert_int_equal(ring_stop_at(sim->front, 0, &base, &err), 0);
	assert_int_equal(shadow_device_switch(sim->device, false, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "queue 0: 1 requests wait"));
	assert_int_equal(sim_ring_start(sim, 0, base), 0);
	is(sim, UMBRA_DEVICE_SHADOWED);
	has(sim, 0, 2, (const uint64_t[]){ 1, 3 });
	completes_all(sim, 0);
	gets(sim, 0, 1);
	gets(sim, 0, 3);
	assert_int_equal(shadow_device_switch(sim->device, false, &err), 0);
	is(sim, UMBRA_DEVICE_PASSTHROUGH);
	sim_free(sim);
}

/* It dies as it is asked to stop a ring. */
static void a_ring_whose_stop_finds_it_dead_is_stopped_all_the_same(void **state)
{
	(void)state;
	for (unsigned int done = 0; done < 2; done++) {
		struct sim *sim = boot();
		uint16_t base;

		request(sim, 1, 1);
		sim_backend_take(sim, 1, 1);
		sim_backend_complete(sim, 1, 0);
		dies_at = calls + 1 + done;
		assert_int_equal(ring_stop_at(sim->front, 1, &base, &err), -ERESTART);
		is(sim, UMBRA_DEVICE_HELD);
		bury(sim);
		gets(sim, 1, 1);
		assert_int_equal(ring_stop_at(sim->front, 1, &base, &err), 0);
		assert_int_equal(base, 1);
		comes(sim);
		sim_free(sim);
	}
}

static void a_guest_that_resets_its_device_is_owed_nothing(void **state)
{
	struct sim *sim = boot();

	(void)state;
	request(sim, 0, 1);
	lose(sim);
	assert_int_equal(sim->front->ops->set_status(sim->front, 0, &err), 0);
	assert_int_equal(shadow_device_held(sim->device), 0);
	sim_driver_begin(sim, 0, V1 | EVENT);
	assert_int_equal(sim_ring_start(sim, 0, 0), 0);
	request(sim, 0, 7);
	assert_int_equal(shadow_device_return(sim->device, &sim->backend, &err), 0);
	has(sim, 0, 1, (const uint64_t[]){ 7 });
	sim_free(sim);
}

static void a_front_end_that_leaves_leaves_nothing(void **state)
{
	struct sim *sim = boot();

	(void)state;
	request(sim, 0, 1);
	lose(sim);
	sim->front->ops->detach(sim->front);
	shadow_device_await(sim->device, NULL);
	is(sim, UMBRA_DEVICE_WAITING);
	sim_free(sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_learnt_is_answered),
		cmocka_unit_test(a_message_that_finds_it_dead_is_to_be_asked_again),
		cmocka_unit_test(rings_are_stopped_and_started_without_a_back_end),
		cmocka_unit_test(rings_are_disabled_and_enabled_without_a_back_end),
		cmocka_unit_test(
			a_ring_whose_back_end_did_not_take_what_it_was_given_again_is_stopped),
		cmocka_unit_test(what_waits_is_not_passed_through),
		cmocka_unit_test(a_ring_whose_stop_finds_it_dead_is_stopped_all_the_same),
		cmocka_unit_test(a_guest_that_resets_its_device_is_owed_nothing),
		cmocka_unit_test(a_front_end_that_leaves_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
