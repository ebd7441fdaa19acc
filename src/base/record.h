/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The state of a program in a form that another version of it can read: a text of named numbers,
 * and fds.
 *
 *	umbra-state 1
 *	memory 2
 *	region 0 140037116919808 1073741824 0
 *	fd 4
 *
 * Theory of operation.  Each line has a name and its numbers, in decimal, and nothing else.  Lines
 * are read in the order in which they are written, and each reader says which one it expects and
 * how many numbers it takes: so what does not fit is found at its first line, and no line is ever
 * skipped.  Who changes what is written changes the version, which is the first line, and goes on
 * reading those that it knows.  An fd is the place that it has among those that go along;
 * "none" is a place beyond them all.
 *
 * Rejected: JSON, which would have to be a library below the program itself; a struct as it lies
 * in memory, which two builds of one version need not share.
 *
 * Ownership: a record that is written borrows its fds, and one that is read owns those that
 * nobody has taken from it.
 * Threads: one.
 * Trust: a reader believes nothing.  A number is 64 bits, and its meaning is the caller's to judge.
 */
#ifndef UMBRA_BASE_RECORD_H
#define UMBRA_BASE_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "umbra/error.h"

#define RECORD_VERSION 1u
#define RECORD_BYTES_MAX (64u << 20) /* of a text: far more than 256 queues of 32768 chains */
#define RECORD_FDS_MAX 8192u         /* of a device of 256 queues: a fourth of that */

struct record {
	char *text;
	size_t bytes, room;
	bool failed; /* written: there was no memory for all of it */
	int *fds;
	unsigned int fd_count;
	size_t at; /* read: the next line */
	bool is_read;
};

/* --- writing ---------------------------------------------------------------- */

/* An empty record of the present version. */
void record_write(struct record *w);
void record_put(struct record *w, const char *name, const uint64_t *values, unsigned int count);
#define RECORD_PUT(w, name, ...)                                                                   \
	record_put(w, name, (const uint64_t[]){ __VA_ARGS__ },                                     \
		   sizeof((const uint64_t[]){ __VA_ARGS__ }) / sizeof(uint64_t))
/* @fd -1: none. */
void record_put_fd(struct record *w, int fd);
/* 0, or -ENOMEM: it is not whole. */
UMBRA_MUST_CHECK int record_check(const struct record *w);

/* --- reading ----------------------------------------------------------------- */

/*
 * Read @bytes of @text (from malloc(), of one byte more) with these @fds, all of which are consumed
 * in any case.  -EINVAL: it is none, or one of another version, which the text names.
 */
UMBRA_MUST_CHECK int record_read(struct record *r, char *text, size_t bytes, int *fds,
				 unsigned int fd_count, struct umbra_error *err);
/* The next line is @name with just @count numbers: they go to @values.  -EINVAL: it is not. */
UMBRA_MUST_CHECK int record_get(struct record *r, const char *name, uint64_t *values,
				unsigned int count, struct umbra_error *err);
/* The same of @least to @most numbers; *@count: how many there are. */
UMBRA_MUST_CHECK int record_get_some(struct record *r, const char *name, uint64_t *values,
				     unsigned int least, unsigned int most, unsigned int *count,
				     struct umbra_error *err);
/* The next line is one number below or equal to @most. */
UMBRA_MUST_CHECK int record_get_count(struct record *r, const char *name, uint64_t most,
				      uint64_t *value, struct umbra_error *err);
/* The next line is an fd, which is the caller's from here on; -1: none. */
UMBRA_MUST_CHECK int record_get_fd(struct record *r, int *fd, struct umbra_error *err);
/* All lines have been read. */
UMBRA_MUST_CHECK int record_end(const struct record *r, struct umbra_error *err);

/* Free it, and close the fds that are its own. */
void record_free(struct record *r);

#endif
