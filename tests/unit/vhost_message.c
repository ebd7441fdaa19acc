/* SPDX-License-Identifier: BSD-2-Clause */
/* The judgement on vhost-user messages, by the table and by the exceptions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "vhost_user/message.h"
#include "virtio/feature_names.h"

static const struct vhost_terms everything = { .offered = UINT64_MAX, .negotiated = UINT64_MAX };
static const struct vhost_terms nothing;

static union vhost_user_payload payload;
static struct umbra_error err;

static int judge(const struct vhost_terms *terms, uint32_t request, uint32_t flags, uint32_t size,
		 unsigned int fds)
{
	struct vhost_user_header header = { request, flags, size };

	err.text[0] = '\0';
	return vhost_message_check(VHOST_FROM_FRONTEND, terms, &header, &payload, fds, &err);
}

/* A payload that fits the sizes; what the exceptions look at is set to fit. */
static void fit(uint32_t request, unsigned int fds)
{
	memset(&payload, 0, sizeof(payload));
	if (request == VHOST_USER_SET_MEM_TABLE)
		payload.table.count = fds;
	if (request >= VHOST_USER_SET_VRING_KICK && request <= VHOST_USER_SET_VRING_ERR && !fds)
		payload.u64 = VHOST_USER_VRING_NO_FD;
}

static void every_request_passes_within_its_bounds_and_fails_beyond(void **state)
{
	(void)state;
	for (uint32_t request = 1; request < VHOST_USER_REQUEST_END; request++) {
		const struct vhost_request_info *info =
			vhost_request_info(VHOST_FROM_FRONTEND, request);

		assert_non_null(info);
		fit(request, info->fds_max);
		assert_int_equal(judge(&everything, request, 1, info->size_max, info->fds_max), 0);
		assert_int_equal(judge(&everything, request, 9, info->size_max, info->fds_max), 0);
		fit(request, info->fds_min);
		assert_int_equal(judge(&everything, request, 1, info->size_min, info->fds_min), 0);
		assert_int_equal(judge(&everything, request, 1, info->size_max + 1u, info->fds_max),
				 -EPROTO);
		assert_non_null(strstr(err.text, info->name));
		if (info->size_min)
			assert_int_equal(
				judge(&everything, request, 1, info->size_min - 1u, info->fds_min),
				-EPROTO);
		assert_int_equal(judge(&everything, request, 1, info->size_max, info->fds_max + 1u),
				 -EPROTO);
		if (info->fds_min)
			assert_int_equal(
				judge(&everything, request, 1, info->size_max, info->fds_min - 1u),
				-EPROTO);
	}
}

static void version_and_flags_that_are_wrong_poison_the_stream(void **state)
{
	static const uint32_t wrong[] = { 0, 2, 3, 8, 5, 13, 0x11, 0x80000001 };

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_int_equal(judge(&everything, VHOST_USER_SET_OWNER, wrong[i], 0, 0),
				 -EBADMSG);
	assert_int_equal(judge(&everything, VHOST_USER_SET_OWNER, 2, 0, 0), -EBADMSG);
	assert_string_equal(err.text, "SET_OWNER: message version 2 (flags 0x2); expected 1");
}

static void requests_that_do_not_exist_are_named_by_number(void **state)
{
	(void)state;
	assert_int_equal(judge(&everything, 0, 1, 0, 0), -EOPNOTSUPP);
	assert_int_equal(judge(&everything, VHOST_USER_REQUEST_END, 1, 0, 0), -EOPNOTSUPP);
	assert_int_equal(judge(&everything, UINT32_MAX, 1, 0, 0), -EOPNOTSUPP);
	assert_string_equal(err.text, "there is no request 4294967295 from a front-end");
}

