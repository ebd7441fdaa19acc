// SPDX-License-Identifier: GPL-2.0
/*
 * A virtio balloon driver that moves whole runs of pages per message.
 *
 * Implements the driver side of the memory balloon device (virtio 1.2, section
 * 5.5; not free page hinting) and of its page-bitmap protocol
 * (docs/balloon-protocol.md).  This file: how a device comes and goes.  balloon.h
 * lists the others.
 *
 * Life of a device.  start: queues, DRIVER_OK, then everything that may use the
 * device, in that order.  stop is its mirror: first nothing new comes (OOM, work),
 * then the pages go back while the device still listens, then it is reset, then
 * its queues end.  Only then is it sure that it does not touch memory any more (a
 * transport may have to tell it, and do so only there): pages that it has not
 * answered for are freed last.  Suspend and resume are stop and start.
 *
 * A driver can outlive its device's start: if the device does not come back on resume
 * (it refuses the features, which virtio's core finds out, or queues, which start()
 * does), the driver stays bound without one, and may be suspended, resumed or removed
 * in any order.  So balloon.started says whether there are queues.  Between stop and
 * start there is no page in the pool, no message flies, all pointers to queues are
 * NULL, and nothing runs that would follow one: the work is cancelled and cannot be
 * queued (may_kick), the OOM notifier and reporting are unregistered, and compaction
 * is turned away (running).
 *
 * Going down with the guest (shutdown) is the least of it: nothing is given back.
 *
 * Features are settled once, before FEATURES_OK.  What depends on this kernel and on the
 * module's parameters is settled when the module is loaded, by what the feature table
 * then has.  For what validate() takes back from a device, virtio's core has the
 * features written to it a second time, and virtio_uml loses the one by which it stops
 * the rings at a reset: the device goes on in memory that is somebody else's by then.
 * So validate() takes back only what it must, where a device offers one feature without
 * another, or one that no table can decline.
 */

#include <linux/gfp.h>
#include <linux/init.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>

#include "balloon.h"
#include "compat.h"

static bool page_bitmap = true;
module_param(page_bitmap, bool, 0444);
MODULE_PARM_DESC(page_bitmap, "use the page-bitmap protocol if the device has it (default: Y)");

unsigned int balloon_message_mib = 256;
module_param_named(message_mib, balloon_message_mib, uint, 0644);
MODULE_PARM_DESC(message_mib, "memory that one message names, in MiB, at most (default: 256)");

unsigned int balloon_retries = 8;
module_param_named(retries, balloon_retries, uint, 0644);
MODULE_PARM_DESC(retries,
		 "when the guest has no memory to give: how often to try again, after 0.2, 0.4, 0.8 ... seconds, before waiting for a new target (default: 8)");

unsigned int balloon_keep_mib;
module_param_named(keep_mib, balloon_keep_mib, uint, 0444);
MODULE_PARM_DESC(keep_mib,
		 "available memory that the guest keeps whatever the target, in MiB (default: 0, which is 1/32 of its memory, 32 at most)");

unsigned int balloon_oom_pages = 256;
module_param_named(oom_pages, balloon_oom_pages, uint, 0644);
MODULE_PARM_DESC(oom_pages,
		 "pages of 4 KiB to give back at a time when the guest is out of memory; more if a larger chunk is at hand (default: 256)");

unsigned int balloon_response_timeout_ms = 10000;
module_param_named(response_timeout_ms, balloon_response_timeout_ms, uint, 0644);
MODULE_PARM_DESC(response_timeout_ms,
		 "after how long without an answer a device is reported, and not waited for when it is removed (default: 10000)");

enum queue {
	QUEUE_INFLATE,
	QUEUE_DEFLATE,
	QUEUE_STATS,
	QUEUE_FREE_PAGE, /* hinting, never asked for; its number is taken */
	QUEUE_REPORTING,
	QUEUES
};

