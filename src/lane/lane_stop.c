/* SPDX-License-Identifier: BSD-2-Clause */
/* One ring of a shadow device, how it is stopped: see lane.h. */
#include <errno.h>
#include <linux/virtio_ring.h>

#include "base/error.h"
#include "base/log.h"
#include "lane/followed.h"
#include "ring/split_look.h"

/* --- before the stop ------------------------------------------------------ */

/* Tell the back-end to take no more, in the way of its family. */
static int hush_tell(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	int rc = 0;

	switch (c->backend->hush) {
	case BACKEND_HUSH_NOT:
		return 0;
	case BACKEND_HUSH_KICK:
		if (r->front.kick_fd < 0) /* it polls, and cannot be stopped from taking */
			return 0;
		rc = c->backend->ops->ring_exchange(c->backend, r->index, VIRTIO_RING_KICK,
						    r->quiet_fd, err);
		break;
	case BACKEND_HUSH_ENABLE:
		rc = c->backend->ops->ring_enable(c->backend, r->index, false, err);
		/* When it has read this, the round that it may have been in is over. */
		if (!rc)
			c->host->ops->notify(c->host, back_kick_fd(r));
		break;
	}
	r->hush.is_muted = !rc;
	return rc;
}

int lane_hush(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	lane_expect_step(r, LANE_HUSH);
	lane_pause(r, c);
	lane_take_step(r, LANE_HUSH);
	r->hush.quiet_looks = 0;
	r->hush.sounding = SOUNDING_NOT;
	/* One that is not passed through is hushed by feeding it no more, and has to hear of
	 * what it has been fed: lane_is_idle(). */
	return lane_is_passed(r) ? hush_tell(r, c, err) : 0;
}

/* Let the back-end hear again. */
int hush_end(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	const struct virtio_ops *ops = c->backend->ops;
	int rc = 0;

	if (r->hush.is_muted)
		rc = c->backend->hush == BACKEND_HUSH_ENABLE
			     ? ops->ring_enable(c->backend, r->index, true, err)
			     : ops->ring_exchange(c->backend, r->index, VIRTIO_RING_KICK,
						  back_kick_fd(r), err);
	if (!rc)
		r->hush.is_muted = false;
	return rc;
}

/* Has the back-end read the kick that tells that its last round is over? */
static bool last_round_is_over(const struct lane *r, const struct lane_context *c)
{
	return c->backend->hush != BACKEND_HUSH_ENABLE || c->backend->leaves_kicks ||
	       c->host->ops->is_heard(c->host, back_kick_fd(r));
}

/*
 * Sound a hushed ring whose guest has no EVENT_IDX, so that the ring does not tell how far the
 * back-end has taken.  1: @taken->avail says how far; 0: not known yet; errors as of virtio_ops.h.
 *
 * The back-end's thread takes all that is available when it hears a kick, before it turns
 * to the next message.  So it is kicked once, on the fd on which nobody else kicks, and when
 * it has read that, it is told what it knows already, which it answers.  If the guest has made
 * nothing available in between, just that is taken; otherwise it is tried again.
 */
static int ring_sound(struct lane *r, const struct lane_context *c, struct ring_position *taken,
		      struct umbra_error *err)
{
	struct ring_position said = *taken;
	int rc;

	taken->avail = r->hush.sounded.avail;
	if (r->hush.sounding == SOUNDING_DONE)
		return 1;
	if (r->hush.sounding == SOUNDING_NOT && r->hush.is_muted) {
		r->hush.sounded = said;
		r->hush.sounding = SOUNDING_KICKED;
		c->host->ops->notify(c->host, r->quiet_fd);
	}
	if (r->hush.sounding == SOUNDING_NOT || !c->host->ops->is_heard(c->host, r->quiet_fd))
		return 0;
	rc = c->backend->ops->ring_exchange(c->backend, r->index, VIRTIO_RING_KICK, r->quiet_fd,
					    err);
	if (rc)
		return rc;
	r->hush.sounding = ring_taken_since(split_said(&r->split), r->hush.sounded, r->front.size)
				   ? SOUNDING_NOT
				   : SOUNDING_DONE;
	return 0;
}

/* Chains of a passed ring that its device, which has taken all up to @taken, has not used. */
static uint16_t ring_open(const struct lane *r, struct ring_position taken)
{
	return (uint16_t)(ring_outstanding(taken, r->front.size) - r->gap);
}

/*
 * Has the hushed back-end of a ring that is passed through used all that it has taken?  1,
 * 0: *@left chains it has not used, or may not have; errors as of virtio_ops.h.
 *
 * All that is available being used is a proof in itself.  Otherwise one must know how far
 * the back-end has taken.  With EVENT_IDX it asks to be kicked for the first chain that it
 * has not taken.  Without, one family bears completions after its stop, whose answer
 * tells; the other is sounded.
 */
