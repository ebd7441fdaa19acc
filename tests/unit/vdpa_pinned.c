/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a vhost-vdpa back-end owes a balloon of the same guest: it tells that it has
 * memory pinned before it has it, and never starts a device on pages that were discarded
 * after they were pinned.  The kernel is simulated, files and locks are real.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/fd.h"
#include "host/mapping.h"
#include "host/memory_hold.h"
#include "vdpa/vhost_vdpa.h"
#include "vdpa_sim.h"

#define MIB (UINT64_C(1) << 20)
#define UVA UINT64_C(0x7f0000000000)

static struct vdpa_sim sim;
static struct virtio_device *b;
static struct umbra_error err;
static struct memory_region region; /* the back-end's */
static struct memory_region balloon;
static int kick_fd;

static struct memory_region region_make(int fd)
{
	struct mapping_request request = { .gpa = { MIB }, .uva = { UVA + MIB }, .size = MIB };
	struct memory_region made;
	int own = dup(fd);

	assert_true(own >= 0);
	assert_int_equal(mapping_create(&own, &request, &made, &err), 0);
	made.iova.v = MIB;
	return made;
}

static int setup(void **state)
{
	int fd = memfd_create("guest", MFD_CLOEXEC);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, MIB), 0);
	region = region_make(fd);
	balloon = region_make(fd);
	close(fd);
	assert_int_equal(memory_hold_open(balloon.backing), 0);
	kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	vdpa_sim_init(&sim);
	assert_int_equal(vhost_vdpa_open("/dev/simulated", &sim.system, -1, 1000, &b, &err), 0);
	assert_int_equal(
		b->ops->set_features(b, BIT64(VIRTIO_F_VERSION_1) | BIT64(VIRTIO_F_ACCESS_PLATFORM),
				     &err),
		0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	if (b)
		b->ops->destroy(b);
	b = NULL;
	if (region.backing)
		memory_backing_unref(region.backing);
	memory_backing_unref(balloon.backing);
	fd_close(&kick_fd);
	return 0;
}

static int start(void)
{
	struct virtio_ring ring = {
		.size = 16,
		.addr = { .desc = { UVA + MIB },
			  .avail = { UVA + MIB + 0x1000 },
			  .used = { UVA + MIB + 0x2000 } },
		.kick_fd = kick_fd,
		.call_fd = -1,
		.err_fd = -1,
		.enabled = true,
	};

	assert_int_equal(b->ops->ring_start(b, 0, &ring, &err), 0);
	return b->ops->device_start(b, &err);
}

static int (*sim_write)(void *opaque, int fd, const void *data, size_t size);
static bool always_told;

static int write_told(void *opaque, int fd, const void *data, size_t size)
{
	always_told &= memory_hold_is_pinned(balloon.backing);
	return sim_write(opaque, fd, data, size);
}

static void that_memory_is_pinned_is_told_before_it_is_and_until_it_is_no_more(void **state)
{
	char who[MEMORY_HOLDER_TEXT];

	(void)state;
	assert_false(memory_hold_is_pinned(balloon.backing));
	always_told = true;
	sim_write = sim.system.write;
	sim.system.write = write_told;
	assert_int_equal(b->ops->set_memory(b, &region, 1, &err), 0);
	assert_true(always_told);
	assert_int_equal(sim.map_count, 1);
	assert_false(memory_hold_discard(balloon.backing));
	memory_hold_who(balloon.backing, who, sizeof(who));
	assert_non_null(strstr(who, "for /dev/simulated"));
	memory_backing_unref(region.backing);
	region.backing = NULL;
	assert_true(memory_hold_is_pinned(balloon.backing));
	b->ops->destroy(b);
	b = NULL;
	assert_false(memory_hold_is_pinned(balloon.backing));
}

static void a_device_starts_when_the_balloon_is_done_and_with_pages_pinned_anew(void **state)
{
	(void)state;
	assert_true(memory_hold_discard(balloon.backing));
	/* Not refused: the disk is there, it is only not started yet. */
	assert_int_equal(b->ops->set_memory(b, &region, 1, &err), 0);
	assert_int_equal(start(), -EREMOTEIO);
	assert_non_null(strstr(err.text, "being given back to the host by a balloon"));
	assert_int_equal(b->ops->device_start(b, &err), -EREMOTEIO);
	memory_hold_discarded(balloon.backing);
	assert_false(memory_hold_discard(balloon.backing));
	sim.log[0] = '\0';
	assert_int_equal(b->ops->device_start(b, &err), 0);
	/* Unmapped and mapped, although this device's mappings outlast a reset. */
	assert_non_null(strstr(sim.log, "UNMAP"));
	assert_non_null(strstr(strstr(sim.log, "UNMAP"), "MAP"));
	assert_int_equal(sim.map_count, 1);
}

static void a_device_starts_although_a_stranger_has_locked_its_memory(void **state)
{
	struct flock all = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char path[64];
	int fd;

	(void)state;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", region.backing->fd);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &all), 0);
	assert_int_equal(b->ops->set_memory(b, &region, 1, &err), 0);
	assert_int_equal(start(), 0);
	/* And no balloon discards. */
	assert_false(memory_hold_discard(balloon.backing));
	close(fd);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(that_memory_is_pinned_is_told_before_it_is_and_until_it_is_no_more),
		TEST(a_device_starts_when_the_balloon_is_done_and_with_pages_pinned_anew),
		TEST(a_device_starts_although_a_stranger_has_locked_its_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
