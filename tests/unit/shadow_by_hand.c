/* SPDX-License-Identifier: BSD-2-Clause */
/* A device that its operator holds, whose back-end is exchanged meanwhile. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_ids.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "device/shadow_device_private.h"
#include "sim.h"

#define SIZE 8u
#define NO_TYPE 0u /* no loss is borne */

static struct umbra_error err;

/* Each in turn: a mode, and a family of back-ends. */
static const struct way {
	enum umbra_shadow_mode mode;
	enum hush_way hush;
} ways[] = {
	{ UMBRA_SHADOW_ON, HUSH_BY_KICK },   { UMBRA_SHADOW_AUTO, HUSH_BY_KICK },
	{ UMBRA_SHADOW_ON, HUSH_BY_ENABLE }, { UMBRA_SHADOW_AUTO, HUSH_BY_ENABLE },
	{ UMBRA_SHADOW_ON, HUSH_NOT },       { UMBRA_SHADOW_AUTO, HUSH_NOT },
};

static struct sim *boot(const struct way *way, uint32_t type)
{
	struct sim *sim = sim_new(way->mode, SIZE, V1 | EVENT);

	sim_hush_by(sim, way->hush);
	if (type)
		shadow_device_hold_for(sim->device, type, UMBRA_LOSS_BY_TYPE);
	sim_boot(sim, 2, V1 | EVENT);
	sim_run(sim);
	return sim;
}

static void is(const struct sim *sim, enum umbra_device_state state)
{
	assert_string_equal(umbra_device_state_name(shadow_device_state(sim->device)),
			    umbra_device_state_name(state));
	assert_true(shadow_state_holds(sim->device));
}

static void runs(const struct sim *sim, const struct way *way)
{
	is(sim, way->mode == UMBRA_SHADOW_ON ? UMBRA_DEVICE_SHADOWED : UMBRA_DEVICE_PASSTHROUGH);
}

static void request(struct sim *sim, unsigned int queue, uint64_t serial)
{
	assert_int_equal(sim_guest_add(sim, queue, 1, 1, serial), 1);
	sim_run(sim);
}

static void gets(struct sim *sim, unsigned int queue, uint64_t serial)
{
	uint64_t got;
	uint32_t len;

	sim_run(sim);
	assert_int_equal(sim_guest_get(sim, queue, &got, &len), 1);
	assert_int_equal(got, serial);
}

static void gets_nothing(struct sim *sim, unsigned int queue)
{
	uint64_t got;
	uint32_t len;

	sim_run(sim);
	assert_int_equal(sim_guest_get(sim, queue, &got, &len), 0);
}

static void says(const struct sim *sim, const char *part)
{
	const char *reason = sim_info(sim)->info.reason;

	if (!strstr(reason, part))
		fail_msg("'%s' is not in '%s'", part, reason);
}

/* The world, while the device waits: the back-end goes on. */
static void serves_on(struct sim *sim)
{
	for (unsigned int i = 0; i < 2; i++) {
		sim_backend_take(sim, i, 1);
		if (sim->queues[i].held_count)
			sim_backend_complete(sim, i, 0);
	}
}

static void hold(struct sim *sim)
{
	sim->while_waiting = serves_on;
	assert_int_equal(shadow_device_hold(sim->device, false, &err), 0);
	is(sim, UMBRA_DEVICE_HELD);
	says(sim, "by hand: the back-end may be taken down, nothing is with it");
	assert_int_equal(shadow_device_unsettled(sim->device), 0);
	sim->while_waiting = NULL;
	sim_bury(sim);
}

static void comes(struct sim *sim, const struct way *way)
{
	shadow_device_release(sim->device);
	assert_int_equal(shadow_device_return(sim->device, &sim->backend, &err), 0);
	runs(sim, way);
	sim_run(sim);
}

static void takes_on(struct sim *sim)
{
	for (unsigned int i = 0; i < 2; i++)
		sim_backend_take(sim, i, 1);
}

static void seen(const struct sim *sim, enum umbra_device_state to, const char *part)
{
	for (unsigned int i = 0; i < MIN(sim->host.event_count, SIM_EVENTS_MAX); i++)
		if (sim->host.events[i].to == to)
			return;
	fail_msg("no event of %s: %s", umbra_device_state_name(to), part);
}

