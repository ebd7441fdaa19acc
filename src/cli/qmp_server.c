/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The QMP socket: see qmp_server.h.
 *
 * A client is freed in client_settle() and nowhere else while the server
 * lives; whoever calls it does not touch the client afterwards.
 */
#include "cli/qmp_server.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "cli/qmp_session.h"
#include "cli/qmp_socket.h"

struct qmp_connection {
	struct qmp_connection *next, **link; /* in the server's list */
	struct qmp_server *server;
	struct bufferevent *stream;
	struct qmp_session *session;
	struct event *wake; /* active: serve it in the next turn of the loop */
	bool eof;           /* no more input will come */
	bool failed;        /* the stream is of no use any more */
};

struct qmp_server {
	struct event_base *base;
	const struct qmp_target *target;
	struct qmp_socket socket;
	struct evconnlistener *listener;
	struct event *retry; /* takes up accepting again after a failure */
	struct qmp_connection *clients;
	unsigned int client_count;
};

static void client_free(struct qmp_connection *client)
{
	*client->link = client->next;
	if (client->next)
		client->next->link = client->link;
	client->server->client_count--;
	qmp_session_destroy(&client->session);
	event_free(client->wake);
	bufferevent_free(client->stream);
	free(client);
}

static size_t client_unread(const struct qmp_connection *client)
{
	return evbuffer_get_length(bufferevent_get_output(client->stream));
}

/* Nothing is left to answer. */
static bool client_is_finished(const struct qmp_connection *client)
{
	if (qmp_session_is_over(client->session))
		return true;
	return client->eof && !qmp_session_is_waiting(client->session) &&
	       !evbuffer_get_length(bufferevent_get_input(client->stream));
}

static void client_settle(struct qmp_connection *client)
{
	if (client->failed || (client_is_finished(client) && !client_unread(client))) {
		client_free(client);
	} else if (client_is_finished(client)) {
		bufferevent_disable(client->stream, EV_READ);
		/* Come back when the last byte has gone. */
		bufferevent_setwatermark(client->stream, EV_WRITE, 0, 0);
	}
}

/* Answer what has come, as far as the answers find room. */
static void client_serve(struct qmp_connection *client)
{
	struct evbuffer *input = bufferevent_get_input(client->stream);
	size_t ready, taken = 1;
	unsigned char *bytes;

	while (taken && !client->failed && client_unread(client) < SERVER_OUTPUT_BUSY) {
		ready = evbuffer_get_contiguous_space(input);
		bytes = evbuffer_pullup(input, (ev_ssize_t)ready);
		if (!ready || !bytes)
			break;
		taken = qmp_session_feed(client->session, (const char *)bytes, ready);
		evbuffer_drain(input, taken);
	}
	client_settle(client);
}

static void on_progress(struct bufferevent *stream, void *opaque)
{
	(void)stream;
	client_serve(opaque);
}

static void on_wake(evutil_socket_t fd, short what, void *opaque)
{
	(void)fd;
	(void)what;
	client_serve(opaque);
}

static void on_stream_event(struct bufferevent *stream, short what, void *opaque)
{
	struct qmp_connection *client = opaque;

	(void)stream;
	if (what & BEV_EVENT_TIMEOUT)
		log_warning("a control client has read nothing for %d s: disconnected",
			    SERVER_PATIENCE);
	if (what & BEV_EVENT_EOF)
		client->eof = true;
	else
		client->failed = true;
	client_serve(client);
}

static void on_send(void *opaque, const char *text, size_t len)
{
	struct qmp_connection *client = opaque;

	if (bufferevent_write(client->stream, text, len))
		client->failed = true;
}

static void on_ready(void *opaque)
{
	struct qmp_connection *client = opaque;

	event_active(client->wake, EV_TIMEOUT, 0);
}

static const struct qmp_session_ops session_ops = { .send = on_send, .ready = on_ready };

