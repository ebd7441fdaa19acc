/* SPDX-License-Identifier: BSD-2-Clause */
/* What a guest says on the control queue of a network device that is stopped as a
 * whole, and forgets it each time. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/shm.h"
#include "sim.h"

#define F(name) BIT64(VIRTIO_NET_F_##name)
#define NET                                                                                        \
	(BIT64(VIRTIO_F_VERSION_1) | BIT64(VIRTIO_RING_F_EVENT_IDX) | F(CTRL_VQ) | F(CTRL_RX) |    \
	 F(CTRL_VLAN) | F(CTRL_MAC_ADDR))

/* The three kinds that there are. */
#define SUSPENDING (BACKEND_MAPS | BACKEND_SUSPENDS | BACKEND_KEEPS_INDEX)
#define RESETTING (BACKEND_MAPS | BACKEND_KEEPS_INDEX)
#define FORGETFUL BACKEND_MAPS

static const unsigned int kinds[] = { SUSPENDING, RESETTING, FORGETFUL };

#define CONTROL 2u /* its ring, behind those of one pair of queues */
#define COMMAND_AT (CONTROL * SIM_SLOT + (3ull << 20))
#define COMMAND_STRIDE 256u
#define UNANSWERED 0xee
#define TOLD_MAX 64u

/* A simulated network device, behind the rings of struct sim. */
static struct {
	struct {
		uint8_t bytes[64];
		size_t size;
		unsigned int life;    /* it had been started so often */
		bool data_is_enabled; /* a data ring was, when this came */
	} told[TOLD_MAX];
	unsigned int told_count;
	bool is_deaf;             /* it takes no command */
	bool is_slow;             /* it takes one, and does not answer */
	unsigned int refuses;     /* so many, from the next on */
	unsigned int fail_enable; /* counted down to 0 */
	uint16_t max_pairs;
	unsigned int said; /* by the guest */
} dev;

static void device_take(struct sim *sim)
{
	struct sim_queue *q = &sim->queues[CONTROL];
	struct ring_chain chain = { .segs = q->segs };
	unsigned int hint = 0;
	uint8_t *ack;

	if (!sim->runs || !q->started || !q->enabled || dev.is_deaf ||
	    device_ring_take(&q->device, &chain) <= 0)
		return;
	assert_true(dev.told_count < TOLD_MAX);
	assert_int_equal(chain.readable, 1);
	assert_true(chain.segs[0].len <= sizeof(dev.told[0].bytes));
	memcpy(dev.told[dev.told_count].bytes,
	       memory_host(sim->backend_memory, &hint, (gpa_t){ chain.segs[0].addr },
			   chain.segs[0].len),
	       chain.segs[0].len);
	dev.told[dev.told_count].size = chain.segs[0].len;
	dev.told[dev.told_count].life = sim->device_starts;
	dev.told[dev.told_count++].data_is_enabled =
		(sim->queues[0].started && sim->queues[0].enabled) ||
		(sim->queues[1].started && sim->queues[1].enabled);
	if (dev.is_slow)
		return;
	ack = memory_host(sim->backend_memory, &hint, (gpa_t){ chain.segs[1].addr }, 1);
	*ack = dev.refuses ? VIRTIO_NET_ERR : VIRTIO_NET_OK;
	dev.refuses -= dev.refuses > 0;
	device_ring_complete(&q->device, chain.head, 1);
	device_ring_publish(&q->device);
	sim->notified[q->told.call_fd]++;
}

static int enable(struct backend *b, unsigned int index, bool enabled, struct umbra_error *err)
{
	struct sim *sim = (struct sim *)(void *)((char *)b - offsetof(struct sim, backend));

	assert_true(sim->runs);
	if (dev.fail_enable && --dev.fail_enable == 0)
		return error_set(err, -EREMOTEIO, "simulated: ring %u is not enabled", index);
	sim->queues[index].enabled = enabled;
	sim->queues[index].awake = true; /* it looks */
	return 0;
}

