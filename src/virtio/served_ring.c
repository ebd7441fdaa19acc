/* SPDX-License-Identifier: BSD-2-Clause */
/* A guest's ring that we serve: see served_ring.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/log.h"
#include "virtio/guest_rings.h"

/* It leaves PAUSED for good: from here on front.base says where it stands. */
static void served_ring_leave(struct guest_rings *g, struct served_ring *r)
{
	if (g->kind->stop)
		g->kind->stop(g, r);
	r->front.base = device_ring_position(&r->ring);
}

void served_ring_pause(struct guest_rings *g, struct served_ring *r)
{
	if (r->state != SERVED_RUNNING)
		return;
	device_host_serve_end(g->host, &r->service);
	r->state = SERVED_PAUSED;
	if (g->kind->pause)
		g->kind->pause(g, r);
}

void served_ring_break(struct guest_rings *g, struct served_ring *r, const char *reason)
{
	served_ring_pause(g, r);
	if (r->state == SERVED_PAUSED)
		served_ring_leave(g, r);
	r->state = SERVED_BROKEN;
	snprintf(r->error, sizeof(r->error), "%s", guest_ring_reason(&r->front, reason));
	log_error("queue %u is broken: %s", r->front.index, r->error);
	device_host_notify(g->host, r->front.err_fd);
	device_host_config_changed(g->host);
}

void served_ring_halt(struct guest_rings *g, struct served_ring *r)
{
	served_ring_pause(g, r);
	if (r->state == SERVED_PAUSED)
		served_ring_leave(g, r);
	r->state = SERVED_STOPPED;
	r->error[0] = '\0';
}

void served_ring_forget(struct guest_rings *g, struct served_ring *r)
{
	served_ring_halt(g, r);
	guest_ring_forget(&r->front);
	free(r->chain.segs);
	r->chain.segs = NULL;
}

int served_ring_serve(struct guest_rings *g, struct served_ring *r, struct umbra_error *err)
{
	int rc;

	if (r->state != SERVED_PAUSED || !r->front.enabled ||
	    (g->kind->is_served && !g->kind->is_served(g, r)))
		return 0;
	r->service = (struct queue_service){
		.pass = g->kind->pass,
		.queue = r,
		.index = r->front.index,
		.kick_in = r->front.kick_fd,
		.call_in = -1,
		.kick_out = -1,
		.call_out = r->front.call_fd,
		.kicks_in = &r->kicks,
	};
	rc = device_host_serve_begin(g->host, &r->service, err);
	if (!rc)
		r->state = SERVED_RUNNING;
	return rc;
}

void served_ring_resume(struct guest_rings *g, struct served_ring *r)
{
	struct umbra_error err = { "" };

	if (served_ring_serve(g, r, &err))
		served_ring_break(g, r, err.text);
}

/* -EPROTO: it cannot stand where the front-end says. */
static int served_ring_make(struct guest_rings *g, struct served_ring *r, struct umbra_error *err)
{
	struct device_ring_config config = { .memory = g->memory, .features = g->features };
	struct ring_seg *segs;
	int rc = guest_ring_find(&r->front, g->memory, err);

	if (!rc)
		rc = guest_ring_judge(&r->front, err);
	if (rc)
		return rc;
	segs = calloc(r->front.size, sizeof(*segs));
	if (!segs)
		return error_set(err, -ENOMEM, "queue %u: no memory for %u entries", r->front.index,
				 r->front.size);
	free(r->chain.segs);
	r->chain = (struct ring_chain){ .segs = segs };
	/* Whoever served the ring before (we, in an earlier life) may have taken buffers that it
	 * never completed.  They are taken again: to do so twice must be harmless to the kind. */
	config.split = r->front.split;
	config.at = ring_position_with(r->front.base, 0, r->front.size);
	device_ring_init(&r->ring, &config);
	return 0;
}

int served_ring_start(struct guest_rings *g, struct served_ring *r, bool goes_on,
		      struct umbra_error *err)
{
	struct umbra_error why = { "" };
	int rc = served_ring_make(g, r, &why);

	if (rc == -EPROTO) {
		served_ring_break(g, r, why.text);
		return 0;
	}
	if (rc)
		return error_set(err, rc, "%s", why.text);
	r->state = SERVED_PAUSED;
	if (g->kind->start)
		g->kind->start(g, r, goes_on);
	return 0;
}

void served_ring_follow(struct guest_rings *g, struct served_ring *r)
{
	struct umbra_error why = { "" };

	if (r->state != SERVED_PAUSED)
		return;
	if (guest_ring_find(&r->front, g->memory, &why)) {
		served_ring_break(g, r, why.text);
		return;
	}
	r->ring.split = r->front.split;
	r->ring.memory = g->memory;
	r->ring.memory_hint = r->ring.table_hint = 0;
}

void served_ring_check(struct guest_rings *g, struct served_ring *r)
{
	char why[UMBRA_ERROR_SIZE];

	/* Acquire; peer: the worker's release after its last pass. */
	if (r->state != SERVED_RUNNING || !__atomic_load_n(&r->service.broken, __ATOMIC_ACQUIRE))
		return;
	if (r->service.fault)
		snprintf(why, sizeof(why), "%s", r->service.fault);
	else
		ring_error_text(&r->ring.error, why, sizeof(why));
	served_ring_break(g, r, why);
}
