/* SPDX-License-Identifier: BSD-2-Clause */
/* Who is behind a socket, and whether it has ended. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "host/peer_process.h"

static char folder[] = "/tmp/umbra-process-XXXXXX";
static struct sockaddr_un address = { .sun_family = AF_UNIX };

static int folder_make(void **state)
{
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/back-end", folder);
	return 0;
}

static int folder_remove(void **state)
{
	(void)state;
	unlink(address.sun_path);
	return rmdir(folder);
}

/* In a child, which ends without the handlers of its parent. */
static void need(bool is_so)
{
	if (!is_so)
		_exit(1);
}

/* Listen, say so, and hold all connections until killed. */
static void serve(int said_fd, const char *name)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, name);
	unlink(address.sun_path);
	need(fd >= 0 && !bind(fd, (struct sockaddr *)&address, sizeof(address)) && !listen(fd, 4));
	need(write(said_fd, "", 1) == 1);
	for (;;)
		pause();
}

static pid_t start(const char *name)
{
	int said[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(said), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		serve(said[1], name);
	close(said[1]);
	assert_int_equal(read(said[0], &byte, 1), 1);
	close(said[0]);
	return pid;
}

static int connect_to_it(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void end(pid_t pid)
{
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void a_process_is_seen_to_end_after_its_connection_was_closed(void **state)
{
	struct peer_process p = PEER_PROCESS_NONE;
	pid_t pid = start("server");
	char name[PEER_NAME_SIZE];
	int fd = connect_to_it();

	(void)state;
	peer_process_meet(&p, fd);
	assert_int_equal(p.pid, pid);
	snprintf(name, sizeof(name), "pid %d, server", (int)pid);
	assert_string_equal(p.name, name);
	assert_string_equal(p.doubt, "");
	assert_int_equal(peer_process_look(&p), PEER_PROCESS_LIVES);

	close(fd);
	assert_int_equal(peer_process_look(&p), PEER_PROCESS_LIVES);
	assert_int_equal(kill(pid, SIGSTOP), 0);
	assert_int_equal(peer_process_look(&p), PEER_PROCESS_LIVES);
	end(pid);
	assert_int_equal(peer_process_look(&p), PEER_PROCESS_ENDED);

	/* One that comes after it at the same place is another. */
	pid = start("server");
	assert_int_equal(peer_process_look(&p), PEER_PROCESS_ENDED);
	fd = connect_to_it();
	peer_process_meet(&p, fd);
	assert_int_equal(peer_process_look(&p), PEER_PROCESS_LIVES);
	end(pid);
	close(fd);
	peer_process_forget(&p);
	assert_int_equal(peer_process_look(&p), PEER_PROCESS_UNKNOWN);
}

/* Who waits for its child's end sees it; and so does who has only this. */
static void a_zombie_has_ended(void **state)
{
	struct peer_process p = PEER_PROCESS_NONE;
	pid_t pid = start("server");
	int fd = connect_to_it();
	struct pollfd its_end;

	(void)state;
	peer_process_meet(&p, fd);
	close(fd);
	assert_int_equal(kill(pid, SIGKILL), 0);
	its_end = (struct pollfd){ .fd = p.pidfd, .events = POLLIN };
	assert_int_equal(poll(&its_end, 1, -1), 1);
	assert_int_equal(peer_process_look(&p), PEER_PROCESS_ENDED);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	peer_process_forget(&p);
}

/* The parent of a daemon listens, and is gone when somebody connects. */
static void who_has_left_the_socket_to_a_child_counts_for_nothing(void **state)
{
	struct peer_process p = PEER_PROCESS_NONE;
	int said[2], done[2], fd;
	char byte;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(said), 0);
	assert_int_equal(pipe(done), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		int listening = socket(AF_UNIX, SOCK_STREAM, 0);

		unlink(address.sun_path);
		need(!bind(listening, (struct sockaddr *)&address, sizeof(address)) &&
		     !listen(listening, 4));
		if (!fork()) {
			close(done[1]);
			need(write(said[1], "", 1) == 1);
			_exit(read(done[0], &byte, 1) != 0);
		}
		_exit(0);
	}
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(read(said[0], &byte, 1), 1);
	fd = connect_to_it();
	peer_process_meet(&p, fd);
	assert_int_equal(peer_process_look(&p), PEER_PROCESS_UNKNOWN);
	assert_int_equal(p.pid, pid);
	assert_string_equal(p.doubt,
			    "the process that opened its socket has ended, and another serves");
	peer_process_forget(&p);
	close(fd);
	for (int i = 0; i < 2; i++) {
		close(said[i]);
		close(done[i]); /* the child ends */
	}
}

static void a_service_managers_end_is_nobodys(void **state)
{
	struct peer_process p = PEER_PROCESS_NONE;
	pid_t pid = start("systemd");
	int fd = connect_to_it();

	(void)state;
	peer_process_meet(&p, fd);
	assert_int_equal(peer_process_look(&p), PEER_PROCESS_UNKNOWN);
	assert_string_equal(p.doubt, "a service manager opened its socket");
	end(pid);
	assert_int_equal(peer_process_look(&p), PEER_PROCESS_UNKNOWN);
	close(fd);
	peer_process_forget(&p);
}

static void what_is_no_unix_socket_has_nobody(void **state)
{
	struct peer_process p = PEER_PROCESS_NONE;
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	peer_process_meet(&p, fds[0]);
	assert_int_equal(peer_process_look(&p), PEER_PROCESS_UNKNOWN);
	assert_string_equal(p.name, "somebody");
	assert_int_equal(p.pid, 0);
	assert_string_not_equal(p.doubt, "");
	peer_process_forget(&p);
	close(fds[0]);
	close(fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_process_is_seen_to_end_after_its_connection_was_closed),
		cmocka_unit_test(a_zombie_has_ended),
		cmocka_unit_test(who_has_left_the_socket_to_a_child_counts_for_nothing),
		cmocka_unit_test(a_service_managers_end_is_nobodys),
		cmocka_unit_test(what_is_no_unix_socket_has_nobody),
	};

	return cmocka_run_group_tests_name("peer_process", tests, folder_make, folder_remove);
}
