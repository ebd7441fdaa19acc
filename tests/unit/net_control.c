/* SPDX-License-Identifier: BSD-2-Clause */
/* What a network device was told: each command judged, committed, replayed, saved
 * and loaded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_net.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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

static const struct net_control_terms terms = { .features = ALL_FEATURES,
						.max_pairs = PAIRS,
						.rss_key_max = KEY,
						.rss_table_max = TABLE,
						.hash_types = TYPES };

/* --- building commands ------------------------------------------------------- */

struct bytes {
	uint8_t at[NET_CONTROL_COMMAND_MAX + 64];
	size_t size;
};

static void begin(struct bytes *b, uint8_t class, uint8_t cmd)
{
	b->at[0] = class;
	b->at[1] = cmd;
	b->size = 2;
}

static void add(struct bytes *b, uint64_t v, unsigned int bytes)
{
	for (unsigned int i = 0; i < bytes; i++)
		b->at[b->size++] = (uint8_t)(v >> 8 * i);
}

static void add_fill(struct bytes *b, uint8_t v, size_t bytes)
{
	memset(b->at + b->size, v, bytes);
	b->size += bytes;
}

static void build(struct bytes *b, uint8_t class, uint8_t cmd, uint64_t data, unsigned int bytes)
{
	begin(b, class, cmd);
	add(b, data, bytes);
}

static void build_table(struct bytes *b, uint32_t unicast, uint32_t multicast, uint8_t seed)
{
	begin(b, CLASS(MAC, TABLE_SET));
	add(b, unicast, 4);
	for (uint32_t i = 0; i < unicast; i++)
		add(b, 0x52 | (uint64_t)seed << 32 | (uint64_t)i << 16, 6);
	add(b, multicast, 4);
	for (uint32_t i = 0; i < multicast; i++)
		add(b, 0x01 | (uint64_t)seed << 32 | (uint64_t)i << 16, 6);
}

struct rss {
	uint32_t types, entries;
	uint16_t mask_extra, unclassified, entry, pairs;
	uint8_t key, key_there;
};

static void build_rss(struct bytes *b, struct rss r)
{
	begin(b, CLASS(MQ, RSS_CONFIG));
	add(b, r.types, 4);
	add(b, r.entries - 1 + r.mask_extra, 2);
	add(b, r.unclassified, 2);
	for (uint32_t i = 0; i < r.entries; i++)
		add(b, i == r.entries - 1 ? r.entry : i % PAIRS, 2);
	add(b, r.pairs, 2);
	add(b, r.key, 1);
	add_fill(b, 0x6d, r.key_there);
}

static void build_hash(struct bytes *b, uint32_t types, uint8_t key, uint8_t key_there)
{
	begin(b, CLASS(MQ, HASH_CONFIG));
	add(b, types, 4);
	add(b, 0x0003000200010000u, 8); /* reserved, and not zero, as with Linux */
	add(b, key, 1);
	add_fill(b, 0x2a, key_there);
}

/* --- helpers ------------------------------------------------------------------ */

static struct bytes *bytes_new(void)
{
	struct bytes *b = calloc(1, sizeof(*b));

	assert_non_null(b);
	return b;
}

static struct net_control *state_new(void)
{
	struct net_control *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	return s;
}

/* Judge a copy that ends where the heap ends. */
static int judge_with(const struct net_control_terms *t, const struct bytes *b,
		      struct umbra_error *err)
{
	uint8_t *copy = malloc(b->size ? b->size : 1);
	int rc;

	assert_non_null(copy);
	memcpy(copy, b->at, b->size);
	rc = net_control_judge(t, copy, b->size, err);
	free(copy);
	return rc;
}

static void say(struct net_control *s, const struct bytes *b)
{
	struct umbra_error err = { "" };

	if (judge_with(&terms, b, &err))
		fail_msg("refused: %s", err.text);
	net_control_commit(s, b->at, b->size);
}

static void accepted(const struct bytes *b)
{
	struct umbra_error err = { "" };

	if (judge_with(&terms, b, &err))
		fail_msg("refused: %s", err.text);
}

static void refused(const struct bytes *b, int code, const char *why)
{
	struct umbra_error err = { "" };

	assert_int_equal(judge_with(&terms, b, &err), code);
	if (!strstr(err.text, why))
		fail_msg("\"%s\" does not say \"%s\"", err.text, why);
}

/* The replay of @s is exactly this one command, or nothing (@b is NULL). */
static void replays_as(const struct net_control *s, const struct bytes *b)
{
	struct net_control_replay r;
	struct bytes *got = bytes_new();

	net_control_replay_begin(&r, s);
	got->size = net_control_replay_next(&r, got->at);
	assert_int_equal(got->size, b ? b->size : 0);
	if (b) {
		assert_memory_equal(got->at, b->at, b->size);
		assert_int_equal(net_control_replay_next(&r, got->at), 0);
	}
	free(got);
}

/* Every command without a value of its own to judge: accepted with its feature,
 * refused without, and with a byte more or less; committed; replayed. */