static int config_get(struct backend *b, uint32_t offset, void *data, uint32_t size,
		      struct umbra_error *err)
{
	uint8_t config[24] = { [8] = (uint8_t)dev.max_pairs };

	(void)b;
	(void)err;
	assert_true(offset + size <= sizeof(config));
	memcpy(data, config + offset, size);
	return 0;
}

static struct sim *net_new(enum umbra_shadow_mode mode, unsigned int traits)
{
	struct sim *sim = sim_new(mode, 8, NET);

	memset(&dev, 0, sizeof(dev));
	dev.max_pairs = 1;
	sim_be_whole(sim, traits);
	sim->device_id = VIRTIO_ID_NET;
	sim->tells_base = true;
	sim->ops.ring_enable = enable;
	sim->ops.get_config = config_get;
	sim->while_waiting = device_take;
	return sim;
}

static struct sim *net_boot(unsigned int traits)
{
	struct sim *sim = net_new(UMBRA_SHADOW_AUTO, traits);

	sim_boot(sim, 3, NET);
	return sim;
}

/* --- what the guest does ------------------------------------------------------- */

#define SAY(sim, ...)                                                                              \
	guest_say(sim, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))
#define PROMISC VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 1
#define ALLMULTI VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, 1
#define MAC VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, 2, 3, 4, 5, 6, 7

static uint8_t *command_place(const struct sim *sim, unsigned int which)
{
	return sim->guest.host + COMMAND_AT + (which % 16) * COMMAND_STRIDE;
}

/* Make a command available; returns its number. */
static unsigned int guest_say(struct sim *sim, const uint8_t *bytes, size_t size)
{
	struct driver_ring *ring = &sim->queues[CONTROL].driver;
	unsigned int which = dev.said++;
	uint64_t at = SIM_GPA + COMMAND_AT + (which % 16) * COMMAND_STRIDE;
	const struct ring_seg segs[] = {
		{ .addr = at, .len = (uint32_t)size, .writable = 0 },
		{ .addr = at + COMMAND_STRIDE - 1, .len = 1, .writable = 1 },
	};

	memcpy(command_place(sim, which), bytes, size);
	command_place(sim, which)[COMMAND_STRIDE - 1] = UNANSWERED;
	assert_int_equal(driver_ring_add(ring, segs, 2, which), 1);
	driver_ring_publish(ring);
	sim->notified[sim->queues[CONTROL].kick_fd]++;
	return which;
}

/* The answer to the guest's oldest command, which is @which; UNANSWERED: none yet. */
static unsigned int answer(struct sim *sim, unsigned int which)
{
	struct driver_done done;

	for (int i = 0; i < 4; i++) {
		sim_run(sim);
		device_take(sim);
	}
	sim_run(sim);
	if (driver_ring_get(&sim->queues[CONTROL].driver, &done) != 1)
		return UNANSWERED;
	assert_int_equal(done.token, which);
	assert_int_equal(done.len, 1);
	return command_place(sim, which)[COMMAND_STRIDE - 1];
}

static void request_arrives(struct sim *sim, unsigned int queue, uint64_t serial)
{
	uint64_t got;
	uint32_t len;

	assert_int_equal(sim_guest_add(sim, queue, 1, 1, serial), 1);
	sim->queues[queue].guest_awake = true;
	sim_run(sim);
	assert_int_equal(sim_backend_take(sim, queue, 1), 1);
	sim_backend_complete(sim, queue, 0);
	sim_run(sim);
	assert_int_equal(sim_guest_get(sim, queue, &got, &len), 1);
	assert_int_equal(got, serial);
}

/* --- what is expected ------------------------------------------------------------ */

static const struct umbra_shadow_info *info_of(const struct sim *sim)
{
	static struct umbra_shadow_info info;

	shadow_device_info(sim->device, &info);
	shadow_device_look_control(sim->device, &info.control);
	return &info;
}

/* In its present life the device was told so many commands. */
static unsigned int told(const struct sim *sim)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < dev.told_count; i++)
		n += dev.told[i].life == sim->device_starts;
	return n;
}

