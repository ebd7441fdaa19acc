/* SPDX-License-Identifier: BSD-2-Clause */
/* An entropy device: see entropy_device.h. */
#include "entropy_device.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "memory/memory.h"
#include "virtio/feature_bits.h"

#define OFFERED                                                                                    \
	(BIT64(VIRTIO_F_VERSION_1) | BIT64(VIRTIO_RING_F_EVENT_IDX) |                              \
	 BIT64(VIRTIO_RING_F_INDIRECT_DESC) | BIT64(VHOST_USER_F_PROTOCOL_FEATURES))

static struct entropy_device *entropy_of(struct virtio_device *self)
{
	return (struct entropy_device *)(void *)self;
}

/* --- the queue, on the worker's thread ----------------------------------------------- */

/* Fill what may be written of the chain that was taken.  Its segments were judged: each
 * lies in guest memory, if perhaps in several regions of it. */
static uint32_t fill(struct entropy_device *d)
{
	const struct ring_chain *c = &d->chain;
	unsigned int hint = 0;
	uint32_t written = 0;

	for (uint32_t i = c->readable; i < c->count; i++)
		for (uint32_t done = 0; done < c->segs[i].len; done++) {
			uint8_t *to = memory_host(d->memory, &hint,
						  (gpa_t){ c->segs[i].addr.v + done }, 1);

			if (!to)
				return written;
			*to = d->bytes[d->at++ % d->size];
			written++;
		}
	return written;
}

static int pass(void *queue, unsigned int *owed)
{
	struct entropy_device *d = queue;
	int rc = device_ring_take(&d->ring, &d->chain);
	uint32_t written;

	*owed = 0;
	if (rc < 0)
		return rc;
	if (!rc)
		return device_ring_arm(&d->ring) ? QUEUE_MORE : 0;
	device_ring_disarm(&d->ring);
	written = fill(d);
	device_ring_complete(&d->ring, d->chain.head, written);
	device_ring_publish(&d->ring);
	counter_add(&d->given, written);
	return QUEUE_MORE | (device_ring_must_call(&d->ring) ? QUEUE_CALL_GUEST : 0);
}

/* --- the ring ----------------------------------------------------------------------------- */

static void pause_queue(struct entropy_device *d)
{
	if (d->serving)
		device_host_serve_end(d->host, &d->service);
	d->serving = false;
}

static int resume_queue(struct entropy_device *d, struct umbra_error *err)
{
	int rc;

	if (d->serving || !d->started || !d->front.enabled || !d->memory || d->broken[0])
		return 0;
	d->service = (struct queue_service){
		.pass = pass,
		.queue = d,
		.kick_in = d->front.kick_fd,
		.call_in = -1,
		.kick_out = -1,
		.call_out = d->front.call_fd,
		.kicks_in = &d->kicks,
	};
	rc = device_host_serve_begin(d->host, &d->service, err);
	d->serving = !rc;
	return rc;
}

static void break_queue(struct entropy_device *d, const char *why)
{
	snprintf(d->broken, sizeof(d->broken), "%s", why);
	log_error("queue 0 is broken: %s", why);
}

static void halt(struct entropy_device *d)
{
	pause_queue(d);
	if (d->started)
		d->front.base = device_ring_position(&d->ring);
	d->started = false;
	d->broken[0] = '\0';
}

static int start(struct entropy_device *d, struct umbra_error *err)
{
	struct device_ring_config config = { .memory = d->memory, .features = d->features };
	int rc = guest_ring_find(&d->front, d->memory, err);
	void *segs;

	if (!rc)
		rc = guest_ring_judge(&d->front, err);
	if (rc)
		return rc;
	segs = realloc(d->chain.segs, d->front.size * sizeof(*d->chain.segs));
	if (!segs)
		return error_set(err, -ENOMEM, "no memory for a queue");
	d->chain.segs = segs;
	config.split = d->front.split;
	/* What somebody before us took and never completed is taken again. */
	config.at = ring_position_with(d->front.base, 0, d->front.size);
	device_ring_init(&d->ring, &config);
	d->started = true;
	return resume_queue(d, err);
}

/* It has one ring. */
static int ring_check(unsigned int index, struct umbra_error *err)
{
	return index ? error_set(err, -EINVAL, "queue %u: an entropy device has one", index) : 0;
}

static int set_size(struct virtio_device *self, unsigned int index, uint32_t size,
		    struct umbra_error *err)
{
	struct entropy_device *d = entropy_of(self);
	int rc = ring_check(index, err);

	if (!rc)
		rc = guest_ring_check_size(&d->front, size, err);
	if (rc)
		return rc;
	if (size != d->front.size)
		halt(d);
	d->front.size = (uint16_t)size;
	return 0;
}

