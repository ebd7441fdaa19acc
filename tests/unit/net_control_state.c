/* SPDX-License-Identifier: BSD-2-Clause */
/* What a network device was told, as a whole: saved and loaded, shown to others, and
 * said again to a device that knows nothing of it. */
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

#include "net_control_rig.h"
#include "random.h"

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
		build(b, VIRTIO_NET_CTRL_NOTF_COAL, (uint8_t)below(3),
		      (random64() & INT32_MAX) << 16, 8);
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
	unsigned int said = 0, refusals = 0;
	struct bytes *b = bytes_new();
	struct umbra_error err;

	(void)state;
	assert_true(told && replayed);
	random_begin_anew();
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
