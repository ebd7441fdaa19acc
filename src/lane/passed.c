/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A lane that is passed through: the back-end has the guest's ring and eventfds.
 *
 * Theory of operation.  The guest goes on adding chains whatever happens, so before a stop
 * the back-end is told to take no more, in the way that it bears (virtio_ops.h).  Then its
 * ring tells when it has used what it took, or is sounded (ring_is_quiet()).
 *
 * Of a device that is reset by its stop only the device knows.  It is hushed, and asked how
 * far it has taken (ring_base()): if that is all used in two answers one after the other, it
 * has nothing, and sleeps, since a kick that it had heard before the first would show in the
 * second.  Of a device that does not answer nobody knows: it cannot be switched, and when
 * the front-end stops it all the same, what it had shows in the base after the stop, and is
 * counted as lost.
 *
 * What a back-end that lied about where it stopped has done nobody knows, so the ring then
 * stands at what is available: nothing is done twice, and what was not used is lost, and
 * counted.
 *
 * A ring that lacks chains (lane_gap()) cannot be passed through to a device that is stopped as a
 * whole, which would take up the used ring where avail begins.
 *
 * Trust: the guest's ring is read where it is, and both its peers write it; what it says is
 * judged where it decides anything.
 */
#include <errno.h>
#include <linux/virtio_ring.h>

#include "base/error.h"
#include "base/log.h"
#include "lane/lane_ops.h"
#include "lane/lane_private.h"
#include "ring/split_look.h"

/* A guest that does not read its calls for so long does not want them. */
#define CALL_ROOM_WAIT_US 1000000u

/*
 * libvhost-user notifies every new call fd at once, and where that is full (User
 * Mode Linux's is a socket) it answers the message as if it had been a
 * question.  So give the guest time to read what is there.
 */
static int call_room_wait(const struct lane *r, const struct lane_context *c,
			  struct umbra_error *err)
{
	uint64_t start = device_host_now_us(c->host->device);

	while (!c->host->ops->can_notify(c->host, r->front.call_fd) &&
	       device_host_now_us(c->host->device) - start < CALL_ROOM_WAIT_US)
		if (c->host->ops->wait_us(c->host, 1000))
			return error_set(err, -ECANCELED, "the device is stopped");
	return 0;
}

static int passed_start(struct lane *r, const struct lane_context *c, bool enabled,
			struct umbra_error *err)
{
	const struct virtio_ring ring = {
		.size = r->front.size,
		.base = r->front.base,
		.addr = r->front.addr,
		.kick_fd = r->front.kick_fd,
		.call_fd = r->front.call_fd,
		.err_fd = r->front.err_fd,
		.enabled = enabled,
	};
	int rc;

	if ((backend_runs_as_one(c->backend) && lane_gap(r)) || lane_waiting(r))
		return error_set(
			err, -EOPNOTSUPP,
			"queue %u cannot be passed through: %u chains that the device was "
			"given before were not used (%u of them wait to be given again), and "
			"are not the newest on the guest's ring",
			r->front.index, lane_gap(r), lane_waiting(r));
	rc = call_room_wait(r, c, err);
	if (!rc)
		rc = c->backend->ops->ring_start(c->backend, r->front.index, &ring, err);
	if (!rc) /* what it completes from now on nobody notes */
		lane_flights_forget(&r->flights);
	return rc;
}

/*
 * Sound a hushed ring whose guest has no EVENT_IDX, so that the ring does not tell how far the
 * back-end has taken.  1: @taken->avail says how far; 0: not known yet; errors as of virtio_ops.h.
 *
 * The back-end takes once all that is available.  If the guest has made nothing available in
 * between, just that is taken; otherwise it is tried again.
 */
static int ring_sound(struct lane *r, const struct lane_context *c, struct ring_position *taken,
		      struct umbra_error *err)
{
	struct ring_position said = *taken;
	int rc;

	taken->avail = r->hush.sounded.avail;
	if (r->hush.sounding == SOUNDING_DONE)
		return 1;
	if (r->hush.sounding == SOUNDING_NOT) {
		r->hush.sounded = said;
		r->hush.sounding = SOUNDING_BEGUN;
	}
	rc = c->backend->ops->ring_sound(c->backend, r->front.index, err);
	if (rc <= 0)
		return rc;
	r->hush.sounding =
		ring_taken_since(split_said(&r->front.split), r->hush.sounded, r->front.size)
			? SOUNDING_NOT
			: SOUNDING_DONE;
	return 0;
}

/* Chains of a passed ring that its device, which has taken all up to @taken, has not used. */
static uint16_t ring_open(const struct lane *r, struct ring_position taken)
{
	return (uint16_t)(ring_outstanding(taken, r->front.size) - lane_gap(r));
}

/*
 * Has the hushed back-end of a ring that is passed through used all that it has taken?  1,
 * 0: *@left chains it has not used, or may not have; errors as of virtio_ops.h.
 *
 * All that is available being used is a proof in itself.  Otherwise one must know how far
 * the back-end has taken.  With EVENT_IDX it asks to be kicked for the first chain that it
 * has not taken.  Without, it may bear completions after its stop, whose answer
 * tells; else it is sounded.
 */
static int ring_is_quiet(struct lane *r, const struct lane_context *c, enum ring_rest rest,
			 uint16_t *left, struct umbra_error *err)
{
	struct ring_position taken = split_said(&r->front.split);
	int rc = 1;

	*left = ring_open(r, taken);
	if (!*left)
		return 1;
	if (c->guest_features & BIT64(VIRTIO_RING_F_EVENT_IDX))
		taken = split_said_taken(&r->front.split);
	else if (rest == RING_MAY_USE_LATER)
		taken = ring_position_with(taken, lane_gap(r), r->front.size);
	else
		rc = ring_sound(r, c, &taken, err);
	if (rc <= 0)
		return rc;
	*left = ring_open(r, taken);
	return !*left;
}

