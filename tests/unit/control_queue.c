/* SPDX-License-Identifier: BSD-2-Clause */
/* Commands from a guest that may lie to a device that may, too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#include "control_queue_rig.h"

static bool nothing_said(const struct rig *g)
{
	struct net_control_replay r;
	uint8_t *bytes = malloc(NET_CONTROL_COMMAND_MAX);
	size_t size;

	assert_non_null(bytes);
	net_control_replay_begin(&r, g->state);
	size = net_control_replay_next(&r, bytes);
	free(bytes);
	return size == 0;
}

static void a_command_passes_and_is_committed_when_the_device_says_ok(void **state)
{
	struct rig *g = rig_new();

	(void)state;
	SAY(g, 1, PAIRS(3));
	assert_int_equal(run(g), QUEUE_KICK_BACKEND);
	assert_int_equal(in_flight(g), 1);
	TAKES(g, PAIRS(3));
	assert_int_equal(*g->ack, 0xff); /* a device that writes nothing has not said OK */
	assert_int_equal(run(g), 0);
	guest_gets_nothing(g);
	assert_true(nothing_said(g));
	assert_int_equal(net_control_look(&g->view).pairs, 1);
	device_answers(g, VIRTIO_NET_OK);
	assert_int_equal(run(g), QUEUE_CALL_GUEST);
	guest_gets(g, 1, VIRTIO_NET_OK);
	assert_int_equal(net_control_summarise(g->state).pairs, 3);
	assert_int_equal(net_control_look(&g->view).pairs, 3);
	assert_int_equal(in_flight(g), 0);
	assert_int_equal(g->counters.requests, 1);
	assert_int_equal(g->counters.bytes_out, 4);
	assert_int_equal(g->counters.bytes_in, 1);
	assert_int_equal(g->counters.last_avail, 1);
	assert_int_equal(g->counters.last_used, 1);
	assert_int_equal(g->counters.in_flight, 0);
	assert_int_equal(g->control_counters.accepted, 1);
	rig_free(g);
}

static void any_framing_of_a_command_is_the_same_command(void **state)
{
	static const uint8_t mac[] = { VIRTIO_NET_CTRL_MAC,
				       VIRTIO_NET_CTRL_MAC_ADDR_SET,
				       0x52,
				       0x11,
				       0x22,
				       0x33,
				       0x44,
				       0x55 };
	/* class, command, data across both regions, answer of two segments */
	const struct driver_seg segs[] = { { { RAM_GPA }, 1, 0 },
					   { { RAM_GPA + 100 }, 1, 0 },
					   { { HIGH_GPA - 3 }, 6, 0 },
					   { { RAM_GPA + ANSWER_AT + 1 }, 1, 1 },
					   { { RAM_GPA + ANSWER_AT + 2 }, 7, 1 } };
	struct rig *g = rig_at(8, EVENT | INDIRECT, 0xffff);

	(void)state;
	guest_write(g, RAM_GPA, mac, 1);
	guest_write(g, RAM_GPA + 100, mac + 1, 1);
	guest_write(g, HIGH_GPA - 3, mac + 2, 6);
	*guest_byte(g, RAM_GPA + ANSWER_AT + 2) = 0x77;
	guest_add_segs(g, segs, ARRAY_SIZE(segs), 1);
	run(g);
	device_takes(g, mac, sizeof(mac));
	command_succeeds(g, 1);
	assert_int_equal(*guest_byte(g, RAM_GPA + ANSWER_AT + 2), 0x77);
	assert_memory_equal(net_control_summarise(g->state).mac, mac + 2, 6);
	rig_free(g);
}

static void the_device_never_hears_of_a_command_that_is_refused(void **state)
{
	struct rig *g = rig_new();

	(void)state;
	SAY(g, 1, PAIRS(5));                          /* more than it has */
	SAY(g, 2, VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0); /* not negotiated */
	SAY(g, 3, 77, 1, 2, 3);                       /* not known */
	assert_int_equal(run(g), QUEUE_CALL_GUEST);
	for (uint64_t token = 1; token <= 3; token++)
		guest_gets(g, token, VIRTIO_NET_ERR);
	assert_int_equal(device_take(g), 0);
	assert_true(nothing_said(g));
	assert_int_equal(g->control_counters.refused, 3);
	assert_int_equal(g->control_counters.failed, 0);

	SAY(g, 4, PAIRS(4)); /* and the queue lives on */
	run(g);
	TAKES(g, PAIRS(4));
	rig_free(g);
}

