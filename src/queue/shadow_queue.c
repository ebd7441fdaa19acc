/* SPDX-License-Identifier: BSD-2-Clause */
/* A shadow queue, ring to ring: see shadow_queue.h. */
#include "queue/shadow_queue.h"

#include <errno.h>
#include <stdio.h>

#include "queue/chain_translate.h"
#include "queue/queue_step.h"

/*
 * Chains moved one way in one pass.  Bounds the time until the other way, the
 * other queues of the thread, and the notification of what was published get
 * their turn.
 */
#define BATCH_MAX 64u

/* A chain's token is its head; or this, if it is none of this life. */
#define TOKEN_GHOST 0x10000u

int shadow_queue_init(struct shadow_queue *q, const struct shadow_queue_config *config)
{
	*q = (struct shadow_queue){
		.chain.segs = config->segs,
		.counters = config->counters,
		.flights = config->flights,
	};
	device_ring_init(&q->guest, &config->guest);
	if (driver_ring_init(&q->back, &config->back))
		return -EINVAL;
	q->ghosts = config->ghost_count;
	if (q->ghosts)
		driver_ring_adopt(&q->back, config->ghosts, q->ghosts, TOKEN_GHOST);
	flight_stand(q->flights, config->guest.at);
	flight_renew(q->flights);
	return 0;
}

/* The guest's driver builds tables longer than its ring: show how long they get, and
 * have it said once. */
static __attribute__((cold, noinline)) unsigned int table_note(struct shadow_queue *q)
{
	uint32_t *longest = &q->counters->table_longest;
	uint32_t before = __atomic_load_n(longest, __ATOMIC_RELAXED);

	if (q->guest.table_longest <= before)
		return 0;
	__atomic_store_n(longest, q->guest.table_longest, __ATOMIC_RELAXED);
	return before ? 0 : QUEUE_NOTICE;
}

/* Let others see where the queue is. */
static void counters_update(void *queue)
{
	struct shadow_queue *q = queue;
	struct shadow_counters *c = q->counters;

	__atomic_store_n(&c->last_avail, q->guest.last_avail, __ATOMIC_RELAXED);
	__atomic_store_n(&c->last_used, q->guest.used_idx, __ATOMIC_RELAXED);
	__atomic_store_n(&c->in_flight, shadow_queue_in_flight(q), __ATOMIC_RELAXED);
}

static int queue_break(struct shadow_queue *q, const struct ring_error *error)
{
	q->error = *error;
	return -EPROTO;
}

/*
 * Back-end to guest.  Returns the number of chains completed, or -EPROTO, in
 * which case the ones before the violation have been published all the same:
 * the guest is owed what was done.
 */
static int queue_backward(void *queue, unsigned int *owed)
{
	struct shadow_queue *q = queue;
	struct driver_done done;
	uint64_t bytes = 0, clamped = 0;
	unsigned int n = 0, untold = 0; /* of which the guest hears nothing */
	int got = 0;

	while (n < BATCH_MAX) {
		got = driver_ring_get(&q->back, &done);
		if (got <= 0)
			break;
		n++;
		if (unlikely(done.token & TOKEN_GHOST)) {
			q->ghosts--;
			q->wants_room = false;
			untold++;
			continue;
		}
		if (unlikely(q->abandoned)) {
			flight_drop(q->flights, (uint16_t)done.token);
			untold++;
			continue;
		}
		flight_note(q->flights, (uint16_t)done.token);
		device_ring_complete(&q->guest, (uint16_t)done.token, done.len);
		bytes += done.len;
		clamped += done.clamped;
	}
	if (n > untold) {
		flight_close(q->flights);
		device_ring_publish(&q->guest);
		flight_publish(q->flights);
		if (device_ring_must_call(&q->guest)) {
			*owed |= SHADOW_CALL_GUEST;
			counter_add(&q->counters->calls_out, 1);
		}
		q->wants_room = false;
		counter_add(&q->counters->requests, n - untold);
		counter_add(&q->counters->bytes_in, bytes);
		if (clamped)
			counter_add(&q->counters->clamped, clamped);
	}
	return got < 0 ? queue_break(q, &q->back.error) : (int)n;
}

/* Add the chain at hand to the shadow ring.  Returns as driver_ring_add(). */
static inline int chain_add(struct shadow_queue *q, uint32_t writable)
{
	const struct memory *memory = q->guest.memory;
	bool translated = memory && memory->translated;

	if (translated) {
		int rc = chain_translate(&q->chain, memory, q->back.layout.longest);

		if (unlikely(rc))
			return rc;
	}
	return driver_ring_add_summed(
		&q->back, translated ? chain_translated(&q->chain) : chain_as_guest(&q->chain),
		q->chain.count, writable, q->chain.head);
}

