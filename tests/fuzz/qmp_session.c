/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fuzzing the QMP socket's sessions: any bytes in, QMP out.
 *
 * The input is what a client sends, except for the byte 0xfe, which stands in
 * no JSON text: there the simulated device completes its switches and the main
 * loop takes its mail.  The first byte says in what pieces the bytes arrive
 * and whether switches succeed.
 *
 * Promises: each line that is sent is one ASCII JSON object of QMP and ends in
 * CRLF; a call sends at most one; a session that takes no bytes says why; when
 * all is over, a session that is not over still answers.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/bits.h"
#include "cli/qmp_session.h"
#include "cli/qmp_shadow.h"
#include "fuzz.h"
#include "simulated_device.h"

#define MAIN_LOOP 0xfe

struct harness {
	struct umbra_shadow_device *device;
	struct mailbox *mailbox;
	struct qmp_shadow shadow;
	struct qmp_target target;
	struct qmp_session *session;
	unsigned int lines; /* sent since the last look */
};

static void on_send(void *opaque, const char *text, size_t len)
{
	struct harness *harness = opaque;
	json_t *message;
	size_t i;

	harness->lines++;
	require(len > 2 && text[len - 2] == '\r' && text[len - 1] == '\n');
	for (i = 0; i < len - 2; i++)
		require(text[i] >= 0x20 && text[i] <= 0x7f);
	message = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	require(json_is_object(message));
	require(json_object_get(message, "QMP") || json_object_get(message, "return") ||
		json_is_string(json_object_get(json_object_get(message, "error"), "desc")));
	json_decref(message);
}

static void on_ready(void *opaque)
{
	(void)opaque;
}

static const struct qmp_session_ops ops = { .send = on_send, .ready = on_ready };

static void main_loop(struct harness *harness)
{
	simulated_device_step(harness->device);
	mailbox_deliver(harness->mailbox);
	require(!qmp_session_is_waiting(harness->session));
}

/* Feed until all is taken or the session takes no more. */
static void feed(struct harness *harness, const char *bytes, size_t len)
{
	size_t taken;

	while (len) {
		harness->lines = 0;
		taken = qmp_session_feed(harness->session, bytes, len);
		require(taken <= len);
		require(harness->lines <= 1);
		if (!taken && qmp_session_is_waiting(harness->session)) {
			main_loop(harness);
			continue;
		}
		if (!taken) {
			require(qmp_session_is_over(harness->session));
			return;
		}
		bytes += taken;
		len -= taken;
	}
}

static void feed_pieces(struct harness *harness, const char *bytes, size_t len, size_t piece)
{
	size_t n;

	for (; len; bytes += n, len -= n) {
		n = MIN(piece, len);
		if ((unsigned char)bytes[0] == MAIN_LOOP) {
			n = 1;
			main_loop(harness);
			continue;
		}
		if (memchr(bytes, MAIN_LOOP, n))
			n = (size_t)((const char *)memchr(bytes, MAIN_LOOP, n) - bytes);
		feed(harness, bytes, n);
	}
}

static void check_alive(struct harness *harness)
{
	static const char ping[] = "\xff{\"execute\":\"query-vhost\"}";

	main_loop(harness);
	if (qmp_session_is_over(harness->session))
		return;
	feed(harness, ping, sizeof(ping) - 1);
	require(harness->lines == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct umbra_shadow_config config = { UMBRA_SIZED(umbra_shadow_config),
						    .backend = "unix:/nowhere", .socket_fd = -1 };
	static struct harness harness;

	if (!size)
		return 0;
	memset(&harness, 0, sizeof(harness));
	memset(&simulated_plan, 0, sizeof(simulated_plan));
	simulated_plan.refuse = data[0] & 0x80 ? -ETIMEDOUT : 0;
	simulated_plan.text = data[0] & 0x40 ? "no \xff utf-8" : NULL;
	simulated_plan.reason = simulated_plan.text;
	require(!umbra_shadow_device_create(&config, &harness.device, NULL));
	require(!mailbox_create(&harness.mailbox, NULL));
	harness.shadow = (struct qmp_shadow){
		.device = harness.device,
		.backend = config.backend,
	};
	harness.target = (struct qmp_target){
		.name = "u0",
		.commands = qmp_shadow_commands,
		.command_count = qmp_shadow_command_count,
		.subject = &harness.shadow,
		.mailbox = harness.mailbox,
		.quit = on_ready,
	};
	require(!qmp_session_create(&harness.target, &ops, &harness, &harness.session, NULL));
	feed_pieces(&harness, (const char *)data + 1, size - 1, 1u + (data[0] & 0x3f));
	check_alive(&harness);
	qmp_session_destroy(&harness.session);
	umbra_shadow_device_destroy(&harness.device);
	mailbox_destroy(&harness.mailbox);
	return 0;
}
