/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The life of a lane: in which state which step may be taken, and where it leads.
 *
 * Each step is tried in each state, of a lane of each kind, before a simulated back-end.  A step
 * that may not be taken is a bug of umbra's own, which must not go on: it is tried in a child
 * process, which has to abort.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lane/lane_private.h"
#include "ring/split.h"
#include "sim.h"

#define NO LANE_STATES /* it may not be taken */

/* Where each step leads from each state, as it was designed: written here once more. */
static const unsigned int expected[LANE_STATES][LANE_STEPS] = {
	[LANE_STOPPED] = { LANE_WANTED, NO, NO, NO, NO, NO, NO, NO, NO, NO, LANE_STOPPED },
	[LANE_WANTED] = { NO, LANE_STARTED, NO, NO, NO, NO, NO, NO, NO, LANE_BURIED, LANE_STOPPED },
	[LANE_STARTED] = { NO, NO, LANE_RUNNING, LANE_WANTED, LANE_HUSHED, NO, NO, NO, LANE_WANTED,
			   LANE_BROKEN, LANE_STOPPED },
	[LANE_RUNNING] = { NO, NO, NO, NO, LANE_HUSHED, NO, NO, NO, LANE_WANTED, LANE_BROKEN,
			   LANE_STOPPED },
	[LANE_HUSHED] = { NO, NO, NO, NO, LANE_HUSHED, LANE_HALTED, LANE_RUNNING, NO, LANE_WANTED,
			  LANE_BROKEN, LANE_STOPPED },
	[LANE_HALTED] = { NO, NO, NO, NO, NO, NO, LANE_RUNNING, LANE_WANTED, LANE_WANTED,
			  LANE_BURIED, LANE_STOPPED },
	[LANE_BROKEN] = { NO, NO, NO, NO, NO, LANE_BURIED, NO, NO, LANE_BURIED, NO, LANE_STOPPED },
	[LANE_BURIED] = { NO, NO, NO, NO, NO, NO, NO, LANE_WANTED, NO, NO, LANE_STOPPED },
};

/* Where it leads of a lane of @kind. */
static unsigned int expected_of(enum lane_kind kind, enum lane_state from, enum lane_step step)
{
	/* A device that runs as one has stopped under it, and begins anew. */
	if (kind == LANE_FOLLOWED && from == LANE_HALTED && step == LANE_RESUME)
		return NO;
	/* Nobody knows what a back-end has of a ring that is not shadowed. */
	if (kind != LANE_SHADOWED && from != LANE_BROKEN && step == LANE_HOLD)
		return NO;
	return expected[from][step];
}

/* How a lane comes into each state. */
static const struct {
	unsigned int count;
	enum lane_step steps[5];
} ways[LANE_STATES] = {
	[LANE_STOPPED] = { 0, { 0 } },
	[LANE_WANTED] = { 1, { LANE_WANT } },
	[LANE_STARTED] = { 2, { LANE_WANT, LANE_START } },
	[LANE_RUNNING] = { 3, { LANE_WANT, LANE_START, LANE_GO } },
	[LANE_HUSHED] = { 4, { LANE_WANT, LANE_START, LANE_GO, LANE_HUSH } },
	[LANE_HALTED] = { 5, { LANE_WANT, LANE_START, LANE_GO, LANE_HUSH, LANE_HALT } },
	[LANE_BROKEN] = { 4, { LANE_WANT, LANE_START, LANE_GO, LANE_BREAK } },
	[LANE_BURIED] = { 2, { LANE_WANT, LANE_BREAK } },
};

#define SIZE 8u
#define FEATURES (1ull << 32) /* VIRTIO_F_VERSION_1 */
#define RING_AT 0x10000u      /* in the guest's memory */

struct rig {
	struct sim *sim;
	struct lanes *lanes;
	struct lane *lane;
	struct lane_context c;
	struct memory_region own;
	enum lane_kind kind;
	unsigned int breaks;

