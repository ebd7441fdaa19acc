/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Two lives of a ring cannot be taken for each other: what a back-end kept through a forced
 * stop, and completes later, completes nothing that a later life asked for.
 *
 * The simulated back-end does as libvhost-user: it completes into whatever ring it then
 * knows, by the id that it was given then.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_config.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/shm.h"
#include "random.h"
#include "sim.h"

static struct sim *boot(uint16_t size, uint64_t features, bool shadowed)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, size, features);
	struct umbra_error err;

	sim->is_silent = true;
	sim_boot(sim, 2, features);
	assert_int_equal(shadow_device_switch(sim->device, shadowed, &err), 0);
	return sim;
}

static void ask(struct sim *sim, uint64_t serial)
{
	assert_int_equal(sim_guest_add(sim, 0, 1, 0, serial), 1);
	sim->queues[0].guest_awake = true;
	sim_run(sim);
}

/* The answers that the guest gets are these, and no others. */
static void expect(struct sim *sim, uint64_t first, unsigned int count)
{
	uint64_t got;
	uint32_t len;

	sim_run(sim);
	sim->queues[0].guest_awake = true;
	for (unsigned int i = 0; i < count; i++) {
		assert_int_equal(sim_guest_get(sim, 0, &got, &len), 1);
		assert_int_equal(got, first + i);
	}
	assert_int_equal(sim_guest_get(sim, 0, &got, &len), 0);
}

/* The front-end stops the ring, whatever the back-end has. */
static uint16_t stop(struct sim *sim)
{
	struct umbra_error err;
	uint16_t base;

	assert_int_equal(ring_stop_at(sim->front, 0, &base, &err), 0);
	return base;
}

/* A driver that knows nothing of an earlier one begins. */
static void driver_begins(struct sim *sim)
{
	sim_driver_begin(sim, 0, sim->accepted & ~BIT64(VIRTIO_F_ACCESS_PLATFORM));
	assert_int_equal(sim_ring_start(sim, 0, 0), 0);
}

static void complete_oldest(struct sim *sim, unsigned int count)
{
	while (count--)
		sim_backend_complete(sim, 0, 0);
}

static void serves_whatever_fits(struct sim *sim)
{
	for (uint64_t round = 0; round < 3; round++) {
		for (uint64_t i = 0; i < sim->size; i++)
			ask(sim, 100 + i);
		sim->queues[0].awake = true;
		assert_int_equal(sim_backend_take(sim, 0, 1000), sim->size);
		complete_oldest(sim, sim->size);
		expect(sim, 100, sim->size);
	}
}

/* --- one after the other ----------------------------------------------------- */

static void a_late_completion_of_an_earlier_life_completes_nothing_of_a_later_one(void **state)
{
	(void)state;
	for (int anew = 0; anew < 2; anew++) {
		struct sim *sim = boot(8, V1 | EVENT, true);
		uint16_t base;

		for (uint64_t i = 0; i < 3; i++)
			ask(sim, i);
		assert_int_equal(sim_backend_take(sim, 0, 8), 3);
		base = stop(sim);
		assert_int_equal(sim->queues[0].held_count, 3); /* it keeps them */
		if (anew)
			driver_begins(sim);
		else
			assert_int_equal(sim_ring_start(sim, 0, base), 0);
		for (uint64_t i = 10; i < 13; i++)
			ask(sim, i);
		assert_int_equal(sim_backend_take(sim, 0, 8), 3);
		complete_oldest(sim, 3);
		expect(sim, 0, 0);
		complete_oldest(sim, 3);
		expect(sim, 10, 3);
		assert_int_equal(sim_info(sim)->queues[0].error[0], 0);
		if (anew) /* the other has its first three yet */
			serves_whatever_fits(sim);
		sim_free(sim);
	}
}

static void what_was_completed_in_between_is_not_waited_for(void **state)
{
	struct sim *sim = boot(8, V1 | EVENT, true);

	(void)state;
	for (uint64_t i = 0; i < 3; i++)
		ask(sim, i);
	assert_int_equal(sim_backend_take(sim, 0, 8), 3);
	stop(sim);
	complete_oldest(sim, 2);
	driver_begins(sim); /* the simulated back-end finds one of its chains in it */
	ask(sim, 10);
	assert_int_equal(sim_backend_take(sim, 0, 8), 1);
	complete_oldest(sim, 1);
	expect(sim, 0, 0);
	complete_oldest(sim, 1);
	expect(sim, 10, 1);
	serves_whatever_fits(sim);
	sim_free(sim);
}

