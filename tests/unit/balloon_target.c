/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Promises about what is asked of a driver: of what memory, how much at most, and when
 * that changes.
 */
#include <errno.h>
#include <string.h>

#include "balloon/balloon_target.h"
#include "balloon_talk.h"

#define MIB (UINT64_C(1) << 20)
#define TABLE (LOW_BYTES + HIGH_BYTES)
#define STATS_QUEUE 2u
#define OOM BIT64(VIRTIO_BALLOON_F_DEFLATE_ON_OOM)
#define PAGES(bytes) ((bytes) / PAGE)

static void wish(struct rig *g, struct umbra_balloon_target target)
{
	balloon_device_set_target(g->device, &target, 2);
}

static void keep(struct rig *g, uint64_t bytes)
{
	wish(g, (struct umbra_balloon_target){ .bytes = bytes });
}

/* What the worker's bell makes the device's thread do. */
static void look(struct rig *g)
{
	uint64_t next;

	rig_run(g);
	balloon_device_step(g->device, &next);
}

/* The driver has new statistics: it has @total bytes. */
static void say_total(struct rig *g, uint64_t total)
{
	uint8_t bytes[16];
	uint32_t len;

	rig_reuse(g);
	g->now_us += 1000;
	balloon_device_ask_stats(g->device);
	rig_run(g);
	rig_get(g, STATS_QUEUE, &len);
	rig_send(g, STATS_QUEUE, bytes, stat_put(bytes, VIRTIO_BALLOON_S_MEMTOT, total), NULL);
	look(g);
}

static struct rig *begin_with(const struct balloon_device_config *config, uint64_t features)
{
	struct balloon_device_config all = *config;
	struct rig *g;

	all.stall_ms = RIG_STALL_MS;
	g = rig_make(&all);
	begin_driver(g, features);
	rig_start(g, STATS_QUEUE, 8, 0);
	rig_run(g);
	return g;
}

static void what_the_guest_says_that_it_has_is_what_a_target_is_measured_against(void **state)
{
	const struct balloon_device_config config = { .floor_bytes = MIB };
	struct rig *g = begin_with(&config, STATS | OOM);

	(void)state;
	assert_int_equal(info_of(g).base, UMBRA_BALLOON_BASE_TABLE);
	assert_int_equal(info_of(g).memory_bytes, TABLE);
	say_total(g, 5 * MIB);
	assert_int_equal(info_of(g).base, UMBRA_BALLOON_BASE_GUEST);
	assert_int_equal(info_of(g).memory_bytes, 5 * MIB);
	keep(g, 4 * MIB);
	assert_int_equal(told_pages(g), PAGES(MIB));
	assert_int_equal(info_of(g).target_bytes, 4 * MIB);
	/* It cannot have more than there is. */
	say_total(g, UINT64_MAX);
	assert_int_equal(info_of(g).memory_bytes, TABLE);
	rig_free(g);
}

static void a_target_that_is_there_first_waits_for_the_guests_word(void **state)
{
	const struct balloon_device_config config = { .target = { .bytes = 4 * MIB },
						      .floor_bytes = MIB };
	struct rig *g = begin_with(&config, STATS | OOM);

	(void)state;
	look(g);
	assert_int_equal(told_pages(g), 0);
	assert_int_equal(info_of(g).phase, UMBRA_BALLOON_INFLATING);
	g->configs_changed = 0;
	say_total(g, 5 * MIB);
	assert_int_equal(told_pages(g), PAGES(MIB));
	assert_int_equal(g->configs_changed, 1);
	rig_free(g);
}

static void a_guest_that_keeps_silent_is_measured_by_the_table_until_it_speaks(void **state)
{
	const struct balloon_device_config config = { .target = { .bytes = 4 * MIB },
						      .floor_bytes = MIB };
	struct rig *g = begin_with(&config, STATS | OOM);
	uint64_t end = g->now_us + RIG_STALL_MS * 1000, next;

	(void)state;
	g->now_us = end - 1;
	balloon_device_step(g->device, &next);
	assert_int_equal(told_pages(g), 0);
	assert_int_equal(next, end);
	g->now_us = end;
	look(g);
	assert_int_equal(told_pages(g), PAGES(TABLE - 4 * MIB));
	say_total(g, 5 * MIB);
	assert_int_equal(told_pages(g), PAGES(MIB));
	rig_free(g);
}

