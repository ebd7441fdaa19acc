/* SPDX-License-Identifier: BSD-2-Clause */
/* umbra's QMP socket: see qmp.h. */
#include "qmp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"

struct qmp {
	int fd;
	FILE *lines;
	char line[65536];
};

/* The next line that is no event, into c->line. */
static int qmp_read(struct qmp *c, struct umbra_error *err)
{
	do {
		if (!fgets(c->line, sizeof(c->line), c->lines))
			return error_set(err, -ECONNRESET, "the control socket gave no answer: %s",
					 ferror(c->lines) ? strerror(errno) : "it was closed");
	} while (strstr(c->line, "\"event\""));
	return 0;
}

static int qmp_execute(struct qmp *c, const char *request, struct umbra_error *err)
{
	size_t size = strlen(request);
	int rc;

	if (send(c->fd, request, size, MSG_NOSIGNAL) != (ssize_t)size)
		return error_set(err, -errno, "the control socket takes nothing: %s",
				 strerror(errno));
	rc = qmp_read(c, err);
	if (!rc && !strstr(c->line, "\"return\"")) {
		c->line[strcspn(c->line, "\r\n")] = '\0';
		rc = error_set(err, -EREMOTEIO, "%s", c->line);
	}
	return rc;
}

int qmp_open(const char *path, unsigned int patience_s, struct qmp **out, struct umbra_error *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval patience = { .tv_sec = patience_s };
	struct qmp *c = calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return error_set(err, -ENOMEM, "no memory");
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd >= 0)
		c->lines = fdopen(c->fd, "r");
	if (!c->lines || connect(c->fd, (struct sockaddr *)&address, sizeof(address)) ||
	    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience))) {
		rc = error_set(err, -errno, "%s: %s", path, strerror(errno));
		qmp_close(&c);
		return rc;
	}
	rc = qmp_read(c, err);
	if (!rc)
		rc = qmp_execute(c, "{\"execute\": \"qmp_capabilities\"}\n", err);
	if (rc)
		qmp_close(&c);
	else
		*out = c;
	return rc;
}

void qmp_close(struct qmp **qmp)
{
	struct qmp *c = *qmp;

	*qmp = NULL;
	if (!c)
		return;
	if (c->lines)
		fclose(c->lines);
	else
		fd_close(&c->fd);
	free(c);
}

int qmp_is_shadowed(struct qmp *c, struct umbra_error *err)
{
	int rc = qmp_execute(c, "{\"execute\": \"query-status\"}\n", err);

	return rc ? rc : strstr(c->line, "\"state\": \"shadowed\"") ? 1 : 0;
}

int qmp_switch(struct qmp *c, const char *name, bool shadowed, struct umbra_error *err)
{
	char request[256];

	snprintf(request, sizeof(request),
		 "{\"execute\": \"x-vhost-enable-shadow-vq\", "
		 "\"arguments\": {\"name\": \"%s\", \"enable\": %s}}\n",
		 name, shadowed ? "true" : "false");
	return qmp_execute(c, request, err);
}
