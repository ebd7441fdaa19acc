/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The loss of a back-end, and a device that goes on without it.
 *
 * Theory of operation.  When the connection is found unusable, the rings are held
 * (lane_hold()): what the back-end has used is completed to the guest, what it may have done or
 * not waits in the flight tables, and the guest's kicks wait in their eventfds.  From then on
 * an absent back-end (absent.h) answers, so that everything else of the device works as ever: a
 * front-end may change its memory, stop its rings and start them, reset the device, or leave.
 *
 * Only a device whose rings are shadowed can be held.  Of a ring that is passed through nobody
 * knows what the back-end has taken of it, unless it is asked in order (shadow_by_hand.c).
 *
 * The dead must be dead.  A request that the old one still works on, and that the new one has
 * done meanwhile, is done again when the guest has long written something else there.  So
 * the owner says when nothing more can come of it (shadow_device_backend_is_dead()); with no
 * request that it may have, nothing has to be waited for.  What it may have is counted as it is
 * lost, and a guest that resets its device, or a front-end that stops a ring, takes nothing from
 * that: nobody waits for these requests any more, and they are written all the same.  One that
 * is lost after it was given something by a return is one more that must be dead.
 *
 * What becomes of what it had depends on the device type: lane/loss.h.  Where the guest has to
 * reset its device, its rings are broken as the back-end is lost, so that a guest that listens can
 * do it meanwhile.
 *
 * Our eventfds, and our own memory, of which the old one has a mapping, are not used again: the
 * former are closed here, the latter as the next one comes (shadow_return.c).
 *
 * Threads: the device's thread.
 */
#include <errno.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <stdio.h>

#include "base/error.h"
#include "base/log.h"
#include "device/shadow_device_private.h"

#define HOLD_STANDS_US UINT64_C(2000000)

/* In the order of enum umbra_on_loss. */
static const enum loss_rule overruled[] = { LOSS_REPLAY, LOSS_REPLAY, LOSS_RESET, LOSS_HOLD };

void shadow_device_hold_for(struct shadow_device *d, uint32_t type, enum umbra_on_loss on_loss)
{
	d->hold.type = type;
	d->hold.loss.type = type;
	d->hold.loss.rule = on_loss == UMBRA_LOSS_BY_TYPE ? loss_rule_of(type) : overruled[on_loss];
}

static bool is_holdable(const struct shadow_device *d)
{
	const unsigned int other_ways = BACKEND_MAPS | BACKEND_RUNS_AS_ONE;

	if (!d->hold.type || !d->backend || d->backend->traits & other_ways ||
	    !d->hold.learnt.features)
		return false;
	for (unsigned int i = 0; i < lanes_count(d->lanes); i++)
		if (!lane_can_hold(lane_at(d->lanes, i)))
			return false;
	return true;
}

void shadow_hold_rings(struct shadow_device *d)
{
	struct lane_context c = shadow_lanes_context(d);

	d->hold.unsettled = lanes_hold(d->lanes, &c);
	d->start_at = 0;
	d->backend = &d->hold.absent.device;
	if (shadow_has_features(d))
		d->features_state = FEATURES_TOLD; /* nobody has to be */
}

/* A ring that the next one was given, too, is like one that was lost with the one before. */
static bool can_hold_on(const struct shadow_device *d)
{
	for (unsigned int i = 0; i < lanes_count(d->lanes); i++) {
		const struct lane *r = lane_at(d->lanes, i);

		if (lane_is_at_backend(r) && (!lane_can_hold(r) || (!d->hold.type && lane_left(r))))
			return false;
	}
	return true;
}

void shadow_hold_on(struct shadow_device *d, const struct umbra_error *why)
{
	if (can_hold_on(d)) {
		shadow_hold_rings(d);
		return;
	}
	shadow_lanes_discard(d);
	shadow_state_note(d, DEVICE_LOST, why->text);
}

void shadow_device_end_hold(struct shadow_device *d, const struct umbra_error *why)
{
	if (!shadow_is_held(d))
		return;
	shadow_lanes_discard(d);
	shadow_state_note(d, DEVICE_LOST, why->text);
}

uint64_t shadow_device_held_since_us(const struct shadow_device *d)
{
	return d->hold.since_us;
}

unsigned int shadow_device_held(const struct shadow_device *d)
{
	unsigned int held = 0;

	/* Also of such that were not named yet: an in-flight region may have some. */
	for (unsigned int i = 0; i < UMBRA_QUEUES_MAX; i++)
		held += lane_held_chains(lane_at(d->lanes, i));
	return held;
}

uint64_t shadow_hold_completed(const struct shadow_device *d)
{
	uint64_t completed = 0;

	for (unsigned int i = 0; i < lanes_count(d->lanes); i++)
		completed += __atomic_load_n(&lane_counters(lane_at(d->lanes, i))->requests,
					     __ATOMIC_RELAXED);
	return completed;
}

/* Did the return of the one that is lost hold?  A program that hangs up at once, or dies of the
 * same request again and again, is not to be started over without a pause: so all that it was
 * given again must have been done, and something at all; or it stood for long, which is more
 * than the longest pause. */
static bool return_held(const struct shadow_device *d)
{
	const struct shadow_hold *h = &d->hold;

	if (!h->returned_us ||
	    device_host_now_us(d->host->device) - h->returned_us >= HOLD_STANDS_US)
		return true;
	return shadow_hold_completed(d) > h->completed_then &&
	       !lanes_any(d->lanes, lane_holds_older);
}

