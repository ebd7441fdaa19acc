/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The vhost-vdpa back-end on a simulated kernel: what is called in which order,
 * and that every fault ends in a defined state with nothing leaked.  Each test
 * counts fds, and what is mapped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/fd.h"
#include "host/mapping.h"
#include "session/backend_open.h"
#include "umbra/shadow_device.h"
#include "vdpa/vhost_vdpa.h"
#include "vdpa_sim.h"
#include "vhost_user/protocol.h"

#define FEATURES (BIT64(VIRTIO_F_VERSION_1) | BIT64(VIRTIO_F_ACCESS_PLATFORM))
#define BIT30 BIT64(VHOST_USER_F_PROTOCOL_FEATURES)
#define MIB (1ull << 20)
#define UVA 0x7f0000000000ull
#define TIMEOUT_MS 10000u
#define REGIONS_MAX 32u

static struct vdpa_sim sim;
static struct backend *b;
static struct umbra_error err;
static struct memory_region regions[REGIONS_MAX];
static unsigned int region_count;
static unsigned int fds_before;
static int kick_fd, call_fd, err_fd, stop_fd;

/* --- the rig -------------------------------------------------------------- */

static unsigned int fds_open(void)
{
	unsigned int n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* One more region, made of pages of its own. */
static struct memory_region *region_add(uint64_t gpa, uint64_t size)
{
	struct memory_region *r = &regions[region_count++];

	assert_true(region_count <= REGIONS_MAX);
	assert_int_equal(mapping_create_own(size, r, &err), 0);
	r->gpa.v = r->iova = gpa;
	r->uva.v = UVA + gpa;
	return r;
}

static void regions_drop(void)
{
	for (unsigned int i = 0; i < region_count; i++)
		memory_backing_unref(regions[i].backing);
	region_count = 0;
}

static int setup(void **state)
{
	(void)state;
	fds_before = fds_open();
	vdpa_sim_init(&sim);
	b = NULL;
	err.text[0] = '\0';
	kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	err_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return stop_fd < 0;
}

static void backend_close(void)
{
	if (b)
		b->ops->destroy(b);
	b = NULL;
	assert_int_equal(sim.map_count, 0);
	assert_int_equal(sim.node_fd, -1);
}

static int teardown(void **state)
{
	(void)state;
	backend_close();
	regions_drop();
	fd_close(&kick_fd);
	fd_close(&call_fd);
	fd_close(&err_fd);
	fd_close(&stop_fd);
	assert_int_equal(fds_open(), fds_before);
	return 0;
}

static void backend_make(void)
{
	assert_int_equal(
		vhost_vdpa_open("/dev/simulated", &sim.system, stop_fd, TIMEOUT_MS, &b, &err), 0);
}

static struct backend_ring ring_at(uint64_t uva, uint16_t base)
{
	return (struct backend_ring){
		.size = 16,
		.base = base,
		.desc = { uva },
		.avail = { uva + 0x1000 },
		.used = { uva + 0x2000 },
		.kick_fd = kick_fd,
		.call_fd = call_fd,
		.err_fd = err_fd,
		.enabled = true,
	};
}

/* Ring @index in the first region, at @base. */
static int ring_note(unsigned int index, uint16_t base, bool enabled)
{
	struct backend_ring r = ring_at(regions[0].uva.v + index * 0x10000, base);

	r.enabled = enabled;
	return b->ops->ring_start(b, index, &r, &err);
}

/* Opened, with features and one region of memory. */
static void backend_ready(void)
{
	backend_make();
	if (!region_count)
		region_add(0x100000, MIB);
	assert_int_equal(b->ops->set_features(b, FEATURES | BIT30, &err), 0);
	assert_int_equal(b->ops->set_memory(b, regions, region_count, &err), 0);
	sim.log[0] = '\0';
}

/* And rings 0 and 1 run. */
static void backend_runs(void)
{
	backend_ready();
	assert_int_equal(ring_note(0, 5, true), 0);
	assert_int_equal(ring_note(1, 7, true), 0);
	assert_int_equal(b->ops->device_start(b, &err), 0);
	vdpa_sim_kicks(&sim, 0);
	vdpa_sim_kicks(&sim, 1);
	sim.log[0] = '\0';
}

static uint16_t ring_stopped_at(unsigned int index)
{
	uint16_t base = 0xdead;

	assert_int_equal(b->ops->ring_stop(b, index, -1, &base, &err), 0);
	return base;
}

/* A second life, to show that the back-end is as good as new. */
static void check_runs_again(void)
{
	if (sim.status & VIRTIO_CONFIG_S_DRIVER_OK && !sim.suspended)
		assert_int_equal(b->ops->device_stop(b, &err), 0);
	ring_stopped_at(0);
	ring_stopped_at(1);
	assert_int_equal(ring_note(0, 0, true), 0);
	assert_int_equal(b->ops->device_start(b, &err), 0);
	assert_true(sim.status & VIRTIO_CONFIG_S_DRIVER_OK);
	assert_true(sim.rings[0].ready && !sim.rings[1].ready);
	assert_int_equal(b->ops->device_stop(b, &err), 0);
	ring_stopped_at(0);
}

/* Whatever is called now fails alike, and reaches the kernel no more. */
static void check_lost(const char *why)
{
	struct umbra_backend_info info;
	unsigned int calls = sim.calls;
	uint64_t features;

	b->ops->info(b, &info);
	assert_non_null(strstr(err.text, why));
	assert_int_equal(b->ops->get_features(b, &features, &err), -ECONNRESET);
	assert_non_null(strstr(err.text, why));
	assert_int_equal(b->ops->set_memory(b, NULL, 0, &err),
			 info.mapped_ranges ? -ECONNRESET : 0);
	assert_int_equal(sim.calls, calls);
}

static void says(const char *words)
{
	if (!strstr(err.text, words))
		fail_msg("\"%s\" does not say \"%s\"", err.text, words);
}

/* --- opening -------------------------------------------------------------- */

/* One attempt on the back-end with this name. */
static int attempt(const char *spec)
{
	static const struct umbra_socket_access any = { 0 };
	struct backend_source *source;
	int rc = backend_source_open(spec, &any, &source, &err);

	assert_int_equal(rc, 0);
	backend_source_begin(source);
	assert_int_equal(backend_source_wait_ms(source), 0);
	rc = backend_source_try(source, -1, TIMEOUT_MS, &b, &err);
	if (rc == -EAGAIN) /* the next one is not due at once, and soon */
		assert_in_range(backend_source_wait_ms(source), 0, 10);
	backend_source_close(&source);
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
		  BACKEND_MAPS | BACKEND_WHOLE | BACKEND_SUSPENDS | BACKEND_KEEPS_INDEX,
		  "suspended" },
		{ A_PLAIN, true, BACKEND_MAPS | BACKEND_WHOLE | BACKEND_KEEPS_INDEX,
		  "it tells its indices" },
		{ A_PLAIN | A_PERSIST, false, BACKEND_MAPS | BACKEND_WHOLE, "starts at index 0" },
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
		assert_int_equal(b->traits, cases[i].traits);
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
	assert_int_equal(sim.rings[2].desc, regions[0].iova + 0x20000);
	assert_int_equal(sim.rings[2].avail, regions[0].iova + 0x21000);
	assert_int_equal(sim.rings[2].used, regions[0].iova + 0x22000);
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
	assert_int_equal(b->ops->ring_base(b, 0, &base, &err), -EOPNOTSUPP);
	check_runs_again();
}

