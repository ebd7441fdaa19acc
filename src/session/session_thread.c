/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The device's thread: one loop, whoever is there.
 *
 * What the front-end and the back-end are to each other is said here, and nowhere else:
 *
 *	front-end	back-end
 *	WAITS		ABSENT		it is looked for, unless the operator will have none, or one
 *					that was lost may write yet
 *	WAITS		SOUGHT		attempts, between which all others are heard
 *	WAITS		THERE, NEEDLESS	the front-end is served
 *	goes		any		it is let go: the next front-end gets a fresh one
 *	WAITS		will not come	the front-end is disconnected, and the reason kept
 *	SERVED		goes		likewise, unless its device is held; then:
 *	SERVED		ABSENT		it is waited until another one may come, and the operator
 *					will have one, and looked for
 *	SERVED		SOUGHT		attempts, as long as it takes
 *	SERVED		COME		it is told what it has to know, and the front-end heard
 *					beside; of no use, it is let go, or lost as the one before
 *
 * A back-end that does not answer is waited for, because to give up would end the
 * connection and with it the guest's device.  What has a deadline is the operator's
 * request: when it passes, the operator is told, and what was asked for is undone as
 * soon as the back-end answers.  Who waits so hears when the front-end goes, and when the
 * session has to end.  While the device is held nobody depends on the back-end that is being
 * given it: it may take its time, and all others are heard meanwhile, unless it has rings as
 * soon as it is told of them (gives_whole()).
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "host/mapping_guard.h"
#include "memory/memory.h"
#include "session/session.h"

/* --- a back-end that is waited for ----------------------------------------------------- */

static void on_backend_config_change(void *opaque)
{
	session_config_changed(opaque);
}

/* So that it can be seen from outside: this thread shows nothing while it waits. */
static void show_wait(struct session *s, const char *message, unsigned int waited_ms)
{
	pthread_mutex_lock(&s->lock);
	s->unanswered_since_us = clock_now_us() - waited_ms * UINT64_C(1000);
	snprintf(s->unanswered, sizeof(s->unanswered), "%s", message);
	pthread_mutex_unlock(&s->lock);
}

/* The back-end has been waited for, for @waited_ms, to answer @message. */
static int on_backend_wait(void *opaque, const char *message, unsigned int waited_ms,
			   struct umbra_error *err)
{
	struct session *s = opaque;
	char waits_for[96];

	show_wait(s, message, waited_ms);
	if (front_end_has_gone(&s->front)) {
		error_set(err, -ECANCELED,
			  "the front-end has gone, while the back-end had not answered %s for %u "
			  "ms",
			  message, waited_ms);
		s->back.given_up = *err;
		return -ECANCELED;
	}
	if (session_is_overdue(s))
		return error_set(err, -ECANCELED,
				 "the device is stopped, and the back-end has not answered %s for "
				 "%u ms",
				 message, waited_ms);
	snprintf(waits_for, sizeof(waits_for), "the back-end has not answered %s for %u ms",
		 message, waited_ms);
	request_desk_overdue(&s->desk, waits_for);
	if (waited_ms < s->deadline_ms) {
		s->back.is_slow = false;
		return 0;
	}
	if (!s->back.is_slow)
		log_warning("%s; still waiting", waits_for);
	s->back.is_slow = true;
	return 0;
}

/* --- coming together, and parting ---------------------------------------------------------- */

static void front_come(struct session *s, bool is_readable)
{
	if (!front_end_come(&s->front, is_readable))
		return;
	pthread_mutex_lock(&s->lock);
	s->frontends++;
	pthread_mutex_unlock(&s->lock);
}

/* The front-end goes, and with it the back-end; but not what is known of one that was lost and may
 * still write: the next front-end must be no luckier with it. */
static void leave_back_end(struct session *s)
{
	struct umbra_error why;

	s->held_up.text[0] = '\0';
	if (s->kind->may_return && !s->kind->may_return(s, &why))
		back_end_lose(&s->back);
	else
		back_end_let_go(&s->back);
}

