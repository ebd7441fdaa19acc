/* SPDX-License-Identifier: BSD-2-Clause */
/* umbra/memory.h over memory/memory.h. */
#include "umbra/memory.h"

#include <errno.h>
#include <stdlib.h>

#include "base/error.h"
#include "lib/ring_private.h"

_Static_assert(UMBRA_MEMORY_REGIONS_MAX == MEMORY_REGIONS_MAX, "one limit, two names");

int umbra_memory_create(const struct umbra_memory_region *regions, unsigned int count,
			struct umbra_memory **out, struct umbra_error *err)
{
	struct memory_region *r;
	struct umbra_memory *m;
	int rc = -ENOMEM;

	if (count > MEMORY_REGIONS_MAX)
		return error_set(err, -EINVAL, "memory of %u regions; at most %u are supported",
				 count, MEMORY_REGIONS_MAX);
	m = calloc(1, sizeof(*m));
	r = calloc(count + 1ul, sizeof(*r)); /* one more: an empty table is no special case */
	if (!m || !r) {
		error_set(err, rc, "no memory for a table of %u regions", count);
		goto fail;
	}
	for (unsigned int i = 0; i < count; i++)
		r[i] = (struct memory_region){ .gpa = { regions[i].guest_address },
					       .uva = { regions[i].guest_address },
					       .size = regions[i].size,
					       .host = regions[i].host };
	rc = memory_create(r, count, &m->memory, err);
	if (rc)
		goto fail;
	free(r);
	*out = m;
	return 0;

fail:
	free(r);
	free(m);
	return rc;
}

void *umbra_memory_host(const struct umbra_memory *memory, uint64_t guest_address, uint64_t len)
{
	unsigned int hint = 0;

	return memory_host(memory->memory, &hint, (gpa_t){ guest_address }, len);
}

void umbra_memory_destroy(struct umbra_memory **memory)
{
	struct umbra_memory *m = *memory;

	*memory = NULL;
	if (!m)
		return;
	memory_unref(&m->memory);
	free(m);
}

struct memory *snapshot_of(const struct umbra_memory *memory)
{
	return memory ? memory_ref(memory->memory) : NULL;
}
