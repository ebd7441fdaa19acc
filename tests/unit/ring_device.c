/* SPDX-License-Identifier: BSD-2-Clause */
/* What the device side promises, against a hand-written driver. */
#include "ring_rig.h"

/* ---- honest drivers ------------------------------------------------------- */

static void an_empty_ring_gives_zero_not_an_error(void **state)
{
	struct rig *g = rig_new(4, 0, 0);

	(void)state;
	assert_int_equal(rig_take(g), 0);
	assert_int_equal(g->device.error.fault, RING_OK);
	rig_free(g);
}

static void a_chain_arrives_whole_and_in_order(void **state)
{
	struct rig *g = rig_new(8, 0, 0);

	(void)state;
	put_desc(g, 5, BUF + 0x100, 10, F_NEXT, 2);
	put_desc(g, 2, BUF + 0x200, 20, F_NEXT, 7);
	put_desc(g, 7, BUF + 0x300, 30, F_NEXT | F_WRITE, 0);
	put_desc(g, 0, BUF + 0x400, 40, F_WRITE, 0);
	make_available(g, 5);
	assert_int_equal(rig_take(g), 1);
	assert_int_equal(g->chain.count, 4);
	assert_int_equal(g->chain.readable, 2);
	assert_int_equal(g->chain.readable_bytes, 30);
	assert_int_equal(g->chain.writable_bytes, 70);
	assert_int_equal(g->chain.head, 5);
	for (unsigned int i = 0; i < 4; i++) {
		assert_int_equal(g->chain.segs[i].addr.v, BUF + 0x100 * (i + 1));
		assert_int_equal(g->chain.segs[i].len, 10 * (i + 1));
		assert_int_equal(g->chain.segs[i].writable, i >= 2);
	}
	assert_int_equal(rig_take(g), 0);
	rig_free(g);
}

static void a_chain_that_fills_the_ring_is_taken(void **state)
{
	struct rig *g = rig_new(256, 0, 0);

	(void)state;
	for (unsigned int i = 0; i < 256; i++)
		put_desc(g, i, BUF, 1, i < 255 ? F_NEXT : 0, i + 1);
	make_available(g, 0);
	assert_int_equal(rig_take(g), 1);
	assert_int_equal(g->chain.count, 256);
	rig_free(g);
}

static void unknown_flag_bits_are_ignored(void **state)
{
	struct rig *g = rig_new(2, 0, 0);

	(void)state;
	put_desc(g, 0, BUF, 1, 0xfff8, 1000);
	make_available(g, 0);
	assert_int_equal(rig_take(g), 1);
	assert_int_equal(g->chain.count, 1);
	assert_int_equal(g->chain.readable, 1);
	rig_free(g);
}

static void byte_counts_do_not_wrap_at_32_bits(void **state)
{
	struct rig *g = rig_new(4, 0, 0);

	(void)state;
	g->device.memory = NULL;
	for (unsigned int i = 0; i < 4; i++)
		put_desc(g, i, 0, UINT32_MAX, i < 3 ? F_NEXT | F_WRITE : F_WRITE, i + 1);
	make_available(g, 0);
	assert_int_equal(rig_take(g), 1);
	assert_true(g->chain.writable_bytes == UINT64_C(4) * UINT32_MAX);
	rig_free(g);
}

static void what_was_taken_does_not_change_when_the_driver_rewrites_it(void **state)
{
	struct rig *g = rig_new(4, 0, 0);

	(void)state;
	put_desc(g, 0, BUF + 0x100, 10, 0, 0);
	make_available(g, 0);
	assert_int_equal(rig_take(g), 1);
	memset(g->split.desc, 0xff, 64);
	assert_int_equal(g->chain.segs[0].addr.v, BUF + 0x100);
	assert_int_equal(g->chain.segs[0].len, 10);
	assert_int_equal(g->chain.segs[0].writable, 0);
	rig_free(g);
}

static void untaken_chains_are_taken_again(void **state)
{
	struct rig *g = rig_new(4, 0, 65534);

	(void)state;
	for (uint16_t i = 0; i < 4; i++) {
		put_desc(g, i, BUF + i, 1, 0, 0);
		make_available(g, i);
	}
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(rig_take(g), 1);
	assert_int_equal(device_ring_outstanding(&g->device), 4);
	device_ring_untake(&g->device, 3);
	assert_int_equal(device_ring_outstanding(&g->device), 1);
	for (unsigned int i = 1; i < 4; i++) {
		assert_int_equal(rig_take(g), 1);
		assert_int_equal(g->chain.head, i);
	}
	assert_int_equal(rig_take(g), 0);
	rig_free(g);
}

