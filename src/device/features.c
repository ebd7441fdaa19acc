/* SPDX-License-Identifier: BSD-2-Clause */
/* Feature negotiation: see features.h. */
#include "device/features.h"

#include <errno.h>
#include <linux/vhost_types.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "net/net_control.h"
#include "virtio/feature_bits.h"
#include "virtio/feature_names.h"

#define TRANSPORT_FIRST 24u
#define TRANSPORT_LAST 49u /* virtio 1.2, section 6: bits 24-49 are not the device type's */

#define F_PLATFORM BIT64(VIRTIO_F_ACCESS_PLATFORM)

/* What becomes of a bit of ring or transport. */
enum treatment {
	MASK, /* never offered */
	PASS, /* offered if the back-end offers it; both sides get what the guest took */
	OWN,  /* the shadow can do it by itself on either side */
	REQUIRED,
	PLATFORM, /* between shadow and back-end alone: see features.h */
};

struct feature_rule {
	unsigned int bit;
	enum treatment treatment;
	const char *reason; /* why it is dropped, when it is */
};

static const struct feature_rule rules[] = {
	{ VIRTIO_F_NOTIFY_ON_EMPTY, MASK, "a legacy notification rule, replaced by EVENT_IDX" },
	{ VHOST_F_LOG_ALL, MASK, "the back-end's dirty log would miss what the shadow writes" },
	{ VIRTIO_F_ANY_LAYOUT, PASS, NULL },
	{ VIRTIO_RING_F_INDIRECT_DESC, OWN, NULL },
	{ VIRTIO_RING_F_EVENT_IDX, OWN, NULL },
	{ VHOST_USER_F_PROTOCOL_FEATURES, OWN, NULL },
	{ VIRTIO_F_VERSION_1, REQUIRED, NULL },
	{ VIRTIO_F_ACCESS_PLATFORM, PLATFORM, NULL },
	{ VIRTIO_F_RING_PACKED, MASK, "the shadow reads split rings" },
	{ VIRTIO_F_IN_ORDER, PASS, NULL },
	{ VIRTIO_F_ORDER_PLATFORM, PASS, NULL },
	{ VIRTIO_F_SR_IOV, MASK, "a PCI matter between guest and VMM" },
	{ VIRTIO_F_NOTIFICATION_DATA, MASK, "an eventfd cannot carry the data" },
	{ VIRTIO_F_NOTIF_CONFIG_DATA, MASK, "an eventfd cannot carry the data" },
	{ VIRTIO_F_RING_RESET, PASS, NULL },
	{ VIRTIO_F_ADMIN_VQ, MASK, "administration of a group is not forwarded" },
};

static const struct feature_rule *rule_find(unsigned int bit)
{
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++)
		if (rules[i].bit == bit)
			return &rules[i];
	return NULL;
}

/* Whether the shadow's own ability stands in for the back-end's. */
static bool is_own(const struct feature_rule *rule, enum umbra_shadow_mode mode)
{
	if (rule->treatment != OWN)
		return false;
	/* The protocol's bit concerns one connection, not the rings. */
	return rule->bit == VHOST_USER_F_PROTOCOL_FEATURES || mode == UMBRA_SHADOW_ON;
}

static bool passes(const struct feature_rule *rule)
{
	return rule && rule->treatment != MASK && rule->treatment != PLATFORM;
}

static const char *drop_reason(const struct features_in *in, const struct feature_rule *rule)
{
	if (!rule)
		return "not known to the shadow, so what it changes could not be forwarded";
	if (rule->treatment != PLATFORM)
		return rule->reason;
	return in->maps ? "the shadow maps the guest's memory for the device, and takes the bit "
			  "itself; the guest's own descriptors stay guest-physical"
			: "descriptors would hold IO virtual addresses, which needs a vIOMMU";
}

static void offer_drop(struct features_out *out, unsigned int bit, const char *name,
		       const char *reason)
{
	out->offer &= ~BIT64(bit);
	out->drops[out->drop_count++] = (struct feature_drop){ bit, name, reason };
}

/* Of the device's own bits, those that bring commands which nobody could say again. */
static void offer_followed(const struct features_in *in, struct features_out *out)
{
	uint64_t followed = net_control_followed_features();

	if (!in->follows_control || !(in->backend & BIT64(VIRTIO_NET_F_CTRL_VQ)))
		return;
	for (unsigned int bit = 0; bit < 64; bit++)
		if ((bit < TRANSPORT_FIRST || bit > TRANSPORT_LAST) &&
		    in->backend & ~followed & BIT64(bit))
			offer_drop(out, bit, "bit", "its control commands are not followed");
}

/* What the guest is offered, and what is dropped on the way. */
static void offer_make(const struct features_in *in, struct features_out *out)
{
	out->offer = in->backend;
	for (unsigned int bit = TRANSPORT_FIRST; bit <= TRANSPORT_LAST; bit++) {
		const struct feature_rule *rule = rule_find(bit);

		if (rule && is_own(rule, in->mode)) {
			out->offer |= BIT64(bit);
		} else if (in->backend & BIT64(bit) && !passes(rule)) {
			offer_drop(out, bit, rule ? virtio_feature_name(bit) : "bit",
				   drop_reason(in, rule));
		}
	}
	offer_followed(in, out);
}

