// SPDX-License-Identifier: GPL-2.0
/*
 * Messages to the device: built, sent, answered.
 *
 * Theory of operation.  Each of the two queues has a fixed set of messages, each
 * with its buffer, made at probe: nothing is allocated later.  A message is idle,
 * or being built by somebody who holds balloon.lock (or by compaction, see
 * migrate.c), or flying: in the device's hands, until it comes back through
 * messages_reap().  Nobody ever waits for the device with the lock held, and
 * nobody waits without a deadline: an answer makes the device's interrupt run the
 * balloon's work, which reaps.
 *
 * A flying message owns the pages in its cargo.  Inflate: the device may discard
 * them at any moment, so they are neither in the pool nor free.  Deflate: with
 * MUST_TELL_HOST, the guest may not use them yet.  If the device never answers,
 * they stay where they are until it is reset (messages_recall()).
 *
 * Of the deflate queue's messages the last idle one is kept for OOM.
 *
 * With the feature PAGE_BITMAP a message is docs/balloon-protocol.md, and the
 * device writes a status behind it.  Without, it is the stock array of 32-bit
 * page numbers.
 *
 * Trust.  The device can do to the guest's pages what it likes; what it writes
 * into the status goes to counters and to a rate-limited log line only.
 */

#include <linux/gfp.h>
#include <linux/ratelimit.h>

#include "balloon.h"

int channel_create(struct channel *channel)
{
	unsigned int i;

	for (i = 0; i < MESSAGES; i++) {
		struct message *message = &channel->messages[i];

		message->data = (u8 *)__get_free_pages(GFP_KERNEL, MESSAGE_ORDER);
		if (!message->data)
			return -ENOMEM;
		message->status = message->data + MESSAGE_BYTES;
	}
	return 0;
}

void channel_destroy(struct channel *channel)
{
	unsigned int i;

	for (i = 0; i < MESSAGES; i++)
		free_pages((unsigned long)channel->messages[i].data, MESSAGE_ORDER);
}

/* With a new queue, all messages idle. */
void channel_start(struct channel *channel, struct virtqueue *vq, unsigned int reserve)
{
	/* Two descriptors each, so that a send never finds the ring full. */
	unsigned int i, count = clamp(virtqueue_get_vring_size(vq) / 2, 1u, (u32)MESSAGES);

	channel->vq = vq;
	channel->reserve = min(reserve, count - 1);
	channel->idle_count = count;
	channel->flying_count = 0;
	INIT_LIST_HEAD(&channel->idle);
	INIT_LIST_HEAD(&channel->flying);
	for (i = 0; i < count; i++) {
		cargo_init(&channel->messages[i].cargo);
		channel->messages[i].moved_count = 0;
		list_add_tail(&channel->messages[i].link, &channel->idle);
	}
}

/* The queue has ended.  What flies is left for messages_recall(). */
void channel_stop(struct channel *channel)
{
	channel->vq = NULL;
}

/* An idle message, to be sent or put back; NULL if there is none. */
struct message *message_get(struct channel *channel, enum message_purpose purpose)
{
	struct message *message;

	if (channel->idle_count <= (purpose == MESSAGE_OOM ? 0 : channel->reserve))
		return NULL;
	message = list_first_entry(&channel->idle, struct message, link);
	list_del_init(&message->link);
	channel->idle_count--;
	message->is_trade = false;
	return message;
}

/* Its cargo is empty. */
void message_put(struct channel *channel, struct message *message)
{
	list_add(&message->link, &channel->idle);
	channel->idle_count++;
}

/* ---- sending ---------------------------------------------------------------- */

static unsigned int encode_runs(struct message *message, const struct run_list *list)
{
	struct page_run_encoder encoder;
	unsigned int i;

	page_run_encode_begin(&encoder, message->data, MESSAGE_BYTES);
	for (i = 0; i < list->count; i++)
		/* run_list.cost has seen to it that there is room.  What the host
		 * is not told of, it merely does not take. */
		if (WARN_ON_ONCE(page_run_encode(&encoder, list->runs[i]) < list->runs[i].count))
			break;
	return page_run_encode_finish(&encoder);
}

static unsigned int encode_stock(struct virtio_device *vdev, struct message *message,
				 const struct run_list *list)
{
	__virtio32 *pfns = (__virtio32 *)message->data;
	unsigned int i, count = 0;
	u64 page;

	BUILD_BUG_ON(STOCK_PAGES_MAX * sizeof(*pfns) > MESSAGE_BYTES);
	for (i = 0; i < list->count; i++)
		for (page = 0; page < list->runs[i].count; page++)
			pfns[count++] = cpu_to_virtio32(vdev, list->runs[i].pfn + page);
	return count * sizeof(*pfns);
}

/*
 * Name the runs of @list (which is sorted and used up) to the device, and hand
 * over the message's cargo.  On error, which only a broken device gives, the
 * message is the caller's as before.
 *
 * A message with a status takes two descriptors, for which the ring may allocate
 * an indirect table; one for OOM therefore has none.
 */
