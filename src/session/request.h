/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What other threads want of a device's thread: requests, and the desk where they are left.
 *
 * Theory of operation: a request is a member of the thing it speaks of.  Any thread leaves it
 * at the desk, which rings a bell; the device's thread carries out what it finds, in the
 * order in which it came.  There are two kinds:
 *
 *   - One that has a tell() is under way until request_done(), and who asked is told exactly
 *     once: what came of it; or that it is overdue, since the thread waits for something
 *     for longer than the desk's deadline; or that the thread has ended.  One that is told to be
 *     overdue while it is carried out is still under way, but its end is told to nobody.
 *   - One without is news: something is to be looked at.  Left again before the thread
 *     has come to it, it is still one; left again while the thread is at it, it is carried
 *     out once more.  Who wants to see what comes of it waits for a moment
 *     (request_await_locked()).
 *
 *	FREE -- request_leave_locked() --> LEFT -- the thread comes to it --> UNDER_WAY
 *	 ^                                  | (news: FREE at once)             |      |
 *	 |           overdue, or the end    |                          overdue |      |
 *	 |<---------------------------------+                                  v      |
 *	 |<------------- request_done() ------------------------------------ TOLD     |
 *	 |<------------- request_done() ----------------------------------------------+
 *
 * Nothing here waits for a peer: who asks waits for nobody, or for a bounded time.
 *
 * Ownership: a request with a tell() is the desk's until forget(), which may free it; news
 * outlive the desk.  The lock is borrowed.
 * Threads: functions that end in _locked are called under the desk's lock, by any thread;
 * the others, without it, by the device's.
 */
#ifndef UMBRA_SESSION_REQUEST_H
#define UMBRA_SESSION_REQUEST_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "session/bell.h"
#include "umbra/error.h"

enum request_state { REQUEST_FREE, REQUEST_LEFT, REQUEST_UNDER_WAY, REQUEST_TOLD };

struct request {
	/* Carry it out; one with a tell(), up to request_done(). */
	void (*serve)(struct request *r);
	/* Tell who asked.  NULL: it is news, and what follows is NULL, too. */
	void (*tell)(struct request *r, int result, const struct umbra_error *err);
	/* The desk has done with it. */
	void (*forget)(struct request *r);
	/* It is under way for @waited_ms, which is too long, and the thread waits, as @waits_for
	 * says: see to it that it comes to nothing, and put into @err what who asked is told.
	 * NULL: nothing is waited for while it is carried out. */
	void (*overdue)(struct request *r, const char *waits_for, uint64_t waited_ms,
			struct umbra_error *err);

	/* The desk's, under its lock: */
	enum request_state state;
	struct request *next;
	uint64_t since_us;            /* when it was left */
	uint64_t left, taken, served; /* of news: how often it was left; `left` as it was when
					 the thread came to it, and when that was done */
};

enum request_desk_state {
	REQUEST_DESK_QUIET,    /* there is no thread yet; what is left waits for it */
	REQUEST_DESK_ATTENDED, /* there is one */
	REQUEST_DESK_CLOSED,   /* there is none any more */
};

struct request_desk {
	pthread_mutex_t *lock;
	struct bell bell;
	unsigned int deadline_ms;
	/* Under the lock: */
	pthread_cond_t served; /* some news, or the thread has ended */
	enum request_desk_state state;
	pthread_t thread;
	struct request *first; /* that was left; more by `next` */
	struct request *under_way;
};

/* Errors of eventfd(2). */
UMBRA_MUST_CHECK int request_desk_open(struct request_desk *desk, pthread_mutex_t *lock,
				       unsigned int deadline_ms, struct umbra_error *err);
/* Also of one that is zeroed but for bell = BELL_NONE. */
void request_desk_close(struct request_desk *desk);

/* The calling thread is the device's from here on. */
void request_desk_attend(struct request_desk *desk);
/* It carries out no more.  What is left, and asks for an answer, gets -ECANCELED. */
void request_desk_abandon(struct request_desk *desk);

/* The bell has rung: carry out what was left. */
void request_desk_serve(struct request_desk *desk);

/* The thread waits for something, which @waits_for says in a phrase: tell who has waited for
 * longer than the deadline. */
void request_desk_overdue(struct request_desk *desk, const char *waits_for);

/* This has come of @r, which is under way. */
void request_done(struct request_desk *desk, struct request *r, int result,
		  const struct umbra_error *err);

/* Is there one that has to be answered? */
bool request_desk_is_busy_locked(const struct request_desk *desk);

/* Leave @r: a new one, or news.  -ECANCELED: the thread has ended. */
UMBRA_MUST_CHECK int request_leave_locked(struct request_desk *desk, struct request *r);

/*
 * Leave @r, which is news, and wait until it has been carried out since, @timeout_ms at
 * most.  Nothing happens where nobody could do it: before the thread is there, after it has
 * ended, and on the thread itself.
 */
void request_await_locked(struct request_desk *desk, struct request *r, unsigned int timeout_ms);

#endif
