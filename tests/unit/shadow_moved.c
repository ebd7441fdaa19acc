/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The contract of virtio/guest_ring.h for addresses that are sent again, kept by the shadow:
 * in front of each family of back-ends, shadowed and passed through.  The balloon:
 * balloon_moved.c.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "sim.h"

#define SIZE 8u
#define SERVED 5u

/* The guest's memory is there twice, and so is each ring: here and so far above. */
#define AGAIN (UINT64_C(1) << 32)
/* Of a slot without a ring: nothing but zeros. */
#define ZEROS (3 * SIM_SLOT)

static const struct family {
	const char *name;
	unsigned int traits;
	enum hush_way hush;
	bool can_pass;
} families[] = {
	{ "vhost-user, not hushed", 0, HUSH_NOT, true },
	{ "vhost-user, by kick", 0, HUSH_BY_KICK, true },
	{ "vhost-user, by enable", 0, HUSH_BY_ENABLE, true },
	{ "suspends", SUSPENDING, HUSH_NOT, true },
	{ "keeps index", RESETTING, HUSH_NOT, true },
	{ "neither", FORGETFUL, HUSH_NOT, false },
};

static struct umbra_error err;

/* --- small things ----------------------------------------------------------- */

/* The back-end goes on while we wait for it. */
static void backend_works(struct sim *sim)
{
	for (unsigned int which = 0; which < 2; which++) {
		sim_backend_take(sim, which, 1);
		if (sim->queues[which].held_count)
			sim_backend_complete(sim, which, 0);
	}
}

static struct sim *boot(const struct family *family, bool shadowed)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, SIZE, V1 | EVENT);
	struct memory_region again = sim->guest;

	if (family->traits)
		sim_run_as_one(sim, family->traits);
	sim_hush_by(sim, family->hush);
	sim->tells_base = true;
	sim->while_waiting = backend_works;
	sim_boot(sim, 2, V1 | EVENT);
	again.gpa.v += AGAIN;
	again.uva.v += AGAIN;
	assert_int_equal(sim->front->ops->add_region(sim->front, &again, &err), 0);
	assert_int_equal(shadow_device_switch(sim->device, shadowed, &err), 0);
	for (uint64_t i = 0; i < SERVED; i++)
		sim_serve(sim, 0, i);
	return sim;
}

/* Say of queue @which that it lies @away from where it was. */
static int move(struct sim *sim, unsigned int which, uint64_t away)
{
	struct virtio_ring_addr addr = sim_ring_addr(sim, which);
	int rc;

	addr.desc.v += away;
	addr.avail.v += away;
	addr.used.v += away;
	rc = sim->front->ops->ring_set_addr(sim->front, which, &addr, &err);
	sim_pause(sim); /* a device that starts as a whole does it then */
	return rc;
}

#define EACH_FAMILY_AND_MODE(family, shadowed)                                                     \
	for (const struct family *family = families; family < families + ARRAY_SIZE(families);     \
	     family++)                                                                             \
		for (unsigned int shadowed = !family->can_pass; shadowed < 2; shadowed++)

/* --- the contract ----------------------------------------------------------- */

static void the_same_addresses_change_nothing(void **state)
{
	(void)state;
	EACH_FAMILY_AND_MODE(family, shadowed)
	{
		struct sim *sim = boot(family, shadowed);
		unsigned int starts = sim->queues[0].starts, stops = sim->queues[0].stops;

		sim->host.fail_serves = 1; /* a host that is asked would refuse */
		for (unsigned int i = 0; i < 3; i++)
			assert_int_equal(move(sim, 0, 0), 0);
		assert_int_equal(sim->host.fail_serves, 1);
		assert_int_equal(sim->queues[0].starts, starts);
		assert_int_equal(sim->queues[0].stops, stops);
		sim_serve(sim, 0, 100);
		sim_free(sim);
	}
}

