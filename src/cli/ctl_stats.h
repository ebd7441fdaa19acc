/* SPDX-License-Identifier: BSD-2-Clause */
/* "umbra ctl ... stats": ask the guest, and wait for its answer. */
#ifndef UMBRA_CLI_CTL_STATS_H
#define UMBRA_CLI_CTL_STATS_H

#include <stdbool.h>

#include "cli/qmp_client.h"

/*
 * Show the statistics that the guest sends when it is asked now.  If none come within
 * @patience_ms (-1: no bound), or nobody is there to send any, show the last ones and
 * fail: -ENODATA, -ETIMEDOUT, and errors of qmp_client_execute().
 */
UMBRA_MUST_CHECK int stats_ask(struct qmp_client *client, int patience_ms, bool json,
			       struct umbra_error *err);

#endif
