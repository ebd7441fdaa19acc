/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A kernel vDPA device as a back-end: /dev/vhost-vdpa-N.
 *
 * Theory of operation: implements struct virtio_ops (virtio/virtio_ops.h) with
 * the traits BACKEND_MAPS and BACKEND_RUNS_AS_ONE.  What the device is told before it
 * runs is kept here, and said in one go by device_start(), since a stop is a
 * reset and a reset forgets it.  The order is virtio's (3.1.1): reset,
 * ACKNOWLEDGE, DRIVER, features, FEATURES_OK and read it back, rings, DRIVER_OK
 * and read it back.  The first half is also gone through by set_features(), so
 * that a device which refuses them does so while the front-end can be told.
 *
 * Stopping.  A device that can be suspended is, is then asked for its indices,
 * which cannot change any more, and is then reset.  One that cannot takes
 * buffers until the reset.  Some forget their indices in it, so they are asked
 * before and after: the later answer is exact where it is one at all, the
 * earlier one is exact if the device was fed nothing meanwhile, which is what
 * virtio_ops.h demands of the caller.  Some tell no index at all
 * (GET_VRING_BASE: EOPNOTSUPP, found out when the device is opened): they lack
 * BACKEND_KEEPS_INDEX.
 *
 * A ring that is disabled.  With VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK it is
 * not enabled at the device before ring_enable().  Without, a ring that is not
 * enabled before DRIVER_OK never can be, so all that were noted are; and the
 * device gets an eventfd on which nobody kicks in place of the kick fd until
 * ring_enable().  The same is done with a ring that is disabled again: virtio
 * knows no way to disable a ring of a device that runs.  Rejected: to stop and
 * start the device for each, since without a suspend the guest's receive
 * buffers would be lost each time.
 *
 * The status that the front-end sets is kept and given back; the device's own
 * goes other ways (it is reset at every switch).  0 is a reset of the device.
 * A device that asks for a reset (NEEDS_RESET) is lost.
 *
 * Ownership: destroy() closes the character device, which resets the device and unmaps all.
 * Threads: one.
 * Trust: the device is hostile in what it says of rings (judged by the shadow)
 * and status; the kernel is trusted.
 *
 * Implements: linux/vhost.h, linux/vhost_types.h of Linux 6.12; back-end
 * features that an older kernel lacks are done without, but for IOTLB_MSG_V2.
 */
#ifndef UMBRA_VDPA_VHOST_VDPA_H
#define UMBRA_VDPA_VHOST_VDPA_H

#include <stddef.h>
#include <stdint.h>

#include "umbra/error.h"
#include "virtio/virtio_ops.h"

/* The system calls that are made on a character device.  Each returns what it does,
 * or a negative errno value. */
struct vhost_vdpa_system {
	void *opaque;
	int (*open)(void *opaque, const char *path);
	int (*ioctl)(void *opaque, int fd, unsigned long request, void *argument);
	int (*write)(void *opaque, int fd, const void *data, size_t size);
	void (*close)(void *opaque, int fd);
	/* Let the process pin @wanted bytes of memory, if that is possible; how
	 * many it may. */
	uint64_t (*pin_limit)(void *opaque, uint64_t wanted);
};

extern const struct vhost_vdpa_system vhost_vdpa_kernel;

/*
 * Open the device at @path, become its owner, and learn what it can.  @system
 * lives as long as the back-end; @stop_fd (an eventfd, or -1) is borrowed until
 * destroy(); @timeout_ms is the longest wait for a reset while nobody listens.
 * -ENOENT, -EBUSY (somebody else has it open) and others of open(2); -EINVAL: it
 * is no vhost-vdpa device; -EOPNOTSUPP: the kernel is too old; -ENOMEM;
 * -ECONNRESET, -ETIMEDOUT, -ECANCELED, -EREMOTEIO.
 */
UMBRA_MUST_CHECK int vhost_vdpa_open(const char *path, const struct vhost_vdpa_system *system,
				     int stop_fd, unsigned int timeout_ms,
				     struct virtio_device **out, struct umbra_error *err);

#endif
