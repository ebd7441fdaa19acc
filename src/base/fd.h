/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who owns a file descriptor.
 *
 * An `int fd` parameter is borrowed; an `int *fd` is consumed on success and
 * set to -1.  A closed or absent fd is -1.
 */
#ifndef UMBRA_BASE_FD_H
#define UMBRA_BASE_FD_H

#include <unistd.h>

/* Close *@fd, if there is one, and forget it. */
static inline void fd_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Hand *@fd over: returns it and leaves -1 behind. */
static inline int fd_take(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

#endif
