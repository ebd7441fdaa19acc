/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * umbra_balloon: a balloon device with its sockets and threads.
 *
 * Theory of operation: one thread, the device's, runs balloon_loop(): it accepts a
 * front-end and handles one thing after the other until that is gone: a message of
 * the front-end, a new target, a broken queue, the balloon's progress.  A worker
 * (worker.h) serves the queues and does all discarding.  Others reach the device's
 * thread in three ways only: the stop eventfd, which ends every wait; news (a new
 * target, statistics or a look at the memory's files wanted) at the desk; and the picture
 * in `info`, which the thread renews after each step and anybody may copy.  Nobody but
 * the device's threads touches what a front-end has sent: a thread of the QMP
 * socket must not learn what kind of file can keep it waiting.
 *
 * A message that changes what the queues use waits until the worker has finished
 * its batch; that is as long as one discard takes.
 *
 * Ownership: this struct owns everything below it; see destroy.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "balloon/balloon_device.h"
#include "balloon/balloon_target.h"
#include "balloon/page_run.h"
#include "base/bits.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "host/discard_policy.h"
#include "host/discarder.h"
#include "host/doorway.h"
#include "host/mapping_guard.h"
#include "host/notifier.h"
#include "host/worker.h"
#include "session/bell.h"
#include "session/request.h"
#include "umbra/balloon.h"
#include "vhost_user/vhost_user_server.h"

#define STALL_MS 5000u
#define LOOK_MS 100u /* that a query waits for a fresh look, before it takes an older one */

struct umbra_balloon {
	struct balloon_host host;
	struct balloon_device *device;

	char *name;
	struct balloon_device_config config;
	uint64_t stats_us, stats_asked_us; /* interval, 0: none; last time */
	void (*on_event)(void *opaque, enum umbra_balloon_event_kind kind,
			 const struct umbra_balloon_info *info);
	void *opaque;

	struct doorway doorway;
	struct request_desk desk;
	struct bell stop, broken, moved;
	struct discard_policy policy;
	char told_kept[UMBRA_ERROR_SIZE]; /* the thread's */
	struct worker *worker;

	/* While a front-end is there. */
	struct vhost_user_server *server;
	bool config_changed; /* the front-end is told next */

	pthread_mutex_t lock;                /* guards the rest */
	struct request aim, ask_stats, look; /* news */
	struct umbra_balloon_target target;
	uint64_t target_id; /* of the last one; `info` may not show it yet */
	uint64_t frontends;
	struct memory *memory; /* of the guest, for who asks what the host holds of it */
	struct umbra_balloon_info info;
	uint64_t looked_us; /* when the files were looked at last; 0: never */
};

/* --- the system, for the device -------------------------------------------- */

static struct umbra_balloon *balloon_of(struct balloon_host *host)
{
	return (struct umbra_balloon *)(void *)((char *)host -
						offsetof(struct umbra_balloon, host));
}

static uint64_t host_now_us(struct balloon_host *host)
{
	struct timespec now;

	(void)host;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static void host_judge(struct balloon_host *host, const struct memory_region *region)
{
	discard_policy_judge(&balloon_of(host)->policy, region->backing);
}

static uint64_t host_discard(struct balloon_host *host, struct balloon_discard *list,
			     unsigned int count)
{
	(void)host;
	return discarder_run(list, count);
}

static int host_serve_begin(struct balloon_host *host, struct queue_service *service,
			    struct umbra_error *err)
{
	return worker_begin(balloon_of(host)->worker, service, err);
}

static void host_serve_end(struct balloon_host *host, struct queue_service *service)
{
	worker_end(balloon_of(host)->worker, service);
}

static void host_notify(struct balloon_host *host, int fd)
{
	(void)host;
	/* Blocked, its counter is full: as good as a notification. */
	(void)notifier_send_guarded(fd);
}

/* On the worker's thread. */
static void host_moved(struct balloon_host *host)
{
	bell_ring(&balloon_of(host)->moved);
}

static void host_config_changed(struct balloon_host *host)
{
	balloon_of(host)->config_changed = true;
}

static const struct balloon_host_ops host_ops = {
	.now_us = host_now_us,
	.judge = host_judge,
	.discard = host_discard,
	.serve_begin = host_serve_begin,
	.serve_end = host_serve_end,
	.notify = host_notify,
	.moved = host_moved,
	.config_changed = host_config_changed,
};

/* --- what others see ----------------------------------------------------------- */

/* Under the lock.  Counters go on while nobody renews the rest, so that a query
 * takes them fresh: see umbra_balloon_query(). */
static void info_renew(struct umbra_balloon *u)
{
	const struct virtio_device *virtio = balloon_device_virtio(u->device);
	const struct memory *memory = virtio->ops->memory(virtio);

	uint64_t host_bytes = u->info.host_bytes;

	balloon_device_info(u->device, &u->info);
	u->info.host_bytes = memory ? host_bytes : 0;
	if (u->info.state == UMBRA_BALLOON_WAITING)
		doorway_describe(&u->doorway, u->info.reason, sizeof(u->info.reason));
	u->info.frontends = u->frontends;
	if (u->memory != memory) {
		memory_unref(&u->memory);
		/* The device's snapshot is constant but for its count of references. */
		u->memory = memory ? memory_ref((struct memory *)(uintptr_t)memory) : NULL;
	}
}

static void tell(struct umbra_balloon *u, enum umbra_balloon_event_kind kind)
{
	struct umbra_balloon_info info;

	umbra_balloon_query(u, &info);
	if (kind == UMBRA_BALLOON_EVENT_STATE)
		log_info("the balloon is %s%s%s", umbra_balloon_state_name(info.state),
			 info.reason[0] ? ": " : "", info.reason);
	if (u->on_event)
		u->on_event(u->opaque, kind, &info);
}

/* Say once for each reason that memory is not given back. */
static void kept_tell(struct umbra_balloon *u)
{
	if (!strcmp(u->told_kept, u->info.kept_reason))
		return;
	snprintf(u->told_kept, sizeof(u->told_kept), "%s", u->info.kept_reason);
	if (u->told_kept[0])
		log_warning("guest memory is not given back: %s", u->told_kept);
}

/* See how far the balloon is; returns how long to wait for the next look, ms. */
static int look(struct umbra_balloon *u)
{
	uint64_t now = host_now_us(&u->host), next, wait;
	unsigned int events;

	events = balloon_device_step(u->device, &next);
	pthread_mutex_lock(&u->lock);
	info_renew(u);
	pthread_mutex_unlock(&u->lock);
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

	pthread_mutex_lock(&u->lock);
	target = u->target;
	id = u->target_id;
	pthread_mutex_unlock(&u->lock);
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

	(void)look(u);
	held = discarder_held(u->memory);
	pthread_mutex_lock(&u->lock);
	u->info.host_bytes = held;
	u->looked_us = host_now_us(&u->host);
	pthread_mutex_unlock(&u->lock);
}

/* --- one front-end ---------------------------------------------------------------- */

/* Is this front-end gone?  Handles one round of events. */
static bool session_step(struct umbra_balloon *u)
{
	struct umbra_error err = { "" };
	struct pollfd fds[] = {
		{ .fd = u->stop.fd, .events = POLLIN },
		{ .fd = u->desk.bell.fd, .events = POLLIN },
		{ .fd = u->broken.fd, .events = POLLIN },
		{ .fd = u->moved.fd, .events = POLLIN },
		{ .fd = vhost_user_server_fd(u->server),
		  .events = vhost_user_server_events(u->server) },
		{ .fd = doorway_fd(&u->doorway), .events = POLLIN },
	};
	int wait_ms = look(u), rc;

	if (poll(fds, ARRAY_SIZE(fds), wait_ms) < 0 && errno != EINTR)
		return false;
	if (fds[0].revents)
		return false;
	if (fds[1].revents)
		request_desk_serve(&u->desk);
	if (fds[2].revents) {
		bell_hush(&u->broken);
		balloon_device_check_queues(u->device);
	}
	if (fds[3].revents)
		bell_hush(&u->moved);
	if (fds[5].revents)
		doorway_turn_away(&u->doorway, vhost_user_server_fd(u->server));
	if (balloon_device_check_memory(u->device, &err)) {
		log_error("%s; it is disconnected", err.text);
		return false;
	}
	if (fds[4].revents) {
		rc = vhost_user_server_receive(u->server, &err);
		if (rc < 0)
			log_error("%s; it is disconnected", err.text);
		if (rc <= 0)
			return false;
	}
	if (u->config_changed) {
		u->config_changed = false;
		vhost_user_server_config_changed(u->server);
	}
	return true;
}

/* Serve the front-end on *@front_fd, which is consumed. */
static int session_run(struct umbra_balloon *u, int *front_fd, struct umbra_error *err)
{
	int rc = vhost_user_server_create(front_fd, balloon_device_virtio(u->device), u->stop.fd,
					  &u->server, err);

	if (rc) {
		fd_close(front_fd);
		return rc;
	}
	pthread_mutex_lock(&u->lock);
	u->frontends++;
	pthread_mutex_unlock(&u->lock);
	u->config_changed = false;
	balloon_device_attach(u->device);
	while (session_step(u))
		continue;
	balloon_device_detach(u->device);
	doorway_note_end(vhost_user_server_fd(u->server));
	vhost_user_server_destroy(&u->server);
	look(u);
	return 0;
}

/* --- the device's thread ------------------------------------------------------------ */

static bool is_stopped(const struct umbra_balloon *u)
{
	struct pollfd stop = { .fd = u->stop.fd, .events = POLLIN };

	return poll(&stop, 1, 0) > 0;
}

static int balloon_loop(struct umbra_balloon *u, struct umbra_error *err)
{
	if (u->doorway.connected_fd >= 0)
		return session_run(u, &u->doorway.connected_fd, err);
	while (!is_stopped(u)) {
		struct pollfd fds[] = {
			{ .fd = u->stop.fd, .events = POLLIN },
			{ .fd = u->desk.bell.fd, .events = POLLIN },
			{ .fd = doorway_fd(&u->doorway), .events = POLLIN },
		};
		int looked_ms = look(u), due_ms = doorway_wait_ms(&u->doorway), fd;

		if (due_ms < 0 || (looked_ms >= 0 && looked_ms < due_ms))
			due_ms = looked_ms;
		if (poll(fds, ARRAY_SIZE(fds), due_ms) < 0)
			continue;
		if (fds[1].revents)
			request_desk_serve(&u->desk);
		if (!fds[2].revents && doorway_wait_ms(&u->doorway))
			continue;
		fd = doorway_accept(&u->doorway);
		if (fd < 0)
			continue;
		if (session_run(u, &fd, err))
			log_error("%s", err->text); /* the next front-end may fare better */
	}
	return 0;
}

int umbra_balloon_run(struct umbra_balloon *balloon, struct umbra_error *err)
{
	struct umbra_error local;
	int rc;

	mapping_guard_admit();
	request_desk_attend(&balloon->desk);
	rc = balloon_loop(balloon, err ? err : &local);
	request_desk_abandon(&balloon->desk);
	return rc;
}

/* --- from outside ------------------------------------------------------------------- */

void umbra_balloon_stop(struct umbra_balloon *balloon)
{
	bell_ring(&balloon->stop); /* for good: nobody hushes it */
}

/* Under the lock.  A device that has ended has no use for them. */
static void news(struct umbra_balloon *u, struct request *r)
{
	if (request_leave_locked(&u->desk, r))
		return;
}

int umbra_balloon_set_target(struct umbra_balloon *balloon,
			     const struct umbra_balloon_target *target, uint64_t *id,
			     struct umbra_error *err)
{
	const struct umbra_balloon_info *info = &balloon->info;
	int rc = 0;

	pthread_mutex_lock(&balloon->lock);
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
	pthread_mutex_unlock(&balloon->lock);
	return rc;
}

void umbra_balloon_ask_stats(struct umbra_balloon *balloon)
{
	pthread_mutex_lock(&balloon->lock);
	news(balloon, &balloon->ask_stats);
	pthread_mutex_unlock(&balloon->lock);
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

void umbra_balloon_query(struct umbra_balloon *balloon, struct umbra_balloon_info *info)
{
	struct umbra_balloon_target target;
	uint64_t id;

	pthread_mutex_lock(&balloon->lock);
	/* The thread is never long about it unless it waits for the worker or for a peer, and
	 * then what it saw last must do: `host_age_ms` says so. */
	request_await_locked(&balloon->desk, &balloon->look, LOOK_MS);
	*info = balloon->info;
	info->host_age_ms = balloon->looked_us
				    ? (host_now_us(&balloon->host) - balloon->looked_us) / 1000
				    : UINT64_MAX;
	target = balloon->target;
	id = balloon->target_id;
	pthread_mutex_unlock(&balloon->lock);
	balloon_device_freshen(balloon->device, info);
	if (info->target_id != id)
		wish_show(&target, id, info);
}

unsigned int umbra_balloon_regions(struct umbra_balloon *balloon,
				   struct umbra_balloon_region *regions, unsigned int max)
{
	struct memory *memory;
	unsigned int count;

	pthread_mutex_lock(&balloon->lock);
	memory = balloon->memory ? memory_ref(balloon->memory) : NULL;
	pthread_mutex_unlock(&balloon->lock);
	count = memory ? memory->count : 0;
	for (unsigned int i = 0; i < MIN(count, max); i++) {
		const struct memory_region *r = &memory->regions[i];

		regions[i] = (struct umbra_balloon_region){
			.gpa = r->gpa.v,
			.size = r->size,
			.page = r->backing->page,
		};
		balloon_keep_text(r, regions[i].kept_reason, sizeof(regions[i].kept_reason));
	}
	memory_unref(&memory);
	return count;
}

/* --- life ------------------------------------------------------------------------------ */

static int config_check(const struct umbra_balloon_config *config, struct umbra_error *err)
{
	if (config->only_count > UMBRA_BALLOON_RANGES_MAX)
		return error_set(err, -EINVAL, "%u ranges of memory; expected up to %u",
				 config->only_count, UMBRA_BALLOON_RANGES_MAX);
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
	const struct doorway_config doorway = {
		.path = config->socket_path,
		.access = config->socket_access,
		.connect_path = config->connect_path,
		.fd = config->socket_fd,
	};
	struct balloon_device_config *device = &u->config;
	int rc = mapping_guard_install();

	if (rc)
		return error_set(err, rc, "SIGBUS cannot be handled: %s", strerror(-rc));
	*device = (struct balloon_device_config){
		.target = config->target,
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
	u->target_id = config->target.bytes ? 1 : 0;
	u->host.ops = &host_ops;
	u->stats_us = config->stats_ms * UINT64_C(1000);
	u->on_event = config->on_event;
	u->opaque = config->opaque;
	u->name = strdup(config->name ? config->name : "balloon");
	if (!u->name)
		return error_set(err, -ENOMEM, "no memory for a device");
	rc = discard_policy_init(&u->policy, config->discard_files, config->discard_file_count);
	if (rc)
		return error_set(err, rc, "no memory for a device");
	u->policy.pinned = config->pinned;
	rc = bell_open(&u->stop, err);
	if (!rc)
		rc = request_desk_open(&u->desk, &u->lock, 0, err);
	if (!rc)
		rc = bell_open(&u->broken, err);
	if (!rc)
		rc = bell_open(&u->moved, err);
	if (!rc)
		rc = balloon_device_create(&u->host, device, &u->device, err);
	if (!rc)
		rc = worker_create(u->broken.fd, &u->worker, err);
	if (rc)
		return rc;
	rc = doorway_open(&u->doorway, &doorway, err);
	info_renew(u);
	return rc;
}

int umbra_balloon_create(const struct umbra_balloon_config *config, struct umbra_balloon **out,
			 struct umbra_error *err)
{
	struct umbra_balloon *u;
	int rc = config_check(config, err);

	if (rc)
		return rc;
	u = calloc(1, sizeof(*u));
	if (!u)
		return error_set(err, -ENOMEM, "no memory for a device");
	pthread_mutex_init(&u->lock, NULL);
	u->doorway = DOORWAY_CLOSED;
	u->stop = u->broken = u->moved = u->desk.bell = BELL_NONE;
	u->aim.serve = aim_serve;
	u->ask_stats.serve = ask_stats_serve;
	u->look.serve = look_serve;
	rc = balloon_init(u, config, err);
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
	memory_unref(&u->memory);
	worker_destroy(&u->worker);
	doorway_close(&u->doorway);
	request_desk_close(&u->desk);
	bell_close(&u->stop);
	bell_close(&u->broken);
	bell_close(&u->moved);
	free(u->name);
	discard_policy_fini(&u->policy);
	pthread_mutex_destroy(&u->lock);
	free(u);
}
