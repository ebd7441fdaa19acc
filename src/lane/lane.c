/* SPDX-License-Identifier: BSD-2-Clause */
/* One ring of a shadow device, how it comes to life and goes: see lane.h. */
#include "lane/lane_private.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "lane/followed.h"
#include "ring/split_look.h"

/* Where the back-end completes the ghosts, as long as there are some. */
static void ghost_ring_set(struct lane *r, const struct driver_ring *back,
			   struct memory_backing *memory)
{
	if (r->ghost_memory)
		memory_backing_unref(r->ghost_memory);
	r->ghost_memory = NULL;
	if (!r->ghost_count)
		return;
	memory_backing_ref(memory);
	r->ghost_memory = memory;
	r->ghost_at = driver_ring_position(back);
	r->ghost_ring = back->split;
}

static void forget(struct lane *r)
{
	fd_close(&r->front.kick_fd);
	fd_close(&r->front.call_fd);
	fd_close(&r->front.err_fd);
	/* Ours, too: no front-end leaves anything behind for the next. */
	fd_close(&r->back_kick_fd);
	fd_close(&r->back_call_fd);
	fd_close(&r->quiet_fd);
	r->front.size = 0;
	r->front.has_addr = false;
	r->front.base = ring_position_start(RING_SPLIT);
	r->gap = 0;
	r->front.enabled = false;
	r->error[0] = '\0';
	r->kept_count = 0;
	free(r->kept);
	r->kept = NULL;
	r->left = false;
	r->ghost_count = 0;
	free(r->ghosts);
	r->ghosts = NULL;
	ghost_ring_set(r, NULL, NULL);
	r->spoils = 0;
}

/* --- all lanes of a device ------------------------------------------------ */

static void init(struct lane *r, unsigned int index)
{
	*r = (struct lane){
		.index = index,
		.front = { .kick_fd = -1, .call_fd = -1, .err_fd = -1 },
		.back_kick_fd = -1,
		.back_call_fd = -1,
		.quiet_fd = -1,
	};
}

int lanes_create(struct lanes **out)
{
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	for (unsigned int i = 0; i < UMBRA_QUEUES_MAX; i++)
		init(&(*out)->lane[i], i);
	return 0;
}

void lanes_destroy(struct lanes **lanes)
{
	if (!*lanes)
		return;
	lanes_forget(*lanes);
	free(*lanes);
	*lanes = NULL;
}

struct lane *lanes_name(struct lanes *lanes, unsigned int index)
{
	if (index >= lanes->count)
		lanes->count = index + 1;
	return &lanes->lane[index];
}

unsigned int lanes_count(const struct lanes *lanes)
{
	return lanes->count;
}

struct lane *lane_at(const struct lanes *lanes, unsigned int index)
{
	return (struct lane *)&lanes->lane[index];
}

bool lanes_any(const struct lanes *lanes, bool (*is)(const struct lane *r))
{
	for (unsigned int i = 0; i < lanes->count; i++)
		if (is(&lanes->lane[i]))
			return true;
	return false;
}

void lanes_forget(struct lanes *lanes)
{
	for (unsigned int i = 0; i < lanes->count; i++)
		forget(&lanes->lane[i]);
	lanes->count = 0;
}

/* --- what can be asked of one ---------------------------------------------- */

unsigned int lane_index(const struct lane *r)
{
	return r->index;
}

struct lane_front *lane_front(const struct lane *r)
{
	return (struct lane_front *)&r->front;
}

struct lane_piece *lane_piece(const struct lane *r)
{
	return (struct lane_piece *)&r->own;
}

const struct shadow_counters *lane_counters(const struct lane *r)
{
	return &r->counters;
}

const char *lane_error(const struct lane *r)
{
	return r->error;
}

bool lane_is_stopped(const struct lane *r)
{
	return r->state == LANE_STOPPED;
}

bool lane_is_wanted(const struct lane *r)
{
	return r->state == LANE_WANTED;
}

bool lane_is_broken(const struct lane *r)
{
	return r->state == LANE_BROKEN || r->state == LANE_BURIED;
}

bool lane_is_passed(const struct lane *r)
{
	return lane_runs(r) && r->kind == LANE_PASSED;
}

bool lane_is_shadowed(const struct lane *r)
{
	return lane_runs(r) && r->kind != LANE_PASSED;
}

bool lane_runs(const struct lane *r)
{
	return r->state == LANE_STARTED || r->state == LANE_RUNNING || lane_is_resting(r);
}

