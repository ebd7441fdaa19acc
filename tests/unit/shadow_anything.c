/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Everybody does anything at any time: the front-end says its messages in any order and with
 * any values, the guest and the back-end write what they like to the rings, the back-end
 * answers as it likes, refuses, and dies.  Nothing that they do ends the process, leaves a
 * queue in service that nobody has, or the device where its tables say it cannot be.
 *
 * The back-end is simulated, and no family's: it keeps nothing but which rings it was told
 * to start, since all it has to do is lie.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_ring.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "base/shm.h"
#include "device/shadow_device_private.h"
#include "random.h"
#include "sim.h"

#define SIZE 8u
#define STEPS 3000u
#define RUNS 6u /* of each kind of back-end */

/* --- what was logged --------------------------------------------------------------- */

static int log_fd, stderr_fd;

static void log_show(int signal)
{
	char text[4096];
	off_t end = lseek(log_fd, 0, SEEK_END), from = end > (off_t)sizeof(text) ? end - 4096 : 0;
	ssize_t n = pread(log_fd, text, sizeof(text), from);

	(void)signal;
	(void)!write(stderr_fd, text, n > 0 ? (size_t)n : 0);
}

/* Lines are counted by place, and the first of each place always come through. */
static void log_keep(void)
{
	stderr_fd = dup(STDERR_FILENO);
	log_fd = memfd_create("log", MFD_CLOEXEC);
	assert_true(stderr_fd >= 0 && log_fd >= 0);
	assert_true(dup2(log_fd, STDERR_FILENO) >= 0);
	signal(SIGABRT, log_show);
}

static int log_end(void **state)
{
	(void)state;
	log_show(0);
	return dup2(stderr_fd, STDERR_FILENO) < 0;
}

static bool log_has(const char *words)
{
	off_t size = lseek(log_fd, 0, SEEK_END);
	char *text = calloc(1, (size_t)size + 1);
	bool has;

	assert_non_null(text);
	assert_int_equal(pread(log_fd, text, (size_t)size, 0), size);
	has = strstr(text, words);
	free(text);
	return has;
}

/* --- the back-end --------------------------------------------------------------------- */

static struct world {
	struct sim *sim;
	bool has[SIM_QUEUES]; /* rings that the back-end was told to start */
	struct virtio_ring told[SIM_QUEUES];
	bool is_cancelled;   /* it was the owner that waits for it no more */
	const char *lost_in; /* the call that said that the connection is lost; NULL: it is not */
	bool is_honest;      /* no call fails: to get anywhere at all */
	uint64_t guest_features;
	unsigned int switches; /* that were made */
} world;

static uint32_t sometimes(uint32_t n)
{
	return below(n) == 0;
}

static int answer(const char *call, struct umbra_error *err)
{
	static const int codes[] = { -EREMOTEIO,  -EREMOTEIO, -EOPNOTSUPP,
				     -ECONNRESET, -ETIMEDOUT, -ECANCELED };
	int code;

	assert_null(world.lost_in); /* only destroy() may follow */
	if (!sometimes(20))
		return 0;
	code = codes[below(ARRAY_SIZE(codes))];
	if (backend_is_lost(code))
		world.lost_in = call;
	world.is_cancelled = code == -ECANCELED;
	return error_set(err, code, "simulated: %s fails", call);
}

static struct ring_position anywhere(unsigned int index)
{
	uint16_t base = world.told[index].base.avail;

	return ring_position_split((uint16_t)(sometimes(4) ? random64() : base + below(4)));
}

static int any_set_features(struct virtio_device *b, uint64_t features, struct umbra_error *err)
{
	(void)b;
	(void)features;
	return answer(__func__, err);
}

static int any_ring_start(struct virtio_device *b, unsigned int index,
			  const struct virtio_ring *ring, struct umbra_error *err)
{
	int rc = answer(__func__, err);

	(void)b;
	assert_true(index < SIM_QUEUES);
	assert_false(world.has[index]);
	if (rc)
		return rc;
	world.has[index] = true;
	world.told[index] = *ring;
	return 0;
}

static int any_ring_stop(struct virtio_device *b, unsigned int index, struct ring_position *base,
			 struct umbra_error *err)
{
	int rc = answer(__func__, err);

