/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a network device was told: see net_control.h.
 *
 * One table says of each command its name, the feature that brings it, how long
 * its data is, what else to look at, and where the data is kept.
 */
#include "net/net_control.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"

/* Bits that the kernel's headers of this release do not name yet (virtio 1.3). */
#define F_GUEST_USO4 54
#define F_GUEST_USO6 55
#define F_HOST_USO 56
#define F_GUEST_HDRLEN 59

#define HEADER_BYTES 2u /* class and command */
#define MAC_BYTES 6u
#define MODE_ON_BYTES 1u

#define SAVED_MAGIC UINT32_C(0x434e4d55) /* "UMNC" */
#define SAVED_VERSION 1u
#define SAVED_HEADER_BYTES 12u
#define RECORD_HEADER_BYTES 4u

/* What can be switched off and on while the device runs: virtio 1.2, 5.1.6.5.8,
 * and what later versions add. */
#define OFFLOADS                                                                                   \
	(BIT64(VIRTIO_NET_F_GUEST_CSUM) | BIT64(VIRTIO_NET_F_GUEST_TSO4) |                         \
	 BIT64(VIRTIO_NET_F_GUEST_TSO6) | BIT64(VIRTIO_NET_F_GUEST_ECN) |                          \
	 BIT64(VIRTIO_NET_F_GUEST_UFO) | BIT64(F_GUEST_USO4) | BIT64(F_GUEST_USO6) |               \
	 BIT64(VIRTIO_NET_F_RSC_EXT))

#define RX_MODE(mode) VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_##mode
#define SLOT(field) offsetof(struct net_control, field)

_Static_assert(NET_CONTROL_RSS_BYTES + HEADER_BYTES <= NET_CONTROL_COMMAND_MAX,
	       "the longest RSS_CONFIG is a command");

/* Little-endian words at any address of a private copy. */
static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t get32(const uint8_t *p)
{
	return get16(p) | (uint32_t)get16(p + 2) << 16;
}

static uint64_t get64(const uint8_t *p)
{
	return get32(p) | (uint64_t)get32(p + 4) << 32;
}

static void put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static void put32(uint8_t *p, uint32_t v)
{
	put16(p, (uint16_t)v);
	put16(p + 2, (uint16_t)(v >> 16));
}

/* ---- what the data of each command may be ---------------------------------- */

/* Data of @size bytes, at least the command's least: 0, or -EINVAL with what is
 * wrong. */
typedef int data_judge(const struct net_control_terms *t, const uint8_t *data, size_t size,
		       struct umbra_error *err);

/* Two tables: each a count and so many addresses. */
static int judge_mac_table(const struct net_control_terms *t, const uint8_t *data, size_t size,
			   struct umbra_error *err)
{
	size_t at = 0;

	(void)t;
	for (unsigned int table = 0; table < 2; table++) {
		uint32_t count;

		if (size - at < 4)
			return error_set(err, -EINVAL, "it ends before its %s table begins",
					 table ? "multicast" : "unicast");
		count = get32(data + at);
		at += 4;
		if (count > (size - at) / MAC_BYTES)
			return error_set(err, -EINVAL,
					 "its %s table of %" PRIu32
					 " addresses ends after %zu bytes",
					 table ? "multicast" : "unicast", count, size - at);
		at += (size_t)count * MAC_BYTES;
	}
	if (at != size)
		return error_set(err, -EINVAL, "%zu bytes follow its two tables", size - at);
	return 0;
}

static int judge_vlan(const struct net_control_terms *t, const uint8_t *data, size_t size,
		      struct umbra_error *err)
{
	(void)t;
	(void)size;
	if (get16(data) >= NET_CONTROL_VLANS)
		return error_set(err, -EINVAL, "VLAN %u, expected one below %u", get16(data),
				 NET_CONTROL_VLANS);
	return 0;
}

static int judge_pairs(const struct net_control_terms *t, uint16_t pairs, struct umbra_error *err)
{
	if (pairs < VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN || pairs > t->max_pairs)
		return error_set(err, -EINVAL, "%u queue pairs, expected 1 to %u", pairs,
				 t->max_pairs);
	return 0;
}

