/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A virtio device as whoever drives it sees it: one vocabulary for both sides of umbra.
 *
 * Theory of operation.  A front-end asks things of a device, and a shadow device asks the
 * same things of its back-end: features, memory, configuration, status, and that rings be
 * stopped and enabled.  So both are a struct virtio_device, whose table says what it does.
 * The vhost-user server turns each message into one call of the table and knows nothing
 * else of a device; a shadow device and a balloon implement it.  The vhost-user client and
 * vhost-vdpa implement it for the shadow device, which stands between two of the same kind.
 *
 * The two sides differ in how a ring comes to run, because they differ in who keeps what:
 *
 *   - A front-end describes a ring piece by piece, and hands its eventfds over: the device
 *     keeps them ("of a device").
 *   - The shadow device keeps the front-end's settings itself, and hands over either those
 *     or its own, in one go; the eventfds are only lent ("of a back-end").
 *
 * An operation of the other side's part is NULL.  So may be what the comments say.
 *
 * A vhost-user back-end starts and stops each ring by itself.  A vDPA device is
 * started and stopped as a whole (BACKEND_RUNS_AS_ONE), and forgets at a stop what it
 * was told.  There ring_start() only notes the ring, and device_start() starts
 * all that were noted; device_stop() stops all rings at once, after which
 * ring_stop() of each one says where it stood and forgets it.  So a change of
 * one ring is: stop the device, note all rings again, start the device.  Rings that the
 * front-end has disabled are not noted.  One that is noted as disabled starts with the
 * device and takes nothing before ring_enable(): so the device can be told first, on
 * its control queue, what it has forgotten (shadow_start.c).  Where a ring cannot be noted, or
 * device_start() fails, ring_stop() forgets what was noted.  Status and reset are the transport's
 * own affair there: set_status(), get_status() and reset() are not called.
 *
 * Errors.  Every call that can fail returns 0 or a negative errno value, and then fills its
 * error text.  -EINVAL: it was asked for nonsense.  -EOPNOTSUPP: it has no such thing.
 * A failure leaves a device as it was.  Of a back-end, each call blocks until that has answered or
 * acknowledged, at most the transport's deadline: -ETIMEDOUT.  -ECANCELED: the process is
 * asked to stop, or the owner has nobody left to serve.  -ECONNRESET: the back-end is gone.
 * After any of the three the connection is unusable and only destroy() may follow.  They
 * say nothing else anywhere below the session: a wait of ours that was too long, with a
 * back-end that may be used on, is -ETIME.
 * -ERESTART, of a device alone: its back-end has just been lost, and it lives on without: to be
 * asked again, which it answers by itself.
 * -EREMOTEIO: the back-end refused; the connection lives on.  What a device makes of its
 * back-end's codes it returns as its own.
 *
 * Ownership: `int fd` is lent, and stays open until the ring was told another or was
 * stopped; `int *fd` is consumed on success.  Regions are mapped and have a backing; who
 * keeps one takes a reference.
 * Threads: one, the device's thread.
 * Trust: what a front-end says is bounded, as vhost_message_check() leaves it, but not yet
 * meaningful.
 */
#ifndef UMBRA_VIRTIO_VIRTIO_OPS_H
#define UMBRA_VIRTIO_VIRTIO_OPS_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "memory/memory.h"
#include "ring/position.h"
#include "umbra/error.h"

/* After this code of a back-end's call its connection is unusable; -ERESTART is what a device
 * makes of one.  -EINPROGRESS: it is good, but what was asked is not answered yet, and somebody
 * else has to be heard first (struct backend_listener, `beside`). */
static inline bool backend_is_lost(int code)
{
	return code == -ECONNRESET || code == -ETIMEDOUT || code == -ECANCELED ||
	       code == -ERESTART || code == -EINPROGRESS;
}

struct virtio_ring_addr {
	uva_t desc, avail, used; /* in the memory table's user addresses; ours in own memory's */
};

/* A ring that is told in one go. */
struct virtio_ring {
	uint16_t size;             /* entries */
	struct ring_position base; /* where it starts */
	struct virtio_ring_addr addr;
	int kick_fd; /* -1: the device polls */
	int call_fd; /* -1: the driver polls */
	int err_fd;  /* -1: none */
	bool enabled;
};

/* An in-flight region: "the shared memory used to track in-flight I/O". */
struct virtio_inflight {
	uint16_t queues, size; /* of each queue, entries */
};

enum virtio_ring_fd { VIRTIO_RING_KICK, VIRTIO_RING_CALL, VIRTIO_RING_ERR };

