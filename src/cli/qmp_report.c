/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What query-status and query-vhost return: see qmp_report.h.
 *
 * A member that could not be made for want of memory makes the whole NULL:
 * jansson's json_pack() and "_new" setters take NULL and say so.
 */
#include "cli/qmp_report.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "cli/feature_names.h"
#include "cli/json_values.h"
#include "cli/qmp_control_queue.h"

static const char *report_mode_name(enum umbra_shadow_mode mode)
{
	switch (mode) {
	case UMBRA_SHADOW_AUTO:
		return "auto";
	case UMBRA_SHADOW_ON:
		return "on";
	case UMBRA_SHADOW_OFF:
		return "off";
	}
	return "unknown";
}

/* Before there is a connection, its name tells the kind. */
static const char *backend_kind(const char *backend, const struct umbra_shadow_picture *picture)
{
	const struct umbra_backend_info *b = umbra_shadow_picture_backend(picture);

	if (b->kind[0])
		return b->kind;
	return strncmp(backend, "vdpa:", 5) ? "vhost-user" : "vhost-vdpa";
}

/* What is known of a device that is held: since when, what waits, and who is looked for. */
static json_t *with_hold(json_t *status, const struct umbra_shadow_info *info,
			 const struct umbra_backend_info *backend)
{
	json_t *hold = json_pack("{s:I, s:b, s:I, s:I, s:I}", "held-requests",
				 json_number(info->held_requests), "held-by-hand",
				 info->held_by_hand, "held-ms", json_number(info->held_us / 1000),
				 "attempts", json_number(backend->attempts), "pause-ms",
				 json_number(backend->pause_ms));

	if (hold && info->hold_limit_us &&
	    json_object_set_new(hold, "hold-limit-ms",
				json_integer(json_number(info->hold_limit_us / 1000)))) {
		json_decref(hold);
		hold = NULL;
	}
	if (!status || !hold || json_object_update(status, hold)) {
		json_decref(status);
		status = NULL;
	}
	json_decref(hold);
	return status;
}

/* What the back-end has not answered, while that is waited for. */
static json_t *with_unanswered(json_t *status, const struct umbra_backend_info *backend)
{
	json_t *unanswered;

	if (!backend->unanswered_us)
		return status;
	unanswered = json_pack("{s:o, s:I}", "message", json_text(backend->unanswered), "ms",
			       json_number(backend->unanswered_us / 1000));
	if (!status || json_object_set_new(status, "unanswered", unanswered)) {
		json_decref(status);
		status = NULL;
	}
	return status;
}

json_t *report_status(const char *name, const char *backend,
		      const struct umbra_shadow_picture *picture)
{
	const struct umbra_shadow_info *info = umbra_shadow_picture_device(picture);
	json_t *status;

	status = json_pack("{s:o, s:s, s:s, s:b, s:b, s:s}", "name", json_text(name), "state",
			   umbra_device_state_name(info->state), "shadow",
			   report_mode_name(info->mode), "shadowed",
			   info->state == UMBRA_DEVICE_SHADOWED, "shadow-wanted",
			   info->shadow_wanted, "backend", backend_kind(backend, picture));
	if (info->state == UMBRA_DEVICE_HELD || info->held_by_hand)
		status = with_hold(status, info, umbra_shadow_picture_backend(picture));
	status = with_unanswered(status, umbra_shadow_picture_backend(picture));
	status = json_with_text(status, "reason", info->reason);
	return json_with_text(status, "shadow-refused", info->shadow_refused);
}

static const char *queue_mode(const struct umbra_queue_info *queue)
{
	if (!queue->started)
		return "stopped";
	return queue->shadowed ? "shadowed" : "passthrough";
}

