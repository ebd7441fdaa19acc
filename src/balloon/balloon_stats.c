/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest's statistics: see balloon_stats.h. */
#include "balloon/balloon_stats.h"

#include "base/bits.h"

static uint64_t load_le(const uint8_t *at, unsigned int bytes)
{
	uint64_t v = 0;

	while (bytes--)
		v = v << 8 | at[bytes];
	return v;
}

/*
 * [stats-sequence] the writer: odd number, release fence, values, release store of
 * the even number; the reader: acquire load, values, acquire fence, the number
 * again.  A reader that saw a value of a later round sees that round's number, too,
 * and tries again.  Values are single relaxed accesses, so that a torn round is
 * noticed and never undefined.
 */
static void write_begin(struct balloon_stats *s)
{
	__atomic_store_n(&s->sequence, s->sequence + 1, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE);
}

static void write_end(struct balloon_stats *s)
{
	__atomic_store_n(&s->sequence, s->sequence + 1, __ATOMIC_RELEASE);
}

void balloon_stats_store(struct balloon_stats *s, const uint8_t *bytes, size_t length,
			 const struct balloon_stats_window *window, uint64_t now_us)
{
	uint32_t present = 0;

	write_begin(s);
	for (; length >= BALLOON_STAT_BYTES; length -= BALLOON_STAT_BYTES) {
		uint64_t tag = load_le(bytes, 2);

		if (tag < UMBRA_BALLOON_STATS) {
			__atomic_store_n(&s->values[tag], load_le(bytes + 2, 8), __ATOMIC_RELAXED);
			present |= 1u << tag;
		}
		bytes += BALLOON_STAT_BYTES;
	}
	__atomic_store_n(&s->window.generation, window->generation, __ATOMIC_RELAXED);
	__atomic_store_n(&s->window.pages, window->pages, __ATOMIC_RELAXED);
	__atomic_store_n(&s->window.nothing_moved, window->nothing_moved, __ATOMIC_RELAXED);
	__atomic_store_n(&s->present, present, __ATOMIC_RELAXED);
	__atomic_store_n(&s->when_us, now_us ? now_us : 1, __ATOMIC_RELAXED);
	write_end(s);
}

void balloon_stats_clear(struct balloon_stats *s)
{
	write_begin(s);
	__atomic_store_n(&s->present, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&s->when_us, 0, __ATOMIC_RELAXED);
	write_end(s);
}

void balloon_stats_load(const struct balloon_stats *s, uint64_t now_us,
			struct umbra_balloon_stats *out, struct balloon_stats_window *window)
{
	struct balloon_stats_window in;
	uint32_t before;
	uint64_t when;

	do {
		before = __atomic_load_n(&s->sequence, __ATOMIC_ACQUIRE);
		out->present = __atomic_load_n(&s->present, __ATOMIC_RELAXED);
		when = __atomic_load_n(&s->when_us, __ATOMIC_RELAXED);
		for (unsigned int i = 0; i < UMBRA_BALLOON_STATS; i++)
			out->values[i] = out->present & 1u << i
						 ? __atomic_load_n(&s->values[i], __ATOMIC_RELAXED)
						 : 0;
		in.generation = __atomic_load_n(&s->window.generation, __ATOMIC_RELAXED);
		in.pages = __atomic_load_n(&s->window.pages, __ATOMIC_RELAXED);
		in.nothing_moved = __atomic_load_n(&s->window.nothing_moved, __ATOMIC_RELAXED);
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
	} while (before & 1 || before != __atomic_load_n(&s->sequence, __ATOMIC_RELAXED));
	if (window)
		*window = in;
	if (!when)
		out->age_ms = UINT64_MAX;
	else
		out->age_ms = now_us > when ? (now_us - when) / 1000 : 0;
}
