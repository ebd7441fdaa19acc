/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Is this vhost-user message well-formed, and may it be sent now?
 *
 * Theory of operation: one table a direction says of each request what it is
 * called, how large its payload may be, how many fds come with it, whether a
 * reply is owed, and which protocol feature it needs.  vhost_message_check()
 * holds a received message against it; what passes has a payload whose sizes,
 * counts and queue index can be used without a further look.  What the values
 * mean (does a region exist, is a queue size legal) is for others to judge.
 *
 * Threads: any; everything is constant.
 * Trust: header, payload and the number of fds are hostile.
 */
#ifndef UMBRA_VHOST_USER_MESSAGE_H
#define UMBRA_VHOST_USER_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "umbra/error.h"
#include "vhost_user/protocol.h"

enum vhost_direction {
	VHOST_FROM_FRONTEND, /* requests of enum vhost_user_request */
	VHOST_FROM_BACKEND,  /* requests of enum vhost_user_backend_request */
};

/* When a protocol feature lets a request through. */
enum vhost_gate {
	VHOST_GATE_NONE,
	VHOST_GATE_OFFERED,    /* "is present in GET_PROTOCOL_FEATURES" */
	VHOST_GATE_NEGOTIATED, /* "has been successfully negotiated" */
};

/* How the reply that a request owes can say no. */
enum vhost_refusal {
	VHOST_REFUSE_NOT,   /* it cannot; the end of the connection can */
	VHOST_REFUSE_U64,   /* a u64 that is not zero */
	VHOST_REFUSE_EMPTY, /* no payload, no fd */
	VHOST_REFUSE_ZEROS, /* a full payload of zeros: "size 0", "count 0" */
};

#define VHOST_FEATURE_NONE 0xff

struct vhost_request_info {
	const char *name;            /* without VHOST_USER_ */
	uint16_t size_min, size_max; /* of the payload, bytes */
	uint8_t fds_min, fds_max;
	uint8_t gate;          /* enum vhost_gate */
	uint8_t feature;       /* for the gate: protocol feature bit */
	bool has_reply;        /* owed, whatever need_reply says */
	uint8_t reply_feature; /* owed only with this one negotiated, or VHOST_FEATURE_NONE */
	uint16_t reply_min, reply_max; /* bytes */
	uint8_t reply_fds_max;
	uint8_t refusal; /* enum vhost_refusal */
};

/* The protocol features of a connection. */
struct vhost_terms {
	uint64_t offered;    /* by the back-end's side */
	uint64_t negotiated; /* of these, taken by the front-end's side */
};

/* NULL: no such request. */
const struct vhost_request_info *vhost_request_info(enum vhost_direction direction,
						    uint32_t request);

/* The request's name, or "request" if there is no such one. */
const char *vhost_request_name(enum vhost_direction direction, uint32_t request);

/* Does @info owe a reply under @terms, apart from need_reply? */
bool vhost_reply_owed(const struct vhost_request_info *info, const struct vhost_terms *terms);

/*
 * Judge a received request.  @payload holds header->size bytes.
 *
 * -EBADMSG    version or flags are wrong: nothing that follows can be trusted
 * -EPROTO     size, number of fds or a count inside is wrong
 * -EOPNOTSUPP no such request, or its protocol feature is missing
 * In the last two the message ends where its header says.
 */
UMBRA_MUST_CHECK int vhost_message_check(enum vhost_direction direction,
					 const struct vhost_terms *terms,
					 const struct vhost_user_header *header,
					 const union vhost_user_payload *payload,
					 unsigned int fd_count, struct umbra_error *err);

/*
 * Judge the reply to @request, the one that it owes or, if it owes none, the
 * acknowledgement of REPLY_ACK (one u64).  -EPROTO.
 */
UMBRA_MUST_CHECK int vhost_reply_check(enum vhost_direction direction, uint32_t request,
				       const struct vhost_terms *terms,
				       const struct vhost_user_header *header,
				       unsigned int fd_count, struct umbra_error *err);

#endif
