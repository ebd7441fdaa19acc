/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where back-ends come from, by a name: "unix:PATH" is a vhost-user back-end that listens
 * there, "listen:PATH" is one that connects to us there, "vdpa:PATH" a vhost-vdpa device
 * of the kernel.
 *
 * Theory of operation: a back-end is asked for when a front-end is there, and let go
 * with it.  That is done in attempts, between which the caller waits for
 * backend_source_fd() or for backend_source_wait_ms(), and hears all others meanwhile.
 *
 * Of "listen:" the socket is there from the start, so that a back-end may come whenever it
 * likes (the usual ones try every second).  It waits in the socket's backlog until a
 * front-end is there; more than one is a row of stand-bys, of which the next is taken when
 * the one before is lost.  One that has gone while it waited is passed over.
 *
 * Ownership: the source owns its socket and the socket's file.
 * Threads: one.
 */
#ifndef UMBRA_SESSION_BACKEND_SOURCE_H
#define UMBRA_SESSION_BACKEND_SOURCE_H

#include <stdbool.h>
#include <stddef.h>

#include "host/peer_process.h"
#include "umbra/error.h"
#include "umbra/socket.h"
#include "virtio/virtio_ops.h"

struct backend_source;

/* -EINVAL: @spec (or NULL) is no name of a back-end; @err says what is. */
UMBRA_MUST_CHECK int backend_spec_check(const char *spec, struct umbra_error *err);

/* @access: who may connect to the socket of "listen:".  Errors as of backend_spec_check()
 * and listener_open(). */
UMBRA_MUST_CHECK int backend_source_open(const char *spec, const struct umbra_socket_access *access,
					 struct backend_source **out, struct umbra_error *err);
void backend_source_close(struct backend_source **source);

/* A front-end has come, which needs a back-end: the first attempt is due. */
void backend_source_begin(struct backend_source *source);

/* Who came was of no use: the next attempt is due after a pause. */
void backend_source_fail(struct backend_source *source);

/*
 * An attempt.  @timeout_ms bounds this, and every later call of the back-end while nobody
 * listens.  @stop_fd (an eventfd, or -1) is borrowed until the back-end's destroy().
 * @process: of a back-end that is there, who it is; that of "vdpa:" is the kernel, and NONE.
 * -EAGAIN: none is there yet, as @err says.  Else errors as of vhost_user_client_connect()
 * and vhost_vdpa_open(), which do not pass by themselves.
 */
UMBRA_MUST_CHECK int backend_source_try(struct backend_source *source, int stop_fd,
					unsigned int timeout_ms, struct virtio_device **out,
					struct peer_process *process, struct umbra_error *err);

/* To be polled for reading between two attempts; -1: nothing will be heard. */
int backend_source_fd(const struct backend_source *source);
/* How long to wait for the next attempt if nothing is heard, ms; -1: for ever. */
int backend_source_wait_ms(const struct backend_source *source);
/* The last pause between two attempts, ms; 0: there was none. */
unsigned int backend_source_pause_ms(const struct backend_source *source);
/* May it be waited for as long as the front-end waits?  Else ten seconds are enough. */
bool backend_source_is_patient(const struct backend_source *source);
/* For whom one waits there, and how it stands, as a phrase. */
void backend_source_describe(const struct backend_source *source, char *text, size_t size);

#endif
