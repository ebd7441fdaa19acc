/* SPDX-License-Identifier: BSD-2-Clause */
/* The vhost-vdpa back-end on a simulated kernel whose device refuses, vanishes or asks
 * for a reset: every fault ends in a defined state with nothing leaked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <poll.h>
#include <sys/eventfd.h>

#include "vdpa/vhost_vdpa.h"
#include "vhost_vdpa_rig.h"

/* --- faults of the device ------------------------------------------------- */

static void features_that_are_refused_can_be_replaced(void **state)
{
	(void)state;
	backend_make();
	region_add(0x100000, MIB);
	assert_int_equal(b->ops->set_memory(b, regions, 1, &err), 0);
	sim.status_lost = VIRTIO_CONFIG_S_FEATURES_OK;
	assert_int_equal(b->ops->set_features(b, FEATURES | 1, &err), -EREMOTEIO);
	says("does not agree to features 0x300000001 (FEATURES_OK is not kept: its status is "
	     "0x03)");
	assert_int_equal(sim.status, 0);
	assert_int_equal(ring_note(0, 0, true), 0);
	assert_int_equal(b->ops->device_start(b, &err), -EREMOTEIO);
	says("before its features are set");
	sim.status_lost = 0;
	assert_int_equal(b->ops->set_features(b, FEATURES, &err), 0);
	assert_int_equal(b->ops->device_start(b, &err), 0);
	assert_int_equal(sim.acked, FEATURES);
}

static void a_device_that_does_not_start_can_be_tried_again(void **state)
{
	(void)state;
	backend_ready();
	assert_int_equal(ring_note(0, 5, true), 0);
	assert_int_equal(ring_note(1, 5, true), 0);
	sim.status_lost = VIRTIO_CONFIG_S_DRIVER_OK;
	assert_int_equal(b->ops->device_start(b, &err), -EREMOTEIO);
	says("the device does not start (DRIVER_OK is not kept: its status is 0x0b)");
	assert_int_equal(sim.status, 0);
	assert_false(sim.rings[0].ready);
	sim.status_lost = 0;
	assert_int_equal(b->ops->device_start(b, &err), 0);
	assert_true(sim.rings[0].ready);
	check_runs_again();
}

static void a_start_that_fails_at_its_end_leaves_nothing_behind(void **state)
{
	(void)state;
	backend_ready();
	assert_int_equal(ring_note(0, 5, true), 0);
	assert_int_equal(ring_note(1, 5, true), 0);
	sim.fail_request = VHOST_SET_VRING_KICK;
	sim.fail_skip = 1;
	sim.fail_error = EIO;
	assert_int_equal(b->ops->device_start(b, &err), -EREMOTEIO);
	assert_int_equal(sim.status, 0);
	assert_int_equal(sim.rings[0].kick_fd, -1); /* no kick goes to a device that is reset */
	/* A ring that was on before, and is not wanted yet, is off. */
	assert_int_equal(b->ops->ring_enable(b, 1, false, &err), 0);
	assert_int_equal(b->ops->device_start(b, &err), 0);
	assert_true(sim.rings[0].ready && !sim.rings[1].ready);
	assert_int_equal(b->ops->ring_enable(b, 1, true, &err), 0);
	assert_true(sim.rings[1].ready);
	check_runs_again();
}

static void a_device_that_refuses_to_be_suspended_runs_on(void **state)
{
	(void)state;
	backend_runs();
	sim.fail_request = VHOST_VDPA_SUSPEND;
	sim.fail_error = EIO;
	assert_int_equal(b->ops->device_stop(b, &err), -EREMOTEIO);
	says("refused VHOST_VDPA_SUSPEND: Input/output error");
	assert_true(sim.status & VIRTIO_CONFIG_S_DRIVER_OK && !sim.suspended);
	assert_int_equal(sim.resets, 1);
	/* It is still told things, and can be stopped later. */
	assert_int_equal(b->ops->ring_enable(b, 0, false, &err), 0);
	assert_int_equal(b->ops->device_stop(b, &err), 0);
	assert_int_equal(ring_stopped_at(0), 5);
	check_runs_again();
}

static void a_device_that_hides_an_index_is_resumed(void **state)
{
	(void)state;
	backend_runs();
	sim.fail_request = VHOST_GET_VRING_BASE;
	sim.fail_skip = 1;
	sim.fail_error = EIO;
	assert_int_equal(b->ops->device_stop(b, &err), -EREMOTEIO);
	says("queue 1: back-end: refused VHOST_GET_VRING_BASE");
	assert_true(sim.status & VIRTIO_CONFIG_S_DRIVER_OK && !sim.suspended);
	assert_true(vdpa_sim_kicks(&sim, 0) > 0); /* for what came while it was suspended */
	check_runs_again();
}

static void or_lost_where_it_cannot_be(void **state)
{
	(void)state;
	sim.abilities = A_FULL & ~A_RESUME;
	backend_runs();
	sim.fail_request = VHOST_GET_VRING_BASE;
	sim.fail_error = EIO;
	assert_int_equal(b->ops->device_stop(b, &err), -ECONNRESET);
	says("the device cannot be stopped in order");
	assert_int_equal(sim.status, 0); /* at least it does nothing any more */
	check_lost("the device cannot be stopped in order");
}

