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
#include <linux/virtio_ring.h>
#include <string.h>

#include "base/bits.h"
#include "shadow/features.h"

#define V1 BIT64(VIRTIO_F_VERSION_1)
#define EVENT BIT64(VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT BIT64(VIRTIO_RING_F_INDIRECT_DESC)
#define PROTOCOL BIT64(FEATURE_PROTOCOL)
#define PACKED BIT64(VIRTIO_F_RING_PACKED)
#define PLATFORM BIT64(VIRTIO_F_ACCESS_PLATFORM)
#define IN_ORDER BIT64(VIRTIO_F_IN_ORDER)
#define LOG BIT64(VHOST_F_LOG_ALL)
#define FLUSH BIT64(VIRTIO_BLK_F_FLUSH)
#define HIGH BIT64(63) /* of the device type */

#define AUTO UMBRA_SHADOW_AUTO
#define ON UMBRA_SHADOW_ON
#define OFF UMBRA_SHADOW_OFF

/* What is offered, before the guest has answered. */
static const struct {
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
static const struct {
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
	{ "also one of the device type", AUTO, V1, V1 | FLUSH, -EINVAL, 0, 0, 0, false, false,
	  "bit 9 (of the device type)" },
};

static void the_offer_is_what_the_table_says(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(offers); i++) {
		struct features_in in = { .backend = offers[i].backend, .mode = offers[i].mode };
		struct features_out out;
		struct umbra_error err = { "" };
		char drops[1024];

		print_message("%s\n", offers[i].promise);
		assert_int_equal(features_negotiate(&in, &out, &err), offers[i].result);
		features_drops_text(&out, drops, sizeof(drops));
		assert_non_null(strstr(offers[i].result ? err.text : drops, offers[i].says));
		if (!offers[i].result)
			assert_int_equal(out.offer, offers[i].offer);
	}
}

static void each_side_gets_what_the_table_says(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		struct features_in in = { .backend = answers[i].backend,
					  .mode = answers[i].mode,
					  .guest_answered = true,
					  .guest = answers[i].guest };
		struct features_out out;
		struct umbra_error err = { "" };

		print_message("%s\n", answers[i].promise);
		assert_int_equal(features_negotiate(&in, &out, &err), answers[i].result);
		assert_non_null(
			strstr(answers[i].result ? err.text : out.why_not, answers[i].says));
		if (answers[i].result)
			continue;
		assert_int_equal(out.passthrough, answers[i].passthrough);
		assert_int_equal(out.shadowed, answers[i].shadowed);
		assert_int_equal(out.shadow_ring, answers[i].shadow_ring);
		assert_int_equal(out.can_passthrough, answers[i].can_passthrough);
		assert_int_equal(out.can_shadow, answers[i].can_shadow);
	}
}

/* Whatever is offered: the guest never gets a ring bit that the shadow does not
 * understand, and every dropped bit has a reason. */
static void no_bit_is_dropped_without_a_reason(void **state)
{
	(void)state;
	for (unsigned int bit = 0; bit < 64; bit++) {
		struct features_in in = { .backend = V1 | BIT64(bit), .mode = AUTO };
		struct features_out out;
		struct umbra_error err;

		assert_int_equal(features_negotiate(&in, &out, &err), 0);
		if (out.offer & BIT64(bit)) {
			assert_int_equal(out.drop_count, 0);
			continue;
		}
		assert_true(bit >= 24 && bit <= 49);
		assert_int_equal(out.drop_count, 1);
		assert_int_equal(out.drops[0].bit, bit);
		assert_true(strlen(out.drops[0].reason) > 10);
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
