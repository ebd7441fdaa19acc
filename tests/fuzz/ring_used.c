/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libFuzzer: whatever a device writes into the memory that it shares with us,
 * the driver side hands out each token that is in flight once, and no other,
 * and its books balance.
 *
 * The input is a program for both sides:
 *	byte 0	bits 0-3 logarithm of the ring's size, modulo 10; bit 4
 *		INDIRECT_DESC, bit 5 EVENT_IDX, bit 6 IN_ORDER
 *	byte 1	index to start from: low byte, times 257
 *	then	operations of one byte, with operands behind: see run()
 */
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "ring/driver_ring.h"

#define SIZE_MAX_HERE 512u
#define TABLE_MAX_HERE 1024u
#define TOKENS 1024u /* more than can be in flight */

static struct {
	struct driver_ring ring;
	struct driver_layout layout;
	uint8_t *shared;
	/* what the naive book-keeper knows of each token */
	struct {
		bool in_flight;
		uint64_t writable;
	} tokens[TOKENS];
	uint32_t in_flight;      /* tokens */
	uint16_t newest[TOKENS]; /* tokens in the order of adding */
	uint64_t added;
	uint16_t next_token;
	struct input in;
} f;

static uint32_t operand(unsigned int bytes)
{
	uint32_t v = 0;

	for (unsigned int i = 0; i < bytes; i++)
		v |= (uint32_t)take(&f.in) << 8 * i;
	return v;
}

static void add(void)
{
	static struct driver_seg segs[TABLE_MAX_HERE + 1];
	uint32_t count = operand(1), readable = operand(1), len = operand(1);
	uint64_t writable = 0;
	int rc;

	if (count > 250) /* now and then as long as the ring, or longer */
		count = (count % 2 ? f.ring.split.size : f.layout.longest) + count - 252u;
	for (uint32_t i = 0; i < MIN(count, f.layout.longest); i++) {
		segs[i] = (struct driver_seg){ .addr = { i },
					       .len = len + 1,
					       .writable = i >= readable };
		writable += segs[i].writable ? segs[i].len : 0;
	}
	while (f.tokens[f.next_token].in_flight)
		f.next_token = (uint16_t)((f.next_token + 1) % TOKENS);
	rc = driver_ring_add(&f.ring, segs, count, f.next_token);
	if (rc != 1)
		return;
	require(count >= 1 && count <= f.layout.longest);
	f.tokens[f.next_token].in_flight = true;
	f.tokens[f.next_token].writable = writable;
	f.newest[f.added++ % TOKENS] = f.next_token;
	f.in_flight++;
}

static void get(void)
{
	struct driver_done done;
	bool was_broken = f.ring.error.fault != RING_OK;
	int rc = driver_ring_get(&f.ring, &done);

	require(rc == 1 || rc == 0 || rc == -EPROTO);
	require((rc == -EPROTO) == (f.ring.error.fault != RING_OK));
	require(!was_broken || rc == -EPROTO);
	if (rc != 1)
		return;
	require(done.token < TOKENS && f.tokens[done.token].in_flight);
	require(done.len <= f.tokens[done.token].writable);
	f.tokens[done.token].in_flight = false;
	f.in_flight--;
}

static void unadd(void)
{
	uint32_t count = operand(1) % 16;

	if (driver_ring_unadd(&f.ring, (uint16_t)count))
		return;
	while (count--) {
		uint16_t token = f.newest[--f.added % TOKENS];

		require(f.tokens[token].in_flight);
		f.tokens[token].in_flight = false;
		f.in_flight--;
	}
}

/* The device writes @n bytes anywhere into what it shares. */
static void scribble(void)
{
	uint32_t at = operand(3) % (uint32_t)f.layout.shared_bytes;
	uint32_t n = operand(1);

	for (; n && at < f.layout.shared_bytes; n--)
		f.shared[at++] = (uint8_t)operand(1);
}

/* The device writes what looks like a used entry, or moves its index. */
static void use(bool likely_id)
{
	uint16_t idx = shm_load16(&f.ring.split.used->idx);
	struct split_used_elem *e = &f.ring.split.used->ring[idx & (f.ring.split.size - 1)];
	uint32_t id = operand(likely_id ? 1 : 4);

	if (likely_id)
		id = shm_load16(&f.ring.split.avail->ring[id & (f.ring.split.size - 1u)]);
	shm_store32(&e->id, id);
	shm_store32(&e->len, operand(1) * 3);
	shm_store16(&f.ring.split.used->idx, (uint16_t)(idx + operand(1) % 8));
}

static void check_books(void)
{
	require(driver_ring_in_flight(&f.ring) == f.in_flight);
	require(f.ring.free_count <= f.ring.split.size);
	require(f.ring.large_free_count <= f.layout.large_count);
	require(f.ring.long_free_count <= f.layout.long_count);
	if (f.in_flight == 0) {
		require(f.ring.free_count == f.ring.split.size);
		require(f.ring.large_free_count == f.layout.large_count);
		require(f.ring.long_free_count == f.layout.long_count);
	}
}

static void run(void)
{
	while (f.in.left) {
		switch (operand(1) % 10) {
		case 0:
			add();
			break;
		case 1:
			driver_ring_publish(&f.ring);
			break;
		case 2:
			get();
			break;
		case 3:
			unadd();
			break;
		case 4:
			scribble();
			break;
		case 5:
		case 6:
			use(true);
			break;
		case 7:
			use(false);
			break;
		case 8:
			(void)driver_ring_must_kick(&f.ring);
			(void)driver_ring_has_used(&f.ring);
			break;
		default:
			driver_ring_disarm(&f.ring);
			(void)driver_ring_arm(&f.ring);
			break;
		}
		check_books();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t features;
	uint16_t ring_size;
	uint32_t table_max;
	void *private;

	if (size < 2)
		return 0;
	ring_size = (uint16_t)(1u << (data[0] & 15) % 10);
	features = (data[0] & 16 ? BIT64(VIRTIO_RING_F_INDIRECT_DESC) : 0) |
		   (data[0] & 32 ? BIT64(VIRTIO_RING_F_EVENT_IDX) : 0) |
		   (data[0] & 64 ? BIT64(VIRTIO_F_IN_ORDER) : 0);
	memset(f.tokens, 0, sizeof(f.tokens));
	f.in_flight = 0;
	f.added = 0;
	f.next_token = 0;
	table_max = data[0] & 128 ? TABLE_MAX_HERE : 0;
	f.layout = driver_ring_layout(ring_size, features, table_max);
	f.shared = aligned_alloc(64, align_up(f.layout.shared_bytes, 64));
	private = aligned_alloc(16, align_up(f.layout.private_bytes, 16));
	require(f.shared && private);
	require(driver_ring_init(&f.ring, &(struct driver_ring_config){
						  .size = ring_size,
						  .features = features,
						  .shared = f.shared,
						  .shared_addr = { (uintptr_t)f.shared },
						  .private = private,
						  .table_max = table_max,
						  .base = ring_position_split(
							  (uint16_t)(data[1] * 257u)) }) == 0);
	f.in.at = data + 2;
	f.in.left = size - 2;
	run();
	free(f.shared);
	free(private);
	return 0;
}
