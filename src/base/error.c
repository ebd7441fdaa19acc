/* SPDX-License-Identifier: BSD-2-Clause */
/* Filling the caller's error text: see error.h. */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* @length bytes were to be written into @err: does a person see that there were more? */
static void cut_show(struct umbra_error *err, int length)
{
	static const char dots[] = "...";

	if (length >= (int)sizeof(err->text))
		memcpy(err->text + sizeof(err->text) - sizeof(dots), dots, sizeof(dots));
}

int error_set(struct umbra_error *err, int code, const char *format, ...)
{
	va_list args;

	if (!err)
		return code;
	va_start(args, format);
	cut_show(err, vsnprintf(err->text, sizeof(err->text), format, args));
	va_end(args);
	return code;
}

int error_prefix(struct umbra_error *err, int code, const char *format, ...)
{
	struct umbra_error prefix;
	char rest[UMBRA_ERROR_SIZE];
	va_list args;

	if (!err)
		return code;
	memcpy(rest, err->text, sizeof(rest));
	va_start(args, format);
	vsnprintf(prefix.text, sizeof(prefix.text), format, args);
	va_end(args);
	return error_set(err, code, "%s: %s", prefix.text, rest);
}
