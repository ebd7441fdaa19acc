/* SPDX-License-Identifier: BSD-2-Clause */
/* A simulated vhost-vdpa device: see vdpa_sim.h. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "vdpa_sim.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <linux/vhost_types.h>
#include <linux/virtio_config.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/fd.h"
#include "host/notifier.h"

#ifndef VHOST_VDPA_RESUME
#define VHOST_VDPA_RESUME _IO(VHOST_VIRTIO, 0x7E)
#endif

static void note(struct vdpa_sim *sim, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void note(struct vdpa_sim *sim, const char *format, ...)
{
	size_t used = strlen(sim->log);
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(sim->log + used, sizeof(sim->log) - used, format, arguments);
	va_end(arguments);
}

/* --- status --------------------------------------------------------------- */

static void device_reset(struct vdpa_sim *sim)
{
	sim->resets++;
	sim->status = 0;
	sim->acked = 0;
	sim->suspended = false;
	if (!(sim->abilities_acked & A_PERSIST))
		sim->maps_in_device = false;
	for (unsigned int i = 0; i < SIM_RINGS; i++) {
		struct sim_vring *r = &sim->rings[i];

		r->size = 0;
		r->desc = r->avail = r->used = 0;
		r->ready = false;
		if (sim->forgets_index)
			r->base = 0;
	}
	fd_close(&sim->config_fd); /* VDUSE does */
}

bool vdpa_sim_is_mapped(const struct vdpa_sim *sim, uint64_t iova, uint64_t size, const void *host)
{
	for (unsigned int i = 0; i < sim->map_count; i++) {
		const struct sim_map *m = &sim->maps[i];

		if (iova >= m->iova && iova - m->iova < m->size &&
		    size <= m->size - (iova - m->iova))
			return !host || m->uaddr + (iova - m->iova) == (uintptr_t)host;
	}
	return false;
}

/* What a device needs to run. */
static void check_runnable(const struct vdpa_sim *sim)
{
	assert_true(sim->status & VIRTIO_CONFIG_S_FEATURES_OK);
	assert_true(sim->maps_in_device || !sim->map_count);
	for (unsigned int i = 0; i < sim->ring_count; i++) {
		const struct sim_vring *r = &sim->rings[i];

		if (!r->ready)
			continue;
		assert_true(vdpa_sim_is_mapped(sim, r->desc, 16 * r->size, NULL));
		assert_true(vdpa_sim_is_mapped(sim, r->avail, 6 + 2 * r->size, NULL));
		assert_true(vdpa_sim_is_mapped(sim, r->used, 6 + 8 * r->size, NULL));
		/* No kick before DRIVER_OK, unless it was we who kept the fd. */
		assert_true(r->kick_fd == -1 || sim->fail_call);
	}
}

static int set_status(struct vdpa_sim *sim, uint8_t status)
{
	note(sim, "(%u)", status);
	if (status && sim->status & ~status)
		return -EINVAL;
	if (!status) {
		device_reset(sim);
		return 0;
	}
	if (status & VIRTIO_CONFIG_S_DRIVER_OK)
		check_runnable(sim);
	sim->status = status & ~sim->status_lost;
	return 0;
}

static int get_status(struct vdpa_sim *sim, uint8_t *status)
{
	sim->status_reads++;
	*status = sim->status;
	if (!sim->status && sim->reset_looks) {
		sim->reset_looks--;
		*status = VIRTIO_CONFIG_S_ACKNOWLEDGE;
	} else if (sim->needs_reset && sim->status) {
		*status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	}
	return 0;
}

/* --- rings ---------------------------------------------------------------- */

static int set_fd(int *slot, int fd)
{
	if (fd >= 0 && !is_eventfd(fd))
		return -EINVAL;
	fd_close(slot);
	*slot = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return 0;
}

static bool is_frozen(const struct vdpa_sim *sim)
{
	return sim->status & VIRTIO_CONFIG_S_DRIVER_OK && !sim->suspended;
}

