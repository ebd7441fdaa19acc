/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A device that its operator holds, so that the back-end can be taken down and another one
 * started.
 *
 * Theory of operation.  What a loss leaves behind (shadow_hold.c) is made here in order: the rings
 * are brought to a standstill as for a switch (shadow_switch.c), at most the deadline, and let go
 * of, the absent back-end takes the place of the one that is there, and its owner closes the
 * connection.  Nothing is with the back-end then.  So no rule is needed for what it may have done
 * or not: a device of any type can be held so, whether a loss of its back-end would be borne or
 * not.  A ring that is passed through can be held as well: what nobody knows of it at a loss, a
 * back-end says when it stops in order.  Rejected: to shadow it first, which is the same stop and
 * a start more.
 *
 * By force nothing is waited for, and no message sent: it is a loss, but that we are who hangs up.
 * So it is for a back-end that does not answer or that keeps requests, and what cannot be held
 * when it is lost cannot be held by force: a ring that is passed through, and requests of a device
 * of a type of which it is not known that they may be done twice.
 *
 * A back-end whose type says that it knows something of its guest (loss_is_of_state()) takes that
 * with it, drained or not: who holds it in order is refused and told so before anything is taken
 * down, and by force the rings wait for the guest's reset, as after a loss.
 *
 * If the back-end is lost while it is waited for, that is a loss as any other, and what can be
 * held is held.
 *
 * The next one is given the device as after a loss (shadow_return.c), when the operator has
 * released it; that nobody is looked for before is its owner's affair.
 *
 * Threads: the device's thread.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/error.h"
#include "base/log.h"
#include "device/shadow_device_private.h"
#include "virtio/feature_bits.h"

/* --- whether it can be held ------------------------------------------------------------- */

static unsigned int requests_with_backend(const struct shadow_device *d)
{
	unsigned int left = 0;

	for (unsigned int i = 0; i < lanes_count(d->lanes); i++)
		if (lane_runs(lane_at(d->lanes, i)))
			left += lane_left(lane_at(d->lanes, i));
	return left;
}

static int force_check(const struct shadow_device *d, struct umbra_error *err)
{
	unsigned int left = requests_with_backend(d);

	for (unsigned int i = 0; i < lanes_count(d->lanes); i++)
		if (!lane_can_hold(lane_at(d->lanes, i)))
			return error_set(err, -EOPNOTSUPP,
					 "queue %u is passed through, and what the back-end has of "
					 "it is not known before it is stopped in order: hold it "
					 "without force, or shadow it first",
					 i);
	if (left && !d->hold.type)
		return error_set(err, -EOPNOTSUPP,
				 "%u requests are with the back-end, and it is not known whether "
				 "they may be done twice (--reconnect with --device-type says so): "
				 "hold it without force",
				 left);
	return 0;
}

static int order_check(const struct shadow_device *d, struct umbra_error *err)
{
	struct umbra_error why = { "" };
	const struct virtio_ops *ops = d->backend->ops;

	if (d->hold.type && loss_is_of_state(d->hold.type) && lanes_any(d->lanes, lane_runs))
		return error_set(err, -EOPNOTSUPP,
				 "a back-end of this type knows something of its guest, as files "
				 "that are open, that the next one will not know, so that the "
				 "guest has to reset its device then: force holds it all the same");
	if (ops->check_hush && lanes_any(d->lanes, lane_is_passed) &&
	    ops->check_hush(d->backend, &why))
		return error_set(err, -EOPNOTSUPP,
				 "%s, so that its rings cannot be stopped in order while they are "
				 "passed through",
				 why.text);
	return 0;
}

static int hold_check(const struct shadow_device *d, bool by_force, struct umbra_error *err)
{
	int rc = shadow_backend_check(d, err);

	if (rc)
		return rc;
	if (d->backend->traits & (BACKEND_MAPS | BACKEND_RUNS_AS_ONE))
		return error_set(err, -EOPNOTSUPP,
				 "only a vhost-user back-end can be held, and this is a vhost-vdpa "
				 "device");
	return by_force ? force_check(d, err) : order_check(d, err);
}

/* --- in order ------------------------------------------------------------------------------- */

/* What a front-end that comes or goes on meanwhile may ask first, and nobody has asked yet. */
static int backend_learn(struct shadow_device *d, struct umbra_error *err)
{
	struct learnt *learnt = &d->hold.learnt;
	const struct virtio_ops *ops = d->backend->ops;
	int rc = 0;

	if (!learnt->features)
		rc = ops->get_features(d->backend, &learnt->features, err);
	if (!rc && !learnt->has_protocol_features &&
	    learnt->features & BIT64(VHOST_USER_F_PROTOCOL_FEATURES)) {
		rc = ops->get_protocol_features(d->backend, &learnt->protocol_features, err);
		learnt->has_protocol_features = !rc;
	}
	return rc;
}

static int device_drain(struct shadow_device *d, struct umbra_error *err)
{
	char draining[96];
	int rc = backend_learn(d, err);

	if (rc || !lanes_any(d->lanes, lane_runs))
		return rc;
	snprintf(draining, sizeof(draining),
		 "to held: what is with the back-end is waited for, at most %" PRIu64 " ms",
		 d->deadline_us / 1000);
	shadow_state_note(d, DEVICE_SWITCHES, draining);
	return shadow_switch_rest(d, err);
}

void shadow_device_hold_overdue(struct shadow_device *d, const char *reason)
{
	if (!d->overdue || *d->overdue)
		return;
	*d->overdue = true;
	shadow_state_note(d, DEVICE_SWITCHES, reason);
}

static int device_rest(struct shadow_device *d, struct umbra_error *err)
{
	bool overdue = false;
	int rc;

	d->overdue = &overdue;
	rc = device_drain(d, err);
	d->overdue = NULL;
	return rc;
}

/* --- held, and released --------------------------------------------------------------------- */

static void held_by_hand(struct shadow_device *d)
{
	char reason[UMBRA_ERROR_SIZE];
	unsigned int left = shadow_device_held(d);

	if (left || d->hold.unsettled)
		snprintf(reason, sizeof(reason),
			 "by hand: the back-end may be taken down; it may have done %u requests or "
			 "not, and they are given to no other before it has ended",
			 MAX(left, d->hold.unsettled));
	else
		snprintf(reason, sizeof(reason),
			 "by hand: the back-end may be taken down, nothing is with it");
	d->hold.has_served = true; /* the next one is looked for without a pause */
	log_info("the device is held %s", reason);
	shadow_state_note(d, DEVICE_HELD, reason);
}

int shadow_device_hold(struct shadow_device *d, bool by_force, struct umbra_error *err)
{
	int rc = 0;

	if (shadow_is_held(d)) {
		held_by_hand(d);
		return 0;
	}
	rc = hold_check(d, by_force, err);
	if (rc)
		return rc;
	if (!by_force)
		rc = device_rest(d, err);
	if (rc)
		rc = shadow_backend_judge(d, rc, err);
	if (rc && !shadow_is_held(d)) {
		if (!backend_is_lost(rc))
			shadow_state_settle(d);
		return rc;
	}
	by_force &= !shadow_is_held(d);
	if (!shadow_is_held(d))
		shadow_hold_begin(d);
	held_by_hand(d);
	if (by_force && d->hold.type)
		shadow_hold_loss(d);
	return 0;
}

void shadow_device_release(struct shadow_device *d)
{
	if (!shadow_is_held(d))
		return;
	log_info("the device is released, and a back-end looked for");
	shadow_state_note(d, DEVICE_HELD, "released: a back-end is looked for");
}
