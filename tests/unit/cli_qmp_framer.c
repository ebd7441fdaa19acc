/* SPDX-License-Identifier: BSD-2-Clause */
/* Promises of cli/qmp_framer.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "cli/qmp_framer.h"

/*
 * What a stream was taken for, as text: each value on a line, "!" for an
 * error, "#" for a fatal one.
 */
struct outcome {
	char *text;
	size_t used, allocated;
};

static void outcome_add(struct outcome *outcome, const char *text, size_t len)
{
	if (outcome->used + len + 2 > outcome->allocated) {
		outcome->allocated = 2 * (outcome->used + len + 2);
		outcome->text = realloc(outcome->text, outcome->allocated);
		assert_non_null(outcome->text);
	}
	memcpy(outcome->text + outcome->used, text, len);
	outcome->used += len;
	outcome->text[outcome->used++] = '\n';
	outcome->text[outcome->used] = 0;
}

/* Returns false after a fatal error. */
static bool take(struct qmp_framer *framer, const char *bytes, size_t len, struct outcome *outcome)
{
	size_t at = 0, taken;

	while (at < len) {
		enum qmp_frame frame = qmp_framer_feed(framer, bytes + at, len - at, &taken);

		assert_true(taken > 0 && taken <= len - at);
		at += taken;
		if (frame == QMP_FRAME_VALUE)
			outcome_add(outcome, framer->text, framer->used);
		else if (frame == QMP_FRAME_ERROR)
			outcome_add(outcome, "!", 1);
		else if (frame == QMP_FRAME_FATAL)
			outcome_add(outcome, "#", 1);
		else
			assert_int_equal(at, len);
		if (frame == QMP_FRAME_ERROR || frame == QMP_FRAME_FATAL)
			assert_true(framer->reason[0]);
		if (frame == QMP_FRAME_FATAL)
			return false;
	}
	return true;
}

static void expect(const char *stream, size_t len, const char *expected)
{
	struct qmp_framer framer = { 0 };
	struct outcome outcome = { 0 };
	char *copy = malloc(len ? len : 1); /* exact, for the address sanitizer */

	assert_non_null(copy);
	memcpy(copy, stream, len);
	take(&framer, copy, len, &outcome);
	assert_string_equal(outcome.text ? outcome.text : "", expected);
	free(outcome.text);
	free(copy);
	qmp_framer_free(&framer);
}

#define EXPECT(stream, expected) expect(stream, sizeof(stream) - 1, expected)

static void a_value_ends_where_its_brackets_close(void **state)
{
	(void)state;
	EXPECT("{}", "{}\n");
	EXPECT(" \r\n\t{\"a\": [1, {}]}{\"b\":2}\r\n", "{\"a\": [1, {}]}\n{\"b\":2}\n");
	EXPECT("[[],[]][]", "[[],[]]\n[]\n");
	EXPECT("{\"a\"\n:\n1}", "{\"a\"\n:\n1}\n");
	EXPECT("{\"unfinished\":", "");
	EXPECT("", "");
}

static void brackets_and_quotes_in_strings_do_not_count(void **state)
{
	(void)state;
	EXPECT("{\"}]\":\"[{'\"}", "{\"}]\":\"[{'\"}\n");
	EXPECT("{\"a\\\"}\":1}", "{\"a\\\"}\":1}\n");
	EXPECT("{\"a\\\\\":1}{}", "{\"a\\\\\":1}\n{}\n");
	EXPECT("\"top } level\" {}", "\"top } level\"\n{}\n");
}

static void single_quotes_become_json(void **state)
{
	(void)state;
	EXPECT("{'a':'b'}", "{\"a\":\"b\"}\n");
	EXPECT("{'say \"x\"':1}", "{\"say \\\"x\\\"\":1}\n");
	EXPECT("{'it\\'s':\"it\\'s\"}", "{\"it's\":\"it's\"}\n");
	EXPECT("{'a\\\"b':1}", "{\"a\\\"b\":1}\n");
	EXPECT("{'\\\\':1}", "{\"\\\\\":1}\n");
	EXPECT("{'\\u0041':1}", "{\"\\u0041\":1}\n");
}

