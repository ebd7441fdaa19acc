/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A device between a front-end and a back-end: what its guest has said on the control
 * queue, and how long that is true.
 *
 * Theory of operation.  Only a network device that is stopped as a whole needs to be
 * followed: it forgets at each stop (shadow_start.c tells it again).  A vhost-user
 * back-end keeps what it knows, and its control queue is a ring like any other.
 *
 * What was said is forgotten when the guest must have forgotten it, too: another
 * front-end, other features, or a control queue that starts with nothing on its
 * ring, since a driver that has reset its device begins at 0.  A status of 0 means
 * nothing: VMMs also say it when they merely stop a machine, whose driver goes on
 * afterwards and says nothing again.  (A driver whose machine is stopped after
 * exactly 65536 commands, or a multiple, is taken for one that begins anew.)
 *
 * A machine that comes from elsewhere goes on as well.  What its guest has said can
 * be loaded before its rings start, also before there is a front-end; then it waits
 * for the features that it must fit.
 *
 * Threads: the device's, but for shadow_device_look_control().  While the ring is served,
 * the state belongs to the thread that serves it.
 */
#include <errno.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "device/shadow_device_private.h"
#include "umbra/shadow_device.h"

/* As long as the configuration space was before RSS was invented. */
#define CONFIG_SHORT_BYTES 12u

void shadow_control_init(struct shadow_device *d)
{
	struct shadow_control *c = &d->control;

	c->ring = (struct ring_control){
		.terms = &c->terms,
		.state = &c->state,
		.counters = &c->counters,
		.view = &c->view,
	};
	net_control_show(&c->view, &c->state);
}

static void loaded_drop(struct shadow_control *c)
{
	free(c->loaded);
	c->loaded = NULL;
	c->loaded_bytes = 0;
}

void shadow_control_fini(struct shadow_device *d)
{
	loaded_drop(&d->control);
}

bool shadow_control_find(struct shadow_device *d)
{
	struct umbra_backend_info info = { 0 };

	if (shadow_backend_runs_as_one(d))
		d->backend->ops->info(d->backend, &info);
	d->control.is_net = info.device_id == VIRTIO_ID_NET;
	return d->control.is_net;
}

static struct lane *control_ring_find(struct shadow_device *d)
{
	for (unsigned int i = 0; i < lanes_count(d->lanes); i++)
		if (shadow_control_is_ring(d, lane_at(d->lanes, i)))
			return lane_at(d->lanes, i);
	return NULL;
}

/* --- how long it is true --------------------------------------------------- */

/* Nobody knows any more what the guest has said. */
static void control_forget(struct shadow_device *d)
{
	struct shadow_control *c = &d->control;

	memset(&c->state, 0, sizeof(c->state));
	c->is_known = false;
	net_control_show(&c->view, &c->state);
}

/* Under which terms a guest with @features speaks. */
static int terms_read(struct shadow_device *d, uint64_t features, struct net_control_terms *terms,
		      struct umbra_error *err)
{
	static const uint32_t sizes[] = { NET_CONTROL_CONFIG_BYTES, CONFIG_SHORT_BYTES };
	uint8_t config[NET_CONTROL_CONFIG_BYTES];
	int rc = -EOPNOTSUPP;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		rc = d->backend->ops->get_config(d->backend, 0, config, sizes[i], err);
		if (!rc)
			*terms = net_control_terms_from_config(features, config, sizes[i]);
		if (!rc || backend_is_lost(rc))
			break;
	}
	return shadow_backend_judge(d, rc, err);
}

/* Also what another front-end begins with. */
int shadow_control_negotiate(struct shadow_device *d, uint64_t features, struct umbra_error *err)
{
	struct shadow_control *c = &d->control;
	int rc;

	if (!shadow_control_follows(d, features)) {
		control_forget(d);
		return 0;
	}
	rc = terms_read(d, features, &c->terms, err);
	control_forget(d);
	if (rc || !c->loaded)
		return rc;
	rc = net_control_load(&c->state, &c->terms, c->loaded, c->loaded_bytes, err);
	if (rc)
		return rc;
	c->is_known = true;
	net_control_show(&c->view, &c->state);
	loaded_drop(c);
	return 0;
}

void shadow_control_begins(struct shadow_device *d, const struct lane *r)
{
	struct shadow_control *c = &d->control;

	if (lane_is_new_to_guest(r)) {
		control_forget(d);
		c->is_known = true;
	} else if (!c->is_known) {
		log_warning("queue %u: the guest's control queue goes on at index %u, and what was "
			    "said there before is not known: the device is not told it again "
			    "(x-load-control-state would)",
			    lane_index(r), lane_front(r)->base.avail);
		c->is_known = true; /* said once */
	}
}

/* --- telling it again ------------------------------------------------------- */

struct lane *shadow_control_replayer(struct shadow_device *d)
{
	struct lane *r = control_ring_find(d);

	if (!shadow_backend_runs_as_one(d) || net_control_is_empty(&d->control.state))
		return NULL;
	if (r && lane_is_wanted(r) && lane_front(r)->enabled)
		return r;
	log_warning("the control queue does not run: the device starts without what the guest told "
		    "it there");
	return NULL;
}

/* --- saving and loading ------------------------------------------------------ */

