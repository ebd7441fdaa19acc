/* SPDX-License-Identifier: BSD-2-Clause */
/* Giving guest memory back to the host: see discarder.h. */
#include "host/discarder.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/bits.h"
#include "base/thread.h"
#include "host/discard_policy.h"
#include "host/memory_hold.h"

#define BLOCK_BYTES 512u /* the unit of st_blocks, whatever st_blksize is */
#define FILES_MAX 8u     /* that are worked on at the same time */
/* Less than this on one file is not worth a thread: about 10 ms of touched memory. */
#define THREAD_BYTES (UINT64_C(64) << 20)

/* memory_backing::discard_with */
enum discard_with { DISCARD_UNKNOWN, DISCARD_PUNCH, DISCARD_REMOVE };

static int punch(const struct balloon_discard *d)
{
	const struct memory_backing *b = d->region->backing;

	return fallocate(b->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 (off_t)(b->fd_offset + d->offset), (off_t)d->length)
		       ? -errno
		       : 0;
}

static int remove_pages(const struct balloon_discard *d)
{
	return madvise(d->region->host + d->offset, d->length, MADV_REMOVE) ? -errno : 0;
}

/* Is this how a kernel says that it cannot, rather than that it failed? */
static bool is_refusal(int rc)
{
	return rc == -EOPNOTSUPP || rc == -ENOSYS || rc == -EPERM || rc == -EBADF || rc == -EINVAL;
}

static int discard_one(const struct balloon_discard *d)
{
	struct memory_backing *b = d->region->backing;
	int with, rc;

	if (!b || b->fd < 0)
		return -EBADF;
	with = __atomic_load_n(&b->discard_with, __ATOMIC_RELAXED);
	if (with == DISCARD_REMOVE)
		return remove_pages(d);
	do
		rc = punch(d);
	while (rc == -EINTR);
	if (with == DISCARD_UNKNOWN && is_refusal(rc)) {
		rc = remove_pages(d);
		if (!rc)
			__atomic_store_n(&b->discard_with, DISCARD_REMOVE, __ATOMIC_RELAXED);
	} else if (with == DISCARD_UNKNOWN && !rc) {
		__atomic_store_n(&b->discard_with, DISCARD_PUNCH, __ATOMIC_RELAXED);
	}
	return rc;
}

/* --- by file ---------------------------------------------------------------- */

static bool is_same_file(const struct memory_backing *a, const struct memory_backing *b)
{
	return a == b || (a && b && a->file_inode && a->file_device == b->file_device &&
			  a->file_inode == b->file_inode);
}

/* The part of a list that is in one file; the last of FILES_MAX takes whatever is
 * in none of the others. */
struct share {
	struct balloon_discard *list;
	unsigned int count;
	const struct memory_backing *file; /* NULL: all but @others */
	const struct share *others;
	unsigned int other_count;
	uint64_t bytes, freed;
	struct memory_backing *held; /* whose lock is held: see memory_hold.h */
	pthread_t thread;
	bool threaded;
};

static uint64_t held(const struct memory_backing *b)
{
	struct stat st;

	if (!b || b->fd < 0 || fstat(b->fd, &st))
		return 0;
	return (uint64_t)st.st_blocks * BLOCK_BYTES;
}

static bool share_has(const struct share *s, const struct balloon_discard *d)
{
	if (!d->region->backing)
		return false;
	if (s->file)
		return is_same_file(s->file, d->region->backing);
	for (unsigned int i = 0; i < s->other_count; i++)
		if (is_same_file(s->others[i].file, d->region->backing))
			return false;
	return true;
}

/* Take the file's lock, unless it is the one that is held; false: it must be kept. */
static bool share_hold(struct share *s, struct memory_backing *b)
{
	if (s->held == b || !b || b->fd < 0)
		return true;
	if (__atomic_load_n(&b->keeps, __ATOMIC_RELAXED))
		return false;
	if (s->held)
		memory_hold_discarded(s->held);
	s->held = memory_hold_discard(b) ? b : NULL;
	if (!s->held)
		discard_policy_hold(b);
	return s->held;
}

static void share_discard(struct share *s, struct balloon_discard *d)
{
	d->result = share_hold(s, d->region->backing) ? discard_one(d) : BALLOON_KEPT;
}

static void *share_run(void *argument)
{
	struct share *s = argument;
	uint64_t before = held(s->file), after;

	for (unsigned int i = 0; i < s->count; i++)
		if (share_has(s, &s->list[i]))
			share_discard(s, &s->list[i]);
	if (s->held)
		memory_hold_discarded(s->held);
	/* The guest may take pages in the meantime; then it is a little more. */
	after = held(s->file);
	s->freed = before > after ? before - after : 0;
	return NULL;
}

/* The share of @d, of the @n there are; @n: a new one. */
static unsigned int share_find(const struct share *shares, unsigned int n,
			       const struct balloon_discard *d)
{
	unsigned int at = 0;

	while (at < n && !share_has(&shares[at], d))
		at++;
	return at;
}

/* Fill @shares with the files of the list.  Returns how many. */
static unsigned int shares_make(struct share *shares, struct balloon_discard *list,
				unsigned int count)
{
	unsigned int n = 0, at = 0;

	for (unsigned int i = 0; i < count; i++) {
		list[i].result = -EBADF;
		if (!list[i].region->backing)
			continue;
		/* As a rule it is the one before's. */
		if (at >= n || !share_has(&shares[at], &list[i]))
			at = share_find(shares, n, &list[i]);
		if (at == n) {
			shares[n] = (struct share){ .list = list, .count = count };
			if (n < FILES_MAX - 1) {
				shares[n].file = list[i].region->backing;
			} else {
				shares[n].others = shares;
				shares[n].other_count = n;
			}
			n++;
		}
		shares[at].bytes += list[i].length;
	}
	return n;
}

uint64_t discarder_run(struct balloon_discard *list, unsigned int count)
{
	struct share shares[FILES_MAX];
	unsigned int n = shares_make(shares, list, count);
	uint64_t freed = 0;

	for (unsigned int i = 1; i < n; i++)
		shares[i].threaded = shares[i].bytes >= THREAD_BYTES &&
				     !thread_start(&shares[i].thread, 0, share_run, &shares[i]);
	for (unsigned int i = 0; i < n; i++)
		if (!shares[i].threaded)
			share_run(&shares[i]);
	for (unsigned int i = 0; i < n; i++) {
		if (shares[i].threaded)
			pthread_join(shares[i].thread, NULL);
		freed += shares[i].freed;
	}
	return freed;
}

uint64_t discarder_held(const struct memory *memory)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; memory && i < memory->count; i++) {
		const struct memory_backing *b = memory->regions[i].backing;
		bool seen = false;

		for (unsigned int j = 0; j < i && !seen; j++)
			seen = is_same_file(b, memory->regions[j].backing);
		if (!seen)
			sum += held(b);
	}
	return sum;
}