static void
the_first_statistics_after_a_wish_correct_it_both_ways_and_later_ones_downwards(void **state)
{
	const struct balloon_device_config config = { .floor_bytes = MIB };
	struct rig *g = begin_with(&config, STATS | OOM | BITMAP);

	(void)state;
	say_total(g, 5 * MIB);
	g->now_us += 1000;
	keep(g, 4 * MIB);
	assert_int_equal(told_pages(g), PAGES(MIB));
	send_run(g, INFLATE, FREE_PFN, PAGES(MIB));
	look(g);
	/* It is there, and may yet have to go on. */
	assert_int_equal(info_of(g).phase, UMBRA_BALLOON_INFLATING);
	say_total(g, 6 * MIB); /* more was plugged in just before */
	assert_int_equal(told_pages(g), PAGES(2 * MIB));
	say_total(g, 10 * MIB);
	assert_int_equal(told_pages(g), PAGES(2 * MIB));
	assert_int_equal(info_of(g).target_bytes, 8 * MIB);
	say_total(g, 5 * MIB);
	assert_int_equal(told_pages(g), PAGES(MIB));
	say_total(g, 10 * MIB);
	assert_int_equal(told_pages(g), PAGES(MIB));
	rig_free(g);
}

static void a_guest_that_stops_to_speak_holds_no_way_up(void **state)
{
	const struct balloon_device_config config = { .floor_bytes = MIB };
	struct rig *g = begin_with(&config, STATS | OOM | BITMAP);
	uint64_t next;

	(void)state;
	say_total(g, 5 * MIB);
	g->now_us += 1000;
	keep(g, 4 * MIB);
	send_run(g, INFLATE, FREE_PFN, PAGES(MIB));
	assert_int_equal(balloon_device_step(g->device, &next) & 1u << UMBRA_BALLOON_EVENT_SETTLED,
			 0);
	g->now_us += RIG_STALL_MS * 1000;
	assert_int_not_equal(
		balloon_device_step(g->device, &next) & 1u << UMBRA_BALLOON_EVENT_SETTLED, 0);
	assert_int_equal(info_of(g).phase, UMBRA_BALLOON_SETTLED);
	rig_free(g);
}

static void a_table_that_grows_leaves_the_driver_its_target(void **state)
{
	struct rig *g = begin(0);

	(void)state;
	rig_set_memory(g, true, false);
	keep(g, 6 * MIB);
	assert_int_equal(told_pages(g), PAGES(2 * MIB));
	g->configs_changed = 0;
	rig_set_memory(g, true, true);
	assert_int_equal(told_pages(g), PAGES(2 * MIB));
	assert_int_equal(g->configs_changed, 0);
	assert_int_equal(info_of(g).memory_bytes, TABLE);
	assert_int_equal(info_of(g).target_bytes, TABLE - 2 * MIB);
	/* One that shrinks does not take more than was asked for. */
	rig_set_memory(g, true, false);
	assert_int_equal(told_pages(g), PAGES(2 * MIB));
	rig_free(g);
}

static void what_the_operator_says_is_not_argued_with(void **state)
{
	const struct balloon_device_config config = { .memory_bytes = 7 * MIB,
						      .floor_bytes = MIB,
						      .target = { .bytes = 4 * MIB } };
	struct rig *g = begin_with(&config, STATS | OOM);

	(void)state;
	assert_int_equal(told_pages(g), PAGES(3 * MIB));
	say_total(g, 5 * MIB);
	assert_int_equal(told_pages(g), PAGES(3 * MIB));
	assert_int_equal(info_of(g).base, UMBRA_BALLOON_BASE_OPTION);
	assert_int_equal(info_of(g).memory_bytes, 7 * MIB);
	rig_free(g);
}

