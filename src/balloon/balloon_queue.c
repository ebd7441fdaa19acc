/* SPDX-License-Identifier: BSD-2-Clause */
/* One queue of a balloon: see balloon_queue.h. */
#include "balloon/balloon_queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "ring/chain_bytes.h"

#define PAGE_BYTES (UINT64_C(1) << PAGE_RUN_SHIFT)

/* What a chain is owed once the batch has been applied. */
struct balloon_answer {
	uint16_t head;
	bool wants_status;
	struct page_run_status status;
	uint64_t first, end; /* its pages lie in [first, end); first >= end: there are none */
	/* Where the status goes: 16 bytes cannot take more pieces. */
	unsigned int pieces;
	struct ring_seg piece[PAGE_RUN_STATUS_BYTES];
};

int balloon_shared_init(struct balloon_shared *s, struct balloon_host *host,
			struct umbra_error *err)
{
	int rc;

	*s = (struct balloon_shared){ .host = host };
	rc = balloon_batch_init(&s->batch, host, &s->counters, err);
	if (rc)
		return rc;
	s->message = malloc(PAGE_RUN_MESSAGE_BYTES_MAX);
	s->runs = calloc(PAGE_RUN_RECORD_RUNS_MAX, sizeof(*s->runs));
	s->answers = calloc(BALLOON_QUEUE_BATCH, sizeof(*s->answers));
	if (s->message && s->runs && s->answers)
		return 0;
	balloon_shared_fini(s);
	return error_set(err, -ENOMEM, "no memory for a balloon's queues");
}

void balloon_shared_fini(struct balloon_shared *s)
{
	balloon_batch_fini(&s->batch);
	free(s->message);
	free(s->runs);
	free(s->answers);
	s->message = NULL;
	s->runs = NULL;
	s->answers = NULL;
}

/* --- answers ---------------------------------------------------------------- */

/* Remember where the chain's status goes, if there is room for one. */
static void answer_place(struct balloon_answer *a, const struct ring_chain *chain)
{
	uint32_t left = PAGE_RUN_STATUS_BYTES;

	a->pieces = 0;
	a->wants_status = chain->writable_bytes >= PAGE_RUN_STATUS_BYTES;
	for (uint32_t i = chain->readable; a->wants_status && left; i++) {
		struct ring_seg piece = chain->segs[i];

		piece.len = MIN(piece.len, left);
		left -= piece.len;
		a->piece[a->pieces++] = piece;
	}
}

static void answer_write(struct balloon_queue *q, const struct balloon_answer *a)
{
	uint8_t bytes[PAGE_RUN_STATUS_BYTES];

	page_run_status_store(bytes, a->status);
	segments_write(a->piece, a->pieces, q->served.ring.memory, bytes);
}

/* --- messages --------------------------------------------------------------- */

static void refuse_message(struct balloon_queue *q, struct balloon_answer *a,
			   enum page_run_code code)
{
	a->status.code = code;
	q->shared->refused_messages++;
}

/* Copy the message out of the chain: its length, cut at the longest that there is. */
static size_t message_read(struct balloon_queue *q)
{
	return chain_read(&q->served.chain, q->served.ring.memory, q->shared->message,
			  PAGE_RUN_MESSAGE_BYTES_MAX);
}

/* The stock protocol: 32-bit pfns. */
static void take_pfns(struct balloon_queue *q, struct balloon_answer *a)
{
	struct balloon_shared *s = q->shared;
	uint32_t count;

	/* A part of a pfn at the end is nothing. */
	count = (uint32_t)(message_read(q) / 4);
	if (!count || q->served.chain.readable_bytes > PAGE_RUN_MESSAGE_BYTES_MAX) {
		refuse_message(q, a, PAGE_RUN_BAD_LENGTH);
		return;
	}
	s->refused_records +=
		balloon_batch_add_pfns(&s->batch, s->message, count, &a->first, &a->end);
}

