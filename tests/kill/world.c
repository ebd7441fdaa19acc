/* SPDX-License-Identifier: BSD-2-Clause */
/* A guest, a shadow and a back-end: see world.h. */
#include "world.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ring/split_look.h"

#define ADDRESS(number) (0x1000 + 0x10 * (uint64_t)(number))
#define NUMBER(address) ((uint32_t)(((address)-0x1000) / 0x10))

static struct driver_ring_config back_config(struct world *w, void *memory, void *private)
{
	return (struct driver_ring_config){ .size = w->back_size,
					    .shared = memory,
					    .shared_addr = { (uintptr_t)memory },
					    .private = private,
					    .base = ring_position_split(WORLD_BASE) };
}

static struct region_queue *region_of(struct world *w)
{
	return (void *)w->region;
}

void world_make(struct world *w, uint16_t size, uint16_t back_size, bool by_region)
{
	struct driver_ring_config config;

	memset(w, 0, sizeof(*w));
	w->size = size;
	w->by_region = by_region;
	w->back_size = back_size;
	w->sizes = (struct flight_sizes){ .heads = size, .ids = back_size };
	config = back_config(w, w->guest_ring, w->guest_private);
	config.size = size;
	WORLD_EXPECT(driver_ring_layout(size, 0, 0).shared_bytes <= sizeof(w->guest_ring));
	WORLD_EXPECT(driver_ring_layout(size, 0, 0).private_bytes <= sizeof(w->guest_private));
	WORLD_EXPECT(flight_bytes(&w->sizes) <= sizeof(w->table));
	WORLD_EXPECT(!driver_ring_init(&w->guest, &config));
	w->taken.segs = w->taken_segs;
}

/* ---- the guest -------------------------------------------------------------- */

bool world_guest_add(struct world *w)
{
	uint32_t n = w->added;
	bool is_long = n % 2 == 0 && w->back_size > 1;
	struct driver_seg segs[2] = { { .addr = { ADDRESS(n) }, .len = 8, .writable = !is_long },
				      { .addr = { ADDRESS(n) }, .len = 8, .writable = 1 } };
	uint16_t head = w->guest.free_head;

	if (n == WORLD_CHAINS_MOST || driver_ring_add(&w->guest, segs, is_long ? 2 : 1, n) != 1)
		return false;
	w->chains[n] = (struct world_chain){ .head = head };
	w->added++;
	driver_ring_publish(&w->guest);
	return true;
}

uint32_t world_guest_get(struct world *w)
{
	struct driver_done done;
	uint32_t count = 0;
	int rc;

	while ((rc = driver_ring_get(&w->guest, &done)) > 0) {
		struct world_chain *c = &w->chains[done.token];

		WORLD_EXPECT(!c->completed); /* never twice */
		WORLD_EXPECT(c->applied);    /* never undone */
		c->completed = true;
		/* How it went means nothing any more. */
		c->id = c->seen_id = c->seen_at = c->applied = 0;
		c->shown = 0;
		count++;
	}
	WORLD_EXPECT(rc == 0); /* the ring gives nothing back that it has not got */
	w->got += count;
	return count;
}

/* ---- the back-end ------------------------------------------------------------- */

static struct split_ring ring_at(void *memory, uint16_t size)
{
	struct split_offsets o = split_offsets(size);

	return (struct split_ring){ .desc = (void *)((uint8_t *)memory + o.desc),
				    .avail = (void *)((uint8_t *)memory + o.avail),
				    .used = (void *)((uint8_t *)memory + o.used),
				    .size = size };
}

void world_backend_attach(struct world *w)
{
	uint32_t life = __atomic_load_n(&w->back_life, __ATOMIC_ACQUIRE);

	if (life == w->attached)
		return;
	if ((life - w->attached) % WORLD_LIVES)
		memset(w->back_ring[w->attached % WORLD_LIVES], 0, WORLD_RING_BYTES);
	device_ring_init(&w->backend,
			 &(struct device_ring_config){
				 .split = ring_at(w->back_ring[life % WORLD_LIVES], w->back_size),
				 .at = ring_position_split(WORLD_BASE) });
	w->held_count = 0;
	w->backend_lives = true;
	__atomic_store_n(&w->attached, life, __ATOMIC_RELEASE);
}

void world_backend_die(struct world *w)
{
	w->held_count = 0;
	w->backend_lives = false;
	w->attached = w->back_life;
}

