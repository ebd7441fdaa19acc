/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libFuzzer: a control command is accepted exactly if a judge that has no wits
 * accepts it, and what was committed comes back from a replay, and from a saved
 * state, as it was.
 *
 * The input is
 *	byte 0	bit 0: the rest is a saved state, else it is commands;
 *		bit 1: all was negotiated and the device is able to all, whatever
 *		comes next; bit 2: the saved state gets its header here
 *	8 bytes	negotiated features
 *	24 bytes configuration space
 *	rest	a saved state, or commands, each behind two bytes of its length
 */
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "fuzz.h"
#include "net/net_control.h"

/* ---- the judge without wits --------------------------------------------------- */

static uint64_t word(const uint8_t *bytes, unsigned int count)
{
	uint64_t v = 0;

	while (count--)
		v = v << 8 | bytes[count];
	return v;
}

static const uint8_t *config;
static uint64_t features;

static bool has(unsigned int bit)
{
	return features >> bit & 1;
}

static uint64_t pairs_max(void)
{
	uint64_t pairs = word(config + 8, 2);

	if (!has(22) && !has(60))
		return 1;
	return pairs == 0 ? 1 : pairs > 0x8000 ? 0x8000 : pairs;
}

static bool naive_key(uint64_t types, const uint8_t *at, const uint8_t *end)
{
	return !(types & ~word(config + 20, 4)) && *at <= config[17] && at + 1 + *at == end;
}

static bool naive_table(const uint8_t *at, const uint8_t *end)
{
	for (int table = 0; table < 2; table++) {
		uint64_t count;

		if (end - at < 4)
			return false;
		count = word(at, 4);
		at += 4;
		for (; count; count--, at += 6)
			if (end - at < 6)
				return false;
	}
	return at == end;
}

static bool naive_rss(const uint8_t *at, const uint8_t *end)
{
	uint64_t types, mask, most = word(config + 18, 2);

	if (end - at < 8)
		return false;
	types = word(at, 4);
	mask = word(at + 4, 2);
	if (mask & (mask + 1) || mask + 1 > most || mask + 1 > 16384)
		return false;
	if (word(at + 6, 2) >= pairs_max())
		return false;
	at += 8;
	for (uint64_t i = 0; i <= mask; i++, at += 2)
		if (end - at < 2 || word(at, 2) >= pairs_max())
			return false;
	if (end - at < 3 || !word(at, 2) || word(at, 2) > pairs_max())
		return false;
	return naive_key(types, at + 2, end);
}

static bool naive_judge(const uint8_t *bytes, size_t size)
{
	const uint8_t *data = bytes + 2, *end = bytes + size;
	const uint64_t offloads = 1ull << 1 | 1ull << 7 | 1ull << 8 | 1ull << 9 | 1ull << 10 |
				  1ull << 54 | 1ull << 55 | 1ull << 61;

	if (size < 2 || size > 65536)
		return false;
	switch (bytes[0] << 8 | bytes[1]) {
	case 0x000:
	case 0x001:
		return has(18) && size == 3;
	case 0x002:
	case 0x003:
	case 0x004:
	case 0x005:
		return has(20) && size == 3;
	case 0x100:
		return has(18) && naive_table(data, end);
	case 0x101:
		return has(23) && size == 8;
	case 0x200:
	case 0x201:
		return has(19) && size == 4 && word(data, 2) < 4096;
	case 0x300:
		return has(21) && size == 2;
	case 0x400:
		return has(22) && size == 4 && word(data, 2) && word(data, 2) <= pairs_max();
	case 0x401:
		return has(60) && naive_rss(data, end);
	case 0x402:
		return has(57) && size >= 15 && naive_key(word(data, 4), data + 12, end);
	case 0x500:
		return has(2) && size == 10 && !(word(data, 8) & ~(features & offloads));
	case 0x600:
	case 0x601:
		return has(53) && size == 10;
	default:
		return false;
	}
}

/* ---- the round trip ------------------------------------------------------------ */

static struct net_control said, again;

static void round_trip(const struct net_control_terms *terms)
{
	size_t size = net_control_saved_bytes(&said), total = 12, length;
	uint8_t *bytes = malloc(size), *command = malloc(NET_CONTROL_COMMAND_MAX);
	struct net_control_summary summary = net_control_summarise(&said);
	struct net_control_replay replay;

	require(bytes && command);
	require(summary.pairs >= 1 && summary.pairs <= terms->max_pairs);
	require(summary.vlans <= NET_CONTROL_VLANS);
	net_control_save(&said, bytes);
	require(net_control_load(&again, terms, bytes, size, NULL) == 0);
	require(!memcmp(&said, &again, sizeof(said)));

	memset(&again, 0, sizeof(again));
	net_control_replay_begin(&replay, &said);
	while ((length = net_control_replay_next(&replay, command))) {
		require(naive_judge(command, length));
		require(net_control_judge(terms, command, length, NULL) == 0);
		require(word(bytes + total, 4) == length);
		require(!memcmp(bytes + total + 4, command, length));
		total += 4 + length;
		net_control_commit(&again, command, length);
	}
	require(total == size && !memcmp(&said, &again, sizeof(said)));
	free(command);
	free(bytes);
}

static void load_saved(const struct net_control_terms *terms, const uint8_t *data, size_t size,
		       bool headed)
{
	uint8_t header[12] = { 'U', 'M', 'N', 'C', 1 };
	uint8_t *bytes = malloc(size + sizeof(header));
	struct umbra_error err = { "" };
	int rc;

	require(bytes);
	for (unsigned int i = 0; i < 4; i++)
		header[8 + i] = (uint8_t)(size >> 8 * i);
	if (headed)
		memcpy(bytes, header, sizeof(header));
	memcpy(bytes + (headed ? sizeof(header) : 0), data, size);
	size += headed ? sizeof(header) : 0;
	bytes = realloc(bytes, size ? size : 1); /* it ends where the heap ends */
	require(bytes);
	rc = net_control_load(&said, terms, bytes, size, &err);
	require(!rc == !err.text[0]);
	if (!rc)
		require(word(bytes + 8, 4) == size - 12);
	free(bytes);
}

static void judge_each(const struct net_control_terms *terms, const uint8_t *data, size_t size)
{
	while (size >= 2) {
		size_t length = MIN(word(data, 2), size - 2);
		uint8_t *command = copy_of(data + 2, length);
		struct umbra_error err = { "" };
		char name[64];
		int rc = net_control_judge(terms, command, length, &err);

		require(!rc == naive_judge(command, length));
		require(!rc == !err.text[0]);
		require(net_control_command_text(command, length, name, sizeof(name))[0]);
		if (!rc)
			net_control_commit(&said, command, length);
		free(command);
		data += 2 + length;
		size -= 2 + length;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t able[NET_CONTROL_CONFIG_BYTES] = { [0 ... 23] = 0xff };
	struct net_control_terms terms;

	if (size < 33)
		return 0;
	features = data[0] & 2 ? net_control_followed_features() : word(data + 1, 8);
	config = data[0] & 2 ? able : data + 9;
	terms = net_control_terms_from_config(features, config, NET_CONTROL_CONFIG_BYTES);
	memset(&said, 0, sizeof(said));
	if (data[0] & 1)
		load_saved(&terms, data + 33, size - 33, data[0] & 4);
	else
		judge_each(&terms, data + 33, size - 33);
	round_trip(&terms);
	return 0;
}
