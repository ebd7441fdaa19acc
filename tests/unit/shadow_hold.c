/* SPDX-License-Identifier: BSD-2-Clause */
/* A device whose back-end is lost goes on without it, and with the next one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>

#include "base/shm.h"
#include "device/shadow_device_private.h"
#include "shadow_hold_rig.h"

static struct umbra_error err;

/* --- a loss, and a return -------------------------------------------------------------------- */

static void what_was_not_done_is_given_to_the_next_one_in_the_order_of_the_guest(void **state)
{
	struct sim *sim = boot();

	(void)state;
	for (uint64_t serial = 1; serial <= 4; serial++)
		request(sim, 0, serial);
	has(sim, 0, 4, (const uint64_t[]){ 1, 2, 3, 4 });
	sim_backend_complete(sim, 0, 2); /* out of order */
	lose(sim);
	/* What it has used is the guest's, whether it was called or not. */
	gets(sim, 0, 3);
	gets_nothing(sim, 0);
	assert_int_equal(sim_info(sim)->info.held_requests, 3);
	request(sim, 0, 5);
	gets_nothing(sim, 0);

	comes(sim);
	has(sim, 0, 4, (const uint64_t[]){ 1, 2, 4, 5 });
	completes_all(sim, 0);
	gets(sim, 0, 1);
	gets(sim, 0, 2);
	gets(sim, 0, 4);
	gets(sim, 0, 5);
	gets_nothing(sim, 0);
	assert_int_equal(sim_info(sim)->info.replayed, 3);
	assert_int_equal(sim_info(sim)->info.holds, 1);
	assert_int_equal(last_status, 0xf);
	sim_free(sim);
}

static void a_guest_that_sleeps_is_called_when_queues_run_again(void **state)
{
	struct sim *sim = boot();
	uint64_t called[2];

	(void)state;
	lose(sim);
	for (unsigned int i = 0; i < 2; i++)
		called[i] = sim_notified(sim, sim->queues[i].call_fd);
	comes(sim);
	for (unsigned int i = 0; i < 2; i++)
		assert_true(sim_notified(sim, sim->queues[i].call_fd) > called[i]);
	sim_free(sim);
}

static void it_may_happen_again_and_again(void **state)
{
	struct sim *sim = boot();

	(void)state;
	for (uint64_t serial = 0; serial < 70000; serial += 2) { /* over the index's end */
		request(sim, 0, serial);
		request(sim, 0, serial + 1);
		if (serial % 1000 == 0) {
			if (serial % 3000)
				sim_backend_take(sim, 0, 1);
			lose(sim);
			if (serial % 5000 == 0) {
				comes(sim);
				lose(sim);
			}
			comes(sim);
		}
		has(sim, 0, 2, (const uint64_t[]){ serial, serial + 1 });
		completes_all(sim, 0);
		gets(sim, 0, serial);
		gets(sim, 0, serial + 1);
	}
	gets_nothing(sim, 0);
	sim_free(sim);
}

static void a_return_has_held_when_all_that_was_given_again_is_done(void **state)
{
	struct sim *sim = boot();

	(void)state;
	sim->host.now_us = 1; /* since the machine was started */
	request(sim, 0, 1);
	lose(sim);
	assert_true(shadow_device_was_served(sim->device)); /* the first has not returned */
	comes(sim);
	lose(sim);
	assert_false(shadow_device_was_served(sim->device));
	request(sim, 0, 2);
	comes(sim);
	has(sim, 0, 2, (const uint64_t[]){ 1, 2 });
	sim_backend_complete(sim, 0, 1); /* not the one that it may die of */
	gets(sim, 0, 2);
	lose(sim);
	assert_false(shadow_device_was_served(sim->device));
	comes(sim);
	has(sim, 0, 1, (const uint64_t[]){ 1 });
	completes_all(sim, 0);
	gets(sim, 0, 1);
	request(sim, 0, 3); /* and nobody has to have done what is new */
	lose(sim);
	assert_true(shadow_device_was_served(sim->device));
	/* Or it stood for long. */
	comes(sim);
	sim->host.now_us += 1999999;
	lose(sim);
	assert_false(shadow_device_was_served(sim->device));
	comes(sim);
	sim->host.now_us += 2000000;
	lose(sim);
	assert_true(shadow_device_was_served(sim->device));
	sim_free(sim);
}

