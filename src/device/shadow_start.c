/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How the rings that the front-end wants come to run.
 *
 * Theory of operation.  A front-end starts its rings one by one.  A vhost-user
 * back-end takes them so.  A device that is started as a whole (BACKEND_RUNS_AS_ONE)
 * would have to be stopped and started again for each, so its rings are WANTED
 * first, and the device is started with all of them when the front-end pauses:
 * shadow_device_tend(), START_PAUSE_US after the last ring it spoke of, or at once
 * when it says DRIVER_OK or when a switch is asked for (which otherwise is shadow_switch.c's).  How
 * long the pause is taken to be is a matter of speed alone: a ring that is wanted while the device
 * runs stops the device, and all are started together.  So does, the other way
 * round, one ring that the front-end stops: the others are wanted again, and in most
 * cases stopped as well before anything is started.
 *
 * A disabled ring is wanted, and not started before it is enabled (shadow_rings.c).
 *
 * A device that does not start stays with its rings wanted, says why as the
 * reason of its state, and is tried again after a time that doubles.
 *
 * Threads: the device's thread.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/error.h"
#include "base/log.h"
#include "device/shadow_device_private.h"

/* --- the mode ------------------------------------------------------------- */

int shadow_start_choose_mode(struct shadow_device *d, struct lane *only, struct umbra_error *err)
{
	struct umbra_error other;
	int rc = shadow_mode_check_start(d, only, d->shadow_wanted, err);
	bool runs;

	runs = lanes_any(d->lanes, lane_runs);
	if (!rc || d->mode != UMBRA_SHADOW_AUTO)
		return rc;
	/* Nobody knows whether the back-end takes this one in the other mode: the others, which
	 * run, are not stopped to find out. */
	if (runs && only && !shadow_mode_check(d, d->shadow_wanted, &other))
		return rc;
	if (shadow_mode_check_start(d, only, !d->shadow_wanted, &other))
		return rc;
	other = *err;
	if (runs) {
		rc = shadow_switch_running(d, only, !d->shadow_wanted, err);
		if (rc && rc != -EPROTO) /* a broken queue is that one's affair */
			return rc;
	} else {
		d->shadow_wanted = !d->shadow_wanted;
	}
	log_warning("the device is %s from here on: %s",
		    d->shadow_wanted ? "shadowed" : "passed through", other.text);
	return 0;
}

/* --- when ----------------------------------------------------------------- */

/* The device runs without some of the rings that are wanted: stop it, so that
 * all are wanted. */
static int stop_for_all(struct shadow_device *d, struct umbra_error *err)
{
	struct lane_context c = shadow_lanes_context(d);
	struct umbra_error later;
	int rc, back;

	if (!shadow_backend_runs_as_one(d) || !(lanes_any(d->lanes, lane_runs)))
		return 0;
	rc = lanes_quiesce(d->lanes, &c, NULL, false, err);
	if (!rc) {
		lanes_finish(d->lanes, &c);
		return 0;
	}
	back = backend_is_lost(rc) ? rc : shadow_begin_again(d, &later);
	if (back && back != rc)
		*err = later;
	return back ? back : rc;
}

static int wanted_begin(struct shadow_device *d, struct umbra_error *err)
{
	int rc = shadow_start_choose_mode(d, NULL, err), back;
	struct umbra_error other;

	if (!rc)
		rc = shadow_begin_wanted(d, NULL, d->shadow_wanted, err);
	if (!rc || d->shadow_wanted || backend_is_lost(rc) || d->mode != UMBRA_SHADOW_AUTO ||
	    shadow_mode_check_start(d, NULL, true, &other))
		return rc;
	/* What cannot be passed through may be shadowed: a ring that lacks chains,
	 * a call fd that the device cannot use. */
	back = shadow_begin_wanted(d, NULL, true, &other);
	if (backend_is_lost(back))
		*err = other;
	if (back)
		return backend_is_lost(back) ? back : rc;
	log_warning("the device is shadowed from here on: %s", err->text);
	d->shadow_wanted = true;
	return 0;
}

int shadow_start_now(struct shadow_device *d, struct umbra_error *err)
{
	bool any = false, still = false;
	int rc = shadow_backend_check(d, err);

	for (unsigned int i = 0; i < lanes_count(d->lanes); i++) {
		const struct lane *r = lane_at(d->lanes, i);

		any |= shadow_begin_includes(r, NULL);
		still |= lane_is_resting(r);
	}
	d->start_at = 0;
	if (rc || shadow_is_held(d) || (!any && !still))
		return rc;
	if (still)
		rc = shadow_begin_again(d, err);
	if (!rc && any)
		rc = stop_for_all(d, err);
	if (!rc && any)
		rc = wanted_begin(d, err);
	if (backend_is_lost(rc))
		return shadow_backend_judge(d, rc, err);
	if (rc)
		shadow_retry_later(d, err);
	else
		d->start_error[0] = '\0';
	shadow_state_settle(d);
	return rc;
}

void shadow_device_tend(struct shadow_device *d)
{
	struct umbra_error err;

	if (shadow_device_tend_ms(d) == 0)
		(void)!shadow_start_now(d, &err);
}

/* --- on demand ------------------------------------------------------------ */

static int mode_change(struct shadow_device *d, bool shadowed, struct umbra_error *err)
{
	int rc = shadow_mode_check(d, shadowed, err);
	bool broken[UMBRA_QUEUES_MAX];

	if (rc || d->shadow_wanted == shadowed)
		return rc;
	if (shadow_is_held(d))
		return error_set(
			err, -EOPNOTSUPP,
			"the back-end is away, and the queues are held until one is there");
	if (lanes_any(d->lanes, lane_runs))
		return shadow_switch_running(d, NULL, shadowed, err);
	d->shadow_wanted = shadowed;
	shadow_state_settle(d);
	if (!lanes_any(d->lanes, lane_is_wanted))
		return 0;
	/* What was about to start, or could not in the other mode, starts now. */
	shadow_switch_note_broken(d, broken);
	rc = shadow_start_now(d, err);
	if (rc && d->shadow_wanted == shadowed)
		d->shadow_wanted = !shadowed;
	return rc ? rc : shadow_switch_broken_since(d, broken, shadowed, err);
}

int shadow_device_switch(struct shadow_device *d, bool shadowed, struct umbra_error *err)
{
	bool overdue = false;
	int rc;

	d->overdue = &overdue;
	rc = mode_change(d, shadowed, err);
	d->overdue = NULL;
	return rc;
}
