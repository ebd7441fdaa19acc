/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which memory may be discarded.
 *
 * Theory of operation: a front-end may put any file into its memory table, a disk image
 * too (a pmem device, a file that a guest is restored from), and a hole in that destroys
 * what it holds.  Memory that is meant to come and go with the guest is recognised by
 * two signs: it is memory and nothing else (file_kind.h), and no folder has a name for
 * it, as a memfd and an unlinked temporary file have none, while an image that somebody
 * has put into a tmpfs has one.  Whatever else the operator wants to be discarded he
 * names; it is known by its device and inode, whatever the path by which the front-end
 * opened it.
 *
 * It is judged when a region comes: a file that loses its last name afterwards is kept
 * until the table is sent again.  And nothing is discarded that a device has pinned, as
 * far as that is told (memory_hold.h): what was seen to be pinned once is kept until the
 * table is sent again, also when it is no more, since a process that dies lets go of the
 * device and of the lock in an order that nobody knows.
 *
 * Threads: the device's unless it says otherwise.
 */
#ifndef UMBRA_HOST_DISCARD_POLICY_H
#define UMBRA_HOST_DISCARD_POLICY_H

#include <stdbool.h>

#include "memory/memory.h"
#include "umbra/error.h"

struct discard_policy {
	bool pinned;  /* nothing may be */
	char **files; /* paths */
	unsigned int file_count;
};

/* -ENOMEM. */
UMBRA_MUST_CHECK int discard_policy_init(struct discard_policy *policy, const char *const *files,
					 unsigned int count);
void discard_policy_fini(struct discard_policy *policy);

/* Set @backing's `keeps`. */
void discard_policy_judge(const struct discard_policy *policy, struct memory_backing *backing);

/* Somebody has told that a device has it pinned: keep it.  Any thread, one at a time. */
void discard_policy_hold(struct memory_backing *backing);

#endif
