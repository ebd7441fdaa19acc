/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A device between a front-end and a back-end: what each message about a ring does.
 *
 * Theory of operation.  What the front-end says of a ring is kept, and the
 * back-end hears of it when the ring starts, or of an eventfd that is exchanged.
 *
 * What is said again of a started ring does what virtio/guest_ring.h says.  A new size and any
 * base mean that the driver has forgotten the ring (UML after it was unbound): nothing is
 * written there any more.  Other addresses mean that it lies elsewhere by now: it comes to a
 * standstill where it is, as for GET_VRING_BASE, and starts there, as with a kick fd.
 *
 * A disabled ring is not at the back-end: SET_VRING_ENABLE 0 brings it to a standstill, 1
 * starts it where it stood, in the mode that the device then has.  For a driver that is
 * unbound is told in this way alone (UML), after which the ring's memory may be anything: so
 * nobody may look at it, kick it or work on it, and it takes no part in a switch.  (The
 * specification has the back-end discard what is sent on a disabled network ring; here it
 * waits there.)
 *
 * A device that is stopped as a whole (BACKEND_RUNS_AS_ONE) stops for each ring that
 * stops.  The others are wanted then, and started again when the front-end pauses
 * (shadow_start.c).
 *
 * Where the control queue of a network device begins anew, its guest has forgotten
 * what it said there (shadow_control.c).
 *
 * Implements: SET_VRING_*, GET_VRING_BASE of the vhost-user specification.
 * Threads: the device's thread.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "device/shadow_device_private.h"

static struct lane *ring_find(struct shadow_device *d, unsigned int index, struct umbra_error *err)
{
	if (index >= UMBRA_QUEUES_MAX) {
		error_set(err, -EINVAL, "queue %u does not exist: at most %u are possible", index,
			  UMBRA_QUEUES_MAX);
		return NULL;
	}
	return lanes_name(d->lanes, index);
}

/* --- what the front-end says ------------------------------------------------ */

int shadow_ring_set_size(struct virtio_device *self, unsigned int index, uint32_t size,
			 struct umbra_error *err)
{
	struct shadow_device *d = shadow_of(self);
	struct lane *r = ring_find(d, index, err);
	int rc;

	if (!r)
		return -EINVAL;
	rc = guest_ring_check_size(lane_front(r), size, err);
	if (rc || lane_front(r)->size == size)
		return rc;
	rc = shadow_halt_forgotten(d, r, err);
	if (rc)
		return rc;
	lane_set_size(r, (uint16_t)size);
	return 0;
}

int shadow_ring_set_base(struct virtio_device *self, unsigned int index, struct ring_position base,
			 struct umbra_error *err)
{
	struct shadow_device *d = shadow_of(self);
	struct lane *r = ring_find(d, index, err);
	int rc;

	if (!r)
		return -EINVAL;
	rc = lane_is_stopped(r) ? 0 : shadow_halt_forgotten(d, r, err);
	if (!rc)
		lane_front(r)->base = base;
	return rc;
}

/* Ring @r is wanted and enabled: it begins, at once, or with the others of a device that is started
 * as a whole, or when a back-end is there again. */
static int ring_begin(struct shadow_device *d, struct lane *r, struct umbra_error *err)
{
	struct lane_context c = shadow_lanes_context(d);
	struct umbra_error later;
	int rc = shadow_backend_check(d, err);

	if (!rc && shadow_is_held(d))
		/* So that it is known what waits there; what is wrong with it its start says. */
		(void)!lane_judge(r, &c, &later);
	if (rc || shadow_is_held(d))
		return rc;
	if (shadow_backend_runs_as_one(d)) {
		shadow_retry_soon(d);
		return 0;
	}
	rc = shadow_negotiation_tell(d, err);
	if (!rc)
		rc = shadow_start_choose_mode(d, r, err);
	if (!rc)
		rc = shadow_backend_judge(d, shadow_begin_wanted(d, r, d->shadow_wanted, err), err);
	if (!rc)
		shadow_state_settle(d);
	return rc;
}

/* A device that is started as a whole must not be stopped for a queue that it has not got. */
static int queue_check(struct shadow_device *d, unsigned int index, struct umbra_error *err)
{
	uint64_t count;
	int rc = d->backend->ops->get_queue_num(d->backend, &count, err);

	if (rc == -EOPNOTSUPP || (!rc && index < count))
		return 0;
	if (rc)
		return shadow_backend_judge(d, rc, err);
	return error_set(err, -EINVAL, "queue %u does not exist: the back-end has %" PRIu64, index,
			 count);
}

