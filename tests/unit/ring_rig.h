/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest of a few pages with one ring in it, written by hand.
 *
 * The tests of the device side play a driver that may lie, so they write
 * descriptors and indices themselves and do not use driver_ring.h.
 */
#ifndef UMBRA_TESTS_RING_RIG_H
#define UMBRA_TESTS_RING_RIG_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_ring.h>

#include "feature_bits.h"
#include "memory/memory.h"
#include "ring/device_ring.h"
#include "ring/driver_ring.h"

#define RAM_GPA UINT64_C(0x40000000)
#define RAM_BYTES (1u << 20)
#define BUF RAM_GPA       /* buffers lie at the start of the memory, the ring behind */
#define TABLE_AT 0x20000u /* offset of indirect tables */
#define RING_AT 0x40000u  /* offset of the ring; RAM_BYTES is enough for size 32768 */

#define EVENT_IDX BIT64(VIRTIO_RING_F_EVENT_IDX)

#define F_NEXT VRING_DESC_F_NEXT
#define F_WRITE VRING_DESC_F_WRITE
#define F_INDIRECT VRING_DESC_F_INDIRECT

struct rig {
	uint8_t *ram;
	struct memory *memory;
	struct split_ring split;
	struct device_ring device;
	struct ring_chain chain;
	uint16_t avail; /* the hand-made driver's index */
};

static inline struct memory_region rig_region(uint64_t gpa, uint8_t *host, uint64_t size)
{
	return (struct memory_region){ .gpa = { gpa }, .uva = { gpa }, .size = size, .host = host };
}

static inline void rig_memory(struct rig *g, const struct memory_region *regions, unsigned int n)
{
	struct umbra_error err;

	memory_unref(&g->memory);
	assert_int_equal(memory_create(regions, n, &g->memory, &err), 0);
	g->device.memory = g->memory;
}

/* The ring starts at index @base on both sides. */
static inline struct rig *rig_new(uint16_t size, uint64_t features, uint16_t base)
{
	struct rig *g = calloc(1, sizeof(*g));
	struct split_offsets o = split_offsets(size);
	struct memory_region ram;

	assert_non_null(g);
	g->ram = aligned_alloc(4096, RAM_BYTES);
	assert_non_null(g->ram);
	memset(g->ram, 0, RAM_BYTES);
	ram = rig_region(RAM_GPA, g->ram, RAM_BYTES);
	rig_memory(g, &ram, 1);
	g->split = (struct split_ring){ .desc = (void *)(g->ram + RING_AT + o.desc),
					.avail = (void *)(g->ram + RING_AT + o.avail),
					.used = (void *)(g->ram + RING_AT + o.used),
					.size = size };
	g->avail = base;
	shm_store16(&g->split.avail->idx, base);
	shm_store16(&g->split.used->idx, base);
	device_ring_init(&g->device,
			 &(struct device_ring_config){ .split = g->split,
						       .memory = g->memory,
						       .features = features,
						       .at = ring_position_split(base) });
	g->chain.segs = calloc(size, sizeof(*g->chain.segs));
	assert_non_null(g->chain.segs);
	return g;
}

static inline void rig_free(struct rig *g)
{
	memory_unref(&g->memory);
	free(g->chain.segs);
	free(g->ram);
	free(g);
}

static inline void put_desc_at(void *at, uint64_t addr, uint32_t len, unsigned int flags,
			       unsigned int next)
{
	uint8_t *p = at;

	for (unsigned int i = 0; i < 8; i++)
		p[i] = (uint8_t)(addr >> 8 * i);
	for (unsigned int i = 0; i < 4; i++)
		p[8 + i] = (uint8_t)(len >> 8 * i);
	p[12] = (uint8_t)flags;
	p[13] = (uint8_t)(flags >> 8);
	p[14] = (uint8_t)next;
	p[15] = (uint8_t)(next >> 8);
}

