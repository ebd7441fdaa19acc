/* SPDX-License-Identifier: BSD-2-Clause */
/* What the public rings promise beyond the inner ones: to judge an embedder's
 * configuration, and to own what they need. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_ring.h>

#include "umbra/shadow_queue.h"

static struct umbra_error err;

static void sizes_that_are_none_are_refused_by_name(void **state)
{
	static const uint32_t sizes[] = { 0, 3, 65536, 65537, UINT32_MAX };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct umbra_driver_ring_config driver = { UMBRA_SIZED(umbra_driver_ring_config),
							   .size = sizes[i] };
		struct umbra_device_ring_config device = { UMBRA_SIZED(umbra_device_ring_config),
							   .parts = { .size = sizes[i] } };
		struct umbra_driver_ring *r = NULL;
		struct umbra_device_ring *d = NULL;

		assert_int_equal(umbra_driver_ring_create(&driver, &r, &err), -EINVAL);
		assert_non_null(strstr(err.text, "size"));
		assert_null(r);
		assert_int_equal(umbra_device_ring_create(&device, &d, &err), -EINVAL);
		assert_non_null(strstr(err.text, "size"));
		assert_null(d);
		assert_int_equal(umbra_driver_ring_shared_bytes(sizes[i], 0, 0), 0);
	}
}

static void a_table_longer_than_the_ring_passes_from_role_to_role_where_both_allow_it(void **state)
{
	const uint64_t features = UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC;
	static uint8_t data[16];
	struct umbra_driver_ring_config driver = { UMBRA_SIZED(umbra_driver_ring_config), .size = 4,
						   .features = features, .table_max = 100 };
	struct umbra_device_ring_config device = { UMBRA_SIZED(umbra_device_ring_config),
						   .features = features };
	struct umbra_driver_ring *r = NULL;
	struct umbra_device_ring *d = NULL;
	struct umbra_segment segments[101];
	struct umbra_chain chain;

	(void)state;
	for (unsigned int i = 0; i < 101; i++)
		segments[i] = (struct umbra_segment){ .address = (uintptr_t)data, .length = 1 };
	assert_true(umbra_driver_ring_shared_bytes(4, features, 100) >
		    umbra_driver_ring_shared_bytes(4, features, 0));
	assert_int_equal(umbra_driver_ring_shared_bytes(4, features, 32769), 0);
	assert_int_equal(umbra_driver_ring_create(&driver, &r, &err), 0);
	assert_int_equal(umbra_driver_ring_add(r, segments, 101, 0), -EMSGSIZE);
	assert_int_equal(umbra_driver_ring_add(r, segments, 100, 7), 1);
	umbra_driver_ring_publish(r);
	umbra_driver_ring_parts(r, &device.parts);
	for (unsigned int strict = 0; strict < 2; strict++) {
		device.table_max = strict ? 99 : 100;
		assert_int_equal(umbra_device_ring_create(&device, &d, &err), 0);
		assert_int_equal(umbra_device_ring_take(d, &chain), strict ? -EPROTO : 1);
		umbra_device_ring_error(d, &err);
		if (strict)
			assert_non_null(strstr(err.text, "100 descriptors, expected 99 at most"));
		else
			assert_int_equal(chain.count, 100);
		umbra_device_ring_destroy(&d);
	}
	umbra_driver_ring_destroy(&r);
	driver.table_max = device.table_max = 32769;
	assert_int_equal(umbra_driver_ring_create(&driver, &r, &err), -EINVAL);
	assert_non_null(strstr(err.text, "table_max 32769"));
	assert_int_equal(umbra_device_ring_create(&device, &d, &err), -EINVAL);
	assert_non_null(strstr(err.text, "table_max 32769"));
}

static void parts_without_alignment_are_refused_by_name(void **state)
{
	static _Alignas(64) uint8_t memory[4096];
	const struct umbra_ring_parts good = { memory, memory + 1024, memory + 2048, 16 };
	struct umbra_device_ring_config config = { UMBRA_SIZED(umbra_device_ring_config),
						   .parts = good };
	struct umbra_driver_ring_config driver = { UMBRA_SIZED(umbra_driver_ring_config),
						   .size = 16, .shared = memory + 16 };
	struct umbra_driver_ring *r = NULL;
	struct umbra_device_ring *d = NULL;

	(void)state;
	config.parts.desc = memory + 8;
	assert_int_equal(umbra_device_ring_create(&config, &d, &err), -EINVAL);
	assert_non_null(strstr(err.text, "desc"));
	config.parts = good;
	config.parts.avail = memory + 1025;
	assert_int_equal(umbra_device_ring_create(&config, &d, &err), -EINVAL);
	assert_non_null(strstr(err.text, "avail"));
	config.parts = good;
	config.parts.used = memory + 2050;
	assert_int_equal(umbra_device_ring_create(&config, &d, &err), -EINVAL);
	assert_non_null(strstr(err.text, "used"));
	config.parts = good;
	config.last_avail = 17;
	assert_int_equal(umbra_device_ring_create(&config, &d, &err), -EINVAL);
	assert_int_equal(umbra_driver_ring_create(&driver, &r, &err), -EINVAL);
	assert_non_null(strstr(err.text, "shared"));
	config.last_avail = 16;
	assert_int_equal(umbra_device_ring_create(&config, &d, &err), 0);
	umbra_device_ring_destroy(&d);
	assert_null(d);
	umbra_device_ring_destroy(&d);
}

/* A driver ring and its device inside one program, tables and all. */
static void a_ring_brings_its_own_memory(void **state)
{
	const uint64_t features = 1ull << VIRTIO_RING_F_INDIRECT_DESC;
	struct umbra_segment segments[3] = { { 1, 2, false }, { 3, 4, true }, { 5, 6, true } };
	struct umbra_device_ring_config config = { UMBRA_SIZED(umbra_device_ring_config),
						   .features = features };
	struct umbra_driver_ring *r;
	struct umbra_device_ring *d;
	struct umbra_chain chain;
	struct umbra_done done;

	(void)state;
	assert_int_equal(
		umbra_driver_ring_create(
			&(struct umbra_driver_ring_config){ UMBRA_SIZED(umbra_driver_ring_config),
							    .size = 4, .features = features },
			&r, &err),
		0);
	umbra_driver_ring_parts(r, &config.parts);
	assert_int_equal(umbra_device_ring_create(&config, &d, &err), 0);
	assert_int_equal(umbra_driver_ring_add(r, segments, 5, 0), -EMSGSIZE);
	assert_int_equal(umbra_driver_ring_add(r, segments, 3, 99), 1);
	assert_int_equal(umbra_device_ring_take(d, &chain), 0);
	umbra_driver_ring_publish(r);
	assert_true(umbra_driver_ring_must_kick(r));
	assert_int_equal(umbra_device_ring_take(d, &chain), 1);
	assert_int_equal(chain.count, 3);
	assert_int_equal(chain.readable, 1);
	assert_int_equal(chain.writable_bytes, 10);
	assert_int_equal(chain.segments[2].address, 5);
	assert_true(chain.segments[2].writable && !chain.segments[0].writable);
	assert_int_equal(umbra_device_ring_untake(d, 2), -EINVAL);
	assert_int_equal(umbra_device_ring_untake(d, 1), 0);
	assert_int_equal(umbra_device_ring_complete(d, chain.head, 7), -EINVAL);
	assert_int_equal(umbra_device_ring_take(d, &chain), 1);
	assert_int_equal(umbra_device_ring_outstanding(d), 1);
	assert_int_equal(umbra_device_ring_complete(d, chain.head, 11), 0);
	umbra_device_ring_publish(d);
	assert_int_equal(umbra_driver_ring_get(r, &done), 1);
	assert_int_equal(done.token, 99);
	assert_int_equal(done.length, 10);
	assert_true(done.clamped);
	umbra_device_ring_destroy(&d);
	umbra_driver_ring_destroy(&r);
}

