/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How running rings come to a standstill, and go on.
 *
 * Theory of operation.  The steps are the same for one ring and for all, for a
 * back-end that stops each ring by itself and for a device that is stopped as a
 * whole (shadow_ring.h says why each):
 *
 *  1. Hush: the back-end hears no more kicks, and has a moment to complete.
 *  2. Where the stop is a reset: wait until nothing is there that would be lost.
 *  3. Where the device is stopped as a whole: stop it.
 *  4. Halt each ring: ask where it stands.
 *  5. Drain: wait until what was taken is used.
 *
 * Until 3, or 4, nothing has happened that cannot be undone by letting the
 * back-end hear again.  A device that keeps requests makes 2 or 5 fail at the
 * deadline.  Who merely wanted a change then gets an error and the rings go on;
 * when the front-end stops or resets its ring, that happens (@by_force), and what
 * the back-end has is given up.
 *
 * Threads: the device's thread.
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

static bool is_meant(const struct shadow_ring *r, const struct shadow_ring *only)
{
	return !only || r == only;
}

/* --- before the stop ------------------------------------------------------ */

static int rings_hush(struct shadow_device *d, const struct shadow_ring *only,
		      struct umbra_error *err)
{
	for (unsigned int i = 0; i < d->ring_count; i++) {
		struct shadow_ring *r = &d->rings[i];
		struct memory_region slot;
		struct ring_context c = shadow_device_context(d, r, &slot);
		int rc;

		if (!is_meant(r, only) || !shadow_ring_runs(r) || r->halted ||
		    (r->forgotten && r->run == RING_PASSED))
			continue;
		rc = shadow_ring_hush(r, &c, err);
		if (rc)
			return rc;
	}
	return 0;
}

/* Give what is in flight a moment to complete: as long as the back-end gets on. */
static int rings_rest(struct shadow_device *d, const struct shadow_ring *only,
		      struct umbra_error *err)
{
	uint64_t start = d->host->ops->now_us(d->host), progress = start;
	uint32_t used_before = 0;

	for (;;) {
		uint64_t now = d->host->ops->now_us(d->host);
		uint32_t used_sum = 0;
		bool all_quiet = true;

		for (unsigned int i = 0; i < d->ring_count; i++) {
			struct shadow_ring *r = &d->rings[i];
			struct memory_region slot;
			struct ring_context c = shadow_device_context(d, r, &slot);
			uint16_t used;

			if (!is_meant(r, only) || !r->hushed || r->halted)
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

/* Which ring's chains would be lost by a reset?  1: *@busy's *@left, 0: none. */
static int ring_busy_find(struct shadow_device *d, const struct shadow_ring **busy, uint16_t *left,
			  struct umbra_error *err)
{
	bool found = false;

	for (unsigned int i = 0; i < d->ring_count; i++) {
		struct shadow_ring *r = &d->rings[i];
		struct memory_region slot;
		struct ring_context c = shadow_device_context(d, r, &slot);
		uint16_t n;
		int rc;

		if (!shadow_ring_is_at_backend(r))
			continue;
		rc = shadow_ring_is_idle(r, &c, &n, err);
		if (rc == -EPROTO) {
			if (r->run != RING_BROKEN)
				shadow_device_break_ring(d, r, NULL);
		} else if (rc < 0) {
			return rc;
		} else if (!rc) {
			found = true;
			*busy = r;
			*left = n;
		}
	}
	return found;
}

/* Before a reset: wait until nothing would be lost by it.  -ETIME. */
static int rings_await_idle(struct shadow_device *d, struct umbra_error *err)
{
	uint64_t start = d->host->ops->now_us(d->host);

	for (;;) {
		const struct shadow_ring *busy;
		uint16_t left;
		int rc = ring_busy_find(d, &busy, &left, err);

		if (rc <= 0)
			return rc;
		if (d->host->ops->now_us(d->host) - start >= d->deadline_us)
			return error_set(err, -ETIME,
					 "queue %u: the device cannot be suspended (no "
					 "VHOST_BACKEND_F_SUSPEND), and after %" PRIu64
					 " ms %u requests are still with it",
					 busy->index, d->deadline_us / 1000, left);
		rc = d->host->ops->wait_us(d->host, DRAIN_LOOK_US);
		if (rc)
			return error_set(err, rc, "queue %u: stopped with %u requests in flight",
					 busy->index, left);
	}
}

/* --- the stop ------------------------------------------------------------- */

/* A ring whose peer lies is broken on the way; the others go on. */
static int rings_halt(struct shadow_device *d, const struct shadow_ring *only,
		      struct umbra_error *err)
{
	bool is_whole = shadow_device_is_whole(d);

	for (unsigned int i = 0; i < d->ring_count; i++) {
		struct shadow_ring *r = &d->rings[i];
		struct memory_region slot;
		struct ring_context c = shadow_device_context(d, r, &slot);
		int rc;

		/* Among others, a broken one is left to the back-end that has it. */
		if (!is_meant(r, only) || !shadow_ring_is_at_backend(r) ||
		    (!only && !is_whole && !shadow_ring_runs(r)))
			continue;
		rc = shadow_ring_halt(r, &c, err);
		if (rc && rc != -EPROTO)
			return rc;
		if (rc && r->run != RING_BROKEN)
			shadow_device_break_ring(d, r, err->text);
	}
	return 0;
}

static int rings_drain(struct shadow_device *d, const struct shadow_ring *only,
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

			if (!r->halted || (only ? r != only : !shadow_ring_runs(r)))
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

/* --- all of it ------------------------------------------------------------ */

static int device_stop(struct shadow_device *d, struct umbra_error *err)
{
	bool any = false;

	for (unsigned int i = 0; i < d->ring_count; i++)
		any |= shadow_ring_is_at_backend(&d->rings[i]);
	return any ? d->backend->ops->device_stop(d->backend, err) : 0;
}

int shadow_device_quiesce(struct shadow_device *d, struct shadow_ring *only, bool by_force,
			  struct umbra_error *err)
{
	bool is_whole = shadow_device_is_whole(d);
	int rc;

	if (is_whole)
		only = NULL;
	rc = rings_hush(d, only, err);
	if (!rc && backend_is_reset_by_stop(d->backend)) {
		rc = rings_await_idle(d, err);
		if (rc == -ETIME && by_force) {
			log_warning("%s; it is reset all the same", err->text);
			rc = 0;
		}
	} else if (!rc) {
		rc = rings_rest(d, only, err);
	}
	if (!rc && is_whole)
		rc = device_stop(d, err);
	if (!rc)
		rc = rings_halt(d, only, err);
	return rc ? rc : rings_drain(d, only, err);
}

int shadow_device_resume(struct shadow_device *d, struct umbra_error *err)
{
	bool is_stopped = false;

	for (unsigned int i = 0; i < d->ring_count; i++)
		is_stopped |= shadow_ring_runs(&d->rings[i]) && d->rings[i].halted;
	if (is_stopped && shadow_device_is_whole(d)) {
		shadow_device_finish(d);
		return shadow_device_begin(d, NULL, d->shadow_wanted, err);
	}
	for (unsigned int i = 0; i < d->ring_count; i++) {
		struct shadow_ring *r = &d->rings[i];
		struct memory_region slot;
		struct ring_context c = shadow_device_context(d, r, &slot);
		int rc = shadow_ring_runs(r) && (r->halted || r->hushed)
				 ? shadow_ring_resume(r, &c, err)
				 : 0;

		if (rc)
			return rc;
	}
	return 0;
}
