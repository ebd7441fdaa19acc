/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A session: a device with its sockets and threads, whatever kind of device it is.
 *
 * Theory of operation.  A kind of device brings a table (struct session_kind) and embeds a
 * struct session; all else is here, once:
 *
 *   - One thread, the device's, runs session_run() (session_thread.c).  It handles one thing
 *     after the other: who comes and goes, a message of the front-end, one of the
 *     back-end's channel, a broken queue, a request.  What it does may block while a
 *     back-end answers, and that is meant: a device has one state at a time.
 *   - Workers (host/worker.h) serve its queues; queue i belongs to worker i modulo their
 *     number.
 *   - Others reach the device's thread in three ways only: session_stop(); a request
 *     (request.h); and the picture, which the thread renews after each step, under the
 *     lock, and anybody may copy under it.
 *
 * Front-end and back-end are two things with a life of their own (front_end.h, back_end.h);
 * session_thread.c is the one place that says what the one's coming and going means for the
 * other.
 *
 * The end.  Who asks for it once gets it in order: the rings are brought to rest first, where
 * the kind has something to bring to rest, since a guest that is not told of a request that was
 * done waits for it for ever, or has it done again.  Who asks twice does not wait.  Where no
 * ring can run the first is as good as the second.
 *
 * Ownership: the session owns all that it opens; the kind owns the device, which outlives
 * session_run(), and is destroyed before session_close(), since its queues are served until
 * then.
 * Threads: session_stop() any, also from a signal handler; session_open() and
 * session_close(), whoever has the device; the rest, the device's.
 */
#ifndef UMBRA_SESSION_SESSION_H
#define UMBRA_SESSION_SESSION_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/doorway.h"
#include "ring/device_host.h"
#include "session/back_end.h"
#include "session/bell.h"
#include "session/front_end.h"
#include "session/request.h"
#include "umbra/error.h"
#include "umbra/socket.h"
#include "virtio/virtio_ops.h"

struct session;
struct worker;

#define SESSION_WORKERS_MAX 64u

/* What a kind of device does for its session, beside being a device (virtio/virtio_ops.h).
 * NULL: nothing. */
struct session_kind {
	/* Something was handled, or it is time: do what is due.  Returns how long until it has
	 * to be called again, ms; -1: no need. */
	int (*tend)(struct session *s);

	/* Renew the picture.  Under the lock. */
	void (*show)(struct session *s);

	/* A message of the front-end is about to be read. */
	void (*message_comes)(struct session *s);
	/* Has the front-end taken pages away from what it brought beside the guest's memory? */
	bool (*region_is_cut)(struct session *s);

	/* The program ends, and rings may run: bring them to rest. */
	void (*retire)(struct session *s);

	/*
	 * Of a kind with a back-end that goes on without one; NULL: none does.  hold(): it is
	 * lost, for @why; true: it is waited for, and so is one that the device has lost by
	 * itself (is_held()).  was_served(): by the one that was lost, so that the next may be
	 * looked for at once, as if nobody had been in vain before.  may_return(): the next one may
	 * be looked for, or why not. give(): it has come.  After an error the device is held as
	 * before; -EINPROGRESS: it is given again when it has answered.
	 */
	bool (*hold)(struct session *s, const struct umbra_error *why);
	bool (*is_held)(struct session *s);
	bool (*was_served)(struct session *s);
	bool (*may_return)(struct session *s, struct umbra_error *why);
	int (*give)(struct session *s, struct virtio_device *backend, struct umbra_error *err);
	/* Nobody is heard while it is given: what was begun cannot be left. */
	bool (*gives_whole)(struct session *s);
	/* It was looked for in vain, for @why, and is again after another pause, or in vain for
	 * another reason. */
	void (*sought)(struct session *s, const struct umbra_error *why);
	/* May a back-end be looked for at all, for a front-end that waits or is served? */
	bool (*may_seek)(struct session *s);

	/* Of a kind with a back-end: */
	/* It has told the device that it is gone.  True, and why. */
	bool (*has_lost_backend)(struct session *s, struct umbra_error *why);
	/* A front-end waits for one that will come by itself. */
	void (*await_backend)(struct session *s);
	/* Both are gone, or it was looked for in vain.  @lost: why there is none; NULL: the
	 * front-end went. */
	void (*parted)(struct session *s, const char *lost);
};

struct session {
	const struct session_kind *kind;
	struct virtio_device *device;
	struct device_host host; /* the device's: session_host() */
	struct front_end front;
	struct back_end back;
	struct request_desk desk;
	struct bell end;    /* asked to end: rung for good, and so is: */
	struct bell stop;   /* asked twice: wait for nothing */
	struct bell broken; /* a worker has set a queue's `broken` */
	struct bell notice; /* there is something for tend() to see */
	bool asked_to_end;  /* atomic */
	bool has_rings;     /* atomic; some may run */
	uint64_t end_by_us; /* when the end is not waited for any longer; 0: not asked for */
	unsigned int deadline_ms;
	bool config_changed; /* the front-end is told next */
	/* Why the next back-end is not there yet: said once in the log; "". */
	struct umbra_error held_up;
	unsigned int held_up_pause_ms; /* that was told last */
	unsigned int worker_count;
	struct worker *workers[SESSION_WORKERS_MAX];

	/* How the last front-end's connection ended: for one that is the only one. */
	int result;
	struct umbra_error error;

	pthread_mutex_t lock; /* guards the rest, and the kind's picture */
	/* While the back-end is waited for: since when, and for the answer to what; 0: it is not.
	 */
	uint64_t unanswered_since_us;
	char unanswered[32];
	uint64_t frontends; /* that have come */
};

struct session_config {
	struct doorway_config doorway;
	const char *backend; /* as of backend_source_open(); NULL: the kind has none */
	struct umbra_socket_access backend_access;
	unsigned int threads;     /* that serve queues; 0: one */
	unsigned int deadline_ms; /* of requests, and of the end */
};

/*
 * Open the session of @device, of a kind that does @kind for it (NULL: nothing).  What may be
 * refused is refused first; the front-end's socket is the last to be opened.  After an error
 * session_close() has to follow, too. -EINVAL, -EADDRINUSE, -ENOMEM, -EBUSY (every real-time signal
 * has a handler), or the code of the system call that failed.
 */
UMBRA_MUST_CHECK int session_open(struct session *s, const struct session_kind *kind,
				  struct virtio_device *device, const struct session_config *config,
				  struct umbra_error *err);
/* Also of one that is zeroed. */
void session_close(struct session *s);

/* Be the device's thread, until session_stop(), or until the only front-end has gone. */
UMBRA_MUST_CHECK int session_run(struct session *s, struct umbra_error *err);

void session_stop(struct session *s);
/* It was asked for; and it is not waited for any longer. */
bool session_is_ending(struct session *s);
bool session_is_overdue(struct session *s);

/* What a device is created with; also before session_open(). */
struct device_host *session_host(struct session *s);
/* Without being asked twice to end, or losing the front-end: -ECANCELED, wait no longer.
 * -ECONNRESET: the back-end has hung up. */
UMBRA_MUST_CHECK int session_sleep_us(struct session *s, uint64_t us);
/* The configuration space has changed. */
void session_config_changed(struct session *s);
/* Have tend() called.  Any thread. */
void session_notice(struct session *s);

/* Let go of the back-end, if there is one, or of looking for it. */
void session_let_go_of_backend(struct session *s);
/* Renew the picture: show(), under the lock. */
void session_show(struct session *s);
/* Whom a session without a front-end, or without a back-end, waits for, as a phrase. */
void session_describe_wait(const struct session *s, char *text, size_t size);

#endif
