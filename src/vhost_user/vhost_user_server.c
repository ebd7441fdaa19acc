/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The back-end's half of vhost-user: see vhost_user_server.h.
 *
 * Theory of operation: a message is received, judged against the table in
 * vhost_user/message.c, and given to its handler, which calls the device.
 * A table here says for each request which handler it has and what a failure
 * costs.  The reply is built in place.
 *
 * A message that fails, because it is malformed, because it was not negotiated
 * or because the device refused it, is reported in the first of these ways
 * that exists:
 *  1. need_reply was set: the answer is a u64 that is not zero;
 *  2. the request owes a reply that can say no (GET_CONFIG: no payload);
 *  3. nothing can be said.  Then the smallest thing that the message was about
 *     breaks, and the log says why:
 *       the message  its loss harms nobody (SET_LOG_FD, SEND_RARP);
 *       the ring     it will not be started before the setting that failed has
 *                    been made: SET_VRING_KICK is refused until then, so that
 *                    a ring never runs with what was left of an earlier one;
 *       the device   front-end and back-end would disagree on features or
 *                    memory, or the front-end waits for a reply that cannot be
 *                    given: the connection ends.
 * A message whose frame cannot be trusted (version, flags, bounds) ends the
 * connection.  So does a request that does not exist, unless need_reply was
 * set: whether the front-end waits for a reply to it is not known.
 *
 * need_reply is honoured even where REPLY_ACK was not negotiated: who sets it
 * reads the answer.  It changes nothing where a reply is owed anyway.
 *
 * Fds: a handler takes the fds that it wants out of the message; those that
 * are left are closed.
 * Trust: the front-end is hostile.  No message ends the process, and nothing
 * waits for it: a message in pieces is kept until it is whole, an answer that finds no
 * room until there is some, and who makes that last holds up itself alone.
 *
 * Implements: vhost-user specification, "Front-end message types", "Suspended
 * device state", "VHOST_USER_PROTOCOL_F_REPLY_ACK".
 */
#include "vhost_user/vhost_user_server.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "host/closer.h"
#include "host/fd_budget.h"
#include "host/mapping.h"
#include "host/peer_fd.h"
#include "host/sharing.h"
#include "vhost_user/message.h"
#include "vhost_user/vhost_user_socket.h"
#include "virtio/feature_names.h"

/* What this side can relay for a back-end, and what it adds by itself. */
#define PROTOCOL_FEATURES_RELAYED                                                                  \
	(BIT64(VHOST_USER_PROTOCOL_F_MQ) | BIT64(VHOST_USER_PROTOCOL_F_RARP) |                     \
	 BIT64(VHOST_USER_PROTOCOL_F_MTU) | BIT64(VHOST_USER_PROTOCOL_F_BACKEND_REQ) |             \
	 BIT64(VHOST_USER_PROTOCOL_F_CONFIG) | BIT64(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD) |       \
	 BIT64(VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD) |                                            \
	 BIT64(VHOST_USER_PROTOCOL_F_RESET_DEVICE) |                                               \
	 BIT64(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS) | BIT64(VHOST_USER_PROTOCOL_F_STATUS))
#define PROTOCOL_FEATURES_OWN BIT64(VHOST_USER_PROTOCOL_F_REPLY_ACK)

/* Settings of a ring whose last message failed. */
#define RING_SPOILED_SIZE 0x1u
#define RING_SPOILED_ADDR 0x2u
#define RING_SPOILED_BASE 0x4u
#define RING_SPOILED_CALL 0x8u
#define RING_SPOILED_ERR 0x10u

struct server_ring {
	uint8_t spoiled; /* RING_SPOILED_ */
};

/* A request and, where one is owed, the reply that the handler makes. */
struct exchange {
	struct vhost_user_message request;
	struct vhost_user_message reply; /* header.size: payload bytes */
};

struct vhost_user_server {
	struct vhost_user_socket socket;
	struct virtio_device *device; /* borrowed */
	struct exchange exchange;
	size_t received; /* bytes of its request, while that is not whole */
	bool owes;       /* its reply is not out */
	struct vhost_user_outgoing sent;
	bool terms_known; /* terms.offered is valid */
	struct vhost_terms terms;
	struct vhost_user_socket channel; /* fd -1: there is none */
	bool config_change_pending;
	struct server_ring rings[VHOST_USER_QUEUES_MAX];
};