static void each_command_is_followed_if_its_feature_was_negotiated(void **state)
{
	static const struct {
		uint8_t class, cmd;
		uint64_t feature, data;
		unsigned int size;
		const char *name;
	} cases[] = {
		{ CLASS(RX, PROMISC), F(CTRL_RX), 1, 1, "VIRTIO_NET_CTRL_RX_PROMISC" },
		{ CLASS(RX, ALLMULTI), F(CTRL_RX), 1, 1, "VIRTIO_NET_CTRL_RX_ALLMULTI" },
		{ CLASS(RX, ALLUNI), F(CTRL_RX_EXTRA), 1, 1, "VIRTIO_NET_CTRL_RX_ALLUNI" },
		{ CLASS(RX, NOMULTI), F(CTRL_RX_EXTRA), 1, 1, "VIRTIO_NET_CTRL_RX_NOMULTI" },
		{ CLASS(RX, NOUNI), F(CTRL_RX_EXTRA), 1, 1, "VIRTIO_NET_CTRL_RX_NOUNI" },
		{ CLASS(RX, NOBCAST), F(CTRL_RX_EXTRA), 1, 1, "VIRTIO_NET_CTRL_RX_NOBCAST" },
		{ CLASS(MAC, ADDR_SET), F(CTRL_MAC_ADDR), 0x0605040302, 6,
		  "VIRTIO_NET_CTRL_MAC_ADDR_SET" },
		{ CLASS(VLAN, ADD), F(CTRL_VLAN), 4095, 2, "VIRTIO_NET_CTRL_VLAN_ADD" },
		{ CLASS(MQ, VQ_PAIRS_SET), F(MQ), PAIRS, 2, "VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET" },
		{ CLASS(GUEST_OFFLOADS, SET), F(CTRL_GUEST_OFFLOADS), F(GUEST_CSUM), 8,
		  "VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET" },
		{ CLASS(NOTF_COAL, TX_SET), F(NOTF_COAL), 0x0000000700000003, 8,
		  "VIRTIO_NET_CTRL_NOTF_COAL_TX_SET" },
		{ CLASS(NOTF_COAL, RX_SET), F(NOTF_COAL), 0x0000000900000004, 8,
		  "VIRTIO_NET_CTRL_NOTF_COAL_RX_SET" },
	};
	struct bytes *b = bytes_new();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct net_control_terms without = terms;
		struct net_control *s = state_new();
		struct umbra_error err;

		build(b, cases[i].class, cases[i].cmd, cases[i].data, cases[i].size);
		without.features &= ~cases[i].feature;
		assert_int_equal(judge_with(&without, b, &err), -EOPNOTSUPP);
		assert_non_null(strstr(err.text, cases[i].name));
		assert_non_null(strstr(err.text, "was not negotiated"));
		b->size--;
		refused(b, -EINVAL, cases[i].name);
		b->size += 2;
		refused(b, -EINVAL, cases[i].name);
		b->size--;
		say(s, b);
		replays_as(s, b);
		free(s);
	}
	free(b);
}

static void an_announce_ack_passes_and_leaves_no_state(void **state)
{
	struct net_control *s = state_new(), *fresh = state_new();
	struct net_control_terms without = terms;
	struct bytes *b = bytes_new();
	struct umbra_error err;

	(void)state;
	build(b, CLASS(ANNOUNCE, ACK), 0, 0);
	say(s, b);
	assert_memory_equal(s, fresh, sizeof(*s));
	without.features &= ~F(GUEST_ANNOUNCE);
	assert_int_equal(judge_with(&without, b, &err), -EOPNOTSUPP);
	add(b, 0, 1);
	refused(b, -EINVAL, "1 bytes of data, expected 0");
	free(b);
	free(fresh);
	free(s);
}

static void a_command_that_cannot_be_followed_is_refused_by_name(void **state)
{
	struct bytes *b = bytes_new();

	(void)state;
	build(b, CLASS(RX, NOBCAST), 1, 1);
	b->at[1]++;
	refused(b, -EOPNOTSUPP, "control command 6 of class 0 is not known");
	begin(b, VIRTIO_NET_CTRL_NOTF_COAL, 2); /* VQ_SET of virtio 1.3 */
	add_fill(b, 0, 12);
	refused(b, -EOPNOTSUPP, "control command 2 of class 6 is not known");
	build(b, 255, 255, 0, 0);
	refused(b, -EOPNOTSUPP, "control command 255 of class 255 is not known");
	b->size = 1;
	refused(b, -EINVAL, "it has 1 bytes");
	b->size = 0;
	refused(b, -EINVAL, "it has 0 bytes");
	free(b);
}

static void a_filter_table_must_hold_what_it_counts(void **state)
{
	const uint32_t most = (NET_CONTROL_COMMAND_MAX - 10) / 6;
	struct bytes *b = bytes_new();
	struct net_control *s = state_new(), *only = state_new();
	struct net_control_summary sum;

	(void)state;
	build_table(b, 0, 0, 1);
	say(s, b);
	replays_as(s, b);
	build_table(b, 0, most, 1);
	assert_int_equal(b->size, NET_CONTROL_COMMAND_MAX);
	say(s, b);
	replays_as(s, b);
	build_table(b, most - 5, 5, 2);
	say(s, b);
	replays_as(s, b);
	build_table(b, 3, 2, 3); /* shorter than the last one, of which nothing stays */
	say(s, b);
	replays_as(s, b);
	say(only, b);
	assert_memory_equal(s, only, sizeof(*s));
	sum = net_control_summarise(s);
	assert_true(sum.has_table);
	assert_int_equal(sum.unicast, 3);
	assert_int_equal(sum.multicast, 2);

	b->size--;
	refused(b, -EINVAL, "its multicast table of 2 addresses ends after 11 bytes");
	b->size += 2;
	refused(b, -EINVAL, "1 bytes follow its two tables");
	b->size = 2 + 4 + 18 + 3;
	refused(b, -EINVAL, "it ends before its multicast table begins");
	b->size = 2 + 7;
	refused(b, -EINVAL, "7 bytes of data, expected 8 or more");
	memset(b->at + 2, 0xff, 4); /* a count whose product with 6 wraps */
	b->size = 2 + 8;
	refused(b, -EINVAL, "its unicast table of 4294967295 addresses ends after 4 bytes");
	build_table(b, 0, most + 1, 1);
	refused(b, -EINVAL, "expected 65534 or less");
	free(only);
	free(s);
	free(b);
}

