/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Promises of the balloon device about its account, its rings and its configuration,
 * kept before a driver that may say anything.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "balloon_talk.h"
#include "base/shm.h"

/* --- the account ---------------------------------------------------------------------- */

static void a_memory_table_that_changes_keeps_the_account_right(void **state)
{
	struct rig *g = begin(BITMAP);

	(void)state;
	send_run(g, INFLATE, FREE_PFN, 10);
	send_run(g, INFLATE, HIGH_PFN, 20);
	assert_int_equal(ballooned(g), 30);
	rig_set_memory(g, true, true); /* said again */
	assert_int_equal(ballooned(g), 30);
	rig_set_memory(g, true, false); /* unplugged */
	assert_int_equal(ballooned(g), 10);
	assert_status(send_run(g, INFLATE, HIGH_PFN, 1), 0, PAGE_RUN_OUTSIDE, 0);
	rig_set_memory(g, true, true); /* plugged in again: other memory by now */
	assert_int_equal(ballooned(g), 10);
	send_run(g, INFLATE, HIGH_PFN, 20);
	g->high_file.file_inode = 3; /* another file in its place */
	rig_set_memory(g, true, true);
	assert_int_equal(ballooned(g), 10);
	send_run(g, DEFLATE, FREE_PFN, 10);
	assert_int_equal(ballooned(g), 0);
	rig_free(g);
}

static void a_fresh_driver_starts_with_an_empty_account(void **state)
{
	struct rig *g = begin(BITMAP);
	struct umbra_error err;
	uint16_t base;

	(void)state;
	send_run(g, INFLATE, FREE_PFN, 10);
	rig_stop(g, INFLATE, &base);
	rig_stop(g, DEFLATE, &base);
	assert_int_equal(ballooned(g), 10); /* the machine may just be paused */
	rig_start(g, INFLATE, RING_SIZE, 0);
	assert_int_equal(ballooned(g), 0);
	rig_start(g, DEFLATE, RING_SIZE, 0);
	send_run(g, INFLATE, FREE_PFN, 10);
	assert_int_equal(g->virtio->ops->reset(g->virtio, &err), 0);
	assert_int_equal(ballooned(g), 0);
	rig_negotiate(g, BASIC | BITMAP);
	rig_start(g, INFLATE, RING_SIZE, 0);
	rig_start(g, DEFLATE, RING_SIZE, 0);
	send_run(g, INFLATE, FREE_PFN, 10);
	assert_int_equal(g->virtio->ops->set_status(g->virtio, 4, &err), 0);
	assert_int_equal(g->virtio->ops->set_status(g->virtio, 0, &err), 0);
	assert_int_equal(ballooned(g), 0);
	rig_free(g);
}

static void a_paused_machine_goes_on_with_its_account(void **state)
{
	struct rig *g = begin(BITMAP);
	uint16_t inflate, deflate;

	(void)state;
	send_run(g, INFLATE, FREE_PFN, 10);
	rig_stop(g, INFLATE, &inflate);
	rig_stop(g, DEFLATE, &deflate);
	assert_int_equal(inflate, 1);
	assert_int_equal(deflate, 0);
	rig_start(g, INFLATE, RING_SIZE, inflate);
	rig_start(g, DEFLATE, RING_SIZE, deflate);
	rig_run(g);
	assert_int_equal(ballooned(g), 10);
	send_run(g, DEFLATE, FREE_PFN, 4);
	assert_int_equal(ballooned(g), 6);
	rig_free(g);
}

