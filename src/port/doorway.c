/* SPDX-License-Identifier: BSD-2-Clause */
/* Where front-ends come from: see doorway.h. */
#include "port/doorway.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/fd.h"
#include "port/peer.h"

int doorway_open(struct doorway *d, const struct doorway_config *config, struct umbra_error *err)
{
	socklen_t length = sizeof(int);
	int listens = 0, rc;

	*d = DOORWAY_CLOSED;
	if (!config->path + !config->connect_path + (config->fd < 0) != 2)
		return error_set(err, -EINVAL,
				 "a device needs either the path of a socket, or the path of one "
				 "where the VMM listens, or the fd of one");
	if (config->path) {
		rc = listener_open(&d->listener, config->path, &config->access, err);
		if (!rc)
			log_info("listening at %s for a VMM", config->path);
		return rc;
	}
	if (config->connect_path) {
		rc = connector_open(&d->connector, config->connect_path, err);
		if (!rc)
			log_info("connecting to the VMM that listens at %s", config->connect_path);
		return rc;
	}
	if (getsockopt(config->fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length))
		return error_set(err, -errno, "fd %d is not a socket: %s", config->fd,
				 strerror(errno));
	if (listens)
		d->listener.fd = config->fd;
	else
		d->connected_fd = config->fd;
	log_info("%s on the socket that was given",
		 listens ? "listening for a VMM" : "serving a VMM");
	return 0;
}

void doorway_close(struct doorway *d)
{
	listener_close(&d->listener);
	connector_close(&d->connector);
	fd_close(&d->connected_fd);
}

int doorway_fd(const struct doorway *d)
{
	return d->listener.fd;
}

int doorway_wait_ms(struct doorway *d)
{
	return d->connector.path ? connector_wait_ms(&d->connector) : -1;
}

static int next(const struct doorway *d)
{
	int fd = accept4(d->listener.fd, NULL, NULL, SOCK_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int doorway_accept(struct doorway *d, struct umbra_error *err)
{
	char name[PEER_NAME_SIZE];
	int fd;

	if (d->connector.path) {
		fd = connector_try(&d->connector, err);
		if (fd >= 0)
			log_limited(&d->arrivals, LOG_INFO, "connected to the VMM: %s",
				    peer_name(fd, name));
		return fd;
	}
	fd = next(d);
	if (fd == -EAGAIN || fd == -EINTR || fd == -ECONNABORTED)
		return -EAGAIN;
	if (fd < 0)
		return error_set(err, fd, "accept: %s", strerror(-fd));
	log_limited(&d->arrivals, LOG_INFO, "a VMM has come: %s", peer_name(fd, name));
	return fd;
}

void doorway_turn_away(struct doorway *d, int served_fd)
{
	char name[PEER_NAME_SIZE], served[PEER_NAME_SIZE];
	int fd;

	if (peer_has_gone(served_fd))
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
	if (d->connector.path)
		connector_describe(&d->connector, text, size);
	else if (d->listener.path)
		snprintf(text, size, "for a VMM that connects to %s", d->listener.path);
	else
		snprintf(text, size, "for a VMM on the socket that was given");
}
