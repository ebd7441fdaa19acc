/* SPDX-License-Identifier: BSD-2-Clause */
/* Which IO virtual addresses are handed out. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "memory/iova_space.h"
#include "random.h"

#define PAGE 4096ull
#define MIB (1ull << 20)
#define GIB (1ull << 30)

static struct iova_space space;

/* As when a memory table changes: a new space, in which all that stays is taken. */
static void begin_anew_without(uint64_t iova)
{
	const struct iova_space old = space;
	bool was_taken = false;

	iova_space_init(&space, old.first, old.last);
	for (unsigned int i = 0; i < old.count; i++) {
		const struct iova_range *r = &old.taken[i];

		was_taken |= r->first.v == iova;
		if (r->first.v != iova)
			assert_int_equal(
				iova_space_take_at(&space, r->first, r->last.v - r->first.v + 1),
				0);
	}
	assert_true(was_taken);
}

static uint64_t taken(uint64_t size, bool highest)
{
	iova_t iova = { 1 };

	assert_int_equal(iova_space_take(&space, size, highest, &iova), 0);
	return iova.v;
}

static void the_lowest_place_that_fits_is_taken(void **state)
{
	(void)state;
	iova_space_init(&space, (iova_t){ 0 }, (iova_t){ UINT64_MAX });
	assert_int_equal(taken(PAGE, false), PAGE); /* 0 is for nobody */
	assert_int_equal(taken(PAGE, false), 2 * PAGE);
	assert_int_equal(taken(4 * PAGE, false), 4 * PAGE); /* aligned as it is large */
	assert_int_equal(taken(PAGE, false), 3 * PAGE);     /* and the gap is used */
	begin_anew_without(2 * PAGE);
	assert_int_equal(taken(PAGE, false), 2 * PAGE);
	assert_int_equal(iova_space_take(&space, 0, false, &(iova_t){ 0 }), -EINVAL);
}

