/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The bytes of a chain in the guest's memory, for a device that reads them itself.
 *
 * A segment may lie across regions that adjoin for the guest and nowhere else.
 *
 * Threads: the owner of the chain.
 * Trust: the chain was judged with the snapshot that is given (chain.h), so all of it is
 * memory.  The guest may change the bytes meanwhile: copy them once, and judge the copy.
 */
#ifndef UMBRA_RING_CHAIN_BYTES_H
#define UMBRA_RING_CHAIN_BYTES_H

#include <stddef.h>

#include "memory/memory.h"
#include "ring/chain.h"

/* The first @max bytes of the chain's readable part, into @to.  Returns how many there are. */
size_t chain_read(const struct ring_chain *chain, const struct memory *memory, void *to,
		  size_t max);

/* Fill the @count segments, which are of a chain's writable part, from @from. */
void segments_write(const struct ring_seg *segs, uint32_t count, const struct memory *memory,
		    const void *from);

#endif