static int ring_ioctl(struct vdpa_sim *sim, unsigned long request, void *argument)
{
	struct vhost_vring_state *state = argument;
	struct vhost_vring_addr *addr = argument;
	struct vhost_vring_file *file = argument;
	struct sim_vring *r;

	if (state->index >= sim->ring_count)
		return -ENOBUFS;
	note(sim, "[%u]", state->index);
	r = &sim->rings[state->index];
	switch (request) {
	case VHOST_SET_VRING_NUM:
		if (!is_power_of_two(state->num) || state->num > sim->size_max)
			return -EINVAL;
		r->size = state->num;
		return 0;
	case VHOST_SET_VRING_ADDR:
		if (is_frozen(sim) || addr->avail_user_addr % 2 || addr->used_user_addr % 4)
			return -EINVAL;
		r->desc = addr->desc_user_addr;
		r->avail = addr->avail_user_addr;
		r->used = addr->used_user_addr;
		return 0;
	case VHOST_SET_VRING_BASE:
		if (is_frozen(sim) || state->num > UINT16_MAX)
			return -EINVAL;
		if (!sim->has_index && (state->num || !(sim->status & VIRTIO_CONFIG_S_FEATURES_OK)))
			return -EOPNOTSUPP;
		r->base = (uint16_t)state->num;
		return 0;
	case VHOST_GET_VRING_BASE:
		if (!sim->has_index)
			return -EOPNOTSUPP;
		state->num = r->base;
		return 0;
	case VHOST_SET_VRING_KICK:
		return set_fd(&r->kick_fd, file->fd);
	case VHOST_SET_VRING_CALL:
		return set_fd(&r->call_fd, file->fd);
	case VHOST_SET_VRING_ERR:
		return set_fd(&r->err_fd, file->fd);
	case VHOST_VDPA_SET_VRING_ENABLE:
		assert_true(r->size && state->num);
		if (sim->status & VIRTIO_CONFIG_S_DRIVER_OK)
			assert_true(sim->abilities & A_LATE_ENABLE);
		r->ready = true;
		return 0;
	}
	return -ENOTTY;
}

unsigned int vdpa_sim_kicks(struct vdpa_sim *sim, unsigned int index)
{
	eventfd_t value = 0;

	if (sim->rings[index].kick_fd < 0 || eventfd_read(sim->rings[index].kick_fd, &value))
		return 0;
	return (unsigned int)value;
}

/* --- the device ----------------------------------------------------------- */

static int set_features(struct vdpa_sim *sim, uint64_t features)
{
	if (sim->status & VIRTIO_CONFIG_S_FEATURES_OK)
		return -EBUSY;
	if (!(features & BIT64(VIRTIO_F_ACCESS_PLATFORM)))
		return -EINVAL;
	sim->acked = features;
	return 0;
}

static int config_ioctl(struct vdpa_sim *sim, unsigned long request, struct vhost_vdpa_config *c)
{
	if (c->len == 0 || c->off > sim->config_size || c->len > sim->config_size - c->off)
		return -EINVAL;
	if (request == VHOST_VDPA_GET_CONFIG)
		memcpy(c->buf, sim->config + c->off, c->len);
	else
		memcpy(sim->config + c->off, c->buf, c->len);
	return 0;
}

static int suspend(struct vdpa_sim *sim, bool suspended)
{
	if (!(sim->status & VIRTIO_CONFIG_S_DRIVER_OK))
		return 0;
	if (!(sim->abilities & (suspended ? A_SUSPEND : A_RESUME)))
		return -EOPNOTSUPP;
	sim->suspended = suspended;
	return 0;
}

static const struct {
	unsigned long request;
	const char *name;
} requests[] = {
	{ VHOST_GET_FEATURES, "GET_FEATURES" },
	{ VHOST_SET_FEATURES, "SET_FEATURES" },
	{ VHOST_SET_OWNER, "SET_OWNER" },
	{ VHOST_GET_BACKEND_FEATURES, "GET_BACKEND_FEATURES" },
	{ VHOST_SET_BACKEND_FEATURES, "SET_BACKEND_FEATURES" },
	{ VHOST_VDPA_GET_DEVICE_ID, "GET_DEVICE_ID" },
	{ VHOST_VDPA_GET_STATUS, "GET_STATUS" },
	{ VHOST_VDPA_SET_STATUS, "SET_STATUS" },
	{ VHOST_VDPA_GET_CONFIG, "GET_CONFIG" },
	{ VHOST_VDPA_SET_CONFIG, "SET_CONFIG" },
	{ VHOST_VDPA_GET_VRING_NUM, "GET_VRING_NUM" },
	{ VHOST_VDPA_SET_CONFIG_CALL, "SET_CONFIG_CALL" },
	{ VHOST_VDPA_GET_IOVA_RANGE, "GET_IOVA_RANGE" },
	{ VHOST_VDPA_GET_CONFIG_SIZE, "GET_CONFIG_SIZE" },
	{ VHOST_VDPA_GET_VQS_COUNT, "GET_VQS_COUNT" },
	{ VHOST_VDPA_SUSPEND, "SUSPEND" },
	{ VHOST_VDPA_RESUME, "RESUME" },
	{ VHOST_SET_VRING_NUM, "NUM" },
	{ VHOST_SET_VRING_ADDR, "ADDR" },
	{ VHOST_SET_VRING_BASE, "BASE" },
	{ VHOST_GET_VRING_BASE, "GET_BASE" },
	{ VHOST_SET_VRING_KICK, "KICK" },
	{ VHOST_SET_VRING_CALL, "CALL" },
	{ VHOST_SET_VRING_ERR, "ERR" },
	{ VHOST_VDPA_SET_VRING_ENABLE, "ENABLE" },
};

