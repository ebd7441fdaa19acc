/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Promises of cli/qmp_session.h and of the commands, with a simulated device
 * and without a socket.  The texts follow the examples of QEMU's
 * docs/interop/qmp-spec.rst, byte for byte where it gives bytes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>

#include "base/bits.h"
#include "cli/json_values.h"
#include "cli/qmp_report.h"
#include "cli/qmp_session.h"
#include "cli/qmp_shadow.h"
#include "simulated_device.h"

struct bench {
	struct umbra_shadow_device *device;
	struct mailbox *mailbox;
	struct qmp_shadow shadow;
	struct qmp_target target;
	struct qmp_session *session;
	char sent[65536];
	size_t used;
	int quits, readies;
};

static void on_send(void *opaque, const char *text, size_t len)
{
	struct bench *bench = opaque;

	assert_true(len >= 2 && !memcmp(text + len - 2, "\r\n", 2));
	assert_true(bench->used + len < sizeof(bench->sent));
	memcpy(bench->sent + bench->used, text, len);
	bench->used += len;
	bench->sent[bench->used] = 0;
}

static void on_ready(void *opaque)
{
	((struct bench *)opaque)->readies++;
}

static void on_quit(void *opaque)
{
	((struct bench *)opaque)->quits++;
}

static const struct qmp_session_ops ops = { .send = on_send, .ready = on_ready };

static int setup(void **state)
{
	const struct umbra_shadow_config config = { UMBRA_SIZED(umbra_shadow_config),
						    .backend = "unix:/nowhere/at all",
						    .socket_fd = -1 };
	struct bench *bench = calloc(1, sizeof(*bench));

	memset(&simulated_plan, 0, sizeof(simulated_plan));
	if (!bench || umbra_shadow_device_create(&config, &bench->device, NULL) ||
	    mailbox_create(&bench->mailbox, NULL))
		return -1;
	bench->shadow = (struct qmp_shadow){
		.device = bench->device,
		.backend = config.backend,
	};
	bench->target = (struct qmp_target){
		.name = "u0",
		.commands = qmp_shadow_commands,
		.command_count = qmp_shadow_command_count,
		.subject = &bench->shadow,
		.mailbox = bench->mailbox,
		.quit = on_quit,
		.opaque = bench,
	};
	*state = bench;
	return qmp_session_create(&bench->target, &ops, bench, &bench->session, NULL);
}

static int teardown(void **state)
{
	struct bench *bench = *state;

	qmp_session_destroy(&bench->session);
	umbra_shadow_device_destroy(&bench->device);
	mailbox_destroy(&bench->mailbox);
	free(bench);
	return 0;
}

static void feed(struct bench *bench, const char *text)
{
	size_t len = strlen(text), taken = 1;

	while (len && taken) {
		taken = qmp_session_feed(bench->session, text, len);
		text += taken;
		len -= taken;
	}
	assert_int_equal(len, 0);
}

/* What has been sent since the last look. */
static const char *sent(struct bench *bench)
{
	if (!bench->used)
		return "";
	bench->used = 0;
	return bench->sent;
}

#define EXCHANGE(text, expected)                                                                   \
	do {                                                                                       \
		feed(bench, text);                                                                 \
		assert_string_equal(sent(bench), expected);                                        \
	} while (0)

#define ERROR(error_class, desc)                                                                   \
	"{\"error\": {\"class\": \"" error_class "\", \"desc\": \"" desc "\"}}\r\n"

static void negotiate(struct bench *bench)
{
	sent(bench);
	EXCHANGE("{ \"execute\": \"qmp_capabilities\" }", "{\"return\": {}}\r\n");
}

static void a_session_begins_with_the_greeting(void **state)
{
	struct bench *bench = *state;
	int major = 0, minor = 0, micro = 0;
	char expected[256];

	assert_true(sscanf(UMBRA_VERSION, "%d.%d.%d", &major, &minor, &micro) >= 2);
	snprintf(expected, sizeof(expected),
		 "{\"QMP\": {\"version\": {\"qemu\": {\"major\": %d, \"minor\": %d, \"micro\": "
		 "%d}, \"package\": \"umbra " UMBRA_VERSION "\"}, \"capabilities\": []}}\r\n",
		 major, minor, micro);
	assert_string_equal(sent(bench), expected);
}

