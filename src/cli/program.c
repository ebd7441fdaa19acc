/* SPDX-License-Identifier: BSD-2-Clause */
/* A program that runs one device: see program.h. */
#include "cli/program.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/log.h"
#include "base/thread.h"

#define EVENTS_MAX 1024u /* posted and not delivered: a loop that is this late is stuck */

/* Those that a second time end the program at once come first. */
static const int watched_signals[PROGRAM_SIGNALS] = { SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2 };
#define HASTY_SIGNALS 2

/* --- events ------------------------------------------------------------------ */

/* An event on its way to the main loop. */
struct event_letter {
	struct letter letter; /* first: event_deliver() casts */
	struct program *program;
	void (*tell)(struct program *program, const void *data);
	max_align_t data[];
};

/* In the main loop. */
static void event_deliver(struct letter *letter)
{
	struct event_letter *event = (struct event_letter *)(void *)letter; /* from calloc() */
	struct program *program = event->program;
	unsigned int lost = atomic_exchange(&program->events_lost, 0);

	atomic_fetch_sub(&program->events_posted, 1);
	if (lost)
		log_warning("%u events came faster than they could be told, and were dropped",
			    lost);
	if (program->server)
		event->tell(program, event->data);
	free(event);
}

void program_post(struct program *program, void (*tell)(struct program *program, const void *data),
		  const void *data, size_t size)
{
	struct event_letter *letter;

	if (!program->qmp_path)
		return;
	letter = atomic_fetch_add(&program->events_posted, 1) < EVENTS_MAX
			 ? calloc(1, sizeof(*letter) + size)
			 : NULL;
	if (!letter) {
		atomic_fetch_sub(&program->events_posted, 1);
		atomic_fetch_add(&program->events_lost, 1);
		return;
	}
	letter->letter.deliver = event_deliver;
	letter->program = program;
	letter->tell = tell;
	memcpy(letter->data, data, size);
	mailbox_post(program->mailbox, &letter->letter);
}

static void on_mail(evutil_socket_t fd, short what, void *opaque)
{
	struct program *program = opaque;

	(void)fd;
	(void)what;
	mailbox_deliver(program->mailbox);
}

/* --- the end ------------------------------------------------------------------ */

static void on_signal(evutil_socket_t number, short what, void *opaque)
{
	struct program *program = opaque;
	size_t i;

	(void)what;
	if (number == SIGUSR1 || number == SIGUSR2) {
		log_warning("SIG%s means nothing to this program: ignored",
			    sigabbrev_np((int)number));
		return;
	}
	if (program->is_ending)
		return;
	program->is_ending = true;
	log_info("%s: ending", number == SIGINT   ? "interrupted"
			       : number == SIGHUP ? "the terminal or the session has gone (SIGHUP)"
						  : "asked to end by a signal");
	for (i = 0; i < HASTY_SIGNALS; i++)
		event_del(program->signals[i]);
	program->device->stop(program->opaque);
}

static void on_quit(void *opaque)
{
	struct program *program = opaque;

	log_info("asked to end by a control client: ending");
	program->device->stop(program->opaque);
}

/* In the main loop: the device's thread is done with everything of ours. */
static void ended_deliver(struct letter *letter)
{
	struct program *program =
		(struct program *)(void *)((char *)letter - offsetof(struct program, ended));

	event_base_loopbreak(program->base);
}

/* --- the device's thread ------------------------------------------------------- */

static void *device_main(void *opaque)
{
	struct program *program = opaque;

	program->result = program->device->run(program->opaque, &program->err);
	mailbox_post(program->mailbox, &program->ended);
	return NULL;
}

static int start_device(struct program *program, struct umbra_error *err)
{
	int result = thread_start(&program->thread, 0, device_main, program);

	if (result)
		return error_set(err, result, "cannot start the device's thread: %s",
				 strerror(-result));
	return 0;
}

