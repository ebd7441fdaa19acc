/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The commands of the QMP socket: see qmp_commands.h.
 */
#include "cli/qmp_commands.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"

int qmp_refuse(struct qmp_call *call, int code, const char *error_class, const char *format, ...)
{
	va_list args;

	call->error_class = error_class;
	va_start(args, format);
	vsnprintf(call->err.text, sizeof(call->err.text), format, args);
	va_end(args);
	return code;
}

int qmp_out_of_memory(struct qmp_call *call, const char *what)
{
	return qmp_refuse(call, -ENOMEM, QMP_GENERIC_ERROR, "out of memory for %s", what);
}

int qmp_answer(struct qmp_call *call, json_t *value)
{
	if (!value)
		return qmp_out_of_memory(call, "the answer");
	call->value = value;
	return 0;
}

json_t *qmp_version(void)
{
	int major = 0, minor = 0, micro = 0;

	/* Our own version string: what sscanf() leaves out stays 0. */
	(void)sscanf(UMBRA_VERSION, "%d.%d.%d", &major, &minor, &micro);
	return json_pack("{s:{s:i, s:i, s:i}, s:s}", "qemu", "major", major, "minor", minor,
			 "micro", micro, "package", "umbra " UMBRA_VERSION);
}

static int run_capabilities(struct qmp_call *call)
{
	json_t *enable = json_object_get(call->arguments, "enable");

	if (!call->negotiating)
		return qmp_refuse(call, -EINVAL, QMP_COMMAND_NOT_FOUND,
				  "capabilities negotiation is already complete");
	if (json_array_size(enable) > 0)
		return qmp_refuse(
			call, -EINVAL, QMP_GENERIC_ERROR,
			"argument 'enable': the greeting offered no capabilities, expected "
			"an empty list");
	return 0;
}

static int run_quit(struct qmp_call *call)
{
	call->target->quit(call->target->opaque);
	return 0;
}

static int run_query_version(struct qmp_call *call)
{
	return qmp_answer(call, qmp_version());
}

static int run_query_commands(struct qmp_call *call);

/* Of every program. */
static const struct qmp_command commands[] = {
	{ "qmp_capabilities", run_capabilities, { { "enable", JSON_ARRAY, false } } },
	{ "query-commands", run_query_commands, { { 0 } } },
	{ "query-version", run_query_version, { { 0 } } },
	{ "quit", run_quit, { { 0 } } },
};

/* The command at @i: first those of every program, then the device's; NULL: no more. */
static const struct qmp_command *command_at(const struct qmp_target *target, size_t i)
{
	if (i < ARRAY_SIZE(commands))
		return &commands[i];
	i -= ARRAY_SIZE(commands);
	return i < target->command_count ? &target->commands[i] : NULL;
}

static int run_query_commands(struct qmp_call *call)
{
	const struct qmp_command *command;
	json_t *list = json_array();
	size_t i;

	for (i = 0; list && (command = command_at(call->target, i)); i++) {
		if (!json_array_append_new(list, json_pack("{s:s}", "name", command->name)))
			continue;
		json_decref(list);
		list = NULL;
	}
	return qmp_answer(call, list);
}

static const struct qmp_command *qmp_command_find(const struct qmp_target *target, const char *name)
{
	const struct qmp_command *command;
	size_t i;

	for (i = 0; (command = command_at(target, i)); i++)
		if (!strcmp(command->name, name))
			return command;
	return NULL;
}

static const char *type_name(json_type type)
{
	switch (type) {
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "a list";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
		return "an integer";
	case JSON_REAL:
		return "a fraction";
	case JSON_TRUE:
	case JSON_FALSE:
		return "true or false";
	case JSON_NULL:
		return "null";
	}
	return "something else";
}

static bool has_type(const json_t *value, json_type type)
{
	return type == JSON_TRUE ? json_is_boolean(value) : json_typeof(value) == type;
}

static const struct qmp_argument *argument_find(const struct qmp_command *command, const char *name)
{
	const struct qmp_argument *argument;

	for (argument = command->arguments; argument->name; argument++)
		if (!strcmp(argument->name, name))
			return argument;
	return NULL;
}

static int check_arguments(struct qmp_call *call, const struct qmp_command *command)
{
	const struct qmp_argument *argument;
	const char *name;
	json_t *value;

	json_object_foreach(call->arguments, name, value)
	{
		argument = argument_find(command, name);
		if (!argument)
			return qmp_refuse(call, -EINVAL, QMP_GENERIC_ERROR,
					  "argument '%.80s' is unexpected: %s does not have it",
					  name, command->name);
		if (!has_type(value, argument->type))
			return qmp_refuse(call, -EINVAL, QMP_GENERIC_ERROR,
					  "argument '%s' is %s, expected %s", name,
					  type_name(json_typeof(value)), type_name(argument->type));
	}
	for (argument = command->arguments; argument->name; argument++)
		if (argument->required && !json_object_get(call->arguments, argument->name))
			return qmp_refuse(call, -EINVAL, QMP_GENERIC_ERROR,
					  "argument '%s' is missing: %s expects %s", argument->name,
					  command->name, type_name(argument->type));
	return 0;
}

int qmp_execute(struct qmp_call *call, const char *name)
{
	const struct qmp_command *command = qmp_command_find(call->target, name);
	int result;

	if (call->negotiating && (!command || command->run != run_capabilities))
		return qmp_refuse(call, -EINVAL, QMP_COMMAND_NOT_FOUND,
				  "expected qmp_capabilities before any other command, got '%.80s'",
				  name);
	if (!command)
		return qmp_refuse(call, -EINVAL, QMP_COMMAND_NOT_FOUND,
				  "there is no command '%.80s': query-commands lists them", name);
	result = check_arguments(call, command);
	return result ? result : command->run(call);
}

/* In the main loop. */
static void pending_deliver(struct letter *letter)
{
	struct qmp_pending *pending = (struct qmp_pending *)letter;

	if (pending->done)
		pending->done(pending->opaque, pending->result, pending->value, &pending->err);
	else
		json_decref(pending->value);
	free(pending);
}

struct qmp_pending *qmp_pending_create(struct qmp_call *call)
{
	struct qmp_pending *pending = calloc(1, sizeof(*pending));

	if (!pending)
		return NULL;
	pending->letter.deliver = pending_deliver;
	pending->mailbox = call->target->mailbox;
	pending->done = call->done;
	pending->opaque = call->opaque;
	return pending;
}

void qmp_pending_forget(struct qmp_pending *pending)
{
	pending->done = NULL;
}
