/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Starting and stopping a vhost-vdpa device: see vhost_vdpa.h.
 *
 * Implements: virtio 1.2, 3.1.1.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_config.h>

#include "base/error.h"
#include "vdpa/vhost_vdpa_private.h"

/* --- the way to FEATURES_OK and back --------------------------------------- */

static void rings_are_off(struct vdpa *v)
{
	for (uint32_t i = 0; i < v->ring_count; i++)
		v->rings[i].is_on = false;
}

int vdpa_reset(struct vdpa *v, struct umbra_error *err)
{
	int rc = vdpa_chardev_reset(&v->chardev, err);

	v->is_prepared = v->is_running = false;
	rings_are_off(v);
	if (!vdpa_can(v, VHOST_BACKEND_F_IOTLB_PERSIST))
		v->table.stale = true;
	return rc;
}

/* Back to a device that has been told nothing.  Returns @rc, or what is worse. */
static int give_up(struct vdpa *v, int rc, struct umbra_error *err)
{
	struct umbra_error later;
	int rc_reset;

	if (v->chardev.lost)
		return rc;
	rc_reset = vdpa_reset(v, &later);
	if (rc_reset && err)
		*err = later;
	return rc_reset ? rc_reset : rc;
}

/* virtio 1.2, 3.1.1, steps 1 to 6. */
int vdpa_prepare(struct vdpa *v, struct umbra_error *err)
{
	uint8_t status = VIRTIO_CONFIG_S_ACKNOWLEDGE;
	uint64_t features = v->features;
	int rc = vdpa_reset(v, err);

	if (rc)
		return rc;
	rc = vdpa_chardev_set_status(&v->chardev, status, err);
	status |= VIRTIO_CONFIG_S_DRIVER;
	if (!rc)
		rc = vdpa_chardev_set_status(&v->chardev, status, err);
	if (!rc)
		rc = vdpa_chardev_call(&v->chardev, VDPA_REQUEST(VHOST_SET_FEATURES), &features,
				       err);
	status |= VIRTIO_CONFIG_S_FEATURES_OK;
	if (!rc)
		rc = vdpa_chardev_set_status(&v->chardev, status, err);
	if (!rc)
		rc = vdpa_chardev_get_status(&v->chardev, &status, err);
	if (!rc && !(status & VIRTIO_CONFIG_S_FEATURES_OK))
		rc = error_set(err, -EREMOTEIO,
			       "back-end: the device does not agree to features 0x%" PRIx64
			       " (FEATURES_OK is not kept: its status is 0x%02x)",
			       v->features, status);
	if (rc)
		return give_up(v, rc, err);
	v->is_prepared = true;
	return 0;
}

/* --- starting ------------------------------------------------------------- */

static int ring_program(struct vdpa *v, unsigned int index, struct umbra_error *err)
{
	const struct virtio_ring *ring = &v->rings[index].noted;
	struct vhost_vring_addr addr;
	uint32_t num = ring->size, base = ring_position_to_wire(ring->base);
	int rc = vdpa_find_parts(v, index, ring, &addr, err);

	if (!rc)
		rc = vdpa_call_state(v, VDPA_REQUEST(VHOST_SET_VRING_NUM), index, &num, err);
	if (!rc) {
		rc = vdpa_chardev_call(&v->chardev, VDPA_REQUEST(VHOST_SET_VRING_ADDR), &addr, err);
		if (rc)
			error_prefix(err, rc, "queue %u", index);
	}
	/* After FEATURES_OK: vp_vdpa judges it by what was negotiated. */
	if (!rc)
		rc = vdpa_call_state(v, VDPA_REQUEST(VHOST_SET_VRING_BASE), index, &base, err);
	if (!rc)
		rc = vdpa_call_fd(v, VDPA_REQUEST(VHOST_SET_VRING_CALL), index, ring->call_fd, err);
	if (!rc)
		rc = vdpa_call_fd(v, VDPA_REQUEST(VHOST_SET_VRING_ERR), index, ring->err_fd, err);
	return rc;
}