/* --- the back-end channel ------------------------------------------------- */

static void channel_send_config_changed(struct vhost_user_server *s)
{
	struct vhost_user_outgoing progress = { 0 };
	struct vhost_user_message m;
	struct umbra_error err;
	int rc;

	s->config_change_pending = false;
	vhost_user_message_init(&m, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, 0, 0);
	/* No need_reply, no waiting: the front-end may itself be waiting for
	 * our reply on the other socket. */
	rc = vhost_user_socket_send(&s->channel, &m, 1, &progress, &err);
	/* No room: it has not read the same news from before either. */
	if (rc && rc != -EAGAIN) {
		log_warning("%s; the channel is closed", err.text);
		closer_close(&s->channel.fd);
	}
}

void vhost_user_server_config_changed(struct vhost_user_server *server)
{
	if (server->channel.fd < 0 ||
	    !(server->terms.negotiated & BIT64(VHOST_USER_PROTOCOL_F_CONFIG)))
		return;
	if (server->device->ops->is_started(server->device))
		channel_send_config_changed(server);
	else
		server->config_change_pending = true;
}

/* --- handlers ------------------------------------------------------------- */

/* What the device does of @op; again, if it had to find out that somebody else answers now. */
#define ask(s, op, ...)                                                                            \
	({                                                                                         \
		int answer;                                                                        \
                                                                                                   \
		do                                                                                 \
			answer = (s)->device->ops->op((s)->device, __VA_ARGS__);                   \
		while (answer == -ERESTART);                                                       \
		answer;                                                                            \
	})

static int reply_u64(struct exchange *x, uint64_t value)
{
	x->reply.payload.u64 = value;
	x->reply.header.size = sizeof(value);
	return 0;
}

/* The fd of a message that has one at most, out of it; -1: none. */
static int take_fd(struct vhost_user_message *m)
{
	return m->fd_count ? fd_take(&m->fds[0]) : -1;
}

static int handle_nothing(struct vhost_user_server *s, struct exchange *x, struct umbra_error *err)
{
	(void)s;
	(void)x;
	(void)err;
	return 0;
}

static int handle_get_features(struct vhost_user_server *s, struct exchange *x,
			       struct umbra_error *err)
{
	uint64_t features;
	int rc = ask(s, get_features, &features, err);

	/* Protocol features are this side's own, whatever the back-end has. */
	return rc ? rc : reply_u64(x, features | BIT64(VHOST_USER_F_PROTOCOL_FEATURES));
}

static int handle_set_features(struct vhost_user_server *s, struct exchange *x,
			       struct umbra_error *err)
{
	return ask(s, set_features, x->request.payload.u64, err);
}

static int learn_terms(struct vhost_user_server *s, struct umbra_error *err)
{
	uint64_t features;
	int rc;

	if (s->terms_known)
		return 0;
	rc = ask(s, get_protocol_features, &features, err);
	if (rc)
		return rc;
	s->terms.offered = (features & PROTOCOL_FEATURES_RELAYED) | PROTOCOL_FEATURES_OWN;
	s->terms_known = true;
	return 0;
}

static int handle_get_protocol_features(struct vhost_user_server *s, struct exchange *x,
					struct umbra_error *err)
{
	int rc = learn_terms(s, err);

	return rc ? rc : reply_u64(x, s->terms.offered);
}

static int handle_set_protocol_features(struct vhost_user_server *s, struct exchange *x,
					struct umbra_error *err)
{
	uint64_t features = x->request.payload.u64, foreign;
	char text[FEATURES_TEXT_MAX];
	int rc = learn_terms(s, err);

	if (rc)
		return rc;
	foreign = features & ~s->terms.offered;
	if (foreign)
		return error_set(err, -EINVAL, "0x%" PRIx64 " has %s, not offered (0x%" PRIx64 ")",
				 features,
				 vhost_protocol_features_text(text, sizeof(text), foreign),
				 s->terms.offered);
	rc = ask(s, set_protocol_features, features & ~PROTOCOL_FEATURES_OWN, err);
	if (!rc)
		s->terms.negotiated = features;
	return rc;
}

static int handle_get_queue_num(struct vhost_user_server *s, struct exchange *x,
				struct umbra_error *err)
{
	uint64_t count;
	int rc = ask(s, get_queue_num, &count, err);