static int device_ioctl(struct vdpa_sim *sim, unsigned long request, void *argument)
{
	uint64_t *u64 = argument;
	uint32_t *u32 = argument;

	switch (request) {
	case VHOST_GET_FEATURES:
		*u64 = sim->features;
		return 0;
	case VHOST_SET_FEATURES:
		return set_features(sim, *u64);
	case VHOST_SET_OWNER:
		sim->has_owner = true;
		return 0;
	case VHOST_GET_BACKEND_FEATURES:
		*u64 = sim->abilities;
		return 0;
	case VHOST_SET_BACKEND_FEATURES:
		sim->abilities_acked = *u64;
		return *u64 & ~sim->abilities ? -EOPNOTSUPP : 0;
	case VHOST_VDPA_GET_DEVICE_ID:
		*u32 = 2;
		return 0;
	case VHOST_VDPA_GET_STATUS:
		return get_status(sim, argument);
	case VHOST_VDPA_SET_STATUS:
		return set_status(sim, *(uint8_t *)argument);
	case VHOST_VDPA_GET_CONFIG:
	case VHOST_VDPA_SET_CONFIG:
		return config_ioctl(sim, request, argument);
	case VHOST_VDPA_GET_VRING_NUM:
		*(uint16_t *)argument = sim->size_max;
		return 0;
	case VHOST_VDPA_SET_CONFIG_CALL:
		return set_fd(&sim->config_fd, *(int *)argument);
	case VHOST_VDPA_GET_IOVA_RANGE:
		*(struct vhost_vdpa_iova_range *)argument =
			(struct vhost_vdpa_iova_range){ sim->first, sim->last };
		return 0;
	case VHOST_VDPA_GET_CONFIG_SIZE:
		*u32 = sim->config_size;
		return 0;
	case VHOST_VDPA_GET_VQS_COUNT:
		*u32 = sim->ring_count;
		return 0;
	case VHOST_VDPA_SUSPEND:
	case VHOST_VDPA_RESUME:
		return suspend(sim, request == VHOST_VDPA_SUSPEND);
	default:
		assert_true(sim->has_owner);
		return ring_ioctl(sim, request, argument);
	}
}

/* Is it this call's turn to fail? */
static int call_fault(struct vdpa_sim *sim)
{
	sim->calls++;
	if (sim->is_gone)
		return -ENODEV;
	return sim->calls == sim->fail_call ? -sim->fail_error : 0;
}

static int sim_ioctl(void *opaque, int fd, unsigned long request, void *argument)
{
	struct vdpa_sim *sim = opaque;
	const char *name = "?";
	int rc;

	assert_int_equal(fd, sim->node_fd);
	for (size_t i = 0; i < ARRAY_SIZE(requests); i++)
		if (requests[i].request == request)
			name = requests[i].name;
	note(sim, "%s%s", sim->log[0] ? " " : "", name);
	if (sim->before)
		sim->before(sim, request);
	rc = call_fault(sim);
	if (!rc && request == sim->fail_request && sim->fail_skip-- == 0) {
		sim->fail_request = 0;
		rc = -sim->fail_error;
	}
	return rc ? rc : device_ioctl(sim, request, argument);
}

/* --- memory --------------------------------------------------------------- */

static int map(struct vdpa_sim *sim, const struct vhost_iotlb_msg *m)
{
	note(sim, "(0x%llx,0x%llx)", m->iova, m->size);
	sim->updates++;
	if (sim->fail_map &&
	    (sim->updates == sim->fail_map || (sim->fail_map_on && sim->updates > sim->fail_map)))
		return -EFAULT;
	if (!m->size || m->iova < sim->first || m->iova > sim->last ||
	    m->size - 1 > sim->last - m->iova || sim->map_count == SIM_MAPS_MAX)
		return -EFAULT;
	assert_int_equal(m->perm, VHOST_ACCESS_RW);
	for (unsigned int i = 0; i < sim->map_count; i++)
		if (m->iova < sim->maps[i].iova + sim->maps[i].size &&
		    sim->maps[i].iova < m->iova + m->size)
			return -EFAULT; /* EEXIST inside */
	sim->maps[sim->map_count++] = (struct sim_map){ m->iova, m->size, m->uaddr };
	return 0;
}

