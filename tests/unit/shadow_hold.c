/* SPDX-License-Identifier: BSD-2-Clause */
/* A device whose back-end is lost goes on without it, and with the next one. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/shm.h"
#include "device/shadow_device_private.h"
#include "sim.h"

#define SIZE 8u
#define SECTORS 4096u

static struct umbra_error err;

/* --- a simulated back-end that dies, with a disk ------------------------------------- */

static struct virtio_ops immortal;
static unsigned int calls, dies_at; /* at that call; 0: never */
static uint64_t sectors;
static uint8_t last_status;

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

static uint8_t disk_config[16];
static bool takes_config = true;

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

static void bury(struct sim *sim)
{
	sim_bury(sim);
	calls = dies_at = 0;
}

/* --- a guest with two rings --------------------------------------------------------------- */

static struct sim *boot_with(enum umbra_shadow_mode mode, uint32_t type)
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

static struct sim *boot(void)
{
	return boot_with(UMBRA_SHADOW_ON, VIRTIO_ID_BLOCK);
}

static enum umbra_device_state state_of(const struct sim *sim)
{
	return shadow_device_state(sim->device);
}

static void is(const struct sim *sim, enum umbra_device_state state)
{
	assert_string_equal(umbra_device_state_name(state_of(sim)), umbra_device_state_name(state));
	assert_true(shadow_state_holds(sim->device));
}

/* The connection is found closed. */
static void lose(struct sim *sim)
{
	const struct umbra_error why = { "simulated: closed" };

	assert_true(shadow_device_lose_backend(sim->device, &why));
	is(sim, UMBRA_DEVICE_HELD);
	bury(sim);
}

static void comes(struct sim *sim)
{
	assert_int_equal(shadow_device_return(sim->device, &sim->backend, &err), 0);
	is(sim, UMBRA_DEVICE_SHADOWED);
	sim_run(sim);
}

/* It dies at call @at of those that it is greeted with, and is as if it had never come. */
static void comes_and_dies(struct sim *sim, unsigned int at)
{
	dies_at = at;
	assert_int_equal(shadow_device_return(sim->device, &sim->backend, &err), -ECONNRESET);
	is(sim, UMBRA_DEVICE_HELD);
}

static void request(struct sim *sim, unsigned int queue, uint64_t serial)
{
	assert_int_equal(sim_guest_add(sim, queue, 1, 1, serial), 1);
	sim_run(sim);
}

/* The guest gets so many more, and the first is @serial. */
static void gets(struct sim *sim, unsigned int queue, uint64_t serial)
{
	uint64_t got;
	uint32_t len;

	sim_run(sim);
	assert_int_equal(sim_guest_get(sim, queue, &got, &len), 1);
	assert_int_equal(got, serial);
}

static void gets_nothing(struct sim *sim, unsigned int queue)
{
	uint64_t got;
	uint32_t len;

	sim_run(sim);
	assert_int_equal(sim_guest_get(sim, queue, &got, &len), 0);
}

/* The back-end has these requests, in this order. */
static void has(struct sim *sim, unsigned int queue, unsigned int count, const uint64_t *serials)
{
	sim_run(sim);
	sim_backend_take(sim, queue, SIM_HELD_MAX);
	assert_int_equal(sim->queues[queue].held_count, count);
	for (unsigned int i = 0; i < count; i++)
		assert_int_equal(sim->queues[queue].held[i].serial, serials[i]);
}

static void completes_all(struct sim *sim, unsigned int queue)
{
	while (sim->queues[queue].held_count)
		sim_backend_complete(sim, queue, 0);
}

/* Queue 0: of three requests the guest has got the second, and the next back-end is given the
 * others again, the older one of which is not the newest on the guest's ring. */
static void returns_with_a_gap(struct sim *sim)
{
	for (uint64_t serial = 1; serial <= 3; serial++)
		request(sim, 0, serial);
	has(sim, 0, 3, (const uint64_t[]){ 1, 2, 3 });
	sim_backend_complete(sim, 0, 1);
	lose(sim);
	gets(sim, 0, 2);
	comes(sim);
}

/* Of one request that it took it uses one that it was never given. */
static void lies(struct sim *sim, unsigned int queue)
{
	struct device_ring *back = &sim->queues[queue].device;

	sim_backend_take(sim, queue, 1);
	back->split.used->ring[0].id = le32_from(0xffff);
	shm_store16_release(&back->split.used->idx, 1);
}

