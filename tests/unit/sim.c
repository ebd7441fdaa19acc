/* SPDX-License-Identifier: BSD-2-Clause */
/* Simulated host, back-end and guest: see sim.h. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "sim.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/shm.h"

#define DATA_OFFSET (2ull << 20) /* in a queue's slot of guest memory */
#define SEG_BYTES 64u

/* --- host ------------------------------------------------------------------ */

static struct sim *sim_of_host(struct sim_host *host)
{
	return (struct sim *)(void *)((char *)host - offsetof(struct sim, host));
}

static void sim_waits(struct sim_host *host)
{
	struct sim *sim = sim_of_host(host);

	if (sim->while_waiting)
		sim->while_waiting(sim);
}

void sim_run(struct sim *sim)
{
	while (sim_host_serve(&sim->host))
		;
	sim->front->ops->check_queues(sim->front);
}

uint64_t sim_notified(const struct sim *sim, int fd)
{
	return sim_host_notified(&sim->host, fd);
}

/* --- back-end ---------------------------------------------------------------- */

static int backend_get_features(struct virtio_device *b, uint64_t *features,
				struct umbra_error *err)
{
	(void)err;
	*features = sim_of(b)->features;
	return 0;
}

static int backend_set_features(struct virtio_device *b, uint64_t features, struct umbra_error *err)
{
	(void)err;
	sim_of(b)->accepted = features;
	return 0;
}

static int backend_get_queue_num(struct virtio_device *b, uint64_t *count, struct umbra_error *err)
{
	*count = sim_of(b)->queue_num;
	return *count ? 0 : error_set(err, -EOPNOTSUPP, "simulated: no MQ");
}

static int backend_get_slots(struct virtio_device *b, uint64_t *count, struct umbra_error *err)
{
	*count = sim_of(b)->slots;
	return *count ? 0 : error_set(err, -EOPNOTSUPP, "simulated: no memory slots");
}

/* Rings that run go on in the new table, as libvhost-user's do. */
static void backend_memory_replace(struct sim *sim, struct memory *m)
{
	memory_unref(&sim->backend_memory);
	sim->backend_memory = m;
	for (unsigned int i = 0; i < SIM_QUEUES; i++) {
		sim->queues[i].device.memory = m;
		sim->queues[i].device.memory_hint = 0;
	}
}

/* The device's addresses are what its descriptors have. */
static struct memory_region as_seen(const struct sim *sim, const struct memory_region *region)
{
	struct memory_region seen = *region;

	if (sim->backend.traits & BACKEND_MAPS)
		seen.gpa.v = region->iova.v;
	return seen;
}

static int backend_set_memory(struct virtio_device *b, const struct memory_region *regions,
			      unsigned int count, struct umbra_error *err)
{
	struct sim *sim = sim_of(b);
	struct memory_region table[16];
	struct memory *m;
	int rc;

	if (sim->fail_memory_code)
		return error_set(err, sim->fail_memory_code, "simulated: no memory for you");
	assert_true(count <= ARRAY_SIZE(table));
	for (unsigned int i = 0; i < count; i++)
		table[i] = as_seen(sim, &regions[i]);
	rc = memory_create(table, count, &m, err);
	if (!rc)
		backend_memory_replace(sim, m);
	sim->tables++;
	return rc;
}

static int backend_add_region(struct virtio_device *b, const struct memory_region *region,
			      struct umbra_error *err)
{
	struct sim *sim = sim_of(b);
	struct memory_region table[16];
	struct memory *m;
	unsigned int count = 0;
	int rc;

	sim->adds++;
	if (sim->fail_add && !--sim->fail_add)
		return error_set(err, sim->fail_add_code, "simulated: no region for you");
	if (sim->backend_memory) {
		count = sim->backend_memory->count;
		memcpy(table, sim->backend_memory->regions, count * sizeof(*table));
	}
	assert_true(count < 16);
	table[count++] = as_seen(sim, region);
	rc = memory_create(table, count, &m, err);
	if (rc)
		return rc;
	backend_memory_replace(sim, m);
	return 0;
}

