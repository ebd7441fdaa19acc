/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What of a device survives the death of this process: the in-flight region.
 *
 * Theory of operation.  Where every ring is shadowed for good, we know what the guest is owed,
 * and where a lost back-end's requests may be given to another one (shadow_hold.c), those of a
 * dead umbra may.  There the front-end is offered to keep them: it asks for memory once
 * (GET_INFLIGHT_FD), brings it at each start (SET_INFLIGHT_FD), and so brings to the next
 * umbra what the last one has written there (flight/region.h).  A ring's part of it is read when
 * the ring starts, since only then the guest's ring is there to judge it by.
 *
 * The dead must be dead here, too: the back-end of the dead umbra may be at it yet.
 * The region names its process.  Unless that is known to have ended, a device whose region has
 * flights that we do not know of is held at once, as if its back-end had just been lost, and
 * the host watches that process; the operator may say that it writes no more.
 *
 * Whoever the back-end is, its name is in the region before a ring is let go.  That is after the
 * one before was known to be dead, since the device was held until then.
 *
 * Ownership: the region is the front-end's, mapped as long as the lanes write to it.
 * Threads: the device's thread.
 * Trust: the memory is hostile: region.h, region_judge.h.
 * Implements: the vhost-user specification, "Inflight I/O tracking".
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "device/shadow_device_private.h"
#include "virtio/feature_bits.h"

/* NULL: it can be; else why not. */
static const char *why_not_offered(const struct shadow_device *d)
{
	if (d->mode != UMBRA_SHADOW_ON)
		return "it may be passed through, and of such a ring nobody knows what is in "
		       "flight (--shadow=on)";
	if (!d->hold.type)
		return "nobody has said that its requests may be given to a back-end again "
		       "(--reconnect, --device-type)";
	if (d->hold.loss.rule != LOSS_REPLAY)
		return "what is in flight at a death is not given to a back-end again "
		       "(--device-type, --on-loss)";
	if (d->backend && shadow_backend_runs_as_one(d))
		return "its back-end is the kernel's, and has no such region";
	return NULL;
}

uint64_t shadow_inflight_features(const struct shadow_device *d)
{
	return why_not_offered(d) ? 0 : BIT64(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD);
}

static int shape_check(const struct virtio_inflight *shape, struct umbra_error *err)
{
	if (!shape->queues || shape->queues > UMBRA_QUEUES_MAX)
		return error_set(err, -EINVAL, "in-flight region of %u queues; expected 1 to %u",
				 shape->queues, UMBRA_QUEUES_MAX);
	if (!shape->size || shape->size > SPLIT_SIZE_MAX)
		return error_set(err, -EINVAL,
				 "in-flight region of %u entries for each queue; expected 1 to %u",
				 shape->size, SPLIT_SIZE_MAX);
	return 0;
}

int shadow_get_inflight(struct virtio_device *self, const struct virtio_inflight *shape,
			struct memory_region *out, struct umbra_error *err)
{
	struct shadow_device *d = shadow_of(self);
	const char *why = why_not_offered(d);
	struct region_map map;
	int rc;

	if (why)
		return error_set(err, -EOPNOTSUPP, "no in-flight region: %s", why);
	rc = shape_check(shape, err);
	if (rc)
		return rc;
	rc = d->host->ops->make_memory(d->host, region_bytes(shape->queues, shape->size), out, err);
	if (rc)
		return error_prefix(err, rc, "in-flight region");
	region_map(&map, out->host, out->size, shape->queues, shape->size, true);
	return 0;
}

static bool is_running(const struct lane *r)
{
	return !lane_is_stopped(r) && !lane_is_wanted(r);
}

/* Who may be executing what is in flight, unless it is known that nobody is: @why.  True: somebody
 * may. */
static bool may_be_executed(struct shadow_device *d, unsigned int flights, struct umbra_error *why)
{
	struct process_mark peer;
	enum region_peer known = region_load_peer(&d->inflight.map, &peer);

	if (known == REGION_PEER_NOBODY)
		return false;
	if (known == REGION_PEER_UNKNOWN)
		peer = (struct process_mark){ 0 };
	if (d->host->ops->has_ended(d->host, &peer))
		return false;
	if (peer.pid)
		error_set(why, -EBUSY,
			  "an umbra died with %u requests at a back-end, process %" PRIu64
			  ", which may work on them yet",
			  flights, peer.pid);
	else
		error_set(why, -EBUSY,
			  "an umbra died with %u requests at a back-end of which the process is "
			  "not known, and which may work on them yet",
			  flights);
	return true;
}

