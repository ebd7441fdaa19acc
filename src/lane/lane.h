/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A lane, one ring of a shadow device: what the front-end said of it, and its life at
 * the back-end in either mode.
 *
 * The states and what may follow what: lane_state.h.  What each step does, for the ways in
 * which a back-end can have the ring: lane_ops.h.
 *
 * WANTED: the front-end has started the ring, the back-end has it not (yet, or
 * between two modes).  A vhost-user back-end gets it at once, a device that is
 * started as a whole (BACKEND_RUNS_AS_ONE) when shadow_start.c starts that.
 *
 * Theory of operation, starting.  lane_start() hands the ring to the
 * back-end.  Where that is only a note until the device is started, the ring
 * can still be taken back without a trace, so serving it and the kick for what
 * nobody heard are a step of their own, lane_go().
 *
 * Theory of operation, stopping.  A back-end that is told to stop answers with
 * the index it would have taken next, its base.  Some complete what they have
 * in flight before the answer, others after it.  So stopping has two steps:
 * lane_halt() asks for the base and gives the chains that were not taken
 * back to the guest's ring; lane_is_drained() is then asked until every
 * chain that was taken is used, and the guest is called for those that came
 * without a call.  Only then may another owner work on the ring.  A ring that
 * does not drain is resumed where it was halted.
 *
 * Few back-ends bear a stop in the midst of their work: libvhost-user lets go of its call
 * fd when it answers, and hangs up at the completion that finds none; one of the rust-vmm
 * crates finds its ring gone under its feet.  So before the stop the ring is hushed, and
 * waited for until nothing is in flight that a completion could be owed for
 * (lane_is_idle()).
 *
 * A device that is stopped as a whole has nothing to drain afterwards: one that is suspended
 * has used all that it took, and one that is reset will use nothing more.  What the latter has it
 * would lose, so before it there is more to be waited for, and what is left must go somewhere.
 * How it is known what the back-end has, and what becomes of it, is the affair of passed.c and
 * shadowed.c.
 *
 * Theory of operation, indices.  Where a ring stands is said by peers: by the front-end
 * before a start (guest_ring.h), by the back-end at a stop.  Either is judged by the ring's own
 * two indices: one that is behind what was used would have requests done again, one ahead of
 * what is available would have them skipped.  Outside, the ring is broken.
 *
 * Threads: the device's thread.
 */
#ifndef UMBRA_LANE_LANE_H
#define UMBRA_LANE_LANE_H

#include "net/control_queue.h"
#include "queue/shadow_host.h"
#include "queue/shadow_queue.h"
#include "virtio/guest_ring.h"

/* How the back-end has the ring. */
enum lane_kind {
	LANE_PASSED,   /* it has the guest's */
	LANE_SHADOWED, /* it has one of ours, and a shadow queue is between */
	LANE_FOLLOWED, /* the same of a control queue, in either mode: followed.c */
};

/* Its piece of our own memory, with a reference on it, which it keeps over its lives
 * (shadow_own.c); size 0: none. */
struct lane_piece {
	struct memory_region at;
	bool is_spoiled; /* something may yet be written there for a life that is over */
};

struct lane;
struct loss_terms;

/* What belongs to the ring of a control queue, and outlives it; the device's. */
struct ring_control {
	const struct net_control_terms *terms;
	struct net_control *state;
	struct control_counters *counters;
	struct net_control_view *view;
};

/* Where lanes live: what the functions below need of their device. */
struct lane_context {
	struct shadow_host *host;
	struct virtio_device *backend;
	const struct memory *memory; /* the guest's */
	uint64_t guest_features, shadow_features;
	uint32_t table_max; /* descriptors of the longest indirect table, on whatever ring */
	const struct ring_control *control; /* for the ring that is LANE_FOLLOWED */
	uint64_t deadline_us;               /* longest wait for chains in flight */
	/* What becomes of what a lost back-end had; NULL: nothing was lost. */
	struct loss_terms *loss;
	/* Lane @r broke, and lane_error() says why: report it. */
	void (*broke)(void *device, const struct lane *r);
	void *device;
};

/* --- all lanes of a device ------------------------------------------------ */

struct lanes;

/* UMBRA_QUEUES_MAX of them, STOPPED, of which none was named.  -ENOMEM. */
UMBRA_MUST_CHECK int lanes_create(struct lanes **out);
void lanes_destroy(struct lanes **lanes);
/* The front-end speaks of ring @index, below UMBRA_QUEUES_MAX. */
struct lane *lanes_name(struct lanes *lanes, unsigned int index);
/* One more than the highest that was named. */
unsigned int lanes_count(const struct lanes *lanes);
/* Any of them, named or not. */
struct lane *lane_at(const struct lanes *lanes, unsigned int index);
/* Is any that was named so? */
bool lanes_any(const struct lanes *lanes, bool (*is)(const struct lane *r));
/* Forget what the front-end said; the counters stay.  All are STOPPED, and none is named. */
void lanes_forget(struct lanes *lanes);

/* --- what can be asked of one ---------------------------------------------- */