static int backend_remove_region(struct virtio_device *b, const struct memory_region *region,
				 struct umbra_error *err)
{
	struct sim *sim = sim_of(b);
	struct memory_region table[16];
	struct memory *m;
	unsigned int count = 0;
	int rc;

	sim->removes++;
	for (unsigned int i = 0; i < sim->backend_memory->count; i++)
		if (sim->backend_memory->regions[i].gpa.v != as_seen(sim, region).gpa.v)
			table[count++] = sim->backend_memory->regions[i];
	rc = memory_create(table, count, &m, err);
	if (rc)
		return rc;
	backend_memory_replace(sim, m);
	return 0;
}

void sim_ring_open(struct sim *sim, struct sim_queue *q)
{
	const struct virtio_ring *ring = &q->told;
	struct device_ring_config config = {
		.split = {
			.desc = (void *)memory_host_uva(sim->backend_memory, ring->addr.desc,
							split_desc_bytes(ring->size)),
			.avail = (void *)memory_host_uva(sim->backend_memory, ring->addr.avail,
							 split_avail_bytes(ring->size)),
			.used = (void *)memory_host_uva(sim->backend_memory, ring->addr.used,
							split_used_bytes(ring->size)),
			.size = ring->size,
		},
		.memory = sim->backend_memory,
		.features = sim->accepted,
		.at = ring->base,
	};

	assert_non_null(config.split.desc);
	assert_non_null(config.split.avail);
	assert_non_null(config.split.used);
	config.at.used = shm_load16(&config.split.used->idx);
	/* What it still holds must go on as the same chains. */
	assert_int_equal(ring_outstanding(config.at, ring->size), q->held_count);
	device_ring_init(&q->device, &config);
	q->started = true;
	q->awake = false;
	q->kicks_heard = sim_notified(sim, ring->kick_fd);
	q->enabled = ring->enabled;
	q->starts++;
}

static int backend_ring_start(struct virtio_device *b, unsigned int index,
			      const struct virtio_ring *ring, struct umbra_error *err)
{
	struct sim *sim = sim_of(b);
	struct sim_queue *q = &sim->queues[index];

	assert_true(index < SIM_QUEUES);
	assert_false(q->started);
	assert_true(sim->accepted & BIT64(VIRTIO_F_VERSION_1)); /* it would be a legacy driver's */
	if (sim->fail_start && --sim->fail_start == 0) {
		sim->fail_start = sim->fail_start_again;
		return error_set(err, sim->fail_start_code, "simulated: queue %u does not start",
				 index);
	}
	vhost_user_hush_note(&sim->hush, index, ring->kick_fd);
	if (b->traits & BACKEND_RUNS_AS_ONE)
		return sim_whole_ring_start(sim, index, ring, err);
	q->told = *ring;
	sim_ring_open(sim, q);
	return 0;
}

/* Of the ENABLE family: is a kick there that wakes a thread of it? */
static bool has_kick(const struct sim *sim, const struct sim_queue *q)
{
	return q->kicks_heard != sim_notified(sim, q->told.kick_fd);
}

/* As the family does. */
static void ring_close(struct sim *sim, unsigned int index)
{
	struct sim_queue *q = &sim->queues[index];

	switch (sim->hush.way) {
	case HUSH_NOT:
		while (q->held_count && !sim->answers_at_once)
			sim_backend_complete(sim, index, 0);
		break;
	case HUSH_BY_KICK: /* answer at once, complete what is held later */
		break;
	case HUSH_BY_ENABLE:
		assert_false(q->awake);
		assert_false(!sim->hush.leaves_kicks && has_kick(sim, q));
		break;
	}
	q->started = false;
	q->stops++;
}

