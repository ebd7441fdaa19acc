/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The inside of a shadow device.  Calls go downward only, in this order:
 *
 *	shadow_device.c        its life, what is relayed, the table of virtio_ops
 *	shadow_retire.c          the end of the program
 *	shadow_return.c          the next back-end in the place of a lost one
 *	shadow_by_hand.c         one that is there is let go of, for the next
 *	shadow_rings.c         what each message about a ring does
 *	shadow_negotiation.c   features
 *	shadow_start.c         the rings that are wanted: in which mode
 *	shadow_halt.c          rings that the front-end stops or forgets
 *	shadow_switch.c        running rings change their mode
 *	shadow_mode.c          whether they may
 *	shadow_retry.c         when the wanted ones are tried
 *	shadow_begin.c         rings come to run
 *	(lane/standstill.c     and to rest)
 *	shadow_memory.c        the guest's memory
 *	shadow_own.c           our own
 *	shadow_inflight.c      what a front-end keeps of us: the in-flight region
 *	shadow_control.c       what the guest has said on the control queue
 *	shadow_hold.c          the loss of the back-end, and what is held then
 *	shadow_state.c         the state; what all of these ask of the device
 *	features.c, shadow_waits.c
 *
 * A function's name begins with its file's; that of an operation of virtio_ops is shadow_ and the
 * operation's.  What all ask of the device (shadow_backend_, shadow_lanes_) is at the end of
 * shadow_state.c.  What begins with shadow_device_ is the owner's, of shadow_device.h.
 */
#ifndef UMBRA_DEVICE_SHADOW_DEVICE_PRIVATE_H
#define UMBRA_DEVICE_SHADOW_DEVICE_PRIVATE_H

#include <linux/virtio_net.h>

#include "base/bits.h"
#include "device/absent.h"
#include "device/features.h"
#include "device/shadow_device.h"
#include "lane/lane.h"
#include "lane/loss.h"
#include "lane/standstill.h"

/* What the guest has said on the control queue: shadow_control.c. */
struct shadow_control {
	bool is_net;   /* a network device that is started as a whole: the queue is followed */
	bool is_known; /* `state` is all that the guest has said, as far as one can see */
	struct net_control_terms terms;
	struct net_control state; /* the ring's owner's while it is served */
	struct control_counters counters;
	struct net_control_view view;
	struct ring_control ring; /* the four above */
	uint8_t *loaded;          /* a saved state that waits for terms; NULL */
	size_t loaded_bytes;
};

#define SHADOW_OWN_REGIONS 4u /* of our own memory; the last takes what is left */

/* Our own memory at the back-end: shadow_own.c. */
struct shadow_own {
	uint64_t max; /* bytes in all; 0: nothing was said */
	unsigned int count;
	struct own_region {
		struct memory_region at; /* gpa 0: it has no place yet */
		bool sent;               /* the back-end has it */
		bool spoiled;            /* a piece of it can never be given again */
		uint64_t given;          /* bytes, from the start */
	} regions[SHADOW_OWN_REGIONS];
};

/* A back-end that is lost is waited for: shadow_hold.c. */
struct shadow_hold {
	uint32_t type;          /* virtio device type; 0: it is not waited for */
	struct loss_terms loss; /* what becomes of what it had */
	struct learnt learnt;   /* of the back-end that is there, or was */
	struct absent absent;   /* in its place */
	/* HELD: requests that the lost one may yet work on, whether anybody waits for them or not;
	 * 0: there are none, or it is dead. */
	unsigned int unsettled;
	/* The one that is lost served, as far as it was given anything: the next may be sought at
	 * once.  What that is judged by: when the last came that was given a device which was held
	 * (0: none), and how many requests were completed by then. */
	bool has_served;
	uint64_t returned_us, completed_then;
	uint64_t since_us; /* HELD: host time */
	uint64_t count;    /* how often it was held */
	uint64_t replayed; /* requests that another back-end was given again */
	uint64_t dropped;  /* packets that were lost, as on a wire */
	uint64_t last_us, longest_us;
};

/* Who knows what the guest took of the features. */
enum features_state {
	FEATURES_OPEN,  /* nobody: the front-end has not said it */
	FEATURES_TAKEN, /* we do; the back-end has not been told, or has forgotten it since */
	FEATURES_TOLD,  /* the back-end does, too; an absent one has nobody to tell */
};

