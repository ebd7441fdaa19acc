/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How a back-end is told to take no more of a ring, in the way of its family (virtio_ops.h, enum
 * backend_hush).
 *
 * Threads: the device's thread.
 */
#ifndef UMBRA_LANE_HUSH_H
#define UMBRA_LANE_HUSH_H

#include "lane/lane_private.h"

/* Tell the back-end to take no more. */
UMBRA_MUST_CHECK int hush_tell(struct lane *r, const struct lane_context *c,
			       struct umbra_error *err);
/* Let it hear again. */
UMBRA_MUST_CHECK int hush_end(struct lane *r, const struct lane_context *c,
			      struct umbra_error *err);
/* Has it read the kick that tells that its last round is over? */
bool last_round_is_over(const struct lane *r, const struct lane_context *c);

#endif
