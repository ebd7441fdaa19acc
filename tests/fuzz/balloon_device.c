/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libFuzzer: whatever lies in the rings and in the memory of a guest, its balloon
 * device stays within that memory and answers.
 *
 *	byte 0	bits 0-5: features (page bitmap, must tell, statistics, reporting,
 *		poison, EVENT_IDX); bit 6: large pages; bit 7: large pages that
 *		cannot be split
 *	byte 1	bits 0-2: log2 of the rings' size
 *
 * Then a run of records.  Each begins with a byte: bits 0-2 the queue, bits 3-4 what:
 *
 *	0	a chain: a length, so many bytes.  Bit 5: behind a good header; bit 6:
 *		with room for a status; bit 7: page numbers are made small
 *	1	a descriptor, raw (16 bytes), and its head
 *	2	bytes into memory: where (2 bytes), a length, so many bytes
 *	3	time passes; bits 5-7: then a stop, a start, less memory, all memory, a
 *		reset, a detach, a target
 */
#include <linux/virtio_balloon.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/balloon_rig.h"
#include "base/bits.h"
#include "base/log.h"
#include "fuzz.h"

#define MEMORY (UINT64_C(256) << 10)
#define GPA UINT64_C(0x1000) /* so that small numbers in the input are addresses */
#define RING 0x1000u         /* bytes for each ring */

static uint8_t *memory;
static struct queue_service *services[BALLOON_QUEUES];

static uint64_t now_us(struct device_host *host)
{
	(void)host;
	return 1;
}

static uint64_t discard(struct balloon_host *host, struct balloon_discard *list, unsigned int count)
{
	(void)host;
	for (unsigned int i = 0; i < count; i++) {
		const struct memory_region *r = list[i].region;

		require(list[i].length && list[i].offset <= r->size &&
			list[i].length <= r->size - list[i].offset);
		require(list[i].offset % r->backing->page == 0 &&
			list[i].length % r->backing->page == 0);
		memset(r->host + list[i].offset, 0, list[i].length);
		list[i].result = i % 3 ? 0 : -5;
	}
	return 0;
}

static void judge(struct balloon_host *host, const struct memory_region *region)
{
	(void)host;
	(void)region;
}

static int serve_begin(struct device_host *host, struct queue_service *service,
		       struct umbra_error *err)
{
	(void)host;
	(void)err;
	require(!services[service->index]);
	services[service->index] = service;
	return 0;
}

static void serve_end(struct device_host *host, struct queue_service *service)
{
	(void)host;
	require(services[service->index] == service);
	services[service->index] = NULL;
}

static void notify(struct device_host *host, int fd)
{
	(void)host;
	(void)fd;
}

static void moved(struct balloon_host *host)
{
	(void)host;
}

static void config_changed(struct device_host *host)
{
	(void)host;
}

static const struct device_host_ops device_host_ops = {
	.now_us = now_us,
	.notify = notify,
	.serve_begin = serve_begin,
	.serve_end = serve_end,
	.config_changed = config_changed,
};

static struct device_host device_host = { &device_host_ops };

static const struct balloon_host_ops host_ops = {
	.judge = judge,
	.discard = discard,
	.moved = moved,
};

static void release(struct memory_backing *backing)
{
	(void)backing;
}

static struct memory_backing file;

static int memory_set(struct balloon_device *d, uint64_t bytes)
{
	/* In two regions that adjoin, in the midst of a page of the guest. */
	struct memory_region regions[2] = {
		{ .gpa = { GPA }, .uva = { GPA }, .size = bytes / 2, .host = memory },
		{ .gpa = { GPA + bytes / 2 },
		  .uva = { GPA + bytes / 2 },
		  .size = bytes / 2,
		  .host = memory + bytes / 2 },
	};
	struct umbra_error err;

	regions[0].backing = regions[1].backing = &file;
	return balloon_device_virtio(d)->ops->set_memory(balloon_device_virtio(d), regions, 2,
							 &err);
}

/* Within a page for each queue. */
#define DESC 0x000u
#define AVAIL 0x800u
#define USED 0xa00u
#define DATA 0x8000u /* offset of the buffers */
#define RECORDS_MAX 200u