static int passed_is_quiet(struct lane *r, const struct lane_context *c, uint16_t *left,
			   struct umbra_error *err)
{
	struct ring_position taken = split_said(&r->split);
	int rc = 1;

	*left = ring_open(r, taken);
	if (!*left)
		return 1;
	if (c->guest_features & BIT64(VIRTIO_RING_F_EVENT_IDX))
		taken = split_said_taken(&r->split);
	else if (c->backend->hush == BACKEND_HUSH_ENABLE)
		taken = ring_position_with(taken, r->gap, r->front.size);
	else
		rc = ring_sound(r, c, &taken, err);
	if (rc <= 0)
		return rc;
	*left = ring_open(r, taken);
	return !*left;
}

/* Complete what the back-end has used, to the guest.  0, -EPROTO. */
static int queue_complete(struct lane *r, const struct lane_context *c)
{
	unsigned int owed;
	int actions = r->control ? control_queue_drain(r->control, &owed)
				 : shadow_queue_drain(r->queue, &owed);

	if (actions < 0 ? owed & SHADOW_CALL_GUEST : (unsigned int)actions & SHADOW_CALL_GUEST)
		c->host->ops->notify(c->host, r->front.call_fd);
	return actions < 0 ? actions : 0;
}

/* A device that is reset by its stop and passed through is asked how far it is.  Two
 * answers, because a kick that it had heard before the first shows in the second.  Of one
 * that does not answer nobody knows what it has: it is never idle. */
#define QUIET_LOOKS 2u

static int reset_is_idle(struct lane *r, const struct lane_context *c, uint16_t *left,
			 struct umbra_error *err)
{
	struct ring_position at = split_said(&r->split), base;
	int rc = c->backend->ops->ring_base
			 ? c->backend->ops->ring_base(c->backend, r->index, &base, err)
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

/* Fed no more, it takes what it was fed; only then it may be told to take nothing. */
static int shadowed_is_idle(struct lane *r, const struct lane_context *c, uint16_t *left,
			    struct umbra_error *err)
{
	int rc = queue_complete(r, c);

