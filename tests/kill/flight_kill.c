/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A shadow killed with SIGKILL under a random load, over and over.
 *
 *	flight_kill [ROUNDS [SEED]]	(or UMBRA_SEED=seed)
 *
 * Theory of operation.  The parent is guest and back-end, the child is the shadow; rings and
 * table, or in-flight region, are memory that they share.  The parent works for a random number of
 *turns, kills the child, and judges what the table says of each chain (world_judge()).  The
 *back-end dies with the shadow: what it held is forgotten, and given again by the next child, which
 * recovers the table; so the guest gets back every chain once, and none that was not done.
 *
 * Every other child stops at a store that was drawn for it, and is killed there, however busy
 * the machine is; the others are hit wherever they are.  It goes on until the survivors have
 * said of some chain each thing that can be said.
 *
 * The seed is printed.  It settles what guest and back-end do, not when the child is hit.
 */
#include <inttypes.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "random.h"
#include "steps.h"
#include "world.h"

#define PATIENCE 60u /* seconds in which a round has to end */

static struct world *w;
/* Shared, atomic. */
static struct {
	bool has_stopped;  /* the child stands at its store */
	uint32_t asked;    /* the back-end of the shadow ring of this life is to stop, ... */
	uint32_t answered; /* ... and has */
	uint32_t moves;    /* either of both has done something; a futex */
} * said;
static uint64_t seed;
static unsigned int life;

void world_failed(const char *what, int line)
{
	fprintf(stderr, "flight_kill: line %d: not so: %s (seed %" PRIu64 ", life %u)\n", line,
		what, seed, life);
	_exit(1);
}

/*
 * Who finds nothing to do sleeps until the other has done something.  (To yield instead gives, on a
 * busy machine, a turn to all others each time: and a round takes thousands.)  That
 * it looks again after a millisecond is for the other's death, and for what both wait for in vain.
 */
static void wait_for_move(uint32_t seen)
{
	const struct timespec moment = { .tv_nsec = 1000000 };

	(void)syscall(SYS_futex, &said->moves, FUTEX_WAIT, seen, &moment, NULL, 0);
}

