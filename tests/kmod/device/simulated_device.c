// SPDX-License-Identifier: GPL-2.0
/*
 * A simulated balloon device inside the guest, for tests of its driver: one that
 * refuses on demand.
 *
 * Simulated, since no device that a VMM has says yes when the guest boots and no when
 * it resumes, and none says no to a queue halfway.  To the driver it is a virtio
 * device with a transport of its own: a platform device is its parent, its rings are
 * the kernel's, and a work item answers every message at once, unread.  (But for
 * statistics: it never asks for any.)
 *
 * In /sys/devices/platform/simulated_device/:
 *
 *	refuse	none; features: says no to any set of features; queues: has none; half:
 *		runs out of memory once it has two, which it takes away again
 *	event	"suspend" or "resume": tells the driver what the power management would,
 *		and fails as the driver, or the device, does
 *	target	pages of 4 KiB that the driver is asked for
 *	actual	those that it says it gave
 *
 * Locking: the attributes take the virtio device's own lock, as the kernel's core does
 * around what it tells a driver; the work has the rings while the device is running, and
 * is stopped before that ends.
 */

#include <linux/dma-mapping.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/version.h>
#include <linux/virtio.h>
#include <linux/virtio_balloon.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#include <linux/workqueue.h>

#define QUEUES 5
#define RING_SIZE 128

static ulong offered = BIT_ULL(VIRTIO_F_VERSION_1) | BIT_ULL(50) | 0x37;
module_param(offered, ulong, 0444);
MODULE_PARM_DESC(offered, "features (default: all but hints, with the page-bitmap protocol)");

enum refusal { REFUSE_NONE, REFUSE_FEATURES, REFUSE_QUEUES, REFUSE_HALF };

static const char *const refusals[] = {
	[REFUSE_NONE] = "none",
	[REFUSE_FEATURES] = "features",
	[REFUSE_QUEUES] = "queues",
	[REFUSE_HALF] = "half",
};

struct device_queue {
	struct virtqueue *vq; /* NULL: there is none */
	bool is_answered;
	u16 seen; /* of the avail ring */
};

struct simulated_device {
	struct virtio_device vdev;
	struct virtio_balloon_config config;
	struct device_queue queues[QUEUES];
	struct work_struct work;
	enum refusal refusal;
	u8 status;
};

static struct simulated_device *device;
static struct platform_device *platform;

/* ---- the device's side of the rings ------------------------------------------ */

static bool is_running(void)
{
	return READ_ONCE(device->status) & VIRTIO_CONFIG_S_DRIVER_OK;
}

static bool answer(struct device_queue *queue)
{
	const struct vring *ring = virtqueue_get_vring(queue->vq);
	u16 used = le16_to_cpu((__force __le16)ring->used->idx);
	bool any = false;

	while (queue->seen != le16_to_cpu((__force __le16)READ_ONCE(ring->avail->idx))) {
		virtio_rmb(true);
		ring->used->ring[used % ring->num].id = (__force __virtio32)cpu_to_le32(
			le16_to_cpu((__force __le16)ring->avail->ring[queue->seen % ring->num]));
		ring->used->ring[used % ring->num].len = 0;
		queue->seen++;
		used++;
		virtio_wmb(true);
		WRITE_ONCE(ring->used->idx, (__force __virtio16)cpu_to_le16(used));
		any = true;
	}
	return any;
}

static void device_work(struct work_struct *work)
{
	unsigned int i;

	for (i = 0; i < QUEUES && is_running(); i++)
		if (device->queues[i].vq && device->queues[i].is_answered &&
		    answer(&device->queues[i]))
			vring_interrupt(0, device->queues[i].vq);
}

static bool notify(struct virtqueue *vq)
{
	schedule_work(&device->work);
	return true;
}

/* ---- the transport ------------------------------------------------------------ */

static void get_config(struct virtio_device *vdev, unsigned int offset, void *data,
		       unsigned int size)
{
	memcpy(data, (u8 *)&device->config + offset, size);
}

static void set_config(struct virtio_device *vdev, unsigned int offset, const void *data,
		       unsigned int size)
{
	memcpy((u8 *)&device->config + offset, data, size);
}

static u8 get_status(struct virtio_device *vdev)
{
	return device->status;
}

static void set_status(struct virtio_device *vdev, u8 status)
{
	if (device->refusal == REFUSE_FEATURES)
		status &= ~VIRTIO_CONFIG_S_FEATURES_OK;
	WRITE_ONCE(device->status, status);
	if (is_running())
		schedule_work(&device->work);
}

static void reset(struct virtio_device *vdev)
{
	WRITE_ONCE(device->status, 0);
	cancel_work_sync(&device->work);
}

static u64 get_features(struct virtio_device *vdev)
{
	return offered;
}

static int finalize_features(struct virtio_device *vdev)
{
	vring_transport_features(vdev);
	return 0;
}

static const char *bus_name(struct virtio_device *vdev)
{
	return "simulated";
}

static void del_vqs(struct virtio_device *vdev)
{
	unsigned int i;

	for (i = 0; i < QUEUES; i++) {
		if (device->queues[i].vq)
			vring_del_virtqueue(device->queues[i].vq);
		device->queues[i].vq = NULL;
	}
}