static void answered(struct virtqueue *vq)
{
	struct balloon *balloon = vq->vdev->priv;

	/* Release; peer: the acquire before a look into the used ring. */
	atomic_inc_return_release(&balloon->answers);
	wake_up(&balloon->answered);
	if (vq != READ_ONCE(balloon->reporting_vq))
		balloon_kick(balloon);
}

static void config_changed(struct virtio_device *vdev)
{
	balloon_target_changed(vdev->priv);
}

static int find_queues(struct balloon *balloon)
{
	struct virtio_device *vdev = balloon->vdev;
	struct virtqueue_info info[QUEUES] = {
		[QUEUE_INFLATE] = { .name = "inflate", .callback = answered },
		[QUEUE_DEFLATE] = { .name = "deflate", .callback = answered },
	};
	struct virtqueue *vqs[QUEUES] = { NULL };
	int err;

	if (virtio_has_feature(vdev, VIRTIO_BALLOON_F_STATS_VQ))
		info[QUEUE_STATS] = (struct virtqueue_info){ .name = "stats",
							     .callback = stats_answered };
	if (virtio_has_feature(vdev, VIRTIO_BALLOON_F_REPORTING))
		info[QUEUE_REPORTING] = (struct virtqueue_info){ .name = "reporting",
								 .callback = answered };
	err = compat_find_vqs(vdev, QUEUES, vqs, info);
	if (err)
		return err;
	channel_start(&balloon->inflate, vqs[QUEUE_INFLATE], 0);
	channel_start(&balloon->deflate, vqs[QUEUE_DEFLATE], 1);
	balloon->stats_vq = vqs[QUEUE_STATS];
	balloon->reporting_vq = vqs[QUEUE_REPORTING];
	return 0;
}

/* Nothing uses them any more. */
static void end_queues(struct balloon *balloon)
{
	balloon->vdev->config->del_vqs(balloon->vdev);
	channel_stop(&balloon->inflate);
	channel_stop(&balloon->deflate);
	balloon->stats_vq = NULL;
	balloon->reporting_vq = NULL;
}

/* Whether this kernel counts on what free pages hold. */
static bool free_pages_hold_something(void)
{
	return want_init_on_free() || page_poisoning_enabled_static();
}

/* virtio's core lets nobody ask for a feature that is not in the table. */
static bool host_knows_content(struct virtio_device *vdev)
{
	return free_pages_hold_something() &&
	       virtio_has_feature(vdev, VIRTIO_BALLOON_F_PAGE_POISON);
}

/* What free pages hold, which the host must put back if it discards them. */
static void tell_poison(struct virtio_device *vdev)
{
	u32 value = 0;

	if (!host_knows_content(vdev))
		return;
	if (!want_init_on_free())
		memset(&value, PAGE_POISON, sizeof(value));
	virtio_cwrite_le(vdev, struct virtio_balloon_config, poison_val, &value);
}

static int start(struct balloon *balloon)
{
	int err = find_queues(balloon);

	if (err)
		return err;
	migrate_start(balloon);
	tell_poison(balloon->vdev);
	stats_start(balloon);
	virtio_device_ready(balloon->vdev);
	if (balloon->stats_vq)
		virtqueue_kick(balloon->stats_vq);
	resize_start(balloon);
	/* The device may have asked before anything could run. */
	if (balloon->stats_vq)
		stats_answered(balloon->stats_vq);
	oom_start(balloon);
	reporting_start(balloon);
	balloon->started = true;
	return 0;
}

/* Nothing new comes. */
static void quiesce(struct balloon *balloon)
{
	oom_stop(balloon);
	resize_stop(balloon);
	cancel_work_sync(&balloon->stats_work);
}

