/* SPDX-License-Identifier: BSD-2-Clause */
/* A guest, a shadow device, and a disk behind a simulated kernel: see vdpa_rig.h. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "vdpa_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/shm.h"
#include "host/mapping.h"
#include "host/notifier.h"
#include "open_fds.h"
#include "vhost_user/protocol.h"

#define UVA 0x7f0000000000ull
#define DEADLINE_MS 100u
#define TIMEOUT_MS 10000u

/* Region 0, per queue: the ring, then requests; region 1: their answers. */
#define QUEUE_BYTES (RIG_REGION_BYTES / RIG_QUEUES)
#define REQUESTS_AT (256u << 10)
#define REQUEST_BYTES 128u
#define REQUESTS 1024u /* as many places for them as the largest ring has entries */

#define GUEST_FEATURES                                                                             \
	(BIT64(VIRTIO_F_VERSION_1) | BIT64(VIRTIO_RING_F_EVENT_IDX) |                              \
	 BIT64(VIRTIO_RING_F_INDIRECT_DESC) | BIT64(VHOST_USER_F_PROTOCOL_FEATURES))
#define PROTOCOL                                                                                   \
	(BIT64(VHOST_USER_PROTOCOL_F_MQ) | BIT64(VHOST_USER_PROTOCOL_F_CONFIG) |                   \
	 BIT64(VHOST_USER_PROTOCOL_F_STATUS))

/* --- what must not leak --------------------------------------------------- */

/* Memory files that are mapped. */
static unsigned int count_mappings(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned int n = 0;
	char line[1024];

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps))
		n += strstr(line, "memfd:") != NULL;
	fclose(maps);
	return n;
}

/* --- the disk ------------------------------------------------------------- */

static struct rig *rig_of_sim(struct vdpa_sim *sim)
{
	return (struct rig *)(void *)((char *)sim - offsetof(struct rig, sim));
}

/* Memory as the device sees it. */
static struct memory *disk_memory(struct rig *rig)
{
	struct memory_region table[SIM_MAPS_MAX];
	struct umbra_error err;
	struct memory *m;

	assert_true(rig->sim.maps_in_device);
	for (unsigned int i = 0; i < rig->sim.map_count; i++) {
		const struct sim_map *map = &rig->sim.maps[i];

		table[i] = (struct memory_region){
			.gpa = { map->iova },
			.uva = { map->iova },
			.size = map->size,
			.host = (uint8_t *)(uintptr_t)map->uaddr,
		};
	}
	assert_int_equal(memory_create(table, rig->sim.map_count, &m, &err), 0);
	return m;
}

static uint8_t *disk_sees(const struct memory *m, uint64_t iova, uint64_t size)
{
	unsigned int hint = 0;
	uint8_t *host = memory_host(m, &hint, (gpa_t){ iova }, size);

	assert_non_null(host);
	return host;
}

/* Has the device been reset since ring @q was opened?  Then what it had is lost. */
static void disk_notice_reset(struct rig *rig, struct rig_queue *q)
{
	if (!q->is_open || q->life == rig->sim.resets)
		return;
	q->is_open = false;
	q->lost += q->held_count;
	q->held_count = 0;
}

/* Strict as vdpa_sim is: the used ring is taken up where avail begins. */
static void disk_open(struct rig *rig, unsigned int queue, const struct memory *m)
{
	const struct sim_vring *told = &rig->sim.rings[queue];
	struct rig_queue *q = &rig->queues[queue];
	struct device_ring_config config = {
		.split = {
			.desc = (void *)disk_sees(m, told->desc, split_desc_bytes(told->size)),
			.avail = (void *)disk_sees(m, told->avail, split_avail_bytes(told->size)),
			.used = (void *)disk_sees(m, told->used, split_used_bytes(told->size)),
			.size = (uint16_t)told->size,
		},
		.memory = m,
		.features = rig->sim.acked,
		.at = ring_position_split(told->base),
	};

	assert_true(told->size <= ARRAY_SIZE(q->segs));
	assert_int_equal(shm_load16(&config.split.used->idx), told->base);
	device_ring_init(&q->ring, &config);
	q->is_open = true;
	q->has_heard = false;
	q->life = rig->sim.resets;
}

static void pattern_write(uint8_t *at, uint64_t serial, uint64_t key)
{
	for (unsigned int i = 0; i < REQUEST_BYTES; i += 8) {
		uint64_t word = (serial + i) ^ key;

		memcpy(at + i, &word, 8);
	}
}

