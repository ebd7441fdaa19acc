/* SPDX-License-Identifier: BSD-2-Clause */
/* An in-flight region, judged: see region_judge.h. */
#include "flight/region_judge.h"

#include <inttypes.h>

#include "base/error.h"
#include "flight/flight_layout.h"

/* Beyond what any ring counts to, and far enough from 2^64 that nothing here overflows. */
#define COUNTER_MAX (UINT64_C(1) << 62)

/* One bit for each head of the last batch. */
struct batch {
	uint64_t heads[SPLIT_SIZE_MAX / 64];
};

static bool batch_has(const struct batch *b, uint16_t head)
{
	return b->heads[head / 64] & BIT64(head % 64);
}

/* The @count heads that were published last. */
static int batch_judge(const struct region_queue *q, uint32_t heads, uint16_t count,
		       struct batch *b, struct umbra_error *err)
{
	uint16_t head = shm_load16(&q->last_batch_head);

	for (uint16_t i = 0; i < count; i++) {
		if (head >= heads || batch_has(b, head))
			return error_set(err, -EPROTO,
					 "in-flight region: of the last %u that were completed it "
					 "names head %u as number %u, which %s",
					 count, head, i,
					 head >= heads ? "the ring has not" : "it named before");
		b->heads[head / 64] |= BIT64(head % 64);
		head = shm_load16(&q->desc[head].next);
	}
	return 0;
}

/* Which heads are in flight? */
static int marks_judge(const struct region_queue *q, uint32_t size, uint32_t heads,
		       const struct batch *over, struct region_judged *j, struct umbra_error *err)
{
	for (uint32_t head = 0; head < size; head++) {
		uint8_t mark = shm_load8(&q->desc[head].inflight);
		uint64_t counter = shm_load64(&q->desc[head].counter);

		if (mark > 1 || (mark && head >= heads))
			return error_set(err, -EPROTO,
					 "in-flight region: head %u has the mark %u; expected %s",
					 head, mark,
					 head < heads ? "0 or 1" : "0, since the ring is smaller");
		if (!mark || batch_has(over, (uint16_t)head))
			continue;
		if (counter > COUNTER_MAX)
			return error_set(err, -EPROTO,
					 "in-flight region: head %u was taken as number %" PRIu64
					 ", to which no ring counts",
					 head, counter);
		j->list[j->count++] = (struct flight){ .order = counter, .head = (uint16_t)head };
	}
	flight_sort(j->list, j->count);
	for (uint32_t i = 1; i < j->count; i++)
		if (j->list[i].order == j->list[i - 1].order)
			return error_set(err, -EPROTO,
					 "in-flight region: heads %u and %u were both taken as "
					 "number %" PRIu64,
					 j->list[i - 1].head, j->list[i].head, j->list[i].order);
	if (j->count)
		j->counter = j->list[j->count - 1].order + 1;
	return 0;
}

int region_flights(const struct region_queue *q, uint32_t size, uint32_t heads,
		   struct ring_position said, struct flight *list, struct region_judged *out,
		   struct umbra_error *err)
{
	uint16_t version = shm_load16(&q->version), entries = shm_load16(&q->desc_num);
	uint16_t used = shm_load16(&q->used_idx), over = (uint16_t)(said.used - used);
	struct region_judged j = { .used = said.used, .list = list };
	struct batch batch = { { 0 } };
	int rc;

	*out = j;
	if (!version)
		return 0;
	if (version != REGION_VERSION)
		return error_set(err, -EINVAL, "in-flight region: its version is %u, expected %u",
				 version, REGION_VERSION);
	if (entries != size)
		return error_set(err, -EPROTO,
				 "in-flight region: it is of %u entries, and was said to be of %u",
				 entries, size);
	if (over > heads)
		return error_set(err, -EPROTO,
				 "in-flight region: it was at used index %u, and the guest's ring "
				 "is at %u: expected at most %u more",
				 used, said.used, heads);
	rc = batch_judge(q, heads, over, &batch, err);
	if (!rc)
		rc = marks_judge(q, size, heads, &batch, &j, err);
	if (rc)
		return rc;
	if (j.count > ring_outstanding(said, heads))
		return error_set(err, -EPROTO,
				 "in-flight region: %u chains are in flight, and the guest's ring "
				 "has made only %u available since it used %u",
				 j.count, ring_outstanding(said, heads), said.used);
	j.is_kept = true;
	*out = j;
	return 0;
}

/* What is over is cleared, then the index follows, as its writer would have gone on. */
static void region_finish(const struct flight_table *t)
{
	for (uint32_t head = 0; head < t->sizes.heads; head++)
		if (!flight_is_flying(t, &t->entries[head]) &&
		    shm_load8(&t->region->desc[head].inflight))
			region_end(t->region, (uint16_t)head);
	shm_store16_release(&t->region->used_idx, (uint16_t)t->used);
}

/*
 * Orders of adopted flights lie a turn of the index below what is taken next.  Else the last of
 * them would look like the newest chain of the guest's avail ring, and be given back to it; but
 * those that were taken behind it may have been completed before the death, and a counter,
 * which may be another program's, does not tell where in the avail ring a chain stands.
 */
void flight_adopt(struct flight_table *t, struct region_queue *q, uint32_t size,
		  const struct region_judged *j)
{
	struct ring_position at = ring_position_split(j->used);

	assert(!t->region);
	t->next = MAX(t->next, j->counter); /* what is taken from here on comes after them */
	flight_begin(t, at);
	for (uint32_t i = 0; i < j->count; i++) {
		struct flight_entry *e = &t->entries[j->list[i].head];

		/* It asks for something as far as one knows, and may write anything. */
		shm_store64_release(&e->back, FLIGHT_BACK_ASKS);
		shm_store64_release(&e->extent, UINT32_MAX);
		shm_store64_release(&e->order, t->begin + i);
	}
	t->used = t->noted = t->begin + 0x10000;
	t->next = t->used + j->count;
	shm_store64_release(&t->life->used, t->used);
	t->region = q;
	t->region_size = size;
	t->region_is_laid = true;
	region_finish(t);
}
