/* SPDX-License-Identifier: BSD-2-Clause */
/* Who has a file pinned, by name: see registry.h. */
#include "host/registry.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

#define RUN "/run/umbra"
#define LINE_MAX_BYTES 128u
#define ENTRIES_MAX 4096u /* that are looked at: a folder with more is nobody's help */

static bool is_trusted(const struct stat *st, mode_t type)
{
	return (st->st_mode & S_IFMT) == type && (st->st_uid == 0 || st->st_uid == geteuid()) &&
	       !(st->st_mode & (S_IWGRP | S_IWOTH));
}

/* A folder that only root or we can have filled: its fd, or -1. */
static int folder_open(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd >= 0 && (fstat(fd, &st) || !is_trusted(&st, S_IFDIR)))
		fd_close(&fd);
	return fd;
}

/* Folder @number of those there are; false: there is none. */
static bool folder_path(unsigned int number, char *path, size_t size)
{
	const char *mine = getenv("XDG_RUNTIME_DIR");

	if (number == 0) {
		snprintf(path, size, "%s", RUN);
		return true;
	}
	return number == 1 && mine && mine[0] == '/' &&
	       (size_t)snprintf(path, size, "%s/umbra", mine) < size;
}

static void prefix_make(char *text, size_t size, uint64_t device, uint64_t inode)
{
	snprintf(text, size, "%" PRIx64 "-%" PRIx64 "-", device, inode);
}

/* --- entries of our own ------------------------------------------------------- */

static bool enter_in(struct registry_entry *e, const char *folder, const char *name,
		     const char *line)
{
	char early[sizeof(e->path)];
	int fd;

	if ((mkdir(folder, 0755) && errno != EEXIST) || (fd = folder_open(folder)) < 0)
		return false;
	fd_close(&fd);
	if ((size_t)snprintf(e->path, sizeof(e->path), "%s/%s", folder, name) >= sizeof(e->path) ||
	    (size_t)snprintf(early, sizeof(early), "%s/.%s", folder, name) >= sizeof(early))
		return false;
	e->fd = open(early, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (e->fd < 0)
		return false;
	if (!flock(e->fd, LOCK_EX | LOCK_NB) &&
	    write(e->fd, line, strlen(line)) == (ssize_t)strlen(line) && !rename(early, e->path))
		return true;
	unlink(early);
	fd_close(&e->fd);
	return false;
}

void registry_enter(struct registry_entry *e, uint64_t device, uint64_t inode, const char *what)
{
	static unsigned int number; /* atomic */
	char folder[128], prefix[48], name[96], line[LINE_MAX_BYTES];
	bool done = e->fd >= 0;

	prefix_make(prefix, sizeof(prefix), device, inode);
	snprintf(name, sizeof(name), "%s%d-%u", prefix, (int)getpid(),
		 __atomic_add_fetch(&number, 1, __ATOMIC_RELAXED));
	snprintf(line, sizeof(line), "process %d, for %s", (int)getpid(), what);
	for (unsigned int i = 0; !done && folder_path(i, folder, sizeof(folder)); i++)
		done = enter_in(e, folder, name, line);
}

void registry_leave(struct registry_entry *e)
{
	if (e->fd >= 0)
		unlink(e->path);
	fd_close(&e->fd);
}

/* --- those of others ---------------------------------------------------------- */

/* The line of entry @name, if somebody stands for it. */
static bool registry_entry_read(int folder, const char *name, char *text, unsigned int size)
{
	int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	char line[LINE_MAX_BYTES];
	bool found = false;
	struct stat st;
	ssize_t n;

	if (fd < 0)
		return false;
	if (!fstat(fd, &st) && is_trusted(&st, S_IFREG)) {
		if (!flock(fd, LOCK_SH | LOCK_NB))
			(void)!unlinkat(folder, name, 0); /* its owner is dead */
		else if (errno == EWOULDBLOCK && (n = read(fd, line, sizeof(line) - 1)) > 0) {
			line[n] = '\0';
			for (char *at = line; *at; at++)
				if (*at < 0x20 || *at > 0x7e)
					*at = '?';
			snprintf(text, size, "%s", line);
			found = true;
		}
	}
	fd_close(&fd);
	return found;
}

static bool find_in(const char *path, const char *prefix, char *text, unsigned int size)
{
	int fd = folder_open(path);
	DIR *folder = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	bool found = false;

	if (!folder) {
		fd_close(&fd);
		return false;
	}
	for (unsigned int i = 0; !found && i < ENTRIES_MAX && (entry = readdir(folder)); i++)
		if (!strncmp(entry->d_name, prefix, strlen(prefix)))
			found = registry_entry_read(fd, entry->d_name, text, size);
	closedir(folder);
	return found;
}

bool registry_find(uint64_t device, uint64_t inode, char *text, unsigned int size)
{
	char folder[128], prefix[48];
	bool found = false;

	prefix_make(prefix, sizeof(prefix), device, inode);
	for (unsigned int i = 0; !found && folder_path(i, folder, sizeof(folder)); i++)
		found = find_in(folder, prefix, text, size);
	return found;
}
