/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How the rings that the front-end wants come to run.
 *
 * Theory of operation.  A front-end starts its rings one by one.  A vhost-user
 * back-end takes them so.  A device that is started as a whole (BACKEND_WHOLE)
 * would have to be stopped and started again for each, so its rings are WANTED
 * first, and the device is started with all of them when the front-end pauses:
 * shadow_device_tend(), START_PAUSE_US after the last ring it spoke of, or at once
 * when it says DRIVER_OK or when a switch is asked for.  How long the pause is
 * taken to be is a matter of speed alone: a ring that is wanted while the device
 * runs stops the device, and all are started together.  So does, the other way
 * round, one ring that the front-end stops: the others are wanted again, and in most
 * cases stopped as well before anything is started.
 *
 * A disabled ring is wanted, and not started before it is enabled (shadow_rings.c).
 *
 * A network device has forgotten what the guest told it on its control queue.  So its
 * other rings start disabled, it is told again, and only then they are enabled: no
 * packet goes where the guest did not want it.  What fails there stops the device
 * again, in order, and it counts as not started.
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

/* Between two messages of a front-end that is busy starting rings less than this
 * passes, even where it waits for a reply to each. */
#define START_PAUSE_US 5000u

#define RETRY_FIRST_US 1000000u
#define RETRY_MOST_US 64000000u

/* --- beginning ------------------------------------------------------------ */

bool shadow_device_may_start(const struct lane *r, const struct lane *only)
{
	return lane_is_wanted(r) && (!only || r == only) && lane_front(r)->enabled;
}

/*
 * Break the rings that are about to start and cannot stand where their front-end says;
 * the others start without them.  What is wrong with the others their start says.
 */
static void rings_judge(struct shadow_device *d, const struct lane *only)
{
	for (unsigned int i = 0; i < lanes_count(d->lanes); i++) {
		struct lane *r = lane_at(d->lanes, i);
		struct lane_context c = shadow_device_context(d);
		struct umbra_error err;

		if (shadow_device_may_start(r, only) && lane_judge(r, &c, &err) == -EPROTO)
			shadow_device_break_ring(d, r, err.text);
	}
}

/* Where the device is told again first, only the control queue starts enabled. */
static int ring_start(struct shadow_device *d, struct lane *r, bool shadowed, bool is_told_first,
		      struct umbra_error *err)
{
	struct lane_context c = shadow_device_context(d);
	enum lane_kind kind = shadow_device_kind(d, r, shadowed);

	return lane_start(r, &c, kind, !is_told_first || kind == LANE_FOLLOWED, err);
}

static void rings_go(struct shadow_device *d)
{
	for (unsigned int i = 0; i < lanes_count(d->lanes); i++) {
		struct lane *r = lane_at(d->lanes, i);
		struct lane_context c = shadow_device_context(d);
		struct umbra_error err = { "" };

		if (lane_is_started(r) && lane_go(r, &c, &err))
			shadow_device_break_ring(d, r, err.text);
	}
}

/* Tell the device again what it has forgotten, on @control, and let the others go. */
static int device_replay(struct shadow_device *d, struct lane *control, struct umbra_error *err)
{
	int rc = lane_replay(control, d->host, d->deadline_us, err);

	for (unsigned int i = 0; i < lanes_count(d->lanes) && !rc; i++)
		if (lane_is_started(lane_at(d->lanes, i)) && lane_at(d->lanes, i) != control)
			rc = d->backend->ops->ring_enable(d->backend, i, true, err);
	return rc;
}

/* The device runs, but not as it should: stop it. */
static int device_ungo(struct shadow_device *d, struct umbra_error *err)
{
	struct lane_context c = shadow_device_context(d);
	int rc = lanes_quiesce(d->lanes, &c, NULL, true, err);

	if (rc && rc != -ETIME)
		return shadow_device_is_fatal(rc)
			       ? rc
			       : error_prefix(err, -ECONNRESET,
					      "the device cannot be stopped in order");
	if (rc)
		log_error("%s; they are given up", err->text);
	lanes_finish(d->lanes, &c);
	return 0;
}

