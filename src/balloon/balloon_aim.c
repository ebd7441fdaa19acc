/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the driver is told to have in the balloon: see balloon_target.h for what a
 * target means, and struct balloon_aim for what is remembered.
 *
 * Theory of operation: a wish is settled, which makes a number of pages of it, once a
 * driver is there; not before, since memory tables come in pieces and guests go.  A
 * driver that has statistics says in its first what the guest has, within
 * milliseconds of its start.  They are waited for as long as a driver may stand still
 * (stall_ms), and then the table has to do: one may promise statistics and never send
 * any.  A wish that comes later is settled at once by what is known, and the first
 * statistics after it, which are asked for, correct that both ways; the way to it is
 * not over before, as long as the guest moves.  All others, and a table that changes, correct it
 * downwards only.
 */
#include <inttypes.h>

#include "balloon/balloon_device_private.h"
#include "base/log.h"

/* --- the guest's memory ---------------------------------------------------------- */

bool balloon_device_touches(const struct balloon_device_config *config, uint64_t start,
			    uint64_t bytes)
{
	/* No overflow: a region of a memory table does not wrap. */
	for (unsigned int i = 0; i < config->only_count; i++)
		if (start >= config->only[i].start && start < config->only[i].end &&
		    bytes <= config->only[i].end - start)
			return true;
	return !config->only_count;
}

static uint64_t touched_bytes(const struct balloon_device *d)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; d->memory && i < d->memory->count; i++) {
		const struct memory_region *r = &d->memory->regions[i];

		if (balloon_device_touches(&d->config, r->gpa.v, r->size))
			sum += r->size;
	}
	return sum;
}

struct balloon_base balloon_device_base(const struct balloon_device *d)
{
	struct balloon_base base = { .kind = UMBRA_BALLOON_BASE_NONE };

	if (!d->memory)
		return base;
	base.within = touched_bytes(d);
	if (d->config.memory_bytes) {
		base.kind = UMBRA_BALLOON_BASE_OPTION;
		base.bytes = d->config.memory_bytes;
	} else if (d->aim.guest_bytes) {
		base.kind = UMBRA_BALLOON_BASE_GUEST;
		base.bytes = MIN(d->aim.guest_bytes, base.within);
	} else {
		base.kind = UMBRA_BALLOON_BASE_TABLE;
		base.bytes = base.within;
	}
	return base;
}

uint64_t balloon_device_floor(const struct balloon_device *d, const struct balloon_base *base)
{
	return balloon_target_floor(d->config.floor_bytes, base->bytes);
}

/*
 * Read what the guest says that it has.  Are these other statistics than before?
 *
 * Where a driver need not give pages back when the guest runs out of memory, Linux
 * takes what is in the balloon off its total; others do not.  To add it is right for
 * the one, and too much for the others by no more than the table allows; but only
 * while nothing moves, or the two numbers are of two moments.
 */
static bool guest_total_read(struct balloon_device *d)
{
	struct balloon_aim *aim = &d->aim;
	struct umbra_balloon_stats stats;
	uint64_t when = __atomic_load_n(&d->shared.stats.when_us, __ATOMIC_RELAXED);
	uint64_t total, pages = balloon_device_pages(d);
	bool gives_back = FEATURE(d, DEFLATE_ON_OOM);

	if (!when || when == aim->stats_us)
		return false;
	aim->stats_us = when;
	balloon_stats_load(&d->shared.stats, when, &stats);
	if (!(stats.present & 1u << UMBRA_BALLOON_TOTAL_MEMORY))
		return true;
	total = stats.values[UMBRA_BALLOON_TOTAL_MEMORY];
	if (!gives_back && aim->guest_bytes && pages != aim->pages)
		return true;
	if (!gives_back)
		total += MIN(pages << PAGE_RUN_SHIFT, UINT64_MAX - total);
	aim->guest_bytes = total;
	return true;
}

/* --- the wish ------------------------------------------------------------------------ */

/* Nothing is to be taken, whatever the guest says. */
static bool is_all(const struct umbra_balloon_target *wish, const struct balloon_base *base)
{
	return !wish->take && wish->bytes >= MAX(base->within, base->bytes);
}

/* Are the first statistics worth to be waited for? */
static bool must_wait(const struct balloon_device *d, const struct balloon_base *base,
		      uint64_t now_us)
{
	const struct balloon_aim *aim = &d->aim;

	return !is_all(&aim->wish, base) && !d->config.memory_bytes && FEATURE(d, STATS_VQ) &&
	       !aim->stats_us && now_us - aim->since_us < d->config.stall_ms * UINT64_C(1000);
}

static void pages_set(struct balloon_device *d, uint32_t pages)
{
	if (pages == d->aim.pages)
		return;
	d->aim.pages = pages;
	d->host->ops->config_changed(d->host);
}

/* Make pages of the wish. */
static void wish_settle(struct balloon_device *d, const struct balloon_base *base)
{
	struct balloon_aim *aim = &d->aim;
	uint64_t floor = balloon_device_floor(d, base);
	struct umbra_error why;

	if (balloon_target_check(&aim->wish, base->bytes, floor, &why))
		log_warning("the target cannot be kept: %s; the guest keeps the floor", why.text);
	pages_set(d, balloon_target_pages(&aim->wish, base, floor));
}

