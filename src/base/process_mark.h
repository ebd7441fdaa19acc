/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A process, told from every other one, in words that outlive who wrote them.
 *
 * Its number alone does not tell it, since numbers are given out again; with the time at
 * which it started it does, on one boot of one machine, among those who count processes alike.
 * Who reads a mark that somebody else may have written may look whether such a process is
 * there, and nothing more: above all it is not told to end.
 */
#ifndef UMBRA_BASE_PROCESS_MARK_H
#define UMBRA_BASE_PROCESS_MARK_H

#include <stdbool.h>
#include <stdint.h>

struct process_mark {
	uint64_t pid;     /* 0: it is not known which */
	uint64_t start;   /* ticks since the boot */
	uint64_t boot[2]; /* its random identity */
	uint64_t space;   /* inode of the pid namespace in which it has that number */
};

static inline bool process_mark_is_same(const struct process_mark *a, const struct process_mark *b)
{
	return a->pid == b->pid && a->start == b->start && a->boot[0] == b->boot[0] &&
	       a->boot[1] == b->boot[1] && a->space == b->space;
}

#endif