#define ASSERT_TOLD_AGAIN(sim, place, ...)                                                         \
	assert_told(sim, place, (const uint8_t[]){ __VA_ARGS__ },                                  \
		    sizeof((const uint8_t[]){ __VA_ARGS__ }))

/* Command number @place of this life was these bytes, and no data ring ran. */
static void assert_told(const struct sim *sim, unsigned int place, const uint8_t *bytes,
			size_t size)
{
	unsigned int i = dev.told_count - told(sim) + place;

	assert_true(place < told(sim));
	assert_int_equal(dev.told[i].size, size);
	assert_memory_equal(dev.told[i].bytes, bytes, size);
	assert_false(dev.told[i].data_is_enabled);
}

static int switch_to(struct sim *sim, bool shadowed, struct umbra_error *err)
{
	return shadow_device_switch(sim->device, shadowed, err);
}

/* The device is stopped and started, whatever it can. */
static void restart(struct sim *sim)
{
	struct umbra_error err = { "" };
	uint16_t base;

	if (sim->backend.traits & BACKEND_KEEPS_INDEX) {
		assert_int_equal(switch_to(sim, !info_of(sim)->shadow_wanted, &err), 0);
		return;
	}
	assert_int_equal(shadow_device_ring_stop(sim->device, 1, &base, &err), 0);
	assert_int_equal(sim_ring_start(sim, 1, base), 0);
	sim_pause(sim);
}

/* --- commands ------------------------------------------------------------------------ */

static void commands_reach_the_device_in_either_mode(void **state)
{
	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct sim *sim = net_boot(kinds[k]);
		bool is_passed = kinds[k] & BACKEND_KEEPS_INDEX;

		assert_int_equal(shadow_device_state(sim->device),
				 is_passed ? UMBRA_DEVICE_PASSTHROUGH : UMBRA_DEVICE_SHADOWED);
		assert_int_equal(info_of(sim)->queues[0].shadowed, !is_passed);
		assert_true(info_of(sim)->queues[CONTROL].shadowed);
		assert_true(info_of(sim)->control.is_followed);
		for (int i = 0; i < 40; i++) /* beyond the ring's size */
			assert_int_equal(answer(sim, SAY(sim, PROMISC)), VIRTIO_NET_OK);
		assert_int_equal(told(sim), 40);
		dev.told_count = 0;
		restart(sim);
		assert_int_equal(told(sim), 1);
		assert_int_equal(answer(sim, SAY(sim, MAC)), VIRTIO_NET_OK);
		assert_int_equal(told(sim), 2);
		assert_int_equal(info_of(sim)->control.accepted, 41);
		assert_int_equal(info_of(sim)->control.replayed, 1);
		assert_int_equal(info_of(sim)->control.modes[0], UMBRA_NET_MODE_ON);
		assert_int_equal(info_of(sim)->control.modes[1], UMBRA_NET_MODE_UNSAID);
		assert_true(info_of(sim)->control.has_mac);
		assert_int_equal(info_of(sim)->control.mac[5], 7);
		request_arrives(sim, 0, 1);
		sim_free(sim);
	}
}

/* What it did not agree to, and what never reached it, it is not told again. */
static void a_device_is_told_again_before_its_data_rings_run(void **state)
{
	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct sim *sim = net_boot(kinds[k]);

		assert_int_equal(answer(sim, SAY(sim, PROMISC)), VIRTIO_NET_OK);
		assert_int_equal(answer(sim, SAY(sim, 99, 1)), VIRTIO_NET_ERR);
		assert_int_equal(told(sim), 1);
		assert_int_equal(answer(sim, SAY(sim, MAC)), VIRTIO_NET_OK);
		dev.refuses = 1;
		assert_int_equal(answer(sim, SAY(sim, ALLMULTI)), VIRTIO_NET_ERR);
		assert_int_equal(told(sim), 3);
		for (int i = 0; i < 5; i++) {
			request_arrives(sim, 0, 1);
			restart(sim);
			assert_int_equal(told(sim), 2);
			ASSERT_TOLD_AGAIN(sim, 0, PROMISC);
			ASSERT_TOLD_AGAIN(sim, 1, MAC);
			request_arrives(sim, 1, 2);
		}
		assert_int_equal(info_of(sim)->control.refused, 1);
		assert_int_equal(info_of(sim)->control.failed, 1);
		sim_free(sim);
	}
}