static int backend_ring_stop(struct virtio_device *b, unsigned int index,
			     struct ring_position *base, struct umbra_error *err)
{
	struct sim *sim = sim_of(b);
	struct sim_queue *q = &sim->queues[index];

	assert_true(q->started || q->noted);
	if (sim->fail_stop && --sim->fail_stop == 0) {
		q->noted = q->must_stop = false;
		return error_set(err, sim->fail_stop_code, "simulated: ring %u does not stop",
				 index);
	}
	vhost_user_hush_note(&sim->hush, index, -1);
	if (b->traits & BACKEND_RUNS_AS_ONE)
		return sim_whole_ring_stop(sim, index, base, err);
	ring_close(sim, index);
	*base = ring_position_split(
		(uint16_t)(q->device.last_avail + (sim->honest & 1u << index ? 0 : sim->base_lie)));
	return 0;
}

static int backend_ring_enable(struct virtio_device *b, unsigned int index, bool enabled,
			       struct umbra_error *err)
{
	(void)err;
	assert_false(b->traits & BACKEND_RUNS_AS_ONE);
	sim_of(b)->queues[index].enabled = enabled;
	return 0;
}

/* It has let go of the one that it had before it looks at the new one. */
static bool refuses_fd(struct sim *sim, int *slot)
{
	if (!sim->fail_fds)
		return false;
	sim->fail_fds--;
	*slot = -1;
	return true;
}

static int ring_exchange_kick(struct virtio_device *b, unsigned int index, int fd,
			      struct umbra_error *err)
{
	struct sim *sim = sim_of(b);
	struct sim_queue *q = &sim->queues[index];

	assert_int_equal(sim->hush.way, HUSH_BY_KICK); /* others do not bear it */
	if (refuses_fd(sim, &q->told.kick_fd))
		return error_set(err, -EREMOTEIO, "queue %u: simulated: no such fd", index);
	if (b->traits & BACKEND_RUNS_AS_ONE) /* what came on the old one has been heard */
		q->awake |= has_kick(sim, q);
	else if (q->awake && sim->before_answer) /* it is in the midst of a kick's work */
		sim->before_answer(sim, index);
	else if (q->awake)
		sim_backend_take(sim, index, SIM_HELD_MAX);
	q->kicks_heard = sim_notified(sim, fd);
	q->told.kick_fd = fd;
	return 0;
}

static int backend_ring_exchange(struct virtio_device *b, unsigned int index,
				 enum virtio_ring_fd which, int fd, struct umbra_error *err)
{
	struct virtio_ring *told = &sim_of(b)->queues[index].told;
	int *slot = which == VIRTIO_RING_CALL ? &told->call_fd : &told->err_fd;
	int rc;

	if (which == VIRTIO_RING_KICK) {
		rc = ring_exchange_kick(b, index, fd, err);
		if (!rc)
			vhost_user_hush_note(&sim_of(b)->hush, index, fd);
		return rc;
	}
	if (refuses_fd(sim_of(b), slot))
		return error_set(err, -EREMOTEIO, "queue %u: simulated: no such fd", index);
	*slot = fd;
	return 0;
}

/* --- it is hushed as the vhost-user client does it -------------------------------- */

static int hush_set_kick(void *opaque, unsigned int index, int fd, struct umbra_error *err)
{
	return ring_exchange_kick(&((struct sim *)opaque)->backend, index, fd, err);
}

static int hush_set_enabled(void *opaque, unsigned int index, bool enabled, struct umbra_error *err)
{
	return backend_ring_enable(&((struct sim *)opaque)->backend, index, enabled, err);
}

static int hush_make_eventfd(void *opaque, int *fd, struct umbra_error *err)
{
	struct sim *sim = opaque;

	return sim->host.fds->make(&sim->host, fd, err);
}

