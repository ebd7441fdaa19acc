/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Whether a device, or rings of it that are about to start, can be had in a mode, and if not why.
 *
 * Nothing is changed here.
 *
 * Threads: the device's thread.
 */
#include <errno.h>

#include "base/error.h"
#include "device/shadow_device_private.h"

int shadow_mode_check(const struct shadow_device *d, bool shadowed, struct umbra_error *err)
{
	struct umbra_error why = { "" };
	bool is_possible = shadowed ? d->features.can_shadow : d->features.can_passthrough;

	if (shadowed && d->mode == UMBRA_SHADOW_OFF)
		return error_set(err, -EPERM,
				 "the shadow is switched off for this device (shadow=off)");
	if (!shadowed && d->mode == UMBRA_SHADOW_ON)
		return error_set(err, -EPERM, "the device is always shadowed (shadow=on)");
	if (shadow_has_features(d) && !is_possible)
		return error_set(err, -EOPNOTSUPP, "%s", d->features.why_not);
	for (unsigned int i = 0; i < lanes_count(d->lanes); i++) {
		const struct lane *r = lane_at(d->lanes, i);
		uint16_t ghosts = lane_ghosts(r);

		if (!shadowed && ghosts)
			return error_set(
				err, -EOPNOTSUPP,
				"queue %u: the back-end has not used %u chains of a shadow "
				"that was stopped all the same, and would complete them "
				"on the guest's ring",
				i, ghosts);
		if (!shadowed && !shadow_backend_runs_as_one(d) && lane_held_chains(r))
			return error_set(err, -EOPNOTSUPP,
					 "queue %u: %u requests wait to be given to the back-end "
					 "again, which only the shadow does",
					 i, lane_held_chains(r));
		if (shadowed && lane_has_left(r))
			return error_set(
				err, -EOPNOTSUPP,
				"queue %u: the back-end has not used all that it had when "
				"the queue was passed through and broke, or was stopped all "
				"the same, and would complete that on the shadow ring",
				i);
	}
	if (shadowed && d->no_shadow[0])
		return error_set(err, -EOPNOTSUPP, "%s", d->no_shadow);
	if (shadowed && d->backend && d->backend->ops->check_hush &&
	    lanes_any(d->lanes, lane_is_passed) && d->backend->ops->check_hush(d->backend, &why))
		return error_set(err, -EOPNOTSUPP,
				 "%s: it can be shadowed from the start (shadow=on), or when the "
				 "guest has stopped its rings",
				 why.text);
	if (!shadowed && d->backend && !backend_keeps_index(d->backend))
		return error_set(
			err, -EOPNOTSUPP,
			"the device keeps no ring state (it refuses GET_VRING_BASE), so its "
			"rings can only start at 0: it is always shadowed");
	if (!shadowed && d->memory && d->memory->translated)
		return error_set(
			err, -EOPNOTSUPP,
			"the device cannot see all of the guest's memory where the guest "
			"sees it, so descriptors must be translated: it is always shadowed");
	return 0;
}

/* Can every ring that is about to start be had in this mode? */
int shadow_mode_check_start(struct shadow_device *d, const struct lane *only, bool shadowed,
			    struct umbra_error *err)
{
	int rc = shadow_mode_check(d, shadowed, err);

	if (!rc && shadowed)
		rc = shadow_own_check(d, only, err);
	return rc;
}
