/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * umbra/error.h - how calls say what went wrong.
 *
 * Every call that can fail returns 0 or a negative errno value.  Calls of the
 * control path also fill a text that the caller owns: it names the object,
 * the value that was wrong, what was expected, and what happens next, in one
 * line without a newline, ready to be shown to a person.
 *
 * Calls that take something from a ring return 1 (got one), 0 (nothing there)
 * or a negative errno value, so that "empty" and "broken" are never one code.
 *
 * Nothing that a guest, a back-end, a front-end or a control client sends
 * ends the process.
 */
#ifndef UMBRA_ERROR_H
#define UMBRA_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes, with the final NUL.  The longest sentences (the reason of a broken queue, in the error of
 * a switch that broke it) have about 300; one that does not fit ends in "...". */
#define UMBRA_ERROR_SIZE 512

struct umbra_error {
	char text[UMBRA_ERROR_SIZE]; /* "" while nothing failed */
};

/* The caller must look at the result. */
#define UMBRA_MUST_CHECK __attribute__((warn_unused_result))

/* The only names that the shared library exports, each in the version of umbra that brought
 * it (src/lib/libumbra.map). */
#define UMBRA_API __attribute__((visibility("default")))

#ifdef __cplusplus
}
#endif
#endif
