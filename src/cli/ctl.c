/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * "umbra ctl": one command on a QMP socket.
 *
 * A command is sent as it is typed; a few words stand for the commands that a
 * person needs often.  It works on every server that speaks QMP.
 */
#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "cli/commands.h"
#include "cli/ctl_balloon.h"
#include "cli/ctl_show.h"
#include "cli/ctl_stats.h"
#include "cli/ctl_words.h"
#include "cli/option_table.h"
#include "cli/options.h"
#include "cli/qmp_client.h"

#define TIMEOUT_DEFAULT_S 30u
#define TIMEOUT_MAX_S 86400u
#define COUNT_MAX 1000000000u
#define HELP "umbra help ctl"
#define HELP_COLUMN 21

struct ctl {
	bool json;
	bool timeout_given;
	bool help;
	bool force;
	unsigned int timeout_s; /* 0: none */
	unsigned int count;     /* of events; 0: all */
	const char *socket, *command;
	char **words; /* after the command */
	int word_count;
	json_t *arguments;        /* made of the words, or NULL */
	struct balloon_wish wish; /* of the balloon; 0 bytes: only look */
	struct qmp_client *client;
};

/* What a person may type instead of a command, and what is shown of the answer. */
static const struct alias {
	const char *word, *command;
	void (*show)(const json_t *value);
} aliases[] = {
	{ "status", "query-status", show_status },
	{ "query-status", "query-status", show_status },
	{ "queues", "query-vhost", show_vhost },
	{ "query-vhost", "query-vhost", show_vhost },
	{ "balloon", "query-balloon", show_balloon }, /* with a size: run_balloon() */
	{ "query-balloon", "query-balloon", show_balloon },
	{ "query-balloon-stats", "query-balloon-stats", show_balloon_stats },
};

static int take_timeout(const struct option_row *row, const char *value, void *place,
			struct umbra_error *err)
{
	struct ctl *ctl = place;

	ctl->timeout_given = true;
	return option_number(row->name, value, row->min, row->max, &ctl->timeout_s, err);
}

#define PLACE(member) OPTION_PLACE(struct ctl, member)

static const struct option_row table[] = {
	{ "--force", NULL,
	  "hold: without waiting for what is with the back-end;\n"
	  "balloon: also if that leaves the guest less than the floor",
	  option_take_flag, PLACE(force) },
	{ "--json", NULL, "print answers as JSON on one line", option_take_flag, PLACE(json) },
	{ "--timeout", "SECONDS",
	  "how long to wait for an answer (30); 0: for ever.  For events\n"
	  "there is no limit unless one is given",
	  take_timeout, .max = TIMEOUT_MAX_S },
	{ "--count", "N", "end after N events", option_take_number, PLACE(count), 1, COUNT_MAX },
	{ "--help", NULL, "print this text", option_take_flag, PLACE(help), .letter = 'h',
	  .ends = true },
	{ 0 },
};

void ctl_print_help(void)
{
	fputs("usage: umbra ctl [OPTION...] SOCKET COMMAND [KEY=VALUE...]\n"
	      "\n"
	      "Send a command to the control socket of a running umbra and print the answer.\n"
	      "\n"
	      "  status             what the device does (query-status)\n"
	      "  queues             its queues, features and counters (query-vhost)\n"
	      "  shadow on|off      switch to the shadow, or back (x-vhost-enable-shadow-vq)\n"
	      "  hold               let go of the back-end, so that it can be taken down, and\n"
	      "                     let the guest wait\n"
	      "  release            look for a back-end again, and go on with it\n"
	      "  balloon            how much memory a balloon has taken (query-balloon)\n"
	      "  balloon SIZE|all   let the guest keep so much, and show how it comes along;\n"
	      "                     bytes, or with K, M, G or T\n"
	      "  balloon take=SIZE  take so much from it\n"
	      "  stats              ask the guest of its memory, and show what it answers\n"
	      "  events             print events as they come\n"
	      "  COMMAND            any command of the socket; query-commands lists them\n"
	      "\n"
	      "A VALUE is JSON (true, 5, \"text\", [...]) or else taken for a string.\n"
	      "\n",
	      stdout);
	option_table_print(table, HELP_COLUMN);
	fputs("\n"
	      "Exit status: 0, 1 if the command failed, 2 for a wrong command line.\n",
	      stdout);
}