/* A device that is reset by its stop and passed through is asked how far it is.  Two
 * answers, because a kick that it had heard before the first shows in the second.  Of one
 * that does not answer nobody knows what it has: it is never idle. */
#define QUIET_LOOKS 2u

static int reset_is_idle(struct lane *r, const struct lane_context *c, uint16_t *left,
			 struct umbra_error *err)
{
	struct ring_position at = split_said(&r->front.split), base;
	int rc = c->backend->ops->ring_base
			 ? c->backend->ops->ring_base(c->backend, r->front.index, &base, err)
			 : -EOPNOTSUPP;

	if (backend_is_lost(rc))
		return rc;
	if (!rc)
		at.avail = base.avail;
	*left = ring_open(r, at);
	if (rc)
		return 0;
	if (*left)
		r->hush.quiet_looks = 0;
	else
		r->hush.quiet_looks = ring_used_since(at, r->hush.quiet, r->front.size)
					      ? 1
					      : r->hush.quiet_looks + 1;
	r->hush.quiet = at;
	return r->hush.quiet_looks >= QUIET_LOOKS;
}

/* The back-end has stopped a passed ring and says that it stands at @base.  -EPROTO: it
 * cannot. */
static int base_judge(struct lane *r, struct ring_position base, struct umbra_error *err)
{
	struct ring_position said;

	r->halt.base = base;
	if (r->forgotten) /* its memory may be something else by now */
		return 0;
	if (split_can_stand(&r->front.split, &base, &said))
		return 0;
	r->front.base = ring_position_drained(said);
	counter_add(&r->counters.lost, MIN(ring_outstanding(said, r->front.size), r->front.size));
	return error_set(err, -EPROTO,
			 "the back-end stopped at index %u, but the guest's ring has used %u and "
			 "available %u: expected an index from the one to the other, which are "
			 "at most %u apart; what is not used is lost, since nobody knows what "
			 "was done",
			 base.avail, said.used, said.avail, r->front.size);
}

static int passed_halt(struct lane *r, const struct lane_context *c, int answer,
		       struct ring_position base, struct umbra_error *err)
{
	if (!answer && backend_keeps_index(c->backend))
		return base_judge(r, base, err);
	/* Without an answer it stands where it was found idle. */
	r->halt.base = ring_position_with(split_said(&r->front.split), lane_gap(r), r->front.size);
	return 0;
}

static int passed_hush(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	return c->backend->ops->ring_hush(c->backend, r->front.index, true, err);
}

static int passed_is_idle(struct lane *r, const struct lane_context *c, uint16_t *left,
			  struct umbra_error *err)
{
	bool runs_as_one = backend_runs_as_one(c->backend);
	enum ring_rest rest = runs_as_one ? RING_USES_BEFORE_STOP
					  : c->backend->ops->ring_rest(c->backend, r->front.index);

	if (rest == RING_MAY_TAKE)
		return 0;
	/* A ring whose memory may be something else by now is not looked at. */
	if (r->forgotten || rest == RING_STOPS_AT_REST)
		return 1;
	return runs_as_one ? reset_is_idle(r, c, left, err) : ring_is_quiet(r, c, rest, left, err);
}

static uint16_t passed_undrained(const struct lane *r)
{
	uint16_t open;

	if (r->forgotten)
		return 0;
	open = split_outstanding(&r->front.split, r->halt.base);
	/* More than the ring has: the used index has gone past what was taken.  Nothing more
	 * is to come, and the start at that base judges that. */
	if (open > r->front.size)
		return 0;
	return open > lane_gap(r) ? (uint16_t)(open - lane_gap(r)) : 0;
}

static uint16_t passed_left(const struct lane *r)
{
	uint16_t open;

	if (lane_is_halted(r))
		return passed_undrained(r);
	open = ring_outstanding(split_said(&r->front.split), r->front.size);
	return MIN(open, r->front.size);
}

static int passed_restart(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	r->front.base = r->halt.base;
	return passed_start(r, c, true, err);
}

static void passed_finish(struct lane *r, const struct lane_context *c)
{
	uint16_t lost = passed_undrained(r);

	r->left |= lost && !backend_runs_as_one(c->backend);
	counter_add(&r->counters.lost, lost);
	if (lost)
		log_error("queue %u: %u requests that the back-end took and did not use are lost",
			  r->front.index, lost);
	r->front.base = r->halt.base;
}

/* What it has taken of this ring it may complete later, wherever it says that it stopped. */
static void passed_broke(struct lane *r, const struct lane_context *c)
{
	r->left |= !r->forgotten && !backend_runs_as_one(c->backend) &&
		   ring_open(r, split_said(&r->front.split));
}

static int passed_use_fd(struct lane *r, const struct lane_context *c, enum virtio_ring_fd which,
			 int fd, struct umbra_error *err)
{
	return c->backend->ops->ring_exchange(c->backend, r->front.index, which, fd, err);
}

const struct lane_ops lane_passed = {
	.start = passed_start,
	.hush = passed_hush,
	.is_idle = passed_is_idle,
	.halt = passed_halt,
	.undrained = passed_undrained,
	.left = passed_left,
	.restart = passed_restart,
	.finish = passed_finish,
	.use_fd = passed_use_fd,
	.broke = passed_broke,
};