/* The front-end that waits is not served, since there will be no back-end.  @rc -ECANCELED:
 * because it has gone, or we end, which is nobody's fault. */
static void turn_down(struct session *s, int rc, struct umbra_error *why)
{
	error_prefix(why, rc, "no back-end for the front-end that has come");
	leave_back_end(s);
	if (rc != -ECANCELED) {
		log_error("%s", why->text);
		s->kind->parted(s, why->text);
	}
	front_end_part(&s->front, false);
	s->result = rc;
	s->error = *why;
	session_show(s);
}

static void turn_down_silently(struct session *s)
{
	struct umbra_error why = { "stopped before the back-end was there" };

	turn_down(s, -ECANCELED, &why);
}

/* The front-end is not served any longer.  @why: the back-end is lost for this reason. */
static void part(struct session *s, const struct umbra_error *why)
{
	struct umbra_error lost = { "" };

	if (why)
		lost = *why;
	if (session_is_ending(s) && !lost.text[0] && s->kind->retire)
		s->kind->retire(s);
	__atomic_store_n(&s->has_rings, false, __ATOMIC_SEQ_CST); /* [end] */
	if (s->back.state == BACK_END_THERE)
		(void)s->kind->has_lost_backend(s, &lost);
	if (lost.text[0])
		log_error("%s; the front-end is disconnected", lost.text);
	s->device->ops->detach(s->device);
	front_end_part(&s->front, !lost.text[0]);
	if (lost.text[0])
		back_end_lose(&s->back);
	else
		leave_back_end(s);
	if (s->kind->parted)
		s->kind->parted(s, lost.text[0] ? lost.text : NULL);
	s->result = lost.text[0] ? -ECONNRESET : 0;
	s->error = lost;
	session_show(s);
}

/* The back-end speaks to us from here on; while an answer of it is awaited, so does whoever is
 * @beside it. */
static void back_end_hear(struct session *s, bool beside)
{
	const struct backend_listener listener = {
		.opaque = s,
		.config_changed = on_backend_config_change,
		.waiting = on_backend_wait,
		.beside = { front_end_poll(&s->front).fd, s->desk.bell.fd, s->end.fd },
		.beside_count = beside ? 3 : 0,
	};

	s->back.device->ops->listen(s->back.device, &listener);
}

/* Both are there: serve the front-end. */
static void begin(struct session *s)
{
	struct umbra_error err = { "" };

	s->config_changed = false;
	if (s->back.state == BACK_END_COME) {
		back_end_admit(&s->back);
		back_end_hear(s, false);
	}
	s->result = front_end_serve(&s->front, s->device, s->end.fd, &err);
	if (s->result) {
		log_error("%s", err.text);
		s->error = err;
		front_end_part(&s->front, false);
		leave_back_end(s);
		return;
	}
	s->device->ops->attach(s->device, s->back.device);
	__atomic_store_n(&s->has_rings, true, __ATOMIC_SEQ_CST); /* [end] */
}

static bool wants_backend(struct session *s)
{
	return !s->kind->may_seek || s->kind->may_seek(s);
}

/* Why there is no back-end yet: said when it is another reason than before, with @what of it. */
static bool held_up(struct session *s, const struct umbra_error *why, const char *what)
{
	if (!strcmp(s->held_up.text, why->text))
		return false;
	s->held_up = *why;
	log_warning("%s; %s", why->text, what);
	return true;
}

/* The front-end waits: see to its back-end. */
static void provide(struct session *s)
{
	struct umbra_error err = { "" };
	int rc;

	if (!wants_backend(s)) {
		s->kind->await_backend(s);
		return;
	}
	if (s->back.state == BACK_END_ABSENT) {
		if (s->kind->may_return && !s->kind->may_return(s, &err)) {
			if (held_up(s, &err, "the front-end waits"))
				s->kind->await_backend(s);
			return;
		}
		s->held_up.text[0] = '\0';
		back_end_seek(&s->back);
	}
	if (s->back.state == BACK_END_SOUGHT) {
		rc = back_end_try(&s->back, backend_source_is_patient(s->back.source), s->stop.fd,
				  &err);
		if (rc < 0)
			turn_down(s, rc, &err);
		else if (!rc && s->back.attempts == 1 && err.text[0] &&
			 backend_source_is_patient(s->back.source)) {
			log_info("%s: the front-end waits for one", err.text);
			s->kind->await_backend(s);
		}
		if (rc <= 0)
			return;
	}
	begin(s);
}

