/* SPDX-License-Identifier: BSD-2-Clause */
/* A device that remembers: see fake_device.h. */
#include "fake_device.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/fd.h"

static struct fake_device *fake_of(struct virtio_device *self)
{
	return (struct fake_device *)self;
}

static void drop_regions(struct fake_device *d)
{
	while (d->region_count)
		memory_backing_unref(d->regions[--d->region_count].backing);
}

void fake_device_fini(struct fake_device *d)
{
	drop_regions(d);
	fd_close(&d->kick_fd);
	fd_close(&d->call_fd);
	fd_close(&d->err_fd);
}

__attribute__((format(printf, 3, 4))) static int
hear(struct fake_device *d, struct umbra_error *err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(d->heard, sizeof(d->heard), format, args);
	va_end(args);
	d->calls++;
	return d->fail ? error_set(err, d->fail, "the device was told to fail") : 0;
}

static int get_features(struct virtio_device *self, uint64_t *features, struct umbra_error *err)
{
	struct fake_device *d = fake_of(self);
	*features = d->features;
	return hear(d, err, "get_features");
}

static int set_features(struct virtio_device *self, uint64_t features, struct umbra_error *err)
{
	struct fake_device *d = fake_of(self);
	return hear(d, err, "set_features 0x%" PRIx64, features);
}

static int get_protocol_features(struct virtio_device *self, uint64_t *features,
				 struct umbra_error *err)
{
	struct fake_device *d = fake_of(self);
	*features = d->protocol_features;
	return hear(d, err, "get_protocol_features");
}

static int set_protocol_features(struct virtio_device *self, uint64_t features,
				 struct umbra_error *err)
{
	struct fake_device *d = fake_of(self);
	return hear(d, err, "set_protocol_features 0x%" PRIx64, features);
}

static int get_queue_num(struct virtio_device *self, uint64_t *count, struct umbra_error *err)
{
	struct fake_device *d = fake_of(self);
	*count = d->queue_num;
	return hear(d, err, "get_queue_num");
}

static int get_memory_slots(struct virtio_device *self, uint64_t *count, struct umbra_error *err)
{
	struct fake_device *d = fake_of(self);
	*count = d->memory_slots;
	return hear(d, err, "get_memory_slots");
}

static void keep_region(struct fake_device *d, const struct memory_region *region)
{
	if (d->region_count == sizeof(d->regions) / sizeof(d->regions[0]))
		drop_regions(d);
	memory_backing_ref(region->backing);
	d->regions[d->region_count++] = *region;
}

static int set_memory(struct virtio_device *self, const struct memory_region *regions,
		      unsigned int count, struct umbra_error *err)
{
	struct fake_device *d = fake_of(self);
	int rc = hear(d, err, "set_memory %u", count);

	if (rc)
		return rc;
	drop_regions(d);
	for (unsigned int i = 0; i < count; i++)
		keep_region(d, &regions[i]);
	return 0;
}

static int add_region(struct virtio_device *self, const struct memory_region *region,
		      struct umbra_error *err)
{
	struct fake_device *d = fake_of(self);
	int rc = hear(d, err, "add_region 0x%" PRIx64 " 0x%" PRIx64 " 0x%" PRIx64, region->gpa.v,
		      region->uva.v, region->size);

	if (!rc)
		keep_region(d, region);
	return rc;
}

static int remove_region(struct virtio_device *self, const struct memory_region *r,
			 struct umbra_error *err)
{
	struct fake_device *d = fake_of(self);
	return hear(d, err, "remove_region 0x%" PRIx64 " 0x%" PRIx64 " 0x%" PRIx64, r->gpa.v,
		    r->uva.v, r->size);
}

static int ring_set_size(struct virtio_device *self, unsigned int index, uint32_t size,
			 struct umbra_error *err)
{
	struct fake_device *d = fake_of(self);
	if (index < ARRAY_SIZE(d->started)) /* of another size, always */
		d->started[index] = false;
	return hear(d, err, "ring_set_size %u %u", index, size);
}

static int ring_set_addr(struct virtio_device *self, unsigned int index,
			 const struct virtio_ring_addr *addr, struct umbra_error *err)
{
	struct fake_device *d = fake_of(self);
	return hear(d, err, "ring_set_addr %u 0x%" PRIx64 " 0x%" PRIx64 " 0x%" PRIx64, index,
		    addr->desc.v, addr->avail.v, addr->used.v);
}

static int ring_set_base(struct virtio_device *self, unsigned int index, struct ring_position base,
			 struct umbra_error *err)
{
	struct fake_device *d = fake_of(self);
	return hear(d, err, "ring_set_base %u %u", index, base.avail);
}

