/* SPDX-License-Identifier: BSD-2-Clause */
/* A flight table judged by its invariants: see flight_judge.h. */
#include "flight/flight_judge.h"

#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "flight/flight_layout.h"

/* Beyond what any ring counts to, and far enough from 2^64 that nothing here overflows. */
#define ORDER_MAX (UINT64_C(1) << 62)
#define ORDER_LEAST UINT64_C(0x10000) /* flight_begin() */

/* One bit for each head, id or copy: seen already? */
struct seen {
	uint64_t words[SPLIT_SIZE_MAX / 64];
};

static bool seen_before(struct seen *s, uint32_t i)
{
	uint64_t bit = BIT64(i % 64);
	bool was = s->words[i / 64] & bit;

	s->words[i / 64] |= bit;
	return was;
}

/* ---- the header -------------------------------------------------------------- */

static int header_judge(const struct flight_header *h, size_t bytes, uint32_t heads,
			struct flight_sizes *sizes, struct umbra_error *err)
{
	struct flight_sizes s;
	uint32_t version;
	uint64_t magic;

	if (bytes < sizeof(*h))
		return error_set(err, -EINVAL, "flight table: %zu bytes, expected at least %zu",
				 bytes, sizeof(*h));
	magic = shm_load64(&h->magic);
	if (magic != FLIGHT_MAGIC)
		return error_set(err, -EINVAL,
				 "flight table: it begins with 0x%" PRIx64 ", which is no table's",
				 magic);
	version = shm_load32(&h->version);
	if (version != FLIGHT_VERSION)
		return error_set(err, -EINVAL, "flight table: its version is %u, expected %u",
				 version, FLIGHT_VERSION);
	s = (struct flight_sizes){ shm_load32(&h->heads), shm_load32(&h->ids),
				   shm_load32(&h->descs) };
	if (!flight_sizes_are_valid(&s))
		return error_set(err, -EINVAL,
				 "flight table: it is of %u heads, %u ids and %u copies, which no "
				 "ring has",
				 s.heads, s.ids, s.descs);
	if (shm_load64(&h->checksum) != flight_checksum(&s) ||
	    shm_load64(&h->bytes) != flight_bytes(&s))
		return error_set(err, -EINVAL,
				 "flight table: its header's checksum is not that of a table of %u "
				 "heads, %u ids and %u copies",
				 s.heads, s.ids, s.descs);
	if (bytes < flight_bytes(&s))
		return error_set(err, -EINVAL, "flight table: %zu bytes, expected %zu", bytes,
				 flight_bytes(&s));
	if (s.heads != heads)
		return error_set(err, -EINVAL, "flight table: it is of a ring of %u, expected %u",
				 s.heads, heads);
	*sizes = s;
	return 0;
}

/* ---- the life in force --------------------------------------------------------- */

static int life_judge(const struct flight_header *h, uint16_t used, struct flight_judged *j,
		      struct umbra_error *err)
{
	const struct flight_life *life;
	uint64_t unknown, before;

	j->life = shm_load64(&h->life);
	if (!j->life || j->life > FLIGHT_LIFE_MAX)
		return error_set(err, -EPROTO,
				 "flight table: it is in its life %" PRIu64 ", expected 1 to %u",
				 j->life, FLIGHT_LIFE_MAX);
	life = &h->lives[j->life & 1];
	j->begin = shm_load64(&life->begin);
	j->handed = shm_load64(&life->handed);
	unknown = shm_load64(&life->unknown);
	before = shm_load64(&life->used);
	if (unknown > j->sizes.heads || j->begin < ORDER_LEAST || j->begin > ORDER_MAX ||
	    before < j->begin - unknown || before > ORDER_MAX)
		return error_set(err, -EPROTO,
				 "flight table: it began at %" PRIu64 " with %" PRIu64
				 " unknown and stands at %" PRIu64 ", which does not follow",
				 j->begin, unknown, before);
	j->unknown = (uint32_t)unknown;
	/* What the guest's ring has published since (I1). */
	j->used = before + (uint16_t)(used - (uint16_t)before);
	if (j->used - before > j->sizes.heads)
		return error_set(
			err, -EPROTO,
			"flight table: it was at used index %u, and the guest's ring is at "
			"%u: expected at most %u more",
			(uint16_t)before, used, j->sizes.heads);
	return 0;
}

