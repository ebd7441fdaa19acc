/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Umbra and the back-end die at any step: what becomes of the guest's requests.
 *
 *	guest --ring--> umbra --shadow ring--> back-end (completes in any order) --> disk
 *	                  |
 *	                  +-- a record of what is in flight, in memory that outlives umbra:
 *	                      the flight table (table.pml), or, with -DREGION, the
 *	                      in-flight region of vhost-user (region.pml)
 *
 * What is checked, in every order of all steps:
 *
 *	[once]     A request is completed to the guest once, and none that is not in flight.
 *	[done]     It was done on the disk before.
 *	[kept]     None is lost: when nothing can move any more, the guest has them all back.
 *	[over]     None is done after it was completed.  The guest issues a write that has to
 *	           come after another one when it was told of that one's end, so no such pair
 *	           is ever exchanged on the disk, whatever blocks they write.
 *	[late]     What an earlier back-end, or an earlier connection to this one, still has
 *	           under way is never done after its replay was.
 *	[order]    Each shadow ring gets requests in the order in which the guest made them
 *	           available, those that are replayed among them.
 *	[I1]-[I4]  The record says the truth after each kill (table.pml).
 *
 * How a kill is modelled.  STORE() is one store to memory that outlives its writer, and umbra may
 * die behind each.  A killed process has its stores seen in the order of its program, so
 * there is no weak memory here.  Umbra's stores stand in an atomic sequence, of which others
 * see one store at the most (the index of a ring): the rest is the record, which
 * nobody reads but the next umbra, so that an order in which another one moves between
 * two of them has the same outcome as one in which it moves before or behind.
 *
 * The dead that is not dead.  A back-end that is killed does nothing more.  One may also hang
 * up and live on with its I/O under way (KH).  Then either that process listens again
 * (of a family that drains first, or of one that does not: `drains`), or another one
 * takes its place at the socket.  Umbra knows the process that it gave requests to,
 * a `peer`, also after its own death: the word stands beside the record.
 *
 *	-DN=3 requests, -DS=2 heads, -DKU=1 deaths of umbra, -DKB=1 of the back-end, -DKH=1
 *	hang-ups of one that lives on, -DBATCH=2 chains or completions at once at the most,
 *	-DUNKNOWN=1 of the heads is outstanding from before, and never comes back
 *	-DUNDRAINED umbra may leave a shadow ring without having seen all that was used
 *
 * One wrong step each (others in table.pml, region.pml), to see that it is found:
 *	-DBUG_ZOMBIE      replayed although the peer may still be at it
 *	-DBUG_FAMILY      a new connection of a family that drains proves that the old one is
 *	                  drained, even if another process accepts it
 *	-DBUG_PEER_LATE   the peer is stored after it was given something
 *	-DBUG_RENEW_EARLY the new life begins before the old peer is known to be dead
 *	-DBUG_BY_HEAD     replayed in the order of heads
 *	-DBUG_SUBMIT      a request is submitted, then recorded
 *	-DBUG_NO_CALL     a new umbra does not call the guest
 *	-DBUG_AT_USED     a new umbra goes on at the used index, ...
 *	-DBUG_AT_AVAIL    ... or at the avail index
 */
#ifndef N
#define N 3
#endif
#ifndef S
#define S 2
#endif
#ifndef KU
#define KU 1
#endif
#ifndef KB
#define KB 1
#endif
#ifndef KH
#define KH 1
#endif
#ifndef BATCH
#define BATCH 2
#endif
#ifndef UNKNOWN
#define UNKNOWN 0
#endif

#define DONE (N + 1)  /* under way: done, and not yet in the used ring */
#define STUCK (N + 2) /* the request of a head that never comes back */

/* The guest's indices are words that wrap; what umbra counts does not.  A ring begins just before
 * the wrap.  S, and so W, is a power of two. */