static void completions_are_invisible_until_published(void **state)
{
	struct rig *g = rig_new(4, 0, 0);

	(void)state;
	for (uint16_t i = 0; i < 2; i++) {
		put_desc(g, i, BUF, 16, F_WRITE, 0);
		make_available(g, i);
		assert_int_equal(rig_take(g), 1);
	}
	device_ring_complete(&g->device, 1, 7);
	device_ring_complete(&g->device, 0, 9);
	assert_int_equal(shm_load16(&g->split.used->idx), 0);
	device_ring_publish(&g->device);
	assert_int_equal(shm_load16(&g->split.used->idx), 2);
	assert_int_equal(shm_load32(&g->split.used->ring[0].id), 1);
	assert_int_equal(shm_load32(&g->split.used->ring[0].len), 7);
	assert_int_equal(shm_load32(&g->split.used->ring[1].id), 0);
	assert_int_equal(shm_load32(&g->split.used->ring[1].len), 9);
	rig_free(g);
}

static void a_ring_goes_on_where_another_device_stopped(void **state)
{
	struct rig *g = rig_new(4, 0, 65535);

	(void)state;
	put_desc(g, 3, BUF, 1, 0, 0);
	make_available(g, 3);
	put_desc(g, 1, BUF, 1, 0, 0);
	make_available(g, 1);
	/* the first was consumed by somebody else and is still outstanding */
	device_ring_init(&g->device,
			 &(struct device_ring_config){ .split = g->split,
						       .memory = g->memory,
						       .at = { RING_SPLIT, 0, 65535 } });
	assert_int_equal(device_ring_outstanding(&g->device), 1);
	assert_int_equal(rig_take(g), 1);
	assert_int_equal(g->chain.head, 1);
	device_ring_complete(&g->device, 3, 0);
	device_ring_complete(&g->device, 1, 0);
	device_ring_publish(&g->device);
	assert_int_equal(shm_load16(&g->split.used->idx), 1);
	assert_int_equal(shm_load32(&g->split.used->ring[3].id), 3);
	assert_int_equal(shm_load32(&g->split.used->ring[0].id), 1);
	rig_free(g);
}

/* ---- indirect tables ------------------------------------------------------ */

static void an_indirect_chain_arrives_like_a_direct_one(void **state)
{
	struct rig *g = rig_new(4, INDIRECT, 0);

	(void)state;
	put_table(g, 0, BUF + 0x100, 10, F_NEXT, 2);
	put_table(g, 2, BUF + 0x200, 20, F_NEXT | F_WRITE, 1);
	put_table(g, 1, BUF + 0x300, 30, F_WRITE, 0);
	put_indirect(g, 3, 48);
	make_available(g, 3);
	assert_int_equal(rig_take(g), 1);
	assert_int_equal(g->chain.head, 3);
	assert_int_equal(g->chain.count, 3);
	assert_int_equal(g->chain.readable, 1);
	assert_int_equal(g->chain.segs[1].addr.v, BUF + 0x200);
	assert_int_equal(g->chain.segs[2].addr.v, BUF + 0x300);
	rig_free(g);
}

static void direct_descriptors_may_come_before_an_indirect_table(void **state)
{
	struct rig *g = rig_new(4, INDIRECT, 0);

	(void)state;
	put_desc(g, 0, BUF + 0x100, 1, F_NEXT, 1);
	put_indirect(g, 1, 32);
	put_table(g, 0, BUF + 0x200, 1, F_NEXT, 1);
	put_table(g, 1, BUF + 0x300, 1, F_WRITE, 0);
	make_available(g, 0);
	assert_int_equal(rig_take(g), 1);
	assert_int_equal(g->chain.count, 3);
	assert_int_equal(g->chain.segs[0].addr.v, BUF + 0x100);
	assert_int_equal(g->chain.segs[2].addr.v, BUF + 0x300);
	rig_free(g);
}

