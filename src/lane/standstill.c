/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How running rings come to a standstill, and go on.
 *
 * Theory of operation.  The steps are the same for one ring and for all, for a
 * back-end that stops each ring by itself and for a device that is stopped as a
 * whole (lane.h says why each):
 *
 *  1. Hush: a ring that is shadowed is fed no more; before one that is passed through
 *     the back-end is told to take no more, in the way that it bears (virtio_ops.h).
 *  2. Idle: wait until nothing is there that a stop would lose, or race with.  Only a
 *     device that can be suspended, and a back-end whose answer to a stop comes after
 *     the last completion, are not waited for.
 *  3. Where the device is stopped as a whole: stop it.
 *  4. Halt each ring: ask where it stands.
 *  5. Drain: wait until what was taken is used.
 *
 * All waiting is one wait with one start and one deadline, and no step is right only
 * because a peer was quick: what is not known to be over is waited for.  Until 3, or 4,
 * nothing has happened that cannot be undone by letting the back-end hear again.  A device
 * that keeps requests makes 2 or 5 fail at the deadline.  Who merely wanted a change then
 * gets an error and the rings go on; when the front-end stops or resets its ring, that
 * happens (@by_force), and what the back-end has is given up.
 */
#include "lane/standstill.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_ring.h>
#include <stdio.h>

#include "base/error.h"
#include "base/log.h"
#include "lane/lane_private.h"
#include "lane/own_ring.h"
#include "lane/past.h"

/* Between two looks at rings that drain: well below a disk's service time, and
 * far above the cost of a look. */
#define DRAIN_LOOK_US 50u

static bool is_meant(const struct lane *r, const struct lane *only)
{
	return !only || r == only;
}

/* --- before the stop ------------------------------------------------------ */

/* Among others, a broken ring is left to the back-end that has it, unless the device is
 * stopped as a whole. */
static bool is_halted_with(const struct lane *r, const struct lane_context *c,
			   const struct lane *only)
{
	return is_meant(r, only) && lane_is_at_backend(r) &&
	       (only || backend_runs_as_one(c->backend) || lane_runs(r));
}

static int rings_hush(struct lanes *lanes, const struct lane_context *c, const struct lane *only,
		      struct umbra_error *err)
{
	for (unsigned int i = 0; i < lanes->count; i++) {
		struct lane *r = &lanes->lane[i];
		int rc;

		if (!is_meant(r, only) || !lane_runs(r) || lane_is_halted(r))
			continue;
		rc = lane_hush(r, c, err);
		if (rc)
			return rc;
	}
	return 0;
}

/*
 * Which ring has chains that its stop would lose, or that make the stop a race?  1: *@busy
 * has most of them, *@left (0: it is waited for without any); 0: none.
 */
static int ring_busy_find(struct lanes *lanes, const struct lane_context *c,
			  const struct lane *only, const struct lane **busy, uint16_t *left,
			  struct umbra_error *err)
{
	bool found = false;

	*left = 0;
	for (unsigned int i = 0; i < lanes->count; i++) {
		struct lane *r = &lanes->lane[i];
		uint16_t n;
		int rc;

		if (!is_halted_with(r, c, only))
			continue;
		rc = lane_is_idle(r, c, &n, err);
		if (rc == -EPROTO) {
			if (!lane_is_broken(r))
				lane_break(r, c, NULL);
		} else if (rc < 0) {
			return rc;
		} else if (!rc && (!found || n > *left)) {
			found = true;
			*busy = r;
			*left = n;
		}
	}
	return found;
}

/* @r was waited for in vain: -ETIME. */
static int busy_error(const struct lane *r, const struct lane_context *c, uint16_t left,
		      struct umbra_error *err)
{
	uint64_t ms = c->deadline_us / 1000;

