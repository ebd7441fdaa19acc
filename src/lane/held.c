/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A lane that is held: there is no back-end, and the guest's chains wait.
 *
 * Theory of operation.  To its front-end a held ring runs: it was judged and found, it is
 * stopped, moved, disabled and reset as any other, its fds are exchanged, and where it stands is
 * answered.  But nobody takes anything from it.  So each step is done as soon as it is asked
 * for, no deadline can pass in it, and it needs no memory, no eventfd and nobody's word.
 *
 *	starts		at the front-end's base, which was judged as for any other start
 *	goes		unserved and unkicked: the guest's kicks stay in its eventfd, and whoever
 *			has the ring next is kicked once in any case (lane_go())
 *	is idle		at once: nothing is in flight that a completion could be owed for
 *	halts		where it started, whatever the guest has made available since
 *	finishes	and leaves what was in flight before it was held as it found that: the ring
 *			stands where it stood, so that it is given again in its next life
 *
 * A ring is held with the same steps with which its mode is switched: it comes to a
 * standstill, nobody has it for a moment, and it starts as held; and the same way back when there
 * is a back-end.  lane_context.backend may be NULL meanwhile.  What must be known before a ring
 * whose back-end died can come to that standstill (that the dead is dead, and what becomes of
 * each chain that it had) is not a lane's to know, and no step of this file.
 *
 * Trust: nothing of the guest's ring is read, but as it starts.
 */
#include "lane/lane_ops.h"
#include "lane/lane_private.h"

static int held_start(struct lane *r, const struct lane_context *c, bool enabled,
		      struct umbra_error *err)
{
	(void)r;
	(void)c;
	(void)enabled;
	(void)err;
	return 0;
}

static int held_is_idle(struct lane *r, const struct lane_context *c, uint16_t *left,
			struct umbra_error *err)
{
	(void)r;
	(void)c;
	(void)left;
	(void)err;
	return 1;
}

static int held_restart(struct lane *r, const struct lane_context *c, struct umbra_error *err)
{
	(void)r;
	(void)c;
	(void)err;
	return 0;
}

const struct lane_ops lane_held = {
	.start = held_start,
	.is_idle = held_is_idle,
	.restart = held_restart,
};