void world_backend_take(struct world *w)
{
	int rc;

	if (!w->backend_lives)
		return;
	while ((rc = device_ring_take(&w->backend, &w->taken)) > 0) {
		uint32_t n = NUMBER(w->taken.segs[0].addr.v);

		WORLD_EXPECT(n < w->added);
		WORLD_EXPECT(!w->chains[n].completed); /* its buffers are the guest's again */
		/* In the guest's order, on each shadow ring. */
		WORLD_EXPECT(!w->held_count || n > w->held[w->held_count - 1]);
		if (w->chains[n].applied < UINT8_MAX)
			w->chains[n].applied++;
		w->chains[n].id = w->chains[n].seen_id = w->taken.head;
		w->chains[n].seen_at = (uint16_t)(w->backend.last_avail - 1);
		w->chains[n].shown = w->attached;
		w->held[w->held_count++] = n;
	}
	WORLD_EXPECT(rc == 0);
	w->taken = (struct ring_chain){ .segs = w->taken_segs };
	memset(w->taken_segs, 0, sizeof(w->taken_segs));
}

void world_backend_complete(struct world *w, uint32_t i)
{
	uint32_t n = w->held[i];

	w->held_count--;
	memmove(&w->held[i], &w->held[i + 1], (w->held_count - i) * sizeof(w->held[0]));
	device_ring_complete(&w->backend, w->chains[n].id, 8);
	device_ring_publish(&w->backend);
	w->held[w->held_count] = 0;
}

/* ---- the shadow ---------------------------------------------------------------- */

/* Nobody reads them; in a world that is compared with others they would tell it from all. */
static struct shadow_counters counters;

/* What a queue leaves of its last call means nothing to the next: worlds do not differ by it. */
static void scratch_clear(struct shadow *s)
{
	memset(s->segs, 0, sizeof(s->segs));
	memset(s->list, 0, sizeof(s->list));
	s->queue.chain = (struct ring_chain){ .segs = s->segs };
}

/* Join the guest's ring, which stands at @at, with a new shadow ring, and give its back-end what
 * waits. */
static void queue_begin(struct shadow *s, struct ring_position at)
{
	struct world *w = s->world;
	uint32_t life = (uint32_t)shm_load64(&s->flights.header->life) + 1;
	struct shadow_queue_config config = {
		.guest = { .split = w->guest.split, .at = at },
		.back = back_config(w, w->back_ring[life % WORLD_LIVES], s->back_private),
		.segs = s->segs,
		.counters = &counters,
		.flights = &s->flights,
	};

	WORLD_EXPECT(shadow_queue_segs(&config) <= WORLD_RING_MOST);
	WORLD_EXPECT(!shadow_queue_init(&s->queue, &config));
	/* The guest's ring goes on, and does not begin: its lives are not counted anew. */
	WORLD_EXPECT(shm_load64(&s->flights.header->life) == life);
	WORLD_EXPECT(!shadow_queue_readd(&s->queue, NULL));
	scratch_clear(s);
	__atomic_store_n(&w->back_life, life, __ATOMIC_RELEASE);
}

void shadow_make(struct shadow *s, struct world *w)
{
	struct ring_position base = ring_position_split(WORLD_BASE);

	memset(s, 0, sizeof(*s));
	s->world = w;
	WORLD_EXPECT(!flight_format(&s->flights, &(struct flight_config){ .sizes = w->sizes,
									  .memory = w->table,
									  .list = s->list,
									  .at = base }));
	if (w->by_region)
		flight_keep(&s->flights, region_of(w), w->size);
	queue_begin(s, base);
}

/* From the region, with a table that is new. */
static void recover_by_region(struct shadow *s, struct ring_position *said)
{
	struct world *w = s->world;
	struct flight_config config = {
		.sizes = w->sizes, .memory = w->table, .list = s->list, .at = *said
	};
	struct region_judged j;
	struct umbra_error err;

	config.at.avail = said->used;
	memset(w->table, 0xa5, sizeof(w->table));
	WORLD_EXPECT(!flight_format(&s->flights, &config));
	if (region_flights(region_of(w), w->size, w->size, *said, s->list, &j, &err))
		world_failed(err.text, __LINE__);
	if (j.is_kept)
		flight_adopt(&s->flights, region_of(w), w->size, &j);
	else
		flight_keep(&s->flights, region_of(w), w->size);
	said->avail = (uint16_t)s->flights.next;
	/* The number of a life is the shadow ring's name here. */
	while (shm_load64(&s->flights.header->life) < w->back_life)
		flight_renew(&s->flights);
}

