/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory files, mapped: the guest's, and our own.
 *
 * Ownership: a mapping is the backing of the region that is returned; the
 * backing owns the mapping and the fd, has one reference, and both go with
 * the last one (memory_backing_unref()).
 * Threads: any.
 * Trust: the fd and the numbers come from the front-end.  What is mapped lies
 * inside the file when it is mapped; for who shrinks the file afterwards there
 * is mapping_guard.h.
 */
#ifndef UMBRA_HOST_MAPPING_H
#define UMBRA_HOST_MAPPING_H

#include <stdint.h>

#include "base/addr.h"
#include "memory/memory.h"
#include "umbra/error.h"

struct mapping_request {
	gpa_t gpa;
	uva_t uva;
	uint64_t size;   /* bytes */
	uint64_t offset; /* of the first byte in the file, bytes */
};

/*
 * Map the part of *@fd that @request names, shared, to read and write, and
 * fill *@region.
 * -EINVAL: empty, an overflow, not a regular file, or beyond its end.
 * -EACCES: not open to read and write.  -ENOMEM and others of mmap(2).
 */
UMBRA_MUST_CHECK int mapping_create(int *fd, const struct mapping_request *request,
				    struct memory_region *region, struct umbra_error *err);

/*
 * Make @size bytes of zeros (whole pages), in a memfd whose size nobody can
 * change, and fill host, size and backing of *@region; gpa and uva are 0 and
 * the caller's to set.  -EINVAL, -ENOMEM and others of memfd_create(2) and
 * mmap(2).
 */
UMBRA_MUST_CHECK int mapping_create_own(uint64_t size, struct memory_region *region,
					struct umbra_error *err);

#endif
