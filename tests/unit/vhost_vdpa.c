/* SPDX-License-Identifier: BSD-2-Clause */
/* The vhost-vdpa back-end on a simulated kernel: what is called in which order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "session/backend_source.h"
#include "vdpa/vhost_vdpa.h"
#include "vhost_vdpa_rig.h"

/* --- opening -------------------------------------------------------------- */

/* One attempt on the back-end with this name. */
static int attempt(const char *spec)
{
	static const struct umbra_socket_access any = { 0 };
	struct peer_process process = PEER_PROCESS_NONE;
	struct backend_source *source;
	int rc = backend_source_open(spec, &any, &source, &err);

	assert_int_equal(rc, 0);
	backend_source_begin(source);
	assert_int_equal(backend_source_wait_ms(source), 0);
	rc = backend_source_try(source, -1, TIMEOUT_MS, &b, &process, &err);
	if (rc == -EAGAIN) /* the next one is not due at once, and soon */
		assert_in_range(backend_source_wait_ms(source), 0, 10);
	backend_source_close(&source);
	assert_int_equal(process.pidfd, -1); /* of the kernel, or of nobody */
	return rc;
}

static void a_back_end_is_known_by_its_name(void **state)
{
	(void)state;
	assert_int_equal(backend_spec_check("unix:/a", &err), 0);
	assert_int_equal(backend_spec_check("vdpa:/dev/vhost-vdpa-0", &err), 0);
	assert_int_equal(backend_spec_check("vdpa:", &err), -EINVAL);
	says("unix:PATH, listen:PATH or vdpa:PATH");
	assert_int_equal(backend_spec_check("listen:/a", &err), 0);
	assert_int_equal(backend_spec_check("listen:", &err), -EINVAL);
	assert_int_equal(backend_spec_check("tcp:1", &err), -EINVAL);
	assert_int_equal(backend_spec_check(NULL, &err), -EINVAL);
	assert_int_equal(attempt("vdpa:/nonexistent/device"), -EAGAIN);
	assert_int_equal(attempt("vdpa:/dev/null"), -EINVAL);
	says("/dev/null is no vhost-vdpa device");
}

static void opening_learns_what_the_device_can(void **state)
{
	static const struct {
		uint64_t abilities;
		bool has_index;
		unsigned int traits;
		const char *stops;
	} cases[] = {
		{ A_FULL, true,
		  BACKEND_MAPS | BACKEND_RUNS_AS_ONE | BACKEND_SUSPENDS | BACKEND_KEEPS_INDEX,
		  "suspended" },
		{ A_PLAIN, true, BACKEND_MAPS | BACKEND_RUNS_AS_ONE | BACKEND_KEEPS_INDEX,
		  "it tells its indices" },
		{ A_PLAIN | A_PERSIST, false, BACKEND_MAPS | BACKEND_RUNS_AS_ONE,
		  "starts at index 0" },
	};
	struct umbra_backend_info info;
	uint64_t value;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		vdpa_sim_init(&sim);
		sim.abilities = cases[i].abilities | 1ull << 7; /* and one that is not for us */
		sim.has_index = cases[i].has_index;
		sim.first = 0x1000;
		sim.last = (1ull << 39) - 1;
		backend_make();
		assert_int_equal(b->traits, cases[i].traits | BACKEND_HEARS_NEW_KICKS);
		assert_int_equal(sim.abilities_acked, cases[i].abilities);
		b->ops->info(b, &info);
		assert_string_equal(info.kind, "vhost-vdpa");
		assert_int_equal(info.device_id, 2);
		assert_int_equal(info.queue_count, SIM_RINGS);
		assert_int_equal(info.queue_size, 256);
		assert_int_equal(info.abilities, sim.abilities);
		assert_int_equal(info.iova_first, 0x1000);
		assert_int_equal(info.iova_last, (1ull << 39) - 1);
		assert_non_null(strstr(info.stops, cases[i].stops));
		assert_int_equal(b->ops->get_features(b, &value, &err), 0);
		assert_int_equal(value, sim.features | BIT30);
		assert_int_equal(b->ops->get_queue_num(b, &value, &err), 0);
		assert_int_equal(value, SIM_RINGS);
		backend_close();
	}
}