/* --- a loss, and a return -------------------------------------------------------------------- */

static void what_was_not_done_is_given_to_the_next_one_in_the_order_of_the_guest(void **state)
{
	struct sim *sim = boot();

	(void)state;
	for (uint64_t serial = 1; serial <= 4; serial++)
		request(sim, 0, serial);
	has(sim, 0, 4, (const uint64_t[]){ 1, 2, 3, 4 });
	sim_backend_complete(sim, 0, 2); /* out of order */
	lose(sim);
	/* What it has used is the guest's, whether it was called or not. */
	gets(sim, 0, 3);
	gets_nothing(sim, 0);
	assert_int_equal(sim_info(sim)->info.held_requests, 3);
	request(sim, 0, 5);
	gets_nothing(sim, 0);

	comes(sim);
	has(sim, 0, 4, (const uint64_t[]){ 1, 2, 4, 5 });
	completes_all(sim, 0);
	gets(sim, 0, 1);
	gets(sim, 0, 2);
	gets(sim, 0, 4);
	gets(sim, 0, 5);
	gets_nothing(sim, 0);
	assert_int_equal(sim_info(sim)->info.replayed, 3);
	assert_int_equal(sim_info(sim)->info.holds, 1);
	assert_int_equal(last_status, 0xf);
	sim_free(sim);
}

static void a_guest_that_sleeps_is_called_when_queues_run_again(void **state)
{
	struct sim *sim = boot();
	uint64_t called[2];

	(void)state;
	lose(sim);
	for (unsigned int i = 0; i < 2; i++)
		called[i] = sim_notified(sim, sim->queues[i].call_fd);
	comes(sim);
	for (unsigned int i = 0; i < 2; i++)
		assert_true(sim_notified(sim, sim->queues[i].call_fd) > called[i]);
	sim_free(sim);
}

static void it_may_happen_again_and_again(void **state)
{
	struct sim *sim = boot();

	(void)state;
	for (uint64_t serial = 0; serial < 70000; serial += 2) { /* over the index's end */
		request(sim, 0, serial);
		request(sim, 0, serial + 1);
		if (serial % 1000 == 0) {
			if (serial % 3000)
				sim_backend_take(sim, 0, 1);
			lose(sim);
			if (serial % 5000 == 0) {
				comes(sim);
				lose(sim);
			}
			comes(sim);
		}
		has(sim, 0, 2, (const uint64_t[]){ serial, serial + 1 });
		completes_all(sim, 0);
		gets(sim, 0, serial);
		gets(sim, 0, serial + 1);
	}
	gets_nothing(sim, 0);
	sim_free(sim);
}

static void a_return_has_held_when_all_that_was_given_again_is_done(void **state)
{
	struct sim *sim = boot();

	(void)state;
	sim->host.now_us = 1; /* since the machine was started */
	request(sim, 0, 1);
	lose(sim);
	assert_true(shadow_device_was_served(sim->device)); /* the first has not returned */
	comes(sim);
	lose(sim);
	assert_false(shadow_device_was_served(sim->device));
	request(sim, 0, 2);
	comes(sim);
	has(sim, 0, 2, (const uint64_t[]){ 1, 2 });
	sim_backend_complete(sim, 0, 1); /* not the one that it may die of */
	gets(sim, 0, 2);
	lose(sim);
	assert_false(shadow_device_was_served(sim->device));
	comes(sim);
	has(sim, 0, 1, (const uint64_t[]){ 1 });
	completes_all(sim, 0);
	gets(sim, 0, 1);
	request(sim, 0, 3); /* and nobody has to have done what is new */
	lose(sim);
	assert_true(shadow_device_was_served(sim->device));
	/* Or it stood for long. */
	comes(sim);
	sim->host.now_us += 1999999;
	lose(sim);
	assert_false(shadow_device_was_served(sim->device));
	comes(sim);
	sim->host.now_us += 2000000;
	lose(sim);
	assert_true(shadow_device_was_served(sim->device));
	sim_free(sim);
}

