/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a balloon device adds to the life of its rings (virtio/guest_rings.h): what each is
 * for, and what its queues work on.  See balloon_device.h.
 */
#include "balloon/balloon_device_private.h"

static enum balloon_queue_kind queue_kind_of(const struct balloon_device *d, unsigned int index)
{
	switch (index) {
	case 0:
		return BALLOON_QUEUE_INFLATE;
	case 1:
		return BALLOON_QUEUE_DEFLATE;
	case 2:
		if (FEATURE(d, STATS_VQ))
			return BALLOON_QUEUE_STATS;
		__attribute__((fallthrough));
	default:
		return FEATURE(d, REPORTING) ? BALLOON_QUEUE_REPORT : BALLOON_QUEUE_UNUSED;
	}
}

static struct balloon_queue *queue_of(struct served_ring *r)
{
	return (struct balloon_queue *)(void *)r;
}

struct served_ring *balloon_ring_at(struct guest_rings *g, unsigned int index)
{
	return &balloon_of(g)->queues[index].served;
}

void balloon_ring_start(struct guest_rings *g, struct served_ring *r, bool goes_on)
{
	struct balloon_device *d = balloon_of(g);
	struct balloon_queue *q = queue_of(r);

	q->kind = queue_kind_of(d, r->front.index);
	q->shared = &d->shared;
	q->holds_stats = false;
	if (q->kind == BALLOON_QUEUE_STATS)
		balloon_device_stats_start(d, !r->front.base.avail);
	/* A fresh driver: see the header. */
	if (q->kind == BALLOON_QUEUE_INFLATE && !r->front.base.avail && !goes_on)
		balloon_device_clear_account(d);
}

bool balloon_ring_is_served(const struct guest_rings *g, const struct served_ring *r)
{
	const struct balloon_device *d = (const void *)g;

	return !d->at_rest &&
	       ((const struct balloon_queue *)(const void *)r)->kind != BALLOON_QUEUE_UNUSED;
}

void balloon_ring_pause(struct guest_rings *g, struct served_ring *r)
{
	(void)g;
	balloon_queue_pause(queue_of(r));
}

void balloon_ring_stop(struct guest_rings *g, struct served_ring *r)
{
	(void)g;
	balloon_queue_stop(queue_of(r));
}

void balloon_rings_resume(struct guest_rings *g)
{
	struct balloon_device *d = balloon_of(g);
	struct balloon_shared *s = &d->shared;

	s->page_bitmap = g->features & BIT64(PAGE_RUN_FEATURE_BIT);
	/* A reported page must read as it was, or as the poison; we make zeros. */
	s->leaves_reports = FEATURE(d, PAGE_POISON) && d->poison;
	s->batch.memory = g->memory;
	s->batch.ledger = d->ledger;
	s->batch.whole_blocks = FEATURE(d, MUST_TELL_HOST);
}
