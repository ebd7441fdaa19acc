/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A shadow device in front of a vhost-vdpa device that lies, vanishes or fails at any
 * system call: each fault ends in a defined state, and the next device works.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <string.h>
#include <sys/eventfd.h>

#include "vdpa_device_rig.h"

/* --- lies ----------------------------------------------------------------- */

/* Queue 0 is shadowed and broken by a lie of the device's. */
static void break_queue_0(const struct kind *kind)
{
	eventfd_t count;

	begin_booted(kind);
	if (kind->passes)
		assert_int_equal(switch_to(true), 0);
	served(3);
	is_busy(2);
	rig.holds = false;
	rig.host.configs_changed = 0;
	rig_lie_used(&rig, 0, 0x12345);
	rig_run(&rig);
	is_in(UMBRA_DEVICE_BROKEN, "74565");
	assert_int_equal(rig.host.queues_broken, 1);
	assert_non_null(strstr(rig.host.broken_reason, "74565"));
	assert_string_equal(info()->queues[0].error, rig.host.broken_reason);
	assert_string_equal(info()->queues[1].error, "");
	assert_int_equal(rig.host.configs_changed, 1); /* NEEDS_RESET is to be read */
	assert_int_equal(eventfd_read(rig.queues[0].err_fd, &count), 0);
	assert_int_equal(eventfd_read(rig.queues[1].err_fd, &count), -1);
	assert_int_equal(rig_open_requests(&rig, 1), 0);
	rig_expect_served(&rig, 1, 2 * SIZE);
}

static uint8_t status_seen(void)
{
	uint8_t status;

	assert_int_equal(rig.front->ops->get_status(rig.front, &status, &rig.err), 0);
	return status;
}

static void a_used_id_out_of_range_breaks_one_queue_until_the_driver_resets(void **state)
{
	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		break_queue_0(&kinds[k]);
		assert_true(status_seen() & VIRTIO_CONFIG_S_NEEDS_RESET);
		assert_int_equal(rig.front->ops->set_status(rig.front, 0, &rig.err), 0);
		assert_int_equal(status_seen(), 0);
		is_in(UMBRA_DEVICE_NEGOTIATING, NULL);
		for (unsigned int i = 0; i < RIG_QUEUES; i++) {
			rig_queue_make(&rig, i, SIZE);
			assert_int_equal(rig_ring_start(&rig, i, 0), 0);
			rig.queues[i].lost = 0;
		}
		rig_pause(&rig);
		is_in(UMBRA_DEVICE_SHADOWED, NULL);
		assert_string_equal(info()->queues[0].error, "");
		served(2 * SIZE);
		rig_detach(&rig, NULL);
		rig_fini(&rig);
	}
}

static void or_until_the_front_end_stops_that_queue_alone(void **state)
{
	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		uint16_t base;

		break_queue_0(&kinds[k]);
		assert_int_equal(ring_stop_at(rig.front, 0, &base, &rig.err), 0);
		rig_ask(&rig, 1, 2);
		rig_queue_make(&rig, 0, SIZE);
		assert_int_equal(rig_ring_start(&rig, 0, 0), 0);
		rig_pause(&rig);
		is_in(UMBRA_DEVICE_SHADOWED, NULL);
		rig_run(&rig);
		assert_int_equal(rig_open_requests(&rig, 1), 0);
		assert_int_equal(rig.queues[1].lost, 0);
		served(2 * SIZE);
		rig_fini(&rig);
	}
}

/* --- a device that is lost ------------------------------------------------ */

static void a_device_that_asks_for_a_reset_is_lost_and_the_next_attach_works(void **state)
{
	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		begin_booted(&kinds[k]);
		served(3);
		is_busy(2);
		rig.sim.needs_reset = true;
		assert_int_equal(eventfd_write(rig.sim.config_fd, 1), 0);
		assert_int_equal(rig_dispatch(&rig), -ECONNRESET);
		says("the device asks for a reset (NEEDS_RESET)");
		rig_detach(&rig, rig.err.text);
		assert_int_equal(shadow_device_state(rig.device), UMBRA_DEVICE_BACKEND_LOST);
		rig.sim.needs_reset = rig.holds = false;
		for (unsigned int i = 0; i < RIG_QUEUES; i++)
			rig.queues[i].lost = 0;
		lives_again();
		rig_fini(&rig);
	}
}

