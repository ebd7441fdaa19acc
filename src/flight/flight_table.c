/* SPDX-License-Identifier: BSD-2-Clause */
/* The flight table, its writer: see flight_table.h. */
#include "flight/flight_table.h"

#include <stdlib.h>

#include "flight/flight_layout.h"

/* ---- layout ---------------------------------------------------------------- */

bool flight_sizes_are_valid(const struct flight_sizes *s)
{
	return is_power_of_two(s->heads) && s->heads <= SPLIT_SIZE_MAX && s->ids &&
	       s->ids <= SPLIT_SIZE_MAX &&
	       (!s->descs || (s->descs >= s->heads && s->descs <= SPLIT_SIZE_MAX));
}

struct flight_layout flight_layout(const struct flight_sizes *s)
{
	struct flight_layout l;

	l.entries = align_up(sizeof(struct flight_header), FLIGHT_ALIGN);
	l.log = l.entries + s->heads * sizeof(struct flight_entry);
	l.ghosts = align_up(l.log + s->heads * sizeof(le16), FLIGHT_ALIGN);
	l.descs = align_up(l.ghosts + s->ids * sizeof(le16), FLIGHT_ALIGN);
	l.total = align_up(l.descs + s->descs * sizeof(struct split_desc), FLIGHT_ALIGN);
	return l;
}

size_t flight_bytes(const struct flight_sizes *sizes)
{
	return flight_layout(sizes).total;
}

/* FNV-1a, by words.  It finds what is no table; a table that lies is the judge's. */
uint64_t flight_checksum(const struct flight_sizes *s)
{
	const uint64_t words[] = { FLIGHT_VERSION, s->heads, s->ids, s->descs, flight_bytes(s) };
	uint64_t sum = UINT64_C(0xcbf29ce484222325);

	for (unsigned int i = 0; i < ARRAY_SIZE(words); i++)
		sum = (sum ^ words[i]) * UINT64_C(0x100000001b3);
	return sum;
}

void flight_map(struct flight_table *t, void *memory, const struct flight_sizes *sizes)
{
	struct flight_layout l = flight_layout(sizes);
	uint8_t *at = memory;

	*t = (struct flight_table){
		.header = memory,
		.entries = (void *)(at + l.entries),
		.log = (void *)(at + l.log),
		.ghosts = (void *)(at + l.ghosts),
		.descs = (void *)(at + l.descs),
		.mask = sizes->heads - 1,
		.sizes = *sizes,
	};
}

/* ---- lives ------------------------------------------------------------------ */

/* All copies are free. */
static void copies_reset(struct flight_table *t)
{
	t->free_first = 0;
	t->free_count = t->sizes.descs;
	for (uint32_t i = 0; i < t->sizes.descs; i++)
		shm_store64_release(&t->descs[i].len_flags_next, (uint64_t)(uint16_t)(i + 1) << 48);
}

/* Write the record that is not in force, then have it in force, as life @number, by one store. */
static void life_turn(struct flight_table *t, uint64_t number, uint64_t begin, uint64_t used,
		      uint32_t unknown)
{
	struct flight_life *life = &t->header->lives[number & 1];

	assert(life != t->life);
	shm_store64_release(&life->begin, begin);
	shm_store64_release(&life->unknown, unknown);
	shm_store64_release(&life->used, used);
	shm_store64_release(&life->handed, begin);
	shm_store64_release(&t->header->life, number);
	t->life = life;
	t->mark = number << FLIGHT_BACK_LIFE_SHIFT;
	t->begin = begin;
	t->used = t->noted = used;
	t->unknown = unknown;
}

/* Orders begin a turn of the index above all that there were, so that what is before the first
 * (unknown chains) has a number of its own, too, and 0 is never one. */
