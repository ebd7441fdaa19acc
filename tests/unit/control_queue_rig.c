/* SPDX-License-Identifier: BSD-2-Clause */
/* A control queue between a guest and a simulated device: see control_queue_rig.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "control_queue_rig.h"

struct memory *memory_of(const struct memory_region *regions, unsigned int count)
{
	struct memory *m;

	assert_int_equal(memory_create(regions, count, &m, NULL), 0);
	return m;
}

void device_begin(struct rig *g)
{
	device_ring_init(&g->device,
			 &(struct device_ring_config){ .split = g->queue.back.split,
						       .memory = g->own_memory,
						       .features = g->config.back.features });
}

struct rig *rig_at(uint16_t size, uint64_t features, uint16_t base)
{
	struct control_layout layout = control_queue_layout(size, features);
	struct driver_layout guest = driver_ring_layout(size, features, 0);
	struct rig *g = calloc(1, sizeof(*g));
	struct driver_ring_config config;

	assert_non_null(g);
	g->ram = aligned_alloc(4096, RAM_BYTES);
	g->high = aligned_alloc(4096, HIGH_BYTES);
	g->own = aligned_alloc(64, align_up(layout.shared_bytes, 64));
	g->private = malloc(layout.private_bytes); /* to the byte, for the sanitizer */
	g->guest_private = aligned_alloc(64, align_up(guest.private_bytes, 64));
	g->state = calloc(1, sizeof(*g->state));
	g->device_segs = calloc(size, sizeof(struct ring_seg));
	assert_true(g->ram && g->high && g->own && g->private && g->guest_private && g->state &&
		    g->device_segs);
	memset(g->ram, 0, RAM_BYTES);
	memset(g->own, 0xdd, layout.shared_bytes);
	g->memory = memory_of((struct memory_region[]){ { .gpa = { RAM_GPA },
							  .uva = { RAM_GPA },
							  .size = RAM_BYTES,
							  .host = g->ram },
							{ .gpa = { HIGH_GPA },
							  .uva = { HIGH_GPA },
							  .size = HIGH_BYTES,
							  .host = g->high } },
			      2);
	g->own_memory = memory_of(&(struct memory_region){ .gpa = { OWN_IOVA },
							   .uva = { OWN_IOVA },
							   .size = layout.shared_bytes,
							   .host = g->own },
				  1);
	config = (struct driver_ring_config){ .size = size,
					      .features = features,
					      .shared = g->ram + RING_AT,
					      .shared_addr = { RAM_GPA + RING_AT },
					      .private = g->guest_private,
					      .base = ring_position_split(base) };
	assert_int_equal(driver_ring_init(&g->guest, &config), 0);
	g->terms = (struct net_control_terms){ .features = F(CTRL_VQ) | F(CTRL_RX) | F(CTRL_VLAN) |
							   F(CTRL_MAC_ADDR) | F(MQ),
					       .max_pairs = 4 };
	g->config = (struct control_queue_config){
		.index = 8,
		.guest = { .split = g->guest.split,
			   .memory = g->memory,
			   .features = features,
			   .at = ring_position_split(base) },
		.back = { .size = size,
			  .features = features,
			  .shared = g->own,
			  .shared_addr = { OWN_IOVA },
			  .private = g->private },
		.segs = calloc(size, sizeof(struct ring_seg)),
		.terms = &g->terms,
		.state = g->state,
		.counters = &g->counters,
		.control_counters = &g->control_counters,
		.view = &g->view,
	};
	assert_non_null(g->config.segs);
	assert_int_equal(control_queue_init(&g->queue, &g->config), 0);
	control_queue_service(&g->queue, &g->service);
	device_begin(g);
	sim_host_init(&g->host, NULL);
	g->deaf_at = g->no_at = g->lie_at = g->stop_at = UINT32_MAX;
	return g;
}

struct rig *rig_new(void)
{
	return rig_at(8, EVENT, 0);
}

void rig_free(struct rig *g)
{
	sim_host_fini(&g->host);
	memory_unref(&g->memory);
	memory_unref(&g->own_memory);
	free(g->ram);
	free(g->high);
	free(g->own);
	free(g->private);
	free(g->guest_private);
	free(g->state);
	free(g->device_segs);
	free(g->config.segs);
	free(g);
}

/* --- the guest -------------------------------------------------------------------- */

uint8_t *guest_byte(struct rig *g, uint64_t gpa)
{
	return gpa < HIGH_GPA ? g->ram + (gpa - RAM_GPA) : g->high + (gpa - HIGH_GPA);
}

