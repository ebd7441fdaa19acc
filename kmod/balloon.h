/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The balloon device as its driver sees it; what the files here share.
 *
 *	main		probe, remove, suspend, resume; parameters
 *	resize		what to do next: the one work item
 *	inflate		pages from the system to the host
 *	deflate		and back
 *	pool		the pages
 *	message		the messages that name them, and their queues
 *	codec		the messages' format
 *	migrate		compaction moves pages of the balloon
 *	oom		pages back when the guest is out of memory
 *	reporting	free pages that stay the guest's
 *	stats		figures for the host
 *	attributes	figures for the guest's administrator, in sysfs
 *	compat		kernel versions
 */
#ifndef UMBRA_BALLOON_H
#define UMBRA_BALLOON_H

#include <linux/atomic.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/page_reporting.h>
#include <linux/spinlock.h>
#include <linux/virtio.h>
#include <linux/virtio_balloon.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "message.h"
#include "pool.h"

#define STATS_MAX 16

/* Why the balloon does not move although the target is elsewhere. */
enum balloon_state {
	BALLOON_SETTLED,   /* at the target */
	BALLOON_INFLATING,
	BALLOON_DEFLATING,
	BALLOON_WAITING,   /* the guest has no memory to give: trying again later */
	BALLOON_GIVEN_UP,  /* nor had it then: until the host names a target again */
	BALLOON_STALLED,   /* the device does not answer */
	BALLOON_STOPPED,   /* suspended, or not come back on resume: no device */
};

/* Pages that compaction has moved and the host does not know about yet. */
struct trade {
	struct message *in, *out; /* both or neither */
	unsigned int count;
	struct page_run in_runs[TRADE_PAGES], out_runs[TRADE_PAGES];
	struct run_list in_list, out_list;
	u64 moved; /* counter */
};

struct balloon {
	struct virtio_device *vdev;
	struct workqueue_struct *workqueue;
	bool started; /* there are queues; start and stop alone ask (see main.c) */

	/* All that follows, up to the next lock.  Never held while the device is
	 * waited for; held while memory is allocated, but not where that could
	 * call the OOM killer. */
	struct mutex lock;
	struct pool pool;
	struct channel inflate, deflate;
	struct run_list list; /* of the message that is being built */
	struct ladder ladder;
	struct trade trade;
	bool page_bitmap;    /* negotiated */
	bool must_tell_host; /* negotiated */
	bool running;	     /* between start and stop */
	bool stalled;
	enum balloon_state state;
	unsigned long target;	   /* in pages of ours */
	unsigned long inflating;   /* pages that fly to the host */
	unsigned long keep;	   /* available pages that stay with the guest */
	unsigned int retries;	   /* in vain, one after the other */
	unsigned long retry_at;	   /* jiffies */
	u64 oom_pages, oom_calls;  /* counters */
	u64 allocate_ns, send_ns;  /* counters */

	/* What to do next; also run when a message is answered. */
	struct delayed_work work;
	spinlock_t kick_lock;
	bool may_kick;
	unsigned long held;	  /* the work's copy of pool_pages() */
	u32 published;		  /* "actual", as the host knows it */
	unsigned long publish_at; /* jiffies: the next one */
	bool target_changed; /* by the host, since the work looked last */
	atomic_t oom_waiting;

	/* The device has answered something: how often, and as of the last reap. */
	wait_queue_head_t answered;
	atomic_t answers;
	int answers_seen;

	struct virtqueue *stats_vq;
	struct work_struct stats_work;
	struct virtio_balloon_stat stats[STATS_MAX];

	struct notifier_block oom;
	bool oom_registered;

	/* Free page reporting. */
	struct mutex reporting_lock; /* against the end of the queue */
	struct virtqueue *reporting_vq;
	struct page_reporting_dev_info reporting;
	bool reporting_registered;
	bool reporting_open;  /* the queue may be touched */
	bool reporting_quiet; /* the device cannot touch memory any more */
};

/* main.c: parameters */
extern unsigned int balloon_response_timeout_ms;
extern unsigned int balloon_oom_pages;
extern unsigned int balloon_retries;
extern unsigned int balloon_keep_mib;
extern unsigned int balloon_message_mib;
static inline unsigned long balloon_response_timeout(void)
{
	return msecs_to_jiffies(max(balloon_response_timeout_ms, 1u));
}

/* resize.c */
void balloon_kick(struct balloon *balloon);
void balloon_target_changed(struct balloon *balloon);
void resize_init(struct balloon *balloon);
void resize_start(struct balloon *balloon);
void resize_stop(struct balloon *balloon);
void resize_publish(struct balloon *balloon);

/* inflate.c: true if it can go on at once */
bool inflate_some(struct balloon *balloon);

/* deflate.c */
bool deflate_some(struct balloon *balloon, unsigned long want);
int deflate_send(struct balloon *balloon, struct message *message, enum message_purpose purpose);
void deflate_all(struct balloon *balloon);

/* migrate.c */
void migrate_start(struct balloon *balloon);
void migrate_flush(struct balloon *balloon);
void migrate_settle(struct message *message);

/* oom.c */
void oom_start(struct balloon *balloon);
void oom_stop(struct balloon *balloon);

/* stats.c */
void stats_init(struct balloon *balloon);
void stats_start(struct balloon *balloon);
void stats_answered(struct virtqueue *vq);

/* reporting.c */
void reporting_init(struct balloon *balloon);
void reporting_start(struct balloon *balloon);
void reporting_close(struct balloon *balloon);
void reporting_stop(struct balloon *balloon);

/* attributes.c */
extern const struct attribute_group *balloon_attribute_groups[];

#endif
