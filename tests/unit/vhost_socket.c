/* SPDX-License-Identifier: BSD-2-Clause */
/* Whole messages from pieces, with their fds, within a time limit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "open_fds.h"
#include "vhost_user/vhost_user_socket.h"
#include "vhost_wire.h"

#define SOON_MS 20 /* for waits that must run out */
#define LONG_MS 600000

static unsigned int fds_before;
static struct umbra_error err;
static int far_end;
static struct vhost_user_socket near_end;
static struct vhost_user_message got;
static struct wire_message out;

static int setup(void **state)
{
	int pair[2];

	(void)state;
	fds_before = open_fds();
	memset(&err, 0, sizeof(err));
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -1;
	far_end = pair[0];
	near_end = (struct vhost_user_socket){ pair[1], eventfd(0, EFD_CLOEXEC), "peer" };
	memset(&out, 0, sizeof(out));
	out.header = (struct vhost_user_header){ VHOST_USER_SET_MEM_TABLE, 1, 8 + 64 };
	for (unsigned int i = 0; i < 72; i++)
		out.payload.bytes[i] = (uint8_t)i;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	if (far_end >= 0)
		close(far_end);
	close(near_end.fd);
	close(near_end.stop_fd);
	return fds_before == open_fds() ? 0 : -1;
}

static void add_fds(unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		out.fds[out.fd_count++] = eventfd(i, EFD_CLOEXEC);
}

/* A whole message, or what ended the wait for it. */
static int receive(unsigned int timeout_ms)
{
	int64_t deadline = vhost_user_deadline(timeout_ms);
	size_t done = 0;

	for (;;) {
		int rc = vhost_user_socket_receive(&near_end, &got, &done, &err);
		bool other_ready;

		if (rc != -EAGAIN)
			return rc;
		rc = vhost_user_socket_wait(&near_end, POLLIN, -1, &other_ready, deadline, &err);
		if (rc) {
			if (done)
				vhost_user_message_close(&got);
			return rc;
		}
	}
}

static int send_burst(const struct vhost_user_message *m, unsigned int count,
		      unsigned int timeout_ms)
{
	int64_t deadline = vhost_user_deadline(timeout_ms);
	struct vhost_user_outgoing progress = { 0 };

	for (;;) {
		int rc = vhost_user_socket_send(&near_end, m, count, &progress, &err);
		bool other_ready;

		if (rc != -EAGAIN)
			return rc;
		rc = vhost_user_socket_wait(&near_end, POLLOUT, -1, &other_ready, deadline, &err);
		if (rc)
			return rc;
	}
}

/* What was received is what lies in `out`. */
static void assert_got_it(unsigned int fds)
{
	assert_memory_equal(&got.header, &out.header, sizeof(out.header));
	assert_memory_equal(&got.payload, &out.payload, out.header.size);
	assert_int_equal(got.fd_count, fds);
	for (unsigned int i = 0; i < fds; i++)
		assert_int_equal(fcntl(got.fds[i], F_GETFD), FD_CLOEXEC);
	vhost_user_message_close(&got);
}

static void a_message_arrives_with_its_fds_and_closes_them_on_exec(void **state)
{
	(void)state;
	add_fds(8);
	assert_int_equal(wire_send(far_end, &out), 0);
	assert_int_equal(receive(LONG_MS), 1);
	assert_got_it(8);
	wire_close_fds(&out);
}

static void a_message_in_single_bytes_keeps_the_fds_of_the_first(void **state)
{
	uint8_t bytes[128];
	size_t size = wire_encode(bytes, &out);

	(void)state;
	add_fds(2);
	for (size_t i = 0; i < size; i++)
		assert_int_equal(wire_send_bytes(far_end, bytes + i, 1, out.fds, i ? 0 : 2), 1);
	assert_int_equal(receive(LONG_MS), 1);
	assert_got_it(2);
	wire_close_fds(&out);
}

static void fds_that_come_with_later_pieces_count_too(void **state)
{
	uint8_t bytes[128];
	size_t size = wire_encode(bytes, &out);

	(void)state;
	add_fds(3);
	wire_send_bytes(far_end, bytes, 5, out.fds, 1);
	wire_send_bytes(far_end, bytes + 5, 7, out.fds + 1, 1);
	wire_send_bytes(far_end, bytes + 12, size - 12, out.fds + 2, 1);
	assert_int_equal(receive(LONG_MS), 1);
	assert_got_it(3);
	wire_close_fds(&out);
}

