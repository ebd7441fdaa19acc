/* SPDX-License-Identifier: BSD-2-Clause */
/* A balloon device on a simulated host: see balloon_rig.h. */
#include "balloon_rig.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/shm.h"

/* Not open in any test: closing them is an error that nobody looks at. */
#define KICK_FD(index) (1000 + 2 * (int)(index))
#define CALL_FD(index) (1001 + 2 * (int)(index))

/* Checks of the rig itself; the fuzzer has no cmocka. */
#define REQUIRE(condition)                                                                         \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);            \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static struct rig *rig_of(struct balloon_host *host)
{
	return (struct rig *)(void *)((char *)host - offsetof(struct rig, host));
}

static struct rig *rig_of_device(struct device_host *host)
{
	return (struct rig *)(void *)((char *)host - offsetof(struct rig, device_host));
}

static uint64_t host_now_us(struct device_host *host)
{
	struct rig *g = rig_of_device(host);

	return g->now_us += g->read_us;
}

static void note_discard(struct rig *g, const struct balloon_discard *d)
{
	if (g->discard_count < RIG_DISCARDS_MAX)
		g->discards[g->discard_count++] = (struct rig_discard){
			.pfn = (d->region->gpa.v + d->offset) >> 12,
			.count = d->length >> 12,
		};
}

static uint64_t host_discard(struct balloon_host *host, struct balloon_discard *list,
			     unsigned int count)
{
	struct rig *g = rig_of(host);
	uint64_t freed = 0;

	g->discard_calls++;
	g->now_us += g->discard_us;
	for (unsigned int i = 0; i < BALLOON_QUEUES; i++)
		if (g->services[i] && i != 1)
			REQUIRE(shm_load16(&g->rings[i].split.used->idx) == g->used_before[i] ||
				!g->privates[i]);
	for (unsigned int i = 0; i < count; i++) {
		struct balloon_discard *d = &list[i];

		REQUIRE(d->length && d->offset < d->region->size &&
			d->length <= d->region->size - d->offset);
		for (unsigned int j = 0; count <= 64 && j < i; j++)
			REQUIRE(list[j].region != d->region ||
				list[j].offset + list[j].length <= d->offset ||
				d->offset + d->length <= list[j].offset);
		d->result = g->fail_low && d->region->host != g->low ? 0 : g->fail_discards;
		if (d->result)
			continue;
		note_discard(g, d);
		memset(d->region->host + d->offset, 0, d->length);
		freed += d->length;
	}
	return freed;
}

static void host_judge(struct balloon_host *host, const struct memory_region *region)
{
	(void)host;
	(void)region; /* a test sets `keeps` itself */
}

static int host_serve_begin(struct device_host *host, struct queue_service *service,
			    struct umbra_error *err)
{
	struct rig *g = rig_of_device(host);

	REQUIRE(service->index < BALLOON_QUEUES && !g->services[service->index]);
	if (g->fail_serves && g->fail_serves--)
		return error_set(err, -EPERM, "simulated: queue %u's eventfds cannot be watched",
				 service->index);
	g->services[service->index] = service;
	g->ready[service->index] = true;
	return 0;
}

static void host_serve_end(struct device_host *host, struct queue_service *service)
{
	struct rig *g = rig_of_device(host);

	REQUIRE(g->services[service->index] == service);
	g->services[service->index] = NULL;
}

static void host_notify(struct device_host *host, int fd)
{
	struct rig *g = rig_of_device(host);

	for (unsigned int i = 0; i < BALLOON_QUEUES; i++)
		if (fd == KICK_FD(i))
			g->ready[i] = true;
}

static void host_moved(struct balloon_host *host)
{
	rig_of(host)->moved++;
}

static void host_config_changed(struct device_host *host)
{
	rig_of_device(host)->configs_changed++;
}

static const struct device_host_ops device_host_ops = {
	.now_us = host_now_us,
	.serve_begin = host_serve_begin,
	.serve_end = host_serve_end,
	.notify = host_notify,
	.config_changed = host_config_changed,
};

