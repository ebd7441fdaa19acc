// SPDX-License-Identifier: GPL-2.0
/*
 * Figures for the guest's administrator, and for tests and benchmarks:
 * /sys/bus/virtio/devices/virtioN/balloon/.  README.md says what each one is.
 */

#include <linux/device.h>
#include <linux/sysfs.h>

#include "balloon.h"

#define ATTRIBUTE(name, format, value)                                                     \
	static ssize_t name##_show(struct device *device, struct device_attribute *attribute, \
				   char *buffer)                                           \
	{                                                                                  \
		struct balloon *balloon = dev_to_virtio(device)->priv;                     \
		ssize_t length;                                                            \
                                                                                           \
		mutex_lock(&balloon->lock);                                                \
		length = sysfs_emit(buffer, format "\n", value);                           \
		mutex_unlock(&balloon->lock);                                              \
		return length;                                                             \
	}                                                                                  \
	static DEVICE_ATTR_RO(name)

static const char *const state_names[] = {
	[BALLOON_SETTLED] = "settled",	   [BALLOON_INFLATING] = "inflating",
	[BALLOON_DEFLATING] = "deflating", [BALLOON_WAITING] = "waiting",
	[BALLOON_GIVEN_UP] = "given-up",   [BALLOON_STALLED] = "stalled",
	[BALLOON_STOPPED] = "stopped",
};

ATTRIBUTE(state, "%s", state_names[balloon->state]);
ATTRIBUTE(target_pages, "%lu", balloon->target);
ATTRIBUTE(chunk_pages, "%lu", balloon->pool.chunk_pages);
ATTRIBUTE(piece_pages, "%lu", balloon->pool.piece_pages);
ATTRIBUTE(inflating_pages, "%lu", balloon->inflating);
ATTRIBUTE(inflate_messages, "%llu", balloon->inflate.sent);
ATTRIBUTE(inflate_bytes, "%llu", balloon->inflate.bytes);
ATTRIBUTE(deflate_messages, "%llu", balloon->deflate.sent);
ATTRIBUTE(deflate_bytes, "%llu", balloon->deflate.bytes);
ATTRIBUTE(refused_pages, "%llu", balloon->inflate.refused + balloon->deflate.refused);
ATTRIBUTE(migrated_pages, "%llu", balloon->trade.moved);
ATTRIBUTE(oom_pages, "%llu", balloon->oom_pages);
ATTRIBUTE(oom_calls, "%llu", balloon->oom_calls);
ATTRIBUTE(allocate_ns, "%llu", balloon->allocate_ns);
ATTRIBUTE(send_ns, "%llu", balloon->send_ns);

static struct attribute *attributes[] = {
	&dev_attr_state.attr,		 &dev_attr_target_pages.attr,
	&dev_attr_chunk_pages.attr,	 &dev_attr_piece_pages.attr,
	&dev_attr_inflating_pages.attr,	 &dev_attr_inflate_messages.attr,
	&dev_attr_inflate_bytes.attr,	 &dev_attr_deflate_messages.attr,
	&dev_attr_deflate_bytes.attr,	 &dev_attr_refused_pages.attr,
	&dev_attr_migrated_pages.attr,	 &dev_attr_oom_pages.attr,
	&dev_attr_oom_calls.attr,	 &dev_attr_allocate_ns.attr,
	&dev_attr_send_ns.attr,		 NULL,
};

static const struct attribute_group group = {
	.name = "balloon",
	.attrs = attributes,
};

const struct attribute_group *balloon_attribute_groups[] = { &group, NULL };
