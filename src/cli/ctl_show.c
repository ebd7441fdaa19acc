/* SPDX-License-Identifier: BSD-2-Clause */
/* Answers of the QMP socket, for people: see ctl_show.h. */
#include "cli/ctl_show.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#define LABEL_WIDTH 15 /* columns of "shadow-refused" and a blank */

static void put_text(FILE *stream, const char *text)
{
	const unsigned char *at = (const unsigned char *)text;

	for (; *at; at++) {
		/* U+0080 to U+009F are control characters too; in UTF-8, two bytes. */
		bool high = at[0] == 0xc2 && at[1] >= 0x80 && at[1] <= 0x9f;

		putc(*at < 0x20 || *at == 0x7f || high ? '?' : *at, stream);
		at += high;
	}
}

void show_text(FILE *stream, const char *text)
{
	put_text(stream, text);
	putc('\n', stream);
}

void show_json(const json_t *value, bool one_line)
{
	json_dumpf(value, stdout,
		   JSON_ENSURE_ASCII | JSON_ENCODE_ANY | (one_line ? 0 : JSON_INDENT(2)));
	putchar('\n');
}

/* A member as text: of a string, its characters; else its JSON; "-" if absent. */
static void put_value(FILE *stream, const json_t *value)
{
	if (!value)
		putc('-', stream);
	else if (json_is_string(value))
		put_text(stream, json_string_value(value));
	else
		json_dumpf(value, stream, JSON_ENSURE_ASCII | JSON_ENCODE_ANY | JSON_COMPACT);
}

static void show_member(const char *label, const json_t *object, const char *member)
{
	printf("%-*s", LABEL_WIDTH, label);
	put_value(stdout, json_object_get(object, member));
	putchar('\n');
}

static void show_optional(const json_t *object, const char *member)
{
	if (json_object_get(object, member))
		show_member(member, object, member);
}

/* What there is to say of a back-end that is away, or does not answer, and what can be done. */
static void show_offers(const json_t *status)
{
	const json_t *unanswered = json_object_get(status, "unanswered");
	const json_t *requests = json_object_get(status, "held-requests");
	const json_t *attempts = json_object_get(status, "attempts");

	if (unanswered) {
		fputs("The back-end has not answered ", stdout);
		put_text(stdout, json_string_value(json_object_get(unanswered, "message")));
		printf(" for %" JSON_INTEGER_FORMAT " ms; \"backend-kill\" ends it.\n",
		       json_integer_value(json_object_get(unanswered, "ms")));
	}
	if (!requests)
		return;
	printf("The guest waits, and %" JSON_INTEGER_FORMAT
	       " requests with it that the lost back-end may have done or not.\n",
	       json_integer_value(requests));
	if (json_integer_value(attempts))
		printf("Another back-end was looked for %" JSON_INTEGER_FORMAT
		       " times in vain, and is again after %" JSON_INTEGER_FORMAT " ms.\n",
		       json_integer_value(attempts),
		       json_integer_value(json_object_get(status, "pause-ms")));
	else if (json_integer_value(requests))
		puts("If the lost one still runs, \"backend-kill\" ends it; if it is known to write no "
		     "more, \"backend-trust\" says so.");
}

void show_status(const json_t *status)
{
	show_member("name", status, "name");
	show_member("state", status, "state");
	show_optional(status, "reason");
	show_optional(status, "held-requests");
	show_optional(status, "held-by-hand");
	show_optional(status, "held-ms");
	show_optional(status, "hold-limit-ms");
	show_optional(status, "shadow");
	show_optional(status, "shadowed");
	show_optional(status, "shadow-wanted");
	show_optional(status, "shadow-refused");
	show_optional(status, "backend");
	show_optional(status, "phase");
	show_optional(status, "obstacle");
	show_offers(status);
}

static void show_features(const char *label, const json_t *features)
{
	const json_t *names = json_object_get(features, "names");
	size_t i;

	printf("%-*s", LABEL_WIDTH, label);
	put_value(stdout, json_object_get(features, "bits"));
	for (i = 0; i < json_array_size(names); i++) {
		putchar(' ');
		put_value(stdout, json_array_get(names, i));
	}
	putchar('\n');
}

/* The name of the member, the heading and the width of a column. */
static const struct column {
	const char *member, *heading;
	int width;
} columns[] = {
	{ "index", "queue", 5 },          { "size", "size", 5 },
	{ "mode", "mode", 11 },           { "last-avail-idx", "avail", 5 },
	{ "last-used-idx", "used", 5 },   { "in-flight", "flight", 6 },
	{ "requests", "requests", 10 },   { "bytes-out", "bytes-out", 13 },
	{ "bytes-in", "bytes-in", 13 },   { "kicks-in", "kicks-in", 10 },
	{ "kicks-out", "kicks-out", 10 }, { "calls-in", "calls-in", 10 },
	{ "calls-out", "calls-out", 10 }, { "clamped", "clamped", 7 },
	{ "table-longest", "table", 5 },
};
#define COLUMNS (sizeof(columns) / sizeof(columns[0]))