	(void)b;
	*base = anywhere(index);
	world.has[index] = false; /* a refusal says nothing about what it does */
	return rc;
}

static int any_ring_base(struct virtio_device *b, unsigned int index, struct ring_position *base,
			 struct umbra_error *err)
{
	(void)b;
	*base = anywhere(index);
	return answer(__func__, err);
}

static int any_ring_enable(struct virtio_device *b, unsigned int index, bool enabled,
			   struct umbra_error *err)
{
	(void)b;
	(void)index;
	(void)enabled;
	return answer(__func__, err);
}

static int any_ring_exchange(struct virtio_device *b, unsigned int index, enum virtio_ring_fd which,
			     int fd, struct umbra_error *err)
{
	(void)b;
	(void)index;
	(void)which;
	(void)fd;
	return answer(__func__, err);
}

static int any_done(struct virtio_device *b, struct umbra_error *err)
{
	(void)b;
	return answer(__func__, err);
}

static int any_set_status(struct virtio_device *b, uint8_t status, struct umbra_error *err)
{
	(void)b;
	(void)status;
	return answer(__func__, err);
}

/* --- the memory that all share ---------------------------------------------------------- */

static struct split_ring guest_ring_at(unsigned int queue)
{
	struct split_offsets o = split_offsets(SIZE);
	uint8_t *at = world.sim->guest.host + queue * SIM_SLOT;

	return (struct split_ring){
		.desc = (void *)(at + o.desc),
		.avail = (void *)(at + o.avail),
		.used = (void *)(at + o.used),
		.size = SIZE,
	};
}

static void scribble(void *at, size_t bytes)
{
	/* A few words, so that some of what is there still makes sense. */
	for (unsigned int n = 1 + below(3); n; n--)
		((uint8_t *)at)[below((uint32_t)bytes)] = (uint8_t)random64();
}

static void guest_writes(unsigned int queue)
{
	struct split_ring s = guest_ring_at(queue);
	uint16_t idx = shm_load16(&s.avail->idx);

	switch (below(6)) {
	case 0:
		scribble(s.desc, split_desc_bytes(SIZE));
		break;
	case 1:
		scribble(s.avail, split_avail_bytes(SIZE));
		break;
	case 2:
		scribble(s.used, split_used_bytes(SIZE));
		break;
	default: { /* a chain that may be good */
		if ((uint16_t)(idx - shm_load16(&s.used->idx)) >= SIZE && !sometimes(20))
			return;
		uint8_t desc[16] = { 0 };
		uint64_t addr = SIM_GPA + queue * SIM_SLOT + (2u << 20) + below(64) * 64;
		uint32_t len = 64;
		uint16_t head = (uint16_t)below(SIZE), flags = below(2) ? VRING_DESC_F_WRITE : 0;

		memcpy(desc, &addr, 8);
		memcpy(desc + 8, &len, 4);
		memcpy(desc + 12, &flags, 2);
		memcpy((uint8_t *)s.desc + head * 16, desc, 16);
		memcpy((uint8_t *)s.avail + 4 + idx % SIZE * 2, &head, 2);
		shm_store16(&s.avail->idx, (uint16_t)(idx + 1));
	}
	}
}

/* On whatever ring it was told of, the guest's or ours. */
static void backend_writes(unsigned int queue)
{
	const struct virtio_ring *told = &world.told[queue];
	struct split_used *used = NULL;

	if (world.has[queue] && world.sim->backend_memory)
		used = (void *)memory_host_uva(world.sim->backend_memory, told->addr.used,
					       split_used_bytes(told->size));
	if (!used)
		return;
	if (sometimes(4))
		scribble(used, split_used_bytes(told->size));
	else
		shm_store16(&used->idx, (uint16_t)(shm_load16(&used->idx) + 1));
	if (told->call_fd >= 0 && sometimes(2))
		world.sim->host.notified[told->call_fd]++;
}

static void world_goes_on(struct sim *sim)
{
	(void)sim;
	if (sometimes(3))
		guest_writes(below(SIM_QUEUES));
	if (sometimes(2))
		backend_writes(below(SIM_QUEUES));
}

