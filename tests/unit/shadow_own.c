/* SPDX-License-Identifier: BSD-2-Clause */
/* Our own memory at the back-end: how large it is, how it grows, how it moves, and that
 * a guest that names it harms nobody. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_config.h>
#include <stdlib.h>
#include <string.h>

#include "base/shm.h"
#include "sim.h"

#define FEATURES (V1 | INDIRECT | EVENT)
#define MIB (1ull << 20)

static struct umbra_error err;

/* The back-end's regions that are not the guest's; *@count of them. */
static uint64_t own_bytes(const struct sim *sim, unsigned int *count)
{
	uint64_t bytes = 0;

	*count = 0;
	for (unsigned int i = 0; i < sim->backend_memory->count; i++) {
		const struct memory_region *r = &sim->backend_memory->regions[i];

		if (r->host == sim->guest.host)
			continue;
		bytes += r->size;
		++*count;
	}
	return bytes;
}

/* The first of them. */
static const struct memory_region *own_region(const struct sim *sim)
{
	for (unsigned int i = 0; i < sim->backend_memory->count; i++)
		if (sim->backend_memory->regions[i].host != sim->guest.host)
			return &sim->backend_memory->regions[i];
	return NULL;
}

/* Requests go through every one of @count queues, and come back once. */
static void traffic(struct sim *sim, unsigned int count)
{
	for (unsigned int q = 0; q < count; q++) {
		uint64_t serial;
		uint32_t len;

		for (uint64_t i = 1; i <= 3; i++)
			assert_int_equal(sim_guest_add(sim, q, 1, 1, i), 1);
		sim_run(sim);
		assert_int_equal(sim_backend_take(sim, q, 100), 3);
		while (sim->queues[q].held_count)
			sim_backend_complete(sim, q, 0);
		sim_run(sim);
		for (uint64_t i = 1; i <= 3; i++) {
			assert_int_equal(sim_guest_get(sim, q, &serial, &len), 1);
			assert_int_equal(serial, i);
		}
		assert_int_equal(sim_guest_get(sim, q, &serial, &len), 0);
	}
}

/* --- how large ---------------------------------------------------------------- */

static void what_the_backend_maps_is_small_whatever_queues_it_could_have(void **state)
{
	static const enum umbra_shadow_mode modes[] = { UMBRA_SHADOW_AUTO, UMBRA_SHADOW_ON };
	unsigned int count;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		struct sim *sim = sim_new(modes[i], 256, FEATURES);

		sim->queue_num = 128; /* DPDK says so, and means pairs */
		sim_boot(sim, 2, FEATURES);
		assert_in_range(own_bytes(sim, &count), 1, 2 * MIB);
		assert_int_equal(count, 1);
		assert_int_equal(sim_switch(sim, true, &err), 0);
		traffic(sim, 2);
		assert_in_range(own_bytes(sim, &count), 1, 2 * MIB);
		sim_free(sim);
	}
}

/* Rings of 1024 need 0.8 MiB each, and one starts after the other. */
static void more_rings_get_a_region_more(void **state)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_ON, 1024, FEATURES);
	unsigned int count;

	(void)state;
	sim_boot(sim, 2, FEATURES);
	assert_int_equal(own_bytes(sim, &count), 2 * MIB);
	sim_boot(sim, 4, FEATURES);
	assert_int_equal(own_bytes(sim, &count), 4 * MIB);
	assert_int_equal(count, 2);
	assert_int_equal(sim->adds, 1);
	traffic(sim, 4);
	sim_free(sim);
}

static void a_switch_gets_what_its_rings_need_and_the_next_one_no_more(void **state)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 1024, FEATURES);
	unsigned int count;

	(void)state;
	sim_boot(sim, 4, FEATURES);
	assert_int_equal(own_bytes(sim, &count), 2 * MIB);
	for (unsigned int i = 0; i < 20; i++) {
		assert_int_equal(sim_switch(sim, true, &err), 0);
		traffic(sim, 4);
		assert_int_equal(own_bytes(sim, &count), 4 * MIB);
		assert_int_equal(sim_switch(sim, false, &err), 0);
		traffic(sim, 4);
	}
	assert_int_equal(sim->tables, 1);
	assert_int_equal(sim->adds, 1);
	sim_free(sim);
}