void shadow_recover(struct shadow *s, struct world *w)
{
	struct ring_position said = split_said(&w->guest.split);
	struct umbra_error err;

	memset(s, 0, sizeof(*s));
	s->world = w;
	if (w->by_region) {
		recover_by_region(s, &said);
		queue_begin(s, said);
		return;
	}
	if (flight_recover(&s->flights, w->table, sizeof(w->table), w->size, said, s->list, &err))
		world_failed(err.text, __LINE__);
	said.avail = (uint16_t)s->flights.next;
	queue_begin(s, said);
}

bool shadow_move(struct shadow *s)
{
	unsigned int owed;
	int actions = shadow_queue_move(&s->queue, &owed);

	scratch_clear(s);
	WORLD_EXPECT(actions >= 0); /* everybody is honest here: nothing breaks */
	return actions & SHADOW_MORE;
}

bool shadow_drain(struct shadow *s)
{
	uint16_t before = s->queue.back.last_used;
	unsigned int owed;

	WORLD_EXPECT(shadow_queue_drain(&s->queue, &owed) >= 0);
	return s->queue.back.last_used != before;
}

bool shadow_can_end(const struct shadow *s, enum shadow_end end)
{
	return end != SHADOW_RESET || !shadow_queue_asking(&s->queue, 0);
}

void shadow_restart(struct shadow *s, enum shadow_end end)
{
	struct world *w = s->world;

	if (end == SHADOW_STOPPED) {
		struct ring_position base = ring_position_split(w->backend.last_avail);

		WORLD_EXPECT(w->backend_lives && w->attached == w->back_life);
		WORLD_EXPECT(!shadow_queue_rewind(&s->queue, base));
	}
	__atomic_store_n(&w->severed, w->back_life, __ATOMIC_RELEASE);
	if (end == SHADOW_RESET)
		shadow_queue_reclaim(&s->queue, 0);
	else
		shadow_queue_hold(&s->queue);
	shadow_queue_end(&s->queue);
	queue_begin(s, device_ring_position(&s->queue.guest));
}

/* ---- the survivor ------------------------------------------------------------------ */

/*
 * What of the shadow ring of @life has become visible since the last look.  What the
 * back-end has taken it has noted itself: those places of the ring may be written for others by
 * now, which are not visible.
 */
static void shown_look(struct world *w, uint32_t life)
{
	struct split_ring ring = ring_at(w->back_ring[life % WORLD_LIVES], w->back_size);
	uint16_t avail = shm_load16(&ring.avail->idx);

	if (w->seen_life != life)
		w->seen_avail = WORLD_BASE;
	w->seen_life = life;
	if (w->attached == life && w->backend_lives &&
	    (int16_t)(w->backend.last_avail - w->seen_avail) > 0)
		w->seen_avail = w->backend.last_avail;
	if ((int16_t)(avail - w->seen_avail) < 0) { /* it was rewound */
		for (uint32_t n = 0; n < w->added; n++)
			if ((int16_t)(w->chains[n].seen_at - avail) >= 0)
				w->chains[n].shown = 0;
		w->seen_avail = avail;
	}
	for (; w->seen_avail != avail; w->seen_avail++) {
		uint16_t id = shm_load16(&ring.avail->ring[w->seen_avail & (ring.size - 1)]);
		struct world_chain *c = &w->chains[NUMBER(shm_load64(&ring.desc[id].addr))];

		c->shown = life;
		c->seen_id = id;
		c->seen_at = w->seen_avail;
	}
}

/* Those that the guest's ring says are used, and the guest has not got yet. */
static void used_look(const struct world *w, bool *is_used)
{
	const struct split_ring *g = &w->guest.split;
	uint16_t used = shm_load16(&g->used->idx);

	memset(is_used, 0, w->size);
	for (uint16_t at = w->guest.last_used; at != used; at++) {
		uint32_t head = shm_load32(&g->used->ring[at & (g->size - 1)].id);

		WORLD_EXPECT(head < w->size && !is_used[head]);
		is_used[head] = true;
	}
}

/* Index of the oldest chain that can be in flight: the guest's ring has no more. */
static uint32_t oldest_open(const struct world *w)
{
	uint32_t n = w->added;

	for (uint32_t open = w->added - w->got; open; n--)
		open -= !w->chains[n - 1].completed;
	return n;
}

