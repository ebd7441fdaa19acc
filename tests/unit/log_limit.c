/* SPDX-License-Identifier: BSD-2-Clause */
/* What a peer can have written into the log is bounded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

static int before, file; /* standard error, and what stands for it */

static int setup(void **state)
{
	(void)state;
	fflush(stderr);
	before = dup(STDERR_FILENO);
	file = memfd_create("log", MFD_CLOEXEC);
	/* Two threads write: a memfd's offset is not locked, the end of the file is. */
	return before < 0 || fcntl(file, F_SETFL, O_APPEND) || dup2(file, STDERR_FILENO) < 0;
}

static int teardown(void **state)
{
	(void)state;
	dup2(before, STDERR_FILENO);
	close(before);
	return close(file);
}

/* Lines with this text, or the sum of the numbers in front of it. */
static unsigned long count(const char *text, const char *number_before)
{
	static char log[1 << 20];
	ssize_t size = pread(file, log, sizeof(log) - 1, 0);
	unsigned long found = 0;
	char *line, *rest = log;

	assert_true(size >= 0);
	log[size] = '\0';
	while ((line = strsep(&rest, "\n"))) {
		if (!strstr(line, text))
			continue;
		found += number_before
				 ? strtoul(strstr(line, number_before) + strlen(number_before),
					   NULL, 10)
				 : 1;
	}
	return found;
}

static uint64_t seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec;
}

#define FLOOD 100000u

static void *flood(void *opaque)
{
	for (unsigned int i = 0; i < FLOOD; i++)
		log_warning("a peer has done %u", i);
	return opaque;
}

static void test_one_kind_of_line_is_limited_whoever_writes_it(void **state)
{
	uint64_t start = seconds();
	unsigned long lines;
	pthread_t other;

	(void)state;
	assert_int_equal(pthread_create(&other, NULL, flood, NULL), 0);
	flood(NULL);
	pthread_join(other, NULL);
	lines = count("a peer has done", NULL);
	assert_true(lines >= LOG_BURST);
	assert_true(lines <= LOG_BURST + seconds() - start + 1);
	/* Another kind of line is none of its business. */
	log_warning("something else");
	assert_int_equal(count("something else", NULL), 1);
}

static void log_once(unsigned int i)
{
	log_error("line %u of many", i);
}

/* Of what was left out the log says how much, with the next line that goes through. */
static void test_what_is_left_out_is_counted(void **state)
{
	unsigned int written = 0;
	unsigned long before_last = 0, lines;

	(void)state;
	/* Until one goes through after some did not. */
	do {
		before_last = count("of many", NULL);
		log_once(written++);
		lines = count("of many", NULL);
		if (before_last == lines) {
			const struct timespec pause = { .tv_nsec = 1000000 };

			nanosleep(&pause, NULL);
		}
	} while (!count("left out", NULL));
	assert_int_equal(count("of many", NULL) + count("left out", "("), written);
}

static void test_a_line_that_is_not_wanted_uses_nothing_up(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 100; i++) {
		log_set_level(i < 99 ? LOG_WARNING : LOG_DEBUG);
		log_debug("detail");
	}
	log_set_level(LOG_INFO);
	assert_int_equal(count("detail", NULL), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_one_kind_of_line_is_limited_whoever_writes_it,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_left_out_is_counted, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_line_that_is_not_wanted_uses_nothing_up,
						setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
