/* SPDX-License-Identifier: BSD-2-Clause */
/* The control queue between a guest's driver that may lie and a simulated device
 * that may, too, in one thread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "net/control_queue.h"

#define F(name) BIT64(VIRTIO_NET_F_##name)
#define EVENT BIT64(VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT BIT64(VIRTIO_RING_F_INDIRECT_DESC)

/* The guest's memory: two regions that adjoin for the guest and nowhere else. */
#define RAM_GPA UINT64_C(0x40000000)
#define RAM_BYTES (1u << 20)
#define HIGH_GPA (RAM_GPA + RAM_BYTES)
#define HIGH_BYTES 0x1000u
#define RING_AT 0x80000u /* the ring in the first one; buffers are before it */
#define ANSWER_AT 0x40000u

/* Where the device sees our own memory.  It sees nothing else. */
#define OWN_IOVA UINT64_C(0x7000000000)

#define UNANSWERED 0xee /* in the guest's byte for the answer */

struct rig {
	uint8_t *ram, *high;
	struct memory *memory, *own_memory;
	struct driver_ring guest;
	void *guest_private;

	struct control_queue queue;
	struct control_queue_config config;
	struct net_control_terms terms;
	struct net_control *state;
	struct shadow_counters counters;
	struct control_counters control_counters;
	struct net_control_view view;
	uint8_t *own;
	void *private;

	struct device_ring device;
	struct ring_seg *device_segs;
	uint8_t seen[NET_CONTROL_COMMAND_MAX]; /* the last command that the device took */
	size_t seen_bytes;
	uint8_t *ack;
	uint16_t head;

	/* The host, while a replay runs. */
	struct shadow_host host;
	uint64_t now;
	unsigned int kicks;
	int kick_fd;
	unsigned int obeyed;  /* commands that the device has used */
	unsigned int deaf_at; /* it does not use this one */
	unsigned int no_at;   /* it answers no to this one */
	unsigned int lie_at;  /* it uses another id instead of this one's */
	unsigned int stop_at; /* the host wants to stop at this one */
};

static struct memory *memory_of(const struct memory_region *regions, unsigned int count)
{
	struct memory *m;

	assert_int_equal(memory_create(regions, count, &m, NULL), 0);
	return m;
}

/* The device after a reset: it runs the ring from 0. */
static void device_begin(struct rig *g)
{
	device_ring_init(&g->device,
			 &(struct device_ring_config){ .split = g->queue.back.split,
						       .memory = g->own_memory,
						       .features = g->config.back.features });
}

