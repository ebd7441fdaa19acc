/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A shadow killed between any two of its stores, exhaustively, for small rings.
 *
 *	flight_steps right [SIZE BACK_SIZE CHAINS RESTARTS]
 *	flight_steps wrong
 *
 * Theory of operation.  Queue, table and rings are compiled with each store to shared memory as a
 * step (steps/base/shm.h).  All orders of what a guest, a shadow and a back-end do are walked
 * through, depth first, until all chains are completed; a state that was met before is
 * not entered again.  What the shadow does is done once for each of its stores, and cut off
 * before it: the survivor judges (world_judge()).  Then a new shadow recovers, which is cut off
 * at each of its stores, too; and from where it has recovered the walk goes on.  A store is
 * seen by who survives in the order of the program: a kill is no reordering.
 *
 * "wrong": one of the faults of wrong.h at a time is built in, and must be found.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wrong.h"

#define DEPTH_MOST 96

/* ---- steps ------------------------------------------------------------------------ */

struct store {
	void *p;
	unsigned int bytes;
	uint64_t v;
};

static struct {
	bool on;       /* the shadow is at work */
	uint32_t done; /* stores so far */
	uint32_t cut;  /* before this one */
	jmp_buf killed;
	struct store held[8]; /* stores that come too late */
	uint32_t held_count;
} steps;

static struct {
	struct world world;
	struct shadow shadow;
	uint32_t restarts, deaths;
} now;

static void store_do(const struct store *s)
{
	memcpy(s->p, &s->v, s->bytes); /* little-endian, as the test's machine has to be */
}

static void store_step(const struct store *s)
{
	if (steps.done++ == steps.cut)
		longjmp(steps.killed, 1);
	store_do(s);
}

static void held_flush(void)
{
	while (steps.held_count) {
		struct store s = steps.held[0];

		memmove(steps.held, steps.held + 1, --steps.held_count * sizeof(s));
		store_step(&s);
	}
}

void step_store(void *p, unsigned int bytes, uint64_t v)
{
	struct store s = { p, bytes, v };

	if (!steps.on) {
		store_do(&s);
		return;
	}
	if (wrong && wrong_holds(&now.shadow, p, v)) {
		WORLD_EXPECT(steps.held_count < ARRAY_SIZE(steps.held));
		steps.held[steps.held_count++] = s;
		return;
	}
	store_step(&s);
	if (steps.held_count && wrong_awaits(&now.shadow, p, v))
		held_flush();
}

/* ---- what there is to do ------------------------------------------------------------ */

enum action {
	GUEST_ADD,
	GUEST_GET,
	BACKEND_TAKE,
	BACKEND_COMPLETE,
	BACKEND_COMPLETE_LAST = BACKEND_COMPLETE + WORLD_RING_MOST - 1,
	SHADOW_MOVE,
	SHADOW_DRAIN,
	SHADOW_RESTART, /* in each of the ways of enum shadow_end */
	SHADOW_RESTART_LAST = SHADOW_RESTART + SHADOW_RESET,
	SHADOW_RECOVER,
	ACTION_COUNT = SHADOW_RECOVER,
};

static struct {
	uint32_t chains, restarts, deaths;
} most;

static bool is_possible(enum action a)
{
	const struct world *w = &now.world;

	switch (a) {
	case GUEST_ADD:
		return w->added < most.chains;
	case SHADOW_RESTART ... SHADOW_RESTART_LAST:
		return now.restarts < most.restarts &&
		       shadow_can_end(&now.shadow, a - SHADOW_RESTART);
	default:
		return a < BACKEND_COMPLETE || a > BACKEND_COMPLETE_LAST ||
		       a - BACKEND_COMPLETE < w->held_count;
	}
}