static void a_chain_that_is_no_command_is_answered_where_it_can_be(void **state)
{
	const struct driver_seg no_answer = { { RAM_GPA }, 3, 0 };
	const struct driver_seg no_command = { { RAM_GPA + ANSWER_AT + 2 }, 1, 1 };
	struct rig *g = rig_new();

	(void)state;
	guest_write(g, RAM_GPA, (uint8_t[]){ PROMISC(1) }, 3);
	*guest_byte(g, RAM_GPA + ANSWER_AT + 1) = UNANSWERED;
	guest_add_segs(g, &no_answer, 1, 1);
	guest_add_segs(g, &no_command, 1, 2);
	SAY(g, 3, VIRTIO_NET_CTRL_RX);
	run(g);
	guest_gets(g, 1, UNANSWERED);
	guest_gets(g, 2, VIRTIO_NET_ERR);
	guest_gets(g, 3, VIRTIO_NET_ERR);
	assert_int_equal(device_take(g), 0);
	assert_int_equal(g->control_counters.refused, 3);
	rig_free(g);
}

static void the_longest_command_passes_and_a_longer_one_does_not(void **state)
{
	uint32_t most = NET_CONTROL_COMMAND_MAX, count = (most - 10) / 6;
	uint8_t *table = calloc(1, most + 1);
	struct rig *g = rig_new();

	(void)state;
	assert_non_null(table);
	table[0] = VIRTIO_NET_CTRL_MAC;
	table[1] = VIRTIO_NET_CTRL_MAC_TABLE_SET;
	for (unsigned int i = 0; i < 4; i++)
		table[2 + i] = (uint8_t)(count >> 8 * i);
	memset(table + 6, 0x5e, count * 6);
	guest_say_at(g, RAM_GPA + 0x1000, table, most + 1, 1);
	run(g);
	guest_gets(g, 1, VIRTIO_NET_ERR);
	assert_int_equal(device_take(g), 0);
	guest_say_at(g, RAM_GPA + 0x1000, table, most, 2);
	run(g);
	device_takes(g, table, most);
	command_succeeds(g, 2);
	assert_int_equal(net_control_summarise(g->state).unicast, count);
	free(table);
	rig_free(g);
}

static void what_the_guest_writes_after_the_copy_has_no_effect(void **state)
{
	struct rig *g = rig_new();

	(void)state;
	SAY(g, 1, PAIRS(2));
	run(g);
	guest_write(g, RAM_GPA + 64, (uint8_t[]){ PAIRS(9) }, 4);
	TAKES(g, PAIRS(2));
	guest_write(g, RAM_GPA + 64, (uint8_t[]){ PROMISC(1), 1 }, 4);
	device_answers(g, VIRTIO_NET_OK);
	guest_write(g, RAM_GPA + 64, (uint8_t[]){ PAIRS(4) }, 4);
	run(g);
	assert_int_equal(net_control_summarise(g->state).pairs, 2);
	assert_int_equal(net_control_summarise(g->state).modes_said, 0);
	rig_free(g);
}

static void what_the_device_writes_into_a_command_is_not_committed(void **state)
{
	struct control_layout l = control_queue_layout(8, EVENT);
	struct rig *g = rig_new();

	(void)state;
	GIVE(g, 1, PAIRS(2));
	memcpy(g->own + l.bounce, (uint8_t[]){ PAIRS(200) }, 4);
	command_succeeds(g, 1);
	assert_int_equal(net_control_summarise(g->state).pairs, 2);
	rig_free(g);
}

