/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "shadow_hold_rig.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <string.h>

#include "base/shm.h"
#include "device/shadow_device_private.h"

#define SIZE 8u

static struct umbra_error err;

/* --- a simulated back-end that dies, with a disk ------------------------------------- */

static struct virtio_ops immortal;
unsigned int calls, dies_at;
uint64_t sectors;
uint8_t last_status;

static int dies(struct umbra_error *why)
{
	return ++calls == dies_at ? error_set(why, -ECONNRESET, "simulated: it has died") : 0;
}

/* It dies before it does what it is asked, or has done it and does not say so. */
#define MORTAL(op, parameters, arguments)                                                          \
	static int mortal_##op parameters                                                          \
	{                                                                                          \
		int rc = dies(why);                                                                \
                                                                                                   \
		if (!rc)                                                                           \
			rc = immortal.op arguments;                                                \
		return rc ? rc : dies(why);                                                        \
	}

MORTAL(get_features, (struct virtio_device * b, uint64_t *v, struct umbra_error *why), (b, v, why))
MORTAL(set_features, (struct virtio_device * b, uint64_t v, struct umbra_error *why), (b, v, why))
MORTAL(set_memory,
       (struct virtio_device * b, const struct memory_region *r, unsigned int n,
	struct umbra_error *why),
       (b, r, n, why))
MORTAL(ring_start,
       (struct virtio_device * b, unsigned int i, const struct virtio_ring *ring,
	struct umbra_error *why),
       (b, i, ring, why))
MORTAL(ring_stop,
       (struct virtio_device * b, unsigned int i, struct ring_position *base,
	struct umbra_error *why),
       (b, i, base, why))
MORTAL(ring_enable,
       (struct virtio_device * b, unsigned int i, bool enabled, struct umbra_error *why),
       (b, i, enabled, why))
MORTAL(set_status, (struct virtio_device * b, uint8_t v, struct umbra_error *why), (b, v, why))
MORTAL(get_queue_num, (struct virtio_device * b, uint64_t *v, struct umbra_error *why), (b, v, why))

uint8_t disk_config[16];
bool takes_config = true;

static int disk_set_config(struct virtio_device *b, uint32_t offset, const void *data,
			   uint32_t size, uint32_t flags, struct umbra_error *why)
{
	(void)b;
	assert_int_equal(flags, 0);
	assert_true(offset + size <= sizeof(disk_config));
	if (!takes_config)
		return error_set(why, -EOPNOTSUPP, "simulated: it has none");
	memcpy(disk_config + offset, data, size);
	return dies(why);
}

static int disk_get_config(struct virtio_device *b, uint32_t offset, void *data, uint32_t size,
			   struct umbra_error *why)
{
	uint8_t config[16];
	le64 capacity = le64_from(sectors);

	(void)b;
	memcpy(config, disk_config, sizeof(config));
	memcpy(config, &capacity, sizeof(capacity));
	if (offset + size > sizeof(config))
		return error_set(why, -EREMOTEIO, "simulated: so long it is not");
	memcpy(data, config + offset, size);
	return dies(why);
}

static int note_status(struct virtio_device *b, uint8_t status, struct umbra_error *why)
{
	last_status = status;
	return mortal_set_status(b, status, why);
}

static void make_mortal(struct sim *sim)
{
	immortal = sim->ops;
	sim->ops.get_features = mortal_get_features;
	sim->ops.set_features = mortal_set_features;
	sim->ops.set_memory = mortal_set_memory;
	sim->ops.ring_start = mortal_ring_start;
	sim->ops.ring_stop = mortal_ring_stop;
	sim->ops.ring_enable = mortal_ring_enable;
	sim->ops.set_status = note_status;
	sim->ops.get_queue_num = mortal_get_queue_num;
	sim->ops.get_config = disk_get_config;
	sim->ops.set_config = disk_set_config;
	memset(disk_config, 0, sizeof(disk_config));
	calls = dies_at = 0;
	sectors = SECTORS;
	last_status = 0;
}

