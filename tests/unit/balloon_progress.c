/* SPDX-License-Identifier: BSD-2-Clause */
/* Promises of balloon/balloon_progress.h, with a clock that the test moves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "balloon/balloon_progress.h"

#define STALL UINT64_C(5000000)

static struct balloon_progress p;
static uint64_t now, next;

static int setup(void **state)
{
	(void)state;
	balloon_progress_init(&p, STALL);
	now = 10000000;
	return 0;
}

static unsigned int step(uint64_t passed_us, uint64_t target, uint64_t pages)
{
	const struct balloon_progress_view view = { target, pages, .has_driver = true,
						    .is_wanted = true };

	now += passed_us;
	return balloon_progress_step(&p, now, &view, &next);
}

/* The same, with a target that is set again. */
static unsigned int step_anew(uint64_t target, uint64_t pages, bool driver)
{
	const struct balloon_progress_view view = { target, pages, .has_driver = driver,
						    .is_wanted = true, .is_set_again = true };

	return balloon_progress_step(&p, now, &view, &next);
}

static void a_target_that_is_reached_is_told_once(void **state)
{
	(void)state;
	assert_int_equal(step(0, 1000, 0), 0);
	assert_int_equal(p.phase, UMBRA_BALLOON_INFLATING);
	assert_int_equal(step(300000, 1000, 400), BALLOON_TELL_CHANGE);
	assert_int_equal(step(1000, 1000, 1000), BALLOON_TELL_SETTLED | BALLOON_TELL_CHANGE);
	assert_int_equal(p.phase, UMBRA_BALLOON_SETTLED);
	assert_int_equal(step(1000000, 1000, 1000), 0);
	assert_int_equal(step(1000, 200, 1000), 0);
	assert_int_equal(p.phase, UMBRA_BALLOON_DEFLATING);
	assert_int_equal(step(1000, 200, 200), BALLOON_TELL_SETTLED | BALLOON_TELL_CHANGE);
}

static void changes_are_told_four_times_a_second_and_the_last_always(void **state)
{
	unsigned int told = 0;

	(void)state;
	step(0, 100000, 0);
	for (unsigned int i = 1; i < 1000; i++)
		told += step(1000, 100000, i) == BALLOON_TELL_CHANGE;
	assert_in_range(told, 3, 4);
	/* Nothing moves any more; the rest is told in time. */
	assert_true(next <= now + BALLOON_CHANGE_US);
	assert_int_equal(step(next - now, 100000, 999), BALLOON_TELL_CHANGE);
	assert_int_equal(p.told_pages, 999);
}

static void a_driver_that_comes_no_nearer_has_stalled_and_can_recover(void **state)
{
	(void)state;
	step(0, 1000, 0);
	step(1000, 1000, 500);
	assert_int_equal(step(STALL - 1, 1000, 500) & BALLOON_TELL_SETTLED, 0);
	assert_true(next <= now + 1);
	assert_int_equal(step(1, 1000, 500), BALLOON_TELL_SETTLED);
	assert_int_equal(p.phase, UMBRA_BALLOON_STALLED);
	assert_int_equal(step(STALL, 1000, 500), 0);
	step(1000, 1000, 600);
	assert_int_equal(p.phase, UMBRA_BALLOON_INFLATING);
}

static void going_to_and_fro_is_no_progress(void **state)
{
	(void)state;
	step(0, 1000, 500);
	for (unsigned int i = 0; i < 12; i++)
		step(STALL / 10, 1000, i % 2 ? 500 : 480);
	assert_int_equal(p.phase, UMBRA_BALLOON_STALLED);
}

static void a_new_target_begins_a_new_way_also_the_same_again(void **state)
{
	(void)state;
	step(0, 1000, 0);
	step(STALL, 1000, 0);
	assert_int_equal(p.phase, UMBRA_BALLOON_STALLED);
	assert_int_equal(step(1000, 500, 0), 0);
	assert_int_equal(p.phase, UMBRA_BALLOON_INFLATING);
	step(STALL, 500, 0);
	assert_int_equal(step_anew(500, 0, true), 0);
	assert_int_equal(p.phase, UMBRA_BALLOON_INFLATING);
	/* One that is reached already is answered, too. */
	assert_int_equal(step_anew(0, 0, true), BALLOON_TELL_SETTLED);
}

