/* SPDX-License-Identifier: BSD-2-Clause */
/* What a network device is told: each command judged, committed and replayed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>

#include "net_control_rig.h"

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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
