/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fresh statistics of a balloon: see ctl_stats.h.
 *
 * The command query-balloon-stats answers with what came last, and its age, and asks the
 * guest for more.  So it is repeated until what it answers has come after the first time:
 * until its age is less than the time since then.  Our clock and the server's need not
 * agree for that.  The server's moment of answering is not before our moment of asking, so
 * old statistics are never taken for new ones; new ones may be passed over, and then the
 * next will do.
 */
#include "cli/ctl_stats.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/bits.h"
#include "base/clock.h"
#include "base/error.h"
#include "cli/ctl_balloon.h"
#include "cli/ctl_show.h"

#define PAUSE_FIRST_MS 5
#define PAUSE_LAST_MS 200

static bool has_name(const json_t *names, const char *wanted)
{
	const json_t *name;
	size_t i;

	json_array_foreach(names, i,
			   name) if (json_is_string(name) &&
				     !strcmp(json_string_value(name), wanted)) return true;
	return false;
}

/* Is there a driver that has statistics?  -ENODATA. */
static int check_driver(struct qmp_client *client, struct umbra_error *err)
{
	json_t *status = NULL, *balloon = NULL, *features;
	const char *state, *reason;
	int result = qmp_client_execute(client, "query-status", NULL, &status, err);

	if (!result)
		result = qmp_client_execute(client, "query-balloon", NULL, &balloon, err);
	if (result)
		goto out;
	state = json_string_value(json_object_get(status, "state"));
	reason = json_string_value(json_object_get(status, "reason"));
	features = json_object_get(json_object_get(balloon, "features"), "names");
	if (state && strcmp(state, "running") != 0)
		result = error_set(err, -ENODATA,
				   "no driver is there that could send statistics: the balloon is "
				   "%.40s%s%.320s",
				   state, reason ? ": " : "", reason ? reason : "");
	else if (features && !has_name(features, "VIRTIO_BALLOON_F_STATS_VQ"))
		result = error_set(err, -ENODATA,
				   "the guest's driver has no statistics: it has not taken "
				   "VIRTIO_BALLOON_F_STATS_VQ");
out:
	json_decref(status);
	json_decref(balloon);
	return result;
}

/* *@answer: the last that came, in any case but errors of the client. */
static int ask(struct qmp_client *client, int patience_ms, json_t **answer, struct umbra_error *err)
{
	const json_int_t start = clock_now_ms();
	unsigned int pause_ms = PAUSE_FIRST_MS;
	int result;

	for (;;) {
		const json_int_t passed = clock_now_ms() - start;
		struct timespec pause = { .tv_nsec = pause_ms * 1000000l };
		const json_t *age;

		json_decref(*answer);
		*answer = NULL;
		result = qmp_client_execute(client, "query-balloon-stats", NULL, answer, err);
		if (result)
			return result;
		age = json_object_get(*answer, "age-ms");
		if (json_is_integer(age) && json_integer_value(age) < passed)
			return 0;
		result = check_driver(client, err);
		if (result)
			return result;
		if (patience_ms >= 0 && passed >= patience_ms)
			return error_set(err, -ETIMEDOUT,
					 "the guest has not sent statistics within %d ms",
					 patience_ms);
		nanosleep(&pause, NULL);
		pause_ms = MIN(2 * pause_ms, PAUSE_LAST_MS);
	}
}

int stats_ask(struct qmp_client *client, int patience_ms, bool json, struct umbra_error *err)
{
	json_t *answer = NULL;
	int result = ask(client, patience_ms, &answer, err);

	if (answer && json)
		show_json(answer, true);
	else if (answer)
		show_balloon_stats(answer);
	json_decref(answer);
	return result;
}
