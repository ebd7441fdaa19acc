/* SPDX-License-Identifier: BSD-2-Clause */
/* The process behind a unix socket: see peer_process.h. */
#include "host/peer_process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5; the headers of Debian 12 are older */
#endif

/* Programs that open sockets for others, and outlive them. */
#define SERVICE_MANAGER "systemd"

static void doubt(struct peer_process *p, const char *why)
{
	fd_close(&p->pidfd);
	snprintf(p->doubt, sizeof(p->doubt), "%s", why);
}

/* By its number: -errno if it has none that can be trusted. */
static int open_by_number(const struct ucred *peer, int socket_fd)
{
	char path[sizeof("/proc/-2147483648")];
	struct stat owner;
	int fd = pidfd_open(peer->pid, 0);

	if (fd < 0)
		return -errno;
	snprintf(path, sizeof(path), "/proc/%d", (int)peer->pid);
	if (stat(path, &owner) || owner.st_uid != peer->uid || peer_has_gone(socket_fd))
		fd_close(&fd);
	return fd < 0 ? -ESRCH : fd;
}

static int open_of_socket(const struct ucred *peer, int socket_fd)
{
	int fd = -1;
	socklen_t size = sizeof(fd);

	if (!getsockopt(socket_fd, SOL_SOCKET, SO_PEERPIDFD, &fd, &size))
		return fd;
	return errno == ENOPROTOOPT ? open_by_number(peer, socket_fd) : -errno;
}

void peer_process_meet(struct peer_process *p, int socket_fd)
{
	struct ucred peer = { 0 };
	socklen_t size = sizeof(peer);
	const char *comm;

	peer_process_forget(p);
	peer_name(socket_fd, p->name);
	if (getsockopt(socket_fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) || peer.pid <= 0) {
		doubt(p, "its process is not of this container, or not told by the kernel");
		return;
	}
	p->pid = peer.pid;
	comm = strstr(p->name, ", ");
	if (p->pid == 1 || (comm && !strcmp(comm + 2, SERVICE_MANAGER))) {
		doubt(p, "a service manager opened its socket");
		return;
	}
	p->pidfd = open_of_socket(&peer, socket_fd);
	if (p->pidfd < 0 || peer_process_look(p) == PEER_PROCESS_ENDED)
		doubt(p, "the process that opened its socket has ended, and another serves");
}

void peer_process_forget(struct peer_process *p)
{
	fd_close(&p->pidfd);
	*p = PEER_PROCESS_NONE;
}

void peer_process_copy(struct peer_process *to, const struct peer_process *from)
{
	fd_close(&to->pidfd);
	*to = *from;
	if (from->pidfd < 0)
		return;
	to->pidfd = fcntl(from->pidfd, F_DUPFD_CLOEXEC, 0);
	if (to->pidfd < 0)
		doubt(to, "there was no room for another file descriptor");
}

int peer_process_kill(const struct peer_process *p, struct umbra_error *err)
{
	if (!p->pid && p->pidfd < 0)
		return error_set(err, -EOPNOTSUPP, "no process of a back-end is known%s%s",
				 p->doubt[0] ? ": " : "", p->doubt);
	if (p->pidfd < 0)
		return error_set(err, -EOPNOTSUPP,
				 "%s is not certainly the back-end's process, and is let live: %s",
				 p->name, p->doubt);
	if (peer_process_look(p) == PEER_PROCESS_ENDED)
		return error_set(err, -ESRCH, "%s has ended already", p->name);
	if (pidfd_send_signal(p->pidfd, SIGKILL, NULL, 0))
		return error_set(err, -errno, "%s cannot be killed: %s", p->name, strerror(errno));
	return 0;
}

enum peer_process_state peer_process_look(const struct peer_process *p)
{
	struct pollfd end = { .fd = p->pidfd, .events = POLLIN };

	if (p->pidfd < 0)
		return PEER_PROCESS_UNKNOWN;
	return poll(&end, 1, 0) == 1 ? PEER_PROCESS_ENDED : PEER_PROCESS_LIVES;
}
