/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Between passed through and shadowed, at any moment, before a back-end that dies at any step
 * for which there is a remedy.
 *
 *	passed through    guest --its ring--> back-end
 *	shadowed          guest --its ring--> umbra --shadow ring--> back-end
 *
 * The back-end is one of vhost-user: it stops a ring on GET_VRING_BASE, answers with the chain
 * that it would have taken next, and completes what it has afterwards, in silence.  A
 * message that is answered is one step of both.  It takes in the ring's order and completes
 * in any.
 *
 * Checked, as in killed.pml: [once] [done] [kept] [over], and
 *
 *	[order]  one process of the back-end takes each request once, in the guest's order,
 *	         from whichever ring;
 *	[awake]  nobody sleeps for ever: eventfds, the flag by which a device asks for
 *	         silence, and the second look are modelled for both rings ([kept] finds it).
 *
 * A death is followed by a replay on a new shadow ring, in whichever step of a switch it comes.
 * That the dead is dead, and umbra's own death, are killed.pml's; the flights are umbra's
 * own here.  A back-end that dies while it has chains of the guest's own ring
 * takes with it what nobody else knows: there is no remedy, and it does not happen here.
 * (Who wants one is shadowed, or has a back-end with a record of its own.)
 *
 * What was replayed is waited for before a switch.  The guest's ring takes back its newest chains
 * only, and of the flights of one life those that the back-end has not taken are the
 * newest.  After a replay they are not: others that were taken behind them may have been
 * completed before.
 *
 * Memory is sequentially consistent; what is weaker between two sides of one ring is not
 * modelled.  Umbra's worker and the thread that switches are one process, since a ring is
 * handed from one to the other by a message that is waited for.
 *
 *	-DN=3 requests, -DS=2 heads, -DSWITCHES=2, -DKB=1 deaths
 *
 * One wrong step each:
 *	-DBUG_NO_KICK     no kick at the start in the other mode
 *	-DBUG_NO_REKICK   no kick after a replay
 *	-DBUG_NO_ARM      the guest's ring is left asking for silence
 *	-DBUG_NO_LOOK     umbra arms and sleeps without another look
 *	-DBUG_NO_CALL     the guest is not called for what was completed in silence
 *	-DBUG_NO_DRAIN    what was taken is not waited for
 *	-DBUG_NO_REWIND   what was not taken is not given back
 *	-DBUG_AT_AVAIL    the other mode starts at the avail index
 *	-DBUG_UNTAKE      what was given back stays a flight
 *	-DBUG_REPLAYED    a switch does not wait for what was replayed
 *	-DBUG_PASS_DEAD   a death during the drain is not noticed: it goes on to pass through
 */
#ifndef N
#define N 3
#endif
#ifndef S
#define S 2
#endif
#ifndef SWITCHES
#define SWITCHES 2
#endif
#ifndef KB
#define KB 1
#endif

#define DONE (N + 1)
#define GUEST 0
#define SHADOW 1
#define NONE 2

/* both rings: [S * ring + place] */
byte req[S];
byte avail[2 * S], used[2 * S], avail_idx[2], used_idx[2];
bit quiet[2];     /* its device asks for silence */
bit kick[2], call; /* eventfds; call: the shadow ring's, to umbra */
bit called;        /* the guest, since its used index was stored last */
bit done[N + 1], completed[N + 1];

/* the back-end: what it was told, and has under way */
byte ring = NONE, at, p[S], on[S], newest, deaths;
bit awake, away, plain; /* plain: it never asks for silence, nor takes that back */

/* ---- guest -------------------------------------------------------------------- */

active proctype guest()
{
	byte issued, last, h;

	do
	:: d_step {
			issued < N && (req[0] == 0 || req[1] == 0);
			h = (req[0] == 0 -> 0 : 1);
			issued++;
			req[h] = issued;
			avail[avail_idx[GUEST] % S] = h;
			avail_idx[GUEST]++;
			h = 0
		}
		if
		:: d_step { !quiet[GUEST]; kick[GUEST] = 1 }
		:: quiet[GUEST]
		fi
	:: d_step {
			last != used_idx[GUEST];
			h = used[last % S];
			assert(req[h] != 0);          /* [once] */
			assert(!completed[req[h]]);
			assert(done[req[h]]);         /* [done] */
			completed[req[h]] = 1;
			req[h] = 0;
			used[last % S] = 0;
			h = 0;
			last++
		}
	:: called && last == N -> break /* [kept] */
	od
}

/* ---- back-end ----------------------------------------------------------------- */

