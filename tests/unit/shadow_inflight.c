/* SPDX-License-Identifier: BSD-2-Clause */
/* A device that dies, and the next one, which is brought what it kept for the front-end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_ids.h>
#include <string.h>

#include "base/shm.h"
#include "device/shadow_device_private.h"
#include "ring/split_look.h"
#include "sim.h"

#define SIZE 16u
#define REGION (BIT64(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD))

static const struct virtio_inflight shape = { 2, SIZE };
static const struct process_mark peer = { 4711, 1, { 2, 3 }, 4 };
static struct memory_region region; /* the front-end's, with a reference */
static struct umbra_error err;

static int get_inflight(struct sim *sim, const struct virtio_inflight *of)
{
	return sim->front->ops->get_inflight(sim->front, of, &region, &err);
}

static int set_inflight(struct sim *sim, const struct virtio_inflight *of)
{
	int rc;

	do
		rc = sim->front->ops->set_inflight(sim->front, of, &region, &err);
	while (rc == -ERESTART);
	return rc;
}

static int get_protocol_features(struct virtio_device *b, uint64_t *features,
				 struct umbra_error *why)
{
	(void)b;
	(void)why;
	*features = 0;
	return 0;
}

static int set_protocol_features(struct virtio_device *b, uint64_t features,
				 struct umbra_error *why)
{
	(void)b;
	(void)why;
	assert_int_equal(features, 0); /* the region is none of its business */
	return 0;
}

static void takes_the_feature(struct sim *sim)
{
	uint64_t features;

	sim->ops.get_protocol_features = get_protocol_features;
	sim->ops.set_protocol_features = set_protocol_features;
	assert_int_equal(sim->front->ops->get_features(sim->front, &features, &err), 0);
	assert_int_equal(sim->front->ops->get_protocol_features(sim->front, &features, &err), 0);
	assert_int_equal(features, REGION);
	assert_int_equal(sim->front->ops->set_protocol_features(sim->front, features, &err), 0);
}

static struct sim *boot(void)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_ON, SIZE, V1 | EVENT);

	sim->queue_num = 2;
	sim->host.backend_mark = peer;
	shadow_device_hold_for(sim->device, VIRTIO_ID_BLOCK, UMBRA_LOSS_BY_TYPE);
	takes_the_feature(sim);
	assert_int_equal(get_inflight(sim, &shape), 0);
	assert_int_equal(set_inflight(sim, &shape), 0);
	sim_boot(sim, 2, V1 | EVENT);
	sim_run(sim);
	assert_true(sim_info(sim)->info.survives_death);
	return sim;
}

static void end(struct sim *sim)
{
	sim_free(sim);
	memory_backing_unref(region.backing);
}

/* It is killed, and the next one is there; its front-end has said everything but the rings. */
static void dies(struct sim *sim)
{
	shadow_device_destroy(&sim->device);
	assert_int_equal(
		shadow_device_create(&sim->host.shadow, UMBRA_SHADOW_ON, 1000, &sim->device), 0);
	sim->front = shadow_device_virtio(sim->device);
	sim_bury(sim);
	shadow_device_hold_for(sim->device, VIRTIO_ID_BLOCK, UMBRA_LOSS_BY_TYPE);
	sim->front->ops->attach(sim->front, &sim->backend);
	takes_the_feature(sim);
}

static void negotiates(struct sim *sim)
{
	assert_int_equal(sim->front->ops->set_features(sim->front, V1 | EVENT, &err), 0);
	assert_int_equal(sim->front->ops->set_memory(sim->front, &sim->guest, 1, &err), 0);
}

/* A front-end that lost its back-end starts the ring where it was used. */
static void starts(struct sim *sim, unsigned int queue)
{
	uint16_t used = split_said(&sim->queues[queue].driver.split).used;

	assert_int_equal(sim_ring_start(sim, queue, used), 0);
	sim_run(sim);
}

static void comes_back(struct sim *sim)
{
	assert_int_equal(set_inflight(sim, &shape), 0);
	negotiates(sim);
	starts(sim, 0);
	starts(sim, 1);
}

static void is(const struct sim *sim, enum umbra_device_state state)
{
	assert_string_equal(umbra_device_state_name(shadow_device_state(sim->device)),
			    umbra_device_state_name(state));
}

static void request(struct sim *sim, unsigned int queue, uint64_t serial)
{
	assert_int_equal(sim_guest_add(sim, queue, 1, 1, serial), 1);
	sim_run(sim);
}

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