	return rc ? rc : reply_u64(x, MIN(count, VHOST_USER_QUEUES_MAX));
}

static int handle_get_max_mem_slots(struct vhost_user_server *s, struct exchange *x,
				    struct umbra_error *err)
{
	uint64_t count;
	int rc = ask(s, get_memory_slots, &count, err);

	return rc ? rc : reply_u64(x, count);
}

static int map_region(const struct vhost_user_region *r, int *fd, struct memory_region *out,
		      struct umbra_error *err)
{
	struct mapping_request request = {
		.gpa = { r->guest_addr },
		.uva = { r->user_addr },
		.size = r->size,
		.offset = r->mmap_offset,
	};

	return mapping_create(fd, &request, out, err);
}

static int handle_set_mem_table(struct vhost_user_server *s, struct exchange *x,
				struct umbra_error *err)
{
	const struct vhost_user_mem_table *table = &x->request.payload.table;
	struct memory_region regions[VHOST_USER_MEM_TABLE_REGIONS];
	unsigned int mapped = 0;
	int rc = 0;

	while (mapped < table->count && !rc) {
		rc = map_region(&table->regions[mapped], &x->request.fds[mapped], &regions[mapped],
				err);
		if (!rc)
			mapped++;
	}
	if (!rc)
		rc = ask(s, set_memory, regions, mapped, err);
	while (mapped--)
		memory_backing_unref(regions[mapped].backing);
	return rc;
}

static int handle_add_mem_reg(struct vhost_user_server *s, struct exchange *x,
			      struct umbra_error *err)
{
	struct memory_region region;
	int rc =
		map_region(&x->request.payload.mem_region.region, &x->request.fds[0], &region, err);

	if (rc)
		return rc;
	rc = ask(s, add_region, &region, err);
	memory_backing_unref(region.backing);
	return rc;
}

static int handle_rem_mem_reg(struct vhost_user_server *s, struct exchange *x,
			      struct umbra_error *err)
{
	const struct vhost_user_region *r = &x->request.payload.mem_region.region;
	const struct memory_region region = {
		.gpa = { r->guest_addr },
		.uva = { r->user_addr },
		.size = r->size,
	};

	return ask(s, remove_region, &region, err);
}

/* Note how a setting of a ring went.  Returns @rc. */
static int ring_note(struct vhost_user_server *s, unsigned int index, uint8_t setting, int rc)
{
	if (rc)
		s->rings[index].spoiled |= setting;
	else
		s->rings[index].spoiled &= (uint8_t)~setting;
	return rc;
}

static int handle_set_vring_num(struct vhost_user_server *s, struct exchange *x,
				struct umbra_error *err)
{
	const struct vhost_vring_state *state = &x->request.payload.state;

	return ring_note(s, state->index, RING_SPOILED_SIZE,
			 ask(s, ring_set_size, state->index, state->num, err));
}

static int handle_set_vring_addr(struct vhost_user_server *s, struct exchange *x,
				 struct umbra_error *err)
{
	const struct vhost_vring_addr *a = &x->request.payload.addr;
	const struct virtio_ring_addr addr = {
		.desc = { a->desc_user_addr },
		.avail = { a->avail_user_addr },
		.used = { a->used_user_addr },
	};
	int rc;

	if (a->flags)
		rc = error_set(err, -EOPNOTSUPP,
			       "queue %u: flags 0x%x; expected 0, since dirty "
			       "logging was not offered",
			       a->index, a->flags);
	else
		rc = ask(s, ring_set_addr, a->index, &addr, err);
	return ring_note(s, a->index, RING_SPOILED_ADDR, rc);
}

static int handle_set_vring_base(struct vhost_user_server *s, struct exchange *x,
				 struct umbra_error *err)
{
	const struct vhost_vring_state *state = &x->request.payload.state;
	struct ring_position base;
	int rc = ring_position_from_wire(RING_SPLIT, state->num, &base); /* all that is offered */

	if (rc)
		error_set(err, rc, "queue %u: base %u is not an index of a split ring (0 to 65535)",
			  state->index, state->num);
	else
		rc = ask(s, ring_set_base, state->index, base, err);
	return ring_note(s, state->index, RING_SPOILED_BASE, rc);
}

static int handle_get_vring_base(struct vhost_user_server *s, struct exchange *x,
				 struct umbra_error *err)
{
	unsigned int index = x->request.payload.state.index;
	struct ring_position base;
	int rc = ask(s, ring_stop, index, &base, err);