static void the_write_flag_of_an_indirect_descriptor_is_ignored(void **state)
{
	struct rig *g = rig_new(4, INDIRECT, 0);

	(void)state;
	put_desc(g, 0, RAM_GPA + TABLE_AT, 16, F_INDIRECT | F_WRITE, 0);
	put_table(g, 0, BUF, 1, 0, 0);
	make_available(g, 0);
	assert_int_equal(rig_take(g), 1);
	assert_int_equal(g->chain.readable, 1);
	rig_free(g);
}

static void a_table_without_alignment_is_read(void **state)
{
	(void)state;
	for (unsigned int shift = 1; shift < 16; shift++) {
		struct rig *g = rig_new(4, INDIRECT, 0);

		for (unsigned int with_memory = 0; with_memory < 2; with_memory++) {
			uint64_t table = RAM_GPA + TABLE_AT + shift;

			g->device.memory = with_memory ? g->memory : NULL;
			if (!with_memory)
				table = (uintptr_t)g->ram + TABLE_AT + shift;
			put_desc_at(g->ram + TABLE_AT + shift, BUF + 0x123456789, 0x01020304,
				    F_NEXT, 1);
			if (with_memory)
				put_desc_at(g->ram + TABLE_AT + shift, BUF + 0x1234, 0x8765, F_NEXT,
					    1);
			put_desc_at(g->ram + TABLE_AT + shift + 16, BUF + 0x300, 3, F_WRITE, 0);
			put_desc(g, 0, table, 32, F_INDIRECT, 0);
			make_available(g, 0);
			assert_int_equal(rig_take(g), 1);
			assert_int_equal(g->chain.count, 2);
			assert_int_equal(g->chain.segs[0].addr.v,
					 with_memory ? BUF + 0x1234 : BUF + 0x123456789);
			assert_int_equal(g->chain.segs[0].len, with_memory ? 0x8765 : 0x01020304);
			assert_int_equal(g->chain.segs[1].addr.v, BUF + 0x300);
			assert_int_equal(g->chain.segs[1].writable, 1);
		}
		rig_free(g);
	}
}

/* Two regions that adjoin for the guest and are far apart for us; the table
 * crosses from one to the other at every byte. */
static void a_table_across_adjoining_regions_is_read(void **state)
{
	const uint64_t border = RAM_GPA + RAM_BYTES;
	uint8_t *high = calloc(1, 4096);

	(void)state;
	assert_non_null(high);
	for (unsigned int before = 1; before < 48; before++) {
		struct rig *g = rig_new(4, INDIRECT, 0);
		struct memory_region regions[2] = { rig_region(border, high, 4096),
						    rig_region(RAM_GPA, g->ram, RAM_BYTES) };
		uint8_t table[48];

		rig_memory(g, regions, 2);
		for (unsigned int i = 0; i < 3; i++)
			put_desc_at(table + 16 * i, BUF + 0x100 * i, i + 1, i < 2 ? F_NEXT : 0,
				    i + 1);
		memcpy(g->ram + RAM_BYTES - before, table, before);
		memcpy(high, table + before, 48 - before);
		put_desc(g, 0, border - before, 48, F_INDIRECT, 0);
		make_available(g, 0);
		assert_int_equal(rig_take(g), 1);
		assert_int_equal(g->chain.count, 3);
		for (unsigned int i = 0; i < 3; i++) {
			assert_int_equal(g->chain.segs[i].addr.v, BUF + 0x100 * i);
			assert_int_equal(g->chain.segs[i].len, i + 1);
		}
		rig_free(g);
	}
	free(high);
}

static void a_buffer_across_adjoining_regions_is_accepted(void **state)
{
	uint8_t *high = calloc(1, 4096);
	struct rig *g = rig_new(4, 0, 0);
	struct memory_region regions[2] = { rig_region(RAM_GPA, g->ram, RAM_BYTES),
					    rig_region(RAM_GPA + RAM_BYTES, high, 4096) };

	(void)state;
	rig_memory(g, regions, 2);
	put_desc(g, 0, RAM_GPA + RAM_BYTES - 10, 20, 0, 0);
	make_available(g, 0);
	assert_int_equal(rig_take(g), 1);
	put_desc(g, 0, RAM_GPA + RAM_BYTES - 10, 4096 + 10, 0, 0);
	make_available(g, 0);
	assert_int_equal(rig_take(g), 1);
	put_desc(g, 0, RAM_GPA + RAM_BYTES - 10, 4096 + 11, 0, 0);
	make_available(g, 0);
	expect_broken(g, RING_OUTSIDE_MEMORY, RAM_GPA + RAM_BYTES - 10, 4096 + 11);
	rig_free(g);
	free(high);
}

