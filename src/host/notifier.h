/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Kicks and calls: eventfds, or pipes and sockets that stand for one.
 *
 * Theory of operation: a notification is eight bytes, and it must never block,
 * because the other end is not trusted to read.  A socket (User Mode Linux's
 * interrupt is one) is sent to without waiting.  An eventfd blocks only when
 * its counter is full, which takes 2^64 - 2 notifications or a peer that wrote
 * that number, and only in blocking mode; one that is in that mode is asked
 * first.  But the mode and the counter are not ours: the open file is shared, and
 * a peer can change both between our look and our write.  So who sends is a thread
 * with an interrupter (host/interrupter.h) that runs, and hears of a call that was
 * blocked.  The same goes for reading.
 */
#ifndef UMBRA_HOST_NOTIFIER_H
#define UMBRA_HOST_NOTIFIER_H

#include <stdbool.h>

#include "umbra/error.h"

enum notifier_kind { NOTIFIER_NONE, NOTIFIER_EVENTFD, NOTIFIER_ASK_FIRST, NOTIFIER_SOCKET };

struct notifier {
	int fd; /* borrowed */
	enum notifier_kind kind;
};

/* Find out how to notify @fd; -1: nobody wants to be. */
struct notifier notifier_make(int fd);

/*
 * Notify.  A full counter or buffer is as good as a notification: one is
 * pending.  A peer that is gone is noticed elsewhere.
 * -EINTR: the file let the call block, and the interrupter ended it.  That cannot
 * happen to an eventfd of our own that no peer has.  Else 0.
 */
int notifier_send(const struct notifier *n);

/* The same, once, from a thread that has no interrupter. */
int notifier_send_guarded(int fd);

/* Read what is there of @fd.  0; -EINTR, as above; -EPIPE: the other end is closed,
 * nothing will ever come, and @fd stays readable. */
int notifier_drain(int fd);

/* Has its reader read all notifications of @fd?  -1, or nobody knows: yes. */
bool notifier_is_heard(int fd);

/* An eventfd of our own, one of those that a peer can make us open: -EMFILE, if the limit of open
 * files leaves no room for more of them, or what eventfd(2) says. */
UMBRA_MUST_CHECK int notifier_make_eventfd(int *out, struct umbra_error *err);

/* True if @fd is an eventfd, which need not be drained to be heard again by an
 * edge-triggered epoll. */
bool is_eventfd(int fd);

#endif