/* Given what the guest took, what the back-end is told in each mode. */
static void answers_make(const struct features_in *in, struct features_out *out)
{
	const uint64_t own_ring =
		BIT64(VIRTIO_RING_F_INDIRECT_DESC) | BIT64(VIRTIO_RING_F_EVENT_IDX);
	uint64_t guest = in->guest & ~BIT64(VHOST_USER_F_PROTOCOL_FEATURES);
	uint64_t lacking = guest & ~in->backend;

	out->passthrough = guest & in->backend;
	out->shadowed = guest & in->backend;
	if (in->mode == UMBRA_SHADOW_ON)
		out->shadowed |= in->backend & own_ring;
	if (in->guest & in->backend & BIT64(VHOST_USER_F_PROTOCOL_FEATURES)) {
		out->passthrough |= BIT64(VHOST_USER_F_PROTOCOL_FEATURES);
		out->shadowed |= BIT64(VHOST_USER_F_PROTOCOL_FEATURES);
	}
	if (in->maps) {
		out->passthrough |= F_PLATFORM;
		out->shadowed |= F_PLATFORM;
	}
	out->shadow_ring = out->shadowed & (own_ring | BIT64(VIRTIO_F_IN_ORDER));

	out->can_passthrough = in->mode != UMBRA_SHADOW_ON && !lacking;
	out->can_shadow = in->mode != UMBRA_SHADOW_OFF;
	if (!out->can_shadow)
		snprintf(out->why_not, sizeof(out->why_not),
			 "the shadow is switched off for this device (shadow=off)");
	else if (!out->can_passthrough)
		snprintf(out->why_not, sizeof(out->why_not),
			 "the device is always shadowed (shadow=on): its rings may have features "
			 "that the back-end lacks");
}

/* A legacy driver's ring can be passed through unseen, and nothing else. */
static int legacy_check(const struct features_in *in, struct features_out *out,
			struct umbra_error *err)
{
	if (in->guest & BIT64(VIRTIO_F_VERSION_1))
		return 0;
	if (in->follows_control && in->guest & BIT64(VIRTIO_NET_F_CTRL_VQ))
		return error_set(
			err, -EOPNOTSUPP,
			"the guest took VIRTIO_NET_F_CTRL_VQ (17) without "
			"VIRTIO_F_VERSION_1 (32): the control queue is followed, and that of "
			"a legacy driver has no defined byte order");
	if (in->mode == UMBRA_SHADOW_OFF)
		return 0;
	out->can_shadow = false;
	snprintf(out->why_not, sizeof(out->why_not),
		 "the guest did not take VIRTIO_F_VERSION_1 (32): rings of a legacy driver have no "
		 "defined byte order");
	if (in->mode == UMBRA_SHADOW_ON)
		return error_set(err, -EOPNOTSUPP, "%s", out->why_not);
	return 0;
}

int features_negotiate(const struct features_in *in, struct features_out *out,
		       struct umbra_error *err)
{
	uint64_t extra;

	*out = (struct features_out){ 0 };
	if (!(in->backend & BIT64(VIRTIO_F_VERSION_1)))
		return error_set(
			err, -EOPNOTSUPP,
			"the back-end offers features 0x%llx without VIRTIO_F_VERSION_1 (32): "
			"rings of a legacy device have no defined byte order",
			(unsigned long long)in->backend);
	if (in->maps && !(in->backend & F_PLATFORM))
		return error_set(
			err, -EOPNOTSUPP,
			"the back-end offers features 0x%llx without VIRTIO_F_ACCESS_PLATFORM "
			"(33): it would take the guest's addresses for the machine's own, although "
			"it is to use those that memory is mapped at for it",
			(unsigned long long)in->backend);
	offer_make(in, out);
	if (!in->guest_answered)
		return 0;

	extra = in->guest & ~out->offer;
	if (extra) {
		unsigned int bit = (unsigned int)__builtin_ctzll(extra);
		const char *name = virtio_feature_name(bit);

		return error_set(err, -EINVAL,
				 "the front-end set feature bit %u (%s), which was not offered "
				 "(offered: 0x%llx)",
				 bit, name ? name : "of the device type",
				 (unsigned long long)out->offer);
	}
	answers_make(in, out);
	return legacy_check(in, out, err);
}

char *features_drops_text(const struct features_out *out, char *text, size_t size)
{
	size_t used = 0;

	text[0] = '\0';
	for (unsigned int i = 0; i < out->drop_count && used < size; i++) {
		const struct feature_drop *drop = &out->drops[i];
		int n = snprintf(text + used, size - used, "%s%s (%u): %s", i ? "; " : "",
				 drop->name, drop->bit, drop->reason);

		if (n < 0)
			break;
		used += (size_t)n;
	}
	return text;
}