static void a_front_end_that_comes_back_finds_its_account(void **state)
{
	struct rig *g = begin(BITMAP);
	uint16_t base;

	(void)state;
	send_run(g, INFLATE, FREE_PFN, 10);
	rig_stop(g, INFLATE, &base);
	g->virtio->ops->detach(g->virtio);
	assert_int_equal(ballooned(g), 0);
	assert_int_equal(info_of(g).state, UMBRA_BALLOON_WAITING);
	assert_int_equal(info_of(g).memory_bytes, 0);
	g->virtio->ops->attach(g->virtio, NULL);
	rig_negotiate(g, BASIC | BITMAP);
	rig_set_memory(g, true, true);
	rig_start(g, INFLATE, RING_SIZE, base);
	assert_int_equal(ballooned(g), 10);
	/* Another guest has rings that are new. */
	g->virtio->ops->detach(g->virtio);
	g->virtio->ops->attach(g->virtio, NULL);
	rig_negotiate(g, BASIC | BITMAP);
	rig_set_memory(g, true, true);
	rig_start(g, INFLATE, RING_SIZE, 0);
	assert_int_equal(ballooned(g), 0);
	rig_free(g);
}

static void a_driver_that_is_set_up_anew_without_a_stop_is_a_fresh_one(void **state)
{
	struct rig *g = begin(BITMAP);

	(void)state;
	send_run(g, INFLATE, FREE_PFN, 10);
	rig_start(g, INFLATE, RING_SIZE, 0);
	rig_start(g, DEFLATE, RING_SIZE, 0);
	assert_int_equal(ballooned(g), 0);
	send_run(g, INFLATE, FREE_PFN, 5);
	assert_int_equal(ballooned(g), 5);
	assert_int_equal(info_of(g).state, UMBRA_BALLOON_RUNNING);
	rig_free(g);
}

static void buffers_that_an_earlier_life_took_and_kept_are_served(void **state)
{
	struct rig *g = begin(BITMAP);
	const struct page_run run = { FREE_PFN, 3 };
	uint8_t m[64];
	uint32_t len;
	uint16_t base;

	(void)state;
	send_run(g, INFLATE, FREE_PFN + 8, 1);
	rig_stop(g, INFLATE, &base);
	rig_send(g, INFLATE, m, message_make(m, sizeof(m), &run, 1), NULL);
	/* The front-end believes that it has been taken: the base is behind it. */
	assert_int_equal(ring_set_base_at(g->virtio, INFLATE, base + 1, NULL), 0);
	g->services[INFLATE] = NULL;
	{
		int kick = 1000;
		struct umbra_error err;

		assert_int_equal(g->virtio->ops->ring_set_kick(g->virtio, INFLATE, &kick, &err), 0);
	}
	rig_run(g);
	assert_int_equal(rig_get(g, INFLATE, &len), 1);
	assert_int_equal(ballooned(g), 4);
	rig_free(g);
}

/* --- statistics and reports --------------------------------------------------------------- */

static void statistics_are_kept_and_asked_for(void **state)
{
	struct rig *g = begin(STATS);
	uint8_t bytes[64];
	size_t size = 0;
	uint32_t len;

	(void)state;
	rig_start(g, 2, 8, 0);
	assert_true(info_of(g).stats.age_ms == UINT64_MAX);
	size += stat_put(bytes + size, VIRTIO_BALLOON_S_MEMFREE, 0);
	size += stat_put(bytes + size, VIRTIO_BALLOON_S_MEMTOT, UINT64_MAX);
	size += stat_put(bytes + size, 999, 7); /* of a later version */
	rig_send(g, 2, bytes, size + 9, NULL);  /* and a part of one */
	rig_run(g);
	g->now_us += 3000000;
	assert_int_equal(info_of(g).stats.age_ms, 3000);
	/* 0 and absent are two things. */
	assert_int_equal(info_of(g).stats.present, 1u << 4 | 1u << 5);
	assert_true(info_of(g).stats.values[5] == UINT64_MAX);
	assert_int_equal(rig_get(g, 2, &len), 0); /* kept */
	balloon_device_ask_stats(g->device);
	rig_run(g);
	assert_int_equal(rig_get(g, 2, &len), 1);
	assert_int_equal(g->calls[2], 1);
	stat_put(bytes, VIRTIO_BALLOON_S_SWAP_IN, 5);
	rig_send(g, 2, bytes, 10, NULL);
	rig_run(g);
	assert_int_equal(info_of(g).stats.present, 1);
	assert_int_equal(info_of(g).stats.age_ms, 0);
	rig_free(g);
}