/* Leaves the device reset, whether it was started or not. */
static void stop(struct balloon *balloon)
{
	bool silent;

	if (!balloon->started) {
		/* What refused to resume still has a status. */
		virtio_reset_device(balloon->vdev);
		return;
	}
	balloon->started = false;

	quiesce(balloon);
	mutex_lock(&balloon->lock);
	migrate_flush(balloon);
	deflate_all(balloon);
	WRITE_ONCE(balloon->held, pool_pages(&balloon->pool));
	silent = balloon->inflate.flying_count || balloon->deflate.flying_count;
	mutex_unlock(&balloon->lock);
	/* A device that does not answer may be gone, and a VMM be lost that is to
	 * write to its configuration (QEMU 11.1 aborts). */
	if (!silent)
		resize_publish(balloon);

	virtio_reset_device(balloon->vdev);
	reporting_close(balloon);
	end_queues(balloon);
	reporting_stop(balloon);

	mutex_lock(&balloon->lock);
	messages_recall(balloon);
	pool_empty(&balloon->pool);
	balloon->state = BALLOON_STOPPED;
	mutex_unlock(&balloon->lock);
}

/* ---- what virtio asks for --------------------------------------------------- */

static int validate(struct virtio_device *vdev)
{
	/*
	 * A host that discards free pages changes what they hold, unless it knows
	 * what that must be.
	 */
	if (free_pages_hold_something() && !host_knows_content(vdev))
		__virtio_clear_bit(vdev, VIRTIO_BALLOON_F_REPORTING);

	/* Pages are named by their physical address, whatever an IOMMU says.  A
	 * transport's feature: it is negotiated though no table has it. */
	__virtio_clear_bit(vdev, VIRTIO_F_ACCESS_PLATFORM);
	return 0;
}

static unsigned long pages_to_keep(void)
{
	unsigned long mib = balloon_keep_mib;

	if (!mib)
		return min(totalram_pages() / 32, 32ul << (20 - PAGE_SHIFT));
	return mib << (20 - PAGE_SHIFT);
}

static void destroy(struct balloon *balloon)
{
	if (balloon->workqueue)
		destroy_workqueue(balloon->workqueue);
	kvfree(balloon->list.runs);
	channel_destroy(&balloon->deflate);
	channel_destroy(&balloon->inflate);
	kfree(balloon);
}

static struct balloon *create(struct virtio_device *vdev)
{
	struct balloon *balloon = kzalloc(sizeof(*balloon), GFP_KERNEL);

	if (!balloon)
		return NULL;
	balloon->vdev = vdev;
	balloon->page_bitmap = virtio_has_feature(vdev, PAGE_RUN_FEATURE_BIT);
	balloon->must_tell_host = virtio_has_feature(vdev, VIRTIO_BALLOON_F_MUST_TELL_HOST);
	balloon->keep = pages_to_keep();
	balloon->inflate.name = "inflate";
	balloon->inflate.is_inflate = true;
	balloon->deflate.name = "deflate";
	mutex_init(&balloon->lock);
	init_waitqueue_head(&balloon->answered);
	pool_init(&balloon->pool);
	balloon->pool.managed_unchanged =
		virtio_has_feature(vdev, VIRTIO_BALLOON_F_DEFLATE_ON_OOM);
	resize_init(balloon);
	stats_init(balloon);
	reporting_init(balloon);

	balloon->list.stock = !balloon->page_bitmap;
	balloon->list.cost_max = balloon->page_bitmap ? MESSAGE_RUNS_MAX : STOCK_PAGES_MAX;
	balloon->list.runs =
		kvmalloc_array(balloon->list.cost_max, sizeof(struct page_run), GFP_KERNEL);
	/* Frozen before the device is; with a rescuer, since it can free memory. */
	balloon->workqueue = alloc_workqueue("umbra_balloon",
					     WQ_FREEZABLE | WQ_MEM_RECLAIM | WQ_UNBOUND, 0);
	if (!balloon->list.runs || !balloon->workqueue || channel_create(&balloon->inflate) ||
	    channel_create(&balloon->deflate)) {
		destroy(balloon);
		return NULL;
	}
	return balloon;
}