static void note_refused_record(struct balloon_queue *q, struct balloon_answer *a,
				enum page_run_code code, uint32_t index)
{
	q->shared->refused_records++;
	if (a->status.code == PAGE_RUN_OK) {
		a->status.code = code;
		a->status.record = index;
	}
}

static bool record_is_covered(struct balloon_shared *s, uint32_t runs)
{
	for (uint32_t i = 0; i < runs; i++)
		if (!balloon_batch_covers(&s->batch, s->runs[i]))
			return false;
	return true;
}

/* Go on with the records of the last message; those for which there is no room are left
 * to the next time. */
static void read_records(struct balloon_queue *q)
{
	struct balloon_shared *s = q->shared;
	struct balloon_answer *a = &s->answers[s->taken - 1];
	struct page_run_record record;

	while (balloon_batch_has_room(&s->batch, PAGE_RUN_RECORD_RUNS_MAX)) {
		if (!page_run_decode_next(&s->decoder, s->runs, &record)) {
			s->message_goes_on = false;
			if (a->status.code == PAGE_RUN_OK)
				a->status.record = s->decoder.records;
			return;
		}
		if (record.refusal != PAGE_RUN_ACCEPTED) {
			note_refused_record(q, a, PAGE_RUN_BAD_RECORD, record.index);
		} else if (!record_is_covered(s, record.runs)) {
			note_refused_record(q, a, PAGE_RUN_OUTSIDE, record.index);
		} else if (record.runs) {
			const struct page_run *last = &s->runs[record.runs - 1];

			a->first = MIN(a->first, s->runs[0].pfn);
			a->end = MAX(a->end, last->pfn + last->count);
			a->status.pages += record.pages;
			balloon_batch_add(&s->batch, s->runs, record.runs);
		}
	}
}

static void take_records(struct balloon_queue *q, struct balloon_answer *a)
{
	struct balloon_shared *s = q->shared;
	size_t length = message_read(q);
	enum page_run_code code = page_run_decode_begin(&s->decoder, s->message, length);

	if (code != PAGE_RUN_OK) {
		refuse_message(q, a, code);
		return;
	}
	s->message_goes_on = true;
	read_records(q);
}

/* Free pages: the buffer is them. */
static void take_report(struct balloon_queue *q)
{
	struct balloon_shared *s = q->shared;

	for (uint32_t i = q->served.chain.readable; i < q->served.chain.count && !s->leaves_reports;
	     i++) {
		const struct ring_seg *seg = &q->served.chain.segs[i];
		uint64_t first = (seg->addr.v >> PAGE_RUN_SHIFT) + !!(seg->addr.v % PAGE_BYTES);
		uint64_t end = (seg->addr.v + seg->len) >> PAGE_RUN_SHIFT;
		struct page_run run = { .pfn = first };

		if (first >= end)
			continue;
		run.count = end - first;
		/* Two regions may adjoin in the midst of a page.  A chain that is longer
		 * than there is room for cannot be; what it reports may stay, too. */
		if (balloon_batch_has_room(&s->batch, 1) && balloon_batch_covers(&s->batch, run))
			balloon_batch_add(&s->batch, &run, 1);
	}
}

/* The chain that was taken is the last of the batch. */
static void take_chain(struct balloon_queue *q, enum balloon_kind kind)
{
	struct balloon_answer *a = &q->shared->answers[q->shared->taken++];

	*a = (struct balloon_answer){ .head = q->served.chain.head, .first = UINT64_MAX };
	if (kind == BALLOON_REPORT) {
		take_report(q);
		return;
	}
	if (!q->shared->page_bitmap) {
		take_pfns(q, a);
		return;
	}
	answer_place(a, &q->served.chain);
	take_records(q, a);
}

/* --- passes ------------------------------------------------------------------- */

static unsigned int publish(struct balloon_queue *q)
{
	device_ring_publish(&q->served.ring);
	return device_ring_must_call(&q->served.ring) ? QUEUE_CALL_GUEST : 0;
}

