/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The record of killed.pml: the flight table (src/flight/flight_table.h), store by store.
 *
 *	here                  there
 *	t_order[h]            entries[h].order: 0, or the flight's
 *	t_in[h]               entries[h].back: the life in which it was given, 0: in none
 *	t_log[i]              log: heads by the place of their used entries
 *	t_life                header.life: which record is in force
 *	t_used, t_handed [2]  lives[life & 1].used and .handed
 *	peer                  (killed.pml) not there yet: the process at the other end
 *
 * Left out: begin and unknown (they are constants while a ring lives), extent, ids and ghosts,
 * copies of descriptors, the header.
 *
 * Wrong steps, by the invariant of flight_table.h that they break:
 *	-DBUG_NOTE_LATE    I1: the log is written after the guest's used index
 *	-DBUG_USED_FIRST   I1: `used` follows before the entries are cleared
 *	-DBUG_NO_FINISH    I1: the log is not looked at when a table is recovered
 *	-DBUG_CLEAR_FIRST  I2, I3: entries are cleared before the guest's used index is stored
 *	-DBUG_SUBMIT       I3: (killed.pml) a chain is submitted before its order is stored
 *	-DBUG_HANDED_LATE  I4: `handed` is stored after the shadow ring's avail index
 *	-DBUG_LIFE_FIRST   I1, I4: the life is raised before its record is written
 *
 *	-DUNJUDGED	a recovered table is not judged, so that it is seen what comes of it
 */

byte t_order[S], t_in[S], t_log[S];
byte t_life = 1;
byte t_used[2] = BEGIN - UNKNOWN, t_handed[2] = BEGIN;
/* umbra's own */
byte handed;

#define FLIES(h) (t_order[h] >= BEGIN)
#define HANDED(h) (FLIES(h) && t_in[h] == t_life && t_order[h] < t_handed[t_life & 1])

/* ---- judging: flight_judge.c ------------------------------------------------------- */

/* A head that the log names as completed is not in flight, whatever its entry says; else: */
#define JUDGE(h)                                                                \
	if                                                                      \
	:: FLIES(h) && !(n & (1 << h)) ->                                       \
		assert(t_order[h] < next);             /* I3 */                 \
		assert(!(i & (1 << (t_order[h] - BEGIN)))); /* I2: no two */    \
		i = i | (1 << (t_order[h] - BEGIN));                            \
		assert(req[h] != 0 && !completed[req[h]])                       \
	:: else                                                                 \
	fi;

inline table_judge()
{
	/* I1: n has a bit for each head that the log says is over */
	assert(over - t_used[t_life & 1] <= S);
	assert(t_handed[t_life & 1] <= next); /* I4 */
	i = 0;
	EACH(JUDGE)
	/* I3: what is available from there on is not taken */
	i = next % W;
	do
	:: i != avail_idx ->
		assert(!FLIES(avail[i % S]) || n & (1 << avail[i % S]));
		i = (i + 1) % W
	:: else -> break
	od;
	i = 0
}

#define COUNT(h)                                                                \
	if                                                                      \
	:: FLIES(h) && !(n & (1 << h)) -> next++                                \
	:: else                                                                 \
	fi;

/* flight_recover(): judge, finish the batch that was published, go on */
inline record_recover()
{
	d_step {
		n = 0;
		over = t_used[t_life & 1];
#ifndef BUG_NO_FINISH
		do
		:: over % W != used_idx && over - t_used[t_life & 1] < S ->
#ifndef UNJUDGED
			assert(!(n & (1 << t_log[over % S]))); /* I1: different heads */
#endif
			n = n | (1 << t_log[over % S]);
			over++
		:: else -> break
		od;
#else
		over = over + AFTER(used_idx, over % W);
#endif
		next = over + UNKNOWN;
		EACH(COUNT)
#ifdef BUG_AT_USED
		next = over;
#endif
#ifdef BUG_AT_AVAIL
		next = over + AFTER(avail_idx, over % W);
#endif
#ifndef UNJUDGED
		table_judge();
#endif
		n = t_used[t_life & 1]
	}
	/* batch_finish() */
	do
	:: n != over ->
#ifndef BUG_NO_FINISH
		STORE(t_order[t_log[n % S]], 0);
#endif
		n++
	:: else -> break
	od;
	STORE(t_used[t_life & 1], over);
	noted = over;
	handed = t_handed[t_life & 1];
	n = 0
}

