/* SPDX-License-Identifier: BSD-2-Clause */
/* The vhost-user client and a back-end that is told what to do: see vhost_client_rig.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "open_fds.h"
#include "vhost_client_rig.h"

static unsigned int fds_before;
struct umbra_error err;
struct script script;
static pthread_t thread;
struct virtio_device *b;
int stop_fd;

/* --- the back-end ------------------------------------------------------------ */

void reply(struct script *s, const struct wire_message *to, uint32_t size)
{
	struct wire_message r = *to;

	r.header.flags = VHOST_USER_VERSION | VHOST_USER_REPLY;
	r.header.size = size;
	r.fd_count = 0;
	(void)wire_send(s->fd, &r);
}

void answer(struct script *s, struct wire_message *m)
{
	switch (m->header.request) {
	case VHOST_USER_GET_FEATURES:
		m->payload.u64 = s->features;
		reply(s, m, 8);
		return;
	case VHOST_USER_GET_PROTOCOL_FEATURES:
		m->payload.u64 = s->protocol;
		reply(s, m, 8);
		return;
	case VHOST_USER_SET_FEATURES:
		s->accepted = m->payload.u64;
		break;
	case VHOST_USER_SET_PROTOCOL_FEATURES:
		s->negotiated = m->payload.u64;
		break;
	case VHOST_USER_GET_QUEUE_NUM:
	case VHOST_USER_GET_MAX_MEM_SLOTS:
	case VHOST_USER_GET_STATUS:
		m->payload.u64 = 16;
		reply(s, m, 8);
		return;
	case VHOST_USER_GET_VRING_BASE:
		m->payload.state.num = 1234;
		reply(s, m, 8);
		return;
	case VHOST_USER_GET_CONFIG:
		for (uint32_t i = 0; i < m->payload.config.size; i++)
			m->payload.config.data[i] = (uint8_t)i;
		reply(s, m, m->header.size);
		return;
	case VHOST_USER_SET_MEM_TABLE:
		s->last_table = *m;
		break;
	case VHOST_USER_SET_VRING_ADDR:
		s->last_addr = *m;
		break;
	case VHOST_USER_SET_BACKEND_REQ_FD:
		s->channel = dup(m->fds[0]);
		break;
	default:
		break;
	}
	if (m->header.flags & VHOST_USER_NEED_REPLY) {
		m->payload.u64 = 0;
		reply(s, m, 8);
	}
}

static void *backend_thread(void *arg)
{
	struct script *s = arg;
	struct wire_message m;

	memset(&m, 0, sizeof(m)); /* lies send more of it than came */
	while (wire_receive(s->fd, &m) == 1) {
		int rc = 0;

		if (s->count < ARRAY_SIZE(s->requests)) {
			s->requests[s->count] = m.header.request;
			s->flags[s->count] = m.header.flags;
			s->fd_counts[s->count++] = m.fd_count;
		}
		if (s->hook && (!s->hook_request || s->hook_request == m.header.request))
			rc = s->hook(s, &m);
		if (rc == 0)
			answer(s, &m);
		wire_close_fds(&m);
		if (rc < 0)
			break;
	}
	shutdown(s->fd, SHUT_RDWR);
	return NULL;
}

/* --- a client ------------------------------------------------------------------ */

void connect_with_timeout(unsigned int timeout_ms)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	script.fd = pair[0];
	assert_int_equal(pthread_create(&thread, NULL, backend_thread, &script), 0);
	assert_int_equal(vhost_user_client_attach(&pair[1], stop_fd, timeout_ms, &b, &err), 0);
	assert_int_equal(pair[1], -1);
}

void disconnect(void)
{
	b->ops->destroy(b);
	pthread_join(thread, NULL);
	close(script.fd);
	if (script.channel >= 0)
		close(script.channel);
	script.channel = -1;
}

int setup(void **state)
{
	(void)state;
	fds_before = open_fds();
	log_set_level(LOG_ERROR);
	memset(&err, 0, sizeof(err));
	memset(&script, 0, sizeof(script));
	script.features = BIT64(32) | BIT30;
	script.protocol = PLAIN;
	script.channel = -1;
	stop_fd = eventfd(0, EFD_CLOEXEC);
	return 0;
}

int teardown(void **state)
{
	(void)state;
	disconnect();
	close(stop_fd);
	return fds_before == open_fds() ? 0 : -1;
}

void negotiate(uint64_t features)
{
	uint64_t protocol;

	assert_int_equal(b->ops->get_features(b, &features, &err), 0);
	assert_int_equal(b->ops->get_protocol_features(b, &protocol, &err), 0);
	assert_int_equal(b->ops->set_protocol_features(b, protocol, &err), 0);
	assert_int_equal(b->ops->set_features(b, features, &err), 0);
}

void connect_and_negotiate(void)
{
	connect_with_timeout(LONG_MS);
	negotiate(0);
}

void assert_alive(void)
{
	uint64_t features = 0;

	assert_int_equal(b->ops->get_features(b, &features, &err), 0);
	assert_int_equal(features, script.features);
}

int channel_fd(void)
{
	int fds[BACKEND_FDS_MAX];

	assert_int_equal(b->ops->fds(b, fds), 2);
	return fds[1];
}

void assert_lost(const char *why)
{
	uint64_t value;
	uint16_t base;

	assert_non_null(strstr(err.text, why));
	assert_int_equal(b->ops->get_queue_num(b, &value, &err), -ECONNRESET);
	assert_non_null(strstr(err.text, why));
	assert_int_equal(ring_stop_at(b, 0, &base, &err), -ECONNRESET);
	assert_int_equal(vhost_user_client_check(b, &err), -ECONNRESET);
}

void expect_heard(const uint32_t *expected, unsigned int count)
{
	assert_int_equal(script.count, count);
	for (unsigned int i = 0; i < count; i++)
		assert_int_equal(script.requests[i], expected[i]);
}

int give_up(void *opaque, const char *message, unsigned int waited_ms, struct umbra_error *why)
{
	(void)opaque;
	return waited_ms >= 200 ? error_set(why, -ECANCELED, "nobody waits for %s", message) : 0;
}
