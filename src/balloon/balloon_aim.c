/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the driver is told to have in the balloon: see balloon_target.h for what a
 * target means, and struct balloon_aim for what is remembered.
 *
 * Theory of operation: a wish is converted, which makes a number of pages of it, once a
 * driver is there; not before, since memory tables come in pieces and guests go.  A
 * driver that has statistics says in its first what the guest has, within
 * milliseconds of its start.  They are waited for as long as a driver may stand still
 * (stall_ms), and then the table has to do: one may promise statistics and never send
 * any.  A wish that comes later is converted at once by what is known, and the first
 * statistics after it, which are asked for, correct that both ways; the way to it is
 * not over before, as long as the guest moves.  All others, and a table that changes, correct it
 * downwards only.  Where the balloon counts in what the guest says, that is good when
 * nothing moves, so that "the first" are the first that are: see total_judge().
 */
#include <inttypes.h>

#include "balloon/balloon_device_private.h"
#include "base/log.h"

/* --- the driver ------------------------------------------------------------------- */

bool balloon_device_has_driver(const struct balloon_device *d)
{
	/* A front-end need not say more than "disabled" when a driver goes. */
	for (unsigned int i = 0; i < 2; i++)
		if (!served_ring_is_started(&d->queues[i].served) ||
		    !d->queues[i].served.front.enabled)
			return false;
	return true;
}

uint64_t balloon_device_pages(const struct balloon_device *d)
{
	return __atomic_load_n(&d->shared.counters.pages, __ATOMIC_RELAXED) +
	       __atomic_load_n(&d->shared.counters.adopted, __ATOMIC_RELAXED);
}

void balloon_device_ask_stats(struct balloon_device *d)
{
	const struct balloon_queue *q = &d->queues[2];

	__atomic_store_n(&d->shared.stats_wanted, d->aim.generation, __ATOMIC_RELAXED);
	if (q->served.state == SERVED_RUNNING && q->kind == BALLOON_QUEUE_STATS)
		device_host_notify(d->host->device, q->served.front.kick_fd);
}

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

	for (unsigned int i = 0; d->rings.memory && i < d->rings.memory->count; i++) {
		const struct memory_region *r = &d->rings.memory->regions[i];

		if (balloon_device_touches(&d->config, r->gpa.v, r->size))
			sum += r->size;
	}
	return sum;
}

struct balloon_base balloon_device_base(const struct balloon_device *d)
{
	struct balloon_base base = { .kind = UMBRA_BALLOON_BASE_NONE };

	if (!d->rings.memory)
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

/* Has the driver been short of what it is told to have for so long that it will move no more? */
static bool has_stalled(const struct balloon_device *d)
{
	return d->progress.phase == UMBRA_BALLOON_STALLED && !d->target_is_set_again &&
	       d->progress.target == d->aim.pages;
}

/* Have all pages come that will, and does the driver say so, if it ever does? */
static bool is_at_rest(const struct balloon_device *d, uint64_t pages)
{
	return (pages == d->aim.pages || has_stalled(d)) && d->account != BALLOON_ACCOUNT_UNKNOWN &&
	       (d->actual == pages || !d->driver_writes_actual);
}

void balloon_device_generation_begin(struct balloon_device *d)
{
	d->aim.generation++;
	d->aim.stats_requests = 0;
	d->aim.unconfirmed_bytes = 0;
}

void balloon_device_stats_start(struct balloon_device *d, bool first)
{
	bool empty = d->account == BALLOON_ACCOUNT_KNOWN && !balloon_device_pages(d);

	/* No queue is in service.  An empty balloon was empty since the driver began. */
	d->shared.stats_generation = first && empty ? d->aim.generation : 0;
	d->shared.stats_turns = d->shared.turns;
}

static void total_ask(struct balloon_device *d)
{
	d->aim.stats_requests++;
	balloon_device_ask_stats(d);
}

/* What statistics were good for. */
enum reading {
	READING_NONE,  /* nothing: there are no others than before, or they are in doubt */
	READING_ROUGH, /* a guess, that is better than what was known */
	READING_SURE,
};

/*
 * Linux takes what is in the balloon off its total, where it need not give pages back
 * when it runs out of memory; others do not.  To add it is right for the one, and too
 * much for the others by no more than the table allows.
 *
 * But what is added must be what was taken off.  We know what came and went, and not when
 * the guest counted: some time since it was asked.  So a total is good if from then on
 * nothing moved, and there was no reason to: the driver had what it was told to have, or had
 * stood still for so long (stall_ms) that it has no more to give.
 * It may still be on its way to a target that was taken back, or not have begun to
 * count memory as its own again that it got back; in neither does it find the same
 * total twice in a row, so that a change is believed at the second time.
 *
 * Rejected: to believe whatever comes when the balloon is at its target.  Statistics of
 * a moment before, which found 255 MiB in the balloon, made a guest of 483 MiB one of
 * 228; targets were refused, and the balloon let shrink for good.
 */
static enum reading total_judge(struct balloon_device *d, uint64_t total,
				const struct balloon_stats_window *w)
{
	struct balloon_aim *aim = &d->aim;
	uint64_t pages = w->pages + d->adopted, all_bytes;

	all_bytes = total + MIN(pages << PAGE_RUN_SHIFT, UINT64_MAX - total);
	if (!w->nothing_moved || w->generation != aim->generation || !is_at_rest(d, pages)) {
		if (aim->guest_bytes)
			return READING_NONE;
		aim->guest_bytes = all_bytes;
		aim->is_guess = true;
		return READING_ROUGH;
	}
	if (aim->guest_bytes && all_bytes != aim->guest_bytes &&
	    all_bytes != aim->unconfirmed_bytes) {
		aim->unconfirmed_bytes = all_bytes;
		/* A guest that never says the same twice is not asked for ever. */
		if (aim->stats_requests < 2)
			total_ask(d);
		return READING_NONE;
	}
	aim->guest_bytes = all_bytes;
	aim->unconfirmed_bytes = 0;
	aim->is_guess = false;
	aim->stats_requests = 0;
	return READING_SURE;
}

/* Read what the guest says that it has. */
static enum reading total_read(struct balloon_device *d)
{
	struct balloon_aim *aim = &d->aim;
	struct balloon_stats_window window;
	struct umbra_balloon_stats stats;
	uint64_t when = __atomic_load_n(&d->shared.stats.when_us, __ATOMIC_RELAXED);
	uint64_t total;

