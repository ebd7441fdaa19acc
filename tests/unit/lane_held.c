/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A ring is held while there is no back-end: the guest's chains wait, everything that a front-end
 * may want of a ring is done at once, and what was in flight before is given again.
 *
 * A lane of its own, between the simulated guest and back-end of sim.h, whose shadow device has
 * merely set the two up.  While the lane is held there is no back-end that could be asked.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "feature_bits.h"
#include "lane/lane_private.h"
#include "lane/standstill.h"
#include "sim.h"

#define SIZE 8u
#define OWN_BYTES (1u << 20)

static struct rig {
	struct sim *sim;
	struct lanes *lanes;
	struct lane *lane;
	struct lane_context c;
	struct memory_region own;
	unsigned int breaks;
} rig;

static struct umbra_error err;

static void broke(void *opaque, const struct lane *r)
{
	(void)opaque;
	assert_string_not_equal(lane_error(r), "");
	rig.breaks++;
}

/* What the front-end says of a ring, once more. */
static void front_says(void)
{
	struct sim_queue *q = &rig.sim->queues[0];
	struct guest_ring *front = lane_front(rig.lane);

	front->size = SIZE;
	front->addr = sim_ring_addr(rig.sim, 0);
	front->has_addr = front->enabled = true;
	front->kick_fd = q->kick_fd;
	front->call_fd = q->call_fd;
}

/* @traits: 0: a back-end that starts each ring by itself. */
static void rig_open(unsigned int traits)
{
	uint16_t base;

	rig = (struct rig){ .sim = sim_new(UMBRA_SHADOW_AUTO, SIZE, V1) };
	if (traits)
		sim_run_as_one(rig.sim, traits);
	sim_boot(rig.sim, 1, V1);
	assert_int_equal(ring_stop_at(rig.sim->front, 0, &base, &err), 0);
	assert_int_equal(base, 0);
	assert_int_equal(lanes_create(&rig.lanes), 0);
	rig.lane = lanes_name(rig.lanes, 0);
	rig.c = (struct lane_context){
		.host = &rig.sim->host.shadow,
		.backend = &rig.sim->backend,
		.guest_features = V1,
		.shadow_features = V1,
		.table_max = SHADOW_TABLE_MAX,
		.deadline_us = 1000000,
		.broke = broke,
	};
	assert_int_equal(rig.c.host->ops->make_memory(rig.c.host, OWN_BYTES, &rig.own, &err), 0);
	rig.own.gpa.v = rig.own.uva.v = rig.own.iova.v = 1ull << 45;
	assert_int_equal(rig.sim->backend.ops->add_region(&rig.sim->backend, &rig.own, &err), 0);
	rig.c.memory = rig.sim->backend_memory;
	lane_piece(rig.lane)->at = rig.own;
	front_says();
}

static void rig_close(void)
{
	lane_discard(rig.lane, &rig.c);
	lanes_destroy(&rig.lanes);
	memory_backing_unref(rig.own.backing);
	sim_free(rig.sim);
}

/* The ring, which is stopped or wanted, runs as @kind. */
static void begin(enum lane_kind kind)
{
	if (lane_is_stopped(rig.lane))
		lane_want(rig.lane);
	assert_int_equal(lane_judge(rig.lane, &rig.c, &err), 0);
	assert_int_equal(lane_start(rig.lane, &rig.c, kind, true, &err), 0);
	if (kind != LANE_HELD && backend_runs_as_one(rig.c.backend))
		assert_int_equal(rig.c.backend->ops->device_start(rig.c.backend, &err), 0);
	assert_int_equal(lane_go(rig.lane, &rig.c, &err), 0);
}

/* It comes to a standstill, and nobody has it. */
static void rest(void)
{
	assert_int_equal(lanes_quiesce(rig.lanes, &rig.c, NULL, false, &err), 0);
	lanes_finish(rig.lanes, &rig.c);
	assert_true(lane_is_wanted(rig.lane));
}

/* The back-end goes, and whatever the ring waits for from here on there is no time for. */
static void hold(void)
{
	rig.c.backend = NULL;
	rig.c.deadline_us = 0;
	begin(LANE_HELD);
}

static void back_end_returns(enum lane_kind kind)
{
	rest();
	rig.c.backend = &rig.sim->backend;
	rig.c.deadline_us = 1000000;
	begin(kind);
}

static void guest_adds(unsigned int out, uint64_t serial)
{
	assert_int_equal(sim_guest_add(rig.sim, 0, out, 1, serial), 1);
}

/* The oldest of what the back-end gets is @serial, and comes back to the guest. */
static void is_served(uint64_t serial)
{
	struct sim_queue *q = &rig.sim->queues[0];
	uint64_t got;
	uint32_t len;

	sim_run(rig.sim);
	sim_backend_take(rig.sim, 0, SIZE);
	assert_true(q->held_count);
	assert_int_equal(q->held[0].serial, serial);
	sim_backend_complete(rig.sim, 0, 0);
	sim_run(rig.sim);
	assert_int_equal(sim_guest_get(rig.sim, 0, &got, &len), 1);
	assert_int_equal(got, serial);
}

