/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A device that serves the guest's own rings: all of it but what it is for.
 *
 * Theory of operation: everything that a front-end says of such a device, and whatever becomes
 * of its rings, is here, once: struct virtio_ops is implemented, the memory table kept, rings are
 * found in it, handed to a thread of the host, taken back, broken and forgotten.  A kind of
 * device brings a table (struct guest_rings_kind): a function that moves one batch of a ring,
 * and hooks for what it keeps beside the rings.  It begins with a struct guest_rings, and each
 * of its queues with a struct served_ring.
 *
 * What a front-end says again of a ring: virtio/guest_ring.h.  The life of one:
 * virtio/served_ring.h.
 *
 * While anything changes of what queues work on, all are out of service: guest_rings_pause(),
 * the change, guest_rings_resume().  Both threads then see the same world, and no lock is
 * needed.
 *
 * Ownership: the rings' fds and the memory are the device's; the host is borrowed.
 * Threads: the device's.  What a RUNNING ring's pass works on is its worker's.
 * Trust: what a front-end says is judged here, and by guest_ring.c; what is in a ring, by
 * ring/device_ring.c; what is in the buffers, by the kind.
 * Implements: struct virtio_ops, "of both" and "of a device".
 */
#ifndef UMBRA_VIRTIO_GUEST_RINGS_H
#define UMBRA_VIRTIO_GUEST_RINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "ring/device_host.h"
#include "umbra/error.h"
#include "virtio/served_ring.h"
#include "virtio/virtio_ops.h"

struct guest_rings {
	struct virtio_device virtio; /* first: see virtio/virtio_ops.h */
	const struct guest_rings_kind *kind;
	struct device_host *host;
	struct memory *memory;      /* the guest's, or NULL */
	uint64_t offered, features; /* those that the driver took; 0: nothing was said */
	uint8_t status;
};

/* What a kind of device brings.  What stands below "hooks" may be NULL. */
struct guest_rings_kind {
	const char *name;   /* "a balloon": for errors */
	unsigned int count; /* of rings */
	struct served_ring *(*ring)(struct guest_rings *g, unsigned int index);
	/* As queue_service::pass; the queue is a struct served_ring.  On a thread of the host. */
	int (*pass)(void *ring, unsigned int *notify);

	/* Hooks.  The configuration space; NULL: there is none. */
	int (*get_config)(struct guest_rings *g, uint32_t offset, void *data, uint32_t size,
			  struct umbra_error *err);
	int (*set_config)(struct guest_rings *g, uint32_t offset, const void *data, uint32_t size,
			  struct umbra_error *err);

	/* A ring starts where front.base says, by the front-end's kick or (@goes_on) because it
	 * has another address; no queue is in service. */
	void (*start)(struct guest_rings *g, struct served_ring *r, bool goes_on);
	/* May one that is started be served?  NULL: yes. */
	bool (*is_served)(const struct guest_rings *g, const struct served_ring *r);
	/* It is out of service: what its pass began and has not ended never began.  And it is
	 * stopped or broken: what was taken and held is given back. */
	void (*pause)(struct guest_rings *g, struct served_ring *r);
	void (*stop)(struct guest_rings *g, struct served_ring *r);

	/* No queue is in service.  There will be a new memory table; an error refuses it. */
	int (*take_memory)(struct guest_rings *g, struct memory *memory, struct umbra_error *err);
	/* Queues are about to be served again with what was negotiated and mapped meanwhile. */
	void (*resume)(struct guest_rings *g);
	/* A ring was started or enabled, or there is another memory table: all is done. */
	void (*changed)(struct guest_rings *g);

	/* A front-end has come; it has gone, and everything of its with it. */
	void (*attach)(struct guest_rings *g);
	void (*detach)(struct guest_rings *g);

	/* The front-end has reset the device; or has said a status of 0, after which its rings
	 * are stopped by it.  No queue is in service. */
	void (*reset)(struct guest_rings *g);
	void (*status_cleared)(struct guest_rings *g);
};

/* @features: those that are offered beside VERSION_1 and what the rings can do. */
void guest_rings_init(struct guest_rings *g, const struct guest_rings_kind *kind,
		      struct device_host *host, uint64_t features);

/* A front-end has gone: let go of everything of its. */
void guest_rings_detach(struct guest_rings *g);

/* Take all queues out of service, and put those back that may be served. */
void guest_rings_pause(struct guest_rings *g);
void guest_rings_resume(struct guest_rings *g);

#endif