int message_send(struct balloon *balloon, struct channel *channel, struct message *message,
		 struct run_list *list, enum message_purpose purpose)
{
	struct scatterlist data, status, *lists[] = { &data, &status };
	unsigned int bytes;
	int err;

	lockdep_assert_held(&balloon->lock);

	list->count = page_runs_merge(list->runs, list->count);
	message->pages = list->pages;
	message->has_status = balloon->page_bitmap && purpose != MESSAGE_OOM;
	if (balloon->page_bitmap)
		bytes = encode_runs(message, list);
	else
		bytes = encode_stock(balloon->vdev, message, list);
	run_list_reset(list);

	sg_init_one(&data, message->data, bytes);
	sg_init_one(&status, message->status, PAGE_RUN_STATUS_BYTES);
	err = virtqueue_add_sgs(channel->vq, lists, 1, message->has_status, message,
				GFP_NOWAIT | __GFP_NOWARN);
	if (err)
		return err;

	message->sent = jiffies;
	list_add_tail(&message->link, &channel->flying);
	channel->flying_count++;
	channel->sent++;
	channel->bytes += bytes;
	channel->pages += message->pages;
	if (channel->is_inflate && !message->is_trade)
		balloon->inflating += message->cargo.pages;
	virtqueue_kick(channel->vq);
	return 0;
}

/* ---- answers ---------------------------------------------------------------- */

static void check_status(struct balloon *balloon, struct channel *channel,
			 struct message *message, unsigned int written)
{
	struct page_run_status status;

	if (!message->has_status || written < PAGE_RUN_STATUS_BYTES)
		return;
	status = page_run_status_load(message->status);
	if (status.code == PAGE_RUN_OK)
		return;
	channel->refused += message->pages - min(status.pages, message->pages);
	dev_warn_ratelimited(&balloon->vdev->dev,
			     "the device refused part of a message to %s: code %u, from record %u on; it took %llu of %llu pages\n",
			     channel->name, status.code, status.record, status.pages,
			     message->pages);
}

/* A message's pages go where they belong once the host knows of them. */
static void message_settle(struct balloon *balloon, struct channel *channel,
			   struct message *message)
{
	if (!channel->is_inflate) {
		pool_release(&balloon->pool, &message->cargo);
	} else if (message->is_trade) {
		migrate_settle(message);
		balloon->pool.piece_pages -= message->cargo.pages; /* already counted */
		pool_store(&balloon->pool, &message->cargo);
	} else {
		balloon->inflating -= message->cargo.pages;
		pool_store(&balloon->pool, &message->cargo);
	}
	while (message->moved_count)
		put_page(message->moved[--message->moved_count]);
	channel->flying_count--;
	list_del(&message->link);
	message_put(channel, message);
}

static bool channel_reap(struct balloon *balloon, struct channel *channel)
{
	struct message *message;
	unsigned int written;
	bool any = false;

	while ((message = virtqueue_get_buf(channel->vq, &written))) {
		check_status(balloon, channel, message, written);
		message_settle(balloon, channel, message);
		any = true;
	}
	return any;
}

/* Take back what the device has answered.  True if that was anything. */
bool messages_reap(struct balloon *balloon)
{
	bool any;

	lockdep_assert_held(&balloon->lock);

	/* First: an answer after this line changes the count once more. */
	balloon->answers_seen = atomic_read_acquire(&balloon->answers);
	any = channel_reap(balloon, &balloon->inflate);
	any |= channel_reap(balloon, &balloon->deflate);
	if (any && balloon->stalled) {
		balloon->stalled = false;
		dev_info(&balloon->vdev->dev, "the device answers again\n");
	}
	return any;
}

/*
 * Wait until the device has answered something since the last reap, with the lock
 * dropped meanwhile, and reap.  False at the deadline (jiffies), or if the device
 * is broken.
 */
bool messages_wait(struct balloon *balloon, unsigned long deadline)
{
	long left = deadline - jiffies;
	int seen = balloon->answers_seen;

	lockdep_assert_held(&balloon->lock);

	if (left <= 0 || virtqueue_is_broken(balloon->inflate.vq))
		return false;
	mutex_unlock(&balloon->lock);
	left = wait_event_timeout(balloon->answered, atomic_read(&balloon->answers) != seen, left);
	mutex_lock(&balloon->lock);
	return messages_reap(balloon) || left > 0;
}

/*
 * The device has been reset and its queues are gone, so that all messages are
 * ours again: their pages go to the pool (inflate) or back to the system.
 */
void messages_recall(struct balloon *balloon)
{
	struct channel *channels[] = { &balloon->inflate, &balloon->deflate };
	struct message *message, *next;
	unsigned int i;

	lockdep_assert_held(&balloon->lock);

	for (i = 0; i < ARRAY_SIZE(channels); i++)
		list_for_each_entry_safe(message, next, &channels[i]->flying, link)
			message_settle(balloon, channels[i], message);
}