static void note_move(void)
{
	(void)__atomic_fetch_add(&said->moves, 1, __ATOMIC_SEQ_CST);
	(void)syscall(SYS_futex, &said->moves, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static uint32_t moves_seen(void)
{
	return __atomic_load_n(&said->moves, __ATOMIC_SEQ_CST);
}

/* ---- the child ---------------------------------------------------------------------- */

static struct shadow shadow;
static bool is_child;
static uint64_t stop_at; /* which of its stores it does not make; 0: it makes all */

/* Where it stops it waits for its end.  Else it lingers now and then, so that it is hit between
 * any two stores, and not only where it waits for work. */
static void child_step(void)
{
	static uint64_t stores;

	if (++stores == stop_at) {
		__atomic_store_n(&said->has_stopped, true, __ATOMIC_RELEASE);
		note_move();
		for (;;)
			(void)pause();
	}
	if (below(64) == 0)
		for (uint32_t i = below(100000); i; i--)
			__asm__ volatile("");
}

void step_store(void *p, unsigned int bytes, uint64_t v)
{
	if (is_child)
		child_step();
	if (bytes == 1)
		__atomic_store_n((uint8_t *)p, (uint8_t)v, __ATOMIC_RELEASE);
	else if (bytes == 2)
		__atomic_store_n((uint16_t *)p, (uint16_t)v, __ATOMIC_RELEASE);
	else if (bytes == 4)
		__atomic_store_n((uint32_t *)p, (uint32_t)v, __ATOMIC_RELEASE);
	else
		__atomic_store_n((uint64_t *)p, v, __ATOMIC_RELEASE);
}

/* Where it is to say what it has not taken, it has to stop first: at the latest when it comes to
 * the last shadow ring, before it takes anything. */
static void backend_stop(void)
{
	__atomic_store_n(&said->asked, w->back_life, __ATOMIC_RELEASE);
	note_move();
	for (;;) {
		uint32_t seen = moves_seen();

		if (__atomic_load_n(&said->answered, __ATOMIC_ACQUIRE) == w->back_life)
			break;
		wait_for_move(seen);
	}
}

/* Now and then the back-end ends in one of its ways.  It has come to the last shadow ring by then,
 * or has to stop there. */
static void restart(void)
{
	enum shadow_end end = below(SHADOW_RESET + 1);

	if (below(50) || !shadow_can_end(&shadow, end))
		return;
	if (end != SHADOW_STOPPED &&
	    __atomic_load_n(&w->attached, __ATOMIC_ACQUIRE) != w->back_life)
		return;
	if (end == SHADOW_STOPPED)
		backend_stop();
	shadow_restart(&shadow, end);
}

static _Noreturn void child_run(void)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	is_child = true;
	if (w->back_life)
		shadow_recover(&shadow, w);
	else
		shadow_make(&shadow, w);
	for (;;) {
		uint32_t seen = moves_seen();
		bool moved = below(4) ? shadow_move(&shadow) : shadow_drain(&shadow);

		restart();
		if (moved)
			note_move();
		else
			wait_for_move(seen);
	}
}

static pid_t child_start(uint64_t stop)
{
	pid_t pid;

	said->has_stopped = false;
	stop_at = stop;
	pid = fork();

	if (pid < 0) {
		perror("fork");
		exit(1);
	}
	random64(); /* another sequence each time */
	if (pid == 0)
		child_run();
	return pid;
}

/* Killed by us, and by nothing else. */
static void child_kill(pid_t pid)
{
	int status;

	WORLD_EXPECT(!kill(pid, SIGKILL));
	WORLD_EXPECT(waitpid(pid, &status, 0) == pid);
	WORLD_EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* ---- the parent ------------------------------------------------------------------------ */

/* Is it still to take and complete? */
static bool backend_works(void)
{
	uint32_t asked = __atomic_load_n(&said->asked, __ATOMIC_ACQUIRE);

	world_backend_attach(w);
	if (asked != w->attached)
		return true;
	__atomic_store_n(&said->answered, asked, __ATOMIC_RELEASE);
	note_move();
	return false;
}

static uint32_t turn(uint32_t chains)
{
	uint32_t seen = moves_seen(), moved = 0;

	for (uint32_t n = below(4); n && w->added < chains; n--)
		moved += world_guest_add(w);
	if (backend_works()) {
		world_backend_take(w);
		for (uint32_t n = below(8); n && w->held_count; n--, moved++)
			world_backend_complete(w, below(w->held_count));
	}
	moved += world_guest_get(w);
	if (moved)
		note_move();
	else if (below(8) == 0)
		wait_for_move(seen);
	return moved;
}

/* Until the child has been hit in @kills lives. */
static void round_run(uint16_t size, uint16_t back_size, bool by_region, unsigned int kills)
{
	pid_t pid = 0;

	world_make(w, size, back_size, by_region);
	said->asked = said->answered = 0; /* lives are counted anew */
	for (life = 0; life < kills && w->added < WORLD_CHAINS_MOST; life++) {
		/* Every other one at a store, often one of those by which it recovers. */
		uint64_t stop = life % 2 ? 1 + below(below(2) ? 100 : 4000) : 0;

		alarm(PATIENCE);
		pid = child_start(stop);
		/* A table is there before anything is taken: the first life is let begin. */
		while (!life && !__atomic_load_n(&w->back_life, __ATOMIC_ACQUIRE))
			wait_for_move(moves_seen());
		for (uint32_t turns = below(below(4) ? 20 : 200); turns; turns--)
			(void)turn(WORLD_CHAINS_MOST);
		while (stop && w->added < WORLD_CHAINS_MOST &&
		       !__atomic_load_n(&said->has_stopped, __ATOMIC_ACQUIRE))
			(void)turn(WORLD_CHAINS_MOST);
		child_kill(pid);
		world_judge(w, false);
		world_backend_die(w);
	}
	/* And in the end the guest has all. */
	pid = child_start(0);
	while (w->got < w->added)
		(void)turn(w->added);
	child_kill(pid);
	world_judge(w, false);
	alarm(0);
}

static void *shared(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	return p;
}

int main(int argc, char **argv)
{
	static const uint16_t sizes[][2] = { { 1, 1 }, { 2, 2 },   { 2, 1 },   { 4, 4 },
					     { 4, 2 }, { 16, 16 }, { 64, 64 }, { 64, 16 } };
	unsigned int rounds = argc > 1 ? (unsigned int)atoi(argv[1]) : 50;

	seed = argc > 2 ? strtoull(argv[2], NULL, 0) : random_seed();
	random_begin(seed);
	printf("seed %" PRIu64 "\n", seed);
	fflush(stdout);
	w = shared(sizeof(*w));
	said = shared(sizeof(*said));
	do
		for (unsigned int i = 0; i < 2 * ARRAY_SIZE(sizes); i++) {
			bool by_region = i % 2;

			round_run(sizes[i / 2][0], sizes[i / 2][1], by_region, rounds);
			printf("size %u, shadow ring %u, by the %s: killed %u times, %u chains came "
			       "back\n",
			       sizes[i / 2][0], sizes[i / 2][1], by_region ? "region" : "table",
			       life, w->got);
		}
	while (!world_has_answered(false));
	printf("asked after each kill:");
	world_answers_print();
	return 0;
}