static void a_ring_that_was_moved_goes_on_where_it_stood(void **state)
{
	(void)state;
	EACH_FAMILY_AND_MODE(family, shadowed)
	{
		struct sim *sim = boot(family, shadowed);
		uint16_t base;

		for (unsigned int i = 0; i < 4; i++) {
			unsigned int starts = sim->queues[0].starts;

			assert_int_equal(move(sim, 0, i % 2 ? 0 : AGAIN), 0);
			assert_string_equal(sim_info(sim)->queues[0].error, "");
			assert_int_equal(sim->queues[0].starts, starts + 1);
			if (!shadowed)
				assert_int_equal(sim->queues[0].told.addr.desc.v,
						 SIM_UVA + (i % 2 ? 0 : AGAIN));
			sim_serve(sim, 0, 100 + i);
			sim_serve(sim, 1, 200 + i);
		}
		assert_int_equal(ring_stop_at(sim->front, 0, &base, &err), 0);
		assert_int_equal(base, SERVED + 4);
		sim_free(sim);
	}
}

/* What the back-end has is waited for, and the guest gets it once. */
static void a_ring_that_is_moved_loses_and_repeats_nothing(void **state)
{
	(void)state;
	EACH_FAMILY_AND_MODE(family, shadowed)
	{
		struct sim *sim = boot(family, shadowed);
		uint64_t got, next = 100;
		uint32_t len;

		for (uint64_t i = 0; i < 4; i++)
			assert_int_equal(sim_guest_add(sim, 0, 1, 1, 100 + i), 1);
		sim_run(sim);
		assert_int_equal(sim_backend_take(sim, 0, 2), 2);
		assert_int_equal(move(sim, 0, AGAIN), 0);
		assert_string_equal(sim_info(sim)->queues[0].error, "");
		sim->queues[0].guest_awake = true;
		for (unsigned int rounds = 0; rounds < 20 && next < 104; rounds++) {
			sim_run(sim);
			backend_works(sim);
			sim_run(sim);
			while (sim_guest_get(sim, 0, &got, &len) == 1)
				assert_int_equal(got, next++);
		}
		assert_int_equal(next, 104);
		sim_serve(sim, 0, 200);
		sim_free(sim);
	}
}

static void a_ring_that_is_not_in_memory_is_refused_and_goes_on(void **state)
{
	static const uint64_t away[] = { 8 * SIM_SLOT, -SIM_UVA, 8, UINT64_C(1) << 63 };

	(void)state;
	EACH_FAMILY_AND_MODE(family, shadowed)
	{
		struct sim *sim = boot(family, shadowed);
		unsigned int starts = sim->queues[0].starts, stops = sim->queues[0].stops;

		for (size_t i = 0; i < ARRAY_SIZE(away); i++) {
			assert_int_equal(move(sim, 0, away[i]), -EINVAL);
			assert_non_null(strstr(err.text, "queue 0"));
			sim_serve(sim, 0, 100 + i);
		}
		assert_int_equal(sim->queues[0].starts, starts);
		assert_int_equal(sim->queues[0].stops, stops);
		assert_int_equal(move(sim, 0, AGAIN), 0);
		sim_serve(sim, 0, 200);
		sim_free(sim);
	}
}

static void a_ring_that_cannot_stand_there_is_broken_and_no_other(void **state)
{
	(void)state;
	EACH_FAMILY_AND_MODE(family, shadowed)
	{
		struct sim *sim = boot(family, shadowed);

		assert_int_equal(move(sim, 0, ZEROS), 0);
		assert_non_null(strstr(sim_info(sim)->queues[0].error, "at index 5,"));
		assert_non_null(strstr(sim_info(sim)->queues[0].error, "used 0 and available 0"));
		assert_null(sim->host.services[0]);
		for (uint64_t i = 0; i < 10; i++)
			sim_serve(sim, 1, i);
		/* Where it can stand, it lives again. */
		assert_int_equal(move(sim, 0, AGAIN), 0);
		assert_string_equal(sim_info(sim)->queues[0].error, "");
		for (uint64_t i = 0; i < 10; i++)
			sim_serve(sim, 0, 100 + i);
		sim_free(sim);
	}
}

