/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A shadow device in front of a vhost-vdpa device that behaves, and one that refuses
 * something: nothing is lost or leaked, and what can go on does.  vdpa_rig.h counts
 * fds, mappings and references in the end of each.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/error.h"
#include "base/shm.h"
#include "vdpa_device_rig.h"

/* --- without a fault ------------------------------------------------------ */

static void requests_are_served_through_switches_to_and_fro(void **state)
{
	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		const struct kind *kind = &kinds[k];

		print_message("a device that %s\n", kind->name);
		begin_booted(kind);
		is_in(mode_state(!kind->passes), NULL);
		is_mapped_as_told(2);
		served(3 * SIZE);
		for (unsigned int round = 0; round < 6 && kind->passes; round++) {
			bool shadowed = round % 2 == 0;

			is_busy(3);
			assert_int_equal(switch_to(shadowed), 0);
			is_in(mode_state(shadowed), NULL);
			all_is_answered();
			served(SIZE + 1);
			is_mapped_as_told(2);
		}
		if (!kind->passes) {
			assert_int_equal(switch_to(false), -EOPNOTSUPP);
			says("its rings can only start at 0: it is always shadowed");
			served(1);
		}
		is_busy(2);
		stop_all();
		all_is_answered();
		rig_detach(&rig, NULL);
		lives_again();
		rig_fini(&rig);
	}
}

/* Each ring wants a mebibyte for tables longer than itself, and there are two for all. */
static void rings_that_need_more_of_our_memory_get_it_mapped_before_they_start(void **state)
{
	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		begin(&kinds[k], 4 * RIG_GPA);
		rig_attach(&rig);
		shadow_device_limit_tables(rig.device, 32768);
		rig_boot(&rig, SIZE);
		for (unsigned int round = 0; round < 4 && kinds[k].passes; round++) {
			is_busy(3);
			assert_int_equal(switch_to(round % 2 == 0), 0);
			all_is_answered();
			served(SIZE + 1);
		}
		served(SIZE);
		assert_int_equal(info()->info.shadow_memory_bytes, 4u << 20);
		assert_int_equal(info()->info.shadow_memory_regions, 1);
		is_mapped_as_told(2);
		rig_fini(&rig);
	}
}

/* To where they are found: nobody kicks for them any more. */
static void requests_that_the_device_has_not_taken_go_with_the_switch(void **state)
{
	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		bool suspends = kinds[k].abilities & A_SUSPEND;

		if (!kinds[k].passes)
			continue;
		begin_booted(&kinds[k]);
		served(3);
		for (unsigned int round = 0; round < 4; round++) {
			bool shadowed = round % 2 == 0;

			rig.sleeps = true;
			for (unsigned int i = 0; i < RIG_QUEUES; i++)
				rig_ask(&rig, i, 3);
			rig_run(&rig);
			if (shadowed || suspends) {
				assert_int_equal(switch_to(shadowed), 0);
			} else { /* a reset of it might lose them */
				assert_int_equal(switch_to(shadowed), -ETIME);
				says("3 requests are still with it");
			}
			is_in(mode_state(shadowed || !suspends), NULL);
			for (unsigned int i = 0; i < RIG_QUEUES; i++)
				assert_int_equal(rig_open_requests(&rig, i), 3);
			rig.sleeps = false;
			all_is_answered();
			served(SIZE);
			if (!shadowed && !suspends)
				assert_int_equal(switch_to(false), 0);
		}
		rig_fini(&rig);
	}
}

static void memory_beyond_the_devices_range_is_translated_from_the_start(void **state)
{
	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		begin(&kinds[k], FAR_GPA);
		rig.sim.last = (1ull << 39) - 1;
		rig_attach(&rig);
		rig_boot(&rig, SIZE);
		is_in(UMBRA_DEVICE_SHADOWED, NULL);
		assert_true(info()->backend.translated);
		is_mapped_as_told(2);
		for (unsigned int m = 0; m < rig.sim.map_count; m++)
			assert_true(rig.sim.maps[m].iova + rig.sim.maps[m].size - 1 <=
				    rig.sim.last);
		served(3 * SIZE);
		assert_int_equal(switch_to(false), -EOPNOTSUPP);
		is_in(UMBRA_DEVICE_SHADOWED, NULL);
		is_busy(3);
		stop_all();
		all_is_answered();
		rig_fini(&rig);
	}
}

/* Only the shadow's own memory has to go elsewhere. */
static void a_narrow_range_that_holds_the_guest_passes_it_through(void **state)
{
	(void)state;
	begin(&kinds[0], 4 * RIG_GPA);
	rig.sim.last = (1ull << 39) - 1;
	rig_attach(&rig);
	rig_boot(&rig, SIZE);
	is_in(UMBRA_DEVICE_PASSTHROUGH, NULL);
	assert_false(info()->backend.translated);
	served(SIZE);
	assert_int_equal(switch_to(true), 0);
	served(SIZE);
	is_mapped_as_told(2);
	rig_fini(&rig);
}