static void ring_start(struct balloon_device *d, unsigned int i, uint32_t size)
{
	uint64_t at = GPA + (uint64_t)i * RING;
	struct virtio_ring_addr addr = { { at + DESC }, { at + AVAIL }, { at + USED } };
	int kick = -1, call = -1;
	struct umbra_error err;
	struct virtio_device *v = balloon_device_virtio(d);

	/* Refused where there is no memory for it. */
	if (v->ops->ring_set_size(v, i, size, &err) ||
	    v->ops->ring_set_base(v, i, ring_position_split(0), &err) ||
	    v->ops->ring_set_addr(v, i, &addr, &err) || v->ops->ring_set_call(v, i, &call, &err) ||
	    v->ops->ring_set_kick(v, i, &kick, &err))
		return;
	require(!v->ops->ring_enable(v, i, true, &err));
}

static void rings_start(struct balloon_device *d, uint32_t size)
{
	for (unsigned int i = 0; i < BALLOON_QUEUES; i++) {
		memset(memory + i * RING, 0, RING);
		ring_start(d, i, size);
	}
}

static void put(uint8_t *at, uint64_t v, unsigned int bytes)
{
	for (unsigned int i = 0; i < bytes; i++)
		at[i] = (uint8_t)(v >> 8 * i);
}

static void desc_put(unsigned int queue, unsigned int i, uint64_t offset, uint32_t len,
		     unsigned int flags, unsigned int next)
{
	uint8_t *at = memory + queue * RING + DESC + 16ul * i;

	put(at, GPA + offset, 8);
	put(at + 8, len, 4);
	put(at + 12, flags, 2);
	put(at + 14, next, 2);
}

static void make_available(unsigned int queue, uint32_t size, unsigned int head)
{
	uint8_t *avail = memory + queue * RING + AVAIL;
	unsigned int idx = avail[2] | (unsigned int)avail[3] << 8;

	put(avail + 4 + 2 * (idx & (size - 1)), head, 2);
	put(avail + 2, idx + 1, 2);
}

static void chain_put(struct input *in, uint8_t control, unsigned int queue, uint32_t size)
{
	unsigned int n = take(in), header = control & 0x20 ? 8 : 0;
	uint64_t offset = DATA + queue * 0x200;
	uint8_t *at = memory + offset;
	bool writes = queue > 2;

	put(at, (uint64_t)(n & ~7u) << 32, 8);
	take_bytes(in, at + header, n);
	for (unsigned int i = 0; control & 0x80 && i + 8 <= n; i += 8) {
		/* A word of a record, or two page numbers: about this guest's. */
		at[header + i + 1] = at[header + i + 2] = at[header + i + 3] = 0;
		at[header + i + 4] = at[header + i + 5] = 0;
		at[header + i] &= 0x7f;
	}
	if (header + n == 0)
		return;
	desc_put(queue, 0, offset, header + n,
		 (control & 0x40 && size > 1 ? VRING_DESC_F_NEXT : 0) |
			 (writes ? VRING_DESC_F_WRITE : 0),
		 1);
	if (size > 1)
		desc_put(queue, 1, offset + 0x180, 16, VRING_DESC_F_WRITE, 0);
	make_available(queue, size, 0);
}

#define PASSES 8u

static void serve(struct balloon_device *d)
{
	struct umbra_balloon_info info;
	uint64_t next;

	for (unsigned int i = 0; i < BALLOON_QUEUES; i++) {
		for (unsigned int n = 0; n < PASSES && services[i]; n++) {
			unsigned int owed;
			int actions = services[i]->pass(services[i]->queue, &owed);

			if (actions < 0) {
				services[i]->broken = true;
				balloon_device_virtio(d)->ops->check_queues(
					balloon_device_virtio(d));
			} else if (!(actions & QUEUE_MORE)) {
				balloon_device_ask_stats(d);
			}
		}
	}
	balloon_device_step(d, &next);
	balloon_device_info(d, &info);
	require(info.ballooned_bytes <= info.memory_bytes);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	log_set_level(LOG_ERROR);
	memory = aligned_alloc(4096, MEMORY);
	return !memory;
}

