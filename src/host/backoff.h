/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A pause that grows from attempt to attempt: 1 ms, 2, 4, ... and a second at last.
 *
 * Short at first, since the usual reason is that the peer is just starting; and never so
 * short for long that waiting costs anything.
 *
 * Threads: one.
 */
#ifndef UMBRA_HOST_BACKOFF_H
#define UMBRA_HOST_BACKOFF_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bits.h"
#include "base/clock.h"

#define BACKOFF_FIRST_MS 1u
#define BACKOFF_LAST_MS 1000u

/* Zero-initialised: the next attempt is due. */
struct backoff {
	uint64_t next_us;      /* when it is due, on the monotonic clock */
	unsigned int pause_ms; /* the last pause; 0: there was none */
	uint64_t attempts;     /* that failed, one after the other */
};

static inline void backoff_failed(struct backoff *b)
{
	b->attempts++;
	b->pause_ms = b->pause_ms ? MIN(2 * b->pause_ms, BACKOFF_LAST_MS) : BACKOFF_FIRST_MS;
	b->next_us = clock_now_us() + b->pause_ms * UINT64_C(1000);
}

static inline void backoff_reset(struct backoff *b)
{
	*b = (struct backoff){ 0 };
}

/* How long to wait, ms; 0: the attempt is due. */
static inline int backoff_wait_ms(const struct backoff *b)
{
	uint64_t now = clock_now_us();

	return b->next_us > now ? (int)((b->next_us - now + 999) / 1000) : 0;
}

#endif
