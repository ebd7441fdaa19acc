/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A worker forwards between two rings, is given the queue and loses it again and
 * again, and no wake-up is lost.
 *
 *	worker_race flags|event-idx [buffers [size [seconds]]]
 *
 *	guest thread --ring--> worker (shadow queue) --ring--> device thread
 *
 * All three sleep on eventfds whenever their rings let them; the main thread
 * takes the queue from the worker and gives it back at random moments, as a
 * change of an eventfd or of the memory table does.  A lost wake-up ends with
 * all asleep, and the alarm says so.  Under ThreadSanitizer the payloads, plain
 * memory, prove that each hand-over is ordered.
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
#include <unistd.h>

#include "../unit/flights.h"
#include "host/worker.h"
#include "payload.h"
#include "queue/shadow_queue.h"

static struct {
	uint64_t buffers, features;
	uint16_t size;
	struct driver_ring guest;  /* the guest thread's */
	struct shadow_queue queue; /* the worker's, or nobody's */
	struct shadow_counters counters;
	struct payload *payloads;
	int guest_kick, guest_call, back_kick, back_call;
	bool done; /* atomic */
} t;

static void notify(int fd)
{
	uint64_t one = 1;

	EXPECT(write(fd, &one, sizeof(one)) == sizeof(one));
}

static void sleep_on(int fd)
{
	uint64_t count;

	EXPECT(read(fd, &count, sizeof(count)) == sizeof(count));
}

/* --- the device ----------------------------------------------------------- */

static void *device_thread(void *argument)
{
	struct device_ring ring;
	struct ring_chain chain = { .segs = calloc(t.size, sizeof(struct ring_seg)) };
	uint64_t next = 0;

	(void)argument;
	EXPECT(chain.segs);
	device_ring_init(&ring, &(struct device_ring_config){ .split = t.queue.back.split,
							      .features = t.features });
	while (next < t.buffers) {
		unsigned int batch = 1 + (unsigned int)(next % 37);
		int rc = race_device_answers(&ring, &chain, &next, batch);

		if (device_ring_must_call(&ring))
			notify(t.back_call);
		if (rc == 0 && next < t.buffers && !device_ring_arm(&ring)) {
			sleep_on(t.back_kick);
			device_ring_disarm(&ring);
		}
	}
	free(chain.segs);
	return NULL;
}

/* --- the guest ------------------------------------------------------------ */

static bool guest_add(uint64_t n)
{
	struct payload *p = &t.payloads[n % t.size];
	struct driver_seg segs[2] = {
		{ .addr = { (uintptr_t)p }, .len = sizeof(p->question), .writable = t.size == 1 },
		{ .addr = { (uintptr_t)&p->answer }, .len = sizeof(p->answer), .writable = 1 },
	};
	int rc;

	p->question = n;
	p->answer = 0;
	rc = driver_ring_add(&t.guest, segs, t.size > 1 ? 2 : 1, n);
	EXPECT(rc >= 0);
	return rc;
}

static void *guest_thread(void *argument)
{
	uint64_t added = 0, got = 0;

	(void)argument;
	while (got < t.buffers) {
		/* Now full, now one by one: wake-ups get lost at the edges. */
		uint64_t want = (got / 1000) % 3 ? 1 : t.size;
		struct driver_done done;
		int rc;

		while (added < t.buffers && added - got < want && guest_add(added))
			added++;
		driver_ring_publish(&t.guest);
		if (driver_ring_must_kick(&t.guest))
			notify(t.guest_kick);
		while ((rc = driver_ring_get(&t.guest, &done)) > 0) {
			EXPECT(done.token == got);
			EXPECT(t.payloads[got % t.size].answer == ANSWER(got));
			got++;
		}
		EXPECT(rc == 0);
		race_came_back(got);
		if (got < added && !driver_ring_arm(&t.guest)) {
			sleep_on(t.guest_call);
			driver_ring_disarm(&t.guest);
		}
	}
	__atomic_store_n(&t.done, true, __ATOMIC_RELEASE);
	return NULL;
}

/* --- all -------------------------------------------------------------------- */

