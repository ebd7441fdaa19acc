/* SPDX-License-Identifier: BSD-2-Clause */
/* Who may do what with a memory file: see memory_hold.h. */
#include "host/memory_hold.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "host/registry.h"
#include "memory/memory.h"

/* Of the two bytes, which others have no use for: "umbra" in ASCII, times 4096. */
#define LOCK_PINNED INT64_C(0x756d627261000)
#define LOCK_DISCARDING (LOCK_PINNED + 1)

struct memory_hold {
	int fd; /* of our own description */
	struct registry_entry entry;
};

/* Try a lock on one byte: 0, -EAGAIN, -errno. */
static int lock_set(int fd, short type, int64_t byte)
{
	struct flock l = { .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

	return fcntl(fd, F_OFD_SETLK, &l) ? errno == EACCES ? -EAGAIN : -errno : 0;
}

/* How somebody else holds the byte: F_UNLCK, F_RDLCK, F_WRLCK; -1: it cannot be known. */
static int lock_get(int fd, int64_t byte)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

	return fcntl(fd, F_OFD_GETLK, &l) ? -1 : l.l_type;
}

int memory_hold_open(struct memory_backing *backing)
{
	struct memory_hold *h;
	char path[64];
	int rc;

	if (backing->hold)
		return 0;
	h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	h->entry = REGISTRY_NO_ENTRY;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", backing->fd);
	h->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (h->fd < 0) {
		rc = -errno;
		free(h);
		return rc;
	}
	backing->hold = h;
	return 0;
}

void memory_hold_close(struct memory_backing *backing)
{
	struct memory_hold *h = backing->hold;

	backing->hold = NULL;
	if (!h)
		return;
	registry_leave(&h->entry);
	fd_close(&h->fd);
	free(h);
}

int memory_hold_pin(struct memory_backing *backing, const char *what)
{
	int rc = memory_hold_open(backing);

	if (!rc)
		rc = lock_set(backing->hold->fd, F_RDLCK, LOCK_PINNED);
	if (!rc)
		registry_enter(&backing->hold->entry, backing->file_device, backing->file_inode,
			       what);
	return rc;
}

bool memory_hold_is_discarding(const struct memory_backing *backing)
{
	/* A lock that excludes others is no balloon's, and keeps every balloon away. */
	return backing->hold && lock_get(backing->hold->fd, LOCK_DISCARDING) == F_RDLCK;
}

bool memory_hold_is_pinned(const struct memory_backing *backing)
{
	return backing->hold && lock_get(backing->hold->fd, LOCK_PINNED) != F_UNLCK;
}

bool memory_hold_discard(const struct memory_backing *backing)
{
	if (!backing->hold)
		return true;
	/* The order is what it is about: see the header. */
	if (lock_set(backing->hold->fd, F_RDLCK, LOCK_DISCARDING))
		return false;
	if (!memory_hold_is_pinned(backing))
		return true;
	memory_hold_discarded(backing);
	return false;
}

void memory_hold_discarded(const struct memory_backing *backing)
{
	if (backing->hold)
		(void)!lock_set(backing->hold->fd, F_UNLCK, LOCK_DISCARDING);
}

void memory_hold_who(const struct memory_backing *backing, char *text, unsigned int size)
{
	if (!registry_find(backing->file_device, backing->file_inode, text, size))
		snprintf(text, size, "a process that has left no name");
}
