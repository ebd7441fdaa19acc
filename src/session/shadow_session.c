/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * umbra_shadow_device: the session (session.h) of a shadow device.
 *
 * What is its own: a back-end, what the state machine needs of the system, and requests (to
 * switch, to save, to load, to hold, ...), one at a time.  The deadline of a request is
 * the switch deadline, and at the end requests that are with the back-end are waited for as
 * long.
 *
 * The operator's hold is not the front-end's: it begins with whoever is there, or nobody, and
 * lasts until the operator releases it, whatever front-ends come and go.  One that comes meanwhile
 * waits.
 *
 * Ownership: this struct owns everything below it; see destroy.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/virtio_ids.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/sized.h"
#include "device/shadow_device.h"
#include "host/mapping.h"
#include "host/notifier.h"
#include "queue/shadow_host.h"
#include "session/session.h"
#include "umbra/ring.h"
#include "umbra/shadow_device.h"

#define SWITCH_DEADLINE_MS 5000u

/* What somebody asks for; freed when the desk has done with it. */
struct shadow_request {
	struct request request;
	struct umbra_shadow_device *device;
	bool shadowed; /* to be; or: */
	bool by_force;
	enum umbra_loss_word word;
	void *bytes; /* to load, or that were saved; owned */
	size_t size;
	umbra_switch_done *done; /* or: */
	umbra_control_saved *saved;
	void *opaque;
};

struct umbra_shadow_device {
	struct session session;
	struct shadow_host host;
	struct shadow_device *device;
	void (*on_event)(void *opaque, const struct umbra_event *event);
	void *opaque;
	enum umbra_device_state mode_told; /* by the log; never SWITCHING */
	uint64_t hold_limit_us;            /* 0: none */
	uint64_t by_hand_us;    /* since when no back-end is wanted; 0: one is.  Written under the
				   session's lock, and so is: */
	uint64_t held_since_us; /* 0: it is not */

	/* Under the session's lock: the back-end's process, for who ends it while the device's
	 * thread waits for it. */
	struct peer_process known;
	uint64_t known_met;                  /* which one it is, as of the back-end's `met` */
	struct umbra_shadow_picture picture; /* without the counters; under the session's lock */
};

/* --- the system, for the state machine ------------------------------------ */

static struct umbra_shadow_device *device_of(struct shadow_host *host)
{
	return (struct umbra_shadow_device *)(void *)((char *)host -
						      offsetof(struct umbra_shadow_device, host));
}

static struct umbra_shadow_device *device_of_session(struct session *s)
{
	return (struct umbra_shadow_device *)(void *)((char *)s -
						      offsetof(struct umbra_shadow_device,
							       session));
}

static int host_wait_us(struct shadow_host *host, uint64_t us)
{
	return session_sleep_us(&device_of(host)->session, us);
}

static int host_make_memory(struct shadow_host *host, uint64_t size, struct memory_region *out,
			    struct umbra_error *err)
{
	(void)host;
	return mapping_create_own(size, out, err);
}

static int host_make_eventfd(struct shadow_host *host, int *out, struct umbra_error *err)
{
	(void)host;
	return notifier_make_eventfd(out, err);
}

static void host_name_backend(struct shadow_host *host, struct process_mark *out)
{
	marked_process_make(&device_of(host)->session.back.process, out);
}

static bool host_has_ended(struct shadow_host *host, const struct process_mark *mark)
{
	return back_end_before_has_ended(&device_of(host)->session.back, mark);
}

static bool host_can_notify(struct shadow_host *host, int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	(void)host;
	return fd < 0 || poll(&p, 1, 0) != 0;
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

	session_show(&u->session);
	if (event->kind == UMBRA_EVENT_STATE)
		mode_tell(u, event);
	if (u->on_event) {
		struct umbra_event lent = *event;

		lent.struct_size = sizeof(lent);
		u->on_event(u->opaque, &lent);
	}
}

