/* SPDX-License-Identifier: BSD-2-Clause */
/* What a guest says on the control queue of a network device that is stopped as a
 * whole, and forgets it each time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <string.h>

#include "base/shm.h"
#include "shadow_control_rig.h"

/* --- commands ------------------------------------------------------------------------ */

static void commands_reach_the_device_in_either_mode(void **state)
{
	(void)state;
	for (size_t k = 0; k < SIM_KINDS; k++) {
		struct sim *sim = net_boot(sim_kinds[k]);
		bool is_passed = sim_kinds[k] & BACKEND_KEEPS_INDEX;

		assert_int_equal(shadow_device_state(sim->device),
				 is_passed ? UMBRA_DEVICE_PASSTHROUGH : UMBRA_DEVICE_SHADOWED);
		assert_int_equal(sim_info(sim)->queues[0].shadowed, !is_passed);
		assert_true(sim_info(sim)->queues[CONTROL].shadowed);
		assert_true(sim_info(sim)->control.is_followed);
		for (int i = 0; i < 40; i++) /* beyond the ring's size */
			assert_int_equal(answer(sim, SAY(sim, PROMISC)), VIRTIO_NET_OK);
		assert_int_equal(told(sim), 40);
		dev.told_count = 0;
		restart(sim);
		assert_int_equal(told(sim), 1);
		assert_int_equal(answer(sim, SAY(sim, MAC)), VIRTIO_NET_OK);
		assert_int_equal(told(sim), 2);
		assert_int_equal(sim_info(sim)->control.accepted, 41);
		assert_int_equal(sim_info(sim)->control.replayed, 1);
		assert_int_equal(sim_info(sim)->control.modes[0], UMBRA_NET_MODE_ON);
		assert_int_equal(sim_info(sim)->control.modes[1], UMBRA_NET_MODE_UNSAID);
		assert_true(sim_info(sim)->control.has_mac);
		assert_int_equal(sim_info(sim)->control.mac[5], 7);
		sim_serve(sim, 0, 1);
		sim_free(sim);
	}
}

/* What it did not agree to, and what never reached it, it is not told again. */
static void a_device_is_told_again_before_its_data_rings_run(void **state)
{
	(void)state;
	for (size_t k = 0; k < SIM_KINDS; k++) {
		struct sim *sim = net_boot(sim_kinds[k]);

		assert_int_equal(answer(sim, SAY(sim, PROMISC)), VIRTIO_NET_OK);
		assert_int_equal(answer(sim, SAY(sim, 99, 1)), VIRTIO_NET_ERR);
		assert_int_equal(told(sim), 1);
		assert_int_equal(answer(sim, SAY(sim, MAC)), VIRTIO_NET_OK);
		dev.refuses = 1;
		assert_int_equal(answer(sim, SAY(sim, ALLMULTI)), VIRTIO_NET_ERR);
		assert_int_equal(told(sim), 3);
		for (int i = 0; i < 5; i++) {
			sim_serve(sim, 0, 1);
			restart(sim);
			assert_int_equal(told(sim), 2);
			ASSERT_TOLD_AGAIN(sim, 0, PROMISC);
			ASSERT_TOLD_AGAIN(sim, 1, MAC);
			sim_serve(sim, 1, 2);
		}
		assert_int_equal(sim_info(sim)->control.refused, 1);
		assert_int_equal(sim_info(sim)->control.failed, 1);
		sim_free(sim);
	}
}

static void a_device_that_was_told_nothing_is_told_nothing(void **state)
{
	(void)state;
	for (size_t k = 0; k < SIM_KINDS; k++) {
		struct sim *sim = net_boot(sim_kinds[k]);

		dev.is_deaf = true;
		restart(sim);
		sim_serve(sim, 0, 1);
		sim_free(sim);
	}
}

/* It is submitted again, behind the replay, and answered once. */
static void a_command_in_flight_at_a_switch_is_answered_once(void **state)
{
	(void)state;
	for (size_t k = 0; k < SIM_KINDS; k++)
		for (int is_taken = 0; is_taken < 2; is_taken++) {
			struct sim *sim = net_boot(sim_kinds[k]);
			uint64_t start = sim->host.now_us;
			unsigned int first, second;

			assert_int_equal(answer(sim, SAY(sim, PROMISC)), VIRTIO_NET_OK);
			first = SAY(sim, MAC);
			second = SAY(sim, ALLMULTI);
			sim_run(sim);
			sim->while_waiting = NULL;
			if (is_taken) {
				dev.is_slow = true;
				device_take(sim);
				assert_int_equal(told(sim), 2);
				dev.is_slow = false;
			}
			sim->while_waiting = device_take;
			restart(sim);
			assert_true(sim->host.now_us - start < 100000);
			ASSERT_TOLD_AGAIN(sim, 0, PROMISC);
			assert_int_equal(answer(sim, first), VIRTIO_NET_OK);
			assert_int_equal(answer(sim, second), VIRTIO_NET_OK);
			assert_int_equal(sim_info(sim)->control.accepted, 3);
			assert_int_equal(answer(sim, 0), UNANSWERED);
			sim_serve(sim, 0, 1);
			restart(sim);
			assert_int_equal(told(sim), 3);
			ASSERT_TOLD_AGAIN(sim, 1, MAC);
			ASSERT_TOLD_AGAIN(sim, 2, ALLMULTI);
			sim_free(sim);
		}
}