static void a_ring_without_a_free_id_waits_for_one(void **state)
{
	struct sim *sim = boot(2, V1 | EVENT, true);

	(void)state;
	ask(sim, 0);
	ask(sim, 1);
	assert_int_equal(sim_backend_take(sim, 0, 8), 2);
	stop(sim);
	driver_begins(sim);
	ask(sim, 10);
	assert_int_equal(sim_backend_take(sim, 0, 8), 0);
	complete_oldest(sim, 1);
	expect(sim, 0, 0);
	assert_int_equal(sim_backend_take(sim, 0, 8), 1);
	complete_oldest(sim, 2);
	expect(sim, 10, 1);
	serves_whatever_fits(sim);
	sim_free(sim);
}

static void a_life_that_is_stopped_does_not_wait_for_an_earlier_one(void **state)
{
	struct sim *sim = boot(8, V1 | EVENT, true);
	uint64_t start;

	(void)state;
	ask(sim, 0);
	assert_int_equal(sim_backend_take(sim, 0, 8), 1);
	stop(sim);
	for (int i = 0; i < 5; i++) {
		driver_begins(sim);
		ask(sim, 10);
		assert_int_equal(sim_backend_take(sim, 0, 8), 1);
		sim_backend_complete(sim, 0, 1);
		expect(sim, 10, 1);
		start = sim->host.now_us;
		stop(sim);
		assert_int_equal(sim->host.now_us, start);
	}
	driver_begins(sim);
	complete_oldest(sim, 1);
	expect(sim, 0, 0);
	serves_whatever_fits(sim);
	sim_free(sim);
}

/* --- the two modes -------------------------------------------------------------- */

static void chains_of_a_shadow_are_not_completed_on_the_guests_ring(void **state)
{
	struct sim *sim = boot(8, V1 | EVENT, true);
	struct umbra_error err = { "" };

	(void)state;
	ask(sim, 0);
	assert_int_equal(sim_backend_take(sim, 0, 8), 1);
	stop(sim);
	assert_int_equal(shadow_device_switch(sim->device, false, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "queue 0"));
	assert_non_null(strstr(err.text, "not used 1 chains of a shadow"));
	driver_begins(sim);
	assert_int_equal(shadow_device_switch(sim->device, false, &err), -EOPNOTSUPP);
	complete_oldest(sim, 1);
	sim_run(sim);
	assert_int_equal(shadow_device_switch(sim->device, false, &err), 0);
	sim->queues[0].awake = true;
	serves_whatever_fits(sim);
	sim_free(sim);
}

static void chains_of_the_guests_ring_are_not_completed_on_a_shadow(void **state)
{
	struct sim *sim = boot(8, V1 | EVENT, false);
	struct umbra_error err = { "" };
	uint64_t offered;

	(void)state;
	ask(sim, 0);
	assert_int_equal(sim_backend_take(sim, 0, 8), 1);
	stop(sim);
	assert_int_equal(shadow_device_switch(sim->device, true, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "queue 0"));
	assert_non_null(strstr(err.text, "passed through"));
	/* Another back-end has nothing of it. */
	sim->front->ops->detach(sim->front);
	memory_unref(&sim->backend_memory);
	for (unsigned int i = 0; i < SIM_QUEUES; i++) {
		sim->queues[i].held_count = 0;
		sim->queues[i].started = false;
	}
	shadow_device_await(sim->device, NULL);
	sim->front->ops->attach(sim->front, &sim->backend);
	assert_int_equal(sim->front->ops->get_features(sim->front, &offered, &err), 0);
	assert_int_equal(sim->front->ops->set_features(sim->front, V1 | EVENT, &err), 0);
	assert_int_equal(sim->front->ops->set_memory(sim->front, &sim->guest, 1, &err), 0);
	driver_begins(sim);
	assert_int_equal(shadow_device_switch(sim->device, true, &err), 0);
	serves_whatever_fits(sim);
	sim_free(sim);
}

/* It has lied about where it stopped, or has no call fd any more: what it has done, and will do
 * yet, nobody knows. */
