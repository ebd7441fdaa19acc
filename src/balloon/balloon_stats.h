/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's statistics, as the stats queue brings them (virtio 1.2, 5.5.6.3).
 *
 * Theory of operation: a buffer holds any number of {le16 tag, le64 value}, packed.
 * A buffer replaces all that was known: a tag that is not in it is unsupported,
 * which is something else than a value of 0.  Unknown tags are skipped.  One thread
 * writes, others read copies under a sequence counter.  With them goes in what time they
 * were counted: the guest says when it sends them, and not how old they are.
 */
#ifndef UMBRA_BALLOON_BALLOON_STATS_H
#define UMBRA_BALLOON_BALLOON_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "umbra/balloon.h"

#define BALLOON_STAT_BYTES 10u
/* Bytes of a buffer that are looked at: room for four times what is defined. */
#define BALLOON_STATS_BYTES_MAX (4u * UMBRA_BALLOON_STATS * BALLOON_STAT_BYTES)

/* From when the guest was asked to when its statistics came. */
struct balloon_stats_window {
	uint64_t generation; /* balloon_aim::generation, of the request; 0: they came unasked */
	uint64_t pages;      /* in the ledger */
	bool nothing_moved;  /* no page came or went in it */
};

struct balloon_stats {
	uint32_t sequence; /* odd while they are written */
	uint32_t present;
	uint64_t when_us; /* 0: none have come */
	uint64_t values[UMBRA_BALLOON_STATS];
	struct balloon_stats_window window;
};

/* On the one thread that writes.  @bytes: a private copy. */
void balloon_stats_store(struct balloon_stats *s, const uint8_t *bytes, size_t length,
			 const struct balloon_stats_window *window, uint64_t now_us);
void balloon_stats_clear(struct balloon_stats *s);

/* Any thread.  @window: or NULL. */
void balloon_stats_load(const struct balloon_stats *s, uint64_t now_us,
			struct umbra_balloon_stats *out, struct balloon_stats_window *window);

#endif