/* Of a back-end that starts each ring by itself: it says so at once. */
static void a_ring_that_the_back_end_does_not_take_there_goes_on_where_it_was(void **state)
{
	(void)state;
	EACH_FAMILY_AND_MODE(family, shadowed)
	{
		struct sim *sim;

		if (family->traits)
			continue;
		sim = boot(family, shadowed);
		sim->fail_start = 1;
		sim->fail_start_code = -EREMOTEIO;
		assert_int_equal(move(sim, 0, AGAIN), -EREMOTEIO);
		assert_string_equal(sim_info(sim)->queues[0].error, "");
		sim_serve(sim, 0, 100);
		if (!shadowed)
			assert_int_equal(sim->queues[0].told.addr.desc.v, SIM_UVA);
		/* Nor there any more. */
		sim->fail_start = 1;
		sim->fail_start_again = 1;
		assert_int_equal(move(sim, 0, AGAIN), -EREMOTEIO);
		assert_non_null(strstr(sim_info(sim)->queues[0].error, "does not start"));
		sim_serve(sim, 1, 101);
		sim->fail_start = sim->fail_start_again = 0;
		assert_int_equal(move(sim, 0, AGAIN), 0);
		sim_serve(sim, 0, 102);
		sim_free(sim);
	}
}

/* A back-end that lies when it is stopped for this: the reason is there to be seen. */
static void a_ring_whose_back_end_lies_meanwhile_stays_broken(void **state)
{
	(void)state;
	EACH_FAMILY_AND_MODE(family, shadowed)
	{
		struct sim *sim;

		if (!family->can_pass) /* it does not say where it stood */
			continue;
		sim = boot(family, shadowed);
		sim->base_lie = 5;
		sim->honest = 1u << 1;
		assert_int_equal(move(sim, 0, AGAIN), 0);
		assert_non_null(strstr(sim_info(sim)->queues[0].error, "stopped at index 10"));
		assert_string_equal(sim_info(sim)->queues[1].error, "");
		sim_serve(sim, 1, 100);
		sim->base_lie = 0;
		assert_int_equal(move(sim, 0, 0), 0);
		assert_string_equal(sim_info(sim)->queues[0].error, "");
		sim_serve(sim, 0, 100);
		sim_free(sim);
	}
}

/* Nobody may look at it meanwhile: its driver may be gone. */
static void a_disabled_ring_is_moved_when_it_is_enabled(void **state)
{
	(void)state;
	EACH_FAMILY_AND_MODE(family, shadowed)
	{
		struct sim *sim = boot(family, shadowed);

		assert_int_equal(sim->front->ops->ring_enable(sim->front, 0, false, &err), 0);
		assert_int_equal(move(sim, 0, ZEROS), 0);
		assert_string_equal(sim_info(sim)->queues[0].error, "");
		assert_int_equal(move(sim, 0, AGAIN), 0);
		assert_int_equal(sim->front->ops->ring_enable(sim->front, 0, true, &err), 0);
		sim_pause(sim);
		assert_string_equal(sim_info(sim)->queues[0].error, "");
		sim_serve(sim, 0, 100);
		sim_free(sim);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_same_addresses_change_nothing),
		cmocka_unit_test(a_ring_that_was_moved_goes_on_where_it_stood),
		cmocka_unit_test(a_ring_that_is_moved_loses_and_repeats_nothing),
		cmocka_unit_test(a_ring_that_is_not_in_memory_is_refused_and_goes_on),
		cmocka_unit_test(a_ring_that_cannot_stand_there_is_broken_and_no_other),
		cmocka_unit_test(a_ring_that_the_back_end_does_not_take_there_goes_on_where_it_was),
		cmocka_unit_test(a_ring_whose_back_end_lies_meanwhile_stays_broken),
		cmocka_unit_test(a_disabled_ring_is_moved_when_it_is_enabled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
