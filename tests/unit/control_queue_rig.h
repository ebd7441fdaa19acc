/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A control queue between a guest's driver that may lie and a simulated device that
 * may, too, in one thread.
 */
#ifndef UMBRA_TESTS_CONTROL_QUEUE_RIG_H
#define UMBRA_TESTS_CONTROL_QUEUE_RIG_H

#include <linux/virtio_net.h>

#include "feature_bits.h"
#include "net/control_queue.h"
#include "sim_host.h"

#define F(name) BIT64(VIRTIO_NET_F_##name)

/* The guest's memory: two regions that adjoin for the guest and nowhere else. */
#define RAM_GPA UINT64_C(0x40000000)
#define RAM_BYTES (1u << 20)
#define HIGH_GPA (RAM_GPA + RAM_BYTES)
#define HIGH_BYTES 0x1000u
#define RING_AT 0x80000u /* the ring in the first one; buffers are before it */
#define ANSWER_AT 0x40000u

/* Where the device sees our own memory.  It sees nothing else. */
#define OWN_IOVA UINT64_C(0x7000000000)

#define KICK_FD 42      /* the device's, of its control queue */
#define UNANSWERED 0xee /* in the guest's byte for the answer */

struct rig {
	uint8_t *ram, *high;
	struct memory *memory, *own_memory;
	struct driver_ring guest;
	void *guest_private;

	struct control_queue queue;
	struct queue_service service; /* how it is served */
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
	struct sim_host host;
	unsigned int obeyed;  /* commands that the device has used */
	unsigned int deaf_at; /* it does not use this one */
	unsigned int no_at;   /* it answers no to this one */
	unsigned int lie_at;  /* it uses another id instead of this one's */
	unsigned int stop_at; /* the host wants to stop at this one */
};

struct memory *memory_of(const struct memory_region *regions, unsigned int count);
/* The device after a reset: it runs the ring from 0. */
void device_begin(struct rig *g);
struct rig *rig_at(uint16_t size, uint64_t features, uint16_t base);
struct rig *rig_new(void);
void rig_free(struct rig *g);
uint8_t *guest_byte(struct rig *g, uint64_t gpa);
void guest_write(struct rig *g, uint64_t gpa, const void *bytes, size_t size);
void guest_add_segs(struct rig *g, const struct driver_seg *segs, uint32_t count, uint64_t token);
/* A command at @gpa in one segment, its answer at ANSWER_AT + @token. */
void guest_say_at(struct rig *g, uint64_t gpa, const void *bytes, uint32_t size, uint64_t token);
void guest_say(struct rig *g, const void *bytes, uint32_t size, uint64_t token);

#define SAY(g, token, ...)                                                                         \
	guest_say(g, (const uint8_t[]){ __VA_ARGS__ }, sizeof((uint8_t[]){ __VA_ARGS__ }), token)

#define PROMISC(on) VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, on
#define ALLMULTI(on) VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, on
#define PAIRS(n) VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, n, 0
#define VLAN_ADD(id) VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, id, 0

/* The guest gets its command back, with this answer (UNANSWERED: none). */
void guest_gets(struct rig *g, uint64_t token, uint8_t answer);

void guest_gets_nothing(struct rig *g);
/* One pass of it, or a move, as its service does. */
int pass(struct rig *g, unsigned int *owed);
int move(struct rig *g, unsigned int *owed);
bool has_work(const struct rig *g);
/* All passes until the queue sleeps; what it wanted done meanwhile. */
int run(struct rig *g);
/* Commands that the device has and has not used. */
uint16_t in_flight(const struct rig *g);
/* Take a command, into g->seen.  All of it is in our own memory. */
int device_take(struct rig *g);
void device_use(struct rig *g, uint32_t len);
void device_answers(struct rig *g, uint8_t ack);
void device_takes(struct rig *g, const uint8_t *bytes, size_t size);

#define TAKES(g, ...)                                                                              \
	device_takes(g, (const uint8_t[]){ __VA_ARGS__ }, sizeof((uint8_t[]){ __VA_ARGS__ }))

/* The guest says it, and the device takes it. */
#define GIVE(g, token, ...)                                                                        \
	do {                                                                                       \
		SAY(g, token, __VA_ARGS__);                                                        \
		run(g);                                                                            \
		TAKES(g, __VA_ARGS__);                                                             \
	} while (0)

/* The device says OK to what it has, and the guest hears it. */
void command_succeeds(struct rig *g, uint64_t token);

/* A used entry, written past the device side's own checks. */
void device_lies(struct rig *g, uint32_t id, uint16_t new_idx);

#endif