static int ring_turn_on(struct vdpa *v, unsigned int index, struct umbra_error *err)
{
	struct vdpa_ring *r = &v->rings[index];
	uint32_t on = 1;
	int rc;

	if (!r->noted.enabled && vdpa_can(v, VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK))
		return 0;
	rc = vdpa_call_state(v, VDPA_REQUEST(VHOST_VDPA_SET_VRING_ENABLE), index, &on, err);
	r->is_on = !rc;
	return rc;
}

static int rings_program(struct vdpa *v, struct umbra_error *err)
{
	int rc = 0;

	for (uint32_t i = 0; i < v->ring_count && !rc; i++)
		if (v->rings[i].is_noted)
			rc = ring_program(v, i, err);
	for (uint32_t i = 0; i < v->ring_count && !rc; i++)
		if (v->rings[i].is_noted)
			rc = ring_turn_on(v, i, err);
	return rc;
}

static int driver_ok(struct vdpa *v, struct umbra_error *err)
{
	uint8_t status;
	int rc = vdpa_chardev_get_status(&v->chardev, &status, err);

	if (!rc)
		rc = vdpa_chardev_set_status(&v->chardev, status | VIRTIO_CONFIG_S_DRIVER_OK, err);
	if (!rc)
		rc = vdpa_chardev_get_status(&v->chardev, &status, err);
	if (!rc && !(status & VIRTIO_CONFIG_S_DRIVER_OK))
		rc = error_set(err, -EREMOTEIO,
			       "back-end: the device does not start (DRIVER_OK is not kept: its "
			       "status is 0x%02x)",
			       status);
	return rc;
}

/* The kick fds come last: virtio 1.2, 3.1.1 wants no notification before
 * DRIVER_OK, and one that is readable already is heard at once. */
static int rings_listen(struct vdpa *v, struct umbra_error *err)
{
	int rc = 0;

	for (uint32_t i = 0; i < v->ring_count && !rc; i++)
		if (v->rings[i].is_noted)
			rc = vdpa_tell_kick(v, i, err);
	for (uint32_t i = 0; i < v->ring_count && !rc; i++)
		if (v->rings[i].is_noted)
			vdpa_kick(&v->rings[i]);
	return rc;
}

/* Not started after all: no kick shall reach the device. */
static void rings_deafen(struct vdpa *v)
{
	struct umbra_error ignored;

	for (uint32_t i = 0; i < v->ring_count; i++)
		if (v->rings[i].is_noted)
			(void)!vdpa_call_fd(v, VDPA_REQUEST(VHOST_SET_VRING_KICK), i, -1, &ignored);
}

int vdpa_device_start(struct virtio_device *b, struct umbra_error *err)
{
	struct vdpa *v = vdpa_of(b);
	int rc = 0;

	if (v->is_running)
		return error_set(err, -EREMOTEIO, "back-end: the device runs already");
	if (!v->has_features)
		return error_set(err, -EREMOTEIO,
				 "back-end: the device cannot start before its features are set");
	if (!v->is_prepared)
		rc = vdpa_prepare(v, err);
	if (!rc)
		rc = vdpa_table_settle(&v->table, err);
	if (!rc)
		rc = vdpa_table_renew(&v->table, err);
	/* A reset may take it away. */
	if (!rc)
		rc = vdpa_chardev_call(&v->chardev, VDPA_REQUEST(VHOST_VDPA_SET_CONFIG_CALL),
				       &v->config_fd, err);
	if (!rc)
		rc = rings_program(v, err);
	if (!rc)
		rc = driver_ok(v, err);
	if (!rc)
		rc = rings_listen(v, err);
	if (rc) {
		rings_deafen(v);
		return give_up(v, rc, err);
	}
	v->is_running = true;
	return 0;
}

/* --- stopping ------------------------------------------------------------- */

static int ring_get_base(struct vdpa *v, unsigned int index, struct ring_position *base,
			 struct umbra_error *err)
{
	uint32_t num = 0;
	int rc = vdpa_call_state(v, VDPA_REQUEST(VHOST_GET_VRING_BASE), index, &num, err);

