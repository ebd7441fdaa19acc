/* SPDX-License-Identifier: BSD-2-Clause */
/* A look at a split ring of others: see split_look.h. */
#include "ring/split_look.h"

/*
 * [used-publish] acquire; peer: the device's release store of used->idx.  What it stored
 * before is seen by the loads that follow, and by whoever works on the ring after us: the
 * used entries, its avail_event, and an avail->idx that is not behind.
 */
static uint16_t used_index(const struct split_ring *s)
{
	return shm_load16_acquire(&s->used->idx);
}

struct ring_position split_said(const struct split_ring *s)
{
	struct ring_position said = { .used = used_index(s) };

	said.avail = shm_load16(&s->avail->idx);
	return said;
}

struct ring_position split_said_taken(const struct split_ring *s)
{
	struct ring_position said = { .used = used_index(s) };

	said.avail = shm_load16(split_avail_event(s));
	return said;
}

bool split_can_stand(const struct split_ring *s, struct ring_position *p,
		     struct ring_position *said)
{
	*said = split_said(s);
	if (!ring_position_can_stand(*p, *said, s->size))
		return false;
	p->used = said->used;
	return true;
}

uint16_t split_outstanding(const struct split_ring *s, struct ring_position at)
{
	at.used = used_index(s);
	return ring_outstanding(at, s->size);
}

bool split_begins(const struct split_ring *s, struct ring_position at)
{
	at.used = used_index(s);
	return ring_position_is_start(at);
}

uint32_t split_used_id(const struct split_ring *s, struct ring_position at)
{
	return shm_load32(&s->used->ring[at.used & (s->size - 1)].id);
}