void bury(struct sim *sim)
{
	sim_bury(sim);
	calls = dies_at = 0;
}

/* --- a guest with two rings --------------------------------------------------------------- */

struct sim *boot_with(enum umbra_shadow_mode mode, uint32_t type)
{
	struct sim *sim = sim_new(mode, SIZE, V1 | EVENT);
	uint64_t capacity;

	sim->queue_num = 2;
	make_mortal(sim);
	shadow_device_hold_for(sim->device, type, UMBRA_LOSS_BY_TYPE);
	sim_boot(sim, 2, V1 | EVENT);
	assert_int_equal(sim->front->ops->get_config(sim->front, 0, &capacity, 8, &err), 0);
	assert_int_equal(sim->front->ops->set_status(sim->front, 0xf, &err), 0);
	sim_run(sim);
	return sim;
}

struct sim *boot(void)
{
	return boot_with(UMBRA_SHADOW_ON, VIRTIO_ID_BLOCK);
}

static enum umbra_device_state state_of(const struct sim *sim)
{
	return shadow_device_state(sim->device);
}

void is(const struct sim *sim, enum umbra_device_state state)
{
	assert_string_equal(umbra_device_state_name(state_of(sim)), umbra_device_state_name(state));
	assert_true(shadow_state_holds(sim->device));
}

void lose(struct sim *sim)
{
	const struct umbra_error why = { "simulated: closed" };

	assert_true(shadow_device_lose_backend(sim->device, &why));
	is(sim, UMBRA_DEVICE_HELD);
	bury(sim);
}

void comes(struct sim *sim)
{
	assert_int_equal(shadow_device_return(sim->device, &sim->backend, &err), 0);
	is(sim, UMBRA_DEVICE_SHADOWED);
	sim_run(sim);
}

void comes_and_dies(struct sim *sim, unsigned int at)
{
	dies_at = at;
	assert_int_equal(shadow_device_return(sim->device, &sim->backend, &err), -ECONNRESET);
	is(sim, UMBRA_DEVICE_HELD);
}

void request(struct sim *sim, unsigned int queue, uint64_t serial)
{
	assert_int_equal(sim_guest_add(sim, queue, 1, 1, serial), 1);
	sim_run(sim);
}

void gets(struct sim *sim, unsigned int queue, uint64_t serial)
{
	uint64_t got;
	uint32_t len;

	sim_run(sim);
	assert_int_equal(sim_guest_get(sim, queue, &got, &len), 1);
	assert_int_equal(got, serial);
}

void gets_nothing(struct sim *sim, unsigned int queue)
{
	uint64_t got;
	uint32_t len;

	sim_run(sim);
	assert_int_equal(sim_guest_get(sim, queue, &got, &len), 0);
}

void has(struct sim *sim, unsigned int queue, unsigned int count, const uint64_t *serials)
{
	sim_run(sim);
	sim_backend_take(sim, queue, SIM_HELD_MAX);
	assert_int_equal(sim->queues[queue].held_count, count);
	for (unsigned int i = 0; i < count; i++)
		assert_int_equal(sim->queues[queue].held[i].serial, serials[i]);
}

void completes_all(struct sim *sim, unsigned int queue)
{
	while (sim->queues[queue].held_count)
		sim_backend_complete(sim, queue, 0);
}

void returns_with_a_gap(struct sim *sim)
{
	for (uint64_t serial = 1; serial <= 3; serial++)
		request(sim, 0, serial);
	has(sim, 0, 3, (const uint64_t[]){ 1, 2, 3 });
	sim_backend_complete(sim, 0, 1);
	lose(sim);
	gets(sim, 0, 2);
	comes(sim);
}

void lies(struct sim *sim, unsigned int queue)
{
	struct device_ring *back = &sim->queues[queue].device;

	sim_backend_take(sim, queue, 1);
	back->split.used->ring[0].id = le32_from(0xffff);
	shm_store16_release(&back->split.used->idx, 1);
}