static uint16_t stands_at(void)
{
	return lane_front(rig.lane)->base.avail;
}

/* --- the tests ------------------------------------------------------------------ */

static void what_waits_is_served_when_there_is_a_back_end_again(void **state)
{
	static const enum lane_kind kinds[] = { LANE_PASSED, LANE_SHADOWED };

	(void)state;
	for (unsigned int n = 0; n < 2 * 2; n++) {
		unsigned int starts;
		uint64_t kicks, now;

		rig_open(0);
		begin(kinds[n % 2]);
		guest_adds(1, 1);
		is_served(1);
		rest();
		starts = rig.sim->queues[0].starts;
		now = rig.sim->host.now_us;
		rig.sim->host.fail_serves = 100; /* a host that is asked would refuse */
		hold();
		kicks = sim_notified(rig.sim, rig.sim->queues[0].kick_fd);
		guest_adds(1, 2);
		guest_adds(1, 3);
		sim_run(rig.sim);
		/* Nobody has heard of it, and a kick waits where the guest left it. */
		assert_int_equal(sim_backend_take(rig.sim, 0, SIZE), 0);
		assert_int_equal(rig.sim->queues[0].starts, starts);
		assert_int_equal(sim_notified(rig.sim, rig.sim->queues[0].kick_fd), kicks + 2);
		assert_false(lane_is_served(rig.lane));
		assert_false(lane_is_at_backend(rig.lane));
		assert_false(lane_is_passed(rig.lane) || lane_is_shadowed(rig.lane));
		assert_true(lane_runs(rig.lane));
		/* It can be resumed on the way to its standstill, and halted again. */
		assert_int_equal(lanes_quiesce(rig.lanes, &rig.c, NULL, false, &err), 0);
		assert_int_equal(lanes_resume(rig.lanes, &rig.c, &err), 0);
		assert_int_equal(rig.sim->host.fail_serves, 100);
		assert_int_equal(rig.sim->host.now_us, now);
		rig.sim->host.fail_serves = 0;
		back_end_returns(kinds[n / 2]);
		is_served(2);
		is_served(3);
		rig_close();
	}
}

/* Whatever the guest does to the ring meanwhile. */
static void it_stands_where_it_stood(void **state)
{
	uint8_t *ring;

	(void)state;
	rig_open(0);
	begin(LANE_SHADOWED);
	for (unsigned int i = 0; i < 3; i++) {
		guest_adds(1, i);
		is_served(i);
	}
	rest();
	assert_int_equal(stands_at(), 3);
	hold();
	guest_adds(1, 7);
	rest();
	assert_int_equal(stands_at(), 3);
	begin(LANE_HELD);
	ring = rig.sim->guest.host;
	memset(ring, 0xff, split_offsets(SIZE).used + split_used_bytes(SIZE));
	rest();
	assert_int_equal(stands_at(), 3);
	/* Who takes it up next judges that, as at every start. */
	assert_int_equal(lane_judge(rig.lane, &rig.c, &err), -EPROTO);
	rig_close();
}

/* Room that a device which was reset gave back, and which is not the newest on the ring. */
static void what_was_in_flight_before_is_given_again_after(void **state)
{
	struct umbra_error why = { "" };
	uint64_t got;
	uint32_t len;

	(void)state;
	rig_open(BACKEND_MAPS | BACKEND_KEEPS_INDEX);
	begin(LANE_SHADOWED);
	guest_adds(0, 1); /* room */
	guest_adds(1, 2); /* a request */
	sim_run(rig.sim);
	assert_int_equal(sim_backend_take(rig.sim, 0, SIZE), 2);
	sim_backend_complete(rig.sim, 0, 1);
	sim_run(rig.sim);
	assert_int_equal(sim_guest_get(rig.sim, 0, &got, &len), 1);
	assert_int_equal(got, 2);
	rest();
	assert_int_equal(stands_at(), 2);
	for (unsigned int n = 0; n < 3; n++) {
		hold();
		guest_adds(0, 3 + n);
		rest();
		assert_int_equal(stands_at(), 2);
	}
	/* Nobody could take it up from the guest's ring. */
	rig.c.backend = &rig.sim->backend;
	assert_int_equal(lane_judge(rig.lane, &rig.c, &err), 0);
	assert_int_equal(lane_start(rig.lane, &rig.c, LANE_PASSED, true, &why), -EOPNOTSUPP);
	assert_non_null(strstr(why.text, "1 chains"));
	begin(LANE_HELD);
	back_end_returns(LANE_SHADOWED);
	is_served(1);
	for (unsigned int n = 0; n < 3; n++)
		is_served(3 + n);
	assert_int_equal(lane_counters(rig.lane)->lost, 0);
	rig.c.deadline_us = 1000000;
	rest(); /* the device is stopped */
	rig_close();
}

