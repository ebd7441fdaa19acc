/* SPDX-License-Identifier: BSD-2-Clause */
/* The commands of a shadow device. */
#ifndef UMBRA_CLI_QMP_SHADOW_H
#define UMBRA_CLI_QMP_SHADOW_H

#include "cli/qmp_commands.h"
#include "umbra/shadow_device.h"

/* What they act on. */
struct qmp_shadow {
	struct umbra_shadow_device *device;
	const char *backend; /* --backend */
};

extern const struct qmp_command qmp_shadow_commands[];
extern const size_t qmp_shadow_command_count;

#endif
