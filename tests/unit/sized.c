/* SPDX-License-Identifier: BSD-2-Clause */
/* Promises about structs that programs of other versions of the library have. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/sized.h"
#include "umbra/balloon.h"
#include "umbra/shadow_queue.h"
#include "umbra/sized.h"

struct old {
	size_t struct_size;
	uint32_t a;
};

struct present {
	size_t struct_size;
	uint32_t a;
	uint32_t unused; /* was padding */
	uint64_t b;
};

struct future {
	size_t struct_size;
	uint32_t a;
	uint32_t unused;
	uint64_t b, c;
};

static struct umbra_error err;

static int take(struct present *out, const void *in)
{
	memset(out, 0xee, sizeof(*out));
	return sized_take(out, sizeof(*out), in, SIZED_UPTO(struct old, a), "a struct", &err);
}

static void what_an_older_program_did_not_know_is_zero(void **state)
{
	const struct old in = { UMBRA_SIZED(old), .a = 7 };
	struct present out;

	(void)state;
	assert_int_equal(take(&out, &in), 0);
	assert_int_equal(out.a, 7);
	assert_int_equal(out.b, 0);
}

static void a_newer_program_that_says_no_more_is_understood(void **state)
{
	struct future in = { UMBRA_SIZED(future), .a = 7, .b = 8 };
	struct present out;

	(void)state;
	assert_int_equal(take(&out, &in), 0);
	assert_int_equal(out.b, 8);
	in.c = 1;
	assert_int_equal(take(&out, &in), -E2BIG);
	assert_non_null(strstr(err.text, "a struct: byte 24 of 32"));
	assert_non_null(strstr(err.text, "which knows 24"));
}

static void a_size_of_no_version_is_refused(void **state)
{
	struct present in = { .a = 7 }, out;

	(void)state;
	for (in.struct_size = 0; in.struct_size < SIZED_UPTO(struct old, a); in.struct_size++) {
		assert_int_equal(take(&out, &in), -EINVAL);
		assert_non_null(strstr(err.text, "expected UMBRA_SIZED()"));
	}
}

static void nothing_is_written_beyond_the_room_and_nothing_in_it_is_left(void **state)
{
	const struct present in = { UMBRA_SIZED(present), .a = 7, .b = 8 };
	unsigned char room[64], expect[64];

	(void)state;
	for (size_t size = 0; size <= sizeof(room) - 8; size++) {
		memset(room, 0xee, sizeof(room));
		sized_give(room, size, &in, sizeof(in));
		memset(expect, 0, sizeof(expect));
		memcpy(expect, &in, size < sizeof(in) ? size : sizeof(in));
		memset(expect + size, 0xee, sizeof(expect) - size);
		assert_memory_equal(room, expect, sizeof(room));
	}
}

/* Each create of the public headers judges the size first. */
static void no_config_is_read_without_its_size(void **state)
{
	const struct umbra_shadow_queue_config queue = { 0 };
	const struct umbra_driver_ring_config driver = { .size = 8 };
	const struct umbra_device_ring_config device = { 0 };
	const struct umbra_balloon_config balloon = { .socket_path = "/nowhere/at all" };
	struct umbra_shadow_queue *q = NULL;
	struct umbra_driver_ring *r = NULL;
	struct umbra_device_ring *d = NULL;
	struct umbra_balloon *b = NULL;

	(void)state;
	assert_int_equal(umbra_shadow_queue_create(&queue, &q, &err), -EINVAL);
	assert_non_null(strstr(err.text, "struct umbra_shadow_queue_config: its struct_size is 0"));
	assert_int_equal(umbra_driver_ring_create(&driver, &r, &err), -EINVAL);
	assert_non_null(strstr(err.text, "struct umbra_driver_ring_config"));
	assert_int_equal(umbra_device_ring_create(&device, &d, &err), -EINVAL);
	assert_non_null(strstr(err.text, "struct umbra_device_ring_config"));
	assert_int_equal(umbra_balloon_create(&balloon, &b, &err), -EINVAL);
	assert_non_null(strstr(err.text, "struct umbra_balloon_config"));
	assert_true(!q && !r && !d && !b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_an_older_program_did_not_know_is_zero),
		cmocka_unit_test(a_newer_program_that_says_no_more_is_understood),
		cmocka_unit_test(a_size_of_no_version_is_refused),
		cmocka_unit_test(nothing_is_written_beyond_the_room_and_nothing_in_it_is_left),
		cmocka_unit_test(no_config_is_read_without_its_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