static void what_the_driver_wrote_into_the_configuration_is_told(void **state)
{
	struct sim *sim = boot();
	const uint8_t written[3] = { 1, 2, 3 };
	uint8_t config[16];

	(void)state;
	assert_int_equal(sim->front->ops->get_config(sim->front, 0, config, 16, &err), 0);
	assert_int_equal(sim->front->ops->set_config(sim->front, 9, written, 1, 0, &err), 0);
	assert_int_equal(sim->front->ops->set_config(sim->front, 12, written, 3, 0, &err), 0);
	assert_memory_equal(disk_config + 9, ((uint8_t[]){ 1, 0, 0, 1, 2, 3 }), 6);
	lose(sim);
	memset(disk_config, 0, sizeof(disk_config));
	comes(sim);
	assert_memory_equal(disk_config + 9, ((uint8_t[]){ 1, 0, 0, 1, 2, 3 }), 6);
	assert_int_equal(sim->host.configs_changed, 0); /* it is as the guest has it */
	/* One that does not take it is not as was promised. */
	lose(sim);
	takes_config = false;
	assert_int_equal(shadow_device_return(sim->device, &sim->backend, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "does not take 1 bytes at 9"));
	bury(sim);
	is(sim, UMBRA_DEVICE_HELD);
	takes_config = true;
	memset(disk_config, 0, sizeof(disk_config));
	comes(sim);
	assert_memory_equal(disk_config + 9, ((uint8_t[]){ 1, 0, 0, 1, 2, 3 }), 6);
	/* Of a device that was reset nothing is left. */
	assert_int_equal(sim->front->ops->set_status(sim->front, 0, &err), 0);
	lose(sim);
	memset(disk_config, 0, sizeof(disk_config));
	assert_int_equal(shadow_device_return(sim->device, &sim->backend, &err), 0);
	assert_memory_equal(disk_config + 9, ((uint8_t[6]){ 0 }), 6);
	sim_free(sim);
}

static void nothing_is_given_before_the_dead_is_dead(void **state)
{
	struct sim *sim = boot();

	(void)state;
	lose(sim);
	assert_int_equal(shadow_device_unsettled(sim->device), 0); /* it had nothing */
	comes(sim);
	request(sim, 1, 1);
	lose(sim);
	assert_int_equal(shadow_device_held(sim->device), 1);
	assert_int_equal(shadow_device_unsettled(sim->device), 1);
	shadow_device_backend_is_dead(sim->device);
	assert_int_equal(shadow_device_unsettled(sim->device), 0);
	comes(sim);
	/* That was said of the former one. */
	lose(sim);
	assert_int_equal(shadow_device_unsettled(sim->device), 1);
	sim_free(sim);
}

/* It goes on writing, whatever becomes of the guest that asked for it. */
static void a_reset_does_not_kill_the_dead(void **state)
{
	struct sim *sim = boot();
	uint16_t base;

	(void)state;
	request(sim, 0, 1);
	request(sim, 1, 2);
	lose(sim);
	assert_int_equal(ring_stop_at(sim->front, 1, &base, &err), 0);
	assert_int_equal(sim->front->ops->reset(sim->front, &err), 0);
	assert_int_equal(shadow_device_held(sim->device), 0);
	assert_int_equal(shadow_device_unsettled(sim->device), 2);
	sim_free(sim);
}

static void what_it_has_of_a_broken_ring_counts(void **state)
{
	struct sim *sim = boot();

	(void)state;
	request(sim, 0, 1);
	request(sim, 0, 2);
	lies(sim, 0);
	request(sim, 0, 3);
	sim->front->ops->check_queues(sim->front);
	is(sim, UMBRA_DEVICE_BROKEN);
	lose(sim);
	assert_int_equal(shadow_device_held(sim->device), 0);
	assert_int_equal(shadow_device_unsettled(sim->device), 2);
	sim_free(sim);
}

