/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Switching a running device between passed through and shadowed.
 *
 * Theory of operation.  The two directions are one algorithm, because a ring is
 * started and stopped in the same way in either mode (shadow_ring.h):
 *
 *  1. Hush (shadow_ring.h) and halt every running ring at the back-end.  Chains that it has not
 * taken are back on the guest's ring; the guest goes on adding chains and kicking, which nobody
 * hears.
 *  2. Drain: wait until every chain that it has taken is used.  A device that
 *     still owns a buffer must not see it twice.
 *  3. Start every ring in the other mode at the index where it stopped.  Each
 *     start ends with a kick, for those that nobody heard.
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
#include "shadow/shadow_device_private.h"

/* Between two looks at rings that drain: well below a disk's service time, and
 * far above the cost of a look. */
#define DRAIN_LOOK_US 50u

/* How long a hushed ring is waited for: as long as it completes something every
 * 2 ms (a fast disk's service time, many times over), 20 ms in all. */
#define HUSH_IDLE_US 2000u
#define HUSH_MOST_US 20000u

static const char *mode_name(bool shadowed)
{
	return shadowed ? "shadowed" : "passed through";
}

static bool runs(const struct shadow_ring *r)
{
	return r->run == RING_PASSED || r->run == RING_SHADOWED;
}

int shadow_device_check_mode(const struct shadow_device *d, bool shadowed, struct umbra_error *err)
{
	bool is_possible = shadowed ? d->features.can_shadow : d->features.can_passthrough;

	if (shadowed && d->mode == UMBRA_SHADOW_OFF)
		return error_set(err, -EPERM,
				 "the shadow is switched off for this device (shadow=off)");
	if (!shadowed && d->mode == UMBRA_SHADOW_ON)
		return error_set(err, -EPERM, "the device is always shadowed (shadow=on)");
	if (d->has_features && !is_possible)
		return error_set(err, -EOPNOTSUPP, "%s", d->features.why_not);
	if (shadowed && d->no_shadow[0])
		return error_set(err, -EOPNOTSUPP, "%s", d->no_shadow);
	return 0;
}

int shadow_device_drain(struct shadow_device *d, const struct shadow_ring *only,
			struct umbra_error *err)
{
	uint64_t start = d->host->ops->now_us(d->host);

	for (;;) {
		struct shadow_ring *waiting = NULL;
		int rc;

		for (unsigned int i = 0; i < d->ring_count; i++) {
			struct shadow_ring *r = &d->rings[i];
			struct memory_region slot;
			struct ring_context c = shadow_device_context(d, r, &slot);

			if (!r->halted || (only ? r != only : !runs(r)))
				continue;
			rc = shadow_ring_is_drained(r, &c);
			if (rc < 0) {
				if (r->run != RING_BROKEN)
					shadow_device_break_ring(d, r, NULL);
				continue;
			}
			if (!rc)
				waiting = r;
		}
		if (!waiting)
			return 0;
		if (d->host->ops->now_us(d->host) - start >= d->deadline_us)
			return error_set(err, -ETIME,
					 "queue %u: the back-end took %u chains and did not use "
					 "them within %" PRIu64 " ms",
					 waiting->index, shadow_ring_undrained(waiting),
					 d->deadline_us / 1000);
		rc = d->host->ops->wait_us(d->host, DRAIN_LOOK_US);
		if (rc)
			return error_set(err, rc,
					 "queue %u: stopped while %u chains were in flight",
					 waiting->index, shadow_ring_undrained(waiting));
	}
}

/*
 * Hush ring @only (NULL: every ring that runs), and give what is in flight a
 * moment to complete: as long as the back-end gets on.
 */
static int rings_hush(struct shadow_device *d, struct shadow_ring *only, struct umbra_error *err)
{
	uint64_t start = d->host->ops->now_us(d->host), progress = start;
	uint32_t used_before = 0;

	for (unsigned int i = 0; i < d->ring_count; i++) {
		struct shadow_ring *r = &d->rings[i];
		struct memory_region slot;
		struct ring_context c = shadow_device_context(d, r, &slot);
		int rc;

		if (only ? r != only : !runs(r))
			continue;
		rc = shadow_ring_hush(r, &c, err);
		if (rc)
			return rc;
	}
	for (;;) {
		uint64_t now = d->host->ops->now_us(d->host);
		uint32_t used_sum = 0;
		bool all_quiet = true;

		for (unsigned int i = 0; i < d->ring_count; i++) {
			struct shadow_ring *r = &d->rings[i];
			struct memory_region slot;
			struct ring_context c = shadow_device_context(d, r, &slot);
			uint16_t used;

			if (only ? r != only : !runs(r))
				continue;
			all_quiet &= shadow_ring_is_quiet(r, &c, &used);
			used_sum += used;
		}
		if (used_sum != used_before)
			progress = now;
		used_before = used_sum;
		if (all_quiet || now - progress >= HUSH_IDLE_US || now - start >= HUSH_MOST_US)
			return 0;
		if (d->host->ops->wait_us(d->host, DRAIN_LOOK_US))
			return error_set(err, -ECANCELED, "the device is stopped");
	}
}

int shadow_device_quiesce(struct shadow_device *d, struct shadow_ring *r, struct umbra_error *err)
{
	struct memory_region slot;
	struct ring_context c = shadow_device_context(d, r, &slot);
	int rc = r->run == RING_BROKEN || r->halted ? 0 : rings_hush(d, r, err);

	if (!rc && !r->halted)
		rc = shadow_ring_halt(r, &c, err);

	if (rc == -EPROTO && r->run != RING_BROKEN)
		shadow_device_break_ring(d, r, err->text);
	return rc && rc != -EPROTO ? rc : shadow_device_drain(d, r, err);
}

