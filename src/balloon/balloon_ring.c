/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The rings of a balloon device: set up by the front-end's messages, handed to the
 * host's thread and taken back, broken and forgotten.  See balloon_device.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "balloon/balloon_device_private.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"

/* --- what a ring is for ------------------------------------------------------- */

static enum balloon_queue_kind queue_kind_of(const struct balloon_device *d, unsigned int index)
{
	switch (index) {
	case 0:
		return BALLOON_QUEUE_INFLATE;
	case 1:
		return BALLOON_QUEUE_DEFLATE;
	case 2:
		if (FEATURE(d, STATS_VQ))
			return BALLOON_QUEUE_STATS;
		__attribute__((fallthrough));
	default:
		return FEATURE(d, REPORTING) ? BALLOON_QUEUE_REPORT : BALLOON_QUEUE_UNUSED;
	}
}

/* --- rings ---------------------------------------------------------------------- */

/* Make the queue of a ring that starts.  -EPROTO: it cannot stand where the front-end
 * says, and is to be broken. */
static int ring_build(struct balloon_device *d, struct balloon_ring *r, struct umbra_error *err)
{
	struct device_ring_config config = { .memory = d->memory, .features = d->features };
	struct ring_seg *segs;
	int rc = guest_ring_find(&r->front, d->memory, err);

	if (!rc)
		rc = guest_ring_judge(&r->front, err);
	if (rc)
		return rc;
	segs = calloc(r->front.size, sizeof(*segs));
	if (!segs)
		return error_set(err, -ENOMEM, "queue %u: no memory for %u entries", r->front.index,
				 r->front.size);
	/*
	 * Whoever served the ring before (we, in an earlier life) may have taken
	 * buffers that it never completed.  They are taken again: to inflate or to
	 * deflate twice is harmless.
	 */
	config.split = r->front.split;
	config.at = ring_position_with(r->front.base, 0, r->front.size);
	free(r->queue.chain.segs);
	r->queue = (struct balloon_queue){
		.kind = queue_kind_of(d, r->front.index),
		.shared = &d->shared,
		.chain = { .segs = segs },
	};
	device_ring_init(&r->queue.ring, &config);
	if (r->queue.kind == BALLOON_QUEUE_STATS)
		balloon_device_stats_start(d, !r->front.base.avail);
	r->built = true;
	r->error[0] = '\0';
	return 0;
}

/* The ring is started: it is built, or broken because it cannot stand where it should. */
static int balloon_ring_start(struct balloon_device *d, struct balloon_ring *r,
			      struct umbra_error *err)
{
	struct umbra_error why = { "" };
	int rc = ring_build(d, r, &why);

	if (rc == -EPROTO) {
		balloon_ring_break(d, r, why.text);
		device_host_config_changed(d->host->device);
		rc = 0;
	} else if (rc) {
		error_set(err, rc, "%s", why.text);
	}
	r->started = !rc;
	return rc;
}

void balloon_ring_break(struct balloon_device *d, struct balloon_ring *r, const char *reason)
{
	snprintf(r->error, sizeof(r->error), "%s", reason);
	log_error("queue %u is broken: %s", r->front.index, reason);
	device_host_notify(d->host->device, r->front.err_fd);
}

static void ring_pause(struct balloon_device *d, struct balloon_ring *r)
{
	if (r->serving)
		device_host_serve_end(d->host->device, &r->service);
	r->serving = false;
	balloon_queue_pause(&r->queue);
}

/* 0: it is served, or has no reason to be. */
static int ring_serve(struct balloon_device *d, struct balloon_ring *r, struct umbra_error *err)
{
	int rc;

	if (r->serving || !r->built || !r->started || !r->front.enabled || r->error[0] ||
	    r->queue.kind == BALLOON_QUEUE_UNUSED)
		return 0;
	r->service = (struct queue_service){
		.pass = balloon_queue_pass,
		.queue = &r->queue,
		.index = r->front.index,
		.kick_in = r->front.kick_fd,
		.call_in = -1,
		.kick_out = -1,
		.call_out = r->front.call_fd,
		.kicks_in = &d->shared.counters.kicks,
	};
	rc = device_host_serve_begin(d->host->device, &r->service, err);
	r->serving = !rc;
	return rc;
}

