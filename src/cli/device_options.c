/* SPDX-License-Identifier: BSD-2-Clause */
/* The options that every kind of device has: see device_options.h. */
#include "cli/device_options.h"

#include <errno.h>
#include <stdio.h>

#include "base/error.h"
#include "cli/options.h"

#define HELP_COLUMN 24

static int take_mode(const struct option_row *row, const char *value, void *place,
		     struct umbra_error *err)
{
	struct umbra_socket_access *access = place;

	return option_mode(row->name, value, &access->mode, err);
}

static int take_group(const struct option_row *row, const char *value, void *place,
		      struct umbra_error *err)
{
	struct umbra_socket_access *access = place;

	access->sets_group = true;
	return option_group(row->name, value, &access->group, err);
}

static int take_socket_fd(const struct option_row *row, const char *value, void *place,
			  struct umbra_error *err)
{
	return option_socket_fd(row->name, value, place, err);
}

int device_options_take_name(const struct option_row *row, const char *value, void *place,
			     struct umbra_error *err)
{
	*(const char **)place = value;
	return option_name(row->name, value, err);
}

#define PLACE(member) OPTION_PLACE(struct device_options, member)

const struct option_row device_options_vm[] = {
	{ "--socket-path", "PATH", "listen for the VM here", option_take_socket_path,
	  PLACE(socket_path) },
	{ "--socket-mode", "BITS", "who may connect there, in octal: 660 (what the umask leaves)",
	  take_mode, PLACE(socket_access) },
	{ "--socket-group", "GROUP", "the group that owns the socket, by name or number",
	  take_group, PLACE(socket_access) },
	{ "--connect", "PATH", "connect to a VM that listens here, again and again, instead",
	  option_take_socket_path, PLACE(connect_path) },
	{ "--fd", "N", "use this socket, inherited and listening or connected,\ninstead",
	  take_socket_fd, PLACE(socket_fd) },
	{ 0 },
};

const struct option_row device_options_control[] = {
	{ "--control", "PATH", "listen here for QMP: umbra ctl PATH ...", option_take_socket_path,
	  PLACE(qmp_path) },
	{ 0 },
};

const struct option_row device_options_general[] = {
	{ "--verbose", NULL, "log more", option_take_flag, PLACE(verbose), .letter = 'v' },
	{ "--print-capabilities", NULL, "print vhost-user's description of the program, as JSON",
	  option_take_flag, PLACE(print_capabilities) },
	{ "--help", NULL, "print this text", option_take_flag, PLACE(help), .letter = 'h',
	  .ends = true },
	{ 0 },
};

/* Where the VM comes from. */
static int check_vm(const struct device_options *o, const char *help, struct umbra_error *err)
{
	int given = !!o->socket_path + !!o->connect_path + (o->socket_fd >= 0);

	if (given > 1)
		return error_set(err, -EINVAL,
				 "--socket-path, --connect and --fd exclude each other: all say "
				 "where the VM comes from");
	if (!given)
		return error_set(err, -EINVAL,
				 "expected --socket-path=PATH, --connect=PATH or --fd=N: where the "
				 "VM comes from; see %s",
				 help);
	return 0;
}

static int check_control(const struct device_options *o, struct umbra_error *err)
{
	const char *others[] = { "--connect", "--socket-path" };
	const char *paths[] = { o->connect_path, o->socket_path };

	for (int i = 0; i < 2; i++)
		if (o->qmp_path && paths[i] && option_is_same_path(o->qmp_path, paths[i]))
			return error_set(err, -EINVAL,
					 "--control=%.80s: the same path as %s, expected another",
					 o->qmp_path, others[i]);
	return 0;
}

int device_options_check_access(const struct device_options *options, struct umbra_error *err)
{
	if (!options->socket_path &&
	    (options->socket_access.mode || options->socket_access.sets_group))
		return error_set(err, -EINVAL,
				 "--socket-mode and --socket-group are for the socket of "
				 "--socket-path, which is not given");
	return 0;
}

int device_options_parse(const struct device_options_kind *kind, void *options, int argc,
			 char **argv, struct umbra_error *err)
{
	const struct device_options *common = options;
	char help[64];
	int operand, result;

	snprintf(help, sizeof(help), "umbra help %s", kind->command);
	result = option_table_parse(kind->table, options, argc, argv, help, &operand, err);
	if (result)
		return result < 0 ? result : 0;
	if (operand < argc)
		return error_set(err, -EINVAL, "%.80s: expected only options; see %s",
				 argv[operand], help);
	result = check_vm(common, help, err);
	if (!result)
		result = kind->check(options, err);
	return result ? result : check_control(common, err);
}

void device_options_print_help(const struct device_options_kind *kind)
{
	puts(kind->usage);
	option_table_print(kind->table, HELP_COLUMN);
	puts("\n"
	     "SIGTERM, SIGINT and SIGHUP end the program.  Exit status: 0 after such an end, 1\n"
	     "for a failure, 2 for a wrong command line.");
}
