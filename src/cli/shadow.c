/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * "umbra shadow": one device, its control socket, and their end.
 *
 * Theory of operation: the main thread runs an event loop for signals, the
 * control socket and the mailbox; a second thread runs the device.  What the
 * device has to say comes from its own threads and goes through the mailbox.
 *
 * The end: a signal, "quit", or an error of its own makes the device's thread
 * return from umbra_shadow_device_run().  That thread posts its last letter,
 * which breaks the loop.  So the loop outlives the device's thread, and the
 * mailbox outlives the device: no callback finds a part of the program gone.
 * A second signal finds its default action restored and ends a program that
 * does not come to an end.
 */
#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/control.h"
#include "cli/mailbox.h"
#include "cli/options.h"
#include "cli/qmp_report.h"
#include "cli/qmp_server.h"
#include "cli/shadow_options.h"
#include "umbra/shadow_device.h"

#define EVENTS_MAX 1024u /* posted and not delivered: a loop that is this late is stuck */

static const int end_signals[] = { SIGTERM, SIGINT };

struct program {
	struct letter ended; /* the device's thread is done; first: ended_deliver() casts */
	struct shadow_options options;
	struct event_base *base;
	struct event *signals[ARRAY_SIZE(end_signals)];
	struct event *mail;
	struct mailbox *mailbox;
	struct umbra_shadow_device *device;
	struct control control;
	struct qmp_server *server; /* NULL without --control */
	atomic_uint events_posted; /* and not delivered */
	atomic_uint events_lost;   /* since the loop last said so */

	/* Of the device's thread; the main thread reads them after @ended. */
	pthread_t thread;
	int result;
	struct umbra_error err;
};

/* An event on its way to the main loop. */
struct event_letter {
	struct letter letter; /* first: event_deliver() casts */
	struct program *program;
	enum umbra_event_kind kind;
	enum umbra_device_state from, to;
	unsigned int queue;
	char reason[UMBRA_ERROR_SIZE];
};

/* In the main loop. */
static void event_deliver(struct letter *letter)
{
	struct event_letter *event = (struct event_letter *)letter;
	struct program *program = event->program;
	const char *name = program->options.config.name;
	unsigned int lost = atomic_exchange(&program->events_lost, 0);

	atomic_fetch_sub(&program->events_posted, 1);
	if (lost)
		log_warning("%u events came faster than they could be told, and were dropped",
			    lost);
	if (program->server && event->kind == UMBRA_EVENT_STATE)
		qmp_server_event(program->server, "SHADOW_STATE_CHANGE",
				 report_state_change(name, event->from, event->to, event->reason));
	else if (program->server && event->kind == UMBRA_EVENT_QUEUE_BROKEN)
		qmp_server_event(program->server, "SHADOW_QUEUE_BROKEN",
				 report_queue_broken(name, event->queue, event->reason));
	free(event);
}

/* On a thread of the device. */
static void on_device_event(void *opaque, const struct umbra_event *event)
{
	static const size_t size = sizeof(((struct event_letter *)NULL)->reason);
	struct program *program = opaque;
	struct event_letter *letter;

	if (!program->options.control)
		return;
	letter = atomic_fetch_add(&program->events_posted, 1) < EVENTS_MAX
			 ? calloc(1, sizeof(*letter))
			 : NULL;
	if (!letter) {
		atomic_fetch_sub(&program->events_posted, 1);
		atomic_fetch_add(&program->events_lost, 1);
		return;
	}
	letter->letter.deliver = event_deliver;
	letter->program = program;
	letter->kind = event->kind;
	letter->from = event->from;
	letter->to = event->to;
	letter->queue = event->queue;
	snprintf(letter->reason, size, "%s", event->reason ? event->reason : "");
	mailbox_post(program->mailbox, &letter->letter);
}

static void on_mail(evutil_socket_t fd, short what, void *opaque)
{
	struct program *program = opaque;

	(void)fd;
	(void)what;
	mailbox_deliver(program->mailbox);
}

static void on_signal(evutil_socket_t number, short what, void *opaque)
{
	struct program *program = opaque;
	size_t i;

	(void)what;
	log_info("%s: ending", number == SIGINT ? "interrupted" : "asked to end by a signal");
	for (i = 0; i < ARRAY_SIZE(end_signals); i++)
		event_del(program->signals[i]);
	umbra_shadow_device_stop(program->device);
}

static void on_quit(void *opaque)
{
	struct program *program = opaque;

	log_info("asked to end by a control client: ending");
	umbra_shadow_device_stop(program->device);
}

/* In the main loop: the device's thread is done with everything of ours. */
static void ended_deliver(struct letter *letter)
{
	struct program *program = (struct program *)letter;

	event_base_loopbreak(program->base);
}

static void *device_main(void *opaque)
{
	struct program *program = opaque;

	program->result = umbra_shadow_device_run(program->device, &program->err);
	mailbox_post(program->mailbox, &program->ended);
	return NULL;
}

