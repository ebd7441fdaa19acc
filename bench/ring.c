/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a buffer costs on a ring, and with a shadow queue between two rings.
 *
 *	ring [--rounds=N] [--buffers=N] [--output=FILE]
 *	ring --loop=ring|shadow,BATCH,CHAIN,INDIRECT,BUFFERS
 *
 * ring    one ring used directly, in one thread: the driver adds and publishes
 *	   a batch, the device takes, completes and publishes it, the driver gets
 *	   it back.  Both ask whether they must notify.
 * shadow  the same driver on a guest's ring and the same device on the shadow
 *	   ring; a shadow queue between them passes the batch on, and back.
 *
 * A shadow queue works two rings, so 2.0 is the limit of shadow_over_ring:
 * what is above is the shadow queue's own.  The two are measured in turn, in
 * `rounds` rounds; a figure is the median of the rounds.  Instructions are
 * user-space ones from the processor's counter (perf_event_open); null where
 * there is none.  Then ring.py beside this file counts them under valgrind: the
 * second form runs one loop and prints nothing, so that two lengths of it differ
 * by the loop's instructions and nothing else.
 *
 * One JSON object a line:
 *	case		always "ring"
 *	batch, chain	buffers published at a time; segments of a buffer
 *	indirect	whether INDIRECT_DESC is negotiated on both rings
 *	ring_ns, shadow_ns			nanoseconds per buffer, of this
 *						thread's processor time
 *	ring_instructions, shadow_instructions	per buffer, or null
 *	shadow_over_ring			shadow_ns / ring_ns
 *	rounds, buffers				what was measured
 */
#include <errno.h>
#include <getopt.h>
#include <linux/perf_event.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "shadow/shadow_queue.h"

#define RING_SIZE 256u /* entries, both rings */
#define RAM_GPA UINT64_C(0x100000000)
#define RAM_BYTES (1u << 20)
#define ROUNDS_MAX 99u

struct ring_memory {
	struct driver_layout layout;
	void *shared, *private;
};

static struct {
	uint64_t features;
	struct ring_memory guest, back;
	struct memory *memory;
	uint8_t *ram;
	struct driver_ring driver; /* on the guest's ring */
	struct device_ring device; /* on the same ring, or on the shadow ring */
	struct shadow_queue queue;
	struct shadow_counters counters;
	struct ring_seg queue_segs[RING_SIZE], device_segs[RING_SIZE];
	struct ring_chain chain;
} b;

struct cost {
	double ns, instructions; /* per buffer */
};

static void require(bool condition, const char *what)
{
	if (!condition) {
		fprintf(stderr, "ring: %s\n", what);
		exit(1);
	}
}

/* ---- clocks --------------------------------------------------------------- */

static int counter = -1;

