/* SPDX-License-Identifier: BSD-2-Clause */
/* The life of a shadow device: what happens to it, and what its state then says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "device/shadow_device_private.h"
#include "sim.h"

#define STATES (SHADOW_STATE_GIVEN_UP + 1)

#define WAITING UMBRA_DEVICE_WAITING
#define NEGOTIATING UMBRA_DEVICE_NEGOTIATING
#define PASSTHROUGH UMBRA_DEVICE_PASSTHROUGH
#define SHADOWED UMBRA_DEVICE_SHADOWED
#define SWITCHING UMBRA_DEVICE_SWITCHING
#define LOST UMBRA_DEVICE_BACKEND_LOST
#define BROKEN UMBRA_DEVICE_BROKEN
#define HELD UMBRA_DEVICE_HELD

static struct umbra_error err;

/* From which state to which a device of these tests has gone. */
static bool seen[STATES][STATES];

static bool table_has(unsigned int from, unsigned int to)
{
	for (unsigned int e = 0; e < DEVICE_EVENTS; e++)
		if (shadow_state_after(from, e) == (int)to)
			return true;
	return false;
}

/* What the host was told since it was last looked at is in the table, and ends at @state. */
static void is_told(struct sim *sim, enum umbra_device_state state)
{
	for (unsigned int i = 0; i < sim->host.event_count; i++) {
		const struct umbra_event *event = &sim->host.events[i];

		if (event->kind != UMBRA_EVENT_STATE)
			continue;
		if (!table_has(event->from, event->to))
			fail_msg("from %s to %s", umbra_device_state_name(event->from),
				 umbra_device_state_name(event->to));
		seen[event->from][event->to] = true;
	}
	sim->host.event_count = 0;
	assert_string_equal(umbra_device_state_name(shadow_device_state(sim->device)),
			    umbra_device_state_name(state));
}

/* And what that says is true. */
static void is(struct sim *sim, enum umbra_device_state state)
{
	is_told(sim, state);
	assert_true(shadow_state_holds(sim->device));
}

static void leaves(struct sim *sim, const char *lost)
{
	bool is_lost = lost || shadow_device_state(sim->device) == LOST;

	sim->front->ops->detach(sim->front);
	shadow_device_await(sim->device, lost);
	is(sim, is_lost ? LOST : WAITING);
}

/* Two rings run. */
static struct sim *boot(bool shadowed)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 8, V1 | EVENT);

	is(sim, NEGOTIATING);
	sim_boot(sim, 2, V1 | EVENT);
	if (shadowed)
		assert_int_equal(shadow_device_switch(sim->device, true, &err), 0);
	sim_run(sim);
	is(sim, shadowed ? SHADOWED : PASSTHROUGH);
	return sim;
}

/* The back-end lies about where it stopped these rings (bits). */
static void lies(struct sim *sim, unsigned int rings)
{
	sim->base_lie = rings ? 100 : 0;
	sim->honest = ~rings;
}

static int stop(struct sim *sim, unsigned int ring)
{
	struct ring_position base;

	return sim->front->ops->ring_stop(sim->front, ring, &base, &err);
}

/* --- the table ------------------------------------------------------------------ */

static void every_state_can_be_reached_and_left_again(void **state)
{
	bool from_waiting[STATES] = { [WAITING] = true }, to_waiting[STATES] = { [WAITING] = true };

	(void)state;
	for (unsigned int round = 0; round < STATES; round++)
		for (unsigned int s = 0; s < STATES; s++)
			for (unsigned int e = 0; e < DEVICE_EVENTS; e++) {
				int next = shadow_state_after(s, e);

				assert_true(next < (int)STATES);
				if (next < 0)
					continue;
				from_waiting[next] |= from_waiting[s];
				to_waiting[s] |= to_waiting[next];
			}
	for (unsigned int s = 0; s < STATES; s++) {
		assert_true(from_waiting[s]);
		assert_true(to_waiting[s]);
		/* Whatever it does, its back-end may be lost, and its front-end may go. */
		assert_int_equal(shadow_state_after(s, DEVICE_LOST), LOST);
		assert_int_equal(shadow_state_after(s, DEVICE_LEFT), s == LOST ? LOST : WAITING);
	}
	/* Without a back-end no look at rings says anything. */
	for (unsigned int e = DEVICE_IDLE; e <= DEVICE_SWITCHES; e++) {
		assert_true(shadow_state_after(WAITING, e) < 0);
		assert_int_equal(shadow_state_after(LOST, e), LOST);
		assert_int_equal(shadow_state_after(SHADOW_STATE_GIVEN_UP, e),
				 SHADOW_STATE_GIVEN_UP);
	}
}

