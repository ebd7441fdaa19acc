/* SPDX-License-Identifier: BSD-2-Clause */
/* Where back-ends come from: see backend_source.h. */
#include "session/backend_source.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "host/backoff.h"
#include "host/listener.h"
#include "host/peer.h"
#include "vdpa/vhost_vdpa.h"
#include "vhost_user/vhost_user_client.h"

#define EXPECTED "expected unix:PATH, listen:PATH or vdpa:PATH"

typedef int backend_opener(struct backend_source *source, int stop_fd, unsigned int timeout_ms,
			   struct virtio_device **out, struct umbra_error *err);

struct transport {
	const char *prefix;
	backend_opener *open;
	const char *waited_for; /* with the path, a phrase */
	bool is_process;        /* that is behind a socket, and ends when it likes */
};

struct backend_source {
	const struct transport *transport;
	char *path;
	struct backoff backoff;   /* of attempts that are ours */
	struct listener listener; /* of "listen:" */
};

/* --- the kinds ------------------------------------------------------------- */

static int unix_open(struct backend_source *source, int stop_fd, unsigned int timeout_ms,
		     struct virtio_device **out, struct umbra_error *err)
{
	return vhost_user_client_connect(source->path, stop_fd, timeout_ms, out, err);
}

static int vdpa_open(struct backend_source *source, int stop_fd, unsigned int timeout_ms,
		     struct virtio_device **out, struct umbra_error *err)
{
	return vhost_vdpa_open(source->path, &vhost_vdpa_kernel, stop_fd, timeout_ms, out, err);
}

/*
 * The first in the backlog that still lives.  Each round takes one out, so that only as
 * many are passed over as have really connected.
 */
static int listen_open(struct backend_source *source, int stop_fd, unsigned int timeout_ms,
		       struct virtio_device **out, struct umbra_error *err)
{
	char name[PEER_NAME_SIZE];

	for (;;) {
		int fd = accept4(source->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		int rc;

		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (fd < 0 && errno == EAGAIN)
			return error_set(err, -ENOENT, "no back-end has connected to %s yet",
					 source->path);
		if (fd < 0)
			return error_set(err, -errno, "the back-end at %s: accept: %s",
					 source->path, strerror(errno));
		rc = peer_has_gone(fd)
			     ? -ECONNRESET
			     : vhost_user_client_attach(&fd, stop_fd, timeout_ms, out, err);
		if (!rc)
			log_info("a back-end has come: %s",
				 peer_name(vhost_user_client_fd(*out), name));
		fd_close(&fd);
		if (rc != -ECONNRESET)
			return rc;
	}
}

static const struct transport transports[] = {
	{ "unix:", unix_open, "for a back-end that listens at", true },
	{ "listen:", listen_open, "for a back-end that connects to", true },
	{ "vdpa:", vdpa_open, "for the vDPA device", false },
};

static const struct transport *transport_find(const char *spec)
{
	for (size_t i = 0; i < ARRAY_SIZE(transports); i++)
		if (!strncmp(spec, transports[i].prefix, strlen(transports[i].prefix)))
			return &transports[i];
	return NULL;
}

/* --- any of them ------------------------------------------------------------ */

int backend_spec_check(const char *spec, struct umbra_error *err)
{
	const struct transport *t = spec ? transport_find(spec) : NULL;

	if (!spec)
		return error_set(err, -EINVAL,
				 "a device needs a back-end, e.g. unix:/run/disk.sock or "
				 "vdpa:/dev/vhost-vdpa-0");
	if (!t || !spec[strlen(t->prefix)])
		return error_set(err, -EINVAL,
				 "the back-end \"%s\" is none that is known: " EXPECTED, spec);
	return 0;
}

int backend_source_open(const char *spec, const struct umbra_socket_access *access,
			struct backend_source **out, struct umbra_error *err)
{
	int rc = backend_spec_check(spec, err);
	struct backend_source *s;

	if (rc)
		return rc;
	s = calloc(1, sizeof(*s));
	if (!s)
		return error_set(err, -ENOMEM, "no memory for a back-end's name");
	s->listener = LISTENER_CLOSED;
	s->transport = transport_find(spec);
	s->path = strdup(spec + strlen(s->transport->prefix));
	if (!s->path)
		rc = error_set(err, -ENOMEM, "no memory for a back-end's name");
	else if (s->transport->open == listen_open)
		rc = listener_open(&s->listener, s->path, access, err);
	if (rc) {
		backend_source_close(&s);
		return rc;
	}
	if (s->listener.fd >= 0)
		log_info("listening at %s for a back-end", s->path);
	*out = s;
	return 0;
}

void backend_source_close(struct backend_source **source)
{
	struct backend_source *s = *source;

	*source = NULL;
	if (!s)
		return;
	listener_close(&s->listener);
	free(s->path);
	free(s);
}

void backend_source_begin(struct backend_source *source)
{
	backoff_reset(&source->backoff);
}

void backend_source_fail(struct backend_source *source)
{
	backoff_failed(&source->backoff);
}

/* Errors that may pass by themselves: the back-end has not started yet, or has not got rid
 * of whom it served before. */
static bool is_early(int code)
{
	return code == -ENOENT || code == -ECONNREFUSED || code == -EBUSY || code == -EAGAIN ||
	       code == -EMFILE || code == -ENFILE;
}

int backend_source_try(struct backend_source *source, int stop_fd, unsigned int timeout_ms,
		       struct virtio_device **out, struct peer_process *process,
		       struct umbra_error *err)
{
	int rc = source->transport->open(source, stop_fd, timeout_ms, out, err);

	if (!rc && source->transport->is_process)
		peer_process_meet(process, vhost_user_client_fd(*out));
	else if (!rc)
		peer_process_forget(process);
	if (!is_early(rc))
		return rc;
	if (source->listener.fd < 0) /* else it comes by itself */
		backoff_failed(&source->backoff);
	return -EAGAIN;
}

/* After one that came and was of no use, the others have to wait. */
int backend_source_fd(const struct backend_source *source)
{
	return backoff_wait_ms(&source->backoff) ? -1 : source->listener.fd;
}

int backend_source_wait_ms(const struct backend_source *source)
{
	int pause_ms = backoff_wait_ms(&source->backoff);

	return source->listener.fd >= 0 && !pause_ms ? -1 : pause_ms;
}

unsigned int backend_source_pause_ms(const struct backend_source *source)
{
	return source->backoff.pause_ms;
}

bool backend_source_is_patient(const struct backend_source *source)
{
	return source->listener.fd >= 0;
}

void backend_source_describe(const struct backend_source *source, char *text, size_t size)
{
	const struct transport *t = source->transport;

	if (source->listener.fd >= 0)
		snprintf(text, size, "%s %s; the VMM is there", t->waited_for, source->path);
	else
		snprintf(text, size,
			 "%s %s; the VMM is there (%" PRIu64 " attempts, the last pause %u ms)",
			 t->waited_for, source->path, source->backoff.attempts,
			 source->backoff.pause_ms);
}