static json_t *report_queue(unsigned int index, const struct umbra_queue_info *queue)
{
	json_t *state, *counters;

	state = json_pack("{s:i, s:I, s:b, s:b, s:s, s:i, s:i, s:I}", "index", (int)index, "size",
			  json_number(queue->size), "started", queue->started, "enabled",
			  queue->enabled, "mode", queue_mode(queue), "last-avail-idx",
			  (int)queue->last_avail_idx, "last-used-idx", (int)queue->last_used_idx,
			  "in-flight", json_number(queue->in_flight));
	counters = json_pack(
		"{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "requests",
		json_number(queue->requests), "bytes-out", json_number(queue->bytes_out),
		"bytes-in", json_number(queue->bytes_in), "kicks-in", json_number(queue->kicks_in),
		"kicks-out", json_number(queue->kicks_out), "kicks", json_number(queue->kicks_in),
		"calls-in", json_number(queue->calls_in), "calls-out",
		json_number(queue->calls_out), "calls", json_number(queue->calls_out), "clamped",
		json_number(queue->clamped), "returned", json_number(queue->returned), "lost",
		json_number(queue->lost), "table-longest", json_number(queue->table_longest));
	if (json_object_update_missing(state, counters)) {
		json_decref(state);
		state = NULL;
	}
	json_decref(counters);
	return json_with_text(state, "error", queue->error);
}

/* What is known of a vDPA device.  Addresses are text: they need all 64 bits. */
static json_t *with_vdpa(json_t *object, const struct umbra_backend_info *b)
{
	const char *type = device_type_name(b->device_id);
	char first[sizeof("0x0123456789abcdef")], last[sizeof(first)];
	json_t *more;

	snprintf(first, sizeof(first), "0x%" PRIx64, b->iova_first);
	snprintf(last, sizeof(last), "0x%" PRIx64, b->iova_last);
	more = json_pack("{s:I, s:I, s:I, s:o, s:{s:s, s:s}, s:{s:I, s:I, s:b}}", "device-id",
			 json_number(b->device_id), "queues-max", json_number(b->queue_count),
			 "queue-size-max", json_number(b->queue_size), "abilities",
			 backend_features_json(b->abilities), "iova-range", "first", first, "last",
			 last, "mapped", "ranges", json_number(b->mapped_ranges), "bytes",
			 json_number(b->mapped_bytes), "translated", b->translated);
	more = json_with_text(more, "device-type", type);
	if (!object || !more || json_object_update_missing(object, more)) {
		json_decref(object);
		object = NULL;
	}
	json_decref(more);
	return object;
}

/* Who is, or was, behind the socket. */
static json_t *with_process(json_t *object, const struct umbra_backend_info *b)
{
	static const char *const states[] = {
		[UMBRA_PROCESS_UNKNOWN] = "unknown",
		[UMBRA_PROCESS_LIVES] = "lives",
		[UMBRA_PROCESS_ENDED] = "ended",
	};
	json_t *process;

	if (!b->process_name[0])
		return object;
	process = json_pack("{s:i, s:o, s:s}", "pid", (int)b->process, "name",
			    json_text(b->process_name), "state", states[b->process_state]);
	process = json_with_text(process, "doubt", b->process_doubt);
	if (!object || !process || json_object_set(object, "process", process)) {
		json_decref(object);
		object = NULL;
	}
	json_decref(process);
	return object;
}

static json_t *report_backend(const char *backend, const struct umbra_shadow_picture *picture)
{
	const struct umbra_shadow_info *info = umbra_shadow_picture_device(picture);
	const struct umbra_backend_info *b = umbra_shadow_picture_backend(picture);
	const char *address = strchr(backend, ':');
	json_t *object =
		json_pack("{s:s, s:o, s:o, s:o}", "kind", backend_kind(backend, picture), "address",
			  json_text(address ? address + 1 : backend), "features",
			  features_json(b->device_id, info->backend_features), "protocol-features",
			  protocol_features_json(info->protocol_features));

	object = json_with_text(object, "stop", b->stops);
	object = with_process(object, b);
	return b->device_id ? with_vdpa(object, b) : object;
}

