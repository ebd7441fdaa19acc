/* SPDX-License-Identifier: BSD-2-Clause */
/* How long what a guest said on the control queue holds: until it resets, and in
 * another device if it was saved. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/shm.h"
#include "shadow_control_rig.h"

/* --- how long it is true ----------------------------------------------------------------- */

static void all_stop(struct sim *sim, uint16_t base[3])
{
	struct umbra_error err = { "" };

	for (unsigned int q = 0; q < 3; q++)
		assert_int_equal(ring_stop_at(sim->front, q, &base[q], &err), 0);
}

static void all_start(struct sim *sim, const uint16_t base[3])
{
	for (unsigned int q = 0; q < 3; q++)
		assert_int_equal(sim_ring_start(sim, q, base[q]), 0);
	sim_pause(sim);
}

/* The guest's driver makes its ring anew. */
static void control_ring_renew(struct sim *sim)
{
	struct sim_queue *q = &sim->queues[CONTROL];
	struct driver_ring_config config = {
		.size = sim->size,
		.features = NET,
		.shared = sim->guest.host + CONTROL * SIM_SLOT,
		.shared_addr = { SIM_GPA + CONTROL * SIM_SLOT },
		.private = q->private,
	};

	assert_int_equal(driver_ring_init(&q->driver, &config), 0);
}

/* A VMM that stops the machine says status 0, too, and the guest goes on. */
static void a_guest_that_resets_has_forgotten_and_one_that_was_stopped_has_not(void **state)
{
	(void)state;
	for (size_t k = 0; k < SIM_KINDS; k++) {
		struct sim *sim = net_boot(sim_kinds[k]);
		struct umbra_error err = { "" };
		uint16_t base[3];

		assert_int_equal(answer(sim, SAY(sim, PROMISC)), VIRTIO_NET_OK);
		all_stop(sim, base);
		assert_int_equal(base[CONTROL], 1);
		assert_int_equal(sim->front->ops->set_status(sim->front, 0, &err), 0);
		all_start(sim, base);
		assert_int_equal(told(sim), 1);
		ASSERT_TOLD_AGAIN(sim, 0, PROMISC);

		all_stop(sim, base);
		assert_int_equal(sim->front->ops->set_status(sim->front, 0, &err), 0);
		control_ring_renew(sim);
		base[CONTROL] = 0;
		all_start(sim, base);
		assert_int_equal(told(sim), 0);
		assert_int_equal(sim_info(sim)->control.modes[0], UMBRA_NET_MODE_UNSAID);
		assert_int_equal(answer(sim, SAY(sim, MAC)), VIRTIO_NET_OK);
		restart(sim);
		assert_int_equal(told(sim), 1);
		ASSERT_TOLD_AGAIN(sim, 0, MAC);
		sim_free(sim);
	}
}

/* It runs alone: the state is what the others will have. */
static void a_control_queue_alone_says_nothing_of_the_mode(void **state)
{
	struct sim *sim = net_boot(SUSPENDING);
	struct umbra_error err = { "" };
	uint16_t base;

	(void)state;
	assert_int_equal(ring_stop_at(sim->front, 0, &base, &err), 0);
	assert_int_equal(ring_stop_at(sim->front, 1, &base, &err), 0);
	sim_pause(sim);
	assert_true(sim->queues[CONTROL].started);
	assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_PASSTHROUGH);
	assert_int_equal(sim_switch(sim, true, &err), 0);
	assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_SHADOWED);
	sim_free(sim);
}

/* A former back-end took a command and never answered it: the used ring goes on where it is. */
static void a_ring_that_lacks_an_answer_goes_on(void **state)
{
	struct sim *sim = net_boot(SUSPENDING);
	struct split_ring *ring = &sim->queues[CONTROL].driver.split;
	uint16_t base[3];

	(void)state;
	assert_int_equal(answer(sim, SAY(sim, PROMISC)), VIRTIO_NET_OK);
	all_stop(sim, base);
	(void)SAY(sim, MAC);
	base[CONTROL] = 2;
	all_start(sim, base);
	(void)SAY(sim, ALLMULTI);
	assert_int_equal(answer(sim, dev.said - 1), VIRTIO_NET_OK);
	assert_int_equal(told(sim), 2); /* with the replayed one */
	assert_int_equal(shm_load16(&ring->used->idx), 2);
	assert_int_equal(sim_info(sim)->control.modes[1], UMBRA_NET_MODE_ON);
	sim_free(sim);
}

/* The device has done the command, and nobody has looked yet. */
static void a_guest_that_resets_is_not_written_to(void **state)
{
	(void)state;
	for (size_t k = 0; k < SIM_KINDS; k++) {
		struct sim *sim = net_boot(sim_kinds[k]);
		struct umbra_error err = { "" };
		unsigned int which = SAY(sim, MAC);

		sim_run(sim);
		device_take(sim);
		assert_int_equal(told(sim), 1);
		assert_int_equal(sim->front->ops->set_status(sim->front, 0, &err), 0);
		assert_false(sim->runs);
		assert_int_equal(command_place(sim, which)[COMMAND_STRIDE - 1], UNANSWERED);
		assert_int_equal(shm_load16(&sim->queues[CONTROL].driver.split.used->idx), 0);
		sim_free(sim);
	}
}

