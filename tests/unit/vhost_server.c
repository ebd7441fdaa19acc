/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The vhost-user server, seen from the wire: what a front-end sends, what it
 * gets back, and what the device is told.  Each test also counts fds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/log.h"
#include "fake_device.h"
#include "open_fds.h"
#include "random.h"
#include "vhost_user/protocol.h"
#include "vhost_user/vhost_user_server.h"
#include "vhost_wire.h"

#define P(name) BIT64(VHOST_USER_PROTOCOL_F_##name)
#define HOSTILE_MESSAGES 20000u

static unsigned int fds_before;
static struct umbra_error err;
static struct fake_device device;
static struct vhost_user_server *server;
static int front; /* the front-end's end */
static struct wire_message m;

static int connect_pair(void)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -1;
	front = pair[0];
	return vhost_user_server_create(&pair[1], &device.virtio, -1, &server, &err);
}

static void disconnect_pair(void)
{
	vhost_user_server_destroy(&server);
	close(front);
}

static int setup(void **state)
{
	(void)state;
	fds_before = open_fds();
	memset(&err, 0, sizeof(err));
	memset(&m, 0, sizeof(m));
	log_set_level(LOG_ERROR);
	fake_device_init(&device);
	device.features = BIT64(32);
	device.protocol_features = UINT64_MAX;
	device.queue_num = 4;
	device.memory_slots = 31;
	return connect_pair();
}

static int teardown(void **state)
{
	(void)state;
	disconnect_pair();
	fake_device_fini(&device);
	return fds_before == open_fds() ? 0 : -1;
}

/* --- a front-end in a few words ----------------------------------------- */

#define NEED_REPLY VHOST_USER_NEED_REPLY

static int send_message(uint32_t request, uint32_t flags, uint32_t size)
{
	m.header = (struct vhost_user_header){ request, VHOST_USER_VERSION | flags, size };
	assert_int_equal(wire_send(front, &m), 0);
	wire_close_fds(&m);
	return vhost_user_server_receive(server, &err);
}

static int send_u64(uint32_t request, uint32_t flags, uint64_t value)
{
	m.payload.u64 = value;
	return send_message(request, flags, 8);
}

static int send_state(uint32_t request, uint32_t flags, uint32_t index, uint32_t num)
{
	m.payload.state = (struct vhost_vring_state){ index, num };
	return send_message(request, flags, 8);
}

static int send_ring_fd(uint32_t request, uint32_t flags, uint64_t value)
{
	if (!(value & VHOST_USER_VRING_NO_FD))
		m.fds[m.fd_count++] = eventfd(0, EFD_CLOEXEC);
	return send_u64(request, flags, value);
}