/* The guest's rings may be something else by then. */
static void a_reset_by_the_front_end_leaves_the_guests_rings_alone(void **state)
{
	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		uint16_t used[RIG_QUEUES];

		begin_booted(&kinds[k]);
		assert_int_equal(switch_to(true), 0);
		served(3);
		is_busy(2);
		for (unsigned int i = 0; i < RIG_QUEUES; i++)
			used[i] = shm_load16(&rig.queues[i].driver.split.used->idx);
		assert_int_equal(rig.front->ops->set_status(rig.front, 0, &rig.err), 0);
		is_in(UMBRA_DEVICE_NEGOTIATING, NULL);
		assert_false(rig.sim.status & VIRTIO_CONFIG_S_DRIVER_OK);
		rig.holds = false;
		for (unsigned int i = 0; i < RIG_QUEUES; i++) {
			assert_int_equal(shm_load16(&rig.queues[i].driver.split.used->idx),
					 used[i]);
			rig_queue_make(&rig, i, SIZE);
			assert_int_equal(rig_ring_start(&rig, i, 0), 0);
		}
		rig_pause(&rig);
		is_in(UMBRA_DEVICE_SHADOWED, NULL);
		served(2 * SIZE);
		rig_fini(&rig);
	}
}

static void whatever_a_vdpa_device_forgets_it_is_told_again(void **state)
{
	enum { RESET_DEVICE, STATUS_0, RINGS_STOPPED, SWITCHED, EVENTS };

	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++)
		for (unsigned int event = 0; event < 2 * EVENTS; event++) {
			uint64_t acked;
			uint16_t base;

			if (event / 2 == SWITCHED && !kinds[k].passes)
				continue;
			begin_booted(&kinds[k]);
			served(3);
			acked = rig.sim.acked;
			assert_true(acked != 0);
			if (event / 2 == RESET_DEVICE)
				assert_int_equal(rig.front->ops->reset(rig.front, &rig.err), 0);
			if (event / 2 == STATUS_0)
				assert_int_equal(rig.front->ops->set_status(rig.front, 0, &rig.err),
						 0);
			for (unsigned int i = 0; i < RIG_QUEUES && event / 2 == RINGS_STOPPED; i++)
				assert_int_equal(ring_stop_at(rig.front, i, &base, &rig.err), 0);
			if (event / 2 == SWITCHED)
				assert_int_equal(switch_to(true), 0);
			if (event % 2) /* it says its features again; the same */
				assert_int_equal(rig_negotiate(&rig), 0);
			for (unsigned int i = 0; i < RIG_QUEUES && event / 2 != SWITCHED; i++) {
				rig_queue_make(&rig, i, SIZE);
				assert_int_equal(rig_ring_start(&rig, i, 0), 0);
			}
			rig_pause(&rig);
			assert_int_equal(rig.sim.acked, acked);
			is_mapped_as_told(2);
			assert_true(rig.sim.maps_in_device);
			for (unsigned int i = 0; i < RIG_QUEUES; i++)
				assert_true(rig.sim.rings[i].ready &&
					    rig.sim.rings[i].call_fd >= 0 &&
					    rig.sim.rings[i].kick_fd >= 0);
			assert_true(rig.sim.config_fd >= 0);
			served(2 * SIZE);
			rig_fini(&rig);
		}
}

/* --- what the device refuses ---------------------------------------------- */

static void features_that_the_device_refuses_are_an_error_and_can_be_set_again(void **state)
{
	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		begin(&kinds[k], 4 * RIG_GPA);
		rig.sim.status_lost = VIRTIO_CONFIG_S_FEATURES_OK;
		rig_attach(&rig);
		assert_int_equal(rig_negotiate(&rig), -EREMOTEIO);
		says("FEATURES_OK is not kept");
		is_in(UMBRA_DEVICE_NEGOTIATING, NULL);
		assert_int_equal(rig.sim.status, 0);
		/* A ring without features is none. */
		rig_queue_make(&rig, 0, SIZE);
		assert_int_equal(rig_ring_start(&rig, 0, 0), -EINVAL);

		rig.sim.status_lost = 0;
		rig_boot(&rig, SIZE);
		served(SIZE);
		rig_detach(&rig, NULL);
		lives_again();
		rig_fini(&rig);
	}
}

