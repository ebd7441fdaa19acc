/* SPDX-License-Identifier: BSD-2-Clause */
/* Asking a back-end: see vhost_user_requester.h. */
#include "port/vhost_user_requester.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/fd.h"
#include "port/vhost_user_client.h"

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
			  int64_t deadline, struct umbra_error *err)
{
	vhost_user_message_init(m, m->header.request, VHOST_USER_REPLY, sizeof(m->payload.u64));
	m->payload.u64 = !done;
	return vhost_user_socket_send(&r->channel, m, deadline, err);
}

static int channel_handle(struct vhost_user_requester *r, struct vhost_user_message *m,
			  int64_t deadline, struct umbra_error *err)
{
	const struct vhost_request_info *info =
		vhost_request_info(VHOST_FROM_BACKEND, m->header.request);
	bool done = false, wants_answer;
	int rc;

	rc = vhost_message_check(VHOST_FROM_BACKEND, &r->terms, &m->header, &m->payload,
				 m->fd_count, err);
	vhost_user_message_close(m);
	if (rc == -EBADMSG)
		return rc;
	if (rc) {
		log_limited(&r->log, LOG_WARNING, "back-end's channel: %s; refused", err->text);
	} else if (m->header.request == VHOST_USER_BACKEND_CONFIG_CHANGE_MSG) {
		if (r->listener.config_changed)
			r->listener.config_changed(r->listener.opaque);
		done = true;
	} else {
		log_limited(&r->log, LOG_WARNING,
			    "back-end's channel: %s is not supported; refused", info->name);
	}
	wants_answer = (m->header.flags & VHOST_USER_NEED_REPLY) ||
		       (info && vhost_reply_owed(info, &r->terms));
	return wants_answer ? channel_answer(r, m, done, deadline, err) : 0;
}

/* As vhost_user_client_channel_dispatch(). */
static int channel_dispatch(struct vhost_user_requester *r, int64_t deadline,
			    struct umbra_error *err)
{
	struct vhost_user_message m;
	int rc;

	if (r->channel_dead)
		return 0;
	rc = vhost_user_socket_receive(&r->channel, &m, deadline, err);
	if (rc > 0) {
		rc = channel_handle(r, &m, deadline, err);
		if (rc == 0)
			return 1;
	}
	r->channel_dead = true;
	shutdown(r->channel.fd, SHUT_RDWR);
	return rc;
}

/* Serve the channel while a call waits; its end is not the call's. */
static int channel_serve(struct vhost_user_requester *r, int64_t deadline, struct umbra_error *err)
{
	struct umbra_error why = { "" };
	int rc = channel_dispatch(r, deadline, &why);

	if (rc == -ECANCELED)
		return error_set(err, rc, "%s", why.text);
	if (rc < 0)
		log_limited(&r->log, LOG_WARNING, "%s; the channel is closed", why.text);
	return 0;
}

/* --- requests ------------------------------------------------------------ */

/* Wait until the socket or the channel can be read: until @deadline, or as long
 * as the owner has patience. */
static int reply_wait(struct vhost_user_requester *r, const char *name, bool *channel_ready,
		      int64_t deadline, struct umbra_error *err)
{
	int channel = r->channel_dead ? -1 : r->channel.fd;
	unsigned int waited_ms = 0;
	int rc;

	if (!r->listener.waiting)
		return vhost_user_socket_wait(&r->socket, channel, channel_ready, deadline, err);
	for (;;) {
		rc = vhost_user_socket_wait(&r->socket, channel, channel_ready,
					    vhost_user_deadline(VHOST_USER_CLIENT_PATIENCE_MS),
					    err);
		if (rc != -ETIMEDOUT)
			return rc;
		waited_ms += VHOST_USER_CLIENT_PATIENCE_MS;
		rc = r->listener.waiting(r->listener.opaque, name, waited_ms);
		if (rc)
			return error_set(err, rc,
					 "back-end: not waited for any longer, after %u ms",
					 waited_ms);
	}
}

static int receive_reply(struct vhost_user_requester *r, struct vhost_user_message *m,
			 const char *name, int64_t deadline, struct umbra_error *err)
{
	bool channel_ready = true;
	int rc;

	while (channel_ready) {
		rc = reply_wait(r, name, &channel_ready, deadline, err);
		if (!rc && channel_ready)
			rc = channel_serve(r, vhost_user_deadline(r->timeout_ms), err);
		if (rc)
			return rc;
	}
	/* A reply that has begun has its own time to end. */
	rc = vhost_user_socket_receive(&r->socket, m, vhost_user_deadline(r->timeout_ms), err);
	if (rc == 0)
		return error_set(err, -ECONNRESET, "back-end: closed the connection");
	return rc < 0 ? rc : 0;
}

/* Will the back-end answer @m?  Asked before it is sent. */
static bool is_answered(const struct vhost_user_requester *r, const struct vhost_user_message *m)
{
	const struct vhost_request_info *info =
		vhost_request_info(VHOST_FROM_FRONTEND, m->header.request);

	return (m->header.flags & VHOST_USER_NEED_REPLY) ||
	       (info && vhost_reply_owed(info, &r->terms));
}

/* Replace @m by its answer. */
static int answer_get(struct vhost_user_requester *r, struct vhost_user_message *m,
		      struct umbra_error *err)
{
	uint32_t request = m->header.request;
	int rc = receive_reply(r, m, vhost_request_name(VHOST_FROM_FRONTEND, request),
			       vhost_user_deadline(r->timeout_ms), err);

	if (rc)
		return error_prefix(err, rc, "%s",
				    vhost_request_name(VHOST_FROM_FRONTEND, request));
	rc = vhost_reply_check(VHOST_FROM_FRONTEND, request, &r->terms, &m->header, m->fd_count,
			       err);
	vhost_user_message_close(m);
	return rc ? error_prefix(err, rc, "back-end") : 0;
}

int vhost_user_requester_burst(struct vhost_user_requester *r, struct vhost_user_message *m,
			       unsigned int count, struct umbra_error *err)
{
	const char *name = vhost_request_name(VHOST_FROM_FRONTEND, m->header.request);
	bool answered[VHOST_USER_BURST_MAX];
	struct umbra_error local = { "" };
	int rc;

	err = err ? err : &local;
	if (r->lost)
		return error_set(err, -ECONNRESET, "%s: the connection has ended: %s", name,
				 r->lost_why.text);
	for (unsigned int i = 0; i < count; i++)
		answered[i] = is_answered(r, &m[i]);
	rc = vhost_user_socket_send_burst(&r->socket, m, count, vhost_user_deadline(r->timeout_ms),
					  err);
	if (rc)
		error_prefix(err, rc, "%s", name);
	for (unsigned int i = 0; i < count; i++) {
		m[i].fd_count = 0; /* they were borrowed */
		if (!rc && answered[i])
			rc = answer_get(r, &m[i], err);
	}
	return rc ? vhost_user_requester_lose(r, rc, err) : 0;
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
		return error_set(err, -ECONNRESET, "back-end: the connection has ended: %s",
				 r->lost_why.text);
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

int vhost_user_requester_dispatch(struct vhost_user_requester *r, struct umbra_error *err)
{
	struct umbra_error local = { "" };

	return channel_dispatch(r, vhost_user_deadline(r->timeout_ms), err ? err : &local);
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
	fd_close(&r->channel.fd);
	fd_close(&r->socket.fd);
}
