/* SPDX-License-Identifier: BSD-2-Clause */
/* Promises of cli/mailbox.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <poll.h>
#include <pthread.h>

#include "cli/mailbox.h"

#define POSTERS 4
#define LETTERS 50000 /* of each */

struct numbered {
	struct letter letter;
	struct poster *poster;
	unsigned int number;
};

struct poster {
	struct mailbox *mailbox;
	pthread_t thread;
	unsigned int expected; /* number of the next letter to come */
	struct numbered letters[LETTERS];
};

static void check_order(struct letter *letter)
{
	struct numbered *numbered = (struct numbered *)letter;

	assert_int_equal(numbered->number, numbered->poster->expected++);
}

static void *post_all(void *opaque)
{
	struct poster *poster = opaque;
	unsigned int i;

	for (i = 0; i < LETTERS; i++) {
		poster->letters[i].letter.deliver = check_order;
		poster->letters[i].poster = poster;
		poster->letters[i].number = i;
		mailbox_post(poster->mailbox, &poster->letters[i].letter);
	}
	return NULL;
}

static void letters_of_many_threads_arrive_once_and_in_order(void **state)
{
	struct poster *posters = calloc(POSTERS, sizeof(*posters));
	struct mailbox *mailbox;
	unsigned int i, arrived = 0;

	(void)state;
	assert_non_null(posters);
	assert_int_equal(mailbox_create(&mailbox, NULL), 0);
	for (i = 0; i < POSTERS; i++) {
		posters[i].mailbox = mailbox;
		assert_int_equal(pthread_create(&posters[i].thread, NULL, post_all, &posters[i]),
				 0);
	}
	/* No letter without the fd being readable: else this waits for ever. */
	while (arrived < POSTERS * LETTERS) {
		struct pollfd wait = { .fd = mailbox_fd(mailbox), .events = POLLIN };

		assert_int_equal(poll(&wait, 1, 600000), 1);
		mailbox_deliver(mailbox);
		for (arrived = 0, i = 0; i < POSTERS; i++)
			arrived += posters[i].expected;
	}
	for (i = 0; i < POSTERS; i++)
		pthread_join(posters[i].thread, NULL);
	mailbox_destroy(&mailbox);
	free(posters);
}

static void count(struct letter *letter)
{
	((struct numbered *)letter)->number++;
}

static void the_fd_is_readable_only_while_there_are_letters(void **state)
{
	struct numbered one = { .letter.deliver = count }, two = one;
	struct mailbox *mailbox;
	struct pollfd wait = { .events = POLLIN };

	(void)state;
	assert_int_equal(mailbox_create(&mailbox, NULL), 0);
	wait.fd = mailbox_fd(mailbox);
	assert_int_equal(poll(&wait, 1, 0), 0);
	mailbox_deliver(mailbox);
	mailbox_post(mailbox, &one.letter);
	mailbox_post(mailbox, &two.letter);
	assert_int_equal(poll(&wait, 1, 0), 1);
	mailbox_deliver(mailbox);
	assert_int_equal(poll(&wait, 1, 0), 0);
	assert_int_equal(one.number, 1);
	assert_int_equal(two.number, 1);
	mailbox_destroy(&mailbox);
}

static void what_is_left_is_delivered_at_the_end(void **state)
{
	struct numbered one = { .letter.deliver = count };
	struct mailbox *mailbox;

	(void)state;
	assert_int_equal(mailbox_create(&mailbox, NULL), 0);
	mailbox_post(mailbox, &one.letter);
	mailbox_destroy(&mailbox);
	assert_int_equal(one.number, 1);
	assert_null(mailbox);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(letters_of_many_threads_arrive_once_and_in_order),
		cmocka_unit_test(the_fd_is_readable_only_while_there_are_letters),
		cmocka_unit_test(what_is_left_is_delivered_at_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