static void what_the_driver_wrote_into_the_configuration_is_told(void **state)
{
	struct sim *sim = boot();
	const uint8_t written[3] = { 1, 2, 3 };
	uint8_t config[16];

	(void)state;
	assert_int_equal(sim->front->ops->get_config(sim->front, 0, config, 16, &err), 0);
	assert_int_equal(sim->front->ops->set_config(sim->front, 9, written, 1, 0, &err), 0);
	assert_int_equal(sim->front->ops->set_config(sim->front, 12, written, 3, 0, &err), 0);
	assert_memory_equal(disk_config + 9, ((uint8_t[]){ 1, 0, 0, 1, 2, 3 }), 6);
	lose(sim);
	memset(disk_config, 0, sizeof(disk_config));
	comes(sim);
	assert_memory_equal(disk_config + 9, ((uint8_t[]){ 1, 0, 0, 1, 2, 3 }), 6);
	assert_int_equal(sim->host.configs_changed, 0); /* it is as the guest has it */
	/* One that does not take it is not as was promised. */
	lose(sim);
	takes_config = false;
	assert_int_equal(shadow_device_return(sim->device, &sim->backend, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "does not take 1 bytes at 9"));
	bury(sim);
	is(sim, UMBRA_DEVICE_HELD);
	takes_config = true;
	memset(disk_config, 0, sizeof(disk_config));
	comes(sim);
	assert_memory_equal(disk_config + 9, ((uint8_t[]){ 1, 0, 0, 1, 2, 3 }), 6);
	/* Of a device that was reset nothing is left. */
	assert_int_equal(sim->front->ops->set_status(sim->front, 0, &err), 0);
	lose(sim);
	memset(disk_config, 0, sizeof(disk_config));
	assert_int_equal(shadow_device_return(sim->device, &sim->backend, &err), 0);
	assert_memory_equal(disk_config + 9, ((uint8_t[6]){ 0 }), 6);
	sim_free(sim);
}

static void nothing_is_given_before_the_dead_is_dead(void **state)
{
	struct sim *sim = boot();

	(void)state;
	lose(sim);
	assert_int_equal(shadow_device_unsettled(sim->device), 0); /* it had nothing */
	comes(sim);
	request(sim, 1, 1);
	lose(sim);
	assert_int_equal(shadow_device_held(sim->device), 1);
	assert_int_equal(shadow_device_unsettled(sim->device), 1);
	shadow_device_backend_is_dead(sim->device);
	assert_int_equal(shadow_device_unsettled(sim->device), 0);
	comes(sim);
	/* That was said of the former one. */
	lose(sim);
	assert_int_equal(shadow_device_unsettled(sim->device), 1);
	sim_free(sim);
}

/* It goes on writing, whatever becomes of the guest that asked for it. */
static void a_reset_does_not_kill_the_dead(void **state)
{
	struct sim *sim = boot();
	uint16_t base;

	(void)state;
	request(sim, 0, 1);
	request(sim, 1, 2);
	lose(sim);
	assert_int_equal(ring_stop_at(sim->front, 1, &base, &err), 0);
	assert_int_equal(sim->front->ops->reset(sim->front, &err), 0);
	assert_int_equal(shadow_device_held(sim->device), 0);
	assert_int_equal(shadow_device_unsettled(sim->device), 2);
	sim_free(sim);
}

static void what_it_has_of_a_broken_ring_counts(void **state)
{
	struct sim *sim = boot();

	(void)state;
	request(sim, 0, 1);
	request(sim, 0, 2);
	lies(sim, 0);
	request(sim, 0, 3);
	sim->front->ops->check_queues(sim->front);
	is(sim, UMBRA_DEVICE_BROKEN);
	lose(sim);
	assert_int_equal(shadow_device_held(sim->device), 0);
	assert_int_equal(shadow_device_unsettled(sim->device), 2);
	sim_free(sim);
}

/* The last that it hears of a return is DRIVER_OK, before it has the requests. */
static void one_that_is_lost_with_what_it_was_given_must_be_dead_as_well(void **state)
{
	struct sim *sim = boot();
	unsigned int calls_of_a_return;

	(void)state;
	request(sim, 0, 1);
	request(sim, 1, 2);
	lose(sim);
	shadow_device_backend_is_dead(sim->device);
	comes(sim);
	calls_of_a_return = calls;
	lose(sim);
	assert_int_equal(shadow_device_unsettled(sim->device), 2);
	shadow_device_backend_is_dead(sim->device);
	comes_and_dies(sim, calls_of_a_return);
	assert_int_equal(shadow_device_held(sim->device), 2);
	assert_int_equal(shadow_device_unsettled(sim->device), 0);
	bury(sim);
	comes_and_dies(sim, 1);
	bury(sim);
	comes(sim);
	has(sim, 0, 1, (const uint64_t[]){ 1 });
	sim_free(sim);
}

