/* SPDX-License-Identifier: BSD-2-Clause */
/* A kernel vDPA device as a back-end: see vhost_vdpa.h. */
#include "vdpa/vhost_vdpa.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/error.h"
#include "base/fd.h"
#include "host/notifier.h"
#include "umbra/shadow_device.h"
#include "vdpa/vhost_vdpa_private.h"
#include "virtio/feature_bits.h"

/* vhost-user protocol features that a front-end can have with such a device. */
#define PROTOCOL_FEATURES                                                                          \
	(BIT64(VHOST_USER_PROTOCOL_F_MQ) | BIT64(VHOST_USER_PROTOCOL_F_BACKEND_REQ) |              \
	 BIT64(VHOST_USER_PROTOCOL_F_CONFIG) | BIT64(VHOST_USER_PROTOCOL_F_RESET_DEVICE) |         \
	 BIT64(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS) | BIT64(VHOST_USER_PROTOCOL_F_STATUS))

#define F_PROTOCOL BIT64(VHOST_USER_F_PROTOCOL_FEATURES)

#define CONFIG_SIZE_MAX 65536u /* bytes; no device type comes near it */

/* --- features ------------------------------------------------------------- */

static int vdpa_get_features(struct virtio_device *b, uint64_t *features, struct umbra_error *err)
{
	struct vdpa *v = vdpa_of(b);
	int rc = vdpa_chardev_call(&v->chardev, VDPA_REQUEST(VHOST_GET_FEATURES), features, err);

	if (!rc)
		*features |= F_PROTOCOL;
	return rc;
}

static int vdpa_set_features(struct virtio_device *b, uint64_t features, struct umbra_error *err)
{
	struct vdpa *v = vdpa_of(b);
	int rc;

	features &= ~F_PROTOCOL;
	if (v->has_features && v->features == features)
		return 0;
	if (v->is_running)
		return error_set(err, -EREMOTEIO,
				 "back-end: features cannot change while the device runs");
	v->features = features;
	rc = vdpa_prepare(v, err);
	v->has_features = !rc;
	return rc;
}

static int vdpa_get_protocol_features(struct virtio_device *b, uint64_t *features,
				      struct umbra_error *err)
{
	(void)b;
	(void)err;
	*features = PROTOCOL_FEATURES;
	return 0;
}

static int vdpa_set_protocol_features(struct virtio_device *b, uint64_t features,
				      struct umbra_error *err)
{
	(void)b;
	if (!(features & ~PROTOCOL_FEATURES))
		return 0;
	return error_set(err, -EINVAL,
			 "back-end: protocol features 0x%" PRIx64 " were asked for; only 0x%" PRIx64
			 " can be had",
			 features, PROTOCOL_FEATURES);
}

static int vdpa_get_queue_num(struct virtio_device *b, uint64_t *count, struct umbra_error *err)
{
	(void)err;
	*count = vdpa_of(b)->ring_count;
	return 0;
}

/* --- memory --------------------------------------------------------------- */

static int vdpa_get_memory_slots(struct virtio_device *b, uint64_t *count, struct umbra_error *err)
{
	(void)b;
	(void)err;
	*count = MEMORY_REGIONS_MAX; /* the kernel has no limit that can be asked for */
	return 0;
}

static int vdpa_place_memory(struct virtio_device *b, struct memory *memory,
			     struct memory_region *own, struct umbra_error *err)
{
	return vdpa_table_place(&vdpa_of(b)->table, memory, own, err);
}

static int vdpa_set_memory(struct virtio_device *b, const struct memory_region *regions,
			   unsigned int count, struct umbra_error *err)
{
	return vdpa_table_set(&vdpa_of(b)->table, regions, count, err);
}

static int vdpa_add_region(struct virtio_device *b, const struct memory_region *region,
			   struct umbra_error *err)
{
	return vdpa_table_add(&vdpa_of(b)->table, region, err);
}

static int vdpa_remove_region(struct virtio_device *b, const struct memory_region *region,
			      struct umbra_error *err)
{
	return vdpa_table_remove(&vdpa_of(b)->table, region, err);
}

/* --- the device ----------------------------------------------------------- */

