/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Verified load for a disk: several threads read and write, each its own blocks.
 *
 * Theory of operation: a block belongs to one slot of one thread, and so has at
 * most one request in flight.  What is written says which block it is, the how
 * manieth version of it, and where in the block each word stands; what is read
 * must say the same.  A request that is lost stalls its thread; one that is done
 * twice, late, or with another's data leaves a block that is not what was written
 * last.  At the end each thread reads all that it has written.  Data is cut into
 * segments at random, and again where regions of memory do not adjoin.
 *
 * Threads: a task owns its slots, but for the list of those that have come back,
 * which is under the queue's lock.
 * Implements: virtio 1.2, 5.2.6.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/virtio_blk.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/le.h"
#include "blk_request.h"
#include "front.h"

#define BLOCKS 64u    /* of each slot */
#define PIECES_MAX 4u /* that data is cut into on purpose, if nothing else is said */

struct slot {
	struct front_request request;
	struct task *task;
	struct slot *next; /* of those that have come back */
	struct virtio_blk_outhdr *header;
	uint8_t *status, *data;
	uint64_t block; /* on the disk */
	uint32_t version;
	bool writes;
	uint32_t versions[BLOCKS]; /* of the slot's blocks; 0: not written yet */
	unsigned int swept;
};

struct task {
	struct front *front;
	struct front_queue *queue;
	unsigned int index;
	pthread_t thread;
	pthread_cond_t returned_cond;
	struct slot *returned; /* under the queue's lock */
	struct slot *slots;
	uint64_t random;
	uint64_t reads, writes;
};

static struct {
	unsigned int tasks, depth, pieces;
	uint32_t block_size;
	struct task *all;
	bool stopping;      /* atomic */
	unsigned int ended; /* atomic; tasks */
} w = { .tasks = 4, .depth = 8, .pieces = PIECES_MAX, .block_size = 4096 };

/* ---- content ---------------------------------------------------------------------- */

static uint64_t pattern(const struct slot *s)
{
	return front_mix(s->task->front->options->seed ^ s->block << 24 ^ s->version);
}

static void pattern_write(const struct slot *s)
{
	front_pattern_write(s->data, w.block_size, pattern(s));
}

static void pattern_check(const struct slot *s)
{
	uint64_t v = pattern(s);
	const uint64_t *words = (const void *)s->data;
	uint32_t i = front_pattern_differs(words, w.block_size, v);

	if (i < w.block_size / sizeof(*words))
		front_complain(s->task->front, "block %lu, version %u: word %u is 0x%lx, not 0x%lx",
			       (unsigned long)s->block, s->version, i, (unsigned long)words[i],
			       (unsigned long)(v + i));
}

static uint64_t next_random(struct task *t)
{
	return front_mix(t->random += UINT64_C(0x9e3779b97f4a7c15));
}

/* ---- requests ---------------------------------------------------------------------- */

static void slot_done(struct front_request *r)
{
	struct slot *s = (void *)((char *)r - offsetof(struct slot, request));
	struct task *t = s->task;

	s->next = t->returned;
	t->returned = s;
	pthread_cond_signal(&t->returned_cond);
	front_count(t->front, 1);
}

static void slot_judge(struct slot *s)
{
	struct front *f = s->task->front;

	if (!blk_request_is_good(&s->request, *s->status, s->writes, w.block_size)) {
		front_complain(f, "%s of block %lu: status %u, %u bytes written, not %u",
			       s->writes ? "write" : "read", (unsigned long)s->block, *s->status,
			       s->request.len, blk_request_written(s->writes, w.block_size));
		return;
	}
	if (!s->writes)
		pattern_check(s);
}