static int judge_mq_pairs(const struct net_control_terms *t, const uint8_t *data, size_t size,
			  struct umbra_error *err)
{
	(void)size;
	return judge_pairs(t, get16(data), err);
}

/* The end of RSS_CONFIG and HASH_CONFIG: a length, and a key that is so long. */
static int judge_hash(const struct net_control_terms *t, uint32_t types, const uint8_t *key,
		      size_t size, struct umbra_error *err)
{
	if (types & ~t->hash_types)
		return error_set(err, -EINVAL,
				 "hash types 0x%" PRIx32 ", the device has 0x%" PRIx32, types,
				 t->hash_types);
	if (key[0] > t->rss_key_max)
		return error_set(err, -EINVAL, "a hash key of %u bytes, the device takes %u",
				 key[0], t->rss_key_max);
	if (size != 1u + key[0])
		return error_set(err, -EINVAL, "a hash key of %u bytes, of which %zu are there",
				 key[0], size - 1);
	return 0;
}

/*
 * hash_types, mask, unclassified queue, table of mask + 1 queues, queue pairs,
 * key: struct virtio_net_rss_config.  A queue is named by the number of its
 * pair.
 */
static int judge_mq_rss(const struct net_control_terms *t, const uint8_t *data, size_t size,
			struct umbra_error *err)
{
	uint32_t entries = get16(data + 4) + 1u, limit = t->rss_table_max;
	const uint8_t *table = data + 8;
	int rc;

	if (!is_power_of_two(entries) || entries > MIN(limit, NET_CONTROL_RSS_TABLE_MAX))
		return error_set(err, -EINVAL,
				 "an indirection table of %" PRIu32
				 " entries, expected a power of two up to %" PRIu32,
				 entries, MIN(limit, NET_CONTROL_RSS_TABLE_MAX));
	if (size < 8 + 2 * (size_t)entries + 3)
		return error_set(
			err, -EINVAL,
			"%zu bytes of data are too few for an indirection table of %" PRIu32
			" entries",
			size, entries);
	for (uint32_t i = 0; i < entries; i++)
		if (get16(table + 2 * i) >= t->max_pairs)
			return error_set(err, -EINVAL,
					 "entry %" PRIu32
					 " of the indirection table is queue %u, the device has %u",
					 i, get16(table + 2 * i), t->max_pairs);
	if (get16(data + 6) >= t->max_pairs)
		return error_set(err, -EINVAL,
				 "unclassified packets go to queue %u, the device has %u",
				 get16(data + 6), t->max_pairs);
	rc = judge_pairs(t, get16(table + 2 * entries), err);
	return rc ? rc
		  : judge_hash(t, get32(data), table + 2 * entries + 2, size - 10 - 2 * entries,
			       err);
}

/* struct virtio_net_hash_config.  Its reserved words are not looked at: Linux
 * leaves there what stands in the same place of an RSS_CONFIG. */
static int judge_mq_hash(const struct net_control_terms *t, const uint8_t *data, size_t size,
			 struct umbra_error *err)
{
	return judge_hash(t, get32(data), data + 12, size - 12, err);
}

static int judge_offloads(const struct net_control_terms *t, const uint8_t *data, size_t size,
			  struct umbra_error *err)
{
	uint64_t offloads = get64(data), allowed = t->features & OFFLOADS;

	(void)size;
	if (offloads & ~allowed)
		return error_set(err, -EINVAL,
				 "offloads 0x%" PRIx64 ", of which only 0x%" PRIx64
				 " were negotiated",
				 offloads, allowed);
	return 0;
}

/* ---- the commands ----------------------------------------------------------- */

#define NO_SLOT SIZE_MAX
#define EXACT(bytes) bytes, bytes

struct control_command {
	uint8_t class, cmd;
	const char *name; /* without VIRTIO_NET_CTRL_ */
	uint8_t feature;
	const char *feature_name;        /* without VIRTIO_NET_F_ */
	uint32_t length_min, length_max; /* of the data, bytes */
	size_t slot;                     /* where the data is kept */
	data_judge *judge;
};

