/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How running rings come to a standstill, and go on: the theory is in the .c file.
 *
 * Threads: the device's thread.
 */
#ifndef UMBRA_LANE_STANDSTILL_H
#define UMBRA_LANE_STANDSTILL_H

#include "lane/lane.h"

/*
 * Bring ring @only (NULL, and always if the device is stopped as a whole: every
 * ring that the back-end has) to a standstill: halted, and drained, at most the
 * deadline.  A ring whose peer lies is broken on the way.
 * -ETIME: @by_force: halted all the same, with chains that did not come back.
 * Otherwise, and after any other error: in part; see lanes_resume().
 */
UMBRA_MUST_CHECK int lanes_quiesce(struct lanes *lanes, const struct lane_context *c,
				   struct lane *only, bool by_force, struct umbra_error *err);

/* Undo one that failed or is not wanted any more: the rings run in the mode that they had.
 * Not once the device was stopped as a whole. */
UMBRA_MUST_CHECK int lanes_resume(struct lanes *lanes, const struct lane_context *c,
				  struct umbra_error *err);

/* Undo a start on the way: every ring that was started and has not gone is WANTED.  Not once the
 * device was started as a whole. */
UMBRA_MUST_CHECK int lanes_take_back(struct lanes *lanes, const struct lane_context *c,
				     struct umbra_error *err);

/* Every halted ring is let go of: it is WANTED. */
void lanes_finish(struct lanes *lanes, const struct lane_context *c);

/* The back-end is gone: lane_hold() all that it has.  None of our eventfds, and no ids, that it was
 * given are used again.  Returns how many chains it may still work on: also those of a ring that
 * is broken, that was stopped by force, or that its guest has forgotten. */
unsigned int lanes_hold(struct lanes *lanes, const struct lane_context *c);

#endif
