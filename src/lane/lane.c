/* SPDX-License-Identifier: BSD-2-Clause */
/* The life of a lane, one ring of a shadow device: see lane.h. */
#include <errno.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fd.h"
#include "base/log.h"
#include "lane/own_ring.h"
#include "lane/past.h"
#include "ring/split_look.h"

static const struct lane_ops *const implementations[] = {
	[LANE_PASSED] = &lane_passed,
	[LANE_SHADOWED] = &lane_shadowed,
	[LANE_FOLLOWED] = &lane_followed,
};

/* --- what the front-end does ------------------------------------------------ */

void lane_want(struct lane *r)
{
	lane_expect_step(r, LANE_WANT);
	lane_take_step(r, LANE_WANT);
}

void lane_set_size(struct lane *r, uint16_t size)
{
	lane_flights_free(&r->flights); /* sized for the old one */
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
	r->front.enabled = enabled;
	lane_flights_forget(&r->flights);
}

void lane_abandon(struct lane *r, const struct lane_context *c)
{
	/* Of one with a queue its end does it; and what nobody has read yet is of another life. */
	if (!r->queue && !r->flights.region_is_unread)
		lane_flights_forget(&r->flights);
	if (lane_is_stopped(r))
		return;
	r->forgotten = true;
	lane_pause(r, c);
	lane_flights_void(&r->flights);
	if (r->ops && r->ops->abandon)
		r->ops->abandon(r);
}

int lane_swap_kick(struct lane *r, int fd)
{
	int before = r->front.kick_fd;

	r->front.kick_fd = fd;
	return before;
}

/* --- finding the guest's ring ------------------------------------------- */

int lane_resolve(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	int rc = guest_ring_find(&r->front, c->memory, err);

	if (!rc && r->ops && r->ops->find)
		r->ops->find(r, c);
	return rc;
}

static int eventfds_make(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	int rc = 0;

	if (r->back_kick_fd < 0)
		rc = c->host->ops->make_eventfd(c->host, &r->back_kick_fd, err);
	if (!rc && r->back_call_fd < 0)
		rc = c->host->ops->make_eventfd(c->host, &r->back_call_fd, err);
	return rc;
}

/* What an umbra left that died is on the ring from here on. */
static int region_look(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	uint32_t found;
	int rc = lane_flights_read(&r->flights, c->host, r->front.size, split_said(&r->front.split),
				   &r->front.base, &found, err);

	if (rc)
		return rc;
	if (found)
		log_info("queue %u: %u requests were in flight when the umbra before this one "
			 "died; they are given to the back-end again",
			 r->front.index, found);
	return 0;
}

int lane_judge(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	int rc = lane_resolve(r, c, err);

	ghosts_look(r, own_ring_size(r, c));
	if (!rc)
		rc = guest_ring_judge(&r->front, err);
	return rc ? rc : region_look(r, c, err);
}

void lane_bring_region(struct lane *r, struct region_queue *region, uint32_t size)
{
	lane_flights_bring(&r->flights, region, size);
}

uint32_t lane_unread_flights(const struct lane *r)
{
	return lane_flights_unread(&r->flights);
}

bool lane_is_kept(const struct lane *r)
{
	return flight_is_kept(&r->flights.table);
}

#define SIZE_ASSUMED 256u /* entries, before the front-end has said it */
#define OWN_ALIGN 4096u   /* bytes; so that pieces are whole pages */

uint64_t lane_own_bytes(const struct lane *r, const struct lane_context *c, enum lane_kind kind)
{
	uint16_t size = r->front.size ? own_ring_size(r, c) : SIZE_ASSUMED;
	uint64_t features =
		c->guest_features ? c->shadow_features : BIT64(VIRTIO_RING_F_INDIRECT_DESC);

	return align_up(implementations[kind]->own_bytes(size, features, c), OWN_ALIGN);
}

/* --- its life ---------------------------------------------------------------- */

int lane_start(struct lane *r, const struct lane_context *c, enum lane_kind kind, bool enabled,
	       struct umbra_error *err)
{
	int rc = lane_resolve(r, c, err);