/* The base is another: make less of the wish, if it has to be, and never more. */
static void wish_correct(struct balloon_device *d, const struct balloon_base *base)
{
	struct balloon_aim *aim = &d->aim;
	uint32_t pages = balloon_target_pages(&aim->wish, base, balloon_device_floor(d, base));

	pages = MIN(pages, aim->pages);
	if (aim->pages)
		log_info("the guest has %" PRIu64 " MiB of memory now, by %s; %u MiB of it %s in "
			 "the balloon, %" PRIu64 " MiB are left",
			 base->bytes >> 20, umbra_balloon_base_name(base->kind),
			 pages >> (20 - PAGE_RUN_SHIFT),
			 pages == aim->pages ? "shall still be" : "may be",
			 (base->bytes - MIN(base->bytes, (uint64_t)pages << PAGE_RUN_SHIFT)) >> 20);
	pages_set(d, pages);
}

bool balloon_device_waits(const struct balloon_device *d)
{
	const struct balloon_aim *aim = &d->aim;

	/* A driver that never sent any is not expected to now. */
	return !aim->settled || (aim->fresh && aim->stats_us);
}

uint64_t balloon_device_aim(struct balloon_device *d)
{
	struct balloon_aim *aim = &d->aim;
	uint64_t now = d->host->ops->now_us(d->host);
	struct balloon_base base;
	bool news;

	if (!balloon_device_has_driver(d)) {
		aim->since_us = 0;
		return UINT64_MAX;
	}
	if (!aim->since_us)
		aim->since_us = MAX(now, 1);
	news = guest_total_read(d);
	base = balloon_device_base(d);
	if (!aim->settled) {
		if (must_wait(d, &base, now))
			return aim->since_us + d->config.stall_ms * UINT64_C(1000);
		aim->settled = true;
		/* What a size to take leaves is not its business. */
		aim->fresh = !aim->wish.take && !is_all(&aim->wish, &base) &&
			     !d->config.memory_bytes && FEATURE(d, STATS_VQ) &&
			     aim->stats_us < MAX(aim->wished_us, 1);
		wish_settle(d, &base);
	} else if (news && aim->fresh && aim->stats_us >= aim->wished_us) {
		aim->fresh = false;
		if (base.bytes != aim->base_bytes)
			wish_settle(d, &base);
	} else if (base.bytes != aim->base_bytes || base.within != aim->within_bytes) {
		wish_correct(d, &base);
	}
	aim->base_bytes = base.bytes;
	aim->within_bytes = base.within;
	return UINT64_MAX;
}

void balloon_device_set_target(struct balloon_device *d, const struct umbra_balloon_target *wish,
			       uint64_t id)
{
	struct balloon_aim *aim = &d->aim;
	uint32_t before = aim->pages;

	aim->wish = *wish;
	aim->id = id;
	aim->settled = false;
	aim->wished_us = d->host->ops->now_us(d->host);
	d->target_anew = true;
	balloon_device_ask_stats(d);
	balloon_device_aim(d);
	/* Also if it is the same: the driver may have given up. */
	if (aim->pages == before)
		d->host->ops->config_changed(d->host);
}

void balloon_device_aim_adopt(struct balloon_device *d, uint32_t pages)
{
	if (d->aim.id)
		return;
	d->aim.wish = (struct umbra_balloon_target){
		.bytes = (uint64_t)pages << PAGE_RUN_SHIFT,
		.take = true,
		.force = true,
	};
	d->aim.settled = true;
	d->aim.pages = pages;
}

/*
 * A driver says how many pages it has when that changes, and so one that happens to
 * have what it shall have would never say.  Told of one page more or less, it does;
 * then it hears the right number.
 */
uint32_t balloon_device_told_pages(const struct balloon_device *d)
{
	uint32_t pages = d->aim.pages;

	if (d->account != BALLOON_ACCOUNT_UNKNOWN || !d->aim.id || !d->aim.settled)
		return pages;
	return pages ? pages - 1 : 1;
}

void balloon_device_aim_anew(struct balloon_device *d)
{
	struct balloon_aim *aim = &d->aim;

	aim->settled = aim->fresh = false;
	aim->pages = 0;
	aim->since_us = 0;
	aim->guest_bytes = 0;
	aim->stats_us = 0;
}

uint64_t balloon_device_target_bytes(const struct balloon_device *d,
				     const struct balloon_base *base)
{
	const struct umbra_balloon_target *wish = &d->aim.wish;

	if (base->kind == UMBRA_BALLOON_BASE_NONE)
		return wish->take ? 0 : wish->bytes;
	if (d->aim.settled)
		return base->bytes - MIN(base->bytes, (uint64_t)d->aim.pages << PAGE_RUN_SHIFT);
	return wish->take ? base->bytes - MIN(base->bytes, wish->bytes)
			  : MIN(base->bytes, wish->bytes);
}

const char *umbra_balloon_base_name(enum umbra_balloon_base base)
{
	switch (base) {
	case UMBRA_BALLOON_BASE_NONE:
		return "none";
	case UMBRA_BALLOON_BASE_TABLE:
		return "table";
	case UMBRA_BALLOON_BASE_GUEST:
		return "guest";
	case UMBRA_BALLOON_BASE_OPTION:
		return "option";
	}
	return "unknown";
}
