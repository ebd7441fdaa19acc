/* SPDX-License-Identifier: BSD-2-Clause */
/* What a lane's earlier lives left at the back-end: see past.h. */
#include "lane/past.h"

#include <stdlib.h>

#include "ring/split_look.h"

/* Where the back-end completes the ghosts, as long as there are some. */
void ghost_ring_set(struct lane *r, const struct driver_ring *back, struct memory_backing *memory)
{
	if (r->ghost_memory)
		memory_backing_unref(r->ghost_memory);
	r->ghost_memory = NULL;
	if (!r->ghost_count)
		return;
	memory_backing_ref(memory);
	r->ghost_memory = memory;
	r->ghost_at = driver_ring_position(back);
	r->ghost_ring = back->split;
}

uint16_t lane_ghosts(const struct lane *r)
{
	return r->queue ? __atomic_load_n(&r->queue->ghosts, __ATOMIC_RELAXED) : r->ghost_count;
}

static void ghost_end(struct lane *r, uint32_t id)
{
	for (uint16_t i = 0; i < r->ghost_count; i++)
		if (r->ghosts[i] == id) {
			r->ghosts[i] = r->ghosts[--r->ghost_count];
			return;
		}
}

void ghosts_forget(struct lane *r)
{
	r->ghost_count = 0;
	free(r->ghosts);
	r->ghosts = NULL;
	ghost_ring_set(r, NULL, NULL);
	r->spoils = 0;
}

/* The shadow is let go of: what has the back-end still of it? */
void ghosts_note(struct lane *r)
{
	uint16_t count = shadow_queue_leave_behind(r->queue, r->behind);

	free(r->ghosts);
	r->ghosts = r->behind;
	r->behind = NULL;
	r->ghost_count = count;
	ghost_ring_set(r, &r->queue->back, r->own.at.backing);
}

/* It may have used some since, where it had them.  A lie costs the ring these ids. */
void ghosts_look(struct lane *r, uint16_t size)
{
	const struct split_ring *s = &r->ghost_ring;
	uint16_t done;

	if (!r->ghost_count || !r->ghost_memory)
		return;
	done = ring_used_since(split_said(s), r->ghost_at, s->size);
	for (uint16_t n = done <= r->ghost_count ? done : 0; n; n--) {
		ghost_end(r, split_used_id(s, r->ghost_at));
		ring_position_complete(&r->ghost_at, 1, s->size);
	}
	if (!r->ghost_count) /* they have all come back */
		r->own.is_spoiled = false;
	/* On a smaller ring the others are out of range, which is told apart as well. */
	for (uint16_t i = r->ghost_count; i--;)
		if (r->ghosts[i] >= size)
			ghost_end(r, r->ghosts[i]);
}
