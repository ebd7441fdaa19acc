/* SPDX-License-Identifier: BSD-2-Clause */
/* What becomes of the requests that a lost back-end had, for each kind of device. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <string.h>

#include "base/error.h"
#include "device/shadow_device_private.h"
#include "random.h"
#include "sim.h"

#define SIZE 8u
#define RX 0u
#define TX 1u
#define CONTROL 2u

static struct umbra_error err;

/* --- a guest -------------------------------------------------------------------- */

static struct sim *boot_with(unsigned int queues, uint64_t features, uint32_t type,
			     enum umbra_on_loss on_loss)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_ON, SIZE, V1 | EVENT | features);

	shadow_device_hold_for(sim->device, type, on_loss);
	sim_boot(sim, queues, V1 | EVENT | features);
	sim_run(sim);
	return sim;
}

static struct sim *boot(uint32_t type, enum umbra_on_loss on_loss)
{
	return boot_with(2, 0, type, on_loss);
}

static struct sim *boot_net(void)
{
	return boot(VIRTIO_ID_NET, UMBRA_LOSS_BY_TYPE);
}

static void is(const struct sim *sim, enum umbra_device_state state)
{
	assert_string_equal(umbra_device_state_name(shadow_device_state(sim->device)),
			    umbra_device_state_name(state));
	assert_true(shadow_state_holds(sim->device));
}

static void lose(struct sim *sim)
{
	const struct umbra_error why = { "simulated: closed" };

	assert_true(shadow_device_lose_backend(sim->device, &why));
	is(sim, UMBRA_DEVICE_HELD);
	sim_bury(sim);
}

static void comes(struct sim *sim)
{
	assert_int_equal(shadow_device_may_return(sim->device, &err), 0);
	assert_int_equal(shadow_device_return(sim->device, &sim->backend, &err), 0);
	is(sim, UMBRA_DEVICE_SHADOWED);
	sim_run(sim);
}

static void adds(struct sim *sim, unsigned int queue, uint64_t serial)
{
	assert_int_equal(sim_guest_add(sim, queue, queue != RX, queue != TX, serial), 1);
	sim_run(sim);
}

/* The guest gets so many, those. */
static void gets(struct sim *sim, unsigned int queue, unsigned int count, const uint64_t *serials)
{
	uint64_t got;
	uint32_t len;

	sim_run(sim);
	for (unsigned int i = 0; i < count; i++) {
		assert_int_equal(sim_guest_get(sim, queue, &got, &len), 1);
		assert_int_equal(got, serials[i]);
	}
	assert_int_equal(sim_guest_get(sim, queue, &got, &len), 0);
}

/* The back-end has so many, those. */
static void has(struct sim *sim, unsigned int queue, unsigned int count, const uint64_t *serials)
{
	sim_run(sim);
	sim_backend_take(sim, queue, SIM_HELD_MAX);
	assert_int_equal(sim->queues[queue].held_count, count);
	for (unsigned int i = 0; i < count; i++)
		assert_int_equal(sim->queues[queue].held[i].serial, serials[i]);
}

#define GETS(sim, queue, ...) LIST(gets, sim, queue, __VA_ARGS__)
#define HAS(sim, queue, ...) LIST(has, sim, queue, __VA_ARGS__)
#define LIST(check, sim, queue, ...)                                                               \
	check(sim, queue, ARRAY_SIZE(((uint64_t[]){ __VA_ARGS__ })), (uint64_t[]){ __VA_ARGS__ })

/* --- a network card --------------------------------------------------------------- */

static void a_network_card_has_its_room_given_again_and_loses_what_was_to_be_sent(void **state)
{
	struct sim *sim = boot_net();
	uint64_t called;

	(void)state;
	for (uint64_t i = 1; i <= 3; i++) {
		adds(sim, RX, i);
		adds(sim, TX, 10 + i);
	}
	HAS(sim, RX, 1, 2, 3);
	HAS(sim, TX, 11, 12, 13);
	sim_backend_complete(sim, RX, 1);
	sim_backend_complete(sim, TX, 1);
	lose(sim);
	GETS(sim, RX, 2);
	GETS(sim, TX, 12);
	assert_int_equal(sim_info(sim)->info.held_requests, 4);
	called = sim_notified(sim, sim->queues[TX].call_fd);
	comes(sim);
	assert_true(sim_notified(sim, sim->queues[TX].call_fd) > called);
	HAS(sim, RX, 1, 3);
	GETS(sim, TX, 11, 13);
	has(sim, TX, 0, NULL);
	assert_int_equal(sim_info(sim)->info.replayed, 2);
	assert_int_equal(sim_info(sim)->info.dropped, 2);

	adds(sim, TX, 14);
	HAS(sim, TX, 14);
	sim_backend_complete(sim, RX, 0);
	GETS(sim, RX, 1);
	sim_free(sim);
}