static void nothing_works_before_the_negotiation(void **state)
{
	struct bench *bench = *state;

	sent(bench);
	EXCHANGE("{\"execute\":\"query-status\"}",
		 ERROR("CommandNotFound", "expected qmp_capabilities before any other command, "
					  "got 'query-status'"));
	EXCHANGE("{\"execute\":\"quit\"}",
		 ERROR("CommandNotFound",
		       "expected qmp_capabilities before any other command, got 'quit'"));
	assert_int_equal(bench->quits, 0);
	assert_false(qmp_session_wants_events(bench->session));
	negotiate(bench);
	assert_true(qmp_session_wants_events(bench->session));
}

static void the_negotiation_happens_once(void **state)
{
	struct bench *bench = *state;

	sent(bench);
	EXCHANGE("{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[\"oob\"]}}",
		 ERROR("GenericError", "argument 'enable': the greeting offered no capabilities, "
				       "expected an empty list"));
	EXCHANGE("{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[]}}",
		 "{\"return\": {}}\r\n");
	EXCHANGE("{\"execute\":\"qmp_capabilities\"}",
		 ERROR("CommandNotFound", "capabilities negotiation is already complete"));
}

static void an_id_of_any_kind_comes_back(void **state)
{
	static const char *const ids[] = { "1",          "-7",      "\"example\"",     "null",
					   "true",       "[1, {}]", "{\"a\": [null]}", "1.5",
					   "\"\\u00e4\"" };
	struct bench *bench = *state;
	char text[128], expected[128];
	size_t i;

	negotiate(bench);
	for (i = 0; i < ARRAY_SIZE(ids); i++) {
		snprintf(text, sizeof(text), "{\"execute\":\"quit\",\"id\":%s}", ids[i]);
		snprintf(expected, sizeof(expected), "{\"return\": {}, \"id\": %s}\r\n", ids[i]);
		EXCHANGE(text, i == 8 ? "{\"return\": {}, \"id\": \"\\u00E4\"}\r\n" : expected);
	}
	EXCHANGE("{\"id\":[2],\"execute\":\"nothing\"}",
		 "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"there is no command "
		 "'nothing': query-commands lists them\"}, \"id\": [2]}\r\n");
	EXCHANGE("{\"id\":3}", "{\"error\": {\"class\": \"GenericError\", \"desc\": \"member "
			       "'execute' is missing: it names the command\"}, \"id\": 3}\r\n");
}

static void a_message_of_the_wrong_shape_is_refused(void **state)
{
	static const struct {
		const char *text, *desc;
	} cases[] = {
		{ "[]", "a QMP message must be a JSON object" },
		{ "\"x\"", "a QMP message must be a JSON object" },
		{ "{}", "member 'execute' is missing: it names the command" },
		{ "{\"execute\":1}", "member 'execute' must be a string" },
		{ "{\"execute\":null}", "member 'execute' must be a string" },
		{ "{\"execute\":\"quit\",\"arguments\":[]}",
		  "member 'arguments' must be an object" },
		{ "{\"execute\":\"quit\",\"x\":1}",
		  "member 'x' is unexpected: a command has 'execute', 'arguments' and 'id'" },
		{ "{\"exec-oob\":\"quit\"}",
		  "member 'exec-oob' is unexpected: out-of-band execution is not offered" },
	};
	struct bench *bench = *state;
	char expected[256];
	size_t i;

	negotiate(bench);
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		snprintf(expected, sizeof(expected), ERROR("GenericError", "%s"), cases[i].desc);
		EXCHANGE(cases[i].text, expected);
	}
	assert_int_equal(bench->quits, 0);
}

