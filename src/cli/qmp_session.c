/* SPDX-License-Identifier: BSD-2-Clause */
/* One client's conversation: see qmp_session.h. */
#include "cli/qmp_session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "cli/json_values.h"
#include "cli/qmp_commands.h"
#include "cli/qmp_framer.h"

struct qmp_session {
	const struct qmp_target *target;
	const struct qmp_session_ops *ops;
	void *opaque;
	struct qmp_framer framer;
	struct qmp_pending *pending; /* the command that is under way, or NULL */
	json_t *pending_id;          /* its id, or NULL */
	bool negotiating;            /* only qmp_capabilities is accepted */
	bool over;
};

/* "{...}\r\n", in ASCII; the caller frees it.  Consumes @message, which may be NULL. */
static char *message_line(json_t *message)
{
	char *text = message ? json_dumps(message, JSON_ENSURE_ASCII) : NULL;
	char *line = NULL;
	size_t len;

	json_decref(message);
	if (text) {
		len = strlen(text);
		line = realloc(text, len + 3);
		if (line)
			memcpy(line + len, "\r\n", 3);
		else
			free(text);
	}
	return line;
}

char *qmp_event_line(const char *name, json_t *data)
{
	struct timespec now = { .tv_sec = -1, .tv_nsec = -1000 };

	clock_gettime(CLOCK_REALTIME, &now);
	return message_line(json_pack(
		"{s:{s:I, s:I}, s:s, s:o}", "timestamp", "seconds", (json_int_t)now.tv_sec,
		"microseconds", (json_int_t)(now.tv_nsec / 1000), "event", name, "data", data));
}

/* A client that cannot be answered cannot be served: the session is over. */
static void session_send(struct qmp_session *session, json_t *message)
{
	char *line = message_line(message);

	if (line)
		session->ops->send(session->opaque, line, strlen(line));
	else
		session->over = true;
	free(line);
}

/* Consumes neither; @id may be NULL. */
static json_t *with_id(json_t *message, json_t *id)
{
	if (message && id && json_object_set(message, "id", id)) {
		json_decref(message);
		return NULL;
	}
	return message;
}

/* Consumes @value; NULL means {}. */
static void session_return(struct qmp_session *session, json_t *id, json_t *value)
{
	session_send(session,
		     with_id(json_pack("{s:o}", "return", value ? value : json_object()), id));
}

static void session_error(struct qmp_session *session, json_t *id, const char *error_class,
			  const char *text)
{
	session_send(session, with_id(json_pack("{s:{s:s, s:o}}", "error", "class", error_class,
						"desc", json_text(text)),
				      id));
}

static void session_resume(void *opaque, int result, json_t *value, const struct umbra_error *err)
{
	struct qmp_session *session = opaque;
	json_t *id = session->pending_id;

	session->pending = NULL;
	session->pending_id = NULL;
	if (result)
		session_error(session, id, QMP_GENERIC_ERROR, err->text);
	else
		session_return(session, id, value);
	json_decref(id);
	session->ops->ready(session->opaque);
}

static void session_execute(struct qmp_session *session, const char *name, json_t *arguments,
			    json_t *id)
{
	struct qmp_call call = {
		.target = session->target,
		.arguments = arguments,
		.negotiating = session->negotiating,
		.done = session_resume,
		.opaque = session,
	};
	int result = qmp_execute(&call, name);

	if (result < 0) {
		session_error(session, id, call.error_class, call.err.text);
	} else if (result > 0) {
		session->pending = call.pending;
		session->pending_id = json_incref(id);
	} else {
		/* The one command that succeeds while negotiating ends that. */
		session->negotiating = false;
		session_return(session, id, call.value);
	}
}

/* NULL, or what is wrong with a message that is JSON. */
static const char *message_fault(const json_t *message, struct umbra_error *err)
{
	const json_t *execute = json_object_get(message, "execute");
	const json_t *arguments = json_object_get(message, "arguments");
	const char *member;
	json_t *value;

	json_object_foreach((json_t *)message, member, value)
	{
		if (!strcmp(member, "execute") || !strcmp(member, "arguments") ||
		    !strcmp(member, "id"))
			continue;
		if (!strcmp(member, "exec-oob"))
			return "member 'exec-oob' is unexpected: out-of-band execution is not "
			       "offered";
		error_set(err, 0,
			  "member '%.80s' is unexpected: a command has 'execute', 'arguments' "
			  "and 'id'",
			  member);
		return err->text;
	}
	if (!execute)
		return "member 'execute' is missing: it names the command";
	if (!json_is_string(execute))
		return "member 'execute' must be a string";
	if (arguments && !json_is_object(arguments))
		return "member 'arguments' must be an object";
	return NULL;
}

static void session_message(struct qmp_session *session, const char *text, size_t len)
{
	struct umbra_error err;
	json_error_t where;
	json_t *message = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &where);
	const char *fault;

	if (!message) {
		error_set(&err, 0, "JSON parse error, %s", where.text);
		session_error(session, NULL, QMP_GENERIC_ERROR, err.text);
		return;
	}
	if (!json_is_object(message)) {
		session_error(session, NULL, QMP_GENERIC_ERROR,
			      "a QMP message must be a JSON object");
	} else {
		fault = message_fault(message, &err);
		if (fault)
			session_error(session, json_object_get(message, "id"), QMP_GENERIC_ERROR,
				      fault);
		else
			session_execute(session,
					json_string_value(json_object_get(message, "execute")),
					json_object_get(message, "arguments"),
					json_object_get(message, "id"));
	}
	json_decref(message);
}

int qmp_session_create(const struct qmp_target *target, const struct qmp_session_ops *ops,
		       void *opaque, struct qmp_session **out, struct umbra_error *err)
{
	struct qmp_session *session = calloc(1, sizeof(*session));

	if (!session)
		return error_set(err, -ENOMEM, "out of memory for a control session");
	session->target = target;
	session->ops = ops;
	session->opaque = opaque;
	session->negotiating = true;
	session_send(session,
		     json_pack("{s:{s:o, s:[]}}", "QMP", "version", qmp_version(), "capabilities"));
	*out = session;
	return 0;
}

void qmp_session_destroy(struct qmp_session **session)
{
	if (!*session)
		return;
	if ((*session)->pending)
		qmp_pending_forget((*session)->pending);
	json_decref((*session)->pending_id);
	qmp_framer_free(&(*session)->framer);
	free(*session);
	*session = NULL;
}

size_t qmp_session_feed(struct qmp_session *session, const char *bytes, size_t len)
{
	struct qmp_framer *framer = &session->framer;
	size_t taken;

	if (session->pending || session->over)
		return 0;
	switch (qmp_framer_feed(framer, bytes, len, &taken)) {
	case QMP_FRAME_MORE:
		break;
	case QMP_FRAME_VALUE:
		session_message(session, framer->text, framer->used);
		break;
	case QMP_FRAME_FATAL:
		session->over = true;
		__attribute__((fallthrough));
	case QMP_FRAME_ERROR:
		session_error(session, NULL, QMP_GENERIC_ERROR, framer->reason);
		break;
	}
	return taken;
}

bool qmp_session_is_waiting(const struct qmp_session *session)
{
	return session->pending;
}

bool qmp_session_is_over(const struct qmp_session *session)
{
	return session->over;
}

bool qmp_session_wants_events(const struct qmp_session *session)
{
	return !session->negotiating && !session->over;
}