/* --- its transitions ------------------------------------------------------------ */

static void front_ends_and_back_ends_come_and_go(void)
{
	for (unsigned int shadowed = 0; shadowed < 2; shadowed++) {
		struct sim *sim = boot(shadowed);

		leaves(sim, NULL);
		sim->front->ops->attach(sim->front, &sim->backend);
		is(sim, NEGOTIATING);
		leaves(sim, NULL); /* before anything is negotiated */
		shadow_device_wait(sim->device);
		is(sim, WAITING);
		leaves(sim, "none came");
		shadow_device_wait(sim->device); /* one will come by itself */
		is(sim, WAITING);
		leaves(sim, "none came");
		leaves(sim, NULL); /* which is not forgotten */
		sim_free(sim);
	}
}

static void rings_start_and_stop(void)
{
	for (unsigned int shadowed = 0; shadowed < 2; shadowed++) {
		struct sim *sim = boot(shadowed);

		assert_int_equal(stop(sim, 0), 0);
		is(sim, shadowed ? SHADOWED : PASSTHROUGH);
		assert_int_equal(stop(sim, 1), 0);
		is(sim, NEGOTIATING);
		assert_int_equal(sim_ring_start(sim, 0, 0), 0);
		is(sim, shadowed ? SHADOWED : PASSTHROUGH);
		leaves(sim, NULL);
		sim_free(sim);
	}
}

/* A queue breaks in a switch, the other is switched. */
static struct sim *break_one(bool shadowed)
{
	struct sim *sim = boot(!shadowed);

	lies(sim, 1u << 0);
	assert_int_equal(shadow_device_switch(sim->device, shadowed, &err), -EPROTO);
	lies(sim, 0);
	is(sim, BROKEN);
	return sim;
}

static void a_queue_breaks(void)
{
	for (unsigned int shadowed = 0; shadowed < 2; shadowed++) {
		struct sim *sim = break_one(shadowed);

		/* The others can be switched on. */
		assert_int_equal(shadow_device_switch(sim->device, !shadowed, &err), 0);
		is(sim, BROKEN);
		assert_int_equal(stop(sim, 0), 0);
		is(sim, shadowed ? PASSTHROUGH : SHADOWED);
		leaves(sim, NULL);
		sim_free(sim);

		sim = break_one(shadowed);
		leaves(sim, NULL);
		sim_free(sim);

		sim = break_one(shadowed);
		assert_int_equal(stop(sim, 1), 0);
		is(sim, BROKEN);
		assert_int_equal(stop(sim, 0), 0);
		is(sim, NEGOTIATING);
		sim_free(sim);
	}
}

/* What asks the back-end something fails for good. */
static void lose(struct sim *sim)
{
	sim->fail_stop = 1;
	sim->fail_stop_code = -ECONNRESET;
	assert_int_equal(stop(sim, 1), -ECONNRESET);
	is(sim, LOST);
	sim->front->ops->check_queues(sim->front);
	is(sim, LOST);
	leaves(sim, NULL);
	sim_free(sim);
}

static void the_back_end_is_lost(void)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 8, V1 | EVENT);

	lose(boot(false));
	lose(boot(true));
	lose(break_one(true));
	/* In the midst of a switch. */
	for (unsigned int shadowed = 0; shadowed < 2; shadowed++) {
		struct sim *other = boot(shadowed);

		other->fail_stop = 2;
		other->fail_stop_code = -ECONNRESET;
		assert_int_equal(shadow_device_switch(other->device, !shadowed, &err), -ECONNRESET);
		is(other, LOST);
		sim_free(other);
	}
	/* Before a ring ran, which then goes on with another one. */
	sim_boot(sim, 0, V1 | EVENT);
	sim->fail_start = 1;
	sim->fail_start_code = -ECONNRESET;
	sim_boot(sim, 0, V1 | EVENT);
	assert_int_equal(sim_ring_start(sim, 0, 0), -ECONNRESET);
	is(sim, LOST);
	sim->front->ops->detach(sim->front);
	sim->front->ops->attach(sim->front, &sim->backend);
	is(sim, NEGOTIATING);
	sim_free(sim);
}

static void waits(struct sim *sim)
{
	const struct umbra_error why = { "simulated: gone" };

	assert_true(shadow_device_lose_backend(sim->device, &why));
	is(sim, HELD);
	sim_bury(sim);
}