static void ring_resume(struct balloon_device *d, struct balloon_ring *r)
{
	struct umbra_error err = { "" };

	if (ring_serve(d, r, &err))
		balloon_ring_break(d, r, err.text);
}

/* The ring is looked at no more until it is started again, at r->front.base. */
void balloon_ring_halt(struct balloon_device *d, struct balloon_ring *r)
{
	ring_pause(d, r);
	if (r->built)
		r->front.base = balloon_queue_stop(&r->queue);
	r->started = r->built = false;
	r->error[0] = '\0';
}

/* Forget what the front-end said of it. */
void balloon_ring_forget(struct balloon_device *d, struct balloon_ring *r)
{
	ring_pause(d, r);
	guest_ring_forget(&r->front);
	free(r->queue.chain.segs);
	r->queue = (struct balloon_queue){ .kind = BALLOON_QUEUE_UNUSED };
	r->started = r->built = false;
	r->error[0] = '\0';
}

void balloon_queues_pause(struct balloon_device *d)
{
	for (unsigned int i = 0; i < BALLOON_QUEUES; i++)
		ring_pause(d, &d->rings[i]);
}

/* Give the queues what has been negotiated and mapped meanwhile, and go on. */
void balloon_queues_resume(struct balloon_device *d)
{
	struct balloon_shared *s = &d->shared;

	s->page_bitmap = d->features & BIT64(PAGE_RUN_FEATURE_BIT);
	/* A reported page must read as it was, or as the poison; we make zeros. */
	s->leaves_reports = FEATURE(d, PAGE_POISON) && d->poison;
	s->batch.memory = d->memory;
	s->batch.ledger = d->ledger;
	s->batch.whole_blocks = FEATURE(d, MUST_TELL_HOST);
	if (d->memory)
		for (unsigned int i = 0; i < BALLOON_QUEUES; i++)
			ring_resume(d, &d->rings[i]);
}

/* --- the front-end's messages ------------------------------------------------------ */

/*
 * NULL: there is no such ring.
 *
 * Not every front-end stops a ring before it sets it up for the next driver (User
 * Mode Linux does not): virtio/guest_ring.h says what each message does to one that runs.
 */
static struct balloon_ring *ring_get(struct balloon_device *d, unsigned int index,
				     struct umbra_error *err)
{
	if (index < BALLOON_QUEUES)
		return &d->rings[index];
	error_set(err, -EINVAL, "queue %u: a balloon has %u", index, BALLOON_QUEUES);
	return NULL;
}

int balloon_ring_set_size(struct virtio_device *self, unsigned int index, uint32_t size,
			  struct umbra_error *err)
{
	struct balloon_ring *r = ring_get(balloon_of(self), index, err);
	int rc = r ? guest_ring_check_size(&r->front, size, err) : -EINVAL;

	if (rc)
		return rc;
	if (r->front.size != size)
		balloon_ring_halt(balloon_of(self), r);
	r->front.size = (uint16_t)size;
	return 0;
}

int balloon_ring_set_addr(struct virtio_device *self, unsigned int index,
			  const struct virtio_ring_addr *addr, struct umbra_error *err)
{
	struct balloon_device *d = balloon_of(self);
	struct balloon_ring *r = ring_get(d, index, err);
	int rc;

	if (!r)
		return -EINVAL;
	if (guest_ring_is_at(&r->front, addr))
		return 0;
	if (!r->started) {
		r->front.addr = *addr;
		r->front.has_addr = true;
		return 0;
	}
	rc = guest_ring_find_at(&r->front, addr, d->memory, err);
	if (rc)
		return rc;
	balloon_ring_halt(d, r);
	rc = balloon_ring_start(d, r, err);
	ring_resume(d, r);
	return rc;
}

int balloon_ring_set_base(struct virtio_device *self, unsigned int index, struct ring_position base,
			  struct umbra_error *err)
{
	struct balloon_ring *r = ring_get(balloon_of(self), index, err);

