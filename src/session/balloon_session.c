/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * umbra_balloon: the session (session.h) of a balloon.
 *
 * What is its own: no back-end, one worker, which serves the queues and does all discarding,
 * and three pieces of news for the thread (a new target; statistics, or a look at the
 * memory's files, wanted).  Nobody but the device's threads touches what a front-end has sent:
 * a thread of the control socket must not learn what kind of file can keep it waiting.
 *
 * A message that changes what the queues use waits until the worker has finished
 * its batch; that is as long as one discard takes.
 *
 * Ownership: this struct owns everything below it; see destroy.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "balloon/balloon_device.h"
#include "balloon/balloon_target.h"
#include "balloon/page_run.h"
#include "base/bits.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/sized.h"
#include "host/discard_policy.h"
#include "host/discarder.h"
#include "host/mapping.h"
#include "session/balloon_keep.h"
#include "session/session.h"
#include "umbra/balloon.h"

#define STALL_MS 5000u
#define LOOK_MS 100u /* that a query waits for a fresh look, before it takes an older one */

struct umbra_balloon {
	struct session session;
	struct balloon_host host;
	struct balloon_device *device;

	struct balloon_device_config config;
	uint64_t stats_us, stats_asked_us; /* interval, 0: none; last time */
	void (*on_event)(void *opaque, enum umbra_balloon_event_kind kind,
			 const struct umbra_balloon_info *info);
	void *opaque;
	struct discard_policy policy;
	char kept_reason_logged[UMBRA_ERROR_SIZE]; /* the thread's */
	struct keep keep;                          /* the thread's */
	bool comes_back; /* the thread's: nothing is served before the front-end is heard */

	/* Under the session's lock: */
	struct request aim, ask_stats, look; /* news */
	struct umbra_balloon_target target;
	uint64_t target_id;       /* of the last one; `info` may not show it yet */
	uint64_t first_target_id; /* of the one to begin with */
	struct memory *memory;    /* of the guest, for who asks what the host holds of it */
	struct umbra_balloon_info info;
	uint64_t looked_us; /* when the files were looked at last; 0: never */
};

/* --- the system, for the device -------------------------------------------- */

static struct umbra_balloon *session_balloon(struct balloon_host *host)
{
	return (struct umbra_balloon *)(void *)((char *)host -
						offsetof(struct umbra_balloon, host));
}

static struct umbra_balloon *balloon_of_session(struct session *s)
{
	return (struct umbra_balloon *)(void *)((char *)s -
						offsetof(struct umbra_balloon, session));
}

static void host_judge(struct balloon_host *host, const struct memory_region *region)
{
	discard_policy_judge(&session_balloon(host)->policy, region->backing);
}

static uint64_t host_discard(struct balloon_host *host, struct balloon_discard *list,
			     unsigned int count)
{
	(void)host;
	return discarder_run(list, count);
}

static int host_make_room(struct balloon_host *host, uint64_t bytes, struct memory_region *room,
			  struct umbra_error *err)
{
	(void)host;
	return mapping_create_own(bytes, room, err);
}

/* On the worker's thread. */
static void host_moved(struct balloon_host *host)
{
	session_notice(&session_balloon(host)->session);
}

static const struct balloon_host_ops host_ops = {
	.judge = host_judge,
	.discard = host_discard,
	.make_room = host_make_room,
	.moved = host_moved,
};

/* --- what others see ----------------------------------------------------------- */

/* Under the lock.  Counters go on while nobody renews the rest, so that a query
 * takes them fresh: see umbra_balloon_query(). */
static void show(struct session *s)
{
	struct umbra_balloon *u = balloon_of_session(s);
	const struct virtio_device *virtio = balloon_device_virtio(u->device);
	const struct memory *memory = virtio->ops->memory(virtio);
	uint64_t host_bytes = u->info.host_bytes;

	balloon_device_info(u->device, &u->info);
	u->info.host_bytes = memory ? host_bytes : 0;
	if (u->info.state == UMBRA_BALLOON_WAITING)
		session_describe_wait(s, u->info.reason, sizeof(u->info.reason));
	u->info.frontends = s->frontends;
	if (u->memory != memory) {
		memory_unref(&u->memory);
		/* The device's snapshot is constant but for its count of references. */
		u->memory = memory ? memory_ref((struct memory *)(uintptr_t)memory) : NULL;
	}
}

static void tell(struct umbra_balloon *u, enum umbra_balloon_event_kind kind)
{
	struct umbra_balloon_info info;

	umbra_balloon_query(u, &info, sizeof(info));
	if (kind == UMBRA_BALLOON_EVENT_STATE)
		log_info("the balloon is %s%s%s", umbra_balloon_state_name(info.state),
			 info.reason[0] ? ": " : "", info.reason);
	if (u->on_event)
		u->on_event(u->opaque, kind, &info);
}

/* Say once for each reason that memory is not given back. */
static void kept_tell(struct umbra_balloon *u)
{
	if (!strcmp(u->kept_reason_logged, u->info.kept_reason))
		return;
	snprintf(u->kept_reason_logged, sizeof(u->kept_reason_logged), "%s", u->info.kept_reason);
	if (u->kept_reason_logged[0])
		log_warning("guest memory is not given back: %s", u->kept_reason_logged);
}

/* See how far the balloon is. */
static int tend(struct session *s)
{
	struct umbra_balloon *u = balloon_of_session(s);
	uint64_t now = clock_now_us(), next, wait;
	unsigned int events;

	if (u->comes_back && balloon_keep_is_heard(s)) {
		u->comes_back = false;
		balloon_keep_serve(u->device);
	}
	events = balloon_device_step(u->device, &next);
	session_show(s);
	kept_tell(u);
	for (unsigned int kind = 0; events; kind++, events >>= 1)
		if (events & 1)
			tell(u, (enum umbra_balloon_event_kind)kind);
	if (u->stats_us && u->info.state == UMBRA_BALLOON_RUNNING) {
		if (now - u->stats_asked_us >= u->stats_us) {
			balloon_device_ask_stats(u->device);
			u->stats_asked_us = now;
		}
		next = MIN(next, u->stats_asked_us + u->stats_us);
	}
	balloon_keep_write(&u->keep, s, u->device);
	if (next == UINT64_MAX)
		return -1;
	wait = next > now ? (next - now + 999) / 1000 : 0;
	return wait > INT32_MAX ? INT32_MAX : (int)wait;
}

static void aim_serve(struct request *r)
{
	struct umbra_balloon *u = (void *)((char *)r - offsetof(struct umbra_balloon, aim));
	struct umbra_balloon_target target;
	uint64_t id;

	pthread_mutex_lock(&u->session.lock);
	target = u->target;
	id = u->target_id;
	pthread_mutex_unlock(&u->session.lock);
	balloon_device_set_target(u->device, &target, id);
}

static void ask_stats_serve(struct request *r)
{
	struct umbra_balloon *u = (void *)((char *)r - offsetof(struct umbra_balloon, ask_stats));

	balloon_device_ask_stats(u->device);
}

/* Look what the host holds.  The lock is not held meanwhile: who asks what is known must
 * not wait for a file. */
static void look_serve(struct request *r)
{
	struct umbra_balloon *u = (void *)((char *)r - offsetof(struct umbra_balloon, look));
	uint64_t held;

	(void)tend(&u->session);
	held = discarder_held(u->memory);
	pthread_mutex_lock(&u->session.lock);
	u->info.host_bytes = held;
	u->looked_us = clock_now_us();
	pthread_mutex_unlock(&u->session.lock);
}

static void message_comes(struct session *s)
{
	keep_begin_message(&balloon_of_session(s)->keep);
}

/* The next program finds all at rest. */
static void retire(struct session *s)
{
	struct umbra_balloon *u = balloon_of_session(s);

	if (!u->keep.state.host)
		return;
	balloon_device_rest(u->device);
	balloon_keep_write(&u->keep, s, u->device);
	keep_end(&u->keep);
}

static const struct session_kind balloon_kind = {
	.tend = tend,
	.show = show,
	.message_comes = message_comes,
	.retire = retire,
};

/* --- from outside ------------------------------------------------------------------- */

int umbra_balloon_run(struct umbra_balloon *balloon, struct umbra_error *err)
{
	balloon->comes_back =
		balloon_keep_go_on(&balloon->keep, &balloon->session, balloon->device);
	if (balloon->comes_back) {
		pthread_mutex_lock(&balloon->session.lock);
		/* Who has set a target since means that. */
		if (balloon->target_id == balloon->first_target_id)
			balloon->target = balloon_device_wish(balloon->device, &balloon->target_id);
		pthread_mutex_unlock(&balloon->session.lock);
	}
	return session_run(&balloon->session, err);
}

void umbra_balloon_stop(struct umbra_balloon *balloon)
{
	session_stop(&balloon->session);
}

/* Under the lock.  A device that has ended has no use for them. */
static void news(struct umbra_balloon *u, struct request *r)
{
	if (request_leave_locked(&u->session.desk, r))
		return;
}

int umbra_balloon_set_target(struct umbra_balloon *balloon,
			     const struct umbra_balloon_target *target, uint64_t *id,
			     struct umbra_error *err)
{
	const struct umbra_balloon_info *info = &balloon->info;
	int rc = 0;

	pthread_mutex_lock(&balloon->session.lock);
	/* Without a guest it is judged when one comes, and held at the floor then. */
	if (info->base != UMBRA_BALLOON_BASE_NONE)
		rc = balloon_target_check(target, info->memory_bytes, info->floor_bytes, err);
	if (!rc) {
		balloon->target = *target;
		balloon->target_id++;
		if (id)
			*id = balloon->target_id;
		news(balloon, &balloon->aim);
	}
	pthread_mutex_unlock(&balloon->session.lock);
	return rc;
}

void umbra_balloon_ask_stats(struct umbra_balloon *balloon)
{
	pthread_mutex_lock(&balloon->session.lock);
	news(balloon, &balloon->ask_stats);
	pthread_mutex_unlock(&balloon->session.lock);
}

/* Who has set a target and asks at once must not hear how the one before went. */
static void wish_show(const struct umbra_balloon_target *target, uint64_t id,
		      struct umbra_balloon_info *info)
{
	const struct balloon_base base = {
		.kind = info->base,
		.bytes = info->memory_bytes,
		.within = info->table_bytes,
	};

	info->target_id = id;
	if (info->phase != UMBRA_BALLOON_NO_DRIVER && info->phase != UMBRA_BALLOON_QUEUE_BROKEN)
		info->obstacle[0] = '\0';
	if (base.kind == UMBRA_BALLOON_BASE_NONE) {
		info->target_bytes = target->take ? 0 : target->bytes;
		return;
	}
	info->take_bytes = (uint64_t)balloon_target_pages(target, &base, info->floor_bytes)
			   << PAGE_RUN_SHIFT;
	info->target_bytes = base.bytes - MIN(base.bytes, info->take_bytes);
	if (info->phase != UMBRA_BALLOON_NO_DRIVER && info->phase != UMBRA_BALLOON_QUEUE_BROKEN)
		info->phase = info->take_bytes < info->ballooned_bytes ? UMBRA_BALLOON_DEFLATING
								       : UMBRA_BALLOON_INFLATING;
}

void umbra_balloon_query(struct umbra_balloon *balloon, struct umbra_balloon_info *info,
			 size_t size)
{
	struct umbra_balloon_info known;
	struct umbra_balloon_target target;
	uint64_t id;

	pthread_mutex_lock(&balloon->session.lock);
	/* The thread is never long about it unless it waits for the worker or for a peer, and
	 * then what it saw last must do: `host_age_ms` says so. */
	request_await_locked(&balloon->session.desk, &balloon->look, LOOK_MS);
	known = balloon->info;
	known.struct_size = sizeof(known);
	known.host_age_ms =
		balloon->looked_us ? (clock_now_us() - balloon->looked_us) / 1000 : UINT64_MAX;
	target = balloon->target;
	id = balloon->target_id;
	pthread_mutex_unlock(&balloon->session.lock);
	balloon_device_freshen(balloon->device, &known);
	if (known.target_id != id)
		wish_show(&target, id, &known);
	sized_give(info, size, &known, sizeof(known));
}

unsigned int umbra_balloon_regions(struct umbra_balloon *balloon,
				   struct umbra_balloon_region *regions, size_t size,
				   unsigned int max)
{
	struct memory *memory;
	unsigned int count;

	pthread_mutex_lock(&balloon->session.lock);
	memory = balloon->memory ? memory_ref(balloon->memory) : NULL;
	pthread_mutex_unlock(&balloon->session.lock);
	count = memory ? memory->count : 0;
	for (unsigned int i = 0; i < MIN(count, max); i++) {
		const struct memory_region *r = &memory->regions[i];

		struct umbra_balloon_region known = {
			.gpa = r->gpa.v,
			.size = r->size,
			.page = r->backing->page,
		};
		balloon_keep_text(r, known.kept_reason, sizeof(known.kept_reason));
		sized_give((char *)regions + i * size, size, &known, sizeof(known));
	}
	memory_unref(&memory);
	return count;
}

/* --- life ------------------------------------------------------------------------------ */

static int balloon_config_check(const struct umbra_balloon_config *config, struct umbra_error *err)
{
	if (config->only_count > UMBRA_BALLOON_RANGES_MAX)
		return error_set(err, -EINVAL, "%u ranges of memory; expected up to %u",
				 config->only_count, UMBRA_BALLOON_RANGES_MAX);
	if (config->target_percent > 100 ||
	    (config->target_percent && (config->target.bytes || config->target.take)))
		return error_set(
			err, -EINVAL,
			"%u%% of the guest's memory; expected 1 to 100, and no size beside "
			"it",
			config->target_percent);
	for (unsigned int i = 0; i < config->only_count; i++)
		if (config->only[i].start >= config->only[i].end)
			return error_set(err, -EINVAL,
					 "the range from 0x%" PRIx64 " to 0x%" PRIx64
					 " of memory is empty",
					 config->only[i].start, config->only[i].end);
	return 0;
}

static int balloon_init(struct umbra_balloon *u, const struct umbra_balloon_config *config,
			struct umbra_error *err)
{
	const struct session_config session = {
		.doorway = {
			.path = config->socket_path,
			.access = config->socket_access,
			.connect_path = config->connect_path,
			.fd = config->socket_fd,
		},
	};
	struct balloon_device_config *device = &u->config;
	int rc;

	*device = (struct balloon_device_config){
		.target = config->target,
		.target_percent = config->target_percent,
		.memory_bytes = config->memory_bytes,
		.floor_bytes = config->floor_bytes,
		.only_count = config->only_count,
		.stall_ms = config->stall_ms ? config->stall_ms : STALL_MS,
		/* What is pinned is not given back, and who reports it would be told
		 * that it may be. */
		.hide = config->hide |
			(config->report && !config->pinned ? 0 : UMBRA_BALLOON_HIDE_REPORTING),
		.single_pages = config->single_pages,
		.pinned = config->pinned,
	};
	for (unsigned int i = 0; i < config->only_count; i++)
		device->only[i] = config->only[i];
	u->first_target_id = u->target_id = config->target.bytes || config->target_percent ? 1 : 0;
	u->host.device = session_host(&u->session);
	u->host.ops = &host_ops;
	u->stats_us = config->stats_ms * UINT64_C(1000);
	u->on_event = config->on_event;
	u->opaque = config->opaque;
	rc = discard_policy_init(&u->policy, config->discard_files, config->discard_file_count);
	if (rc)
		return error_set(err, rc, "no memory for a device");
	u->policy.pinned = config->pinned;
	rc = balloon_device_create(&u->host, device, &u->device, err);
	if (rc)
		return rc;
	if (config->fd_store) {
		rc = keep_open(&u->keep, err);
		if (rc)
			return rc;
	}
	rc = session_open(&u->session, &balloon_kind, balloon_device_virtio(u->device), &session,
			  err);
	if (!rc && config->fd_store && u->session.front.is_only)
		return error_set(err, -EINVAL,
				 "a connection that was given cannot be kept for the next program; "
				 "expected a path, or a socket that listens");
	return rc;
}

int umbra_balloon_create(const struct umbra_balloon_config *config, struct umbra_balloon **out,
			 struct umbra_error *err)
{
	struct umbra_balloon_config known;
	struct umbra_balloon *u;
	int rc = sized_take(&known, sizeof(known), config,
			    SIZED_UPTO(struct umbra_balloon_config, opaque),
			    "struct umbra_balloon_config", err);

	if (!rc)
		rc = balloon_config_check(&known, err);
	if (rc)
		return rc;
	u = calloc(1, sizeof(*u));
	if (!u)
		return error_set(err, -ENOMEM, "no memory for a device");
	u->keep = KEEP_NOTHING;
	u->aim.serve = aim_serve;
	u->ask_stats.serve = ask_stats_serve;
	u->look.serve = look_serve;
	rc = balloon_init(u, &known, err);
	if (rc)
		umbra_balloon_destroy(&u);
	else
		*out = u;
	return rc;
}

void umbra_balloon_destroy(struct umbra_balloon **balloon)
{
	struct umbra_balloon *u = *balloon;

	*balloon = NULL;
	if (!u)
		return;
	balloon_device_destroy(&u->device);
	session_close(&u->session);
	keep_close(&u->keep);
	memory_unref(&u->memory);
	discard_policy_fini(&u->policy);
	free(u);
}
