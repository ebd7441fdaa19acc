/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the simulated device and the simulated balloon are steered by: a socket that
 * nobody answers on, a folder of files that are looked at every millisecond, and a stop.
 */
#ifndef UMBRA_TESTS_SIMULATED_KNOBS_H
#define UMBRA_TESTS_SIMULATED_KNOBS_H

#include <stdbool.h>
#include <stddef.h>

#include "umbra/error.h"

struct simulated_knobs {
	char folder[128]; /* "": there are no knobs */
	char socket_path[108];
	int listener, stop;
};

/* @socket_path NULL: none.  -EADDRINUSE: it cannot be bound; close all the same. */
UMBRA_MUST_CHECK int simulated_knobs_open(struct simulated_knobs *k, const char *socket_path,
					  struct umbra_error *err);
void simulated_knobs_close(struct simulated_knobs *k);

/* A millisecond has passed; false: it was stopped. */
bool simulated_knobs_wait(const struct simulated_knobs *k);
void simulated_knobs_stop(const struct simulated_knobs *k);

/* The text of a file in the folder; false if it is not there. */
bool simulated_knob(const struct simulated_knobs *k, const char *name, char *text, size_t size);
/* It was seen to. */
void simulated_knob_done(const struct simulated_knobs *k, const char *name);

#endif
