/* SPDX-License-Identifier: BSD-2-Clause */
/* A vhost-user-blk front-end without a guest: see blk_front.h. */
#include "blk_front.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/le.h"
#include "host/mapping.h"
#include "host/notifier.h"
#include "ring/driver_ring.h"
#include "vhost_user/protocol.h"
#include "vhost_user/vhost_user_client.h"

#define TIMEOUT_MS 10000u /* for an answer on the socket */
#define MEMORY_GPA UINT64_C(0x40000000)
#define SECTOR 512u

#define FEATURES                                                                                   \
	(BIT64(VIRTIO_F_VERSION_1) | BIT64(VIRTIO_RING_F_EVENT_IDX) |                              \
	 BIT64(VIRTIO_RING_F_INDIRECT_DESC))

/* What a request has besides its buffer; a cache line of its own. */
struct request {
	struct virtio_blk_outhdr header;
	uint8_t status;
} __attribute__((aligned(64)));

struct blk_front {
	struct virtio_device *backend;
	struct memory_region region;
	struct driver_ring ring;
	void *private;
	struct request *requests; /* in shared memory, as are the buffers */
	uint8_t *buffers;
	uint32_t block_size;
	uint64_t blocks;
	bool writes[BLK_FRONT_RING_SIZE]; /* is the slot's request a write? */
	struct notifier kick;
	int kick_fd, call_fd, epoll_fd;
	struct blk_front_counts counts;
};

static uint64_t to_gpa(const struct blk_front *f, const void *host)
{
	return f->region.gpa.v + (uint64_t)((const uint8_t *)host - f->region.host);
}

/* ---- opening -------------------------------------------------------------- */

static int front_negotiate(struct blk_front *f, struct umbra_error *err)
{
	const struct virtio_ops *ops = f->backend->ops;
	uint64_t features, protocol;
	le64 capacity = { 0 };
	uint64_t wanted = FEATURES | BIT64(VHOST_USER_F_PROTOCOL_FEATURES);
	int rc = ops->get_features(f->backend, &features, err);

	if (rc)
		return rc;
	if ((features & wanted) != wanted)
		return error_set(err, -EOPNOTSUPP,
				 "the back-end offers features 0x%lx; 0x%lx are needed",
				 (unsigned long)features, (unsigned long)wanted);
	rc = ops->get_protocol_features(f->backend, &protocol, err);
	if (!rc)
		rc = ops->set_protocol_features(
			f->backend, protocol & BIT64(VHOST_USER_PROTOCOL_F_CONFIG), err);
	if (!rc)
		rc = ops->set_features(f->backend, wanted, err);
	if (!rc)
		rc = ops->get_config(f->backend, offsetof(struct virtio_blk_config, capacity),
				     &capacity, sizeof(capacity), err);
	f->blocks = le64_to(capacity) / (f->block_size / SECTOR);
	if (!rc && f->blocks == 0)
		rc = error_set(err, -EINVAL, "the disk of %lu sectors is smaller than one block",
			       (unsigned long)le64_to(capacity));
	return rc;
}

/* Ring and tables, then requests, then buffers. */
static int front_make_memory(struct blk_front *f, unsigned int depth, struct umbra_error *err)
{
	struct driver_layout layout = driver_ring_layout(BLK_FRONT_RING_SIZE, FEATURES, 0);
	uint64_t requests = align_up(layout.shared_bytes, 4096);
	uint64_t buffers = align_up(requests + depth * sizeof(struct request), 4096);
	int rc = mapping_create_own(buffers + (uint64_t)depth * f->block_size, &f->region, err);

	if (rc)
		return rc;
	f->region.gpa.v = MEMORY_GPA;
	f->region.uva.v = (uintptr_t)f->region.host;
	f->requests = (void *)(f->region.host + requests);
	f->buffers = f->region.host + buffers;
	f->private = aligned_alloc(64, align_up(layout.private_bytes, 64));
	if (!f->private)
		return error_set(err, -ENOMEM, "no memory for a ring");
	rc = driver_ring_init(&f->ring, &(struct driver_ring_config){ .size = BLK_FRONT_RING_SIZE,
								      .features = FEATURES,
								      .shared = f->region.host,
								      .shared_addr = { MEMORY_GPA },
								      .private = f->private });
	if (rc)
		return error_set(err, rc, "the ring cannot be made: %s", strerror(-rc));
	return f->backend->ops->set_memory(f->backend, &f->region, 1, err);
}

/* Edge-triggered, as umbra's own: the eventfd is never read until the end, when
 * its value is the number of calls. */
static int front_listen(struct blk_front *f, struct umbra_error *err)
{
	struct epoll_event call = { .events = EPOLLIN | EPOLLET };
	struct epoll_event gone = { .events = EPOLLIN | EPOLLRDHUP, .data.u64 = 1 };

	f->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	f->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	f->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (f->kick_fd < 0 || f->call_fd < 0 || f->epoll_fd < 0 ||
	    epoll_ctl(f->epoll_fd, EPOLL_CTL_ADD, f->call_fd, &call) ||
	    epoll_ctl(f->epoll_fd, EPOLL_CTL_ADD, vhost_user_client_fd(f->backend), &gone))
		return error_set(err, -errno, "eventfds: %s", strerror(errno));
	f->kick = notifier_make(f->kick_fd);
	return 0;
}

