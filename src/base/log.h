/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Log lines: sentences for the operator, on standard error.
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

/* The name that stands in front of each line; kept by reference. */
void log_set_name(const char *name);

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
