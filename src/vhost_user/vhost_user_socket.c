/* SPDX-License-Identifier: BSD-2-Clause */
/* A vhost-user connection: see vhost_user_socket.h. */
#include "vhost_user/vhost_user_socket.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/bits.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "host/closer.h"
#include "host/fd_budget.h"

#define CONTROL_SIZE CMSG_SPACE(sizeof(int) * VHOST_USER_FDS_MAX)

int64_t vhost_user_deadline(unsigned int timeout_ms)
{
	return clock_now_ms() + timeout_ms;
}

static int remaining_ms(int64_t deadline)
{
	int64_t left = deadline - vhost_user_deadline(0);

	return (int)MAX(0, MIN(left, INT_MAX));
}

void vhost_user_message_init(struct vhost_user_message *m, uint32_t request, uint32_t flags,
			     uint32_t size)
{
	m->header = (struct vhost_user_header){ request, VHOST_USER_VERSION | flags, size };
	m->fd_count = 0;
	memset(&m->payload, 0, size);
}

void vhost_user_message_close(struct vhost_user_message *m)
{
	for (unsigned int i = 0; i < m->fd_count; i++)
		closer_close(&m->fds[i]);
	m->fd_count = 0;
}

/* The stop comes first. */
int vhost_user_socket_wait(struct vhost_user_socket *s, short events, int other, bool *other_ready,
			   int64_t deadline, struct umbra_error *err)
{
	struct pollfd fds[] = {
		{ .fd = s->stop_fd, .events = POLLIN },
		{ .fd = s->fd, .events = events },
		{ .fd = other, .events = POLLIN },
	};
	int n;

	do {
		n = poll(fds, ARRAY_SIZE(fds), remaining_ms(deadline));
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return error_set(err, -ECONNRESET, "%s: poll: %s", s->peer, strerror(errno));
	if (fds[0].revents)
		return error_set(err, -ECANCELED, "%s: the process is asked to stop", s->peer);
	if (n == 0)
		return error_set(err, -ETIMEDOUT, "%s: no %s within the time limit", s->peer,
				 events & POLLOUT ? "room for a message" : "complete message");
	*other_ready = !fds[1].revents;
	/* Whatever @other brings must not move the deadline. */
	if (*other_ready && remaining_ms(deadline) == 0)
		return error_set(err, -ETIMEDOUT, "%s: no %s within the time limit", s->peer,
				 events & POLLOUT ? "room for a message" : "complete message");
	return 0;
}

/* One message on its way out, from byte @from on. */
struct outgoing {
	struct iovec iov[2];
	union {
		struct cmsghdr align;
		char bytes[CONTROL_SIZE];
	} control;
};

static size_t message_bytes(const struct vhost_user_message *m)
{
	return sizeof(m->header) + m->header.size;
}

static void outgoing_make(struct outgoing *out, struct msghdr *msg,
			  const struct vhost_user_message *m, size_t from)
{
	*msg = (struct msghdr){ .msg_iov = out->iov };
	if (from == 0 && m->fd_count) {
		struct cmsghdr *cmsg = &out->control.align;

		memset(&out->control, 0, sizeof(out->control));
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int) * m->fd_count);
		memcpy(CMSG_DATA(cmsg), m->fds, sizeof(int) * m->fd_count);
		msg->msg_control = out->control.bytes;
		msg->msg_controllen = CMSG_SPACE(sizeof(int) * m->fd_count);
	}
	if (from < sizeof(m->header)) {
		out->iov[msg->msg_iovlen++] = (struct iovec){
			.iov_base = (char *)&m->header + from,
			.iov_len = sizeof(m->header) - from,
		};
		from = sizeof(m->header);
	}
	out->iov[msg->msg_iovlen++] = (struct iovec){
		.iov_base = (char *)&m->payload + (from - sizeof(m->header)),
		.iov_len = message_bytes(m) - from,
	};
}

int vhost_user_socket_send(struct vhost_user_socket *s, const struct vhost_user_message *m,
			   unsigned int count, struct vhost_user_outgoing *progress,
			   struct umbra_error *err)
{
	struct outgoing out[VHOST_USER_BURST_MAX];
	struct mmsghdr headers[VHOST_USER_BURST_MAX];
	int n;

