/* SPDX-License-Identifier: BSD-2-Clause */
/* Closing what a peer has sent: see closer.h. */
#include "host/closer.h"

#include <stdbool.h>
#include <stdint.h>

#include "base/fd.h"
#include "base/thread.h"
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
	bool begun = __atomic_add_fetch(&hanging, 1, __ATOMIC_RELAXED) <= CLOSER_THREADS_MAX &&
		     !thread_start(NULL, STACK_BYTES, closer_thread, (void *)(intptr_t)fd);

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
