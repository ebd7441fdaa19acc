/* SPDX-License-Identifier: BSD-2-Clause */
/* The balloon device: see balloon_device.h. */
#include "balloon/balloon_device.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_balloon.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "balloon/balloon_progress.h"
#include "balloon/balloon_queue.h"
#include "base/bits.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"

/* virtio 1.2, 5.5.3; older kernel headers lack it. */
#ifndef VIRTIO_BALLOON_F_REPORTING
#define VIRTIO_BALLOON_F_REPORTING 5
#endif

#define FEATURE(d, name) (!!((d)->features & BIT64(VIRTIO_BALLOON_F_##name)))

/* vhost-user, bit 30 of the features; without it rings are enabled at once. */
#define F_PROTOCOL_FEATURES 30

/* Protocol features that need the device: MQ, BACKEND_REQ, CONFIG, RESET_DEVICE,
 * CONFIGURE_MEM_SLOTS, STATUS, by the numbers of the vhost-user specification. */
#define PROTOCOL_FEATURES (BIT64(0) | BIT64(5) | BIT64(9) | BIT64(13) | BIT64(15) | BIT64(16))

#define CONFIG_NUM_PAGES 0u /* offsets in the configuration space, virtio 1.2, 5.5.4 */
#define CONFIG_ACTUAL 4u
#define CONFIG_POISON_VAL 12u

/* One ring, as the front-end has described it. */
struct balloon_ring {
	unsigned int index;
	uint32_t size; /* 0: not said yet */
	bool has_addr, enabled, started;
	bool built; /* queue.ring is valid: its indices are where we are */
	bool serving;
	struct vhost_ring_addr addr;
	uint16_t base;
	int kick_fd, call_fd, err_fd;
	struct balloon_queue queue;
	struct queue_service service;
	char error[UMBRA_ERROR_SIZE]; /* why it is broken; "" */
};

struct balloon_device {
	struct balloon_host *host;
	struct balloon_device_config config;
	uint64_t offered, features;
	bool attached;
	uint8_t status;
	uint32_t actual, poison; /* as the driver wrote them */
	bool target_anew;        /* since the last step */
	enum umbra_balloon_state told_state;
	struct memory *memory; /* or NULL */
	struct ledger *ledger; /* of the memory; or of the one that was there last */
	struct balloon_progress progress;
	struct balloon_shared shared;
	struct balloon_ring rings[BALLOON_QUEUES];
};

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
		error_set(err, -EINVAL,
			  "queue %u: the %s ring at user address 0x%" PRIx64
			  ", %zu bytes, is not inside one region of the memory table",
			  r->index, what, uva.v, bytes);
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

static int ring_find(struct balloon_device *d, struct balloon_ring *r, struct split_ring *s,
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

/* Make the queue of a ring that starts. */
static int ring_build(struct balloon_device *d, struct balloon_ring *r, struct umbra_error *err)
{
	struct device_ring_config config = { .memory = d->memory, .features = d->features };
	struct ring_seg *segs;
	uint16_t behind;
	int rc = ring_find(d, r, &config.split, err);

	if (rc)
		return rc;
	segs = calloc(r->size, sizeof(*segs));
	if (!segs)
		return error_set(err, -ENOMEM, "queue %u: no memory for %u entries", r->index,
				 r->size);
	/*
	 * Whoever served the ring before (we, in an earlier life) may have taken
	 * buffers that it never completed.  They are taken again: to inflate or to
	 * deflate twice is harmless.
	 */
	config.last_avail = r->base;
	behind = (uint16_t)(r->base - shm_load16(&config.split.used->idx));
	if (behind <= r->size)
		config.last_avail = (uint16_t)(r->base - behind);
	config.used_idx = config.last_avail;
	free(r->queue.chain.segs);
	r->queue = (struct balloon_queue){
		.kind = queue_kind_of(d, r->index),
		.shared = &d->shared,
		.chain = { .segs = segs },
	};
	device_ring_init(&r->queue.ring, &config);
	r->built = true;
	r->error[0] = '\0';
	return 0;
}

static void ring_break(struct balloon_device *d, struct balloon_ring *r, const char *reason)
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
}