/* After a pass that took @taken chains, and got @rc for the last. */
static int pass_end(struct balloon_queue *q, unsigned int taken, int rc, unsigned int actions,
		    unsigned int *notify)
{
	if (rc < 0) {
		*notify = actions;
		return rc;
	}
	if (taken) {
		device_ring_disarm(&q->served.ring);
		return (int)(actions | QUEUE_MORE);
	}
	return (int)(actions | (device_ring_arm(&q->served.ring) ? QUEUE_MORE : 0));
}

/*
 * [batch-owner] acquire and release; peers: the queues' thread, and balloon_queue_pause() on the
 * device's thread.  A queue that is out of service owns the batch or does not, and
 * nobody but the device's thread changes that: while it owns it, no other queue touches the
 * batch.  When it is let go of, the next queue's thread finds all that was dropped
 * dropped.  With plain accesses it may find half of it.
 */
static struct balloon_queue *batch_owner(const struct balloon_shared *s)
{
	return __atomic_load_n(&s->owner, __ATOMIC_ACQUIRE);
}

static void batch_give(struct balloon_shared *s, struct balloon_queue *owner)
{
	__atomic_store_n(&s->owner, owner, __ATOMIC_RELEASE);
}

/* Take what is available into a new batch. */
static void batch_begin(struct balloon_queue *q, enum balloon_kind kind)
{
	struct balloon_shared *s = q->shared;
	int rc = 1;

	s->taken = 0;
	s->refused_messages = s->refused_records = 0;
	s->message_goes_on = false;
	balloon_batch_begin(&s->batch);
	while (s->taken < BALLOON_QUEUE_BATCH && !s->message_goes_on &&
	       balloon_batch_has_room(&s->batch, BALLOON_QUEUE_CHAIN_RUNS) &&
	       (rc = device_ring_take(&q->served.ring, &q->served.chain)) > 0)
		take_chain(q, kind);
	s->last_take_result = rc;
	if (!s->taken)
		return;
	batch_give(s, q);
	balloon_batch_close(&s->batch, kind);
}

/* All is carried out: complete the chains. */
static void batch_end(struct balloon_queue *q, enum balloon_kind kind)
{
	struct balloon_shared *s = q->shared;

	for (unsigned int i = 0; i < s->taken; i++) {
		struct balloon_answer *a = &s->answers[i];

		if (a->first < s->batch.failed_end && s->batch.failed_first < a->end) {
			/* Which of its records it was is lost in the merge: the
			 * first, as far as the driver is told. */
			if (a->status.code == PAGE_RUN_OK || a->status.record)
				a->status.code = PAGE_RUN_NOT_DISCARDED;
			a->status.pages = 0;
			a->status.record = 0;
		}
		if (a->wants_status)
			answer_write(q, a);
		device_ring_complete(&q->served.ring, a->head,
				     a->wants_status ? PAGE_RUN_STATUS_BYTES : 0);
	}
	if (kind != BALLOON_REPORT)
		counter_add(&s->counters.messages, s->taken);
	counter_add(&s->counters.refused_messages, s->refused_messages);
	counter_add(&s->counters.refused_records, s->refused_records);
	batch_give(s, NULL);
}

/* One turn of the batch; true: it is done with. */
static bool batch_turn(struct balloon_queue *q, enum balloon_kind kind)
{
	struct balloon_shared *s = q->shared;

	if (!balloon_batch_turn(&s->batch, kind))
		return false;
	if (!s->message_goes_on)
		return true;
	read_records(q);
	balloon_batch_close(&s->batch, kind);
	return false;
}

