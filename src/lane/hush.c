/* SPDX-License-Identifier: BSD-2-Clause */
/* How a back-end is told to take no more of a ring: see hush.h. */
#include "lane/hush.h"

/* Tell the back-end to take no more, in the way of its family. */
int hush_tell(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	int rc = 0;

	switch (c->backend->hush) {
	case BACKEND_HUSH_NOT:
		return 0;
	case BACKEND_HUSH_KICK:
		if (r->front.kick_fd < 0) /* it polls, and cannot be stopped from taking */
			return 0;
		rc = c->backend->ops->ring_exchange(c->backend, r->front.index, VIRTIO_RING_KICK,
						    r->quiet_fd, err);
		break;
	case BACKEND_HUSH_ENABLE:
		rc = c->backend->ops->ring_enable(c->backend, r->front.index, false, err);
		/* When it has read this, the round that it may have been in is over. */
		if (!rc)
			device_host_notify(c->host->device, back_kick_fd(r));
		break;
	}
	r->hush.is_muted = !rc;
	return rc;
}

/* Let the back-end hear again. */
int hush_end(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	const struct virtio_ops *ops = c->backend->ops;
	int rc = 0;

	if (r->hush.is_muted)
		rc = c->backend->hush == BACKEND_HUSH_ENABLE
			     ? ops->ring_enable(c->backend, r->front.index, true, err)
			     : ops->ring_exchange(c->backend, r->front.index, VIRTIO_RING_KICK,
						  back_kick_fd(r), err);
	if (!rc)
		r->hush.is_muted = false;
	return rc;
}

/* Has the back-end read the kick that tells that its last round is over? */
bool last_round_is_over(const struct lane *r, const struct lane_context *c)
{
	return c->backend->hush != BACKEND_HUSH_ENABLE || c->backend->leaves_kicks ||
	       c->host->ops->is_heard(c->host, back_kick_fd(r));
}