static int keep_fd(struct fake_device *d, const char *what, unsigned int index, int *slot, int *fd,
		   struct umbra_error *err)
{
	int rc = hear(d, err, "ring_set_%s %u %s", what, index, *fd < 0 ? "none" : "fd");

	if (rc)
		return rc;
	fd_close(slot);
	*slot = fd_take(fd);
	return 0;
}

static int ring_set_kick(struct virtio_device *self, unsigned int index, int *fd,
			 struct umbra_error *err)
{
	struct fake_device *d = fake_of(self);
	int rc = keep_fd(d, "kick", index, &d->kick_fd, fd, err);

	if (!rc && index < ARRAY_SIZE(d->started))
		d->started[index] = true;
	return rc;
}

static int ring_set_call(struct virtio_device *self, unsigned int index, int *fd,
			 struct umbra_error *err)
{
	struct fake_device *d = fake_of(self);
	return keep_fd(d, "call", index, &d->call_fd, fd, err);
}

static int ring_set_err(struct virtio_device *self, unsigned int index, int *fd,
			struct umbra_error *err)
{
	struct fake_device *d = fake_of(self);
	return keep_fd(d, "err", index, &d->err_fd, fd, err);
}

static int ring_enable(struct virtio_device *self, unsigned int index, bool enabled,
		       struct umbra_error *err)
{
	struct fake_device *d = fake_of(self);
	return hear(d, err, "ring_enable %u %d", index, enabled);
}

static int ring_stop(struct virtio_device *self, unsigned int index, struct ring_position *base,
		     struct umbra_error *err)
{
	struct fake_device *d = fake_of(self);
	*base = ring_position_split(d->base);
	if (index < ARRAY_SIZE(d->started))
		d->started[index] = false;
	return hear(d, err, "ring_stop %u", index);
}

static int get_config(struct virtio_device *self, uint32_t offset, void *data, uint32_t size,
		      struct umbra_error *err)
{
	struct fake_device *d = fake_of(self);
	int rc = hear(d, err, "get_config %u %u", offset, size);

	if (rc)
		return rc;
	if (offset > sizeof(d->config) || size > sizeof(d->config) - offset)
		return error_set(err, -EINVAL, "config space ends at %zu", sizeof(d->config));
	memcpy(data, d->config + offset, size);
	return 0;
}

static int set_config(struct virtio_device *self, uint32_t offset, const void *data, uint32_t size,
		      uint32_t flags, struct umbra_error *err)
{
	struct fake_device *d = fake_of(self);
	int rc = hear(d, err, "set_config %u %u %u", offset, size, flags);

	if (rc)
		return rc;
	if (offset > sizeof(d->config) || size > sizeof(d->config) - offset)
		return error_set(err, -EINVAL, "config space ends at %zu", sizeof(d->config));
	memcpy(d->config + offset, data, size);
	return 0;
}

static int get_status(struct virtio_device *self, uint8_t *status, struct umbra_error *err)
{
	struct fake_device *d = fake_of(self);
	*status = d->status;
	return hear(d, err, "get_status");
}

static int set_status(struct virtio_device *self, uint8_t status, struct umbra_error *err)
{
	struct fake_device *d = fake_of(self);
	if (!status)
		memset(d->started, 0, sizeof(d->started));
	return hear(d, err, "set_status %u", status);
}

static int reset(struct virtio_device *self, struct umbra_error *err)
{
	struct fake_device *d = fake_of(self);
	memset(d->started, 0, sizeof(d->started));
	return hear(d, err, "reset");
}

static int set_mtu(struct virtio_device *self, uint64_t mtu, struct umbra_error *err)
{
	struct fake_device *d = fake_of(self);
	return hear(d, err, "set_mtu %" PRIu64, mtu);
}

static int send_rarp(struct virtio_device *self, const uint8_t mac[6], struct umbra_error *err)
{
	struct fake_device *d = fake_of(self);
	return hear(d, err, "send_rarp %02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
		    mac[3], mac[4], mac[5]);
}

static const struct memory *shared_memory(const struct virtio_device *self)
{
	(void)self;
	return NULL;
}

static bool is_started(const struct virtio_device *self)
{
	const struct fake_device *d = (const struct fake_device *)self;

	for (size_t i = 0; i < ARRAY_SIZE(d->started); i++)
		if (d->started[i])
			return true;
	return false;
}

static const struct virtio_ops fake_ops = {
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
	.memory = shared_memory,
	.is_started = is_started,
};

void fake_device_init(struct fake_device *d)
{
	memset(d, 0, sizeof(*d));
	d->virtio.ops = &fake_ops;
	d->kick_fd = d->call_fd = d->err_fd = -1;
}
