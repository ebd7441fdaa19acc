/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The vocabulary of features that a front-end, a device and a back-end share, as far as the
 * kernel's headers have none.
 *
 * Protocol features say what the two ends of a vhost-user socket can ask of each other.
 * Whether a device can be reset, or told of more memory, matters to every kind of device
 * and back-end, whatever carries the question, so the names are here; nothing else of
 * vhost-user is known outside src/vhost_user (scripts/check-house).  The kernel has no UAPI
 * header for them.
 *
 * Implements: "Feature negotiation" and "Protocol features" of the vhost-user
 * specification (docs/interop/vhost-user.rst of QEMU).
 */
#ifndef UMBRA_VIRTIO_FEATURE_BITS_H
#define UMBRA_VIRTIO_FEATURE_BITS_H

/* virtio 1.2, section 6 "Reserved Feature Bits"; older kernel headers lack them. */
#ifndef VIRTIO_F_NOTIFICATION_DATA
#define VIRTIO_F_NOTIFICATION_DATA 38
#endif
#ifndef VIRTIO_F_NOTIF_CONFIG_DATA
#define VIRTIO_F_NOTIF_CONFIG_DATA 39
#endif
#ifndef VIRTIO_F_ADMIN_VQ
#define VIRTIO_F_ADMIN_VQ 41
#endif

/* A balloon's, docs/balloon-protocol.md.  (The codec, which the guest's kernel compiles without
 * this header, calls it PAGE_RUN_FEATURE_BIT.) */
#define VIRTIO_BALLOON_F_PAGE_BITMAP 50

/* Virtio feature bit that says "GET_PROTOCOL_FEATURES works". */
#define VHOST_USER_F_PROTOCOL_FEATURES 30

/* Protocol features: bit numbers. */
enum vhost_user_protocol_feature {
	VHOST_USER_PROTOCOL_F_MQ = 0,
	VHOST_USER_PROTOCOL_F_LOG_SHMFD = 1,
	VHOST_USER_PROTOCOL_F_RARP = 2,
	VHOST_USER_PROTOCOL_F_REPLY_ACK = 3,
	VHOST_USER_PROTOCOL_F_MTU = 4,
	VHOST_USER_PROTOCOL_F_BACKEND_REQ = 5,
	VHOST_USER_PROTOCOL_F_CROSS_ENDIAN = 6,
	VHOST_USER_PROTOCOL_F_CRYPTO_SESSION = 7,
	VHOST_USER_PROTOCOL_F_PAGEFAULT = 8,
	VHOST_USER_PROTOCOL_F_CONFIG = 9,
	VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD = 10,
	VHOST_USER_PROTOCOL_F_HOST_NOTIFIER = 11,
	VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD = 12,
	VHOST_USER_PROTOCOL_F_RESET_DEVICE = 13,
	VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS = 14,
	VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS = 15,
	VHOST_USER_PROTOCOL_F_STATUS = 16,
	VHOST_USER_PROTOCOL_F_XEN_MMAP = 17,
	VHOST_USER_PROTOCOL_F_SHARED_OBJECT = 18,
	VHOST_USER_PROTOCOL_F_DEVICE_STATE = 19,
	VHOST_USER_PROTOCOL_F_GET_VRING_BASE_INFLIGHT = 20,
	VHOST_USER_PROTOCOL_F_GPA_ADDRESSES = 21,
	VHOST_USER_PROTOCOL_F_SHMEM = 22,
	VHOST_USER_PROTOCOL_F_SKIP_DRAIN = 23,
};

/* Of a device: the index of a ring has 8 bits in SET_VRING_KICK, _CALL and _ERR. */
#define VHOST_USER_QUEUES_MAX 256u

#endif
