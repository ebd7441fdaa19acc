/* SPDX-License-Identifier: BSD-2-Clause */
/* umbra/shadow_queue.h over queue/shadow_queue.h. */
#include "umbra/shadow_queue.h"

#include <errno.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/sized.h"
#include "lib/ring_private.h"
#include "queue/shadow_queue.h"

_Static_assert((int)UMBRA_CALL_DRIVER == SHADOW_CALL_GUEST &&
		       (int)UMBRA_KICK_DEVICE == SHADOW_KICK_BACKEND &&
		       (int)UMBRA_RUN_AGAIN == SHADOW_MORE,
	       "one mask, two names");

struct umbra_shadow_queue {
	struct shadow_queue queue;
	struct shadow_counters counters;
	struct memory *memory; /* of the front ring: one reference, or NULL */
	struct driver_memory back;
	struct flight_table flights;
	struct ring_seg segs[]; /* shadow_queue_segs() of them */
};

/* The table of what is in flight lives and dies with the queue. */
static int flights_make(struct umbra_shadow_queue *q, const struct shadow_queue_config *c,
			struct umbra_error *err)
{
	uint32_t heads = c->guest.split.size, ids = c->back.size;
	struct flight_config config = { .sizes = { .heads = heads, .ids = ids },
					.at = c->guest.at };

	config.memory = aligned_alloc(FLIGHT_ALIGN, flight_bytes(&config.sizes));
	config.list = calloc(heads, sizeof(*config.list));
	if (config.memory && config.list && !flight_format(&q->flights, &config))
		return 0;
	free(config.memory);
	free(config.list);
	return error_set(err, -ENOMEM, "shadow queue: no memory for %u chains in flight", heads);
}

int umbra_shadow_queue_create(const struct umbra_shadow_queue_config *config,
			      struct umbra_shadow_queue **out, struct umbra_error *err)
{
	struct umbra_shadow_queue_config known;
	struct shadow_queue_config inner = { 0 };
	struct umbra_shadow_queue *q;
	struct driver_memory back;
	int rc = sized_take(&known, sizeof(known), config,
			    SIZED_UPTO(struct umbra_shadow_queue_config, back),
			    "struct umbra_shadow_queue_config", err);

	if (rc)
		return rc;
	rc = device_config_from(known.front, &inner.guest, err);
	if (rc)
		return error_prefix(err, rc, "front ring");
	rc = driver_config_from(known.back, &inner.back, &back, err);
	if (rc)
		return error_prefix(err, rc, "back ring");
	q = calloc(1, sizeof(*q) + shadow_queue_segs(&inner) * sizeof(q->segs[0]));
	if (!q) {
		driver_memory_free(&back);
		return error_set(err, -ENOMEM, "shadow queue: no memory for rings of %u and %u",
				 known.front->parts.size, known.back->size);
	}
	q->back = back;
	q->memory = snapshot_of(known.front->memory);
	rc = flights_make(q, &inner, err);
	if (rc) {
		umbra_shadow_queue_destroy(&q);
		return rc;
	}
	inner.flights = &q->flights;
	inner.segs = q->segs;
	inner.counters = &q->counters;
	rc = shadow_queue_init(&q->queue, &inner);
	if (rc) { /* what it refuses has been refused already */
		umbra_shadow_queue_destroy(&q);
		return error_set(err, rc, "shadow queue: cannot be laid out");
	}
	*out = q;
	return 0;
}

void umbra_shadow_queue_back_parts(const struct umbra_shadow_queue *queue,
				   struct umbra_ring_parts *parts)
{
	parts_from(&queue->queue.back.split, parts);
}

int umbra_shadow_queue_run(struct umbra_shadow_queue *queue, unsigned int *owed)
{
	int actions = shadow_queue_pass(&queue->queue, owed);

	*owed &= ~(unsigned int)QUEUE_NOTICE; /* the caller looks at _query() when it likes */
	return actions > 0 ? actions & ~QUEUE_NOTICE : actions;
}

int umbra_shadow_queue_rewind(struct umbra_shadow_queue *queue, uint16_t base)
{
	return shadow_queue_rewind(&queue->queue, ring_position_split(base));
}

int umbra_shadow_queue_drain(struct umbra_shadow_queue *queue, unsigned int *owed)
{
	return shadow_queue_drain(&queue->queue, owed);
}

void umbra_shadow_queue_query(const struct umbra_shadow_queue *queue,
			      struct umbra_shadow_queue_info *info, size_t size)
{
	const struct ring_position at = device_ring_position(&queue->queue.guest);
	const struct shadow_counters *c = &queue->counters;

	const struct umbra_shadow_queue_info known = { .last_avail = at.avail,
						       .used = at.used,
						       .in_flight = shadow_queue_in_flight(
							       &queue->queue),
						       .requests = c->requests,
						       .bytes_out = c->bytes_out,
						       .bytes_in = c->bytes_in,
						       .clamped = c->clamped,
						       .table_longest = c->table_longest };

	sized_give(info, size, &known, sizeof(known));
}

void umbra_shadow_queue_error(const struct umbra_shadow_queue *queue, struct umbra_error *err)
{
	err->text[0] = '\0';
	if (shadow_queue_is_broken(&queue->queue))
		shadow_queue_error(&queue->queue, err->text, sizeof(err->text));
}

void umbra_shadow_queue_destroy(struct umbra_shadow_queue **queue)
{
	struct umbra_shadow_queue *q = *queue;

	*queue = NULL;
	if (!q)
		return;
	memory_unref(&q->memory);
	driver_memory_free(&q->back);
	free(q->flights.header);
	free(q->flights.list);
	free(q);
}
