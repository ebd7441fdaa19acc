/* SPDX-License-Identifier: BSD-2-Clause */
/* "umbra balloon": the program (program.h) of one balloon. */
#include <stdio.h>
#include <stdlib.h>

#include "cli/balloon_options.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/program.h"
#include "cli/qmp_balloon.h"

struct balloon_program {
	struct program program;
	struct balloon_options options;
	struct qmp_balloon qmp;
};

struct balloon_event {
	enum umbra_balloon_event_kind kind;
	struct umbra_balloon_info info;
};

/* In the main loop. */
static void balloon_event_tell(struct program *program, const void *data)
{
	const struct balloon_event *posted = data;

	switch (posted->kind) {
	case UMBRA_BALLOON_EVENT_STATE:
		qmp_server_event(program->server, "BALLOON_STATE_CHANGE",
				 report_balloon_state(program->name, &posted->info));
		break;
	case UMBRA_BALLOON_EVENT_CHANGE:
		qmp_server_event(program->server, "BALLOON_CHANGE",
				 report_balloon_change(&posted->info));
		break;
	case UMBRA_BALLOON_EVENT_SETTLED:
		qmp_server_event(program->server, "BALLOON_SETTLED",
				 report_balloon_settled(program->name, &posted->info));
		break;
	}
}

/* On the device's thread. */
static void on_event(void *opaque, enum umbra_balloon_event_kind kind,
		     const struct umbra_balloon_info *info)
{
	struct balloon_program *balloon = opaque;
	struct balloon_event posted = { .kind = kind, .info = *info };

	program_post(&balloon->program, balloon_event_tell, &posted, sizeof(posted));
}

static int balloon_create(void *opaque, struct qmp_target *target, struct umbra_error *err)
{
	struct balloon_program *balloon = opaque;
	struct umbra_balloon_config config = balloon->options.config;
	int result;

	config.on_event = on_event;
	config.opaque = balloon;
	result = umbra_balloon_create(&config, &balloon->qmp.balloon, err);
	if (result)
		return result;
	target->commands = qmp_balloon_commands;
	target->command_count = qmp_balloon_command_count;
	target->subject = &balloon->qmp;
	return 0;
}

static int balloon_run(void *opaque, struct umbra_error *err)
{
	struct balloon_program *balloon = opaque;

	return umbra_balloon_run(balloon->qmp.balloon, err);
}

static void balloon_stop(void *opaque)
{
	struct balloon_program *balloon = opaque;

	umbra_balloon_stop(balloon->qmp.balloon);
}

static void balloon_destroy(void *opaque)
{
	struct balloon_program *balloon = opaque;

	if (balloon->qmp.balloon)
		umbra_balloon_destroy(&balloon->qmp.balloon);
}

static const struct program_device device = {
	.create = balloon_create,
	.run = balloon_run,
	.stop = balloon_stop,
	.destroy = balloon_destroy,
};

int command_balloon(int argc, char **argv)
{
	struct umbra_error err = { "" };
	struct balloon_program balloon = { .program = { .device = &device } };

	if (program_asks_for_capabilities(argc, argv)) {
		balloon_print_capabilities();
		return EXIT_SUCCESS;
	}
	if (balloon_options_parse(&balloon.options, argc, argv, &err)) {
		fprintf(stderr, "umbra balloon: %s\n", err.text);
		return EXIT_USAGE;
	}
	if (balloon.options.common.help) {
		balloon_print_help();
		return EXIT_SUCCESS;
	}
	balloon.program.opaque = &balloon;
	return program_main(&balloon.program, &balloon.options.common);
}
