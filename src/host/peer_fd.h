/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Is an fd that a front-end hands over what it is meant to be?
 *
 * Theory of operation: umbra keeps the kick, call and error fds of a ring, waits for
 * them and writes to them, and a front-end can name any file as one.  What is always
 * readable would keep a thread awake; the front-end's own end of the vhost-user
 * socket, held by us, would never close, and its death would go unseen.  So the
 * kinds that may come are few, and stated:
 *
 *	kick		an eventfd, or an end of a pipe that can be read
 *	call, error	an eventfd, an end of a pipe that can be written, or an end of a
 *			socketpair (User Mode Linux's interrupt is one)
 *	channel		an end of a socketpair
 *
 * A pipe is one without a path: what lies in a file system may be asked of a server, who
 * need not answer.  An end of a socketpair is a connected UNIX stream socket with no name on either
 * side: the front-end's end of the vhost-user socket has a peer with a name, ours,
 * which peer_fd_name_connection() gives it if need be.  In a socket that is only
 * written to, such an end could still lie unread as a message; so that side of it is
 * closed, and emptied.
 *
 * Threads: any.
 */
#ifndef UMBRA_HOST_PEER_FD_H
#define UMBRA_HOST_PEER_FD_H

#include "umbra/error.h"

enum peer_fd_use { PEER_FD_KICK, PEER_FD_CALL, PEER_FD_ERR, PEER_FD_CHANNEL };

/* 0, or -EINVAL: @err says what @fd is, and what was expected. */
UMBRA_MUST_CHECK int peer_fd_check(int fd, enum peer_fd_use use, struct umbra_error *err);

/* Make sure that our end of a connection has a name. */
void peer_fd_name_connection(int fd);

#endif