/* Whose guest only receives: our kick is the only one that there is. */
static void room_is_given_to_a_back_end_that_the_guest_never_kicks(void **state)
{
	struct sim *sim = boot_net();

	(void)state;
	for (uint64_t i = 1; i <= SIZE; i++)
		adds(sim, RX, i);
	has(sim, RX, SIZE, (const uint64_t[]){ 1, 2, 3, 4, 5, 6, 7, 8 });
	lose(sim);
	comes(sim);
	has(sim, RX, SIZE, (const uint64_t[]){ 1, 2, 3, 4, 5, 6, 7, 8 });
	sim_free(sim);
}

/* What the guest puts on the wire meanwhile is not lost, since nobody had it. */
static void what_is_to_be_sent_meanwhile_is_sent(void **state)
{
	struct sim *sim = boot_net();

	(void)state;
	adds(sim, TX, 1);
	HAS(sim, TX, 1);
	lose(sim);
	adds(sim, TX, 2);
	adds(sim, TX, 3);
	comes(sim);
	GETS(sim, TX, 1);
	HAS(sim, TX, 2, 3);
	sim_free(sim);
}

/* A return that fails has completed them: the guest hears of it, and of each once. */
static void what_was_lost_is_lost_once(void **state)
{
	struct sim *sim = boot_net();

	(void)state;
	adds(sim, TX, 1);
	HAS(sim, TX, 1);
	lose(sim);
	sim->fail_start = 1;
	sim->fail_start_code = -ECONNRESET;
	assert_int_equal(shadow_device_return(sim->device, &sim->backend, &err), -ECONNRESET);
	is(sim, UMBRA_DEVICE_HELD);
	sim_bury(sim);
	gets(sim, TX, 0, NULL);
	comes(sim);
	GETS(sim, TX, 1);
	adds(sim, TX, 2);
	HAS(sim, TX, 2);
	lose(sim);
	comes(sim);
	GETS(sim, TX, 2);
	assert_int_equal(sim_info(sim)->info.dropped, 2);
	sim_free(sim);
}

/* Both directions, and losses at random, over the end of the indices: of what was to be sent each
 * comes back once, in the order in which it was made, and of the room each as often as it was
 * given. */
static void losses_at_random_leave_nothing_out_and_nothing_twice(void **state)
{
	struct sim *sim = boot_net();
	uint64_t sent = 0, told = 0, got;
	uint32_t len;

	(void)state;
	random_begin_anew();
	while (told < 70000) {
		unsigned int batch = below(SIZE) + 1;

		for (unsigned int i = 0; i < batch; i++)
			sent += sim_guest_add(sim, TX, 1, 0, sent) == 1;
		sim_run(sim);
		sim_backend_take(sim, TX, below(SIZE + 1));
		while (sim->queues[TX].held_count && below(4))
			sim_backend_complete(sim, TX, 0);
		if (!below(8)) {
			lose(sim);
			comes(sim);
		}
		sim_run(sim);
		for (; sim_guest_get(sim, TX, &got, &len); told++)
			assert_int_equal(got, told);
	}
	assert_true(sim_info(sim)->info.dropped > 0);
	assert_int_equal(sim_info(sim)->info.replayed, 0);
	sim_free(sim);
}

/* What was said there is not known to the next one, and not to us. */
static void a_network_card_with_a_control_queue_has_to_be_reset(void **state)
{
	struct sim *sim =
		boot_with(3, BIT64(VIRTIO_NET_F_CTRL_VQ), VIRTIO_ID_NET, UMBRA_LOSS_BY_TYPE);

	(void)state;
	adds(sim, CONTROL, 1);
	HAS(sim, CONTROL, 1);
	sim_backend_complete(sim, CONTROL, 0);
	GETS(sim, CONTROL, 1);
	lose(sim);
	for (unsigned int i = 0; i < 3; i++)
		assert_true(lane_is_broken(lane_at(sim->device->lanes, i)));
	sim_free(sim);
}

/* --- all others ---------------------------------------------------------------------- */

static uint8_t status_of(struct sim *sim)
{
	uint8_t status = 0;

	assert_int_equal(sim->front->ops->get_status(sim->front, &status, &err), 0);
	return status;
}

