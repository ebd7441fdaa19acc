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
#include "base/bits.h"

/* virtio 1.2, 5.5.3; older kernel headers lack it. */
#ifndef VIRTIO_BALLOON_F_REPORTING
#define VIRTIO_BALLOON_F_REPORTING 5
#endif

#define FEATURE(d, name) (!!((d)->features & BIT64(VIRTIO_BALLOON_F_##name)))

/* One ring, as the front-end has described it. */
struct balloon_ring {
	unsigned int index;
	uint32_t size; /* 0: not said yet */
	bool has_addr, enabled, started;
	bool built; /* queue.ring is valid: its indices are where we are */
	bool serving;
	struct vhost_ring_addr addr;
	uint16_t base;
	int kick_fd, call_fd, err_fd;
	struct balloon_queue queue;
	struct queue_service service;
	char error[UMBRA_ERROR_SIZE]; /* why it is broken; "" */
};

struct balloon_device {
	struct balloon_host *host;
	struct balloon_device_config config;
	uint64_t offered, features;
	bool attached;
	uint8_t status;
	uint32_t actual, poison; /* as the driver wrote them */
	bool target_anew;        /* since the last step */
	enum umbra_balloon_state told_state;
	struct memory *memory; /* or NULL */
	struct ledger *ledger; /* of the memory; or of the one that was there last */
	struct balloon_progress progress;
	struct balloon_shared shared;
	struct balloon_ring rings[BALLOON_QUEUES];
};

/* Pages that shall be in the balloon. */
uint32_t balloon_device_target_pages(const struct balloon_device *d);
uint64_t balloon_device_memory_bytes(const struct balloon_device *d);
bool balloon_device_has_driver(const struct balloon_device *d);

/* The driver that filled the balloon is no more.  No queue is in service. */
void balloon_device_clear_account(struct balloon_device *d);

/* Take all queues out of service, and put them back with what has been negotiated
 * and mapped meanwhile. */
void balloon_queues_pause(struct balloon_device *d);
void balloon_queues_resume(struct balloon_device *d);

/* Where the ring lies in the memory that there is now: -EINVAL. */
UMBRA_MUST_CHECK int balloon_ring_find(struct balloon_device *d, struct balloon_ring *r,
				       struct split_ring *s, struct umbra_error *err);
/* It is served no more until it is started anew; tell why. */
void balloon_ring_break(struct balloon_device *d, struct balloon_ring *r, const char *reason);
/* The ring is looked at no more until it is started again, at r->base. */
void balloon_ring_halt(struct balloon_device *d, struct balloon_ring *r);
/* Forget what the front-end said of it. */
void balloon_ring_forget(struct balloon_device *d, struct balloon_ring *r);

/* The front-end's messages about one ring: see struct vhost_device_ops. */
int balloon_ring_set_size(void *opaque, unsigned int index, uint32_t size, struct umbra_error *err);
int balloon_ring_set_addr(void *opaque, unsigned int index, const struct vhost_ring_addr *addr,
			  struct umbra_error *err);
int balloon_ring_set_base(void *opaque, unsigned int index, uint32_t base, struct umbra_error *err);
int balloon_ring_set_kick(void *opaque, unsigned int index, int *fd, struct umbra_error *err);
int balloon_ring_set_call(void *opaque, unsigned int index, int *fd, struct umbra_error *err);
int balloon_ring_set_err(void *opaque, unsigned int index, int *fd, struct umbra_error *err);
int balloon_ring_enable(void *opaque, unsigned int index, bool enabled, struct umbra_error *err);
int balloon_ring_stop(void *opaque, unsigned int index, uint16_t *base, struct umbra_error *err);

#endif
