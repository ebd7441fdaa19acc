/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The shadow device as the vhost-user server sees it: virtio/device.h's table,
 * filled with the calls of device/shadow_device.h, which do not know of it.
 */
#include "session/shadow_frontend.h"

#include "device/shadow_device.h"
#include "host/sharing.h"

static int get_features(void *opaque, uint64_t *features, struct umbra_error *err)
{
	return shadow_device_get_features(opaque, features, err);
}

static int set_features(void *opaque, uint64_t features, struct umbra_error *err)
{
	return shadow_device_set_features(opaque, features, err);
}

static int get_protocol_features(void *opaque, uint64_t *features, struct umbra_error *err)
{
	return shadow_device_get_protocol_features(opaque, features, err);
}

static int set_protocol_features(void *opaque, uint64_t features, struct umbra_error *err)
{
	return shadow_device_set_protocol_features(opaque, features, err);
}

static int get_queue_num(void *opaque, uint64_t *count, struct umbra_error *err)
{
	return shadow_device_get_queue_num(opaque, count, err);
}

static int get_memory_slots(void *opaque, uint64_t *count, struct umbra_error *err)
{
	return shadow_device_get_memory_slots(opaque, count, err);
}

static int set_memory(void *opaque, const struct memory_region *regions, unsigned int count,
		      struct umbra_error *err)
{
	return shadow_device_set_memory(opaque, regions, count, err);
}

static int add_region(void *opaque, const struct memory_region *region, struct umbra_error *err)
{
	return shadow_device_add_region(opaque, region, err);
}

static int remove_region(void *opaque, gpa_t gpa, uva_t uva, uint64_t size, struct umbra_error *err)
{
	return shadow_device_remove_region(opaque, gpa, uva, size, err);
}

static int ring_set_size(void *opaque, unsigned int index, uint32_t size, struct umbra_error *err)
{
	return shadow_device_ring_set_size(opaque, index, size, err);
}

static int ring_set_addr(void *opaque, unsigned int index, const struct vhost_ring_addr *addr,
			 struct umbra_error *err)
{
	return shadow_device_ring_set_addr(opaque, index, addr->desc, addr->avail, addr->used, err);
}

static int ring_set_base(void *opaque, unsigned int index, uint32_t base, struct umbra_error *err)
{
	return shadow_device_ring_set_base(opaque, index, base, err);
}

static int ring_set_kick(void *opaque, unsigned int index, int *fd, struct umbra_error *err)
{
	sharing_check(shadow_device_memory(opaque), index);
	return shadow_device_ring_set_kick(opaque, index, fd, err);
}

static int ring_set_call(void *opaque, unsigned int index, int *fd, struct umbra_error *err)
{
	return shadow_device_ring_set_call(opaque, index, fd, err);
}

static int ring_set_err(void *opaque, unsigned int index, int *fd, struct umbra_error *err)
{
	return shadow_device_ring_set_err(opaque, index, fd, err);
}

static int ring_enable(void *opaque, unsigned int index, bool enabled, struct umbra_error *err)
{
	return shadow_device_ring_enable(opaque, index, enabled, err);
}

static int ring_stop(void *opaque, unsigned int index, uint16_t *base, struct umbra_error *err)
{
	return shadow_device_ring_stop(opaque, index, base, err);
}

static int get_config(void *opaque, uint32_t offset, void *data, uint32_t size,
		      struct umbra_error *err)
{
	return shadow_device_get_config(opaque, offset, data, size, err);
}

static int set_config(void *opaque, uint32_t offset, const void *data, uint32_t size,
		      uint32_t flags, struct umbra_error *err)
{
	return shadow_device_set_config(opaque, offset, data, size, flags, err);
}

static int get_status(void *opaque, uint8_t *status, struct umbra_error *err)
{
	return shadow_device_get_status(opaque, status, err);
}

static int set_status(void *opaque, uint8_t status, struct umbra_error *err)
{
	return shadow_device_set_status(opaque, status, err);
}

static int reset(void *opaque, struct umbra_error *err)
{
	return shadow_device_reset(opaque, err);
}

static int set_mtu(void *opaque, uint64_t mtu, struct umbra_error *err)
{
	return shadow_device_set_mtu(opaque, mtu, err);
}

static int send_rarp(void *opaque, const uint8_t mac[6], struct umbra_error *err)
{
	return shadow_device_send_rarp(opaque, mac, err);
}

const struct vhost_device_ops shadow_frontend_ops = {
	.get_features = get_features,
	.set_features = set_features,
	.get_protocol_features = get_protocol_features,
	.set_protocol_features = set_protocol_features,
	.get_queue_num = get_queue_num,
	.get_memory_slots = get_memory_slots,
	.set_memory = set_memory,
	.add_region = add_region,
	.remove_region = remove_region,
	.ring_set_size = ring_set_size,
	.ring_set_addr = ring_set_addr,
	.ring_set_base = ring_set_base,
	.ring_set_kick = ring_set_kick,
	.ring_set_call = ring_set_call,
	.ring_set_err = ring_set_err,
	.ring_enable = ring_enable,
	.ring_stop = ring_stop,
	.get_config = get_config,
	.set_config = set_config,
	.get_status = get_status,
	.set_status = set_status,
	.reset = reset,
	.set_mtu = set_mtu,
	.send_rarp = send_rarp,
};