static void without_a_driver_a_target_waits_for_one(void **state)
{
	const struct balloon_progress_view nobody = { 1000, 0, .has_driver = false };

	(void)state;
	assert_int_equal(step_anew(1000, 0, false), 0);
	assert_int_equal(p.phase, UMBRA_BALLOON_NO_DRIVER);
	now += 10 * STALL;
	assert_int_equal(balloon_progress_step(&p, now, &nobody, &next), 0);
	assert_int_equal(step(0, 1000, 0), 0);
	assert_int_equal(p.phase, UMBRA_BALLOON_INFLATING);
	assert_int_equal(step(1000, 1000, 1000) & BALLOON_TELL_SETTLED, BALLOON_TELL_SETTLED);
}

static void less_than_a_large_page_apart_is_reached_once_nothing_moves(void **state)
{
	(void)state;
	step(0, 1000, 0);
	step(1000, 1000, 992);
	assert_int_equal(p.phase, UMBRA_BALLOON_INFLATING);
	assert_int_equal(step(STALL, 1000, 992) & BALLOON_TELL_SETTLED, BALLOON_TELL_SETTLED);
	assert_int_equal(p.phase, UMBRA_BALLOON_SETTLED);
}

static void a_guest_that_helps_itself_is_on_the_way_again(void **state)
{
	(void)state;
	step(0, 1000, 0);
	step(1000, 1000, 1000);
	step(1000000, 1000, 700); /* out of memory, say */
	assert_int_equal(p.phase, UMBRA_BALLOON_INFLATING);
	assert_int_equal(step(STALL, 1000, 700) & BALLOON_TELL_SETTLED, BALLOON_TELL_SETTLED);
	assert_int_equal(p.phase, UMBRA_BALLOON_STALLED);
}

/* Everything that can be said of a balloon at once, against the order in the header. */
static void the_phase_is_the_first_that_holds(void **state)
{
	static const uint64_t targets[] = { 0, 1000 }, far[] = { 0, 1, 500 };

	(void)state;
	for (unsigned int bits = 0; bits < 1024; bits++) {
		struct balloon_progress_view view = {
			.target = targets[bits >> 6 & 1],
			.has_driver = bits & 1,
			.is_broken = bits & 2,
			.is_unknown = bits & 4,
			.is_wanted = bits & 8,
			.has_unfreed = bits & 16,
			.may_change = bits & 32,
		};
		enum umbra_balloon_phase want;
		bool still = bits & 128;
		uint64_t off = far[(bits >> 8) % 3];

		view.pages = view.target > off ? view.target - off : view.target + off;
		balloon_progress_init(&p, STALL);
		balloon_progress_step(&p, now, &view, &next);
		if (still)
			now += STALL;
		balloon_progress_step(&p, now, &view, &next);
		if (!view.has_driver)
			want = UMBRA_BALLOON_NO_DRIVER;
		else if (view.is_broken)
			want = UMBRA_BALLOON_QUEUE_BROKEN;
		else if (view.is_unknown && (!view.is_wanted || still))
			want = UMBRA_BALLOON_UNKNOWN;
		else if (!still && (view.is_unknown || view.may_change || off))
			want = view.target < view.pages ? UMBRA_BALLOON_DEFLATING
							: UMBRA_BALLOON_INFLATING;
		else if (off == 500)
			want = UMBRA_BALLOON_STALLED;
		else if (!view.is_wanted && !view.target && !view.pages)
			want = UMBRA_BALLOON_IDLE;
		else
			want = view.has_unfreed ? UMBRA_BALLOON_UNFREED : UMBRA_BALLOON_SETTLED;
		if (p.phase != want)
			print_error("case 0x%x\n", bits);
		assert_int_equal(p.phase, want);
	}
}

