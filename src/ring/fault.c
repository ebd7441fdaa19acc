/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A fault as a sentence: see fault.h.
 *
 * The sentence is for the person who has to find out which driver or which
 * back-end is wrong, so it names who did it, the number, and the limit.
 */
#include "ring/fault.h"

#include <inttypes.h>
#include <stdio.h>

char *ring_error_text(const struct ring_error *e, char *text, size_t size)
{
	switch (e->fault) {
	case RING_OK:
		snprintf(text, size, "the ring is in order");
		break;
	case RING_AVAIL_JUMPED:
		snprintf(text, size,
			 "the driver made %" PRIu64
			 " chains available at once on a ring of %" PRIu64,
			 e->value, e->limit);
		break;
	case RING_HEAD_RANGE:
		snprintf(text, size,
			 "the driver made descriptor %" PRIu64
			 " available, outside the ring of %" PRIu64,
			 e->value, e->limit);
		break;
	case RING_HEAD_IN_FLIGHT:
		snprintf(text, size,
			 "the driver made descriptor %" PRIu64
			 " available again, before the chain that begins there was used",
			 e->value);
		break;
	case RING_NEXT_RANGE:
		snprintf(text, size,
			 "in chain %u the driver linked to descriptor %" PRIu64
			 ", outside the table of %" PRIu64,
			 e->head, e->value, e->limit);
		break;
	case RING_CHAIN_TOO_LONG:
		snprintf(text, size,
			 "chain %u of the driver is a loop or longer than %" PRIu64 " descriptors",
			 e->head, e->limit);
		break;
	case RING_READ_AFTER_WRITE:
		snprintf(text, size,
			 "segment %" PRIu64
			 " of the driver's chain %u is device-readable but follows "
			 "a device-writable one",
			 e->value, e->head);
		break;
	case RING_ZERO_LENGTH:
		snprintf(text, size, "segment %" PRIu64 " of the driver's chain %u has no bytes",
			 e->value, e->head);
		break;
	case RING_OUTSIDE_MEMORY:
		snprintf(text, size,
			 "the driver's chain %u points to %" PRIu64 " bytes at 0x%" PRIx64
			 ", outside the guest's memory",
			 e->head, e->limit, e->value);
		break;
	case RING_INDIRECT_UNNEGOTIATED:
		snprintf(text, size,
			 "the driver's chain %u uses an indirect table without INDIRECT_DESC",
			 e->head);
		break;
	case RING_INDIRECT_NESTED:
		snprintf(text, size,
			 "the driver's chain %u has an indirect table inside an indirect table",
			 e->head);
		break;
	case RING_INDIRECT_WITH_NEXT:
		snprintf(text, size, "the driver's chain %u goes on behind its indirect table",
			 e->head);
		break;
	case RING_INDIRECT_EMPTY:
		snprintf(text, size, "the driver's chain %u has an indirect table of no bytes",
			 e->head);
		break;
	case RING_INDIRECT_SIZE:
		snprintf(text, size,
			 "the driver's chain %u has an indirect table of %" PRIu64
			 " bytes, not a multiple of 16",
			 e->head, e->value);
		break;
	case RING_INDIRECT_TOO_LONG:
		snprintf(text, size,
			 "the driver's chain %u has an indirect table of %" PRIu64
			 " descriptors, expected %" PRIu64 " at most",
			 e->head, e->value, e->limit);
		break;
	case RING_INDIRECT_OUTSIDE:
		snprintf(text, size,
			 "the driver's chain %u has an indirect table of %" PRIu64
			 " bytes at 0x%" PRIx64 ", outside the guest's memory",
			 e->head, e->limit, e->value);
		break;
	case RING_USED_JUMPED:
		snprintf(text, size,
			 "the device used %" PRIu64 " chains at once while %" PRIu64
			 " were in flight",
			 e->value, e->limit);
		break;
	case RING_USED_ID_RANGE:
		snprintf(text, size, "the device used id %" PRIu64 ", outside the ring of %" PRIu64,
			 e->value, e->limit);
		break;
	case RING_USED_NOT_IN_FLIGHT:
		snprintf(text, size,
			 "the device used id %" PRIu64
			 ", which is not in flight: never given to it, "
			 "or used twice",
			 e->value);
		break;
	case RING_USED_OUT_OF_ORDER:
		snprintf(text, size,
			 "the device used id %" PRIu64
			 ", which with IN_ORDER is not among the next %" PRIu64 " chains",
			 e->value, e->limit);
		break;
	case RING_FAULT_COUNT:
	default:
		snprintf(text, size, "unknown fault %u", (unsigned int)e->fault);
		break;
	}
	return text;
}
