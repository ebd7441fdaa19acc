/* SPDX-License-Identifier: BSD-2-Clause */
/* The front-end's half of vhost-user: see vhost_user_client.h. */
#include "vhost_user/vhost_user_client.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "umbra/shadow_device.h"
#include "vhost_user/vhost_user_client_private.h"
#include "virtio/feature_names.h"

/* What callers may be offered of a back-end's protocol features.  The rest
 * goes past whoever stands in the middle (HOST_NOTIFIER), needs a relay that
 * does not exist, or is this file's own business (REPLY_ACK). */
#define PROTOCOL_FEATURES_PASSED                                                                   \
	(BIT64(VHOST_USER_PROTOCOL_F_MQ) | BIT64(VHOST_USER_PROTOCOL_F_RARP) |                     \
	 BIT64(VHOST_USER_PROTOCOL_F_MTU) | BIT64(VHOST_USER_PROTOCOL_F_BACKEND_REQ) |             \
	 BIT64(VHOST_USER_PROTOCOL_F_CONFIG) | BIT64(VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD) |      \
	 BIT64(VHOST_USER_PROTOCOL_F_RESET_DEVICE) |                                               \
	 BIT64(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS) | BIT64(VHOST_USER_PROTOCOL_F_STATUS))

/* What is negotiated whatever the caller takes: MQ for GET_QUEUE_NUM, and the slots for
 * regions of the shadow's own beside the caller's table. */
#define PROTOCOL_FEATURES_OWN                                                                      \
	(BIT64(VHOST_USER_PROTOCOL_F_REPLY_ACK) | BIT64(VHOST_USER_PROTOCOL_F_MQ) |                \
	 BIT64(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS))

/* libvhost-user drops a front-end whose message has more than this of it. */
#define CONFIG_SIZE_MAX 256u /* bytes */

static int client_set_u64(struct client *c, uint32_t request, uint64_t value,
			  struct umbra_error *err)
{
	struct vhost_user_message m;

	vhost_user_message_init(&m, request, 0, sizeof(m.payload.u64));
	m.payload.u64 = value;
	return client_set_confirmed(c, &m, err);
}

/* -EOPNOTSUPP if a request needs a feature that is not there. */
static int client_needs(uint64_t have, unsigned int feature, uint32_t request,
			struct umbra_error *err)
{
	if (have & BIT64(feature))
		return 0;
	return error_set(err, -EOPNOTSUPP,
			 "back-end: has no %s, because protocol feature %s is missing",
			 vhost_request_name(VHOST_FROM_FRONTEND, request),
			 vhost_protocol_feature_name(feature));
}

/* --- features ------------------------------------------------------------ */

static int client_get_features(struct virtio_device *b, uint64_t *features, struct umbra_error *err)
{
	struct client *c = client_of(b);
	int rc = vhost_user_requester_query(&c->r, VHOST_USER_GET_FEATURES, features, err);

	if (rc)
		return rc;
	c->features_offered = *features;
	c->features_known = true;
	return 0;
}

/* Learn terms.offered.  A back-end without bit 30 must not even be asked. */
static int client_learn_terms(struct client *c, struct umbra_error *err)
{
	uint64_t features;
	int rc;

	if (c->terms_known)
		return 0;
	if (!c->features_known) {
		rc = client_get_features(&c->backend, &features, err);
		if (rc)
			return rc;
	}
	if (c->features_offered & F_PROTOCOL) {
		rc = vhost_user_requester_query(&c->r, VHOST_USER_GET_PROTOCOL_FEATURES,
						&c->r.terms.offered, err);
		if (rc)
			return rc;
	}
	c->terms_known = true;
	c->family = vhost_user_family_find(c->features_offered, c->r.terms.offered);
	c->hush.way = c->family->hush;
	if (c->hush.way == HUSH_BY_KICK)
		c->backend.traits |= BACKEND_HEARS_NEW_KICKS;
	return 0;
}

