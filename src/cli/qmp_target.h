/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a QMP session acts on: one device of the program.
 *
 * The commands that a device has beside those of every session are a table, one
 * for each kind of device: qmp_shadow.c, qmp_balloon.c.
 *
 * All members are set once, before the first session, and outlive the last.
 * Everything is borrowed.  Threads: the thread of the main loop.
 */
#ifndef UMBRA_CLI_QMP_TARGET_H
#define UMBRA_CLI_QMP_TARGET_H

#include <stddef.h>

#include "cli/mailbox.h"

struct qmp_command;

struct qmp_target {
	const char *name;                   /* --name */
	const struct qmp_command *commands; /* of this kind of device */
	size_t command_count;
	void *subject;              /* what they act on: struct qmp_shadow, ... */
	struct mailbox *mailbox;    /* where other threads post to this one */
	void (*quit)(void *opaque); /* make the program end soon */
	void *opaque;
};

#endif