unsigned int lane_index(const struct lane *r);
/* What the front-end said of it. */
struct guest_ring *lane_front(const struct lane *r);
struct lane_piece *lane_piece(const struct lane *r);
/* Any thread. */
const struct shadow_counters *lane_counters(const struct lane *r);
/* Why it is broken; "": it is not. */
const char *lane_error(const struct lane *r);

bool lane_is_stopped(const struct lane *r);
bool lane_is_wanted(const struct lane *r);
bool lane_is_broken(const struct lane *r);
/* Does the front-end count on it?  In the first two, how the back-end has it. */
bool lane_is_passed(const struct lane *r);
bool lane_is_shadowed(const struct lane *r);
bool lane_runs(const struct lane *r);
/* It was handed to the back-end, and has not gone. */
bool lane_is_started(const struct lane *r);
/* Between halt and resume or finish. */
bool lane_is_halted(const struct lane *r);
/* It runs, but is on its way to a standstill or there. */
bool lane_is_resting(const struct lane *r);
/* Has the back-end got it? */
bool lane_is_at_backend(const struct lane *r);
/* Has it a queue of ours?  A ring can also be broken before it gets one, or passed through. */
bool lane_has_queue(const struct lane *r);
/* Is it a control queue that is followed? */
bool lane_is_followed(const struct lane *r);
bool lane_is_served(const struct lane *r);
/* Does it begin with nothing on its ring, which was resolved? */
bool lane_is_new_to_guest(const struct lane *r);
/* Passed through, it was let go of before the back-end had used all that it took. */
bool lane_has_left(const struct lane *r);
/* Chains of a shadow's earlier life that the back-end may still use. */
uint16_t lane_ghosts(const struct lane *r);
/* Requests of a ring that the back-end has, as far as one can see: chains that it took, or,
 * of a ring that runs and is passed through, may have taken.  Mere room does not count where
 * we know of it. */
uint16_t lane_left(const struct lane *r);
/* Has the thread that serves it found it broken?  *@fault: why, NULL: its queue says. */
bool lane_has_failed(const struct lane *r, const char **fault);
/* Say once in the log if the guest's driver builds tables that are longer than the ring. */
void lane_say_tables(struct lane *r);

/* --- what the front-end does ------------------------------------------------ */

/* It has started a STOPPED ring: WANTED. */
void lane_want(struct lane *r);
/* It has said a size that is not the one it said before, of a STOPPED ring. */
void lane_set_size(struct lane *r, uint16_t size);
/* The device was reset: a STOPPED ring begins at 0, and disabled if the front-end enables. */
void lane_reset(struct lane *r, bool enabled);
/* The guest has forgotten the ring, whose memory may be something else by now: it is not
 * looked at, served or written to again.  The back-end may have it still. */
void lane_abandon(struct lane *r, const struct lane_context *c);
bool lane_is_forgotten(const struct lane *r);
/* It could not be stopped, so that it goes on. */
void lane_keep(struct lane *r);
/*
 * It has another fd in place of one that it said before: *@fd is consumed (-1: it polls, or wants
 * none), and what may have gone unheard meanwhile is said again.  After an error *@fd is still
 * the caller's, and the old one serves on; where that cannot be had back, the ring is broken.
 * Errors: as of virtio_ops.h, or the host's who serves.  A kick fd of a ring that is passed
 * through to a back-end which would not hear it (backend_hears_new_kicks()) is not for here.
 */
UMBRA_MUST_CHECK int lane_exchange(struct lane *r, const struct lane_context *c,
				   enum virtio_ring_fd which, int *fd, struct umbra_error *err);
/* The kick fd of a ring that nobody has, neither we nor a back-end, is @fd from now on.  Returns
 * the one before, which is the caller's. */
int lane_swap_kick(struct lane *r, int fd);
/* The life that the kick fd began is over: STOPPED, without one, and not broken any more. */
void lane_end(struct lane *r, const struct lane_context *c);

/* --- its life ---------------------------------------------------------------- */

/* The front-end has brought an in-flight region, @region of @size entries for this ring (NULL: it
 * is gone), which does not run. */
void lane_bring_region(struct lane *r, struct region_queue *region, uint32_t size);
/* Flights in it, at the most, that nobody knows of but who wrote it. */
uint32_t lane_unread_flights(const struct lane *r);
/* Is what the ring owes written to it? */
bool lane_is_kept(const struct lane *r);

/*
 * Before a WANTED ring is started: find the guest's ring, and judge r->base by its
 * indices; what an in-flight region says that was not read yet is read, and moves the base.
 * -EPROTO: it cannot stand there, and must be broken.  -EINVAL: the
 * front-end's settings do not make a ring.
 */
UMBRA_MUST_CHECK int lane_judge(struct lane *r, const struct lane_context *c,
				struct umbra_error *err);
/*
 * Hand a WANTED ring, which was judged, to the back-end, at r->base, as @kind.
 * !@enabled: it starts disabled, and the caller enables it before it goes.
 * -EINVAL: as above.  -EOPNOTSUPP: not in this mode.  After an error it is WANTED still.
 */
