/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The commands of the QMP socket: tables, and the check of arguments against
 * them.  Here are the commands of every program; those of a device come with its
 * target.
 *
 * A command finds arguments of the right names and types only; everything else
 * is refused before it has had an effect.
 */
#ifndef UMBRA_CLI_QMP_COMMANDS_H
#define UMBRA_CLI_QMP_COMMANDS_H

#include <jansson.h>
#include <stdbool.h>

#include "cli/qmp_target.h"
#include "umbra/error.h"

/* The protocol knows three classes that matter here. */
#define QMP_GENERIC_ERROR "GenericError"
#define QMP_COMMAND_NOT_FOUND "CommandNotFound"
#define QMP_DEVICE_NOT_FOUND "DeviceNotFound"

/*
 * A command that is under way after its handler has returned.  It belongs to
 * whatever works on it until it is posted to the main loop; there it is answered
 * and freed.  If the client left in between, it is told so, and is freed all the
 * same.
 */
struct qmp_pending {
	struct letter letter; /* first: casts lead from it to the whole */
	struct mailbox *mailbox;
	/* NULL: forgotten. */
	void (*done)(void *opaque, int result, json_t *value, const struct umbra_error *err);
	void *opaque;
	int result;
	json_t *value; /* of a result of 0; NULL means {} */
	struct umbra_error err;
};

/* A pending that calls @call's done when its letter is delivered, or NULL. */
struct qmp_call;
struct qmp_pending *qmp_pending_create(struct qmp_call *call);

struct qmp_call {
	const struct qmp_target *target;
	json_t *arguments; /* checked; NULL if there were none */
	bool negotiating;  /* the client has not sent qmp_capabilities yet */

	/* Called once, in the main loop, if the handler returned 1.  Consumes @value. */
	void (*done)(void *opaque, int result, json_t *value, const struct umbra_error *err);
	void *opaque;

	/* Results. */
	json_t *value;               /* owned by the caller; NULL means {} */
	const char *error_class;     /* if the result is negative */
	struct umbra_error err;      /* likewise */
	struct qmp_pending *pending; /* if the result is 1: for qmp_pending_forget() */
};

#define QMP_ARGUMENTS_MAX 4 /* of one command, with the end mark */

struct qmp_argument {
	const char *name; /* NULL ends the list */
	json_type type;   /* JSON_TRUE stands for both truth values */
	bool required;
};

struct qmp_command {
	const char *name;
	/* 0, 1 or negative, as qmp_execute() has it. */
	int (*run)(struct qmp_call *call);
	struct qmp_argument arguments[QMP_ARGUMENTS_MAX];
};

/* --- for the commands ---------------------------------------------------- */

/* Refuse, with a text for people.  Returns @code. */
int qmp_refuse(struct qmp_call *call, int code, const char *error_class, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
int qmp_out_of_memory(struct qmp_call *call, const char *what);
/* Hand over a value that was just made; NULL: there was no memory for it. */
int qmp_answer(struct qmp_call *call, json_t *value);

/* --- for sessions ---------------------------------------------------------- */

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
