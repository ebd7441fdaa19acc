/* SPDX-License-Identifier: BSD-2-Clause */
/* A simulated shadow device, for tests: see simulated_device.h. */
#include "simulated_device.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "simulated_knobs.h"

struct umbra_shadow_device {
	pthread_mutex_t lock;
	enum umbra_shadow_mode mode;
	struct simulated_knobs knobs;
	bool stopped;
	enum umbra_device_state state;
	char reason[UMBRA_ERROR_SIZE], broken[UMBRA_ERROR_SIZE];
	bool wanted, target;
	uint64_t switches, failed;
	uint8_t control[64]; /* what was loaded */
	size_t control_size;
	umbra_switch_done *done;
	void *done_opaque;
	void (*on_event)(void *opaque, const struct umbra_event *event);
	void *opaque;
};

struct simulated_plan simulated_plan;

static const char *const state_names[] = {
	[UMBRA_DEVICE_WAITING] = "waiting",         [UMBRA_DEVICE_NEGOTIATING] = "negotiating",
	[UMBRA_DEVICE_PASSTHROUGH] = "passthrough", [UMBRA_DEVICE_SHADOWED] = "shadowed",
	[UMBRA_DEVICE_SWITCHING] = "switching",     [UMBRA_DEVICE_BACKEND_LOST] = "backend-lost",
	[UMBRA_DEVICE_BROKEN] = "broken",           [UMBRA_DEVICE_HELD] = "held",
};
#define STATES (sizeof(state_names) / sizeof(state_names[0]))

const char *umbra_device_state_name(enum umbra_device_state state)
{
	return state_names[state];
}

static void enter(struct umbra_shadow_device *device, enum umbra_device_state state,
		  const char *reason)
{
	struct umbra_event event = { .kind = UMBRA_EVENT_STATE, .to = state, .reason = reason };

	pthread_mutex_lock(&device->lock);
	event.from = device->state;
	device->state = state;
	snprintf(device->reason, sizeof(device->reason), "%s", reason);
	pthread_mutex_unlock(&device->lock);
	if (device->on_event)
		device->on_event(device->opaque, &event);
}

/* The rest of @text after its first word, which is cut off. */
static char *split(char *text)
{
	size_t n = strcspn(text, " ");
	char *rest = text + n + (text[n] != 0);

	text[n] = 0;
	return rest;
}

static void finish(struct umbra_shadow_device *device, int result, const char *text)
{
	struct umbra_error err = { "" };
	umbra_switch_done *done;
	void *opaque;
	bool runs;

	pthread_mutex_lock(&device->lock);
	done = device->done;
	opaque = device->done_opaque;
	device->done = NULL;
	if (done && result) {
		device->failed++;
	} else if (done) {
		device->switches++;
		device->wanted = device->target;
	}
	runs = device->state == UMBRA_DEVICE_PASSTHROUGH || device->state == UMBRA_DEVICE_SHADOWED;
	pthread_mutex_unlock(&device->lock);
	if (!done)
		return;
	if (!result && runs)
		enter(device, device->target ? UMBRA_DEVICE_SHADOWED : UMBRA_DEVICE_PASSTHROUGH,
		      "");
	if (result)
		error_set(&err, result, "%s", text ? text : "");
	done(opaque, result, &err);
}

void simulated_device_step(struct umbra_shadow_device *device)
{
	char text[UMBRA_ERROR_SIZE], *rest;

	if (simulated_plan.hold || simulated_knob(&device->knobs, "hold", text, sizeof(text)))
		return;
	if (simulated_plan.refuse) {
		finish(device, simulated_plan.refuse, simulated_plan.text);
	} else if (simulated_knob(&device->knobs, "refuse", text, sizeof(text))) {
		rest = split(text);
		finish(device, -atoi(text), rest);
	} else {
		finish(device, 0, NULL);
	}
}

static void step_knobs(struct umbra_shadow_device *device)
{
	struct umbra_event broken = { .kind = UMBRA_EVENT_QUEUE_BROKEN };
	char text[UMBRA_ERROR_SIZE], *rest;
	unsigned int i, count;

	if (simulated_knob(&device->knobs, "state", text, sizeof(text))) {
		rest = split(text);
		for (i = 0; i < STATES; i++)
			if (!strcmp(state_names[i], text))
				enter(device, (enum umbra_device_state)i, rest);
		simulated_knob_done(&device->knobs, "state");
	}
	if (simulated_knob(&device->knobs, "break", text, sizeof(text))) {
		broken.reason = split(text);
		broken.queue = (unsigned int)atoi(text);
		pthread_mutex_lock(&device->lock);
		snprintf(device->broken, sizeof(device->broken), "%s", broken.reason);
		pthread_mutex_unlock(&device->lock);
		device->on_event(device->opaque, &broken);
		simulated_knob_done(&device->knobs, "break");
	}
	if (simulated_knob(&device->knobs, "flood", text, sizeof(text))) {
		count = (unsigned int)atoi(text);
		for (i = 0; i < count; i++)
			enter(device, i & 1 ? UMBRA_DEVICE_WAITING : UMBRA_DEVICE_NEGOTIATING, "");
		simulated_knob_done(&device->knobs, "flood");
	}
}

