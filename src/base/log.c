/* SPDX-License-Identifier: BSD-2-Clause */
/* Log lines: see log.h. */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 512

static _Atomic enum log_level max_level = LOG_INFO;
static const char *_Atomic program_name = "umbra";

void log_set_level(enum log_level level)
{
	atomic_store(&max_level, level);
}

void log_set_name(const char *name)
{
	atomic_store(&program_name, name);
}

static void log_write(enum log_level level, const char *format, va_list args)
{
	static const char *const words[] = {
		[LOG_ERROR] = "error: ",
		[LOG_WARNING] = "warning: ",
		[LOG_INFO] = "",
		[LOG_DEBUG] = "debug: ",
	};
	char line[LINE_MAX_BYTES];
	size_t used;
	int n;

	if (level > atomic_load(&max_level))
		return;
	n = snprintf(line, sizeof(line) - 1, "%s: %s", atomic_load(&program_name), words[level]);
	if (n < 0)
		return;
	used = (size_t)n < sizeof(line) - 1 ? (size_t)n : sizeof(line) - 2;
	n = vsnprintf(line + used, sizeof(line) - 1 - used, format, args);
	if (n < 0)
		return;
	used = strlen(line);
	line[used++] = '\n';
	if (write(STDERR_FILENO, line, used) < 0)
		return; /* nobody is listening: there is nowhere to say so */
}

void log_line(enum log_level level, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	log_write(level, format, args);
	va_end(args);
}

void log_limited(struct log_limit *limit, enum log_level level, const char *format, ...)
{
	struct timespec now;
	va_list args;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if ((uint64_t)now.tv_sec != limit->second) {
		limit->second = (uint64_t)now.tv_sec;
		if (limit->tokens_used > 0)
			limit->tokens_used--;
	}
	if (limit->tokens_used >= LOG_BURST) {
		limit->swallowed++;
		return;
	}
	limit->tokens_used++;
	va_start(args, format);
	log_write(level, format, args);
	va_end(args);
	if (limit->swallowed) {
		log_line(level, "(%u more lines like this were left out)", limit->swallowed);
		limit->swallowed = 0;
	}
}
