/* SPDX-License-Identifier: BSD-2-Clause */
/* Is this vhost-user message well-formed?  See message.h. */
#include "vhost_user/message.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>

#include "base/bits.h"
#include "base/error.h"
#include "virtio/feature_names.h"

/* Columns of the tables below. */
#define SIZE(bytes) .size_min = (bytes), .size_max = (bytes)
#define SIZES(from, to) .size_min = (from), .size_max = (to)
#define FDS(from, to) .fds_min = (from), .fds_max = (to)
#define NEEDS(name) .gate = VHOST_GATE_NEGOTIATED, .feature = VHOST_USER_PROTOCOL_F_##name
#define NEEDS_OFFER(name) .gate = VHOST_GATE_OFFERED, .feature = VHOST_USER_PROTOCOL_F_##name
#define REPLY(from, to, how)                                                                       \
	.has_reply = true, .reply_feature = VHOST_FEATURE_NONE, .reply_min = (from),               \
	.reply_max = (to), .refusal = VHOST_REFUSE_##how
#define REPLY_IF(name, from, to, how)                                                              \
	.has_reply = true, .reply_feature = VHOST_USER_PROTOCOL_F_##name, .reply_min = (from),     \
	.reply_max = (to), .refusal = VHOST_REFUSE_##how

#define U64 sizeof(uint64_t)
#define STATE sizeof(struct vhost_vring_state)
#define ADDR sizeof(struct vhost_vring_addr)
#define TABLE_MIN offsetof(struct vhost_user_mem_table, regions)
#define TABLE_MAX sizeof(struct vhost_user_mem_table)
#define MEM_REGION sizeof(struct vhost_user_mem_region)
#define CONFIG_MIN VHOST_USER_CONFIG_HEADER
#define PAYLOAD_MAX VHOST_USER_PAYLOAD_MAX
#define INFLIGHT_MIN offsetof(struct vhost_user_inflight, padding)
#define INFLIGHT_MAX sizeof(struct vhost_user_inflight)
#define IOTLB_MIN (offsetof(struct vhost_iotlb_msg, type) + 1)
#define IOTLB_MAX sizeof(struct vhost_iotlb_msg)
#define UUID 16
#define SHMEM_CONFIG_MAX (8 + 256 * U64)

/*
 * "Only present in GET_PROTOCOL_FEATURES" and "negotiated" are two different
 * conditions of the specification, and front-ends make use of the first:
 * GET_QUEUE_NUM may come before SET_PROTOCOL_FEATURES.
 */
