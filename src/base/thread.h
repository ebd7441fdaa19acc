/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Starting a thread, in the one way in which umbra's threads are started.
 *
 * Signals that are sent to the process are none of such a thread's: who runs the process
 * says which thread hears them.  But those that a thread causes itself are let through:
 * SIGBUS is how guest memory that was taken away is noticed, and a blocked one would end
 * the process.
 *
 * Threads: any.
 */
#ifndef UMBRA_BASE_THREAD_H
#define UMBRA_BASE_THREAD_H

#include <pthread.h>
#include <stddef.h>

#include "umbra/error.h"

/*
 * Have @run called with @argument on a thread of its own.  @stack_bytes 0: as many as the
 * system gives; it gives as many, too, where these are fewer than it takes.  @thread NULL: nobody
 * joins it.  0, or the error of pthread_create(3), negative.
 */
UMBRA_MUST_CHECK int thread_start(pthread_t *thread, size_t stack_bytes, void *(*run)(void *),
				  void *argument);

#endif