static int set_addr(struct virtio_device *self, unsigned int index,
		    const struct virtio_ring_addr *addr, struct umbra_error *err)
{
	struct entropy_device *d = entropy_of(self);
	int rc = ring_check(index, err);

	if (rc || (d->started && guest_ring_is_at(&d->front, addr)))
		return rc;
	if (!d->started) {
		d->front.addr = *addr;
		d->front.has_addr = true;
		return 0;
	}
	pause_queue(d);
	rc = guest_ring_find_at(&d->front, addr, d->memory, err);
	d->ring.split = d->front.split;
	return rc ? rc : resume_queue(d, err);
}

static int set_base(struct virtio_device *self, unsigned int index, struct ring_position base,
		    struct umbra_error *err)
{
	int rc = ring_check(index, err);

	if (rc)
		return rc;
	halt(entropy_of(self));
	entropy_of(self)->front.base = base;
	return 0;
}

static int exchange_fd(struct entropy_device *d, unsigned int index, int *slot, int *fd,
		       struct umbra_error *err)
{
	int before = *slot, rc = ring_check(index, err);
	struct umbra_error ignored;

	if (rc)
		return rc;
	/* The new one is proven before the old one is let go of. */
	pause_queue(d);
	*slot = *fd;
	rc = resume_queue(d, err);
	if (rc) {
		*slot = before;
		if (resume_queue(d, &ignored))
			break_queue(d, ignored.text);
		return rc;
	}
	fd_close(&before);
	*fd = -1;
	return 0;
}

static int set_kick(struct virtio_device *self, unsigned int index, int *fd,
		    struct umbra_error *err)
{
	struct entropy_device *d = entropy_of(self);
	int rc = exchange_fd(d, index, &d->front.kick_fd, fd, err);

	return rc || d->started ? rc : start(d, err);
}

static int set_call(struct virtio_device *self, unsigned int index, int *fd,
		    struct umbra_error *err)
{
	return exchange_fd(entropy_of(self), index, &entropy_of(self)->front.call_fd, fd, err);
}

static int set_err(struct virtio_device *self, unsigned int index, int *fd, struct umbra_error *err)
{
	return exchange_fd(entropy_of(self), index, &entropy_of(self)->front.err_fd, fd, err);
}

static int ring_enable(struct virtio_device *self, unsigned int index, bool enabled,
		       struct umbra_error *err)
{
	struct entropy_device *d = entropy_of(self);
	int rc = ring_check(index, err);

	if (rc)
		return rc;
	pause_queue(d);
	d->front.enabled = enabled;
	return resume_queue(d, err);
}

static int ring_stop(struct virtio_device *self, unsigned int index, struct ring_position *base,
		     struct umbra_error *err)
{
	struct entropy_device *d = entropy_of(self);
	int rc = ring_check(index, err);

	if (rc)
		return rc;
	halt(d);
	*base = d->front.base;
	fd_close(&d->front.kick_fd);
	fd_close(&d->front.call_fd);
	return 0;
}

/* --- the rest of the device ------------------------------------------------------------------ */

static int get_features(struct virtio_device *self, uint64_t *features, struct umbra_error *err)
{
	(void)self;
	(void)err;
	*features = OFFERED;
	return 0;
}

static int set_features(struct virtio_device *self, uint64_t features, struct umbra_error *err)
{
	struct entropy_device *d = entropy_of(self);

	if (features & ~OFFERED || !(features & BIT64(VIRTIO_F_VERSION_1)))
		return error_set(err, -EINVAL,
				 "features 0x%" PRIx64 "; 0x%llx were offered, and VERSION_1 is "
				 "needed",
				 features, (unsigned long long)OFFERED);
	halt(d);
	d->features = features;
	d->front.enabled |= !(features & BIT64(VHOST_USER_F_PROTOCOL_FEATURES));
	return 0;
}

static int get_protocol_features(struct virtio_device *self, uint64_t *features,
				 struct umbra_error *err)
{
	(void)self;
	(void)err;
	/* User Mode Linux has no interrupt for a device that has no channel to it. */
	*features = BIT64(VHOST_USER_PROTOCOL_F_BACKEND_REQ) | BIT64(VHOST_USER_PROTOCOL_F_STATUS);
	return 0;
}

static int set_protocol_features(struct virtio_device *self, uint64_t features,
				 struct umbra_error *err)
{
	(void)self;
	(void)features;
	(void)err;
	return 0;
}

static int get_one(struct virtio_device *self, uint64_t *count, struct umbra_error *err)
{
	(void)self;
	(void)err;
	*count = 1;
	return 0;
}