static void ring_resume(struct balloon_device *d, struct balloon_ring *r)
{
	struct umbra_error err = { "" };

	if (r->serving || !r->built || !r->started || !r->enabled || r->error[0] ||
	    r->queue.kind == BALLOON_QUEUE_UNUSED)
		return;
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
	if (d->host->ops->serve_begin(d->host, &r->service, &err))
		ring_break(d, r, err.text);
	else
		r->serving = true;
}

/* The ring is looked at no more until it is started again, at r->base. */
static void ring_halt(struct balloon_device *d, struct balloon_ring *r)
{
	ring_pause(d, r);
	if (r->built)
		r->base = balloon_queue_stop(&r->queue);
	r->started = r->built = false;
	r->error[0] = '\0';
}

/* Forget what the front-end said of it. */
static void ring_forget(struct balloon_device *d, struct balloon_ring *r)
{
	ring_pause(d, r);
	fd_close(&r->kick_fd);
	fd_close(&r->call_fd);
	fd_close(&r->err_fd);
	free(r->queue.chain.segs);
	r->queue = (struct balloon_queue){ .kind = BALLOON_QUEUE_UNUSED };
	r->size = 0;
	r->base = 0;
	r->has_addr = r->enabled = r->started = r->built = false;
	r->error[0] = '\0';
}

static void queues_pause(struct balloon_device *d)
{
	for (unsigned int i = 0; i < BALLOON_QUEUES; i++)
		ring_pause(d, &d->rings[i]);
}

/* Give the queues what has been negotiated and mapped meanwhile, and go on. */
static void queues_resume(struct balloon_device *d)
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

static bool has_driver(const struct balloon_device *d)
{
	return d->rings[0].started && d->rings[1].started;
}

/* The driver that filled the balloon is no more. */
static void account_clear(struct balloon_device *d)
{
	if (d->ledger)
		ledger_clear(d->ledger);
	__atomic_store_n(&d->shared.counters.pages, 0, __ATOMIC_RELAXED);
	d->actual = 0;
	balloon_stats_clear(&d->shared.stats);
}

/* --- the target ------------------------------------------------------------------ */

static uint64_t memory_bytes(const struct balloon_device *d)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; d->memory && i < d->memory->count; i++)
		sum += d->memory->regions[i].size;
	return sum;
}

/* Pages that shall be in the balloon. */
static uint32_t target_pages(const struct balloon_device *d)
{
	uint64_t memory = memory_bytes(d), pages;

	if (d->config.target_bytes >= memory)
		return 0;
	pages = (memory - d->config.target_bytes) >> PAGE_RUN_SHIFT;
	return pages > UINT32_MAX ? UINT32_MAX : (uint32_t)pages;
}

void balloon_device_set_target(struct balloon_device *d, uint64_t bytes)
{
	d->config.target_bytes = bytes;
	d->target_anew = true;
	d->host->ops->config_changed(d->host);
}

/* --- the front-end's messages ------------------------------------------------------ */