/* Ring @r, which is stopped, has a kick fd: it is started, or stays stopped. */
static int ring_want(struct shadow_device *d, struct lane *r, struct umbra_error *err)
{
	struct lane_context c = shadow_lanes_context(d);
	int rc = shadow_backend_check(d, err);

	lane_want(r);
	if (!rc && !shadow_has_features(d))
		rc = error_set(err, -EINVAL, "queue %u: it is started before SET_FEATURES",
			       lane_index(r));
	/* What is wrong with it is said now, even if it begins later. */
	if (!rc && shadow_backend_runs_as_one(d))
		rc = queue_check(d, lane_index(r), err);
	if (!rc)
		rc = lane_resolve(r, &c, err);
	if (!rc && shadow_control_is_ring(d, r))
		shadow_control_begins(d, r);
	if (!rc && (lane_front(r)->enabled || shadow_backend_runs_as_one(d)))
		rc = ring_begin(d, r, err);
	else if (!rc)
		shadow_state_settle(d);
	if (rc)
		lane_discard(r, &c);
	return rc;
}

/* Ring @r, wherever in its life, comes to a standstill.  It may be found broken. */
static int ring_halt(struct shadow_device *d, struct lane *r, struct umbra_error *err)
{
	return shadow_halt_is_needed(d, r) ? shadow_halt_ring(d, r, err) : 0;
}

/* Ring @r, which was halted, is left to others: its base is where it stood. */
static void ring_leave(struct shadow_device *d, struct lane *r)
{
	struct lane_context c = shadow_lanes_context(d);

	if (lane_runs(r) || lane_is_broken(r))
		lane_finish(r, &c);
}

static void ring_note_addr(struct lane *r, const struct virtio_ring_addr *addr)
{
	lane_front(r)->addr = *addr;
	lane_front(r)->has_addr = true;
}

/* Ring @r, which was left, starts at @addr, with the kick fd that it has. */
static int ring_want_at(struct shadow_device *d, struct lane *r,
			const struct virtio_ring_addr *addr, struct umbra_error *err)
{
	struct lane_context c = shadow_lanes_context(d);
	int kick_fd = lane_swap_kick(r, -1);

	lane_end(r, &c);
	(void)lane_swap_kick(r, kick_fd);
	ring_note_addr(r, addr);
	return ring_want(d, r, err);
}

/*
 * Ring @r, which was started, is somewhere else: virtio/guest_ring.h.  What is left to go
 * wrong, when its new place has been proven, is that the back-end does not take it there.
 */
static int ring_move(struct shadow_device *d, struct lane *r, const struct virtio_ring_addr *addr,
		     struct umbra_error *err)
{
	const struct virtio_ring_addr before = lane_front(r)->addr;
	struct guest_ring there = *lane_front(r);
	struct umbra_error later;
	bool was_broken = lane_is_broken(r);
	int rc = guest_ring_find_at(&there, addr, d->memory, err), back;

	if (!rc)
		rc = ring_halt(d, r, err);
	if (rc)
		return rc;
	if (lane_is_broken(r) && !was_broken) { /* by its stop: that has to be seen */
		ring_note_addr(r, addr);
		shadow_state_settle(d);
		return 0;
	}
	ring_leave(d, r);
	rc = ring_want_at(d, r, addr, err);
	back = rc && !backend_is_lost(rc) ? ring_want_at(d, r, &before, &later) : 0;
	if (backend_is_lost(back)) {
		*err = later;
		return back;
	}
	if (back) {
		lane_want(r); /* as the front-end does: it must not look as if it were stopped */
		shadow_lanes_break(d, r, later.text);
	}
	if (!backend_is_lost(rc))
		shadow_state_settle(d);
	return rc;
}

int shadow_ring_set_addr(struct virtio_device *self, unsigned int index,
			 const struct virtio_ring_addr *addr, struct umbra_error *err)
{
	struct shadow_device *d = shadow_of(self);
	struct lane *r = ring_find(d, index, err);

	if (!r)
		return -EINVAL;
	if (guest_ring_is_at(lane_front(r), addr))
		return 0;
	if (!lane_is_stopped(r))
		return ring_move(d, r, addr, err);
	ring_note_addr(r, addr);
	return 0;
}

/* Ring @r has another fd than before: lane_exchange(). */
static int ring_exchange(struct shadow_device *d, struct lane *r, enum virtio_ring_fd which,
			 int *fd, struct umbra_error *err)
{
	struct lane_context c = shadow_lanes_context(d);
	int rc = shadow_backend_judge(d, lane_exchange(r, &c, which, fd, err), err);

	if (rc && lane_is_broken(r))
		shadow_state_settle(d);
	return rc;
}

