/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Load for a vhost-user-blk device, without a guest.
 *
 *	load --socket=PATH [--depth=N] [--block-size=BYTES]
 *	     [--rw=randread|randwrite|read|write] [--seconds=S | --requests=N]
 *	     [--batch=N] [--poll] [--verify] [--hold] [--seed=N]
 *
 * `depth` requests are kept in flight.  Completions are taken as they are
 * found, at most `batch` (0: all that are there); then as many new requests are
 * published together, with at most one kick.  When nothing is to be taken the
 * program arms the ring and sleeps, as a guest's driver does; --poll spins.
 *
 * --verify: on the first VERIFY_BLOCKS blocks, each slot writes blocks of its
 * own with a pattern made of block and generation, and reads others of its own
 * back; at the end every block that was written is read once more.
 *
 * --hold: stay connected after the result was printed, until end of input, so
 * that one can look at what stands between us and the device.
 *
 * One JSON object on standard output:
 *	rw, depth, block_size, batch, poll, verify, seed	what was asked for
 *	requests, seconds, requests_per_s	from the first kick to the last
 *						completion
 *	latency_mean_us, latency_p99_us, latency_max_us
 *	kicks, calls	notifications sent and received
 *	sleeps		system calls that waited for a call
 *	errors		requests whose status was not OK or whose length was
 *			wrong, and with --verify blocks with foreign bytes
 *
 * Exit status: 0, 1 (errors, or the device is gone, broken, or has not moved
 * for STALL_NS, with a line on standard error), 2 (usage).
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bits.h"
#include "base/error.h"
#include "blk_front.h"
#include "front.h"
#include "latency.h"

#define NS_PER_S UINT64_C(1000000000)
#define STALL_NS (10 * NS_PER_S)
#define STALL_LOOKS 4096u /* looks in vain between two looks at the clock, --poll */
#define VERIFY_BLOCKS 16384u
#define BLOCK_SIZE_MAX (4u << 20)

struct options {
	const char *socket;
	unsigned int depth, batch;
	uint32_t block_size;
	bool random, write, poll, verify, hold;
	double seconds;
	uint64_t requests; /* 0: by time */
	uint64_t seed;
};

/* What a slot has in flight. */
struct flight {
	uint64_t submitted_ns, block;
	uint32_t generation; /* that is written, or expected; 0: anything */
	bool write;
};

static struct {
	struct options options;
	struct blk_front *front;
	struct flight flights[BLK_FRONT_RING_SIZE];
	uint64_t blocks; /* that are used */
	uint64_t random, cursor;
	uint64_t submitted, completed, errors;
	uint64_t stop_ns;
	unsigned int in_flight;
	bool sweeps;           /* reads every written block once more */
	uint32_t *generations; /* of each block, --verify; 0: not written */
	struct latency latency;
} l;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static uint64_t next_random(void)
{
	return front_mix(l.random += UINT64_C(0x9e3779b97f4a7c15));
}

/* ---- what is asked for next ----------------------------------------------- */

static uint64_t pattern(uint64_t block, uint32_t generation)
{
	return front_mix(l.options.seed ^ block << 32 ^ generation);
}

static void pattern_write(void *data, const struct flight *flight)
{
	front_pattern_write(data, l.options.block_size, pattern(flight->block, flight->generation));
}

static bool pattern_is(const void *data, const struct flight *flight)
{
	return front_pattern_differs(data, l.options.block_size,
				     pattern(flight->block, flight->generation)) ==
	       l.options.block_size / sizeof(uint64_t);
}

/* A slot's own blocks are those that leave its number when divided by depth, so
 * that no block has two requests in flight. */
static void choose_verify(unsigned int slot, struct flight *flight)
{
	uint64_t own = (l.blocks - slot + l.options.depth - 1) / l.options.depth;

	flight->block = next_random() % own * l.options.depth + slot;
	flight->write = l.generations[flight->block] == 0 || next_random() & 1;
	if (flight->write)
		l.generations[flight->block]++;
	flight->generation = l.generations[flight->block];
}

static bool choose_sweep(struct flight *flight)
{
	while (l.cursor < l.blocks && l.generations[l.cursor] == 0)
		l.cursor++;
	if (l.cursor == l.blocks)
		return false;
	*flight = (struct flight){ .block = l.cursor, .generation = l.generations[l.cursor] };
	l.cursor++;
	return true;
}

static bool choose(unsigned int slot, uint64_t now, struct flight *flight)
{
	*flight = (struct flight){ .write = l.options.write };
	if (l.sweeps)
		return choose_sweep(flight);
	if (l.options.requests ? l.submitted >= l.options.requests : now >= l.stop_ns)
		return false;
	if (l.options.verify)
		choose_verify(slot, flight);
	else if (l.options.random)
		flight->block = next_random() % l.blocks;
	else
		flight->block = l.cursor++ % l.blocks;
	return true;
}

