/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The states of a lane's life, and what may follow what.
 *
 *	STOPPED -want-> WANTED -start-> STARTED -go-> RUNNING -hush-> HUSHED -halt-> HALTED
 *	                 ^ ^               |            ^ ^              |             |
 *	                 | '--take back----'            | '---resume-----'             |
 *	                 |                              '-----resume-------------------|
 *	                 '------------------finish-------------------------------------'
 *
 *	STARTED, RUNNING, HUSHED -break-> BROKEN -halt-> BURIED -finish-> WANTED
 *	WANTED, HALTED           -break-------------------^
 *	STARTED, RUNNING, HUSHED, HALTED -hold-> WANTED       BROKEN -hold-> BURIED
 *	any                      -end--> STOPPED
 *
 * Theory of operation.  Each change of a lane's state is a step, and goes through
 * lane_take_step(), which looks it up in one table: from which states it may be taken,
 * to which it leads, and what must be true of the lane before and after.  What is true in a
 * state as such is said with the state.  A step that is not in the table, and a lane of
 * which something else is true, are bugs of ours: that is an assertion, since no peer can
 * bring them about.
 *
 * Threads: the device's thread.
 */
#ifndef UMBRA_LANE_LANE_STATE_H
#define UMBRA_LANE_LANE_STATE_H

#include <stdbool.h>

enum lane_state {
	LANE_STOPPED, /* the front-end has not started it */
	LANE_WANTED,  /* it has, and no back-end has it: not yet, or between two modes, or the ring
			 is disabled, or the back-end is gone and another is waited for */
	LANE_STARTED, /* the back-end has it, or has noted it; nobody of us serves or kicks it */
	LANE_RUNNING,
	LANE_HUSHED, /* it is fed no more, and on its way to a standstill */
	LANE_HALTED, /* the back-end was stopped, and has said where the ring stands */
	LANE_BROKEN, /* a peer has violated it; the back-end has it still */
	LANE_BURIED, /* the same, and no back-end has it: it waits until the front-end stops it */
};
#define LANE_STATES 8u

enum lane_step {
	LANE_WANT,
	LANE_START,
	LANE_GO,
	LANE_TAKE_BACK,
	LANE_HUSH,
	LANE_HALT,
	LANE_RESUME,
	LANE_FINISH,
	LANE_HOLD,
	LANE_BREAK,
	LANE_END,
};
#define LANE_STEPS 11u

const char *lane_state_name(enum lane_state state);
const char *lane_step_name(enum lane_step step);

/* May @step be taken from @from?  *@to: where it leads. */
bool lane_step_leads(enum lane_step step, enum lane_state from, enum lane_state *to);

struct lane;

/* @step of @r begins: it may be taken from where @r is, which is as it must be before. */
void lane_expect_step(const struct lane *r, enum lane_step step);
/* @step of @r is done.  The fields that belong to the state begin at nothing, unless it is one
 * of the same kind (BROKEN after HUSHED, BURIED after HALTED). */
void lane_take_step(struct lane *r, enum lane_step step);

#endif