/* --- without a back-end ----------------------------------------------------------------- */

/* The back-end is lost, for @why. */
static void lose(struct session *s, const struct umbra_error *why)
{
	if (s->kind->hold && s->kind->hold(s, why))
		session_let_go_of_backend(s);
	else
		part(s, why);
}

/* The same, when an attempt was in vain; the pause is told as well. */
static void sought_in_vain(struct session *s, const struct umbra_error *why)
{
	unsigned int pause_ms = back_end_pause_ms(&s->back);

	if (pause_ms != s->held_up_pause_ms || strcmp(s->held_up.text, why->text))
		s->kind->sought(s, why);
	s->held_up_pause_ms = pause_ms;
	(void)held_up(s, why, "the device is held");
}

/* Begin to look for the next one. */
static void seek(struct session *s)
{
	struct umbra_error gone = { "the back-end that had come is gone again" };

	if (s->kind->was_served(s)) {
		back_end_seek(&s->back);
		return;
	}
	back_end_seek_on(&s->back);
	sought_in_vain(s, &gone);
}

/* The next back-end, which had come, is not the one, for the reason in @why. */
static void reject(struct session *s, struct umbra_error *why)
{
	struct umbra_error later = { "" };

	if (s->kind->has_lost_backend(s, &later)) {
		part(s, &later);
		return;
	}
	error_prefix(why, 0, "the back-end that has come is of no use");
	if (!s->kind->may_return(s, &later)) { /* it was given requests */
		(void)held_up(s, why, "the device is held");
		back_end_lose(&s->back);
		return;
	}
	back_end_seek_on(&s->back);
	sought_in_vain(s, why);
}

/* Look for the next back-end.  True: it has come. */
static bool find(struct session *s)
{
	struct umbra_error err = { "" };
	int rc;

	if (s->back.state == BACK_END_ABSENT && !s->kind->may_return(s, &err)) {
		(void)held_up(s, &err, "the device is held");
		return false;
	}
	if (s->back.state == BACK_END_ABSENT)
		seek(s);
	rc = back_end_try(&s->back, true, s->stop.fd, &err);
	if (rc < 0)
		back_end_seek_on(&s->back);
	if (rc <= 0 && err.text[0])
		sought_in_vain(s, &err);
	if (rc > 0)
		session_show(s); /* who it is, before it can let us wait */
	return rc > 0;
}

/* The front-end is served, and a back-end looked for.  One that has come is told what it has to
 * know; while it is slow to answer, the rounds go on. */
static void restore(struct session *s)
{
	struct umbra_error err = { "" };
	int rc;

	if (!wants_backend(s) || (s->back.state != BACK_END_COME && !find(s)))
		return;
	if (s->back.device->ops->owes && s->back.device->ops->owes(s->back.device))
		return;
	back_end_hear(s, !s->kind->gives_whole(s));
	rc = s->kind->give(s, s->back.device, &err);
	if (rc == -EINPROGRESS) {
		(void)held_up(s, &err, "the device is held");
		return;
	}
	if (rc) {
		reject(s, &err);
		return;
	}
	back_end_admit(&s->back);
	back_end_hear(s, false);
	s->held_up.text[0] = '\0';
}

/* --- one round ---------------------------------------------------------------------------- */

enum heard {
	HEARD_END,
	HEARD_REQUEST,
	HEARD_BROKEN,
	HEARD_NOTICE,
	HEARD_DOORWAY,
	HEARD_FRONT,
	HEARD_PROCESS,
	HEARD_BACK,
	HEARD_MAX = HEARD_BACK + BACKEND_FDS_MAX
};