static bool hush_is_heard(void *opaque, int fd)
{
	const struct sim *sim = opaque;

	for (unsigned int i = 0; i < SIM_QUEUES; i++) {
		const struct sim_queue *q = &sim->queues[i];

		if (q->started && q->told.kick_fd == fd && q->kicks_heard != sim_notified(sim, fd))
			return false;
	}
	return true;
}

static void hush_notify(void *opaque, int fd)
{
	struct sim *sim = opaque;

	sim->host.fds->notify(&sim->host, fd);
}

static const struct vhost_user_hush_means hush_means = {
	.set_kick = hush_set_kick,
	.set_enabled = hush_set_enabled,
	.make_eventfd = hush_make_eventfd,
	.notify = hush_notify,
	.is_heard = hush_is_heard,
};

static int backend_ring_hush(struct virtio_device *b, unsigned int index, bool is_fed,
			     struct umbra_error *err)
{
	return vhost_user_hush_begin(&sim_of(b)->hush, index, is_fed, err);
}

static int backend_ring_unhush(struct virtio_device *b, unsigned int index, struct umbra_error *err)
{
	return vhost_user_hush_end(&sim_of(b)->hush, index, err);
}

static enum ring_rest backend_ring_rest(const struct virtio_device *b, unsigned int index)
{
	return vhost_user_hush_rest(&sim_of((struct virtio_device *)b)->hush, index);
}

static int backend_ring_sound(struct virtio_device *b, unsigned int index, struct umbra_error *err)
{
	return vhost_user_hush_sound(&sim_of(b)->hush, index, err);
}

static bool backend_ring_presume_rest(struct virtio_device *b, unsigned int index,
				      uint64_t waited_ms)
{
	return vhost_user_hush_presume(&sim_of(b)->hush, index, waited_ms);
}

void sim_hush_by(struct sim *sim, enum hush_way way)
{
	sim->hush.way = way;
	sim->backend.traits &= ~BACKEND_HEARS_NEW_KICKS;
	if (way == HUSH_BY_KICK)
		sim->backend.traits |= BACKEND_HEARS_NEW_KICKS;
}

/* --- all that it is asked ------------------------------------------------------ */

static int backend_set_protocol(struct virtio_device *b, uint64_t features, struct umbra_error *err)
{
	(void)b;
	(void)features;
	(void)err;
	return 0;
}

/* All that it was told, but for the memory and what belongs to the connection. */
static void backend_forget(struct sim *sim)
{
	sim->accepted = 0;
	for (unsigned int i = 0; i < SIM_QUEUES; i++) {
		assert_false(sim->queues[i].started);
		sim->queues[i].told = (struct virtio_ring){ 0 };
		sim->queues[i].enabled = false;
	}
}

static int backend_set_status(struct virtio_device *b, uint8_t status, struct umbra_error *err)
{
	(void)err;
	assert_false(b->traits & BACKEND_RUNS_AS_ONE);
	if (!status)
		backend_forget(sim_of(b));
	return 0;
}

static int backend_reset_device(struct virtio_device *b, struct umbra_error *err)
{
	struct sim *sim = sim_of(b);

	assert_false(b->traits & BACKEND_RUNS_AS_ONE);
	backend_forget(sim);
	return sim->fail_reset_code ? error_set(err, sim->fail_reset_code, "simulated: no reset")
				    : 0;
}

static int backend_get_status(struct virtio_device *b, uint8_t *status, struct umbra_error *err)
{
	(void)err;
	assert_false(b->traits & BACKEND_RUNS_AS_ONE);
	*status = VIRTIO_CONFIG_S_DRIVER_OK;
	return 0;
}

