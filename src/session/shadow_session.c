/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * umbra_shadow_device: a shadow device with its sockets and threads.
 *
 * Theory of operation: one thread, the device's, runs device_loop(): it accepts
 * a front-end, connects to the back-end for it, and handles one thing after
 * the other until either is gone: a message of the front-end, one of the
 * back-end's channel, a broken queue, a request to switch.  What it does
 * blocks while a back-end answers, and that is meant: a device has one state
 * at a time.  Others reach it in four ways only: the end eventfd, after which it
 * brings its rings to rest and returns; the stop eventfd, which ends every wait; a request (to
 * switch, to save, to load), one at a time, behind the lock; and the picture in `info`, which the
 * thread renews after each step and anybody may copy.
 *
 * A back-end that does not answer is waited for, because to give up would end
 * the connection and with it the guest's device.  What has a deadline is the
 * operator's request: when it passes, the operator is told, and the switch is
 * undone as soon as the back-end answers.
 *
 * Who asks for the end once gets it in order: requests that are with the back-end are
 * waited for, at most the switch deadline, since a guest that is not told of a request
 * that was done waits for it for ever, or has it done again.  Who asks twice does not wait.
 * Where no ring can run the first is as good as the second.
 *
 * Workers (worker.h) serve shadowed rings; queue i belongs to worker i modulo
 * their number.
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
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "device/shadow_device.h"
#include "host/doorway.h"
#include "host/fd_budget.h"
#include "host/mapping.h"
#include "host/mapping_guard.h"
#include "host/notifier.h"
#include "host/peer.h"
#include "host/worker.h"
#include "queue/shadow_host.h"
#include "session/backend_open.h"
#include "session/bell.h"
#include "session/request.h"
#include "umbra/ring.h"
#include "umbra/shadow_device.h"
#include "vhost_user/vhost_user_server.h"

#define SWITCH_DEADLINE_MS 5000u
#define CONNECT_TIMEOUT_MS 10000u /* for a back-end that is about to start */
#define WORKERS_MAX 64u
/* At the end, after the wait for requests: for the back-end to answer that its rings are
 * stopped all the same. */
#define END_GRACE_MS 1000u

/* What somebody asks for; freed when the desk has done with it. */
struct shadow_request {
	struct request request;
	struct umbra_shadow_device *device;
	bool shadowed;
	void *bytes; /* to load, or that were saved; owned */
	size_t size;
	umbra_switch_done *done; /* or: */
	umbra_control_saved *saved;
	void *opaque;
};

struct umbra_shadow_device {
	struct shadow_host host;
	struct shadow_device *device;

	char *name;
	unsigned int deadline_ms;
	void (*on_event)(void *opaque, const struct umbra_event *event);
	void *opaque;

	struct doorway doorway;
	struct backend_source *source;
	enum umbra_device_state mode_told; /* by the log; never SWITCHING */
	struct request_desk desk;
	struct bell end, stop, broken;
	bool asked_to_end, has_session; /* atomic */
	uint64_t end_by_us; /* when the end is not waited for any longer; 0: not asked for */
	unsigned int worker_count;
	struct worker *workers[WORKERS_MAX];

	/* While a front-end is there. */
	struct vhost_user_server *server;
	struct virtio_device *backend;
	bool awaits_backend;     /* a front-end is there, a back-end is not */
	bool config_changed;     /* the back-end said so; the front-end is told next */
	bool slow_told;          /* the log says that the back-end is slow */
	struct umbra_error left; /* why the back-end is no longer waited for; "" */

	pthread_mutex_t lock; /* guards the rest */
	uint64_t frontends;
	struct umbra_shadow_info info; /* without the counters */
};

/* --- the system, for the state machine ------------------------------------ */

static struct umbra_shadow_device *device_of(struct shadow_host *host)
{
	return (struct umbra_shadow_device *)(void *)((char *)host -
						      offsetof(struct umbra_shadow_device, host));
}

