/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Log lines: sentences for the operator, on standard error.
 *
 *	2026-11-26T08:30:00.123456Z umbra disk0: warning: the back-end has not answered ...
 *
 * A program calls log_begin(), and its lines then have a time, in UTC and in the form in
 * which "umbra ctl events" prints its own, so that the two can be laid side by side.
 * Where standard error is the journal, the time is left out: the journal stamps each line
 * itself, and says so by JOURNAL_STREAM (systemd.exec(5)).  A program that only embeds
 * the library has lines as they always were, without a time.
 *
 * Threads: any.  A line is written by one write(2), so lines never mix.
 * Never called on the data path.  What a peer can trigger goes through
 * log_limited(), which lets a burst of LOG_BURST lines through, then one a
 * second, and says how many it swallowed.
 */
#ifndef UMBRA_BASE_LOG_H
#define UMBRA_BASE_LOG_H

#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

/* Lines above @level are dropped.  Default: LOG_INFO. */
void log_set_level(enum log_level level);

/* From here on each line has a time, unless the journal adds one, and says which device
 * it is about.  @device is kept by reference. */
void log_begin(const char *device);

void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define LOG_BURST 10 /* lines */

/* One per kind of line; zero-initialised; used by one thread. */
struct log_limit {
	uint64_t second; /* the second that is being counted */
	unsigned int tokens_used;
	unsigned int swallowed;
};

void log_limited(struct log_limit *limit, enum log_level level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_WARNING, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

#endif
