/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A balloon's ledger whose keeper is killed with SIGKILL, over and over.
 *
 *	ledger_kill [LIVES [SEED]]	(or UMBRA_SEED=seed)
 *
 * Theory of operation.  The child keeps the ledger in memory that it shares with the parent, and
 * writes down what it is about to do, and that it is done, as a device hears of a message and
 * answers it.  The parent kills it, reads what it left, and compares page by page: what was
 * done is there, what was not begun is not, and of the one thing in between each page is
 * before or behind it.  The next child takes the ledger over into another room, as the next
 * program does, and may be killed in that, too: then the room is none, and the one before
 * still says all.
 *
 * Every other child stops at a store that was drawn for it, and is killed there, however busy
 * the machine is; the others are hit wherever they are.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "balloon/ledger.h"
#include "random.h"
#include "steps.h"

#define PATIENCE 60u /* seconds in which a life has to end */
#define REGIONS 2u
#define FIRST(region) (UINT64_C(0x1003) + (region)*0x1000)
#define PAGES 200u /* of each: three words, and a part of one */
#define DEEDS_MOST 20000u
#define ROOM_BYTES 4096u

enum deed_kind { PUT, TAKE, MARK_UNFREED, MARK_FREED, DEED_KINDS };

struct deed {
	enum deed_kind kind;
	unsigned int region;
	uint64_t from, count; /* pages of the region */
};

/* Shared. */
static struct said {
	uint8_t rooms[2][ROOM_BYTES];
	uint32_t room;        /* atomic; the one that counts; a life begins with the other */
	uint32_t begun, done; /* atomic; of these */
	bool has_stopped;     /* atomic; the child stands at its store */
	struct deed deeds[DEEDS_MOST];
} * said;

/* What the parent knows: of each page whether it is in, and whether the host has it not back. */
static bool in[REGIONS][PAGES], unfreed[REGIONS][PAGES];
static struct memory *memory;
static uint64_t seed;
static unsigned int life;

