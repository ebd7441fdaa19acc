/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The tests' disk, killed at every step, over its in-flight region.
 *
 *	walk brief|full		(UMBRA_SEED=seed repeats one)
 *	walk wrong
 *
 * Theory of operation.  A guest (ring/driver_ring.h) sends rounds of writes, reads and flushes,
 * one, two or as many as there is room for at once; the disk's queue serves them, and at one
 * of its points (point.h), each in turn, one of these happens:
 *
 *	die	it is gone
 *	stall	it stands still, the guest looks, and goes on with what it sees; then it is gone
 *	hang	the same, and then it goes on
 *	linger	it is taken for dead, but is not: a successor serves the guest to the end, and
 *		then it goes on
 *	again	it is gone, and so is its successor, at each of its points
 *
 * A successor has the ring, the region and the disk, and goes on.  What must be, of all:
 *   - a request that the guest gets back is on the disk, whole, at that moment;
 *   - each is got back once, none is lost;
 *   - none is executed twice, but one that was taken and not published when its executor died;
 *   - just those the successor finds, in the order in which they were taken;
 *   - at the end nothing is in flight.
 * Of "linger": whatever it still changes on the disk that a successor has written was noticed.
 *
 * Of large rings that are full it is every so manieth point, which one is random; "brief" has
 * fewer of them, and of the sizes, too.  "wrong" leaves one kind of store out, or spoils its
 * value, in every life, and the walk must find that; of those kinds for which it need not the
 * reason stands in the table.
 *
 * The seed settles the order of execution, and which points of a large ring are left out.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/virtio_blk.h>
#include <linux/virtio_ring.h>

#include "base/bits.h"
#include "queue.h"
#include "random.h"
#include "ring/driver_ring.h"

#define SIZE_MOST 256u
#define ROUNDS 2u
#define SECTORS_EACH 2u /* of a request: so that one can be written in half */
#define BYTES_EACH (SECTORS_EACH * BLK_SECTOR)
#define REQUESTS_MOST (ROUNDS * SIZE_MOST)
#define PASSES_MOST 4u /* of the back-end, without the guest getting anything */

enum death { NO_DEATH, DIE, STALL, HANG, LINGER, AGAIN, DEATHS };

static const char *const death_names[] = { "none", "die", "stall", "hang", "linger", "again" };

struct shape {
	uint16_t size, base;
	uint16_t many; /* in flight at once; 0: as many as there is room for */
	bool event_idx, tracked;
	struct blk_options options;
};

/* What is wrong in every life. */
struct fault {
	enum blk_store store;
	bool is_lie; /* +1 to the value; else it is left out */
	const char *unseen;
};

struct request {
	uint32_t type;
	bool added, taken, published, got;
	unsigned int begun;
	unsigned int owed; /* how often a back-end died that had taken, and not published it */
	uint64_t order;    /* of being taken */
};

struct buffer {
	struct virtio_blk_outhdr header;
	uint8_t data[BYTES_EACH];
	uint8_t status;
};

static struct {
	struct shape shape;
	/* the guest */
	struct driver_ring guest;
	struct request requests[REQUESTS_MOST];
	unsigned int added, got, rounds_added;
	/* the back-ends: the one at hand, and one that lingers */
	struct blk_queue queues[2];
	struct blk_disk disks[2];
	unsigned int at_hand;
	unsigned int life; /* of which it is */
	bool lingers;      /* nobody but the disk sees what is done now */
	uint64_t numbers, orders;
	/* what happens, and when */
	enum death death;
	uint64_t at[2], points[2]; /* of the first back-end, of its successors */
	const struct fault *fault;
	jmp_buf gone;
} w;

/* When a successor has done all, and one that was taken for dead goes on. */
static struct {
	uint8_t disk[SIZE_MOST * BYTES_EACH];
	uint64_t noticed;
} late;

static uint64_t met[BLK_STORE_COUNT][2], runs, late_changes;

/* Memory that all see. */
static struct {
	struct buffer buffers[SIZE_MOST];
	uint8_t ring[1u << 20] __attribute__((aligned(64)));
	uint8_t region[1u << 13] __attribute__((aligned(64)));
} shared;
static uint8_t guest_private[64 * SIZE_MOST + 1024] __attribute__((aligned(64)));
static struct blk_disk disk;
static const uint8_t *disk_bytes; /* the file, mapped */

