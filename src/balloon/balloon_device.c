/* SPDX-License-Identifier: BSD-2-Clause */
/* The balloon device: see balloon_device.h. */
#include "balloon/balloon_device_private.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "virtio/protocol_features.h"

/* Those that need the device. */
#define PROTOCOL_FEATURES                                                                          \
	(BIT64(VHOST_USER_PROTOCOL_F_MQ) | BIT64(VHOST_USER_PROTOCOL_F_BACKEND_REQ) |              \
	 BIT64(VHOST_USER_PROTOCOL_F_CONFIG) | BIT64(VHOST_USER_PROTOCOL_F_RESET_DEVICE) |         \
	 BIT64(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS) | BIT64(VHOST_USER_PROTOCOL_F_STATUS))

#define CONFIG_NUM_PAGES 0u /* offsets in the configuration space, virtio 1.2, 5.5.4 */
#define CONFIG_ACTUAL 4u
#define CONFIG_POISON_VAL 12u

/* --- the front-end's messages ------------------------------------------------------ */

static uint64_t features_offered(unsigned int hide)
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

static int get_features(struct virtio_device *self, uint64_t *features, struct umbra_error *err)
{
	struct balloon_device *d = balloon_of(self);

	(void)err;
	*features = d->offered;
	return 0;
}

static int set_features(struct virtio_device *self, uint64_t features, struct umbra_error *err)
{
	struct balloon_device *d = balloon_of(self);
	uint64_t foreign = features & ~(d->offered | BIT64(VHOST_USER_F_PROTOCOL_FEATURES));

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
		balloon_ring_halt(d, &d->rings[i]);
		d->rings[i].front.enabled |= !(features & BIT64(VHOST_USER_F_PROTOCOL_FEATURES));
	}
	d->features = features;
	return 0;
}

static int get_protocol_features(struct virtio_device *self, uint64_t *features,
				 struct umbra_error *err)
{
	(void)self;
	(void)err;
	*features = PROTOCOL_FEATURES;
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

static int get_queue_num(struct virtio_device *self, uint64_t *count, struct umbra_error *err)
{
	(void)self;
	(void)err;
	*count = BALLOON_QUEUES;
	return 0;
}

static int get_memory_slots(struct virtio_device *self, uint64_t *count, struct umbra_error *err)
{
	(void)self;
	(void)err;
	*count = BALLOON_MEMORY_SLOTS;
	return 0;
}

/* May it be discarded? */
static void region_judge(struct balloon_device *d, const struct memory_region *r)
{
	d->host->ops->judge(d->host, r);
	if (r->backing && !balloon_device_touches(&d->config, r->gpa.v, r->size))
		__atomic_store_n(&r->backing->keeps, BALLOON_KEEP_OUTSIDE, __ATOMIC_RELAXED);
}

/* Consumes *@memory on success. */
static int memory_exchange(struct balloon_device *d, struct memory **memory,
			   struct umbra_error *err)
{
	struct ledger *ledger;
	int rc;

	/* First: the worker must not enter pages into the old one while the new one
	 * inherits from it. */
	balloon_queues_pause(d);
	for (unsigned int i = 0; i < (*memory)->count; i++)
		region_judge(d, &(*memory)->regions[i]);
	rc = ledger_create(*memory, d->ledger, &ledger, err);
	if (rc) {
		balloon_queues_resume(d);
		return rc;
	}
	/* Another guest's, and nobody has said that its driver is a new one. */
	if (!d->memory && d->ledger && !ledger_is_related(ledger, d->ledger)) {
		d->account = BALLOON_ACCOUNT_UNKNOWN;
		d->adopted = 0;
	}
	memory_unref(&d->memory);
	ledger_destroy(&d->ledger);
	d->memory = *memory;
	d->ledger = ledger;
	*memory = NULL;
	balloon_account_changed(d);
	for (unsigned int i = 0; i < BALLOON_QUEUES; i++) {
		struct balloon_ring *r = &d->rings[i];
		struct umbra_error why = { "" };

		if (!r->built || r->error[0])
			continue;
		/* The ring has moved with the table, its indices have not. */
		if (guest_ring_find(&r->front, d->memory, &why)) {
			r->built = false;
			balloon_ring_break(d, r, why.text);
		} else {
			r->queue.ring.split = r->front.split;
		}
		r->queue.ring.memory = d->memory;
		r->queue.ring.memory_hint = r->queue.ring.table_hint = 0;
	}
	balloon_queues_resume(d);
	balloon_device_aim(d);
	return 0;
}

static int set_memory(struct virtio_device *self, const struct memory_region *regions,
		      unsigned int count, struct umbra_error *err)
{
	struct balloon_device *d = balloon_of(self);
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
	rc = set_memory(&d->virtio, regions, count, err);
	free(regions);
	return rc;
}

static int add_region(struct virtio_device *self, const struct memory_region *region,
		      struct umbra_error *err)
{
	return regions_change(balloon_of(self), region, UINT32_MAX, err);
}

static int remove_region(struct virtio_device *self, const struct memory_region *region,
			 struct umbra_error *err)
{
	struct balloon_device *d = balloon_of(self);

