/* SPDX-License-Identifier: BSD-2-Clause */
/* Families of vhost-user back-ends: see vhost_user_family.h. */
#include "vhost_user/vhost_user_family.h"

#include "base/bits.h"
#include "vhost_user/protocol.h"

/*
 * DPDK's library, and what is built on it (testpmd, OVS, SPDK): polls, and answers a stop when
 * its device has come to rest.  It alone offers what belongs to network cards, whatever
 * the device is.
 */
static const struct vhost_user_family poller = {
	.name = "polling (DPDK)",
	.hush = HUSH_NOT,
	.stops = "each queue by itself, with GET_VRING_BASE, which it answers when it is at rest",
};

/*
 * umbra's own: a queue that is disabled or stopped is out of its thread's hands when that is
 * answered.  It offers a feature that no other device of any type is known to have
 * (VIRTIO_BALLOON_F_PAGE_BITMAP, docs/balloon-protocol.md).
 */
static const struct vhost_user_family own_balloon = {
	.name = "umbra balloon",
	.hush = HUSH_NOT,
	.stops = "each queue by itself, with GET_VRING_BASE, which it answers when it is at rest",
};

/* Nothing is known of it, and nothing but the oldest messages may be said. */
static const struct vhost_user_family plain = {
	.name = "plain",
	.hush = HUSH_NOT,
	.stops = "each queue by itself, with GET_VRING_BASE",
};

/* QEMU's library (qemu-storage-daemon, contrib/vhost-user-*): always offers its doorbell. */
static const struct vhost_user_family libvhost_user = {
	.name = "libvhost-user (QEMU)",
	.hush = HUSH_BY_KICK,
	.stops = "each queue by itself, with GET_VRING_BASE, when it has used what it took",
};

/*
 * passt reads a kick from the fd that its epoll named, and ends where that was closed by a
 * message that came in the same batch ("vhost-user kick eventfd_read(): Bad file
 * descriptor"), be it GET_VRING_BASE or SET_VRING_KICK.  Whether a guest kicks just then is in
 * nobody's hand, so no order of messages is safe while it runs.  It has one pair of queues,
 * and so no MQ, which DPDK and all of the rust-vmm crates offer.
 */
static const struct vhost_user_family passt = {
	.name = "passt",
	.hush = HUSH_BY_ENABLE,
	.not_while_kicked =
		"the back-end (passt) would end at a kick of the guest that comes as its "
		"rings are stopped",
	.stops = "each queue by itself, with GET_VRING_BASE, while nobody kicks",
};

/*
 * Those of the rust-vmm crates (virtiofsd, vhost-device-*), and whoever is not known: this is
 * what QEMU says to every device that it stops, so it is borne.
 */
static const struct vhost_user_family by_enable = {
	.name = "stopped as by QEMU (rust-vmm and others)",
	.hush = HUSH_BY_ENABLE,
	.stops = "each queue by itself, with SET_VRING_ENABLE 0 and GET_VRING_BASE",
};

const struct vhost_user_family *vhost_user_family_find(uint64_t features, uint64_t protocol)
{
	if (!(features & BIT64(VHOST_USER_F_PROTOCOL_FEATURES)))
		return &plain;
	if (features & BIT64(VIRTIO_BALLOON_F_PAGE_BITMAP))
		return &own_balloon;
	if (protocol & BIT64(VHOST_USER_PROTOCOL_F_DEVICE_STATE) &&
	    !(protocol & BIT64(VHOST_USER_PROTOCOL_F_MQ)))
		return &passt;
	if (protocol & (BIT64(VHOST_USER_PROTOCOL_F_RARP) | BIT64(VHOST_USER_PROTOCOL_F_MTU)))
		return &poller;
	if (protocol & BIT64(VHOST_USER_PROTOCOL_F_HOST_NOTIFIER))
		return &libvhost_user;
	return &by_enable;
}
