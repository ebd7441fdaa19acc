/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Promises of host/discarder.h, with real files: what is discarded is really given
 * back, and nothing else is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/fd.h"
#include "host/discarder.h"
#include "host/mapping.h"

#define MIB (UINT64_C(1) << 20)
#define SIZE (8 * MIB)
#define PAGE 4096u

/* A region of a new file, filled. */
static struct memory_region region_make(unsigned int flags, uint64_t gpa)
{
	struct mapping_request request = { .gpa = { gpa }, .uva = { gpa }, .size = SIZE };
	int fd = memfd_create("guest", MFD_CLOEXEC | flags);
	struct memory_region region;
	struct umbra_error err;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, SIZE), 0);
	assert_int_equal(mapping_create(&fd, &request, &region, &err), 0);
	memset(region.host, 0x5a, SIZE);
	return region;
}

static struct memory *memory_make(struct memory_region *regions, unsigned int count)
{
	struct memory *memory;
	struct umbra_error err;

	assert_int_equal(memory_create(regions, count, &memory, &err), 0);
	return memory;
}

static void what_is_discarded_is_given_back_and_reads_as_zeros(void **state)
{
	struct memory_region r = region_make(0, 0);
	struct balloon_discard d[2] = {
		{ .region = &r, .offset = PAGE, .length = MIB },
		{ .region = &r, .offset = 4 * MIB, .length = 2 * MIB, .result = -1 },
	};
	struct memory *memory = memory_make(&r, 1);

	(void)state;
	assert_int_equal(discarder_held(memory), SIZE);
	assert_int_equal(discarder_run(d, 2), 3 * MIB);
	assert_int_equal(d[0].result, 0);
	assert_int_equal(d[1].result, 0);
	assert_int_equal(discarder_held(memory), SIZE - 3 * MIB);
	assert_int_equal(r.host[PAGE - 1], 0x5a);
	assert_int_equal(r.host[PAGE], 0);
	assert_int_equal(r.host[PAGE + MIB - 1], 0);
	assert_int_equal(r.host[PAGE + MIB], 0x5a);
	/* Nothing was there any more but the page that was just read. */
	assert_true(discarder_run(d, 2) <= 2 * PAGE);
	memory_unref(&memory);
	memory_backing_unref(r.backing);
}

static void a_file_that_takes_no_hole_by_its_fd_is_reached_through_its_mapping(void **state)
{
	struct memory_region r = region_make(0, 0);
	struct balloon_discard d = { .region = &r, .offset = 0, .length = MIB };
	char path[64];
	int fd;

	(void)state;
	/* The fd that the backing has can only be read now; the mapping can be written. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", r.backing->fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(dup2(fd, r.backing->fd), r.backing->fd);
	close(fd);
	assert_int_equal(discarder_run(&d, 1), MIB);
	assert_int_equal(d.result, 0);
	assert_int_equal(r.host[0], 0);
	d.offset = MIB;
	discarder_run(&d, 1); /* as it was found out */
	assert_int_equal(d.result, 0);
	assert_int_equal(r.host[MIB], 0);
	memory_backing_unref(r.backing);
}

static void a_discard_that_fails_says_so_and_the_others_happen(void **state)
{
	struct memory_region r = region_make(0, 0), none = { .size = SIZE, .host = r.host };
	struct balloon_discard d[2] = {
		{ .region = &none, .offset = 0, .length = MIB },
		{ .region = &r, .offset = 4 * MIB, .length = MIB },
	};

	(void)state;
	assert_int_equal(discarder_run(d, 2), MIB);
	assert_int_equal(d[0].result, -EBADF);
	assert_int_equal(d[1].result, 0);
	assert_int_equal(r.host[0], 0x5a);
	memory_backing_unref(r.backing);
}

static void a_sealed_file_is_left_as_it_is(void **state)
{
	struct memory_region r = region_make(MFD_ALLOW_SEALING, 0);
	struct balloon_discard d = { .region = &r, .offset = 0, .length = MIB };

	(void)state;
	assert_int_equal(fcntl(r.backing->fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
	assert_int_equal(discarder_run(&d, 1), 0);
	assert_int_equal(d.result, -EPERM);
	assert_int_equal(r.host[0], 0x5a);
	memory_backing_unref(r.backing);
}

static void many_files_at_once_all_get_theirs(void **state)
{
	struct memory_region r[12];
	struct balloon_discard d[36];
	struct memory *memory;

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(r); i++)
		r[i] = region_make(0, i * SIZE);
	for (unsigned int i = 0; i < ARRAY_SIZE(d); i++)
		d[i] = (struct balloon_discard){
			.region = &r[i % ARRAY_SIZE(r)],
			.offset = i / ARRAY_SIZE(r) * MIB,
			.length = MIB,
			.result = -1,
		};
	memory = memory_make(r, ARRAY_SIZE(r));
	/* The bytes of the files beyond the eighth are given back, and not counted. */
	assert_in_range(discarder_run(d, ARRAY_SIZE(d)), 21 * MIB, 36 * MIB);
	for (unsigned int i = 0; i < ARRAY_SIZE(d); i++)
		assert_int_equal(d[i].result, 0);
	assert_int_equal(discarder_held(memory), ARRAY_SIZE(r) * SIZE - ARRAY_SIZE(d) * MIB);
	memory_unref(&memory);
	for (unsigned int i = 0; i < ARRAY_SIZE(r); i++)
		memory_backing_unref(r[i].backing);
}

static void large_discards_in_two_files_go_side_by_side_and_are_done_on_return(void **state)
{
	struct memory_region r[2];
	struct balloon_discard d[2];
	struct umbra_error err;

	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		struct mapping_request request = { .gpa = { i << 30 },
						   .uva = { i << 30 },
						   .size = 96 * MIB };
		int fd = memfd_create("guest", MFD_CLOEXEC);

		assert_int_equal(ftruncate(fd, 96 * MIB), 0);
		assert_int_equal(mapping_create(&fd, &request, &r[i], &err), 0);
		memset(r[i].host, 1, 96 * MIB);
		d[i] = (struct balloon_discard){ .region = &r[i],
						 .length = 96 * MIB,
						 .result = -1 };
	}
	assert_int_equal(discarder_run(d, 2), 192 * MIB);
	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(d[i].result, 0);
		assert_int_equal(r[i].host[48 * MIB], 0);
		memory_backing_unref(r[i].backing);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_discarded_is_given_back_and_reads_as_zeros),
		cmocka_unit_test(
			a_file_that_takes_no_hole_by_its_fd_is_reached_through_its_mapping),
		cmocka_unit_test(a_discard_that_fails_says_so_and_the_others_happen),
		cmocka_unit_test(a_sealed_file_is_left_as_it_is),
		cmocka_unit_test(many_files_at_once_all_get_theirs),
		cmocka_unit_test(
			large_discards_in_two_files_go_side_by_side_and_are_done_on_return),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
