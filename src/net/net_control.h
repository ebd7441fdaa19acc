/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a network device was told on its control queue, as a value.
 *
 * Theory of operation.  A device that is reset forgets what the guest's driver
 * told it, and the driver does not know that it has to say it again.  So each
 * command is judged from a private copy, passed on, and, when the device has
 * acknowledged it, committed to a struct net_control.  Replaying that value
 * brings a fresh device into the same state.
 *
 * The value is made of commands.  Every command of the specification sets
 * something and names all of it, so that the last one of a kind stands for all
 * before it (MAC filter tables are given as a whole, too).  What is kept is
 * therefore the data of the last command of each kind, byte by byte, and the
 * order in which the kinds were said last.  Only VLANs, which are added and
 * deleted one at a time, are a set of their own; nothing else depends on them.
 * A replay in that order leads where the first saying led, also where one
 * command changes what another one set (VQ_PAIRS_SET, RSS_CONFIG and
 * HASH_CONFIG; the receive modes), without knowing how a device settles that.
 * A kind that was never said is not replayed; one that was is, even if a fresh
 * device may be there already: no standard says in which receive mode one is.
 *
 * Rejected: to keep a few MAC addresses, and of more only that they were many.
 * How many a device filters by itself, and what it does with more, is its own
 * affair, and every way to say "many" with other commands (ALLMULTI, PROMISC)
 * is undone by what the driver says next.  A table as long as a command can be
 * costs 64 KiB of a memory that is only touched if it comes.
 *
 * Saved, the state is the same commands: one judge for what a guest says and
 * for what a migration brings.  All little-endian:
 *
 *	0	le32	magic 0x434e4d55, "UMNC"
 *	4	le16	version 1
 *	6	le16	0
 *	8	le32	length of all that follows, bytes
 *	12	records, each: le32 length, 2 to NET_CONTROL_COMMAND_MAX, and so
 *		many bytes of a command: class, command, data
 *
 * What a device negotiated is not in it: a state is loaded under the terms of
 * the device that shall be brought into it, which may be narrower ones.
 *
 * Threads: a value; the caller's.  Others look at it through a view.
 * Trust: commands and saved states are hostile until net_control_judge() or
 * net_control_load() has accepted them.  The configuration space, too:
 * net_control_terms_from_config() makes sane limits of any bytes.
 * Implements: virtio 1.2, section 5.1.6.5.
 */
#ifndef UMBRA_NET_NET_CONTROL_H
#define UMBRA_NET_NET_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "umbra/error.h"

/*
 * Bytes of the longest command that is followed, with its class and command.
 * No standard has a limit; this one is room for 10921 MAC addresses, or for an
 * indirection table of 16384 entries (a device must be good for 128).  A longer
 * one is refused, and what was said before it stays.
 */
#define NET_CONTROL_COMMAND_MAX 65536u

#define NET_CONTROL_VLANS 4096u          /* 802.1Q: VLAN ids of 12 bits */
#define NET_CONTROL_RSS_TABLE_MAX 16384u /* entries: see above */
#define NET_CONTROL_TABLE_BYTES (NET_CONTROL_COMMAND_MAX - 2)
#define NET_CONTROL_RSS_BYTES (8 + 2 * NET_CONTROL_RSS_TABLE_MAX + 3 + 255)
#define NET_CONTROL_HASH_BYTES (4 + 8 + 1 + 255)

/* The kinds of command whose data is kept. */
enum net_command {
	NET_RX_PROMISC,
	NET_RX_ALLMULTI,
	NET_RX_ALLUNI,
	NET_RX_NOMULTI,
	NET_RX_NOUNI,
	NET_RX_NOBCAST,
	NET_MAC_TABLE,
	NET_MAC_ADDR,
	NET_MQ_PAIRS,
	NET_MQ_RSS,
	NET_MQ_HASH,
	NET_GUEST_OFFLOADS,
	NET_COAL_TX,
	NET_COAL_RX,
	NET_COMMAND_KINDS
};

#define NET_RX_MODES (NET_RX_NOBCAST + 1u)

/* What was negotiated, and what the device is able to. */
struct net_control_terms {
	uint64_t features;      /* negotiated */
	uint16_t max_pairs;     /* of receive and transmit queues: 1 to 0x8000 */
	uint8_t rss_key_max;    /* bytes */
	uint16_t rss_table_max; /* entries */
	uint32_t hash_types;    /* that the device is able to, VIRTIO_NET_RSS_HASH_TYPE_... */
};

/* All zero: a fresh device.  About 100 KiB, so not for a stack. */
struct net_control {
	/* The kinds that were said, each once, the one longest ago first. */
	uint8_t count, order[NET_COMMAND_KINDS];
	uint32_t length[NET_COMMAND_KINDS]; /* of the data; 0: never said */
	/* The data, as the guest gave it; zero behind its length. */
	uint8_t modes[NET_RX_MODES];
	uint8_t mac[6];
	uint8_t pairs[2];
	uint8_t offloads[8];
	uint8_t coal_tx[8], coal_rx[8];
	uint8_t hash[NET_CONTROL_HASH_BYTES];
	uint8_t rss[NET_CONTROL_RSS_BYTES];
	uint8_t table[NET_CONTROL_TABLE_BYTES];

