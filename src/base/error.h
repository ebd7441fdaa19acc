/* SPDX-License-Identifier: BSD-2-Clause */
/* Filling the caller's error text. */
#ifndef UMBRA_BASE_ERROR_H
#define UMBRA_BASE_ERROR_H

#include "umbra/error.h"

/*
 * Write a formatted text into @err, cut at UMBRA_ERROR_SIZE (its end is "..." then), and return
 *@code (a negative errno value), so that a failing call reads
 *
 *	return error_set(err, -EINVAL, "queue %u: size %u is not ...", ...);
 *
 * @err may be NULL: the caller does not want the text.
 */
int error_set(struct umbra_error *err, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Put "@prefix: " in front of the text that is there, which may be cut at its end for it.
 * Returns @code. */
int error_prefix(struct umbra_error *err, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