static const struct balloon_host_ops host_ops = {
	.judge = host_judge,
	.discard = host_discard,
	.moved = host_moved,
};

/* --- memory ------------------------------------------------------------------ */

static void file_release(struct memory_backing *backing)
{
	(void)backing; /* the rig's own, and outlives everything */
}

static struct memory_backing file_make(uint64_t inode)
{
	return (struct memory_backing){
		.refs = 1,
		.release = file_release,
		.fd = -1,
		.file_device = 1,
		.file_inode = inode,
		.page = 4096,
		.block = 4096,
	};
}

static uint8_t *pages_make(size_t size)
{
	uint8_t *pages = aligned_alloc(4096, size);

	REQUIRE(pages);
	memset(pages, 0x5a, size);
	return pages;
}

void rig_set_memory(struct rig *g, bool low, bool high)
{
	struct memory_region regions[2];
	struct umbra_error err = { "" };
	unsigned int count = 0;

	if (high)
		regions[count++] = (struct memory_region){
			.gpa = { HIGH_GPA },
			.uva = { HIGH_GPA + UVA_OFFSET },
			.size = HIGH_BYTES,
			.host = g->high,
			.backing = &g->high_file,
		};
	if (low)
		regions[count++] = (struct memory_region){
			.gpa = { LOW_GPA },
			.uva = { LOW_GPA + UVA_OFFSET },
			.size = LOW_BYTES,
			.host = g->low,
			.backing = &g->low_file,
		};
	if (g->virtio->ops->set_memory(g->virtio, regions, count, &err)) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
}

uint8_t *rig_at(struct rig *g, uint64_t gpa)
{
	if (gpa - LOW_GPA < LOW_BYTES)
		return g->low + (gpa - LOW_GPA);
	REQUIRE(gpa - HIGH_GPA < HIGH_BYTES);
	return g->high + (gpa - HIGH_GPA);
}

void rig_reuse(struct rig *g)
{
	g->buffer = BUFFERS;
}

static uint64_t buffer_take(struct rig *g, size_t size)
{
	uint64_t at = g->buffer;

	REQUIRE(at + size <= RINGS_BYTES);
	g->buffer = align_up(at + size, 8);
	return LOW_GPA + at;
}

uint64_t rig_put(struct rig *g, const void *bytes, size_t size)
{
	uint64_t gpa = buffer_take(g, size);

	memcpy(rig_at(g, gpa), bytes, size);
	return gpa;
}

/* --- the front-end's part ------------------------------------------------------ */

struct rig *rig_new(unsigned int hide)
{
	const struct balloon_device_config config = { .stall_ms = RIG_STALL_MS, .hide = hide };

	return rig_make(&config);
}

struct rig *rig_make(const struct balloon_device_config *config)
{
	struct rig *g = calloc(1, sizeof(*g));
	struct umbra_error err = { "" };

	REQUIRE(g);
	g->device_host.ops = &device_host_ops;
	g->host = (struct balloon_host){ &g->device_host, &host_ops };
	g->low = pages_make(LOW_BYTES);
	g->high = pages_make(HIGH_BYTES);
	g->low_file = file_make(1);
	g->high_file = file_make(2);
	g->now_us = 1000000;
	rig_reuse(g);
	REQUIRE(!balloon_device_create(&g->host, config, &g->device, &err));
	g->virtio = balloon_device_virtio(g->device);
	g->virtio->ops->attach(g->virtio, NULL);
	return g;
}

void rig_free(struct rig *g)
{
	balloon_device_destroy(&g->device);
	for (unsigned int i = 0; i < BALLOON_QUEUES; i++) {
		REQUIRE(!g->services[i]);
		free(g->privates[i]);
	}
	free(g->low);
	free(g->high);
	free(g);
}

void rig_negotiate(struct rig *g, uint64_t features)
{
	struct umbra_error err = { "" };

	if (g->virtio->ops->set_features(g->virtio, features, &err)) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
}

