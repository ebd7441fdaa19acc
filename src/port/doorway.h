/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where front-ends come from: a socket that listens, or the one connection that
 * we were given.
 *
 * Ownership: the doorway owns its fds, and the socket's file if it made one.
 * Threads: one.
 */
#ifndef UMBRA_PORT_DOORWAY_H
#define UMBRA_PORT_DOORWAY_H

#include <stdbool.h>

#include "umbra/error.h"

struct doorway {
	int listen_fd;    /* or -1 */
	int connected_fd; /* or -1 */
	char *path;       /* of the socket file that is ours to remove, or NULL */
};

#define DOORWAY_CLOSED ((struct doorway){ .listen_fd = -1, .connected_fd = -1 })

/*
 * Listen at @path, or if that is NULL use @fd, a socket that listens or is
 * connected, which is consumed on success.  -EADDRINUSE: see listener_open();
 * -ENOTSOCK, -ENOMEM.
 */
UMBRA_MUST_CHECK int doorway_open(struct doorway *d, const char *path, int fd,
				  struct umbra_error *err);
void doorway_close(struct doorway *d);

/* The next front-end's fd, close-on-exec; -EAGAIN: it has gone again. */
UMBRA_MUST_CHECK int doorway_accept(const struct doorway *d, struct umbra_error *err);

#endif