#define W (2 * S)
#define BEGIN (2 * W - 1)
#define AFTER(a, b) (((a) - (b) + 16 * W) % W) /* how far is index a behind b? */

#if S == 2
#define EACH(do_head) do_head(0) do_head(1)
#define ANY(is_so) (is_so(0) || is_so(1))
#else
#define EACH(do_head) do_head(0) do_head(1) do_head(2) do_head(3)
#define ANY(is_so) (is_so(0) || is_so(1) || is_so(2) || is_so(3))
#endif

/* ---- memory, and what is true of it ------------------------------------------- */

/* the guest's: of each head the request in its buffers (0: it is free), and the ring */
byte req[S];
byte avail[S], used[S];
byte avail_idx = BEGIN % W, used_idx = (BEGIN - UNKNOWN) % W;
bit called; /* since the used index was stored last */
/* the disk's: was it done?  By the connection that was given it last? */
bit done[N + 1], again[N + 1], completed[N + 1];
/* the shadow ring, which the back-end has mapped; newest: request on it */
byte s_avail[S], s_used[S];
byte s_avail_idx, s_used_idx, s_newest;

/* the connection */
mtype = { LISTENS, JOINED, HUNG_UP };
mtype link = LISTENS;
byte process = 1; /* that listens or is connected */
byte peer;        /* of the record: the process that may have what is in flight */
byte held_for;    /* umbra waits for the end of this one; 0: it does not */
/* a process that lives on: what an earlier connection of it has under way */
bit lives_on;
byte living, z[S];
bit drains; /* the family's habit */
/* of the connection: what is under way */
byte p[S], taken;

byte u_deaths, b_deaths, hang_ups;

#define GONE(x) ((x) != process && !(lives_on && living == (x)))

/* ---- guest -------------------------------------------------------------------- */

#define ISSUE(h) :: d_step {                                                    \
		issued < N && req[h] == 0;                                      \
		issued++;                                                       \
		req[h] = issued;                                                \
		avail[avail_idx % S] = h;                                       \
		avail_idx = (avail_idx + 1) % W                                 \
	}

active proctype guest()
{
	byte issued, h, last = (BEGIN - UNKNOWN) % W;

#if UNKNOWN
	req[S - 1] = STUCK;
#endif
	do
	EACH(ISSUE)
	:: d_step { /* it may look without having been called */
			last != used_idx;
			h = used[last % S];
			assert(req[h] != 0 && req[h] != STUCK); /* [once] */
			assert(!completed[req[h]]);
			assert(done[req[h]]); /* [done] */
			completed[req[h]] = 1;
			done[req[h]] = 0;
			again[req[h]] = 0;
			req[h] = 0;
			used[last % S] = 0;
			h = 0;
			last = (last + 1) % W
		}
	:: called && last == (BEGIN - UNKNOWN + N) % W && issued == N -> break /* [kept] */
	od
}

/* ---- back-end, and its disk ------------------------------------------------------ */

#define UNDER_WAY(h) (p[h] > 0 && p[h] < DONE)
#define LATE(h) (z[h] > 0)

#define SERVES(h)                                                               \
	:: d_step {                                                             \
			UNDER_WAY(h);                                           \
			assert(!completed[p[h]]); /* [over] */                  \
			done[p[h]] = 1;                                         \
			again[p[h]] = 1;                                        \
			p[h] = DONE                                             \
		}                                                               \
	:: d_step { p[h] == DONE; s_used[s_used_idx % S] = h; s_used_idx++; p[h] = 0 }   \
	:: d_step {                                                             \
			LATE(h);                                                \
			assert(!completed[z[h]]); /* [over] */                  \
			assert(!again[z[h]]);     /* [late] */                  \
			done[z[h]] = 1;                                         \
			z[h] = 0                                                \
		}