	if (rc)
		return rc;
	x->reply.payload.state = (struct vhost_vring_state){
		.index = index,
		.num = ring_position_to_wire(base),
	};
	x->reply.header.size = sizeof(x->reply.payload.state);
	return 0;
}

/* The fd of SET_VRING_KICK, _CALL and _ERR; -1 if bit 8 says that there is
 * none, whatever came.  -EINVAL: it is not what it should be. */
static int take_ring_fd(struct vhost_user_message *m, enum peer_fd_use use, unsigned int *index,
			int *fd, struct umbra_error *err)
{
	int rc;

	*index = (unsigned int)(m->payload.u64 & VHOST_USER_VRING_INDEX_MASK);
	*fd = m->payload.u64 & VHOST_USER_VRING_NO_FD ? -1 : take_fd(m);
	if (*fd < 0)
		return 0;
	rc = peer_fd_check(*fd, use, err);
	return rc ? error_prefix(err, rc, "queue %u", *index) : 0;
}

static int handle_set_vring_kick(struct vhost_user_server *s, struct exchange *x,
				 struct umbra_error *err)
{
	unsigned int index;
	int fd, rc = take_ring_fd(&x->request, PEER_FD_KICK, &index, &fd, err);

	if (!rc && s->rings[index].spoiled)
		rc = error_set(err, -EINVAL,
			       "queue %u is not started, because its last%s%s%s%s%s "
			       "failed",
			       index,
			       s->rings[index].spoiled & RING_SPOILED_SIZE ? " SET_VRING_NUM" : "",
			       s->rings[index].spoiled & RING_SPOILED_ADDR ? " SET_VRING_ADDR" : "",
			       s->rings[index].spoiled & RING_SPOILED_BASE ? " SET_VRING_BASE" : "",
			       s->rings[index].spoiled & RING_SPOILED_CALL ? " SET_VRING_CALL" : "",
			       s->rings[index].spoiled & RING_SPOILED_ERR ? " SET_VRING_ERR" : "");
	if (!rc) {
		sharing_check(s->device->ops->memory(s->device), index);
		rc = ask(s, ring_set_kick, index, &fd, err);
	}
	closer_close(&fd);
	if (!rc && s->config_change_pending)
		vhost_user_server_config_changed(s);
	return rc;
}

static int handle_set_vring_call(struct vhost_user_server *s, struct exchange *x,
				 struct umbra_error *err)
{
	unsigned int index;
	int fd, rc = take_ring_fd(&x->request, PEER_FD_CALL, &index, &fd, err);

	if (!rc)
		rc = ask(s, ring_set_call, index, &fd, err);
	closer_close(&fd);
	return ring_note(s, index, RING_SPOILED_CALL, rc);
}

static int handle_set_vring_err(struct vhost_user_server *s, struct exchange *x,
				struct umbra_error *err)
{
	unsigned int index;
	int fd, rc = take_ring_fd(&x->request, PEER_FD_ERR, &index, &fd, err);

	if (!rc)
		rc = ask(s, ring_set_err, index, &fd, err);
	closer_close(&fd);
	return ring_note(s, index, RING_SPOILED_ERR, rc);
}

static int handle_set_vring_enable(struct vhost_user_server *s, struct exchange *x,
				   struct umbra_error *err)
{
	const struct vhost_vring_state *state = &x->request.payload.state;

	if (state->num > 1)
		return error_set(err, -EINVAL, "queue %u: %u; expected 0 or 1", state->index,
				 state->num);
	return ask(s, ring_enable, state->index, state->num == 1, err);
}

static int handle_set_backend_req_fd(struct vhost_user_server *s, struct exchange *x,
				     struct umbra_error *err)
{
	int rc = peer_fd_check(x->request.fds[0], PEER_FD_CHANNEL, err);

	if (rc)
		return rc;
	closer_close(&s->channel.fd);
	s->channel.fd = take_fd(&x->request);
	return 0;
}

static int handle_get_config(struct vhost_user_server *s, struct exchange *x,
			     struct umbra_error *err)
{
	const struct vhost_user_config *asked = &x->request.payload.config;
	struct vhost_user_config *told = &x->reply.payload.config;
	int rc;

