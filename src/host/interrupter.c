/* SPDX-License-Identifier: BSD-2-Clause */
/* A signal for calls that block: see interrupter.h. */
#include "host/interrupter.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

/* glibc before 2.41 has no name for it. */
#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static int number; /* of the signal; negative: why there is none */

static void on_interruption(int signal)
{
	(void)signal; /* it has done its work by coming */
}

static void interrupter_install(void)
{
	struct sigaction action = { .sa_handler = on_interruption }; /* no SA_RESTART */

	sigemptyset(&action.sa_mask);
	number = -EBUSY;
	for (int signal = SIGRTMAX; signal >= SIGRTMIN && number < 0; signal--) {
		struct sigaction before;

		if (sigaction(signal, NULL, &before) || before.sa_flags & SA_SIGINFO ||
		    before.sa_handler != SIG_DFL)
			continue;
		number = sigaction(signal, &action, NULL) ? -errno : signal;
	}
}

int interrupter_create(struct interrupter *i)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID };
	sigset_t set, before;

	pthread_once(&once, interrupter_install);
	if (number < 0)
		return number;
	event.sigev_signo = number;
	event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
	*i = (struct interrupter){ 0 };
	if (timer_create(CLOCK_MONOTONIC, &event, &i->timer))
		return -errno;
	sigemptyset(&set);
	sigaddset(&set, number);
	pthread_sigmask(SIG_UNBLOCK, &set, &before);
	i->was_blocked = sigismember(&before, number) == 1;
	return 0;
}

void interrupter_destroy(struct interrupter *i)
{
	sigset_t set;

	timer_delete(i->timer);
	if (!i->was_blocked)
		return;
	sigemptyset(&set);
	sigaddset(&set, number);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static void timer_set(struct interrupter *i, long ms)
{
	const struct timespec period = { .tv_nsec = ms * 1000000 };
	const struct itimerspec spec = { .it_interval = period, .it_value = period };

	timer_settime(i->timer, 0, &spec, NULL);
	i->runs = ms != 0;
}

void interrupter_start(struct interrupter *i)
{
	if (!i->runs)
		timer_set(i, INTERRUPTER_PERIOD_MS);
}

void interrupter_stop(struct interrupter *i)
{
	if (i->runs)
		timer_set(i, 0);
}
