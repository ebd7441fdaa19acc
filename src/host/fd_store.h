/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A service manager's fd store: fds that outlive this program, for the next one.
 *
 * Theory of operation: the manager names a datagram socket (NOTIFY_SOCKET).  What is sent there
 * with "FDSTORE=1" and a name it keeps, until it is told "FDSTOREREMOVE=1", or until its
 * other end hangs up.  The program that it starts next is given all it has, from fd 3 on, with
 * their names (LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES).  What was sent before a death is
 * received after it: a datagram lies in the socket, whoever sent it.
 *
 * Two fds of one open file are one to the manager, which keeps the first and its name: the caller
 * must not put a file twice.
 *
 * Names of ours begin with FD_STORE_PREFIX; fds of other names are somebody else's, and left
 * alone.
 *
 * Ownership: the store's socket.  Fds that are put are borrowed; those that were found are the
 * caller's.
 * Threads: one; fd_store_find() before there are others, since it changes the environment.
 * Trust: the manager is whoever started us.  A sent datagram is not acknowledged.
 * Implements: sd_notify(3), sd_listen_fds(3).
 */
#ifndef UMBRA_HOST_FD_STORE_H
#define UMBRA_HOST_FD_STORE_H

#include "umbra/error.h"

#define FD_STORE_PREFIX "umbra-"
#define FD_STORE_NAME_SIZE 32u
#define FD_STORE_FINDS_MAX 1024u

struct fd_store {
	int fd;
};

#define FD_STORE_CLOSED ((struct fd_store){ .fd = -1 })

struct fd_store_find {
	int fd;
	char name[FD_STORE_NAME_SIZE];
};

/* -ENOENT: no service manager has started us; -EINVAL: it names no socket; others of socket(2)
 * and connect(2). */
UMBRA_MUST_CHECK int fd_store_open(struct fd_store *store, struct umbra_error *err);
void fd_store_close(struct fd_store *store);

/* What a manager has kept for us, close-on-exec; once.  Returns how many, up to FD_STORE_FINDS_MAX:
 * those beyond are closed. */
unsigned int fd_store_find(struct fd_store_find *finds);

/* Errors of sendmsg(2); -EAGAIN: the manager has not read for a second. */
UMBRA_MUST_CHECK int fd_store_put(const struct fd_store *store, int fd, const char *name,
				  struct umbra_error *err);
UMBRA_MUST_CHECK int fd_store_remove(const struct fd_store *store, const char *name,
				     struct umbra_error *err);

#endif