	if (!r)
		return -EINVAL;
	balloon_ring_halt(balloon_of(self), r);
	r->front.base = base;
	return 0;
}

/* The new fd is proven before the old one is let go of: after an error *@fd is still the
 * caller's, and the old one serves on. */
static int balloon_ring_exchange_fd(struct balloon_device *d, struct balloon_ring *r, int *slot,
				    int *fd, struct umbra_error *err)
{
	int before = *slot, rc;

	ring_pause(d, r);
	*slot = *fd;
	rc = ring_serve(d, r, err);
	if (rc) {
		*slot = before;
		ring_resume(d, r);
		return rc;
	}
	fd_close(&before);
	*fd = -1;
	return 0;
}

int balloon_ring_set_kick(struct virtio_device *self, unsigned int index, int *fd,
			  struct umbra_error *err)
{
	struct balloon_device *d = balloon_of(self);
	struct balloon_ring *r = ring_get(d, index, err);
	int rc;

	if (!r)
		return -EINVAL;
	/* VERSION_1 is always among them.  Without, a message in the words of page runs
	 * would be read as page numbers, and other pages be discarded. */
	if (!d->features)
		return error_set(err, -EINVAL, "queue %u: it is started before SET_FEATURES",
				 index);
	if (r->started)
		return balloon_ring_exchange_fd(d, r, &r->front.kick_fd, fd, err);
	balloon_queues_pause(d);
	rc = balloon_ring_start(d, r, err);
	/* A fresh driver: see the header. */
	if (r->built && index == 0 && r->front.base.avail == 0)
		balloon_device_clear_account(d);
	if (!rc) {
		fd_close(&r->front.kick_fd);
		r->front.kick_fd = fd_take(fd);
	}
	balloon_queues_resume(d);
	balloon_device_aim(d);
	return rc;
}

int balloon_ring_set_call(struct virtio_device *self, unsigned int index, int *fd,
			  struct umbra_error *err)
{
	struct balloon_ring *r = ring_get(balloon_of(self), index, err);

	return !r ? -EINVAL
		  : balloon_ring_exchange_fd(balloon_of(self), r, &r->front.call_fd, fd, err);
}

int balloon_ring_set_err(struct virtio_device *self, unsigned int index, int *fd,
			 struct umbra_error *err)
{
	struct balloon_ring *r = ring_get(balloon_of(self), index, err);

	return !r ? -EINVAL
		  : balloon_ring_exchange_fd(balloon_of(self), r, &r->front.err_fd, fd, err);
}

int balloon_ring_enable(struct virtio_device *self, unsigned int index, bool enabled,
			struct umbra_error *err)
{
	struct balloon_ring *r = ring_get(balloon_of(self), index, err);

	if (!r)
		return -EINVAL;
	ring_pause(balloon_of(self), r);
	r->front.enabled = enabled;
	ring_resume(balloon_of(self), r);
	balloon_device_aim(balloon_of(self));
	return 0;
}

int balloon_ring_stop(struct virtio_device *self, unsigned int index, struct ring_position *base,
		      struct umbra_error *err)
{
	struct balloon_device *d = balloon_of(self);
	struct balloon_ring *r = ring_get(d, index, err);

	if (!r)
		return -EINVAL;
	balloon_ring_halt(d, r);
	*base = r->front.base;
	fd_close(&r->front.kick_fd);
	fd_close(&r->front.call_fd);
	return 0;
}

/* --- looking after them -------------------------------------------------------------- */

void balloon_device_check_queues(struct balloon_device *d)
{
	char why[UMBRA_ERROR_SIZE];

	for (unsigned int i = 0; i < BALLOON_QUEUES; i++) {
		struct balloon_ring *r = &d->rings[i];

		/* Acquire; peer: the worker's release after its last pass. */
		if (!r->serving || !__atomic_load_n(&r->service.broken, __ATOMIC_ACQUIRE))
			continue;
		ring_pause(d, r);
		if (r->service.fault)
			snprintf(why, sizeof(why), "%s", r->service.fault);
		else
			ring_error_text(&r->queue.ring.error, why, sizeof(why));
		balloon_ring_break(d, r, why);
		device_host_config_changed(d->host->device);
	}
}
