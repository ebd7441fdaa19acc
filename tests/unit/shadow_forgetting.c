/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a back-end was told and has forgotten it is told again, before a ring runs.
 *
 * The product of what the shadow does not say twice and of what makes a back-end forget
 * (docs/architecture.md, "What is said once"), for a vhost-user back-end that forgets as
 * much as the specification lets it.  vDPA devices: vdpa_device.c; the balloon, which is the
 * one that forgets: balloon_device.c.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "base/error.h"
#include "sim.h"

#define FEATURES (V1 | EVENT)
#define DRIVER_OK 0xfu

/* --- what happens to the back-end ------------------------------------------- */

static void is_reset(struct sim *sim)
{
	struct umbra_error err;

	assert_int_equal(sim->front->ops->reset(sim->front, &err), 0);
}

/* It says that it did not, and did. */
static void refuses_a_reset(struct sim *sim)
{
	struct umbra_error err;

	sim->fail_reset_code = -EREMOTEIO;
	assert_int_equal(sim->front->ops->reset(sim->front, &err), -EREMOTEIO);
	sim->fail_reset_code = 0;
}

static void gets_status_0(struct sim *sim)
{
	struct umbra_error err;

	assert_int_equal(sim->front->ops->set_status(sim->front, 0, &err), 0);
}

static void gets_status_0_after_driver_ok(struct sim *sim)
{
	struct umbra_error err;

	assert_int_equal(sim->front->ops->set_status(sim->front, DRIVER_OK, &err), 0);
	gets_status_0(sim);
}

static void is_reset_twice(struct sim *sim)
{
	is_reset(sim);
	gets_status_0(sim);
}

static void gets_other_features(struct sim *sim)
{
	struct umbra_error err;

	assert_int_equal(sim->front->ops->set_features(sim->front, V1, &err), 0);
	assert_int_equal(sim->accepted, V1);
}

static void gets_its_rings_stopped(struct sim *sim)
{
	struct umbra_error err;
	uint16_t base;

	for (unsigned int i = 0; i < 2; i++)
		assert_int_equal(ring_stop_at(sim->front, i, &base, &err), 0);
}

static void gets_a_new_table(struct sim *sim)
{
	struct umbra_error err;

	memory_unref(&sim->backend_memory);
	assert_int_equal(sim->front->ops->set_memory(sim->front, &sim->guest, 1, &err), 0);
}

/* Another one, in place of the one that is lost. */
static void is_another(struct sim *sim)
{
	struct umbra_error err;
	uint64_t offered;

	sim->front->ops->detach(sim->front);
	memory_unref(&sim->backend_memory);
	sim->accepted = 0;
	for (unsigned int i = 0; i < SIM_QUEUES; i++)
		sim->queues[i].started = false;
	shadow_device_await(sim->device, NULL);
	sim->front->ops->attach(sim->front, &sim->backend);
	assert_int_equal(sim->front->ops->get_features(sim->front, &offered, &err), 0);
	assert_int_equal(sim->front->ops->set_features(sim->front, FEATURES, &err), 0);
	assert_int_equal(sim->front->ops->set_memory(sim->front, &sim->guest, 1, &err), 0);
}

static const struct event {
	const char *name;
	void (*happens)(struct sim *sim);
	bool guest_is_reset; /* its driver begins anew, and must be heard of anew */
} events[] = {
	{ "RESET_DEVICE", is_reset, true },
	{ "RESET_DEVICE, refused", refuses_a_reset, true },
	{ "SET_STATUS 0", gets_status_0, false },
	{ "SET_STATUS DRIVER_OK, 0", gets_status_0_after_driver_ok, false },
	{ "RESET_DEVICE, SET_STATUS 0", is_reset_twice, true },
	{ "SET_FEATURES of less", gets_other_features, true },
	{ "GET_VRING_BASE", gets_its_rings_stopped, false },
	{ "SET_MEM_TABLE", gets_a_new_table, false },
	{ "another connection", is_another, false },
};

/* --- what it must have been told --------------------------------------------- */

static void features_are_there(const struct sim *sim, bool shadowed)
{
	(void)shadowed;
	assert_int_equal(sim->accepted & ~BIT64(VIRTIO_F_ACCESS_PLATFORM), FEATURES);
}

/* The guest's, and our own. */
static void memory_is_there(const struct sim *sim, bool shadowed)
{
	(void)shadowed;
	assert_non_null(sim->backend_memory);
	assert_int_equal(sim->backend_memory->count, 2);
}

static void rings_are_there(const struct sim *sim, bool shadowed)
{
	struct split_offsets o = split_offsets(sim->size);

	for (unsigned int i = 0; i < 2; i++) {
		const struct sim_queue *q = &sim->queues[i];
		uint64_t desc = SIM_UVA + i * SIM_SLOT + o.desc;

		assert_true(q->started && q->enabled && q->told.enabled);
		assert_int_equal(q->told.size, sim->size);
		assert_int_equal(q->told.addr.desc.v == desc, !shadowed);
		assert_true(q->told.addr.avail.v && q->told.addr.used.v);
		assert_int_equal(q->told.kick_fd == q->kick_fd, !shadowed);
		assert_int_equal(q->told.call_fd == q->call_fd, !shadowed);
		assert_true(sim_notified(sim, q->told.kick_fd) > 0);
	}
}

