/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The two sides of a ring against a naive model, under random operations.
 *
 * The model counts in 64 bits, so that it does not wrap; it keeps every chain
 * as a plain copy, knows at each moment which chain each call must give and
 * whether the ring has room, and computes each notification from first
 * principles: with EVENT_IDX, was any index in the published interval the one
 * that the peer asked for?  Beyond that exact answer it keeps a promise of its
 * own: whoever sleeps, armed, is notified when there is work.
 *
 *	ring_model [seed [operations per case]]	(or UMBRA_SEED=seed)
 *
 * The seed is printed; a failure names the seed, the case and the operation.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/shm.h"
#include "random.h"
#include "ring/device_ring.h"
#include "ring/driver_ring.h"

#define SIZE_MAX_HERE 256u
#define TABLE_MAX_HERE 600u           /* segments of the longest chain on whatever ring */
#define RAM_GPA UINT64_C(0x100000000) /* buffers; nobody follows these addresses */
#define RAM_BYTES UINT64_C(0x10000000)
#define SHARED_GPA (RAM_GPA + RAM_BYTES)

#define CHECK(what)                                                                                \
	do {                                                                                       \
		if (!(what))                                                                       \
			failed(#what, __LINE__);                                                   \
	} while (0)

static uint64_t seed;

/* ---- the model ------------------------------------------------------------ */

enum chain_state { FREE, ADDED, TAKEN, COMPLETED };

struct model_chain {
	enum chain_state state;
	uint64_t token;
	uint64_t index;       /* the avail index that it was added at */
	uint32_t count, cost; /* segments; descriptors in the ring */
	bool large, longer;   /* owns a large table, or one that is longer than the ring */
	uint64_t writable;
	uint32_t len; /* what the driver shall be told */
	bool clamped;
	struct driver_seg segs[TABLE_MAX_HERE];
};

/* One direction of notifications, seen by the publisher. */
struct model_notify {
	bool first;     /* nothing was asked since init */
	uint64_t asked; /* the index when it was asked last */
	uint16_t event; /* what the sleeper asked for; EVENT_IDX */
	bool quiet;     /* what the sleeper asked for; flags */
	bool asleep;    /* it armed, and was told that there is nothing */
};

static struct {
	uint16_t size;
	uint64_t features;
	bool indirect, event_idx, in_order;
	uint32_t longest; /* segments that a chain may have */
	uint32_t descs_free, large_free, long_free, long_met;
	uint64_t added, shown, taken, completed, used, got; /* the six indices */
	uint64_t base;
	struct model_chain *by_avail[65536], *by_used[65536];
	struct model_chain chains[SIZE_MAX_HERE];
	struct model_notify kick, call;
	uint64_t tokens;
} m;

static struct driver_layout layout;
static struct driver_ring driver;
static struct device_ring device;
static struct memory *memory;
static void *shared, *private;
static struct ring_seg taken_segs[TABLE_MAX_HERE];
static uint64_t operation, operations = 1000000, sum_operations;

static void failed(const char *what, int line)
{
	fprintf(stderr,
		"ring_model.c:%d: %s\nseed %" PRIu64 ", size %u, features 0x%" PRIx64
		", operation %" PRIu64 "\nindices: added %" PRIu64 " shown %" PRIu64
		" taken %" PRIu64 " completed %" PRIu64 " used %" PRIu64 " got %" PRIu64 "\n",
		line, what, seed, m.size, m.features, operation, m.added, m.shown, m.taken,
		m.completed, m.used, m.got);
	exit(1);
}

static struct model_chain *free_chain(void)
{
	for (uint32_t i = 0; i < m.size; i++)
		if (m.chains[i].state == FREE)
			return &m.chains[i];
	return NULL;
}

static void device_start(void)
{
	device_ring_init(&device, &(struct device_ring_config){
					  .split = driver.split,
					  .memory = memory,
					  .features = m.features,
					  .at = { RING_SPLIT, (uint16_t)m.taken, (uint16_t)m.used },
					  .table_max = m.longest });
	m.long_met = 0;
	m.call.first = true;
	m.call.asked = m.used;
}

/* @table_max: 0, or what chains may have beyond the ring. */
static void start(uint16_t size, uint64_t features, uint32_t table_max, bool with_memory)
{
	uint64_t base = random64() % 65536;
	struct memory_region regions[2] = {
		{ .gpa = { RAM_GPA }, .uva = { RAM_GPA }, .size = RAM_BYTES, .host = (void *)16 },
		{ .gpa = { SHARED_GPA }, .uva = { SHARED_GPA } },
	};

	memset(&m, 0, sizeof(m));
	m.size = size;
	m.features = features;
	m.indirect = features & BIT64(VIRTIO_RING_F_INDIRECT_DESC);
	m.event_idx = features & BIT64(VIRTIO_RING_F_EVENT_IDX);
	m.in_order = features & BIT64(VIRTIO_F_IN_ORDER);
	m.added = m.shown = m.taken = m.completed = m.used = m.got = base;
	m.kick = m.call = (struct model_notify){ .first = true, .asked = base };
	m.longest = m.indirect ? MAX(size, table_max) : size;
	layout = driver_ring_layout(size, features, table_max);
	CHECK(layout.longest == m.longest);
	CHECK((layout.long_count > 0) == (m.longest > size));
	m.descs_free = size;
	m.large_free = layout.large_count;
	m.long_free = layout.long_count;
	shared = aligned_alloc(64, align_up(layout.shared_bytes, 64));
	private = aligned_alloc(16, align_up(layout.private_bytes, 16));
	CHECK(shared && private);
	memory = NULL;
	if (with_memory) {
		regions[1].host = shared;
		regions[1].size = layout.shared_bytes;
		CHECK(memory_create(regions, 2, &memory, NULL) == 0);
	}
	CHECK(driver_ring_init(
		      &driver,
		      &(struct driver_ring_config){
			      .size = size,
			      .features = features,
			      .shared = shared,
			      .shared_addr = { with_memory ? SHARED_GPA : (uintptr_t)shared },
			      .private = private,
			      .table_max = table_max,
			      .base = ring_position_split((uint16_t)base) }) == 0);
	device_start();
}

static void stop(void)
{
	memory_unref(&memory);
	free(shared);
	free(private);
}

/* ---- notifications, from first principles --------------------------------- */

/* Must the publisher, now at index @now, notify? */
static bool model_must(struct model_notify *n, uint64_t now)
{
	bool must = false;

	if (now != n->asked) {
		must = n->first || (!m.event_idx && !n->quiet);
		if (m.event_idx) {
			CHECK(now - n->asked < 65536);
			for (uint64_t i = n->asked; i < now; i++)
				must |= (uint16_t)i == n->event;
		}
		n->first = false;
		n->asked = now;
	}
	return must;
}

static void model_arm(struct model_notify *n, uint64_t at, bool work)
{
	n->event = (uint16_t)at;
	n->quiet = false;
	n->asleep = !work;
}

static void check_notify(struct model_notify *n, uint64_t now, uint64_t seen, bool notified)
{
	bool must = model_must(n, now);

	CHECK(notified == must);
	if (n->asleep && now != seen)
		CHECK(notified);
	if (notified)
		n->asleep = false;
}

/* ---- operations ----------------------------------------------------------- */

static void op_add(void)
{
	struct model_chain *c = free_chain();
	static struct model_chain full; /* stands in when the model has no chain left */
	uint32_t count, readable;
	int rc;

	if (!c)
		c = &full;
	/* mostly short, sometimes as long as the ring, or longer */
	count = below(4) ? 1 + below(MIN(m.size, 5)) : 1 + below(m.size + 1u);
	if (m.longest > m.size && !below(8))
		count = m.size + 1 + below(m.longest - m.size + 1);
	readable = below(count + 1);
	c->count = count;
	c->token = m.tokens++;
	c->writable = 0;
	for (uint32_t i = 0; i < MIN(count, m.longest); i++) {
		c->segs[i] = (struct driver_seg){ .addr = { RAM_GPA + below(1u << 27) },
						  .len = 1 + below(1u << 20),
						  .writable = i >= readable };
		c->writable += i >= readable ? c->segs[i].len : 0;
	}
	rc = driver_ring_add(&driver, c->segs, count, c->token);
	if (count > m.longest) {
		CHECK(rc == -EMSGSIZE);
		return;
	}
	c->longer = count > m.size;
	c->large =
		!c->longer && m.indirect && count > layout.small_len && count > 1 && m.large_free;
	c->cost = c->longer || c->large || (m.indirect && count <= layout.small_len) ? 1 : count;
	if (c->cost > m.descs_free || (c->longer && !m.long_free)) {
		CHECK(rc == 0);
		return;
	}
	CHECK(rc == 1);
	CHECK(c != &full);
	c->state = ADDED;
	m.descs_free -= c->cost;
	m.large_free -= c->large;
	m.long_free -= c->longer;
	c->index = m.added;
	m.by_avail[m.added++ % 65536] = c;
}

static void chain_gone(struct model_chain *c)
{
	c->state = FREE;
	m.descs_free += c->cost;
	m.large_free += c->large;
	m.long_free += c->longer;
}

static void op_show(void)
{
	driver_ring_publish(&driver);
	m.shown = m.added;
}

static void op_must_kick(void)
{
	check_notify(&m.kick, m.shown, m.taken, driver_ring_must_kick(&driver));
}

static void op_take(void)
{
	struct ring_chain chain = { .segs = taken_segs };
	struct model_chain *c = m.by_avail[m.taken % 65536];
	int rc = device_ring_take(&device, &chain);

	m.kick.asleep = false;
	if (m.taken == m.shown) {
		CHECK(rc == 0);
		return;
	}
	CHECK(rc == 1);
	CHECK(chain.count == c->count);
	CHECK(memcmp(chain.segs, c->segs, c->count * sizeof(*c->segs)) == 0);
	CHECK(chain.writable_bytes == c->writable);
	CHECK(c->state == ADDED);
	if (c->longer)
		m.long_met = MAX(m.long_met, c->count);
	CHECK(device.table_longest == m.long_met);
	c->state = TAKEN;
	c->segs[0].writable |= (uint32_t)chain.head << 1; /* keep the id beside */
	m.taken++;
}

static uint16_t chain_id(const struct model_chain *c)
{
	return (uint16_t)(c->segs[0].writable >> 1);
}

/* The oldest chain that the device holds, or with @any a random one. */
static struct model_chain *taken_chain(bool any)
{
	uint32_t start_at = below(m.size);

	if (!any) {
		struct model_chain *c = m.by_avail[m.completed % 65536];

		return m.completed < m.taken ? c : NULL;
	}
	for (uint32_t i = 0; i < m.size; i++) {
		struct model_chain *c = &m.chains[(start_at + i) % m.size];

		if (c->state == TAKEN)
			return c;
	}
	return NULL;
}

static bool op_complete(void)
{
	struct model_chain *c = taken_chain(!m.in_order);
	uint32_t len;

	if (!c)
		return false;
	CHECK(c->state == TAKEN);
	len = below((uint32_t)MIN(c->writable + c->writable / 4 + 2, UINT32_MAX));
	device_ring_complete(&device, chain_id(c), len);
	c->state = COMPLETED;
	c->len = (uint32_t)MIN(len, c->writable);
	c->clamped = len > c->writable;
	m.by_used[m.completed++ % 65536] = c;
	return true;
}

/*
 * An IN_ORDER device that writes one entry for many chains: the entry of the
 * last one, in the first one's place, and rubbish in the others'.
 */
static void op_complete_batch(void)
{
	struct split_used *used = driver.split.used;
	uint64_t first = m.completed;
	uint32_t want = 2 + below(m.size);

	while (want-- && op_complete())
		;
	if (m.completed - first < 2)
		return;
	used->ring[first & (m.size - 1u)] = used->ring[(m.completed - 1) & (m.size - 1u)];
	for (uint64_t i = first + 1; i < m.completed; i++)
		memset(&used->ring[i & (m.size - 1u)], 0xee, sizeof(used->ring[0]));
	for (uint64_t i = first; i < m.completed - 1; i++) {
		struct model_chain *c = m.by_used[i % 65536];

		c->len = (uint32_t)c->writable;
		c->clamped = false;
	}
}

static void op_use(void)
{
	device_ring_publish(&device);
	m.used = m.completed;
}

static void op_must_call(void)
{
	check_notify(&m.call, m.used, m.got, device_ring_must_call(&device));
}

static void op_get(void)
{
	struct driver_done done;
	struct model_chain *c = m.by_used[m.got % 65536];
	int rc = driver_ring_get(&driver, &done);

	m.call.asleep = false;
	if (m.got == m.used) {
		CHECK(rc == 0);
		return;
	}
	CHECK(rc == 1);
	CHECK(done.token == c->token);
	CHECK(done.len == c->len);
	CHECK(done.clamped == c->clamped);
	chain_gone(c);
	m.got++;
}

static void op_untake(void)
{
	uint32_t count = 0, want = 1 + below(m.size);

	/* only chains that are still there, and newest first */
	for (; count < want; count++) {
		uint64_t index = m.taken - count - 1;
		struct model_chain *c = m.by_avail[index % 65536];

		if (!c || c->state != TAKEN || c->index != index)
			break;
	}
	device_ring_untake(&device, (uint16_t)count);
	if (count)
		m.kick.asleep = false; /* it knows of work */
	while (count--) {
		struct model_chain *c = m.by_avail[--m.taken % 65536];

		c->state = ADDED;
		c->segs[0].writable &= 1;
	}
}

/* The device stops, the driver takes back what it has not taken, and another
 * device goes on. */
static void op_unadd(void)
{
	uint64_t unseen = m.added - m.taken;
	uint32_t count = below((uint32_t)unseen + 1);

	op_use();
	op_must_call(); /* the next device knows nothing of what this one published */
	CHECK(driver_ring_unadd(&driver, (uint16_t)(m.added - m.used + 1)) == -EINVAL);
	CHECK(driver_ring_unadd(&driver, (uint16_t)count) == 0);
	for (uint32_t i = 0; i < count; i++)
		chain_gone(m.by_avail[--m.added % 65536]);
	if (m.shown > m.added) {
		m.shown = m.added;
		m.kick.first = true;
		m.kick.asked = m.added - 1; /* a kick is due, whoever listens now */
	}
	device_start();
}

static void op_device_arm(void)
{
	bool work = m.shown != m.taken;

	CHECK(device_ring_arm(&device) == work);
	model_arm(&m.kick, m.taken, work);
}

static void op_driver_arm(void)
{
	bool work = m.used != m.got;

	CHECK(driver_ring_has_used(&driver) == work);
	CHECK(driver_ring_arm(&driver) == work);
	model_arm(&m.call, m.got, work);
}

static void op_device_disarm(void)
{
	device_ring_disarm(&device);
	m.kick.quiet = true;
	m.kick.asleep = false;
}

static void op_driver_disarm(void)
{
	driver_ring_disarm(&driver);
	m.call.quiet = true;
	m.call.asleep = false;
}

static void check_all(void)
{
	uint32_t cost = 0;

	for (uint32_t i = 0; i < m.size; i++)
		cost += m.chains[i].state == FREE ? 0 : m.chains[i].cost;
	CHECK(cost + m.descs_free == m.size);
	CHECK(driver.free_count == m.descs_free);
	CHECK(driver.large_free_count == m.large_free);
	CHECK(driver.long_free_count == m.long_free);
	CHECK(driver_ring_in_flight(&driver) == m.added - m.got);
	CHECK(device_ring_outstanding(&device) == m.taken - m.completed);
	CHECK(shm_load16(&driver.split.avail->idx) == (uint16_t)m.shown);
	CHECK(shm_load16(&driver.split.used->idx) == (uint16_t)m.used);
	CHECK(driver.error.fault == RING_OK && device.error.fault == RING_OK);
}

static void run_case(uint16_t size, uint64_t features, uint32_t table_max, bool with_memory)
{
	start(size, features, table_max, with_memory);
	for (operation = 0; operation < operations; operation++) {
		/* Phases in which one side runs ahead, so that the ring is full
		 * and empty often. */
		uint32_t lean = (uint32_t)(operation / 64) % 3;

		switch (below(24) + (lean == 1 ? 6 : 0) - (lean == 2 ? 3 : 0)) {
		default:
			op_add();
			break;
		case 4:
			op_show();
			break;
		case 5:
			op_must_kick();
			break;
		case 6:
		case 7:
		case 8:
		case 9:
			op_take();
			break;
		case 10:
		case 11:
		case 12:
			(void)op_complete();
			break;
		case 13:
			op_use();
			break;
		case 14:
			op_must_call();
			break;
		case 15:
		case 16:
		case 17:
		case 18:
		case 24:
		case 25:
		case 26:
			op_get();
			break;
		case 19:
			if (m.in_order)
				op_complete_batch();
			break;
		case 20:
			if (!below(4))
				op_untake();
			break;
		case 21:
			if (!below(8))
				op_unadd();
			break;
		case 22:
			below(2) ? op_device_arm() : op_device_disarm();
			break;
		case 23:
			below(2) ? op_driver_arm() : op_driver_disarm();
			break;
		case 27:
		case 28:
		case 29:
			op_show();
			op_must_kick();
			break;
		}
		check_all();
	}
	sum_operations += operations;
	stop();
}

int main(int argc, char **argv)
{
	static const uint16_t sizes[] = { 1, 2, 4, 64, 256 };

	seed = argc > 1 ? strtoull(argv[1], NULL, 0) : random_seed();
	if (argc > 2)
		operations = strtoull(argv[2], NULL, 0);
	printf("seed %" PRIu64 "\n", seed);
	fflush(stdout);
	for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
		for (unsigned int f = 0; f < 16; f++) {
			uint64_t features = (f & 1 ? BIT64(VIRTIO_RING_F_EVENT_IDX) : 0) |
					    (f & 2 ? BIT64(VIRTIO_RING_F_INDIRECT_DESC) : 0) |
					    (f & 4 ? BIT64(VIRTIO_F_IN_ORDER) : 0);

			random_begin(seed ^ (uint64_t)sizes[s] << 32 ^ (uint64_t)f << 48);
			/* once with each of the other two */
			run_case(sizes[s], features, (f & 1) == f >> 3 ? TABLE_MAX_HERE : 0, f & 8);
		}
	}
	printf("%" PRIu64 " operations, no difference\n", sum_operations);
	return 0;
}