	if (backend_is_reset_by_stop(c->backend))
		return error_set(err, -ETIME,
				 "queue %u: the device cannot be suspended (no "
				 "VHOST_BACKEND_F_SUSPEND), and after %" PRIu64
				 " ms %u requests are still with it, as far as it can be asked",
				 lane_index(r), ms, left);
	if (lane_is_passed(r) && !(c->guest_features & BIT64(VIRTIO_RING_F_EVENT_IDX)) &&
	    r->hush.sounding != SOUNDING_DONE)
		return error_set(
			err, -ETIME,
			"queue %u: after %" PRIu64 " ms %u chains are not used, and without "
			"VIRTIO_F_EVENT_IDX nobody can tell which of them the back-end has "
			"taken",
			lane_index(r), ms, left);
	return error_set(err, -ETIME,
			 "queue %u: the back-end has %u chains and did not use them within "
			 "%" PRIu64 " ms",
			 lane_index(r), left, ms);
}

/* Waiting for @r, which has @left chains in flight, has ended with @rc. */
static int wait_error(const struct lane *r, uint16_t left, int rc, struct umbra_error *err)
{
	if (rc == -ECONNRESET)
		return error_set(err, rc,
				 "queue %u: the back-end has hung up with %u chains that were "
				 "waited for",
				 lane_index(r), left);
	return error_set(err, rc, "queue %u: stopped with %u chains in flight", lane_index(r),
			 left);
}

/* Wait from @start on, at most the deadline, until a stop loses and races nothing. */
static int rings_await_idle(struct lanes *lanes, const struct lane_context *c,
			    const struct lane *only, uint64_t start, struct umbra_error *err)
{
	for (;;) {
		const struct lane *busy = NULL;
		uint16_t left;
		int rc = ring_busy_find(lanes, c, only, &busy, &left, err);

		if (rc <= 0)
			return rc;
		if (device_host_now_us(c->host->device) - start >= c->deadline_us) {
			if (left || backend_runs_as_one(c->backend) ||
			    !c->backend->ops->ring_presume_rest(c->backend, lane_index(busy),
								c->deadline_us / 1000))
				return busy_error(busy, c, left, err);
			continue;
		}
		rc = c->host->ops->wait_us(c->host, DRAIN_LOOK_US);
		if (rc)
			return wait_error(busy, left, rc, err);
	}
}

/* --- the stop ------------------------------------------------------------- */

/* A ring whose peer lies is broken on the way; the others go on. */
static int rings_halt(struct lanes *lanes, const struct lane_context *c, const struct lane *only,
		      struct umbra_error *err)
{
	for (unsigned int i = 0; i < lanes->count; i++) {
		struct lane *r = &lanes->lane[i];
		int rc;

		if (!is_halted_with(r, c, only))
			continue;
		rc = lane_halt(r, c, err);
		if (rc && rc != -EPROTO)
			return rc;
		if (rc && !lane_is_broken(r))
			lane_break(r, c, err->text);
	}
	return 0;
}

static int rings_drain(struct lanes *lanes, const struct lane_context *c, const struct lane *only,
		       uint64_t start, struct umbra_error *err)
{
	for (;;) {
		struct lane *waiting = NULL;
		int rc;

		for (unsigned int i = 0; i < lanes->count; i++) {
			struct lane *r = &lanes->lane[i];

			if (!lane_is_halted(r) || (only ? r != only : !lane_runs(r)))
				continue;
			rc = lane_is_drained(r, c);
			if (rc < 0) {
				if (!lane_is_broken(r))
					lane_break(r, c, NULL);
				continue;
			}
			if (!rc)
				waiting = r;
		}
		if (!waiting)
			return 0;
		if (device_host_now_us(c->host->device) - start >= c->deadline_us)
			return error_set(err, -ETIME,
					 "queue %u: the back-end took %u chains and did not use "
					 "them within %" PRIu64 " ms",
					 lane_index(waiting), lane_undrained(waiting),
					 c->deadline_us / 1000);
		rc = c->host->ops->wait_us(c->host, DRAIN_LOOK_US);
		if (rc)
			return wait_error(waiting, lane_undrained(waiting), rc, err);
	}
}