/* It begins anew behind a reset, so what it says of where it stood is not even looked at. */
static void a_device_may_say_what_it_likes_of_where_its_control_ring_stands(void **state)
{
	static const int lies[] = { -1, 1, 5, 100 };

	(void)state;
	for (unsigned int n = 0; n < 2 * ARRAY_SIZE(lies); n++) {
		struct sim *sim = net_boot(n & 1 ? SUSPENDING : RESETTING);

		assert_int_equal(answer(sim, SAY(sim, PROMISC)), VIRTIO_NET_OK);
		sim->base_lie = lies[n / 2];
		sim->honest = ~(1u << CONTROL);
		restart(sim);
		assert_int_equal(told(sim), 1);
		ASSERT_TOLD_AGAIN(sim, 0, PROMISC);
		assert_int_equal(answer(sim, SAY(sim, MAC)), VIRTIO_NET_OK);
		assert_string_equal(sim_info(sim)->queues[CONTROL].error, "");
		sim_serve(sim, 0, 1);
		sim_free(sim);
	}
}

static void a_shadow_that_is_switched_off_follows_the_control_queue(void **state)
{
	struct sim *sim = net_new(UMBRA_SHADOW_OFF, SUSPENDING);
	struct umbra_error err = { "" };
	uint16_t base;

	(void)state;
	sim_boot(sim, 3, NET);
	assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_PASSTHROUGH);
	assert_int_equal(answer(sim, SAY(sim, MAC)), VIRTIO_NET_OK);
	assert_int_equal(sim_switch(sim, true, &err), -EPERM);
	assert_int_equal(ring_stop_at(sim->front, 1, &base, &err), 0);
	assert_int_equal(sim_ring_start(sim, 1, base), 0);
	sim_pause(sim);
	ASSERT_TOLD_AGAIN(sim, 0, MAC);
	sim_serve(sim, 0, 1);
	sim_free(sim);
}

/* With pairs of queues it is behind the last of them, and with one it may not be. */
static void which_ring_it_is_follows_from_what_was_negotiated(void **state)
{
	struct sim *sim = net_new(UMBRA_SHADOW_AUTO, SUSPENDING);

	(void)state;
	dev.max_pairs = 2;
	sim->features |= F(MQ);
	sim_boot(sim, 3, NET | F(MQ));
	assert_false(sim_info(sim)->queues[CONTROL].shadowed); /* it is ring 4 */
	sim_serve(sim, CONTROL, 1);
	sim_free(sim);

	sim = net_new(UMBRA_SHADOW_AUTO, SUSPENDING);
	sim->device_id = VIRTIO_ID_BLOCK;
	sim_boot(sim, 3, NET);
	assert_false(sim_info(sim)->control.is_followed);
	assert_false(sim_info(sim)->queues[CONTROL].shadowed);
	sim_free(sim);
}

static void a_vhost_user_back_end_is_not_followed(void **state)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 8, NET);
	struct umbra_error err = { "" };
	uint8_t *bytes;
	size_t size;

	(void)state;
	memset(&dev, 0, sizeof(dev));
	sim_boot(sim, 3, NET);
	assert_false(sim_info(sim)->control.is_followed);
	assert_false(sim_info(sim)->queues[CONTROL].shadowed);
	sim_serve(sim, CONTROL, 1);
	assert_int_equal(sim_switch(sim, true, &err), 0);
	sim_serve(sim, CONTROL, 2);
	assert_int_equal(shadow_device_save_control(sim->device, &bytes, &size, &err), -EOPNOTSUPP);
	assert_int_equal(shadow_device_load_control(sim->device, (const uint8_t *)"", 0, &err),
			 -EOPNOTSUPP);
	sim_free(sim);
}

