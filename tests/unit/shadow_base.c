/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where a ring stands, a peer says; what cannot be is not believed, at any entry: the
 * front-end's base at a start, the back-end's at a stop and in a switch, in either mode.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/shm.h"
#include "sim.h"

#define SIZE 8u

/* Back-ends as they are found. */
static const struct family {
	const char *name;
	unsigned int traits;
	bool tells_base; /* at a stop */
	bool can_pass;
} families[] = {
	{ "vhost-user", 0, true, true },
	{ "suspends, keeps index", SUSPENDING, true, true },
	{ "keeps index", RESETTING, true, true },
	{ "neither", FORGETFUL, false, false },
};

/* --- small things ----------------------------------------------------------- */

static struct sim *boot(const struct family *family)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, SIZE, V1 | EVENT);

	if (family->traits)
		sim_run_as_one(sim, family->traits);
	else /* it is stopped in the midst of its work, and answers at once all the same */
		sim_hush_by(sim, HUSH_NOT);
	sim->answers_at_once = true;
	sim->tells_base = family->tells_base;
	sim_boot(sim, 2, V1 | EVENT);
	sim->honest = 1u << 1; /* queue 1 */
	return sim;
}

/* Queue 0 is broken with these three numbers; queue 1 serves. */
static void is_broken(struct sim *sim, uint16_t base, uint16_t used, uint16_t avail)
{
	char at[32], between[64];
	const char *error = sim_info(sim)->queues[0].error;

	snprintf(at, sizeof(at), "at index %u,", base);
	snprintf(between, sizeof(between), "used %u and available %u", used, avail);
	if (!strstr(error, at) || !strstr(error, between))
		fail_msg("\"%s\" lacks \"%s\" or \"%s\"", error, at, between);
	assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_BROKEN);
	assert_false(sim->queues[0].started);
	assert_null(sim->host.services[0]);
	sim_pause(sim);
	sim_serve(sim, 1, 100);
}

/* The guest's driver resets queue 0 and begins anew, at index 0.  The back-end had been given
 * @left chains more, of which nobody knows: their places stay free. */
static void driver_begins_anew(struct sim *sim, unsigned int left)
{
	struct sim_queue *q = &sim->queues[0];
	struct umbra_error err;
	uint16_t base;

	assert_int_equal(ring_stop_at(sim->front, 0, &base, &err), 0);
	sim_driver_begin(sim, 0, V1 | EVENT);
	q->held_count = left;
	assert_int_equal(sim_ring_start(sim, 0, 0), 0);
	sim_pause(sim);
	q->held_count = 0;
	assert_int_equal(sim_info(sim)->queues[0].error[0], 0);
	for (uint64_t i = 0; i < 20; i++)
		sim_serve(sim, 0, i);
}

/* --- the front-end's ----------------------------------------------------------- */

/* Queue 0 is stopped with @used and @avail requests behind @first. */
static void stand(struct sim *sim, uint16_t first, uint16_t used, uint16_t avail)
{
	struct sim_queue *q = &sim->queues[0];
	struct umbra_error err;
	uint16_t base;

	assert_int_equal(ring_stop_at(sim->front, 0, &base, &err), 0);
	shm_store16(&q->driver.split.used->idx, (uint16_t)(first + used));
	shm_store16(&q->driver.split.avail->idx, (uint16_t)(first + avail));
}

