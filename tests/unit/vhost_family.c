/* SPDX-License-Identifier: BSD-2-Clause */
/* The families of vhost-user back-ends are told apart by what they were seen to offer. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/bits.h"
#include "vhost_user/protocol.h"
#include "vhost_user/vhost_user_family.h"

#define BIT30 BIT64(VHOST_USER_F_PROTOCOL_FEATURES)

/* As these answered GET_PROTOCOL_FEATURES. */
static const struct {
	const char *name;
	uint64_t features, protocol;
	enum hush_way hush;
} seen[] = {
	{ "qemu-storage-daemon 7.2, vhost-user-blk", BIT30, 0x8f2b, HUSH_BY_KICK },
	{ "virtiofsd 1.13", BIT30, 0x8a62b, HUSH_BY_ENABLE },
	{ "passt", BIT30, 0x8000e, HUSH_BY_ENABLE },
	{ "dpdk-testpmd 24.11, net_vhost", BIT30, 0x10cbf, HUSH_NOT },
	{ "umbra balloon", BIT30 | BIT64(50), 0x1a229, HUSH_NOT },
	{ "one without protocol features", 0, 0, HUSH_NOT },
};

static void each_family_is_known_by_what_it_offers(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(seen); i++) {
		const struct vhost_user_family *f =
			vhost_user_family_find(seen[i].features, seen[i].protocol);

		print_message("%s: %s\n", seen[i].name, f->name);
		assert_int_equal(f->hush, seen[i].hush);
		assert_int_equal(f->not_while_kicked != NULL, !strcmp(seen[i].name, "passt"));
		assert_true(!f->not_while_kicked || strstr(f->not_while_kicked, "(passt)"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_family_is_known_by_what_it_offers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