static uint64_t features_of(unsigned int hide)
{
	uint64_t features = BIT64(VIRTIO_F_VERSION_1) | BIT64(VIRTIO_RING_F_EVENT_IDX) |
			    BIT64(VIRTIO_RING_F_INDIRECT_DESC);

	if (!(hide & UMBRA_BALLOON_HIDE_MUST_TELL_HOST))
		features |= BIT64(VIRTIO_BALLOON_F_MUST_TELL_HOST);
	if (!(hide & UMBRA_BALLOON_HIDE_STATS))
		features |= BIT64(VIRTIO_BALLOON_F_STATS_VQ);
	if (!(hide & UMBRA_BALLOON_HIDE_DEFLATE_ON_OOM))
		features |= BIT64(VIRTIO_BALLOON_F_DEFLATE_ON_OOM);
	if (!(hide & UMBRA_BALLOON_HIDE_PAGE_POISON))
		features |= BIT64(VIRTIO_BALLOON_F_PAGE_POISON);
	if (!(hide & UMBRA_BALLOON_HIDE_REPORTING))
		features |= BIT64(VIRTIO_BALLOON_F_REPORTING);
	if (!(hide & UMBRA_BALLOON_HIDE_PAGE_BITMAP))
		features |= BIT64(PAGE_RUN_FEATURE_BIT);
	return features;
}

static int get_features(void *opaque, uint64_t *features, struct umbra_error *err)
{
	struct balloon_device *d = opaque;

	(void)err;
	*features = d->offered;
	return 0;
}

static int set_features(void *opaque, uint64_t features, struct umbra_error *err)
{
	struct balloon_device *d = opaque;
	uint64_t foreign = features & ~(d->offered | BIT64(F_PROTOCOL_FEATURES));

	if (foreign)
		return error_set(err, -EINVAL,
				 "0x%" PRIx64 " has bits 0x%" PRIx64 " that were not offered",
				 features, foreign);
	if (!(features & BIT64(VIRTIO_F_VERSION_1)))
		return error_set(err, -EINVAL,
				 "0x%" PRIx64 " lacks VIRTIO_F_VERSION_1: a legacy driver cannot "
				 "be served",
				 features);
	if (features == d->features)
		return 0;
	/* Rings that run were another driver's: they may be anybody's memory now. */
	for (unsigned int i = 0; i < BALLOON_QUEUES; i++) {
		ring_halt(d, &d->rings[i]);
		d->rings[i].enabled |= !(features & BIT64(F_PROTOCOL_FEATURES));
	}
	d->features = features;
	return 0;
}

static int get_protocol_features(void *opaque, uint64_t *features, struct umbra_error *err)
{
	(void)opaque;
	(void)err;
	*features = PROTOCOL_FEATURES;
	return 0;
}

static int set_protocol_features(void *opaque, uint64_t features, struct umbra_error *err)
{
	(void)opaque;
	(void)features;
	(void)err;
	return 0;
}

static int get_queue_num(void *opaque, uint64_t *count, struct umbra_error *err)
{
	(void)opaque;
	(void)err;
	*count = BALLOON_QUEUES;
	return 0;
}

static int get_memory_slots(void *opaque, uint64_t *count, struct umbra_error *err)
{
	(void)opaque;
	(void)err;
	*count = BALLOON_MEMORY_SLOTS;
	return 0;
}

/* Consumes *@memory on success. */
static int memory_exchange(struct balloon_device *d, struct memory **memory,
			   struct umbra_error *err)
{
	uint32_t target = target_pages(d);
	struct ledger *ledger;
	int rc = ledger_create(*memory, d->ledger, &ledger, err);

	if (rc)
		return rc;
	queues_pause(d);
	memory_unref(&d->memory);
	ledger_destroy(&d->ledger);
	d->memory = *memory;
	d->ledger = ledger;
	*memory = NULL;
	__atomic_store_n(&d->shared.counters.pages, ledger->pages, __ATOMIC_RELAXED);
	for (unsigned int i = 0; i < BALLOON_QUEUES; i++) {
		struct balloon_ring *r = &d->rings[i];
		struct umbra_error why = { "" };

		if (!r->built || r->error[0])
			continue;
		/* The ring has moved with the table, its indices have not. */
		if (ring_find(d, r, &r->queue.ring.split, &why)) {
			r->built = false;
			ring_break(d, r, why.text);
		}
		r->queue.ring.memory = d->memory;
		r->queue.ring.memory_hint = r->queue.ring.table_hint = 0;
	}
	queues_resume(d);
	if (target_pages(d) != target)
		d->host->ops->config_changed(d->host);
	return 0;
}

