/* SPDX-License-Identifier: BSD-2-Clause */
/* The balloon's commands, for people: see ctl_balloon.h. */
#include "cli/ctl_balloon.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/error.h"
#include "cli/ctl_show.h"
#include "cli/options.h"

#define BAR_WIDTH 30             /* columns */
#define LOOK_NS (100 * 1000000l) /* between two looks at the balloon */
#define LABEL_WIDTH 19           /* columns of "driver-ballooned" and some blanks */

#define TAKE "take="

bool balloon_is_target(const char *word)
{
	return !strchr(word, '=') || !strncmp(word, TAKE, strlen(TAKE));
}

int balloon_parse_target(const char *word, struct balloon_wish *wish, struct umbra_error *err)
{
	uint64_t bytes = 0;
	int result;

	wish->take = !strncmp(word, TAKE, strlen(TAKE));
	if (!strcmp(word, "all")) {
		wish->bytes = INT64_MAX;
		return 0;
	}
	if (wish->take)
		word += strlen(TAKE);
	if (option_is_percent(word)) {
		wish->bytes = 1; /* what it really is, the server knows: percent_resolve() */
		return option_percent("balloon", word, &wish->percent, err);
	}
	result = option_size(wish->take ? "balloon take" : "balloon", word, &bytes, err);
	wish->bytes = (json_int_t)bytes;
	return result;
}

/* --- sizes ------------------------------------------------------------------- */

#define SIZE_TEXT 32

static const char *size_text(char *text, json_int_t bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double size = (double)bytes;
	unsigned int unit = 0;

	for (; size >= 1024 && unit < 6; unit++)
		size /= 1024;
	snprintf(text, SIZE_TEXT, unit ? "%.1f %s" : "%.0f %s", size, units[unit]);
	return text;
}

static json_int_t member(const json_t *object, const char *name)
{
	return json_integer_value(json_object_get(object, name));
}

static void show_size(const char *label, const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);
	char text[SIZE_TEXT];

	printf("%-*s%s\n", LABEL_WIDTH, label,
	       json_is_integer(value) ? size_text(text, json_integer_value(value)) : "-");
}

static void show_count(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);

	if (json_is_integer(value))
		printf("%-*s%" JSON_INTEGER_FORMAT "\n", LABEL_WIDTH, name,
		       json_integer_value(value));
	else
		printf("%-*s-\n", LABEL_WIDTH, name);
}

static void show_word(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	if (!text)
		return;
	printf("%-*s", LABEL_WIDTH, name);
	show_text(stdout, text);
}

/* Where the size of the memory comes from. */
static void show_base(const char *base)
{
	static const char *const texts[][2] = {
		{ "table", "the VMM's memory table" },
		{ "guest", "the guest's statistics" },
		{ "option", "--memory=" },
	};

	for (unsigned int i = 0; base && i < ARRAY_SIZE(texts); i++)
		if (!strcmp(base, texts[i][0]))
			printf("%-*s%s\n", LABEL_WIDTH, "  as said by", texts[i][1]);
}

static void show_regions(const json_t *regions)
{
	char size[SIZE_TEXT], page[SIZE_TEXT];
	const json_t *region;
	size_t i;

	json_array_foreach(regions, i, region)
	{
		printf("%-*s0x%" PRIx64 ", %s in pages of %s%s\n", LABEL_WIDTH, "region",
		       (uint64_t)member(region, "gpa"), size_text(size, member(region, "size")),
		       size_text(page, member(region, "page-size")),
		       json_is_false(json_object_get(region, "given-back")) ? ", not given back"
									    : "");
	}
}

void show_balloon(const json_t *balloon)
{
	static const char *const counts[] = { "discards",         "discard-errors",  "messages",
					      "refused-messages", "refused-records", NULL };
	unsigned int i;

	show_word(balloon, "phase");
	show_word(balloon, "obstacle");
	show_size("memory", balloon, "memory");
	show_base(json_string_value(json_object_get(balloon, "base")));
	show_size("target", balloon, "target");
	show_size("  to be taken", balloon, "take");
	show_size("floor", balloon, "floor");
	show_size("actual", balloon, "actual");
	show_size("ballooned", balloon, "ballooned");
	show_size("  driver says", balloon, "driver-ballooned");
	show_size("  not freed", balloon, "unfreed");
	show_size("host holds", balloon, "host-bytes");
	show_size("given back", balloon, "given-back");
	show_size("  discarded", balloon, "discarded");
	show_size("  reported free", balloon, "reported");
	if (member(balloon, "kept"))
		show_size("  kept", balloon, "kept");
	show_word(balloon, "kept-reason");
	show_size("rate (a second)", balloon, "rate");
	for (i = 0; counts[i]; i++)
		show_count(balloon, counts[i]);
	show_regions(json_object_get(balloon, "regions"));
}

/* Those that are bytes; the others are counts. */
static bool is_bytes(const char *name)
{
	return strstr(name, "memory") || strstr(name, "swap") || strstr(name, "caches") ||
	       strstr(name, "scans") || strstr(name, "reclaims");
}