static struct rig *rig_at(uint16_t size, uint64_t features, uint16_t base)
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
					      .shared_addr = RAM_GPA + RING_AT,
					      .private = g->guest_private,
					      .base = base };
	assert_int_equal(driver_ring_init(&g->guest, &config), 0);
	g->terms = (struct net_control_terms){ .features = F(CTRL_VQ) | F(CTRL_RX) | F(CTRL_VLAN) |
							   F(CTRL_MAC_ADDR) | F(MQ),
					       .max_pairs = 4 };
	g->config = (struct control_queue_config){
		.index = 8,
		.guest = { .split = g->guest.split,
			   .memory = g->memory,
			   .features = features,
			   .last_avail = base,
			   .used_idx = base },
		.back = { .size = size,
			  .features = features,
			  .shared = g->own,
			  .shared_addr = OWN_IOVA,
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
	device_begin(g);
	g->deaf_at = g->no_at = g->lie_at = g->stop_at = UINT32_MAX;
	return g;
}

static struct rig *rig_new(void)
{
	return rig_at(8, EVENT, 0);
}

static void rig_free(struct rig *g)
{
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

static uint8_t *guest_byte(struct rig *g, uint64_t gpa)
{
	return gpa < HIGH_GPA ? g->ram + (gpa - RAM_GPA) : g->high + (gpa - HIGH_GPA);
}

static void guest_write(struct rig *g, uint64_t gpa, const void *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		*guest_byte(g, gpa + i) = ((const uint8_t *)bytes)[i];
}

static void guest_add_segs(struct rig *g, const struct ring_seg *segs, uint32_t count,
			   uint64_t token)
{
	assert_int_equal(driver_ring_add(&g->guest, segs, count, token), 1);
	driver_ring_publish(&g->guest);
}

/* A command at @gpa in one segment, its answer at ANSWER_AT + @token. */
static void guest_say_at(struct rig *g, uint64_t gpa, const void *bytes, uint32_t size,
			 uint64_t token)
{
	const struct ring_seg segs[] = { { gpa, size, 0 }, { RAM_GPA + ANSWER_AT + token, 1, 1 } };

	guest_write(g, gpa, bytes, size);
	*guest_byte(g, segs[1].addr) = UNANSWERED;
	guest_add_segs(g, segs, 2, token);
}

static void guest_say(struct rig *g, const void *bytes, uint32_t size, uint64_t token)
{
	guest_say_at(g, RAM_GPA + 64 * token, bytes, size, token);
}

#define SAY(g, token, ...)                                                                         \
	guest_say(g, (const uint8_t[]){ __VA_ARGS__ }, sizeof((uint8_t[]){ __VA_ARGS__ }), token)

#define PROMISC(on) VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, on
#define ALLMULTI(on) VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, on
#define PAIRS(n) VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, n, 0
#define VLAN_ADD(id) VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, id, 0

/* The guest gets its command back, with this answer (UNANSWERED: none). */
static void guest_gets(struct rig *g, uint64_t token, uint8_t answer)
{
	struct driver_done done;

	assert_int_equal(driver_ring_get(&g->guest, &done), 1);
	assert_int_equal(done.token, token);
	assert_false(done.clamped);
	assert_int_equal(done.len, answer == UNANSWERED ? 0 : 1);
	assert_int_equal(*guest_byte(g, RAM_GPA + ANSWER_AT + token), answer);
}

static void guest_gets_nothing(struct rig *g)
{
	struct driver_done done;

	assert_int_equal(driver_ring_get(&g->guest, &done), 0);
}

/* --- the queue -------------------------------------------------------------------- */

/* All passes until the queue sleeps; what it wanted done meanwhile. */
static int run(struct rig *g)
{
	unsigned int owed;
	int all = 0, actions;

	do {
		actions = control_queue_pass(&g->queue, &owed);
		if (actions < 0)
			return actions;
		all |= actions;
	} while (actions & QUEUE_MORE);
	return all & ~QUEUE_MORE;
}

/* --- the device ------------------------------------------------------------------- */

/* Take a command, into g->seen.  All of it is in our own memory. */
static int device_take(struct rig *g)
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
		       memory_host(g->own_memory, &hint, (gpa_t){ seg->addr }, seg->len), seg->len);
		g->seen_bytes += seg->len;
	}
	g->ack = memory_host(g->own_memory, &hint, (gpa_t){ chain.segs[chain.readable].addr }, 1);
	g->head = chain.head;
	return 1;
}

static void device_use(struct rig *g, uint32_t len)
{
	device_ring_complete(&g->device, g->head, len);
	device_ring_publish(&g->device);
}

static void device_answers(struct rig *g, uint8_t ack)
{
	*g->ack = ack;
	device_use(g, 1);
}

static void device_takes(struct rig *g, const uint8_t *bytes, size_t size)
{
	assert_int_equal(device_take(g), 1);
	assert_int_equal(g->seen_bytes, size);
	assert_memory_equal(g->seen, bytes, size);
}

#define TAKES(g, ...)                                                                              \
	device_takes(g, (const uint8_t[]){ __VA_ARGS__ }, sizeof((uint8_t[]){ __VA_ARGS__ }))

/* A used entry, written past the device side's own checks. */
static void device_lies(struct rig *g, uint32_t id, uint16_t new_idx)
{
	struct split_ring *s = &g->queue.back.split;

	shm_store32(&s->used->ring[(uint16_t)(new_idx - 1) & (s->size - 1)].id, id);
	shm_store32(&s->used->ring[(uint16_t)(new_idx - 1) & (s->size - 1)].len, 1);
	shm_store16_release(&s->used->idx, new_idx);
}

/* --- commands --------------------------------------------------------------------- */

static bool nothing_said(const struct rig *g)
{
	struct net_control_replay r;
	uint8_t *bytes = malloc(NET_CONTROL_COMMAND_MAX);
	size_t size;

	assert_non_null(bytes);
	net_control_replay_begin(&r, g->state);
	size = net_control_replay_next(&r, bytes);
	free(bytes);
	return size == 0;
}

static void a_command_passes_and_is_committed_when_the_device_says_ok(void **state)
{
	struct rig *g = rig_new();

	(void)state;
	SAY(g, 1, PAIRS(3));
	assert_int_equal(run(g), QUEUE_KICK_BACKEND);
	assert_int_equal(control_queue_in_flight(&g->queue), 1);
	TAKES(g, PAIRS(3));
	assert_int_equal(*g->ack, 0xff); /* a device that writes nothing has not said OK */
	assert_int_equal(run(g), 0);
	guest_gets_nothing(g);
	assert_true(nothing_said(g));
	assert_int_equal(net_control_look(&g->view).pairs, 1);
	device_answers(g, VIRTIO_NET_OK);
	assert_int_equal(run(g), QUEUE_CALL_GUEST);
	guest_gets(g, 1, VIRTIO_NET_OK);
	assert_int_equal(net_control_summarise(g->state).pairs, 3);
	assert_int_equal(net_control_look(&g->view).pairs, 3);
	assert_int_equal(control_queue_in_flight(&g->queue), 0);
	assert_int_equal(g->counters.requests, 1);
	assert_int_equal(g->counters.bytes_out, 4);
	assert_int_equal(g->counters.bytes_in, 1);
	assert_int_equal(g->counters.last_avail, 1);
	assert_int_equal(g->counters.last_used, 1);
	assert_int_equal(g->counters.in_flight, 0);
	assert_int_equal(g->control_counters.accepted, 1);
	rig_free(g);
}

