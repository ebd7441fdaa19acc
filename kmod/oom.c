// SPDX-License-Identifier: GPL-2.0
/*
 * DEFLATE_ON_OOM: the balloon gives way before a process is killed.
 *
 * Called by a task that found no memory, with the kernel's OOM lock held.  Nothing
 * on the way allocates: the message is a reserved one, without a status so that
 * its single descriptor needs no indirect table; splitting and freeing need
 * nothing; "actual" is left to the work.  Waiting is for MUST_TELL_HOST only, or
 * for the reserved message of the call before, and for OOM_WAIT at most: then the
 * kernel goes on as if there were no balloon.
 *
 * A whole chunk is given if there is one, since it costs no more than one page and
 * saves further calls; else pieces, as many as the parameter oom_pages says.
 */

#include <linux/oom.h>

#include "balloon.h"

#define OOM_WAIT (HZ / 2)
/* As the stock driver has it: before the drivers that free memory the hard way. */
#define OOM_PRIORITY 80

static struct message *get_message(struct balloon *balloon, unsigned long deadline)
{
	struct message *message;

	while (!(message = message_get(&balloon->deflate, MESSAGE_OOM)))
		if (!messages_wait(balloon, deadline))
			return NULL;
	return message;
}

/* Returns how many pages are free again. */
static unsigned long deflate(struct balloon *balloon)
{
	unsigned long deadline = jiffies + OOM_WAIT;
	struct message *message;
	unsigned long pages;
	u64 sent;

	lockdep_assert_held(&balloon->lock);

	if (!balloon->running || balloon->stalled || !pool_pages(&balloon->pool))
		return 0;
	messages_reap(balloon);
	message = get_message(balloon, deadline);
	if (!message)
		return 0;
	pool_take_chunk(&balloon->pool, &message->cargo, &balloon->list);
	if (!message->cargo.pages)
		pool_take(&balloon->pool, &message->cargo, &balloon->list,
			  max(balloon_oom_pages / HOST_PAGES, 1u));
	pages = message->cargo.pages;
	if (!pages) {
		message_put(&balloon->deflate, message);
		return 0;
	}
	if (deflate_send(balloon, message, MESSAGE_OOM))
		return 0;

	/* Not to be inflated again at once. */
	balloon->state = BALLOON_GIVEN_UP;
	balloon->oom_calls++;
	balloon->oom_pages += pages;
	sent = message->sent;
	while (message->cargo.pages && message->sent == sent)
		if (!messages_wait(balloon, deadline))
			return 0;
	return pages;
}

static int oom_notify(struct notifier_block *block, unsigned long unused, void *freed)
{
	struct balloon *balloon = container_of(block, struct balloon, oom);

	atomic_inc(&balloon->oom_waiting); /* the work makes room */
	mutex_lock(&balloon->lock);
	*(unsigned long *)freed += deflate(balloon);
	mutex_unlock(&balloon->lock);
	atomic_dec(&balloon->oom_waiting);
	balloon_kick(balloon);
	return NOTIFY_OK;
}

void oom_start(struct balloon *balloon)
{
	if (!virtio_has_feature(balloon->vdev, VIRTIO_BALLOON_F_DEFLATE_ON_OOM))
		return;
	balloon->oom.notifier_call = oom_notify;
	balloon->oom.priority = OOM_PRIORITY;
	balloon->oom_registered = register_oom_notifier(&balloon->oom) == 0;
}

void oom_stop(struct balloon *balloon)
{
	if (balloon->oom_registered)
		unregister_oom_notifier(&balloon->oom);
	balloon->oom_registered = false;
}
