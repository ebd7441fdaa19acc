/* SPDX-License-Identifier: BSD-2-Clause */
/* A network device with a control queue that is stopped as a whole, and a guest that
 * talks to it. */
#ifndef UMBRA_TESTS_SHADOW_CONTROL_RIG_H
#define UMBRA_TESTS_SHADOW_CONTROL_RIG_H

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>

#include "base/error.h"
#include "sim.h"

#define F(name) BIT64(VIRTIO_NET_F_##name)
#define NET                                                                                        \
	(BIT64(VIRTIO_F_VERSION_1) | BIT64(VIRTIO_RING_F_EVENT_IDX) | F(CTRL_VQ) | F(CTRL_RX) |    \
	 F(CTRL_VLAN) | F(CTRL_MAC_ADDR))

#define CONTROL 2u /* its ring, behind those of one pair of queues */
#define COMMAND_AT (CONTROL * SIM_SLOT + (3ull << 20))
#define COMMAND_STRIDE 256u
#define UNANSWERED 0xee
#define TOLD_MAX 64u

/* A simulated network device, behind the rings of struct sim. */
extern struct net_device {
	struct {
		uint8_t bytes[64];
		size_t size;
		unsigned int life;    /* it had been started so often */
		bool data_is_enabled; /* a data ring was, when this came */
	} told[TOLD_MAX];
	unsigned int told_count;
	bool is_deaf;             /* it takes no command */
	bool is_slow;             /* it takes one, and does not answer */
	unsigned int refuses;     /* so many, from the next on */
	unsigned int lies;        /* so many are given back by another id */
	unsigned int fail_enable; /* counted down to 0 */
	uint16_t max_pairs;
	unsigned int said; /* by the guest */
} dev;

void device_take(struct sim *sim);
struct sim *net_new(enum umbra_shadow_mode mode, unsigned int traits);
struct sim *net_boot(unsigned int traits);

#define SAY(sim, ...)                                                                              \
	guest_say(sim, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))
#define PROMISC VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 1
#define ALLMULTI VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, 1
#define MAC VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, 2, 3, 4, 5, 6, 7

uint8_t *command_place(const struct sim *sim, unsigned int which);
/* Make a command available; returns its number. */
unsigned int guest_say(struct sim *sim, const uint8_t *bytes, size_t size);
/* The answer to the guest's oldest command, which is @which; UNANSWERED: none yet. */
unsigned int answer(struct sim *sim, unsigned int which);
/* In its present life the device was told so many commands. */
unsigned int told(const struct sim *sim);

#define ASSERT_TOLD_AGAIN(sim, place, ...)                                                         \
	assert_told(sim, place, (const uint8_t[]){ __VA_ARGS__ },                                  \
		    sizeof((const uint8_t[]){ __VA_ARGS__ }))

/* Command number @place of this life was these bytes, and no data ring ran. */
void assert_told(const struct sim *sim, unsigned int place, const uint8_t *bytes, size_t size);

/* The device is stopped and started, whatever it can. */
void restart(struct sim *sim);

#endif
