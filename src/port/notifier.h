/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Kicks and calls: eventfds, or sockets that stand for one.
 *
 * Theory of operation: a notification is eight bytes, and it must never block,
 * because the other end is not trusted to read.  A socket (User Mode Linux's
 * interrupt is one) is sent to without waiting.  An eventfd blocks only when
 * its counter is full, which takes 2^64 - 2 notifications or a peer that wrote
 * that number: one that is in non-blocking mode is safe, another is asked
 * first.  The mode is not ours to change: the open file is shared.
 */
#ifndef UMBRA_PORT_NOTIFIER_H
#define UMBRA_PORT_NOTIFIER_H

#include <stdbool.h>

enum notifier_kind { NOTIFIER_NONE, NOTIFIER_EVENTFD, NOTIFIER_ASK_FIRST, NOTIFIER_SOCKET };

struct notifier {
	int fd; /* borrowed */
	enum notifier_kind kind;
};

/* Find out how to notify @fd; -1: nobody wants to be. */
struct notifier notifier_make(int fd);

/* Notify.  A full counter or buffer is as good as a notification: one is
 * pending.  A peer that is gone is noticed elsewhere. */
void notifier_send(const struct notifier *n);

/* Read @fd empty without blocking. */
void notifier_drain(int fd);

/* True if @fd is an eventfd, which need not be drained to be heard again by an
 * edge-triggered epoll. */
bool is_eventfd(int fd);

#endif
