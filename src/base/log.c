/* SPDX-License-Identifier: BSD-2-Clause */
/* Log lines: see log.h. */
#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1024 /* an error's text, and more than is ever said around it */

static _Atomic enum log_level max_level = LOG_INFO;
static const char *_Atomic device_name; /* NULL: none has been told */
static atomic_bool has_times;

void log_set_level(enum log_level level)
{
	atomic_store(&max_level, level);
}

/* Is standard error the journal's?  systemd names the stream by device and inode. */
static bool is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat status;

	return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
	       !fstat(STDERR_FILENO, &status) && status.st_dev == device && status.st_ino == inode;
}

void log_begin(const char *device)
{
	atomic_store(&device_name, device);
	atomic_store(&has_times, !is_journal());
}

/* Append to the @used bytes of a line.  Returns how many there are then. */
__attribute__((format(printf, 3, 0))) static size_t line_add(char *line, size_t used,
							     const char *format, va_list args)
{
	/* One byte is for the end of the line, one for the end of the text. */
	const size_t room = LINE_MAX_BYTES - 1 - used;
	int n = vsnprintf(line + used, room, format, args);

	if (n < 0)
		return used;
	return (size_t)n < room ? used + (size_t)n : LINE_MAX_BYTES - 2;
}

__attribute__((format(printf, 3, 4))) static size_t line_addf(char *line, size_t used,
							      const char *format, ...)
{
	va_list args;

	va_start(args, format);
	used = line_add(line, used, format, args);
	va_end(args);
	return used;
}

static size_t line_add_time(char *line)
{
	struct timespec now;
	struct tm utc;
	size_t used = 0;

	clock_gettime(CLOCK_REALTIME, &now);
	if (gmtime_r(&now.tv_sec, &utc))
		used = strftime(line, LINE_MAX_BYTES, "%Y-%m-%dT%H:%M:%S", &utc);
	return line_addf(line, used, ".%06ldZ ", now.tv_nsec / 1000);
}

static void log_write(enum log_level level, const char *format, va_list args)
{
	static const char *const words[] = {
		[LOG_ERROR] = "error: ",
		[LOG_WARNING] = "warning: ",
		[LOG_INFO] = "",
		[LOG_DEBUG] = "debug: ",
	};
	const char *device = atomic_load(&device_name);
	char line[LINE_MAX_BYTES];
	size_t used = 0;

	if (atomic_load(&has_times))
		used = line_add_time(line);
	used = line_addf(line, used, "umbra%s%s: %s", device ? " " : "", device ? device : "",
			 words[level]);
	used = line_add(line, used, format, args);
	line[used++] = '\n';
	if (write(STDERR_FILENO, line, used) < 0)
		return; /* nobody is listening: there is nowhere to say so */
}

__attribute__((format(printf, 2, 3))) static void log_line(enum log_level level, const char *format,
							   ...)
{
	va_list args;

	va_start(args, format);
	log_write(level, format, args);
	va_end(args);
}

/* May one more line go out?  *@swallowed: how many did not before it. */
static bool limit_take(struct log_limit *limit, unsigned int *swallowed)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct timespec now;
	uint64_t passed;
	bool may;

	clock_gettime(CLOCK_MONOTONIC, &now);
	pthread_mutex_lock(&lock);
	passed = (uint64_t)now.tv_sec - limit->second;
	/* Another thread may have read the clock later, and been here first. */
	if ((uint64_t)now.tv_sec > limit->second) {
		limit->second = (uint64_t)now.tv_sec;
		limit->used -= passed < limit->used ? (unsigned int)passed : limit->used;
	}
	may = limit->used < LOG_BURST;
	if (may) {
		limit->used++;
		*swallowed = limit->swallowed;
		limit->swallowed = 0;
	} else {
		limit->swallowed++;
	}
	pthread_mutex_unlock(&lock);
	return may;
}

void log_limited(struct log_limit *limit, enum log_level level, const char *format, ...)
{
	unsigned int swallowed;
	va_list args;

	if (level > atomic_load(&max_level) || !limit_take(limit, &swallowed))
		return;
	va_start(args, format);
	log_write(level, format, args);
	va_end(args);
	if (swallowed)
		log_line(level, "(%u more lines like this were left out)", swallowed);
}
