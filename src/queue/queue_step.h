/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One step of a queue that stands between a guest's ring and a ring of ours.
 *
 * Theory of operation.  First what came back is completed, which makes room, then new chains go
 * forth.  While something moves nobody has to notify us; before the owner sleeps each ring is
 * armed, which looks once more behind a full fence, so that nothing slips in between.
 *
 * What moves, and how, is the queue's: it gives its two directions as functions, which the
 * compiler puts in their place here.
 *
 * Threads: the queue's owner.
 */
#ifndef UMBRA_QUEUE_QUEUE_STEP_H
#define UMBRA_QUEUE_QUEUE_STEP_H

#include <errno.h>

#include "base/bits.h"
#include "ring/device_ring.h"
#include "ring/driver_ring.h"
#include "ring/queue_service.h"

struct queue_step {
	void *queue;
	struct device_ring *guest;
	struct driver_ring *back;
	/* Move a batch: how many chains, or -EPROTO, with the notifications that what was
	 * published is owed added to *@owed. */
	int (*backward)(void *queue, unsigned int *owed);
	int (*forward)(void *queue, unsigned int *owed);
	/* The rings have moved: let others see it. */
	void (*note)(void *queue);
};

/* As of shadow_queue_move(). */
static ALWAYS_INLINE int queue_step_move(const struct queue_step *s, unsigned int *owed)
{
	unsigned int actions = 0;
	int back, forth;

	driver_ring_disarm(s->back);
	device_ring_disarm(s->guest);
	back = s->backward(s->queue, &actions);
	forth = back < 0 ? back : s->forward(s->queue, &actions);
	s->note(s->queue);
	if (forth < 0) {
		*owed = actions;
		return -EPROTO;
	}
	return back + forth > 0 ? (int)(actions | QUEUE_MORE) : 0;
}

/* Nothing moved: the owner may sleep (0), or there is more to do.  !@takes: the queue takes no
 * chain before one has come back, so that the guest need not kick. */
static ALWAYS_INLINE int queue_step_arm(const struct queue_step *s, bool takes)
{
	if (driver_ring_arm(s->back))
		return QUEUE_MORE;
	if (takes && device_ring_arm(s->guest))
		return QUEUE_MORE;
	return 0;
}

#endif
