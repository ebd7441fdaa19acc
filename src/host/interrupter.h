/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What gets a thread out of a system call that a peer lets block.
 *
 * Theory of operation: O_NONBLOCK belongs to the open file, and a peer that has
 * handed over an eventfd or a pipe shares it: it can take the flag away and fill
 * the counter between our look and our write(2).  Sockets have MSG_DONTWAIT; for
 * the others Linux has nothing of the kind (RWF_NOWAIT is refused for a write).
 * So while a thread may touch such a file, a timer sends it a signal every
 * INTERRUPTER_PERIOD_MS.  The handler does nothing; what it is there for is that
 * a call that waits returns EINTR.  A call that does not wait is not harmed by
 * a signal, so EINTR from a write(2) of eight bytes means that it was blocked,
 * however slow the machine is: no deadline is judged here.
 *
 * The timer repeats, because a signal that comes just before the call that
 * blocks is lost.  It is stopped while the thread sleeps.
 *
 * The signal is a real-time one that nobody had a handler for when the first
 * interrupter was made.  It is only ever sent to threads that have made one.
 *
 * Threads: an interrupter is used by the thread that made it.
 */
#ifndef UMBRA_HOST_INTERRUPTER_H
#define UMBRA_HOST_INTERRUPTER_H

#include <stdbool.h>
#include <time.h>

#include "umbra/error.h"

/* How long one call can be blocked.  A device that has all its 256 queues spoiled
 * at once is still rid of them within seconds. */
#define INTERRUPTER_PERIOD_MS 10

struct interrupter {
	timer_t timer;
	bool runs;
	bool was_blocked; /* the signal, in this thread */
};

/* For the calling thread, in which the signal is let through until _destroy().
 * -EBUSY: every real-time signal has a handler; or the code of the call that failed. */
UMBRA_MUST_CHECK int interrupter_create(struct interrupter *i);
void interrupter_destroy(struct interrupter *i);

/* Cheap when it runs, or does not, already. */
void interrupter_start(struct interrupter *i);
void interrupter_stop(struct interrupter *i);

#endif