static void inside_one_program_tables_are_host_pointers(void **state)
{
	struct rig *g = rig_new(4, INDIRECT, 0);
	_Alignas(16) uint8_t table[32];

	(void)state;
	g->device.memory = NULL;
	put_desc_at(table, 1, 2, F_NEXT, 1);
	put_desc_at(table + 16, 3, 4, F_WRITE, 0);
	put_desc(g, 0, (uintptr_t)table, 32, F_INDIRECT, 0);
	make_available(g, 0);
	assert_int_equal(rig_take(g), 1);
	assert_int_equal(g->chain.count, 2);
	assert_int_equal(g->chain.segs[1].addr.v, 3);
	rig_free(g);
}

/* ---- drivers that lie: one test for each fault ---------------------------- */

static void an_index_ahead_of_the_ring_breaks_it(void **state)
{
	struct rig *g = rig_new(4, 0, 65533);

	(void)state;
	shm_store16(&g->split.avail->idx, (uint16_t)(65533 + 5));
	expect_broken(g, RING_AVAIL_JUMPED, 5, 4);
	rig_free(g);
}

static void an_index_that_goes_back_breaks_the_ring(void **state)
{
	struct rig *g = rig_new(4, 0, 100);

	(void)state;
	shm_store16(&g->split.avail->idx, 99);
	expect_broken(g, RING_AVAIL_JUMPED, 65535, 4);
	rig_free(g);
}

/* Back over chains that are outstanding: their number alone looks right. */
static void an_index_that_takes_chains_back_breaks_the_ring(void **state)
{
	struct rig *g = rig_new(4, 0, 65535);

	(void)state;
	for (uint16_t i = 0; i < 2; i++) {
		put_desc(g, i, BUF, 1, 0, 0);
		make_available(g, i);
		assert_int_equal(rig_take(g), 1);
	}
	shm_store16(&g->split.avail->idx, 0);
	expect_broken(g, RING_AVAIL_JUMPED, 65535, 4);
	rig_free(g);
}

static void more_chains_outstanding_than_descriptors_break_the_ring(void **state)
{
	struct rig *g = rig_new(4, 0, 0);

	(void)state;
	for (uint16_t i = 0; i < 4; i++) {
		put_desc(g, i, BUF, 1, 0, 0);
		make_available(g, i);
		assert_int_equal(rig_take(g), 1);
	}
	make_available(g, 0);
	expect_broken(g, RING_AVAIL_JUMPED, 5, 4);
	rig_free(g);
}

static void a_head_outside_the_ring_breaks_it(void **state)
{
	static const uint16_t heads[] = { 4, 5, 256, 65535 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(heads); i++) {
		struct rig *g = rig_new(4, 0, 0);

		make_available(g, heads[i]);
		expect_broken(g, RING_HEAD_RANGE, heads[i], 4);
		rig_free(g);
	}
}

static void a_link_outside_the_ring_breaks_it(void **state)
{
	static const uint16_t links[] = { 4, 65535 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
		struct rig *g = rig_new(4, 0, 0);

		put_desc(g, 2, BUF, 1, F_NEXT, links[i]);
		make_available(g, 2);
		expect_broken(g, RING_NEXT_RANGE, links[i], 4);
		assert_int_equal(g->device.error.head, 2);
		rig_free(g);
	}
}

static void a_link_outside_the_table_breaks_the_ring(void **state)
{
	struct rig *g = rig_new(4, INDIRECT, 0);

	(void)state;
	put_indirect(g, 0, 32);
	put_table(g, 0, BUF, 1, F_NEXT, 2); /* inside the ring, outside the table */
	make_available(g, 0);
	expect_broken(g, RING_NEXT_RANGE, 2, 2);
	rig_free(g);
}

static void a_loop_breaks_the_ring(void **state)
{
	static const uint16_t sizes[] = { 1, 2, 4, 32768 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct rig *g = rig_new(sizes[i], 0, 0);

		put_desc(g, 0, BUF, 1, F_NEXT, 0);
		make_available(g, 0);
		expect_broken(g, RING_CHAIN_TOO_LONG, sizes[i], sizes[i]);
		rig_free(g);
	}
}

