/* SPDX-License-Identifier: BSD-2-Clause */
/* One ring of a shadow device, how it is stopped: see shadow_ring.h. */
#include <errno.h>
#include <linux/virtio_ring.h>

#include "base/error.h"
#include "base/log.h"
#include "base/shm.h"
#include "shadow/shadow_ring_control.h"

/* --- before the stop ------------------------------------------------------ */

int shadow_ring_hush(struct shadow_ring *r, const struct ring_context *c, struct umbra_error *err)
{
	int kick_fd = r->run == RING_PASSED ? r->kick_fd : r->back_kick_fd;

	shadow_ring_pause(r, c);
	r->quiet_looks = 0;
	if (kick_fd < 0) /* it polls, and cannot be stopped from taking */
		return 0;
	r->hushed = true;
	/* A device that must use all that it has before a reset needs its kicks. */
	if (backend_is_reset_by_stop(c->backend) && r->run != RING_PASSED)
		return 0;
	return c->backend->ops->ring_set_kick(c->backend, r->index, r->quiet_fd, err);
}

bool shadow_ring_is_quiet(const struct shadow_ring *r, const struct ring_context *c, uint16_t *used)
{
	const struct split_ring *s =
		r->run == RING_PASSED ? &r->split : &shadow_ring_back(r)->split;
	uint64_t features = r->run == RING_PASSED ? c->guest_features : c->shadow_features;
	uint16_t taken;

	*used = shm_load16(&s->used->idx);
	/*
	 * With EVENT_IDX a device that has caught up asks to be kicked for the
	 * first chain that it has not taken.  Without, all one can know is that
	 * it has used all that there is.
	 */
	if (features & BIT64(VIRTIO_RING_F_EVENT_IDX))
		taken = shm_load16(split_avail_event(s));
	else
		taken = shm_load16(&s->avail->idx);
	return (uint16_t)(taken - (r->run == RING_PASSED ? r->gap : 0)) == *used;
}

/* Complete what the back-end has used, to the guest.  0, -EPROTO. */
static int queue_complete(struct shadow_ring *r, const struct ring_context *c)
{
	unsigned int owed;
	int actions = r->control ? control_queue_drain(r->control, &owed)
				 : shadow_queue_drain(r->queue, &owed);

	if (actions < 0 ? owed & SHADOW_CALL_GUEST : (unsigned int)actions & SHADOW_CALL_GUEST)
		c->host->ops->notify(c->host, r->call_fd);
	return actions < 0 ? actions : 0;
}

/* Looks at a passed ring whose device cannot be asked how far it is, each
 * with at least 50 us before it: a disk's service time, many times over. */
#define QUIET_LOOKS 40u

int shadow_ring_is_idle(struct shadow_ring *r, const struct ring_context *c, uint16_t *left,
			struct umbra_error *err)
{
	unsigned int looks = QUIET_LOOKS;
	uint16_t used, base;
	bool quiet;
	int rc;

	*left = 0;
	if (r->run != RING_PASSED && !shadow_ring_has_queue(r))
		return 1;
	if (r->run != RING_PASSED) {
		rc = queue_complete(r, c);
		if (rc < 0)
			return rc;
		if (r->control) /* what it has a reset undoes */
			return 1;
		*left = shadow_queue_asking(r->queue, 0);
		return *left == 0;
	}
	if (r->forgotten)
		return 1;
	rc = c->backend->ops->ring_base
		     ? c->backend->ops->ring_base(c->backend, r->index, &base, err)
		     : -EOPNOTSUPP;
	if (backend_is_lost(rc))
		return rc;
	quiet = shadow_ring_is_quiet(r, c, &used);
	if (!rc) {
		looks = 2;
		*left = (uint16_t)(base - r->gap - used);
		quiet = !*left;
	} else if (!quiet) {
		*left = (uint16_t)(shm_load16(&r->split.avail->idx) - r->gap - used);
	}
	r->quiet_looks = !quiet ? 0 : used == r->quiet_used ? r->quiet_looks + 1 : 1;
	r->quiet_used = used;
	return r->quiet_looks >= looks;
}

/* --- the stop ------------------------------------------------------------- */

/* The back-end has stopped a passed ring and says that it stands at @base.  -EPROTO: it
 * cannot. */
static int passed_halt(struct shadow_ring *r, uint16_t base, struct umbra_error *err)
{
	uint16_t used, avail;

	r->halt_base = base;
	if (r->forgotten) /* its memory may be something else by now */
		return 0;
	used = shm_load16(&r->split.used->idx);
	avail = shm_load16(&r->split.avail->idx);
	if (split_can_stand_at(r->size, base, used, avail))
		return 0;
	r->base = avail;
	counter_add(&r->counters.lost, MIN((uint16_t)(avail - used), r->size));
	return error_set(err, -EPROTO,
			 "the back-end stopped at index %u, but the guest's ring has used %u and "
			 "available %u: expected an index from the one to the other, which are "
			 "at most %u apart; what is not used is lost, since nobody knows what "
			 "was done",
			 base, used, avail, r->size);
}

/* The device is stopped as a whole, and answered @base; @rc: it could not. */
static int whole_halt(struct shadow_ring *r, const struct ring_context *c, int rc, uint16_t base,
		      struct umbra_error *err)
{
	bool is_known = !rc && backend_keeps_index(c->backend);
	uint16_t in_flight;

