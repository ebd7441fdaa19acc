/* SPDX-License-Identifier: BSD-2-Clause */
/* What a memory snapshot promises. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "memory/memory.h"

#define HOST(v) ((uint8_t *)(uintptr_t)(v)) /* never followed */

static struct memory_region region(uint64_t gpa, uint64_t uva, uint64_t size, uint64_t host)
{
	return (struct memory_region){
		.gpa = { gpa }, .uva = { uva }, .size = size, .host = HOST(host)
	};
}

static struct memory *make(const struct memory_region *regions, unsigned int count)
{
	struct memory *m = NULL;

	assert_int_equal(memory_create(regions, count, &m, NULL), 0);
	assert_non_null(m);
	return m;
}

static void refused(const struct memory_region *regions, unsigned int count, const char *word)
{
	struct umbra_error err = { "" };
	struct memory *m = NULL;

	assert_int_equal(memory_create(regions, count, &m, &err), -EINVAL);
	assert_null(m);
	assert_non_null(strstr(err.text, word));
}

static void an_empty_table_is_legal_and_covers_nothing(void **state)
{
	struct memory *m = make(NULL, 0);
	unsigned int hint = 0;

	(void)state;
	assert_null(memory_find(m, (gpa_t){ 0 }));
	assert_null(memory_host(m, &hint, (gpa_t){ 0 }, 1));
	assert_false(memory_covers(m, &hint, (gpa_t){ 0 }, 1));
	assert_null(memory_host_uva(m, (uva_t){ 0 }, 1));
	memory_unref(&m);
	assert_null(m);
	memory_unref(&m);
}

static void regions_that_overlap_are_refused(void **state)
{
	(void)state;
	for (uint64_t shift = 0; shift < 0x1000; shift += 0x7ff) {
		struct memory_region gpa[] = { region(0x10000, 0x900000, 0x1000, 0x10000),
					       region(0x10000 + shift, 0x1000, 0x1000, 0x20000) };
		struct memory_region uva[] = { region(0x1000, 0x10000, 0x1000, 0x10000),
					       region(0x90000, 0x10000 + shift, 0x1000, 0x20000) };

		refused(gpa, 2, "overlap");
		refused(uva, 2, "overlap in user addresses");
	}
}

static void a_region_inside_another_is_refused(void **state)
{
	struct memory_region r[] = { region(0x10000, 0x10000, 0x10000, 0x10000),
				     region(0x14000, 0x900000, 0x1000, 0x90000) };

	(void)state;
	refused(r, 2, "overlap");
}

static void regions_that_only_touch_are_accepted(void **state)
{
	struct memory_region r[] = { region(0x2000, 0x12000, 0x1000, 0x50000),
				     region(0x1000, 0x13000, 0x1000, 0x90000) };
	struct memory *m = make(r, 2);

	(void)state;
	assert_int_equal(m->regions[0].gpa.v, 0x1000);
	assert_int_equal(m->regions[1].gpa.v, 0x2000);
	memory_unref(&m);
}

static void empty_and_wrapping_regions_are_refused(void **state)
{
	struct memory_region empty = region(0x1000, 0x1000, 0, 0x1000);
	struct memory_region gpa = region(UINT64_MAX - 0xffe, 0x1000, 0x1000, 0x1000);
	struct memory_region uva = region(0x1000, UINT64_MAX - 0xffe, 0x1000, 0x1000);
	struct memory_region host = region(0x1000, 0x1000, 0x1000, UINT64_MAX - 0xffe);
	struct memory_region huge = region(0x1000, 0x1000, UINT64_MAX, 0x1000);

	(void)state;
	refused(&empty, 1, "empty");
	refused(&gpa, 1, "past the end");
	refused(&uva, 1, "past the end");
	refused(&host, 1, "past the end");
	refused(&huge, 1, "past the end");
}