/* The first NET_COMMAND_KINDS are kept. */
static const struct control_command commands[] = {
	[NET_RX_PROMISC] = { RX_MODE(PROMISC), "RX_PROMISC", VIRTIO_NET_F_CTRL_RX, "CTRL_RX",
			     EXACT(MODE_ON_BYTES), SLOT(modes[NET_RX_PROMISC]), NULL },
	[NET_RX_ALLMULTI] = { RX_MODE(ALLMULTI), "RX_ALLMULTI", VIRTIO_NET_F_CTRL_RX, "CTRL_RX",
			      EXACT(MODE_ON_BYTES), SLOT(modes[NET_RX_ALLMULTI]), NULL },
	[NET_RX_ALLUNI] = { RX_MODE(ALLUNI), "RX_ALLUNI", VIRTIO_NET_F_CTRL_RX_EXTRA,
			    "CTRL_RX_EXTRA", EXACT(MODE_ON_BYTES), SLOT(modes[NET_RX_ALLUNI]),
			    NULL },
	[NET_RX_NOMULTI] = { RX_MODE(NOMULTI), "RX_NOMULTI", VIRTIO_NET_F_CTRL_RX_EXTRA,
			     "CTRL_RX_EXTRA", EXACT(MODE_ON_BYTES), SLOT(modes[NET_RX_NOMULTI]),
			     NULL },
	[NET_RX_NOUNI] = { RX_MODE(NOUNI), "RX_NOUNI", VIRTIO_NET_F_CTRL_RX_EXTRA, "CTRL_RX_EXTRA",
			   EXACT(MODE_ON_BYTES), SLOT(modes[NET_RX_NOUNI]), NULL },
	[NET_RX_NOBCAST] = { RX_MODE(NOBCAST), "RX_NOBCAST", VIRTIO_NET_F_CTRL_RX_EXTRA,
			     "CTRL_RX_EXTRA", EXACT(MODE_ON_BYTES), SLOT(modes[NET_RX_NOBCAST]),
			     NULL },
	[NET_MAC_TABLE] = { VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, "MAC_TABLE_SET",
			    VIRTIO_NET_F_CTRL_RX, "CTRL_RX", 8, NET_CONTROL_TABLE_BYTES,
			    SLOT(table), judge_mac_table },
	[NET_MAC_ADDR] = { VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, "MAC_ADDR_SET",
			   VIRTIO_NET_F_CTRL_MAC_ADDR, "CTRL_MAC_ADDR", EXACT(MAC_BYTES), SLOT(mac),
			   NULL },
	[NET_MQ_PAIRS] = { VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, "MQ_VQ_PAIRS_SET",
			   VIRTIO_NET_F_MQ, "MQ", EXACT(2), SLOT(pairs), judge_mq_pairs },
	[NET_MQ_RSS] = { VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_RSS_CONFIG, "MQ_RSS_CONFIG",
			 VIRTIO_NET_F_RSS, "RSS", 8 + 2 + 3, NET_CONTROL_RSS_BYTES, SLOT(rss),
			 judge_mq_rss },
	[NET_MQ_HASH] = { VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_HASH_CONFIG, "MQ_HASH_CONFIG",
			  VIRTIO_NET_F_HASH_REPORT, "HASH_REPORT", 4 + 8 + 1,
			  NET_CONTROL_HASH_BYTES, SLOT(hash), judge_mq_hash },
	[NET_GUEST_OFFLOADS] = { VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET,
				 "GUEST_OFFLOADS_SET", VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
				 "CTRL_GUEST_OFFLOADS", EXACT(8), SLOT(offloads), judge_offloads },
	[NET_COAL_TX] = { VIRTIO_NET_CTRL_NOTF_COAL, VIRTIO_NET_CTRL_NOTF_COAL_TX_SET,
			  "NOTF_COAL_TX_SET", VIRTIO_NET_F_NOTF_COAL, "NOTF_COAL", EXACT(8),
			  SLOT(coal_tx), NULL },
	[NET_COAL_RX] = { VIRTIO_NET_CTRL_NOTF_COAL, VIRTIO_NET_CTRL_NOTF_COAL_RX_SET,
			  "NOTF_COAL_RX_SET", VIRTIO_NET_F_NOTF_COAL, "NOTF_COAL", EXACT(8),
			  SLOT(coal_rx), NULL },
	{ VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, "VLAN_ADD", VIRTIO_NET_F_CTRL_VLAN,
	  "CTRL_VLAN", EXACT(2), NO_SLOT, judge_vlan },
	{ VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_DEL, "VLAN_DEL", VIRTIO_NET_F_CTRL_VLAN,
	  "CTRL_VLAN", EXACT(2), NO_SLOT, judge_vlan },
	/* Clears a bit of the device's status; there is nothing to keep. */
	{ VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK, "ANNOUNCE_ACK",
	  VIRTIO_NET_F_GUEST_ANNOUNCE, "GUEST_ANNOUNCE", EXACT(0), NO_SLOT, NULL },
};