static const struct virtio_ops backend_ops = {
	.kind = "simulated",
	.get_features = backend_get_features,
	.set_features = backend_set_features,
	.set_protocol_features = backend_set_protocol,
	.get_queue_num = backend_get_queue_num,
	.get_memory_slots = backend_get_slots,
	.set_memory = backend_set_memory,
	.add_region = backend_add_region,
	.remove_region = backend_remove_region,
	.ring_start = backend_ring_start,
	.ring_stop = backend_ring_stop,
	.ring_enable = backend_ring_enable,
	.ring_exchange = backend_ring_exchange,
	.ring_hush = backend_ring_hush,
	.ring_unhush = backend_ring_unhush,
	.ring_rest = backend_ring_rest,
	.ring_sound = backend_ring_sound,
	.ring_presume_rest = backend_ring_presume_rest,
	.set_status = backend_set_status,
	.get_status = backend_get_status,
	.reset = backend_reset_device,
};

void sim_bury(struct sim *sim)
{
	for (unsigned int i = 0; i < SIM_QUEUES; i++) {
		struct sim_queue *q = &sim->queues[i];

		q->started = q->awake = q->enabled = false;
		q->held_count = 0;
	}
	memory_unref(&sim->backend_memory);
	sim->accepted = 0;
}

unsigned int sim_backend_take(struct sim *sim, unsigned int queue, unsigned int max)
{
	struct sim_queue *q = &sim->queues[queue];
	struct ring_chain chain = { .segs = q->segs };
	bool is_by_round = sim->hush.way == HUSH_BY_ENABLE;
	unsigned int hint = 0, n = 0;

	/* One of the ENABLE family is busy with its round before it reads the next kick, and
	 * reads it in vain while the ring is disabled; but it ends a round that it is in. */
	if (q->started && has_kick(sim, q) && !(is_by_round && q->awake)) {
		q->kicks_heard = sim_notified(sim, q->told.kick_fd);
		q->awake = q->enabled;
	}
	while (q->started && (q->enabled || is_by_round) && q->awake && n < max &&
	       q->held_count < SIM_HELD_MAX) {
		struct sim_held *h = &q->held[q->held_count];
		int rc = device_ring_take(&q->device, &chain);

		assert_true(rc >= 0);
		if (!rc) {
			q->awake = device_ring_arm(&q->device);
			continue;
		}
		h->head = chain.head;
		h->writable = (uint32_t)chain.writable_bytes;
		h->asks = chain.readable;
		memcpy(&h->serial, memory_host(sim->backend_memory, &hint, chain.segs[0].addr, 8),
		       8);
		q->held_count++;
		n++;
		/* libvhost-user's way */
		if (!(sim->backend.traits & BACKEND_RUNS_AS_ONE) && sim->hush.way == HUSH_BY_KICK &&
		    q->device.event_idx)
			shm_store16(split_avail_event(&q->device.split), q->device.last_avail);
	}
	return n;
}

void sim_backend_complete(struct sim *sim, unsigned int queue, unsigned int which)
{
	struct sim_queue *q = &sim->queues[queue];

	assert_true(which < q->held_count);
	device_ring_complete(&q->device, q->held[which].head, q->held[which].writable);
	device_ring_publish(&q->device);
	if (device_ring_must_call(&q->device)) {
		/* A stopped one has let go of its call fd, and hangs up now. */
		assert_true(q->started || sim->hush.way != HUSH_BY_KICK || !q->held[which].asks ||
			    sim->is_silent);
		sim->host.fds->notify(&sim->host, q->started ? q->told.call_fd : -1);
	}
	memmove(&q->held[which], &q->held[which + 1],
		(q->held_count - which - 1) * sizeof(q->held[0]));
	q->held_count--;
}

/* --- guest ------------------------------------------------------------------- */

static uint64_t slot_offset(unsigned int queue)
{
	return queue * SIM_SLOT;
}

