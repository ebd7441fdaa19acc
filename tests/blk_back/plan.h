/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a back-end shall do wrong, and where: a plan in words.
 *
 *	ACTION@before-STORE[:WHICH]
 *	ACTION@after-STORE[:WHICH]
 *	ACTION@#N
 *
 * several of them with commas in between.  STORE is a name of point.h.  WHICH is the number of a
 * request (in the order in which this process took them, from 1) or, of "message" and "answer", the
 * id of a message; without it, the next time; "*": each time.  #N is the N-th point from
 * now on.  What is not for each time happens once.  ACTION is one of:
 *
 *	die	the process ends, by SIGKILL
 *	hang	nothing more is done before "go"
 *	close	it hangs up, and forgets all that this connection told it
 *	linger	it hangs up, too, but what is under way goes on in another process, which waits for
 *		"go": what a program does that hangs up while its I/O goes on
 *	keep	before execute: this request waits for "go", others go on
 *	skip	before a store: it is left out
 *	lie=V	before a store: V is stored; +V, -V: that much more, less
 *
 * Threads: one.
 */
#ifndef UMBRA_TESTS_BLK_BACK_PLAN_H
#define UMBRA_TESTS_BLK_BACK_PLAN_H

#include "point.h"
#include "umbra/error.h"

#define BLK_PLAN_MOST 32u

enum blk_action {
	BLK_NOTHING,
	BLK_DIE,
	BLK_HANG,
	BLK_CLOSE,
	BLK_LINGER,
	BLK_KEEP_IT,
	BLK_SKIP_IT,
	BLK_LIE,
};

struct blk_plan {
	struct blk_planned {
		enum blk_action action; /* BLK_NOTHING: it was done */
		uint64_t value;         /* of a lie */
		bool is_relative;
		enum blk_store store; /* BLK_STORE_COUNT: by number */
		bool after;
		bool each;
		uint64_t which; /* 0: the next */
	} items[BLK_PLAN_MOST];
	unsigned int count;
	uint64_t points; /* since it was made */
};

/* In place of what was planned.  -EINVAL: it is no plan, and nothing has changed. */
UMBRA_MUST_CHECK int blk_plan_make(struct blk_plan *plan, const char *text,
				   struct umbra_error *err);

/* What is planned for that point; of a lie p->value becomes it. */
enum blk_action blk_plan_ask(struct blk_plan *plan, struct blk_point *p);

const char *blk_action_name(enum blk_action action);

#endif
