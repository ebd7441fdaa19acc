/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The vhost-user client against a back-end that does as it is told, well or
 * badly, on a thread of its own.  Each test also counts fds.
 */
#ifndef UMBRA_TESTS_VHOST_CLIENT_RIG_H
#define UMBRA_TESTS_VHOST_CLIENT_RIG_H

#include "base/bits.h"
#include "base/error.h"
#include "positions.h"
#include "vhost_user/protocol.h"
#include "vhost_user/vhost_user_client.h"
#include "vhost_wire.h"

#define P(name) BIT64(VHOST_USER_PROTOCOL_F_##name)
#define PLAIN (P(REPLY_ACK) | P(MQ) | P(CONFIG) | P(CONFIGURE_MEM_SLOTS) | P(STATUS))
#define BIT30 BIT64(30)
#define SOON_MS 2000 /* for waits that must run out, after some that must not */
#define LONG_MS 600000
#define HOSTILE_ROUNDS 1000u

struct script;
/* Take over the answer to m: 1 done, 0 answer as usual, -1 close. */
typedef int hook(struct script *s, struct wire_message *m);

struct script {
	uint64_t features, protocol;
	hook *hook;
	uint32_t hook_request; /* 0: every one */
	/* What was heard. */
	uint64_t accepted;
	unsigned int count;
	uint32_t requests[256], flags[256], fd_counts[256];
	struct wire_message last_table, last_addr;
	int channel;
	uint64_t negotiated;
	int fd;
};

extern struct umbra_error err;
extern struct script script;
extern struct virtio_device *b;
extern int stop_fd;
void reply(struct script *s, const struct wire_message *to, uint32_t size);
void answer(struct script *s, struct wire_message *m);
void connect_with_timeout(unsigned int timeout_ms);
void disconnect(void);
int setup(void **state);
int teardown(void **state);
void negotiate(uint64_t features);
void connect_and_negotiate(void);
/* Of the back-end's own channel; -1: there is none. */
int channel_fd(void);
/* Ask something that is answered: the connection lives. */
void assert_alive(void);
/* Nothing works any more, and the text still says why. */
void assert_lost(const char *why);
void expect_heard(const uint32_t *expected, unsigned int count);
int give_up(void *opaque, const char *message, unsigned int waited_ms, struct umbra_error *why);

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