int sim_guest_add(struct sim *sim, unsigned int queue, unsigned int out, unsigned int in,
		  uint64_t serial)
{
	struct sim_queue *q = &sim->queues[queue];
	struct driver_seg segs[64];
	/* Data of one chain: a place by its serial, far enough apart. */
	uint64_t data = slot_offset(queue) + DATA_OFFSET + (serial % 256) * 64 * SEG_BYTES;
	int rc;

	assert_true(out + in <= 64 && out + in >= 1);
	for (unsigned int i = 0; i < out + in; i++)
		segs[i] = (struct driver_seg){
			.addr = { SIM_GPA + data + i * SEG_BYTES },
			.len = SEG_BYTES - (i ? 0 : (uint32_t)(serial % 8)),
			.writable = i >= out,
		};
	memcpy(sim->guest.host + data, &serial, sizeof(serial));
	rc = driver_ring_add(&q->driver, segs, out + in, serial);
	assert_true(rc >= 0);
	if (rc) {
		driver_ring_publish(&q->driver);
		if (driver_ring_must_kick(&q->driver))
			sim->host.fds->notify(&sim->host, q->kick_fd);
	}
	return rc;
}

int sim_guest_get(struct sim *sim, unsigned int queue, uint64_t *serial, uint32_t *len)
{
	struct sim_queue *q = &sim->queues[queue];
	struct driver_done done;
	int rc = 0;

	if (q->calls_heard != sim_notified(sim, q->call_fd)) {
		q->calls_heard = sim_notified(sim, q->call_fd);
		q->guest_awake = true;
	}
	while (q->guest_awake) {
		rc = driver_ring_get(&q->driver, &done);
		if (rc)
			break;
		q->guest_awake = driver_ring_arm(&q->driver);
	}
	assert_true(rc >= 0);
	if (rc) {
		assert_false(done.clamped);
		*serial = done.token;
		*len = done.len;
	}
	return rc;
}

/* --- all --------------------------------------------------------------------- */

struct sim *sim_new(enum umbra_shadow_mode mode, uint16_t size, uint64_t features)
{
	struct sim *sim = calloc(1, sizeof(*sim));

	assert_non_null(sim);
	sim_host_init(&sim->host, NULL);
	sim->host.while_waiting = sim_waits;
	sim->ops = backend_ops;
	sim->backend.ops = &sim->ops;
	vhost_user_hush_init(&sim->hush, &hush_means, sim);
	sim_hush_by(sim, HUSH_BY_KICK);
	sim->features = features;
	sim->queue_num = SIM_QUEUES;
	sim->slots = 8;
	sim->size = size;
	sim->guest = (struct memory_region){
		.gpa = { SIM_GPA },
		.uva = { SIM_UVA },
		.size = SIM_QUEUES * SIM_SLOT,
		.host = aligned_alloc(4096, SIM_QUEUES * SIM_SLOT),
	};
	assert_non_null(sim->guest.host);
	memset(sim->guest.host, 0, sim->guest.size);
	assert_int_equal(shadow_device_create(&sim->host.shadow, mode, 100, &sim->device), 0);
	sim->front = shadow_device_virtio(sim->device);
	sim->front->ops->attach(sim->front, &sim->backend);
	return sim;
}

void sim_free(struct sim *sim)
{
	shadow_device_destroy(&sim->device);
	sim_host_fini(&sim->host);
	for (unsigned int i = 0; i < SIM_QUEUES; i++)
		free(sim->queues[i].private);
	vhost_user_hush_fini(&sim->hush);
	memory_unref(&sim->backend_memory);
	free(sim->guest.host);
	free(sim);
}

void sim_pause(struct sim *sim)
{
	int ms = shadow_device_tend_ms(sim->device);

	if (ms < 0)
		return;
	sim->host.now_us += (uint64_t)ms * 1000;
	shadow_device_tend(sim->device);
}

struct virtio_ring_addr sim_ring_addr(const struct sim *sim, unsigned int queue)
{
	struct split_offsets o = split_offsets(sim->size);
	uint64_t at = SIM_UVA + slot_offset(queue);

	return (struct virtio_ring_addr){ { at + o.desc }, { at + o.avail }, { at + o.used } };
}

