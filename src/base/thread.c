/* SPDX-License-Identifier: BSD-2-Clause */
/* Starting a thread: see thread.h. */
#include "base/thread.h"

#include <signal.h>

/* A thread begins with the mask of the one that starts it. */
static int start_masked(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
			void *argument)
{
	sigset_t blocked, before;
	int code;

	sigfillset(&blocked);
	sigdelset(&blocked, SIGBUS);
	sigdelset(&blocked, SIGSEGV);
	sigdelset(&blocked, SIGILL);
	sigdelset(&blocked, SIGFPE);
	pthread_sigmask(SIG_SETMASK, &blocked, &before);
	code = pthread_create(thread, attributes, run, argument);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -code;
}

int thread_start(pthread_t *thread, size_t stack_bytes, void *(*run)(void *), void *argument)
{
	pthread_attr_t attributes;
	pthread_t unwanted;
	int rc = -pthread_attr_init(&attributes);

	if (rc)
		return rc;
	/* Where the system asks for more than that, it gives as many as it likes. */
	if (stack_bytes)
		(void)pthread_attr_setstacksize(&attributes, stack_bytes);
	if (!thread)
		rc = -pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	if (!rc)
		rc = start_masked(thread ? thread : &unwanted, &attributes, run, argument);
	pthread_attr_destroy(&attributes);
	return rc;
}
