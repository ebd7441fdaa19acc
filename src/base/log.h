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
 * Nearly every line can be caused by a peer, as often as it likes: by reconnecting, by
 * breaking a ring and resetting it, by asking for what it may not have.  So every line is
 * limited, where it stands in the source: a burst of LOG_BURST lines goes through, then
 * one a second, and the next that goes through is followed by how many were left out.
 * The limits belong to the process and not to a connection, which would begin anew with
 * each; what one kind of line uses up is not taken from another.
 *
 * Threads: any.  A line is written by one write(2), so lines never mix.
 * Never called on the data path.
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

#define LOG_BURST 10 /* lines */

/* One per place in the source; zero-initialised. */
struct log_limit {
	uint64_t second; /* the last one that gave a line back */
	unsigned int used, swallowed;
};

void log_limited(struct log_limit *limit, enum log_level level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#define LOG_HERE(level, ...)                                                                       \
	do {                                                                                       \
		static struct log_limit log_limit_here;                                            \
                                                                                                   \
		log_limited(&log_limit_here, level, __VA_ARGS__);                                  \
	} while (0)

#define log_error(...) LOG_HERE(LOG_ERROR, __VA_ARGS__)
#define log_warning(...) LOG_HERE(LOG_WARNING, __VA_ARGS__)
#define log_info(...) LOG_HERE(LOG_INFO, __VA_ARGS__)
#define log_debug(...) LOG_HERE(LOG_DEBUG, __VA_ARGS__)

#endif
