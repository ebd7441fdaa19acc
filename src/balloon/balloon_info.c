/* SPDX-License-Identifier: BSD-2-Clause */
/* What others are told of a balloon device: see balloon_device.h. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "balloon/balloon_device_private.h"
#include "base/log.h"

#define PINNED_TEXT "--pinned: devices may have the guest's pages pinned"

static enum umbra_balloon_state state_of(const struct balloon_device *d, const char **reason)
{
	*reason = "";
	for (unsigned int i = 0; i < BALLOON_QUEUES; i++) {
		if (d->queues[i].served.state == SERVED_BROKEN) {
			*reason = d->queues[i].served.error;
			return UMBRA_BALLOON_BROKEN;
		}
	}
	if (!d->attached)
		return UMBRA_BALLOON_WAITING;
	return balloon_device_has_driver(d) ? UMBRA_BALLOON_RUNNING : UMBRA_BALLOON_NEGOTIATING;
}

static const struct served_ring *broken_ring(const struct balloon_device *d)
{
	for (unsigned int i = 0; i < 2; i++)
		if (d->queues[i].served.state == SERVED_BROKEN)
			return &d->queues[i].served;
	return NULL;
}

/* Say once, and then seldom, that the host does not get back what the guest gives. */
static void errors_tell(struct balloon_device *d)
{
	const struct balloon_counters *c = &d->shared.counters;
	uint64_t errors = __atomic_load_n(&c->discard_errors, __ATOMIC_RELAXED);

	if (errors != d->errors_logged)
		log_warning("%" PRIu64
			    " discards have failed so far, the last one by: %s; the host "
			    "keeps that memory",
			    errors, strerror(__atomic_load_n(&c->discard_error, __ATOMIC_RELAXED)));
	d->errors_logged = errors;
}

/* What stands in the way will be asked for: have the guest say how much it has free. */
static void stats_prepare(struct balloon_device *d, uint64_t now_us)
{
	const struct balloon_progress *p = &d->progress;

	if ((p->phase != UMBRA_BALLOON_INFLATING && p->phase != UMBRA_BALLOON_STALLED) ||
	    now_us - p->moved_us < p->stall_us / 2 || d->stats_wanted_us > p->moved_us)
		return;
	d->stats_wanted_us = now_us;
	balloon_device_ask_stats(d);
}

unsigned int balloon_device_step(struct balloon_device *d, uint64_t *next_us)
{
	uint64_t pages = balloon_device_pages(d), now = device_host_now_us(d->host->device);
	uint64_t aim_us = balloon_device_aim(d);
	const struct balloon_progress_view view = {
		.target = d->rings.memory ? d->aim.pages : pages,
		.pages = pages,
		.has_driver = balloon_device_has_driver(d),
		.is_broken = broken_ring(d),
		.is_unknown = d->account == BALLOON_ACCOUNT_UNKNOWN,
		.is_wanted = d->aim.wish_id,
		.has_unfreed = __atomic_load_n(&d->shared.counters.unfreed, __ATOMIC_RELAXED),
		.may_change = balloon_device_aim_may_change(d),
		.is_set_again = d->target_is_set_again,
	};
	enum umbra_balloon_state state;
	unsigned int progress, tell = 0;
	const char *reason;

	progress = balloon_progress_step(&d->progress, now, &view, next_us);
	*next_us = MIN(*next_us, aim_us);
	d->target_is_set_again = false;
	errors_tell(d);
	stats_prepare(d, now);
	state = state_of(d, &reason);
	if (state != d->state_told)
		tell |= 1u << UMBRA_BALLOON_EVENT_STATE;
	d->state_told = state;
	if (progress & BALLOON_TELL_CHANGE)
		tell |= 1u << UMBRA_BALLOON_EVENT_CHANGE;
	if (progress & BALLOON_TELL_SETTLED) {
		tell |= 1u << UMBRA_BALLOON_EVENT_SETTLED;
		/* What the guest says now is too late for that target. */
		d->aim.awaits_stats = false;
	}
	return tell;
}

#define MIB(bytes) ((bytes) >> 20)

/* Why the guest does not come any nearer, as far as one can know. */
static void stalled_tell(const struct balloon_device *d, struct umbra_balloon_info *info,
			 uint64_t now_us)
{
	const struct umbra_balloon_stats *s = &info->stats;
	uint64_t target = (uint64_t)d->aim.pages << PAGE_RUN_SHIFT;
	/* What the guest had before it came so far says nothing. */
	bool is_newer =
		s->age_ms != UINT64_MAX && now_us - s->age_ms * 1000 >= d->progress.moved_us;
	bool knows_free = is_newer && s->present & 1u << UMBRA_BALLOON_FREE_MEMORY;
	int n;

	n = snprintf(info->obstacle, sizeof(info->obstacle),
		     "the guest's driver stopped at %" PRIu64 " of %" PRIu64 " MiB",
		     MIB(info->ballooned_bytes), MIB(target));
	if (info->ballooned_bytes > target)
		return;
	if (knows_free)
		n += snprintf(info->obstacle + n, sizeof(info->obstacle) - (size_t)n,
			      "; the guest has %" PRIu64 " MiB free",
			      MIB(s->values[UMBRA_BALLOON_FREE_MEMORY]));
	if (is_newer && s->present & 1u << UMBRA_BALLOON_AVAILABLE_MEMORY)
		n += snprintf(info->obstacle + n, sizeof(info->obstacle) - (size_t)n,
			      "%s %" PRIu64 " MiB available", knows_free ? "," : "; the guest has",
			      MIB(s->values[UMBRA_BALLOON_AVAILABLE_MEMORY]));
	if (info->discard_errors)
		snprintf(info->obstacle + n, sizeof(info->obstacle) - (size_t)n,
			 "; %" PRIu64 " discards have failed", info->discard_errors);
}

