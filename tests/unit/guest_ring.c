/* SPDX-License-Identifier: BSD-2-Clause */
/* What is promised of a ring that a front-end describes. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bits.h"
#include "virtio/guest_ring.h"

#define GPA UINT64_C(0x40000000)
#define UVA UINT64_C(0x7f0000000000)
#define BYTES 0x10000u
#define SIZE 8u

static _Alignas(4096) uint8_t ram[BYTES];
static struct memory *memory;
static struct guest_ring ring;
static struct umbra_error err;

/* A ring in one piece at @at of the guest's memory. */
static struct virtio_ring_addr addr_at(uint64_t at)
{
	struct split_offsets o = split_offsets(SIZE);

	return (struct virtio_ring_addr){ .desc = { UVA + at + o.desc },
					  .avail = { UVA + at + o.avail },
					  .used = { UVA + at + o.used } };
}

static int setup(void **state)
{
	const struct memory_region region = {
		.gpa = { GPA }, .uva = { UVA }, .size = BYTES, .host = ram
	};

	(void)state;
	memset(ram, 0, sizeof(ram));
	guest_ring_init(&ring, 5);
	return memory_create(&region, 1, &memory, &err);
}

static int teardown(void **state)
{
	(void)state;
	guest_ring_forget(&ring);
	memory_unref(&memory);
	return 0;
}

static void only_powers_of_two_are_sizes(void **state)
{
	static const uint32_t wrong[] = { 0, 3, 255, 32769, 65536, 0x80000000, UINT32_MAX };

	(void)state;
	for (uint32_t size = 1; size <= SPLIT_SIZE_MAX; size *= 2)
		assert_int_equal(guest_ring_check_size(&ring, size, &err), 0);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_int_equal(guest_ring_check_size(&ring, wrong[i], &err), -EINVAL);
	assert_int_equal(guest_ring_check_size(&ring, 65536, &err), -EINVAL);
	assert_string_equal(err.text, "queue 5: size 65536 is not a power of two from 1 to 32768");
}

static void what_was_not_said_is_named(void **state)
{
	struct virtio_ring_addr addr = addr_at(0);

	(void)state;
	assert_int_equal(guest_ring_find(&ring, memory, &err), -EINVAL);
	assert_string_equal(err.text, "queue 5: it has no size yet (SET_VRING_NUM)");
	assert_int_equal(guest_ring_find_at(&ring, &addr, memory, &err), -EINVAL);
	ring.size = SIZE;
	assert_int_equal(guest_ring_find(&ring, memory, &err), -EINVAL);
	assert_string_equal(err.text, "queue 5: it has no address yet (SET_VRING_ADDR)");
	assert_int_equal(guest_ring_find_at(&ring, &addr, NULL, &err), -EINVAL);
	assert_false(ring.has_addr);
}

static void a_ring_is_found_where_it_lies(void **state)
{
	struct virtio_ring_addr addr = addr_at(0x100);
	struct split_offsets o = split_offsets(SIZE);

	(void)state;
	ring.size = SIZE;
	assert_false(guest_ring_is_at(&ring, &addr));
	assert_int_equal(guest_ring_find_at(&ring, &addr, memory, &err), 0);
	assert_true(guest_ring_is_at(&ring, &addr));
	assert_ptr_equal(ring.split.desc, ram + 0x100 + o.desc);
	assert_ptr_equal(ring.split.avail, ram + 0x100 + o.avail);
	assert_ptr_equal(ring.split.used, ram + 0x100 + o.used);
	assert_int_equal(ring.split.size, SIZE);
	for (unsigned int part = 0; part < 3; part++) {
		struct virtio_ring_addr other = addr;

		(part == 0 ? &other.desc : part == 1 ? &other.avail : &other.used)->v += 64;
		assert_false(guest_ring_is_at(&ring, &other));
	}
}

