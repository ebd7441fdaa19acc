// SPDX-License-Identifier: GPL-2.0
/*
 * Resizing: the balloon's one work item, which looks at everything and does what
 * is next.
 *
 * Theory of operation.  The work runs when the host changes the configuration,
 * when the device has answered, when compaction has moved pages, and when a time
 * has come.  It never waits for answers: it takes back what is answered, sends what can be
 * sent, tells the host where the balloon is, and says when it wants to run again
 * at the latest.  So a device that does not answer holds up nothing; it is
 * reported once, and once more when it answers.
 *
 * Under memory pressure.  If the guest has nothing to give, the work tries again
 * after 0.2, 0.4, 0.8 ... seconds (the parameter retries says how often in vain),
 * and then not before the host names a target again.  After an OOM deflate it does
 * not try at all: to take the pages again at once would undo what has just been
 * done.
 *
 * Locking: balloon.lock, dropped between messages so that OOM and compaction can
 * have it, and wherever memory is allocated in a way that could wait for OOM.
 */

#include <linux/sched.h>
#include <linux/virtio_config.h>

#include "balloon.h"

#define RETRY_FIRST (HZ / 5)
/* A write to the configuration may stop the guest until the device has time. */
#define PUBLISH_INTERVAL (HZ / 20)

/* Run the work soon.  Any context. */
void balloon_kick(struct balloon *balloon)
{
	unsigned long flags;

	spin_lock_irqsave(&balloon->kick_lock, flags);
	if (balloon->may_kick)
		mod_delayed_work(balloon->workqueue, &balloon->work, 0);
	spin_unlock_irqrestore(&balloon->kick_lock, flags);
}

/* The host has written the configuration.  Any context. */
void balloon_target_changed(struct balloon *balloon)
{
	WRITE_ONCE(balloon->target_changed, true);
	balloon_kick(balloon);
}

/*
 * Tell the host how many pages it has, and ask it how many it wants.  The
 * configuration may need memory to be read or written, and so perhaps an OOM
 * deflate: never with balloon.lock.  It belongs to the work, and to who stopped it.
 */
void resize_publish(struct balloon *balloon)
{
	u32 actual = READ_ONCE(balloon->held) * HOST_PAGES;

	lockdep_assert_not_held(&balloon->lock);

	balloon->publish_at = jiffies + PUBLISH_INTERVAL;
	if (actual == balloon->published)
		return;
	balloon->published = actual;
	virtio_cwrite_le(balloon->vdev, struct virtio_balloon_config, actual, &actual);
}

static void read_target(struct balloon *balloon)
{
	u32 pages;

	if (!READ_ONCE(balloon->target_changed))
		return;
	/* Before the read: a change after it kicks again. */
	WRITE_ONCE(balloon->target_changed, false);
	smp_mb();
	virtio_cread_le(balloon->vdev, struct virtio_balloon_config, num_pages, &pages);

	mutex_lock(&balloon->lock);
	/* Upwards, or a target between two of our pages would never be reached. */
	balloon->target = DIV_ROUND_UP((unsigned long)pages, HOST_PAGES);
	balloon->retries = 0;
	balloon->state = BALLOON_SETTLED;
	mutex_unlock(&balloon->lock);
}

/* The guest had nothing to give. */
static void put_off(struct balloon *balloon)
{
	unsigned long missing = balloon->target - pool_pages(&balloon->pool) - balloon->inflating;

	if (balloon->retries >= balloon_retries) {
		balloon->state = BALLOON_GIVEN_UP;
		dev_info(&balloon->vdev->dev,
			 "%lu MiB short of the target: no more memory to give; until the host sets a new target\n",
			 missing >> (20 - PAGE_SHIFT));
		return;
	}
	balloon->retry_at = jiffies + (RETRY_FIRST << min(balloon->retries, 10u));
	balloon->retries++;
}

static bool is_flying(const struct balloon *balloon)
{
	return balloon->inflate.flying_count || balloon->deflate.flying_count;
}

/* One step towards the target.  True if there may be another one at once. */
static bool step(struct balloon *balloon)
{
	unsigned long have, held;

	messages_reap(balloon);
	if (balloon->stalled)
		return false;

	held = pool_pages(&balloon->pool);
	have = held + balloon->inflating;
	if (have > balloon->target) {
		balloon->state = BALLOON_DEFLATING;
		return deflate_some(balloon, min(held, have - balloon->target));
	}
	if (have == balloon->target) {
		if (!is_flying(balloon))
			balloon->state = BALLOON_SETTLED;
		balloon->retries = 0;
		return false;
	}
	if (balloon->state == BALLOON_GIVEN_UP)
		return false;
	if (balloon->state == BALLOON_WAITING && time_before(jiffies, balloon->retry_at))
		return false;
	balloon->state = BALLOON_INFLATING;
	if (inflate_some(balloon)) {
		balloon->retries = 0;
		return true;
	}
	if (balloon->state == BALLOON_WAITING)
		put_off(balloon);
	return false;
}

