/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The commands of a balloon, and the data of its events.
 *
 * `balloon`, `query-balloon` and BALLOON_CHANGE are QEMU's, with its meaning of
 * value and actual: bytes of memory that the guest has, not that the balloon has.
 */
#ifndef UMBRA_CLI_QMP_BALLOON_H
#define UMBRA_CLI_QMP_BALLOON_H

#include "cli/qmp_commands.h"
#include "umbra/balloon.h"

/* What they act on. */
struct qmp_balloon {
	struct umbra_balloon *balloon;
};

extern const struct qmp_command qmp_balloon_commands[];
extern const size_t qmp_balloon_command_count;

/* NULL only for want of memory.  @name: the device's --name. */
json_t *report_balloon_change(const struct umbra_balloon_info *info);
json_t *report_balloon_state(const char *name, const struct umbra_balloon_info *info);
json_t *report_balloon_settled(const char *name, const struct umbra_balloon_info *info);

#endif