/* Bit 30 is taken wherever it is offered: rings are enabled and disabled by us. */
static int client_set_features(struct virtio_device *b, uint64_t features, struct umbra_error *err)
{
	struct client *c = client_of(b);
	int rc = client_learn_terms(c, err);

	features |= c->features_offered & F_PROTOCOL;
	if (!rc)
		rc = client_set_u64(c, VHOST_USER_SET_FEATURES, features, err);
	if (!rc)
		c->features = features;
	return rc;
}

static int client_get_protocol_features(struct virtio_device *b, uint64_t *features,
					struct umbra_error *err)
{
	struct client *c = client_of(b);
	int rc = client_learn_terms(c, err);

	if (rc)
		return rc;
	*features = c->r.terms.offered & PROTOCOL_FEATURES_PASSED;
	/* Only the channel of the first gives the second a meaning. */
	if (!(*features & BIT64(VHOST_USER_PROTOCOL_F_BACKEND_REQ)))
		*features &= ~BIT64(VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD);
	return 0;
}

static int client_open_channel(struct client *c, struct umbra_error *err)
{
	struct vhost_user_message m;
	int pair[2], rc;

	if (c->r.channel.fd >= 0)
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return error_set(err, -errno, "back-end's channel: socketpair: %s",
				 strerror(errno));
	vhost_user_message_init(&m, VHOST_USER_SET_BACKEND_REQ_FD, 0, 0);
	m.fds[m.fd_count++] = pair[1];
	c->r.channel.fd = pair[0];
	rc = client_set_confirmed(c, &m, err);
	fd_close(&pair[1]);
	if (rc && rc != -EINPROGRESS)
		c->r.channel_dead = true;
	return rc;
}

static int client_set_protocol_features(struct virtio_device *b, uint64_t features,
					struct umbra_error *err)
{
	struct client *c = client_of(b);
	struct vhost_user_message m;
	uint64_t possible, foreign;
	int rc;

	rc = client_get_protocol_features(b, &possible, err);
	if (rc)
		return rc;
	foreign = features & ~possible;
	if (foreign)
		return error_set(err, -EINVAL,
				 "back-end: protocol features 0x%" PRIx64
				 " were asked for; only 0x%" PRIx64 " can be had",
				 features, possible);
	if (!(c->features_offered & F_PROTOCOL))
		return 0;
	features |= c->r.terms.offered & PROTOCOL_FEATURES_OWN;
	vhost_user_message_init(&m, VHOST_USER_SET_PROTOCOL_FEATURES, 0, sizeof(m.payload.u64));
	m.payload.u64 = features;
	/* Not acknowledged: this very message decides about it. */
	c->r.terms.negotiated = 0;
	rc = client_set_confirmed(c, &m, err);
	if (rc)
		return rc;
	c->r.terms.negotiated = features;
	if (features & BIT64(VHOST_USER_PROTOCOL_F_BACKEND_REQ))
		return client_open_channel(c, err);
	return 0;
}

static int client_get_queue_num(struct virtio_device *b, uint64_t *count, struct umbra_error *err)
{
	struct client *c = client_of(b);
	int rc = client_learn_terms(c, err);

	/* A front-end that takes no protocol features has not brought ours along. */
	if (!rc && c->r.terms.offered && !c->r.terms.negotiated)
		rc = client_set_protocol_features(b, 0, err);
	if (!rc)
		rc = client_needs(c->r.terms.negotiated, VHOST_USER_PROTOCOL_F_MQ,
				  VHOST_USER_GET_QUEUE_NUM, err);
	return rc ? rc : vhost_user_requester_query(&c->r, VHOST_USER_GET_QUEUE_NUM, count, err);
}

/* --- memory -------------------------------------------------------------- */

static int client_get_memory_slots(struct virtio_device *b, uint64_t *count,
				   struct umbra_error *err)
{
	struct client *c = client_of(b);
	int rc = client_needs(c->r.terms.negotiated, VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS,
			      VHOST_USER_GET_MAX_MEM_SLOTS, err);

