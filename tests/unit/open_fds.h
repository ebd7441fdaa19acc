/* SPDX-License-Identifier: BSD-2-Clause */
/* How many fds this process has open: what a test that leaks one ends with more of. */
#ifndef UMBRA_TESTS_UNIT_OPEN_FDS_H
#define UMBRA_TESTS_UNIT_OPEN_FDS_H

#include <dirent.h>
#include <stdlib.h>

static inline unsigned int open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned int n = 0;

	if (!d)
		abort();
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

#endif
