/* SPDX-License-Identifier: BSD-2-Clause */
/* The commands of a balloon: see qmp_balloon.h. */
#include "cli/qmp_balloon.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "cli/feature_names.h"
#include "cli/json_values.h"

#define DEVICE_ID_BALLOON 5 /* virtio 1.2, section 5 */

/* In the order of enum umbra_balloon_stat. */
static const char *const stat_names[UMBRA_BALLOON_STATS] = {
	"swap-in",          "swap-out",     "major-faults",
	"minor-faults",     "free-memory",  "total-memory",
	"available-memory", "disk-caches",  "hugetlb-allocations",
	"hugetlb-failures", "oom-kills",    "alloc-stalls",
	"async-scans",      "direct-scans", "async-reclaims",
	"direct-reclaims",
};

/* What the guest has: QEMU's "actual". */
static uint64_t actual(const struct umbra_balloon_info *info)
{
	return info->memory_bytes - MIN(info->memory_bytes, info->ballooned_bytes);
}

/* A target of "all memory" before one knows how much that is; "umbra ctl ... balloon all"
 * says so by the largest integer of JSON. */
static json_t *target(const struct umbra_balloon_info *info)
{
	return info->target_bytes >= INT64_MAX ? json_null()
					       : json_integer(json_number(info->target_bytes));
}

/* --- events ---------------------------------------------------------------- */

json_t *report_balloon_change(const struct umbra_balloon_info *info)
{
	return json_pack("{s:I}", "actual", json_number(actual(info)));
}

json_t *report_balloon_state(const char *name, const struct umbra_balloon_info *info)
{
	return json_with_text(json_pack("{s:o, s:s}", "name", json_text(name), "state",
					umbra_balloon_state_name(info->state)),
			      "reason", info->reason);
}

json_t *report_balloon_settled(const char *name, const struct umbra_balloon_info *info)
{
	return json_with_text(json_pack("{s:o, s:b, s:I, s:o, s:I, s:I}", "name", json_text(name),
					"reached", info->phase == UMBRA_BALLOON_SETTLED, "actual",
					json_number(actual(info)), "target", target(info),
					"target-id", json_number(info->target_id), "ballooned",
					json_number(info->ballooned_bytes)),
			      "reason", info->obstacle);
}

/* --- commands ---------------------------------------------------------------- */

static void query(struct qmp_call *call, struct umbra_balloon_info *info)
{
	const struct qmp_balloon *subject = call->target->subject;

	umbra_balloon_query(subject->balloon, info, sizeof(*info));
}

static int run_balloon_status(struct qmp_call *call)
{
	struct umbra_balloon_info info;
	json_t *status;

	query(call, &info);
	status = report_balloon_state(call->target->name, &info);
	if (status && json_object_set_new(status, "phase",
					  json_string(umbra_balloon_phase_name(info.phase)))) {
		json_decref(status);
		status = NULL;
	}
	return qmp_answer(call, json_with_text(status, "obstacle", info.obstacle));
}

static int run_balloon(struct qmp_call *call)
{
	const struct qmp_balloon *subject = call->target->subject;
	const json_t *keep = json_object_get(call->arguments, "value");
	const json_t *take = json_object_get(call->arguments, "take");
	json_int_t value = json_integer_value(take ? take : keep);
	struct umbra_balloon_target wish = {
		.bytes = (uint64_t)value,
		.take = take,
		.force = json_is_true(json_object_get(call->arguments, "force")),
	};
	struct umbra_error err = { "" };
	uint64_t id;

	if (!keep == !take)
		return qmp_refuse(call, -EINVAL, QMP_GENERIC_ERROR,
				  "expected either argument 'value', the bytes of memory that the "
				  "guest shall keep, or 'take', those that it shall give");
	if (keep ? value <= 0 : value < 0)
		return qmp_refuse(call, -EINVAL, QMP_GENERIC_ERROR,
				  "argument '%s' is %" JSON_INTEGER_FORMAT
				  ", expected the bytes of memory that the guest shall %s",
				  keep ? "value" : "take", value, keep ? "have" : "give");
	/* QEMU's clients say "all" by more than there can be. */
	if (keep && value == INT64_MAX)
		wish.bytes = UMBRA_BALLOON_ALL_MEMORY;
	if (umbra_balloon_set_target(subject->balloon, &wish, &id, &err))
		return qmp_refuse(call, -EINVAL, QMP_GENERIC_ERROR, "%s", err.text);
	return qmp_answer(call, json_pack("{s:I}", "target-id", json_number(id)));
}

