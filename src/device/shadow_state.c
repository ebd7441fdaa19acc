/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * In which state a shadow device is, and what every other file of it asks or reports here.
 *
 * Theory of operation.  A life is events times states, in one table: what happens to a device is
 * said with shadow_state_note(), and the table says what becomes of it.  Beside each event
 * stands what must be true when it is said, beside each state what is true in it; both are asked
 * at every transition.
 *
 * The state of a device with a back-end follows from its rings, and shadow_state_settle() is the
 * one place that looks at them; but not of one that was lost or given up, which only its
 * connections' end and new ones change.  That it is given up nobody is told.
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
#include "virtio/feature_bits.h"

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
		[UMBRA_DEVICE_HELD] = "held",
	};

	return (size_t)state < ARRAY_SIZE(names) ? names[state] : "unknown";
}

/* --- what is true ----------------------------------------------------------- */

static bool has_backend(const struct shadow_device *d)
{
	return d->backend;
}

static bool has_no_backend(const struct shadow_device *d)
{
	return !d->backend && !lanes_any(d->lanes, lane_is_at_backend);
}

static bool has_no_ring_there(const struct shadow_device *d)
{
	return !lanes_any(d->lanes, lane_is_at_backend);
}

static bool has_backend_alone(const struct shadow_device *d)
{
	return d->backend && !lanes_any(d->lanes, lane_is_at_backend);
}

static bool none_runs(const struct shadow_device *d)
{
	return d->backend && !lanes_any(d->lanes, lane_runs) &&
	       !lanes_any(d->lanes, lane_is_broken);
}

/* Rings run, and none but a control queue that is followed, which always is between, in the
 * @other way. */
static bool all_run(const struct shadow_device *d, bool (*other)(const struct lane *r))
{
	if (!d->backend || !lanes_any(d->lanes, lane_runs) || lanes_any(d->lanes, lane_is_broken))
		return false;
	for (unsigned int i = 0; i < lanes_count(d->lanes); i++)
		if (other(lane_at(d->lanes, i)) && !lane_is_followed(lane_at(d->lanes, i)))
			return false;
	return true;
}

static bool all_pass(const struct shadow_device *d)
{
	return all_run(d, lane_is_shadowed);
}

static bool all_are_shadowed(const struct shadow_device *d)
{
	return all_run(d, lane_is_passed);
}

static bool has_absent_one(const struct shadow_device *d)
{
	return d->backend == &d->hold.absent.device && !lanes_any(d->lanes, lane_is_at_backend);
}

static bool one_is_broken(const struct shadow_device *d)
{
	return d->backend && lanes_any(d->lanes, lane_is_broken);
}

/* --- the table -------------------------------------------------------------- */

#define NEVER (-1) /* an error of ours: it is logged, and the event has its way */
#define WAITING UMBRA_DEVICE_WAITING
#define NEGOTIATING UMBRA_DEVICE_NEGOTIATING
#define PASSTHROUGH UMBRA_DEVICE_PASSTHROUGH
#define SHADOWED UMBRA_DEVICE_SHADOWED
#define SWITCHING UMBRA_DEVICE_SWITCHING
#define LOST UMBRA_DEVICE_BACKEND_LOST
#define BROKEN UMBRA_DEVICE_BROKEN
#define GIVEN_UP SHADOW_STATE_GIVEN_UP
#define HELD UMBRA_DEVICE_HELD

