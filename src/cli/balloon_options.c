/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The command line of "umbra balloon".
 *
 * Implements: the vhost-user specification, "Backend program conventions", and
 * its schema vhost-user.json for --print-capabilities.
 */
#include "cli/balloon_options.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "cli/commands.h"
#include "cli/options.h"

#define HELP "umbra help balloon"
#define STALL_MAX_MS 3600000u  /* an hour; longer is a typing error */
#define STATS_MAX_MS 86400000u /* a day */

enum {
	OPTION_SOCKET_PATH = 256, /* above every character */
	OPTION_CONNECT,
	OPTION_SOCKET_MODE,
	OPTION_SOCKET_GROUP,
	OPTION_FD,
	OPTION_CONTROL,
	OPTION_NAME,
	OPTION_TARGET,
	OPTION_MEMORY,
	OPTION_FLOOR,
	OPTION_ONLY_REGION,
	OPTION_STALL,
	OPTION_STATS,
	OPTION_HIDE,
	OPTION_DISCARD_FILE,
	OPTION_PINNED,
	OPTION_REPORT,
	OPTION_SINGLE_PAGES,
	OPTION_PRINT_CAPABILITIES,
};

static const struct option long_options[] = {
	{ "socket-path", required_argument, NULL, OPTION_SOCKET_PATH },
	{ "socket-mode", required_argument, NULL, OPTION_SOCKET_MODE },
	{ "socket-group", required_argument, NULL, OPTION_SOCKET_GROUP },
	{ "connect", required_argument, NULL, OPTION_CONNECT },
	{ "fd", required_argument, NULL, OPTION_FD },
	{ "control", required_argument, NULL, OPTION_CONTROL },
	{ "name", required_argument, NULL, OPTION_NAME },
	{ "target", required_argument, NULL, OPTION_TARGET },
	{ "memory", required_argument, NULL, OPTION_MEMORY },
	{ "floor", required_argument, NULL, OPTION_FLOOR },
	{ "only-region", required_argument, NULL, OPTION_ONLY_REGION },
	{ "stall", required_argument, NULL, OPTION_STALL },
	{ "stats-interval", required_argument, NULL, OPTION_STATS },
	{ "hide", required_argument, NULL, OPTION_HIDE },
	{ "discard-file", required_argument, NULL, OPTION_DISCARD_FILE },
	{ "pinned", no_argument, NULL, OPTION_PINNED },
	{ "report", no_argument, NULL, OPTION_REPORT },
	{ "single-pages", no_argument, NULL, OPTION_SINGLE_PAGES },
	{ "verbose", no_argument, NULL, 'v' },
	{ "print-capabilities", no_argument, NULL, OPTION_PRINT_CAPABILITIES },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

/* In the order of the bits of enum umbra_balloon_hide. */
static const char *const hide_words[] = {
	"must-tell-host", "stats", "deflate-on-oom", "page-poison", "reporting",
	"page-bitmap",    NULL,
};

void balloon_print_help(void)
{
	fputs("usage: umbra balloon --socket-path=PATH|--fd=N [OPTION...]\n"
	      "\n"
	      "A virtio balloon for a VM that speaks vhost-user: take memory back from the\n"
	      "guest, and give it back.\n"
	      "\n"
	      "  --socket-path=PATH    listen for the VM here\n"
	      "  --socket-mode=BITS    who may connect there, in octal: 660 (what the umask leaves)\n"
	      "  --socket-group=GROUP  the group that owns the socket, by name or number\n"
	      "  --connect=PATH        connect to a VM that listens here, again and again, instead\n"
	      "  --fd=N                use this socket, inherited and listening or connected,\n"
	      "                        instead\n"
	      "  --control=PATH        listen here for QMP: umbra ctl PATH ...\n"
	      "  --name=ID             the device's name on the control socket (balloon0)\n"
	      "  --target=SIZE         memory that the guest shall keep to begin with (all);\n"
	      "                        bytes, or with K, M, G or T\n"
	      "  --memory=SIZE         memory that the guest has; else what it says itself, or\n"
	      "                        the VMM's memory table\n"
	      "  --floor=SIZE          what stays with the guest unless a target is forced (a\n"
	      "                        sixteenth, but 64M, or half of it where that is less)\n"
	      "  --only-region=FROM-TO touch and count only memory at these guest-physical\n"
	      "                        addresses, whole regions; can be repeated\n"
	      "  --stall=MS            without progress for so long, a target is called out of\n"
	      "                        reach (5000)\n"
	      "  --stats-interval=MS   how often the guest is asked for statistics (0: only when\n"
	      "                        somebody wants them)\n"
	      "  --hide=FEATURE        do not offer must-tell-host, stats, deflate-on-oom,\n"
	      "                        page-poison, reporting or page-bitmap; can be repeated\n"
	      "  --discard-file=PATH   memory in this file is given back, too, although the file\n"
	      "                        has a name or is no mere memory; what it holds is lost;\n"
	      "                        can be repeated\n"
	      "  --pinned              give nothing back: a device of the guest's has its memory\n"
	      "                        pinned (VFIO, vDPA, RDMA, AF_XDP)\n"
	      "  --report              let the guest report free pages, and give them back\n"
	      "  --single-pages        give memory back page by page, to compare\n"
	      "  -v, --verbose         log more\n"
	      "  --print-capabilities  print vhost-user's description of the program, as JSON\n"
	      "  -h, --help            print this text\n"
	      "\n"
	      "SIGTERM, SIGINT and SIGHUP end the program.  Exit status: 0 after such an end, 1\n"
	      "for a failure, 2 for a wrong command line.\n",
	      stdout);
}

/* The schema's enumeration VHostUserBackendType has "balloon". */
void balloon_print_capabilities(void)
{
	puts("{\n  \"type\": \"balloon\",\n  \"features\": []\n}");
}

static int parse_hide(const char *text, unsigned int *hide, struct umbra_error *err)
{
	unsigned int choice = 0;
	int result = option_choice("--hide", text, hide_words, &choice, err);

	if (!result)
		*hide |= 1u << choice;
	return result;
}

static int parse_discard_file(struct balloon_options *options, const char *path,
			      struct umbra_error *err)
{
	unsigned int *count = &options->config.discard_file_count;

	if (!path[0])
		return error_set(err, -EINVAL, "--discard-file=: expected the path of a file");
	if (*count == DISCARD_FILES_MAX)
		return error_set(err, -EINVAL, "--discard-file=%.80s: expected at most %u of them",
				 path, DISCARD_FILES_MAX);
	options->discard_files[(*count)++] = path;
	return 0;
}

/* A guest-physical address: hexadecimal with 0x, or a size. */
static bool parse_address(const char *text, const char *end, uint64_t *value)
{
	char word[32], *stop;
	struct umbra_error ignored;

	if (end - text >= (int)sizeof(word))
		return false;
	memcpy(word, text, (size_t)(end - text));
	word[end - text] = '\0';
	if (strncmp(word, "0x", 2) != 0 && strcmp(word, "0") != 0)
		return !option_size("", word, value, &ignored);
	errno = 0;
	*value = strtoull(word, &stop, 0);
	return !*stop && !errno;
}

static int parse_range(struct balloon_options *options, const char *text, struct umbra_error *err)
{
	struct umbra_balloon_config *config = &options->config;
	struct umbra_balloon_range *range = &options->only[config->only_count];
	const char *dash = strchr(text, '-');

	if (config->only_count == UMBRA_BALLOON_RANGES_MAX)
		return error_set(err, -EINVAL, "--only-region=%.60s: one more than %u", text,
				 UMBRA_BALLOON_RANGES_MAX);
	if (!dash || !parse_address(text, dash, &range->start) ||
	    !parse_address(dash + 1, text + strlen(text), &range->end) ||
	    range->start >= range->end)
		return error_set(err, -EINVAL,
				 "--only-region=%.60s: expected FROM-TO, two guest-physical "
				 "addresses such as 0-4G or 0x100000000-0x180000000",
				 text);
	config->only_count++;
	return 0;
}

static int parse_option(struct balloon_options *options, int option, const char *value,
			struct umbra_error *err)
{
	struct umbra_balloon_config *config = &options->config;

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
	case OPTION_CONTROL:
		options->qmp_path = value;
		return option_socket_path("--control", value, err);
	case OPTION_NAME:
		config->name = value;
		return option_name("--name", value, err);
	case OPTION_TARGET:
		return option_size("--target", value, &config->target.bytes, err);
	case OPTION_MEMORY:
		return option_size("--memory", value, &config->memory_bytes, err);
	case OPTION_FLOOR:
		return option_size("--floor", value, &config->floor_bytes, err);
	case OPTION_ONLY_REGION:
		return parse_range(options, value, err);
	case OPTION_STALL:
		return option_number("--stall", value, 1, STALL_MAX_MS, &config->stall_ms, err);
	case OPTION_STATS:
		return option_number("--stats-interval", value, 0, STATS_MAX_MS, &config->stats_ms,
				     err);
	case OPTION_HIDE:
		return parse_hide(value, &config->hide, err);
	case OPTION_DISCARD_FILE:
		return parse_discard_file(options, value, err);
	case OPTION_PINNED:
		config->pinned = true;
		return 0;
	case OPTION_REPORT:
		config->report = true;
		return 0;
	case OPTION_SINGLE_PAGES:
		config->single_pages = true;
		return 0;
	case 'v':
		options->verbose = true;
		return 0;
	default:
		options->help = true;
		return 0;
	}
}