static const struct shadow_host_ops host_ops = {
	.wait_us = host_wait_us,
	.make_memory = host_make_memory,
	.make_eventfd = host_make_eventfd,
	.name_backend = host_name_backend,
	.has_ended = host_has_ended,
	.can_notify = host_can_notify,
	.event = host_event,
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

/* Since @us the operator will have no back-end; 0: one is wanted. */
static void hand_set(struct umbra_shadow_device *u, uint64_t us)
{
	pthread_mutex_lock(&u->session.lock);
	u->by_hand_us = us;
	pthread_mutex_unlock(&u->session.lock);
}

static void switch_serve(struct request *r)
{
	struct umbra_shadow_device *u = asked_of(r)->device;
	struct umbra_error err = { "" };
	int rc = shadow_device_switch(u->device, asked_of(r)->shadowed, &err);

	session_show(&u->session);
	request_done(&u->session.desk, r, result_of(rc), &err);
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

	session_show(&u->session);
	request_done(&u->session.desk, r, result_of(rc), &err);
}

static void trust_serve(struct request *r)
{
	struct umbra_shadow_device *u = asked_of(r)->device;
	struct umbra_error err = { "" };
	int rc = 0;

	if (shadow_device_state(u->device) != UMBRA_DEVICE_HELD &&
	    !shadow_device_unsettled(u->device))
		rc = error_set(&err, -EINVAL, "no back-end is waited for: the device is %s",
			       umbra_device_state_name(shadow_device_state(u->device)));
	else
		shadow_device_backend_is_dead(u->device);
	session_show(&u->session);
	request_done(&u->session.desk, r, rc, &err);
}

static void hold_serve(struct request *r)
{
	struct umbra_shadow_device *u = asked_of(r)->device;
	struct session *s = &u->session;
	struct umbra_error err = { "" };
	bool front_has_gone;
	int rc = 0;

	if (u->by_hand_us)
		rc = error_set(&err, -EALREADY, "the device is held by hand already");
	else if (s->front.state == FRONT_END_SERVED)
		rc = shadow_device_hold(u->device, asked_of(r)->by_force, &err);
	/* Its front-end has gone meanwhile: the back-end is let go of with it. */
	front_has_gone = rc == -ECANCELED && s->back.given_up.text[0];
	if (!rc)
		session_let_go_of_backend(s);
	if (front_has_gone)
		rc = 0;
	if (!rc)
		hand_set(u, clock_now_us());
	session_show(s);
	request_done(&s->desk, r, result_of(rc), &err);
}

static void hold_overdue(struct request *r, const char *waits_for, uint64_t waited_ms,
			 struct umbra_error *err)
{
	error_set(err, -ETIMEDOUT,
		  "%s, and the hold has taken %" PRIu64 " ms; the device goes on as before as soon "
		  "as it can (force does not wait for the back-end)",
		  waits_for, waited_ms);
	shadow_device_hold_overdue(asked_of(r)->device->device, err->text);
}

static void release_serve(struct request *r)
{
	struct umbra_shadow_device *u = asked_of(r)->device;
	struct umbra_error err = { "" };
	int rc = 0;

	if (!u->by_hand_us)
		rc = error_set(&err, -EINVAL, "the device is not held by hand: it is %s",
			       umbra_device_state_name(shadow_device_state(u->device)));
	else
		shadow_device_release(u->device);
	hand_set(u, 0);
	session_show(&u->session);
	request_done(&u->session.desk, r, rc, &err);
}

static void settle_loss_serve(struct request *r)
{
	struct umbra_shadow_device *u = asked_of(r)->device;
	struct umbra_error err = { "" };
	int rc = shadow_device_settle_loss(u->device, asked_of(r)->word, &err);

	session_show(&u->session);
	request_done(&u->session.desk, r, rc, &err);
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
	request_done(&asked->device->session.desk, r, result_of(rc), &err);
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

/* --- its session ------------------------------------------------------------ */

/* If the device is held: how long until that has an end, ms; -1: for ever, or it is not. */
static int hold_left_ms(const struct umbra_shadow_device *u)
{
	const uint64_t now = clock_now_us();
	uint64_t end;

	if (!u->hold_limit_us || shadow_device_state(u->device) != UMBRA_DEVICE_HELD)
		return -1;
	end = shadow_device_held_since_us(u->device) + u->hold_limit_us;
	return now >= end ? 0 : (int)MIN((end - now + 999) / 1000, (uint64_t)INT_MAX);
}

static void hold_end(struct umbra_shadow_device *u)
{
	struct umbra_error why;

	error_set(&why, -ECONNRESET,
		  "no back-end has come for %" PRIu64 " s, for which the device is held at most "
		  "(--hold-limit)",
		  u->hold_limit_us / 1000000u);
	shadow_device_end_hold(u->device, &why);
}

static int tend(struct session *s)
{
	struct umbra_shadow_device *u = device_of_session(s);
	int tend_ms, left_ms = hold_left_ms(u);

	if (!left_ms) {
		hold_end(u);
		left_ms = -1;
	}
	shadow_device_tend(u->device);
	tend_ms = shadow_device_tend_ms(u->device);
	if (tend_ms < 0 || left_ms < 0)
		return MAX(tend_ms, left_ms);
	return MIN(tend_ms, left_ms);
}

static void show(struct session *s)
{
	struct umbra_shadow_device *u = device_of_session(s);
	struct umbra_shadow_info *info = &u->picture.info;

	shadow_device_info(u->device, &u->picture);
	info->frontends = s->frontends;
	info->held_by_hand = u->by_hand_us;
	info->hold_limit_us = u->hold_limit_us;
	u->held_since_us = info->state == UMBRA_DEVICE_HELD ? shadow_device_held_since_us(u->device)
							    : u->by_hand_us;
	back_end_show(&s->back, &u->picture.backend);
	if (u->known_met != s->back.met || (u->known.pidfd < 0) != (s->back.process.pidfd < 0))
		peer_process_copy(&u->known, &s->back.process);
	u->known_met = s->back.met;
	if (info->state == UMBRA_DEVICE_HELD && s->held_up.text[0])
		snprintf(info->reason, sizeof(info->reason), "%s", s->held_up.text);
	if (info->state == UMBRA_DEVICE_WAITING && u->by_hand_us)
		snprintf(info->reason, sizeof(info->reason),
			 "held by hand: no back-end is connected, %s",
			 s->front.state == FRONT_END_WAITS ? "and the VMM waits" : "and no VMM");
	else if (info->state == UMBRA_DEVICE_WAITING && s->held_up.text[0])
		snprintf(info->reason, sizeof(info->reason), "%s", s->held_up.text);
	else if (info->state == UMBRA_DEVICE_WAITING)
		session_describe_wait(s, info->reason, sizeof(info->reason));
}

/* The guest gets what was done for it, and what was not goes back. */
static void retire(struct session *s)
{
	struct umbra_error err = { "" };
	unsigned int left;
	int rc = shadow_device_retire(device_of_session(s)->device, &left, &err);

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

static bool has_lost_backend(struct session *s, struct umbra_error *why)
{
	const struct umbra_shadow_device *u = device_of_session(s);

	if (shadow_device_state(u->device) != UMBRA_DEVICE_BACKEND_LOST)
		return false;
	session_show(s);
	/* The picture's writer is this thread. */
	snprintf(why->text, sizeof(why->text), "%s", u->picture.info.reason);
	return true;
}

static bool is_held(struct session *s)
{
	return shadow_device_state(device_of_session(s)->device) == UMBRA_DEVICE_HELD;
}

static bool was_served(struct session *s)
{
	return shadow_device_was_served(device_of_session(s)->device);
}

static bool hold_device(struct session *s, const struct umbra_error *why)
{
	return shadow_device_lose_backend(device_of_session(s)->device, why);
}

static bool may_return(struct session *s, struct umbra_error *why)
{
	struct shadow_device *d = device_of_session(s)->device;

	if (back_end_has_ended(&s->back))
		shadow_device_backend_is_dead(d);
	if (!shadow_device_unsettled(d))
		return !shadow_device_may_return(d, why);
	error_set(why, -EBUSY,
		  "the back-end that was lost has %u requests, and %s: they are given to no other "
		  "before it has ended, or somebody says that it writes no more (umbra ctl "
		  "backend-trust)",
		  shadow_device_unsettled(d),
		  back_end_is_watched(&s->back) ? s->back.process.name : s->back.process.doubt);
	return false;
}

static bool may_seek(struct session *s)
{
	return !device_of_session(s)->by_hand_us;
}

static int give(struct session *s, struct virtio_device *backend, struct umbra_error *err)
{
	return shadow_device_return(device_of_session(s)->device, backend, err);
}

/* A back-end begins with a ring that is passed through when it is told of it. */
static bool gives_whole(struct session *s)
{
	return !device_of_session(s)->picture.info.shadow_wanted;
}

static void sought(struct session *s, const struct umbra_error *why)
{
	struct umbra_shadow_device *u = device_of_session(s);
	struct umbra_event event = {
		.kind = UMBRA_EVENT_SOUGHT,
		.reason = why->text,
		.attempts = s->back.attempts,
		.pause_ms = back_end_pause_ms(&s->back),
	};

	event.from = event.to = shadow_device_state(u->device);
	host_event(&u->host, &event);
}

static bool region_is_cut(struct session *s)
{
	return shadow_device_region_is_cut(device_of_session(s)->device);
}

static void await_backend(struct session *s)
{
	shadow_device_wait(device_of_session(s)->device);
}

static void parted(struct session *s, const char *lost)
{
	shadow_device_await(device_of_session(s)->device, lost);
}

static const struct session_kind shadow_kind = {
	.tend = tend,
	.show = show,
	.region_is_cut = region_is_cut,
	.retire = retire,
	.hold = hold_device,
	.is_held = is_held,
	.was_served = was_served,
	.may_return = may_return,
	.give = give,
	.gives_whole = gives_whole,
	.sought = sought,
	.may_seek = may_seek,
	.has_lost_backend = has_lost_backend,
	.await_backend = await_backend,
	.parted = parted,
};

/* --- from outside --------------------------------------------------------- */

int umbra_shadow_device_run(struct umbra_shadow_device *device, struct umbra_error *err)
{
	return session_run(&device->session, err);
}

void umbra_shadow_device_stop(struct umbra_shadow_device *device)
{
	session_stop(&device->session);
}

/* Ask the thread for what @wanted says.  0, -EBUSY (there is another), -ECANCELED, -ENOMEM;
 * its bytes are consumed in any case. */
static int shadow_ask(struct umbra_shadow_device *u, const struct shadow_request *wanted)
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
	pthread_mutex_lock(&u->session.lock);
	rc = request_desk_is_busy_locked(&u->session.desk)
		     ? -EBUSY
		     : request_leave_locked(&u->session.desk, &asked->request);
	pthread_mutex_unlock(&u->session.lock);
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
	int rc = shadow_ask(device, &wanted);

	if (rc != -EBUSY)
		return rc;
	done(opaque, -EBUSY, &busy);
	return 0;
}

int umbra_shadow_device_trust(struct umbra_shadow_device *device, umbra_switch_done *done,
			      void *opaque)
{
	const struct shadow_request wanted = {
		.request = { .serve = trust_serve, .tell = done_tell },
		.done = done,
		.opaque = opaque,
	};
	int rc = shadow_ask(device, &wanted);

	if (rc != -EBUSY)
		return rc;
	done(opaque, -EBUSY, &busy_too);
	return 0;
}

int umbra_shadow_device_hold(struct umbra_shadow_device *device, bool force,
			     umbra_switch_done *done, void *opaque)
{
	const struct shadow_request wanted = {
		.request = { .serve = hold_serve, .tell = done_tell, .overdue = hold_overdue },
		.by_force = force,
		.done = done,
		.opaque = opaque,
	};
	int rc = shadow_ask(device, &wanted);

	if (rc != -EBUSY)
		return rc;
	done(opaque, -EBUSY, &busy_too);
	return 0;
}

int umbra_shadow_device_release(struct umbra_shadow_device *device, umbra_switch_done *done,
				void *opaque)
{
	const struct shadow_request wanted = {
		.request = { .serve = release_serve, .tell = done_tell },
		.done = done,
		.opaque = opaque,
	};
	int rc = shadow_ask(device, &wanted);

	if (rc != -EBUSY)
		return rc;
	done(opaque, -EBUSY, &busy_too);
	return 0;
}

int umbra_shadow_device_settle_loss(struct umbra_shadow_device *device, enum umbra_loss_word word,
				    umbra_switch_done *done, void *opaque)
{
	const struct shadow_request wanted = {
		.request = { .serve = settle_loss_serve, .tell = done_tell },
		.word = word,
		.done = done,
		.opaque = opaque,
	};
	int rc = shadow_ask(device, &wanted);

	if (rc != -EBUSY)
		return rc;
	done(opaque, -EBUSY, &busy_too);
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
	int rc = shadow_ask(device, &wanted);

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
	rc = shadow_ask(device, &wanted);
	if (rc != -EBUSY)
		return rc;
	done(opaque, -EBUSY, &busy_too);
	return 0;
}

int umbra_shadow_device_kill_backend(struct umbra_shadow_device *device, struct umbra_error *err)
{
	int rc;

	pthread_mutex_lock(&device->session.lock);
	rc = peer_process_kill(&device->known, err);
	if (!rc)
		log_warning("the back-end, %s, is killed because the operator said so",
			    device->known.name);
	pthread_mutex_unlock(&device->session.lock);
	return rc;
}

int umbra_shadow_device_query(struct umbra_shadow_device *device, struct umbra_shadow_picture **out)
{
	struct umbra_shadow_picture *picture = malloc(sizeof(*picture));

	if (!picture)
		return -ENOMEM;
	pthread_mutex_lock(&device->session.lock);
	*picture = device->picture;
	if (device->session.unanswered_since_us) {
		picture->backend.unanswered_us =
			clock_now_us() - device->session.unanswered_since_us;
		snprintf(picture->backend.unanswered, sizeof(picture->backend.unanswered), "%s",
			 device->session.unanswered);
	}
	picture->info.held_us = device->held_since_us ? clock_now_us() - device->held_since_us : 0;
	pthread_mutex_unlock(&device->session.lock);
	shadow_device_look_control(device->device, &picture->control);
	for (unsigned int i = 0; i < picture->info.queue_count; i++) {
		const struct shadow_counters *c = shadow_device_counters(device->device, i);
		struct umbra_queue_info *q = &picture->queues[i];

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
		q->struct_size = sizeof(*q);
	}
	picture->info.struct_size = sizeof(picture->info);
	picture->backend.struct_size = sizeof(picture->backend);
	picture->control.struct_size = sizeof(picture->control);
	*out = picture;
	return 0;
}

/* --- life ------------------------------------------------------------------ */

static int shadow_config_check(const struct umbra_shadow_config *config, struct umbra_error *err)
{
	int rc;

	rc = backend_spec_check(config->backend, err);
	if (rc)
		return rc;
	if (config->reconnect && config->mode == UMBRA_SHADOW_OFF)
		return error_set(err, -EINVAL,
				 "a lost back-end is waited for (reconnect) only where the device "
				 "is shadowed, and its shadow is off");
	if (config->reconnect && !strncmp(config->backend, "vdpa:", 5))
		return error_set(err, -EINVAL,
				 "a lost back-end is waited for (reconnect) only if it is a "
				 "vhost-user back-end, and %s is a vhost-vdpa device",
				 config->backend);
	if (config->reconnect && !config->device_type)
		return error_set(err, -EINVAL,
				 "a lost back-end is waited for (reconnect) only where it is known "
				 "what it is: the device type is 0, expected a virtio device type");
	if ((unsigned int)config->on_loss > UMBRA_LOSS_HOLD)
		return error_set(err, -EINVAL,
				 "what becomes of what a lost back-end had is %u, expected 0 to %u",
				 (unsigned int)config->on_loss, (unsigned int)UMBRA_LOSS_HOLD);
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

static int device_init(struct umbra_shadow_device *u, const struct umbra_shadow_config *config,
		       struct umbra_error *err)
{
	const struct session_config session = {
		.doorway = {
			.path = config->socket_path,
			.access = config->socket_access,
			.connect_path = config->connect_path,
			.fd = config->socket_fd,
		},
		.backend = config->backend,
		.backend_access = config->socket_access,
		.threads = config->threads,
		.deadline_ms = config->switch_deadline_ms ? config->switch_deadline_ms
							  : SWITCH_DEADLINE_MS,
	};
	int rc;

	u->known = PEER_PROCESS_NONE;
	u->host.device = session_host(&u->session);
	u->host.ops = &host_ops;
	u->on_event = config->on_event;
	u->opaque = config->opaque;
	u->hold_limit_us = config->hold_limit_s * UINT64_C(1000000);
	rc = shadow_device_create(&u->host, config->reconnect ? UMBRA_SHADOW_ON : config->mode,
				  session.deadline_ms, &u->device);
	if (rc)
		return error_set(err, rc, "no memory for a device");
	if (config->reconnect)
		shadow_device_hold_for(u->device, config->device_type, config->on_loss);
	if (config->table_max)
		shadow_device_limit_tables(u->device, config->table_max);
	shadow_device_limit_memory(u->device, config->shadow_memory);
	return session_open(&u->session, &shadow_kind, shadow_device_virtio(u->device), &session,
			    err);
}

int umbra_shadow_device_create(const struct umbra_shadow_config *config,
			       struct umbra_shadow_device **out, struct umbra_error *err)
{
	struct umbra_shadow_config known;
	struct umbra_shadow_device *u;
	int rc = sized_take(&known, sizeof(known), config,
			    SIZED_UPTO(struct umbra_shadow_config, opaque),
			    "struct umbra_shadow_config", err);

	if (!rc)
		rc = shadow_config_check(&known, err);
	if (rc)
		return rc;
	u = calloc(1, sizeof(*u));
	if (!u)
		return error_set(err, -ENOMEM, "no memory for a device");
	rc = device_init(u, &known, err);
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
	session_close(&u->session);
	peer_process_forget(&u->known);
	free(u);
}
