/* SPDX-License-Identifier: BSD-2-Clause */
/* Memory files, mapped: what is taken, what is refused, and what is given back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/mapping.h"
#include "host/mapping_guard.h"
#include "open_fds.h"
#include "vhost_wire.h"

static unsigned int fds_before;
static struct umbra_error err;

static int setup(void **state)
{
	(void)state;
	fds_before = open_fds();
	memset(&err, 0, sizeof(err));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	return fds_before == open_fds() ? 0 : -1;
}

static int make_file(uint64_t size, unsigned int flags)
{
	int fd = memfd_create("test", MFD_CLOEXEC | flags);

	if (fd >= 0)
		assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

static int map(int *fd, uint64_t offset, uint64_t size, struct memory_region *region)
{
	struct mapping_request request = {
		.gpa = { 0x1000 }, .uva = { 0x2000 }, .size = size, .offset = offset
	};

	return mapping_create(fd, &request, region, &err);
}

static void a_region_shows_its_part_of_the_file_and_ends_with_its_last_reference(void **state)
{
	struct memory_region region;
	int fd = make_file(3 * 4096, 0), kept;
	uint8_t byte = 0;

	(void)state;
	assert_int_equal(pwrite(fd, "x", 1, 4096 + 8), 1);
	assert_int_equal(map(&fd, 4096, 8192, &region), 0);
	assert_int_equal(fd, -1);
	assert_int_equal(region.gpa.v, 0x1000);
	assert_int_equal(region.uva.v, 0x2000);
	assert_int_equal(region.size, 8192);
	assert_int_equal(region.backing->fd_offset, 4096);
	assert_int_equal(region.host[8], 'x');
	region.host[8191] = 'y';
	kept = region.backing->fd;
	assert_int_equal(pread(kept, &byte, 1, 3 * 4096 - 1), 1);
	assert_int_equal(byte, 'y');
	memory_backing_ref(region.backing);
	memory_backing_unref(region.backing);
	assert_int_equal(region.host[8], 'x');
	memory_backing_unref(region.backing);
	assert_int_equal(fcntl(kept, F_GETFD), -1);
}

static void a_region_may_begin_and_end_within_a_page(void **state)
{
	struct memory_region region;
	int fd = make_file(4096 + 100, 0);

	(void)state;
	assert_int_equal(pwrite(fd, "x", 1, 4096 + 99), 1);
	assert_int_equal(map(&fd, 4000, 196, &region), 0);
	assert_int_equal(region.host[195], 'x');
	assert_int_equal(region.backing->fd_offset, 4000);
	memory_backing_unref(region.backing);
}

static void what_the_file_does_not_hold_is_refused_with_the_numbers(void **state)
{
	static const struct {
		uint64_t offset, size;
	} wrong[] = {
		{ 0, 8193 },       { 4096, 4097 },           { 8192, 1 },
		{ UINT64_MAX, 1 }, { UINT64_MAX, 4096 },     { 4096, UINT64_MAX - 4095 },
		{ 0, UINT64_MAX }, { 0, (uint64_t)1 << 63 }, { 0, 0 },
		{ 0, INT64_MAX },
	};
	struct memory_region region;
	int fd = make_file(8192, 0);

	(void)state;
	for (unsigned int i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_int_equal(map(&fd, wrong[i].offset, wrong[i].size, &region), -EINVAL);
		assert_true(fd >= 0);
	}
	assert_int_equal(map(&fd, 4096, 4097, &region), -EINVAL);
	assert_string_equal(err.text, "memory region at gpa 0x1000: file has 0x2000 bytes; offset "
				      "0x1000 and 0x1001 bytes need 0x2001");
	close(fd);
}

static void what_is_not_a_memory_file_is_refused(void **state)
{
	struct memory_region region;
	int fd = eventfd(0, EFD_CLOEXEC);

	(void)state;
	assert_int_equal(map(&fd, 0, 4096, &region), -EINVAL);
	close(fd);
	fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
	assert_int_equal(map(&fd, 0, 4096, &region), -EINVAL);
	close(fd);
	fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	assert_int_equal(map(&fd, 0, 4096, &region), -EACCES);
	close(fd);
	fd = -1;
	assert_int_equal(map(&fd, 0, 4096, &region), -EBADF);
}

static void huge_pages_are_mapped_and_unmapped_whole(void **state)
{
	struct memory_region region;
	int fd = make_file(4u << 20, MFD_HUGETLB);
	struct statfs fs;

	(void)state;
	if (fd < 0)
		skip();
	assert_int_equal(fstatfs(fd, &fs), 0);
	if (fs.f_bsize != 2 << 20) {
		close(fd);
		skip();
	}
	/* MAP_NORESERVE: no huge page is needed before the first touch. */
	assert_int_equal(map(&fd, (2u << 20) + 4096, 8192, &region), 0);
	assert_int_equal((uintptr_t)region.host % (2u << 20), 4096);
	memory_backing_unref(region.backing);
}

