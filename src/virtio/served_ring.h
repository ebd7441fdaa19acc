/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest's ring that a device of ours serves itself (guest_rings.h), and its life.
 *
 *	STOPPED ──start──► PAUSED ◄──pause, resume──► RUNNING
 *	   ▲  │               │                          │
 *	   │  └─cannot stand─►│◄─────────break───────────┤
 *	   │                  ▼                          │
 *	   │               BROKEN                        │
 *	   └──────────────────┴───────────halt───────────┘
 *
 * It is PAUSED for as long as it is disabled, and while what its queue works on changes.  Where
 * it stands its device_ring knows while it is PAUSED or RUNNING, and front.base else.
 *
 * A broken one is looked at no more until it is started anew; the front-end is told by the err
 * fd, and by NEEDS_RESET in the status.  The others go on.
 *
 * Ownership: the fds are the struct's, the ring's memory is the guest's.
 * Threads: the device's.  What the pass works on is its worker's while it is RUNNING.
 * Trust: what a front-end says is judged by guest_ring.c, what is in the ring by
 * ring/device_ring.c.
 */
#ifndef UMBRA_VIRTIO_SERVED_RING_H
#define UMBRA_VIRTIO_SERVED_RING_H

#include <stdbool.h>
#include <stdint.h>

#include "ring/chain.h"
#include "ring/device_ring.h"
#include "ring/queue_service.h"
#include "umbra/error.h"
#include "virtio/guest_ring.h"

struct guest_rings;

enum served_state {
	SERVED_STOPPED, /* the front-end has not started it, or has stopped it */
	SERVED_PAUSED,  /* it was found, and stands where it can; nobody serves it */
	SERVED_RUNNING, /* a thread of the host has it */
	SERVED_BROKEN,  /* started, and of no use: `error` */
};

/* One ring, and its life here.  The first member of a kind's queue. */
struct served_ring {
	struct guest_ring front; /* what the front-end said of it */
	enum served_state state;
	struct device_ring ring; /* valid when PAUSED and RUNNING */
	struct ring_chain chain; /* room for one of its chains */
	uint64_t kicks;          /* atomic; that came */
	struct queue_service service;
	char error[UMBRA_ERROR_SIZE]; /* of a BROKEN one, why */
};

static inline bool served_ring_is_started(const struct served_ring *r)
{
	return r->state != SERVED_STOPPED;
}

/*
 * Of a STOPPED one: afterwards it is PAUSED, or BROKEN because it cannot stand where the
 * front-end says.  @goes_on: see guest_rings_kind::start.  No queue is in service.  -EINVAL: it
 * is not in memory, or something has not been said yet; -ENOMEM.
 */
UMBRA_MUST_CHECK int served_ring_start(struct guest_rings *g, struct served_ring *r, bool goes_on,
				       struct umbra_error *err);
/* Out of service, if it is in it. */
void served_ring_pause(struct guest_rings *g, struct served_ring *r);
/* 0: it is in service, or has no reason to be.  What the host says if it does not serve it. */
UMBRA_MUST_CHECK int served_ring_serve(struct guest_rings *g, struct served_ring *r,
				       struct umbra_error *err);
/* The same; where it is not served it is broken. */
void served_ring_resume(struct guest_rings *g, struct served_ring *r);
void served_ring_break(struct guest_rings *g, struct served_ring *r, const char *reason);
/* It is looked at no more until it is started again, at front.base. */
void served_ring_halt(struct guest_rings *g, struct served_ring *r);
/* And nothing was ever said of it. */
void served_ring_forget(struct guest_rings *g, struct served_ring *r);

/* There is another memory table: the ring has moved with it, its indices have not. */
void served_ring_follow(struct guest_rings *g, struct served_ring *r);
/* The host may have found it broken. */
void served_ring_check(struct guest_rings *g, struct served_ring *r);

#endif
