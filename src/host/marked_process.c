/* SPDX-License-Identifier: BSD-2-Clause */
/* Marks of processes: see marked_process.h. */
#include "host/marked_process.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

/* The beginning of a file of the kernel's, as a string.  -errno. */
static int file_read(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd < 0)
		return -errno;
	got = read(fd, text, size - 1);
	text[got > 0 ? got : 0] = '\0';
	fd_close(&fd);
	return got > 0 ? 0 : -EIO;
}

#define STAT_START 22 /* proc(5): which field of /proc/PID/stat; 2 is the name, in brackets */

/* When process @pid started, ticks; 0: nobody says so. */
static uint64_t start_of(pid_t pid)
{
	char path[sizeof("/proc/-2147483648/stat")], text[1024];
	const char *at;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (file_read(path, text, sizeof(text)))
		return 0;
	/* Its name may have anything in it but ends at the last bracket. */
	at = strrchr(text, ')');
	for (int field = 2; at && field < STAT_START; field++)
		at = strchr(at + 1, ' ');
	return at ? strtoull(at + 1, NULL, 10) : 0;
}

/* Of this boot, and of those who count processes as we do.  False: it cannot be told. */
static bool surroundings(struct process_mark *mark)
{
	char text[64], digits[33];
	struct stat space;
	size_t count = 0;

	if (stat("/proc/self/ns/pid", &space) ||
	    file_read("/proc/sys/kernel/random/boot_id", text, sizeof(text)))
		return false;
	for (const char *c = text; *c && count < 32; c++)
		if (strchr("0123456789abcdef", *c))
			digits[count++] = *c;
	digits[count] = '\0';
	if (count < 32)
		return false;
	mark->boot[1] = strtoull(digits + 16, NULL, 16);
	digits[16] = '\0';
	mark->boot[0] = strtoull(digits, NULL, 16);
	mark->space = space.st_ino;
	return true;
}

void marked_process_make(const struct peer_process *p, struct process_mark *mark)
{
	const struct process_mark unknown = { 0 };

	*mark = unknown;
	if (peer_process_look(p) != PEER_PROCESS_LIVES || !surroundings(mark))
		return;
	mark->pid = (uint64_t)p->pid;
	mark->start = start_of(p->pid);
	/* The number was not another's meanwhile if it lives still. */
	if (!mark->start || peer_process_look(p) != PEER_PROCESS_LIVES)
		*mark = unknown;
}

static enum peer_process_state unknown(struct peer_process *p, const char *why)
{
	peer_process_forget(p);
	snprintf(p->doubt, sizeof(p->doubt), "%s", why);
	return PEER_PROCESS_UNKNOWN;
}

enum peer_process_state marked_process_find(const struct process_mark *mark, struct peer_process *p)
{
	struct process_mark here = { 0 };
	uint64_t start;

	peer_process_forget(p);
	if (!mark->pid || mark->pid > INT_MAX)
		return unknown(p, "nobody knows which process it is");
	if (!surroundings(&here) || here.boot[0] != mark->boot[0] ||
	    here.boot[1] != mark->boot[1] || here.space != mark->space)
		return unknown(p, "its process is one of another boot or another container");
	p->pidfd = pidfd_open((pid_t)mark->pid, 0);
	if (p->pidfd < 0)
		return errno == ESRCH ? PEER_PROCESS_ENDED
				      : unknown(p, "its process cannot be watched");
	p->pid = (pid_t)mark->pid;
	start = start_of(p->pid);
	if (peer_process_look(p) == PEER_PROCESS_ENDED || (start && start != mark->start)) {
		peer_process_forget(p);
		return PEER_PROCESS_ENDED;
	}
	if (!start)
		return unknown(p, "it is not told when its process started");
	snprintf(p->name, sizeof(p->name), "pid %d", (int)p->pid);
	return PEER_PROCESS_LIVES;
}
