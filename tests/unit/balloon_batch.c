/* SPDX-License-Identifier: BSD-2-Clause */
/* What is seen of a batch that is carried out in several turns. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdint.h>

#include "balloon/balloon_batch.h"
#include "base/bits.h"

#define FIRST_PFN 0x100000ull
#define PAGES (3 * BALLOON_TURN_BYTES >> PAGE_RUN_SHIFT) /* three turns of them */

/* A host that counts, and a guest's memory that nobody touches. */
static uint64_t discarded;

static uint64_t now_us(struct device_host *host)
{
	(void)host;
	return 0;
}

static uint64_t discard(struct balloon_host *host, struct balloon_discard *list, unsigned int count)
{
	(void)host;
	for (unsigned int i = 0; i < count; i++) {
		list[i].result = 0;
		discarded += list[i].length >> PAGE_RUN_SHIFT;
	}
	return 0;
}

static const struct device_host_ops device_host_ops = { .now_us = now_us };
static struct device_host device_host = { &device_host_ops };
static const struct balloon_host_ops host_ops = { .discard = discard };

struct world {
	struct balloon_host host;
	struct memory *memory;
	struct ledger *ledger;
	struct balloon_counters counters;
	struct balloon_batch batch;
};

static void world_begin(struct world *w)
{
	const struct memory_region region = {
		.gpa = { FIRST_PFN << PAGE_RUN_SHIFT },
		.uva = { FIRST_PFN << PAGE_RUN_SHIFT },
		.size = PAGES << PAGE_RUN_SHIFT,
		.host = (void *)(uintptr_t)(FIRST_PFN << PAGE_RUN_SHIFT),
	};
	struct umbra_error err;

	*w = (struct world){ .host = { &device_host, &host_ops } };
	discarded = 0;
	assert_int_equal(memory_create(&region, 1, &w->memory, &err), 0);
	assert_int_equal(ledger_create(w->memory, NULL, NULL, &w->ledger, &err), 0);
	assert_int_equal(balloon_batch_init(&w->batch, &w->host, &w->counters, &err), 0);
	w->batch.memory = w->memory;
	w->batch.ledger = w->ledger;
}

static void world_end(struct world *w)
{
	balloon_batch_fini(&w->batch);
	ledger_destroy(&w->ledger);
	memory_unref(&w->memory);
}

static void all_close(struct world *w, enum balloon_kind kind)
{
	const struct page_run all = { .pfn = FIRST_PFN, .count = PAGES };

	balloon_batch_begin(&w->batch);
	balloon_batch_add(&w->batch, &all, 1);
	balloon_batch_close(&w->batch, kind);
}

/* Else a balloon is told to have arrived when its host has not got the memory. */
static void between_two_turns_the_balloon_has_what_the_host_has_got(void **state)
{
	struct world w;
	unsigned int turns = 1;

	(void)state;
	world_begin(&w);
	all_close(&w, BALLOON_INFLATE);
	assert_int_equal(w.counters.pages, 0);
	while (!balloon_batch_turn(&w.batch, BALLOON_INFLATE)) {
		assert_int_equal(w.counters.pages, discarded);
		turns++;
	}
	assert_int_equal(turns, 3);
	assert_int_equal(discarded, PAGES);
	assert_int_equal(w.counters.pages, PAGES);
	all_close(&w, BALLOON_DEFLATE);
	assert_int_equal(w.counters.pages, 0);
	assert_true(balloon_batch_turn(&w.batch, BALLOON_DEFLATE));
	assert_int_equal(w.counters.pages, 0);
	world_end(&w);
}

static void a_batch_that_is_taken_again_has_it_no_sooner(void **state)
{
	struct world w;

	(void)state;
	world_begin(&w);
	all_close(&w, BALLOON_INFLATE);
	assert_false(balloon_batch_turn(&w.batch, BALLOON_INFLATE));
	balloon_batch_drop(&w.batch);
	assert_int_equal(w.counters.pages, PAGES / 3);
	all_close(&w, BALLOON_INFLATE);
	while (!balloon_batch_turn(&w.batch, BALLOON_INFLATE))
		assert_true(w.counters.pages < PAGES);
	assert_int_equal(w.counters.pages, PAGES);
	world_end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(between_two_turns_the_balloon_has_what_the_host_has_got),
		cmocka_unit_test(a_batch_that_is_taken_again_has_it_no_sooner),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
