/* SPDX-License-Identifier: BSD-2-Clause */
/* Threads that serve queues, and the fds that they share with peers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "host/interrupter.h"
#include "host/notifier.h"
#include "host/worker.h"

#define PATIENCE_MS 600000

static int eventfd_new(void)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	assert_true(fd >= 0);
	return fd;
}

/* What a peer may do at any time to an eventfd that it shares. */
static void spoil(int fd)
{
	const uint64_t full = UINT64_MAX - 1;
	uint64_t count;

	(void)!read(fd, &count, sizeof(count));
	assert_int_equal(write(fd, &full, sizeof(full)), sizeof(full));
	assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
}

static void ring(int fd)
{
	assert_int_equal(eventfd_write(fd, 1), 0);
}

static void wait_readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
}

/* A queue that has a call for its guest whenever it is kicked. */
struct queue {
	struct queue_service service;
	unsigned int too; /* what it asks for beside the call */
	bool began, calls;
};

static int pass(void *opaque, unsigned int *owed)
{
	struct queue *q = opaque;

	(void)owed;
	/* The first pass is the one unasked, and after a call comes an idle one. */
	q->calls = q->began && !q->calls;
	q->began = true;
	return q->calls ? (int)(QUEUE_CALL_GUEST | QUEUE_MORE | q->too) : 0;
}

static void queue_begin(struct queue *q, struct worker *w, int kick, int call)
{
	static uint64_t counter;
	struct umbra_error err;

	*q = (struct queue){
		.service = { .pass = pass,
			     .queue = q,
			     .kick_in = kick,
			     .call_in = -1,
			     .kick_out = -1,
			     .call_out = call,
			     .kicks_in = &counter,
			     .calls_in = &counter },
	};
	assert_int_equal(worker_begin(w, &q->service, &err), 0);
}

static void test_a_call_fd_that_blocks_breaks_its_queue_and_no_other(void **state)
{
	int broken = eventfd_new(), kicks[2] = { eventfd_new(), eventfd_new() };
	int calls[2] = { eventfd_new(), eventfd_new() };
	struct queue queues[2];
	struct umbra_error err;
	struct worker *w;
	uint64_t count;

	(void)state;
	assert_int_equal(worker_create(broken, &w, &err), 0);
	for (unsigned int i = 0; i < 2; i++)
		queue_begin(&queues[i], w, kicks[i], calls[i]);
	spoil(calls[0]);
	ring(kicks[0]);
	wait_readable(broken);
	assert_true(__atomic_load_n(&queues[0].service.broken, __ATOMIC_ACQUIRE));
	assert_non_null(strstr(queues[0].service.fault, "call fd block"));
	ring(kicks[1]);
	wait_readable(calls[1]);
	assert_false(__atomic_load_n(&queues[1].service.broken, __ATOMIC_ACQUIRE));
	/* It is not served any more, whoever kicks. */
	assert_int_equal(read(broken, &count, sizeof(count)), sizeof(count));
	ring(kicks[0]);
	for (unsigned int i = 0; i < 2; i++)
		worker_end(w, &queues[i].service);
	assert_int_equal(read(broken, &count, sizeof(count)), -1);
	worker_destroy(&w);
	for (unsigned int i = 0; i < 2; i++) {
		close(kicks[i]);
		close(calls[i]);
	}
	close(broken);
}

static void test_each_thing_that_a_queue_asks_for_is_done_and_no_other(void **state)
{
	static const struct {
		unsigned int too;
		bool is_noticed;
	} cases[] = { { 0, false }, { QUEUE_YIELD, false }, { QUEUE_NOTICE, true } };
	int broken = eventfd_new(), call = eventfd_new();
	struct umbra_error err;
	struct worker *w;
	uint64_t count;

	(void)state;
	assert_int_equal(worker_create(broken, &w, &err), 0);
	for (unsigned int i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int kick = eventfd_new();
		struct queue q;

		queue_begin(&q, w, kick, call);
		q.too = cases[i].too;
		ring(kick);
		wait_readable(call);
		worker_end(w, &q.service);
		assert_int_equal(read(call, &count, sizeof(count)), sizeof(count));
		assert_int_equal(read(broken, &count, sizeof(count)) > 0, cases[i].is_noticed);
		close(kick);
	}
	worker_destroy(&w);
	close(call);
	close(broken);
}

static void test_a_call_that_blocks_is_ended(void **state)
{
	int fd = eventfd_new();
	const struct notifier n = notifier_make(fd);
	struct interrupter i;

	(void)state;
	assert_int_equal(interrupter_create(&i), 0);
	interrupter_start(&i);
	assert_int_equal(notifier_send(&n), 0);
	spoil(fd); /* after notifier_make() has looked */
	assert_int_equal(notifier_send(&n), -EINTR);
	interrupter_destroy(&i);
	close(fd);
}

static void test_a_full_counter_is_as_good_as_a_notification(void **state)
{
	int fd = eventfd_new();

	(void)state;
	spoil(fd);
	assert_int_equal(notifier_send_guarded(fd), 0);
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(notifier_send_guarded(fd), 0);
	close(fd);
}

/* The signals of whoever embeds umbra stay as they are. */
static void test_a_thread_gets_its_signal_mask_back(void **state)
{
	sigset_t all, before, after;
	struct interrupter i;

	(void)state;
	sigfillset(&all);
	assert_int_equal(pthread_sigmask(SIG_SETMASK, &all, NULL), 0);
	assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &before), 0);
	assert_int_equal(interrupter_create(&i), 0);
	interrupter_destroy(&i);
	assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &after), 0);
	for (int number = 1; number <= SIGRTMAX; number++)
		assert_int_equal(sigismember(&before, number), sigismember(&after, number));
	sigemptyset(&all);
	assert_int_equal(pthread_sigmask(SIG_SETMASK, &all, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_call_fd_that_blocks_breaks_its_queue_and_no_other),
		cmocka_unit_test(test_each_thing_that_a_queue_asks_for_is_done_and_no_other),
		cmocka_unit_test(test_a_call_that_blocks_is_ended),
		cmocka_unit_test(test_a_full_counter_is_as_good_as_a_notification),
		cmocka_unit_test(test_a_thread_gets_its_signal_mask_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