static int set_memory(void *opaque, const struct memory_region *regions, unsigned int count,
		      struct umbra_error *err)
{
	struct balloon_device *d = opaque;
	struct memory *memory = NULL;
	int rc = memory_create(regions, count, &memory, err);

	if (!rc)
		rc = memory_exchange(d, &memory, err);
	memory_unref(&memory);
	return rc;
}

static int regions_change(struct balloon_device *d, const struct memory_region *add,
			  unsigned int without, struct umbra_error *err)
{
	unsigned int count = 0, had = d->memory ? d->memory->count : 0;
	struct memory_region *regions = calloc(had + 1, sizeof(*regions));
	int rc;

	if (!regions)
		return error_set(err, -ENOMEM, "no memory for a memory table");
	for (unsigned int i = 0; i < had; i++)
		if (i != without)
			regions[count++] = d->memory->regions[i];
	if (add)
		regions[count++] = *add;
	rc = set_memory(d, regions, count, err);
	free(regions);
	return rc;
}

static int add_region(void *opaque, const struct memory_region *region, struct umbra_error *err)
{
	return regions_change(opaque, region, UINT32_MAX, err);
}

static int remove_region(void *opaque, gpa_t gpa, uva_t uva, uint64_t size, struct umbra_error *err)
{
	struct balloon_device *d = opaque;

	for (unsigned int i = 0; d->memory && i < d->memory->count; i++) {
		const struct memory_region *r = &d->memory->regions[i];

		if (r->gpa.v == gpa.v && r->uva.v == uva.v && r->size == size)
			return regions_change(d, NULL, i, err);
	}
	return error_set(err, -EINVAL,
			 "there is no region of 0x%" PRIx64 " bytes at gpa 0x%" PRIx64, size,
			 gpa.v);
}

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

static int ring_set_size(void *opaque, unsigned int index, uint32_t size, struct umbra_error *err)
{
	struct balloon_ring *r = ring_get(opaque, index, err);

	if (!r)
		return -EINVAL;
	if (!is_power_of_two(size) || size > SPLIT_SIZE_MAX)
		return error_set(err, -EINVAL,
				 "queue %u: %u entries; expected a power of two up to %u", index,
				 size, SPLIT_SIZE_MAX);
	if (r->size != size)
		ring_halt(opaque, r);
	r->size = size;
	return 0;
}

static int ring_set_addr(void *opaque, unsigned int index, const struct vhost_ring_addr *addr,
			 struct umbra_error *err)
{
	struct balloon_device *d = opaque;
	struct balloon_ring *r = ring_get(d, index, err);
	struct vhost_ring_addr before;
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
	rc = ring_find(d, r, &split, err);
	if (rc)
		r->addr = before;
	else if (r->built)
		r->queue.ring.split = split;
	ring_resume(d, r);
	return rc;
}

static int ring_set_base(void *opaque, unsigned int index, uint32_t base, struct umbra_error *err)
{
	struct balloon_ring *r = ring_get(opaque, index, err);

	if (!r)
		return -EINVAL;
	if (base > UINT16_MAX)
		return error_set(err, -EINVAL, "queue %u: base %u; expected 16 bits", index, base);
	ring_halt(opaque, r);
	r->base = (uint16_t)base;
	return 0;
}

static int ring_set_kick(void *opaque, unsigned int index, int *fd, struct umbra_error *err)
{
	struct balloon_device *d = opaque;
	struct balloon_ring *r = ring_get(d, index, err);
	int rc = 0;

	if (!r)
		return -EINVAL;
	queues_pause(d);
	if (!r->started) {
		rc = ring_build(d, r, err);
		/* A fresh driver: see the header. */
		if (!rc && index == 0 && r->base == 0)
			account_clear(d);
		r->started = !rc;
	}
	if (!rc) {
		fd_close(&r->kick_fd);
		r->kick_fd = fd_take(fd);
	}
	queues_resume(d);
	return rc;
}

