/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * umbra/memory.h - what a ring's descriptors may point into.
 *
 * A driver writes addresses into descriptors.  A memory says which addresses
 * exist, in how many pieces, and where this process sees them.  It never
 * changes: when the driver's memory does, make another one.
 *
 *	struct umbra_memory_region region = {
 *		.guest_address = 0x40000000, .size = bytes, .host = mapping,
 *	};
 *	struct umbra_memory *memory;
 *
 *	if (umbra_memory_create(&region, 1, &memory, &err))
 *		errx(1, "%s", err.text);
 *
 * Ownership: the mappings stay the caller's and must outlive the memory and
 * every ring that was made with it.  Rings hold a memory of their own accord:
 * it may be destroyed as soon as they have been created.
 * Threads: any thread may use a memory at any time.
 */
#ifndef UMBRA_MEMORY_H
#define UMBRA_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "umbra/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct umbra_memory_region {
	uint64_t guest_address; /* what descriptors call the first byte */
	uint64_t size;          /* bytes, at least 1 */
	void *host;             /* where this process sees the first byte */
};

#define UMBRA_MEMORY_REGIONS_MAX 512u

struct umbra_memory;

/*
 * Make a memory of @count regions, in any order; a buffer may reach from one
 * into the next if they adjoin.  0 regions are legal: then every address is
 * outside.
 * -EINVAL: a region is empty, goes past the end of the address space, overlaps
 * another in guest addresses, or there are more than UMBRA_MEMORY_REGIONS_MAX.
 * -ENOMEM.
 */
UMBRA_API UMBRA_MUST_CHECK int umbra_memory_create(const struct umbra_memory_region *regions,
						   unsigned int count, struct umbra_memory **out,
						   struct umbra_error *err);

/*
 * Host address of the @len bytes at @guest_address, if they lie in one region;
 * else NULL.  What is there may be written by the driver at any time.
 */
UMBRA_API void *umbra_memory_host(const struct umbra_memory *memory, uint64_t guest_address,
				  uint64_t len);

/* Destroy *@memory, if there is one, and leave NULL. */
UMBRA_API void umbra_memory_destroy(struct umbra_memory **memory);

#ifdef __cplusplus
}
#endif
#endif
