/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a buffer costs on a ring, and with a shadow queue between two rings.
 *
 *	ring [--rounds=N] [--buffers=N] [--output=FILE]
 *	ring --loop=ring|shadow,BATCH,CHAIN,INDIRECT,BUFFERS[,REGIONS,TRANSLATED]
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
 * The cases named "regions" ask what looking addresses up costs: the guest's
 * memory is 1, 8 or 64 regions, each chain's segments lie in regions at random,
 * and the device sees them where the guest does or, translated, elsewhere.  The
 * layouts are measured in turn in each round.  The device at the end looks
 * nothing up that depends on the layout, so that all differences are the shadow
 * queue's.
 *
 * One JSON object a line:
 *	case		"ring" or "regions"
 *	regions, translated	of "regions": the layout
 *	batch, chain	buffers published at a time; segments of a buffer
 *	indirect	whether INDIRECT_DESC is negotiated on both rings
 *	ring_ns, shadow_ns			nanoseconds per buffer, of this
 *						thread's processor time
 *	ring_instructions, shadow_instructions	per buffer, or null
 *	shadow_over_ring			shadow_ns / ring_ns
 *	shadow_over_one_region			of "regions": shadow_ns by that of
 *						one region that is not translated
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

#include "queue/shadow_queue.h"

#define RING_SIZE 256u /* entries, both rings */
#define RAM_GPA UINT64_C(0x100000000)
#define RAM_BYTES (1u << 20)
#define ROUNDS_MAX 99u
#define CHAIN_MAX 8u
#define ADDRESSES 8192u /* buffers spread over regions; a power of two */
#define REGION_BYTES (UINT64_C(1) << 30)
#define IOVA UINT64_C(0x10000000000) /* far above the guest's addresses */

struct ring_memory {
	struct driver_layout layout;
	void *shared, *private;
};

/* Where the guest's buffers lie. */
struct layout {
	struct memory *memory;        /* the guest's */
	struct memory *device_memory; /* the same, as the device sees it */
	uint64_t *addresses;          /* of buffers, taken in turn */
	uint32_t address_mask;        /* their number less 1 */
	bool advances;                /* each batch goes on where the last one ended */
};

