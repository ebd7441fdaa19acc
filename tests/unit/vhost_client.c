/* SPDX-License-Identifier: BSD-2-Clause */
/* The vhost-user client: what it sends, and what it makes of the answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "host/mapping.h"
#include "random.h"
#include "vhost_client_rig.h"

/* --- what is sent -------------------------------------------------------------- */

static const struct virtio_ring example_ring = {
	.size = 256,
	.base = { RING_SPLIT, 65535, 65535 },
	.addr = { .desc = { 0x1000 }, .avail = { 0x2000 }, .used = { 0x3000 } },
	.kick_fd = 0,
	.call_fd = 1,
	.err_fd = -1,
	.enabled = true,
};

static void a_ring_is_programmed_in_order_and_each_step_acknowledged(void **state)
{
	static const uint32_t order[] = {
		VHOST_USER_SET_VRING_NUM,    VHOST_USER_SET_VRING_ADDR, VHOST_USER_SET_VRING_BASE,
		VHOST_USER_SET_VRING_CALL,   VHOST_USER_SET_VRING_ERR,  VHOST_USER_SET_VRING_KICK,
		VHOST_USER_SET_VRING_ENABLE, VHOST_USER_GET_FEATURES,
	};

	(void)state;
	connect_and_negotiate();
	script.count = 0;
	assert_int_equal(b->ops->ring_start(b, 3, &example_ring, &err), 0);
	expect_heard(order, ARRAY_SIZE(order));
	for (unsigned int i = 0; i < 7; i++)
		assert_int_equal(script.flags[i], 9);
	assert_int_equal(script.fd_counts[3], 1);
	assert_int_equal(script.fd_counts[4], 0);
	assert_int_equal(script.fd_counts[5], 1);
	assert_int_equal(script.last_addr.payload.addr.index, 3);
	assert_int_equal(script.last_addr.payload.addr.desc_user_addr, 0x1000);
	assert_int_equal(script.last_addr.payload.addr.avail_user_addr, 0x2000);
	assert_int_equal(script.last_addr.payload.addr.used_user_addr, 0x3000);
	assert_int_equal(script.last_addr.payload.addr.flags, 0);
	assert_int_equal(fcntl(0, F_GETFD) == -1, 0); /* borrowed, not closed */
}

static void a_back_end_without_protocol_features_is_asked_for_none(void **state)
{
	static const uint32_t order[] = {
		VHOST_USER_SET_VRING_NUM,  VHOST_USER_SET_VRING_ADDR, VHOST_USER_SET_VRING_BASE,
		VHOST_USER_SET_VRING_CALL, VHOST_USER_SET_VRING_ERR,  VHOST_USER_SET_VRING_KICK,
		VHOST_USER_GET_FEATURES,
	};
	uint64_t value;
	uint8_t status;

	(void)state;
	script.features = BIT64(32);
	connect_and_negotiate();
	for (unsigned int i = 0; i < script.count; i++)
		assert_int_not_equal(script.requests[i], VHOST_USER_GET_PROTOCOL_FEATURES);
	script.count = 0;
	assert_int_equal(b->ops->ring_start(b, 0, &example_ring, &err), 0);
	expect_heard(order, ARRAY_SIZE(order));
	for (unsigned int i = 0; i < 6; i++)
		assert_int_equal(script.flags[i], 1);
	assert_int_equal(b->ops->get_queue_num(b, &value, &err), -EOPNOTSUPP);
	assert_int_equal(b->ops->get_memory_slots(b, &value, &err), -EOPNOTSUPP);
	assert_int_equal(b->ops->get_status(b, &status, &err), -EOPNOTSUPP);
	assert_int_equal(b->ops->reset(b, &err), -EOPNOTSUPP);
	assert_int_equal(b->ops->ring_enable(b, 0, false, &err), -EOPNOTSUPP);
	assert_alive();
}

