/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * umbra/shadow_queue.h - a queue that forwards the buffers of another.
 *
 *	front ring				back ring
 *	driver --> [device role | shadow queue | driver role] --> device
 *
 * A shadow queue takes buffers from a driver's ring, adds them to a ring of
 * its own, and brings the completions back.  Each ring has its own size and
 * features: one may have indirect descriptors or EVENT_IDX, and the other not.
 * Addresses pass unchanged, so that the device must see the driver's buffers
 * where the driver says they are.
 *
 * The caller moves it, and sends the notifications:
 *
 *	for (;;) {
 *		int actions = umbra_shadow_queue_run(queue, &owed);
 *		unsigned int send = actions < 0 ? owed : actions;
 *
 *		if (send & UMBRA_CALL_DRIVER)
 *			eventfd_write(call, 1);
 *		if (send & UMBRA_KICK_DEVICE)
 *			eventfd_write(kick, 1);
 *		if (actions < 0)
 *			break;			// broken: see _error()
 *		if (!(actions & UMBRA_RUN_AGAIN))
 *			poll(...);		// for either side's notification
 *	}
 *
 * Trust, threads and costs are those of umbra/ring.h; both ends are hostile,
 * and a violation by either breaks the queue.
 */
#ifndef UMBRA_SHADOW_QUEUE_H
#define UMBRA_SHADOW_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "umbra/error.h"
#include "umbra/ring.h"

#ifdef __cplusplus
extern "C" {
#endif

struct umbra_shadow_queue;

struct umbra_shadow_queue_config {
	size_t struct_size;                           /* UMBRA_SIZED() */
	const struct umbra_device_ring_config *front; /* the driver's ring */
	const struct umbra_driver_ring_config *back;  /* the ring to make for the device */
};

/* Join the two.  -EINVAL, -E2BIG and -ENOMEM as for the two rings. */
UMBRA_API UMBRA_MUST_CHECK int
umbra_shadow_queue_create(const struct umbra_shadow_queue_config *config,
			  struct umbra_shadow_queue **out, struct umbra_error *err);

/* Where the back ring lies: what the device needs to know. */
UMBRA_API void umbra_shadow_queue_back_parts(const struct umbra_shadow_queue *queue,
					     struct umbra_ring_parts *parts);

enum umbra_shadow_queue_action {
	UMBRA_CALL_DRIVER = 1, /* notify the driver of the front ring */
	UMBRA_KICK_DEVICE = 2, /* notify the device of the back ring */
	UMBRA_RUN_AGAIN = 4,   /* there is more: do not sleep */
};

/*
 * Move one batch each way.  Returns a mask of enum umbra_shadow_queue_action.
 * Without UMBRA_RUN_AGAIN both sides have been asked to notify, and it is safe
 * to sleep.
 * -EPROTO: the queue is broken.  What was published before is still owed a
 * notification: *@owed is the mask of those.
 */
UMBRA_API UMBRA_MUST_CHECK int umbra_shadow_queue_run(struct umbra_shadow_queue *queue,
						      unsigned int *owed);

/*
 * The device was stopped, and says that it would have taken buffer @base of the
 * back ring next.  Those from there on go back to the front ring, where another
 * device can take them.  -EPROTO: the device cannot have got there.
 */
UMBRA_API UMBRA_MUST_CHECK int umbra_shadow_queue_rewind(struct umbra_shadow_queue *queue,
							 uint16_t base);

/* Bring back what the stopped device has completed, and take nothing new.
 * Returns as umbra_shadow_queue_run(), without UMBRA_KICK_DEVICE and
 * UMBRA_RUN_AGAIN. */
UMBRA_API UMBRA_MUST_CHECK int umbra_shadow_queue_drain(struct umbra_shadow_queue *queue,
							unsigned int *owed);

struct umbra_shadow_queue_info {
	uint16_t last_avail;    /* on the front ring: next buffer to take */
	uint16_t used;          /* on the front ring: next completion to write */
	uint32_t in_flight;     /* buffers that the device has */
	uint64_t requests;      /* buffers completed */
	uint64_t bytes_out;     /* readable bytes forwarded */
	uint64_t bytes_in;      /* bytes that the device wrote */
	uint64_t clamped;       /* lengths beyond the buffer that the device claimed */
	uint32_t table_longest; /* descriptors of the longest indirect table that was longer than
				   the front ring; 0: none was */
};

/* Where it is, into @size bytes of @info: see umbra/sized.h.  The owner's thread only. */
UMBRA_API void umbra_shadow_queue_query(const struct umbra_shadow_queue *queue,
					struct umbra_shadow_queue_info *info, size_t size);

/* Why the queue is broken, as a sentence in @err->text; "" if it is not. */
UMBRA_API void umbra_shadow_queue_error(const struct umbra_shadow_queue *queue,
					struct umbra_error *err);

/*
 * Destroy *@queue, if there is one, and leave NULL.  The device has stopped.
 * Buffers in flight are lost to the driver unless they were rewound or drained
 * first, or another device goes on from last_avail - in_flight.
 */
UMBRA_API void umbra_shadow_queue_destroy(struct umbra_shadow_queue **queue);

#ifdef __cplusplus
}
#endif
#endif