static const struct vhost_request_info frontend_requests[VHOST_USER_REQUEST_END] = {
	[VHOST_USER_GET_FEATURES] = { "GET_FEATURES", SIZE(0), REPLY(U64, U64, NOT) },
	[VHOST_USER_SET_FEATURES] = { "SET_FEATURES", SIZE(U64) },
	[VHOST_USER_SET_OWNER] = { "SET_OWNER", SIZE(0) },
	[VHOST_USER_RESET_OWNER] = { "RESET_OWNER", SIZE(0) },
	[VHOST_USER_SET_MEM_TABLE] = { "SET_MEM_TABLE", SIZES(TABLE_MIN, TABLE_MAX),
				       FDS(0, VHOST_USER_MEM_TABLE_REGIONS) },
	[VHOST_USER_SET_LOG_BASE] = { "SET_LOG_BASE", SIZES(U64, sizeof(struct vhost_user_log)),
				      FDS(0, 1), REPLY_IF(LOG_SHMFD, 0, U64, U64) },
	[VHOST_USER_SET_LOG_FD] = { "SET_LOG_FD", SIZES(0, U64), FDS(0, 1) },
	[VHOST_USER_SET_VRING_NUM] = { "SET_VRING_NUM", SIZE(STATE) },
	[VHOST_USER_SET_VRING_ADDR] = { "SET_VRING_ADDR", SIZE(ADDR) },
	[VHOST_USER_SET_VRING_BASE] = { "SET_VRING_BASE", SIZE(STATE) },
	[VHOST_USER_GET_VRING_BASE] = { "GET_VRING_BASE", SIZE(STATE), REPLY(STATE, STATE, NOT) },
	[VHOST_USER_SET_VRING_KICK] = { "SET_VRING_KICK", SIZE(U64), FDS(0, 1) },
	[VHOST_USER_SET_VRING_CALL] = { "SET_VRING_CALL", SIZE(U64), FDS(0, 1) },
	[VHOST_USER_SET_VRING_ERR] = { "SET_VRING_ERR", SIZE(U64), FDS(0, 1) },
	[VHOST_USER_GET_PROTOCOL_FEATURES] = { "GET_PROTOCOL_FEATURES", SIZE(0),
					       REPLY(U64, U64, NOT) },
	[VHOST_USER_SET_PROTOCOL_FEATURES] = { "SET_PROTOCOL_FEATURES", SIZE(U64) },
	[VHOST_USER_GET_QUEUE_NUM] = { "GET_QUEUE_NUM", SIZE(0), NEEDS_OFFER(MQ),
				       REPLY(U64, U64, NOT) },
	[VHOST_USER_SET_VRING_ENABLE] = { "SET_VRING_ENABLE", SIZE(STATE) },
	[VHOST_USER_SEND_RARP] = { "SEND_RARP", SIZE(U64), NEEDS_OFFER(RARP) },
	[VHOST_USER_NET_SET_MTU] = { "NET_SET_MTU", SIZE(U64), NEEDS_OFFER(MTU) },
	[VHOST_USER_SET_BACKEND_REQ_FD] = { "SET_BACKEND_REQ_FD", SIZES(0, U64), FDS(1, 1),
					    NEEDS_OFFER(BACKEND_REQ) },
	[VHOST_USER_IOTLB_MSG] = { "IOTLB_MSG", SIZES(IOTLB_MIN, IOTLB_MAX), REPLY(U64, U64, U64) },
	[VHOST_USER_SET_VRING_ENDIAN] = { "SET_VRING_ENDIAN", SIZE(STATE), NEEDS(CROSS_ENDIAN) },
	[VHOST_USER_GET_CONFIG] = { "GET_CONFIG", SIZES(CONFIG_MIN, PAYLOAD_MAX), NEEDS(CONFIG),
				    REPLY(0, PAYLOAD_MAX, EMPTY) },
	[VHOST_USER_SET_CONFIG] = { "SET_CONFIG", SIZES(CONFIG_MIN, PAYLOAD_MAX), NEEDS(CONFIG) },
	[VHOST_USER_CREATE_CRYPTO_SESSION] = { "CREATE_CRYPTO_SESSION", SIZES(0, PAYLOAD_MAX),
					       NEEDS(CRYPTO_SESSION),
					       REPLY(0, PAYLOAD_MAX, EMPTY) },
	[VHOST_USER_CLOSE_CRYPTO_SESSION] = { "CLOSE_CRYPTO_SESSION", SIZE(U64),
					      NEEDS(CRYPTO_SESSION) },
	[VHOST_USER_POSTCOPY_ADVISE] = { "POSTCOPY_ADVISE", SIZE(0), NEEDS(PAGEFAULT),
					 REPLY(0, U64, EMPTY), .reply_fds_max = 1 },
	[VHOST_USER_POSTCOPY_LISTEN] = { "POSTCOPY_LISTEN", SIZE(0), NEEDS(PAGEFAULT) },
	[VHOST_USER_POSTCOPY_END] = { "POSTCOPY_END", SIZE(0), NEEDS(PAGEFAULT),
				      REPLY(U64, U64, U64) },
	[VHOST_USER_GET_INFLIGHT_FD] = { "GET_INFLIGHT_FD", SIZES(INFLIGHT_MIN, INFLIGHT_MAX),
					 NEEDS(INFLIGHT_SHMFD),
					 REPLY(INFLIGHT_MIN, INFLIGHT_MAX, ZEROS),
					 .reply_fds_max = 1 },
	[VHOST_USER_SET_INFLIGHT_FD] = { "SET_INFLIGHT_FD", SIZES(INFLIGHT_MIN, INFLIGHT_MAX),
					 FDS(1, 1), NEEDS(INFLIGHT_SHMFD) },
	[VHOST_USER_GPU_SET_SOCKET] = { "GPU_SET_SOCKET", SIZES(0, U64), FDS(1, 1) },
	[VHOST_USER_RESET_DEVICE] = { "RESET_DEVICE", SIZE(0), NEEDS_OFFER(RESET_DEVICE) },
	[VHOST_USER_VRING_KICK] = { "VRING_KICK", SIZE(STATE), NEEDS(INBAND_NOTIFICATIONS) },
	[VHOST_USER_GET_MAX_MEM_SLOTS] = { "GET_MAX_MEM_SLOTS", SIZE(0), NEEDS(CONFIGURE_MEM_SLOTS),
					   REPLY(U64, U64, NOT) },
	[VHOST_USER_ADD_MEM_REG] = { "ADD_MEM_REG", SIZE(MEM_REGION), FDS(1, 1),
				     NEEDS(CONFIGURE_MEM_SLOTS) },
	/* The fd is for old front-ends, and closed unseen. */
	[VHOST_USER_REM_MEM_REG] = { "REM_MEM_REG", SIZE(MEM_REGION), FDS(0, 1),
				     NEEDS(CONFIGURE_MEM_SLOTS) },
	[VHOST_USER_SET_STATUS] = { "SET_STATUS", SIZE(U64), NEEDS(STATUS) },
	[VHOST_USER_GET_STATUS] = { "GET_STATUS", SIZE(0), NEEDS(STATUS), REPLY(U64, U64, NOT) },
	[VHOST_USER_GET_SHARED_OBJECT] = { "GET_SHARED_OBJECT", SIZE(UUID), NEEDS(SHARED_OBJECT),
					   REPLY(0, UUID, EMPTY), .reply_fds_max = 1 },
	[VHOST_USER_SET_DEVICE_STATE_FD] = { "SET_DEVICE_STATE_FD", SIZE(8), FDS(1, 1),
					     NEEDS(DEVICE_STATE), REPLY(U64, U64, U64),
					     .reply_fds_max = 1 },
	[VHOST_USER_CHECK_DEVICE_STATE] = { "CHECK_DEVICE_STATE", SIZE(0), NEEDS(DEVICE_STATE),
					    REPLY(U64, U64, U64) },
	[VHOST_USER_GET_SHMEM_CONFIG] = { "GET_SHMEM_CONFIG", SIZE(0), NEEDS(SHMEM),
					  REPLY(8, SHMEM_CONFIG_MAX, ZEROS) },
};