/* --- in order ------------------------------------------------------------------------------ */

static void whatever_it_has_is_done_first_and_what_comes_later_is_the_next_ones(void **state)
{
	(void)state;
	for (size_t w = 0; w < ARRAY_SIZE(ways); w++) {
		struct sim *sim = boot(&ways[w], NO_TYPE);

		for (uint64_t serial = 1; serial <= 3; serial++) {
			request(sim, 0, serial);
			request(sim, 1, serial);
		}
		sim_backend_take(sim, 0, 2);
		hold(sim);
		seen(sim, UMBRA_DEVICE_SWITCHING, "it drains");
		request(sim, 0, 4); /* the guest does not know */
		comes(sim, &ways[w]);
		assert_int_equal(sim_info(sim)->info.holds, 1);
		assert_int_equal(sim_info(sim)->info.replayed, 0);
		/* What it had not taken when it was asked to stop is the next one's, too. */
		for (unsigned int n = 0; n < 4; n++)
			serves_on(sim);
		for (unsigned int n = 0; n < 4; n++)
			serves_on(sim);
		for (uint64_t serial = 1; serial <= 3; serial++) {
			gets(sim, 0, serial);
			gets(sim, 1, serial);
		}
		gets(sim, 0, 4);
		gets_nothing(sim, 0);
		gets_nothing(sim, 1);
		sim_free(sim);
	}
}

static void it_may_be_held_again_and_again(void **state)
{
	(void)state;
	for (size_t w = 0; w < ARRAY_SIZE(ways); w++) {
		struct sim *sim = boot(&ways[w], NO_TYPE);

		for (uint64_t serial = 1; serial < 70000; serial++) { /* over the index's end */
			if (serial % 1000 == 0) {
				request(sim, 1, serial);
				hold(sim);
				comes(sim, &ways[w]);
				serves_on(sim);
				gets(sim, 1, serial);
			}
			sim_serve(sim, 0, serial);
		}
		sim_free(sim);
	}
}

static void what_is_not_done_in_time_leaves_all_as_it_was(void **state)
{
	(void)state;
	for (size_t w = 0; w < ARRAY_SIZE(ways); w++) {
		struct sim *sim;

		if (ways[w].hush == HUSH_NOT) /* it does all that it has before it answers */
			continue;
		sim = boot(&ways[w], NO_TYPE);
		request(sim, 0, 1);
		sim_backend_take(sim, 0, 1);
		sim->while_waiting = takes_on;
		assert_int_equal(shadow_device_hold(sim->device, false, &err), -ETIME);
		assert_non_null(strstr(err.text, "queue 0"));
		runs(sim, &ways[w]);
		sim->while_waiting = NULL;
		sim_backend_complete(sim, 0, 0);
		gets(sim, 0, 1);
		sim_serve(sim, 1, 2);
		sim_free(sim);
	}
}

/* --- by force ------------------------------------------------------------------------------- */

static void by_force_it_is_a_loss_where_that_is_borne(void **state)
{
	struct sim *sim = boot(&ways[0], VIRTIO_ID_BLOCK);

	(void)state;
	request(sim, 0, 1);
	request(sim, 0, 2);
	sim_backend_take(sim, 0, 1);
	assert_int_equal(shadow_device_hold(sim->device, true, &err), 0);
	is(sim, UMBRA_DEVICE_HELD);
	says(sim, "it may have done 2 requests or not");
	assert_int_equal(shadow_device_unsettled(sim->device), 2);
	assert_int_equal(sim->queues[0].stops, 0);
	sim_bury(sim);
	shadow_device_backend_is_dead(sim->device);
	comes(sim, &ways[0]);
	assert_int_equal(sim_backend_take(sim, 0, 8), 2);
	sim_backend_complete(sim, 0, 0);
	sim_backend_complete(sim, 0, 0);
	gets(sim, 0, 1);
	gets(sim, 0, 2);
	assert_int_equal(sim_info(sim)->info.replayed, 2);
	sim_free(sim);
}