/* Front-ends ask for as much as they know of a device type; what this device
 * does not have is 0. */
static int vdpa_get_config(struct virtio_device *b, uint32_t offset, void *data, uint32_t size,
			   struct umbra_error *err)
{
	struct vdpa *v = vdpa_of(b);
	struct vhost_vdpa_config *c;
	uint32_t there;
	int rc;

	if (size == 0 || offset > CONFIG_SIZE_MAX || size > CONFIG_SIZE_MAX - offset)
		return error_set(err, -EINVAL,
				 "GET_CONFIG: config space at %u, %u bytes; expected 1 to %u in "
				 "all",
				 offset, size, CONFIG_SIZE_MAX);
	memset(data, 0, size);
	if (offset >= v->config_size)
		return 0;
	there = MIN(size, v->config_size - offset);
	c = calloc(1, sizeof(*c) + there);
	if (!c)
		return error_set(err, -ENOMEM, "GET_CONFIG: no memory for %u bytes", there);
	c->off = offset;
	c->len = there;
	rc = vdpa_chardev_call(&v->chardev, VDPA_REQUEST(VHOST_VDPA_GET_CONFIG), c, err);
	if (!rc)
		memcpy(data, c->buf, there);
	free(c);
	return rc;
}

static int vdpa_set_config(struct virtio_device *b, uint32_t offset, const void *data,
			   uint32_t size, uint32_t flags, struct umbra_error *err)
{
	struct vdpa *v = vdpa_of(b);
	struct vhost_vdpa_config *c;
	int rc;

	(void)flags; /* whether a driver or a migration writes is the same to it */
	if (size == 0 || offset > v->config_size || size > v->config_size - offset)
		return error_set(err, -EINVAL,
				 "SET_CONFIG: config space at %u, %u bytes; the device has %u in "
				 "all",
				 offset, size, v->config_size);
	c = calloc(1, sizeof(*c) + size);
	if (!c)
		return error_set(err, -ENOMEM, "SET_CONFIG: no memory for %u bytes", size);
	c->off = offset;
	c->len = size;
	memcpy(c->buf, data, size);
	rc = vdpa_chardev_call(&v->chardev, VDPA_REQUEST(VHOST_VDPA_SET_CONFIG), c, err);
	free(c);
	return rc;
}

static int vdpa_get_status(struct virtio_device *b, uint8_t *status, struct umbra_error *err)
{
	struct vdpa *v = vdpa_of(b);
	int rc = vdpa_chardev_get_status(&v->chardev, status, err);

	if (!rc)
		*status = v->front_status;
	return rc;
}

static int vdpa_reset_device(struct virtio_device *b, struct umbra_error *err)
{
	struct vdpa *v = vdpa_of(b);
	int rc = vdpa_reset(v, err);

	for (uint32_t i = 0; i < v->ring_count && !rc; i++) {
		vdpa_forget_ring(v, i);
		v->rings[i].base = ring_position_start(RING_SPLIT);
	}
	return rc;
}

static int vdpa_set_status(struct virtio_device *b, uint8_t status, struct umbra_error *err)
{
	struct vdpa *v = vdpa_of(b);
	int rc = status ? 0 : vdpa_reset_device(b, err);

	if (!rc)
		v->front_status = status;
	return rc;
}

static int vdpa_set_mtu(struct virtio_device *b, uint64_t mtu, struct umbra_error *err)
{
	(void)b;
	return error_set(err, -EOPNOTSUPP,
			 "back-end: has no NET_SET_MTU (%" PRIu64 "): a vDPA device is told by "
			 "vdpa(8)",
			 mtu);
}

static int vdpa_send_rarp(struct virtio_device *b, const uint8_t mac[6], struct umbra_error *err)
{
	(void)b;
	(void)mac;
	return error_set(err, -EOPNOTSUPP, "back-end: has no SEND_RARP");
}

/* --- what the owner's event loop needs ------------------------------------ */

static void vdpa_listen(struct virtio_device *b, const struct backend_listener *listener)
{
	vdpa_of(b)->chardev.listener = *listener;
}

