/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a control session acts on: one device of the program.
 *
 * All members are set once, before the first session, and outlive the last.
 * Everything is borrowed.  Threads: the thread of the main loop.
 */
#ifndef UMBRA_CLI_CONTROL_H
#define UMBRA_CLI_CONTROL_H

#include "cli/mailbox.h"
#include "umbra/shadow_device.h"

struct control {
	struct umbra_shadow_device *device;
	const char *name;               /* --name */
	const char *backend;            /* --backend */
	struct umbra_shadow_info *info; /* room for the answer to a query */
	struct mailbox *mailbox;        /* where other threads post to this one */
	void (*quit)(void *opaque);     /* make the program end soon */
	void *opaque;
};

#endif