static int sooner(int a_ms, int b_ms)
{
	if (a_ms < 0 || b_ms < 0)
		return a_ms < 0 ? b_ms : a_ms;
	return MIN(a_ms, b_ms);
}

/* Wait for @wait_ms at most.  Returns how many fds the back-end has. */
static unsigned int hear(struct session *s, struct pollfd fds[HEARD_MAX], int wait_ms)
{
	const struct bell *const bells[] = {
		[HEARD_END] = &s->end,
		[HEARD_REQUEST] = &s->desk.bell,
		[HEARD_BROKEN] = &s->broken,
		[HEARD_NOTICE] = &s->notice,
	};
	unsigned int count;

	for (size_t i = 0; i < ARRAY_SIZE(bells); i++)
		fds[i] = (struct pollfd){ .fd = bells[i]->fd, .events = POLLIN };
	fds[HEARD_DOORWAY] = front_end_poll_doorway(&s->front);
	fds[HEARD_FRONT] = front_end_poll(&s->front);
	fds[HEARD_PROCESS] = back_end_poll_process(&s->back);
	count = back_end_poll(&s->back, fds + HEARD_BACK);
	wait_ms = sooner(wait_ms, front_end_wait_ms(&s->front));
	wait_ms = sooner(wait_ms, back_end_wait_ms(&s->back));
	/* An error leaves all `revents` zero. */
	(void)poll(fds, HEARD_BACK + count, wait_ms);
	return count;
}

/* -EFAULT: the front-end has shrunk a memory file that it gave us. */
static int memory_check(struct session *s, struct umbra_error *err)
{
	const struct memory *memory = s->device->ops->memory(s->device);
	const struct memory_region *cut = memory ? memory_find_cut(memory) : NULL;

	if (s->kind->region_is_cut && s->kind->region_is_cut(s))
		return error_set(err, -EFAULT,
				 "the front-end has shrunk the file of its in-flight region, or "
				 "there was no memory for it");
	if (!cut)
		return 0;
	return error_set(err, -EFAULT,
			 "the front-end has shrunk the memory file behind gpa 0x%" PRIx64
			 ", or there was no memory for it",
			 cut->gpa.v);
}

/* What a call of the device may have left behind.  False: they have parted. */
static bool still_together(struct session *s)
{
	struct umbra_error lost = { "" };

	if (s->back.state == BACK_END_NEEDLESS)
		return true;
	if (s->back.state != BACK_END_THERE) {
		/* It was held, and is no longer. */
		if (s->kind->has_lost_backend(s, &lost))
			part(s, &lost);
		return s->front.state == FRONT_END_SERVED;
	}
	if (s->back.given_up.text[0]) {
		log_info("%s", s->back.given_up.text);
		part(s, NULL);
		return false;
	}
	if (s->kind->has_lost_backend(s, &lost)) {
		part(s, &lost);
		return false;
	}
	if (s->kind->is_held && s->kind->is_held(s))
		session_let_go_of_backend(s);
	return true;
}

/* The back-end is connected, and some of its fds may be readable. */
static bool backend_dispatch(struct session *s, const struct pollfd *fds, unsigned int count)
{
	struct virtio_device *backend = s->back.device;
	struct umbra_error lost = { "" };

	for (unsigned int i = 0; i < count; i++) {
		if (!fds[i].revents || !backend->ops->dispatch(backend, i, &lost))
			continue;
		if (s->back.state == BACK_END_COME)
			reject(s, &lost);
		else
			lose(s, &lost);
		return s->front.state == FRONT_END_SERVED;
	}
	return true;
}

/* The front-end has a message for us, or room for an answer. */
static void front_receive(struct session *s)
{
	struct umbra_error err = { "" };
	int rc;

	if (s->kind->message_comes)
		s->kind->message_comes(s);
	rc = vhost_user_server_receive(s->front.server, &err);
	if (rc < 0 && rc != -ECANCELED && !session_is_ending(s))
		log_error("%s; it is disconnected", err.text);
	if (still_together(s) && rc <= 0)
		part(s, NULL);
}

