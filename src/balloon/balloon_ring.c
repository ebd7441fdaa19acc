/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The rings of a balloon device: set up by the front-end's messages, handed to the
 * host's thread and taken back, broken and forgotten.  See balloon_device.h.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "balloon/balloon_device_private.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "ring/split_look.h"

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

static void *part_find(struct balloon_device *d, const struct balloon_ring *r, const char *what,
		       uva_t uva, size_t bytes, uint64_t align, struct umbra_error *err)
{
	void *host = d->memory ? memory_host_uva(d->memory, uva, bytes) : NULL;

	if (!host) {
		memory_lacks_ring(d->memory, r->index, what, uva, bytes, err);
		return NULL;
	}
	if ((uintptr_t)host % align) {
		error_set(err, -EINVAL,
			  "queue %u: the %s ring at user address 0x%" PRIx64
			  " is not aligned to %" PRIu64 " bytes",
			  r->index, what, uva.v, align);
		return NULL;
	}
	return host;
}

int balloon_ring_find(struct balloon_device *d, struct balloon_ring *r, struct split_ring *s,
		      struct umbra_error *err)
{
	if (!r->size)
		return error_set(err, -EINVAL, "queue %u: it has no size yet (SET_VRING_NUM)",
				 r->index);
	if (!r->has_addr)
		return error_set(err, -EINVAL, "queue %u: it has no address yet (SET_VRING_ADDR)",
				 r->index);
	s->size = (uint16_t)r->size;
	s->desc = part_find(d, r, "descriptor", r->addr.desc, split_desc_bytes(r->size),
			    SPLIT_DESC_ALIGN, err);
	if (!s->desc)
		return -EINVAL;
	s->avail = part_find(d, r, "avail", r->addr.avail, split_avail_bytes(r->size),
			     SPLIT_AVAIL_ALIGN, err);
	if (!s->avail)
		return -EINVAL;
	s->used = part_find(d, r, "used", r->addr.used, split_used_bytes(r->size), SPLIT_USED_ALIGN,
			    err);
	return s->used ? 0 : -EINVAL;
}

/* Make the queue of a ring that starts.  -EPROTO: it cannot stand where the front-end
 * says, and is to be broken. */
static int ring_build(struct balloon_device *d, struct balloon_ring *r, struct umbra_error *err)
{
	struct device_ring_config config = { .memory = d->memory, .features = d->features };
	struct ring_seg *segs;
	struct ring_position said;
	int rc = balloon_ring_find(d, r, &config.split, err);

	if (rc)
		return rc;
	if (!split_can_stand(&config.split, &r->base, &said))
		return error_set(err, -EPROTO,
				 "the front-end starts it at index %u, but its guest's ring has "
				 "used %u and available %u: expected an index from the one to "
				 "the other, which are at most %u apart",
				 r->base.avail, said.used, said.avail, r->size);
	segs = calloc(r->size, sizeof(*segs));
	if (!segs)
		return error_set(err, -ENOMEM, "queue %u: no memory for %u entries", r->index,
				 r->size);
	/*
	 * Whoever served the ring before (we, in an earlier life) may have taken
	 * buffers that it never completed.  They are taken again: to inflate or to
	 * deflate twice is harmless.
	 */
	config.at = ring_position_with(said, 0, r->size);
	free(r->queue.chain.segs);
	r->queue = (struct balloon_queue){
		.kind = queue_kind_of(d, r->index),
		.shared = &d->shared,
		.chain = { .segs = segs },
	};
	device_ring_init(&r->queue.ring, &config);
	if (r->queue.kind == BALLOON_QUEUE_STATS)
		balloon_device_stats_start(d, !r->base.avail);
	r->built = true;
	r->error[0] = '\0';
	return 0;
}

void balloon_ring_break(struct balloon_device *d, struct balloon_ring *r, const char *reason)
{
	snprintf(r->error, sizeof(r->error), "%s", reason);
	log_error("queue %u is broken: %s", r->index, reason);
	d->host->ops->notify(d->host, r->err_fd);
}

static void ring_pause(struct balloon_device *d, struct balloon_ring *r)
{
	if (r->serving)
		d->host->ops->serve_end(d->host, &r->service);
	r->serving = false;
	balloon_queue_pause(&r->queue);
}

/* 0: it is served, or has no reason to be. */
static int ring_serve(struct balloon_device *d, struct balloon_ring *r, struct umbra_error *err)
{
	int rc;

	if (r->serving || !r->built || !r->started || !r->enabled || r->error[0] ||
	    r->queue.kind == BALLOON_QUEUE_UNUSED)
		return 0;
	r->service = (struct queue_service){
		.pass = balloon_queue_pass,
		.queue = &r->queue,
		.index = r->index,
		.kick_in = r->kick_fd,
		.call_in = -1,
		.kick_out = -1,
		.call_out = r->call_fd,
		.kicks_in = &d->shared.counters.kicks,
	};
	rc = d->host->ops->serve_begin(d->host, &r->service, err);
	r->serving = !rc;
	return rc;
}

static void ring_resume(struct balloon_device *d, struct balloon_ring *r)
{
	struct umbra_error err = { "" };

	if (ring_serve(d, r, &err))
		balloon_ring_break(d, r, err.text);
}

/* The ring is looked at no more until it is started again, at r->base. */
void balloon_ring_halt(struct balloon_device *d, struct balloon_ring *r)
{
	ring_pause(d, r);
	if (r->built)
		r->base = balloon_queue_stop(&r->queue);
	r->started = r->built = false;
	r->error[0] = '\0';
}

