/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random numbers for tests: one sequence (splitmix64), whose seed is printed.
 * UMBRA_SEED=seed repeats a run.
 *
 * Threads: one.
 */
#ifndef UMBRA_TESTS_RANDOM_H
#define UMBRA_TESTS_RANDOM_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static uint64_t random_state;

/* The sequence of @seed from its start. */
static inline void random_begin(uint64_t seed)
{
	random_state = seed;
}

static inline uint64_t random64(void)
{
	uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

/* 0 to @n - 1. */
static inline uint32_t below(uint32_t n)
{
	return (uint32_t)(random64() % n);
}

/* The seed that was given, or another one each time. */
static inline uint64_t random_seed(void)
{
	const char *given = getenv("UMBRA_SEED");

	return given ? strtoull(given, NULL, 0)
		     : (uint64_t)time(NULL) * 1000003 + (uint64_t)getpid();
}

/* For the next of several sequences: another one, unless one was given. */
static inline uint64_t random_seed_after(uint64_t seed)
{
	return getenv("UMBRA_SEED") ? seed : seed + 1;
}

/* Begin with it, and say which it is. */
static inline uint64_t random_begin_anew(void)
{
	uint64_t seed = random_seed();

	printf("UMBRA_SEED=%" PRIu64 "\n", seed);
	random_begin(seed);
	return seed;
}

#endif