void flight_begin(struct flight_table *t, struct ring_position at)
{
	uint16_t unknown = ring_outstanding(at, t->sizes.heads);
	uint64_t begin = ((t->next + 0xffff) | 0xffff) + 1 + at.avail;

	assert(at.layout == RING_SPLIT && unknown <= t->sizes.heads);
	/* No flight is left that tells its life from others: count them anew. */
	life_turn(t, shm_load64(&t->header->life) % 2 + 1, begin, begin - unknown, unknown);
	t->next = begin;
	copies_reset(t);
	if (t->region)
		region_void(t->region, t->region_size);
	t->region_is_laid = false;
}

/* The version last: from then on it counts. */
static void region_lay(struct flight_table *t)
{
	struct region_queue *q = t->region;

	region_void(q, t->region_size);
	shm_store64_release(&q->features, 0);
	shm_store16_release(&q->desc_num, (uint16_t)t->region_size);
	shm_store16_release(&q->last_batch_head, 0);
	shm_store16_release(&q->used_idx, (uint16_t)t->used);
	for (uint32_t head = 0; head < t->sizes.heads; head++)
		if (flight_is_flying(t, &t->entries[head]))
			region_take(q, (uint16_t)head, shm_load64(&t->entries[head].order));
	shm_store16_release(&q->version, REGION_VERSION);
	t->region_is_laid = true;
}

void flight_keep(struct flight_table *t, struct region_queue *region, uint32_t size)
{
	assert(!region || size >= t->sizes.heads);
	t->region = region;
	t->region_size = size;
	t->region_is_laid = false;
}

int flight_format(struct flight_table *t, const struct flight_config *config)
{
	const struct flight_sizes *sizes = &config->sizes;
	struct flight_header *h = config->memory;

	if (!flight_sizes_are_valid(sizes))
		return -EINVAL;
	flight_map(t, h, sizes);
	t->list = config->list;
	shm_store64_release(&h->magic, 0);
	shm_store32(&h->version, FLIGHT_VERSION);
	shm_store32(&h->heads, sizes->heads);
	shm_store32(&h->ids, sizes->ids);
	shm_store32(&h->descs, sizes->descs);
	shm_store64_release(&h->bytes, flight_bytes(sizes));
	shm_store64_release(&h->checksum, flight_checksum(sizes));
	shm_store64_release(&h->life, 0);
	for (uint32_t i = 0; i < ARRAY_SIZE(h->spare); i++)
		shm_store64_release(&h->spare[i], 0);
	for (uint32_t i = 0; i < sizes->heads; i++) {
		shm_store64_release(&t->entries[i].order, 0);
		shm_store64_release(&t->entries[i].spare, 0);
	}
	for (uint32_t i = 0; i < sizes->ids; i++)
		shm_store16_release(&t->ghosts[i], 0);
	flight_begin(t, config->at);
	shm_store64_release(&h->magic, FLIGHT_MAGIC);
	return 0;
}

bool flight_stands(const struct flight_table *t, struct ring_position at)
{
	return (uint16_t)t->next == at.avail &&
	       flight_owed(t) == ring_outstanding(at, t->sizes.heads);
}

void flight_stand(struct flight_table *t, struct ring_position at)
{
	if (!flight_stands(t, at) || shm_load64(&t->header->life) == FLIGHT_LIFE_MAX)
		flight_begin(t, at);
	if (t->region && !t->region_is_laid && !t->unknown)
		region_lay(t);
}

void flight_forget(struct flight_table *t)
{
	flight_begin(t, ring_position_split((uint16_t)t->next));
}

void flight_renew(struct flight_table *t)
{
	uint64_t handed = shm_load64(&t->life->handed);
	uint64_t number = shm_load64(&t->header->life) + 1;

	assert(t->noted == t->used && number <= FLIGHT_LIFE_MAX);
	for (uint32_t head = 0; head < t->sizes.heads; head++) {
		struct flight_entry *e = &t->entries[head];
		uint64_t back = shm_load64(&e->back);

		if (shm_load64(&e->order) >= MAX(t->begin, handed) &&
		    back >> FLIGHT_BACK_LIFE_SHIFT << FLIGHT_BACK_LIFE_SHIFT == t->mark)
			shm_store64_release(&e->back, (uint32_t)back);
	}
	life_turn(t, number, t->begin, t->used, t->unknown);
}

