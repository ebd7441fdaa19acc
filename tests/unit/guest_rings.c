/* SPDX-License-Identifier: BSD-2-Clause */
/* What becomes of a ring that a device of ours serves: each state, and each thing that may be
 * said of it there. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include <linux/virtio_config.h>

#include "base/bits.h"
#include "virtio/feature_bits.h"
#include "virtio/guest_rings.h"

#define GPA UINT64_C(0x40000000)
#define UVA UINT64_C(0x7f0000000000)
#define BYTES 0x10000u
#define AWAY 0x4000u /* where the same ring lies once more */
#define SIZE 8u
#define STANDS 3u /* where the ring does: so many were made available, and used */
#define FEATURES (BIT64(VIRTIO_F_VERSION_1) | BIT64(VHOST_USER_F_PROTOCOL_FEATURES))

static _Alignas(4096) uint8_t ram[BYTES];
static struct guest_rings device;
static struct served_ring ring;
static struct umbra_error err;
static bool in_service;
static unsigned int refusals; /* the next so many times it does not serve */
static unsigned int configs, errors_told;

/* --- the host, and the kind -------------------------------------------------------------- */

static int serve_begin(struct device_host *host, struct queue_service *service,
		       struct umbra_error *why)
{
	(void)host;
	assert_false(in_service);
	assert_ptr_equal(service->queue, &ring);
	if (refusals) {
		refusals--;
		snprintf(why->text, sizeof(why->text), "simulated: not served");
		return -ENOSPC;
	}
	in_service = true;
	return 0;
}

static void serve_end(struct device_host *host, struct queue_service *service)
{
	(void)host;
	(void)service;
	assert_true(in_service);
	in_service = false;
}

static void notify(struct device_host *host, int fd)
{
	(void)host;
	assert_int_equal(fd, ring.front.err_fd);
	errors_told++;
}

static void config_changed(struct device_host *host)
{
	(void)host;
	configs++;
}

static const struct device_host_ops host_ops = {
	.notify = notify,
	.serve_begin = serve_begin,
	.serve_end = serve_end,
	.config_changed = config_changed,
};

static struct device_host host = { &host_ops };

static struct served_ring *ring_at(struct guest_rings *g, unsigned int index)
{
	assert_ptr_equal(g, &device);
	assert_int_equal(index, 0);
	return &ring;
}

static int pass(void *queue, unsigned int *actions)
{
	(void)queue;
	(void)actions;
	fail(); /* nobody serves it here */
	return 0;
}

static const struct guest_rings_kind kind = {
	.name = "a test's device",
	.count = 1,
	.ring = ring_at,
	.pass = pass,
};

/* --- what can be said ------------------------------------------------------------------------ */

#define SAY(op, ...) device.virtio.ops->op(&device.virtio, __VA_ARGS__)

static struct virtio_ring_addr addr_at(uint64_t at)
{
	struct split_offsets o = split_offsets(SIZE);

	return (struct virtio_ring_addr){ .desc = { UVA + at + o.desc },
					  .avail = { UVA + at + o.avail },
					  .used = { UVA + at + o.used } };
}

static int say_memory(uint64_t bytes)
{
	const struct memory_region region = {
		.gpa = { GPA }, .uva = { UVA + BYTES - bytes }, .size = bytes, .host = ram
	};

	return SAY(set_memory, &region, 1, &err);
}

static int say_addr(uint64_t at)
{
	const struct virtio_ring_addr addr = addr_at(at);

	return SAY(ring_set_addr, 0, &addr, &err);
}

static int say_fd(int (*op)(struct virtio_device *self, unsigned int index, int *fd,
			    struct umbra_error *why))
{
	int fd = eventfd(0, EFD_CLOEXEC), given = fd;
	int rc = op(&device.virtio, 0, &fd, &err);

	/* Consumed when it was taken, and only then. */
	assert_int_equal(fd, rc ? given : -1);
	if (rc)
		close(fd);
	return rc;
}

static int same_size(void)
{
	return SAY(ring_set_size, 0, SIZE, &err);
}

static int other_size(void)
{
	return SAY(ring_set_size, 0, SIZE / 2, &err);
}

static int no_size(void)
{
	return SAY(ring_set_size, 0, 3, &err);
}