static int pass_pages(struct balloon_queue *q, enum balloon_kind kind, unsigned int *notify)
{
	struct balloon_shared *s = q->shared;
	const struct balloon_queue *owner = batch_owner(s);
	uint64_t before = s->counters.pages, discard_us = s->counters.discard_us, start;
	bool done = false;

	if (owner && owner != q)
		return QUEUE_MORE | QUEUE_YIELD; /* another queue's turn comes first */
	start = device_host_now_us(s->host->device);
	if (!owner)
		batch_begin(q, kind);
	if (!s->taken)
		return pass_end(q, 0, s->last_take_result, 0, notify);
	if (kind != BALLOON_REPORT)
		s->turns++;
	done = batch_turn(q, kind);
	if (done)
		batch_end(q, kind);
	/* What the discards took of it has been counted already. */
	counter_add(&s->counters.translate_us, device_host_now_us(s->host->device) - start -
						       (s->counters.discard_us - discard_us));
	if (s->counters.pages != before)
		s->host->ops->moved(s->host);
	if (!done)
		return QUEUE_MORE | QUEUE_YIELD;
	return pass_end(q, s->taken, s->last_take_result, publish(q), notify);
}

/* The chain that was taken has them. */
static void take_stats(struct balloon_queue *q)
{
	struct balloon_shared *s = q->shared;
	uint8_t bytes[BALLOON_STATS_BYTES_MAX];
	const struct balloon_stats_window window = {
		.generation = s->stats_generation,
		.pages = s->counters.pages,
		.nothing_moved = s->stats_turns == s->turns,
	};

	balloon_stats_store(
		&s->stats, bytes,
		chain_read(&q->served.chain, q->served.ring.memory, bytes, sizeof(bytes)), &window,
		device_host_now_us(s->host->device));
	/* Who takes the same buffer again, after a stop, has not asked for it. */
	s->stats_generation = 0;
	s->host->ops->moved(s->host); /* they say what the guest has */
}

static int pass_stats(struct balloon_queue *q, unsigned int *notify)
{
	struct balloon_shared *s = q->shared;
	unsigned int actions = 0, taken = 0;
	uint64_t generation;
	int rc = 0;

	/* The wish is cleared only when it can be passed on. */
	if (q->holds_stats &&
	    (generation = __atomic_exchange_n(&s->stats_wanted, 0, __ATOMIC_RELAXED))) {
		s->stats_generation = generation;
		s->stats_turns = s->turns;
		device_ring_complete(&q->served.ring, q->stats_head, 0);
		q->holds_stats = false;
		actions = publish(q);
	}
	if (!q->holds_stats)
		rc = device_ring_take(&q->served.ring, &q->served.chain);
	if (rc > 0) {
		take_stats(q);
		q->stats_head = q->served.chain.head;
		q->holds_stats = true;
		taken = 1;
	}
	if (q->holds_stats && !taken)
		return (int)actions; /* a driver has one buffer here: nothing to be kicked for */
	return pass_end(q, taken, rc, actions, notify);
}

int balloon_queue_pass(void *queue, unsigned int *notify)
{
	struct balloon_queue *q = queue;

	switch (q->kind) {
	case BALLOON_QUEUE_INFLATE:
		return pass_pages(q, BALLOON_INFLATE, notify);
	case BALLOON_QUEUE_DEFLATE:
		return pass_pages(q, BALLOON_DEFLATE, notify);
	case BALLOON_QUEUE_REPORT:
		return pass_pages(q, BALLOON_REPORT, notify);
	case BALLOON_QUEUE_STATS:
		return pass_stats(q, notify);
	case BALLOON_QUEUE_UNUSED:
		break;
	}
	return 0;
}

void balloon_queue_pause(struct balloon_queue *q)
{
	struct balloon_shared *s = q->shared;

	if (!s || batch_owner(s) != q)
		return;
	device_ring_untake(&q->served.ring, (uint16_t)s->taken);
	balloon_batch_drop(&s->batch);
	batch_give(s, NULL);
}

void balloon_queue_stop(struct balloon_queue *q)
{
	/* What is held is taken anew by whoever goes on. */
	if (q->holds_stats)
		device_ring_untake(&q->served.ring, 1);
	q->holds_stats = false;
}