/* --- what nobody can be given ----------------------------------------------- */

/* A control queue at a network card's back-end is one more behind the pairs. */
static bool has_control_ring(const struct shadow_device *d)
{
	unsigned int count = lanes_count(d->lanes);

	return d->hold.type == VIRTIO_ID_NET && d->guest_features & BIT64(VIRTIO_NET_F_CTRL_VQ) &&
	       count % 2 && !lane_is_stopped(lane_at(d->lanes, count - 1));
}

static bool is_reset_by_loss(const struct shadow_device *d)
{
	return d->hold.loss.rule == LOSS_RESET ||
	       (d->hold.loss.rule == LOSS_WIRE && has_control_ring(d));
}

/* The guest has to reset its device: its rings are broken. */
static void rings_lose(struct shadow_device *d)
{
	struct lane_context c = shadow_lanes_context(d);

	for (unsigned int i = 0; i < lanes_count(d->lanes); i++) {
		struct lane *r = lane_at(d->lanes, i);
		char why[UMBRA_ERROR_SIZE];

		if (!lane_is_wanted(r))
			continue;
		snprintf(why, sizeof(why),
			 "the back-end was lost with %u requests of this queue, and another one "
			 "does not know what it knew of the guest: the driver has to reset the "
			 "device",
			 lane_held_chains(r));
		lane_lose(r, &c, why);
	}
}

int shadow_device_may_return(const struct shadow_device *d, struct umbra_error *err)
{
	const struct loss_terms *loss = &d->hold.loss;
	unsigned int held = shadow_device_held(d);

	if (loss->rule != LOSS_HOLD || loss->word != LOSS_UNSAID ||
	    (!held && !(loss_is_of_state(loss->type) && lanes_any(d->lanes, lane_is_wanted))))
		return 0;
	return error_set(err, -EAGAIN,
			 "the back-end was lost with %u requests, and what becomes of them is for "
			 "the operator to say (umbra ctl settle-loss how=replay or how=reset)",
			 held);
}

int shadow_device_settle_loss(struct shadow_device *d, enum umbra_loss_word word,
			      struct umbra_error *err)
{
	if (!shadow_is_held(d))
		return error_set(err, -EINVAL, "no back-end is waited for: the device is %s",
				 umbra_device_state_name(d->seen));
	if (!shadow_device_may_return(d, err))
		return error_set(err, -EINVAL,
				 "nobody is asked what becomes of what the lost back-end had");
	if (word == UMBRA_LOSS_WORD_RESET)
		rings_lose(d);
	d->hold.loss.word = word == UMBRA_LOSS_WORD_RESET ? LOSS_SAID_RESET : LOSS_SAID_REPLAY;
	return 0;
}

/* --- the loss ----------------------------------------------------------------- */

void shadow_hold_begin(struct shadow_device *d)
{
	shadow_hold_rings(d);
	d->hold.since_us = device_host_now_us(d->host->device);
	d->hold.count++;
	d->hold.loss.word = LOSS_SAID_REPLAY; /* nothing was lost */
	d->hold.loss.dropped = 0;
}

void shadow_hold_loss(struct shadow_device *d)
{
	d->hold.loss.word = LOSS_UNSAID;
	if (is_reset_by_loss(d))
		rings_lose(d);
}

static void loss_hold(struct shadow_device *d, const char *why)
{
	char reason[UMBRA_ERROR_SIZE];

	shadow_hold_begin(d);
	d->hold.has_served = return_held(d);
	snprintf(reason, sizeof(reason), "%s", why);
	log_error("%s; its queues are held, with %u requests that it may have done or not", reason,
		  shadow_device_held(d));
	shadow_state_note(d, DEVICE_HELD, reason);
	shadow_hold_loss(d);
}

int shadow_backend_judge(struct shadow_device *d, int code, const struct umbra_error *err)
{
	if (!backend_is_lost(code) || d->state == UMBRA_DEVICE_BACKEND_LOST)
		return code;
	if (shadow_is_held(d)) /* of another one, which is not the back-end yet */
		return code == -ECANCELED || code == -EINPROGRESS ? code : -ERESTART;
	if (code != -ECANCELED && is_holdable(d)) {
		loss_hold(d, err && err->text[0] ? err->text : "the back-end is gone");
		return -ERESTART;
	}
	shadow_lanes_discard(d);
	if (code == -ECANCELED) { /* the back-end is there; it is on our side */
		shadow_state_note(d, DEVICE_GIVES_UP, "");
		return code;
	}
	shadow_state_note(d, DEVICE_LOST, err && err->text[0] ? err->text : "the back-end is gone");
	return code;
}

bool shadow_device_lose_backend(struct shadow_device *d, const struct umbra_error *why)
{
	(void)!shadow_backend_judge(d, -ECONNRESET, why);
	return shadow_is_held(d);
}

void shadow_device_backend_is_dead(struct shadow_device *d)
{
	d->hold.unsettled = 0;
}

bool shadow_device_was_served(const struct shadow_device *d)
{
	return d->hold.has_served;
}

unsigned int shadow_device_unsettled(const struct shadow_device *d)
{
	return d->hold.unsettled;
}
