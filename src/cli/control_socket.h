/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The file of the control socket: made for its owner alone, removed at the end.
 */
#ifndef UMBRA_CLI_CONTROL_SOCKET_H
#define UMBRA_CLI_CONTROL_SOCKET_H

#include <sys/types.h>

#include "umbra/error.h"

struct control_socket {
	int fd; /* listening, non-blocking */
	char *path;
	dev_t device; /* which file is ours: another one may have taken the path */
	ino_t inode;
};

/*
 * Listen at @path with mode 0600.  A stale socket file is replaced; anything
 * else that is there is not: -EADDRINUSE if somebody listens on it, -EEXIST if
 * it is no socket.  Two programs that start on one stale file at the same time
 * may both believe that they replaced it; the later one has it.
 */
UMBRA_MUST_CHECK int control_socket_open(struct control_socket *socket, const char *path,
					 struct umbra_error *err);

/* Close it and remove its file, unless the path is another file by now. */
void control_socket_close(struct control_socket *socket);

#endif