	if (!when || when == aim->stats_read_us)
		return READING_NONE;
	aim->stats_read_us = when;
	balloon_stats_load(&d->shared.stats, when, &stats, &window);
	total = stats.values[UMBRA_BALLOON_TOTAL_MEMORY];
	if (!(stats.present & 1u << UMBRA_BALLOON_TOTAL_MEMORY))
		return READING_SURE;
	if (!FEATURE(d, DEFLATE_ON_OOM))
		return total_judge(d, total, &window);
	aim->guest_bytes = total;
	return READING_SURE;
}

/* --- the wish ------------------------------------------------------------------------ */

/* The wish as a size.  What share of the guest's memory is meant says the base; without one it
 * cannot be told. */
static struct umbra_balloon_target wish_now(const struct balloon_aim *aim,
					    const struct balloon_base *base)
{
	struct umbra_balloon_target wish = aim->wish;

	if (aim->wish_percent && base->kind == UMBRA_BALLOON_BASE_NONE)
		wish.bytes = UMBRA_BALLOON_ALL_MEMORY;
	else if (aim->wish_percent)
		wish.bytes = base->bytes / 100 * aim->wish_percent +
			     base->bytes % 100 * aim->wish_percent / 100;
	return wish;
}

/* Nothing is to be taken, whatever the guest says. */
static bool takes_nothing(const struct balloon_aim *aim, const struct balloon_base *base)
{
	return !aim->wish.take && !aim->wish_percent &&
	       aim->wish.bytes >= MAX(base->within, base->bytes);
}

/* Are the first statistics worth to be waited for? */
static bool must_wait(const struct balloon_device *d, const struct balloon_base *base,
		      uint64_t now_us)
{
	const struct balloon_aim *aim = &d->aim;

	return !takes_nothing(aim, base) && !d->config.memory_bytes && FEATURE(d, STATS_VQ) &&
	       !aim->stats_read_us &&
	       now_us - aim->driver_since_us < d->config.stall_ms * UINT64_C(1000);
}

/* Is the wish to be measured again by what the guest has yet to say? */
static bool must_refresh(const struct balloon_device *d, const struct balloon_base *base)
{
	const struct balloon_aim *aim = &d->aim;

	if (takes_nothing(aim, base) || d->config.memory_bytes || !FEATURE(d, STATS_VQ))
		return false;
	if (aim->is_guess)
		return aim->wish_id;
	/* What a size to take leaves is not its business. */
	return !aim->wish.take && aim->stats_read_us < MAX(aim->wished_us, 1);
}

static void pages_set(struct balloon_device *d, uint32_t pages)
{
	if (pages == d->aim.pages)
		return;
	d->aim.pages = pages;
	balloon_device_generation_begin(d);
	device_host_config_changed(d->host->device);
}

/* Make pages of the wish. */
static void wish_convert(struct balloon_device *d, const struct balloon_base *base)
{
	struct balloon_aim *aim = &d->aim;
	struct umbra_balloon_target wish = wish_now(aim, base);
	uint64_t floor = balloon_device_floor(d, base);
	struct umbra_error why;

	if (balloon_target_check(&wish, base->bytes, floor, &why))
		log_warning("the target cannot be kept: %s; the guest keeps the floor", why.text);
	pages_set(d, balloon_target_pages(&wish, base, floor));
}

/* The base is another: make less of the wish, if it has to be, and never more. */
static void wish_correct(struct balloon_device *d, const struct balloon_base *base)
{
	struct balloon_aim *aim = &d->aim;
	struct umbra_balloon_target wish = wish_now(aim, base);
	uint32_t pages = balloon_target_pages(&wish, base, balloon_device_floor(d, base));

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

/* Ask for what a correction waits for, when the driver is where it shall be. */
static void total_want(struct balloon_device *d)
{
	const struct balloon_aim *aim = &d->aim;

	if (aim->awaits_stats && aim->stats_read_us && !aim->stats_requests &&
	    !FEATURE(d, DEFLATE_ON_OOM) && is_at_rest(d, balloon_device_pages(d)))
		total_ask(d);
}

bool balloon_device_aim_may_change(const struct balloon_device *d)
{
	const struct balloon_aim *aim = &d->aim;

	/* A driver that never sent any is not expected to now. */
	return !aim->is_converted || (aim->awaits_stats && aim->stats_read_us);
}

uint64_t balloon_device_aim(struct balloon_device *d)
{
	struct balloon_aim *aim = &d->aim;
	uint64_t now = device_host_now_us(d->host->device);
	struct balloon_base base;
	enum reading news;

	if (!balloon_device_has_driver(d)) {
		aim->driver_since_us = 0;
		return UINT64_MAX;
	}
	if (!aim->driver_since_us)
		aim->driver_since_us = MAX(now, 1);
	news = total_read(d);
	base = balloon_device_base(d);
	if (!aim->is_converted) {
		if (must_wait(d, &base, now))
			return aim->driver_since_us + d->config.stall_ms * UINT64_C(1000);
		aim->is_converted = true;
		aim->awaits_stats = must_refresh(d, &base);
		wish_convert(d, &base);
	} else if (news == READING_ROUGH) {
		aim->awaits_stats = must_refresh(d, &base);
		if (base.bytes != aim->base_bytes)
			wish_convert(d, &base);
	} else if (news == READING_SURE && aim->awaits_stats &&
		   aim->stats_read_us >= aim->wished_us) {
		aim->awaits_stats = false;
		if (base.bytes != aim->base_bytes)
			wish_convert(d, &base);
	} else if (base.bytes != aim->base_bytes || base.within != aim->within_bytes) {
		wish_correct(d, &base);
	}
	aim->base_bytes = base.bytes;
	aim->within_bytes = base.within;
	total_want(d);
	return UINT64_MAX;
}

void balloon_device_set_target(struct balloon_device *d, const struct umbra_balloon_target *wish,
			       uint64_t id)
{
	struct balloon_aim *aim = &d->aim;
	uint32_t before = aim->pages;

	aim->wish = *wish;
	aim->wish_percent = 0;
	aim->wish_id = id;
	aim->is_converted = false;
	aim->wished_us = device_host_now_us(d->host->device);
	d->target_is_set_again = true;
	balloon_device_generation_begin(d);
	total_ask(d);
	balloon_device_aim(d);
	/* Also if it is the same: the driver may have given up. */
	if (aim->pages == before)
		device_host_config_changed(d->host->device);
}

void balloon_device_aim_adopt(struct balloon_device *d, uint32_t pages)
{
	if (d->aim.wish_id)
		return;
	d->aim.wish = (struct umbra_balloon_target){
		.bytes = (uint64_t)pages << PAGE_RUN_SHIFT,
		.take = true,
		.force = true,
	};
	d->aim.is_converted = true;
	d->aim.pages = pages;
}

/*
 * A driver says how many pages it has when that changes, and so one that happens to
 * have what it shall have would never say.  Told of one page more or less, it does;
 * then it hears the right number.
 */
uint32_t balloon_device_num_pages(const struct balloon_device *d)
{
	uint32_t pages = d->aim.pages;

	if (d->account != BALLOON_ACCOUNT_UNKNOWN || !d->aim.wish_id || !d->aim.is_converted)
		return pages;
	return pages ? pages - 1 : 1;
}

struct umbra_balloon_target balloon_device_wish(const struct balloon_device *d, uint64_t *id)
{
	*id = d->aim.wish_id;
	return d->aim.wish;
}

void balloon_device_aim_forget(struct balloon_device *d)
{
	struct balloon_aim *aim = &d->aim;

	aim->is_converted = aim->awaits_stats = false;
	aim->pages = 0;
	aim->driver_since_us = 0;
	aim->guest_bytes = 0;
	aim->is_guess = false;
	aim->stats_read_us = 0;
	balloon_device_generation_begin(d);
}

uint64_t balloon_device_target_bytes(const struct balloon_device *d,
				     const struct balloon_base *base)
{
	const struct umbra_balloon_target wish = wish_now(&d->aim, base);

	if (base->kind == UMBRA_BALLOON_BASE_NONE)
		return wish.take ? 0 : wish.bytes;
	if (d->aim.is_converted)
		return base->bytes - MIN(base->bytes, (uint64_t)d->aim.pages << PAGE_RUN_SHIFT);
	return wish.take ? base->bytes - MIN(base->bytes, wish.bytes)
			 : MIN(base->bytes, wish.bytes);
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
