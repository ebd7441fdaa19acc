/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One client's conversation: bytes in, lines of JSON out.  No sockets.
 *
 * Theory of operation: a session greets, then answers commands in the order in
 * which they came, one at a time, as QMP wants it of a server without
 * out-of-band execution.  While a command is pending (a switch takes as long
 * as the back-end takes), the session accepts no bytes, and @ready is called
 * when it does again.  Sessions do not know of each other: one that waits
 * holds up nobody else.
 *
 * Trust: every byte that is fed is hostile.  A session's memory is bounded by
 * QMP_VALUE_MAX and what the parser makes of it.
 *
 * Threads: that of the main loop.
 *
 * Implements: docs/interop/qmp-spec.rst of QEMU, without capabilities.
 */
#ifndef UMBRA_CLI_QMP_SESSION_H
#define UMBRA_CLI_QMP_SESSION_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "cli/qmp_target.h"
#include "umbra/error.h"

struct qmp_session;

struct qmp_session_ops {
	/* Whole lines to the client, with CRLF.  Takes all of them. */
	void (*send)(void *opaque, const char *text, size_t len);
	/* A pending command has been answered: feed again, but not from here. */
	void (*ready)(void *opaque);
};

/* Sends the greeting before it returns.  @ops and @target are borrowed.  -ENOMEM. */
UMBRA_MUST_CHECK int qmp_session_create(const struct qmp_target *target,
					const struct qmp_session_ops *ops, void *opaque,
					struct qmp_session **out, struct umbra_error *err);

/* A pending command goes on; nobody is told how it ended. */
void qmp_session_destroy(struct qmp_session **session);

/*
 * Take bytes up to the end of one message and answer it.  Returns how many
 * were taken: fewer than @len after a message, 0 while a command is pending or
 * the session is over.
 */
size_t qmp_session_feed(struct qmp_session *session, const char *bytes, size_t len);

/* A command is pending. */
bool qmp_session_is_waiting(const struct qmp_session *session);

/* The client broke a bound: send what there is and close. */
bool qmp_session_is_over(const struct qmp_session *session);

/* Events are sent: the client has left the negotiation. */
bool qmp_session_wants_events(const struct qmp_session *session);

/* One line with CRLF, or NULL for want of memory; the caller frees it.  Consumes @data. */
char *qmp_event_line(const char *name, json_t *data);

#endif