static void memory_that_is_not_to_be_touched_is_neither_counted_nor_discarded(void **state)
{
	const struct balloon_device_config config = {
		.only = { { 0, HIGH_GPA } },
		.only_count = 1,
		.floor_bytes = MIB,
	};
	struct rig *g = begin_with(&config, BITMAP);

	(void)state;
	assert_int_equal(info_of(g).memory_bytes, LOW_BYTES);
	keep(g, 6 * MIB);
	assert_int_equal(told_pages(g), PAGES(2 * MIB));
	/* The driver knows nothing of that, and gives what it has. */
	send_run(g, INFLATE, HIGH_PFN, 10);
	assert_int_equal(g->discard_count, 0);
	assert_int_equal(ballooned(g), 10);
	send_run(g, INFLATE, FREE_PFN, 10);
	assert_discards(g, { FREE_PFN, 10 });
	rig_free(g);
}

static void a_share_is_one_of_what_the_guest_says_that_it_has(void **state)
{
	const struct balloon_device_config config = { .target_percent = 75, .floor_bytes = MIB };
	struct rig *g = begin_with(&config, STATS | OOM | BITMAP);

	(void)state;
	/* The table has 12 MiB; the guest is waited for. */
	look(g);
	assert_int_equal(told_pages(g), 0);
	say_total(g, 8 * MIB);
	assert_int_equal(told_pages(g), PAGES(2 * MIB));
	assert_int_equal(info_of(g).target_bytes, 6 * MIB);
	assert_int_equal(info_of(g).target_id, 1);
	/* As a size: memory that comes later is the guest's, and of less it keeps its share. */
	say_total(g, 12 * MIB);
	assert_int_equal(told_pages(g), PAGES(2 * MIB));
	say_total(g, 4 * MIB);
	assert_int_equal(told_pages(g), PAGES(MIB));
	/* Whoever sets a target later means that. */
	keep(g, 2 * MIB);
	assert_int_equal(told_pages(g), PAGES(2 * MIB));
	rig_free(g);
}

static void a_share_below_the_floor_is_held_there(void **state)
{
	const struct balloon_device_config config = { .target_percent = 1,
						      .memory_bytes = 8 * MIB };
	struct rig *g = rig_make(&config);

	(void)state;
	assert_int_equal(info_of(g).target_bytes, UMBRA_BALLOON_ALL_MEMORY);
	begin_driver(g, BITMAP);
	look(g);
	assert_int_equal(info_of(g).target_bytes, 4 * MIB);
	assert_int_equal(told_pages(g), PAGES(4 * MIB));
	rig_free(g);
}

static void a_size_to_take_is_taken_whatever_the_guest_has(void **state)
{
	struct rig *g = begin(0);

	(void)state;
	wish(g, (struct umbra_balloon_target){ .bytes = 3 * MIB, .take = true });
	assert_int_equal(told_pages(g), PAGES(3 * MIB));
	rig_set_memory(g, true, false);
	assert_int_equal(told_pages(g), PAGES(3 * MIB));
	assert_int_equal(info_of(g).target_bytes, 5 * MIB);
	rig_free(g);
}

static void the_floor_stays_with_the_guest_unless_it_is_meant(void **state)
{
	const struct umbra_balloon_target low = { .bytes = MIB },
					  much = { .bytes = 11 * MIB, .take = true },
					  meant = { .bytes = MIB, .force = true },
					  all = { .bytes = UMBRA_BALLOON_ALL_MEMORY };
	struct umbra_error err = { "" };
	struct rig *g = begin(0);

	(void)state;
	/* A sixteenth; 64 MiB; half. */
	assert_int_equal(balloon_target_floor(0, 8192 * MIB), 512 * MIB);
	assert_int_equal(balloon_target_floor(0, 512 * MIB), 64 * MIB);
	assert_int_equal(balloon_target_floor(0, 100 * MIB), 50 * MIB);
	assert_int_equal(balloon_target_floor(3 * MIB, 8192 * MIB), 3 * MIB);

	assert_int_equal(balloon_target_check(&low, TABLE, 6 * MIB, &err), -EINVAL);
	assert_non_null(strstr(err.text, "1 MiB left"));
	assert_non_null(strstr(err.text, "floor of 6 MiB"));
	assert_int_equal(balloon_target_check(&much, TABLE, 6 * MIB, &err), -EINVAL);
	assert_int_equal(balloon_target_check(&meant, TABLE, 6 * MIB, &err), 0);
	assert_int_equal(balloon_target_check(&all, MIB, 6 * MIB, &err), 0);
	/* One that could not be judged when it was set. */
	wish(g, low);
	assert_int_equal(told_pages(g), PAGES(TABLE / 2));
	wish(g, meant);
	assert_int_equal(told_pages(g), PAGES(TABLE - MIB));
	rig_free(g);
}