static int check_together(const struct balloon_options *options, struct umbra_error *err)
{
	const struct umbra_balloon_config *config = &options->config;

	if (config->pinned && (config->report || config->discard_file_count))
		return error_set(err, -EINVAL,
				 "--pinned and %s exclude each other: what is pinned is not given "
				 "back",
				 config->report ? "--report" : "--discard-file");
	if (!!config->socket_path + !!config->connect_path + (config->socket_fd >= 0) > 1)
		return error_set(err, -EINVAL,
				 "--socket-path, --connect and --fd exclude each other: all say "
				 "where the VM comes from");
	if (!config->socket_path && !config->connect_path && config->socket_fd < 0)
		return error_set(err, -EINVAL,
				 "expected --socket-path=PATH, --connect=PATH or --fd=N: where the "
				 "VM comes from; see " HELP);
	if (!config->socket_path &&
	    (config->socket_access.mode || config->socket_access.sets_group))
		return error_set(err, -EINVAL,
				 "--socket-mode and --socket-group are for the socket of "
				 "--socket-path, which is not given");
	if (config->target.bytes && config->target.bytes < config->floor_bytes)
		return error_set(err, -EINVAL,
				 "--target=%" PRIu64 ": expected at least --floor=%" PRIu64
				 "; what is meant below it is set with umbra ctl and --force",
				 config->target.bytes, config->floor_bytes);
	if (options->qmp_path && config->socket_path &&
	    option_is_same_path(options->qmp_path, config->socket_path))
		return error_set(
			err, -EINVAL,
			"--control=%.80s: the same path as --socket-path, expected another",
			options->qmp_path);
	return 0;
}

int balloon_options_parse(struct balloon_options *options, int argc, char **argv,
			  struct umbra_error *err)
{
	int option, result;

	*options = (struct balloon_options){
		.config = { .name = "balloon0", .socket_fd = -1 },
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
	options->config.discard_files = options->discard_files;
	options->config.only = options->only;
	return check_together(options, err);
}
