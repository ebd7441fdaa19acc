/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A device that stands between a front-end and a back-end: its state machine.
 *
 * It is a virtio device to the front-end (shadow_device_virtio()), made of another one, the
 * back-end.  This file is what its owner asks of it: that it lives, who is there, and the
 * mode.  Every call that can fail fills @err; what comes from the back-end comes with that one's
 * codes (virtio_ops.h).  A failure leaves the device as it was unless the back-end is
 * gone, see shadow_device_state().
 *
 * Threads: one, the device's thread.
 * The theory of operation is at the top of shadow_device.c.
 */
#ifndef UMBRA_DEVICE_SHADOW_DEVICE_H
#define UMBRA_DEVICE_SHADOW_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "memory/memory.h"
#include "umbra/error.h"
#include "umbra/shadow_device.h"
#include "virtio/virtio_ops.h"

struct shadow_device;
struct shadow_host; /* what the state machine needs of the system: shadow_host.h */

/*
 * Make a device without front-end and back-end.  @host is borrowed.
 * @deadline_ms: longest wait for chains in flight when a ring stops.
 * -ENOMEM.
 */
UMBRA_MUST_CHECK int shadow_device_create(struct shadow_host *host, enum umbra_shadow_mode mode,
					  unsigned int deadline_ms, struct shadow_device **out);
void shadow_device_destroy(struct shadow_device **device);

/* What it is to a front-end, and to its session, which says by it who has come and gone. */
struct virtio_device *shadow_device_virtio(struct shadow_device *d);

/* Both connections are closed: wait for the next front-end.  @lost_reason: why
 * there is no back-end; NULL: the front-end went.  Only this tells the host, so
 * that who hears of it finds nothing of the former two left. */
void shadow_device_await(struct shadow_device *d, const char *lost_reason);
/* A front-end is there, and the back-end will come by itself: WAITING, whatever was lost. */
void shadow_device_wait(struct shadow_device *d);

/* Before a back-end is attached: the longest indirect table that a guest may build, in
 * descriptors, where it is longer than its ring.  The default is SHADOW_TABLE_MAX. */
void shadow_device_limit_tables(struct shadow_device *d, uint32_t table_max);

/* Likewise: our own memory that the back-end maps, in bytes, whole pages, at the most; and from
 * the start where it can get no more later.  See shadow_own.c for what is so otherwise. */
void shadow_device_limit_memory(struct shadow_device *d, uint64_t bytes);

/*
 * A back-end that is lost is waited for, and its rings are held: shadow_hold.c.  Before one is
 * attached.  @type, a virtio device type, says what is done with a request of which nobody
 * knows whether it was done (lane/loss.h), unless @on_loss does.
 */
void shadow_device_hold_for(struct shadow_device *d, uint32_t type, enum umbra_on_loss on_loss);
/* The back-end's connection was found unusable, for @why.  True: the device is HELD. */
bool shadow_device_lose_backend(struct shadow_device *d, const struct umbra_error *why);
/* HELD: had the one that was lost served?  Then the next may be looked for at once; else after a
 * pause that grows. */
bool shadow_device_was_served(const struct shadow_device *d);
/* HELD: requests that the lost back-end may have done or not. */
unsigned int shadow_device_held(const struct shadow_device *d);
/* HELD: requests that it may yet work on, also such that nobody waits for any more: until there
 * are none, nothing may be given to another. */
unsigned int shadow_device_unsettled(const struct shadow_device *d);
/* HELD: may what waits be given to the next one?  -EAGAIN: the operator is asked first. */
UMBRA_MUST_CHECK int shadow_device_may_return(const struct shadow_device *d,
					      struct umbra_error *err);
/* That one's word.  -EINVAL: nobody is asked. */
UMBRA_MUST_CHECK int shadow_device_settle_loss(struct shadow_device *d, enum umbra_loss_word word,
					       struct umbra_error *err);
/* HELD: whoever was lost writes no more. */
void shadow_device_backend_is_dead(struct shadow_device *d);
/* HELD: since when, of the host's time. */
uint64_t shadow_device_held_since_us(const struct shadow_device *d);
/* HELD: nobody waits any longer, for @why: BACKEND_LOST. */
void shadow_device_end_hold(struct shadow_device *d, const struct umbra_error *why);
/*
 * The operator's hold: shadow_by_hand.c.  0: the device is HELD, and its back-end can be
 * destroyed.  -ETIME: the back-end did not give its rings back in time, and all goes on as before.
 * -EOPNOTSUPP: it cannot be held so.  -ECONNRESET, -ETIMEDOUT, -ECANCELED: as of virtio_ops.h; it
 * is lost.  @by_force: nothing is waited for.  If it is HELD already, only the reason changes.
 */
