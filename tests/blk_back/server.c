/* SPDX-License-Identifier: BSD-2-Clause */
/* The vhost-user half of a test's disk: see server.h. */
#include "server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "base/bits.h"
#include "base/error.h"
#include "vhost_user/protocol.h"

/* ---- manners -------------------------------------------------------------------- */

struct blk_manner {
	const char *name;
	uint64_t protocol; /* offered, beside what all offer */
	bool drains;       /* answers a stop when all is used */
	bool forgets_fds;  /* at a stop; and hangs up if it would call */
	bool heeds_enable; /* a disabled ring is not served */
	bool hears_one_kick /* fd of a ring that runs */;
};

static const struct blk_manner manners[] = {
	{ .name = "rust-vmm", .heeds_enable = true, .hears_one_kick = true },
	{ .name = "libvhost-user",
	  .protocol = BIT64(VHOST_USER_PROTOCOL_F_HOST_NOTIFIER),
	  .forgets_fds = true },
	{ .name = "drain",
	  .protocol = BIT64(VHOST_USER_PROTOCOL_F_RARP),
	  .drains = true,
	  .heeds_enable = true },
};

const struct blk_manner *blk_manner_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(manners); i++)
		if (!strcmp(name, manners[i].name))
			return &manners[i];
	return NULL;
}

/* ---- memory ------------------------------------------------------------------------ */

static uint8_t *gpa_find(void *opaque, uint64_t gpa, uint64_t len)
{
	struct blk_server *s = opaque;

	for (unsigned int i = 0; i < s->mapping_count; i++) {
		struct blk_mapping *m = &s->mappings[i];

		if (!m->is_gone && gpa >= m->gpa && gpa - m->gpa <= m->size &&
		    len <= m->size - (gpa - m->gpa))
			return m->map + m->offset + (gpa - m->gpa);
	}
	return NULL;
}

static uint8_t *uva_find(struct blk_server *s, uint64_t uva, uint64_t len)
{
	for (unsigned int i = 0; i < s->mapping_count; i++) {
		struct blk_mapping *m = &s->mappings[i];

		if (!m->is_gone && uva >= m->uva && uva - m->uva <= m->size &&
		    len <= m->size - (uva - m->uva))
			return m->map + m->offset + (uva - m->uva);
	}
	return NULL;
}

/* Room for a mapping: one that is gone, and that nobody can have any more. */
static struct blk_mapping *mapping_room(struct blk_server *s)
{
	if (!blk_server_kept(s))
		for (unsigned int i = 0; i < s->mapping_count; i++)
			if (s->mappings[i].is_gone) {
				munmap(s->mappings[i].map,
				       s->mappings[i].offset + s->mappings[i].size);
				return &s->mappings[i];
			}
	return s->mapping_count < BLK_MAPPINGS_MOST ? &s->mappings[s->mapping_count++] : NULL;
}

static int mapping_add(struct blk_server *s, const struct vhost_user_region *r, int fd,
		       struct umbra_error *err)
{
	uint64_t bytes = r->mmap_offset + r->size;
	struct blk_mapping *m = mapping_room(s);
	void *map;

	if (!m)
		return error_set(err, -ENOSPC, "more than %u regions", BLK_MAPPINGS_MOST);
	map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) {
		*m = s->mappings[--s->mapping_count];
		return error_set(err, -errno, "a region of %lu bytes: %s", (unsigned long)bytes,
				 strerror(errno));
	}
	*m =
		(struct blk_mapping){ r->guest_addr,  r->user_addr, r->size,
				      r->mmap_offset, map,          false };
	return 0;
}

static void mapping_remove(struct blk_server *s, uint64_t gpa, uint64_t size)
{
	for (unsigned int i = 0; i < s->mapping_count; i++)
		if (s->mappings[i].gpa == gpa && s->mappings[i].size == size)
			s->mappings[i].is_gone = true;
}

