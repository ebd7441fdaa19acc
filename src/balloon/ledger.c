/* SPDX-License-Identifier: BSD-2-Clause */
/* Which pages of the guest are in the balloon: see ledger.h. */
#include "balloon/ledger.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "balloon/page_run.h"
#include "base/bits.h"
#include "base/error.h"
#include "base/shm.h"

#define WORD_BITS 64u

/* --- the room ------------------------------------------------------------------- */

/* "ledger" and the version of what follows: this head, the regions in the order of their
 * addresses, then for each its bits, then for each those that are unfreed. */
#define ROOM_FORM UINT64_C(0x6c65646765720001)

struct room_region {
	le64 first, count, file_device, file_inode, file_offset;
};

struct room_head {
	le64 form; /* written when all else is: 0 is none */
	le64 count;
	struct room_region regions[];
};

static uint64_t room_words(uint64_t pages)
{
	return (pages + WORD_BITS - 1) / WORD_BITS;
}

static uint64_t room_bytes(const struct ledger *l)
{
	uint64_t words = 0;

	for (unsigned int i = 0; i < l->count; i++)
		words += room_words(l->regions[i].count);
	return sizeof(struct room_head) + l->count * sizeof(struct room_region) +
	       2 * words * sizeof(le64);
}

/* Where in it each region has its bits. */
static void room_divide(struct ledger *l, void *room)
{
	struct room_head *head = room;
	le64 *word = (le64 *)(void *)&head->regions[l->count];

	for (unsigned int i = 0; i < l->count; word += room_words(l->regions[i].count), i++)
		l->regions[i].bits = word;
	for (unsigned int i = 0; i < l->count; word += room_words(l->regions[i].count), i++)
		l->regions[i].unfreed = word;
}

/*
 * [ledger-word] release; peer: whoever maps the room after our death (ledger_read()).  No word is
 * written in halves, and those of a page come in the order in which they stand here.  The
 * kernel's own order makes a dead process's stores seen; this keeps the compiler's.
 */
static void word_store(le64 *word, uint64_t v)
{
	shm_store64_release(word, v);
}

static void room_describe(const struct ledger *l, void *room)
{
	struct room_head *head = room;

	for (unsigned int i = 0; i < l->count; i++) {
		const struct ledger_region *r = &l->regions[i];

		word_store(&head->regions[i].first, r->first);
		word_store(&head->regions[i].count, r->count);
		word_store(&head->regions[i].file_device, r->file_device);
		word_store(&head->regions[i].file_inode, r->file_inode);
		word_store(&head->regions[i].file_offset, r->file_offset);
	}
	word_store(&head->count, l->count);
	word_store(&head->form, ROOM_FORM);
}

/* --- runs of bits ------------------------------------------------------------ */

/* A part of a run that lies in one word; steps through the words of a run. */
struct word_part {
	uint64_t at, end; /* bits that are left */
	uint64_t word;
	uint64_t mask;
};

static bool word_next(struct word_part *p)
{
	uint64_t from = p->at % WORD_BITS, n;

	if (p->at == p->end)
		return false;
	n = MIN(WORD_BITS - from, p->end - p->at);
	p->word = p->at / WORD_BITS;
	p->mask = (n == WORD_BITS ? UINT64_MAX : BIT64(n) - 1) << from;
	p->at += n;
	return true;
}

static struct word_part words_of(const struct ledger_region *r, uint64_t pfn, uint64_t count)
{
	return (struct word_part){ .at = pfn - r->first, .end = pfn - r->first + count };
}

static uint64_t popcount(uint64_t v)
{
	return (uint64_t)__builtin_popcountll(v);
}

uint64_t ledger_put(struct ledger *ledger, unsigned int index, uint64_t pfn, uint64_t count)
{
	struct ledger_region *r = &ledger->regions[index];
	struct word_part p = words_of(r, pfn, count);
	uint64_t changed = 0;

	while (word_next(&p)) {
		uint64_t there = shm_load64(&r->bits[p.word]);

		changed += popcount(p.mask & ~there);
		word_store(&r->bits[p.word], there | p.mask);
	}
	ledger->pages += changed;
	return changed;
}

uint64_t ledger_take(struct ledger *ledger, unsigned int index, uint64_t pfn, uint64_t count)
{
	struct ledger_region *r = &ledger->regions[index];
	struct word_part p = words_of(r, pfn, count);
	uint64_t changed = 0;

	while (word_next(&p)) {
		uint64_t word = shm_load64(&r->bits[p.word]), there = p.mask & word;

		/* Do not make memory of zeros by writing zeros to it. */
		if (!there)
			continue;
		changed += popcount(there);
		word_store(&r->bits[p.word], word & ~p.mask);
		if (ledger->unfreed) {
			word = shm_load64(&r->unfreed[p.word]);
			ledger->unfreed -= popcount(there & word);
			word_store(&r->unfreed[p.word], word & ~there);
		}
	}
	ledger->pages -= changed;
	return changed;
}