static void slot_add(struct slot *s)
{
	struct driver_seg segs[FRONT_SEGS_MAX];
	struct task *t = s->task;
	const struct front *f = t->front;
	unsigned int count = 0, pieces = 1 + (unsigned int)(next_random(t) % w.pieces);
	uint32_t at = 0, len;

	blk_request_fill(s->header, s->status, s->writes, s->block * (w.block_size / SECTOR));
	front_seg(f, s->header, sizeof(*s->header), false, segs, &count);
	while (at < w.block_size) {
		len = w.block_size - at;
		if (pieces > 1) /* so long on average that all the pieces are used */
			len = (uint32_t)(1 + next_random(t) % MAX(2 * len / pieces, 1u));
		len = MIN(len, w.block_size - at);
		pieces -= pieces > 1;
		front_seg(f, s->data + at, len, !s->writes, segs, &count);
		at += len;
	}
	front_seg(f, s->status, 1, true, segs, &count);
	front_add(t->queue, segs, count, &s->request, true);
}

/* The slot's next request.  False: there is none. */
static bool slot_choose(struct slot *s, unsigned int number)
{
	struct task *t = s->task;
	unsigned int own;

	if (!__atomic_load_n(&w.stopping, __ATOMIC_RELAXED)) {
		own = (unsigned int)(next_random(t) % BLOCKS);
		s->writes = !s->versions[own] || next_random(t) & 1;
	} else {
		while (s->swept < BLOCKS && !s->versions[s->swept])
			s->swept++;
		if (s->swept == BLOCKS)
			return false;
		own = s->swept++;
		s->writes = false;
	}
	s->block = ((uint64_t)own * w.depth + number) * w.tasks + t->index;
	if (s->writes) {
		s->version = ++s->versions[own];
		pattern_write(s);
		t->writes++;
	} else {
		s->version = s->versions[own];
		memset(s->data, 0, w.block_size);
		t->reads++;
	}
	return true;
}

static void *task_run(void *arg)
{
	struct task *t = arg;
	struct slot *all = NULL, *s;
	unsigned int in_flight = w.depth;

	for (unsigned int i = 0; i < w.depth; i++) {
		t->slots[i].next = all;
		all = &t->slots[i];
	}
	/* Slots that are free are in @all. */
	for (;;) {
		struct slot *ready = NULL;

		while ((s = all)) {
			all = s->next;
			if (slot_choose(s, (unsigned int)(s - t->slots))) {
				s->next = ready;
				ready = s;
			} else {
				in_flight--;
			}
		}
		if (!in_flight)
			break;
		pthread_mutex_lock(&t->queue->lock);
		while ((s = ready)) {
			/* slot_done() may use the link as soon as it is added. */
			ready = s->next;
			slot_add(s);
		}
		front_publish(t->queue);
		while (!t->returned)
			pthread_cond_wait(&t->returned_cond, &t->queue->lock);
		all = t->returned;
		t->returned = NULL;
		pthread_mutex_unlock(&t->queue->lock);
		for (s = all; s; s = s->next)
			slot_judge(s);
	}
	__atomic_fetch_add(&w.ended, 1, __ATOMIC_RELEASE);
	front_count(t->front, 1);
	return NULL;
}

/* ---- the workload ------------------------------------------------------------------- */

static bool blk_option(const char *text)
{
	return sscanf(text, "threads=%u", &w.tasks) == 1 && w.tasks >= 1 && w.tasks <= 64  ? true
	       : sscanf(text, "depth=%u", &w.depth) == 1 && w.depth >= 1 && w.depth <= 256 ? true
	       : sscanf(text, "pieces=%u", &w.pieces) == 1 && w.pieces >= 1 && w.pieces <= 512
		       ? true
	       : sscanf(text, "block-size=%u", &w.block_size) == 1 && w.block_size >= SECTOR &&
			       w.block_size <= 1u << 20 && w.block_size % SECTOR == 0
		       ? true
		       : false;
}

