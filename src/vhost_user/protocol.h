/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The vhost-user protocol in numbers: what lies on the wire, but for the features,
 * which more than this room knows (virtio/feature_bits.h).
 *
 * Implements: the sections "Message Specification",
 * "Front-end message types" and "Back-end message types" of the vhost-user
 * specification (docs/interop/vhost-user.rst of QEMU).  The kernel has no UAPI
 * header for it; the payloads that it shares with the kernel's vhost come from
 * linux/vhost_types.h.
 *
 * All numbers are in the machine's byte order, and both ends run on the same
 * machine.  The structures have no padding but the one that is named, so their
 * size is their size on the wire.
 */
#ifndef UMBRA_VHOST_USER_PROTOCOL_H
#define UMBRA_VHOST_USER_PROTOCOL_H

#include <stdint.h>

#include <linux/vhost_types.h>

#include "virtio/feature_bits.h"

/* Requests of the front-end.  The values are the specification's ids. */
enum vhost_user_request {
	VHOST_USER_GET_FEATURES = 1,
	VHOST_USER_SET_FEATURES = 2,
	VHOST_USER_SET_OWNER = 3,
	VHOST_USER_RESET_OWNER = 4,
	VHOST_USER_SET_MEM_TABLE = 5,
	VHOST_USER_SET_LOG_BASE = 6,
	VHOST_USER_SET_LOG_FD = 7,
	VHOST_USER_SET_VRING_NUM = 8,
	VHOST_USER_SET_VRING_ADDR = 9,
	VHOST_USER_SET_VRING_BASE = 10,
	VHOST_USER_GET_VRING_BASE = 11,
	VHOST_USER_SET_VRING_KICK = 12,
	VHOST_USER_SET_VRING_CALL = 13,
	VHOST_USER_SET_VRING_ERR = 14,
	VHOST_USER_GET_PROTOCOL_FEATURES = 15,
	VHOST_USER_SET_PROTOCOL_FEATURES = 16,
	VHOST_USER_GET_QUEUE_NUM = 17,
	VHOST_USER_SET_VRING_ENABLE = 18,
	VHOST_USER_SEND_RARP = 19,
	VHOST_USER_NET_SET_MTU = 20,
	VHOST_USER_SET_BACKEND_REQ_FD = 21,
	VHOST_USER_IOTLB_MSG = 22,
	VHOST_USER_SET_VRING_ENDIAN = 23,
	VHOST_USER_GET_CONFIG = 24,
	VHOST_USER_SET_CONFIG = 25,
	VHOST_USER_CREATE_CRYPTO_SESSION = 26,
	VHOST_USER_CLOSE_CRYPTO_SESSION = 27,
	VHOST_USER_POSTCOPY_ADVISE = 28,
	VHOST_USER_POSTCOPY_LISTEN = 29,
	VHOST_USER_POSTCOPY_END = 30,
	VHOST_USER_GET_INFLIGHT_FD = 31,
	VHOST_USER_SET_INFLIGHT_FD = 32,
	VHOST_USER_GPU_SET_SOCKET = 33,
	VHOST_USER_RESET_DEVICE = 34,
	VHOST_USER_VRING_KICK = 35,
	VHOST_USER_GET_MAX_MEM_SLOTS = 36,
	VHOST_USER_ADD_MEM_REG = 37,
	VHOST_USER_REM_MEM_REG = 38,
	VHOST_USER_SET_STATUS = 39,
	VHOST_USER_GET_STATUS = 40,
	VHOST_USER_GET_SHARED_OBJECT = 41,
	VHOST_USER_SET_DEVICE_STATE_FD = 42,
	VHOST_USER_CHECK_DEVICE_STATE = 43,
	VHOST_USER_GET_SHMEM_CONFIG = 44,
	VHOST_USER_REQUEST_END, /* one past the last */
};