/* Linux takes what is in the balloon off its total then. */
static void a_total_that_shrinks_with_the_balloon_is_seen_through(void **state)
{
	const struct balloon_device_config config = { .floor_bytes = MIB };
	struct rig *g = begin_with(&config, STATS | BITMAP);

	(void)state;
	say_total(g, 6 * MIB);
	keep(g, 5 * MIB);
	send_run(g, INFLATE, FREE_PFN, PAGES(MIB) / 2);
	say_total(g, 6 * MIB); /* older than half of what it counts */
	assert_int_equal(told_pages(g), PAGES(MIB));
	send_run(g, INFLATE, FREE_PFN + PAGES(MIB) / 2, PAGES(MIB) / 2);
	say_total(g, 5 * MIB);
	assert_int_equal(info_of(g).memory_bytes, 6 * MIB);
	assert_int_equal(told_pages(g), PAGES(MIB));
	rig_free(g);
}

/* The device wants statistics, and the driver has the buffer. */
static void ask_total(struct rig *g)
{
	uint32_t len;

	rig_reuse(g);
	g->now_us += 1000;
	balloon_device_ask_stats(g->device);
	rig_run(g);
	rig_get(g, STATS_QUEUE, &len);
}

/* The driver sends what it has counted, some time ago maybe. */
static void send_total(struct rig *g, uint64_t total)
{
	uint8_t bytes[16];

	rig_send(g, STATS_QUEUE, bytes, stat_put(bytes, VIRTIO_BALLOON_S_MEMTOT, total), NULL);
	look(g);
}

/* How often the device has asked since, each time answered with @total. */
static unsigned int answer_all(struct rig *g, uint64_t total, uint64_t change)
{
	unsigned int asked = 0;
	uint32_t len;

	for (rig_run(g); rig_get(g, STATS_QUEUE, &len); rig_run(g)) {
		assert_true(++asked < 10);
		g->now_us += 1000;
		send_total(g, total);
		total += change;
	}
	return asked;
}

static void say_actual(struct rig *g, uint64_t bytes)
{
	uint32_t pages = (uint32_t)PAGES(bytes);
	struct umbra_error err;

	assert_int_equal(g->virtio->ops->set_config(g->virtio, 4, &pages, 4, 0, &err), 0);
	look(g);
}

/* A driver that says unasked what it has, as it does when it begins. */
static struct rig *begin_with_total(uint64_t total)
{
	const struct balloon_device_config config = { .floor_bytes = MIB };
	struct rig *g = begin_with(&config, STATS | BITMAP);

	g->now_us += 1000;
	send_total(g, total);
	assert_int_equal(info_of(g).memory_bytes, total);
	return g;
}

/* All is well with what the guest said first: 6 MiB, and 1 MiB of it is taken. */
static struct rig *begin_inflated(void)
{
	struct rig *g = begin_with_total(6 * MIB);

	g->now_us += 1000;
	keep(g, 5 * MIB);
	assert_int_equal(told_pages(g), PAGES(MIB));
	answer_all(g, 6 * MIB, 0);
	send_run(g, INFLATE, FREE_PFN, PAGES(MIB));
	look(g);
	assert_int_equal(answer_all(g, 5 * MIB, 0), 1);
	assert_int_equal(info_of(g).memory_bytes, 6 * MIB);
	return g;
}

static void a_total_that_was_counted_before_the_balloon_moved_is_not_believed(void **state)
{
	struct rig *g = begin_inflated();

	(void)state;
	keep(g, 6 * MIB);
	answer_all(g, 5 * MIB, 0);
	/* All goes back, after it was counted and before that is heard. */
	ask_total(g);
	send_run(g, DEFLATE, FREE_PFN, PAGES(MIB));
	send_total(g, 5 * MIB);
	assert_int_equal(info_of(g).memory_bytes, 6 * MIB);
	answer_all(g, 6 * MIB, 0);
	assert_int_equal(info_of(g).memory_bytes, 6 * MIB);
	keep(g, 5 * MIB);
	assert_int_equal(told_pages(g), PAGES(MIB));
	rig_free(g);
}