static int probe(struct virtio_device *vdev)
{
	struct balloon *balloon;
	int err;

	if (!vdev->config->get) {
		dev_err(&vdev->dev, "the transport has no access to the configuration\n");
		return -EINVAL;
	}
	balloon = create(vdev);
	if (!balloon)
		return -ENOMEM;
	vdev->priv = balloon;
	err = start(balloon);
	if (err) {
		vdev->priv = NULL;
		destroy(balloon);
		return err;
	}
	dev_info(&vdev->dev, "balloon by %s%s\n",
		 balloon->page_bitmap ? "runs of pages" : "single pages",
		 balloon->oom_registered ? ", deflating on OOM" : "");
	return 0;
}

static void remove(struct virtio_device *vdev)
{
	struct balloon *balloon = vdev->priv;

	stop(balloon);
	destroy(balloon);
}

#if COMPAT_HAS_SHUTDOWN
/*
 * The guest goes down, or starts another kernel.  The balloon stays as it is: only
 * its device ends, and whatever would have talked to it does first.  That must not
 * wait for the device.
 */
static void shutdown(struct virtio_device *vdev)
{
	struct balloon *balloon = vdev->priv;

	if (balloon->started)
		quiesce(balloon);
	virtio_break_device(vdev);
	virtio_synchronize_cbs(vdev);
	virtio_reset_device(vdev);
	if (balloon->started) {
		reporting_close(balloon);
		reporting_stop(balloon);
	}
}
#endif

#ifdef CONFIG_PM_SLEEP
static int freeze(struct virtio_device *vdev)
{
	stop(vdev->priv);
	return 0;
}

static int restore(struct virtio_device *vdev)
{
	int err = start(vdev->priv);

	if (err)
		dev_err(&vdev->dev,
			"the device has not come back: error %d; the balloon is empty, and stopped until the next resume\n",
			err);
	return err;
}
#endif

static const struct virtio_device_id ids[] = {
	{ VIRTIO_ID_BALLOON, VIRTIO_DEV_ANY_ID },
	{ 0 },
};
MODULE_DEVICE_TABLE(virtio, ids);

/*
 * Not FREE_PAGE_HINT: it speeds up one migration, where reporting serves them all.
 * At the end those that list_features() may leave out.
 */
static unsigned int features[6] = {
	VIRTIO_BALLOON_F_MUST_TELL_HOST,
	VIRTIO_BALLOON_F_STATS_VQ,
	VIRTIO_BALLOON_F_DEFLATE_ON_OOM,
	VIRTIO_BALLOON_F_REPORTING,
};
#define FEATURES_ALWAYS 4

static struct virtio_driver balloon_driver = {
	.feature_table = features,
	.driver.name = KBUILD_MODNAME,
	.driver.owner = THIS_MODULE,
	.driver.dev_groups = balloon_attribute_groups,
	.id_table = ids,
	.validate = validate,
	.probe = probe,
	.remove = remove,
	.config_changed = config_changed,
#if COMPAT_HAS_SHUTDOWN
	.shutdown = shutdown,
#endif
#ifdef CONFIG_PM_SLEEP
	.freeze = freeze,
	.restore = restore,
#endif
};

static void __init list_features(void)
{
	unsigned int count = FEATURES_ALWAYS;

	if (free_pages_hold_something())
		features[count++] = VIRTIO_BALLOON_F_PAGE_POISON;
	if (page_bitmap)
		features[count++] = PAGE_RUN_FEATURE_BIT;
	balloon_driver.feature_table_size = count;
}

static int __init init(void)
{
	list_features();
	return register_virtio_driver(&balloon_driver);
}
module_init(init);

static void __exit leave(void)
{
	unregister_virtio_driver(&balloon_driver);
}
module_exit(leave);

MODULE_DESCRIPTION("virtio balloon that moves whole runs of pages per message");
MODULE_AUTHOR("the umbra project");
MODULE_VERSION("0.1.0");
MODULE_LICENSE("GPL");
