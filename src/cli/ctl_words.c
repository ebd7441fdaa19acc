/* SPDX-License-Identifier: BSD-2-Clause */
/* Words that may have been mistyped: see ctl_words.h. */
#include "cli/ctl_words.h"

#include <stdio.h>
#include <string.h>

#include "base/bits.h"

#define WORD_MAX 32u /* characters; longer ones are like none */

static const char *const words[] = { "status",  "queues",  "shadow", "hold",
				     "release", "balloon", "stats",  "events" };

/* How many characters were left out, added, taken for another, or typed in the wrong
 * order; WORD_MAX: too many characters to tell. */
static unsigned int typing_distance(const char *a, const char *b)
{
	const size_t n = strlen(a), m = strlen(b);
	unsigned int rows[3][WORD_MAX + 1];
	unsigned int *before = rows[0], *above = rows[1], *row = rows[2];

	if (n > WORD_MAX || m > WORD_MAX)
		return WORD_MAX;
	for (unsigned int j = 0; j <= m; j++)
		above[j] = j;
	memcpy(before, above, sizeof(rows[0]));
	for (unsigned int i = 1; i <= n; i++) {
		unsigned int *next = before;

		row[0] = i;
		for (unsigned int j = 1; j <= m; j++) {
			row[j] = above[j - 1] + (a[i - 1] != b[j - 1]);
			row[j] = MIN(row[j], MIN(above[j], row[j - 1]) + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				row[j] = MIN(row[j], before[j - 2] + 1);
		}
		before = above;
		above = row;
		row = next;
	}
	return above[m];
}

/* Two mistakes in a word of some length, one in a short one. */
static unsigned int tolerance(const char *word)
{
	return strlen(word) < 5 ? 1 : 2;
}

const char *ctl_word_like(const char *word)
{
	const char *best = NULL;
	unsigned int least = tolerance(word) + 1;

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		unsigned int d = typing_distance(word, words[i]);

		if (!d)
			return NULL;
		if (d < least) {
			least = d;
			best = words[i];
		}
	}
	return best;
}

void ctl_words_suggest(struct qmp_client *client, const char *command, struct umbra_error *err)
{
	const char *best = ctl_word_like(command), *name;
	unsigned int least = tolerance(command) + 1;
	struct umbra_error ignored;
	size_t used = strlen(err->text), i;
	json_t *list = NULL, *entry;

	if (strchr(command, '=')) {
		snprintf(err->text + used, sizeof(err->text) - used,
			 " (a KEY=VALUE stands behind a COMMAND)");
		return;
	}
	if (!best && !qmp_client_execute(client, "query-commands", NULL, &list, &ignored)) {
		json_array_foreach(list, i, entry)
		{
			name = json_string_value(json_object_get(entry, "name"));
			if (name && typing_distance(command, name) < least) {
				least = typing_distance(command, name);
				best = name;
			}
		}
	}
	if (best)
		snprintf(err->text + used, sizeof(err->text) - used, "; did you mean '%s'?", best);
	json_decref(list);
}