	return rc ? rc
		  : vhost_user_requester_query(&c->r, VHOST_USER_GET_MAX_MEM_SLOTS, count, err);
}

static int region_encode(const struct memory_region *r, struct vhost_user_region *out, int *fd,
			 struct umbra_error *err)
{
	if (!r->backing || r->backing->fd < 0)
		return error_set(err, -EINVAL,
				 "memory region at gpa 0x%" PRIx64
				 " has no file that could be passed to the back-end",
				 r->gpa.v);
	*out = (struct vhost_user_region){
		.guest_addr = r->gpa.v,
		.size = r->size,
		.user_addr = r->uva.v,
		.mmap_offset = r->backing->fd_offset,
	};
	*fd = r->backing->fd;
	return 0;
}

static int client_add_region(struct virtio_device *b, const struct memory_region *region,
			     struct umbra_error *err)
{
	struct client *c = client_of(b);
	struct vhost_user_message m;
	int rc = client_needs(c->r.terms.negotiated, VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS,
			      VHOST_USER_ADD_MEM_REG, err);

	if (rc)
		return rc;
	vhost_user_message_init(&m, VHOST_USER_ADD_MEM_REG, 0, sizeof(m.payload.mem_region));
	rc = region_encode(region, &m.payload.mem_region.region, &m.fds[0], err);
	if (rc)
		return rc;
	m.fd_count = 1;
	return client_set_confirmed(c, &m, err);
}

static int client_remove_region(struct virtio_device *b, const struct memory_region *region,
				struct umbra_error *err)
{
	struct client *c = client_of(b);
	struct vhost_user_message m;
	int fd, rc = client_needs(c->r.terms.negotiated, VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS,
				  VHOST_USER_REM_MEM_REG, err);

	if (rc)
		return rc;
	vhost_user_message_init(&m, VHOST_USER_REM_MEM_REG, 0, sizeof(m.payload.mem_region));
	rc = region_encode(region, &m.payload.mem_region.region, &fd, err);
	return rc ? rc : client_set_confirmed(c, &m, err);
}

/* A table holds 8 regions; more follow one by one where the back-end can. */
static int client_set_memory(struct virtio_device *b, const struct memory_region *regions,
			     unsigned int count, struct umbra_error *err)
{
	struct client *c = client_of(b);
	unsigned int first = MIN(count, VHOST_USER_MEM_TABLE_REGIONS);
	struct vhost_user_message m;
	int rc;

	if (count > first &&
	    !(c->r.terms.negotiated & BIT64(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS)))
		return error_set(err, -EOPNOTSUPP,
				 "back-end: %u memory regions; without CONFIGURE_MEM_SLOTS at most "
				 "%u can be passed",
				 count, VHOST_USER_MEM_TABLE_REGIONS);
	vhost_user_message_init(&m, VHOST_USER_SET_MEM_TABLE, 0,
				(uint32_t)(offsetof(struct vhost_user_mem_table, regions) +
					   first * sizeof(m.payload.table.regions[0])));
	m.payload.table.count = first;
	for (unsigned int i = 0; i < first; i++) {
		rc = region_encode(&regions[i], &m.payload.table.regions[i], &m.fds[i], err);
		if (rc)
			return rc;
	}
	m.fd_count = first;
	rc = client_set_confirmed(c, &m, err);
	for (unsigned int i = first; i < count && !rc; i++)
		rc = client_add_region(b, &regions[i], err);
	return rc;
}

/* --- the device ---------------------------------------------------------- */

