/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a guest has said on the control queue: see qmp_control_queue.h.
 *
 * A saved state goes through JSON as hexadecimal digits, two a byte: 300 KiB at
 * most, and usually some dozens.
 */
#include "cli/qmp_control_queue.h"

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "cli/qmp_shadow.h"

/* --- shown ---------------------------------------------------------------------- */

static json_t *mac_json(const uint8_t mac[6])
{
	char text[sizeof("00:11:22:33:44:55")];

	snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
		 mac[3], mac[4], mac[5]);
	return json_string(text);
}

/* A mask needs all its bits: text. */
static json_t *mask_json(uint64_t mask)
{
	char text[sizeof("0x0123456789abcdef")];

	snprintf(text, sizeof(text), "0x%" PRIx64, mask);
	return json_string(text);
}

/* Only what was said: in what mode a device is that was told nothing is its own affair. */
static json_t *modes_json(const enum umbra_net_mode *modes)
{
	static const char *const names[UMBRA_NET_MODES] = { "promisc", "allmulti", "alluni",
							    "nomulti", "nouni",    "nobcast" };
	json_t *object = json_object();

	for (unsigned int i = 0; object && i < UMBRA_NET_MODES; i++) {
		if (modes[i] == UMBRA_NET_MODE_UNSAID)
			continue;
		if (json_object_set_new(object, names[i],
					json_boolean(modes[i] == UMBRA_NET_MODE_ON))) {
			json_decref(object);
			object = NULL;
		}
	}
	return object;
}

static json_t *coalesce_json(const struct umbra_net_coalesce *c)
{
	return json_pack("{s:I, s:I}", "max-packets", (json_int_t)c->max_packets, "max-us",
			 (json_int_t)c->max_us);
}

/* Add @value if it was said.  Returns @object, or NULL. */
static json_t *with(json_t *object, bool was_said, const char *member, json_t *value)
{
	if (!object || !was_said) {
		json_decref(value);
		return object;
	}
	if (json_object_set_new(object, member, value)) {
		json_decref(object);
		return NULL;
	}
	return object;
}

static json_t *counters_json(const struct umbra_net_control_info *info)
{
	return json_pack("{s:b, s:o, s:I, s:I, s:I, s:I, s:I}", "waiting", info->is_waiting, "rx",
			 modes_json(info->modes), "vlans", (json_int_t)info->vlans, "accepted",
			 (json_int_t)info->accepted, "refused", (json_int_t)info->refused, "failed",
			 (json_int_t)info->failed, "replayed", (json_int_t)info->replayed);
}

json_t *report_control_queue(const struct umbra_net_control_info *info)
{
	json_t *o = counters_json(info), *coalesce;

	o = with(o, true, "queue-pairs", json_integer(info->queue_pairs));
	o = with(o, info->has_mac, "mac", mac_json(info->mac));
	o = with(o, info->has_filter, "unicast", json_integer(info->unicast));
	o = with(o, info->has_filter, "multicast", json_integer(info->multicast));
	o = with(o, info->has_rss, "rss",
		 json_pack("{s:I, s:o}", "entries", (json_int_t)info->rss_entries, "hash-types",
			   mask_json(info->rss_hash_types)));
	o = with(o, info->has_hash, "hash-types", mask_json(info->hash_types));
	o = with(o, info->has_offloads, "offloads", mask_json(info->offloads));
	coalesce = json_object();
	coalesce = with(coalesce, info->has_coalesce_rx, "rx", coalesce_json(&info->coalesce_rx));
	coalesce = with(coalesce, info->has_coalesce_tx, "tx", coalesce_json(&info->coalesce_tx));
	return with(o, info->has_coalesce_rx || info->has_coalesce_tx, "coalesce", coalesce);
}

/* --- saved and loaded ------------------------------------------------------------- */

static char *hex_make(const uint8_t *bytes, size_t size)
{
	char *text = malloc(2 * size + 1);

	for (size_t i = 0; text && i < size; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	if (text)
		text[2 * size] = '\0';
	return text;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* 0, or the place (from 1) of what is no digit. */
static size_t hex_read(const char *text, size_t length, uint8_t *bytes)
{
	for (size_t i = 0; i < length; i++) {
		int digit = hex_digit(text[i]);

		if (digit < 0)
			return i + 1;
		bytes[i / 2] = (uint8_t)(i % 2 ? bytes[i / 2] | digit : digit << 4);
	}
	return 0;
}

/* On a thread of the device. */
static void saved(void *opaque, int result, const void *bytes, size_t size,
		  const struct umbra_error *err)
{
	struct qmp_pending *pending = opaque;
	char *text;

	pending->result = result;
	if (result) {
		pending->err = *err;
	} else {
		text = hex_make(bytes, size);
		pending->value = text ? json_pack("{s:s}", "data", text) : NULL;
		free(text);
		if (!pending->value)
			pending->result = error_set(&pending->err, -ENOMEM,
						    "out of memory for %zu bytes of state", size);
	}
	mailbox_post(pending->mailbox, &pending->letter);
}

static void loaded(void *opaque, int result, const struct umbra_error *err)
{
	struct qmp_pending *pending = opaque;

	pending->result = result;
	if (result)
		pending->err = *err;
	mailbox_post(pending->mailbox, &pending->letter);
}

/* The device has taken the request (0), or not. */
static int begun(struct qmp_call *call, struct qmp_pending *pending, int result)
{
	if (!result)
		return 1;
	call->pending = NULL;
	free(pending);
	return qmp_refuse(call, result, QMP_GENERIC_ERROR, "device '%s': %s", call->target->name,
			  strerror(-result));
}

int run_save_control_queue(struct qmp_call *call)
{
	const struct qmp_shadow *shadow = call->target->subject;
	struct qmp_pending *pending = qmp_pending_create(call);

	if (!pending)
		return qmp_out_of_memory(call, "the request");
	call->pending = pending;
	return begun(call, pending,
		     umbra_shadow_device_save_control(shadow->device, saved, pending));
}

int run_load_control_queue(struct qmp_call *call)
{
	const struct qmp_shadow *shadow = call->target->subject;
	json_t *data = json_object_get(call->arguments, "data");
	size_t length = json_string_length(data), wrong;
	struct qmp_pending *pending;
	uint8_t *bytes;
	int rc;

	if (length % 2)
		return qmp_refuse(call, -EINVAL, QMP_GENERIC_ERROR,
				  "argument 'data' has %zu characters, expected two hexadecimal "
				  "digits for each byte",
				  length);
	bytes = calloc(1, length / 2 + 1);
	if (!bytes)
		return qmp_out_of_memory(call, "the state");
	wrong = hex_read(json_string_value(data), length, bytes);
	if (wrong) {
		free(bytes);
		return qmp_refuse(call, -EINVAL, QMP_GENERIC_ERROR,
				  "argument 'data': character %zu is not a hexadecimal digit",
				  wrong);
	}
	pending = qmp_pending_create(call);
	if (!pending) {
		free(bytes);
		return qmp_out_of_memory(call, "the request");
	}
	call->pending = pending;
	rc = umbra_shadow_device_load_control(shadow->device, bytes, length / 2, loaded, pending);
	free(bytes);
	return begun(call, pending, rc);
}