void rig_start(struct rig *g, unsigned int index, uint16_t size, uint16_t base)
{
	struct virtio_device *v = g->virtio;
	struct driver_layout layout = driver_ring_layout(size, 0, 0);
	uint64_t gpa = LOW_GPA + index * RING_BYTES, uva = gpa + UVA_OFFSET;
	struct driver_ring_config config = {
		.size = size,
		.shared = rig_at(g, gpa),
		.shared_addr = { gpa },
		.base = ring_position_split(base),
	};
	struct virtio_ring_addr addr = {
		.desc = { uva + layout.ring.desc },
		.avail = { uva + layout.ring.avail },
		.used = { uva + layout.ring.used },
	};
	int kick = KICK_FD(index), call = CALL_FD(index);
	struct umbra_error err = { "" };

	REQUIRE(layout.shared_bytes <= RING_BYTES);
	free(g->privates[index]);
	config.private = g->privates[index] = calloc(1, layout.private_bytes);
	REQUIRE(config.private && !driver_ring_init(&g->rings[index], &config));
	if (v->ops->ring_set_size(v, index, size, &err) || ring_set_base_at(v, index, base, &err) ||
	    v->ops->ring_set_addr(v, index, &addr, &err) ||
	    v->ops->ring_set_call(v, index, &call, &err) ||
	    v->ops->ring_set_kick(v, index, &kick, &err) ||
	    v->ops->ring_enable(v, index, true, &err)) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
}

void rig_stop(struct rig *g, unsigned int index, uint16_t *base)
{
	struct umbra_error err = { "" };

	REQUIRE(!ring_stop_at(g->virtio, index, base, &err));
	REQUIRE(!g->services[index]);
}

/* --- the host's thread ----------------------------------------------------------- */

bool rig_pass(struct rig *g, unsigned int index)
{
	struct queue_service *s = g->services[index];
	unsigned int owed = 0;
	int actions;

	if (!s || s->broken || !g->ready[index])
		return false;
	for (unsigned int i = 0; i < BALLOON_QUEUES; i++)
		if (g->privates[i])
			g->used_before[i] = shm_load16(&g->rings[i].split.used->idx);
	actions = s->pass(s->queue, &owed);
	if (actions < 0) {
		s->broken = true;
		g->virtio->ops->check_queues(g->virtio);
		actions = (int)owed;
	}
	if (actions & QUEUE_CALL_GUEST)
		g->calls[index]++;
	g->ready[index] = actions & QUEUE_MORE;
	return g->ready[index];
}

void rig_run(struct rig *g)
{
	bool again = true;

	while (again) {
		again = false;
		for (unsigned int i = 0; i < BALLOON_QUEUES; i++)
			again |= rig_pass(g, i);
	}
}

/* --- the driver's part -------------------------------------------------------------- */

void rig_send(struct rig *g, unsigned int index, const void *bytes, size_t size, uint64_t *status)
{
	struct driver_seg segs[2] = { { .addr = { rig_put(g, bytes, size) },
					.len = (uint32_t)size } };

	if (status) {
		*status = buffer_take(g, PAGE_RUN_STATUS_BYTES);
		memset(rig_at(g, *status), 0xee, PAGE_RUN_STATUS_BYTES);
		segs[1] = (struct driver_seg){ .addr = { *status },
					       .len = PAGE_RUN_STATUS_BYTES,
					       .writable = 1 };
	}
	REQUIRE(driver_ring_add(&g->rings[index], segs, status ? 2 : 1, 0) == 1);
	driver_ring_publish(&g->rings[index]);
	if (driver_ring_must_kick(&g->rings[index]))
		g->ready[index] = true;
}

unsigned int rig_get(struct rig *g, unsigned int index, uint32_t *len)
{
	struct driver_done done;
	unsigned int count = 0;
	int rc;

	while ((rc = driver_ring_get(&g->rings[index], &done)) > 0) {
		*len = done.len;
		count++;
	}
	REQUIRE(rc == 0);
	return count;
}