/* What was just brought: has it flights that nobody may be given yet? */
static int flights_hold(struct shadow_device *d, struct umbra_error *err)
{
	unsigned int flights = 0;
	int rc;

	if (shadow_is_held(d))
		return 0;
	for (unsigned int i = 0; i < UMBRA_QUEUES_MAX; i++)
		flights += lane_unread_flights(lane_at(d->lanes, i));
	if (!flights || !may_be_executed(d, flights, err))
		return 0;
	rc = shadow_backend_judge(d, -ECONNRESET, err);
	d->hold.unsettled = flights;
	/* Asked again, the front-end's message finds a device that is held. */
	return rc;
}

int shadow_set_inflight(struct virtio_device *self, const struct virtio_inflight *shape,
			const struct memory_region *region, struct umbra_error *err)
{
	struct shadow_device *d = shadow_of(self);
	const char *why = why_not_offered(d);
	size_t least;
	int rc;

	if (why)
		return error_set(err, -EOPNOTSUPP, "no in-flight region: %s", why);
	rc = shape_check(shape, err);
	if (rc)
		return rc;
	least = region_queues_bytes(shape->queues, shape->size);
	if (region->size < least || (uintptr_t)region->host % REGION_ALIGN)
		return error_set(err, -EINVAL,
				 "in-flight region of %" PRIu64 " bytes for %u queues of %u "
				 "entries; expected at least %zu, at a multiple of %u",
				 region->size, shape->queues, shape->size, least, REGION_ALIGN);
	if (lanes_any(d->lanes, is_running))
		return error_set(err, -EBUSY, "another in-flight region, while queues run");
	shadow_inflight_fini(d);
	memory_backing_ref(region->backing);
	d->inflight.at = *region;
	region_map(&d->inflight.map, region->host, region->size, shape->queues, shape->size, false);
	for (unsigned int i = 0; i < UMBRA_QUEUES_MAX; i++)
		lane_bring_region(lane_at(d->lanes, i), region_queue_at(&d->inflight.map, i),
				  shape->size);
	return flights_hold(d, err);
}

void shadow_inflight_name(struct shadow_device *d)
{
	struct process_mark peer;

	if (!d->inflight.at.backing)
		return;
	d->host->ops->name_backend(d->host, &peer);
	region_store_peer(&d->inflight.map, &peer);
}

void shadow_inflight_fini(struct shadow_device *d)
{
	if (!d->inflight.at.backing)
		return;
	for (unsigned int i = 0; i < UMBRA_QUEUES_MAX; i++)
		lane_bring_region(lane_at(d->lanes, i), NULL, 0);
	memory_backing_unref(d->inflight.at.backing);
	d->inflight = (struct shadow_inflight){ .at = { .backing = NULL } };
}

bool shadow_device_region_is_cut(const struct shadow_device *d)
{
	const struct memory_backing *backing = d->inflight.at.backing;

	return backing && __atomic_load_n(&backing->cut, __ATOMIC_ACQUIRE);
}

void shadow_inflight_info(const struct shadow_device *d, struct umbra_shadow_info *info)
{
	const char *why = why_not_offered(d);
	unsigned int runs = 0, lacks = 0, first = 0;

	for (unsigned int i = lanes_count(d->lanes); i--;) {
		const struct lane *r = lane_at(d->lanes, i);

		if (!lane_runs(r) && !lane_is_wanted(r))
			continue;
		runs++;
		if (!lane_is_kept(r) && lane_runs(r)) {
			lacks++;
			first = i;
		}
	}
	info->survives_death = !why && d->inflight.at.backing && !lacks;
	info->death_reason[0] = '\0';
	if (info->survives_death)
		return;
	if (why)
		snprintf(info->death_reason, sizeof(info->death_reason), "%s", why);
	else if (!d->inflight.at.backing)
		snprintf(info->death_reason, sizeof(info->death_reason), "%s",
			 runs ? "the front-end keeps no in-flight region"
			      : "the front-end has not brought an in-flight region yet");
	else
		snprintf(info->death_reason, sizeof(info->death_reason),
			 "queue %u does not fit into the front-end's in-flight region, or has "
			 "chains that nobody knows",
			 first);
}