static uint64_t host_now_us(struct shadow_host *host)
{
	struct timespec now;

	(void)host;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

/*
 * [end] the device's thread, and umbra_shadow_device_stop() on any other.
 *
 *	the thread                      who stops
 *	has_session = false             asked_to_end = true
 *	fence                           fence
 *	read asked_to_end, go on        read has_session
 *
 * At least one sees the other's store: the thread ends, or what it waits for without a
 * session (a back-end, for seconds) is ended by the bell `stop`.  Release and acquire cannot give
 * that (store, then load); all four are sequentially consistent instead of a fence.
 */
static bool is_ending(struct umbra_shadow_device *u)
{
	if (!__atomic_load_n(&u->asked_to_end, __ATOMIC_SEQ_CST)) /* [end] */
		return false;
	if (!u->end_by_us)
		u->end_by_us =
			host_now_us(&u->host) + (u->deadline_ms + END_GRACE_MS) * UINT64_C(1000);
	return true;
}

static bool is_end_overdue(struct umbra_shadow_device *u)
{
	return is_ending(u) && host_now_us(&u->host) >= u->end_by_us;
}

static int host_wait_us(struct shadow_host *host, uint64_t us)
{
	struct pollfd stop = { .fd = device_of(host)->stop.fd, .events = POLLIN };
	struct timespec timeout = {
		.tv_sec = (time_t)(us / 1000000u),
		.tv_nsec = (long)(us % 1000000u) * 1000,
	};

	if (ppoll(&stop, 1, &timeout, NULL) > 0 || is_end_overdue(device_of(host)))
		return -ECANCELED;
	return 0;
}

static int host_make_memory(struct shadow_host *host, uint64_t size, struct memory_region *out,
			    struct umbra_error *err)
{
	(void)host;
	return mapping_create_own(size, out, err);
}

static int host_make_eventfd(struct shadow_host *host, int *out, struct umbra_error *err)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	(void)host;
	if (fd < 0)
		return error_set(err, -errno, "eventfd: %s", strerror(errno));
	/* Rings are as many as a front-end makes them. */
	if (fd_budget_claim(&fd))
		return error_set(err, -EMFILE,
				 "the limit of open files (RLIMIT_NOFILE) leaves no room for an "
				 "eventfd");
	*out = fd;
	return 0;
}

static void host_notify(struct shadow_host *host, int fd)
{
	(void)host;
	/* Blocked, its counter is full: as good as a notification. */
	(void)notifier_send_guarded(fd);
}

static struct worker *worker_of(struct umbra_shadow_device *u, const struct queue_service *service)
{
	return u->workers[service->index % u->worker_count];
}

static bool host_can_notify(struct shadow_host *host, int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	(void)host;
	return fd < 0 || poll(&p, 1, 0) != 0;
}

static bool host_is_heard(struct shadow_host *host, int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	(void)host;
	return fd < 0 || poll(&p, 1, 0) != 1 || !(p.revents & POLLIN);
}

static int host_serve_begin(struct shadow_host *host, struct queue_service *service,
			    struct umbra_error *err)
{
	return worker_begin(worker_of(device_of(host), service), service, err);
}

static void host_serve_end(struct shadow_host *host, struct queue_service *service)
{
	worker_end(worker_of(device_of(host), service), service);
}

static void info_renew(struct umbra_shadow_device *u)
{
	pthread_mutex_lock(&u->lock);
	shadow_device_info(u->device, &u->info);
	u->info.frontends = u->frontends;
	u->info.backend = (struct umbra_backend_info){ 0 };
	if (u->backend)
		u->backend->ops->info(u->backend, &u->info.backend);
	if (u->info.state != UMBRA_DEVICE_WAITING)
		;
	else if (u->awaits_backend)
		backend_source_describe(u->source, u->info.reason, sizeof(u->info.reason));
	else
		doorway_describe(&u->doorway, u->info.reason, sizeof(u->info.reason));
	pthread_mutex_unlock(&u->lock);
}

