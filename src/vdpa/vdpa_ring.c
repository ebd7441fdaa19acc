/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a vhost-vdpa device is told of one ring: see vhost_vdpa.h.
 *
 * Before the device runs a ring is noted; while it runs its eventfds can be
 * exchanged, and it can be enabled.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/error.h"
#include "host/notifier.h"
#include "ring/split.h"
#include "vdpa/vhost_vdpa_private.h"

struct vdpa_ring *vdpa_find_ring(struct vdpa *v, unsigned int index, struct umbra_error *err)
{
	if (index < v->ring_count)
		return &v->rings[index];
	error_set(err, -EINVAL, "back-end: queue %u; the device has %u", index, v->ring_count);
	return NULL;
}

int vdpa_call_state(struct vdpa *v, unsigned long request, const char *name, unsigned int index,
		    uint32_t *num, struct umbra_error *err)
{
	struct vhost_vring_state state = { .index = index, .num = *num };
	int rc = vdpa_chardev_call(&v->chardev, request, name, &state, err);

	*num = state.num;
	return rc ? error_prefix(err, rc, "queue %u", index) : 0;
}

int vdpa_call_fd(struct vdpa *v, unsigned long request, const char *name, unsigned int index,
		 int fd, struct umbra_error *err)
{
	struct vhost_vring_file file = { .index = index, .fd = fd }; /* -1: unbind */
	int rc = vdpa_chardev_call(&v->chardev, request, name, &file, err);

	if (rc == -EREMOTEIO && fd >= 0)
		return error_prefix(err, rc, "queue %u: the kernel expects an eventfd", index);
	return rc ? error_prefix(err, rc, "queue %u", index) : 0;
}

/* The fd on which the device shall wait for kicks. */
static int ring_kick_fd(const struct vdpa *v, const struct vdpa_ring *r)
{
	return r->noted.enabled && !r->is_hushed ? r->noted.kick_fd : v->quiet_fd;
}

/* Whatever was kicked before the device listened is not lost. */
void vdpa_kick(const struct vdpa_ring *r)
{
	struct notifier kick;

	if (!r->is_on || !r->noted.enabled)
		return;
	kick = notifier_make(r->noted.kick_fd);
	notifier_send(&kick);
}

int vdpa_tell_kick(struct vdpa *v, unsigned int index, struct umbra_error *err)
{
	return vdpa_call_fd(v, VDPA_REQUEST(VHOST_SET_VRING_KICK), index,
			    ring_kick_fd(v, &v->rings[index]), err);
}

int vdpa_find_parts(struct vdpa *v, unsigned int index, const struct virtio_ring *ring,
		    struct vhost_vring_addr *addr, struct umbra_error *err)
{
	const struct {
		const char *name;
		uva_t uva;
		size_t bytes;
	} parts[] = {
		{ "descriptor", ring->addr.desc, split_desc_bytes(ring->size) },
		{ "avail", ring->addr.avail, split_avail_bytes(ring->size) },
		{ "used", ring->addr.used, split_used_bytes(ring->size) },
	};
	iova_t iova[ARRAY_SIZE(parts)];

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		if (!vdpa_table_find(&v->table, parts[i].uva, parts[i].bytes, &iova[i]))
			return error_set(err, -EINVAL,
					 "queue %u: the %s ring at user address 0x%" PRIx64
					 ", %zu bytes, is not inside one region that is mapped for "
					 "the device",
					 index, parts[i].name, parts[i].uva.v, parts[i].bytes);
	/* The kernel's fields say "user address"; a vDPA device takes its own. */
	*addr = (struct vhost_vring_addr){
		.index = index,
		.desc_user_addr = iova[0].v,
		.avail_user_addr = iova[1].v,
		.used_user_addr = iova[2].v,
	};
	return 0;
}

static int ring_check(struct vdpa *v, unsigned int index, const struct virtio_ring *ring,
		      struct umbra_error *err)
{
	struct vhost_vring_addr addr;

	if (!is_power_of_two(ring->size) || ring->size > v->size_max)
		return error_set(err, -EREMOTEIO,
				 "queue %u: %u entries; the device takes a power of two up to %u",
				 index, ring->size, v->size_max);
	if (ring->base.avail && !(v->backend.traits & BACKEND_KEEPS_INDEX))
		return error_set(err, -EREMOTEIO,
				 "queue %u: it would have to start at index %u, and every queue of "
				 "this device starts at 0",
				 index, ring->base.avail);
	if (ring->kick_fd < 0)
		return error_set(err, -EREMOTEIO,
				 "queue %u: it has no kick fd; a vDPA device does not poll", index);
	return vdpa_find_parts(v, index, ring, &addr, err);
}

int vdpa_ring_start(struct virtio_device *b, unsigned int index, const struct virtio_ring *ring,
		    struct umbra_error *err)
{
	struct vdpa *v = vdpa_of(b);
	struct vdpa_ring *r = vdpa_find_ring(v, index, err);
	int rc;

