/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What happens when a front-end takes memory away from under us.
 *
 * Theory of operation: a memory file that is not sealed can be shrunk by whoever
 * has it (User Mode Linux's is one), and then our next access to the lost pages
 * is a SIGBUS.  It must not end the process.  A handler finds the mapping that
 * the address belongs to, puts a page of zeros there, and marks the mapping as
 * cut; the thread goes on, sees zeros, which is no worse than what a guest can
 * write there anyway, and the device's thread finds the mark and disconnects
 * the front-end.  A SIGBUS that is none of ours goes to the handler that was
 * there before, or ends the process as it should.
 *
 * The handler runs on a thread that is using the mapping, so that mapping's
 * entry is stable; it takes no lock and calls nothing but mmap(2).
 *
 * Threads: any.  At most MAPPING_GUARDS_MAX mappings are guarded; one more is
 * used unguarded.
 */
#ifndef UMBRA_HOST_MAPPING_GUARD_H
#define UMBRA_HOST_MAPPING_GUARD_H

#include <stdbool.h>
#include <stddef.h>

#define MAPPING_GUARDS_MAX 1024u

/* Install the handler, once for the process.  0 or -errno. */
int mapping_guard_install(void);

/* Let SIGBUS through in the calling thread: one that is blocked when its own access
 * causes it ends the process, whatever handler there is. */
void mapping_guard_admit(void);

/* From now on zeros appear in [base, base + length) where the file ends, and
 * *@cut becomes true.  @page: the mapping's page size. */
void mapping_guard_add(void *base, size_t length, size_t page, bool *cut);
/* To be called before the mapping goes. */
void mapping_guard_remove(void *base);

#endif
