/* SPDX-License-Identifier: BSD-2-Clause */
/* How a balloon comes along: see balloon_progress.h. */
#include "balloon/balloon_progress.h"

#include "base/bits.h"

void balloon_progress_init(struct balloon_progress *p, uint64_t stall_us)
{
	*p = (struct balloon_progress){ .stall_us = stall_us, .phase = UMBRA_BALLOON_SETTLED };
}

static uint64_t distance(uint64_t a, uint64_t b)
{
	return a > b ? a - b : b - a;
}

static void measure_rate(struct balloon_progress *p, uint64_t now_us)
{
	uint64_t passed = now_us - p->rate_us;

	if (passed < BALLOON_RATE_WINDOW_US / 4)
		return;
	p->rate = passed > 4 * BALLOON_RATE_WINDOW_US
			  ? 0
			  : distance(p->pages, p->rate_pages) * 1000000u / passed;
	p->rate_pages = p->pages;
	p->rate_us = now_us;
}

/* Which phase holds now. */
static enum umbra_balloon_phase judge(struct balloon_progress *p, uint64_t now_us,
				      const struct balloon_progress_view *v)
{
	uint64_t far = distance(p->target, p->pages);

	if (!far && !v->waits) {
		p->nearest = 0;
		return UMBRA_BALLOON_SETTLED;
	}
	if (!v->driver)
		return UMBRA_BALLOON_PENDING;
	if (far < p->nearest) {
		p->nearest = far;
		p->moved_us = now_us;
	}
	if (now_us - p->moved_us < p->stall_us)
		return p->target < p->pages ? UMBRA_BALLOON_DEFLATING : UMBRA_BALLOON_INFLATING;
	return far < BALLOON_SLACK_PAGES ? UMBRA_BALLOON_SETTLED : UMBRA_BALLOON_STALLED;
}

static bool has_ended(enum umbra_balloon_phase phase)
{
	return phase == UMBRA_BALLOON_SETTLED || phase == UMBRA_BALLOON_STALLED;
}

unsigned int balloon_progress_step(struct balloon_progress *p, uint64_t now_us,
				   const struct balloon_progress_view *view, uint64_t *next_us)
{
	enum umbra_balloon_phase before = p->phase;
	uint64_t target = view->target, pages = view->pages;
	bool anew = view->anew || target != p->target;
	unsigned int tell = 0;

	if (anew || (before == UMBRA_BALLOON_PENDING && view->driver)) {
		p->nearest = UINT64_MAX;
		p->moved_us = now_us;
		p->tells_end = p->tells_end || anew;
	}
	p->target = target;
	p->pages = pages;
	/* Away from a target that had been met: the guest has helped itself. */
	if (before == UMBRA_BALLOON_SETTLED && distance(target, pages) >= BALLOON_SLACK_PAGES &&
	    p->nearest < distance(target, pages)) {
		p->nearest = UINT64_MAX;
		p->moved_us = now_us;
		p->tells_end = true;
	}
	measure_rate(p, now_us);
	p->phase = judge(p, now_us, view);
	*next_us = UINT64_MAX;
	if (p->phase == UMBRA_BALLOON_INFLATING || p->phase == UMBRA_BALLOON_DEFLATING)
		*next_us = MIN(p->moved_us + p->stall_us, now_us + BALLOON_CHANGE_US);
	if (has_ended(p->phase) && p->tells_end) {
		tell |= BALLOON_TELL_SETTLED;
		p->tells_end = false;
	}
	if (pages != p->told_pages) {
		if (tell || now_us - p->told_us >= BALLOON_CHANGE_US) {
			tell |= BALLOON_TELL_CHANGE;
			p->told_pages = pages;
			p->told_us = now_us;
		} else {
			*next_us = MIN(*next_us, p->told_us + BALLOON_CHANGE_US);
		}
	}
	if (p->rate)
		*next_us = MIN(*next_us, now_us + BALLOON_RATE_WINDOW_US);
	return tell;
}