static void only_what_can_be_relayed_is_offered_and_what_we_need_is_added(void **state)
{
	uint64_t protocol, passed = P(MQ) | P(RARP) | P(MTU) | P(BACKEND_REQ) | P(CONFIG) |
				    P(BACKEND_SEND_FD) | P(RESET_DEVICE) | P(CONFIGURE_MEM_SLOTS) |
				    P(STATUS);

	(void)state;
	script.protocol = UINT64_MAX;
	connect_with_timeout(LONG_MS);
	assert_int_equal(b->ops->get_protocol_features(b, &protocol, &err), 0);
	assert_int_equal(protocol, passed);
	assert_int_equal(b->ops->set_protocol_features(b, P(LOG_SHMFD), &err), -EINVAL);
	assert_int_equal(b->ops->set_protocol_features(b, P(MQ), &err), 0);
	assert_int_equal(script.negotiated, P(MQ) | P(REPLY_ACK) | P(CONFIGURE_MEM_SLOTS));
	assert_int_equal(channel_fd(), -1);
}

static void memory_goes_out_with_its_files_and_offsets(void **state)
{
	struct memory_region regions[10];

	(void)state;
	connect_and_negotiate();
	for (unsigned int i = 0; i < ARRAY_SIZE(regions); i++) {
		assert_int_equal(mapping_create_own(4096, &regions[i], &err), 0);
		regions[i].gpa.v = (i + 1) * 0x10000;
		regions[i].uva.v = (i + 1) * 0x100000;
		regions[i].backing->fd_offset = i;
	}
	script.count = 0;
	assert_int_equal(b->ops->set_memory(b, regions, 10, &err), 0);
	assert_int_equal(script.last_table.payload.table.count, 8);
	assert_int_equal(script.fd_counts[0], 8);
	assert_int_equal(script.last_table.payload.table.regions[7].guest_addr, 0x80000);
	assert_int_equal(script.last_table.payload.table.regions[7].user_addr, 0x800000);
	assert_int_equal(script.last_table.payload.table.regions[7].size, 4096);
	assert_int_equal(script.last_table.payload.table.regions[7].mmap_offset, 7);
	assert_int_equal(script.requests[2], VHOST_USER_ADD_MEM_REG);
	assert_int_equal(script.fd_counts[2], 1);
	assert_int_equal(b->ops->remove_region(b, &regions[9], &err), 0);
	assert_int_equal(b->ops->set_memory(b, NULL, 0, &err), 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(regions); i++)
		memory_backing_unref(regions[i].backing);
	/* No file, no way. */
	regions[0].backing = NULL;
	assert_int_equal(b->ops->set_memory(b, regions, 1, &err), -EINVAL);
	assert_alive();
}

static void config_is_read_from_its_start_and_the_part_handed_out(void **state)
{
	uint8_t data[8] = { 0 };

	(void)state;
	connect_and_negotiate();
	assert_int_equal(b->ops->get_config(b, 20, data, 4, &err), 0);
	assert_memory_equal(data, "\x14\x15\x16\x17", 4);
	assert_int_equal(b->ops->get_config(b, 0, data, 0, &err), -EINVAL);
	assert_int_equal(b->ops->get_config(b, UINT32_MAX, data, 8, &err), -EINVAL);
	assert_int_equal(b->ops->get_config(b, 250, data, 8, &err), -EINVAL);
	assert_int_equal(b->ops->set_config(b, 250, data, 6, 0, &err), 0);
	assert_alive();
}

/* The next request comes without waiting for the answer to this one. */
static int look_ahead(struct script *s, struct wire_message *m)
{
	struct pollfd wait = { .fd = s->fd, .events = POLLIN };
	struct vhost_user_header next;

	(void)m;
	if (poll(&wait, 1, LONG_MS) != 1 ||
	    recv(s->fd, &next, sizeof(next), MSG_PEEK | MSG_DONTWAIT) != sizeof(next) ||
	    next.request != VHOST_USER_SET_VRING_CALL)
		return -1;
	return 0;
}