/* Where the rings are known before the table, as on a guest's reboot, it fits at once. */
static void a_table_after_the_rings_is_sent_with_what_they_need(void **state)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_ON, 1024, FEATURES);
	unsigned int count;

	(void)state;
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(sim->front->ops->ring_set_size(sim->front, i, 1024, &err), 0);
	sim_boot(sim, 4, FEATURES);
	assert_int_equal(own_bytes(sim, &count), 4 * MIB);
	assert_int_equal(count, 1);
	assert_int_equal(sim->adds, 0);
	sim_free(sim);
}

static void a_region_that_is_refused_leaves_the_old_mode(void **state)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 1024, FEATURES);

	(void)state;
	sim_boot(sim, 4, FEATURES);
	sim->fail_add = 1;
	sim->fail_add_code = -EREMOTEIO;
	assert_int_equal(sim_switch(sim, true, &err), -EREMOTEIO);
	assert_non_null(strstr(err.text, "simulated: no region for you"));
	assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_PASSTHROUGH);
	traffic(sim, 4);
	assert_int_equal(sim_switch(sim, true, &err), 0);
	traffic(sim, 4);
	sim_free(sim);
}

static void without_slots_the_table_has_room_for_more_rings_from_the_start(void **state)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_ON, 1024, FEATURES);
	unsigned int count;

	(void)state;
	sim->slots = 0;
	sim_boot(sim, 4, FEATURES);
	assert_int_equal(own_bytes(sim, &count), 8 * MIB);
	assert_int_equal(count, 1);
	assert_int_equal(sim->adds, 0);
	traffic(sim, 4);
	sim_free(sim);
}

static void without_slots_a_switch_sends_a_larger_table_while_no_ring_runs(void **state)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 4096, FEATURES);
	unsigned int count;

	(void)state;
	sim->slots = 0;
	shadow_device_limit_tables(sim->device, 32768); /* a mebibyte more for each */
	sim_boot(sim, 4, FEATURES);
	assert_int_equal(own_bytes(sim, &count), 8 * MIB);
	assert_int_equal(sim_switch(sim, true, &err), 0);
	assert_in_range(own_bytes(sim, &count), 9 * MIB, 12 * MIB);
	assert_int_equal(count, 1);
	assert_int_equal(sim->tables, 2);
	traffic(sim, 4);
	assert_int_equal(sim_switch(sim, false, &err), 0);
	assert_int_equal(sim_switch(sim, true, &err), 0);
	assert_int_equal(sim->tables, 2);
	traffic(sim, 4);
	sim_free(sim);
}

static void the_bound_is_kept_and_the_refusal_names_it(void **state)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 1024, FEATURES);
	unsigned int count;

	(void)state;
	shadow_device_limit_memory(sim->device, 3 * MIB);
	sim_boot(sim, 4, FEATURES);
	assert_int_equal(sim_switch(sim, true, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "--shadow-memory"));
	assert_non_null(strstr(err.text, "3072 KiB"));
	assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_PASSTHROUGH);
	assert_int_equal(own_bytes(sim, &count), 2 * MIB);
	traffic(sim, 4);
	sim_free(sim);
}

static void a_bound_is_what_a_backend_without_slots_gets(void **state)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 256, FEATURES);
	unsigned int count;

	(void)state;
	sim->slots = 0;
	shadow_device_limit_memory(sim->device, 32 * MIB);
	sim_boot(sim, 1, FEATURES);
	assert_int_equal(own_bytes(sim, &count), 32 * MIB);
	sim_free(sim);
}

static void a_device_that_is_mapped_gets_a_larger_region_before_it_starts(void **state)
{
	struct sim *sim =
		sim_new(UMBRA_SHADOW_ON, 1024, FEATURES | BIT64(VIRTIO_F_ACCESS_PLATFORM));
	unsigned int count;

	(void)state;
	sim_run_as_one(sim, SUSPENDING);
	sim_boot(sim, 2, FEATURES);
	sim_pause(sim);
	assert_int_equal(own_bytes(sim, &count), 2 * MIB);
	traffic(sim, 2);
	sim_boot(sim, 4, FEATURES);
	sim_pause(sim);
	assert_int_equal(own_bytes(sim, &count), 4 * MIB);
	assert_int_equal(count, 1);
	traffic(sim, 4);
	sim_free(sim);
}