/* The table changes while the control queue is served; a command lies in what is new. */
static void a_command_in_new_memory_is_read(void **state)
{
	struct sim *sim = net_boot(SUSPENDING);
	struct memory_region extra = {
		.gpa = { SIM_GPA + sim->guest.size },
		.uva = { SIM_UVA + sim->guest.size },
		.size = 4096,
		.host = aligned_alloc(4096, 4096),
	};
	struct driver_ring *ring = &sim->queues[CONTROL].driver;
	const struct driver_seg segs[] = {
		{ .addr = { extra.gpa.v }, .len = 3, .writable = 0 },
		{ .addr = { extra.gpa.v + 64 }, .len = 1, .writable = 1 },
	};
	struct umbra_error err = { "" };

	(void)state;
	assert_non_null(extra.host);
	memcpy(extra.host, (const uint8_t[]){ PROMISC }, 3);
	extra.host[64] = UNANSWERED;
	assert_int_equal(answer(sim, SAY(sim, MAC)), VIRTIO_NET_OK);
	assert_int_equal(sim->front->ops->add_region(sim->front, &extra, &err), 0);
	assert_int_equal(driver_ring_add(ring, segs, 2, dev.said), 1);
	driver_ring_publish(ring);
	sim->host.notified[sim->queues[CONTROL].kick_fd]++;
	(void)answer(sim, dev.said);
	assert_int_equal(told(sim), 2);
	assert_int_equal(extra.host[64], VIRTIO_NET_OK);
	sim_free(sim);
	free(extra.host);
}

static void other_features_and_another_front_end_are_another_guest(void **state)
{
	struct sim *sim = net_boot(SUSPENDING);
	struct umbra_error err = { "" };
	uint16_t base[3] = { 0 };

	(void)state;
	assert_int_equal(answer(sim, SAY(sim, PROMISC)), VIRTIO_NET_OK);
	all_stop(sim, base);
	assert_int_equal(sim->front->ops->set_features(sim->front, NET, &err), 0); /* the same */
	all_start(sim, base);
	assert_int_equal(told(sim), 1);
	all_stop(sim, base);
	assert_int_equal(sim->front->ops->set_features(sim->front, NET & ~F(CTRL_VLAN), &err), 0);
	all_start(sim, base);
	assert_int_equal(told(sim), 0);

	assert_int_equal(answer(sim, SAY(sim, PROMISC)), VIRTIO_NET_OK);
	all_stop(sim, base);
	sim->front->ops->detach(sim->front);
	shadow_device_await(sim->device, NULL);
	sim->front->ops->attach(sim->front, &sim->backend);
	assert_int_equal(sim->front->ops->set_features(sim->front, NET, &err), 0);
	assert_int_equal(sim->front->ops->set_memory(sim->front, &sim->guest, 1, &err), 0);
	all_start(sim, base);
	assert_int_equal(told(sim), 0);
	sim_free(sim);
}

/* --- saved and loaded ------------------------------------------------------------------ */

static uint8_t *saved_by_a_guest(size_t *size)
{
	struct sim *sim = net_boot(RESETTING);
	struct umbra_error err = { "" };
	uint8_t *bytes;

	assert_int_equal(answer(sim, SAY(sim, PROMISC)), VIRTIO_NET_OK);
	assert_int_equal(answer(sim, SAY(sim, MAC)), VIRTIO_NET_OK);
	assert_int_equal(shadow_device_save_control(sim->device, &bytes, size, &err), 0);
	assert_int_equal(answer(sim, SAY(sim, ALLMULTI)), VIRTIO_NET_OK); /* it is served on */
	assert_int_equal(shadow_device_load_control(sim->device, bytes, *size, &err), -EALREADY);
	assert_non_null(strstr(err.text, "queue 2"));
	sim_free(sim);
	return bytes;
}