static void a_kept_buffer_is_taken_again_after_a_pause(void **state)
{
	struct rig *g = begin(STATS);
	uint8_t bytes[16];
	uint16_t base;
	uint32_t len;

	(void)state;
	rig_start(g, 2, 8, 0);
	rig_send(g, 2, bytes, stat_put(bytes, 0, 1), NULL);
	rig_run(g);
	rig_stop(g, 2, &base);
	assert_int_equal(base, 0);
	{
		int kick = 1004;
		struct umbra_error err;

		assert_int_equal(g->virtio->ops->ring_set_kick(g->virtio, 2, &kick, &err), 0);
	}
	rig_run(g);
	balloon_device_ask_stats(g->device);
	rig_run(g);
	assert_int_equal(rig_get(g, 2, &len), 1);
	rig_free(g);
}

static void report(struct rig *g, unsigned int queue, uint64_t gpa, uint32_t size)
{
	struct driver_seg seg = { .addr = { gpa }, .len = size, .writable = 1 };
	uint32_t len;

	assert_int_equal(driver_ring_add(&g->rings[queue], &seg, 1, 0), 1);
	driver_ring_publish(&g->rings[queue]);
	g->ready[queue] = true;
	rig_run(g);
	assert_int_equal(rig_get(g, queue, &len), 1);
	assert_int_equal(len, 0);
}

/* Linux counts the queues that it has; the specification those that there could be. */
static void reports_are_heard_on_whatever_queue_they_come(void **state)
{
	static const struct {
		uint64_t features;
		unsigned int queue;
	} cases[] = { { REPORTING, 2 }, { REPORTING | STATS, 3 }, { REPORTING | STATS, 4 } };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct rig *g = begin(cases[i].features);

		rig_start(g, cases[i].queue, 8, 0);
		report(g, cases[i].queue, HIGH_GPA + 8192, 3 * PAGE);
		assert_discards(g, { HIGH_PFN + 2, 3 });
		assert_int_equal(ballooned(g), 0);
		assert_int_equal(info_of(g).reported_bytes, 3 * PAGE);
		rig_free(g);
	}
}

static void only_whole_pages_of_a_report_are_discarded(void **state)
{
	struct rig *g = begin(REPORTING);

	(void)state;
	rig_start(g, 2, 8, 0);
	report(g, 2, HIGH_GPA + 1, PAGE);
	assert_int_equal(g->discard_count, 0);
	report(g, 2, HIGH_GPA + 1, 3 * PAGE - 2);
	assert_discards(g, { HIGH_PFN + 1, 1 });
	rig_free(g);
}

static void reported_pages_that_are_poisoned_stay_as_they_are(void **state)
{
	static const uint8_t poison[4] = { 0xaa, 0xaa, 0xaa, 0xaa };
	struct rig *g = begin(REPORTING | POISON);
	struct umbra_error err;

	(void)state;
	rig_start(g, 2, 8, 0);
	assert_int_equal(g->virtio->ops->set_config(g->virtio, 12, poison, 4, 0, &err), 0);
	report(g, 2, HIGH_GPA, 4 * PAGE);
	assert_int_equal(g->discard_calls, 0);
	assert_int_equal(*rig_at(g, HIGH_GPA), 0x5a);
	rig_free(g);
}

/* --- configuration and features --------------------------------------------------------------- */