/* Stop ring @r, which is passed through, and start it with the new fd. */
static int kick_restart(struct shadow_device *d, struct lane *r, int *fd, struct umbra_error *err)
{
	struct lane_context c = shadow_lanes_context(d);
	struct umbra_error later;
	int rc = shadow_halt_ring(d, r, err), before, back;

	if (rc)
		return rc;
	if (lane_runs(r))
		lane_finish(r, &c);
	before = lane_swap_kick(r, *fd);
	rc = lane_is_wanted(r) ? ring_begin(d, r, err) : 0;
	if (!rc) {
		fd_close(&before);
		*fd = -1;
		shadow_state_settle(d);
		return 0;
	}
	(void)lane_swap_kick(r, before);
	back = backend_is_lost(rc) ? 0 : ring_begin(d, r, &later);
	if (backend_is_lost(back)) {
		*err = later;
		return back;
	}
	if (back)
		shadow_retry_later(d, &later);
	if (!backend_is_lost(rc))
		shadow_state_settle(d);
	return rc;
}

int shadow_ring_set_kick(struct virtio_device *self, unsigned int index, int *fd,
			 struct umbra_error *err)
{
	struct shadow_device *d = shadow_of(self);
	struct lane *r = ring_find(d, index, err);
	int rc, before;

	if (!r)
		return -EINVAL;
	if (lane_is_passed(r) && !backend_hears_new_kicks(d->backend))
		return kick_restart(d, r, fd, err);
	if (!lane_is_stopped(r))
		return ring_exchange(d, r, VIRTIO_RING_KICK, fd, err);
	before = lane_swap_kick(r, *fd);
	fd_close(&before);
	rc = ring_want(d, r, err);
	if (rc)
		(void)lane_swap_kick(r, -1); /* still the caller's */
	else
		*fd = -1;
	return rc;
}

int shadow_ring_set_call(struct virtio_device *self, unsigned int index, int *fd,
			 struct umbra_error *err)
{
	struct shadow_device *d = shadow_of(self);
	struct lane *r = ring_find(d, index, err);

	return r ? ring_exchange(d, r, VIRTIO_RING_CALL, fd, err) : -EINVAL;
}

int shadow_ring_set_err(struct virtio_device *self, unsigned int index, int *fd,
			struct umbra_error *err)
{
	struct shadow_device *d = shadow_of(self);
	struct lane *r = ring_find(d, index, err);

	return r ? ring_exchange(d, r, VIRTIO_RING_ERR, fd, err) : -EINVAL;
}

/* A ring that the front-end disables goes to a standstill, and waits to be enabled. */
static int ring_disable(struct shadow_device *d, struct lane *r, struct umbra_error *err)
{
	struct lane_context c = shadow_lanes_context(d);
	int rc = shadow_halt_ring(d, r, err);

	if (rc)
		return rc;
	lane_front(r)->enabled = false;
	if (lane_runs(r))
		lane_finish(r, &c);
	shadow_state_settle(d);
	return 0;
}

int shadow_ring_enable(struct virtio_device *self, unsigned int index, bool enabled,
		       struct umbra_error *err)
{
	struct shadow_device *d = shadow_of(self);
	struct lane *r = ring_find(d, index, err);
	int rc;

	if (!r)
		return -EINVAL;
	if (lane_front(r)->enabled == enabled)
		return 0;
	if (!enabled && lane_runs(r)) {
		rc = shadow_backend_check(d, err);
		return rc ? rc : ring_disable(d, r, err);
	}
	lane_front(r)->enabled = enabled;
	if (!enabled || !lane_is_wanted(r))
		return 0;
	rc = ring_begin(d, r, err);
	if (rc)
		lane_front(r)->enabled = false;
	return rc;
}

int shadow_ring_stop(struct virtio_device *self, unsigned int index, struct ring_position *base,
		     struct umbra_error *err)
{
	struct shadow_device *d = shadow_of(self);
	struct lane *r = ring_find(d, index, err);
	struct lane_context c;
	int rc;

	if (!r)
		return -EINVAL;
	rc = ring_halt(d, r, err);
	if (rc)
		return rc;
	ring_leave(d, r);
	c = shadow_lanes_context(d);
	lane_end(r, &c);
	*base = lane_front(r)->base;
	shadow_state_settle(d);
	return 0;
}
