/* SPDX-License-Identifier: BSD-2-Clause */
/* The vhost-vdpa back-end on a simulated kernel: where memory is mapped for the device. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "host/mapping.h"
#include "random.h"
#include "vhost_vdpa_rig.h"

/* --- memory --------------------------------------------------------------- */

static void a_change_of_the_table_maps_only_the_difference(void **state)
{
	struct umbra_backend_info info;

	(void)state;
	region_add(0x100000, MIB);
	region_add(0x400000, 2 * MIB);
	backend_ready();
	region_add(0x800000, MIB);
	assert_int_equal(b->ops->set_memory(b, regions, 3, &err), 0);
	assert_string_equal(sim.log, "{ MAP(0x800000,0x100000) }");
	sim.log[0] = '\0';
	assert_int_equal(b->ops->set_memory(b, regions, 3, &err), 0);
	assert_string_equal(sim.log, ""); /* nothing new */
	assert_int_equal(b->ops->set_memory(b, regions + 1, 2, &err), 0);
	assert_string_equal(sim.log, "{ UNMAP(0x100000,0x100000) }");
	sim.log[0] = '\0';
	assert_int_equal(b->ops->remove_region(b, &regions[2], &err), 0);
	assert_int_equal(b->ops->remove_region(b, &regions[2], &err), -EINVAL);
	says("gpa 0x800000 of 0x100000 bytes is not mapped");
	assert_int_equal(b->ops->add_region(b, &regions[0], &err), 0);
	assert_string_equal(sim.log, "{ UNMAP(0x800000,0x100000) } { MAP(0x100000,0x100000) }");
	b->ops->info(b, &info);
	assert_int_equal(info.mapped_ranges, 2);
	assert_int_equal(info.mapped_bytes, 3 * MIB);
	assert_true(vdpa_sim_is_mapped(&sim, 0x100000, MIB, regions[0].host));
	assert_true(vdpa_sim_is_mapped(&sim, 0x400000, 2 * MIB, regions[1].host));
}

static void what_is_in_the_way_goes_first_and_the_rest_last(void **state)
{
	struct memory_region wanted[2];

	(void)state;
	region_add(0x100000, MIB);
	region_add(0x400000, MIB);
	region_add(0x800000, MIB);
	backend_ready();
	wanted[0] = regions[0];
	wanted[1] = *region_add(0x380000, MIB); /* over the second; the third just goes */
	assert_int_equal(b->ops->set_memory(b, wanted, 2, &err), 0);
	assert_string_equal(sim.log, "{ UNMAP(0x400000,0x100000) MAP(0x380000,0x100000) "
				     "UNMAP(0x800000,0x100000) }");
	/* The same place in another mapping of ours is another memory for it. */
	sim.log[0] = '\0';
	wanted[1] = *region_add(0x380000, MIB);
	assert_int_equal(b->ops->set_memory(b, wanted, 2, &err), 0);
	assert_string_equal(sim.log, "{ UNMAP(0x380000,0x100000) MAP(0x380000,0x100000) }");
	assert_true(vdpa_sim_is_mapped(&sim, 0x380000, MIB, wanted[1].host));
}

static void a_kernel_without_batches_gets_none(void **state)
{
	(void)state;
	sim.abilities = A_FULL & ~A_BATCH;
	region_add(0x100000, MIB);
	region_add(0x400000, MIB);
	backend_ready();
	assert_int_equal(sim.map_count, 2);
	assert_int_equal(sim.batches, 0);
	assert_int_equal(b->ops->set_memory(b, regions, 1, &err), 0);
	assert_string_equal(sim.log, "UNMAP(0x400000,0x100000)");
}

static void two_regions_on_one_file_offset_are_two(void **state)
{
	int fd = memfd_create("test", MFD_CLOEXEC), copy;

	(void)state;
	assert_int_equal(ftruncate(fd, MIB), 0);
	for (unsigned int i = 0; i < 2; i++) {
		const struct mapping_request request = {
			.gpa = { 0x100000 + i * 0x400000 },
			.uva = { UVA + i * 0x400000 },
			.size = MIB,
		};

		copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		assert_int_equal(mapping_create(&copy, &request, &regions[region_count], &err), 0);
		regions[region_count].iova.v = request.gpa.v;
		region_count++;
	}
	close(fd);
	backend_ready();
	assert_true(vdpa_sim_is_mapped(&sim, 0x100000, MIB, regions[0].host));
	assert_true(vdpa_sim_is_mapped(&sim, 0x500000, MIB, regions[1].host));
	assert_int_equal(b->ops->remove_region(b, &regions[0], &err), 0);
	assert_string_equal(sim.log, "{ UNMAP(0x100000,0x100000) }");
	assert_true(vdpa_sim_is_mapped(&sim, 0x500000, MIB, regions[1].host));
	/* A ring in the one is not looked for in the other. */
	assert_int_equal(ring_note(0, 0, true), -EINVAL);
	regions[0].uva = regions[1].uva;
	assert_int_equal(ring_note(0, 0, true), 0);
	assert_int_equal(b->ops->device_start(b, &err), 0);
	assert_int_equal(sim.rings[0].desc, 0x500000);
}