static void any_framing_of_a_command_is_the_same_command(void **state)
{
	static const uint8_t mac[] = { VIRTIO_NET_CTRL_MAC,
				       VIRTIO_NET_CTRL_MAC_ADDR_SET,
				       0x52,
				       0x11,
				       0x22,
				       0x33,
				       0x44,
				       0x55 };
	/* class, command, data across both regions, answer of two segments */
	const struct ring_seg segs[] = { { RAM_GPA, 1, 0 },
					 { RAM_GPA + 100, 1, 0 },
					 { HIGH_GPA - 3, 6, 0 },
					 { RAM_GPA + ANSWER_AT + 1, 1, 1 },
					 { RAM_GPA + ANSWER_AT + 2, 7, 1 } };
	struct rig *g = rig_at(8, EVENT | INDIRECT, 0xffff);

	(void)state;
	guest_write(g, RAM_GPA, mac, 1);
	guest_write(g, RAM_GPA + 100, mac + 1, 1);
	guest_write(g, HIGH_GPA - 3, mac + 2, 6);
	*guest_byte(g, RAM_GPA + ANSWER_AT + 2) = 0x77;
	guest_add_segs(g, segs, ARRAY_SIZE(segs), 1);
	run(g);
	device_takes(g, mac, sizeof(mac));
	device_answers(g, VIRTIO_NET_OK);
	run(g);
	guest_gets(g, 1, VIRTIO_NET_OK);
	assert_int_equal(*guest_byte(g, RAM_GPA + ANSWER_AT + 2), 0x77);
	assert_memory_equal(net_control_summarise(g->state).mac, mac + 2, 6);
	rig_free(g);
}

static void the_device_never_hears_of_a_command_that_is_refused(void **state)
{
	struct rig *g = rig_new();

	(void)state;
	SAY(g, 1, PAIRS(5));                          /* more than it has */
	SAY(g, 2, VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0); /* not negotiated */
	SAY(g, 3, 77, 1, 2, 3);                       /* not known */
	assert_int_equal(run(g), QUEUE_CALL_GUEST);
	for (uint64_t token = 1; token <= 3; token++)
		guest_gets(g, token, VIRTIO_NET_ERR);
	assert_int_equal(device_take(g), 0);
	assert_true(nothing_said(g));
	assert_int_equal(g->control_counters.refused, 3);
	assert_int_equal(g->control_counters.failed, 0);

	SAY(g, 4, PAIRS(4)); /* and the queue lives on */
	run(g);
	TAKES(g, PAIRS(4));
	rig_free(g);
}

static void a_chain_that_is_no_command_is_answered_where_it_can_be(void **state)
{
	const struct ring_seg no_answer = { RAM_GPA, 3, 0 };
	const struct ring_seg no_command = { RAM_GPA + ANSWER_AT + 2, 1, 1 };
	struct rig *g = rig_new();

	(void)state;
	guest_write(g, RAM_GPA, (uint8_t[]){ PROMISC(1) }, 3);
	*guest_byte(g, RAM_GPA + ANSWER_AT + 1) = UNANSWERED;
	guest_add_segs(g, &no_answer, 1, 1);
	guest_add_segs(g, &no_command, 1, 2);
	SAY(g, 3, VIRTIO_NET_CTRL_RX);
	run(g);
	guest_gets(g, 1, UNANSWERED);
	guest_gets(g, 2, VIRTIO_NET_ERR);
	guest_gets(g, 3, VIRTIO_NET_ERR);
	assert_int_equal(device_take(g), 0);
	assert_int_equal(g->control_counters.refused, 3);
	rig_free(g);
}

