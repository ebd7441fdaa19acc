/* SPDX-License-Identifier: BSD-2-Clause */
/* The channel on which a back-end asks the vhost-user client something. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "vhost_client_rig.h"

/* --- the back-end's channel ------------------------------------------------------------ */

static unsigned int config_changes;

static void count_change(void *opaque)
{
	assert_ptr_equal(opaque, &config_changes);
	config_changes++;
}

static void send_on_channel(int fd, uint32_t request, uint32_t flags, uint32_t size)
{
	struct wire_message m = { .header = { request, VHOST_USER_VERSION | flags, size } };

	assert_int_equal(wire_send(fd, &m), 0);
}

/* The answer on the channel first, then the reply. */
static int ask_back(struct script *s, struct wire_message *m)
{
	struct wire_message a;

	(void)m;
	send_on_channel(s->channel, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, VHOST_USER_NEED_REPLY, 0);
	if (wire_receive(s->channel, &a) != 1 || a.header.request != 2 || a.header.flags != 5 ||
	    a.header.size != 8 || a.payload.u64 != 0)
		return -1;
	return 0;
}

static void connect_with_channel(unsigned int timeout_ms)
{
	script.protocol |= P(BACKEND_REQ) | P(BACKEND_SEND_FD);
	connect_with_timeout(timeout_ms);
	config_changes = 0;
	b->ops->listen(b, &(struct backend_listener){ .opaque = &config_changes,
						      .config_changed = count_change });
	negotiate(0);
	assert_true(channel_fd() >= 0);
}

static void a_back_end_that_asks_back_before_it_replies_is_answered(void **state)
{
	uint64_t count;

	(void)state;
	script.hook = ask_back;
	script.hook_request = VHOST_USER_GET_QUEUE_NUM;
	connect_with_channel(LONG_MS);
	assert_int_equal(b->ops->get_queue_num(b, &count, &err), 0);
	assert_int_equal(config_changes, 1);
}

static void messages_of_the_channel_are_dispatched_or_refused(void **state)
{
	struct wire_message a;

	(void)state;
	connect_with_channel(LONG_MS);
	send_on_channel(script.channel, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, 0, 0);
	assert_int_equal(vhost_user_client_channel_dispatch(b, &err), 1);
	assert_int_equal(config_changes, 1);
	/* Not negotiated; unknown; malformed: refused, and the channel lives. */
	send_on_channel(script.channel, VHOST_USER_BACKEND_VRING_CALL, VHOST_USER_NEED_REPLY, 8);
	assert_int_equal(vhost_user_client_channel_dispatch(b, &err), 1);
	assert_int_equal(wire_receive(script.channel, &a), 1);
	assert_int_equal(a.payload.u64, 1);
	send_on_channel(script.channel, 77, VHOST_USER_NEED_REPLY, 8);
	assert_int_equal(vhost_user_client_channel_dispatch(b, &err), 1);
	assert_int_equal(wire_receive(script.channel, &a), 1);
	assert_int_equal(a.header.request, 77);
	assert_int_equal(a.payload.u64, 1);
	send_on_channel(script.channel, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, 0, 8);
	assert_int_equal(vhost_user_client_channel_dispatch(b, &err), 1);
	send_on_channel(script.channel, VHOST_USER_BACKEND_SHARED_OBJECT_LOOKUP, 0, 16);
	assert_int_equal(vhost_user_client_channel_dispatch(b, &err), 1);
	assert_int_equal(wire_receive(script.channel, &a), 1);
	assert_int_equal(a.payload.u64, 1);
	assert_int_equal(config_changes, 1);
	assert_alive();
}

