/* SPDX-License-Identifier: BSD-2-Clause */
/* Where front-ends come from: see doorway.h. */
#include "host/doorway.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "host/backoff.h"
#include "host/fd_budget.h"
#include "host/peer.h"

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
	/* Not to wait in accept(2) where somebody else who has the socket was faster. */
	if (listens && fcntl(config->fd, F_SETFL, fcntl(config->fd, F_GETFL) | O_NONBLOCK))
		return error_set(err, -errno, "fd %d: O_NONBLOCK: %s", config->fd, strerror(errno));
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

/* How long the listening socket is left alone after a failure. */
#define REST_US UINT64_C(1000000)

static uint64_t rest_left_us(const struct doorway *d)
{
	uint64_t now = clock_now_us();

	return d->rest_until_us > now ? d->rest_until_us - now : 0;
}

int doorway_fd(const struct doorway *d)
{
	return rest_left_us(d) ? -1 : d->listener.fd;
}

int doorway_wait_ms(struct doorway *d)
{
	if (d->connector.path)
		return connector_wait_ms(&d->connector);
	return d->rest_until_us ? (int)((rest_left_us(d) + 999) / 1000) : -1;
}

/*
 * Whatever accept(2) says is no reason to end: who has come waits in the backlog.  But the
 * socket stays readable, so it is not looked at for a while.
 */
static int next(struct doorway *d)
{
	int fd;

	d->rest_until_us = 0;
	fd = accept4(d->listener.fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
		return -EAGAIN;
	if (fd < 0) {
		log_warning(
			"a VMM that has come cannot be taken in, and is left to wait: accept: %s",
			strerror(errno));
		d->rest_until_us = clock_now_us() + REST_US;
		return -EAGAIN;
	}
	if (fd_budget_claim(&fd)) {
		log_warning("a VMM that has come is turned away: the limit of open files "
			    "(RLIMIT_NOFILE) leaves no room for it");
		return -EAGAIN;
	}
	return fd;
}

int doorway_accept(struct doorway *d)
{
	char name[PEER_NAME_SIZE];
	int fd;

	if (d->connector.path) {
		fd = connector_try(&d->connector);
		if (fd >= 0)
			log_info("connected to the VMM: %s", peer_name(fd, name));
		return fd;
	}
	fd = next(d);
	if (fd >= 0)
		log_info("a VMM has come: %s", peer_name(fd, name));
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
	log_warning("another VMM (%s) has come while one is served (%s): it is turned away, since "
		    "a device has one VMM",
		    peer_name(fd, name), peer_name(served_fd, served));
	fd_close(&fd);
}

void doorway_note_end(int served_fd)
{
	if (peer_has_gone(served_fd))
		log_info("the VMM has gone");
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