static int config_check(const struct client *c, uint32_t offset, uint32_t size, uint32_t request,
			struct umbra_error *err)
{
	if (size == 0 || offset > CONFIG_SIZE_MAX || size > CONFIG_SIZE_MAX - offset)
		return error_set(err, -EINVAL,
				 "%s: config space at %u, %u bytes; expected 1 to %u in all",
				 vhost_request_name(VHOST_FROM_FRONTEND, request), offset, size,
				 CONFIG_SIZE_MAX);
	return client_needs(c->r.terms.negotiated, VHOST_USER_PROTOCOL_F_CONFIG, request, err);
}

/* Always from offset 0: libvhost-user does not look at the offset. */
static int client_get_config(struct virtio_device *b, uint32_t offset, void *data, uint32_t size,
			     struct umbra_error *err)
{
	struct client *c = client_of(b);
	uint32_t total = offset + size;
	struct vhost_user_message m;
	int rc = config_check(c, offset, size, VHOST_USER_GET_CONFIG, err);

	if (rc)
		return rc;
	vhost_user_message_init(&m, VHOST_USER_GET_CONFIG, 0, VHOST_USER_CONFIG_HEADER + total);
	m.payload.config.size = total;
	rc = vhost_user_requester_burst(&c->r, &m, 1, err);
	if (rc)
		return rc;
	if (m.header.size == 0)
		return error_set(err, -EREMOTEIO,
				 "back-end: refused GET_CONFIG of %u bytes (an empty reply)",
				 total);
	if (m.header.size != VHOST_USER_CONFIG_HEADER + total || m.payload.config.size != total) {
		struct umbra_error local;

		err = err ? err : &local;
		error_set(
			err, -EPROTO,
			"back-end: the reply to GET_CONFIG has %u bytes of payload and says %u of "
			"config space; expected %u and %u",
			m.header.size, m.header.size < 8 ? 0 : m.payload.config.size,
			VHOST_USER_CONFIG_HEADER + total, total);
		return vhost_user_requester_lose(&c->r, -EPROTO, err);
	}
	memcpy(data, m.payload.config.data + offset, size);
	return 0;
}

static int client_set_config(struct virtio_device *b, uint32_t offset, const void *data,
			     uint32_t size, uint32_t flags, struct umbra_error *err)
{
	struct client *c = client_of(b);
	struct vhost_user_message m;
	int rc = config_check(c, offset, size, VHOST_USER_SET_CONFIG, err);

	if (rc)
		return rc;
	vhost_user_message_init(&m, VHOST_USER_SET_CONFIG, 0, VHOST_USER_CONFIG_HEADER + size);
	m.payload.config.offset = offset;
	m.payload.config.size = size;
	m.payload.config.flags = flags;
	memcpy(m.payload.config.data, data, size);
	return client_set_confirmed(c, &m, err);
}

static int client_get_status(struct virtio_device *b, uint8_t *status, struct umbra_error *err)
{
	struct client *c = client_of(b);
	uint64_t value;
	int rc = client_needs(c->r.terms.negotiated, VHOST_USER_PROTOCOL_F_STATUS,
			      VHOST_USER_GET_STATUS, err);

	if (!rc)
		rc = vhost_user_requester_query(&c->r, VHOST_USER_GET_STATUS, &value, err);
	if (rc)
		return rc;
	if (value > UINT8_MAX)
		return error_set(err, -EREMOTEIO,
				 "back-end: GET_STATUS says 0x%" PRIx64 "; expected 8 bits", value);
	*status = (uint8_t)value;
	return 0;
}

static int client_set_status(struct virtio_device *b, uint8_t status, struct umbra_error *err)
{
	struct client *c = client_of(b);
	int rc = client_needs(c->r.terms.negotiated, VHOST_USER_PROTOCOL_F_STATUS,
			      VHOST_USER_SET_STATUS, err);

	if (rc)
		return rc;
	c->status = status;
	return client_set_u64(c, VHOST_USER_SET_STATUS, status, err);
}