	/* LANE_FOLLOWED: what was said on the control queue. */
	struct net_control_terms terms;
	struct net_control state;
	struct control_counters counters;
	struct net_control_view view;
	struct ring_control control;
};

static void broke(void *opaque, const struct lane *r)
{
	struct rig *rig = opaque;

	assert_string_not_equal(lane_error(r), "");
	rig->breaks++;
}

static void rig_open(struct rig *rig, enum lane_kind kind)
{
	struct split_offsets o = split_offsets(SIZE);
	struct umbra_error err = { "" };
	struct guest_ring *front;

	*rig = (struct rig){ .kind = kind };
	rig->sim = sim_new(UMBRA_SHADOW_AUTO, SIZE, FEATURES);
	sim_boot(rig->sim, 0, FEATURES);
	memset(rig->sim->guest.host + RING_AT, 0, 0x1000);
	rig->control =
		(struct ring_control){ &rig->terms, &rig->state, &rig->counters, &rig->view };
	rig->c = (struct lane_context){
		.host = &rig->sim->host.shadow,
		.backend = &rig->sim->backend,
		.guest_features = FEATURES,
		.shadow_features = FEATURES,
		.table_max = SHADOW_TABLE_MAX,
		.control = &rig->control,
		.deadline_us = 1000000,
		.broke = broke,
		.device = rig,
	};
	assert_int_equal(lanes_create(&rig->lanes), 0);
	rig->lane = lanes_name(rig->lanes, 0);
	front = lane_front(rig->lane);
	front->size = SIZE;
	front->has_addr = front->enabled = true;
	front->addr.desc.v = SIM_UVA + RING_AT + o.desc;
	front->addr.avail.v = SIM_UVA + RING_AT + o.avail;
	front->addr.used.v = SIM_UVA + RING_AT + o.used;
	assert_int_equal(rig->c.host->ops->make_eventfd(rig->c.host, &front->kick_fd, &err), 0);
	assert_int_equal(rig->c.host->ops->make_eventfd(rig->c.host, &front->call_fd, &err), 0);
	assert_int_equal(rig->c.host->ops->make_memory(rig->c.host, 1u << 20, &rig->own, &err), 0);
	rig->own.gpa.v = rig->own.uva.v = rig->own.iova.v = 1ull << 45;
	assert_int_equal(rig->c.backend->ops->add_region(rig->c.backend, &rig->own, &err), 0);
	rig->c.memory = rig->sim->backend_memory;
	lane_piece(rig->lane)->at = rig->own;
}

static void rig_close(struct rig *rig)
{
	lane_discard(rig->lane, &rig->c);
	lanes_destroy(&rig->lanes);
	memory_backing_unref(rig->own.backing);
	sim_free(rig->sim);
}

/* The operation that takes @step. */
static void operate(struct rig *rig, enum lane_step step)
{
	struct umbra_error err = { "" };
	struct lane *l = rig->lane;
	int rc = 0;

	switch (step) {
	case LANE_WANT:
		lane_want(l);
		break;
	case LANE_START:
		rc = lane_start(l, &rig->c, rig->kind, true, &err);
		break;
	case LANE_GO:
		rc = lane_go(l, &rig->c, &err);
		break;
	case LANE_TAKE_BACK:
		rc = lane_ungo(l, &rig->c, &err);
		break;
	case LANE_HUSH:
		rc = lane_hush(l, &rig->c, &err);
		break;
	case LANE_HALT:
		rc = lane_halt(l, &rig->c, &err);
		break;
	case LANE_RESUME:
		rc = lane_resume(l, &rig->c, &err);
		break;
	case LANE_FINISH:
		lane_finish(l, &rig->c);
		break;
	case LANE_HOLD:
		lane_hold(l, &rig->c);
		break;
	case LANE_BREAK:
		lane_break(l, &rig->c, "the test says so");
		break;
	case LANE_END:
		lane_discard(l, &rig->c);
		break;
	}
	if (rc)
		print_message("%s: %s\n", lane_step_name(step), err.text);
	assert_int_equal(rc, 0);
}

