/* SPDX-License-Identifier: BSD-2-Clause */
/* The back-end of a session: see back_end.h. */
#include "session/back_end.h"

#include <errno.h>
#include <stdio.h>

#include "base/clock.h"

#define CONNECT_TIMEOUT_MS 10000u /* for a back-end that is about to start */

unsigned int back_end_poll(const struct back_end *back, struct pollfd fds[BACKEND_FDS_MAX])
{
	int each[BACKEND_FDS_MAX];
	unsigned int count = 0;

	if (back->device)
		count = back->device->ops->fds(back->device, each);
	else if (back->state == BACK_END_SOUGHT)
		each[count++] = backend_source_fd(back->source);
	for (unsigned int i = 0; i < count; i++)
		fds[i] = (struct pollfd){ .fd = each[i], .events = POLLIN };
	return count;
}

int back_end_connection_fd(const struct back_end *back)
{
	int each[BACKEND_FDS_MAX];

	if (back->state != BACK_END_THERE || !back->device->ops->fds(back->device, each))
		return -1;
	return each[0];
}

struct pollfd back_end_poll_process(const struct back_end *back)
{
	return (struct pollfd){ .fd = back->is_watched ? back->process.pidfd : -1,
				.events = POLLIN };
}

void back_end_watch(struct back_end *back)
{
	back->is_watched = peer_process_look(&back->process) == PEER_PROCESS_LIVES;
}

int back_end_wait_ms(const struct back_end *back)
{
	return back->state == BACK_END_SOUGHT ? backend_source_wait_ms(back->source) : -1;
}

void back_end_seek(struct back_end *back)
{
	backend_source_begin(back->source);
	back->state = BACK_END_SOUGHT;
	back->since_us = clock_now_us();
	back->is_due = true;
	back->attempts = 0;
}

void back_end_seek_on(struct back_end *back)
{
	back_end_let_go(back);
	backend_source_fail(back->source);
	back->state = BACK_END_SOUGHT;
	back->since_us = clock_now_us();
	back->is_due = false;
	back->attempts++;
}

void back_end_look(struct back_end *back, bool is_readable)
{
	back->is_due |= is_readable || !backend_source_wait_ms(back->source);
}

int back_end_try(struct back_end *back, bool is_patient, int stop_fd, struct umbra_error *err)
{
	int rc;

	if (!back->is_due)
		return 0;
	back->is_due = false;
	rc = backend_source_try(back->source, stop_fd, CONNECT_TIMEOUT_MS, &back->device,
				&back->process, err);
	if (!rc) {
		back->state = BACK_END_COME;
		back->met++;
		back_end_watch(back);
		back->is_slow = false;
		back->given_up.text[0] = '\0';
		return 1;
	}
	if (rc != -EAGAIN)
		return rc;
	back->attempts++;
	if (!is_patient && clock_now_us() - back->since_us >= CONNECT_TIMEOUT_MS * UINT64_C(1000))
		return rc;
	return 0;
}

void back_end_admit(struct back_end *back)
{
	back->state = BACK_END_THERE;
}

bool back_end_before_has_ended(struct back_end *back, const struct process_mark *mark)
{
	back->has_before = marked_process_find(mark, &back->before) != PEER_PROCESS_ENDED;
	return !back->has_before;
}

bool back_end_has_ended(const struct back_end *back)
{
	return back->process.pidfd >= 0 && !back->is_watched;
}

bool back_end_is_watched(const struct back_end *back)
{
	return back->is_watched;
}

unsigned int back_end_pause_ms(const struct back_end *back)
{
	return back->state == BACK_END_SOUGHT ? backend_source_pause_ms(back->source) : 0;
}

void back_end_show(const struct back_end *back, struct umbra_backend_info *info)
{
	const struct peer_process *p = &back->process;

	*info = (struct umbra_backend_info){ 0 };
	if (back->device)
		back->device->ops->info(back->device, info);
	info->attempts = back->state == BACK_END_SOUGHT ? back->attempts : 0;
	info->pause_ms = back_end_pause_ms(back);
	info->process = p->pid;
	info->process_state = p->pidfd < 0       ? UMBRA_PROCESS_UNKNOWN
			      : back->is_watched ? UMBRA_PROCESS_LIVES
						 : UMBRA_PROCESS_ENDED;
	snprintf(info->process_name, sizeof(info->process_name), "%s", p->name);
	snprintf(info->process_doubt, sizeof(info->process_doubt), "%s", p->doubt);
}

void back_end_lose(struct back_end *back)
{
	if (back->device)
		back->device->ops->destroy(back->device);
	back->device = NULL;
	if (back->state != BACK_END_NEEDLESS)
		back->state = BACK_END_ABSENT;
	if (!back->has_before)
		return;
	peer_process_forget(&back->process);
	back->process = back->before;
	back->before = PEER_PROCESS_NONE;
	back->has_before = false;
	back_end_watch(back);
}

void back_end_let_go(struct back_end *back)
{
	back_end_lose(back);
	peer_process_forget(&back->process);
	back->is_watched = false;
}

int back_end_open(struct back_end *back, const char *spec, const struct umbra_socket_access *access,
		  struct umbra_error *err)
{
	int rc;

	if (!spec)
		return 0;
	rc = backend_source_open(spec, access, &back->source, err);
	if (!rc)
		back->state = BACK_END_ABSENT;
	return rc;
}

void back_end_close(struct back_end *back)
{
	back_end_let_go(back);
	backend_source_close(&back->source);
}
