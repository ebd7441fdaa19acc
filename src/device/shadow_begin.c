/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Rings that are wanted come to run, or go on.
 *
 * Theory of operation.  Who says which, in which mode and when is shadow_start.c; here they
 * are judged, given their memory, handed to the back-end, and served.  What fails on the
 * way is taken back, and all that was to begin is WANTED again.
 *
 * A network device has forgotten what the guest told it on its control queue.  So its
 * other rings start disabled, it is told again, and only then they are enabled: no
 * packet goes where the guest did not want it.  What fails there stops the device
 * again, in order, and it counts as not started.
 *
 * Threads: the device's thread.
 */
#include <errno.h>
#include <linux/virtio_config.h>
#include <stdio.h>

#include "base/error.h"
#include "base/log.h"
#include "device/shadow_device_private.h"

/*
 * Break the rings that are about to start and cannot stand where their front-end says;
 * the others start without them.  What is wrong with the others their start says.
 */
static void rings_judge(struct shadow_device *d, const struct lane *only)
{
	for (unsigned int i = 0; i < lanes_count(d->lanes); i++) {
		struct lane *r = lane_at(d->lanes, i);
		struct lane_context c = shadow_lanes_context(d);
		struct umbra_error err;

		if (shadow_begin_includes(r, only) && lane_judge(r, &c, &err) == -EPROTO)
			shadow_lanes_break(d, r, err.text);
	}
}

static void rings_go(struct shadow_device *d)
{
	shadow_inflight_name(d);
	for (unsigned int i = 0; i < lanes_count(d->lanes); i++) {
		struct lane *r = lane_at(d->lanes, i);
		struct lane_context c = shadow_lanes_context(d);
		struct umbra_error err = { "" };

		if (lane_is_started(r) && lane_go(r, &c, &err))
			shadow_lanes_break(d, r, err.text);
	}
}

/* Tell the device again what it has forgotten, on @control, and let the others go. */
static int device_replay(struct shadow_device *d, struct lane *control, struct umbra_error *err)
{
	struct lane_context c = shadow_lanes_context(d);
	int rc = lane_replay(control, d->host, d->deadline_us, err);

	/* -EPROTO is for a queue that broke while the others run; here none of them does. */
	if (rc == -EPROTO)
		return -EREMOTEIO;
	for (unsigned int i = 0; i < lanes_count(d->lanes) && !rc; i++) {
		struct lane *r = lane_at(d->lanes, i);

		if (lane_is_started(r) && r != control)
			rc = lane_enable(r, &c, err);
	}
	return rc;
}

/* The device runs, but not as it should: stop it. */
static int device_ungo(struct shadow_device *d, struct umbra_error *err)
{
	struct lane_context c = shadow_lanes_context(d);
	int rc = lanes_quiesce(d->lanes, &c, NULL, true, err);

	if (rc && rc != -ETIME)
		return backend_is_lost(rc) ? rc
					   : error_prefix(err, -ECONNRESET,
							  "the device cannot be stopped in order");
	if (rc)
		log_error("%s; they are given up", err->text);
	lanes_finish(d->lanes, &c);
	return 0;
}

/* One in the place of a back-end that was lost is given nothing before it has heard all. */
static int status_return(struct shadow_device *d, struct umbra_error *err)
{
	uint8_t status = d->hold.learnt.status;

	if (!shadow_is_held(d) || !(status & VIRTIO_CONFIG_S_DRIVER_OK))
		return 0;
	return d->backend->ops->set_status(d->backend, status, err);
}

int shadow_begin_wanted(struct shadow_device *d, const struct lane *only, bool shadowed,
			struct umbra_error *err)
{
	struct lane_context c = shadow_lanes_context(d);
	struct umbra_error later = { "" };
	struct lane *control;
	bool any = false, runs = false;
	int rc = 0, back;

	rings_judge(d, only);
	control = shadow_control_replayer(d);
	rc = shadow_own_find(d, only, shadowed, err);
	for (unsigned int i = 0; i < lanes_count(d->lanes) && !rc; i++) {
		struct lane *r = lane_at(d->lanes, i);
		enum lane_kind kind = shadow_lanes_kind(d, r, shadowed);

		if (!shadow_begin_includes(r, only))
			continue;
		/* Where the device is told again first, only the control queue starts enabled. */
		rc = lane_start(r, &c, kind, !control || kind == LANE_FOLLOWED, err);
		any = true;
	}
	if (!rc && any && shadow_backend_runs_as_one(d)) {
		rc = d->backend->ops->device_start(d->backend, err);
		runs = !rc;
	}
	if (!rc && control)
		rc = device_replay(d, control, err);
	if (!rc)
		rc = status_return(d, err);
	if (!rc)
		rings_go(d);
	if (!rc || backend_is_lost(rc))
		return rc;
	back = runs ? device_ungo(d, &later) : lanes_take_back(d->lanes, &c, &later);
	if (back)
		*err = later;
	return back ? back : rc;
}

static bool is_halted(const struct lane *r)
{
	return lane_runs(r) && lane_is_halted(r);
}

int shadow_begin_again(struct shadow_device *d, struct umbra_error *err)
{
	struct lane_context c = shadow_lanes_context(d);

	if (!shadow_backend_runs_as_one(d) || !lanes_any(d->lanes, is_halted))
		return lanes_resume(d->lanes, &c, err);
	lanes_finish(d->lanes, &c);
	return shadow_begin_wanted(d, NULL, d->shadow_wanted, err);
}
