/* SPDX-License-Identifier: BSD-2-Clause */
/* "umbra shadow": the program (program.h) of one shadow device. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/program.h"
#include "cli/qmp_report.h"
#include "cli/qmp_shadow.h"
#include "cli/shadow_options.h"

struct shadow_program {
	struct program program;
	struct shadow_options options;
	struct qmp_shadow qmp;
};

/* An event, with a copy of its reason. */
struct shadow_event {
	struct umbra_event event;
	char reason[UMBRA_ERROR_SIZE];
};

/* In the main loop. */
static void shadow_event_tell(struct program *program, const void *data)
{
	const struct shadow_event *posted = data;
	const struct umbra_event *event = &posted->event;

	if (event->kind == UMBRA_EVENT_STATE)
		qmp_server_event(
			program->server, "SHADOW_STATE_CHANGE",
			report_state_change(program->name, event->from, event->to, posted->reason));
	else if (event->kind == UMBRA_EVENT_QUEUE_BROKEN)
		qmp_server_event(program->server, "SHADOW_QUEUE_BROKEN",
				 report_queue_broken(program->name, event->queue, posted->reason));
	else if (event->kind == UMBRA_EVENT_SOUGHT)
		qmp_server_event(program->server, "SHADOW_BACKEND_SOUGHT",
				 report_sought(program->name, event->attempts, event->pause_ms,
					       posted->reason));
}

/* On a thread of the device. */
static void on_device_event(void *opaque, const struct umbra_event *event)
{
	struct shadow_program *shadow = opaque;
	struct shadow_event posted = { .event = *event };

	snprintf(posted.reason, sizeof(posted.reason), "%s", event->reason ? event->reason : "");
	posted.event.reason = NULL;
	program_post(&shadow->program, shadow_event_tell, &posted, sizeof(posted));
}

static int shadow_create(void *opaque, struct qmp_target *target, struct umbra_error *err)
{
	struct shadow_program *shadow = opaque;
	struct umbra_shadow_config config = shadow->options.config;
	int result;

	config.on_event = on_device_event;
	config.opaque = shadow;
	result = umbra_shadow_device_create(&config, &shadow->qmp.device, err);
	if (result)
		return result;
	shadow->qmp.backend = config.backend;
	target->commands = qmp_shadow_commands;
	target->command_count = qmp_shadow_command_count;
	target->subject = &shadow->qmp;
	return 0;
}

static int shadow_run(void *opaque, struct umbra_error *err)
{
	struct shadow_program *shadow = opaque;

	return umbra_shadow_device_run(shadow->qmp.device, err);
}

static void shadow_stop(void *opaque)
{
	struct shadow_program *shadow = opaque;

	umbra_shadow_device_stop(shadow->qmp.device);
}

static void shadow_destroy(void *opaque)
{
	struct shadow_program *shadow = opaque;

	if (shadow->qmp.device)
		umbra_shadow_device_destroy(&shadow->qmp.device);
}

static const struct program_device device = {
	.create = shadow_create,
	.run = shadow_run,
	.stop = shadow_stop,
	.destroy = shadow_destroy,
};

int command_shadow(int argc, char **argv)
{
	struct umbra_error err = { "" };
	struct shadow_program shadow = { .program = { .device = &device } };

	if (program_asks_for_capabilities(argc, argv)) {
		shadow_print_capabilities();
		return EXIT_SUCCESS;
	}
	if (shadow_options_parse(&shadow.options, argc, argv, &err)) {
		fprintf(stderr, "umbra shadow: %s\n", err.text);
		return EXIT_USAGE;
	}
	if (shadow.options.common.help) {
		shadow_print_help();
		return EXIT_SUCCESS;
	}
	shadow.program.opaque = &shadow;
	return program_main(&shadow.program, &shadow.options.common);
}
