/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest, a shadow queue that keeps a flight table, and a back-end, over real rings; the
 * shadow queue is the product's (queue/shadow_queue.h).  It can be killed at any moment, and
 * what the table then says is held against what the guest and the back-end know.
 *
 * Chains are numbered as the guest makes them available, from 0; the number of a chain stands in
 * its first address, so that whoever sees its descriptors knows it, and with the base
 * of the guest's ring it gives the chain's index.
 *
 * The back-end is simulated: it takes all that it sees, and completes in any order.  A new
 * shadow ring is a new back-end, which knows nothing of what the last one had; the number of
 * the table's life tells shadow rings apart, since each queue renews it.
 *
 * Where a world is one `by_region`, the shadow writes an in-flight region (flight/region.h) beside
 * the table, which dies with it: the region is what is judged, and recovered from.
 */
#ifndef UMBRA_TEST_KILL_WORLD_H
#define UMBRA_TEST_KILL_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "flight/flight_judge.h"
#include "flight/region_judge.h"
#include "queue/shadow_queue.h"

#ifndef WORLD_RING_MOST
#define WORLD_RING_MOST 4u
#endif
#define WORLD_CHAINS_MOST (WORLD_RING_MOST <= 4 ? 8u : 1u << 17)
#define WORLD_RING_BYTES (512u * WORLD_RING_MOST)
#define WORLD_LIVES 4u    /* shadow rings that are remembered */
#define WORLD_BASE 65534u /* of all rings: their indices wrap soon */

struct world_chain {
	uint16_t head;    /* on the guest's ring */
	uint16_t id;      /* as which the back-end took it */
	uint16_t seen_id; /* as which the observer saw it, on the shadow ring */
	uint16_t seen_at; /* of this index, ... */
	uint32_t shown;   /* ... of the shadow ring of this life; 0: on none */
	uint8_t applied;  /* by a back-end; saturates */
	bool completed;   /* the guest has got it back */
};

/* What survives the shadow. */
struct world {
	uint16_t size, back_size;
	struct flight_sizes sizes;
	bool by_region;     /* what is in flight is told by the region alone */
	uint32_t back_life; /* atomic: a shadow ring of this life is there, in back_ring[life %
			       WORLD_LIVES] */
	uint32_t attached;  /* atomic: the back-end works on that one, or did until it died */
	uint32_t severed;   /* atomic: the back-end of that one is lost, or reset: it has nothing */

	/* the guest */
	struct driver_ring guest;
	uint32_t added, got;
	/* the back-end */
	bool backend_lives;
	struct device_ring backend;
	struct ring_chain taken;
	struct ring_seg taken_segs[2];
	uint32_t held_count;
	uint32_t held[WORLD_RING_MOST]; /* numbers, taken and not completed */
	/* what the observer has seen of shadow rings */
	uint32_t seen_life;
	uint16_t seen_avail;

	struct world_chain chains[WORLD_CHAINS_MOST];
	uint8_t guest_private[64 * WORLD_RING_MOST] __attribute__((aligned(64)));
	uint8_t guest_ring[WORLD_RING_BYTES] __attribute__((aligned(64)));
	uint8_t back_ring[WORLD_LIVES][WORLD_RING_BYTES] __attribute__((aligned(64)));
	uint8_t table[WORLD_RING_BYTES + 1024] __attribute__((aligned(64)));
	uint8_t region[16 + 16 * WORLD_RING_MOST] __attribute__((aligned(64)));
};

/* What dies with it. */
struct shadow {
	struct world *world;
	struct shadow_queue queue;
	struct flight_table flights;
	struct ring_seg segs[WORLD_RING_MOST];
	struct flight list[WORLD_RING_MOST];
	uint8_t back_private[64 * WORLD_RING_MOST] __attribute__((aligned(64)));
};

extern void world_failed(const char *what, int line);
#define WORLD_EXPECT(what)                                                                         \
	do {                                                                                       \
		if (!(what))                                                                       \
			world_failed(#what, __LINE__);                                             \
	} while (0)

void world_make(struct world *w, uint16_t size, uint16_t back_size, bool by_region);

/* The guest adds a chain.  False: there is no room. */
bool world_guest_add(struct world *w);
/* It gets back what is used; returns how many. */
uint32_t world_guest_get(struct world *w);
/* The back-end takes all that is available. */
void world_backend_take(struct world *w);
/* It completes the @i-th of those that it holds. */
void world_backend_complete(struct world *w, uint32_t i);
/* It goes over to the newest shadow ring, if it was not there yet. */
void world_backend_attach(struct world *w);
/* It forgets all that it has; the next one attaches to another shadow ring. */
void world_backend_die(struct world *w);

/* A shadow that begins; one that takes over from a dead one. */
void shadow_make(struct shadow *s, struct world *w);
void shadow_recover(struct shadow *s, struct world *w);
/* Move what there is, each way, or backward alone.  True: something moved. */
bool shadow_move(struct shadow *s);
bool shadow_drain(struct shadow *s);

/* How a back-end ends. */
enum shadow_end {
	SHADOW_LOST,    /* nobody knows what it has done */
	SHADOW_STOPPED, /* it says what it has not taken, and then is lost */
	SHADOW_RESET,   /* it has taken all, and will use none */
};

/* Could it end so?  What is asked of a device that is reset is waited for. */
bool shadow_can_end(const struct shadow *s, enum shadow_end end);
/* It does: begin a new shadow ring with what was in flight.  One that is stopped is on the
 * newest shadow ring, of which it may have taken nothing. */
void shadow_restart(struct shadow *s, enum shadow_end end);

/*
 * What does the table say, and does that go with what everybody knows?  @at_rest: the shadow is not
 * in the midst of something, and there is no "may have been".  Fails the test if not.
 */
void world_judge(struct world *w, bool at_rest);

/* How often it said what of a chain; a test in which one was never said shows nothing:
 * world_has_answered() all.  A region never says that a chain was taken and not handed over. */
enum world_answer {
	WORLD_NOT_TAKEN,
	WORLD_TAKEN,
	WORLD_HANDED_OVER,
	WORLD_COMPLETED,
	WORLD_ANSWERS
};
extern uint64_t world_answers[WORLD_ANSWERS];
bool world_has_answered(bool by_region);
void world_answers_print(void);

#endif
