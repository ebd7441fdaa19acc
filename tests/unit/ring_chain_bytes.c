/* SPDX-License-Identifier: BSD-2-Clause */
/* What is promised of a chain's bytes, over regions that adjoin for the guest alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "random.h"
#include "ring/chain_bytes.h"

#define GPA UINT64_C(0x40000000)
#define PIECE 64u /* bytes of a region */
#define REGIONS 8u
#define ALL (PIECE * REGIONS)

static uint8_t pieces[REGIONS][2 * PIECE]; /* what is behind each belongs to nobody */
static uint8_t *byte_at(uint64_t offset)
{
	/* In another order than the guest has them. */
	return &pieces[(offset / PIECE * 5 + 3) % REGIONS][offset % PIECE];
}

static struct memory *memory_make(void)
{
	struct memory_region regions[REGIONS];
	struct memory *memory = NULL;
	struct umbra_error err;

	for (uint64_t i = 0; i < REGIONS; i++)
		regions[i] = (struct memory_region){ .gpa = { GPA + i * PIECE },
						     .uva = { 0x1000 + i * PIECE },
						     .size = PIECE,
						     .host = byte_at(i * PIECE) };
	assert_int_equal(memory_create(regions, REGIONS, &memory, &err), 0);
	return memory;
}

static struct ring_chain chain_make(struct ring_seg *segs, uint32_t count)
{
	struct ring_chain chain = { .segs = segs, .count = count, .readable = below(count + 1) };

	for (uint32_t i = 0; i < count; i++) {
		uint32_t at = below(ALL);

		segs[i] = (struct ring_seg){ .addr = { GPA + at },
					     .len = 1 + below(ALL - at),
					     .writable = i >= chain.readable };
	}
	return chain;
}

static void the_readable_bytes_are_read_up_to_the_limit(void **state)
{
	struct memory *memory = memory_make();
	uint8_t want[6 * ALL], got[6 * ALL + 8];
	struct ring_seg segs[6];

	(void)state;
	for (unsigned int round = 0; round < 2000; round++) {
		struct ring_chain chain = chain_make(segs, 1 + below(6));
		size_t length = 0, max = below(6 * ALL);

		for (uint64_t i = 0; i < ALL; i++)
			*byte_at(i) = (uint8_t)below(256);
		for (uint32_t i = 0; i < chain.readable; i++)
			for (uint32_t n = 0; n < segs[i].len; n++)
				want[length++] = *byte_at(segs[i].addr.v - GPA + n);
		length = MIN(length, max);
		memset(got, 0xee, sizeof(got));
		assert_int_equal(chain_read(&chain, memory, got, max), length);
		assert_memory_equal(got, want, length);
		assert_int_equal(got[length], 0xee);
	}
	memory_unref(&memory);
}

static void the_segments_are_written_and_nothing_beside_them(void **state)
{
	struct memory *memory = memory_make();
	uint8_t bytes[6 * ALL], want[ALL];
	struct ring_seg segs[6];

	(void)state;
	for (unsigned int round = 0; round < 2000; round++) {
		struct ring_chain chain = chain_make(segs, 1 + below(6));
		size_t length = 0;

		memset(pieces, 0xee, sizeof(pieces));
		memset(want, 0xee, sizeof(want));
		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] = (uint8_t)below(256);
		for (uint32_t i = 0; i < chain.count; i++)
			for (uint32_t n = 0; n < segs[i].len; n++)
				want[segs[i].addr.v - GPA + n] = bytes[length++];
		segments_write(segs, chain.count, memory, bytes);
		for (uint64_t i = 0; i < ALL; i++)
			assert_int_equal(*byte_at(i), want[i]);
		for (unsigned int i = 0; i < REGIONS; i++)
			for (unsigned int n = PIECE; n < 2 * PIECE; n++)
				assert_int_equal(pieces[i][n], 0xee);
	}
	memory_unref(&memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_readable_bytes_are_read_up_to_the_limit),
		cmocka_unit_test(the_segments_are_written_and_nothing_beside_them),
	};

	random_begin_anew();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