/* What kind of back-end this is; known when it is connected. */
enum backend_traits {
	/* Memory is mapped for the device: place_memory() exists, and
	 * VIRTIO_F_ACCESS_PLATFORM is required of it. */
	BACKEND_MAPS = 0x1,
	/* The device is started and stopped as a whole: see above. */
	BACKEND_RUNS_AS_ONE = 0x2,
	/* Of BACKEND_RUNS_AS_ONE: device_stop() suspends.  What the device has taken by
	 * then it has used, what it has not taken it will not take.  Without this
	 * trait device_stop() is a reset: what was taken and not used will never be
	 * used, and nobody knows whether it was done.  So there the caller first
	 * feeds nothing, and waits. */
	BACKEND_SUSPENDS = 0x4,
	/* Of BACKEND_RUNS_AS_ONE: a ring starts at the index it is given, and tells where
	 * it stopped.  Without this trait every ring starts at 0 and ring_stop()
	 * sets *@base to nothing that means anything. */
	BACKEND_KEEPS_INDEX = 0x8,
	/* A ring that runs and is given another kick fd by ring_exchange() hears the kicks.
	 * Without this trait it is stopped, and started with the new fd. */
	BACKEND_HEARS_NEW_KICKS = 0x10,
};

/*
 * What is known of a ring that was hushed (ring_hush()), on a back-end that stops each ring by
 * itself.  It matters because a guest that is passed through goes on adding chains, and few
 * back-ends bear to be stopped in the midst of their work.
 */
enum ring_rest {
	/* It may take more, and must not be stopped: ask again. */
	RING_MAY_TAKE,
	/* It may be stopped whatever it has: ring_stop() is answered when all that is used. */
	RING_STOPS_AT_REST,
	/* It takes no more, and what it took has to be used before ring_stop(), since a completion
	 * afterwards may end the connection.  What that is its ring says with EVENT_IDX
	 * (avail_event is stored at each chain that is taken), and without it ring_sound(). */
	RING_USES_BEFORE_STOP,
	/* It takes no more, and with EVENT_IDX its ring says what it took.  Without, the answer to
	 * ring_stop() does, and what is completed after that is silent, and harms nobody. */
	RING_MAY_USE_LATER,
};

struct virtio_ops;

/* The first member of what implements the table, which finds itself by it.  All but `ops` is
 * a back-end's: its traits. */
struct virtio_device {
	const struct virtio_ops *ops;
	unsigned int traits; /* of enum backend_traits, known when features have been set */
	uint16_t ring_max;   /* entries of a ring at most; 0: not known */
};

struct umbra_backend_info;

#define BACKEND_BESIDE_MAX 3u

/* What a back-end says by itself, in between or from within any call. */
struct backend_listener {
	void *opaque;
	/* The configuration space has changed.  Must call nothing of the
	 * back-end: note it, or pass it on. */
	void (*config_changed)(void *opaque);
	/* A call has waited @waited_ms, from its beginning, for the answer to @message: 0 to
	 * wait on, a negative errno value, with the reason in @err, to give the back-end
	 * up.  Asked every so often, whatever the back-end does meanwhile. */
	int (*waiting)(void *opaque, const char *message, unsigned int waited_ms,
		       struct umbra_error *err);
	/* As soon as one of these can be read, and the answer is not there, the call returns
	 * -EINPROGRESS.  The answer is taken, and forgotten, by dispatch(), and until then
	 * owes() is true. */
	int beside[BACKEND_BESIDE_MAX];
	unsigned int beside_count;
};

#define BACKEND_FDS_MAX 4u

struct virtio_ops {
	/* --- of both ------------------------------------------------------------- */

	/* Virtio feature bits that the device offers; of a back-end with bit 30
	 * (VHOST_USER_F_PROTOCOL_FEATURES) where the transport has it. */
	int (*get_features)(struct virtio_device *self, uint64_t *features,
			    struct umbra_error *err);
	int (*set_features)(struct virtio_device *self, uint64_t features, struct umbra_error *err);

	/* vhost-user protocol features.  get: those that need the device; of a back-end: what
	 * this transport can do with it, cut down to what the shadow knows to relay.  set: what
	 * the front-end took of it.  A server and a transport add what they want for
	 * themselves (REPLY_ACK, CONFIGURE_MEM_SLOTS). */
	int (*get_protocol_features)(struct virtio_device *self, uint64_t *features,
				     struct umbra_error *err);
	int (*set_protocol_features)(struct virtio_device *self, uint64_t features,
				     struct umbra_error *err);

	int (*get_queue_num)(struct virtio_device *self, uint64_t *count, struct umbra_error *err);
	int (*get_memory_slots)(struct virtio_device *self, uint64_t *count,
				struct umbra_error *err);

