/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A UNIX socket that listens at a path.
 *
 * Ownership: the listener owns its fd, and the file that it made.  That file may have
 * been replaced: an operator removes it and starts another program there.  So it is
 * known by its inode, and at the end only that one is removed.  The socket keeps the
 * inode in use until it is closed, so that a successor's file cannot have its number.
 * Threads: one.
 * Trust: whoever may write to the folder may do anything with the file.  Nobody can
 * connect before the file has the mode and the group that were asked for.
 */
#ifndef UMBRA_HOST_LISTENER_H
#define UMBRA_HOST_LISTENER_H

#include <sys/types.h>

#include "umbra/error.h"
#include "umbra/socket.h"

struct listener {
	int fd;     /* -1: closed */
	char *path; /* of the file that is ours to remove, or NULL */
	dev_t device;
	ino_t inode;
};

#define LISTENER_CLOSED ((struct listener){ .fd = -1 })

/*
 * Listen at @path.  A socket file that nobody listens on is replaced; one that
 * somebody does, or a file that is no socket, is left alone: -EADDRINUSE.
 * -ENAMETOOLONG, -ENOMEM, -EPERM (the group is not one of ours), and others of bind(2).
 */
UMBRA_MUST_CHECK int listener_open(struct listener *l, const char *path,
				   const struct umbra_socket_access *access,
				   struct umbra_error *err);
void listener_close(struct listener *l);

#endif