static void a_base_of_the_front_end_that_cannot_be_breaks_the_ring(void **state)
{
	static const struct {
		uint16_t used, avail;
		int base;
		bool can_be;
	} cases[] = {
		{ 0, 0, 0, true },  { 3, 7, 3, true },  { 3, 7, 5, true },   { 3, 7, 7, true },
		{ 3, 7, 2, false }, { 3, 7, 8, false }, { 3, 7, 15, false }, { 3, 7, -500, false },
		{ 0, 0, 1, false }, { 0, 8, 8, true },  { 0, 8, 9, false },  { 0, 9, 4, false },
		{ 5, 4, 4, false }, { 5, 4, 5, false },
	};
	static const uint16_t firsts[] = { 0, 65532 };

	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(families); k++)
		for (size_t n = 0; n < ARRAY_SIZE(cases) * 4; n++) {
			bool shadowed = n % 2;
			uint16_t first = firsts[n / 2 % 2];
			uint16_t used = first + cases[n / 4].used,
				 avail = first + cases[n / 4].avail;
			uint16_t base = (uint16_t)(first + cases[n / 4].base);
			struct sim *sim;
			struct umbra_error err;
			unsigned int starts, stops;

			if (!shadowed && !families[k].can_pass)
				continue;
			sim = boot(&families[k]);
			assert_int_equal(shadow_device_switch(sim->device, shadowed, &err), 0);
			stand(sim, first, cases[n / 4].used, cases[n / 4].avail);
			starts = sim->queues[0].starts;
			stops = sim->queues[0].stops;
			/* What an earlier life of the device had, it has still; where it is stopped
			 * as a whole, such a ring is shadowed. */
			if (cases[n / 4].can_be && !shadowed && !families[k].traits)
				sim->queues[0].held_count = (uint16_t)(base - used);
			assert_int_equal(sim_ring_start(sim, 0, base), 0);
			sim_pause(sim);
			if (cases[n / 4].can_be) {
				assert_true(sim->queues[0].starts > starts);
				assert_int_equal(sim_info(sim)->queues[0].error[0], 0);
			} else {
				is_broken(sim, base, used, avail);
				assert_int_equal(sim->queues[0].starts, starts);
				assert_int_equal(sim->queues[0].stops, stops);
				driver_begins_anew(sim, 0);
			}
			sim_free(sim);
		}
}

/* --- the back-end's ------------------------------------------------------------- */

/* Three served, one receive buffer in the device's hands, two that it has not seen: used 3,
 * available 6, and the truth is 4. */
static void be_in_the_midst(struct sim *sim, bool shadowed)
{
	struct umbra_error err;

	assert_int_equal(shadow_device_switch(sim->device, shadowed, &err), 0);
	for (uint64_t i = 0; i < 3; i++)
		sim_serve(sim, 0, i);
	assert_int_equal(sim_guest_add(sim, 0, 0, 1, 3), 1);
	sim_run(sim);
	assert_int_equal(sim_backend_take(sim, 0, 1), 1);
	assert_int_equal(sim_guest_add(sim, 0, 0, 1, 4), 1);
	assert_int_equal(sim_guest_add(sim, 0, 0, 1, 5), 1);
	sim_run(sim);
}

static void use_it(struct sim *sim)
{
	if (sim->queues[0].held_count && sim->host.now_us > 200)
		sim_backend_complete(sim, 0, 0);
}

/* The front-end stops it, and starts it where it is told, before a back-end that may complete
 * @had chains yet. */
static void nothing_is_done_twice(struct sim *sim, uint16_t avail, uint16_t had)
{
	struct sim_queue *q = &sim->queues[0];
	struct umbra_error err;
	uint16_t base;

	assert_int_equal(ring_stop_at(sim->front, 0, &base, &err), 0);
	assert_int_equal(base, avail);
	assert_int_equal(sim_info(sim)->queues[0].error[0], 0);
	sim->base_lie = 0;
	q->held_count = had;
	assert_int_equal(sim_ring_start(sim, 0, base), 0);
	sim_pause(sim);
	q->awake = true;
	assert_int_equal(sim_backend_take(sim, 0, 8), 0);
}

static void a_base_of_the_back_end_that_cannot_be_breaks_a_passed_ring_at_once(void **state)
{
	static const int lies[] = { -5, -2, 3, 100, 32768 };

	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(families); k++)
		for (size_t n = 0; n < 2 * ARRAY_SIZE(lies); n++) {
			bool by_frontend = n % 2;
			struct umbra_error err = { "" };
			struct sim_queue *q;
			uint16_t base;
			struct sim *sim;

			if (!families[k].can_pass)
				continue;
			sim = boot(&families[k]);
			q = &sim->queues[0];
			be_in_the_midst(sim, false);
			if (families[k].traits) { /* it uses all, or it is not stopped */
				sim_backend_take(sim, 0, 8);
				sim->while_waiting = use_it;
			}
			sim->base_lie = lies[n / 2];
			if (by_frontend) {
				assert_int_equal(ring_stop_at(sim->front, 0, &base, &err), 0);
				assert_int_equal(base, 6);
			} else {
				(void)!shadow_device_switch(sim->device, true, &err);
				is_broken(sim, (uint16_t)(q->device.last_avail + lies[n / 2]),
					  families[k].traits ? 6 : 3, 6);
				nothing_is_done_twice(sim, 6, families[k].traits ? 0 : 3);
				/* What it has may come yet: not on a ring of ours. */
				assert_int_equal(shadow_device_state(sim->device),
						 families[k].traits ? UMBRA_DEVICE_SHADOWED
								    : UMBRA_DEVICE_PASSTHROUGH);
			}
			assert_true(sim->host.now_us < 100000); /* not waited for */
			sim_free(sim);
		}
}

