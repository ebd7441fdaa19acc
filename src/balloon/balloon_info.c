/* SPDX-License-Identifier: BSD-2-Clause */
/* What others are told of a balloon device: see balloon_device.h. */
#include <inttypes.h>
#include <stdio.h>

#include "balloon/balloon_device_private.h"

#define PINNED_TEXT "--pinned: devices may have the guest's pages pinned"

static enum umbra_balloon_state state_of(const struct balloon_device *d, const char **reason)
{
	*reason = "";
	for (unsigned int i = 0; i < BALLOON_QUEUES; i++) {
		if (d->rings[i].error[0]) {
			*reason = d->rings[i].error;
			return UMBRA_BALLOON_BROKEN;
		}
	}
	if (!d->attached)
		return UMBRA_BALLOON_WAITING;
	return balloon_device_has_driver(d) ? UMBRA_BALLOON_RUNNING : UMBRA_BALLOON_NEGOTIATING;
}

unsigned int balloon_device_step(struct balloon_device *d, uint64_t *next_us)
{
	uint64_t pages = __atomic_load_n(&d->shared.counters.pages, __ATOMIC_RELAXED);
	enum umbra_balloon_state state;
	unsigned int progress, tell = 0;
	const char *reason;
	uint64_t aim_us = balloon_device_aim(d);
	struct balloon_progress_view view;

	view = (struct balloon_progress_view){
		.target = d->memory ? d->aim.pages : pages,
		.pages = pages,
		.driver = balloon_device_has_driver(d),
		.waits = balloon_device_waits(d),
		.anew = d->target_anew,
	};
	progress =
		balloon_progress_step(&d->progress, d->host->ops->now_us(d->host), &view, next_us);
	*next_us = MIN(*next_us, aim_us);
	d->target_anew = false;
	state = state_of(d, &reason);
	if (state != d->told_state)
		tell |= 1u << UMBRA_BALLOON_EVENT_STATE;
	d->told_state = state;
	if (progress & BALLOON_TELL_CHANGE)
		tell |= 1u << UMBRA_BALLOON_EVENT_CHANGE;
	if (progress & BALLOON_TELL_SETTLED) {
		tell |= 1u << UMBRA_BALLOON_EVENT_SETTLED;
		/* What the guest says now is too late for that target. */
		d->aim.fresh = false;
	}
	return tell;
}

/* Why the guest does not come any nearer, as far as one can know. */
static void obstacle_tell(const struct balloon_device *d, struct umbra_balloon_info *info)
{
	const struct umbra_balloon_stats *s = &info->stats;
	bool knows_free = s->age_ms != UINT64_MAX && s->present & 1u << UMBRA_BALLOON_FREE_MEMORY;
	uint64_t target = (uint64_t)d->aim.pages << PAGE_RUN_SHIFT;
	int n;

	if (info->phase == UMBRA_BALLOON_PENDING) {
		snprintf(info->obstacle, sizeof(info->obstacle), "no driver runs in the guest");
		return;
	}
	if (info->phase != UMBRA_BALLOON_STALLED)
		return;
	n = snprintf(info->obstacle, sizeof(info->obstacle),
		     "the guest's driver stopped at %" PRIu64 " of %" PRIu64 " MiB",
		     info->ballooned_bytes >> 20, target >> 20);
	if (info->ballooned_bytes > target)
		return;
	if (knows_free)
		n += snprintf(info->obstacle + n, sizeof(info->obstacle) - (size_t)n,
			      "; the guest has %" PRIu64 " MiB free",
			      s->values[UMBRA_BALLOON_FREE_MEMORY] >> 20);
	if (s->age_ms != UINT64_MAX && s->present & 1u << UMBRA_BALLOON_AVAILABLE_MEMORY)
		n += snprintf(info->obstacle + n, sizeof(info->obstacle) - (size_t)n,
			      "%s %" PRIu64 " MiB available", knows_free ? "," : "; the guest has",
			      s->values[UMBRA_BALLOON_AVAILABLE_MEMORY] >> 20);
	if (info->discard_errors)
		snprintf(info->obstacle + n, sizeof(info->obstacle) - (size_t)n,
			 "; %" PRIu64 " discards have failed", info->discard_errors);
}

void balloon_device_freshen(const struct balloon_device *d, struct umbra_balloon_info *info)
{
	const struct balloon_counters *c = &d->shared.counters;

#define COUNTER(field) __atomic_load_n(&c->field, __ATOMIC_RELAXED)
	info->ballooned_bytes = COUNTER(pages) << PAGE_RUN_SHIFT;
	info->discards = COUNTER(discards);
	info->discarded_bytes = COUNTER(discarded_bytes);
	info->freed_bytes = COUNTER(freed_bytes);
	info->discard_errors = COUNTER(discard_errors);
	info->reported_bytes = COUNTER(reported_bytes);
	info->kept_bytes = COUNTER(kept_bytes);
	info->messages = COUNTER(messages);
	info->refused_messages = COUNTER(refused_messages);
	info->refused_records = COUNTER(refused_records);
	info->translate_us = COUNTER(translate_us);
	info->discard_us = COUNTER(discard_us);
#undef COUNTER
	balloon_stats_load(&d->shared.stats, d->host->ops->now_us(d->host), &info->stats);
}