/* ---- what must be ------------------------------------------------------------- */

static jmp_buf found;
static bool is_fault_wanted;
static char found_text[256];

static void __attribute__((noreturn)) failed(const char *what, int line)
{
	snprintf(found_text, sizeof(found_text), "line %d: not so: %s", line, what);
	if (is_fault_wanted)
		longjmp(found, 1);
	fprintf(stderr,
		"walk: %s\nsize %u, base %u, %u at once, event_idx %d, order %d, batch %u, seed %lu; "
		"%s at %lu, then at %lu\n",
		found_text, w.shape.size, w.shape.base, w.shape.many, w.shape.event_idx,
		w.shape.options.order, w.shape.options.batch, (unsigned long)w.shape.options.seed,
		death_names[w.death], (unsigned long)w.at[0], (unsigned long)w.at[1]);
	exit(1);
}

#define EXPECT(what)                                                                               \
	do {                                                                                       \
		if (!(what))                                                                       \
			failed(#what, __LINE__);                                                   \
	} while (0)

/* ---- the guest ------------------------------------------------------------------ */

/* Another one in each run, so that none has to begin with an empty disk. */
static uint64_t word_of(unsigned int number)
{
	return (runs << 16 | (number + 1)) * UINT64_C(0x9e3779b97f4a7c15);
}

static void fill(uint8_t *data, unsigned int number)
{
	uint64_t word = word_of(number);

	for (unsigned int i = 0; i < BYTES_EACH; i += sizeof(word))
		memcpy(data + i, &word, sizeof(word));
}

static bool is_filled(const uint8_t *data, unsigned int number)
{
	uint8_t expected[BYTES_EACH];

	fill(expected, number);
	return memcmp(data, expected, sizeof(expected)) == 0;
}

static bool is_on_disk(unsigned int slot, unsigned int number)
{
	return is_filled(disk_bytes + (size_t)slot * BYTES_EACH, number);
}

/* In the first round all write; then some read, one flushes. */
static uint32_t type_of(unsigned int round, unsigned int slot)
{
	if (round == 0 || slot % 3 == 0)
		return VIRTIO_BLK_T_OUT;
	return slot % 3 == 1 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_FLUSH;
}

/* False: there is no room. */
static bool guest_add(unsigned int round, unsigned int slot)
{
	struct buffer *b = &shared.buffers[slot];
	uint32_t type = type_of(round, slot);
	unsigned int number = w.added, count = 0;
	struct driver_seg segs[3];
	int rc;

	segs[count++] = (struct driver_seg){ .addr = { (uintptr_t)&b->header }, .len = 16 };
	if (type != VIRTIO_BLK_T_FLUSH)
		segs[count++] = (struct driver_seg){ .addr = { (uintptr_t)b->data },
						     .len = BYTES_EACH,
						     .writable = type == VIRTIO_BLK_T_IN };
	segs[count++] = (struct driver_seg){ .addr = { (uintptr_t)&b->status },
					     .len = 1,
					     .writable = true };
	rc = driver_ring_add(&w.guest, segs, count, number << 16 | slot);
	EXPECT(rc >= 0);
	if (!rc)
		return false;
	b->header = (struct virtio_blk_outhdr){ .type = type, .sector = slot * SECTORS_EACH };
	b->status = 0xff;
	if (type == VIRTIO_BLK_T_OUT)
		fill(b->data, number);
	else
		memset(b->data, 0, sizeof(b->data));
	w.requests[number] = (struct request){ .type = type, .added = true };
	w.added++;
	return true;
}

static void guest_add_round(void)
{
	unsigned int most = w.shape.many ? w.shape.many : w.shape.size, slot = 0;

	while (slot < most && guest_add(w.rounds_added, slot))
		slot++;
	EXPECT(slot);
	w.rounds_added++;
	driver_ring_publish(&w.guest);
}

static void guest_judge(const struct driver_done *done)
{
	unsigned int slot = done->token & 0xffff, number = (unsigned int)(done->token >> 16);
	struct request *r = &w.requests[number];
	const struct buffer *b = &shared.buffers[slot];

	EXPECT(r->added && !r->got);
	EXPECT(!done->clamped && b->status == VIRTIO_BLK_S_OK);
	EXPECT(done->len == (r->type == VIRTIO_BLK_T_IN ? BYTES_EACH + 1u : 1u));
	if (r->type == VIRTIO_BLK_T_OUT)
		EXPECT(is_on_disk(slot, number));
	if (r->type == VIRTIO_BLK_T_IN)
		EXPECT(is_filled(b->data, slot));
	r->got = true;
	w.got++;
}

/* Returns how many came back. */
static unsigned int guest_get(void)
{
	struct driver_done done;
	unsigned int count = 0;
	int rc;

	while ((rc = driver_ring_get(&w.guest, &done)) == 1) {
		guest_judge(&done);
		count++;
	}
	EXPECT(rc == 0);
	if (w.got == w.added && w.rounds_added < ROUNDS)
		guest_add_round();
	return count;
}

/* ---- the back-end ----------------------------------------------------------------- */

static uint8_t *memory_find(void *opaque, uint64_t gpa, uint64_t len)
{
	uintptr_t start = (uintptr_t)&shared;

	(void)opaque;
	return gpa >= start && gpa - start <= sizeof(shared) &&
			       len <= sizeof(shared) - (gpa - start)
		       ? (uint8_t *)&shared + (gpa - start)
		       : NULL;
}

static struct request *request_of(const struct blk_taken *taken)
{
	uint64_t token;
	uint16_t age;

	EXPECT(driver_ring_peek(&w.guest, taken->head, &token, &age));
	return &w.requests[token >> 16];
}

static void serve_to_the_end(void);
static void judge_end(void);

static void note_death(void)
{
	for (unsigned int i = 0; i < w.added; i++)
		w.requests[i].owed += w.requests[i].taken && !w.requests[i].published;
	w.life++;
}

/* A successor does all, while the one at hand stands still, and then goes on. */
static void linger(void)
{
	note_death();
	w.at_hand = 1;
	serve_to_the_end();
	judge_end();
	w.at_hand = 0;
	memcpy(late.disk, disk_bytes, w.shape.size * BYTES_EACH);
	late.noticed = disk.generations->late;
	w.lingers = true;
}

static void strike(void)
{
	switch (w.death) {
	case STALL:
		guest_get();
		break;
	case HANG:
		guest_get();
		return;
	case LINGER:
		linger();
		return;
	default:
		break;
	}
	longjmp(w.gone, 1);
}

/* What the test knows of what the back-end does. */
static void observe(const struct blk_point *p)
{
	enum blk_store taking = w.shape.tracked ? BLK_FLIGHT_SET : BLK_TAKE;

	met[p->store][p->after]++;
	if (p->store == taking && p->after) {
		struct request *r = request_of(p->about);

		EXPECT(!r->taken);
		r->taken = true;
		r->order = w.orders++;
	}
	if (p->store == BLK_EXECUTE && !p->after)
		request_of(p->about)->begun++;
	if (p->store == BLK_USED_IDX && p->after)
		for (unsigned int i = 0; i < p->about_count; i++)
			request_of(&p->about[i])->published = true;
}

static enum blk_verdict reach(void *opaque, struct blk_point *p)
{
	unsigned int which = w.life > 0;

	(void)opaque;
	if (w.lingers)
		return BLK_GO_ON;
	observe(p);
	if (++w.points[which] == w.at[which])
		strike();
	if (p->after || !w.fault || w.fault->store != p->store)
		return BLK_GO_ON;
	p->value++;
	return w.fault->is_lie ? BLK_GO_ON : BLK_SKIP;
}

/* A successor finds what is owed, and nothing else, in the order in which it was taken. */
static void judge_found(const struct blk_queue *q)
{
	unsigned int owed = 0;

	for (unsigned int i = 0; i < w.added; i++)
		owed += w.requests[i].taken && !w.requests[i].published;
	EXPECT(q->taken_count == owed);
	for (unsigned int i = 0; i < owed; i++) {
		const struct request *r = request_of(&q->taken[i]);

		EXPECT(r->taken && !r->published);
		EXPECT(i == 0 || request_of(&q->taken[i - 1])->order < r->order);
	}
}

static void back_begin(void)
{
	static const struct blk_hook hook = { NULL, reach };
	static const struct blk_memory memory = { NULL, memory_find };
	struct blk_queue *q = &w.queues[w.at_hand];
	const struct split_ring *ring = &w.guest.split;
	struct umbra_error err;

	w.disks[w.at_hand] = disk;
	blk_disk_renew(&w.disks[w.at_hand]);
	*q = (struct blk_queue){
		.hook = &hook,
		.options = &w.shape.options,
		.memory = &memory,
		.disk = &w.disks[w.at_hand],
		.numbers = &w.numbers,
		.ring = { ring->size, ring->desc, ring->avail, ring->used },
		.region = w.shape.tracked ? (struct blk_region *)shared.region : NULL,
		.event_idx = w.shape.event_idx,
		.call_fd = -1,
	};
	/* As a front-end does that has lost its back-end: from the used index on. */
	EXPECT(blk_queue_start(q, (uint16_t)(driver_ring_said(&w.guest).used), &err) == 0);
	if (w.life && w.shape.tracked)
		judge_found(q);
}

static void serve_to_the_end(void)
{
	/* volatile: what longjmp() comes back to counts on */
	volatile unsigned int passes = 0;
	const volatile bool is_successor = w.at_hand == 1;

	/* Who died when all was done has a successor, too. */
	while (w.got < w.added || w.rounds_added < ROUNDS || !w.queues[w.at_hand].running) {
		struct blk_queue *q = &w.queues[w.at_hand];

		passes = passes + 1;
		EXPECT(passes < PASSES_MOST + ROUNDS);
		if (setjmp(w.gone) == 0) {
			if (!q->running)
				back_begin();
			blk_queue_serve(q);
			if (w.lingers && !is_successor)
				return;
			EXPECT(!q->broken.text[0]);
		} else {
			note_death();
			blk_queue_forget(&w.queues[w.at_hand]);
		}
		guest_get();
	}
}

/* ---- a run --------------------------------------------------------------------------- */

static void world_begin(const struct shape *shape)
{
	uint64_t features = BIT64(VIRTIO_RING_F_INDIRECT_DESC) |
			    (shape->event_idx ? BIT64(VIRTIO_RING_F_EVENT_IDX) : 0);
	struct driver_ring_config config = {
		.size = shape->size,
		.features = features,
		.shared = shared.ring,
		.shared_addr = { (uintptr_t)shared.ring },
		.private = guest_private,
		.base = ring_position_split(shape->base),
		.table_max = 4,
	};
	struct driver_layout layout = driver_ring_layout(shape->size, features, 4);

	EXPECT(layout.shared_bytes <= sizeof(shared.ring));
	EXPECT(layout.private_bytes <= sizeof(guest_private));
	EXPECT(blk_region_bytes(shape->size) <= sizeof(shared.region));
	for (unsigned int i = 0; i < 2; i++)
		blk_queue_forget(&w.queues[i]);
	w.shape = *shape;
	w.added = w.got = w.rounds_added = w.at_hand = w.life = 0;
	w.numbers = w.orders = w.points[0] = w.points[1] = 0;
	w.lingers = false;
	memset(shared.region, 0, sizeof(shared.region));
	EXPECT(driver_ring_init(&w.guest, &config) == 0);
	runs++;
	guest_add_round();
}

static void judge_end(void)
{
	const struct blk_region *region = (const struct blk_region *)shared.region;

	for (unsigned int i = 0; i < w.added; i++) {
		const struct request *r = &w.requests[i];

		EXPECT(r->got);
		EXPECT(r->begun >= 1 && r->begun <= 1 + r->owed);
	}
	if (!w.shape.tracked)
		return;
	EXPECT(region->used_idx == driver_ring_said(&w.guest).used);
	for (unsigned int i = 0; i < w.shape.size; i++)
		EXPECT(!region->desc[i].inflight);
}

/* The one that was taken for dead is done: was it noticed? */
static void judge_late(void)
{
	unsigned int changed = 0;

	for (size_t i = 0; i < w.shape.size * BYTES_EACH; i += BLK_SECTOR)
		changed += memcmp(disk_bytes + i, late.disk + i, BLK_SECTOR) != 0;
	EXPECT(disk.generations->late - late.noticed >= changed);
	late_changes += changed;
}

static void run(const struct shape *shape, enum death death, uint64_t first, uint64_t second)
{
	w.death = death;
	w.at[0] = first;
	w.at[1] = second;
	world_begin(shape);
	serve_to_the_end();
	if (w.lingers)
		judge_late();
	else
		judge_end();
}

/* ---- the walk -------------------------------------------------------------------------- */

/* Each death at every @step-th point; two deaths at every @again-th one, if not 0. */
static void walk(const struct shape *shape, unsigned int step, unsigned int again)
{
	uint64_t points;

	run(shape, NO_DEATH, 0, 0);
	points = w.points[0];
	for (enum death death = DIE; death < AGAIN; death++)
		for (uint64_t at = 1 + below(step); at <= points; at += step)
			run(shape, death, at, 0);
	for (uint64_t at = 1; again && at <= points; at += again) {
		uint64_t second = 1;

		do
			run(shape, AGAIN, at, second);
		while (w.points[1] >= second++);
	}
}

static struct blk_options options_of(enum blk_order order, unsigned int batch, unsigned int depth)
{
	return (struct blk_options){ order, random64(), batch, depth };
}

/* The shapes for a ring of @size.  Of "brief", two for each number in flight. */
static void walk_size(uint16_t size, bool full)
{
	/* The index passes 65535 within the first round, or between two of a batch. */
	const uint16_t bases[] = { 65535, 0, (uint16_t)(65536 - MAX(size / 2, 2)) };
	const uint16_t manies[] = { 1, 2, 0 };

	for (unsigned int i = 0; i < 3; i++) {
		bool large = manies[i] == 0 && size > 8;
		unsigned int step = large ? (full ? size / 2u : size * 2u) - 1 : 1;

		if (manies[i] > size || (manies[i] == 0 && size <= 2))
			continue;
		for (unsigned int variant = full && size <= 8 ? 0 : i; variant < 6;
		     variant += full && size <= 8 ? 1 : 3) {
			struct shape shape = { .size = size,
					       .base = bases[variant % 3],
					       .many = manies[i],
					       .event_idx = variant & 1,
					       .tracked = true,
					       .options = options_of(variant % 3, variant % 4,
								     variant == 5 ? 3 : 0) };

			walk(&shape, step, size > 2 || variant ? 0 : full ? 1 : 13);
		}
	}
}

static int walk_all(bool full)
{
	random_begin_anew();
	for (unsigned int size = 1; size <= SIZE_MOST; size *= 2)
		if (full || size <= 4 || size == 16 || size == SIZE_MOST)
			walk_size((uint16_t)size, full);
	/* What was never done shows nothing. */
	for (enum blk_store s = BLK_TAKE; s < BLK_STORE_COUNT; s++)
		if (!met[s][0] || !met[s][1]) {
			fprintf(stderr, "walk: never came by %s\n", blk_store_name(s));
			return 1;
		}
	printf("walk: %lu runs; %lu sectors spoilt by one that was taken for dead, all noticed\n",
	       (unsigned long)runs, (unsigned long)late_changes);
	return late_changes ? 0 : 1;
}

/* ---- what is wrong must be found ---------------------------------------------------------- */

static const struct fault faults[] = {
	{ BLK_TAKE, false, "no store: it cannot be left out" },
	{ BLK_AVAIL_EVENT, false, "the guest here is served without a kick" },
	{ BLK_EXECUTE, false, "no store" },
	{ BLK_DISK_READ, false, NULL },
	{ BLK_DISK_WRITE, false, NULL },
	{ BLK_DISK_WRITE, true, NULL },
	{ BLK_DISK_GENERATION, false, NULL },
	{ BLK_DISK_FLUSH, false, "the host is not killed here" },
	{ BLK_GUEST_DATA, false, NULL },
	{ BLK_GUEST_DATA, true, NULL },
	{ BLK_GUEST_STATUS, false, NULL },
	{ BLK_GUEST_STATUS, true, NULL },
	{ BLK_USED_ID, false, NULL },
	{ BLK_USED_ID, true, NULL },
	{ BLK_USED_LEN, false, NULL },
	{ BLK_USED_LEN, true, NULL },
	{ BLK_USED_IDX, false, NULL },
	{ BLK_USED_IDX, true, NULL },
	{ BLK_CALL, false, "the guest here looks by itself" },
	{ BLK_FLIGHT_DESC_NUM, false, NULL },
	{ BLK_FLIGHT_DESC_NUM, true, NULL },
	{ BLK_FLIGHT_VERSION, false, NULL },
	{ BLK_FLIGHT_VERSION, true, NULL },
	{ BLK_FLIGHT_COUNTER, false, NULL },
	{ BLK_FLIGHT_COUNTER, true, "only the order of the counters counts" },
	{ BLK_FLIGHT_SET, false, NULL },
	{ BLK_FLIGHT_SET, true, "anything but 0 is in flight" },
	{ BLK_FLIGHT_NEXT, false, NULL },
	{ BLK_FLIGHT_NEXT, true, NULL },
	{ BLK_FLIGHT_BATCH, false, NULL },
	{ BLK_FLIGHT_BATCH, true, NULL },
	{ BLK_FLIGHT_CLEAR, false, NULL },
	{ BLK_FLIGHT_CLEAR, true, NULL },
	{ BLK_FLIGHT_USED_IDX, false, NULL },
	{ BLK_FLIGHT_USED_IDX, true, NULL },
	{ BLK_FLIGHT_UNDO, false, NULL },
	{ BLK_FLIGHT_UNDO, true, NULL },
};

static bool is_found(const struct shape *shape, const struct fault *fault)
{
	w.fault = fault;
	is_fault_wanted = true;
	if (setjmp(found) == 0) {
		walk(shape, 1, 0);
		is_fault_wanted = false;
	}
	w.fault = NULL;
	return is_fault_wanted;
}

static int walk_wrong(void)
{
	struct shape shape = { .size = 4,
			       .base = 65533,
			       .event_idx = true,
			       .tracked = true,
			       .options = { .order = BLK_ORDER_RANDOM, .batch = 2 } };
	int wrong = 0;

	for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
		const struct fault *f = &faults[i];
		bool is = is_found(&shape, f);

		printf("%s %s: %s\n", blk_store_name(f->store), f->is_lie ? "spoilt" : "left out",
		       is          ? found_text
		       : f->unseen ? f->unseen
				   : "NOT FOUND");
		wrong += is == (f->unseen != NULL);
	}
	shape.tracked = false;
	if (!is_found(&shape, NULL)) {
		printf("without a region: NOT FOUND\n");
		wrong++;
	}
	return wrong ? 1 : 0;
}

/* ---- the program ----------------------------------------------------------------------------- */

static void make_disk(void)
{
	int file = memfd_create("disk", MFD_CLOEXEC);
	int generations = memfd_create("generations", MFD_CLOEXEC);
	struct umbra_error err;

	if (file < 0 || generations < 0 || ftruncate(file, SIZE_MOST * BYTES_EACH) ||
	    blk_disk_open_at(&disk, file, generations, &err))
		abort();
	disk_bytes = mmap(NULL, SIZE_MOST * BYTES_EACH, PROT_READ, MAP_SHARED, file, 0);
	if (disk_bytes == MAP_FAILED)
		abort();
	close(file);
	close(generations);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	int status = 2;

	make_disk();
	if (!strcmp(what, "brief") || !strcmp(what, "full"))
		status = walk_all(!strcmp(what, "full"));
	else if (!strcmp(what, "wrong"))
		status = walk_wrong();
	else
		fprintf(stderr, "usage: walk brief|full|wrong\n");
	for (unsigned int i = 0; i < 2; i++)
		blk_queue_forget(&w.queues[i]);
	blk_disk_close(&disk);
	return status;
}
