/* SPDX-License-Identifier: BSD-2-Clause */
/* The command line of "umbra shadow". */
#ifndef UMBRA_CLI_SHADOW_OPTIONS_H
#define UMBRA_CLI_SHADOW_OPTIONS_H

#include "cli/device_options.h"
#include "umbra/shadow_device.h"

struct shadow_options {
	struct device_options common;
	struct umbra_shadow_config config; /* without its callback */
};

/* The strings stay argv's.  -EINVAL. */
UMBRA_MUST_CHECK int shadow_options_parse(struct shadow_options *options, int argc, char **argv,
					  struct umbra_error *err);

#endif