static void a_saved_state_is_told_to_another_device(void **state)
{
	size_t size;
	uint8_t *bytes = saved_by_a_guest(&size);

	(void)state;
	for (int early = 0; early < 2; early++) {
		struct sim *sim = net_new(UMBRA_SHADOW_AUTO, SUSPENDING);
		struct umbra_error err = { "" };
		struct sim_queue *q = &sim->queues[CONTROL];

		if (early) {
			assert_int_equal(shadow_device_load_control(sim->device, bytes, size, &err),
					 0);
			assert_true(sim_info(sim)->control.is_waiting);
		}
		sim_boot(sim, 2, NET);
		assert_false(sim_info(sim)->control.is_waiting);
		if (!early)
			assert_int_equal(shadow_device_load_control(sim->device, bytes, size, &err),
					 0);
		assert_int_equal(sim_info(sim)->control.modes[0], UMBRA_NET_MODE_ON);
		/* The ring as it came from there: two commands were served. */
		q->private = aligned_alloc(
			64, align_up(driver_ring_layout(sim->size, NET, 0).private_bytes, 64));
		assert_non_null(q->private);
		control_ring_renew(sim);
		shm_store16(&q->driver.split.used->idx, 2);
		shm_store16(&q->driver.split.avail->idx, 2);
		assert_int_equal(sim_ring_start(sim, CONTROL, 2), 0);
		sim_pause(sim);
		assert_int_equal(told(sim), 2);
		ASSERT_TOLD_AGAIN(sim, 0, PROMISC);
		ASSERT_TOLD_AGAIN(sim, 1, MAC);
		sim_serve(sim, 0, 1);
		sim_free(sim);
	}
	free(bytes);
}

static void a_saved_state_that_does_not_fit_is_refused_when_that_is_known(void **state)
{
	struct sim *sim = net_new(UMBRA_SHADOW_AUTO, SUSPENDING);
	struct umbra_error err = { "" };
	uint64_t offered;
	size_t size;
	uint8_t *bytes = saved_by_a_guest(&size);

	(void)state;
	memset(&dev, 0, sizeof(dev));
	assert_int_equal(shadow_device_load_control(sim->device, bytes, size - 1, &err), -EINVAL);
	assert_int_equal(shadow_device_load_control(sim->device, bytes, 0, &err), -EINVAL);
	assert_false(sim_info(sim)->control.is_waiting);
	assert_int_equal(shadow_device_load_control(sim->device, bytes, size, &err), 0);
	assert_int_equal(sim->front->ops->get_features(sim->front, &offered, &err), 0);
	assert_int_equal(sim->front->ops->set_features(sim->front, NET & ~F(CTRL_RX), &err),
			 -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "VIRTIO_NET_CTRL_RX_PROMISC"));
	assert_true(sim_info(sim)->control.is_waiting);
	assert_int_equal(sim_info(sim)->info.guest_features, 0);
	assert_int_equal(sim->front->ops->set_features(sim->front, NET, &err), 0);
	assert_false(sim_info(sim)->control.is_waiting);
	assert_int_equal(sim_info(sim)->control.modes[0], UMBRA_NET_MODE_ON);
	sim_free(sim);

	/* What was negotiated before holds at once, and a refusal changes nothing. */
	sim = net_new(UMBRA_SHADOW_AUTO, SUSPENDING);
	assert_int_equal(sim->front->ops->set_features(sim->front, NET & ~F(CTRL_RX), &err), 0);
	assert_int_equal(shadow_device_load_control(sim->device, bytes, size, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "VIRTIO_NET_CTRL_RX_PROMISC"));
	assert_false(sim_info(sim)->control.is_waiting);
	sim_free(sim);
	free(bytes);
}

/* --- features ------------------------------------------------------------------------------ */

static void bits_whose_commands_cannot_be_followed_are_not_offered(void **state)
{
	struct sim *sim = net_new(UMBRA_SHADOW_AUTO, SUSPENDING);
	struct umbra_error err = { "" };
	uint64_t offered;

	(void)state;
	sim->features |= BIT64(52); /* VIRTIO_NET_F_VQ_NOTF_COAL */
	assert_int_equal(sim->front->ops->get_features(sim->front, &offered, &err), 0);
	assert_int_equal(offered & (BIT64(52) | F(CTRL_VQ)), F(CTRL_VQ));
	assert_non_null(strstr(sim_info(sim)->info.dropped_features,
			       "bit (52): its control commands are not followed"));
	sim->features &= ~F(CTRL_VQ);
	assert_int_equal(sim->front->ops->get_features(sim->front, &offered, &err), 0);
	assert_true(offered & BIT64(52));
	sim->features |= F(CTRL_VQ);
	sim->device_id = VIRTIO_ID_BLOCK;
	assert_int_equal(sim->front->ops->get_features(sim->front, &offered, &err), 0);
	assert_true(offered & BIT64(52));
	sim_free(sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_guest_that_resets_has_forgotten_and_one_that_was_stopped_has_not),
		cmocka_unit_test(a_control_queue_alone_says_nothing_of_the_mode),
		cmocka_unit_test(a_ring_that_lacks_an_answer_goes_on),
		cmocka_unit_test(a_guest_that_resets_is_not_written_to),
		cmocka_unit_test(a_command_in_new_memory_is_read),
		cmocka_unit_test(other_features_and_another_front_end_are_another_guest),
		cmocka_unit_test(a_saved_state_is_told_to_another_device),
		cmocka_unit_test(a_saved_state_that_does_not_fit_is_refused_when_that_is_known),
		cmocka_unit_test(bits_whose_commands_cannot_be_followed_are_not_offered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