static void what_is_not_json_is_one_error_and_the_next_command_works(void **state)
{
	static const char *const broken[] = {
		"{ \"execute\": }",
		"{\"a\":1,}",
		"{\"a\" 1}",
		"{\"a\":1,\"a\":2}",
		"{\"\xc3\x28\":1}",
		"{\"\xed\xa0\x80\":1}",
		"{\"\\u0000\":1}",
		"{\"\\ud800\":1}",
		"{\"a\":123456789012345678901234567890}",
		"{\"a\":1e999}",
		"{\"a\":tru}",
		"{\"a\":01}",
		"\xff",
		"{\"a\":\xff",
		"} ",
		"nonsense ",
	};
	struct bench *bench = *state;
	const char *answer;
	size_t i;

	negotiate(bench);
	for (i = 0; i < ARRAY_SIZE(broken); i++) {
		feed(bench, broken[i]);
		answer = sent(bench);
		assert_ptr_equal(
			strstr(answer,
			       "{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON"),
			answer);
		assert_ptr_equal(strchr(answer, '\n'), answer + strlen(answer) - 1);
		EXCHANGE("{\"execute\":\"quit\"}", "{\"return\": {}}\r\n");
	}
}

static void arguments_of_the_wrong_name_or_type_are_named(void **state)
{
	static const struct {
		const char *command, *arguments, *desc;
	} cases[] = {
		{ "query-status", "{\"x\":1}",
		  "argument 'x' is unexpected: query-status does not have it" },
		{ "x-vhost-enable-shadow-vq", "{}",
		  "argument 'name' is missing: x-vhost-enable-shadow-vq expects a string" },
		{ "x-vhost-enable-shadow-vq", "{\"name\":\"u0\"}",
		  "argument 'enable' is missing: x-vhost-enable-shadow-vq expects true or false" },
		{ "x-vhost-enable-shadow-vq", "{\"name\":\"u0\",\"enable\":1}",
		  "argument 'enable' is an integer, expected true or false" },
		{ "x-vhost-enable-shadow-vq", "{\"name\":null,\"enable\":true}",
		  "argument 'name' is null, expected a string" },
		{ "x-vhost-enable-shadow-vq", "{\"name\":\"u0\",\"enable\":true,\"y\":0}",
		  "argument 'y' is unexpected: x-vhost-enable-shadow-vq does not have it" },
	};
	struct bench *bench = *state;
	char text[256], expected[256];
	size_t i;

	negotiate(bench);
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		snprintf(text, sizeof(text), "{\"execute\":\"%s\",\"arguments\":%s}",
			 cases[i].command, cases[i].arguments);
		snprintf(expected, sizeof(expected), ERROR("GenericError", "%s"), cases[i].desc);
		EXCHANGE(text, expected);
	}
	assert_false(qmp_session_is_waiting(bench->session));
	/* Without the member at all, too. */
	EXCHANGE("{\"execute\":\"x-vhost-enable-shadow-vq\"}",
		 ERROR("GenericError",
		       "argument 'name' is missing: x-vhost-enable-shadow-vq expects a string"));
}

static void several_commands_in_one_packet_are_answered_in_order(void **state)
{
	struct bench *bench = *state;

	negotiate(bench);
	EXCHANGE("{\"execute\":\"quit\",\"id\":1}{\"execute\":\"quit\",\"id\":2} nonsense "
		 "{'execute':'quit','id':3}",
		 "{\"return\": {}, \"id\": 1}\r\n{\"return\": {}, \"id\": 2}\r\n" ERROR(
			 "GenericError",
			 "JSON parse error, unexpected 'n': a QMP message is a JSON "
			 "object") "{\"return\": {}, \"id\": 3}\r\n");
	assert_int_equal(bench->quits, 3);
}

#define ENABLE "{\"execute\":\"x-vhost-enable-shadow-vq\",\"id\":9,\"arguments\":"
#define ENABLE_U0 ENABLE "{\"name\":\"u0\",\"enable\":true}}"

