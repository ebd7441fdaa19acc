/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Does the VMM share its guest's memory at all?
 *
 * The mistake that everybody makes once is a VMM whose guest memory is not shared (with
 * QEMU, share=on is forgotten).  The protocol does not refuse it, and it shows in two ways:
 *
 *   - Memory without a file cannot be handed over.  QEMU (7.2) hands over none, sends not
 *     even an empty table, and starts the rings.  That is certain, and a ring is refused
 *     with these words where it is looked for (memory_lacks_ring()).
 *   - Memory with a file that the VMM maps privately is handed over, but what the guest
 *     writes never reaches the file: when a driver has set a ring up, all is zeros still,
 *     also where firmware or a kernel must have been.  That is a guess, since memory of which
 *     nothing was written yet is legal.  So it is a warning, and here.
 *
 * To look into the VMM's /proc/PID/maps would tell, but waits for locks that the VMM can hold.
 */
#ifndef UMBRA_HOST_SHARING_H
#define UMBRA_HOST_SHARING_H

#include "memory/memory.h"

/* The front-end starts ring @index in @memory (NULL: there is none): may log a warning. */
void sharing_check(const struct memory *memory, unsigned int index);

#endif
