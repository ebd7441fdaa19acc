/* SPDX-License-Identifier: BSD-2-Clause */
/* The life of a lane, one ring of a shadow device: see lane.h. */
#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "lane/followed.h"
#include "ring/split_look.h"

/* --- what the front-end does ------------------------------------------------ */

void lane_want(struct lane *r)
{
	lane_expect_step(r, LANE_WANT);
	lane_take_step(r, LANE_WANT);
}

void lane_set_size(struct lane *r, uint16_t size)
{
	free(r->kept); /* sized for the old one */
	r->kept = NULL;
	r->front.size = size;
}

void lane_keep(struct lane *r)
{
	r->forgotten = false;
}

void lane_end(struct lane *r, const struct lane_context *c)
{
	lane_discard(r, c);
	r->error[0] = '\0';
	fd_close(&r->front.kick_fd); /* vhost-user: a stopped ring waits for a new one */
}

void lane_reset(struct lane *r, bool enabled)
{
	r->front.base = ring_position_start(RING_SPLIT);
	r->gap = 0;
	r->front.enabled = enabled;
	r->kept_count = 0;
}

/* Never write to the guest's ring again. */
static void queue_abandon(struct lane *r)
{
	if (r->queue)
		shadow_queue_abandon(r->queue);
	if (r->control)
		control_queue_abandon(r->control);
}

void lane_abandon(struct lane *r, const struct lane_context *c)
{
	r->kept_count = 0;
	if (lane_is_stopped(r))
		return;
	r->forgotten = true;
	lane_pause(r, c);
	queue_abandon(r);
}

/* --- finding the guest's ring ------------------------------------------- */

static void *part_find(const struct lane *r, const struct lane_context *c, const char *what,
		       uva_t uva, size_t bytes, uint64_t align, struct umbra_error *err)
{
	void *host;

	host = c->memory ? memory_host_uva(c->memory, uva, bytes) : NULL;
	if (!host) {
		memory_lacks_ring(c->memory, r->index, what, uva, bytes, err);
		return NULL;
	}
	/* What counts is where we see it; a page's offset is the same for all. */
	if ((uintptr_t)host % align) {
		error_set(err, -EINVAL,
			  "queue %u: the %s ring at user address 0x%" PRIx64
			  " is not aligned to %" PRIu64 " bytes",
			  r->index, what, uva.v, align);
		return NULL;
	}
	return host;
}

int lane_resolve(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	struct split_ring s = { .size = r->front.size };

	if (!r->front.size)
		return error_set(err, -EINVAL, "queue %u: it has no size yet (SET_VRING_NUM)",
				 r->index);
	if (!r->front.has_addr)
		return error_set(err, -EINVAL, "queue %u: it has no address yet (SET_VRING_ADDR)",
				 r->index);
	s.desc = part_find(r, c, "descriptor", r->front.desc, split_desc_bytes(r->front.size),
			   SPLIT_DESC_ALIGN, err);
	if (!s.desc)
		return -EINVAL;
	s.avail = part_find(r, c, "avail", r->front.avail, split_avail_bytes(r->front.size),
			    SPLIT_AVAIL_ALIGN, err);
	if (!s.avail)
		return -EINVAL;
	s.used = part_find(r, c, "used", r->front.used, split_used_bytes(r->front.size),
			   SPLIT_USED_ALIGN, err);
	if (!s.used)
		return -EINVAL;
	r->split = s;
	if (r->queue) {
		r->queue->guest.split = s;
		r->queue->guest.memory = c->memory;
		r->queue->guest.memory_hint = 0;
	}
	if (r->control)
		ring_control_resolve(r, c);
	return 0;
}

/* The guest's size, if the device takes rings so large (VDUSE: 128).  A smaller
 * shadow ring is filled and refilled: the guest never knows. */
uint16_t back_size(const struct lane *r, const struct lane_context *c)
{
	uint16_t size = r->front.size;

	while (c->backend->ring_max && size > c->backend->ring_max)
		size /= 2;
	return size;
}

#define SIZE_ASSUMED 256u /* entries, before the front-end has said it */
#define OWN_ALIGN 4096u   /* bytes; so that pieces are whole pages */

uint64_t lane_own_bytes(const struct lane *r, const struct lane_context *c, enum lane_kind kind)
{
	uint16_t size = r->front.size ? back_size(r, c) : SIZE_ASSUMED;
	uint64_t features =
		c->guest_features ? c->shadow_features : BIT64(VIRTIO_RING_F_INDIRECT_DESC);
	size_t bytes = kind == LANE_FOLLOWED
			       ? control_queue_layout(size, features).shared_bytes
			       : driver_ring_layout(size, features, c->table_max).shared_bytes;

	return align_up(bytes, OWN_ALIGN);
}