static void a_mode_is_on_if_its_byte_is_not_zero(void **state)
{
	struct net_control *s = state_new();
	struct bytes *b = bytes_new();
	struct net_control_summary sum;

	(void)state;
	build(b, CLASS(RX, ALLUNI), 0x80, 1);
	say(s, b);
	build(b, CLASS(RX, PROMISC), 0, 1);
	say(s, b);
	sum = net_control_summarise(s);
	assert_int_equal(sum.modes_said, 1 << NET_RX_ALLUNI | 1 << NET_RX_PROMISC);
	assert_int_equal(sum.modes_on, 1 << NET_RX_ALLUNI);
	free(b);
	free(s);
}

static void vlans_are_added_and_deleted_one_at_a_time(void **state)
{
	struct net_control *s = state_new(), *fresh = state_new();
	struct net_control_replay r;
	struct bytes *b = bytes_new();
	unsigned int seen = 0;
	size_t size;

	(void)state;
	build(b, CLASS(VLAN, ADD), 4096, 2);
	refused(b, -EINVAL, "VLAN 4096, expected one below 4096");
	build(b, CLASS(VLAN, DEL), 0xffff, 2);
	refused(b, -EINVAL, "VLAN 65535, expected one below 4096");
	for (unsigned int v = 0; v < NET_CONTROL_VLANS; v++) {
		build(b, CLASS(VLAN, ADD), v, 2);
		say(s, b);
	}
	for (unsigned int v = 1; v < NET_CONTROL_VLANS; v += 2) {
		build(b, CLASS(VLAN, DEL), v, 2);
		say(s, b);
	}
	assert_int_equal(net_control_summarise(s).vlans, NET_CONTROL_VLANS / 2);
	net_control_replay_begin(&r, s);
	while ((size = net_control_replay_next(&r, b->at))) {
		assert_int_equal(size, 4);
		assert_int_equal(b->at[0], VIRTIO_NET_CTRL_VLAN);
		assert_int_equal(b->at[1], VIRTIO_NET_CTRL_VLAN_ADD);
		assert_int_equal(b->at[2] | b->at[3] << 8, 2 * seen++);
	}
	assert_int_equal(seen, NET_CONTROL_VLANS / 2);
	for (unsigned int v = 0; v < NET_CONTROL_VLANS; v += 2) {
		build(b, CLASS(VLAN, DEL), v, 2);
		say(s, b);
	}
	assert_memory_equal(s, fresh, sizeof(*s));
	replays_as(s, NULL);
	free(b);
	free(fresh);
	free(s);
}

static void queue_pairs_are_as_many_as_the_device_has(void **state)
{
	struct bytes *b = bytes_new();
	struct net_control *s = state_new();

	(void)state;
	assert_int_equal(net_control_summarise(s).pairs, 1);
	build(b, CLASS(MQ, VQ_PAIRS_SET), 0, 2);
	refused(b, -EINVAL, "0 queue pairs, expected 1 to 8");
	build(b, CLASS(MQ, VQ_PAIRS_SET), PAIRS + 1, 2);
	refused(b, -EINVAL, "9 queue pairs, expected 1 to 8");
	build(b, CLASS(MQ, VQ_PAIRS_SET), PAIRS, 2);
	say(s, b);
	assert_int_equal(net_control_summarise(s).pairs, PAIRS);
	free(s);
	free(b);
}