static void a_reset_byte_drops_what_is_unfinished(void **state)
{
	(void)state;
	EXPECT("{\"a\":\xff{}", "!\n{}\n");
	EXPECT("{\"a\":\x01{}", "!\n{}\n");
	EXPECT("{\"a string\xff{}", "!\n{}\n");
	EXPECT("{\"a\0{}", "!\n{}\n");
	EXPECT("\xff{}", "!\n{}\n");
	EXPECT("\xff\xff{}", "!\n!\n{}\n");
	EXPECT("nonsense\xff{}", "!\n!\n{}\n");
	EXPECT("\x1b[A {}", "!\n");
}

static void a_line_feed_in_a_string_drops_the_message(void **state)
{
	(void)state;
	EXPECT("{\"execute\":\"quit\n{\"b\":1}", "!\n{\"b\":1}\n");
	EXPECT("{\"execute\":\"a\nb\"}\n{\"b\":1}", "!\n{\"b\":1}\n");
	EXPECT("{\"a\tb\"} {}", "!\n{}\n");
}

static void brackets_that_do_not_match_are_one_error(void **state)
{
	(void)state;
	EXPECT("{\"a\":1] {}", "!\n{}\n");
	EXPECT("[} {}", "!\n{}\n");
	EXPECT("} {}", "!\n{}\n");
	EXPECT("]]]]]] {}", "!\n{}\n");
}

static void what_is_no_value_is_one_error(void **state)
{
	(void)state;
	EXPECT("nonsense {}", "!\n{}\n");
	EXPECT("1 2 3 {}", "!\n!\n!\n{}\n");
	EXPECT(":{}", "!\n{}\n");
	EXPECT("GET / HTTP/1.1\r\n", "!\n!\n!\n");
	EXPECT("\x7f{}", "!\n{}\n");
	EXPECT("\xc3\xa4{}", "!\n{}\n");
}

static void what_is_nested_too_deep_is_one_error(void **state)
{
	const size_t deep = 1000;
	char stream[2 * 1000 + 3];

	(void)state;
	memset(stream, '[', deep);
	memset(stream + deep, ']', deep);
	memcpy(stream + 2 * deep, "{}", 3);
	expect(stream, 2 * deep + 2, "!\n{}\n");
	/* Kinds are not remembered down there, and strings still count. */
	memset(stream, '{', deep);
	memcpy(stream + deep - 5, "\"]]]\"", 5);
	memset(stream + deep, ']', deep - QMP_DEPTH_MAX - 5);
	memcpy(stream + 2 * deep - QMP_DEPTH_MAX - 5, "\xff{}", 4);
	expect(stream, 2 * deep - QMP_DEPTH_MAX - 5 + 3, "!\n!\n{}\n");
}

static void the_deepest_nesting_that_is_allowed_is_taken(void **state)
{
	char stream[2 * QMP_DEPTH_MAX + 1], expected[sizeof(stream) + 1];

	(void)state;
	memset(stream, '[', QMP_DEPTH_MAX);
	memset(stream + QMP_DEPTH_MAX, ']', QMP_DEPTH_MAX);
	stream[sizeof(stream) - 1] = 0;
	snprintf(expected, sizeof(expected), "%s\n", stream);
	expect(stream, sizeof(stream) - 1, expected);
}

static void a_message_beyond_the_limit_is_fatal(void **state)
{
	const size_t len = QMP_VALUE_MAX + 1;
	char *stream = malloc(len);

	(void)state;
	assert_non_null(stream);
	memset(stream, 'x', len);
	stream[0] = '{';
	stream[1] = '"';
	expect(stream, len - 1, "");
	expect(stream, len, "#\n");
	/* What is skipped counts too: nobody stays in a message for ever. */
	memset(stream, '[', len);
	expect(stream, len, "!\n#\n");
	/* White space between messages is not part of one. */
	memset(stream, ' ', len);
	expect(stream, len, "");
	free(stream);
}

static void the_largest_message_that_is_allowed_is_taken(void **state)
{
	char *stream = malloc(QMP_VALUE_MAX + 1), *expected = malloc(QMP_VALUE_MAX + 2);

	(void)state;
	assert_non_null(stream);
	assert_non_null(expected);
	memset(stream, ' ', QMP_VALUE_MAX);
	stream[0] = '{';
	stream[QMP_VALUE_MAX - 1] = '}';
	stream[QMP_VALUE_MAX] = 0;
	memcpy(expected, stream, QMP_VALUE_MAX);
	memcpy(expected + QMP_VALUE_MAX, "\n", 2);
	expect(stream, QMP_VALUE_MAX, expected);
	free(stream);
	free(expected);
}

