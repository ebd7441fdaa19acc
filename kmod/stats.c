// SPDX-License-Identifier: GPL-2.0
/*
 * The guest's memory figures, for the host.
 *
 * One buffer goes to and fro: the device returns it when it wants fresh figures.
 * All 16 of the specification, on every kernel; those that a kernel does not
 * count are left out rather than sent as zero.
 *
 * Locking: none.  The queue belongs to the work, which is one item and so never
 * runs twice at a time, and to start and stop, when it does not run.
 */

#include <linux/mm.h>
#include <linux/scatterlist.h>
#include <linux/vmstat.h>

#include "balloon.h"

/* The numbers of the specification, which the headers of Linux 6.1 have in part. */
enum {
	STAT_SWAP_IN,
	STAT_SWAP_OUT,
	STAT_MAJOR_FAULTS,
	STAT_MINOR_FAULTS,
	STAT_FREE,
	STAT_TOTAL,
	STAT_AVAILABLE,
	STAT_DISK_CACHES,
	STAT_HUGETLB_ALLOCATIONS,
	STAT_HUGETLB_FAILURES,
	STAT_OOM_KILLS,
	STAT_ALLOC_STALLS,
	STAT_ASYNC_SCANS,
	STAT_DIRECT_SCANS,
	STAT_ASYNC_RECLAIMS,
	STAT_DIRECT_RECLAIMS,
};

static u64 bytes(unsigned long pages)
{
	return (u64)pages << PAGE_SHIFT;
}

static void add(struct balloon *balloon, unsigned int *count, u16 tag, u64 value)
{
	struct virtio_balloon_stat *stat = &balloon->stats[(*count)++];

	stat->tag = cpu_to_virtio16(balloon->vdev, tag);
	stat->val = cpu_to_virtio64(balloon->vdev, value);
}

static void add_events(struct balloon *balloon, unsigned int *count)
{
#ifdef CONFIG_VM_EVENT_COUNTERS
	unsigned long events[NR_VM_EVENT_ITEMS], stalls = 0;
	unsigned int zone;

	all_vm_events(events);
	for (zone = 0; zone < MAX_NR_ZONES; zone++)
		stalls += events[ALLOCSTALL_NORMAL - ZONE_NORMAL + zone];

	add(balloon, count, STAT_SWAP_IN, bytes(events[PSWPIN]));
	add(balloon, count, STAT_SWAP_OUT, bytes(events[PSWPOUT]));
	add(balloon, count, STAT_MAJOR_FAULTS, events[PGMAJFAULT]);
	add(balloon, count, STAT_MINOR_FAULTS, events[PGFAULT]);
#ifdef CONFIG_HUGETLB_PAGE
	add(balloon, count, STAT_HUGETLB_ALLOCATIONS, events[HTLB_BUDDY_PGALLOC]);
	add(balloon, count, STAT_HUGETLB_FAILURES, events[HTLB_BUDDY_PGALLOC_FAIL]);
#endif
	add(balloon, count, STAT_OOM_KILLS, events[OOM_KILL]);
	add(balloon, count, STAT_ALLOC_STALLS, stalls);
	add(balloon, count, STAT_ASYNC_SCANS, bytes(events[PGSCAN_KSWAPD]));
	add(balloon, count, STAT_DIRECT_SCANS, bytes(events[PGSCAN_DIRECT]));
	add(balloon, count, STAT_ASYNC_RECLAIMS, bytes(events[PGSTEAL_KSWAPD]));
	add(balloon, count, STAT_DIRECT_RECLAIMS, bytes(events[PGSTEAL_DIRECT]));
#endif
}

static unsigned int collect(struct balloon *balloon)
{
	unsigned int count = 0;
	struct sysinfo info;

	si_meminfo(&info);
	add_events(balloon, &count);
	add(balloon, &count, STAT_FREE, bytes(info.freeram));
	add(balloon, &count, STAT_TOTAL, bytes(info.totalram));
	add(balloon, &count, STAT_AVAILABLE, bytes(max(si_mem_available(), 0l)));
	add(balloon, &count, STAT_DISK_CACHES, bytes(global_node_page_state(NR_FILE_PAGES)));
	return count;
}

static void submit(struct balloon *balloon)
{
	struct scatterlist list;

	sg_init_one(&list, balloon->stats, collect(balloon) * sizeof(balloon->stats[0]));
	/* One buffer on a queue that has room for it; or a broken device. */
	if (virtqueue_add_outbuf(balloon->stats_vq, &list, 1, balloon, GFP_KERNEL) == 0)
		virtqueue_kick(balloon->stats_vq);
}

static void stats_work(struct work_struct *work)
{
	struct balloon *balloon = container_of(work, struct balloon, stats_work);
	unsigned int unused;

	if (virtqueue_get_buf(balloon->stats_vq, &unused))
		submit(balloon);
}

/* The device wants figures.  Any context. */
void stats_answered(struct virtqueue *vq)
{
	struct balloon *balloon = vq->vdev->priv;
	unsigned long flags;

	spin_lock_irqsave(&balloon->kick_lock, flags);
	if (balloon->may_kick)
		queue_work(balloon->workqueue, &balloon->stats_work);
	spin_unlock_irqrestore(&balloon->kick_lock, flags);
}

void stats_init(struct balloon *balloon)
{
	INIT_WORK(&balloon->stats_work, stats_work);
}

/* The queue is new; the device may not look yet. */
void stats_start(struct balloon *balloon)
{
	if (balloon->stats_vq)
		submit(balloon);
}
