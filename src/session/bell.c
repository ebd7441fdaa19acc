/* SPDX-License-Identifier: BSD-2-Clause */
/* A bell: see bell.h. */
#include "session/bell.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "host/notifier.h"

int bell_open(struct bell *bell, struct umbra_error *err)
{
	*bell = (struct bell){ .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
	return bell->fd < 0 ? error_set(err, -errno, "eventfd: %s", strerror(errno)) : 0;
}

void bell_close(struct bell *bell)
{
	fd_close(&bell->fd);
}

void bell_ring(struct bell *bell)
{
	static const uint64_t one = 1;

	/* [bell] */
	if (__atomic_exchange_n(&bell->rung, true, __ATOMIC_ACQ_REL))
		return;
	/* It fails where the counter is full: then it is readable. */
	if (write(bell->fd, &one, sizeof(one)) < 0)
		return;
}

void bell_hush(struct bell *bell)
{
	(void)notifier_drain(bell->fd);
	/* [bell] */
	(void)__atomic_exchange_n(&bell->rung, false, __ATOMIC_ACQ_REL);
}
