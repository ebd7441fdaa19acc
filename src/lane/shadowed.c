/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A lane that is shadowed: the back-end has a ring of ours, and a shadow queue is between that
 * and the guest's.
 *
 * Theory of operation.  We know what the back-end has.  Before a stop it is fed no more, and
 * waited for until no chain with readable bytes is in flight.  What is left is room for what
 * may come, for which nobody asks to be called (driver_ring_silence()).
 *
 * What a device that is reset by its stop still has goes three ways (shadowed_finish()): back
 * to the guest's ring, as not taken; if it is mere room but not the newest on the guest's ring,
 * it waits in the flight table, to be the first in the ring's next shadow; or, if it asked for
 * something and the front-end would not let it be waited for any longer, it is lost: said in
 * the log and counted.
 *
 * A shadow ring starts at the guest ring's index and each chain maps to one chain, so the two
 * rings' indices stay equal.  A back-end that remembers an index over a stop (libvhost-user keeps
 * the used index that it last signalled, and would skip a call if the index came back to it)
 * sees no jump.  For a device that can only start at 0 (no BACKEND_KEEPS_INDEX) the shadow
 * ring does, and only differences are equal.
 *
 * Ownership: the queue, its private memory and its segments live from start to let_go; the
 * ring lies in the lane's piece of our own memory, which outlives it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/log.h"
#include "lane/loss.h"
#include "lane/own_ring.h"
#include "lane/past.h"

static void shadow_free(struct lane *r)
{
	free(r->queue);
	free(r->private);
	free(r->segs);
	free(r->behind);
	r->behind = NULL;
	r->queue = NULL;
	r->private = NULL;
	r->segs = NULL;
}

/* Lay the shadow ring out in our own memory and join it to the guest's. */
static int shadow_build(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	uint64_t features = c->shadow_features;
	struct driver_layout layout = driver_ring_layout(r->back_size, features, c->table_max);
	struct shadow_queue_config config;
	int rc;

	if (layout.shared_bytes > r->own.at.size)
		return error_set(
			err, -EOPNOTSUPP,
			"queue %u: a shadow of %u entries needs %zu bytes of shadow memory, "
			"and there are %" PRIu64,
			r->front.index, r->back_size, layout.shared_bytes, r->own.at.size);
	rc = lane_flights_make(&r->flights, c->host, r->front.size, r->front.base, err);
	if (rc)
		return error_prefix(err, rc, "queue %u", r->front.index);
	r->queue = calloc(1, sizeof(*r->queue));
	r->private = calloc(1, layout.private_bytes);
	r->segs = calloc(MAX(r->front.size, c->table_max), sizeof(*r->segs));
	r->behind = calloc(r->back_size, sizeof(*r->behind));
	if (!r->queue || !r->private || !r->segs || !r->behind) {
		shadow_free(r);
		return error_set(err, -ENOMEM, "queue %u: no memory for a shadow of %u entries",
				 r->front.index, r->front.size);
	}
	config = (struct shadow_queue_config){
		.guest = {
			.split = r->front.split,
			.memory = c->memory,
			.features = c->guest_features,
			.at = r->front.base,
			.table_max = c->table_max,
		},
		.back = {
			.size = r->back_size,
			.features = features,
			.shared = r->own.at.host,
			.shared_addr = r->own.at.iova,
			.private = r->private,
			.base = backend_keeps_index(c->backend)
					? ring_position_drained(r->front.base)
					: ring_position_start(RING_SPLIT),
			.table_max = c->table_max,
		},
		.segs = r->segs,
		.counters = &r->counters,
		.flights = &r->flights.table,
		.ghosts = r->ghosts,
		.ghost_count = r->ghost_count,
	};
	if (r->ghost_count)
		log_warning(
			"queue %u: the back-end has not used %u chains of the life before; their "
			"ids are not used again before they come back",
			r->front.index, r->ghost_count);
	if (shadow_queue_init(r->queue, &config)) {
		shadow_free(r);
		return error_set(err, -EINVAL, "queue %u: a ring of %u entries cannot be shadowed",
				 r->front.index, r->front.size);
	}
	ghost_ring_set(r, &r->queue->back, r->own.at.backing);
	own_ring_place(r, &layout.ring);
	return 0;
}

