/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Switching a device whose rings run between passed through and shadowed.
 *
 * Theory of operation.  The two directions are one algorithm, because a ring is
 * started and stopped in the same way in either mode (lane.h), and it is
 * the same for both kinds of back-end:
 *
 *  1. Bring every running ring to a standstill (standstill.c).  Chains that the back-end has
 *     not taken are back on the guest's ring; those that it has taken are used, since a
 *     device that still owns a buffer must not see it twice.  The guest goes on adding
 *     chains and kicking, which nobody hears.
 *  2. Let go of them: they are wanted, and nobody has them.
 *  3. Begin with every ring in the other mode (shadow_start.c), at the index where it
 *     stopped.  Each start ends with a kick, for those that nobody heard.
 *
 * If the chains in flight do not come back in time (a back-end that took
 * receive buffers and keeps them), or a ring cannot be started in the other
 * mode, the rings go on in the old mode and the error says what was in the way.
 * Rejected: to give a stuck ring back to the guest without its chains (they
 * would be lost) or to submit them again (they might be done twice).
 *
 * The pause that the guest sees is from step 1 to step 3 and is measured.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/error.h"
#include "base/log.h"
#include "device/shadow_device_private.h"

static const char *mode_name(bool shadowed)
{
	return shadowed ? "shadowed" : "passed through";
}

static bool is_overdue(const struct shadow_device *d)
{
	return d->overdue && *d->overdue;
}

/* All that ran in this mode is started in it again, and not @beginner (or NULL). */
static int rings_start_again(struct shadow_device *d, struct lane *beginner, bool shadowed,
			     struct umbra_error *err)
{
	int rc;

	if (beginner)
		lane_front(beginner)->enabled = false;
	rc = shadow_begin_wanted(d, NULL, shadowed, err);
	if (beginner)
		lane_front(beginner)->enabled = true;
	return rc;
}

/* What had to be undone for @rc was, or not: @back and @later. */
static int undone(struct shadow_device *d, int rc, int back, const struct umbra_error *later,
		  struct umbra_error *err)
{
	if (backend_is_lost(back)) {
		*err = *later;
		return back;
	}
	if (back)
		shadow_retry_later(d, later);
	return rc;
}

int shadow_switch_rest(struct shadow_device *d, struct umbra_error *err)
{
	struct lane_context c = shadow_lanes_context(d);
	uint64_t start = device_host_now_us(d->host->device);
	struct umbra_error later = { "" };
	int rc;

	rc = lanes_quiesce(d->lanes, &c, NULL, false, err);
	if (!rc && (is_overdue(d) || device_host_now_us(d->host->device) - start >= d->deadline_us))
		rc = error_set(err, -ETIME,
			       "the back-end took longer than %" PRIu64 " ms to stop its rings",
			       d->deadline_us / 1000);
	if (!rc) {
		lanes_finish(d->lanes, &c);
		return 0;
	}
	return undone(d, rc, backend_is_lost(rc) ? 0 : shadow_begin_again(d, &later), &later, err);
}

/* Try to change the mode of running rings.  On failure the old mode is back,
 * unless the code is fatal or the rings are wanted, to be tried again. */
static int rings_switch(struct shadow_device *d, struct lane *beginner, bool shadowed,
			struct umbra_error *err)
{
	struct umbra_error later = { "" };
	int rc = shadow_switch_rest(d, err), back;

	if (rc)
		return rc;
	rc = shadow_begin_wanted(d, NULL, shadowed, err);
	back = !rc || backend_is_lost(rc) ? 0 : rings_start_again(d, beginner, !shadowed, &later);
	return undone(d, rc, back, &later, err);
}

void shadow_device_switch_overdue(struct shadow_device *d, const char *reason)
{
	if (!d->overdue || *d->overdue)
		return;
	*d->overdue = true;
	d->switches_failed++; /* whatever becomes of it: switch_count() */
	shadow_state_note(d, DEVICE_SWITCHES, reason);
}

/* A switch has ended.  It counts once, and as what was said of it to who asked. */
static void switch_count(struct shadow_device *d, bool done)
{
	if (is_overdue(d))
		return;
	if (done)
		d->switches++;
	else
		d->switches_failed++;
}

void shadow_switch_note_broken(const struct shadow_device *d, bool broken[UMBRA_QUEUES_MAX])
{
	for (unsigned int i = 0; i < UMBRA_QUEUES_MAX; i++)
		broken[i] = lane_is_broken(lane_at(d->lanes, i));
}

int shadow_switch_broken_since(const struct shadow_device *d, const bool before[UMBRA_QUEUES_MAX],
			       bool shadowed, struct umbra_error *err)
{
	for (unsigned int i = 0; i < lanes_count(d->lanes); i++)
		if (lane_is_broken(lane_at(d->lanes, i)) && !before[i])
			return error_set(err, -EPROTO,
					 "queue %u broke on the way, and the others are %s: %s", i,
					 mode_name(shadowed), lane_error(lane_at(d->lanes, i)));
	return 0;
}

int shadow_switch_running(struct shadow_device *d, struct lane *beginner, bool shadowed,
			  struct umbra_error *err)
{
	bool broken[UMBRA_QUEUES_MAX];
	enum umbra_device_state before = d->seen;
	uint64_t start = device_host_now_us(d->host->device);
	int rc;

	shadow_state_note(d, DEVICE_SWITCHES, shadowed ? "to shadowed" : "to passed through");
	shadow_switch_note_broken(d, broken);
	rc = rings_switch(d, beginner, shadowed, err);
	if (rc)
		switch_count(d, false);
	if (backend_is_lost(rc))
		return shadow_backend_judge(d, rc, err);
	if (rc) {
		error_prefix(err, rc, "the device stays %s", mode_name(!shadowed));
		shadow_state_settle(d);
		return rc;
	}
	d->shadow_wanted = shadowed;
	rc = shadow_switch_broken_since(d, broken, shadowed, err);
	switch_count(d, !rc);
	d->last_pause_us = device_host_now_us(d->host->device) - start;
	if (d->last_pause_us > d->longest_pause_us)
		d->longest_pause_us = d->last_pause_us;
	log_debug("%s now, after a pause of %" PRIu64 " us (was %s)", mode_name(shadowed),
		  d->last_pause_us, umbra_device_state_name(before));
	shadow_state_settle(d);
	return rc;
}