static void a_stopped_ring_gets_a_call_fd_in_the_same_breath(void **state)
{
	uint16_t base = 0;

	(void)state;
	script.hook = look_ahead;
	script.hook_request = VHOST_USER_GET_VRING_BASE;
	script.protocol |= P(HOST_NOTIFIER); /* libvhost-user: vhost_user_family.h */
	connect_and_negotiate();
	script.count = 0;
	for (unsigned int i = 0; i < 20; i++) {
		assert_int_equal(ring_stop_at(b, 5, &base, &err), 0);
		assert_int_equal(base, 1234);
	}
	assert_alive();
	assert_int_equal(script.fd_counts[1], 1);
}

static void others_hear_of_a_stopped_ring_no_more(void **state)
{
	static const uint32_t order[] = { VHOST_USER_GET_VRING_BASE, VHOST_USER_GET_FEATURES };
	uint16_t base = 0;

	(void)state;
	connect_and_negotiate();
	script.count = 0;
	assert_int_equal(ring_stop_at(b, 5, &base, &err), 0);
	assert_alive();
	expect_heard(order, ARRAY_SIZE(order));
}

/* The back-ends of the rust-vmm crates end at a question without its feature. */
static void what_is_needed_here_is_negotiated_whatever_the_front_end_takes(void **state)
{
	uint64_t value = 0, features;

	(void)state;
	/* a front-end with a few protocol features and without MQ: UML, Firecracker */
	connect_with_timeout(LONG_MS);
	assert_int_equal(b->ops->get_features(b, &features, &err), 0);
	assert_int_equal(b->ops->set_protocol_features(b, P(CONFIG), &err), 0);
	assert_int_equal(script.negotiated,
			 P(CONFIG) | P(MQ) | P(REPLY_ACK) | P(CONFIGURE_MEM_SLOTS));
	assert_int_equal(b->ops->set_features(b, BIT64(32) | BIT30, &err), 0);
	assert_int_equal(b->ops->get_queue_num(b, &value, &err), 0);
	disconnect();

	/* one that knows nothing of them */
	script.negotiated = script.accepted = 0;
	connect_with_timeout(LONG_MS);
	assert_int_equal(b->ops->set_features(b, BIT64(32), &err), 0);
	assert_int_equal(b->ops->get_queue_num(b, &value, &err), 0);
	assert_int_equal(value, 16);
	assert_int_equal(script.accepted, BIT64(32) | BIT30);
	assert_int_equal(script.negotiated, P(MQ) | P(REPLY_ACK) | P(CONFIGURE_MEM_SLOTS));
	assert_int_equal(b->ops->ring_enable(b, 0, true, &err), 0);
	disconnect();

	/* and a back-end without MQ is not asked */
	script.protocol = P(REPLY_ACK);
	script.count = 0;
	connect_with_timeout(LONG_MS);
	assert_int_equal(b->ops->get_queue_num(b, &value, &err), -EOPNOTSUPP);
	for (unsigned int i = 0; i < script.count; i++)
		assert_int_not_equal(script.requests[i], VHOST_USER_GET_QUEUE_NUM);
}

/* --- a back-end that refuses ------------------------------------------------------ */

static int refuse(struct script *s, struct wire_message *m)
{
	m->payload.u64 = 22;
	reply(s, m, 8);
	return 1;
}

static void a_refused_ring_is_stopped_named_and_the_connection_lives(void **state)
{
	(void)state;
	script.hook = refuse;
	script.hook_request = VHOST_USER_SET_VRING_ADDR;
	connect_and_negotiate();
	script.count = 0;
	assert_int_equal(b->ops->ring_start(b, 2, &example_ring, &err), -EREMOTEIO);
	assert_string_equal(err.text, "queue 2: back-end: refused SET_VRING_ADDR (answer 22)");
	assert_alive();
	assert_int_equal(script.requests[8], VHOST_USER_GET_VRING_BASE);
}

static int close_it(struct script *s, struct wire_message *m)
{
	(void)s;
	(void)m;
	return -1;
}

static int acknowledge_and_close(struct script *s, struct wire_message *m)
{
	answer(s, m);
	return -1;
}