static int same_addr(void)
{
	return say_addr(0);
}

static int other_addr(void)
{
	return say_addr(AWAY);
}

static int any_base(void)
{
	return SAY(ring_set_base, 0, (struct ring_position){ RING_SPLIT, STANDS, STANDS }, &err);
}

static int kick(void)
{
	return say_fd(device.virtio.ops->ring_set_kick);
}

static int call(void)
{
	return say_fd(device.virtio.ops->ring_set_call);
}

static int err_fd(void)
{
	return say_fd(device.virtio.ops->ring_set_err);
}

static int enable(void)
{
	return SAY(ring_enable, 0, true, &err);
}

static int disable(void)
{
	return SAY(ring_enable, 0, false, &err);
}

static int stop(void)
{
	struct ring_position base;
	int rc = SAY(ring_stop, 0, &base, &err);

	assert_int_equal(base.avail, STANDS);
	assert_int_equal(ring.front.kick_fd, -1);
	assert_int_equal(ring.front.call_fd, -1);
	return rc;
}

static int same_memory(void)
{
	return say_memory(BYTES);
}

static int memory_without_it(void)
{
	return say_memory(4096);
}

static int same_features(void)
{
	return SAY(set_features, FEATURES, &err);
}

static int other_features(void)
{
	return SAY(set_features, BIT64(VIRTIO_F_VERSION_1), &err);
}

static int foreign_features(void)
{
	return SAY(set_features, FEATURES | BIT64(3), &err);
}

static int status_of_0(void)
{
	return SAY(set_status, 0, &err);
}

static int reset(void)
{
	return device.virtio.ops->reset(&device.virtio, &err);
}

static int leave(void)
{
	device.virtio.ops->detach(&device.virtio);
	return 0;
}

static int fail_queue(void)
{
	ring.service.broken = in_service;
	device.virtio.ops->check_queues(&device.virtio);
	return 0;
}

static int kick_that_is_refused(unsigned int times)
{
	int before = ring.front.kick_fd;

	if (!in_service)
		return 0;
	refusals = times;
	assert_int_equal(say_fd(device.virtio.ops->ring_set_kick), -ENOSPC);
	assert_int_equal(ring.front.kick_fd, before);
	assert_int_equal(refusals, 0);
	return 0;
}

static int other_kick_is_refused(void)
{
	return kick_that_is_refused(1);
}

static int both_kicks_are_refused(void)
{
	return kick_that_is_refused(2);
}

/* --- the table ---------------------------------------------------------------------------------
 */

#define STATES 4
#define S SERVED_STOPPED
#define P SERVED_PAUSED
#define R SERVED_RUNNING
#define B SERVED_BROKEN

static const struct {
	const char *name;
	int (*say)(void);
	int refused; /* what it says, where the state stays */
	enum served_state next[STATES];
} rows[] = {
	{ "the same size", same_size, 0, { S, P, R, B } },
	{ "another size", other_size, 0, { S, S, S, S } },
	{ "no size", no_size, -EINVAL, { S, P, R, B } },
	{ "the same addresses", same_addr, 0, { S, P, R, B } },
	{ "other addresses", other_addr, 0, { S, P, R, R } },
	{ "a base", any_base, 0, { S, S, S, S } },
	{ "a kick", kick, 0, { P, P, R, B } },
	{ "a call", call, 0, { S, P, R, B } },
	{ "an err", err_fd, 0, { S, P, R, B } },
	{ "enable", enable, 0, { S, R, R, B } },
	{ "disable", disable, 0, { S, P, P, B } },
	{ "stop", stop, 0, { S, S, S, S } },
	{ "the same memory", same_memory, 0, { S, P, R, B } },
	{ "memory without it", memory_without_it, 0, { S, B, B, B } },
	{ "the same features", same_features, 0, { S, P, R, B } },
	{ "other features", other_features, 0, { S, S, S, S } },
	{ "features that were not offered", foreign_features, -EINVAL, { S, P, R, B } },
	{ "a status of 0", status_of_0, 0, { S, P, R, B } },
	{ "reset", reset, 0, { S, S, S, S } },
	{ "the front-end goes", leave, 0, { S, S, S, S } },
	{ "its queue breaks", fail_queue, 0, { S, P, B, B } },
	{ "a kick that the host refuses", other_kick_is_refused, 0, { S, P, R, B } },
	{ "a kick, and then the old one", both_kicks_are_refused, 0, { S, P, B, B } },
};