static void counter_open(void)
{
	struct perf_event_attr attr = { .type = PERF_TYPE_HARDWARE,
					.size = sizeof(attr),
					.config = PERF_COUNT_HW_INSTRUCTIONS,
					.exclude_kernel = 1,
					.exclude_hv = 1 };

	counter = (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
}

static uint64_t instructions_now(void)
{
	uint64_t v = 0;

	if (counter >= 0 && read(counter, &v, sizeof(v)) != sizeof(v))
		v = 0;
	return v;
}

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* ---- rings ---------------------------------------------------------------- */

/* The guest's ring lies in the guest's memory, and so do its tables. */
static void driver_start(struct driver_ring *r, struct ring_memory *m, uint64_t addr)
{
	require(driver_ring_init(r, &(struct driver_ring_config){ .size = RING_SIZE,
								  .features = b.features,
								  .shared = m->shared,
								  .shared_addr = addr,
								  .private = m->private }) == 0,
		"driver_ring_init");
}

static void memory_start(uint64_t features)
{
	struct memory_region regions[3];

	b.features = features;
	b.guest.layout = b.back.layout = driver_ring_layout(RING_SIZE, features);
	for (unsigned int i = 0; i < 2; i++) {
		struct ring_memory *m = i ? &b.back : &b.guest;

		m->shared = aligned_alloc(4096, align_up(m->layout.shared_bytes, 4096));
		m->private = aligned_alloc(64, align_up(m->layout.private_bytes, 64));
		require(m->shared && m->private, "no memory");
		memset(m->shared, 0, m->layout.shared_bytes);
	}
	b.ram = aligned_alloc(4096, RAM_BYTES);
	require(b.ram, "no memory");
	regions[0] = (struct memory_region){
		.gpa = { RAM_GPA }, .uva = { RAM_GPA }, .size = RAM_BYTES, .host = b.ram
	};
	for (unsigned int i = 0; i < 2; i++)
		regions[1 + i] =
			(struct memory_region){ .gpa = { RAM_GPA << (i + 1) },
						.uva = { RAM_GPA << (i + 1) },
						.size = b.guest.layout.shared_bytes,
						.host = i ? b.back.shared : b.guest.shared };
	require(memory_create(regions, 3, &b.memory, NULL) == 0, "memory_create");
	b.chain.segs = b.device_segs;
}

static void memory_stop(void)
{
	memory_unref(&b.memory);
	free(b.ram);
	free(b.guest.shared);
	free(b.guest.private);
	free(b.back.shared);
	free(b.back.private);
}

static void device_start(const struct split_ring *split)
{
	device_ring_init(&b.device, &(struct device_ring_config){ .split = *split,
								  .memory = b.memory,
								  .features = b.features });
}

static void direct_start(void)
{
	driver_start(&b.driver, &b.guest, RAM_GPA << 1);
	device_start(&b.driver.split);
}

static void shadow_start(void)
{
	struct shadow_queue_config config;

	driver_start(&b.driver, &b.guest, RAM_GPA << 1);
	config = (struct shadow_queue_config){
		.guest = { .split = b.driver.split, .memory = b.memory, .features = b.features },
		.back = { .size = RING_SIZE,
			  .features = b.features,
			  .shared = b.back.shared,
			  .shared_addr = RAM_GPA << 2,
			  .private = b.back.private },
		.segs = b.queue_segs,
		.counters = &b.counters,
	};
	require(shadow_queue_init(&b.queue, &config) == 0, "shadow_queue_init");
	device_start(&b.queue.back.split);
}

/* ---- the two ends --------------------------------------------------------- */

static unsigned int notifications;

static void driver_adds(unsigned int batch, uint32_t chain)
{
	struct ring_seg segs[8];

	for (unsigned int i = 0; i < batch; i++) {
		for (uint32_t s = 0; s < chain; s++)
			segs[s] =
				(struct ring_seg){ .addr = RAM_GPA + (i * 8 + s) * 4096 % RAM_BYTES,
						   .len = 512,
						   .writable = s > 0 };
		require(driver_ring_add(&b.driver, segs, chain, i) == 1, "no room");
	}
	driver_ring_publish(&b.driver);
	notifications += driver_ring_must_kick(&b.driver);
}

static void device_works(unsigned int batch)
{
	for (unsigned int i = 0; i < batch; i++) {
		require(device_ring_take(&b.device, &b.chain) == 1, "nothing to take");
		device_ring_complete(&b.device, b.chain.head, (uint32_t)b.chain.writable_bytes);
	}
	device_ring_publish(&b.device);
	notifications += device_ring_must_call(&b.device);
}

static void driver_gets(unsigned int batch)
{
	struct driver_done done;

	for (unsigned int i = 0; i < batch; i++) {
		require(driver_ring_get(&b.driver, &done) == 1, "nothing to get");
		require(done.token == i && !done.clamped, "not what was added");
	}
}

static void shadow_passes(void)
{
	unsigned int owed;

	require(shadow_queue_pass(&b.queue, &owed) >= 0, "the shadow queue broke");
}

static struct cost measure(bool shadow, unsigned int batch, uint32_t chain, uint64_t buffers)
{
	uint64_t batches = buffers / batch, instructions;
	double ns;

	if (shadow)
		shadow_start();
	else
		direct_start();
	ns = now_ns();
	instructions = instructions_now();
	for (uint64_t i = 0; i < batches; i++) {
		driver_adds(batch, chain);
		if (shadow)
			shadow_passes();
		device_works(batch);
		if (shadow)
			shadow_passes();
		driver_gets(batch);
	}
	instructions = instructions_now() - instructions;
	ns = now_ns() - ns;
	return (struct cost){ .ns = ns / (double)(batches * batch),
			      .instructions = (double)instructions / (double)(batches * batch) };
}

/* ---- figures -------------------------------------------------------------- */

static int compare_doubles(const void *x, const void *y)
{
	double a = *(const double *)x, c = *(const double *)y;

	return (a > c) - (a < c);
}

static double median(double *v, unsigned int n)
{
	qsort(v, n, sizeof(*v), compare_doubles);
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static void print_count(FILE *out, const char *name, double v)
{
	if (counter >= 0)
		fprintf(out, ", \"%s\": %.1f", name, v);
	else
		fprintf(out, ", \"%s\": null", name);
}

static void run_case(FILE *out, unsigned int batch, uint32_t chain, bool indirect,
		     unsigned int rounds, uint64_t buffers)
{
	double ns[2][ROUNDS_MAX], instructions[2][ROUNDS_MAX], ring, shadow;

	memory_start(BIT64(VIRTIO_RING_F_EVENT_IDX) |
		     (indirect ? BIT64(VIRTIO_RING_F_INDIRECT_DESC) : 0));
	for (unsigned int s = 0; s < 2; s++) /* warm up */
		(void)measure(s, batch, chain, buffers / 10 + batch);
	for (unsigned int i = 0; i < rounds; i++) {
		for (unsigned int s = 0; s < 2; s++) {
			struct cost c = measure(s, batch, chain, buffers);

			ns[s][i] = c.ns;
			instructions[s][i] = c.instructions;
		}
	}
	memory_stop();
	ring = median(ns[0], rounds);
	shadow = median(ns[1], rounds);
	fprintf(out,
		"{\"case\": \"ring\", \"batch\": %u, \"chain\": %u, \"indirect\": %s, "
		"\"ring_ns\": %.2f, \"shadow_ns\": %.2f",
		batch, chain, indirect ? "true" : "false", ring, shadow);
	print_count(out, "ring_instructions", median(instructions[0], rounds));
	print_count(out, "shadow_instructions", median(instructions[1], rounds));
	fprintf(out, ", \"shadow_over_ring\": %.3f, \"rounds\": %u, \"buffers\": %lu}\n",
		shadow / ring, rounds, (unsigned long)buffers);
	fflush(out);
}

/* Run the loop that @text describes.  Exit status. */
static int run_loop(const char *text)
{
	unsigned int batch, chain, indirect;
	unsigned long buffers;
	char which[8];

	if (sscanf(text, "%7[^,],%u,%u,%u,%lu", which, &batch, &chain, &indirect, &buffers) != 5)
		return 2;
	memory_start(BIT64(VIRTIO_RING_F_EVENT_IDX) |
		     (indirect ? BIT64(VIRTIO_RING_F_INDIRECT_DESC) : 0));
	(void)measure(!strcmp(which, "shadow"), batch, chain, buffers);
	memory_stop();
	return 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "rounds", required_argument, NULL, 'r' },
						 { "buffers", required_argument, NULL, 'b' },
						 { "output", required_argument, NULL, 'o' },
						 { "loop", required_argument, NULL, 'l' },
						 { 0 } };
	static const unsigned int batches[] = { 1, 8, 32 };
	static const struct {
		uint32_t chain;
		bool indirect;
	} shapes[] = { { 1, false }, { 3, false }, { 3, true } };
	unsigned int rounds = 5;
	uint64_t buffers = 2000000;
	FILE *out = stdout;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'r')
			rounds = (unsigned int)strtoul(optarg, NULL, 0);
		else if (option == 'b')
			buffers = strtoull(optarg, NULL, 0);
		else if (option == 'o')
			out = fopen(optarg, "w");
		else
			return option == 'l' ? run_loop(optarg) : 2;
	}
	require(out, "cannot open the output file");
	require(rounds >= 1 && rounds <= ROUNDS_MAX, "--rounds: 1 to 99");
	require(buffers >= 1000, "--buffers: at least 1000");
	counter_open();
	for (size_t s = 0; s < ARRAY_SIZE(shapes); s++)
		for (size_t i = 0; i < ARRAY_SIZE(batches); i++)
			run_case(out, batches[i], shapes[s].chain, shapes[s].indirect, rounds,
				 buffers);
	return fclose(out) ? 1 : 0;
}