static int unmap(struct vdpa_sim *sim, const struct vhost_iotlb_msg *m)
{
	unsigned int kept = 0, before = sim->map_count;

	note(sim, "(0x%llx,0x%llx)", m->iova, m->size);
	sim->invalidates++;
	for (unsigned int i = 0; i < before; i++)
		if (sim->maps[i].iova != m->iova || sim->maps[i].size != m->size)
			sim->maps[kept++] = sim->maps[i];
	assert_int_equal(kept, before - 1); /* nobody unmaps what is not there */
	sim->map_count = kept;
	return 0;
}

static int sim_write(void *opaque, int fd, const void *data, size_t size)
{
	const struct vhost_msg_v2 *m = data;
	struct vdpa_sim *sim = opaque;
	int rc;

	assert_int_equal(fd, sim->node_fd);
	assert_int_equal(size, sizeof(*m));
	assert_int_equal(m->type, VHOST_IOTLB_MSG_V2);
	assert_int_equal(m->asid, 0);
	assert_true(sim->has_owner);
	assert_true(sim->abilities_acked & A_MSG_V2);
	note(sim, "%s%s", sim->log[0] ? " " : "",
	     m->iotlb.type == VHOST_IOTLB_UPDATE        ? "MAP"
	     : m->iotlb.type == VHOST_IOTLB_INVALIDATE  ? "UNMAP"
	     : m->iotlb.type == VHOST_IOTLB_BATCH_BEGIN ? "{"
							: "}");
	rc = call_fault(sim);
	if (rc)
		return rc == -ENODEV ? rc : -EFAULT; /* the kernel has one code for all */
	switch (m->iotlb.type) {
	case VHOST_IOTLB_UPDATE:
		rc = map(sim, &m->iotlb);
		break;
	case VHOST_IOTLB_INVALIDATE:
		rc = unmap(sim, &m->iotlb);
		break;
	case VHOST_IOTLB_BATCH_BEGIN:
		assert_true(sim->abilities_acked & A_BATCH && !sim->in_batch);
		sim->in_batch = true;
		sim->batches++;
		return 0;
	case VHOST_IOTLB_BATCH_END:
		assert_true(sim->in_batch);
		sim->in_batch = false;
		sim->maps_in_device = true;
		return 0;
	default:
		fail_msg("message of type %u", m->iotlb.type);
	}
	if (!sim->in_batch)
		sim->maps_in_device = true;
	return rc;
}

/* --- life ----------------------------------------------------------------- */

static int sim_open(void *opaque, const char *path)
{
	struct vdpa_sim *sim = opaque;

	(void)path;
	if (sim->open_error)
		return -sim->open_error;
	if (sim->node_fd >= 0)
		return -EBUSY;
	device_reset(sim);
	sim->resets = 0;
	sim->node_fd = eventfd(0, EFD_CLOEXEC); /* so that a leak of it is counted */
	return sim->node_fd;
}

static void sim_close(void *opaque, int fd)
{
	struct vdpa_sim *sim = opaque;

	assert_int_equal(fd, sim->node_fd);
	device_reset(sim);
	for (unsigned int i = 0; i < SIM_RINGS; i++) {
		fd_close(&sim->rings[i].kick_fd);
		fd_close(&sim->rings[i].call_fd);
		fd_close(&sim->rings[i].err_fd);
	}
	sim->map_count = 0;
	sim->has_owner = sim->in_batch = false;
	sim->abilities_acked = 0;
	fd_close(&sim->node_fd);
}

static uint64_t sim_pin_limit(void *opaque, uint64_t wanted)
{
	(void)wanted;
	return ((struct vdpa_sim *)opaque)->pin_limit;
}

void vdpa_sim_init(struct vdpa_sim *sim)
{
	*sim = (struct vdpa_sim){
		.system = { sim, sim_open, sim_ioctl, sim_write, sim_close, sim_pin_limit },
		.features = BIT64(VIRTIO_F_VERSION_1) | BIT64(VIRTIO_F_ACCESS_PLATFORM) | 0xff,
		.abilities = A_FULL,
		.last = UINT64_MAX,
		.ring_count = SIM_RINGS,
		.config_size = 60,
		.size_max = 256,
		.has_index = true,
		.forgets_index = true,
		.pin_limit = UINT64_MAX,
		.node_fd = -1,
		.config_fd = -1,
	};
	for (unsigned int i = 0; i < SIM_RINGS; i++)
		sim->rings[i] = (struct sim_vring){ .kick_fd = -1, .call_fd = -1, .err_fd = -1 };
}