static void a_device_that_was_told_nothing_is_told_nothing(void **state)
{
	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct sim *sim = net_boot(kinds[k]);

		dev.is_deaf = true;
		restart(sim);
		request_arrives(sim, 0, 1);
		sim_free(sim);
	}
}

/* It is submitted again, behind the replay, and answered once. */
static void a_command_in_flight_at_a_switch_is_answered_once(void **state)
{
	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++)
		for (int is_taken = 0; is_taken < 2; is_taken++) {
			struct sim *sim = net_boot(kinds[k]);
			uint64_t start = sim->now_us;
			unsigned int first, second;

			assert_int_equal(answer(sim, SAY(sim, PROMISC)), VIRTIO_NET_OK);
			first = SAY(sim, MAC);
			second = SAY(sim, ALLMULTI);
			sim_run(sim);
			sim->while_waiting = NULL;
			if (is_taken) {
				dev.is_slow = true;
				device_take(sim);
				assert_int_equal(told(sim), 2);
				dev.is_slow = false;
			}
			sim->while_waiting = device_take;
			restart(sim);
			assert_true(sim->now_us - start < 100000);
			ASSERT_TOLD_AGAIN(sim, 0, PROMISC);
			assert_int_equal(answer(sim, first), VIRTIO_NET_OK);
			assert_int_equal(answer(sim, second), VIRTIO_NET_OK);
			assert_int_equal(info_of(sim)->control.accepted, 3);
			assert_int_equal(answer(sim, 0), UNANSWERED);
			request_arrives(sim, 0, 1);
			restart(sim);
			assert_int_equal(told(sim), 3);
			ASSERT_TOLD_AGAIN(sim, 1, MAC);
			ASSERT_TOLD_AGAIN(sim, 2, ALLMULTI);
			sim_free(sim);
		}
}

static void a_shadow_that_is_switched_off_follows_the_control_queue(void **state)
{
	struct sim *sim = net_new(UMBRA_SHADOW_OFF, SUSPENDING);
	struct umbra_error err = { "" };
	uint16_t base;

	(void)state;
	sim_boot(sim, 3, NET);
	assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_PASSTHROUGH);
	assert_int_equal(answer(sim, SAY(sim, MAC)), VIRTIO_NET_OK);
	assert_int_equal(switch_to(sim, true, &err), -EPERM);
	assert_int_equal(shadow_device_ring_stop(sim->device, 1, &base, &err), 0);
	assert_int_equal(sim_ring_start(sim, 1, base), 0);
	sim_pause(sim);
	ASSERT_TOLD_AGAIN(sim, 0, MAC);
	request_arrives(sim, 0, 1);
	sim_free(sim);
}

/* With pairs of queues it is behind the last of them, and with one it may not be. */
static void which_ring_it_is_follows_from_what_was_negotiated(void **state)
{
	struct sim *sim = net_new(UMBRA_SHADOW_AUTO, SUSPENDING);

	(void)state;
	dev.max_pairs = 2;
	sim->features |= F(MQ);
	sim_boot(sim, 3, NET | F(MQ));
	assert_false(info_of(sim)->queues[CONTROL].shadowed); /* it is ring 4 */
	request_arrives(sim, CONTROL, 1);
	sim_free(sim);

	sim = net_new(UMBRA_SHADOW_AUTO, SUSPENDING);
	sim->device_id = VIRTIO_ID_BLOCK;
	sim_boot(sim, 3, NET);
	assert_false(info_of(sim)->control.is_followed);
	assert_false(info_of(sim)->queues[CONTROL].shadowed);
	sim_free(sim);
}

