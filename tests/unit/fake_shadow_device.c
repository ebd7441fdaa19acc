/* SPDX-License-Identifier: BSD-2-Clause */
/* A shadow device that remembers: see fake_shadow_device.h. */
#include "fake_shadow_device.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/fd.h"

void fake_shadow_device_init(struct shadow_device *d)
{
	memset(d, 0, sizeof(*d));
	d->kick_fd = d->call_fd = d->err_fd = -1;
}

static void drop_regions(struct shadow_device *d)
{
	while (d->region_count)
		memory_backing_unref(d->regions[--d->region_count].backing);
}

void fake_shadow_device_fini(struct shadow_device *d)
{
	drop_regions(d);
	fd_close(&d->kick_fd);
	fd_close(&d->call_fd);
	fd_close(&d->err_fd);
}

__attribute__((format(printf, 3, 4))) static int
hear(struct shadow_device *d, struct umbra_error *err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(d->heard, sizeof(d->heard), format, args);
	va_end(args);
	d->calls++;
	return d->fail ? error_set(err, d->fail, "the device was told to fail") : 0;
}

int shadow_device_get_features(struct shadow_device *d, uint64_t *features, struct umbra_error *err)
{
	*features = d->features;
	return hear(d, err, "get_features");
}

int shadow_device_set_features(struct shadow_device *d, uint64_t features, struct umbra_error *err)
{
	return hear(d, err, "set_features 0x%" PRIx64, features);
}

int shadow_device_get_protocol_features(struct shadow_device *d, uint64_t *features,
					struct umbra_error *err)
{
	*features = d->protocol_features;
	return hear(d, err, "get_protocol_features");
}

int shadow_device_set_protocol_features(struct shadow_device *d, uint64_t features,
					struct umbra_error *err)
{
	return hear(d, err, "set_protocol_features 0x%" PRIx64, features);
}

int shadow_device_get_queue_num(struct shadow_device *d, uint64_t *count, struct umbra_error *err)
{
	*count = d->queue_num;
	return hear(d, err, "get_queue_num");
}

int shadow_device_get_memory_slots(struct shadow_device *d, uint64_t *count,
				   struct umbra_error *err)
{
	*count = d->memory_slots;
	return hear(d, err, "get_memory_slots");
}

static void keep_region(struct shadow_device *d, const struct memory_region *region)
{
	if (d->region_count == sizeof(d->regions) / sizeof(d->regions[0]))
		drop_regions(d);
	memory_backing_ref(region->backing);
	d->regions[d->region_count++] = *region;
}

int shadow_device_set_memory(struct shadow_device *d, const struct memory_region *regions,
			     unsigned int count, struct umbra_error *err)
{
	int rc = hear(d, err, "set_memory %u", count);

	if (rc)
		return rc;
	drop_regions(d);
	for (unsigned int i = 0; i < count; i++)
		keep_region(d, &regions[i]);
	return 0;
}

int shadow_device_add_region(struct shadow_device *d, const struct memory_region *region,
			     struct umbra_error *err)
{
	int rc = hear(d, err, "add_region 0x%" PRIx64 " 0x%" PRIx64 " 0x%" PRIx64, region->gpa.v,
		      region->uva.v, region->size);

	if (!rc)
		keep_region(d, region);
	return rc;
}

int shadow_device_remove_region(struct shadow_device *d, gpa_t gpa, uva_t uva, uint64_t size,
				struct umbra_error *err)
{
	return hear(d, err, "remove_region 0x%" PRIx64 " 0x%" PRIx64 " 0x%" PRIx64, gpa.v, uva.v,
		    size);
}

int shadow_device_ring_set_size(struct shadow_device *d, unsigned int index, uint32_t size,
				struct umbra_error *err)
{
	return hear(d, err, "ring_set_size %u %u", index, size);
}

int shadow_device_ring_set_addr(struct shadow_device *d, unsigned int index, uva_t desc,
				uva_t avail, uva_t used, struct umbra_error *err)
{
	return hear(d, err, "ring_set_addr %u 0x%" PRIx64 " 0x%" PRIx64 " 0x%" PRIx64, index,
		    desc.v, avail.v, used.v);
}

int shadow_device_ring_set_base(struct shadow_device *d, unsigned int index, uint32_t base,
				struct umbra_error *err)
{
	return hear(d, err, "ring_set_base %u %u", index, base);
}

static int keep_fd(struct shadow_device *d, const char *what, unsigned int index, int *slot,
		   int *fd, struct umbra_error *err)
{
	int rc = hear(d, err, "ring_set_%s %u %s", what, index, *fd < 0 ? "none" : "fd");

	if (rc)
		return rc;
	fd_close(slot);
	*slot = fd_take(fd);
	return 0;
}

int shadow_device_ring_set_kick(struct shadow_device *d, unsigned int index, int *fd,
				struct umbra_error *err)
{
	return keep_fd(d, "kick", index, &d->kick_fd, fd, err);
}

int shadow_device_ring_set_call(struct shadow_device *d, unsigned int index, int *fd,
				struct umbra_error *err)
{
	return keep_fd(d, "call", index, &d->call_fd, fd, err);
}

int shadow_device_ring_set_err(struct shadow_device *d, unsigned int index, int *fd,
			       struct umbra_error *err)
{
	return keep_fd(d, "err", index, &d->err_fd, fd, err);
}

int shadow_device_ring_enable(struct shadow_device *d, unsigned int index, bool enabled,
			      struct umbra_error *err)
{
	return hear(d, err, "ring_enable %u %d", index, enabled);
}

int shadow_device_ring_stop(struct shadow_device *d, unsigned int index, uint16_t *base,
			    struct umbra_error *err)
{
	*base = d->base;
	return hear(d, err, "ring_stop %u", index);
}

int shadow_device_get_config(struct shadow_device *d, uint32_t offset, void *data, uint32_t size,
			     struct umbra_error *err)
{
	int rc = hear(d, err, "get_config %u %u", offset, size);

	if (rc)
		return rc;
	if (offset > sizeof(d->config) || size > sizeof(d->config) - offset)
		return error_set(err, -EINVAL, "config space ends at %zu", sizeof(d->config));
	memcpy(data, d->config + offset, size);
	return 0;
}

int shadow_device_set_config(struct shadow_device *d, uint32_t offset, const void *data,
			     uint32_t size, uint32_t flags, struct umbra_error *err)
{
	int rc = hear(d, err, "set_config %u %u %u", offset, size, flags);

	if (rc)
		return rc;
	if (offset > sizeof(d->config) || size > sizeof(d->config) - offset)
		return error_set(err, -EINVAL, "config space ends at %zu", sizeof(d->config));
	memcpy(d->config + offset, data, size);
	return 0;
}

int shadow_device_get_status(struct shadow_device *d, uint8_t *status, struct umbra_error *err)
{
	*status = d->status;
	return hear(d, err, "get_status");
}

int shadow_device_set_status(struct shadow_device *d, uint8_t status, struct umbra_error *err)
{
	return hear(d, err, "set_status %u", status);
}

int shadow_device_reset(struct shadow_device *d, struct umbra_error *err)
{
	return hear(d, err, "reset");
}

int shadow_device_set_mtu(struct shadow_device *d, uint64_t mtu, struct umbra_error *err)
{
	return hear(d, err, "set_mtu %" PRIu64, mtu);
}

int shadow_device_send_rarp(struct shadow_device *d, const uint8_t mac[6], struct umbra_error *err)
{
	return hear(d, err, "send_rarp %02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
		    mac[3], mac[4], mac[5]);
}
