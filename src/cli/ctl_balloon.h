/* SPDX-License-Identifier: BSD-2-Clause */
/* "umbra ctl SOCKET balloon" and "stats", for people. */
#ifndef UMBRA_CLI_CTL_BALLOON_H
#define UMBRA_CLI_CTL_BALLOON_H

#include <jansson.h>
#include <stdbool.h>

#include "cli/qmp_client.h"

/* Is @word a size, or "all"?  -EINVAL. */
UMBRA_MUST_CHECK int balloon_parse_target(const char *word, json_int_t *value,
					  struct umbra_error *err);

/*
 * Set the target and follow the balloon to the end of its way: with a bar on a
 * terminal, else in silence.  Then what query-balloon says, with @json as JSON.
 * -EREMOTEIO: the guest did not get there; @err says how far it got, and why.
 */
UMBRA_MUST_CHECK int balloon_follow(struct qmp_client *client, json_int_t value, bool json,
				    struct umbra_error *err);

void show_balloon(const json_t *balloon);
void show_balloon_stats(const json_t *stats);

#endif