static void the_longest_command_passes_and_a_longer_one_does_not(void **state)
{
	uint32_t most = NET_CONTROL_COMMAND_MAX, count = (most - 10) / 6;
	uint8_t *table = calloc(1, most + 1);
	struct rig *g = rig_new();

	(void)state;
	assert_non_null(table);
	table[0] = VIRTIO_NET_CTRL_MAC;
	table[1] = VIRTIO_NET_CTRL_MAC_TABLE_SET;
	for (unsigned int i = 0; i < 4; i++)
		table[2 + i] = (uint8_t)(count >> 8 * i);
	memset(table + 6, 0x5e, count * 6);
	guest_say_at(g, RAM_GPA + 0x1000, table, most + 1, 1);
	run(g);
	guest_gets(g, 1, VIRTIO_NET_ERR);
	assert_int_equal(device_take(g), 0);
	guest_say_at(g, RAM_GPA + 0x1000, table, most, 2);
	run(g);
	device_takes(g, table, most);
	device_answers(g, VIRTIO_NET_OK);
	run(g);
	guest_gets(g, 2, VIRTIO_NET_OK);
	assert_int_equal(net_control_summarise(g->state).unicast, count);
	free(table);
	rig_free(g);
}

static void what_the_guest_writes_after_the_copy_has_no_effect(void **state)
{
	struct rig *g = rig_new();

	(void)state;
	SAY(g, 1, PAIRS(2));
	run(g);
	guest_write(g, RAM_GPA + 64, (uint8_t[]){ PAIRS(9) }, 4);
	TAKES(g, PAIRS(2));
	guest_write(g, RAM_GPA + 64, (uint8_t[]){ PROMISC(1), 1 }, 4);
	device_answers(g, VIRTIO_NET_OK);
	guest_write(g, RAM_GPA + 64, (uint8_t[]){ PAIRS(4) }, 4);
	run(g);
	assert_int_equal(net_control_summarise(g->state).pairs, 2);
	assert_int_equal(net_control_summarise(g->state).modes_said, 0);
	rig_free(g);
}

static void what_the_device_writes_into_a_command_is_not_committed(void **state)
{
	struct control_layout l = control_queue_layout(8, EVENT);
	struct rig *g = rig_new();

	(void)state;
	SAY(g, 1, PAIRS(2));
	run(g);
	TAKES(g, PAIRS(2));
	memcpy(g->own + l.bounce, (uint8_t[]){ PAIRS(200) }, 4);
	device_answers(g, VIRTIO_NET_OK);
	run(g);
	guest_gets(g, 1, VIRTIO_NET_OK);
	assert_int_equal(net_control_summarise(g->state).pairs, 2);
	rig_free(g);
}

static void an_answer_that_is_not_ok_is_an_error_to_the_guest(void **state)
{
	struct rig *g = rig_new();

	(void)state;
	for (uint64_t token = 1; token <= 4; token++) {
		SAY(g, token, PROMISC(1));
		run(g);
		TAKES(g, PROMISC(1));
		if (token == 1)
			device_answers(g, VIRTIO_NET_ERR);
		else if (token == 2)
			device_answers(g, 2);
		else if (token == 3)
			device_use(g, 1); /* says that it has written, and has not */
		else {
			*g->ack = VIRTIO_NET_OK;
			device_use(g, 0); /* has written, and says that it has not */
		}
		assert_int_equal(run(g) & QUEUE_CALL_GUEST, QUEUE_CALL_GUEST);
		guest_gets(g, token, VIRTIO_NET_ERR);
		(void)!driver_ring_arm(&g->guest);
		assert_int_equal(g->control_counters.failed, token);
	}
	assert_true(nothing_said(g));
	rig_free(g);
}

static void a_used_length_beyond_the_answer_is_counted(void **state)
{
	struct rig *g = rig_new();

	(void)state;
	SAY(g, 1, PROMISC(1));
	run(g);
	TAKES(g, PROMISC(1));
	*g->ack = VIRTIO_NET_OK;
	device_use(g, 4096);
	run(g);
	guest_gets(g, 1, VIRTIO_NET_OK);
	assert_int_equal(g->counters.clamped, 1);
	rig_free(g);
}

static void one_command_is_at_the_device_at_a_time_and_they_keep_their_order(void **state)
{
	struct rig *g = rig_at(8, 0, 0);

	(void)state;
	SAY(g, 1, PAIRS(2));
	SAY(g, 2, PAIRS(9)); /* refused, but not before its turn */
	SAY(g, 3, PAIRS(3));
	run(g);
	TAKES(g, PAIRS(2));
	assert_int_equal(device_take(g), 0);
	guest_gets_nothing(g);
	device_answers(g, VIRTIO_NET_OK);
	run(g);
	guest_gets(g, 1, VIRTIO_NET_OK);
	guest_gets(g, 2, VIRTIO_NET_ERR);
	guest_gets_nothing(g);
	TAKES(g, PAIRS(3));
	device_answers(g, VIRTIO_NET_OK);
	run(g);
	guest_gets(g, 3, VIRTIO_NET_OK);
	assert_int_equal(net_control_summarise(g->state).pairs, 3);
	rig_free(g);
}