static struct region_queue *region_of(unsigned int queue)
{
	struct region_map map;

	region_map(&map, region.host, region.size, shape.queues, shape.size, false);
	return region_queue_at(&map, queue);
}

/* ---- the next one ------------------------------------------------------------------- */

static void what_was_in_flight_is_given_again_in_its_order_before_anything_new(void **state)
{
	struct sim *sim = boot();

	(void)state;
	for (uint64_t serial = 1; serial <= 5; serial++)
		request(sim, 0, serial);
	has(sim, 0, 5, (const uint64_t[]){ 1, 2, 3, 4, 5 });
	sim_backend_complete(sim, 0, 2); /* out of order */
	sim_run(sim);
	dies(sim);
	request(sim, 0, 6); /* while nobody is there */
	sim->host.is_ended = true;
	comes_back(sim);
	is(sim, UMBRA_DEVICE_SHADOWED);
	gets(sim, 0, 3);
	gets_nothing(sim, 0);
	has(sim, 0, 5, (const uint64_t[]){ 1, 2, 4, 5, 6 });
	completes_all(sim, 0);
	for (unsigned int i = 0; i < 4; i++)
		gets(sim, 0, (const uint64_t[]){ 1, 2, 4, 5 }[i]);
	gets(sim, 0, 6);
	gets_nothing(sim, 0);
	/* It was asked of the process that had them. */
	assert_true(process_mark_is_same(&sim->host.asked_for, &peer));
	end(sim);
}

static void the_next_one_can_die_too(void **state)
{
	struct sim *sim = boot();

	(void)state;
	sim->host.is_ended = true;
	for (uint64_t serial = 1; serial <= 3; serial++)
		request(sim, 0, serial);
	for (unsigned int times = 0; times < 5; times++) {
		has(sim, 0, 3 + (times > 0), (const uint64_t[]){ 1, 2, 3, 4 });
		if (!times)
			request(sim, 0, 4);
		dies(sim);
		comes_back(sim);
	}
	has(sim, 0, 4, (const uint64_t[]){ 1, 2, 3, 4 });
	completes_all(sim, 0);
	for (uint64_t serial = 1; serial <= 4; serial++)
		gets(sim, 0, serial);
	end(sim);
}

static void the_guest_is_called_whatever_is_found(void **state)
{
	struct sim *sim = boot();

	(void)state;
	dies(sim);
	comes_back(sim);
	assert_true(sim_notified(sim, sim->queues[0].call_fd));
	assert_true(sim_notified(sim, sim->queues[1].call_fd));
	end(sim);
}

static void a_back_end_that_lives_on_is_waited_for(void **state)
{
	struct sim *sim = boot();

	(void)state;
	request(sim, 0, 1);
	request(sim, 1, 2);
	request(sim, 1, 3);
	dies(sim);
	comes_back(sim);
	is(sim, UMBRA_DEVICE_HELD);
	assert_int_equal(shadow_device_unsettled(sim->device), 3);
	assert_int_equal(sim_info(sim)->info.held_requests, 3);
	/* It has ended, or somebody says that it writes no more. */
	shadow_device_backend_is_dead(sim->device);
	assert_int_equal(shadow_device_return(sim->device, &sim->backend, &err), 0);
	is(sim, UMBRA_DEVICE_SHADOWED);
	has(sim, 0, 1, (const uint64_t[]){ 1 });
	has(sim, 1, 2, (const uint64_t[]){ 2, 3 });
	completes_all(sim, 1);
	gets(sim, 1, 2);
	gets(sim, 1, 3);
	end(sim);
}

static void with_nothing_in_flight_nobody_is_waited_for(void **state)
{
	struct sim *sim = boot();

	(void)state;
	sim_serve(sim, 0, 1);
	dies(sim);
	comes_back(sim);
	is(sim, UMBRA_DEVICE_SHADOWED);
	sim_serve(sim, 0, 2);
	end(sim);
}

static void what_a_guest_has_forgotten_is_not_found(void **state)
{
	struct sim *sim = boot();

	(void)state;
	request(sim, 0, 1);
	has(sim, 0, 1, (const uint64_t[]){ 1 });
	assert_int_equal(region_count(region_of(0), SIZE), 1);
	assert_int_equal(sim->front->ops->reset(sim->front, &err), 0);
	assert_int_equal(region_count(region_of(0), SIZE), 0);
	dies(sim);
	assert_int_equal(set_inflight(sim, &shape), 0);
	sim_boot(sim, 2, V1 | EVENT);
	sim_run(sim);
	is(sim, UMBRA_DEVICE_SHADOWED);
	has(sim, 0, 0, NULL);
	sim_serve(sim, 0, 2);
	end(sim);
}

