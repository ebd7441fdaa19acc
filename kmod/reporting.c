// SPDX-License-Identifier: GPL-2.0
/*
 * Free page reporting: the kernel lends us blocks of free pages, the device
 * discards them, the kernel has them back.
 *
 * While the device has not answered, it may discard: the blocks must stay out of
 * the guest's use, however long that takes.  So this is the one place that waits
 * without a deadline: in a kernel thread that has nothing else to do, idle, with
 * at most 32 blocks in its hands.  It ends early when the device has been reset
 * and its queues are gone (reporting_stop()).
 *
 * Locking: reporting_lock for the queue; balloon.lock is not involved.
 */

#include <linux/scatterlist.h>

#include "balloon.h"
#include "compat.h"

/* Take back the answer.  True if the device is done with the pages. */
static bool take_answer(struct balloon *balloon)
{
	unsigned int unused;
	bool done;

	mutex_lock(&balloon->reporting_lock);
	done = balloon->reporting_open && virtqueue_get_buf(balloon->reporting_vq, &unused);
	mutex_unlock(&balloon->reporting_lock);
	return done;
}

static int report(struct page_reporting_dev_info *reporting, struct scatterlist *list,
		  unsigned int count)
{
	struct balloon *balloon = container_of(reporting, struct balloon, reporting);
	int err = -ENODEV;

	mutex_lock(&balloon->reporting_lock);
	if (balloon->reporting_open)
		err = virtqueue_add_inbuf(balloon->reporting_vq, list, count, balloon,
					  GFP_NOWAIT | __GFP_NOWARN);
	if (!err)
		virtqueue_kick(balloon->reporting_vq);
	mutex_unlock(&balloon->reporting_lock);
	if (err)
		return err;

	for (;;) {
		/* Before the look, so that an answer after it is not slept through. */
		int seen = atomic_read_acquire(&balloon->answers);

		if (take_answer(balloon))
			return 0;
		if (READ_ONCE(balloon->reporting_quiet))
			return -ENODEV;
		wait_event_idle(balloon->answered, atomic_read(&balloon->answers) != seen ||
							   READ_ONCE(balloon->reporting_quiet));
	}
}

void reporting_init(struct balloon *balloon)
{
	mutex_init(&balloon->reporting_lock);
	balloon->reporting.report = report;
	/* A pageblock, the kernel's choice, is 512 MiB where pages have 64 KiB: report
	 * 2 MiB there, which is what a host can discard whole. */
	balloon->reporting.order =
		IS_ENABLED(CONFIG_ARM64_64K_PAGES) ? 5 : PAGE_REPORTING_ORDER_UNSPECIFIED;
}

/* Without it, the balloon works all the same: no error is fatal. */
void reporting_start(struct balloon *balloon)
{
	int err = 0;

	if (!balloon->reporting_vq)
		return;
	balloon->reporting_open = true;
	balloon->reporting_quiet = false;
	if (virtqueue_get_vring_size(balloon->reporting_vq) < PAGE_REPORTING_CAPACITY)
		err = -ENOSPC;
	else
		err = page_reporting_register(&balloon->reporting);
	balloon->reporting_registered = err == 0;
	if (err)
		dev_warn(&balloon->vdev->dev, "no free page reporting: error %d\n", err);
}

/* The queue must not be touched any more. */
void reporting_close(struct balloon *balloon)
{
	mutex_lock(&balloon->reporting_lock);
	balloon->reporting_open = false;
	mutex_unlock(&balloon->reporting_lock);
}

/* After the device's reset and the end of its queues. */
void reporting_stop(struct balloon *balloon)
{
	WRITE_ONCE(balloon->reporting_quiet, true);
	wake_up_all(&balloon->answered);
	if (balloon->reporting_registered)
		page_reporting_unregister(&balloon->reporting);
	balloon->reporting_registered = false;
}
