/* SPDX-License-Identifier: BSD-2-Clause */
/* What may follow what in the life of a lane: see lane_state.h. */
#include "lane/lane_state.h"

#include <stdlib.h>

#include "base/bits.h"
#include "base/log.h"
#include "lane/lane_ops.h"
#include "lane/lane_private.h"

typedef bool lane_truth(const struct lane *r);

/* --- what can be true of a lane -------------------------------------------- */

static bool is_nobodys(const struct lane *r)
{
	return !r->is_served && !r->ops && !lane_has_queue(r);
}

static bool is_ours_or_passed(const struct lane *r)
{
	return r->ops && lane_has_queue(r) == (r->kind != LANE_PASSED);
}

static bool is_unserved(const struct lane *r)
{
	return !r->is_served && is_ours_or_passed(r);
}

/* Of a queue of ours that is broken nothing is completed to the guest any more. */
static bool is_given_up(const struct lane *r)
{
	return r->ops && !r->is_served && r->error[0] && (!r->queue || r->queue->abandoned) &&
	       (!r->control || r->control->abandoned);
}

/* A ring that is not passed through is served; the guest's own nobody of us looks at. */
static bool is_served_if_ours(const struct lane *r)
{
	return r->is_served == (r->kind != LANE_PASSED);
}

static bool is_enabled(const struct lane *r)
{
	return r->front.enabled;
}

/* A control queue is followed before devices that run as one, which begin anew. */
static bool can_restart(const struct lane *r)
{
	return r->ops->restart;
}

static bool can_hold(const struct lane *r)
{
	return r->ops->hold;
}

/* --- the tables -------------------------------------------------------------- */

static const struct {
	const char *name;
	lane_truth *is_true;
} states[LANE_STATES] = {
	[LANE_STOPPED] = { "stopped", is_nobodys },
	[LANE_WANTED] = { "wanted", is_nobodys },
	[LANE_STARTED] = { "started", is_unserved },
	[LANE_RUNNING] = { "running", is_ours_or_passed },
	[LANE_HUSHED] = { "hushed", is_unserved },
	[LANE_HALTED] = { "halted", is_unserved },
	[LANE_BROKEN] = { "broken", is_given_up },
	[LANE_BURIED] = { "buried", is_given_up },
};

static const char *const step_names[LANE_STEPS] = {
	[LANE_WANT] = "want",           [LANE_START] = "start",   [LANE_GO] = "go",
	[LANE_TAKE_BACK] = "take back", [LANE_HUSH] = "hush",     [LANE_HALT] = "halt",
	[LANE_RESUME] = "resume",       [LANE_FINISH] = "finish", [LANE_HOLD] = "hold",
	[LANE_BREAK] = "break",         [LANE_END] = "end",
};