_Static_assert(ARRAY_SIZE(commands) == NET_COMMAND_KINDS + 3, "a command without a kind");

static const struct control_command *control_command_find(const uint8_t *bytes, size_t size)
{
	if (size < HEADER_BYTES)
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (commands[i].class == bytes[0] && commands[i].cmd == bytes[1])
			return &commands[i];
	return NULL;
}

char *net_control_command_text(const uint8_t *bytes, size_t size, char *text, size_t text_size)
{
	const struct control_command *c = control_command_find(bytes, size);

	if (c)
		snprintf(text, text_size, "VIRTIO_NET_CTRL_%s", c->name);
	else if (size < HEADER_BYTES)
		snprintf(text, text_size, "a control command of %zu bytes", size);
	else
		snprintf(text, text_size, "control command %u of class %u", bytes[1], bytes[0]);
	return text;
}

/* ---- terms ------------------------------------------------------------------ */

uint64_t net_control_followed_features(void)
{
	return (BIT64(24) - 1) | BIT64(VIRTIO_NET_F_NOTF_COAL) | BIT64(F_GUEST_USO4) |
	       BIT64(F_GUEST_USO6) | BIT64(F_HOST_USO) | BIT64(VIRTIO_NET_F_HASH_REPORT) |
	       BIT64(F_GUEST_HDRLEN) | BIT64(VIRTIO_NET_F_RSS) | BIT64(VIRTIO_NET_F_RSC_EXT) |
	       BIT64(VIRTIO_NET_F_STANDBY) | BIT64(VIRTIO_NET_F_SPEED_DUPLEX);
}

/* The device has as many queues as max_virtqueue_pairs says (virtio 1.2, 5.1.2). */
static bool has_pairs(uint64_t features)
{
	return features & (BIT64(VIRTIO_NET_F_MQ) | BIT64(VIRTIO_NET_F_RSS));
}

bool net_control_is_control_ring(uint64_t features, uint16_t max_pairs, unsigned int index)
{
	return features & BIT64(VIRTIO_NET_F_CTRL_VQ) &&
	       index == (has_pairs(features) ? 2u * max_pairs : 2u);
}

struct net_control_terms net_control_terms_from_config(uint64_t features, const void *config,
						       size_t size)
{
	uint8_t bytes[NET_CONTROL_CONFIG_BYTES] = { 0 };
	struct net_control_terms t = { .features = features, .max_pairs = 1 };
	uint16_t pairs;

	_Static_assert(sizeof(struct virtio_net_config) == NET_CONTROL_CONFIG_BYTES, "its fields");
	if (size)
		memcpy(bytes, config, MIN(size, sizeof(bytes)));
	pairs = get16(bytes + offsetof(struct virtio_net_config, max_virtqueue_pairs));
	if (has_pairs(features) && pairs)
		t.max_pairs = MIN(pairs, (uint16_t)VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MAX);
	if (features & (BIT64(VIRTIO_NET_F_RSS) | BIT64(VIRTIO_NET_F_HASH_REPORT))) {
		t.rss_key_max = bytes[offsetof(struct virtio_net_config, rss_max_key_size)];
		t.hash_types =
			get32(bytes + offsetof(struct virtio_net_config, supported_hash_types));
	}
	if (features & BIT64(VIRTIO_NET_F_RSS))
		t.rss_table_max = get16(bytes + offsetof(struct virtio_net_config,
							 rss_max_indirection_table_length));
	return t;
}

/* ---- judging and committing -------------------------------------------------- */

int net_control_judge(const struct net_control_terms *t, const uint8_t *bytes, size_t size,
		      struct umbra_error *err)
{
	const struct control_command *c = control_command_find(bytes, size);
	char name[64];
	int rc;