static int parse(struct ctl *ctl, int argc, char **argv, struct umbra_error *err)
{
	int operand, result;

	ctl->timeout_s = TIMEOUT_DEFAULT_S;
	result = option_table_parse(table, ctl, argc, argv, HELP, &operand, err);
	if (result)
		return result < 0 ? result : 0;
	if (argc - operand < 2)
		return error_set(err, -EINVAL, "expected SOCKET and COMMAND; see " HELP);
	ctl->socket = argv[operand];
	ctl->command = argv[operand + 1];
	ctl->words = argv + operand + 2;
	ctl->word_count = argc - operand - 2;
	if (ctl->count && strcmp(ctl->command, "events") != 0)
		return error_set(err, -EINVAL,
				 "--count=%u: only the command 'events' counts, this is '%.80s'",
				 ctl->count, ctl->command);
	return 0;
}

/* JSON if it is some; a string if it does not even look like some. */
static json_t *parse_value(const char *key, const char *text, struct umbra_error *err)
{
	json_error_t where;
	json_t *value = json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &where);

	if (value)
		return value;
	if (text[0] && strchr("{[\"", text[0])) {
		error_set(err, -EINVAL, "%.80s=%.60s: begins like JSON and is not: %.80s", key,
			  text, where.text);
		return NULL;
	}
	value = json_string(text);
	if (!value)
		error_set(err, -EINVAL, "%.80s: the value is not UTF-8", key);
	return value;
}

/* A word behind the command that is no KEY=VALUE. */
static int word_refuse(const struct ctl *ctl, const char *word, struct umbra_error *err)
{
	const char *meant = ctl_word_like(ctl->command);

	if (meant)
		return error_set(err, -EINVAL,
				 "there is no command '%.60s' that takes the word '%.60s'; did you "
				 "mean '%s'?",
				 ctl->command, word, meant);
	return error_set(err, -EINVAL,
			 "%.80s: expected KEY=VALUE, an argument of the command '%.60s'", word,
			 ctl->command);
}

/* *@arguments is NULL if there are no words. */
static int parse_arguments(const struct ctl *ctl, json_t **arguments, struct umbra_error *err)
{
	json_t *object = ctl->word_count ? json_object() : NULL, *value;
	int i, result = 0;

	for (i = 0; i < ctl->word_count && !result; i++) {
		char *word = ctl->words[i], *equals = strchr(word, '=');

		if (!equals || equals == word) {
			result = word_refuse(ctl, word, err);
			break;
		}
		*equals = '\0';
		value = parse_value(word, equals + 1, err);
		if (!value)
			result = -EINVAL;
		else if (json_object_get(object, word))
			result = error_set(err, -EINVAL, "%.80s: given twice", word);
		else if (json_object_set(object, word, value))
			result = error_set(err, -EINVAL, "%.80s: cannot be put into JSON", word);
		json_decref(value);
	}
	if (result) {
		json_decref(object);
		object = NULL;
	}
	*arguments = object;
	return result;
}

static const struct alias *alias_find(const struct ctl *ctl)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(aliases); i++)
		if (!strcmp(aliases[i].word, ctl->command) &&
		    (strcmp(ctl->command, "balloon") != 0 || !ctl->word_count))
			return &aliases[i];
	return NULL;
}

static int run_command(struct ctl *ctl, struct umbra_error *err)
{
	const struct alias *alias = alias_find(ctl);
	json_t *value = NULL;
	int result;

	result = qmp_client_execute(ctl->client, alias ? alias->command : ctl->command,
				    json_incref(ctl->arguments), &value, err);
	if (result == -ENOSYS)
		ctl_words_suggest(ctl->client, ctl->command, err);
	if (result)
		return result;
	if (alias && !ctl->json && json_is_object(value))
		alias->show(value);
	else
		show_json(value, ctl->json);
	json_decref(value);
	return 0;
}

/* What has come of a command. */
static int status_look(struct ctl *ctl, struct umbra_error *err)
{
	json_t *status = NULL;
	int result = qmp_client_execute(ctl->client, "query-status", NULL, &status, err);

	if (!result && ctl->json)
		show_json(status, true);
	else if (!result)
		show_status(status);
	json_decref(status);
	return result;
}

static bool is_hold(const struct ctl *ctl)
{
	return !ctl->word_count &&
	       (!strcmp(ctl->command, "hold") || !strcmp(ctl->command, "release"));
}

static int run_shadow(struct ctl *ctl, struct umbra_error *err)
{
	bool enable = ctl->word_count == 1 && !strcmp(ctl->words[0], "on");
	json_t *status = NULL, *arguments, *value = NULL;
	int result;

	result = qmp_client_execute(ctl->client, "query-status", NULL, &status, err);
	if (result)
		return result;
	arguments =
		json_pack("{s:O*, s:b}", "name", json_object_get(status, "name"), "enable", enable);
	result =
		qmp_client_execute(ctl->client, "x-vhost-enable-shadow-vq", arguments, &value, err);
	json_decref(status);
	json_decref(value);
	return result ? result : status_look(ctl, err);
}

