/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Work for the main loop, posted by any thread.
 *
 * Theory of operation: a list under a lock, and an eventfd that is readable
 * while the list is not empty.  A letter is a member of the thing it speaks
 * of, so that posting allocates nothing and cannot fail.
 *
 * Ownership: a letter belongs to the mailbox from mailbox_post() until its
 * @deliver is called; @deliver may free it.
 *
 * Threads: mailbox_post() any; the rest, the thread of the main loop.
 */
#ifndef UMBRA_CLI_MAILBOX_H
#define UMBRA_CLI_MAILBOX_H

#include "umbra/error.h"

struct letter {
	struct letter *next;
	void (*deliver)(struct letter *letter);
};

struct mailbox;

/* -ENOMEM, or what eventfd(2) said. */
UMBRA_MUST_CHECK int mailbox_create(struct mailbox **out, struct umbra_error *err);

/* Delivers what is left.  Nobody posts any more. */
void mailbox_destroy(struct mailbox **mailbox);

/* Readable while there are letters; borrowed. */
int mailbox_fd(const struct mailbox *mailbox);

/* In the order of posting.  Does not block. */
void mailbox_post(struct mailbox *mailbox, struct letter *letter);

/* Deliver what has been posted so far.  Does not block. */
void mailbox_deliver(struct mailbox *mailbox);

#endif
