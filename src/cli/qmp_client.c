/* SPDX-License-Identifier: BSD-2-Clause */
/* The other end of a QMP socket: see qmp_client.h. */
#include "cli/qmp_client.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"

#define LINE_BYTES_MAX (16u * 1024u * 1024u) /* far beyond the longest answer */
#define READ_BYTES 16384u

struct qmp_client {
	int fd; /* non-blocking */
	const char *path;
	int patience_ms;
	int64_t deadline_ms; /* of the call that runs; -1: none */
	json_int_t last_id;
	char *bytes; /* received and not taken yet */
	size_t used, allocated;
	size_t searched; /* of them, without a line feed */
};

static void client_begin(struct qmp_client *client)
{
	client->deadline_ms = client->patience_ms < 0 ? -1 : clock_now_ms() + client->patience_ms;
}

static int client_wait(struct qmp_client *client, short events, struct umbra_error *err)
{
	struct pollfd wait = { .fd = client->fd, .events = events };
	int64_t left = -1;
	int n;

	do {
		if (client->deadline_ms >= 0) {
			left = client->deadline_ms - clock_now_ms();
			left = left < 0 ? 0 : left;
		}
		n = poll(&wait, 1, (int)left);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return error_set(err, -errno, "%s: %s", client->path, strerror(errno));
	if (!n)
		return error_set(err, -ETIMEDOUT, "%s: no answer within %d ms", client->path,
				 client->patience_ms);
	return 0;
}

static int client_send(struct qmp_client *client, const char *text, struct umbra_error *err)
{
	size_t len = strlen(text), sent = 0;

	while (sent < len) {
		ssize_t n = send(client->fd, text + sent, len - sent, MSG_NOSIGNAL);
		int result;

		if (n >= 0) {
			sent += (size_t)n;
		} else if (errno == EAGAIN || errno == EINTR) {
			result = client_wait(client, POLLOUT, err);
			if (result)
				return result;
		} else {
			return error_set(err, -errno, "%s: cannot send: %s", client->path,
					 strerror(errno));
		}
	}
	return 0;
}

/* 1: more bytes, 0: end of stream, -errno. */
static int client_fill(struct qmp_client *client, struct umbra_error *err)
{
	ssize_t n;
	int result;

	if (client->allocated - client->used < READ_BYTES) {
		size_t larger = 2 * client->allocated + READ_BYTES;
		char *bytes = larger > LINE_BYTES_MAX ? NULL : realloc(client->bytes, larger);

		if (!bytes)
			return error_set(err, -EPROTO,
					 "%s: a line of more than %zu bytes, expected a message of "
					 "QMP",
					 client->path, client->used);
		client->bytes = bytes;
		client->allocated = larger;
	}
	for (;;) {
		n = recv(client->fd, client->bytes + client->used, READ_BYTES, 0);
		if (n >= 0)
			break;
		if (errno == ECONNRESET)
			return 0;
		if (errno != EAGAIN && errno != EINTR)
			return error_set(err, -errno, "%s: cannot receive: %s", client->path,
					 strerror(errno));
		result = client_wait(client, POLLIN, err);
		if (result)
			return result;
	}
	client->used += (size_t)n;
	return n > 0;
}

/* The next message.  1: *@message is the caller's; 0: end of stream; -errno. */
static int client_receive(struct qmp_client *client, json_t **message, struct umbra_error *err)
{
	json_error_t where;
	char *end = NULL;
	size_t len;
	int result;

	for (;;) {
		if (client->used > client->searched)
			end = memchr(client->bytes + client->searched, '\n',
				     client->used - client->searched);
		if (end)
			break;
		client->searched = client->used;
		result = client_fill(client, err);
		if (result <= 0)
			return result;
	}
	len = (size_t)(end - client->bytes);
	*message = json_loadb(client->bytes, len, 0, &where);
	client->used -= len + 1;
	memmove(client->bytes, end + 1, client->used);
	client->searched = 0;
	if (!json_is_object(*message)) {
		json_decref(*message);
		return error_set(err, -EPROTO, "%s: expected a message of QMP, got something else",
				 client->path);
	}
	return 1;
}

static int client_closed(const struct qmp_client *client, struct umbra_error *err)
{
	return error_set(err, -ECONNRESET, "%s: the other side closed the connection",
			 client->path);
}

/* Consumes @answer, which is a "return" or an "error". */
static int client_take_answer(struct qmp_client *client, json_t *answer, json_t **value,
			      struct umbra_error *err)
{
	const json_t *error = json_object_get(answer, "error");
	const char *text = json_string_value(json_object_get(error, "desc"));
	int result = 0;

	if (error) {
		const char *class = json_string_value(json_object_get(error, "class"));

		result = class && !strcmp(class, "CommandNotFound") ? -ENOSYS : -EREMOTEIO;
		result = error_set(err, result, "%s", text ? text : "unknown error");
	} else {
		*value = json_incref(json_object_get(answer, "return"));
		if (!*value)
			result = error_set(err, -EPROTO,
					   "%s: expected a 'return' or an 'error' of QMP",
					   client->path);
	}
	json_decref(answer);
	return result;
}

static int client_command(struct qmp_client *client, const char *command, json_t *arguments,
			  json_t **value, struct umbra_error *err)
{
	json_t *message = json_pack("{s:s, s:o*, s:I}", "execute", command, "arguments", arguments,
				    "id", ++client->last_id);
	char *text = message ? json_dumps(message, JSON_ENSURE_ASCII) : NULL;
	char *line = NULL;
	int result;

	json_decref(message);
	/* In one piece: a server that has seen the brackets close may act, and end. */
	if (text && asprintf(&line, "%s\r\n", text) < 0)
		line = NULL;
	free(text);
	if (!line)
		return error_set(err, -EINVAL, "'%.80s' and its arguments cannot be put into JSON",
				 command);
	result = client_send(client, line, err);
	free(line);
	if (result)
		return result;
	for (;;) {
		json_t *answer;

		result = client_receive(client, &answer, err);
		if (result <= 0)
			return result ? result : client_closed(client, err);
		/* An error without an id is one before the id could be read. */
		if (!json_object_get(answer, "event") &&
		    (!json_object_get(answer, "id") ||
		     json_integer_value(json_object_get(answer, "id")) == client->last_id))
			return client_take_answer(client, answer, value, err);
		json_decref(answer);
	}
}

static int client_connect(struct qmp_client *client, struct umbra_error *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t len = strlen(client->path);
	int result;

	if (!len || len >= sizeof(address.sun_path))
		return error_set(err, -EINVAL, "%.80s: a path of %zu bytes, expected 1 to %zu",
				 client->path, len, sizeof(address.sun_path) - 1);
	memcpy(address.sun_path, client->path, len + 1);
	client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (client->fd < 0)
		return error_set(err, -errno, "cannot make a socket: %s", strerror(errno));
	/* A full backlog has no event to wait for. */
	while (connect(client->fd, (struct sockaddr *)&address, sizeof(address))) {
		if (errno != EAGAIN)
			return error_set(err, -errno, "%s: cannot connect: %s", client->path,
					 strerror(errno));
		if (client->deadline_ms >= 0 && clock_now_ms() >= client->deadline_ms)
			return error_set(err, -ETIMEDOUT, "%s: cannot connect within %d ms",
					 client->path, client->patience_ms);
		result = poll(NULL, 0, 10);
		(void)result;
	}
	return 0;
}

static int client_greet(struct qmp_client *client, struct umbra_error *err)
{
	json_t *message = NULL, *value = NULL;
	const char *refused;
	int result;

	result = client_receive(client, &message, err);
	if (result <= 0)
		return result ? result : client_closed(client, err);
	refused = json_string_value(json_object_get(json_object_get(message, "error"), "desc"));
	if (refused)
		result = error_set(err, -EREMOTEIO, "%s: %s", client->path, refused);
	else if (!json_object_get(message, "QMP"))
		result = error_set(err, -EPROTO, "%s: expected a greeting of QMP", client->path);
	else
		result = client_command(client, "qmp_capabilities", NULL, &value, err);
	json_decref(message);
	json_decref(value);
	return result;
}

int qmp_client_open(const char *path, int patience_ms, struct qmp_client **out,
		    struct umbra_error *err)
{
	struct qmp_client *client = calloc(1, sizeof(*client));
	int result;

	if (!client)
		return error_set(err, -ENOMEM, "out of memory for a connection");
	client->fd = -1;
	client->path = path;
	client->patience_ms = patience_ms;
	client_begin(client);
	result = client_connect(client, err);
	if (!result)
		result = client_greet(client, err);
	if (result)
		qmp_client_close(&client);
	else
		*out = client;
	return result;
}

void qmp_client_close(struct qmp_client **client)
{
	if (!*client)
		return;
	fd_close(&(*client)->fd);
	free((*client)->bytes);
	free(*client);
	*client = NULL;
}

void qmp_client_set_patience(struct qmp_client *client, int patience_ms)
{
	client->patience_ms = patience_ms;
}

int qmp_client_execute(struct qmp_client *client, const char *command, json_t *arguments,
		       json_t **value, struct umbra_error *err)
{
	client_begin(client);
	return client_command(client, command, arguments, value, err);
}

int qmp_client_event(struct qmp_client *client, json_t **event, struct umbra_error *err)
{
	int result;

	client_begin(client);
	for (;;) {
		result = client_receive(client, event, err);
		if (result <= 0 || json_is_string(json_object_get(*event, "event")))
			return result;
		json_decref(*event);
	}
}