static void rss_stays_inside_the_limits_of_the_device(void **state)
{
	const struct rss good = { .types = TYPES,
				  .entries = TABLE,
				  .unclassified = PAIRS - 1,
				  .entry = PAIRS - 1,
				  .pairs = PAIRS,
				  .key = KEY,
				  .key_there = KEY };
	struct net_control *s = state_new();
	struct bytes *b = bytes_new();
	struct net_control_summary sum;
	struct rss r;

	(void)state;
	build_rss(b, good);
	say(s, b);
	replays_as(s, b);
	sum = net_control_summarise(s);
	assert_true(sum.has_rss);
	assert_int_equal(sum.rss_entries, TABLE);
	assert_int_equal(sum.rss_types, TYPES);
	assert_int_equal(sum.pairs, PAIRS);

	r = good, r.entries = 1, r.key = r.key_there = 0;
	build_rss(b, r);
	accepted(b);
	r = good, r.types |= 0x40;
	build_rss(b, r);
	refused(b, -EINVAL, "hash types 0x7f, the device has 0x3f");
	r = good, r.entries = 2 * TABLE;
	build_rss(b, r);
	refused(b, -EINVAL, "256 entries, expected a power of two up to 128");
	r = good, r.entries = 3;
	build_rss(b, r);
	refused(b, -EINVAL, "3 entries, expected a power of two");
	r = good, r.entries = 2, r.mask_extra = 126; /* says 128 and has 2 */
	build_rss(b, r);
	refused(b, -EINVAL, "too few for an indirection table of 128 entries");
	r = good, r.entry = PAIRS;
	build_rss(b, r);
	refused(b, -EINVAL, "entry 127 of the indirection table is queue 8, the device has 8");
	r = good, r.unclassified = PAIRS;
	build_rss(b, r);
	refused(b, -EINVAL, "unclassified packets go to queue 8, the device has 8");
	r = good, r.pairs = 0;
	build_rss(b, r);
	refused(b, -EINVAL, "0 queue pairs");
	r = good, r.pairs = PAIRS + 1;
	build_rss(b, r);
	refused(b, -EINVAL, "9 queue pairs");
	r = good, r.key = r.key_there = KEY + 1;
	build_rss(b, r);
	refused(b, -EINVAL, "a hash key of 41 bytes, the device takes 40");
	r = good, r.key_there--;
	build_rss(b, r);
	refused(b, -EINVAL, "a hash key of 40 bytes, of which 39 are there");
	r = good, r.key--;
	build_rss(b, r);
	refused(b, -EINVAL, "a hash key of 39 bytes, of which 40 are there");
	begin(b, CLASS(MQ, RSS_CONFIG));
	add_fill(b, 0, 12);
	refused(b, -EINVAL, "12 bytes of data, expected 13 or more");
	build_rss(b, good);
	for (size_t size = 2; size < b->size; size++) {
		struct bytes *cut = bytes_new();

		memcpy(cut->at, b->at, size);
		cut->size = size;
		refused(cut, -EINVAL, "VIRTIO_NET_CTRL_MQ_RSS_CONFIG");
		free(cut);
	}
	free(b);
	free(s);
}

static void the_longest_indirection_table_is_followed(void **state)
{
	struct net_control_terms wide = terms;
	struct net_control *s = state_new();
	struct bytes *b = bytes_new();
	struct umbra_error err;

	(void)state;
	wide.rss_table_max = UINT16_MAX;
	wide.rss_key_max = UINT8_MAX;
	build_rss(b, (struct rss){ .entries = NET_CONTROL_RSS_TABLE_MAX,
				   .pairs = 1,
				   .key = UINT8_MAX,
				   .key_there = UINT8_MAX });
	assert_int_equal(b->size, NET_CONTROL_RSS_BYTES + 2);
	assert_int_equal(judge_with(&wide, b, &err), 0);
	net_control_commit(s, b->at, b->size);
	replays_as(s, b);
	b->at[6] = 0xff; /* twice as many */
	b->at[7] = 0x7f;
	assert_int_equal(judge_with(&wide, b, &err), -EINVAL);
	assert_non_null(strstr(err.text, "32768 entries, expected a power of two up to 16384"));
	b->at[6] = b->at[7] = 0xff;
	assert_int_equal(judge_with(&wide, b, &err), -EINVAL);
	free(b);
	free(s);
}

static void a_hash_configuration_stays_inside_the_limits_of_the_device(void **state)
{
	struct net_control *s = state_new();
	struct bytes *b = bytes_new();

	(void)state;
	build_hash(b, TYPES, KEY, KEY);
	say(s, b);
	replays_as(s, b);
	assert_int_equal(net_control_summarise(s).hash_types, TYPES);
	build_hash(b, 1, 0, 0);
	say(s, b);
	replays_as(s, b);
	build_hash(b, 0x100, 0, 0);
	refused(b, -EINVAL, "hash types 0x100");
	build_hash(b, 1, KEY + 1, KEY + 1);
	refused(b, -EINVAL, "a hash key of 41 bytes");
	build_hash(b, 1, 2, 1);
	refused(b, -EINVAL, "of which 1 are there");
	b->size = 2 + 12;
	refused(b, -EINVAL, "expected 13 or more");
	free(b);
	free(s);
}

static void offloads_are_a_part_of_what_was_negotiated(void **state)
{
	struct bytes *b = bytes_new();

	(void)state;
	build(b, CLASS(GUEST_OFFLOADS, SET), 0, 8);
	accepted(b);
	build(b, CLASS(GUEST_OFFLOADS, SET), F(GUEST_CSUM) | F(GUEST_TSO4) | F(GUEST_TSO6), 8);
	accepted(b);
	build(b, CLASS(GUEST_OFFLOADS, SET), F(GUEST_CSUM) | F(GUEST_UFO), 8);
	refused(b, -EINVAL, "offloads 0x402, of which only 0x182 were negotiated");
	/* negotiated, but no offload of the guest */
	build(b, CLASS(GUEST_OFFLOADS, SET), F(CTRL_VQ), 8);
	refused(b, -EINVAL, "offloads 0x20000");
	free(b);
}

static void the_last_command_of_a_kind_counts_and_their_order_is_kept(void **state)
{
	struct bytes *pairs = bytes_new(), *hash = bytes_new(), *rss = bytes_new();
	struct bytes *got = bytes_new();
	struct net_control *s = state_new();
	const struct bytes *expected[] = { rss, hash, pairs };
	struct net_control_replay r;

	(void)state;
	build(pairs, CLASS(MQ, VQ_PAIRS_SET), 2, 2);
	build_hash(hash, 1, 3, 3);
	build_rss(rss, (struct rss){ .types = 2, .entries = 4, .entry = 1, .pairs = 3 });
	say(s, pairs);
	say(s, rss);
	assert_int_equal(net_control_summarise(s).pairs, 3);
	say(s, hash);
	build(pairs, CLASS(MQ, VQ_PAIRS_SET), 5, 2);
	say(s, pairs);
	assert_int_equal(net_control_summarise(s).pairs, 5);
	net_control_replay_begin(&r, s);
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
		got->size = net_control_replay_next(&r, got->at);
		assert_int_equal(got->size, expected[i]->size);
		assert_memory_equal(got->at, expected[i]->at, got->size);
	}
	assert_int_equal(net_control_replay_next(&r, got->at), 0);
	free(s);
	free(got);
	free(pairs);
	free(hash);
	free(rss);
}