static void returns(struct sim *sim, enum umbra_device_state state)
{
	assert_int_equal(shadow_device_return(sim->device, &sim->backend, &err), 0);
	is(sim, state);
}

static struct sim *boot_held(void)
{
	struct sim *sim = boot(true);

	shadow_device_hold_for(sim->device, VIRTIO_ID_BLOCK, UMBRA_LOSS_BY_TYPE);
	return sim;
}

static void the_back_end_is_waited_for(void)
{
	struct sim *sim = boot_held();

	waits(sim);
	leaves(sim, NULL);
	sim_free(sim);

	sim = boot_held();
	waits(sim);
	returns(sim, SHADOWED);
	assert_int_equal(stop(sim, 0), 0);
	assert_int_equal(stop(sim, 1), 0);
	is(sim, NEGOTIATING);
	waits(sim);
	returns(sim, NEGOTIATING);
	assert_int_equal(sim_ring_start(sim, 0, 0), 0);
	is(sim, SHADOWED);
	/* In the midst of a switch. */
	sim->fail_stop = 1;
	sim->fail_stop_code = -ECONNRESET;
	assert_int_equal(shadow_device_switch(sim->device, false, &err), -ERESTART);
	is(sim, HELD);
	sim_bury(sim);
	returns(sim, SHADOWED);
	sim_free(sim);

	/* What is broken stays so. */
	sim = break_one(true);
	shadow_device_hold_for(sim->device, VIRTIO_ID_BLOCK, UMBRA_LOSS_BY_TYPE);
	waits(sim);
	returns(sim, BROKEN);
	sim_free(sim);
}

static int start_not(struct virtio_device *b, unsigned int index, const struct virtio_ring *ring,
		     struct umbra_error *why)
{
	(void)b;
	(void)index;
	(void)ring;
	snprintf(why->text, sizeof(why->text), "simulated: not now");
	return -EREMOTEIO;
}

static unsigned int starts_refused;

/* Refused once, then nobody is there. */
static int start_and_die(struct virtio_device *b, unsigned int index,
			 const struct virtio_ring *ring, struct umbra_error *why)
{
	(void)b;
	(void)index;
	(void)ring;
	snprintf(why->text, sizeof(why->text), "simulated: neither");
	return starts_refused++ ? -ECONNRESET : -EREMOTEIO;
}

static int (*start_in_time)(struct virtio_device *b, unsigned int index,
			    const struct virtio_ring *ring, struct umbra_error *why);

/* Who asked for the switch is told meanwhile that it takes too long. */
static int start_late(struct virtio_device *b, unsigned int index, const struct virtio_ring *ring,
		      struct umbra_error *why)
{
	struct sim *sim = sim_of(b);

	shadow_device_switch_overdue(sim->device, "simulated: slow");
	is_told(sim, SWITCHING);
	return start_in_time(b, index, ring, why);
}

/* The same, and then it does not. */
static int start_late_not(struct virtio_device *b, unsigned int index,
			  const struct virtio_ring *ring, struct umbra_error *why)
{
	struct sim *sim = (struct sim *)(void *)((char *)b - offsetof(struct sim, backend));

	shadow_device_switch_overdue(sim->device, "simulated: slow");
	is_told(sim, SWITCHING);
	return start_not(b, index, ring, why);
}

static void a_switch_of_what_does_not_run_takes_too_long(void)
{
	static struct umbra_shadow_picture info;
	struct sim *sim = boot(false);

	/* Wanted, and had in no mode just now. */
	start_in_time = sim->ops.ring_start;
	sim->ops.ring_start = start_not;
	assert_int_equal(shadow_device_switch(sim->device, true, &err), -EREMOTEIO);
	is(sim, NEGOTIATING);
	sim->ops.ring_start = start_late_not;
	assert_int_equal(shadow_device_switch(sim->device, true, &err), -EREMOTEIO);
	is(sim, NEGOTIATING);
	/* One after it is told, and counted, as well. */
	sim->ops.ring_start = start_late;
	assert_int_equal(shadow_device_switch(sim->device, true, &err), 0);
	is(sim, SHADOWED);
	shadow_device_info(sim->device, &info);
	assert_int_equal(info.info.switches_failed, 3);
	sim_free(sim);
}