static int table_set(struct blk_server *s, const struct vhost_user_mem_table *table, const int *fds,
		     unsigned int fd_count, struct umbra_error *err)
{
	int rc = 0;

	if (table->count > VHOST_USER_MEM_TABLE_REGIONS || table->count != fd_count)
		return error_set(err, -EPROTO, "SET_MEM_TABLE with %u regions and %u fds",
				 table->count, fd_count);
	for (unsigned int i = 0; i < s->mapping_count; i++)
		s->mappings[i].is_gone = true;
	for (unsigned int i = 0; i < table->count && !rc; i++)
		rc = mapping_add(s, &table->regions[i], fds[i], err);
	return rc;
}

/* ---- rings -------------------------------------------------------------------------- */

static void fd_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static int ring_find(struct blk_server *s, struct blk_server_queue *q, struct umbra_error *err)
{
	struct blk_ring *r = &q->queue.ring;

	r->desc = uva_find(s, q->desc, 16ul * r->size);
	r->avail = uva_find(s, q->avail, 6 + 2ul * r->size);
	r->used = uva_find(s, q->used, 6 + 8ul * r->size);
	if (!r->size || !r->desc || !r->avail || !r->used)
		return error_set(err, -EINVAL, "ring %u of %u entries is not in memory",
				 q->queue.index, r->size);
	return 0;
}

/* Where its part of the in-flight region is. */
static int ring_track(struct blk_server *s, struct blk_server_queue *q, struct umbra_error *err)
{
	q->queue.region = NULL;
	if (!s->flights)
		return 0;
	if (q->queue.index >= s->flights_queues || q->queue.ring.size != s->flights_size)
		return error_set(
			err, -EPROTO, "ring %u of %u; the in-flight region has %u queues of %u",
			q->queue.index, q->queue.ring.size, s->flights_queues, s->flights_size);
	q->queue.region =
		(struct blk_region *)(void *)(s->flights +
					      q->queue.index * blk_region_bytes(s->flights_size));
	return 0;
}

/* It starts, if all is there. */
static int ring_begin(struct blk_server *s, struct blk_server_queue *q, struct umbra_error *err)
{
	bool may = q->enabled || !s->options.manner->heeds_enable;
	int rc;

	if (q->queue.running || q->kick_fd < 0 || !q->desc || !may)
		return 0;
	rc = ring_find(s, q, err);
	if (!rc)
		rc = ring_track(s, q, err);
	q->queue.event_idx = s->features & BIT64(VIRTIO_RING_F_EVENT_IDX);
	return rc ? rc : blk_queue_start(&q->queue, q->base, err);
}

static int ring_set_kick(struct blk_server *s, struct blk_server_queue *q, int *fd,
			 struct umbra_error *err)
{
	if (*fd < 0)
		return error_set(err, -EOPNOTSUPP, "ring %u is to be polled", q->queue.index);
	if (q->queue.running && s->options.manner->hears_one_kick) {
		q->is_deaf = true;
		return 0;
	}
	fd_close(&q->kick_fd);
	q->kick_fd = *fd;
	*fd = -1;
	return ring_begin(s, q, err);
}

static int ring_set_enabled(struct blk_server *s, struct blk_server_queue *q, bool enabled,
			    struct umbra_error *err)
{
	q->enabled = enabled;
	if (!enabled && s->options.manner->heeds_enable && q->queue.running)
		q->base = blk_queue_stop(&q->queue);
	return ring_begin(s, q, err);
}

static void ring_stop(struct blk_server *s, struct blk_server_queue *q)
{
	if (q->queue.running)
		q->base = blk_queue_stop(&q->queue);
	fd_close(&q->kick_fd);
	if (s->options.manner->forgets_fds)
		fd_close(&q->queue.call_fd);
}

static void ring_forget(struct blk_server_queue *q)
{
	blk_queue_forget(&q->queue);
	fd_close(&q->kick_fd);
	fd_close(&q->queue.call_fd);
	fd_close(&q->err_fd);
	q->desc = q->avail = q->used = 0;
	q->base = 0;
	q->enabled = q->is_deaf = false;
	q->queue.ring = (struct blk_ring){ 0 };
	q->queue.region = NULL;
}