static void a_switch_is_answered_when_it_is_complete(void **state)
{
	static const char next[] = "{\"execute\":\"quit\"}";
	struct bench *bench = *state;

	negotiate(bench);
	EXCHANGE(ENABLE_U0, "");
	assert_true(qmp_session_is_waiting(bench->session));
	/* In-band commands are answered in order: the next one is not taken. */
	assert_int_equal(qmp_session_feed(bench->session, next, sizeof(next) - 1), 0);
	simulated_device_step(bench->device);
	assert_string_equal(sent(bench), ""); /* done, but not yet in the main loop */
	mailbox_deliver(bench->mailbox);
	assert_string_equal(sent(bench), "{\"return\": {}, \"id\": 9}\r\n");
	assert_int_equal(bench->readies, 1);
	assert_false(qmp_session_is_waiting(bench->session));
	EXCHANGE(next, "{\"return\": {}}\r\n");
}

static void a_switch_that_fails_says_why(void **state)
{
	struct bench *bench = *state;

	negotiate(bench);
	simulated_plan.refuse = -ETIMEDOUT;
	simulated_plan.text = "queue 0: 3 chains unfinished after 5000 ms";
	EXCHANGE(ENABLE_U0, "");
	simulated_device_step(bench->device);
	mailbox_deliver(bench->mailbox);
	assert_string_equal(sent(bench),
			    "{\"error\": {\"class\": \"GenericError\", \"desc\": \"queue 0: 3 "
			    "chains unfinished after 5000 ms\"}, \"id\": 9}\r\n");
	/* Without a text from the device there is still one. */
	simulated_plan.text = NULL;
	EXCHANGE(ENABLE_U0, "");
	simulated_device_step(bench->device);
	mailbox_deliver(bench->mailbox);
	assert_string_equal(sent(bench),
			    "{\"error\": {\"class\": \"GenericError\", \"desc\": \"the switch "
			    "failed: Connection timed out\"}, \"id\": 9}\r\n");
	simulated_plan.switch_returns = -ECANCELED;
	EXCHANGE(ENABLE_U0, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"device 'u0': "
			    "the switch was refused: Operation canceled\"}, \"id\": 9}\r\n");
}

#define LOAD(data) "{\"execute\":\"x-load-control-state\",\"arguments\":{\"data\":" data "}}"
#define SAVE "{\"execute\":\"x-save-control-state\"}"

static void what_was_said_on_the_control_queue_is_saved_and_loaded(void **state)
{
	struct bench *bench = *state;

	negotiate(bench);
	EXCHANGE(SAVE, "");
	mailbox_deliver(bench->mailbox);
	assert_string_equal(sent(bench), ERROR("GenericError", "simulated: nothing was loaded"));
	EXCHANGE(LOAD("\"00fF7a80\""), "");
	mailbox_deliver(bench->mailbox);
	assert_string_equal(sent(bench), "{\"return\": {}}\r\n");
	EXCHANGE(SAVE, "");
	mailbox_deliver(bench->mailbox);
	assert_string_equal(sent(bench), "{\"return\": {\"data\": \"00ff7a80\"}}\r\n");
	EXCHANGE(LOAD("\"00fg\""),
		 ERROR("GenericError", "argument 'data': character 4 is not a hexadecimal digit"));
	EXCHANGE(LOAD("\"00f\""),
		 ERROR("GenericError", "argument 'data' has 3 characters, expected two "
				       "hexadecimal digits for each byte"));
	simulated_plan.switch_returns = -ECANCELED;
	EXCHANGE(LOAD("\"00\""), ERROR("GenericError", "device 'u0': Operation canceled"));
	EXCHANGE(SAVE, ERROR("GenericError", "device 'u0': Operation canceled"));
	simulated_plan.switch_returns = 0;
	/* A client that has left: its answer is freed all the same. */
	EXCHANGE(SAVE, "");
}

static void a_wrong_device_name_is_of_its_own_class(void **state)
{
	struct bench *bench = *state;

	negotiate(bench);
	EXCHANGE(ENABLE "{\"name\":\"u1\",\"enable\":true}}",
		 "{\"error\": {\"class\": \"DeviceNotFound\", \"desc\": \"argument 'name': there "
		 "is no device 'u1', expected 'u0'\"}, \"id\": 9}\r\n");
	assert_false(qmp_session_is_waiting(bench->session));
}

