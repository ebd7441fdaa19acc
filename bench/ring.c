/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a buffer costs on a ring, and with a shadow queue between two rings.
 *
 *	ring --measure=ring|shadow,BATCH,CHAIN,INDIRECT,BUFFERS[,REGIONS,TRANSLATED]
 *	ring --loop=...	the same words
 *
 * ring    one ring used directly, in one thread: the driver adds and publishes
 *	   a batch, the device takes, completes and publishes it, the driver gets
 *	   it back.  Both ask whether they must notify.
 * shadow  the same driver on a guest's ring and the same device on the shadow
 *	   ring; a shadow queue between them passes the batch on, and back.
 *
 * BATCH buffers are published at a time, each of CHAIN segments, BUFFERS in all;
 * INDIRECT (0 or 1): INDIRECT_DESC is negotiated on both rings.  With REGIONS the
 * guest's memory is so many, each chain's segments lie in regions at random, and the
 * device sees them where the guest does or, TRANSLATED (1), elsewhere.  The device
 * at the end looks nothing up that depends on them, so that all differences are the
 * shadow queue's.
 *
 * --measure warms up and prints one JSON object, of one buffer:
 *	ns		of this thread's processor time
 *	instructions	user-space ones from the processor's counter
 *			(perf_event_open); null where there is none
 * --loop prints nothing: under valgrind two lengths of it differ by the loop's
 * instructions and nothing else.  ring.py beside this file runs both.
 */
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
								  .shared_addr = { addr },
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
		l->memory->regions[i].iova.v = IOVA + 2 * (count - i) * REGION_BYTES;
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

static struct flight_table *flights_start(void)
{
	static uint8_t memory[RING_SIZE * 64] __attribute__((aligned(FLIGHT_ALIGN)));
	static struct flight list[RING_SIZE];
	static struct flight_table flights;
	const struct flight_config config = { .sizes = { .heads = RING_SIZE, .ids = RING_SIZE },
					      .memory = memory,
					      .list = list };

	require(flight_bytes(&config.sizes) <= sizeof(memory), "a flight table of the ring's size");
	require(flight_format(&flights, &config) == 0, "flight_format");
	return &flights;
}

static void shadow_start(bool is_kept)
{
	static uint8_t region[sizeof(struct region_queue) + RING_SIZE * sizeof(struct region_desc)]
		__attribute__((aligned(REGION_ALIGN)));
	struct shadow_queue_config config;

	driver_start(&b.driver, &b.guest, RAM_GPA << 1);
	config = (struct shadow_queue_config){
		.guest = { .split = b.driver.split,
			   .memory = b.layout.memory,
			   .features = b.features },
		.back = { .size = RING_SIZE,
			  .features = b.features,
			  .shared = b.back.shared,
			  .shared_addr = { RAM_GPA << 2 },
			  .private = b.back.private },
		.segs = b.queue_segs,
		.counters = &b.counters,
		.flights = flights_start(),
	};
	if (is_kept)
		flight_keep(config.flights, (void *)region, RING_SIZE);
	require(shadow_queue_init(&b.queue, &config) == 0, "shadow_queue_init");
	device_start(&b.queue.back.split);
}

/* ---- the two ends --------------------------------------------------------- */

static unsigned int notifications;

static void driver_adds(unsigned int batch, uint32_t chain)
{
	const struct layout *l = &b.layout;
	struct driver_seg segs[CHAIN_MAX];
	uint32_t at = b.address_at;

	for (unsigned int i = 0; i < batch; i++) {
		for (uint32_t s = 0; s < chain; s++)
			segs[s] = (struct driver_seg){
				.addr = { l->addresses[(at + s) & l->address_mask] },
				.len = 512,
				.writable = s > 0
			};
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

/* What is between the driver and the device: nothing, or a shadow queue that writes a flight table,
 * or an in-flight region, too. */
enum between { BETWEEN_NOTHING, BETWEEN_SHADOW, BETWEEN_KEPT };

__attribute__((noinline)) static struct cost measure(enum between between, unsigned int batch,
						     uint32_t chain, uint64_t buffers)
{
	uint64_t batches = buffers / batch, instructions;
	bool shadow = between != BETWEEN_NOTHING;
	double ns;

	if (shadow)
		shadow_start(between == BETWEEN_KEPT);
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

/* ---- the program ---------------------------------------------------------- */

/* What is asked for. */
struct loop {
	enum between between;
	bool is_spread, translated;
	unsigned int batch, chain, indirect, regions;
	unsigned long buffers;
};

static bool parse_loop(const char *text, struct loop *l)
{
	unsigned int translated = 0;
	char which[8];
	int n = sscanf(text, "%7[^,],%u,%u,%u,%lu,%u,%u", which, &l->batch, &l->chain, &l->indirect,
		       &l->buffers, &l->regions, &translated);

	l->between = !strcmp(which, "kept")     ? BETWEEN_KEPT
		     : !strcmp(which, "shadow") ? BETWEEN_SHADOW
						: BETWEEN_NOTHING;
	l->is_spread = n == 7;
	l->translated = translated;
	return (n == 5 || n == 7) && (l->between || !strcmp(which, "ring")) && l->batch &&
	       l->batch <= RING_SIZE && l->chain && l->chain <= CHAIN_MAX;
}

static void print_cost(struct cost cost)
{
	printf("{\"ns\": %.3f, ", cost.ns);
	if (counter >= 0)
		printf("\"instructions\": %.1f}\n", cost.instructions);
	else
		printf("\"instructions\": null}\n");
}

static void run(const struct loop *l, bool prints)
{
	struct cost cost;

	rings_start(BIT64(VIRTIO_RING_F_EVENT_IDX) |
		    (l->indirect ? BIT64(VIRTIO_RING_F_INDIRECT_DESC) : 0));
	if (l->is_spread)
		layout_spread(&b.layout, l->regions, l->translated);
	else
		layout_plain(&b.layout);
	if (prints) {
		counter_open();
		(void)measure(l->between, l->batch, l->chain, l->buffers / 10 + l->batch);
	}
	cost = measure(l->between, l->batch, l->chain, l->buffers);
	if (prints)
		print_cost(cost);
	layout_free(&b.layout);
	rings_stop();
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "measure", required_argument, NULL, 'm' },
						 { "loop", required_argument, NULL, 'l' },
						 { 0 } };
	struct loop loop = { 0 };
	int option = getopt_long(argc, argv, "", options, NULL);

	if ((option != 'm' && option != 'l') || optind != argc || !parse_loop(optarg, &loop)) {
		fprintf(stderr,
			"usage: ring --measure|--loop=ring|shadow|kept,BATCH,CHAIN,INDIRECT,"
			"BUFFERS[,REGIONS,TRANSLATED]\n");
		return 2;
	}
	run(&loop, option == 'm');
	return 0;
}