/* --- the front-end --------------------------------------------------------------------------- */

static int fd_new(void)
{
	assert_true(world.sim->host.next_fd < (int)SIM_FDS);
	return sometimes(8) ? -1 : world.sim->host.next_fd++;
}

static struct virtio_ring_addr addresses(unsigned int queue)
{
	struct split_offsets o = split_offsets(SIZE);
	uint64_t at = SIM_UVA + queue * SIM_SLOT;

	switch (below(12)) {
	case 0:
		at += SIM_QUEUES * SIM_SLOT - 64; /* not wholly in memory */
		break;
	case 1:
		at += 2; /* unaligned */
		break;
	case 2:
		at += 1u << 20; /* elsewhere */
		break;
	}
	return (struct virtio_ring_addr){ { at + o.desc }, { at + o.avail }, { at + o.used } };
}

static void ring_message(unsigned int q)
{
	struct virtio_device *d = world.sim->front;
	const struct virtio_ops *ops = d->ops;
	struct virtio_ring_addr addr = addresses(q);
	struct split_ring s = guest_ring_at(q);
	struct ring_position base;
	struct umbra_error err;
	int fd;

	switch (below(12)) {
	case 0:
		(void)!ops->ring_set_size(d, q, sometimes(6) ? (uint32_t)random64() : SIZE, &err);
		break;
	case 1:
		(void)!ops->ring_set_addr(d, q, &addr, &err);
		break;
	case 2:
		base = ring_position_split(sometimes(6) ? (uint16_t)random64()
							: shm_load16(&s.used->idx));
		(void)!ops->ring_set_base(d, q, base, &err);
		break;
	case 3 ... 5:
		fd = fd_new();
		(void)!ops->ring_set_kick(d, q, &fd, &err);
		break;
	case 6:
		fd = fd_new();
		(void)!ops->ring_set_call(d, q, &fd, &err);
		break;
	case 7:
		fd = fd_new();
		(void)!ops->ring_set_err(d, q, &fd, &err);
		break;
	case 8 ... 10:
		(void)!ops->ring_enable(d, q, below(4), &err);
		break;
	case 11:
		(void)!ops->ring_stop(d, q, &base, &err);
		break;
	}
}

static void memory_message(void)
{
	struct virtio_device *d = world.sim->front;
	struct memory_region extra = world.sim->guest;
	struct umbra_error err;

	extra.gpa.v = SIM_GPA + SIM_QUEUES * SIM_SLOT;
	extra.uva.v = SIM_UVA + SIM_QUEUES * SIM_SLOT;
	extra.size = 4096;
	switch (below(4)) {
	case 0:
		(void)!d->ops->add_region(d, &extra, &err);
		break;
	case 1:
		(void)!d->ops->remove_region(d, sometimes(4) ? &world.sim->guest : &extra, &err);
		break;
	default:
		(void)!d->ops->set_memory(d, &world.sim->guest, 1, &err);
	}
}

static void device_message(void)
{
	struct virtio_device *d = world.sim->front;
	uint64_t offered, features = world.guest_features;
	struct umbra_error err;

	switch (below(6)) {
	case 0:
		(void)!d->ops->reset(d, &err);
		break;
	case 1:
		(void)!d->ops->set_status(d, (uint8_t)(sometimes(2) ? 0 : random64()), &err);
		break;
	default:
		(void)!d->ops->get_features(d, &offered, &err);
		if (sometimes(4))
			features ^= EVENT;
		(void)!d->ops->set_features(d, sometimes(8) ? random64() : features & offered,
					    &err);
	}
}

/* --- whoever owns the device -------------------------------------------------------------- */

static void connect_anew(const char *lost)
{
	struct sim *sim = world.sim;

	sim->front->ops->detach(sim->front);
	shadow_device_await(sim->device, lost);
	for (unsigned int i = 0; i < SIM_QUEUES; i++)
		assert_null(sim->host.services[i]);
	memory_unref(&sim->backend_memory);
	memset(world.has, 0, sizeof(world.has));
	world.lost_in = NULL;
	sim->front->ops->attach(sim->front, &sim->backend);
}