/* What the front-end keeps of us: shadow_inflight.c. */
struct shadow_inflight {
	struct memory_region at; /* with a reference; no backing: there is none */
	struct region_map map;
};

struct shadow_device {
	struct virtio_device virtio; /* first member: what the front-end has */
	struct shadow_host *host;
	struct virtio_device *backend; /* borrowed; NULL: not connected */
	enum umbra_shadow_mode mode;
	uint64_t deadline_us; /* longest wait for chains in flight */
	uint32_t table_max;   /* descriptors of the longest indirect table, on whatever ring */

	unsigned int state;           /* of the table in shadow_state.c */
	enum umbra_device_state seen; /* the one that the host was told of last */
	char reason[UMBRA_ERROR_SIZE];

	/* Negotiated. */
	enum features_state features_state;
	uint64_t backend_features, guest_features, protocol_features;
	struct features_out features;

	/* Memory. */
	struct memory *memory;            /* the guest's, or NULL */
	struct shadow_own own;            /* ours, at the back-end */
	uint64_t slots_max;               /* regions that the back-end takes; 0: not asked yet */
	uint64_t queues_max;              /* that the back-end has; 0: the front-end never asked */
	char no_shadow[UMBRA_ERROR_SIZE]; /* why the memory allows no shadow; "" */

	struct shadow_control control;
	struct shadow_hold hold;
	struct shadow_inflight inflight;

	bool shadow_wanted; /* the mode of the rings that run or will run */
	uint8_t status;     /* BACKEND_RUNS_AS_ONE: what the front-end set */
	uint64_t start_at;  /* host time when the wanted rings shall be started; 0: never */
	uint64_t retry_us;  /* until the next attempt, if one fails */
	char start_error[UMBRA_ERROR_SIZE]; /* why wanted rings were not started; "" */
	bool *overdue; /* has who asked for the switch under way given it up?  NULL: none was
			  asked for */
	uint64_t switches, switches_failed, last_pause_us, longest_pause_us;

	unsigned int rings_seen; /* the most that a front-end which has gone had */
	struct lanes *lanes;
};

static inline struct shadow_device *shadow_of(struct virtio_device *self)
{
	return (struct shadow_device *)self;
}

/* BACKEND_RUNS_AS_ONE; false without a back-end. */
static inline bool shadow_backend_runs_as_one(const struct shadow_device *d)
{
	return d->backend && backend_runs_as_one(d->backend);
}

/* Is ring @r one of those that begin, if @only (NULL: all) do? */
static inline bool shadow_begin_includes(const struct lane *r, const struct lane *only)
{
	return lane_is_wanted(r) && (!only || r == only) && lane_front(r)->enabled;
}

/* Has the front-end said which features the guest takes? */
static inline bool shadow_has_features(const struct shadow_device *d)
{
	return d->features_state != FEATURES_OPEN;
}

/* The back-end has forgotten what it was told, or is another one. */
static inline void shadow_features_forgotten(struct shadow_device *d)
{
	if (d->features_state == FEATURES_TOLD)
		d->features_state = FEATURES_TAKEN;
}

/* With @features, is there a control queue that is followed? */
static inline bool shadow_control_follows(const struct shadow_device *d, uint64_t features)
{
	return d->control.is_net && features & BIT64(VIRTIO_NET_F_CTRL_VQ);
}

/* --- of virtio_ops: shadow_rings.c, shadow_negotiation.c, shadow_memory.c ---- */

int shadow_ring_set_size(struct virtio_device *self, unsigned int index, uint32_t size,
			 struct umbra_error *err);
int shadow_ring_set_addr(struct virtio_device *self, unsigned int index,
			 const struct virtio_ring_addr *addr, struct umbra_error *err);
int shadow_ring_set_base(struct virtio_device *self, unsigned int index, struct ring_position base,
			 struct umbra_error *err);
int shadow_ring_set_kick(struct virtio_device *self, unsigned int index, int *fd,
			 struct umbra_error *err);
int shadow_ring_set_call(struct virtio_device *self, unsigned int index, int *fd,
			 struct umbra_error *err);
int shadow_ring_set_err(struct virtio_device *self, unsigned int index, int *fd,
			struct umbra_error *err);
int shadow_ring_enable(struct virtio_device *self, unsigned int index, bool enabled,
		       struct umbra_error *err);
int shadow_ring_stop(struct virtio_device *self, unsigned int index, struct ring_position *base,
		     struct umbra_error *err);