static void too_many_regions_are_refused(void **state)
{
	static struct memory_region r[MEMORY_REGIONS_MAX + 1];
	struct memory *m;

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(r); i++)
		r[i] = region(0x1000ull * i, 0x1000ull * i, 0x1000, 0x10000);
	refused(r, MEMORY_REGIONS_MAX + 1, "at most");
	m = make(r, MEMORY_REGIONS_MAX);
	assert_int_equal(m->count, MEMORY_REGIONS_MAX);
	memory_unref(&m);
}

static void every_address_is_found_in_its_region_and_no_other(void **state)
{
	struct memory_region r[] = { region(0x5000, 0x50000, 0x1000, 0x500000),
				     region(0x1000, 0x10000, 0x800, 0x100000),
				     region(0x3000, 0x30000, 0x2000, 0x300000) };
	struct memory *m = make(r, 3);

	(void)state;
	for (uint64_t a = 0; a < 0x8000; a += 0x80) {
		bool in1 = a >= 0x1000 && a < 0x1800;
		bool in3 = a >= 0x3000 && a < 0x5000, in5 = a >= 0x5000 && a < 0x6000;
		const struct memory_region *f = memory_find(m, (gpa_t){ a });

		if (!in1 && !in3 && !in5) {
			assert_null(f);
			continue;
		}
		assert_non_null(f);
		assert_int_equal(f->gpa.v, in1 ? 0x1000 : in3 ? 0x3000 : 0x5000);
		for (unsigned int first = 0; first < 5; first++) { /* any hint, also a bad one */
			unsigned int hint = first;

			assert_ptr_equal(memory_host(m, &hint, (gpa_t){ a }, 1),
					 f->host + (a - f->gpa.v));
			assert_ptr_equal(f, &m->regions[hint]);
		}
	}
	memory_unref(&m);
}

static void a_host_range_lies_in_one_region(void **state)
{
	struct memory_region r[] = { region(0x1000, 0x1000, 0x1000, 0x10000),
				     region(0x2000, 0x2000, 0x1000, 0x90000) };
	struct memory *m = make(r, 2);
	unsigned int hint = 0;

	(void)state;
	assert_ptr_equal(memory_host(m, &hint, (gpa_t){ 0x1000 }, 0x1000), HOST(0x10000));
	assert_null(memory_host(m, &hint, (gpa_t){ 0x1000 }, 0x1001));
	assert_null(memory_host(m, &hint, (gpa_t){ 0x1fff }, 2));
	assert_null(memory_host(m, &hint, (gpa_t){ 0x1fff }, UINT64_MAX));
	assert_ptr_equal(memory_host(m, &hint, (gpa_t){ 0x1fff }, 1), HOST(0x10fff));
	assert_ptr_equal(memory_host(m, &hint, (gpa_t){ 0x2000 }, 1), HOST(0x90000));
	memory_unref(&m);
}

static void a_covered_range_may_cross_regions_but_no_hole(void **state)
{
	struct memory_region r[] = { region(0x1000, 0x1000, 0x1000, 0x10000),
				     region(0x2000, 0x2000, 0x1000, 0x90000),
				     region(0x3000, 0x3000, 0x1000, 0x50000),
				     region(0x4001, 0x4001, 0x1000, 0x70000) };
	struct memory *m = make(r, 4);

	(void)state;
	for (unsigned int first = 0; first < 5; first++) {
		unsigned int hint = first;

		assert_true(memory_covers(m, &hint, (gpa_t){ 0x1000 }, 0x3000));
		assert_true(memory_covers(m, &hint, (gpa_t){ 0x1fff }, 2));
		assert_true(memory_covers(m, &hint, (gpa_t){ 0x1fff }, 0x1002));
		assert_false(memory_covers(m, &hint, (gpa_t){ 0x1000 }, 0x3001));
		assert_false(memory_covers(m, &hint, (gpa_t){ 0xfff }, 2));
		assert_false(memory_covers(m, &hint, (gpa_t){ 0x4000 }, 1));
		assert_false(memory_covers(m, &hint, (gpa_t){ 0x3fff }, 3));
		assert_false(memory_covers(m, &hint, (gpa_t){ 0x1000 }, UINT64_MAX));
		assert_true(memory_covers(m, &hint, (gpa_t){ 0x5000 }, 1));
	}
	memory_unref(&m);
}

