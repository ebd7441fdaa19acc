/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The command line of "umbra shadow".
 *
 * Implements: the vhost-user specification, "Backend program conventions", and
 * its schema vhost-user.json for --print-capabilities.
 */
#include "cli/shadow_options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "umbra/ring.h"

#define DEADLINE_MAX_MS 3600000u /* an hour; longer is a typing error */
#define THREADS_MAX 64u          /* more are refused by the device */
#define HELP "umbra help shadow"
#define LISTEN "listen:" /* of --backend */

enum {
	OPTION_SOCKET_PATH = 256, /* above every character */
	OPTION_CONNECT,
	OPTION_SOCKET_MODE,
	OPTION_SOCKET_GROUP,
	OPTION_FD,
	OPTION_BACKEND,
	OPTION_CONTROL,
	OPTION_SHADOW,
	OPTION_NAME,
	OPTION_SWITCH_DEADLINE,
	OPTION_THREADS,
	OPTION_TABLE_MAX,
	OPTION_SHADOW_MEMORY,
	OPTION_PRINT_CAPABILITIES,
};

static const struct option long_options[] = {
	{ "socket-path", required_argument, NULL, OPTION_SOCKET_PATH },
	{ "socket-mode", required_argument, NULL, OPTION_SOCKET_MODE },
	{ "socket-group", required_argument, NULL, OPTION_SOCKET_GROUP },
	{ "connect", required_argument, NULL, OPTION_CONNECT },
	{ "fd", required_argument, NULL, OPTION_FD },
	{ "backend", required_argument, NULL, OPTION_BACKEND },
	{ "control", required_argument, NULL, OPTION_CONTROL },
	{ "shadow", required_argument, NULL, OPTION_SHADOW },
	{ "name", required_argument, NULL, OPTION_NAME },
	{ "switch-deadline", required_argument, NULL, OPTION_SWITCH_DEADLINE },
	{ "threads", required_argument, NULL, OPTION_THREADS },
	{ "shadow-memory", required_argument, NULL, OPTION_SHADOW_MEMORY },
	{ "table-max", required_argument, NULL, OPTION_TABLE_MAX },
	{ "verbose", no_argument, NULL, 'v' },
	{ "print-capabilities", no_argument, NULL, OPTION_PRINT_CAPABILITIES },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

/* In the order of enum umbra_shadow_mode. */
static const char *const mode_words[] = { "auto", "on", "off", NULL };

void shadow_print_help(void)
{
	fputs("usage: umbra shadow --socket-path=PATH|--connect=PATH|--fd=N\n"
	      "                    [OPTION...] --backend=unix:PATH|listen:PATH|vdpa:PATH\n"
	      "\n"
	      "Stand between a VM, which speaks vhost-user, and a virtio back-end, and forward\n"
	      "the guest's virtqueues through rings of umbra's own when asked to.\n"
	      "\n"
	      "  --socket-path=PATH    listen for the VM here\n"
	      "  --socket-mode=BITS    who may connect there, in octal: 660 (what the umask leaves)\n"
	      "  --socket-group=GROUP  the group that owns the socket, by name or number\n"
	      "  --connect=PATH        connect to a VM that listens here, again and again, instead\n"
	      "  --fd=N                use this socket, inherited and listening or connected,\n"
	      "                        instead\n"
	      "  --backend=unix:PATH   the back-end's vhost-user socket\n"
	      "  --backend=listen:PATH listen for the back-end here, for one that connects\n"
	      "  --backend=vdpa:PATH   a vDPA device of the kernel's: /dev/vhost-vdpa-0\n"
	      "  --control=PATH        listen here for QMP: umbra ctl PATH ...\n"
	      "  --shadow=auto|on|off  auto (the default): pass through until told otherwise;\n"
	      "                        on, off: always, never forward\n"
	      "  --name=ID             the device's name on the control socket (shadow0)\n"
	      "  --switch-deadline=MS  how long a switch waits for the back-end (5000)\n"
	      "  --threads=N           how many threads forward (1)\n"
	      "  --table-max=N         the longest indirect table that a guest may build, in\n"
	      "                        descriptors, where its queue is shorter (2048)\n"
	      "  --shadow-memory=SIZE  how much memory of umbra's own the back-end maps at most\n"
	      "                        (64M; 8M where it can be given no more later)\n"
	      "  -v, --verbose         log more\n"
	      "  --print-capabilities  print vhost-user's description of the program, as JSON\n"
	      "  -h, --help            print this text\n"
	      "\n"
	      "SIGTERM, SIGINT and SIGHUP end the program.  Exit status: 0 after such an end, 1\n"
	      "for a failure, 2 for a wrong command line.\n",
	      stdout);
}

/*
 * The schema has no type for "whatever the back-end is", so the program says
 * what it is tested with.  The type "block" may list "read-only" and
 * "blk-file"; those are options of the real back-end.
 */
void shadow_print_capabilities(void)
{
	puts("{\n  \"type\": \"block\",\n  \"features\": []\n}");
}

static int parse_backend(const char *text, const char **backend, struct umbra_error *err)
{
	static const char *const sockets[] = { "unix:", LISTEN };
	static const char vdpa_scheme[] = "vdpa:";

	*backend = text;
	for (size_t i = 0; i < ARRAY_SIZE(sockets); i++)
		if (!strncmp(text, sockets[i], strlen(sockets[i])))
			return option_socket_path("--backend", text + strlen(sockets[i]), err);
	if (!strncmp(text, vdpa_scheme, strlen(vdpa_scheme)) && text[strlen(vdpa_scheme)])
		return 0;
	return error_set(err, -EINVAL,
			 "--backend=%.80s: expected unix:PATH, listen:PATH or vdpa:PATH", text);
}

static int parse_memory(const char *text, uint64_t *bytes, struct umbra_error *err)
{
	int rc = option_size("--shadow-memory", text, bytes, err);

	if (!rc && (*bytes % 4096 || *bytes > UINT64_C(1) << 40))
		rc = error_set(
			err, -EINVAL,
			"--shadow-memory=%.80s: expected whole pages of 4096 bytes, 1T at most",
			text);
	return rc;
}

static int parse_option(struct shadow_options *options, int option, const char *value,
			struct umbra_error *err)
{
	struct umbra_shadow_config *config = &options->config;
	unsigned int choice = 0;
	int result;

	switch (option) {
	case OPTION_SOCKET_PATH:
		config->socket_path = value;
		return option_socket_path("--socket-path", value, err);
	case OPTION_CONNECT:
		config->connect_path = value;
		return option_socket_path("--connect", value, err);
	case OPTION_SOCKET_MODE:
		return option_mode("--socket-mode", value, &config->socket_access.mode, err);
	case OPTION_SOCKET_GROUP:
		config->socket_access.sets_group = true;
		return option_group("--socket-group", value, &config->socket_access.group, err);
	case OPTION_FD:
		return option_socket_fd("--fd", value, &config->socket_fd, err);
	case OPTION_BACKEND:
		return parse_backend(value, &config->backend, err);
	case OPTION_CONTROL:
		options->qmp_path = value;
		return option_socket_path("--control", value, err);
	case OPTION_SHADOW:
		result = option_choice("--shadow", value, mode_words, &choice, err);
		config->mode = (enum umbra_shadow_mode)choice;
		return result;
	case OPTION_NAME:
		config->name = value;
		return option_name("--name", value, err);
	case OPTION_SWITCH_DEADLINE:
		return option_number("--switch-deadline", value, 1, DEADLINE_MAX_MS,
				     &config->switch_deadline_ms, err);
	case OPTION_THREADS:
		return option_number("--threads", value, 1, THREADS_MAX, &config->threads, err);
	case OPTION_TABLE_MAX:
		return option_number("--table-max", value, 1, UMBRA_RING_SIZE_MAX,
				     &config->table_max, err);
	case OPTION_SHADOW_MEMORY:
		return parse_memory(value, &config->shadow_memory, err);
	case 'v':
		options->verbose = true;
		return 0;
	default:
		options->help = true;
		return 0;
	}
}

static bool is_backend_at(const char *backend, const char *path)
{
	return option_is_same_path(strchr(backend, ':') + 1, path);
}

static int check_together(const struct shadow_options *options, struct umbra_error *err)
{
	const struct umbra_shadow_config *config = &options->config;

	if (!!config->socket_path + !!config->connect_path + (config->socket_fd >= 0) > 1)
		return error_set(err, -EINVAL,
				 "--socket-path, --connect and --fd exclude each other: all say "
				 "where the VM comes from");
	if (!config->socket_path && !config->connect_path && config->socket_fd < 0)
		return error_set(err, -EINVAL,
				 "expected --socket-path=PATH, --connect=PATH or --fd=N: where the "
				 "VM comes from; see " HELP);
	if (!config->backend)
		return error_set(
			err, -EINVAL,
			"expected --backend=unix:PATH, listen:PATH or vdpa:PATH: the back-end; see " HELP);
	if (!config->socket_path && strncmp(config->backend, LISTEN, strlen(LISTEN)) != 0 &&
	    (config->socket_access.mode || config->socket_access.sets_group))
		return error_set(err, -EINVAL,
				 "--socket-mode and --socket-group are for the sockets of "
				 "--socket-path and --backend=listen:, and neither is given");
	if (config->connect_path && is_backend_at(config->backend, config->connect_path))
		return error_set(err, -EINVAL,
				 "--backend=%.80s: the same socket as --connect, expected the "
				 "back-end's",
				 config->backend);
	if (config->connect_path && options->qmp_path &&
	    option_is_same_path(options->qmp_path, config->connect_path))
		return error_set(err, -EINVAL,
				 "--control=%.80s: the same path as --connect, expected another",
				 options->qmp_path);
	if (options->qmp_path && config->socket_path &&
	    option_is_same_path(options->qmp_path, config->socket_path))
		return error_set(
			err, -EINVAL,
			"--control=%.80s: the same path as --socket-path, expected another",
			options->qmp_path);
	if (config->socket_path && is_backend_at(config->backend, config->socket_path))
		return error_set(err, -EINVAL,
				 "--backend=%.80s: the same socket as --socket-path, where umbra "
				 "itself listens for the VM, expected the back-end's",
				 config->backend);
	if (options->qmp_path && is_backend_at(config->backend, options->qmp_path))
		return error_set(
			err, -EINVAL,
			"--backend=%.80s: the same socket as --control, where umbra itself "
			"listens for control clients, expected the back-end's",
			config->backend);
	return 0;
}

int shadow_options_parse(struct shadow_options *options, int argc, char **argv,
			 struct umbra_error *err)
{
	int option, result;

	*options = (struct shadow_options){
		.config = { .name = "shadow0", .socket_fd = -1, .mode = UMBRA_SHADOW_AUTO },
	};
	optind = 0; /* start afresh: the program may have parsed another list */
	opterr = 0;
	while ((option = getopt_long(argc, argv, ":vh", long_options, NULL)) != -1) {
		if (option == '?' || option == ':')
			return option_refused(option, argv, HELP, err);
		result = parse_option(options, option, optarg, err);
		if (result || options->help)
			return result;
	}
	if (optind < argc)
		return error_set(err, -EINVAL, "%.80s: expected only options; see " HELP,
				 argv[optind]);
	return check_together(options, err);
}