static void a_total_that_was_counted_on_the_way_to_another_target_is_not_believed(void **state)
{
	struct rig *g = begin_with_total(6 * MIB);

	(void)state;
	keep(g, 5 * MIB);
	/* The driver has taken pages off, and not told them, when all is taken back. */
	ask_total(g);
	keep(g, UMBRA_BALLOON_ALL_MEMORY);
	send_total(g, 5 * MIB);
	assert_int_equal(info_of(g).memory_bytes, 6 * MIB);
	/* Nor if it was asked only then, and still does what it was told first. */
	answer_all(g, 5 * MIB, 0);
	ask_total(g);
	send_total(g, 5 * MIB);
	assert_int_equal(answer_all(g, 5 * MIB - PAGE, PAGE), 2);
	assert_int_equal(info_of(g).memory_bytes, 6 * MIB);
	rig_free(g);
}

/* To have been told is one thing, to have done it another. */
static void a_total_counts_when_the_driver_says_that_it_is_there(void **state)
{
	struct rig *g = begin_inflated();

	(void)state;
	say_actual(g, MIB);
	keep(g, 6 * MIB);
	send_run(g, DEFLATE, FREE_PFN, PAGES(MIB));
	look(g);
	/* The device has all back, and the driver has not given it to its kernel yet. */
	answer_all(g, 5 * MIB, 0);
	say_total(g, 5 * MIB);
	assert_int_equal(info_of(g).memory_bytes, 6 * MIB);
	say_actual(g, 0);
	say_total(g, 7 * MIB);
	answer_all(g, 7 * MIB, 0);
	assert_int_equal(info_of(g).memory_bytes, 7 * MIB);
	rig_free(g);
}

static void another_total_is_believed_when_it_is_said_twice(void **state)
{
	struct rig *g = begin_with_total(6 * MIB);

	(void)state;
	say_total(g, 8 * MIB);
	assert_int_equal(info_of(g).memory_bytes, 6 * MIB);
	/* The device asks at once. */
	assert_int_equal(answer_all(g, 8 * MIB, 0), 1);
	assert_int_equal(info_of(g).memory_bytes, 8 * MIB);
	say_total(g, 6 * MIB);
	assert_int_equal(info_of(g).memory_bytes, 8 * MIB);
	assert_int_equal(answer_all(g, 6 * MIB, 0), 1);
	assert_int_equal(info_of(g).memory_bytes, 6 * MIB);
	rig_free(g);
}

static void a_guest_that_never_says_the_same_twice_is_not_asked_for_ever(void **state)
{
	struct rig *g = begin_with_total(6 * MIB);

	(void)state;
	say_total(g, 7 * MIB);
	assert_int_equal(answer_all(g, 7 * MIB + PAGE, PAGE), 2);
	for (unsigned int i = 0; i < 10; i++) {
		say_total(g, 8 * MIB + i * PAGE);
		assert_int_equal(answer_all(g, 7 * MIB, PAGE), 0);
	}
	assert_int_equal(info_of(g).memory_bytes, 6 * MIB);
	rig_free(g);
}

/* A guest that cannot give what is wanted stays short of it for as long as it lives. */
static void another_total_is_believed_of_a_driver_that_stays_short_of_its_target(void **state)
{
	struct rig *g = begin_with_total(6 * MIB);

	(void)state;
	g->now_us += 1000;
	keep(g, 2 * MIB);
	answer_all(g, 6 * MIB, 0);
	send_run(g, INFLATE, FREE_PFN, PAGES(MIB));
	look(g);
	/* It may yet move, and then have counted what it has not told. */
	say_total(g, 7 * MIB);
	assert_int_equal(answer_all(g, 7 * MIB, 0), 0);
	assert_int_equal(info_of(g).memory_bytes, 6 * MIB);
	for (unsigned int i = 0; i < 2; i++) {
		g->now_us += RIG_STALL_MS * 500;
		look(g);
		answer_all(g, 5 * MIB, 0);
	}
	assert_int_equal(info_of(g).phase, UMBRA_BALLOON_STALLED);
	assert_int_equal(info_of(g).memory_bytes, 6 * MIB);
	say_total(g, 7 * MIB);
	assert_int_equal(info_of(g).memory_bytes, 6 * MIB);
	assert_int_equal(answer_all(g, 7 * MIB, 0), 1);
	assert_int_equal(info_of(g).memory_bytes, 8 * MIB);
	/* Nobody has asked for more: the target stays. */
	assert_int_equal(told_pages(g), PAGES(4 * MIB));
	/* Told of another target, it moves again. */
	keep(g, 3 * MIB);
	answer_all(g, 5 * MIB, 0);
	say_total(g, 5 * MIB);
	assert_int_equal(answer_all(g, 5 * MIB, 0), 0);
	assert_int_equal(info_of(g).memory_bytes, 8 * MIB);
	rig_free(g);
}

