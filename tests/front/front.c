/* SPDX-License-Identifier: BSD-2-Clause */
/* A vhost-user front-end without a guest: see front.h. */
#include "front.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/fd.h"
#include "vhost_user/protocol.h"
#include "vhost_user/vhost_user_client.h"

#define TIMEOUT_MS 60000u /* for an answer on the socket */
#define PAGE 4096u
#define COMPLAINTS_PRINTED 10u
#define PUBLISH_EVERY 8 /* buffers that come back, of which some may have been added again */

/* ---- what is said ------------------------------------------------------------- */

static void ring_bell(struct front *f)
{
	const uint64_t one = 1;

	if (write(f->bell_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		abort();
}

void front_count(struct front *f, uint64_t progress)
{
	uint64_t before = __atomic_fetch_add(&f->progress, progress, __ATOMIC_SEQ_CST);
	uint64_t goal = __atomic_load_n(&f->goal, __ATOMIC_SEQ_CST);

	/* Main sets the goal and then looks; we count and then look: one of us sees. */
	if (before < goal && before + progress >= goal)
		ring_bell(f);
}

uint64_t front_progress(const struct front *f)
{
	return __atomic_load_n(&f->progress, __ATOMIC_SEQ_CST);
}

void front_complain(struct front *f, const char *format, ...)
{
	va_list args;

	if (__atomic_fetch_add(&f->errors, 1, __ATOMIC_RELAXED) >= COMPLAINTS_PRINTED)
		return;
	flockfile(stderr);
	fputs("front: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	funlockfile(stderr);
}

void front_fail(struct front *f, const char *format, ...)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	va_list args;

	pthread_mutex_lock(&lock);
	if (!__atomic_load_n(&f->failed, __ATOMIC_RELAXED)) {
		va_start(args, format);
		vsnprintf(f->failure, sizeof(f->failure), format, args);
		va_end(args);
		__atomic_store_n(&f->failed, true, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&lock);
	ring_bell(f);
}

uint64_t front_mix(uint64_t v)
{
	v ^= v >> 30;
	v *= UINT64_C(0xbf58476d1ce4e5b9);
	v ^= v >> 27;
	v *= UINT64_C(0x94d049bb133111eb);
	return v ^ v >> 31;
}

void front_pattern_write(void *data, uint32_t bytes, uint64_t v)
{
	uint64_t *words = data;

	for (uint32_t i = 0; i < bytes / sizeof(*words); i++)
		words[i] = v + i;
}

uint32_t front_pattern_differs(const void *data, uint32_t bytes, uint64_t v)
{
	const uint64_t *words = data;
	uint32_t i = 0;

	while (i < bytes / sizeof(*words) && words[i] == v + i)
		i++;
	return i;
}

/* ---- connecting ---------------------------------------------------------------- */

static int front_negotiate(struct front *f, uint64_t wanted, struct umbra_error *err)
{
	const struct virtio_ops *ops = f->backend->ops;
	const uint64_t needed = BIT64(VIRTIO_F_VERSION_1) | BIT64(VHOST_USER_F_PROTOCOL_FEATURES);
	uint64_t protocol;
	int rc = ops->get_features(f->backend, &f->offered, err);

	if (rc)
		return rc;
	if ((f->offered & needed) != needed)
		return error_set(err, -EOPNOTSUPP,
				 "the back-end offers features 0x%lx; 0x%lx are needed",
				 (unsigned long)f->offered, (unsigned long)needed);
	if (f->offered & BIT64(VIRTIO_F_ACCESS_PLATFORM))
		return error_set(err, -EPROTO,
				 "the back-end offers ACCESS_PLATFORM, which asks "
				 "a guest for a vIOMMU");
	rc = ops->get_protocol_features(f->backend, &protocol, err);
	f->protocol =
		protocol & (BIT64(VHOST_USER_PROTOCOL_F_CONFIG) | BIT64(VHOST_USER_PROTOCOL_F_MQ));
	if (!rc)
		rc = ops->set_protocol_features(f->backend, f->protocol, err);
	if (f->options->indirect)
		wanted |= BIT64(VIRTIO_RING_F_INDIRECT_DESC);
	if (f->options->event_idx)
		wanted |= BIT64(VIRTIO_RING_F_EVENT_IDX);
	f->features = (wanted | needed) & f->offered;
	if (!rc)
		rc = ops->set_features(f->backend, f->features, err);
	return rc;
}

int front_open(struct front *f, const struct front_options *options, uint64_t wanted,
	       struct umbra_error *err)
{
	int rc;

	f->options = options;
	for (unsigned int i = 0; i < FRONT_QUEUES_MAX; i++)
		f->queues[i].kick_fd = f->queues[i].call_fd = -1;
	f->bell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	f->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (f->bell_fd < 0 || f->stop_fd < 0)
		return error_set(err, -errno, "eventfds: %s", strerror(errno));
	rc = vhost_user_client_connect(options->socket, -1, TIMEOUT_MS, &f->backend, err);
	return rc ? rc : front_negotiate(f, wanted, err);
}

int front_get_config(struct front *f, uint32_t offset, void *data, uint32_t size,
		     struct umbra_error *err)
{
	return f->backend->ops->get_config(f->backend, offset, data, size, err);
}

int front_set_config(struct front *f, uint32_t offset, const void *data, uint32_t size,
		     struct umbra_error *err)
{
	return f->backend->ops->set_config(f->backend, offset, data, size, 0, err);
}

/* ---- memory --------------------------------------------------------------------- */

/* They live as long as the program. */
static void backing_release(struct memory_backing *backing)
{
	(void)backing;
}

static int region_make(struct front *f, unsigned int i, uint64_t offset, uint64_t size, int *file,
		       struct umbra_error *err)
{
	const struct front_options *o = f->options;
	/* With gaps, the later region is the lower one. */
	unsigned int place = o->gpa_gap ? o->regions - 1 - i : i;
	uint64_t file_offset = o->one_file ? offset : 0;
	uint8_t *host = f->memory + offset;

	if (*file < 0 || !o->one_file) {
		*file = memfd_create("front-memory", MFD_CLOEXEC);
		if (*file < 0 || ftruncate(*file, (off_t)(o->one_file ? f->memory_size : size)))
			return error_set(err, -errno, "no memory file: %s", strerror(errno));
	}
	if (mmap(host, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, *file,
		 (off_t)file_offset) == MAP_FAILED)
		return error_set(err, -errno, "no mapping of %lu bytes: %s", (unsigned long)size,
				 strerror(errno));
	f->backings[i] = (struct memory_backing){
		.refs = 1, .release = backing_release, .fd = *file, .fd_offset = file_offset
	};
	f->regions[i] = (struct memory_region){
		.gpa = { o->gpa_base + place * (size + o->gpa_gap) },
		.uva = { (uintptr_t)host },
		.size = size,
		.host = host,
		.backing = &f->backings[i],
	};
	return 0;
}

/* Rings are in the first region; buffers are wherever they come to lie. */
static int front_make_memory(struct front *f, uint64_t ring_bytes, uint64_t bytes,
			     struct umbra_error *err)
{
	unsigned int count = f->options->regions;
	uint64_t size = MAX((ring_bytes + bytes + count - 1) / count, ring_bytes);
	int file = -1, rc = 0;

	size = (size + PAGE - 1) / PAGE * PAGE;
	f->memory_size = size * count;
	f->memory = mmap(NULL, f->memory_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (f->memory == MAP_FAILED)
		return error_set(err, -errno, "no room for %lu bytes: %s",
				 (unsigned long)f->memory_size, strerror(errno));
	for (unsigned int i = 0; i < count && !rc; i++)
		rc = region_make(f, i, i * size, size, &file, err);
	f->region_count = count;
	return rc ? rc : f->backend->ops->set_memory(f->backend, f->regions, count, err);
}

void *front_alloc(struct front *f, uint64_t bytes, uint64_t align)
{
	uint64_t at = (f->memory_used + align - 1) / align * align;

	if (at + bytes > f->memory_size)
		abort();
	f->memory_used = at + bytes;
	return f->memory + at;
}

void front_seg(const struct front *f, const void *host, uint32_t len, bool writable,
	       struct driver_seg *segs, unsigned int *count)
{
	uint64_t offset = (uint64_t)((const uint8_t *)host - f->memory);
	uint64_t size = f->regions[0].size;

	while (len) {
		const struct memory_region *r = &f->regions[offset / size];
		uint64_t here = f->options->gpa_gap ? MIN(len, size - offset % size) : len;

		segs[(*count)++] = (struct driver_seg){ .addr = { r->gpa.v + offset % size },
							.len = (uint32_t)here,
							.writable = writable };
		offset += here;
		len -= (uint32_t)here;
	}
}

/* ---- queues --------------------------------------------------------------------- */

/* Take back what has been used.  The number, or -EPROTO; the lock is held. */
static int queue_reap(struct front_queue *q)
{
	struct driver_done done;
	int n = 0, rc;

	while ((rc = driver_ring_get(&q->ring, &done)) == 1) {
		struct front_request *r = (struct front_request *)(uintptr_t)done.token;

		r->len = done.len;
		r->clamped = done.clamped;
		r->done(r);
		if (++n % PUBLISH_EVERY == 0)
			front_publish(q);
	}
	front_publish(q);
	if (n)
		pthread_cond_broadcast(&q->room);
	return rc < 0 ? rc : n;
}

/* Sleep until called.  False: the end. */
static bool queue_sleep(struct front_queue *q)
{
	struct pollfd fds[] = { { q->call_fd, POLLIN, 0 }, { q->front->stop_fd, POLLIN, 0 } };
	uint64_t calls;
	int n;

	do
		n = poll(fds, 2, (int)q->front->options->patience_s * 1000);
	while (n < 0 && errno == EINTR);
	if (n == 0 && driver_ring_has_used(&q->ring))
		front_fail(q->front,
			   "queue %u: buffers were used, and no call came within %u seconds",
			   q->index, q->front->options->patience_s);
	if (fds[0].revents && read(q->call_fd, &calls, sizeof(calls)) == sizeof(calls))
		__atomic_fetch_add(&q->calls, calls, __ATOMIC_RELAXED);
	return !fds[1].revents;
}

static void *queue_thread(void *arg)
{
	struct front_queue *q = arg;
	char text[128];
	bool more;
	int rc;

	do {
		pthread_mutex_lock(&q->lock);
		driver_ring_disarm(&q->ring);
		do
			rc = queue_reap(q);
		while (rc >= 0 && driver_ring_arm(&q->ring));
		pthread_mutex_unlock(&q->lock);
		if (rc < 0) {
			front_fail(q->front, "queue %u is broken: %s", q->index,
				   ring_error_text(&q->ring.error, text, sizeof(text)));
			return NULL;
		}
		more = queue_sleep(q);
	} while (more);
	return NULL;
}

bool front_add(struct front_queue *q, const struct driver_seg *segs, unsigned int count,
	       struct front_request *r, bool may_wait)
{
	int rc;

	while ((rc = driver_ring_add(&q->ring, segs, count, (uintptr_t)r)) == 0 && may_wait) {
		front_publish(q);
		pthread_cond_wait(&q->room, &q->lock);
	}
	/* Of a broken ring the queue's thread says why. */
	if (rc < 0 && rc != -EPROTO)
		abort();
	q->added |= rc == 1;
	return rc == 1;
}

void front_publish(struct front_queue *q)
{
	if (!q->added)
		return;
	q->added = false;
	driver_ring_publish(&q->ring);
	if (!driver_ring_must_kick(&q->ring))
		return;
	__atomic_fetch_add(&q->kicks, 1, __ATOMIC_RELAXED);
	notifier_send(&q->kick);
}

/* ---- starting --------------------------------------------------------------------- */

static int queue_make(struct front *f, unsigned int index, const struct driver_layout *layout,
		      struct umbra_error *err)
{
	struct front_queue *q = &f->queues[index];
	void *shared = front_alloc(f, layout->shared_bytes, PAGE);
	struct driver_seg at;
	unsigned int n = 0;
	int rc;

	front_seg(f, shared, 1, true, &at, &n);
	q->front = f;
	q->index = index;
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->room, NULL);
	q->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	q->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (q->kick_fd < 0 || q->call_fd < 0)
		return error_set(err, -errno, "eventfds: %s", strerror(errno));
	q->kick = notifier_make(q->kick_fd);
	q->private = aligned_alloc(64, (layout->private_bytes + 63) / 64 * 64);
	if (!q->private)
		return error_set(err, -ENOMEM, "no memory for a ring");
	rc = driver_ring_init(&q->ring,
			      &(struct driver_ring_config){ .size = (uint16_t)f->options->ring_size,
							    .features = f->features,
							    .shared = shared,
							    .shared_addr = at.addr,
							    .private = q->private,
							    .table_max = f->options->table_max });
	return rc ? error_set(err, rc, "queue %u: a ring of %u: %s", index, f->options->ring_size,
			      strerror(-rc))
		  : 0;
}

static int queue_start(struct front_queue *q, struct umbra_error *err)
{
	const struct virtio_ring ring = {
		.size = (uint16_t)q->front->options->ring_size,
		.addr = { .desc = { (uintptr_t)q->ring.split.desc },
			  .avail = { (uintptr_t)q->ring.split.avail },
			  .used = { (uintptr_t)q->ring.split.used } },
		.kick_fd = q->kick_fd,
		.call_fd = q->call_fd,
		.err_fd = -1,
		.enabled = true,
	};
	struct virtio_device *b = q->front->backend;
	int rc = b->ops->ring_start(b, q->index, &ring, err);

	if (!rc && !q->front->options->is_polled &&
	    pthread_create(&q->thread, NULL, queue_thread, q))
		rc = error_set(err, -EAGAIN, "queue %u: no thread", q->index);
	return rc;
}

int front_start(struct front *f, unsigned int queues, uint64_t bytes, struct umbra_error *err)
{
	struct driver_layout layout = driver_ring_layout((uint16_t)f->options->ring_size,
							 f->features, f->options->table_max);
	uint64_t ring_bytes = (layout.shared_bytes + PAGE - 1) / PAGE * PAGE;
	int rc = front_make_memory(f, ring_bytes * queues, bytes, err);

	for (unsigned int i = 0; i < queues && !rc; i++)
		rc = queue_make(f, i, &layout, err);
	for (unsigned int i = 0; i < queues && !rc; i++)
		rc = queue_start(&f->queues[i], err);
	f->queue_count = queues;
	return rc;
}

/* ---- waiting ----------------------------------------------------------------------- */

static int describe_stall(struct front *f, struct umbra_error *err)
{
	char text[UMBRA_ERROR_SIZE] = "";
	size_t n = 0;

	for (unsigned int i = 0; i < f->queue_count && n < sizeof(text); i++)
		n += (size_t)snprintf(
			text + n, sizeof(text) - n, "%s queue %u: %u of %u not used%s",
			i ? ";" : "", i, driver_ring_in_flight(&f->queues[i].ring),
			f->queues[i].ring.avail_idx,
			driver_ring_has_used(&f->queues[i].ring) ? ", or used and no call sent"
								 : "");
	return error_set(err, -ETIMEDOUT, "nothing has come back for %u seconds:%s",
			 f->options->patience_s, text);
}

int front_wait(struct front *f, uint64_t goal, struct umbra_error *err)
{
	struct pollfd fds[] = { { f->bell_fd, POLLIN, 0 },
				{ vhost_user_client_fd(f->backend), POLLIN, 0 } };
	uint64_t seen = front_progress(f), rings;
	int n, rc;

	__atomic_store_n(&f->goal, goal, __ATOMIC_SEQ_CST);
	while (front_progress(f) < goal) {
		n = poll(fds, 2, (int)f->options->patience_s * 1000);
		if (n == 0 && front_progress(f) == seen)
			return describe_stall(f, err);
		seen = front_progress(f);
		if (n > 0 && fds[0].revents && read(f->bell_fd, &rings, sizeof(rings)) < 0 &&
		    errno != EAGAIN)
			return error_set(err, -errno, "bell: %s", strerror(errno));
		if (__atomic_load_n(&f->failed, __ATOMIC_ACQUIRE))
			return error_set(err, -EIO, "%s", f->failure);
		if (n > 0 && fds[1].revents) {
			rc = vhost_user_client_check(f->backend, err);
			if (rc)
				return rc;
		}
	}
	return 0;
}

/* ---- the end ------------------------------------------------------------------------ */

static int queue_stop(struct front_queue *q, struct umbra_error *err)
{
	struct virtio_device *b = q->front->backend;
	struct ring_position base, at = driver_ring_position(&q->ring);
	int rc = b->ops->ring_stop(b, q->index, &base, err);

	if (!rc && base.avail != at.used)
		rc = error_set(err, -EPROTO,
			       "queue %u stopped at index %u; %u of %u buffers have come back",
			       q->index, base.avail, at.used, at.avail);
	return rc;
}

void front_drop(struct front *f)
{
	for (unsigned int i = 0; i < FRONT_QUEUES_MAX; i++) {
		fd_close(&f->queues[i].kick_fd);
		fd_close(&f->queues[i].call_fd);
		free(f->queues[i].private);
	}
	if (f->backend)
		f->backend->ops->destroy(f->backend);
	fd_close(&f->bell_fd);
	fd_close(&f->stop_fd);
}

int front_close(struct front *f, struct umbra_error *err)
{
	const uint64_t one = 1;
	int rc = 0;

	if (write(f->stop_fd, &one, sizeof(one)) != sizeof(one))
		abort();
	for (unsigned int i = 0; i < f->queue_count && !f->options->is_polled; i++)
		pthread_join(f->queues[i].thread, NULL);
	for (unsigned int i = 0; i < f->queue_count && !rc; i++)
		rc = queue_stop(&f->queues[i], err);
	front_drop(f);
	return rc;
}
