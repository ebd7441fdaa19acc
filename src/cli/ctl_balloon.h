/* SPDX-License-Identifier: BSD-2-Clause */
/* "umbra ctl SOCKET balloon" and "stats", for people. */
#ifndef UMBRA_CLI_CTL_BALLOON_H
#define UMBRA_CLI_CTL_BALLOON_H

#include <jansson.h>
#include <stdbool.h>

#include "cli/qmp_client.h"

struct balloon_wish {
	json_int_t bytes;
	unsigned int percent; /* of the guest's memory, in place of bytes; 0: not given */
	bool take;            /* these from the guest; else they are what it shall keep */
	bool force;           /* below the floor, too */
};

/* Does @word ask for a target, rather than being an argument of the command? */
bool balloon_is_target(const char *word);

/* SIZE, "all", or take=SIZE.  -EINVAL. */
UMBRA_MUST_CHECK int balloon_parse_target(const char *word, struct balloon_wish *wish,
					  struct umbra_error *err);

/*
 * Set the target and follow the balloon to the end of its way: with a bar on a
 * terminal, else in silence.  Then what query-balloon says, with @json as JSON.
 * -EREMOTEIO: the guest did not get there, or another client has set another target;
 * @err says how far it got, and why.
 */
UMBRA_MUST_CHECK int balloon_follow(struct qmp_client *client, const struct balloon_wish *wish,
				    bool json, struct umbra_error *err);

void show_balloon(const json_t *balloon);
void show_balloon_stats(const json_t *stats);

#endif