static void the_tenth_mapping_that_fails_leaves_the_old_table(void **state)
{
	struct memory_region wanted[12];

	(void)state;
	region_add(0x100000, MIB);
	region_add(0x400000, MIB);
	backend_ready();
	/* The second goes and is in the way; ten more come. */
	wanted[0] = regions[0];
	wanted[1] = *region_add(0x480000, MIB);
	for (unsigned int i = 2; i < 12; i++)
		wanted[i] = *region_add(0x1000000 + i * 0x200000, MIB);
	sim.updates = 0;
	sim.fail_map = 10;
	assert_int_equal(b->ops->set_memory(b, wanted, 12, &err), -EREMOTEIO);
	says("memory region at gpa 0x2400000 of 0x100000 bytes cannot be mapped for the device at "
	     "0x2400000");
	says("max_iotlb_entries");
	assert_int_equal(sim.map_count, 2);
	assert_false(sim.in_batch);
	assert_true(vdpa_sim_is_mapped(&sim, 0x100000, MIB, regions[0].host));
	assert_true(vdpa_sim_is_mapped(&sim, 0x400000, MIB, regions[1].host));
	check_map_count();
	/* It works on, and the same table again works, too. */
	assert_int_equal(ring_note(0, 5, true), 0);
	assert_int_equal(b->ops->device_start(b, &err), 0);
	assert_int_equal(b->ops->set_memory(b, wanted, 12, &err), 0);
	assert_int_equal(sim.map_count, 12);
	check_map_count();
}

static void a_limit_of_pinned_memory_is_named(void **state)
{
	(void)state;
	sim.pin_limit = 65536;
	backend_make();
	region_add(0x100000, MIB);
	sim.fail_map = 1;
	assert_int_equal(b->ops->set_memory(b, regions, 1, &err), -EREMOTEIO);
	says("RLIMIT_MEMLOCK is 65536 of 1048576 bytes");
	assert_int_equal(sim.map_count, 0);
}

static void a_table_that_cannot_be_restored_ends_the_connection(void **state)
{
	struct memory_region wanted[2];

	(void)state;
	region_add(0x100000, MIB);
	region_add(0x400000, MIB);
	backend_ready();
	wanted[0] = regions[0];
	wanted[1] = *region_add(0x480000, MIB);
	sim.updates = 0;
	sim.fail_map = 1;
	sim.fail_map_on = true;
	assert_int_equal(b->ops->set_memory(b, wanted, 2, &err), -ECONNRESET);
	says("the device's memory table is lost");
	check_lost("the device's memory table is lost");
}

static void what_cannot_be_mapped_is_refused_by_name(void **state)
{
	struct memory_region r;
	uint64_t offset;

	(void)state;
	sim.first = 0x10000;
	sim.last = (1ull << 30) - 1;
	backend_make();
	r = *region_add(0x100000, MIB);
	r.iova.v = 0x8000;
	assert_int_equal(b->ops->add_region(b, &r, &err), -EINVAL);
	says("at 0x8000 is outside the device's range 0x10000 to 0x3fffffff");
	r.iova.v = (1ull << 30) - MIB + 0x1000;
	assert_int_equal(b->ops->add_region(b, &r, &err), -EINVAL);
	r.iova.v = (1ull << 30) - MIB; /* just so */
	assert_int_equal(b->ops->add_region(b, &r, &err), 0);
	for (offset = 1; offset < 0x1000; offset <<= 1) {
		r = regions[0];
		r.iova.v += offset;
		assert_int_equal(b->ops->add_region(b, &r, &err), -EINVAL);
		says("whole pages of 4096 bytes");
		r = regions[0];
		r.size -= offset;
		assert_int_equal(b->ops->add_region(b, &r, &err), -EINVAL);
	}
	r = regions[0];
	r.backing = NULL;
	assert_int_equal(b->ops->add_region(b, &r, &err), -EINVAL);
	says("gpa 0x100000 of 0x100000 bytes is no shared memory file");
	r = regions[0];
	r.backing->cut = true;
	assert_int_equal(b->ops->add_region(b, &r, &err), -EINVAL);
	r.backing->cut = false;
	assert_int_equal(b->ops->add_region(b, &r, &err), 0);
	r.gpa.v += 0x1000;
	r.iova.v += 0x1000;
	assert_int_equal(b->ops->add_region(b, &r, &err), -EINVAL);
	says("overlap in the device's addresses");
	assert_int_equal(sim.map_count, 2);
}