	/* The whole table (each region with a backing that has an fd), or one region more or
	 * less of it: remove_region() looks at its gpa, uva and size. */
	int (*set_memory)(struct virtio_device *self, const struct memory_region *regions,
			  unsigned int count, struct umbra_error *err);
	int (*add_region)(struct virtio_device *self, const struct memory_region *region,
			  struct umbra_error *err);
	int (*remove_region)(struct virtio_device *self, const struct memory_region *region,
			     struct umbra_error *err);

	int (*ring_enable)(struct virtio_device *self, unsigned int index, bool enabled,
			   struct umbra_error *err);
	/* Stop ring @index (BACKEND_RUNS_AS_ONE: after device_stop()).  *@base: where it can be
	 * started again; of a back-end the next avail entry that it would have taken, and what
	 * it took before may still be completed later, silently. */
	int (*ring_stop)(struct virtio_device *self, unsigned int index, struct ring_position *base,
			 struct umbra_error *err);

	int (*get_config)(struct virtio_device *self, uint32_t offset, void *data, uint32_t size,
			  struct umbra_error *err);
	int (*set_config)(struct virtio_device *self, uint32_t offset, const void *data,
			  uint32_t size, uint32_t flags, struct umbra_error *err);
	int (*get_status)(struct virtio_device *self, uint8_t *status, struct umbra_error *err);
	int (*set_status)(struct virtio_device *self, uint8_t status, struct umbra_error *err);
	int (*reset)(struct virtio_device *self, struct umbra_error *err);
	/* NULL in a device that has no in-flight region.  get: memory for one of that shape, with a
	 * reference on its backing, which has an fd.  set: the one to be kept, which may be from
	 * another time; -EBUSY while rings run. */
	int (*get_inflight)(struct virtio_device *self, const struct virtio_inflight *shape,
			    struct memory_region *out, struct umbra_error *err);
	int (*set_inflight)(struct virtio_device *self, const struct virtio_inflight *shape,
			    const struct memory_region *region, struct umbra_error *err);
	/* NULL in a device that is no network card. */
	int (*set_mtu)(struct virtio_device *self, uint64_t mtu, struct umbra_error *err);
	int (*send_rarp)(struct virtio_device *self, const uint8_t mac[6], struct umbra_error *err);

	/* --- of a device --------------------------------------------------------- */

	int (*ring_set_size)(struct virtio_device *self, unsigned int index, uint32_t size,
			     struct umbra_error *err);
	int (*ring_set_addr)(struct virtio_device *self, unsigned int index,
			     const struct virtio_ring_addr *addr, struct umbra_error *err);
	int (*ring_set_base)(struct virtio_device *self, unsigned int index,
			     struct ring_position base, struct umbra_error *err);
	/* *@fd -1: no fd came, the other end polls (or, for err, wants none).  A
	 * kick starts the ring. */
	int (*ring_set_kick)(struct virtio_device *self, unsigned int index, int *fd,
			     struct umbra_error *err);
	int (*ring_set_call)(struct virtio_device *self, unsigned int index, int *fd,
			     struct umbra_error *err);
	int (*ring_set_err)(struct virtio_device *self, unsigned int index, int *fd,
			    struct umbra_error *err);

	/* Has the front-end started a ring that it has not stopped since, in whatever words (a
	 * status of 0, another size)?  Some front-ends hear of news only meanwhile. */
	bool (*is_started)(const struct virtio_device *self);
	/* What its session says.  A front-end is there, and @backend for it (NULL: the kind needs
	 * none); it has gone, or the back-end has: let go of everything of theirs (the back-end
	 * may be destroyed afterwards); a queue in service has set `broken`. */
	void (*attach)(struct virtio_device *self, struct virtio_device *backend);
	void (*detach)(struct virtio_device *self);
	void (*check_queues)(struct virtio_device *self);

	/* The guest's memory, as the front-end has shared it; NULL: not yet.  For who wants to
	 * look at its files. */
	const struct memory *(*memory)(const struct virtio_device *self);

	/* --- of a back-end ------------------------------------------------------- */

	const char *kind; /* "vhost-user", "vhost-vdpa" */

	/* @listener (copied) hears from now on. */
	void (*listen)(struct virtio_device *self, const struct backend_listener *listener);
	/* The fds to be polled for reading while no call is under way; -1: none in this
	 * place just now.  Returns their number. */
	unsigned int (*fds)(const struct virtio_device *self, int fds[BACKEND_FDS_MAX]);
	/* fds[@which] is readable.  0, or the back-end is gone or asks for a
	 * reset: -ECONNRESET. */
	int (*dispatch)(struct virtio_device *self, unsigned int which, struct umbra_error *err);
	/* An answer is still to come that a call did not wait for (-EINPROGRESS).  NULL: never. */
	bool (*owes)(const struct virtio_device *self);
	/* It was told something, and is told everything again, from set_features on: what it has
	 * of rings that were not fed is stopped first, as when a guest reboots.  NULL: it never has
	 * to be. */
	int (*start_over)(struct virtio_device *self, struct umbra_error *err);
	/* What umbra_shadow_device_query() shows of it. */
	void (*info)(const struct virtio_device *self, struct umbra_backend_info *info);