static void a_file_system_has_to_be_reset_by_its_guest(void **state)
{
	struct sim *sim = boot(VIRTIO_ID_FS, UMBRA_LOSS_BY_TYPE);

	(void)state;
	adds(sim, TX, 1);
	HAS(sim, TX, 1);
	assert_false(status_of(sim) & VIRTIO_CONFIG_S_NEEDS_RESET);
	lose(sim);
	assert_true(status_of(sim) & VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_non_null(strstr(lane_error(lane_at(sim->device->lanes, TX)), "with 1 requests"));
	/* Also where nothing was in flight. */
	assert_true(lane_is_broken(lane_at(sim->device->lanes, RX)));
	assert_int_equal(shadow_device_held(sim->device), 0);
	assert_int_equal(lane_counters(lane_at(sim->device->lanes, TX))->lost, 1);

	assert_int_equal(shadow_device_may_return(sim->device, &err), 0);
	assert_int_equal(shadow_device_return(sim->device, &sim->backend, &err), 0);
	is(sim, UMBRA_DEVICE_BROKEN);
	has(sim, TX, 0, NULL);
	gets(sim, TX, 0, NULL);

	/* The guest resets it, and the front-end stops the rings and starts them. */
	assert_int_equal(sim->front->ops->set_status(sim->front, 0, &err), 0);
	for (unsigned int i = 0; i < 2; i++) {
		sim_driver_begin(sim, i, V1 | EVENT);
		assert_int_equal(sim_ring_start(sim, i, 0), 0);
	}
	is(sim, UMBRA_DEVICE_SHADOWED);
	assert_false(status_of(sim) & VIRTIO_CONFIG_S_NEEDS_RESET);
	adds(sim, TX, 2);
	HAS(sim, TX, 2);
	sim_free(sim);
}

/* A front-end that stops and starts them without a reset of its guest's gets nothing done
 * twice. */
static void what_is_given_up_is_not_given_to_anybody_later(void **state)
{
	struct sim *sim = boot(VIRTIO_ID_FS, UMBRA_LOSS_BY_TYPE);
	struct ring_position base;

	(void)state;
	adds(sim, TX, 1);
	HAS(sim, TX, 1);
	lose(sim);
	assert_int_equal(sim->front->ops->ring_stop(sim->front, TX, &base, &err), 0);
	assert_int_equal(sim_ring_start(sim, TX, base.avail), 0);
	assert_int_equal(shadow_device_return(sim->device, &sim->backend, &err), 0);
	has(sim, TX, 0, NULL);
	sim_free(sim);
}

/* --- the operator ---------------------------------------------------------------------- */

static void a_rule_is_overruled(void **state)
{
	struct sim *sim = boot(VIRTIO_ID_NET, UMBRA_LOSS_REPLAY);

	(void)state;
	adds(sim, TX, 1);
	HAS(sim, TX, 1);
	lose(sim);
	comes(sim);
	HAS(sim, TX, 1);
	sim_free(sim);

	sim = boot(VIRTIO_ID_BLOCK, UMBRA_LOSS_RESET);
	lose(sim);
	assert_true(lane_is_broken(lane_at(sim->device->lanes, TX)));
	sim_free(sim);
}

static void refuses_the_word(struct sim *sim, const char *says)
{
	assert_int_equal(shadow_device_settle_loss(sim->device, UMBRA_LOSS_WORD_REPLAY, &err),
			 -EINVAL);
	assert_non_null(strstr(err.text, says));
}

static void the_operator_is_asked_and_says_replay(void **state)
{
	struct sim *sim = boot(VIRTIO_ID_NET, UMBRA_LOSS_HOLD);

	(void)state;
	refuses_the_word(sim, "no back-end is waited for");
	lose(sim);
	refuses_the_word(sim, "nobody is asked"); /* since it had nothing */
	comes(sim);
	for (unsigned int i = 0; i < 2; i++) {
		adds(sim, TX, i);
		HAS(sim, TX, i);
		lose(sim);
		assert_int_equal(shadow_device_may_return(sim->device, &err), -EAGAIN);
		assert_non_null(strstr(err.text, "1 requests"));
		assert_int_equal(
			shadow_device_settle_loss(sim->device, UMBRA_LOSS_WORD_REPLAY, &err), 0);
		refuses_the_word(sim, "nobody is asked");
		comes(sim);
		HAS(sim, TX, i);
		sim_backend_complete(sim, TX, 0);
		GETS(sim, TX, i);
	}
	sim_free(sim);
}

static void the_operator_is_asked_and_says_reset(void **state)
{
	struct sim *sim = boot(VIRTIO_ID_FS, UMBRA_LOSS_HOLD);

	(void)state;
	lose(sim);
	/* Also where nothing was in flight, since it knew something. */
	assert_int_equal(shadow_device_may_return(sim->device, &err), -EAGAIN);
	assert_false(lane_is_broken(lane_at(sim->device->lanes, TX)));
	assert_int_equal(shadow_device_settle_loss(sim->device, UMBRA_LOSS_WORD_RESET, &err), 0);
	assert_true(lane_is_broken(lane_at(sim->device->lanes, TX)));
	assert_int_equal(shadow_device_may_return(sim->device, &err), 0);
	sim_free(sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_network_card_has_its_room_given_again_and_loses_what_was_to_be_sent),
		cmocka_unit_test(room_is_given_to_a_back_end_that_the_guest_never_kicks),
		cmocka_unit_test(what_is_to_be_sent_meanwhile_is_sent),
		cmocka_unit_test(what_was_lost_is_lost_once),
		cmocka_unit_test(losses_at_random_leave_nothing_out_and_nothing_twice),
		cmocka_unit_test(a_network_card_with_a_control_queue_has_to_be_reset),
		cmocka_unit_test(a_file_system_has_to_be_reset_by_its_guest),
		cmocka_unit_test(what_is_given_up_is_not_given_to_anybody_later),
		cmocka_unit_test(a_rule_is_overruled),
		cmocka_unit_test(the_operator_is_asked_and_says_replay),
		cmocka_unit_test(the_operator_is_asked_and_says_reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
