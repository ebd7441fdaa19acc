/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The inside of a shadow device, shared by shadow_device.c (messages) and
 * shadow_switch.c (modes).
 */
#ifndef UMBRA_SHADOW_SHADOW_DEVICE_PRIVATE_H
#define UMBRA_SHADOW_SHADOW_DEVICE_PRIVATE_H

#include "shadow/features.h"
#include "shadow/shadow_device.h"
#include "shadow/shadow_ring.h"

#define QUEUES_DEFAULT 16u /* assumed where the back-end does not say (no MQ) */

struct shadow_device {
	struct shadow_host *host;
	struct backend *backend; /* borrowed; NULL: not connected */
	enum umbra_shadow_mode mode;
	uint64_t deadline_us; /* longest wait for chains in flight */

	enum umbra_device_state state;
	char reason[UMBRA_ERROR_SIZE];

	/* Negotiated. */
	bool has_features; /* SET_FEATURES has come */
	uint64_t backend_features, guest_features, protocol_features;
	struct features_out features;

	/* Memory. */
	struct memory *memory;            /* the guest's, or NULL */
	struct memory_region own;         /* ours, at the back-end; backing NULL: none */
	bool own_sent;                    /* the back-end has it in its table */
	uint64_t slots_max;               /* regions that the back-end takes; 0: not asked yet */
	char no_shadow[UMBRA_ERROR_SIZE]; /* why the memory allows no shadow; "" */

	bool shadow_wanted; /* the mode of the rings that run or will run */
	bool overdue;       /* the switch under way has been given up by who asked for it */
	uint64_t switches, switches_failed, last_pause_us, longest_pause_us;

	unsigned int ring_count; /* one more than the highest that was named */
	struct shadow_ring rings[UMBRA_QUEUES_MAX];
};

/* Record the state, and tell the host if it is a new one. */
void shadow_device_set_state(struct shadow_device *d, enum umbra_device_state state,
			     const char *reason);

/* Every message that needs the back-end begins here: -ECONNRESET. */
UMBRA_MUST_CHECK int shadow_device_check_backend(const struct shadow_device *d,
						 struct umbra_error *err);

/* The state that follows from the rings as they are. */
void shadow_device_settle(struct shadow_device *d);

/* Is any ring in this part of its life? */
bool shadow_device_any(const struct shadow_device *d, enum ring_run run);

/* What the ring's functions need; @slot is the caller's, for the piece of our
 * own memory that belongs to the ring. */
struct ring_context shadow_device_context(const struct shadow_device *d,
					  const struct shadow_ring *r, struct memory_region *slot);

/* 0, or -EOPNOTSUPP or -EPERM with the reason why the mode cannot be had. */
UMBRA_MUST_CHECK int shadow_device_check_mode(const struct shadow_device *d, bool shadowed,
					      struct umbra_error *err);

/* Halt ring @r and wait until it is drained, at most the deadline.
 * -ETIME: it did not drain.  0 with r->run RING_BROKEN: it was broken on the way. */
UMBRA_MUST_CHECK int shadow_device_quiesce(struct shadow_device *d, struct shadow_ring *r,
					   struct umbra_error *err);

/* Wait until ring @only (NULL: every ring that runs) is drained, if it is halted;
 * one whose peer lies meanwhile is broken.  -ETIME, -ECANCELED. */
UMBRA_MUST_CHECK int shadow_device_drain(struct shadow_device *d, const struct shadow_ring *only,
					 struct umbra_error *err);

/* @code means that the back-end's connection cannot be used any more. */
bool shadow_device_is_fatal(int code);

/* If @code is fatal, let go of all rings and enter BACKEND_LOST.  Returns @code. */
int shadow_device_lose(struct shadow_device *d, int code, const struct umbra_error *err);

/* Ring @r is broken, for @reason or (NULL) for what its queue found: let it be,
 * and report it everywhere. */
void shadow_device_break_ring(struct shadow_device *d, struct shadow_ring *r, const char *reason);

#endif