static void a_success_that_is_followed_by_the_end_is_no_success(void **state)
{
	(void)state;
	script.hook = acknowledge_and_close;
	script.hook_request = VHOST_USER_SET_VRING_ENABLE;
	connect_and_negotiate();
	assert_int_equal(b->ops->ring_start(b, 0, &example_ring, &err), -ECONNRESET);
	assert_lost("back-end: ");
}

static void a_closed_connection_is_a_reset(void **state)
{
	uint64_t count;

	(void)state;
	script.hook = close_it;
	script.hook_request = VHOST_USER_GET_QUEUE_NUM;
	connect_and_negotiate();
	assert_int_equal(b->ops->get_queue_num(b, &count, &err), -ECONNRESET);
	assert_lost("GET_QUEUE_NUM: back-end: closed the connection");
}

/* --- a back-end that lies ----------------------------------------------------------- */

static struct vhost_user_header lie;
static unsigned int lie_fds;

static int tell_lie(struct script *s, struct wire_message *m)
{
	struct wire_message r = *m;

	r.header = lie;
	r.fd_count = 0;
	while (r.fd_count < lie_fds)
		r.fds[r.fd_count++] = 1;
	(void)wire_send(s->fd, &r);
	return 1;
}

static void a_reply_that_is_not_the_one_asked_for_ends_the_connection(void **state)
{
	static const struct {
		struct vhost_user_header header;
		unsigned int fds;
		const char *why;
	} lies[] = {
		{ { 1, 5, 8 }, 0, "the reply to GET_QUEUE_NUM is marked GET_FEATURES (1)" },
		{ { 17, 1, 8 }, 0, "the reply to GET_QUEUE_NUM has flags 0x1; expected 0x5" },
		{ { 17, 7, 8 }, 0, "has flags 0x7; expected 0x5" },
		{ { 17, 0x15, 8 }, 0, "has flags 0x15; expected 0x5" },
		{ { 17, 5, 4 }, 0, "has 4 bytes of payload; expected 8" },
		{ { 17, 5, 0 }, 0, "has 0 bytes of payload; expected 8" },
		{ { 17, 5, 4096 }, 0, "has 4096 bytes of payload; expected 8" },
		{ { 17, 5, 8 }, 1, "1 file descriptors came with the reply to GET_QUEUE_NUM" },
		{ { 17, 5, 8 }, 9, "lost" },
		{ { 17, 5, 8 }, 32, "lost" },
	};
	uint64_t count;

	for (unsigned int i = 0; i < ARRAY_SIZE(lies); i++) {
		script.hook = tell_lie;
		script.hook_request = VHOST_USER_GET_QUEUE_NUM;
		lie = lies[i].header;
		lie_fds = lies[i].fds;
		connect_and_negotiate();
		assert_int_equal(b->ops->get_queue_num(b, &count, &err), -ECONNRESET);
		assert_lost(lies[i].why);
		if (i + 1 < ARRAY_SIZE(lies)) {
			assert_int_equal(teardown(state), 0);
			setup(state);
		}
	}
}

static int half_a_config(struct script *s, struct wire_message *m)
{
	reply(s, m, m->header.size - 1);
	return 1;
}

static void a_config_reply_must_have_the_size_that_was_asked_for(void **state)
{
	uint8_t data[8];

	(void)state;
	script.hook = half_a_config;
	script.hook_request = VHOST_USER_GET_CONFIG;
	connect_and_negotiate();
	assert_int_equal(b->ops->get_config(b, 0, data, 8, &err), -ECONNRESET);
	assert_lost("the reply to GET_CONFIG has 19 bytes of payload and says 8 of config space; "
		    "expected 20 and 8");
}

static int no_config(struct script *s, struct wire_message *m)
{
	reply(s, m, 0);
	return 1;
}

static void an_empty_config_reply_is_a_refusal(void **state)
{
	uint8_t data[8];

	(void)state;
	script.hook = no_config;
	script.hook_request = VHOST_USER_GET_CONFIG;
	connect_and_negotiate();
	assert_int_equal(b->ops->get_config(b, 0, data, 8, &err), -EREMOTEIO);
	assert_alive();
}

static int other_ring(struct script *s, struct wire_message *m)
{
	m->payload.state.index++;
	reply(s, m, 8);
	return 1;
}