const char *balloon_keep_text(const struct memory_region *region, char *text, unsigned int size)
{
	const struct memory_backing *b = region->backing;

	text[0] = '\0';
	/* Acquire; peer: the release in port/discard_policy.c, after keep_who. */
	switch (b ? __atomic_load_n(&b->keeps, __ATOMIC_ACQUIRE) : BALLOON_KEEP_NOTHING) {
	case BALLOON_KEEP_PINNED:
		snprintf(text, size, "%s", PINNED_TEXT);
		break;
	case BALLOON_KEEP_FILE:
		snprintf(text, size,
			 "it is a file on %s, whose content a discard would destroy; "
			 "--discard-file= names none such",
			 b->file_system);
		break;
	case BALLOON_KEEP_NAMED:
		snprintf(text, size,
			 "its file has %u name%s in a folder, where others can find its content; "
			 "--discard-file= names none such",
			 b->file_links, b->file_links == 1 ? "" : "s");
		break;
	case BALLOON_KEEP_OUTSIDE:
		snprintf(text, size, "no --only-region= holds it");
		break;
	case BALLOON_KEEP_HELD:
		snprintf(text, size, "a device may have its pages pinned (%s)", b->keep_who);
		break;
	case BALLOON_KEEP_UNKNOWN:
		snprintf(text, size,
			 "its file cannot be opened anew, to see whether a device has its pages "
			 "pinned (%s)",
			 b->keep_who);
		break;
	default:
		break;
	}
	return text;
}

/* What of the guest's memory is never given back. */
static void kept_tell(const struct balloon_device *d, struct umbra_balloon_info *info)
{
	char text[UMBRA_ERROR_SIZE];

	info->pinned = d->config.pinned;
	if (info->pinned) {
		info->kept_memory_bytes = info->table_bytes;
		snprintf(info->kept_reason, sizeof(info->kept_reason), "%s", PINNED_TEXT);
		return;
	}
	for (unsigned int i = 0; d->memory && i < d->memory->count; i++) {
		const struct memory_region *r = &d->memory->regions[i];

		/* What is not counted is not missing. */
		if (!balloon_device_touches(&d->config, r->gpa.v, r->size) ||
		    !balloon_keep_text(r, text, sizeof(text))[0])
			continue;
		info->kept_memory_bytes += r->size;
		if (!info->kept_reason[0])
			snprintf(info->kept_reason, sizeof(info->kept_reason),
				 "memory region at gpa 0x%" PRIx64 " of %" PRIu64 " KiB: %.160s",
				 r->gpa.v, r->size >> 10, text);
	}
}

void balloon_device_info(const struct balloon_device *d, struct umbra_balloon_info *info)
{
	struct balloon_base base = balloon_device_base(d);
	const char *reason;

	*info = (struct umbra_balloon_info){ .phase = d->progress.phase };
	info->state = state_of(d, &reason);
	snprintf(info->reason, sizeof(info->reason), "%s", reason);
	info->base = base.kind;
	info->memory_bytes = base.bytes;
	info->table_bytes = base.within;
	info->floor_bytes = balloon_device_floor(d, &base);
	info->memory_regions = d->memory ? d->memory->count : 0;
	kept_tell(d, info);
	info->target_bytes = balloon_device_target_bytes(d, &base);
	info->take_bytes = base.bytes - MIN(base.bytes, info->target_bytes);
	info->target_id = d->aim.id;
	info->driver_bytes = d->memory ? (uint64_t)d->actual << PAGE_RUN_SHIFT : 0;
	info->rate_bytes = d->progress.rate << PAGE_RUN_SHIFT;
	info->guest_features = d->features;
	info->offered_features = d->offered;
	balloon_device_freshen(d, info);
	obstacle_tell(d, info);
}

/* --- words ------------------------------------------------------------------------------ */

const char *umbra_balloon_state_name(enum umbra_balloon_state state)
{
	switch (state) {
	case UMBRA_BALLOON_WAITING:
		return "waiting";
	case UMBRA_BALLOON_NEGOTIATING:
		return "negotiating";
	case UMBRA_BALLOON_RUNNING:
		return "running";
	case UMBRA_BALLOON_BROKEN:
		return "broken";
	}
	return "unknown";
}

const char *umbra_balloon_phase_name(enum umbra_balloon_phase phase)
{
	switch (phase) {
	case UMBRA_BALLOON_SETTLED:
		return "settled";
	case UMBRA_BALLOON_INFLATING:
		return "inflating";
	case UMBRA_BALLOON_DEFLATING:
		return "deflating";
	case UMBRA_BALLOON_PENDING:
		return "pending";
	case UMBRA_BALLOON_STALLED:
		return "stalled";
	}
	return "unknown";
}