static void a_guest_that_breaks_its_control_ring_breaks_nothing_else(void **state)
{
	struct sim *sim = net_boot(RESETTING);
	struct sim_queue *q = &sim->queues[CONTROL];
	struct umbra_error err = { "" };

	(void)state;
	assert_int_equal(answer(sim, SAY(sim, PROMISC)), VIRTIO_NET_OK);
	shm_store16(&q->driver.split.avail->idx, 101);
	sim->host.notified[q->kick_fd]++;
	sim_run(sim);
	assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_BROKEN);
	assert_non_null(strstr(sim_info(sim)->queues[CONTROL].error, "made 100 chains"));
	assert_int_equal(sim_switch(sim, true, &err), 0);
	assert_int_equal(told(sim), 0);
	sim_serve(sim, 0, 1);
	sim_free(sim);
}

/* --- a replay that fails -------------------------------------------------------------- */

static void a_refused_replay_leaves_the_old_mode(void **state)
{
	(void)state;
	for (int n = 0; n < 4; n++) {
		struct sim *sim = net_boot(n & 1 ? SUSPENDING : RESETTING);
		bool shadowed = n & 2;
		struct umbra_error err = { "" };

		assert_int_equal(answer(sim, SAY(sim, PROMISC)), VIRTIO_NET_OK);
		assert_int_equal(answer(sim, SAY(sim, MAC)), VIRTIO_NET_OK);
		assert_int_equal(sim_switch(sim, shadowed, &err), 0);
		assert_int_equal(sim_guest_add(sim, 0, 1, 1, 7), 1); /* not yet there */
		dev.refuses = 1;
		assert_int_equal(sim_switch(sim, !shadowed, &err), -EREMOTEIO);
		assert_non_null(strstr(err.text, "VIRTIO_NET_CTRL_RX_PROMISC cannot be replayed"));
		assert_non_null(strstr(err.text, shadowed ? "stays shadowed" : "stays passed"));
		assert_int_equal(shadow_device_state(sim->device),
				 shadowed ? UMBRA_DEVICE_SHADOWED : UMBRA_DEVICE_PASSTHROUGH);
		assert_int_equal(told(sim), 2);
		sim_run(sim);
		assert_int_equal(sim_backend_take(sim, 0, 2), 1);
		sim_backend_complete(sim, 0, 0);
		assert_int_equal(answer(sim, SAY(sim, ALLMULTI)), VIRTIO_NET_OK);
		assert_int_equal(sim_switch(sim, !shadowed, &err), 0);
		assert_int_equal(told(sim), 3);
		assert_int_equal(sim->requests_lost, 0);
		sim_free(sim);
	}
}

/* -EPROTO would say that the others run in the new mode. */
static void a_device_that_lies_at_the_replay_leaves_the_old_mode(void **state)
{
	(void)state;
	for (int n = 0; n < 4; n++) {
		struct sim *sim = net_boot(n & 1 ? SUSPENDING : RESETTING);
		bool shadowed = n & 2;
		struct umbra_error err = { "" };

		assert_int_equal(answer(sim, SAY(sim, MAC)), VIRTIO_NET_OK);
		assert_int_equal(sim_switch(sim, shadowed, &err), 0);
		dev.lies = 1;
		assert_int_equal(sim_switch(sim, !shadowed, &err), -EREMOTEIO);
		assert_non_null(strstr(err.text, "cannot be replayed"));
		assert_non_null(strstr(err.text, shadowed ? "stays shadowed" : "stays passed"));
		assert_int_equal(sim_info(sim)->info.shadow_wanted, shadowed);
		assert_int_equal(sim_info(sim)->queues[0].shadowed, shadowed);
		assert_non_null(strstr(sim_info(sim)->queues[CONTROL].error, "the device used id"));
		sim_serve(sim, 0, 1);
		sim_free(sim);
	}
}

static void a_device_that_refuses_for_ever_is_tried_again(void **state)
{
	(void)state;
	for (size_t k = 0; k < SIM_KINDS; k++) {
		struct sim *sim = net_boot(sim_kinds[k]);
		struct umbra_error err = { "" };
		uint16_t base;

		assert_int_equal(answer(sim, SAY(sim, MAC)), VIRTIO_NET_OK);
		assert_int_equal(ring_stop_at(sim->front, 1, &base, &err), 0);
		assert_int_equal(sim_ring_start(sim, 1, base), 0);
		dev.refuses = 2;
		dev.is_deaf = k == 0; /* or says nothing at all */
		sim_pause(sim);
		assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_NEGOTIATING);
		assert_non_null(strstr(sim_info(sim)->info.reason, "VIRTIO_NET_CTRL_MAC_ADDR_SET"));
		assert_non_null(strstr(sim_info(sim)->info.reason, "cannot be replayed"));
		assert_false(sim->runs);
		dev.refuses = 0;
		dev.is_deaf = false;
		sim_pause(sim);
		assert_true(sim->runs);
		ASSERT_TOLD_AGAIN(sim, 0, MAC);
		sim_serve(sim, 0, 1);
		assert_int_equal(answer(sim, SAY(sim, PROMISC)), VIRTIO_NET_OK);
		sim_free(sim);
	}
}

