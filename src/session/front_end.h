/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The front-end of a session: whether one is there, and how far it has come.
 *
 *	ABSENT -- front_end_come() --> WAITS -- front_end_serve() --> SERVED
 *	  ^                              |                              |
 *	  +------------------------ front_end_part() ------------------+
 *
 * One that WAITS has connected, and is not heard yet, since the device cannot answer it before
 * its back-end is there; only that it goes is noticed.  There is one at a time: the
 * doorway turns others away.
 *
 * Ownership: the doorway, the connection and the server are its own.
 * Threads: the device's, but for open and close.
 */
#ifndef UMBRA_SESSION_FRONT_END_H
#define UMBRA_SESSION_FRONT_END_H

#include <poll.h>
#include <stdbool.h>

#include "host/doorway.h"
#include "umbra/error.h"
#include "vhost_user/vhost_user_server.h"

enum front_end_state { FRONT_END_ABSENT, FRONT_END_WAITS, FRONT_END_SERVED };

struct front_end {
	struct doorway doorway;
	bool is_only; /* the connection was given to us: no other will come */
	enum front_end_state state;
	int fd;                           /* of WAITS */
	struct vhost_user_server *server; /* of SERVED */
};

#define FRONT_END_NONE ((struct front_end){ .doorway = DOORWAY_CLOSED, .fd = -1 })

/* Errors of doorway_open(). */
UMBRA_MUST_CHECK int front_end_open(struct front_end *front, const struct doorway_config *config,
				    struct umbra_error *err);
void front_end_close(struct front_end *front);

/* What to poll for somebody who comes, and for the one who is there. */
struct pollfd front_end_poll_doorway(const struct front_end *front);
struct pollfd front_end_poll(const struct front_end *front);

/* How long until front_end_come() is due although nobody has come, ms; -1: never. */
int front_end_wait_ms(struct front_end *front);

/* The doorway is readable, or it is due: take in who has come, or turn it away.
 * True: one is there now, and was not before. */
bool front_end_come(struct front_end *front, bool is_readable);

/* Serve the one that WAITS, with @device.  @end_fd as of vhost_user_server_create(), and so
 * are errors; then it waits on. */
UMBRA_MUST_CHECK int front_end_serve(struct front_end *front, struct virtio_device *device,
				     int end_fd, struct umbra_error *err);

/* There is one that a program before us has served, with what it was told: ABSENT to SERVED.
 * Errors of vhost_user_server_inherit(). */
UMBRA_MUST_CHECK int front_end_inherit_served(struct front_end *front, struct record *in,
					      struct virtio_device *device, int end_fd,
					      struct umbra_error *err);

/* Has the one that is there closed its end? */
bool front_end_has_gone(const struct front_end *front);

/* Close the connection, if there is one.  @is_noted: say so, if it was the front-end's own
 * doing. */
void front_end_part(struct front_end *front, bool is_noted);

#endif
