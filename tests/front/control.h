/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * umbra's control socket, as much of it as it takes to switch the shadow.
 *
 * Lines of JSON are looked at as text; what stands on the other end is ours.
 * Threads: one.
 */
#ifndef UMBRA_TESTS_FRONT_CONTROL_H
#define UMBRA_TESTS_FRONT_CONTROL_H

#include <stdbool.h>

#include "umbra/error.h"

struct control;

UMBRA_MUST_CHECK int control_open(const char *path, unsigned int patience_s, struct control **out,
				  struct umbra_error *err);
void control_close(struct control **control);

/* Is the device shadowed now?  1, 0, -errno. */
UMBRA_MUST_CHECK int control_is_shadowed(struct control *c, struct umbra_error *err);

/* Switch device @name; returns when it has been done.  -EREMOTEIO: refused, @err has
 * what was said. */
UMBRA_MUST_CHECK int control_switch(struct control *c, const char *name, bool shadowed,
				    struct umbra_error *err);

#endif