/* Requests of the back-end, on the channel of SET_BACKEND_REQ_FD. */
enum vhost_user_backend_request {
	VHOST_USER_BACKEND_IOTLB_MSG = 1,
	VHOST_USER_BACKEND_CONFIG_CHANGE_MSG = 2,
	VHOST_USER_BACKEND_VRING_HOST_NOTIFIER_MSG = 3,
	VHOST_USER_BACKEND_VRING_CALL = 4,
	VHOST_USER_BACKEND_VRING_ERR = 5,
	VHOST_USER_BACKEND_SHARED_OBJECT_ADD = 6,
	VHOST_USER_BACKEND_SHARED_OBJECT_REMOVE = 7,
	VHOST_USER_BACKEND_SHARED_OBJECT_LOOKUP = 8,
	VHOST_USER_BACKEND_SHMEM_MAP = 9,
	VHOST_USER_BACKEND_SHMEM_UNMAP = 10,
	VHOST_USER_BACKEND_REQUEST_END, /* one past the last */
};

/* Header flags. */
#define VHOST_USER_VERSION_MASK 0x3u
#define VHOST_USER_VERSION 0x1u
#define VHOST_USER_REPLY 0x4u
#define VHOST_USER_NEED_REPLY 0x8u

/* The u64 payload of SET_VRING_KICK, _CALL and _ERR. */
#define VHOST_USER_VRING_INDEX_MASK UINT64_C(0xff)
#define VHOST_USER_VRING_NO_FD UINT64_C(0x100)

#define VHOST_USER_MEM_TABLE_REGIONS 8u /* "region0 ... region7" */
#define VHOST_USER_FDS_MAX 8u           /* one a region; the channel: "at most 8 descriptors" */
#define VHOST_USER_PAYLOAD_MAX 4096u    /* bytes; ours: the largest known payload has 2056 */
#define VHOST_USER_CONFIG_MAX (VHOST_USER_PAYLOAD_MAX - 12u) /* bytes of device config */

/* Bits 0-7 of the reply to SET_DEVICE_STATE_FD: error; bit 8: no fd. */
#define VHOST_USER_DEVICE_STATE_REFUSED UINT64_C(0x101)

struct vhost_user_header {
	uint32_t request;
	uint32_t flags;
	uint32_t size; /* of the payload, bytes */
};

struct vhost_user_region {
	uint64_t guest_addr;
	uint64_t size; /* bytes */
	uint64_t user_addr;
	uint64_t mmap_offset; /* in the fd that comes along, bytes */
};

struct vhost_user_mem_table {
	uint32_t count;
	uint32_t padding;
	struct vhost_user_region regions[VHOST_USER_MEM_TABLE_REGIONS];
};

struct vhost_user_mem_region {
	uint64_t padding;
	struct vhost_user_region region;
};

struct vhost_user_config {
	uint32_t offset;
	uint32_t size;  /* bytes of data */
	uint32_t flags; /* 0: a field that the driver writes; 1: live migration */
	uint8_t data[VHOST_USER_CONFIG_MAX];
};

struct vhost_user_log {
	uint64_t size; /* bytes */
	uint64_t offset;
};

struct vhost_user_inflight {
	uint64_t mmap_size; /* bytes */
	uint64_t mmap_offset;
	uint16_t queue_count;
	uint16_t queue_size;
	uint32_t padding; /* implementations differ in whether it is sent */
};

union vhost_user_payload {
	uint64_t u64;
	struct vhost_vring_state state; /* index, num */
	struct vhost_vring_addr addr;
	struct vhost_user_mem_table table;
	struct vhost_user_mem_region mem_region;
	struct vhost_user_config config;
	struct vhost_user_log log;
	struct vhost_user_inflight inflight;
	uint8_t bytes[VHOST_USER_PAYLOAD_MAX];
};

/* Bytes of struct vhost_user_config in front of the data. */
#define VHOST_USER_CONFIG_HEADER 12u

_Static_assert(sizeof(struct vhost_user_header) == 12, "header is 12 bytes on the wire");
_Static_assert(sizeof(struct vhost_user_region) == 32, "region is 32 bytes on the wire");
_Static_assert(sizeof(struct vhost_user_mem_table) == 8 + 8 * 32, "table of 8 regions");
_Static_assert(sizeof(struct vhost_user_mem_region) == 40, "single region");
_Static_assert(sizeof(struct vhost_vring_state) == 8, "vring state");
_Static_assert(sizeof(struct vhost_vring_addr) == 40, "vring address");
_Static_assert(sizeof(struct vhost_user_inflight) == 24, "inflight description");
_Static_assert(sizeof(union vhost_user_payload) == VHOST_USER_PAYLOAD_MAX, "payload bound");

#endif