static void a_device_that_cannot_serve_is_refused(void **state)
{
	(void)state;
	sim.open_error = EBUSY;
	assert_int_equal(vhost_vdpa_open("/dev/x", &sim.system, -1, 1, &b, &err), -EBUSY);
	says("cannot open /dev/x: Device or resource busy (another program has it open)");

	vdpa_sim_init(&sim);
	sim.abilities = A_FULL & ~A_MSG_V2;
	assert_int_equal(vhost_vdpa_open("/dev/x", &sim.system, -1, 1, &b, &err), -EOPNOTSUPP);
	says("without VHOST_BACKEND_F_IOTLB_MSG_V2 (1)");

	vdpa_sim_init(&sim);
	sim.ring_count = 0;
	assert_int_equal(vhost_vdpa_open("/dev/x", &sim.system, -1, 1, &b, &err), -EOPNOTSUPP);
	says("the device has 0 queues; expected 1 to 256");

	vdpa_sim_init(&sim);
	sim.fail_request = VHOST_VDPA_GET_DEVICE_ID;
	sim.fail_error = ENOTTY;
	assert_int_equal(vhost_vdpa_open("/dev/x", &sim.system, -1, 1, &b, &err), -EINVAL);
	says("/dev/x is no vhost-vdpa device");
	assert_int_equal(sim.node_fd, -1);
}

/* --- starting and stopping ------------------------------------------------ */

static void features_are_agreed_on_when_they_are_set(void **state)
{
	(void)state;
	backend_make();
	sim.log[0] = '\0';
	assert_int_equal(b->ops->set_features(b, FEATURES | BIT30, &err), 0);
	assert_string_equal(sim.log, "SET_STATUS(0) GET_STATUS SET_STATUS(1) SET_STATUS(3) "
				     "SET_FEATURES SET_STATUS(11) GET_STATUS");
	assert_int_equal(sim.acked, FEATURES); /* bit 30 is vhost-user's */
}

static void a_start_follows_virtios_order(void **state)
{
	(void)state;
	backend_ready();
	assert_int_equal(ring_note(0, 5, true), 0);
	assert_int_equal(ring_note(2, 9, true), 0);
	assert_string_equal(sim.log, "CALL[0] CALL[2]"); /* only looked at */
	sim.log[0] = '\0';
	assert_int_equal(b->ops->device_start(b, &err), 0);
	assert_string_equal(sim.log, "SET_CONFIG_CALL NUM[0] ADDR[0] BASE[0] CALL[0] ERR[0] "
				     "NUM[2] ADDR[2] BASE[2] CALL[2] ERR[2] ENABLE[0] ENABLE[2] "
				     "GET_STATUS SET_STATUS(15) GET_STATUS KICK[0] KICK[2]");
	assert_int_equal(sim.rings[0].base, 5);
	assert_int_equal(sim.rings[2].base, 9);
	assert_int_equal(sim.rings[2].desc, regions[0].iova.v + 0x20000);
	assert_int_equal(sim.rings[2].avail, regions[0].iova.v + 0x21000);
	assert_int_equal(sim.rings[2].used, regions[0].iova.v + 0x22000);
	assert_false(sim.rings[1].ready);
	/* One for each: nobody heard what was kicked before. */
	assert_int_equal(vdpa_sim_kicks(&sim, 0), 2);
}

static void a_device_that_suspends_is_stopped_with_its_indices(void **state)
{
	(void)state;
	backend_runs();
	sim.rings[0].base = 105;
	sim.rings[1].base = 65535;
	assert_int_equal(b->ops->device_stop(b, &err), 0);
	assert_string_equal(sim.log,
			    "GET_STATUS SUSPEND GET_BASE[0] GET_BASE[1] SET_STATUS(0) GET_STATUS");
	assert_int_equal(ring_stopped_at(0), 105);
	assert_int_equal(ring_stopped_at(1), 65535);
	/* The kernel has let go of all that the rings had. */
	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(sim.rings[i].kick_fd, -1);
		assert_int_equal(sim.rings[i].call_fd, -1);
		assert_int_equal(sim.rings[i].err_fd, -1);
	}
	assert_int_equal(b->ops->device_stop(b, &err), 0); /* nothing runs: nothing to do */
	sim.log[0] = '\0';
	/* The next start does what the reset undid. */
	assert_int_equal(ring_note(0, 105, true), 0);
	assert_int_equal(b->ops->device_start(b, &err), 0);
	assert_string_equal(sim.log, "CALL[0] SET_STATUS(0) GET_STATUS SET_STATUS(1) SET_STATUS(3) "
				     "SET_FEATURES SET_STATUS(11) GET_STATUS SET_CONFIG_CALL "
				     "NUM[0] ADDR[0] BASE[0] CALL[0] ERR[0] ENABLE[0] "
				     "GET_STATUS SET_STATUS(15) GET_STATUS KICK[0]");
	assert_int_equal(sim.rings[0].base, 105);
}

static uint16_t taken_meanwhile;

