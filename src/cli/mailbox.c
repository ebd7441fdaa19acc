/* SPDX-License-Identifier: BSD-2-Clause */
/* Work for the main loop, posted by any thread: see mailbox.h. */
#include "cli/mailbox.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"

struct mailbox {
	pthread_mutex_t lock;
	struct letter *first, **last; /* under the lock */
	int eventfd;
};

int mailbox_create(struct mailbox **out, struct umbra_error *err)
{
	struct mailbox *mailbox = calloc(1, sizeof(*mailbox));

	if (!mailbox)
		return error_set(err, -ENOMEM, "out of memory for the main loop's mailbox");
	mailbox->eventfd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (mailbox->eventfd < 0) {
		int code = -errno;

		free(mailbox);
		return error_set(err, code, "cannot make an eventfd: %s", strerror(-code));
	}
	pthread_mutex_init(&mailbox->lock, NULL);
	mailbox->last = &mailbox->first;
	*out = mailbox;
	return 0;
}

void mailbox_destroy(struct mailbox **mailbox)
{
	if (!*mailbox)
		return;
	mailbox_deliver(*mailbox);
	pthread_mutex_destroy(&(*mailbox)->lock);
	fd_close(&(*mailbox)->eventfd);
	free(*mailbox);
	*mailbox = NULL;
}

int mailbox_fd(const struct mailbox *mailbox)
{
	return mailbox->eventfd;
}

void mailbox_post(struct mailbox *mailbox, struct letter *letter)
{
	const uint64_t one = 1;
	ssize_t ignored;

	letter->next = NULL;
	pthread_mutex_lock(&mailbox->lock);
	*mailbox->last = letter;
	mailbox->last = &letter->next;
	/*
	 * Under the lock: after the unlock, the main thread may have delivered
	 * the letter and gone on to destroy the mailbox.  The write fails only
	 * when the counter is full, and then the fd is readable anyway.
	 */
	ignored = write(mailbox->eventfd, &one, sizeof(one));
	(void)ignored;
	pthread_mutex_unlock(&mailbox->lock);
}

void mailbox_deliver(struct mailbox *mailbox)
{
	struct letter *letter, *next;
	uint64_t count;
	ssize_t ignored;

	pthread_mutex_lock(&mailbox->lock);
	ignored = read(mailbox->eventfd, &count, sizeof(count));
	(void)ignored;
	letter = mailbox->first;
	mailbox->first = NULL;
	mailbox->last = &mailbox->first;
	pthread_mutex_unlock(&mailbox->lock);
	for (; letter; letter = next) {
		next = letter->next;
		letter->deliver(letter);
	}
}
