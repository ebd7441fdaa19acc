/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The balloon device: what a front-end and a guest's driver see of it.
 *
 * Theory of operation: the front-end's messages come in as calls of
 * its virtio_ops, on the device's thread; the queues are served by one thread
 * of the host, which owns everything in struct balloon_shared and the ledger while
 * a queue is in service.  To change any of that, all queues are taken out of
 * service first and put back after; both threads then see the same world, and no
 * lock is needed.
 *
 * The account: the ledger lives as long as the driver that filled it.
 *   - A memory table that changes takes the pages along that it still has.
 *   - A front-end that goes, and comes back with rings that go on where they were
 *     (an index that is not 0), finds its account as it was; nothing is said of
 *     pages meanwhile.
 *   - A reset empties it: RESET_DEVICE, status 0, or an inflate ring that starts at
 *     index 0, as only a fresh driver's does, since front-ends do not all tell of a
 *     reset.  The new driver owns all its pages again, and inflates anew.
 *   - Rings that go on, of a driver that we have not served (we were killed and are
 *     here again), have an account that only the driver knows.  It is unknown until
 *     the driver writes `actual`; what the ledger lacks is then adopted as a number.
 *     A driver writes when the number changes, so it is told of one page more or less
 *     than it shall have, if anybody wants anything of it.
 * To err on the side of an empty ledger costs a count; to keep pages that a new
 * driver uses could cost their contents (balloon_batch.h, "Blocks").
 *
 * Queue numbers (virtio 1.2, 5.5.2): inflate 0, deflate 1, statistics 2, free page
 * hints 3, reporting 4.  Linux counts only those that it negotiated, so that
 * reporting is found at 2, 3 or 4.  Hinting is never offered, so each number still
 * has one meaning; queue_kind_of() in balloon_ring.c has them.
 *
 * Ownership: fds of the rings belong to the device; the host is borrowed.
 * Threads: the device's; balloon_device_freshen() any.
 * Trust: configuration writes and features are judged here, rings and messages by
 * the queues.
 * Implements: virtio 1.2, 5.5.3 (features), 5.5.4 (configuration), 5.5.5.
 */
#ifndef UMBRA_BALLOON_BALLOON_DEVICE_H
#define UMBRA_BALLOON_BALLOON_DEVICE_H

#include "balloon/balloon_host.h"
#include "base/record.h"
#include "umbra/balloon.h"
#include "virtio/virtio_ops.h"

#define BALLOON_QUEUES 5u
#define BALLOON_CONFIG_BYTES 16u

struct balloon_device;

struct balloon_device_config {
	struct umbra_balloon_target target; /* 0 bytes kept: nobody wishes anything, unless: */
	unsigned int target_percent;        /* so much shall be kept */
	uint64_t memory_bytes, floor_bytes; /* as in struct umbra_balloon_config */
	struct umbra_balloon_range only[UMBRA_BALLOON_RANGES_MAX];
	unsigned int only_count;
	unsigned int stall_ms;
	unsigned int hide; /* enum umbra_balloon_hide */
	bool single_pages;
	bool pinned; /* the host keeps everything */
};

UMBRA_MUST_CHECK int balloon_device_create(struct balloon_host *host,
					   const struct balloon_device_config *config,
					   struct balloon_device **out, struct umbra_error *err);
void balloon_device_destroy(struct balloon_device **device);

/* What it is to a front-end. */
struct virtio_device *balloon_device_virtio(struct balloon_device *d);

/* @id: what balloon_device_info() calls it. */
void balloon_device_set_target(struct balloon_device *d, const struct umbra_balloon_target *wish,
			       uint64_t id);

/* May the balloon touch a region? */
bool balloon_device_touches(const struct balloon_device_config *config, uint64_t start,
			    uint64_t bytes);

/*
 * See how far the balloon is.  Returns what to tell: a mask of 1 << enum
 * umbra_balloon_event_kind.  *@next_us: when to call again at the latest, or
 * UINT64_MAX.
 */
unsigned int balloon_device_step(struct balloon_device *d, uint64_t *next_us);

/* Ask the driver for statistics. */
void balloon_device_ask_stats(struct balloon_device *d);

/* All but host_bytes and frontends, which the caller knows. */
void balloon_device_info(const struct balloon_device *d, struct umbra_balloon_info *info);
/* Any thread: the counters, the balloon's size and the statistics of an earlier
 * info, as they are now. */
void balloon_device_freshen(const struct balloon_device *d, struct umbra_balloon_info *info);

/*
 * It goes on in another program (balloon_inherit.c).  save(): at any time; the ledger's memory
 * goes along as the fd (-1: none), and comes as @room (NULL: none).  inherit(): nothing is served
 * from there on; the front-end's words are said again then (session/rings_record.h), or not,
 * if it has not come along.  go_on(): all is said; it knows what it knew.  -EINVAL, -ENOMEM.
 *
 * rest(): nothing is served, and what was begun never began; serve(): it is, again.
 */
void balloon_device_save(const struct balloon_device *d, struct record *w);
int balloon_device_ledger_fd(const struct balloon_device *d);
UMBRA_MUST_CHECK int balloon_device_inherit(struct balloon_device *d, struct record *in,
					    const struct memory_region *room,
					    struct umbra_error *err);
UMBRA_MUST_CHECK int balloon_device_go_on(struct balloon_device *d, struct umbra_error *err);
void balloon_device_rest(struct balloon_device *d);
void balloon_device_serve(struct balloon_device *d);
/* What it strives for, and what it calls that. */
struct umbra_balloon_target balloon_device_wish(const struct balloon_device *d, uint64_t *id);

/* Why the memory of @region is not given back, in words; "": it is.  Any thread. */
const char *balloon_keep_text(const struct memory_region *region, char *text, unsigned int size);

#endif
