/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The commands of the control socket: see qmp_commands.h.
 *
 * A switch is the one command that takes time.  Its request belongs to the
 * device until the callback, which runs on the device's thread and only posts
 * the request to the main loop; there it is answered and freed.  If the client
 * left in between, the request is told so, and is freed all the same.
 */
#include "cli/qmp_commands.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "cli/json_text.h"
#include "cli/qmp_report.h"

#define ARGUMENTS_MAX 3 /* of one command, with the end mark */

struct argument {
	const char *name; /* NULL ends the list */
	json_type type;   /* JSON_TRUE stands for both truth values */
	bool required;
};

struct command {
	const char *name;
	int (*run)(struct qmp_call *call);
	struct argument arguments[ARGUMENTS_MAX];
};

struct qmp_pending {
	struct letter letter; /* first: switch_deliver() casts */
	struct mailbox *mailbox;
	void (*done)(void *opaque, int result, const struct umbra_error *err); /* NULL: forgotten */
	void *opaque;
	int result;
	struct umbra_error err;
};

__attribute__((format(printf, 4, 5))) static int
refuse(struct qmp_call *call, int code, const char *error_class, const char *format, ...)
{
	va_list args;

	call->error_class = error_class;
	va_start(args, format);
	vsnprintf(call->err.text, sizeof(call->err.text), format, args);
	va_end(args);
	return code;
}

static int out_of_memory(struct qmp_call *call, const char *what)
{
	return refuse(call, -ENOMEM, QMP_GENERIC_ERROR, "out of memory for %s", what);
}

/* Hand over a value that was just made. */
static int answer(struct qmp_call *call, json_t *value)
{
	if (!value)
		return out_of_memory(call, "the answer");
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
		return refuse(call, -EINVAL, QMP_COMMAND_NOT_FOUND,
			      "capabilities negotiation is already complete");
	if (json_array_size(enable) > 0)
		return refuse(call, -EINVAL, QMP_GENERIC_ERROR,
			      "argument 'enable': the greeting offered no capabilities, expected "
			      "an empty list");
	return 0;
}

static int run_quit(struct qmp_call *call)
{
	call->control->quit(call->control->opaque);
	return 0;
}

static int run_query_version(struct qmp_call *call)
{
	return answer(call, qmp_version());
}

static int run_query_status(struct qmp_call *call)
{
	const struct control *control = call->control;

	umbra_shadow_device_query(control->device, control->info);
	return answer(call, report_status(control->name, control->info));
}

static int run_query_vhost(struct qmp_call *call)
{
	const struct control *control = call->control;

	umbra_shadow_device_query(control->device, control->info);
	return answer(call, report_vhost(control->backend, control->info));
}

/* In the main loop. */
static void switch_deliver(struct letter *letter)
{
	struct qmp_pending *pending = (struct qmp_pending *)letter;

	if (pending->done)
		pending->done(pending->opaque, pending->result, &pending->err);
	free(pending);
}

/* On a thread of the device. */
static void switch_done(void *opaque, int result, const struct umbra_error *err)
{
	struct qmp_pending *pending = opaque;

	pending->result = result;
	if (result && err && err->text[0])
		pending->err = *err;
	else if (result)
		error_set(&pending->err, result, "the switch failed: %s", strerror(-result));
	mailbox_post(pending->mailbox, &pending->letter);
}

static int run_enable_shadow(struct qmp_call *call)
{
	const struct control *control = call->control;
	const char *name = json_string_value(json_object_get(call->arguments, "name"));
	bool enable = json_is_true(json_object_get(call->arguments, "enable"));
	struct qmp_pending *pending;
	int result;

	if (strcmp(name, control->name) != 0)
		return refuse(call, -ENODEV, QMP_DEVICE_NOT_FOUND,
			      "argument 'name': there is no device '%.80s', expected '%s'", name,
			      control->name);
	pending = calloc(1, sizeof(*pending));
	if (!pending)
		return out_of_memory(call, "the switch");
	pending->letter.deliver = switch_deliver;
	pending->mailbox = control->mailbox;
	pending->done = call->done;
	pending->opaque = call->opaque;
	call->pending = pending;
	result = umbra_shadow_device_switch(control->device, enable, switch_done, pending);
	if (!result)
		return 1;
	call->pending = NULL;
	free(pending);
	return refuse(call, result, QMP_GENERIC_ERROR, "device '%s': the switch was refused: %s",
		      control->name, strerror(-result));
}

static int run_query_commands(struct qmp_call *call);

static const struct command commands[] = {
	{ "qmp_capabilities", run_capabilities, { { "enable", JSON_ARRAY, false } } },
	{ "query-commands", run_query_commands, { { 0 } } },
	{ "query-version", run_query_version, { { 0 } } },
	{ "query-status", run_query_status, { { 0 } } },
	{ "query-vhost", run_query_vhost, { { 0 } } },
	{ "x-vhost-enable-shadow-vq",
	  run_enable_shadow,
	  { { "name", JSON_STRING, true }, { "enable", JSON_TRUE, true } } },
	{ "quit", run_quit, { { 0 } } },
};

static int run_query_commands(struct qmp_call *call)
{
	json_t *list = json_array();
	size_t i;

	for (i = 0; list && i < ARRAY_SIZE(commands); i++) {
		if (!json_array_append_new(list, json_pack("{s:s}", "name", commands[i].name)))
			continue;
		json_decref(list);
		list = NULL;
	}
	return answer(call, list);
}

static const struct command *command_find(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
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

static const struct argument *argument_find(const struct command *command, const char *name)
{
	const struct argument *argument;

	for (argument = command->arguments; argument->name; argument++)
		if (!strcmp(argument->name, name))
			return argument;
	return NULL;
}

static int check_arguments(struct qmp_call *call, const struct command *command)
{
	const struct argument *argument;
	const char *name;
	json_t *value;

	json_object_foreach(call->arguments, name, value)
	{
		argument = argument_find(command, name);
		if (!argument)
			return refuse(call, -EINVAL, QMP_GENERIC_ERROR,
				      "argument '%.80s' is unexpected: %s does not have it", name,
				      command->name);
		if (!has_type(value, argument->type))
			return refuse(call, -EINVAL, QMP_GENERIC_ERROR,
				      "argument '%s' is %s, expected %s", name,
				      type_name(json_typeof(value)), type_name(argument->type));
	}
	for (argument = command->arguments; argument->name; argument++)
		if (argument->required && !json_object_get(call->arguments, argument->name))
			return refuse(call, -EINVAL, QMP_GENERIC_ERROR,
				      "argument '%s' is missing: %s expects %s", argument->name,
				      command->name, type_name(argument->type));
	return 0;
}

int qmp_execute(struct qmp_call *call, const char *name)
{
	const struct command *command = command_find(name);
	int result;

	if (call->negotiating && (!command || command->run != run_capabilities))
		return refuse(call, -EINVAL, QMP_COMMAND_NOT_FOUND,
			      "expected qmp_capabilities before any other command, got '%.80s'",
			      name);
	if (!command)
		return refuse(call, -EINVAL, QMP_COMMAND_NOT_FOUND,
			      "there is no command '%.80s': query-commands lists them", name);
	result = check_arguments(call, command);
	return result ? result : command->run(call);
}

void qmp_pending_forget(struct qmp_pending *pending)
{
	pending->done = NULL;
}