/* What was heard while the front-end is served. */
static void serve(struct session *s, const struct pollfd fds[HEARD_MAX], unsigned int count)
{
	struct umbra_error err = { "" };

	if (memory_check(s, &err)) {
		log_error("%s; it is disconnected", err.text);
		part(s, NULL);
		return;
	}
	if (s->back.state == BACK_END_SOUGHT)
		back_end_look(&s->back, fds[HEARD_BACK].revents);
	else if (s->back.device && !backend_dispatch(s, fds + HEARD_BACK, count))
		return;
	if (fds[HEARD_REQUEST].revents) {
		request_desk_serve(&s->desk);
		if (!still_together(s))
			return;
	}
	if (fds[HEARD_FRONT].revents)
		front_receive(s);
}

/* What was heard while nobody is served. */
static void idle(struct session *s, const struct pollfd fds[HEARD_MAX])
{
	if (fds[HEARD_REQUEST].revents)
		request_desk_serve(&s->desk);
	if (s->front.state == FRONT_END_WAITS && fds[HEARD_FRONT].revents)
		turn_down_silently(s);
	if (s->back.state == BACK_END_SOUGHT)
		back_end_look(&s->back, fds[HEARD_BACK].revents);
}

static void round_handle(struct session *s, const struct pollfd fds[HEARD_MAX], unsigned int count)
{
	if (fds[HEARD_BROKEN].revents) {
		bell_hush(&s->broken);
		s->device->ops->check_queues(s->device);
	}
	if (fds[HEARD_NOTICE].revents)
		bell_hush(&s->notice);
	if (fds[HEARD_PROCESS].revents)
		back_end_watch(&s->back);
	front_come(s, fds[HEARD_DOORWAY].revents);
	if (s->front.state == FRONT_END_SERVED)
		serve(s, fds, count);
	else
		idle(s, fds);
}

/* It is looked for, or has come, but the device has it not. */
static bool is_without_back_end(const struct session *s)
{
	return s->back.state != BACK_END_NEEDLESS && s->back.state != BACK_END_THERE;
}

static int kind_tend(struct session *s)
{
	return s->kind->tend ? s->kind->tend(s) : -1;
}

/* Everything has been handled: what is due now?  Returns how long to wait for more, ms. */
static int settle(struct session *s)
{
	int wait_ms;

	if (s->front.state == FRONT_END_WAITS)
		provide(s);
	if (s->front.state == FRONT_END_SERVED && is_without_back_end(s))
		restore(s);
	wait_ms = kind_tend(s);
	if (s->front.state == FRONT_END_SERVED && still_together(s) && s->config_changed) {
		s->config_changed = false;
		vhost_user_server_config_changed(s->front.server);
	}
	session_show(s);
	return wait_ms;
}

/* Will there be anything to do? */
static bool goes_on(struct session *s)
{
	return !session_is_ending(s) && !(s->front.is_only && s->front.state == FRONT_END_ABSENT);
}

int session_run(struct session *s, struct umbra_error *err)
{
	struct pollfd fds[HEARD_MAX];
	unsigned int count;
	int wait_ms;

	mapping_guard_admit();
	request_desk_attend(&s->desk);
	if (s->front.is_only)
		front_come(s, false);
	while (goes_on(s)) {
		wait_ms = settle(s);
		if (!goes_on(s))
			break;
		count = hear(s, fds, wait_ms);
		if (!session_is_ending(s))
			round_handle(s, fds, count);
	}
	if (s->front.state == FRONT_END_WAITS)
		turn_down_silently(s);
	else if (s->front.state == FRONT_END_SERVED)
		part(s, NULL);
	(void)kind_tend(s);
	session_show(s);
	request_desk_abandon(&s->desk);
	if (!s->front.is_only || session_is_ending(s) || !s->result)
		return 0;
	if (err)
		*err = s->error;
	return s->result;
}
