/* SPDX-License-Identifier: BSD-2-Clause */
/* A vhost-user-blk front-end without a guest: see blk_front.h. */
#include "blk_front.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <linux/virtio_blk.h>
#include <linux/virtio_ring.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/fd.h"
#include "blk_request.h"
#include "front.h"
#include "vhost_user/vhost_user_client.h"

#define MEMORY_GPA UINT64_C(0x40000000)

/* A request, one at a time; what the device sees of it in a cache line of its own. */
struct slot {
	struct front_request request;
	struct shared {
		struct virtio_blk_outhdr header;
		uint8_t status;
	} * shared;
	uint8_t *data;
	bool writes;
};

struct blk_front {
	struct front front;
	struct front_options options;
	struct front_queue *queue;
	struct slot slots[BLK_FRONT_RING_SIZE];
	uint32_t block_size;
	uint64_t blocks;
	int epoll_fd;
	uint64_t sleeps;
};

/* ---- opening -------------------------------------------------------------- */

static int disk_look(struct blk_front *f, struct umbra_error *err)
{
	uint64_t wanted = BIT64(VIRTIO_RING_F_EVENT_IDX) | BIT64(VIRTIO_RING_F_INDIRECT_DESC);
	le64 capacity = { 0 };
	int rc;

	if ((f->front.features & wanted) != wanted)
		return error_set(err, -EOPNOTSUPP,
				 "the back-end offers features 0x%lx; 0x%lx are needed",
				 (unsigned long)f->front.offered, (unsigned long)wanted);
	rc = front_get_config(&f->front, offsetof(struct virtio_blk_config, capacity), &capacity,
			      sizeof(capacity), err);
	f->blocks = le64_to(capacity) / (f->block_size / SECTOR);
	if (!rc && f->blocks == 0)
		rc = error_set(err, -EINVAL, "the disk of %lu sectors is smaller than one block",
			       (unsigned long)le64_to(capacity));
	return rc;
}

/* Requests, then buffers. */
static void slots_make(struct blk_front *f, unsigned int depth)
{
	for (unsigned int i = 0; i < depth; i++)
		f->slots[i].shared = front_alloc(&f->front, sizeof(struct shared), 64);
	for (unsigned int i = 0; i < depth; i++)
		f->slots[i].data = front_alloc(&f->front, f->block_size, i ? 1 : 4096);
}

/* Edge-triggered, as umbra's own: the eventfd is never read until the end, when
 * its value is the number of calls. */
static int calls_listen(struct blk_front *f, struct umbra_error *err)
{
	struct epoll_event call = { .events = EPOLLIN | EPOLLET };
	struct epoll_event gone = { .events = EPOLLIN | EPOLLRDHUP, .data.u64 = 1 };

	f->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (f->epoll_fd < 0 || epoll_ctl(f->epoll_fd, EPOLL_CTL_ADD, f->queue->call_fd, &call) ||
	    epoll_ctl(f->epoll_fd, EPOLL_CTL_ADD, vhost_user_client_fd(f->front.backend), &gone))
		return error_set(err, -errno, "eventfds: %s", strerror(errno));
	return 0;
}

int blk_front_open(const char *path, unsigned int depth, uint32_t block_size,
		   struct blk_front **out, struct umbra_error *err)
{
	struct blk_front *f = calloc(1, sizeof(*f));
	uint64_t bytes = (uint64_t)depth * (block_size + 64ul) + 4096;
	int rc;

	if (!f)
		return error_set(err, -ENOMEM, "no memory for a front-end");
	f->options = (struct front_options){
		.socket = path,
		.regions = 1,
		.gpa_base = MEMORY_GPA,
		.indirect = true,
		.event_idx = true,
		.ring_size = BLK_FRONT_RING_SIZE,
		.is_polled = true,
	};
	f->epoll_fd = -1;
	f->block_size = block_size;
	f->queue = &f->front.queues[0];
	rc = front_open(&f->front, &f->options, 0, err);
	if (!rc)
		rc = disk_look(f, err);
	if (!rc)
		rc = front_start(&f->front, 1, bytes, err);
	if (!rc)
		rc = calls_listen(f, err);
	if (rc) {
		fd_close(&f->epoll_fd);
		front_drop(&f->front);
		free(f);
		return rc;
	}
	slots_make(f, depth);
	*out = f;
	return 0;
}

int blk_front_close(struct blk_front **front, struct umbra_error *err)
{
	struct blk_front *f = *front;
	int rc = front_close(&f->front, err);

	*front = NULL;
	fd_close(&f->epoll_fd);
	free(f);
	return rc;
}

/* ---- requests ------------------------------------------------------------- */

uint64_t blk_front_blocks(const struct blk_front *f)
{
	return f->blocks;
}

void *blk_front_buffer(struct blk_front *f, unsigned int slot)
{
	return f->slots[slot].data;
}

void blk_front_submit(struct blk_front *f, unsigned int slot, bool write, uint64_t block)
{
	struct slot *s = &f->slots[slot];
	struct driver_seg segs[3];
	unsigned int count = 0;

	s->writes = write;
	blk_request_fill(&s->shared->header, &s->shared->status, write,
			 block * (f->block_size / SECTOR));
	front_seg(&f->front, &s->shared->header, sizeof(s->shared->header), false, segs, &count);
	front_seg(&f->front, s->data, f->block_size, !write, segs, &count);
	front_seg(&f->front, &s->shared->status, 1, true, segs, &count);
	/* It always fits: one descriptor a slot, and no more slots than descriptors. */
	if (!front_add(f->queue, segs, count, &s->request, false) && !f->queue->ring.error.fault)
		abort();
}

void blk_front_publish(struct blk_front *f)
{
	front_publish(f->queue);
}

int blk_front_reap(struct blk_front *f, unsigned int *slot, bool *good, struct umbra_error *err)
{
	struct driver_done done;
	struct slot *s;
	char text[128];
	int rc = driver_ring_get(&f->queue->ring, &done);

	if (rc < 0)
		return error_set(err, rc, "the ring is broken: %s",
				 ring_error_text(&f->queue->ring.error, text, sizeof(text)));
	if (rc == 0)
		return 0;
	s = (void *)((uint8_t *)(uintptr_t)done.token - offsetof(struct slot, request));
	s->request.len = done.len;
	s->request.clamped = done.clamped;
	*slot = (unsigned int)(s - f->slots);
	*good = blk_request_is_good(&s->request, s->shared->status, s->writes, f->block_size);
	return 1;
}

int blk_front_sleep(struct blk_front *f, int timeout_ms, struct umbra_error *err)
{
	struct driver_ring *ring = &f->queue->ring;
	struct epoll_event event;
	int n;

	driver_ring_disarm(ring);
	if (driver_ring_arm(ring))
		return 0;
	f->sleeps++;
	n = epoll_wait(f->epoll_fd, &event, 1, timeout_ms);
	driver_ring_disarm(ring);
	if (n == 1 && event.data.u64 == 1)
		return vhost_user_client_check(f->front.backend, err);
	return 0;
}

struct blk_front_counts blk_front_counts(const struct blk_front *f)
{
	struct blk_front_counts counts = { .kicks = f->queue->kicks, .sleeps = f->sleeps };

	if (read(f->queue->call_fd, &counts.calls, sizeof(counts.calls)) != sizeof(counts.calls))
		counts.calls = 0; /* EAGAIN: none came */
	return counts;
}
