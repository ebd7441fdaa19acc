/* SPDX-License-Identifier: BSD-2-Clause */
/* What other threads want of a device's thread is carried out, and told once. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/fd.h"
#include "session/bell.h"
#include "session/request.h"

#define DEADLINE_MS 5000u
#define PATIENCE_MS 20000

struct rig {
	pthread_mutex_t lock;
	struct request_desk desk;
	struct request asked, news;
	unsigned int served, told, forgotten;
	int result;
	char text[UMBRA_ERROR_SIZE];
	bool was_busy;                        /* when it was told */
	void (*within)(struct rig *rig);      /* while it is carried out */
	unsigned int looked;                  /* news */
	void (*within_look)(struct rig *rig); /* while they are */
};

static struct rig *rig_of_asked(struct request *r)
{
	return (struct rig *)(void *)((char *)r - offsetof(struct rig, asked));
}

static void asked_serve(struct request *r)
{
	static const struct umbra_error none = { "" };
	struct rig *rig = rig_of_asked(r);

	rig->served++;
	if (rig->within)
		rig->within(rig);
	request_done(&rig->desk, r, 0, &none);
}

static bool is_busy(struct rig *rig)
{
	bool busy;

	pthread_mutex_lock(&rig->lock);
	busy = request_desk_is_busy_locked(&rig->desk);
	pthread_mutex_unlock(&rig->lock);
	return busy;
}

static void asked_tell(struct request *r, int result, const struct umbra_error *err)
{
	struct rig *rig = rig_of_asked(r);

	rig->told++;
	rig->result = result;
	strcpy(rig->text, err->text);
	rig->was_busy = is_busy(rig);
}

static void asked_forget(struct request *r)
{
	rig_of_asked(r)->forgotten++;
}

static void asked_overdue(struct request *r, const char *waits_for, uint64_t waited_ms,
			  struct umbra_error *err)
{
	(void)r;
	assert_in_range(waited_ms, DEADLINE_MS, UINT32_MAX);
	strcpy(err->text, waits_for);
}

static void news_serve(struct request *r)
{
	struct rig *rig = (struct rig *)(void *)((char *)r - offsetof(struct rig, news));

	if (rig->within_look)
		rig->within_look(rig);
	__atomic_store_n(&rig->looked, rig->looked + 1, __ATOMIC_RELEASE);
}

static void rig_open(struct rig *rig)
{
	struct umbra_error err;

	*rig = (struct rig){
		.asked = { .serve = asked_serve,
			   .tell = asked_tell,
			   .forget = asked_forget,
			   .overdue = asked_overdue },
		.news = { .serve = news_serve },
	};
	pthread_mutex_init(&rig->lock, NULL);
	assert_int_equal(request_desk_open(&rig->desk, &rig->lock, DEADLINE_MS, &err), 0);
}

static void rig_close(struct rig *rig)
{
	request_desk_close(&rig->desk);
	pthread_mutex_destroy(&rig->lock);
}

static int leave(struct rig *rig, struct request *r)
{
	int rc;

	pthread_mutex_lock(&rig->lock);
	rc = request_leave_locked(&rig->desk, r);
	pthread_mutex_unlock(&rig->lock);
	return rc;
}

static bool is_heard(const struct bell *bell, int timeout_ms)
{
	struct pollfd p = { .fd = bell->fd, .events = POLLIN };

	return poll(&p, 1, timeout_ms) == 1;
}

/* As if it had been left so much earlier. */
static void make_old(struct request *r, unsigned int ms)
{
	r->since_us -= ms * 1000u;
}

/* --- requests ------------------------------------------------------------------------ */

static void what_is_left_is_carried_out_and_told_once(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig);
	assert_false(is_heard(&rig.desk.bell, 0));
	assert_int_equal(leave(&rig, &rig.asked), 0);
	assert_true(is_busy(&rig));
	assert_true(is_heard(&rig.desk.bell, 0));
	request_desk_serve(&rig.desk);
	assert_int_equal(rig.served, 1);
	assert_int_equal(rig.told, 1);
	assert_int_equal(rig.forgotten, 1);
	assert_int_equal(rig.result, 0);
	assert_false(is_heard(&rig.desk.bell, 0));
	request_desk_serve(&rig.desk);
	assert_int_equal(rig.told, 1);
	rig_close(&rig);
}

static void who_is_told_may_ask_again_at_once(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig);
	assert_int_equal(leave(&rig, &rig.asked), 0);
	request_desk_serve(&rig.desk);
	assert_false(rig.was_busy);
	rig_close(&rig);
}

