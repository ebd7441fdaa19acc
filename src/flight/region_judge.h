/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What an in-flight region says, after its writer died.
 *
 * Theory of operation.  As of a flight table (flight_judge.h): each word is copied once, the
 * copy is judged beside the guest's ring, and what comes out is sound, or nothing comes
 * out and the error says what is not.  What may be wrong although it was published is known from
 * the ring: heads of the last batch, as many as used->idx is ahead of used_idx, are over whatever
 * their marks say.  The chains in flight are the next after what the ring has used, so that the
 * ring stands at used->idx and their number.
 *
 * Then the flights become those of an empty table, in the order of their counters, as such that
 * no back-end has, and the table goes on writing the region.  Who may still be executing them is
 * told by region_load_peer(), and to be asked before.
 *
 * Ownership: as flight_table.h.  Threads: any one, while nobody writes.
 * Trust: the region is the front-end's.  One that lies says of a chain of that front-end's guest
 * that it is in flight, or not, where that is wrong.
 */
#ifndef UMBRA_FLIGHT_REGION_JUDGE_H
#define UMBRA_FLIGHT_REGION_JUDGE_H

#include "flight/flight_table.h"

struct region_judged {
	bool is_kept;        /* somebody has kept it; else nothing below is said */
	uint16_t used;       /* where the ring stands: completed, ... */
	uint64_t counter;    /* ... above those of all flights */
	uint32_t count;      /* flights, in the order of their counters */
	struct flight *list; /* of which only head and order are known */
};

/*
 * Judge the region @q of @size entries beside a guest's ring of @heads (at most @size) that says
 * @said (split_said()).  @list has room for @heads flights.
 * -EINVAL: it is of another version; -EPROTO: it contradicts itself or the ring.
 */
UMBRA_MUST_CHECK int region_flights(const struct region_queue *q, uint32_t size, uint32_t heads,
				    struct ring_position said, struct flight *list,
				    struct region_judged *out, struct umbra_error *err);

/* The table @t, which has no flights, has those of @j, and writes the region @q, of @size entries,
 * from here on.  A kill in the midst leaves a region that says the same. */
void flight_adopt(struct flight_table *t, struct region_queue *q, uint32_t size,
		  const struct region_judged *j);

#endif
