/* SPDX-License-Identifier: BSD-2-Clause */
/* Commands for a network device: see net_control_rig.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "net_control_rig.h"

const struct net_control_terms terms = { .features = ALL_FEATURES,
					 .max_pairs = PAIRS,
					 .rss_key_max = KEY,
					 .rss_table_max = TABLE,
					 .hash_types = TYPES };

/* --- building commands ------------------------------------------------------- */

void begin(struct bytes *b, uint8_t class, uint8_t cmd)
{
	b->at[0] = class;
	b->at[1] = cmd;
	b->size = 2;
}

void add(struct bytes *b, uint64_t v, unsigned int bytes)
{
	for (unsigned int i = 0; i < bytes; i++)
		b->at[b->size++] = (uint8_t)(v >> 8 * i);
}

void add_fill(struct bytes *b, uint8_t v, size_t bytes)
{
	memset(b->at + b->size, v, bytes);
	b->size += bytes;
}

void build(struct bytes *b, uint8_t class, uint8_t cmd, uint64_t data, unsigned int bytes)
{
	begin(b, class, cmd);
	add(b, data, bytes);
}

void build_table(struct bytes *b, uint32_t unicast, uint32_t multicast, uint8_t seed)
{
	begin(b, CLASS(MAC, TABLE_SET));
	add(b, unicast, 4);
	for (uint32_t i = 0; i < unicast; i++)
		add(b, 0x52 | (uint64_t)seed << 32 | (uint64_t)i << 16, 6);
	add(b, multicast, 4);
	for (uint32_t i = 0; i < multicast; i++)
		add(b, 0x01 | (uint64_t)seed << 32 | (uint64_t)i << 16, 6);
}

void build_rss(struct bytes *b, struct rss r)
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

void build_hash(struct bytes *b, uint32_t types, uint8_t key, uint8_t key_there)
{
	begin(b, CLASS(MQ, HASH_CONFIG));
	add(b, types, 4);
	add(b, 0x0003000200010000u, 8); /* reserved, and not zero, as with Linux */
	add(b, key, 1);
	add_fill(b, 0x2a, key_there);
}

/* --- helpers ------------------------------------------------------------------ */

struct bytes *bytes_new(void)
{
	struct bytes *b = calloc(1, sizeof(*b));

	assert_non_null(b);
	return b;
}

struct net_control *state_new(void)
{
	struct net_control *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	return s;
}

int judge_with(const struct net_control_terms *t, const struct bytes *b, struct umbra_error *err)
{
	uint8_t *copy = malloc(b->size ? b->size : 1);
	int rc;

	assert_non_null(copy);
	memcpy(copy, b->at, b->size);
	rc = net_control_judge(t, copy, b->size, err);
	free(copy);
	return rc;
}

void say(struct net_control *s, const struct bytes *b)
{
	struct umbra_error err = { "" };

	if (judge_with(&terms, b, &err))
		fail_msg("refused: %s", err.text);
	net_control_commit(s, b->at, b->size);
}

void accepted(const struct bytes *b)
{
	struct umbra_error err = { "" };

	if (judge_with(&terms, b, &err))
		fail_msg("refused: %s", err.text);
}

void refused(const struct bytes *b, int code, const char *why)
{
	struct umbra_error err = { "" };

	assert_int_equal(judge_with(&terms, b, &err), code);
	if (!strstr(err.text, why))
		fail_msg("\"%s\" does not say \"%s\"", err.text, why);
}

void replays_as(const struct net_control *s, const struct bytes *b)
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
