/* SPDX-License-Identifier: BSD-2-Clause */
/* Asking a back-end: see vhost_user_requester.h. */
#include "vhost_user/vhost_user_requester.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "vhost_user/vhost_user_client.h"

int vhost_user_requester_lose(struct vhost_user_requester *r, int rc, struct umbra_error *err)
{
	if (rc != -ETIMEDOUT && rc != -ECANCELED)
		rc = -ECONNRESET;
	r->lost = true;
	if (err)
		r->lost_why = *err;
	/* Tell the back-end now; close() would wait for destroy(). */
	shutdown(r->socket.fd, SHUT_RDWR);
	return rc;
}

/* --- the back-end's channel -------------------------------------------- */

/* Answer @m, which asks for it, with 0 (done) or 1 (refused). */
static int channel_answer(struct vhost_user_requester *r, struct vhost_user_message *m, bool done,
			  struct umbra_error *err)
{
	struct vhost_user_outgoing progress = { 0 };
	int rc;

	vhost_user_message_init(m, m->header.request, VHOST_USER_REPLY, sizeof(m->payload.u64));
	m->payload.u64 = !done;
	rc = vhost_user_socket_send(&r->channel, m, 1, &progress, err);
	if (rc == -EAGAIN)
		return error_set(err, -ECONNRESET,
				 "%s: leaves answers unread, and there is no room "
				 "for another",
				 r->channel.peer);
	return rc;
}

static int channel_handle(struct vhost_user_requester *r, struct vhost_user_message *m,
			  struct umbra_error *err)
{
	const struct vhost_request_info *info =
		vhost_request_info(VHOST_FROM_BACKEND, m->header.request);
	bool done = false, wants_answer;
	int rc;

	rc = vhost_message_check(VHOST_FROM_BACKEND, &r->terms, &m->header, &m->payload,
				 m->fd_count, err);
	vhost_user_message_close(m);
	if (rc == -EBADMSG)
		return error_prefix(err, rc, "%s", r->channel.peer);
	if (rc) {
		log_warning("back-end's channel: %s; refused", err->text);
	} else if (m->header.request == VHOST_USER_BACKEND_CONFIG_CHANGE_MSG) {
		if (r->listener.config_changed)
			r->listener.config_changed(r->listener.opaque);
		done = true;
	} else {
		log_warning("back-end's channel: %s is not supported; refused", info->name);
	}
	wants_answer = (m->header.flags & VHOST_USER_NEED_REPLY) ||
		       (info && vhost_reply_owed(info, &r->terms));
	return wants_answer ? channel_answer(r, m, done, err) : 0;
}

int vhost_user_requester_dispatch(struct vhost_user_requester *r, struct umbra_error *err)
{
	struct umbra_error local = { "" };
	int rc;

	err = err ? err : &local;
	if (r->channel_dead)
		return 0;
	rc = vhost_user_socket_receive(&r->channel, &r->channel_in, &r->channel_done, err);
	if (rc == -EAGAIN)
		return 1;
	if (rc > 0) {
		rc = channel_handle(r, &r->channel_in, err);
		if (rc == 0)
			return 1;
	}
	r->channel_dead = true;
	shutdown(r->channel.fd, SHUT_RDWR);
	return rc;
}

/* Serve the channel while a call waits; its end is not the call's. */
static void channel_serve(struct vhost_user_requester *r)
{
	struct umbra_error why = { "" };

	if (vhost_user_requester_dispatch(r, &why) < 0)
		log_warning("%s; the channel is closed", why.text);
}

/* --- requests ------------------------------------------------------------ */

/* How long a burst has been waited for, sent or not. */
struct patience {
	const char *name;    /* of the request that is not answered */
	int64_t start, next; /* next: when the owner is to be asked, or patience ends */
};

static struct patience patience_begin(const struct vhost_user_requester *r, const char *name)
{
	unsigned int ms = r->listener.waiting ? VHOST_USER_CLIENT_PATIENCE_MS : r->timeout_ms;

	return (struct patience){ name, vhost_user_deadline(0), vhost_user_deadline(ms) };
}

/* Has somebody else something to say, while we have to wait for the back-end? */
static bool is_called_away(const struct vhost_user_requester *r, short events,
			   const struct patience *p)
{
	struct pollfd fds[3 + BACKEND_BESIDE_MAX] = {
		{ .fd = r->socket.fd, .events = events },
		{ .fd = r->channel_dead ? -1 : r->channel.fd, .events = POLLIN },
		{ .fd = r->socket.stop_fd, .events = POLLIN },
	};
	int64_t left = p->next - vhost_user_deadline(0);

	if (!r->listener.beside_count)
		return false;
	for (unsigned int i = 0; i < r->listener.beside_count; i++)
		fds[3 + i] = (struct pollfd){ .fd = r->listener.beside[i], .events = POLLIN };
	return poll(fds, 3 + r->listener.beside_count, (int)MAX(0, left)) > 0 && !fds[0].revents &&
	       !fds[1].revents && !fds[2].revents;
}

