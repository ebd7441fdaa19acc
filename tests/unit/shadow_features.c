/* SPDX-License-Identifier: BSD-2-Clause */
/* Feature negotiation keeps its promises, case by case. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/vhost_types.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <string.h>

#include "base/bits.h"
#include "device/features.h"
#include "feature_bits.h"
#include "virtio/feature_bits.h"

#define PROTOCOL BIT64(VHOST_USER_F_PROTOCOL_FEATURES)
#define PACKED BIT64(VIRTIO_F_RING_PACKED)
#define PLATFORM BIT64(VIRTIO_F_ACCESS_PLATFORM)
#define LOG BIT64(VHOST_F_LOG_ALL)
#define FLUSH BIT64(VIRTIO_BLK_F_FLUSH)
#define HIGH BIT64(63) /* of the device type */

#define AUTO UMBRA_SHADOW_AUTO
#define ON UMBRA_SHADOW_ON
#define OFF UMBRA_SHADOW_OFF

/* What is offered, before the guest has answered. */
static const struct offer {
	const char *promise;
	enum umbra_shadow_mode mode;
	uint64_t backend;
	int result;
	uint64_t offer;
	const char *says; /* in the error or in the drops' text */
} offers[] = {
	{ "bits of the device type pass", AUTO, V1 | FLUSH | HIGH, 0, V1 | FLUSH | HIGH | PROTOCOL,
	  "" },
	{ "auto offers what both can do", AUTO, V1 | EVENT | IN_ORDER, 0,
	  V1 | EVENT | IN_ORDER | PROTOCOL, "" },
	{ "auto does not invent ring features", AUTO, V1, 0, V1 | PROTOCOL, "" },
	{ "on offers the shadow's own", ON, V1, 0, V1 | EVENT | INDIRECT | PROTOCOL, "" },
	{ "on does not invent IN_ORDER", ON, V1 | EVENT, 0, V1 | EVENT | INDIRECT | PROTOCOL, "" },
	{ "off offers what auto does", OFF, V1 | EVENT | PACKED, 0, V1 | EVENT | PROTOCOL,
	  "VIRTIO_F_RING_PACKED (34): the shadow reads split rings" },
	{ "packed is masked and named", AUTO, V1 | PACKED, 0, V1 | PROTOCOL,
	  "VIRTIO_F_RING_PACKED (34)" },
	{ "the vIOMMU's bit is masked and explained", AUTO, V1 | PLATFORM, 0, V1 | PROTOCOL,
	  "VIRTIO_F_ACCESS_PLATFORM (33): descriptors would hold IO virtual addresses" },
	{ "the back-end's dirty log is masked", AUTO, V1 | LOG, 0, V1 | PROTOCOL,
	  "VHOST_F_LOG_ALL (26)" },
	{ "a transport bit that nobody knows is masked", AUTO, V1 | BIT64(48), 0, V1 | PROTOCOL,
	  "bit (48): not known to the shadow" },
	{ "two drops are both named", AUTO, V1 | LOG | PACKED, 0, V1 | PROTOCOL,
	  "writes; VIRTIO_F_RING_PACKED (34)" },
	{ "a legacy back-end is refused", AUTO, EVENT | FLUSH, -EOPNOTSUPP, 0,
	  "without VIRTIO_F_VERSION_1 (32)" },
	{ "a back-end with nothing is refused", ON, 0, -EOPNOTSUPP, 0, "VIRTIO_F_VERSION_1" },
};

/* What each side gets, once the guest has. */
static const struct answer {
	const char *promise;
	enum umbra_shadow_mode mode;
	uint64_t backend, guest;
	int result;
	uint64_t passthrough, shadowed, shadow_ring;
	bool can_passthrough, can_shadow;
	const char *says; /* in the error or in why_not */
} answers[] = {
	{ "auto tells the back-end the same in both modes", AUTO, V1 | EVENT | INDIRECT | FLUSH,
	  V1 | EVENT | FLUSH, 0, V1 | EVENT | FLUSH, V1 | EVENT | FLUSH, EVENT, true, true, "" },
	{ "on gives each side its own", ON, V1 | INDIRECT, V1 | EVENT, 0, V1, V1 | INDIRECT,
	  INDIRECT, false, true, "always shadowed" },
	{ "off never shadows", OFF, V1 | EVENT, V1 | EVENT, 0, V1 | EVENT, V1 | EVENT, EVENT, true,
	  false, "shadow=off" },
	{ "in order is kept on both sides", AUTO, V1 | IN_ORDER, V1 | IN_ORDER, 0, V1 | IN_ORDER,
	  V1 | IN_ORDER, IN_ORDER, true, true, "" },
	{ "bit 30 reaches a back-end that has it", AUTO, V1 | PROTOCOL, V1 | PROTOCOL, 0,
	  V1 | PROTOCOL, V1 | PROTOCOL, 0, true, true, "" },
	{ "and not one that has not", AUTO, V1, V1 | PROTOCOL, 0, V1, V1, 0, true, true, "" },
	{ "a legacy driver is passed through", AUTO, V1 | FLUSH, FLUSH, 0, FLUSH, FLUSH, 0, true,
	  false, "did not take VIRTIO_F_VERSION_1" },
	{ "or refused where it cannot be", ON, V1 | FLUSH, FLUSH, -EOPNOTSUPP, 0, 0, 0, false,
	  false, "did not take VIRTIO_F_VERSION_1" },
	{ "a bit that was not offered is refused by name", AUTO, V1 | PACKED, V1 | PACKED, -EINVAL,
	  0, 0, 0, false, false, "bit 34 (VIRTIO_F_RING_PACKED), which was not offered" },
	{ "a back-end that does not map is not told it", AUTO, V1 | PLATFORM, V1, 0, V1, V1, 0,
	  true, true, "" },
	{ "also one of the device type", AUTO, V1, V1 | FLUSH, -EINVAL, 0, 0, 0, false, false,
	  "bit 9 (of the device type)" },
};

