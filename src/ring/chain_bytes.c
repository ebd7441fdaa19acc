/* SPDX-License-Identifier: BSD-2-Clause */
/* The bytes of a chain in the guest's memory: see chain_bytes.h. */
#include "ring/chain_bytes.h"

#include <string.h>

#include "base/bits.h"

/* What of the @len bytes at @gpa lies in one region: where, and *@bytes of them. */
static uint8_t *run_find(const struct memory *memory, gpa_t gpa, uint64_t len, size_t *bytes)
{
	const struct memory_region *r = memory_find(memory, gpa);
	uint64_t offset = gpa.v - r->gpa.v;

	*bytes = (size_t)MIN(len, r->size - offset);
	return r->host + offset;
}

size_t chain_read(const struct ring_chain *chain, const struct memory *memory, void *to, size_t max)
{
	uint8_t *out = to;
	size_t done = 0, n = 0;

	for (uint32_t i = 0; i < chain->readable && done < max; i++) {
		const struct ring_seg *seg = &chain->segs[i];
		size_t len = MIN(seg->len, max - done);

		for (size_t at = 0; at < len; at += n) {
			const uint8_t *host =
				run_find(memory, (gpa_t){ seg->addr.v + at }, len - at, &n);

			memcpy(out + done + at, host, n);
		}
		done += len;
	}
	return done;
}

void segments_write(const struct ring_seg *segs, uint32_t count, const struct memory *memory,
		    const void *from)
{
	const uint8_t *in = from;
	size_t n = 0;

	for (uint32_t i = 0; i < count; i++) {
		for (size_t at = 0; at < segs[i].len; at += n, in += n) {
			uint8_t *host = run_find(memory, (gpa_t){ segs[i].addr.v + at },
						 segs[i].len - at, &n);

			memcpy(host, in, n);
		}
	}
}
