/* SPDX-License-Identifier: BSD-2-Clause */
/* What front-ends hand over: see peer_fd.h. */
#include "host/peer_fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"

static const char *const names[] = {
	[PEER_FD_KICK] = "kick fd",
	[PEER_FD_CALL] = "call fd",
	[PEER_FD_ERR] = "error fd",
	[PEER_FD_CHANNEL] = "back-end channel",
};

static const char *const expected[] = {
	[PEER_FD_KICK] = "an eventfd, or a pipe that can be read",
	[PEER_FD_CALL] = "an eventfd, a pipe that can be written, or an end of a socketpair",
	[PEER_FD_ERR] = "an eventfd, a pipe that can be written, or an end of a socketpair",
	[PEER_FD_CHANNEL] = "an end of a socketpair of streams",
};

static bool is_pipe_for(int fd, enum peer_fd_use use)
{
	int mode = fcntl(fd, F_GETFL) & O_ACCMODE;

	return mode == O_RDWR || mode == (use == PEER_FD_KICK ? O_RDONLY : O_WRONLY);
}

/* No name on the near side, or on the far one. */
static bool is_nameless(int fd, bool far)
{
	struct sockaddr_un address = { 0 };
	socklen_t length = sizeof(address);
	struct sockaddr *generic = (struct sockaddr *)&address;

	return !(far ? getpeername(fd, generic, &length) : getsockname(fd, generic, &length)) &&
	       address.sun_family == AF_UNIX && length <= sizeof(address.sun_family);
}

static bool is_socketpair(int fd)
{
	socklen_t length = sizeof(int);
	int type = 0;

	return !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) && type == SOCK_STREAM &&
	       is_nameless(fd, false) && is_nameless(fd, true);
}

/* Nothing comes this way any more, and nothing is left of what has come. */
static void close_inward(int fd)
{
	char bytes[4096];

	shutdown(fd, SHUT_RD);
	while (recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		continue;
}

/*
 * What the kernel calls it.  That asks no file server, as fstat(2) may.  A file that has
 * a path has one from "/" on; the path is the peer's to choose, so only what is plain of
 * it is said.
 */
static void describe(int fd, char text[64])
{
	char path[32];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, text, 63);
	if (n < 0)
		n = snprintf(text, 64, "an unknown file");
	text[n] = '\0';
	for (char *c = text; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
}

int peer_fd_check(int fd, enum peer_fd_use use, struct umbra_error *err)
{
	char text[64];
	bool fits = false;

	describe(fd, text);
	if (!strcmp(text, "anon_inode:[eventfd]")) {
		fits = use != PEER_FD_CHANNEL;
	} else if (!strncmp(text, "pipe:[", 6)) {
		fits = use != PEER_FD_CHANNEL && is_pipe_for(fd, use);
	} else if (!strncmp(text, "socket:[", 8)) {
		fits = use != PEER_FD_KICK && is_socketpair(fd);
		if (fits && use != PEER_FD_CHANNEL)
			close_inward(fd);
	}
	if (fits)
		return 0;
	return error_set(
		err, -EINVAL, "the %s is %s%s; expected %s", names[use], text,
		!strncmp(text, "socket:", 7) ? " (with a name, not connected, or no stream)" : "",
		expected[use]);
}

void peer_fd_name_connection(int fd)
{
	const struct sockaddr_un any = { .sun_family = AF_UNIX };

	/* Without a name in the call the kernel makes one up, in no folder. */
	if (is_nameless(fd, false) &&
	    bind(fd, (const struct sockaddr *)&any, sizeof(any.sun_family)))
		return; /* not allowed here: that one case goes unseen */
}
