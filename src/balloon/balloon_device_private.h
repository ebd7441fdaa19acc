/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The inside of a balloon device, shared by balloon_device.c (its life, memory
 * and configuration), balloon_ring.c (its rings), and balloon_info.c (what others
 * are told).
 */
#ifndef UMBRA_BALLOON_BALLOON_DEVICE_PRIVATE_H
#define UMBRA_BALLOON_BALLOON_DEVICE_PRIVATE_H

#include <linux/virtio_balloon.h>

#include "balloon/balloon_device.h"
#include "balloon/balloon_progress.h"
#include "balloon/balloon_queue.h"
#include "balloon/balloon_target.h"
#include "base/bits.h"
#include "base/log.h"
#include "virtio/guest_rings.h"

/* virtio 1.2, 5.5.3; older kernel headers lack it. */
#ifndef VIRTIO_BALLOON_F_REPORTING
#define VIRTIO_BALLOON_F_REPORTING 5
#endif

#define FEATURE(d, name) (!!((d)->rings.features & BIT64(VIRTIO_BALLOON_F_##name)))

/* What the driver is told, and why: balloon_aim.c. */
struct balloon_aim {
	struct umbra_balloon_target wish;
	unsigned int wish_percent; /* of the base, in place of the wish's bytes; 0: none */
	uint64_t wish_id;          /* of the wish; 0: nobody has had one */
	uint64_t wished_us;        /* when it came */
	bool is_converted;         /* `pages` is made of the wish */
	bool awaits_stats; /* those that are newer than the wish may correct `pages` both ways */
	uint32_t pages;    /* that shall be in the balloon */
	uint64_t driver_since_us;   /* that one is there; 0: none is */
	uint64_t guest_bytes;       /* the guest says that it has, with an empty balloon; 0 */
	bool is_guess;              /* that was counted while pages moved: better than nothing */
	uint64_t unconfirmed_bytes; /* others, that it has said once; 0 */
	uint64_t generation; /* of what the driver is told, and says: grows with each change */
	unsigned int stats_requests; /* in this generation, to be sure of what it has */
	uint64_t stats_read_us; /* when the last statistics came that were looked at; 0: never */
	uint64_t base_bytes;    /* that `pages` was last judged by */
	uint64_t within_bytes;  /* and of the table */
};

/* What is known of the pages that are in the balloon. */
enum balloon_account {
	BALLOON_ACCOUNT_UNKNOWN, /* rings went on that we had not served: the driver may hold more
				    than the ledger has, and has not said */
	BALLOON_ACCOUNT_ADOPTED, /* the same, and it has: `adopted` are beside the ledger */
	BALLOON_ACCOUNT_KNOWN,   /* a driver that began before us: the ledger has all */
};

struct balloon_device {
	struct guest_rings rings; /* first: see virtio/guest_rings.h; what the front-end has */
	struct balloon_host *host;
	struct balloon_device_config config;
	bool attached;
	uint32_t actual, poison;   /* as the driver wrote them */
	bool driver_writes_actual; /* it has done so, since it began */
	bool target_is_set_again;  /* since the last step */
	enum umbra_balloon_state state_told;
	struct ledger *ledger; /* of rings.memory; or of the one that was there last */
	enum balloon_account account;
	uint32_t adopted;         /* pages */
	uint64_t errors_logged;   /* discards that have failed, as far as the log says */
	uint64_t stats_wanted_us; /* when statistics were asked for because nothing moved */
	struct balloon_aim aim;
	struct balloon_inheritance *inherited; /* balloon_inherit.c; NULL: nothing waits there */
	bool at_rest;                          /* nothing is served, whatever the front-end says */
	struct balloon_progress progress;
	struct balloon_shared shared;
	struct balloon_queue queues[BALLOON_QUEUES];
};

static inline struct balloon_device *balloon_of(struct guest_rings *g)
{
	return (struct balloon_device *)(void *)g;
}

/*
 * Look at driver, table and statistics, and convert the wish to, or correct, what shall be in the
 * balloon.  After whatever changes one of them.  When to call again at the latest, or
 * UINT64_MAX.
 */
uint64_t balloon_device_aim(struct balloon_device *d);
/* What statistics are asked for from now on is after something has changed that the driver
 * is told, or says: another driver, another number of pages. */
void balloon_device_generation_begin(struct balloon_device *d);
/* The queue of statistics starts.  @first: with those that a driver sends unasked. */
void balloon_device_stats_start(struct balloon_device *d, bool first);
/* May what shall be in the balloon still change by what the guest is about to say? */
bool balloon_device_aim_may_change(const struct balloon_device *d);
/* The driver has so many pages of which we did not know: without a wish, it keeps them. */
void balloon_device_aim_adopt(struct balloon_device *d, uint32_t pages);
/* What the driver is told to have. */
uint32_t balloon_device_num_pages(const struct balloon_device *d);
/* Another driver: nothing is known of its guest. */
void balloon_device_aim_forget(struct balloon_device *d);

struct balloon_base balloon_device_base(const struct balloon_device *d);
uint64_t balloon_device_floor(const struct balloon_device *d, const struct balloon_base *base);
/* What the guest shall keep; UMBRA_BALLOON_ALL_MEMORY is possible without a base. */
uint64_t balloon_device_target_bytes(const struct balloon_device *d,
				     const struct balloon_base *base);
/* Both queues that move pages are there and enabled. */
bool balloon_device_has_driver(const struct balloon_device *d);

/* Pages in the balloon, as far as we know. */
uint64_t balloon_device_pages(const struct balloon_device *d);

/* The driver that filled the balloon is no more.  No queue is in service. */
void balloon_device_clear_account(struct balloon_device *d);
/* The ledger, or what was adopted, is another; @ledger is of the memory that is there, or NULL.
 * No queue is in service. */
void balloon_account_changed(struct balloon_device *d, const struct ledger *ledger);
/* The driver has said how many pages it has, and that is more than the ledger. */
void balloon_account_adopt(struct balloon_device *d);

/* A ledger for @memory, which knows what @before does; where the host wants it. */
UMBRA_MUST_CHECK int balloon_ledger_make(struct balloon_device *d, const struct memory *memory,
					 const struct ledger *before, struct ledger **out,
					 struct umbra_error *err);
/* Forget what was read and not believed. */
void balloon_device_disinherit(struct balloon_device *d);

/* Hooks of struct guest_rings_kind: balloon_ring.c. */
struct served_ring *balloon_ring_at(struct guest_rings *g, unsigned int index);
void balloon_ring_start(struct guest_rings *g, struct served_ring *r, bool goes_on);
bool balloon_ring_is_served(const struct guest_rings *g, const struct served_ring *r);
void balloon_ring_pause(struct guest_rings *g, struct served_ring *r);
void balloon_ring_stop(struct guest_rings *g, struct served_ring *r);
void balloon_rings_resume(struct guest_rings *g);

#endif