static void a_vhost_user_back_end_is_not_followed(void **state)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 8, NET);
	struct umbra_error err = { "" };
	uint8_t *bytes;
	size_t size;

	(void)state;
	memset(&dev, 0, sizeof(dev));
	sim_boot(sim, 3, NET);
	assert_false(info_of(sim)->control.is_followed);
	assert_false(info_of(sim)->queues[CONTROL].shadowed);
	request_arrives(sim, CONTROL, 1);
	assert_int_equal(switch_to(sim, true, &err), 0);
	request_arrives(sim, CONTROL, 2);
	assert_int_equal(shadow_device_save_control(sim->device, &bytes, &size, &err), -EOPNOTSUPP);
	assert_int_equal(shadow_device_load_control(sim->device, (const uint8_t *)"", 0, &err),
			 -EOPNOTSUPP);
	sim_free(sim);
}

static void a_guest_that_breaks_its_control_ring_breaks_nothing_else(void **state)
{
	struct sim *sim = net_boot(RESETTING);
	struct sim_queue *q = &sim->queues[CONTROL];
	struct umbra_error err = { "" };

	(void)state;
	assert_int_equal(answer(sim, SAY(sim, PROMISC)), VIRTIO_NET_OK);
	shm_store16(&q->driver.split.avail->idx, 101);
	sim->notified[q->kick_fd]++;
	sim_run(sim);
	assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_BROKEN);
	assert_non_null(strstr(info_of(sim)->queues[CONTROL].error, "made 100 chains"));
	assert_int_equal(switch_to(sim, true, &err), 0);
	assert_int_equal(told(sim), 0);
	request_arrives(sim, 0, 1);
	sim_free(sim);
}

/* --- a replay that fails -------------------------------------------------------------- */

static void a_refused_replay_leaves_the_old_mode(void **state)
{
	(void)state;
	for (int n = 0; n < 4; n++) {
		struct sim *sim = net_boot(n & 1 ? SUSPENDING : RESETTING);
		bool shadowed = n & 2;
		struct umbra_error err = { "" };

		assert_int_equal(answer(sim, SAY(sim, PROMISC)), VIRTIO_NET_OK);
		assert_int_equal(answer(sim, SAY(sim, MAC)), VIRTIO_NET_OK);
		assert_int_equal(switch_to(sim, shadowed, &err), 0);
		assert_int_equal(sim_guest_add(sim, 0, 1, 1, 7), 1); /* not yet there */
		dev.refuses = 1;
		assert_int_equal(switch_to(sim, !shadowed, &err), -EREMOTEIO);
		assert_non_null(strstr(err.text, "VIRTIO_NET_CTRL_RX_PROMISC cannot be replayed"));
		assert_non_null(strstr(err.text, shadowed ? "stays shadowed" : "stays passed"));
		assert_int_equal(shadow_device_state(sim->device),
				 shadowed ? UMBRA_DEVICE_SHADOWED : UMBRA_DEVICE_PASSTHROUGH);
		assert_int_equal(told(sim), 2);
		sim_run(sim);
		assert_int_equal(sim_backend_take(sim, 0, 2), 1);
		sim_backend_complete(sim, 0, 0);
		assert_int_equal(answer(sim, SAY(sim, ALLMULTI)), VIRTIO_NET_OK);
		assert_int_equal(switch_to(sim, !shadowed, &err), 0);
		assert_int_equal(told(sim), 3);
		assert_int_equal(sim->requests_lost, 0);
		sim_free(sim);
	}
}

