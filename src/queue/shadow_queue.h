/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A shadow queue: forwards chains from one ring to another and back.
 *
 *	guest's ring                                 shadow ring
 *	driver --> [device side]  -- chain -->  [driver side] --> back-end
 *	       <--               <-- length --                <--
 *
 * Theory of operation: forward, a chain is taken from the guest's ring as a
 * judged copy and added to the shadow ring; its head on the guest's ring is the
 * token of the chain on the shadow ring, and the flight table (flight/flight_table.h), which
 * outlives the queue, says that it is there.  Backward, a
 * used chain's token says which guest chain to complete.  Each direction moves
 * a batch and publishes it with one release store and at most one notification.
 *
 * A device that sees guest memory elsewhere than the guest does (a translated
 * snapshot: memory/memory.h) gets its addresses: queue/chain_translate.h.
 *
 * A chain that finds no room in the shadow ring is given back to the guest's
 * ring ("untaken") and taken anew when a completion has made room; a chain that
 * can never fit breaks the queue, since to complete it unserved would be a lie.
 *
 * A back-end that is stopped by force may complete what it kept later, into whatever ring it
 * then knows: the successor's.  So the ids that were left behind are in flight there from
 * the start, as ghosts: a late completion ends one of them, and nothing else.
 *
 * Invariant: in flight = back.avail_idx - back.last_used - ghosts = guest.last_avail -
 * guest.used_idx, less what the guest's ring lacked when the queue was made and
 * was not added anew, whenever no call of this file is running.  The indices
 * themselves are equal only if both rings began at the same.
 *
 * A device that is reset under its chains (virtio_ops.h, BACKEND_SUSPENDS) will
 * never use what it took, and nobody knows how far it came.  A chain with
 * readable bytes asked for something, which may have been done or not, so it
 * is waited for (shadow_queue_asking()).  One without is room for what may come,
 * into which nothing has come: it is given back (shadow_queue_reclaim()), or waits in
 * the flight table and is added to the queue's successor (shadow_queue_readd()).
 *
 * Wake-ups: shadow_queue_pass() returns without SHADOW_MORE only after it has
 * armed both sides and found nothing behind its back.  While the shadow ring
 * is full the guest's kicks stay disarmed: a completion wakes us first.
 *
 * Notifications are not sent here (no system calls): the caller is told.
 *
 * Threads: one owner at a time.  Only the counters may be read by others.
 * Trust: both peers are hostile; each ring judges its own (fault.h).  The first
 * violation breaks the queue and is kept in shadow_queue_error().
 */
#ifndef UMBRA_QUEUE_SHADOW_QUEUE_H
#define UMBRA_QUEUE_SHADOW_QUEUE_H

#include "flight/flight_table.h"
#include "ring/device_ring.h"
#include "ring/driver_ring.h"
#include "ring/queue_service.h"

/*
 * What others may see of a queue.  Written by the owner alone with relaxed
 * stores, read by anybody with relaxed loads; outlives the queue, so that the
 * sums go on over many switches.
 */
struct shadow_counters {
	uint64_t requests;            /* chains completed to the guest */
	uint64_t bytes_out, bytes_in; /* readable bytes forwarded, bytes written back */
	uint64_t kicks_in, kicks_out, calls_in, calls_out; /* notifications */
	uint64_t clamped;                                  /* used lengths beyond the chain */
	uint64_t passes;                                   /* calls of shadow_queue_pass() */
	uint64_t returned;              /* chains that a reset device had, given back */
	uint64_t lost;                  /* and those that could not be */
	uint32_t table_longest;         /* descriptors of the longest indirect table that was longer
					   than the guest's ring; 0: none was */
	uint16_t last_avail, last_used; /* on the guest's ring */
	uint16_t in_flight;
};

struct shadow_queue {
	struct device_ring guest;
	struct driver_ring back;
	struct ring_chain chain; /* the chain that is being moved */
	struct shadow_counters *counters;
	struct flight_table *flights;
	uint16_t ghosts; /* chains of an earlier life that the back-end may still use */
	bool wants_room; /* a chain waits until the shadow ring has room */
	bool abandoned;  /* the guest's ring is not written any more: completions end here */
	struct ring_error error; /* of either ring, or RING_OK */
	const char *refusal;     /* a chain that can never fit; else NULL */
};

struct shadow_queue_config {
	struct device_ring_config guest;
	struct driver_ring_config back;
	struct ring_seg *segs;            /* shadow_queue_segs() of them, for this queue alone */
	struct shadow_counters *counters; /* for this queue alone */
	/* Of the guest's ring: heads as many as it has entries, ids at least as many as the
	 * shadow ring.  Where it does not stand at guest.at, it begins there. */
	struct flight_table *flights;
	const uint16_t *ghosts; /* ids that were left behind: shadow_queue_leave_behind() */
	uint16_t ghost_count;
};

/* Segments of the longest chain that passes, before and after translation. */
static inline uint32_t shadow_queue_segs(const struct shadow_queue_config *config)
{
	return MAX(MAX(config->guest.split.size, config->guest.table_max),
		   MAX(config->back.size, config->back.table_max));
}

