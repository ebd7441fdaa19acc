/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One ring of a shadow device: what the front-end said of it, and its life at
 * the back-end in either mode.
 *
 *	STOPPED --start--> PASSED or SHADOWED --stop--> STOPPED
 *	SHADOWED --(a peer violates the ring)--> BROKEN --stop--> STOPPED
 *
 * Theory of operation, stopping.  A back-end that is told to stop answers with
 * the index it would have taken next, its base.  Some complete what they have
 * in flight before the answer, others after it.  So stopping has two steps:
 * shadow_ring_halt() asks for the base and gives the chains that were not taken
 * back to the guest's ring; shadow_ring_is_drained() is then asked until every
 * chain that was taken is used, and the guest is called for those that came
 * without a call.  Only then may another owner work on the ring.  A ring that
 * does not drain is resumed where it was halted.
 *
 * libvhost-user cannot bear to notify a call between the stop and a new call fd
 * (see the vhost-user client), so before the stop the ring is hushed: the
 * back-end gets a kick fd on which nobody kicks, and what it took before gets a
 * moment to complete.  This is a courtesy, not a promise that is relied on.
 *
 * Theory of operation, indices.  A shadow ring starts at the guest ring's
 * index and each chain maps to one chain, so the two rings' indices stay equal.
 * A back-end that remembers an index over a stop (libvhost-user keeps the used
 * index that it last signalled, and would skip a call if the index came back
 * to it) sees no jump.
 *
 * Threads: the device's thread.
 */
#ifndef UMBRA_SHADOW_SHADOW_RING_H
#define UMBRA_SHADOW_SHADOW_RING_H

#include "shadow/backend.h"
#include "shadow/shadow_host.h"
#include "shadow/shadow_queue.h"

enum ring_run { RING_STOPPED, RING_PASSED, RING_SHADOWED, RING_BROKEN };

struct shadow_ring {
	unsigned int index;

	/* What the front-end said. */
	uint16_t size; /* 0: nothing yet */
	bool has_addr;
	uva_t desc, avail, used;
	uint16_t base;
	int kick_fd, call_fd, err_fd; /* owned; -1: none */
	bool enabled;

	/* Its life. */
	enum ring_run run;
	bool hushed;        /* the back-end waits on quiet_fd for kicks */
	bool halted;        /* between halt and resume or the end of the stop */
	uint16_t halt_base; /* what the back-end answered */
	uint16_t gap;       /* chains that were taken and never used before we came: base - used */
	struct split_ring split; /* the guest's ring in our memory, while it runs */

	/* The shadow, while SHADOWED or BROKEN. */
	struct shadow_queue *queue;
	void *private; /* driver_ring's */
	struct ring_seg *segs;
	uva_t shadow_desc, shadow_avail, shadow_used;
	int back_kick_fd, back_call_fd; /* ours; made once, kept */
	int quiet_fd;                   /* an eventfd that nobody kicks */
	struct queue_service service;
	bool serving;

	struct shadow_counters counters;
	char error[UMBRA_ERROR_SIZE];
};

/* Where a ring lives: what the functions below need of the device. */
struct ring_context {
	struct shadow_host *host;
	struct backend *backend;
	const struct memory *memory;     /* the guest's */
	const struct memory_region *own; /* the piece of our own memory for this ring */
	uint64_t guest_features, shadow_features;
};

void shadow_ring_init(struct shadow_ring *r, unsigned int index);
/* Forget what the front-end said; the counters stay.  The ring is STOPPED. */
void shadow_ring_forget(struct shadow_ring *r);
/* Close everything. */
void shadow_ring_fini(struct shadow_ring *r);

/*
 * Start at r->base in the given mode, then kick once, since nobody knows which
 * kicks went unheard.  -EINVAL: the front-end's settings do not make a ring.
 */
UMBRA_MUST_CHECK int shadow_ring_start(struct shadow_ring *r, const struct ring_context *c,
				       bool shadowed, struct umbra_error *err);

/* Before halting: see above.  The ring is no longer served. */
UMBRA_MUST_CHECK int shadow_ring_hush(struct shadow_ring *r, const struct ring_context *c,
				      struct umbra_error *err);
/* Has a hushed ring, as far as one can see, nothing in flight?  *@used says how
 * far the back-end is, so that the caller sees whether it gets on. */
bool shadow_ring_is_quiet(const struct shadow_ring *r, const struct ring_context *c,
			  uint16_t *used);

/* First step of stopping: see above.  -EPROTO: the queue is broken, or the
 * back-end's base is a lie; other errors as of backend.h. */
UMBRA_MUST_CHECK int shadow_ring_halt(struct shadow_ring *r, const struct ring_context *c,
				      struct umbra_error *err);
/* 1: all that was taken is used, 0: not yet, -EPROTO: broken. */
UMBRA_MUST_CHECK int shadow_ring_is_drained(struct shadow_ring *r, const struct ring_context *c);
/* Chains that a halted ring waits for. */
uint16_t shadow_ring_undrained(const struct shadow_ring *r);
/* Go on where the ring was hushed or halted, in the same mode. */
UMBRA_MUST_CHECK int shadow_ring_resume(struct shadow_ring *r, const struct ring_context *c,
					struct umbra_error *err);
/* Second step of stopping: leave the halted ring to others.  r->base is where
 * it can go on. */
void shadow_ring_finish(struct shadow_ring *r, const struct ring_context *c);

/* Let go of the ring at once, without a word to the back-end or the guest. */
void shadow_ring_discard(struct shadow_ring *r, const struct ring_context *c);

/* Stop and start serving a SHADOWED ring, e.g. around a change of its fds. */
void shadow_ring_pause(struct shadow_ring *r, const struct ring_context *c);
UMBRA_MUST_CHECK int shadow_ring_unpause(struct shadow_ring *r, const struct ring_context *c,
					 struct umbra_error *err);

/* Find the guest's ring in c->memory (anew, after the table has changed). */
UMBRA_MUST_CHECK int shadow_ring_resolve(struct shadow_ring *r, const struct ring_context *c,
					 struct umbra_error *err);

/* After a violation: stop serving, keep the reason (NULL: the queue's) in
 * r->error.  The back-end still has the ring, and is told when the front-end
 * stops it: what is in flight there must not end up in the ring's next life. */
void shadow_ring_break(struct shadow_ring *r, const struct ring_context *c, const char *reason);

/* Bytes of our own memory that a shadow ring may need, whatever its size. */
#define SHADOW_SLOT_BYTES (4ull << 20)

#endif
