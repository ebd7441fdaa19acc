/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a device that is being negotiated waits for, for a person.
 *
 * A look at what the front-end has said so far, in the order in which front-ends say it;
 * the first that is missing is what one waits for.  Nothing depends on it.
 */
#include <stdio.h>

#include "device/shadow_device_private.h"

static const struct lane *waiting_ring_find(const struct shadow_device *d, bool kicked)
{
	for (unsigned int i = 0; i < lanes_count(d->lanes); i++)
		if (kicked ? lane_is_wanted(lane_at(d->lanes, i))
			   : lane_front(lane_at(d->lanes, i))->size > 0)
			return lane_at(d->lanes, i);
	return NULL;
}

void shadow_waits_for(const struct shadow_device *d, char *text, size_t size)
{
	const struct lane *r;

	if (!shadow_has_features(d))
		snprintf(text, size,
			 "for the guest's driver: the front-end has not said which features it "
			 "takes");
	else if (!d->memory || !d->memory->count)
		snprintf(text, size,
			 "for the guest's memory: the front-end has shared none (QEMU: is share=on "
			 "forgotten?)");
	else if ((r = waiting_ring_find(d, true)) && !lane_front(r)->enabled)
		snprintf(text, size, "for the front-end to enable queue %u", lane_index(r));
	else if (r)
		snprintf(text, size, "for queue %u to be started", lane_index(r));
	else if ((r = waiting_ring_find(d, false)))
		snprintf(text, size, "for the guest's driver to start queue %u", lane_index(r));
	else
		snprintf(text, size, "for the guest's driver to set up a queue");
}