/* A line for each change of the mode; broken and lost have lines of their own.  Limited,
 * since a driver decides how often it is reset. */
static void mode_tell(struct umbra_shadow_device *u, const struct umbra_event *event)
{
	const bool runs =
		event->to == UMBRA_DEVICE_PASSTHROUGH || event->to == UMBRA_DEVICE_SHADOWED;

	log_debug("%s -> %s%s%s", umbra_device_state_name(event->from),
		  umbra_device_state_name(event->to), event->reason[0] ? ": " : "", event->reason);
	if (runs && event->to != u->mode_told)
		log_info("the device is %s",
			 event->to == UMBRA_DEVICE_SHADOWED ? "shadowed" : "passed through");
	if (event->to != UMBRA_DEVICE_SWITCHING)
		u->mode_told = event->to;
}

static void host_event(struct shadow_host *host, const struct umbra_event *event)
{
	struct umbra_shadow_device *u = device_of(host);

	info_renew(u);
	if (event->kind == UMBRA_EVENT_STATE)
		mode_tell(u, event);
	if (u->on_event)
		u->on_event(u->opaque, event);
}

static void host_config_changed(struct shadow_host *host)
{
	device_of(host)->config_changed = true;
}

static const struct shadow_host_ops host_ops = {
	.now_us = host_now_us,
	.wait_us = host_wait_us,
	.make_memory = host_make_memory,
	.make_eventfd = host_make_eventfd,
	.notify = host_notify,
	.can_notify = host_can_notify,
	.is_heard = host_is_heard,
	.serve_begin = host_serve_begin,
	.serve_end = host_serve_end,
	.event = host_event,
	.config_changed = host_config_changed,
};

/* --- requests ------------------------------------------------------------- */

static struct shadow_request *asked_of(struct request *r)
{
	return (struct shadow_request *)(void *)((char *)r -
						 offsetof(struct shadow_request, request));
}

/* What the public header calls it: a back-end that does not answer is lost for good, and
 * what was too late goes on as before. */
static int result_of(int code)
{
	if (code == -ETIME)
		return -ETIMEDOUT;
	return code == -ETIMEDOUT ? -ECONNRESET : code;
}

static void switch_serve(struct request *r)
{
	struct umbra_shadow_device *u = asked_of(r)->device;
	struct umbra_error err = { "" };
	int rc = shadow_device_switch(u->device, asked_of(r)->shadowed, &err);

	info_renew(u);
	request_done(&u->desk, r, result_of(rc), &err);
}

static void switch_overdue(struct request *r, const char *waits_for, uint64_t waited_ms,
			   struct umbra_error *err)
{
	error_set(err, -ETIMEDOUT,
		  "%s, and the switch has taken %" PRIu64 " ms; the device goes on in its "
		  "old mode as soon as it can",
		  waits_for, waited_ms);
	shadow_device_switch_overdue(asked_of(r)->device->device, err->text);
}

static void load_serve(struct request *r)
{
	struct shadow_request *asked = asked_of(r);
	struct umbra_shadow_device *u = asked->device;
	struct umbra_error err = { "" };
	int rc = shadow_device_load_control(u->device, asked->bytes, asked->size, &err);

	info_renew(u);
	request_done(&u->desk, r, result_of(rc), &err);
}

static void done_tell(struct request *r, int result, const struct umbra_error *err)
{
	asked_of(r)->done(asked_of(r)->opaque, result, err);
}

static void save_serve(struct request *r)
{
	struct shadow_request *asked = asked_of(r);
	struct umbra_error err = { "" };
	uint8_t *bytes = NULL;
	int rc = shadow_device_save_control(asked->device->device, &bytes, &asked->size, &err);

	asked->bytes = bytes;
	request_done(&asked->device->desk, r, result_of(rc), &err);
}

static void saved_tell(struct request *r, int result, const struct umbra_error *err)
{
	const struct shadow_request *asked = asked_of(r);

	asked->saved(asked->opaque, result, asked->bytes, asked->size, err);
}

