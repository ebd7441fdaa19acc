/* SPDX-License-Identifier: BSD-2-Clause */
/* A session's life, and what it does for its device: see session.h. */
#include "session/session.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <time.h>

#include "base/bits.h"
#include "base/clock.h"
#include "base/error.h"
#include "host/mapping_guard.h"
#include "host/notifier.h"
#include "host/worker.h"
#include "ring/device_host.h"

/* At the end, after the wait for requests: for a back-end to answer that its rings are
 * stopped all the same. */
#define END_GRACE_MS 1000u

/* --- the end ---------------------------------------------------------------------------- */

void session_stop(struct session *s)
{
	/* Nothing here that a signal handler may not do; nobody hushes these bells. */
	bool again = __atomic_exchange_n(&s->asked_to_end, true, __ATOMIC_SEQ_CST);

	/* [end].  A front-end that comes just now has no rings yet. */
	if (again || !s->kind->retire || !__atomic_load_n(&s->has_rings, __ATOMIC_SEQ_CST))
		bell_ring(&s->stop);
	bell_ring(&s->end);
}

/*
 * [end] the device's thread, and session_stop() on any other.
 *
 *	the thread                      who stops
 *	has_rings = false               asked_to_end = true
 *	fence                           fence
 *	read asked_to_end, go on        read has_rings
 *
 * At least one sees the other's store: the thread ends, or what it waits for without a
 * ring (a back-end, for seconds) is ended by the bell `stop`.  Release and acquire cannot
 * give that (store, then load); all four are sequentially consistent instead of a fence.
 */
bool session_is_ending(struct session *s)
{
	if (!__atomic_load_n(&s->asked_to_end, __ATOMIC_SEQ_CST)) /* [end] */
		return false;
	if (!s->end_by_us)
		s->end_by_us = clock_now_us() + (s->deadline_ms + END_GRACE_MS) * UINT64_C(1000);
	return true;
}

bool session_is_overdue(struct session *s)
{
	return session_is_ending(s) && clock_now_us() >= s->end_by_us;
}

/* --- for the device ----------------------------------------------------------------------- */

static struct worker *worker_of(struct session *s, const struct queue_service *service)
{
	return s->workers[service->index % s->worker_count];
}

static struct session *session_of(struct device_host *host)
{
	return (struct session *)(void *)((char *)host - offsetof(struct session, host));
}

static uint64_t host_now_us(struct device_host *host)
{
	(void)host;
	return clock_now_us();
}

static void host_notify(struct device_host *host, int fd)
{
	(void)host;
	/* Blocked, its counter is full: as good as a notification. */
	(void)notifier_send_guarded(fd);
}

static int host_serve_begin(struct device_host *host, struct queue_service *service,
			    struct umbra_error *err)
{
	return worker_begin(worker_of(session_of(host), service), service, err);
}

static void host_serve_end(struct device_host *host, struct queue_service *service)
{
	worker_end(worker_of(session_of(host), service), service);
}

static void host_config_changed(struct device_host *host)
{
	session_config_changed(session_of(host));
}

static const struct device_host_ops host_ops = {
	.now_us = host_now_us,
	.notify = host_notify,
	.serve_begin = host_serve_begin,
	.serve_end = host_serve_end,
	.config_changed = host_config_changed,
};

struct device_host *session_host(struct session *s)
{
	s->host.ops = &host_ops;
	return &s->host;
}

int session_sleep_us(struct session *s, uint64_t us)
{
	struct pollfd fds[] = {
		{ .fd = s->stop.fd, .events = POLLIN },
		/* What it still has it will not give back. */
		{ .fd = back_end_connection_fd(&s->back), .events = POLLRDHUP },
	};
	struct timespec timeout = {
		.tv_sec = (time_t)(us / 1000000u),
		.tv_nsec = (long)(us % 1000000u) * 1000,
	};

	(void)ppoll(fds, ARRAY_SIZE(fds), &timeout, NULL); /* an error leaves `revents` zero */
	if (fds[0].revents || session_is_overdue(s))
		return -ECANCELED;
	if (fds[1].revents & POLLRDHUP)
		return -ECONNRESET;
	/* The end brings rings to rest for the back-end's sake as well, and has its own deadline.
	 */
	if (session_is_ending(s) || !front_end_has_gone(&s->front))
		return 0;
	return error_set(&s->back.given_up, -ECANCELED,
			 "the front-end has gone, while its rings were started or brought to rest");
}