static void an_idle_framer_holds_little_memory(void **state)
{
	struct qmp_framer framer = { 0 };
	struct outcome outcome = { 0 };
	size_t len = 100000;
	char *stream = malloc(len);

	(void)state;
	assert_non_null(stream);
	memset(stream, ' ', len);
	stream[0] = '[';
	stream[len - 1] = ']';
	assert_true(take(&framer, stream, len, &outcome));
	assert_true(take(&framer, "[]", 2, &outcome));
	assert_in_range(framer.allocated, 2, 4096);
	free(stream);
	free(outcome.text);
	qmp_framer_free(&framer);
}

/* Bytes that matter to the framer, and few others, so that they meet. */
static size_t random_stream(unsigned int *seed, char *stream, size_t max)
{
	static const char bytes[] = "{}[]{}[]\"\"''\\\\:, \n\ta1\x01\xff\x7f\xc3";
	size_t i, len = (size_t)rand_r(seed) % max;

	for (i = 0; i < len; i++)
		stream[i] = bytes[(size_t)rand_r(seed) % (sizeof(bytes) - 1)];
	return len;
}

static void where_the_stream_is_cut_makes_no_difference(void **state)
{
	unsigned int seed = (unsigned int)(uintptr_t)*state;
	char stream[200];
	int round;

	print_message("seed %u\n", seed);
	for (round = 0; round < 50000; round++) {
		struct qmp_framer whole = { 0 }, cut = { 0 };
		struct outcome expected = { 0 }, got = { 0 };
		size_t len = random_stream(&seed, stream, sizeof(stream)), at, n;

		take(&whole, stream, len, &expected);
		for (at = 0; at < len; at += n) {
			n = 1 + (size_t)rand_r(&seed) % 9;
			n = MIN(n, len - at);
			take(&cut, stream + at, n, &got);
		}
		assert_string_equal(got.text ? got.text : "", expected.text ? expected.text : "");
		free(expected.text);
		free(got.text);
		qmp_framer_free(&whole);
		qmp_framer_free(&cut);
	}
}

static void after_any_garbage_a_reset_and_a_command_get_through(void **state)
{
	unsigned int seed = (unsigned int)(uintptr_t)*state;
	char stream[200];
	int round;

	print_message("seed %u\n", seed);
	for (round = 0; round < 50000; round++) {
		struct qmp_framer framer = { 0 };
		struct outcome outcome = { 0 };
		size_t len = random_stream(&seed, stream, sizeof(stream));

		take(&framer, stream, len, &outcome);
		outcome.used = 0;
		take(&framer, "\xff{\"execute\":1}", 14, &outcome);
		assert_non_null(strstr(outcome.text, "{\"execute\":1}\n"));
		free(outcome.text);
		qmp_framer_free(&framer);
	}
}

int main(void)
{
	const char *given = getenv("UMBRA_SEED");
	void *seed = (void *)(uintptr_t)(given ? strtoul(given, NULL, 10) : 20240607);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_value_ends_where_its_brackets_close),
		cmocka_unit_test(brackets_and_quotes_in_strings_do_not_count),
		cmocka_unit_test(single_quotes_become_json),
		cmocka_unit_test(a_reset_byte_drops_what_is_unfinished),
		cmocka_unit_test(a_line_feed_in_a_string_drops_the_message),
		cmocka_unit_test(brackets_that_do_not_match_are_one_error),
		cmocka_unit_test(what_is_no_value_is_one_error),
		cmocka_unit_test(what_is_nested_too_deep_is_one_error),
		cmocka_unit_test(the_deepest_nesting_that_is_allowed_is_taken),
		cmocka_unit_test(a_message_beyond_the_limit_is_fatal),
		cmocka_unit_test(the_largest_message_that_is_allowed_is_taken),
		cmocka_unit_test(an_idle_framer_holds_little_memory),
		cmocka_unit_test_prestate(where_the_stream_is_cut_makes_no_difference, seed),
		cmocka_unit_test_prestate(after_any_garbage_a_reset_and_a_command_get_through,
					  seed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