/* Who asked for it has been told that it failed, and can ask in which mode the device is. */
static void a_switch_that_comes_too_late_counts_once(void)
{
	static struct umbra_shadow_picture info;
	struct sim *sim = boot(false);

	start_in_time = sim->ops.ring_start;
	sim->ops.ring_start = start_late;
	assert_int_equal(shadow_device_switch(sim->device, true, &err), 0);
	is(sim, SHADOWED);
	shadow_device_info(sim->device, &info);
	assert_int_equal(info.info.switches_failed, 1);
	assert_int_equal(info.info.switches, 0);
	sim_free(sim);
}

static void switches_end_in_either_mode_or_in_none(void)
{
	for (unsigned int shadowed = 0; shadowed < 2; shadowed++) {
		struct sim *sim = boot(shadowed);
		int (*start)(struct virtio_device *, unsigned int, const struct virtio_ring *,
			     struct umbra_error *) = sim->ops.ring_start;

		assert_int_equal(shadow_device_switch(sim->device, !shadowed, &err), 0);
		is(sim, shadowed ? PASSTHROUGH : SHADOWED);
		assert_int_equal(shadow_device_switch(sim->device, shadowed, &err), 0);
		is(sim, shadowed ? SHADOWED : PASSTHROUGH);
		/* It starts no ring just now: they are wanted, and tried again. */
		sim->ops.ring_start = start_not;
		assert_int_equal(shadow_device_switch(sim->device, !shadowed, &err), -EREMOTEIO);
		is(sim, NEGOTIATING);
		sim->ops.ring_start = start;
		sim_pause(sim);
		is(sim, shadowed ? SHADOWED : PASSTHROUGH);
		sim_free(sim);
	}
}

static int set_kick(struct sim *sim, unsigned int ring)
{
	int fd = sim->host.next_fd++;

	return sim->front->ops->ring_set_kick(sim->front, ring, &fd, &err);
}

static struct sim *boot_deaf(void)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 8, V1 | EVENT);

	sim_hush_by(sim, HUSH_NOT);
	sim_boot(sim, 2, V1 | EVENT);
	is(sim, PASSTHROUGH);
	return sim;
}

/* A back-end that hears no new kicks has the ring stopped, and started with the new one. */
static void a_new_kick_fd_is_had_in_no_way(void)
{
	struct sim *sim = boot_deaf();

	assert_int_equal(stop(sim, 1), 0);
	sim->fail_start = sim->fail_start_again = 1;
	sim->fail_start_code = -EREMOTEIO;
	assert_int_equal(set_kick(sim, 0), -EREMOTEIO);
	is(sim, NEGOTIATING);
	sim->fail_start = sim->fail_start_again = 0;
	sim->host.now_us += 1000000; /* the first retry */
	sim_pause(sim);
	is(sim, PASSTHROUGH);
	/* Where it was stopped it cannot stand. */
	lies(sim, 1u << 0);
	assert_int_equal(set_kick(sim, 0), 0);
	is(sim, BROKEN);
	sim_free(sim);

	/* The second attempt loses the back-end. */
	sim = boot_deaf();
	starts_refused = 0;
	sim->ops.ring_start = start_and_die;
	assert_int_equal(set_kick(sim, 0), -ECONNRESET);
	is(sim, LOST);
	sim_free(sim);
}

/* One queue is moved, and breaks as it is stopped for that. */
static void a_queue_that_moves_breaks(void)
{
	for (unsigned int shadowed = 0; shadowed < 2; shadowed++) {
		struct sim *sim = boot(shadowed);
		struct split_offsets o = split_offsets(8);
		uint64_t at = SIM_UVA + (1u << 20);
		const struct virtio_ring_addr addr = { { at + o.desc },
						       { at + o.avail },
						       { at + o.used } };

		lies(sim, 1u << 0);
		assert_int_equal(sim->front->ops->ring_set_addr(sim->front, 0, &addr, &err), 0);
		is(sim, BROKEN);
		sim_free(sim);
	}
}

