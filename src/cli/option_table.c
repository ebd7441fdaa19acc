/* SPDX-License-Identifier: BSD-2-Clause */
/* A command line as a table: see option_table.h. */
#include "cli/option_table.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "cli/options.h"

#define LONG_FIRST 256 /* what getopt_long() returns for the first row: above every character */

/* All rows of a table, with those of the tables that it holds. */
struct option_rows {
	const struct option_row *at[OPTION_ROWS_MAX];
	unsigned int count;
};

static void rows_collect(struct option_rows *rows, const struct option_row *table)
{
	for (; table->name || table->table; table++) {
		if (table->table) {
			rows_collect(rows, table->table);
		} else {
			assert(rows->count < OPTION_ROWS_MAX);
			rows->at[rows->count++] = table;
		}
	}
}

/* What getopt_long() wants to know. */
static void rows_to_getopt(const struct option_rows *rows, struct option *names, char *letters)
{
	*letters++ = ':'; /* a missing value is told from an unknown option */
	for (unsigned int i = 0; i < rows->count; i++) {
		const struct option_row *row = rows->at[i];

		if (!row->take)
			continue;
		assert(!row->letter || !row->value);
		*names++ = (struct option){
			.name = row->name + strlen("--"),
			.has_arg = row->value ? required_argument : no_argument,
			.val = LONG_FIRST + (int)i,
		};
		if (row->letter)
			*letters++ = row->letter;
	}
	*names = (struct option){ 0 };
	*letters = '\0';
}

static const struct option_row *row_find(const struct option_rows *rows, int option)
{
	if (option >= LONG_FIRST)
		return rows->at[option - LONG_FIRST];
	for (unsigned int i = 0;; i++)
		if (rows->at[i]->letter == option)
			return rows->at[i];
}

/* What getopt_long() complained of: it returned '?' or ':'. */
static int option_refused(int returned, char **argv, const char *help, struct umbra_error *err)
{
	const char *word = argv[optind - 1];

	if (returned == ':')
		return error_set(err, -EINVAL, "%.80s: a value is missing; see %s", word, help);
	if (!strncmp(word, "--", 2) && strchr(word, '=') && optopt)
		return error_set(err, -EINVAL, "%.80s: the option takes no value; see %s", word,
				 help);
	if (!strncmp(word, "--", 2))
		return error_set(err, -EINVAL, "%.80s: there is no such option; see %s", word,
				 help);
	return error_set(err, -EINVAL, "-%c: there is no such option; see %s", optopt, help);
}

int option_table_parse(const struct option_row *table, void *options, int argc, char **argv,
		       const char *help, int *operand, struct umbra_error *err)
{
	struct option names[OPTION_ROWS_MAX + 1];
	char letters[OPTION_ROWS_MAX + 2];
	struct option_rows rows = { .count = 0 };
	int option, result;

	rows_collect(&rows, table);
	rows_to_getopt(&rows, names, letters);
	optind = 0; /* start afresh: the program may have parsed another list */
	opterr = 0;
	while ((option = getopt_long(argc, argv, letters, names, NULL)) != -1) {
		const struct option_row *row;

		if (option == '?' || option == ':')
			return option_refused(option, argv, help, err);
		row = row_find(&rows, option);
		result = row->take(row, optarg, (char *)options + row->place, err);
		if (result)
			return result;
		if (row->ends)
			return 1;
	}
	*operand = optind;
	return 0;
}

/* As typed, with the form of its value. */
static void row_words(const struct option_row *row, char *text, size_t size)
{
	char letter[] = { '-', row->letter, ',', ' ', '\0' };

	snprintf(text, size, "%s%s%s%s", row->letter ? letter : "", row->name,
		 row->value ? "=" : "", row->value ? row->value : "");
}

void option_table_print(const struct option_row *table, int column)
{
	struct option_rows rows = { .count = 0 };
	char words[80];

	rows_collect(&rows, table);
	for (unsigned int i = 0; i < rows.count; i++) {
		const char *line = rows.at[i]->help, *end;

		row_words(rows.at[i], words, sizeof(words));
		printf("  %-*s", column - 2, words);
		for (; (end = strchr(line, '\n')); line = end + 1)
			printf("%.*s\n%*s", (int)(end - line), line, column, "");
		puts(line);
	}
}

/* --- values --------------------------------------------------------------------- */

int option_take_flag(const struct option_row *row, const char *value, void *place,
		     struct umbra_error *err)
{
	(void)row;
	(void)value;
	(void)err;
	*(bool *)place = true;
	return 0;
}

int option_take_number(const struct option_row *row, const char *value, void *place,
		       struct umbra_error *err)
{
	return option_number(row->name, value, row->min, row->max, place, err);
}

int option_take_size(const struct option_row *row, const char *value, void *place,
		     struct umbra_error *err)
{
	return option_size(row->name, value, place, err);
}

int option_take_socket_path(const struct option_row *row, const char *value, void *place,
			    struct umbra_error *err)
{
	*(const char **)place = value;
	return option_socket_path(row->name, value, err);
}