/* What the queue itself could not bear. */
static bool ring_judge(struct blk_server *s, struct blk_server_queue *q, struct umbra_error *err)
{
	if (!q->queue.broken.text[0] || !err)
		return true;
	(void)s;
	(void)error_set(err, 0, "ring %u: %.200s", q->queue.index, q->queue.broken.text);
	q->queue.broken.text[0] = '\0';
	return false;
}

/* ---- the in-flight region ------------------------------------------------------------- */

static int flights_map(struct blk_server *s, const struct vhost_user_inflight *i, int fd,
		       struct umbra_error *err)
{
	size_t bytes = i->queue_count * blk_region_bytes(i->queue_size);
	struct stat st;
	void *map;

	if (!i->queue_count || !i->queue_size || i->queue_size > 32768 || i->mmap_size < bytes ||
	    i->mmap_offset % 4096 || fstat(fd, &st) ||
	    (uint64_t)st.st_size < i->mmap_offset + bytes)
		return error_set(
			err, -EPROTO,
			"an in-flight region of %lu bytes for %u queues of %u; expected %zu",
			(unsigned long)i->mmap_size, i->queue_count, i->queue_size, bytes);
	map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)i->mmap_offset);
	if (map == MAP_FAILED)
		return error_set(err, -errno, "the in-flight region: %s", strerror(errno));
	if (s->flights)
		munmap(s->flights, s->flights_bytes);
	s->flights = map;
	s->flights_bytes = bytes;
	s->flights_queues = i->queue_count;
	s->flights_size = i->queue_size;
	return 0;
}

/* A new one; returns its file. */
static int flights_make(struct blk_server *s, struct vhost_user_inflight *i,
			struct umbra_error *err)
{
	int fd = memfd_create("blk-back-inflight", MFD_CLOEXEC), rc;

	i->mmap_size = i->queue_count * blk_region_bytes(i->queue_size);
	i->mmap_offset = 0;
	if (fd < 0 || ftruncate(fd, (off_t)i->mmap_size))
		return error_set(err, -errno, "the in-flight region: %s", strerror(errno));
	rc = flights_map(s, i, fd, err);
	if (rc)
		close(fd);
	return rc ? rc : fd;
}

/* ---- messages ----------------------------------------------------------------------------- */

struct message {
	struct vhost_user_header header;
	union vhost_user_payload payload;
	int fds[VHOST_USER_FDS_MAX];
	unsigned int fd_count;
	/* the answer */
	bool answers;
	uint64_t number; /* that it says */
	int answer_fd;   /* -1: none */
};

static uint64_t offered(const struct blk_server *s)
{
	const struct blk_server_options *o = &s->options;

	return BIT64(VIRTIO_F_VERSION_1) | BIT64(VHOST_USER_F_PROTOCOL_FEATURES) |
	       BIT64(VIRTIO_BLK_F_FLUSH) | BIT64(VIRTIO_BLK_F_BLK_SIZE) |
	       BIT64(VIRTIO_BLK_F_SEG_MAX) | (o->queues > 1 ? BIT64(VIRTIO_BLK_F_MQ) : 0) |
	       (o->event_idx ? BIT64(VIRTIO_RING_F_EVENT_IDX) : 0) |
	       (o->indirect ? BIT64(VIRTIO_RING_F_INDIRECT_DESC) : 0);
}

static uint64_t protocol_offered(const struct blk_server *s)
{
	return BIT64(VHOST_USER_PROTOCOL_F_MQ) | BIT64(VHOST_USER_PROTOCOL_F_REPLY_ACK) |
	       BIT64(VHOST_USER_PROTOCOL_F_BACKEND_REQ) | BIT64(VHOST_USER_PROTOCOL_F_CONFIG) |
	       BIT64(VHOST_USER_PROTOCOL_F_RESET_DEVICE) |
	       BIT64(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS) |
	       (s->options.inflight ? BIT64(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD) : 0) |
	       s->options.manner->protocol;
}

