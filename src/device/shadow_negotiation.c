/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A device between a front-end and a back-end: what is negotiated.
 *
 * Theory of operation.  What each side gets is one function of what both offer (features.h).
 * Features that are not those of before are another driver's: its rings are let go of first.
 * The back-end is told only what it does not know, since some drop their rings on a
 * repetition; what it has forgotten it is told again, before a ring starts at the latest
 * (shadow_negotiation_tell()).
 *
 * Threads: the device's thread.
 */
#include <errno.h>

#include "base/error.h"
#include "base/log.h"
#include "device/shadow_device_private.h"
#include "virtio/feature_bits.h"

static int negotiate(struct shadow_device *d, bool answered, uint64_t guest,
		     struct features_out *out, struct umbra_error *err)
{
	const struct features_in in = {
		.backend = d->backend_features,
		.maps = d->backend->traits & BACKEND_MAPS,
		.follows_control = shadow_control_find(d),
		.mode = d->mode,
		.guest_answered = answered,
		.guest = guest,
	};

	return features_negotiate(&in, out, err);
}

int shadow_get_features(struct virtio_device *self, uint64_t *features, struct umbra_error *err)
{
	struct shadow_device *d = shadow_of(self);
	struct features_out out;
	int rc = shadow_backend_check(d, err);

	if (!rc)
		rc = shadow_backend_judge(
			d, d->backend->ops->get_features(d->backend, &d->backend_features, err),
			err);
	if (!rc)
		rc = negotiate(d, false, 0, &out, err);
	if (rc)
		return rc;
	d->hold.learnt.features = d->backend_features;
	if (!shadow_has_features(d))
		d->features = out;
	*features = out.offer;
	return 0;
}

int shadow_negotiation_tell(struct shadow_device *d, struct umbra_error *err)
{
	int rc;

	if (d->features_state == FEATURES_TOLD)
		return 0;
	rc = shadow_backend_judge(d,
				  d->backend->ops->set_features(d->backend,
								d->mode == UMBRA_SHADOW_ON
									? d->features.shadowed
									: d->features.passthrough,
								err),
				  err);
	if (!rc)
		d->features_state = FEATURES_TOLD;
	return rc;
}

int shadow_set_features(struct virtio_device *self, uint64_t features, struct umbra_error *err)
{
	struct shadow_device *d = shadow_of(self);
	struct features_out out, before;
	int rc = shadow_backend_check(d, err);

	if (rc)
		return rc;
	if (!d->backend_features) { /* a front-end that did not ask */
		uint64_t ignored;

		rc = shadow_get_features(self, &ignored, err);
		if (rc)
			return rc;
	}
	if (shadow_has_features(d) && features == d->guest_features)
		return shadow_negotiation_tell(d, err);
	rc = negotiate(d, true, features, &out, err);
	if (rc)
		return rc;
	rc = shadow_halt_forgotten(d, NULL, err);
	if (rc)
		return rc;
	rc = shadow_control_negotiate(d, features, err);
	if (rc)
		return rc;
	if (d->mode != UMBRA_SHADOW_ON && d->shadow_wanted && !out.can_shadow) {
		log_warning("the device is passed through from here on: %s", out.why_not);
		d->shadow_wanted = false;
	}
	before = d->features;
	d->features = out;
	shadow_features_forgotten(d);
	rc = shadow_negotiation_tell(d, err);
	if (rc) {
		d->features = before; /* which it is told again before a ring starts */
		return rc;
	}
	d->guest_features = features;
	/* Without the protocol's bit there is no SET_VRING_ENABLE. */
	if (!(features & BIT64(VHOST_USER_F_PROTOCOL_FEATURES)))
		for (unsigned int i = 0; i < UMBRA_QUEUES_MAX; i++)
			lane_front(lane_at(d->lanes, i))->enabled = true;
	return 0;
}

int shadow_get_protocol_features(struct virtio_device *self, uint64_t *features,
				 struct umbra_error *err)
{
	struct shadow_device *d = shadow_of(self);
	int rc = shadow_backend_check(d, err);

	*features = 0;
	if (rc)
		return rc;
	rc = shadow_backend_judge(
		d, d->backend->ops->get_protocol_features(d->backend, features, err), err);
	if (rc)
		return rc;
	d->hold.learnt.protocol_features = *features;
	d->hold.learnt.has_protocol_features = true;
	*features |= shadow_inflight_features(d);
	return 0;
}

int shadow_set_protocol_features(struct virtio_device *self, uint64_t features,
				 struct umbra_error *err)
{
	struct shadow_device *d = shadow_of(self);
	int rc = shadow_backend_check(d, err);

	features &= ~shadow_inflight_features(d); /* which is between the front-end and us */
	if (!rc)
		rc = shadow_backend_judge(
			d, d->backend->ops->set_protocol_features(d->backend, features, err), err);
	if (!rc)
		d->protocol_features = features;
	return rc;
}

int shadow_get_queue_num(struct virtio_device *self, uint64_t *count, struct umbra_error *err)
{
	struct shadow_device *d = shadow_of(self);
	int rc = shadow_backend_check(d, err);

	if (!rc)
		rc = shadow_backend_judge(d, d->backend->ops->get_queue_num(d->backend, count, err),
					  err);
	if (!rc)
		d->hold.learnt.queue_count = d->queues_max = *count;
	return rc;
}

int shadow_get_memory_slots(struct virtio_device *self, uint64_t *count, struct umbra_error *err)
{
	struct shadow_device *d = shadow_of(self);
	int rc = shadow_backend_check(d, err);

	if (!rc)
		rc = shadow_backend_judge(
			d, d->backend->ops->get_memory_slots(d->backend, &d->slots_max, err), err);
	if (rc)
		return rc;
	d->hold.learnt.memory_slots = d->slots_max;
	*count = d->slots_max - shadow_own_slots(d, d->slots_max);
	return 0;
}