static void memory_up_to_the_last_address_is_usable(void **state)
{
	struct memory_region r = region(UINT64_MAX - 0xfff, 0x1000, 0xfff, 0x10000);
	struct memory *m = make(&r, 1);
	unsigned int hint = 0;

	(void)state;
	assert_true(memory_covers(m, &hint, (gpa_t){ UINT64_MAX - 0xfff }, 0xfff));
	assert_false(memory_covers(m, &hint, (gpa_t){ UINT64_MAX - 0xfff }, 0x1000));
	assert_false(memory_covers(m, &hint, (gpa_t){ UINT64_MAX }, 1));
	assert_false(memory_covers(m, &hint, (gpa_t){ UINT64_MAX - 1 }, 2));
	memory_unref(&m);
}

static void user_addresses_are_their_own_space(void **state)
{
	struct memory_region r[] = { region(0x1000, 0x8000, 0x1000, 0x10000),
				     region(0x2000, 0x4000, 0x1000, 0x90000) };
	struct memory *m = make(r, 2);

	(void)state;
	assert_ptr_equal(memory_host_uva(m, (uva_t){ 0x4010 }, 0xff0), HOST(0x90010));
	assert_ptr_equal(memory_host_uva(m, (uva_t){ 0x8fff }, 1), HOST(0x10fff));
	assert_null(memory_host_uva(m, (uva_t){ 0x8fff }, 2));
	assert_null(memory_host_uva(m, (uva_t){ 0x1000 }, 1));
	memory_unref(&m);
}

static unsigned int released;

static void release(struct memory_backing *backing)
{
	(void)backing;
	released++;
}

static void a_mapping_lives_until_the_last_snapshot_has_gone(void **state)
{
	struct memory_backing a = { .refs = 1, .release = release, .fd = -1 };
	struct memory_backing b = { .refs = 1, .release = release, .fd = -1 };
	struct memory_region r[] = { region(0x1000, 0x1000, 0x1000, 0x10000),
				     region(0x2000, 0x2000, 0x1000, 0x90000) };
	struct memory *both, *one, *again;

	(void)state;
	released = 0;
	r[0].backing = &a;
	r[1].backing = &b;
	both = make(r, 2);
	one = make(r, 1);
	memory_backing_unref(&a);
	memory_backing_unref(&b);
	assert_int_equal(released, 0);
	again = memory_ref(both);
	memory_unref(&both);
	assert_int_equal(released, 0);
	memory_unref(&again);
	assert_int_equal(released, 1);
	memory_unref(&one);
	assert_int_equal(released, 2);
}

static void a_refused_table_takes_no_reference(void **state)
{
	struct memory_backing a = { .refs = 1, .release = release, .fd = -1 };
	struct memory_region r[] = { region(0x1000, 0x1000, 0x1000, 0x10000),
				     region(0x1800, 0x9000, 0x1000, 0x90000) };

	(void)state;
	r[0].backing = &a;
	refused(r, 2, "overlap");
	assert_int_equal(a.refs, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_table_is_legal_and_covers_nothing),
		cmocka_unit_test(regions_that_overlap_are_refused),
		cmocka_unit_test(a_region_inside_another_is_refused),
		cmocka_unit_test(regions_that_only_touch_are_accepted),
		cmocka_unit_test(empty_and_wrapping_regions_are_refused),
		cmocka_unit_test(too_many_regions_are_refused),
		cmocka_unit_test(every_address_is_found_in_its_region_and_no_other),
		cmocka_unit_test(a_host_range_lies_in_one_region),
		cmocka_unit_test(a_covered_range_may_cross_regions_but_no_hole),
		cmocka_unit_test(memory_up_to_the_last_address_is_usable),
		cmocka_unit_test(user_addresses_are_their_own_space),
		cmocka_unit_test(a_mapping_lives_until_the_last_snapshot_has_gone),
		cmocka_unit_test(a_refused_table_takes_no_reference),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
