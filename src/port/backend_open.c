/* SPDX-License-Identifier: BSD-2-Clause */
/* A back-end by its name: see backend_open.h. */
#include "port/backend_open.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "port/vhost_user_client.h"
#include "port/vhost_vdpa.h"

typedef int backend_opener(const char *path, int stop_fd, unsigned int timeout_ms,
			   struct backend **out, struct umbra_error *err);

static int vdpa_open(const char *path, int stop_fd, unsigned int timeout_ms, struct backend **out,
		     struct umbra_error *err)
{
	return vhost_vdpa_open(path, &vhost_vdpa_kernel, stop_fd, timeout_ms, out, err);
}

static const struct transport {
	const char *prefix;
	backend_opener *open;
} transports[] = {
	{ "unix:", vhost_user_client_connect },
	{ "vdpa:", vdpa_open },
};

static const struct transport *transport_find(const char *spec)
{
	for (size_t i = 0; i < ARRAY_SIZE(transports); i++)
		if (!strncmp(spec, transports[i].prefix, strlen(transports[i].prefix)))
			return &transports[i];
	return NULL;
}

int backend_spec_check(const char *spec, struct umbra_error *err)
{
	const struct transport *t = spec ? transport_find(spec) : NULL;

	if (!spec)
		return error_set(err, -EINVAL,
				 "a device needs a back-end, e.g. unix:/run/disk.sock or "
				 "vdpa:/dev/vhost-vdpa-0");
	if (!t || !spec[strlen(t->prefix)])
		return error_set(err, -EINVAL,
				 "the back-end \"%s\" is none that is known: expected unix:PATH or "
				 "vdpa:PATH",
				 spec);
	return 0;
}

int backend_open(const char *spec, int stop_fd, unsigned int timeout_ms, struct backend **out,
		 struct umbra_error *err)
{
	const struct transport *t = transport_find(spec);

	return t->open(spec + strlen(t->prefix), stop_fd, timeout_ms, out, err);
}

bool backend_open_is_early(int code)
{
	return code == -ENOENT || code == -ECONNREFUSED || code == -EBUSY;
}