static const struct vhost_request_info backend_requests[VHOST_USER_BACKEND_REQUEST_END] = {
	[VHOST_USER_BACKEND_IOTLB_MSG] = { "BACKEND_IOTLB_MSG", SIZES(IOTLB_MIN, IOTLB_MAX) },
	[VHOST_USER_BACKEND_CONFIG_CHANGE_MSG] = { "BACKEND_CONFIG_CHANGE_MSG", SIZE(0),
						   NEEDS(CONFIG) },
	[VHOST_USER_BACKEND_VRING_HOST_NOTIFIER_MSG] = { "BACKEND_VRING_HOST_NOTIFIER_MSG",
							 SIZE(3 * U64), FDS(0, 1),
							 NEEDS(HOST_NOTIFIER) },
	[VHOST_USER_BACKEND_VRING_CALL] = { "BACKEND_VRING_CALL", SIZE(STATE),
					    NEEDS(INBAND_NOTIFICATIONS) },
	[VHOST_USER_BACKEND_VRING_ERR] = { "BACKEND_VRING_ERR", SIZE(STATE),
					   NEEDS(INBAND_NOTIFICATIONS) },
	[VHOST_USER_BACKEND_SHARED_OBJECT_ADD] = { "BACKEND_SHARED_OBJECT_ADD", SIZE(UUID),
						   NEEDS(SHARED_OBJECT) },
	[VHOST_USER_BACKEND_SHARED_OBJECT_REMOVE] = { "BACKEND_SHARED_OBJECT_REMOVE", SIZE(UUID),
						      NEEDS(SHARED_OBJECT) },
	[VHOST_USER_BACKEND_SHARED_OBJECT_LOOKUP] = { "BACKEND_SHARED_OBJECT_LOOKUP", SIZE(UUID),
						      NEEDS(SHARED_OBJECT), REPLY(U64, U64, U64),
						      .reply_fds_max = 1 },
	[VHOST_USER_BACKEND_SHMEM_MAP] = { "BACKEND_SHMEM_MAP", SIZES(0, PAYLOAD_MAX), FDS(1, 1),
					   NEEDS(SHMEM) },
	[VHOST_USER_BACKEND_SHMEM_UNMAP] = { "BACKEND_SHMEM_UNMAP", SIZES(0, PAYLOAD_MAX),
					     NEEDS(SHMEM) },
};

const struct vhost_request_info *vhost_request_info(enum vhost_direction direction,
						    uint32_t request)
{
	const struct vhost_request_info *table = frontend_requests;
	uint32_t end = VHOST_USER_REQUEST_END;

	if (direction == VHOST_FROM_BACKEND) {
		table = backend_requests;
		end = VHOST_USER_BACKEND_REQUEST_END;
	}
	return request < end && table[request].name ? &table[request] : NULL;
}

const char *vhost_request_name(enum vhost_direction direction, uint32_t request)
{
	const struct vhost_request_info *info = vhost_request_info(direction, request);

	return info ? info->name : "request";
}