/* --- from the start to the end --------------------------------------------------- */

static bool is_ignored(int number)
{
	struct sigaction action;

	return !sigaction(number, NULL, &action) && action.sa_handler == SIG_IGN;
}

static int event_loop_open(struct program *program, struct umbra_error *err)
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
	for (i = 0; i < PROGRAM_SIGNALS; i++) {
		if (watched_signals[i] == SIGHUP && is_ignored(SIGHUP))
			continue;
		program->signals[i] =
			evsignal_new(program->base, watched_signals[i], on_signal, program);
		if (!program->signals[i] || event_add(program->signals[i], NULL))
			return error_set(err, -ENOMEM, "cannot watch signal %d",
					 watched_signals[i]);
	}
	return 0;
}

static int open_qmp(struct program *program, struct umbra_error *err)
{
	if (!program->qmp_path)
		return 0;
	return qmp_server_create(program->base, program->qmp_path, &program->target,
				 &program->server, err);
}

/* Whatever has been opened, in the reverse order. */
static void program_close(struct program *program)
{
	sigset_t ends;
	size_t i;

	/* A first signal that comes this late must not turn success into death. */
	sigemptyset(&ends);
	for (i = 0; i < PROGRAM_SIGNALS; i++)
		sigaddset(&ends, watched_signals[i]);
	pthread_sigmask(SIG_BLOCK, &ends, NULL);

	/* The answers to what the device has finished or cancelled. */
	if (program->mailbox)
		mailbox_deliver(program->mailbox);
	qmp_server_destroy(&program->server);
	program->device->destroy(program->opaque);
	for (i = 0; i < PROGRAM_SIGNALS; i++)
		if (program->signals[i])
			event_free(program->signals[i]);
	if (program->mail)
		event_free(program->mail);
	mailbox_destroy(&program->mailbox);
	if (program->base) {
		/* A bufferevent that is freed is taken apart by the loop later;
		 * event_base_free() alone forgets some that were being served. */
		event_base_loop(program->base, EVLOOP_NONBLOCK);
		event_base_free(program->base);
	}
}

static int program_run(struct program *program, struct umbra_error *err)
{
	int result;

	program->ended.deliver = ended_deliver;
	program->target = (struct qmp_target){
		.name = program->name,
		.quit = on_quit,
		.opaque = program,
	};
	result = event_loop_open(program, err);
	program->target.mailbox = program->mailbox;
	if (!result)
		result = program->device->create(program->opaque, &program->target, err);
	if (!result)
		result = open_qmp(program, err);
	if (!result)
		result = start_device(program, err);
	if (result)
		return result;
	/* An error of the loop itself leaves the device without control: end both. */
	if (event_base_dispatch(program->base) < 0) {
		log_error("the event loop failed: ending");
		program->device->stop(program->opaque);
	}
	pthread_join(program->thread, NULL);
	*err = program->err;
	return program->result;
}

/* A device of many queues needs more fds than the usual 1024, which are for programs
 * that use select(2). */
static void raise_fd_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur == limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		log_warning("the limit of open files cannot be raised: %s", strerror(errno));
}

int program_main(struct program *program, const struct device_options *options)
{
	struct umbra_error err = { "" };
	int result;

	program->name = options->name;
	program->qmp_path = options->qmp_path;
	if (options->verbose)
		log_set_level(LOG_DEBUG);
	log_begin(program->name);
	signal(SIGPIPE, SIG_IGN);
	raise_fd_limit();
	result = program_run(program, &err);
	program_close(program);
	if (result)
		log_error("%s", err.text[0] ? err.text : strerror(-result));
	return result ? EXIT_FAILURE : EXIT_SUCCESS;
}

bool program_asks_for_capabilities(int argc, char **argv)
{
	int i;

	for (i = 1; i < argc; i++)
		if (!strcmp(argv[i], "--print-capabilities"))
			return true;
	return false;
}