UMBRA_MUST_CHECK int lane_start(struct lane *r, const struct lane_context *c, enum lane_kind kind,
				bool enabled, struct umbra_error *err);
/* The ring runs: serve it if we do, and kick once, since nobody knows which kicks
 * went unheard.  An error means that it must be broken. */
UMBRA_MUST_CHECK int lane_go(struct lane *r, const struct lane_context *c, struct umbra_error *err);
/* Of a ring that was started disabled, whose device runs: it takes what is there from now on. */
UMBRA_MUST_CHECK int lane_enable(struct lane *r, const struct lane_context *c,
				 struct umbra_error *err);
/* Take back a ring that was noted, before its device (BACKEND_RUNS_AS_ONE) was started: WANTED.
 * The only errors are those after which the connection is unusable. */
UMBRA_MUST_CHECK int lane_ungo(struct lane *r, const struct lane_context *c,
			       struct umbra_error *err);

/* Before halting: see above.  The ring is no longer served. */
UMBRA_MUST_CHECK int lane_hush(struct lane *r, const struct lane_context *c,
			       struct umbra_error *err);
/* Of a hushed or broken ring.  1: nothing is there that a stop would lose or race with; 0:
 * not yet, *@left says how many chains there are as far as one can see (0: what is waited
 * for is that the back-end reads a kick); -EPROTO: broken; other errors as of virtio_ops.h. */
UMBRA_MUST_CHECK int lane_is_idle(struct lane *r, const struct lane_context *c, uint16_t *left,
				  struct umbra_error *err);

/* First step of stopping: see above.  -EPROTO: the queue is broken, or the
 * back-end's base is a lie; other errors as of virtio_ops.h. */
UMBRA_MUST_CHECK int lane_halt(struct lane *r, const struct lane_context *c,
			       struct umbra_error *err);
/* 1: all that was taken is used, 0: not yet, -EPROTO: broken. */
UMBRA_MUST_CHECK int lane_is_drained(struct lane *r, const struct lane_context *c);
/* Chains that a halted ring waits for. */
uint16_t lane_undrained(const struct lane *r);
/* Go on where the ring was hushed or halted, in the same mode (not: halted with the device
 * as a whole). */
UMBRA_MUST_CHECK int lane_resume(struct lane *r, const struct lane_context *c,
				 struct umbra_error *err);
/* Second step of stopping: leave the halted ring to others.  It is WANTED, and
 * r->base is where it can go on. */
void lane_finish(struct lane *r, const struct lane_context *c);

/* Tell a device that was started with the LANE_FOLLOWED ring @r all that the guest has said there:
 * control_queue_replay(). */
UMBRA_MUST_CHECK int lane_replay(struct lane *r, struct shadow_host *host, uint64_t deadline_us,
				 struct umbra_error *err);

/*
 * The back-end is gone, and another is waited for.  What it has used is completed to the guest,
 * who is called; what it may have done or not is kept, and given to the next one in the order
 * in which it was taken.  The ring is WANTED, and r->base is where it can go on; one that is
 * broken stays so.  Returns how many chains the one that is gone may still work on, kept or not.
 */
uint16_t lane_hold(struct lane *r, const struct lane_context *c);
/* Can that be done?  Not of a ring that is passed through. */
bool lane_can_hold(const struct lane *r);
/* Chains that wait for the next back-end, since another one may have done them or not. */
uint16_t lane_held_chains(const struct lane *r);
/* Of a lane that is held: is one of them older than its last life, so that the back-end
 * which was lost was given it again, and has not done it? */
bool lane_holds_older(const struct lane *r);

/* Of a WANTED ring: what waits on it is given to nobody, for @reason, and the ring is broken. */
void lane_lose(struct lane *r, const struct lane_context *c, const char *reason);

/* Let go of the ring at once, without a word to the back-end or the guest. */
void lane_discard(struct lane *r, const struct lane_context *c);

/* Stop and start serving a SHADOWED ring, e.g. around a change of its fds. */
void lane_pause(struct lane *r, const struct lane_context *c);
UMBRA_MUST_CHECK int lane_unpause(struct lane *r, const struct lane_context *c,
				  struct umbra_error *err);

/* Find the guest's ring in c->memory (anew, after the table has changed). */
UMBRA_MUST_CHECK int lane_resolve(struct lane *r, const struct lane_context *c,
				  struct umbra_error *err);

/* After a violation: stop serving, keep the reason (NULL: the queue's), and have it
 * reported.  The back-end still has the ring, and is told when the front-end
 * stops it: what is in flight there must not end up in the ring's next life. */
void lane_break(struct lane *r, const struct lane_context *c, const char *reason);

/*
 * Descriptors of the longest indirect table that is forwarded, on whatever ring: twice
 * what the largest device that we know of takes in one request (libvhost-user,
 * 1024).
 */
#define SHADOW_TABLE_MAX 2048u

/* Bytes of our own memory that the ring needs as @kind (not LANE_PASSED), whole pages; of a ring
 * without a size yet or before SET_FEATURES, what it will probably be. */
uint64_t lane_own_bytes(const struct lane *r, const struct lane_context *c, enum lane_kind kind);

#endif