static void asked_forget(struct request *r)
{
	free(asked_of(r)->bytes);
	free(asked_of(r));
}

/* The back-end has been waited for, for @waited_ms, to answer @message. */
static int on_backend_wait(void *opaque, const char *message, unsigned int waited_ms,
			   struct umbra_error *err)
{
	struct umbra_shadow_device *u = opaque;
	char waits_for[96];

	if (u->server && peer_has_gone(vhost_user_server_fd(u->server))) {
		error_set(err, -ECANCELED,
			  "the front-end has gone, while the back-end had not answered %s for %u "
			  "ms",
			  message, waited_ms);
		u->left = *err;
		return -ECANCELED;
	}
	if (is_end_overdue(u))
		return error_set(err, -ECANCELED,
				 "the device is stopped, and the back-end has not answered %s for "
				 "%u ms",
				 message, waited_ms);
	snprintf(waits_for, sizeof(waits_for), "the back-end has not answered %s for %u ms",
		 message, waited_ms);
	request_desk_overdue(&u->desk, waits_for);
	if (waited_ms < u->deadline_ms) {
		u->slow_told = false;
		return 0;
	}
	if (!u->slow_told)
		log_warning("%s; still waiting", waits_for);
	u->slow_told = true;
	return 0;
}

/* --- one front-end -------------------------------------------------------- */

static void on_backend_config_change(void *opaque)
{
	struct umbra_shadow_device *u = opaque;

	u->config_changed = true;
}

/* Wait for what a front-end without a back-end can hear; -ECANCELED: it has gone, or we
 * are to stop. */
static int backend_wait(struct umbra_shadow_device *u, int front_fd)
{
	struct pollfd fds[] = {
		{ .fd = u->end.fd, .events = POLLIN },
		{ .fd = front_fd, .events = POLLRDHUP },
		{ .fd = u->desk.bell.fd, .events = POLLIN },
		{ .fd = doorway_fd(&u->doorway), .events = POLLIN },
		{ .fd = backend_source_fd(u->source), .events = POLLIN },
	};

	if (poll(fds, ARRAY_SIZE(fds), backend_source_wait_ms(u->source)) <= 0)
		return 0;
	if (fds[0].revents || fds[1].revents)
		return -ECANCELED;
	if (fds[2].revents)
		request_desk_serve(&u->desk);
	if (fds[3].revents)
		doorway_turn_away(&u->doorway, front_fd);
	return 0;
}

static int backend_connect(struct umbra_shadow_device *u, int front_fd, struct umbra_error *err)
{
	const bool is_patient = backend_source_is_patient(u->source);
	const uint64_t start = host_now_us(&u->host);
	bool told = false;
	int rc;

	backend_source_begin(u->source);
	for (;;) {
		rc = backend_source_try(u->source, u->stop.fd, CONNECT_TIMEOUT_MS, &u->backend,
					err);
		if (rc != -EAGAIN)
			break;
		if (!is_patient && host_now_us(&u->host) - start >= CONNECT_TIMEOUT_MS * 1000ull)
			break;
		u->awaits_backend = true;
		if (is_patient && !told) {
			log_info("%s: the front-end waits for one", err->text);
			shadow_device_wait(u->device);
		}
		told = true;
		info_renew(u);
		if (backend_wait(u, front_fd)) {
			rc = error_set(err, -ECANCELED, "stopped before the back-end was there");
			break;
		}
	}
	u->awaits_backend = false;
	return rc;
}

#define SESSION_FDS 5u /* of ours, before the back-end's */

