/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The record of killed.pml: the in-flight region of vhost-user, split layout, version 1
 * (INFLIGHT_SHMFD), kept as a back-end keeps it, store by store, in the order of the
 * specification's steps.  Umbra is the back-end of its front-end here.
 *
 *	here                  there
 *	r_inflight[h]         desc[h].inflight
 *	r_counter[h]          desc[h].counter
 *	r_next[h]             desc[h].next: of the last batch, the head before this one
 *	r_last                last_batch_head
 *	r_used                used_idx
 *	r_version             version: 0 in a region that nobody has laid out
 *	peer                  (killed.pml) behind the region, in the same memory
 *
 * The region has no `handed`: whatever is in flight may be at the peer.
 *
 * Wrong steps:
 *	-DBUG_BASE          used_idx begins as 0, whatever the ring's is
 *	-DBUG_COUNTER       the counter begins at 0 again in a new umbra
 *	-DBUG_COUNTER_LATE  the counter is stored after inflight
 *	-DBUG_CLEAR_FIRST   inflight is cleared before the guest's used index is stored
 *	-DBUG_HEAD_LATE     last_batch_head follows the guest's used index
 *	-DBUG_USED_FIRST    used_idx follows before inflight is cleared
 *	-DBUG_NO_FINISH     the last batch is not looked at by a new umbra
 */

bit r_inflight[S], r_version;
byte r_counter[S], r_next[S], r_last, r_used;
/* umbra's own */
byte counter;

#define FLIES(h) (r_inflight[h])

#define COUNT(h)                                                                \
	if                                                                      \
	:: FLIES(h) ->                                                          \
		next++;                                                         \
		counter = (r_counter[h] >= counter -> r_counter[h] + 1 : counter) \
	:: else                                                                 \
	fi;

inline region_lay_out()
{
#ifndef BUG_BASE
	STORE(r_used, used_idx);
#endif
	STORE(r_version, 1)
}

/* The last batch was published, and its marks perhaps not cleared. */
inline region_finish()
{
#ifndef BUG_NO_FINISH
	n = AFTER(used_idx, r_used);
	h = r_last;
	do
	:: n > 0 -> STORE(r_inflight[h], 0); h = r_next[h]; n--
	:: else -> break
	od;
	h = 0;
#endif
	STORE(r_used, used_idx)
}

inline record_recover()
{
	if
	:: r_version == 0 -> region_lay_out()
	:: else -> region_finish()
	fi;
	d_step {
		/* Only its place in the guest's ring is known, not a count. */
		over = BEGIN - UNKNOWN + AFTER(used_idx, BEGIN - UNKNOWN);
		noted = over;
		next = over + UNKNOWN;
		counter = 0;
		EACH(COUNT)
#ifdef BUG_COUNTER
		counter = 0;
#endif
#ifdef BUG_AT_USED
		next = over;
#endif
#ifdef BUG_AT_AVAIL
		next = over + AFTER(avail_idx, over % W);
#endif
	}
}

inline record_killed()
{
	counter = 0
}

inline record_anything_handed()
{
	n = ANY(FLIES)
}

inline record_judge_late()
{
	skip
}

inline record_renew()
{
	skip
}

#ifdef BUG_BY_HEAD
#define IS_OLDER(x, y) ((x) < (y))
#else
#define IS_OLDER(x, y) (r_counter[x] < r_counter[y])
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

inline record_retake(head)
{
	skip
}

inline record_take(head)
{
#ifdef BUG_COUNTER_LATE
	STORE(r_inflight[head], 1);
	STORE(r_counter[head], counter);
#else
	STORE(r_counter[head], counter);
	STORE(r_inflight[head], 1);
#endif
	counter++;
	next++
}

inline record_hand_over()
{
	skip
}

inline record_handed_over()
{
	skip
}

/* Which of the two comes first is free: they mean nothing before the used index. */
inline record_note(head)
{
	STORE(r_next[head], r_last);
#ifndef BUG_HEAD_LATE
	STORE(r_last, head)
#endif
}

inline region_clear()
{
	do
	:: over != noted -> STORE(r_inflight[used[over % S]], 0); over++
	:: else -> break
	od
}

inline record_published_early()
{
#ifdef BUG_CLEAR_FIRST
	region_clear()
#else
	skip
#endif
}

inline record_publish()
{
#ifdef BUG_HEAD_LATE
	STORE(r_last, h);
#endif
#ifdef BUG_USED_FIRST
	STORE(r_used, used_idx);
#endif
#ifndef BUG_CLEAR_FIRST
	region_clear();
#endif
	STORE(r_used, noted % W)
}
