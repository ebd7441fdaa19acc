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

#define WORD_BITS 64u

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
		changed += popcount(p.mask & ~r->bits[p.word]);
		r->bits[p.word] |= p.mask;
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
		uint64_t there = p.mask & r->bits[p.word];

		/* Do not make memory of zeros by writing zeros to it. */
		if (!there)
			continue;
		changed += popcount(there);
		r->bits[p.word] &= ~p.mask;
		if (ledger->unfreed) {
			ledger->unfreed -= popcount(there & r->unfreed[p.word]);
			r->unfreed[p.word] &= ~there;
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
		uint64_t more = p.mask & r->bits[p.word] & ~r->unfreed[p.word];

		ledger->unfreed += popcount(more);
		if (more)
			r->unfreed[p.word] |= more;
	}
}

void ledger_mark_freed(struct ledger *ledger, unsigned int index, uint64_t pfn, uint64_t count)
{
	struct ledger_region *r = &ledger->regions[index];
	struct word_part p = words_of(r, pfn, count);

	while (ledger->unfreed && word_next(&p)) {
		uint64_t less = p.mask & r->unfreed[p.word];

		ledger->unfreed -= popcount(less);
		if (less)
			r->unfreed[p.word] &= ~less;
	}
}

bool ledger_has(const struct ledger *ledger, unsigned int index, uint64_t pfn, uint64_t count)
{
	const struct ledger_region *r = &ledger->regions[index];
	struct word_part p = words_of(r, pfn, count);

	while (word_next(&p))
		if (p.mask & ~r->bits[p.word])
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
		uint64_t bit = pfn - old->first, word = old->bits[bit / WORD_BITS];
		uint64_t n = MIN(WORD_BITS - bit % WORD_BITS, end - pfn);

		for (uint64_t i = 0; word && i < n; i++)
			if (word & BIT64(bit % WORD_BITS + i)) {
				ledger_put(ledger, index, pfn + i, 1);
				if (old->unfreed[bit / WORD_BITS] & BIT64(bit % WORD_BITS + i))
					ledger_mark_unfreed(ledger, index, pfn + i, 1);
			}
		pfn += n;
	}
}

int ledger_create(const struct memory *memory, const struct ledger *before, struct ledger **out,
		  struct umbra_error *err)
{
	struct ledger *l;
	uint64_t total = 0;

	l = calloc(1, sizeof(*l) + memory->count * sizeof(l->regions[0]));
	if (!l)
		return error_set(err, -ENOMEM, "no memory for the balloon's ledger");
	for (; l->count < memory->count; l->count++) {
		struct ledger_region *r = &l->regions[l->count];

		*r = region_describe(&memory->regions[l->count]);
		total += r->count; /* no overflow: regions are disjoint */
		if (total > LEDGER_PAGES_MAX) {
			ledger_destroy(&l);
			return error_set(err, -EINVAL,
					 "the guest has more than %" PRIu64
					 " pages of 4 KiB, which is what a balloon can count",
					 LEDGER_PAGES_MAX);
		}
		/* calloc() of much is mapped zeros: only what is written costs memory. */
		r->bits = calloc(r->count / WORD_BITS + 1, sizeof(*r->bits));
		r->unfreed = calloc(r->count / WORD_BITS + 1, sizeof(*r->unfreed));
		if (!r->bits || !r->unfreed) {
			l->count++;
			ledger_destroy(&l);
			return error_set(err, -ENOMEM,
					 "no memory for the balloon's ledger of %" PRIu64 " pages",
					 total);
		}
	}
	for (unsigned int i = 0; before && i < l->count; i++)
		for (unsigned int j = 0; j < before->count; j++)
			region_inherit(l, i, &before->regions[j]);
	*out = l;
	return 0;
}

void ledger_destroy(struct ledger **ledger)
{
	struct ledger *l = *ledger;

	*ledger = NULL;
	if (!l)
		return;
	for (unsigned int i = 0; i < l->count; i++) {
		free(l->regions[i].bits);
		free(l->regions[i].unfreed);
	}
	free(l);
}
