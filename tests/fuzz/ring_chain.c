/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libFuzzer: whatever a driver writes into its ring and its memory, the device
 * side agrees with a walker that has no wits.
 *
 * The input is
 *	byte 0	bits 0-2 logarithm of the ring's size, bit 3 INDIRECT_DESC,
 *		bit 4 EVENT_IDX, bit 5 no memory table (tables are off then)
 *	byte 1	where the ring goes on: low byte of the indices, times 257
 *	byte 2	chains that are completed between two takes, modulo 4
 *	rest	the guest's memory, region by region; the ring is at its start
 *
 * The memory has two regions that adjoin for the guest, each in a block of its
 * own, so that a step outside is seen, and a third one behind a hole.
 */
#include <errno.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "ring/device_ring.h"

#define REGIONS 3u
#define SIZE_MAX_HERE 128u
#define TABLE_MAX_HERE 288u /* a table that fills the first region */

static const struct {
	uint64_t gpa, size;
} plan[REGIONS] = { { 0x1000, 0x1200 }, { 0x2200, 0x100 }, { 0x2400, 0x40 } };

static uint8_t *blocks[REGIONS];
static struct split_ring ring;

/* ---- the walker without wits ---------------------------------------------- */

struct naive_result {
	enum ring_fault fault;
	struct ring_seg segs[TABLE_MAX_HERE];
	uint32_t count;
};

/* The byte at @gpa, or -1. */
static int naive_byte(uint64_t gpa)
{
	for (unsigned int i = 0; i < REGIONS; i++)
		if (gpa >= plan[i].gpa && gpa - plan[i].gpa < plan[i].size)
			return blocks[i][gpa - plan[i].gpa];
	return -1;
}

static bool naive_inside(uint64_t gpa, uint64_t len)
{
	if (len > 0x2000)
		return false;
	for (uint64_t i = 0; i < len; i++)
		if (gpa + i < gpa || naive_byte(gpa + i) < 0)
			return false;
	return true;
}

static uint64_t naive_word(uint64_t gpa, unsigned int bytes)
{
	uint64_t v = 0;

	for (unsigned int i = 0; i < bytes; i++)
		v |= (uint64_t)naive_byte(gpa + i) << 8 * i;
	return v;
}

/* Follow the chain from descriptor @head of the table at @table. */
static void naive_walk(struct naive_result *n, uint64_t head, const struct device_ring *r,
		       bool memory)
{
	uint64_t table = plan[0].gpa, entries = ring.size, limit = ring.size, i = head;
	bool in_table = false, wrote = false;

	n->fault = RING_OK;
	n->count = 0;
	for (;;) {
		uint64_t addr = naive_word(table + 16 * i, 8);
		uint64_t len = naive_word(table + 16 * i + 8, 4);
		uint64_t flags = naive_word(table + 16 * i + 12, 2);
		uint64_t next = naive_word(table + 16 * i + 14, 2);

		if (flags & VRING_DESC_F_INDIRECT) {
			n->fault = in_table                    ? RING_INDIRECT_NESTED
				   : !r->indirect              ? RING_INDIRECT_UNNEGOTIATED
				   : flags & VRING_DESC_F_NEXT ? RING_INDIRECT_WITH_NEXT
				   : len == 0                  ? RING_INDIRECT_EMPTY
				   : len % 16                  ? RING_INDIRECT_SIZE
				   : len / 16 > r->table_max   ? RING_INDIRECT_TOO_LONG
				   : !naive_inside(addr, len)  ? RING_INDIRECT_OUTSIDE
							       : RING_OK;
			if (n->fault)
				return;
			in_table = true;
			table = addr;
			entries = len / 16;
			limit = MAX(limit, entries);
			i = 0;
			continue;
		}
		n->fault = len == 0                                 ? RING_ZERO_LENGTH
			   : wrote && !(flags & VRING_DESC_F_WRITE) ? RING_READ_AFTER_WRITE
			   : memory && !naive_inside(addr, len)     ? RING_OUTSIDE_MEMORY
								    : RING_OK;
		if (n->fault)
			return;
		wrote = flags & VRING_DESC_F_WRITE;
		n->segs[n->count++] = (struct ring_seg){ .addr = { addr },
							 .len = (uint32_t)len,
							 .writable = wrote };
		if (!(flags & VRING_DESC_F_NEXT))
			return;
		n->fault = n->count == limit ? RING_CHAIN_TOO_LONG
			   : next >= entries ? RING_NEXT_RANGE
					     : RING_OK;
		if (n->fault)
			return;
		i = next;
	}
}