UMBRA_MUST_CHECK int shadow_device_hold(struct shadow_device *d, bool by_force,
					struct umbra_error *err);
/* From within a back-end's call: who asked for it has been told that it failed, for @reason.  It
 * will be undone when the back-end answers. */
void shadow_device_hold_overdue(struct shadow_device *d, const char *reason);
/* HELD: a back-end is looked for again. */
void shadow_device_release(struct shadow_device *d);
/*
 * HELD: @backend (borrowed), which was connected, takes the place of the lost one, unless it
 * has less than was promised to the guest (-EOPNOTSUPP), or as of virtio_ops.h.  Then the
 * device is HELD as before, and @backend can be destroyed; or, after -EINPROGRESS, be given
 * again when it owes no answer.  It is BACKEND_LOST where that one was lost with rings that
 * cannot be held.
 */
UMBRA_MUST_CHECK int shadow_device_return(struct shadow_device *d, struct virtio_device *backend,
					  struct umbra_error *err);

/*
 * The modes: see umbra_shadow_device_switch().  -ETIME: the back-end did not give its rings
 * back in time, and the old mode goes on; the codes of virtio_ops.h for a back-end that is
 * lost mean that here as well.
 */
UMBRA_MUST_CHECK int shadow_device_switch(struct shadow_device *d, bool shadowed,
					  struct umbra_error *err);

/* From within a back-end's call: who asked for the switch under way has been told
 * that it failed, for @reason.  It will be undone when the back-end answers. */
void shadow_device_switch_overdue(struct shadow_device *d, const char *reason);

/* Has the front-end taken pages away from the in-flight region that it brought? */
bool shadow_device_region_is_cut(const struct shadow_device *d);

/*
 * The program ends: bring all rings to rest, at most the deadline.  *@left: requests that
 * the back-end keeps, as far as one can see.  0: nothing but these is left; or an error
 * that was in the way.  In either case detach() follows.
 */
UMBRA_MUST_CHECK int shadow_device_retire(struct shadow_device *d, unsigned int *left,
					  struct umbra_error *err);

/*
 * A device that is started as a whole is started when the front-end, which starts
 * its rings one by one, pauses.  Call shadow_device_tend() after each thing that
 * was handled, and after so many ms at most (-1: no need); it does nothing
 * before it is time.
 */
int shadow_device_tend_ms(const struct shadow_device *d);
void shadow_device_tend(struct shadow_device *d);

enum umbra_device_state shadow_device_state(const struct shadow_device *d);
/* What umbra_shadow_device_query() shows. */
struct umbra_shadow_picture {
	struct umbra_shadow_info info;
	struct umbra_backend_info backend;
	struct umbra_net_control_info control;
	struct umbra_queue_info queues[UMBRA_QUEUES_MAX];
};
/* Everything but the counters, which any thread may read at any time, and the back-end: */
void shadow_device_info(const struct shadow_device *d, struct umbra_shadow_picture *picture);
const struct shadow_counters *shadow_device_counters(const struct shadow_device *d,
						     unsigned int index);

/*
 * What the guest has told a vDPA network device on its control queue (net_control.h).
 * save: *@bytes is the caller's to free.  -EOPNOTSUPP: no such queue; -ENOMEM.
 * load: before the control queue starts (-EALREADY); where there is no front-end yet, it
 * waits for one, whose SET_FEATURES is refused if it does not fit.  -EINVAL,
 * -EOPNOTSUPP: as of net_control_load(); -ENOMEM.
 */
UMBRA_MUST_CHECK int shadow_device_save_control(struct shadow_device *d, uint8_t **bytes,
						size_t *size, struct umbra_error *err);
UMBRA_MUST_CHECK int shadow_device_load_control(struct shadow_device *d, const uint8_t *bytes,
						size_t size, struct umbra_error *err);
/* Any thread: all but is_followed and is_waiting, which shadow_device_info() fills. */
void shadow_device_look_control(const struct shadow_device *d, struct umbra_net_control_info *info);

#endif
