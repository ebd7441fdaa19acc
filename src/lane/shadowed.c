/* SPDX-License-Identifier: BSD-2-Clause */
/* A lane that is shadowed: the back-end has a ring of ours.  See lane.h. */
#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "lane/followed.h"
#include "ring/split_look.h"

void shadow_free(struct lane *r)
{
	free(r->queue);
	free(r->control);
	free(r->private);
	free(r->segs);
	free(r->behind);
	r->behind = NULL;
	r->queue = NULL;
	r->control = NULL;
	r->private = NULL;
	r->segs = NULL;
}

/* Lay the shadow ring out in our own memory and join it to the guest's. */
int shadow_build(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	uint64_t features = c->shadow_features;
	struct driver_layout layout = driver_ring_layout(r->back_size, features, c->table_max);
	struct shadow_queue_config config;
	uint64_t at;

	if (layout.shared_bytes > r->own.at.size)
		return error_set(
			err, -EOPNOTSUPP,
			"queue %u: a shadow of %u entries needs %zu bytes of shadow memory, "
			"and there are %" PRIu64,
			r->index, r->back_size, layout.shared_bytes, r->own.at.size);
	r->queue = calloc(1, sizeof(*r->queue));
	r->private = calloc(1, layout.private_bytes);
	r->segs = calloc(MAX(r->front.size, c->table_max), sizeof(*r->segs));
	if (!r->kept)
		r->kept = calloc(r->front.size, sizeof(*r->kept));
	r->behind = calloc(r->back_size, sizeof(*r->behind));
	if (!r->queue || !r->private || !r->segs || !r->kept || !r->behind) {
		shadow_free(r);
		return error_set(err, -ENOMEM, "queue %u: no memory for a shadow of %u entries",
				 r->index, r->front.size);
	}
	config = (struct shadow_queue_config){
		.guest = {
			.split = r->split,
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
		.ghosts = r->ghosts,
		.ghost_count = r->ghost_count,
	};
	if (r->ghost_count)
		log_warning(
			"queue %u: the back-end has not used %u chains of the life before; their "
			"ids are not used again before they come back",
			r->index, r->ghost_count);
	if (shadow_queue_init(r->queue, &config)) {
		shadow_free(r);
		return error_set(err, -EINVAL, "queue %u: a ring of %u entries cannot be shadowed",
				 r->index, r->front.size);
	}
	ghost_ring_set(r, &r->queue->back, r->own.at.backing);
	at = r->own.at.uva.v;
	r->shadow_desc = (uva_t){ at + layout.ring.desc };
	r->shadow_avail = (uva_t){ at + layout.ring.avail };
	r->shadow_used = (uva_t){ at + layout.ring.used };
	return 0;
}

int queue_pass(void *queue, unsigned int *owed)
{
	return shadow_queue_pass(queue, owed);
}

int queue_move(void *queue, unsigned int *owed)
{
	return shadow_queue_move(queue, owed);
}

bool queue_has_work(const void *queue)
{
	return shadow_queue_has_work(queue);
}

/* Fed no more, it takes what it was fed; only then it may be told to take nothing. */
int shadowed_is_idle(struct lane *r, const struct lane_context *c, uint16_t *left,
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

/* What a halted queue still has goes where it can: see the header. */
void queue_finish(struct lane *r, const struct lane_context *c)
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