/* More commands than one pass moves, with each way to sleep. */
static void nobody_sleeps_over_a_command(void **state)
{
	(void)state;
	for (unsigned int with = 0; with < 2; with++) {
		struct rig *g = rig_at(32, with ? EVENT : 0, 0xfff0);
		uint64_t asked = 0, got = 0;

		/* While it sleeps with nothing to do, it wants a kick. */
		assert_int_equal(run(g), 0);
		assert_false(control_queue_has_work(&g->queue));
		SAY(g, asked, PROMISC(1));
		asked++;
		assert_true(driver_ring_must_kick(&g->guest));
		assert_true(control_queue_has_work(&g->queue));
		run(g);
		TAKES(g, PROMISC(1));

		/* While a command is at the device, a completion will wake it. */
		SAY(g, asked, PROMISC(0));
		asked++;
		assert_false(driver_ring_must_kick(&g->guest));
		assert_false(control_queue_has_work(&g->queue));
		device_answers(g, VIRTIO_NET_OK);
		assert_true(device_ring_must_call(&g->device));
		assert_true(control_queue_has_work(&g->queue));
		run(g);
		guest_gets(g, got++, VIRTIO_NET_OK);
		TAKES(g, PROMISC(0));
		device_answers(g, VIRTIO_NET_OK);
		assert_true(device_ring_must_call(&g->device));
		run(g);
		guest_gets(g, got++, VIRTIO_NET_OK);

		/* Refusals come and go in one batch after the other. */
		for (unsigned int i = 0; i < 16; i++)
			SAY(g, asked + i, 99, 99);
		run(g);
		for (unsigned int i = 0; i < 16; i++)
			guest_gets(g, asked + i, VIRTIO_NET_ERR);
		SAY(g, 0, PROMISC(1));
		assert_true(driver_ring_must_kick(&g->guest));
		rig_free(g);
	}
}

/* --- violations ------------------------------------------------------------------- */

static void broken_by_the_device(struct rig *g, const char *why)
{
	uint16_t avail = g->guest.avail_published, used = shm_load16(&g->guest.split.used->idx);
	char text[256];
	unsigned int owed;

	assert_int_equal(control_queue_pass(&g->queue, &owed), -EPROTO);
	assert_true(control_queue_is_broken(&g->queue));
	if (!strstr(control_queue_error(&g->queue, text, sizeof(text)), why))
		fail_msg("\"%s\" does not say \"%s\"", text, why);
	assert_int_equal(control_queue_pass(&g->queue, &owed), -EPROTO);
	assert_int_equal(control_queue_move(&g->queue, &owed), -EPROTO);
	assert_int_equal(control_queue_drain(&g->queue, &owed), -EPROTO);
	assert_int_equal(g->guest.avail_published, avail);
	assert_int_equal(shm_load16(&g->guest.split.used->idx), used);
	assert_true(nothing_said(g));
}

static void a_device_that_violates_the_ring_breaks_the_queue(void **state)
{
	struct rig *g = rig_new();

	(void)state;
	SAY(g, 1, PROMISC(1));
	run(g);
	device_lies(g, 8, 1);
	broken_by_the_device(g, "id 8, outside the ring of 8");
	rig_free(g);

	g = rig_new();
	SAY(g, 1, PROMISC(1));
	run(g);
	device_lies(g, 1, 1); /* the second descriptor of the chain */
	broken_by_the_device(g, "id 1, which is not in flight");
	rig_free(g);

	g = rig_new();
	run(g);
	device_lies(g, 0, 1); /* nothing was given to it */
	broken_by_the_device(g, "used 1 chains at once while 0 were in flight");
	rig_free(g);
}

static void a_guest_that_violates_the_ring_breaks_the_queue(void **state)
{
	struct rig *g = rig_new();
	char text[256];
	unsigned int owed;

	(void)state;
	SAY(g, 1, 99, 99);
	shm_store16(&g->guest.split.avail->ring[1], 200);
	shm_store16_release(&g->guest.split.avail->idx, 2);
	/* The one before it is answered all the same. */
	assert_int_equal(control_queue_pass(&g->queue, &owed), -EPROTO);
	assert_int_equal(owed, QUEUE_CALL_GUEST);
	guest_gets(g, 1, VIRTIO_NET_ERR);
	assert_non_null(strstr(control_queue_error(&g->queue, text, sizeof(text)),
			       "descriptor 200 available, outside the ring of 8"));
	rig_free(g);
}