static unsigned int configs_changed;

static void on_config_change(void *opaque)
{
	(void)opaque;
	configs_changed++;
}

static void interrupt_config(struct vdpa_sim *s, unsigned long request)
{
	if (request == VHOST_VDPA_SUSPEND || request == VHOST_GET_VRING_BASE)
		eventfd_write(s->config_fd, 1);
}

static void a_config_interrupt_in_the_middle_of_a_stop_is_told_afterwards(void **state)
{
	const struct backend_listener listener = { .config_changed = on_config_change };
	int fds[BACKEND_FDS_MAX];
	eventfd_t value;

	(void)state;
	configs_changed = 0;
	backend_runs();
	b->ops->listen(b, &listener);
	sim.before = interrupt_config;
	assert_int_equal(b->ops->device_stop(b, &err), 0);
	sim.before = NULL;
	assert_int_equal(ring_stopped_at(0), 5);
	assert_int_equal(configs_changed, 0);
	assert_int_equal(b->ops->fds(b, fds), 1);
	assert_int_equal(poll(&(struct pollfd){ fds[0], POLLIN, 0 }, 1, 0), 1);
	assert_int_equal(b->ops->dispatch(b, 0, &err), 0);
	assert_int_equal(configs_changed, 1);
	assert_int_equal(eventfd_read(fds[0], &value), -1); /* heard */
	check_runs_again();
}

static void a_device_that_asks_for_a_reset_is_lost(void **state)
{
	static const char why[] = "the device asks for a reset (NEEDS_RESET)";
	uint8_t status;

	(void)state;
	for (unsigned int when = 0; when < 4; when++) {
		vdpa_sim_init(&sim);
		if (when == 0)
			backend_ready();
		else
			backend_runs();
		sim.needs_reset = true;
		if (when == 0) {
			assert_int_equal(ring_note(0, 0, true), 0);
			assert_int_equal(b->ops->device_start(b, &err), -ECONNRESET);
		} else if (when == 1) {
			assert_int_equal(b->ops->device_stop(b, &err), -ECONNRESET);
		} else if (when == 2) {
			eventfd_write(sim.config_fd, 1);
			assert_int_equal(b->ops->dispatch(b, 0, &err), -ECONNRESET);
		} else {
			assert_int_equal(b->ops->get_status(b, &status, &err), -ECONNRESET);
		}
		check_lost(why);
		backend_close();
	}
}

static unsigned int waits, waited_most_ms;
static int wait_result;

static int on_wait(void *opaque, const char *what, unsigned int waited_ms, struct umbra_error *why)
{
	(void)opaque;
	assert_string_equal(what, "a reset");
	assert_true(waited_ms > waited_most_ms);
	waited_most_ms = waited_ms;
	if (++waits < 5 || !wait_result)
		return 0;
	return error_set(why, wait_result, "enough of it after %u ms", waited_ms);
}

static void a_reset_is_waited_for_without_a_busy_loop(void **state)
{
	const struct backend_listener listener = { .waiting = on_wait };

	(void)state;
	backend_runs();
	b->ops->listen(b, &listener);
	waits = waited_most_ms = 0;
	wait_result = 0;
	sim.reset_looks = 6;
	sim.status_reads = 0;
	assert_int_equal(b->ops->device_stop(b, &err), 0);
	/* Each look but the first after a sleep, each longer than the last. */
	assert_int_equal(waits, 6);
	assert_int_equal(sim.status_reads, 1 + 6 + 1);
	assert_int_equal(waited_most_ms, 1 + 2 + 4 + 8 + 16 + 32);
	check_runs_again();

	backend_close();
	vdpa_sim_init(&sim);
	backend_runs();
	b->ops->listen(b, &listener);
	waits = waited_most_ms = 0;
	wait_result = -ECANCELED;
	sim.reset_looks = UINT32_MAX;
	assert_int_equal(b->ops->device_stop(b, &err), -ECANCELED);
	check_lost("enough of it after 31 ms");
	sim.reset_looks = 0;
}

static void a_reset_that_nobody_listens_for_has_a_deadline_and_hears_the_stop(void **state)
{
	(void)state;
	assert_int_equal(vhost_vdpa_open("/dev/x", &sim.system, stop_fd, 20, &b, &err), 0);
	sim.reset_looks = UINT32_MAX;
	assert_int_equal(b->ops->set_features(b, FEATURES, &err), -ETIMEDOUT);
	check_lost("the device has not been reset");
	backend_close();
	sim.reset_looks = 0;
	backend_make();
	sim.reset_looks = UINT32_MAX;
	eventfd_write(stop_fd, 1);
	assert_int_equal(b->ops->set_features(b, FEATURES, &err), -ECANCELED);
	check_lost("asked to stop");
	sim.reset_looks = 0;
}

