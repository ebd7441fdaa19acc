/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A device between a front-end and a back-end: its life, what is relayed, and
 * the table of all that a front-end asks.
 *
 * Theory of operation.  The device keeps what the front-end says of each ring
 * (shadow_rings.c) and programs the back-end only when a ring starts, in one go,
 * with either the front-end's settings or its own (lane.h, shadow_start.c).  So
 * the mode of a ring is decided in one place, and a switch is "stop, start in the
 * other mode" (shadow_switch.c).  Memory tables are a file of their own
 * (shadow_memory.c).
 *
 * A message that repeats what the back-end knows is not forwarded, since some drop
 * their rings on it; one that repeats what it has forgotten is.  docs/architecture.md,
 * "What is said once", has the table of both.
 *
 * In which state it is: shadow_state.c.  What calls what among the files of a device:
 * shadow_device_private.h.
 */
#include "device/shadow_device.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_config.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "device/shadow_device_private.h"
#include "virtio/feature_bits.h"

/* --- relayed -------- --------------------------------------------------- */

static int get_config(struct virtio_device *self, uint32_t offset, void *data, uint32_t size,
		      struct umbra_error *err)
{
	struct shadow_device *d = shadow_of(self);
	int rc = shadow_backend_check(d, err);

	if (!rc)
		rc = shadow_backend_judge(
			d, d->backend->ops->get_config(d->backend, offset, data, size, err), err);
	if (!rc)
		learnt_config(&d->hold.learnt, offset, data, size);
	return rc;
}

static int set_config(struct virtio_device *self, uint32_t offset, const void *data, uint32_t size,
		      uint32_t flags, struct umbra_error *err)
{
	struct shadow_device *d = shadow_of(self);
	int rc = shadow_backend_check(d, err);

	if (!rc)
		rc = shadow_backend_judge(
			d, d->backend->ops->set_config(d->backend, offset, data, size, flags, err),
			err);
	if (!rc)
		learnt_write(&d->hold.learnt, offset, data, size);
	return rc;
}

static int get_status(struct virtio_device *self, uint8_t *status, struct umbra_error *err)
{
	struct shadow_device *d = shadow_of(self);
	int rc = shadow_backend_check(d, err);

	*status = d->status;
	if (!rc && !shadow_backend_runs_as_one(d))
		rc = shadow_backend_judge(d, d->backend->ops->get_status(d->backend, status, err),
					  err);
	if (!rc && lanes_any(d->lanes, lane_is_broken))
		*status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	return rc;
}

static int set_status(struct virtio_device *self, uint8_t status, struct umbra_error *err)
{
	struct shadow_device *d = shadow_of(self);
	int rc = shadow_backend_check(d, err);
	uint8_t before = d->status;

	if (!rc && status == 0) /* virtio 1.2, 2.1: a reset */
		rc = shadow_halt_forgotten(d, NULL, err);
	if (rc)
		return rc;
	if (!shadow_backend_runs_as_one(d)) {
		if (!status)
			shadow_features_forgotten(d);
		rc = shadow_backend_judge(d, d->backend->ops->set_status(d->backend, status, err),
					  err);
		if (!rc)
			d->hold.learnt.status = status;
		if (!rc && !status)
			learnt_forget_writes(&d->hold.learnt);
		return rc;
	}
	d->status = status;
	/* What does not start now is tried again, and a status has no answer to say so. */
	if (status & ~before & VIRTIO_CONFIG_S_DRIVER_OK)
		rc = shadow_start_now(d, err);
	return backend_is_lost(rc) ? rc : 0;
}

static int reset(struct virtio_device *self, struct umbra_error *err)
{
	struct shadow_device *d = shadow_of(self);
	bool enabled = shadow_has_features(d) &&
		       !(d->guest_features & BIT64(VHOST_USER_F_PROTOCOL_FEATURES));
	int rc = shadow_backend_check(d, err);

	if (!rc)
		rc = shadow_halt_forgotten(d, NULL, err);
	if (rc)
		return rc;
	d->status = d->hold.learnt.status = 0;
	learnt_forget_writes(&d->hold.learnt);
	for (unsigned int i = 0; i < UMBRA_QUEUES_MAX; i++)
		lane_reset(lane_at(d->lanes, i), enabled);
	if (shadow_backend_runs_as_one(d)) /* its stop was a reset */
		return 0;
	/* Whatever it answers: to be told twice harms nobody whose rings are stopped. */
	d->features_state = FEATURES_OPEN;
	d->guest_features = 0;
	return shadow_backend_judge(d, d->backend->ops->reset(d->backend, err), err);
}