/* ---- running -------------------------------------------------------------- */

static void submit(unsigned int slot, uint64_t now)
{
	struct flight *flight = &l.flights[slot];

	if (!choose(slot, now, flight))
		return;
	flight->submitted_ns = now;
	if (l.options.verify && flight->write)
		pattern_write(blk_front_buffer(l.front, slot), flight);
	blk_front_submit(l.front, slot, flight->write, flight->block);
	l.submitted++;
	l.in_flight++;
}

static void complete(unsigned int slot, bool good, uint64_t now)
{
	const struct flight *flight = &l.flights[slot];

	l.in_flight--;
	l.completed++;
	latency_add(&l.latency, now - flight->submitted_ns);
	if (!good) {
		l.errors++;
		fprintf(stderr, "load: %s of block %lu failed\n", flight->write ? "write" : "read",
			(unsigned long)flight->block);
	} else if (l.options.verify && !flight->write &&
		   !pattern_is(blk_front_buffer(l.front, slot), flight)) {
		l.errors++;
		fprintf(stderr, "load: block %lu does not hold what was written to it\n",
			(unsigned long)flight->block);
	}
}

/* Take what is there, up to a batch, and ask for as much again.  Returns the
 * number of completions, or -EPROTO. */
static int turn(struct umbra_error *err)
{
	unsigned int batch = l.options.batch ? l.options.batch : UINT32_MAX, n = 0, slot;
	uint64_t now = 0;
	bool good;
	int rc = 0;

	while (n < batch) {
		rc = blk_front_reap(l.front, &slot, &good, err);
		if (rc <= 0)
			break;
		if (n++ == 0)
			now = now_ns();
		complete(slot, good, now);
		submit(slot, now);
	}
	if (n)
		blk_front_publish(l.front);
	return rc < 0 ? rc : (int)n;
}

/* Wait for a completion: 0 to look again. */
static int wait_for_more(uint64_t *idle_since, unsigned int *looks, struct umbra_error *err)
{
	uint64_t now;

	if (l.options.poll && ++*looks % STALL_LOOKS)
		return 0;
	now = now_ns();
	if (*idle_since == 0)
		*idle_since = now;
	if (now - *idle_since >= STALL_NS)
		return error_set(err, -ETIMEDOUT,
				 "no completion for 10 s, with %u requests in flight", l.in_flight);
	return l.options.poll ? 0 : blk_front_sleep(l.front, STALL_NS / 1000000, err);
}