static void the_driver_is_told_the_target_and_cannot_write_it(void **state)
{
	static const uint8_t ones[16] = { 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0,
					  0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0 };
	const struct umbra_balloon_target wish = { .bytes = LOW_BYTES + HIGH_BYTES - 5 * PAGE };
	struct rig *g = begin(0);
	struct umbra_error err;

	(void)state;
	assert_int_equal(config_get(g, 0), 0);
	g->configs_changed = 0;
	balloon_device_set_target(g->device, &wish, 1);
	assert_int_equal(g->configs_changed, 1);
	assert_int_equal(config_get(g, 0), 5);
	assert_int_equal(g->virtio->ops->set_config(g->virtio, 0, ones, 16, 0, &err), 0);
	assert_int_equal(config_get(g, 0), 5);
	assert_int_equal(config_get(g, 4), 1);
	assert_int_equal(config_get(g, 8), 0);
	assert_int_equal(info_of(g).driver_bytes, PAGE);
	assert_int_equal(info_of(g).ballooned_bytes, 0);
	/* Out of bounds, also by overflow. */
	assert_int_equal(g->virtio->ops->set_config(g->virtio, 13, ones, 4, 0, &err), -EINVAL);
	assert_int_equal(g->virtio->ops->set_config(g->virtio, 17, ones, 0, 0, &err), -EINVAL);
	assert_int_equal(g->virtio->ops->set_config(g->virtio, UINT32_MAX - 3, ones, 8, 0, &err),
			 -EINVAL);
	/* What is left of the memory is less than the guest shall keep. */
	g->configs_changed = 0;
	rig_set_memory(g, true, false);
	assert_int_equal(config_get(g, 0), 0);
	assert_int_equal(g->configs_changed, 1);
	rig_free(g);
}

static void a_driver_cannot_take_what_was_not_offered(void **state)
{
	struct rig *g = rig_new(UMBRA_BALLOON_HIDE_PAGE_BITMAP | UMBRA_BALLOON_HIDE_MUST_TELL_HOST);
	struct umbra_error err;
	uint64_t offered;

	(void)state;
	assert_int_equal(g->virtio->ops->get_features(g->virtio, &offered, &err), 0);
	assert_int_equal(offered & (BITMAP | MUST_TELL | BIT64(VIRTIO_BALLOON_F_FREE_PAGE_HINT)),
			 0);
	assert_int_equal(g->virtio->ops->set_features(g->virtio, BASIC | BITMAP, &err), -EINVAL);
	assert_int_equal(g->virtio->ops->set_features(g->virtio, STATS, &err), -EINVAL);
	assert_int_equal(g->virtio->ops->set_features(g->virtio, BASIC | STATS, &err), 0);
	rig_free(g);
}

/* --- a ring that is violated --------------------------------------------------------------------
 */

static void a_broken_queue_is_reported_and_the_others_go_on(void **state)
{
	struct rig *g = begin(0);
	uint32_t pfn = (uint32_t)FREE_PFN, len;
	struct umbra_error err;
	uint8_t status;

	(void)state;
	send_pfns(g, INFLATE, &pfn, 1);
	/* More chains than the ring holds. */
	shm_store16(&g->rings[INFLATE].split.avail->idx, 5000);
	g->ready[INFLATE] = true;
	rig_run(g);
	assert_int_equal(info_of(g).state, UMBRA_BALLOON_BROKEN);
	assert_non_null(strstr(info_of(g).reason, "available"));
	assert_int_equal(g->virtio->ops->get_status(g->virtio, &status, &err), 0);
	assert_true(status & VIRTIO_CONFIG_S_NEEDS_RESET);
	send_pfns(g, DEFLATE, &pfn, 1);
	assert_int_equal(ballooned(g), 0);
	assert_int_equal(rig_get(g, INFLATE, &len), 0);
	/* A reset mends it. */
	assert_int_equal(g->virtio->ops->reset(g->virtio, &err), 0);
	rig_negotiate(g, BASIC);
	rig_start(g, INFLATE, RING_SIZE, 0);
	rig_start(g, DEFLATE, RING_SIZE, 0);
	send_pfns(g, INFLATE, &pfn, 1);
	assert_int_equal(info_of(g).state, UMBRA_BALLOON_RUNNING);
	rig_free(g);
}

