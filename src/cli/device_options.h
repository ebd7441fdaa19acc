/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The options that every kind of device has: where the VM comes from, the QMP socket, the
 * device's name, and how much is logged.
 *
 * A kind has a table of all its options, in which these stand as tables (option_table.h),
 * and a struct of them that begins with struct device_options.
 *
 * Implements: the vhost-user specification, "Backend program conventions".
 */
#ifndef UMBRA_CLI_DEVICE_OPTIONS_H
#define UMBRA_CLI_DEVICE_OPTIONS_H

#include <stdbool.h>

#include "cli/option_table.h"
#include "umbra/socket.h"

/* The strings are argv's. */
struct device_options {
	const char *socket_path;  /* where to listen for the VM, or NULL */
	const char *connect_path; /* where the VM listens, or NULL */
	int socket_fd;            /* a socket to it, or -1; of the three, one is given */
	struct umbra_socket_access socket_access; /* of socket_path */
	const char *qmp_path;                     /* where to listen for QMP, or NULL */
	const char *name;
	bool verbose;
	bool print_capabilities; /* never set: who asks for it gets no further */
	bool help;               /* asked for: the rest is not filled in */
};

extern const struct option_row device_options_vm[]; /* --socket-path ... --fd */
extern const struct option_row device_options_control[];
extern const struct option_row device_options_general[]; /* --verbose ... --help */
/* Takes --name, whose row is the kind's, since help shows the name that it has without. */
UMBRA_MUST_CHECK int device_options_take_name(const struct option_row *row, const char *value,
					      void *place, struct umbra_error *err);

/* What a kind of device brings. */
struct device_options_kind {
	const char *command; /* "shadow", of "umbra shadow" */
	const char *usage;   /* the help, up to its options */
	const struct option_row *table;
	/* Of what was taken, all together.  -EINVAL. */
	int (*check)(const void *options, struct umbra_error *err);
};

/* Fill @options, which begins with struct device_options and has the kind's defaults.
 * -EINVAL: they are wrong, or do not go together. */
UMBRA_MUST_CHECK int device_options_parse(const struct device_options_kind *kind, void *options,
					  int argc, char **argv, struct umbra_error *err);

/* --socket-mode and --socket-group need the socket of --socket-path, where a kind listens
 * nowhere else.  -EINVAL. */
UMBRA_MUST_CHECK int device_options_check_access(const struct device_options *options,
						 struct umbra_error *err);

void device_options_print_help(const struct device_options_kind *kind);

#endif