/* Until nothing is in flight and nothing more to be asked for. */
static int run(struct umbra_error *err)
{
	uint64_t now = now_ns(), idle_since = 0;
	unsigned int looks = 0;
	int rc;

	for (unsigned int slot = 0; slot < l.options.depth; slot++)
		submit(slot, now);
	blk_front_publish(l.front);
	while (l.in_flight) {
		rc = turn(err);
		if (rc == 0)
			rc = wait_for_more(&idle_since, &looks, err);
		else
			idle_since = 0;
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int run_all(double *seconds, struct umbra_error *err)
{
	uint64_t start = now_ns();
	int rc;

	l.stop_ns = start + (uint64_t)(l.options.seconds * (double)NS_PER_S);
	rc = run(err);
	if (!rc && l.options.verify) {
		l.sweeps = true;
		l.cursor = 0;
		rc = run(err);
	}
	*seconds = (double)(now_ns() - start) / (double)NS_PER_S;
	return rc;
}

/* ---- the program ---------------------------------------------------------- */

static void print_result(double seconds)
{
	struct blk_front_counts counts = blk_front_counts(l.front);
	const struct options *o = &l.options;

	printf("{\"rw\": \"%s%s\", \"depth\": %u, \"block_size\": %u, \"batch\": %u, "
	       "\"poll\": %s, \"verify\": %s, \"seed\": %lu, ",
	       o->random ? "rand" : "", o->write ? "write" : "read", o->depth, o->block_size,
	       o->batch, o->poll ? "true" : "false", o->verify ? "true" : "false",
	       (unsigned long)o->seed);
	printf("\"requests\": %lu, \"seconds\": %.6f, \"requests_per_s\": %.1f, "
	       "\"latency_mean_us\": %.2f, \"latency_p99_us\": %.2f, \"latency_max_us\": %.2f, ",
	       (unsigned long)l.completed, seconds, (double)l.completed / seconds,
	       latency_mean(&l.latency) / 1e3, (double)latency_percentile(&l.latency, 0.99) / 1e3,
	       (double)l.latency.max_ns / 1e3);
	printf("\"kicks\": %lu, \"calls\": %lu, \"sleeps\": %lu, \"errors\": %lu}\n",
	       (unsigned long)counts.kicks, (unsigned long)counts.calls,
	       (unsigned long)counts.sleeps, (unsigned long)l.errors);
}

static int load(void)
{
	struct umbra_error err = { "" };
	double seconds = 0;
	int rc;

	rc = blk_front_open(l.options.socket, l.options.depth, l.options.block_size, &l.front,
			    &err);
	if (rc) {
		fprintf(stderr, "load: %s: %s\n", l.options.socket, err.text);
		return 1;
	}
	l.blocks = blk_front_blocks(l.front);
	l.random = l.options.seed;
	if (l.options.verify) {
		l.blocks = MIN(l.blocks, VERIFY_BLOCKS);
		l.generations = calloc(l.blocks, sizeof(*l.generations));
		if (!l.generations || l.blocks < l.options.depth) {
			fprintf(stderr, "load: --verify wants at least --depth blocks\n");
			return 1;
		}
	}
	rc = run_all(&seconds, &err);
	if (!rc) {
		print_result(seconds);
		fflush(stdout);
		while (l.options.hold && getchar() != EOF)
			;
	} else {
		fprintf(stderr, "load: %s: %s\n", l.options.socket, err.text);
	}
	/* A device that stalls would let the goodbye wait, too. */
	if (!rc) {
		rc = blk_front_close(&l.front, &err);
		if (rc)
			fprintf(stderr, "load: %s: %s\n", l.options.socket, err.text);
	}
	free(l.generations);
	return rc || l.errors ? 1 : 0;
}

static int usage(const char *why)
{
	fprintf(stderr,
		"load: %s\n"
		"usage: load --socket=PATH [--depth=1..%u] [--block-size=BYTES]\n"
		"       [--rw=randread|randwrite|read|write] [--seconds=S | --requests=N]\n"
		"       [--batch=N] [--poll] [--verify] [--hold] [--seed=N]\n",
		why, BLK_FRONT_RING_SIZE);
	return 2;
}

static bool parse_u64(const char *text, uint64_t low, uint64_t high, uint64_t *out)
{
	char *end;

	errno = 0;
	*out = strtoull(text, &end, 0);
	return !errno && end != text && !*end && text[0] != '-' && *out >= low && *out <= high;
}

static bool parse_rw(const char *text, struct options *o)
{
	o->random = !strncmp(text, "rand", 4);
	text += o->random ? 4 : 0;
	o->write = !strcmp(text, "write");
	return o->write || !strcmp(text, "read");
}

static bool parse_option(int option, const char *text, struct options *o)
{
	uint64_t v = 0;
	char *end;
	bool ok = true;

	switch (option) {
	case 's':
		o->socket = text;
		break;
	case 'd':
		ok = parse_u64(text, 1, BLK_FRONT_RING_SIZE, &v);
		o->depth = (unsigned int)v;
		break;
	case 'b':
		ok = parse_u64(text, 512, BLOCK_SIZE_MAX, &v) && v % 512 == 0;
		o->block_size = (uint32_t)v;
		break;
	case 'r':
		ok = parse_rw(text, o);
		break;
	case 't':
		o->seconds = strtod(text, &end);
		ok = end != text && !*end && o->seconds > 0 && o->seconds <= 86400;
		break;
	case 'n':
		ok = parse_u64(text, 1, UINT64_MAX, &o->requests);
		break;
	case 'a':
		ok = parse_u64(text, 0, BLK_FRONT_RING_SIZE, &v);
		o->batch = (unsigned int)v;
		break;
	case 'p':
		o->poll = true;
		break;
	case 'v':
		o->verify = true;
		break;
	case 'h':
		o->hold = true;
		break;
	case 'e':
		ok = parse_u64(text, 0, UINT64_MAX, &o->seed);
		break;
	default:
		ok = false;
	}
	return ok;
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "socket", required_argument, NULL, 's' },
						 { "depth", required_argument, NULL, 'd' },
						 { "block-size", required_argument, NULL, 'b' },
						 { "rw", required_argument, NULL, 'r' },
						 { "seconds", required_argument, NULL, 't' },
						 { "requests", required_argument, NULL, 'n' },
						 { "batch", required_argument, NULL, 'a' },
						 { "poll", no_argument, NULL, 'p' },
						 { "verify", no_argument, NULL, 'v' },
						 { "hold", no_argument, NULL, 'h' },
						 { "seed", required_argument, NULL, 'e' },
						 { 0 } };
	int option;

	l.options = (struct options){
		.depth = 1, .block_size = 4096, .random = true, .seconds = 2, .seed = 1
	};
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
		if (!parse_option(option, optarg, &l.options))
			return usage("an option or its value is not understood");
	if (!l.options.socket || optind != argc)
		return usage("--socket is needed, and nothing without dashes");
	return load();
}
