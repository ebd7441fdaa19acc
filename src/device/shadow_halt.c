/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Rings come to a standstill because the front-end stops or forgets them.
 *
 * Theory of operation.  Unlike a switch, this is not undone because a back-end keeps what it
 * has: that is given up.  A device that is stopped as a whole (BACKEND_RUNS_AS_ONE) stops for each
 * ring that stops.  The others are wanted then, and started again when the front-end pauses
 * (shadow_start.c).
 *
 * Threads: the device's thread.
 */
#include <errno.h>

#include "base/error.h"
#include "base/log.h"
#include "device/shadow_device_private.h"

/* Has the back-end something to stop, or to give back? */
bool shadow_halt_is_needed(const struct shadow_device *d, const struct lane *r)
{
	return lane_is_at_backend(r) || (lane_is_broken(r) && !shadow_backend_runs_as_one(d));
}

/*
 * Bring ring @r to a standstill because the front-end stops or forgets it.  The
 * rings that a device as a whole stops with it are wanted again.
 */
int shadow_halt_ring(struct shadow_device *d, struct lane *r, struct umbra_error *err)
{
	struct lane_context c = shadow_lanes_context(d);
	struct umbra_error later;
	int rc = lanes_quiesce(d->lanes, &c, r, true, err), back;

	if (rc == -ETIME) {
		log_error("%s; the front-end stops the queue, so they are given up", err->text);
		rc = 0;
	}
	if (rc) {
		back = backend_is_lost(rc) ? 0 : shadow_begin_again(d, &later);
		if (backend_is_lost(back)) {
			*err = later;
			rc = back;
		} else if (back) {
			shadow_retry_later(d, &later);
		}
		if (!backend_is_lost(rc)) /* rings may have broken on the way, or run no more */
			shadow_state_settle(d);
		return shadow_backend_judge(d, rc, err);
	}
	for (unsigned int i = 0; i < lanes_count(d->lanes); i++) {
		struct lane *other = lane_at(d->lanes, i);

		if (other != r && lane_runs(other) && lane_is_halted(other) &&
		    !lane_is_forgotten(other))
			lane_finish(other, &c);
	}
	if (lanes_any(d->lanes, lane_is_wanted))
		shadow_retry_soon(d);
	return 0;
}

int shadow_halt_forgotten(struct shadow_device *d, struct lane *only, struct umbra_error *err)
{
	int rc = 0;

	for (unsigned int i = 0; i < lanes_count(d->lanes); i++) {
		struct lane *r = lane_at(d->lanes, i);
		struct lane_context c = shadow_lanes_context(d);

		if (only && r != only)
			continue;
		lane_abandon(r, &c);
	}
	for (unsigned int i = 0; i < lanes_count(d->lanes) && !rc; i++)
		if (lane_is_forgotten(lane_at(d->lanes, i)) &&
		    shadow_halt_is_needed(d, lane_at(d->lanes, i)))
			rc = shadow_halt_ring(d, lane_at(d->lanes, i), err);
	for (unsigned int i = 0; i < lanes_count(d->lanes); i++) {
		struct lane *r = lane_at(d->lanes, i);
		struct lane_context c = shadow_lanes_context(d);

		if (!rc && lane_is_forgotten(r))
			lane_end(r, &c);
		lane_keep(r);
	}
	shadow_state_settle(d);
	return rc;
}