/* The device goes back on what it agreed to, and comes round after a while. */
static void features_refused_at_a_switch_leave_a_device_that_is_started_later(void **state)
{
	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		if (!kinds[k].passes)
			continue;
		begin_booted(&kinds[k]);
		served(3);
		is_busy(2);
		rig.sim.status_lost = VIRTIO_CONFIG_S_FEATURES_OK;
		assert_int_equal(switch_to(true), -EREMOTEIO);
		says("FEATURES_OK is not kept");
		is_in(UMBRA_DEVICE_NEGOTIATING, "FEATURES_OK is not kept");
		rig_pause(&rig);
		is_in(UMBRA_DEVICE_NEGOTIATING, "FEATURES_OK is not kept");
		rig.sim.status_lost = 0;
		rig_pause(&rig);
		is_in(UMBRA_DEVICE_PASSTHROUGH, NULL);
		all_is_answered();
		served(SIZE);
		assert_int_equal(switch_to(true), 0);
		served(SIZE);
		rig_fini(&rig);
	}
}

static void a_suspend_that_fails_leaves_the_old_mode_and_its_requests(void **state)
{
	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		if (!(kinds[k].abilities & A_SUSPEND))
			continue;
		begin_booted(&kinds[k]);
		for (unsigned int round = 0; round < 4; round++) {
			bool shadowed = round % 2;
			uint64_t failed = info()->info.switches_failed;

			if (shadowed != info()->info.shadow_wanted)
				assert_int_equal(switch_to(shadowed), 0);
			is_busy(3);
			rig.sim.fail_request = VHOST_VDPA_SUSPEND;
			rig.sim.fail_skip = 0;
			rig.sim.fail_error = EIO;
			assert_int_equal(switch_to(!shadowed), -EREMOTEIO);
			says("refused VHOST_VDPA_SUSPEND");
			is_in(mode_state(shadowed), NULL);
			assert_int_equal(info()->info.switches_failed, failed + 1);
			all_is_answered();
			served(SIZE + 1);
			is_mapped_as_told(2);
		}
		stop_all();
		rig_fini(&rig);
	}
}

/* After that SUSPEND it does not say how far it came. */
static void a_device_that_hides_an_index_is_resumed_or_lost_where_it_cannot_be(void **state)
{
	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		if (!(kinds[k].abilities & A_SUSPEND))
			continue;
		begin_booted(&kinds[k]);
		is_busy(3);
		rig.sim.fail_request = VHOST_GET_VRING_BASE;
		rig.sim.fail_skip = 1;
		rig.sim.fail_error = EIO;
		if (kinds[k].abilities & A_RESUME) {
			assert_int_equal(switch_to(true), -EREMOTEIO);
			says("queue 1: back-end: refused VHOST_GET_VRING_BASE");
			is_in(UMBRA_DEVICE_PASSTHROUGH, NULL);
			all_is_answered();
			served(SIZE);
			assert_int_equal(switch_to(true), 0);
			served(SIZE);
		} else {
			assert_int_equal(switch_to(true), -ECONNRESET);
			is_in(UMBRA_DEVICE_BACKEND_LOST, "queue 1");
			rig_detach(&rig, info()->info.reason);
			rig.holds = false;
			lives_again();
		}
		rig_fini(&rig);
	}
}

/* The device takes rings of SIZE: the guest never knows. */
static void a_ring_larger_than_the_devices_is_shadowed_by_a_smaller_one(void **state)
{
	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		begin(&kinds[k], 4 * RIG_GPA);
		rig.sim.size_max = SIZE;
		rig_attach(&rig);
		rig_boot(&rig, 4 * SIZE);
		is_in(UMBRA_DEVICE_SHADOWED, NULL);
		for (unsigned int i = 0; i < RIG_QUEUES; i++) {
			assert_int_equal(rig.sim.rings[i].size, SIZE);
			for (unsigned int round = 0; round < 3; round++) {
				rig_ask(&rig, i,
					2 * SIZE); /* two descriptors each: the ring is full */
				rig_run(&rig);
				assert_int_equal(rig_open_requests(&rig, i), 0);
			}
		}
		assert_true(switch_to(false) < 0);
		is_in(UMBRA_DEVICE_SHADOWED, NULL);
		served(2 * SIZE);
		stop_all();
		all_is_answered();
		rig_fini(&rig);
	}
}

/* --- config interrupts ---------------------------------------------------- */

static unsigned int interrupt_at; /* system calls to go */
static bool has_interrupted;

static void interrupt(struct rig *r, unsigned long request)
{
	(void)request;
	if (interrupt_at && --interrupt_at == 0 && r->sim.config_fd >= 0) {
		r->sim.config[0]++;
		has_interrupted = !eventfd_write(r->sim.config_fd, 1);
	}
}