static void a_ring_that_loses_its_memory_breaks_and_touches_nothing(void **state)
{
	struct rig *g = begin(0);

	(void)state;
	rig_set_memory(g, false, true);
	assert_int_equal(info_of(g).state, UMBRA_BALLOON_BROKEN);
	assert_null(g->services[INFLATE]);
	assert_null(g->services[DEFLATE]);
	rig_free(g);
}

static void a_guest_may_balloon_its_own_rings(void **state)
{
	struct rig *g = begin(BITMAP);
	const struct page_run run = { LOW_PFN, RINGS_BYTES >> 12 };
	uint8_t m[64];

	(void)state;
	rig_send(g, INFLATE, m, message_make(m, sizeof(m), &run, 1), NULL);
	/* Not looked at while it happens: the rig's own rings vanish. */
	free(g->privates[0]);
	free(g->privates[1]);
	g->privates[0] = g->privates[1] = NULL;
	rig_run(g);
	assert_int_equal(ballooned(g), RINGS_BYTES >> 12);
	rig_free(g);
}

static void a_base_that_cannot_be_breaks_the_queue(void **state)
{
	static const uint16_t bases[] = { 0, 2, 5, 200, 65535 }; /* used 3, available 4 */

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bases); i++) {
		struct rig *g = begin(BITMAP);
		const struct page_run run = { FREE_PFN + 64, 8 };
		struct umbra_error err = { "" };
		uint8_t m[64];
		uint16_t base;
		int fd = -1;

		for (int n = 0; n < 3; n++)
			send_run(g, INFLATE, FREE_PFN + 8 * n, 8);
		rig_stop(g, INFLATE, &base);
		assert_int_equal(base, 3);
		rig_send(g, INFLATE, m, message_make(m, sizeof(m), &run, 1), NULL);
		assert_int_equal(ring_set_base_at(g->virtio, INFLATE, bases[i], &err), 0);
		g->discard_count = 0;
		assert_int_equal(g->virtio->ops->ring_set_kick(g->virtio, INFLATE, &fd, &err), 0);
		rig_run(g);
		assert_int_equal(info_of(g).state, UMBRA_BALLOON_BROKEN);
		assert_int_equal(g->discard_count, 0);
		assert_int_equal(ballooned(g), 24); /* and the account is as it was */
		assert_true(g->configs_changed > 0);
		{
			char numbers[64];

			snprintf(numbers, sizeof(numbers), "at index %u", bases[i]);
			assert_non_null(strstr(info_of(g).reason, numbers));
			assert_non_null(strstr(info_of(g).reason, "used 3 and available 4"));
		}
		/* Stopped, and started where it can be, it serves again. */
		rig_stop(g, INFLATE, &base);
		assert_int_equal(base, bases[i]);
		assert_int_equal(ring_set_base_at(g->virtio, INFLATE, 3, &err), 0);
		assert_int_equal(g->virtio->ops->ring_set_kick(g->virtio, INFLATE, &fd, &err), 0);
		rig_run(g);
		assert_discards(g, { FREE_PFN + 64, 8 });
		rig_free(g);
	}
}

static void an_eventfd_that_is_refused_leaves_the_old_one(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		struct rig *g = begin(BITMAP);
		const struct virtio_ops *ops = g->virtio->ops;
		int (*set)(struct virtio_device *, unsigned int, int *, struct umbra_error *) =
			i ? ops->ring_set_call : ops->ring_set_kick;
		struct umbra_error err = { "" };
		int fd = 987654; /* no fd, and not closed */

		g->fail_serves = 1;
		assert_int_equal(set(g->virtio, INFLATE, &fd, &err), -EPERM);
		assert_int_equal(fd, 987654);
		assert_int_equal(info_of(g).state, UMBRA_BALLOON_RUNNING);
		send_run(g, INFLATE, FREE_PFN, 8);
		assert_int_equal(ballooned(g), 8);
		/* Neither: it says so. */
		g->fail_serves = 2;
		assert_int_equal(set(g->virtio, INFLATE, &fd, &err), -EPERM);
		assert_int_equal(info_of(g).state, UMBRA_BALLOON_BROKEN);
		assert_non_null(strstr(info_of(g).reason, "cannot be watched"));
		rig_free(g);
	}
}

