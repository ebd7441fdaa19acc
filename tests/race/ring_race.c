/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Driver and device race over one ring, asleep whenever the ring lets them.
 *
 *	ring_race threads|processes flags|event-idx eventfd|bell
 *		[buffers [size [seconds]]]
 *
 * Both sides suppress notifications while they are awake, arm, look again, and
 * sleep.  So a wake-up that gets lost (a fence too few, an interval judged
 * wrongly) ends with both asleep, and the alarm says so when nothing has come
 * back for `seconds`.
 *
 * eventfd sleeps as programs do.  But a system call takes so long that the two
 * sides seldom meet within the few nanoseconds that a store waits in a store
 * buffer.  bell sleeps on a word of shared memory that only a notification
 * changes, with random pauses that sweep one side's arming over the other's
 * publishing: without shm_fence() it hangs within a second, where eventfd may
 * run for minutes.
 *
 * With processes the ring is shared memory between a parent and its child,
 * mapped at one address in both.
 */
#include <errno.h>
#include <linux/virtio_ring.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "payload.h"
#include "ring/driver_ring.h"

/* What one side rings and the other sleeps on. */
struct ring_bell {
	uint64_t rung;  /* atomic */
	uint64_t heard; /* the sleeper's own */
	int fd;
};

static struct {
	uint64_t buffers;
	uint64_t features;
	uint16_t size;
	struct driver_layout layout;
	uint8_t *shared;
	struct payload *payloads; /* `size` of them, in shared memory */
	struct split_ring split;
	bool bells;
	struct ring_bell *kick, *call; /* to the device, to the driver */
} t;

static void die(const char *what)
{
	perror(what);
	_exit(1);
}

static void notify(struct ring_bell *bell)
{
	uint64_t one = 1;

	if (t.bells)
		__atomic_fetch_add(&bell->rung, 1, __ATOMIC_RELEASE);
	else if (write(bell->fd, &one, sizeof(one)) != sizeof(one))
		die("eventfd write");
}

static void sleep_on(struct ring_bell *bell)
{
	unsigned int spins = 0;
	uint64_t count;

	if (t.bells) {
		do {
			if (++spins % 4096 == 0)
				sched_yield(); /* the other side may want this processor */
			count = __atomic_load_n(&bell->rung, __ATOMIC_ACQUIRE);
		} while (count == bell->heard);
		bell->heard = count;
	} else if (read(bell->fd, &count, sizeof(count)) != sizeof(count)) {
		die("eventfd read");
	}
}

/* Up to some dozen nanoseconds, with bells. */
static void pause_a_little(uint32_t *random)
{
	for (uint32_t i = race_random(random) >> 18; t.bells && i; i--)
		__asm__ volatile("");
}

/* ---- the device ----------------------------------------------------------- */

static void device_run(void)
{
	struct device_ring ring;
	struct ring_chain chain = { .segs = calloc(t.size, sizeof(struct ring_seg)) };
	uint64_t next = 0, sleeps = 0, calls = 0;
	uint32_t random = 1;

	EXPECT(chain.segs);
	device_ring_init(&ring,
			 &(struct device_ring_config){ .split = t.split, .features = t.features });
	while (next < t.buffers) {
		unsigned int batch = 1 + (unsigned int)(next % 61);
		int rc = race_device_answers(&ring, &chain, &next, batch);

		if (device_ring_must_call(&ring)) {
			notify(t.call);
			calls++;
		}
		pause_a_little(&random);
		if (rc == 0 && next < t.buffers && !device_ring_arm(&ring)) {
			sleep_on(t.kick);
			sleeps++;
			device_ring_disarm(&ring);
		}
	}
	printf("device: %lu sleeps, %lu calls\n", sleeps, calls);
	fflush(stdout);
	free(chain.segs);
}

static void *device_thread(void *arg)
{
	(void)arg;
	device_run();
	return NULL;
}

/* ---- the driver ----------------------------------------------------------- */

struct driver_side {
	struct driver_ring ring;
	uint16_t *free_payloads;
	uint32_t free_count;
	uint64_t added, got, sleeps, kicks;
	uint32_t random;
};

static unsigned int add_some(struct driver_side *d, unsigned int want)
{
	unsigned int added = 0;

	while (added < want && d->added < t.buffers && d->free_count) {
		uint16_t i = d->free_payloads[d->free_count - 1];
		struct payload *p = &t.payloads[i];
		struct driver_seg segs[2] = {
			{ .addr = { (uintptr_t)p }, .len = sizeof(p->question) },
			{ .addr = { (uintptr_t)&p->answer },
			  .len = sizeof(p->answer),
			  .writable = 1 },
		};
		uint32_t count = t.size > 1 ? 2 : 1;
		int rc;

		segs[0].writable = count == 1;

		p->question = d->added;
		p->answer = 0;
		rc = driver_ring_add(&d->ring, segs, count, d->added << 16 | i);
		EXPECT(rc >= 0);
		if (rc == 0)
			break;
		d->free_count--;
		d->added++;
		added++;
	}
	driver_ring_publish(&d->ring);
	if (driver_ring_must_kick(&d->ring)) {
		notify(t.kick);
		d->kicks++;
	}
	return added;
}

