/* SPDX-License-Identifier: BSD-2-Clause */
/* A guest on each kind of vhost-vdpa device: see vdpa_device_rig.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <linux/virtio_config.h>
#include <string.h>

#include "vdpa_device_rig.h"

struct rig rig;

const struct kind kinds[KINDS] = {
	{ "suspends, resumes", A_FULL, true, true, true },
	{ "suspends, and that is all", A_PLAIN | A_SUSPEND, true, true, true },
	{ "is reset, and forgets", A_PLAIN, true, true, true },
	{ "is reset, and remembers", A_PLAIN | A_PERSIST, true, false, true },
	{ "starts at 0", A_PLAIN, false, true, false },
};

/* --- small things --------------------------------------------------------- */

void begin(const struct kind *kind, uint64_t second_gpa)
{
	rig_init(&rig);
	rig.sim.abilities = kind->abilities;
	rig.sim.has_index = kind->has_index;
	rig.sim.forgets_index = kind->forgets_index;
	rig_region_add(&rig, RIG_GPA);
	rig_region_add(&rig, second_gpa);
}

void begin_booted(const struct kind *kind)
{
	begin(kind, 4 * RIG_GPA);
	rig_attach(&rig);
	rig_boot(&rig, SIZE);
}

void says(const char *words)
{
	if (!strstr(rig.err.text, words))
		fail_msg("\"%s\" does not say \"%s\"", rig.err.text, words);
}

const struct umbra_shadow_picture *info(void)
{
	static struct umbra_shadow_picture info;

	shadow_device_info(rig.device, &info);
	rig.backend->ops->info(rig.backend, &info.backend);
	return &info;
}

void is_in(enum umbra_device_state state, const char *reason)
{
	const struct umbra_shadow_picture *i = info();

	if (i->info.state != state)
		fail_msg("the state is %s (%s); expected %s",
			 umbra_device_state_name(i->info.state), i->info.reason,
			 umbra_device_state_name(state));
	if (reason ? !strstr(i->info.reason, reason)
		   : i->info.reason[0] && strncmp(i->info.reason, "for ", 4) != 0)
		fail_msg("the reason is \"%s\"; expected \"%s\"", i->info.reason,
			 reason ? reason : "");
}

enum umbra_device_state mode_state(bool shadowed)
{
	return shadowed ? UMBRA_DEVICE_SHADOWED : UMBRA_DEVICE_PASSTHROUGH;
}

int switch_to(bool shadowed)
{
	return shadow_device_switch(rig.device, shadowed, &rig.err);
}

void served(unsigned int count)
{
	for (unsigned int i = 0; i < RIG_QUEUES; i++)
		rig_expect_served(&rig, i, count);
}

void is_busy(unsigned int count)
{
	rig.holds = true;
	for (unsigned int i = 0; i < RIG_QUEUES; i++)
		rig_ask(&rig, i, count);
	rig_run(&rig);
	for (unsigned int i = 0; i < RIG_QUEUES; i++) {
		assert_int_equal(rig.queues[i].held_count, count);
		assert_int_equal(rig_open_requests(&rig, i), count);
	}
}

void all_is_answered(void)
{
	rig.holds = false;
	rig_run(&rig);
	for (unsigned int i = 0; i < RIG_QUEUES; i++) {
		assert_int_equal(rig_open_requests(&rig, i), 0);
		assert_int_equal(rig.queues[i].lost, 0);
		assert_int_equal(shadow_device_counters(rig.device, i)->lost, 0);
	}
}

void is_mapped_as_told(unsigned int regions)
{
	const struct umbra_shadow_picture *i = info();
	uint64_t bytes = 0;

	for (unsigned int m = 0; m < rig.sim.map_count; m++)
		bytes += rig.sim.maps[m].size;
	assert_int_equal(i->info.memory_regions, regions);
	assert_int_equal(rig.sim.map_count, regions + 1);
	assert_int_equal(i->backend.mapped_ranges, regions + 1);
	assert_int_equal(i->backend.mapped_bytes, bytes);
	assert_true(bytes > i->info.memory_bytes);
}

void stop_all(void)
{
	for (unsigned int i = 0; i < RIG_QUEUES; i++) {
		uint16_t base = 0xdead;

		assert_int_equal(ring_stop_at(rig.front, i, &base, &rig.err), 0);
		assert_int_equal(base, (uint16_t)rig.queues[i].added);
	}
	is_in(UMBRA_DEVICE_NEGOTIATING, NULL);
	assert_false(rig.sim.status & VIRTIO_CONFIG_S_DRIVER_OK);
}

void lives_again(void)
{
	rig_attach(&rig);
	rig_boot(&rig, SIZE);
	served(SIZE + 3);
	all_is_answered();
	is_mapped_as_told(2);
}
