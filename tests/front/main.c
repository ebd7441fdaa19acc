/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A front-end with verified load, for tests.
 *
 *	front --socket=PATH [OPTION ...] blk|net [NAME=VALUE ...] [COMMAND ...]
 *
 * Connects to a vhost-user device, starts its queues and a load (blk.c, net.c),
 * and executes commands while the load goes on: those of its command line, one a
 * word, or else the lines of its standard input.  Each is answered by one line of
 * JSON on standard output.
 *
 *	wait N		until N more requests (or frames) have come back
 *	switch N [K]	switch the shadow N times by the control socket, each time
 *			after K (default 1) more requests have come back
 *	shadow on|off	switch it once
 *	refused on|off	switch it once; it must be refused, and is answered with why
 *	sleep MS	let the load run without looking
 *	stop		end; so does the end of input
 *
 * and those of the workload.
 *
 *	--control=PATH --name=NAME	of the umbra to switch
 *	--patience=S	without any progress, it is a failure (default 600)
 *	--queues=N	use at most so many queues of a disk (default 16)
 *	--ring-size=N	(default 128)
 *	--table-max=N	build indirect tables of up to N descriptors, whatever the ring's size,
 *			as Linux does
 *	--no-indirect, --no-event-idx	do not take the feature
 *	--regions=N	of memory (default 1)
 *	--gpa-base=N	of the lowest region (default 0x40000000)
 *	--gpa-gap=N	between regions, which then lie in reverse order (default 0)
 *	--one-file	regions are parts of one memory file
 *	--seed=N	of contents and choices (default 1)
 *
 * Exit status: 0; 1: errors, or a failure, with lines on standard error; 2: usage.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "front.h"
#include "qmp.h"

#define LINE_MAX_ 1024

static struct {
	struct front_options options;
	const struct front_workload *workload;
	struct front front;
	struct qmp *qmp;
	bool shadowed;
	bool stopped;
} m;

/* ---- commands ------------------------------------------------------------------------ */

static int need_control(struct umbra_error *err)
{
	int rc;

	if (!m.options.control || !m.options.name)
		return error_set(err, -EINVAL, "--control and --name are needed to switch");
	if (!m.qmp) {
		rc = qmp_open(m.options.control, m.options.patience_s, &m.qmp, err);
		if (rc)
			return rc;
	}
	rc = qmp_is_shadowed(m.qmp, err);
	m.shadowed = rc == 1;
	return rc < 0 ? rc : 0;
}

static int command_wait(const char *rest, struct umbra_error *err)
{
	return front_wait(&m.front, front_progress(&m.front) + strtoul(rest, NULL, 0), err);
}

static int command_switch(const char *rest, struct umbra_error *err)
{
	unsigned long times = 0, pause = 1;
	int rc;

	if (sscanf(rest, "%lu %lu", &times, &pause) < 1)
		return error_set(err, -EINVAL, "switch wants a number, not '%s'", rest);
	rc = need_control(err);
	for (unsigned long i = 0; i < times && !rc; i++) {
		rc = front_wait(&m.front, front_progress(&m.front) + pause, err);
		if (rc)
			break;
		rc = qmp_switch(m.qmp, m.options.name, !m.shadowed, err);
		if (rc)
			return error_prefix(err, rc, "switch %lu of %lu", i + 1, times);
		m.shadowed = !m.shadowed;
	}
	if (!rc)
		printf(", \"switches\": %lu, \"shadowed\": %s", times,
		       m.shadowed ? "true" : "false");
	return rc;
}

static int command_shadow(const char *rest, struct umbra_error *err)
{
	int rc = need_control(err);

	return rc ? rc : qmp_switch(m.qmp, m.options.name, !strcmp(rest, "on"), err);
}

static int command_refused(const char *rest, struct umbra_error *err)
{
	int rc = need_control(err);

	if (rc)
		return rc;
	rc = qmp_switch(m.qmp, m.options.name, !strcmp(rest, "on"), err);
	if (rc == 0)
		return error_set(err, -EPROTO, "shadow %s was done, not refused", rest);
	if (rc == -EREMOTEIO) {
		/* What was said is JSON already. */
		printf(", \"answer\": %s", err->text);
		rc = 0;
	}
	return rc;
}

static int command_sleep(const char *rest, struct umbra_error *err)
{
	unsigned long ms = strtoul(rest, NULL, 0);
	struct timespec time = { .tv_sec = (time_t)(ms / 1000),
				 .tv_nsec = (long)(ms % 1000) * 1000000 };

	(void)err;
	nanosleep(&time, NULL);
	return 0;
}

static int command_stop(const char *rest, struct umbra_error *err)
{
	(void)rest;
	m.stopped = true;
	return m.workload->end(&m.front, err);
}

/* Execute a line and answer it. */
static int execute(char *line, struct umbra_error *err)
{
	static const struct {
		const char *word;
		int (*execute)(const char *rest, struct umbra_error *err);
	} commands[] = {
		{ "wait", command_wait },     { "switch", command_switch },
		{ "shadow", command_shadow }, { "refused", command_refused },
		{ "sleep", command_sleep },   { "stop", command_stop },
	};
	char *word = strtok(line, " "), *rest = strtok(NULL, "");
	size_t i = 0;
	int rc;

	if (!word)
		return 0;
	rest = rest ? rest : line + strlen(line);
	printf("{\"command\": \"%s\"", word);
	while (i < sizeof(commands) / sizeof(commands[0]) && strcmp(word, commands[i].word) != 0)
		i++;
	if (i < sizeof(commands) / sizeof(commands[0]))
		rc = commands[i].execute(rest, err);
	else
		rc = m.workload->command(&m.front, word, rest, err);
	if (rc == -ENOSYS)
		return error_set(err, -EINVAL, "no command '%s'", word);
	if (rc)
		return rc;
	printf(", \"requests\": %lu, \"errors\": %lu}\n", (unsigned long)front_progress(&m.front),
	       (unsigned long)__atomic_load_n(&m.front.errors, __ATOMIC_RELAXED));
	fflush(stdout);
	return 0;
}

