/* SPDX-License-Identifier: BSD-2-Clause */
/* The character device of a vhost-vdpa device: see vdpa_chardev.h. */
#include "vdpa/vdpa_chardev.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/fd.h"

#define RESET_LOOK_FIRST_MS 1u /* between two looks at a status that is to become 0 */
#define RESET_LOOK_MOST_MS 100u

/* --- the kernel ----------------------------------------------------------- */

static int kernel_open(void *opaque, const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	(void)opaque;
	return fd < 0 ? -errno : fd;
}

static int kernel_ioctl(void *opaque, int fd, unsigned long request, void *argument)
{
	int rc;

	(void)opaque;
	do
		rc = ioctl(fd, request, argument);
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : 0;
}

static int kernel_write(void *opaque, int fd, const void *data, size_t size)
{
	ssize_t n;

	(void)opaque;
	do
		n = write(fd, data, size);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n == size ? 0 : -EIO;
}

static void kernel_close(void *opaque, int fd)
{
	(void)opaque;
	close(fd);
}

static uint64_t kernel_pin_limit(void *opaque, uint64_t wanted)
{
	struct rlimit now, more;

	(void)opaque;
	if (getrlimit(RLIMIT_MEMLOCK, &now))
		return UINT64_MAX;
	if (now.rlim_cur == RLIM_INFINITY || now.rlim_cur >= wanted)
		return now.rlim_cur;
	/* Past the hard limit with CAP_SYS_RESOURCE, else up to it. */
	more = (struct rlimit){ .rlim_cur = wanted, .rlim_max = MAX(now.rlim_max, wanted) };
	if (!setrlimit(RLIMIT_MEMLOCK, &more))
		return wanted;
	more = (struct rlimit){ .rlim_cur = now.rlim_max, .rlim_max = now.rlim_max };
	return setrlimit(RLIMIT_MEMLOCK, &more) ? now.rlim_cur : now.rlim_max;
}

const struct vhost_vdpa_system vhost_vdpa_kernel = {
	.open = kernel_open,
	.ioctl = kernel_ioctl,
	.write = kernel_write,
	.close = kernel_close,
	.pin_limit = kernel_pin_limit,
};

/* --- calls ---------------------------------------------------------------- */

int vdpa_chardev_lose(struct vdpa_chardev *chardev, int code, const struct umbra_error *err)
{
	chardev->lost = true;
	if (err)
		chardev->lost_why = *err;
	return code;
}

static int check_lost(const struct vdpa_chardev *chardev, const char *name, struct umbra_error *err)
{
	if (!chardev->lost)
		return 0;
	return error_set(err, -ECONNRESET, "%s: the device has been given up: %s", name,
			 chardev->lost_why.text);
}

/* The code for what a system call @name returned. */
static int judge(struct vdpa_chardev *chardev, int rc, const char *name, struct umbra_error *err)
{
	struct umbra_error local;

	if (rc >= 0)
		return 0;
	err = err ? err : &local;
	switch (-rc) {
	case ENODEV:
	case ENXIO:
	case EBADFD:
	case ESHUTDOWN:
		error_set(err, -ECONNRESET, "back-end: the device is gone: %s: %s", name,
			  strerror(-rc));
		return vdpa_chardev_lose(chardev, -ECONNRESET, err);
	case EOPNOTSUPP:
	case ENOTTY:
		return error_set(err, -EOPNOTSUPP, "back-end: has no %s", name);
	default:
		return error_set(err, -EREMOTEIO, "back-end: refused %s: %s", name, strerror(-rc));
	}
}

int vdpa_chardev_call(struct vdpa_chardev *chardev, unsigned long request, const char *name,
		      void *argument, struct umbra_error *err)
{
	int rc = check_lost(chardev, name, err);

	if (rc)
		return rc;
	return judge(
		chardev,
		chardev->system->ioctl(chardev->system->opaque, chardev->fd, request, argument),
		name, err);
}

int vdpa_chardev_write(struct vdpa_chardev *chardev, const void *data, size_t size,
		       struct umbra_error *err)
{
	int rc = check_lost(chardev, "an IOTLB message", err);

	if (rc)
		return rc;
	return judge(chardev,
		     chardev->system->write(chardev->system->opaque, chardev->fd, data, size),
		     "an IOTLB message", err);
}

/* --- the status byte ------------------------------------------------------ */

