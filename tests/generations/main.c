/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A load on a disk that notices a write which lands late.
 *
 *	generations DEVICE OFFSET-MIB BLOCKS THREADS
 *
 * Each block of 4 KiB belongs to one thread, which knows the generation that it wrote there last.
 * It writes the next one or reads: what comes back is that generation, in each 16 bytes of the
 * block, and no other.  A checksum would say of an older generation that it is whole; the older
 * one is just what a back-end leaves that was taken for dead and was not, or a request that was
 * given again after its successor.
 *
 * SIGINT or SIGTERM ends the load: every block is read once more, the counts are printed, and the
 * status is 0.  An I/O error or another content is printed and ends it at once with status 1.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK = 4096, THREADS_MOST = 64 };

struct unit {
	uint64_t block, generation;
};

struct worker {
	pthread_t thread;
	unsigned int number;
	uint64_t writes, reads, random;
	uint64_t *generations; /* of the blocks number, number + threads, ...; 0: not written yet */
	struct unit *data;
};

static int disk;
static uint64_t first, blocks;
static unsigned int threads;
static atomic_bool ending;

static void on_signal(int number)
{
	(void)number;
	ending = true;
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void fail(const char *what, uint64_t block, const char *why)
{
	printf("generations: block %" PRIu64 ": %s: %s\n", block, what, why);
	exit(1);
}

static void write_next(struct worker *w, uint64_t index)
{
	uint64_t block = index * threads + w->number, generation = w->generations[index] + 1;

	for (unsigned int i = 0; i < BLOCK / sizeof(*w->data); i++)
		w->data[i] = (struct unit){ block, generation };
	if (pwrite(disk, w->data, BLOCK, (off_t)((first + block) * BLOCK)) != BLOCK)
		fail("write", block, strerror(errno));
	w->generations[index] = generation;
	w->writes++;
}

static void read_last(struct worker *w, uint64_t index)
{
	uint64_t block = index * threads + w->number;

	if (!w->generations[index])
		return;
	if (pread(disk, w->data, BLOCK, (off_t)((first + block) * BLOCK)) != BLOCK)
		fail("read", block, strerror(errno));
	w->reads++;
	for (unsigned int i = 0; i < BLOCK / sizeof(*w->data); i++) {
		char text[160];

		if (w->data[i].block == block && w->data[i].generation == w->generations[index])
			continue;
		snprintf(text, sizeof(text),
			 "generation %" PRIu64 " of block %" PRIu64 " at byte %zu, expected "
			 "generation %" PRIu64,
			 w->data[i].generation, w->data[i].block, i * sizeof(*w->data),
			 w->generations[index]);
		fail("another content", block, text);
	}
}

static void *work(void *data)
{
	struct worker *w = data;
	uint64_t own = (blocks - w->number + threads - 1) / threads;

	w->generations = calloc(own, sizeof(*w->generations));
	if (!w->generations || posix_memalign((void **)&w->data, BLOCK, BLOCK))
		fail("memory", w->number, strerror(ENOMEM));
	w->random = 0x9e3779b97f4a7c15 * (w->number + 1);
	while (!ending) {
		uint64_t r = next_random(&w->random);

		if (r >> 63)
			write_next(w, r % own);
		else
			read_last(w, r % own);
	}
	for (uint64_t i = 0; i < own; i++)
		read_last(w, i);
	return NULL;
}

static uint64_t number(const char *text)
{
	char *end;
	uint64_t v;

	errno = 0;
	v = strtoull(text, &end, 10);
	if (errno || *end || end == text) {
		fprintf(stderr, "generations: '%s' is no number\n", text);
		exit(2);
	}
	return v;
}

int main(int argc, char **argv)
{
	static struct worker workers[THREADS_MOST];
	struct sigaction action = { .sa_handler = on_signal };
	uint64_t writes = 0, reads = 0;

	if (argc != 5) {
		fprintf(stderr, "usage: generations DEVICE OFFSET-MIB BLOCKS THREADS\n");
		return 2;
	}
	first = number(argv[2]) * ((1 << 20) / BLOCK);
	blocks = number(argv[3]);
	threads = (unsigned int)number(argv[4]);
	if (!threads || threads > THREADS_MOST || blocks < threads) {
		fprintf(stderr, "generations: 1 to %d threads, and a block for each\n",
			THREADS_MOST);
		return 2;
	}
	disk = open(argv[1], O_RDWR | O_DIRECT | O_CLOEXEC);
	if (disk < 0) {
		perror(argv[1]);
		return 2;
	}
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	for (unsigned int i = 0; i < threads; i++) {
		workers[i].number = i;
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
			fail("thread", i, strerror(errno));
	}
	for (unsigned int i = 0; i < threads; i++) {
		pthread_join(workers[i].thread, NULL);
		writes += workers[i].writes;
		reads += workers[i].reads;
	}
	printf("generations: %" PRIu64 " writes, %" PRIu64 " reads\n", writes, reads);
	return 0;
}
