/* SPDX-License-Identifier: BSD-2-Clause */
/* Switching a device between its modes under a load, each at random, loses, repeats and
 * drops nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "random.h"
#include "sim.h"

/* --- everything at random ------------------------------------------------------ */

#define SERIALS 4096u /* per queue in one run */

/* Back-ends as they are found. */
struct family {
	const char *name;
	enum hush_way hush;
	unsigned int traits; /* of a device that is started as a whole */
	bool tells_base;
	uint64_t iova_offset;
	bool can_pass;
	unsigned int rounds;
};

static const struct family families[] = {
	{ .name = "completes before it stops (DPDK)", .can_pass = true, .rounds = 2 },
	{ .name = "hushed by its kick fd (libvhost-user)",
	  .hush = HUSH_BY_KICK,
	  .can_pass = true,
	  .rounds = 4 },
	{ .name = "hushed by being disabled (rust-vmm)",
	  .hush = HUSH_BY_ENABLE,
	  .can_pass = true,
	  .rounds = 4 },
	{ .name = "suspends, keeps index (vdpa_sim)",
	  .hush = HUSH_BY_KICK,
	  .traits = SUSPENDING,
	  .can_pass = true,
	  .rounds = 2 },
	{ .name = "keeps index (VDUSE)",
	  .hush = HUSH_BY_KICK,
	  .traits = RESETTING,
	  .tells_base = true,
	  .can_pass = true,
	  .rounds = 2 },
	{ .name = "neither (vp_vdpa)", .hush = HUSH_BY_KICK, .traits = FORGETFUL, .rounds = 1 },
	{ .name = "suspends, keeps no index",
	  .hush = HUSH_BY_KICK,
	  .traits = BACKEND_MAPS | BACKEND_SUSPENDS,
	  .rounds = 1 },
	{ .name = "keeps index, translated",
	  .hush = HUSH_BY_KICK,
	  .traits = RESETTING,
	  .tells_base = true,
	  .iova_offset = 1ull << 40,
	  .rounds = 1 },
};

struct load {
	struct sim *sim;
	const struct family *family;
	unsigned int queues;
	uint64_t given[SIM_QUEUES], got[SIM_QUEUES], oldest[SIM_QUEUES];
	uint8_t taken[SIM_QUEUES][SERIALS], returned[SIM_QUEUES][SERIALS];
	bool asks[SIM_QUEUES][SERIALS];
	uint32_t writable[SIM_QUEUES][SERIALS];
	bool down[SIM_QUEUES], extra;
	uint16_t base[SIM_QUEUES];
	unsigned int switches, refused, stops, faults;
};

static struct load *current;

/* A request is taken once.  Room that a device was reset with comes again. */
static void backend_turn(struct load *l, unsigned int q, unsigned int max)
{
	struct sim_queue *sq = &l->sim->queues[q];
	unsigned int before = sq->held_count;

	sim_backend_take(l->sim, q, max);
	for (unsigned int i = before; i < sq->held_count; i++) {
		uint64_t serial = sq->held[i].serial;

		assert_true(serial < l->given[q]);
		assert_false(l->returned[q][serial]);
		l->taken[q][serial]++;
		if (l->asks[q][serial])
			assert_int_equal(l->taken[q][serial], 1);
		for (unsigned int j = 0; j < i; j++)
			assert_true(sq->held[j].serial != serial);
	}
}

static void complete_any(struct load *l, unsigned int q)
{
	unsigned int held = l->sim->queues[q].held_count;

	if (held)
		sim_backend_complete(l->sim, q, below(held));
}

static void guest_turn(struct load *l, unsigned int q)
{
	uint64_t serial;
	uint32_t len;

	if (!sim_guest_get(l->sim, q, &serial, &len))
		return;
	assert_true(serial < l->given[q]);
	assert_int_equal(++l->returned[q][serial], 1);
	assert_true(l->taken[q][serial] >= 1);
	assert_int_equal(len, l->writable[q][serial]);
	l->got[q]++;
	while (l->oldest[q] < l->given[q] && l->returned[q][l->oldest[q]])
		l->oldest[q]++;
}