	uint64_t vlans[NET_CONTROL_VLANS / 64]; /* that were added and not deleted */
};

/*
 * Features of a network device (bits 0 to 23 and 50 to 63) that can be offered
 * together with VIRTIO_NET_F_CTRL_VQ: those that bring no command, and those
 * whose commands are followed.  Not among them: DEVICE_STATS (50), HASH_TUNNEL
 * (51), VQ_NOTF_COAL (52), and bits that mean nothing yet.
 */
uint64_t net_control_followed_features(void);

/*
 * Ring @index of a network device with the negotiated @features: is it the
 * control queue?  @max_pairs: see net_control_terms_from_config().
 */
bool net_control_is_control_ring(uint64_t features, uint16_t max_pairs, unsigned int index);

/* The terms that follow from @features and the first @size bytes of the device's
 * configuration space (NET_CONTROL_CONFIG_BYTES tell all). */
struct net_control_terms net_control_terms_from_config(uint64_t features, const void *config,
						       size_t size);
#define NET_CONTROL_CONFIG_BYTES 24u

/*
 * May this command, class and all, be passed on?  @bytes must not change any
 * more.  0; -EOPNOTSUPP: it cannot be followed, or is of a feature that was not
 * negotiated; -EINVAL: its length or its values are not what the specification
 * and the device allow.  @err names the command and what is wrong.
 */
UMBRA_MUST_CHECK int net_control_judge(const struct net_control_terms *terms, const uint8_t *bytes,
				       size_t size, struct umbra_error *err);

/* The device has acknowledged the command, which was judged under its terms. */
void net_control_commit(struct net_control *state, const uint8_t *bytes, size_t size);

/* "VIRTIO_NET_CTRL_RX_PROMISC", or the numbers of one that is not known, or that
 * it is too short for having any.  Returns @text. */
char *net_control_command_text(const uint8_t *bytes, size_t size, char *text, size_t text_size);

/* Walk over the commands that bring a fresh device into the state, which must not
 * change meanwhile. */
struct net_control_replay {
	const struct net_control *state;
	unsigned int vlan;  /* the next one to look at */
	unsigned int place; /* in the order */
};

void net_control_replay_begin(struct net_control_replay *replay, const struct net_control *state);
/* The next command, into @bytes, which has room for NET_CONTROL_COMMAND_MAX.
 * Returns its length; 0: that was all. */
size_t net_control_replay_next(struct net_control_replay *replay, uint8_t *bytes);

/* Bytes that net_control_save() writes. */
size_t net_control_saved_bytes(const struct net_control *state);
void net_control_save(const struct net_control *state, uint8_t *bytes);

/*
 * Replace *@state by a saved one.  -EINVAL, -EOPNOTSUPP: it is not well-formed,
 * or a command in it cannot be followed under these terms; named in @err.
 * Then *@state is that of a fresh device.
 */
UMBRA_MUST_CHECK int net_control_load(struct net_control *state,
				      const struct net_control_terms *terms, const uint8_t *bytes,
				      size_t size, struct umbra_error *err);

/* The state for people. */
struct net_control_summary {
	bool has_mac, has_table, has_offloads, has_rss, has_hash;
	bool has_coal_tx, has_coal_rx;
	uint8_t mac[6];
	uint32_t unicast, multicast;     /* addresses in the filter tables */
	uint8_t modes_said, modes_on;    /* bit n: enum net_command n, up to NET_RX_NOBCAST */
	uint32_t vlans;                  /* that were added */
	uint16_t pairs;                  /* of queues that are in use; 1 if never said */
	uint32_t rss_entries, rss_types; /* of the indirection table; types of hash */
	uint32_t hash_types;             /* of HASH_CONFIG */
	uint64_t offloads;               /* mask of VIRTIO_NET_F_GUEST_... */
	uint32_t coal_tx_packets, coal_tx_us, coal_rx_packets, coal_rx_us;
};

/* Has nothing been said? */
bool net_control_is_empty(const struct net_control *state);

struct net_control_summary net_control_summarise(const struct net_control *state);

/*
 * A summary that its owner shows to other threads: one writes, any may read at any
 * time, and reads one whole summary, however often the writer writes.  All zero:
 * nothing has been shown yet.
 */
#define NET_CONTROL_VIEW_WORDS ((sizeof(struct net_control_summary) + 7) / 8)

struct net_control_view {
	uint32_t turn; /* odd while it is written */
	uint64_t words[NET_CONTROL_VIEW_WORDS];
};

void net_control_show(struct net_control_view *view, const struct net_control *state);
struct net_control_summary net_control_look(const struct net_control_view *view);

#endif