static void a_broken_ring_says_why(void **state)
{
	struct umbra_device_ring_config config = { UMBRA_SIZED(umbra_device_ring_config),
						   .parts = { .size = 0 } };
	struct umbra_driver_ring *r;
	struct umbra_device_ring *d;
	struct umbra_chain chain;

	(void)state;
	assert_int_equal(umbra_driver_ring_create(
				 &(struct umbra_driver_ring_config){
					 UMBRA_SIZED(umbra_driver_ring_config), .size = 4 },
				 &r, &err),
			 0);
	umbra_driver_ring_parts(r, &config.parts);
	assert_int_equal(umbra_device_ring_create(&config, &d, &err), 0);
	umbra_device_ring_error(d, &err);
	assert_string_equal(err.text, "");
	((uint16_t *)config.parts.avail)[1] = 0x5555; /* the index, either endianness */
	assert_int_equal(umbra_device_ring_take(d, &chain), -EPROTO);
	umbra_device_ring_error(d, &err);
	assert_non_null(strstr(err.text, "21845"));
	umbra_device_ring_destroy(&d);
	umbra_driver_ring_destroy(&r);
}

/* Rings hold the memory: destroying it first takes nothing from them. */
static void a_memory_may_go_before_its_rings(void **state)
{
	static uint8_t ram[256];
	struct umbra_memory_region region = { .guest_address = 0x1000,
					      .size = sizeof(ram),
					      .host = ram };
	struct umbra_segment inside = { 0x1000, 256, true }, outside = { 0x1000, 257, true };
	struct umbra_device_ring_config config = { UMBRA_SIZED(umbra_device_ring_config),
						   .last_avail = 0 };
	struct umbra_memory *memory;
	struct umbra_driver_ring *r;
	struct umbra_device_ring *d;
	struct umbra_chain chain;

	(void)state;
	assert_int_equal(umbra_memory_create(&region, 1, &memory, &err), 0);
	assert_ptr_equal(umbra_memory_host(memory, 0x10ff, 1), ram + 255);
	assert_null(umbra_memory_host(memory, 0x10ff, 2));
	assert_int_equal(umbra_driver_ring_create(
				 &(struct umbra_driver_ring_config){
					 UMBRA_SIZED(umbra_driver_ring_config), .size = 4 },
				 &r, &err),
			 0);
	umbra_driver_ring_parts(r, &config.parts);
	config.memory = memory;
	assert_int_equal(umbra_device_ring_create(&config, &d, &err), 0);
	umbra_memory_destroy(&memory);
	assert_null(memory);
	assert_int_equal(umbra_driver_ring_add(r, &inside, 1, 0), 1);
	assert_int_equal(umbra_driver_ring_add(r, &outside, 1, 0), 1);
	umbra_driver_ring_publish(r);
	assert_int_equal(umbra_device_ring_take(d, &chain), 1);
	assert_int_equal(umbra_device_ring_take(d, &chain), -EPROTO);
	umbra_device_ring_destroy(&d);
	umbra_driver_ring_destroy(&r);
}