static void a_total_that_is_read_again_is_not_a_new_one(void **state)
{
	struct rig *g = begin_inflated();
	int kick = g->services[STATS_QUEUE]->kick_in;
	struct umbra_error err = { "" };
	uint16_t base;

	(void)state;
	wish(g, (struct umbra_balloon_target){ .take = true });
	answer_all(g, 5 * MIB, 0);
	send_run(g, DEFLATE, FREE_PFN, PAGES(MIB));
	look(g);
	rig_stop(g, STATS_QUEUE, &base);
	assert_int_equal(ring_set_base_at(g->virtio, STATS_QUEUE, base, &err), 0);
	assert_int_equal(g->virtio->ops->ring_set_kick(g->virtio, STATS_QUEUE, &kick, &err), 0);
	look(g);
	assert_int_equal(info_of(g).memory_bytes, 6 * MIB);
	rig_free(g);
}

static void a_wish_is_corrected_both_ways_by_a_total_that_holds(void **state)
{
	struct rig *g = begin_with_total(6 * MIB);

	(void)state;
	g->now_us += 1000;
	keep(g, 5 * MIB);
	/* Amid its way, it says nothing that would count. */
	send_run(g, INFLATE, FREE_PFN, PAGES(MIB) / 2);
	answer_all(g, 7 * MIB, 0);
	assert_int_equal(told_pages(g), PAGES(MIB));
	send_run(g, INFLATE, FREE_PFN + PAGES(MIB) / 2, PAGES(MIB) / 2);
	look(g);
	assert_int_equal(info_of(g).phase, UMBRA_BALLOON_INFLATING);
	/* 2 MiB were plugged in just before the wish. */
	assert_int_equal(answer_all(g, 7 * MIB, 0), 2);
	assert_int_equal(told_pages(g), PAGES(3 * MIB));
	rig_free(g);
}

/* Rings go on, of a driver that has a balloon already, and has not said how large. */
static void a_guess_is_put_right_both_ways(void **state)
{
	const struct balloon_device_config config = { .target = { .bytes = 5 * MIB },
						      .floor_bytes = MIB,
						      .stall_ms = RIG_STALL_MS };
	struct rig *g = rig_make(&config);

	(void)state;
	rig_negotiate(g, BASIC | STATS | BITMAP);
	rig_set_memory(g, true, true);
	for (unsigned int i = 0; i < 3; i++)
		rig_start(g, i, RING_SIZE, 7);
	g->now_us += 1000;
	/* 6 MiB, but 2 MiB of them are in the balloon. */
	send_total(g, 4 * MIB);
	assert_int_equal(info_of(g).memory_bytes, 4 * MIB);
	say_actual(g, 2 * MIB);
	assert_int_equal(told_pages(g), 0);
	answer_all(g, 4 * MIB, 0);
	say_actual(g, 0);
	assert_int_equal(answer_all(g, 6 * MIB, 0), 2);
	assert_int_equal(info_of(g).memory_bytes, 6 * MIB);
	assert_int_equal(told_pages(g), PAGES(MIB));
	rig_free(g);
}