static void by_force_nothing_is_lost_that_may_not_be_done_twice(void **state)
{
	struct sim *sim = boot(&ways[0], NO_TYPE);

	(void)state;
	request(sim, 0, 1);
	sim_backend_take(sim, 0, 1);
	assert_int_equal(shadow_device_hold(sim->device, true, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "1 requests are with the back-end"));
	runs(sim, &ways[0]);
	sim_backend_complete(sim, 0, 0);
	gets(sim, 0, 1);
	/* It has nothing: nothing can be lost. */
	assert_int_equal(shadow_device_hold(sim->device, true, &err), 0);
	is(sim, UMBRA_DEVICE_HELD);
	sim_bury(sim);
	comes(sim, &ways[0]);
	sim_serve(sim, 0, 2);
	sim_free(sim);

	sim = boot(&ways[1], VIRTIO_ID_BLOCK);
	assert_int_equal(shadow_device_hold(sim->device, true, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "queue 0 is passed through"));
	runs(sim, &ways[1]);
	sim_serve(sim, 0, 1);
	sim_free(sim);
}

/* Whoever takes it down hears before that the guest has to reset its device. */
static void one_that_knows_something_of_its_guest_is_held_by_force_alone(void **state)
{
	struct sim *sim = boot(&ways[0], VIRTIO_ID_FS);

	(void)state;
	assert_int_equal(shadow_device_hold(sim->device, false, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "the guest has to reset its device"));
	runs(sim, &ways[0]);
	sim_serve(sim, 0, 1);
	assert_int_equal(shadow_device_hold(sim->device, true, &err), 0);
	is(sim, UMBRA_DEVICE_HELD);
	sim_bury(sim);
	shadow_device_backend_is_dead(sim->device);
	shadow_device_release(sim->device);
	assert_int_equal(shadow_device_return(sim->device, &sim->backend, &err), 0);
	is(sim, UMBRA_DEVICE_BROKEN);
	sim_free(sim);
}

static void a_kernel_device_is_not_held(void **state)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_ON, SIZE, V1 | EVENT);

	(void)state;
	sim_run_as_one(sim, SUSPENDING);
	sim_boot(sim, 1, V1 | EVENT);
	sim_pause(sim);
	is(sim, UMBRA_DEVICE_SHADOWED);
	assert_int_equal(shadow_device_hold(sim->device, false, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "vhost-vdpa"));
	is(sim, UMBRA_DEVICE_SHADOWED);
	sim_free(sim);
}

/* --- losses on the way ---------------------------------------------------------------------------
 */

static void one_that_is_lost_while_it_is_waited_for_is_lost_as_ever(void **state)
{
	(void)state;
	for (size_t w = 0; w < ARRAY_SIZE(ways); w++) {
		bool is_borne = ways[w].mode == UMBRA_SHADOW_ON;
		struct sim *sim = boot(&ways[w], is_borne ? VIRTIO_ID_BLOCK : NO_TYPE);

		sim->fail_stop = 1;
		sim->fail_stop_code = -ECONNRESET;
		if (is_borne) {
			assert_int_equal(shadow_device_hold(sim->device, false, &err), 0);
			is(sim, UMBRA_DEVICE_HELD);
			says(sim, "by hand: the back-end may be taken down");
			sim_bury(sim);
			shadow_device_backend_is_dead(sim->device);
			comes(sim, &ways[w]);
			sim_serve(sim, 0, 1);
		} else {
			assert_int_equal(shadow_device_hold(sim->device, false, &err), -ECONNRESET);
			is(sim, UMBRA_DEVICE_BACKEND_LOST);
		}
		sim_free(sim);
	}
}

/* A ring that it has been given is its own: what becomes of it nobody knows. */
static void the_next_one_that_is_lost_with_a_ring_that_is_passed_through_is_lost(void **state)
{
	(void)state;
	for (size_t w = 0; w < ARRAY_SIZE(ways); w++) {
		struct sim *sim = boot(&ways[w], NO_TYPE);

		hold(sim);
		shadow_device_release(sim->device);
		sim->fail_start = 2;
		sim->fail_start_code = -ECONNRESET;
		assert_int_equal(shadow_device_return(sim->device, &sim->backend, &err),
				 -ECONNRESET);
		if (ways[w].mode == UMBRA_SHADOW_ON) {
			is(sim, UMBRA_DEVICE_HELD);
			sim_bury(sim);
			comes(sim, &ways[w]);
			sim_serve(sim, 0, 1);
		} else {
			is(sim, UMBRA_DEVICE_BACKEND_LOST);
		}
		sim_free(sim);
	}
}