inline record_killed()
{
	handed = 0
}

/* Of the present life, according to the table: so it is at the peer, or may be. */
inline record_anything_handed()
{
	n = ANY(HANDED)
}

/* I4: what the table says is at nobody's is not with one who still lives. */
#define JUDGE_LATE(h) assert(HANDED(h) || !(p[h] || z[h]));
inline record_judge_late()
{
#if !defined(UNJUDGED) && !defined(BUG_RENEW_EARLY)
	EACH(JUDGE_LATE)
#endif
	skip
}

/* ---- a new life: flight_renew(), life_turn() ------------------------------------------ */

#define UNGIVE(h)                                                               \
	if                                                                      \
	:: FLIES(h) && t_order[h] >= handed && t_in[h] == t_life -> STORE(t_in[h], 0) \
	:: else                                                                 \
	fi;

inline record_renew()
{
	EACH(UNGIVE)
#ifdef BUG_LIFE_FIRST
	STORE(t_life, t_life + 1);
	STORE(t_used[t_life & 1], over);
	STORE(t_handed[t_life & 1], BEGIN);
#else
	STORE(t_used[(t_life + 1) & 1], over);
	STORE(t_handed[(t_life + 1) & 1], BEGIN);
	STORE(t_life, t_life + 1);
#endif
	handed = BEGIN
}

/* flight_list(): h is the oldest flight of which n has no bit; S: there is none */
#ifdef BUG_BY_HEAD
#define IS_OLDER(x, y) ((x) < (y))
#else
#define IS_OLDER(x, y) (t_order[x] < t_order[y])
#endif
#define OLDER(x)                                                                \
	if                                                                      \
	:: FLIES(x) && !(n & (1 << x)) && h == S -> h = x                       \
	:: FLIES(x) && !(n & (1 << x)) && h != S ->                             \
		h = (IS_OLDER(x, h) -> x : h)                                   \
	:: else                                                                 \
	fi;

inline record_oldest()
{
	d_step {
		h = S;
		EACH(OLDER)
	}
}

/* flight_retake() */
inline record_retake(head)
{
	STORE(t_in[head], t_life)
}

/* ---- forward ------------------------------------------------------------------------- */

/* flight_take() */
inline record_take(head)
{
	STORE(t_in[head], t_life); /* back */
	STORE(t_order[head], next); /* I2, I3: it is a flight from here on */
	next++
}

/* flight_hand_over(): before the shadow ring's index (I4) */
inline record_hand_over()
{
#ifndef BUG_HANDED_LATE
	handed = next;
	STORE(t_handed[t_life & 1], next)
#else
	skip
#endif
}

inline record_handed_over()
{
#ifdef BUG_HANDED_LATE
	handed = next;
	STORE(t_handed[t_life & 1], next)
#else
	skip
#endif
}

/* ---- backward -------------------------------------------------------------------------- */

/* flight_note(): before the used entry */
inline record_note(head)
{
#ifdef BUG_NOTE_LATE
	skip
#else
	STORE(t_log[noted % S], head) /* I1: means nothing before the used index */
#endif
}

inline table_clear()
{
	do
	:: over != noted ->
		STORE(t_order[t_log[over % S]], 0); /* I1: the log says so already */
		over++
	:: else -> break
	od
}

inline record_published_early()
{
#ifdef BUG_CLEAR_FIRST
	table_clear()
#else
	skip
#endif
}

/* flight_publish(): after the used index */
inline record_publish()
{
#ifdef BUG_NOTE_LATE
	i = over;
	do
	:: i != noted -> STORE(t_log[i % S], used[i % S]); i++
	:: else -> break
	od;
	i = 0;
#endif
#ifdef BUG_USED_FIRST
	STORE(t_used[t_life & 1], noted);
#endif
#ifndef BUG_CLEAR_FIRST
	table_clear();
#endif
	STORE(t_used[t_life & 1], over) /* I1: only now the log may be written over */
}