void guest_write(struct rig *g, uint64_t gpa, const void *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		*guest_byte(g, gpa + i) = ((const uint8_t *)bytes)[i];
}

void guest_add_segs(struct rig *g, const struct driver_seg *segs, uint32_t count, uint64_t token)
{
	assert_int_equal(driver_ring_add(&g->guest, segs, count, token), 1);
	driver_ring_publish(&g->guest);
}

void guest_say_at(struct rig *g, uint64_t gpa, const void *bytes, uint32_t size, uint64_t token)
{
	const struct driver_seg segs[] = { { { gpa }, size, 0 },
					   { { RAM_GPA + ANSWER_AT + token }, 1, 1 } };

	guest_write(g, gpa, bytes, size);
	*guest_byte(g, segs[1].addr.v) = UNANSWERED;
	guest_add_segs(g, segs, 2, token);
}

void guest_say(struct rig *g, const void *bytes, uint32_t size, uint64_t token)
{
	guest_say_at(g, RAM_GPA + 64 * token, bytes, size, token);
}

void guest_gets(struct rig *g, uint64_t token, uint8_t answer)
{
	struct driver_done done;

	assert_int_equal(driver_ring_get(&g->guest, &done), 1);
	assert_int_equal(done.token, token);
	assert_false(done.clamped);
	assert_int_equal(done.len, answer == UNANSWERED ? 0 : 1);
	assert_int_equal(*guest_byte(g, RAM_GPA + ANSWER_AT + token), answer);
}

void guest_gets_nothing(struct rig *g)
{
	struct driver_done done;

	assert_int_equal(driver_ring_get(&g->guest, &done), 0);
}

/* --- the queue -------------------------------------------------------------------- */

int pass(struct rig *g, unsigned int *owed)
{
	return g->service.pass(g->service.queue, owed);
}

int move(struct rig *g, unsigned int *owed)
{
	return g->service.move(g->service.queue, owed);
}

bool has_work(const struct rig *g)
{
	return g->service.has_work(g->service.queue);
}

uint16_t in_flight(const struct rig *g)
{
	return driver_ring_in_flight(&g->queue.back);
}

int run(struct rig *g)
{
	unsigned int owed;
	int all = 0, actions;

	do {
		actions = pass(g, &owed);
		if (actions < 0)
			return actions;
		all |= actions;
	} while (actions & QUEUE_MORE);
	return all & ~QUEUE_MORE;
}

/* --- the device ------------------------------------------------------------------- */

int device_take(struct rig *g)
{
	struct ring_chain chain = { .segs = g->device_segs };
	int rc = device_ring_take(&g->device, &chain);
	unsigned int hint = 0;

	assert_true(rc >= 0);
	if (!rc)
		return 0;
	assert_int_equal(chain.writable_bytes, 1);
	g->seen_bytes = 0;
	for (uint32_t i = 0; i < chain.readable; i++) {
		const struct ring_seg *seg = &chain.segs[i];

		memcpy(g->seen + g->seen_bytes,
		       memory_host(g->own_memory, &hint, seg->addr, seg->len), seg->len);
		g->seen_bytes += seg->len;
	}
	g->ack = memory_host(g->own_memory, &hint, chain.segs[chain.readable].addr, 1);
	g->head = chain.head;
	return 1;
}

void device_use(struct rig *g, uint32_t len)
{
	device_ring_complete(&g->device, g->head, len);
	device_ring_publish(&g->device);
}

void device_answers(struct rig *g, uint8_t ack)
{
	*g->ack = ack;
	device_use(g, 1);
}

void device_takes(struct rig *g, const uint8_t *bytes, size_t size)
{
	assert_int_equal(device_take(g), 1);
	assert_int_equal(g->seen_bytes, size);
	assert_memory_equal(g->seen, bytes, size);
}

void command_succeeds(struct rig *g, uint64_t token)
{
	device_answers(g, VIRTIO_NET_OK);
	run(g);
	guest_gets(g, token, VIRTIO_NET_OK);
}

void device_lies(struct rig *g, uint32_t id, uint16_t new_idx)
{
	struct split_ring *s = &g->queue.back.split;

	shm_store32(&s->used->ring[(uint16_t)(new_idx - 1) & (s->size - 1)].id, id);
	shm_store32(&s->used->ring[(uint16_t)(new_idx - 1) & (s->size - 1)].len, 1);
	shm_store16_release(&s->used->idx, new_idx);
}