static int queue_pass(void *queue, unsigned int *owed)
{
	return shadow_queue_pass(queue, owed);
}

static int queue_move(void *queue, unsigned int *owed)
{
	return shadow_queue_move(queue, owed);
}

static bool queue_has_work(const void *queue)
{
	return shadow_queue_has_work(queue);
}

static size_t shadowed_bytes(uint16_t size, uint64_t features, const struct lane_context *c)
{
	return driver_ring_layout(size, features, c->table_max).shared_bytes;
}

static int shadowed_start(struct lane *r, const struct lane_context *c, bool enabled,
			  struct umbra_error *err)
{
	int rc;

	r->back_size = own_ring_size(r, c);
	rc = shadow_build(r, c, err);
	if (!rc)
		rc = own_ring_start(r, c, driver_ring_position(&r->queue->back), enabled, err);
	if (rc)
		shadow_free(r);
	return rc;
}

/* What waits is the first that the back-end is given. */
static int shadowed_go(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	const struct readd_terms terms = { .judge = loss_judge, .opaque = c->loss };
	char why[UMBRA_ERROR_SIZE];

	if (!shadow_queue_readd(r->queue, c->loss ? &terms : NULL))
		return 0;
	return error_set(err, -EPROTO, "a buffer that is given again: %s",
			 shadow_queue_error(r->queue, why, sizeof(why)));
}

static void shadowed_service(struct lane *r, struct queue_service *service)
{
	service->pass = queue_pass;
	service->move = queue_move;
	service->has_work = queue_has_work;
	service->queue = r->queue;
}

static int shadowed_drain(struct lane *r, const struct lane_context *c)
{
	unsigned int owed = 0;
	int actions = shadow_queue_drain(r->queue, &owed);

	return own_ring_completed(r, c, actions, owed);
}

/* Fed no more, it takes what it was fed; only then it may be told to take nothing. */
static int shadowed_is_idle(struct lane *r, const struct lane_context *c, uint16_t *left,
			    struct umbra_error *err)
{
	const struct virtio_ops *ops = c->backend->ops;
	int rc = shadowed_drain(r, c);

	if (rc < 0)
		return rc;
	*left = shadow_queue_asking(r->queue, 0);
	if (*left || backend_runs_as_one(c->backend))
		return !*left;
	rc = ops->ring_hush(c->backend, r->front.index, false, err);
	return rc ? rc : ops->ring_rest(c->backend, r->front.index) != RING_MAY_TAKE;
}

static void shadowed_silence(struct lane *r)
{
	driver_ring_silence(&r->queue->back);
}

static int queue_broken(const struct lane *r, struct umbra_error *err)
{
	char why[UMBRA_ERROR_SIZE];

	return error_set(err, -EPROTO, "%s", shadow_queue_error(r->queue, why, sizeof(why)));
}

/* The device was stopped as a whole: which of the newest has it not taken? */
static int halt_as_one(struct lane *r, const struct lane_context *c, bool is_known,
		       struct ring_position base, struct umbra_error *err)
{
	uint16_t in_flight;

	if (shadowed_drain(r, c))
		return queue_broken(r, err);
	in_flight = shadow_queue_in_flight(r->queue);
	if (!is_known && !backend_is_reset_by_stop(c->backend))
		r->halt.untaken = in_flight; /* suspended: what it took, it has used */
	if (!is_known || !shadow_queue_untaken(r->queue, base, &r->halt.untaken))
		return 0;
	return error_set(
		err, -EPROTO,
		"the device stopped at index %u, which is not one of the %u chains that it "
		"was given up to index %u",
		base.avail, in_flight, driver_ring_said(&r->queue->back).avail);
}

static int shadowed_halt(struct lane *r, const struct lane_context *c, int answer,
			 struct ring_position base, struct umbra_error *err)
{
	struct ring_position said;

	if (backend_runs_as_one(c->backend))
		return halt_as_one(r, c, !answer && backend_keeps_index(c->backend), base, err);
	r->halt.base = base;
	if (shadow_queue_is_broken(r->queue))
		return queue_broken(r, err);
	if (!shadow_queue_rewind(r->queue, base))
		return 0;
	said = driver_ring_said(&r->queue->back);
	return error_set(err, -EPROTO,
			 "the back-end stopped at index %u, but the shadow ring has used %u and "
			 "available %u: expected an index from the one to the other, which are at "
			 "most %u apart",
			 base.avail, said.used, said.avail, r->back_size);
}