#define FORGET(h) p[h] = 0;
#define END_LATE(h) z[h] = 0;
#define LEAVE(h)                                                                \
	if                                                                      \
	:: UNDER_WAY(h) -> z[h] = p[h]                                          \
	:: else                                                                 \
	fi;                                                                     \
	p[h] = 0;

#define OWN_LATE (lives_on && living == process)

/* What is in a shadow ring whose connection is gone only umbra still looks at: what was used. */
#define FORGET_PLACE(i) s_avail[i] = 0;
inline forget_ring()
{
	taken = 0;
	s_avail_idx = 0;
	EACH(FORGET_PLACE)
}

/* A number that means no other process. */
inline start_another()
{
	process = 1;
	do
	:: process == peer || (lives_on && process == living) -> process++
	:: else -> break
	od
}

inline die()
{
	EACH(FORGET)
	taken = 0;
	if
	:: OWN_LATE -> lives_on = 0; living = 0; EACH(END_LATE)
	:: else
	fi;
	start_another();
	link = LISTENS;
	forget_ring()
}

/* What the connection has stays under way, what it was only shown, too. */
inline live_on()
{
	do
	:: link != LISTENS && taken != s_avail_idx ->
		h = s_avail[taken % S];
		p[h] = req[h];
		again[req[h]] = 0;
		taken++
	:: else -> break
	od;
	h = 0;
	EACH(LEAVE)
	lives_on = 1;
	living = process
}

active proctype backend()
{
	byte h;

	if
	:: drains = 1
#ifndef BUG_FAMILY
	:: drains = 0
#endif
	fi;
end_serve:
	do
	:: d_step {
			link != LISTENS && taken != s_avail_idx;
			h = s_avail[taken % S];
			s_avail[taken % S] = 0;
			assert(req[h] != 0);
			p[h] = req[h];
			again[req[h]] = 0;
			taken++;
			h = 0
		}
	EACH(SERVES)

	/* It dies, and another one is started. */
	:: d_step { b_deaths < KB; b_deaths++; die() }
	/* The operator ends it, asked by umbra. */
	:: d_step { link == LISTENS && held_for == process && !drains; die() }

	/* It hangs up by itself, or sees that umbra did. */
	:: d_step { hang_ups < KH && link == JOINED; hang_ups++; link = HUNG_UP }
	:: d_step {
			link == HUNG_UP && drains && !ANY(UNDER_WAY);
			EACH(FORGET)
			link = LISTENS;
			forget_ring()
		}
	:: d_step {
			link == HUNG_UP && !drains && (!lives_on || OWN_LATE);
			live_on();
			link = LISTENS;
			forget_ring()
		}

	/* It hangs, and another one takes its place. */
	:: d_step {
			hang_ups < KH && (!lives_on || OWN_LATE);
			hang_ups++;
			live_on();
			start_another();
			link = LISTENS;
			forget_ring()
		}
	:: d_step { lives_on && !OWN_LATE; lives_on = 0; living = 0; EACH(END_LATE) }
	od
}

/* ---- umbra --------------------------------------------------------------------- */

#define MAY_DIE                                                                 \
	if                                                                      \
	:: true                                                                 \
	:: u_deaths < KU -> goto killed                                         \
	fi

#define STORE(where, what) where = (what); MAY_DIE

/* umbra's own: counts that do not wrap, `next` and `over` as in the flight table */
byte next, over, noted, s_added, s_last_used;

/* The record: record_recover(), record_anything_handed(), record_renew(), record_oldest(),
 * record_take(), record_retake(), record_hand_over(), record_note(), record_publish() */
#ifdef REGION
#include "region.pml"
#else
#include "table.pml"
#endif

/* shadow_queue.c: chain_add(), that is driver_ring_add(): not seen by the back-end yet */
inline s_add(head)
{
	s_avail[s_added % S] = head;
	assert(req[head] > s_newest); /* [order] */
	s_newest = req[head];
	s_added++
}