static unsigned int vdpa_fds(const struct virtio_device *b, int fds[BACKEND_FDS_MAX])
{
	fds[0] = vdpa_of(b)->config_fd;
	return 1;
}

static int vdpa_dispatch(struct virtio_device *b, unsigned int which, struct umbra_error *err)
{
	struct vdpa *v = vdpa_of(b);
	uint8_t status;
	int rc;

	(void)which;
	notifier_drain(v->config_fd);
	/* virtio 1.2, 4.1.4.5: the same interrupt says NEEDS_RESET. */
	rc = vdpa_chardev_get_status(&v->chardev, &status, err);
	if (!rc && v->chardev.listener.config_changed)
		v->chardev.listener.config_changed(v->chardev.listener.opaque);
	return rc;
}

static const char *how_it_stops(unsigned int traits)
{
	if (traits & BACKEND_SUSPENDS)
		return "suspended, asked for its indices, and reset";
	if (traits & BACKEND_KEEPS_INDEX)
		return "fed nothing, waited for, and reset; it tells its indices";
	return "fed nothing, waited for, and reset; every queue starts at index 0";
}

static void vdpa_info(const struct virtio_device *b, struct umbra_backend_info *info)
{
	const struct vdpa *v = vdpa_of(b);

	*info = (struct umbra_backend_info){
		.device_id = v->device_id,
		.queue_count = v->ring_count,
		.queue_size = v->size_max,
		.abilities = v->abilities,
	};
	snprintf(info->kind, sizeof(info->kind), "%s", b->ops->kind);
	snprintf(info->stops, sizeof(info->stops), "%s", how_it_stops(b->traits));
	vdpa_table_info(&v->table, info);
}

/* --- making and ending ---------------------------------------------------- */

static void vdpa_destroy(struct virtio_device *b)
{
	struct vdpa *v = vdpa_of(b);

	vdpa_chardev_close(&v->chardev); /* first: our mappings are the device's until then */
	vdpa_table_fini(&v->table);
	fd_close(&v->config_fd);
	fd_close(&v->quiet_fd);
	free(v->rings);
	free(v);
}

static const struct virtio_ops vdpa_ops = {
	.kind = "vhost-vdpa",
	.listen = vdpa_listen,
	.fds = vdpa_fds,
	.dispatch = vdpa_dispatch,
	.info = vdpa_info,
	.get_features = vdpa_get_features,
	.set_features = vdpa_set_features,
	.get_protocol_features = vdpa_get_protocol_features,
	.set_protocol_features = vdpa_set_protocol_features,
	.get_queue_num = vdpa_get_queue_num,
	.get_memory_slots = vdpa_get_memory_slots,
	.place_memory = vdpa_place_memory,
	.set_memory = vdpa_set_memory,
	.add_region = vdpa_add_region,
	.remove_region = vdpa_remove_region,
	.ring_start = vdpa_ring_start,
	.ring_stop = vdpa_ring_stop,
	.ring_base = vdpa_ring_base,
	.ring_enable = vdpa_ring_enable,
	.ring_exchange = vdpa_ring_exchange,
	.ring_hush = vdpa_ring_hush,
	.ring_unhush = vdpa_ring_unhush,
	.device_start = vdpa_device_start,
	.device_stop = vdpa_device_stop,
	.get_config = vdpa_get_config,
	.set_config = vdpa_set_config,
	.get_status = vdpa_get_status,
	.set_status = vdpa_set_status,
	.reset = vdpa_reset_device,
	.set_mtu = vdpa_set_mtu,
	.send_rarp = vdpa_send_rarp,
	.destroy = vdpa_destroy,
};

static int learn_abilities(struct vdpa *v, struct umbra_error *err)
{
	uint64_t taken;
	int rc = vdpa_chardev_call(&v->chardev, VDPA_REQUEST(VHOST_GET_BACKEND_FEATURES),
				   &v->abilities, err);

	if (rc)
		return rc;
	if (!vdpa_can(v, VHOST_BACKEND_F_IOTLB_MSG_V2))
		return error_set(err, -EOPNOTSUPP,
				 "back-end: offers back-end features 0x%" PRIx64
				 " without VHOST_BACKEND_F_IOTLB_MSG_V2 (%u), by which memory is "
				 "mapped",
				 v->abilities, VHOST_BACKEND_F_IOTLB_MSG_V2);
	taken = v->abilities & ABILITIES_USED;
	return vdpa_chardev_call(&v->chardev, VDPA_REQUEST(VHOST_SET_BACKEND_FEATURES), &taken,
				 err);
}