uint64_t world_answers[WORLD_ANSWERS];

bool world_has_answered(bool by_region)
{
	for (unsigned int i = 0; i < WORLD_ANSWERS; i++)
		if (!world_answers[i] && !(by_region && i == WORLD_TAKEN))
			return false;
	return true;
}

void world_answers_print(void)
{
	printf(" %" PRIu64 " not taken, %" PRIu64 " taken, %" PRIu64 " handed over, %" PRIu64
	       " completed\n",
	       world_answers[WORLD_NOT_TAKEN], world_answers[WORLD_TAKEN],
	       world_answers[WORLD_HANDED_OVER], world_answers[WORLD_COMPLETED]);
}

/*
 * What does the region say?  It knows no back-end: whatever was taken may have been handed over.
 */
static void region_look(struct world *w)
{
	const struct split_ring *guest = &w->guest.split;
	bool is_used[WORLD_RING_MOST];
	struct flight list[WORLD_RING_MOST];
	struct region_judged j;
	struct umbra_error err;
	uint32_t first = oldest_open(w), flying = 0, at = 0;

	if (region_flights(region_of(w), w->size, w->size, split_said(guest), list, &j, &err))
		world_failed(err.text, __LINE__);
	used_look(w, is_used);
	for (uint32_t n = first; n < w->added; n++) {
		const struct world_chain *c = &w->chains[n];
		bool completed = c->completed || is_used[c->head];
		bool flies = at < j.count && list[at].head == c->head && !completed;
		bool is_last = at == j.count;

		at += flies;
		flying += flies;
		world_answers[flies       ? WORLD_HANDED_OVER
			      : completed ? WORLD_COMPLETED
					  : WORLD_NOT_TAKEN]++;
		WORLD_EXPECT(flies || completed || is_last); /* in their order, and none between */
		WORLD_EXPECT(flies || completed ||
			     (c->shown != w->back_life || w->back_life == w->severed));
	}
	WORLD_EXPECT(at == j.count); /* and no flight that nobody made */
	/* Where the ring stands follows from their number. */
	WORLD_EXPECT(!j.is_kept || flying == j.count);
}

void world_judge(struct world *w, bool at_rest)
{
	bool is_used[WORLD_RING_MOST];
	struct flight list[WORLD_RING_MOST];
	struct flight_judged j;
	struct umbra_error err;
	uint32_t taken, at = 0;

	if (w->by_region) {
		if (w->back_life)
			shown_look(w, w->back_life);
		region_look(w);
		return;
	}
	if (flight_judge(w->table, sizeof(w->table), w->size, split_said(&w->guest.split), list, &j,
			 &err))
		world_failed(err.text, __LINE__);
	shown_look(w, (uint32_t)j.life);
	used_look(w, is_used);
	taken = (uint32_t)(j.next - j.begin);
	WORLD_EXPECT(taken <= w->added);
	WORLD_EXPECT(j.unknown == 0);
	for (uint32_t n = oldest_open(w); n < w->added; n++) {
		const struct world_chain *c = &w->chains[n];
		const struct flight *f =
			at < j.count && list[at].order - j.begin == n ? &list[at++] : NULL;
		bool completed = c->completed || is_used[c->head];
		/* To a back-end that has it. */
		bool shown = c->shown == j.life && j.life != w->severed;

		world_answers[f            ? f->handed ? WORLD_HANDED_OVER : WORLD_TAKEN
			      : n >= taken ? WORLD_NOT_TAKEN
					   : WORLD_COMPLETED]++;
		WORLD_EXPECT(f || n >= taken || completed);
		WORLD_EXPECT(!f || !completed);
		WORLD_EXPECT(n < taken || (!completed && !f && !shown));
		if (!f)
			continue;
		WORLD_EXPECT(f->head == c->head);
		WORLD_EXPECT(f->asks == (n % 2 == 0 && w->back_size > 1));
		WORLD_EXPECT(!f->lost);
		WORLD_EXPECT(flight_fate(&j, f->head) ==
			     (f->handed ? FLIGHT_HANDED_OVER : FLIGHT_TAKEN));
		WORLD_EXPECT(f->handed || !shown);
		WORLD_EXPECT(!shown || f->id == c->seen_id);
		WORLD_EXPECT(!at_rest || f->handed == shown);
	}
	WORLD_EXPECT(at == j.count); /* and no flight that nobody made */
}
