// SPDX-License-Identifier: GPL-2.0
/*
 * Deflating: one message of pages from the pool to the system.
 *
 * The host is told first.  With MUST_TELL_HOST the pages are free when it has
 * acknowledged that; without, at once, while the device takes note.  Nothing here
 * allocates, not even in the ring if the purpose is OOM.
 */

#include <linux/delay.h>

#include "balloon.h"

/*
 * Send the message whose cargo and runs (in balloon.list) are complete.  On error
 * nothing has changed but that the pages are in the pool again and the message
 * idle.
 */
int deflate_send(struct balloon *balloon, struct message *message, enum message_purpose purpose)
{
	int err = message_send(balloon, &balloon->deflate, message, &balloon->list, purpose);

	if (err) {
		pool_store(&balloon->pool, &message->cargo);
		message_put(&balloon->deflate, message);
	} else if (!balloon->must_tell_host) {
		pool_release(&balloon->pool, &message->cargo);
	}
	return err;
}

/* Send one message of at most @want pages.  False: not now. */
bool deflate_some(struct balloon *balloon, unsigned long want)
{
	unsigned long most = ((unsigned long)max(balloon_message_mib, 1u) << 20) >> PAGE_SHIFT;
	struct message *message;

	lockdep_assert_held(&balloon->lock);

	message = message_get(&balloon->deflate, MESSAGE_NORMAL);
	if (!message)
		return false;
	pool_take(&balloon->pool, &message->cargo, &balloon->list, min(want, most));
	if (!message->cargo.pages) {
		message_put(&balloon->deflate, message);
		return false;
	}
	return deflate_send(balloon, message, MESSAGE_NORMAL) == 0;
}

/*
 * Give everything back, telling the host, as long as it answers: at most for the
 * response timeout since its last answer.  Pages that are left are the caller's to
 * free once the device is reset.
 */
void deflate_all(struct balloon *balloon)
{
	unsigned long deadline = jiffies + balloon_response_timeout();

	lockdep_assert_held(&balloon->lock);

	while (!balloon->stalled) {
		messages_reap(balloon);
		if (deflate_some(balloon, pool_pages(&balloon->pool)))
			continue;
		if (balloon->inflate.flying_count || balloon->deflate.flying_count) {
			if (!messages_wait(balloon, deadline))
				break;
			deadline = jiffies + balloon_response_timeout();
		} else if (pool_pages(&balloon->pool)) {
			/* Compaction has some of them in its hands, for a moment. */
			if (time_after(jiffies, deadline) ||
			    virtqueue_is_broken(balloon->deflate.vq))
				break;
			mutex_unlock(&balloon->lock);
			msleep(1);
			mutex_lock(&balloon->lock);
		} else {
			break;
		}
	}
}
