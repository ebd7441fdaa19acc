/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Faults that the survivor must find: the real shadow queue with one of its stores moved behind a
 * later one, or without one of its calls to the flight table (wrong_queue.c).
 */
#ifndef UMBRA_TEST_KILL_WRONG_H
#define UMBRA_TEST_KILL_WRONG_H

#include "world.h"

enum wrong {
	WRONG_NONE,
	/* stores that come too late */
	WRONG_ORDER_LATE,  /* what is taken is said after the shadow ring shows it, ... */
	WRONG_BACK_LATE,   /* ... what is known of it, ... */
	WRONG_HANDED_LATE, /* ... that it is handed over */
	WRONG_LOG_LATE,    /* the log says what was completed after the used index is stored */
	WRONG_ENTRY_LATE,  /* and the used ring, too */
	WRONG_USED_LATE,   /* flights are cleared before the guest's used index is stored */
	WRONG_CLEAR_LATE,  /* they are cleared after the table's used index is stored */
	WRONG_RECORD_LATE, /* a life is in force before its record is whole */
	WRONG_UNADD_LATE,  /* what goes back to the guest is no flight while it is still shown */
	/* the same of the in-flight region: */
	WRONG_REGION,
	WRONG_MARK_LATE = WRONG_REGION, /* a flight is marked after the shadow ring shows it, ... */
	WRONG_COUNTER_LATE,             /* ... before its number stands there */
	WRONG_BATCH_LATE,               /* its last batch follows the guest's used index */
	WRONG_PUBLISH_LATE,             /* the guest's used index follows the region's */
	WRONG_UNMARK_LATE,              /* marks are cleared after that */
	WRONG_REGION_END,
	WRONG_STORES = WRONG_REGION_END,
	/* calls that are left out */
	WRONG_NO_PREPARE = WRONG_STORES,
	WRONG_NO_TAKE,
	WRONG_NO_HAND_OVER,
	WRONG_NO_NOTE,
	WRONG_NO_UNTAKE,
	WRONG_NO_HAND_BACK,
	WRONG_NO_RETAKE,
	WRONG_NO_RENEW,
	WRONG_COUNT
};

extern enum wrong wrong;

const char *wrong_name(void);

static inline bool wrong_is_of_region(void)
{
	return wrong >= WRONG_REGION && wrong < WRONG_REGION_END;
}

/* Is the store of @v to @p, by @s, the one that is made too late? */
bool wrong_holds(const struct shadow *s, const void *p, uint64_t v);
/* Is it the one after which that is made? */
bool wrong_awaits(const struct shadow *s, const void *p, uint64_t v);

#endif