static int front_start(struct blk_front *f, struct umbra_error *err)
{
	const uint8_t *host = (const uint8_t *)f->ring.split.desc;
	struct virtio_ring ring = {
		.size = BLK_FRONT_RING_SIZE,
		.addr.desc = { f->region.uva.v },
		.addr.avail = { f->region.uva.v +
				(uint64_t)((const uint8_t *)f->ring.split.avail - host) },
		.addr.used = { f->region.uva.v +
			       (uint64_t)((const uint8_t *)f->ring.split.used - host) },
		.kick_fd = f->kick_fd,
		.call_fd = f->call_fd,
		.err_fd = -1,
		.enabled = true,
	};

	return f->backend->ops->ring_start(f->backend, 0, &ring, err);
}

static void front_free(struct blk_front *f)
{
	if (f->backend)
		f->backend->ops->destroy(f->backend);
	fd_close(&f->epoll_fd);
	fd_close(&f->kick_fd);
	fd_close(&f->call_fd);
	if (f->region.backing)
		memory_backing_unref(f->region.backing);
	free(f->private);
	free(f);
}

int blk_front_open(const char *path, unsigned int depth, uint32_t block_size,
		   struct blk_front **out, struct umbra_error *err)
{
	struct blk_front *f = calloc(1, sizeof(*f));
	int rc;

	if (!f)
		return error_set(err, -ENOMEM, "no memory for a front-end");
	f->kick_fd = f->call_fd = f->epoll_fd = -1;
	f->block_size = block_size;
	rc = vhost_user_client_connect(path, -1, TIMEOUT_MS, &f->backend, err);
	if (!rc)
		rc = front_negotiate(f, err);
	if (!rc)
		rc = front_make_memory(f, depth, err);
	if (!rc)
		rc = front_listen(f, err);
	if (!rc)
		rc = front_start(f, err);
	if (rc) {
		front_free(f);
		return rc;
	}
	*out = f;
	return 0;
}

int blk_front_close(struct blk_front **front, struct umbra_error *err)
{
	struct blk_front *f = *front;
	struct ring_position base, at = driver_ring_position(&f->ring);
	int rc = f->backend->ops->ring_stop(f->backend, 0, &base, err);

	*front = NULL;
	if (!rc && base.avail != at.avail)
		rc = error_set(err, -EPROTO,
			       "the back-end stopped at index %u; %u were made available",
			       base.avail, at.avail);
	front_free(f);
	return rc;
}

/* ---- requests ------------------------------------------------------------- */

uint64_t blk_front_blocks(const struct blk_front *f)
{
	return f->blocks;
}

void *blk_front_buffer(struct blk_front *f, unsigned int slot)
{
	return f->buffers + (uint64_t)slot * f->block_size;
}

void blk_front_submit(struct blk_front *f, unsigned int slot, bool write, uint64_t block)
{
	struct request *r = &f->requests[slot];
	const struct driver_seg segs[3] = {
		{ .addr = { to_gpa(f, &r->header) }, .len = sizeof(r->header) },
		{ .addr = { to_gpa(f, blk_front_buffer(f, slot)) },
		  .len = f->block_size,
		  .writable = !write },
		{ .addr = { to_gpa(f, &r->status) }, .len = 1, .writable = 1 },
	};

	r->header = (struct virtio_blk_outhdr){
		.type = le32_from(write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN).raw,
		.sector = le64_from(block * (f->block_size / SECTOR)).raw,
	};
	r->status = 0xff;
	f->writes[slot] = write;
	/* It always fits: one descriptor a slot, and no more slots than descriptors. */
	if (driver_ring_add(&f->ring, segs, ARRAY_SIZE(segs), slot) != 1 && !f->ring.error.fault)
		abort();
}

void blk_front_publish(struct blk_front *f)
{
	driver_ring_publish(&f->ring);
	if (!driver_ring_must_kick(&f->ring))
		return;
	f->counts.kicks++;
	notifier_send(&f->kick);
}

int blk_front_reap(struct blk_front *f, unsigned int *slot, bool *good, struct umbra_error *err)
{
	const struct request *r;
	struct driver_done done;
	char text[128];
	int rc = driver_ring_get(&f->ring, &done);

	if (rc < 0)
		return error_set(err, rc, "the ring is broken: %s",
				 ring_error_text(&f->ring.error, text, sizeof(text)));
	if (rc == 0)
		return 0;
	*slot = (unsigned int)done.token;
	r = &f->requests[*slot];
	*good = !done.clamped && r->status == VIRTIO_BLK_S_OK &&
		done.len == 1 + (f->writes[*slot] ? 0 : f->block_size);
	return 1;
}

int blk_front_sleep(struct blk_front *f, int timeout_ms, struct umbra_error *err)
{
	struct epoll_event event;
	int n;

	driver_ring_disarm(&f->ring);
	if (driver_ring_arm(&f->ring))
		return 0;
	f->counts.sleeps++;
	n = epoll_wait(f->epoll_fd, &event, 1, timeout_ms);
	driver_ring_disarm(&f->ring);
	if (n == 1 && event.data.u64 == 1)
		return vhost_user_client_check(f->backend, err);
	return 0;
}

struct blk_front_counts blk_front_counts(const struct blk_front *f)
{
	struct blk_front_counts counts = f->counts;

	if (read(f->call_fd, &counts.calls, sizeof(counts.calls)) != sizeof(counts.calls))
		counts.calls = 0; /* EAGAIN: none came */
	return counts;
}