static void a_client_may_leave_in_the_middle_of_a_switch(void **state)
{
	struct bench *bench = *state;

	negotiate(bench);
	EXCHANGE(ENABLE_U0, "");
	qmp_session_destroy(&bench->session);
	simulated_device_step(bench->device);
	mailbox_deliver(bench->mailbox);
	assert_string_equal(sent(bench), "");
	assert_int_equal(bench->readies, 0);
}

static void a_switch_that_outlives_the_device_is_still_answered(void **state)
{
	struct bench *bench = *state;

	negotiate(bench);
	EXCHANGE(ENABLE_U0, "");
	umbra_shadow_device_destroy(&bench->device);
	mailbox_deliver(bench->mailbox);
	assert_string_equal(sent(bench),
			    "{\"error\": {\"class\": \"GenericError\", \"desc\": \"simulated: the "
			    "device was destroyed\"}, \"id\": 9}\r\n");
}

static void the_status_has_what_the_manual_says(void **state)
{
	struct bench *bench = *state;

	negotiate(bench);
	EXCHANGE("{\"execute\":\"query-status\"}",
		 "{\"return\": {\"name\": \"u0\", \"state\": \"waiting\", \"shadow\": \"auto\", "
		 "\"shadowed\": false, \"shadow-wanted\": false, "
		 "\"backend\": \"vhost-vdpa\"}}\r\n");
	simulated_plan.reason = "the back-end closed the connection";
	EXCHANGE("{\"execute\":\"query-status\"}",
		 "{\"return\": {\"name\": \"u0\", \"state\": \"waiting\", \"shadow\": \"auto\", "
		 "\"shadowed\": false, \"shadow-wanted\": false, \"backend\": \"vhost-vdpa\", "
		 "\"reason\": \"the back-end closed "
		 "the connection\"}}\r\n");
}