static struct blk_place message_place(const struct blk_server *s, const struct message *m)
{
	return (struct blk_place){ .hook = s->hook, .message = m->header.request };
}

/* A number as the answer; a hook may make another of it. */
static uint64_t number(struct blk_server *s, struct message *m, uint64_t value)
{
	struct blk_place at = message_place(s, m);

	/* It can be skipped, too: then there is no answer. */
	m->answers = blk_before(&at, BLK_ANSWER, &value);
	m->number = value;
	return value;
}

static void answer_u64(struct blk_server *s, struct message *m, uint64_t value)
{
	m->payload.u64 = number(s, m, value);
	m->header.size = sizeof(m->payload.u64);
}

static int take_config(struct blk_server *s, struct message *m, struct umbra_error *err)
{
	struct vhost_user_config *c = &m->payload.config;
	struct virtio_blk_config config = { .capacity = s->capacity,
					    .seg_max = 254,
					    .blk_size = BLK_SECTOR,
					    .num_queues = (uint16_t)s->options.queues };
	uint8_t bytes[VHOST_USER_CONFIG_MAX] = { 0 };

	if (c->offset > sizeof(bytes) || c->size > sizeof(bytes) - c->offset ||
	    m->header.size < VHOST_USER_CONFIG_HEADER)
		return error_set(err, -EPROTO, "GET_CONFIG of %u bytes at %u", c->size, c->offset);
	config.capacity = number(s, m, config.capacity);
	memcpy(bytes, &config, sizeof(config));
	memcpy(c->data, bytes + c->offset, c->size);
	m->header.size = VHOST_USER_CONFIG_HEADER + c->size;
	return 0;
}

static int device_reset(struct blk_server *s)
{
	for (unsigned int i = 0; i < s->options.queues; i++)
		ring_forget(&s->queues[i]);
	s->features = 0;
	return 0;
}

/* GET_VRING_BASE, answered now or when nothing is kept. */
static int ring_get_base(struct blk_server *s, struct message *m, struct blk_server_queue *q,
			 struct umbra_error *err)
{
	if (q->is_deaf)
		return error_set(err, -ECONNRESET,
				 "ring %u was given a second kick fd, and is stopped",
				 q->queue.index);
	ring_stop(s, q);
	if (s->options.manner->drains && q->queue.kept_count) {
		s->drains = (int)q->queue.index;
		return 0;
	}
	m->payload.state.index = q->queue.index;
	m->payload.state.num = (uint32_t)number(s, m, q->base);
	m->header.size = sizeof(m->payload.state);
	return 0;
}

/* Those that are about one ring. */
static int handle_ring(struct blk_server *s, struct message *m, struct umbra_error *err)
{
	const struct vhost_vring_state *state = &m->payload.state;
	const struct vhost_vring_addr *addr = &m->payload.addr;
	unsigned int index = state->index;
	struct blk_server_queue *q;

	if (m->header.request == VHOST_USER_SET_VRING_KICK ||
	    m->header.request == VHOST_USER_SET_VRING_CALL ||
	    m->header.request == VHOST_USER_SET_VRING_ERR)
		index = m->payload.u64 & VHOST_USER_VRING_INDEX_MASK;
	if (index >= s->options.queues)
		return error_set(err, -EINVAL, "ring %u; there are %u", index, s->options.queues);
	q = &s->queues[index];
	switch (m->header.request) {
	case VHOST_USER_SET_VRING_NUM:
		q->queue.ring.size = (uint16_t)state->num;
		return is_power_of_two(state->num) && state->num <= 32768
			       ? 0
			       : error_set(err, -EINVAL, "a ring of %u", state->num);
	case VHOST_USER_SET_VRING_BASE:
		q->base = (uint16_t)state->num;
		return 0;
	case VHOST_USER_GET_VRING_BASE:
		return ring_get_base(s, m, q, err);
	case VHOST_USER_SET_VRING_ENABLE:
		return ring_set_enabled(s, q, state->num, err);
	case VHOST_USER_SET_VRING_ADDR:
		q->desc = addr->desc_user_addr;
		q->avail = addr->avail_user_addr;
		q->used = addr->used_user_addr;
		return 0;
	case VHOST_USER_SET_VRING_KICK:
		return ring_set_kick(s, q, &m->fds[0], err);
	case VHOST_USER_SET_VRING_CALL:
		fd_close(&q->queue.call_fd);
		q->queue.call_fd = m->fds[0];
		m->fds[0] = -1;
		return 0;
	default:
		fd_close(&q->err_fd);
		q->err_fd = m->fds[0];
		m->fds[0] = -1;
		return 0;
	}
}

