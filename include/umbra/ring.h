/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * umbra/ring.h - virtqueues, from both ends.
 *
 * A virtqueue joins a driver, which gives buffers, and a device, which takes
 * and completes them.  This header has both roles:
 *
 *	driver role				device role
 *	umbra_driver_ring_add()		 -->	umbra_device_ring_take()
 *	umbra_driver_ring_publish()
 *	umbra_driver_ring_get()		<--	umbra_device_ring_complete()
 *						umbra_device_ring_publish()
 *
 * Work goes in batches: add or complete as many as there are, publish them
 * together, then ask once whether the other side wants to be notified:
 *
 *	while (work_to_do && umbra_driver_ring_add(ring, segs, n, token) == 1)
 *		...;
 *	umbra_driver_ring_publish(ring);
 *	if (umbra_driver_ring_must_kick(ring))
 *		eventfd_write(kick, 1);
 *
 * To sleep until the other side notifies, arm, and look again if arming says
 * that something has come meanwhile.  To sleep without that look is to lose
 * wake-ups:
 *
 *	for (;;) {
 *		umbra_device_ring_disarm(ring);
 *		while ((rc = umbra_device_ring_take(ring, &chain)) == 1)
 *			...;
 *		if (rc < 0)
 *			break;			// broken: see below
 *		if (!umbra_device_ring_arm(ring))
 *			eventfd_read(kick, &n);	// sleep
 *	}
 *
 * Trust.  The other side is taken for hostile.  Each descriptor is copied once
 * and the copy judged; a chain that was taken does not change any more,
 * whatever the driver writes.  A violation of the rules breaks the ring: the
 * call, and each later one that takes or adds, returns -EPROTO, and _error()
 * has a sentence with the numbers.  The only way on is another ring.  What
 * buffers contain is the caller's to judge.
 *
 * Threads.  A ring has one user at a time; nothing here locks.  The two sides
 * of a virtqueue may run in two threads or two processes: that is their use.
 *
 * Costs.  Between _create() and _destroy() nothing allocates, blocks, or calls
 * the system.
 *
 * Features are VIRTIO_RING_F_* and VIRTIO_F_* bits of linux/virtio_ring.h and
 * linux/virtio_config.h, as negotiated; EVENT_IDX, INDIRECT_DESC and IN_ORDER
 * count here, others are ignored.  VERSION_1 is taken for granted.
 *
 * Implements: virtio 1.2, section 2.7, split virtqueues: indirect descriptors
 * (2.7.5.3), notification suppression (2.7.7, 2.7.10), IN_ORDER (2.7.9).
 */
#ifndef UMBRA_RING_H
#define UMBRA_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "umbra/error.h"
#include "umbra/memory.h"
#include "umbra/sized.h"