static void a_new_fd_is_merely_kept(void **state)
{
	static const enum virtio_ring_fd which[] = { VIRTIO_RING_KICK, VIRTIO_RING_CALL,
						     VIRTIO_RING_ERR };
	struct guest_ring *front;

	(void)state;
	rig_open(0);
	hold();
	front = lane_front(rig.lane);
	for (size_t i = 0; i < ARRAY_SIZE(which); i++) {
		int fd = rig.sim->host.next_fd++, given = fd;

		assert_int_equal(lane_exchange(rig.lane, &rig.c, which[i], &fd, &err), 0);
		assert_int_equal(fd, -1);
		assert_int_equal(which[i] == VIRTIO_RING_KICK   ? front->kick_fd
				 : which[i] == VIRTIO_RING_CALL ? front->call_fd
								: front->err_fd,
				 given);
		/* A call may have gone to the old one; kicks are the guest's alone. */
		assert_int_equal(sim_notified(rig.sim, given), which[i] == VIRTIO_RING_CALL);
	}
	rig.sim->queues[0].kick_fd = front->kick_fd;
	rig.sim->queues[0].call_fd = front->call_fd;
	guest_adds(1, 1);
	back_end_returns(LANE_SHADOWED);
	is_served(1);
	rig_close();
}

/* What the front-end does when the addresses are others: virtio/guest_ring.h. */
static void it_is_moved_where_it_stands(void **state)
{
	struct split_offsets o = split_offsets(SIZE);
	struct virtio_ring_addr there;
	uint8_t *ring;

	(void)state;
	rig_open(0);
	begin(LANE_SHADOWED);
	guest_adds(1, 1);
	is_served(1);
	rest();
	hold();
	ring = rig.sim->guest.host;
	memcpy(ring + (1u << 20), ring, o.used + split_used_bytes(SIZE));
	there = lane_front(rig.lane)->addr;
	there.desc.v += 1u << 20;
	there.avail.v += 1u << 20;
	there.used.v += 1u << 20;
	rest();
	lane_end(rig.lane, &rig.c);
	assert_int_equal(stands_at(), 1);
	front_says();
	lane_front(rig.lane)->addr = there;
	begin(LANE_HELD);
	assert_ptr_equal(lane_front(rig.lane)->split.desc, ring + (1u << 20) + o.desc);
	rest();
	assert_int_equal(stands_at(), 1);
	rig_close();
}

/* A table of memory in which it does not lie is told of it, and it goes on. */
static void other_memory_is_looked_at_when_it_comes(void **state)
{
	const struct memory *memory;

	(void)state;
	rig_open(0);
	hold();
	guest_adds(1, 1);
	memory = rig.c.memory;
	rig.c.memory = NULL;
	assert_int_equal(lane_resolve(rig.lane, &rig.c, &err), -EINVAL);
	rig.c.memory = memory;
	assert_int_equal(lane_resolve(rig.lane, &rig.c, &err), 0);
	back_end_returns(LANE_PASSED);
	is_served(1);
	rig_close();
}

/* Its driver forgets it; it breaks; its front-end goes. */
static void it_ends_like_any_other(void **state)
{
	(void)state;
	rig_open(0);
	hold();
	lane_abandon(rig.lane, &rig.c);
	rest();
	lane_end(rig.lane, &rig.c);
	assert_true(lane_is_stopped(rig.lane));

	front_says();
	begin(LANE_HELD);
	lane_break(rig.lane, &rig.c, "simulated: it does");
	assert_int_equal(rig.breaks, 1);
	assert_true(lane_has_to_halt(rig.lane));
	assert_false(lane_is_at_backend(rig.lane));
	assert_int_equal(lanes_quiesce(rig.lanes, &rig.c, rig.lane, true, &err), 0);
	assert_true(lane_is_halted(rig.lane));
	lane_finish(rig.lane, &rig.c);
	lane_end(rig.lane, &rig.c);
	assert_string_equal(lane_error(rig.lane), "");

	front_says();
	begin(LANE_HELD);
	lane_discard(rig.lane, &rig.c);
	assert_true(lane_is_stopped(rig.lane));
	rig_close();
}

/* A start that is undone asks nobody, either. */
static void a_start_is_taken_back(void **state)
{
	(void)state;
	rig_open(0);
	rig.c.backend = NULL;
	rig.c.deadline_us = 0;
	lane_want(rig.lane);
	assert_int_equal(lane_judge(rig.lane, &rig.c, &err), 0);
	assert_int_equal(lane_start(rig.lane, &rig.c, LANE_HELD, true, &err), 0);
	assert_int_equal(lanes_take_back(rig.lanes, &rig.c, &err), 0);
	assert_true(lane_is_wanted(rig.lane));
	assert_int_equal(lane_own_bytes(rig.lane, &rig.c, LANE_HELD), 0);
	rig_close();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_waits_is_served_when_there_is_a_back_end_again),
		cmocka_unit_test(it_stands_where_it_stood),
		cmocka_unit_test(what_was_in_flight_before_is_given_again_after),
		cmocka_unit_test(a_new_fd_is_merely_kept),
		cmocka_unit_test(it_is_moved_where_it_stands),
		cmocka_unit_test(other_memory_is_looked_at_when_it_comes),
		cmocka_unit_test(it_ends_like_any_other),
		cmocka_unit_test(a_start_is_taken_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