static void a_ring_without_room_for_a_command_is_refused(void **state)
{
	struct rig *g = rig_at(2, 0, 0);

	(void)state;
	g->config.back.size = 1;
	assert_int_equal(control_queue_init(&g->queue, &g->config), -EINVAL);
	g->config.back.size = 3;
	assert_int_equal(control_queue_init(&g->queue, &g->config), -EINVAL);
	rig_free(g);
}

/* --- stopping --------------------------------------------------------------------- */

static void a_command_that_the_device_did_not_take_goes_back(void **state)
{
	struct rig *g = rig_new();
	unsigned int owed;

	(void)state;
	SAY(g, 1, PAIRS(2));
	SAY(g, 2, PAIRS(3));
	run(g);
	assert_int_equal(control_queue_rewind(&g->queue, 1), 0); /* it has taken it */
	assert_int_equal(control_queue_in_flight(&g->queue), 1);
	assert_int_equal(control_queue_rewind(&g->queue, 0), 0);
	assert_int_equal(control_queue_in_flight(&g->queue), 0);
	assert_int_equal(g->queue.guest.last_avail, 0);
	assert_int_equal(g->counters.last_avail, 0);
	assert_int_equal(g->counters.returned, 0); /* the device never had it */
	assert_int_equal(control_queue_drain(&g->queue, &owed), 0);
	guest_gets_nothing(g);

	/* The same queue goes on where it was, once the device does. */
	assert_int_equal(run(g) & QUEUE_KICK_BACKEND, QUEUE_KICK_BACKEND);
	TAKES(g, PAIRS(2));
	device_answers(g, VIRTIO_NET_OK);
	run(g);
	guest_gets(g, 1, VIRTIO_NET_OK);
	rig_free(g);
}

static void a_command_that_the_device_took_is_drained(void **state)
{
	struct rig *g = rig_new();
	unsigned int owed;

	(void)state;
	SAY(g, 1, PAIRS(2));
	SAY(g, 2, PAIRS(3));
	run(g);
	TAKES(g, PAIRS(2));
	assert_int_equal(control_queue_rewind(&g->queue, 1), 0);
	assert_int_equal(control_queue_drain(&g->queue, &owed), 0);
	assert_int_equal(control_queue_in_flight(&g->queue), 1);
	device_answers(g, VIRTIO_NET_OK);
	assert_int_equal(control_queue_drain(&g->queue, &owed), QUEUE_CALL_GUEST);
	assert_int_equal(control_queue_in_flight(&g->queue), 0);
	guest_gets(g, 1, VIRTIO_NET_OK);
	assert_int_equal(net_control_summarise(g->state).pairs, 2);
	/* Nothing new was taken. */
	assert_int_equal(g->queue.guest.last_avail, 1);
	assert_int_equal(device_take(g), 0);
	rig_free(g);
}

static void a_base_that_the_device_cannot_have_reached_is_a_lie(void **state)
{
	struct rig *g = rig_new();

	(void)state;
	SAY(g, 1, PAIRS(2));
	run(g);
	assert_int_equal(control_queue_rewind(&g->queue, 2), -EPROTO);
	assert_int_equal(control_queue_rewind(&g->queue, 0xffff), -EPROTO);
	TAKES(g, PAIRS(2));
	device_answers(g, VIRTIO_NET_OK);
	assert_int_equal(control_queue_rewind(&g->queue, 0), -EPROTO); /* it has used it */
	assert_int_equal(control_queue_rewind(&g->queue, 1), 0);
	rig_free(g);
}

static void an_abandoned_queue_leaves_the_guest_alone(void **state)
{
	struct rig *g = rig_new();
	unsigned int owed;

	(void)state;
	SAY(g, 1, PAIRS(2));
	run(g);
	TAKES(g, PAIRS(2));
	control_queue_abandon(&g->queue);
	device_answers(g, VIRTIO_NET_OK);
	assert_int_equal(control_queue_drain(&g->queue, &owed), 0);
	assert_int_equal(control_queue_in_flight(&g->queue), 0);
	guest_gets_nothing(g);
	assert_int_equal(*guest_byte(g, RAM_GPA + ANSWER_AT + 1), UNANSWERED);
	rig_free(g);
}