static void a_base_of_the_back_end_that_cannot_be_breaks_a_shadowed_ring_at_once(void **state)
{
	/* The one in its hands is used, and we have not seen it: used 4, available 6. */
	static const int lies[] = { -4, -1, 3, 100, 32768 };

	(void)state;
	for (size_t n = 0; n < ARRAY_SIZE(lies); n++) {
		struct sim *sim = boot(&families[0]);
		struct umbra_error err = { "" };

		be_in_the_midst(sim, true);
		sim_backend_complete(sim, 0, 0);
		sim->base_lie = lies[n];
		(void)!shadow_device_switch(sim->device, false, &err);
		sim->base_lie = 0;
		is_broken(sim, (uint16_t)(4 + lies[n]), 4, 6);
		assert_true(sim->host.now_us < 100000);
		driver_begins_anew(sim, 2);
		sim_free(sim);
	}
}

/* --- what is no lie --------------------------------------------------------------- */

static int stop_late(struct virtio_device *b, unsigned int index, struct ring_position *base,
		     struct umbra_error *err)
{
	struct sim *sim = sim_of(b);
	static int (*real)(struct virtio_device *, unsigned int, struct ring_position *,
			   struct umbra_error *);
	int rc;

	if (!real) { /* the table that is replaced */
		struct sim *other = sim_new(UMBRA_SHADOW_AUTO, 1, V1);

		real = other->ops.ring_stop;
		sim_free(other);
	}
	rc = real(b, index, base, err);
	if (!index) /* between its answer and our look, both go on */
		for (uint64_t i = 0; i < 2; i++)
			assert_int_equal(sim_guest_add(sim, 0, 1, 0, 50 + i), 1);
	while (sim->queues[index].held_count)
		sim_backend_complete(sim, index, 0);
	return rc;
}

static void indices_that_move_on_while_they_are_looked_at_are_no_lie(void **state)
{
	(void)state;
	for (int shadowed = 0; shadowed < 2; shadowed++) {
		struct sim *sim = boot(&families[0]);
		struct umbra_error err = { "" };

		be_in_the_midst(sim, shadowed);
		sim->ops.ring_stop = stop_late;
		assert_int_equal(shadow_device_switch(sim->device, !shadowed, &err), 0);
		assert_int_equal(sim_info(sim)->queues[0].error[0], 0);
		sim_run(sim);
		sim->queues[0].awake = true;
		assert_int_equal(sim_backend_take(sim, 0, 8), 4);
		sim_free(sim);
	}
}

/* A front-end that has lost its back-end goes on at the used index (QEMU), or at the base
 * that it was told; what the old one had, it may use yet. */
static void what_an_earlier_life_had_and_uses_late_is_no_lie(void **state)
{
	struct sim *sim = boot(&families[0]);
	struct umbra_error err = { "" };
	uint16_t base;

	(void)state;
	be_in_the_midst(sim, false);
	assert_int_equal(ring_stop_at(sim->front, 0, &base, &err), 0); /* given up */
	assert_int_equal(base, 4);
	assert_int_equal(sim_ring_start(sim, 0, base), 0);
	sim_backend_complete(sim, 0, 0); /* the one that was given up */
	assert_int_equal(sim_backend_take(sim, 0, 1), 1);
	sim_backend_complete(sim, 0, 0);
	sim->host.now_us = 0;
	assert_int_equal(ring_stop_at(sim->front, 0, &base, &err), 0);
	assert_int_equal(base, 5);
	assert_int_equal(sim->host.now_us, 0); /* nothing is waited for */
	assert_int_equal(sim_ring_start(sim, 0, base), 0);
	assert_int_equal(sim_info(sim)->queues[0].error[0], 0);
	assert_int_equal(sim_backend_take(sim, 0, 8), 1);
	assert_int_equal(sim->queues[0].held[0].serial, 5);
	sim_free(sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_base_of_the_front_end_that_cannot_be_breaks_the_ring),
		cmocka_unit_test(
			a_base_of_the_back_end_that_cannot_be_breaks_a_passed_ring_at_once),
		cmocka_unit_test(
			a_base_of_the_back_end_that_cannot_be_breaks_a_shadowed_ring_at_once),
		cmocka_unit_test(indices_that_move_on_while_they_are_looked_at_are_no_lie),
		cmocka_unit_test(what_an_earlier_life_had_and_uses_late_is_no_lie),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