static int set_memory(struct virtio_device *self, const struct memory_region *regions,
		      unsigned int count, struct umbra_error *err)
{
	struct entropy_device *d = entropy_of(self);
	struct memory *memory = NULL;
	int rc = memory_create(regions, count, &memory, err);

	if (rc)
		return rc;
	pause_queue(d);
	memory_unref(&d->memory);
	d->memory = memory;
	if (!d->started)
		return 0;
	/* The ring has moved with the table, its indices have not. */
	rc = guest_ring_find(&d->front, memory, err);
	if (rc) {
		break_queue(d, err->text);
		return rc;
	}
	d->ring.split = d->front.split;
	d->ring.memory = memory;
	d->ring.memory_hint = d->ring.table_hint = 0;
	return resume_queue(d, err);
}

/* CONFIGURE_MEM_SLOTS is not offered. */
static int change_region(struct virtio_device *self, const struct memory_region *region,
			 struct umbra_error *err)
{
	(void)self;
	(void)region;
	return error_set(err, -EOPNOTSUPP, "memory comes as a whole table here");
}

static const struct memory *memory_of(const struct virtio_device *self)
{
	return ((const struct entropy_device *)(const void *)self)->memory;
}

static int get_config(struct virtio_device *self, uint32_t offset, void *data, uint32_t size,
		      struct umbra_error *err)
{
	(void)self;
	(void)data;
	return error_set(err, -EINVAL,
			 "offset %u, %u bytes; an entropy device has no configuration", offset,
			 size);
}

static int set_config(struct virtio_device *self, uint32_t offset, const void *data, uint32_t size,
		      uint32_t flags, struct umbra_error *err)
{
	(void)data;
	(void)flags;
	return get_config(self, offset, NULL, size, err);
}

static int get_status(struct virtio_device *self, uint8_t *status, struct umbra_error *err)
{
	const struct entropy_device *d = entropy_of(self);

	(void)err;
	*status = (uint8_t)(d->status | (d->broken[0] ? VIRTIO_CONFIG_S_NEEDS_RESET : 0));
	return 0;
}

static int set_status(struct virtio_device *self, uint8_t status, struct umbra_error *err)
{
	(void)err;
	entropy_of(self)->status = status;
	return 0;
}

static int reset(struct virtio_device *self, struct umbra_error *err)
{
	struct entropy_device *d = entropy_of(self);

	(void)err;
	halt(d);
	guest_ring_forget(&d->front);
	d->features = 0;
	d->status = 0;
	return 0;
}

static bool is_started(const struct virtio_device *self)
{
	return ((const struct entropy_device *)(const void *)self)->started;
}

static const struct virtio_ops ops = {
	.get_features = get_features,
	.set_features = set_features,
	.get_protocol_features = get_protocol_features,
	.set_protocol_features = set_protocol_features,
	.get_queue_num = get_one,
	.get_memory_slots = get_one,
	.set_memory = set_memory,
	.add_region = change_region,
	.remove_region = change_region,
	.ring_enable = ring_enable,
	.ring_stop = ring_stop,
	.get_config = get_config,
	.set_config = set_config,
	.get_status = get_status,
	.set_status = set_status,
	.reset = reset,
	.ring_set_size = set_size,
	.ring_set_addr = set_addr,
	.ring_set_base = set_base,
	.ring_set_kick = set_kick,
	.ring_set_call = set_call,
	.ring_set_err = set_err,
	.memory = memory_of,
	.is_started = is_started,
};

void entropy_device_init(struct entropy_device *d, struct device_host *host, const uint8_t *bytes,
			 size_t size)
{
	*d = (struct entropy_device){
		.virtio = { .ops = &ops },
		.host = host,
		.bytes = bytes,
		.size = size,
	};
	guest_ring_init(&d->front, 0);
}

void entropy_device_detach(struct entropy_device *d)
{
	struct umbra_error ignored;

	(void)reset(&d->virtio, &ignored);
	memory_unref(&d->memory);
	free(d->chain.segs);
	d->chain.segs = NULL;
}

void entropy_device_check_queues(struct entropy_device *d)
{
	char why[UMBRA_ERROR_SIZE];

	/* Acquire; peer: the worker's release after its last pass. */
	if (!d->serving || !__atomic_load_n(&d->service.broken, __ATOMIC_ACQUIRE))
		return;
	pause_queue(d);
	if (d->service.fault)
		snprintf(why, sizeof(why), "%s", d->service.fault);
	else
		ring_error_text(&d->ring.error, why, sizeof(why));
	break_queue(d, why);
}
