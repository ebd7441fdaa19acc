/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The differences between the kernel versions that this driver builds for, and
 * nowhere else.  Written the way the newest one has it.
 */
#ifndef UMBRA_COMPAT_H
#define UMBRA_COMPAT_H

#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/page_reporting.h>
#include <linux/version.h>
#include <linux/virtio_config.h>
#include <linux/vmstat.h>
#if __has_include(<linux/balloon.h>)
#define COMPAT_CORE_MOVES_PAGES 1
#include <linux/balloon.h>
#else
#define COMPAT_CORE_MOVES_PAGES 0
#include <linux/balloon_compaction.h>
#endif

/* 6.4 made MAX_ORDER the largest order instead of one more; 6.8 renamed it. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 4, 0)
#define MAX_PAGE_ORDER (MAX_ORDER - 1)
#elif LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
#define MAX_PAGE_ORDER MAX_ORDER
#endif

/* 6.11 describes queues by one array of structs instead of two of pointers. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 11, 0)
struct virtqueue_info {
	const char *name;
	vq_callback_t *callback;
};

#define COMPAT_QUEUES_MAX 8

static inline int compat_find_vqs(struct virtio_device *vdev, unsigned int count,
				  struct virtqueue *vqs[], struct virtqueue_info info[])
{
	vq_callback_t *callbacks[COMPAT_QUEUES_MAX];
	const char *names[COMPAT_QUEUES_MAX];
	unsigned int i;

	if (WARN_ON(count > COMPAT_QUEUES_MAX))
		return -EINVAL;
	for (i = 0; i < count; i++) {
		callbacks[i] = info[i].callback;
		names[i] = info[i].name;
	}
	return virtio_find_vqs(vdev, count, vqs, callbacks, names, NULL);
}
#else
static inline int compat_find_vqs(struct virtio_device *vdev, unsigned int count,
				  struct virtqueue *vqs[], struct virtqueue_info info[])
{
	return virtio_find_vqs(vdev, count, vqs, info, NULL);
}
#endif

/* 6.15 resets a device when the guest goes down, in the driver's place if it has no
 * method for that; before, nobody did. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 15, 0)
#define COMPAT_HAS_SHUTDOWN 0
#else
#define COMPAT_HAS_SHUTDOWN 1
#endif

/* A driver that leaves the order of free blocks to the kernel: 0, until 0 became an
 * order like others. */
#ifndef PAGE_REPORTING_ORDER_UNSPECIFIED
#define PAGE_REPORTING_ORDER_UNSPECIFIED 0
#endif

/* 6.15 counts the pages of all balloons, as "Balloon" in /proc/meminfo. */
static inline void compat_count_balloon_pages(struct page *page, long pages)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 15, 0)
	mod_node_page_state(page_pgdat(page), NR_BALLOON_PAGES, pages);
#endif
}

/*
 * linux/balloon.h, of a kernel that does more of moving a balloon's page itself: it
 * has one lock for all balloons, none for the page, and takes the page out of the
 * balloon's list when the driver's method has said what became of it.  There, -ENOENT
 * is "it has left the balloon, and none has come for it yet", which is what a trade is
 * (migrate.c): 0 would put the new page into the balloon before the host knows it.
 * The kernel would count a zone's managed pages as well, if asked: it is not.
 */
#if COMPAT_CORE_MOVES_PAGES
#if defined(CONFIG_BALLOON_MIGRATION) || defined(CONFIG_BALLOON_COMPACTION)
#define COMPAT_PAGES_MOVE 1
#define COMPAT_GFP_PIECES GFP_HIGHUSER_MOVABLE
#else
#define COMPAT_PAGES_MOVE 0
#define COMPAT_GFP_PIECES GFP_HIGHUSER
#endif

/* What is left to do when an isolated page leaves the balloon.  The caller has a
 * reference to it then.  Returns what the driver's method shall. */
static inline int compat_page_leaves(struct balloon_dev_info *pieces, struct page *page)
{
	get_page(page); /* the kernel will drop the balloon's */
	return -ENOENT;
}

static inline void compat_wait_unlocked(struct page *page)
{
}
#else
#define COMPAT_GFP_PIECES balloon_mapping_gfp_mask()
#ifdef CONFIG_BALLOON_COMPACTION
#define COMPAT_PAGES_MOVE 1
#else
#define COMPAT_PAGES_MOVE 0
#endif

static inline int compat_page_leaves(struct balloon_dev_info *pieces, struct page *page)
{
	unsigned long flags;

	spin_lock_irqsave(&pieces->pages_lock, flags);
	pieces->isolated_pages--;
	balloon_page_finalize(page); /* the balloon's reference is the caller's */
	spin_unlock_irqrestore(&pieces->pages_lock, flags);
	count_vm_event(BALLOON_DEFLATE);
	return 0;
}

/* Compaction gives a page locked, and the kernel's list of pages wants it unlocked. */
static inline void compat_wait_unlocked(struct page *page)
{
	lock_page(page);
	unlock_page(page);
}
#endif

#endif