	/* BACKEND_MAPS: choose where the device shall see each region of the new
	 * table @memory, and @own (our memory; size 0: there is none), by filling
	 * their `iova`.  Regions that the device has already keep theirs.
	 * -ENOSPC, -EINVAL: one that has no place, named in @err.  NULL: each
	 * region is seen at its gpa. */
	int (*place_memory)(struct virtio_device *self, struct memory *memory,
			    struct memory_region *own, struct umbra_error *err);

	/* Program ring @index and start it (BACKEND_RUNS_AS_ONE: note it; the fds stay
	 * open until the ring is stopped).  When the call has returned 0, the
	 * back-end has processed every step (or has said so by a later reply). */
	int (*ring_start)(struct virtio_device *self, unsigned int index,
			  const struct virtio_ring *ring, struct umbra_error *err);
	/* Of BACKEND_KEEPS_INDEX without BACKEND_SUSPENDS, or NULL or -EOPNOTSUPP: the next avail
	 * entry that ring @index, which runs, would take.  The device answers it in turn
	 * with what it does for the ring. */
	int (*ring_base)(struct virtio_device *self, unsigned int index, struct ring_position *base,
			 struct umbra_error *err);
	/* Exchange one eventfd of a started ring by @fd (-1: none). */
	int (*ring_exchange)(struct virtio_device *self, unsigned int index,
			     enum virtio_ring_fd which, int fd, struct umbra_error *err);

	/* Have the back-end take no more of ring @index, which runs and will be stopped, in the way
	 * that it bears.  @is_fed: a guest goes on making chains available there; else nobody
	 * does, and what asks for something has been used.  It may take more for a while, see
	 * ring_rest().  Over with ring_unhush() and ring_stop(). */
	int (*ring_hush)(struct virtio_device *self, unsigned int index, bool is_fed,
			 struct umbra_error *err);
	/* Let it take again; of one that is not hushed, nothing. */
	int (*ring_unhush)(struct virtio_device *self, unsigned int index, struct umbra_error *err);
	/* Of a back-end that stops each ring by itself: how ring @index stands, which was hushed.
	 */
	enum ring_rest (*ring_rest)(const struct virtio_device *self, unsigned int index);
	/* Of one whose ring RING_USES_BEFORE_STOP: have it take all that is available, once.  1: it
	 * has taken what was there at the first of these calls, at least, and takes no more;
	 * 0: not yet, ask again. */
	int (*ring_sound)(struct virtio_device *self, unsigned int index, struct umbra_error *err);
	/* It was RING_MAY_TAKE for @waited_ms, which is as long as anybody waits.  True: from here
	 * on it is taken for hushed, and that is logged. */
	bool (*ring_presume_rest)(struct virtio_device *self, unsigned int index,
				  uint64_t waited_ms);
	/* Can rings be hushed whose kicks are a running guest's?  0; -EOPNOTSUPP: no, and why.
	 * NULL: 0. */
	int (*check_hush)(const struct virtio_device *self, struct umbra_error *err);

	/* BACKEND_RUNS_AS_ONE: the rings that were noted and are enabled run from here on; the
	 * others from ring_enable() on. */
	int (*device_start)(struct virtio_device *self, struct umbra_error *err);
	/* BACKEND_RUNS_AS_ONE: no ring runs any more.  The device has forgotten all but
	 * the features and the memory, once each ring's ring_stop() has followed. */
	int (*device_stop)(struct virtio_device *self, struct umbra_error *err);

	void (*destroy)(struct virtio_device *self);
};

static inline bool backend_runs_as_one(const struct virtio_device *b)
{
	return b->traits & BACKEND_RUNS_AS_ONE;
}

/* Its stop is a reset, which loses what it has. */
static inline bool backend_is_reset_by_stop(const struct virtio_device *b)
{
	return backend_runs_as_one(b) && !(b->traits & BACKEND_SUSPENDS);
}

static inline bool backend_hears_new_kicks(const struct virtio_device *b)
{
	return b->traits & BACKEND_HEARS_NEW_KICKS;
}

/* A ring starts at any index. */
static inline bool backend_keeps_index(const struct virtio_device *b)
{
	return !backend_runs_as_one(b) || b->traits & BACKEND_KEEPS_INDEX;
}

#endif