static int set_features(struct blk_server *s, uint64_t features, struct umbra_error *err)
{
	if (features & ~offered(s))
		return error_set(err, -EINVAL, "features 0x%lx; 0x%lx were offered",
				 (unsigned long)features, (unsigned long)offered(s));
	s->features = features;
	if (!(features & BIT64(VHOST_USER_F_PROTOCOL_FEATURES)))
		for (unsigned int i = 0; i < s->options.queues; i++)
			s->queues[i].enabled = true;
	return 0;
}

static int handle(struct blk_server *s, struct message *m, struct umbra_error *err)
{
	union vhost_user_payload *p = &m->payload;

	switch (m->header.request) {
	case VHOST_USER_GET_FEATURES:
		answer_u64(s, m, offered(s));
		return 0;
	case VHOST_USER_SET_FEATURES:
		return set_features(s, p->u64, err);
	case VHOST_USER_GET_PROTOCOL_FEATURES:
		answer_u64(s, m, protocol_offered(s));
		return 0;
	case VHOST_USER_GET_QUEUE_NUM:
		answer_u64(s, m, s->options.queues);
		return 0;
	case VHOST_USER_GET_MAX_MEM_SLOTS:
		answer_u64(s, m, BLK_MAPPINGS_MOST / 2);
		return 0;
	case VHOST_USER_SET_PROTOCOL_FEATURES:
	case VHOST_USER_SET_OWNER:
	case VHOST_USER_RESET_OWNER:
	case VHOST_USER_SET_CONFIG:
		return 0;
	case VHOST_USER_SET_MEM_TABLE:
		return table_set(s, &p->table, m->fds, m->fd_count, err);
	case VHOST_USER_ADD_MEM_REG:
		return mapping_add(s, &p->mem_region.region, m->fds[0], err);
	case VHOST_USER_REM_MEM_REG:
		mapping_remove(s, p->mem_region.region.guest_addr, p->mem_region.region.size);
		return 0;
	case VHOST_USER_SET_BACKEND_REQ_FD:
		fd_close(&s->channel);
		s->channel = m->fds[0];
		m->fds[0] = -1;
		return 0;
	case VHOST_USER_GET_CONFIG:
		return take_config(s, m, err);
	case VHOST_USER_GET_INFLIGHT_FD:
		m->answer_fd = flights_make(s, &p->inflight, err);
		m->answers = m->answer_fd >= 0;
		return m->answers ? 0 : m->answer_fd;
	case VHOST_USER_SET_INFLIGHT_FD:
		return flights_map(s, &p->inflight, m->fds[0], err);
	case VHOST_USER_RESET_DEVICE:
		return device_reset(s);
	case VHOST_USER_SET_VRING_NUM:
	case VHOST_USER_SET_VRING_ADDR:
	case VHOST_USER_SET_VRING_BASE:
	case VHOST_USER_GET_VRING_BASE:
	case VHOST_USER_SET_VRING_KICK:
	case VHOST_USER_SET_VRING_CALL:
	case VHOST_USER_SET_VRING_ERR:
	case VHOST_USER_SET_VRING_ENABLE:
		return handle_ring(s, m, err);
	default:
		return error_set(err, -ECONNRESET, "message %u is not known here",
				 m->header.request);
	}
}