/* The guest's driver gave the chain at hand twice; the second time is not taken. */
static __attribute__((cold, noinline)) int head_refuse(struct shadow_queue *q)
{
	const struct ring_error error = { .fault = RING_HEAD_IN_FLIGHT,
					  .head = q->chain.head,
					  .value = q->chain.head };

	device_ring_untake(&q->guest, 1);
	return queue_break(q, &error);
}

/*
 * The chain at hand can never be forwarded.  If translation has made it too
 * long, it still has the guest's count.
 */
static int queue_refuse(struct shadow_queue *q)
{
	q->refusal = q->chain.count > q->back.layout.longest
			     ? "has more segments"
			     : "crosses between memory regions that the device sees apart, and in "
			       "pieces has more segments";
	return -EPROTO;
}

/* Guest to back-end.  Returns as queue_backward(). */
static int queue_forward(void *queue, unsigned int *owed)
{
	struct shadow_queue *q = queue;
	uint64_t bytes = 0;
	unsigned int n = 0;
	int rc = 0;

	if (q->wants_room)
		return 0;
	while (n < BATCH_MAX) {
		struct flight_entry *e;
		uint32_t writable;

		rc = device_ring_take(&q->guest, &q->chain);
		if (rc < 0)
			rc = queue_break(q, &q->guest.error);
		if (rc <= 0)
			break;
		e = flight_entry(q->flights, q->chain.head);
		if (unlikely(flight_is_flying(q->flights, e))) {
			rc = head_refuse(q);
			break;
		}
		writable = (uint32_t)MIN(q->chain.writable_bytes, UINT32_MAX);
		flight_prepare(q->flights, e, driver_ring_next_id(&q->back), q->chain.readable > 0,
			       writable);
		rc = chain_add(q, writable);
		if (rc <= 0) {
			device_ring_untake(&q->guest, 1);
			if (rc == 0) {
				q->wants_room = true;
			} else if (q->back.error.fault != RING_OK) {
				rc = queue_break(q, &q->back.error);
			} else {
				rc = queue_refuse(q);
			}
			break;
		}
		flight_take(q->flights, e);
		bytes += q->chain.readable_bytes;
		n++;
	}
	if (n) {
		flight_hand_over(q->flights);
		if (unlikely(q->guest.table_longest))
			*owed |= table_note(q);
		driver_ring_publish(&q->back);
		if (driver_ring_must_kick(&q->back)) {
			*owed |= SHADOW_KICK_BACKEND;
			counter_add(&q->counters->kicks_out, 1);
		}
		counter_add(&q->counters->bytes_out, bytes);
	}
	return rc < 0 ? rc : (int)n;
}

static inline struct queue_step shadow_step(struct shadow_queue *q)
{
	return (struct queue_step){
		q, &q->guest, &q->back, queue_backward, queue_forward, counters_update
	};
}

int shadow_queue_move(struct shadow_queue *q, unsigned int *owed)
{
	const struct queue_step step = shadow_step(q);

	*owed = 0;
	if (shadow_queue_is_broken(q))
		return -EPROTO;
	counter_add(&q->counters->passes, 1);
	return queue_step_move(&step, owed);
}

int shadow_queue_pass(struct shadow_queue *q, unsigned int *owed)
{
	const struct queue_step step = shadow_step(q);
	int actions = shadow_queue_move(q, owed);

	return actions ? actions : queue_step_arm(&step, !q->wants_room);
}

bool shadow_queue_has_work(const struct shadow_queue *q)
{
	return driver_ring_has_used(&q->back) ||
	       (!q->wants_room && device_ring_has_avail(&q->guest));
}

/* Give @f back to the guest's ring.  False: it is not the newest on it. */
static bool newest_return(struct shadow_queue *q, const struct flight *f)
{
	if (f->order != q->flights->next - 1)
		return false;
	flight_untake(q->flights, f->head);
	device_ring_untake(&q->guest, 1);
	return true;
}

/* Give back to the guest's ring what waits there, as far as it is the newest; the others wait on.
 */
static void newest_return_all(struct shadow_queue *q)
{
	const struct flight *list = q->flights->list;
	uint32_t count = flight_list(q->flights);

	while (count && flight_waits(&list[count - 1]) && newest_return(q, &list[count - 1]))
		count--;
}

int shadow_queue_untaken(const struct shadow_queue *q, struct ring_position base, uint16_t *count)
{
	*count = ring_taken_since(driver_ring_position(&q->back), base, q->back.split.size);
	/* What it has used, and we have not seen yet, it has taken. */
	if (ring_position_can_stand(base, driver_ring_said(&q->back), q->back.split.size) &&
	    *count <= shadow_queue_in_flight(q))
		return 0;
	*count = 0;
	return -EPROTO;
}

int shadow_queue_rewind(struct shadow_queue *q, struct ring_position base)
{
	uint16_t untaken;

	if (shadow_queue_untaken(q, base, &untaken))
		return -EPROTO;
	if (driver_ring_unadd(&q->back, untaken))
		return -EPROTO;
	flight_hand_back(q->flights, untaken);
	newest_return_all(q);
	q->wants_room = false;
	counters_update(q);
	return 0;
}

