/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a flight table says, after its writer died.
 *
 * Theory of operation.  The reader has the table and the two indices of the guest's ring, and
 * believes neither: the table may have been written by another program, or be no table.
 * Everything is copied once and the copy judged by the invariants of flight_table.h; what
 * comes out obeys them, or nothing comes out and the error says which does not
 * hold.  Then for each head of the guest's ring there is one answer to "what became of it?".
 *
 * To recover is to judge, to finish what the dead writer left undone (completed
 * flights are cleared), and to go on writing.  One that is killed while it recovers leaves
 * a table that says the same: each of its stores keeps the invariants.
 *
 * Ownership: as flight_table.h; the list is the caller's.
 * Threads: any one, while nobody writes to the table.
 * Trust: what a lying table can do after it was judged is to say of a chain that it is in
 * flight, or not, where that is wrong: the guest whose chain it is then gets one twice or
 * never.  It cannot make anybody write outside of it, or wait without end.
 */
#ifndef UMBRA_FLIGHT_FLIGHT_JUDGE_H
#define UMBRA_FLIGHT_FLIGHT_JUDGE_H

#include "flight/flight_table.h"

struct flight_judged {
	struct flight_sizes sizes;
	uint64_t life;
	uint64_t begin, used, next, handed; /* used: with what the guest's ring has published */
	uint32_t unknown;
	uint32_t count; /* flights, in the order in which they were taken */
	struct flight *list;
};

/*
 * Judge @memory of @bytes, 64-byte aligned, beside a guest's ring that says @said (split_said()).
 * @list has room for @heads flights; a table of another number of heads is refused.
 * -EINVAL: it is no table, or of another version or size; -EPROTO: it breaks an invariant,
 * or does not belong to that ring.
 */
UMBRA_MUST_CHECK int flight_judge(const void *memory, size_t bytes, uint32_t heads,
				  struct ring_position said, struct flight *list,
				  struct flight_judged *out, struct umbra_error *err);

/* What became of a chain.  One that stands in the avail ring from @next on is not taken;
 * of the others, by head: */
enum flight_fate {
	FLIGHT_NOT_TAKEN_OR_COMPLETED, /* the table knows of no chain by that head */
	FLIGHT_TAKEN,                  /* and not handed over to the present back-end */
	FLIGHT_HANDED_OVER,
	FLIGHT_LOST,
};

enum flight_fate flight_fate(const struct flight_judged *j, uint16_t head);

/* Judge, and open the table for writing; arguments and errors as above.  The list becomes
 * the table's. */
UMBRA_MUST_CHECK int flight_recover(struct flight_table *t, void *memory, size_t bytes,
				    uint32_t heads, struct ring_position said, struct flight *list,
				    struct umbra_error *err);

#endif
