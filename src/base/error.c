/* SPDX-License-Identifier: BSD-2-Clause */
/* Filling the caller's error text: see error.h. */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int error_set(struct umbra_error *err, int code, const char *format, ...)
{
	va_list args;

	if (!err)
		return code;
	va_start(args, format);
	vsnprintf(err->text, sizeof(err->text), format, args);
	va_end(args);
	return code;
}

int error_prefix(struct umbra_error *err, int code, const char *format, ...)
{
	char rest[UMBRA_ERROR_SIZE];
	va_list args;
	int n;

	if (!err)
		return code;
	memcpy(rest, err->text, sizeof(rest));
	va_start(args, format);
	n = vsnprintf(err->text, sizeof(err->text), format, args);
	va_end(args);
	if (n < 0 || (size_t)n + 3 > sizeof(err->text))
		return code;
	memcpy(err->text + n, ": ", 2);
	n += 2;
	snprintf(err->text + n, sizeof(err->text) - (size_t)n, "%.*s",
		 (int)(sizeof(err->text) - (size_t)n - 1), rest);
	return code;
}