int shadow_get_features(struct virtio_device *self, uint64_t *features, struct umbra_error *err);
int shadow_set_features(struct virtio_device *self, uint64_t features, struct umbra_error *err);
int shadow_get_protocol_features(struct virtio_device *self, uint64_t *features,
				 struct umbra_error *err);
int shadow_set_protocol_features(struct virtio_device *self, uint64_t features,
				 struct umbra_error *err);
int shadow_get_queue_num(struct virtio_device *self, uint64_t *count, struct umbra_error *err);
int shadow_get_memory_slots(struct virtio_device *self, uint64_t *count, struct umbra_error *err);
int shadow_set_memory(struct virtio_device *self, const struct memory_region *regions,
		      unsigned int count, struct umbra_error *err);
int shadow_add_region(struct virtio_device *self, const struct memory_region *region,
		      struct umbra_error *err);
int shadow_remove_region(struct virtio_device *self, const struct memory_region *region,
			 struct umbra_error *err);

/* --- shadow_state.c --------------------------------------------------------- */

/* A state beside those of enum umbra_device_state: the back-end is there, and not waited for any
 * more, because its process ends or its front-end has gone.  Nothing runs, and only the end of
 * the connections follows.  The host is not told of it: what can be seen stays as it was, until
 * that end can be told. */
#define SHADOW_STATE_GIVEN_UP ((unsigned int)UMBRA_DEVICE_HELD + 1)

/* What happens to a device, as far as its state is concerned. */
enum device_event {
	DEVICE_AWAITS,   /* a front-end is there, and a back-end will come by itself */
	DEVICE_ATTACHED, /* both are there, and nothing is negotiated */
	DEVICE_IDLE,     /* its rings were looked at: none runs, */
	DEVICE_PASSES,   /* or those that do are passed through, */
	DEVICE_SHADOWS,  /* or shadowed, */
	DEVICE_BREAKS,   /* or one is broken, whatever the others do */
	DEVICE_SWITCHES, /* running rings are on their way, or have been for too long */
	DEVICE_HELD,     /* the back-end's connection is unusable, and the next is waited for */
	DEVICE_RETURNED, /* that has come, and rings are about to start */
	DEVICE_LOST,     /* the back-end's connection is unusable, or there never was one */
	DEVICE_GIVES_UP, /* its connection is unusable, because on our side nobody waits */
	DEVICE_LEFT,     /* both connections are closed */
	DEVICE_EVENTS,
};

/* @event has happened: the host is told of the state that the table says, if it is a new one, or
 * if @reason is. */
void shadow_state_note(struct shadow_device *d, enum device_event event, const char *reason);
/* The table: the state after @event, or negative: that never happens in @state. */
int shadow_state_after(unsigned int state, enum device_event event);
/* Is true of the device what its state says?  At any time when nobody is inside a call of it. */
bool shadow_state_holds(const struct shadow_device *d);

/* Every message that needs the back-end begins here: -ECONNRESET, -ECANCELED. */
UMBRA_MUST_CHECK int shadow_backend_check(const struct shadow_device *d, struct umbra_error *err);

/* The state that follows from the rings as they are. */
void shadow_state_settle(struct shadow_device *d);

/* What the functions of lanes need of the device as it is. */
struct lane_context shadow_lanes_context(const struct shadow_device *d);

/* What ring @r becomes when it starts in the given mode. */
enum lane_kind shadow_lanes_kind(const struct shadow_device *d, const struct lane *r,
				 bool shadowed);

/* Is this ring, under what was negotiated, a control queue that is followed? */
bool shadow_control_is_ring(const struct shadow_device *d, const struct lane *r);

/* Let go of all rings at once, without a word to anybody. */
void shadow_lanes_discard(struct shadow_device *d);

/* Ring @r is broken, for @reason or (NULL) for what its queue found: let it be,
 * which is reported everywhere. */
void shadow_lanes_break(struct shadow_device *d, struct lane *r, const char *reason);

/* --- shadow_control.c ---------------------------------------------------- */

/* Once, before anything else. */
void shadow_control_init(struct shadow_device *d);
void shadow_control_fini(struct shadow_device *d);
/* Is the back-end one that is followed? */
bool shadow_control_find(struct shadow_device *d);
/* The guest is about to take @features: it begins anew, or with the state that was
 * loaded, which may be refused. */
UMBRA_MUST_CHECK int shadow_control_negotiate(struct shadow_device *d, uint64_t features,
					      struct umbra_error *err);