static int ring_set_fd(struct balloon_device *d, struct balloon_ring *r, int *slot, int *fd)
{
	ring_pause(d, r);
	fd_close(slot);
	*slot = fd_take(fd);
	ring_resume(d, r);
	return 0;
}

static int ring_set_call(void *opaque, unsigned int index, int *fd, struct umbra_error *err)
{
	struct balloon_ring *r = ring_get(opaque, index, err);

	return !r ? -EINVAL : ring_set_fd(opaque, r, &r->call_fd, fd);
}

static int ring_set_err(void *opaque, unsigned int index, int *fd, struct umbra_error *err)
{
	struct balloon_ring *r = ring_get(opaque, index, err);

	return !r ? -EINVAL : ring_set_fd(opaque, r, &r->err_fd, fd);
}

static int ring_enable(void *opaque, unsigned int index, bool enabled, struct umbra_error *err)
{
	struct balloon_ring *r = ring_get(opaque, index, err);

	if (!r)
		return -EINVAL;
	ring_pause(opaque, r);
	r->enabled = enabled;
	ring_resume(opaque, r);
	return 0;
}

static int ring_stop(void *opaque, unsigned int index, uint16_t *base, struct umbra_error *err)
{
	struct balloon_device *d = opaque;
	struct balloon_ring *r = ring_get(d, index, err);

	if (!r)
		return -EINVAL;
	ring_halt(d, r);
	*base = r->base;
	fd_close(&r->kick_fd);
	fd_close(&r->call_fd);
	return 0;
}

/* --- configuration space, status, reset --------------------------------------------- */

static void put_le32(uint8_t *at, uint32_t v)
{
	for (unsigned int i = 0; i < 4; i++)
		at[i] = (uint8_t)(v >> 8 * i);
}