static void a_memory_that_cannot_be_is_refused(void **state)
{
	struct umbra_memory_region regions[2] = { { 0x1000, 0x1000, &err }, { 0x1fff, 1, &err } };
	struct umbra_memory *memory = NULL;

	(void)state;
	assert_int_equal(umbra_memory_create(regions, 2, &memory, &err), -EINVAL);
	assert_int_equal(umbra_memory_create(regions, UMBRA_MEMORY_REGIONS_MAX + 1, &memory, &err),
			 -EINVAL);
	assert_null(memory);
}

/* A violation behind the shadow: the sentence reaches the embedder. */
static void a_broken_shadow_queue_says_why(void **state)
{
	struct umbra_device_ring_config front = { UMBRA_SIZED(umbra_device_ring_config) };
	const struct umbra_driver_ring_config back = { UMBRA_SIZED(umbra_driver_ring_config),
						       .size = 2 };
	const struct umbra_shadow_queue_config config = { UMBRA_SIZED(umbra_shadow_queue_config),
							  .front = &front, .back = &back };
	struct umbra_segment segments[3] = { { 1, 1, false }, { 2, 1, false }, { 3, 1, false } };
	struct umbra_shadow_queue *q = NULL;
	struct umbra_driver_ring *r;
	unsigned int owed;

	(void)state;
	assert_int_equal(umbra_shadow_queue_create(&config, &q, &err), -EINVAL);
	assert_non_null(strstr(err.text, "front"));
	assert_int_equal(umbra_driver_ring_create(
				 &(struct umbra_driver_ring_config){
					 UMBRA_SIZED(umbra_driver_ring_config), .size = 4 },
				 &r, &err),
			 0);
	umbra_driver_ring_parts(r, &front.parts);
	assert_int_equal(umbra_shadow_queue_create(&config, &q, &err), 0);
	assert_int_equal(umbra_shadow_queue_run(q, &owed), 0);
	umbra_shadow_queue_error(q, &err);
	assert_string_equal(err.text, "");
	assert_int_equal(umbra_driver_ring_add(r, segments, 3, 0), 1);
	umbra_driver_ring_publish(r);
	assert_int_equal(umbra_shadow_queue_run(q, &owed), -EPROTO);
	umbra_shadow_queue_error(q, &err);
	assert_true(strlen(err.text) > 20);
	umbra_shadow_queue_destroy(&q);
	umbra_driver_ring_destroy(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_that_are_none_are_refused_by_name),
		cmocka_unit_test(
			a_table_longer_than_the_ring_passes_from_role_to_role_where_both_allow_it),
		cmocka_unit_test(parts_without_alignment_are_refused_by_name),
		cmocka_unit_test(a_ring_brings_its_own_memory),
		cmocka_unit_test(a_broken_ring_says_why),
		cmocka_unit_test(a_memory_may_go_before_its_rings),
		cmocka_unit_test(a_memory_that_cannot_be_is_refused),
		cmocka_unit_test(a_broken_shadow_queue_says_why),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
