/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The commands of a shadow device.
 *
 * A switch takes time: its request belongs to the device until the callback,
 * which runs on the device's thread and only posts the request to the main loop.
 */
#include "cli/qmp_shadow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "cli/qmp_control_queue.h"
#include "cli/qmp_report.h"

static int run_shadow_status(struct qmp_call *call)
{
	const struct qmp_shadow *shadow = call->target->subject;
	struct umbra_shadow_picture *picture;
	int rc;

	if (umbra_shadow_device_query(shadow->device, &picture))
		return qmp_out_of_memory(call, "the status");
	rc = qmp_answer(call, report_status(call->target->name, shadow->backend, picture));
	umbra_shadow_picture_destroy(&picture);
	return rc;
}

static int run_query_vhost(struct qmp_call *call)
{
	const struct qmp_shadow *shadow = call->target->subject;
	struct umbra_shadow_picture *picture;
	int rc;

	if (umbra_shadow_device_query(shadow->device, &picture))
		return qmp_out_of_memory(call, "the status");
	rc = qmp_answer(call, report_vhost(shadow->backend, picture));
	umbra_shadow_picture_destroy(&picture);
	return rc;
}

/* On a thread of the device. */
static void request_done_there(void *opaque, int result, const struct umbra_error *err)
{
	struct qmp_pending *pending = opaque;

	pending->result = result;
	if (result && err && err->text[0])
		pending->err = *err;
	else if (result)
		error_set(&pending->err, result, "it failed: %s", strerror(-result));
	mailbox_post(pending->mailbox, &pending->letter);
}

static void switch_done(void *opaque, int result, const struct umbra_error *err)
{
	struct umbra_error silent;

	if (result && !(err && err->text[0])) {
		error_set(&silent, result, "the switch failed: %s", strerror(-result));
		err = &silent;
	}
	request_done_there(opaque, result, err);
}

static int run_enable_shadow(struct qmp_call *call)
{
	const struct qmp_target *target = call->target;
	const struct qmp_shadow *shadow = target->subject;
	const char *name = json_string_value(json_object_get(call->arguments, "name"));
	bool enable = json_is_true(json_object_get(call->arguments, "enable"));
	struct qmp_pending *pending;
	int result;

	if (strcmp(name, target->name) != 0)
		return qmp_refuse(call, -ENODEV, QMP_DEVICE_NOT_FOUND,
				  "argument 'name': there is no device '%.80s', expected '%s'",
				  name, target->name);
	pending = qmp_pending_create(call);
	if (!pending)
		return qmp_out_of_memory(call, "the switch");
	call->pending = pending;
	result = umbra_shadow_device_switch(shadow->device, enable, switch_done, pending);
	if (!result)
		return 1;
	call->pending = NULL;
	free(pending);
	return qmp_refuse(call, result, QMP_GENERIC_ERROR,
			  "device '%s': the switch was refused: %s", target->name,
			  strerror(-result));
}

/* A request of the device, which was left with it, or not: @result. */
static int request_left(struct qmp_call *call, int result)
{
	if (!result)
		return 1;
	free(call->pending);
	call->pending = NULL;
	return qmp_refuse(call, result, QMP_GENERIC_ERROR, "device '%s': refused: %s",
			  call->target->name, strerror(-result));
}

static int run_backend_trust(struct qmp_call *call)
{
	const struct qmp_shadow *shadow = call->target->subject;

	call->pending = qmp_pending_create(call);
	if (!call->pending)
		return qmp_out_of_memory(call, "the request");
	return request_left(
		call, umbra_shadow_device_trust(shadow->device, request_done_there, call->pending));
}

static int run_backend_kill(struct qmp_call *call)
{
	const struct qmp_shadow *shadow = call->target->subject;
	struct umbra_error err = { "" };
	int rc = umbra_shadow_device_kill_backend(shadow->device, &err);

	if (rc)
		return qmp_refuse(call, rc, QMP_GENERIC_ERROR, "%s", err.text);
	return 0;
}

static int run_hold(struct qmp_call *call)
{
	const struct qmp_shadow *shadow = call->target->subject;
	bool force = json_is_true(json_object_get(call->arguments, "force"));

	call->pending = qmp_pending_create(call);
	if (!call->pending)
		return qmp_out_of_memory(call, "the request");
	return request_left(call, umbra_shadow_device_hold(shadow->device, force,
							   request_done_there, call->pending));
}

static int run_release(struct qmp_call *call)
{
	const struct qmp_shadow *shadow = call->target->subject;

	call->pending = qmp_pending_create(call);
	if (!call->pending)
		return qmp_out_of_memory(call, "the request");
	return request_left(call, umbra_shadow_device_release(shadow->device, request_done_there,
							      call->pending));
}

static int run_settle_loss(struct qmp_call *call)
{
	const struct qmp_shadow *shadow = call->target->subject;
	const char *how = json_string_value(json_object_get(call->arguments, "how"));
	bool resets = !strcmp(how, "reset");

	if (!resets && strcmp(how, "replay") != 0)
		return qmp_refuse(call, -EINVAL, QMP_GENERIC_ERROR,
				  "argument 'how': '%.80s', expected 'replay' or 'reset'", how);
	call->pending = qmp_pending_create(call);
	if (!call->pending)
		return qmp_out_of_memory(call, "the request");
	return request_left(call, umbra_shadow_device_settle_loss(
					  shadow->device,
					  resets ? UMBRA_LOSS_WORD_RESET : UMBRA_LOSS_WORD_REPLAY,
					  request_done_there, call->pending));
}

const struct qmp_command qmp_shadow_commands[] = {
	{ "query-status", run_shadow_status, { { 0 } } },
	{ "query-vhost", run_query_vhost, { { 0 } } },
	{ "x-vhost-enable-shadow-vq",
	  run_enable_shadow,
	  { { "name", JSON_STRING, true }, { "enable", JSON_TRUE, true } } },
	{ "hold", run_hold, { { "force", JSON_TRUE, false } } },
	{ "release", run_release, { { 0 } } },
	{ "backend-kill", run_backend_kill, { { 0 } } },
	{ "backend-trust", run_backend_trust, { { 0 } } },
	{ "settle-loss", run_settle_loss, { { "how", JSON_STRING, true } } },
	{ "x-save-control-state", run_save_control_queue, { { 0 } } },
	{ "x-load-control-state", run_load_control_queue, { { "data", JSON_STRING, true } } },
};
const size_t qmp_shadow_command_count = ARRAY_SIZE(qmp_shadow_commands);