static int add_vq(struct virtqueue *vqs[], unsigned int i, const char *name,
		  void (*callback)(struct virtqueue *vq))
{
	unsigned int had = device->queues[0].vq && device->queues[1].vq;

	vqs[i] = NULL;
	if (!name)
		return 0;
	if (device->refusal == REFUSE_QUEUES)
		return -ENOENT;
	if (device->refusal == REFUSE_HALF && had)
		return -ENOMEM;
	vqs[i] = vring_create_virtqueue(i, RING_SIZE, PAGE_SIZE, &device->vdev, true, false, false,
					notify, callback, name);
	if (!vqs[i])
		return -ENOMEM;
	device->queues[i] =
		(struct device_queue){ .vq = vqs[i], .is_answered = strcmp(name, "stats") != 0 };
	return 0;
}

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 11, 0)
static int find_vqs(struct virtio_device *vdev, unsigned int count, struct virtqueue *vqs[],
		    vq_callback_t *callbacks[], const char *const names[], const bool *contexts,
		    struct irq_affinity *affinity)
#else
static int find_vqs(struct virtio_device *vdev, unsigned int count, struct virtqueue *vqs[],
		    struct virtqueue_info info[], struct irq_affinity *affinity)
#endif
{
	unsigned int i;
	int err = count > QUEUES ? -ENOENT : 0;

	for (i = 0; i < count && !err; i++)
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 11, 0)
		err = add_vq(vqs, i, names[i], callbacks[i]);
#else
		err = add_vq(vqs, i, info[i].name, info[i].callback);
#endif
	if (err)
		del_vqs(vdev); /* as every transport does: all or nothing */
	return err;
}

static const struct virtio_config_ops transport = {
	.get = get_config,
	.set = set_config,
	.get_status = get_status,
	.set_status = set_status,
	.reset = reset,
	.find_vqs = find_vqs,
	.del_vqs = del_vqs,
	.get_features = get_features,
	.finalize_features = finalize_features,
	.bus_name = bus_name,
};

/* ---- the attributes ----------------------------------------------------------- */

static ssize_t refuse_store(struct device *dev, struct device_attribute *attribute,
			    const char *text, size_t size)
{
	int found = sysfs_match_string(refusals, text);

	if (found < 0)
		return found;
	device_lock(&device->vdev.dev);
	device->refusal = found;
	device_unlock(&device->vdev.dev);
	return size;
}
static DEVICE_ATTR_WO(refuse);

static ssize_t event_store(struct device *dev, struct device_attribute *attribute, const char *text,
			   size_t size)
{
	int err = -EINVAL;

	device_lock(&device->vdev.dev);
	if (sysfs_streq(text, "suspend"))
		err = virtio_device_freeze(&device->vdev);
	else if (sysfs_streq(text, "resume"))
		err = virtio_device_restore(&device->vdev);
	device_unlock(&device->vdev.dev);
	return err ? err : size;
}
static DEVICE_ATTR_WO(event);

static ssize_t target_store(struct device *dev, struct device_attribute *attribute,
			    const char *text, size_t size)
{
	u32 pages;
	int err = kstrtou32(text, 0, &pages);

	if (err)
		return err;
	device->config.num_pages = cpu_to_le32(pages);
	virtio_config_changed(&device->vdev);
	return size;
}
static DEVICE_ATTR_WO(target);

static ssize_t actual_show(struct device *dev, struct device_attribute *attribute, char *text)
{
	return sysfs_emit(text, "%u\n", le32_to_cpu(device->config.actual));
}
static DEVICE_ATTR_RO(actual);

static struct attribute *attributes[] = {
	&dev_attr_refuse.attr,
	&dev_attr_event.attr,
	&dev_attr_target.attr,
	&dev_attr_actual.attr,
	NULL,
};

static const struct attribute_group group = { .attrs = attributes };

/* ---- coming and going ---------------------------------------------------------- */

static void release(struct device *dev)
{
	kfree(container_of(dev_to_virtio(dev), struct simulated_device, vdev));
}

static int __init simulated_device_init(void)
{
	int err;

	platform =
		platform_device_register_simple("simulated_device", PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(platform))
		return PTR_ERR(platform);
	device = kzalloc(sizeof(*device), GFP_KERNEL);
	if (!device) {
		err = -ENOMEM;
		goto no_device;
	}
	INIT_WORK(&device->work, device_work);
	device->vdev.id.device = VIRTIO_ID_BALLOON;
	device->vdev.dev.parent = &platform->dev;
	device->vdev.dev.release = release;
	device->vdev.config = &transport;
	err = register_virtio_device(&device->vdev);
	if (err) {
		put_device(&device->vdev.dev);
		goto no_device;
	}
	err = sysfs_create_group(&platform->dev.kobj, &group);
	if (err)
		goto no_attributes;
	return 0;

no_attributes:
	unregister_virtio_device(&device->vdev);
no_device:
	platform_device_unregister(platform);
	return err;
}

static void __exit simulated_device_exit(void)
{
	sysfs_remove_group(&platform->dev.kobj, &group);
	unregister_virtio_device(&device->vdev);
	platform_device_unregister(platform);
}

module_init(simulated_device_init);
module_exit(simulated_device_exit);

MODULE_DESCRIPTION("simulated balloon device that refuses on demand");
MODULE_LICENSE("GPL");