static void an_obstacle_quotes_what_the_guest_said_since_it_stands_still(void **state)
{
	const struct balloon_device_config config = { .floor_bytes = MIB, .memory_bytes = TABLE };
	struct rig *g = begin_with(&config, STATS | OOM | BITMAP);
	uint8_t bytes[16];
	uint32_t len;

	(void)state;
	rig_send(g, STATS_QUEUE, bytes, stat_put(bytes, VIRTIO_BALLOON_S_MEMFREE, 9 * MIB), NULL);
	look(g);
	g->now_us += 1000;
	keep(g, 5 * MIB);
	look(g);
	rig_get(g, STATS_QUEUE, &len);
	send_run(g, INFLATE, FREE_PFN, PAGES(MIB));
	look(g);
	/* Halfway to a stall the guest is asked anew. */
	g->now_us += RIG_STALL_MS * 500;
	look(g);
	g->now_us += RIG_STALL_MS * 500;
	look(g);
	assert_int_equal(info_of(g).phase, UMBRA_BALLOON_STALLED);
	assert_string_equal(info_of(g).obstacle, "the guest's driver stopped at 1 of 7 MiB");
	rig_reuse(g);
	rig_send(g, STATS_QUEUE, bytes, stat_put(bytes, VIRTIO_BALLOON_S_MEMFREE, 2 * MIB), NULL);
	look(g);
	assert_string_equal(info_of(g).obstacle,
			    "the guest's driver stopped at 1 of 7 MiB; the guest has 2 MiB free");
	rig_free(g);
}

static void the_next_driver_is_measured_by_what_it_says_itself(void **state)
{
	const struct balloon_device_config config = { .floor_bytes = MIB };
	struct rig *g = begin_with(&config, STATS | OOM);

	(void)state;
	say_total(g, 6 * MIB);
	keep(g, 5 * MIB);
	rig_start(g, INFLATE, RING_SIZE, 0);
	rig_start(g, DEFLATE, RING_SIZE, 0);
	rig_start(g, STATS_QUEUE, 8, 0);
	look(g);
	assert_int_equal(told_pages(g), 0);
	say_total(g, 8 * MIB);
	assert_int_equal(told_pages(g), PAGES(3 * MIB));
	rig_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			what_the_guest_says_that_it_has_is_what_a_target_is_measured_against),
		cmocka_unit_test(a_target_that_is_there_first_waits_for_the_guests_word),
		cmocka_unit_test(
			a_guest_that_keeps_silent_is_measured_by_the_table_until_it_speaks),
		cmocka_unit_test(
			the_first_statistics_after_a_wish_correct_it_both_ways_and_later_ones_downwards),
		cmocka_unit_test(a_guest_that_stops_to_speak_holds_no_way_up),
		cmocka_unit_test(a_table_that_grows_leaves_the_driver_its_target),
		cmocka_unit_test(what_the_operator_says_is_not_argued_with),
		cmocka_unit_test(memory_that_is_not_to_be_touched_is_neither_counted_nor_discarded),
		cmocka_unit_test(a_share_is_one_of_what_the_guest_says_that_it_has),
		cmocka_unit_test(a_share_below_the_floor_is_held_there),
		cmocka_unit_test(a_size_to_take_is_taken_whatever_the_guest_has),
		cmocka_unit_test(the_floor_stays_with_the_guest_unless_it_is_meant),
		cmocka_unit_test(a_total_that_shrinks_with_the_balloon_is_seen_through),
		cmocka_unit_test(a_total_that_was_counted_before_the_balloon_moved_is_not_believed),
		cmocka_unit_test(
			a_total_that_was_counted_on_the_way_to_another_target_is_not_believed),
		cmocka_unit_test(a_total_counts_when_the_driver_says_that_it_is_there),
		cmocka_unit_test(another_total_is_believed_when_it_is_said_twice),
		cmocka_unit_test(
			another_total_is_believed_of_a_driver_that_stays_short_of_its_target),
		cmocka_unit_test(a_guest_that_never_says_the_same_twice_is_not_asked_for_ever),
		cmocka_unit_test(a_total_that_is_read_again_is_not_a_new_one),
		cmocka_unit_test(a_guess_is_put_right_both_ways),
		cmocka_unit_test(a_wish_is_corrected_both_ways_by_a_total_that_holds),
		cmocka_unit_test(an_obstacle_quotes_what_the_guest_said_since_it_stands_still),
		cmocka_unit_test(the_next_driver_is_measured_by_what_it_says_itself),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
