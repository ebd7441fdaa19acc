/* SPDX-License-Identifier: BSD-2-Clause */
/* The file of the QMP socket: see qmp_socket.h. */
#include "cli/qmp_socket.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"

#define BACKLOG 16 /* connections that wait for accept(2) */

static int unix_address(struct sockaddr_un *address, const char *path, struct umbra_error *err)
{
	size_t len = strlen(path);

	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	if (!len || len >= sizeof(address->sun_path))
		return error_set(err, -EINVAL,
				 "control socket '%.120s': a path of %zu bytes, expected 1 to %zu",
				 path, len, sizeof(address->sun_path) - 1);
	memcpy(address->sun_path, path, len + 1);
	return 0;
}

static int unix_socket(struct umbra_error *err)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return error_set(err, -errno, "cannot make a socket: %s", strerror(errno));
	return fd;
}

/* Remove what is at the address if it is a socket on which nobody listens. */
static int remove_stale(const struct sockaddr_un *address, struct umbra_error *err)
{
	const char *path = address->sun_path;
	struct stat status;
	int fd, result = 0;

	if (lstat(path, &status))
		return errno == ENOENT ? 0
				       : error_set(err, -errno, "control socket '%s': %s", path,
						   strerror(errno));
	if (!S_ISSOCK(status.st_mode))
		return error_set(err, -EEXIST,
				 "control socket '%s': the file is there and is no socket", path);
	fd = unix_socket(err);
	if (fd < 0)
		return fd;
	/* EAGAIN is a listener whose backlog is full. */
	if (!connect(fd, (const struct sockaddr *)address, sizeof(*address)) || errno == EAGAIN)
		result = error_set(err, -EADDRINUSE,
				   "control socket '%s': another program listens on it", path);
	else if (errno != ECONNREFUSED && errno != ENOENT)
		result = error_set(err, -errno, "control socket '%s': %s", path, strerror(errno));
	else if (unlink(path) && errno != ENOENT)
		result = error_set(err, -errno, "control socket '%s': cannot replace it: %s", path,
				   strerror(errno));
	fd_close(&fd);
	return result;
}

static int bind_and_listen(int fd, const struct sockaddr_un *address)
{
	/*
	 * Linux gives the file the mode of the socket, less the umask: it is
	 * never open to others, not even between bind() and a chmod().
	 */
	if (fchmod(fd, 0600) || bind(fd, (const struct sockaddr *)address, sizeof(*address)))
		return -errno;
	if (listen(fd, BACKLOG)) {
		int code = -errno;

		unlink(address->sun_path);
		return code;
	}
	return 0;
}

int qmp_socket_open(struct qmp_socket *socket, const char *path, struct umbra_error *err)
{
	struct sockaddr_un address;
	struct stat status;
	int fd, result;

	*socket = (struct qmp_socket){ .fd = -1 };
	result = unix_address(&address, path, err);
	if (!result)
		result = remove_stale(&address, err);
	if (result)
		return result;
	fd = unix_socket(err);
	if (fd < 0)
		return fd;
	result = bind_and_listen(fd, &address);
	if (!result && lstat(path, &status))
		result = -errno;
	if (!result) {
		socket->path = strdup(path);
		if (!socket->path)
			result = -ENOMEM;
	}
	if (result) {
		fd_close(&fd);
		return error_set(err, result, "control socket '%s': %s", path, strerror(-result));
	}
	socket->device = status.st_dev;
	socket->inode = status.st_ino;
	socket->fd = fd_take(&fd);
	return 0;
}

void qmp_socket_close(struct qmp_socket *socket)
{
	struct stat status;

	/* The file before the socket, which keeps its inode's number from being used anew. */
	if (socket->path && !lstat(socket->path, &status) && status.st_dev == socket->device &&
	    status.st_ino == socket->inode)
		unlink(socket->path);
	fd_close(&socket->fd);
	free(socket->path);
	socket->path = NULL;
}