/* The same of a back-end for which memory is mapped. */
static const struct offer mapped_offers[] = {
	{ "where memory is mapped the guest does not see the bit either", AUTO,
	  V1 | PLATFORM | FLUSH, 0, V1 | FLUSH | PROTOCOL,
	  "VIRTIO_F_ACCESS_PLATFORM (33): the shadow maps the guest's memory for the device" },
	{ "nor where the device is always shadowed", ON, V1 | PLATFORM, 0,
	  V1 | EVENT | INDIRECT | PROTOCOL, "VIRTIO_F_ACCESS_PLATFORM (33): the shadow maps" },
	{ "where memory is mapped the back-end must offer it", AUTO, V1 | FLUSH, -EOPNOTSUPP, 0,
	  "without VIRTIO_F_ACCESS_PLATFORM (33): it would take the guest's addresses" },
	{ "and not be a legacy device", OFF, PLATFORM | FLUSH, -EOPNOTSUPP, 0,
	  "without VIRTIO_F_VERSION_1 (32)" },
};
static const struct answer mapped_answers[] = {
	{ "a back-end that maps is told ACCESS_PLATFORM in both modes", AUTO,
	  V1 | PLATFORM | EVENT | FLUSH, V1 | EVENT | FLUSH, 0, V1 | PLATFORM | EVENT | FLUSH,
	  V1 | PLATFORM | EVENT | FLUSH, EVENT, true, true, "" },
	{ "and by the shadow alone, too", ON, V1 | PLATFORM | INDIRECT, V1 | EVENT, 0,
	  V1 | PLATFORM, V1 | PLATFORM | INDIRECT, INDIRECT, false, true, "always shadowed" },
	{ "whatever a legacy driver says", OFF, V1 | PLATFORM | FLUSH, FLUSH, 0, PLATFORM | FLUSH,
	  PLATFORM | FLUSH, 0, true, false, "shadow=off" },
	{ "a guest that takes it although it was not offered is refused", AUTO, V1 | PLATFORM,
	  V1 | PLATFORM, -EINVAL, 0, 0, 0, false, false,
	  "bit 33 (VIRTIO_F_ACCESS_PLATFORM), which was not offered" },
};

static void check_offers(const struct offer *table, size_t count, bool maps)
{
	for (size_t i = 0; i < count; i++) {
		struct features_in in = { .backend = table[i].backend,
					  .maps = maps,
					  .mode = table[i].mode };
		struct features_out out;
		struct umbra_error err = { "" };
		char drops[1024];

		print_message("%s\n", table[i].promise);
		assert_int_equal(features_negotiate(&in, &out, &err), table[i].result);
		features_drops_text(&out, drops, sizeof(drops));
		assert_non_null(strstr(table[i].result ? err.text : drops, table[i].says));
		if (!table[i].result)
			assert_int_equal(out.offer, table[i].offer);
	}
}

static void the_offer_is_what_the_table_says(void **state)
{
	(void)state;
	check_offers(offers, ARRAY_SIZE(offers), false);
	check_offers(mapped_offers, ARRAY_SIZE(mapped_offers), true);
}

static void check_answers(const struct answer *table, size_t count, bool maps)
{
	for (size_t i = 0; i < count; i++) {
		struct features_in in = { .backend = table[i].backend,
					  .maps = maps,
					  .mode = table[i].mode,
					  .guest_answered = true,
					  .guest = table[i].guest };
		struct features_out out;
		struct umbra_error err = { "" };

		print_message("%s\n", table[i].promise);
		assert_int_equal(features_negotiate(&in, &out, &err), table[i].result);
		assert_non_null(strstr(table[i].result ? err.text : out.why_not, table[i].says));
		if (table[i].result)
			continue;
		assert_int_equal(out.passthrough, table[i].passthrough);
		assert_int_equal(out.shadowed, table[i].shadowed);
		assert_int_equal(out.shadow_ring, table[i].shadow_ring);
		assert_int_equal(out.can_passthrough, table[i].can_passthrough);
		assert_int_equal(out.can_shadow, table[i].can_shadow);
	}
}

static void each_side_gets_what_the_table_says(void **state)
{
	(void)state;
	check_answers(answers, ARRAY_SIZE(answers), false);
	check_answers(mapped_answers, ARRAY_SIZE(mapped_answers), true);
}

/* Whatever is offered: the guest never gets a ring bit that the shadow does not
 * understand, and every dropped bit has a reason. */
static void no_bit_is_dropped_without_a_reason(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 128; i++) {
		unsigned int bit = i % 64, found = 0;
		bool maps = i >= 64; /* then PLATFORM is required, and always dropped */
		struct features_in in = { .backend = V1 | BIT64(bit) | (maps ? PLATFORM : 0),
					  .maps = maps,
					  .mode = AUTO };
		struct features_out out;
		struct umbra_error err;

		assert_int_equal(features_negotiate(&in, &out, &err), 0);
		for (unsigned int j = 0; j < out.drop_count; j++) {
			const struct feature_drop *drop = &out.drops[j];

			assert_true(drop->bit == bit || (maps && BIT64(drop->bit) == PLATFORM));
			assert_true(strlen(drop->reason) > 10);
			found += drop->bit == bit;
		}
		assert_int_equal(found, out.offer & BIT64(bit) ? 0 : 1);
		assert_true(!found || (bit >= 24 && bit <= 49));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_offer_is_what_the_table_says),
		cmocka_unit_test(each_side_gets_what_the_table_says),
		cmocka_unit_test(no_bit_is_dropped_without_a_reason),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