static void one_that_has_less_leaves_it_held(void **state)
{
	(void)state;
	for (size_t w = 0; w < ARRAY_SIZE(ways); w++) {
		struct sim *sim = boot(&ways[w], NO_TYPE);

		hold(sim);
		shadow_device_release(sim->device);
		sim->features = EVENT;
		assert_int_equal(shadow_device_return(sim->device, &sim->backend, &err),
				 -EOPNOTSUPP);
		is(sim, UMBRA_DEVICE_HELD);
		sim_bury(sim);
		sim->features = V1 | EVENT;
		comes(sim, &ways[w]);
		sim_serve(sim, 1, 1);
		sim_free(sim);
	}
}

/* --- a front-end that goes on --------------------------------------------------------------------
 */

static void a_front_end_is_served_while_it_is_held(void **state)
{
	(void)state;
	for (size_t w = 0; w < ARRAY_SIZE(ways); w++) {
		struct sim *sim = boot(&ways[w], NO_TYPE);
		uint64_t features;
		uint16_t base;

		sim_serve(sim, 0, 1);
		hold(sim);
		assert_int_equal(sim->front->ops->get_features(sim->front, &features, &err), 0);
		assert_int_equal(features & V1, V1);
		assert_int_equal(ring_stop_at(sim->front, 0, &base, &err), 0);
		assert_int_equal(base, 1);
		assert_int_equal(sim_ring_start(sim, 0, base), 0);
		assert_int_equal(sim->front->ops->ring_enable(sim->front, 0, true, &err), 0);
		is(sim, UMBRA_DEVICE_HELD);
		comes(sim, &ways[w]);
		sim_serve(sim, 0, 2);
		sim_free(sim);
	}
}

static void a_loss_that_is_held_is_the_operators_from_then_on(void **state)
{
	const struct umbra_error why = { "simulated: closed" };
	struct sim *sim = boot(&ways[0], VIRTIO_ID_BLOCK);

	(void)state;
	request(sim, 0, 1);
	assert_true(shadow_device_lose_backend(sim->device, &why));
	says(sim, "simulated: closed");
	assert_int_equal(shadow_device_hold(sim->device, false, &err), 0);
	says(sim, "by hand: the back-end may be taken down; it may have done 1 requests");
	assert_int_equal(sim_info(sim)->info.holds, 1);
	shadow_device_release(sim->device);
	says(sim, "released");
	sim_free(sim);
}

static void one_that_nobody_waits_for_any_longer_is_lost(void **state)
{
	const struct umbra_error why = { "simulated: it is over" };

	(void)state;
	for (size_t w = 0; w < ARRAY_SIZE(ways); w++) {
		struct sim *sim = boot(&ways[w], NO_TYPE);

		shadow_device_end_hold(sim->device, &why); /* it is not held */
		runs(sim, &ways[w]);
		hold(sim);
		request(sim, 0, 1);
		shadow_device_end_hold(sim->device, &why);
		is(sim, UMBRA_DEVICE_BACKEND_LOST);
		says(sim, "simulated: it is over");
		sim_free(sim);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			whatever_it_has_is_done_first_and_what_comes_later_is_the_next_ones),
		cmocka_unit_test(it_may_be_held_again_and_again),
		cmocka_unit_test(what_is_not_done_in_time_leaves_all_as_it_was),
		cmocka_unit_test(by_force_it_is_a_loss_where_that_is_borne),
		cmocka_unit_test(by_force_nothing_is_lost_that_may_not_be_done_twice),
		cmocka_unit_test(one_that_knows_something_of_its_guest_is_held_by_force_alone),
		cmocka_unit_test(a_kernel_device_is_not_held),
		cmocka_unit_test(one_that_is_lost_while_it_is_waited_for_is_lost_as_ever),
		cmocka_unit_test(
			the_next_one_that_is_lost_with_a_ring_that_is_passed_through_is_lost),
		cmocka_unit_test(one_that_has_less_leaves_it_held),
		cmocka_unit_test(a_front_end_is_served_while_it_is_held),
		cmocka_unit_test(a_loss_that_is_held_is_the_operators_from_then_on),
		cmocka_unit_test(one_that_nobody_waits_for_any_longer_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