static void take_before_reset(struct vdpa_sim *s, unsigned long request)
{
	if (request == VHOST_VDPA_SET_STATUS)
		s->rings[0].base = (uint16_t)(s->rings[0].base + taken_meanwhile);
	taken_meanwhile = request == VHOST_VDPA_SET_STATUS ? 0 : taken_meanwhile;
}

static void a_device_without_suspend_is_asked_before_and_after_the_reset(void **state)
{
	(void)state;
	sim.abilities = A_PLAIN;
	sim.forgets_index = false;
	backend_runs();
	sim.rings[0].base = 105;
	sim.before = take_before_reset;
	taken_meanwhile = 3;
	assert_int_equal(b->ops->device_stop(b, &err), 0);
	assert_string_equal(sim.log, "GET_STATUS GET_BASE[0] GET_BASE[1] SET_STATUS(0) GET_STATUS "
				     "GET_BASE[0] GET_BASE[1]");
	assert_int_equal(ring_stopped_at(0), 108); /* what it took in between counts */
	assert_int_equal(ring_stopped_at(1), 7);
}

static void an_index_that_a_reset_wipes_out_is_the_one_before_it(void **state)
{
	(void)state;
	sim.abilities = A_PLAIN;
	backend_runs();
	sim.rings[0].base = 105;
	sim.rings[1].base = 65530; /* 0 is not far from here */
	assert_int_equal(b->ops->device_stop(b, &err), 0);
	assert_int_equal(ring_stopped_at(0), 105);
	assert_int_equal(ring_stopped_at(1), 65530);
}

static void an_index_that_wraps_around_a_reset_is_believed_of_a_device_that_keeps_them(void **state)
{
	(void)state;
	sim.abilities = A_PLAIN;
	sim.forgets_index = false;
	backend_runs();
	assert_int_equal(b->ops->device_stop(b, &err), 0); /* it is seen to keep 5 and 7 */
	assert_int_equal(ring_stopped_at(0), 5);
	assert_int_equal(ring_stopped_at(1), 7);
	assert_int_equal(ring_note(0, 65530, true), 0);
	assert_int_equal(b->ops->device_start(b, &err), 0);
	sim.before = take_before_reset;
	taken_meanwhile = 6;
	assert_int_equal(b->ops->device_stop(b, &err), 0);
	assert_int_equal(ring_stopped_at(0), 0);
}

static void a_device_without_indices_starts_at_0_and_is_asked_for_none(void **state)
{
	uint16_t base;

	(void)state;
	sim.abilities = A_PLAIN | A_PERSIST;
	sim.has_index = false;
	backend_ready();
	assert_int_equal(ring_note(0, 1, true), -EREMOTEIO);
	says("queue 0: it would have to start at index 1, and every queue of this device starts at "
	     "0");
	assert_int_equal(ring_note(0, 0, true), 0);
	assert_int_equal(b->ops->device_start(b, &err), 0);
	sim.log[0] = '\0';
	assert_int_equal(b->ops->device_stop(b, &err), 0);
	assert_null(strstr(sim.log, "GET_BASE"));
	ring_stopped_at(0);
	assert_int_equal(ring_base_at(b, 0, &base, &err), -EOPNOTSUPP);
	check_runs_again();
}

static void a_running_ring_says_where_it_is(void **state)
{
	uint16_t base;

	(void)state;
	backend_runs();
	sim.rings[1].base = 77;
	assert_int_equal(ring_base_at(b, 1, &base, &err), 0);
	assert_int_equal(base, 77);
	assert_int_equal(ring_base_at(b, SIM_RINGS, &base, &err), -EINVAL);
}

/* --- rings ---------------------------------------------------------------- */

