/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Promises of host/memory_hold.h, with real files and real locks: who pins and who
 * discards see each other, although their fds are one description, and the registry
 * names who it is, and believes nobody else.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "host/discard_policy.h"
#include "host/discarder.h"
#include "host/mapping.h"
#include "host/memory_hold.h"
#include "host/registry.h"

#define MIB (UINT64_C(1) << 20)
#define SIZE (4 * MIB)

/* What two processes have of one file that a VMM has sent to both: fds of one
 * description. */
static struct memory_region shadow, balloon;
static const struct discard_policy policy;

static struct memory_region region_make(int fd)
{
	struct mapping_request request = { .size = SIZE };
	struct memory_region region;
	struct umbra_error err;
	int own = dup(fd);

	assert_true(own >= 0);
	assert_int_equal(mapping_create(&own, &request, &region, &err), 0);
	return region;
}

static int setup(void **state)
{
	int fd = memfd_create("guest", MFD_CLOEXEC);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, SIZE), 0);
	shadow = region_make(fd);
	balloon = region_make(fd);
	close(fd);
	memset(balloon.host, 0x5a, SIZE);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	if (shadow.backing)
		memory_backing_unref(shadow.backing);
	memory_backing_unref(balloon.backing);
	shadow.backing = NULL;
	return 0;
}

static int discard(uint64_t offset)
{
	struct balloon_discard d = {
		.region = &balloon, .offset = offset, .length = MIB, .result = -1
	};

	discarder_run(&d, 1);
	return d.result;
}

static void expect_kept(const char *who)
{
	char text[UMBRA_ERROR_SIZE];

	assert_int_equal(balloon.backing->keeps, BALLOON_KEEP_HELD);
	snprintf(text, sizeof(text), "process %d, for %s", (int)getpid(), who);
	assert_string_equal(balloon.backing->keep_who, text);
}

static void what_a_device_has_pinned_is_kept_from_the_beginning(void **state)
{
	(void)state;
	assert_int_equal(memory_hold_pin(shadow.backing, "/dev/vhost-vdpa-0"), 0);
	discard_policy_judge(&policy, balloon.backing);
	expect_kept("/dev/vhost-vdpa-0");
	assert_int_equal(discard(0), BALLOON_KEPT);
	assert_int_equal(balloon.host[0], 0x5a);
}

static void what_a_device_pins_later_is_kept_from_the_next_discard_on(void **state)
{
	(void)state;
	discard_policy_judge(&policy, balloon.backing);
	assert_int_equal(balloon.backing->keeps, BALLOON_KEEP_NOTHING);
	assert_int_equal(discard(0), 0);
	assert_int_equal(balloon.host[0], 0);
	assert_int_equal(memory_hold_pin(shadow.backing, "/dev/vhost-vdpa-1"), 0);
	assert_int_equal(discard(MIB), BALLOON_KEPT);
	assert_int_equal(balloon.host[MIB], 0x5a);
	expect_kept("/dev/vhost-vdpa-1");
	/* Also when the device has gone: whoever died may have let go of it last. */
	memory_backing_unref(shadow.backing);
	shadow.backing = NULL;
	discard_policy_judge(&policy, balloon.backing);
	assert_int_equal(discard(2 * MIB), BALLOON_KEPT);
	assert_int_equal(balloon.host[2 * MIB], 0x5a);
}

static void a_table_that_is_sent_again_is_judged_anew(void **state)
{
	(void)state;
	assert_int_equal(memory_hold_pin(shadow.backing, "/dev/vhost-vdpa-0"), 0);
	discard_policy_judge(&policy, balloon.backing);
	assert_int_equal(balloon.backing->keeps, BALLOON_KEEP_HELD);
	memory_backing_unref(balloon.backing);
	balloon = region_make(shadow.backing->fd);
	memory_backing_unref(shadow.backing);
	shadow.backing = NULL;
	discard_policy_judge(&policy, balloon.backing);
	assert_int_equal(balloon.backing->keeps, BALLOON_KEEP_NOTHING);
	assert_int_equal(discard(0), 0);
}

static void who_pins_sees_that_somebody_discards(void **state)
{
	(void)state;
	assert_int_equal(memory_hold_open(balloon.backing), 0);
	assert_true(memory_hold_discard(balloon.backing));
	assert_int_equal(memory_hold_pin(shadow.backing, "x"), 0);
	assert_true(memory_hold_is_discarding(shadow.backing));
	assert_false(memory_hold_discard(balloon.backing)); /* and lets go of it */
	assert_false(memory_hold_is_discarding(shadow.backing));
}

static void a_stranger_with_a_lock_keeps_memory_and_holds_nobody_up(void **state)
{
	struct flock all = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char path[64];
	int fd;

	(void)state;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", shadow.backing->fd);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &all), 0);
	discard_policy_judge(&policy, balloon.backing);
	assert_int_equal(balloon.backing->keeps, BALLOON_KEEP_HELD);
	assert_string_equal(balloon.backing->keep_who, "a process that has left no name");
	assert_int_equal(discard(0), BALLOON_KEPT);
	assert_int_equal(memory_hold_pin(shadow.backing, "x"), -EAGAIN);
	close(fd);
}