	if (rc)
		return rc;
	if (ring_position_from_wire(RING_SPLIT, num, base))
		return error_set(err, -EREMOTEIO,
				 "queue %u: GET_VRING_BASE says 0x%x; expected an index of 16 bits",
				 index, num);
	return 0;
}

/* Ask for the index of each ring that was noted. */
static int rings_get_bases(struct vdpa *v, struct umbra_error *err)
{
	int rc = 0;

	if (!(v->backend.traits & BACKEND_KEEPS_INDEX))
		return 0;
	for (uint32_t i = 0; i < v->ring_count && !rc; i++)
		if (v->rings[i].is_noted)
			rc = ring_get_base(v, i, &v->rings[i].base, err);
	return rc;
}

/*
 * After a reset of a device that could not be suspended: what it took between
 * the first question and the reset counts, if it still knows.  0 is what it
 * says if it does not; a device that has once said something else does.
 */
static void rings_correct_bases(struct vdpa *v)
{
	for (uint32_t i = 0; i < v->ring_count; i++) {
		struct vdpa_ring *r = &v->rings[i];
		struct umbra_error ignored;
		struct ring_position after;

		if (!r->is_noted || ring_get_base(v, i, &after, &ignored))
			continue;
		v->outlasts |= after.avail != 0;
		if (v->outlasts && ring_taken_since(after, r->base, r->noted.size) <= r->noted.size)
			r->base = after;
	}
}

/* Something went wrong with a device that is suspended: let it run on, or, where
 * that cannot be, give it up.  Returns @rc, or what is worse. */
static int suspend_undo(struct vdpa *v, int rc, struct umbra_error *err)
{
	struct umbra_error later;

	if (v->chardev.lost)
		return rc;
	if (vdpa_can(v, VHOST_BACKEND_F_RESUME) &&
	    !vdpa_chardev_call(&v->chardev, VDPA_REQUEST(VHOST_VDPA_RESUME), NULL, &later)) {
		for (uint32_t i = 0; i < v->ring_count; i++)
			if (v->rings[i].is_noted)
				vdpa_kick(&v->rings[i]);
		return rc;
	}
	rc = vdpa_reset(v, &later);
	if (rc && err)
		*err = later;
	if (!rc)
		rc = vdpa_chardev_lose(
			&v->chardev,
			error_prefix(err, -ECONNRESET, "the device cannot be stopped in order"),
			err);
	return rc;
}

int vdpa_ring_base(struct virtio_device *b, unsigned int index, struct ring_position *base,
		   struct umbra_error *err)
{
	struct vdpa *v = vdpa_of(b);

	if (!vdpa_find_ring(v, index, err))
		return -EINVAL;
	if (!(b->traits & BACKEND_KEEPS_INDEX))
		return error_set(err, -EOPNOTSUPP, "back-end: has no VHOST_GET_VRING_BASE");
	return ring_get_base(v, index, base, err);
}

int vdpa_device_stop(struct virtio_device *b, struct umbra_error *err)
{
	struct vdpa *v = vdpa_of(b);
	bool suspends = v->backend.traits & BACKEND_SUSPENDS;
	struct umbra_error local = { "" };
	uint8_t status;
	int rc;

	if (!v->is_running)
		return 0;
	err = err ? err : &local;
	rc = vdpa_chardev_get_status(&v->chardev, &status, err);
	/* One that refuses to be suspended runs on, as if it had not been asked. */
	if (!rc && suspends)
		rc = vdpa_chardev_call(&v->chardev, VDPA_REQUEST(VHOST_VDPA_SUSPEND), NULL, err);
	if (rc)
		return rc;
	rc = rings_get_bases(v, err);
	if (rc)
		return suspends ? suspend_undo(v, rc, err) : rc;
	rc = vdpa_reset(v, err);
	if (!rc && !suspends && v->backend.traits & BACKEND_KEEPS_INDEX)
		rings_correct_bases(v);
	return rc;
}
