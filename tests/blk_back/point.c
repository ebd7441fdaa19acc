/* SPDX-License-Identifier: BSD-2-Clause */
/* Points at which a back-end can be made to misbehave: see point.h. */
#include "point.h"

#include <endian.h>
#include <string.h>

static const char *const names[] = {
#define BLK_STORE_NAME(kind, name) [BLK_##kind] = name,
	BLK_STORES(BLK_STORE_NAME)
#undef BLK_STORE_NAME
};

const char *blk_store_name(enum blk_store store)
{
	return names[store];
}

enum blk_store blk_store_find(const char *name)
{
	enum blk_store s = 0;

	while (s < BLK_STORE_COUNT && strcmp(names[s], name) != 0)
		s++;
	return s;
}

static enum blk_verdict reach(const struct blk_place *at, enum blk_store store, bool after,
			      uint64_t *value)
{
	struct blk_point p = { .store = store,
			       .after = after,
			       .queue = at->queue,
			       .value = *value,
			       .about = at->about,
			       .about_count = at->about_count,
			       .message = at->message,
			       .late = at->late };
	enum blk_verdict verdict = at->hook->reach(at->hook->opaque, &p);

	*value = p.value;
	return verdict;
}

bool blk_before(const struct blk_place *at, enum blk_store store, uint64_t *value)
{
	return reach(at, store, false, value) == BLK_GO_ON;
}

void blk_after(const struct blk_place *at, enum blk_store store, uint64_t value)
{
	(void)reach(at, store, true, &value);
}

void blk_store(const struct blk_place *at, enum blk_store store, void *p, unsigned int bytes,
	       uint64_t value)
{
	if (blk_before(at, store, &value)) {
		switch (bytes) {
		case 1:
			__atomic_store_n((uint8_t *)p, (uint8_t)value, __ATOMIC_RELEASE);
			break;
		case 2:
			__atomic_store_n((uint16_t *)p, htole16((uint16_t)value), __ATOMIC_RELEASE);
			break;
		case 4:
			__atomic_store_n((uint32_t *)p, htole32((uint32_t)value), __ATOMIC_RELEASE);
			break;
		default:
			__atomic_store_n((uint64_t *)p, htole64(value), __ATOMIC_RELEASE);
		}
	}
	blk_after(at, store, value);
}