static void (*const facts[])(const struct sim *sim, bool shadowed) = {
	features_are_there,
	memory_is_there,
	rings_are_there,
};

/* --- the product -------------------------------------------------------------- */

static void rings_begin(struct sim *sim)
{
	for (unsigned int i = 0; i < 2; i++)
		assert_int_equal(sim_ring_start(sim, i, 0), 0);
}

static void is_told_all(const struct event *event, bool shadowed, bool says_features)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 8, FEATURES);
	struct umbra_error err = { "" };

	print_message("%s, %s, the front-end %s\n", event->name,
		      shadowed ? "shadowed" : "passed through",
		      says_features ? "says its features again" : "goes on");
	sim_boot(sim, 2, FEATURES);
	assert_int_equal(shadow_device_switch(sim->device, shadowed, &err), 0);
	for (int times = 0; times < 2; times++) {
		event->happens(sim);
		if (says_features)
			assert_int_equal(sim->front->ops->set_features(sim->front, FEATURES, &err),
					 0);
		rings_begin(sim);
		for (size_t i = 0; i < ARRAY_SIZE(facts); i++)
			facts[i](sim, shadowed);
	}
	sim_free(sim);
}

static void whatever_the_backend_forgets_it_is_told_again(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(events); i++)
		for (int shadowed = 0; shadowed < 2; shadowed++) {
			is_told_all(&events[i], shadowed, true);
			/* A machine that was merely stopped says of its rings alone. */
			if (!events[i].guest_is_reset)
				is_told_all(&events[i], shadowed, false);
		}
}

static void what_the_backend_still_knows_it_is_not_told_again(void **state)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 8, FEATURES);
	struct umbra_error err = { "" };

	(void)state;
	sim_boot(sim, 2, FEATURES);
	sim->accepted = 0; /* to see whether it is said */
	assert_int_equal(sim->front->ops->set_features(sim->front, FEATURES, &err), 0);
	assert_int_equal(sim->accepted, 0);
	assert_int_equal(sim->queues[0].starts, 1);
	sim_free(sim);
}

static void after_a_reset_no_ring_starts_before_its_features(void **state)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 8, FEATURES);
	struct umbra_error err = { "" };
	int fd;

	(void)state;
	sim_boot(sim, 1, FEATURES);
	assert_int_equal(sim->front->ops->reset(sim->front, &err), 0);
	fd = sim->host.next_fd++;
	assert_int_equal(sim->front->ops->ring_set_kick(sim->front, 0, &fd, &err), -EINVAL);
	assert_non_null(strstr(err.text, "before SET_FEATURES"));
	assert_false(sim->queues[0].started);
	sim_free(sim);
}

static void a_reset_ring_begins_at_0_and_disabled(void **state)
{
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 8, FEATURES | BIT64(30));
	struct umbra_error err = { "" };
	uint16_t base;
	int fd;

	(void)state;
	sim_boot(sim, 1, FEATURES | BIT64(30));
	assert_int_equal(ring_stop_at(sim->front, 0, &base, &err), 0);
	assert_int_equal(ring_set_base_at(sim->front, 0, 3, &err), 0);
	assert_int_equal(sim->front->ops->reset(sim->front, &err), 0);
	assert_int_equal(sim->front->ops->set_features(sim->front, FEATURES | BIT64(30), &err), 0);
	fd = sim->host.next_fd++;
	assert_int_equal(sim->front->ops->ring_set_kick(sim->front, 0, &fd, &err), 0);
	assert_int_equal(sim->queues[0].told.base.avail, 0);
	assert_false(sim->queues[0].told.enabled);
	sim_free(sim);
}

/* --- and what does not count as started any more ------------------------------ */

static void gets_another_size(struct sim *sim)
{
	struct umbra_error err;

	assert_int_equal(sim->front->ops->ring_set_size(sim->front, 0, 4, &err), 0);
}

static void gets_a_base(struct sim *sim)
{
	struct umbra_error err;

	assert_int_equal(ring_set_base_at(sim->front, 0, 0, &err), 0);
}

static void a_device_is_started_until_its_last_ring_is_stopped_in_whatever_words(void **state)
{
	void (*const words[])(struct sim *) = { is_reset, gets_status_0, gets_another_size,
						gets_a_base, gets_other_features };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, 8, FEATURES);

		assert_false(sim->front->ops->is_started(sim->front));
		sim_boot(sim, 1, FEATURES);
		assert_true(sim->front->ops->is_started(sim->front));
		words[i](sim);
		assert_false(sim->front->ops->is_started(sim->front));
		sim_free(sim);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whatever_the_backend_forgets_it_is_told_again),
		cmocka_unit_test(what_the_backend_still_knows_it_is_not_told_again),
		cmocka_unit_test(after_a_reset_no_ring_starts_before_its_features),
		cmocka_unit_test(a_reset_ring_begins_at_0_and_disabled),
		cmocka_unit_test(
			a_device_is_started_until_its_last_ring_is_stopped_in_whatever_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