static void terms_are_sane_whatever_the_configuration_space_says(void **state)
{
	uint8_t config[NET_CONTROL_CONFIG_BYTES];
	struct net_control_terms t;

	(void)state;
	for (unsigned int i = 0; i < sizeof(config); i++)
		config[i] = (uint8_t)(0x10 + i);
	t = net_control_terms_from_config(ALL_FEATURES, config, sizeof(config));
	assert_int_equal(t.max_pairs, 0x1918);
	assert_int_equal(t.rss_key_max, 0x21);
	assert_int_equal(t.rss_table_max, 0x2322);
	assert_int_equal(t.hash_types, 0x27262524);
	assert_true(t.features == ALL_FEATURES);

	/* Without the features the fields are not there. */
	t = net_control_terms_from_config(F(CTRL_VQ), config, sizeof(config));
	assert_int_equal(t.max_pairs, 1);
	assert_int_equal(t.rss_key_max, 0);
	assert_int_equal(t.rss_table_max, 0);
	assert_int_equal(t.hash_types, 0);

	t = net_control_terms_from_config(ALL_FEATURES, config, 9); /* half of the field */
	assert_int_equal(t.max_pairs, 0x18);
	t = net_control_terms_from_config(ALL_FEATURES, NULL, 0);
	assert_int_equal(t.max_pairs, 1);
	memset(config, 0xff, sizeof(config));
	t = net_control_terms_from_config(F(MQ), config, sizeof(config));
	assert_int_equal(t.max_pairs, 0x8000);
}

static void the_control_ring_is_the_one_behind_all_pairs(void **state)
{
	(void)state;
	assert_true(net_control_is_control_ring(F(CTRL_VQ), 8, 2));
	assert_false(net_control_is_control_ring(F(CTRL_VQ), 8, 16));
	assert_true(net_control_is_control_ring(F(CTRL_VQ) | F(MQ), 8, 16));
	assert_true(net_control_is_control_ring(F(CTRL_VQ) | F(RSS), 8, 16));
	assert_false(net_control_is_control_ring(F(CTRL_VQ) | F(MQ), 8, 2));
	assert_false(net_control_is_control_ring(F(MQ), 8, 16));
}

static void features_whose_commands_are_not_followed_are_not_offered(void **state)
{
	uint64_t followed = net_control_followed_features();

	(void)state;
	assert_true((followed & ALL_FEATURES) == ALL_FEATURES);
	/* DEVICE_STATS, HASH_TUNNEL, VQ_NOTF_COAL, and one that is not assigned */
	assert_true((followed & (BIT64(50) | BIT64(51) | BIT64(52) | BIT64(58))) == 0);
	/* ring and transport are others' affair */
	assert_true((followed & (BIT64(50) - BIT64(24))) == 0);
}

/* --- saving and loading ---------------------------------------------------------- */

static uint8_t *save(const struct net_control *s, size_t *size)
{
	uint8_t *bytes;

	*size = net_control_saved_bytes(s);
	bytes = malloc(*size);
	assert_non_null(bytes);
	net_control_save(s, bytes);
	return bytes;
}

static void everything_said(struct net_control *s)
{
	struct bytes *b = bytes_new();

	for (uint8_t mode = 0; mode < NET_RX_MODES; mode++) {
		build(b, VIRTIO_NET_CTRL_RX, mode, mode & 1, 1);
		say(s, b);
	}
	build(b, CLASS(MAC, ADDR_SET), 0x665544332252, 6);
	say(s, b);
	build_table(b, 3, 4, 9);
	say(s, b);
	for (unsigned int v = 0; v < NET_CONTROL_VLANS; v += 1365) {
		build(b, CLASS(VLAN, ADD), v, 2);
		say(s, b);
	}
	build_hash(b, 3, 4, 4);
	say(s, b);
	build(b, CLASS(MQ, VQ_PAIRS_SET), 4, 2);
	say(s, b);
	build_rss(b,
		  (struct rss){ .types = 7, .entries = 8, .pairs = 8, .key = 9, .key_there = 9 });
	say(s, b);
	build(b, CLASS(GUEST_OFFLOADS, SET), F(GUEST_CSUM), 8);
	say(s, b);
	build(b, CLASS(NOTF_COAL, TX_SET), 0x1100000010, 8);
	say(s, b);
	build(b, CLASS(NOTF_COAL, RX_SET), 0x1300000012, 8);
	say(s, b);
	free(b);
}