/* At each system call of one. */
static void a_config_interrupt_in_the_middle_of_a_switch_is_told_afterwards(void **state)
{
	unsigned int heard = 0;

	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		bool shadowed = false, is_over = !kinds[k].passes;

		begin_booted(&kinds[k]);
		rig.before = interrupt;
		for (unsigned int at = 1; !is_over; at += shadowed ? 0 : 1) {
			unsigned int told = rig.host.configs_changed;
			uint8_t value = 0;

			is_busy(2);
			interrupt_at = at;
			has_interrupted = false;
			shadowed = !shadowed;
			assert_int_equal(switch_to(shadowed), 0);
			is_in(mode_state(shadowed), NULL);
			is_over = interrupt_at && !shadowed;
			interrupt_at = 0;
			assert_int_equal(rig.host.configs_changed, told);
			assert_int_equal(rig_dispatch(&rig), 0);
			assert_int_equal(rig.host.configs_changed, told + has_interrupted);
			assert_int_equal(
				rig.front->ops->get_config(rig.front, 0, &value, 1, &rig.err), 0);
			assert_int_equal(value, rig.sim.config[0]);
			all_is_answered();
			heard += has_interrupted;
		}
		rig_fini(&rig);
	}
	assert_true(heard > 20);
}

/* --- memory --------------------------------------------------------------- */

static void the_tenth_mapping_that_fails_is_named_and_a_smaller_table_works(void **state)
{
	char named[64];

	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		begin(&kinds[k], 4 * RIG_GPA);
		while (rig.region_count < 12)
			rig_region_add(&rig, (4 + rig.region_count) * RIG_GPA);
		rig_attach(&rig);
		assert_int_equal(rig_negotiate(&rig), 0);
		rig.sim.fail_map = 10;
		assert_int_equal(rig_tell_memory(&rig, 12), -EREMOTEIO);
		snprintf(named, sizeof(named), "memory region at gpa 0x%llx of 0x%llx bytes",
			 (unsigned long long)rig.regions[9].gpa.v, RIG_REGION_BYTES);
		says(named);
		is_in(UMBRA_DEVICE_NEGOTIATING, NULL);
		assert_int_equal(rig.sim.map_count, 0);
		for (unsigned int i = 0; i < rig.region_count; i++)
			assert_int_equal(rig.regions[i].backing->refs, 1);

		rig_boot(&rig, SIZE);
		served(SIZE);
		is_mapped_as_told(2);
		rig_fini(&rig);
	}
}

/* The same while the guest runs: it goes on in the table that it had. */
static void a_table_that_cannot_be_mapped_leaves_the_old_one_and_its_requests(void **state)
{
	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		begin_booted(&kinds[k]);
		while (rig.region_count < 12)
			rig_region_add(&rig, (4 + rig.region_count) * RIG_GPA);
		for (unsigned int round = 0; round < 2; round++) {
			bool shadowed = round || !kinds[k].passes;

			assert_int_equal(switch_to(shadowed), 0);
			is_busy(3);
			rig.sim.updates = 0;
			rig.sim.fail_map = 10;
			assert_int_equal(rig_tell_memory(&rig, 12), -EREMOTEIO);
			says("cannot be mapped for the device");
			is_in(mode_state(shadowed), NULL);
			is_mapped_as_told(2);
			for (unsigned int i = 2; i < rig.region_count; i++)
				assert_int_equal(rig.regions[i].backing->refs, 1);
			all_is_answered();
			served(SIZE);

			rig.sim.fail_map = 0;
			assert_int_equal(rig_tell_memory(&rig, 12), 0);
			is_mapped_as_told(12);
			served(SIZE);
			assert_int_equal(rig_tell_memory(&rig, 2), 0);
			is_mapped_as_told(2);
			served(SIZE);
		}
		rig_fini(&rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(requests_are_served_through_switches_to_and_fro),
		TEST(rings_that_need_more_of_our_memory_get_it_mapped_before_they_start),
		TEST(requests_that_the_device_has_not_taken_go_with_the_switch),
		TEST(memory_beyond_the_devices_range_is_translated_from_the_start),
		TEST(a_narrow_range_that_holds_the_guest_passes_it_through),
		TEST(a_reset_by_the_front_end_leaves_the_guests_rings_alone),
		TEST(whatever_a_vdpa_device_forgets_it_is_told_again),
		TEST(features_that_the_device_refuses_are_an_error_and_can_be_set_again),
		TEST(features_refused_at_a_switch_leave_a_device_that_is_started_later),
		TEST(a_suspend_that_fails_leaves_the_old_mode_and_its_requests),
		TEST(a_device_that_hides_an_index_is_resumed_or_lost_where_it_cannot_be),
		TEST(a_ring_larger_than_the_devices_is_shadowed_by_a_smaller_one),
		TEST(a_config_interrupt_in_the_middle_of_a_switch_is_told_afterwards),
		TEST(the_tenth_mapping_that_fails_is_named_and_a_smaller_table_works),
		TEST(a_table_that_cannot_be_mapped_leaves_the_old_one_and_its_requests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
