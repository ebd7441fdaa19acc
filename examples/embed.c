/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A shadow queue inside a program of one's own: the library without sockets,
 * processes, or a virtual machine.
 *
 * A driver asks questions on one ring, a device answers them on another, and a
 * shadow queue carries them across.  The two rings differ: the driver's has
 * single descriptors and 8 places, the device's has indirect tables and 4.
 *
 *	cc embed.c $(pkg-config --cflags --libs umbra)
 */
#include <err.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <umbra/shadow_queue.h>

#define QUESTIONS 1000u
#define GUEST_ADDRESS 0x40000000u /* what the driver calls its first byte */
#define SLOTS 8u                  /* requests that the driver has on the way at most */

struct request {
	char question[32], answer[32];
};

static struct request ram[SLOTS]; /* the driver's memory */
static unsigned int asked, answered, kicks, calls;
static struct umbra_error error;

/* ---- the driver: asks, and checks what comes back ------------------------- */

static void driver_step(struct umbra_driver_ring *ring)
{
	struct umbra_done done;
	int rc;

	while ((rc = umbra_driver_ring_get(ring, &done)) == 1) {
		struct request *r = &ram[done.token % SLOTS];
		char expect[32];

		snprintf(expect, sizeof(expect), "%lu squared is %lu", done.token,
			 done.token * done.token);
		if (strcmp(r->answer, expect) || done.length != sizeof(r->answer))
			errx(1, "question %lu was answered \"%s\"", done.token, r->answer);
		answered++;
	}
	while (rc == 0 && asked < QUESTIONS && asked < answered + SLOTS) {
		struct request *r = &ram[asked % SLOTS];
		uint64_t address = GUEST_ADDRESS + (uint64_t)((char *)r - (char *)ram);
		struct umbra_segment segments[] = {
			{ .address = address, .length = sizeof(r->question) },
			{ .address = address + sizeof(r->question),
			  .length = sizeof(r->answer),
			  .writable = true },
		};

		snprintf(r->question, sizeof(r->question), "%u", asked);
		rc = umbra_driver_ring_add(ring, segments, 2, asked);
		if (rc == 0)
			break; /* no room now */
		if (rc == 1) {
			asked++;
			rc = 0;
		}
	}
	if (rc < 0) {
		umbra_driver_ring_error(ring, &error);
		errx(1, "the driver's ring: %s", error.text);
	}
	umbra_driver_ring_publish(ring);
	kicks += umbra_driver_ring_must_kick(ring); /* here, nobody needs to be woken */
}

/* ---- the device: answers --------------------------------------------------- */

static void device_step(struct umbra_device_ring *ring, const struct umbra_memory *memory)
{
	struct umbra_chain chain;
	int rc;

	while ((rc = umbra_device_ring_take(ring, &chain)) == 1) {
		const struct umbra_segment *s = chain.segments;
		const char *question;
		char *answer;
		unsigned long n;

		/* The ring has judged the shape; what is asked for is ours to judge. */
		if (chain.count != 2 || chain.readable != 1)
			errx(1, "a request of %u segments", chain.count);
		question = umbra_memory_host(memory, s[0].address, s[0].length);
		answer = umbra_memory_host(memory, s[1].address, s[1].length);
		if (!question || !answer)
			errx(1, "a request across two regions");
		n = strtoul(question, NULL, 10);

		snprintf(answer, s[1].length, "%lu squared is %lu", n, n * n);
		if (umbra_device_ring_complete(ring, chain.head, s[1].length))
			errx(1, "the device completed what it never took");
	}
	if (rc < 0) {
		umbra_device_ring_error(ring, &error);
		errx(1, "the device's ring: %s", error.text);
	}
	umbra_device_ring_publish(ring);
	calls += umbra_device_ring_must_call(ring);
}

/* ---- the shadow between them ----------------------------------------------- */

static void shadow_step(struct umbra_shadow_queue *queue)
{
	unsigned int owed;
	int actions;

	do {
		actions = umbra_shadow_queue_run(queue, &owed);
		if (actions < 0) {
			umbra_shadow_queue_error(queue, &error);
			errx(1, "the shadow queue: %s", error.text);
		}
	} while (actions & UMBRA_RUN_AGAIN);
}

int main(void)
{
	static _Alignas(64) char back_memory[8192]; /* the shadow's ring lives here */
	const uint64_t back_features = 1ull << VIRTIO_RING_F_INDIRECT_DESC;
	const uint64_t back_address = 0x80000000u;
	struct umbra_memory_region regions[] = {
		{ .guest_address = GUEST_ADDRESS, .size = sizeof(ram), .host = ram },
		{ .guest_address = back_address, .size = sizeof(back_memory), .host = back_memory },
	};
	struct umbra_memory *memory;
	struct umbra_driver_ring *driver;
	struct umbra_shadow_queue *queue;
	struct umbra_device_ring *device;
	struct umbra_device_ring_config front = { UMBRA_SIZED(umbra_device_ring_config) };
	struct umbra_device_ring_config back = { UMBRA_SIZED(umbra_device_ring_config),
						 .features = back_features };
	const struct umbra_driver_ring_config theirs = { UMBRA_SIZED(umbra_driver_ring_config),
							 .size = 8 };
	const struct umbra_driver_ring_config ours = { UMBRA_SIZED(umbra_driver_ring_config),
						       .size = 4, .features = back_features,
						       .shared = back_memory,
						       .shared_address = back_address };
	const struct umbra_shadow_queue_config shadow = { UMBRA_SIZED(umbra_shadow_queue_config),
							  .front = &front, .back = &ours };
	struct umbra_shadow_queue_info info;

	if (umbra_memory_create(regions, 2, &memory, &error))
		errx(1, "%s", error.text);
	if (umbra_driver_ring_create(&theirs, &driver, &error))
		errx(1, "%s", error.text);

	if (umbra_driver_ring_shared_bytes(4, back_features, 0) > sizeof(back_memory))
		errx(1, "the shadow's ring wants more memory");
	umbra_driver_ring_parts(driver, &front.parts);
	front.memory = memory;
	if (umbra_shadow_queue_create(&shadow, &queue, &error))
		errx(1, "%s", error.text);

	umbra_shadow_queue_back_parts(queue, &back.parts);
	back.memory = memory;
	if (umbra_device_ring_create(&back, &device, &error))
		errx(1, "%s", error.text);

	while (answered < QUESTIONS) {
		driver_step(driver);
		shadow_step(queue);
		device_step(device, memory);
		shadow_step(queue);
	}
	umbra_shadow_queue_query(queue, &info, sizeof(info));
	printf("%u questions asked, %u answered; the shadow carried %lu requests, %lu bytes out and "
	       "%lu in; %u kicks and %u calls were wanted\n",
	       asked, answered, info.requests, info.bytes_out, info.bytes_in, kicks, calls);

	umbra_device_ring_destroy(&device);
	umbra_shadow_queue_destroy(&queue);
	umbra_driver_ring_destroy(&driver);
	umbra_memory_destroy(&memory);
	return 0;
}
