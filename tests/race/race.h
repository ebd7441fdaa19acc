/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What races share: a judgement that ends the program, random numbers, and an alarm
 * that says when all sleep.
 */
#ifndef UMBRA_TESTS_RACE_H
#define UMBRA_TESTS_RACE_H

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#define EXPECT(what)                                                                               \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what);         \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

static inline uint32_t race_random(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}

/* ---- the watch ------------------------------------------------------------ */

static uint64_t race_progress; /* buffers that came back; atomic */
static unsigned int race_patience_s;

/* Did anything come back since the last time? */
static inline void race_on_alarm(int sig)
{
	static const char text[] = "a wake-up was lost: everybody sleeps\n";
	static uint64_t before = UINT64_MAX;
	uint64_t now = __atomic_load_n(&race_progress, __ATOMIC_RELAXED);

	(void)sig;
	if (now == before) {
		(void)!write(2, text, sizeof(text) - 1);
		_exit(1);
	}
	before = now;
	alarm(race_patience_s);
}

/* From now on something must come back within each @patience_s seconds. */
static inline void race_watch(unsigned int patience_s)
{
	race_patience_s = patience_s;
	signal(SIGALRM, race_on_alarm);
	alarm(patience_s);
}

static inline void race_came_back(uint64_t count)
{
	__atomic_store_n(&race_progress, count, __ATOMIC_RELAXED);
}

#endif
