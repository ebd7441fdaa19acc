/* SPDX-License-Identifier: BSD-2-Clause */
/* Names for feature bits: see feature_names.h. */
#include "cli/feature_names.h"

#include <inttypes.h>
#include <linux/vhost_types.h>
#include <linux/virtio_balloon.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <stdio.h>

#include "base/bits.h"
#include "virtio/protocol_features.h"

#define NAMES_MAX 64u /* bits of a feature word */

/* virtio 1.2, section 6 "Reserved Feature Bits"; older kernel headers lack it. */
#ifndef VIRTIO_F_NOTIFICATION_DATA
#define VIRTIO_F_NOTIFICATION_DATA 38
#endif
#ifndef VIRTIO_F_NOTIF_CONFIG_DATA
#define VIRTIO_F_NOTIF_CONFIG_DATA 39
#endif
#ifndef VIRTIO_F_ADMIN_VQ
#define VIRTIO_F_ADMIN_VQ 41
#endif

#define NAME(bit) [bit] = #bit
static const char *const feature_names[NAMES_MAX] = {
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

/* docs/balloon-protocol.md. */
#define VIRTIO_BALLOON_F_PAGE_BITMAP 50

#define NAME(bit) [VIRTIO_BALLOON_F_##bit] = "VIRTIO_BALLOON_F_" #bit
static const char *const balloon_names[NAMES_MAX] = {
	NAME(MUST_TELL_HOST), NAME(STATS_VQ),  NAME(DEFLATE_ON_OOM), NAME(FREE_PAGE_HINT),
	NAME(PAGE_POISON),    NAME(REPORTING), NAME(PAGE_BITMAP),
};
#undef NAME

#define NAME(bit) [VIRTIO_BLK_F_##bit] = "VIRTIO_BLK_F_" #bit
static const char *const block_names[NAMES_MAX] = {
	NAME(SIZE_MAX), NAME(SEG_MAX), NAME(GEOMETRY),     NAME(RO),
	NAME(BLK_SIZE), NAME(FLUSH),   NAME(TOPOLOGY),     NAME(CONFIG_WCE),
	NAME(MQ),       NAME(DISCARD), NAME(WRITE_ZEROES),
};
#undef NAME

#define NAME(bit) [VIRTIO_NET_F_##bit] = "VIRTIO_NET_F_" #bit
static const char *const net_names[NAMES_MAX] = {
	NAME(CSUM),
	NAME(GUEST_CSUM),
	NAME(CTRL_GUEST_OFFLOADS),
	NAME(MTU),
	NAME(MAC),
	NAME(GUEST_TSO4),
	NAME(GUEST_TSO6),
	NAME(GUEST_ECN),
	NAME(GUEST_UFO),
	NAME(HOST_TSO4),
	NAME(HOST_TSO6),
	NAME(HOST_ECN),
	NAME(HOST_UFO),
	NAME(MRG_RXBUF),
	NAME(STATUS),
	NAME(CTRL_VQ),
	NAME(CTRL_RX),
	NAME(CTRL_VLAN),
	NAME(CTRL_RX_EXTRA),
	NAME(GUEST_ANNOUNCE),
	NAME(MQ),
	NAME(CTRL_MAC_ADDR),
	NAME(NOTF_COAL),
	NAME(HASH_REPORT),
	NAME(RSS),
	NAME(RSC_EXT),
	NAME(STANDBY),
	NAME(SPEED_DUPLEX),
};
#undef NAME

/* By device type; NULL: none is known. */
static const char *const *const type_names[] = {
	[1] = net_names,
	[2] = block_names,
	[5] = balloon_names,
};

#define NAME(bit) [VHOST_USER_PROTOCOL_F_##bit] = "VHOST_USER_PROTOCOL_F_" #bit
static const char *const protocol_feature_names[NAMES_MAX] = {
	NAME(MQ),
	NAME(LOG_SHMFD),
	NAME(RARP),
	NAME(REPLY_ACK),
	NAME(MTU),
	NAME(BACKEND_REQ),
	NAME(CROSS_ENDIAN),
	NAME(CRYPTO_SESSION),
	NAME(PAGEFAULT),
	NAME(CONFIG),
	NAME(BACKEND_SEND_FD),
	NAME(HOST_NOTIFIER),
	NAME(INFLIGHT_SHMFD),
	NAME(RESET_DEVICE),
	NAME(INBAND_NOTIFICATIONS),
	NAME(CONFIGURE_MEM_SLOTS),
	NAME(STATUS),
	NAME(XEN_MMAP),
	NAME(SHARED_OBJECT),
	NAME(DEVICE_STATE),
	NAME(GET_VRING_BASE_INFLIGHT),
	NAME(GPA_ADDRESSES),
	NAME(SHMEM),
};
#undef NAME

/* linux/vhost_types.h of Linux 6.12. */
#define NAME(bit, name) [bit] = "VHOST_BACKEND_F_" name
static const char *const backend_feature_names[NAMES_MAX] = {
	NAME(1, "IOTLB_MSG_V2"), NAME(2, "IOTLB_BATCH"),   NAME(3, "IOTLB_ASID"),
	NAME(4, "SUSPEND"),      NAME(5, "RESUME"),        NAME(6, "ENABLE_AFTER_DRIVER_OK"),
	NAME(7, "DESC_ASID"),    NAME(8, "IOTLB_PERSIST"),
};
#undef NAME

/* virtio 1.2, section 5 "Device Types". */
static const char *const device_type_names[] = {
	[1] = "network", [2] = "block",   [3] = "console", [4] = "entropy",      [5] = "balloon",
	[8] = "scsi",    [9] = "9p",      [16] = "gpu",    [18] = "input",       [19] = "socket",
	[20] = "crypto", [24] = "memory", [25] = "sound",  [26] = "file-system", [27] = "pmem",
	[34] = "i2c",    [41] = "gpio",
};

static json_t *named_bits(uint64_t bits, const char *const *table, const char *const *more)
{
	json_t *names = json_array();
	char hex[sizeof("0x0123456789abcdef")];
	unsigned int bit;

	for (bit = 0; bit < NAMES_MAX; bit++) {
		const char *name = table[bit] ? table[bit] : more ? more[bit] : NULL;

		if (bits & BIT64(bit) && name)
			json_array_append_new(names, json_string(name));
	}
	snprintf(hex, sizeof(hex), "0x%" PRIx64, bits);
	return json_pack("{s:s, s:o}", "bits", hex, "names", names);
}

json_t *features_json(uint32_t device_id, uint64_t bits)
{
	return named_bits(bits, feature_names,
			  device_id < ARRAY_SIZE(type_names) ? type_names[device_id] : NULL);
}

json_t *protocol_features_json(uint64_t bits)
{
	return named_bits(bits, protocol_feature_names, NULL);
}

json_t *backend_features_json(uint64_t bits)
{
	return named_bits(bits, backend_feature_names, NULL);
}

const char *device_type_name(uint32_t id)
{
	return id < ARRAY_SIZE(device_type_names) ? device_type_names[id] : NULL;
}
