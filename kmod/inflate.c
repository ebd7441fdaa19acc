// SPDX-License-Identifier: GPL-2.0
/*
 * Inflating: one message of pages from the system to the host.
 *
 * Pages are counted as the host's when the device has acknowledged them.  A message
 * is sent when its buffer, or its share of work (the parameter message_mib), is
 * full: so the device discards while the next one is filled.
 *
 * The guest keeps `keep` pages that it could have without swapping (MemAvailable):
 * to take its last page would only wake the OOM killer.
 */

#include <linux/ktime.h>
#include <linux/sched.h>

#include "balloon.h"

/* How many pages the guest can spare; swap.h's figure is an estimate. */
static unsigned long spare_pages(struct balloon *balloon)
{
	long available = si_mem_available();

	return available > (long)balloon->keep ? available - balloon->keep : 0;
}

static void fill(struct balloon *balloon, struct message *message, unsigned long want)
{
	ktime_t start = ktime_get();

	want = min(want, spare_pages(balloon));
	while (message->cargo.pages < want && !atomic_read(&balloon->oom_waiting) &&
	       pool_allocate(&balloon->pool, &message->cargo, &balloon->list, &balloon->ladder,
			     want - message->cargo.pages))
		cond_resched();
	balloon->allocate_ns += ktime_to_ns(ktime_sub(ktime_get(), start));
}

/*
 * Send one message towards the target.  False: not now.  That is so when all
 * messages fly (an answer will run the work again), and when the system has
 * nothing to give, which is then told by balloon.state.
 */
bool inflate_some(struct balloon *balloon)
{
	unsigned long have = pool_pages(&balloon->pool) + balloon->inflating;
	unsigned long want = ((unsigned long)max(balloon_message_mib, 1u) << 20) >> PAGE_SHIFT;
	struct message *message;
	ktime_t start;
	int err;

	lockdep_assert_held(&balloon->lock);

	/* What flies to the system must have left the host's books before it can
	 * come back to them: the two queues know no order. */
	if (balloon->deflate.flying_count)
		return false;
	message = message_get(&balloon->inflate, MESSAGE_NORMAL);
	if (!message)
		return false;

	fill(balloon, message, min(want, balloon->target - have));
	if (!message->cargo.pages) {
		message_put(&balloon->inflate, message);
		if (!atomic_read(&balloon->oom_waiting))
			balloon->state = BALLOON_WAITING;
		return false;
	}
	start = ktime_get();
	err = message_send(balloon, &balloon->inflate, message, &balloon->list, MESSAGE_NORMAL);
	balloon->send_ns += ktime_to_ns(ktime_sub(ktime_get(), start));
	if (err) {
		pool_release(&balloon->pool, &message->cargo);
		message_put(&balloon->inflate, message);
		balloon->state = BALLOON_STALLED;
		return false;
	}
	return true;
}