/* The front-end starts the control queue's ring @r, which was resolved. */
void shadow_control_begins(struct shadow_device *d, const struct lane *r);
void shadow_control_info(const struct shadow_device *d, struct umbra_net_control_info *info);
/* The ring on which a device that is started now has to be told again what it has
 * forgotten; NULL: there is nothing to tell, or no ring. */
struct lane *shadow_control_replayer(struct shadow_device *d);

/* --- shadow_begin.c ------------------------------------------------------ */

/*
 * Start ring @only (NULL: every one) of those that are WANTED and may start, in
 * the given mode.  After an error that is not fatal they are all WANTED.
 */
UMBRA_MUST_CHECK int shadow_begin_wanted(struct shadow_device *d, const struct lane *only,
					 bool shadowed, struct umbra_error *err);

/* Undo a quiesce that failed or is not wanted any more: the rings run in the
 * mode that they had. */
UMBRA_MUST_CHECK int shadow_begin_again(struct shadow_device *d, struct umbra_error *err);

/* --- shadow_hold.c ------------------------------------------------------- */

/* If @code is fatal: hold the device, and have it asked again (-ERESTART); or, where it cannot
 * be held, let go of all rings and enter BACKEND_LOST, unless it is only that nobody waits for
 * the back-end any more (-ECANCELED).  Else returns @code. */
int shadow_backend_judge(struct shadow_device *d, int code, const struct umbra_error *err);
/* The device's rings are held from now on, for whatever reason. */
void shadow_hold_begin(struct shadow_device *d);
/* HELD, and the back-end was not let go of in order: the rule of its type is applied. */
void shadow_hold_loss(struct shadow_device *d);
/* The next back-end has not become it, for @why: the rings are held as before; or, if one that
 * cannot be was with it already, the device is lost. */
void shadow_hold_on(struct shadow_device *d, const struct umbra_error *why);
/* All rings are held, nobody is the back-end, and what the one that was it may yet work on is
 * hold.unsettled. */
void shadow_hold_rings(struct shadow_device *d);
/* Requests that were completed to the guest so far. */
uint64_t shadow_hold_completed(const struct shadow_device *d);
static inline bool shadow_is_held(const struct shadow_device *d)
{
	return d->state == UMBRA_DEVICE_HELD;
}

/* --- shadow_inflight.c ---------------------------------------------------- */

int shadow_get_inflight(struct virtio_device *self, const struct virtio_inflight *shape,
			struct memory_region *out, struct umbra_error *err);
int shadow_set_inflight(struct virtio_device *self, const struct virtio_inflight *shape,
			const struct memory_region *region, struct umbra_error *err);
/* The protocol feature, if it is offered to the front-end. */
uint64_t shadow_inflight_features(const struct shadow_device *d);
/* The back-end is about to be given something. */
void shadow_inflight_name(struct shadow_device *d);
/* The front-end keeps nothing any more; its lanes are let go of. */
void shadow_inflight_fini(struct shadow_device *d);
void shadow_inflight_info(const struct shadow_device *d, struct umbra_shadow_info *info);

/* --- shadow_own.c --------------------------------------------------------- */

/* A piece of our own memory for each ring that is about to start, as of
 * shadow_begin_wanted(), more of it if it is short.  -EOPNOTSUPP: that cannot be had;
 * or as of virtio_ops.h. */
UMBRA_MUST_CHECK int shadow_own_find(struct shadow_device *d, const struct lane *only,
				     bool shadowed, struct umbra_error *err);
/* Before: -EOPNOTSUPP if it is sure that shadow_own_find() would fail. */
UMBRA_MUST_CHECK int shadow_own_check(struct shadow_device *d, const struct lane *only,
				      struct umbra_error *err);
/* Where our regions shall be beside @m, the guest's next memory: *@plan.  Nothing moves yet.
 * -EINVAL: a running shadow is in the way of @m; -ENOMEM. */
UMBRA_MUST_CHECK int shadow_own_plan(struct shadow_device *d, const struct memory *m,
				     struct shadow_own *plan, struct umbra_error *err);
/* Tell the back-end that our region @index is where @to says, and note what it was told,
 * also if it fails half-way. */
UMBRA_MUST_CHECK int shadow_own_move(struct shadow_device *d, unsigned int index,
				     const struct own_region *to, struct umbra_error *err);
/* It has been told with a table, or (@sent false) was left out. */
void shadow_own_put(struct shadow_device *d, unsigned int index, const struct own_region *to,
		    bool sent);
