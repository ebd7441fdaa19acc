/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Closing what a peer has sent.
 *
 * Theory of operation: to close a file of a FUSE file system is to ask its server
 * (FLUSH), who may not answer, and no signal ends that wait.  So a file that is foreign
 * (file_kind.h) is closed by a thread of its own, which nobody waits for.  close(2) takes
 * the fd out of the table before it asks, so that what hangs is a thread and no fd.
 * CLOSER_THREADS_MAX of them may hang; further such files stay open.
 *
 * What remains: the kernel keeps the process in its table until the server has
 * answered, or is gone, even when all else of it has ended.
 *
 * Threads: any.
 */
#ifndef UMBRA_HOST_CLOSER_H
#define UMBRA_HOST_CLOSER_H

#define CLOSER_THREADS_MAX 64u

/* As fd_close(), for an fd whose kind nobody has looked at yet. */
void closer_close(int *fd);

#endif
