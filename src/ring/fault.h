/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Why a ring is broken.
 *
 * A peer that violates the ring's rules breaks that ring and nothing else.
 * The first violation is kept, with the number that was wrong and the limit
 * that it broke; every later call on the ring returns -EPROTO.
 */
#ifndef UMBRA_RING_FAULT_H
#define UMBRA_RING_FAULT_H

#include <stddef.h>
#include <stdint.h>

enum ring_fault {
	RING_OK = 0,
	/* the driver lied (seen by the device side) */
	RING_AVAIL_JUMPED,     /* value: chains made available at once; limit: ring size */
	RING_HEAD_RANGE,       /* value: head; limit: ring size */
	RING_HEAD_IN_FLIGHT,   /* value: head */
	RING_NEXT_RANGE,       /* value: next; limit: table size */
	RING_CHAIN_TOO_LONG,   /* a loop, or longer than it may be; limit: descriptors */
	RING_READ_AFTER_WRITE, /* value: index of the segment in its chain */
	RING_ZERO_LENGTH,      /* value: index of the segment in its chain */
	RING_OUTSIDE_MEMORY,   /* value: address; limit: length */
	RING_INDIRECT_UNNEGOTIATED,
	RING_INDIRECT_NESTED,
	RING_INDIRECT_WITH_NEXT,
	RING_INDIRECT_EMPTY,    /* a table of zero descriptors */
	RING_INDIRECT_SIZE,     /* value: table bytes; not a multiple of 16 */
	RING_INDIRECT_TOO_LONG, /* value: descriptors; limit: the most that are taken */
	RING_INDIRECT_OUTSIDE,  /* value: table address; limit: table bytes */
	/* the device lied (seen by the driver side) */
	RING_USED_JUMPED,        /* value: chains used at once; limit: chains in flight */
	RING_USED_ID_RANGE,      /* value: id; limit: ring size */
	RING_USED_NOT_IN_FLIGHT, /* value: id: never given, or used twice */
	RING_USED_OUT_OF_ORDER,  /* value: id: IN_ORDER and not in flight in this batch */
	RING_FAULT_COUNT
};

struct ring_error {
	enum ring_fault fault;
	uint16_t head; /* the chain in which it was found, where there is one */
	uint64_t value;
	uint64_t limit;
};

/* A sentence with the numbers, e.g. "the driver made descriptor 300 available,
 * outside the ring of 256".  Returns @text. */
char *ring_error_text(const struct ring_error *error, char *text, size_t size);

#endif
