/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The inside of a lane, for the files of this room: see lane.h.
 */
#ifndef UMBRA_LANE_LANE_PRIVATE_H
#define UMBRA_LANE_LANE_PRIVATE_H

#include "lane/lane.h"
#include "lane/lane_flights.h"
#include "lane/lane_state.h"

/* How far it is known what the back-end has taken of a ring without EVENT_IDX. */
enum ring_sounding { SOUNDING_NOT, SOUNDING_BEGUN, SOUNDING_DONE };

/* Passed through, on its way to a standstill. */
struct lane_hush {
	enum ring_sounding sounding;
	struct ring_position sounded; /* what was available as it began; DONE: it has taken it */
	unsigned int quiet_looks;     /* lane_is_idle() found it quiet so often in a row */
	struct ring_position quiet;   /* and stood here */
};

/* Between the stop and its end. */
struct lane_halt {
	struct ring_position base; /* what the back-end answered */
	uint16_t untaken; /* of what a device stopped as a whole was given, the newest so many */
};

struct lane {
	struct guest_ring front; /* what the front-end said, and where that is while it runs */

	/* Its life. */
	enum lane_state state;
	enum lane_kind kind;        /* how the back-end has it, from STARTED on */
	const struct lane_ops *ops; /* the same, as what it does; NULL: STOPPED and WANTED */
	bool forgotten;             /* by the guest: its memory may be something else by now */
	union {
		struct lane_hush hush; /* HUSHED and BROKEN */
		struct lane_halt halt; /* HALTED and BURIED */
	};
	/* What the guest is owed on it, as far as a shadow has noted it. */
	struct lane_flights flights;
	uint64_t older; /* the order from which on chains were taken since it last went */
	bool left; /* passed through, it broke, or was let go of, before all that was taken was used
		    */

	/* Ids that chains of the last shadow had which was let go of before a vhost-user
	 * back-end had used them: it may do it yet.  NULL: none.  Where it did, if no other shadow
	 * was made since, is told by that ring's used entries from `ghost_at` on. */
	uint16_t *ghosts;
	uint16_t ghost_count;
	struct ring_position ghost_at;
	struct split_ring ghost_ring;        /* only its used part, in our own memory, counts */
	struct memory_backing *ghost_memory; /* a reference on that; NULL: none */

	/* The shadow, if it has one. */
	uint16_t *behind; /* room for the ids that it may leave behind */
	struct shadow_queue *queue;
	struct control_queue *control; /* in place of `queue`: see followed.c */
	void *private;                 /* driver_ring's */
	uint16_t back_size;            /* entries of the shadow ring; see back_size() */
	struct ring_seg *segs;
	uva_t shadow_desc, shadow_avail, shadow_used;
	int back_kick_fd, back_call_fd; /* ours; made once, kept */
	struct queue_service service;
	bool is_served;

	struct lane_piece own;
	unsigned int spoils; /* pieces that were given up for that, before this back-end */

	struct shadow_counters counters;
	bool table_said; /* it was logged that there are tables longer than the ring */
	char error[UMBRA_ERROR_SIZE];
};

struct lanes {
	unsigned int count; /* one more than the highest that was named */
	struct lane lane[UMBRA_QUEUES_MAX];
};

/* Where the front-end's fd of kind @which is kept. */
static inline int *lane_front_fd(struct lane *r, enum virtio_ring_fd which)
{
	switch (which) {
	case VIRTIO_RING_KICK:
		return &r->front.kick_fd;
	case VIRTIO_RING_CALL:
		return &r->front.call_fd;
	default:
		return &r->front.err_fd;
	}
}

/* Chains that were taken and never used before we came: outstanding at its base.  A vhost-user
 * back-end that was given them before may use some after all. */
static inline uint16_t lane_gap(const struct lane *r)
{
	return ring_outstanding(r->front.base, r->front.size);
}

/* Those of them that are given to the back-end again when the ring starts shadowed. */
static inline uint16_t lane_waiting(const struct lane *r)
{
	return lane_flights_waiting(&r->flights, r->front.base);
}

/* Where the ring that the back-end has is kicked. */
static inline int back_kick_fd(const struct lane *r)
{
	return r->kind == LANE_PASSED ? r->front.kick_fd : r->back_kick_fd;
}

#endif