static int read_status(struct vdpa_chardev *chardev, uint8_t *status, struct umbra_error *err)
{
	return vdpa_chardev_call(chardev, VDPA_REQUEST(VHOST_VDPA_GET_STATUS), status, err);
}

int vdpa_chardev_get_status(struct vdpa_chardev *chardev, uint8_t *status, struct umbra_error *err)
{
	struct umbra_error local;
	int rc;

	err = err ? err : &local;
	rc = read_status(chardev, status, err);
	if (rc || !(*status & VIRTIO_CONFIG_S_NEEDS_RESET))
		return rc;
	error_set(err, -ECONNRESET,
		  "back-end: the device asks for a reset (NEEDS_RESET): its status is 0x%02x",
		  *status);
	return vdpa_chardev_lose(chardev, -ECONNRESET, err);
}

int vdpa_chardev_set_status(struct vdpa_chardev *chardev, uint8_t status, struct umbra_error *err)
{
	return vdpa_chardev_call(chardev, VDPA_REQUEST(VHOST_VDPA_SET_STATUS), &status, err);
}

/* Sleep @ms, unless the process is asked to stop, or whoever listens gives up. */
static int reset_sleep(struct vdpa_chardev *chardev, unsigned int ms, unsigned int *waited_ms,
		       struct umbra_error *err)
{
	struct pollfd stop = { .fd = chardev->stop_fd, .events = POLLIN };
	int rc = 0;

	if (poll(&stop, 1, (int)ms) > 0)
		return error_set(err, -ECANCELED, "back-end: the process is asked to stop");
	*waited_ms += ms;
	if (chardev->listener.waiting)
		return chardev->listener.waiting(chardev->listener.opaque, "a reset", *waited_ms,
						 err);
	if (*waited_ms >= chardev->timeout_ms)
		rc = -ETIMEDOUT;
	if (rc)
		return error_set(err, rc, "back-end: the device has not been reset after %u ms",
				 *waited_ms);
	return 0;
}

int vdpa_chardev_reset(struct vdpa_chardev *chardev, struct umbra_error *err)
{
	unsigned int step_ms = RESET_LOOK_FIRST_MS, waited_ms = 0;
	struct umbra_error local;
	uint8_t status = 0;
	int rc;

	err = err ? err : &local;
	rc = check_lost(chardev, "a reset", err);
	if (rc)
		return rc;
	rc = vdpa_chardev_call(chardev, VDPA_REQUEST(VHOST_VDPA_SET_STATUS), &status, err);
	if (!rc)
		rc = read_status(chardev, &status, err);
	while (!rc && status) {
		rc = reset_sleep(chardev, step_ms, &waited_ms, err);
		step_ms = MIN(2 * step_ms, RESET_LOOK_MOST_MS);
		if (!rc)
			rc = read_status(chardev, &status, err);
	}
	if (!rc)
		return 0;
	if (rc == -EREMOTEIO || rc == -EOPNOTSUPP)
		rc = error_prefix(err, -ECONNRESET, "the device cannot be reset");
	return vdpa_chardev_lose(chardev, rc, err);
}

/* --- life ----------------------------------------------------------------- */

int vdpa_chardev_open(struct vdpa_chardev *chardev, const char *path,
		      const struct vhost_vdpa_system *system, struct umbra_error *err)
{
	uint32_t id;
	int rc;

	chardev->system = system;
	snprintf(chardev->path, sizeof(chardev->path), "%s", path);
	chardev->fd = system->open(system->opaque, path);
	if (chardev->fd < 0)
		return error_set(err, chardev->fd, "back-end: cannot open %s: %s%s", path,
				 strerror(-chardev->fd),
				 chardev->fd == -EBUSY ? " (another program has it open)" : "");
	/* Any other device may be behind the path: first something harmless. */
	rc = vdpa_chardev_call(chardev, VDPA_REQUEST(VHOST_VDPA_GET_DEVICE_ID), &id, err);
	if (rc == -EOPNOTSUPP || rc == -EREMOTEIO)
		rc = error_set(err, -EINVAL, "back-end: %s is no vhost-vdpa device", path);
	if (!rc)
		rc = vdpa_chardev_call(chardev, VDPA_REQUEST(VHOST_SET_OWNER), NULL, err);
	if (rc)
		vdpa_chardev_close(chardev);
	return rc;
}

void vdpa_chardev_close(struct vdpa_chardev *chardev)
{
	if (chardev->fd >= 0)
		chardev->system->close(chardev->system->opaque, chardev->fd);
	chardev->fd = -1;
}
