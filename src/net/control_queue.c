/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The control queue of a network device: see control_queue.h.
 *
 * Where hostile bytes become trusted: the guest's command in guest_copy(), with
 * one copy; the device's answer in ack_read(), with one load.
 */
#include "net/control_queue.h"

#include <assert.h>
#include <errno.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "base/shm.h"
#include "queue/queue_step.h"
#include "ring/chain_bytes.h"

/* Commands moved in one pass; they are few, and most passes move one. */
#define BATCH_MAX 16u

/* Between two looks at a replayed command.  A device in the kernel needs some
 * microseconds for one, firmware some hundreds. */
#define REPLAY_LOOK_US 50u

#define ACK_NONE 0xffu /* stands where the device shall write its answer */

/* A command is two segments, and a table for them would save nothing. */
static uint64_t driver_features(uint64_t features)
{
	return features & ~BIT64(VIRTIO_RING_F_INDIRECT_DESC);
}

struct control_layout control_queue_layout(uint16_t size, uint64_t features)
{
	struct control_layout l = { .driver = driver_ring_layout(size, driver_features(features),
								 0) };

	l.bounce = align_up(l.driver.shared_bytes, 64);
	l.ack = l.bounce + NET_CONTROL_COMMAND_MAX;
	l.shared_bytes = l.ack + 1;
	l.command = l.driver.private_bytes;
	l.private_bytes = l.command + NET_CONTROL_COMMAND_MAX;
	return l;
}

int control_queue_init(struct control_queue *q, const struct control_queue_config *config)
{
	struct control_layout l = control_queue_layout(config->back.size, config->back.features);
	struct driver_ring_config back = config->back;
	uint8_t *shared = back.shared;

	assert(config->guest.memory);
	if (back.size < 2)
		return -EINVAL;
	back.features = driver_features(back.features);
	*q = (struct control_queue){
		.chain.segs = config->segs,
		.index = config->index,
		.terms = config->terms,
		.state = config->state,
		.command = (uint8_t *)back.private + l.command,
		.bounce = shared + l.bounce,
		.ack = shared + l.ack,
		.bounce_addr = { back.shared_addr.v + l.bounce },
		.ack_addr = { back.shared_addr.v + l.ack },
		.counters = config->counters,
		.control_counters = config->control_counters,
		.view = config->view,
	};
	net_control_show(q->view, q->state);
	device_ring_init(&q->guest, &config->guest);
	return driver_ring_init(&q->back, &back);
}

static void control_counters_update(void *queue)
{
	struct control_queue *q = queue;
	struct shadow_counters *c = q->counters;

	__atomic_store_n(&c->last_avail, q->guest.last_avail, __ATOMIC_RELAXED);
	__atomic_store_n(&c->last_used, q->guest.used_idx, __ATOMIC_RELAXED);
	__atomic_store_n(&c->in_flight, driver_ring_in_flight(&q->back), __ATOMIC_RELAXED);
}

static int control_queue_break(struct control_queue *q, const struct ring_error *error)
{
	q->error = *error;
	return -EPROTO;
}

/* ---- the guest's buffers ----------------------------------------------------- */

/*
 * Answer the guest's command, and give its chain back.  Where there is no byte for
 * the answer (the chain has none, or the memory table has changed and it is no
 * memory any more), the used length says that nothing was written.
 */
static void guest_answer(struct control_queue *q, uint8_t ack)
{
	unsigned int hint = 0;
	uint8_t *at = NULL;

	if (q->chain.writable_bytes)
		at = memory_host(q->guest.memory, &hint, q->chain.segs[q->chain.readable].addr, 1);
	if (at)
		*at = ack;
	device_ring_complete(&q->guest, q->chain.head, at ? 1 : 0);
	counter_add(&q->counters->requests, 1);
	counter_add(&q->counters->bytes_in, at ? 1 : 0);
}

static void guest_publish(struct control_queue *q, unsigned int *notify)
{
	device_ring_publish(&q->guest);
	if (device_ring_must_call(&q->guest)) {
		*notify |= QUEUE_CALL_GUEST;
		counter_add(&q->counters->calls_out, 1);
	}
}

/* ---- to the device ------------------------------------------------------------ */

/* Show the device what is in q->command.  1, or -EPROTO. */
static int command_submit(struct control_queue *q, enum control_flight flight)
{
	const struct driver_seg segs[] = {
		{ .addr = q->bounce_addr, .len = q->command_bytes, .writable = 0 },
		{ .addr = q->ack_addr, .len = 1, .writable = 1 },
	};
	int rc;

	/* Plain stores: the ring's release store of avail->idx comes after them. */
	memcpy(q->bounce, q->command, q->command_bytes);
	*q->ack = ACK_NONE;
	rc = driver_ring_add(&q->back, segs, ARRAY_SIZE(segs), 0);
	assert(rc != 0 && rc != -EMSGSIZE && rc != -EINVAL); /* nothing else is in it */
	if (rc < 0)
		return control_queue_break(q, &q->back.error);
	q->flight = flight;
	driver_ring_publish(&q->back);
	counter_add(&q->counters->bytes_out, q->command_bytes);
	return 1;
}