static void own_memory_is_zero_and_cannot_change_its_size(void **state)
{
	struct memory_region region;
	int fd;

	(void)state;
	assert_int_equal(mapping_create_own(5000, &region, &err), 0);
	assert_int_equal(region.size, 8192);
	assert_int_equal(region.backing->fd_offset, 0);
	for (unsigned int i = 0; i < 8192; i++)
		assert_int_equal(region.host[i], 0);
	fd = region.backing->fd;
	assert_int_equal(ftruncate(fd, 4096), -1);
	assert_int_equal(ftruncate(fd, 16384), -1);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	memory_backing_unref(region.backing);
	assert_int_equal(mapping_create_own(0, &region, &err), -EINVAL);
	assert_int_equal(mapping_create_own(UINT64_MAX, &region, &err), -EINVAL);
	assert_true(mapping_create_own((uint64_t)1 << 60, &region, &err) < 0);
}

static void a_file_that_is_shrunk_under_us_reads_as_zeros_and_is_marked(void **state)
{
	struct memory_region region;
	int fd = make_file(4 * 4096, 0), theirs;

	(void)state;
	assert_int_equal(mapping_guard_install(), 0);
	theirs = dup(fd);
	assert_int_equal(map(&fd, 0, 4 * 4096, &region), 0);
	memset(region.host, 0x55, 4 * 4096);
	assert_int_equal(ftruncate(theirs, 4096), 0);
	assert_false(region.backing->cut);
	assert_int_equal(region.host[0], 0x55);
	assert_int_equal(((volatile uint8_t *)region.host)[2 * 4096 + 7], 0);
	assert_true(region.backing->cut);
	((volatile uint8_t *)region.host)[3 * 4096] = 1; /* writing does not hurt either */
	memory_backing_unref(region.backing);
	close(theirs);
}

static void a_bus_error_that_is_none_of_ours_still_ends_the_process(void **state)
{
	int status;
	pid_t child;

	(void)state;
	child = fork(); /* before any other test has installed the handler */
	assert_true(child >= 0);
	if (child == 0) {
		struct rlimit no_core = { 0 };
		int fd = make_file(4096, 0);
		volatile uint8_t *p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);

		setrlimit(RLIMIT_CORE, &no_core);
		signal(SIGBUS, SIG_DFL); /* the test framework has one of its own */
		if (mapping_guard_install() || ftruncate(fd, 0))
			_exit(1);
		_exit(p[0]);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGBUS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			a_bus_error_that_is_none_of_ours_still_ends_the_process, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_file_that_is_shrunk_under_us_reads_as_zeros_and_is_marked, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			a_region_shows_its_part_of_the_file_and_ends_with_its_last_reference, setup,
			teardown),
		cmocka_unit_test_setup_teardown(a_region_may_begin_and_end_within_a_page, setup,
						teardown),
		cmocka_unit_test_setup_teardown(
			what_the_file_does_not_hold_is_refused_with_the_numbers, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_not_a_memory_file_is_refused, setup,
						teardown),
		cmocka_unit_test_setup_teardown(huge_pages_are_mapped_and_unmapped_whole, setup,
						teardown),
		cmocka_unit_test_setup_teardown(own_memory_is_zero_and_cannot_change_its_size,
						setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