	if (size < HEADER_BYTES)
		return error_set(err, -EINVAL, "it has %zu bytes, expected a class and a command",
				 size);
	net_control_command_text(bytes, size, name, sizeof(name));
	if (!c)
		return error_set(err, -EOPNOTSUPP,
				 "%s is not known, and what it changes would be lost with a reset",
				 name);
	if (!(t->features & BIT64(c->feature)))
		return error_set(err, -EOPNOTSUPP, "%s: VIRTIO_NET_F_%s was not negotiated", name,
				 c->feature_name);
	size -= HEADER_BYTES;
	if (size < c->length_min || size > c->length_max)
		return error_set(err, -EINVAL, "%s: %zu bytes of data, expected %" PRIu32 "%s",
				 name, size, size < c->length_min ? c->length_min : c->length_max,
				 c->length_min == c->length_max ? ""
				 : size < c->length_min         ? " or more"
								: " or less");
	rc = c->judge ? c->judge(t, bytes + HEADER_BYTES, size, err) : 0;
	return rc ? error_prefix(err, rc, "%s", name) : 0;
}

/* Put @kind at the end of the order. */
static void order_move_last(struct net_control *s, enum net_command kind)
{
	unsigned int to = 0;

	for (unsigned int from = 0; from < s->count; from++)
		if (s->order[from] != kind)
			s->order[to++] = s->order[from];
	s->order[to++] = (uint8_t)kind;
	s->count = (uint8_t)to;
}

static uint8_t *slot_of(const struct net_control *s, enum net_command kind)
{
	return (uint8_t *)s + commands[kind].slot;
}

void net_control_commit(struct net_control *s, const uint8_t *bytes, size_t size)
{
	const struct control_command *c = control_command_find(bytes, size);
	const uint8_t *data = bytes + HEADER_BYTES;
	uint32_t length = (uint32_t)(size - HEADER_BYTES);

	assert(c && length >= c->length_min && length <= c->length_max);
	if (c->class == VIRTIO_NET_CTRL_VLAN) {
		uint16_t vlan = get16(data);

		if (c->cmd == VIRTIO_NET_CTRL_VLAN_ADD)
			s->vlans[vlan / 64] |= BIT64(vlan % 64);
		else
			s->vlans[vlan / 64] &= ~BIT64(vlan % 64);
	} else if (c->slot != NO_SLOT) {
		enum net_command kind = (enum net_command)(c - commands);
		uint8_t *slot = slot_of(s, kind);

		if (length < s->length[kind])
			memset(slot + length, 0, s->length[kind] - length);
		memcpy(slot, data, length);
		s->length[kind] = length;
		order_move_last(s, kind);
	}
}

/* ---- replaying --------------------------------------------------------------- */

void net_control_replay_begin(struct net_control_replay *r, const struct net_control *state)
{
	*r = (struct net_control_replay){ .state = state };
}

/* Step to the next command.  Returns its length, 0: there is none; it is then
 * VLAN_ADD of *@vlan, or (*@vlan is NET_CONTROL_VLANS) of *@kind. */
static size_t replay_step(struct net_control_replay *r, unsigned int *vlan, enum net_command *kind)
{
	const struct net_control *s = r->state;

	while (r->vlan < NET_CONTROL_VLANS) {
		if (r->vlan % 64 == 0 && !s->vlans[r->vlan / 64]) {
			r->vlan += 64;
			continue;
		}
		*vlan = r->vlan++;
		if (s->vlans[*vlan / 64] & BIT64(*vlan % 64))
			return HEADER_BYTES + 2;
	}
	*vlan = NET_CONTROL_VLANS;
	if (r->place == s->count)
		return 0;
	*kind = s->order[r->place++];
	return HEADER_BYTES + s->length[*kind];
}

