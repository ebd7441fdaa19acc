/* SPDX-License-Identifier: BSD-2-Clause */
/* Where front-ends come from: see doorway.h. */
#include "port/doorway.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/fd.h"
#include "port/peer_name.h"

int doorway_open(struct doorway *d, const char *path, const struct umbra_socket_access *access,
		 int fd, struct umbra_error *err)
{
	socklen_t length = sizeof(int);
	int listens = 0, rc;

	*d = DOORWAY_CLOSED;
	if (path) {
		rc = listener_open(&d->listener, path, access, err);
		if (!rc)
			log_info("listening at %s for a VMM", path);
		return rc;
	}
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length))
		return error_set(err, -errno, "fd %d is not a socket: %s", fd, strerror(errno));
	if (listens)
		d->listener.fd = fd;
	else
		d->connected_fd = fd;
	log_info("%s on the socket that was given",
		 listens ? "listening for a VMM" : "serving a VMM");
	return 0;
}

void doorway_close(struct doorway *d)
{
	listener_close(&d->listener);
	fd_close(&d->connected_fd);
}

int doorway_fd(const struct doorway *d)
{
	return d->listener.fd;
}

static int next(const struct doorway *d)
{
	int fd = accept4(d->listener.fd, NULL, NULL, SOCK_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int doorway_accept(struct doorway *d, struct umbra_error *err)
{
	char name[PEER_NAME_SIZE];
	int fd = next(d);

	if (fd == -EAGAIN || fd == -EINTR || fd == -ECONNABORTED)
		return -EAGAIN;
	if (fd < 0)
		return error_set(err, fd, "accept: %s", strerror(-fd));
	log_limited(&d->arrivals, LOG_INFO, "a VMM has come: %s", peer_name(fd, name));
	return fd;
}

static bool has_gone(int fd)
{
	struct pollfd served = { .fd = fd, .events = POLLRDHUP };

	return poll(&served, 1, 0) > 0 && served.revents & (POLLRDHUP | POLLHUP | POLLERR);
}

void doorway_turn_away(struct doorway *d, int served_fd)
{
	char name[PEER_NAME_SIZE], served[PEER_NAME_SIZE];
	int fd;

	if (has_gone(served_fd))
		return;
	fd = next(d);
	if (fd < 0)
		return;
	log_limited(&d->refusals, LOG_WARNING,
		    "another VMM (%s) has come while one is served (%s): it is turned away, since "
		    "a device has one VMM",
		    peer_name(fd, name), peer_name(served_fd, served));
	fd_close(&fd);
}

void doorway_describe(const struct doorway *d, char *text, size_t size)
{
	if (d->listener.path)
		snprintf(text, size, "for a VMM that connects to %s", d->listener.path);
	else
		snprintf(text, size, "for a VMM on the socket that was given");
}
