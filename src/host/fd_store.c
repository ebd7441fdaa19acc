/* SPDX-License-Identifier: BSD-2-Clause */
/* A service manager's fd store: see fd_store.h. */
#include "host/fd_store.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/fd.h"

#define FIRST_FD 3u     /* SD_LISTEN_FDS_START */
#define FDS_MAX 100000u /* more than a process can have by default */
#define PATIENCE_MS 1000

int fd_store_open(struct fd_store *store, struct umbra_error *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const char *path = getenv("NOTIFY_SOCKET");
	size_t length = path ? strlen(path) : 0;
	int rc;

	if (!path)
		return error_set(
			err, -ENOENT,
			"no service manager has started this program: NOTIFY_SOCKET is not "
			"set");
	if ((path[0] != '/' && path[0] != '@') || length < 2 || length >= sizeof(address.sun_path))
		return error_set(err, -EINVAL,
				 "NOTIFY_SOCKET=%.120s: expected a path, or @ and a name", path);
	memcpy(address.sun_path, path, length);
	if (path[0] == '@')
		address.sun_path[0] = '\0';
	store->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (store->fd >= 0 &&
	    !connect(store->fd, (const void *)&address,
		     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)))
		return 0;
	rc = error_set(err, -errno, "the service manager's socket %s: %s", path, strerror(errno));
	fd_store_close(store);
	return rc;
}

void fd_store_close(struct fd_store *store)
{
	fd_close(&store->fd);
}

/* --- what was kept --------------------------------------------------------------------- */

static unsigned int number_of(const char *variable)
{
	const char *text = getenv(variable);
	char *end = NULL;
	unsigned long n;

	if (!text || text[0] < '0' || text[0] > '9')
		return 0;
	n = strtoul(text, &end, 10);
	return *end || n > INT32_MAX ? 0 : (unsigned int)n;
}

/* The next of the names between colons; "" when there are no more. */
static const char *name_next(const char **names, size_t *length)
{
	const char *name = *names;

	*length = strcspn(name, ":");
	*names += *length + (name[*length] == ':');
	return name;
}

unsigned int fd_store_find(struct fd_store_find *finds)
{
	const char *names = getenv("LISTEN_FDNAMES");
	unsigned int count = 0, fds = MIN(number_of("LISTEN_FDS"), FDS_MAX);

	if (!names || number_of("LISTEN_PID") != (unsigned int)getpid())
		fds = 0;
	for (unsigned int i = 0; i < fds; i++) {
		int fd = (int)(FIRST_FD + i);
		size_t length;
		const char *name = name_next(&names, &length);

		if (length >= FD_STORE_NAME_SIZE ||
		    strncmp(name, FD_STORE_PREFIX, strlen(FD_STORE_PREFIX)) != 0)
			continue;
		if (count == FD_STORE_FINDS_MAX || fcntl(fd, F_SETFD, FD_CLOEXEC)) {
			fd_close(&fd);
			continue;
		}
		finds[count] = (struct fd_store_find){ .fd = fd };
		memcpy(finds[count++].name, name, length);
	}
	/* Neither for a second time, nor for our children. */
	(void)unsetenv("LISTEN_PID");
	(void)unsetenv("LISTEN_FDS");
	(void)unsetenv("LISTEN_FDNAMES");
	return count;
}

/* --- what is to be kept ----------------------------------------------------------------- */

static int store_say(const struct fd_store *store, const char *text, int fd,
		     struct umbra_error *err)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { .header = {
			      .cmsg_len = CMSG_LEN(sizeof(int)),
			      .cmsg_level = SOL_SOCKET,
			      .cmsg_type = SCM_RIGHTS,
		      } };
	struct iovec io = { (void *)(uintptr_t)text, strlen(text) };
	struct msghdr message = { .msg_iov = &io, .msg_iovlen = 1 };
	struct pollfd room = { .fd = store->fd, .events = POLLOUT };
	ssize_t sent;

	if (fd >= 0) {
		memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
		message.msg_control = control.bytes;
		message.msg_controllen = sizeof(control.bytes);
	}
	do
		sent = sendmsg(store->fd, &message, MSG_NOSIGNAL);
	while (sent < 0 &&
	       (errno == EINTR || (errno == EAGAIN && poll(&room, 1, PATIENCE_MS) == 1)));
	if (sent >= 0)
		return 0;
	return error_set(err, -errno, "the service manager's fd store: %s", strerror(errno));
}

int fd_store_put(const struct fd_store *store, int fd, const char *name, struct umbra_error *err)
{
	char text[64 + FD_STORE_NAME_SIZE];

	snprintf(text, sizeof(text), "FDSTORE=1\nFDNAME=%s\n", name);
	return store_say(store, text, fd, err);
}

int fd_store_remove(const struct fd_store *store, const char *name, struct umbra_error *err)
{
	char text[64 + FD_STORE_NAME_SIZE];

	snprintf(text, sizeof(text), "FDSTOREREMOVE=1\nFDNAME=%s\n", name);
	return store_say(store, text, -1, err);
}