	rc = ask(s, get_config, asked->offset, told->data, asked->size, err);
	if (rc)
		return rc;
	told->offset = asked->offset;
	told->size = asked->size;
	told->flags = asked->flags;
	x->reply.header.size = VHOST_USER_CONFIG_HEADER + asked->size;
	return 0;
}

static int handle_set_config(struct vhost_user_server *s, struct exchange *x,
			     struct umbra_error *err)
{
	const struct vhost_user_config *config = &x->request.payload.config;

	return ask(s, set_config, config->offset, config->data, config->size, config->flags, err);
}

static int handle_get_status(struct vhost_user_server *s, struct exchange *x,
			     struct umbra_error *err)
{
	uint8_t status;
	int rc = ask(s, get_status, &status, err);

	return rc ? rc : reply_u64(x, status);
}

static int handle_set_status(struct vhost_user_server *s, struct exchange *x,
			     struct umbra_error *err)
{
	uint64_t status = x->request.payload.u64;

	if (status > UINT8_MAX)
		return error_set(err, -EINVAL, "0x%" PRIx64 "; expected 8 bits", status);
	return ask(s, set_status, (uint8_t)status, err);
}

static int handle_reset_device(struct vhost_user_server *s, struct exchange *x,
			       struct umbra_error *err)
{
	int rc = ask(s, reset, err);

	(void)x;
	if (rc)
		return rc;
	memset(s->rings, 0, sizeof(s->rings));
	return 0;
}

/* Its answer has a file descriptor of its own, which is closed when the answer is out. */
static int handle_get_inflight_fd(struct vhost_user_server *s, struct exchange *x,
				  struct umbra_error *err)
{
	const struct vhost_user_inflight *asked = &x->request.payload.inflight;
	const struct virtio_inflight shape = { asked->queue_count, asked->queue_size };
	struct memory_region region;
	int rc, fd;

	if (!s->device->ops->get_inflight)
		return error_set(err, -EOPNOTSUPP, "the device has no in-flight region");
	rc = ask(s, get_inflight, &shape, &region, err);
	if (rc)
		return rc;
	fd = fcntl(region.backing->fd, F_DUPFD_CLOEXEC, 0);
	x->reply.payload.inflight = (struct vhost_user_inflight){
		.mmap_size = region.size,
		.mmap_offset = region.backing->fd_offset,
		.queue_count = shape.queues,
		.queue_size = shape.size,
	};
	memory_backing_unref(region.backing);
	if (fd < 0)
		return error_set(err, -errno, "in-flight region: dup: %s", strerror(errno));
	x->reply.header.size = x->request.header.size;
	x->reply.fds[x->reply.fd_count++] = fd;
	return 0;
}

static int handle_set_inflight_fd(struct vhost_user_server *s, struct exchange *x,
				  struct umbra_error *err)
{
	const struct vhost_user_inflight *brought = &x->request.payload.inflight;
	const struct virtio_inflight shape = { brought->queue_count, brought->queue_size };
	const struct mapping_request request = { .size = brought->mmap_size,
						 .offset = brought->mmap_offset };
	struct memory_region region;
	int rc;

	if (!s->device->ops->set_inflight)
		return error_set(err, -EOPNOTSUPP, "the device has no in-flight region");
	rc = mapping_create(&x->request.fds[0], &request, &region, err);
	if (rc)
		return error_prefix(err, rc, "in-flight region");
	rc = ask(s, set_inflight, &shape, &region, err);
	memory_backing_unref(region.backing);
	return rc;
}

static int handle_set_mtu(struct vhost_user_server *s, struct exchange *x, struct umbra_error *err)
{
	if (!s->device->ops->set_mtu)
		return error_set(err, -EOPNOTSUPP, "the device is no network card");
	return ask(s, set_mtu, x->request.payload.u64, err);
}

static int handle_send_rarp(struct vhost_user_server *s, struct exchange *x,
			    struct umbra_error *err)
{
	if (!s->device->ops->send_rarp)
		return error_set(err, -EOPNOTSUPP, "the device is no network card");
	return ask(s, send_rarp, x->request.payload.bytes, err);
}

/* --- what each request is worth ------------------------------------------- */

/* What breaks when a request fails and nobody can be told. */
enum scope { SCOPE_DEVICE, SCOPE_RING, SCOPE_MESSAGE };

/* No handler: the request is known, but nothing here is offered that it
 * belongs to. */