static void queues_have_what_the_manual_says(void **state)
{
	struct bench *bench = *state;
	json_t *answer, *expected;

	negotiate(bench);
	feed(bench, "{\"execute\":\"query-vhost\"}");
	answer = json_loads(sent(bench), 0, NULL);
	expected = json_loads(
		"{\"return\": {"
		"\"backend\": {\"kind\": \"vhost-vdpa\", \"address\": \"/nowhere/at all\","
		" \"stop\": \"with a simulated bang\", \"device-id\": 2,"
		" \"device-type\": \"block\", \"queues-max\": 3, \"queue-size-max\": 256,"
		" \"abilities\": {\"bits\": \"0x17e\", \"names\": ["
		"  \"VHOST_BACKEND_F_IOTLB_MSG_V2\", \"VHOST_BACKEND_F_IOTLB_BATCH\","
		"  \"VHOST_BACKEND_F_IOTLB_ASID\", \"VHOST_BACKEND_F_SUSPEND\","
		"  \"VHOST_BACKEND_F_RESUME\", \"VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK\","
		"  \"VHOST_BACKEND_F_IOTLB_PERSIST\"]},"
		" \"iova-range\": {\"first\": \"0x1000\", \"last\": \"0xffffffffffffffff\"},"
		" \"mapped\": {\"ranges\": 4, \"bytes\": 8589934592, \"translated\": true},"
		" \"features\": {\"bits\": \"0x171001646\", \"names\": ["
		"  \"VIRTIO_BLK_F_SIZE_MAX\", \"VIRTIO_BLK_F_SEG_MAX\","
		"  \"VIRTIO_BLK_F_BLK_SIZE\", \"VIRTIO_BLK_F_FLUSH\","
		"  \"VIRTIO_BLK_F_TOPOLOGY\", \"VIRTIO_BLK_F_MQ\","
		"  \"VIRTIO_F_NOTIFY_ON_EMPTY\", \"VIRTIO_RING_F_INDIRECT_DESC\","
		"  \"VIRTIO_RING_F_EVENT_IDX\", \"VHOST_USER_F_PROTOCOL_FEATURES\","
		"  \"VIRTIO_F_VERSION_1\"]},"
		" \"protocol-features\": {\"bits\": \"0x20b\", \"names\": ["
		"  \"VHOST_USER_PROTOCOL_F_MQ\", \"VHOST_USER_PROTOCOL_F_LOG_SHMFD\","
		"  \"VHOST_USER_PROTOCOL_F_REPLY_ACK\", \"VHOST_USER_PROTOCOL_F_CONFIG\"]}},"
		"\"features\": {\"guest\": {\"bits\": \"0x130000040\", \"names\": ["
		"  \"VIRTIO_BLK_F_BLK_SIZE\","
		"  \"VIRTIO_RING_F_INDIRECT_DESC\", \"VIRTIO_RING_F_EVENT_IDX\","
		"  \"VIRTIO_F_VERSION_1\"]},"
		" \"dropped\": \"VIRTIO_F_RING_PACKED: simulated\"},"
		"\"memory\": {\"bytes\": 4294967296, \"regions\": 2, \"shadow-bytes\": 0,"
		" \"shadow-regions\": 0},"
		"\"queues\": [{\"index\": 0, \"size\": 256, \"started\": true, \"enabled\": true,"
		"  \"mode\": \"passthrough\", \"last-avail-idx\": 65535, \"last-used-idx\": 65534,"
		"  \"in-flight\": 1, \"requests\": 1000001, \"bytes-out\": 1000002,"
		"  \"bytes-in\": 9223372036854775807, \"kicks-in\": 1000004,"
		"  \"kicks-out\": 1000005, \"kicks\": 1000004, \"calls-in\": 1000006,"
		"  \"calls-out\": 1000007, \"calls\": 1000007, \"clamped\": 1000008,"
		"  \"returned\": 0, \"lost\": 0, \"table-longest\": 0},"
		" {\"index\": 2, \"size\": 8, \"started\": false, \"enabled\": false,"
		"  \"mode\": \"stopped\", \"last-avail-idx\": 0, \"last-used-idx\": 0,"
		"  \"in-flight\": 0, \"requests\": 0, \"bytes-out\": 0, \"bytes-in\": 0,"
		"  \"kicks-in\": 0, \"kicks-out\": 0, \"kicks\": 0, \"calls-in\": 0,"
		"  \"calls-out\": 0, \"calls\": 0, \"clamped\": 0,"
		"  \"returned\": 0, \"lost\": 0, \"table-longest\": 0}],"
		"\"survives-death\": false, \"death-reason\": \"it is simulated\","
		"\"switches\": {\"count\": 0, \"failed\": 0, \"last-pause-us\": 120,"
		"  \"longest-pause-us\": 340}, \"frontends\": 7,"
		"\"control\": {\"waiting\": false, \"mac\": \"02:00:00:ab:cd:ef\","
		" \"rx\": {\"promisc\": true, \"allmulti\": false, \"alluni\": true,"
		"  \"nomulti\": true, \"nouni\": true},"
		" \"unicast\": 31, \"multicast\": 32, \"vlans\": 33, \"queue-pairs\": 34,"
		" \"rss\": {\"entries\": 128, \"hash-types\": \"0x3f\"},"
		" \"hash-types\": \"0x1ff\", \"offloads\": \"0xff00000000000082\","
		" \"coalesce\": {\"rx\": {\"max-packets\": 35, \"max-us\": 36},"
		"  \"tx\": {\"max-packets\": 37, \"max-us\": 38}},"
		" \"accepted\": 39, \"refused\": 40, \"failed\": 41, \"replayed\": 42}}}",
		0, NULL);
	assert_non_null(expected);
	assert_true(json_equal(answer, expected));
	json_decref(answer);
	json_decref(expected);
}

static void bytes_that_are_no_utf8_do_not_spoil_an_answer(void **state)
{
	struct bench *bench = *state;

	negotiate(bench);
	simulated_plan.reason = "a\xff\xc3\xa4\xe2\x82z\xed\xa0\x80";
	EXCHANGE("{\"execute\":\"query-status\"}",
		 "{\"return\": {\"name\": \"u0\", \"state\": \"waiting\", \"shadow\": \"auto\", "
		 "\"shadowed\": false, \"shadow-wanted\": false, \"backend\": \"vhost-vdpa\", "
		 "\"reason\": \"a?\\u00E4??z???\"}}"
		 "\r\n");
}