static void a_device_that_refuses_for_ever_is_tried_again(void **state)
{
	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct sim *sim = net_boot(kinds[k]);
		struct umbra_error err = { "" };
		uint16_t base;

		assert_int_equal(answer(sim, SAY(sim, MAC)), VIRTIO_NET_OK);
		assert_int_equal(shadow_device_ring_stop(sim->device, 1, &base, &err), 0);
		assert_int_equal(sim_ring_start(sim, 1, base), 0);
		dev.refuses = 2;
		dev.is_deaf = k == 0; /* or says nothing at all */
		sim_pause(sim);
		assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_NEGOTIATING);
		assert_non_null(strstr(info_of(sim)->reason, "VIRTIO_NET_CTRL_MAC_ADDR_SET"));
		assert_non_null(strstr(info_of(sim)->reason, "cannot be replayed"));
		assert_false(sim->runs);
		dev.refuses = 0;
		dev.is_deaf = false;
		sim_pause(sim);
		assert_true(sim->runs);
		ASSERT_TOLD_AGAIN(sim, 0, MAC);
		request_arrives(sim, 0, 1);
		assert_int_equal(answer(sim, SAY(sim, PROMISC)), VIRTIO_NET_OK);
		sim_free(sim);
	}
}

static void a_data_ring_that_is_not_enabled_afterwards_stops_the_device(void **state)
{
	(void)state;
	for (unsigned int which = 1; which <= 2; which++)
		for (int n = 0; n < 2; n++) {
			struct sim *sim = net_boot(n ? SUSPENDING : RESETTING);
			struct umbra_error err = { "" };

			assert_int_equal(answer(sim, SAY(sim, MAC)), VIRTIO_NET_OK);
			dev.fail_enable = which;
			assert_int_equal(switch_to(sim, true, &err), -EREMOTEIO);
			assert_non_null(strstr(err.text, "is not enabled"));
			assert_int_equal(shadow_device_state(sim->device),
					 UMBRA_DEVICE_PASSTHROUGH);
			request_arrives(sim, 0, 1);
			request_arrives(sim, 1, 2);
			assert_int_equal(switch_to(sim, true, &err), 0);
			sim_free(sim);
		}
}

/* Receive buffers that wait to be given again are not lost by a start that fails. */
static void kept_buffers_outlive_a_refused_replay(void **state)
{
	struct sim *sim = net_boot(FORGETFUL);
	struct umbra_error err = { "" };
	uint64_t got;
	uint16_t base;
	uint32_t len;

	(void)state;
	assert_int_equal(answer(sim, SAY(sim, MAC)), VIRTIO_NET_OK);
	assert_int_equal(sim_guest_add(sim, 0, 0, 1, 1), 1);
	assert_int_equal(sim_guest_add(sim, 0, 0, 1, 2), 1);
	sim_run(sim);
	assert_int_equal(sim_backend_take(sim, 0, 2), 2);
	sim_backend_complete(sim, 0, 1);
	sim_run(sim);
	assert_int_equal(sim_guest_get(sim, 0, &got, &len), 1);
	assert_int_equal(got, 2);
	assert_int_equal(shadow_device_ring_stop(sim->device, 1, &base, &err), 0);
	assert_int_equal(sim_ring_start(sim, 1, base), 0);
	dev.refuses = 1;
	sim_pause(sim);
	assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_NEGOTIATING);
	sim_pause(sim);
	assert_true(sim->runs);
	sim_run(sim);
	assert_int_equal(sim_backend_take(sim, 0, 2), 1);
	sim_backend_complete(sim, 0, 0);
	sim_run(sim);
	sim->queues[0].guest_awake = true;
	assert_int_equal(sim_guest_get(sim, 0, &got, &len), 1);
	assert_int_equal(got, 1);
	sim_free(sim);
}

/* --- how long it is true ----------------------------------------------------------------- */

static void all_stop(struct sim *sim, uint16_t base[3])
{
	struct umbra_error err = { "" };

	for (unsigned int q = 0; q < 3; q++)
		assert_int_equal(shadow_device_ring_stop(sim->device, q, &base[q], &err), 0);
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
		.shared_addr = SIM_GPA + CONTROL * SIM_SLOT,
		.private = q->private,
	};

	assert_int_equal(driver_ring_init(&q->driver, &config), 0);
}