static void every_end_of_a_way_is_told_and_no_driver_is_none(void **state)
{
	struct balloon_progress_view view = { 1000, 1000, .has_driver = true, .is_wanted = true };
	bool *const ends[] = { &view.is_broken, &view.has_unfreed };

	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		*ends[i] = view.is_set_again = true;
		assert_true(balloon_progress_step(&p, now, &view, &next) & BALLOON_TELL_SETTLED);
		view.is_set_again = false;
		assert_false(balloon_progress_step(&p, now, &view, &next) & BALLOON_TELL_SETTLED);
		*ends[i] = false;
	}
	view.has_driver = false;
	view.is_set_again = true;
	assert_false(balloon_progress_step(&p, now, &view, &next) & BALLOON_TELL_SETTLED);
	view.has_driver = true;
	view.is_set_again = false;
	assert_true(balloon_progress_step(&p, now, &view, &next) & BALLOON_TELL_SETTLED);
}

static void a_target_that_hangs_on_the_guests_word_is_on_the_way_until_it_is_made(void **state)
{
	struct balloon_progress_view view = {
		.has_driver = true, .is_wanted = true, .may_change = true, .is_set_again = true
	};

	(void)state;
	assert_int_equal(balloon_progress_step(&p, now, &view, &next), 0);
	assert_int_equal(p.phase, UMBRA_BALLOON_INFLATING);
	/* Made, and it is nothing. */
	assert_int_equal(step(1, 0, 0), BALLOON_TELL_SETTLED);
	assert_int_equal(p.phase, UMBRA_BALLOON_SETTLED);
	/* Reached, and it may have to go on. */
	view.target = view.pages = 1000;
	now += STALL;
	assert_int_equal(balloon_progress_step(&p, now, &view, &next) & BALLOON_TELL_SETTLED, 0);
	view.is_set_again = false;
	assert_true(next <= now + STALL);
	now += STALL - 1;
	assert_int_equal(balloon_progress_step(&p, now, &view, &next) & BALLOON_TELL_SETTLED, 0);
	assert_int_equal(p.phase, UMBRA_BALLOON_INFLATING);
	/* No word for so long, and no move either. */
	now++;
	assert_int_equal(balloon_progress_step(&p, now, &view, &next) & BALLOON_TELL_SETTLED,
			 BALLOON_TELL_SETTLED);
	assert_int_equal(p.phase, UMBRA_BALLOON_SETTLED);
}

static void the_rate_is_what_moved_lately_and_fades(void **state)
{
	(void)state;
	step(0, 100000, 0);
	for (unsigned int i = 1; i <= 10; i++)
		step(100000, 100000, i * 1000);
	assert_in_range(p.rate, 9000, 11000);
	step(2000000, 100000, 10000);
	step(2000000, 100000, 10000);
	assert_int_equal(p.rate, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(a_target_that_is_reached_is_told_once, setup),
		cmocka_unit_test_setup(changes_are_told_four_times_a_second_and_the_last_always,
				       setup),
		cmocka_unit_test_setup(a_driver_that_comes_no_nearer_has_stalled_and_can_recover,
				       setup),
		cmocka_unit_test_setup(going_to_and_fro_is_no_progress, setup),
		cmocka_unit_test_setup(a_new_target_begins_a_new_way_also_the_same_again, setup),
		cmocka_unit_test_setup(without_a_driver_a_target_waits_for_one, setup),
		cmocka_unit_test_setup(less_than_a_large_page_apart_is_reached_once_nothing_moves,
				       setup),
		cmocka_unit_test_setup(a_guest_that_helps_itself_is_on_the_way_again, setup),
		cmocka_unit_test_setup(the_phase_is_the_first_that_holds, setup),
		cmocka_unit_test_setup(every_end_of_a_way_is_told_and_no_driver_is_none, setup),
		cmocka_unit_test_setup(
			a_target_that_hangs_on_the_guests_word_is_on_the_way_until_it_is_made,
			setup),
		cmocka_unit_test_setup(the_rate_is_what_moved_lately_and_fades, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