/* ---- the socket --------------------------------------------------------------------------- */

static bool receive_bytes(struct blk_server *s, void *data, size_t size, struct message *m)
{
	uint8_t *at = data;

	while (size) {
		union {
			char bytes[CMSG_SPACE(sizeof(m->fds))];
			struct cmsghdr align;
		} control;
		struct iovec iov = { at, size };
		struct msghdr msg = { .msg_iov = &iov,
				      .msg_iovlen = 1,
				      .msg_control = control.bytes,
				      .msg_controllen = sizeof(control.bytes) };
		ssize_t n = recvmsg(s->connection, &msg, MSG_CMSG_CLOEXEC);

		if (n <= 0)
			return false;
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
			unsigned int count =
				(unsigned int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));

			for (unsigned int i = 0; i < count && m->fd_count < VHOST_USER_FDS_MAX; i++)
				memcpy(&m->fds[m->fd_count++], CMSG_DATA(c) + i * sizeof(int),
				       sizeof(int));
		}
		at += n;
		size -= (size_t)n;
	}
	return true;
}

static bool send_answer(struct blk_server *s, struct message *m)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { .bytes = { 0 } };
	struct iovec iov[] = { { &m->header, sizeof(m->header) }, { &m->payload, m->header.size } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };

	m->header.flags = VHOST_USER_VERSION | VHOST_USER_REPLY;
	if (m->answer_fd >= 0) {
		struct cmsghdr *c;

		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &m->answer_fd, sizeof(int));
	}
	return sendmsg(s->connection, &msg, MSG_NOSIGNAL) ==
	       (ssize_t)(iov[0].iov_len + iov[1].iov_len);
}

/* Fds that nobody wanted, and what a hook that leaves by longjmp() leaves. */
static struct message at_hand;

static void message_drop(struct message *m)
{
	for (unsigned int i = 0; i < m->fd_count; i++)
		fd_close(&m->fds[i]);
	fd_close(&m->answer_fd);
	m->fd_count = 0;
}

static bool answer(struct blk_server *s, struct message *m, struct umbra_error *err)
{
	struct blk_place at = message_place(s, m);

	if (m->answers && !send_answer(s, m)) {
		(void)error_set(err, 0, "an answer could not be sent: %s", strerror(errno));
		return false;
	}
	blk_after(&at, BLK_ANSWER, m->number);
	return true;
}

bool blk_server_receive(struct blk_server *s, struct umbra_error *err)
{
	struct message *m = &at_hand;
	struct blk_place at;
	bool wants_ack;
	uint64_t none = 0;
	int rc;

	*m = (struct message){ .answer_fd = -1 };
	for (unsigned int i = 0; i < VHOST_USER_FDS_MAX; i++)
		m->fds[i] = -1;
	err->text[0] = '\0';
	if (!receive_bytes(s, &m->header, sizeof(m->header), m) ||
	    m->header.size > sizeof(m->payload) ||
	    !receive_bytes(s, &m->payload, m->header.size, m)) {
		message_drop(m);
		return false;
	}
	wants_ack = m->header.flags & VHOST_USER_NEED_REPLY;
	at = message_place(s, m);
	if (blk_before(&at, BLK_MESSAGE, &none)) {
		rc = handle(s, m, err);
		if (rc == -ECONNRESET) {
			message_drop(m);
			return false;
		}
		if (rc)
			fprintf(stderr, "blk-back: %s\n", err->text);
		if (!m->answers && wants_ack && s->drains < 0 &&
		    m->header.request != VHOST_USER_GET_VRING_BASE)
			answer_u64(s, m, rc != 0);
		if (m->answers && !answer(s, m, err)) {
			message_drop(m);
			return false;
		}
	}
	blk_after(&at, BLK_MESSAGE, none);
	message_drop(m);
	return true;
}

