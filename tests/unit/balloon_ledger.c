/* SPDX-License-Identifier: BSD-2-Clause */
/* A ledger that is made of what somebody has left in its room. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "balloon/ledger.h"
#include "random.h"

#define FIRST UINT64_C(0x1003)
#define PAGES 200u
#define AWAY UINT64_C(0x9000)

static void release_nothing(struct memory_backing *backing)
{
	(void)backing;
}

static struct memory_backing backing = { .refs = 1, .release = release_nothing };

/* A region for each of @first, in files of their own. */
static struct memory *memory_of(const uint64_t *first, unsigned int count)
{
	static struct memory_backing files[4];
	struct memory_region regions[4];
	struct memory *memory = NULL;
	struct umbra_error err;

	for (unsigned int i = 0; i < count; i++) {
		files[i] = (struct memory_backing){ .refs = 2,
						    .release = release_nothing,
						    .file_device = 7,
						    .file_inode = first[i] };
		regions[i] = (struct memory_region){ .gpa = { first[i] << 12 },
						     .uva = { first[i] << 12 },
						     .size = PAGES << 12,
						     .backing = &files[i] };
	}
	assert_int_equal(memory_create(regions, count, &memory, &err), 0);
	return memory;
}

/* A room as large as a ledger for @memory needs, which ends where its memory ends. */
static struct memory_region room_for(const struct memory *memory)
{
	struct memory_region room = { .backing = &backing };
	struct umbra_error err;

	assert_int_equal(ledger_measure(memory, &room.size, &err), 0);
	room.host = calloc(1, room.size);
	assert_non_null(room.host);
	return room;
}

static struct ledger *ledger_in(const struct memory *memory, const struct ledger *before,
				const struct memory_region *room)
{
	struct ledger *l = NULL;
	struct umbra_error err;

	assert_int_equal(ledger_create(memory, before, room, &l, &err), 0);
	return l;
}

static void what_was_in_is_in_and_only_where_the_memory_is_the_same(void **state)
{
	const uint64_t first[] = { FIRST, AWAY }, fewer[] = { FIRST };
	struct memory *both = memory_of(first, 2), *one;
	struct memory_region room = room_for(both);
	struct ledger *l = ledger_in(both, NULL, &room), *was = NULL;
	struct umbra_error err;

	(void)state;
	ledger_put(l, 0, FIRST + 10, 100);
	ledger_put(l, 1, AWAY, 7);
	ledger_mark_unfreed(l, 0, FIRST + 10, 3);
	ledger_destroy(&l);

	assert_int_equal(ledger_read(&room, &was, &err), 0);
	l = ledger_in(both, was, NULL);
	assert_int_equal(l->pages, 107);
	assert_int_equal(l->unfreed, 3);
	assert_true(ledger_has(l, 0, FIRST + 10, 100));
	assert_false(ledger_has(l, 0, FIRST + 9, 1));
	assert_true(ledger_is_related(l, was));
	ledger_destroy(&l);
	memory_unref(&both);

	one = memory_of(fewer, 1);
	l = ledger_in(one, was, NULL);
	assert_int_equal(l->pages, 100);
	ledger_destroy(&l);
	memory_unref(&one);
	ledger_destroy(&was);
	free(room.host);
}

static void a_room_that_nobody_has_finished_is_none(void **state)
{
	const uint64_t first[] = { FIRST };
	struct memory *memory = memory_of(first, 1);
	struct memory_region room = room_for(memory);
	struct ledger *l = NULL;
	struct umbra_error err;

	(void)state;
	assert_int_equal(ledger_read(&room, &l, &err), -EINVAL);
	room.size = 8;
	assert_int_equal(ledger_read(&room, &l, &err), -EINVAL);
	free(room.host);
	memory_unref(&memory);
}

/* Whatever stands there: nothing beyond the room is read, and no page is in that is not in the
 * memory table. */
static void a_room_that_lies_harms_nobody(void **state)
{
	static const uint64_t words[] = { 0,
					  1,
					  2,
					  64,
					  511,
					  512,
					  513,
					  FIRST,
					  1u << 31,
					  LEDGER_PAGES_MAX,
					  LEDGER_PAGES_MAX + 1,
					  UINT64_MAX >> 12,
					  UINT64_MAX - 1,
					  UINT64_MAX };
	const uint64_t first[] = { FIRST, AWAY };
	struct memory *memory = memory_of(first, 2);
	struct memory_region room = room_for(memory);
	unsigned int taken = 0;

	(void)state;
	random_begin_anew();
	for (unsigned int i = 0; i < 20000; i++) {
		struct ledger *l = ledger_in(memory, NULL, &room), *was = NULL, *now;
		uint64_t *word = (uint64_t *)(void *)room.host;
		struct umbra_error err;

		for (unsigned int n = below(4); n; n--)
			word[below(12)] = below(2) ? words[below(sizeof(words) / sizeof(words[0]))]
						   : random64() >> below(64);
		for (unsigned int n = below(20); n; n--)
			word[12 + below((uint32_t)(room.size / 8 - 12))] = random64();
		if (!ledger_read(&room, &was, &err)) {
			now = ledger_in(memory, was, NULL);
			assert_true(now->pages <= 2 * PAGES && now->unfreed <= now->pages);
			taken += now->pages > 0;
			ledger_destroy(&now);
		}
		ledger_destroy(&was);
		ledger_destroy(&l);
		memset(room.host, 0, room.size);
	}
	assert_true(taken > 0);
	free(room.host);
	memory_unref(&memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_in_is_in_and_only_where_the_memory_is_the_same),
		cmocka_unit_test(a_room_that_nobody_has_finished_is_none),
		cmocka_unit_test(a_room_that_lies_harms_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
