/* SPDX-License-Identifier: BSD-2-Clause */
/* Kicks and calls: see notifier.h. */
#include "host/notifier.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "host/fd_budget.h"
#include "host/interrupter.h"

bool is_eventfd(int fd)
{
	char path[64], target[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return false;
	target[n] = '\0';
	return !strcmp(target, "anon_inode:[eventfd]");
}

struct notifier notifier_make(int fd)
{
	struct notifier n = { .fd = fd, .kind = NOTIFIER_ASK_FIRST };
	struct stat st;

	if (fd < 0)
		n.kind = NOTIFIER_NONE;
	else if (!fstat(fd, &st) && S_ISSOCK(st.st_mode))
		n.kind = NOTIFIER_SOCKET;
	else if (fcntl(fd, F_GETFL) & O_NONBLOCK)
		n.kind = NOTIFIER_EVENTFD;
	return n;
}

int notifier_send(const struct notifier *n)
{
	static const uint64_t one = 1;
	struct pollfd p = { .fd = n->fd, .events = POLLOUT };
	ssize_t written = 0;

	switch (n->kind) {
	case NOTIFIER_NONE:
		return 0;
	case NOTIFIER_SOCKET:
		written = send(n->fd, &one, sizeof(one), MSG_DONTWAIT | MSG_NOSIGNAL);
		break;
	case NOTIFIER_ASK_FIRST:
		if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT))
			return 0;
		__attribute__((fallthrough));
	case NOTIFIER_EVENTFD:
		written = write(n->fd, &one, sizeof(one));
		break;
	}
	/* See the header: nothing to do about another failure. */
	return written < 0 && errno == EINTR ? -EINTR : 0;
}

int notifier_send_guarded(int fd)
{
	const struct notifier n = notifier_make(fd);
	struct interrupter interrupter;
	int rc;

	if (n.kind == NOTIFIER_NONE || n.kind == NOTIFIER_SOCKET)
		return notifier_send(&n);
	/* Rather no notification than a thread that never comes back. */
	rc = interrupter_create(&interrupter);
	if (rc)
		return rc;
	interrupter_start(&interrupter);
	rc = notifier_send(&n);
	interrupter_destroy(&interrupter);
	return rc;
}

int notifier_drain(int fd)
{
	uint64_t buffer[64];
	struct pollfd p = { .fd = fd, .events = POLLIN };
	ssize_t n = -1;

	if (poll(&p, 1, 0) != 1)
		return 0;
	/* One read at a time may empty an eventfd or a part of a pipe; what is left
	 * keeps a level-triggered epoll awake. */
	if (p.revents & POLLIN)
		n = read(fd, buffer, sizeof(buffer));
	else
		errno = EPIPE;
	if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
		return -EPIPE;
	return n < 0 && errno == EINTR ? -EINTR : 0;
}

bool notifier_is_heard(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return fd < 0 || poll(&p, 1, 0) != 1 || !(p.revents & POLLIN);
}

int notifier_make_eventfd(int *out, struct umbra_error *err)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (fd < 0)
		return error_set(err, -errno, "eventfd: %s", strerror(errno));
	/* Rings are as many as a front-end makes them. */
	if (fd_budget_claim(&fd))
		return error_set(err, -EMFILE,
				 "the limit of open files (RLIMIT_NOFILE) leaves no room for an "
				 "eventfd");
	*out = fd;
	return 0;
}