static void *ring_memory(const struct driver_layout *layout, void **private)
{
	void *shared = aligned_alloc(4096, align_up(layout->shared_bytes, 4096));

	*private = aligned_alloc(64, align_up(layout->private_bytes, 64));
	EXPECT(shared && *private);
	return shared;
}

static void rings_set_up(void)
{
	struct driver_layout layout = driver_ring_layout(t.size, t.features, 0);
	void *private, *shared = ring_memory(&layout, &private);
	struct driver_ring_config config = { .size = t.size,
					     .features = t.features,
					     .shared = shared,
					     .shared_addr = { (uintptr_t)shared },
					     .private = private };
	struct shadow_queue_config queue;

	EXPECT(driver_ring_init(&t.guest, &config) == 0);
	shared = ring_memory(&layout, &private);
	queue = (struct shadow_queue_config){
		.guest = { .split = t.guest.split, .features = t.features },
		.back = config,
		.segs = calloc(t.size, sizeof(struct ring_seg)),
		.counters = &t.counters,
		.flights = flights_new(t.size, t.size),
	};
	queue.back.shared = shared;
	queue.back.shared_addr = (iova_t){ (uintptr_t)shared };
	queue.back.private = private;
	EXPECT(queue.segs && queue.flights && shadow_queue_init(&t.queue, &queue) == 0);
	t.payloads = calloc(t.size, sizeof(*t.payloads));
	EXPECT(t.payloads);
}

static int queue_pass(void *queue, unsigned int *owed)
{
	return shadow_queue_pass(queue, owed);
}

int main(int argc, char **argv)
{
	struct queue_service service;
	struct umbra_error err;
	struct worker *worker;
	pthread_t guest, device;
	uint64_t changes = 0;
	unsigned int patience_s;
	uint32_t random = 1;
	int broken_fd;

	EXPECT(argc >= 2);
	t.features = BIT64(VIRTIO_RING_F_INDIRECT_DESC);
	if (!strcmp(argv[1], "event-idx"))
		t.features |= BIT64(VIRTIO_RING_F_EVENT_IDX);
	t.buffers = argc > 2 ? strtoull(argv[2], NULL, 0) : 1000000;
	t.size = (uint16_t)(argc > 3 ? strtoul(argv[3], NULL, 0) : 64);
	patience_s = argc > 4 ? (unsigned int)strtoul(argv[4], NULL, 0) : 600;
	rings_set_up();
	t.guest_kick = eventfd(0, EFD_CLOEXEC);
	t.guest_call = eventfd(0, EFD_CLOEXEC);
	t.back_kick = eventfd(0, EFD_CLOEXEC);
	t.back_call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	broken_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	EXPECT(t.guest_kick >= 0 && t.guest_call >= 0 && t.back_kick >= 0 && t.back_call >= 0 &&
	       broken_fd >= 0);
	race_watch(patience_s);

	EXPECT(worker_create(broken_fd, &worker, &err) == 0);
	EXPECT(pthread_create(&guest, NULL, guest_thread, NULL) == 0);
	EXPECT(pthread_create(&device, NULL, device_thread, NULL) == 0);
	while (!__atomic_load_n(&t.done, __ATOMIC_ACQUIRE)) {
		service = (struct queue_service){ .pass = queue_pass,
						  .queue = &t.queue,
						  .kicks_in = &t.counters.kicks_in,
						  .calls_in = &t.counters.calls_in,
						  .kick_in = t.guest_kick,
						  .call_in = t.back_call,
						  .kick_out = t.back_kick,
						  .call_out = t.guest_call };
		EXPECT(worker_begin(worker, &service, &err) == 0);
		for (uint32_t i = race_random(&random) >> 14;
		     i && !__atomic_load_n(&t.done, __ATOMIC_ACQUIRE); i--)
			sched_yield();
		worker_end(worker, &service);
		EXPECT(!service.broken);
		changes++;
	}
	pthread_join(guest, NULL);
	pthread_join(device, NULL);
	worker_destroy(&worker);
	EXPECT(t.counters.requests == t.buffers);
	EXPECT(shadow_queue_in_flight(&t.queue) == 0);
	printf("%lu buffers, %lu hand-overs, %lu kicks and %lu calls passed on\n", t.buffers,
	       changes, t.counters.kicks_out, t.counters.calls_out);
	return 0;
}
