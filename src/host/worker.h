/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A thread that serves queues (ring/queue_service.h).
 *
 * Theory of operation: a queue that is given to a worker belongs to its thread
 * until it is taken back.  The thread sleeps in epoll on the incoming eventfds
 * of all its queues; an event makes a queue ready; a ready queue gets passes
 * until it says that it is armed and idle, a bounded number in a row, then the
 * next one's turn comes.  Eventfds are watched edge-triggered and never read:
 * every write is an edge, so one system call per wake-up is saved.  What only
 * looks like an eventfd is read.
 *
 * Before it sleeps, the thread looks for more work for LOOK_NS, with all queues
 * unarmed, so that neither side has to notify.  To be woken costs more than
 * that where the processor is a virtual one that has to be woken, too.  A look
 * in vain is a waste, so after n of them in a row the next 2^n - 1 chances, at
 * most LOOK_SKIPS_MAX, are passed over: traffic with long gaps costs looks in
 * one gap out of a hundred, and no traffic costs nothing, since a thread that
 * sleeps wakes for notifications only.
 *
 * A peer that has one of a queue's fds can make a write to it, or a read, wait for
 * ever.  An interrupter (interrupter.h) ends that, and the queue is broken for that
 * reason; so who waits for the thread waits for a bounded time.
 *
 * To give and to take a queue is a message to the thread that is waited for, so
 * the thread itself needs no lock.
 *
 * Threads: worker_begin() and worker_end() from one thread, not the worker's.
 */
#ifndef UMBRA_HOST_WORKER_H
#define UMBRA_HOST_WORKER_H

#include "ring/queue_service.h"
#include "umbra/error.h"

struct worker;

/* @broken_fd: an eventfd (borrowed) that is notified after a queue's `broken`
 * was set.  -ENOMEM or the code of the system call that failed. */
UMBRA_MUST_CHECK int worker_create(int broken_fd, struct worker **out, struct umbra_error *err);
/* It serves nothing any more.  Joins the thread. */
void worker_destroy(struct worker **worker);

UMBRA_MUST_CHECK int worker_begin(struct worker *worker, struct queue_service *service,
				  struct umbra_error *err);
void worker_end(struct worker *worker, struct queue_service *service);

#endif