static void an_answer_without_a_place_any_more_is_not_written(void **state)
{
	const struct ring_seg segs[] = { { RAM_GPA, 3, 0 }, { HIGH_GPA, 1, 1 } };
	struct rig *g = rig_new();
	struct driver_done done;

	(void)state;
	guest_write(g, RAM_GPA, (uint8_t[]){ PROMISC(1) }, 3);
	*guest_byte(g, HIGH_GPA) = UNANSWERED;
	guest_add_segs(g, segs, 2, 1);
	run(g);
	TAKES(g, PROMISC(1));
	memory_unref(&g->memory); /* the table changes: one region is gone */
	g->memory = memory_of(
		&(struct memory_region){
			.gpa = { RAM_GPA }, .uva = { RAM_GPA }, .size = RAM_BYTES, .host = g->ram },
		1);
	g->queue.guest.memory = g->memory;
	device_answers(g, VIRTIO_NET_OK);
	run(g);
	assert_int_equal(driver_ring_get(&g->guest, &done), 1);
	assert_int_equal(done.len, 0);
	assert_int_equal(*guest_byte(g, HIGH_GPA), UNANSWERED);
	rig_free(g);
}

/* --- replaying -------------------------------------------------------------------- */

static struct rig *rig_of(struct shadow_host *host)
{
	return (struct rig *)(void *)((char *)host - offsetof(struct rig, host));
}

static uint64_t host_now(struct shadow_host *host)
{
	return rig_of(host)->now;
}

/* While the host waits, the device does the next command. */
static int host_wait(struct shadow_host *host, uint64_t us)
{
	struct rig *g = rig_of(host);

	g->now += us;
	if (g->obeyed == g->stop_at)
		return -ECANCELED;
	if (g->obeyed == g->deaf_at || !device_take(g))
		return 0;
	if (g->obeyed == g->lie_at)
		device_lies(g, 7, (uint16_t)(g->obeyed + 1));
	else
		device_answers(g, g->obeyed == g->no_at ? VIRTIO_NET_ERR : VIRTIO_NET_OK);
	g->obeyed++;
	return 0;
}

static void host_notify(struct shadow_host *host, int fd)
{
	struct rig *g = rig_of(host);

	assert_int_equal(fd, g->kick_fd);
	g->kicks++;
}

static const struct shadow_host_ops host_ops = {
	.now_us = host_now,
	.wait_us = host_wait,
	.notify = host_notify,
};

#define DEADLINE_US 1000000u

/* The state is: VLAN 5, all multicasts, three queue pairs. */
static struct rig *rig_told(void)
{
	static const uint8_t commands[][4] = { { VLAN_ADD(5) }, { ALLMULTI(1) }, { PAIRS(3) } };
	struct rig *g = rig_new();

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		net_control_commit(g->state, commands[i], i == 1 ? 3 : 4);
	g->host.ops = &host_ops;
	g->kick_fd = 42;
	return g;
}

static void a_fresh_device_is_told_all_before_the_guest_goes_on(void **state)
{
	struct rig *g = rig_told();
	struct umbra_error err;

	(void)state;
	SAY(g, 1, PROMISC(1)); /* waits for its turn */
	assert_int_equal(control_queue_replay(&g->queue, &g->host, 42, DEADLINE_US, &err), 0);
	assert_int_equal(g->obeyed, 3);
	assert_int_equal(g->seen_bytes, 4);
	assert_memory_equal(g->seen, ((uint8_t[]){ PAIRS(3) }), 4);
	assert_true(g->kicks > 0);
	assert_int_equal(g->control_counters.replayed, 3);
	assert_int_equal(g->control_counters.accepted, 0);
	assert_int_equal(control_queue_in_flight(&g->queue), 0);
	guest_gets_nothing(g);
	run(g);
	TAKES(g, PROMISC(1));
	device_answers(g, VIRTIO_NET_OK);
	run(g);
	guest_gets(g, 1, VIRTIO_NET_OK);
	assert_int_equal(g->counters.requests, 1);
	rig_free(g);
}

static void a_fresh_device_has_to_be_told_nothing_if_nothing_was_said(void **state)
{
	struct rig *g = rig_new();
	struct umbra_error err;

	(void)state;
	g->host.ops = &host_ops;
	assert_int_equal(control_queue_replay(&g->queue, &g->host, 42, DEADLINE_US, &err), 0);
	assert_int_equal(g->kicks, 0);
	assert_int_equal(g->now, 0);
	rig_free(g);
}

static void a_command_in_flight_at_a_reset_is_told_after_the_replay(void **state)
{
	struct rig *g = rig_told();
	struct umbra_error err;

	(void)state;
	SAY(g, 1, PAIRS(4));
	SAY(g, 2, PROMISC(1));
	run(g);
	TAKES(g, PAIRS(4)); /* and it never answers */
	assert_true(control_queue_take_back(&g->queue));
	assert_false(control_queue_take_back(&g->queue));
	assert_int_equal(g->counters.returned, 1);
	g->config.guest.last_avail = g->queue.guest.last_avail;
	g->config.guest.used_idx = g->queue.guest.used_idx;
	assert_int_equal(g->config.guest.last_avail, 0);
	assert_int_equal(control_queue_init(&g->queue, &g->config), 0);
	device_begin(g);
	assert_int_equal(control_queue_replay(&g->queue, &g->host, 42, DEADLINE_US, &err), 0);
	assert_memory_equal(g->seen, ((uint8_t[]){ PAIRS(3) }), 4);
	run(g);
	TAKES(g, PAIRS(4));
	device_answers(g, VIRTIO_NET_OK);
	run(g);
	guest_gets(g, 1, VIRTIO_NET_OK);
	TAKES(g, PROMISC(1));
	assert_int_equal(net_control_summarise(g->state).pairs, 4);
	rig_free(g);
}