bool lane_is_started(const struct lane *r)
{
	return r->state == LANE_STARTED;
}

bool lane_is_halted(const struct lane *r)
{
	return r->state == LANE_HALTED || r->state == LANE_BURIED;
}

bool lane_is_resting(const struct lane *r)
{
	return r->state == LANE_HUSHED || r->state == LANE_HALTED;
}

bool lane_is_at_backend(const struct lane *r)
{
	return (lane_runs(r) || lane_is_broken(r)) && !lane_is_halted(r);
}

bool lane_has_queue(const struct lane *r)
{
	return r->queue || r->control;
}

bool lane_is_followed(const struct lane *r)
{
	return r->control;
}

bool lane_is_served(const struct lane *r)
{
	return r->is_served;
}

bool lane_is_new_to_guest(const struct lane *r)
{
	return split_begins(&r->split, r->front.base);
}

bool lane_has_left(const struct lane *r)
{
	return r->left;
}

bool lane_has_failed(const struct lane *r, const char **fault)
{
	if (!lane_is_shadowed(r) || !r->is_served ||
	    !__atomic_load_n(&r->service.broken, __ATOMIC_ACQUIRE))
		return false;
	*fault = r->service.fault;
	return true;
}

void lane_say_tables(struct lane *r)
{
	uint32_t longest = __atomic_load_n(&r->counters.table_longest, __ATOMIC_RELAXED);

	if (!longest || r->table_said)
		return;
	r->table_said = true;
	log_warning("queue %u: the guest's driver builds indirect tables that are longer than the "
		    "ring (%u descriptors on a ring of %u), which the virtio specification "
		    "forbids; they are forwarded as they are",
		    r->index, longest, r->front.size);
}

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