static json_t *report_features(const struct umbra_shadow_picture *picture)
{
	const struct umbra_shadow_info *info = umbra_shadow_picture_device(picture);
	const struct umbra_backend_info *b = umbra_shadow_picture_backend(picture);
	json_t *features =
		json_pack("{s:o}", "guest", features_json(b->device_id, info->guest_features));

	return json_with_text(features, "dropped", info->dropped_features);
}

/* Is it set up, or has it ever been worked on? */
static bool is_known(const struct umbra_queue_info *q)
{
	return q->size || q->requests || q->bytes_out || q->kicks_in || q->kicks_out ||
	       q->calls_in || q->calls_out || q->returned || q->lost;
}

json_t *report_vhost(const char *backend, const struct umbra_shadow_picture *picture)
{
	const struct umbra_shadow_info *info = umbra_shadow_picture_device(picture);
	const struct umbra_net_control_info *followed = umbra_shadow_picture_control(picture);
	json_t *queues = json_array(), *vhost, *control;
	const struct umbra_queue_info *queue;

	for (unsigned int i = 0; queues && (queue = umbra_shadow_picture_queue(picture, i)); i++) {
		if (!is_known(queue))
			continue;
		if (json_array_append_new(queues, report_queue(i, queue))) {
			json_decref(queues);
			queues = NULL;
		}
	}
	vhost = json_pack(
		"{s:o, s:o, s:{s:I, s:I, s:I, s:I}, s:o, s:{s:I, s:I, s:I, s:I}, s:I}", "backend",
		report_backend(backend, picture), "features", report_features(picture), "memory",
		"bytes", json_number(info->memory_bytes), "regions",
		json_number(info->memory_regions), "shadow-bytes",
		json_number(info->shadow_memory_bytes), "shadow-regions",
		json_number(info->shadow_memory_regions), "queues", queues, "switches", "count",
		json_number(info->switches), "failed", json_number(info->switches_failed),
		"last-pause-us", json_number(info->last_pause_us), "longest-pause-us",
		json_number(info->longest_pause_us), "frontends", json_number(info->frontends));
	if (vhost &&
	    (json_object_set_new(vhost, "survives-death", json_boolean(info->survives_death)) ||
	     (!info->survives_death &&
	      json_object_set_new(vhost, "death-reason", json_string(info->death_reason))))) {
		json_decref(vhost);
		vhost = NULL;
	}
	if (vhost && info->holds &&
	    json_object_set_new(vhost, "holds",
				json_pack("{s:I, s:I, s:I, s:I, s:I}", "count",
					  json_number(info->holds), "replayed",
					  json_number(info->replayed), "dropped",
					  json_number(info->dropped), "last-us",
					  json_number(info->last_hold_us), "longest-us",
					  json_number(info->longest_hold_us)))) {
		json_decref(vhost);
		vhost = NULL;
	}
	if (!vhost || !(followed->is_followed || followed->is_waiting))
		return vhost;
	control = report_control_queue(followed);
	if (json_object_set_new(vhost, "control", control)) {
		json_decref(vhost);
		vhost = NULL;
	}
	return vhost;
}

json_t *report_state_change(const char *name, enum umbra_device_state from,
			    enum umbra_device_state to, const char *reason)
{
	json_t *data = json_pack("{s:o, s:s, s:s}", "name", json_text(name), "from",
				 umbra_device_state_name(from), "to", umbra_device_state_name(to));

	return json_with_text(data, "reason", reason);
}

json_t *report_queue_broken(const char *name, unsigned int queue, const char *reason)
{
	return json_pack("{s:o, s:i, s:o}", "name", json_text(name), "queue", (int)queue, "reason",
			 json_text(reason));
}

json_t *report_sought(const char *name, uint64_t attempts, uint32_t pause_ms, const char *reason)
{
	return json_pack("{s:o, s:I, s:I, s:o}", "name", json_text(name), "attempts",
			 json_number(attempts), "pause-ms", json_number(pause_ms), "reason",
			 json_text(reason));
}