static void task_make(struct front *f, struct task *t, unsigned int index)
{
	t->front = f;
	t->queue = &f->queues[index % f->queue_count];
	t->index = index;
	t->random = f->options->seed + index;
	t->slots = calloc(w.depth, sizeof(*t->slots));
	if (!t->slots)
		abort();
	pthread_cond_init(&t->returned_cond, NULL);
	for (unsigned int i = 0; i < w.depth; i++) {
		struct slot *s = &t->slots[i];

		s->task = t;
		s->request.done = slot_done;
		s->header = front_alloc(f, sizeof(*s->header), 16);
		s->data = front_alloc(f, w.block_size, 8);
		s->status = front_alloc(f, 1, 1);
	}
}

static int blk_begin(struct front *f, const struct front_options *o, struct umbra_error *err)
{
	struct virtio_blk_config config = { 0 };
	uint64_t blocks, needed = (uint64_t)w.tasks * w.depth * BLOCKS;
	unsigned int queues = 1;
	int rc = front_open(f, o, BIT64(VIRTIO_BLK_F_MQ), err);

	if (!rc)
		rc = front_get_config(f, 0, &config, offsetof(struct virtio_blk_config, wce), err);
	if (!rc && f->features & BIT64(VIRTIO_BLK_F_MQ)) {
		rc = front_get_config(f, offsetof(struct virtio_blk_config, num_queues),
				      &config.num_queues, sizeof(config.num_queues), err);
		queues = MAX(1u, MIN(config.num_queues, MIN(o->queues, w.tasks)));
	}
	if (rc)
		return rc;
	blocks = le64_to((le64){ config.capacity }) / (w.block_size / SECTOR);
	if (blocks < needed)
		return error_set(err, -EINVAL,
				 "the disk has %lu blocks of %u bytes; %lu are needed",
				 (unsigned long)blocks, w.block_size, (unsigned long)needed);
	rc = front_start(f, queues, (uint64_t)w.tasks * w.depth * (w.block_size + 64ul), err);
	w.all = calloc(w.tasks, sizeof(*w.all));
	if (!w.all)
		abort();
	for (unsigned int i = 0; i < w.tasks && !rc; i++)
		task_make(f, &w.all[i], i);
	for (unsigned int i = 0; i < w.tasks && !rc; i++)
		if (pthread_create(&w.all[i].thread, NULL, task_run, &w.all[i]))
			rc = error_set(err, -EAGAIN, "no thread");
	return rc;
}

static int blk_command(struct front *f, const char *word, const char *rest, struct umbra_error *err)
{
	(void)f, (void)word, (void)rest, (void)err;
	return -ENOSYS;
}

static int blk_end(struct front *f, struct umbra_error *err)
{
	uint64_t reads = 0, writes = 0, verified = 0;

	uint64_t seen;
	int rc = 0;

	__atomic_store_n(&w.stopping, true, __ATOMIC_RELAXED);
	/* In this order: a task ends, and then counts. */
	while (seen = front_progress(f), __atomic_load_n(&w.ended, __ATOMIC_ACQUIRE) < w.tasks) {
		rc = front_wait(f, seen + 1, err);
		if (rc)
			return rc;
	}
	for (unsigned int i = 0; i < w.tasks; i++)
		pthread_join(w.all[i].thread, NULL);
	for (unsigned int i = 0; i < w.tasks; i++) {
		struct task *t = &w.all[i];

		reads += t->reads;
		writes += t->writes;
		for (unsigned int k = 0; k < w.depth; k++)
			for (unsigned int b = 0; b < BLOCKS; b++)
				verified += t->slots[k].versions[b] != 0;
		free(t->slots);
	}
	free(w.all);
	printf(", \"reads\": %lu, \"writes\": %lu, \"blocks\": %lu", (unsigned long)reads,
	       (unsigned long)writes, (unsigned long)verified);
	return 0;
}

const struct front_workload blk_workload = {
	.name = "blk",
	.option = blk_option,
	.begin = blk_begin,
	.command = blk_command,
	.end = blk_end,
};