/* ---- forward ------------------------------------------------------------------ */

int flight_copy(struct flight_table *t, uint16_t head, const struct split_desc_copy *descs,
		uint16_t count)
{
	struct flight_entry *e = &t->entries[head];
	uint16_t first = (uint16_t)t->free_first;

	if (!count || count > t->free_count)
		return -ENOSPC;
	for (uint16_t i = 0; i < count; i++) {
		struct split_desc *to = &t->descs[t->free_first];
		uint64_t rest = shm_load64(&to->len_flags_next);

		/* The links of free ones stay as they are, and become those of the chain. */
		shm_store64_release(&to->addr, descs[i].addr);
		shm_store64_release(&to->len_flags_next, (rest & UINT64_C(0xffff) << 48) |
								 (uint64_t)descs[i].flags << 32 |
								 descs[i].len);
		t->free_first = (uint32_t)(rest >> 48);
	}
	t->free_count -= count;
	shm_store64_release(&e->extent, (uint32_t)shm_load64(&e->extent) |
						(uint64_t)first << FLIGHT_EXTENT_FIRST_SHIFT |
						(uint64_t)count << FLIGHT_EXTENT_COUNT_SHIFT);
	return 0;
}

void flight_copied(const struct flight_table *t, const struct flight *f,
		   struct split_desc_copy *descs)
{
	uint32_t at = f->first;

	for (uint16_t i = 0; i < f->count; i++) {
		descs[i] = split_desc_load(&t->descs[at]);
		at = descs[i].next;
	}
}

static void copy_free(struct flight_table *t, const struct flight_entry *e)
{
	uint64_t extent = shm_load64(&e->extent);
	uint16_t first = (uint16_t)(extent >> FLIGHT_EXTENT_FIRST_SHIFT);
	uint16_t count = (uint16_t)(extent >> FLIGHT_EXTENT_COUNT_SHIFT), at = first;

	if (!count)
		return;
	for (uint16_t i = 1; i < count; i++)
		at = (uint16_t)(shm_load64(&t->descs[at].len_flags_next) >> 48);
	shm_store64_release(&t->descs[at].len_flags_next, (uint64_t)(uint16_t)t->free_first << 48);
	t->free_first = first;
	t->free_count += count;
}

void flight_retake(struct flight_table *t, uint16_t head, uint16_t id)
{
	struct flight_entry *e = &t->entries[head];
	bool asks = shm_load64(&e->back) & FLIGHT_BACK_ASKS;

	assert(flight_is_flying(t, e));
	shm_store64_release(&e->back, flight_back_word(t, id, asks));
}

static void handed_store(struct flight_table *t, uint64_t handed)
{
	shm_store64_release(&t->life->handed, handed);
}

void flight_untake(struct flight_table *t, uint16_t head)
{
	struct flight_entry *e = &t->entries[head];

	assert(shm_load64(&e->order) == t->next - 1);
	if (shm_load64(&t->life->handed) == t->next)
		handed_store(t, t->next - 1);
	if (t->region)
		region_end(t->region, head);
	shm_store64_release(&e->order, 0);
	copy_free(t, e);
	t->next--;
}

void flight_hand_back(struct flight_table *t, uint16_t count)
{
	uint64_t handed = shm_load64(&t->life->handed);

	for (uint32_t i = flight_list(t); count && i; i--) {
		if (!t->list[i - 1].handed)
			continue;
		handed = t->list[i - 1].order;
		count--;
	}
	handed_store(t, handed);
}

/* ---- backward ------------------------------------------------------------------- */