	if (!r)
		return -EINVAL;
	if (v->is_running)
		return error_set(err, -EREMOTEIO,
				 "queue %u: it cannot be started while the device runs", index);
	rc = ring_check(v, index, ring, err);
	/* Now rather than at the start of all: an fd that is no eventfd. */
	if (!rc)
		rc = vdpa_call_fd(v, VDPA_REQUEST(VHOST_SET_VRING_CALL), index, ring->call_fd, err);
	if (rc)
		return rc;
	*r = (struct vdpa_ring){ .is_noted = true, .noted = *ring, .base = ring->base };
	return 0;
}

/* Let the kernel have no fd of a ring that is over.  One that it will not give
 * back it holds until the next, or until the character device is closed. */
void vdpa_forget_ring(struct vdpa *v, unsigned int index)
{
	struct umbra_error ignored;

	if (!v->rings[index].is_noted)
		return;
	v->rings[index] = (struct vdpa_ring){ .base = v->rings[index].base };
	(void)!vdpa_call_fd(v, VDPA_REQUEST(VHOST_SET_VRING_KICK), index, -1, &ignored);
	(void)!vdpa_call_fd(v, VDPA_REQUEST(VHOST_SET_VRING_CALL), index, -1, &ignored);
	(void)!vdpa_call_fd(v, VDPA_REQUEST(VHOST_SET_VRING_ERR), index, -1, &ignored);
}

int vdpa_ring_stop(struct virtio_device *b, unsigned int index, struct ring_position *base,
		   struct umbra_error *err)
{
	struct vdpa *v = vdpa_of(b);
	struct vdpa_ring *r = vdpa_find_ring(v, index, err);

	if (!r)
		return -EINVAL;
	if (v->is_running)
		return error_set(err, -EREMOTEIO,
				 "queue %u: it cannot be stopped while the device runs", index);
	*base = r->base;
	vdpa_forget_ring(v, index);
	return 0;
}

int vdpa_ring_enable(struct virtio_device *b, unsigned int index, bool enabled,
		     struct umbra_error *err)
{
	struct vdpa *v = vdpa_of(b);
	struct vdpa_ring *r = vdpa_find_ring(v, index, err);
	uint32_t on = 1;
	int rc;

	if (!r)
		return -EINVAL;
	if (!r->is_noted || r->noted.enabled == enabled)
		return 0;
	r->noted.enabled = enabled;
	if (!v->is_running)
		return 0;
	rc = vdpa_tell_kick(v, index, err);
	if (!rc && enabled && !r->is_on) {
		rc = vdpa_call_state(v, VDPA_REQUEST(VHOST_VDPA_SET_VRING_ENABLE), index, &on, err);
		r->is_on = !rc;
	}
	if (rc)
		r->noted.enabled = !enabled;
	else
		vdpa_kick(r);
	return rc;
}

/* Exchange an fd, which the device hears of if the ring runs. */
int vdpa_ring_exchange(struct virtio_device *b, unsigned int index, enum virtio_ring_fd which,
		       int fd, struct umbra_error *err)
{
	struct vdpa *v = vdpa_of(b);
	struct vdpa_ring *r = vdpa_find_ring(v, index, err);
	int *slot, before, rc = 0;

	if (!r || !r->is_noted)
		return r ? 0 : -EINVAL;
	if (fd < 0 && which == VIRTIO_RING_KICK)
		return error_set(err, -EREMOTEIO,
				 "queue %u: it has no kick fd; a vDPA device does not poll", index);
	slot = which == VIRTIO_RING_KICK   ? &r->noted.kick_fd
	       : which == VIRTIO_RING_CALL ? &r->noted.call_fd
					   : &r->noted.err_fd;
	before = *slot;
	*slot = fd;
	if (v->is_running && which == VIRTIO_RING_KICK)
		rc = vdpa_tell_kick(v, index, err);
	else if (v->is_running && which == VIRTIO_RING_CALL)
		rc = vdpa_call_fd(v, VDPA_REQUEST(VHOST_SET_VRING_CALL), index, fd, err);
	else if (v->is_running)
		rc = vdpa_call_fd(v, VDPA_REQUEST(VHOST_SET_VRING_ERR), index, fd, err);
	if (rc)
		*slot = before;
	return rc;
}

/* By a kick fd on which nobody kicks. */
static int ring_hush_set(struct vdpa *v, unsigned int index, bool is_hushed,
			 struct umbra_error *err)
{
	struct vdpa_ring *r = vdpa_find_ring(v, index, err);
	int rc = 0;

	if (!r)
		return -EINVAL;
	if (!r->is_noted || r->is_hushed == is_hushed)
		return 0;
	r->is_hushed = is_hushed;
	if (v->is_running)
		rc = vdpa_tell_kick(v, index, err);
	if (rc)
		r->is_hushed = !is_hushed;
	return rc;
}

/* What is fed no more takes no more. */
int vdpa_ring_hush(struct virtio_device *b, unsigned int index, bool is_fed,
		   struct umbra_error *err)
{
	return is_fed ? ring_hush_set(vdpa_of(b), index, true, err) : 0;
}

int vdpa_ring_unhush(struct virtio_device *b, unsigned int index, struct umbra_error *err)
{
	return ring_hush_set(vdpa_of(b), index, false, err);
}