static const struct {
	int (*handle)(struct vhost_user_server *s, struct exchange *x, struct umbra_error *err);
	enum scope scope;
} requests[VHOST_USER_REQUEST_END] = {
	[VHOST_USER_GET_FEATURES] = { handle_get_features, SCOPE_DEVICE },
	[VHOST_USER_SET_FEATURES] = { handle_set_features, SCOPE_DEVICE },
	[VHOST_USER_SET_OWNER] = { handle_nothing, SCOPE_MESSAGE },
	/* "It is recommended that back-ends either ignore this message, or ..." */
	[VHOST_USER_RESET_OWNER] = { handle_nothing, SCOPE_MESSAGE },
	[VHOST_USER_SET_MEM_TABLE] = { handle_set_mem_table, SCOPE_DEVICE },
	[VHOST_USER_SET_LOG_BASE] = { NULL, SCOPE_DEVICE }, /* a migration would lose pages */
	[VHOST_USER_SET_LOG_FD] = { NULL, SCOPE_MESSAGE },
	[VHOST_USER_SET_VRING_NUM] = { handle_set_vring_num, SCOPE_RING },
	[VHOST_USER_SET_VRING_ADDR] = { handle_set_vring_addr, SCOPE_RING },
	[VHOST_USER_SET_VRING_BASE] = { handle_set_vring_base, SCOPE_RING },
	[VHOST_USER_GET_VRING_BASE] = { handle_get_vring_base, SCOPE_DEVICE },
	[VHOST_USER_SET_VRING_KICK] = { handle_set_vring_kick, SCOPE_RING },
	[VHOST_USER_SET_VRING_CALL] = { handle_set_vring_call, SCOPE_RING },
	[VHOST_USER_SET_VRING_ERR] = { handle_set_vring_err, SCOPE_RING },
	[VHOST_USER_GET_PROTOCOL_FEATURES] = { handle_get_protocol_features, SCOPE_DEVICE },
	[VHOST_USER_SET_PROTOCOL_FEATURES] = { handle_set_protocol_features, SCOPE_DEVICE },
	[VHOST_USER_GET_QUEUE_NUM] = { handle_get_queue_num, SCOPE_DEVICE },
	[VHOST_USER_SET_VRING_ENABLE] = { handle_set_vring_enable, SCOPE_RING },
	[VHOST_USER_SEND_RARP] = { handle_send_rarp, SCOPE_MESSAGE },
	[VHOST_USER_NET_SET_MTU] = { handle_set_mtu, SCOPE_MESSAGE },
	[VHOST_USER_SET_BACKEND_REQ_FD] = { handle_set_backend_req_fd, SCOPE_MESSAGE },
	[VHOST_USER_SET_VRING_ENDIAN] = { NULL, SCOPE_DEVICE },
	[VHOST_USER_GET_CONFIG] = { handle_get_config, SCOPE_DEVICE },
	[VHOST_USER_SET_CONFIG] = { handle_set_config, SCOPE_MESSAGE },
	[VHOST_USER_GET_INFLIGHT_FD] = { handle_get_inflight_fd, SCOPE_DEVICE },
	[VHOST_USER_SET_INFLIGHT_FD] = { handle_set_inflight_fd, SCOPE_DEVICE },
	[VHOST_USER_RESET_DEVICE] = { handle_reset_device, SCOPE_DEVICE },
	[VHOST_USER_GET_MAX_MEM_SLOTS] = { handle_get_max_mem_slots, SCOPE_DEVICE },
	[VHOST_USER_ADD_MEM_REG] = { handle_add_mem_reg, SCOPE_DEVICE },
	[VHOST_USER_REM_MEM_REG] = { handle_rem_mem_reg, SCOPE_DEVICE },
	[VHOST_USER_SET_STATUS] = { handle_set_status, SCOPE_MESSAGE },
	[VHOST_USER_GET_STATUS] = { handle_get_status, SCOPE_DEVICE },
};

/* --- one message ------------------------------------------------------------ */

/* Send the reply, or what is left of it. */
static int send_reply(struct vhost_user_server *s, struct umbra_error *err)
{
	int rc = vhost_user_socket_send(&s->socket, &s->exchange.reply, 1, &s->sent, err);

	s->owes = rc == -EAGAIN;
	if (!s->owes) {
		s->sent = (struct vhost_user_outgoing){ 0 };
		vhost_user_message_close(&s->exchange.reply);
	}
	return s->owes ? 0 : rc;
}