/* --- whose piece is whose ------------------------------------------------------- */

/* A late completion of the old life must not find the new one where the old one was. */
static void a_ring_stopped_with_chains_in_flight_never_starts_there_again(void **state)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_ON, 256, FEATURES);
	uva_t before, after;
	uint16_t base;

	(void)state;
	sim_boot(sim, 1, FEATURES);
	traffic(sim, 1);
	before = sim->queues[0].told.addr.desc;
	assert_int_equal(ring_stop_at(sim->front, 0, &base, &err), 0);
	assert_int_equal(sim_ring_start(sim, 0, base), 0);
	sim_run(sim);
	assert_int_equal(sim->queues[0].told.addr.desc.v, before.v); /* in order, it stays */
	assert_int_equal(sim_guest_add(sim, 0, 1, 1, 1), 1);
	sim_run(sim);
	assert_int_equal(sim_backend_take(sim, 0, 1), 1);
	assert_int_equal(ring_stop_at(sim->front, 0, &base, &err), 0);
	assert_int_equal(sim_ring_start(sim, 0, base), 0);
	after = sim->queues[0].told.addr.desc;
	assert_int_not_equal(after.v, before.v);
	sim_free(sim);
}

/* --- how it moves ----------------------------------------------------------------- */

static struct memory_region plugged_at(uint64_t at, uint64_t size)
{
	return (struct memory_region){
		.gpa = { at }, .uva = { at }, .size = size, .host = aligned_alloc(4096, size)
	};
}

static void a_region_over_our_own_moves_it_and_the_backend_is_told(void **state)
{
	static const bool whole[] = { false, true };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(whole); i++) {
		struct sim *sim =
			sim_new(UMBRA_SHADOW_AUTO, 64,
				FEATURES | (whole[i] ? BIT64(VIRTIO_F_ACCESS_PLATFORM) : 0));
		struct memory_region extra;
		const struct memory_region *own;
		unsigned int removes;
		uint8_t *host;

		if (whole[i])
			sim_run_as_one(sim, SUSPENDING);
		sim_boot(sim, 1, FEATURES);
		sim_pause(sim);
		own = own_region(sim);
		host = own->host;
		removes = sim->removes;
		extra = plugged_at(own->gpa.v, 65536);
		assert_int_equal(sim->front->ops->add_region(sim->front, &extra, &err), 0);
		assert_int_equal(sim->removes, removes + 1);
		assert_int_equal(sim->backend_memory->count, 3);
		for (unsigned int k = 0; k < 3; k++) {
			own = &sim->backend_memory->regions[k];
			if (own->host == host)
				assert_int_not_equal(own->gpa.v, extra.gpa.v);
		}
		assert_int_equal(sim_switch(sim, true, &err), 0);
		traffic(sim, 1); /* the back-end finds the shadow ring, and the guest's memory */
		assert_int_equal(sim_switch(sim, false, &err), 0);
		traffic(sim, 1);
		sim_free(sim);
		free(extra.host);
	}
}

static void a_region_over_running_shadow_rings_is_refused(void **state)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_ON, 64, FEATURES);
	struct memory_region extra;

	(void)state;
	sim_boot(sim, 1, FEATURES);
	extra = plugged_at(own_region(sim)->gpa.v + MIB, 65536);
	assert_int_equal(sim->front->ops->add_region(sim->front, &extra, &err), -EINVAL);
	assert_non_null(strstr(err.text, "where the running shadow rings are"));
	assert_int_equal(sim->backend_memory->count, 2);
	assert_int_equal(sim->adds + sim->removes, 0);
	traffic(sim, 1);
	sim_free(sim);
	free(extra.host);
}

