/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The far end of a vhost-user socket, for tests: bytes and fds as the test
 * wants them, written apart from the code under test.
 */
#ifndef UMBRA_TESTS_VHOST_WIRE_H
#define UMBRA_TESTS_VHOST_WIRE_H

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vhost_user/protocol.h"

#define WIRE_FDS_MAX 32u

struct wire_message {
	struct vhost_user_header header;
	union vhost_user_payload payload;
	unsigned int fd_count;
	int fds[WIRE_FDS_MAX];
};

/* Send @size raw bytes with @fd_count fds at the first of them. */
static inline ssize_t wire_send_bytes(int s, const void *bytes, size_t size, const int *fds,
				      unsigned int fd_count)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * WIRE_FDS_MAX)];
	} control = { 0 };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)bytes, .iov_len = size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd_count) {
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
		memcpy(CMSG_DATA(&control.align), fds, sizeof(int) * fd_count);
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
	}
	return sendmsg(s, &msg, MSG_NOSIGNAL);
}

/* Header and payload as one run of bytes; returns its length. */
static inline size_t wire_encode(uint8_t *out, const struct wire_message *m)
{
	memcpy(out, &m->header, sizeof(m->header));
	memcpy(out + sizeof(m->header), &m->payload, m->header.size);
	return sizeof(m->header) + m->header.size;
}

static inline int wire_send(int s, const struct wire_message *m)
{
	uint8_t bytes[sizeof(m->header) + sizeof(m->payload)];
	size_t size = wire_encode(bytes, m);

	return wire_send_bytes(s, bytes, size, m->fds, m->fd_count) == (ssize_t)size ? 0 : -errno;
}

/* Read one message; 1, 0 at the end of the stream, or -errno.  Blocks. */
static inline int wire_receive(int s, struct wire_message *m)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * WIRE_FDS_MAX)];
	} control;
	struct iovec iov = { .iov_base = &m->header, .iov_len = sizeof(m->header) };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.bytes,
			      .msg_controllen = sizeof(control.bytes) };
	ssize_t n = recvmsg(s, &msg, MSG_WAITALL | MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	m->fd_count = 0;
	if (n <= 0)
		return n ? -errno : 0;
	if (c) {
		m->fd_count = (unsigned int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(m->fds, CMSG_DATA(c), m->fd_count * sizeof(int));
	}
	if (m->header.size > sizeof(m->payload))
		return -EMSGSIZE;
	if (m->header.size && recv(s, &m->payload, m->header.size, MSG_WAITALL) <= 0)
		return -ECONNRESET;
	return 1;
}

static inline void wire_close_fds(struct wire_message *m)
{
	while (m->fd_count)
		close(m->fds[--m->fd_count]);
}

#endif