bool lane_is_forgotten(const struct lane *r)
{
	return r->forgotten;
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

/* --- passed through ------------------------------------------------------ */

/* A guest that does not read its calls for so long does not want them. */
#define CALL_ROOM_WAIT_US 1000000u

/*
 * libvhost-user notifies every new call fd at once, and where that is full (User
 * Mode Linux's is a socket) it answers the message as if it had been a
 * question.  So give the guest time to read what is there.
 */
static int call_room_wait(const struct lane *r, const struct lane_context *c,
			  struct umbra_error *err)
{
	uint64_t start = c->host->ops->now_us(c->host);

	while (!c->host->ops->can_notify(c->host, r->front.call_fd) &&
	       c->host->ops->now_us(c->host) - start < CALL_ROOM_WAIT_US)
		if (c->host->ops->wait_us(c->host, 1000))
			return error_set(err, -ECANCELED, "the device is stopped");
	return 0;
}

static int passed_start(struct lane *r, const struct lane_context *c, bool enabled,
			struct umbra_error *err)
{
	const struct virtio_ring ring = {
		.size = r->front.size,
		.base = r->front.base,
		.addr = { r->front.desc, r->front.avail, r->front.used },
		.kick_fd = r->front.kick_fd,
		.call_fd = r->front.call_fd,
		.err_fd = r->front.err_fd,
		.enabled = enabled,
	};
	int rc;

	if (backend_is_whole(c->backend) && r->gap)
		return error_set(
			err, -EOPNOTSUPP,
			"queue %u cannot be passed through: %u chains that the device was "
			"given before were not used (%u of them wait to be given again), and "
			"are not the newest on the guest's ring",
			r->index, r->gap, r->kept_count);
	rc = call_room_wait(r, c, err);
	return rc ? rc : c->backend->ops->ring_start(c->backend, r->index, &ring, err);
}

/* --- shadowed ------------------------------------------------------------ */

static void shadow_free(struct lane *r)
{
	free(r->queue);
	free(r->control);
	free(r->private);
	free(r->segs);
	free(r->behind);
	r->behind = NULL;
	r->queue = NULL;
	r->control = NULL;
	r->private = NULL;
	r->segs = NULL;
}

/* The guest's size, if the device takes rings so large (VDUSE: 128).  A smaller
 * shadow ring is filled and refilled: the guest never knows. */
static uint16_t back_size(const struct lane *r, const struct lane_context *c)
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

/* Lay the shadow ring out in our own memory and join it to the guest's. */
static int shadow_build(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	uint64_t features = c->shadow_features;
	struct driver_layout layout = driver_ring_layout(r->back_size, features, c->table_max);
	struct shadow_queue_config config;
	uint64_t at;

	if (layout.shared_bytes > r->own.at.size)
		return error_set(
			err, -EOPNOTSUPP,
			"queue %u: a shadow of %u entries needs %zu bytes of shadow memory, "
			"and there are %" PRIu64,
			r->index, r->back_size, layout.shared_bytes, r->own.at.size);
	r->queue = calloc(1, sizeof(*r->queue));
	r->private = calloc(1, layout.private_bytes);
	r->segs = calloc(MAX(r->front.size, c->table_max), sizeof(*r->segs));
	if (!r->kept)
		r->kept = calloc(r->front.size, sizeof(*r->kept));
	r->behind = calloc(r->back_size, sizeof(*r->behind));
	if (!r->queue || !r->private || !r->segs || !r->kept || !r->behind) {
		shadow_free(r);
		return error_set(err, -ENOMEM, "queue %u: no memory for a shadow of %u entries",
				 r->index, r->front.size);
	}
	config = (struct shadow_queue_config){
		.guest = {
			.split = r->split,
			.memory = c->memory,
			.features = c->guest_features,
			.at = r->front.base,
			.table_max = c->table_max,
		},
		.back = {
			.size = r->back_size,
			.features = features,
			.shared = r->own.at.host,
			.shared_addr = r->own.at.iova,
			.private = r->private,
			.base = backend_keeps_index(c->backend)
					? ring_position_drained(r->front.base)
					: ring_position_start(RING_SPLIT),
			.table_max = c->table_max,
		},
		.segs = r->segs,
		.counters = &r->counters,
		.ghosts = r->ghosts,
		.ghost_count = r->ghost_count,
	};
	if (r->ghost_count)
		log_warning(
			"queue %u: the back-end has not used %u chains of the life before; their "
			"ids are not used again before they come back",
			r->index, r->ghost_count);
	if (shadow_queue_init(r->queue, &config)) {
		shadow_free(r);
		return error_set(err, -EINVAL, "queue %u: a ring of %u entries cannot be shadowed",
				 r->index, r->front.size);
	}
	ghost_ring_set(r, &r->queue->back, r->own.at.backing);
	at = r->own.at.uva.v;
	r->shadow_desc = (uva_t){ at + layout.ring.desc };
	r->shadow_avail = (uva_t){ at + layout.ring.avail };
	r->shadow_used = (uva_t){ at + layout.ring.used };
	return 0;
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

static int queue_pass(void *queue, unsigned int *owed)
{
	return shadow_queue_pass(queue, owed);
}

static int queue_move(void *queue, unsigned int *owed)
{
	return shadow_queue_move(queue, owed);
}

static bool queue_has_work(const void *queue)
{
	return shadow_queue_has_work(queue);
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

/* --- earlier lives -------------------------------------------------------- */

uint16_t lane_ghosts(const struct lane *r)
{
	return r->queue ? __atomic_load_n(&r->queue->ghosts, __ATOMIC_RELAXED) : r->ghost_count;
}

static void ghost_end(struct lane *r, uint32_t id)
{
	for (uint16_t i = 0; i < r->ghost_count; i++)
		if (r->ghosts[i] == id) {
			r->ghosts[i] = r->ghosts[--r->ghost_count];
			return;
		}
}

/* The shadow is let go of: what has the back-end still of it? */
static void ghosts_note(struct lane *r)
{
	uint16_t count = shadow_queue_leave_behind(r->queue, r->behind);

	free(r->ghosts);
	r->ghosts = r->behind;
	r->behind = NULL;
	r->ghost_count = count;
	ghost_ring_set(r, &r->queue->back, r->own.at.backing);
}

/* It may have used some since, where it had them.  A lie costs the ring these ids. */
static void ghosts_look(struct lane *r, uint16_t size)
{
	const struct split_ring *s = &r->ghost_ring;
	uint16_t done;

	if (!r->ghost_count || !r->ghost_memory)
		return;
	done = ring_used_since(split_said(s), r->ghost_at, s->size);
	for (uint16_t n = done <= r->ghost_count ? done : 0; n; n--) {
		ghost_end(r, split_used_id(s, r->ghost_at));
		ring_position_complete(&r->ghost_at, 1, s->size);
	}
	if (!r->ghost_count) /* they have all come back */
		r->own.is_spoiled = false;
	/* On a smaller ring the others are out of range, which is told apart as well. */
	for (uint16_t i = r->ghost_count; i--;)
		if (r->ghosts[i] >= size)
			ghost_end(r, r->ghosts[i]);
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