static void replay_fails(struct rig *g, int code, const char *why)
{
	struct umbra_error err = { "" };
	unsigned int owed;

	SAY(g, 1, PROMISC(1));
	assert_int_equal(control_queue_replay(&g->queue, &g->host, 42, DEADLINE_US, &err), code);
	if (!strstr(err.text, why))
		fail_msg("\"%s\" does not say \"%s\"", err.text, why);
	/* What of it comes back later, or is taken back, is not the guest's. */
	if (code == -ETIME) {
		assert_int_equal(device_take(g), 1);
		device_answers(g, VIRTIO_NET_OK);
		assert_int_equal(control_queue_drain(&g->queue, &owed), 0);
	} else if (code == -ECANCELED) {
		assert_int_equal(control_queue_rewind(&g->queue, (uint16_t)g->obeyed), 0);
	}
	if (code != -EPROTO)
		assert_int_equal(control_queue_in_flight(&g->queue), 0);
	assert_false(control_queue_take_back(&g->queue));
	assert_int_equal(g->queue.guest.last_avail, 0);
	assert_int_equal(g->control_counters.accepted, 0);
	guest_gets_nothing(g);
	rig_free(g);
}

static void a_replay_that_fails_names_the_command_and_the_reason(void **state)
{
	struct rig *g = rig_told();

	(void)state;
	g->no_at = 1;
	replay_fails(g, -EREMOTEIO,
		     "queue 8: VIRTIO_NET_CTRL_RX_ALLMULTI cannot be replayed: the device "
		     "answered 1, expected 0");
	g = rig_told();
	g->deaf_at = 2;
	replay_fails(g, -ETIME,
		     "queue 8: VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET cannot be replayed: the device "
		     "does not answer");
	g = rig_told();
	g->stop_at = 1;
	replay_fails(g, -ECANCELED, "the device is stopped");
	g = rig_told();
	g->lie_at = 0;
	replay_fails(g, -EPROTO,
		     "queue 8: VIRTIO_NET_CTRL_VLAN_ADD cannot be replayed: the device used id 7");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_command_passes_and_is_committed_when_the_device_says_ok),
		cmocka_unit_test(any_framing_of_a_command_is_the_same_command),
		cmocka_unit_test(the_device_never_hears_of_a_command_that_is_refused),
		cmocka_unit_test(a_chain_that_is_no_command_is_answered_where_it_can_be),
		cmocka_unit_test(the_longest_command_passes_and_a_longer_one_does_not),
		cmocka_unit_test(what_the_guest_writes_after_the_copy_has_no_effect),
		cmocka_unit_test(what_the_device_writes_into_a_command_is_not_committed),
		cmocka_unit_test(an_answer_that_is_not_ok_is_an_error_to_the_guest),
		cmocka_unit_test(a_used_length_beyond_the_answer_is_counted),
		cmocka_unit_test(one_command_is_at_the_device_at_a_time_and_they_keep_their_order),
		cmocka_unit_test(nobody_sleeps_over_a_command),
		cmocka_unit_test(a_device_that_violates_the_ring_breaks_the_queue),
		cmocka_unit_test(a_guest_that_violates_the_ring_breaks_the_queue),
		cmocka_unit_test(a_ring_without_room_for_a_command_is_refused),
		cmocka_unit_test(a_command_that_the_device_did_not_take_goes_back),
		cmocka_unit_test(a_command_that_the_device_took_is_drained),
		cmocka_unit_test(a_base_that_the_device_cannot_have_reached_is_a_lie),
		cmocka_unit_test(an_abandoned_queue_leaves_the_guest_alone),
		cmocka_unit_test(an_answer_without_a_place_any_more_is_not_written),
		cmocka_unit_test(a_fresh_device_is_told_all_before_the_guest_goes_on),
		cmocka_unit_test(a_fresh_device_has_to_be_told_nothing_if_nothing_was_said),
		cmocka_unit_test(a_command_in_flight_at_a_reset_is_told_after_the_replay),
		cmocka_unit_test(a_replay_that_fails_names_the_command_and_the_reason),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
