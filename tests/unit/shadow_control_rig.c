/* SPDX-License-Identifier: BSD-2-Clause */
/* A simulated network device with a control queue: see shadow_control_rig.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "shadow_control_rig.h"

struct net_device dev;

void device_take(struct sim *sim)
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
	       memory_host(sim->backend_memory, &hint, chain.segs[0].addr, chain.segs[0].len),
	       chain.segs[0].len);
	dev.told[dev.told_count].size = chain.segs[0].len;
	dev.told[dev.told_count].life = sim->device_starts;
	dev.told[dev.told_count++].data_is_enabled =
		(sim->queues[0].started && sim->queues[0].enabled) ||
		(sim->queues[1].started && sim->queues[1].enabled);
	if (dev.is_slow)
		return;
	ack = memory_host(sim->backend_memory, &hint, chain.segs[1].addr, 1);
	*ack = dev.refuses ? VIRTIO_NET_ERR : VIRTIO_NET_OK;
	dev.refuses -= dev.refuses > 0;
	device_ring_complete(&q->device, (uint16_t)(chain.head + (dev.lies > 0)), 1);
	dev.lies -= dev.lies > 0;
	device_ring_publish(&q->device);
	sim->host.notified[q->told.call_fd]++;
}

static int enable(struct virtio_device *b, unsigned int index, bool enabled,
		  struct umbra_error *err)
{
	struct sim *sim = sim_of(b);

	assert_true(sim->runs);
	if (dev.fail_enable && --dev.fail_enable == 0)
		return error_set(err, -EREMOTEIO, "simulated: ring %u is not enabled", index);
	sim->queues[index].enabled = enabled;
	sim->queues[index].awake = true; /* it looks */
	return 0;
}

static int config_get(struct virtio_device *b, uint32_t offset, void *data, uint32_t size,
		      struct umbra_error *err)
{
	uint8_t config[24] = { [8] = (uint8_t)dev.max_pairs };

	(void)b;
	(void)err;
	assert_true(offset + size <= sizeof(config));
	memcpy(data, config + offset, size);
	return 0;
}

struct sim *net_new(enum umbra_shadow_mode mode, unsigned int traits)
{
	struct sim *sim = sim_new(mode, 8, NET);

	memset(&dev, 0, sizeof(dev));
	dev.max_pairs = 1;
	sim_run_as_one(sim, traits);
	sim->device_id = VIRTIO_ID_NET;
	sim->tells_base = true;
	sim->ops.ring_enable = enable;
	sim->ops.get_config = config_get;
	sim->while_waiting = device_take;
	return sim;
}

struct sim *net_boot(unsigned int traits)
{
	struct sim *sim = net_new(UMBRA_SHADOW_AUTO, traits);

	sim_boot(sim, 3, NET);
	return sim;
}

/* --- what the guest does ------------------------------------------------------- */

uint8_t *command_place(const struct sim *sim, unsigned int which)
{
	return sim->guest.host + COMMAND_AT + (which % 16) * COMMAND_STRIDE;
}

unsigned int guest_say(struct sim *sim, const uint8_t *bytes, size_t size)
{
	struct driver_ring *ring = &sim->queues[CONTROL].driver;
	unsigned int which = dev.said++;
	uint64_t at = SIM_GPA + COMMAND_AT + (which % 16) * COMMAND_STRIDE;
	const struct driver_seg segs[] = {
		{ .addr = { at }, .len = (uint32_t)size, .writable = 0 },
		{ .addr = { at + COMMAND_STRIDE - 1 }, .len = 1, .writable = 1 },
	};

	memcpy(command_place(sim, which), bytes, size);
	command_place(sim, which)[COMMAND_STRIDE - 1] = UNANSWERED;
	assert_int_equal(driver_ring_add(ring, segs, 2, which), 1);
	driver_ring_publish(ring);
	sim->host.notified[sim->queues[CONTROL].kick_fd]++;
	return which;
}

unsigned int answer(struct sim *sim, unsigned int which)
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

/* --- what is expected ------------------------------------------------------------ */

unsigned int told(const struct sim *sim)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < dev.told_count; i++)
		n += dev.told[i].life == sim->device_starts;
	return n;
}

void assert_told(const struct sim *sim, unsigned int place, const uint8_t *bytes, size_t size)
{
	unsigned int i = dev.told_count - told(sim) + place;

	assert_true(place < told(sim));
	assert_int_equal(dev.told[i].size, size);
	assert_memory_equal(dev.told[i].bytes, bytes, size);
	assert_false(dev.told[i].data_is_enabled);
}

void restart(struct sim *sim)
{
	struct umbra_error err = { "" };
	uint16_t base;

	if (sim->backend.traits & BACKEND_KEEPS_INDEX) {
		assert_int_equal(sim_switch(sim, !sim_info(sim)->info.shadow_wanted, &err), 0);
		return;
	}
	assert_int_equal(ring_stop_at(sim->front, 1, &base, &err), 0);
	assert_int_equal(sim_ring_start(sim, 1, base), 0);
	sim_pause(sim);
}