static void begin_in(enum served_state state)
{
	struct split_offsets o = split_offsets(SIZE);

	memset(ram, 0, sizeof(ram));
	for (unsigned int at = 0; at <= AWAY; at += AWAY) {
		*(uint16_t *)(void *)(ram + at + o.avail + 2) = STANDS;
		*(uint16_t *)(void *)(ram + at + o.used + 2) = STANDS;
	}
	memset(&ring, 0, sizeof(ring));
	guest_rings_init(&device, &kind, &host, 0);
	configs = errors_told = 0;
	assert_false(in_service);
	assert_int_equal(SAY(set_features, FEATURES, &err), 0);
	assert_int_equal(SAY(set_status, VIRTIO_CONFIG_S_DRIVER_OK, &err), 0);
	assert_int_equal(same_memory(), 0);
	assert_int_equal(same_size(), 0);
	assert_int_equal(same_addr(), 0);
	assert_int_equal(any_base(), 0);
	assert_int_equal(err_fd(), 0);
	if (state != SERVED_STOPPED)
		assert_int_equal(kick(), 0);
	if (state == SERVED_RUNNING || state == SERVED_BROKEN)
		assert_int_equal(enable(), 0);
	if (state == SERVED_BROKEN)
		fail_queue();
	assert_int_equal(ring.state, state);
}

static uint16_t stands_at(void)
{
	return ring.state == SERVED_PAUSED || ring.state == SERVED_RUNNING
		       ? device_ring_position(&ring.ring).avail
		       : ring.front.base.avail;
}

static void every_state_bears_whatever_is_said(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		for (int from = 0; from < STATES; from++) {
			bool forgets = rows[i].say == reset || rows[i].say == leave;
			unsigned int told;
			uint8_t status;

			begin_in((enum served_state)from);
			told = configs;
			if (rows[i].say() != rows[i].refused || ring.state != rows[i].next[from])
				fail_msg("%s in state %d: state %d, expected %d (%s)", rows[i].name,
					 from, ring.state, rows[i].next[from], err.text);
			assert_int_equal(in_service, ring.state == SERVED_RUNNING);
			assert_int_equal(stands_at(), forgets ? 0 : STANDS);
			assert_int_equal(SAY(get_status, &status, &err), 0);
			assert_int_equal(!!(status & VIRTIO_CONFIG_S_NEEDS_RESET),
					 ring.state == SERVED_BROKEN);
			/* Who has to know hears of each that breaks, once. */
			assert_int_equal(configs - told, from != B && ring.state == B);
			assert_int_equal(errors_told, configs);
			assert_int_equal(ring.error[0] != '\0', ring.state == B);
			leave();
		}
}

static void a_device_without_a_configuration_says_so(void **state)
{
	uint64_t features;
	uint8_t byte;

	(void)state;
	begin_in(SERVED_STOPPED);
	assert_int_equal(SAY(get_protocol_features, &features, &err), 0);
	assert_false(features &
		     (BIT64(VHOST_USER_PROTOCOL_F_CONFIG) | BIT64(VHOST_USER_PROTOCOL_F_MQ)));
	assert_int_equal(SAY(get_config, 0, &byte, 1, &err), -EINVAL);
	assert_string_equal(err.text, "offset 0, 1 bytes; a test's device has no configuration");
	assert_int_equal(SAY(set_config, 0, &byte, 1, 0, &err), -EINVAL);
	assert_int_equal(SAY(ring_enable, 1, true, &err), -EINVAL);
	assert_string_equal(err.text, "queue 1: a test's device has 1");
	leave();
}

static void a_ring_does_not_start_before_features_are_said(void **state)
{
	(void)state;
	begin_in(SERVED_STOPPED);
	assert_int_equal(reset(), 0);
	assert_int_equal(kick(), -EINVAL);
	assert_string_equal(err.text, "queue 0: it is started before SET_FEATURES");
	leave();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_state_bears_whatever_is_said),
		cmocka_unit_test(a_device_without_a_configuration_says_so),
		cmocka_unit_test(a_ring_does_not_start_before_features_are_said),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