bool vhost_reply_owed(const struct vhost_request_info *info, const struct vhost_terms *terms)
{
	if (!info->has_reply)
		return false;
	return info->reply_feature == VHOST_FEATURE_NONE ||
	       (terms->negotiated & BIT64(info->reply_feature));
}

static int check_flags(const char *name, uint32_t flags, struct umbra_error *err)
{
	if ((flags & VHOST_USER_VERSION_MASK) != VHOST_USER_VERSION)
		return error_set(err, -EBADMSG, "%s: message version %u (flags 0x%x); expected %u",
				 name, flags & VHOST_USER_VERSION_MASK, flags, VHOST_USER_VERSION);
	if (flags & VHOST_USER_REPLY)
		return error_set(err, -EBADMSG, "%s: flags 0x%x mark a reply; expected a request",
				 name, flags);
	if (flags & ~(VHOST_USER_VERSION_MASK | VHOST_USER_NEED_REPLY))
		return error_set(
			err, -EBADMSG,
			"%s: flags 0x%x have bits that are not defined; expected 0x1 or 0x9", name,
			flags);
	return 0;
}

static int check_gate(const struct vhost_request_info *info, const struct vhost_terms *terms,
		      struct umbra_error *err)
{
	const char *feature = vhost_protocol_feature_name(info->feature);

	switch ((enum vhost_gate)info->gate) {
	case VHOST_GATE_NONE:
		break;
	case VHOST_GATE_OFFERED:
		if (!(terms->offered & BIT64(info->feature)))
			return error_set(
				err, -EOPNOTSUPP,
				"%s needs protocol feature %s (bit %u), which was not offered",
				info->name, feature, info->feature);
		break;
	case VHOST_GATE_NEGOTIATED:
		if (!(terms->negotiated & BIT64(info->feature)))
			return error_set(
				err, -EOPNOTSUPP,
				"%s needs protocol feature %s (bit %u), which was not negotiated",
				info->name, feature, info->feature);
		break;
	}
	return 0;
}

static int check_extent(const char *what, const char *name, uint32_t value, uint32_t min,
			uint32_t max, struct umbra_error *err)
{
	if (value >= min && value <= max)
		return 0;
	if (min == max)
		return error_set(err, -EPROTO, "%s: %s is %u; expected %u", name, what, value, min);
	return error_set(err, -EPROTO, "%s: %s is %u; expected %u to %u", name, what, value, min,
			 max);
}

static int check_mem_table(const struct vhost_user_header *header,
			   const struct vhost_user_mem_table *table, unsigned int fd_count,
			   struct umbra_error *err)
{
	uint32_t needed;

	if (table->count > VHOST_USER_MEM_TABLE_REGIONS)
		return error_set(err, -EPROTO, "SET_MEM_TABLE: %u regions; at most %u fit a table",
				 table->count, VHOST_USER_MEM_TABLE_REGIONS);
	needed = (uint32_t)(TABLE_MIN + table->count * sizeof(table->regions[0]));
	if (header->size < needed)
		return error_set(err, -EPROTO,
				 "SET_MEM_TABLE: payload of %u bytes; %u regions need %u",
				 header->size, table->count, needed);
	if (fd_count != table->count)
		return error_set(err, -EPROTO,
				 "SET_MEM_TABLE: %u file descriptors came for %u regions", fd_count,
				 table->count);
	return 0;
}

/* The data of GET_CONFIG may be left out: only the reply carries it. */
static int check_config(const char *name, const struct vhost_user_header *header,
			const struct vhost_user_config *config, bool has_data,
			struct umbra_error *err)
{
	uint32_t room = has_data ? header->size - VHOST_USER_CONFIG_HEADER : VHOST_USER_CONFIG_MAX;

	if (config->size > room)
		return error_set(err, -EPROTO,
				 "%s: %u bytes of config space; at most %u fit the message", name,
				 config->size, room);
	if (config->size > UINT32_MAX - config->offset)
		return error_set(err, -EPROTO, "%s: config space offset 0x%x and %u bytes overflow",
				 name, config->offset, config->size);
	return 0;
}

static int check_ring_fd(const char *name, uint64_t u64, unsigned int fd_count,
			 struct umbra_error *err)
{
	if (u64 & ~(VHOST_USER_VRING_INDEX_MASK | VHOST_USER_VRING_NO_FD))
		return error_set(err, -EPROTO,
				 "%s: value 0x%" PRIx64 " has bits above the queue index and bit 8",
				 name, u64);
	if (!(u64 & VHOST_USER_VRING_NO_FD) && fd_count == 0)
		return error_set(err, -EPROTO,
				 "%s: queue %" PRIu64
				 ": no file descriptor came, and bit 8 (there is none) is clear",
				 name, u64);
	return 0;
}