void ledger_mark_unfreed(struct ledger *ledger, unsigned int index, uint64_t pfn, uint64_t count)
{
	struct ledger_region *r = &ledger->regions[index];
	struct word_part p = words_of(r, pfn, count);

	while (word_next(&p)) {
		uint64_t word = shm_load64(&r->unfreed[p.word]);
		uint64_t more = p.mask & shm_load64(&r->bits[p.word]) & ~word;

		ledger->unfreed += popcount(more);
		if (more)
			word_store(&r->unfreed[p.word], word | more);
	}
}

void ledger_mark_freed(struct ledger *ledger, unsigned int index, uint64_t pfn, uint64_t count)
{
	struct ledger_region *r = &ledger->regions[index];
	struct word_part p = words_of(r, pfn, count);

	while (ledger->unfreed && word_next(&p)) {
		uint64_t word = shm_load64(&r->unfreed[p.word]), less = p.mask & word;

		ledger->unfreed -= popcount(less);
		if (less)
			word_store(&r->unfreed[p.word], word & ~less);
	}
}

bool ledger_has(const struct ledger *ledger, unsigned int index, uint64_t pfn, uint64_t count)
{
	const struct ledger_region *r = &ledger->regions[index];
	struct word_part p = words_of(r, pfn, count);

	while (word_next(&p))
		if (p.mask & ~shm_load64(&r->bits[p.word]))
			return false;
	return true;
}

void ledger_clear(struct ledger *ledger)
{
	for (unsigned int i = 0; i < ledger->count; i++)
		ledger_take(ledger, i, ledger->regions[i].first, ledger->regions[i].count);
}

/* --- regions ------------------------------------------------------------------ */

static bool region_holds(const struct ledger_region *r, uint64_t pfn)
{
	return pfn - r->first < r->count; /* wraps to huge if below */
}

int ledger_find(const struct ledger *ledger, unsigned int *hint, uint64_t pfn)
{
	unsigned int low = 0, high = ledger->count;

	if (likely(*hint < ledger->count && region_holds(&ledger->regions[*hint], pfn)))
		return (int)*hint;
	while (low < high) {
		unsigned int middle = low + (high - low) / 2;
		const struct ledger_region *r = &ledger->regions[middle];

		if (region_holds(r, pfn)) {
			*hint = middle;
			return (int)middle;
		}
		if (pfn < r->first)
			high = middle;
		else
			low = middle + 1;
	}
	return -1;
}

static struct ledger_region region_describe(const struct memory_region *m)
{
	uint64_t end = (m->gpa.v + m->size) >> PAGE_RUN_SHIFT;
	struct ledger_region r = {
		/* Rounded up without overflow: a region may end where addresses do. */
		.first = (m->gpa.v >> PAGE_RUN_SHIFT) +
			 !!(m->gpa.v & ((UINT64_C(1) << PAGE_RUN_SHIFT) - 1)),
	};

	r.count = end > r.first ? end - r.first : 0;
	if (m->backing) {
		r.file_device = m->backing->file_device;
		r.file_inode = m->backing->file_inode;
		r.file_offset = m->backing->fd_offset + (r.first << PAGE_RUN_SHIFT) - m->gpa.v;
	}
	return r;
}

static bool is_of_same_file(const struct ledger_region *a, const struct ledger_region *b)
{
	return a->file_device == b->file_device && a->file_inode == b->file_inode;
}

bool ledger_is_related(const struct ledger *ledger, const struct ledger *other)
{
	for (unsigned int i = 0; i < ledger->count; i++)
		for (unsigned int j = 0; j < other->count; j++)
			if (is_of_same_file(&ledger->regions[i], &other->regions[j]))
				return true;
	return false;
}

/* Put what @old has of the pages that region @index of @ledger shares with it. */
static void region_inherit(struct ledger *ledger, unsigned int index,
			   const struct ledger_region *old)
{
	const struct ledger_region *r = &ledger->regions[index];
	uint64_t first = MAX(r->first, old->first);
	uint64_t end = MIN(r->first + r->count, old->first + old->count);

	if (first >= end || !is_of_same_file(r, old) ||
	    r->file_offset - (r->first << PAGE_RUN_SHIFT) !=
		    old->file_offset - (old->first << PAGE_RUN_SHIFT))
		return;
	for (uint64_t pfn = first; pfn < end;) {
		uint64_t bit = pfn - old->first, word = shm_load64(&old->bits[bit / WORD_BITS]);
		uint64_t unfreed = word ? shm_load64(&old->unfreed[bit / WORD_BITS]) : 0;
		uint64_t n = MIN(WORD_BITS - bit % WORD_BITS, end - pfn);

		for (uint64_t i = 0; word && i < n; i++)
			if (word & BIT64(bit % WORD_BITS + i)) {
				ledger_put(ledger, index, pfn + i, 1);
				if (unfreed & BIT64(bit % WORD_BITS + i))
					ledger_mark_unfreed(ledger, index, pfn + i, 1);
			}
		pfn += n;
	}
}

