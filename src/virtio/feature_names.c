/* SPDX-License-Identifier: BSD-2-Clause */
/* Names of features: see feature_names.h. */
#include "virtio/feature_names.h"

#include <linux/vhost_types.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdio.h>

#include "base/bits.h"
#include "virtio/feature_bits.h"

#define NAME(bit) [bit] = #bit
static const char *const virtio_names[] = {
	NAME(VIRTIO_F_NOTIFY_ON_EMPTY),   NAME(VHOST_F_LOG_ALL),
	NAME(VIRTIO_F_ANY_LAYOUT),        NAME(VIRTIO_RING_F_INDIRECT_DESC),
	NAME(VIRTIO_RING_F_EVENT_IDX),    NAME(VHOST_USER_F_PROTOCOL_FEATURES),
	NAME(VIRTIO_F_VERSION_1),         NAME(VIRTIO_F_ACCESS_PLATFORM),
	NAME(VIRTIO_F_RING_PACKED),       NAME(VIRTIO_F_IN_ORDER),
	NAME(VIRTIO_F_ORDER_PLATFORM),    NAME(VIRTIO_F_SR_IOV),
	NAME(VIRTIO_F_NOTIFICATION_DATA), NAME(VIRTIO_F_NOTIF_CONFIG_DATA),
	NAME(VIRTIO_F_RING_RESET),        NAME(VIRTIO_F_ADMIN_VQ),
};
#undef NAME

static const char *const protocol_names[] = {
	[VHOST_USER_PROTOCOL_F_MQ] = "MQ",
	[VHOST_USER_PROTOCOL_F_LOG_SHMFD] = "LOG_SHMFD",
	[VHOST_USER_PROTOCOL_F_RARP] = "RARP",
	[VHOST_USER_PROTOCOL_F_REPLY_ACK] = "REPLY_ACK",
	[VHOST_USER_PROTOCOL_F_MTU] = "MTU",
	[VHOST_USER_PROTOCOL_F_BACKEND_REQ] = "BACKEND_REQ",
	[VHOST_USER_PROTOCOL_F_CROSS_ENDIAN] = "CROSS_ENDIAN",
	[VHOST_USER_PROTOCOL_F_CRYPTO_SESSION] = "CRYPTO_SESSION",
	[VHOST_USER_PROTOCOL_F_PAGEFAULT] = "PAGEFAULT",
	[VHOST_USER_PROTOCOL_F_CONFIG] = "CONFIG",
	[VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD] = "BACKEND_SEND_FD",
	[VHOST_USER_PROTOCOL_F_HOST_NOTIFIER] = "HOST_NOTIFIER",
	[VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD] = "INFLIGHT_SHMFD",
	[VHOST_USER_PROTOCOL_F_RESET_DEVICE] = "RESET_DEVICE",
	[VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS] = "INBAND_NOTIFICATIONS",
	[VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS] = "CONFIGURE_MEM_SLOTS",
	[VHOST_USER_PROTOCOL_F_STATUS] = "STATUS",
	[VHOST_USER_PROTOCOL_F_XEN_MMAP] = "XEN_MMAP",
	[VHOST_USER_PROTOCOL_F_SHARED_OBJECT] = "SHARED_OBJECT",
	[VHOST_USER_PROTOCOL_F_DEVICE_STATE] = "DEVICE_STATE",
	[VHOST_USER_PROTOCOL_F_GET_VRING_BASE_INFLIGHT] = "GET_VRING_BASE_INFLIGHT",
	[VHOST_USER_PROTOCOL_F_GPA_ADDRESSES] = "GPA_ADDRESSES",
	[VHOST_USER_PROTOCOL_F_SHMEM] = "SHMEM",
	[VHOST_USER_PROTOCOL_F_SKIP_DRAIN] = "SKIP_DRAIN",
};

const char *virtio_feature_name(unsigned int bit)
{
	return bit < ARRAY_SIZE(virtio_names) ? virtio_names[bit] : NULL;
}

const char *vhost_protocol_feature_name(unsigned int bit)
{
	return bit < ARRAY_SIZE(protocol_names) ? protocol_names[bit] : NULL;
}

const char *vhost_protocol_features_text(char *text, size_t size, uint64_t bits)
{
	size_t used = 0;

	if (!bits)
		snprintf(text, size, "none");
	for (unsigned int bit = 0; bit < 64; bit++) {
		const char *word;
		int n;

		if (!(bits & BIT64(bit)))
			continue;
		word = vhost_protocol_feature_name(bit);
		if (word)
			n = snprintf(text + used, size - used, "%s%s", used ? " " : "", word);
		else
			n = snprintf(text + used, size - used, "%sbit %u", used ? " " : "", bit);
		if (n < 0 || (size_t)n >= size - used)
			break; /* cut, and snprintf() has put the NUL */
		used += (size_t)n;
	}
	return text;
}