static void a_data_ring_that_is_not_enabled_afterwards_stops_the_device(void **state)
{
	(void)state;
	for (unsigned int which = 1; which <= 2; which++)
		for (int n = 0; n < 2; n++) {
			struct sim *sim = net_boot(n ? SUSPENDING : RESETTING);
			struct umbra_error err = { "" };

			assert_int_equal(answer(sim, SAY(sim, MAC)), VIRTIO_NET_OK);
			dev.fail_enable = which;
			assert_int_equal(sim_switch(sim, true, &err), -EREMOTEIO);
			assert_non_null(strstr(err.text, "is not enabled"));
			assert_int_equal(shadow_device_state(sim->device),
					 UMBRA_DEVICE_PASSTHROUGH);
			sim_serve(sim, 0, 1);
			sim_serve(sim, 1, 2);
			assert_int_equal(sim_switch(sim, true, &err), 0);
			sim_free(sim);
		}
}

/* Receive buffers that wait to be given again are not lost by a start that fails. */
static void kept_buffers_outlive_a_refused_replay(void **state)
{
	struct sim *sim = net_boot(FORGETFUL);
	struct umbra_error err = { "" };
	uint64_t got;
	uint16_t base;
	uint32_t len;

	(void)state;
	assert_int_equal(answer(sim, SAY(sim, MAC)), VIRTIO_NET_OK);
	assert_int_equal(sim_guest_add(sim, 0, 0, 1, 1), 1);
	assert_int_equal(sim_guest_add(sim, 0, 0, 1, 2), 1);
	sim_run(sim);
	assert_int_equal(sim_backend_take(sim, 0, 2), 2);
	sim_backend_complete(sim, 0, 1);
	sim_run(sim);
	assert_int_equal(sim_guest_get(sim, 0, &got, &len), 1);
	assert_int_equal(got, 2);
	assert_int_equal(ring_stop_at(sim->front, 1, &base, &err), 0);
	assert_int_equal(sim_ring_start(sim, 1, base), 0);
	dev.refuses = 1;
	sim_pause(sim);
	assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_NEGOTIATING);
	sim_pause(sim);
	assert_true(sim->runs);
	sim_run(sim);
	assert_int_equal(sim_backend_take(sim, 0, 2), 1);
	sim_backend_complete(sim, 0, 0);
	sim_run(sim);
	sim->queues[0].guest_awake = true;
	assert_int_equal(sim_guest_get(sim, 0, &got, &len), 1);
	assert_int_equal(got, 1);
	sim_free(sim);
}

static void a_legacy_driver_gets_no_control_queue(void **state)
{
	struct sim *sim = net_new(UMBRA_SHADOW_OFF, SUSPENDING);
	struct umbra_error err = { "" };

	(void)state;
	assert_int_equal(
		sim->front->ops->set_features(sim->front, NET & ~BIT64(VIRTIO_F_VERSION_1), &err),
		-EOPNOTSUPP);
	assert_non_null(strstr(err.text, "VIRTIO_NET_F_CTRL_VQ"));
	sim_free(sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(commands_reach_the_device_in_either_mode),
		cmocka_unit_test(a_device_is_told_again_before_its_data_rings_run),
		cmocka_unit_test(a_device_that_was_told_nothing_is_told_nothing),
		cmocka_unit_test(a_command_in_flight_at_a_switch_is_answered_once),
		cmocka_unit_test(a_device_may_say_what_it_likes_of_where_its_control_ring_stands),
		cmocka_unit_test(a_shadow_that_is_switched_off_follows_the_control_queue),
		cmocka_unit_test(which_ring_it_is_follows_from_what_was_negotiated),
		cmocka_unit_test(a_vhost_user_back_end_is_not_followed),
		cmocka_unit_test(a_guest_that_breaks_its_control_ring_breaks_nothing_else),
		cmocka_unit_test(a_refused_replay_leaves_the_old_mode),
		cmocka_unit_test(a_device_that_lies_at_the_replay_leaves_the_old_mode),
		cmocka_unit_test(a_device_that_refuses_for_ever_is_tried_again),
		cmocka_unit_test(a_data_ring_that_is_not_enabled_afterwards_stops_the_device),
		cmocka_unit_test(kept_buffers_outlive_a_refused_replay),
		cmocka_unit_test(a_legacy_driver_gets_no_control_queue),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