/* The device's answer to what it has used. */
static uint8_t ack_read(const struct control_queue *q, const struct driver_done *done)
{
	/* Behind the acquire load of used->idx in driver_ring_get(). */
	return done->len ? shm_load8(q->ack) : ACK_NONE;
}

/* 1: what was at the device has come back, and its answer is in *@ack; 0: it has
 * not; -EPROTO. */
static int command_get(struct control_queue *q, uint8_t *ack)
{
	struct driver_done done;
	int rc = driver_ring_get(&q->back, &done);

	if (rc < 0)
		return control_queue_break(q, &q->back.error);
	if (rc) {
		if (done.clamped)
			counter_add(&q->counters->clamped, 1);
		*ack = ack_read(q, &done);
	}
	return rc;
}

/* ---- moving ------------------------------------------------------------------- */

/* The device has answered the guest's command with @ack. */
static void command_finish(struct control_queue *q, uint8_t ack, unsigned int *notify)
{
	char name[64];

	q->flight = CONTROL_IDLE;
	if (ack == VIRTIO_NET_OK) {
		net_control_commit(q->state, q->command, q->command_bytes);
		net_control_show(q->view, q->state);
		counter_add(&q->control_counters->accepted, 1);
	} else {
		counter_add(&q->control_counters->failed, 1);
		log_warning(
			"queue %u: the device answered %u to %s; the guest gets VIRTIO_NET_ERR",
			q->index, ack,
			net_control_command_text(q->command, q->command_bytes, name, sizeof(name)));
	}
	if (q->abandoned)
		return;
	guest_answer(q, ack == VIRTIO_NET_OK ? VIRTIO_NET_OK : VIRTIO_NET_ERR);
	guest_publish(q, notify);
}

/* Device to guest.  1, 0 (nothing has come back), or -EPROTO. */
static int control_queue_backward(void *queue, unsigned int *notify)
{
	struct control_queue *q = queue;
	uint8_t ack;
	int rc = command_get(q, &ack);

	if (rc <= 0)
		return rc;
	if (q->flight == CONTROL_GUEST)
		command_finish(q, ack, notify);
	else
		q->flight = CONTROL_IDLE; /* of a replay that was given up */
	return 1;
}

/* Judge the chain that was taken, from a copy that is in q->command afterwards. */
static int chain_judge(struct control_queue *q, struct umbra_error *err)
{
	if (!q->chain.writable_bytes)
		return error_set(err, -EINVAL, "it has no byte for the answer");
	if (q->chain.readable_bytes > NET_CONTROL_COMMAND_MAX)
		return error_set(err, -EINVAL, "it has %llu bytes, expected %u or less",
				 (unsigned long long)q->chain.readable_bytes,
				 NET_CONTROL_COMMAND_MAX);
	q->command_bytes = (uint32_t)chain_read(&q->chain, q->guest.memory, q->command,
						NET_CONTROL_COMMAND_MAX);
	return net_control_judge(q->terms, q->command, q->command_bytes, err);
}

/* Guest to device, until one command is there.  Returns the number of chains that
 * were taken, or -EPROTO. */
static int control_queue_forward(void *queue, unsigned int *notify)
{
	struct control_queue *q = queue;
	unsigned int n = 0, refused = 0;
	struct umbra_error err;
	int rc = 0;

	while (n < BATCH_MAX && q->flight == CONTROL_IDLE) {
		rc = device_ring_take(&q->guest, &q->chain);
		if (rc < 0)
			rc = control_queue_break(q, &q->guest.error);
		if (rc <= 0)
			break;
		n++;
		if (chain_judge(q, &err)) {
			refused++;
			log_warning("queue %u: control command refused: %s", q->index, err.text);
			guest_answer(q, VIRTIO_NET_ERR);
			continue;
		}
		rc = command_submit(q, CONTROL_GUEST);
		if (rc < 0)
			break;
		if (driver_ring_must_kick(&q->back)) {
			*notify |= QUEUE_KICK_BACKEND;
			counter_add(&q->counters->kicks_out, 1);
		}
	}
	if (refused) {
		counter_add(&q->control_counters->refused, refused);
		guest_publish(q, notify);
	}
	return rc < 0 ? rc : (int)n;
}