#define EXPECT(what)                                                                               \
	do                                                                                         \
		if (!(what)) {                                                                     \
			fprintf(stderr,                                                            \
				"ledger_kill: line %d: not so: %s (seed %" PRIu64 ", life %u)\n",  \
				__LINE__, #what, seed, life);                                      \
			_exit(1);                                                                  \
		}                                                                                  \
	while (0)

/* ---- the child ---------------------------------------------------------------------- */

static bool is_child;
static uint64_t stop_at; /* which of its stores it does not make; 0: it makes all */

void step_store(void *p, unsigned int bytes, uint64_t v)
{
	static uint64_t stores;

	EXPECT(bytes == 8);
	if (is_child && ++stores == stop_at) {
		__atomic_store_n(&said->has_stopped, true, __ATOMIC_RELEASE);
		for (;;)
			(void)pause();
	}
	__atomic_store_n((uint64_t *)p, v, __ATOMIC_RELEASE);
}

static void release_nothing(struct memory_backing *backing)
{
	(void)backing;
}

static struct memory_backing shared_backing = { .refs = 1, .release = release_nothing };

static struct memory_region room_of(unsigned int which)
{
	return (struct memory_region){ .host = said->rooms[which],
				       .size = ROOM_BYTES,
				       .backing = &shared_backing };
}

/* What is in @before's room, if one is, over into a ledger in @room (NULL: heap). */
static struct ledger *take_over(unsigned int before, const struct memory_region *room)
{
	struct memory_region old = room_of(before);
	struct ledger *was = NULL, *l = NULL;
	struct umbra_error err;

	EXPECT(!ledger_read(&old, &was, &err));
	EXPECT(!ledger_create(memory, was, room, &l, &err));
	ledger_destroy(&was);
	return l;
}

static void deed_do(struct ledger *l, const struct deed *d)
{
	uint64_t pfn = FIRST(d->region) + d->from;

	if (d->kind == PUT)
		(void)ledger_put(l, d->region, pfn, d->count);
	else if (d->kind == TAKE)
		(void)ledger_take(l, d->region, pfn, d->count);
	else if (d->kind == MARK_UNFREED)
		ledger_mark_unfreed(l, d->region, pfn, d->count);
	else
		ledger_mark_freed(l, d->region, pfn, d->count);
}

static struct deed deed_draw(void)
{
	struct deed d = { .kind = below(DEED_KINDS), .region = below(REGIONS) };

	d.from = below(PAGES);
	d.count = 1 + below(below(2) ? PAGES - (uint32_t)d.from : MIN(8, PAGES - (uint32_t)d.from));
	return d;
}

static _Noreturn void child_run(void)
{
	uint32_t before = said->room;
	struct memory_region room = room_of(!before);
	struct ledger *l;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	is_child = true;
	l = take_over(before, &room);
	__atomic_store_n(&said->room, !before, __ATOMIC_RELEASE);
	for (uint32_t i = 0; i < DEEDS_MOST; i++) {
		said->deeds[i] = deed_draw();
		__atomic_store_n(&said->begun, i + 1, __ATOMIC_RELEASE);
		deed_do(l, &said->deeds[i]);
		__atomic_store_n(&said->done, i + 1, __ATOMIC_RELEASE);
	}
	for (;;)
		(void)pause();
}

/* ---- the parent ------------------------------------------------------------------------ */

static bool deed_meets(const struct deed *d, unsigned int region, uint64_t page)
{
	return d->region == region && page - d->from < d->count;
}

static void model_do(const struct deed *d)
{
	for (uint64_t i = d->from; i < d->from + d->count; i++) {
		bool *is_in = &in[d->region][i], *is_unfreed = &unfreed[d->region][i];

		if (d->kind == PUT)
			*is_in = true;
		else if (d->kind == TAKE)
			*is_in = *is_unfreed = false;
		else
			*is_unfreed = *is_in && d->kind == MARK_UNFREED;
	}
}

/* The ledger in room @which against what was done; what is ambiguous is learnt from it. */
static void compare(unsigned int which)
{
	uint32_t begun = said->begun, done = said->done;
	struct ledger *l = take_over(which, NULL);

	for (unsigned int region = 0; region < REGIONS; region++)
		for (uint64_t i = 0; i < PAGES; i++) {
			const struct deed *between = begun > done ? &said->deeds[done] : NULL;
			bool is_open = between && deed_meets(between, region, i);
			bool is_in = ledger_has(l, region, FIRST(region) + i, 1);
			uint64_t before = l->unfreed;
			bool is_unfreed;

			(void)ledger_take(l, region, FIRST(region) + i, 1);
			is_unfreed = l->unfreed < before;
			EXPECT(is_in || !is_unfreed);
			if (is_open && between->kind == PUT)
				EXPECT(is_in || !in[region][i]);
			else if (is_open && between->kind == TAKE)
				EXPECT(!is_in || in[region][i]);
			else
				EXPECT(is_in == in[region][i]);
			if (!is_open)
				EXPECT(is_unfreed == unfreed[region][i]);
			in[region][i] = is_in;
			unfreed[region][i] = is_unfreed;
		}
	EXPECT(l->pages == 0 && l->unfreed == 0);
	ledger_destroy(&l);
}

/* A room in which a taking over was cut short is none, or is complete. */
static void judge(uint32_t before)
{
	struct memory_region other = room_of(!said->room);
	struct ledger *l = NULL;
	struct umbra_error err;
	int rc = ledger_read(&other, &l, &err);

	EXPECT(said->begun - said->done <= 1);
	for (uint32_t i = 0; i < said->done; i++)
		model_do(&said->deeds[i]);
	compare(said->room);
	EXPECT(rc == 0 || rc == -EINVAL);
	if (rc == 0 && said->room == before)
		compare(!said->room);
	ledger_destroy(&l);
}

static void live(void)
{
	uint64_t stop = life % 2 ? 1 + below(below(2) ? 40 : 2000) : 0;
	uint32_t turns = below(200), before = said->room;
	int status;
	pid_t pid;

	memset(said->rooms[!before], 0, ROOM_BYTES);
	said->begun = said->done = 0;
	said->has_stopped = false;
	stop_at = stop;
	alarm(PATIENCE);
	pid = fork();
	EXPECT(pid >= 0);
	random64(); /* another sequence each time */
	if (pid == 0)
		child_run();
	while (stop ? !__atomic_load_n(&said->has_stopped, __ATOMIC_ACQUIRE)
		    : __atomic_load_n(&said->done, __ATOMIC_ACQUIRE) < turns)
		sched_yield();
	EXPECT(!kill(pid, SIGKILL));
	EXPECT(waitpid(pid, &status, 0) == pid);
	EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	judge(before);
	alarm(0);
}

int main(int argc, char **argv)
{
	unsigned int lives = argc > 1 ? (unsigned int)atoi(argv[1]) : 1000;
	struct memory_region regions[REGIONS], room;
	struct ledger *l = NULL;
	struct umbra_error err;
	unsigned int halves = 0;

	seed = argc > 2 ? strtoull(argv[2], NULL, 0) : random_seed();
	random_begin(seed);
	printf("seed %" PRIu64 "\n", seed);
	fflush(stdout);
	said = mmap(NULL, sizeof(*said), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	EXPECT(said != MAP_FAILED);
	for (unsigned int i = 0; i < REGIONS; i++)
		regions[i] = (struct memory_region){
			.gpa = { FIRST(i) << 12 },
			.uva = { FIRST(i) << 12 },
			.size = (uint64_t)PAGES << 12,
		};
	EXPECT(!memory_create(regions, REGIONS, &memory, &err));
	room = room_of(0);
	EXPECT(!ledger_create(memory, NULL, &room, &l, &err));
	ledger_destroy(&l);
	for (life = 0; life < lives; life++) {
		live();
		halves += said->begun > said->done;
	}
	printf("killed %u times, %u of them within a change\n", lives, halves);
	memory_unref(&memory);
	return 0;
}