static int wide_base(struct script *s, struct wire_message *m)
{
	m->payload.state.num = 0x10000;
	reply(s, m, 8);
	return 1;
}

static void a_ring_base_is_of_that_ring_and_has_16_bits(void **state)
{
	uint16_t base = 0;

	connect_and_negotiate();
	assert_int_equal(ring_stop_at(b, 5, &base, &err), 0);
	assert_int_equal(base, 1234);
	assert_int_equal(teardown(state), 0);
	setup(state);
	script.hook = other_ring;
	script.hook_request = VHOST_USER_GET_VRING_BASE;
	connect_and_negotiate();
	assert_int_equal(ring_stop_at(b, 5, &base, &err), -ECONNRESET);
	assert_lost("queue 6, index 0; expected queue 5");
	assert_int_equal(teardown(state), 0);
	setup(state);
	script.hook = wide_base;
	script.hook_request = VHOST_USER_GET_VRING_BASE;
	connect_and_negotiate();
	assert_int_equal(ring_stop_at(b, 5, &base, &err), -ECONNRESET);
	assert_lost("index 65536");
}

static void bytes_that_nobody_asked_for_end_the_connection(void **state)
{
	struct pollfd wait;

	(void)state;
	connect_and_negotiate();
	assert_int_equal(vhost_user_client_check(b, &err), 0);
	assert_int_equal(write(script.fd, "x", 1), 1);
	wait = (struct pollfd){ .fd = vhost_user_client_fd(b), .events = POLLIN };
	assert_int_equal(poll(&wait, 1, LONG_MS), 1);
	assert_int_equal(vhost_user_client_check(b, &err), -ECONNRESET);
	assert_lost("sent bytes although nothing was asked");
}

/* --- time --------------------------------------------------------------------------- */

static int say_nothing(struct script *s, struct wire_message *m)
{
	(void)s;
	(void)m;
	return 1;
}

static void a_silent_back_end_runs_out_of_time(void **state)
{
	uint64_t count;

	(void)state;
	script.hook = say_nothing;
	script.hook_request = VHOST_USER_GET_QUEUE_NUM;
	connect_with_timeout(SOON_MS);
	negotiate(0);
	assert_int_equal(b->ops->get_queue_num(b, &count, &err), -ETIMEDOUT);
	assert_lost("GET_QUEUE_NUM: back-end: no complete message within the time limit");
}

static int stop_instead(struct script *s, struct wire_message *m)
{
	(void)s;
	(void)m;
	eventfd_write(stop_fd, 1);
	return 1;
}

static void the_stop_ends_a_wait(void **state)
{
	uint64_t count;

	(void)state;
	script.hook = stop_instead;
	script.hook_request = VHOST_USER_GET_QUEUE_NUM;
	connect_and_negotiate();
	assert_int_equal(b->ops->get_queue_num(b, &count, &err), -ECANCELED);
	assert_lost("the process is asked to stop");
}

static int patience_fd;
static unsigned int asked_ms;

/* Signals when the clock of SOON_MS would long have run out. */
static int wait_on(void *opaque, const char *message, unsigned int waited_ms,
		   struct umbra_error *why)
{
	(void)why;
	assert_ptr_equal(opaque, &patience_fd);
	assert_string_equal(message, "GET_QUEUE_NUM");
	assert_true(waited_ms > asked_ms);
	asked_ms = waited_ms;
	if (waited_ms > SOON_MS)
		eventfd_write(patience_fd, 1);
	return 0;
}

static int wait_for_patience(struct script *s, struct wire_message *m)
{
	eventfd_t value;

	(void)s;
	(void)m;
	return eventfd_read(patience_fd, &value);
}

static void an_owner_with_patience_gets_the_late_answer(void **state)
{
	uint64_t count = 0;

	(void)state;
	script.hook = wait_for_patience;
	script.hook_request = VHOST_USER_GET_QUEUE_NUM;
	patience_fd = eventfd(0, EFD_CLOEXEC);
	asked_ms = 0;
	connect_with_timeout(SOON_MS);
	negotiate(0);
	b->ops->listen(b, &(struct backend_listener){ .opaque = &patience_fd, .waiting = wait_on });
	assert_int_equal(b->ops->get_queue_num(b, &count, &err), 0);
	assert_int_equal(count, 16);
	assert_true(asked_ms > SOON_MS);
	close(patience_fd);
}

