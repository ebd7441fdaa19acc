/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How a balloon comes along on the way to its target.
 *
 * Theory of operation: balloon_progress_step() is told, now and then, where the
 * target and the balloon are, and says what there is to tell.  A way begins when
 * the two differ and ends when they meet ("settled"), or when the balloon has not
 * come nearer for `stall_us` although a driver is there ("stalled"; one that comes
 * to life again is simply on its way again).  A guest whose pages are larger than
 * 4 KiB cannot meet every target: less than BALLOON_SLACK_PAGES apart is met, once
 * nothing moves.  A target that may yet change is not met before the guest has said
 * what it hangs on, or has stood still for `stall_us`.
 *
 * Time comes in as a parameter.  Threads: one.
 */
#ifndef UMBRA_BALLOON_BALLOON_PROGRESS_H
#define UMBRA_BALLOON_BALLOON_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "umbra/balloon.h"

#define BALLOON_SLACK_PAGES 16u   /* one guest page of 64 KiB */
#define BALLOON_CHANGE_US 250000u /* between two events of the balloon's size */
#define BALLOON_RATE_WINDOW_US 1000000u

struct balloon_progress {
	uint64_t stall_us;
	enum umbra_balloon_phase phase;
	bool tells_end;      /* the end of this way has not been told yet */
	uint64_t target;     /* pages that shall be in the balloon */
	uint64_t pages;      /* that are */
	uint64_t nearest;    /* distance that was the smallest on this way */
	uint64_t moved_us;   /* when it became so */
	uint64_t told_pages; /* in the last change event */
	uint64_t told_us;
	uint64_t rate_pages, rate_us; /* where the window of the rate began */
	uint64_t rate;                /* pages a second */
};

#define BALLOON_TELL_CHANGE 1u  /* the size has changed */
#define BALLOON_TELL_SETTLED 2u /* the way has ended: see phase */

void balloon_progress_init(struct balloon_progress *p, uint64_t stall_us);

/* Where everything is. */
struct balloon_progress_view {
	uint64_t target, pages;
	bool driver; /* one is there */
	bool waits;  /* the target hangs on what the guest is about to say */
	bool anew;   /* it was set again */
};

/* Returns what to tell; *@next_us: when to step again at the latest, UINT64_MAX: when
 * something moves. */
unsigned int balloon_progress_step(struct balloon_progress *p, uint64_t now_us,
				   const struct balloon_progress_view *view, uint64_t *next_us);

#endif