static unsigned int get_all(struct driver_side *d)
{
	struct driver_done done;
	unsigned int got = 0;
	int rc;

	while ((rc = driver_ring_get(&d->ring, &done)) > 0) {
		uint16_t i = (uint16_t)done.token;

		EXPECT(done.token >> 16 == d->got); /* this device keeps the order */
		EXPECT(done.len == sizeof(uint64_t) && !done.clamped);
		EXPECT(t.payloads[i].answer == ANSWER(d->got));
		d->free_payloads[d->free_count++] = i;
		d->got++;
		got++;
		race_came_back(d->got);
	}
	EXPECT(rc == 0);
	return got;
}

static void driver_sleep(struct driver_side *d)
{
	pause_a_little(&d->random);
	if (driver_ring_arm(&d->ring))
		return;
	sleep_on(t.call);
	d->sleeps++;
	driver_ring_disarm(&d->ring);
}

/*
 * Wake-ups get lost at the edges, so the driver changes its habits: it fills
 * the ring, or gives a few buffers and waits until all have come back, asleep
 * or looking; with bells mostly one buffer, back and forth.
 */
static void driver_run(struct driver_side *d)
{
	unsigned int looks = 0;

	for (unsigned int round = 0; d->got < t.buffers; round++) {
		unsigned int want = t.bells || round % 7 == 0 ? 1 + round % 64 / 63 : t.size;
		bool wait_for_all = t.bells || round % 5 == 0;
		bool asleep = !t.bells || round & 1;

		pause_a_little(&d->random);
		if (!add_some(d, want) && !get_all(d))
			driver_sleep(d);
		do {
			if (!get_all(d) && wait_for_all && asleep &&
			    driver_ring_in_flight(&d->ring))
				driver_sleep(d);
			if (++looks % 4096 == 0)
				sched_yield();
		} while (wait_for_all && driver_ring_in_flight(&d->ring));
	}
	printf("driver: %lu sleeps, %lu kicks\n", d->sleeps, d->kicks);
}

/* ---- both ----------------------------------------------------------------- */

static void set_up(struct driver_side *d, void *private)
{
	size_t ring_bytes = align_up(t.layout.shared_bytes, 4096);
	size_t payload_bytes = align_up(t.size * sizeof(struct payload), 4096);
	size_t bytes = ring_bytes + payload_bytes + 4096;
	int fd = memfd_create("ring_race", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0)
		die("memfd");
	t.shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (t.shared == MAP_FAILED)
		die("mmap");
	close(fd);
	t.payloads = (void *)(t.shared + ring_bytes);
	t.kick = (void *)(t.shared + ring_bytes + payload_bytes);
	t.call = (void *)((uint8_t *)t.kick + 256);
	t.kick->fd = eventfd(0, EFD_CLOEXEC);
	t.call->fd = eventfd(0, EFD_CLOEXEC);
	if (t.kick->fd < 0 || t.call->fd < 0)
		die("eventfd");
	EXPECT(driver_ring_init(&d->ring, &(struct driver_ring_config){
						  .size = t.size,
						  .features = t.features,
						  .shared = t.shared,
						  .shared_addr = { (uintptr_t)t.shared },
						  .private = private }) == 0);
	t.split = d->ring.split;
	for (uint32_t i = 0; i < t.size; i++)
		d->free_payloads[i] = (uint16_t)i;
	d->free_count = t.size;
}

int main(int argc, char **argv)
{
	struct driver_side d = { 0 };
	bool processes, failed = false;
	void *private;

	if (argc < 4) {
		fprintf(stderr, "usage: ring_race threads|processes flags|event-idx eventfd|bell "
				"[buffers [size [seconds]]]\n");
		return 2;
	}
	processes = !strcmp(argv[1], "processes");
	t.features = BIT64(VIRTIO_RING_F_INDIRECT_DESC);
	if (!strcmp(argv[2], "event-idx"))
		t.features |= BIT64(VIRTIO_RING_F_EVENT_IDX);
	t.bells = !strcmp(argv[3], "bell");
	t.buffers = argc > 4 ? strtoull(argv[4], NULL, 0) : 10000000;
	t.size = (uint16_t)(argc > 5 ? strtoul(argv[5], NULL, 0) : 64);
	race_watch(argc > 6 ? (unsigned int)strtoul(argv[6], NULL, 0) : 600);

	t.layout = driver_ring_layout(t.size, t.features, 0);
	private = aligned_alloc(16, align_up(t.layout.private_bytes, 16));
	d.free_payloads = calloc(t.size, sizeof(uint16_t));
	EXPECT(private && d.free_payloads);
	set_up(&d, private);
	if (processes) {
		int status;
		pid_t child = fork();

		if (child < 0)
			die("fork");
		if (child == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL); /* the parent watches for both */
			device_run();
			_exit(0);
		}
		driver_run(&d);
		if (waitpid(child, &status, 0) < 0)
			die("waitpid");
		failed = status != 0;
	} else {
		pthread_t thread;

		if (pthread_create(&thread, NULL, device_thread, NULL))
			die("pthread_create");
		driver_run(&d);
		pthread_join(thread, NULL);
	}
	free(private);
	free(d.free_payloads);
	return failed;
}
