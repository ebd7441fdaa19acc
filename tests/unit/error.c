/* SPDX-License-Identifier: BSD-2-Clause */
/* An error's text is whole, or says that it is not. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"

#define LAST (UMBRA_ERROR_SIZE - 1)

static struct umbra_error err;
static char filler[2 * UMBRA_ERROR_SIZE];

/* So many bytes of text. */
static const char *of_length(size_t length)
{
	memset(filler, 'x', sizeof(filler));
	filler[length] = '\0';
	return filler;
}

static void ends_in(const char *end)
{
	assert_int_equal(strlen(err.text), LAST);
	assert_string_equal(err.text + LAST - strlen(end), end);
}

static void what_fits_is_whole(void **state)
{
	(void)state;
	assert_int_equal(error_set(&err, -5, "queue %u: %s", 7, "late"), -5);
	assert_string_equal(err.text, "queue 7: late");
	error_set(&err, -5, "%s", of_length(LAST));
	ends_in("xxxx");
	error_set(&err, -5, "%s", "");
	assert_string_equal(err.text, "");
}

static void what_is_cut_ends_in_dots(void **state)
{
	(void)state;
	error_set(&err, -5, "%s", of_length(LAST + 1));
	ends_in("x...");
	error_set(&err, -5, "%s", of_length(2 * LAST));
	ends_in("x...");
}

static void a_prefix_stands_in_front(void **state)
{
	(void)state;
	error_set(&err, -5, "late");
	assert_int_equal(error_prefix(&err, -6, "queue %u", 7), -6);
	assert_string_equal(err.text, "queue 7: late");
	error_set(&err, -5, "%s", of_length(LAST - 3));
	error_prefix(&err, -5, "q");
	assert_int_equal(strncmp(err.text, "q: xxx", 6), 0);
	ends_in("xxxx");
}

static void the_end_is_what_a_prefix_costs(void **state)
{
	(void)state;
	error_set(&err, -5, "%s", of_length(LAST - 2));
	error_prefix(&err, -5, "q");
	assert_int_equal(strncmp(err.text, "q: xxx", 6), 0);
	ends_in("x...");
	error_set(&err, -5, "late");
	error_prefix(&err, -5, "%s", of_length(2 * LAST));
	ends_in("x...");
}

static void nobody_has_to_want_it(void **state)
{
	(void)state;
	assert_int_equal(error_set(NULL, -5, "late"), -5);
	assert_int_equal(error_prefix(NULL, -5, "late"), -5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_fits_is_whole),
		cmocka_unit_test(what_is_cut_ends_in_dots),
		cmocka_unit_test(a_prefix_stands_in_front),
		cmocka_unit_test(the_end_is_what_a_prefix_costs),
		cmocka_unit_test(nobody_has_to_want_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