/* Is this front-end, or the back-end, gone?  Handles one round of events. */
static bool session_step(struct umbra_shadow_device *u, struct umbra_error *lost)
{
	struct umbra_error err = { "" };
	struct pollfd fds[] = {
		{ .fd = u->end.fd, .events = POLLIN },
		{ .fd = u->desk.bell.fd, .events = POLLIN },
		{ .fd = u->broken.fd, .events = POLLIN },
		{ .fd = vhost_user_server_fd(u->server),
		  .events = vhost_user_server_events(u->server) },
		{ .fd = doorway_fd(&u->doorway), .events = POLLIN },
		[SESSION_FDS + BACKEND_FDS_MAX - 1] = { .fd = -1 },
	};
	int backend_fds[BACKEND_FDS_MAX];
	unsigned int backend_count = u->backend->ops->fds(u->backend, backend_fds);
	int rc;

	for (unsigned int i = 0; i < backend_count; i++)
		fds[SESSION_FDS + i] = (struct pollfd){ .fd = backend_fds[i], .events = POLLIN };
	if (poll(fds, SESSION_FDS + backend_count, shadow_device_tend_ms(u->device)) < 0 &&
	    errno != EINTR)
		return false;
	if (fds[0].revents)
		return false;
	if (fds[2].revents) {
		bell_hush(&u->broken);
		shadow_device_check_queues(u->device);
	}
	if (fds[4].revents)
		doorway_turn_away(&u->doorway, vhost_user_server_fd(u->server));
	if (shadow_device_check_memory(u->device, &err)) {
		log_error("%s; it is disconnected", err.text);
		return false;
	}
	for (unsigned int i = 0; i < backend_count; i++)
		if (fds[SESSION_FDS + i].revents && u->backend->ops->dispatch(u->backend, i, lost))
			return false;
	if (fds[1].revents)
		request_desk_serve(&u->desk);
	else if (fds[3].revents) {
		rc = vhost_user_server_receive(u->server, &err);
		if (rc < 0 && rc != -ECANCELED && !is_ending(u))
			log_error("%s; it is disconnected", err.text);
		if (rc <= 0 && !u->left.text[0])
			return false;
	}
	if (!u->left.text[0])
		shadow_device_tend(u->device);
	if (u->left.text[0]) {
		log_info("%s", u->left.text);
		return false;
	}
	if (u->config_changed) {
		u->config_changed = false;
		vhost_user_server_config_changed(u->server);
	}
	info_renew(u);
	return shadow_device_state(u->device) != UMBRA_DEVICE_BACKEND_LOST;
}

/* Asked to end: the guest gets what was done for it, and what was not goes back. */
static void session_rest(struct umbra_shadow_device *u)
{
	struct umbra_error err = { "" };
	unsigned int left;
	int rc = shadow_device_rest(u->device, &left, &err);

	if (rc)
		log_error("the queues were not brought to rest, and %u requests or more are left "
			  "with the back-end: %s",
			  left, err.text);
	else if (left)
		log_error("%u requests are left with the back-end, and the guest is not told of "
			  "them",
			  left);
	else
		log_info("the queues are at rest: no request is left with the back-end");
}

