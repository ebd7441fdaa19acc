/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The front-end's half of vhost-user: a back-end behind a UNIX socket.
 *
 * Theory of operation: implements struct virtio_ops (virtio/virtio_ops.h).  Each
 * call is one or more requests, and returns when the back-end has processed
 * them (vhost_user_requester.h says how that is known).  REPLY_ACK is taken
 * whenever it is offered.
 *
 * The order of calls is the protocol's: get_features, set_protocol_features
 * if bit 30 is there, set_features, set_memory, ring_start.  Features that the
 * caller wants for itself (bit 30 among them) it puts into set_features;
 * whether bit 30 was in it decides whether rings need SET_VRING_ENABLE.
 *
 * The back-end's own channel exists once BACKEND_REQ was taken.  While a call
 * waits for a reply, the channel is served, too, because the back-end may wait
 * for an answer on it before it goes on.
 *
 * With a listener no wait for an answer ends by the clock: its waiting() is called
 * every VHOST_USER_CLIENT_PATIENCE_MS.  To give up is final, so an owner with something to
 * lose (a guest's disk) would rather wait.
 *
 * Ownership: destroy() (of virtio_ops) closes both sockets.  Their fds stay open
 * and the same until then, whatever happens.
 * Threads: one.
 * Trust: the back-end is hostile.  A reply that is not the one that was asked
 * for, or bytes that nobody asked for, end the connection: the call returns
 * -ECONNRESET and the text says what came.
 *
 * Implements: vhost-user specification, "Front-end message types", "Back-end
 * communication", "VHOST_USER_PROTOCOL_F_REPLY_ACK".
 */
#ifndef UMBRA_VHOST_USER_VHOST_USER_CLIENT_H
#define UMBRA_VHOST_USER_VHOST_USER_CLIENT_H

#include "umbra/error.h"
#include "virtio/virtio_ops.h"

#define VHOST_USER_CLIENT_PATIENCE_MS 100u

/*
 * Connect to the socket at @path and send SET_OWNER.  @timeout_ms bounds this
 * and every later call.  @stop_fd (an eventfd, or -1) is borrowed until
 * destroy().
 * Does not wait for the listener: -EAGAIN while its backlog is full.
 * -ENOENT, -ECONNREFUSED and others of connect(2); -ENAMETOOLONG; -ENOMEM;
 * -ETIMEDOUT, -ECANCELED, -ECONNRESET.
 */
UMBRA_MUST_CHECK int vhost_user_client_connect(const char *path, int stop_fd,
					       unsigned int timeout_ms, struct virtio_device **out,
					       struct umbra_error *err);

/* The same over a socket that is connected already. */
UMBRA_MUST_CHECK int vhost_user_client_attach(int *socket_fd, int stop_fd, unsigned int timeout_ms,
					      struct virtio_device **out, struct umbra_error *err);

/*
 * What fds() and dispatch() of virtio_ops are made of, for a program that knows
 * its kind of back-end.
 */

/* To be polled for reading while no call is under way; see _check(). */
int vhost_user_client_fd(const struct virtio_device *b);

/*
 * The fd above is readable although nothing was asked: -ECONNRESET with the
 * reason (closed, or unsolicited bytes), 0 if it is not readable after all.
 */
UMBRA_MUST_CHECK int vhost_user_client_check(struct virtio_device *b, struct umbra_error *err);

/*
 * Handle one message of the back-end's channel.  1: handled.  0: the back-end has closed
 * it.  Negative: the channel is of no more use, and @err says why; the
 * connection itself lives on.  After 0 or less, poll it no more.
 */
UMBRA_MUST_CHECK int vhost_user_client_channel_dispatch(struct virtio_device *b,
							struct umbra_error *err);

#endif
