/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A back-end by its name: "unix:PATH" is a vhost-user socket, "vdpa:PATH" a
 * vhost-vdpa device of the kernel.
 */
#ifndef UMBRA_PORT_BACKEND_OPEN_H
#define UMBRA_PORT_BACKEND_OPEN_H

#include <stdbool.h>

#include "shadow/backend.h"
#include "umbra/error.h"

/* -EINVAL: @spec (or NULL) is no name of a back-end; @err says what is. */
UMBRA_MUST_CHECK int backend_spec_check(const char *spec, struct umbra_error *err);

/*
 * Connect to the back-end with the name @spec, which has been checked.
 * @timeout_ms bounds this, and every later call while nobody listens.  @stop_fd
 * (an eventfd, or -1) is borrowed until destroy().  Errors as of
 * vhost_user_client_connect() and vhost_vdpa_open().
 */
UMBRA_MUST_CHECK int backend_open(const char *spec, int stop_fd, unsigned int timeout_ms,
				  struct backend **out, struct umbra_error *err);

/* Is @code an error of backend_open() that may pass by itself: the back-end has
 * not started yet, or has not got rid of whom it served before? */
bool backend_open_is_early(int code);

#endif