static int set_mtu(struct virtio_device *self, uint64_t mtu, struct umbra_error *err)
{
	struct shadow_device *d = shadow_of(self);
	int rc = shadow_backend_check(d, err);

	if (!rc)
		rc = shadow_backend_judge(d, d->backend->ops->set_mtu(d->backend, mtu, err), err);
	if (!rc)
		d->hold.learnt.mtu = mtu;
	return rc;
}

static int send_rarp(struct virtio_device *self, const uint8_t mac[6], struct umbra_error *err)
{
	struct shadow_device *d = shadow_of(self);
	int rc = shadow_backend_check(d, err);

	return rc ? rc
		  : shadow_backend_judge(d, d->backend->ops->send_rarp(d->backend, mac, err), err);
}

/* --- the table ------------------------------------------------------------- */

static const struct memory *device_memory(const struct virtio_device *self)
{
	return ((const struct shadow_device *)self)->memory;
}

static bool is_kept_started(const struct lane *r)
{
	return !lane_is_stopped(r);
}

static bool device_is_started(const struct virtio_device *self)
{
	return lanes_any(((const struct shadow_device *)self)->lanes, is_kept_started);
}

/* --- what its session says ------------------------------------------------- */

static void attach(struct virtio_device *self, struct virtio_device *backend)
{
	struct shadow_device *d = shadow_of(self);

	d->backend = backend;
	d->hold.learnt = (struct learnt){ 0 };
	d->hold.returned_us = 0;
	absent_init(&d->hold.absent, &d->hold.learnt);
	shadow_state_note(d, DEVICE_ATTACHED, "");
}

static void detach(struct virtio_device *self)
{
	struct shadow_device *d = shadow_of(self);

	shadow_lanes_discard(d);
	d->rings_seen = MAX(d->rings_seen, lanes_count(d->lanes));
	lanes_forget(d->lanes);
	shadow_inflight_fini(d);
	memory_unref(&d->memory);
	shadow_own_fini(d);
	d->slots_max = d->queues_max = 0;
	d->no_shadow[0] = '\0';
	d->features_state = FEATURES_OPEN;
	d->backend_features = d->guest_features = d->protocol_features = 0;
	d->features = (struct features_out){ 0 };
	d->status = 0;
	d->start_at = 0;
	d->start_error[0] = '\0';
	d->control.is_net = false;
	d->backend = NULL;
}

static void check_queues(struct virtio_device *self)
{
	struct shadow_device *d = shadow_of(self);

	for (unsigned int i = 0; i < lanes_count(d->lanes); i++) {
		struct lane *r = lane_at(d->lanes, i);
		const char *fault;

		if (lane_has_failed(r, &fault))
			shadow_lanes_break(d, r, fault);
		lane_say_tables(r);
	}
	shadow_state_settle(d);
}

static const struct virtio_ops shadow_ops = {
	.get_features = shadow_get_features,
	.set_features = shadow_set_features,
	.get_protocol_features = shadow_get_protocol_features,
	.set_protocol_features = shadow_set_protocol_features,
	.get_queue_num = shadow_get_queue_num,
	.get_memory_slots = shadow_get_memory_slots,
	.set_memory = shadow_set_memory,
	.add_region = shadow_add_region,
	.remove_region = shadow_remove_region,
	.ring_enable = shadow_ring_enable,
	.ring_stop = shadow_ring_stop,
	.get_config = get_config,
	.set_config = set_config,
	.get_status = get_status,
	.set_status = set_status,
	.reset = reset,
	.set_mtu = set_mtu,
	.send_rarp = send_rarp,
	.get_inflight = shadow_get_inflight,
	.set_inflight = shadow_set_inflight,
	.ring_set_size = shadow_ring_set_size,
	.ring_set_addr = shadow_ring_set_addr,
	.ring_set_base = shadow_ring_set_base,
	.ring_set_kick = shadow_ring_set_kick,
	.ring_set_call = shadow_ring_set_call,
	.ring_set_err = shadow_ring_set_err,
	.attach = attach,
	.detach = detach,
	.check_queues = check_queues,
	.memory = device_memory,
	.is_started = device_is_started,
};

struct virtio_device *shadow_device_virtio(struct shadow_device *d)
{
	return &d->virtio;
}

/* --- life ---------------------------------------------------------------- */

