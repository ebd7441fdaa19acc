/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The inside of a vhost-user client, shared by vhost_user_client.c (the connection, and
 * the device as a whole) and vhost_user_client_rings.c (what is said of one ring).
 * vhost_user_client.h has the theory.
 */
#ifndef UMBRA_VHOST_USER_VHOST_USER_CLIENT_PRIVATE_H
#define UMBRA_VHOST_USER_VHOST_USER_CLIENT_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include "vhost_user/message.h"
#include "vhost_user/protocol.h"
#include "vhost_user/vhost_user_client.h"
#include "vhost_user/vhost_user_family.h"
#include "vhost_user/vhost_user_hush.h"
#include "vhost_user/vhost_user_requester.h"
#include "virtio/virtio_ops.h"

#define F_PROTOCOL BIT64(VHOST_USER_F_PROTOCOL_FEATURES)

struct client {
	struct virtio_device backend; /* first member */
	struct vhost_user_requester r;
	bool features_known;
	uint64_t features_offered;              /* virtio's, with bit 30 */
	uint64_t features;                      /* of these, the last that were set */
	const struct vhost_user_family *family; /* NULL: not known yet */
	bool terms_known;                       /* r.terms.offered is valid */
	struct vhost_user_hush hush;
	uint64_t begun[VHOST_USER_QUEUES_MAX / 64]; /* rings that it was told of, and has still */
	uint8_t status;                             /* that was set last */
	int late_call_fd; /* an eventfd on which nobody listens: client_ring_stop() */
};

static inline struct client *client_of(const struct virtio_device *b)
{
	return (struct client *)b;
}

/* Say it, and wait until it is known to have been processed.  0; -EREMOTEIO if it was
 * refused; the connection's error. */
static inline int client_set_confirmed(struct client *c, const struct vhost_user_message *m,
				       struct umbra_error *err)
{
	struct vhost_user_message burst[2];

	burst[0] = *m;
	return vhost_user_requester_set(&c->r, burst, 1, err);
}

/* --- vhost_user_client_rings.c: operations (virtio/virtio_ops.h) ------------- */

/* Stop those that it has. */
int client_rings_take_back(struct client *c, struct umbra_error *err);
int client_ring_enable(struct virtio_device *b, unsigned int index, bool enabled,
		       struct umbra_error *err);
int client_ring_stop(struct virtio_device *b, unsigned int index, struct ring_position *base,
		     struct umbra_error *err);
int client_ring_start(struct virtio_device *b, unsigned int index, const struct virtio_ring *ring,
		      struct umbra_error *err);
int client_ring_exchange(struct virtio_device *b, unsigned int index, enum virtio_ring_fd which,
			 int fd, struct umbra_error *err);
int client_ring_hush(struct virtio_device *b, unsigned int index, bool is_fed,
		     struct umbra_error *err);
int client_ring_unhush(struct virtio_device *b, unsigned int index, struct umbra_error *err);
enum ring_rest client_ring_rest(const struct virtio_device *b, unsigned int index);
int client_ring_sound(struct virtio_device *b, unsigned int index, struct umbra_error *err);
bool client_ring_presume_rest(struct virtio_device *b, unsigned int index, uint64_t waited_ms);
int client_check_hush(const struct virtio_device *b, struct umbra_error *err);
/* The means with which struct client's hush works. */
extern const struct vhost_user_hush_means client_hush_means;

#endif