static void a_running_ring_says_where_it_is(void **state)
{
	uint16_t base;

	(void)state;
	backend_runs();
	sim.rings[1].base = 77;
	assert_int_equal(b->ops->ring_base(b, 1, &base, &err), 0);
	assert_int_equal(base, 77);
	assert_int_equal(b->ops->ring_base(b, SIM_RINGS, &base, &err), -EINVAL);
}

/* --- rings ---------------------------------------------------------------- */

static void a_ring_that_cannot_be_is_refused_by_name(void **state)
{
	struct backend_ring good, r;
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
	r.used.v = regions[0].uva.v + MIB - 100;
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
	assert_int_equal(b->ops->ring_stop(b, 1, -1, &r.base, &err), -EREMOTEIO);
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
	assert_int_equal(b->ops->ring_set_kick(b, 0, quiet, &err), 0);
	eventfd_write(kick_fd, 1);
	assert_int_equal(vdpa_sim_kicks(&sim, 0), 0); /* hushed */
	assert_int_equal(b->ops->ring_set_kick(b, 0, kick_fd, &err), 0);
	assert_int_equal(vdpa_sim_kicks(&sim, 0), 1);
	assert_int_equal(b->ops->ring_set_kick(b, 0, -1, &err), -EREMOTEIO);
	assert_int_equal(b->ops->ring_set_call(b, 0, quiet, &err), 0);
	eventfd_write(sim.rings[0].call_fd, 1);
	assert_int_equal(eventfd_read(quiet, &value), 0);
	assert_int_equal(b->ops->ring_set_call(b, 0, -1, &err), 0);
	assert_int_equal(sim.rings[0].call_fd, -1);
	assert_int_equal(b->ops->ring_set_err(b, 0, -1, &err), 0);
	assert_int_equal(sim.rings[0].err_fd, -1);
	close(quiet);
}

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
		rc = b->ops->ring_set_kick(b, 1, kick_fd, &err);
	if (!rc)
		rc = b->ops->add_region(b, &regions[1], &err);
	if (!rc)
		rc = b->ops->set_config(b, 0, config, 4, 0, &err);
	if (!rc)
		rc = b->ops->get_status(b, &status, &err);
	if (!rc)
		rc = b->ops->device_stop(b, &err);
	if (!rc)
		rc = b->ops->ring_stop(b, 0, -1, &base, &err);
	if (!rc)
		rc = b->ops->ring_stop(b, 1, -1, &base, &err);
	if (!rc)
		rc = b->ops->remove_region(b, &more[1], &err);
	if (!rc)
		rc = b->ops->set_status(b, 0, &err);
	return rc;
}