int umbra_shadow_device_create(const struct umbra_shadow_config *config,
			       struct umbra_shadow_device **out, struct umbra_error *err)
{
	struct umbra_shadow_device *device = calloc(1, sizeof(*device));
	int rc;

	if (!device)
		return error_set(err, -ENOMEM, "simulated: out of memory");
	pthread_mutex_init(&device->lock, NULL);
	device->mode = config->mode;
	device->wanted = config->mode == UMBRA_SHADOW_ON;
	device->on_event = config->on_event;
	device->opaque = config->opaque;
	if (!strncmp(config->backend, "unix:", 5))
		snprintf(device->knobs.folder, sizeof(device->knobs.folder), "%s",
			 config->backend + 5);
	rc = simulated_knobs_open(&device->knobs, config->socket_path, err);
	if (rc)
		umbra_shadow_device_destroy(&device);
	else
		*out = device;
	return rc;
}

int umbra_shadow_device_run(struct umbra_shadow_device *device, struct umbra_error *err)
{
	char text[UMBRA_ERROR_SIZE];
	int result = 0;

	while (simulated_knobs_wait(&device->knobs)) {
		if (simulated_knob(&device->knobs, "fail", text, sizeof(text))) {
			result = error_set(err, -EIO, "%s", text);
			break;
		}
		if (simulated_knob(&device->knobs, "gone", text, sizeof(text)))
			break;
		step_knobs(device);
		simulated_device_step(device);
	}
	pthread_mutex_lock(&device->lock);
	device->stopped = true;
	pthread_mutex_unlock(&device->lock);
	finish(device, -ECANCELED, "simulated: the device was stopped");
	return result;
}

void umbra_shadow_device_stop(struct umbra_shadow_device *device)
{
	simulated_knobs_stop(&device->knobs);
}

int umbra_shadow_device_switch(struct umbra_shadow_device *device, bool shadowed,
			       umbra_switch_done *done, void *opaque)
{
	const struct umbra_error busy = { "simulated: another switch is under way" };
	bool taken = false, stopped;

	if (simulated_plan.switch_returns)
		return simulated_plan.switch_returns;
	pthread_mutex_lock(&device->lock);
	stopped = device->stopped;
	if (!stopped && !device->done) {
		device->done = done;
		device->done_opaque = opaque;
		device->target = shadowed;
		taken = true;
	}
	pthread_mutex_unlock(&device->lock);
	if (stopped)
		return -ECANCELED;
	if (!taken)
		done(opaque, -EBUSY, &busy);
	return 0;
}

int umbra_shadow_device_trust(struct umbra_shadow_device *device, umbra_switch_done *done,
			      void *opaque)
{
	const struct umbra_error none = { "simulated: nobody is waited for" };

	(void)device;
	if (simulated_plan.switch_returns)
		return simulated_plan.switch_returns;
	done(opaque, -EINVAL, &none);
	return 0;
}

int umbra_shadow_device_kill_backend(struct umbra_shadow_device *device, struct umbra_error *err)
{
	(void)device;
	return error_set(err, -EOPNOTSUPP, "simulated: no process of a back-end is known");
}

int umbra_shadow_device_hold(struct umbra_shadow_device *device, bool force,
			     umbra_switch_done *done, void *opaque)
{
	const struct umbra_error busy = { "simulated: 3 chains are with the back-end" };

	(void)device;
	if (simulated_plan.switch_returns)
		return simulated_plan.switch_returns;
	done(opaque, force ? 0 : -ETIMEDOUT, &busy);
	return 0;
}

int umbra_shadow_device_release(struct umbra_shadow_device *device, umbra_switch_done *done,
				void *opaque)
{
	const struct umbra_error none = { "simulated: it is not held by hand" };

	(void)device;
	if (simulated_plan.switch_returns)
		return simulated_plan.switch_returns;
	done(opaque, -EINVAL, &none);
	return 0;
}

int umbra_shadow_device_settle_loss(struct umbra_shadow_device *device, enum umbra_loss_word word,
				    umbra_switch_done *done, void *opaque)
{
	const struct umbra_error none = { "simulated: nobody is asked" };

	(void)device;
	(void)word;
	if (simulated_plan.switch_returns)
		return simulated_plan.switch_returns;
	done(opaque, -EINVAL, &none);
	return 0;
}

int umbra_shadow_device_save_control(struct umbra_shadow_device *device, umbra_control_saved *done,
				     void *opaque)
{
	const struct umbra_error none = { "simulated: nothing was loaded" };

	if (simulated_plan.switch_returns)
		return simulated_plan.switch_returns;
	done(opaque, device->control_size ? 0 : -EOPNOTSUPP, device->control, device->control_size,
	     &none);
	return 0;
}

int umbra_shadow_device_load_control(struct umbra_shadow_device *device, const void *bytes,
				     size_t size, umbra_switch_done *done, void *opaque)
{
	const struct umbra_error large = { "simulated: too large" };

	if (simulated_plan.switch_returns)
		return simulated_plan.switch_returns;
	if (size <= sizeof(device->control)) {
		memcpy(device->control, bytes, size);
		device->control_size = size;
	}
	done(opaque, size > sizeof(device->control) ? -EINVAL : 0, &large);
	return 0;
}