static void an_owner_that_gives_up_loses_the_connection(void **state)
{
	uint64_t count;

	(void)state;
	script.hook = say_nothing;
	script.hook_request = VHOST_USER_GET_QUEUE_NUM;
	connect_and_negotiate();
	b->ops->listen(b, &(struct backend_listener){ .waiting = give_up });
	assert_int_equal(b->ops->get_queue_num(b, &count, &err), -ECANCELED);
	assert_lost("GET_QUEUE_NUM: nobody waits for GET_QUEUE_NUM");
}

static void an_owner_who_is_called_away_finds_the_answer_later(void **state)
{
	struct pollfd answered;
	eventfd_t calls;
	uint64_t count;
	int called = eventfd(1, EFD_CLOEXEC);
	unsigned int heard;

	(void)state;
	script.hook = wait_for_patience;
	script.hook_request = VHOST_USER_GET_QUEUE_NUM;
	patience_fd = eventfd(0, EFD_CLOEXEC);
	connect_and_negotiate();
	heard = script.count;
	b->ops->listen(b, &(struct backend_listener){ .beside = { called }, .beside_count = 1 });
	assert_int_equal(b->ops->get_queue_num(b, &count, &err), -EINPROGRESS);
	assert_non_null(strstr(err.text, "has not answered GET_QUEUE_NUM yet"));
	assert_true(b->ops->owes(b));
	assert_int_equal(vhost_user_client_check(b, &err), 0);
	assert_true(b->ops->owes(b));
	/* Nothing else is said before it is answered. */
	assert_int_equal(b->ops->get_queue_num(b, &count, &err), -EINPROGRESS);
	eventfd_write(patience_fd, 1);
	answered = (struct pollfd){ .fd = vhost_user_client_fd(b), .events = POLLIN };
	assert_int_equal(poll(&answered, 1, LONG_MS), 1);
	assert_int_equal(vhost_user_client_check(b, &err), 0);
	assert_false(b->ops->owes(b));
	assert_int_equal(script.count, heard + 1);
	eventfd_read(called, &calls);
	eventfd_write(patience_fd, 1);
	assert_int_equal(b->ops->get_queue_num(b, &count, &err), 0);
	assert_int_equal(count, 16);
	assert_int_equal(script.count, heard + 2);
	/* An answer that is owed when all ends is nobody's loss. */
	eventfd_write(called, 1);
	assert_int_equal(b->ops->get_queue_num(b, &count, &err), -EINPROGRESS);
	eventfd_write(patience_fd, 1);
	assert_int_equal(poll(&answered, 1, LONG_MS), 1);
	close(called);
	close(patience_fd);
}

/* --- connecting --------------------------------------------------------------------------- */

static void connecting_says_what_is_wrong_with_the_path(void **state)
{
	char path[200];
	struct virtio_device *other;

	(void)state;
	connect_and_negotiate();
	memset(path, 'x', sizeof(path));
	path[199] = '\0';
	assert_int_equal(vhost_user_client_connect(path, -1, LONG_MS, &other, &err), -ENAMETOOLONG);
	assert_int_equal(vhost_user_client_connect("", -1, LONG_MS, &other, &err), -ENAMETOOLONG);
	assert_int_equal(
		vhost_user_client_connect("/nonexistent/socket", -1, LONG_MS, &other, &err),
		-ENOENT);
	assert_string_equal(err.text, "back-end: cannot connect to /nonexistent/socket: No such "
				      "file or directory");
}

