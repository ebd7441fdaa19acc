/* SPDX-License-Identifier: BSD-2-Clause */
/* A back-end that is away: see absent.h. */
#include "device/absent.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "umbra/shadow_device.h"
#include "virtio/feature_bits.h"

/* --- what was learnt -------------------------------------------------------- */

static bool is_within(uint32_t offset, uint32_t size)
{
	return offset <= LEARNT_CONFIG_MAX && size <= LEARNT_CONFIG_MAX - offset;
}

void learnt_config(struct learnt *learnt, uint32_t offset, const void *data, uint32_t size)
{
	if (!is_within(offset, size))
		return;
	memcpy(learnt->config + offset, data, size);
	for (uint32_t i = offset; i < offset + size; i++)
		learnt->config_known[i / 64] |= BIT64(i % 64);
}

bool learnt_has_config(const struct learnt *learnt, uint32_t offset, uint32_t size)
{
	if (!is_within(offset, size))
		return false;
	for (uint32_t i = offset; i < offset + size; i++)
		if (!(learnt->config_known[i / 64] & BIT64(i % 64)))
			return false;
	return true;
}

uint32_t learnt_config_size(const struct learnt *learnt)
{
	uint32_t size = LEARNT_CONFIG_MAX;

	while (size && !learnt_has_config(learnt, size - 1, 1))
		size--;
	return size;
}

void learnt_write(struct learnt *learnt, uint32_t offset, const void *data, uint32_t size)
{
	if (!is_within(offset, size))
		return;
	learnt_config(learnt, offset, data, size);
	for (uint32_t i = offset; i < offset + size; i++)
		learnt->config_written[i / 64] |= BIT64(i % 64);
}

void learnt_forget_writes(struct learnt *learnt)
{
	memset(learnt->config_written, 0, sizeof(learnt->config_written));
}

static bool is_written(const struct learnt *learnt, uint32_t at)
{
	return at < LEARNT_CONFIG_MAX && learnt->config_written[at / 64] & BIT64(at % 64);
}

uint32_t learnt_next_write(const struct learnt *learnt, uint32_t *offset)
{
	uint32_t size = 0;

	while (*offset < LEARNT_CONFIG_MAX && !is_written(learnt, *offset))
		++*offset;
	while (is_written(learnt, *offset + size))
		size++;
	return size;
}

/* --- what it answers -------------------------------------------------------- */

static struct learnt *learnt_of(struct virtio_device *self)
{
	return ((struct absent *)self)->learnt;
}

static int get_features(struct virtio_device *self, uint64_t *features, struct umbra_error *err)
{
	(void)err;
	*features = learnt_of(self)->features;
	return 0;
}

static int accept_u64(struct virtio_device *self, uint64_t value, struct umbra_error *err)
{
	(void)self;
	(void)value;
	(void)err;
	return 0;
}

static int get_protocol_features(struct virtio_device *self, uint64_t *features,
				 struct umbra_error *err)
{
	const struct learnt *learnt = learnt_of(self);

	if (!learnt->has_protocol_features &&
	    learnt->features & BIT64(VHOST_USER_F_PROTOCOL_FEATURES))
		return error_set(err, -EREMOTEIO,
				 "the back-end is away, and has not said its protocol features");
	*features = learnt->protocol_features;
	return 0;
}

static int count_of(uint64_t known, const char *what, uint64_t *count, struct umbra_error *err)
{
	if (!known)
		return error_set(err, -EREMOTEIO,
				 "the back-end is away, and has not said its number of %s", what);
	*count = known;
	return 0;
}

static int get_queue_num(struct virtio_device *self, uint64_t *count, struct umbra_error *err)
{
	return count_of(learnt_of(self)->queue_count, "queues", count, err);
}

static int get_memory_slots(struct virtio_device *self, uint64_t *count, struct umbra_error *err)
{
	return count_of(learnt_of(self)->memory_slots, "memory slots", count, err);
}

static int set_memory(struct virtio_device *self, const struct memory_region *regions,
		      unsigned int count, struct umbra_error *err)
{
	(void)self;
	(void)regions;
	(void)count;
	(void)err;
	return 0;
}

static int accept_region(struct virtio_device *self, const struct memory_region *region,
			 struct umbra_error *err)
{
	return set_memory(self, region, 1, err);
}

static int ring_enable(struct virtio_device *self, unsigned int index, bool enabled,
		       struct umbra_error *err)
{
	(void)index;
	return accept_u64(self, enabled, err);
}

static int ring_stop(struct virtio_device *self, unsigned int index, struct ring_position *base,
		     struct umbra_error *err)
{
	(void)self;
	(void)base;
	return error_set(err, -EREMOTEIO, "queue %u: the back-end is away, and has no queue",
			 index);
}

static int get_config(struct virtio_device *self, uint32_t offset, void *data, uint32_t size,
		      struct umbra_error *err)
{
	const struct learnt *learnt = learnt_of(self);

	if (!learnt_has_config(learnt, offset, size))
		return error_set(err, -EREMOTEIO,
				 "the back-end is away, and %u bytes at %u of its configuration "
				 "were never read",
				 size, offset);
	memcpy(data, learnt->config + offset, size);
	return 0;
}

static int set_config(struct virtio_device *self, uint32_t offset, const void *data, uint32_t size,
		      uint32_t flags, struct umbra_error *err)
{
	(void)self;
	(void)data;
	(void)flags;
	return error_set(err, -EREMOTEIO,
			 "the back-end is away, and nobody takes %u bytes at %u of its "
			 "configuration",
			 size, offset);
}

static int get_status(struct virtio_device *self, uint8_t *status, struct umbra_error *err)
{
	(void)err;
	*status = learnt_of(self)->status;
	return 0;
}

static int set_status(struct virtio_device *self, uint8_t status, struct umbra_error *err)
{
	(void)err;
	learnt_of(self)->status = status;
	return 0;
}

static int reset(struct virtio_device *self, struct umbra_error *err)
{
	return set_status(self, 0, err);
}

static int send_rarp(struct virtio_device *self, const uint8_t mac[6], struct umbra_error *err)
{
	(void)mac;
	return accept_u64(self, 0, err);
}

static void listen_to_nobody(struct virtio_device *self, const struct backend_listener *listener)
{
	(void)self;
	(void)listener;
}

static unsigned int no_fds(const struct virtio_device *self, int fds[BACKEND_FDS_MAX])
{
	(void)self;
	(void)fds;
	return 0;
}

static void info(const struct virtio_device *self, struct umbra_backend_info *out)
{
	(void)self;
	*out = (struct umbra_backend_info){ 0 };
}

static void destroy(struct virtio_device *self)
{
	(void)self;
}

static const struct virtio_ops absent_ops = {
	.get_features = get_features,
	.set_features = accept_u64,
	.get_protocol_features = get_protocol_features,
	.set_protocol_features = accept_u64,
	.get_queue_num = get_queue_num,
	.get_memory_slots = get_memory_slots,
	.set_memory = set_memory,
	.add_region = accept_region,
	.remove_region = accept_region,
	.ring_enable = ring_enable,
	.ring_stop = ring_stop,
	.get_config = get_config,
	.set_config = set_config,
	.get_status = get_status,
	.set_status = set_status,
	.reset = reset,
	.set_mtu = accept_u64,
	.send_rarp = send_rarp,
	.kind = "vhost-user",
	.listen = listen_to_nobody,
	.fds = no_fds,
	.info = info,
	.destroy = destroy,
};

void absent_init(struct absent *absent, struct learnt *learnt)
{
	*absent = (struct absent){ .device.ops = &absent_ops, .learnt = learnt };
}
