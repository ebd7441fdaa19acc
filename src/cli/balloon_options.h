/* SPDX-License-Identifier: BSD-2-Clause */
/* The command line of "umbra balloon". */
#ifndef UMBRA_CLI_BALLOON_OPTIONS_H
#define UMBRA_CLI_BALLOON_OPTIONS_H

#include "cli/device_options.h"
#include "umbra/balloon.h"

#define DISCARD_FILES_MAX 64u

struct balloon_options {
	struct device_options common;
	struct umbra_balloon_config config; /* without its callback */
	const char *discard_files[DISCARD_FILES_MAX];
	struct umbra_balloon_range only[UMBRA_BALLOON_RANGES_MAX]; /* config.only points here */
};

/* The strings stay argv's.  -EINVAL. */
UMBRA_MUST_CHECK int balloon_options_parse(struct balloon_options *options, int argc, char **argv,
					   struct umbra_error *err);

#endif