#ifdef __cplusplus
extern "C" {
#endif

#define UMBRA_RING_SIZE_MAX 32768u /* descriptors; sizes are powers of two */

/* A piece of a buffer. */
struct umbra_segment {
	uint64_t address; /* in the address space of the ring's descriptors */
	uint32_t length;  /* bytes, at least 1 */
	bool writable;    /* true: the device writes it; false: the device reads it */
};

/* Where a ring lies in this process. */
struct umbra_ring_parts {
	void *desc;    /* 16 * size bytes, aligned to 16 */
	void *avail;   /* 6 + 2 * size bytes, aligned to 2 */
	void *used;    /* 6 + 8 * size bytes, aligned to 4 */
	uint32_t size; /* descriptors: a power of two, 1 to UMBRA_RING_SIZE_MAX */
};

/* ---- driver role ----------------------------------------------------------- */

struct umbra_driver_ring;

struct umbra_driver_ring_config {
	size_t struct_size; /* UMBRA_SIZED() */
	uint32_t size;      /* descriptors: a power of two, 1 to UMBRA_RING_SIZE_MAX */
	uint64_t features;
	/*
	 * Memory that the device can see: umbra_driver_ring_shared_bytes() of
	 * it, aligned to 64, the caller's.  NULL: the ring allocates its own,
	 * for a device in this process.
	 */
	void *shared;
	uint64_t shared_address; /* the same memory in the device's addresses;
				    ignored where shared is NULL: host addresses */
	uint16_t base;           /* index to start from: 0 for a new ring */
	/*
	 * Segments of the longest buffer, with INDIRECT_DESC: at most
	 * UMBRA_RING_SIZE_MAX.  The specification allows as many as the ring has
	 * descriptors; 0, and whatever is less, is that.
	 */
	uint32_t table_max;
};

/* How much memory the ring and its indirect tables take, in bytes; 0 if @size
 * or @table_max (of the config) is not one. */
UMBRA_API size_t umbra_driver_ring_shared_bytes(uint32_t size, uint64_t features,
						uint32_t table_max);

/* Lay an empty ring out.  -EINVAL: a size, or shared is not aligned.  -E2BIG: see
 * umbra/sized.h.  -ENOMEM. */
UMBRA_API UMBRA_MUST_CHECK int
umbra_driver_ring_create(const struct umbra_driver_ring_config *config,
			 struct umbra_driver_ring **out, struct umbra_error *err);

/* Where the ring lies: what its device needs to know. */
UMBRA_API void umbra_driver_ring_parts(const struct umbra_driver_ring *ring,
				       struct umbra_ring_parts *parts);

/*
 * Add a buffer of @count segments, those that the device reads before those
 * that it writes.  @token comes back with it and means nothing to the ring.
 * The device sees the buffer after _publish().
 *  1		added
 *  0		no room; room comes with the next buffer that comes back
 *  -EMSGSIZE	more segments than the ring has descriptors, and than table_max: it
 *		never fits
 *  -EINVAL	no segments
 *  -EPROTO	the ring is broken
 */
UMBRA_API UMBRA_MUST_CHECK int umbra_driver_ring_add(struct umbra_driver_ring *ring,
						     const struct umbra_segment *segments,
						     uint32_t count, uint64_t token);

/* Show the device what was added. */
UMBRA_API void umbra_driver_ring_publish(struct umbra_driver_ring *ring);

/* Does the device want to be notified of what was published since this was
 * asked last? */
UMBRA_API bool umbra_driver_ring_must_kick(struct umbra_driver_ring *ring);

/* A buffer that came back. */
struct umbra_done {
	uint64_t token;
	uint32_t length; /* bytes that the device wrote: at most the writable ones */
	bool clamped;    /* the device said that it wrote more */
};

/* Get a buffer back.  1, 0 (none now), -EPROTO (the ring is broken). */
UMBRA_API UMBRA_MUST_CHECK int umbra_driver_ring_get(struct umbra_driver_ring *ring,
						     struct umbra_done *done);

/*
 * Take the newest @count buffers back unserved.  The device has been stopped,
 * and has not taken them.  -EINVAL: they are not all there any more; nothing
 * has changed.  -EPROTO.
 */
UMBRA_API UMBRA_MUST_CHECK int umbra_driver_ring_unadd(struct umbra_driver_ring *ring,
						       uint16_t count);

/* Ask not to be notified for now; a hint. */
UMBRA_API void umbra_driver_ring_disarm(struct umbra_driver_ring *ring);

/* Ask to be notified of the next buffer that comes back.  True: one is there
 * already, or the ring is broken; do not sleep. */
UMBRA_API UMBRA_MUST_CHECK bool umbra_driver_ring_arm(struct umbra_driver_ring *ring);

/* Buffers that were added and have not come back. */
UMBRA_API uint32_t umbra_driver_ring_in_flight(const struct umbra_driver_ring *ring);

/* Why the ring is broken, as a sentence in @err->text; "" if it is not. */
UMBRA_API void umbra_driver_ring_error(const struct umbra_driver_ring *ring,
				       struct umbra_error *err);

/* Destroy *@ring, if there is one, and leave NULL.  The device has stopped. */
UMBRA_API void umbra_driver_ring_destroy(struct umbra_driver_ring **ring);

/* ---- device role ----------------------------------------------------------- */

struct umbra_device_ring;

struct umbra_device_ring_config {
	size_t struct_size;            /* UMBRA_SIZED() */
	struct umbra_ring_parts parts; /* mapped as long as the ring lives */
	/*
	 * What descriptors may point into.  NULL: anywhere, and indirect tables
	 * are host pointers; only for a driver that this program trusts with
	 * its own memory.
	 */
	const struct umbra_memory *memory;
	uint64_t features;
	uint16_t last_avail; /* next buffer to take, counted from the ring's start; */
	uint16_t used;       /* next completion to write; both 0 on a new ring */
	/*
	 * Descriptors of the longest indirect table that is taken, at most
	 * UMBRA_RING_SIZE_MAX; 0, and whatever is less: as many as the ring has.  The
	 * specification allows no more, but Linux builds longer ones on a ring that is
	 * shorter than what the device takes in one request (a disk's seg_max + 2).
	 */
	uint32_t table_max;
};

/* Start with a ring, or go on with one.  Shared memory is not written.
 * -EINVAL: a size, or a part is not aligned.  -E2BIG: see umbra/sized.h.  -ENOMEM. */
UMBRA_API UMBRA_MUST_CHECK int
umbra_device_ring_create(const struct umbra_device_ring_config *config,
			 struct umbra_device_ring **out, struct umbra_error *err);

/* A buffer that was taken. */
struct umbra_chain {
	const struct umbra_segment *segments; /* the ring's; until the next _take() */
	uint32_t count;                       /* segments, at least 1 */
	uint32_t readable; /* the first so many are readable, the rest writable */
	uint64_t readable_bytes;
	uint64_t writable_bytes;
	uint16_t head; /* its name, for _complete() */
};

/* Take the next buffer.  1, 0 (none now), -EPROTO (the ring is broken). */
UMBRA_API UMBRA_MUST_CHECK int umbra_device_ring_take(struct umbra_device_ring *ring,
						      struct umbra_chain *chain);

/* Give the last @count buffers that were taken back, uncompleted: they will be
 * taken again.  -EINVAL: so many are not outstanding. */
UMBRA_API UMBRA_MUST_CHECK int umbra_device_ring_untake(struct umbra_device_ring *ring,
							uint16_t count);

/*
 * Complete a buffer that was taken, once, after writing @length bytes to its
 * writable segments.  With IN_ORDER: in the order of taking.  The driver sees
 * it after _publish().  -EINVAL: none is outstanding.
 */
UMBRA_API UMBRA_MUST_CHECK int umbra_device_ring_complete(struct umbra_device_ring *ring,
							  uint16_t head, uint32_t length);

/* Show the driver what was completed. */
UMBRA_API void umbra_device_ring_publish(struct umbra_device_ring *ring);

/* Does the driver want to be notified of what was published since this was
 * asked last? */
UMBRA_API bool umbra_device_ring_must_call(struct umbra_device_ring *ring);

/* Ask not to be notified for now; a hint. */
UMBRA_API void umbra_device_ring_disarm(struct umbra_device_ring *ring);

/* Ask to be notified of the next buffer.  True: one is there already, or the
 * ring is broken; do not sleep. */
UMBRA_API UMBRA_MUST_CHECK bool umbra_device_ring_arm(struct umbra_device_ring *ring);

/* Buffers that were taken and are not completed. */
UMBRA_API uint32_t umbra_device_ring_outstanding(const struct umbra_device_ring *ring);

/* Why the ring is broken, as a sentence in @err->text; "" if it is not. */
UMBRA_API void umbra_device_ring_error(const struct umbra_device_ring *ring,
				       struct umbra_error *err);

/* Destroy *@ring, if there is one, and leave NULL.  The ring's memory is as it
 * was: another device can go on. */
UMBRA_API void umbra_device_ring_destroy(struct umbra_device_ring **ring);

#ifdef __cplusplus
}
#endif
#endif
