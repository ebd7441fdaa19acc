/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The control queue of a network device as the queue of a ring: where it differs
 * from a shadow queue in the life that lane.h describes.
 *
 * It is always between guest and device, in either mode, and its ring at the
 * device begins at 0 each time, since refused and replayed commands make the two
 * rings' indices strangers (control_queue.h).  A stop does not wait for it: a
 * device that is stopped is reset, which undoes the command that it had, and
 * after the replay the command is submitted again.
 *
 * Threads: the device's thread.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/error.h"
#include "lane/own_ring.h"

static int memory_make(struct lane *r, const struct control_layout *layout, struct umbra_error *err)
{
	r->control = calloc(1, sizeof(*r->control));
	r->private = calloc(1, layout->private_bytes);
	r->segs = calloc(r->front.size, sizeof(*r->segs));
	if (r->control && r->private && r->segs)
		return 0;
	return error_set(err, -ENOMEM, "queue %u: no memory for a control queue of %u entries",
			 r->front.index, r->front.size);
}

static int control_build(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	struct control_layout layout = control_queue_layout(r->back_size, c->shadow_features);
	struct control_queue_config config = {
		.index = r->front.index,
		.guest = {
			.split = r->front.split,
			.memory = c->memory,
			.features = c->guest_features,
			.at = r->front.base,
		},
		.back = {
			.size = r->back_size,
			.features = c->shadow_features,
			.shared = r->own.at.host,
			.shared_addr = r->own.at.iova,
		},
		.terms = c->control->terms,
		.state = c->control->state,
		.counters = &r->counters,
		.control_counters = c->control->counters,
		.view = c->control->view,
	};
	int rc;

	if (layout.shared_bytes > r->own.at.size)
		return error_set(
			err, -EOPNOTSUPP,
			"queue %u: a control queue of %u entries needs %zu bytes of shadow "
			"memory, and there are %llu",
			r->front.index, r->front.size, layout.shared_bytes,
			(unsigned long long)r->own.at.size);
	rc = memory_make(r, &layout, err);
	if (rc)
		return rc;
	config.back.private = r->private;
	config.segs = r->segs;
	if (control_queue_init(r->control, &config))
		return error_set(err, -EINVAL,
				 "queue %u: a control queue of %u entries has no room for a "
				 "command, expected 2 or more",
				 r->front.index, r->front.size);
	own_ring_place(r, &layout.driver.ring);
	return 0;
}

static size_t followed_bytes(uint16_t size, uint64_t features, const struct lane_context *c)
{
	(void)c;
	return control_queue_layout(size, features).shared_bytes;
}

static void control_free(struct lane *r)
{
	free(r->control);
	free(r->private);
	free(r->segs);
	r->control = NULL;
	r->private = NULL;
	r->segs = NULL;
}

static int followed_start(struct lane *r, const struct lane_context *c, bool enabled,
			  struct umbra_error *err)
{
	int rc;

	r->back_size = own_ring_size(r, c);
	rc = control_build(r, c, err);
	if (!rc)
		rc = own_ring_start(r, c, driver_ring_position(&r->control->back), enabled, err);
	if (rc)
		control_free(r);
	return rc;
}

static void followed_service(struct lane *r, struct queue_service *service)
{
	control_queue_service(r->control, service);
}

static int followed_drain(struct lane *r, const struct lane_context *c)
{
	unsigned int owed = 0;
	int actions = control_queue_drain(r->control, &owed);

	return own_ring_completed(r, c, actions, owed);
}

/* What it has a reset undoes. */
static int followed_is_idle(struct lane *r, const struct lane_context *c, uint16_t *left,
			    struct umbra_error *err)
{
	int rc = followed_drain(r, c);

	(void)left;
	(void)err;
	return rc < 0 ? rc : 1;
}

static int followed_halt(struct lane *r, const struct lane_context *c, int answer,
			 struct ring_position base, struct umbra_error *err)
{
	char why[UMBRA_ERROR_SIZE];

	(void)answer;
	(void)base;
	if (!followed_drain(r, c))
		return 0;
	return error_set(err, -EPROTO, "%s", control_queue_error(r->control, why, sizeof(why)));
}

static void followed_find(struct lane *r, const struct lane_context *c)
{
	r->control->guest.split = r->front.split;
	r->control->guest.memory = c->memory;
	r->control->guest.memory_hint = 0;
}

static void followed_finish(struct lane *r, const struct lane_context *c)
{
	struct control_queue *q = r->control;

	(void)c;
	if (!q->abandoned)
		(void)control_queue_take_back(q);
	r->front.base = device_ring_position(&q->guest);
	/* What arm() finds, the pass at its start will find. */
	if (!lane_is_broken(r))
		(void)!device_ring_arm(&q->guest);
}

int lane_replay(struct lane *r, struct shadow_host *host, uint64_t deadline_us,
		struct umbra_error *err)
{
	return control_queue_replay(r->control, host, r->back_kick_fd, deadline_us, err);
}

static void followed_abandon(struct lane *r)
{
	control_queue_abandon(r->control);
}

static char *followed_error(const struct lane *r, char *text, size_t size)
{
	return control_queue_error(r->control, text, size);
}

static void followed_let_go(struct lane *r, const struct lane_context *c)
{
	(void)c;
	control_free(r);
}

const struct lane_ops lane_followed = {
	.own_bytes = followed_bytes,
	.start = followed_start,
	.service = followed_service,
	.is_idle = followed_is_idle,
	.halt = followed_halt,
	.drain = followed_drain,
	.finish = followed_finish,
	.use_fd = own_ring_use_fd,
	.find = followed_find,
	.abandon = followed_abandon,
	.error = followed_error,
	.let_go = followed_let_go,
};