static void one_that_the_thread_does_not_come_to_is_told_so_and_not_carried_out(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig);
	assert_int_equal(leave(&rig, &rig.asked), 0);
	make_old(&rig.asked, DEADLINE_MS - 1000);
	request_desk_overdue(&rig.desk, "the peer is silent");
	assert_int_equal(rig.told, 0);
	make_old(&rig.asked, 1000);
	request_desk_overdue(&rig.desk, "the peer is silent");
	assert_int_equal(rig.told, 1);
	assert_int_equal(rig.forgotten, 1);
	assert_int_equal(rig.result, -ETIMEDOUT);
	assert_non_null(strstr(rig.text, "the peer is silent, and has not come to this for 500"));
	assert_false(is_busy(&rig));
	request_desk_serve(&rig.desk);
	assert_int_equal(rig.served, 0);
	rig_close(&rig);
}

static void wait_too_long(struct rig *rig)
{
	request_desk_overdue(&rig->desk, "early");
	assert_int_equal(rig->told, 0);
	make_old(&rig->asked, DEADLINE_MS);
	request_desk_overdue(&rig->desk, "the peer is silent");
	assert_int_equal(rig->told, 1);
	assert_int_equal(rig->result, -ETIMEDOUT);
	assert_string_equal(rig->text, "the peer is silent");
	request_desk_overdue(&rig->desk, "the peer is silent still");
	assert_int_equal(rig->told, 1);
	assert_int_equal(rig->forgotten, 0);
	assert_true(is_busy(rig));
}

static void
one_that_is_overdue_while_it_is_carried_out_is_told_once_and_stays_under_way(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig);
	rig.within = wait_too_long;
	assert_int_equal(leave(&rig, &rig.asked), 0);
	request_desk_serve(&rig.desk);
	assert_int_equal(rig.told, 1);
	assert_int_equal(rig.forgotten, 1);
	assert_false(is_busy(&rig));
	rig_close(&rig);
}

static void the_end_of_the_thread_is_told(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig);
	request_desk_attend(&rig.desk);
	assert_int_equal(leave(&rig, &rig.asked), 0);
	assert_int_equal(leave(&rig, &rig.news), 0);
	request_desk_abandon(&rig.desk);
	assert_int_equal(rig.told, 1);
	assert_int_equal(rig.forgotten, 1);
	assert_int_equal(rig.result, -ECANCELED);
	assert_string_equal(rig.text, "the device was stopped");
	assert_int_equal(leave(&rig, &rig.asked), -ECANCELED);
	assert_int_equal(rig.told, 1);
	rig_close(&rig);
}

/* --- news ----------------------------------------------------------------------------- */

static void news_that_are_left_twice_are_looked_at_once(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig);
	assert_int_equal(leave(&rig, &rig.news), 0);
	assert_int_equal(leave(&rig, &rig.news), 0);
	assert_false(is_busy(&rig));
	request_desk_serve(&rig.desk);
	request_desk_serve(&rig.desk);
	assert_int_equal(rig.looked, 1);
	rig_close(&rig);
}

static void leave_again(struct rig *rig)
{
	rig->within_look = NULL;
	assert_int_equal(leave(rig, &rig->news), 0);
}

static void news_that_are_left_while_they_are_looked_at_are_looked_at_again(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig);
	rig.within_look = leave_again;
	assert_int_equal(leave(&rig, &rig.news), 0);
	request_desk_serve(&rig.desk);
	while (is_heard(&rig.desk.bell, 0))
		request_desk_serve(&rig.desk);
	assert_int_equal(rig.looked, 2);
	rig_close(&rig);
}

/* Serves until it has looked at the news of the last round. */
#define ROUNDS 5000u

static void *attend(void *opaque)
{
	struct rig *rig = opaque;

	request_desk_attend(&rig->desk);
	while (__atomic_load_n(&rig->looked, __ATOMIC_ACQUIRE) < ROUNDS) {
		if (!is_heard(&rig->desk.bell, PATIENCE_MS))
			break;
		request_desk_serve(&rig->desk);
	}
	request_desk_abandon(&rig->desk);
	return NULL;
}