/* Forget what the front-end said of it. */
void balloon_ring_forget(struct balloon_device *d, struct balloon_ring *r)
{
	ring_pause(d, r);
	fd_close(&r->kick_fd);
	fd_close(&r->call_fd);
	fd_close(&r->err_fd);
	free(r->queue.chain.segs);
	r->queue = (struct balloon_queue){ .kind = BALLOON_QUEUE_UNUSED };
	r->size = 0;
	r->base = ring_position_start(RING_SPLIT);
	r->has_addr = r->enabled = r->started = r->built = false;
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
	s->reports_stay = FEATURE(d, PAGE_POISON) && d->poison;
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
 * Mode Linux does not): a new size, or any base, halts one that runs.
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

	if (!r)
		return -EINVAL;
	if (!is_power_of_two(size) || size > SPLIT_SIZE_MAX)
		return error_set(err, -EINVAL,
				 "queue %u: %u entries; expected a power of two up to %u", index,
				 size, SPLIT_SIZE_MAX);
	if (r->size != size)
		balloon_ring_halt(balloon_of(self), r);
	r->size = size;
	return 0;
}

int balloon_ring_set_addr(struct virtio_device *self, unsigned int index,
			  const struct virtio_ring_addr *addr, struct umbra_error *err)
{
	struct balloon_device *d = balloon_of(self);
	struct balloon_ring *r = ring_get(d, index, err);
	struct virtio_ring_addr before;
	struct split_ring split;
	int rc;

	if (!r)
		return -EINVAL;
	before = r->addr;
	if (!r->started) {
		r->addr = *addr;
		r->has_addr = true;
		return 0;
	}
	/* QEMU sends it again for a ring that runs; it may even move it. */
	ring_pause(d, r);
	r->addr = *addr;
	rc = balloon_ring_find(d, r, &split, err);
	if (rc)
		r->addr = before;
	else if (r->built)
		r->queue.ring.split = split;
	ring_resume(d, r);
	return rc;
}

int balloon_ring_set_base(struct virtio_device *self, unsigned int index, uint32_t base,
			  struct umbra_error *err)
{
	struct balloon_ring *r = ring_get(balloon_of(self), index, err);

	if (!r)
		return -EINVAL;
	if (base > UINT16_MAX)
		return error_set(err, -EINVAL, "queue %u: base %u; expected 16 bits", index, base);
	balloon_ring_halt(balloon_of(self), r);
	r->base = ring_position_split((uint16_t)base);
	return 0;
}

/* The new fd is proven before the old one is let go of: after an error *@fd is still the
 * caller's, and the old one serves on. */
static int ring_exchange_fd(struct balloon_device *d, struct balloon_ring *r, int *slot, int *fd,
			    struct umbra_error *err)
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
	struct umbra_error why = { "" };
	int rc;

	if (!r)
		return -EINVAL;
	/* VERSION_1 is always among them.  Without, a message in the words of page runs
	 * would be read as page numbers, and other pages be discarded. */
	if (!d->features)
		return error_set(err, -EINVAL, "queue %u: it is started before SET_FEATURES",
				 index);
	if (r->started)
		return ring_exchange_fd(d, r, &r->kick_fd, fd, err);
	balloon_queues_pause(d);
	rc = ring_build(d, r, &why);
	/* A fresh driver: see the header. */
	if (!rc && index == 0 && r->base.avail == 0)
		balloon_device_clear_account(d);
	if (rc == -EPROTO) {
		balloon_ring_break(d, r, why.text);
		d->host->ops->config_changed(d->host);
		rc = 0;
	} else if (rc) {
		error_set(err, rc, "%s", why.text);
	}
	r->started = !rc;
	if (!rc) {
		fd_close(&r->kick_fd);
		r->kick_fd = fd_take(fd);
	}
	balloon_queues_resume(d);
	balloon_device_aim(d);
	return rc;
}

int balloon_ring_set_call(struct virtio_device *self, unsigned int index, int *fd,
			  struct umbra_error *err)
{
	struct balloon_ring *r = ring_get(balloon_of(self), index, err);

	return !r ? -EINVAL : ring_exchange_fd(balloon_of(self), r, &r->call_fd, fd, err);
}

int balloon_ring_set_err(struct virtio_device *self, unsigned int index, int *fd,
			 struct umbra_error *err)
{
	struct balloon_ring *r = ring_get(balloon_of(self), index, err);

	return !r ? -EINVAL : ring_exchange_fd(balloon_of(self), r, &r->err_fd, fd, err);
}

int balloon_ring_enable(struct virtio_device *self, unsigned int index, bool enabled,
			struct umbra_error *err)
{
	struct balloon_ring *r = ring_get(balloon_of(self), index, err);

	if (!r)
		return -EINVAL;
	ring_pause(balloon_of(self), r);
	r->enabled = enabled;
	ring_resume(balloon_of(self), r);
	balloon_device_aim(balloon_of(self));
	return 0;
}

int balloon_ring_stop(struct virtio_device *self, unsigned int index, uint16_t *base,
		      struct umbra_error *err)
{
	struct balloon_device *d = balloon_of(self);
	struct balloon_ring *r = ring_get(d, index, err);

	if (!r)
		return -EINVAL;
	balloon_ring_halt(d, r);
	*base = r->base.avail;
	fd_close(&r->kick_fd);
	fd_close(&r->call_fd);
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
		d->host->ops->config_changed(d->host);
	}
}

void balloon_device_ask_stats(struct balloon_device *d)
{
	const struct balloon_ring *r = &d->rings[2];

	__atomic_store_n(&d->shared.stats_wanted, d->aim.era, __ATOMIC_RELAXED);
	if (r->serving && r->queue.kind == BALLOON_QUEUE_STATS)
		d->host->ops->notify(d->host, r->kick_fd);
}
