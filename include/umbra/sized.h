/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * umbra/sized.h - how the library grows, and programs that were built before go on.
 *
 * What a program makes is opaque, or begins with its size:
 *
 *	struct umbra_driver_ring_config config = { UMBRA_SIZED(umbra_driver_ring_config),
 *						   .size = 8 };
 *
 * A config gets new members at its end, and what they are without a word is zero.  The
 * library takes as much as the program knew, and zeros for the rest.  From a newer program
 * it takes what it knows itself; -E2BIG, if something is said beyond that.  -EINVAL: the
 * size is that of no version.
 *
 * What the library tells it writes into room of the caller's whose size goes with the call:
 * as much as it knows, and zeros beyond, so that a program sees 0 of what an older library
 * did not know.  Or it lends a const pointer to what is its own (the parts of a picture,
 * what goes with an event).  That begins with the size that the library knows, and who has
 * been built against a newer one asks before it reads what is new:
 *
 *	if (UMBRA_KNOWS(info, shadow_memory_regions))
 *
 * The rest never changes, because it is passed in arrays, lies within others, or is on the
 * way of the data: umbra_error, umbra_socket_access, umbra_balloon_target,
 * umbra_balloon_range, umbra_balloon_stats, umbra_memory_region, umbra_ring_parts,
 * umbra_segment, umbra_chain, umbra_done, umbra_net_coalesce.  Enumerations get new values
 * at their end.
 */
#ifndef UMBRA_SIZED_H
#define UMBRA_SIZED_H

#include <stddef.h>

/* The first initialiser of struct @name. */
#define UMBRA_SIZED(name) .struct_size = sizeof(struct name)

/* Whether the library that lends *@info knows of its member @member. */
#define UMBRA_KNOWS(info, member)                                                                  \
	((size_t)((const char *)(&(info)->member + 1) - (const char *)(info)) <=                   \
	 (info)->struct_size)

#endif