/* What a device is put through below: everything, once. */
static int whole_life(void)
{
	struct memory_region more[2] = { regions[0], regions[1] };
	uint8_t config[16], status;
	uint64_t features;
	uint16_t base;
	int rc = b->ops->get_features(b, &features, &err);

	if (!rc)
		rc = b->ops->get_config(b, 0, config, sizeof(config), &err);
	if (!rc)
		rc = b->ops->set_features(b, FEATURES, &err);
	if (!rc)
		rc = b->ops->set_memory(b, regions, 1, &err);
	if (!rc)
		rc = ring_note(0, 5, true);
	if (!rc)
		rc = ring_note(1, 5, false);
	if (!rc)
		rc = b->ops->device_start(b, &err);
	if (!rc)
		rc = b->ops->ring_enable(b, 1, true, &err);
	if (!rc)
		rc = b->ops->ring_exchange(b, 1, VIRTIO_RING_KICK, kick_fd, &err);
	if (!rc)
		rc = b->ops->add_region(b, &regions[1], &err);
	if (!rc)
		rc = b->ops->set_config(b, 0, config, 4, 0, &err);
	if (!rc)
		rc = b->ops->get_status(b, &status, &err);
	if (!rc)
		rc = b->ops->device_stop(b, &err);
	if (!rc)
		rc = ring_stop_at(b, 0, &base, &err);
	if (!rc)
		rc = ring_stop_at(b, 1, &base, &err);
	if (!rc)
		rc = b->ops->remove_region(b, &more[1], &err);
	if (!rc)
		rc = b->ops->set_status(b, 0, &err);
	return rc;
}

/* The device vanishes at one call after the other. */
static void a_device_that_vanishes_is_lost_wherever_it_happens(void **state)
{
	unsigned int calls = 0, at = 1;

	(void)state;
	region_add(0x100000, MIB);
	region_add(0x400000, MIB);
	do {
		int rc;

		vdpa_sim_init(&sim);
		backend_make();
		sim.calls = 0;
		sim.fail_call = calls ? at : 0;
		sim.fail_error = ENODEV;
		rc = whole_life();
		if (!calls) {
			assert_int_equal(rc, 0);
			calls = sim.calls;
		} else if (rc) {
			assert_int_equal(rc, -ECONNRESET);
			check_lost("the device is gone");
			at++;
		} else {
			/* It was when the kernel was told to let go of an fd. */
			at++;
		}
		backend_close();
		regions_drop();
		region_add(0x100000, MIB);
		region_add(0x400000, MIB);
	} while (at <= calls);
	assert_true(calls > 50);
}

/* The kernel refuses one call after the other. */
static void whatever_is_refused_leaves_a_defined_state(void **state)
{
	static const uint64_t abilities[] = { A_FULL, A_PLAIN, A_FULL & ~A_RESUME };

	(void)state;
	region_add(0x100000, MIB);
	region_add(0x400000, MIB);
	for (size_t i = 0; i < ARRAY_SIZE(abilities); i++) {
		unsigned int refused = 0, lost = 0;

		for (unsigned int at = 1; refused + lost + 1 >= at; at++) {
			int rc;

			vdpa_sim_init(&sim);
			sim.abilities = abilities[i];
			backend_make();
			sim.calls = 0;
			sim.fail_call = at;
			sim.fail_error = EIO;
			rc = whole_life();
			if (sim.calls < at) {
				assert_int_equal(rc, 0);
				backend_close();
				break;
			}
			if (rc == -ECONNRESET) {
				lost++;
				check_lost("");
			} else {
				assert_true(rc == 0 || rc == -EREMOTEIO);
				refused++;
				check_map_count();
				if (sim.status & VIRTIO_CONFIG_S_DRIVER_OK)
					assert_int_equal(b->ops->device_stop(b, &err), 0);
				assert_int_equal(b->ops->set_status(b, 0, &err), 0);
				assert_int_equal(b->ops->set_memory(b, NULL, 0, &err), 0);
				assert_int_equal(sim.map_count, 0);
				assert_int_equal(whole_life(), 0); /* as good as new */
			}
			backend_close();
		}
		print_message("%u refused, %u lost\n", refused, lost);
		assert_true(refused > 40 && lost > 2);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(features_that_are_refused_can_be_replaced),
		TEST(a_device_that_does_not_start_can_be_tried_again),
		TEST(a_start_that_fails_at_its_end_leaves_nothing_behind),
		TEST(a_device_that_refuses_to_be_suspended_runs_on),
		TEST(a_device_that_hides_an_index_is_resumed),
		TEST(or_lost_where_it_cannot_be),
		TEST(a_config_interrupt_in_the_middle_of_a_stop_is_told_afterwards),
		TEST(a_device_that_asks_for_a_reset_is_lost),
		TEST(a_reset_is_waited_for_without_a_busy_loop),
		TEST(a_reset_that_nobody_listens_for_has_a_deadline_and_hears_the_stop),
		TEST(a_device_that_vanishes_is_lost_wherever_it_happens),
		TEST(whatever_is_refused_leaves_a_defined_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
