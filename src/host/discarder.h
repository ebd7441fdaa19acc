/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Giving guest memory back to the host.
 *
 * Theory of operation: guest memory is shared file memory, so a hole is punched
 * into the file: the kernel takes the pages out of every mapping, the guest's too,
 * and frees them.  fallocate(2) does that by the fd, madvise(MADV_REMOVE) by the
 * mapping; some files take one and not the other (a sealed or foreign file system).
 * What works is found out with the first discard of a mapping and remembered there.
 *
 * One thread is enough for a file: the kernel holds the file's lock while it punches,
 * so that a second thread only waits (measured on tmpfs, 1 GiB of touched memory:
 * 163-208 ms with one thread, 207-428 ms with two on the same file; 155-317 ms with
 * one for each of two files against 207-253 ms in a row, on two cores).  A guest with
 * several memory files (NUMA nodes, pluggable memory) has one thread for each that
 * has enough to do.
 *
 * Before, it is told to others that have the file, and looked whether one of them has it
 * pinned (memory_hold.h); then it is kept from now on, and the result says so.
 *
 * Threads: one caller at a time; nothing goes on after discarder_run() has returned.
 */
#ifndef UMBRA_HOST_DISCARDER_H
#define UMBRA_HOST_DISCARDER_H

#include "balloon/balloon_host.h"

/* See balloon_host_ops::discard. */
uint64_t discarder_run(struct balloon_discard *list, unsigned int count);

/* Bytes that the host holds for the files of @memory; a file counts once. */
uint64_t discarder_held(const struct memory *memory);

#endif
