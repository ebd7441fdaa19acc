/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Families of vhost-user back-ends, and what each bears.
 *
 * Theory of operation.  To a back-end umbra looks like a VMM.  But a VMM stops a ring when
 * its guest stands still, and umbra while the guest runs, so that it has to bring the ring
 * to rest first; and there the back-ends that are widely used differ.  This file is
 * the one place that knows them apart.  There is no message that tells a back-end's name,
 * so it is told by what it offers, which was read from their sources and is held by the
 * tests that run them (tests/unit/vhost_family.c has what they were seen to offer).
 *
 * What umbra says that a VMM does not say, or not in that state, all of it:
 *
 *   message                          to             why, and who bears it
 *   SET_VRING_KICK on a running      libvhost-user  it takes until it hears no more kicks, and
 *   ring, with a silent eventfd                     ignores SET_VRING_ENABLE.  rust-vmm's never
 *                                                   watch the new fd, and end at the next stop
 *   SET_VRING_CALL right behind      libvhost-user  it has closed its call fd, and hangs up at
 *   GET_VRING_BASE                                  a completion that finds none
 *   SET_VRING_ENABLE 0, a kick,      all others     rust-vmm's work in rounds, and spin or end
 *   later GET_VRING_BASE                            where the ring is gone in the midst of one
 *   one kick on that eventfd, and    libvhost-user  a ring without EVENT_IDX does not tell what
 *   the same SET_VRING_KICK again                   was taken (vhost_user_hush.c)
 *   ADD_MEM_REG of umbra's own       those with     its own rings need more memory; QEMU says it
 *   memory as a ring starts          memory slots   when memory is plugged in (shadow_own.c)
 *   SET_FEATURES, the same again     all            before a ring starts after a status of 0, by
 *                                                   which it may have been forgotten
 *   GET_VRING_BASE of one ring while all            QEMU says it for VIRTIO_F_RING_RESET
 *   others run
 *   GET_VRING_BASE and a new start   all            QEMU says both when a machine is stopped and
 *   at the same index, guest running                goes on
 *   SET_VRING_ENABLE of a ring that  all            feature bit 30 is negotiated for umbra's own
 *   the front-end cannot enable                     needs, so rings start disabled
 *
 * Nothing is said without the feature or protocol feature that it needs having been
 * negotiated on this very connection (GET_QUEUE_NUM without MQ ends rust-vmm's).
 *
 * Threads: any; nothing is kept.
 */
#ifndef UMBRA_VHOST_USER_VHOST_USER_FAMILY_H
#define UMBRA_VHOST_USER_VHOST_USER_FAMILY_H

#include <stdbool.h>
#include <stdint.h>

#include "vhost_user/vhost_user_hush.h"

struct vhost_user_family {
	const char *name;   /* as people know it */
	enum hush_way hush; /* how a ring is brought to rest */
	/* Why a ring is stopped for nobody but the front-end, whose guest stands still, as long as
	 * the kicks are the guest's; NULL: it is. */
	const char *not_while_kicked;
	const char *stops; /* the same, as a sentence for people */
};

/* The family of a back-end that offers @features (virtio's and bit 30) and @protocol (0
 * where bit 30 is missing). */
const struct vhost_user_family *vhost_user_family_find(uint64_t features, uint64_t protocol);

#endif
