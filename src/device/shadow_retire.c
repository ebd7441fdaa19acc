/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bringing a device to rest, because its program ends.
 *
 * Theory of operation.  A guest that is not told of a request that was done waits for it
 * for ever, or, when its VMM finds another back-end, has it done again.  So the rings are
 * stopped as if the front-end stopped each (standstill.c): what the back-end has is
 * waited for and completed to the guest, what it has not taken goes back to the guest's
 * ring.  Whoever serves the guest next finds used and available indices that say all
 * there is to know.  What does not come back in time is counted.
 *
 * Threads: the device's thread.
 */
#include <errno.h>

#include "base/error.h"
#include "device/shadow_device_private.h"

int shadow_device_retire(struct shadow_device *d, unsigned int *left, struct umbra_error *err)
{
	struct lane_context c = shadow_lanes_context(d);
	int rc = shadow_backend_check(d, err);

	*left = 0;
	if (rc)
		return rc;
	rc = lanes_quiesce(d->lanes, &c, NULL, true, err);
	for (unsigned int i = 0; i < lanes_count(d->lanes); i++)
		*left += lane_left(lane_at(d->lanes, i)) + lane_held_chains(lane_at(d->lanes, i));
	lanes_finish(d->lanes, &c);
	/* Out of time, with every ring stopped: what is left says all. */
	if ((rc == -ETIME || rc == -ECANCELED) && !lanes_any(d->lanes, lane_runs))
		rc = 0;
	return rc;
}
