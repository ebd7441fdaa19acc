/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Three kinds of address, three types.
 *
 * gpa   guest physical: what the guest writes into descriptors.
 * uva   front-end virtual: what vhost-user calls a "user address"; rings are
 *       given in it.
 * iova  what the back-end's descriptors hold: equal to the gpa behind
 *       vhost-user, chosen by us behind vhost-vdpa.
 *
 * A host pointer is the fourth and is a C pointer.  To mix them up does not
 * compile.
 */
#ifndef UMBRA_BASE_ADDR_H
#define UMBRA_BASE_ADDR_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
	uint64_t v;
} gpa_t;
typedef struct {
	uint64_t v;
} uva_t;
typedef struct {
	uint64_t v;
} iova_t;

/* Behind vhost-user a back-end has the guest's memory table, and sees it as the guest does;
 * only what decides that it is so may call this. */
static inline iova_t iova_as_guest(gpa_t gpa)
{
	return (iova_t){ gpa.v };
}

/* True if [addr, addr + len) wraps past the end of the address space. */
static inline bool addr_range_wraps(uint64_t addr, uint64_t len)
{
	return len > UINT64_MAX - addr;
}

#endif
