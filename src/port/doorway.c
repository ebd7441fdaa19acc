/* SPDX-License-Identifier: BSD-2-Clause */
/* Where front-ends come from: see doorway.h. */
#include "port/doorway.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/fd.h"
#include "port/listener.h"

int doorway_open(struct doorway *d, const char *path, int fd, struct umbra_error *err)
{
	socklen_t length = sizeof(int);
	int listens = 0;

	*d = DOORWAY_CLOSED;
	if (path) {
		d->path = strdup(path);
		if (!d->path)
			return error_set(err, -ENOMEM, "no memory for a socket's path");
		d->listen_fd = listener_open(path, err);
		if (d->listen_fd >= 0)
			return 0;
		free(d->path);
		d->path = NULL;
		return d->listen_fd;
	}
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length))
		return error_set(err, -errno, "fd %d is not a socket: %s", fd, strerror(errno));
	if (listens)
		d->listen_fd = fd;
	else
		d->connected_fd = fd;
	return 0;
}

void doorway_close(struct doorway *d)
{
	if (d->listen_fd >= 0 && d->path)
		unlink(d->path);
	fd_close(&d->listen_fd);
	fd_close(&d->connected_fd);
	free(d->path);
	d->path = NULL;
}

int doorway_accept(const struct doorway *d, struct umbra_error *err)
{
	int fd = accept4(d->listen_fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd >= 0)
		return fd;
	if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
		return -EAGAIN;
	return error_set(err, -errno, "accept: %s", strerror(errno));
}