/* --- the next one is of no use ------------------------------------------------------------------
 */

static void is_refused(struct sim *sim, const char *says)
{
	assert_int_equal(shadow_device_return(sim->device, &sim->backend, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, says));
	is(sim, UMBRA_DEVICE_HELD);
	bury(sim);
}

static void one_that_has_less_is_refused(void **state)
{
	struct sim *sim = boot();
	uint64_t count;

	(void)state;
	assert_int_equal(sim->front->ops->get_queue_num(sim->front, &count, &err), 0);
	request(sim, 0, 1);
	lose(sim);
	sectors = SECTORS - 1;
	is_refused(sim, "4095 sectors, and the guest's had 4096");
	sectors = SECTORS;
	sim->features = EVENT;
	is_refused(sim, "lacks the features 0x100000000");
	sim->features = V1 | EVENT | BIT64(VIRTIO_BLK_F_RO);
	is_refused(sim, "its disk is read-only");
	sim->features = V1 | EVENT;
	sim->queue_num = 1;
	is_refused(sim, "1 queues, and the VMM was told of 2");
	sim->queue_num = 2;
	comes(sim);
	has(sim, 0, 1, (const uint64_t[]){ 1 });
	sim_free(sim);
}

/* The front-end has never asked how many there are. */
static void one_that_has_fewer_than_are_used_is_refused(void **state)
{
	struct sim *sim = boot();

	(void)state;
	request(sim, 1, 1);
	lose(sim);
	sim->queue_num = 1;
	is_refused(sim, "1 queues, and the VMM uses 2");
	sim->queue_num = 2;
	comes(sim);
	has(sim, 1, 1, (const uint64_t[]){ 1 });
	sim_free(sim);
}

static void a_disk_that_has_grown_is_told(void **state)
{
	struct sim *sim = boot();
	uint64_t capacity = 0;

	(void)state;
	lose(sim);
	sectors = 2 * SECTORS;
	comes(sim);
	assert_int_equal(sim->host.configs_changed, 1);
	lose(sim);
	assert_int_equal(sim->front->ops->get_config(sim->front, 0, &capacity, 8, &err), 0);
	assert_int_equal(capacity, 2 * SECTORS);
	comes(sim);
	assert_int_equal(sim->host.configs_changed, 1);
	sim_free(sim);
}

/* Nobody has been told of the one that died. */
static void a_disk_that_had_grown_and_died_on_the_way_was_never_there(void **state)
{
	struct sim *sim = boot();
	uint64_t capacity = 0;

	(void)state;
	lose(sim);
	sectors = 2 * SECTORS;
	comes_and_dies(sim, 4); /* after its configuration */
	bury(sim);
	assert_int_equal(sim->front->ops->get_config(sim->front, 0, &capacity, 8, &err), 0);
	assert_int_equal(capacity, SECTORS);
	comes(sim);
	assert_int_equal(sim->host.configs_changed, 1);
	lose(sim);
	sectors = 3 * SECTORS;
	comes_and_dies(sim, 4);
	bury(sim);
	sectors = 2 * SECTORS;
	comes(sim);
	assert_int_equal(sim->host.configs_changed, 1);
	sim_free(sim);
}

/* It dies at each call of its own greeting, before or after it has done what it was asked. */
static void one_that_dies_on_the_way_is_as_if_it_had_never_come(void **state)
{
	struct sim *sim = boot();
	unsigned int deaths = 0;
	int rc;

	(void)state;
	for (uint64_t serial = 1; serial <= 3; serial++)
		request(sim, 0, serial);
	request(sim, 1, 9);
	lose(sim);
	for (;;) {
		dies_at = deaths + 1;
		rc = shadow_device_return(sim->device, &sim->backend, &err);
		if (!rc)
			break;
		assert_int_equal(rc, -ECONNRESET);
		is(sim, UMBRA_DEVICE_HELD);
		bury(sim);
		deaths++;
	}
	assert_true(deaths > 10);
	is(sim, UMBRA_DEVICE_SHADOWED);
	has(sim, 0, 3, (const uint64_t[]){ 1, 2, 3 });
	has(sim, 1, 1, (const uint64_t[]){ 9 });
	completes_all(sim, 0);
	gets(sim, 0, 1);
	gets(sim, 0, 2);
	gets(sim, 0, 3);
	gets_nothing(sim, 0);
	sim_free(sim);
}

