/* SPDX-License-Identifier: BSD-2-Clause */
/* The other end of a socket: see peer.h. */
#include "host/peer.h"

#include <ctype.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define COMM_SIZE 16 /* bytes that the kernel keeps, the final NUL among them */

/* The name of a process; "" if it cannot be had. */
static void comm_read(pid_t pid, char comm[COMM_SIZE])
{
	char path[sizeof("/proc/-2147483648/comm")];
	ssize_t n = -1;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, comm, COMM_SIZE - 1);
		close(fd);
	}
	comm[n > 0 ? n : 0] = '\0';
	comm[strcspn(comm, "\n")] = '\0';
	for (char *at = comm; *at; at++)
		if (!isascii((unsigned char)*at) || !isprint((unsigned char)*at))
			*at = '?';
}

const char *peer_name(int fd, char text[PEER_NAME_SIZE])
{
	struct ucred peer = { 0 };
	socklen_t size = sizeof(peer);
	char comm[COMM_SIZE];

	/* 0: a process of another container. */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) || peer.pid <= 0) {
		snprintf(text, PEER_NAME_SIZE, "somebody");
		return text;
	}
	comm_read(peer.pid, comm);
	snprintf(text, PEER_NAME_SIZE, "pid %d%s%s", (int)peer.pid, comm[0] ? ", " : "", comm);
	return text;
}

bool peer_has_gone(int fd)
{
	struct pollfd peer = { .fd = fd, .events = POLLRDHUP };

	return poll(&peer, 1, 0) > 0 && peer.revents & (POLLRDHUP | POLLHUP | POLLERR);
}