/* ---- what is brought --------------------------------------------------------------------- */

static void a_region_that_lies_breaks_its_ring_alone(void **state)
{
	struct sim *sim = boot();

	(void)state;
	request(sim, 0, 1);
	request(sim, 1, 2);
	dies(sim);
	sim->host.is_ended = true;
	region_of(0)->desc[3].inflight = 77;
	comes_back(sim);
	assert_int_equal(sim->host.queues_broken, 1);
	assert_non_null(strstr(sim->host.broken_reason, "head 3 has the mark 77"));
	has(sim, 1, 1, (const uint64_t[]){ 2 });
	end(sim);
}

static void a_region_that_is_none_is_refused(void **state)
{
	const struct virtio_inflight more = { 200, 1024 }, none = { 0, SIZE }, flat = { 1, 0 };
	struct sim *sim = boot();

	(void)state;
	dies(sim);
	assert_int_equal(set_inflight(sim, &more), -EINVAL);
	assert_non_null(strstr(err.text, "for 200 queues of 1024 entries; expected at least"));
	assert_int_equal(set_inflight(sim, &none), -EINVAL);
	assert_int_equal(set_inflight(sim, &flat), -EINVAL);
	comes_back(sim);
	assert_int_equal(set_inflight(sim, &shape), -EBUSY);
	end(sim);
}

static void a_region_of_zeros_is_new(void **state)
{
	struct sim *sim = boot();

	(void)state;
	dies(sim);
	memset(region.host, 0, region.size);
	comes_back(sim);
	is(sim, UMBRA_DEVICE_SHADOWED);
	sim_serve(sim, 0, 1);
	assert_int_equal(shm_load16(&region_of(0)->version), REGION_VERSION);
	end(sim);
}

static void a_ring_that_does_not_fit_is_served_and_does_not_survive(void **state)
{
	const struct virtio_inflight small = { 2, SIZE / 2 };
	struct sim *sim = boot();

	(void)state;
	dies(sim);
	memset(region.host, 0, region.size);
	assert_int_equal(set_inflight(sim, &small), 0);
	negotiates(sim);
	starts(sim, 0);
	sim_serve(sim, 0, 1);
	assert_false(sim_info(sim)->info.survives_death);
	assert_non_null(strstr(sim_info(sim)->info.death_reason, "queue 0 does not fit"));
	end(sim);
}

static void it_is_offered_where_it_can_be_kept(void **state)
{
	const struct {
		enum umbra_shadow_mode mode;
		uint32_t type;
		const char *why;
	} cases[] = { { UMBRA_SHADOW_ON, 0, "--device-type" },
		      { UMBRA_SHADOW_AUTO, VIRTIO_ID_BLOCK, "--shadow=on" } };

	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		struct sim *sim = sim_new(cases[i].mode, SIZE, V1);
		uint64_t features;

		sim->ops.get_protocol_features = get_protocol_features;
		shadow_device_hold_for(sim->device, cases[i].type, UMBRA_LOSS_BY_TYPE);
		assert_int_equal(
			sim->front->ops->get_protocol_features(sim->front, &features, &err), 0);
		assert_int_equal(features, 0);
		assert_int_equal(get_inflight(sim, &shape), -EOPNOTSUPP);
		assert_non_null(strstr(sim_info(sim)->info.death_reason, cases[i].why));
		assert_false(sim_info(sim)->info.survives_death);
		sim_free(sim);
	}
}

int main(void)
{
#define T(name) cmocka_unit_test(name)
	const struct CMUnitTest tests[] = {
		T(what_was_in_flight_is_given_again_in_its_order_before_anything_new),
		T(the_next_one_can_die_too),
		T(the_guest_is_called_whatever_is_found),
		T(a_back_end_that_lives_on_is_waited_for),
		T(with_nothing_in_flight_nobody_is_waited_for),
		T(what_a_guest_has_forgotten_is_not_found),
		T(a_region_that_lies_breaks_its_ring_alone),
		T(a_region_that_is_none_is_refused),
		T(a_region_of_zeros_is_new),
		T(a_ring_that_does_not_fit_is_served_and_does_not_survive),
		T(it_is_offered_where_it_can_be_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