/* --- all of it ------------------------------------------------------------ */

static int device_stop(struct lanes *lanes, const struct lane_context *c, struct umbra_error *err)
{
	bool any = false;

	for (unsigned int i = 0; i < lanes->count; i++)
		any |= lane_is_at_backend(&lanes->lane[i]);
	return any ? c->backend->ops->device_stop(c->backend, err) : 0;
}

int lanes_quiesce(struct lanes *lanes, const struct lane_context *c, struct lane *only,
		  bool by_force, struct umbra_error *err)
{
	uint64_t start = device_host_now_us(c->host->device);
	bool runs_as_one = backend_runs_as_one(c->backend);
	int rc;

	if (runs_as_one)
		only = NULL;
	rc = rings_hush(lanes, c, only, err);
	/* A device that is suspended uses what it has by itself. */
	if (!rc && !(c->backend->traits & BACKEND_SUSPENDS))
		rc = rings_await_idle(lanes, c, only, start, err);
	if (rc == -ETIME && by_force) {
		log_warning("%s; it is stopped all the same", err->text);
		rc = 0;
	}
	if (!rc && runs_as_one)
		rc = device_stop(lanes, c, err);
	if (!rc)
		rc = rings_halt(lanes, c, only, err);
	return rc ? rc : rings_drain(lanes, c, only, start, err);
}

int lanes_resume(struct lanes *lanes, const struct lane_context *c, struct umbra_error *err)
{
	for (unsigned int i = 0; i < lanes->count; i++) {
		struct lane *r = &lanes->lane[i];
		int rc = lane_is_resting(r) ? lane_resume(r, c, err) : 0;

		if (rc && rc != -EPROTO)
			return rc;
		if (rc)
			lane_break(r, c, err->text);
	}
	return 0;
}

void lanes_finish(struct lanes *lanes, const struct lane_context *c)
{
	for (unsigned int i = 0; i < lanes->count; i++)
		if (lane_runs(&lanes->lane[i]) && lane_is_halted(&lanes->lane[i]))
			lane_finish(&lanes->lane[i], c);
}

/* Nobody served it, but the back-end may have worked on one that is passed through. */
static int ring_take_back(struct lanes *lanes, const struct lane_context *c, struct lane *r,
			  struct umbra_error *err)
{
	int rc = lanes_quiesce(lanes, c, r, true, err);

	if (rc && rc != -ETIME)
		return rc;
	if (rc)
		log_error("%s; they are given up", err->text);
	if (lane_is_halted(r) && lane_runs(r))
		lane_finish(r, c);
	return 0;
}

int lanes_take_back(struct lanes *lanes, const struct lane_context *c, struct umbra_error *err)
{
	for (unsigned int i = 0; i < lanes->count; i++) {
		struct lane *r = &lanes->lane[i];
		int rc;

		if (!lane_is_started(r))
			continue;
		rc = backend_runs_as_one(c->backend) ? lane_ungo(r, c, err)
						     : ring_take_back(lanes, c, r, err);
		if (rc)
			return rc;
	}
	return 0;
}

unsigned int lanes_hold(struct lanes *lanes, const struct lane_context *c)
{
	unsigned int unsettled = 0;

	for (unsigned int i = 0; i < lanes->count; i++) {
		struct lane *r = &lanes->lane[i];

		if (!r->queue)
			ghosts_look(r, own_ring_size(r, c));
		unsettled += lane_ghosts(r) + r->left;
		if (lane_is_at_backend(r) || (lane_runs(r) && lane_is_halted(r)))
			unsettled += lane_hold(r, c);
		ghosts_forget(r);
		own_ring_close(r);
		r->left = false;
	}
	return unsettled;
}