/* "hold" and "release". */
static int hold_ask(struct ctl *ctl, struct umbra_error *err)
{
	json_t *arguments = ctl->force ? json_pack("{s:b}", "force", true) : NULL, *value = NULL;
	int result = qmp_client_execute(ctl->client, ctl->command, arguments, &value, err);

	json_decref(value);
	return result ? result : status_look(ctl, err);
}

static int run_events(struct ctl *ctl, struct umbra_error *err)
{
	unsigned int seen = 0;
	json_t *event;
	int result;

	if (!ctl->timeout_given)
		qmp_client_set_patience(ctl->client, -1);
	while (!ctl->count || seen++ < ctl->count) {
		result = qmp_client_event(ctl->client, &event, err);
		if (result <= 0)
			return result;
		if (ctl->json)
			show_json(event, true);
		else
			show_event(event);
		json_decref(event);
		/* Whoever reads a pipe wants each event when it comes. */
		if (fflush(stdout))
			return error_set(err, -errno, "cannot print an event: %s", strerror(errno));
	}
	return 0;
}

/* The words after the command, as far as they can be judged without a server. */
static int check_words(struct ctl *ctl, struct umbra_error *err)
{
	if (!strcmp(ctl->command, "shadow")) {
		if (ctl->word_count == 1 &&
		    (!strcmp(ctl->words[0], "on") || !strcmp(ctl->words[0], "off")))
			return 0;
		return error_set(err, -EINVAL, "shadow %.80s: expected 'shadow on' or 'shadow off'",
				 ctl->word_count ? ctl->words[0] : "");
	}
	if (!strcmp(ctl->command, "events") || !strcmp(ctl->command, "stats")) {
		if (!ctl->word_count)
			return 0;
		return error_set(err, -EINVAL, "%s %.80s: expected no more words", ctl->command,
				 ctl->words[0]);
	}
	/* "balloon value=..." is the command as the socket has it. */
	if (!strcmp(ctl->command, "balloon") && ctl->word_count &&
	    balloon_is_target(ctl->words[0])) {
		if (ctl->word_count > 1)
			return error_set(err, -EINVAL, "balloon %.80s: expected no more words",
					 ctl->words[1]);
		ctl->wish.force = ctl->force;
		return balloon_parse_target(ctl->words[0], &ctl->wish, err);
	}
	if (ctl->force && !(is_hold(ctl) && !strcmp(ctl->command, "hold")))
		return error_set(err, -EINVAL,
				 "--force: only 'hold', 'balloon SIZE' and 'balloon take=SIZE' can "
				 "be forced");
	return parse_arguments(ctl, &ctl->arguments, err);
}

static int run(struct ctl *ctl, struct umbra_error *err)
{
	int result = qmp_client_open(ctl->socket, ctl->timeout_s ? (int)ctl->timeout_s * 1000 : -1,
				     &ctl->client, err);

	if (result)
		return result;
	if (!strcmp(ctl->command, "shadow"))
		result = run_shadow(ctl, err);
	else if (is_hold(ctl))
		result = hold_ask(ctl, err);
	else if (!strcmp(ctl->command, "events"))
		result = run_events(ctl, err);
	else if (!strcmp(ctl->command, "stats"))
		result = stats_ask(ctl->client, ctl->timeout_s ? (int)ctl->timeout_s * 1000 : -1,
				   ctl->json, err);
	else if (ctl->wish.bytes)
		result = balloon_follow(ctl->client, &ctl->wish, ctl->json, err);
	else
		result = run_command(ctl, err);
	qmp_client_close(&ctl->client);
	return result;
}

int command_ctl(int argc, char **argv)
{
	struct umbra_error err = { "" };
	struct ctl ctl = { 0 };
	int status = EXIT_SUCCESS;

	if (parse(&ctl, argc, argv, &err))
		status = EXIT_USAGE;
	else if (ctl.help)
		ctl_print_help();
	else if (check_words(&ctl, &err))
		status = EXIT_USAGE;
	else if (run(&ctl, &err))
		status = EXIT_FAILURE;
	json_decref(ctl.arguments);
	if (status != EXIT_SUCCESS) {
		fputs("umbra ctl: ", stderr);
		show_text(stderr, err.text);
	}
	return status;
}
