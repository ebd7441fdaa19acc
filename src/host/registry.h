/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who has a file pinned, by name, for messages.
 *
 * Theory of operation: an entry is a file in /run/umbra (or, if that is not ours to
 * write, in $XDG_RUNTIME_DIR/umbra), DEVICE-INODE-PROCESS-NUMBER, which holds one line
 * and is locked (flock) by its owner until it leaves; the kernel lets go of the lock
 * when the owner dies, however.  Who looks believes an entry only if somebody holds that
 * lock, and removes the others.  It comes into being under a name that nobody looks at,
 * and is locked before it gets its own.
 *
 * Trust: the folder must be a folder (no link) of root's or our own that nobody else
 * may write, an entry a small regular file of one of the two; of its line only printable
 * characters are taken over.  Nothing is decided by an entry.
 *
 * Threads: any, one at a time for an entry.
 */
#ifndef UMBRA_HOST_REGISTRY_H
#define UMBRA_HOST_REGISTRY_H

#include <stdbool.h>
#include <stdint.h>

struct registry_entry {
	int fd; /* locked; -1: there is no entry */
	char path[160];
};

#define REGISTRY_NO_ENTRY ((struct registry_entry){ .fd = -1 })

/* Say that this process uses the file for @what.  Where that cannot be said, nothing
 * happens. */
void registry_enter(struct registry_entry *entry, uint64_t device, uint64_t inode,
		    const char *what);
void registry_leave(struct registry_entry *entry);

/* "process 12, for WHAT" of somebody else who uses the file; false: nobody is known. */
bool registry_find(uint64_t device, uint64_t inode, char *text, unsigned int size);

#endif
