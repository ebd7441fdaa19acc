/* SPDX-License-Identifier: BSD-2-Clause */
/* A thread that serves queues: see worker.h. */
#include "host/worker.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/thread.h"
#include "host/interrupter.h"
#include "host/notifier.h"

#define EVENTS_MAX 64
/* Passes in a row for one queue before the others are looked at: some hundred
 * microseconds at most. */
#define PASSES_MAX 16
#define STACK_BYTES (256u << 10)
/*
 * How long to look for work before sleeping, ns: longer than it takes a
 * notification to wake a peer on another processor and the peer to answer.
 * Shorter ones (3 to 25 us) found too little to pay for themselves; figures are
 * in docs/performance.md.
 */
#define LOOK_NS 50000
#define LOOK_SKIPS_MAX 127u /* sleeps without a look, after looks in vain */
#define LOOKS_PER_CLOCK 8u  /* looks between two readings of the clock */
#define HITS_PER_EPOLL 64u  /* looks that found work, before the fds have their turn */

/* One fd that the worker listens on. */
struct source {
	struct served *served;
	int fd;
	bool reads;        /* no eventfd: has to be read */
	uint64_t *counter; /* of notifications that came */
};

struct served {
	struct queue_service *service;
	struct served *next;
	struct source kick, call;
	struct notifier kick_out, call_out;
	bool ready; /* wants a pass */
	bool armed; /* said so in its last pass */
	bool polls; /* the guest does not kick: look all the time */
};

/* What another thread wants done on this one. */
struct worker_request {
	int (*run)(struct worker *w, void *argument);
	void *argument;
	int result;
	bool done;
};

struct worker {
	pthread_t thread;
	int epoll_fd;
	int request_fd; /* eventfd: a request is there */
	struct notifier broken;
	struct served *served; /* the thread's own */
	bool stops;            /* the thread's own */
	bool looks;            /* queues are moved without being armed; the thread's own */
	unsigned int skips, skips_next, hits; /* the thread's own */
	struct interrupter interrupter;       /* the thread's own */
	pthread_mutex_t lock;                 /* guards the rest */
	int started;                          /* 1, or -errno; 0: not known yet */
	pthread_cond_t answered;
	struct worker_request *request;
};

/* --- on the thread ------------------------------------------------------- */

static void source_remove(struct worker *w, struct source *source)
{
	if (source->fd >= 0)
		epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
	source->fd = -1;
}

static void served_break(struct worker *w, struct served *s, const char *fault)
{
	/* Nobody would read them any more. */
	source_remove(w, &s->kick);
	source_remove(w, &s->call);
	s->ready = s->polls = false;
	s->service->fault = fault;
	/* Release; peer: the device's acquire when it looks for broken queues,
	 * check_queues() of each device. */
	__atomic_store_n(&s->service->broken, true, __ATOMIC_RELEASE);
	notifier_send(&w->broken);
}

/* NULL, or why the queue is broken. */
static const char *served_notify(struct worker *w, struct served *s, unsigned int actions)
{
	const char *fault = NULL;

	if (actions & QUEUE_KICK_BACKEND && notifier_send(&s->kick_out))
		fault = "the back-end made its kick fd block: a full counter, without O_NONBLOCK";
	if (actions & QUEUE_CALL_GUEST && notifier_send(&s->call_out))
		fault = "the front-end made its call fd block: a full counter, without O_NONBLOCK";
	if (unlikely(actions & QUEUE_NOTICE))
		notifier_send(&w->broken);
	return fault;
}

/* Passes until the queue sleeps, or its turn is over. */
static void served_run(struct worker *w, struct served *s)
{
	struct queue_service *service = s->service;
	bool moves = w->looks && service->move;
	unsigned int notify = 0;
	const char *fault;

	s->armed = false;
	for (unsigned int i = 0; i < PASSES_MAX; i++) {
		int actions = (moves ? service->move : service->pass)(service->queue, &notify);

		fault = served_notify(w, s, actions < 0 ? notify : (unsigned int)actions);
		if (actions < 0 || fault) {
			/* What the queue itself says comes first. */
			served_break(w, s, actions < 0 ? NULL : fault);
			return;
		}
		if (!(actions & QUEUE_MORE)) {
			s->ready = s->polls;
			s->armed = !moves;
			return;
		}
		if (actions & QUEUE_YIELD)
			return;
	}
}

