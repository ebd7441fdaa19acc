/* SPDX-License-Identifier: BSD-2-Clause */
/* A connection that is made again and again: with which pauses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "host/connector.h"

static char folder[] = "/tmp/umbra-connector-XXXXXX";
static char path[sizeof(folder) + 16];
static struct umbra_error err;

static int folder_make(void **state)
{
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/vmm", folder);
	return 0;
}

static int folder_remove(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(folder);
}

static int vmm_listen(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, path);
	unlink(path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	return fd;
}

/* The pauses before attempt 2, 3, ...: each twice the one before, up to a second. */
static unsigned int pause_after(unsigned int attempts)
{
	return attempts > 10 ? 1000 : 1u << (attempts - 1);
}

static void the_pauses_grow_to_a_second(void **state)
{
	struct connector c;

	(void)state;
	assert_int_equal(connector_open(&c, path, &err), 0);
	assert_int_equal(connector_wait_ms(&c), 0); /* the first is due at once */
	for (unsigned int n = 1; n < 20; n++) {
		assert_int_equal(connector_try(&c), -EAGAIN);
		assert_int_equal(c.backoff.pause_ms, pause_after(n));
		assert_in_range(connector_wait_ms(&c), 0, pause_after(n));
	}
	connector_close(&c);
}

static void a_vmm_that_hangs_up_at_once_is_not_called_without_a_break(void **state)
{
	struct connector c;
	int listener = vmm_listen();

	(void)state;
	assert_int_equal(connector_open(&c, path, &err), 0);
	for (unsigned int n = 1; n < 8; n++) {
		int ours = connector_try(&c), theirs;

		assert_true(ours >= 0);
		theirs = accept(listener, NULL, NULL);
		fd_close(&theirs);
		fd_close(&ours);
		assert_in_range(connector_wait_ms(&c), 0, pause_after(n));
		assert_int_equal(c.backoff.pause_ms, pause_after(n));
	}
	fd_close(&listener);
	connector_close(&c);
}

static void a_connection_that_held_starts_the_pauses_anew(void **state)
{
	struct connector c;
	int listener = vmm_listen(), ours;

	(void)state;
	assert_int_equal(connector_open(&c, path, &err), 0);
	for (unsigned int n = 1; n < 8; n++)
		backoff_failed(&c.backoff);
	ours = connector_try(&c);
	assert_true(ours >= 0);
	c.connected_us -= 2000000; /* it was made two seconds ago */
	fd_close(&ours);
	assert_in_range(connector_wait_ms(&c), 0, 1);
	assert_int_equal(c.backoff.pause_ms, 1);
	fd_close(&listener);
	connector_close(&c);
}

static void what_it_waits_for_is_told(void **state)
{
	struct connector c;
	char text[256];

	(void)state;
	assert_int_equal(connector_open(&c, path, &err), 0);
	connector_describe(&c, text, sizeof(text));
	assert_non_null(strstr(text, "about to connect; 0 attempts"));
	unlink(path);
	assert_int_equal(connector_try(&c), -EAGAIN);
	connector_describe(&c, text, sizeof(text));
	assert_non_null(strstr(text, "No such file or directory; 1 attempts, the last pause 1 ms"));
	assert_non_null(strstr(text, path));
	connector_close(&c);
}

static void a_path_that_fits_no_address_is_refused(void **state)
{
	struct connector c;
	char longer[200];

	(void)state;
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(connector_open(&c, longer, &err), -ENAMETOOLONG);
	assert_non_null(strstr(err.text, "199 bytes long, at most 107"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_pauses_grow_to_a_second),
		cmocka_unit_test(a_vmm_that_hangs_up_at_once_is_not_called_without_a_break),
		cmocka_unit_test(a_connection_that_held_starts_the_pauses_anew),
		cmocka_unit_test(what_it_waits_for_is_told),
		cmocka_unit_test(a_path_that_fits_no_address_is_refused),
	};

	return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
