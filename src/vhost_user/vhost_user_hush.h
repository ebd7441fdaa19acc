/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How a back-end is brought to take no more of a ring that runs, in the way of its family.
 *
 * Theory of operation.  A guest that is passed through goes on adding chains, and few back-ends
 * bear to be stopped in the midst of their work.  So each is hushed first, in the one way that it
 * bears (vhost_user_family.h), and says, or lets see, when it takes no more.  What is told it, and
 * the eventfds, are the owner's (struct vhost_user_hush_means), so that the ways are also walked
 * between simulated peers.
 *
 * Ownership: the silent eventfds are ours, made when a ring first needs one, and kept.  A ring's
 * kick fd is borrowed.
 * Threads: the device's thread.
 * Trust: that a kick was read says its reader, a peer, which harms itself alone if it lies.
 */
#ifndef UMBRA_VHOST_USER_VHOST_USER_HUSH_H
#define UMBRA_VHOST_USER_VHOST_USER_HUSH_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/feature_bits.h"
#include "virtio/virtio_ops.h"

enum hush_way {
	/* Not at all: a stop is answered when all that was taken is used. */
	HUSH_NOT,
	/* By a kick fd on which nobody kicks.  A completion after the stop may end the
	 * connection, so what it took has to be used before.  With EVENT_IDX it stores
	 * avail_event at each chain that it takes, so its ring tells what it has.  A kick
	 * makes it take all that is available before it answers its next message.  It alone
	 * hears the kicks of a fd that it is given while the ring runs. */
	HUSH_BY_KICK,
	/* By SET_VRING_ENABLE 0.  It works in rounds, and a ring that is stopped in the midst
	 * of one may end it.  It reads a kick of a disabled ring, and takes nothing for it:
	 * so once a kick that was sent after it was disabled is read, its last round is
	 * over, and (with EVENT_IDX) its ring tells what it has.  Completions after
	 * the stop are silent, and harm nobody. */
	HUSH_BY_ENABLE,
};

/* What it takes; each with the codes of virtio_ops.h. */
struct vhost_user_hush_means {
	/* Have the back-end process that ring @index is kicked there, or is enabled or not. */
	int (*set_kick)(void *opaque, unsigned int index, int fd, struct umbra_error *err);
	int (*set_enabled)(void *opaque, unsigned int index, bool enabled, struct umbra_error *err);
	int (*make_eventfd)(void *opaque, int *fd, struct umbra_error *err);
	void (*notify)(void *opaque, int fd); /* -1: nobody */
	/* Has its reader read all notifications?  -1: yes. */
	bool (*is_heard)(void *opaque, int fd);
};

struct vhost_user_hush {
	const struct vhost_user_hush_means *means;
	void *opaque;
	enum hush_way way;
	bool leaves_kicks; /* seen not to read the kicks of a disabled ring: they tell nothing */
	struct hushed_ring {
		int kick_fd;  /* on which the ring is kicked when it is not hushed */
		int quiet_fd; /* on which nobody kicks; -1: not made yet */
		bool is_muted, is_sounding;
	} rings[VHOST_USER_QUEUES_MAX];
};

void vhost_user_hush_init(struct vhost_user_hush *h, const struct vhost_user_hush_means *means,
			  void *opaque);
void vhost_user_hush_fini(struct vhost_user_hush *h);

/* Ring @index, which is not hushed, is kicked on @kick_fd from here on; -1: on none, or it was
 * stopped. */
void vhost_user_hush_note(struct vhost_user_hush *h, unsigned int index, int kick_fd);

/* As of virtio_ops.h: ring_hush, ring_unhush, ring_rest, ring_sound, ring_presume_rest. */
UMBRA_MUST_CHECK int vhost_user_hush_begin(struct vhost_user_hush *h, unsigned int index,
					   bool is_fed, struct umbra_error *err);
UMBRA_MUST_CHECK int vhost_user_hush_end(struct vhost_user_hush *h, unsigned int index,
					 struct umbra_error *err);
enum ring_rest vhost_user_hush_rest(const struct vhost_user_hush *h, unsigned int index);
UMBRA_MUST_CHECK int vhost_user_hush_sound(struct vhost_user_hush *h, unsigned int index,
					   struct umbra_error *err);
bool vhost_user_hush_presume(struct vhost_user_hush *h, unsigned int index, uint64_t waited_ms);

#endif