	while (progress->messages < count) {
		unsigned int left = count - progress->messages;

		for (unsigned int i = 0; i < left; i++)
			outgoing_make(&out[i], &headers[i].msg_hdr, &m[progress->messages + i],
				      i ? 0 : progress->bytes);
		n = sendmmsg(s->fd, headers, left, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return -EAGAIN;
		if (n < 0)
			return error_set(err, -ECONNRESET, "%s: cannot send: %s", s->peer,
					 strerror(errno));
		for (int i = 0; i < n; i++) {
			progress->bytes += headers[i].msg_len;
			if (progress->bytes < message_bytes(&m[progress->messages]))
				break; /* only the last of a burst can be cut */
			progress->messages++;
			progress->bytes = 0;
		}
	}
	return 0;
}

/* Keep the fds of one piece; -EBADMSG if there are more than fit, after
 * closing those that do not. */
static int collect_fds(struct vhost_user_socket *s, struct msghdr *msg,
		       struct vhost_user_message *m, struct umbra_error *err)
{
	bool too_many = false;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t count;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (fd_budget_claim(&fd)) {
				m->lacks_fds = true;
			} else if (m->fd_count < VHOST_USER_FDS_MAX) {
				m->fds[m->fd_count++] = fd;
			} else {
				closer_close(&fd);
				too_many = true;
			}
		}
	}
	if (msg->msg_flags & MSG_CTRUNC)
		return error_set(
			err, -EBADMSG,
			"%s: file descriptors of a message were lost: more than %u came, or "
			"this process may not open as many",
			s->peer, VHOST_USER_FDS_MAX);
	if (too_many)
		return error_set(err, -EBADMSG, "%s: a message with more than %u file descriptors",
				 s->peer, VHOST_USER_FDS_MAX);
	return 0;
}

/* Take a piece: bytes *@done to @end of @m, header and payload being one after the
 * other.  1: some came; 0: the other end is closed; -EAGAIN: nothing there yet. */
static int receive_piece(struct vhost_user_socket *s, struct vhost_user_message *m, size_t *done,
			 size_t end, struct umbra_error *err)
{
	bool in_header = *done < sizeof(m->header);
	union {
		struct cmsghdr align;
		char bytes[CONTROL_SIZE];
	} control;
	struct iovec iov = {
		.iov_base = in_header ? (char *)&m->header + *done
				      : (char *)&m->payload + (*done - sizeof(m->header)),
		.iov_len = end - *done,
	};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	ssize_t n;
	int rc;

	do {
		n = recvmsg(s->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return -EAGAIN;
	if (n < 0)
		return error_set(err, -ECONNRESET, "%s: cannot receive: %s", s->peer,
				 strerror(errno));
	rc = collect_fds(s, &msg, m, err);
	if (rc)
		return rc;
	*done += (size_t)n;
	return n > 0;
}

/* How far @m goes, as far as is known after @done bytes.  -EBADMSG. */
static int message_end(const struct vhost_user_socket *s, const struct vhost_user_message *m,
		       size_t done, size_t *end, struct umbra_error *err)
{
	*end = sizeof(m->header);
	if (done < *end)
		return 0;
	if (m->header.size > sizeof(m->payload))
		return error_set(
			err, -EBADMSG,
			"%s: request %u announces %u bytes of payload; at most %zu are legal",
			s->peer, m->header.request, m->header.size, sizeof(m->payload));
	*end += m->header.size;
	return 0;
}

int vhost_user_socket_receive(struct vhost_user_socket *s, struct vhost_user_message *m,
			      size_t *done, struct umbra_error *err)
{
	size_t end;
	int rc;

	if (*done == 0) {
		m->fd_count = 0;
		m->lacks_fds = false;
	}
	for (;;) {
		rc = message_end(s, m, *done, &end, err);
		if (rc)
			break;
		if (*done == end) {
			*done = 0;
			return 1;
		}
		rc = receive_piece(s, m, done, end, err);
		if (rc == -EAGAIN)
			return rc;
		if (rc == 0 && *done)
			rc = error_set(err, -ECONNRESET,
				       "%s: closed the connection after %zu of %zu bytes%s",
				       s->peer, *done, end,
				       *done < sizeof(m->header) ? " of a header"
								 : " of a message");
		if (rc <= 0)
			break;
	}
	*done = 0;
	vhost_user_message_close(m);
	return rc;
}
