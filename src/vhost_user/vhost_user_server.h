/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The back-end's half of vhost-user: one front-end on a connected socket.
 *
 * Each message becomes one call of the device (virtio/virtio_ops.h);
 * see the theory of operation in vhost_user_server.c for what happens to
 * messages that fail.
 *
 * Ownership: the server owns the socket and the back-end channel that the
 * front-end hands over; it borrows the device and stop_fd until destroy().
 * Threads: one, the device's.
 */
#ifndef UMBRA_VHOST_USER_VHOST_USER_SERVER_H
#define UMBRA_VHOST_USER_VHOST_USER_SERVER_H

#include "base/record.h"
#include "umbra/error.h"
#include "virtio/virtio_ops.h"

struct vhost_user_server;

/* @device is borrowed.  @stop_fd: an eventfd that ends every wait,
 * or -1.  -ENOMEM. */
UMBRA_MUST_CHECK int vhost_user_server_create(int *socket_fd, struct virtio_device *device,
					      int stop_fd, struct vhost_user_server **out,
					      struct umbra_error *err);

/*
 * The connection goes on in another program, and the front-end is not told.  save(): between two
 * messages; -EBUSY: half of one has come, or an answer is not out.  inherit(): there; arguments as
 * of create().  -EINVAL: what was saved is no connection.
 */
UMBRA_MUST_CHECK int vhost_user_server_save(const struct vhost_user_server *server,
					    struct record *w, struct umbra_error *err);
UMBRA_MUST_CHECK int vhost_user_server_inherit(struct record *in, struct virtio_device *device,
					       int stop_fd, struct vhost_user_server **out,
					       struct umbra_error *err);

/* To be polled for reading; the same until destroy(). */
int vhost_user_server_fd(const struct vhost_user_server *server);

/* What to poll it for: POLLIN, or POLLOUT while an answer has found no room. */
short vhost_user_server_events(const struct vhost_user_server *server);

/*
 * Receive one message, carry it out, answer it.  Call it when the fd is ready for
 * _events().  Waits for nothing: half a message stays until the rest comes, and no
 * further one is taken before the answer to the last is out.
 * 1: handled (or refused, see @err of the log), or not all of it has come.  0: the
 * front-end has closed the connection.  Negative: the connection is of no more use;
 * @err says why.
 */
UMBRA_MUST_CHECK int vhost_user_server_receive(struct vhost_user_server *server,
					       struct umbra_error *err);

/*
 * The device's configuration space has changed: tell the front-end, if it
 * wanted to know.  Never waits.  While no ring is started the protocol forbids
 * messages of our own; the news then goes out when the first ring starts.
 */
void vhost_user_server_config_changed(struct vhost_user_server *server);

/* Close the connection and leave NULL. */
void vhost_user_server_destroy(struct vhost_user_server **server);

#endif