static uint32_t get_le32(const uint8_t *at)
{
	return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void config_fill(const struct balloon_device *d, uint8_t *config)
{
	memset(config, 0, BALLOON_CONFIG_BYTES);
	put_le32(config + CONFIG_NUM_PAGES, target_pages(d));
	put_le32(config + CONFIG_ACTUAL, d->actual);
	put_le32(config + CONFIG_POISON_VAL, d->poison);
}

static int config_check(uint32_t offset, uint32_t size, struct umbra_error *err)
{
	if (offset > BALLOON_CONFIG_BYTES || size > BALLOON_CONFIG_BYTES - offset)
		return error_set(err, -EINVAL,
				 "offset %u, %u bytes; a balloon's configuration has %u", offset,
				 size, BALLOON_CONFIG_BYTES);
	return 0;
}

static int get_config(void *opaque, uint32_t offset, void *data, uint32_t size,
		      struct umbra_error *err)
{
	uint8_t config[BALLOON_CONFIG_BYTES];
	int rc = config_check(offset, size, err);

	if (rc)
		return rc;
	config_fill(opaque, config);
	memcpy(data, config + offset, size);
	return 0;
}

static int set_config(void *opaque, uint32_t offset, const void *data, uint32_t size,
		      uint32_t flags, struct umbra_error *err)
{
	struct balloon_device *d = opaque;
	uint8_t config[BALLOON_CONFIG_BYTES];
	int rc = config_check(offset, size, err);

	(void)flags;
	if (rc)
		return rc;
	/* What the driver may not write keeps its value. */
	config_fill(d, config);
	memcpy(config + offset, data, size);
	d->actual = get_le32(config + CONFIG_ACTUAL);
	if (d->poison == get_le32(config + CONFIG_POISON_VAL))
		return 0;
	queues_pause(d);
	d->poison = get_le32(config + CONFIG_POISON_VAL);
	queues_resume(d);
	return 0;
}

static int get_status(void *opaque, uint8_t *status, struct umbra_error *err)
{
	struct balloon_device *d = opaque;

	(void)err;
	*status = d->status;
	for (unsigned int i = 0; i < BALLOON_QUEUES; i++)
		if (d->rings[i].error[0])
			*status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	return 0;
}

static int reset(void *opaque, struct umbra_error *err)
{
	struct balloon_device *d = opaque;

	(void)err;
	for (unsigned int i = 0; i < BALLOON_QUEUES; i++)
		ring_forget(d, &d->rings[i]);
	d->features = 0;
	d->status = 0;
	d->poison = 0;
	account_clear(d);
	return 0;
}

static int set_status(void *opaque, uint8_t status, struct umbra_error *err)
{
	struct balloon_device *d = opaque;

	/* "Writing 0 resets the device"; but the rings' fds are the front-end's
	 * business, which stops them by itself. */
	if (!status && d->status) {
		queues_pause(d);
		account_clear(d);
		queues_resume(d);
	}
	d->status = status;
	(void)err;
	return 0;
}

const struct vhost_device_ops balloon_device_ops = {
	.get_features = get_features,
	.set_features = set_features,
	.get_protocol_features = get_protocol_features,
	.set_protocol_features = set_protocol_features,
	.get_queue_num = get_queue_num,
	.get_memory_slots = get_memory_slots,
	.set_memory = set_memory,
	.add_region = add_region,
	.remove_region = remove_region,
	.ring_set_size = ring_set_size,
	.ring_set_addr = ring_set_addr,
	.ring_set_base = ring_set_base,
	.ring_set_kick = ring_set_kick,
	.ring_set_call = ring_set_call,
	.ring_set_err = ring_set_err,
	.ring_enable = ring_enable,
	.ring_stop = ring_stop,
	.get_config = get_config,
	.set_config = set_config,
	.get_status = get_status,
	.set_status = set_status,
	.reset = reset,
};

/* --- life --------------------------------------------------------------------------- */

int balloon_device_create(struct balloon_host *host, const struct balloon_device_config *config,
			  struct balloon_device **out, struct umbra_error *err)
{
	struct balloon_device *d = calloc(1, sizeof(*d));
	int rc;

	if (!d)
		return error_set(err, -ENOMEM, "no memory for a balloon");
	rc = balloon_shared_init(&d->shared, host, err);
	if (rc) {
		free(d);
		return rc;
	}
	d->host = host;
	d->config = *config;
	d->offered = features_of(config->hide);
	d->shared.batch.single_pages = config->single_pages;
	balloon_progress_init(&d->progress, config->stall_ms * UINT64_C(1000));
	for (unsigned int i = 0; i < BALLOON_QUEUES; i++)
		d->rings[i] = (struct balloon_ring){
			.index = i,
			.kick_fd = -1,
			.call_fd = -1,
			.err_fd = -1,
		};
	*out = d;
	return 0;
}

void balloon_device_attach(struct balloon_device *d)
{
	d->attached = true;
	d->features = 0;
	d->status = 0;
	d->poison = 0;
}

void balloon_device_detach(struct balloon_device *d)
{
	for (unsigned int i = 0; i < BALLOON_QUEUES; i++)
		ring_forget(d, &d->rings[i]);
	d->attached = false;
	d->features = 0;
	/* The ledger stays, in case that the same guest comes back. */
	memory_unref(&d->memory);
	d->shared.batch.memory = NULL;
	__atomic_store_n(&d->shared.counters.pages, 0, __ATOMIC_RELAXED);
}

void balloon_device_destroy(struct balloon_device **device)
{
	struct balloon_device *d = *device;

	*device = NULL;
	if (!d)
		return;
	balloon_device_detach(d);
	ledger_destroy(&d->ledger);
	balloon_shared_fini(&d->shared);
	free(d);
}

/* --- looking after it ------------------------------------------------------------------ */

void balloon_device_check_queues(struct balloon_device *d)
{
	char why[UMBRA_ERROR_SIZE];

	for (unsigned int i = 0; i < BALLOON_QUEUES; i++) {
		struct balloon_ring *r = &d->rings[i];

		/* Acquire; peer: the worker's release after its last pass. */
		if (!r->serving || !__atomic_load_n(&r->service.broken, __ATOMIC_ACQUIRE))
			continue;
		ring_pause(d, r);
		ring_error_text(&r->queue.ring.error, why, sizeof(why));
		ring_break(d, r, why);
		d->host->ops->config_changed(d->host);
	}
}

int balloon_device_check_memory(const struct balloon_device *d, struct umbra_error *err)
{
	const struct memory_region *r = d->memory ? memory_find_cut(d->memory) : NULL;

	if (!r)
		return 0;
	return error_set(err, -EFAULT,
			 "the front-end has shrunk the memory file behind gpa 0x%" PRIx64
			 ", or there was no memory for it",
			 r->gpa.v);
}

void balloon_device_ask_stats(struct balloon_device *d)
{
	const struct balloon_ring *r = &d->rings[2];

	__atomic_store_n(&d->shared.stats_wanted, true, __ATOMIC_RELAXED);
	if (r->serving && r->queue.kind == BALLOON_QUEUE_STATS)
		d->host->ops->notify(d->host, r->kick_fd);
}

static enum umbra_balloon_state state_of(const struct balloon_device *d, const char **reason)
{
	*reason = "";
	for (unsigned int i = 0; i < BALLOON_QUEUES; i++) {
		if (d->rings[i].error[0]) {
			*reason = d->rings[i].error;
			return UMBRA_BALLOON_BROKEN;
		}
	}
	if (!d->attached)
		return UMBRA_BALLOON_WAITING;
	return has_driver(d) ? UMBRA_BALLOON_RUNNING : UMBRA_BALLOON_NEGOTIATING;
}

unsigned int balloon_device_step(struct balloon_device *d, uint64_t *next_us)
{
	uint64_t pages = __atomic_load_n(&d->shared.counters.pages, __ATOMIC_RELAXED);
	enum umbra_balloon_state state;
	unsigned int progress, tell = 0;
	const char *reason;

	progress = balloon_progress_step(&d->progress, d->host->ops->now_us(d->host),
					 d->memory ? target_pages(d) : pages, pages, has_driver(d),
					 d->target_anew, next_us);
	d->target_anew = false;
	state = state_of(d, &reason);
	if (state != d->told_state)
		tell |= 1u << UMBRA_BALLOON_EVENT_STATE;
	d->told_state = state;
	if (progress & BALLOON_TELL_CHANGE)
		tell |= 1u << UMBRA_BALLOON_EVENT_CHANGE;
	if (progress & BALLOON_TELL_SETTLED)
		tell |= 1u << UMBRA_BALLOON_EVENT_SETTLED;
	return tell;
}

/* Why the guest does not come any nearer, as far as one can know. */
static void obstacle_tell(const struct balloon_device *d, struct umbra_balloon_info *info)
{
	const struct umbra_balloon_stats *s = &info->stats;
	bool knows_free = s->age_ms != UINT64_MAX && s->present & 1u << UMBRA_BALLOON_FREE_MEMORY;
	uint64_t target = (uint64_t)target_pages(d) << PAGE_RUN_SHIFT;
	int n;

	if (info->phase == UMBRA_BALLOON_PENDING) {
		snprintf(info->obstacle, sizeof(info->obstacle), "no driver runs in the guest");
		return;
	}
	if (info->phase != UMBRA_BALLOON_STALLED)
		return;
	n = snprintf(info->obstacle, sizeof(info->obstacle),
		     "the guest's driver stopped at %" PRIu64 " of %" PRIu64 " MiB",
		     info->ballooned_bytes >> 20, target >> 20);
	if (info->ballooned_bytes > target)
		return;
	if (knows_free)
		n += snprintf(info->obstacle + n, sizeof(info->obstacle) - (size_t)n,
			      "; the guest has %" PRIu64 " MiB free",
			      s->values[UMBRA_BALLOON_FREE_MEMORY] >> 20);
	if (s->age_ms != UINT64_MAX && s->present & 1u << UMBRA_BALLOON_AVAILABLE_MEMORY)
		n += snprintf(info->obstacle + n, sizeof(info->obstacle) - (size_t)n,
			      "%s %" PRIu64 " MiB available", knows_free ? "," : "; the guest has",
			      s->values[UMBRA_BALLOON_AVAILABLE_MEMORY] >> 20);
	if (info->discard_errors)
		snprintf(info->obstacle + n, sizeof(info->obstacle) - (size_t)n,
			 "; %" PRIu64 " discards have failed", info->discard_errors);
}

void balloon_device_freshen(const struct balloon_device *d, struct umbra_balloon_info *info)
{
	const struct balloon_counters *c = &d->shared.counters;

#define COUNTER(field) __atomic_load_n(&c->field, __ATOMIC_RELAXED)
	info->ballooned_bytes = COUNTER(pages) << PAGE_RUN_SHIFT;
	info->discards = COUNTER(discards);
	info->discarded_bytes = COUNTER(discarded_bytes);
	info->freed_bytes = COUNTER(freed_bytes);
	info->discard_errors = COUNTER(discard_errors);
	info->reported_bytes = COUNTER(reported_bytes);
	info->messages = COUNTER(messages);
	info->refused_messages = COUNTER(refused_messages);
	info->refused_records = COUNTER(refused_records);
#undef COUNTER
	balloon_stats_load(&d->shared.stats, d->host->ops->now_us(d->host), &info->stats);
}

void balloon_device_info(const struct balloon_device *d, struct umbra_balloon_info *info)
{
	const char *reason;

	*info = (struct umbra_balloon_info){ .phase = d->progress.phase };
	info->state = state_of(d, &reason);
	snprintf(info->reason, sizeof(info->reason), "%s", reason);
	info->memory_bytes = memory_bytes(d);
	info->memory_regions = d->memory ? d->memory->count : 0;
	info->target_bytes = d->config.target_bytes;
	if (d->memory)
		info->target_bytes = MIN(info->target_bytes, info->memory_bytes);
	info->driver_bytes = d->memory ? (uint64_t)d->actual << PAGE_RUN_SHIFT : 0;
	info->rate_bytes = d->progress.rate << PAGE_RUN_SHIFT;
	info->guest_features = d->features;
	info->offered_features = d->offered;
	balloon_device_freshen(d, info);
	obstacle_tell(d, info);
}

const struct memory *balloon_device_memory(const struct balloon_device *d)
{
	return d->memory;
}

/* --- words ------------------------------------------------------------------------------ */

const char *umbra_balloon_state_name(enum umbra_balloon_state state)
{
	switch (state) {
	case UMBRA_BALLOON_WAITING:
		return "waiting";
	case UMBRA_BALLOON_NEGOTIATING:
		return "negotiating";
	case UMBRA_BALLOON_RUNNING:
		return "running";
	case UMBRA_BALLOON_BROKEN:
		return "broken";
	}
	return "unknown";
}

const char *umbra_balloon_phase_name(enum umbra_balloon_phase phase)
{
	switch (phase) {
	case UMBRA_BALLOON_SETTLED:
		return "settled";
	case UMBRA_BALLOON_INFLATING:
		return "inflating";
	case UMBRA_BALLOON_DEFLATING:
		return "deflating";
	case UMBRA_BALLOON_PENDING:
		return "pending";
	case UMBRA_BALLOON_STALLED:
		return "stalled";
	}
	return "unknown";
}
