/* SPDX-License-Identifier: BSD-2-Clause */
/* Does the VMM share its guest's memory: see sharing.h. */
#include "host/sharing.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/log.h"

/* Bytes that are looked at, at most: the lowest of the guest's memory, which firmware and
 * kernels fill.  Usually the first few tell. */
#define LOOK_BYTES (16u << 20)
#define PIECE_BYTES 4096u

/*
 * Are the first bytes of all that is shared zeros?  They are read from the file, since a look
 * through our mapping would give a page to each hole.  That the file has pages says nothing:
 * one that is written through a private mapping gets its page too, and keeps it empty.
 */
static bool is_untouched(const struct memory *memory)
{
	uint8_t piece[PIECE_BYTES];
	size_t left = LOOK_BYTES;

	for (unsigned int i = 0; i < memory->count; i++) {
		const struct memory_region *r = &memory->regions[i];

		if (fcntl(r->backing->fd, F_GET_SEALS) < 0)
			return false; /* no memory: it may be served by a program */
		for (uint64_t at = 0; at < r->size && left; at += PIECE_BYTES) {
			const size_t size = MIN(MIN(r->size - at, left), PIECE_BYTES);
			ssize_t n = pread(r->backing->fd, piece, size,
					  (off_t)(r->backing->fd_offset + at));

			if (n <= 0 || piece[0] || memcmp(piece, piece + 1, (size_t)n - 1) != 0)
				return false;
			left -= size;
		}
	}
	return memory->count > 0;
}

void sharing_check(const struct memory *memory, unsigned int index)
{
	if (memory && is_untouched(memory))
		log_warning("queue %u is started in memory to which the VMM has never written: it "
			    "seems to use a copy of its own, and the device will not see the "
			    "guest's requests (with QEMU: share=on is forgotten)",
			    index);
}