/* Serve the front-end on *@front_fd, which is consumed. */
static int session_run(struct umbra_shadow_device *u, int *front_fd, struct umbra_error *err)
{
	struct umbra_error lost = { "" };
	const struct backend_listener listener = {
		.opaque = u,
		.config_changed = on_backend_config_change,
		.waiting = on_backend_wait,
	};
	struct virtio_device *backend;
	int rc;

	pthread_mutex_lock(&u->lock);
	u->frontends++;
	pthread_mutex_unlock(&u->lock);
	rc = backend_connect(u, *front_fd, err);
	if (rc) {
		info_renew(u);
		error_prefix(err, rc, "no back-end for the front-end that has come");
		if (rc != -ECANCELED) {
			log_error("%s", err->text);
			shadow_device_await(u->device, err->text);
		}
		fd_close(front_fd);
		return rc;
	}
	u->config_changed = false;
	u->left.text[0] = '\0';
	u->backend->ops->listen(u->backend, &listener);
	rc = vhost_user_server_create(front_fd, shadow_device_virtio(u->device), u->end.fd,
				      &u->server, err);
	if (rc) {
		fd_close(front_fd);
		u->backend->ops->destroy(u->backend);
		u->backend = NULL;
		return rc;
	}
	shadow_device_attach(u->device, u->backend);
	__atomic_store_n(&u->has_session, true, __ATOMIC_SEQ_CST); /* [end] */
	while (session_step(u, &lost))
		continue;
	if (is_ending(u) && !lost.text[0])
		session_rest(u);
	__atomic_store_n(&u->has_session, false, __ATOMIC_SEQ_CST); /* [end] */
	if (shadow_device_state(u->device) == UMBRA_DEVICE_BACKEND_LOST) {
		pthread_mutex_lock(&u->lock);
		snprintf(lost.text, sizeof(lost.text), "%s", u->info.reason);
		pthread_mutex_unlock(&u->lock);
	}
	if (lost.text[0])
		log_error("%s; the front-end is disconnected", lost.text);
	else
		doorway_note_end(vhost_user_server_fd(u->server));
	backend = u->backend;
	shadow_device_detach(u->device);
	vhost_user_server_destroy(&u->server);
	backend->ops->destroy(backend);
	u->backend = NULL;
	shadow_device_await(u->device, lost.text[0] ? lost.text : NULL);
	info_renew(u);
	if (lost.text[0]) {
		*err = lost;
		return -ECONNRESET;
	}
	return 0;
}

/* --- the device's thread -------------------------------------------------- */

static int device_loop(struct umbra_shadow_device *u, struct umbra_error *err)
{
	if (u->doorway.connected_fd >= 0) {
		int rc = session_run(u, &u->doorway.connected_fd, err);

		return is_ending(u) ? 0 : rc;
	}
	while (!is_ending(u)) {
		struct pollfd fds[] = {
			{ .fd = u->end.fd, .events = POLLIN },
			{ .fd = u->desk.bell.fd, .events = POLLIN },
			{ .fd = doorway_fd(&u->doorway), .events = POLLIN },
		};
		int fd;

		if (poll(fds, ARRAY_SIZE(fds), doorway_wait_ms(&u->doorway)) < 0)
			continue;
		if (fds[1].revents)
			request_desk_serve(&u->desk);
		if (!fds[2].revents && doorway_wait_ms(&u->doorway))
			continue;
		fd = doorway_accept(&u->doorway);
		if (fd < 0) {
			info_renew(u);
			continue;
		}
		if (session_run(u, &fd, err))
			continue; /* logged; the next front-end may fare better */
	}
	return 0;
}

int umbra_shadow_device_run(struct umbra_shadow_device *device, struct umbra_error *err)
{
	struct umbra_error local;
	int rc;

	mapping_guard_admit();
	request_desk_attend(&device->desk);
	rc = device_loop(device, err ? err : &local);
	request_desk_abandon(&device->desk);
	return rc;
}

/* --- from outside --------------------------------------------------------- */

void umbra_shadow_device_stop(struct umbra_shadow_device *device)
{
	/* Nothing here that a signal handler may not do; nobody hushes these bells. */
	bool again = __atomic_exchange_n(&device->asked_to_end, true, __ATOMIC_SEQ_CST);

	/* [end].  A session that begins just now has no rings yet. */
	if (again || !__atomic_load_n(&device->has_session, __ATOMIC_SEQ_CST))
		bell_ring(&device->stop);
	bell_ring(&device->end);
}

/* Ask the thread for what @wanted says.  0, -EBUSY (there is another), -ECANCELED, -ENOMEM;
 * its bytes are consumed in any case. */
static int ask(struct umbra_shadow_device *u, const struct shadow_request *wanted)
{
	struct shadow_request *asked = malloc(sizeof(*asked));
	int rc;

	if (!asked) {
		free(wanted->bytes);
		return -ENOMEM;
	}
	*asked = *wanted;
	asked->device = u;
	asked->request.forget = asked_forget;
	pthread_mutex_lock(&u->lock);
	rc = request_desk_is_busy_locked(&u->desk)
		     ? -EBUSY
		     : request_leave_locked(&u->desk, &asked->request);
	pthread_mutex_unlock(&u->lock);
	if (rc)
		asked_forget(&asked->request);
	return rc;
}

