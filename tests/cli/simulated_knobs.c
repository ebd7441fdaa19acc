/* SPDX-License-Identifier: BSD-2-Clause */
/* What simulated devices are steered by: see simulated_knobs.h. */
#include "simulated_knobs.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"

int simulated_knobs_open(struct simulated_knobs *k, const char *socket_path,
			 struct umbra_error *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	k->listener = -1;
	k->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!socket_path)
		return 0;
	snprintf(address.sun_path, sizeof(address.sun_path), "%.107s", socket_path);
	k->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(k->listener, (struct sockaddr *)&address, sizeof(address)) ||
	    listen(k->listener, 1)) {
		error_set(err, -errno, "simulated: %s: %s", socket_path, strerror(errno));
		return -EADDRINUSE;
	}
	snprintf(k->socket_path, sizeof(k->socket_path), "%s", socket_path);
	return 0;
}

void simulated_knobs_close(struct simulated_knobs *k)
{
	fd_close(&k->listener);
	fd_close(&k->stop);
	if (k->socket_path[0])
		unlink(k->socket_path);
}

bool simulated_knobs_wait(const struct simulated_knobs *k)
{
	struct pollfd wait = { .fd = k->stop, .events = POLLIN };

	return poll(&wait, 1, 1) == 0;
}

void simulated_knobs_stop(const struct simulated_knobs *k)
{
	const uint64_t one = 1;
	ssize_t ignored = write(k->stop, &one, sizeof(one));

	(void)ignored;
}

static void path_of(const struct simulated_knobs *k, const char *name, char path[256])
{
	snprintf(path, 256, "%s/%s", k->folder, name);
}

bool simulated_knob(const struct simulated_knobs *k, const char *name, char *text, size_t size)
{
	char path[256];
	size_t n;
	FILE *file;

	path_of(k, name, path);
	file = fopen(path, "r");
	if (!file)
		return false;
	n = fread(text, 1, size - 1, file);
	text[n] = 0;
	text[strcspn(text, "\n")] = 0;
	fclose(file);
	return true;
}

void simulated_knob_done(const struct simulated_knobs *k, const char *name)
{
	char path[256];

	path_of(k, name, path);
	unlink(path);
}