static int shadow_start(struct lane *r, const struct lane_context *c, struct ring_position base,
			bool enabled, struct umbra_error *err)
{
	const struct virtio_ring ring = {
		.size = r->back_size,
		.base = base,
		.addr = { r->shadow_desc, r->shadow_avail, r->shadow_used },
		.kick_fd = r->back_kick_fd,
		.call_fd = r->back_call_fd,
		.err_fd = r->front.err_fd,
		.enabled = enabled,
	};

	return c->backend->ops->ring_start(c->backend, r->index, &ring, err);
}

void lane_pause(struct lane *r, const struct lane_context *c)
{
	if (r->is_served)
		c->host->ops->serve_end(c->host, &r->service);
	r->is_served = false;
}

int lane_serve(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	int rc;

	if (r->is_served)
		return 0;
	r->service = (struct queue_service){
		.pass = queue_pass,
		.move = queue_move,
		.has_work = queue_has_work,
		.queue = r->queue,
		.index = r->index,
		.kick_in = r->front.kick_fd,
		.call_in = r->back_call_fd,
		.kick_out = r->back_kick_fd,
		.call_out = r->front.call_fd,
		.kicks_in = &r->counters.kicks_in,
		.calls_in = &r->counters.calls_in,
	};
	if (r->control)
		control_queue_service(r->control, &r->service);
	rc = c->host->ops->serve_begin(c->host, &r->service, err);
	if (!rc)
		r->is_served = true;
	return rc;
}

int lane_unpause(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	return r->state == LANE_RUNNING && r->kind != LANE_PASSED ? lane_serve(r, c, err) : 0;
}

/* --- starting and stopping ----------------------------------------------- */

static int eventfds_make(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	int rc = 0;

	if (r->back_kick_fd < 0)
		rc = c->host->ops->make_eventfd(c->host, &r->back_kick_fd, err);
	if (!rc && r->back_call_fd < 0)
		rc = c->host->ops->make_eventfd(c->host, &r->back_call_fd, err);
	if (!rc && r->quiet_fd < 0)
		rc = c->host->ops->make_eventfd(c->host, &r->quiet_fd, err);
	return rc;
}

int lane_judge(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	int rc = lane_resolve(r, c, err);
	struct ring_position said;

	ghosts_look(r, back_size(r, c));

	if (rc)
		return rc;
	if (!split_can_stand(&r->split, &r->front.base, &said))
		return error_set(err, -EPROTO,
				 "the front-end starts it at index %u, but its guest's ring has "
				 "used %u and available %u: expected an index from the one to "
				 "the other, which are at most %u apart",
				 r->front.base.avail, said.used, said.avail, r->front.size);
	r->gap = ring_outstanding(r->front.base, r->front.size);
	return 0;
}

int lane_start(struct lane *r, const struct lane_context *c, enum lane_kind kind, bool enabled,
	       struct umbra_error *err)
{
	int rc = lane_resolve(r, c, err);

	lane_expect_step(r, LANE_START);
	if (!rc)
		rc = eventfds_make(r, c, err);
	if (rc)
		return rc;
	if (r->gap != r->owed)
		r->kept_count = 0; /* another life, or another index */
	if (kind == LANE_PASSED) {
		rc = passed_start(r, c, enabled, err);
	} else {
		r->back_size = back_size(r, c);
		rc = kind == LANE_FOLLOWED ? ring_control_build(r, c, err)
					   : shadow_build(r, c, err);
		if (!rc)
			rc = shadow_start(r, c, driver_ring_position(lane_back(r)), enabled, err);
		if (rc)
			shadow_free(r);
	}
	if (rc)
		return rc;
	r->kind = kind;
	r->has_gone = false;
	lane_take_step(r, LANE_START);
	return 0;
}

int lane_go(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	int rc = 0;

	lane_expect_step(r, LANE_GO);
	if (r->kept_count && lane_is_shadowed(r) &&
	    shadow_queue_readd(r->queue, r->kept, r->kept_count)) {
		char why[UMBRA_ERROR_SIZE];

		shadow_queue_error(r->queue, why, sizeof(why));
		rc = error_set(err, -EPROTO, "a buffer that the device gave back: %s", why);
	}
	if (lane_is_shadowed(r))
		r->kept_count = 0;
	if (!rc && lane_is_shadowed(r))
		rc = lane_serve(r, c, err);
	if (rc)
		return rc;
	r->has_gone = true;
	lane_take_step(r, LANE_GO);
	c->host->ops->notify(c->host, back_kick_fd(r));
	return 0;
}

void lane_ungo(struct lane *r, const struct lane_context *c)
{
	lane_expect_step(r, LANE_TAKE_BACK);
	let_go(r, c);
	lane_take_step(r, LANE_TAKE_BACK);
}

