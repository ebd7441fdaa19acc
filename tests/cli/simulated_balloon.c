/* SPDX-License-Identifier: BSD-2-Clause */
/* A simulated balloon, for tests: see simulated_balloon.h. */
#include "simulated_balloon.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "simulated_knobs.h"

#define MEMORY (UINT64_C(1) << 30)
#define FLOOR (UINT64_C(1) << 20)
#define STALL_STEPS 100

struct umbra_balloon {
	pthread_mutex_t lock;
	struct simulated_knobs knobs;
	struct umbra_balloon_info info;
	bool on_the_way;
	unsigned int still; /* steps without a move */
	uint64_t floor;
	unsigned int asked;
	void (*on_event)(void *opaque, enum umbra_balloon_event_kind kind,
			 const struct umbra_balloon_info *info);
	void *opaque;
};

const char *umbra_balloon_state_name(enum umbra_balloon_state state)
{
	static const char *const names[] = { "waiting", "negotiating", "running", "broken" };

	return names[state];
}

const char *umbra_balloon_phase_name(enum umbra_balloon_phase phase)
{
	static const char *const names[] = { "no-driver", "idle",    "inflating",
					     "deflating", "settled", "unfreed",
					     "stalled",   "broken",  "unknown" };

	return names[phase];
}

const char *umbra_balloon_base_name(enum umbra_balloon_base base)
{
	static const char *const names[] = { "none", "table", "guest", "option" };

	return names[base];
}

int umbra_balloon_create(const struct umbra_balloon_config *config, struct umbra_balloon **out,
			 struct umbra_error *err)
{
	struct umbra_balloon *b = calloc(1, sizeof(*b));
	int rc;

	if (!b)
		return error_set(err, -ENOMEM, "simulated: out of memory");
	pthread_mutex_init(&b->lock, NULL);
	b->on_event = config->on_event;
	b->opaque = config->opaque;
	b->info = (struct umbra_balloon_info){
		.state = UMBRA_BALLOON_RUNNING,
		.memory_bytes = MEMORY,
		.memory_regions = 2,
		.base = UMBRA_BALLOON_BASE_TABLE,
		.table_bytes = MEMORY,
		.target_bytes = config->target_percent ? MEMORY * config->target_percent / 100
				: config->target.bytes ? config->target.bytes
						       : MEMORY,
		.host_bytes = MEMORY,
		.guest_features = 0x4000100000003,
		.refused_records = 3,
	};
	b->info.stats.present = 0x7f | 1u << UMBRA_BALLOON_ASYNC_SCANS;
	b->info.stats.values[UMBRA_BALLOON_ASYNC_SCANS] = 12288;
	b->info.stats.age_ms = UINT64_MAX;
	if (config->socket_path)
		snprintf(b->knobs.folder, sizeof(b->knobs.folder), "%s.knobs", config->socket_path);
	rc = simulated_knobs_open(&b->knobs, config->socket_path, err);
	if (rc)
		umbra_balloon_destroy(&b);
	else
		*out = b;
	return rc;
}

static void tell(struct umbra_balloon *b, enum umbra_balloon_event_kind kind)
{
	struct umbra_balloon_info info;

	umbra_balloon_query(b, &info, sizeof(info));
	if (b->on_event)
		b->on_event(b->opaque, kind, &info);
}

/* Returns which events there are to tell, as bits. */
static unsigned int step_locked(struct umbra_balloon *b)
{
	struct umbra_balloon_info *i = &b->info;
	uint64_t target = i->target_bytes < b->floor ? b->floor : i->target_bytes;
	uint64_t goal = target < MEMORY ? MEMORY - target : 0;
	uint64_t before = i->ballooned_bytes;
	unsigned int events = 0;

	if (goal > before)
		i->ballooned_bytes += (goal - before + 3) / 4;
	else
		i->ballooned_bytes -= (before - goal + 3) / 4;
	i->host_bytes = MEMORY - i->ballooned_bytes;
	if (i->ballooned_bytes != before)
		events |= 1u << UMBRA_BALLOON_EVENT_CHANGE;
	b->still = i->ballooned_bytes == before ? b->still + 1 : 0;
	i->obstacle[0] = 0;
	if (MEMORY - i->ballooned_bytes == (i->target_bytes < MEMORY ? i->target_bytes : MEMORY)) {
		i->phase = UMBRA_BALLOON_SETTLED;
	} else if (b->still > STALL_STEPS) {
		i->phase = UMBRA_BALLOON_STALLED;
		snprintf(i->obstacle, sizeof(i->obstacle), "simulated: the guest needs it");
	} else {
		i->phase = goal > before ? UMBRA_BALLOON_INFLATING : UMBRA_BALLOON_DEFLATING;
		return events;
	}
	if (b->on_the_way)
		events |= 1u << UMBRA_BALLOON_EVENT_SETTLED;
	b->on_the_way = false;
	return events;
}