/* Join the two rings.  What the config points to stays the caller's.
 * -EINVAL: see driver_ring_init(). */
UMBRA_MUST_CHECK int shadow_queue_init(struct shadow_queue *q,
				       const struct shadow_queue_config *config);

/* The words of enum queue_action, for a shadow queue. */
#define SHADOW_CALL_GUEST QUEUE_CALL_GUEST
#define SHADOW_KICK_BACKEND QUEUE_KICK_BACKEND
#define SHADOW_MORE QUEUE_MORE

/*
 * Move one batch each way.  Returns a mask of enum queue_action: 0 means
 * nothing moved, both sides are armed, sleep until the next notification.
 * -EPROTO: the queue is broken and moves nothing any more; the notifications
 * that what was published before the violation is owed are in *@owed.
 */
UMBRA_MUST_CHECK int shadow_queue_pass(struct shadow_queue *q, unsigned int *owed);

/* The same, but when nothing moved (0) nothing is armed: nobody will notify, so
 * look again (shadow_queue_has_work() does it cheaply) or call
 * shadow_queue_pass() before sleeping. */
UMBRA_MUST_CHECK int shadow_queue_move(struct shadow_queue *q, unsigned int *owed);
bool shadow_queue_has_work(const struct shadow_queue *q);

/* *@count: the newest of the chains in flight that the back-end has not taken, if it stopped at
 * @base, which is its word.  -EPROTO: it cannot have. */
UMBRA_MUST_CHECK int shadow_queue_untaken(const struct shadow_queue *q, struct ring_position base,
					  uint16_t *count);

/*
 * The back-end was stopped and says that it would have taken chain @base.avail next.
 * Chains from there on go back to the guest's ring, as far as they are the newest on it; those
 * that had been given to another back-end before may not be, and wait.  -EPROTO: @base is not an
 * index that the back-end can have reached.
 */
UMBRA_MUST_CHECK int shadow_queue_rewind(struct shadow_queue *q, struct ring_position base);

/*
 * Complete what the stopped back-end has used meanwhile, take nothing new.
 * Returns as shadow_queue_pass(), without SHADOW_MORE and SHADOW_KICK_BACKEND.
 * An abandoned queue can be drained even if the guest broke it.
 */
UMBRA_MUST_CHECK int shadow_queue_drain(struct shadow_queue *q, unsigned int *owed);

/* Chains in flight that have readable bytes, but for the newest @untaken chains. */
uint16_t shadow_queue_asking(const struct shadow_queue *q, uint16_t untaken);

/*
 * The device is reset and will use nothing of what is in flight, of which it has
 * not even taken the newest @untaken chains.  Those, and the ones without readable
 * bytes, are given back: as many as possible to the guest's ring, which can
 * only take its newest back; the others wait in the flight table.  What is left is lost.
 * Afterwards the queue is good for nothing more.
 */
void shadow_queue_reclaim(struct shadow_queue *q, uint16_t untaken);

/*
 * The back-end is gone, and nobody knows what it has done of what is in flight: all of that
 * waits in the flight table.  Afterwards the queue is good for nothing more.
 */
void shadow_queue_hold(struct shadow_queue *q);

/* The queue ends: what its back-end still has is lost, and of a ring that was abandoned nothing
 * is owed any more. */
void shadow_queue_end(struct shadow_queue *q);

/* What becomes of a chain that waits, when the next back-end is there. */
enum readd_fate {
	READD_GIVE, /* it is given to that one */
	READD_DROP, /* it is completed, with nothing written, as if it had been done */
};

struct readd_terms {
	/* Of @chain, which was read anew from guest memory @memory; its bytes may change yet. */
	enum readd_fate (*judge)(void *opaque, const struct memory *memory,
				 const struct ring_chain *chain);
	void *opaque;
};

/*
 * Add the chains that wait in the flight table, in the order in which they were taken, each
 * read and judged anew, before anything is taken; the caller kicks, and calls the guest.  @terms
 * NULL: all are given.
 * -EPROTO: the guest has made something else of one, the queue is broken.
 */
UMBRA_MUST_CHECK int shadow_queue_readd(struct shadow_queue *q, const struct readd_terms *terms);

/* The guest has forgotten the ring, or broken it: never write to it again. */
void shadow_queue_abandon(struct shadow_queue *q);

static inline bool shadow_queue_is_broken(const struct shadow_queue *q)
{
	return q->error.fault != RING_OK || q->refusal;
}

/* Chains that the back-end has and has not used. */
static inline uint16_t shadow_queue_in_flight(const struct shadow_queue *q)
{
	return (uint16_t)(driver_ring_in_flight(&q->back) - q->ghosts);
}

/*
 * The queue ends before its back-end has used all that it has, which it may do yet: the ids
 * of these chains go to @ids (as many entries as the shadow ring), for the queue's
 * successor, which gives them to no other chain.  Returns their number.
 */
uint16_t shadow_queue_leave_behind(const struct shadow_queue *q, uint16_t *ids);

/* Why the queue is broken, as a sentence.  Returns @text. */
char *shadow_queue_error(const struct shadow_queue *q, char *text, size_t size);

#endif
