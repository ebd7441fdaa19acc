/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a front-end said of a ring, judged, and found in the guest's memory.
 *
 * Theory of operation: a front-end describes a ring in pieces (size, addresses, base, three
 * eventfds, enabled), in an order of its own, and says some of them again.  They are kept
 * here.  When the ring starts it is found in the memory that there is then, and its base is
 * judged by its own two indices: one that is behind what was used would have requests done
 * again, one ahead of what is available would have them skipped.
 *
 * The contract of what is said again of a ring that was started, for every device:
 *
 *	the same size, the same addresses	nothing happens: a VMM says them again to turn
 *						a log on or off, and some back-ends drop their
 *						rings on them
 *	other addresses				the ring is stopped, and started there, where it
 *						stood.  That it lies there is proven before: if
 *						not, the message is refused and the ring goes on
 *						where it was.  Where it does not stand there as
 *						it should it is broken, as at every start
 *	another size, any base			the ring is stopped, and waits to be started: the
 *						driver has forgotten it (User Mode Linux says so in
 *						no other way)
 *
 * Ownership: the three fds are the struct's; the ring's memory is the guest's, and mapped as
 * long as the snapshot that it was found in is held.
 * Threads: the device's thread.
 * Trust: all of it is the front-end's word.  After guest_ring_find() the parts are mapped in
 * full length, and aligned; after guest_ring_judge() the base is one that the ring can have.
 * Implements: SET_VRING_NUM, _ADDR, _BASE of the vhost-user specification.
 */
#ifndef UMBRA_VIRTIO_GUEST_RING_H
#define UMBRA_VIRTIO_GUEST_RING_H

#include "memory/memory.h"
#include "ring/position.h"
#include "ring/split.h"
#include "umbra/error.h"
#include "virtio/virtio_ops.h"

struct guest_ring {
	unsigned int index;
	uint16_t size; /* entries; 0: nothing was said yet */
	bool has_addr, enabled;
	struct virtio_ring_addr addr;
	struct ring_position base;    /* where it starts; its `used` counts once it was judged */
	int kick_fd, call_fd, err_fd; /* -1: none */
	struct split_ring split;      /* where it lies in our memory, once it was found */
};

void guest_ring_init(struct guest_ring *g, unsigned int index);

/* Nothing was ever said of it. */
void guest_ring_forget(struct guest_ring *g);

/* -EINVAL: no ring has @size entries. */
UMBRA_MUST_CHECK int guest_ring_check_size(const struct guest_ring *g, uint32_t size,
					   struct umbra_error *err);

/* Was @addr said of it? */
bool guest_ring_is_at(const struct guest_ring *g, const struct virtio_ring_addr *addr);

/*
 * Find the ring in @memory (NULL: there is none): where its front-end said, or, with @addr,
 * there, which then has been said.  -EINVAL: it is not there in full, or something has not
 * been said yet; nothing has changed.
 */
UMBRA_MUST_CHECK int guest_ring_find(struct guest_ring *g, const struct memory *memory,
				     struct umbra_error *err);
UMBRA_MUST_CHECK int guest_ring_find_at(struct guest_ring *g, const struct virtio_ring_addr *addr,
					const struct memory *memory, struct umbra_error *err);

/*
 * @text, an error's about this ring, as the reason for which it is broken: without "queue N: " in
 * front.  An error names its queue, because who reads it has nothing else; a reason is kept with
 * its queue, and whoever shows it says which.
 */
const char *guest_ring_reason(const struct guest_ring *g, const char *text);

/* May the ring, which was found, start at its base?  -EPROTO: it cannot stand there. */
UMBRA_MUST_CHECK int guest_ring_judge(struct guest_ring *g, struct umbra_error *err);

#endif
