/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What outlives this program by a service manager's fd store (host/fd_store.h): a record
 * (base/record.h) of a device and its front-end, and the fds that it names.
 *
 * Theory of operation: the record lies in a memfd that is in the store, in one of two places; a
 * word says which of them counts.  Each change is written to the other one, after what it
 * names is in the store and before what it does not name any more is taken out of it; so that
 * a kill between any two steps leaves a record whose fds are all there.
 *
 * The front-end's connection is as far as what it was told and has told us.  A word says that a
 * message is on its way: from before the first byte of it is read until what it changed is
 * written down, and its answer is out.  A program that died there cannot know whether the
 * front-end waits for an answer, and to what: the connection is given up, and the rest kept.
 *
 *	state memfd	head: form, in_message, which place counts (0: neither)
 *			two places: how many bytes and fds, the fds' numbers, the text
 *	"umbra-state"	that memfd; "umbra-N": fd number N, which no other ever gets
 *
 * An error of the store ends the keeping, for good: what is there is declared void first.
 *
 * Ownership: all of it; fds of a record that is written are borrowed.
 * Threads: the device's.
 * Trust: what was kept may be anything; it is copied, and the copy judged by whoever reads it.
 */
#ifndef UMBRA_SESSION_KEEP_H
#define UMBRA_SESSION_KEEP_H

#include <stdbool.h>

#include "base/record.h"
#include "host/fd_store.h"
#include "memory/memory.h"
#include "umbra/error.h"

struct kept_fd {
	int fd; /* ours; -1: found, and not named by anybody yet */
	uint64_t number;
	bool is_named; /* by the record that is being written */
};

struct keep {
	struct fd_store store;
	struct memory_region state; /* host NULL: nothing is kept */
	struct kept_fd *fds;        /* that are in the store */
	unsigned int fd_count, fd_room;
	uint64_t next_number;
	struct record last;  /* that was written */
	struct record found; /* is_read: a program before us has left it */
	bool found_in_message;
};

#define KEEP_NOTHING ((struct keep){ .store = FD_STORE_CLOSED })

/* Find what was kept, and be ready to keep.  What is of no use is said in the log, and thrown
 * away.  Errors of fd_store_open(), -ENOMEM, and others of memfd_create(2). */
UMBRA_MUST_CHECK int keep_open(struct keep *k, struct umbra_error *err);
void keep_close(struct keep *k);

/* A message is about to be read. */
void keep_begin_message(struct keep *k);
/* No message is on its way, and all that matters is in @record, which is consumed. */
void keep_write(struct keep *k, struct record *record);
/* What was written last stays, for the next program. */
void keep_end(struct keep *k);
/* What was found is used, as far as it is of use. */
void keep_forget_found(struct keep *k);

#endif
