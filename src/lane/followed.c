/* SPDX-License-Identifier: BSD-2-Clause */
/* The control queue as the queue of a ring: see followed.h. */
#include "lane/followed.h"

#include <errno.h>
#include <stdlib.h>

#include "base/error.h"

static int memory_make(struct lane *r, const struct control_layout *layout, struct umbra_error *err)
{
	r->control = calloc(1, sizeof(*r->control));
	r->private = calloc(1, layout->private_bytes);
	r->segs = calloc(r->front.size, sizeof(*r->segs));
	if (r->control && r->private && r->segs)
		return 0;
	return error_set(err, -ENOMEM, "queue %u: no memory for a control queue of %u entries",
			 r->index, r->front.size);
}

int ring_control_build(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	struct control_layout layout = control_queue_layout(r->back_size, c->shadow_features);
	struct control_queue_config config = {
		.index = r->index,
		.guest = {
			.split = r->split,
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
	uint64_t at = r->own.at.uva.v;
	int rc;

	if (layout.shared_bytes > r->own.at.size)
		return error_set(
			err, -EOPNOTSUPP,
			"queue %u: a control queue of %u entries needs %zu bytes of shadow "
			"memory, and there are %llu",
			r->index, r->front.size, layout.shared_bytes,
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
				 r->index, r->front.size);
	r->shadow_desc = (uva_t){ at + layout.driver.ring.desc };
	r->shadow_avail = (uva_t){ at + layout.driver.ring.avail };
	r->shadow_used = (uva_t){ at + layout.driver.ring.used };
	return 0;
}

void ring_control_resolve(struct lane *r, const struct lane_context *c)
{
	r->control->guest.split = r->split;
	r->control->guest.memory = c->memory;
	r->control->guest.memory_hint = 0;
}

void ring_control_finish(struct lane *r)
{
	struct control_queue *q = r->control;

	if (!q->abandoned)
		(void)control_queue_take_back(q);
	r->front.base = device_ring_position(&q->guest);
	r->owed = device_ring_outstanding(&q->guest);
	/* What arm() finds, the pass at its start will find. */
	if (lane_is_shadowed(r))
		(void)!device_ring_arm(&q->guest);
}

int lane_replay(struct lane *r, struct shadow_host *host, uint64_t deadline_us,
		struct umbra_error *err)
{
	return control_queue_replay(r->control, host, r->back_kick_fd, deadline_us, err);
}