static void act(enum action a)
{
	struct world *w = &now.world;
	struct shadow *s = &now.shadow;

	switch (a) {
	case GUEST_ADD:
		(void)world_guest_add(w);
		break;
	case GUEST_GET:
		(void)world_guest_get(w);
		break;
	case BACKEND_TAKE:
		world_backend_attach(w);
		world_backend_take(w);
		break;
	case SHADOW_MOVE:
		(void)shadow_move(s);
		break;
	case SHADOW_DRAIN:
		(void)shadow_drain(s);
		break;
	case SHADOW_RESTART ... SHADOW_RESTART_LAST:
		now.restarts++;
		if (a - SHADOW_RESTART == SHADOW_STOPPED)
			world_backend_attach(w);
		shadow_restart(s, a - SHADOW_RESTART);
		break;
	case SHADOW_RECOVER:
		shadow_recover(s, w);
		break;
	default:
		world_backend_complete(w, a - BACKEND_COMPLETE);
	}
}

/* Do it, and die before store @cut.  True: it came to its end before. */
static bool act_until(enum action a, uint32_t cut)
{
	bool ended = false;

	steps.done = 0;
	steps.cut = cut;
	steps.held_count = 0;
	steps.on = a >= SHADOW_MOVE;
	if (setjmp(steps.killed) == 0) {
		act(a);
		held_flush();
		ended = true;
	}
	steps.on = false;
	return ended;
}

/* ---- states that were met -------------------------------------------------------------- */

static struct {
	uint64_t *slots; /* 0: free */
	uint64_t count, size;
} met;

static uint64_t state_hash(void)
{
	const uint64_t *words = (const void *)&now;
	uint64_t sum = UINT64_C(0x9e3779b97f4a7c15);

	for (size_t i = 0; i < sizeof(now) / 8; i++) {
		sum = (sum ^ words[i]) * UINT64_C(0xbf58476d1ce4e5b9);
		sum ^= sum >> 29;
	}
	return sum ? sum : 1;
}

static bool met_add(uint64_t hash);

static void met_grow(void)
{
	uint64_t *old = met.slots, size = met.size;

	met.size = size ? 2 * size : 1u << 16;
	met.count = 0;
	met.slots = calloc(met.size, sizeof(*met.slots));
	if (!met.slots)
		abort();
	for (uint64_t i = 0; i < size; i++)
		if (old[i])
			(void)met_add(old[i]);
	free(old);
}

/* False: it is there already. */
static bool met_add(uint64_t hash)
{
	uint64_t at;

	if (met.count * 2 >= met.size)
		met_grow();
	for (at = hash & (met.size - 1); met.slots[at]; at = (at + 1) & (met.size - 1))
		if (met.slots[at] == hash)
			return false;
	met.slots[at] = hash;
	met.count++;
	return true;
}

/* ---- the walk ---------------------------------------------------------------------------- */

static uint64_t judgements, kills, ends;
static struct {
	enum action action;
	uint32_t cut;
} path[DEPTH_MOST];
static uint32_t path_length;
static jmp_buf found;
static bool is_wrong_wanted;
static char found_text[256];

void world_failed(const char *what, int line)
{
	steps.on = false;
	snprintf(found_text, sizeof(found_text), "line %d: %s", line, what);
	if (is_wrong_wanted)
		longjmp(found, 1);
	fprintf(stderr, "flight_steps: size %u, %s\nafter", now.world.size, found_text);
	for (uint32_t i = 0; i < path_length; i++)
		fprintf(stderr, " %d%s", (int)path[i].action,
			path[i].cut == UINT32_MAX ? "" : " (cut)");
	fprintf(stderr, "\n");
	exit(1);
}

static uint64_t walk(void);

/* The shadow has just died: judge, recover at each step, and go on where it has. */
static void walk_after_death(void)
{
	static __thread struct {
		__typeof__(now) dead;
	} saved[2]; /* one death within another */
	uint32_t depth = now.deaths++;
	bool ended = false;

	world_judge(&now.world, false);
	judgements++;
	if (depth == most.deaths)
		return;
	saved[depth].dead = now;
	for (uint32_t cut = 0; !ended; cut++) {
		now = saved[depth].dead;
		path[path_length - 1].cut = cut;
		ended = act_until(SHADOW_RECOVER, cut);
		world_judge(&now.world, ended);
		judgements++;
	}
}