static struct {
	uint64_t features;
	struct ring_memory guest, back;
	struct layout layout;
	uint32_t address_at;
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

static void rings_start(uint64_t features)
{
	b.features = features;
	b.guest.layout = b.back.layout = driver_ring_layout(RING_SIZE, features, 0);
	for (unsigned int i = 0; i < 2; i++) {
		struct ring_memory *m = i ? &b.back : &b.guest;

		m->shared = aligned_alloc(4096, align_up(m->layout.shared_bytes, 4096));
		m->private = aligned_alloc(64, align_up(m->layout.private_bytes, 64));
		require(m->shared && m->private, "no memory");
		memset(m->shared, 0, m->layout.shared_bytes);
	}
	b.chain.segs = b.device_segs;
}

static void rings_stop(void)
{
	free(b.guest.shared);
	free(b.guest.private);
	free(b.back.shared);
	free(b.back.private);
}

/* One region of buffers, used over and over, and the rings' tables. */
static void layout_plain(struct layout *l)
{
	struct memory_region regions[3];

	*l = (struct layout){ .address_mask = RAM_BYTES / 4096 - 1 };
	b.ram = aligned_alloc(4096, RAM_BYTES);
	l->addresses = calloc(l->address_mask + 1, sizeof(*l->addresses));
	require(b.ram && l->addresses, "no memory");
	regions[0] = (struct memory_region){
		.gpa = { RAM_GPA }, .uva = { RAM_GPA }, .size = RAM_BYTES, .host = b.ram
	};
	for (unsigned int i = 0; i < 2; i++)
		regions[1 + i] =
			(struct memory_region){ .gpa = { RAM_GPA << (i + 1) },
						.uva = { RAM_GPA << (i + 1) },
						.size = b.guest.layout.shared_bytes,
						.host = i ? b.back.shared : b.guest.shared };
	require(memory_create(regions, 3, &l->memory, NULL) == 0, "memory_create");
	l->device_memory = memory_ref(l->memory);
	for (uint32_t i = 0; i <= l->address_mask; i++)
		l->addresses[i] = RAM_GPA + 4096ul * i;
}

static uint64_t random_next(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 33;
}

/*
 * @count regions, one behind the other; a device that is told @translated sees
 * them apart and the other way round.  Nobody looks into the buffers, so there is
 * no memory behind.
 */
static void layout_spread(struct layout *l, unsigned int count, bool translated)
{
	struct memory_region regions[64], all = {
		.gpa = { 4096 }, .uva = { 4096 }, .size = 4 * IOVA, .host = (uint8_t *)4096
	};
	uint64_t seed = 1;

	require(count >= 1 && count <= ARRAY_SIZE(regions), "1 to 64 regions");
	*l = (struct layout){ .address_mask = ADDRESSES - 1, .advances = true };
	l->addresses = calloc(ADDRESSES, sizeof(*l->addresses));
	require(l->addresses, "no memory");
	for (unsigned int i = 0; i < count; i++) {
		uint64_t gpa = RAM_GPA + i * REGION_BYTES;

		regions[i] = (struct memory_region){ .gpa = { gpa },
						     .uva = { gpa },
						     .size = REGION_BYTES,
						     .host = (uint8_t *)(uintptr_t)gpa };
	}
	require(memory_create(regions, count, &l->memory, NULL) == 0, "memory_create");
	require(memory_create(&all, 1, &l->device_memory, NULL) == 0, "memory_create");
	for (unsigned int i = 0; translated && i < count; i++)
		l->memory->regions[i].iova = IOVA + 2 * (count - i) * REGION_BYTES;
	l->memory->translated = translated;
	for (unsigned int i = 0; i < ADDRESSES; i++) {
		uint64_t region = random_next(&seed) % count;
		uint64_t page = random_next(&seed) % (REGION_BYTES / 4096);

		l->addresses[i] = RAM_GPA + region * REGION_BYTES + page * 4096;
	}
}

static void layout_free(struct layout *l)
{
	memory_unref(&l->memory);
	memory_unref(&l->device_memory);
	free(l->addresses);
	free(b.ram);
	b.ram = NULL;
}

static void device_start(const struct split_ring *split)
{
	device_ring_init(&b.device, &(struct device_ring_config){ .split = *split,
								  .memory = b.layout.device_memory,
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
		.guest = { .split = b.driver.split,
			   .memory = b.layout.memory,
			   .features = b.features },
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
	const struct layout *l = &b.layout;
	struct ring_seg segs[CHAIN_MAX];
	uint32_t at = b.address_at;

	for (unsigned int i = 0; i < batch; i++) {
		for (uint32_t s = 0; s < chain; s++)
			segs[s] =
				(struct ring_seg){ .addr = l->addresses[(at + s) & l->address_mask],
						   .len = 512,
						   .writable = s > 0 };
		require(driver_ring_add(&b.driver, segs, chain, i) == 1, "no room");
		at += CHAIN_MAX;
	}
	b.address_at = l->advances ? at : 0;
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

/* What is measured in all cases, and how long. */
struct plan {
	FILE *out;
	unsigned int rounds, batch;
	uint32_t chain;
	bool indirect;
	uint64_t buffers;
};

/* By round; without a shadow queue, and with one. */
struct figures {
	double ns[2][ROUNDS_MAX], instructions[2][ROUNDS_MAX];
};

static uint64_t features_of(bool indirect)
{
	return BIT64(VIRTIO_RING_F_EVENT_IDX) | (indirect ? BIT64(VIRTIO_RING_F_INDIRECT_DESC) : 0);
}

static void warm_up(const struct plan *p)
{
	for (unsigned int s = 0; s < 2; s++)
		(void)measure(s, p->batch, p->chain, p->buffers / 10 + p->batch);
}

static void run_round(const struct plan *p, struct figures *f, unsigned int round)
{
	for (unsigned int s = 0; s < 2; s++) {
		struct cost c = measure(s, p->batch, p->chain, p->buffers);

		f->ns[s][round] = c.ns;
		f->instructions[s][round] = c.instructions;
	}
}

/* All of a line but its beginning and its end.  Returns shadow_ns. */
static double print_figures(const struct plan *p, struct figures *f)
{
	double ring = median(f->ns[0], p->rounds), shadow = median(f->ns[1], p->rounds);

	fprintf(p->out,
		"\"batch\": %u, \"chain\": %u, \"indirect\": %s, \"ring_ns\": %.2f, "
		"\"shadow_ns\": %.2f",
		p->batch, p->chain, p->indirect ? "true" : "false", ring, shadow);
	print_count(p->out, "ring_instructions", median(f->instructions[0], p->rounds));
	print_count(p->out, "shadow_instructions", median(f->instructions[1], p->rounds));
	fprintf(p->out, ", \"shadow_over_ring\": %.3f, \"rounds\": %u, \"buffers\": %lu",
		shadow / ring, p->rounds, (unsigned long)p->buffers);
	return shadow;
}

static void run_case(const struct plan *p)
{
	static struct figures figures;

	rings_start(features_of(p->indirect));
	layout_plain(&b.layout);
	warm_up(p);
	for (unsigned int i = 0; i < p->rounds; i++)
		run_round(p, &figures, i);
	layout_free(&b.layout);
	rings_stop();
	fprintf(p->out, "{\"case\": \"ring\", ");
	(void)print_figures(p, &figures);
	fprintf(p->out, "}\n");
	fflush(p->out);
}

static void run_regions(const struct plan *p)
{
	static const unsigned int counts[] = { 1, 8, 64 };
	static struct figures figures[2 * ARRAY_SIZE(counts)];
	struct layout layouts[ARRAY_SIZE(figures)];
	double one = 0;

	rings_start(features_of(p->indirect));
	for (size_t k = 0; k < ARRAY_SIZE(layouts); k++) {
		layout_spread(&layouts[k], counts[k / 2], k % 2);
		b.layout = layouts[k];
		warm_up(p);
	}
	for (unsigned int i = 0; i < p->rounds; i++) {
		for (size_t k = 0; k < ARRAY_SIZE(layouts); k++) {
			b.layout = layouts[k];
			run_round(p, &figures[k], i);
		}
	}
	for (size_t k = 0; k < ARRAY_SIZE(layouts); k++) {
		double shadow;

		fprintf(p->out, "{\"case\": \"regions\", \"regions\": %u, \"translated\": %s, ",
			counts[k / 2], k % 2 ? "true" : "false");
		shadow = print_figures(p, &figures[k]);
		if (k == 0)
			one = shadow;
		fprintf(p->out, ", \"shadow_over_one_region\": %.3f}\n", shadow / one);
		layout_free(&layouts[k]);
	}
	fflush(p->out);
	rings_stop();
}

/* Run the loop that @text describes.  Exit status. */
static int run_loop(const char *text)
{
	unsigned int batch, chain, indirect, regions, translated;
	unsigned long buffers;
	char which[8];
	int n = sscanf(text, "%7[^,],%u,%u,%u,%lu,%u,%u", which, &batch, &chain, &indirect,
		       &buffers, &regions, &translated);

	if ((n != 5 && n != 7) || chain > CHAIN_MAX)
		return 2;
	rings_start(features_of(indirect));
	if (n == 7)
		layout_spread(&b.layout, regions, translated);
	else
		layout_plain(&b.layout);
	(void)measure(!strcmp(which, "shadow"), batch, chain, buffers);
	layout_free(&b.layout);
	rings_stop();
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
	struct plan p = { .out = stdout, .rounds = 5, .buffers = 2000000 };
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'r')
			p.rounds = (unsigned int)strtoul(optarg, NULL, 0);
		else if (option == 'b')
			p.buffers = strtoull(optarg, NULL, 0);
		else if (option == 'o')
			p.out = fopen(optarg, "w");
		else
			return option == 'l' ? run_loop(optarg) : 2;
	}
	require(p.out, "cannot open the output file");
	require(p.rounds >= 1 && p.rounds <= ROUNDS_MAX, "--rounds: 1 to 99");
	require(p.buffers >= 1000, "--buffers: at least 1000");
	counter_open();
	for (size_t s = 0; s < ARRAY_SIZE(shapes); s++) {
		p.chain = shapes[s].chain;
		p.indirect = shapes[s].indirect;
		for (size_t i = 0; i < ARRAY_SIZE(batches); i++) {
			p.batch = batches[i];
			run_case(&p);
		}
	}
	p.batch = 32;
	p.indirect = false;
	for (p.chain = 1; p.chain <= 3; p.chain += 2)
		run_regions(&p);
	return fclose(p.out) ? 1 : 0;
}