/* A VMM that stops the machine says status 0, too, and the guest goes on. */
static void a_guest_that_resets_has_forgotten_and_one_that_was_stopped_has_not(void **state)
{
	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct sim *sim = net_boot(kinds[k]);
		struct umbra_error err = { "" };
		uint16_t base[3];

		assert_int_equal(answer(sim, SAY(sim, PROMISC)), VIRTIO_NET_OK);
		all_stop(sim, base);
		assert_int_equal(base[CONTROL], 1);
		assert_int_equal(shadow_device_set_status(sim->device, 0, &err), 0);
		all_start(sim, base);
		assert_int_equal(told(sim), 1);
		ASSERT_TOLD_AGAIN(sim, 0, PROMISC);

		all_stop(sim, base);
		assert_int_equal(shadow_device_set_status(sim->device, 0, &err), 0);
		control_ring_renew(sim);
		base[CONTROL] = 0;
		all_start(sim, base);
		assert_int_equal(told(sim), 0);
		assert_int_equal(info_of(sim)->control.modes[0], UMBRA_NET_MODE_UNSAID);
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
	assert_int_equal(shadow_device_ring_stop(sim->device, 0, &base, &err), 0);
	assert_int_equal(shadow_device_ring_stop(sim->device, 1, &base, &err), 0);
	sim_pause(sim);
	assert_true(sim->queues[CONTROL].started);
	assert_int_equal(shadow_device_state(sim->device), UMBRA_DEVICE_PASSTHROUGH);
	assert_int_equal(switch_to(sim, true, &err), 0);
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
	assert_int_equal(info_of(sim)->control.modes[1], UMBRA_NET_MODE_ON);
	sim_free(sim);
}

/* The device has done the command, and nobody has looked yet. */
static void a_guest_that_resets_is_not_written_to(void **state)
{
	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct sim *sim = net_boot(kinds[k]);
		struct umbra_error err = { "" };
		unsigned int which = SAY(sim, MAC);

		sim_run(sim);
		device_take(sim);
		assert_int_equal(told(sim), 1);
		assert_int_equal(shadow_device_set_status(sim->device, 0, &err), 0);
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
	const struct ring_seg segs[] = {
		{ .addr = extra.gpa.v, .len = 3, .writable = 0 },
		{ .addr = extra.gpa.v + 64, .len = 1, .writable = 1 },
	};
	struct umbra_error err = { "" };

	(void)state;
	assert_non_null(extra.host);
	memcpy(extra.host, (const uint8_t[]){ PROMISC }, 3);
	extra.host[64] = UNANSWERED;
	assert_int_equal(answer(sim, SAY(sim, MAC)), VIRTIO_NET_OK);
	assert_int_equal(shadow_device_add_region(sim->device, &extra, &err), 0);
	assert_int_equal(driver_ring_add(ring, segs, 2, dev.said), 1);
	driver_ring_publish(ring);
	sim->notified[sim->queues[CONTROL].kick_fd]++;
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
	assert_int_equal(shadow_device_set_features(sim->device, NET, &err), 0); /* the same */
	all_start(sim, base);
	assert_int_equal(told(sim), 1);
	all_stop(sim, base);
	assert_int_equal(shadow_device_set_features(sim->device, NET & ~F(CTRL_VLAN), &err), 0);
	all_start(sim, base);
	assert_int_equal(told(sim), 0);

	assert_int_equal(answer(sim, SAY(sim, PROMISC)), VIRTIO_NET_OK);
	all_stop(sim, base);
	shadow_device_detach(sim->device);
	shadow_device_await(sim->device, NULL);
	shadow_device_attach(sim->device, &sim->backend);
	assert_int_equal(shadow_device_set_features(sim->device, NET, &err), 0);
	assert_int_equal(shadow_device_set_memory(sim->device, &sim->guest, 1, &err), 0);
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
	assert_int_equal(shadow_device_load_control(sim->device, bytes, *size, &err), -EBUSY);
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
			assert_true(info_of(sim)->control.is_waiting);
		}
		sim_boot(sim, 2, NET);
		assert_false(info_of(sim)->control.is_waiting);
		if (!early)
			assert_int_equal(shadow_device_load_control(sim->device, bytes, size, &err),
					 0);
		assert_int_equal(info_of(sim)->control.modes[0], UMBRA_NET_MODE_ON);
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
		request_arrives(sim, 0, 1);
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
	assert_false(info_of(sim)->control.is_waiting);
	assert_int_equal(shadow_device_load_control(sim->device, bytes, size, &err), 0);
	assert_int_equal(shadow_device_get_features(sim->device, &offered, &err), 0);
	assert_int_equal(shadow_device_set_features(sim->device, NET & ~F(CTRL_RX), &err),
			 -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "VIRTIO_NET_CTRL_RX_PROMISC"));
	assert_true(info_of(sim)->control.is_waiting);
	assert_int_equal(info_of(sim)->guest_features, 0);
	assert_int_equal(shadow_device_set_features(sim->device, NET, &err), 0);
	assert_false(info_of(sim)->control.is_waiting);
	assert_int_equal(info_of(sim)->control.modes[0], UMBRA_NET_MODE_ON);
	sim_free(sim);

	/* What was negotiated before holds at once, and a refusal changes nothing. */
	sim = net_new(UMBRA_SHADOW_AUTO, SUSPENDING);
	assert_int_equal(shadow_device_set_features(sim->device, NET & ~F(CTRL_RX), &err), 0);
	assert_int_equal(shadow_device_load_control(sim->device, bytes, size, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "VIRTIO_NET_CTRL_RX_PROMISC"));
	assert_false(info_of(sim)->control.is_waiting);
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
	assert_int_equal(shadow_device_get_features(sim->device, &offered, &err), 0);
	assert_int_equal(offered & (BIT64(52) | F(CTRL_VQ)), F(CTRL_VQ));
	assert_non_null(strstr(info_of(sim)->dropped_features,
			       "bit (52): its control commands are not followed"));
	sim->features &= ~F(CTRL_VQ);
	assert_int_equal(shadow_device_get_features(sim->device, &offered, &err), 0);
	assert_true(offered & BIT64(52));
	sim->features |= F(CTRL_VQ);
	sim->device_id = VIRTIO_ID_BLOCK;
	assert_int_equal(shadow_device_get_features(sim->device, &offered, &err), 0);
	assert_true(offered & BIT64(52));
	sim_free(sim);
}

