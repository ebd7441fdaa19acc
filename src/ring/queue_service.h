/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A queue in service: what a thread needs to know to serve one.
 *
 * Some thread of the host owns the queue from the service's begin to its end,
 * calls pass() whenever one of the two incoming eventfds fires or more is to be
 * done, and sends the notifications that are due.  What kind of queue it is
 * (a shadow queue, a balloon's) only pass() knows.
 */
#ifndef UMBRA_RING_QUEUE_SERVICE_H
#define UMBRA_RING_QUEUE_SERVICE_H

#include <stdbool.h>
#include <stdint.h>

enum queue_action {
	QUEUE_CALL_GUEST = 1,   /* interrupt the guest's driver */
	QUEUE_KICK_BACKEND = 2, /* notify the back-end */
	QUEUE_MORE = 4,         /* call pass() again before sleeping */
	QUEUE_YIELD = 8,        /* and not before all others have had their turn: it was long */
	QUEUE_NOTICE = 16,      /* there is something for the device's thread to see */
};

struct queue_service {
	/*
	 * Move one batch.  Returns a mask of enum queue_action: 0 means nothing
	 * moved and all is armed, sleep until the next notification.  Negative:
	 * the queue is broken and moves nothing any more; the notifications that
	 * what came before asks for are in *@notify.
	 */
	int (*pass)(void *queue, unsigned int *notify);
	/*
	 * Both or none.  move() is a pass() that never arms: 0 means that nothing
	 * moved, and nobody will notify.  has_work() is a cheap look whether
	 * move() would find something.  With them the host may look for a while
	 * before it has pass() arm the queue, and sleeps.
	 */
	int (*move)(void *queue, unsigned int *notify);
	bool (*has_work)(const void *queue);
	void *queue;
	unsigned int index; /* of the ring */
	int kick_in;        /* from the guest; -1: it polls, so must we */
	int call_in;        /* from the back-end; -1: there is none */
	int kick_out;       /* to the back-end; -1: there is none */
	int call_out;       /* to the guest; -1: it polls */
	uint64_t *kicks_in; /* counters of what came, written with relaxed stores; */
	uint64_t *calls_in; /* NULL where there is no fd */
	bool broken;        /* atomic; the host sets it when pass() said that the queue is, or one
			       of the fds let the thread block; it stops serving, and has the
			       device look soon */
	const char *fault;  /* in the second case, what happened; written before `broken` */
	void *server;       /* the host's own */
};

static inline void counter_add(uint64_t *counter, uint64_t n)
{
	/* one writer: load and store need not be one step */
	__atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}

#endif