static void each_transition_leaves_what_its_state_says(void **state)
{
	static const struct {
		enum umbra_device_state from, to;
	} expected[] = {
		{ WAITING, NEGOTIATING },
		{ WAITING, LOST },
		{ NEGOTIATING, PASSTHROUGH },
		{ NEGOTIATING, SHADOWED },
		{ NEGOTIATING, WAITING },
		{ NEGOTIATING, LOST },
		{ PASSTHROUGH, SWITCHING },
		{ PASSTHROUGH, NEGOTIATING },
		{ PASSTHROUGH, LOST },
		{ PASSTHROUGH, WAITING },
		{ SHADOWED, SWITCHING },
		{ SHADOWED, NEGOTIATING },
		{ SHADOWED, LOST },
		{ SHADOWED, WAITING },
		{ SWITCHING, PASSTHROUGH },
		{ SWITCHING, SHADOWED },
		{ SWITCHING, BROKEN },
		{ SWITCHING, LOST },
		{ SWITCHING, NEGOTIATING },
		{ NEGOTIATING, SWITCHING },
		{ BROKEN, SWITCHING },
		{ BROKEN, PASSTHROUGH },
		{ BROKEN, SHADOWED },
		{ BROKEN, NEGOTIATING },
		{ BROKEN, LOST },
		{ BROKEN, WAITING },
		{ SHADOWED, HELD },
		{ NEGOTIATING, HELD },
		{ SWITCHING, HELD },
		{ BROKEN, HELD },
		{ HELD, NEGOTIATING },
		{ HELD, WAITING },
		{ LOST, WAITING },
		{ LOST, NEGOTIATING },
	};

	(void)state;
	memset(seen, 0, sizeof(seen));
	front_ends_and_back_ends_come_and_go();
	rings_start_and_stop();
	a_queue_breaks();
	the_back_end_is_lost();
	the_back_end_is_waited_for();
	switches_end_in_either_mode_or_in_none();
	a_switch_of_what_does_not_run_takes_too_long();
	a_switch_that_comes_too_late_counts_once();
	a_new_kick_fd_is_had_in_no_way();
	a_queue_that_moves_breaks();
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++)
		if (!seen[expected[i].from][expected[i].to])
			fail_msg("never from %s to %s", umbra_device_state_name(expected[i].from),
				 umbra_device_state_name(expected[i].to));
}

/* The look at the rings that ends a message must not find a device that merely idles. */
static void a_back_end_that_was_lost_stays_lost(void **state)
{
	(void)state;
	for (unsigned int n = 0; n < 2 * 3; n++) {
		struct sim *sim = boot(n % 2);
		const struct virtio_ops *ops = sim->front->ops;
		uint64_t features;
		int rc;

		sim->fail_stop = 1;
		sim->fail_stop_code = -ECONNRESET;
		if (n / 2 == 0)
			rc = ops->set_features(sim->front, V1, &err);
		else if (n / 2 == 1)
			rc = ops->reset(sim->front, &err);
		else
			rc = ops->ring_set_size(sim->front, 0, 4, &err);
		assert_int_equal(rc, -ECONNRESET);
		is(sim, LOST);
		assert_int_equal(ops->get_features(sim->front, &features, &err), -ECONNRESET);
		sim_free(sim);
	}
}

static unsigned int states_told(const struct sim *sim)
{
	unsigned int told = 0;

	for (unsigned int i = 0; i < sim->host.event_count; i++)
		told += sim->host.events[i].kind == UMBRA_EVENT_STATE;
	return told;
}

/* Nothing runs any more, and nobody is told of anything before the connections are closed. */
static void a_back_end_that_is_waited_for_no_more_changes_nothing_that_is_seen(void **state)
{
	(void)state;
	for (unsigned int n = 0; n < 2 * 4; n++) {
		enum umbra_device_state seen_before = n % 2 ? SHADOWED : PASSTHROUGH;
		struct sim *sim = boot(n % 2);
		const struct virtio_ops *ops = sim->front->ops;
		uint64_t features;
		int rc;

		sim->fail_stop = 1;
		sim->fail_stop_code = -ECANCELED;
		if (n / 2 == 0)
			rc = stop(sim, 1);
		else if (n / 2 == 1)
			rc = ops->set_features(sim->front, V1, &err);
		else if (n / 2 == 2)
			rc = ops->reset(sim->front, &err);
		else
			rc = ops->ring_set_size(sim->front, 0, 4, &err);
		assert_int_equal(rc, -ECANCELED);
		sim->front->ops->check_queues(sim->front);
		assert_int_equal(states_told(sim), 0);
		is(sim, seen_before);
		assert_int_equal(ops->get_features(sim->front, &features, &err), -ECANCELED);
		leaves(sim, n / 4 ? "its process has ended" : NULL);
		sim->front->ops->attach(sim->front, &sim->backend);
		is(sim, NEGOTIATING);
		sim_free(sim);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_state_can_be_reached_and_left_again),
		cmocka_unit_test(each_transition_leaves_what_its_state_says),
		cmocka_unit_test(a_back_end_that_was_lost_stays_lost),
		cmocka_unit_test(
			a_back_end_that_is_waited_for_no_more_changes_nothing_that_is_seen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