int ledger_measure(const struct memory *memory, uint64_t *bytes, struct umbra_error *err)
{
	uint64_t total = 0, words = 0;

	for (unsigned int i = 0; i < memory->count; i++) {
		struct ledger_region r = region_describe(&memory->regions[i]);

		total += r.count; /* no overflow: regions are disjoint */
		words += room_words(r.count);
	}
	if (total > LEDGER_PAGES_MAX)
		return error_set(err, -EINVAL,
				 "the guest has more than %" PRIu64
				 " pages of 4 KiB, which is what a balloon can count",
				 LEDGER_PAGES_MAX);
	*bytes = sizeof(struct room_head) + memory->count * sizeof(struct room_region) +
		 2 * words * sizeof(le64);
	return 0;
}

/* Without regions yet. */
static struct ledger *ledger_new(unsigned int regions, struct memory_backing *room)
{
	struct ledger *l = calloc(1, sizeof(*l) + regions * sizeof(l->regions[0]));

	if (l && room) {
		memory_backing_ref(room);
		l->room = room;
	}
	return l;
}

int ledger_create(const struct memory *memory, const struct ledger *before,
		  const struct memory_region *room, struct ledger **out, struct umbra_error *err)
{
	struct ledger *l;
	uint64_t bytes;
	int rc = ledger_measure(memory, &bytes, err);

	if (rc)
		return rc;
	l = ledger_new(memory->count, room ? room->backing : NULL);
	/* calloc() of much is mapped zeros: only what is written costs memory. */
	if (l && !room)
		l->heap = calloc(1, bytes);
	if (!l || !(room || l->heap)) {
		ledger_destroy(&l);
		return error_set(err, -ENOMEM, "no memory for the balloon's ledger");
	}
	for (; l->count < memory->count; l->count++)
		l->regions[l->count] = region_describe(&memory->regions[l->count]);
	room_divide(l, room ? (void *)room->host : l->heap);
	for (unsigned int i = 0; before && i < l->count; i++)
		for (unsigned int j = 0; j < before->count; j++)
			region_inherit(l, i, &before->regions[j]);
	room_describe(l, room ? (void *)room->host : l->heap);
	*out = l;
	return 0;
}

/* The regions as somebody says that they are: in order, disjoint, and not too many pages. */
static bool regions_can_be(const struct ledger *l)
{
	uint64_t total = 0, end = 0;

	for (unsigned int i = 0; i < l->count; i++) {
		const struct ledger_region *r = &l->regions[i];

		if (r->first < end || r->count > LEDGER_PAGES_MAX - total ||
		    r->first > (UINT64_MAX >> PAGE_RUN_SHIFT) + 1 - r->count)
			return false;
		total += r->count;
		end = r->first + r->count;
	}
	return true;
}

int ledger_read(const struct memory_region *room, struct ledger **out, struct umbra_error *err)
{
	const struct room_head *head = (const void *)room->host;
	uint64_t form, count;
	struct ledger *l;

	if (room->size < sizeof(*head))
		return error_set(err, -EINVAL, "a ledger of %" PRIu64 " bytes", room->size);
	form = shm_load64(&head->form);
	count = shm_load64(&head->count);
	if (form != ROOM_FORM)
		return error_set(err, -EINVAL,
				 "a ledger of the form 0x%" PRIx64 "; expected 0x%" PRIx64, form,
				 ROOM_FORM);
	if (count > MEMORY_REGIONS_MAX ||
	    room->size < sizeof(*head) + count * sizeof(struct room_region))
		return error_set(err, -EINVAL,
				 "a ledger of %" PRIu64 " regions in %" PRIu64 " bytes", count,
				 room->size);
	l = ledger_new((unsigned int)count, room->backing);
	if (!l)
		return error_set(err, -ENOMEM, "no memory for the balloon's ledger");
	for (; l->count < count; l->count++) {
		const struct room_region *r = &head->regions[l->count];

		l->regions[l->count] = (struct ledger_region){
			.first = shm_load64(&r->first),
			.count = shm_load64(&r->count),
			.file_device = shm_load64(&r->file_device),
			.file_inode = shm_load64(&r->file_inode),
			.file_offset = shm_load64(&r->file_offset),
		};
	}
	if (!regions_can_be(l) || room_bytes(l) > room->size) {
		ledger_destroy(&l);
		return error_set(err, -EINVAL, "a ledger whose regions cannot be");
	}
	room_divide(l, room->host);
	*out = l;
	return 0;
}

void ledger_destroy(struct ledger **ledger)
{
	struct ledger *l = *ledger;

	*ledger = NULL;
	if (!l)
		return;
	if (l->room)
		memory_backing_unref(l->room);
	free(l->heap);
	free(l);
}
