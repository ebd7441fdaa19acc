/* SPDX-License-Identifier: BSD-2-Clause */
/* How a back-end is brought to take no more of a ring: see vhost_user_hush.h. */
#include "vhost_user/vhost_user_hush.h"

#include <inttypes.h>

#include "base/fd.h"
#include "base/log.h"

void vhost_user_hush_init(struct vhost_user_hush *h, const struct vhost_user_hush_means *means,
			  void *opaque)
{
	*h = (struct vhost_user_hush){ .means = means, .opaque = opaque };
	for (unsigned int i = 0; i < VHOST_USER_QUEUES_MAX; i++)
		h->rings[i] = (struct hushed_ring){ .kick_fd = -1, .quiet_fd = -1 };
}

void vhost_user_hush_fini(struct vhost_user_hush *h)
{
	for (unsigned int i = 0; i < VHOST_USER_QUEUES_MAX; i++)
		fd_close(&h->rings[i].quiet_fd);
}

void vhost_user_hush_note(struct vhost_user_hush *h, unsigned int index, int kick_fd)
{
	struct hushed_ring *r = &h->rings[index];

	*r = (struct hushed_ring){ .kick_fd = kick_fd, .quiet_fd = r->quiet_fd };
}

static int by_kick_begin(struct vhost_user_hush *h, unsigned int index, struct umbra_error *err)
{
	struct hushed_ring *r = &h->rings[index];
	int rc = 0;

	if (r->quiet_fd < 0)
		rc = h->means->make_eventfd(h->opaque, &r->quiet_fd, err);
	return rc ? rc : h->means->set_kick(h->opaque, index, r->quiet_fd, err);
}

static int by_enable_begin(struct vhost_user_hush *h, unsigned int index, struct umbra_error *err)
{
	int rc = h->means->set_enabled(h->opaque, index, false, err);

	/* When it has read this, the round that it may have been in is over. */
	if (!rc)
		h->means->notify(h->opaque, h->rings[index].kick_fd);
	return rc;
}

int vhost_user_hush_begin(struct vhost_user_hush *h, unsigned int index, bool is_fed,
			  struct umbra_error *err)
{
	struct hushed_ring *r = &h->rings[index];
	int rc;

	switch (h->way) {
	case HUSH_NOT:
		return 0;
	case HUSH_BY_KICK:
		/* One that polls cannot be stopped from taking. */
		if (!is_fed || r->kick_fd < 0)
			return 0;
		rc = by_kick_begin(h, index, err);
		break;
	case HUSH_BY_ENABLE:
	default:
		if (!is_fed && r->is_muted)
			return 0;
		rc = by_enable_begin(h, index, err);
		break;
	}
	r->is_muted = !rc;
	r->is_sounding = false;
	return rc;
}

int vhost_user_hush_end(struct vhost_user_hush *h, unsigned int index, struct umbra_error *err)
{
	struct hushed_ring *r = &h->rings[index];
	int rc = 0;

	if (r->is_muted)
		rc = h->way == HUSH_BY_ENABLE
			     ? h->means->set_enabled(h->opaque, index, true, err)
			     : h->means->set_kick(h->opaque, index, r->kick_fd, err);
	if (!rc)
		r->is_muted = false;
	return rc;
}

enum ring_rest vhost_user_hush_rest(const struct vhost_user_hush *h, unsigned int index)
{
	switch (h->way) {
	case HUSH_NOT:
		return RING_STOPS_AT_REST;
	case HUSH_BY_KICK:
		return RING_USES_BEFORE_STOP;
	case HUSH_BY_ENABLE:
	default:
		return h->leaves_kicks || h->means->is_heard(h->opaque, h->rings[index].kick_fd)
			       ? RING_MAY_USE_LATER
			       : RING_MAY_TAKE;
	}
}

/*
 * The back-end's thread takes all that is available when it hears a kick, before it turns
 * to the next message.  So it is kicked once, on the fd on which nobody else kicks, and when
 * it has read that, it is told what it knows already, which it answers.
 */
int vhost_user_hush_sound(struct vhost_user_hush *h, unsigned int index, struct umbra_error *err)
{
	struct hushed_ring *r = &h->rings[index];
	int rc;

	if (h->way != HUSH_BY_KICK || !r->is_muted)
		return 0;
	if (!r->is_sounding) {
		r->is_sounding = true;
		h->means->notify(h->opaque, r->quiet_fd);
	}
	if (!h->means->is_heard(h->opaque, r->quiet_fd))
		return 0;
	rc = h->means->set_kick(h->opaque, index, r->quiet_fd, err);
	if (rc)
		return rc;
	r->is_sounding = false;
	return 1;
}

bool vhost_user_hush_presume(struct vhost_user_hush *h, unsigned int index, uint64_t waited_ms)
{
	if (h->way != HUSH_BY_ENABLE)
		return false;
	log_warning("queue %u: the back-end has not read a kick of the disabled queue for %" PRIu64
		    " ms, so from here on that is not waited for",
		    index, waited_ms);
	h->leaves_kicks = true;
	return true;
}
