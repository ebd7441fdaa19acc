/* SPDX-License-Identifier: BSD-2-Clause */
/* What other threads want of a device's thread: see request.h. */
#include "session/request.h"

#include <errno.h>
#include <inttypes.h>
#include <time.h>

#include "base/clock.h"
#include "base/error.h"

#define NS_PER_S 1000000000l

/* --- by any thread ------------------------------------------------------------------ */

bool request_desk_is_busy_locked(const struct request_desk *desk)
{
	const struct request *r = desk->first;

	while (r && !r->tell)
		r = r->next;
	return r || desk->under_way;
}

int request_leave_locked(struct request_desk *desk, struct request *r)
{
	struct request **link = &desk->first;

	if (desk->state == REQUEST_DESK_CLOSED)
		return -ECANCELED;
	if (r->state == REQUEST_LEFT)
		return 0;
	r->state = REQUEST_LEFT;
	r->since_us = clock_now_us();
	r->left++;
	r->next = NULL;
	/* A handful at most: one request at a time, and each kind of news once. */
	while (*link)
		link = &(*link)->next;
	*link = r;
	bell_ring(&desk->bell);
	return 0;
}

void request_await_locked(struct request_desk *desk, struct request *r, unsigned int timeout_ms)
{
	struct timespec end;
	uint64_t wanted;
	int rc = 0;

	if (desk->state != REQUEST_DESK_ATTENDED || pthread_equal(desk->thread, pthread_self()) ||
	    request_leave_locked(desk, r))
		return;
	wanted = r->left;
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_nsec += timeout_ms % 1000 * 1000000l;
	end.tv_sec += timeout_ms / 1000 + end.tv_nsec / NS_PER_S;
	end.tv_nsec %= NS_PER_S;
	while (desk->state == REQUEST_DESK_ATTENDED && r->served < wanted && rc != ETIMEDOUT)
		rc = pthread_cond_timedwait(&desk->served, desk->lock, &end);
}

/* --- by the device's thread ---------------------------------------------------------- */

/* The next one that was left by @until_us; NULL: there is none. */
static struct request *request_take(struct request_desk *desk, uint64_t until_us)
{
	struct request *r;

	pthread_mutex_lock(desk->lock);
	r = desk->first;
	if (r && r->since_us > until_us)
		r = NULL;
	if (r) {
		desk->first = r->next;
		r->taken = r->left;
		r->state = r->tell ? REQUEST_UNDER_WAY : REQUEST_FREE;
		if (r->tell)
			desk->under_way = r;
	}
	pthread_mutex_unlock(desk->lock);
	return r;
}

static void news_done(struct request_desk *desk, struct request *r)
{
	pthread_mutex_lock(desk->lock);
	r->served = r->taken;
	pthread_cond_broadcast(&desk->served);
	pthread_mutex_unlock(desk->lock);
}

void request_desk_serve(struct request_desk *desk)
{
	uint64_t now;
	struct request *r;

	bell_hush(&desk->bell);
	/* What comes meanwhile has rung the bell again: others than those who ask have
	 * their turn first. */
	now = clock_now_us();
	while ((r = request_take(desk, now))) {
		const bool is_news = !r->tell;

		r->serve(r);
		if (is_news)
			news_done(desk, r);
	}
}

void request_done(struct request_desk *desk, struct request *r, int result,
		  const struct umbra_error *err)
{
	bool told;

	/* Room for the next is made first: who has the answer may ask again at once. */
	pthread_mutex_lock(desk->lock);
	told = r->state == REQUEST_TOLD;
	r->state = REQUEST_FREE;
	desk->under_way = NULL;
	pthread_mutex_unlock(desk->lock);
	if (!told)
		r->tell(r, result, err);
	r->forget(r);
}

/* Take out one that is to be answered, and has waited for @waited_us at @now; NULL: there
 * is none. */
static struct request *request_take_back(struct request_desk *desk, uint64_t now,
					 uint64_t waited_us)
{
	struct request **link = &desk->first, *r;

	pthread_mutex_lock(desk->lock);
	while (*link && (!(*link)->tell || now - (*link)->since_us < waited_us))
		link = &(*link)->next;
	r = *link;
	if (r) {
		*link = r->next;
		r->state = REQUEST_FREE;
	}
	pthread_mutex_unlock(desk->lock);
	return r;
}

/* The one that is carried out, if it has waited for too long, and nobody has been told so. */
static struct request *under_way_overdue(struct request_desk *desk, uint64_t now,
					 uint64_t waited_us)
{
	struct request *r;

	pthread_mutex_lock(desk->lock);
	r = desk->under_way;
	if (r && (!r->overdue || r->state == REQUEST_TOLD || now - r->since_us < waited_us))
		r = NULL;
	if (r)
		r->state = REQUEST_TOLD;
	pthread_mutex_unlock(desk->lock);
	return r;
}

void request_desk_overdue(struct request_desk *desk, const char *waits_for)
{
	const uint64_t now = clock_now_us();
	const uint64_t deadline_us = desk->deadline_ms * UINT64_C(1000);
	struct umbra_error err = { "" };
	struct request *r = under_way_overdue(desk, now, deadline_us);

	if (r) {
		r->overdue(r, waits_for, (now - r->since_us) / 1000, &err);
		r->tell(r, -ETIMEDOUT, &err);
	}
	while ((r = request_take_back(desk, now, deadline_us))) {
		error_set(&err, -ETIMEDOUT,
			  "%s, and has not come to this for %" PRIu64 " ms: nothing was changed",
			  waits_for, (now - r->since_us) / 1000);
		r->tell(r, -ETIMEDOUT, &err);
		r->forget(r);
	}
}

/* --- life ------------------------------------------------------------------------------ */

void request_desk_attend(struct request_desk *desk)
{
	pthread_mutex_lock(desk->lock);
	desk->state = REQUEST_DESK_ATTENDED;
	desk->thread = pthread_self();
	pthread_mutex_unlock(desk->lock);
}

void request_desk_abandon(struct request_desk *desk)
{
	static const struct umbra_error stopped = { "the device was stopped" };
	struct request *r;

	pthread_mutex_lock(desk->lock);
	desk->state = REQUEST_DESK_CLOSED;
	pthread_cond_broadcast(&desk->served);
	pthread_mutex_unlock(desk->lock);
	while ((r = request_take_back(desk, 0, 0))) {
		r->tell(r, -ECANCELED, &stopped);
		r->forget(r);
	}
}

int request_desk_open(struct request_desk *desk, pthread_mutex_t *lock, unsigned int deadline_ms,
		      struct umbra_error *err)
{
	pthread_condattr_t clock;

	*desk = (struct request_desk){ .lock = lock, .deadline_ms = deadline_ms };
	pthread_condattr_init(&clock);
	pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	pthread_cond_init(&desk->served, &clock);
	pthread_condattr_destroy(&clock);
	return bell_open(&desk->bell, err);
}

void request_desk_close(struct request_desk *desk)
{
	bell_close(&desk->bell);
	if (desk->lock)
		pthread_cond_destroy(&desk->served);
	desk->lock = NULL;
}