/* Signals are the main thread's: the device's threads inherit this mask. */
static int start_device_thread(struct program *program, struct umbra_error *err)
{
	sigset_t all, before;
	int code;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	code = pthread_create(&program->thread, NULL, device_main, program);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (code)
		return error_set(err, -code, "cannot start the device's thread: %s",
				 strerror(code));
	return 0;
}

static int open_loop(struct program *program, struct umbra_error *err)
{
	size_t i;
	int result = mailbox_create(&program->mailbox, err);

	if (result)
		return result;
	program->base = event_base_new();
	if (!program->base)
		return error_set(err, -ENOMEM, "cannot make an event loop");
	program->mail = event_new(program->base, mailbox_fd(program->mailbox), EV_READ | EV_PERSIST,
				  on_mail, program);
	if (!program->mail || event_add(program->mail, NULL))
		return error_set(err, -ENOMEM, "cannot watch the main loop's mailbox");
	for (i = 0; i < ARRAY_SIZE(end_signals); i++) {
		program->signals[i] =
			evsignal_new(program->base, end_signals[i], on_signal, program);
		if (!program->signals[i] || event_add(program->signals[i], NULL))
			return error_set(err, -ENOMEM, "cannot watch signal %d", end_signals[i]);
	}
	return 0;
}

static int open_control(struct program *program, struct umbra_error *err)
{
	if (!program->options.control)
		return 0;
	program->control = (struct control){
		.device = program->device,
		.name = program->options.config.name,
		.backend = program->options.config.backend,
		.info = malloc(sizeof(*program->control.info)),
		.mailbox = program->mailbox,
		.quit = on_quit,
		.opaque = program,
	};
	if (!program->control.info)
		return error_set(err, -ENOMEM, "out of memory for the control socket");
	return qmp_server_create(program->base, program->options.control, &program->control,
				 &program->server, err);
}

/* Whatever has been opened, in the reverse order. */
static void program_close(struct program *program)
{
	sigset_t ends;
	size_t i;

	/* A first signal that comes this late must not turn success into death. */
	sigemptyset(&ends);
	for (i = 0; i < ARRAY_SIZE(end_signals); i++)
		sigaddset(&ends, end_signals[i]);
	pthread_sigmask(SIG_BLOCK, &ends, NULL);

	/* The answers to what the device has finished or cancelled. */
	if (program->mailbox)
		mailbox_deliver(program->mailbox);
	qmp_server_destroy(&program->server);
	free(program->control.info);
	if (program->device)
		umbra_shadow_device_destroy(&program->device);
	for (i = 0; i < ARRAY_SIZE(end_signals); i++)
		if (program->signals[i])
			event_free(program->signals[i]);
	if (program->mail)
		event_free(program->mail);
	mailbox_destroy(&program->mailbox);
	if (program->base)
		event_base_free(program->base);
}

static int program_run(struct program *program, struct umbra_error *err)
{
	struct umbra_shadow_config config = program->options.config;
	int result;

	config.on_event = on_device_event;
	config.opaque = program;
	program->ended.deliver = ended_deliver;
	result = open_loop(program, err);
	if (!result)
		result = umbra_shadow_device_create(&config, &program->device, err);
	if (!result)
		result = open_control(program, err);
	if (!result)
		result = start_device_thread(program, err);
	if (result)
		return result;
	/* An error of the loop itself leaves the device without control: end both. */
	if (event_base_dispatch(program->base) < 0) {
		log_error("the event loop failed: ending");
		umbra_shadow_device_stop(program->device);
	}
	pthread_join(program->thread, NULL);
	*err = program->err;
	return program->result;
}

/* "Other options and arguments should be ignored", say the conventions. */
static bool asks_for_capabilities(int argc, char **argv)
{
	int i;

	for (i = 1; i < argc; i++)
		if (!strcmp(argv[i], "--print-capabilities"))
			return true;
	return false;
}

int command_shadow(int argc, char **argv)
{
	struct umbra_error err = { "" };
	struct program program = { 0 };
	int result;

	if (asks_for_capabilities(argc, argv)) {
		shadow_print_capabilities();
		return EXIT_SUCCESS;
	}
	if (shadow_options_parse(&program.options, argc, argv, &err)) {
		fprintf(stderr, "umbra shadow: %s\n", err.text);
		return EXIT_USAGE;
	}
	if (program.options.help) {
		shadow_print_help();
		return EXIT_SUCCESS;
	}
	if (program.options.verbose)
		log_set_level(LOG_DEBUG);
	signal(SIGPIPE, SIG_IGN);
	result = program_run(&program, &err);
	program_close(&program);
	if (result)
		log_error("%s", err.text[0] ? err.text : strerror(-result));
	return result ? EXIT_FAILURE : EXIT_SUCCESS;
}