static void what_a_reset_may_unmap_is_mapped_again(void **state)
{
	(void)state;
	sim.abilities = A_FULL & ~A_PERSIST;
	region_add(0x100000, MIB);
	region_add(0x400000, MIB);
	backend_runs();
	assert_int_equal(b->ops->device_stop(b, &err), 0);
	ring_stopped_at(0);
	ring_stopped_at(1);
	assert_false(sim.maps_in_device);
	assert_int_equal(ring_note(0, 5, true), 0);
	sim.log[0] = '\0';
	/* The simulated kernel would notice a start without. */
	assert_int_equal(b->ops->device_start(b, &err), 0);
	assert_non_null(strstr(sim.log,
			       "{ UNMAP(0x100000,0x100000) UNMAP(0x400000,0x100000) "
			       "MAP(0x100000,0x100000) MAP(0x400000,0x100000) } SET_CONFIG_CALL"));
	assert_int_equal(sim.map_count, 2);
}

static void what_outlasts_a_reset_is_left_alone(void **state)
{
	(void)state;
	backend_runs();
	assert_int_equal(b->ops->device_stop(b, &err), 0);
	ring_stopped_at(0);
	ring_stopped_at(1);
	assert_int_equal(ring_note(0, 5, true), 0);
	assert_int_equal(b->ops->device_start(b, &err), 0);
	assert_null(strstr(sim.log, "MAP"));
}

static struct memory *table_make(unsigned int first, unsigned int count)
{
	struct memory *m;

	assert_int_equal(memory_create(regions + first, count, &m, &err), 0);
	return m;
}

static void memory_is_where_the_guest_sees_it_if_it_can_be(void **state)
{
	struct memory_region own = { 0 }, *o;
	struct memory *m;

	(void)state;
	sim.last = (1ull << 39) - 1;
	region_add(0, MIB);
	region_add(1ull << 32, MIB);
	o = region_add(1ull << 46, 4 * MIB); /* ours: above what this device can address */
	backend_make();
	m = table_make(0, 2);
	assert_int_equal(b->ops->place_memory(b, m, &own, &err), 0); /* none of ours */
	assert_false(m->translated);
	assert_int_equal(b->ops->place_memory(b, m, o, &err), 0);
	assert_false(m->translated);
	assert_int_equal(m->regions[0].iova.v, 0);
	assert_int_equal(m->regions[1].iova.v, 1ull << 32);
	assert_int_equal(o->iova.v, (1ull << 39) - 4 * MIB); /* as high as it can be */
	memory_unref(&m);
}

static void memory_that_does_not_fit_is_translated_and_stays_where_it_is(void **state)
{
	struct umbra_backend_info info;
	struct memory_region *o, table[4];
	uint64_t places[3];
	struct memory *m;

	(void)state;
	sim.first = 0x1000;
	sim.last = (1ull << 32) - 1;
	region_add(0, MIB); /* below the range */
	region_add(1ull << 32, 2 * MIB);
	o = region_add(1ull << 46, 4 * MIB);
	backend_make();
	m = table_make(0, 2);
	assert_int_equal(b->ops->place_memory(b, m, o, &err), 0);
	assert_true(m->translated);
	places[0] = m->regions[0].iova.v;
	places[1] = m->regions[1].iova.v;
	places[2] = o->iova.v;
	assert_int_equal(places[0], MIB); /* aligned to its size, and not 0 */
	assert_int_equal(places[1], 2 * MIB);
	table[0] = m->regions[0];
	table[1] = m->regions[1];
	table[2] = *o;
	assert_int_equal(b->ops->set_memory(b, table, 3, &err), 0);
	b->ops->info(b, &info);
	assert_true(info.translated);
	memory_unref(&m);
	/* One more, and the first goes: the others stay, and nothing new is where
	 * the first was. */
	regions[0] = (memory_backing_unref(regions[0].backing), (struct memory_region){ 0 });
	region_count--;
	memmove(regions, regions + 1, region_count * sizeof(*regions));
	o = &regions[1];
	region_add(1ull << 33, MIB);
	{
		struct memory_region wanted[2] = { regions[0], regions[2] };

		assert_int_equal(memory_create(wanted, 2, &m, &err), 0);
	}
	o->iova.v = 0;
	assert_int_equal(b->ops->place_memory(b, m, o, &err), 0);
	assert_int_equal(m->regions[0].iova.v, places[1]);
	assert_int_equal(m->regions[1].iova.v, 4 * MIB);
	assert_int_equal(o->iova.v, places[2]);
	memory_unref(&m);
}