/* Does the device, which has just been reset, tell where a ring stands? */
static int learn_traits(struct vdpa *v, struct umbra_error *err)
{
	struct vhost_vring_state state = { .index = 0 };
	int rc = vdpa_chardev_call(&v->chardev, VDPA_REQUEST(VHOST_GET_VRING_BASE), &state, err);

	v->backend.traits = BACKEND_MAPS | BACKEND_RUNS_AS_ONE | BACKEND_HEARS_NEW_KICKS;
	if (vdpa_can(v, VHOST_BACKEND_F_SUSPEND))
		v->backend.traits |= BACKEND_SUSPENDS;
	if (rc == -EOPNOTSUPP)
		return 0;
	v->backend.traits |= BACKEND_KEEPS_INDEX;
	return rc;
}

static int learn_device(struct vdpa *v, struct umbra_error *err)
{
	struct vhost_vdpa_iova_range range;
	int rc = learn_abilities(v, err);

	if (!rc)
		rc = vdpa_chardev_call(&v->chardev, VDPA_REQUEST(VHOST_VDPA_GET_DEVICE_ID),
				       &v->device_id, err);
	if (!rc)
		rc = vdpa_chardev_call(&v->chardev, VDPA_REQUEST(VHOST_VDPA_GET_VQS_COUNT),
				       &v->ring_count, err);
	if (!rc)
		rc = vdpa_chardev_call(&v->chardev, VDPA_REQUEST(VHOST_VDPA_GET_VRING_NUM),
				       &v->size_max, err);
	if (!rc)
		rc = vdpa_chardev_call(&v->chardev, VDPA_REQUEST(VHOST_VDPA_GET_CONFIG_SIZE),
				       &v->config_size, err);
	if (!rc)
		rc = vdpa_chardev_call(&v->chardev, VDPA_REQUEST(VHOST_VDPA_GET_IOVA_RANGE), &range,
				       err);
	if (!rc && (v->ring_count == 0 || v->ring_count > VHOST_USER_QUEUES_MAX))
		rc = error_set(err, -EOPNOTSUPP,
			       "back-end: the device has %u queues; expected 1 to %u",
			       v->ring_count, VHOST_USER_QUEUES_MAX);
	if (!rc)
		rc = learn_traits(v, err);
	if (!rc)
		v->backend.ring_max = v->size_max;
	if (rc)
		return rc;
	vdpa_table_init(&v->table, &v->chardev, (iova_t){ range.first }, (iova_t){ range.last },
			vdpa_can(v, VHOST_BACKEND_F_IOTLB_BATCH));
	v->rings = calloc(v->ring_count, sizeof(*v->rings));
	if (!v->rings)
		return error_set(err, -ENOMEM, "back-end: no memory for %u queues", v->ring_count);
	return 0;
}

int vhost_vdpa_open(const char *path, const struct vhost_vdpa_system *system, int stop_fd,
		    unsigned int timeout_ms, struct virtio_device **out, struct umbra_error *err)
{
	struct vdpa *v = calloc(1, sizeof(*v));
	int rc;

	if (!v)
		return error_set(err, -ENOMEM, "back-end: no memory for a device");
	v->backend.ops = &vdpa_ops;
	v->chardev =
		(struct vdpa_chardev){ .fd = -1, .stop_fd = stop_fd, .timeout_ms = timeout_ms };
	v->config_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	v->quiet_fd = v->config_fd < 0 ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (v->quiet_fd < 0)
		rc = error_set(err, -errno, "back-end: eventfd: %s", strerror(errno));
	else
		rc = vdpa_chardev_open(&v->chardev, path, system, err);
	if (!rc)
		rc = learn_device(v, err);
	if (rc)
		vdpa_destroy(&v->backend);
	else
		*out = &v->backend;
	return rc;
}
