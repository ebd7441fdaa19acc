/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Judging and translating the configurations of umbra/ring.h.
 *
 * The layers below take a ring's size and alignment for granted; here is where
 * the embedder's are checked.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/sized.h"
#include "lib/ring_private.h"

#define SHARED_ALIGN 64u /* bytes */

_Static_assert(UMBRA_RING_SIZE_MAX == SPLIT_SIZE_MAX, "one limit, two names");

int ring_size_check(const char *name, uint32_t size, struct umbra_error *err)
{
	if (is_power_of_two(size) && size <= SPLIT_SIZE_MAX)
		return 0;
	return error_set(err, -EINVAL, "%s: size %u is not a power of two from 1 to %u", name, size,
			 SPLIT_SIZE_MAX);
}

static int table_max_check(const char *name, uint32_t table_max, struct umbra_error *err)
{
	if (table_max <= SPLIT_SIZE_MAX)
		return 0;
	return error_set(err, -EINVAL, "%s: table_max %u is more than %u", name, table_max,
			 SPLIT_SIZE_MAX);
}

int device_config_from(const struct umbra_device_ring_config *said, struct device_ring_config *out,
		       struct umbra_error *err)
{
	struct umbra_device_ring_config known, *config = &known;
	const struct umbra_ring_parts *p = &known.parts;
	struct ring_position at;
	int rc = sized_take(&known, sizeof(known), said,
			    SIZED_UPTO(struct umbra_device_ring_config, table_max),
			    "struct umbra_device_ring_config", err);

	if (!rc)
		rc = ring_size_check("device ring", p->size, err);
	if (rc)
		return rc;
	at = (struct ring_position){ RING_SPLIT, config->last_avail, config->used };
	rc = table_max_check("device ring", config->table_max, err);
	if (rc)
		return rc;
	if (!p->desc || (uintptr_t)p->desc % SPLIT_DESC_ALIGN)
		return error_set(err, -EINVAL, "device ring: desc at %p is not aligned to %u bytes",
				 p->desc, SPLIT_DESC_ALIGN);
	if (!p->avail || (uintptr_t)p->avail % SPLIT_AVAIL_ALIGN)
		return error_set(err, -EINVAL,
				 "device ring: avail at %p is not aligned to %u bytes", p->avail,
				 SPLIT_AVAIL_ALIGN);
	if (!p->used || (uintptr_t)p->used % SPLIT_USED_ALIGN)
		return error_set(err, -EINVAL, "device ring: used at %p is not aligned to %u bytes",
				 p->used, SPLIT_USED_ALIGN);
	if (ring_outstanding(at, p->size) > p->size)
		return error_set(err, -EINVAL,
				 "device ring: %u buffers between used %u and last_avail %u, on a "
				 "ring of %u",
				 ring_outstanding(at, p->size), at.used, at.avail, p->size);
	*out = (struct device_ring_config){ .split = { .desc = p->desc,
						       .avail = p->avail,
						       .used = p->used,
						       .size = (uint16_t)p->size },
					    .memory =
						    config->memory ? config->memory->memory : NULL,
					    .features = config->features,
					    .at = at,
					    .table_max = config->table_max };
	return 0;
}

int driver_config_from(const struct umbra_driver_ring_config *said, struct driver_ring_config *out,
		       struct driver_memory *memory, struct umbra_error *err)
{
	struct umbra_driver_ring_config known, *config = &known;
	struct driver_layout layout;
	void *shared;
	int rc = sized_take(&known, sizeof(known), said,
			    SIZED_UPTO(struct umbra_driver_ring_config, table_max),
			    "struct umbra_driver_ring_config", err);

	if (!rc)
		rc = ring_size_check("driver ring", config->size, err);
	if (rc)
		return rc;
	shared = config->shared;
	if ((uintptr_t)shared % SHARED_ALIGN)
		return error_set(err, -EINVAL,
				 "driver ring: shared at %p is not aligned to %u bytes", shared,
				 SHARED_ALIGN);
	rc = table_max_check("driver ring", config->table_max, err);
	if (rc)
		return rc;
	layout = driver_ring_layout((uint16_t)config->size, config->features, config->table_max);
	memory->shared_own = NULL;
	memory->private = aligned_alloc(SHARED_ALIGN, align_up(layout.private_bytes, SHARED_ALIGN));
	if (!shared) {
		size_t bytes = align_up(layout.shared_bytes, SHARED_ALIGN);

		shared = memory->shared_own = aligned_alloc(SHARED_ALIGN, bytes);
		if (shared)
			memset(shared, 0, bytes); /* the device shall not see old heap */
	}
	if (!memory->private || !shared) {
		driver_memory_free(memory);
		return error_set(err, -ENOMEM, "driver ring: no memory for a ring of %u",
				 config->size);
	}
	*out = (struct driver_ring_config){
		.size = (uint16_t)config->size,
		.features = config->features,
		.shared = shared,
		.shared_addr = { memory->shared_own ? (uintptr_t)shared : config->shared_address },
		.private = memory->private,
		.base = ring_position_split(config->base),
		.table_max = config->table_max
	};
	return 0;
}

void driver_memory_free(struct driver_memory *memory)
{
	free(memory->private);
	free(memory->shared_own);
	*memory = (struct driver_memory){ 0 };
}

void parts_from(const struct split_ring *split, struct umbra_ring_parts *parts)
{
	*parts = (struct umbra_ring_parts){
		.desc = split->desc, .avail = split->avail, .used = split->used, .size = split->size
	};
}

void error_from(const struct ring_error *error, struct umbra_error *err)
{
	if (error->fault == RING_OK)
		err->text[0] = '\0';
	else
		ring_error_text(error, err->text, sizeof(err->text));
}