static void a_place_is_aligned_as_its_size_allows(void **state)
{
	static const struct {
		uint64_t size, align;
	} cases[] = {
		{ PAGE, PAGE },         { 3 * PAGE, PAGE },   { 6 * PAGE, 2 * PAGE },
		{ 2 * MIB, 2 * MIB },   { 3 * GIB, GIB },     { 8 * GIB, GIB },
		{ 5 * MIB, MIB },       { GIB + PAGE, PAGE }, { 100, PAGE },
		{ 640 * 1024, 131072 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		for (int highest = 0; highest < 2; highest++) {
			uint64_t at;

			iova_space_init(&space, (iova_t){ 5 * PAGE },
					(iova_t){ (1ull << 39) - 1 - PAGE });
			at = taken(cases[i].size, highest);
			assert_int_equal(at % cases[i].align, 0);
			if (highest)
				assert_true(at + cases[i].size + cases[i].align > space.last.v);
			else
				assert_true(at < space.first.v + cases[i].align);
		}
}

static void the_highest_place_is_at_the_end(void **state)
{
	(void)state;
	iova_space_init(&space, (iova_t){ 0 }, (iova_t){ UINT64_MAX });
	assert_int_equal(taken(PAGE, true), UINT64_MAX - PAGE + 1);
	assert_int_equal(taken(PAGE, true), UINT64_MAX - 2 * PAGE + 1);
	begin_anew_without(UINT64_MAX - PAGE + 1);
	assert_int_equal(taken(2 * PAGE, true), UINT64_MAX - 4 * PAGE + 1);
	assert_int_equal(taken(PAGE, true), UINT64_MAX - PAGE + 1);
}

static void the_edges_of_the_range_are_kept(void **state)
{
	(void)state;
	iova_space_init(&space, (iova_t){ 16 * PAGE }, (iova_t){ 20 * PAGE - 1 });
	assert_int_equal(iova_space_take_at(&space, (iova_t){ 15 * PAGE }, PAGE), -EINVAL);
	assert_int_equal(iova_space_take_at(&space, (iova_t){ 19 * PAGE }, 2 * PAGE), -EINVAL);
	assert_int_equal(iova_space_take_at(&space, (iova_t){ 20 * PAGE }, PAGE), -EINVAL);
	assert_int_equal(iova_space_take_at(&space, (iova_t){ UINT64_MAX - PAGE }, 17 * PAGE),
			 -EINVAL);
	assert_int_equal(iova_space_take_at(&space, (iova_t){ 16 * PAGE }, 0), -EINVAL);
	assert_int_equal(iova_space_take_at(&space, (iova_t){ 16 * PAGE }, 4 * PAGE), 0);
	assert_int_equal(iova_space_take_at(&space, (iova_t){ 19 * PAGE }, PAGE), -EBUSY);
	assert_int_equal(iova_space_take(&space, PAGE, false, &(iova_t){ 0 }), -ENOSPC);
	assert_int_equal(iova_space_take(&space, PAGE, true, &(iova_t){ 0 }), -ENOSPC);

	/* All of 64 bits, as one piece less its last page, and 0 where asked for. */
	iova_space_init(&space, (iova_t){ 0 }, (iova_t){ UINT64_MAX });
	assert_int_equal(iova_space_take_at(&space, (iova_t){ 0 }, PAGE), 0);
	assert_int_equal(iova_space_take_at(&space, (iova_t){ PAGE }, 0ull - 2 * PAGE), 0);
	assert_int_equal(taken(PAGE, false), UINT64_MAX - PAGE + 1);
	assert_int_equal(iova_space_take(&space, PAGE, true, &(iova_t){ 0 }), -ENOSPC);
	iova_space_init(&space, (iova_t){ 0 }, (iova_t){ UINT64_MAX });
	assert_int_equal(iova_space_take(&space, UINT64_MAX, false, &(iova_t){ 0 }), -ENOSPC);
}

static void only_so_many_ranges_can_be_taken(void **state)
{
	(void)state;
	iova_space_init(&space, (iova_t){ 0 }, (iova_t){ UINT64_MAX });
	for (unsigned int i = 0; i < IOVA_RANGES_MAX; i++)
		(void)taken(PAGE, false);
	assert_int_equal(iova_space_take(&space, PAGE, false, &(iova_t){ 0 }), -ENOSPC);
	begin_anew_without(7 * PAGE);
	assert_int_equal(taken(PAGE, false), 7 * PAGE);
}

#define MODEL_PAGES 256u

/* Beside a map of which page is whose. */
static void whatever_comes_and_goes_nothing_overlaps(void **state)
{
	static uint16_t owner[MODEL_PAGES];
	uint64_t starts[MODEL_PAGES] = { 0 }, sizes[MODEL_PAGES] = { 0 };
	unsigned int taken_count = 0, full = 0;

	(void)state;
	random_begin_anew();
	memset(owner, 0, sizeof(owner));
	iova_space_init(&space, (iova_t){ 0 }, (iova_t){ MODEL_PAGES * PAGE - 1 });
	for (unsigned int round = 0; round < 20000; round++) {
		unsigned int i = below(64);
		uint64_t pages = 1 + below(24), align;
		iova_t at;
		bool highest = below(2), fits = false;
		int rc;

		if (sizes[i]) {
			begin_anew_without(starts[i]);
			for (uint64_t p = 0; p < MODEL_PAGES; p++)
				if (owner[p] == i + 1)
					owner[p] = 0;
			sizes[i] = 0;
			continue;
		}
		align = pages & -pages;
		for (uint64_t p = MAX(align, 1ull); p + pages <= MODEL_PAGES; p += align) {
			uint64_t q = p;

			while (q < p + pages && !owner[q])
				q++;
			if (q < p + pages)
				continue;
			if (!fits || highest)
				starts[i] = p * PAGE;
			fits = true;
		}
		rc = iova_space_take(&space, pages * PAGE, highest, &at);
		assert_int_equal(rc, fits ? 0 : -ENOSPC);
		if (rc) {
			full++;
			continue;
		}
		assert_int_equal(at.v, starts[i]); /* the very lowest, or highest */
		sizes[i] = pages;
		taken_count++;
		for (uint64_t p = at.v / PAGE; p < at.v / PAGE + pages; p++)
			owner[p] = (uint16_t)(i + 1);
	}
	assert_true(taken_count > 1000 && full > 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_lowest_place_that_fits_is_taken),
		cmocka_unit_test(a_place_is_aligned_as_its_size_allows),
		cmocka_unit_test(the_highest_place_is_at_the_end),
		cmocka_unit_test(the_edges_of_the_range_are_kept),
		cmocka_unit_test(only_so_many_ranges_can_be_taken),
		cmocka_unit_test(whatever_comes_and_goes_nothing_overlaps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