static int answer_success(struct vhost_user_server *s, const struct vhost_request_info *info,
			  struct exchange *x, struct umbra_error *err)
{
	if (!vhost_reply_owed(info, &s->terms)) {
		if (!(x->request.header.flags & VHOST_USER_NEED_REPLY))
			return 0;
		reply_u64(x, 0);
	}
	return send_reply(s, err);
}

/* The request failed with @rc, and @err says why.  0: the connection lives. */
static int answer_failure(struct vhost_user_server *s, const struct vhost_request_info *info,
			  struct exchange *x, int rc, struct umbra_error *err)
{
	bool owed = info && vhost_reply_owed(info, &s->terms);
	/* A malformed message does not even name its ring. */
	enum scope scope =
		info && rc != -EPROTO ? requests[x->request.header.request].scope : SCOPE_DEVICE;

	if (rc == -ECANCELED)
		return rc;
	x->reply.header.size = 0;
	if (owed && info->refusal == VHOST_REFUSE_U64) {
		reply_u64(x, x->request.header.request == VHOST_USER_SET_DEVICE_STATE_FD
				     ? VHOST_USER_DEVICE_STATE_REFUSED
				     : 1);
	} else if (owed && info->refusal == VHOST_REFUSE_ZEROS) {
		x->reply.header.size = info->reply_max;
		memset(&x->reply.payload, 0, info->reply_max);
	} else if (!owed && (x->request.header.flags & VHOST_USER_NEED_REPLY)) {
		reply_u64(x, 1);
	} else if (!owed && scope != SCOPE_DEVICE) {
		log_warning("front-end: %s; %s", err->text,
			    scope == SCOPE_RING ? "the queue stays as it is" : "ignored");
		return 0;
	} else if (!owed || info->refusal == VHOST_REFUSE_NOT) {
		return error_prefix(err, rc, "front-end");
	}
	log_warning("front-end: %s; refused", err->text);
	return send_reply(s, err);
}

static int handle(struct vhost_user_server *s, const struct vhost_request_info *info,
		  struct exchange *x, struct umbra_error *err)
{
	uint32_t request = x->request.header.request;
	int rc;

	if (info && x->request.lacks_fds)
		return error_set(
			err, -EMFILE,
			"%s: the limit of open files (RLIMIT_NOFILE) leaves no room for its "
			"file descriptors; the last %u are kept for the operator",
			info->name, FD_RESERVE);
	rc = vhost_message_check(VHOST_FROM_FRONTEND, &s->terms, &x->request.header,
				 &x->request.payload, x->request.fd_count, err);
	if (rc)
		return rc;
	if (!requests[request].handle)
		return error_set(err, -EOPNOTSUPP, "%s belongs to what was not offered",
				 info->name);
	rc = requests[request].handle(s, x, err);
	if (rc)
		error_prefix(err, rc, "%s", info->name);
	/* The device's codes are its own; -EPROTO and -EBADMSG are ours. */
	if (rc == -EPROTO || rc == -EBADMSG)
		rc = -EREMOTEIO;
	return rc;
}

short vhost_user_server_events(const struct vhost_user_server *server)
{
	return server->owes ? POLLOUT : POLLIN;
}

int vhost_user_server_receive(struct vhost_user_server *server, struct umbra_error *err)
{
	const struct vhost_request_info *info;
	struct exchange *x = &server->exchange;
	struct umbra_error local = { "" };
	int rc;

	err = err ? err : &local;
	if (server->owes) {
		rc = send_reply(server, err);
		return rc ? rc : 1;
	}
	rc = vhost_user_socket_receive(&server->socket, &x->request, &server->received, err);
	if (rc == -EAGAIN)
		return 1;
	if (rc <= 0)
		return rc;
	info = vhost_request_info(VHOST_FROM_FRONTEND, x->request.header.request);
	vhost_user_message_init(&x->reply, x->request.header.request, VHOST_USER_REPLY, 0);
	rc = handle(server, info, x, err);
	vhost_user_message_close(&x->request);
	if (rc == -EBADMSG)
		return error_prefix(err, rc, "front-end");
	if (rc)
		rc = answer_failure(server, info, x, rc, err);
	else
		rc = answer_success(server, info, x, err);
	return rc ? rc : 1;
}

/* --- making and ending ------------------------------------------------------ */

