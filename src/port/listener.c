/* SPDX-License-Identifier: BSD-2-Clause */
/* A UNIX socket that listens at a path: see listener.h. */
#include "port/listener.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"

#define BACKLOG 4 /* connections: one VMM, and its next try */

/* Remove the file at the address if it is a socket without a listener. */
static int stale_remove(const struct sockaddr_un *address, struct umbra_error *err)
{
	struct stat st;
	int fd, rc;

	if (lstat(address->sun_path, &st))
		return 0;
	if (!S_ISSOCK(st.st_mode))
		return error_set(err, -EADDRINUSE, "%s exists and is not a socket",
				 address->sun_path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return error_set(err, -errno, "socket: %s", strerror(errno));
	rc = connect(fd, (const struct sockaddr *)address, sizeof(*address)) ? -errno : 0;
	fd_close(&fd);
	if (rc != -ECONNREFUSED)
		return error_set(err, -EADDRINUSE, "somebody listens at %s already",
				 address->sun_path);
	if (unlink(address->sun_path))
		return error_set(err, -errno, "the stale socket %s cannot be removed: %s",
				 address->sun_path, strerror(errno));
	return 0;
}

int listener_open(const char *path, struct umbra_error *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd, rc;

	if (strlen(path) >= sizeof(address.sun_path))
		return error_set(err, -ENAMETOOLONG,
				 "the socket's path is %zu bytes long, at most %zu are possible",
				 strlen(path), sizeof(address.sun_path) - 1);
	strcpy(address.sun_path, path);
	rc = stale_remove(&address, err);
	if (rc)
		return rc;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return error_set(err, -errno, "socket: %s", strerror(errno));
	if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) || listen(fd, BACKLOG)) {
		rc = error_set(err, -errno, "cannot listen at %s: %s", path, strerror(errno));
		fd_close(&fd);
		return rc;
	}
	return fd;
}