static void an_answer_that_is_not_ok_is_an_error_to_the_guest(void **state)
{
	struct rig *g = rig_new();

	(void)state;
	for (uint64_t token = 1; token <= 4; token++) {
		GIVE(g, token, PROMISC(1));
		if (token == 1)
			device_answers(g, VIRTIO_NET_ERR);
		else if (token == 2)
			device_answers(g, 2);
		else if (token == 3)
			device_use(g, 1); /* says that it has written, and has not */
		else {
			*g->ack = VIRTIO_NET_OK;
			device_use(g, 0); /* has written, and says that it has not */
		}
		assert_int_equal(run(g) & QUEUE_CALL_GUEST, QUEUE_CALL_GUEST);
		guest_gets(g, token, VIRTIO_NET_ERR);
		(void)!driver_ring_arm(&g->guest);
		assert_int_equal(g->control_counters.failed, token);
	}
	assert_true(nothing_said(g));
	rig_free(g);
}

static void a_used_length_beyond_the_answer_is_counted(void **state)
{
	struct rig *g = rig_new();

	(void)state;
	GIVE(g, 1, PROMISC(1));
	*g->ack = VIRTIO_NET_OK;
	device_use(g, 4096);
	run(g);
	guest_gets(g, 1, VIRTIO_NET_OK);
	assert_int_equal(g->counters.clamped, 1);
	rig_free(g);
}

static void one_command_is_at_the_device_at_a_time_and_they_keep_their_order(void **state)
{
	struct rig *g = rig_at(8, 0, 0);

	(void)state;
	SAY(g, 1, PAIRS(2));
	SAY(g, 2, PAIRS(9)); /* refused, but not before its turn */
	SAY(g, 3, PAIRS(3));
	run(g);
	TAKES(g, PAIRS(2));
	assert_int_equal(device_take(g), 0);
	guest_gets_nothing(g);
	command_succeeds(g, 1);
	guest_gets(g, 2, VIRTIO_NET_ERR);
	guest_gets_nothing(g);
	TAKES(g, PAIRS(3));
	command_succeeds(g, 3);
	assert_int_equal(net_control_summarise(g->state).pairs, 3);
	rig_free(g);
}

/* More commands than one pass moves, with each way to sleep. */
static void nobody_sleeps_over_a_command(void **state)
{
	(void)state;
	for (unsigned int with = 0; with < 2; with++) {
		struct rig *g = rig_at(32, with ? EVENT : 0, 0xfff0);
		uint64_t asked = 0, got = 0;

		/* While it sleeps with nothing to do, it wants a kick. */
		assert_int_equal(run(g), 0);
		assert_false(has_work(g));
		SAY(g, asked, PROMISC(1));
		asked++;
		assert_true(driver_ring_must_kick(&g->guest));
		assert_true(has_work(g));
		run(g);
		TAKES(g, PROMISC(1));

		/* While a command is at the device, a completion will wake it. */
		SAY(g, asked, PROMISC(0));
		asked++;
		assert_false(driver_ring_must_kick(&g->guest));
		assert_false(has_work(g));
		device_answers(g, VIRTIO_NET_OK);
		assert_true(device_ring_must_call(&g->device));
		assert_true(has_work(g));
		run(g);
		guest_gets(g, got++, VIRTIO_NET_OK);
		TAKES(g, PROMISC(0));
		device_answers(g, VIRTIO_NET_OK);
		assert_true(device_ring_must_call(&g->device));
		run(g);
		guest_gets(g, got++, VIRTIO_NET_OK);

		/* Refusals come and go in one batch after the other. */
		for (unsigned int i = 0; i < 16; i++)
			SAY(g, asked + i, 99, 99);
		run(g);
		for (unsigned int i = 0; i < 16; i++)
			guest_gets(g, asked + i, VIRTIO_NET_ERR);
		SAY(g, 0, PROMISC(1));
		assert_true(driver_ring_must_kick(&g->guest));
		rig_free(g);
	}
}

/* --- violations ------------------------------------------------------------------- */

static void broken_by_the_device(struct rig *g, const char *why)
{
	uint16_t avail = g->guest.avail_published, used = shm_load16(&g->guest.split.used->idx);
	char text[256];
	unsigned int owed;

	assert_int_equal(pass(g, &owed), -EPROTO);
	assert_true(control_queue_is_broken(&g->queue));
	if (!strstr(control_queue_error(&g->queue, text, sizeof(text)), why))
		fail_msg("\"%s\" does not say \"%s\"", text, why);
	assert_int_equal(pass(g, &owed), -EPROTO);
	assert_int_equal(move(g, &owed), -EPROTO);
	assert_int_equal(control_queue_drain(&g->queue, &owed), -EPROTO);
	assert_int_equal(g->guest.avail_published, avail);
	assert_int_equal(shm_load16(&g->guest.split.used->idx), used);
	assert_true(nothing_said(g));
}