static void who_waits_for_news_sees_what_was_looked_at_since(void **state)
{
	enum request_desk_state desk = REQUEST_DESK_QUIET;
	pthread_t thread;
	struct rig rig;

	(void)state;
	rig_open(&rig);
	/* Without a thread nobody is waited for. */
	pthread_mutex_lock(&rig.lock);
	request_await_locked(&rig.desk, &rig.news, PATIENCE_MS);
	pthread_mutex_unlock(&rig.lock);
	assert_int_equal(rig.looked, 0);
	assert_int_equal(pthread_create(&thread, NULL, attend, &rig), 0);
	while (desk == REQUEST_DESK_QUIET) {
		pthread_mutex_lock(&rig.lock);
		desk = rig.desk.state;
		pthread_mutex_unlock(&rig.lock);
	}
	for (unsigned int i = 1; i <= ROUNDS; i++) {
		pthread_mutex_lock(&rig.lock);
		request_await_locked(&rig.desk, &rig.news, PATIENCE_MS);
		pthread_mutex_unlock(&rig.lock);
		assert_int_equal(__atomic_load_n(&rig.looked, __ATOMIC_ACQUIRE), i);
	}
	pthread_join(thread, NULL);
	/* Nor after it has ended, */
	pthread_mutex_lock(&rig.lock);
	request_await_locked(&rig.desk, &rig.news, PATIENCE_MS);
	pthread_mutex_unlock(&rig.lock);
	/* nor on the thread itself. */
	request_desk_attend(&rig.desk);
	pthread_mutex_lock(&rig.lock);
	request_await_locked(&rig.desk, &rig.news, PATIENCE_MS);
	pthread_mutex_unlock(&rig.lock);
	assert_int_equal(rig.looked, ROUNDS);
	rig_close(&rig);
}

static void who_waits_for_a_thread_that_does_not_come_waits_for_a_moment(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig);
	request_desk_attend(&rig.desk);
	/* As if another thread attended. */
	rig.desk.thread = (pthread_t){ 0 };
	pthread_mutex_lock(&rig.lock);
	request_await_locked(&rig.desk, &rig.news, 1);
	pthread_mutex_unlock(&rig.lock);
	assert_int_equal(rig.looked, 0);
	request_desk_serve(&rig.desk);
	assert_int_equal(rig.looked, 1);
	rig_close(&rig);
}

/* --- the bell -------------------------------------------------------------------------- */

#define RINGS 100000u

struct tower {
	struct bell bell;
	/* Apart from the bell's flag: a store to that may be late while this is read. */
	_Alignas(128) uint32_t written; /* relaxed: the bell alone orders it */
	_Alignas(128) uint32_t seen;
};

/* Two at a time, the second about when the first is looked at. */
static void *ring(void *opaque)
{
	struct tower *tower = opaque;
	uint32_t random = 1;

	for (uint32_t i = 1; i <= RINGS; i++) {
		__atomic_store_n(&tower->written, i, __ATOMIC_RELAXED);
		bell_ring(&tower->bell);
		random = random * 1664525u + 1013904223u;
		for (volatile uint32_t spin = random >> 20; i % 2 && spin; spin--)
			continue;
		/* Where both share a processor, who is waited for must get it. */
		for (unsigned int n = 1;
		     i % 2 == 0 && __atomic_load_n(&tower->seen, __ATOMIC_RELAXED) < i; n++)
			if (n % 1000 == 0)
				sched_yield();
	}
	return NULL;
}

static void no_ringing_is_lost(void **state)
{
	struct tower tower = { .written = 0 };
	struct umbra_error err;
	pthread_t thread;

	(void)state;
	assert_int_equal(bell_open(&tower.bell, &err), 0);
	assert_int_equal(pthread_create(&thread, NULL, ring, &tower), 0);
	while (tower.seen < RINGS) {
		assert_true(is_heard(&tower.bell, PATIENCE_MS));
		bell_hush(&tower.bell);
		__atomic_store_n(&tower.seen, __atomic_load_n(&tower.written, __ATOMIC_RELAXED),
				 __ATOMIC_RELAXED);
	}
	pthread_join(thread, NULL);
	bell_close(&tower.bell);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_left_is_carried_out_and_told_once),
		cmocka_unit_test(who_is_told_may_ask_again_at_once),
		cmocka_unit_test(
			one_that_the_thread_does_not_come_to_is_told_so_and_not_carried_out),
		cmocka_unit_test(
			one_that_is_overdue_while_it_is_carried_out_is_told_once_and_stays_under_way),
		cmocka_unit_test(the_end_of_the_thread_is_told),
		cmocka_unit_test(news_that_are_left_twice_are_looked_at_once),
		cmocka_unit_test(news_that_are_left_while_they_are_looked_at_are_looked_at_again),
		cmocka_unit_test(who_waits_for_news_sees_what_was_looked_at_since),
		cmocka_unit_test(who_waits_for_a_thread_that_does_not_come_waits_for_a_moment),
		cmocka_unit_test(no_ringing_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
