/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A simulated balloon: the functions of umbra/balloon.h, with nothing behind them,
 * for tests of the program and of its control socket.
 *
 * Its guest has 1 GiB, and its driver moves a quarter of the way every millisecond.
 * Steered from outside by a folder beside the socket, SOCKET.knobs; files in it:
 *	fail		"TEXT": run() returns -EIO with it
 *	gone		run() returns 0
 *	floor		"BYTES": the guest does not go below that
 *	break		"REASON": the state becomes broken
 *	mute		the driver sends no statistics
 */
#ifndef UMBRA_TESTS_SIMULATED_BALLOON_H
#define UMBRA_TESTS_SIMULATED_BALLOON_H

#include "umbra/balloon.h"

#endif
