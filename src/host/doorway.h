/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where front-ends come from: a socket that listens, a VMM that listens and is connected
 * to again and again, or the one connection that we were given.
 *
 * A device serves one front-end.  Another that comes meanwhile is turned away at once, by
 * the end of its connection: to let it wait in the backlog would leave a VMM hanging
 * whose operator has given the same socket to two of them by mistake.
 *
 * Ownership: the doorway owns its fds, and the socket's file if it made one.
 * Threads: one.
 */
#ifndef UMBRA_HOST_DOORWAY_H
#define UMBRA_HOST_DOORWAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/log.h"
#include "host/connector.h"
#include "host/listener.h"
#include "umbra/error.h"

struct doorway {
	struct listener listener;   /* its path is NULL if we were given the socket */
	struct connector connector; /* its path is NULL if we do not connect */
	int connected_fd;           /* or -1 */
	uint64_t rest_until_us;     /* after a failure of accept(2): look no earlier; 0: none */
};

#define DOORWAY_CLOSED ((struct doorway){ .listener = LISTENER_CLOSED, .connected_fd = -1 })

/* Just one of the three. */
struct doorway_config {
	const char *path;                  /* listen here */
	struct umbra_socket_access access; /* who may connect there */
	const char *connect_path;          /* a VMM listens here */
	int fd; /* a socket that listens or is connected, consumed on success; or -1 */
};

/* -EINVAL, -EADDRINUSE: see listener_open(); -ENOTSOCK, -ENOMEM. */
UMBRA_MUST_CHECK int doorway_open(struct doorway *d, const struct doorway_config *config,
				  struct umbra_error *err);
void doorway_close(struct doorway *d);

/* To be polled for reading: somebody has come.  -1: nobody can, or not just now. */
int doorway_fd(const struct doorway *d);

/* Without a front-end: how long until doorway_accept() is due although nobody has come, ms;
 * 0: it is due; -1: never. */
int doorway_wait_ms(struct doorway *d);

/* The next front-end's fd, close-on-exec; -EAGAIN: it has gone again, not come yet, or
 * cannot be taken in, which the log says. */
UMBRA_MUST_CHECK int doorway_accept(struct doorway *d);

/* doorway_fd() is readable while the front-end on @served_fd is served: turn away who has
 * come, unless that front-end has gone, for its successor may wait. */
void doorway_turn_away(struct doorway *d, int served_fd);

/* The front-end on @served_fd is served no longer: if that is its own doing, say so. */
void doorway_note_end(int served_fd);

/* Whom a device without a front-end waits for, as a phrase. */
void doorway_describe(const struct doorway *d, char *text, size_t size);

#endif