/* ---- the flights ---------------------------------------------------------------- */

/* The heads that the log says are over (I1), of which there are @over: into @done. */
static int log_judge(const struct flight_table *t, const struct flight_judged *j, uint32_t over,
		     struct seen *done, struct umbra_error *err)
{
	for (uint32_t i = 0; i < over; i++) {
		uint64_t place = j->used - over + i;
		uint16_t head = shm_load16(&t->log[place & (j->sizes.heads - 1)]);

		if (head >= j->sizes.heads || seen_before(done, head))
			return error_set(err, -EPROTO,
					 "flight table: its log says at %" PRIu64
					 " that head %u was completed, which is out of range or "
					 "stands there twice",
					 place, head);
	}
	return 0;
}

static int flight_is_sound(const struct flight *f, const struct flight_judged *j, uint32_t flags,
			   struct umbra_error *err)
{
	if (f->order >= j->next)
		return error_set(err, -EPROTO,
				 "flight table: head %u has the order %" PRIu64
				 ", expected less than %" PRIu64,
				 f->head, f->order, j->next);
	if (f->id >= j->sizes.ids || f->life > j->life ||
	    flags & ~(FLIGHT_BACK_ASKS | FLIGHT_BACK_LOST))
		return error_set(
			err, -EPROTO,
			"flight table: head %u says that the back-end had it as %u in life "
			"%u, with 0x%x: expected an id below %u, and at most life %" PRIu64,
			f->head, f->id, f->life, flags, j->sizes.ids, j->life);
	return 0;
}

/* Copy all that are flights (I2), and sort them. */
static int flights_collect(const struct flight_table *t, struct flight_judged *j,
			   const struct flight_life *life, struct umbra_error *err)
{
	uint32_t over = (uint32_t)(j->used - shm_load64(&life->used));
	uint64_t mark = j->life << FLIGHT_BACK_LIFE_SHIFT;
	struct seen done = { 0 };
	int rc;

	if (over > j->sizes.heads) /* it was not, when it was read before */
		return error_set(err, -EPROTO, "flight table: it is being written");
	rc = log_judge(t, j, over, &done, err);
	if (rc)
		return rc;
	for (uint32_t head = 0; head < j->sizes.heads; head++) {
		struct flight f;

		if (done.words[head / 64] & BIT64(head % 64))
			continue;
		f = flight_load(&t->entries[head], (uint16_t)head, j->handed, mark);
		if (f.order >= j->begin)
			j->list[j->count++] = f;
	}
	flight_sort(j->list, j->count);
	return 0;
}

/* No two flights share an order, an id at the back-end, or a copy (I2, I5). */
static int flights_judge(const struct flight_table *t, const struct flight_judged *j,
			 struct umbra_error *err)
{
	struct seen ids = { 0 }, copies = { 0 };

	for (uint32_t i = 0; i < j->count; i++) {
		const struct flight *f = &j->list[i];
		uint64_t back = shm_load64(&t->entries[f->head].back);
		uint32_t at = f->first;
		int rc = flight_is_sound(f, j, (uint32_t)back & FLIGHT_BACK_FLAGS, err);

		if (rc)
			return rc;
		if (i && f->order == f[-1].order)
			return error_set(err, -EPROTO,
					 "flight table: heads %u and %u both have the order "
					 "%" PRIu64,
					 f[-1].head, f->head, f->order);
		if (f->life == j->life && !f->lost && seen_before(&ids, f->id))
			return error_set(err, -EPROTO,
					 "flight table: the back-end has head %u as %u, and "
					 "another one, too",
					 f->head, f->id);
		for (uint16_t n = 0; n < f->count; n++) {
			if (at >= j->sizes.descs || seen_before(&copies, at))
				return error_set(err, -EPROTO,
						 "flight table: copy %u of head %u is at %u, out "
						 "of range or another's, too",
						 n, f->head, at);
			at = (uint16_t)(shm_load64(&t->descs[at].len_flags_next) >> 48);
		}
	}
	return 0;
}

static int ghosts_judge(const struct flight_table *t, struct umbra_error *err)
{
	for (uint32_t id = 0; id < t->sizes.ids; id++) {
		uint16_t ghost = shm_load16(&t->ghosts[id]);

		if (ghost > 1)
			return error_set(err, -EPROTO,
					 "flight table: id %u is a ghost %u times, expected 0 or 1",
					 id, ghost);
	}
	return 0;
}