/* shadow_queue.c: queue_forward() */
inline forward()
{
	n = 0;
	do
	:: n < BATCH && next % W != avail_idx ->
		h = avail[next % S]; /* device_ring_take() */
		s_add(h);
#ifdef BUG_SUBMIT
		STORE(s_avail_idx, s_added);
#endif
		record_take(h);
		n++
	:: n > 0 -> break
	od;
	record_hand_over();
	STORE(s_avail_idx, s_added); /* driver_ring_publish() */
	record_handed_over();
	n = 0;
	h = 0
}

/* shadow_queue.c: queue_backward() */
inline backward()
{
	n = 0;
	do
	:: n < BATCH && s_last_used != s_used_idx ->
		h = s_used[s_last_used % S]; /* driver_ring_get() */
		s_used[s_last_used % S] = 0;
		s_last_used++;
		record_note(h);
		STORE(used[noted % S], h); /* device_ring_complete() */
		noted++;
		n++
	:: n > 0 -> break
	od;
	record_published_early();
	called = 0;
	STORE(used_idx, noted % W); /* device_ring_publish() */
	record_publish();
	n = 0;
	h = 0
}

#define EMPTY(i) s_used[i] = 0;
/* A new shadow ring for a new connection, with all that is in flight. */
inline join()
{
	record_judge_late();
#ifndef BUG_RENEW_EARLY
	record_renew();
#endif
	s_avail_idx = 0;
	s_used_idx = 0;
	EACH(EMPTY)
	s_last_used = 0;
	s_added = 0;
	s_newest = 0;
	held_for = 0;
	link = JOINED;
#ifndef BUG_PEER_LATE
	STORE(peer, process);
#endif
	n = 0;
	do
	:: true ->
		record_oldest(); /* of which n has no bit, into h */
		if
		:: h == S -> break
		:: else -> n = n | (1 << h); s_add(h); record_retake(h)
		fi
	od;
	record_hand_over();
	STORE(s_avail_idx, s_added);
	record_handed_over();
#ifdef BUG_PEER_LATE
	STORE(peer, process);
#endif
	n = 0;
	h = 0
}

/* A peer that may have something is waited for. */
#ifdef BUG_ZOMBIE
#define MAY_JOIN true
#elif defined(BUG_FAMILY)
#define MAY_JOIN (held_for == 0 || GONE(held_for) || drains)
#else
#define MAY_JOIN (held_for == 0 || GONE(held_for) || (drains && held_for == process))
#endif

/* What a dead back-end had used need not be seen: it is done once more, and completed once. */
#ifdef UNDRAINED
#define IS_DRAINED true
#else
#define IS_DRAINED (s_last_used == s_used_idx)
#endif

inline hold()
{
	record_anything_handed();
	held_for = (n -> peer : 0);
	n = 0;
#ifdef BUG_RENEW_EARLY
	record_renew();
#endif
}

active proctype umbra()
{
	byte h, n, i;

recover:
	/* Nobody stores to record or used index meanwhile, so when it happens does not matter. */
	atomic {
		record_recover();
#ifndef BUG_NO_CALL
		called = 1;
#endif
		hold()
	}
end_held:
	do
	:: atomic { link == LISTENS && MAY_JOIN -> join(); break }
	:: u_deaths < KU -> goto killed
	od;
end_serve:
	do
	:: atomic { link == JOINED && next % W != avail_idx -> forward() }
	:: atomic { s_last_used != s_used_idx -> backward(); called = 1 }
	:: atomic { link != JOINED && IS_DRAINED -> hold(); goto end_held }
	:: u_deaths < KU -> goto killed
	od;
killed:
	atomic {
		skip;
		d_step {
			u_deaths++;
			if
			:: link == JOINED -> link = HUNG_UP
			:: else
			fi;
			held_for = 0;
			next = 0; over = 0; noted = 0; s_added = 0; s_last_used = 0;
			h = 0; n = 0; i = 0;
			record_killed()
		}
		goto recover
	}
}