/* Consumes *@fd on success. */
static int client_create(struct qmp_server *server, int *fd)
{
	const struct timeval patience = { .tv_sec = SERVER_PATIENCE };
	struct qmp_connection *client = calloc(1, sizeof(*client));

	if (!client)
		return -ENOMEM;
	client->server = server;
	client->wake = event_new(server->base, -1, 0, on_wake, client);
	if (client->wake)
		client->stream = bufferevent_socket_new(server->base, *fd, BEV_OPT_CLOSE_ON_FREE);
	if (!client->stream) {
		if (client->wake)
			event_free(client->wake);
		free(client);
		return -ENOMEM;
	}
	*fd = -1;
	client->next = server->clients;
	client->link = &server->clients;
	if (client->next)
		client->next->link = &client->next;
	server->clients = client;
	server->client_count++;
	bufferevent_setcb(client->stream, on_progress, on_progress, on_stream_event, client);
	bufferevent_setwatermark(client->stream, EV_READ, 0, SERVER_INPUT_MAX);
	bufferevent_setwatermark(client->stream, EV_WRITE, SERVER_OUTPUT_BUSY / 2, 0);
	bufferevent_set_timeouts(client->stream, NULL, &patience);
	if (qmp_session_create(server->target, &session_ops, client, &client->session, NULL) ||
	    bufferevent_enable(client->stream, EV_READ | EV_WRITE)) {
		client_free(client);
		return -ENOMEM;
	}
	return 0;
}

static void refuse_client(struct qmp_server *server, int fd)
{
	static const char text[] = "{\"error\": {\"class\": \"GenericError\", \"desc\": "
				   "\"too many control clients are connected\"}}\r\n";
	ssize_t ignored;

	if (fd >= 0) {
		ignored = send(fd, text, sizeof(text) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
		(void)ignored;
		fd_close(&fd);
	}
	log_warning("a control client was refused: %u are connected, which is the most",
		    server->client_count);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *peer,
		      int peer_len, void *opaque)
{
	struct qmp_server *server = opaque;

	(void)listener;
	(void)peer;
	(void)peer_len;
	if (server->client_count >= SERVER_CLIENTS_MAX || client_create(server, &fd))
		refuse_client(server, fd);
}

/* Out of fds, say: the connection stays pending, so do not spin on it. */
static void on_accept_error(struct evconnlistener *listener, void *opaque)
{
	const struct timeval pause = { .tv_sec = 1 };
	struct qmp_server *server = opaque;

	log_warning("cannot accept a control client: %s", strerror(errno));
	if (!evtimer_add(server->retry, &pause))
		evconnlistener_disable(listener);
}

static void on_retry(evutil_socket_t fd, short what, void *opaque)
{
	struct qmp_server *server = opaque;

	(void)fd;
	(void)what;
	evconnlistener_enable(server->listener);
}

int qmp_server_create(struct event_base *base, const char *path, const struct qmp_target *target,
		      struct qmp_server **out, struct umbra_error *err)
{
	struct qmp_server *server = calloc(1, sizeof(*server));
	int result;

	if (!server)
		return error_set(err, -ENOMEM, "out of memory for the control server");
	server->base = base;
	server->target = target;
	result = qmp_socket_open(&server->socket, path, err);
	if (result) {
		free(server);
		return result;
	}
	server->retry = evtimer_new(base, on_retry, server);
	server->listener = evconnlistener_new(base, on_accept, server, LEV_OPT_CLOSE_ON_EXEC, 0,
					      server->socket.fd);
	if (!server->retry || !server->listener) {
		qmp_server_destroy(&server);
		return error_set(err, -ENOMEM, "out of memory for the control server");
	}
	evconnlistener_set_error_cb(server->listener, on_accept_error);
	*out = server;
	return 0;
}

void qmp_server_event(struct qmp_server *server, const char *name, json_t *data)
{
	char *line = data ? qmp_event_line(name, data) : NULL;
	struct qmp_connection *client, *next;
	size_t len;

	if (!line) {
		log_error("out of memory for event %s: nobody was told", name);
		return;
	}
	len = strlen(line);
	for (client = server->clients; client; client = next) {
		next = client->next;
		if (!qmp_session_wants_events(client->session))
			continue;
		if (client_unread(client) + len > SERVER_OUTPUT_MAX) {
			log_warning("a control client leaves %zu bytes unread: disconnected",
				    client_unread(client));
			client->failed = true;
		} else {
			on_send(client, line, len);
		}
		client_settle(client);
	}
	free(line);
}

void qmp_server_destroy(struct qmp_server **out)
{
	struct qmp_server *server = *out;

	if (!server)
		return;
	while (server->clients) {
		struct bufferevent *stream = server->clients->stream;
		struct evbuffer *output = bufferevent_get_output(stream);

		/*
		 * What does not fit into the socket's buffer is lost with it.
		 * A bufferevent keeps its output frozen against hands other
		 * than its own; it will not write any more.
		 */
		evbuffer_unfreeze(output, 1);
		(void)evbuffer_write(output, bufferevent_getfd(stream));
		client_free(server->clients);
	}
	if (server->listener)
		evconnlistener_free(server->listener);
	if (server->retry)
		event_free(server->retry);
	qmp_socket_close(&server->socket);
	free(server);
	*out = NULL;
}
