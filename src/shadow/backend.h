/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A virtio back-end as the shadow sees it, whatever carries the messages.
 *
 * Theory of operation: the shadow device (shadow_device.c) decides what a
 * back-end is told and when; a transport (vhost-user client, vhost-vdpa) knows
 * how to say it.  Rings are programmed in one go, by ring_start(), because the
 * shadow keeps the front-end's settings itself and hands over either those or
 * its own.
 *
 * Threads: all calls come from the device's thread.  Each blocks until the
 * back-end has answered or acknowledged, at most the transport's deadline:
 * -ETIMEDOUT.  -ECANCELED: the process is asked to stop.  -ECONNRESET: the
 * back-end is gone.  After any of the three the connection is unusable and
 * only destroy() may follow.  -EREMOTEIO: the back-end refused; the connection
 * lives on.  -EOPNOTSUPP: this back-end has no such thing.
 * Ownership: fds in parameters are borrowed.
 */
#ifndef UMBRA_SHADOW_BACKEND_H
#define UMBRA_SHADOW_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "memory/memory.h"
#include "umbra/error.h"

struct backend_ring {
	uint16_t size;           /* entries */
	uint16_t base;           /* next avail entry that the device shall take */
	uva_t desc, avail, used; /* in the memory table's user addresses */
	int kick_fd;             /* -1: the device polls */
	int call_fd;             /* -1: the driver polls */
	int err_fd;              /* -1: none */
	bool enabled;
};

struct backend;

struct backend_ops {
	const char *kind; /* "vhost-user" */

	/* Virtio feature bits that the device offers, with bit 30
	 * (VHOST_USER_F_PROTOCOL_FEATURES) where the transport has it. */
	int (*get_features)(struct backend *b, uint64_t *features, struct umbra_error *err);
	int (*set_features)(struct backend *b, uint64_t features, struct umbra_error *err);

	/* vhost-user protocol features.  get: what this transport can do with
	 * this back-end, already cut down to what the shadow knows to relay.
	 * set: what the front-end took of it; the transport adds what it wants
	 * for itself (REPLY_ACK). */
	int (*get_protocol_features)(struct backend *b, uint64_t *features,
				     struct umbra_error *err);
	int (*set_protocol_features)(struct backend *b, uint64_t features, struct umbra_error *err);

	int (*get_queue_num)(struct backend *b, uint64_t *count, struct umbra_error *err);
	int (*get_memory_slots)(struct backend *b, uint64_t *count, struct umbra_error *err);

	/* The whole table (each region with a backing that has an fd), or one
	 * region more or less of it. */
	int (*set_memory)(struct backend *b, const struct memory_region *regions,
			  unsigned int count, struct umbra_error *err);
	int (*add_region)(struct backend *b, const struct memory_region *region,
			  struct umbra_error *err);
	int (*remove_region)(struct backend *b, const struct memory_region *region,
			     struct umbra_error *err);

	/* Program ring @index and start it.  When the call has returned 0, the
	 * back-end has processed every step (or has said so by a later reply). */
	int (*ring_start)(struct backend *b, unsigned int index, const struct backend_ring *ring,
			  struct umbra_error *err);
	/* Stop ring @index.  *@base: the next avail entry it would have taken;
	 * what it took before may still be completed later, with a notification
	 * of @call_fd (-1: the driver polls) or silently. */
	int (*ring_stop)(struct backend *b, unsigned int index, int call_fd, uint16_t *base,
			 struct umbra_error *err);
	int (*ring_enable)(struct backend *b, unsigned int index, bool enabled,
			   struct umbra_error *err);
	/* Exchange one eventfd (or -1) of a started ring. */
	int (*ring_set_kick)(struct backend *b, unsigned int index, int fd,
			     struct umbra_error *err);
	int (*ring_set_call)(struct backend *b, unsigned int index, int fd,
			     struct umbra_error *err);
	int (*ring_set_err)(struct backend *b, unsigned int index, int fd, struct umbra_error *err);

	int (*get_config)(struct backend *b, uint32_t offset, void *data, uint32_t size,
			  struct umbra_error *err);
	int (*set_config)(struct backend *b, uint32_t offset, const void *data, uint32_t size,
			  uint32_t flags, struct umbra_error *err);
	int (*get_status)(struct backend *b, uint8_t *status, struct umbra_error *err);
	int (*set_status)(struct backend *b, uint8_t status, struct umbra_error *err);
	int (*reset_device)(struct backend *b, struct umbra_error *err);
	int (*set_mtu)(struct backend *b, uint64_t mtu, struct umbra_error *err);
	int (*send_rarp)(struct backend *b, const uint8_t mac[6], struct umbra_error *err);

	void (*destroy)(struct backend *b);
};

struct backend {
	const struct backend_ops *ops;
};

#endif
