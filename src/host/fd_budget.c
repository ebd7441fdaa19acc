/* SPDX-License-Identifier: BSD-2-Clause */
/* A reserve of fds: see fd_budget.h. */
#include "host/fd_budget.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/resource.h>

#include "base/bits.h"
#include "base/fd.h"

static bool is_within_budget(int fd)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur == RLIM_INFINITY)
		return true;
	return (rlim_t)fd < limit.rlim_cur - MIN(FD_RESERVE, limit.rlim_cur / 8);
}

int fd_budget_claim(int *fd)
{
	if (is_within_budget(*fd))
		return 0;
	fd_close(fd);
	return -EMFILE;
}
