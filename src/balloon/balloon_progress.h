/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How a balloon comes along on the way to its target.
 *
 * Theory of operation: balloon_progress_step() is told, now and then, where
 * everything is, makes a phase of it, and says what there is to tell.  The first of
 * these that holds is the phase:
 *
 *	no-driver	no driver is there, whatever the numbers are
 *	broken		a queue that moves pages is
 *	unknown		how much is in the balloon, and nobody wants anything of it; or the
 *			driver has been asked, and has stood still for `stall_us`
 *	idle		nobody has asked for anything, and nothing is in the balloon
 *	inflating,	the target and the balloon differ, and the driver has come nearer in
 *	deflating	the last `stall_us`; or they meet, and the target may yet change
 *	stalled		they differ, by BALLOON_SLACK_PAGES or more, and it has not
 *	unfreed		they meet (or nearly so, and nothing moves: a guest whose pages are
 *			larger than 4 KiB cannot meet every target), but the host has not
 *			got all that is in the balloon
 *	settled		they meet, and it has
 *
 * A way begins with a target, and with a balloon that leaves one that was met.  It
 * ends with the first phase below that is not one of moving; that is told once.  No
 * driver is not an end: the way goes on when one comes.
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
	bool end_is_untold;      /* of this way */
	uint64_t target;         /* pages that shall be in the balloon */
	uint64_t pages;          /* that are */
	uint64_t least_distance; /* between the two, on this way */
	uint64_t moved_us;       /* when it became so */
	uint64_t told_pages;     /* in the last change event */
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
	bool has_driver;   /* one is there */
	bool is_broken;    /* a queue of it */
	bool is_unknown;   /* `pages` are not all: the driver has more of which only it knows */
	bool is_wanted;    /* somebody wants the target */
	bool has_unfreed;  /* the host has not got all of `pages` */
	bool may_change;   /* the target hangs on what the guest is about to say */
	bool is_set_again; /* the target: it may be the same */
};

/* Returns what to tell; *@next_us: when to step again at the latest, UINT64_MAX: when
 * something moves. */
unsigned int balloon_progress_step(struct balloon_progress *p, uint64_t now_us,
				   const struct balloon_progress_view *view, uint64_t *next_us);

#endif