void show_balloon_stats(const json_t *answer)
{
	const json_t *age = json_object_get(answer, "age-ms");
	const char *name;
	json_t *value;

	if (json_is_integer(age))
		printf("%-*s%.1f s\n", LABEL_WIDTH, "age", (double)json_integer_value(age) / 1000);
	else
		printf("%-*snone have come yet\n", LABEL_WIDTH, "age");
	json_object_foreach(json_object_get(answer, "stats"), name, value)
	{
		char label[80];

		/* Names of a server that may be anything. */
		snprintf(label, sizeof(label), "%s", name);
		for (char *at = label; *at; at++)
			if (*at < 0x20 || *at == 0x7f)
				*at = '?';
		if (json_is_null(value))
			printf("%-*sunsupported\n", LABEL_WIDTH, label);
		else if (is_bytes(name))
			show_size(label, json_object_get(answer, "stats"), name);
		else
			printf("%-*s%" JSON_INTEGER_FORMAT "\n", LABEL_WIDTH, label,
			       json_integer_value(value));
	}
}

/* --- following ------------------------------------------------------------------ */

static void bar_draw(const json_t *balloon, json_int_t start)
{
	json_int_t memory = member(balloon, "memory"), target = member(balloon, "target");
	json_int_t now = member(balloon, "actual");
	double way = (double)(target - start), done = way != 0 ? (double)(now - start) / way : 1;
	char at[SIZE_TEXT], of[SIZE_TEXT], rate[SIZE_TEXT];
	int filled, i;

	if (!memory)
		return;
	done = done < 0 ? 0 : done > 1 ? 1 : done;
	filled = (int)(done * BAR_WIDTH);
	fputs("\r[", stdout);
	for (i = 0; i < BAR_WIDTH; i++)
		putchar(i < filled ? '#' : '.');
	printf("] %3.0f %%  %s, to be %s  %s/s   ", done * 100, size_text(at, now),
	       size_text(of, target), size_text(rate, member(balloon, "rate")));
	fflush(stdout);
}

/* Query until the way to target @id is over; @id 0: the server has no numbers. */
static int follow(struct qmp_client *client, json_int_t id, json_t **balloon,
		  struct umbra_error *err)
{
	const struct timespec pause = { .tv_nsec = LOOK_NS };
	bool draws = isatty(STDOUT_FILENO), first = true;
	json_int_t start = 0;

	for (;;) {
		const char *phase;
		int result = qmp_client_execute(client, "query-balloon", NULL, balloon, err);

		if (result)
			return result;
		if (first)
			start = member(*balloon, "actual");
		first = false;
		if (draws)
			bar_draw(*balloon, start);
		phase = json_string_value(json_object_get(*balloon, "phase"));
		if (id && member(*balloon, "target-id") != id)
			break;
		if (!phase || (strcmp(phase, "inflating") != 0 && strcmp(phase, "deflating") != 0))
			break;
		json_decref(*balloon);
		*balloon = NULL;
		nanosleep(&pause, NULL);
	}
	if (draws)
		putchar('\n');
	return 0;
}

/* Has the guest got there? */
static int target_judge(const json_t *balloon, json_int_t id, struct umbra_error *err)
{
	const char *phase = json_string_value(json_object_get(balloon, "phase"));
	const char *why = json_string_value(json_object_get(balloon, "obstacle"));

	if (id && member(balloon, "target-id") != id)
		return error_set(err, -EREMOTEIO,
				 "the target is not reached: another client has set another one "
				 "meanwhile");
	/* A server that has no phases is believed. */
	if (phase && strcmp(phase, "settled") != 0)
		return error_set(err, -EREMOTEIO, "the target is not reached: %.200s",
				 why ? why : phase);
	return 0;
}

/* A share of the guest's memory as bytes. */
static int percent_resolve(struct qmp_client *client, unsigned int percent, json_int_t *bytes,
			   struct umbra_error *err)
{
	json_t *balloon = NULL;
	json_int_t memory;
	int result = qmp_client_execute(client, "query-balloon", NULL, &balloon, err);

	if (result)
		return result;
	memory = member(balloon, "memory");
	json_decref(balloon);
	if (memory <= 0)
		return error_set(err, -ENODATA,
				 "%u%% of the guest's memory is not known before a guest is there",
				 percent);
	*bytes = memory / 100 * percent + memory % 100 * percent / 100;
	return 0;
}

int balloon_follow(struct qmp_client *client, const struct balloon_wish *wish, bool json,
		   struct umbra_error *err)
{
	json_t *balloon = NULL, *answer = NULL, *arguments;
	json_int_t bytes = wish->bytes, id;
	int result = wish->percent ? percent_resolve(client, wish->percent, &bytes, err) : 0;

	if (result)
		return result;
	arguments = json_pack("{s:I}", wish->take ? "take" : "value", bytes);
	if (wish->force)
		json_object_set_new(arguments, "force", json_true());
	result = qmp_client_execute(client, "balloon", arguments, &answer, err);
	id = member(answer, "target-id");
	json_decref(answer);
	if (!result)
		result = follow(client, id, &balloon, err);
	if (result)
		return result;
	if (json)
		show_json(balloon, true);
	else
		show_balloon(balloon);
	result = target_judge(balloon, id, err);
	json_decref(balloon);
	return result;
}
