/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The flight table: what a guest is owed on one of its rings.
 *
 * A flight is a chain that was taken from the guest's ring and is not completed to it.  The
 * table is the one place that knows them: by which head, in what order they were taken, under
 * which id the back-end has them, whether they ask for something, how much completing them
 * may write.  It lies in memory that outlives its writer and that no back-end is ever
 * given, so that whoever comes after a writer that died can say what became of each chain.
 *
 * Theory of operation.  There is an entry for each head.  Chains are counted as they are taken,
 * in 64 bits, and the entry's `order` is that number: storing it makes the flight, storing 0
 * ends it.  The low 16 bits of an order are the index of the chain on the guest's avail ring,
 * so that `next` (the order of the chain that will be taken next) is where the guest's ring
 * stands, and needs no word: it is `used`, plus the flights, plus `unknown`.
 *
 *	completed      taken                            available
 *	...............|................................|...............
 *	            used                     handed    next
 *	                \___ flights and unknown _______/
 *
 * The life of a chain, each arrow one store:
 *
 *	not taken --order--> taken --handed--> handed over --used->idx--> completed
 *	          <--0-----        <--handed--                  (the guest's ring)
 *
 * A completion takes four steps, of which only the third is the guest's to see: the head is noted
 * in the log at the place of its used entry; the used entry is written; the guest's used->idx
 * publishes the batch; then the entries are cleared and `used` follows.  Until the third the
 * log's notes mean nothing, since they lie ahead of used->idx; after it they name the flights
 * that are over although their entries may still stand.  So whether a chain is completed is
 * decided by one word, the one that the guest looks at.
 *
 * Lives.  What is true from one start of a ring to the next stands in a record of its own
 * (struct flight_life): where the guest's ring began, what is handed over.  There are two
 * records; the one that is not in force is written, then its number stored, by
 * which all of it is in force at once.  An order below `begin` is none: so a guest's
 * ring that begins anew empties the table by that one store, and its lives are counted anew.  A
 *flight carries the number of the life in which the back-end was given it; of an earlier one, the
 *present back-end has it not.
 *
 * Unknown chains were taken by somebody else (a back-end that had the guest's own ring) and
 * never completed: the ring lacks them, and nobody knows their heads.  Lost flights are
 * the same for who comes next, but known: a back-end had them, did not use them, and they were
 * given up.  Ghosts are the ids of those at the back-end, which may use one yet.
 *
 * Invariants: after each store, and so after a kill between any two, with U = the guest's
 * used->idx continued from `used` to 64 bits,
 *
 *	I1  0 <= U - used <= heads, and the log names at [used, U) that many different heads,
 *	    which have been completed and are flights no more, whatever their entries say;
 *	I2  any other entry with begin <= order is a flight; no two have the same order;
 *	I3  next = U + flights + unknown is above every order, and chains from there on in the
 *	    guest's avail ring are not taken;
 *	I4  handed <= next; a flight of the present life with order < handed may have been seen
 *	    by the back-end; any other has not (in this life);
 *	I5  no two flights of the present life have the same id at the back-end;
 *	I6  what is immutable (the header up to its checksum) has its checksum, and the magic word
 *	    stands only before a table that has once been whole.
 *
 * I4 says "may": the store of `handed` comes before the one of the shadow ring's avail->idx,
 * so that a kill between them makes a batch look handed over that is not.  The other way round
 * a back-end could do what nobody knows that it has.
 *
 * Every store is a release store, which keeps the compiler from exchanging two (what a killed
 * process has stored is seen in the order of its instructions) and lets another
 * processor see a prefix of them.  It is free on x86.
 *
 * Copies.  Of a packed ring the descriptors of a flight are written over by used entries of
 * others, so that the ring no longer tells what was asked.  There is room for a copy of as many
 * descriptors as the ring has, which is enough: indirect tables are the guest's until the
 * chain is used, and are not copied.  A split ring can be read again, and judged anew.
 *
 * Other layouts.  The steps are those of the vhost-user in-flight region (inflight, then the
 * batch's heads, then used->idx, then inflight cleared and used_idx), which is written at the
 * same time where there is one (region.h), and can be told from by who comes next.
 *
 * Rejected: to mark completed flights by a second word in the entry, which saves the clearing,
 * but no reader can then tell a mark of this batch from one that is 65536 completions old
 * without a third.  To count flights in a word: it would have to change together with `order`.
 *
 * Ownership: the memory is the caller's, 64-byte aligned, mapped while the struct is used.
 * Threads: one writer; a reader (flight_judge.h) only while none writes.
 * Trust: the writer trusts its own memory.  Who takes a table over from another does not.
 */
#ifndef UMBRA_FLIGHT_FLIGHT_TABLE_H
#define UMBRA_FLIGHT_FLIGHT_TABLE_H

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bits.h"
#include "base/shm.h"
#include "flight/region.h"
#include "ring/position.h"
#include "ring/split.h"
#include "umbra/error.h"

/* ---- in shared memory ------------------------------------------------------ */

#define FLIGHT_MAGIC UINT64_C(0x0073746867696c66) /* "flights" */
#define FLIGHT_VERSION 1u
#define FLIGHT_ALIGN 64u
#define FLIGHT_LIFE_MAX UINT32_MAX /* of which an entry keeps the number */

struct flight_entry {
	le64 order;  /* of a flight; 0, or below begin: there is none */
	le64 back;   /* what the back-end has: FLIGHT_BACK_* */
	le64 extent; /* what it comes to: FLIGHT_EXTENT_* */
	le64 spare;  /* 0 */
};

#define FLIGHT_BACK_ID 0xffffu        /* the id on the shadow ring */
#define FLIGHT_BACK_ASKS (1u << 16)   /* it has readable bytes */
#define FLIGHT_BACK_LOST (1u << 17)   /* it was given up */
#define FLIGHT_BACK_FLAGS 0xffff0000u /* of which the others are 0 */
#define FLIGHT_BACK_LIFE_SHIFT 32     /* the life in which it was given; 0: in none */
#define FLIGHT_EXTENT_FIRST_SHIFT 32  /* below: writable bytes, at the most UINT32_MAX */
#define FLIGHT_EXTENT_COUNT_SHIFT 48  /* above the first: copied descriptors; 0: no copy */

struct flight_life {
	le64 begin;   /* the order of the first chain that is taken in it */
	le64 unknown; /* chains before that, which the ring lacks */
	le64 used;    /* chains completed, up to the last batch */
	le64 handed;  /* the order up to which chains are handed over */
};

struct flight_header {
	le64 magic;
	le32 version;
	le32 heads;    /* of the guest's ring */
	le32 ids;      /* of the longest shadow ring */
	le32 descs;    /* copies that there is room for */
	le64 bytes;    /* of all */
	le64 checksum; /* of the words from version to bytes */
	le64 life;     /* which is in force: lives[life & 1]; 1 to FLIGHT_LIFE_MAX */
	le64 spare[2];
	struct flight_life lives[2];
};

/* ---- the writer's own -------------------------------------------------------- */

/* A flight as a private copy, as queries and readers give it. */
struct flight {
	uint64_t order;
	uint32_t life;     /* in which it was given to a back-end; 0: it never was */
	uint32_t writable; /* bytes that completing it may write */
	uint16_t head;
	uint16_t id;           /* at that back-end */
	uint16_t first, count; /* its copied descriptors */
	bool asks;
	bool lost;
	bool handed; /* the present back-end may have it */
};

struct flight_sizes {
	uint32_t heads; /* a power of two, 1 to SPLIT_SIZE_MAX */
	uint32_t ids;   /* 1 to SPLIT_SIZE_MAX */
	uint32_t descs; /* 0: nothing is copied; else at least heads */
};

struct flight_table {
	struct flight_entry *entries;
	le16 *log;     /* heads by the low bits of their place in the used ring */
	le16 *ghosts;  /* by id: 1: a ghost */
	uint64_t mark; /* the present life, where it stands in `back` */
	uint64_t begin, next, used;
	uint64_t noted; /* completions noted, also those that are not published */
	uint32_t mask;  /* heads - 1 */
	uint32_t unknown;
	uint32_t ghost_count;
	struct flight_life *life; /* the record in force */
	struct flight_header *header;
	struct split_desc *descs;
	uint32_t free_first, free_count; /* of descs */
	struct flight_sizes sizes;
	struct flight *list;         /* `heads` of them, the caller's: flight_list() */
	struct region_queue *region; /* that is written, too; NULL: none */
	uint32_t region_size;        /* entries of it, at least heads */
	bool region_is_laid;         /* it says what the table says */
};

/* Bytes of a table. */
size_t flight_bytes(const struct flight_sizes *sizes);

struct flight_config {
	struct flight_sizes sizes;
	void *memory;            /* flight_bytes() */
	struct flight *list;     /* room for sizes.heads flights, the writer's own */
	struct ring_position at; /* as of flight_begin() */
};

/*
 * Lay a table without flights out in the memory, and open it for writing.  A kill in the
 * midst leaves no table.  -EINVAL: sizes out of range.
 */
UMBRA_MUST_CHECK int flight_format(struct flight_table *t, const struct flight_config *config);

/*
 * The guest's ring, a split one, begins at @at; what is outstanding there, at the most
 * `heads` chains, is unknown.  There are no flights; ghosts stay.
 */
void flight_begin(struct flight_table *t, struct ring_position at);

/* The guest's ring goes on at @at: where the table stands there with as much owed, the flights
 * stay; otherwise it is another ring, and begins.  (So does one whose lives can be counted no
 * further, after four thousand million shadows in a row.) */
void flight_stand(struct flight_table *t, struct ring_position at);

/* Does the table stand there? */
bool flight_stands(const struct flight_table *t, struct ring_position at);

/*
 * From here on @region, of @size entries, at least as many as the ring has, is written, too: what
 * the table says is laid out there where the ring stands, at its next flight_stand().  NULL: none.
 * Where chains are unknown it is not laid out, since their heads are not known.
 */
void flight_keep(struct flight_table *t, struct region_queue *region, uint32_t size);

/* Does a region say what the table says? */
static inline bool flight_is_kept(const struct flight_table *t)
{
	return t->region && t->region_is_laid;
}

/* A shadow ring begins: no back-end has anything yet.  Flights stay; those that were not
 * handed over are as if never given. */
void flight_renew(struct flight_table *t);

/* ---- forward ------------------------------------------------------------------ */

static inline struct flight_entry *flight_entry(const struct flight_table *t, uint16_t head)
{
	return &t->entries[head];
}

/* Is a chain in flight by that head?  Then no honest driver makes it available again. */
static inline bool flight_is_flying(const struct flight_table *t, const struct flight_entry *e)
{
	return shm_load64(&e->order) >= t->begin;
}

static inline uint64_t flight_back_word(const struct flight_table *t, uint16_t id, bool asks)
{
	return t->mark | (asks ? FLIGHT_BACK_ASKS : 0) | id;
}

/* What is known of the chain of entry @e, of which none is in flight: it is about to be given
 * to the back-end as @id.  It may turn out that it cannot be. */
static inline void flight_prepare(struct flight_table *t, struct flight_entry *e, uint16_t id,
				  bool asks, uint32_t writable)
{
	shm_store64_release(&e->back, flight_back_word(t, id, asks));
	shm_store64_release(&e->extent, writable);
}

/* It was taken and given, but not shown. */
static inline void flight_take(struct flight_table *t, struct flight_entry *e)
{
	if (t->region)
		region_take(t->region, (uint16_t)(e - t->entries), t->next);
	shm_store64_release(&e->order, t->next++);
}

/* All that was given is about to be shown to the back-end.  Before the shadow
 * ring's avail->idx is stored. */
static inline void flight_hand_over(struct flight_table *t)
{
	shm_store64_release(&t->life->handed, t->next);
}

/* Keep a copy of the descriptors of @head, which was just taken and is not handed over, as they
 * stood on the ring.  -ENOSPC: there is no room for so many, or for any. */
UMBRA_MUST_CHECK int flight_copy(struct flight_table *t, uint16_t head,
				 const struct split_desc_copy *descs, uint16_t count);
/* The copied descriptors of @f: f->count of them go to @descs. */
void flight_copied(const struct flight_table *t, const struct flight *f,
		   struct split_desc_copy *descs);

/* The flight @head, of an earlier life, was given to the back-end as @id, but not shown.  In the
 * order in which they were taken, and before anything is taken in this life. */
void flight_retake(struct flight_table *t, uint16_t head, uint16_t id);

/* The newest flight, @head, goes back to the guest's ring.  It is not at the back-end, or no
 * longer. */
void flight_untake(struct flight_table *t, uint16_t head);

/* The newest @count flights of those handed over, or all, were not taken by the back-end, which
 * is stopped, or it was reset and has none of them any more. */
void flight_hand_back(struct flight_table *t, uint16_t count);

/* ---- backward ------------------------------------------------------------------- */

/* The back-end is done with @head: at the same time as device_ring_complete(). */
static inline void flight_note(struct flight_table *t, uint16_t head)
{
	shm_store16_release(&t->log[t->noted & t->mask], head);
	t->noted++;
}

/* In the region, what was noted: it is the batch that is about to be published; it is over.  (Out
 * of line, so that who keeps no region does not pay for them.) */
void flight_note_in_region(const struct flight_table *t);
void flight_end_in_region(const struct flight_table *t);

/* What was noted is about to be published: before device_ring_publish(). */
static inline void flight_close(struct flight_table *t)
{
	if (unlikely(t->region))
		flight_note_in_region(t);
}

/* Copies of what was noted are free.  (They are read of flights alone, and these are none.) */
void flight_free_noted(struct flight_table *t);

/* What was noted is published: after device_ring_publish(). */
static inline void flight_publish(struct flight_table *t)
{
	struct flight_entry *entries = t->entries;
	uint64_t used = t->used, noted = t->noted;
	uint32_t mask = t->mask;

	if (unlikely(t->sizes.descs))
		flight_free_noted(t);
	if (unlikely(t->region))
		flight_end_in_region(t);
	for (; used != noted; used++)
		shm_store64_release(&entries[shm_load16(&t->log[used & mask])].order, 0);
	t->used = used;
	shm_store64_release(&t->life->used, used);
}

/* Of a ring that the guest has forgotten the back-end is done with @head, and nobody is told.
 * Until flight_forget() such a table goes with no ring any more. */
void flight_drop(struct flight_table *t, uint16_t head);
/* The guest has forgotten its ring, and with it all that it was owed. */
void flight_forget(struct flight_table *t);

/* It is given up: nobody will complete @head, and the ring lacks it from now on. */
void flight_lose(struct flight_table *t, uint16_t head);

/* The back-end may use @id, which belongs to no chain any more; or it has. */
void flight_ghost_set(struct flight_table *t, uint16_t id, bool is_ghost);

/* ---- queries -------------------------------------------------------------------- */

/* Taken and not completed, known or not: what the guest is owed. */
static inline uint32_t flight_owed(const struct flight_table *t)
{
	return (uint32_t)(t->next - t->used);
}

/* Flights that the present back-end may have and that ask for something.  Beside the writer
 * it is a glimpse. */
uint32_t flight_asking(const struct flight_table *t);

/* Fill t->list with the flights in the order in which they were taken; returns their
 * number.  Nothing noted is unpublished. */
uint32_t flight_list(const struct flight_table *t);

/* Of a flight: it waits to be given to a back-end, since the present one has it not, or had it and
 * did not take it. */
static inline bool flight_waits(const struct flight *f)
{
	return !f->lost && !f->handed;
}

/* Ids of ghosts, to @ids (`ids` entries); returns their number. */
uint32_t flight_ghosts(const struct flight_table *t, uint16_t *ids);

#endif
