/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Feature negotiation: what each side gets, and why a bit was dropped.
 *
 * One function for every moment and every kind of back-end.  Given what the
 * back-end offers, what the guest took of our offer (or that it has not
 * answered yet) and the mode that the operator chose, it says
 *
 *  - what is offered to the guest,
 *  - what the back-end is told while passed through and while shadowed,
 *  - whether either mode is impossible, and why,
 *  - which offered bits were dropped, each with a reason.
 *
 * Rules.  Bits of the device type (0-23, 50-63) pass.  Of the bits of ring and
 * transport (24-49) those in the table of features.c pass under its conditions;
 * one that is not there is not understood by the shadow and is masked, since
 * what it changes on a ring could not be forwarded.  VERSION_1 is required on
 * both sides: a legacy ring has the guest's byte order, which nobody tells us.
 *
 * ACCESS_PLATFORM says that the addresses in descriptors go through whatever
 * stands between the device and memory.  The guest never sees the bit: with it,
 * descriptors would hold the addresses of a vIOMMU, of which the shadow knows
 * nothing.  A back-end for which memory is mapped must offer it, and is told it
 * in both modes, whatever the guest says: without, it would take the guest's
 * addresses for the machine's own.  A passed-through ring bears that, where the
 * mapping shows each region where the guest sees it.
 *
 * A network device that forgets at each stop what its control queue said is offered
 * with it only if all is followed that can be said there (net_control.h).
 *
 * With UMBRA_SHADOW_AUTO both modes must stay possible, so the guest gets what
 * back-end and shadow both can do, and the back-end is told the same in both
 * modes: no SET_FEATURES is needed at a switch.  With UMBRA_SHADOW_ON, the
 * shadow's own abilities (EVENT_IDX, INDIRECT_DESC) are offered whatever the
 * back-end can do, and each side gets its own.  With UMBRA_SHADOW_OFF the offer
 * is the same as with _AUTO, so that a guest sees one device whatever the mode.
 *
 * Implements: virtio 1.2, sections 2.2 and 6; VHOST_F_LOG_ALL and
 * VHOST_USER_F_PROTOCOL_FEATURES of the vhost-user specification.
 */
#ifndef UMBRA_DEVICE_FEATURES_H
#define UMBRA_DEVICE_FEATURES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "umbra/error.h"
#include "umbra/shadow_device.h"

struct features_in {
	uint64_t backend;     /* offered by the back-end */
	bool maps;            /* memory is mapped for it (BACKEND_MAPS) */
	bool follows_control; /* a network device whose control queue is followed */
	enum umbra_shadow_mode mode;
	bool guest_answered;
	uint64_t guest; /* what the guest took, if it has answered */
};

struct feature_drop {
	unsigned int bit;
	const char *name; /* "VIRTIO_F_RING_PACKED", or "bit" */
	const char *reason;
};

#define FEATURE_DROPS_MAX 64u /* every bit */

struct features_out {
	uint64_t offer;                   /* to the guest */
	uint64_t passthrough;             /* to the back-end, passed through */
	uint64_t shadowed;                /* to the back-end, shadowed */
	uint64_t shadow_ring;             /* of `shadowed`, what the shadow ring uses */
	bool can_passthrough, can_shadow; /* with what the guest took */
	char why_not[UMBRA_ERROR_SIZE];   /* the mode that cannot be had; "" */
	unsigned int drop_count;
	struct feature_drop drops[FEATURE_DROPS_MAX];
};

/*
 * -EOPNOTSUPP: the back-end lacks what is required, or the guest did not take
 * it.  -EINVAL: the guest took a bit that was not offered.  @err names the bit.
 */
UMBRA_MUST_CHECK int features_negotiate(const struct features_in *in, struct features_out *out,
					struct umbra_error *err);

/* "VIRTIO_F_RING_PACKED (34): ...; ..." cut at @size.  Returns @text. */
char *features_drops_text(const struct features_out *out, char *text, size_t size);

#endif
