/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The contract of virtio/guest_ring.h for addresses that are sent again, kept by the balloon.
 * The shadow: shadow_moved.c.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "balloon_talk.h"

#define AWAY (5 * RING_BYTES) /* where no ring is */
#define SERVED 5u

static struct umbra_error err;

static struct rig *boot(void)
{
	struct rig *g = begin(BITMAP);

	for (uint64_t i = 0; i < SERVED; i++)
		send_run(g, INFLATE, FREE_PFN + 8 * i, 8);
	return g;
}

static struct virtio_ring_addr addr_at(uint64_t away)
{
	struct driver_layout layout = driver_ring_layout(RING_SIZE, 0, 0);
	uint64_t uva = LOW_GPA + INFLATE * RING_BYTES + UVA_OFFSET + away;

	return (struct virtio_ring_addr){ .desc = { uva + layout.ring.desc },
					  .avail = { uva + layout.ring.avail },
					  .used = { uva + layout.ring.used } };
}

static int say(struct rig *g, uint64_t away)
{
	const struct virtio_ring_addr addr = addr_at(away);

	return g->virtio->ops->ring_set_addr(g->virtio, INFLATE, &addr, &err);
}

/* The guest's memory has moved: the ring lies @away from where it was at first, and what lies
 * where it was just now is something else. */
static void move(struct rig *g, int64_t from, int64_t away)
{
	struct split_ring *s = &g->rings[INFLATE].split;
	uint8_t *old = rig_at(g, LOW_GPA + INFLATE * RING_BYTES + (uint64_t)from);
	uint8_t *new = rig_at(g, LOW_GPA + INFLATE * RING_BYTES + (uint64_t)away);

	memcpy(new, old, RING_BYTES);
	memset(old, 0xee, RING_BYTES);
	s->desc = (void *)((uint8_t *)s->desc + (new - old));
	s->avail = (void *)((uint8_t *)s->avail + (new - old));
	s->used = (void *)((uint8_t *)s->used + (new - old));
}

static void the_same_addresses_change_nothing(void **state)
{
	struct rig *g = boot();

	(void)state;
	g->fail_serves = 1; /* a host that is asked would refuse */
	g->ready[INFLATE] = false;
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(say(g, 0), 0);
	assert_int_equal(g->fail_serves, 1);
	assert_false(g->ready[INFLATE]);
	assert_int_not_equal(info_of(g).state, UMBRA_BALLOON_BROKEN);
	send_run(g, INFLATE, FREE_PFN + 512, 8);
	assert_int_equal(ballooned(g), 8 * (SERVED + 1));
	g->fail_serves = 0;
	rig_free(g);
}

static void a_ring_that_was_moved_goes_on_where_it_stood(void **state)
{
	struct rig *g = boot();
	uint16_t base;

	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		uint64_t from = i % 2 ? AWAY : 0, to = AWAY - from;

		move(g, (int64_t)from, (int64_t)to);
		assert_int_equal(say(g, to), 0);
		rig_run(g);
		send_run(g, INFLATE, FREE_PFN + 512 + 8 * i, 8);
		assert_int_equal(ballooned(g), 8 * (SERVED + i + 1));
		for (uint64_t n = 0; n < RING_BYTES; n++)
			assert_int_equal(*rig_at(g, LOW_GPA + from + n), 0xee);
	}
	rig_stop(g, INFLATE, &base);
	assert_int_equal(base, SERVED + 4);
	rig_free(g);
}

static void a_ring_that_is_not_in_memory_is_refused_and_goes_on(void **state)
{
	static const uint64_t away[] = { UINT64_C(1) << 40, -UVA_OFFSET, 8, UINT64_C(1) << 63 };
	struct rig *g = boot();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(away); i++) {
		assert_int_equal(say(g, away[i]), -EINVAL);
		assert_non_null(strstr(err.text, "queue 0"));
		send_run(g, INFLATE, FREE_PFN + 512 + 8 * i, 8);
		assert_int_equal(ballooned(g), 8 * (SERVED + i + 1));
	}
	rig_free(g);
}

static void a_ring_that_cannot_stand_there_is_broken_and_no_other(void **state)
{
	struct rig *g = boot();
	unsigned int configs = g->configs_changed;

	(void)state;
	memset(rig_at(g, LOW_GPA + AWAY), 0, RING_BYTES);
	assert_int_equal(say(g, AWAY), 0);
	assert_int_equal(info_of(g).state, UMBRA_BALLOON_BROKEN);
	assert_non_null(strstr(info_of(g).reason, "at index 5,"));
	assert_non_null(strstr(info_of(g).reason, "used 0 and available 0"));
	assert_int_equal(g->configs_changed, configs + 1);
	send_run(g, DEFLATE, FREE_PFN, 8);
	assert_int_equal(ballooned(g), 8 * (SERVED - 1));
	/* Where it can stand, it lives again. */
	assert_int_equal(say(g, 0), 0);
	assert_int_not_equal(info_of(g).state, UMBRA_BALLOON_BROKEN);
	rig_run(g);
	send_run(g, INFLATE, FREE_PFN + 512, 8);
	assert_int_equal(ballooned(g), 8 * SERVED);
	rig_free(g);
}

/* Nobody may look at it meanwhile: its driver may be gone. */
static void a_disabled_ring_is_moved_when_it_is_enabled(void **state)
{
	struct rig *g = boot();

	(void)state;
	assert_int_equal(g->virtio->ops->ring_enable(g->virtio, INFLATE, false, &err), 0);
	move(g, 0, AWAY);
	assert_int_equal(say(g, AWAY), 0);
	assert_null(g->services[INFLATE]);
	assert_int_equal(g->virtio->ops->ring_enable(g->virtio, INFLATE, true, &err), 0);
	rig_run(g);
	send_run(g, INFLATE, FREE_PFN + 512, 8);
	assert_int_equal(ballooned(g), 8 * (SERVED + 1));
	rig_free(g);
}

/* Else its front-end, asked to go on there, has everything done again, or is refused. */
static void a_ring_that_a_table_leaves_out_is_broken_where_it_stood(void **state)
{
	struct rig *g = boot();
	unsigned int configs = g->configs_changed;
	uint8_t status;
	uint16_t base;

	(void)state;
	rig_set_memory(g, false, true);
	assert_int_equal(info_of(g).state, UMBRA_BALLOON_BROKEN);
	/* Its words, and not once more of which queue. */
	assert_int_equal(strncmp(info_of(g).reason, "the descriptor ring at", 22), 0);
	assert_int_equal(g->virtio->ops->get_status(g->virtio, &status, &err), 0);
	assert_true(status & VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_true(g->configs_changed > configs);
	rig_stop(g, INFLATE, &base);
	assert_int_equal(base, SERVED);
	rig_set_memory(g, true, true);
	rig_start(g, INFLATE, RING_SIZE, base);
	assert_null(strstr(info_of(g).reason, "queue 0"));
	rig_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_same_addresses_change_nothing),
		cmocka_unit_test(a_ring_that_was_moved_goes_on_where_it_stood),
		cmocka_unit_test(a_ring_that_is_not_in_memory_is_refused_and_goes_on),
		cmocka_unit_test(a_ring_that_cannot_stand_there_is_broken_and_no_other),
		cmocka_unit_test(a_disabled_ring_is_moved_when_it_is_enabled),
		cmocka_unit_test(a_ring_that_a_table_leaves_out_is_broken_where_it_stood),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
