/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a vhost-vdpa device has mapped, and where.
 *
 * Theory of operation: a new table is compared with what is mapped, and only
 * the difference is said, in one batch where the kernel takes batches: what is
 * in the way of something new goes first, then the new comes, then the rest of
 * the old goes.  A region is the same if its IO virtual address, its size and
 * our mapping of it are.  A file offset says nothing: two regions may share it,
 * and for a device that walks our page tables the mapping is what counts.  If
 * something new cannot be mapped, what had been done is undone, and the old table
 * holds.  (What a device says to the end of a batch the kernel keeps to itself.)
 *
 * Where a region goes: to its gpa if every region of the table fits the
 * device's range so, which needs no translation; else iova_space.h finds it a
 * place.  What is mapped keeps its place for as long as the table has it,
 * because a buffer of it may be with the device.  Our own region goes to its gpa,
 * too, or else as high as possible, out of the way of memory that may be plugged
 * in later.
 *
 * A reset.  With VHOST_BACKEND_F_IOTLB_PERSIST mappings survive it.  Without, the
 * kernel's own list does but the device's may be gone, and nothing says whether:
 * so before the next start all is unmapped and mapped again (vdpa_table_renew()).
 *
 * Most devices have what is mapped pinned, and a balloon that discards it meanwhile would
 * leave them with pages that the guest has not: memory_hold.h.  A balloon that is in the
 * midst of it when a region comes does not keep the region from being mapped; all is
 * mapped anew before the next start, which waits until the balloon is done.
 *
 * Ownership: holds a reference on the backing of every region that is mapped: the
 * device works on our mapping of it.
 * Threads: one.
 *
 * Implements: struct vhost_msg_v2 of linux/vhost_types.h; address space 0.
 */
#ifndef UMBRA_VDPA_VDPA_TABLE_H
#define UMBRA_VDPA_VDPA_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/log.h"
#include "memory/memory.h"
#include "umbra/error.h"
#include "umbra/shadow_device.h"
#include "vdpa/vdpa_chardev.h"

struct vdpa_table {
	struct vdpa_chardev *chardev;
	iova_t first, last; /* IO virtual addresses that the device can be given */
	bool batches;
	bool stale; /* all must be mapped anew before the next start */
	gpa_t own;  /* of the region that is ours, when a place was last looked for */
	unsigned int count;
	struct memory_region *regions; /* that are mapped */
};

void vdpa_table_init(struct vdpa_table *table, struct vdpa_chardev *chardev, iova_t first,
		     iova_t last, bool batches);

/* Forget everything; the kernel unmaps when the character device is closed. */
void vdpa_table_fini(struct vdpa_table *table);

/* As place_memory() of virtio_ops. */
UMBRA_MUST_CHECK int vdpa_table_place(struct vdpa_table *table, struct memory *memory,
				      struct memory_region *own, struct umbra_error *err);

/* As set_memory(), add_region() and remove_region() of virtio_ops. -EREMOTEIO and
 * -EINVAL: the table is as it was. */
UMBRA_MUST_CHECK int vdpa_table_set(struct vdpa_table *table, const struct memory_region *regions,
				    unsigned int count, struct umbra_error *err);
UMBRA_MUST_CHECK int vdpa_table_add(struct vdpa_table *table, const struct memory_region *region,
				    struct umbra_error *err);
UMBRA_MUST_CHECK int vdpa_table_remove(struct vdpa_table *table, const struct memory_region *region,
				       struct umbra_error *err);

/* -EREMOTEIO: guest memory is being discarded, so that the device must not start yet. */
UMBRA_MUST_CHECK int vdpa_table_settle(struct vdpa_table *table, struct umbra_error *err);

/* Before a start: map all anew if a reset may have unmapped it.  An error is
 * fatal. */
UMBRA_MUST_CHECK int vdpa_table_renew(struct vdpa_table *table, struct umbra_error *err);

/* Where the device sees the @len bytes at @uva: false if no mapped region has
 * them all. */
bool vdpa_table_find(const struct vdpa_table *table, uva_t uva, uint64_t len, iova_t *iova);

void vdpa_table_info(const struct vdpa_table *table, struct umbra_backend_info *info);

#endif