static int execute_all(char **words, struct umbra_error *err)
{
	char line[LINE_MAX_];
	int rc = 0;

	for (; *words && !rc && !m.stopped; words++) {
		snprintf(line, sizeof(line), "%s", *words);
		rc = execute(line, err);
	}
	return rc;
}

static int execute_input(struct umbra_error *err)
{
	char line[LINE_MAX_];
	int rc = 0;

	while (!rc && !m.stopped && fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = '\0';
		rc = execute(line, err);
	}
	return rc;
}

/* ---- the program ----------------------------------------------------------------------- */

static int usage(const char *why)
{
	fprintf(stderr,
		"front: %s\nusage: front --socket=PATH [OPTION ...] blk|net "
		"[NAME=VALUE ...] [COMMAND ...]\n",
		why);
	return 2;
}

static bool parse_number(const char *text, uint64_t low, uint64_t high, uint64_t *out)
{
	char *end;

	errno = 0;
	*out = strtoull(text, &end, 0);
	return !errno && end != text && !*end && text[0] != '-' && *out >= low && *out <= high;
}

static bool parse_option(int option, const char *text, struct front_options *o)
{
	uint64_t v = 0;
	bool ok = true;

	switch (option) {
	case 's':
		o->socket = text;
		break;
	case 'c':
		o->control = text;
		break;
	case 'n':
		o->name = text;
		break;
	case 'p':
		ok = parse_number(text, 1, 3600, &v);
		o->patience_s = (unsigned int)v;
		break;
	case 'q':
		ok = parse_number(text, 1, FRONT_QUEUES_MAX, &v);
		o->queues = (unsigned int)v;
		break;
	case 'r':
		ok = parse_number(text, 16, 32768, &v) && (v & (v - 1)) == 0;
		o->ring_size = (unsigned int)v;
		break;
	case 't':
		ok = parse_number(text, 1, FRONT_SEGS_MAX, &v);
		o->table_max = (uint32_t)v;
		break;
	case 'm':
		ok = parse_number(text, 1, FRONT_REGIONS_MAX, &v);
		o->regions = (unsigned int)v;
		break;
	case 'b':
		ok = parse_number(text, 0, UINT64_MAX >> 1, &o->gpa_base) &&
		     o->gpa_base % 4096 == 0;
		break;
	case 'g':
		ok = parse_number(text, 0, UINT64_C(1) << 40, &o->gpa_gap) &&
		     o->gpa_gap % 4096 == 0;
		break;
	case 'f':
		o->one_file = true;
		break;
	case 'i':
		o->indirect = false;
		break;
	case 'e':
		o->event_idx = false;
		break;
	case 'd':
		ok = parse_number(text, 0, UINT64_MAX, &o->seed);
		break;
	default:
		ok = false;
	}
	return ok;
}

static bool parse_workload(const char *text)
{
	static const struct front_workload *const all[] = { &blk_workload, &net_workload };

	for (size_t i = 0; i < 2; i++)
		if (text && !strcmp(text, all[i]->name))
			m.workload = all[i];
	return m.workload;
}

static int run(char **commands)
{
	struct umbra_error err = { "" };
	int rc = m.workload->begin(&m.front, &m.options, &err);

	if (!rc)
		rc = *commands ? execute_all(commands, &err) : execute_input(&err);
	if (!rc && !m.stopped) {
		char stop[] = "stop";

		rc = execute(stop, &err);
	}
	if (!rc)
		rc = front_close(&m.front, &err);
	qmp_close(&m.qmp);
	if (rc) {
		printf("\n");
		fprintf(stderr, "front: %s: %s\n", m.options.socket, err.text);
	}
	return rc || m.front.errors ? 1 : 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "socket", required_argument, NULL, 's' },
						 { "control", required_argument, NULL, 'c' },
						 { "name", required_argument, NULL, 'n' },
						 { "patience", required_argument, NULL, 'p' },
						 { "queues", required_argument, NULL, 'q' },
						 { "ring-size", required_argument, NULL, 'r' },
						 { "table-max", required_argument, NULL, 't' },
						 { "regions", required_argument, NULL, 'm' },
						 { "gpa-base", required_argument, NULL, 'b' },
						 { "gpa-gap", required_argument, NULL, 'g' },
						 { "one-file", no_argument, NULL, 'f' },
						 { "no-indirect", no_argument, NULL, 'i' },
						 { "no-event-idx", no_argument, NULL, 'e' },
						 { "seed", required_argument, NULL, 'd' },
						 { 0 } };
	int option;

	m.options = (struct front_options){ .patience_s = 600,
					    .regions = 1,
					    .gpa_base = 0x40000000,
					    .indirect = true,
					    .event_idx = true,
					    .ring_size = 128,
					    .queues = FRONT_QUEUES_MAX,
					    .seed = 1 };
	while ((option = getopt_long(argc, argv, "+", options, NULL)) != -1)
		if (!parse_option(option, optarg, &m.options))
			return usage("an option or its value is not understood");
	if (!m.options.socket || !parse_workload(argv[optind]))
		return usage("--socket and a workload are needed");
	for (optind++; argv[optind] && strchr(argv[optind], '='); optind++)
		if (!m.workload->option(argv[optind]))
			return usage("an option of the workload is not understood");
	return run(argv + optind);
}