static void guest_give(struct load *l, unsigned int q)
{
	uint64_t serial = l->given[q];
	unsigned int size = l->sim->size, out = 1, in = 0;

	if (serial == SERIALS || serial - l->oldest[q] >= 256)
		return;      /* its place in memory may be in use */
	if (below(3) == 0) { /* a receive buffer */
		out = 0;
		in = 1 + below(size < 6 ? size : 6);
	} else if (size > 1) {
		in = below(size < 6 ? size - 1 : 6);
		out += below(size - in < 3 ? size - in : 3);
	}
	l->asks[q][serial] = out > 0;
	l->writable[q][serial] = in * 64 - (out ? 0 : (uint32_t)(serial % 8));
	l->given[q]++; /* the back-end may see it before add() returns */
	if (!sim_guest_add(l->sim, q, out, in, serial))
		l->given[q]--;
}

/* While a switch waits, the guest goes on and the back-end completes. */
static void world_goes_on(struct sim *sim)
{
	struct load *l = current;
	unsigned int q = below(l->queues);

	assert_ptr_equal(l->sim, sim);
	if (below(2))
		guest_give(l, q);
	/* One that is not hushed goes on taking, but uses more than it takes. */
	if ((sim->runs || !sim->backend.traits) && below(2))
		backend_turn(l, q, 1 + below(8));
	for (unsigned int n = 6; n; n--)
		complete_any(l, below(l->queues));
	guest_turn(l, q);
}

static void takes_all(struct sim *sim, unsigned int q)
{
	assert_ptr_equal(current->sim, sim);
	backend_turn(current, q, 1000);
}

static void ring_down_or_up(struct load *l, unsigned int q)
{
	struct umbra_error err = { "" };

	if (l->down[q]) {
		assert_int_equal(sim_ring_start(l->sim, q, l->base[q]), 0);
		/* The guest that was stopped looks at its rings when it goes on. */
		l->sim->queues[q].guest_awake = true;
	} else {
		assert_int_equal(ring_stop_at(l->sim->front, q, &l->base[q], &err), 0);
		l->stops++;
	}
	l->down[q] = !l->down[q];
}

static void table_change(struct load *l)
{
	struct memory_region extra = l->sim->guest;
	struct umbra_error err = { "" };

	extra.gpa.v = SIM_GPA + SIM_QUEUES * SIM_SLOT;
	extra.uva.v = SIM_UVA + SIM_QUEUES * SIM_SLOT;
	extra.size = 4096;
	if (l->extra)
		assert_int_equal(l->sim->front->ops->remove_region(l->sim->front, &extra, &err), 0);
	else
		assert_int_equal(l->sim->front->ops->add_region(l->sim->front, &extra, &err), 0);
	l->extra = !l->extra;
}

/* One step of the switch fails, or none. */
static void fault_choose(struct load *l)
{
	struct sim *sim = l->sim;

	sim->fail_start = sim->fail_stop = sim->fail_device_start = sim->fail_device_stop = 0;
	sim->fail_start_code = sim->fail_device_start_code = sim->fail_device_stop_code =
		sim->fail_stop_code = -EREMOTEIO;
	if (!sim->backend.traits)
		return;
	switch (below(8)) {
	case 0:
		sim->fail_start = 1 + (int)below(3);
		break;
	case 1:
		sim->fail_device_start = 1 + (int)below(2);
		break;
	case 2:
		sim->fail_device_stop = 1;
		break;
	}
}

static void try_switch(struct load *l)
{
	const struct umbra_shadow_picture *info;
	struct sim *sim = l->sim;
	bool shadowed;
	int rc;

	shadowed = !sim_info(sim)->info.shadow_wanted;
	fault_choose(l);
	rc = sim_switch(sim, shadowed, NULL);
	info = sim_info(sim);
	if (!l->family->can_pass) {
		assert_int_equal(rc, info->info.shadow_wanted ? -EOPNOTSUPP : 0);
	} else if (!sim->backend.traits) {
		assert_int_equal(rc, 0);
	} else if (rc == -EREMOTEIO) {
		l->faults++;
	} else if (rc == -ETIME || rc == -EOPNOTSUPP) {
		/* It kept requests; or it had used room out of order. */
		assert_false(sim->backend.traits & BACKEND_SUSPENDS);
		l->refused++;
	} else {
		assert_int_equal(rc, 0);
	}
	if (!rc)
		l->switches++;
	fault_choose(l);
	sim->fail_start = sim->fail_device_start = sim->fail_device_stop = 0;
}