static void a_device_that_violates_the_ring_breaks_the_queue(void **state)
{
	struct rig *g = rig_new();

	(void)state;
	SAY(g, 1, PROMISC(1));
	run(g);
	device_lies(g, 8, 1);
	broken_by_the_device(g, "id 8, outside the ring of 8");
	rig_free(g);

	g = rig_new();
	SAY(g, 1, PROMISC(1));
	run(g);
	device_lies(g, 1, 1); /* the second descriptor of the chain */
	broken_by_the_device(g, "id 1, which is not in flight");
	rig_free(g);

	g = rig_new();
	run(g);
	device_lies(g, 0, 1); /* nothing was given to it */
	broken_by_the_device(g, "used 1 chains at once while 0 were in flight");
	rig_free(g);
}

static void a_guest_that_violates_the_ring_breaks_the_queue(void **state)
{
	struct rig *g = rig_new();
	char text[256];
	unsigned int owed;

	(void)state;
	SAY(g, 1, 99, 99);
	shm_store16(&g->guest.split.avail->ring[1], 200);
	shm_store16_release(&g->guest.split.avail->idx, 2);
	/* The one before it is answered all the same. */
	assert_int_equal(pass(g, &owed), -EPROTO);
	assert_int_equal(owed, QUEUE_CALL_GUEST);
	guest_gets(g, 1, VIRTIO_NET_ERR);
	assert_non_null(strstr(control_queue_error(&g->queue, text, sizeof(text)),
			       "descriptor 200 available, outside the ring of 8"));
	rig_free(g);
}

static void a_ring_without_room_for_a_command_is_refused(void **state)
{
	struct rig *g = rig_at(2, 0, 0);

	(void)state;
	g->config.back.size = 1;
	assert_int_equal(control_queue_init(&g->queue, &g->config), -EINVAL);
	g->config.back.size = 3;
	assert_int_equal(control_queue_init(&g->queue, &g->config), -EINVAL);
	rig_free(g);
}

/* --- stopping --------------------------------------------------------------------- */

static void a_command_that_the_device_did_not_take_goes_back(void **state)
{
	struct rig *g = rig_new();
	unsigned int owed;

	(void)state;
	SAY(g, 1, PAIRS(2));
	SAY(g, 2, PAIRS(3));
	run(g);
	assert_int_equal(in_flight(g), 1);
	assert_int_equal(control_queue_drain(&g->queue, &owed), 0);
	assert_true(control_queue_take_back(&g->queue));
	assert_int_equal(g->queue.guest.last_avail, 0);
	assert_int_equal(g->counters.returned, 1);
	guest_gets_nothing(g);

	/* It goes on where it was, once the device does. */
	g->config.guest.at = device_ring_position(&g->queue.guest);
	assert_int_equal(control_queue_init(&g->queue, &g->config), 0);
	device_begin(g);
	assert_int_equal(in_flight(g), 0);
	assert_int_equal(run(g) & QUEUE_KICK_BACKEND, QUEUE_KICK_BACKEND);
	assert_int_equal(g->counters.last_avail, 1);
	TAKES(g, PAIRS(2));
	command_succeeds(g, 1);
	rig_free(g);
}

static void a_command_that_the_device_took_is_drained(void **state)
{
	struct rig *g = rig_new();
	unsigned int owed;

	(void)state;
	SAY(g, 1, PAIRS(2));
	SAY(g, 2, PAIRS(3));
	run(g);
	TAKES(g, PAIRS(2));
	assert_int_equal(control_queue_drain(&g->queue, &owed), 0);
	assert_int_equal(in_flight(g), 1);
	device_answers(g, VIRTIO_NET_OK);
	assert_int_equal(control_queue_drain(&g->queue, &owed), QUEUE_CALL_GUEST);
	assert_int_equal(in_flight(g), 0);
	guest_gets(g, 1, VIRTIO_NET_OK);
	assert_int_equal(net_control_summarise(g->state).pairs, 2);
	/* Nothing new was taken. */
	assert_int_equal(g->queue.guest.last_avail, 1);
	assert_int_equal(device_take(g), 0);
	rig_free(g);
}