int flight_judge(const void *memory, size_t bytes, uint32_t heads, struct ring_position said,
		 struct flight *list, struct flight_judged *out, struct umbra_error *err)
{
	const struct flight_header *h = memory;
	struct flight_judged j = { .list = list };
	struct flight_table t;
	int rc = header_judge(h, bytes, heads, &j.sizes, err);

	if (rc)
		return rc;
	flight_map(&t, (void *)(uintptr_t)memory, &j.sizes); /* and nothing is written */
	rc = life_judge(h, said.used, &j, err);
	if (!rc)
		rc = flights_collect(&t, &j, &h->lives[j.life & 1], err);
	if (rc)
		return rc;
	j.next = j.used + j.count + j.unknown;
	if (j.next - j.used > j.sizes.heads ||
	    !ring_position_can_stand(ring_position_split((uint16_t)j.next), said, heads))
		return error_set(err, -EPROTO,
				 "flight table: %u chains are in flight and %u unknown, but the "
				 "guest's ring has used %u and available %u",
				 j.count, j.unknown, said.used, said.avail);
	if (j.handed > j.next)
		return error_set(err, -EPROTO,
				 "flight table: it handed over up to %" PRIu64
				 ", expected at most %" PRIu64,
				 j.handed, j.next);
	rc = flights_judge(&t, &j, err);
	if (!rc)
		rc = ghosts_judge(&t, err);
	if (!rc)
		*out = j;
	return rc;
}

enum flight_fate flight_fate(const struct flight_judged *j, uint16_t head)
{
	for (uint32_t i = 0; i < j->count; i++) {
		const struct flight *f = &j->list[i];

		if (f->head == head)
			return f->lost     ? FLIGHT_LOST
			       : f->handed ? FLIGHT_HANDED_OVER
					   : FLIGHT_TAKEN;
	}
	return FLIGHT_NOT_TAKEN_OR_COMPLETED;
}

/* ---- recovering ------------------------------------------------------------------ */

/* Finish the batch that was published: entries first, then `used`, as its writer would have. */
static void batch_finish(struct flight_table *t, const struct flight_judged *j)
{
	uint64_t used = shm_load64(&t->life->used);

	for (; used != j->used; used++) {
		uint16_t head = shm_load16(&t->log[used & (j->sizes.heads - 1)]);

		shm_store64_release(&t->entries[head].order, 0);
	}
	shm_store64_release(&t->life->used, used);
}

/* Copies that no flight has are free. */
static void copies_find(struct flight_table *t, const struct flight_judged *j)
{
	struct seen taken = { 0 };

	for (uint32_t i = 0; i < j->count; i++) {
		uint32_t at = j->list[i].first;

		for (uint16_t n = 0; n < j->list[i].count; n++) {
			(void)seen_before(&taken, at);
			at = (uint16_t)(shm_load64(&t->descs[at].len_flags_next) >> 48);
		}
	}
	t->free_count = 0;
	for (uint32_t i = t->sizes.descs; i-- > 0;) {
		if (seen_before(&taken, i))
			continue;
		shm_store64_release(&t->descs[i].len_flags_next,
				    (uint64_t)(uint16_t)t->free_first << 48);
		t->free_first = i;
		t->free_count++;
	}
}

int flight_recover(struct flight_table *t, void *memory, size_t bytes, uint32_t heads,
		   struct ring_position said, struct flight *list, struct umbra_error *err)
{
	struct flight_judged j;
	int rc = flight_judge(memory, bytes, heads, said, list, &j, err);

	if (rc)
		return rc;
	flight_map(t, memory, &j.sizes);
	t->list = list;
	t->life = &t->header->lives[j.life & 1];
	t->mark = j.life << FLIGHT_BACK_LIFE_SHIFT;
	t->begin = j.begin;
	t->next = j.next;
	t->used = t->noted = j.used;
	t->unknown = j.unknown;
	batch_finish(t, &j);
	copies_find(t, &j);
	for (uint32_t id = 0; id < j.sizes.ids; id++)
		t->ghost_count += shm_load16(&t->ghosts[id]);
	return 0;
}