static void check_map_count(void)
{
	struct umbra_backend_info info;

	b->ops->info(b, &info);
	assert_int_equal(info.mapped_ranges, sim.map_count);
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

/* --- memory --------------------------------------------------------------- */

static void a_change_of_the_table_maps_only_the_difference(void **state)
{
	struct umbra_backend_info info;

	(void)state;
	region_add(0x100000, MIB);
	region_add(0x400000, 2 * MIB);
	backend_ready();
	region_add(0x800000, MIB);
	assert_int_equal(b->ops->set_memory(b, regions, 3, &err), 0);
	assert_string_equal(sim.log, "{ MAP(0x800000,0x100000) }");
	sim.log[0] = '\0';
	assert_int_equal(b->ops->set_memory(b, regions, 3, &err), 0);
	assert_string_equal(sim.log, ""); /* nothing new */
	assert_int_equal(b->ops->set_memory(b, regions + 1, 2, &err), 0);
	assert_string_equal(sim.log, "{ UNMAP(0x100000,0x100000) }");
	sim.log[0] = '\0';
	assert_int_equal(b->ops->remove_region(b, &regions[2], &err), 0);
	assert_int_equal(b->ops->remove_region(b, &regions[2], &err), -EINVAL);
	says("gpa 0x800000 of 0x100000 bytes is not mapped");
	assert_int_equal(b->ops->add_region(b, &regions[0], &err), 0);
	assert_string_equal(sim.log, "{ UNMAP(0x800000,0x100000) } { MAP(0x100000,0x100000) }");
	b->ops->info(b, &info);
	assert_int_equal(info.mapped_ranges, 2);
	assert_int_equal(info.mapped_bytes, 3 * MIB);
	assert_true(vdpa_sim_is_mapped(&sim, 0x100000, MIB, regions[0].host));
	assert_true(vdpa_sim_is_mapped(&sim, 0x400000, 2 * MIB, regions[1].host));
}

static void what_is_in_the_way_goes_first_and_the_rest_last(void **state)
{
	struct memory_region wanted[2];

	(void)state;
	region_add(0x100000, MIB);
	region_add(0x400000, MIB);
	region_add(0x800000, MIB);
	backend_ready();
	wanted[0] = regions[0];
	wanted[1] = *region_add(0x380000, MIB); /* over the second; the third just goes */
	assert_int_equal(b->ops->set_memory(b, wanted, 2, &err), 0);
	assert_string_equal(sim.log, "{ UNMAP(0x400000,0x100000) MAP(0x380000,0x100000) "
				     "UNMAP(0x800000,0x100000) }");
	/* The same place in another mapping of ours is another memory for it. */
	sim.log[0] = '\0';
	wanted[1] = *region_add(0x380000, MIB);
	assert_int_equal(b->ops->set_memory(b, wanted, 2, &err), 0);
	assert_string_equal(sim.log, "{ UNMAP(0x380000,0x100000) MAP(0x380000,0x100000) }");
	assert_true(vdpa_sim_is_mapped(&sim, 0x380000, MIB, wanted[1].host));
}

static void a_kernel_without_batches_gets_none(void **state)
{
	(void)state;
	sim.abilities = A_FULL & ~A_BATCH;
	region_add(0x100000, MIB);
	region_add(0x400000, MIB);
	backend_ready();
	assert_int_equal(sim.map_count, 2);
	assert_int_equal(sim.batches, 0);
	assert_int_equal(b->ops->set_memory(b, regions, 1, &err), 0);
	assert_string_equal(sim.log, "UNMAP(0x400000,0x100000)");
}

static void two_regions_on_one_file_offset_are_two(void **state)
{
	int fd = memfd_create("test", MFD_CLOEXEC), copy;

	(void)state;
	assert_int_equal(ftruncate(fd, MIB), 0);
	for (unsigned int i = 0; i < 2; i++) {
		const struct mapping_request request = {
			.gpa = { 0x100000 + i * 0x400000 },
			.uva = { UVA + i * 0x400000 },
			.size = MIB,
		};

		copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		assert_int_equal(mapping_create(&copy, &request, &regions[region_count], &err), 0);
		regions[region_count].iova = request.gpa.v;
		region_count++;
	}
	close(fd);
	backend_ready();
	assert_true(vdpa_sim_is_mapped(&sim, 0x100000, MIB, regions[0].host));
	assert_true(vdpa_sim_is_mapped(&sim, 0x500000, MIB, regions[1].host));
	assert_int_equal(b->ops->remove_region(b, &regions[0], &err), 0);
	assert_string_equal(sim.log, "{ UNMAP(0x100000,0x100000) }");
	assert_true(vdpa_sim_is_mapped(&sim, 0x500000, MIB, regions[1].host));
	/* A ring in the one is not looked for in the other. */
	assert_int_equal(ring_note(0, 0, true), -EINVAL);
	regions[0].uva = regions[1].uva;
	assert_int_equal(ring_note(0, 0, true), 0);
	assert_int_equal(b->ops->device_start(b, &err), 0);
	assert_int_equal(sim.rings[0].desc, 0x500000);
}

static void the_tenth_mapping_that_fails_leaves_the_old_table(void **state)
{
	struct memory_region wanted[12];

	(void)state;
	region_add(0x100000, MIB);
	region_add(0x400000, MIB);
	backend_ready();
	/* The second goes and is in the way; ten more come. */
	wanted[0] = regions[0];
	wanted[1] = *region_add(0x480000, MIB);
	for (unsigned int i = 2; i < 12; i++)
		wanted[i] = *region_add(0x1000000 + i * 0x200000, MIB);
	sim.updates = 0;
	sim.fail_map = 10;
	assert_int_equal(b->ops->set_memory(b, wanted, 12, &err), -EREMOTEIO);
	says("memory region at gpa 0x2400000 of 0x100000 bytes cannot be mapped for the device at "
	     "0x2400000");
	says("max_iotlb_entries");
	assert_int_equal(sim.map_count, 2);
	assert_false(sim.in_batch);
	assert_true(vdpa_sim_is_mapped(&sim, 0x100000, MIB, regions[0].host));
	assert_true(vdpa_sim_is_mapped(&sim, 0x400000, MIB, regions[1].host));
	check_map_count();
	/* It works on, and the same table again works, too. */
	assert_int_equal(ring_note(0, 5, true), 0);
	assert_int_equal(b->ops->device_start(b, &err), 0);
	assert_int_equal(b->ops->set_memory(b, wanted, 12, &err), 0);
	assert_int_equal(sim.map_count, 12);
	check_map_count();
}

static void a_limit_of_pinned_memory_is_named(void **state)
{
	(void)state;
	sim.pin_limit = 65536;
	backend_make();
	region_add(0x100000, MIB);
	sim.fail_map = 1;
	assert_int_equal(b->ops->set_memory(b, regions, 1, &err), -EREMOTEIO);
	says("RLIMIT_MEMLOCK is 65536 of 1048576 bytes");
	assert_int_equal(sim.map_count, 0);
}

static void a_table_that_cannot_be_restored_ends_the_connection(void **state)
{
	struct memory_region wanted[2];

	(void)state;
	region_add(0x100000, MIB);
	region_add(0x400000, MIB);
	backend_ready();
	wanted[0] = regions[0];
	wanted[1] = *region_add(0x480000, MIB);
	sim.updates = 0;
	sim.fail_map = 1;
	sim.fail_map_on = true;
	assert_int_equal(b->ops->set_memory(b, wanted, 2, &err), -ECONNRESET);
	says("the device's memory table is lost");
	check_lost("the device's memory table is lost");
}

static void what_cannot_be_mapped_is_refused_by_name(void **state)
{
	struct memory_region r;
	uint64_t offset;

	(void)state;
	sim.first = 0x10000;
	sim.last = (1ull << 30) - 1;
	backend_make();
	r = *region_add(0x100000, MIB);
	r.iova = 0x8000;
	assert_int_equal(b->ops->add_region(b, &r, &err), -EINVAL);
	says("at 0x8000 is outside the device's range 0x10000 to 0x3fffffff");
	r.iova = (1ull << 30) - MIB + 0x1000;
	assert_int_equal(b->ops->add_region(b, &r, &err), -EINVAL);
	r.iova = (1ull << 30) - MIB; /* just so */
	assert_int_equal(b->ops->add_region(b, &r, &err), 0);
	for (offset = 1; offset < 0x1000; offset <<= 1) {
		r = regions[0];
		r.iova += offset;
		assert_int_equal(b->ops->add_region(b, &r, &err), -EINVAL);
		says("whole pages of 4096 bytes");
		r = regions[0];
		r.size -= offset;
		assert_int_equal(b->ops->add_region(b, &r, &err), -EINVAL);
	}
	r = regions[0];
	r.backing = NULL;
	assert_int_equal(b->ops->add_region(b, &r, &err), -EINVAL);
	says("gpa 0x100000 of 0x100000 bytes is no shared memory file");
	r = regions[0];
	r.backing->cut = true;
	assert_int_equal(b->ops->add_region(b, &r, &err), -EINVAL);
	r.backing->cut = false;
	assert_int_equal(b->ops->add_region(b, &r, &err), 0);
	r.gpa.v += 0x1000;
	r.iova += 0x1000;
	assert_int_equal(b->ops->add_region(b, &r, &err), -EINVAL);
	says("overlap in the device's addresses");
	assert_int_equal(sim.map_count, 2);
}

static void what_a_reset_may_unmap_is_mapped_again(void **state)
{
	(void)state;
	sim.abilities = A_FULL & ~A_PERSIST;
	region_add(0x100000, MIB);
	region_add(0x400000, MIB);
	backend_runs();
	assert_int_equal(b->ops->device_stop(b, &err), 0);
	ring_stopped_at(0);
	ring_stopped_at(1);
	assert_false(sim.maps_in_device);
	assert_int_equal(ring_note(0, 5, true), 0);
	sim.log[0] = '\0';
	/* The simulated kernel would notice a start without. */
	assert_int_equal(b->ops->device_start(b, &err), 0);
	assert_non_null(strstr(sim.log,
			       "{ UNMAP(0x100000,0x100000) UNMAP(0x400000,0x100000) "
			       "MAP(0x100000,0x100000) MAP(0x400000,0x100000) } SET_CONFIG_CALL"));
	assert_int_equal(sim.map_count, 2);
}

static void what_outlasts_a_reset_is_left_alone(void **state)
{
	(void)state;
	backend_runs();
	assert_int_equal(b->ops->device_stop(b, &err), 0);
	ring_stopped_at(0);
	ring_stopped_at(1);
	assert_int_equal(ring_note(0, 5, true), 0);
	assert_int_equal(b->ops->device_start(b, &err), 0);
	assert_null(strstr(sim.log, "MAP"));
}

static struct memory *table_make(unsigned int first, unsigned int count)
{
	struct memory *m;

	assert_int_equal(memory_create(regions + first, count, &m, &err), 0);
	return m;
}

static void memory_is_where_the_guest_sees_it_if_it_can_be(void **state)
{
	struct memory_region own = { 0 }, *o;
	struct memory *m;

	(void)state;
	sim.last = (1ull << 39) - 1;
	region_add(0, MIB);
	region_add(1ull << 32, MIB);
	o = region_add(1ull << 46, 4 * MIB); /* ours: above what this device can address */
	backend_make();
	m = table_make(0, 2);
	assert_int_equal(b->ops->place_memory(b, m, &own, &err), 0); /* none of ours */
	assert_false(m->translated);
	assert_int_equal(b->ops->place_memory(b, m, o, &err), 0);
	assert_false(m->translated);
	assert_int_equal(m->regions[0].iova, 0);
	assert_int_equal(m->regions[1].iova, 1ull << 32);
	assert_int_equal(o->iova, (1ull << 39) - 4 * MIB); /* as high as it can be */
	memory_unref(&m);
}

static void memory_that_does_not_fit_is_translated_and_stays_where_it_is(void **state)
{
	struct umbra_backend_info info;
	struct memory_region *o, table[4];
	uint64_t places[3];
	struct memory *m;

	(void)state;
	sim.first = 0x1000;
	sim.last = (1ull << 32) - 1;
	region_add(0, MIB); /* below the range */
	region_add(1ull << 32, 2 * MIB);
	o = region_add(1ull << 46, 4 * MIB);
	backend_make();
	m = table_make(0, 2);
	assert_int_equal(b->ops->place_memory(b, m, o, &err), 0);
	assert_true(m->translated);
	places[0] = m->regions[0].iova;
	places[1] = m->regions[1].iova;
	places[2] = o->iova;
	assert_int_equal(places[0], MIB); /* aligned to its size, and not 0 */
	assert_int_equal(places[1], 2 * MIB);
	table[0] = m->regions[0];
	table[1] = m->regions[1];
	table[2] = *o;
	assert_int_equal(b->ops->set_memory(b, table, 3, &err), 0);
	b->ops->info(b, &info);
	assert_true(info.translated);
	memory_unref(&m);
	/* One more, and the first goes: the others stay, and nothing new is where
	 * the first was. */
	regions[0] = (memory_backing_unref(regions[0].backing), (struct memory_region){ 0 });
	region_count--;
	memmove(regions, regions + 1, region_count * sizeof(*regions));
	o = &regions[1];
	region_add(1ull << 33, MIB);
	{
		struct memory_region wanted[2] = { regions[0], regions[2] };

		assert_int_equal(memory_create(wanted, 2, &m, &err), 0);
	}
	o->iova = 0;
	assert_int_equal(b->ops->place_memory(b, m, o, &err), 0);
	assert_int_equal(m->regions[0].iova, places[1]);
	assert_int_equal(m->regions[1].iova, 4 * MIB);
	assert_int_equal(o->iova, places[2]);
	memory_unref(&m);
}

static void memory_that_could_go_home_stays_where_the_device_knows_it(void **state)
{
	struct memory_region own = { 0 };
	struct memory *m;

	(void)state;
	sim.last = (1ull << 32) - 1;
	region_add(0x800000, MIB);
	region_add(1ull << 32, MIB);
	backend_make();
	m = table_make(0, 2);
	assert_int_equal(b->ops->place_memory(b, m, &own, &err), 0);
	assert_int_equal(m->regions[0].iova, MIB);
	assert_int_equal(b->ops->set_memory(b, m->regions, 2, &err), 0);
	memory_unref(&m);
	m = table_make(0, 1); /* without the one that did not fit */
	assert_int_equal(b->ops->place_memory(b, m, &own, &err), 0);
	assert_int_equal(m->regions[0].iova, MIB);
	assert_true(m->translated);
	memory_unref(&m);
}

static void memory_that_has_no_place_is_refused_by_name(void **state)
{
	struct memory_region own = { 0 };
	struct memory *m;

	(void)state;
	sim.last = 4 * MIB - 1;
	region_add(1ull << 32, 2 * MIB);
	region_add(1ull << 33, 2 * MIB);
	backend_make();
	m = table_make(0, 2);
	assert_int_equal(b->ops->place_memory(b, m, &own, &err), -ENOSPC);
	says("gpa 0x200000000 of 0x200000 bytes has no place in the device's range 0x0 to 0x3fffff");
	memory_unref(&m);
	own = *region_add(1ull << 46, 4 * MIB);
	m = table_make(0, 1);
	assert_int_equal(b->ops->place_memory(b, m, &own, &err), -ENOSPC);
	says("the shadow's own memory of 0x400000 bytes has no place");
	memory_unref(&m);
	/* Where there is no more room, what leaves makes some. */
	m = table_make(0, 1);
	own.size = 0;
	assert_int_equal(b->ops->place_memory(b, m, &own, &err), 0);
	assert_int_equal(b->ops->set_memory(b, m->regions, 1, &err), 0);
	memory_unref(&m);
	m = table_make(1, 1);
	assert_int_equal(b->ops->place_memory(b, m, &own, &err), 0);
	assert_int_equal(b->ops->set_memory(b, m->regions, 1, &err), 0);
	assert_int_equal(sim.map_count, 1);
	memory_unref(&m);
}

/* Tables at random, mappings that fail at random: what is mapped is always the
 * last table that was accepted. */
static void tables_at_random_are_what_is_mapped(void **state)
{
	struct memory_region have[8], wanted[8];
	unsigned int have_count = 0, refused = 0, seed = 20261123;

	(void)state;
	for (unsigned int i = 0; i < 16; i++)
		region_add(0x100000 + (i / 2) * 0x200000, MIB + (i % 2) * MIB);
	print_message("seed %u\n", seed);
	srandom(seed);
	backend_make();
	for (unsigned int round = 0; round < 2000; round++) {
		unsigned int count = 0;
		int rc;

		for (unsigned int i = 0; i < 8; i++) /* of each pair, one or none */
			if (random() % 3)
				wanted[count++] = regions[2 * i + (unsigned int)(random() % 2)];
		sim.updates = 0;
		sim.fail_map = (unsigned int)(random() % 6);
		rc = b->ops->set_memory(b, wanted, count, &err);
		if (!rc) {
			memcpy(have, wanted, sizeof(have));
			have_count = count;
		} else {
			assert_int_equal(rc, -EREMOTEIO);
			refused++;
		}
		assert_int_equal(sim.map_count, have_count);
		for (unsigned int i = 0; i < have_count; i++)
			assert_true(
				vdpa_sim_is_mapped(&sim, have[i].iova, have[i].size, have[i].host));
		check_map_count();
	}
	assert_true(refused > 100 && refused < 1900);
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
	assert_int_equal(b->ops->reset_device(b, &err), 0);
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

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
		TEST(a_change_of_the_table_maps_only_the_difference),
		TEST(what_is_in_the_way_goes_first_and_the_rest_last),
		TEST(a_kernel_without_batches_gets_none),
		TEST(two_regions_on_one_file_offset_are_two),
		TEST(the_tenth_mapping_that_fails_leaves_the_old_table),
		TEST(a_limit_of_pinned_memory_is_named),
		TEST(a_table_that_cannot_be_restored_ends_the_connection),
		TEST(what_cannot_be_mapped_is_refused_by_name),
		TEST(what_a_reset_may_unmap_is_mapped_again),
		TEST(what_outlasts_a_reset_is_left_alone),
		TEST(memory_is_where_the_guest_sees_it_if_it_can_be),
		TEST(memory_that_does_not_fit_is_translated_and_stays_where_it_is),
		TEST(memory_that_could_go_home_stays_where_the_device_knows_it),
		TEST(memory_that_has_no_place_is_refused_by_name),
		TEST(tables_at_random_are_what_is_mapped),
		TEST(the_front_ends_status_is_its_own),
		TEST(config_space_is_read_past_its_end_and_not_written),
		TEST(what_a_vdpa_device_has_not_is_said),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
