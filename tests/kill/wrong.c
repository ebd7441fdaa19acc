/* SPDX-License-Identifier: BSD-2-Clause */
/* Faults that the survivor must find: see wrong.h. */
#include "wrong.h"

enum wrong wrong;

const char *wrong_name(void)
{
	static const char *const names[] = {
		[WRONG_NONE] = "none",
		[WRONG_ORDER_LATE] = "order-late",
		[WRONG_BACK_LATE] = "back-late",
		[WRONG_HANDED_LATE] = "handed-late",
		[WRONG_LOG_LATE] = "log-late",
		[WRONG_ENTRY_LATE] = "entry-late",
		[WRONG_USED_LATE] = "used-late",
		[WRONG_CLEAR_LATE] = "clear-late",
		[WRONG_RECORD_LATE] = "record-late",
		[WRONG_UNADD_LATE] = "unadd-late",
		[WRONG_MARK_LATE] = "mark-late",
		[WRONG_COUNTER_LATE] = "counter-late",
		[WRONG_BATCH_LATE] = "batch-late",
		[WRONG_PUBLISH_LATE] = "publish-late",
		[WRONG_UNMARK_LATE] = "unmark-late",
		[WRONG_NO_PREPARE] = "no-prepare",
		[WRONG_NO_TAKE] = "no-take",
		[WRONG_NO_HAND_OVER] = "no-hand-over",
		[WRONG_NO_NOTE] = "no-note",
		[WRONG_NO_UNTAKE] = "no-untake",
		[WRONG_NO_HAND_BACK] = "no-hand-back",
		[WRONG_NO_RETAKE] = "no-retake",
		[WRONG_NO_RENEW] = "no-renew",
	};

	return names[wrong];
}

/* ---- which word of the shared memory is it? ------------------------------------------- */

static bool is_within(const void *p, const void *begin, size_t bytes)
{
	return (uintptr_t)p - (uintptr_t)begin < bytes;
}

/* One of the table's entries, and in it the word at @offset. */
static bool is_in_entry(const struct flight_table *t, const void *p, size_t offset)
{
	return is_within(p, t->entries, t->sizes.heads * sizeof(*t->entries)) &&
	       ((uintptr_t)p - (uintptr_t)t->entries) % sizeof(*t->entries) == offset;
}

static bool is_order(const struct flight_table *t, const void *p)
{
	return is_in_entry(t, p, offsetof(struct flight_entry, order));
}

/* One of the in-flight region's entries, and in it the word at @offset. */
static bool is_in_region(const struct shadow *s, const void *p, size_t offset)
{
	const struct region_queue *q = s->flights.region;

	return q && is_within(p, q->desc, s->world->size * sizeof(q->desc[0])) &&
	       ((uintptr_t)p - (uintptr_t)q->desc) % sizeof(q->desc[0]) == offset;
}

static bool is_mark(const struct shadow *s, const void *p)
{
	return is_in_region(s, p, offsetof(struct region_desc, inflight));
}

static bool is_region_used(const struct shadow *s, const void *p)
{
	return s->flights.region && p == &s->flights.region->used_idx;
}

static bool is_shown_index(const struct shadow *s, const void *p)
{
	const struct split_ring *back = &s->queue.back.split;

	return back->avail && p == &back->avail->idx;
}

static bool is_guest_used(const struct shadow *s, const void *p)
{
	return p == &s->world->guest.split.used->idx;
}

/* ---- what is moved ---------------------------------------------------------------------- */

bool wrong_holds(const struct shadow *s, const void *p, uint64_t v)
{
	const struct flight_table *t = &s->flights;
	const struct split_used *used = s->world->guest.split.used;

	if (!t->life) /* it has not begun */
		return false;
	switch (wrong) {
	case WRONG_ORDER_LATE:
		return is_order(t, p) && v;
	case WRONG_BACK_LATE:
		return is_in_entry(t, p, offsetof(struct flight_entry, back));
	case WRONG_HANDED_LATE:
		return p == &t->life->handed;
	case WRONG_LOG_LATE:
		return is_within(p, t->log, t->sizes.heads * sizeof(*t->log));
	case WRONG_ENTRY_LATE:
		return is_within(p, used->ring, s->world->size * sizeof(used->ring[0]));
	case WRONG_USED_LATE:
		return is_guest_used(s, p);
	case WRONG_CLEAR_LATE:
		return is_order(t, p) && !v;
	case WRONG_RECORD_LATE:
		return is_within(p, t->header->lives, sizeof(t->header->lives)) &&
		       !is_within(p, t->life, sizeof(*t->life));
	case WRONG_UNADD_LATE:
		return is_shown_index(s, p) && (int16_t)(v - s->queue.back.avail_published) < 0;
	case WRONG_MARK_LATE:
		return is_mark(s, p) && v;
	case WRONG_COUNTER_LATE:
		return is_in_region(s, p, offsetof(struct region_desc, counter));
	case WRONG_BATCH_LATE:
		return is_in_region(s, p, offsetof(struct region_desc, next)) ||
		       (t->region && p == &t->region->last_batch_head);
	case WRONG_PUBLISH_LATE:
		return is_guest_used(s, p);
	case WRONG_UNMARK_LATE:
		return is_mark(s, p) && !v;
	default:
		return false;
	}
}

bool wrong_awaits(const struct shadow *s, const void *p, uint64_t v)
{
	const struct flight_table *t = &s->flights;

	switch (wrong) {
	case WRONG_ORDER_LATE:
	case WRONG_BACK_LATE:
	case WRONG_HANDED_LATE:
	case WRONG_MARK_LATE:
		return is_shown_index(s, p);
	case WRONG_COUNTER_LATE:
		return is_mark(s, p) && v;
	case WRONG_PUBLISH_LATE:
	case WRONG_UNMARK_LATE:
		return is_region_used(s, p);
	case WRONG_LOG_LATE:
	case WRONG_ENTRY_LATE:
	case WRONG_BATCH_LATE:
		return is_guest_used(s, p);
	case WRONG_USED_LATE:
	case WRONG_CLEAR_LATE:
		return p == &t->life->used;
	case WRONG_RECORD_LATE:
		return p == &t->header->life;
	case WRONG_UNADD_LATE:
		return is_order(t, p) && !v;
	default:
		return false;
	}
}