/* --- a front-end that does not wait --------------------------------------------------------------
 */

static void what_was_learnt_is_answered(void **state)
{
	struct sim *sim = boot();
	const struct virtio_ops *ask = sim->front->ops;
	uint64_t value = 0;
	uint8_t status;

	(void)state;
	assert_int_equal(ask->get_queue_num(sim->front, &value, &err), 0);
	lose(sim);
	calls = 0;
	assert_int_equal(ask->get_features(sim->front, &value, &err), 0);
	assert_true(value & V1);
	assert_int_equal(ask->get_queue_num(sim->front, &value, &err), 0);
	assert_int_equal(value, 2);
	assert_int_equal(ask->get_config(sim->front, 0, &value, 8, &err), 0);
	assert_int_equal(value, SECTORS);
	assert_int_equal(ask->get_config(sim->front, 8, &value, 8, &err), -EREMOTEIO);
	assert_int_equal(ask->set_config(sim->front, 0, &value, 8, 0, &err), -EREMOTEIO);
	assert_int_equal(ask->get_status(sim->front, &status, &err), 0);
	assert_int_equal(status, 0xf);
	assert_int_equal(calls, 0);
	comes(sim);
	sim_free(sim);
}

static void a_message_that_finds_it_dead_is_to_be_asked_again(void **state)
{
	struct sim *sim = boot();
	uint64_t capacity = 0;

	(void)state;
	request(sim, 0, 1);
	dies_at = calls + 1;
	assert_int_equal(sim->front->ops->get_config(sim->front, 0, &capacity, 8, &err), -ERESTART);
	is(sim, UMBRA_DEVICE_HELD);
	bury(sim);
	assert_int_equal(sim->front->ops->get_config(sim->front, 0, &capacity, 8, &err), 0);
	assert_int_equal(capacity, SECTORS);
	comes(sim);
	has(sim, 0, 1, (const uint64_t[]){ 1 });
	sim_free(sim);
}

/* It is stopped, and goes on at the same index: a VM that is paused. */
static void rings_are_stopped_and_started_without_a_back_end(void **state)
{
	struct sim *sim = boot();
	uint16_t base;

	(void)state;
	request(sim, 0, 1);
	request(sim, 0, 2);
	lose(sim);
	assert_int_equal(ring_stop_at(sim->front, 0, &base, &err), 0);
	assert_int_equal(base, 2);
	assert_int_equal(sim_ring_start(sim, 0, base), 0);
	is(sim, UMBRA_DEVICE_HELD);
	request(sim, 0, 3);
	comes(sim);
	has(sim, 0, 3, (const uint64_t[]){ 1, 2, 3 });
	completes_all(sim, 0);
	gets(sim, 0, 1);
	sim_free(sim);
}

/* As where a driver is unbound and bound again. */
static void rings_are_disabled_and_enabled_without_a_back_end(void **state)
{
	struct sim *sim = boot();
	const struct virtio_ops *ask = sim->front->ops;

	(void)state;
	request(sim, 0, 1);
	lose(sim);
	assert_int_equal(ask->ring_enable(sim->front, 0, false, &err), 0);
	is(sim, UMBRA_DEVICE_HELD);
	assert_int_equal(ask->ring_enable(sim->front, 0, true, &err), 0);
	comes(sim);
	has(sim, 0, 1, (const uint64_t[]){ 1 });
	completes_all(sim, 0);
	gets(sim, 0, 1);

	/* One that is disabled when the next one comes begins when it is enabled. */
	request(sim, 0, 2);
	lose(sim);
	assert_int_equal(ask->ring_enable(sim->front, 0, false, &err), 0);
	comes(sim);
	assert_false(sim->queues[0].started);
	assert_int_equal(ask->ring_enable(sim->front, 0, true, &err), 0);
	has(sim, 0, 1, (const uint64_t[]){ 2 });
	completes_all(sim, 0);
	gets(sim, 0, 2);
	gets_nothing(sim, 0);
	sim_free(sim);
}

