/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The character device of a vhost-vdpa device: its system calls, and its status byte.
 *
 * Theory of operation: every call into the kernel goes through a table of
 * functions, so that a simulated kernel can stand for the real one.  What comes
 * back is one of four codes, as virtio/virtio_ops.h has them: the device is gone
 * (-ECONNRESET; so is one that asks for a reset, because only who opens it anew
 * can give it one that its driver knows of), this kernel or device has no such
 * call (-EOPNOTSUPP), it refused (-EREMOTEIO), or the wait was ended from outside.
 * After the first and the last nothing is called any more.
 *
 * A call into the kernel blocks for as long as its driver takes (VDUSE: until
 * the program behind it has answered, at most half a minute) and cannot be ended
 * from here.  A reset alone is over only when the status reads 0; between two
 * looks the thread sleeps.
 *
 * Internal to the vhost-vdpa back-end.
 *
 * Threads: one.
 * Trust: the kernel is trusted, the device is not.
 *
 * Implements: linux/vhost.h; virtio 1.2, sections 2.1 and 3.1.1.
 */
#ifndef UMBRA_VDPA_VDPA_CHARDEV_H
#define UMBRA_VDPA_VDPA_CHARDEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vdpa/vhost_vdpa.h"
#include "virtio/virtio_ops.h"

/* A constant of linux/vhost.h and its name for people. */
#define VDPA_REQUEST(name) (name), #name

struct vdpa_chardev {
	const struct vhost_vdpa_system *system;
	char path[96]; /* for people */
	int fd;
	int stop_fd;             /* borrowed; -1: none */
	unsigned int timeout_ms; /* for a reset, while nobody listens */
	struct backend_listener listener;
	bool lost;
	struct umbra_error lost_why;
};

/* -ENOENT, -EBUSY and others of open(2); -EINVAL: @path is no vhost-vdpa device. */
UMBRA_MUST_CHECK int vdpa_chardev_open(struct vdpa_chardev *chardev, const char *path,
				       const struct vhost_vdpa_system *system,
				       struct umbra_error *err);

void vdpa_chardev_close(struct vdpa_chardev *chardev);

/* The character device is of no more use, for the reason in @err.  Returns @code, which is
 * -ECONNRESET, -ETIMEDOUT or -ECANCELED. */
int vdpa_chardev_lose(struct vdpa_chardev *chardev, int code, const struct umbra_error *err);

/* ioctl(2); VDPA_REQUEST() gives the two middle parameters. */
UMBRA_MUST_CHECK int vdpa_chardev_call(struct vdpa_chardev *chardev, unsigned long request,
				       const char *name, void *argument, struct umbra_error *err);

/* write(2) of all @size bytes. */
UMBRA_MUST_CHECK int vdpa_chardev_write(struct vdpa_chardev *chardev, const void *data, size_t size,
					struct umbra_error *err);

/* A status with NEEDS_RESET is -ECONNRESET. */
UMBRA_MUST_CHECK int vdpa_chardev_get_status(struct vdpa_chardev *chardev, uint8_t *status,
					     struct umbra_error *err);

/* Never 0: that is a reset. */
UMBRA_MUST_CHECK int vdpa_chardev_set_status(struct vdpa_chardev *chardev, uint8_t status,
					     struct umbra_error *err);

/* Reset the device, and wait until it has been.  A device that cannot be reset is
 * lost: -ECONNRESET, -ETIMEDOUT, -ECANCELED. */
UMBRA_MUST_CHECK int vdpa_chardev_reset(struct vdpa_chardev *chardev, struct umbra_error *err);

#endif