static const struct {
	const char *name;
	bool (*must_be)(const struct shadow_device *d); /* when it is said */
	unsigned int leads_to;                          /* where nothing else is said below */
} events[DEVICE_EVENTS] = {
	[DEVICE_AWAITS] = { "a back-end will come", has_no_backend, WAITING },
	[DEVICE_ATTACHED] = { "a back-end has come", has_backend_alone, NEGOTIATING },
	[DEVICE_IDLE] = { "no ring runs", has_backend, NEGOTIATING },
	[DEVICE_PASSES] = { "rings are passed through", has_backend, PASSTHROUGH },
	[DEVICE_SHADOWS] = { "rings are shadowed", has_backend, SHADOWED },
	[DEVICE_BREAKS] = { "a ring is broken", has_backend, BROKEN },
	[DEVICE_SWITCHES] = { "rings are being switched", has_backend, SWITCHING },
	[DEVICE_HELD] = { "the back-end is lost, and waited for", has_absent_one, HELD },
	[DEVICE_RETURNED] = { "another back-end has taken its place", has_backend, NEGOTIATING },
	[DEVICE_LOST] = { "the back-end is lost", has_no_ring_there, LOST },
	[DEVICE_GIVES_UP] = { "nobody waits for the back-end", has_backend_alone, GIVEN_UP },
	[DEVICE_LEFT] = { "the connections are closed", has_no_backend, WAITING },
};

/*
 * The columns are the events, in their order.  A device that was lost keeps its reason when the
 * connections end, for whoever asks why; what its rings look like says nothing any more.
 */
static const struct {
	bool (*holds)(const struct shadow_device *d); /* whenever nobody is inside a call of it */
	signed char next[DEVICE_EVENTS];
} states[] = {
	[WAITING] = { has_no_backend,
		      { WAITING, NEGOTIATING, NEVER, NEVER, NEVER, NEVER, NEVER, NEVER, NEVER, LOST,
			NEVER, WAITING } },
	[NEGOTIATING] = { none_runs,
			  { NEVER, NEVER, NEGOTIATING, PASSTHROUGH, SHADOWED, BROKEN, SWITCHING,
			    HELD, NEVER, LOST, GIVEN_UP, WAITING } },
	/* What is passed through cannot be held. */
	[PASSTHROUGH] = { all_pass,
			  { NEVER, NEVER, NEGOTIATING, PASSTHROUGH, SHADOWED, BROKEN, SWITCHING,
			    NEVER, NEVER, LOST, GIVEN_UP, WAITING } },
	[SHADOWED] = { all_are_shadowed,
		       { NEVER, NEVER, NEGOTIATING, PASSTHROUGH, SHADOWED, BROKEN, SWITCHING, HELD,
			 NEVER, LOST, GIVEN_UP, WAITING } },
	[SWITCHING] = { has_backend,
			{ NEVER, NEVER, NEGOTIATING, PASSTHROUGH, SHADOWED, BROKEN, SWITCHING, HELD,
			  NEVER, LOST, GIVEN_UP, WAITING } },
	[LOST] = { has_no_ring_there,
		   { WAITING, NEGOTIATING, LOST, LOST, LOST, LOST, LOST, LOST, LOST, LOST, LOST,
		     LOST } },
	[BROKEN] = { one_is_broken,
		     { NEVER, NEVER, NEGOTIATING, PASSTHROUGH, SHADOWED, BROKEN, SWITCHING, HELD,
		       NEVER, LOST, GIVEN_UP, WAITING } },
	[GIVEN_UP] = { has_no_ring_there,
		       { NEVER, NEGOTIATING, GIVEN_UP, GIVEN_UP, GIVEN_UP, GIVEN_UP, GIVEN_UP,
			 NEVER, NEVER, LOST, GIVEN_UP, WAITING } },
	/* Rings come and go in it, and one may break.  Another back-end may be given up. */
	[HELD] = { has_absent_one,
		   { NEVER, NEVER, HELD, NEVER, NEVER, HELD, NEVER, HELD, NEGOTIATING, LOST,
		     GIVEN_UP, WAITING } },
};

int shadow_state_after(unsigned int state, enum device_event event)
{
	return states[state].next[event];
}

bool shadow_state_holds(const struct shadow_device *d)
{
	return states[d->state].holds(d);
}

static void state_set(struct shadow_device *d, enum umbra_device_state state, const char *reason)
{
	struct umbra_event event = {
		.kind = UMBRA_EVENT_STATE,
		.from = d->seen,
		.to = state,
	};

	d->state = state;
	if (state == d->seen && !strcmp(reason, d->reason))
		return;
	d->seen = state;
	snprintf(d->reason, sizeof(d->reason), "%s", reason);
	event.reason = d->reason;
	d->host->ops->event(d->host, &event);
}