/* What is true in the two states goes without saying. */
static const struct lane_rule {
	enum lane_step step;
	enum lane_state from, to;
	lane_truth *before, *after; /* what else is true; NULL: nothing */
} rules[] = {
	{ .step = LANE_WANT, .from = LANE_STOPPED, .to = LANE_WANTED },
	{ .step = LANE_START, .from = LANE_WANTED, .to = LANE_STARTED, .before = is_enabled },
	{ .step = LANE_GO,
	  .from = LANE_STARTED,
	  .to = LANE_RUNNING,
	  .before = is_enabled,
	  .after = is_served_if_ours },
	{ .step = LANE_TAKE_BACK, .from = LANE_STARTED, .to = LANE_WANTED },
	/* One that never went is hushed where a start is undone: the back-end may have worked. */
	{ .step = LANE_HUSH, .from = LANE_STARTED, .to = LANE_HUSHED },
	{ .step = LANE_HUSH, .from = LANE_RUNNING, .to = LANE_HUSHED, .before = is_enabled },
	/* Again: what was found out the first time does not count any more. */
	{ .step = LANE_HUSH, .from = LANE_HUSHED, .to = LANE_HUSHED },
	{ .step = LANE_RESUME,
	  .from = LANE_HUSHED,
	  .to = LANE_RUNNING,
	  .after = is_served_if_ours },
	{ .step = LANE_HALT, .from = LANE_HUSHED, .to = LANE_HALTED },
	{ .step = LANE_RESUME,
	  .from = LANE_HALTED,
	  .to = LANE_RUNNING,
	  .before = can_restart,
	  .after = is_served_if_ours },
	{ .step = LANE_FINISH, .from = LANE_HALTED, .to = LANE_WANTED },

	/* The back-end is gone, in the midst of anything. */
	{ .step = LANE_HOLD, .from = LANE_STARTED, .to = LANE_WANTED, .before = can_hold },
	{ .step = LANE_HOLD, .from = LANE_RUNNING, .to = LANE_WANTED, .before = can_hold },
	{ .step = LANE_HOLD, .from = LANE_HUSHED, .to = LANE_WANTED, .before = can_hold },
	{ .step = LANE_HOLD, .from = LANE_HALTED, .to = LANE_WANTED, .before = can_hold },
	{ .step = LANE_HOLD, .from = LANE_BROKEN, .to = LANE_BURIED },

	/* What is broken comes to rest as well, and stays there. */
	{ .step = LANE_BREAK, .from = LANE_WANTED, .to = LANE_BURIED },
	{ .step = LANE_BREAK, .from = LANE_STARTED, .to = LANE_BROKEN },
	{ .step = LANE_BREAK, .from = LANE_RUNNING, .to = LANE_BROKEN },
	{ .step = LANE_BREAK, .from = LANE_HUSHED, .to = LANE_BROKEN },
	{ .step = LANE_BREAK, .from = LANE_HALTED, .to = LANE_BURIED },
	{ .step = LANE_HALT, .from = LANE_BROKEN, .to = LANE_BURIED },
	{ .step = LANE_FINISH, .from = LANE_BURIED, .to = LANE_WANTED },

	/* The connection has ended, or the guest has forgotten the ring. */
	{ .step = LANE_END, .from = LANE_STOPPED, .to = LANE_STOPPED },
	{ .step = LANE_END, .from = LANE_WANTED, .to = LANE_STOPPED },
	{ .step = LANE_END, .from = LANE_STARTED, .to = LANE_STOPPED },
	{ .step = LANE_END, .from = LANE_RUNNING, .to = LANE_STOPPED },
	{ .step = LANE_END, .from = LANE_HUSHED, .to = LANE_STOPPED },
	{ .step = LANE_END, .from = LANE_HALTED, .to = LANE_STOPPED },
	{ .step = LANE_END, .from = LANE_BROKEN, .to = LANE_STOPPED },
	{ .step = LANE_END, .from = LANE_BURIED, .to = LANE_STOPPED },
};

static const struct lane_rule *lane_rule_find(enum lane_step step, enum lane_state from)
{
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++)
		if (rules[i].step == step && rules[i].from == from)
			return &rules[i];
	return NULL;
}

/* --- taking a step ------------------------------------------------------------ */

const char *lane_state_name(enum lane_state state)
{
	return states[state].name;
}

const char *lane_step_name(enum lane_step step)
{
	return step_names[step];
}

bool lane_step_leads(enum lane_step step, enum lane_state from, enum lane_state *to)
{
	const struct lane_rule *rule = lane_rule_find(step, from);

	if (rule)
		*to = rule->to;
	return rule;
}

static void expect(const struct lane *r, enum lane_step step, bool is_true, const char *what)
{
	if (is_true)
		return;
	log_error("queue %u: a bug of umbra: the step \"%s\" of a lane that is %s: %s",
		  r->front.index, step_names[step], states[r->state].name, what);
	abort();
}

void lane_expect_step(const struct lane *r, enum lane_step step)
{
	const struct lane_rule *rule = lane_rule_find(step, r->state);

	expect(r, step, rule, "it is not in the table");
	expect(r, step, states[r->state].is_true(r), "the lane is not as its state says");
	expect(r, step, !rule->before || rule->before(r), "it begins too early");
}

/* Whose fields of the union count. */
static bool is_hush(enum lane_state state)
{
	return state == LANE_HUSHED || state == LANE_BROKEN;
}

static bool is_halt(enum lane_state state)
{
	return state == LANE_HALTED || state == LANE_BURIED;
}

void lane_take_step(struct lane *r, enum lane_step step)
{
	const struct lane_rule *rule = lane_rule_find(step, r->state);
	enum lane_state from = r->state;

	expect(r, step, rule, "it is not in the table");
	r->state = rule->to;
	if (is_hush(r->state) && !is_hush(from))
		r->hush = (struct lane_hush){ .sounding = SOUNDING_NOT };
	if (is_halt(r->state) && !is_halt(from))
		r->halt = (struct lane_halt){ .untaken = 0 };
	expect(r, step, states[r->state].is_true(r), "the lane is not as its state says");
	expect(r, step, !rule->after || rule->after(r), "it ends too early");
}