/* Take back what was begun: nobody has served it yet. */
static int rings_ungo(struct shadow_device *d, struct umbra_error *err)
{
	for (unsigned int i = 0; i < lanes_count(d->lanes); i++) {
		struct lane *r = lane_at(d->lanes, i);
		struct lane_context c = shadow_device_context(d);
		int rc;

		if (!lane_is_started(r))
			continue;
		if (shadow_device_is_whole(d)) {
			uint16_t ignored;

			rc = d->backend->ops->ring_stop(d->backend, lane_index(r), &ignored, err);
			if (shadow_device_is_fatal(rc))
				return rc;
			lane_ungo(r, &c);
			continue;
		}
		/* Nobody served it, but the back-end may have worked on a passed one. */
		rc = lanes_quiesce(d->lanes, &c, r, true, err);
		if (rc && rc != -ETIME)
			return rc;
		if (rc)
			log_error("%s; they are given up", err->text);
		if (lane_is_halted(r) && lane_runs(r))
			lane_finish(r, &c);
	}
	return 0;
}

int shadow_device_begin(struct shadow_device *d, const struct lane *only, bool shadowed,
			struct umbra_error *err)
{
	struct umbra_error later = { "" };
	struct lane *control;
	bool any = false, runs = false;
	int rc = 0, back;

	rings_judge(d, only);
	control = shadow_control_replayer(d);
	rc = shadow_own_find(d, only, shadowed, err);
	for (unsigned int i = 0; i < lanes_count(d->lanes) && !rc; i++) {
		if (!shadow_device_may_start(lane_at(d->lanes, i), only))
			continue;
		rc = ring_start(d, lane_at(d->lanes, i), shadowed, control, err);
		any = true;
	}
	if (!rc && any && shadow_device_is_whole(d)) {
		rc = d->backend->ops->device_start(d->backend, err);
		runs = !rc;
	}
	if (!rc && control)
		rc = device_replay(d, control, err);
	if (!rc)
		rings_go(d);
	if (!rc || shadow_device_is_fatal(rc))
		return rc;
	back = runs ? device_ungo(d, &later) : rings_ungo(d, &later);
	if (back)
		*err = later;
	return back ? back : rc;
}

static bool is_halted(const struct lane *r)
{
	return lane_runs(r) && lane_is_halted(r);
}

int shadow_device_resume(struct shadow_device *d, struct umbra_error *err)
{
	struct lane_context c = shadow_device_context(d);

	if (!shadow_device_is_whole(d) || !lanes_any(d->lanes, is_halted))
		return lanes_resume(d->lanes, &c, err);
	lanes_finish(d->lanes, &c);
	return shadow_device_begin(d, NULL, d->shadow_wanted, err);
}

/* --- the mode ------------------------------------------------------------- */

/* Can every ring that is about to start be had in this mode? */
static int mode_check(struct shadow_device *d, const struct lane *only, bool shadowed,
		      struct umbra_error *err)
{
	int rc = shadow_device_check_mode(d, shadowed, err);

	if (!rc && shadowed)
		rc = shadow_own_check(d, only, err);
	return rc;
}

int shadow_device_choose_mode(struct shadow_device *d, const struct lane *only,
			      struct umbra_error *err)
{
	struct umbra_error other;
	int rc = mode_check(d, only, d->shadow_wanted, err);
	bool runs;

	runs = lanes_any(d->lanes, lane_runs);
	if (!rc || d->mode != UMBRA_SHADOW_AUTO)
		return rc;
	/* Nobody knows whether the back-end takes this one in the other mode: the others, which
	 * run, are not stopped to find out. */
	if (runs && only && !shadow_device_check_mode(d, d->shadow_wanted, &other))
		return rc;
	if (mode_check(d, only, !d->shadow_wanted, &other))
		return rc;
	log_warning("the device is %s from here on: %s",
		    d->shadow_wanted ? "passed through" : "shadowed", err->text);
	if (runs) {
		rc = shadow_device_switch(d, !d->shadow_wanted, err);
		return rc == -EPROTO ? 0 : rc; /* a broken queue is that one's affair */
	}
	d->shadow_wanted = !d->shadow_wanted;
	return 0;
}

