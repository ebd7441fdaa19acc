/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The file of the QMP socket: made for its owner alone, removed at the end.
 */
#ifndef UMBRA_CLI_QMP_SOCKET_H
#define UMBRA_CLI_QMP_SOCKET_H

#include <sys/types.h>

#include "umbra/error.h"

struct qmp_socket {
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
UMBRA_MUST_CHECK int qmp_socket_open(struct qmp_socket *socket, const char *path,
				     struct umbra_error *err);

/* Close it and remove its file, unless the path is another file by now. */
void qmp_socket_close(struct qmp_socket *socket);

#endif
