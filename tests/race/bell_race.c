/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who moves while somebody looks is seen by that look, or rings: nothing is left that
 * nobody will look at.
 *
 *	bell_race [rounds]
 *
 * In each round one thread moves some times, as the worker of a balloon does, and the
 * other looks, as the device's thread does: when it is rung for.  Then both stand still: what the
 * last look did not see must be behind a bell that has been rung.  The rounds begin at the
 * same moment and last some ten nanoseconds more or less, so that the last look and the
 * last move meet in every way, also on processors that let a load overtake a store.
 */
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "race.h"
#include "session/bell.h"

#define TURNS_MAX 4u
#define PAUSE_MAX 64u
#define SPINS_BEFORE_YIELD 10000u

static struct bell bell;
static uint64_t moves;   /* atomic; what is looked at */
static uint64_t arrived; /* atomic; at the beginning and the end of rounds, both threads */
static uint64_t rounds;

static void pause_for(uint32_t turns)
{
	for (volatile uint32_t i = 0; i < turns; i++)
		continue;
}

/* Wait until both have come here as often. */
static void meet(uint64_t *count)
{
	*count += 2;
	__atomic_add_fetch(&arrived, 1, __ATOMIC_SEQ_CST);
	for (uint32_t i = 0; __atomic_load_n(&arrived, __ATOMIC_SEQ_CST) < *count; i++)
		if (i > SPINS_BEFORE_YIELD)
			sched_yield();
}

static void *mover(void *argument)
{
	uint32_t random = *(uint32_t *)argument;
	uint64_t count = 0;

	for (uint64_t round = 0; round < rounds; round++) {
		uint32_t turns = 1 + race_random(&random) % TURNS_MAX;

		meet(&count);
		while (turns--) {
			pause_for(race_random(&random) % PAUSE_MAX);
			__atomic_store_n(&moves, moves + 1, __ATOMIC_RELAXED);
			bell_ring(&bell);
		}
		meet(&count);
		meet(&count);
	}
	return NULL;
}

static bool is_rung(void)
{
	struct pollfd p = { .fd = bell.fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

static uint64_t look(void)
{
	if (is_rung())
		bell_hush(&bell);
	return __atomic_load_n(&moves, __ATOMIC_RELAXED);
}

int main(int argc, char **argv)
{
	uint64_t count = 0, seen = 0, behind = 0;
	uint32_t seed = 1, random = 2;
	struct umbra_error err;
	pthread_t thread;

	rounds = argc > 1 ? strtoull(argv[1], NULL, 0) : 300000;
	EXPECT(bell_open(&bell, &err) == 0);
	EXPECT(pthread_create(&thread, NULL, mover, &seed) == 0);
	for (uint64_t round = 0; round < rounds; round++) {
		uint32_t turns = 1 + race_random(&random) % TURNS_MAX;

		meet(&count);
		while (turns--) {
			pause_for(race_random(&random) % PAUSE_MAX);
			seen = look();
		}
		meet(&count);
		if (seen != moves && !is_rung()) {
			fprintf(stderr, "round %lu: %lu moves, %lu were seen, and nobody rings\n",
				(unsigned long)round, (unsigned long)moves, (unsigned long)seen);
			return 1;
		}
		behind += seen != moves;
		meet(&count);
	}
	pthread_join(thread, NULL);
	bell_close(&bell);
	printf("%lu rounds, %lu ended with a bell that called for another look\n",
	       (unsigned long)rounds, (unsigned long)behind);
	return 0;
}