bool blk_server_kicked(struct blk_server *s, unsigned int index, struct umbra_error *err)
{
	struct blk_server_queue *q = &s->queues[index];
	struct blk_place at = { .hook = s->hook, .queue = index };
	uint64_t value = index, count;

	err->text[0] = '\0';
	if (blk_before(&at, BLK_KICK, &value) &&
	    read(q->kick_fd, &count, sizeof(count)) != sizeof(count) && errno != EAGAIN) {
		(void)error_set(err, 0, "the kick eventfd of ring %u: %s", index, strerror(errno));
		return false;
	}
	blk_after(&at, BLK_KICK, value);
	blk_queue_serve(&q->queue);
	return ring_judge(s, q, err);
}

bool blk_server_release(struct blk_server *s, struct umbra_error *err)
{
	err->text[0] = '\0';
	for (unsigned int i = 0; i < s->options.queues; i++) {
		struct blk_server_queue *q = &s->queues[i];

		if (!q->queue.kept_count)
			continue;
		if (s->options.manner->forgets_fds && q->queue.call_fd < 0) {
			(void)error_set(err, 0, "ring %u: nobody is to be called", i);
			return false;
		}
		blk_queue_release(&q->queue);
		if (!ring_judge(s, q, err))
			return false;
	}
	if (s->drains >= 0) {
		struct message m = { .header.request = VHOST_USER_GET_VRING_BASE, .answer_fd = -1 };
		struct blk_server_queue *q = &s->queues[s->drains];

		s->drains = -1;
		return !ring_get_base(s, &m, q, err) && answer(s, &m, err);
	}
	return true;
}

/* ---- a front-end's life ---------------------------------------------------------------------- */

void blk_server_init(struct blk_server *s)
{
	s->memory = (struct blk_memory){ s, gpa_find };
	s->connection = s->channel = s->drains = -1;
	for (unsigned int i = 0; i < BLK_QUEUES_MOST; i++) {
		struct blk_server_queue *q = &s->queues[i];

		q->kick_fd = q->err_fd = q->queue.call_fd = -1;
		q->queue.hook = s->hook;
		q->queue.options = &s->options.queue;
		q->queue.memory = &s->memory;
		q->queue.disk = &s->disk;
		q->queue.numbers = &s->numbers;
		q->queue.index = i;
	}
}

void blk_server_accept(struct blk_server *s, int *fd)
{
	s->connection = *fd;
	*fd = -1;
	blk_disk_renew(&s->disk);
}

void blk_server_forget(struct blk_server *s)
{
	message_drop(&at_hand);
	(void)device_reset(s);
	for (unsigned int i = 0; i < s->mapping_count; i++)
		munmap(s->mappings[i].map, s->mappings[i].offset + s->mappings[i].size);
	s->mapping_count = 0;
	if (s->flights)
		munmap(s->flights, s->flights_bytes);
	s->flights = NULL;
	s->drains = -1;
	fd_close(&s->connection);
	fd_close(&s->channel);
}

bool blk_server_listens(const struct blk_server *s)
{
	return s->connection >= 0 && s->drains < 0;
}

unsigned int blk_server_kept(const struct blk_server *s)
{
	unsigned int count = 0;

	for (unsigned int i = 0; i < s->options.queues; i++)
		count += s->queues[i].queue.kept_count;
	return count;
}

void blk_server_resize(struct blk_server *s, uint64_t sectors)
{
	const struct vhost_user_header change = { VHOST_USER_BACKEND_CONFIG_CHANGE_MSG,
						  VHOST_USER_VERSION, 0 };

	s->capacity = sectors;
	if (s->channel >= 0 && send(s->channel, &change, sizeof(change), MSG_NOSIGNAL) < 0)
		fprintf(stderr, "blk-back: the front-end was not told: %s\n", strerror(errno));
}