static void go_to(struct rig *rig, enum lane_state state)
{
	for (unsigned int i = 0; i < ways[state].count; i++)
		operate(rig, ways[state].steps[i]);
	assert_int_equal(rig->lane->state, state);
}

static void try_legal(enum lane_kind kind, enum lane_state from, enum lane_step step,
		      enum lane_state to)
{
	struct rig rig;

	rig_open(&rig, kind);
	go_to(&rig, from);
	rig.breaks = 0;
	operate(&rig, step);
	assert_string_equal(lane_state_name(rig.lane->state), lane_state_name(to));
	assert_int_equal(rig.breaks, step == LANE_BREAK);
	rig_close(&rig);
}

/* How a child ends that tries it: the signal, or 0. */
static int try_illegal(enum lane_kind kind, enum lane_state from, enum lane_step step)
{
	const struct rlimit no_core = { 0, 0 };
	struct rig rig;
	int status;
	pid_t child;

	rig_open(&rig, kind);
	go_to(&rig, from);
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		(void)!setrlimit(RLIMIT_CORE, &no_core);
		signal(SIGABRT, SIG_DFL);
		(void)!freopen("/dev/null", "w", stderr); /* what it says there is expected */
		operate(&rig, step);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	rig_close(&rig);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void walk(enum lane_kind kind)
{
	for (unsigned int from = 0; from < LANE_STATES; from++)
		for (unsigned int step = 0; step < LANE_STEPS; step++) {
			unsigned int to = expected_of(kind, from, step);

			if (to != NO) {
				try_legal(kind, from, step, to);
			} else if (try_illegal(kind, from, step) != SIGABRT) {
				fail_msg("\"%s\" of a lane that is %s does not abort",
					 lane_step_name(step), lane_state_name(from));
			}
		}
}

static void each_step_in_each_state_leads_where_it_should_or_aborts_passed(void **state)
{
	(void)state;
	walk(LANE_PASSED);
}

static void each_step_in_each_state_leads_where_it_should_or_aborts_shadowed(void **state)
{
	(void)state;
	walk(LANE_SHADOWED);
}

static void each_step_in_each_state_leads_where_it_should_or_aborts_followed(void **state)
{
	(void)state;
	walk(LANE_FOLLOWED);
}

static void the_table_is_the_one_that_was_designed(void **state)
{
	(void)state;
	for (unsigned int from = 0; from < LANE_STATES; from++)
		for (unsigned int step = 0; step < LANE_STEPS; step++) {
			enum lane_state to = NO;

			assert_int_equal(lane_step_leads(step, from, &to),
					 expected[from][step] != NO);
			assert_int_equal(to, expected[from][step]);
		}
}

/* A lane that is not as its state says takes no step: here, one that is served while it rests. */
static void a_lane_that_is_not_as_its_state_says_aborts(void **state)
{
	const struct rlimit no_core = { 0, 0 };
	struct rig rig;
	int status;
	pid_t child;

	(void)state;
	rig_open(&rig, LANE_SHADOWED);
	go_to(&rig, LANE_HUSHED);
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		(void)!setrlimit(RLIMIT_CORE, &no_core);
		signal(SIGABRT, SIG_DFL);
		(void)!freopen("/dev/null", "w", stderr);
		rig.lane->is_served = true;
		operate(&rig, LANE_HALT);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_table_is_the_one_that_was_designed),
		cmocka_unit_test(each_step_in_each_state_leads_where_it_should_or_aborts_passed),
		cmocka_unit_test(each_step_in_each_state_leads_where_it_should_or_aborts_shadowed),
		cmocka_unit_test(each_step_in_each_state_leads_where_it_should_or_aborts_followed),
		cmocka_unit_test(a_lane_that_is_not_as_its_state_says_aborts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
