/* SPDX-License-Identifier: BSD-2-Clause */
/* Names for feature bits: see feature_names.h. */
#include "cli/feature_names.h"

#include <inttypes.h>
#include <linux/virtio_balloon.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_net.h>
#include <stdio.h>

#include "base/bits.h"
#include "virtio/feature_bits.h"
#include "virtio/feature_names.h"

#define NAMES_MAX 64u /* bits of a feature word */

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

/* linux/vhost_types.h of Linux 6.12. */
static const char *backend_feature_name(unsigned int bit)
{
	static const char *const names[] = {
		[1] = "IOTLB_MSG_V2", [2] = "IOTLB_BATCH",   [3] = "IOTLB_ASID",
		[4] = "SUSPEND",      [5] = "RESUME",        [6] = "ENABLE_AFTER_DRIVER_OK",
		[7] = "DESC_ASID",    [8] = "IOTLB_PERSIST",
	};

	return bit < ARRAY_SIZE(names) ? names[bit] : NULL;
}

/* virtio 1.2, section 5 "Device Types". */
static const char *const device_type_names[] = {
	[1] = "network", [2] = "block",   [3] = "console", [4] = "entropy",      [5] = "balloon",
	[8] = "scsi",    [9] = "9p",      [16] = "gpu",    [18] = "input",       [19] = "socket",
	[20] = "crypto", [24] = "memory", [25] = "sound",  [26] = "file-system", [27] = "pmem",
	[34] = "i2c",    [41] = "gpio",
};

/* Of each bit the name that @find has, behind @prefix, or else that of @table (or NULL). */
static json_t *named_bits(uint64_t bits, const char *prefix, const char *(*find)(unsigned int bit),
			  const char *const *table)
{
	json_t *names = json_array();
	char hex[sizeof("0x0123456789abcdef")];
	unsigned int bit;

	for (bit = 0; bit < NAMES_MAX; bit++) {
		const char *found = find(bit), *other = table ? table[bit] : NULL;

		if (bits & BIT64(bit) && found)
			json_array_append_new(names, json_sprintf("%s%s", prefix, found));
		else if (bits & BIT64(bit) && other)
			json_array_append_new(names, json_string(other));
	}
	snprintf(hex, sizeof(hex), "0x%" PRIx64, bits);
	return json_pack("{s:s, s:o}", "bits", hex, "names", names);
}

json_t *features_json(uint32_t device_id, uint64_t bits)
{
	return named_bits(bits, "", virtio_feature_name,
			  device_id < ARRAY_SIZE(type_names) ? type_names[device_id] : NULL);
}

json_t *protocol_features_json(uint64_t bits)
{
	return named_bits(bits, "VHOST_USER_PROTOCOL_F_", vhost_protocol_feature_name, NULL);
}

json_t *backend_features_json(uint64_t bits)
{
	return named_bits(bits, "VHOST_BACKEND_F_", backend_feature_name, NULL);
}

const char *device_type_name(uint32_t id)
{
	return id < ARRAY_SIZE(device_type_names) ? device_type_names[id] : NULL;
}