/* Is a shadow in it? */
bool shadow_own_is_used(const struct shadow_device *d, unsigned int index);
/* Is there room for our region @index beside so many of the guest's?  Of the first, the
 * answer is in d->no_shadow as well. */
bool shadow_own_fits(struct shadow_device *d, unsigned int guest_regions, unsigned int index);
/* Of the back-end's @slots, how many are ours? */
uint64_t shadow_own_slots(const struct shadow_device *d, uint64_t slots);
/* Let go of all of it. */
void shadow_own_fini(struct shadow_device *d);

/* --- shadow_retry.c ------------------------------------------------------ */

/* Rings are wanted: start them when the front-end pauses. */
void shadow_retry_soon(struct shadow_device *d);
/* They could not be started, for @err: remember why, and when to try again. */
void shadow_retry_later(struct shadow_device *d, const struct umbra_error *err);

/* --- shadow_mode.c ------------------------------------------------------- */

/* 0, or -EOPNOTSUPP or -EPERM with the reason why the mode cannot be had. */
UMBRA_MUST_CHECK int shadow_mode_check(const struct shadow_device *d, bool shadowed,
				       struct umbra_error *err);

/* Can ring @only (NULL: every one) of those that are about to start be had in this mode? */
UMBRA_MUST_CHECK int shadow_mode_check_start(struct shadow_device *d, const struct lane *only,
					     bool shadowed, struct umbra_error *err);

/* --- shadow_switch.c ----------------------------------------------------- */

/* Switch a device whose rings run, and which may be had in the other mode.  -EPROTO: it has
 * switched, but for a queue that broke on the way.  @beginner: a ring that is enabled, and for
 * the start of which it is done (NULL: none): it starts in the other mode or not at all. */
UMBRA_MUST_CHECK int shadow_switch_running(struct shadow_device *d, struct lane *beginner,
					   bool shadowed, struct umbra_error *err);
/* Bring all running rings to rest within the deadline, so that they are WANTED.  After an error
 * that is not fatal they go on, in the mode that they had: -ETIME, what the back-end has is not
 * used in time, or who asked for it has given it up. */
UMBRA_MUST_CHECK int shadow_switch_rest(struct shadow_device *d, struct umbra_error *err);
/* Which queues are broken before something that may break more; afterwards -EPROTO if it has:
 * who asked for it is told, though the others are in the other mode. */
void shadow_switch_note_broken(const struct shadow_device *d, bool broken[UMBRA_QUEUES_MAX]);
UMBRA_MUST_CHECK int shadow_switch_broken_since(const struct shadow_device *d,
						const bool before[UMBRA_QUEUES_MAX], bool shadowed,
						struct umbra_error *err);

/* --- shadow_halt.c ------------------------------------------------------- */

/* Has the back-end something to stop, or to give back? */
bool shadow_halt_is_needed(const struct shadow_device *d, const struct lane *r);
/* Bring ring @r to a standstill because the front-end stops or forgets it. */
UMBRA_MUST_CHECK int shadow_halt_ring(struct shadow_device *d, struct lane *r,
				      struct umbra_error *err);

/* The guest has forgotten ring @only (NULL: every one), and its memory may be
 * something else by now: stop it, and forget it as well. */
UMBRA_MUST_CHECK int shadow_halt_forgotten(struct shadow_device *d, struct lane *only,
					   struct umbra_error *err);

/* --- shadow_negotiation.c ------------------------------------------------ */

/* Tell the back-end the features that were negotiated, unless it knows them.  They are TOLD, or
 * what they were. */
UMBRA_MUST_CHECK int shadow_negotiation_tell(struct shadow_device *d, struct umbra_error *err);

/* --- shadow_start.c ------------------------------------------------------ */

/* Choose the mode in which ring @only (NULL: all that are wanted) can be started, by
 * changing d->shadow_wanted where it must be.  -EOPNOTSUPP: in none. */
UMBRA_MUST_CHECK int shadow_start_choose_mode(struct shadow_device *d, struct lane *only,
					      struct umbra_error *err);

/* Start them now.  After an error that is not fatal it is tried again later. */
UMBRA_MUST_CHECK int shadow_start_now(struct shadow_device *d, struct umbra_error *err);
/* --- shadow_waits.c ------------------------------------------------------ */

/* Of a NEGOTIATING device without a reason of its own. */
void shadow_waits_for(const struct shadow_device *d, char *text, size_t size);

#endif
