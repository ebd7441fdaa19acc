/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A simulated shadow device: the functions of umbra/shadow_device.h, with
 * nothing behind them, for tests of the program and of its control socket.
 *
 * It has three queues (sizes 256, 0 and 8) and numbers in its counters that
 * tell one from the other.  A test steers it in one of two ways:
 *  - in one process: simulated_plan below;
 *  - from outside: if the back-end's path is a folder, the files in it are
 *    looked at every millisecond by umbra_shadow_device_run():
 *	hold		while it is there, switches do not complete
 *	refuse		"ERRNO TEXT": the next switches fail with that
 *	state		"NAME [REASON]": enter that state; removed when done
 *	break		"QUEUE REASON": break a queue; removed when done
 *	flood		"COUNT": that many events of state; removed when done
 *	fail		"TEXT": run() returns -EIO with it
 *	gone		run() returns 0
 */
#ifndef UMBRA_TESTS_SIMULATED_DEVICE_H
#define UMBRA_TESTS_SIMULATED_DEVICE_H

#include "umbra/shadow_device.h"

struct simulated_plan {
	bool hold;          /* switches do not complete */
	int refuse;         /* 0, or what a switch fails with, negative */
	const char *text;   /* the error text of that, may be NULL or no UTF-8 */
	int switch_returns; /* what umbra_shadow_device_switch() itself says */
	const char *reason; /* of the state, in answers to queries; may be NULL */
};

extern struct simulated_plan simulated_plan;

/* Complete switches, as the plan says: what run() does all the time. */
void simulated_device_step(struct umbra_shadow_device *device);

#endif