static void a_protocol_feature_gates_as_offered_or_as_negotiated(void **state)
{
	struct vhost_terms offered = { .offered = UINT64_MAX };

	(void)state;
	assert_int_equal(judge(&nothing, VHOST_USER_GET_QUEUE_NUM, 1, 0, 0), -EOPNOTSUPP);
	assert_string_equal(
		err.text, "GET_QUEUE_NUM needs protocol feature MQ (bit 0), which was not offered");
	assert_int_equal(judge(&offered, VHOST_USER_GET_QUEUE_NUM, 1, 0, 0), 0);
	assert_int_equal(judge(&offered, VHOST_USER_GET_STATUS, 1, 0, 0), -EOPNOTSUPP);
	assert_string_equal(
		err.text,
		"GET_STATUS needs protocol feature STATUS (bit 16), which was not negotiated");
	assert_int_equal(judge(&everything, VHOST_USER_GET_STATUS, 1, 0, 0), 0);
}

static void a_memory_table_has_an_fd_for_each_region_and_room_for_all(void **state)
{
	(void)state;
	fit(VHOST_USER_SET_MEM_TABLE, 2);
	assert_int_equal(judge(&nothing, VHOST_USER_SET_MEM_TABLE, 1, 8 + 64, 2), 0);
	/* Some front-ends send the whole structure. */
	assert_int_equal(judge(&nothing, VHOST_USER_SET_MEM_TABLE, 1, 8 + 256, 2), 0);
	assert_int_equal(judge(&nothing, VHOST_USER_SET_MEM_TABLE, 1, 8 + 63, 2), -EPROTO);
	assert_int_equal(judge(&nothing, VHOST_USER_SET_MEM_TABLE, 1, 8 + 64, 1), -EPROTO);
	assert_string_equal(err.text, "SET_MEM_TABLE: 1 file descriptors came for 2 regions");
	payload.table.count = 9;
	assert_int_equal(judge(&nothing, VHOST_USER_SET_MEM_TABLE, 1, 8 + 256, 8), -EPROTO);
	payload.table.count = UINT32_MAX;
	assert_int_equal(judge(&nothing, VHOST_USER_SET_MEM_TABLE, 1, 8 + 256, 8), -EPROTO);
}

static void queue_indices_stay_below_256(void **state)
{
	static const uint32_t by_state[] = { VHOST_USER_SET_VRING_NUM, VHOST_USER_SET_VRING_BASE,
					     VHOST_USER_GET_VRING_BASE,
					     VHOST_USER_SET_VRING_ENABLE };

	(void)state;
	memset(&payload, 0, sizeof(payload));
	for (unsigned int i = 0; i < ARRAY_SIZE(by_state); i++) {
		payload.state.index = 255;
		assert_int_equal(judge(&nothing, by_state[i], 1, 8, 0), 0);
		payload.state.index = 256;
		assert_int_equal(judge(&nothing, by_state[i], 1, 8, 0), -EPROTO);
	}
	payload.addr.index = 256;
	assert_int_equal(judge(&nothing, VHOST_USER_SET_VRING_ADDR, 1, 40, 0), -EPROTO);
	assert_string_equal(err.text, "SET_VRING_ADDR: queue 256; expected less than 256");
}

static void a_ring_fd_comes_or_is_said_to_be_absent(void **state)
{
	(void)state;
	payload.u64 = 3;
	assert_int_equal(judge(&nothing, VHOST_USER_SET_VRING_CALL, 1, 8, 1), 0);
	assert_int_equal(judge(&nothing, VHOST_USER_SET_VRING_CALL, 1, 8, 0), -EPROTO);
	payload.u64 = 0x103;
	assert_int_equal(judge(&nothing, VHOST_USER_SET_VRING_CALL, 1, 8, 0), 0);
	payload.u64 = 0x203;
	assert_int_equal(judge(&nothing, VHOST_USER_SET_VRING_CALL, 1, 8, 1), -EPROTO);
}

static void config_access_fits_its_message(void **state)
{
	(void)state;
	memset(&payload, 0, sizeof(payload));
	payload.config.size = 60;
	assert_int_equal(judge(&everything, VHOST_USER_SET_CONFIG, 1, 12 + 60, 0), 0);
	assert_int_equal(judge(&everything, VHOST_USER_SET_CONFIG, 1, 12 + 59, 0), -EPROTO);
	assert_int_equal(judge(&everything, VHOST_USER_GET_CONFIG, 1, 12, 0), 0);
	payload.config.size = VHOST_USER_CONFIG_MAX;
	assert_int_equal(judge(&everything, VHOST_USER_GET_CONFIG, 1, 12, 0), 0);
	payload.config.size = VHOST_USER_CONFIG_MAX + 1;
	assert_int_equal(judge(&everything, VHOST_USER_GET_CONFIG, 1, 12, 0), -EPROTO);
	payload.config.size = 8;
	payload.config.offset = UINT32_MAX - 7;
	assert_int_equal(judge(&everything, VHOST_USER_GET_CONFIG, 1, 12, 0), -EPROTO);
}