	if (r->run == RING_PASSED && is_known)
		return passed_halt(r, base, err);
	if (r->run == RING_PASSED) { /* without an answer it stands where it was found idle */
		r->halt_base = (uint16_t)(r->gap + shm_load16(&r->split.used->idx));
		return 0;
	}
	r->untaken = 0;
	if (!shadow_ring_has_queue(r))
		return 0;
	if (queue_complete(r, c)) {
		char why[UMBRA_ERROR_SIZE];

		shadow_ring_queue_error(r, why, sizeof(why));
		return error_set(err, -EPROTO, "%s", why);
	}
	if (r->control)
		return 0;
	in_flight = shadow_queue_in_flight(r->queue);
	if (is_known)
		r->untaken = (uint16_t)(r->queue->back.avail_published - base);
	else if (!backend_is_reset_by_stop(c->backend)) /* suspended: what it took, it has used */
		r->untaken = in_flight;
	if (r->untaken <= in_flight)
		return 0;
	r->untaken = 0;
	return error_set(
		err, -EPROTO,
		"the device stopped at index %u, which is not one of the %u chains that it "
		"was given up to index %u",
		base, in_flight, r->queue->back.avail_published);
}

int shadow_ring_halt(struct shadow_ring *r, const struct ring_context *c, struct umbra_error *err)
{
	uint16_t base = 0;
	int rc;

	shadow_ring_pause(r, c);
	rc = c->backend->ops->ring_stop(c->backend, r->index, r->back_call_fd, &base, err);
	if (backend_is_whole(c->backend) && !backend_is_lost(rc)) {
		r->halted = true;
		return whole_halt(r, c, rc, base, err);
	}
	if (rc)
		return rc;
	r->halted = true;
	r->halt_base = base;
	if (r->run == RING_PASSED)
		return passed_halt(r, base, err);
	if (!shadow_ring_has_queue(r))
		return 0;
	if (shadow_queue_is_broken(r->queue)) {
		char why[UMBRA_ERROR_SIZE];

		shadow_queue_error(r->queue, why, sizeof(why));
		return error_set(err, -EPROTO, "%s", why);
	}
	if (shadow_queue_rewind(r->queue, base))
		return error_set(err, -EPROTO,
				 "the back-end stopped at index %u, but the shadow ring has used "
				 "%u and available %u: expected an index from the one to the "
				 "other, which are at most %u apart",
				 base, shm_load16(&r->queue->back.split.used->idx),
				 r->queue->back.avail_published, r->back_size);
	return 0;
}

uint16_t shadow_ring_undrained(const struct shadow_ring *r)
{
	uint16_t open;

	if (r->control || (!r->queue && r->run != RING_PASSED))
		return 0;
	if (r->run != RING_PASSED)
		return (uint16_t)(shadow_queue_in_flight(r->queue) - r->untaken);
	if (r->forgotten)
		return 0;
	/*
	 * Acquire; peer: the back-end's release of used->idx.  Whoever works on
	 * the ring after us finds the used entries written.
	 */
	open = (uint16_t)(r->halt_base - shm_load16_acquire(&r->split.used->idx));
	return open > r->gap ? (uint16_t)(open - r->gap) : 0;
}

uint16_t shadow_ring_left(const struct shadow_ring *r)
{
	uint16_t open;

	if (!shadow_ring_runs(r) || r->control || r->forgotten)
		return 0;
	if (r->run == RING_SHADOWED)
		return shadow_queue_asking(r->queue, r->halted ? r->untaken : 0);
	if (r->halted)
		return shadow_ring_undrained(r);
	open = (uint16_t)(shm_load16(&r->split.avail->idx) - shm_load16(&r->split.used->idx));
	return MIN(open, r->size);
}

int shadow_ring_is_drained(struct shadow_ring *r, const struct ring_context *c)
{
	int rc = shadow_ring_has_queue(r) ? queue_complete(r, c) : 0;

	if (rc)
		return rc;
	/* From a device that was reset, nothing more comes. */
	return backend_is_reset_by_stop(c->backend) || shadow_ring_undrained(r) == 0;
}

/* What a halted queue still has goes where it can: see the header. */
static void queue_finish(struct shadow_ring *r, const struct ring_context *c)
{
	struct shadow_queue *q = r->queue;
	uint16_t left = shadow_ring_undrained(r), lost = left;

	/* One that never went has submitted nothing, and keeps what it kept. */
	if (backend_is_whole(c->backend) && !q->abandoned && !r->fresh) {
		lost = shadow_queue_asking(q, r->untaken);
		r->kept_count = shadow_queue_reclaim(q, r->untaken, r->kept);
		counter_add(&r->counters.returned, left - lost);
	}
	counter_add(&r->counters.lost, lost);
	r->base = q->guest.last_avail;
	r->owed = (uint16_t)(r->base - q->guest.used_idx);
	if (lost)
		log_error("queue %u: %u requests that the back-end took and did not use are lost",
			  r->index, lost);
	/*
	 * The next owner may be one that never asks for kicks because it never asked for
	 * silence.  What arm() finds, the kick at its start will tell it.
	 */
	if (r->run == RING_SHADOWED)
		(void)!device_ring_arm(&q->guest);
}

void shadow_ring_finish(struct shadow_ring *r, const struct ring_context *c)
{
	if (r->control) {
		ring_control_finish(r);
	} else if (r->queue) {
		queue_finish(r, c);
	} else if (r->run == RING_PASSED) {
		uint16_t lost = shadow_ring_undrained(r);

		counter_add(&r->counters.lost, lost);
		if (lost)
			log_error("queue %u: %u requests that the back-end took and did not use "
				  "are lost",
				  r->index, lost);
		r->base = r->halt_base;
		r->owed = (uint16_t)(r->base - shm_load16(&r->split.used->idx));
	}
	shadow_ring_discard(r, c);
	r->run = RING_WANTED;
	/* For what the back-end completed after it had let go of its call fd. */
	c->host->ops->notify(c->host, r->call_fd);
}
