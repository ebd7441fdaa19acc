/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The next back-end takes the place of one that was lost.
 *
 * Theory of operation.  It is told everything anew, in the order in which a VMM tells it, and
 * first it is asked: the guest was promised features, queues, a disk of some size, and goes on
 * counting on them.  One that has less is of no use, and the device is held on.  Then the
 * requests are given to it that wait, in the order in which the guest made them, before anything
 * new is taken; each ring is kicked, and the guest is called once for each, since a call may
 * have died with the old one.  What goes wrong on the way leaves the device held as before.
 *
 * It may be slow, and the front-end is not made to wait: whenever that one has something to say
 * and the answer is not there, the device is held as before, and the same back-end is told
 * everything again when it has answered (-EINPROGRESS).  It has been given nothing until then,
 * since rings go when all has been said.  So a front-end that speaks while its back-end comes
 * delays it, and nothing but a hang-up drives it away.
 *
 * Threads: the device's thread.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <string.h>

#include "base/error.h"
#include "base/le.h"
#include "base/log.h"
#include "device/shadow_device_private.h"

/* What was negotiated with the guest, or what it was offered and may take yet. */
static uint64_t promised_features(const struct shadow_device *d)
{
	if (!shadow_has_features(d))
		return d->hold.learnt.features;
	return d->mode == UMBRA_SHADOW_ON ? d->features.shadowed : d->features.passthrough;
}

static int features_check(struct shadow_device *d, struct virtio_device *backend,
			  uint64_t *features, struct umbra_error *err)
{
	uint64_t promised = promised_features(d), protocol;
	int rc = backend->ops->get_features(backend, features, err);

	if (rc)
		return rc;
	if (promised & ~*features)
		return error_set(err, -EOPNOTSUPP,
				 "it lacks the features 0x%" PRIx64 " that the guest was promised",
				 promised & ~*features);
	if (d->hold.type == VIRTIO_ID_BLOCK &&
	    *features & ~d->hold.learnt.features & BIT64(VIRTIO_BLK_F_RO))
		return error_set(err, -EOPNOTSUPP,
				 "its disk is read-only, and the guest's was not");
	if (!d->protocol_features)
		return 0;
	rc = backend->ops->get_protocol_features(backend, &protocol, err);
	if (rc)
		return rc;
	if (d->protocol_features & ~protocol)
		return error_set(err, -EOPNOTSUPP,
				 "it lacks the protocol features 0x%" PRIx64
				 " that were negotiated with the VMM",
				 d->protocol_features & ~protocol);
	return backend->ops->set_protocol_features(backend, d->protocol_features, err);
}

/* One more than the highest that the front-end has started. */
static unsigned int queues_used(const struct shadow_device *d)
{
	unsigned int count = lanes_count(d->lanes);

	while (count && lane_is_stopped(lane_at(d->lanes, count - 1)))
		count--;
	return count;
}

/* Not every front-end asks how many there are before it uses them. */
static int queues_check(const struct shadow_device *d, struct virtio_device *backend,
			struct umbra_error *err)
{
	uint64_t count, told = d->hold.learnt.queue_count, used = queues_used(d);
	int rc;

	if (!told && used < 2)
		return 0;
	rc = backend->ops->get_queue_num(backend, &count, err);
	if (rc == -EOPNOTSUPP && !told) /* no VHOST_USER_PROTOCOL_F_MQ: it cannot be asked */
		return 0;
	if (rc)
		return rc;
	if (count < told)
		return error_set(err, -EOPNOTSUPP,
				 "it has %" PRIu64 " queues, and the VMM was told of %" PRIu64,
				 count, told);
	if (count < used)
		return error_set(err, -EOPNOTSUPP,
				 "it has %" PRIu64 " queues, and the VMM uses %" PRIu64, count,
				 used);
	return 0;
}

#define BLOCK_CAPACITY_BYTES 8u /* struct virtio_blk_config begins with the capacity */

/* What it has said before it is the back-end, and which nobody is told before. */
struct greeting {
	uint64_t features;
	uint8_t config[LEARNT_CONFIG_MAX];
	uint32_t config_size; /* as much as was read of it before */
};

static int greeting_take_config(const struct shadow_device *d, struct virtio_device *backend,
				struct greeting *g, struct umbra_error *err)
{
	const struct learnt *learnt = &d->hold.learnt;
	uint32_t size = g->config_size = learnt_config_size(learnt);
	int rc = size ? backend->ops->get_config(backend, 0, g->config, size, err) : 0;
	le64 now, before;

	if (rc || !size)
		return rc;
	/* What the driver has written it will be told. */
	for (uint32_t at = 0, run; (run = learnt_next_write(learnt, &at)) != 0; at += run)
		memcpy(g->config + at, learnt->config + at, run);
	memcpy(&now, g->config, sizeof(now));
	memcpy(&before, learnt->config, sizeof(before));
	if (d->hold.type == VIRTIO_ID_BLOCK && learnt_has_config(learnt, 0, BLOCK_CAPACITY_BYTES) &&
	    le64_to(now) < le64_to(before))
		return error_set(err, -EOPNOTSUPP,
				 "its disk has %" PRIu64 " sectors, and the guest's had %" PRIu64,
				 le64_to(now), le64_to(before));
	return 0;
}

