/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A histogram of times: 32 buckets to each power of two, so that a percentile
 * is right to 3%.  Times below 64 ns are exact.
 */
#ifndef UMBRA_BENCH_LATENCY_H
#define UMBRA_BENCH_LATENCY_H

#include <stdint.h>

#define LATENCY_LINEAR_BITS 5u
#define LATENCY_BUCKETS ((64u - LATENCY_LINEAR_BITS + 1) << LATENCY_LINEAR_BITS)

struct latency {
	uint64_t count, sum_ns, max_ns;
	uint64_t buckets[LATENCY_BUCKETS];
};

static inline void latency_add(struct latency *l, uint64_t ns)
{
	unsigned int log = 63u - (unsigned int)__builtin_clzll(ns | 1u);
	unsigned int shift = log > LATENCY_LINEAR_BITS ? log - LATENCY_LINEAR_BITS : 0;

	l->buckets[(shift << LATENCY_LINEAR_BITS) + (ns >> shift)]++;
	l->count++;
	l->sum_ns += ns;
	if (ns > l->max_ns)
		l->max_ns = ns;
}

/* The time that @part (0 to 1) of all did not exceed, ns. */
static inline uint64_t latency_percentile(const struct latency *l, double part)
{
	uint64_t wanted = (uint64_t)((double)l->count * part), seen = 0;

	for (unsigned int i = 0; i < LATENCY_BUCKETS; i++) {
		unsigned int shift = i >> LATENCY_LINEAR_BITS;

		/* Above the first 64 the index holds shift + 1: the value's top
		 * bit is in it. */
		shift = shift > 1 ? shift - 1 : 0;
		seen += l->buckets[i];
		if (seen > wanted)
			return ((uint64_t)(i - (shift << LATENCY_LINEAR_BITS)) + 1) << shift;
	}
	return l->max_ns;
}

static inline double latency_mean(const struct latency *l)
{
	return l->count ? (double)l->sum_ns / (double)l->count : 0;
}

#endif
