/* SPDX-License-Identifier: BSD-2-Clause */
/* A device that forgot all is told again what the guest had said. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_net.h>
#include <string.h>

#include "control_queue_rig.h"

/* --- replaying -------------------------------------------------------------------- */

#define DEADLINE_US 1000000u

/* While the host waits, the device does the next command. */
static void device_works(struct sim_host *host)
{
	struct rig *g = (struct rig *)(void *)((char *)host - offsetof(struct rig, host));

	if (g->obeyed == g->stop_at)
		host->stopped = -ECANCELED;
	if (g->obeyed == g->stop_at || g->obeyed == g->deaf_at || !device_take(g))
		return;
	if (g->obeyed == g->lie_at)
		device_lies(g, 7, (uint16_t)(g->obeyed + 1));
	else
		device_answers(g, g->obeyed == g->no_at ? VIRTIO_NET_ERR : VIRTIO_NET_OK);
	g->obeyed++;
}

/* The device is told all, and nobody else is notified. */
static int replay(struct rig *g, struct umbra_error *err)
{
	int rc;

	g->host.while_waiting = device_works;
	rc = control_queue_replay(&g->queue, &g->host.shadow, KICK_FD, DEADLINE_US, err);
	for (int fd = 0; fd < SIM_FIRST_FD; fd++)
		assert_true(fd == KICK_FD || !g->host.notified[fd]);
	return rc;
}

/* The state is: VLAN 5, all multicasts, three queue pairs. */
static struct rig *rig_told(void)
{
	static const uint8_t commands[][4] = { { VLAN_ADD(5) }, { ALLMULTI(1) }, { PAIRS(3) } };
	struct rig *g = rig_new();

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		net_control_commit(g->state, commands[i], i == 1 ? 3 : 4);
	return g;
}

static void a_fresh_device_is_told_all_before_the_guest_goes_on(void **state)
{
	struct rig *g = rig_told();
	struct umbra_error err;

	(void)state;
	SAY(g, 1, PROMISC(1)); /* waits for its turn */
	assert_int_equal(replay(g, &err), 0);
	assert_int_equal(g->obeyed, 3);
	assert_int_equal(g->seen_bytes, 4);
	assert_memory_equal(g->seen, ((uint8_t[]){ PAIRS(3) }), 4);
	assert_true(g->host.notified[KICK_FD] > 0);
	assert_int_equal(g->control_counters.replayed, 3);
	assert_int_equal(g->control_counters.accepted, 0);
	assert_int_equal(in_flight(g), 0);
	guest_gets_nothing(g);
	run(g);
	TAKES(g, PROMISC(1));
	command_succeeds(g, 1);
	assert_int_equal(g->counters.requests, 1);
	rig_free(g);
}

static void a_fresh_device_has_to_be_told_nothing_if_nothing_was_said(void **state)
{
	struct rig *g = rig_new();
	struct umbra_error err;

	(void)state;
	assert_int_equal(replay(g, &err), 0);
	assert_int_equal(g->host.notified[KICK_FD], 0);
	assert_int_equal(g->host.now_us, 0);
	rig_free(g);
}

static void a_command_in_flight_at_a_reset_is_told_after_the_replay(void **state)
{
	struct rig *g = rig_told();
	struct umbra_error err;

	(void)state;
	SAY(g, 1, PAIRS(4));
	SAY(g, 2, PROMISC(1));
	run(g);
	TAKES(g, PAIRS(4)); /* and it never answers */
	assert_true(control_queue_take_back(&g->queue));
	assert_false(control_queue_take_back(&g->queue));
	assert_int_equal(g->counters.returned, 1);
	g->config.guest.at = device_ring_position(&g->queue.guest);
	assert_int_equal(g->config.guest.at.avail, 0);
	assert_int_equal(control_queue_init(&g->queue, &g->config), 0);
	device_begin(g);
	assert_int_equal(replay(g, &err), 0);
	assert_memory_equal(g->seen, ((uint8_t[]){ PAIRS(3) }), 4);
	run(g);
	TAKES(g, PAIRS(4));
	command_succeeds(g, 1);
	TAKES(g, PROMISC(1));
	assert_int_equal(net_control_summarise(g->state).pairs, 4);
	rig_free(g);
}

static void replay_fails(struct rig *g, int code, const char *why)
{
	struct umbra_error err = { "" };
	unsigned int owed;

	SAY(g, 1, PROMISC(1));
	assert_int_equal(replay(g, &err), code);
	if (!strstr(err.text, why))
		fail_msg("\"%s\" does not say \"%s\"", err.text, why);
	/* What of it comes back later, or is taken back, is not the guest's. */
	if (code == -ETIME) {
		assert_int_equal(device_take(g), 1);
		device_answers(g, VIRTIO_NET_OK);
		assert_int_equal(control_queue_drain(&g->queue, &owed), 0);
	}
	if (code != -EPROTO)
		assert_int_equal(in_flight(g), code == -ECANCELED);
	assert_false(control_queue_take_back(&g->queue));
	assert_int_equal(g->queue.guest.last_avail, 0);
	assert_int_equal(g->control_counters.accepted, 0);
	guest_gets_nothing(g);
	rig_free(g);
}

static void a_replay_that_fails_names_the_command_and_the_reason(void **state)
{
	struct rig *g = rig_told();

	(void)state;
	g->no_at = 1;
	replay_fails(g, -EREMOTEIO,
		     "queue 8: VIRTIO_NET_CTRL_RX_ALLMULTI cannot be replayed: the device "
		     "answered 1, expected 0");
	g = rig_told();
	g->deaf_at = 2;
	replay_fails(g, -ETIME,
		     "queue 8: VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET cannot be replayed: the device "
		     "does not answer");
	g = rig_told();
	g->stop_at = 1;
	replay_fails(g, -ECANCELED, "the device is stopped");
	g = rig_told();
	g->lie_at = 0;
	replay_fails(g, -EPROTO,
		     "queue 8: VIRTIO_NET_CTRL_VLAN_ADD cannot be replayed: the device used id 7");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_fresh_device_is_told_all_before_the_guest_goes_on),
		cmocka_unit_test(a_fresh_device_has_to_be_told_nothing_if_nothing_was_said),
		cmocka_unit_test(a_command_in_flight_at_a_reset_is_told_after_the_replay),
		cmocka_unit_test(a_replay_that_fails_names_the_command_and_the_reason),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