static void two_messages_in_one_write_stay_two(void **state)
{
	uint8_t bytes[256];
	size_t size = wire_encode(bytes, &out);

	(void)state;
	add_fds(1);
	memcpy(bytes + size, bytes, size);
	wire_send_bytes(far_end, bytes, 2 * size, out.fds, 1);
	assert_int_equal(receive(LONG_MS), 1);
	assert_got_it(1);
	assert_int_equal(receive(LONG_MS), 1);
	assert_got_it(0);
	wire_close_fds(&out);
}

static void more_fds_than_a_message_may_have_are_closed(void **state)
{
	uint8_t bytes[128];

	(void)state;
	wire_encode(bytes, &out);
	add_fds(9);
	assert_int_equal(wire_send(far_end, &out), 0);
	assert_int_equal(receive(LONG_MS), -EBADMSG);
	wire_close_fds(&out);
	teardown(NULL);
	setup(NULL);
	/* In two pieces, each of which is legal. */
	add_fds(5);
	wire_send_bytes(far_end, bytes, 6, out.fds, 5);
	wire_send_bytes(far_end, bytes + 6, 6, out.fds, 5);
	assert_int_equal(receive(LONG_MS), -EBADMSG);
	wire_close_fds(&out);
}

static void fds_lost_to_the_limit_of_open_files_are_an_error(void **state)
{
	struct rlimit limit, low;
	int rc;

	(void)state;
	add_fds(4);
	assert_int_equal(wire_send(far_end, &out), 0);
	wire_close_fds(&out);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	low = limit;
	low.rlim_cur = (rlim_t)near_end.stop_fd + 3; /* room for two of the four */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	rc = receive(LONG_MS);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	if (rc == 1) { /* valgrind keeps the limit from the kernel */
		vhost_user_message_close(&got);
		skip();
	}
	assert_int_equal(rc, -EBADMSG);
}

static void an_announced_payload_beyond_the_bound_is_refused_unread(void **state)
{
	static const uint32_t sizes[] = { VHOST_USER_PAYLOAD_MAX + 1, 1u << 31, UINT32_MAX };

	(void)state;
	for (unsigned int i = 0; i < 3; i++) {
		out.header.size = sizes[i];
		wire_send_bytes(far_end, &out.header, sizeof(out.header), NULL, 0);
		assert_int_equal(receive(LONG_MS), -EBADMSG);
	}
	out.header.size = VHOST_USER_PAYLOAD_MAX;
	assert_int_equal(wire_send(far_end, &out), 0);
	assert_int_equal(receive(LONG_MS), 1);
}

static void the_end_between_messages_is_the_end_and_within_one_an_error(void **state)
{
	uint8_t bytes[128];
	size_t size = wire_encode(bytes, &out);

	(void)state;
	for (size_t cut = 0; cut < size; cut++) {
		add_fds(1);
		if (cut)
			wire_send_bytes(far_end, bytes, cut, out.fds, 1);
		close(far_end);
		far_end = -1;
		assert_int_equal(receive(LONG_MS), cut ? -ECONNRESET : 0);
		wire_close_fds(&out);
		assert_int_equal(teardown(NULL), 0);
		assert_int_equal(setup(NULL), 0);
	}
}

static void a_message_that_stays_incomplete_runs_out_of_time(void **state)
{
	(void)state;
	assert_int_equal(receive(SOON_MS), -ETIMEDOUT);
	add_fds(1);
	wire_send_bytes(far_end, &out.header, 11, out.fds, 1);
	assert_int_equal(receive(SOON_MS), -ETIMEDOUT);
	wire_close_fds(&out);
}

static void the_stop_ends_every_wait(void **state)
{
	bool other_ready;

	(void)state;
	wire_send_bytes(far_end, &out.header, 3, NULL, 0);
	assert_int_equal(eventfd_write(near_end.stop_fd, 1), 0);
	assert_int_equal(receive(LONG_MS), -ECANCELED);
	assert_int_equal(vhost_user_socket_wait(&near_end, POLLIN, -1, &other_ready,
						vhost_user_deadline(LONG_MS), &err),
			 -ECANCELED);
}