static const struct umbra_error busy = { "another switch is under way" };
static const struct umbra_error busy_too = { "another request is under way" };

int umbra_shadow_device_switch(struct umbra_shadow_device *device, bool shadowed,
			       umbra_switch_done *done, void *opaque)
{
	const struct shadow_request wanted = {
		.request = { .serve = switch_serve, .tell = done_tell, .overdue = switch_overdue },
		.shadowed = shadowed,
		.done = done,
		.opaque = opaque,
	};
	int rc = ask(device, &wanted);

	if (rc != -EBUSY)
		return rc;
	done(opaque, -EBUSY, &busy);
	return 0;
}

int umbra_shadow_device_save_control(struct umbra_shadow_device *device, umbra_control_saved *done,
				     void *opaque)
{
	const struct shadow_request wanted = {
		.request = { .serve = save_serve, .tell = saved_tell },
		.saved = done,
		.opaque = opaque,
	};
	int rc = ask(device, &wanted);

	if (rc != -EBUSY)
		return rc;
	done(opaque, -EBUSY, NULL, 0, &busy_too);
	return 0;
}

int umbra_shadow_device_load_control(struct umbra_shadow_device *device, const void *bytes,
				     size_t size, umbra_switch_done *done, void *opaque)
{
	const struct shadow_request wanted = {
		.request = { .serve = load_serve, .tell = done_tell },
		.bytes = malloc(size ? size : 1),
		.size = size,
		.done = done,
		.opaque = opaque,
	};
	int rc;

	if (!wanted.bytes)
		return -ENOMEM;
	memcpy(wanted.bytes, bytes, size);
	rc = ask(device, &wanted);
	if (rc != -EBUSY)
		return rc;
	done(opaque, -EBUSY, &busy_too);
	return 0;
}

void umbra_shadow_device_query(struct umbra_shadow_device *device, struct umbra_shadow_info *info)
{
	pthread_mutex_lock(&device->lock);
	*info = device->info;
	pthread_mutex_unlock(&device->lock);
	shadow_device_look_control(device->device, &info->control);
	for (unsigned int i = 0; i < info->queue_count; i++) {
		const struct shadow_counters *c = shadow_device_counters(device->device, i);
		struct umbra_queue_info *q = &info->queues[i];

#define COUNTER(field) __atomic_load_n(&c->field, __ATOMIC_RELAXED)
		/* Of a front-end that has gone only the sums are left. */
		q->last_avail_idx = q->size ? COUNTER(last_avail) : 0;
		q->last_used_idx = q->size ? COUNTER(last_used) : 0;
		q->in_flight = q->size ? COUNTER(in_flight) : 0;
		q->requests = COUNTER(requests);
		q->bytes_out = COUNTER(bytes_out);
		q->bytes_in = COUNTER(bytes_in);
		q->kicks_in = COUNTER(kicks_in);
		q->kicks_out = COUNTER(kicks_out);
		q->calls_in = COUNTER(calls_in);
		q->calls_out = COUNTER(calls_out);
		q->clamped = COUNTER(clamped);
		q->returned = COUNTER(returned);
		q->lost = COUNTER(lost);
		q->table_longest = COUNTER(table_longest);
#undef COUNTER
	}
}

/* --- life ------------------------------------------------------------------ */