int lane_resume(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	int rc;

	lane_expect_step(r, LANE_RESUME);
	if (r->state == LANE_HUSHED) {
		rc = hush_end(r, c, err);
	} else if (r->kind == LANE_PASSED) {
		r->front.base = r->halt.base;
		rc = passed_start(r, c, true, err);
	} else {
		rc = shadow_start(r, c, r->halt.base, true, err);
	}
	if (!rc && r->kind != LANE_PASSED)
		rc = lane_serve(r, c, err);
	if (rc)
		return rc;
	lane_take_step(r, LANE_RESUME);
	/* For what was kicked and called while nobody listened. */
	c->host->ops->notify(c->host, back_kick_fd(r));
	c->host->ops->notify(c->host, r->front.call_fd);
	return 0;
}

char *lane_queue_error(const struct lane *r, char *text, size_t size)
{
	return r->control ? control_queue_error(r->control, text, size)
			  : shadow_queue_error(r->queue, text, size);
}

/*
 * Lives of one ring that get another place because something may be written to the old one:
 * a completion that comes there late does not even disturb the new one.  Afterwards memory
 * is more precious, and the ids alone keep the lives apart.
 */
#define SPOILS_MOST 4u

void let_go(struct lane *r, const struct lane_context *c)
{
	lane_pause(r, c);
	/* What it has not brought back it may bring later, to where this shadow was. */
	if (r->queue && c->backend && !backend_is_reset_by_stop(c->backend) &&
	    lane_undrained(r) > 0 && r->spoils < SPOILS_MOST) {
		r->own.is_spoiled = true;
		r->spoils++;
	}
	if (r->queue && c->backend && !backend_is_whole(c->backend))
		ghosts_note(r);
	shadow_free(r);
	r->forgotten = false;
	__atomic_store_n(&r->counters.in_flight, 0, __ATOMIC_RELAXED);
}

void lane_discard(struct lane *r, const struct lane_context *c)
{
	lane_expect_step(r, LANE_END);
	let_go(r, c);
	lane_take_step(r, LANE_END);
}

void lane_break(struct lane *r, const struct lane_context *c, const char *reason)
{
	lane_expect_step(r, LANE_BREAK);
	lane_pause(r, c);
	if (reason)
		snprintf(r->error, sizeof(r->error), "%s", reason);
	else
		lane_queue_error(r, r->error, sizeof(r->error));
	queue_abandon(r);
	lane_take_step(r, LANE_BREAK);
	c->host->ops->notify(c->host, r->front.err_fd);
	c->broke(c->device, r);
}

/* --- before the stop ------------------------------------------------------ */

int lane_hush(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	lane_expect_step(r, LANE_HUSH);
	lane_pause(r, c);
	lane_take_step(r, LANE_HUSH);
	r->hush.quiet_looks = 0;
	r->hush.sounding = SOUNDING_NOT;
	/* One that is not passed through is hushed by feeding it no more, and has to hear of
	 * what it has been fed: lane_is_idle(). */
	return lane_is_passed(r) ? hush_tell(r, c, err) : 0;
}

/* Complete what the back-end has used, to the guest.  0, -EPROTO. */
int queue_complete(struct lane *r, const struct lane_context *c)
{
	unsigned int owed;
	int actions = r->control ? control_queue_drain(r->control, &owed)
				 : shadow_queue_drain(r->queue, &owed);

	if (actions < 0 ? owed & SHADOW_CALL_GUEST : (unsigned int)actions & SHADOW_CALL_GUEST)
		c->host->ops->notify(c->host, r->front.call_fd);
	return actions < 0 ? actions : 0;
}

int lane_is_idle(struct lane *r, const struct lane_context *c, uint16_t *left,
		 struct umbra_error *err)
{
	*left = 0;
	if (!lane_is_passed(r) && !lane_has_queue(r))
		return 1;
	if (!lane_is_passed(r))
		return shadowed_is_idle(r, c, left, err);
	if (!last_round_is_over(r, c))
		return 0;
	/* A ring whose memory may be something else by now is not looked at. */
	if (r->forgotten)
		return 1;
	if (backend_is_reset_by_stop(c->backend))
		return reset_is_idle(r, c, left, err);
	return c->backend->hush == BACKEND_HUSH_NOT ? 1 : passed_is_quiet(r, c, left, err);
}

/* --- the stop ------------------------------------------------------------- */

/* The device is stopped as a whole, and answered @base; @rc: it could not. */
static int whole_halt(struct lane *r, const struct lane_context *c, int rc,
		      struct ring_position base, struct umbra_error *err)
{
	bool is_known = !rc && backend_keeps_index(c->backend);
	uint16_t in_flight;