static int client_reset(struct virtio_device *b, struct umbra_error *err)
{
	struct client *c = client_of(b);
	struct vhost_user_message m;
	int rc = client_needs(c->r.terms.negotiated, VHOST_USER_PROTOCOL_F_RESET_DEVICE,
			      VHOST_USER_RESET_DEVICE, err);

	if (rc)
		return rc;
	vhost_user_message_init(&m, VHOST_USER_RESET_DEVICE, 0, 0);
	return client_set_confirmed(c, &m, err);
}

static int client_start_over(struct virtio_device *b, struct umbra_error *err)
{
	struct client *c = client_of(b);
	int rc = client_rings_take_back(c, err);

	return !rc && c->status ? client_set_status(b, 0, err) : rc;
}

static bool client_owes(const struct virtio_device *b)
{
	return client_of(b)->r.owed.count > 0;
}

static int client_set_mtu(struct virtio_device *b, uint64_t mtu, struct umbra_error *err)
{
	struct client *c = client_of(b);
	int rc = client_needs(c->r.terms.negotiated, VHOST_USER_PROTOCOL_F_MTU,
			      VHOST_USER_NET_SET_MTU, err);

	return rc ? rc : client_set_u64(c, VHOST_USER_NET_SET_MTU, mtu, err);
}

static int client_send_rarp(struct virtio_device *b, const uint8_t mac[6], struct umbra_error *err)
{
	struct client *c = client_of(b);
	struct vhost_user_message m;
	int rc = client_needs(c->r.terms.negotiated, VHOST_USER_PROTOCOL_F_RARP,
			      VHOST_USER_SEND_RARP, err);

	if (rc)
		return rc;
	vhost_user_message_init(&m, VHOST_USER_SEND_RARP, 0, sizeof(m.payload.u64));
	memcpy(m.payload.bytes, mac, 6);
	return client_set_confirmed(c, &m, err);
}

/* --- what the owner's event loop needs ------------------------------------ */

enum { FD_CONNECTION, FD_CHANNEL, FD_COUNT }; /* places in fds() */

int vhost_user_client_fd(const struct virtio_device *b)
{
	return client_of(b)->r.socket.fd;
}

int vhost_user_client_check(struct virtio_device *b, struct umbra_error *err)
{
	return vhost_user_requester_check(&client_of(b)->r, err);
}

int vhost_user_client_channel_dispatch(struct virtio_device *b, struct umbra_error *err)
{
	return vhost_user_requester_dispatch(&client_of(b)->r, err);
}

static void client_listen(struct virtio_device *b, const struct backend_listener *listener)
{
	client_of(b)->r.listener = *listener;
}

static unsigned int client_fds(const struct virtio_device *b, int fds[BACKEND_FDS_MAX])
{
	const struct client *c = client_of(b);

	fds[FD_CONNECTION] = c->r.socket.fd;
	fds[FD_CHANNEL] = c->r.channel_dead ? -1 : c->r.channel.fd;
	return FD_COUNT;
}

/* The end of the channel is not the connection's. */
static int client_dispatch(struct virtio_device *b, unsigned int which, struct umbra_error *err)
{
	struct umbra_error why = { "" };

	if (which == FD_CONNECTION)
		return vhost_user_client_check(b, err);
	if (vhost_user_client_channel_dispatch(b, &why) < 0)
		log_warning("%s; the channel is closed", why.text);
	return 0;
}

static void client_info(const struct virtio_device *b, struct umbra_backend_info *info)
{
	const struct vhost_user_family *family = ((const struct client *)b)->family;

	*info = (struct umbra_backend_info){ 0 };
	snprintf(info->stops, sizeof(info->stops), "%s",
		 family ? family->stops : "each queue by itself, with GET_VRING_BASE");
	snprintf(info->kind, sizeof(info->kind), "%s", b->ops->kind);
}

/* --- making and ending ---------------------------------------------------- */

static void client_destroy(struct virtio_device *b)
{
	struct client *c = client_of(b);

	vhost_user_requester_close(&c->r);
	vhost_user_hush_fini(&c->hush);
	fd_close(&c->late_call_fd);
	free(c);
}

