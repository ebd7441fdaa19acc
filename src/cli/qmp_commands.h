/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The commands of the control socket: a table, and the check of arguments
 * against it.
 *
 * A command finds arguments of the right names and types only; everything else
 * is refused before it has had an effect.
 */
#ifndef UMBRA_CLI_QMP_COMMANDS_H
#define UMBRA_CLI_QMP_COMMANDS_H

#include <jansson.h>
#include <stdbool.h>

#include "cli/control.h"
#include "umbra/error.h"

/* The protocol knows three classes that matter here. */
#define QMP_GENERIC_ERROR "GenericError"
#define QMP_COMMAND_NOT_FOUND "CommandNotFound"
#define QMP_DEVICE_NOT_FOUND "DeviceNotFound"

/* A command that is under way after its handler has returned. */
struct qmp_pending;

struct qmp_call {
	const struct control *control;
	json_t *arguments; /* checked; NULL if there were none */
	bool negotiating;  /* the client has not sent qmp_capabilities yet */

	/* Called once, in the main loop, if the handler returned 1. */
	void (*done)(void *opaque, int result, const struct umbra_error *err);
	void *opaque;

	/* Results. */
	json_t *value;               /* owned by the caller; NULL means {} */
	const char *error_class;     /* if the result is negative */
	struct umbra_error err;      /* likewise */
	struct qmp_pending *pending; /* if the result is 1: for qmp_pending_forget() */
};

/*
 * Execute @name.  0: done, see @value; 1: pending, @done follows; negative:
 * refused, see @error_class and @err.
 */
UMBRA_MUST_CHECK int qmp_execute(struct qmp_call *call, const char *name);

/* The client has gone: do not call @done.  The command goes on. */
void qmp_pending_forget(struct qmp_pending *pending);

/* The value of query-version, which is also in the greeting. */
json_t *qmp_version(void);

#endif
