/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The process behind a unix socket, as something that can be seen to end.
 *
 * Theory of operation.  That a connection was closed proves nothing about who was behind it:
 * a program hangs up and goes on writing to its disk.  Only the end of the process does, and a
 * number does not tell it, since numbers are given out again.  So the process is taken by a
 * pidfd while the connection stands, and is the same one for as long as that is kept.
 *
 * The kernel names who called listen() (SO_PEERCRED; of a connection that was made to us, who
 * called connect()).  That is not always who serves.  Where it evidently is another, or cannot
 * be told, the process is UNKNOWN, with the reason in `doubt`: it is process 0 (of another
 * container) or 1, or a service manager that opened the socket for somebody; or it has ended
 * already, so that a child of it serves.  What cannot be noticed is a process that listens,
 * leaves the socket to a child, and ends later: such a one is seen to end although the child
 * serves on.
 *
 * Linux 6.5 gives the pidfd itself (SO_PEERPIDFD).  Before that it is opened by the number,
 * and counts only if the connection still stands afterwards and the process belongs to the
 * user that connected or listened.
 *
 * Ownership: the pidfd is its own.
 * Threads: one.
 * Trust: the name is what the process likes, see peer.h.
 */
#ifndef UMBRA_HOST_PEER_PROCESS_H
#define UMBRA_HOST_PEER_PROCESS_H

#include <sys/types.h>

#include "host/peer.h"
#include "umbra/error.h"

enum peer_process_state {
	PEER_PROCESS_UNKNOWN, /* nothing will be seen of it */
	PEER_PROCESS_LIVES,
	PEER_PROCESS_ENDED, /* all of its threads, and what they had asked of the kernel */
};

struct peer_process {
	int pidfd;                 /* -1: UNKNOWN */
	pid_t pid;                 /* 0: not even that */
	char name[PEER_NAME_SIZE]; /* as of peer_name() */
	char doubt[96];            /* of UNKNOWN: why, a sentence */
};

#define PEER_PROCESS_NONE ((struct peer_process){ .pidfd = -1 })

/* Find who is behind @socket_fd, which is connected, and stays the caller's.  What was
 * known in @p before is forgotten. */
void peer_process_meet(struct peer_process *p, int socket_fd);
/* Back to PEER_PROCESS_NONE. */
void peer_process_forget(struct peer_process *p);

/* @to, which is one or PEER_PROCESS_NONE, is @from as well, with a pidfd of its own. */
void peer_process_copy(struct peer_process *to, const struct peer_process *from);
/* SIGKILL to just this process.  -EOPNOTSUPP: it is UNKNOWN; -ESRCH: it has ended; -EPERM. */
UMBRA_MUST_CHECK int peer_process_kill(const struct peer_process *p, struct umbra_error *err);

enum peer_process_state peer_process_look(const struct peer_process *p);

#endif
