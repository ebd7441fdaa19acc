/* SPDX-License-Identifier: BSD-2-Clause */
/* The balloon device: see balloon_device.h. */
#include "balloon/balloon_device_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "virtio/feature_bits.h"

#define CONFIG_NUM_PAGES 0u /* offsets in the configuration space, virtio 1.2, 5.5.4 */
#define CONFIG_ACTUAL 4u
#define CONFIG_POISON_VAL 12u

_Static_assert(PAGE_RUN_FEATURE_BIT == VIRTIO_BALLOON_F_PAGE_BITMAP,
	       "the codec has the number as well, for the guest's kernel");

/* --- features and memory ------------------------------------------------------------ */

static uint64_t features_offered(unsigned int hide)
{
	uint64_t features = 0;

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
		features |= BIT64(VIRTIO_BALLOON_F_PAGE_BITMAP);
	return features;
}

/* May it be discarded? */
static void region_judge(struct balloon_device *d, const struct memory_region *r)
{
	d->host->ops->judge(d->host, r);
	if (r->backing && !balloon_device_touches(&d->config, r->gpa.v, r->size))
		__atomic_store_n(&r->backing->keeps, BALLOON_KEEP_OUTSIDE, __ATOMIC_RELAXED);
}

static int table_take(struct guest_rings *g, struct memory *memory, struct umbra_error *err)
{
	struct balloon_device *d = balloon_of(g);
	struct ledger *ledger;
	int rc;

	for (unsigned int i = 0; i < memory->count; i++)
		region_judge(d, &memory->regions[i]);
	rc = balloon_ledger_make(d, memory, d->ledger, &ledger, err);
	if (rc)
		return rc;
	/* Another guest's, and nobody has said that its driver is a new one. */
	if (!g->memory && d->ledger && !ledger_is_related(ledger, d->ledger)) {
		d->account = BALLOON_ACCOUNT_UNKNOWN;
		d->adopted = 0;
	}
	ledger_destroy(&d->ledger);
	d->ledger = ledger;
	balloon_account_changed(d, ledger);
	return 0;
}

/* --- configuration space, reset ------------------------------------------------------ */

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

static int get_config(struct guest_rings *g, uint32_t offset, void *data, uint32_t size,
		      struct umbra_error *err)
{
	uint8_t config[BALLOON_CONFIG_BYTES];
	int rc = config_space_check(offset, size, err);

	if (rc)
		return rc;
	config_fill(balloon_of(g), config);
	memcpy(data, config + offset, size);
	return 0;
}

static int set_config(struct guest_rings *g, uint32_t offset, const void *data, uint32_t size,
		      struct umbra_error *err)
{
	struct balloon_device *d = balloon_of(g);
	uint8_t config[BALLOON_CONFIG_BYTES];
	int rc = config_space_check(offset, size, err);
	bool writes_actual;

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
	guest_rings_pause(g);
	d->poison = get_le32(config + CONFIG_POISON_VAL);
	guest_rings_resume(g);
	return 0;
}

static void changed(struct guest_rings *g)
{
	struct balloon_device *d = balloon_of(g);

	/* What it strives for is not known yet, where that is inherited. */
	if (!d->inherited)
		(void)balloon_device_aim(d);
}

static void attach(struct guest_rings *g)
{
	balloon_of(g)->attached = true;
	balloon_of(g)->poison = 0;
}

static void detach(struct guest_rings *g)
{
	struct balloon_device *d = balloon_of(g);

	/* The ledger stays, in case that the same guest comes back. */
	d->attached = false;
	d->shared.batch.memory = NULL;
	balloon_account_changed(d, NULL);
}

static void status_cleared(struct guest_rings *g)
{
	balloon_device_clear_account(balloon_of(g));
}

static void reset(struct guest_rings *g)
{
	balloon_of(g)->poison = 0;
	balloon_device_clear_account(balloon_of(g));
}

static const struct guest_rings_kind balloon_kind = {
	.name = "a balloon",
	.count = BALLOON_QUEUES,
	.ring = balloon_ring_at,
	.pass = balloon_queue_pass,
	.get_config = get_config,
	.set_config = set_config,
	.start = balloon_ring_start,
	.is_served = balloon_ring_is_served,
	.pause = balloon_ring_pause,
	.stop = balloon_ring_stop,
	.take_memory = table_take,
	.resume = balloon_rings_resume,
	.changed = changed,
	.attach = attach,
	.detach = detach,
	.reset = reset,
	.status_cleared = status_cleared,
};

struct virtio_device *balloon_device_virtio(struct balloon_device *d)
{
	return &d->rings.virtio;
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
	guest_rings_init(&d->rings, &balloon_kind, host->device, features_offered(config->hide));
	d->host = host;
	d->config = *config;
	d->aim.generation = 1;
	d->aim.wish = config->target;
	d->aim.wish_percent = config->target_percent;
	if (config->target.bytes || config->target_percent)
		d->aim.wish_id = 1;
	else if (!config->target.take)
		d->aim.wish.bytes = UMBRA_BALLOON_ALL_MEMORY;
	d->shared.batch.single_pages = config->single_pages;
	balloon_progress_init(&d->progress, config->stall_ms * UINT64_C(1000));
	*out = d;
	return 0;
}

void balloon_device_destroy(struct balloon_device **device)
{
	struct balloon_device *d = *device;

	*device = NULL;
	if (!d)
		return;
	guest_rings_detach(&d->rings);
	balloon_device_disinherit(d);
	ledger_destroy(&d->ledger);
	balloon_shared_fini(&d->shared);
	free(d);
}