/* Each part, with its last byte outside, and one step from where it may be. */
static void a_ring_that_is_not_there_in_full_is_refused_and_stays_where_it_was(void **state)
{
	static const struct {
		const char *name;
		uint64_t bytes, align;
	} parts[] = {
		{ "descriptor", 16 * SIZE, 16 },
		{ "avail", 6 + 2 * SIZE, 2 },
		{ "used", 6 + 8 * SIZE, 4 },
	};
	struct virtio_ring_addr good = addr_at(0x100);
	struct split_ring before;

	(void)state;
	ring.size = SIZE;
	assert_int_equal(guest_ring_find_at(&ring, &good, memory, &err), 0);
	before = ring.split;
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		const uint64_t wrong[] = {
			UVA + align_up(BYTES - parts[i].bytes, parts[i].align) + parts[i].align,
			UVA - parts[i].align,
			GPA,
			0,
			UINT64_MAX - parts[i].bytes / 2,
			UVA + 0x200 + parts[i].align / 2,
		};

		for (size_t n = 0; n < ARRAY_SIZE(wrong); n++) {
			struct virtio_ring_addr bad = good;

			(i == 0 ? &bad.desc : i == 1 ? &bad.avail : &bad.used)->v = wrong[n];
			assert_int_equal(guest_ring_find_at(&ring, &bad, memory, &err), -EINVAL);
			assert_non_null(strstr(err.text, "queue 5"));
			assert_non_null(strstr(err.text, parts[i].name));
			assert_true(guest_ring_is_at(&ring, &good));
			assert_memory_equal(&ring.split, &before, sizeof(before));
		}
	}
}

static void a_base_is_judged_by_the_ring(void **state)
{
	struct virtio_ring_addr addr = addr_at(0x100);

	(void)state;
	ring.size = SIZE;
	assert_int_equal(guest_ring_find_at(&ring, &addr, memory, &err), 0);
	ram[0x100 + split_offsets(SIZE).avail + 2] = 7;
	ram[0x100 + split_offsets(SIZE).used + 2] = 3;
	for (uint16_t base = 0; base < 12; base++) {
		ring.base = ring_position_split(base);
		if (base < 3 || base > 7) {
			assert_int_equal(guest_ring_judge(&ring, &err), -EPROTO);
			assert_non_null(strstr(err.text, "has used 3 and available 7"));
		} else {
			assert_int_equal(guest_ring_judge(&ring, &err), 0);
			assert_int_equal(ring_outstanding(ring.base, SIZE), base - 3);
		}
		assert_int_equal(ring.base.avail, base);
	}
}

static void a_reason_does_not_name_the_ring_of_which_it_is_kept(void **state)
{
	(void)state;
	ring.index = 12;
	assert_string_equal(guest_ring_reason(&ring, "queue 12: it has no size"), "it has no size");
	assert_string_equal(guest_ring_reason(&ring, "it has no size"), "it has no size");
	assert_string_equal(guest_ring_reason(&ring, "queue 1: another's"), "queue 1: another's");
	assert_string_equal(guest_ring_reason(&ring, "queue 12 of 13"), "queue 12 of 13");
	assert_string_equal(guest_ring_reason(&ring, ""), "");
}

static void what_is_forgotten_is_closed(void **state)
{
	struct virtio_ring_addr addr = addr_at(0x100);
	int fds[3];

	(void)state;
	for (int i = 0; i < 3; i++)
		fds[i] = eventfd(0, EFD_CLOEXEC);
	ring.size = SIZE;
	ring.enabled = true;
	ring.base = ring_position_split(9);
	ring.kick_fd = fds[0];
	ring.call_fd = fds[1];
	ring.err_fd = fds[2];
	assert_int_equal(guest_ring_find_at(&ring, &addr, memory, &err), 0);
	guest_ring_forget(&ring);
	for (int i = 0; i < 3; i++)
		assert_int_equal(close(fds[i]), -1);
	assert_int_equal(ring.index, 5);
	assert_int_equal(ring.size, 0);
	assert_false(ring.enabled || ring.has_addr || guest_ring_is_at(&ring, &addr));
	assert_true(ring_position_is_start(ring.base));
	assert_true(ring.kick_fd < 0 && ring.call_fd < 0 && ring.err_fd < 0);
	assert_null(ring.split.desc);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(only_powers_of_two_are_sizes),
		TEST(what_was_not_said_is_named),
		TEST(a_ring_is_found_where_it_lies),
		TEST(a_ring_that_is_not_there_in_full_is_refused_and_stays_where_it_was),
		TEST(a_base_is_judged_by_the_ring),
		TEST(a_reason_does_not_name_the_ring_of_which_it_is_kept),
		TEST(what_is_forgotten_is_closed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