	if (rc < 0)
		return rc;
	if (r->control) /* what it has a reset undoes */
		return 1;
	*left = shadow_queue_asking(r->queue, 0);
	if (*left || c->backend->hush != BACKEND_HUSH_ENABLE)
		return !*left;
	rc = r->hush.is_muted ? 0 : hush_tell(r, c, err);
	return rc ? rc : last_round_is_over(r, c);
}

int lane_is_idle(struct lane *r, const struct lane_context *c, uint16_t *left,
		 struct umbra_error *err)
{
	*left = 0;
	if (!lane_is_passed(r) && !lane_has_queue(r))
		return 1;
	if (!lane_is_passed(r))
		return shadowed_is_idle(r, c, left, err);
	if (!last_round_is_over(r, c))
		return 0;
	/* A ring whose memory may be something else by now is not looked at. */
	if (r->forgotten)
		return 1;
	if (backend_is_reset_by_stop(c->backend))
		return reset_is_idle(r, c, left, err);
	return c->backend->hush == BACKEND_HUSH_NOT ? 1 : passed_is_quiet(r, c, left, err);
}

/* --- the stop ------------------------------------------------------------- */

/* The back-end has stopped a passed ring and says that it stands at @base.  -EPROTO: it
 * cannot. */
static int passed_halt(struct lane *r, struct ring_position base, struct umbra_error *err)
{
	struct ring_position said;

	r->halt.base = base;
	if (r->forgotten) /* its memory may be something else by now */
		return 0;
	if (split_can_stand(&r->split, &base, &said))
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

/* The device is stopped as a whole, and answered @base; @rc: it could not. */
static int whole_halt(struct lane *r, const struct lane_context *c, int rc,
		      struct ring_position base, struct umbra_error *err)
{
	bool is_known = !rc && backend_keeps_index(c->backend);
	uint16_t in_flight;

	if (lane_is_passed(r) && is_known)
		return passed_halt(r, base, err);
	if (lane_is_passed(r)) { /* without an answer it stands where it was found idle */
		r->halt.base = ring_position_with(split_said(&r->split), r->gap, r->front.size);
		return 0;
	}
	if (!lane_has_queue(r))
		return 0;
	if (queue_complete(r, c)) {
		char why[UMBRA_ERROR_SIZE];

		lane_queue_error(r, why, sizeof(why));
		return error_set(err, -EPROTO, "%s", why);
	}
	if (r->control)
		return 0;
	in_flight = shadow_queue_in_flight(r->queue);
	if (is_known)
		r->halt.untaken = driver_ring_untaken(&r->queue->back, base);
	else if (!backend_is_reset_by_stop(c->backend)) /* suspended: what it took, it has used */
		r->halt.untaken = in_flight;
	if (r->halt.untaken <= in_flight)
		return 0;
	r->halt.untaken = 0;
	return error_set(
		err, -EPROTO,
		"the device stopped at index %u, which is not one of the %u chains that it "
		"was given up to index %u",
		base.avail, in_flight, driver_ring_said(&r->queue->back).avail);
}

int lane_halt(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	struct ring_position base = ring_position_start(RING_SPLIT), said;
	int rc;

	lane_expect_step(r, LANE_HALT);
	if (r->queue)
		driver_ring_silence(&r->queue->back);
	rc = c->backend->ops->ring_stop(c->backend, r->index, &base, err);
	if (backend_is_whole(c->backend) && !backend_is_lost(rc)) {
		lane_take_step(r, LANE_HALT);
		return whole_halt(r, c, rc, base, err);
	}
	if (rc)
		return rc;
	lane_take_step(r, LANE_HALT);
	r->halt.base = base;
	if (lane_is_passed(r))
		return passed_halt(r, base, err);
	if (!lane_has_queue(r))
		return 0;
	if (shadow_queue_is_broken(r->queue)) {
		char why[UMBRA_ERROR_SIZE];

		shadow_queue_error(r->queue, why, sizeof(why));
		return error_set(err, -EPROTO, "%s", why);
	}
	if (!shadow_queue_rewind(r->queue, base))
		return 0;
	said = driver_ring_said(&r->queue->back);
	return error_set(err, -EPROTO,
			 "the back-end stopped at index %u, but the shadow ring has used %u and "
			 "available %u: expected an index from the one to the other, which are at "
			 "most %u apart",
			 base.avail, said.used, said.avail, r->back_size);
}

uint16_t lane_undrained(const struct lane *r)
{
	uint16_t open;

	if (r->control || (!r->queue && !lane_is_passed(r)))
		return 0;
	if (!lane_is_passed(r))
		return (uint16_t)(shadow_queue_in_flight(r->queue) -
				  (lane_is_halted(r) ? r->halt.untaken : 0));
	if (r->forgotten)
		return 0;
	open = split_outstanding(&r->split, r->halt.base);
	/* More than the ring has: the used index has gone past what was taken.  Nothing more
	 * is to come, and the start at halt_base judges that. */
	if (open > r->front.size)
		return 0;
	return open > r->gap ? (uint16_t)(open - r->gap) : 0;
}

uint16_t lane_left(const struct lane *r)
{
	uint16_t open;

	if (!lane_runs(r) || r->control || r->forgotten)
		return 0;
	if (lane_is_shadowed(r))
		return shadow_queue_asking(r->queue, lane_is_halted(r) ? r->halt.untaken : 0);
	if (lane_is_halted(r))
		return lane_undrained(r);
	open = ring_outstanding(split_said(&r->split), r->front.size);
	return MIN(open, r->front.size);
}

int lane_is_drained(struct lane *r, const struct lane_context *c)
{
	int rc = lane_has_queue(r) ? queue_complete(r, c) : 0;

	if (rc)
		return rc;
	/* From a device that was reset, nothing more comes. */
	return backend_is_reset_by_stop(c->backend) || lane_undrained(r) == 0;
}

/* What a halted queue still has goes where it can: see the header. */
static void queue_finish(struct lane *r, const struct lane_context *c)
{
	struct shadow_queue *q = r->queue;
	uint16_t left = lane_undrained(r), lost = left;

	/* One that never went has submitted nothing, and keeps what it kept. */
	if (backend_is_whole(c->backend) && !q->abandoned && r->has_gone) {
		lost = shadow_queue_asking(q, r->halt.untaken);
		r->kept_count = shadow_queue_reclaim(q, r->halt.untaken, r->kept);
		counter_add(&r->counters.returned, left - lost);
	}
	counter_add(&r->counters.lost, lost);
	r->front.base = device_ring_position(&q->guest);
	r->owed = device_ring_outstanding(&q->guest);
	if (lost)
		log_error("queue %u: %u requests that the back-end took and did not use are lost",
			  r->index, lost);
	/*
	 * The next owner may be one that never asks for kicks because it never asked for
	 * silence.  What arm() finds, the kick at its start will tell it.
	 */
	if (lane_is_shadowed(r))
		(void)!device_ring_arm(&q->guest);
}

void lane_finish(struct lane *r, const struct lane_context *c)
{
	lane_expect_step(r, LANE_FINISH);
	if (r->control) {
		ring_control_finish(r);
	} else if (r->queue) {
		queue_finish(r, c);
	} else if (lane_is_passed(r)) {
		uint16_t lost = lane_undrained(r);

		r->left |= lost && !backend_is_whole(c->backend);
		counter_add(&r->counters.lost, lost);
		if (lost)
			log_error("queue %u: %u requests that the back-end took and did not use "
				  "are lost",
				  r->index, lost);
		r->front.base = r->halt.base;
		r->owed = split_outstanding(&r->split, r->front.base);
	}
	let_go(r, c);
	lane_take_step(r, LANE_FINISH);
	/* For what the back-end completed after it had let go of its call fd. */
	c->host->ops->notify(c->host, r->front.call_fd);
}
