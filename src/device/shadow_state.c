/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * In which state a shadow device is, and what every other file of it asks or reports here.
 *
 * Theory of operation.  States (docs/architecture.md has the picture):
 *
 *	WAITING       no front-end, no back-end connection
 *	NEGOTIATING   both are there, no ring runs; with a reason: rings are wanted
 *	              and could not be started, which is tried again
 *	PASSTHROUGH   at least one ring runs, all that run are RING_PASSED
 *	SHADOWED      the same with RING_SHADOWED
 *	SWITCHING     inside shadow_device_switch() with running rings
 *	BROKEN        at least one ring is RING_BROKEN; others may run
 *	BACKEND_LOST  the back-end's connection is unusable: all rings are let
 *	              go of, nothing more is said to it; only detach() and
 *	              await() follow
 *
 * shadow_device_settle() is the one place that says which of NEGOTIATING,
 * PASSTHROUGH, SHADOWED and BROKEN holds.
 *
 * Threads: the device's thread.
 */
#include <errno.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "device/shadow_device_private.h"
#include "virtio/protocol_features.h"

const char *umbra_device_state_name(enum umbra_device_state state)
{
	static const char *const names[] = {
		[UMBRA_DEVICE_WAITING] = "waiting",
		[UMBRA_DEVICE_NEGOTIATING] = "negotiating",
		[UMBRA_DEVICE_PASSTHROUGH] = "passthrough",
		[UMBRA_DEVICE_SHADOWED] = "shadowed",
		[UMBRA_DEVICE_SWITCHING] = "switching",
		[UMBRA_DEVICE_BACKEND_LOST] = "backend-lost",
		[UMBRA_DEVICE_BROKEN] = "broken",
	};

	return (size_t)state < ARRAY_SIZE(names) ? names[state] : "unknown";
}

void shadow_device_set_state(struct shadow_device *d, enum umbra_device_state state,
			     const char *reason)
{
	struct umbra_event event = {
		.kind = UMBRA_EVENT_STATE,
		.from = d->state,
		.to = state,
	};

	if (state == d->state && !strcmp(reason, d->reason))
		return;
	d->state = state;
	snprintf(d->reason, sizeof(d->reason), "%s", reason);
	event.reason = d->reason;
	d->host->ops->event(d->host, &event);
}

void shadow_device_settle(struct shadow_device *d)
{
	enum umbra_device_state state = UMBRA_DEVICE_NEGOTIATING;
	const char *reason = "";

	if (!d->backend)
		return;
	for (unsigned int i = 0; i < lanes_count(d->lanes); i++) {
		const struct lane *r = lane_at(d->lanes, i);

		if (lane_is_broken(r)) {
			state = UMBRA_DEVICE_BROKEN;
			reason = lane_error(r);
			break;
		}
		if (lane_is_wanted(r) && state == UMBRA_DEVICE_NEGOTIATING)
			reason = d->start_error;
		/* Always between, it says nothing of the mode, unless it is alone. */
		if (lane_is_followed(r) && state == UMBRA_DEVICE_NEGOTIATING)
			state = d->shadow_wanted ? UMBRA_DEVICE_SHADOWED : UMBRA_DEVICE_PASSTHROUGH;
		if (lane_is_followed(r))
			continue;
		if (lane_is_passed(r))
			state = UMBRA_DEVICE_PASSTHROUGH;
		else if (lane_is_shadowed(r))
			state = UMBRA_DEVICE_SHADOWED;
	}
	if (state == UMBRA_DEVICE_PASSTHROUGH || state == UMBRA_DEVICE_SHADOWED)
		reason = "";
	shadow_device_set_state(d, state, reason);
}

bool shadow_device_is_control(const struct shadow_device *d, const struct lane *r)
{
	return d->has_features && shadow_control_follows(d, d->guest_features) &&
	       net_control_is_control_ring(d->guest_features, d->control.terms.max_pairs,
					   lane_index(r));
}

/* A lane is broken: say so everywhere. */
static void broken_report(void *opaque, const struct lane *r)
{
	struct shadow_device *d = opaque;
	struct umbra_event event = {
		.kind = UMBRA_EVENT_QUEUE_BROKEN,
		.queue = lane_index(r),
		.from = d->state,
		.to = d->state,
		.reason = lane_error(r),
	};

	log_error("queue %u is broken and stays still until the driver resets it: %s",
		  lane_index(r), lane_error(r));
	d->host->ops->event(d->host, &event);
	if (d->protocol_features &
	    BIT64(VHOST_USER_PROTOCOL_F_STATUS)) /* NEEDS_RESET is to be read */
		d->host->ops->config_changed(d->host);
}

struct lane_context shadow_device_context(const struct shadow_device *d)
{
	return (struct lane_context){
		.host = d->host,
		.backend = d->backend,
		.memory = d->memory,
		.guest_features = d->guest_features,
		.shadow_features = d->features.shadow_ring,
		.table_max = d->table_max,
		.control = &d->control.ring,
		.deadline_us = d->deadline_us,
		.broke = broken_report,
		.device = (struct shadow_device *)d,
	};
}

enum lane_kind shadow_device_kind(const struct shadow_device *d, const struct lane *r,
				  bool shadowed)
{
	if (shadow_device_is_control(d, r))
		return LANE_FOLLOWED;
	return shadowed ? LANE_SHADOWED : LANE_PASSED;
}

void shadow_device_discard(struct shadow_device *d)
{
	for (unsigned int i = 0; i < lanes_count(d->lanes); i++) {
		struct lane_context c = shadow_device_context(d);

		lane_discard(lane_at(d->lanes, i), &c);
	}
}

int shadow_device_lose(struct shadow_device *d, int code, const struct umbra_error *err)
{
	if (!shadow_device_is_fatal(code) || d->state == UMBRA_DEVICE_BACKEND_LOST)
		return code;
	shadow_device_discard(d);
	/* The back-end is there; it is on our side that nobody waits any more. */
	d->given_up = code == -ECANCELED;
	if (d->given_up)
		return code;
	shadow_device_set_state(d, UMBRA_DEVICE_BACKEND_LOST,
				err && err->text[0] ? err->text : "the back-end is gone");
	return code;
}

int shadow_device_check_backend(const struct shadow_device *d, struct umbra_error *err)
{
	if (!d->backend || d->state == UMBRA_DEVICE_BACKEND_LOST)
		return error_set(err, -ECONNRESET, "there is no back-end: %s", d->reason);
	if (d->given_up)
		return error_set(err, -ECANCELED, "the back-end is no longer waited for");
	return 0;
}

void shadow_device_break_ring(struct shadow_device *d, struct lane *r, const char *reason)
{
	struct lane_context c = shadow_device_context(d);

	lane_break(r, &c, reason);
}