/* ---- the comparison -------------------------------------------------------- */

static void compare(const struct ring_chain *chain, const struct naive_result *n)
{
	uint64_t bytes[2] = { 0, 0 };
	uint32_t readable = 0;

	require(chain->count == n->count);
	for (uint32_t i = 0; i < n->count; i++) {
		require(chain->segs[i].addr.v == n->segs[i].addr.v);
		require(chain->segs[i].len == n->segs[i].len);
		require(chain->segs[i].writable == n->segs[i].writable);
		bytes[n->segs[i].writable] += n->segs[i].len;
		readable += !n->segs[i].writable;
	}
	require(chain->readable == readable);
	require(chain->readable_bytes == bytes[0]);
	require(chain->writable_bytes == bytes[1]);
}

static void drive(struct device_ring *r, bool memory, unsigned int completions)
{
	static struct ring_seg segs[TABLE_MAX_HERE];
	static struct naive_result n;
	struct ring_chain chain = { .segs = segs };

	for (unsigned int round = 0; round < 3 * SIZE_MAX_HERE; round++) {
		uint16_t avail = shm_load16(&ring.avail->idx), before = r->last_avail;
		uint16_t head = shm_load16(&ring.avail->ring[before & (ring.size - 1)]);
		bool judged = r->avail_seen != before;
		int rc = device_ring_take(r, &chain);

		if (!judged && avail == before) {
			require(rc == 0);
			break;
		}
		if (!judged && ((uint16_t)(avail - before) > ring.size ||
				(uint16_t)(avail - r->used_idx) > ring.size)) {
			require(rc == -EPROTO && r->error.fault == RING_AVAIL_JUMPED);
			break;
		}
		if (head >= ring.size) {
			require(rc == -EPROTO && r->error.fault == RING_HEAD_RANGE);
			break;
		}
		naive_walk(&n, head, r, memory);
		if (n.fault) {
			require(rc == -EPROTO && r->error.fault == n.fault);
			require(r->last_avail == before);
			break;
		}
		require(rc == 1 && chain.head == head);
		compare(&chain, &n);
		for (unsigned int i = 0; i < completions && device_ring_outstanding(r); i++)
			device_ring_complete(r, head, n.count); /* writes into the input, too */
		device_ring_publish(r);
		(void)device_ring_must_call(r);
	}
	(void)device_ring_arm(r);
	device_ring_disarm(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct memory_region regions[REGIONS];
	struct split_offsets o;
	struct memory *memory;
	struct device_ring r;
	unsigned int completions, data_first;
	uint64_t features = 0;
	bool with_memory;
	uint16_t index;

	if (size < 3)
		return 0;
	data_first = data[0];
	ring.size = (uint16_t)(1u << (data_first & 7));
	with_memory = !(data[0] & 32);
	if (with_memory && data[0] & 8) /* without, a table is a pointer in the input */
		features |= BIT64(VIRTIO_RING_F_INDIRECT_DESC);
	if (data[0] & 16)
		features |= BIT64(VIRTIO_RING_F_EVENT_IDX);
	index = (uint16_t)(data[1] * 257u);
	completions = data[2] % 4;
	o = split_offsets(ring.size);
	require(o.total <= plan[0].size);
	data += 3;
	size -= 3;
	for (unsigned int i = 0; i < REGIONS; i++) {
		size_t here = MIN(size, plan[i].size);

		blocks[i] = aligned_alloc(64, align_up(plan[i].size, 64));
		require(blocks[i]);
		memset(blocks[i], 0, plan[i].size);
		if (here)
			memcpy(blocks[i], data, here);
		data += here;
		size -= here;
		regions[i] = (struct memory_region){ .gpa = { plan[i].gpa },
						     .uva = { plan[i].gpa },
						     .size = plan[i].size,
						     .host = blocks[i] };
	}
	require(memory_create(regions, REGIONS, &memory, NULL) == 0);
	ring.desc = (void *)(blocks[0] + o.desc);
	ring.avail = (void *)(blocks[0] + o.avail);
	ring.used = (void *)(blocks[0] + o.used);
	device_ring_init(&r, &(struct device_ring_config){
				     .split = ring,
				     .memory = with_memory ? memory : NULL,
				     .features = features,
				     .at = ring_position_split(index),
				     .table_max = data_first & 64 ? TABLE_MAX_HERE : 0 });
	drive(&r, with_memory, completions);
	memory_unref(&memory);
	for (unsigned int i = 0; i < REGIONS; i++)
		free(blocks[i]);
	return 0;
}