void flight_free_noted(struct flight_table *t)
{
	for (uint64_t at = t->used; at != t->noted; at++)
		copy_free(t, &t->entries[shm_load16(&t->log[at & t->mask])]);
}

void flight_note_in_region(const struct flight_table *t)
{
	struct region_queue *q = t->region;
	uint64_t noted = t->noted;

	for (uint64_t at = t->used; at != noted; at++)
		region_note(q, shm_load16(&t->log[at & t->mask]));
}

void flight_end_in_region(const struct flight_table *t)
{
	struct region_queue *q = t->region;
	uint64_t noted = t->noted;

	for (uint64_t at = t->used; at != noted; at++)
		region_end(q, shm_load16(&t->log[at & t->mask]));
	shm_store16_release(&q->used_idx, (uint16_t)noted);
}

void flight_lose(struct flight_table *t, uint16_t head)
{
	struct flight_entry *e = &t->entries[head];

	shm_store64_release(&e->back, shm_load64(&e->back) | FLIGHT_BACK_LOST);
}

void flight_drop(struct flight_table *t, uint16_t head)
{
	struct flight_entry *e = &t->entries[head];

	shm_store64_release(&e->order, 0);
	copy_free(t, e);
}

void flight_ghost_set(struct flight_table *t, uint16_t id, bool is_ghost)
{
	bool was = shm_load16(&t->ghosts[id]);

	shm_store16_release(&t->ghosts[id], is_ghost);
	t->ghost_count = t->ghost_count + is_ghost - was;
}

/* ---- queries -------------------------------------------------------------------- */

struct flight flight_load(const struct flight_entry *e, uint16_t head, uint64_t handed,
			  uint64_t mark)
{
	uint64_t back = shm_load64(&e->back), extent = shm_load64(&e->extent);
	struct flight f = {
		.order = shm_load64(&e->order),
		.head = head,
		.id = back & FLIGHT_BACK_ID,
		.life = (uint32_t)(back >> FLIGHT_BACK_LIFE_SHIFT),
		.asks = back & FLIGHT_BACK_ASKS,
		.lost = back & FLIGHT_BACK_LOST,
		.writable = (uint32_t)extent,
		.first = (uint16_t)(extent >> FLIGHT_EXTENT_FIRST_SHIFT),
		.count = (uint16_t)(extent >> FLIGHT_EXTENT_COUNT_SHIFT),
	};

	f.handed =
		!f.lost && f.order < handed && (uint64_t)f.life << FLIGHT_BACK_LIFE_SHIFT == mark;
	return f;
}

static int older_first(const void *a, const void *b)
{
	const struct flight *x = a, *y = b;

	return (x->order > y->order) - (x->order < y->order);
}

void flight_sort(struct flight *list, uint32_t count)
{
	qsort(list, count, sizeof(*list), older_first);
}

uint32_t flight_asking(const struct flight_table *t)
{
	uint64_t handed = shm_load64(&t->life->handed);
	uint32_t count = 0;

	for (uint32_t head = 0; head < t->sizes.heads; head++) {
		struct flight f = flight_load(&t->entries[head], (uint16_t)head, handed, t->mark);

		count += f.order >= t->begin && f.handed && f.asks;
	}
	return count;
}

uint32_t flight_list(const struct flight_table *t)
{
	uint64_t handed = shm_load64(&t->life->handed);
	uint32_t count = 0;

	assert(t->noted == t->used);
	for (uint32_t head = 0; head < t->sizes.heads; head++)
		if (flight_is_flying(t, &t->entries[head]))
			t->list[count++] =
				flight_load(&t->entries[head], (uint16_t)head, handed, t->mark);
	flight_sort(t->list, count);
	return count;
}

uint32_t flight_ghosts(const struct flight_table *t, uint16_t *ids)
{
	uint32_t count = 0;

	for (uint32_t id = 0; id < t->sizes.ids; id++)
		if (shm_load16(&t->ghosts[id]))
			ids[count++] = (uint16_t)id;
	return count;
}