/* Wait until the socket is ready for @events, for as long as the owner has patience, or
 * until the limit; serve the channel meanwhile. */
static int request_wait(struct vhost_user_requester *r, short events, struct patience *p,
			struct umbra_error *err)
{
	for (;;) {
		int channel = r->channel_dead ? -1 : r->channel.fd;
		bool channel_ready;
		int rc;

		if (is_called_away(r, events, p))
			return error_set(err, -EINPROGRESS, "back-end: has not answered %s yet",
					 p->name);
		rc = vhost_user_socket_wait(&r->socket, events, channel, &channel_ready, p->next,
					    err);
		if (rc == -ETIMEDOUT && r->listener.waiting) {
			p->next = vhost_user_deadline(VHOST_USER_CLIENT_PATIENCE_MS);
			rc = r->listener.waiting(r->listener.opaque, p->name,
						 (unsigned int)(vhost_user_deadline(0) - p->start),
						 err);
			if (!rc)
				continue;
		}
		if (rc || !channel_ready)
			return rc;
		channel_serve(r);
	}
}

static int send_burst(struct vhost_user_requester *r, const struct vhost_user_message *m,
		      unsigned int count, struct patience *p, struct umbra_error *err)
{
	struct vhost_user_outgoing progress = { 0 };
	int rc;

	do {
		rc = vhost_user_socket_send(&r->socket, m, count, &progress, err);
		if (rc == -EAGAIN)
			rc = request_wait(r, POLLOUT, p, err);
		else
			break;
	} while (!rc);
	return rc;
}

/* Will the back-end answer @m?  Asked before it is sent. */
static bool is_answered(const struct vhost_user_requester *r, const struct vhost_user_message *m)
{
	const struct vhost_request_info *info =
		vhost_request_info(VHOST_FROM_FRONTEND, m->header.request);

	return (m->header.flags & VHOST_USER_NEED_REPLY) ||
	       (info && vhost_reply_owed(info, &r->terms));
}

/* Take the next answer that is owed, into @answer (NULL: forget it); of @p NULL -EAGAIN, if it is
 * not there. */
static int owed_take(struct vhost_user_requester *r, struct patience *p,
		     struct vhost_user_message *answer, struct umbra_error *err)
{
	struct vhost_user_owed *owed = &r->owed;
	uint32_t request = owed->requests[owed->first];
	const char *name = vhost_request_name(VHOST_FROM_FRONTEND, request);
	int rc;

	for (;;) {
		rc = vhost_user_socket_receive(&r->socket, &owed->in, &owed->done, err);
		if (rc != -EAGAIN || !p)
			break;
		p->name = name;
		rc = request_wait(r, POLLIN, p, err);
		if (rc)
			break;
	}
	if (rc == -EAGAIN || rc == -EINPROGRESS)
		return rc;
	if (rc == 0)
		rc = error_set(err, -ECONNRESET, "back-end: closed the connection");
	if (rc < 0)
		return error_prefix(err, rc, "%s", name);
	owed->first++;
	owed->count--;
	rc = vhost_reply_check(VHOST_FROM_FRONTEND, request, &r->terms, &owed->in.header,
			       owed->in.fd_count, err);
	vhost_user_message_close(&owed->in);
	if (answer)
		*answer = owed->in;
	return rc ? error_prefix(err, rc, "back-end") : 0;
}

/* Send a burst: what is answered of it is owed from then on. */
static int burst_send(struct vhost_user_requester *r, struct vhost_user_message *m,
		      unsigned int count, struct patience *p, struct umbra_error *err)
{
	const char *name = p->name;
	int rc = send_burst(r, m, count, p, err);

	if (rc == -EINPROGRESS) /* half of it: nothing else can be said on it */
		rc = error_set(err, -ECANCELED, "back-end: has no room for %s, and others wait",
			       name);
	if (rc)
		return error_prefix(err, rc, "%s", name);
	r->owed.first = 0;
	for (unsigned int i = 0; i < count; i++)
		if (is_answered(r, &m[i]))
			r->owed.requests[r->owed.count++] = m[i].header.request;
	return 0;
}

