/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Asking a back-end: one request out, its answer in.
 *
 * Theory of operation: a request either owes a reply, or is acknowledged if
 * REPLY_ACK was negotiated.  What changes the back-end's state is followed by a
 * GET_FEATURES round trip in either case.  Without REPLY_ACK that is the only
 * way to know: a back-end handles its messages in order, so the reply to a
 * later one says that the earlier one is done.  With it, it is still needed:
 * libvhost-user acknowledges a message that it cannot stand with "success",
 * and closes the connection next.
 *
 * While an answer is awaited, the back-end's own channel is served, because
 * the back-end may wait for an answer on it before it goes on.  What it does there has
 * no influence on how long is waited: a request has one start time.  The channel is never
 * waited for: half a message stays until the rest has come, and a back-end that leaves
 * so many answers unread that there is no room for another loses the channel.
 *
 * Who has others to hear beside a back-end is not kept: the call returns, and the answers that
 * are still owed are taken when they come, before anything else is asked.
 *
 * Internal to vhost_user_client.c, which says what the requests mean.
 *
 * Ownership: owns both sockets; they stay open, and the same, until _close().
 * Threads: one.
 * Trust: the back-end is hostile.  A reply that is not the one that was asked
 * for, or bytes that nobody asked for, end the connection.
 */
#ifndef UMBRA_VHOST_USER_VHOST_USER_REQUESTER_H
#define UMBRA_VHOST_USER_VHOST_USER_REQUESTER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/log.h"
#include "umbra/error.h"
#include "vhost_user/message.h"
#include "vhost_user/vhost_user_socket.h"
#include "virtio/virtio_ops.h"

/* Answers that are still to come, in the order of their requests. */
struct vhost_user_owed {
	uint32_t requests[VHOST_USER_BURST_MAX];
	unsigned int first, count;
	struct vhost_user_message in; /* of the first, `done` bytes have come */
	size_t done;
};

struct vhost_user_requester {
	struct vhost_user_socket socket;
	unsigned int timeout_ms; /* for a request and its answer */
	struct vhost_terms terms;
	bool lost; /* no more messages on the socket */
	struct umbra_error lost_why;

	struct vhost_user_socket channel; /* the back-end's; fd -1: there is none */
	struct vhost_user_owed owed;
	bool channel_dead;
	struct vhost_user_message channel_in; /* of which channel_done bytes have come */
	size_t channel_done;
	/* All zeros: nobody listens, and timeout_ms is the limit of a wait. */
	struct backend_listener listener;
};

void vhost_user_requester_init(struct vhost_user_requester *r, int socket_fd, int stop_fd,
			       unsigned int timeout_ms);

/* Close both sockets. */
void vhost_user_requester_close(struct vhost_user_requester *r);

/*
 * The connection is of no more use, for the reason in @err.  Returns one of
 * the three codes that virtio/virtio_ops.h has for that; -ECONNRESET, if @rc is
 * none of them.
 */
int vhost_user_requester_lose(struct vhost_user_requester *r, int rc, struct umbra_error *err);

/*
 * Send @count messages (1 to VHOST_USER_BURST_MAX) in one burst, whose fds are
 * borrowed, and replace each that owes a reply, or asks for an acknowledgement,
 * by its answer, which has passed vhost_reply_check().  Fds that come with an
 * answer are closed.  -ETIMEDOUT, -ECANCELED, -ECONNRESET: the connection is
 * lost.  -EINPROGRESS: see struct backend_listener.
 */
UMBRA_MUST_CHECK int vhost_user_requester_burst(struct vhost_user_requester *r,
						struct vhost_user_message *m, unsigned int count,
						struct umbra_error *err);

/*
 * Send @count requests (1 to VHOST_USER_BURST_MAX - 1) that owe no reply, and
 * wait until they have been processed: one round trip for all.  @m has room
 * for one message more.  As above; -EREMOTEIO: the back-end refused one.
 */
UMBRA_MUST_CHECK int vhost_user_requester_set(struct vhost_user_requester *r,
					      struct vhost_user_message *m, unsigned int count,
					      struct umbra_error *err);

/* Ask a question without payload whose answer is a u64. */
UMBRA_MUST_CHECK int vhost_user_requester_query(struct vhost_user_requester *r, uint32_t request,
						uint64_t *value, struct umbra_error *err);

/* Is the socket, on which nothing is asked, still good?  0 or -ECONNRESET.  Answers that are
 * owed, and have come, are taken and forgotten. */
UMBRA_MUST_CHECK int vhost_user_requester_check(struct vhost_user_requester *r,
						struct umbra_error *err);

/* See vhost_user_client_channel_dispatch(). */
UMBRA_MUST_CHECK int vhost_user_requester_dispatch(struct vhost_user_requester *r,
						   struct umbra_error *err);

#endif