static void event(struct balloon_device *d, unsigned int what, unsigned int queue, uint32_t size,
		  uint64_t features)
{
	struct umbra_error err;
	static const struct umbra_balloon_target half = { .bytes = MEMORY / 2 };
	struct ring_position base;

	switch (what) {
	case 1:
		require(!balloon_device_virtio(d)->ops->ring_stop(balloon_device_virtio(d), queue,
								  &base, &err));
		break;
	case 2:
		ring_start(d, queue, size);
		break;
	case 3:
		require(!memory_set(d, MEMORY / 2));
		break;
	case 4:
		require(!memory_set(d, MEMORY));
		break;
	case 5:
		require(!balloon_device_virtio(d)->ops->reset(balloon_device_virtio(d), &err));
		require(!balloon_device_virtio(d)->ops->set_features(balloon_device_virtio(d),
								     features, &err));
		rings_start(d, size);
		break;
	case 6:
		balloon_device_virtio(d)->ops->detach(balloon_device_virtio(d));
		balloon_device_virtio(d)->ops->attach(balloon_device_virtio(d), NULL);
		require(!balloon_device_virtio(d)->ops->set_features(balloon_device_virtio(d),
								     features, &err));
		require(!memory_set(d, MEMORY));
		rings_start(d, size);
		break;
	case 7:
		balloon_device_set_target(d, &half, 2);
		break;
	default:
		break;
	}
}

static void record(struct balloon_device *d, struct input *in, uint32_t size, uint64_t features)
{
	uint8_t control = take(in);
	unsigned int queue = (control & 7) % BALLOON_QUEUES, n;
	size_t at;

	switch (control >> 3 & 3) {
	case 0:
		chain_put(in, control, queue, size);
		break;
	case 1:
		take_bytes(in, memory + queue * RING + DESC + 16 * (take(in) & (size - 1)), 16);
		make_available(queue, size, take(in));
		break;
	case 2:
		at = take(in);
		at = (at << 8 | take(in)) % (MEMORY - 256);
		n = take(in);
		take_bytes(in, memory + at, n);
		break;
	default:
		serve(d);
		event(d, control >> 5, queue, size, features);
		serve(d);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const unsigned int bits[] = { 50,
					     VIRTIO_BALLOON_F_MUST_TELL_HOST,
					     VIRTIO_BALLOON_F_STATS_VQ,
					     VIRTIO_BALLOON_F_REPORTING,
					     VIRTIO_BALLOON_F_PAGE_POISON,
					     VIRTIO_RING_F_EVENT_IDX };
	const struct balloon_device_config config = { .target = { .bytes = 1, .force = true },
						      .stall_ms = 1 };
	uint64_t features = BIT64(VIRTIO_F_VERSION_1) | BIT64(VIRTIO_RING_F_INDIRECT_DESC);
	struct balloon_host host = { &device_host, &host_ops };
	struct balloon_device *d;
	struct umbra_error err;
	struct input in;
	uint32_t entries;

	if (size < 3)
		return 0;
	for (unsigned int i = 0; i < ARRAY_SIZE(bits); i++)
		if (data[0] & 1u << i)
			features |= BIT64(bits[i]);
	file = (struct memory_backing){
		.refs = 1,
		.release = release,
		.fd = -1,
		.page = data[0] & 0x80 ? 0x4000 : 0x1000,
		.block = data[0] & 0xc0 ? 0x4000 : 0x1000,
	};
	in = (struct input){ data + 2, size - 2 };
	memset(memory, 0, MEMORY);
	require(!balloon_device_create(&host, &config, &d, &err));
	balloon_device_virtio(d)->ops->attach(balloon_device_virtio(d), NULL);
	require(!balloon_device_virtio(d)->ops->set_features(balloon_device_virtio(d), features,
							     &err));
	require(!memory_set(d, MEMORY));
	entries = 1u << (data[1] & 7);
	rings_start(d, entries);
	for (unsigned int i = 0; i < RECORDS_MAX && in.left; i++)
		record(d, &in, entries, features);
	serve(d);
	balloon_device_destroy(&d);
	for (unsigned int i = 0; i < BALLOON_QUEUES; i++)
		require(!services[i]);
	return 0;
}