	lane_expect_step(r, LANE_START);
	if (!rc)
		rc = eventfds_make(r, c, err);
	if (rc)
		return rc;
	rc = implementations[kind]->start(r, c, enabled, err);
	if (rc)
		return rc;
	r->ops = implementations[kind];
	r->kind = kind;
	lane_take_step(r, LANE_START);
	return 0;
}

int lane_go(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	int rc;

	lane_expect_step(r, LANE_GO);
	rc = r->ops->go ? r->ops->go(r, c, err) : 0;
	r->older = lane_flights_next(&r->flights);
	if (!rc && r->ops->service)
		rc = own_ring_serve(r, c, err);
	if (rc)
		return rc;
	lane_take_step(r, LANE_GO);
	device_host_notify(c->host->device, back_kick_fd(r));
	/* The one that died may have completed something and called nobody. */
	if (r->flights.region_was_read)
		device_host_notify(c->host->device, r->front.call_fd);
	r->flights.region_was_read = false;
	return 0;
}

int lane_unpause(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	return r->state == LANE_RUNNING && r->ops->service ? own_ring_serve(r, c, err) : 0;
}

int lane_hush(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	lane_expect_step(r, LANE_HUSH);
	lane_pause(r, c);
	lane_take_step(r, LANE_HUSH);
	r->hush.quiet_looks = 0;
	r->hush.sounding = SOUNDING_NOT;
	return r->ops->hush ? r->ops->hush(r, c, err) : 0;
}

int lane_is_idle(struct lane *r, const struct lane_context *c, uint16_t *left,
		 struct umbra_error *err)
{
	*left = 0;
	return r->ops->is_idle(r, c, left, err);
}

int lane_halt(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	struct ring_position base = ring_position_start(RING_SPLIT);
	int rc;

	lane_expect_step(r, LANE_HALT);
	if (r->ops->silence)
		r->ops->silence(r);
	rc = c->backend->ops->ring_stop(c->backend, r->front.index, &base, err);
	/* One that was stopped as a whole stands still, whether it can say where or not. */
	if (rc && (!backend_runs_as_one(c->backend) || backend_is_lost(rc)))
		return rc;
	lane_take_step(r, LANE_HALT);
	return r->ops->halt ? r->ops->halt(r, c, rc, base, err) : 0;
}

uint16_t lane_undrained(const struct lane *r)
{
	return r->ops && r->ops->undrained ? r->ops->undrained(r) : 0;
}

uint16_t lane_left(const struct lane *r)
{
	return lane_runs(r) && !r->forgotten && r->ops->left ? r->ops->left(r) : 0;
}

int lane_is_drained(struct lane *r, const struct lane_context *c)
{
	int rc = r->ops->drain ? r->ops->drain(r, c) : 0;

	if (rc)
		return rc;
	/* From a device that was reset, nothing more comes. */
	return backend_is_reset_by_stop(c->backend) || lane_undrained(r) == 0;
}

int lane_resume(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	int rc;

	lane_expect_step(r, LANE_RESUME);
	rc = r->state == LANE_HUSHED ? c->backend->ops->ring_unhush(c->backend, r->front.index, err)
				     : r->ops->restart(r, c, err);
	if (!rc && r->ops->service)
		rc = own_ring_serve(r, c, err);
	if (rc)
		return rc;
	lane_take_step(r, LANE_RESUME);
	/* For what was kicked and called while nobody listened. */
	device_host_notify(c->host->device, back_kick_fd(r));
	device_host_notify(c->host->device, r->front.call_fd);
	return 0;
}

/* Nobody has the ring any more. */
static void let_go(struct lane *r, const struct lane_context *c)
{
	lane_pause(r, c);
	if (r->ops && r->ops->let_go)
		r->ops->let_go(r, c);
	r->ops = NULL;
	r->forgotten = false;
	__atomic_store_n(&r->counters.in_flight, 0, __ATOMIC_RELAXED);
}

void lane_finish(struct lane *r, const struct lane_context *c)
{
	lane_expect_step(r, LANE_FINISH);
	if (r->ops->finish)
		r->ops->finish(r, c);
	let_go(r, c);
	lane_take_step(r, LANE_FINISH);
	/* For what the back-end completed after it had let go of its call fd. */
	device_host_notify(c->host->device, r->front.call_fd);
}