static void pattern_check(const uint8_t *at, uint64_t serial, uint64_t key)
{
	uint8_t expected[REQUEST_BYTES];

	pattern_write(expected, serial, key);
	assert_memory_equal(at, expected, REQUEST_BYTES);
}

/* The keys of requests and answers. */
static uint64_t key_of(unsigned int queue, bool answer)
{
	return (answer ? 0xa5a5ull << 48 : 0x5a5aull << 48) | queue;
}

static void disk_accept(struct rig *rig, unsigned int queue, const struct memory *m,
			const struct ring_chain *chain)
{
	struct rig_queue *q = &rig->queues[queue];
	struct rig_held *h = &q->held[q->held_count++];
	uint8_t *request;

	assert_true(q->held_count <= RIG_HELD_MAX);
	assert_int_equal(chain->count, 2);
	assert_int_equal(chain->segs[0].len, REQUEST_BYTES);
	assert_int_equal(chain->segs[1].len, REQUEST_BYTES);
	request = disk_sees(m, chain->segs[0].addr.v, REQUEST_BYTES);
	*h = (struct rig_held){ .head = chain->head, .answer_at = chain->segs[1].addr.v };
	memcpy(&h->serial, request, 8);
	h->serial ^= key_of(queue, false);
	pattern_check(request, h->serial, key_of(queue, false));
}

static void disk_call(struct rig *rig, unsigned int queue)
{
	if (rig->sim.rings[queue].call_fd >= 0)
		assert_int_equal(eventfd_write(rig->sim.rings[queue].call_fd, 1), 0);
}

static void disk_use_held(struct rig *rig, unsigned int queue, const struct memory *m)
{
	struct rig_queue *q = &rig->queues[queue];

	for (unsigned int i = 0; i < q->held_count; i++) {
		const struct rig_held *h = &q->held[i];

		pattern_write(disk_sees(m, h->answer_at, REQUEST_BYTES), h->serial,
			      key_of(queue, true));
		device_ring_complete(&q->ring, h->head, REQUEST_BYTES);
	}
	if (!q->held_count)
		return;
	q->held_count = 0;
	device_ring_publish(&q->ring);
	if (device_ring_must_call(&q->ring))
		disk_call(rig, queue);
}

/* Take what it was kicked for.  True: there was something. */
static bool disk_take(struct rig *rig, unsigned int queue, const struct memory *m)
{
	struct rig_queue *q = &rig->queues[queue];
	struct ring_chain chain = { .segs = q->segs };
	bool any = false;

	q->has_heard |= vdpa_sim_kicks(&rig->sim, queue) != 0;
	while (q->has_heard) {
		int rc = device_ring_take(&q->ring, &chain);

		assert_true(rc >= 0); /* nobody gives it a wrong address */
		if (rc)
			disk_accept(rig, queue, m, &chain);
		else
			q->has_heard = device_ring_arm(&q->ring);
		any |= rc;
	}
	return any;
}

/* What a running device does of its own accord; @finish: with what it holds, too. */
static bool disk_run(struct rig *rig, bool finish)
{
	struct vdpa_sim *sim = &rig->sim;
	struct memory *m;
	bool any = false;

	for (unsigned int i = 0; i < RIG_QUEUES; i++)
		disk_notice_reset(rig, &rig->queues[i]);
	if (!(sim->status & VIRTIO_CONFIG_S_DRIVER_OK) || sim->suspended)
		return false;
	m = disk_memory(rig);
	for (unsigned int i = 0; i < RIG_QUEUES; i++) {
		struct rig_queue *q = &rig->queues[i];

		if (!sim->rings[i].ready)
			continue;
		if (!q->is_open)
			disk_open(rig, i, m);
		q->ring.memory = m;
		q->ring.memory_hint = q->ring.table_hint = 0;
		any |= !rig->sleeps && disk_take(rig, i, m);
		if (finish)
			disk_use_held(rig, i, m);
	}
	memory_unref(&m);
	return any;
}

/* Before each system call: the kernel knows where the device is, and one that is
 * suspended uses first what it has taken. */
static void disk_hears(struct vdpa_sim *sim, unsigned long request)
{
	struct rig *rig = rig_of_sim(sim);

	if (rig->before)
		rig->before(rig, request);
	for (unsigned int i = 0; i < RIG_QUEUES; i++)
		disk_notice_reset(rig, &rig->queues[i]);
	if (request == VHOST_VDPA_SUSPEND && sim->status & VIRTIO_CONFIG_S_DRIVER_OK)
		disk_run(rig, true);
	for (unsigned int i = 0; i < RIG_QUEUES; i++)
		if (rig->queues[i].is_open)
			sim->rings[i].base = rig->queues[i].ring.last_avail;
}