static json_t *regions(const struct qmp_balloon *subject, unsigned int count)
{
	struct umbra_balloon_region *list = calloc(count ? count : 1, sizeof(*list));
	json_t *array = list ? json_array() : NULL;

	count = list ? MIN(count,
			   umbra_balloon_regions(subject->balloon, list, sizeof(*list), count))
		     : 0;
	for (unsigned int i = 0; array && i < count; i++) {
		json_t *region =
			json_pack("{s:I, s:I, s:I, s:b}", "gpa", json_number(list[i].gpa), "size",
				  json_number(list[i].size), "page-size", json_number(list[i].page),
				  "given-back", !list[i].kept_reason[0]);

		json_array_append_new(array, json_with_text(region, "reason", list[i].kept_reason));
	}
	free(list);
	return array;
}

/* How much of the memory may be given back, and why not all. */
static json_t *memory_report(const struct qmp_balloon *subject,
			     const struct umbra_balloon_info *info)
{
	const char *discarding = "all";

	if (info->pinned)
		discarding = "none";
	else if (info->kept_reason[0])
		discarding = info->kept_memory_bytes < info->table_bytes ? "some" : "none";
	return json_with_text(json_pack("{s:s, s:I, s:I, s:o, s:o}", "discarding", discarding,
					"kept", json_number(info->kept_bytes), "host-bytes",
					json_number(info->host_bytes), "host-bytes-age-ms",
					info->host_age_ms == UINT64_MAX
						? json_null()
						: json_integer(json_number(info->host_age_ms)),
					"regions", regions(subject, info->memory_regions)),
			      "kept-reason", info->kept_reason);
}

static int run_query_balloon(struct qmp_call *call)
{
	struct umbra_balloon_info info;
	json_t *sizes, *counts, *memory;

	query(call, &info);
	memory = memory_report(call->target->subject, &info);
	sizes = json_pack(
		"{s:I, s:o, s:I, s:I, s:I, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:I}", "actual",
		json_number(actual(&info)), "target", target(&info), "target-id",
		json_number(info.target_id), "take", json_number(info.take_bytes), "memory",
		json_number(info.memory_bytes), "base", umbra_balloon_base_name(info.base), "table",
		json_number(info.table_bytes), "floor", json_number(info.floor_bytes), "ballooned",
		json_number(info.ballooned_bytes), "driver-ballooned",
		json_number(info.driver_bytes), "adopted", json_number(info.adopted_bytes),
		"unfreed", json_number(info.unfreed_bytes), "phase",
		umbra_balloon_phase_name(info.phase), "rate", json_number(info.rate_bytes));
	counts = json_pack(
		"{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "given-back",
		json_number(info.freed_bytes), "discarded", json_number(info.discarded_bytes),
		"discards", json_number(info.discards), "discard-errors",
		json_number(info.discard_errors), "reported", json_number(info.reported_bytes),
		"messages", json_number(info.messages), "refused-messages",
		json_number(info.refused_messages), "refused-records",
		json_number(info.refused_records), "translate-us", json_number(info.translate_us),
		"discard-us", json_number(info.discard_us), "features",
		features_json(DEVICE_ID_BALLOON, info.guest_features));
	if (json_object_update_missing(sizes, counts) ||
	    json_object_update_missing(sizes, memory)) {
		json_decref(sizes);
		sizes = NULL;
	}
	json_decref(counts);
	json_decref(memory);
	return qmp_answer(call, json_with_text(sizes, "obstacle", info.obstacle));
}

/* A statistic that the driver does not send is null, which is not 0. */
static int run_query_stats(struct qmp_call *call)
{
	const struct qmp_balloon *subject = call->target->subject;
	struct umbra_balloon_info info;
	json_t *stats = json_object();

	query(call, &info);
	for (unsigned int i = 0; stats && i < UMBRA_BALLOON_STATS; i++) {
		/* A driver may send -1 for what it does not know. */
		json_t *value = info.stats.present & 1u << i && info.stats.values[i] != UINT64_MAX
					? json_integer(json_number(info.stats.values[i]))
					: json_null();

		if (!json_object_set_new(stats, stat_names[i], value))
			continue;
		json_decref(stats);
		stats = NULL;
	}
	umbra_balloon_ask_stats(subject->balloon);
	return qmp_answer(call, json_pack("{s:o, s:o}", "age-ms",
					  info.stats.age_ms == UINT64_MAX
						  ? json_null()
						  : json_integer(json_number(info.stats.age_ms)),
					  "stats", stats));
}

const struct qmp_command qmp_balloon_commands[] = {
	{ "query-status", run_balloon_status, { { 0 } } },
	{ "balloon",
	  run_balloon,
	  { { "value", JSON_INTEGER, false },
	    { "take", JSON_INTEGER, false },
	    { "force", JSON_TRUE, false } } },
	{ "query-balloon", run_query_balloon, { { 0 } } },
	{ "query-balloon-stats", run_query_stats, { { 0 } } },
};
const size_t qmp_balloon_command_count = ARRAY_SIZE(qmp_balloon_commands);
