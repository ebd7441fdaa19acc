/* SPDX-License-Identifier: BSD-2-Clause */
/* How a balloon comes along: see balloon_progress.h. */
#include "balloon/balloon_progress.h"

#include "base/bits.h"

void balloon_progress_init(struct balloon_progress *p, uint64_t stall_us)
{
	*p = (struct balloon_progress){ .stall_us = stall_us, .phase = UMBRA_BALLOON_NO_DRIVER };
}

static uint64_t pages_apart(uint64_t a, uint64_t b)
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
			  : pages_apart(p->pages, p->rate_pages) * 1000000u / passed;
	p->rate_pages = p->pages;
	p->rate_us = now_us;
}

/* The way's end, if it is reached: see the header for the order. */
static enum umbra_balloon_phase arrived(const struct balloon_progress *p,
					const struct balloon_progress_view *v)
{
	if (!v->is_wanted && !p->target && !p->pages)
		return UMBRA_BALLOON_IDLE;
	return v->has_unfreed ? UMBRA_BALLOON_UNFREED : UMBRA_BALLOON_SETTLED;
}

/* Which phase holds now. */
static enum umbra_balloon_phase phase_judge(struct balloon_progress *p, uint64_t now_us,
					    const struct balloon_progress_view *v)
{
	uint64_t far = pages_apart(p->target, p->pages);

	if (!v->has_driver)
		return UMBRA_BALLOON_NO_DRIVER;
	if (v->is_broken)
		return UMBRA_BALLOON_QUEUE_BROKEN;
	if (v->is_unknown && !v->is_wanted)
		return UMBRA_BALLOON_UNKNOWN;
	if (!far && !v->may_change && !v->is_unknown) {
		p->least_distance = 0;
		return arrived(p, v);
	}
	if (far < p->least_distance) {
		p->least_distance = far;
		p->moved_us = now_us;
	}
	if (now_us - p->moved_us < p->stall_us)
		return p->target < p->pages ? UMBRA_BALLOON_DEFLATING : UMBRA_BALLOON_INFLATING;
	if (v->is_unknown)
		return UMBRA_BALLOON_UNKNOWN;
	return far < BALLOON_SLACK_PAGES ? arrived(p, v) : UMBRA_BALLOON_STALLED;
}

static bool is_moving(enum umbra_balloon_phase phase)
{
	return phase == UMBRA_BALLOON_INFLATING || phase == UMBRA_BALLOON_DEFLATING;
}

static bool has_arrived(enum umbra_balloon_phase phase)
{
	return phase == UMBRA_BALLOON_SETTLED || phase == UMBRA_BALLOON_UNFREED ||
	       phase == UMBRA_BALLOON_IDLE;
}

unsigned int balloon_progress_step(struct balloon_progress *p, uint64_t now_us,
				   const struct balloon_progress_view *view, uint64_t *next_us)
{
	enum umbra_balloon_phase before = p->phase;
	uint64_t target = view->target, pages = view->pages;
	bool begins = view->is_set_again || target != p->target;
	unsigned int tell = 0;

	if (begins || (before == UMBRA_BALLOON_NO_DRIVER && view->has_driver)) {
		p->least_distance = UINT64_MAX;
		p->moved_us = now_us;
		p->end_is_untold = p->end_is_untold || begins;
	}
	p->target = target;
	p->pages = pages;
	/* Away from a target that had been met: the guest has helped itself. */
	if (has_arrived(before) && pages_apart(target, pages) >= BALLOON_SLACK_PAGES &&
	    p->least_distance < pages_apart(target, pages)) {
		p->least_distance = UINT64_MAX;
		p->moved_us = now_us;
		p->end_is_untold = true;
	}
	measure_rate(p, now_us);
	p->phase = phase_judge(p, now_us, view);
	*next_us = UINT64_MAX;
	if (is_moving(p->phase))
		*next_us = MIN(p->moved_us + p->stall_us, now_us + BALLOON_CHANGE_US);
	if (!is_moving(p->phase) && p->phase != UMBRA_BALLOON_NO_DRIVER && p->end_is_untold) {
		tell |= BALLOON_TELL_SETTLED;
		p->end_is_untold = false;
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
