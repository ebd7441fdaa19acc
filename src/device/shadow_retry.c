/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * When the rings that are wanted shall be started.
 *
 * A front-end that is busy is let finish; what did not start is tried again after a time that
 * doubles.  Only the time is kept here: who looks at it is shadow_start.c.
 *
 * Threads: the device's thread.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "device/shadow_device_private.h"

/* Between two messages of a front-end that is busy starting rings less than this
 * passes, even where it waits for a reply to each. */
#define START_PAUSE_US 5000u

#define RETRY_FIRST_US 1000000u
#define RETRY_MOST_US 64000000u

void shadow_retry_soon(struct shadow_device *d)
{
	d->retry_us = RETRY_FIRST_US;
	d->start_at = device_host_now_us(d->host->device) + START_PAUSE_US;
}

void shadow_retry_later(struct shadow_device *d, const struct umbra_error *err)
{
	d->retry_us = MIN(MAX(d->retry_us, (uint64_t)RETRY_FIRST_US), (uint64_t)RETRY_MOST_US);
	log_error("%s; the queues that are wanted and do not run are tried again in %" PRIu64 " s",
		  err->text, d->retry_us / 1000000u);
	snprintf(d->start_error, sizeof(d->start_error), "%s", err->text);
	d->start_at = device_host_now_us(d->host->device) + d->retry_us;
	d->retry_us *= 2;
}

int shadow_device_tend_ms(const struct shadow_device *d)
{
	uint64_t now;

	if (!d->start_at)
		return -1;
	now = device_host_now_us(d->host->device);
	return now >= d->start_at ? 0 : (int)((d->start_at - now + 999) / 1000);
}