/* There is one reply to @request, of @size bytes, and nothing after it. */
static void expect_reply(uint32_t request, uint32_t size)
{
	char byte;

	assert_int_equal(wire_receive(front, &m), 1);
	assert_int_equal(m.header.request, request);
	assert_int_equal(m.header.flags, VHOST_USER_VERSION | VHOST_USER_REPLY);
	assert_int_equal(m.header.size, size);
	assert_int_equal(m.fd_count, 0);
	assert_int_equal(recv(front, &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
}

static void expect_u64(uint32_t request, uint64_t value)
{
	expect_reply(request, 8);
	assert_int_equal(m.payload.u64, value);
}

static void expect_silence(void)
{
	char byte;

	assert_int_equal(recv(front, &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
}

static void negotiate(uint64_t protocol)
{
	assert_int_equal(send_message(VHOST_USER_GET_PROTOCOL_FEATURES, 0, 0), 1);
	expect_reply(VHOST_USER_GET_PROTOCOL_FEATURES, 8);
	assert_int_equal(send_u64(VHOST_USER_SET_PROTOCOL_FEATURES, 0, protocol), 1);
	expect_silence();
}

static int memory_file(uint64_t size)
{
	int fd = memfd_create("guest", MFD_CLOEXEC);

	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

/* --- what a front-end asks ----------------------------------------------- */

static void features_come_with_bit_30_whatever_the_back_end_has(void **state)
{
	(void)state;
	assert_int_equal(send_message(VHOST_USER_GET_FEATURES, 0, 0), 1);
	expect_u64(VHOST_USER_GET_FEATURES, BIT64(32) | BIT64(30));
	assert_int_equal(send_u64(VHOST_USER_SET_FEATURES, 0, BIT64(32) | BIT64(30)), 1);
	assert_string_equal(device.heard, "set_features 0x140000000");
	expect_silence();
}

static void protocol_features_are_what_can_be_relayed_and_reply_ack(void **state)
{
	uint64_t relayed = P(MQ) | P(RARP) | P(MTU) | P(BACKEND_REQ) | P(CONFIG) |
			   P(BACKEND_SEND_FD) | P(RESET_DEVICE) | P(CONFIGURE_MEM_SLOTS) |
			   P(STATUS) | P(INFLIGHT_SHMFD);

	(void)state;
	assert_int_equal(send_message(VHOST_USER_GET_PROTOCOL_FEATURES, 0, 0), 1);
	expect_u64(VHOST_USER_GET_PROTOCOL_FEATURES, relayed | P(REPLY_ACK));
	assert_int_equal(send_u64(VHOST_USER_SET_PROTOCOL_FEATURES, 0, P(MQ) | P(REPLY_ACK)), 1);
	assert_string_equal(device.heard, "set_protocol_features 0x1");
	disconnect_pair();
	assert_int_equal(connect_pair(), 0);
	device.protocol_features = 0;
	assert_int_equal(send_message(VHOST_USER_GET_PROTOCOL_FEATURES, 0, 0), 1);
	expect_u64(VHOST_USER_GET_PROTOCOL_FEATURES, P(REPLY_ACK));
}

static void a_protocol_feature_that_was_not_offered_is_not_taken(void **state)
{
	(void)state;
	assert_int_equal(send_u64(VHOST_USER_SET_PROTOCOL_FEATURES, NEED_REPLY, P(PAGEFAULT)), 1);
	expect_u64(VHOST_USER_SET_PROTOCOL_FEATURES, 1);
	assert_int_equal(send_u64(VHOST_USER_SET_PROTOCOL_FEATURES, 0, P(PAGEFAULT)), -EINVAL);
	assert_non_null(
		strstr(err.text, "SET_PROTOCOL_FEATURES: 0x100 has PAGEFAULT, not offered"));
}

static void ask_all_questions(uint32_t flags)
{
	device.base = 77;
	device.status = 15;
	memcpy(device.config, "configuration", 13);
	assert_int_equal(send_message(VHOST_USER_GET_QUEUE_NUM, flags, 0), 1);
	expect_u64(VHOST_USER_GET_QUEUE_NUM, 4);
	assert_int_equal(send_message(VHOST_USER_GET_MAX_MEM_SLOTS, flags, 0), 1);
	expect_u64(VHOST_USER_GET_MAX_MEM_SLOTS, 31);
	assert_int_equal(send_message(VHOST_USER_GET_STATUS, flags, 0), 1);
	expect_u64(VHOST_USER_GET_STATUS, 15);
	assert_int_equal(send_state(VHOST_USER_GET_VRING_BASE, flags, 3, 0), 1);
	expect_reply(VHOST_USER_GET_VRING_BASE, 8);
	assert_int_equal(m.payload.state.index, 3);
	assert_int_equal(m.payload.state.num, 77);
	memset(&m.payload, 0, 20);
	m.payload.config.offset = 2;
	m.payload.config.size = 5;
	assert_int_equal(send_message(VHOST_USER_GET_CONFIG, flags, 12 + 5), 1);
	assert_string_equal(device.heard, "get_config 2 5");
	expect_reply(VHOST_USER_GET_CONFIG, 12 + 5);
	assert_int_equal(m.payload.config.offset, 2);
	assert_int_equal(m.payload.config.size, 5);
	assert_memory_equal(m.payload.config.data, "nfigu", 5);
}

static void a_question_is_answered_once_with_and_without_need_reply(void **state)
{
	(void)state;
	negotiate(P(MQ) | P(CONFIG) | P(CONFIGURE_MEM_SLOTS) | P(STATUS) | P(REPLY_ACK));
	ask_all_questions(0);
	ask_all_questions(NEED_REPLY);
}

static void a_question_that_cannot_be_answered_ends_the_connection(void **state)
{
	(void)state;
	device.fail = -EREMOTEIO;
	assert_int_equal(send_state(VHOST_USER_GET_VRING_BASE, NEED_REPLY, 3, 0), -EREMOTEIO);
	assert_string_equal(err.text, "front-end: GET_VRING_BASE: the device was told to fail");
	expect_silence();
}

static void refused_config_is_an_empty_payload(void **state)
{
	(void)state;
	negotiate(P(CONFIG));
	memset(&m.payload, 0, 20);
	m.payload.config.size = 257;
	assert_int_equal(send_message(VHOST_USER_GET_CONFIG, 0, 12), 1);
	expect_reply(VHOST_USER_GET_CONFIG, 0);
	m.payload.config.size = 5000;
	assert_int_equal(send_message(VHOST_USER_GET_CONFIG, NEED_REPLY, 12), 1);
	expect_reply(VHOST_USER_GET_CONFIG, 0);
}

static void settings_reach_the_device_and_stay_silent(void **state)
{
	(void)state;
	negotiate(P(CONFIG) | P(STATUS) | P(RARP) | P(MTU) | P(RESET_DEVICE) |
		  P(CONFIGURE_MEM_SLOTS));
	assert_int_equal(send_message(VHOST_USER_SET_OWNER, 0, 0), 1);
	assert_int_equal(send_message(VHOST_USER_RESET_OWNER, 0, 0), 1);
	assert_int_equal(send_state(VHOST_USER_SET_VRING_NUM, 0, 255, 256), 1);
	assert_string_equal(device.heard, "ring_set_size 255 256");
	m.payload.addr = (struct vhost_vring_addr){
		.index = 1, .desc_user_addr = 0x10, .used_user_addr = 0x20, .avail_user_addr = 0x30
	};
	assert_int_equal(send_message(VHOST_USER_SET_VRING_ADDR, 0, 40), 1);
	assert_string_equal(device.heard, "ring_set_addr 1 0x10 0x30 0x20");
	assert_int_equal(send_state(VHOST_USER_SET_VRING_BASE, 0, 2, 65535), 1);
	assert_string_equal(device.heard, "ring_set_base 2 65535");
	assert_int_equal(send_state(VHOST_USER_SET_VRING_ENABLE, 0, 2, 1), 1);
	assert_string_equal(device.heard, "ring_enable 2 1");
	assert_int_equal(send_u64(VHOST_USER_SET_STATUS, 0, 255), 1);
	assert_string_equal(device.heard, "set_status 255");
	assert_int_equal(send_u64(VHOST_USER_NET_SET_MTU, 0, 1500), 1);
	assert_string_equal(device.heard, "set_mtu 1500");
	memcpy(m.payload.bytes, "\x52\x54\x00\x12\x34\x56\xff\xff", 8);
	assert_int_equal(send_message(VHOST_USER_SEND_RARP, 0, 8), 1);
	assert_string_equal(device.heard, "send_rarp 52:54:00:12:34:56");
	memset(&m.payload, 0, 20);
	m.payload.config.offset = 4;
	m.payload.config.size = 2;
	m.payload.config.flags = 1;
	assert_int_equal(send_message(VHOST_USER_SET_CONFIG, 0, 14), 1);
	assert_string_equal(device.heard, "set_config 4 2 1");
	m.payload.mem_region.region =
		(struct vhost_user_region){ .guest_addr = 1, .size = 2, .user_addr = 3 };
	m.fds[m.fd_count++] = eventfd(0, EFD_CLOEXEC); /* from old front-ends */
	assert_int_equal(send_message(VHOST_USER_REM_MEM_REG, 0, 40), 1);
	assert_string_equal(device.heard, "remove_region 0x1 0x3 0x2");
	assert_int_equal(send_message(VHOST_USER_RESET_DEVICE, 0, 0), 1);
	assert_string_equal(device.heard, "reset");
	expect_silence();
}

static void need_reply_is_acknowledged_with_success_or_failure(void **state)
{
	(void)state;
	negotiate(P(REPLY_ACK));
	assert_int_equal(send_message(VHOST_USER_SET_OWNER, NEED_REPLY, 0), 1);
	expect_u64(VHOST_USER_SET_OWNER, 0);
	assert_int_equal(send_state(VHOST_USER_SET_VRING_NUM, NEED_REPLY, 0, 256), 1);
	expect_u64(VHOST_USER_SET_VRING_NUM, 0);
	device.fail = -EINVAL;
	assert_int_equal(send_state(VHOST_USER_SET_VRING_NUM, NEED_REPLY, 0, 3), 1);
	expect_u64(VHOST_USER_SET_VRING_NUM, 1);
	assert_int_equal(send_u64(VHOST_USER_SET_FEATURES, NEED_REPLY, 0), 1);
	expect_u64(VHOST_USER_SET_FEATURES, 1);
	/* Malformed. */
	assert_int_equal(send_message(VHOST_USER_SET_FEATURES, NEED_REPLY, 4), 1);
	expect_u64(VHOST_USER_SET_FEATURES, 1);
	/* Not negotiated. */
	assert_int_equal(send_u64(VHOST_USER_SET_STATUS, NEED_REPLY, 1), 1);
	expect_u64(VHOST_USER_SET_STATUS, 1);
	/* Not offered at all. */
	assert_int_equal(send_u64(VHOST_USER_SET_LOG_BASE, NEED_REPLY, 1), 1);
	expect_u64(VHOST_USER_SET_LOG_BASE, 1);
}

/* --- failures that nobody asked about -------------------------------------- */

static void a_device_that_cannot_take_a_setting_loses_its_connection(void **state)
{
	(void)state;
	device.fail = -EINVAL;
	assert_int_equal(send_u64(VHOST_USER_SET_FEATURES, 0, 1), -EINVAL);
	assert_string_equal(err.text, "front-end: SET_FEATURES: the device was told to fail");
	expect_silence();
}

static void a_ring_does_not_start_with_what_was_left_of_an_earlier_setting(void **state)
{
	(void)state;
	device.fail = -EINVAL;
	assert_int_equal(send_state(VHOST_USER_SET_VRING_NUM, 0, 1, 3), 1);
	expect_silence();
	device.fail = 0;
	assert_int_equal(send_ring_fd(VHOST_USER_SET_VRING_KICK, NEED_REPLY, 1), 1);
	expect_u64(VHOST_USER_SET_VRING_KICK, 1);
	assert_string_equal(device.heard, "ring_set_size 1 3");
	/* The others live. */
	assert_int_equal(send_ring_fd(VHOST_USER_SET_VRING_KICK, NEED_REPLY, 0), 1);
	expect_u64(VHOST_USER_SET_VRING_KICK, 0);
	assert_string_equal(device.heard, "ring_set_kick 0 fd");
	/* Made good. */
	assert_int_equal(send_state(VHOST_USER_SET_VRING_NUM, 0, 1, 4), 1);
	assert_int_equal(send_ring_fd(VHOST_USER_SET_VRING_KICK, NEED_REPLY, 1), 1);
	expect_u64(VHOST_USER_SET_VRING_KICK, 0);
}

static void a_ring_that_is_to_be_logged_is_refused(void **state)
{
	(void)state;
	m.payload.addr = (struct vhost_vring_addr){ .flags = 1 };
	assert_int_equal(send_message(VHOST_USER_SET_VRING_ADDR, NEED_REPLY, 40), 1);
	expect_u64(VHOST_USER_SET_VRING_ADDR, 1);
	assert_int_equal(device.calls, 0);
}

/* The text is the log's; what the front-end sees of it is a ring that does not start. */
static void a_base_that_is_no_index_is_refused_and_the_ring_does_not_start(void **state)
{
	static const uint32_t bases[] = { 0x10000, 0x10005, 0x80008000, UINT32_MAX };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bases); i++) {
		assert_int_equal(send_state(VHOST_USER_SET_VRING_BASE, NEED_REPLY, 1, bases[i]), 1);
		expect_u64(VHOST_USER_SET_VRING_BASE, 1);
		assert_int_equal(send_ring_fd(VHOST_USER_SET_VRING_KICK, NEED_REPLY, 1), 1);
		expect_u64(VHOST_USER_SET_VRING_KICK, 1);
		assert_int_equal(device.calls, 0);
	}
	assert_int_equal(send_state(VHOST_USER_SET_VRING_BASE, NEED_REPLY, 1, 65535), 1);
	expect_u64(VHOST_USER_SET_VRING_BASE, 0);
	assert_string_equal(device.heard, "ring_set_base 1 65535");
	assert_int_equal(send_ring_fd(VHOST_USER_SET_VRING_KICK, NEED_REPLY, 1), 1);
	expect_u64(VHOST_USER_SET_VRING_KICK, 0);
}

static void an_unknown_request_is_refused_or_ends_the_connection(void **state)
{
	(void)state;
	negotiate(P(REPLY_ACK));
	assert_int_equal(send_message(99, NEED_REPLY, 24), 1);
	expect_u64(99, 1);
	m.fds[m.fd_count++] = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(send_message(99, NEED_REPLY, 24), 1);
	expect_u64(99, 1);
	assert_int_equal(send_message(99, 0, 24), -EOPNOTSUPP);
	assert_string_equal(err.text, "front-end: there is no request 99 from a front-end");
}

static void what_is_not_offered_is_refused_in_the_words_of_its_reply(void **state)
{
	(void)state;
	assert_int_equal(send_message(VHOST_USER_GET_INFLIGHT_FD, 0, 24), 1);
	expect_reply(VHOST_USER_GET_INFLIGHT_FD, 24);
	assert_int_equal(m.payload.inflight.mmap_size, 0);
	assert_int_equal(send_message(VHOST_USER_POSTCOPY_ADVISE, 0, 0), 1);
	expect_reply(VHOST_USER_POSTCOPY_ADVISE, 0);
	assert_int_equal(send_message(VHOST_USER_POSTCOPY_END, 0, 0), 1);
	expect_u64(VHOST_USER_POSTCOPY_END, 1);
	assert_int_equal(send_message(VHOST_USER_IOTLB_MSG, 0, 32), 1);
	expect_u64(VHOST_USER_IOTLB_MSG, 1);
	m.fds[m.fd_count++] = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(send_message(VHOST_USER_SET_DEVICE_STATE_FD, 0, 8), 1);
	expect_u64(VHOST_USER_SET_DEVICE_STATE_FD, 0x101);
	assert_int_equal(send_message(VHOST_USER_CHECK_DEVICE_STATE, 0, 0), 1);
	expect_u64(VHOST_USER_CHECK_DEVICE_STATE, 1);
	/* Its loss harms nobody. */
	m.fds[m.fd_count++] = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(send_message(VHOST_USER_SET_LOG_FD, 0, 0), 1);
	expect_silence();
	assert_int_equal(device.calls, 0);
	/* A log that is not written would lose pages. */
	assert_int_equal(send_u64(VHOST_USER_SET_LOG_BASE, 0, 0), -EOPNOTSUPP);
}

static void a_frame_that_cannot_be_trusted_ends_the_connection(void **state)
{
	(void)state;
	m.header = (struct vhost_user_header){ VHOST_USER_SET_OWNER, 2 | NEED_REPLY, 0 };
	assert_int_equal(wire_send(front, &m), 0);
	assert_int_equal(vhost_user_server_receive(server, &err), -EBADMSG);
	assert_string_equal(err.text, "front-end: SET_OWNER: message version 2 (flags 0xa); "
				      "expected 1");
	expect_silence();
}

static void the_front_end_may_leave(void **state)
{
	(void)state;
	assert_int_equal(shutdown(front, SHUT_WR), 0);
	assert_int_equal(vhost_user_server_receive(server, &err), 0);
}

/* --- memory ---------------------------------------------------------------- */

static void a_memory_table_is_mapped_and_handed_over(void **state)
{
	int file = memory_file(1 << 20);

	(void)state;
	assert_int_equal(pwrite(file, "guest", 5, 8192), 5);
	m.payload.table.count = 2;
	m.payload.table.regions[0] = (struct vhost_user_region){ 0, 8192, 0x10000, 0 };
	m.payload.table.regions[1] = (struct vhost_user_region){ 1 << 30, 4096, 0x80000, 8192 };
	m.fds[m.fd_count++] = dup(file);
	m.fds[m.fd_count++] = dup(file);
	assert_int_equal(send_message(VHOST_USER_SET_MEM_TABLE, NEED_REPLY, 8 + 64), 1);
	expect_u64(VHOST_USER_SET_MEM_TABLE, 0);
	assert_string_equal(device.heard, "set_memory 2");
	assert_int_equal(device.regions[1].gpa.v, 1 << 30);
	assert_int_equal(device.regions[1].uva.v, 0x80000);
	assert_int_equal(device.regions[1].size, 4096);
	assert_memory_equal(device.regions[1].host, "guest", 5);
	assert_int_equal(device.regions[1].backing->refs, 1);
	/* No region is a legal table. */
	m.payload.table.count = 0;
	assert_int_equal(send_message(VHOST_USER_SET_MEM_TABLE, NEED_REPLY, 8), 1);
	expect_u64(VHOST_USER_SET_MEM_TABLE, 0);
	assert_int_equal(device.region_count, 0);
	close(file);
}

static void one_region_is_mapped_and_handed_over(void **state)
{
	(void)state;
	negotiate(P(CONFIGURE_MEM_SLOTS));
	m.payload.mem_region.region = (struct vhost_user_region){ 0x5000, 4096, 0x6000, 0 };
	m.fds[m.fd_count++] = memory_file(4096);
	assert_int_equal(send_message(VHOST_USER_ADD_MEM_REG, NEED_REPLY, 40), 1);
	expect_u64(VHOST_USER_ADD_MEM_REG, 0);
	assert_string_equal(device.heard, "add_region 0x5000 0x6000 0x1000");
	assert_int_equal(device.regions[0].backing->refs, 1);
}

static void a_memory_table_with_one_bad_region_leaves_nothing_behind(void **state)
{
	(void)state;
	m.payload.table.count = 2;
	m.payload.table.regions[0] = (struct vhost_user_region){ 0, 4096, 0x10000, 0 };
	m.payload.table.regions[1] = (struct vhost_user_region){ 1 << 30, 4097, 0x80000, 0 };
	m.fds[m.fd_count++] = memory_file(4096);
	m.fds[m.fd_count++] = memory_file(4096);
	assert_int_equal(send_message(VHOST_USER_SET_MEM_TABLE, NEED_REPLY, 8 + 64), 1);
	expect_u64(VHOST_USER_SET_MEM_TABLE, 1);
	assert_int_equal(device.calls, 0);
	/* The device says no: the mappings go again (teardown counts fds). */
	device.fail = -ENOMEM;
	m.payload.table.count = 1;
	m.fds[m.fd_count++] = memory_file(4096);
	m.payload.table.regions[0] = (struct vhost_user_region){ 0, 4096, 0x10000, 0 };
	assert_int_equal(send_message(VHOST_USER_SET_MEM_TABLE, 0, 8 + 32), -ENOMEM);
}

/* --- fds ------------------------------------------------------------------- */

static void ring_fds_are_handed_over_or_absent(void **state)
{
	(void)state;
	assert_int_equal(send_ring_fd(VHOST_USER_SET_VRING_CALL, 0, 7), 1);
	assert_string_equal(device.heard, "ring_set_call 7 fd");
	assert_int_equal(send_ring_fd(VHOST_USER_SET_VRING_CALL, 0, 0x107), 1);
	assert_string_equal(device.heard, "ring_set_call 7 none");
	assert_int_equal(send_ring_fd(VHOST_USER_SET_VRING_ERR, 0, 255), 1);
	assert_string_equal(device.heard, "ring_set_err 255 fd");
	assert_int_equal(send_ring_fd(VHOST_USER_SET_VRING_KICK, 0, 0x107), 1);
	assert_string_equal(device.heard, "ring_set_kick 7 none");
	/* Bit 8 says that there is none, and yet one came: closed. */
	m.fds[m.fd_count++] = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(send_u64(VHOST_USER_SET_VRING_KICK, 0, 0x107), 1);
	assert_string_equal(device.heard, "ring_set_kick 7 none");
	/* A refused one is closed, too. */
	device.fail = -EINVAL;
	assert_int_equal(send_ring_fd(VHOST_USER_SET_VRING_KICK, 0, 7), 1);
	expect_silence();
}

static void fds_that_do_not_belong_to_a_message_refuse_it(void **state)
{
	(void)state;
	m.fds[m.fd_count++] = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(send_u64(VHOST_USER_SET_FEATURES, NEED_REPLY, 0), 1);
	expect_u64(VHOST_USER_SET_FEATURES, 1);
	assert_int_equal(device.calls, 0);
	m.fds[m.fd_count++] = eventfd(0, EFD_CLOEXEC);
	m.fds[m.fd_count++] = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(send_u64(VHOST_USER_SET_VRING_CALL, NEED_REPLY, 0), 1);
	expect_u64(VHOST_USER_SET_VRING_CALL, 1);
}

/* --- the back-end channel ---------------------------------------------------- */

static int open_channel(void)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	m.fds[m.fd_count++] = pair[1];
	assert_int_equal(send_message(VHOST_USER_SET_BACKEND_REQ_FD, 0, 0), 1);
	return pair[0];
}

static bool has_news(int channel)
{
	struct vhost_user_header h;
	ssize_t n = recv(channel, &h, sizeof(h), MSG_DONTWAIT);

	if (n < 0)
		return false;
	assert_int_equal(n, sizeof(h));
	assert_int_equal(h.request, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG);
	assert_int_equal(h.flags, VHOST_USER_VERSION);
	assert_int_equal(h.size, 0);
	return true;
}

static void config_changes_are_told_while_a_ring_runs_and_kept_until_then(void **state)
{
	int channel;

	(void)state;
	negotiate(P(CONFIG) | P(BACKEND_REQ));
	vhost_user_server_config_changed(server); /* nobody to tell */
	channel = open_channel();
	vhost_user_server_config_changed(server);
	assert_false(has_news(channel));
	assert_int_equal(send_ring_fd(VHOST_USER_SET_VRING_KICK, 0, 0), 1);
	assert_true(has_news(channel));
	assert_int_equal(send_ring_fd(VHOST_USER_SET_VRING_KICK, 0, 1), 1);
	assert_false(has_news(channel));
	vhost_user_server_config_changed(server);
	assert_true(has_news(channel));
	/* Suspended again only when the last ring has stopped. */
	assert_int_equal(send_state(VHOST_USER_GET_VRING_BASE, 0, 0, 0), 1);
	vhost_user_server_config_changed(server);
	assert_true(has_news(channel));
	assert_int_equal(send_state(VHOST_USER_GET_VRING_BASE, 0, 1, 0), 1);
	vhost_user_server_config_changed(server);
	vhost_user_server_config_changed(server);
	assert_false(has_news(channel));
	assert_int_equal(send_ring_fd(VHOST_USER_SET_VRING_KICK, 0, 1), 1);
	assert_true(has_news(channel));
	assert_false(has_news(channel));
	close(channel);
}

/* Front-ends hear of news only while they have started the device, whatever the words are
 * that end this. */
static void config_changes_are_kept_however_the_last_ring_was_stopped(void **state)
{
	int channel;

	(void)state;
	negotiate(P(CONFIG) | P(BACKEND_REQ) | P(STATUS));
	channel = open_channel();
	for (int words = 0; words < 2; words++) {
		assert_int_equal(send_ring_fd(VHOST_USER_SET_VRING_KICK, 0, 0), 1);
		assert_false(has_news(channel));
		if (words)
			assert_int_equal(send_state(VHOST_USER_SET_VRING_NUM, 0, 0, 8), 1);
		else
			assert_int_equal(send_u64(VHOST_USER_SET_STATUS, 0, 0), 1);
		vhost_user_server_config_changed(server);
		assert_false(has_news(channel));
		assert_int_equal(send_ring_fd(VHOST_USER_SET_VRING_KICK, 0, 0), 1);
		assert_true(has_news(channel));
		assert_int_equal(send_state(VHOST_USER_GET_VRING_BASE, 0, 0, 0), 1);
	}
	close(channel);
}

static void config_changes_are_not_told_to_who_did_not_ask(void **state)
{
	int channel;

	(void)state;
	negotiate(P(BACKEND_REQ));
	channel = open_channel();
	assert_int_equal(send_ring_fd(VHOST_USER_SET_VRING_KICK, 0, 0), 1);
	vhost_user_server_config_changed(server);
	assert_false(has_news(channel));
	close(channel);
}

static void a_channel_that_nobody_reads_never_blocks(void **state)
{
	int channel;

	(void)state;
	negotiate(P(CONFIG) | P(BACKEND_REQ));
	channel = open_channel();
	assert_int_equal(send_ring_fd(VHOST_USER_SET_VRING_KICK, 0, 0), 1);
	for (unsigned int i = 0; i < 10000; i++)
		vhost_user_server_config_changed(server);
	assert_true(has_news(channel));
	close(channel);
	vhost_user_server_config_changed(server);
	vhost_user_server_config_changed(server);
	assert_int_equal(send_message(VHOST_USER_GET_FEATURES, 0, 0), 1);
}

/* --- a front-end that takes its time ------------------------------------------ */

static void a_message_in_pieces_is_kept_and_waited_for_by_nobody(void **state)
{
	const struct vhost_user_header question = { VHOST_USER_GET_FEATURES, VHOST_USER_VERSION,
						    0 };

	(void)state;
	for (size_t i = 0; i < sizeof(question); i++) {
		expect_silence();
		assert_int_equal(vhost_user_server_receive(server, &err), 1);
		assert_int_equal(vhost_user_server_events(server), POLLIN);
		wire_send_bytes(front, (const char *)&question + i, 1, NULL, 0);
	}
	assert_int_equal(vhost_user_server_receive(server, &err), 1);
	expect_u64(VHOST_USER_GET_FEATURES, BIT64(32) | BIT64(30));
}

/* The end closes what has come of it: teardown counts the fds. */
static void a_message_that_stays_half_leaves_no_fd_behind(void **state)
{
	const struct vhost_user_header half = { VHOST_USER_SET_VRING_KICK, VHOST_USER_VERSION, 8 };
	int fd = eventfd(0, EFD_CLOEXEC);

	(void)state;
	wire_send_bytes(front, &half, 5, &fd, 1);
	close(fd);
	assert_int_equal(vhost_user_server_receive(server, &err), 1);
}

static void an_answer_that_finds_no_room_is_kept_and_no_further_request_taken(void **state)
{
	static const struct vhost_user_header question = { VHOST_USER_GET_FEATURES,
							   VHOST_USER_VERSION, 0 };
	unsigned int asked = 0, answered = 0;

	(void)state;
	while (vhost_user_server_events(server) == POLLIN) {
		wire_send_bytes(front, &question, sizeof(question), NULL, 0);
		asked++;
		assert_int_equal(vhost_user_server_receive(server, &err), 1);
	}
	/* It has not been taken while an answer is owed. */
	wire_send_bytes(front, &question, sizeof(question), NULL, 0);
	asked++;
	assert_int_equal(vhost_user_server_receive(server, &err), 1);
	assert_int_equal(vhost_user_server_events(server), POLLOUT);
	while (answered < asked) {
		assert_int_equal(wire_receive(front, &m), 1);
		assert_int_equal(m.payload.u64, BIT64(32) | BIT64(30));
		answered++;
		assert_int_equal(vhost_user_server_receive(server, &err), 1);
	}
	expect_silence();
}

/* --- a hostile front-end ------------------------------------------------------ */

/* Mostly legal headers with wrong insides, so that the handlers are reached. */
static void make_hostile(void)
{
	static const uint16_t sizes[] = { 0, 4, 8, 12, 16, 24, 40, 72, 264, 268, 4096 };
	uint32_t flags = VHOST_USER_VERSION;

	if (below(2))
		flags |= VHOST_USER_NEED_REPLY;
	if (below(100) == 0)
		flags = below(32);
	m.header.request = below(VHOST_USER_REQUEST_END + 2);
	m.header.flags = flags;
	m.header.size =
		below(3) ? sizes[below(ARRAY_SIZE(sizes))] : below(VHOST_USER_PAYLOAD_MAX + 1);
	for (uint32_t i = 0; i < m.header.size && i < 512; i++)
		m.payload.bytes[i] = (uint8_t)(below(2) ? below(256) : 0);
	if (below(2))
		m.payload.u64 &= 0x1ff;
	for (uint32_t n = below(2) ? below(10) : below(2); n--;)
		m.fds[m.fd_count++] =
			below(2) ? memory_file(below(3) * 4096) : eventfd(0, EFD_CLOEXEC);
}

static void no_message_leaks_an_fd_or_ends_the_process(void **state)
{
	unsigned int connections = 0, told_off = 0;

	(void)state;
	random_begin_anew();
	for (unsigned int i = 0; i < HOSTILE_MESSAGES; i++) {
		uint8_t reply[sizeof(m.payload) + 12];

		make_hostile();
		device.fail = below(4) ? 0 : -EINVAL;
		assert_int_equal(wire_send(front, &m), 0);
		wire_close_fds(&m);
		if (vhost_user_server_receive(server, &err) == 1) {
			while (recv(front, reply, sizeof(reply), MSG_DONTWAIT) > 0)
				told_off++;
			continue;
		}
		assert_true(err.text[0] != '\0');
		disconnect_pair();
		assert_int_equal(connect_pair(), 0);
		connections++;
		if (below(2)) {
			device.fail = 0;
			negotiate(P(MQ) | P(CONFIG) | P(CONFIGURE_MEM_SLOTS) | P(STATUS) |
				  P(BACKEND_REQ) | P(RARP) | P(MTU) | P(RESET_DEVICE));
		}
	}
	print_message("%u connections, %u replies, %u calls of the device\n", connections, told_off,
		      device.calls);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(features_come_with_bit_30_whatever_the_back_end_has),
		T(protocol_features_are_what_can_be_relayed_and_reply_ack),
		T(a_protocol_feature_that_was_not_offered_is_not_taken),
		T(a_question_is_answered_once_with_and_without_need_reply),
		T(a_question_that_cannot_be_answered_ends_the_connection),
		T(refused_config_is_an_empty_payload),
		T(settings_reach_the_device_and_stay_silent),
		T(need_reply_is_acknowledged_with_success_or_failure),
		T(a_device_that_cannot_take_a_setting_loses_its_connection),
		T(a_ring_does_not_start_with_what_was_left_of_an_earlier_setting),
		T(a_ring_that_is_to_be_logged_is_refused),
		T(a_base_that_is_no_index_is_refused_and_the_ring_does_not_start),
		T(an_unknown_request_is_refused_or_ends_the_connection),
		T(what_is_not_offered_is_refused_in_the_words_of_its_reply),
		T(a_frame_that_cannot_be_trusted_ends_the_connection),
		T(the_front_end_may_leave),
		T(a_memory_table_is_mapped_and_handed_over),
		T(one_region_is_mapped_and_handed_over),
		T(a_memory_table_with_one_bad_region_leaves_nothing_behind),
		T(ring_fds_are_handed_over_or_absent),
		T(fds_that_do_not_belong_to_a_message_refuse_it),
		T(config_changes_are_told_while_a_ring_runs_and_kept_until_then),
		T(config_changes_are_kept_however_the_last_ring_was_stopped),
		T(config_changes_are_not_told_to_who_did_not_ask),
		T(a_channel_that_nobody_reads_never_blocks),
		T(a_message_in_pieces_is_kept_and_waited_for_by_nobody),
		T(a_message_that_stays_half_leaves_no_fd_behind),
		T(an_answer_that_finds_no_room_is_kept_and_no_further_request_taken),
		T(no_message_leaks_an_fd_or_ends_the_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