static void a_ring_that_cannot_be_is_refused_by_name(void **state)
{
	struct virtio_ring good, r;
	int pair[2];

	(void)state;
	backend_ready();
	good = ring_at(regions[0].uva.v, 0);
	assert_int_equal(b->ops->ring_start(b, SIM_RINGS, &good, &err), -EINVAL);
	says("queue 3; the device has 3");
	r = good;
	r.size = 512;
	assert_int_equal(b->ops->ring_start(b, 1, &r, &err), -EREMOTEIO);
	says("queue 1: 512 entries; the device takes a power of two up to 256");
	r = good;
	r.addr.used.v = regions[0].uva.v + MIB - 100;
	assert_int_equal(b->ops->ring_start(b, 1, &r, &err), -EINVAL);
	says("queue 1: the used ring at user address 0x7f00001fff9c, 134 bytes, is not inside");
	r = good;
	r.kick_fd = -1;
	assert_int_equal(b->ops->ring_start(b, 1, &r, &err), -EREMOTEIO);
	says("queue 1: it has no kick fd");
	/* User Mode Linux's calls are sockets. */
	assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
	r = good;
	r.call_fd = pair[1];
	assert_int_equal(b->ops->ring_start(b, 1, &r, &err), -EREMOTEIO);
	says("queue 1: the kernel expects an eventfd");
	close(pair[0]);
	close(pair[1]);
	assert_int_equal(b->ops->ring_start(b, 1, &good, &err), 0);
	assert_int_equal(b->ops->device_start(b, &err), 0);
	assert_int_equal(b->ops->ring_start(b, 0, &good, &err), -EREMOTEIO);
	says("while the device runs");
	assert_int_equal(b->ops->ring_stop(b, 1, &r.base, &err), -EREMOTEIO);
	assert_int_equal(b->ops->set_features(b, FEATURES | 1, &err), -EREMOTEIO);
	assert_int_equal(b->ops->device_start(b, &err), -EREMOTEIO);
	assert_true(sim.status & VIRTIO_CONFIG_S_DRIVER_OK);
}

static void a_ring_is_enabled_late_where_that_can_be(void **state)
{
	(void)state;
	backend_ready();
	assert_int_equal(ring_note(0, 0, true), 0);
	assert_int_equal(ring_note(1, 0, false), 0);
	assert_int_equal(b->ops->device_start(b, &err), 0);
	assert_true(sim.rings[0].ready && !sim.rings[1].ready);
	vdpa_sim_kicks(&sim, 0);
	eventfd_write(kick_fd, 1);
	assert_int_equal(vdpa_sim_kicks(&sim, 1), 0); /* nor is it kicked */
	sim.log[0] = '\0';
	assert_int_equal(b->ops->ring_enable(b, 1, true, &err), 0);
	assert_string_equal(sim.log, "KICK[1] ENABLE[1]");
	assert_true(vdpa_sim_kicks(&sim, 1) > 0); /* what came before is not lost */
	/* virtio cannot disable it again; it is no longer kicked instead. */
	sim.log[0] = '\0';
	assert_int_equal(b->ops->ring_enable(b, 1, false, &err), 0);
	assert_string_equal(sim.log, "KICK[1]");
	eventfd_write(kick_fd, 1);
	assert_int_equal(vdpa_sim_kicks(&sim, 1), 0);
	sim.log[0] = '\0';
	assert_int_equal(b->ops->ring_enable(b, 1, true, &err), 0);
	assert_string_equal(sim.log, "KICK[1]");
	assert_true(vdpa_sim_kicks(&sim, 1) > 0);
	assert_int_equal(b->ops->ring_enable(b, 1, true, &err), 0); /* repeated: nothing */
	assert_string_equal(sim.log, "KICK[1]");
}

static void where_it_cannot_be_a_disabled_ring_is_not_kicked(void **state)
{
	(void)state;
	sim.abilities = A_PLAIN;
	backend_ready();
	assert_int_equal(ring_note(0, 0, false), 0);
	assert_int_equal(b->ops->device_start(b, &err), 0);
	assert_true(sim.rings[0].ready);
	eventfd_write(kick_fd, 1);
	assert_int_equal(vdpa_sim_kicks(&sim, 0), 0);
	sim.log[0] = '\0';
	assert_int_equal(b->ops->ring_enable(b, 0, true, &err), 0);
	assert_string_equal(sim.log, "KICK[0]");
	assert_true(vdpa_sim_kicks(&sim, 0) > 0);
}

static void a_running_ring_changes_its_fds(void **state)
{
	int quiet = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	eventfd_t value;

	(void)state;
	backend_runs();
	assert_int_equal(b->ops->ring_exchange(b, 0, VIRTIO_RING_KICK, quiet, &err), 0);
	eventfd_write(kick_fd, 1);
	assert_int_equal(vdpa_sim_kicks(&sim, 0), 0); /* hushed */
	assert_int_equal(b->ops->ring_exchange(b, 0, VIRTIO_RING_KICK, kick_fd, &err), 0);
	assert_int_equal(vdpa_sim_kicks(&sim, 0), 1);
	assert_int_equal(b->ops->ring_exchange(b, 0, VIRTIO_RING_KICK, -1, &err), -EREMOTEIO);
	assert_int_equal(b->ops->ring_exchange(b, 0, VIRTIO_RING_CALL, quiet, &err), 0);
	eventfd_write(sim.rings[0].call_fd, 1);
	assert_int_equal(eventfd_read(quiet, &value), 0);
	assert_int_equal(b->ops->ring_exchange(b, 0, VIRTIO_RING_CALL, -1, &err), 0);
	assert_int_equal(sim.rings[0].call_fd, -1);
	assert_int_equal(b->ops->ring_exchange(b, 0, VIRTIO_RING_ERR, -1, &err), 0);
	assert_int_equal(sim.rings[0].err_fd, -1);
	close(quiet);
}