static bool worker_run_ready(struct worker *w)
{
	bool again = false;

	for (struct served *s = w->served; s; s = s->next) {
		if (s->ready)
			served_run(w, s);
		again |= s->ready;
	}
	return again;
}

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static bool worker_look_once(struct worker *w)
{
	bool found = false;

	for (struct served *s = w->served; s; s = s->next)
		if (s->service->move && !s->service->broken &&
		    s->service->has_work(s->service->queue))
			found = s->ready = true;
	return found;
}

/* Look for work until there is some, or it is time to sleep. */
static bool worker_look(struct worker *w)
{
	uint64_t end = clock_now_ns() + LOOK_NS;

	do {
		for (unsigned int i = 0; i < LOOKS_PER_CLOCK; i++) {
			if (worker_look_once(w)) {
				w->skips_next = 0;
				w->hits++;
				return true;
			}
			relax();
		}
	} while (clock_now_ns() < end);
	w->skips_next = MIN(2 * w->skips_next + 1, LOOK_SKIPS_MAX);
	w->skips = w->skips_next;
	return false;
}

/* Looking was in vain: passes that arm the queues.  True: not yet idle. */
static bool worker_arm(struct worker *w)
{
	w->looks = false;
	for (struct served *s = w->served; s; s = s->next)
		s->ready |= !s->armed && !s->service->broken;
	return worker_run_ready(w);
}

/* Woken: shall the thread look before it sleeps again? */
static void worker_woken(struct worker *w)
{
	w->looks = w->skips == 0;
	w->skips -= !w->looks;
}

static void worker_request_serve(struct worker *w)
{
	struct worker_request *request;

	notifier_drain(w->request_fd);
	pthread_mutex_lock(&w->lock);
	request = w->request;
	w->request = NULL;
	if (request) {
		request->result = request->run(w, request->argument);
		request->done = true;
		pthread_cond_signal(&w->answered);
	}
	pthread_mutex_unlock(&w->lock);
}

/* True: the queue is broken, and @source is no longer watched. */
static bool source_read(struct worker *w, struct source *source)
{
	int rc = source->reads ? notifier_drain(source->fd) : 0;

	if (rc == -EINTR)
		served_break(w, source->served, "a kick fd blocks whoever reads it");
	else if (rc)
		served_break(w, source->served,
			     "the other end of its kick fd is closed: no kick can come");
	return rc;
}

/*
 * Wait for events.  Outside of this function the interrupter runs, unless nothing
 * is ready; a tick that finds the thread asleep says that it has been idle for a
 * while, and stops it: no traffic costs nothing.
 */
static int worker_wait(struct worker *w, struct epoll_event *events, bool busy)
{
	int n;

	for (;;) {
		n = epoll_wait(w->epoll_fd, events, EVENTS_MAX, busy ? 0 : -1);
		if (n > 0)
			interrupter_start(&w->interrupter);
		if (n >= 0 || busy)
			return n;
		interrupter_stop(&w->interrupter);
	}
}

static void worker_serve(struct worker *w)
{
	struct epoll_event events[EVENTS_MAX];

	while (!w->stops) {
		bool busy = worker_run_ready(w);
		bool asked = false;
		int n;

		if (!busy && w->looks) {
			busy = worker_look(w) || worker_arm(w);
			/* While looks find work, the fds have nothing to say that
			 * matters soon, and to ask them is a system call. */
			if (w->looks && w->hits % HITS_PER_EPOLL)
				continue;
		}
		n = worker_wait(w, events, busy);
		if (!busy)
			worker_woken(w);
		for (int i = 0; i < n; i++) {
			struct source *source = events[i].data.ptr;

			if (!source) {
				asked = true;
				continue;
			}
			counter_add(source->counter, 1);
			if (source->served->service->broken)
				continue;
			if (!source_read(w, source))
				source->served->ready = true;
		}
		/* Last: a request may free what the events point to. */
		if (asked)
			worker_request_serve(w);
	}
}

static void *worker_thread(void *argument)
{
	struct worker *w = argument;
	int rc = interrupter_create(&w->interrupter);

	pthread_mutex_lock(&w->lock);
	w->started = rc ? rc : 1;
	pthread_cond_signal(&w->answered);
	pthread_mutex_unlock(&w->lock);
	if (rc)
		return NULL;
	worker_serve(w);
	interrupter_destroy(&w->interrupter);
	return NULL;
}