void rig_lie_used(struct rig *rig, unsigned int queue, uint32_t id)
{
	struct rig_queue *q = &rig->queues[queue];
	const struct split_ring *s = &q->ring.split;
	uint16_t idx = shm_load16(&s->used->idx);

	assert_true(q->is_open && q->held_count);
	device_ring_complete(&q->ring, q->held[0].head, 0);
	q->held_count--;
	memmove(&q->held[0], &q->held[1], q->held_count * sizeof(q->held[0]));
	s->used->ring[idx % s->size].id = le32_from(id);
	device_ring_publish(&q->ring);
	disk_call(rig, queue);
}

/* --- the host ------------------------------------------------------------- */

/* Meanwhile the disk gets on. */
static void host_waits(struct sim_host *host)
{
	disk_run((struct rig *)(void *)((char *)host - offsetof(struct rig, host)), true);
}

static struct rig *own_rig;
static void (*own_release)(struct memory_backing *backing);

static void own_is_released(struct memory_backing *backing)
{
	own_rig->own_memories--;
	own_release(backing);
}

static int host_make_memory(struct shadow_host *shadow, uint64_t size, struct memory_region *out,
			    struct umbra_error *err)
{
	int rc = mapping_create_own(size, out, err);

	if (rc)
		return rc;
	own_rig = (struct rig *)(void *)((char *)shadow - offsetof(struct rig, host.shadow));
	own_rig->own_memories++;
	own_release = out->backing->release;
	out->backing->release = own_is_released;
	return 0;
}

static int eventfd_make(struct sim_host *host, int *out, struct umbra_error *err)
{
	(void)host;
	*out = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return *out < 0 ? error_set(err, -errno, "eventfd: %s", strerror(errno)) : 0;
}

static void eventfd_notify(struct sim_host *host, int fd)
{
	struct notifier n = notifier_make(fd);

	(void)host;
	notifier_send(&n);
}

static bool eventfd_was_notified(struct sim_host *host, int fd)
{
	eventfd_t value;

	(void)host;
	return fd >= 0 && !eventfd_read(fd, &value);
}

static const struct sim_fds eventfds = {
	.make = eventfd_make,
	.notify = eventfd_notify,
	.was_notified = eventfd_was_notified,
};

/* --- the guest ------------------------------------------------------------ */

static uint64_t request_offset(unsigned int queue, uint64_t serial)
{
	return queue * QUEUE_BYTES + REQUESTS_AT + serial % REQUESTS * REQUEST_BYTES;
}

void rig_ask(struct rig *rig, unsigned int queue, unsigned int count)
{
	struct rig_queue *q = &rig->queues[queue];

	for (unsigned int i = 0; i < count; i++) {
		uint64_t serial = q->added++, at = request_offset(queue, serial);
		const struct driver_seg segs[] = {
			{ { rig->regions[0].gpa.v + at }, REQUEST_BYTES, false },
			{ { rig->regions[1].gpa.v + at }, REQUEST_BYTES, true },
		};

		pattern_write(rig->regions[0].host + at, serial, key_of(queue, false));
		memset(rig->regions[1].host + at, 0, REQUEST_BYTES);
		assert_int_equal(driver_ring_add(&q->driver, segs, 2, serial), 1);
	}
	driver_ring_publish(&q->driver);
	if (driver_ring_must_kick(&q->driver))
		assert_int_equal(eventfd_write(q->kick_fd, 1), 0);
}

/* Answers come in order, and once. */
static void guest_get(struct rig *rig, unsigned int queue)
{
	struct rig_queue *q = &rig->queues[queue];
	struct driver_done done;

	q->is_awake |= eventfd_was_notified(&rig->host, q->call_fd);
	while (q->is_awake) {
		int rc = driver_ring_get(&q->driver, &done);

		assert_true(rc >= 0);
		if (!rc) {
			q->is_awake = driver_ring_arm(&q->driver);
			continue;
		}
		assert_int_equal(done.token, q->got);
		assert_int_equal(done.len, REQUEST_BYTES);
		pattern_check(rig->regions[1].host + request_offset(queue, q->got), q->got,
			      key_of(queue, true));
		q->got++;
	}
}