static void a_legacy_driver_gets_no_control_queue(void **state)
{
	struct sim *sim = net_new(UMBRA_SHADOW_OFF, SUSPENDING);
	struct umbra_error err = { "" };

	(void)state;
	assert_int_equal(
		shadow_device_set_features(sim->device, NET & ~BIT64(VIRTIO_F_VERSION_1), &err),
		-EOPNOTSUPP);
	assert_non_null(strstr(err.text, "VIRTIO_NET_F_CTRL_VQ"));
	sim_free(sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(commands_reach_the_device_in_either_mode),
		cmocka_unit_test(a_device_is_told_again_before_its_data_rings_run),
		cmocka_unit_test(a_device_that_was_told_nothing_is_told_nothing),
		cmocka_unit_test(a_command_in_flight_at_a_switch_is_answered_once),
		cmocka_unit_test(a_shadow_that_is_switched_off_follows_the_control_queue),
		cmocka_unit_test(which_ring_it_is_follows_from_what_was_negotiated),
		cmocka_unit_test(a_vhost_user_back_end_is_not_followed),
		cmocka_unit_test(a_guest_that_breaks_its_control_ring_breaks_nothing_else),
		cmocka_unit_test(a_refused_replay_leaves_the_old_mode),
		cmocka_unit_test(a_device_that_refuses_for_ever_is_tried_again),
		cmocka_unit_test(a_data_ring_that_is_not_enabled_afterwards_stops_the_device),
		cmocka_unit_test(kept_buffers_outlive_a_refused_replay),
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
		cmocka_unit_test(a_legacy_driver_gets_no_control_queue),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