static void random_step(struct load *l, unsigned int q)
{
	switch (below(12)) {
	case 0 ... 3:
		guest_give(l, q);
		break;
	case 4 ... 5:
		backend_turn(l, q, 1 + below(4));
		break;
	case 6 ... 7:
		complete_any(l, q);
		break;
	case 8:
		sim_run(l->sim);
		break;
	case 9 ... 10:
		guest_turn(l, q);
		break;
	case 11:
		if (below(4) == 0)
			try_switch(l);
		else if (below(8) == 0)
			ring_down_or_up(l, q);
		else if (below(8) == 0)
			table_change(l);
		else
			sim_pause(l->sim);
		break;
	}
}

static void run_load(const struct family *family, uint16_t size, uint64_t features, uint64_t seed,
		     unsigned int *switches, unsigned int *stops)
{
	struct load *l = calloc(1, sizeof(*l));
	struct sim *sim = sim_new(UMBRA_SHADOW_AUTO, size, features);
	bool done = false;

	assert_non_null(l);
	l->sim = sim;
	l->family = family;
	l->queues = 2;
	random_begin(seed);
	current = l;
	sim_hush_by(sim, family->hush);
	if (family->traits)
		sim_run_as_one(sim, family->traits);
	sim->tells_base = family->tells_base;
	sim->iova_offset = family->iova_offset;
	sim->while_waiting = world_goes_on;
	sim->before_answer = takes_all;
	sim_boot(sim, l->queues, features);
	while (!done) {
		random_step(l, below(l->queues));
		done = true;
		for (unsigned int q = 0; q < l->queues; q++)
			done &= l->given[q] == SERIALS;
	}
	for (unsigned int q = 0; q < l->queues; q++)
		if (l->down[q])
			ring_down_or_up(l, q);
	/* No more from the guest: what is under way must arrive by notifications
	 * alone. */
	for (unsigned int i = 0; i < 20 * 256; i++)
		for (unsigned int q = 0; q < l->queues; q++) {
			sim_pause(sim);
			sim_run(sim);
			backend_turn(l, q, 8);
			complete_any(l, q);
			guest_turn(l, q);
		}
	for (unsigned int q = 0; q < l->queues; q++)
		assert_int_equal(l->got[q], SERIALS);
	assert_int_equal(sim->requests_lost, 0);
	print_message("  switches %u, refused %u, faults %u, stops %u\n", l->switches, l->refused,
		      l->faults, l->stops);
	*switches += l->switches;
	*stops += l->stops;
	sim_free(sim);
	free(l);
}

static void random_switching_loses_repeats_and_drops_nothing(void **state)
{
	static const uint16_t sizes[] = { 1, 2, 4, 256 };
	static const uint64_t features[] = { V1, V1 | EVENT, V1 | INDIRECT, V1 | INDIRECT | EVENT };
	uint64_t seed = random_seed();

	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(families); k++) {
		unsigned int runs = families[k].rounds * (unsigned int)ARRAY_SIZE(sizes);
		unsigned int switches[ARRAY_SIZE(features)] = { 0 }, stops[4] = { 0 };

		for (unsigned int n = 0; n < runs * 4; n++) {
			uint16_t size = sizes[n / 4 % 4];
			uint64_t f = features[n % 4];

			print_message("%s, size %u, features 0x%llx, UMBRA_SEED=%llu\n",
				      families[k].name, size, (unsigned long long)f,
				      (unsigned long long)seed);
			run_load(&families[k], size, f, seed, &switches[n % 4], &stops[n % 4]);
			seed = random_seed_after(seed);
		}
		/* One that is left alone with ghosts early switches seldom, all of them do not. */
		for (unsigned int i = 0; i < ARRAY_SIZE(features); i++) {
			assert_true(switches[i] > 10 * runs || !families[k].can_pass);
			assert_true(stops[i] > 3 * runs || !families[k].traits);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_switching_loses_repeats_and_drops_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
