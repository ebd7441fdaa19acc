/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The other end of a QMP socket, for a program that does one thing at a
 * time.
 *
 * Trust: the server's lines are bounded in length and checked for shape; what
 * is in them is the caller's to judge.  Threads: one at a time.
 *
 * Implements: docs/interop/qmp-spec.rst of QEMU, the client's side.
 */
#ifndef UMBRA_CLI_QMP_CLIENT_H
#define UMBRA_CLI_QMP_CLIENT_H

#include <jansson.h>

#include "umbra/error.h"

struct qmp_client;

/*
 * Connect to @path and leave the negotiation.  @patience_ms bounds the whole
 * of this call, and later each other call; -1: no bound.
 */
UMBRA_MUST_CHECK int qmp_client_open(const char *path, int patience_ms, struct qmp_client **out,
				     struct umbra_error *err);

void qmp_client_close(struct qmp_client **client);

/* For the calls that follow; -1: no bound. */
void qmp_client_set_patience(struct qmp_client *client, int patience_ms);

/*
 * Execute a command and wait for its answer; events on the way are dropped.
 * Consumes @arguments, which may be NULL.  *@value is the caller's.
 * -EREMOTEIO: the server refused, @err is its description; -ENOSYS: the same, since it
 * has no such command; -ETIMEDOUT;
 * -ECONNRESET: it closed the connection; -EPROTO: that was no QMP.
 */
UMBRA_MUST_CHECK int qmp_client_execute(struct qmp_client *client, const char *command,
					json_t *arguments, json_t **value, struct umbra_error *err);

/* The next event.  1: *@event is the caller's; 0: the server has closed; -errno. */
UMBRA_MUST_CHECK int qmp_client_event(struct qmp_client *client, json_t **event,
				      struct umbra_error *err);

#endif