struct umbra_shadow_picture {
	struct umbra_shadow_info info;
	struct umbra_backend_info backend;
	struct umbra_net_control_info control;
	struct umbra_queue_info queues[3];
};

static void picture_fill(struct umbra_shadow_device *device, struct umbra_shadow_picture *picture)
{
	struct umbra_shadow_info *info = &picture->info;

	pthread_mutex_lock(&device->lock);
	info->state = device->state;
	snprintf(info->reason, sizeof(info->reason), "%s",
		 simulated_plan.reason ? simulated_plan.reason : device->reason);
	info->mode = device->mode;
	info->shadow_wanted = device->wanted;
	info->backend_features = 0x171001646;
	info->guest_features = 0x130000040;
	info->protocol_features = 0x20b;
	snprintf(info->dropped_features, sizeof(info->dropped_features), "%s",
		 "VIRTIO_F_RING_PACKED: simulated");
	snprintf(info->death_reason, sizeof(info->death_reason), "it is simulated");
	picture->backend = (struct umbra_backend_info){
		.kind = "vhost-vdpa",
		.device_id = 2,
		.queue_count = 3,
		.queue_size = 256,
		.abilities = 0x17e,
		.stops = "with a simulated bang",
		.iova_first = 0x1000,
		.iova_last = UINT64_MAX,
		.translated = true,
		.mapped_ranges = 4,
		.mapped_bytes = 1ull << 33,
	};
	info->memory_bytes = 1ull << 32;
	info->memory_regions = 2;
	info->frontends = 7;
	info->switches = device->switches;
	info->switches_failed = device->failed;
	info->last_pause_us = 120;
	info->longest_pause_us = 340;
	picture->control = (struct umbra_net_control_info){
		.is_followed = true,
		.has_mac = true,
		.has_filter = true,
		.has_rss = true,
		.has_hash = true,
		.has_offloads = true,
		.has_coalesce_rx = true,
		.has_coalesce_tx = true,
		.mac = { 2, 0, 0, 0xab, 0xcd, 0xef },
		.modes = { UMBRA_NET_MODE_ON, UMBRA_NET_MODE_OFF, UMBRA_NET_MODE_ON,
			   UMBRA_NET_MODE_ON, UMBRA_NET_MODE_ON },
		.unicast = 31,
		.multicast = 32,
		.vlans = 33,
		.queue_pairs = 34,
		.rss_entries = 128,
		.rss_hash_types = 0x3f,
		.hash_types = 0x1ff,
		.offloads = 0xff00000000000082,
		.coalesce_rx = { 35, 36 },
		.coalesce_tx = { 37, 38 },
		.accepted = 39,
		.refused = 40,
		.failed = 41,
		.replayed = 42,
	};
	info->queue_count = 3;
	picture->queues[0] = (struct umbra_queue_info){
		.size = 256,
		.started = true,
		.enabled = true,
		.shadowed = device->state == UMBRA_DEVICE_SHADOWED,
		.last_avail_idx = 65535,
		.last_used_idx = 65534,
		.in_flight = 1,
		.requests = 1000001,
		.bytes_out = 1000002,
		.bytes_in = UINT64_MAX,
		.kicks_in = 1000004,
		.kicks_out = 1000005,
		.calls_in = 1000006,
		.calls_out = 1000007,
		.clamped = 1000008,
	};
	picture->queues[2].size = 8;
	snprintf(picture->queues[0].error, sizeof(picture->queues[0].error), "%s", device->broken);
	pthread_mutex_unlock(&device->lock);
}

int umbra_shadow_device_query(struct umbra_shadow_device *device, struct umbra_shadow_picture **out)
{
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	picture_fill(device, *out);
	return 0;
}

const struct umbra_shadow_info *
umbra_shadow_picture_device(const struct umbra_shadow_picture *picture)
{
	return &picture->info;
}

const struct umbra_backend_info *
umbra_shadow_picture_backend(const struct umbra_shadow_picture *picture)
{
	return &picture->backend;
}

const struct umbra_net_control_info *
umbra_shadow_picture_control(const struct umbra_shadow_picture *picture)
{
	return &picture->control;
}

const struct umbra_queue_info *
umbra_shadow_picture_queue(const struct umbra_shadow_picture *picture, unsigned int index)
{
	return index < picture->info.queue_count ? &picture->queues[index] : NULL;
}

void umbra_shadow_picture_destroy(struct umbra_shadow_picture **picture)
{
	free(*picture);
	*picture = NULL;
}

void umbra_shadow_device_destroy(struct umbra_shadow_device **out)
{
	struct umbra_shadow_device *device = *out;

	if (!device)
		return;
	finish(device, -ECANCELED, "simulated: the device was destroyed");
	simulated_knobs_close(&device->knobs);
	pthread_mutex_destroy(&device->lock);
	free(device);
	*out = NULL;
}