static void owner_does(void)
{
	struct sim *sim = world.sim;
	struct umbra_error err;
	unsigned int left;

	switch (below(40)) {
	case 0:
		(void)!shadow_device_retire(sim->device, &left, &err);
		connect_anew(NULL);
		break;
	case 1:
		connect_anew(NULL);
		break;
	case 2 ... 12:
		if (!shadow_device_switch(sim->device, below(2), &err))
			world.switches++;
		break;
	case 13 ... 20:
		sim_run(sim);
		break;
	default:
		sim_pause(sim);
	}
}

/* A whole device in one go, since few get there by chance. */
static void boot(void)
{
	struct virtio_device *d = world.sim->front;
	struct umbra_error err;
	uint64_t offered;

	for (unsigned int q = 0; q < SIM_QUEUES; q++) {
		struct ring_position base;

		(void)!d->ops->ring_stop(d, q, &base, &err);
		memset(world.sim->guest.host + q * SIM_SLOT, 0, 4096);
	}
	(void)!d->ops->get_features(d, &offered, &err);
	(void)!d->ops->set_features(d, world.guest_features & offered, &err);
	(void)!d->ops->set_memory(d, &world.sim->guest, 1, &err);
	for (unsigned int q = 0; q < SIM_QUEUES; q++) {
		struct split_offsets o = split_offsets(SIZE);
		struct split_ring s = guest_ring_at(q);
		uint64_t at = SIM_UVA + q * SIM_SLOT;
		struct virtio_ring_addr addr = { { at + o.desc },
						 { at + o.avail },
						 { at + o.used } };
		int kick = world.sim->host.next_fd++, call = world.sim->host.next_fd++;

		(void)!d->ops->ring_set_size(d, q, SIZE, &err);
		(void)!d->ops->ring_set_base(d, q, ring_position_split(shm_load16(&s.used->idx)),
					     &err);
		(void)!d->ops->ring_set_addr(d, q, &addr, &err);
		(void)!d->ops->ring_set_call(d, q, &call, &err);
		(void)!d->ops->ring_set_kick(d, q, &kick, &err);
		(void)!d->ops->ring_enable(d, q, true, &err);
	}
	sim_pause(world.sim);
}

static void step(void)
{
	switch (below(16)) {
	case 0 ... 3:
		guest_writes(below(SIM_QUEUES));
		break;
	case 4 ... 6:
		backend_writes(below(SIM_QUEUES));
		break;
	case 7 ... 9:
		ring_message(below(SIM_QUEUES));
		break;
	case 10:
		if (sometimes(4))
			memory_message();
		break;
	case 11:
		if (sometimes(4))
			device_message();
		else if (sometimes(4))
			boot();
		break;
	default:
		owner_does();
	}
}

/* --- the test --------------------------------------------------------------------------------- */

static const struct kind {
	const char *name;
	enum hush_way hush;
	unsigned int traits;
	bool tells_base;
	uint64_t iova_offset;
} kinds[] = {
	{ .name = "NOT", .hush = HUSH_NOT },
	{ .name = "KICK", .hush = HUSH_BY_KICK },
	{ .name = "ENABLE", .hush = HUSH_BY_ENABLE },
	{ .name = "suspends, keeps index", .hush = HUSH_BY_KICK, .traits = SUSPENDING },
	{ .name = "keeps index", .hush = HUSH_BY_KICK, .traits = RESETTING, .tells_base = true },
	{ .name = "neither", .hush = HUSH_BY_KICK, .traits = BACKEND_MAPS },
	{ .name = "translated",
	  .hush = HUSH_BY_KICK,
	  .traits = SUSPENDING,
	  .iova_offset = 1ull << 40 },
};

static int (*sim_set_memory)(struct virtio_device *b, const struct memory_region *regions,
			     unsigned int count, struct umbra_error *err);
static int (*sim_add_region)(struct virtio_device *b, const struct memory_region *region,
			     struct umbra_error *err);
static int (*sim_remove_region)(struct virtio_device *b, const struct memory_region *region,
				struct umbra_error *err);

static int any_set_memory(struct virtio_device *b, const struct memory_region *regions,
			  unsigned int count, struct umbra_error *err)
{
	int rc = answer(__func__, err);

	return rc ? rc : sim_set_memory(b, regions, count, err);
}

