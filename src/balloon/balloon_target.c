/* SPDX-License-Identifier: BSD-2-Clause */
/* What a target means in pages: see balloon_target.h. */
#include "balloon/balloon_target.h"

#include <errno.h>
#include <inttypes.h>

#include "balloon/page_run.h"
#include "base/bits.h"
#include "base/error.h"

/* What a small Linux with a shell and its page tables lives on. */
#define FLOOR_LEAST (UINT64_C(64) << 20)
/* Kernel structures grow with the memory that they describe: 1.6 % alone for those of
 * pages, as much again for what a running system keeps. */
#define FLOOR_PART 16u

uint64_t balloon_target_floor(uint64_t configured, uint64_t base)
{
	if (configured)
		return configured;
	return MAX(base / FLOOR_PART, MIN(FLOOR_LEAST, base / 2));
}

static uint64_t wished_bytes(const struct umbra_balloon_target *wish, uint64_t base)
{
	if (wish->take)
		return wish->bytes;
	return base > wish->bytes ? base - wish->bytes : 0;
}

uint32_t balloon_target_pages(const struct umbra_balloon_target *wish,
			      const struct balloon_base *base, uint64_t floor)
{
	uint64_t bytes = MIN(wished_bytes(wish, base->bytes), base->within);
	uint64_t spare = base->bytes > floor ? base->bytes - floor : 0;

	/* "All but a little" of a base that is too small is not all of the table. */
	bytes = MIN(bytes, wish->force ? base->bytes : spare);
	return (uint32_t)MIN(bytes >> PAGE_RUN_SHIFT, UINT32_MAX);
}

int balloon_target_check(const struct umbra_balloon_target *wish, uint64_t base, uint64_t floor,
			 struct umbra_error *err)
{
	uint64_t left = base - MIN(wished_bytes(wish, base), base);

	/* Nothing taken is never too much. */
	if (wish->force || left >= floor || left == base)
		return 0;
	return error_set(err, -EINVAL,
			 "%" PRIu64 " MiB %s would leave the guest %" PRIu64 " of %" PRIu64
			 " MiB; expected at least the floor of %" PRIu64
			 " MiB, unless it is forced",
			 wish->bytes >> 20, wish->take ? "taken" : "left", left >> 20, base >> 20,
			 floor >> 20);
}