static int check_ring_index(const char *name, uint32_t index, struct umbra_error *err)
{
	if (index >= VHOST_USER_QUEUES_MAX)
		return error_set(err, -EPROTO, "%s: queue %u; expected less than %u", name, index,
				 VHOST_USER_QUEUES_MAX);
	return 0;
}

/* What the sizes alone do not say. */
static int check_frontend_payload(const struct vhost_user_header *header,
				  const union vhost_user_payload *payload, unsigned int fd_count,
				  struct umbra_error *err)
{
	const char *name = frontend_requests[header->request].name;

	switch (header->request) {
	case VHOST_USER_SET_MEM_TABLE:
		return check_mem_table(header, &payload->table, fd_count, err);
	case VHOST_USER_SET_VRING_NUM:
	case VHOST_USER_SET_VRING_BASE:
	case VHOST_USER_GET_VRING_BASE:
	case VHOST_USER_SET_VRING_ENABLE:
	case VHOST_USER_SET_VRING_ENDIAN:
	case VHOST_USER_VRING_KICK:
		return check_ring_index(name, payload->state.index, err);
	case VHOST_USER_SET_VRING_ADDR:
		return check_ring_index(name, payload->addr.index, err);
	case VHOST_USER_SET_VRING_KICK:
	case VHOST_USER_SET_VRING_CALL:
	case VHOST_USER_SET_VRING_ERR:
		return check_ring_fd(name, payload->u64, fd_count, err);
	case VHOST_USER_GET_CONFIG:
	case VHOST_USER_SET_CONFIG:
		return check_config(name, header, &payload->config,
				    header->request == VHOST_USER_SET_CONFIG, err);
	default:
		return 0;
	}
}

int vhost_message_check(enum vhost_direction direction, const struct vhost_terms *terms,
			const struct vhost_user_header *header,
			const union vhost_user_payload *payload, unsigned int fd_count,
			struct umbra_error *err)
{
	const struct vhost_request_info *info = vhost_request_info(direction, header->request);
	int rc;

	rc = check_flags(info ? info->name : "request", header->flags, err);
	if (rc)
		return rc;
	if (!info)
		return error_set(err, -EOPNOTSUPP, "there is no request %u from a %s",
				 header->request,
				 direction == VHOST_FROM_FRONTEND ? "front-end" : "back-end");
	rc = check_gate(info, terms, err);
	if (rc)
		return rc;
	rc = check_extent("payload size", info->name, header->size, info->size_min, info->size_max,
			  err);
	if (rc)
		return rc;
	rc = check_extent("number of file descriptors", info->name, fd_count, info->fds_min,
			  info->fds_max, err);
	if (rc)
		return rc;
	if (direction == VHOST_FROM_FRONTEND)
		return check_frontend_payload(header, payload, fd_count, err);
	return 0;
}

int vhost_reply_check(enum vhost_direction direction, uint32_t request,
		      const struct vhost_terms *terms, const struct vhost_user_header *header,
		      unsigned int fd_count, struct umbra_error *err)
{
	const struct vhost_request_info *info = vhost_request_info(direction, request);
	bool owed = vhost_reply_owed(info, terms);
	const unsigned int min = owed ? info->reply_min : U64, max = owed ? info->reply_max : U64;

	if (header->request != request)
		return error_set(err, -EPROTO, "the reply to %s is marked %s (%u); expected %u",
				 info->name, vhost_request_name(direction, header->request),
				 header->request, request);
	/* libvhost-user leaves need_reply set in what it sends back. */
	if ((header->flags & ~VHOST_USER_NEED_REPLY) != (VHOST_USER_VERSION | VHOST_USER_REPLY))
		return error_set(err, -EPROTO, "the reply to %s has flags 0x%x; expected 0x5",
				 info->name, header->flags);
	if (header->size < min || header->size > max)
		return min == max
			       ? error_set(err, -EPROTO,
					   "the reply to %s has %u bytes of payload; expected %u",
					   info->name, header->size, min)
			       : error_set(
					 err, -EPROTO,
					 "the reply to %s has %u bytes of payload; expected %u to "
					 "%u",
					 info->name, header->size, min, max);
	if (fd_count > (owed ? info->reply_fds_max : 0))
		return error_set(
			err, -EPROTO,
			"%u file descriptors came with the reply to %s; expected %u at most",
			fd_count, info->name, owed ? info->reply_fds_max : 0);
	return 0;
}