int sim_ring_start(struct sim *sim, unsigned int queue, uint16_t base)
{
	struct virtio_device *d = sim->front;
	struct sim_queue *q = &sim->queues[queue];
	const struct virtio_ring_addr addr = sim_ring_addr(sim, queue);
	struct umbra_error err = { "" };
	int kick, call, rc;

	q->kick_fd = sim->host.next_fd++;
	q->call_fd = sim->host.next_fd++;
	q->calls_heard = 0;
	assert_true(sim->host.next_fd < (int)SIM_FDS);
	kick = q->kick_fd;
	call = q->call_fd;
	assert_int_equal(d->ops->ring_set_size(d, queue, sim->size, &err), 0);
	assert_int_equal(ring_set_base_at(d, queue, base, &err), 0);
	assert_int_equal(d->ops->ring_set_addr(d, queue, &addr, &err), 0);
	assert_int_equal(d->ops->ring_set_call(d, queue, &call, &err), 0);
	rc = d->ops->ring_set_kick(d, queue, &kick, &err);
	if (rc)
		print_message("%s\n", err.text);
	if (!rc)
		assert_int_equal(d->ops->ring_enable(d, queue, true, &err), 0);
	return rc;
}

void sim_driver_begin(struct sim *sim, unsigned int queue, uint64_t features)
{
	struct sim_queue *q = &sim->queues[queue];
	struct driver_ring_config config = {
		.size = sim->size,
		.features = features,
		.shared = sim->guest.host + slot_offset(queue),
		.shared_addr = { SIM_GPA + slot_offset(queue) },
		.private = q->private,
	};

	assert_int_equal(driver_ring_init(&q->driver, &config), 0);
}

void sim_boot(struct sim *sim, unsigned int count, uint64_t guest_features)
{
	struct virtio_device *d = sim->front;
	struct umbra_error err = { "" };
	uint64_t offered;

	assert_int_equal(d->ops->get_features(d, &offered, &err), 0);
	assert_int_equal(d->ops->set_features(d, guest_features & offered, &err), 0);
	assert_int_equal(d->ops->set_memory(d, &sim->guest, 1, &err), 0);
	for (unsigned int i = 0; i < count; i++) {
		struct sim_queue *q = &sim->queues[i];
		struct driver_layout l = driver_ring_layout(sim->size, guest_features & offered, 0);

		assert_true(l.shared_bytes <= DATA_OFFSET);
		free(q->private); /* of a boot before */
		q->private = aligned_alloc(64, align_up(l.private_bytes, 64));
		assert_non_null(q->private);
		sim_driver_begin(sim, i, guest_features & offered);
		assert_int_equal(sim_ring_start(sim, i, 0), 0);
	}
	sim_pause(sim);
}

int sim_switch(struct sim *sim, bool shadowed, struct umbra_error *err)
{
	struct umbra_error why = { "" };

	return shadow_device_switch(sim->device, shadowed, err ? err : &why);
}

const struct umbra_shadow_picture *sim_info(const struct sim *sim)
{
	static struct umbra_shadow_picture info;

	shadow_device_info(sim->device, &info);
	shadow_device_look_control(sim->device, &info.control);
	return &info;
}

void sim_serve(struct sim *sim, unsigned int queue, uint64_t serial)
{
	uint64_t got;
	uint32_t len;

	assert_int_equal(sim_guest_get(sim, queue, &got, &len), 0); /* it goes to sleep */
	assert_int_equal(sim_guest_add(sim, queue, 1, 1, serial), 1);
	sim_run(sim);
	assert_int_equal(sim_backend_take(sim, queue, 8), 1);
	assert_int_equal(sim->queues[queue].held[0].serial, serial);
	sim_backend_complete(sim, queue, 0);
	sim_run(sim);
	assert_int_equal(sim_guest_get(sim, queue, &got, &len), 1);
	assert_int_equal(got, serial);
	assert_int_equal(sim_guest_get(sim, queue, &got, &len), 0);
}