static const struct virtio_ops client_ops = {
	.get_features = client_get_features,
	.set_features = client_set_features,
	.get_protocol_features = client_get_protocol_features,
	.set_protocol_features = client_set_protocol_features,
	.get_queue_num = client_get_queue_num,
	.get_memory_slots = client_get_memory_slots,
	.set_memory = client_set_memory,
	.add_region = client_add_region,
	.remove_region = client_remove_region,
	.ring_enable = client_ring_enable,
	.ring_stop = client_ring_stop,
	.get_config = client_get_config,
	.set_config = client_set_config,
	.get_status = client_get_status,
	.set_status = client_set_status,
	.reset = client_reset,
	.set_mtu = client_set_mtu,
	.send_rarp = client_send_rarp,
	.kind = "vhost-user",
	.listen = client_listen,
	.fds = client_fds,
	.dispatch = client_dispatch,
	.owes = client_owes,
	.start_over = client_start_over,
	.info = client_info,
	.ring_start = client_ring_start,
	.ring_exchange = client_ring_exchange,
	.ring_hush = client_ring_hush,
	.ring_unhush = client_ring_unhush,
	.ring_rest = client_ring_rest,
	.ring_sound = client_ring_sound,
	.ring_presume_rest = client_ring_presume_rest,
	.check_hush = client_check_hush,
	.destroy = client_destroy,
};

int vhost_user_client_attach(int *socket_fd, int stop_fd, unsigned int timeout_ms,
			     struct virtio_device **out, struct umbra_error *err)
{
	struct client *c = calloc(1, sizeof(*c));
	struct vhost_user_message m;
	int rc;

	if (!c)
		return error_set(err, -ENOMEM, "back-end: no memory for a connection");
	c->backend.ops = &client_ops;
	vhost_user_hush_init(&c->hush, &client_hush_means, c);
	c->late_call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->late_call_fd < 0) {
		rc = error_set(err, -errno, "back-end: eventfd: %s", strerror(errno));
		free(c);
		return rc;
	}
	vhost_user_requester_init(&c->r, *socket_fd, stop_fd, timeout_ms);
	vhost_user_message_init(&m, VHOST_USER_SET_OWNER, 0, 0);
	rc = vhost_user_requester_burst(&c->r, &m, 1, err);
	if (rc) {
		fd_close(&c->late_call_fd);
		free(c);
		return rc;
	}
	(void)fd_take(socket_fd);
	*out = &c->backend;
	return 0;
}

/* connect() to a UNIX socket does not go on in the background: it succeeds,
 * fails, or says EAGAIN while the listener's backlog is full. */
static int connect_path(int fd, const struct sockaddr_un *address, struct umbra_error *err)
{
	int rc;

	do {
		rc = connect(fd, (const struct sockaddr *)address, sizeof(*address)) ? -errno : 0;
	} while (rc == -EINTR);
	if (rc == -EAGAIN)
		return error_set(err, rc, "back-end: %s has no room for another connection",
				 address->sun_path);
	return rc ? error_set(err, rc, "back-end: cannot connect to %s: %s", address->sun_path,
			      strerror(-rc))
		  : 0;
}

int vhost_user_client_connect(const char *path, int stop_fd, unsigned int timeout_ms,
			      struct virtio_device **out, struct umbra_error *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t length = strlen(path);
	int fd, rc;

	if (length == 0 || length >= sizeof(address.sun_path))
		return error_set(err, -ENAMETOOLONG,
				 "back-end: socket path of %zu bytes; expected 1 to %zu", length,
				 sizeof(address.sun_path) - 1);
	memcpy(address.sun_path, path, length + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return error_set(err, -errno, "back-end: socket: %s", strerror(errno));
	rc = connect_path(fd, &address, err);
	if (!rc)
		rc = vhost_user_client_attach(&fd, stop_fd, timeout_ms, out, err);
	fd_close(&fd);
	return rc;
}
