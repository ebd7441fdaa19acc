/* SPDX-License-Identifier: BSD-2-Clause */
/* What a guest has said on the control queue of a network device: shown, saved, loaded. */
#ifndef UMBRA_CLI_QMP_CONTROL_QUEUE_H
#define UMBRA_CLI_QMP_CONTROL_QUEUE_H

#include <jansson.h>

#include "cli/qmp_commands.h"
#include "umbra/shadow_device.h"

/* The member "control" of query-vhost. */
json_t *report_control_queue(const struct umbra_net_control_info *info);

/* x-save-control-state and x-load-control-state. */
int run_save_control_queue(struct qmp_call *call);
int run_load_control_queue(struct qmp_call *call);

#endif
