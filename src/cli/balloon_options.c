/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The command line of "umbra balloon".
 *
 * Implements: the vhost-user specification, "Backend program conventions", and
 * its schema vhost-user.json for --print-capabilities.
 */
#include "cli/balloon_options.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "cli/commands.h"
#include "cli/options.h"

#define NAME "balloon0"        /* without --name */
#define STALL_MAX_MS 3600000u  /* an hour; longer is a typing error */
#define STATS_MAX_MS 86400000u /* a day */

/* In the order of the bits of enum umbra_balloon_hide. */
static const char *const hide_words[] = {
	"must-tell-host", "stats", "deflate-on-oom", "page-poison", "reporting",
	"page-bitmap",    NULL,
};

/* The schema's enumeration VHostUserBackendType has "balloon". */
void balloon_print_capabilities(void)
{
	puts("{\n  \"type\": \"balloon\",\n  \"features\": []\n}");
}

static int take_hide(const struct option_row *row, const char *value, void *place,
		     struct umbra_error *err)
{
	unsigned int choice = 0, *hide = place;
	int result = option_choice(row->name, value, row->words, &choice, err);

	if (!result)
		*hide |= 1u << choice;
	return result;
}

/* The last one counts. */
static int take_target(const struct option_row *row, const char *value, void *place,
		       struct umbra_error *err)
{
	struct umbra_balloon_config *config = &((struct balloon_options *)place)->config;

	config->target.bytes = 0;
	config->target_percent = 0;
	return option_is_percent(value)
		       ? option_percent(row->name, value, &config->target_percent, err)
		       : option_size(row->name, value, &config->target.bytes, err);
}

static int take_discard_file(const struct option_row *row, const char *value, void *place,
			     struct umbra_error *err)
{
	struct balloon_options *options = place;
	unsigned int *count = &options->config.discard_file_count;

	if (!value[0])
		return error_set(err, -EINVAL, "%s=: expected the path of a file", row->name);
	if (*count == DISCARD_FILES_MAX)
		return error_set(err, -EINVAL, "%s=%.80s: expected at most %u of them", row->name,
				 value, DISCARD_FILES_MAX);
	options->discard_files[(*count)++] = value;
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

static int take_range(const struct option_row *row, const char *value, void *place,
		      struct umbra_error *err)
{
	struct balloon_options *options = place;
	struct umbra_balloon_config *config = &options->config;
	struct umbra_balloon_range *range = &options->only[config->only_count];
	const char *dash = strchr(value, '-');

	if (config->only_count == UMBRA_BALLOON_RANGES_MAX)
		return error_set(err, -EINVAL, "%s=%.60s: one more than %u", row->name, value,
				 UMBRA_BALLOON_RANGES_MAX);
	if (!dash || !parse_address(value, dash, &range->start) ||
	    !parse_address(dash + 1, value + strlen(value), &range->end) ||
	    range->start >= range->end)
		return error_set(err, -EINVAL,
				 "%s=%.60s: expected FROM-TO, two guest-physical addresses such "
				 "as 0-4G or 0x100000000-0x180000000",
				 row->name, value);
	config->only_count++;
	return 0;
}

#define PLACE(member) OPTION_PLACE(struct balloon_options, member)

static const struct option_row table[] = {
	{ .table = device_options_vm },
	{ .table = device_options_control },
	{ "--name", "ID", "the device's name on the control socket (" NAME ")",
	  device_options_take_name, PLACE(common.name) },
	{ "--target", "SIZE",
	  "memory that the guest shall keep to begin with (all);\n"
	  "bytes, or with K, M, G or T, or a percentage: 50%",
	  take_target, .place = 0 },
	{ "--memory", "SIZE",
	  "memory that the guest has; else what it says itself, or\n"
	  "the VMM's memory table",
	  option_take_size, PLACE(config.memory_bytes) },
	{ "--floor", "SIZE",
	  "what stays with the guest unless a target is forced (a\n"
	  "sixteenth, but 64M, or half of it where that is less)",
	  option_take_size, PLACE(config.floor_bytes) },
	{ "--only-region", "FROM-TO",
	  "touch and count only memory at these guest-physical\n"
	  "addresses, whole regions; can be repeated",
	  take_range, .place = 0 },
	{ "--stall", "MS",
	  "without progress for so long, a target is called out of\n"
	  "reach (5000)",
	  option_take_number, PLACE(config.stall_ms), 1, STALL_MAX_MS },
	{ "--stats-interval", "MS",
	  "how often the guest is asked for statistics (0: only when\n"
	  "somebody wants them)",
	  option_take_number, PLACE(config.stats_ms), 0, STATS_MAX_MS },
	{ "--hide", "FEATURE",
	  "do not offer must-tell-host, stats, deflate-on-oom,\n"
	  "page-poison, reporting or page-bitmap; can be repeated",
	  take_hide, PLACE(config.hide), .words = hide_words },
	{ "--discard-file", "PATH",
	  "memory in this file is given back, too, although the file\n"
	  "has a name or is no mere memory; what it holds is lost;\n"
	  "can be repeated",
	  take_discard_file, .place = 0 },
	{ "--pinned", NULL,
	  "give nothing back: a device of the guest's has its memory\n"
	  "pinned (VFIO, vDPA, RDMA, AF_XDP)",
	  option_take_flag, PLACE(config.pinned) },
	{ "--fd-store", NULL,
	  "survive the end of this program: keep what the next one\n"
	  "needs in the service manager's fd store",
	  option_take_flag, PLACE(config.fd_store) },
	{ "--report", NULL, "let the guest report free pages, and give them back", option_take_flag,
	  PLACE(config.report) },
	{ "--single-pages", NULL, "give memory back page by page, to compare", option_take_flag,
	  PLACE(config.single_pages) },
	{ .table = device_options_general },
	{ 0 },
};

static int check_together(const void *opaque, struct umbra_error *err)
{
	const struct balloon_options *options = opaque;
	const struct umbra_balloon_config *config = &options->config;

	if (config->pinned && (config->report || config->discard_file_count))
		return error_set(err, -EINVAL,
				 "--pinned and %s exclude each other: what is pinned is not given "
				 "back",
				 config->report ? "--report" : "--discard-file");
	if (config->target.bytes && config->target.bytes < config->floor_bytes)
		return error_set(err, -EINVAL,
				 "--target=%" PRIu64 ": expected at least --floor=%" PRIu64
				 "; what is meant below it is set with umbra ctl and --force",
				 config->target.bytes, config->floor_bytes);
	return device_options_check_access(&options->common, err);
}

static const struct device_options_kind kind = {
	.command = "balloon",
	.usage = "usage: umbra balloon --socket-path=PATH|--fd=N [OPTION...]\n"
		 "\n"
		 "A virtio balloon for a VM that speaks vhost-user: take memory back from the\n"
		 "guest, and give it back.\n",
	.table = table,
	.check = check_together,
};

void balloon_print_help(void)
{
	device_options_print_help(&kind);
}

int balloon_options_parse(struct balloon_options *options, int argc, char **argv,
			  struct umbra_error *err)
{
	int result;

	*options = (struct balloon_options){
		.common = { .name = NAME, .socket_fd = -1 },
		.config = { UMBRA_SIZED(umbra_balloon_config) },
	};
	result = device_options_parse(&kind, options, argc, argv, err);
	options->config.name = options->common.name;
	options->config.socket_path = options->common.socket_path;
	options->config.connect_path = options->common.connect_path;
	options->config.socket_fd = options->common.socket_fd;
	options->config.socket_access = options->common.socket_access;
	options->config.discard_files = options->discard_files;
	options->config.only = options->only;
	return result;
}
