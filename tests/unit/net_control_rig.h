/* SPDX-License-Identifier: BSD-2-Clause */
/* Commands for a network device, built, judged and said. */
#ifndef UMBRA_TESTS_NET_CONTROL_RIG_H
#define UMBRA_TESTS_NET_CONTROL_RIG_H

#include <linux/virtio_net.h>

#include "base/bits.h"
#include "net/net_control.h"

#define F(name) BIT64(VIRTIO_NET_F_##name)
#define CLASS(class, cmd) VIRTIO_NET_CTRL_##class, VIRTIO_NET_CTRL_##class##_##cmd

/* A device that is able to everything that is followed. */
#define ALL_FEATURES                                                                               \
	(F(CTRL_VQ) | F(CTRL_RX) | F(CTRL_RX_EXTRA) | F(CTRL_VLAN) | F(CTRL_MAC_ADDR) | F(MQ) |    \
	 F(CTRL_GUEST_OFFLOADS) | F(GUEST_ANNOUNCE) | F(NOTF_COAL) | F(RSS) | F(HASH_REPORT) |     \
	 F(GUEST_CSUM) | F(GUEST_TSO4) | F(GUEST_TSO6))

#define PAIRS 8u
#define KEY 40u
#define TABLE 128u
#define TYPES 0x3fu

extern const struct net_control_terms terms;

struct bytes {
	uint8_t at[NET_CONTROL_COMMAND_MAX + 64];
	size_t size;
};

void begin(struct bytes *b, uint8_t class, uint8_t cmd);
void add(struct bytes *b, uint64_t v, unsigned int bytes);
void add_fill(struct bytes *b, uint8_t v, size_t bytes);
void build(struct bytes *b, uint8_t class, uint8_t cmd, uint64_t data, unsigned int bytes);
void build_table(struct bytes *b, uint32_t unicast, uint32_t multicast, uint8_t seed);

struct rss {
	uint32_t types, entries;
	uint16_t mask_extra, unclassified, entry, pairs;
	uint8_t key, key_there;
};

void build_rss(struct bytes *b, struct rss r);
void build_hash(struct bytes *b, uint32_t types, uint8_t key, uint8_t key_there);
struct bytes *bytes_new(void);
struct net_control *state_new(void);
/* Judge a copy that ends where the heap ends. */
int judge_with(const struct net_control_terms *t, const struct bytes *b, struct umbra_error *err);
void say(struct net_control *s, const struct bytes *b);
void accepted(const struct bytes *b);
void refused(const struct bytes *b, int code, const char *why);
/* The replay of @s is exactly this one command, or nothing (@b is NULL). */
void replays_as(const struct net_control *s, const struct bytes *b);

#endif