/* These three as queue_service.h says. */
static inline struct queue_step control_step(struct control_queue *q)
{
	return (struct queue_step){
		q,
		&q->guest,
		&q->back,
		control_queue_backward,
		control_queue_forward,
		control_counters_update,
	};
}

static int control_queue_move(void *queue, unsigned int *notify)
{
	struct control_queue *q = queue;
	const struct queue_step step = control_step(q);

	*notify = 0;
	if (control_queue_is_broken(q))
		return -EPROTO;
	counter_add(&q->counters->passes, 1);
	return queue_step_move(&step, notify);
}

static int control_queue_pass(void *queue, unsigned int *notify)
{
	struct control_queue *q = queue;
	const struct queue_step step = control_step(q);
	int actions = control_queue_move(q, notify);

	/* A command at the device wakes us when it is done. */
	return actions ? actions : queue_step_arm(&step, q->flight == CONTROL_IDLE);
}

static bool control_queue_has_work(const void *queue)
{
	const struct control_queue *q = queue;

	return driver_ring_has_used(&q->back) ||
	       (q->flight == CONTROL_IDLE && device_ring_has_avail(&q->guest));
}

void control_queue_service(struct control_queue *q, struct queue_service *service)
{
	service->pass = control_queue_pass;
	service->move = control_queue_move;
	service->has_work = control_queue_has_work;
	service->queue = q;
}

/* ---- stopping ------------------------------------------------------------------ */

bool control_queue_take_back(struct control_queue *q)
{
	bool guest = q->flight == CONTROL_GUEST;

	if (guest) {
		device_ring_untake(&q->guest, 1);
		counter_add(&q->counters->returned, 1);
	}
	q->flight = CONTROL_IDLE;
	return guest;
}

int control_queue_drain(struct control_queue *q, unsigned int *notify)
{
	unsigned int actions = 0;
	int rc;

	*notify = 0;
	if (control_queue_is_broken(q) && !q->abandoned)
		return -EPROTO;
	rc = control_queue_backward(q, &actions);
	control_counters_update(q);
	if (rc < 0) {
		*notify = actions;
		return rc;
	}
	return (int)actions;
}

void control_queue_abandon(struct control_queue *q)
{
	q->abandoned = true;
}

/* ---- replaying ------------------------------------------------------------------ */

/* Have the device do what is in q->command. */
static int replay_one(struct control_queue *q, struct shadow_host *host, int kick_fd,
		      uint64_t end_us, struct umbra_error *err)
{
	uint8_t ack;
	int rc = command_submit(q, CONTROL_REPLAY);

	if (rc < 0)
		return rc;
	if (driver_ring_must_kick(&q->back)) {
		counter_add(&q->counters->kicks_out, 1);
		device_host_notify(host->device, kick_fd);
	}
	while (!(rc = command_get(q, &ack))) {
		if (device_host_now_us(host->device) >= end_us)
			return error_set(err, -ETIME, "the device does not answer");
		if (host->ops->wait_us(host, REPLAY_LOOK_US))
			return error_set(err, -ECANCELED, "the device is stopped");
	}
	if (rc < 0)
		return rc;
	q->flight = CONTROL_IDLE;
	if (ack != VIRTIO_NET_OK)
		return error_set(err, -EREMOTEIO, "the device answered %u, expected %u", ack,
				 VIRTIO_NET_OK);
	counter_add(&q->control_counters->replayed, 1);
	return 0;
}

int control_queue_replay(struct control_queue *q, struct shadow_host *host, int kick_fd,
			 uint64_t deadline_us, struct umbra_error *err)
{
	uint64_t end_us = device_host_now_us(host->device) + deadline_us;
	struct net_control_replay replay;
	char text[UMBRA_ERROR_SIZE];
	size_t size;
	int rc;

	assert(q->flight == CONTROL_IDLE);
	if (control_queue_is_broken(q))
		return error_set(err, -EPROTO, "queue %u: %s", q->index,
				 control_queue_error(q, text, sizeof(text)));
	driver_ring_disarm(&q->back);
	net_control_replay_begin(&replay, q->state);
	while ((size = net_control_replay_next(&replay, q->command))) {
		q->command_bytes = (uint32_t)size;
		rc = replay_one(q, host, kick_fd, end_us, err);
		control_counters_update(q);
		if (!rc)
			continue;
		if (rc == -EPROTO)
			error_set(err, rc, "%s", control_queue_error(q, text, sizeof(text)));
		net_control_command_text(q->command, size, text, sizeof(text));
		return error_prefix(err, rc, "queue %u: %s cannot be replayed", q->index, text);
	}
	return 0;
}

char *control_queue_error(const struct control_queue *q, char *text, size_t size)
{
	return ring_error_text(&q->error, text, size);
}