int shadow_device_save_control(struct shadow_device *d, uint8_t **bytes, size_t *size,
			       struct umbra_error *err)
{
	struct lane *r = control_ring_find(d);
	struct lane_context context;
	bool is_served = r && lane_is_served(r);

	if (!shadow_has_features(d) || !shadow_control_follows(d, d->guest_features))
		return error_set(err, -EOPNOTSUPP,
				 "there is no control queue that is followed: that takes a vDPA "
				 "network device, and a guest that took VIRTIO_NET_F_CTRL_VQ (17)");
	if (is_served) {
		context = shadow_lanes_context(d);
		lane_pause(r, &context);
	}
	*size = net_control_saved_bytes(&d->control.state);
	*bytes = malloc(*size);
	if (*bytes)
		net_control_save(&d->control.state, *bytes);
	if (is_served && lane_unpause(r, &context, err))
		shadow_lanes_break(d, r, err->text);
	return *bytes ? 0
		      : error_set(err, -ENOMEM, "no memory for a saved state of %zu bytes", *size);
}

/* Whatever a device may be able to: a state that is refused under these is no state. */
static const struct net_control_terms widest = {
	.features = UINT64_MAX,
	.max_pairs = 0x8000,
	.rss_key_max = UINT8_MAX,
	.rss_table_max = NET_CONTROL_RSS_TABLE_MAX,
	.hash_types = UINT32_MAX,
};

int shadow_device_load_control(struct shadow_device *d, const uint8_t *bytes, size_t size,
			       struct umbra_error *err)
{
	struct shadow_control *c = &d->control;
	const struct lane *r = control_ring_find(d);
	bool is_now = shadow_has_features(d) && shadow_control_follows(d, d->guest_features);
	struct net_control *state;
	uint8_t *copy;
	int rc;

	if (d->backend && !shadow_control_find(d))
		return error_set(
			err, -EOPNOTSUPP,
			"the back-end is no vDPA network device: nothing would be told it");
	if (r && !lane_is_stopped(r))
		return error_set(
			err, -EALREADY,
			"queue %u: the guest's control queue has been started; its state is "
			"loaded before that",
			lane_index(r));
	state = malloc(sizeof(*state));
	copy = malloc(size ? size : 1);
	if (!state || !copy) {
		rc = error_set(err, -ENOMEM, "no memory for a saved state of %zu bytes", size);
	} else {
		memcpy(copy, bytes, size);
		rc = net_control_load(state, is_now ? &c->terms : &widest, copy, size, err);
	}
	if (!rc && is_now) {
		c->state = *state;
		c->is_known = true;
		net_control_show(&c->view, &c->state);
	} else if (!rc) {
		loaded_drop(c);
		c->loaded = copy;
		c->loaded_bytes = size;
		copy = NULL;
	}
	free(state);
	free(copy);
	return rc;
}

/* --- for people -------------------------------------------------------------- */

static enum umbra_net_mode mode_of(const struct net_control_summary *sum, unsigned int mode)
{
	if (!(sum->modes_said & 1u << mode))
		return UMBRA_NET_MODE_UNSAID;
	return sum->modes_on & 1u << mode ? UMBRA_NET_MODE_ON : UMBRA_NET_MODE_OFF;
}

void shadow_device_look_control(const struct shadow_device *d, struct umbra_net_control_info *info)
{
	const struct control_counters *n = &d->control.counters;
	struct net_control_summary sum = net_control_look(&d->control.view);

	_Static_assert(UMBRA_NET_MODES == NET_RX_MODES, "one word for each receive mode");
	for (unsigned int mode = 0; mode < UMBRA_NET_MODES; mode++)
		info->modes[mode] = mode_of(&sum, mode);
	info->has_mac = sum.has_mac;
	memcpy(info->mac, sum.mac, sizeof(info->mac));
	info->has_filter = sum.has_table;
	info->unicast = sum.unicast;
	info->multicast = sum.multicast;
	info->vlans = sum.vlans;
	info->queue_pairs = sum.pairs;
	info->has_rss = sum.has_rss;
	info->rss_entries = sum.rss_entries;
	info->rss_hash_types = sum.rss_types;
	info->has_hash = sum.has_hash;
	info->hash_types = sum.hash_types;
	info->has_offloads = sum.has_offloads;
	info->offloads = sum.offloads;
	info->has_coalesce_rx = sum.has_coal_rx;
	info->has_coalesce_tx = sum.has_coal_tx;
	info->coalesce_rx = (struct umbra_net_coalesce){ sum.coal_rx_packets, sum.coal_rx_us };
	info->coalesce_tx = (struct umbra_net_coalesce){ sum.coal_tx_packets, sum.coal_tx_us };
	info->accepted = __atomic_load_n(&n->accepted, __ATOMIC_RELAXED);
	info->refused = __atomic_load_n(&n->refused, __ATOMIC_RELAXED);
	info->failed = __atomic_load_n(&n->failed, __ATOMIC_RELAXED);
	info->replayed = __atomic_load_n(&n->replayed, __ATOMIC_RELAXED);
}

/* What the device's thread alone knows: whether there is one. */
void shadow_control_info(const struct shadow_device *d, struct umbra_net_control_info *info)
{
	info->is_followed = shadow_has_features(d) && shadow_control_follows(d, d->guest_features);
	info->is_waiting = d->control.loaded != NULL;
}