static void a_loop_in_a_table_breaks_the_ring(void **state)
{
	struct rig *g = rig_new(8, INDIRECT, 0);

	(void)state;
	put_indirect(g, 0, 48);
	put_table(g, 0, BUF, 1, F_NEXT, 1);
	put_table(g, 1, BUF, 1, F_NEXT, 2);
	put_table(g, 2, BUF, 1, F_NEXT, 1);
	make_available(g, 0);
	expect_broken(g, RING_CHAIN_TOO_LONG, 8, 8);
	rig_free(g);
}

static void direct_and_indirect_together_longer_than_the_ring_break_it(void **state)
{
	struct rig *g = rig_new(4, INDIRECT, 0);

	(void)state;
	put_desc(g, 0, BUF, 1, F_NEXT, 1);
	put_indirect(g, 1, 64);
	for (unsigned int i = 0; i < 4; i++)
		put_table(g, i, BUF, 1, i < 3 ? F_NEXT : 0, i + 1);
	make_available(g, 0);
	expect_broken(g, RING_CHAIN_TOO_LONG, 4, 4);
	rig_free(g);
}

static void a_readable_segment_after_a_writable_one_breaks_the_ring(void **state)
{
	struct rig *g = rig_new(4, 0, 0);

	(void)state;
	put_desc(g, 0, BUF, 1, F_NEXT, 1);
	put_desc(g, 1, BUF, 1, F_NEXT | F_WRITE, 2);
	put_desc(g, 2, BUF, 1, 0, 0);
	make_available(g, 0);
	expect_broken(g, RING_READ_AFTER_WRITE, 2, 0);
	rig_free(g);
}

static void the_order_is_judged_across_direct_and_indirect(void **state)
{
	struct rig *g = rig_new(4, INDIRECT, 0);

	(void)state;
	put_desc(g, 0, BUF, 1, F_NEXT | F_WRITE, 1);
	put_indirect(g, 1, 16);
	put_table(g, 0, BUF, 1, 0, 0);
	make_available(g, 0);
	expect_broken(g, RING_READ_AFTER_WRITE, 1, 0);
	rig_free(g);
}

static void a_segment_without_bytes_breaks_the_ring(void **state)
{
	struct rig *g = rig_new(4, 0, 0);

	(void)state;
	put_desc(g, 0, BUF, 1, F_NEXT, 1);
	put_desc(g, 1, BUF, 0, 0, 0);
	make_available(g, 0);
	expect_broken(g, RING_ZERO_LENGTH, 1, 0);
	rig_free(g);
}

static void a_segment_outside_memory_breaks_the_ring(void **state)
{
	static const struct {
		uint64_t addr;
		uint32_t len;
	} bad[] = {
		{ RAM_GPA - 1, 1 },
		{ RAM_GPA - 1, 2 },
		{ RAM_GPA + RAM_BYTES, 1 },
		{ RAM_GPA + RAM_BYTES - 1, 2 },
		{ RAM_GPA, RAM_BYTES + 1 },
		{ RAM_GPA, UINT32_MAX },
		{ UINT64_MAX, 1 },
		{ UINT64_MAX, 2 },
		{ UINT64_MAX - 0xff, 0x200 },
		{ 0, 1 },
		{ -(uint64_t)RAM_GPA, UINT32_MAX },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct rig *g = rig_new(4, 0, 0);

		put_desc(g, 0, bad[i].addr, bad[i].len, F_WRITE, 0);
		make_available(g, 0);
		expect_broken(g, RING_OUTSIDE_MEMORY, bad[i].addr, bad[i].len);
		rig_free(g);
	}
}

static void the_last_byte_of_memory_is_inside(void **state)
{
	struct rig *g = rig_new(4, 0, 0);

	(void)state;
	put_desc(g, 0, RAM_GPA + RAM_BYTES - 1, 1, F_WRITE, 0);
	make_available(g, 0);
	assert_int_equal(rig_take(g), 1);
	put_desc(g, 1, RAM_GPA, RAM_BYTES, F_WRITE, 0);
	make_available(g, 1);
	assert_int_equal(rig_take(g), 1);
	rig_free(g);
}