/* Report a device that does not answer; jiffies until it might be one. */
static unsigned long watch(struct balloon *balloon)
{
	struct channel *channels[] = { &balloon->inflate, &balloon->deflate };
	unsigned long timeout = balloon_response_timeout(), next = timeout;
	bool late = false, flying = false;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(channels); i++) {
		struct message *oldest = list_first_entry_or_null(&channels[i]->flying,
								  struct message, link);
		unsigned long age;

		if (!oldest)
			continue;
		flying = true;
		age = jiffies - oldest->sent;
		if (age >= timeout)
			late = true;
		else
			next = min(next, timeout - age);
	}
	if (late && !balloon->stalled) {
		balloon->stalled = true;
		dev_warn(&balloon->vdev->dev,
			 "the device has not answered for %u ms; the balloon stays as it is until it does\n",
			 jiffies_to_msecs(timeout));
	}
	if (balloon->stalled)
		balloon->state = BALLOON_STALLED;
	return flying && !late ? next : MAX_SCHEDULE_TIMEOUT;
}

/* When to run next, if nothing happens until then. */
static void wind_up(struct balloon *balloon)
{
	unsigned long next = watch(balloon);

	if (balloon->state == BALLOON_WAITING)
		next = min_t(unsigned long, next, max_t(long, balloon->retry_at - jiffies, 1));
	else if (!is_flying(balloon) && (balloon->state == BALLOON_DEFLATING ||
					 balloon->state == BALLOON_INFLATING))
		/* Compaction or OOM has something in its hands just now. */
		next = min_t(unsigned long, next, HZ / 100 + 1);
	if (next != MAX_SCHEDULE_TIMEOUT)
		queue_delayed_work(balloon->workqueue, &balloon->work, next);
}

/* Steps towards the target, until there are none, or something else is due. */
static bool walk(struct balloon *balloon)
{
	bool more;

	mutex_lock(&balloon->lock);
	migrate_flush(balloon);
	do {
		more = balloon->running && step(balloon);
	} while (more && time_before(jiffies, balloon->publish_at) && !need_resched() &&
		 !READ_ONCE(balloon->target_changed) && !atomic_read(&balloon->oom_waiting));
	if (!more && balloon->running)
		wind_up(balloon);
	WRITE_ONCE(balloon->held, pool_pages(&balloon->pool));
	mutex_unlock(&balloon->lock);
	return more;
}

static void resize_work(struct work_struct *work)
{
	struct balloon *balloon = container_of(work, struct balloon, work.work);
	bool more;

	ladder_reset(&balloon->ladder, &balloon->list);
	do {
		read_target(balloon);
		more = walk(balloon);
		/* Always the last word, and before it now and then. */
		if (!more && !READ_ONCE(balloon->inflating))
			resize_publish(balloon);
		else if (!time_before(jiffies, balloon->publish_at))
			resize_publish(balloon);
		cond_resched();
	} while (more);
}

void resize_init(struct balloon *balloon)
{
	spin_lock_init(&balloon->kick_lock);
	INIT_DELAYED_WORK(&balloon->work, resize_work);
}

/* The device is ready. */
void resize_start(struct balloon *balloon)
{
	mutex_lock(&balloon->lock);
	balloon->running = true;
	balloon->stalled = false;
	balloon->state = BALLOON_SETTLED;
	balloon->publish_at = jiffies;
	mutex_unlock(&balloon->lock);

	spin_lock_irq(&balloon->kick_lock);
	balloon->may_kick = true;
	spin_unlock_irq(&balloon->kick_lock);
	balloon_target_changed(balloon);
}

/* The work does not run, and will not, when this returns. */
void resize_stop(struct balloon *balloon)
{
	spin_lock_irq(&balloon->kick_lock);
	balloon->may_kick = false;
	spin_unlock_irq(&balloon->kick_lock);

	mutex_lock(&balloon->lock);
	balloon->running = false;
	mutex_unlock(&balloon->lock);
	cancel_delayed_work_sync(&balloon->work);
}
