/* SPDX-License-Identifier: BSD-2-Clause */
/* Families of vhost-user back-ends: see vhost_user_family.h. */
#include "port/vhost_user_family.h"

#include "base/bits.h"
#include "vhost/protocol.h"

/*
 * DPDK's library, and what is built on it (testpmd, OVS, SPDK): polls, and answers a stop when
 * its device has come to rest.  It alone offers what belongs to network cards, whatever
 * the device is.
 */
static const struct vhost_user_family poller = {
	.name = "polling (DPDK)",
	.hush = BACKEND_HUSH_NOT,
	.stops = "each queue by itself, with GET_VRING_BASE, which it answers when it is at rest",
};

/* Nothing is known of it, and nothing but the oldest messages may be said. */
static const struct vhost_user_family plain = {
	.name = "plain",
	.hush = BACKEND_HUSH_NOT,
	.stops = "each queue by itself, with GET_VRING_BASE",
};

/* QEMU's library (qemu-storage-daemon, contrib/vhost-user-*): always offers its doorbell. */
static const struct vhost_user_family libvhost_user = {
	.name = "libvhost-user (QEMU)",
	.hush = BACKEND_HUSH_KICK,
	.stops = "each queue by itself, with GET_VRING_BASE, when it has used what it took",
};

/*
 * Those of the rust-vmm crates (virtiofsd, vhost-device-*), and whoever is not known: this is
 * what QEMU says to every device that it stops, so it is borne.
 */
static const struct vhost_user_family by_enable = {
	.name = "stopped as by QEMU (rust-vmm and others)",
	.hush = BACKEND_HUSH_ENABLE,
	.stops = "each queue by itself, with SET_VRING_ENABLE 0 and GET_VRING_BASE",
};

const struct vhost_user_family *vhost_user_family_find(uint64_t features, uint64_t protocol)
{
	if (!(features & BIT64(VHOST_USER_F_PROTOCOL_FEATURES)))
		return &plain;
	if (protocol & (BIT64(VHOST_USER_PROTOCOL_F_RARP) | BIT64(VHOST_USER_PROTOCOL_F_MTU)))
		return &poller;
	if (protocol & BIT64(VHOST_USER_PROTOCOL_F_HOST_NOTIFIER))
		return &libvhost_user;
	return &by_enable;
}