#define SERVES(h)                                                               \
	:: d_step {                                                             \
			p[h] > 0 && p[h] < DONE;                                \
			assert(!completed[p[h]]); /* [over] */                  \
			done[p[h]] = 1;                                         \
			p[h] = DONE                                             \
		}                                                               \
	:: d_step {                                                             \
			p[h] == DONE;                                           \
			used[S * on[h] + used_idx[on[h]] % S] = h;              \
			used_idx[on[h]]++;                                      \
			called = (on[h] == GUEST -> 0 : called);                \
			p[h] = DONE + 1                                         \
		}                                                               \
	:: d_step { /* the notification; of a ring that is stopped there is none */ \
			p[h] == DONE + 1;                                       \
			called = (on[h] == GUEST && ring == GUEST -> 1 : called); \
			call = (on[h] == SHADOW && ring == SHADOW -> 1 : call); \
			p[h] = 0;                                               \
			on[h] = 0                                               \
		}

/* Does it have a chain of the guest's own ring?  (One that is used lacks the call only.) */
#define OF_GUEST(h) (p[h] > 0 && on[h] == GUEST)

active proctype backend()
{
	byte h;

	if
	:: plain = 1
	:: plain = 0
	fi;
end_serve:
	do
	:: d_step { ring != NONE && !awake && kick[ring]; kick[ring] = 0; awake = 1 }
	/* It may ask for silence while it is awake, and need not. */
	:: d_step {
			!plain && ring != NONE && awake && !quiet[ring] && at != avail_idx[ring];
			quiet[ring] = 1
		}
	:: d_step {
			ring != NONE && awake && at != avail_idx[ring];
			h = avail[S * ring + at % S];
			assert(p[h] == 0 || p[h] > DONE);
			assert(req[h] > newest); /* [order] */
			newest = req[h];
			/* Its call for what was on that head is the next one's. */
			p[h] = req[h];
			on[h] = ring;
			at++;
			h = 0
		}
	:: d_step {
			!plain && ring != NONE && awake && quiet[ring] && at == avail_idx[ring];
			quiet[ring] = 0
		}
	:: d_step {
			ring != NONE && awake && (plain || !quiet[ring]) && at == avail_idx[ring];
			awake = 0
		}
	SERVES(0)
	SERVES(1)
	:: d_step {
			deaths < KB && !away && ring != GUEST && !OF_GUEST(0) && !OF_GUEST(1);
			deaths++;
			p[0] = 0; p[1] = 0; on[0] = 0; on[1] = 0;
			newest = 0; awake = 0; at = 0;
			ring = NONE;
			away = 1
		}
	od
}

/* ---- umbra ---------------------------------------------------------------------- */

/* its flights: by head, 1 and more in the order taken; next on the guest's ring, last used on
 * the shadow ring */
byte order[S], next, s_last_used, replayed; /* flights up to which order were */

#define FLIGHTS ((order[0] > 0) + (order[1] > 0))
/* The newest flight, and the oldest beyond a number. */
#define REPLAYS(h) (order[h] > 0 && order[h] <= replayed)
#ifdef BUG_REPLAYED
#define MAY_SWITCH (switches < SWITCHES)
#else
#define MAY_SWITCH (switches < SWITCHES && !REPLAYS(0) && !REPLAYS(1))
#endif
#define NEWEST (order[0] > order[1] -> 0 : 1)
#define OLDEST_BEYOND(n) \
	(order[0] > n && (order[1] <= n || order[0] < order[1]) -> 0 : 1)

/* To one that is away this is said in vain. */
inline start(which, where)
{
	if
	:: !away -> ring = which; at = where; awake = 0
	:: away
	fi
}

/* GET_VRING_BASE.  Of a dead one there is no answer. */
inline stop()
{
	d_step { base = at; ring = NONE; awake = 0 }
}

/* shadow_queue.c: queue_forward() */
inline forward()
{
	d_step {
		h = avail[next % S];
		avail[S + avail_idx[SHADOW] % S] = h;
		next++;
		order[h] = next;
		avail_idx[SHADOW]++;
		h = 0
	}
	if
	:: d_step { !quiet[SHADOW]; kick[SHADOW] = 1 }
	:: quiet[SHADOW]
	fi
}

/* shadow_queue.c: queue_backward() */
inline backward()
{
	d_step {
		h = used[S + s_last_used % S];
		used[S + s_last_used % S] = 0;
		s_last_used++;
		order[h] = 0;
		used[used_idx[GUEST] % S] = h;
		used_idx[GUEST]++;
		called = 0;
		h = 0
	}
	called = 1
}