void rig_run(struct rig *rig)
{
	bool again;

	do {
		again = disk_run(rig, !rig->holds);
		again |= sim_host_serve(&rig->host);
	} while (again);
	rig->front->ops->check_queues(rig->front);
	for (unsigned int i = 0; i < RIG_QUEUES; i++)
		if (rig->queues[i].private)
			guest_get(rig, i);
}

uint64_t rig_open_requests(const struct rig *rig, unsigned int queue)
{
	return rig->queues[queue].added - rig->queues[queue].got;
}

void rig_expect_served(struct rig *rig, unsigned int queue, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		rig_ask(rig, queue, 1);
		rig_run(rig);
		assert_int_equal(rig_open_requests(rig, queue), 0);
	}
}

/* --- the front-end -------------------------------------------------------- */

static void on_config_changed(void *opaque)
{
	((struct rig *)opaque)->host.configs_changed++;
}

void rig_attach(struct rig *rig)
{
	const struct backend_listener listener = {
		.opaque = rig,
		.config_changed = on_config_changed,
	};

	assert_int_equal(vhost_vdpa_open("/dev/simulated", &rig->sim.system, -1, TIMEOUT_MS,
					 &rig->backend, &rig->err),
			 0);
	rig->backend->ops->listen(rig->backend, &listener);
	rig->front->ops->attach(rig->front, rig->backend);
}

void rig_detach(struct rig *rig, const char *lost)
{
	if (!rig->backend)
		return;
	rig->front->ops->detach(rig->front);
	rig->backend->ops->destroy(rig->backend);
	rig->backend = NULL;
	shadow_device_await(rig->device, lost);
	assert_int_equal(rig->sim.node_fd, -1);
	assert_int_equal(rig->sim.map_count, 0);
	assert_int_equal(rig->own_memories, 0);
	for (unsigned int i = 0; i < rig->region_count; i++)
		assert_int_equal(rig->regions[i].backing->refs, 1);
	for (unsigned int i = 0; i < RIG_QUEUES; i++) {
		struct rig_queue *q = &rig->queues[i];

		assert_null(rig->host.services[i]);
		q->is_open = false;
		q->held_count = 0;
	}
}

int rig_negotiate(struct rig *rig)
{
	struct virtio_device *d = rig->front;
	uint64_t offered;

	assert_int_equal(d->ops->get_features(d, &offered, &rig->err), 0);
	assert_int_equal(offered & GUEST_FEATURES, GUEST_FEATURES);
	assert_int_equal(d->ops->set_protocol_features(d, PROTOCOL, &rig->err), 0);
	return d->ops->set_features(d, GUEST_FEATURES, &rig->err);
}

int rig_tell_memory(struct rig *rig, unsigned int count)
{
	assert_true(count <= rig->region_count);
	return rig->front->ops->set_memory(rig->front, rig->regions, count, &rig->err);
}

static void queue_drop(struct rig_queue *q)
{
	fd_close(&q->kick_fd);
	fd_close(&q->call_fd);
	fd_close(&q->err_fd);
	free(q->private);
	q->private = NULL;
}

void rig_queue_make(struct rig *rig, unsigned int queue, uint16_t size)
{
	/* Without tables, so that there is place for the largest ring. */
	uint64_t features = GUEST_FEATURES & ~BIT64(VIRTIO_RING_F_INDIRECT_DESC);
	struct driver_layout l = driver_ring_layout(size, features, 0);
	struct rig_queue *q = &rig->queues[queue];
	struct driver_ring_config config = {
		.size = size,
		.features = features,
		.shared = rig->regions[0].host + queue * QUEUE_BYTES,
		.shared_addr = { rig->regions[0].gpa.v + queue * QUEUE_BYTES },
	};

	queue_drop(q);
	assert_true(l.shared_bytes <= REQUESTS_AT);
	q->size = size;
	q->private = aligned_alloc(64, align_up(l.private_bytes, 64));
	assert_non_null(q->private);
	config.private = q->private;
	assert_int_equal(driver_ring_init(&q->driver, &config), 0);
	q->added = q->got = 0;
	q->is_awake = false;
}

