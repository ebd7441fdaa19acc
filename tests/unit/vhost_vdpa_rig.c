/* SPDX-License-Identifier: BSD-2-Clause */
/* The vhost-vdpa back-end on a simulated kernel: see vhost_vdpa_rig.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_config.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/fd.h"
#include "host/mapping.h"
#include "open_fds.h"
#include "vdpa/vhost_vdpa.h"
#include "vhost_vdpa_rig.h"

struct vdpa_sim sim;
struct virtio_device *b;
struct umbra_error err;
struct memory_region regions[REGIONS_MAX];
unsigned int region_count;
static unsigned int fds_before;
int kick_fd, call_fd, err_fd, stop_fd;

/* --- the rig -------------------------------------------------------------- */

struct memory_region *region_add(uint64_t gpa, uint64_t size)
{
	struct memory_region *r = &regions[region_count++];

	assert_true(region_count <= REGIONS_MAX);
	assert_int_equal(mapping_create_own(size, r, &err), 0);
	r->gpa.v = r->iova.v = gpa;
	r->uva.v = UVA + gpa;
	return r;
}

void regions_drop(void)
{
	for (unsigned int i = 0; i < region_count; i++)
		memory_backing_unref(regions[i].backing);
	region_count = 0;
}

int setup(void **state)
{
	(void)state;
	fds_before = open_fds();
	vdpa_sim_init(&sim);
	b = NULL;
	err.text[0] = '\0';
	kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	err_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return stop_fd < 0;
}

void backend_close(void)
{
	if (b)
		b->ops->destroy(b);
	b = NULL;
	assert_int_equal(sim.map_count, 0);
	assert_int_equal(sim.node_fd, -1);
}

int teardown(void **state)
{
	(void)state;
	backend_close();
	regions_drop();
	fd_close(&kick_fd);
	fd_close(&call_fd);
	fd_close(&err_fd);
	fd_close(&stop_fd);
	assert_int_equal(open_fds(), fds_before);
	return 0;
}

void backend_make(void)
{
	assert_int_equal(
		vhost_vdpa_open("/dev/simulated", &sim.system, stop_fd, TIMEOUT_MS, &b, &err), 0);
}

struct virtio_ring ring_at(uint64_t uva, uint16_t base)
{
	return (struct virtio_ring){
		.size = 16,
		.base = ring_position_split(base),
		.addr = { .desc = { uva }, .avail = { uva + 0x1000 }, .used = { uva + 0x2000 } },
		.kick_fd = kick_fd,
		.call_fd = call_fd,
		.err_fd = err_fd,
		.enabled = true,
	};
}

int ring_note(unsigned int index, uint16_t base, bool enabled)
{
	struct virtio_ring r = ring_at(regions[0].uva.v + index * 0x10000, base);

	r.enabled = enabled;
	return b->ops->ring_start(b, index, &r, &err);
}

void backend_ready(void)
{
	backend_make();
	if (!region_count)
		region_add(0x100000, MIB);
	assert_int_equal(b->ops->set_features(b, FEATURES | BIT30, &err), 0);
	assert_int_equal(b->ops->set_memory(b, regions, region_count, &err), 0);
	sim.log[0] = '\0';
}

void backend_runs(void)
{
	backend_ready();
	assert_int_equal(ring_note(0, 5, true), 0);
	assert_int_equal(ring_note(1, 7, true), 0);
	assert_int_equal(b->ops->device_start(b, &err), 0);
	vdpa_sim_kicks(&sim, 0);
	vdpa_sim_kicks(&sim, 1);
	sim.log[0] = '\0';
}

uint16_t ring_stopped_at(unsigned int index)
{
	uint16_t base = 0xdead;

	assert_int_equal(ring_stop_at(b, index, &base, &err), 0);
	return base;
}

void check_runs_again(void)
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

void check_lost(const char *why)
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

void says(const char *words)
{
	if (!strstr(err.text, words))
		fail_msg("\"%s\" does not say \"%s\"", err.text, words);
}

void check_map_count(void)
{
	struct umbra_backend_info info;

	b->ops->info(b, &info);
	assert_int_equal(info.mapped_ranges, sim.map_count);
}