static void a_saved_state_loads_as_it_was(void **state)
{
	struct net_control *s = state_new(), *loaded = state_new();
	struct net_control_summary sum;
	struct umbra_error err = { "" };
	uint8_t *bytes;
	size_t size;

	(void)state;
	bytes = save(s, &size);
	assert_int_equal(size, 12); /* nothing said: the header */
	everything_said(loaded);
	assert_int_equal(net_control_load(loaded, &terms, bytes, size, &err), 0);
	assert_memory_equal(loaded, s, sizeof(*s));
	free(bytes);

	everything_said(s);
	bytes = save(s, &size);
	assert_int_equal(net_control_load(loaded, &terms, bytes, size, &err), 0);
	assert_memory_equal(loaded, s, sizeof(*s));
	sum = net_control_summarise(loaded);
	assert_memory_equal(sum.mac, "\x52\x22\x33\x44\x55\x66", 6);
	assert_int_equal(sum.vlans, 4);
	assert_int_equal(sum.pairs, 8);
	assert_int_equal(sum.coal_tx_packets, 0x10);
	assert_int_equal(sum.coal_tx_us, 0x11);
	assert_int_equal(sum.coal_rx_packets, 0x12);
	assert_int_equal(sum.coal_rx_us, 0x13);
	assert_true(sum.offloads == F(GUEST_CSUM));
	free(bytes);
	free(loaded);
	free(s);
}

/* What a reader that does not use our code would write and expect. */
static void the_saved_form_is_the_documented_one(void **state)
{
	static const uint8_t expected[] = {
		'U', 'M', 'N', 'C', 1, 0, 0,    0,    23, 0, 0, 0, /* header, 23 bytes follow */
		4,   0,   0,   0,   2, 0, 0x01, 0x01,              /* VLAN_ADD 257 */
		3,   0,   0,   0,   0, 1, 1,                       /* ALLMULTI on */
		4,   0,   0,   0,   4, 0, 2,    0,                 /* two queue pairs */
	};
	struct net_control *s = state_new();
	struct bytes *b = bytes_new();
	uint8_t *bytes;
	size_t size;

	(void)state;
	build(b, CLASS(RX, ALLMULTI), 1, 1);
	say(s, b);
	build(b, CLASS(VLAN, ADD), 257, 2);
	say(s, b);
	build(b, CLASS(MQ, VQ_PAIRS_SET), 2, 2);
	say(s, b);
	bytes = save(s, &size);
	assert_int_equal(size, sizeof(expected));
	assert_memory_equal(bytes, expected, size);
	free(bytes);
	free(b);
	free(s);
}

static void a_saved_state_that_was_cut_is_refused_and_leaves_a_fresh_one(void **state)
{
	struct net_control *s = state_new(), *loaded = state_new(), *fresh = state_new();
	struct umbra_error err;
	uint8_t *bytes, *cut;
	size_t size;

	(void)state;
	everything_said(s);
	bytes = save(s, &size);
	for (size_t n = 0; n < size; n++) {
		for (int mended = 0; mended < (n < 12 ? 1 : 2); mended++) {
			int rc;

			cut = malloc(n ? n : 1);
			assert_non_null(cut);
			memcpy(cut, bytes, n);
			if (mended) { /* the length in the header is that of the cut one */
				cut[8] = (uint8_t)(n - 12);
				cut[9] = (uint8_t)((n - 12) >> 8);
			}
			err.text[0] = '\0';
			everything_said(loaded);
			rc = net_control_load(loaded, &terms, cut, n, &err);
			if (!mended || rc) {
				assert_int_equal(rc, -EINVAL);
				assert_non_null(strstr(err.text, "saved state"));
				assert_memory_equal(loaded, fresh, sizeof(*s));
			}
			free(cut);
		}
	}
	free(bytes);
	free(fresh);
	free(loaded);
	free(s);
}