static void a_table_without_the_feature_breaks_the_ring(void **state)
{
	struct rig *g = rig_new(4, 0, 0);

	(void)state;
	put_indirect(g, 0, 16);
	put_table(g, 0, BUF, 1, 0, 0);
	make_available(g, 0);
	expect_broken(g, RING_INDIRECT_UNNEGOTIATED, 0, 0);
	rig_free(g);
}

static void a_table_in_a_table_breaks_the_ring(void **state)
{
	struct rig *g = rig_new(4, INDIRECT, 0);

	(void)state;
	put_indirect(g, 0, 32);
	put_table(g, 0, BUF, 1, F_NEXT, 1);
	put_table(g, 1, RAM_GPA + TABLE_AT, 16, F_INDIRECT, 0);
	make_available(g, 0);
	expect_broken(g, RING_INDIRECT_NESTED, 0, 0);
	rig_free(g);
}

static void a_table_with_a_successor_breaks_the_ring(void **state)
{
	struct rig *g = rig_new(4, INDIRECT, 0);

	(void)state;
	put_desc(g, 0, RAM_GPA + TABLE_AT, 16, F_INDIRECT | F_NEXT, 1);
	put_table(g, 0, BUF, 1, 0, 0);
	make_available(g, 0);
	expect_broken(g, RING_INDIRECT_WITH_NEXT, 0, 0);
	rig_free(g);
}

static void an_empty_table_breaks_the_ring(void **state)
{
	struct rig *g = rig_new(4, INDIRECT, 0);

	(void)state;
	put_indirect(g, 0, 0);
	make_available(g, 0);
	expect_broken(g, RING_INDIRECT_EMPTY, 0, 0);
	rig_free(g);
}

static void a_table_of_odd_size_breaks_the_ring(void **state)
{
	static const uint32_t sizes[] = { 1, 15, 17, 63, UINT32_MAX };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct rig *g = rig_new(4, INDIRECT, 0);

		put_indirect(g, 0, sizes[i]);
		make_available(g, 0);
		expect_broken(g, RING_INDIRECT_SIZE, sizes[i], 0);
		rig_free(g);
	}
}

static void a_table_longer_than_the_ring_breaks_it(void **state)
{
	struct rig *g = rig_new(4, INDIRECT, 0);

	(void)state;
	put_indirect(g, 0, 80);
	put_table(g, 0, BUF, 1, 0, 0);
	make_available(g, 0);
	expect_broken(g, RING_INDIRECT_TOO_LONG, 5, 4);
	rig_free(g);
}

static void a_table_outside_memory_breaks_the_ring(void **state)
{
	static const uint64_t bad[] = { 0,
					RAM_GPA - 16,
					RAM_GPA - 1,
					RAM_GPA + RAM_BYTES - 16,
					RAM_GPA + RAM_BYTES,
					UINT64_MAX - 15,
					UINT64_MAX - 31 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct rig *g = rig_new(4, INDIRECT, 0);

		put_desc(g, 0, bad[i], 32, F_INDIRECT, 0);
		make_available(g, 0);
		expect_broken(g, RING_INDIRECT_OUTSIDE, bad[i], 32);
		rig_free(g);
	}
}

static void a_table_across_a_hole_breaks_the_ring(void **state)
{
	uint8_t *high = calloc(1, 4096);
	struct rig *g = rig_new(4, INDIRECT, 0);
	struct memory_region regions[2] = { rig_region(RAM_GPA, g->ram, RAM_BYTES),
					    rig_region(RAM_GPA + RAM_BYTES + 16, high, 4096) };

	(void)state;
	rig_memory(g, regions, 2);
	put_desc(g, 0, RAM_GPA + RAM_BYTES - 16, 48, F_INDIRECT, 0);
	make_available(g, 0);
	expect_broken(g, RING_INDIRECT_OUTSIDE, RAM_GPA + RAM_BYTES - 16, 48);
	rig_free(g);
	free(high);
}

static void chains_taken_before_the_fault_can_be_completed(void **state)
{
	struct rig *g = rig_new(4, 0, 0);

	(void)state;
	put_desc(g, 0, BUF, 1, F_WRITE, 0);
	make_available(g, 0);
	assert_int_equal(rig_take(g), 1);
	make_available(g, 9);
	assert_int_equal(rig_take(g), -EPROTO);
	device_ring_complete(&g->device, 0, 1);
	device_ring_publish(&g->device);
	assert_true(device_ring_must_call(&g->device));
	assert_int_equal(shm_load16(&g->split.used->idx), 1);
	rig_free(g);
}