static void every_command_is_listed(void **state)
{
	struct bench *bench = *state;

	negotiate(bench);
	EXCHANGE(
		"{\"execute\":\"query-commands\"}",
		"{\"return\": [{\"name\": \"qmp_capabilities\"}, {\"name\": \"query-commands\"}, "
		"{\"name\": \"query-version\"}, {\"name\": \"quit\"}, {\"name\": "
		"\"query-status\"}, {\"name\": \"query-vhost\"}, {\"name\": "
		"\"x-vhost-enable-shadow-vq\"}, {\"name\": \"hold\"}, {\"name\": \"release\"}, {\"name\": \"backend-kill\"}, {\"name\": \"backend-trust\"}, {\"name\": \"settle-loss\"}, {\"name\": "
		"\"x-save-control-state\"}, {\"name\": \"x-load-control-state\"}]}\r\n");
}

static void a_message_beyond_the_limit_ends_the_session(void **state)
{
	struct bench *bench = *state;
	size_t len = 1024 * 1024 + 1;
	char *text = malloc(len);

	assert_non_null(text);
	memset(text, 'x', len);
	text[0] = '{';
	text[1] = '"';
	negotiate(bench);
	assert_int_equal(qmp_session_feed(bench->session, text, len), len);
	assert_string_equal(sent(bench),
			    ERROR("GenericError", "message is larger than 1048576 bytes"));
	assert_true(qmp_session_is_over(bench->session));
	assert_false(qmp_session_wants_events(bench->session));
	assert_int_equal(qmp_session_feed(bench->session, "{}", 2), 0);
	free(text);
}

static void an_event_has_a_name_data_and_a_time(void **state)
{
	char *line = qmp_event_line(
		"SHADOW_STATE_CHANGE",
		report_state_change("u0", UMBRA_DEVICE_WAITING, UMBRA_DEVICE_BROKEN, "why"));
	json_t *event = json_loads(line, 0, NULL);
	const char *name, *from, *to, *reason, *device;
	json_int_t seconds, microseconds;

	(void)state;
	assert_int_equal(json_unpack(event, "{s:{s:I, s:I !} s:s s:{s:s s:s s:s s:s !} !}",
				     "timestamp", "seconds", &seconds, "microseconds",
				     &microseconds, "event", &name, "data", "name", &device, "from",
				     &from, "to", &to, "reason", &reason),
			 0);
	assert_string_equal(name, "SHADOW_STATE_CHANGE");
	assert_string_equal(device, "u0");
	assert_string_equal(from, "waiting");
	assert_string_equal(to, "broken");
	assert_string_equal(reason, "why");
	assert_in_range(seconds, 1600000000, INT64_MAX);
	assert_in_range(microseconds, 0, 999999);
	assert_string_equal(line + strlen(line) - 2, "\r\n");
	json_decref(event);
	free(line);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_session_begins_with_the_greeting),
		TEST(nothing_works_before_the_negotiation),
		TEST(the_negotiation_happens_once),
		TEST(an_id_of_any_kind_comes_back),
		TEST(a_message_of_the_wrong_shape_is_refused),
		TEST(what_is_not_json_is_one_error_and_the_next_command_works),
		TEST(arguments_of_the_wrong_name_or_type_are_named),
		TEST(several_commands_in_one_packet_are_answered_in_order),
		TEST(a_switch_is_answered_when_it_is_complete),
		TEST(a_switch_that_fails_says_why),
		TEST(what_was_said_on_the_control_queue_is_saved_and_loaded),
		TEST(a_wrong_device_name_is_of_its_own_class),
		TEST(a_client_may_leave_in_the_middle_of_a_switch),
		TEST(a_switch_that_outlives_the_device_is_still_answered),
		TEST(the_status_has_what_the_manual_says),
		TEST(queues_have_what_the_manual_says),
		TEST(bytes_that_are_no_utf8_do_not_spoil_an_answer),
		TEST(every_command_is_listed),
		TEST(a_message_beyond_the_limit_ends_the_session),
		TEST(an_event_has_a_name_data_and_a_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
