/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A vhost-user connection: whole messages with their fds, in and out.
 *
 * Theory of operation: a message is a header that names the payload's size,
 * the payload, and fds that come with the first byte.  A peer may hand them
 * over in any number of pieces; the fds of every piece count.  Nothing here waits but
 * _wait(): a message that has come, or gone, in part is gone on with when the socket is
 * ready again, and meanwhile the caller may look after others.
 *
 * Ownership: the socket owns `fd` and borrows `stop_fd`.  Fds of a received
 * message belong to the message: take them out (set to -1) or close them with
 * vhost_user_message_close().  Fds of a sent message are borrowed.
 * Threads: one.
 * Trust: every byte and every fd that comes in is hostile.  Here the payload's
 * size and the number of fds are bounded; the rest is vhost_message_check()'s.
 */
#ifndef UMBRA_VHOST_USER_VHOST_USER_SOCKET_H
#define UMBRA_VHOST_USER_VHOST_USER_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "umbra/error.h"
#include "vhost_user/protocol.h"

struct vhost_user_socket {
	int fd;
	int stop_fd;      /* an eventfd, or -1: nothing stops a wait but its deadline */
	const char *peer; /* "front-end": for error texts */
};

struct vhost_user_message {
	struct vhost_user_header header;
	unsigned int fd_count;
	int fds[VHOST_USER_FDS_MAX];
	bool lacks_fds; /* some came that may not be kept (fd_budget.h), and were closed */
	union vhost_user_payload payload;
};

/* A point in time, in ms of CLOCK_MONOTONIC: now + @timeout_ms. */
int64_t vhost_user_deadline(unsigned int timeout_ms);

#define VHOST_USER_BURST_MAX 16u /* messages in one call */

/* How much of a burst is out; begins as zeros. */
struct vhost_user_outgoing {
	unsigned int messages; /* whole ones */
	size_t bytes;          /* and of the next */
};

/*
 * Send @count messages (1 to VHOST_USER_BURST_MAX): header->size bytes of payload,
 * fd_count fds each.  As far as the socket has room they leave in one system call, so
 * that the peer finds the second in its buffer when it has read the first.
 * -EAGAIN: *@progress are out; call again, with the same messages, when there is room.
 * -ECONNRESET: the connection is of no more use.
 */
UMBRA_MUST_CHECK int vhost_user_socket_send(struct vhost_user_socket *s,
					    const struct vhost_user_message *m, unsigned int count,
					    struct vhost_user_outgoing *progress,
					    struct umbra_error *err);

/*
 * Receive one message, or more of it: *@done bytes have come by earlier calls; 0 at first
 * and after each message.  1: *@m is filled.  0: the peer closed between two messages.
 * -EAGAIN: the rest has not come; call again with the same *@m when the socket is
 * readable.  -ECONNRESET: closed within a message; -EBADMSG: too many fds, or a payload
 * larger than VHOST_USER_PAYLOAD_MAX.
 * After another negative result the connection is of no more use, and *@m holds no fds.
 */
UMBRA_MUST_CHECK int vhost_user_socket_receive(struct vhost_user_socket *s,
					       struct vhost_user_message *m, size_t *done,
					       struct umbra_error *err);

/*
 * Wait until the socket is ready for @events (POLLIN, POLLOUT), or @other can be read (-1:
 * there is none).  *@other_ready: @other can, and the socket is not ready.
 * -ETIMEDOUT at @deadline, also if @other always can; -ECANCELED: stop_fd is readable;
 * -ECONNRESET.
 */
UMBRA_MUST_CHECK int vhost_user_socket_wait(struct vhost_user_socket *s, short events, int other,
					    bool *other_ready, int64_t deadline,
					    struct umbra_error *err);

/* Make @m a request or reply of @size bytes of payload, all zero, no fds. */
void vhost_user_message_init(struct vhost_user_message *m, uint32_t request, uint32_t flags,
			     uint32_t size);

/* Close the fds that nobody has taken out. */
void vhost_user_message_close(struct vhost_user_message *m);

#endif