int umbra_balloon_run(struct umbra_balloon *b, struct umbra_error *err)
{
	char text[UMBRA_ERROR_SIZE];
	unsigned int events;

	while (simulated_knobs_wait(&b->knobs)) {
		if (simulated_knob(&b->knobs, "fail", text, sizeof(text)))
			return error_set(err, -EIO, "%s", text);
		if (simulated_knob(&b->knobs, "gone", text, sizeof(text)))
			return 0;
		pthread_mutex_lock(&b->lock);
		b->floor = simulated_knob(&b->knobs, "floor", text, sizeof(text))
				   ? strtoull(text, NULL, 10)
				   : 0;
		events = step_locked(b);
		if (b->info.state != UMBRA_BALLOON_BROKEN &&
		    simulated_knob(&b->knobs, "break", text, sizeof(text))) {
			b->info.state = UMBRA_BALLOON_BROKEN;
			snprintf(b->info.reason, sizeof(b->info.reason), "%s", text);
			events |= 1u << UMBRA_BALLOON_EVENT_STATE;
		}
		pthread_mutex_unlock(&b->lock);
		for (unsigned int kind = 0; kind < 3; kind++)
			if (events & 1u << kind)
				tell(b, (enum umbra_balloon_event_kind)kind);
	}
	return 0;
}

void umbra_balloon_stop(struct umbra_balloon *b)
{
	simulated_knobs_stop(&b->knobs);
}

int umbra_balloon_set_target(struct umbra_balloon *b, const struct umbra_balloon_target *target,
			     uint64_t *id, struct umbra_error *err)
{
	uint64_t keep = target->take ? MEMORY - target->bytes : target->bytes;

	if (keep < FLOOR && !target->force)
		return error_set(err, -EINVAL, "simulated: below the floor");
	pthread_mutex_lock(&b->lock);
	b->info.target_bytes = keep < MEMORY ? keep : MEMORY;
	b->info.take_bytes = MEMORY - b->info.target_bytes;
	b->info.phase = UMBRA_BALLOON_INFLATING;
	b->on_the_way = true;
	b->still = 0;
	*id = ++b->info.target_id;
	pthread_mutex_unlock(&b->lock);
	return 0;
}

void umbra_balloon_ask_stats(struct umbra_balloon *b)
{
	char text[2];

	if (simulated_knob(&b->knobs, "mute", text, sizeof(text)))
		return;
	pthread_mutex_lock(&b->lock);
	b->asked++;
	b->info.stats.age_ms = 5;
	b->info.stats.values[UMBRA_BALLOON_FREE_MEMORY] = b->asked;
	b->info.stats.values[UMBRA_BALLOON_AVAILABLE_MEMORY] = UINT64_MAX; /* not known */
	pthread_mutex_unlock(&b->lock);
}

unsigned int umbra_balloon_regions(struct umbra_balloon *b, struct umbra_balloon_region *regions,
				   size_t size, unsigned int max)
{
	static const struct umbra_balloon_region all[] = {
		{ .size = MEMORY, .page = 4096 },
		{ .gpa = UINT64_C(1) << 32,
		  .size = 4096,
		  .page = 4096,
		  .kept_reason = "simulated" },
	};

	(void)b;
	assert(size == sizeof(*regions));
	for (unsigned int i = 0; i < 2 && i < max; i++)
		regions[i] = all[i];
	return 2;
}

void umbra_balloon_query(struct umbra_balloon *b, struct umbra_balloon_info *info, size_t size)
{
	assert(size == sizeof(*info));
	pthread_mutex_lock(&b->lock);
	*info = b->info;
	pthread_mutex_unlock(&b->lock);
}

void umbra_balloon_destroy(struct umbra_balloon **out)
{
	struct umbra_balloon *b = *out;

	if (!b)
		return;
	simulated_knobs_close(&b->knobs);
	pthread_mutex_destroy(&b->lock);
	free(b);
	*out = NULL;
}
