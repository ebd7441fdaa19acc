/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The QMP socket: clients, their sessions, and how much memory they get.
 *
 * Theory of operation: every client has a session and two bounded buffers.
 * Input is read only as far as it can be answered: while a command is pending,
 * or the client leaves its answers unread, its bytes stay in the socket.
 * Events cannot wait like that.  A client whose unread output would grow past
 * SERVER_OUTPUT_MAX, or which has read nothing for SERVER_PATIENCE seconds, is
 * disconnected; it can connect again and query, which beats a gap it would not
 * know of.
 *
 * A client that ends its sending half still gets its answers.
 *
 * Threads: that of the main loop.
 */
#ifndef UMBRA_CLI_QMP_SERVER_H
#define UMBRA_CLI_QMP_SERVER_H

#include <event2/event.h>
#include <jansson.h>

#include "cli/qmp_target.h"
#include "umbra/error.h"

#define SERVER_CLIENTS_MAX 16u
#define SERVER_INPUT_MAX (64u * 1024u)         /* bytes read ahead, per client */
#define SERVER_OUTPUT_BUSY (64u * 1024u)       /* unread bytes beyond which no command is taken */
#define SERVER_OUTPUT_MAX (4u * 1024u * 1024u) /* unread bytes at which events end it */
#define SERVER_PATIENCE 60                     /* seconds without a byte of progress */

struct qmp_server;

/* Listen at @path.  @base and @target are borrowed. */
UMBRA_MUST_CHECK int qmp_server_create(struct event_base *base, const char *path,
				       const struct qmp_target *target, struct qmp_server **out,
				       struct umbra_error *err);

/* To every client that has negotiated.  Consumes @data; NULL drops the event. */
void qmp_server_event(struct qmp_server *server, const char *name, json_t *data);

/* Send what the sockets take at once, disconnect everybody, remove the file. */
void qmp_server_destroy(struct qmp_server **server);

#endif