/* --- the rest ------------------------------------------------------------- */

static void the_front_ends_status_is_its_own(void **state)
{
	uint8_t status;

	(void)state;
	backend_runs();
	assert_int_equal(b->ops->set_status(b, 7, &err), 0);
	assert_int_equal(b->ops->get_status(b, &status, &err), 0);
	assert_int_equal(status, 7);
	assert_string_equal(sim.log, "GET_STATUS");
	assert_true(sim.status & VIRTIO_CONFIG_S_DRIVER_OK);
	/* 0 is a reset, after which everything begins anew. */
	assert_int_equal(b->ops->set_status(b, 0, &err), 0);
	assert_int_equal(sim.status, 0);
	assert_int_equal(sim.rings[0].kick_fd, -1);
	assert_int_equal(b->ops->get_status(b, &status, &err), 0);
	assert_int_equal(status, 0);
	assert_int_equal(ring_stopped_at(0), 0);
	check_runs_again();
	assert_int_equal(b->ops->reset(b, &err), 0);
}

static void config_space_is_read_past_its_end_and_not_written(void **state)
{
	uint8_t data[80];

	(void)state;
	backend_ready();
	for (unsigned int i = 0; i < sizeof(sim.config); i++)
		sim.config[i] = (uint8_t)(i + 1);
	memset(data, 0xee, sizeof(data));
	assert_int_equal(b->ops->get_config(b, 50, data, 20, &err), 0);
	for (unsigned int i = 0; i < 20; i++)
		assert_int_equal(data[i], i < 10 ? 51 + i : 0);
	assert_int_equal(data[20], 0xee);
	assert_int_equal(b->ops->get_config(b, 60, data, 4, &err), 0);
	assert_int_equal(data[0], 0);
	assert_int_equal(b->ops->get_config(b, 0, data, 0, &err), -EINVAL);
	assert_int_equal(b->ops->get_config(b, UINT32_MAX, data, 4, &err), -EINVAL);
	assert_int_equal(b->ops->set_config(b, 58, "ab", 2, 0, &err), 0);
	assert_memory_equal(sim.config + 58, "ab", 2);
	assert_int_equal(b->ops->set_config(b, 59, "cd", 2, 0, &err), -EINVAL);
	says("config space at 59, 2 bytes; the device has 60 in all");
	assert_int_equal(b->ops->set_config(b, UINT32_MAX, "cd", 2, 0, &err), -EINVAL);
}

static void what_a_vdpa_device_has_not_is_said(void **state)
{
	uint64_t features;

	(void)state;
	backend_make();
	assert_int_equal(b->ops->get_protocol_features(b, &features, &err), 0);
	assert_true(features & BIT64(VHOST_USER_PROTOCOL_F_CONFIG));
	assert_int_equal(b->ops->set_protocol_features(b, features, &err), 0);
	assert_int_equal(b->ops->set_protocol_features(b, 1ull << 40, &err), -EINVAL);
	assert_int_equal(b->ops->set_mtu(b, 1500, &err), -EOPNOTSUPP);
	assert_int_equal(b->ops->send_rarp(b, (const uint8_t[6]){ 0 }, &err), -EOPNOTSUPP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_back_end_is_known_by_its_name),
		TEST(opening_learns_what_the_device_can),
		TEST(a_device_that_cannot_serve_is_refused),
		TEST(features_are_agreed_on_when_they_are_set),
		TEST(a_start_follows_virtios_order),
		TEST(a_device_that_suspends_is_stopped_with_its_indices),
		TEST(a_device_without_suspend_is_asked_before_and_after_the_reset),
		TEST(an_index_that_a_reset_wipes_out_is_the_one_before_it),
		TEST(an_index_that_wraps_around_a_reset_is_believed_of_a_device_that_keeps_them),
		TEST(a_device_without_indices_starts_at_0_and_is_asked_for_none),
		TEST(a_running_ring_says_where_it_is),
		TEST(a_ring_that_cannot_be_is_refused_by_name),
		TEST(a_ring_is_enabled_late_where_that_can_be),
		TEST(where_it_cannot_be_a_disabled_ring_is_not_kicked),
		TEST(a_running_ring_changes_its_fds),
		TEST(the_front_ends_status_is_its_own),
		TEST(config_space_is_read_past_its_end_and_not_written),
		TEST(what_a_vdpa_device_has_not_is_said),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
