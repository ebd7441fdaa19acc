/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A command line as a table: each option once, with its name, what help says of it, and
 * what becomes of its value.
 *
 * Theory of operation: a table is an array of rows, in the order in which help shows them,
 * and may hold other tables as a whole (`table`).  Values go into a struct of the caller's:
 * a row says at which offset, and by which function (options.h has one for each kind of
 * value).  An option whose value has several forms has a row for each; the first takes it,
 * the others are for help alone.
 *
 * Threads: one at a time, since getopt_long(3) has variables of its own.
 */
#ifndef UMBRA_CLI_OPTION_TABLE_H
#define UMBRA_CLI_OPTION_TABLE_H

#include <stdbool.h>
#include <stddef.h>

#include "umbra/error.h"

#define OPTION_ROWS_MAX 64u /* of a table, with those that it holds */

struct option_row {
	const char *name;  /* as typed, "--fd"; NULL ends the table, where `table` is NULL too */
	const char *value; /* as help shows it, "PATH"; NULL: it takes none */
	const char *help;  /* what follows a line feed goes into the same column */
	/* -EINVAL: @err names the option, the value and what was expected.  NULL: see above. */
	int (*take)(const struct option_row *row, const char *value, void *place,
		    struct umbra_error *err);
	size_t place;             /* of what take() fills, in the caller's struct */
	unsigned int min, max;    /* of a number */
	const char *const *words; /* of a choice, which NULL ends */
	char letter;              /* "-v" is the same; 0: none */
	bool ends;                /* what follows is not looked at: --help */
	const struct option_row *table;
};

/* The offset of a member of the caller's struct, in a row. */
#define OPTION_PLACE(type, member) .place = offsetof(type, member)

/*
 * Fill @options, which has the defaults, from @argv.  *@operand: the index of the first word
 * that is no option.  1: an option that ends came; 0: all were taken; -EINVAL, with @help
 * in @err, which is where the options are listed.
 */
UMBRA_MUST_CHECK int option_table_parse(const struct option_row *table, void *options, int argc,
					char **argv, const char *help, int *operand,
					struct umbra_error *err);

/* To stdout, as help shows them, with what they are for from @column on. */
void option_table_print(const struct option_row *table, int column);

/* --- for rows: take a value of a kind, see options.h ------------------------- */

/* @place is a bool. */
UMBRA_MUST_CHECK int option_take_flag(const struct option_row *row, const char *value, void *place,
				      struct umbra_error *err);
/* An unsigned int, in [row->min, row->max]. */
UMBRA_MUST_CHECK int option_take_number(const struct option_row *row, const char *value,
					void *place, struct umbra_error *err);
/* A uint64_t. */
UMBRA_MUST_CHECK int option_take_size(const struct option_row *row, const char *value, void *place,
				      struct umbra_error *err);
/* A string, which stays argv's. */
UMBRA_MUST_CHECK int option_take_socket_path(const struct option_row *row, const char *value,
					     void *place, struct umbra_error *err);

#endif