static int config_check(const struct umbra_shadow_config *config, struct umbra_error *err)
{
	int rc;

	rc = backend_spec_check(config->backend, err);
	if (rc)
		return rc;
	if (config->threads > WORKERS_MAX)
		return error_set(err, -EINVAL, "%u threads were asked for, at most %u are possible",
				 config->threads, WORKERS_MAX);
	if (config->shadow_memory % 4096 || config->shadow_memory > UINT64_C(1) << 40)
		return error_set(
			err, -EINVAL,
			"%llu bytes of shadow memory were asked for, expected whole pages of "
			"4096 bytes, and 1 TiB at most",
			(unsigned long long)config->shadow_memory);
	if (config->table_max > UMBRA_RING_SIZE_MAX)
		return error_set(err, -EINVAL,
				 "indirect tables of %u descriptors were asked for, at most %u are "
				 "possible",
				 config->table_max, UMBRA_RING_SIZE_MAX);
	return 0;
}

static int workers_start(struct umbra_shadow_device *u, unsigned int count, struct umbra_error *err)
{
	for (; u->worker_count < count; u->worker_count++) {
		int rc = worker_create(u->broken.fd, &u->workers[u->worker_count], err);

		if (rc)
			return rc;
	}
	return 0;
}

static int device_init(struct umbra_shadow_device *u, const struct umbra_shadow_config *config,
		       struct umbra_error *err)
{
	const struct doorway_config doorway = {
		.path = config->socket_path,
		.access = config->socket_access,
		.connect_path = config->connect_path,
		.fd = config->socket_fd,
	};
	int rc;

	rc = mapping_guard_install();
	if (rc)
		return error_set(err, rc, "SIGBUS cannot be handled: %s", strerror(-rc));
	u->host.ops = &host_ops;
	u->deadline_ms =
		config->switch_deadline_ms ? config->switch_deadline_ms : SWITCH_DEADLINE_MS;
	u->on_event = config->on_event;
	u->opaque = config->opaque;
	u->name = strdup(config->name ? config->name : "shadow");
	if (!u->name)
		return error_set(err, -ENOMEM, "no memory for a device");
	rc = bell_open(&u->stop, err);
	if (!rc)
		rc = bell_open(&u->end, err);
	if (!rc)
		rc = request_desk_open(&u->desk, &u->lock, u->deadline_ms, err);
	if (!rc)
		rc = bell_open(&u->broken, err);
	if (rc)
		return rc;
	rc = shadow_device_create(&u->host, config->mode, u->deadline_ms, &u->device);
	if (rc)
		return error_set(err, rc, "no memory for a device");
	if (config->table_max)
		shadow_device_limit_tables(u->device, config->table_max);
	shadow_device_limit_memory(u->device, config->shadow_memory);
	rc = workers_start(u, config->threads ? config->threads : 1, err);
	if (!rc)
		rc = backend_source_open(config->backend, &config->socket_access, &u->source, err);
	if (!rc)
		rc = doorway_open(&u->doorway, &doorway, err);
	info_renew(u);
	return rc;
}

int umbra_shadow_device_create(const struct umbra_shadow_config *config,
			       struct umbra_shadow_device **out, struct umbra_error *err)
{
	struct umbra_shadow_device *u;
	int rc = config_check(config, err);

	if (rc)
		return rc;
	u = calloc(1, sizeof(*u));
	if (!u)
		return error_set(err, -ENOMEM, "no memory for a device");
	pthread_mutex_init(&u->lock, NULL);
	u->doorway = DOORWAY_CLOSED;
	u->desk.bell = u->end = u->stop = u->broken = BELL_NONE;
	rc = device_init(u, config, err);
	if (rc)
		umbra_shadow_device_destroy(&u);
	else
		*out = u;
	return rc;
}

void umbra_shadow_device_destroy(struct umbra_shadow_device **device)
{
	struct umbra_shadow_device *u = *device;

	*device = NULL;
	if (!u)
		return;
	shadow_device_destroy(&u->device);
	for (unsigned int i = 0; i < u->worker_count; i++)
		worker_destroy(&u->workers[i]);
	doorway_close(&u->doorway);
	backend_source_close(&u->source);
	bell_close(&u->end);
	bell_close(&u->stop);
	request_desk_close(&u->desk);
	bell_close(&u->broken);
	free(u->name);
	pthread_mutex_destroy(&u->lock);
	free(u);
}