static inline void put_desc(struct rig *g, unsigned int i, uint64_t addr, uint32_t len,
			    unsigned int flags, unsigned int next)
{
	put_desc_at(&g->split.desc[i], addr, len, flags, next);
}

/* Descriptor @i of an indirect table at TABLE_AT. */
static inline void put_table(struct rig *g, unsigned int i, uint64_t addr, uint32_t len,
			     unsigned int flags, unsigned int next)
{
	put_desc_at(g->ram + TABLE_AT + 16ul * i, addr, len, flags, next);
}

/* Descriptor @i refers to the table at TABLE_AT of @bytes. */
static inline void put_indirect(struct rig *g, unsigned int i, uint32_t bytes)
{
	put_desc(g, i, RAM_GPA + TABLE_AT, bytes, F_INDIRECT, 0);
}

static inline void make_available(struct rig *g, uint16_t head)
{
	shm_store16(&g->split.avail->ring[g->avail & (g->split.size - 1)], head);
	g->avail++;
	shm_store16_release(&g->split.avail->idx, g->avail);
}

static inline int rig_take(struct rig *g)
{
	return device_ring_take(&g->device, &g->chain);
}

/* The ring breaks with @fault and these numbers, says so for ever, and does
 * not move. */
static inline void expect_broken(struct rig *g, enum ring_fault fault, uint64_t value,
				 uint64_t limit)
{
	uint16_t last_avail = g->device.last_avail;

	assert_int_equal(rig_take(g), -EPROTO);
	assert_int_equal(g->device.error.fault, fault);
	assert_int_equal(g->device.error.value, value);
	assert_int_equal(g->device.error.limit, limit);
	assert_int_equal(rig_take(g), -EPROTO);
	assert_int_equal(g->device.error.fault, fault);
	assert_int_equal(g->device.last_avail, last_avail);
	assert_true(device_ring_arm(&g->device));
}

/* ---- a driver ring with its memory --------------------------------------- */

struct driver_rig {
	struct driver_ring ring;
	struct driver_layout layout;
	void *shared, *private;
};

static inline struct driver_rig *driver_rig_new(uint16_t size, uint64_t features, uint16_t base)
{
	struct driver_rig *d = calloc(1, sizeof(*d));

	assert_non_null(d);
	d->layout = driver_ring_layout(size, features, 0);
	d->shared = aligned_alloc(64, align_up(d->layout.shared_bytes, 64));
	d->private = aligned_alloc(16, align_up(d->layout.private_bytes, 16));
	assert_non_null(d->shared);
	assert_non_null(d->private);
	memset(d->shared, 0xa5, d->layout.shared_bytes);
	memset(d->private, 0xa5, d->layout.private_bytes);
	assert_int_equal(driver_ring_init(&d->ring,
					  &(struct driver_ring_config){
						  .size = size,
						  .features = features,
						  .shared = d->shared,
						  .shared_addr = { (uintptr_t)d->shared },
						  .private = d->private,
						  .base = ring_position_split(base) }),
			 0);
	return d;
}

static inline void driver_rig_free(struct driver_rig *d)
{
	free(d->shared);
	free(d->private);
	free(d);
}

/* The honest device on the same ring, for rings inside one program. */
static inline void device_on(struct device_ring *device, const struct driver_rig *d,
			     uint64_t features, uint16_t base)
{
	device_ring_init(device, &(struct device_ring_config){ .split = d->ring.split,
							       .features = features,
							       .at = ring_position_split(base) });
}

/* A dishonest device's used entry, and its index. */
static inline void put_used(struct driver_rig *d, uint16_t index, uint32_t id, uint32_t len)
{
	struct split_used_elem *e = &d->ring.split.used->ring[index & (d->ring.split.size - 1)];

	shm_store32(&e->id, id);
	shm_store32(&e->len, len);
}

static inline void put_used_idx(struct driver_rig *d, uint16_t idx)
{
	shm_store16_release(&d->ring.split.used->idx, idx);
}

#endif
