/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A connection to a front-end that listens, made again and again.
 *
 * Theory of operation: some VMMs make the socket themselves (QEMU with server=on).  There
 * the device connects, as soon as somebody listens, and again after each end of a
 * connection: the VMM's, or this process's own, after which a new one connects.
 * That nobody listens yet, that the file is not there, or not ours to open, is all
 * "not yet".  Between two attempts there is a pause that grows (backoff.h); it
 * starts anew only after a connection that held for longer than the longest pause, so
 * that a VMM that hangs up at once is not called without a break.
 *
 * Ownership: the connector owns its path.  A connection is its caller's.
 * Threads: one.
 */
#ifndef UMBRA_HOST_CONNECTOR_H
#define UMBRA_HOST_CONNECTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/log.h"
#include "host/backoff.h"
#include "umbra/error.h"

struct connector {
	char *path; /* NULL: there is no such thing */
	struct backoff backoff;
	uint64_t connected_us; /* when the last connection was made; 0: its end was noted */
	int code;              /* of the last attempt: 0 or -errno */
};

/* -ENAMETOOLONG, -ENOMEM. */
UMBRA_MUST_CHECK int connector_open(struct connector *c, const char *path, struct umbra_error *err);
void connector_close(struct connector *c);

/* While there is no connection: how long to wait for connector_try(), ms; 0: not at all. */
int connector_wait_ms(struct connector *c);

/* Connect: the fd, close-on-exec and non-blocking; -EAGAIN: not yet. */
UMBRA_MUST_CHECK int connector_try(struct connector *c);

/* Whom it waits for and how it stands, as a phrase. */
void connector_describe(const struct connector *c, char *text, size_t size);

#endif
