/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A program of one entropy device (entropy_device.h): a third kind of device, made of
 * three tables.
 *
 *	entropy_kind	what its session (session/session.h) does for it
 *	entropy_program	what its program (cli/program.h) does
 *	table		its options (cli/option_table.h)
 *
 * Sockets, threads, signals, the QMP socket and the end are umbra's.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "cli/device_options.h"
#include "cli/options.h"
#include "cli/program.h"
#include "entropy_device.h"
#include "session/session.h"

#define BYTES_MAX (16u << 20)

struct options {
	struct device_options common;
	const char *bytes;
};

struct entropy {
	struct program program;
	struct options options;
	struct session session;
	struct entropy_device device;
	uint8_t *bytes;
	size_t size;
};

/* --- what a session needs of it -------------------------------------------------------- */

static struct entropy *entropy_of(struct session *s)
{
	return (struct entropy *)(void *)((char *)s - offsetof(struct entropy, session));
}

static void attach(struct session *s, struct virtio_device *backend)
{
	(void)s;
	(void)backend;
}

static void detach(struct session *s)
{
	entropy_device_detach(&entropy_of(s)->device);
}

static void check_queues(struct session *s)
{
	entropy_device_check_queues(&entropy_of(s)->device);
}

static int tend(struct session *s)
{
	(void)s;
	return -1;
}

/* Nobody asks for one. */
static void show(struct session *s)
{
	(void)s;
}

static const struct session_kind entropy_kind = {
	.attach = attach,
	.detach = detach,
	.check_queues = check_queues,
	.tend = tend,
	.show = show,
};

/* --- what a program needs of it ------------------------------------------------------------ */

static int bytes_read(struct entropy *e, struct umbra_error *err)
{
	FILE *file = fopen(e->options.bytes, "re");

	if (!file)
		return error_set(err, -errno, "%s: %s", e->options.bytes, strerror(errno));
	e->bytes = malloc(BYTES_MAX);
	if (e->bytes)
		e->size = fread(e->bytes, 1, BYTES_MAX, file);
	fclose(file);
	return e->size ? 0 : error_set(err, -EINVAL, "%s has no bytes", e->options.bytes);
}

static int entropy_create(void *opaque, struct qmp_target *target, struct umbra_error *err)
{
	struct entropy *e = opaque;
	const struct session_config config = {
		.doorway = {
			.path = e->options.common.socket_path,
			.access = e->options.common.socket_access,
			.connect_path = e->options.common.connect_path,
			.fd = e->options.common.socket_fd,
		},
	};
	int rc = bytes_read(e, err);

	(void)target; /* it has no commands of its own */
	if (rc)
		return rc;
	entropy_device_init(&e->device, session_host(&e->session), e->bytes, e->size);
	return session_open(&e->session, &entropy_kind, &e->device.virtio, &config, err);
}

static int entropy_run(void *opaque, struct umbra_error *err)
{
	struct entropy *e = opaque;
	int rc = session_run(&e->session, err);

	log_info("%llu bytes were given", (unsigned long long)e->device.given);
	return rc;
}

static void entropy_stop(void *opaque)
{
	struct entropy *e = opaque;

	session_stop(&e->session);
}

static void entropy_destroy(void *opaque)
{
	struct entropy *e = opaque;

	session_close(&e->session);
	free(e->bytes);
}

static const struct program_device entropy_program = {
	.create = entropy_create,
	.run = entropy_run,
	.stop = entropy_stop,
	.destroy = entropy_destroy,
};

/* --- its options ---------------------------------------------------------------------------- */

static int take_path(const struct option_row *row, const char *value, void *place,
		     struct umbra_error *err)
{
	const char **path = place;

	if (!value[0])
		return error_set(err, -EINVAL, "%s=: expected a path", row->name);
	*path = value;
	return 0;
}

static const struct option_row table[] = {
	{ .table = device_options_vm },
	{ .table = device_options_control },
	{ "--name", "ID", "the device's name on the control socket (entropy0)",
	  device_options_take_name, OPTION_PLACE(struct options, common.name) },
	{ "--bytes", "FILE", "give its bytes, again and again (/dev/urandom)", take_path,
	  OPTION_PLACE(struct options, bytes) },
	{ .table = device_options_general },
	{ 0 },
};

static int options_check(const void *options, struct umbra_error *err)
{
	const struct options *o = options;

	return device_options_check_access(&o->common, err);
}

int main(int argc, char **argv)
{
	static const struct device_options_kind kind = {
		.command = "entropy",
		.usage = "usage: entropy [OPTIONS]\n",
		.table = table,
		.check = options_check,
	};
	static struct entropy e = {
		.program = { .device = &entropy_program },
		.options = { .common = { .name = "entropy0", .socket_fd = -1 },
			     .bytes = "/dev/urandom" },
	};
	struct umbra_error err = { "" };

	if (device_options_parse(&kind, &e.options, argc, argv, &err)) {
		fprintf(stderr, "entropy: %s\n", err.text);
		return EXIT_USAGE;
	}
	if (e.options.common.help) {
		device_options_print_help(&kind);
		return EXIT_SUCCESS;
	}
	if (e.options.common.verbose)
		log_set_level(LOG_DEBUG);
	e.program.opaque = &e;
	e.program.name = e.options.common.name;
	e.program.qmp_path = e.options.common.qmp_path;
	return program_main(&e.program);
}
