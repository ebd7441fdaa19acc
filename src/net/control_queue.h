/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The control queue of a network device, between the guest's ring and the
 * device's, and followed on the way.
 *
 *	guest's ring                                       device's ring
 *	driver --> [device side] -- copy, judge -->  [driver side] --> device
 *	       <--     ack      <--   commit    <--      ack       <--
 *
 * Theory of operation: a command is copied out of the guest's memory once, and
 * the copy is judged (net_control.h).  One that may not pass is answered with
 * VIRTIO_NET_ERR here, and the device never hears of it.  One that may is laid
 * into a piece of our own memory, with a byte behind it for the answer, and
 * shown to the device from there: what was judged is what the device reads,
 * whatever the guest writes into its buffer meanwhile.  When the device has
 * used it, its answer is read once; VIRTIO_NET_OK commits the command to the
 * state, everything else is VIRTIO_NET_ERR to the guest.
 *
 * One command is at the device at a time, since a replay must know what the
 * device was told and in which order.  No driver is known that wants more.
 *
 * The same ring carries the replay: control_queue_replay() tells the device all
 * that is in the state, and waits.
 *
 * Indices.  Refused commands never reach the device, replayed ones never came
 * from the guest, so the two rings' indices have nothing to do with each other.
 * The device's starts at 0 with each life of the queue, on a device that was
 * reset before.
 *
 * A reset while a command is at the device: nobody knows whether it was done,
 * and it does not matter, because the reset has undone it.  Commands say how
 * something shall be, none says by how much it shall change.  So after the
 * reset the command is taken back (control_queue_take_back()), the replay brings
 * the device to where it was before it, and it is submitted again.
 *
 * Notifications are not sent here, but in the replay.
 *
 * Ownership: nothing is allocated; all memory is the caller's.
 * Threads: one owner at a time, who owns the state of net_control.h, too.
 * Only the counters and the view may be read by others.  Commands that are not OK
 * are logged.
 * Trust: both peers are hostile.  Our own piece of memory can be written by the
 * device, and where other rings are passed through, by a guest that has the
 * device do so.  Nothing is read back from it but used entries and the answer,
 * which are judged as the device's; a guest can so tell its own device what we
 * would have refused, or deceive us about what it said, which is lost with the
 * next reset.  It harms no other.
 * Implements: virtio 1.2, section 5.1.6.5.
 */
#ifndef UMBRA_NET_CONTROL_QUEUE_H
#define UMBRA_NET_CONTROL_QUEUE_H

#include "base/log.h"
#include "net/net_control.h"
#include "queue/shadow_host.h"
#include "queue/shadow_queue.h"

/* How it went with the commands; as of struct shadow_counters. */
struct control_counters {
	uint64_t accepted; /* VIRTIO_NET_OK of the device */
	uint64_t refused;  /* by us */
	uint64_t failed;   /* by the device: VIRTIO_NET_ERR, or no answer that is one */
	uint64_t replayed; /* to the device, and accepted */
};

/* What is at the device. */
enum control_flight { CONTROL_IDLE, CONTROL_GUEST, CONTROL_REPLAY };

struct control_queue {
	struct device_ring guest;
	struct driver_ring back;
	struct ring_chain chain; /* the guest's command that is being served */
	enum control_flight flight;
	bool abandoned; /* the guest's ring is not written any more: completions end here */
	unsigned int index;
	const struct net_control_terms *terms;
	struct net_control *state;
	uint8_t *command; /* the private copy of what is at the device */
	uint32_t command_bytes;
	uint8_t *bounce, *ack; /* the same for the device, and its answer; hostile */
	iova_t bounce_addr, ack_addr;
	struct shadow_counters *counters;
	struct control_counters *control_counters;
	struct net_control_view *view;
	struct ring_error error; /* of either ring, or RING_OK */
};

/* How much memory a control queue wants, and where. */
struct control_layout {
	struct driver_layout driver;
	size_t bounce, ack;   /* offsets in the memory that the device sees */
	size_t shared_bytes;  /* in all; the device must see these */
	size_t command;       /* offset in private memory */
	size_t private_bytes; /* in all; the device must not */
};

/* @size: of the device's ring; @features: negotiated. */
struct control_layout control_queue_layout(uint16_t size, uint64_t features);

struct control_queue_config {
	unsigned int index;              /* of the ring, for log lines */
	struct device_ring_config guest; /* .memory is not NULL */
	struct driver_ring_config back;  /* .shared and .private: control_layout's bytes; .features:
					    as given to control_queue_layout() */
	struct ring_seg *segs;           /* guest.split.size entries, for this queue alone */
	const struct net_control_terms *terms;
	struct net_control *state; /* outlives the queue: what the device was told so far */
	struct shadow_counters *counters;
	struct control_counters *control_counters;
	struct net_control_view *view; /* follows the state, from init on */
};

/* -EINVAL: see driver_ring_init(); or the device's ring has less than two
 * entries, and no command fits. */
UMBRA_MUST_CHECK int control_queue_init(struct control_queue *q,
					const struct control_queue_config *config);

/* Fill in how the queue is served: pass, move, has_work, queue. */
void control_queue_service(struct control_queue *q, struct queue_service *service);

/* As of shadow_queue.h. */
UMBRA_MUST_CHECK int control_queue_drain(struct control_queue *q, unsigned int *notify);
void control_queue_abandon(struct control_queue *q);

/*
 * The device was reset.  A command that it had and did not use goes back to the
 * guest's ring: true; see above.  The queue must be initialised anew before it
 * is served again.
 */
bool control_queue_take_back(struct control_queue *q);

/*
 * Tell a fresh device all that is in the state, one command after the other.  The
 * device runs this ring, nobody serves it, and no command is at the device.
 * @kick_fd: the device's.  Calls of the device may be left unread.
 *  -EREMOTEIO  the device did not accept a command, which is named
 *  -ETIME      it had not used all of them after @deadline_us
 *  -ECANCELED  the host asks for an end of all waiting
 *  -EPROTO     the queue is broken: see control_queue_error()
 * After an error the device is in no known state: stop it, and drop the queue.
 */
UMBRA_MUST_CHECK int control_queue_replay(struct control_queue *q, struct shadow_host *host,
					  int kick_fd, uint64_t deadline_us,
					  struct umbra_error *err);

static inline bool control_queue_is_broken(const struct control_queue *q)
{
	return q->error.fault != RING_OK;
}

/* Why the queue is broken, as a sentence.  Returns @text. */
char *control_queue_error(const struct control_queue *q, char *text, size_t size);

#endif