/* --- when ----------------------------------------------------------------- */

void shadow_device_start_soon(struct shadow_device *d)
{
	d->retry_us = RETRY_FIRST_US;
	d->start_at = d->host->ops->now_us(d->host) + START_PAUSE_US;
}

/* The device runs without some of the rings that are wanted: stop it, so that
 * all are wanted. */
static int device_rest(struct shadow_device *d, struct umbra_error *err)
{
	struct lane_context c = shadow_device_context(d);
	struct umbra_error later;
	int rc, back;

	if (!shadow_device_is_whole(d) || !(lanes_any(d->lanes, lane_runs)))
		return 0;
	rc = lanes_quiesce(d->lanes, &c, NULL, false, err);
	if (!rc) {
		lanes_finish(d->lanes, &c);
		return 0;
	}
	back = shadow_device_is_fatal(rc) ? rc : shadow_device_resume(d, &later);
	if (back && back != rc)
		*err = later;
	return back ? back : rc;
}

static int wanted_begin(struct shadow_device *d, struct umbra_error *err)
{
	int rc = shadow_device_choose_mode(d, NULL, err), back;
	struct umbra_error other;

	if (!rc)
		rc = shadow_device_begin(d, NULL, d->shadow_wanted, err);
	if (!rc || d->shadow_wanted || shadow_device_is_fatal(rc) || d->mode != UMBRA_SHADOW_AUTO ||
	    mode_check(d, NULL, true, &other))
		return rc;
	/* What cannot be passed through may be shadowed: a ring that lacks chains,
	 * a call fd that the device cannot use. */
	back = shadow_device_begin(d, NULL, true, &other);
	if (shadow_device_is_fatal(back))
		*err = other;
	if (back)
		return shadow_device_is_fatal(back) ? back : rc;
	log_warning("the device is shadowed from here on: %s", err->text);
	d->shadow_wanted = true;
	return 0;
}

int shadow_device_start_now(struct shadow_device *d, struct umbra_error *err)
{
	bool any = false, still = false;
	int rc = shadow_device_check_backend(d, err);

	for (unsigned int i = 0; i < lanes_count(d->lanes); i++) {
		const struct lane *r = lane_at(d->lanes, i);

		any |= shadow_device_may_start(r, NULL);
		still |= lane_is_resting(r);
	}
	d->start_at = 0;
	if (rc || (!any && !still))
		return rc;
	if (still)
		rc = shadow_device_resume(d, err);
	if (!rc && any)
		rc = device_rest(d, err);
	if (!rc && any)
		rc = wanted_begin(d, err);
	if (shadow_device_is_fatal(rc))
		return shadow_device_lose(d, rc, err);
	if (rc)
		shadow_device_start_failed(d, err);
	else
		d->start_error[0] = '\0';
	shadow_device_settle(d);
	return rc;
}

void shadow_device_start_failed(struct shadow_device *d, const struct umbra_error *err)
{
	d->retry_us = MIN(MAX(d->retry_us, (uint64_t)RETRY_FIRST_US), (uint64_t)RETRY_MOST_US);
	log_error("%s; the queues that are wanted and do not run are tried again in %" PRIu64 " s",
		  err->text, d->retry_us / 1000000u);
	snprintf(d->start_error, sizeof(d->start_error), "%s", err->text);
	d->start_at = d->host->ops->now_us(d->host) + d->retry_us;
	d->retry_us *= 2;
}

int shadow_device_tend_ms(const struct shadow_device *d)
{
	uint64_t now;

	if (!d->start_at)
		return -1;
	now = d->host->ops->now_us(d->host);
	return now >= d->start_at ? 0 : (int)((d->start_at - now + 999) / 1000);
}

void shadow_device_tend(struct shadow_device *d)
{
	struct umbra_error err;

	if (shadow_device_tend_ms(d) == 0)
		(void)!shadow_device_start_now(d, &err);
}