/* --- what makes it forget -------------------------------------------------------------- */

static void comes_again(struct rig *g)
{
	g->virtio->ops->detach(g->virtio);
	g->virtio->ops->attach(g->virtio, NULL);
	rig_set_memory(g, true, true);
}

static void is_reset(struct rig *g)
{
	struct umbra_error err;

	assert_int_equal(g->virtio->ops->reset(g->virtio, &err), 0);
}

/* VMMs say it to a machine that merely stops, and whose driver goes on. */
static void gets_status_0(struct rig *g)
{
	struct umbra_error err;
	uint16_t base;

	assert_int_equal(g->virtio->ops->set_status(g->virtio, 4, &err), 0);
	rig_stop(g, INFLATE, &base);
	rig_stop(g, DEFLATE, &base);
	assert_int_equal(g->virtio->ops->set_status(g->virtio, 0, &err), 0);
}

static void gets_a_table(struct rig *g)
{
	uint16_t base;

	rig_stop(g, INFLATE, &base);
	rig_set_memory(g, true, true);
}

/* Read in the other protocol's words, a message names pages that the driver never meant. */
static void without_features_no_message_is_read(void **state)
{
	static const struct {
		void (*happens)(struct rig *g);
		bool forgets;
	} events[] = {
		{ comes_again, true },
		{ is_reset, true },
		{ gets_status_0, false },
		{ gets_a_table, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(events); i++) {
		struct rig *g = begin(BITMAP);
		struct umbra_error err = { "" };
		int fd = -1;

		events[i].happens(g);
		if (events[i].forgets) {
			assert_int_equal(
				g->virtio->ops->ring_set_kick(g->virtio, INFLATE, &fd, &err),
				-EINVAL);
			assert_non_null(strstr(err.text, "queue 0"));
			assert_non_null(strstr(err.text, "before SET_FEATURES"));
			assert_null(g->services[INFLATE]);
			rig_negotiate(g, BASIC | BITMAP);
		}
		rig_start(g, INFLATE, RING_SIZE, 0);
		assert_status(send_run(g, INFLATE, FREE_PFN, 4), 4, PAGE_RUN_OK, 1);
		assert_discards(g, { FREE_PFN, 4 });
		rig_free(g);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_memory_table_that_changes_keeps_the_account_right),
		cmocka_unit_test(a_fresh_driver_starts_with_an_empty_account),
		cmocka_unit_test(a_paused_machine_goes_on_with_its_account),
		cmocka_unit_test(a_front_end_that_comes_back_finds_its_account),
		cmocka_unit_test(a_driver_that_is_set_up_anew_without_a_stop_is_a_fresh_one),
		cmocka_unit_test(buffers_that_an_earlier_life_took_and_kept_are_served),
		cmocka_unit_test(statistics_are_kept_and_asked_for),
		cmocka_unit_test(a_kept_buffer_is_taken_again_after_a_pause),
		cmocka_unit_test(reports_are_heard_on_whatever_queue_they_come),
		cmocka_unit_test(only_whole_pages_of_a_report_are_discarded),
		cmocka_unit_test(reported_pages_that_are_poisoned_stay_as_they_are),
		cmocka_unit_test(the_driver_is_told_the_target_and_cannot_write_it),
		cmocka_unit_test(a_driver_cannot_take_what_was_not_offered),
		cmocka_unit_test(a_broken_queue_is_reported_and_the_others_go_on),
		cmocka_unit_test(a_ring_that_loses_its_memory_breaks_and_touches_nothing),
		cmocka_unit_test(a_guest_may_balloon_its_own_rings),
		cmocka_unit_test(a_base_that_cannot_be_breaks_the_queue),
		cmocka_unit_test(an_eventfd_that_is_refused_leaves_the_old_one),
		cmocka_unit_test(without_features_no_message_is_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