	if (lane_is_passed(r) && is_known)
		return passed_halt(r, base, err);
	if (lane_is_passed(r)) { /* without an answer it stands where it was found idle */
		r->halt.base = ring_position_with(split_said(&r->split), r->gap, r->front.size);
		return 0;
	}
	if (!lane_has_queue(r))
		return 0;
	if (queue_complete(r, c)) {
		char why[UMBRA_ERROR_SIZE];

		lane_queue_error(r, why, sizeof(why));
		return error_set(err, -EPROTO, "%s", why);
	}
	if (r->control)
		return 0;
	in_flight = shadow_queue_in_flight(r->queue);
	if (is_known)
		r->halt.untaken = driver_ring_untaken(&r->queue->back, base);
	else if (!backend_is_reset_by_stop(c->backend)) /* suspended: what it took, it has used */
		r->halt.untaken = in_flight;
	if (r->halt.untaken <= in_flight)
		return 0;
	r->halt.untaken = 0;
	return error_set(
		err, -EPROTO,
		"the device stopped at index %u, which is not one of the %u chains that it "
		"was given up to index %u",
		base.avail, in_flight, driver_ring_said(&r->queue->back).avail);
}

int lane_halt(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	struct ring_position base = ring_position_start(RING_SPLIT), said;
	int rc;

	lane_expect_step(r, LANE_HALT);
	if (r->queue)
		driver_ring_silence(&r->queue->back);
	rc = c->backend->ops->ring_stop(c->backend, r->index, &base, err);
	if (backend_is_whole(c->backend) && !backend_is_lost(rc)) {
		lane_take_step(r, LANE_HALT);
		return whole_halt(r, c, rc, base, err);
	}
	if (rc)
		return rc;
	lane_take_step(r, LANE_HALT);
	r->halt.base = base;
	if (lane_is_passed(r))
		return passed_halt(r, base, err);
	if (!lane_has_queue(r))
		return 0;
	if (shadow_queue_is_broken(r->queue)) {
		char why[UMBRA_ERROR_SIZE];

		shadow_queue_error(r->queue, why, sizeof(why));
		return error_set(err, -EPROTO, "%s", why);
	}
	if (!shadow_queue_rewind(r->queue, base))
		return 0;
	said = driver_ring_said(&r->queue->back);
	return error_set(err, -EPROTO,
			 "the back-end stopped at index %u, but the shadow ring has used %u and "
			 "available %u: expected an index from the one to the other, which are at "
			 "most %u apart",
			 base.avail, said.used, said.avail, r->back_size);
}

uint16_t lane_undrained(const struct lane *r)
{
	uint16_t open;

	if (r->control || (!r->queue && !lane_is_passed(r)))
		return 0;
	if (!lane_is_passed(r))
		return (uint16_t)(shadow_queue_in_flight(r->queue) -
				  (lane_is_halted(r) ? r->halt.untaken : 0));
	if (r->forgotten)
		return 0;
	open = split_outstanding(&r->split, r->halt.base);
	/* More than the ring has: the used index has gone past what was taken.  Nothing more
	 * is to come, and the start at halt_base judges that. */
	if (open > r->front.size)
		return 0;
	return open > r->gap ? (uint16_t)(open - r->gap) : 0;
}

uint16_t lane_left(const struct lane *r)
{
	uint16_t open;

	if (!lane_runs(r) || r->control || r->forgotten)
		return 0;
	if (lane_is_shadowed(r))
		return shadow_queue_asking(r->queue, lane_is_halted(r) ? r->halt.untaken : 0);
	if (lane_is_halted(r))
		return lane_undrained(r);
	open = ring_outstanding(split_said(&r->split), r->front.size);
	return MIN(open, r->front.size);
}

int lane_is_drained(struct lane *r, const struct lane_context *c)
{
	int rc = lane_has_queue(r) ? queue_complete(r, c) : 0;

	if (rc)
		return rc;
	/* From a device that was reset, nothing more comes. */
	return backend_is_reset_by_stop(c->backend) || lane_undrained(r) == 0;
}

void lane_finish(struct lane *r, const struct lane_context *c)
{
	lane_expect_step(r, LANE_FINISH);
	if (r->control) {
		ring_control_finish(r);
	} else if (r->queue) {
		queue_finish(r, c);
	} else if (lane_is_passed(r)) {
		uint16_t lost = lane_undrained(r);

		r->left |= lost && !backend_is_whole(c->backend);
		counter_add(&r->counters.lost, lost);
		if (lost)
			log_error("queue %u: %u requests that the back-end took and did not use "
				  "are lost",
				  r->index, lost);
		r->front.base = r->halt.base;
		r->owed = split_outstanding(&r->split, r->front.base);
	}
	let_go(r, c);
	lane_take_step(r, LANE_FINISH);
	/* For what the back-end completed after it had let go of its call fd. */
	c->host->ops->notify(c->host, r->front.call_fd);
}