/* Returns whether it makes a difference. */
static bool walk_action(enum action a, uint64_t here)
{
	/* By depth, and not by malloc(): a fault that was wanted leaves by longjmp(). */
	static __typeof__(now) befores[DEPTH_MOST];
	__typeof__(now) *before = &befores[path_length];
	bool ended = a < SHADOW_MOVE, moved;

	*before = now;
	path[path_length].action = a;
	path[path_length++].cut = UINT32_MAX;
	WORLD_EXPECT(path_length < DEPTH_MOST);
	(void)act_until(a, UINT32_MAX);
	world_judge(&now.world, true);
	judgements++;
	moved = walk() != here;
	for (uint32_t cut = 0; !ended && before->deaths < most.deaths; cut++) {
		now = *before;
		path[path_length - 1].cut = cut;
		ended = act_until(a, cut);
		if (ended)
			break;
		kills++;
		walk_after_death();
		(void)walk();
	}
	path_length--;
	now = *before;
	return moved;
}

/* Returns the hash of the state at hand, from which all was walked. */
static uint64_t walk(void)
{
	uint64_t here = state_hash();
	bool moved = false;

	if (!met_add(here))
		return here;
	for (enum action a = 0; a < ACTION_COUNT; a++) {
		if (!is_possible(a))
			continue;
		/* To begin a new shadow ring is no progress. */
		if (walk_action(a, here) && (a < SHADOW_RESTART || a > SHADOW_RESTART_LAST))
			moved = true;
	}
	if (!moved) {
		ends++;
		WORLD_EXPECT(now.world.got == most.chains); /* nothing was lost */
	}
	return here;
}

static void explore(uint16_t size, uint16_t back_size, bool by_region)
{
	free(met.slots);
	memset(&met, 0, sizeof(met));
	memset(&now, 0, sizeof(now));
	judgements = kills = ends = path_length = 0;
	memset(world_answers, 0, sizeof(world_answers));
	world_make(&now.world, size, back_size, by_region);
	shadow_make(&now.shadow, &now.world);
	world_judge(&now.world, true);
	(void)walk();
}

static void explore_right(uint16_t size, uint16_t back_size, uint32_t chains, uint32_t restarts,
			  bool by_region)
{
	most.chains = chains;
	most.restarts = restarts;
	most.deaths = 1;
	explore(size, back_size, by_region);
	printf("%s, size %u, shadow ring %u, %u chains, %u restarts: %" PRIu64 " states, %" PRIu64
	       " ends, %" PRIu64 " kills, %" PRIu64 " judgements:",
	       by_region ? "region" : "table", size, back_size, chains, restarts, met.count, ends,
	       kills, judgements);
	world_answers_print();
	WORLD_EXPECT(world_has_answered(by_region));
}

static void explore_wrong(void)
{
	most.chains = 3;
	most.restarts = 1;
	most.deaths = 1;
	is_wrong_wanted = true;
	for (wrong = WRONG_NONE + 1; wrong < WRONG_COUNT; wrong++) {
		if (setjmp(found) == 0) {
			explore(4, 4, wrong_is_of_region());
			fprintf(stderr, "flight_steps: %s was not found\n", wrong_name());
			exit(1);
		}
		printf("%s: found after %" PRIu64 " kills: %s\n", wrong_name(), kills, found_text);
	}
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "wrong")) {
		explore_wrong();
	} else if (argc == 2 && !strcmp(argv[1], "right")) {
		for (int by_region = 0; by_region < 2; by_region++) {
			explore_right(1, 1, 4, 1, by_region);
			explore_right(2, 2, 4, 1, by_region);
			explore_right(2, 1, 3, 1, by_region);
			explore_right(4, 4, 3, 1, by_region);
			explore_right(4, 2, 3, 1, by_region);
		}
	} else if (argc == 6 && !strcmp(argv[1], "right")) {
		for (int by_region = 0; by_region < 2; by_region++)
			explore_right((uint16_t)atoi(argv[2]), (uint16_t)atoi(argv[3]),
				      (uint32_t)atoi(argv[4]), (uint32_t)atoi(argv[5]), by_region);
	} else {
		fprintf(stderr, "usage: flight_steps right [SIZE BACK_SIZE CHAINS RESTARTS]\n"
				"       flight_steps wrong\n");
		return 2;
	}
	return 0;
}