static void every_fault_has_a_sentence_of_its_own(void **state)
{
	static char texts[RING_FAULT_COUNT + 1][UMBRA_ERROR_SIZE];

	(void)state;
	for (unsigned int i = 0; i <= RING_FAULT_COUNT; i++) {
		struct ring_error e = { .fault = i, .head = 77, .value = 1234567, .limit = 256 };
		char *text = texts[i];

		assert_ptr_equal(ring_error_text(&e, text, sizeof(texts[i])), text);
		assert_true(strlen(text) > 15 && strlen(text) < sizeof(texts[i]) - 1);
		assert_int_equal(!strncmp(text, "unknown fault", 13), i == RING_FAULT_COUNT);
		for (unsigned int j = 0; j < i; j++)
			assert_string_not_equal(text, texts[j]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_ring_gives_zero_not_an_error),
		cmocka_unit_test(a_chain_arrives_whole_and_in_order),
		cmocka_unit_test(a_chain_that_fills_the_ring_is_taken),
		cmocka_unit_test(unknown_flag_bits_are_ignored),
		cmocka_unit_test(byte_counts_do_not_wrap_at_32_bits),
		cmocka_unit_test(what_was_taken_does_not_change_when_the_driver_rewrites_it),
		cmocka_unit_test(untaken_chains_are_taken_again),
		cmocka_unit_test(completions_are_invisible_until_published),
		cmocka_unit_test(a_ring_goes_on_where_another_device_stopped),
		cmocka_unit_test(an_indirect_chain_arrives_like_a_direct_one),
		cmocka_unit_test(direct_descriptors_may_come_before_an_indirect_table),
		cmocka_unit_test(the_write_flag_of_an_indirect_descriptor_is_ignored),
		cmocka_unit_test(a_table_without_alignment_is_read),
		cmocka_unit_test(a_table_across_adjoining_regions_is_read),
		cmocka_unit_test(a_buffer_across_adjoining_regions_is_accepted),
		cmocka_unit_test(inside_one_program_tables_are_host_pointers),
		cmocka_unit_test(an_index_ahead_of_the_ring_breaks_it),
		cmocka_unit_test(an_index_that_goes_back_breaks_the_ring),
		cmocka_unit_test(an_index_that_takes_chains_back_breaks_the_ring),
		cmocka_unit_test(more_chains_outstanding_than_descriptors_break_the_ring),
		cmocka_unit_test(a_head_outside_the_ring_breaks_it),
		cmocka_unit_test(a_link_outside_the_ring_breaks_it),
		cmocka_unit_test(a_link_outside_the_table_breaks_the_ring),
		cmocka_unit_test(a_loop_breaks_the_ring),
		cmocka_unit_test(a_loop_in_a_table_breaks_the_ring),
		cmocka_unit_test(direct_and_indirect_together_longer_than_the_ring_break_it),
		cmocka_unit_test(a_readable_segment_after_a_writable_one_breaks_the_ring),
		cmocka_unit_test(the_order_is_judged_across_direct_and_indirect),
		cmocka_unit_test(a_segment_without_bytes_breaks_the_ring),
		cmocka_unit_test(a_segment_outside_memory_breaks_the_ring),
		cmocka_unit_test(the_last_byte_of_memory_is_inside),
		cmocka_unit_test(a_table_without_the_feature_breaks_the_ring),
		cmocka_unit_test(a_table_in_a_table_breaks_the_ring),
		cmocka_unit_test(a_table_with_a_successor_breaks_the_ring),
		cmocka_unit_test(an_empty_table_breaks_the_ring),
		cmocka_unit_test(a_table_of_odd_size_breaks_the_ring),
		cmocka_unit_test(a_table_longer_than_the_ring_breaks_it),
		cmocka_unit_test(a_table_outside_memory_breaks_the_ring),
		cmocka_unit_test(a_table_across_a_hole_breaks_the_ring),
		cmocka_unit_test(chains_taken_before_the_fault_can_be_completed),
		cmocka_unit_test(every_fault_has_a_sentence_of_its_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