/* Whatever step fails, the books say what the back-end has. */
static void a_move_that_fails_half_way_is_made_good_later(void **state)
{
	(void)state;
	for (int step = 1; step <= 2; step++) {
		struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 64, FEATURES);
		struct memory_region extra, other;

		sim_boot(sim, 1, FEATURES);
		extra = plugged_at(own_region(sim)->gpa.v, 65536);
		other = plugged_at(SIM_GPA + (1ull << 35), 65536);
		sim->fail_add = step; /* ours in its new place, or the guest's */
		sim->fail_add_code = -EREMOTEIO;
		assert_int_equal(sim->front->ops->add_region(sim->front, &extra, &err), -EREMOTEIO);
		traffic(sim, 1);
		assert_int_equal(sim_switch(sim, true, &err), 0);
		traffic(sim, 1);
		assert_int_equal(sim_switch(sim, false, &err), 0);
		assert_int_equal(sim->front->ops->add_region(sim->front, &other, &err), 0);
		assert_int_equal(sim_switch(sim, true, &err), 0);
		traffic(sim, 1);
		sim_free(sim);
		free(extra.host);
		free(other.host);
	}
}

/* --- what a guest can do with it -------------------------------------------------- */

/* A disk reads into a buffer that the guest says is there: all of it, again and again. */
static void a_passed_through_guest_that_fills_our_memory_harms_nothing(void **state)
{
	static const uint8_t fills[] = { 0xff, 0x00, 0x01, 0x80 };
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 64, FEATURES);

	(void)state;
	sim_boot(sim, 2, FEATURES);
	for (size_t i = 0; i < 4 * ARRAY_SIZE(fills); i++) {
		const struct memory_region *own = own_region(sim);

		memset(own->host, fills[i % ARRAY_SIZE(fills)], own->size);
		traffic(sim, 2);
		assert_int_equal(sim_switch(sim, true, &err), 0);
		traffic(sim, 2);
		assert_int_equal(sim_switch(sim, false, &err), 0);
		traffic(sim, 2);
	}
	assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_PASSTHROUGH);
	sim_free(sim);
}

static void a_shadowed_guest_cannot_name_our_memory(void **state)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_ON, 64, FEATURES);
	struct driver_seg seg = { .len = 4096, .writable = 1 };
	const struct umbra_shadow_picture *info;

	(void)state;
	sim_boot(sim, 1, FEATURES);
	traffic(sim, 1);
	seg.addr.v = own_region(sim)->gpa.v;
	assert_int_equal(driver_ring_add(&sim->queues[0].driver, &seg, 1, 1), 1);
	driver_ring_publish(&sim->queues[0].driver);
	sim->host.notified[sim->queues[0].kick_fd]++;
	sim_run(sim);
	assert_int_equal(sim_backend_take(sim, 0, 1), 0);
	sim->front->ops->check_queues(sim->front);
	info = sim_info(sim);
	assert_int_equal(info->info.state, UMBRA_DEVICE_BROKEN);
	assert_non_null(strstr(info->info.reason, "outside the guest's memory"));
	sim_free(sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_the_backend_maps_is_small_whatever_queues_it_could_have),
		cmocka_unit_test(more_rings_get_a_region_more),
		cmocka_unit_test(a_switch_gets_what_its_rings_need_and_the_next_one_no_more),
		cmocka_unit_test(a_table_after_the_rings_is_sent_with_what_they_need),
		cmocka_unit_test(a_region_that_is_refused_leaves_the_old_mode),
		cmocka_unit_test(without_slots_the_table_has_room_for_more_rings_from_the_start),
		cmocka_unit_test(without_slots_a_switch_sends_a_larger_table_while_no_ring_runs),
		cmocka_unit_test(the_bound_is_kept_and_the_refusal_names_it),
		cmocka_unit_test(a_bound_is_what_a_backend_without_slots_gets),
		cmocka_unit_test(a_device_that_is_mapped_gets_a_larger_region_before_it_starts),
		cmocka_unit_test(a_ring_stopped_with_chains_in_flight_never_starts_there_again),
		cmocka_unit_test(a_region_over_our_own_moves_it_and_the_backend_is_told),
		cmocka_unit_test(a_region_over_running_shadow_rings_is_refused),
		cmocka_unit_test(a_move_that_fails_half_way_is_made_good_later),
		cmocka_unit_test(a_passed_through_guest_that_fills_our_memory_harms_nothing),
		cmocka_unit_test(a_shadowed_guest_cannot_name_our_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