static void a_peer_that_does_not_read_stops_the_sender_in_time(void **state)
{
	int rc;

	(void)state;
	vhost_user_message_init(&got, VHOST_USER_SET_CONFIG, 0, VHOST_USER_PAYLOAD_MAX);
	do {
		rc = send_burst(&got, 1, SOON_MS);
	} while (rc == 0);
	assert_int_equal(rc, -ETIMEDOUT);
}

static void a_large_message_survives_a_small_buffer(void **state)
{
	struct wire_message in;
	int rc, size = 1; /* the kernel makes it its minimum */

	(void)state;
	assert_int_equal(setsockopt(near_end.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	vhost_user_message_init(&got, VHOST_USER_SET_CONFIG, 0, 1000);
	memset(got.payload.bytes, 0x5a, 1000);
	got.fds[got.fd_count++] = near_end.stop_fd;
	rc = send_burst(&got, 1, LONG_MS);
	assert_int_equal(rc, 0);
	got.fd_count = 0;
	assert_int_equal(wire_receive(far_end, &in), 1);
	assert_int_equal(in.fd_count, 1);
	assert_int_equal(in.payload.bytes[999], 0x5a);
	wire_close_fds(&in);
}

#define BURST VHOST_USER_BURST_MAX

/* Reads a burst; the result is how many messages were right. */
static void *read_burst(void *arg)
{
	uintptr_t right = 0;

	(void)arg;
	for (uint32_t i = 0; i < BURST; i++) {
		struct wire_message in;

		if (wire_receive(far_end, &in) != 1)
			break;
		right += in.header.request == i && in.header.size == i * 100 &&
			 in.fd_count == i % 3 && (!i || in.payload.bytes[i * 100 - 1] == i);
		wire_close_fds(&in);
	}
	return (void *)right;
}

static void a_burst_arrives_as_its_messages_each_with_its_fds(void **state)
{
	static struct vhost_user_message burst[BURST];
	int size = 1;

	(void)state;
	assert_int_equal(setsockopt(near_end.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	for (unsigned int round = 0; round < 100; round++) {
		pthread_t reader;
		void *right;

		for (uint32_t i = 0; i < BURST; i++) {
			vhost_user_message_init(&burst[i], i, 0, i * 100);
			memset(burst[i].payload.bytes, (int)i, i * 100);
			while (burst[i].fd_count < i % 3)
				burst[i].fds[burst[i].fd_count++] = near_end.stop_fd;
		}
		assert_int_equal(pthread_create(&reader, NULL, read_burst, NULL), 0);
		assert_int_equal(send_burst(burst, BURST, LONG_MS), 0);
		pthread_join(reader, &right);
		assert_int_equal((uintptr_t)right, BURST);
	}
}

static void a_closed_peer_is_a_reset_to_the_sender_not_a_signal(void **state)
{
	(void)state;
	close(far_end);
	far_end = -1;
	vhost_user_message_init(&got, VHOST_USER_SET_OWNER, 0, 0);
	assert_int_equal(send_burst(&got, 1, LONG_MS), -ECONNRESET);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_message_arrives_with_its_fds_and_closes_them_on_exec),
		T(a_message_in_single_bytes_keeps_the_fds_of_the_first),
		T(fds_that_come_with_later_pieces_count_too),
		T(two_messages_in_one_write_stay_two),
		T(more_fds_than_a_message_may_have_are_closed),
		T(fds_lost_to_the_limit_of_open_files_are_an_error),
		T(an_announced_payload_beyond_the_bound_is_refused_unread),
		T(the_end_between_messages_is_the_end_and_within_one_an_error),
		T(a_message_that_stays_incomplete_runs_out_of_time),
		T(the_stop_ends_every_wait),
		T(a_peer_that_does_not_read_stops_the_sender_in_time),
		T(a_large_message_survives_a_small_buffer),
		T(a_burst_arrives_as_its_messages_each_with_its_fds),
		T(a_closed_peer_is_a_reset_to_the_sender_not_a_signal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
