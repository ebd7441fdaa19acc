/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A bell: what another thread rings to have the device's thread look.
 *
 * Theory of operation: an eventfd of our own, which no peer ever has, and a flag that
 * saves its system call for whoever rings while the bell still rings.
 *
 * [bell] Both sides exchange the flag, which puts them into one order:
 *
 *	who rings			the device's thread
 *	writes what is to be seen	drains the eventfd
 *	rung: false -> true, writes	rung: -> false
 *	  it; or it was true, and	looks
 *	  that is all
 *
 * If the ringing comes second, it finds false, and the eventfd is written once more.  If it
 * comes first, the thread's exchange reads its value, and so the look that follows sees what
 * was written before.  A plain store of false could be delayed beyond the look: then the
 * bell would be silent, and what it was rung for unseen.  The eventfd is drained first, since
 * a ringing between the two would be swallowed otherwise, and leave the flag set for good.
 *
 * Threads: bell_ring() any, and from signal handlers; the rest, the device's.
 */
#ifndef UMBRA_SESSION_BELL_H
#define UMBRA_SESSION_BELL_H

#include <stdbool.h>

#include "umbra/error.h"

struct bell {
	int fd;    /* to be polled for reading; -1: there is none */
	bool rung; /* atomic */
};

#define BELL_NONE ((struct bell){ .fd = -1 })

/* Errors of eventfd(2). */
UMBRA_MUST_CHECK int bell_open(struct bell *bell, struct umbra_error *err);
void bell_close(struct bell *bell);

void bell_ring(struct bell *bell);

/* It was heard; look after this. */
void bell_hush(struct bell *bell);

#endif