/* A ring whose peer lies is broken on the way; the others go on. */
static int rings_halt(struct shadow_device *d, struct umbra_error *err)
{
	for (unsigned int i = 0; i < d->ring_count; i++) {
		struct shadow_ring *r = &d->rings[i];
		struct memory_region slot;
		struct ring_context c = shadow_device_context(d, r, &slot);
		int rc;

		if (!runs(r))
			continue;
		rc = shadow_ring_halt(r, &c, err);
		if (rc == -EPROTO)
			shadow_device_break_ring(d, r, err->text);
		else if (rc)
			return rc;
	}
	return 0;
}

/* The rings that were hushed or halted go on in the old mode. */
static int rings_resume(struct shadow_device *d, struct umbra_error *err)
{
	for (unsigned int i = 0; i < d->ring_count; i++) {
		struct shadow_ring *r = &d->rings[i];
		struct memory_region slot;
		struct ring_context c = shadow_device_context(d, r, &slot);
		int rc;

		if (!runs(r) || !(r->halted || r->hushed))
			continue;
		rc = shadow_ring_resume(r, &c, err);
		if (rc)
			return rc;
	}
	return 0;
}

/* All halted rings are drained: start them in the given mode. */
static int rings_restart(struct shadow_device *d, bool shadowed, struct umbra_error *err)
{
	int first_error = 0;

	for (unsigned int i = 0; i < d->ring_count; i++) {
		struct shadow_ring *r = &d->rings[i];
		struct memory_region slot;
		struct ring_context c = shadow_device_context(d, r, &slot);
		struct umbra_error ring_error = { "" };
		int rc;

		if (!r->halted || !runs(r))
			continue;
		shadow_ring_finish(r, &c);
		rc = shadow_ring_start(r, &c, shadowed, &ring_error);
		if (!rc)
			continue;
		if (shadow_device_is_fatal(rc)) {
			*err = ring_error;
			return rc;
		}
		/* This one cannot: it goes on as it was, so that all modes are
		 * the same again after a second switch. */
		log_error("%s", ring_error.text);
		if (!first_error) {
			*err = ring_error;
			first_error = rc;
		}
		rc = shadow_ring_start(r, &c, !shadowed, &ring_error);
		if (rc)
			return rc;
	}
	return first_error;
}

/* Try to change the mode of running rings.  On failure the old mode is back,
 * unless the code is fatal. */
static int rings_switch(struct shadow_device *d, bool shadowed, struct umbra_error *err)
{
	uint64_t start = d->host->ops->now_us(d->host);
	struct umbra_error ignored;
	int rc, back;

	rc = rings_hush(d, NULL, err);
	if (!rc)
		rc = rings_halt(d, err);
	if (!rc)
		rc = shadow_device_drain(d, NULL, err);
	if (!rc && (d->overdue || d->host->ops->now_us(d->host) - start >= d->deadline_us))
		rc = error_set(err, -ETIME,
			       "the back-end took longer than %" PRIu64 " ms to stop its rings",
			       d->deadline_us / 1000);
	if (rc) {
		back = shadow_device_is_fatal(rc) ? rc : rings_resume(d, &ignored);
		if (back && back != rc)
			*err = ignored;
		return back ? back : rc;
	}
	rc = rings_restart(d, shadowed, err);
	if (!rc || shadow_device_is_fatal(rc))
		return rc;
	/* Bring the ones that did start back, which is the same way again. */
	back = rings_hush(d, NULL, &ignored);
	if (!back)
		back = rings_halt(d, &ignored);
	if (!back)
		back = shadow_device_drain(d, NULL, &ignored);
	if (!back)
		back = rings_restart(d, !shadowed, &ignored);
	return back ? back : rc;
}

void shadow_device_switch_overdue(struct shadow_device *d, const char *reason)
{
	if (d->overdue)
		return;
	d->overdue = true;
	d->switches_failed++;
	shadow_device_set_state(d, UMBRA_DEVICE_SWITCHING, reason);
}

int shadow_device_switch(struct shadow_device *d, bool shadowed, struct umbra_error *err)
{
	enum umbra_device_state before = d->state;
	uint64_t start;
	bool any = false;
	int rc;

	rc = shadow_device_check_mode(d, shadowed, err);
	if (rc)
		return rc;
	if (d->shadow_wanted == shadowed)
		return 0;
	for (unsigned int i = 0; i < d->ring_count; i++)
		any |= runs(&d->rings[i]);
	if (!any) {
		d->shadow_wanted = shadowed;
		shadow_device_settle(d);
		return 0;
	}

	start = d->host->ops->now_us(d->host);
	shadow_device_set_state(d, UMBRA_DEVICE_SWITCHING,
				shadowed ? "to shadowed" : "to passed through");
	d->overdue = false;
	rc = rings_switch(d, shadowed, err);
	if (rc && !d->overdue)
		d->switches_failed++;
	d->overdue = false;
	if (shadow_device_is_fatal(rc))
		return shadow_device_lose(d, rc, err);
	if (rc) {
		error_prefix(err, rc, "the device stays %s", mode_name(!shadowed));
		shadow_device_settle(d);
		return rc == -ETIME ? -ETIMEDOUT : rc;
	}
	d->shadow_wanted = shadowed;
	d->switches++;
	d->last_pause_us = d->host->ops->now_us(d->host) - start;
	if (d->last_pause_us > d->longest_pause_us)
		d->longest_pause_us = d->last_pause_us;
	log_debug("%s now, after a pause of %" PRIu64 " us (was %s)", mode_name(shadowed),
		  d->last_pause_us, umbra_device_state_name(before));
	shadow_device_settle(d);
	return 0;
}
