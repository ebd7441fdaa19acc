/* SPDX-License-Identifier: GPL-2.0 */
/* Messages to the device, and the two queues that carry them: see message.c. */
#ifndef UMBRA_MESSAGE_H
#define UMBRA_MESSAGE_H

#include <linux/virtio.h>

#include "pool.h"

struct balloon;

/* In flight on each queue.  More than a few only deepen the queue: the device
 * works on one while the others keep it from waiting. */
#define MESSAGES 8

/* One allocation of this order for each; the status lies in its last bytes, on a
 * cache line of its own.  16 KiB name 2046 separate runs. */
#define MESSAGE_ORDER (PAGE_SHIFT >= 14 ? 0 : 14 - PAGE_SHIFT)
#define MESSAGE_BYTES ((PAGE_SIZE << MESSAGE_ORDER) - 64)
#define MESSAGE_RUNS_MAX (MESSAGE_BYTES / sizeof(u64) - 1)

/* The stock protocol names 256 pages at a time.  Nothing says so, but there are
 * devices that take no more. */
#define STOCK_PAGES_MAX 256u

/* Pages that compaction moves with one message. */
#define TRADE_PAGES 64u

struct message {
	struct list_head link; /* in channel.idle or channel.flying */
	u8 *data, *status;
	struct cargo cargo;
	unsigned long sent; /* jiffies */
	u64 pages;	    /* of 4 KiB, that it names */
	bool has_status;
	bool is_trade; /* its pages are already counted */

	/* Deflate: pages that compaction has emptied; a reference to each.  Their
	 * list heads still belong to compaction. */
	struct page *moved[TRADE_PAGES];
	unsigned int moved_count;
};

/* One of the two queues.  Under balloon.lock. */
struct channel {
	const char *name;
	bool is_inflate;
	struct virtqueue *vq; /* NULL between stop and start */
	struct message messages[MESSAGES];
	struct list_head idle, flying; /* flying: in the order of sending */
	unsigned int idle_count, flying_count;
	unsigned int reserve; /* of the idle ones, for OOM */

	u64 sent, bytes, pages, refused; /* counters; pages of 4 KiB */
};

enum message_purpose {
	MESSAGE_NORMAL,
	MESSAGE_OOM, /* may have the reserve; allocates nothing on its way */
};

int channel_create(struct channel *channel);
void channel_start(struct channel *channel, struct virtqueue *vq, unsigned int reserve);
void channel_stop(struct channel *channel);
void channel_destroy(struct channel *channel);

struct message *message_get(struct channel *channel, enum message_purpose purpose);
void message_put(struct channel *channel, struct message *message);
int message_send(struct balloon *balloon, struct channel *channel, struct message *message,
		 struct run_list *list, enum message_purpose purpose);

bool messages_reap(struct balloon *balloon);
bool messages_wait(struct balloon *balloon, unsigned long deadline);
void messages_recall(struct balloon *balloon);

#endif