static int any_add_region(struct virtio_device *b, const struct memory_region *region,
			  struct umbra_error *err)
{
	int rc = answer(__func__, err);

	return rc ? rc : sim_add_region(b, region, err);
}

static int any_remove_region(struct virtio_device *b, const struct memory_region *region,
			     struct umbra_error *err)
{
	int rc = answer(__func__, err);

	return rc ? rc : sim_remove_region(b, region, err);
}

static void world_begin(const struct kind *kind, enum umbra_shadow_mode mode, uint64_t features)
{
	struct sim *sim = sim_new(mode, SIZE, features);

	world = (struct world){ .sim = sim, .guest_features = features };
	sim_hush_by(sim, kind->hush);
	if (kind->traits)
		sim_run_as_one(sim, kind->traits);
	sim->iova_offset = kind->iova_offset;
	sim->while_waiting = world_goes_on;
	sim_set_memory = sim->ops.set_memory;
	sim_add_region = sim->ops.add_region;
	sim_remove_region = sim->ops.remove_region;
	sim->ops.set_features = any_set_features;
	sim->ops.set_memory = any_set_memory;
	sim->ops.add_region = any_add_region;
	sim->ops.remove_region = any_remove_region;
	sim->ops.ring_start = any_ring_start;
	sim->ops.ring_stop = any_ring_stop;
	sim->ops.ring_base = kind->tells_base ? any_ring_base : NULL;
	sim->ops.ring_enable = any_ring_enable;
	sim->ops.ring_exchange = any_ring_exchange;
	sim->ops.reset = any_done;
	sim->ops.set_status = any_set_status;
	if (kind->traits)
		sim->ops.device_start = sim->ops.device_stop = any_done;
}

static void nothing_that_anybody_does_ends_it(void **state)
{
	static const enum umbra_shadow_mode modes[] = { UMBRA_SHADOW_AUTO, UMBRA_SHADOW_AUTO,
							UMBRA_SHADOW_ON };
	bool seen[UMBRA_DEVICE_HELD + 1];
	uint64_t seed = random_seed();
	unsigned int switches = 0;

	(void)state;
	memset(seen, 0, sizeof(seen));
	log_keep();
	for (unsigned int n = 0; n < RUNS * ARRAY_SIZE(kinds); n++) {
		const struct kind *kind = &kinds[n % ARRAY_SIZE(kinds)];

		random_begin(seed);
		print_message("%s, UMBRA_SEED=%llu\n", kind->name, (unsigned long long)seed);
		world_begin(kind, modes[n / ARRAY_SIZE(kinds) % ARRAY_SIZE(modes)],
			    V1 | (below(2) ? EVENT : 0) | (below(2) ? INDIRECT : 0));
		boot();
		for (unsigned int i = 0; i < STEPS; i++) {
			step();
			seen[shadow_device_state(world.sim->device)] = true;
			if (!shadow_state_holds(world.sim->device))
				fail_msg("step %u: the device is %s, and that is not true", i,
					 umbra_device_state_name(
						 shadow_device_state(world.sim->device)));
			if (shadow_device_state(world.sim->device) == UMBRA_DEVICE_BACKEND_LOST)
				connect_anew("simulated");
			else if (world.lost_in && world.is_cancelled)
				connect_anew(NULL);
			if (world.lost_in)
				fail_msg(
					"step %u: the back-end was lost in %s, and the device is %d",
					i, world.lost_in, shadow_device_state(world.sim->device));
		}
		switches += world.switches;
		sim_free(world.sim);
		seed = random_seed_after(seed);
	}
	assert_false(log_has("should not be"));
	/* It got somewhere: all but waiting and switching are states at rest. */
	print_message("%u switches\n", switches);
	assert_true(switches > 100);
	assert_true(seen[UMBRA_DEVICE_NEGOTIATING] && seen[UMBRA_DEVICE_PASSTHROUGH]);
	assert_true(seen[UMBRA_DEVICE_SHADOWED] && seen[UMBRA_DEVICE_BROKEN]);
	assert_true(seen[UMBRA_DEVICE_BACKEND_LOST]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(nothing_that_anybody_does_ends_it, log_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
