/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The flight table of a lane: what the guest is owed on its ring.
 *
 * It is made with the ring's first shadow, in memory of its own, which no back-end is given
 * (the host's make_memory(); nobody passes the region on), and stays over all shadows of the
 * ring, until the ring gets another size or front-end.  A back-end that is given the guest's own
 * ring completes what it likes, and nobody notes it: of such a ring nothing is known afterwards.
 *
 * Where the front-end keeps an in-flight region (flight/region.h), the ring's part of it is
 * written beside the table.  It is read once, when a ring starts of which no table owes
 * anything, after the front-end has brought it: then its flights become the table's.
 *
 * Threads: the device's; the table itself is its queue's, while that is served.
 */
#ifndef UMBRA_LANE_LANE_FLIGHTS_H
#define UMBRA_LANE_LANE_FLIGHTS_H

#include "flight/region_judge.h"
#include "memory/memory.h"
#include "queue/shadow_host.h"

struct lane_flights {
	struct flight_table table;
	struct flight *list;         /* the table's; NULL: there is no table */
	struct memory_region memory; /* with a reference */
	/* The front-end's region of the ring; NULL: it has brought none. */
	struct region_queue *region;
	uint32_t region_size;
	bool region_is_unread;
	bool region_was_read; /* of an umbra that died, which may not have called the guest */
};

/* For a ring of @heads that stands at @at, if there is none yet. */
UMBRA_MUST_CHECK int lane_flights_make(struct lane_flights *f, struct shadow_host *host,
				       uint32_t heads, struct ring_position at,
				       struct umbra_error *err);
/* The front-end has brought @region, which lives until it brings another (NULL: none).  Nobody
 * serves the ring. */
void lane_flights_bring(struct lane_flights *f, struct region_queue *region, uint32_t size);
/* Flights that its region shows, at the most, and that no table knows. */
uint32_t lane_flights_unread(const struct lane_flights *f);
/*
 * Before a ring of @heads starts, whose indices say @said, at *@at: its table is made, if there is
 * a region for it; what nobody has read is read, upon which *@at is where the ring stands, and
 * *@found flights wait.  -EPROTO: the region cannot be of that ring.
 */
UMBRA_MUST_CHECK int lane_flights_read(struct lane_flights *f, struct shadow_host *host,
				       uint32_t heads, struct ring_position said,
				       struct ring_position *at, uint32_t *found,
				       struct umbra_error *err);
/* The region stays as it is from here on. */
void lane_flights_leave(struct lane_flights *f);
/* Nothing is in flight any more that somebody should read there. */
void lane_flights_void(struct lane_flights *f);
/* Chains that wait for the next back-end of a ring that stands at @at. */
uint16_t lane_flights_waiting(const struct lane_flights *f, struct ring_position at);
/* The order of the first of them (UINT64_MAX: there is none), and of the next chain that is taken.
 * Of a ring that nobody serves. */
uint64_t lane_flights_oldest(const struct lane_flights *f);
uint64_t lane_flights_next(const struct lane_flights *f);
/* The ring is another from now on: nothing is in flight on it. */
void lane_flights_forget(struct lane_flights *f);
void lane_flights_free(struct lane_flights *f);

#endif