/* Why the host has not got what is in the balloon. */
static void unfreed_tell(const struct balloon_device *d, struct umbra_balloon_info *info)
{
	int error = __atomic_load_n(&d->shared.counters.discard_error, __ATOMIC_RELAXED);
	int n;

	n = snprintf(info->obstacle, sizeof(info->obstacle),
		     "the host has not got %" PRIu64 " KiB of the %" PRIu64
		     " KiB in the balloon back: ",
		     info->unfreed_bytes >> 10, info->ballooned_bytes >> 10);
	if (info->kept_reason[0])
		snprintf(info->obstacle + n, sizeof(info->obstacle) - (size_t)n, "%.400s",
			 info->kept_reason);
	else if (error)
		snprintf(info->obstacle + n, sizeof(info->obstacle) - (size_t)n,
			 "%" PRIu64 " discards have failed, the last one by: %s",
			 info->discard_errors, strerror(error));
	else
		snprintf(info->obstacle + n, sizeof(info->obstacle) - (size_t)n,
			 "it lies in regions that are left alone, or in parts of large pages");
}

static void obstacle_tell(const struct balloon_device *d, struct umbra_balloon_info *info)
{
	const struct served_ring *broken = broken_ring(d);

	switch (info->phase) {
	case UMBRA_BALLOON_NO_DRIVER:
		snprintf(info->obstacle, sizeof(info->obstacle), "%s",
			 d->attached ? "no driver runs in the guest" : "no VMM is connected");
		break;
	case UMBRA_BALLOON_QUEUE_BROKEN:
		if (broken)
			snprintf(info->obstacle, sizeof(info->obstacle),
				 "queue %u is broken: %.480s", broken->front.index, broken->error);
		break;
	case UMBRA_BALLOON_UNKNOWN:
		snprintf(info->obstacle, sizeof(info->obstacle),
			 "the driver ran before this program began to serve it, and has not said "
			 "since how much it has in the balloon");
		break;
	case UMBRA_BALLOON_STALLED:
		stalled_tell(d, info, device_host_now_us(d->host->device));
		break;
	case UMBRA_BALLOON_UNFREED:
		unfreed_tell(d, info);
		break;
	case UMBRA_BALLOON_IDLE:
	case UMBRA_BALLOON_INFLATING:
	case UMBRA_BALLOON_DEFLATING:
	case UMBRA_BALLOON_SETTLED:
		break;
	}
}

void balloon_device_freshen(const struct balloon_device *d, struct umbra_balloon_info *info)
{
	const struct balloon_counters *c = &d->shared.counters;

#define COUNTER(field) __atomic_load_n(&c->field, __ATOMIC_RELAXED)
	info->adopted_bytes = COUNTER(adopted) << PAGE_RUN_SHIFT;
	info->ballooned_bytes = (COUNTER(pages) << PAGE_RUN_SHIFT) + info->adopted_bytes;
	info->unfreed_bytes = COUNTER(unfreed) << PAGE_RUN_SHIFT;
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
	balloon_stats_load(&d->shared.stats, device_host_now_us(d->host->device), &info->stats,
			   NULL);
}

const char *balloon_keep_text(const struct memory_region *region, char *text, unsigned int size)
{
	const struct memory_backing *b = region->backing;

	text[0] = '\0';
	/* Acquire; peer: the release in host/discard_policy.c, after keep_who. */
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
static void kept_memory_tell(const struct balloon_device *d, struct umbra_balloon_info *info)
{
	char text[UMBRA_ERROR_SIZE];

	info->pinned = d->config.pinned;
	if (info->pinned) {
		info->kept_memory_bytes = info->table_bytes;
		snprintf(info->kept_reason, sizeof(info->kept_reason), "%s", PINNED_TEXT);
		return;
	}
	for (unsigned int i = 0; d->rings.memory && i < d->rings.memory->count; i++) {
		const struct memory_region *r = &d->rings.memory->regions[i];

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
	info->memory_regions = d->rings.memory ? d->rings.memory->count : 0;
	kept_memory_tell(d, info);
	info->target_bytes = balloon_device_target_bytes(d, &base);
	info->take_bytes = base.bytes - MIN(base.bytes, info->target_bytes);
	info->target_id = d->aim.wish_id;
	info->driver_bytes = d->rings.memory ? (uint64_t)d->actual << PAGE_RUN_SHIFT : 0;
	info->rate_bytes = d->progress.rate << PAGE_RUN_SHIFT;
	info->guest_features = d->rings.features;
	info->offered_features = d->rings.offered;
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
	case UMBRA_BALLOON_NO_DRIVER:
		return "no-driver";
	case UMBRA_BALLOON_IDLE:
		return "idle";
	case UMBRA_BALLOON_INFLATING:
		return "inflating";
	case UMBRA_BALLOON_DEFLATING:
		return "deflating";
	case UMBRA_BALLOON_SETTLED:
		return "settled";
	case UMBRA_BALLOON_UNFREED:
		return "unfreed";
	case UMBRA_BALLOON_STALLED:
		return "stalled";
	case UMBRA_BALLOON_QUEUE_BROKEN:
		return "broken";
	case UMBRA_BALLOON_UNKNOWN:
		return "unknown";
	}
	return "?";
}