/* What it has said is known from now on.  True: the guest knows another configuration. */
static bool greeting_learn(struct shadow_device *d, const struct greeting *g)
{
	struct learnt *learnt = &d->hold.learnt;
	bool changed = false;

	for (uint32_t i = 0; i < g->config_size; i++)
		changed |= learnt_has_config(learnt, i, 1) && g->config[i] != learnt->config[i];
	learnt_config(learnt, 0, g->config, g->config_size);
	d->backend_features = learnt->features = g->features;
	return changed;
}

/* What the driver has written into the configuration, as the cache mode of a disk. */
static int config_tell(struct shadow_device *d, struct umbra_error *err)
{
	const struct learnt *learnt = &d->hold.learnt;
	uint32_t offset = 0, size;
	int rc = 0;

	while (!rc && (size = learnt_next_write(learnt, &offset)) != 0) {
		rc = d->backend->ops->set_config(d->backend, offset, learnt->config + offset, size,
						 0, err);
		if (rc && !backend_is_lost(rc))
			error_prefix(err, rc,
				     "it does not take %u bytes at %u of the configuration, which "
				     "the driver has written",
				     size, offset);
		offset += size;
	}
	return rc;
}

/* By itself, so that no answer yet is not taken for the answer of one that has no slots. */
static int slots_ask(struct shadow_device *d, struct umbra_error *err)
{
	int rc = d->backend->ops->get_memory_slots(d->backend, &d->slots_max, err);

	if (rc)
		d->slots_max = 0;
	return backend_is_lost(rc) ? rc : 0;
}

/* Everything that it has to know before a ring starts. */
static int backend_tell(struct shadow_device *d, struct umbra_error *err)
{
	uint8_t status = d->hold.learnt.status;
	struct virtio_device *b = d->backend;
	int rc = 0;

	shadow_features_forgotten(d);
	if (shadow_has_features(d))
		rc = shadow_negotiation_tell(d, err);
	if (!rc && d->hold.learnt.mtu)
		rc = b->ops->set_mtu(b, d->hold.learnt.mtu, err);
	if (!rc && status & ~VIRTIO_CONFIG_S_DRIVER_OK)
		rc = b->ops->set_status(b, status & ~VIRTIO_CONFIG_S_DRIVER_OK, err);
	if (!rc)
		rc = config_tell(d, err);
	if (!rc && d->memory)
		rc = slots_ask(d, err);
	if (!rc && d->memory)
		rc = shadow_set_memory(&d->virtio, d->memory->regions, d->memory->count, err);
	return rc;
}

static void returned(struct shadow_device *d, bool config_changed)
{
	struct shadow_hold *h = &d->hold;

	h->replayed += h->loss.given;
	h->dropped += h->loss.dropped;
	h->returned_us = device_host_now_us(d->host->device);
	h->last_us = h->returned_us - h->since_us;
	h->longest_us = MAX(h->longest_us, h->last_us);
	log_info("a back-end is there again after %" PRIu64 " ms, and has been given %u requests "
		 "again; %u packets that the guest had sent are lost",
		 h->last_us / 1000, h->loss.given, h->loss.dropped);
	shadow_state_note(d, DEVICE_RETURNED, "");
	for (unsigned int i = 0; i < lanes_count(d->lanes); i++)
		if (lane_is_shadowed(lane_at(d->lanes, i)))
			device_host_notify(d->host->device,
					   lane_front(lane_at(d->lanes, i))->call_fd);
	shadow_state_settle(d);
	if (config_changed)
		device_host_config_changed(d->host->device);
}

int shadow_device_return(struct shadow_device *d, struct virtio_device *backend,
			 struct umbra_error *err)
{
	struct greeting g = { .features = 0 };
	int rc = backend->ops->start_over ? backend->ops->start_over(backend, err) : 0;

	if (!rc)
		rc = features_check(d, backend, &g.features, err);
	if (!rc)
		rc = queues_check(d, backend, err);
	if (!rc)
		rc = greeting_take_config(d, backend, &g, err);
	if (rc)
		return rc;
	shadow_own_fini(d); /* what nobody was given */
	d->slots_max = 0;
	d->backend = backend;
	d->hold.completed_then = shadow_hold_completed(d); /* before a ring runs */
	d->hold.loss.given = 0;
	rc = backend_tell(d, err);
	if (!rc)
		rc = shadow_begin_wanted(d, NULL, d->shadow_wanted, err);
	if (rc) {
		shadow_hold_on(d, err);
		return rc == -ERESTART ? -ECONNRESET : rc; /* that one is lost, too */
	}
	returned(d, greeting_learn(d, &g));
	return 0;
}
