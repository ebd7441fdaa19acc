/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Finding JSON values in a stream of bytes.
 *
 * QMP does not delimit the values that a client sends: one ends where its
 * brackets close.  The framer looks at each byte once and knows only quotes,
 * escapes and brackets; whether the value is JSON, the parser says.  What it
 * hands over is bounded in size and in depth, so that the parser's work is.
 *
 * Broken input costs one error and is left behind as the specification has it
 * (docs/interop/qmp-spec.rst of QEMU, "Forcing the JSON parser into known-good
 * state"):
 *  - a control character other than tab, CR and LF, or a byte 0xff, drops what
 *    is unfinished, wherever it stands, and so does a line feed in a string;
 *  - after another error the framer skips until white space, '{' or '[';
 *  - of a value that is nested too deep, the rest is skipped.
 *
 * 'Single-quoted' strings and the escape \' are accepted, as the specification
 * says, and handed over in JSON's own spelling.
 *
 * Trust: every byte is hostile.  Threads: one at a time.
 */
#ifndef UMBRA_CLI_QMP_FRAMER_H
#define UMBRA_CLI_QMP_FRAMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QMP_VALUE_MAX (1024u * 1024u) /* bytes; QEMU's commands need a few hundred */
#define QMP_DEPTH_MAX 64u             /* brackets; our commands need 3 */

enum qmp_frame {
	QMP_FRAME_MORE,  /* all bytes taken, no value complete */
	QMP_FRAME_VALUE, /* framer->text[0 .. used) is one */
	QMP_FRAME_ERROR, /* framer->reason says what is wrong; go on */
	QMP_FRAME_FATAL, /* too large, or out of memory: give up on this stream */
};

struct qmp_framer {
	char *text;             /* the value so far */
	size_t used, allocated; /* bytes of @text */
	size_t length;          /* bytes since the value's first one, skipped ones too */
	uint64_t depth;         /* open brackets */
	char open[QMP_DEPTH_MAX];
	char quote;    /* the one that is open, or 0 */
	bool escaped;  /* the last byte was a backslash in a string */
	bool inside;   /* between the first and the last byte of a value */
	bool skipping; /* ... that is dropped */
	bool lost;     /* after an error: looking for a place to start again */
	bool complete; /* the last call returned a value */
	char reason[96];
};

/* All zero is a fresh framer. */
void qmp_framer_free(struct qmp_framer *framer);

/*
 * Take bytes up to the end of a value, an error, or all of them.  *@taken is
 * how many; the value is valid until the next call.
 */
enum qmp_frame qmp_framer_feed(struct qmp_framer *framer, const char *bytes, size_t len,
			       size_t *taken);

#endif
