/* SPDX-License-Identifier: BSD-2-Clause */
/* What a memory snapshot promises. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "memory/memory.h"
#include "random.h"

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

/* ---- where a mapped device sees it ----------------------------------------- */

/* Four regions that adjoin for the guest; for the device the first two do, the
 * third is elsewhere, and the last is right before the third. */
static struct memory *make_translated(void)
{
	struct memory_region r[] = { region(0x1000, 0x1000, 0x1000, 0x10000),
				     region(0x2000, 0x2000, 0x1000, 0x20000),
				     region(0x3000, 0x3000, 0x1000, 0x30000),
				     region(0x4000, 0x4000, 0x1000, 0x40000) };
	struct memory *m = make(r, 4);

	m->regions[0].iova.v = 0x80000;
	m->regions[1].iova.v = 0x81000;
	m->regions[2].iova.v = 0x11000;
	m->regions[3].iova.v = 0x10000;
	m->translated = true;
	return m;
}

static void translates(const struct memory *m, uint64_t gpa, uint64_t len, uint64_t iova,
		       uint64_t bytes)
{
	iova_t got = { UINT64_MAX };

	assert_int_equal(memory_translate(m, (gpa_t){ gpa }, len, &got), bytes);
	if (bytes)
		assert_int_equal(got.v, iova);
}

static void a_range_is_translated_as_far_as_the_device_sees_it_in_one_stretch(void **state)
{
	struct memory *m = make_translated();

	(void)state;
	translates(m, 0x1000, 1, 0x80000, 1);
	translates(m, 0x1fff, 1, 0x80fff, 1);
	translates(m, 0x1fff, 2, 0x80fff, 2); /* adjoins for both */
	translates(m, 0x1000, 0x2000, 0x80000, 0x2000);
	translates(m, 0x1000, 0x2001, 0x80000, 0x2000); /* the device goes on elsewhere */
	translates(m, 0x2fff, 2, 0x81fff, 1);
	translates(m, 0x3000, 0x1001, 0x11000, 0x1000); /* the other way round is no border less */
	translates(m, 0x4fff, 2, 0x10fff, 1);           /* to the last byte, and no further */
	translates(m, 0xfff, 2, 0, 0);
	translates(m, 0x5000, 1, 0, 0);
	translates(m, UINT64_MAX, UINT64_MAX, 0, 0);
	translates(m, 0x1000, UINT64_MAX, 0x80000, 0x2000);
	memory_unref(&m);
}

static void an_iova_at_the_end_of_its_space_adjoins_nothing(void **state)
{
	struct memory_region r[] = { region(0x1000, 0x1000, 0x1000, 0x10000),
				     region(0x2000, 0x2000, 0x1000, 0x20000) };
	struct memory *m = make(r, 2);

	(void)state;
	m->regions[0].iova.v = UINT64_MAX - 0xfff;
	m->regions[1].iova.v = 0;
	m->translated = true;
	translates(m, 0x1fff, 2, UINT64_MAX, 1);
	memory_unref(&m);
}

static void a_new_snapshot_is_seen_where_the_guest_sees_it(void **state)
{
	struct memory_region r = region(0x1000, 0x1000, 0x1000, 0x10000);
	struct memory *m;

	(void)state;
	r.iova.v = 0x77000;
	m = make(&r, 1);
	assert_false(m->translated);
	translates(m, 0x1234, 0x100, 0x1234, 0x100);
	memory_unref(&m);
}

/* ---- against a reference that looks at every region ------------------------ */

static uint64_t random_bits(unsigned int most)
{
	return random64() >> (63 - below(most));
}

/* Regions of all sizes and distances, some far away, some up to the last
 * address; many adjoin, for the guest or for the device or for both. */
static struct memory *random_table(void)
{
	static struct memory_region r[MEMORY_REGIONS_MAX];
	unsigned int most = (unsigned int[]){ 1, 4, 64, MEMORY_REGIONS_MAX }[below(4)];
	unsigned int count = 0, bits = 1 + (unsigned int)below(40);
	uint64_t at = below(2) ? 0 : random_bits(63), uva = 0;
	struct memory *m;