static int judge_reply(uint32_t asked, uint32_t request, uint32_t flags, uint32_t size,
		       unsigned int fds)
{
	struct vhost_user_header header = { request, flags, size };

	return vhost_reply_check(VHOST_FROM_FRONTEND, asked, &nothing, &header, fds, &err);
}

static void a_reply_is_the_one_that_was_asked_for(void **state)
{
	(void)state;
	assert_int_equal(judge_reply(1, 1, 5, 8, 0), 0);
	assert_int_equal(judge_reply(1, 1, 0xd, 8, 0), 0); /* libvhost-user's need_reply */
	assert_int_equal(judge_reply(1, 2, 5, 8, 0), -EPROTO);
	assert_int_equal(judge_reply(1, 1, 1, 8, 0), -EPROTO);
	assert_int_equal(judge_reply(1, 1, 6, 8, 0), -EPROTO);
	assert_int_equal(judge_reply(1, 1, 5, 4, 0), -EPROTO);
	assert_int_equal(judge_reply(1, 1, 5, 16, 0), -EPROTO);
	assert_int_equal(judge_reply(1, 1, 5, 8, 1), -EPROTO);
	/* An acknowledgement is one u64. */
	assert_int_equal(judge_reply(VHOST_USER_SET_MEM_TABLE, VHOST_USER_SET_MEM_TABLE, 5, 8, 0),
			 0);
	assert_int_equal(judge_reply(VHOST_USER_SET_MEM_TABLE, VHOST_USER_SET_MEM_TABLE, 5, 40, 0),
			 -EPROTO);
}

static void the_reply_to_set_log_base_is_owed_with_log_shmfd_only(void **state)
{
	const struct vhost_request_info *info =
		vhost_request_info(VHOST_FROM_FRONTEND, VHOST_USER_SET_LOG_BASE);

	(void)state;
	assert_false(vhost_reply_owed(info, &nothing));
	assert_true(vhost_reply_owed(info, &everything));
}

static void protocol_features_have_names(void **state)
{
	char text[FEATURES_TEXT_MAX], small[8];

	(void)state;
	assert_string_equal(vhost_protocol_features_text(text, sizeof(text), 0), "none");
	assert_string_equal(
		vhost_protocol_features_text(text, sizeof(text), BIT64(50) | BIT64(3) | BIT64(0)),
		"MQ REPLY_ACK bit 50");
	assert_string_equal(vhost_protocol_features_text(text, sizeof(text), 9), "MQ REPLY_ACK");
	assert_string_equal(vhost_protocol_features_text(small, sizeof(small), 9), "MQ REPL");
	/* All 64 fit the buffer. */
	vhost_protocol_features_text(text, sizeof(text), UINT64_MAX);
	assert_non_null(strstr(text, "bit 63"));
	assert_null(vhost_protocol_feature_name(1000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_request_passes_within_its_bounds_and_fails_beyond),
		cmocka_unit_test(version_and_flags_that_are_wrong_poison_the_stream),
		cmocka_unit_test(requests_that_do_not_exist_are_named_by_number),
		cmocka_unit_test(a_protocol_feature_gates_as_offered_or_as_negotiated),
		cmocka_unit_test(a_memory_table_has_an_fd_for_each_region_and_room_for_all),
		cmocka_unit_test(queue_indices_stay_below_256),
		cmocka_unit_test(a_ring_fd_comes_or_is_said_to_be_absent),
		cmocka_unit_test(config_access_fits_its_message),
		cmocka_unit_test(a_reply_is_the_one_that_was_asked_for),
		cmocka_unit_test(the_reply_to_set_log_base_is_owed_with_log_shmfd_only),
		cmocka_unit_test(protocol_features_have_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