static int source_add(struct worker *w, struct served *s, struct source *source, int fd,
		      uint64_t *counter)
{
	struct epoll_event event = { .events = EPOLLIN };

	*source = (struct source){ .served = s, .fd = fd, .counter = counter };
	if (fd < 0)
		return 0;
	source->reads = !is_eventfd(fd);
	if (!source->reads)
		event.events |= EPOLLET;
	event.data.ptr = source;
	return epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

static int served_add(struct worker *w, void *argument)
{
	struct served *s = argument;
	struct queue_service *service = s->service;
	int rc;

	s->call.fd = -1;
	rc = source_add(w, s, &s->kick, service->kick_in, service->kicks_in);
	if (!rc)
		rc = source_add(w, s, &s->call, service->call_in, service->calls_in);
	if (rc) {
		source_remove(w, &s->kick);
		return rc;
	}
	s->polls = service->kick_in < 0;
	s->ready = true;
	s->next = w->served;
	w->served = s;
	return 0;
}

static int served_remove(struct worker *w, void *argument)
{
	struct served *s = argument;
	struct served **link = &w->served;

	while (*link != s)
		link = &(*link)->next;
	*link = s->next;
	source_remove(w, &s->kick);
	source_remove(w, &s->call);
	return 0;
}

static int worker_stop(struct worker *w, void *argument)
{
	(void)argument;
	w->stops = true;
	return 0;
}

/* --- from outside -------------------------------------------------------- */

static int worker_ask(struct worker *w, int (*run)(struct worker *w, void *), void *argument)
{
	struct worker_request request = { .run = run, .argument = argument };
	struct notifier bell = { .fd = w->request_fd, .kind = NOTIFIER_EVENTFD };

	pthread_mutex_lock(&w->lock);
	w->request = &request;
	notifier_send(&bell);
	while (!request.done)
		pthread_cond_wait(&w->answered, &w->lock);
	pthread_mutex_unlock(&w->lock);
	return request.result;
}

static int worker_start(struct worker *w)
{
	int rc = thread_start(&w->thread, STACK_BYTES, worker_thread, w);

	if (rc)
		return rc;
	pthread_mutex_lock(&w->lock);
	while (!w->started)
		pthread_cond_wait(&w->answered, &w->lock);
	pthread_mutex_unlock(&w->lock);
	if (w->started > 0)
		return 0;
	pthread_join(w->thread, NULL);
	return w->started;
}

int worker_create(int broken_fd, struct worker **out, struct umbra_error *err)
{
	struct epoll_event event = { .events = EPOLLIN };
	struct worker *w = calloc(1, sizeof(*w));
	int rc;

	if (!w)
		return error_set(err, -ENOMEM, "no memory for a thread");
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->answered, NULL);
	w->broken = notifier_make(broken_fd);
	w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	w->request_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w->epoll_fd < 0 || w->request_fd < 0 ||
	    epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, w->request_fd, &event))
		rc = -errno;
	else
		rc = worker_start(w);
	if (!rc) {
		*out = w;
		return 0;
	}
	error_set(err, rc, "a thread for the queues cannot be started: %s", strerror(-rc));
	fd_close(&w->epoll_fd);
	fd_close(&w->request_fd);
	free(w);
	return rc;
}

void worker_destroy(struct worker **worker)
{
	struct worker *w = *worker;

	*worker = NULL;
	if (!w)
		return;
	worker_ask(w, worker_stop, NULL);
	pthread_join(w->thread, NULL);
	fd_close(&w->epoll_fd);
	fd_close(&w->request_fd);
	pthread_cond_destroy(&w->answered);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

int worker_begin(struct worker *worker, struct queue_service *service, struct umbra_error *err)
{
	struct served *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return error_set(err, -ENOMEM, "no memory to serve a queue");
	s->service = service;
	s->kick_out = notifier_make(service->kick_out);
	s->call_out = notifier_make(service->call_out);
	rc = worker_ask(worker, served_add, s);
	if (rc) {
		free(s);
		return error_set(err, rc, "a queue's eventfds cannot be watched: %s",
				 strerror(-rc));
	}
	service->server = s;
	return 0;
}

void worker_end(struct worker *worker, struct queue_service *service)
{
	struct served *s = service->server;

	worker_ask(worker, served_remove, s);
	service->server = NULL;
	free(s);
}