/* The last that it hears of a return is DRIVER_OK, before it has the requests. */
static void one_that_is_lost_with_what_it_was_given_must_be_dead_as_well(void **state)
{
	struct sim *sim = boot();
	unsigned int calls_of_a_return;

	(void)state;
	request(sim, 0, 1);
	request(sim, 1, 2);
	lose(sim);
	shadow_device_backend_is_dead(sim->device);
	comes(sim);
	calls_of_a_return = calls;
	lose(sim);
	assert_int_equal(shadow_device_unsettled(sim->device), 2);
	shadow_device_backend_is_dead(sim->device);
	comes_and_dies(sim, calls_of_a_return);
	assert_int_equal(shadow_device_held(sim->device), 2);
	assert_int_equal(shadow_device_unsettled(sim->device), 0);
	bury(sim);
	comes_and_dies(sim, 1);
	bury(sim);
	comes(sim);
	has(sim, 0, 1, (const uint64_t[]){ 1 });
	sim_free(sim);
}

/* --- the next one is of no use --------------------------------------------------------------- */

static void is_refused(struct sim *sim, const char *says)
{
	assert_int_equal(shadow_device_return(sim->device, &sim->backend, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, says));
	is(sim, UMBRA_DEVICE_HELD);
	bury(sim);
}

static void one_that_has_less_is_refused(void **state)
{
	struct sim *sim = boot();
	uint64_t count;

	(void)state;
	assert_int_equal(sim->front->ops->get_queue_num(sim->front, &count, &err), 0);
	request(sim, 0, 1);
	lose(sim);
	sectors = SECTORS - 1;
	is_refused(sim, "4095 sectors, and the guest's had 4096");
	sectors = SECTORS;
	sim->features = EVENT;
	is_refused(sim, "lacks the features 0x100000000");
	sim->features = V1 | EVENT | BIT64(VIRTIO_BLK_F_RO);
	is_refused(sim, "its disk is read-only");
	sim->features = V1 | EVENT;
	sim->queue_num = 1;
	is_refused(sim, "1 queues, and the VMM was told of 2");
	sim->queue_num = 2;
	comes(sim);
	has(sim, 0, 1, (const uint64_t[]){ 1 });
	sim_free(sim);
}

/* The front-end has never asked how many there are. */
static void one_that_has_fewer_than_are_used_is_refused(void **state)
{
	struct sim *sim = boot();

	(void)state;
	request(sim, 1, 1);
	lose(sim);
	sim->queue_num = 1;
	is_refused(sim, "1 queues, and the VMM uses 2");
	sim->queue_num = 2;
	comes(sim);
	has(sim, 1, 1, (const uint64_t[]){ 1 });
	sim_free(sim);
}

static void a_disk_that_has_grown_is_told(void **state)
{
	struct sim *sim = boot();
	uint64_t capacity = 0;

	(void)state;
	lose(sim);
	sectors = 2 * SECTORS;
	comes(sim);
	assert_int_equal(sim->host.configs_changed, 1);
	lose(sim);
	assert_int_equal(sim->front->ops->get_config(sim->front, 0, &capacity, 8, &err), 0);
	assert_int_equal(capacity, 2 * SECTORS);
	comes(sim);
	assert_int_equal(sim->host.configs_changed, 1);
	sim_free(sim);
}

/* Nobody has been told of the one that died. */
static void a_disk_that_had_grown_and_died_on_the_way_was_never_there(void **state)
{
	struct sim *sim = boot();
	uint64_t capacity = 0;

	(void)state;
	lose(sim);
	sectors = 2 * SECTORS;
	comes_and_dies(sim, 4); /* after its configuration */
	bury(sim);
	assert_int_equal(sim->front->ops->get_config(sim->front, 0, &capacity, 8, &err), 0);
	assert_int_equal(capacity, SECTORS);
	comes(sim);
	assert_int_equal(sim->host.configs_changed, 1);
	lose(sim);
	sectors = 3 * SECTORS;
	comes_and_dies(sim, 4);
	bury(sim);
	sectors = 2 * SECTORS;
	comes(sim);
	assert_int_equal(sim->host.configs_changed, 1);
	sim_free(sim);
}

