/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The inside of a balloon device, shared by balloon_device.c (what the front-end says
 * of it as a whole), balloon_ring.c (of each ring), and balloon_info.c (what others
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
#include "virtio/guest_ring.h"

/* virtio 1.2, 5.5.3; older kernel headers lack it. */
#ifndef VIRTIO_BALLOON_F_REPORTING
#define VIRTIO_BALLOON_F_REPORTING 5
#endif

#define FEATURE(d, name) (!!((d)->features & BIT64(VIRTIO_BALLOON_F_##name)))

/* One ring, and its life here. */
struct balloon_ring {
	struct guest_ring front; /* what the front-end said of it */
	bool started;
	bool built; /* queue.ring is valid: its indices are where we are */
	bool serving;
	struct balloon_queue queue;
	struct queue_service service;
	char error[UMBRA_ERROR_SIZE]; /* why it is broken; "" */
};

/* What the driver is told, and why: balloon_aim.c. */
struct balloon_aim {
	struct umbra_balloon_target wish;
	uint64_t wish_id;   /* of the wish; 0: nobody has had one */
	uint64_t wished_us; /* when it came */
	bool is_converted;  /* `pages` is made of the wish */
	bool awaits_stats;  /* those that are newer than the wish may correct `pages` both ways */
	uint32_t pages;     /* that shall be in the balloon */
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
	struct virtio_device virtio; /* first member: what the front-end has */
	struct balloon_host *host;
	struct balloon_device_config config;
	uint64_t offered, features;
	bool attached;
	uint8_t status;
	uint32_t actual, poison;   /* as the driver wrote them */
	bool driver_writes_actual; /* it has done so, since it began */
	bool target_is_set_again;  /* since the last step */
	enum umbra_balloon_state state_told;
	struct memory *memory; /* or NULL */
	struct ledger *ledger; /* of the memory; or of the one that was there last */
	enum balloon_account account;
	uint32_t adopted;         /* pages */
	uint64_t errors_logged;   /* discards that have failed, as far as the log says */
	uint64_t stats_wanted_us; /* when statistics were asked for because nothing moved */
	struct balloon_aim aim;
	struct balloon_progress progress;
	struct balloon_shared shared;
	struct balloon_ring rings[BALLOON_QUEUES];
};

static inline struct balloon_device *balloon_of(struct virtio_device *self)
{
	return (struct balloon_device *)self;
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
/* The ledger, or what was adopted, is another.  No queue is in service. */
void balloon_account_changed(struct balloon_device *d);
/* The driver has said how many pages it has, and that is more than the ledger. */
void balloon_account_adopt(struct balloon_device *d);

/* Take all queues out of service, and put them back with what has been negotiated
 * and mapped meanwhile. */
void balloon_queues_pause(struct balloon_device *d);
void balloon_queues_resume(struct balloon_device *d);

/* It is served no more until it is started anew; tell why. */
void balloon_ring_break(struct balloon_device *d, struct balloon_ring *r, const char *reason);
/* The ring is looked at no more until it is started again, at r->front.base. */
void balloon_ring_halt(struct balloon_device *d, struct balloon_ring *r);
/* Forget what the front-end said of it. */
void balloon_ring_forget(struct balloon_device *d, struct balloon_ring *r);

/* The front-end's messages about one ring: see struct virtio_ops. */
int balloon_ring_set_size(struct virtio_device *self, unsigned int index, uint32_t size,
			  struct umbra_error *err);
int balloon_ring_set_addr(struct virtio_device *self, unsigned int index,
			  const struct virtio_ring_addr *addr, struct umbra_error *err);
int balloon_ring_set_base(struct virtio_device *self, unsigned int index, struct ring_position base,
			  struct umbra_error *err);
int balloon_ring_set_kick(struct virtio_device *self, unsigned int index, int *fd,
			  struct umbra_error *err);
int balloon_ring_set_call(struct virtio_device *self, unsigned int index, int *fd,
			  struct umbra_error *err);
int balloon_ring_set_err(struct virtio_device *self, unsigned int index, int *fd,
			 struct umbra_error *err);
int balloon_ring_enable(struct virtio_device *self, unsigned int index, bool enabled,
			struct umbra_error *err);
int balloon_ring_stop(struct virtio_device *self, unsigned int index, struct ring_position *base,
		      struct umbra_error *err);

#endif