static void chains_of_a_passed_ring_that_broke_are_not_completed_on_a_shadow(void **state)
{
	(void)state;
	for (int n = 0; n < 3; n++) {
		const bool has_some = n < 2;
		struct sim *sim = boot(8, V1 | EVENT, false);
		struct umbra_error err = { "" };
		int fd = sim->host.next_fd++;

		ask(sim, 0);
		assert_int_equal(sim_backend_take(sim, 0, 8), 1);
		if (!has_some)
			complete_oldest(sim, 1);
		if (n == 0) {
			sim->fail_fds = 2;
			assert_int_not_equal(
				sim->front->ops->ring_set_call(sim->front, 0, &fd, &err), 0);
			assert_true(sim_info(sim)->queues[0].error[0]);
		} else {
			sim->base_lie = 100;
		}
		stop(sim);
		sim->base_lie = 0;
		err.text[0] = '\0';
		assert_int_equal(shadow_device_switch(sim->device, true, &err),
				 has_some ? -EOPNOTSUPP : 0);
		assert_true(!has_some || strstr(err.text, "queue 0"));
		sim->queues[0].held_count = 0; /* it forgets them, which nobody knows */
		driver_begins(sim);
		if (has_some) {
			assert_int_equal(shadow_device_switch(sim->device, true, &err),
					 -EOPNOTSUPP);
			assert_int_equal(shadow_device_state(sim->device),
					 UMBRA_DEVICE_PASSTHROUGH);
		}
		serves_whatever_fits(sim);
		sim_free(sim);
	}
}

/* --- at random -------------------------------------------------------------------- */

/* Serials are given once: what the guest gets it must have asked for in this life, and the
 * back-end must have completed it. */
static void run(uint16_t size, uint64_t features, uint64_t seed)
{
	enum { SERIALS = 4000 };
	static bool done[SERIALS], got[SERIALS];
	struct sim *sim = boot(size, features, true);
	struct sim_queue *q = &sim->queues[0];
	uint64_t next = 0, life = 0, serial;
	unsigned int lives = 0;
	uint32_t len;

	memset(done, 0, sizeof(done));
	memset(got, 0, sizeof(got));
	random_begin(seed);
	while (next < SERIALS) {
		unsigned int which;

		switch (below(10)) {
		case 0 ... 3:
			next += sim_guest_add(sim, 0, 1, below(2) && size > 1, next) > 0;
			break;
		case 4 ... 5:
			sim_backend_take(sim, 0, 1 + below(4));
			break;
		case 6 ... 7:
			if (!q->held_count)
				break;
			which = below(q->held_count);
			done[q->held[which].serial] = true;
			sim_backend_complete(sim, 0, which);
			break;
		case 8:
			sim_run(sim);
			q->guest_awake = true;
			while (sim_guest_get(sim, 0, &serial, &len)) {
				assert_true(serial >= life && serial < next);
				assert_true(done[serial] && !got[serial]);
				got[serial] = true;
			}
			break;
		case 9:
			if (below(8))
				break;
			stop(sim);
			for (unsigned int n = below(3); n && q->held_count; n--) {
				which = below(q->held_count);
				done[q->held[which].serial] = true;
				sim_backend_complete(sim, 0, which);
			}
			driver_begins(sim);
			life = next;
			lives++;
			break;
		}
		assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_SHADOWED);
	}
	assert_true(lives > 20);
	sim_free(sim);
}

static void at_random_no_life_is_taken_for_another(void **state)
{
	static const uint16_t sizes[] = { 1, 2, 4, 16 };
	uint64_t seed = random_seed();

	(void)state;
	for (unsigned int n = 0; n < ARRAY_SIZE(sizes) * 4; n++) {
		uint64_t features = V1 | (n & 1 ? EVENT : 0) | (n & 2 ? INDIRECT : 0);

		print_message("size %u, features 0x%llx, UMBRA_SEED=%llu\n", sizes[n / 4],
			      (unsigned long long)features, (unsigned long long)seed);
		run(sizes[n / 4], features, seed);
		seed = random_seed_after(seed);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_late_completion_of_an_earlier_life_completes_nothing_of_a_later_one),
		cmocka_unit_test(what_was_completed_in_between_is_not_waited_for),
		cmocka_unit_test(a_ring_without_a_free_id_waits_for_one),
		cmocka_unit_test(a_life_that_is_stopped_does_not_wait_for_an_earlier_one),
		cmocka_unit_test(chains_of_a_shadow_are_not_completed_on_the_guests_ring),
		cmocka_unit_test(chains_of_the_guests_ring_are_not_completed_on_a_shadow),
		cmocka_unit_test(chains_of_a_passed_ring_that_broke_are_not_completed_on_a_shadow),
		cmocka_unit_test(at_random_no_life_is_taken_for_another),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