int vhost_user_requester_burst(struct vhost_user_requester *r, struct vhost_user_message *m,
			       unsigned int count, struct umbra_error *err)
{
	const char *name = vhost_request_name(VHOST_FROM_FRONTEND, m->header.request);
	bool answered[VHOST_USER_BURST_MAX];
	struct patience p = patience_begin(r, name);
	struct umbra_error local = { "" };
	int rc = 0;

	err = err ? err : &local;
	if (r->lost)
		return error_set(err, -ECONNRESET, "%s: the connection has ended: %s", name,
				 r->lost_why.text);
	while (!rc && r->owed.count)
		rc = owed_take(r, &p, NULL, err);
	for (unsigned int i = 0; i < count; i++)
		answered[i] = is_answered(r, &m[i]);
	p.name = name;
	if (!rc)
		rc = burst_send(r, m, count, &p, err);
	for (unsigned int i = 0; i < count; i++) {
		m[i].fd_count = 0; /* they were borrowed */
		if (!rc && answered[i])
			rc = owed_take(r, &p, &m[i], err);
	}
	return rc && rc != -EINPROGRESS ? vhost_user_requester_lose(r, rc, err) : rc;
}

int vhost_user_requester_set(struct vhost_user_requester *r, struct vhost_user_message *m,
			     unsigned int count, struct umbra_error *err)
{
	bool ack = r->terms.negotiated & BIT64(VHOST_USER_PROTOCOL_F_REPLY_ACK);
	uint32_t requests[VHOST_USER_BURST_MAX];
	struct umbra_error local = { "" };
	int rc;

	err = err ? err : &local;
	for (unsigned int i = 0; i < count; i++) {
		requests[i] = m[i].header.request;
		if (ack)
			m[i].header.flags |= VHOST_USER_NEED_REPLY;
	}
	vhost_user_message_init(&m[count], VHOST_USER_GET_FEATURES, 0, 0);
	rc = vhost_user_requester_burst(r, m, count + 1, err);
	/* An end after the last message rather than before: say which one. */
	if (rc && !strncmp(err->text, "GET_FEATURES:", 13))
		error_prefix(err, rc, "%s is not confirmed",
			     vhost_request_name(VHOST_FROM_FRONTEND, requests[count - 1]));
	for (unsigned int i = 0; !rc && ack && i < count; i++)
		if (m[i].payload.u64)
			rc = error_set(err, -EREMOTEIO, "back-end: refused %s (answer %" PRIu64 ")",
				       vhost_request_name(VHOST_FROM_FRONTEND, requests[i]),
				       m[i].payload.u64);
	return rc;
}

int vhost_user_requester_query(struct vhost_user_requester *r, uint32_t request, uint64_t *value,
			       struct umbra_error *err)
{
	struct vhost_user_message m;
	int rc;

	vhost_user_message_init(&m, request, 0, 0);
	rc = vhost_user_requester_burst(r, &m, 1, err);
	if (!rc)
		*value = m.payload.u64;
	return rc;
}

int vhost_user_requester_check(struct vhost_user_requester *r, struct umbra_error *err)
{
	struct umbra_error local = { "" };
	char byte;
	ssize_t n;

	err = err ? err : &local;
	if (r->lost)
		return error_set(err, -ECONNRESET, "%s", r->lost_why.text);
	while (r->owed.count) {
		int rc = owed_take(r, NULL, NULL, err);

		if (rc == -EAGAIN)
			return 0;
		if (rc)
			return vhost_user_requester_lose(r, rc, err);
	}
	n = recv(r->socket.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n < 0)
		error_set(err, -ECONNRESET, "back-end: %s", strerror(errno));
	else if (n == 0)
		error_set(err, -ECONNRESET, "back-end: closed the connection");
	else
		error_set(err, -ECONNRESET, "back-end: sent bytes although nothing was asked");
	return vhost_user_requester_lose(r, -ECONNRESET, err);
}

void vhost_user_requester_init(struct vhost_user_requester *r, int socket_fd, int stop_fd,
			       unsigned int timeout_ms)
{
	*r = (struct vhost_user_requester){
		.socket = { socket_fd, stop_fd, "back-end" },
		.timeout_ms = timeout_ms,
		.channel = { -1, stop_fd, "back-end's channel" },
	};
}

void vhost_user_requester_close(struct vhost_user_requester *r)
{
	if (r->channel_done)
		vhost_user_message_close(&r->channel_in);
	if (r->owed.done)
		vhost_user_message_close(&r->owed.in);
	fd_close(&r->channel.fd);
	fd_close(&r->socket.fd);
}
