/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Marks of processes (base/process_mark.h): made, and looked up again.
 *
 * Trust: a mark that is looked up may name anybody.  Whoever it is, a pidfd is opened to see it
 * end, and nothing else is done to it.
 * Threads: any.
 */
#ifndef UMBRA_HOST_MARKED_PROCESS_H
#define UMBRA_HOST_MARKED_PROCESS_H

#include "base/process_mark.h"
#include "host/peer_process.h"

/* @p's; pid 0: it is not known for certain, or has ended. */
void marked_process_make(const struct peer_process *p, struct process_mark *mark);

/*
 * Is it there?  What was known in @p before is forgotten.  LIVES: @p is it.  ENDED: there is no
 * such process any more.  UNKNOWN: it cannot be told, with the reason in p->doubt.
 */
enum peer_process_state marked_process_find(const struct process_mark *mark,
					    struct peer_process *p);

#endif
