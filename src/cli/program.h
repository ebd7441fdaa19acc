/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A program that runs one device: its QMP socket, its signals, and their end.
 *
 * Theory of operation: the main thread runs an event loop for signals, the QMP
 * socket and the mailbox; a second thread runs the device.  What the device has to
 * say comes from its own threads and goes through the mailbox.
 *
 * The end: a signal, "quit", or an error of its own makes the device's thread
 * return from run().  That thread posts its last letter, which breaks the loop.  So
 * the loop outlives the device's thread, and the mailbox outlives the device: no
 * callback finds a part of the program gone.  A second SIGTERM or SIGINT finds its default
 * action restored and ends a program that does not come to an end.
 *
 * No signal that is sent by mistake, or by a terminal that goes away, may end the
 * program by its default action: that would leave the sockets' files behind, and take
 * the guest's device without a word.  SIGHUP is an end like SIGTERM, unless whoever
 * started the program has it ignored (nohup(1)); it is not a second signal, since a
 * terminal sends two, and systemd one after its SIGTERM.  SIGUSR1 and SIGUSR2 mean
 * nothing here, which the log says.
 *
 * Threads: the main thread's, but for program_post().
 */
#ifndef UMBRA_CLI_PROGRAM_H
#define UMBRA_CLI_PROGRAM_H

#include <event2/event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/log.h"
#include "cli/device_options.h"
#include "cli/mailbox.h"
#include "cli/qmp_server.h"
#include "cli/qmp_target.h"
#include "umbra/error.h"

#define PROGRAM_SIGNALS 5

/* What a kind of device does for its program. */
struct program_device {
	/* Make it; fill what is its own of @target. */
	int (*create)(void *opaque, struct qmp_target *target, struct umbra_error *err);
	int (*run)(void *opaque, struct umbra_error *err); /* on a thread of its own */
	void (*stop)(void *opaque);                        /* make run() return; any thread */
	void (*destroy)(void *opaque);                     /* also if create() failed */
};

struct program {
	/* The caller's: */
	const struct program_device *device;
	void *opaque;

	/* The program's own: */
	const char *name;     /* --name */
	const char *qmp_path; /* --control, or NULL */
	struct letter ended;  /* the device's thread is done */
	struct event_base *base;
	struct event *signals[PROGRAM_SIGNALS]; /* NULL: one that is not watched */
	bool is_ending;                         /* a signal has asked for it */
	struct event *mail;
	struct mailbox *mailbox;
	struct qmp_target target;
	struct qmp_server *server; /* NULL without --control */
	atomic_uint events_posted; /* and not delivered */
	atomic_uint events_lost;   /* since the loop last said so */

	/* Of the device's thread; the main thread reads them after @ended. */
	pthread_t thread;
	int result;
	struct umbra_error err;
};

/*
 * Run the program, as @options say, to its end.  Returns the exit status; an error has been logged.
 */
int program_main(struct program *program, const struct device_options *options);

/*
 * Have @tell called in the main loop with a copy of @size bytes at @data; it may
 * use qmp_server_event(program->server, ...).  Any thread of the device.  Without a
 * QMP socket nothing happens; more than the loop can take are dropped, with a
 * line in the log.
 */
void program_post(struct program *program, void (*tell)(struct program *program, const void *data),
		  const void *data, size_t size);

/* "Other options and arguments should be ignored", say vhost-user's conventions. */
bool program_asks_for_capabilities(int argc, char **argv);

#endif