int rig_ring_start(struct rig *rig, unsigned int queue, uint16_t base)
{
	struct virtio_device *d = rig->front;
	struct rig_queue *q = &rig->queues[queue];
	struct split_offsets o = split_offsets(q->size);
	uint64_t at = rig->regions[0].uva.v + queue * QUEUE_BYTES;
	int kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int broken = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int rc;

	fd_close(&q->kick_fd);
	fd_close(&q->call_fd);
	fd_close(&q->err_fd);
	q->kick_fd = fcntl(kick, F_DUPFD_CLOEXEC, 0);
	q->call_fd = fcntl(call, F_DUPFD_CLOEXEC, 0);
	q->err_fd = fcntl(broken, F_DUPFD_CLOEXEC, 0);
	assert_true(q->kick_fd >= 0 && q->call_fd >= 0 && q->err_fd >= 0);
	assert_int_equal(d->ops->ring_set_size(d, queue, q->size, &rig->err), 0);
	assert_int_equal(ring_set_base_at(d, queue, base, &rig->err), 0);
	assert_int_equal(d->ops->ring_set_addr(d, queue,
					       &(struct virtio_ring_addr){ { at + o.desc },
									   { at + o.avail },
									   { at + o.used } },
					       &rig->err),
			 0);
	assert_int_equal(d->ops->ring_set_call(d, queue, &call, &rig->err), 0);
	assert_int_equal(d->ops->ring_set_err(d, queue, &broken, &rig->err), 0);
	rc = d->ops->ring_set_kick(d, queue, &kick, &rig->err);
	if (!rc)
		rc = d->ops->ring_enable(d, queue, true, &rig->err);
	fd_close(&kick);
	fd_close(&call);
	fd_close(&broken);
	return rc;
}

void rig_pause(struct rig *rig)
{
	int ms = shadow_device_tend_ms(rig->device);

	if (ms < 0)
		return;
	rig->host.now_us += (uint64_t)ms * 1000;
	shadow_device_tend(rig->device);
}

void rig_boot(struct rig *rig, uint16_t size)
{
	assert_int_equal(rig_negotiate(rig), 0);
	assert_int_equal(rig_tell_memory(rig, 2), 0);
	for (unsigned int i = 0; i < RIG_QUEUES; i++) {
		rig_queue_make(rig, i, size);
		assert_int_equal(rig_ring_start(rig, i, 0), 0);
	}
	rig_pause(rig);
}

int rig_dispatch(struct rig *rig)
{
	int fds[BACKEND_FDS_MAX];
	unsigned int count = rig->backend->ops->fds(rig->backend, fds);

	for (unsigned int i = 0; i < count; i++) {
		struct pollfd p = { .fd = fds[i], .events = POLLIN };
		int rc = poll(&p, 1, 0) > 0
				 ? rig->backend->ops->dispatch(rig->backend, i, &rig->err)
				 : 0;

		if (rc)
			return rc;
	}
	return 0;
}

/* --- all ------------------------------------------------------------------ */

struct memory_region *rig_region_add(struct rig *rig, uint64_t gpa)
{
	struct memory_region *r = &rig->regions[rig->region_count++];

	assert_true(rig->region_count <= RIG_REGIONS_MAX);
	assert_int_equal(mapping_create_own(RIG_REGION_BYTES, r, &rig->err), 0);
	r->gpa.v = r->iova.v = gpa;
	r->uva.v = UVA + rig->region_count * 16 * RIG_REGION_BYTES;
	return r;
}

void rig_init(struct rig *rig)
{
	memset(rig, 0, sizeof(*rig));
	rig->fds = open_fds();
	rig->mappings = count_mappings();
	sim_host_init(&rig->host, &eventfds);
	rig->host.ops.make_memory = host_make_memory;
	rig->host.while_waiting = host_waits;
	vdpa_sim_init(&rig->sim);
	rig->sim.features |= BIT64(VIRTIO_RING_F_EVENT_IDX) | BIT64(VIRTIO_RING_F_INDIRECT_DESC);
	rig->sim.ring_count = RIG_QUEUES;
	rig->sim.before = disk_hears;
	for (unsigned int i = 0; i < RIG_QUEUES; i++)
		rig->queues[i].kick_fd = rig->queues[i].call_fd = rig->queues[i].err_fd = -1;
	assert_int_equal(shadow_device_create(&rig->host.shadow, UMBRA_SHADOW_AUTO, DEADLINE_MS,
					      &rig->device),
			 0);
	rig->front = shadow_device_virtio(rig->device);
}

void rig_fini(struct rig *rig)
{
	rig_detach(rig, NULL);
	shadow_device_destroy(&rig->device);
	sim_host_fini(&rig->host);
	for (unsigned int i = 0; i < RIG_QUEUES; i++)
		queue_drop(&rig->queues[i]);
	for (unsigned int i = 0; i < rig->region_count; i++)
		memory_backing_unref(rig->regions[i].backing);
	assert_int_equal(open_fds(), rig->fds);
	assert_int_equal(count_mappings(), rig->mappings);
}