/* While it is shadowed: nobody serves a queue of a device that is not there. */
static void a_device_that_vanishes_is_lost_with_the_next_question(void **state)
{
	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		uint8_t value;

		begin_booted(&kinds[k]);
		assert_int_equal(switch_to(true), 0);
		is_busy(2);
		rig.sim.is_gone = true;
		assert_int_equal(rig.front->ops->get_config(rig.front, 0, &value, 1, &rig.err),
				 -ECONNRESET);
		is_in(UMBRA_DEVICE_BACKEND_LOST, "the device is gone");
		for (unsigned int i = 0; i < RIG_QUEUES; i++)
			assert_null(rig.host.services[i]);
		rig_detach(&rig, info()->info.reason);
		rig.sim.is_gone = rig.holds = false;
		lives_again();
		rig_fini(&rig);
	}
}

static void a_device_that_asks_for_a_reset_in_a_switch_is_lost_too(void **state)
{
	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		uint64_t features;

		if (!kinds[k].passes)
			continue;
		begin_booted(&kinds[k]);
		served(3);
		rig.sim.needs_reset = true;
		assert_int_equal(switch_to(true), -ECONNRESET);
		is_in(UMBRA_DEVICE_BACKEND_LOST, "the device asks for a reset (NEEDS_RESET)");
		assert_int_equal(rig.front->ops->get_features(rig.front, &features, &rig.err),
				 -ECONNRESET);
		says("NEEDS_RESET");
		rig_detach(&rig, info()->info.reason);
		rig.sim.needs_reset = false;
		lives_again();
		rig_fini(&rig);
	}
}

/* --- every system call ---------------------------------------------------- */

struct fault {
	int error;
	bool for_ever;
};

/* Once one has failed, so does each that follows. */
static void fail_for_ever(struct rig *r, unsigned long request)
{
	(void)request;
	if (r->sim.calls >= r->sim.fail_call)
		r->sim.fail_call = r->sim.calls + 1;
}

/*
 * One of those that a switch makes fails, with requests under way: the device is in
 * one of the two modes (some a second later) and has lost none, or it is lost for a
 * reason and the next one is not.  Returns whether there was such a call.
 */
static bool switch_with_fault(const struct kind *kind, bool shadowed, unsigned int call,
			      const struct fault *fault)
{
	bool has_failed;
	int rc;

	begin_booted(kind);
	if (!shadowed)
		assert_int_equal(switch_to(true), 0);
	served(3);
	is_busy(3);
	rig.sim.calls = 0;
	rig.sim.fail_call = call;
	rig.sim.fail_error = fault->error;
	rig.before = fault->for_ever ? fail_for_ever : NULL;
	rc = switch_to(shadowed);
	has_failed = rig.sim.calls >= call;
	rig.sim.fail_call = 1u << 31; /* never; but the kernel may keep an fd from before */
	rig.before = NULL;
	if (shadow_device_state(rig.device) == UMBRA_DEVICE_BACKEND_LOST) {
		assert_int_equal(rc, -ECONNRESET);
		assert_true(info()->info.reason[0]);
		rig_detach(&rig, info()->info.reason);
		rig.holds = false;
		for (unsigned int i = 0; i < RIG_QUEUES; i++)
			rig.queues[i].lost = 0;
		lives_again();
	} else {
		rig_pause(&rig);
		is_in(mode_state(rc ? !shadowed : shadowed), NULL);
		all_is_answered();
		served(SIZE + 1);
		is_mapped_as_told(2);
		assert_int_equal(switch_to(!info()->info.shadow_wanted), 0);
		served(SIZE + 1);
		all_is_answered();
	}
	rig_fini(&rig);
	return has_failed;
}

static void whatever_fails_in_a_switch_ends_in_a_defined_state(void **state)
{
	static const struct fault all[] = { { EIO, false }, { EIO, true }, { ENODEV, true } };
	unsigned int faults = 0;

	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++)
		for (unsigned int way = 0; way < 2 * ARRAY_SIZE(all) && kinds[k].passes; way++) {
			unsigned int call = 1;

			while (switch_with_fault(&kinds[k], way % 2, call, &all[way / 2]))
				call++;
			faults += call - 1;
		}
	print_message("%u faults\n", faults);
	assert_true(faults > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_used_id_out_of_range_breaks_one_queue_until_the_driver_resets),
		TEST(or_until_the_front_end_stops_that_queue_alone),
		TEST(a_device_that_asks_for_a_reset_is_lost_and_the_next_attach_works),
		TEST(a_device_that_vanishes_is_lost_with_the_next_question),
		TEST(a_device_that_asks_for_a_reset_in_a_switch_is_lost_too),
		TEST(whatever_fails_in_a_switch_ends_in_a_defined_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
