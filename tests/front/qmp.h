/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * umbra's QMP socket, as much of it as it takes to switch the shadow.
 *
 * Lines of JSON are looked at as text; what stands on the other end is ours.
 * Threads: one.
 */
#ifndef UMBRA_TESTS_FRONT_CONTROL_H
#define UMBRA_TESTS_FRONT_CONTROL_H

#include <stdbool.h>

#include "umbra/error.h"

struct qmp;

UMBRA_MUST_CHECK int qmp_open(const char *path, unsigned int patience_s, struct qmp **out,
			      struct umbra_error *err);
void qmp_close(struct qmp **qmp);

/* Is the device shadowed now?  1, 0, -errno. */
UMBRA_MUST_CHECK int qmp_is_shadowed(struct qmp *c, struct umbra_error *err);

/* Switch device @name; returns when it has been done.  -EREMOTEIO: refused, @err has
 * what was said. */
UMBRA_MUST_CHECK int qmp_switch(struct qmp *c, const char *name, bool shadowed,
				struct umbra_error *err);

#endif