	while (count < most) {
		uint64_t gap = below(2) ? 0 : random_bits(below(20) ? bits : 62);
		uint64_t size = 1 + random_bits(bits);

		if (gap > UINT64_MAX - at || size > UINT64_MAX - at - gap ||
		    size > UINT64_MAX - 1 - uva) { /* up to the last address, and no further */
			size = MIN(UINT64_MAX - at, UINT64_MAX - 1 - uva);
			if (size)
				r[count++] = region(at, uva, size, 1);
			break;
		}
		at += gap;
		r[count++] = region(at, uva, size, 1);
		at += size;
		uva += size;
	}
	m = make(r, count);
	for (unsigned int i = 0; i < count; i++)
		m->regions[i].iova.v = i && below(2)
					       ? m->regions[i - 1].iova.v + m->regions[i - 1].size
					       : random_bits(62);
	m->translated = true;
	return m;
}

static const struct memory_region *naive_find(const struct memory *m, uint64_t gpa)
{
	for (unsigned int i = 0; i < m->count; i++)
		if (gpa >= m->regions[i].gpa.v && gpa < m->regions[i].gpa.v + m->regions[i].size)
			return &m->regions[i];
	return NULL;
}

/* Guest memory from @gpa on, at most @len bytes; those at one stretch of the
 * device's addresses in *@seen. */
static uint64_t naive_covered(const struct memory *m, uint64_t gpa, uint64_t len, uint64_t *seen)
{
	uint64_t left = len, iova = 0;
	bool apart = false;

	*seen = 0;
	while (left) {
		const struct memory_region *r = naive_find(m, gpa);
		uint64_t here;

		if (!r)
			break;
		here = MIN(left, r->gpa.v + r->size - gpa);
		if (left != len && (r->iova.v != iova || !iova))
			apart = true;
		if (!apart)
			*seen += here;
		iova = r->iova.v + r->size; /* 0: it ends with the address space */
		left -= here;
		gpa += here;
	}
	return len - left;
}

static void check_address(const struct memory *m, uint64_t gpa, uint64_t len)
{
	const struct memory_region *r = naive_find(m, gpa);
	unsigned int hint = (unsigned int)below(m->count + 2ul);
	bool in_one = r && len <= r->size - (gpa - r->gpa.v);
	uint64_t seen, covered = naive_covered(m, gpa, len, &seen);
	iova_t iova;

	assert_ptr_equal(memory_find(m, (gpa_t){ gpa }), r);
	assert_ptr_equal(memory_host(m, &hint, (gpa_t){ gpa }, len),
			 in_one ? r->host + (gpa - r->gpa.v) : NULL);
	hint = (unsigned int)below(m->count + 2ul);
	assert_int_equal(memory_covers(m, &hint, (gpa_t){ gpa }, len), covered == len);
	if (covered == len)
		assert_ptr_equal(&m->regions[hint], r);
	assert_int_equal(memory_translate(m, (gpa_t){ gpa }, len, &iova), seen);
	if (seen)
		assert_int_equal(iova.v, r->iova.v + (gpa - r->gpa.v));
}

static void every_lookup_agrees_with_a_look_at_every_region(void **state)
{
	(void)state;
	random_begin_anew();
	for (unsigned int table = 0; table < 2000; table++) {
		struct memory *m = random_table();

		for (unsigned int i = 0; i < 400; i++) {
			const struct memory_region *r =
				m->count ? &m->regions[below(m->count)] : NULL;
			uint64_t gpa = random64(), len = 1 + random_bits(33);

			if (r && i % 8) /* around a border, or inside */
				gpa = i % 8 < 3   ? r->gpa.v + below(5) - 2
				      : i % 8 < 6 ? r->gpa.v + r->size + below(5) - 2
						  : r->gpa.v + random64() % r->size;
			if (r && i % 3 == 0) /* so as to end around its end */
				len = 1 + (r->gpa.v + r->size - gpa + below(5) - 2) % UINT64_MAX;
			check_address(m, gpa, i % 5 ? len : 1);
		}
		check_address(m, 0, 1);
		check_address(m, 0, UINT64_MAX);
		check_address(m, UINT64_MAX, 1);
		check_address(m, UINT64_MAX, UINT64_MAX);
		memory_unref(&m);
	}
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
		cmocka_unit_test(a_range_is_translated_as_far_as_the_device_sees_it_in_one_stretch),
		cmocka_unit_test(an_iova_at_the_end_of_its_space_adjoins_nothing),
		cmocka_unit_test(a_new_snapshot_is_seen_where_the_guest_sees_it),
		cmocka_unit_test(every_lookup_agrees_with_a_look_at_every_region),
		cmocka_unit_test(a_mapping_lives_until_the_last_snapshot_has_gone),
		cmocka_unit_test(a_refused_table_takes_no_reference),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