/* It dies at each call of its own greeting, before or after it has done what it was asked. */
static void one_that_dies_on_the_way_is_as_if_it_had_never_come(void **state)
{
	struct sim *sim = boot();
	unsigned int deaths = 0;
	int rc;

	(void)state;
	for (uint64_t serial = 1; serial <= 3; serial++)
		request(sim, 0, serial);
	request(sim, 1, 9);
	lose(sim);
	for (;;) {
		dies_at = deaths + 1;
		rc = shadow_device_return(sim->device, &sim->backend, &err);
		if (!rc)
			break;
		assert_int_equal(rc, -ECONNRESET);
		is(sim, UMBRA_DEVICE_HELD);
		bury(sim);
		deaths++;
	}
	assert_true(deaths > 10);
	is(sim, UMBRA_DEVICE_SHADOWED);
	has(sim, 0, 3, (const uint64_t[]){ 1, 2, 3 });
	has(sim, 1, 1, (const uint64_t[]){ 9 });
	completes_all(sim, 0);
	gets(sim, 0, 1);
	gets(sim, 0, 2);
	gets(sim, 0, 3);
	gets_nothing(sim, 0);
	sim_free(sim);
}

/* --- what cannot be held --------------------------------------------------------------------- */

static void is_lost(struct sim *sim)
{
	const struct umbra_error why = { "simulated: closed" };

	assert_false(shadow_device_lose_backend(sim->device, &why));
	is(sim, UMBRA_DEVICE_BACKEND_LOST);
	sim_free(sim);
}

static void who_is_not_told_to_hold_or_cannot_loses_its_back_end(void **state)
{
	(void)state;
	is_lost(boot_with(UMBRA_SHADOW_ON, 0));
	is_lost(boot_with(UMBRA_SHADOW_AUTO, VIRTIO_ID_BLOCK)); /* passed through */
}

static void a_device_that_is_held_is_not_switched(void **state)
{
	struct sim *sim = boot_with(UMBRA_SHADOW_AUTO, VIRTIO_ID_BLOCK);

	(void)state;
	assert_int_equal(shadow_device_switch(sim->device, true, &err), 0);
	lose(sim);
	assert_int_equal(shadow_device_switch(sim->device, false, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "away"));
	comes(sim);
	assert_int_equal(shadow_device_switch(sim->device, false, &err), 0);
	is(sim, UMBRA_DEVICE_PASSTHROUGH);
	sim_free(sim);
}

/* The dying back-end writes nonsense: the ring breaks, and stays so; the other is held. */
static void a_ring_that_is_broken_stays_broken(void **state)
{
	struct sim *sim = boot();

	(void)state;
	request(sim, 0, 1);
	request(sim, 1, 2);
	lies(sim, 0);
	lose(sim);
	assert_true(lane_is_broken(lane_at(sim->device->lanes, 0)));
	assert_int_equal(shadow_device_return(sim->device, &sim->backend, &err), 0);
	is(sim, UMBRA_DEVICE_BROKEN);
	has(sim, 1, 1, (const uint64_t[]){ 2 });
	sim_free(sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			what_was_not_done_is_given_to_the_next_one_in_the_order_of_the_guest),
		cmocka_unit_test(a_guest_that_sleeps_is_called_when_queues_run_again),
		cmocka_unit_test(it_may_happen_again_and_again),
		cmocka_unit_test(a_return_has_held_when_all_that_was_given_again_is_done),
		cmocka_unit_test(what_the_driver_wrote_into_the_configuration_is_told),
		cmocka_unit_test(nothing_is_given_before_the_dead_is_dead),
		cmocka_unit_test(a_reset_does_not_kill_the_dead),
		cmocka_unit_test(what_it_has_of_a_broken_ring_counts),
		cmocka_unit_test(one_that_is_lost_with_what_it_was_given_must_be_dead_as_well),
		cmocka_unit_test(one_that_has_less_is_refused),
		cmocka_unit_test(one_that_has_fewer_than_are_used_is_refused),
		cmocka_unit_test(a_disk_that_has_grown_is_told),
		cmocka_unit_test(a_disk_that_had_grown_and_died_on_the_way_was_never_there),
		cmocka_unit_test(one_that_dies_on_the_way_is_as_if_it_had_never_come),
		cmocka_unit_test(who_is_not_told_to_hold_or_cannot_loses_its_back_end),
		cmocka_unit_test(a_device_that_is_held_is_not_switched),
		cmocka_unit_test(a_ring_that_is_broken_stays_broken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