/* Of those in flight, what a device that is stopped as a whole has not even taken. */
static uint16_t untaken(const struct lane *r)
{
	return lane_is_halted(r) ? r->halt.untaken : 0;
}

static uint16_t shadowed_undrained(const struct lane *r)
{
	return (uint16_t)(shadow_queue_in_flight(r->queue) - untaken(r));
}

static uint16_t shadowed_left(const struct lane *r)
{
	return shadow_queue_asking(r->queue, untaken(r));
}

static int shadowed_restart(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	/* What it had not taken, and could not go back to the guest's ring. */
	int rc = shadowed_go(r, c, err);

	return rc ? rc : own_ring_start(r, c, r->halt.base, true, err);
}

/* What a halted queue still has goes where it can: see the header. */
static void shadowed_finish(struct lane *r, const struct lane_context *c)
{
	struct shadow_queue *q = r->queue;
	uint16_t left = shadowed_undrained(r), lost = left;

	/* One without any, as one that never went, keeps what was kept before it. */
	if (backend_runs_as_one(c->backend) && !q->abandoned && shadow_queue_in_flight(q)) {
		lost = shadow_queue_asking(q, r->halt.untaken);
		shadow_queue_reclaim(q, r->halt.untaken);
		counter_add(&r->counters.returned, left - lost);
	}
	counter_add(&r->counters.lost, lost);
	r->front.base = device_ring_position(&q->guest);
	if (lost)
		log_error("queue %u: %u requests that the back-end took and did not use are lost",
			  r->front.index, lost);
	/*
	 * The next owner may be one that never asks for kicks because it never asked for
	 * silence.  What arm() finds, the kick at its start will tell it.
	 */
	if (!lane_is_broken(r))
		(void)!device_ring_arm(&q->guest);
}

/* What was used is the guest's, also if nobody was called for it any more. */
static int shadowed_hold(struct lane *r, const struct lane_context *c)
{
	int rc = shadowed_drain(r, c);

	if (rc)
		return rc;
	if (!r->queue->abandoned)
		shadow_queue_hold(r->queue);
	r->front.base = device_ring_position(&r->queue->guest);
	return 0;
}

static void shadowed_find(struct lane *r, const struct lane_context *c)
{
	r->queue->guest.split = r->front.split;
	r->queue->guest.memory = c->memory;
	r->queue->guest.memory_hint = 0;
}

static void shadowed_abandon(struct lane *r)
{
	shadow_queue_abandon(r->queue);
}

static char *shadowed_error(const struct lane *r, char *text, size_t size)
{
	return shadow_queue_error(r->queue, text, size);
}

/*
 * Lives of one ring that get another place because something may be written to the old one:
 * a completion that comes there late does not even disturb the new one.  Afterwards memory
 * is more precious, and the ids alone keep the lives apart.
 */
#define SPOILS_MOST 4u

static void shadowed_let_go(struct lane *r, const struct lane_context *c)
{
	/* What it has not brought back it may bring later, to where this shadow was. */
	if (c->backend && !backend_is_reset_by_stop(c->backend) && shadowed_undrained(r) > 0 &&
	    r->spoils < SPOILS_MOST) {
		r->own.is_spoiled = true;
		r->spoils++;
	}
	if (c->backend && !backend_runs_as_one(c->backend))
		ghosts_note(r);
	shadow_queue_end(r->queue);
	shadow_free(r);
}

const struct lane_ops lane_shadowed = {
	.own_bytes = shadowed_bytes,
	.start = shadowed_start,
	.go = shadowed_go,
	.service = shadowed_service,
	.is_idle = shadowed_is_idle,
	.silence = shadowed_silence,
	.halt = shadowed_halt,
	.drain = shadowed_drain,
	.undrained = shadowed_undrained,
	.left = shadowed_left,
	.restart = shadowed_restart,
	.finish = shadowed_finish,
	.use_fd = own_ring_use_fd,
	.hold = shadowed_hold,
	.find = shadowed_find,
	.abandon = shadowed_abandon,
	.error = shadowed_error,
	.let_go = shadowed_let_go,
};