static void a_full_backlog_is_said_and_not_waited_for(void **state)
{
	char directory[] = "/tmp/umbra-test-XXXXXX", path[64];
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct virtio_device *queued, *other;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	connect_and_negotiate();
	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/s", directory);
	strcpy(address.sun_path, path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 0), 0);
	assert_int_equal(vhost_user_client_connect(path, -1, LONG_MS, &queued, &err), 0);
	assert_int_equal(vhost_user_client_connect(path, -1, LONG_MS, &other, &err), -EAGAIN);
	queued->ops->destroy(queued);
	close(fd);
	unlink(path);
	rmdir(directory);
}

/* --- a hostile back-end ---------------------------------------------------------------------- */

/* A reply that is nearly right, with random insides, fds and cuts. */
static int misbehave(struct script *s, struct wire_message *m)
{
	uint8_t bytes[sizeof(*m)];
	struct wire_message r = *m;
	size_t size;

	if (below(6))
		return 0;
	r.header.flags = below(8) ? 5 : below(16);
	r.header.size = below(4) ? 8 : below(300);
	if (below(8) == 0)
		r.header.request = below(50);
	for (unsigned int i = 0; i < 40; i++)
		r.payload.bytes[i] = (uint8_t)below(256);
	r.fd_count = 0;
	if (below(8) == 0)
		for (unsigned int n = below(12); n--;)
			r.fds[r.fd_count++] = 1;
	size = wire_encode(bytes, &r);
	if (below(8) == 0) {
		(void)wire_send_bytes(s->fd, bytes, 1 + below((uint32_t)size), r.fds, r.fd_count);
		return -1;
	}
	(void)wire_send_bytes(s->fd, bytes, size, r.fds, r.fd_count);
	return below(4) ? 1 : -1;
}

static void no_reply_leaks_an_fd_or_ends_the_process(void **state)
{
	unsigned int failed = 0;

	random_begin_anew();
	for (unsigned int i = 0; i < HOSTILE_ROUNDS; i++) {
		uint64_t value;
		uint16_t base;
		uint8_t data[16], status;
		int rc;

		connect_and_negotiate();
		script.hook = misbehave;
		rc = b->ops->get_queue_num(b, &value, &err) ||
		     b->ops->get_config(b, 0, data, 16, &err) ||
		     b->ops->get_status(b, &status, &err) ||
		     b->ops->ring_start(b, 1, &example_ring, &err) ||
		     ring_stop_at(b, 1, &base, &err);
		failed += rc != 0;
		if (i + 1 < HOSTILE_ROUNDS) {
			assert_int_equal(teardown(state), 0);
			setup(state);
		}
	}
	print_message("%u of %u rounds failed\n", failed, HOSTILE_ROUNDS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_ring_is_programmed_in_order_and_each_step_acknowledged),
		T(a_back_end_without_protocol_features_is_asked_for_none),
		T(only_what_can_be_relayed_is_offered_and_what_we_need_is_added),
		T(memory_goes_out_with_its_files_and_offsets),
		T(config_is_read_from_its_start_and_the_part_handed_out),
		T(a_refused_ring_is_stopped_named_and_the_connection_lives),
		T(a_success_that_is_followed_by_the_end_is_no_success),
		T(a_closed_connection_is_a_reset),
		T(a_reply_that_is_not_the_one_asked_for_ends_the_connection),
		T(a_config_reply_must_have_the_size_that_was_asked_for),
		T(an_empty_config_reply_is_a_refusal),
		T(a_ring_base_is_of_that_ring_and_has_16_bits),
		T(bytes_that_nobody_asked_for_end_the_connection),
		T(a_silent_back_end_runs_out_of_time),
		T(the_stop_ends_a_wait),
		T(an_owner_with_patience_gets_the_late_answer),
		T(an_owner_that_gives_up_loses_the_connection),
		T(an_owner_who_is_called_away_finds_the_answer_later),
		T(a_stopped_ring_gets_a_call_fd_in_the_same_breath),
		T(others_hear_of_a_stopped_ring_no_more),
		T(what_is_needed_here_is_negotiated_whatever_the_front_end_takes),
		T(connecting_says_what_is_wrong_with_the_path),
		T(a_full_backlog_is_said_and_not_waited_for),
		T(no_reply_leaks_an_fd_or_ends_the_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