size_t net_control_replay_next(struct net_control_replay *r, uint8_t *bytes)
{
	enum net_command kind = NET_COMMAND_KINDS;
	unsigned int vlan;
	size_t size = replay_step(r, &vlan, &kind);

	if (!size)
		return 0;
	if (vlan < NET_CONTROL_VLANS) {
		bytes[0] = VIRTIO_NET_CTRL_VLAN;
		bytes[1] = VIRTIO_NET_CTRL_VLAN_ADD;
		put16(bytes + HEADER_BYTES, (uint16_t)vlan);
	} else {
		bytes[0] = commands[kind].class;
		bytes[1] = commands[kind].cmd;
		memcpy(bytes + HEADER_BYTES, slot_of(r->state, kind), size - HEADER_BYTES);
	}
	return size;
}

bool net_control_is_empty(const struct net_control *s)
{
	return net_control_saved_bytes(s) == SAVED_HEADER_BYTES;
}

/* ---- saving and loading ------------------------------------------------------- */

size_t net_control_saved_bytes(const struct net_control *s)
{
	size_t bytes = SAVED_HEADER_BYTES, size;
	struct net_control_replay r;
	enum net_command kind;
	unsigned int vlan;

	net_control_replay_begin(&r, s);
	while ((size = replay_step(&r, &vlan, &kind)))
		bytes += RECORD_HEADER_BYTES + size;
	return bytes;
}

void net_control_save(const struct net_control *s, uint8_t *bytes)
{
	size_t at = SAVED_HEADER_BYTES, end = net_control_saved_bytes(s), size;
	struct net_control_replay r;

	net_control_replay_begin(&r, s);
	while (at < end) {
		size = net_control_replay_next(&r, bytes + at + RECORD_HEADER_BYTES);
		put32(bytes + at, (uint32_t)size);
		at += RECORD_HEADER_BYTES + size;
	}
	put32(bytes, SAVED_MAGIC);
	put16(bytes + 4, SAVED_VERSION);
	put16(bytes + 6, 0);
	put32(bytes + 8, (uint32_t)(end - SAVED_HEADER_BYTES));
}

static int saved_header_check(const uint8_t *bytes, size_t size, struct umbra_error *err)
{
	if (size < SAVED_HEADER_BYTES)
		return error_set(err, -EINVAL, "%zu bytes, expected a header of %u", size,
				 SAVED_HEADER_BYTES);
	if (get32(bytes) != SAVED_MAGIC)
		return error_set(err, -EINVAL,
				 "it begins with 0x%08" PRIx32 ", expected 0x%08" PRIx32,
				 get32(bytes), SAVED_MAGIC);
	if (get16(bytes + 4) != SAVED_VERSION)
		return error_set(err, -EINVAL, "version %u, expected %u", get16(bytes + 4),
				 SAVED_VERSION);
	if (get16(bytes + 6))
		return error_set(err, -EINVAL, "a reserved word of 0x%x, expected 0",
				 get16(bytes + 6));
	if (get32(bytes + 8) != size - SAVED_HEADER_BYTES)
		return error_set(err, -EINVAL, "%zu bytes follow the header, expected %" PRIu32,
				 size - SAVED_HEADER_BYTES, get32(bytes + 8));
	return 0;
}

static int records_load(struct net_control *s, const struct net_control_terms *terms,
			const uint8_t *bytes, size_t size, struct umbra_error *err)
{
	size_t at = SAVED_HEADER_BYTES;
	uint32_t length;
	int rc;

	while (at < size) {
		if (size - at < RECORD_HEADER_BYTES)
			return error_set(err, -EINVAL, "%zu bytes at its end are no record",
					 size - at);
		length = get32(bytes + at);
		at += RECORD_HEADER_BYTES;
		if (length > size - at)
			return error_set(err, -EINVAL,
					 "a record of %" PRIu32
					 " bytes at offset %zu, %zu are left",
					 length, at, size - at);
		rc = net_control_judge(terms, bytes + at, length, err);
		if (rc)
			return rc;
		net_control_commit(s, bytes + at, length);
		at += length;
	}
	return 0;
}

int net_control_load(struct net_control *s, const struct net_control_terms *terms,
		     const uint8_t *bytes, size_t size, struct umbra_error *err)
{
	int rc = saved_header_check(bytes, size, err);

	memset(s, 0, sizeof(*s));
	if (!rc)
		rc = records_load(s, terms, bytes, size, err);
	if (!rc)
		return 0;
	memset(s, 0, sizeof(*s));
	return error_prefix(err, rc, "the saved state of the control queue");
}

/* ---- for people --------------------------------------------------------------- */

