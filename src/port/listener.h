/* SPDX-License-Identifier: BSD-2-Clause */
/* A UNIX socket that listens at a path. */
#ifndef UMBRA_PORT_LISTENER_H
#define UMBRA_PORT_LISTENER_H

#include "umbra/error.h"

/*
 * Listen at @path.  A socket file that nobody listens on is replaced; one that
 * somebody does, or a file that is no socket, is left alone: -EADDRINUSE.
 * Returns the fd (close-on-exec) or a negative errno value.
 */
UMBRA_MUST_CHECK int listener_open(const char *path, struct umbra_error *err);

#endif