/*
 * What was given again, and not taken, can go back to the guest's ring only as far as it is the
 * newest there: the rest waits, whether the ring goes on in this life or in another.
 */
static void a_ring_whose_back_end_did_not_take_what_it_was_given_again_is_stopped(void **state)
{
	(void)state;
	for (unsigned int way = 0; way < 2; way++) {
		struct sim *sim = boot();
		const struct virtio_ops *ask = sim->front->ops;
		uint16_t base;

		returns_with_a_gap(sim);
		if (way == 0) {
			assert_int_equal(ask->ring_enable(sim->front, 0, false, &err), 0);
			assert_int_equal(ask->ring_enable(sim->front, 0, true, &err), 0);
		} else {
			assert_int_equal(ring_stop_at(sim->front, 0, &base, &err), 0);
			assert_int_equal(base, 2); /* 3 is the guest's again, 1 waits */
			assert_int_equal(sim_ring_start(sim, 0, base), 0);
		}
		is(sim, UMBRA_DEVICE_SHADOWED);
		has(sim, 0, 2, (const uint64_t[]){ 1, 3 });
		completes_all(sim, 0);
		gets(sim, 0, 1);
		gets(sim, 0, 3);
		gets_nothing(sim, 0);
		sim_free(sim);
	}
}

/* A back-end that is passed through would never hear of it. */
static void what_waits_is_not_passed_through(void **state)
{
	struct sim *sim = boot_with(UMBRA_SHADOW_AUTO, VIRTIO_ID_BLOCK);
	uint16_t base;

	(void)state;
	assert_int_equal(shadow_device_switch(sim->device, true, &err), 0);
	returns_with_a_gap(sim);
	assert_int_equal(ring_stop_at(sim->front, 0, &base, &err), 0);
	assert_int_equal(shadow_device_switch(sim->device, false, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "queue 0: 1 requests wait"));
	assert_int_equal(sim_ring_start(sim, 0, base), 0);
	is(sim, UMBRA_DEVICE_SHADOWED);
	has(sim, 0, 2, (const uint64_t[]){ 1, 3 });
	completes_all(sim, 0);
	gets(sim, 0, 1);
	gets(sim, 0, 3);
	assert_int_equal(shadow_device_switch(sim->device, false, &err), 0);
	is(sim, UMBRA_DEVICE_PASSTHROUGH);
	sim_free(sim);
}

/* It dies as it is asked to stop a ring. */
static void a_ring_whose_stop_finds_it_dead_is_stopped_all_the_same(void **state)
{
	(void)state;
	for (unsigned int done = 0; done < 2; done++) {
		struct sim *sim = boot();
		uint16_t base;

		request(sim, 1, 1);
		sim_backend_take(sim, 1, 1);
		sim_backend_complete(sim, 1, 0);
		dies_at = calls + 1 + done;
		assert_int_equal(ring_stop_at(sim->front, 1, &base, &err), -ERESTART);
		is(sim, UMBRA_DEVICE_HELD);
		bury(sim);
		gets(sim, 1, 1);
		assert_int_equal(ring_stop_at(sim->front, 1, &base, &err), 0);
		assert_int_equal(base, 1);
		comes(sim);
		sim_free(sim);
	}
}

static void a_guest_that_resets_its_device_is_owed_nothing(void **state)
{
	struct sim *sim = boot();

	(void)state;
	request(sim, 0, 1);
	lose(sim);
	assert_int_equal(sim->front->ops->set_status(sim->front, 0, &err), 0);
	assert_int_equal(shadow_device_held(sim->device), 0);
	sim_driver_begin(sim, 0, V1 | EVENT);
	assert_int_equal(sim_ring_start(sim, 0, 0), 0);
	request(sim, 0, 7);
	assert_int_equal(shadow_device_return(sim->device, &sim->backend, &err), 0);
	has(sim, 0, 1, (const uint64_t[]){ 7 });
	sim_free(sim);
}

static void a_front_end_that_leaves_leaves_nothing(void **state)
{
	struct sim *sim = boot();

	(void)state;
	request(sim, 0, 1);
	lose(sim);
	sim->front->ops->detach(sim->front);
	shadow_device_await(sim->device, NULL);
	is(sim, UMBRA_DEVICE_WAITING);
	sim_free(sim);
}