static void each_flipped_bit_is_refused_or_loads_a_state_that_could_have_been_said(void **state)
{
	struct net_control *s = state_new(), *loaded = state_new(), *again = state_new();
	unsigned int accepted_flips = 0, refused_flips = 0;
	struct umbra_error err;
	uint8_t *bytes;
	size_t size;

	(void)state;
	everything_said(s);
	bytes = save(s, &size);
	for (size_t bit = 0; bit < 8 * size; bit++) {
		uint8_t *second;
		size_t second_size;

		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		err.text[0] = '\0';
		if (net_control_load(loaded, &terms, bytes, size, &err)) {
			assert_true(err.text[0]);
			assert_true(bit < 64 + 32 || strstr(err.text, "saved state"));
			refused_flips++;
		} else {
			assert_true(bit >= 8 * 12); /* each bit of the header counts */
			second = save(loaded, &second_size);
			assert_int_equal(net_control_load(again, &terms, second, second_size, &err),
					 0);
			assert_memory_equal(again, loaded, sizeof(*again));
			free(second);
			accepted_flips++;
		}
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	assert_true(accepted_flips > 100 && refused_flips > 100);
	free(bytes);
	free(again);
	free(loaded);
	free(s);
}

static void a_saved_state_is_judged_by_the_terms_of_the_device_that_it_comes_to(void **state)
{
	struct net_control *s = state_new(), *loaded = state_new(), *fresh = state_new();
	struct net_control_terms narrow = terms;
	struct umbra_error err;
	uint8_t *bytes;
	size_t size;

	(void)state;
	everything_said(s);
	bytes = save(s, &size);
	narrow.max_pairs = 4;
	assert_int_equal(net_control_load(loaded, &narrow, bytes, size, &err), -EINVAL);
	assert_non_null(strstr(err.text, "the saved state of the control queue: "
					 "VIRTIO_NET_CTRL_MQ_RSS_CONFIG: "));
	narrow = terms;
	narrow.features &= ~F(CTRL_VLAN);
	assert_int_equal(net_control_load(loaded, &narrow, bytes, size, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "VIRTIO_NET_F_CTRL_VLAN was not negotiated"));
	assert_memory_equal(loaded, fresh, sizeof(*s));
	free(bytes);
	free(fresh);
	free(loaded);
	free(s);
}

/* --- a view ----------------------------------------------------------------------- */

#define VIEW_TURNS 100000u

struct viewing {
	struct net_control_view view;
	struct net_control *state;
};

/* The two halves of what is shown are always of one saying. */
static void *view_write(void *opaque)
{
	struct viewing *v = opaque;
	struct bytes *b = bytes_new();

	for (uint32_t i = 1; i <= VIEW_TURNS; i++) {
		build(b, CLASS(MAC, ADDR_SET), i, 6);
		net_control_commit(v->state, b->at, b->size);
		build(b, CLASS(NOTF_COAL, RX_SET), (uint64_t)i << 32, 8);
		net_control_commit(v->state, b->at, b->size);
		net_control_show(&v->view, v->state);
	}
	free(b);
	return NULL;
}

static void another_thread_sees_one_whole_summary(void **state)
{
	struct viewing *v = calloc(1, sizeof(*v));
	uint32_t last = 0;
	pthread_t writer;

	(void)state;
	assert_non_null(v);
	v->state = state_new();
	assert_int_equal(net_control_look(&v->view).pairs, 0); /* nothing shown */
	assert_int_equal(pthread_create(&writer, NULL, view_write, v), 0);
	while (last < VIEW_TURNS) {
		struct net_control_summary sum = net_control_look(&v->view);
		uint32_t mac = (uint32_t)sum.mac[0] | (uint32_t)sum.mac[1] << 8 |
			       (uint32_t)sum.mac[2] << 16 | (uint32_t)sum.mac[3] << 24;

		assert_int_equal(mac, sum.coal_rx_us);
		assert_true(mac >= last);
		last = mac;
	}
	assert_int_equal(pthread_join(writer, NULL), 0);
	free(v->state);
	free(v);
}

/* --- a device without wits ----------------------------------------------------------- */

/* It does what it is told, as the specification has it, and shares no code with
 * what is tested.  The commands for receive steering undo each other. */
struct device {
	bool mac_set, vlan[4096], promisc, allmulti, alluni, nomulti, nouni, nobcast;
	uint8_t mac[6];
	uint8_t table[NET_CONTROL_COMMAND_MAX];
	size_t table_size;
	unsigned int pairs;
	uint8_t rss[1024], hash[512];
	size_t rss_size, hash_size;
	uint8_t offloads[8], tx[8], rx[8];
};

static void device_reset(struct device *d)
{
	memset(d, 0, sizeof(*d));
	d->promisc = true;
	d->pairs = 1;
	memset(d->offloads, 0x5a, 8);
}

static void device_obey(struct device *d, const uint8_t *b, size_t size)
{
	bool *const modes[] = { &d->promisc, &d->allmulti, &d->alluni,
				&d->nomulti, &d->nouni,    &d->nobcast };
	const uint8_t *data = b + 2;
	unsigned int word = size >= 4 ? data[0] + 256u * data[1] : 0;

	switch (b[0] * 256 + b[1]) {
	case 0x000 ... 0x005:
		*modes[b[1]] = data[0];
		break;
	case 0x100:
		memcpy(d->table, data, size - 2);
		d->table_size = size - 2;
		break;
	case 0x101:
		memcpy(d->mac, data, 6);
		d->mac_set = true;
		break;
	case 0x200:
		d->vlan[word] = true;
		break;
	case 0x201:
		d->vlan[word] = false;
		break;
	case 0x300:
		break;
	case 0x400:
		d->pairs = word;
		d->rss_size = d->hash_size = 0;
		break;
	case 0x401:
		memset(d->rss, 0, sizeof(d->rss));
		memcpy(d->rss, data, size - 2);
		d->rss_size = size - 2;
		d->pairs = data[8 + 2 * (data[4] + 1)]; /* at most 256 entries, 8 pairs */
		break;
	case 0x402:
		memset(d->hash, 0, sizeof(d->hash));
		memcpy(d->hash, data, size - 2);
		d->hash_size = size - 2;
		d->rss_size = 0;
		break;
	case 0x500:
		memcpy(d->offloads, data, 8);
		break;
	case 0x600:
		memcpy(d->tx, data, 8);
		break;
	case 0x601:
		memcpy(d->rx, data, 8);
		break;
	default:
		fail_msg("the device was told %u %u", b[0], b[1]);
	}
}

static bool device_equal(const struct device *a, const struct device *b)
{
	return a->pairs == b->pairs && a->mac_set == b->mac_set && !memcmp(a->mac, b->mac, 6) &&
	       !memcmp(a->vlan, b->vlan, sizeof(a->vlan)) && a->promisc == b->promisc &&
	       a->allmulti == b->allmulti && a->alluni == b->alluni && a->nomulti == b->nomulti &&
	       a->nouni == b->nouni && a->nobcast == b->nobcast && a->table_size == b->table_size &&
	       !memcmp(a->table, b->table, a->table_size) && a->rss_size == b->rss_size &&
	       !memcmp(a->rss, b->rss, a->rss_size) && a->hash_size == b->hash_size &&
	       !memcmp(a->hash, b->hash, a->hash_size) && !memcmp(a->offloads, b->offloads, 8) &&
	       !memcmp(a->tx, b->tx, 8) && !memcmp(a->rx, b->rx, 8);
}

static unsigned int below(unsigned int n)
{
	return (unsigned int)rand() % n;
}

/* A command that is mostly legal. */
static void build_any(struct bytes *b)
{
	uint8_t key = (uint8_t)below(KEY + 2);

	switch (below(12)) {
	case 0:
	case 1:
		build(b, VIRTIO_NET_CTRL_RX, (uint8_t)below(7), below(2), 1);
		break;
	case 2:
		build_table(b, below(5), below(5), (uint8_t)below(256));
		break;
	case 3:
		build(b, CLASS(MAC, ADDR_SET), (uint64_t)below(1000), 6);
		break;
	case 4:
	case 5:
		build(b, VIRTIO_NET_CTRL_VLAN, (uint8_t)below(2), 4000 + below(98), 2);
		break;
	case 6:
		build(b, CLASS(MQ, VQ_PAIRS_SET), below(PAIRS + 2), 2);
		break;
	case 7:
		build_rss(b, (struct rss){ .types = below(64),
					   .entries = 1u << below(8),
					   .pairs = (uint16_t)below(PAIRS + 2),
					   .entry = (uint16_t)below(PAIRS + 1),
					   .key = key,
					   .key_there = key });
		break;
	case 8:
		build_hash(b, below(65), key, key);
		break;
	case 9:
		build(b, CLASS(GUEST_OFFLOADS, SET), (uint64_t)below(4) << 7, 8);
		break;
	case 10:
		build(b, VIRTIO_NET_CTRL_NOTF_COAL, (uint8_t)below(3), (uint64_t)rand() << 16, 8);
		break;
	default:
		build(b, CLASS(ANNOUNCE, ACK), 0, below(2));
		break;
	}
}

static void a_fresh_device_is_brought_to_where_any_sequence_of_commands_led(void **state)
{
	struct net_control *s = state_new(), *loaded = state_new();
	struct device *told = calloc(1, sizeof(*told)), *replayed = calloc(1, sizeof(*told));
	unsigned int seed = (unsigned int)time(NULL), said = 0, refusals = 0;
	struct bytes *b = bytes_new();
	struct umbra_error err;

	(void)state;
	assert_true(told && replayed);
	print_message("seed %u\n", seed);
	srand(seed);
	for (unsigned int round = 0; round < 1000; round++) {
		unsigned int length = below(60);
		struct net_control_replay r;
		uint8_t *bytes;
		size_t size;

		memset(s, 0, sizeof(*s));
		device_reset(told);
		for (unsigned int i = 0; i < length; i++) {
			build_any(b);
			if (judge_with(&terms, b, &err)) {
				refusals++;
				continue;
			}
			if (below(8) == 0) /* the device says no */
				continue;
			device_obey(told, b->at, b->size);
			net_control_commit(s, b->at, b->size);
			said++;
		}
		bytes = save(s, &size);
		assert_int_equal(net_control_load(loaded, &terms, bytes, size, &err), 0);
		free(bytes);
		device_reset(replayed);
		net_control_replay_begin(&r, loaded);
		while ((b->size = net_control_replay_next(&r, b->at))) {
			accepted(b);
			device_obey(replayed, b->at, b->size);
		}
		assert_true(device_equal(told, replayed));
		assert_int_equal(net_control_summarise(loaded).pairs, told->pairs);
	}
	assert_true(said > 1000 && refusals > 100);
	free(b);
	free(told);
	free(replayed);
	free(loaded);
	free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_command_is_followed_if_its_feature_was_negotiated),
		cmocka_unit_test(an_announce_ack_passes_and_leaves_no_state),
		cmocka_unit_test(a_command_that_cannot_be_followed_is_refused_by_name),
		cmocka_unit_test(a_filter_table_must_hold_what_it_counts),
		cmocka_unit_test(a_mode_is_on_if_its_byte_is_not_zero),
		cmocka_unit_test(vlans_are_added_and_deleted_one_at_a_time),
		cmocka_unit_test(queue_pairs_are_as_many_as_the_device_has),
		cmocka_unit_test(rss_stays_inside_the_limits_of_the_device),
		cmocka_unit_test(the_longest_indirection_table_is_followed),
		cmocka_unit_test(a_hash_configuration_stays_inside_the_limits_of_the_device),
		cmocka_unit_test(offloads_are_a_part_of_what_was_negotiated),
		cmocka_unit_test(the_last_command_of_a_kind_counts_and_their_order_is_kept),
		cmocka_unit_test(terms_are_sane_whatever_the_configuration_space_says),
		cmocka_unit_test(the_control_ring_is_the_one_behind_all_pairs),
		cmocka_unit_test(features_whose_commands_are_not_followed_are_not_offered),
		cmocka_unit_test(a_saved_state_loads_as_it_was),
		cmocka_unit_test(the_saved_form_is_the_documented_one),
		cmocka_unit_test(a_saved_state_that_was_cut_is_refused_and_leaves_a_fresh_one),
		cmocka_unit_test(
			each_flipped_bit_is_refused_or_loads_a_state_that_could_have_been_said),
		cmocka_unit_test(
			a_saved_state_is_judged_by_the_terms_of_the_device_that_it_comes_to),
		cmocka_unit_test(another_thread_sees_one_whole_summary),
		cmocka_unit_test(a_fresh_device_is_brought_to_where_any_sequence_of_commands_led),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