static void the_end_of_the_channel_is_not_the_end_of_the_connection(void **state)
{
	(void)state;
	connect_with_channel(LONG_MS);
	send_on_channel(script.channel, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, 2, 0);
	assert_int_equal(vhost_user_client_channel_dispatch(b, &err), -EBADMSG);
	assert_int_equal(vhost_user_client_channel_dispatch(b, &err), 0);
	assert_alive();
	disconnect();
	connect_with_channel(LONG_MS);
	shutdown(script.channel, SHUT_RDWR);
	assert_alive(); /* served while it waits */
	assert_int_equal(vhost_user_client_channel_dispatch(b, &err), 0);
	assert_alive();
}

static int flood(struct script *s, struct wire_message *m)
{
	struct wire_message change = { .header = { VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, 1, 0 } };

	(void)m;
	while (wire_send(s->channel, &change) == 0)
		;
	return 1;
}

static void a_flood_on_the_channel_does_not_move_the_deadline(void **state)
{
	uint64_t count;

	(void)state;
	script.hook = flood;
	script.hook_request = VHOST_USER_GET_QUEUE_NUM;
	connect_with_channel(SOON_MS);
	assert_int_equal(b->ops->get_queue_num(b, &count, &err), -ETIMEDOUT);
	/* The flood ends when the channel does. */
	shutdown(channel_fd(), SHUT_RDWR);
	assert_true(config_changes > 0);
}

static void a_flood_on_the_channel_does_not_keep_the_owner_from_giving_up(void **state)
{
	uint64_t count;

	(void)state;
	script.hook = flood;
	script.hook_request = VHOST_USER_GET_QUEUE_NUM;
	connect_with_channel(LONG_MS);
	b->ops->listen(b, &(struct backend_listener){ .opaque = &config_changes,
						      .config_changed = count_change,
						      .waiting = give_up });
	assert_int_equal(b->ops->get_queue_num(b, &count, &err), -ECANCELED);
	shutdown(channel_fd(), SHUT_RDWR);
	assert_true(config_changes > 0);
}

/* A message of the channel in two pieces, and the reply in between. */
static int reply_between_halves(struct script *s, struct wire_message *m)
{
	const struct vhost_user_header change = { VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, 1, 0 };

	(void)m;
	wire_send_bytes(s->channel, &change, 5, NULL, 0);
	return 0;
}

static void half_a_message_on_the_channel_holds_nobody_up(void **state)
{
	const struct vhost_user_header change = { VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, 1, 0 };
	uint64_t count;

	(void)state;
	script.hook = reply_between_halves;
	script.hook_request = VHOST_USER_GET_QUEUE_NUM;
	connect_with_channel(LONG_MS);
	assert_int_equal(b->ops->get_queue_num(b, &count, &err), 0);
	while (vhost_user_client_channel_dispatch(b, &err) == 1 && config_changes == 0) {
		wire_send_bytes(script.channel, (const char *)&change + 5, 7, NULL, 0);
		assert_int_equal(vhost_user_client_channel_dispatch(b, &err), 1);
	}
	assert_int_equal(config_changes, 1);
}

static void answers_that_are_not_read_cost_the_channel(void **state)
{
	struct wire_message question = { .header = { 99, 1 | VHOST_USER_NEED_REPLY, 0 } };
	uint64_t count;
	int rc = 1;

	(void)state;
	connect_with_channel(LONG_MS);
	log_set_level(LOG_ERROR);
	while (rc == 1) {
		assert_int_equal(wire_send(script.channel, &question), 0);
		rc = vhost_user_client_channel_dispatch(b, &err);
	}
	assert_non_null(strstr(err.text, "leaves answers unread"));
	assert_int_equal(b->ops->get_queue_num(b, &count, &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_back_end_that_asks_back_before_it_replies_is_answered),
		T(messages_of_the_channel_are_dispatched_or_refused),
		T(the_end_of_the_channel_is_not_the_end_of_the_connection),
		T(a_flood_on_the_channel_does_not_move_the_deadline),
		T(a_flood_on_the_channel_does_not_keep_the_owner_from_giving_up),
		T(half_a_message_on_the_channel_holds_nobody_up),
		T(answers_that_are_not_read_cost_the_channel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