static bool is_said(const struct net_control *s, enum net_command kind)
{
	return s->length[kind];
}

/* VQ_PAIRS_SET and RSS_CONFIG both say how many: the later one counts. */
static uint16_t pairs_in_use(const struct net_control *s)
{
	uint16_t pairs = 1;

	for (unsigned int i = 0; i < s->count; i++) {
		if (s->order[i] == NET_MQ_PAIRS)
			pairs = get16(s->pairs);
		else if (s->order[i] == NET_MQ_RSS)
			pairs = get16(s->rss + 8 + 2 * (get16(s->rss + 4) + 1u));
	}
	return pairs;
}

struct net_control_summary net_control_summarise(const struct net_control *s)
{
	struct net_control_summary sum = {
		.has_mac = is_said(s, NET_MAC_ADDR),
		.has_table = is_said(s, NET_MAC_TABLE),
		.has_offloads = is_said(s, NET_GUEST_OFFLOADS),
		.has_rss = is_said(s, NET_MQ_RSS),
		.has_hash = is_said(s, NET_MQ_HASH),
		.has_coal_tx = is_said(s, NET_COAL_TX),
		.has_coal_rx = is_said(s, NET_COAL_RX),
		.pairs = pairs_in_use(s),
		.rss_types = get32(s->rss),
		.hash_types = get32(s->hash),
		.offloads = get64(s->offloads),
		.coal_tx_packets = get32(s->coal_tx),
		.coal_tx_us = get32(s->coal_tx + 4),
		.coal_rx_packets = get32(s->coal_rx),
		.coal_rx_us = get32(s->coal_rx + 4),
	};

	memcpy(sum.mac, s->mac, sizeof(sum.mac));
	for (unsigned int mode = 0; mode < NET_RX_MODES; mode++) {
		sum.modes_said |= (uint8_t)(is_said(s, mode) << mode);
		sum.modes_on |= (uint8_t)((s->modes[mode] != 0) << mode);
	}
	if (sum.has_table) {
		sum.unicast = get32(s->table);
		sum.multicast = get32(s->table + 4 + (size_t)sum.unicast * MAC_BYTES);
	}
	if (sum.has_rss)
		sum.rss_entries = get16(s->rss + 4) + 1u;
	for (size_t i = 0; i < ARRAY_SIZE(s->vlans); i++)
		sum.vlans += (uint32_t)__builtin_popcountll(s->vlans[i]);
	return sum;
}

/*
 * [view-turn] The words of a view are each stored and loaded as a whole, and the
 * turn says whether they belong together.
 *
 *	owner                       others
 *	turn = odd                  t = turn (acquire)
 *	fence (release)             read words
 *	write words                 fence (acquire)
 *	turn = even (release)       turn == t, and even?  else again
 *
 * Who reads a word that was written in a turn also sees, behind its fence, that
 * turn's odd number or a later one, and looks again.  Lose either fence and arm64
 * may show halves of two summaries.  Who sees an even number sees all words of
 * its turn.
 */
void net_control_show(struct net_control_view *view, const struct net_control *state)
{
	struct net_control_summary sum = net_control_summarise(state);
	uint64_t words[NET_CONTROL_VIEW_WORDS] = { 0 };
	uint32_t turn = view->turn;

	memcpy(words, &sum, sizeof(sum));
	__atomic_store_n(&view->turn, turn + 1, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		__atomic_store_n(&view->words[i], words[i], __ATOMIC_RELAXED);
	__atomic_store_n(&view->turn, turn + 2, __ATOMIC_RELEASE);
}

struct net_control_summary net_control_look(const struct net_control_view *view)
{
	uint64_t words[NET_CONTROL_VIEW_WORDS];
	struct net_control_summary sum;
	uint32_t turn;

	do {
		turn = __atomic_load_n(&view->turn, __ATOMIC_ACQUIRE);
		for (size_t i = 0; i < ARRAY_SIZE(words); i++)
			words[i] = __atomic_load_n(&view->words[i], __ATOMIC_RELAXED);
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
	} while (turn & 1 || turn != __atomic_load_n(&view->turn, __ATOMIC_RELAXED));
	memcpy(&sum, words, sizeof(sum));
	return sum;
}
