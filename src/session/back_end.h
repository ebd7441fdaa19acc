/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The back-end of a session: whether one is there, or looked for.
 *
 *	NEEDLESS    (a kind of device that has none)
 *
 *	ABSENT -- back_end_seek() --> SOUGHT -- back_end_try() --> COME -- back_end_admit() -->
 *THERE ^                             |                            |                          |
 *	  +--------------- back_end_let_go(), back_end_lose() -------+--------------------------+
 *
 * It comes and goes by itself: nothing here knows of a front-end.  When it is looked for is
 * the session's to say (session_thread.c).  The process of one that was lost is watched
 * until it ends, because only then it certainly writes no more.
 *
 * Ownership: the source and the connection are its own.
 * Threads: the device's, but for open and close.
 */
#ifndef UMBRA_SESSION_BACK_END_H
#define UMBRA_SESSION_BACK_END_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/marked_process.h"
#include "session/backend_source.h"
#include "umbra/error.h"
#include "umbra/shadow_device.h"
#include "virtio/virtio_ops.h"

enum back_end_state {
	BACK_END_NEEDLESS,
	BACK_END_ABSENT,
	BACK_END_SOUGHT,
	BACK_END_COME,  /* it is connected, and perhaps being told what it has to know */
	BACK_END_THERE, /* it is the device's */
};

struct back_end {
	struct backend_source *source;
	enum back_end_state state;
	/* Of SOUGHT: */
	uint64_t since_us;
	bool is_due;           /* an attempt */
	unsigned int attempts; /* that were in vain */
	/* Of COME and THERE: */
	struct virtio_device *device;
	bool is_slow;                /* the log says so */
	struct umbra_error given_up; /* why its answer is no longer waited for; "" */
	/* Of both, and of one that was lost since: */
	struct peer_process process;
	uint64_t met;    /* how many have been connected to */
	bool is_watched; /* it has not been seen to end */
	/* Of an umbra that died: watched in place of the next one that is lost, in which nobody has
	 * anything. */
	struct peer_process before;
	bool has_before;
};

#define BACK_END_NONE                                                                              \
	((struct back_end){ .state = BACK_END_NEEDLESS,                                            \
			    .process = PEER_PROCESS_NONE,                                          \
			    .before = PEER_PROCESS_NONE })

/* @spec NULL: the device needs none.  Errors of backend_source_open(). */
UMBRA_MUST_CHECK int back_end_open(struct back_end *back, const char *spec,
				   const struct umbra_socket_access *access,
				   struct umbra_error *err);
void back_end_close(struct back_end *back);

/* What to poll of the connection, at most BACKEND_FDS_MAX; returns the number. */
unsigned int back_end_poll(const struct back_end *back, struct pollfd fds[BACKEND_FDS_MAX]);
/* And of its process, which has ended when it is readable: then _watch() does not poll it
 * again. */
/* The connection of one that is THERE; -1. */
int back_end_connection_fd(const struct back_end *back);
struct pollfd back_end_poll_process(const struct back_end *back);
void back_end_watch(struct back_end *back);
/* How long until an attempt is due, ms; -1: nothing is waited for. */
int back_end_wait_ms(const struct back_end *back);

/* Begin to look for one: the first attempt is due. */
void back_end_seek(struct back_end *back);
/* Look on, after one that came and was of no use: with the pauses as if nobody had come. */
void back_end_seek_on(struct back_end *back);
/* While it is SOUGHT: @is_readable is what poll(2) said. */
void back_end_look(struct back_end *back, bool is_readable);

/*
 * Attempt it, if that is due.  1: it has COME.  0: not yet; @err says why, after an attempt.
 * Negative: none will come, for the reason in @err, or @is_patient is false and it has not come
 * for so long.  @stop_fd as of backend_source_try().
 */
UMBRA_MUST_CHECK int back_end_try(struct back_end *back, bool is_patient, int stop_fd,
				  struct umbra_error *err);

/* The device has it: THERE. */
void back_end_admit(struct back_end *back);

/* The back-end of an umbra that died is the process @mark.  True: it has ended for certain.  False:
 * it is the one that is lost when the present one is, of which nothing is wanted yet. */
bool back_end_before_has_ended(struct back_end *back, const struct process_mark *mark);
/* The process of one that was lost: has it ended?  Will it be seen to? */
bool back_end_has_ended(const struct back_end *back);
bool back_end_is_watched(const struct back_end *back);

/* The pause before the next attempt; 0: there is none. */
unsigned int back_end_pause_ms(const struct back_end *back);
/* What umbra_shadow_device_query() shows of it. */
void back_end_show(const struct back_end *back, struct umbra_backend_info *info);

/* Close the connection, or give up looking. */
void back_end_let_go(struct back_end *back);
/* The same, of one that is lost: its process is watched on, until the next one is THERE. */
void back_end_lose(struct back_end *back);

#endif