/* A new shadow ring, at the guest's index less the flights. */
inline lay_out(where)
{
	avail_idx[SHADOW] = where;
	used_idx[SHADOW] = where;
	s_last_used = where;
	avail[S] = 0; avail[S + 1] = 0; used[S] = 0; used[S + 1] = 0;
	quiet[SHADOW] = 0;
	kick[SHADOW] = 0;
	call = 0
}

/* The back-end died; what it had used was seen.  A new one gets all that is in flight. */
inline replay()
{
	d_step {
		away = 0;
		replayed = next;
		lay_out(next - FLIGHTS);
		n = 0;
		do
		:: OLDEST_BEYOND(n) < S && order[OLDEST_BEYOND(n)] > n ->
			h = OLDEST_BEYOND(n);
			n = order[h];
			avail[S + avail_idx[SHADOW] % S] = h;
			avail_idx[SHADOW]++
		:: else -> break
		od;
		n = 0;
		h = 0;
		start(SHADOW, used_idx[SHADOW])
	}
#ifndef BUG_NO_REKICK
	kick[SHADOW] = 1
#endif
}

inline to_shadowed()
{
	stop();
#ifndef BUG_NO_DRAIN
	used_idx[GUEST] == base;
#endif
#ifndef BUG_NO_CALL
	called = 1;
#endif
	d_step {
#ifdef BUG_AT_AVAIL
		base = avail_idx[GUEST];
#endif
		next = base;
		lay_out(base)
	}
	d_step { start(SHADOW, base); base = 0 }
#ifndef BUG_NO_KICK
	kick[SHADOW] = 1
#endif
}

/* Stays shadowed if the back-end dies. */
inline to_passed()
{
	atomic {
		if
		:: !away -> stop()
		:: away -> goto shadowed
		fi
	}
#ifndef BUG_NO_REWIND
	/* shadow_queue_rewind(): flight_hand_back(), flight_untake() */
	d_step {
		do
		:: avail_idx[SHADOW] != base ->
			assert(order[NEWEST] == next);
#ifndef BUG_UNTAKE
			order[NEWEST] = 0;
#endif
			next--;
			avail_idx[SHADOW]--
		:: else -> break
		od
	}
#endif
	/* shadow_queue_drain() */
#ifndef BUG_NO_DRAIN
	do
	:: s_last_used != used_idx[SHADOW] -> backward()
	:: FLIGHTS == 0 && !away && s_last_used == used_idx[SHADOW] -> break
	:: away && s_last_used == used_idx[SHADOW] ->
#ifdef BUG_PASS_DEAD
		d_step { away = 0; order[0] = 0; order[1] = 0 }
		break
#else
		base = 0;
		goto shadowed
#endif
	od;
#endif
#ifndef BUG_NO_ARM
	quiet[GUEST] = 0;
#endif
	atomic {
		if
		:: !away ->
#ifdef BUG_AT_AVAIL
			next = avail_idx[GUEST];
#endif
			start(GUEST, next);
			d_step { next = 0; replayed = 0; s_last_used = 0; lay_out(0); base = 0 }
		:: away -> base = 0; goto shadowed
		fi
	}
#ifndef BUG_NO_KICK
	kick[GUEST] = 1
#endif
}

active proctype umbra()
{
	byte base, switches, h, n;

	d_step { start(GUEST, 0) }
	kick[GUEST] = 1;
end_passed:
	do
	:: switches < SWITCHES ->
		switches++;
		to_shadowed();
shadowed:
		do
		:: s_last_used != used_idx[SHADOW] -> backward()
		:: !away && next != avail_idx[GUEST] -> quiet[GUEST] = 1; forward()
		:: away && s_last_used == used_idx[SHADOW] -> replay()
		:: !away && s_last_used == used_idx[SHADOW] && next == avail_idx[GUEST] ->
			quiet[GUEST] = 0; /* arm, and look again */
			if
#ifndef BUG_NO_LOOK
			:: away || s_last_used != used_idx[SHADOW] || next != avail_idx[GUEST]
			:: else ->
#else
			:: true ->
#endif
end_asleep:
				if
				:: d_step { kick[GUEST]; kick[GUEST] = 0 }
				:: d_step { call; call = 0 }
				:: away
				:: MAY_SWITCH -> break
				fi
			fi
		:: MAY_SWITCH -> break
		od;
		switches++;
		to_passed()
	od
}