int vhost_user_server_create(int *socket_fd, struct virtio_device *device, int stop_fd,
			     struct vhost_user_server **out, struct umbra_error *err)
{
	struct vhost_user_server *s = calloc(1, sizeof(*s));

	if (!s)
		return error_set(err, -ENOMEM, "front-end: no memory for a connection");
	s->device = device;
	s->socket = (struct vhost_user_socket){ fd_take(socket_fd), stop_fd, "front-end" };
	peer_fd_name_connection(s->socket.fd);
	s->channel = (struct vhost_user_socket){ -1, stop_fd, "front-end's back-end channel" };
	*out = s;
	return 0;
}

int vhost_user_server_save(const struct vhost_user_server *s, struct record *w,
			   struct umbra_error *err)
{
	if (s->received || s->owes)
		return error_set(err, -EBUSY, "%s",
				 s->owes ? "an answer to the front-end is not out"
					 : "half a message of the front-end has come");
	RECORD_PUT(w, "front-end", s->terms_known, s->terms.offered, s->terms.negotiated,
		   s->config_change_pending);
	record_put_fd(w, s->socket.fd);
	record_put_fd(w, s->channel.fd);
	for (unsigned int i = 0; i < VHOST_USER_QUEUES_MAX; i++)
		if (s->rings[i].spoiled)
			RECORD_PUT(w, "spoiled", i, s->rings[i].spoiled);
	RECORD_PUT(w, "spoiled", VHOST_USER_QUEUES_MAX, 0);
	return 0;
}

static int spoiled_inherit(struct vhost_user_server *s, struct record *in, struct umbra_error *err)
{
	uint64_t v[2] = { 0 };
	int rc = 0;

	for (uint64_t next = 0; !rc && next <= VHOST_USER_QUEUES_MAX; next = v[0] + 1) {
		rc = record_get(in, "spoiled", v, 2, err);
		if (!rc && (v[0] < next || v[0] > VHOST_USER_QUEUES_MAX || v[1] > UINT8_MAX))
			rc = error_set(err, -EINVAL,
				       "the saved front-end has set queue %" PRIu64
				       " wrongly, which it has not",
				       v[0]);
		if (!rc && v[0] < VHOST_USER_QUEUES_MAX)
			s->rings[v[0]].spoiled = (uint8_t)v[1];
	}
	return rc;
}

int vhost_user_server_inherit(struct record *in, struct virtio_device *device, int stop_fd,
			      struct vhost_user_server **out, struct umbra_error *err)
{
	struct vhost_user_server *s = NULL;
	int fd = -1, channel = -1, rc;
	uint64_t v[4];

	rc = record_get(in, "front-end", v, 4, err);
	if (!rc)
		rc = record_get_fd(in, &fd, err);
	if (!rc)
		rc = record_get_fd(in, &channel, err);
	if (!rc && channel >= 0)
		rc = peer_fd_check(channel, PEER_FD_CHANNEL, err);
	if (!rc &&
	    (v[1] & ~(PROTOCOL_FEATURES_RELAYED | PROTOCOL_FEATURES_OWN) || v[2] & ~v[1] || fd < 0))
		rc = error_set(err, -EINVAL,
			       "the saved front-end was offered protocol features 0x%" PRIx64
			       " and has taken 0x%" PRIx64 ", or has no connection",
			       v[1], v[2]);
	if (!rc)
		rc = vhost_user_server_create(&fd, device, stop_fd, &s, err);
	if (!rc) {
		s->terms_known = v[0];
		s->terms.offered = v[1];
		s->terms.negotiated = v[2];
		s->config_change_pending = v[3];
		s->channel.fd = fd_take(&channel);
		rc = spoiled_inherit(s, in, err);
	}
	if (rc)
		vhost_user_server_destroy(&s);
	else
		*out = s;
	fd_close(&fd);
	fd_close(&channel);
	return rc;
}

int vhost_user_server_fd(const struct vhost_user_server *server)
{
	return server->socket.fd;
}

void vhost_user_server_destroy(struct vhost_user_server **server)
{
	struct vhost_user_server *s = *server;

	*server = NULL;
	if (!s)
		return;
	if (s->received)
		vhost_user_message_close(&s->exchange.request);
	vhost_user_message_close(&s->exchange.reply);
	closer_close(&s->channel.fd);
	fd_close(&s->socket.fd);
	free(s);
}
