/* SPDX-License-Identifier: BSD-2-Clause */
/* Small arithmetic on bits and sizes. */
#ifndef UMBRA_BASE_BITS_H
#define UMBRA_BASE_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define BIT64(n) (UINT64_C(1) << (n))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

static inline bool is_power_of_two(uint64_t v)
{
	return v && !(v & (v - 1));
}

/* @align is a power of two; the caller has checked that v + align fits. */
static inline uint64_t align_up(uint64_t v, uint64_t align)
{
	return (v + align - 1) & ~(align - 1);
}

/* Of a static function whose arguments the compiler is to see through, e.g. functions that it
 * calls. */
#define ALWAYS_INLINE inline __attribute__((always_inline))

#endif