	for (unsigned int i = 0; d->memory && i < d->memory->count; i++) {
		const struct memory_region *r = &d->memory->regions[i];

		if (r->gpa.v == region->gpa.v && r->uva.v == region->uva.v &&
		    r->size == region->size)
			return regions_change(d, NULL, i, err);
	}
	return error_set(err, -EINVAL,
			 "there is no region of 0x%" PRIx64 " bytes at gpa 0x%" PRIx64,
			 region->size, region->gpa.v);
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
	put_le32(config + CONFIG_NUM_PAGES, balloon_device_num_pages(d));
	put_le32(config + CONFIG_ACTUAL, d->actual);
	put_le32(config + CONFIG_POISON_VAL, d->poison);
}

static int config_space_check(uint32_t offset, uint32_t size, struct umbra_error *err)
{
	if (offset > BALLOON_CONFIG_BYTES || size > BALLOON_CONFIG_BYTES - offset)
		return error_set(err, -EINVAL,
				 "offset %u, %u bytes; a balloon's configuration has %u", offset,
				 size, BALLOON_CONFIG_BYTES);
	return 0;
}

static int get_config(struct virtio_device *self, uint32_t offset, void *data, uint32_t size,
		      struct umbra_error *err)
{
	uint8_t config[BALLOON_CONFIG_BYTES];
	int rc = config_space_check(offset, size, err);

	if (rc)
		return rc;
	config_fill(balloon_of(self), config);
	memcpy(data, config + offset, size);
	return 0;
}

static int set_config(struct virtio_device *self, uint32_t offset, const void *data, uint32_t size,
		      uint32_t flags, struct umbra_error *err)
{
	struct balloon_device *d = balloon_of(self);
	uint8_t config[BALLOON_CONFIG_BYTES];
	int rc = config_space_check(offset, size, err);
	bool writes_actual;

	(void)flags;
	if (rc)
		return rc;
	/* What the driver may not write keeps its value. */
	config_fill(d, config);
	memcpy(config + offset, data, size);
	writes_actual = offset <= CONFIG_ACTUAL && size >= CONFIG_ACTUAL + 4 - offset;
	if (d->actual != get_le32(config + CONFIG_ACTUAL) ||
	    writes_actual > d->driver_writes_actual)
		balloon_device_generation_begin(d);
	d->actual = get_le32(config + CONFIG_ACTUAL);
	d->driver_writes_actual |= writes_actual;
	if (writes_actual && d->account != BALLOON_ACCOUNT_KNOWN && balloon_device_has_driver(d))
		balloon_account_adopt(d);
	if (d->poison == get_le32(config + CONFIG_POISON_VAL))
		return 0;
	balloon_queues_pause(d);
	d->poison = get_le32(config + CONFIG_POISON_VAL);
	balloon_queues_resume(d);
	return 0;
}

static int get_status(struct virtio_device *self, uint8_t *status, struct umbra_error *err)
{
	struct balloon_device *d = balloon_of(self);

	(void)err;
	*status = d->status;
	for (unsigned int i = 0; i < BALLOON_QUEUES; i++)
		if (d->rings[i].error[0])
			*status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	return 0;
}

static int reset(struct virtio_device *self, struct umbra_error *err)
{
	struct balloon_device *d = balloon_of(self);

	(void)err;
	for (unsigned int i = 0; i < BALLOON_QUEUES; i++)
		balloon_ring_forget(d, &d->rings[i]);
	d->features = 0;
	d->status = 0;
	d->poison = 0;
	balloon_device_clear_account(d);
	return 0;
}

static int set_status(struct virtio_device *self, uint8_t status, struct umbra_error *err)
{
	struct balloon_device *d = balloon_of(self);

	/* "Writing 0 resets the device"; but the rings' fds are the front-end's
	 * business, which stops them by itself. */
	if (!status && d->status) {
		balloon_queues_pause(d);
		balloon_device_clear_account(d);
		balloon_queues_resume(d);
	}
	d->status = status;
	(void)err;
	return 0;
}

static const struct memory *device_memory(const struct virtio_device *self)
{
	return ((const struct balloon_device *)self)->memory;
}

static const struct virtio_ops balloon_ops = {
	.get_features = get_features,
	.set_features = set_features,
	.get_protocol_features = get_protocol_features,
	.set_protocol_features = set_protocol_features,
	.get_queue_num = get_queue_num,
	.get_memory_slots = get_memory_slots,
	.set_memory = set_memory,
	.add_region = add_region,
	.remove_region = remove_region,
	.ring_set_size = balloon_ring_set_size,
	.ring_set_addr = balloon_ring_set_addr,
	.ring_set_base = balloon_ring_set_base,
	.ring_set_kick = balloon_ring_set_kick,
	.ring_set_call = balloon_ring_set_call,
	.ring_set_err = balloon_ring_set_err,
	.ring_enable = balloon_ring_enable,
	.ring_stop = balloon_ring_stop,
	.get_config = get_config,
	.set_config = set_config,
	.get_status = get_status,
	.set_status = set_status,
	.reset = reset,
	.memory = device_memory,
};

struct virtio_device *balloon_device_virtio(struct balloon_device *d)
{
	return &d->virtio;
}

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
	d->virtio.ops = &balloon_ops;
	d->host = host;
	d->config = *config;
	d->aim.generation = 1;
	d->aim.wish = config->target;
	if (config->target.bytes)
		d->aim.wish_id = 1;
	else if (!config->target.take)
		d->aim.wish.bytes = UMBRA_BALLOON_ALL_MEMORY;
	d->offered = features_offered(config->hide);
	d->shared.batch.single_pages = config->single_pages;
	balloon_progress_init(&d->progress, config->stall_ms * UINT64_C(1000));
	for (unsigned int i = 0; i < BALLOON_QUEUES; i++)
		guest_ring_init(&d->rings[i].front, i);
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
		balloon_ring_forget(d, &d->rings[i]);
	d->attached = false;
	d->features = 0;
	/* The ledger stays, in case that the same guest comes back. */
	memory_unref(&d->memory);
	d->shared.batch.memory = NULL;
	balloon_account_changed(d);
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
