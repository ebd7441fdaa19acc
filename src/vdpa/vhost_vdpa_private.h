/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The inside of a vhost-vdpa back-end, shared by vhost_vdpa.c (the device as a
 * whole), vdpa_ring.c (what is told of one ring) and vdpa_run.c (starting and
 * stopping).  vhost_vdpa.h has the theory.
 */
#ifndef UMBRA_VDPA_VHOST_VDPA_PRIVATE_H
#define UMBRA_VDPA_VHOST_VDPA_PRIVATE_H

#include <linux/vhost.h>
#include <linux/vhost_types.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/bits.h"
#include "vdpa/vdpa_chardev.h"
#include "vdpa/vdpa_table.h"
#include "virtio/virtio_ops.h"

/* What the headers of older kernels lack. */
#ifndef VHOST_VDPA_RESUME
#define VHOST_VDPA_RESUME _IO(VHOST_VIRTIO, 0x7E)
#endif
#ifndef VHOST_BACKEND_F_RESUME
#define VHOST_BACKEND_F_RESUME 0x5
#endif
#ifndef VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK
#define VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK 0x6
#endif
#ifndef VHOST_BACKEND_F_IOTLB_PERSIST
#define VHOST_BACKEND_F_IOTLB_PERSIST 0x8
#endif

/* Back-end features that are put to use here. */
#define ABILITIES_USED                                                                             \
	(BIT64(VHOST_BACKEND_F_IOTLB_MSG_V2) | BIT64(VHOST_BACKEND_F_IOTLB_BATCH) |                \
	 BIT64(VHOST_BACKEND_F_IOTLB_ASID) | BIT64(VHOST_BACKEND_F_SUSPEND) |                      \
	 BIT64(VHOST_BACKEND_F_RESUME) | BIT64(VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK) |           \
	 BIT64(VHOST_BACKEND_F_IOTLB_PERSIST))

struct vdpa_ring {
	bool is_noted;
	bool is_on;                /* enabled at the device, which runs */
	bool is_hushed;            /* it is kicked where nobody kicks */
	struct virtio_ring noted;  /* fds are borrowed */
	struct ring_position base; /* after a stop: where it stood */
};

struct vdpa {
	struct virtio_device backend; /* first member */
	struct vdpa_chardev chardev;
	struct vdpa_table table;

	uint32_t device_id, ring_count, config_size;
	uint16_t size_max;  /* entries of a ring */
	uint64_t abilities; /* VHOST_BACKEND_F_*, offered */

	uint64_t features; /* to be acknowledged toward the device */
	bool has_features;
	uint8_t front_status; /* as the front-end set it */

	bool is_prepared; /* FEATURES_OK, with `features` */
	bool is_running;  /* DRIVER_OK */
	bool outlasts;    /* an index has been seen to outlast a reset */
	int config_fd;    /* eventfd: the config interrupt */
	int quiet_fd;     /* eventfd that nobody kicks */
	struct vdpa_ring *rings;
};

static inline struct vdpa *vdpa_of(const struct virtio_device *b)
{
	return (struct vdpa *)b;
}

static inline bool vdpa_can(const struct vdpa *v, unsigned int ability)
{
	return v->abilities & ABILITIES_USED & BIT64(ability);
}

/* --- vdpa_ring.c ------------------------------------------------------------ */

/* NULL: the device has no such ring. */
struct vdpa_ring *vdpa_find_ring(struct vdpa *v, unsigned int index, struct umbra_error *err);

/* An ioctl with a struct vhost_vring_state, whose number comes back in *@num, or
 * with a struct vhost_vring_file (@fd -1: unbind).  VDPA_REQUEST() gives two of
 * the parameters. */
UMBRA_MUST_CHECK int vdpa_call_state(struct vdpa *v, unsigned long request, const char *name,
				     unsigned int index, uint32_t *num, struct umbra_error *err);
UMBRA_MUST_CHECK int vdpa_call_fd(struct vdpa *v, unsigned long request, const char *name,
				  unsigned int index, int fd, struct umbra_error *err);

/* Where the device sees the parts of a ring.  -EINVAL: it does not. */
UMBRA_MUST_CHECK int vdpa_find_parts(struct vdpa *v, unsigned int index,
				     const struct virtio_ring *ring, struct vhost_vring_addr *addr,
				     struct umbra_error *err);

/* Tell the device where ring @index is kicked, if it is enabled. */
UMBRA_MUST_CHECK int vdpa_tell_kick(struct vdpa *v, unsigned int index, struct umbra_error *err);

/* Kick ring @r, if it runs: whatever was kicked before the device listened is not lost. */
void vdpa_kick(const struct vdpa_ring *r);

/* Ring @index is over: let the kernel have none of its fds. */
void vdpa_forget_ring(struct vdpa *v, unsigned int index);

/* Of backend_ops. */
int vdpa_ring_start(struct virtio_device *b, unsigned int index, const struct virtio_ring *ring,
		    struct umbra_error *err);
int vdpa_ring_stop(struct virtio_device *b, unsigned int index, struct ring_position *base,
		   struct umbra_error *err);
int vdpa_ring_enable(struct virtio_device *b, unsigned int index, bool enabled,
		     struct umbra_error *err);
int vdpa_ring_exchange(struct virtio_device *b, unsigned int index, enum virtio_ring_fd which,
		       int fd, struct umbra_error *err);
int vdpa_ring_hush(struct virtio_device *b, unsigned int index, bool is_fed,
		   struct umbra_error *err);
int vdpa_ring_unhush(struct virtio_device *b, unsigned int index, struct umbra_error *err);

/* --- vdpa_run.c ------------------------------------------------------------- */

/* Reset the device.  An error is fatal. */
UMBRA_MUST_CHECK int vdpa_reset(struct vdpa *v, struct umbra_error *err);

/* Reset it and agree on v->features, up to FEATURES_OK. */
UMBRA_MUST_CHECK int vdpa_prepare(struct vdpa *v, struct umbra_error *err);

/* Of backend_ops. */
int vdpa_device_start(struct virtio_device *b, struct umbra_error *err);
int vdpa_device_stop(struct virtio_device *b, struct umbra_error *err);
int vdpa_ring_base(struct virtio_device *b, unsigned int index, struct ring_position *base,
		   struct umbra_error *err);

#endif