static void show_cell(const json_t *value, int width)
{
	if (json_is_integer(value))
		printf("%*" JSON_INTEGER_FORMAT, width, json_integer_value(value));
	else if (json_is_string(value) && strlen(json_string_value(value)) <= (size_t)width)
		printf("%*s", width - (int)strlen(json_string_value(value)), ""),
			put_text(stdout, json_string_value(value));
	else
		printf("%*s", width, "-");
}

static void show_queues(const json_t *queues)
{
	size_t i, column;

	for (column = 0; column < COLUMNS; column++)
		printf("%s%*s", column ? " " : "", columns[column].width, columns[column].heading);
	putchar('\n');
	for (i = 0; i < json_array_size(queues); i++) {
		const json_t *queue = json_array_get(queues, i);

		for (column = 0; column < COLUMNS; column++) {
			if (column)
				putchar(' ');
			show_cell(json_object_get(queue, columns[column].member),
				  columns[column].width);
		}
		putchar('\n');
		if (json_object_get(queue, "error")) {
			fputs("      broken: ", stdout);
			put_value(stdout, json_object_get(queue, "error"));
			putchar('\n');
		}
	}
}

static void show_vdpa(const json_t *backend)
{
	const json_t *range = json_object_get(backend, "iova-range");
	const json_t *mapped = json_object_get(backend, "mapped");

	show_member("  device", backend, "device-type");
	show_member("    id", backend, "device-id");
	show_member("    queues", backend, "queues-max");
	show_member("    queue size", backend, "queue-size-max");
	show_features("    abilities", json_object_get(backend, "abilities"));
	show_member("  iova first", range, "first");
	show_member("  iova last", range, "last");
	show_member("  mapped bytes", mapped, "bytes");
	show_member("    ranges", mapped, "ranges");
	show_member("    translated", mapped, "translated");
}

/* On one line each: what was said on the control queue, and how it went. */
static void show_control_queue(const json_t *control)
{
	static const char *const counters[] = { "accepted", "refused", "failed", "replayed" };
	const char *member;
	json_t *value;

	printf("%-*s", LABEL_WIDTH, "control queue");
	for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++) {
		printf("%s%s ", i ? ", " : "", counters[i]);
		put_value(stdout, json_object_get(control, counters[i]));
	}
	putchar('\n');
	json_object_foreach((json_t *)control, member, value)
	{
		bool is_counter = false;

		for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++)
			is_counter |= !strcmp(member, counters[i]);
		if (is_counter)
			continue;
		printf("  %-*s", LABEL_WIDTH - 2, member);
		put_value(stdout, value);
		putchar('\n');
	}
}

static void show_process(const json_t *process)
{
	show_member("  process", process, "name");
	show_member("    state", process, "state");
	if (json_object_get(process, "doubt"))
		show_member("    because", process, "doubt");
}

void show_vhost(const json_t *vhost)
{
	const json_t *backend = json_object_get(vhost, "backend");
	const json_t *features = json_object_get(vhost, "features");
	const json_t *memory = json_object_get(vhost, "memory");
	const json_t *switches = json_object_get(vhost, "switches");

	show_member("back-end", backend, "address");
	show_member("  kind", backend, "kind");
	show_features("  offers", json_object_get(backend, "features"));
	show_features("  protocol", json_object_get(backend, "protocol-features"));
	if (json_object_get(backend, "stop"))
		show_member("  stopping", backend, "stop");
	if (json_object_get(backend, "process"))
		show_process(json_object_get(backend, "process"));
	if (json_object_get(backend, "device-id"))
		show_vdpa(backend);
	show_features("guest", json_object_get(features, "guest"));
	show_optional(features, "dropped");
	show_member("memory bytes", memory, "bytes");
	show_member("memory regions", memory, "regions");
	show_member("shadow bytes", memory, "shadow-bytes");
	show_member("switches", switches, "count");
	show_member("  failed", switches, "failed");
	show_member("  last us", switches, "last-pause-us");
	show_member("  longest us", switches, "longest-pause-us");
	if (json_object_get(vhost, "holds")) {
		show_member("holds", json_object_get(vhost, "holds"), "count");
		show_member("  replayed", json_object_get(vhost, "holds"), "replayed");
		show_member("  dropped", json_object_get(vhost, "holds"), "dropped");
		show_member("  last us", json_object_get(vhost, "holds"), "last-us");
		show_member("  longest us", json_object_get(vhost, "holds"), "longest-us");
	}
	if (json_object_get(vhost, "control"))
		show_control_queue(json_object_get(vhost, "control"));
	putchar('\n');
	show_queues(json_object_get(vhost, "queues"));
}

void show_event(const json_t *event)
{
	const json_t *stamp = json_object_get(event, "timestamp");
	time_t seconds = (time_t)json_integer_value(json_object_get(stamp, "seconds"));
	json_int_t micro = json_integer_value(json_object_get(stamp, "microseconds"));
	char when[32] = "-";
	struct tm utc;
	const char *member;
	json_t *value;

	if (json_is_integer(json_object_get(stamp, "seconds")) && gmtime_r(&seconds, &utc))
		strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &utc);
	printf("%s.%06" JSON_INTEGER_FORMAT "Z ", when, micro);
	put_value(stdout, json_object_get(event, "event"));
	json_object_foreach(json_object_get(event, "data"), member, value)
	{
		putchar(' ');
		put_text(stdout, member);
		putchar('=');
		put_value(stdout, value);
	}
	putchar('\n');
}