/* --- the registry ---------------------------------------------------------------- */

static char folder[64], text[UMBRA_ERROR_SIZE];

static int registry_setup(void **state)
{
	char parent[] = "/tmp/umbra-registry-XXXXXX";

	(void)state;
	assert_non_null(mkdtemp(parent));
	setenv("XDG_RUNTIME_DIR", parent, 1);
	snprintf(folder, sizeof(folder), "%s/umbra", parent);
	return 0;
}

static int registry_teardown(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", getenv("XDG_RUNTIME_DIR"));
	unsetenv("XDG_RUNTIME_DIR");
	return system(command) ? -1 : 0;
}

static int entry_make(const char *name, const char *line, mode_t mode)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(fchmod(fd, mode), 0);
	assert_int_equal(write(fd, line, strlen(line)), strlen(line));
	return fd;
}

static bool exists(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return !access(path, F_OK);
}

static void an_entry_lives_as_long_as_somebody_stands_for_it(void **state)
{
	struct registry_entry entry = REGISTRY_NO_ENTRY;
	int fd;

	(void)state;
	assert_false(registry_find(0xabc, 0xdef1, text, sizeof(text)));
	registry_enter(&entry, 0xabc, 0xdef1, "/dev/vhost-vdpa-3");
	assert_true(registry_find(0xabc, 0xdef1, text, sizeof(text)));
	assert_non_null(strstr(text, "for /dev/vhost-vdpa-3"));
	assert_false(registry_find(0xabc, 0xdef, text, sizeof(text)));
	registry_leave(&entry);
	assert_false(registry_find(0xabc, 0xdef1, text, sizeof(text)));
	/* One whose owner was killed. */
	assert_int_equal(mkdir(folder, 0755), 0);
	fd = entry_make("abc-def1-77-1", "process 77, for x", 0644);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_true(registry_find(0xabc, 0xdef1, text, sizeof(text)));
	close(fd);
	assert_false(registry_find(0xabc, 0xdef1, text, sizeof(text)));
	assert_false(exists("abc-def1-77-1"));
}

static void what_others_may_have_written_is_not_believed(void **state)
{
	char path[128];
	int fd;

	(void)state;
	assert_int_equal(mkdir(folder, 0755), 0);
	fd = entry_make("abc-def2-77-1", "process 77, for a\033[2Jx\n", 0644);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_true(registry_find(0xabc, 0xdef2, text, sizeof(text)));
	assert_string_equal(text, "process 77, for a?[2Jx?");
	/* A folder, or an entry, that others can write. */
	assert_int_equal(chmod(folder, 0777), 0);
	assert_false(registry_find(0xabc, 0xdef2, text, sizeof(text)));
	assert_int_equal(chmod(folder, 0755), 0);
	assert_int_equal(fchmod(fd, 0666), 0);
	assert_false(registry_find(0xabc, 0xdef2, text, sizeof(text)));
	assert_int_equal(fchmod(fd, 0644), 0);
	/* A link to one, a pipe that would have the reader wait. */
	snprintf(path, sizeof(path), "%s/abc-def3-77-1", folder);
	assert_int_equal(symlink("abc-def2-77-1", path), 0);
	assert_false(registry_find(0xabc, 0xdef3, text, sizeof(text)));
	snprintf(path, sizeof(path), "%s/abc-def4-77-1", folder);
	assert_int_equal(mkfifo(path, 0644), 0);
	assert_false(registry_find(0xabc, 0xdef4, text, sizeof(text)));
	assert_true(exists("abc-def3-77-1") && exists("abc-def4-77-1"));
	/* A folder that is a link. */
	snprintf(path, sizeof(path), "%s.other", folder);
	assert_int_equal(rename(folder, path), 0);
	assert_int_equal(symlink(path, folder), 0);
	assert_false(registry_find(0xabc, 0xdef2, text, sizeof(text)));
	close(fd);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define REGISTRY_TEST(name) cmocka_unit_test_setup_teardown(name, registry_setup, registry_teardown)
	const struct CMUnitTest tests[] = {
		TEST(what_a_device_has_pinned_is_kept_from_the_beginning),
		TEST(what_a_device_pins_later_is_kept_from_the_next_discard_on),
		TEST(a_table_that_is_sent_again_is_judged_anew),
		TEST(who_pins_sees_that_somebody_discards),
		TEST(a_stranger_with_a_lock_keeps_memory_and_holds_nobody_up),
		REGISTRY_TEST(an_entry_lives_as_long_as_somebody_stands_for_it),
		REGISTRY_TEST(what_others_may_have_written_is_not_believed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
