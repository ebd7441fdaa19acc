/* SPDX-License-Identifier: BSD-2-Clause */
/* Closing what a peer has sent: see closer.h. */
#include "host/closer.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/fd.h"
#include "host/file_kind.h"

#define STACK_BYTES (64u << 10)

static unsigned int hanging; /* atomic; threads that are closing something */

static void *closer_thread(void *argument)
{
	int fd = (int)(intptr_t)argument;

	fd_close(&fd);
	__atomic_sub_fetch(&hanging, 1, __ATOMIC_RELAXED);
	return NULL;
}

static bool close_aside(int fd)
{
	pthread_attr_t attributes;
	pthread_t thread;
	bool begun = false;

	if (__atomic_add_fetch(&hanging, 1, __ATOMIC_RELAXED) <= CLOSER_THREADS_MAX &&
	    !pthread_attr_init(&attributes)) {
		pthread_attr_setstacksize(&attributes, STACK_BYTES);
		pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
		begun = !pthread_create(&thread, &attributes, closer_thread, (void *)(intptr_t)fd);
		pthread_attr_destroy(&attributes);
	}
	if (!begun)
		__atomic_sub_fetch(&hanging, 1, __ATOMIC_RELAXED);
	return begun;
}

void closer_close(int *fd)
{
	struct file_nature file;

	if (*fd < 0)
		return;
	if (file_judge(*fd, &file) || file.kind != FILE_IS_FOREIGN) {
		fd_close(fd);
		return;
	}
	/* Without a thread it stays open: better than that ours hangs. */
	(void)close_aside(*fd);
	*fd = -1;
}