static void memory_that_could_go_home_stays_where_the_device_knows_it(void **state)
{
	struct memory_region own = { 0 };
	struct memory *m;

	(void)state;
	sim.last = (1ull << 32) - 1;
	region_add(0x800000, MIB);
	region_add(1ull << 32, MIB);
	backend_make();
	m = table_make(0, 2);
	assert_int_equal(b->ops->place_memory(b, m, &own, &err), 0);
	assert_int_equal(m->regions[0].iova.v, MIB);
	assert_int_equal(b->ops->set_memory(b, m->regions, 2, &err), 0);
	memory_unref(&m);
	m = table_make(0, 1); /* without the one that did not fit */
	assert_int_equal(b->ops->place_memory(b, m, &own, &err), 0);
	assert_int_equal(m->regions[0].iova.v, MIB);
	assert_true(m->translated);
	memory_unref(&m);
}

static void memory_that_has_no_place_is_refused_by_name(void **state)
{
	struct memory_region own = { 0 };
	struct memory *m;

	(void)state;
	sim.last = 4 * MIB - 1;
	region_add(1ull << 32, 2 * MIB);
	region_add(1ull << 33, 2 * MIB);
	backend_make();
	m = table_make(0, 2);
	assert_int_equal(b->ops->place_memory(b, m, &own, &err), -ENOSPC);
	says("gpa 0x200000000 of 0x200000 bytes has no place in the device's range 0x0 to 0x3fffff");
	memory_unref(&m);
	own = *region_add(1ull << 46, 4 * MIB);
	m = table_make(0, 1);
	assert_int_equal(b->ops->place_memory(b, m, &own, &err), -ENOSPC);
	says("the shadow's own memory of 0x400000 bytes has no place");
	memory_unref(&m);
	/* Where there is no more room, what leaves makes some. */
	m = table_make(0, 1);
	own.size = 0;
	assert_int_equal(b->ops->place_memory(b, m, &own, &err), 0);
	assert_int_equal(b->ops->set_memory(b, m->regions, 1, &err), 0);
	memory_unref(&m);
	m = table_make(1, 1);
	assert_int_equal(b->ops->place_memory(b, m, &own, &err), 0);
	assert_int_equal(b->ops->set_memory(b, m->regions, 1, &err), 0);
	assert_int_equal(sim.map_count, 1);
	memory_unref(&m);
}

/* Tables at random, mappings that fail at random: what is mapped is always the
 * last table that was accepted. */
static void tables_at_random_are_what_is_mapped(void **state)
{
	struct memory_region have[8], wanted[8];
	unsigned int have_count = 0, refused = 0;

	(void)state;
	for (unsigned int i = 0; i < 16; i++)
		region_add(0x100000 + (i / 2) * 0x200000, MIB + (i % 2) * MIB);
	random_begin_anew();
	backend_make();
	for (unsigned int round = 0; round < 2000; round++) {
		unsigned int count = 0;
		int rc;

		for (unsigned int i = 0; i < 8; i++) /* of each pair, one or none */
			if (below(3))
				wanted[count++] = regions[2 * i + below(2)];
		sim.updates = 0;
		sim.fail_map = below(6);
		rc = b->ops->set_memory(b, wanted, count, &err);
		if (!rc) {
			memcpy(have, wanted, sizeof(have));
			have_count = count;
		} else {
			assert_int_equal(rc, -EREMOTEIO);
			refused++;
		}
		assert_int_equal(sim.map_count, have_count);
		for (unsigned int i = 0; i < have_count; i++)
			assert_true(vdpa_sim_is_mapped(&sim, have[i].iova.v, have[i].size,
						       have[i].host));
		check_map_count();
	}
	assert_true(refused > 100 && refused < 1900);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_change_of_the_table_maps_only_the_difference),
		TEST(what_is_in_the_way_goes_first_and_the_rest_last),
		TEST(a_kernel_without_batches_gets_none),
		TEST(two_regions_on_one_file_offset_are_two),
		TEST(the_tenth_mapping_that_fails_leaves_the_old_table),
		TEST(a_limit_of_pinned_memory_is_named),
		TEST(a_table_that_cannot_be_restored_ends_the_connection),
		TEST(what_cannot_be_mapped_is_refused_by_name),
		TEST(what_a_reset_may_unmap_is_mapped_again),
		TEST(what_outlasts_a_reset_is_left_alone),
		TEST(memory_is_where_the_guest_sees_it_if_it_can_be),
		TEST(memory_that_does_not_fit_is_translated_and_stays_where_it_is),
		TEST(memory_that_could_go_home_stays_where_the_device_knows_it),
		TEST(memory_that_has_no_place_is_refused_by_name),
		TEST(tables_at_random_are_what_is_mapped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