/* --- what cannot be held
 * -------------------------------------------------------------------------- */

static void is_lost(struct sim *sim)
{
	const struct umbra_error why = { "simulated: closed" };

	assert_false(shadow_device_lose_backend(sim->device, &why));
	is(sim, UMBRA_DEVICE_BACKEND_LOST);
	sim_free(sim);
}

static void who_is_not_told_to_hold_or_cannot_loses_its_back_end(void **state)
{
	(void)state;
	is_lost(boot_with(UMBRA_SHADOW_ON, 0));
	is_lost(boot_with(UMBRA_SHADOW_AUTO, VIRTIO_ID_BLOCK)); /* passed through */
}

static void a_device_that_is_held_is_not_switched(void **state)
{
	struct sim *sim = boot_with(UMBRA_SHADOW_AUTO, VIRTIO_ID_BLOCK);

	(void)state;
	assert_int_equal(shadow_device_switch(sim->device, true, &err), 0);
	lose(sim);
	assert_int_equal(shadow_device_switch(sim->device, false, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "away"));
	comes(sim);
	assert_int_equal(shadow_device_switch(sim->device, false, &err), 0);
	is(sim, UMBRA_DEVICE_PASSTHROUGH);
	sim_free(sim);
}

/* The dying back-end writes nonsense: the ring breaks, and stays so; the other is held. */
static void a_ring_that_is_broken_stays_broken(void **state)
{
	struct sim *sim = boot();

	(void)state;
	request(sim, 0, 1);
	request(sim, 1, 2);
	lies(sim, 0);
	lose(sim);
	assert_true(lane_is_broken(lane_at(sim->device->lanes, 0)));
	assert_int_equal(shadow_device_return(sim->device, &sim->backend, &err), 0);
	is(sim, UMBRA_DEVICE_BROKEN);
	has(sim, 1, 1, (const uint64_t[]){ 2 });
	sim_free(sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			what_was_not_done_is_given_to_the_next_one_in_the_order_of_the_guest),
		cmocka_unit_test(a_guest_that_sleeps_is_called_when_queues_run_again),
		cmocka_unit_test(it_may_happen_again_and_again),
		cmocka_unit_test(a_return_has_held_when_all_that_was_given_again_is_done),
		cmocka_unit_test(what_the_driver_wrote_into_the_configuration_is_told),
		cmocka_unit_test(nothing_is_given_before_the_dead_is_dead),
		cmocka_unit_test(a_reset_does_not_kill_the_dead),
		cmocka_unit_test(what_it_has_of_a_broken_ring_counts),
		cmocka_unit_test(one_that_is_lost_with_what_it_was_given_must_be_dead_as_well),
		cmocka_unit_test(one_that_has_less_is_refused),
		cmocka_unit_test(one_that_has_fewer_than_are_used_is_refused),
		cmocka_unit_test(a_disk_that_has_grown_is_told),
		cmocka_unit_test(a_disk_that_had_grown_and_died_on_the_way_was_never_there),
		cmocka_unit_test(one_that_dies_on_the_way_is_as_if_it_had_never_come),
		cmocka_unit_test(what_was_learnt_is_answered),
		cmocka_unit_test(a_message_that_finds_it_dead_is_to_be_asked_again),
		cmocka_unit_test(rings_are_stopped_and_started_without_a_back_end),
		cmocka_unit_test(rings_are_disabled_and_enabled_without_a_back_end),
		cmocka_unit_test(
			a_ring_whose_back_end_did_not_take_what_it_was_given_again_is_stopped),
		cmocka_unit_test(what_waits_is_not_passed_through),
		cmocka_unit_test(a_ring_whose_stop_finds_it_dead_is_stopped_all_the_same),
		cmocka_unit_test(a_guest_that_resets_its_device_is_owed_nothing),
		cmocka_unit_test(a_front_end_that_leaves_leaves_nothing),
		cmocka_unit_test(who_is_not_told_to_hold_or_cannot_loses_its_back_end),
		cmocka_unit_test(a_device_that_is_held_is_not_switched),
		cmocka_unit_test(a_ring_that_is_broken_stays_broken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