int lane_enable(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	return c->backend->ops->ring_enable(c->backend, r->front.index, true, err);
}

int lane_ungo(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	struct ring_position nothing_taken;
	int rc;

	lane_expect_step(r, LANE_TAKE_BACK);
	rc = c->backend->ops->ring_stop(c->backend, r->front.index, &nothing_taken, err);
	if (backend_is_lost(rc))
		return rc;
	let_go(r, c);
	lane_take_step(r, LANE_TAKE_BACK);
	return 0;
}

bool lane_can_hold(const struct lane *r)
{
	return r->state == LANE_BROKEN || r->state == LANE_BURIED || !r->ops || r->ops->hold;
}

uint16_t lane_held_chains(const struct lane *r)
{
	if (!lane_is_wanted(r) && !lane_is_stopped(r))
		return 0;
	return (uint16_t)(lane_waiting(r) + lane_flights_unread(&r->flights));
}

bool lane_holds_older(const struct lane *r)
{
	return lane_held_chains(r) && lane_flights_oldest(&r->flights) < r->older;
}

uint16_t lane_hold(struct lane *r, const struct lane_context *c)
{
	struct lane_context alone = *c;
	uint16_t unsettled;

	alone.backend = NULL;
	lane_expect_step(r, LANE_HOLD);
	lane_pause(r, c);
	if (r->state != LANE_BROKEN && r->ops->hold(r, c))
		lane_break(r, c, NULL);
	unsettled = lane_undrained(r);
	let_go(r, &alone);
	if (r->state == LANE_BROKEN)
		r->ops = &lane_untouched;
	lane_take_step(r, LANE_HOLD);
	/* A completion's call may have died with the back-end. */
	device_host_notify(c->host->device, r->front.call_fd);
	return unsettled;
}

void lane_lose(struct lane *r, const struct lane_context *c, const char *reason)
{
	counter_add(&r->counters.lost, lane_waiting(r));
	lane_flights_forget(&r->flights);
	lane_break(r, c, reason);
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
		snprintf(r->error, sizeof(r->error), "%s", guest_ring_reason(&r->front, reason));
	else
		r->ops->error(r, r->error, sizeof(r->error));
	if (r->ops && r->ops->broke)
		r->ops->broke(r, c);
	lane_flights_leave(&r->flights); /* what comes back later is nobody's any more */
	if (!lane_has_queue(r))
		r->ops = &lane_untouched;
	else
		r->ops->abandon(r);
	lane_take_step(r, LANE_BREAK);
	device_host_notify(c->host->device, r->front.err_fd);
	c->broke(c->device, r);
}

/* --- the front-end's fds --------------------------------------------------------- */

/* Whoever uses the fd of kind @which shall use @fd. */
static int fd_offer(struct lane *r, const struct lane_context *c, enum virtio_ring_fd which, int fd,
		    struct umbra_error *err)
{
	int *slot = lane_front_fd(r, which), before = *slot, rc, back;
	struct umbra_error later = { "" };

	rc = r->ops->use_fd(r, c, which, fd, err);
	*slot = before;
	if (!rc || backend_is_lost(rc))
		return rc;
	/* Refused, the one before is offered again, since it may have been let go of first. */
	back = r->ops->use_fd(r, c, which, before, &later);
	if (backend_is_lost(back)) {
		*err = later;
		return back;
	}
	/* Without it the ring must not look as if it ran. */
	if (back && which != VIRTIO_RING_ERR)
		lane_break(r, c, later.text);
	return rc;
}

int lane_exchange(struct lane *r, const struct lane_context *c, enum virtio_ring_fd which, int *fd,
		  struct umbra_error *err)
{
	int *slot = lane_front_fd(r, which);
	int rc = lane_runs(r) && r->ops->use_fd ? fd_offer(r, c, which, *fd, err) : 0;

	if (rc)
		return rc;
	fd_close(slot);
	*slot = fd_take(fd);
	/* A call may have gone to the old one while nobody listened there, and a kick may have
	 * come before the back-end listened; we look when we begin to serve. */
	if (which == VIRTIO_RING_CALL ? !lane_is_stopped(r)
				      : which == VIRTIO_RING_KICK && lane_is_passed(r))
		device_host_notify(c->host->device, *slot);
	return 0;
}
