/* SPDX-License-Identifier: BSD-2-Clause */
/* A connection to a front-end that listens: see connector.h. */
#include "host/connector.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"

int connector_open(struct connector *c, const char *path, struct umbra_error *err)
{
	const size_t max = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;

	*c = (struct connector){ 0 };
	if (strlen(path) > max)
		return error_set(err, -ENAMETOOLONG,
				 "the socket's path is %zu bytes long, at most %zu are possible",
				 strlen(path), max);
	c->path = strdup(path);
	return c->path ? 0 : error_set(err, -ENOMEM, "no memory for a socket's path");
}

void connector_close(struct connector *c)
{
	free(c->path);
	c->path = NULL;
}

int connector_wait_ms(struct connector *c)
{
	if (c->connected_us) {
		if (clock_now_us() - c->connected_us > BACKOFF_LAST_MS * UINT64_C(1000))
			backoff_reset(&c->backoff);
		c->connected_us = 0;
		backoff_failed(&c->backoff);
	}
	return backoff_wait_ms(&c->backoff);
}

/* Said once for each kind of failure, not for each attempt. */
static void failure_note(struct connector *c, int code)
{
	if (code != c->code)
		log_info("no VMM listens at %s yet: %s; trying again, at last every %u ms", c->path,
			 strerror(-code), BACKOFF_LAST_MS);
	c->code = code;
	backoff_failed(&c->backoff);
}

int connector_try(struct connector *c)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0) {
		failure_note(c, -errno);
		return -EAGAIN;
	}
	strcpy(address.sun_path, c->path); /* connector_open() has looked */
	/* To a unix socket it succeeds or fails at once, also where the backlog is full. */
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address))) {
		failure_note(c, -errno);
		fd_close(&fd);
		return -EAGAIN;
	}
	c->code = 0;
	c->connected_us = clock_now_us();
	return fd;
}

void connector_describe(const struct connector *c, char *text, size_t size)
{
	snprintf(text, size,
		 "for a VMM that listens at %s (%s; %" PRIu64 " attempts, the last pause %u ms)",
		 c->path,
		 c->code               ? strerror(-c->code)
		 : c->backoff.attempts ? "it has hung up"
				       : "about to connect",
		 c->backoff.attempts, c->backoff.pause_ms);
}