void shadow_state_note(struct shadow_device *d, enum device_event event, const char *reason)
{
	int next = shadow_state_after(d->state, event);

	if (next == NEVER || !events[event].must_be(d)) {
		log_error("the device is %s, and %s: that should not be",
			  umbra_device_state_name(d->seen), events[event].name);
		next = events[event].leads_to;
	}
	/* Its reason is why it was lost, until it is lost anew. */
	if (next == (int)LOST && event != DEVICE_LOST)
		return;
	if (next == (int)GIVEN_UP) {
		d->state = GIVEN_UP;
		return;
	}
	state_set(d, (enum umbra_device_state)next, reason);
}

void shadow_state_settle(struct shadow_device *d)
{
	enum device_event seen = DEVICE_IDLE;
	const char *reason = "";

	if (!d->backend || shadow_is_held(d))
		return;
	for (unsigned int i = 0; i < lanes_count(d->lanes); i++) {
		const struct lane *r = lane_at(d->lanes, i);

		if (lane_is_broken(r)) {
			seen = DEVICE_BREAKS;
			reason = lane_error(r);
			break;
		}
		if (lane_is_wanted(r) && seen == DEVICE_IDLE)
			reason = d->start_error;
		/* Always between, it says nothing of the mode, unless it is alone. */
		if (lane_is_followed(r) && seen == DEVICE_IDLE)
			seen = d->shadow_wanted ? DEVICE_SHADOWS : DEVICE_PASSES;
		if (lane_is_followed(r))
			continue;
		if (lane_is_passed(r))
			seen = DEVICE_PASSES;
		else if (lane_is_shadowed(r))
			seen = DEVICE_SHADOWS;
	}
	if (seen == DEVICE_PASSES || seen == DEVICE_SHADOWS)
		reason = "";
	shadow_state_note(d, seen, reason);
}

/* --- what all ask ----------------------------------------------------------- */

bool shadow_control_is_ring(const struct shadow_device *d, const struct lane *r)
{
	return shadow_has_features(d) && shadow_control_follows(d, d->guest_features) &&
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
		.from = d->seen,
		.to = d->seen,
		.reason = lane_error(r),
	};

	log_error("queue %u is broken and stays still until the driver resets it: %s",
		  lane_index(r), lane_error(r));
	d->host->ops->event(d->host, &event);
	if (d->protocol_features &
	    BIT64(VHOST_USER_PROTOCOL_F_STATUS)) /* NEEDS_RESET is to be read */
		device_host_config_changed(d->host->device);
}

struct lane_context shadow_lanes_context(const struct shadow_device *d)
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
		.loss = d->hold.type ? (struct loss_terms *)&d->hold.loss : NULL,
		.broke = broken_report,
		.device = (struct shadow_device *)d,
	};
}

enum lane_kind shadow_lanes_kind(const struct shadow_device *d, const struct lane *r, bool shadowed)
{
	if (shadow_control_is_ring(d, r))
		return LANE_FOLLOWED;
	return shadowed ? LANE_SHADOWED : LANE_PASSED;
}

void shadow_lanes_discard(struct shadow_device *d)
{
	for (unsigned int i = 0; i < lanes_count(d->lanes); i++) {
		struct lane_context c = shadow_lanes_context(d);

		lane_discard(lane_at(d->lanes, i), &c);
	}
}

int shadow_backend_check(const struct shadow_device *d, struct umbra_error *err)
{
	if (!d->backend || d->state == UMBRA_DEVICE_BACKEND_LOST)
		return error_set(err, -ECONNRESET, "there is no back-end: %s", d->reason);
	if (d->state == GIVEN_UP)
		return error_set(err, -ECANCELED, "the back-end is no longer waited for");
	return 0;
}

void shadow_lanes_break(struct shadow_device *d, struct lane *r, const char *reason)
{
	struct lane_context c = shadow_lanes_context(d);

	lane_break(r, &c, reason);
}