void session_config_changed(struct session *s)
{
	s->config_changed = true;
}

void session_notice(struct session *s)
{
	bell_ring(&s->notice);
}

void session_let_go_of_backend(struct session *s)
{
	s->held_up.text[0] = '\0';
	s->held_up_pause_ms = 0;
	back_end_lose(&s->back);
	session_show(s);
}

/* --- the picture ---------------------------------------------------------------------------- */

void session_show(struct session *s)
{
	pthread_mutex_lock(&s->lock);
	s->unanswered_since_us = 0; /* nobody waits who comes here */
	if (s->kind->show)
		s->kind->show(s);
	pthread_mutex_unlock(&s->lock);
}

void session_describe_wait(const struct session *s, char *text, size_t size)
{
	if (s->back.state == BACK_END_SOUGHT)
		backend_source_describe(s->back.source, text, size);
	else
		doorway_describe(&s->front.doorway, text, size);
}

/* --- life ------------------------------------------------------------------------------------ */

static int workers_start(struct session *s, unsigned int count, struct umbra_error *err)
{
	for (; s->worker_count < count; s->worker_count++) {
		int rc = worker_create(s->broken.fd, &s->workers[s->worker_count], err);

		if (rc)
			return rc;
	}
	return 0;
}

static int session_config_check(const struct session_config *config, struct umbra_error *err)
{
	if (config->threads > SESSION_WORKERS_MAX)
		return error_set(err, -EINVAL, "%u threads were asked for, at most %u are possible",
				 config->threads, SESSION_WORKERS_MAX);
	return 0;
}

int session_open(struct session *s, const struct session_kind *kind, struct virtio_device *device,
		 const struct session_config *config, struct umbra_error *err)
{
	struct bell *const bells[] = { &s->end, &s->stop, &s->broken, &s->notice };
	static const struct session_kind plain;
	int rc = session_config_check(config, err);

	if (rc)
		return rc;
	s->kind = kind ? kind : &plain;
	s->device = device;
	s->deadline_ms = config->deadline_ms;
	s->front = FRONT_END_NONE;
	s->back = BACK_END_NONE;
	s->end = s->stop = s->broken = s->notice = s->desk.bell = BELL_NONE;
	pthread_mutex_init(&s->lock, NULL);
	rc = mapping_guard_install();
	if (rc)
		return error_set(err, rc, "SIGBUS cannot be handled: %s", strerror(-rc));
	for (size_t i = 0; !rc && i < ARRAY_SIZE(bells); i++)
		rc = bell_open(bells[i], err);
	if (!rc)
		rc = request_desk_open(&s->desk, &s->lock, s->deadline_ms, err);
	if (!rc)
		rc = workers_start(s, config->threads ? config->threads : 1, err);
	if (!rc)
		rc = back_end_open(&s->back, config->backend, &config->backend_access, err);
	if (!rc)
		rc = front_end_open(&s->front, &config->doorway, err);
	session_show(s);
	return rc;
}

void session_close(struct session *s)
{
	if (!s->kind)
		return;
	for (unsigned int i = 0; i < s->worker_count; i++)
		worker_destroy(&s->workers[i]);
	front_end_close(&s->front);
	back_end_close(&s->back);
	request_desk_close(&s->desk);
	bell_close(&s->end);
	bell_close(&s->stop);
	bell_close(&s->broken);
	bell_close(&s->notice);
	pthread_mutex_destroy(&s->lock);
	s->kind = NULL;
}