int shadow_device_create(struct shadow_host *host, enum umbra_shadow_mode mode,
			 unsigned int deadline_ms, struct shadow_device **out)
{
	struct shadow_device *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	if (lanes_create(&d->lanes)) {
		free(d);
		return -ENOMEM;
	}
	d->virtio.ops = &shadow_ops;
	d->host = host;
	d->mode = mode;
	d->deadline_us = deadline_ms * 1000ull;
	d->table_max = SHADOW_TABLE_MAX;
	d->state = d->seen = UMBRA_DEVICE_WAITING;
	d->shadow_wanted = mode == UMBRA_SHADOW_ON;
	shadow_control_init(d);
	*out = d;
	return 0;
}

void shadow_device_destroy(struct shadow_device **device)
{
	struct shadow_device *d = *device;

	*device = NULL;
	if (!d)
		return;
	detach(&d->virtio);
	lanes_destroy(&d->lanes);
	shadow_control_fini(d);
	free(d);
}

void shadow_device_limit_tables(struct shadow_device *d, uint32_t table_max)
{
	d->table_max = MIN(table_max, SPLIT_SIZE_MAX);
}

void shadow_device_limit_memory(struct shadow_device *d, uint64_t bytes)
{
	d->own.max = bytes;
}

void shadow_device_wait(struct shadow_device *d)
{
	shadow_state_note(d, DEVICE_AWAITS, "");
}

void shadow_device_await(struct shadow_device *d, const char *lost_reason)
{
	shadow_state_note(d, lost_reason ? DEVICE_LOST : DEVICE_LEFT,
			  lost_reason ? lost_reason : "");
}

/* --- what can be seen ---------------------------------------------------- */

enum umbra_device_state shadow_device_state(const struct shadow_device *d)
{
	return d->seen;
}

const struct shadow_counters *shadow_device_counters(const struct shadow_device *d,
						     unsigned int index)
{
	return lane_counters(lane_at(d->lanes, index));
}

void shadow_device_info(const struct shadow_device *d, struct umbra_shadow_picture *picture)
{
	struct umbra_shadow_info *info = &picture->info;
	struct umbra_error err = { "" };

	info->state = d->seen;
	snprintf(info->reason, sizeof(info->reason), "%s", d->reason);
	if (d->seen == UMBRA_DEVICE_NEGOTIATING && !d->reason[0])
		shadow_waits_for(d, info->reason, sizeof(info->reason));
	info->mode = d->mode;
	info->shadow_wanted = d->shadow_wanted;
	info->backend_features = d->backend_features;
	info->guest_features = d->guest_features;
	info->protocol_features = d->protocol_features;
	if (shadow_mode_check(d, true, &err))
		snprintf(info->shadow_refused, sizeof(info->shadow_refused), "%s", err.text);
	else
		info->shadow_refused[0] = '\0';
	features_drops_text(&d->features, info->dropped_features, sizeof(info->dropped_features));
	info->memory_bytes = 0;
	info->memory_regions = d->memory ? d->memory->count : 0;
	for (unsigned int i = 0; i < info->memory_regions; i++)
		info->memory_bytes += d->memory->regions[i].size;
	info->shadow_memory_bytes = info->shadow_memory_regions = 0;
	for (unsigned int i = 0; i < d->own.count; i++) {
		if (!d->own.regions[i].sent)
			continue;
		info->shadow_memory_bytes += d->own.regions[i].at.size;
		info->shadow_memory_regions++;
	}
	shadow_control_info(d, &picture->control);
	shadow_inflight_info(d, info);
	info->held_requests = shadow_is_held(d) ? shadow_device_held(d) : 0;
	info->holds = d->hold.count;
	info->replayed = d->hold.replayed;
	info->dropped = d->hold.dropped;
	info->last_hold_us = d->hold.last_us;
	info->longest_hold_us = d->hold.longest_us;
	info->switches = d->switches;
	info->switches_failed = d->switches_failed;
	info->last_pause_us = d->last_pause_us;
	info->longest_pause_us = d->longest_pause_us;
	/* Those of a front-end that has gone have counters still. */
	info->queue_count = MAX(lanes_count(d->lanes), d->rings_seen);
	for (unsigned int i = 0; i < info->queue_count; i++) {
		const struct lane *r = lane_at(d->lanes, i);
		struct umbra_queue_info *q = &picture->queues[i];

		q->size = lane_front(r)->size;
		q->started = lane_is_passed(r) || lane_is_shadowed(r);
		q->enabled = lane_front(r)->enabled;
		q->shadowed = lane_is_shadowed(r);
		snprintf(q->error, sizeof(q->error), "%s", lane_error(r));
	}
}