int shadow_queue_drain(struct shadow_queue *q, unsigned int *owed)
{
	unsigned int actions = 0;
	int n;

	*owed = 0;
	if (shadow_queue_is_broken(q) && !q->abandoned)
		return -EPROTO;
	do
		n = queue_backward(q, &actions);
	while (n == (int)BATCH_MAX);
	counters_update(q);
	if (n < 0) {
		*owed = actions;
		return n;
	}
	return (int)actions;
}

uint16_t shadow_queue_asking(const struct shadow_queue *q, uint16_t untaken)
{
	const struct flight_table *t = q->flights;
	uint16_t count = 0;

	if (!untaken)
		return (uint16_t)flight_asking(t);
	for (uint32_t i = flight_list(t); i--;) {
		const struct flight *f = &t->list[i];

		if (!f->handed)
			continue;
		if (untaken)
			untaken--;
		else
			count += f->asks;
	}
	return count;
}

void shadow_queue_reclaim(struct shadow_queue *q, uint16_t untaken)
{
	struct flight_table *t = q->flights;
	uint32_t count;

	flight_hand_back(t, untaken);
	count = flight_list(t);
	for (uint32_t i = 0; i < count; i++)
		if (t->list[i].handed && t->list[i].asks)
			flight_lose(t, t->list[i].head);
	flight_hand_back(t, UINT16_MAX);
	newest_return_all(q);
}

void shadow_queue_hold(struct shadow_queue *q)
{
	flight_hand_back(q->flights, UINT16_MAX);
}

void shadow_queue_end(struct shadow_queue *q)
{
	struct flight_table *t = q->flights;
	uint32_t count = flight_list(t);

	if (q->abandoned)
		flight_forget(t);
	for (uint32_t i = 0; i < count && !q->abandoned; i++)
		if (t->list[i].handed)
			flight_lose(t, t->list[i].head);
}

/* Complete the chain at hand, which nobody has; the guest sees it when it is published. */
static void chain_drop(struct shadow_queue *q)
{
	flight_note(q->flights, q->chain.head);
	device_ring_complete(&q->guest, q->chain.head, 0);
}

/* Add @f, which waits, as the first time, but read and judged anew. */
static int flight_readd(struct shadow_queue *q, const struct flight *f,
			const struct readd_terms *terms)
{
	uint16_t id = driver_ring_next_id(&q->back);
	int rc = device_ring_reread(&q->guest, f->head, &q->chain);

	if (rc < 0)
		return queue_break(q, &q->guest.error);
	if (terms && terms->judge(terms->opaque, q->guest.memory, &q->chain) == READD_DROP) {
		chain_drop(q);
		return 0;
	}
	rc = chain_add(q, (uint32_t)MIN(q->chain.writable_bytes, UINT32_MAX));
	if (q->back.error.fault != RING_OK)
		return queue_break(q, &q->back.error);
	if (rc < 0)
		return queue_refuse(q);
	if (!rc) { /* they all fitted before */
		q->refusal = "has grown since it was taken, beyond the room there was, and "
			     "has more segments";
		return -EPROTO;
	}
	flight_retake(q->flights, f->head, id);
	return 0;
}

int shadow_queue_readd(struct shadow_queue *q, const struct readd_terms *terms)
{
	struct flight_table *t = q->flights;
	uint32_t count = flight_list(t);
	bool any = false;
	int rc = 0;

	for (uint32_t i = 0; i < count && !rc; i++) {
		if (!flight_waits(&t->list[i]))
			continue;
		rc = flight_readd(q, &t->list[i], terms);
		any = true;
	}
	if (t->noted != t->used) { /* also before a violation */
		device_ring_publish(&q->guest);
		flight_publish(t);
	}
	if (rc || !any)
		return rc;
	flight_hand_over(t);
	driver_ring_publish(&q->back);
	counters_update(q);
	return 0;
}

uint16_t shadow_queue_leave_behind(const struct shadow_queue *q, uint16_t *ids)
{
	uint16_t count = 0, age;
	uint64_t token;

	for (uint32_t head = 0; head < q->back.split.size; head++)
		if (driver_ring_peek(&q->back, (uint16_t)head, &token, &age))
			ids[count++] = (uint16_t)head;
	return count;
}

void shadow_queue_abandon(struct shadow_queue *q)
{
	q->abandoned = true;
}

char *shadow_queue_error(const struct shadow_queue *q, char *text, size_t size)
{
	if (q->refusal) /* q->chain is still the one that was refused */
		snprintf(
			text, size,
			"a chain of %u segments %s than the back-end's ring takes (%u), and cannot "
			"be forwarded",
			q->chain.count, q->refusal, q->back.layout.longest);
	else
		ring_error_text(&q->error, text, size);
	return text;
}