static void a_command_that_the_device_used_does_not_go_back(void **state)
{
	struct rig *g = rig_new();
	unsigned int owed;

	(void)state;
	GIVE(g, 1, PAIRS(2));
	device_answers(g, VIRTIO_NET_OK);
	assert_int_equal(control_queue_drain(&g->queue, &owed), QUEUE_CALL_GUEST);
	assert_false(control_queue_take_back(&g->queue));
	assert_int_equal(g->queue.guest.last_avail, 1);
	assert_int_equal(g->counters.returned, 0);
	guest_gets(g, 1, VIRTIO_NET_OK);
	rig_free(g);
}

static void an_abandoned_queue_leaves_the_guest_alone(void **state)
{
	struct rig *g = rig_new();
	unsigned int owed;

	(void)state;
	GIVE(g, 1, PAIRS(2));
	control_queue_abandon(&g->queue);
	device_answers(g, VIRTIO_NET_OK);
	assert_int_equal(control_queue_drain(&g->queue, &owed), 0);
	assert_int_equal(in_flight(g), 0);
	guest_gets_nothing(g);
	assert_int_equal(*guest_byte(g, RAM_GPA + ANSWER_AT + 1), UNANSWERED);
	rig_free(g);
}

static void an_answer_without_a_place_any_more_is_not_written(void **state)
{
	const struct driver_seg segs[] = { { { RAM_GPA }, 3, 0 }, { { HIGH_GPA }, 1, 1 } };
	struct rig *g = rig_new();
	struct driver_done done;

	(void)state;
	guest_write(g, RAM_GPA, (uint8_t[]){ PROMISC(1) }, 3);
	*guest_byte(g, HIGH_GPA) = UNANSWERED;
	guest_add_segs(g, segs, 2, 1);
	run(g);
	TAKES(g, PROMISC(1));
	memory_unref(&g->memory); /* the table changes: one region is gone */
	g->memory = memory_of(
		&(struct memory_region){
			.gpa = { RAM_GPA }, .uva = { RAM_GPA }, .size = RAM_BYTES, .host = g->ram },
		1);
	g->queue.guest.memory = g->memory;
	device_answers(g, VIRTIO_NET_OK);
	run(g);
	assert_int_equal(driver_ring_get(&g->guest, &done), 1);
	assert_int_equal(done.len, 0);
	assert_int_equal(*guest_byte(g, HIGH_GPA), UNANSWERED);
	rig_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_command_passes_and_is_committed_when_the_device_says_ok),
		cmocka_unit_test(any_framing_of_a_command_is_the_same_command),
		cmocka_unit_test(the_device_never_hears_of_a_command_that_is_refused),
		cmocka_unit_test(a_chain_that_is_no_command_is_answered_where_it_can_be),
		cmocka_unit_test(the_longest_command_passes_and_a_longer_one_does_not),
		cmocka_unit_test(what_the_guest_writes_after_the_copy_has_no_effect),
		cmocka_unit_test(what_the_device_writes_into_a_command_is_not_committed),
		cmocka_unit_test(an_answer_that_is_not_ok_is_an_error_to_the_guest),
		cmocka_unit_test(a_used_length_beyond_the_answer_is_counted),
		cmocka_unit_test(one_command_is_at_the_device_at_a_time_and_they_keep_their_order),
		cmocka_unit_test(nobody_sleeps_over_a_command),
		cmocka_unit_test(a_device_that_violates_the_ring_breaks_the_queue),
		cmocka_unit_test(a_guest_that_violates_the_ring_breaks_the_queue),
		cmocka_unit_test(a_ring_without_room_for_a_command_is_refused),
		cmocka_unit_test(a_command_that_the_device_did_not_take_goes_back),
		cmocka_unit_test(a_command_that_the_device_took_is_drained),
		cmocka_unit_test(a_command_that_the_device_used_does_not_go_back),
		cmocka_unit_test(an_abandoned_queue_leaves_the_guest_alone),
		cmocka_unit_test(an_answer_without_a_place_any_more_is_not_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
