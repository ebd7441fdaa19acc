/* SPDX-License-Identifier: BSD-2-Clause */
/* Finding JSON values in a stream of bytes: see qmp_framer.h. */
#include "cli/qmp_framer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_KEPT_MAX 4096u /* bytes of buffer that an idle framer may hold */

static bool is_space(unsigned char byte)
{
	return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

/* A byte that stands in no JSON text: a client's way to say "start again". */
static bool is_reset(unsigned char byte)
{
	return byte == 0xff || (byte < 0x20 && !is_space(byte));
}

static void framer_restart(struct qmp_framer *framer)
{
	framer->used = 0;
	framer->length = 0;
	framer->depth = 0;
	framer->quote = 0;
	framer->escaped = false;
	framer->inside = false;
	framer->skipping = false;
	framer->complete = false;
	if (framer->allocated > TEXT_KEPT_MAX) {
		free(framer->text);
		framer->text = NULL;
		framer->allocated = 0;
	}
}

__attribute__((format(printf, 2, 3))) static enum qmp_frame framer_error(struct qmp_framer *framer,
									 const char *format, ...)
{
	va_list args;

	framer_restart(framer);
	framer->lost = true;
	va_start(args, format);
	vsnprintf(framer->reason, sizeof(framer->reason), format, args);
	va_end(args);
	return QMP_FRAME_ERROR;
}

static bool framer_append(struct qmp_framer *framer, char byte)
{
	if (framer->skipping)
		return true;
	if (framer->used == framer->allocated) {
		size_t larger = framer->allocated ? 2 * framer->allocated : 256;
		char *text = realloc(framer->text, larger);

		if (!text)
			return false;
		framer->text = text;
		framer->allocated = larger;
	}
	framer->text[framer->used++] = byte;
	return true;
}

/* A byte of a string, in JSON's spelling: only "..." and no \'. */
static bool framer_append_string(struct qmp_framer *framer, char byte)
{
	if (framer->escaped) {
		framer->escaped = false;
		if (byte != '\'')
			return framer_append(framer, byte);
		if (!framer->skipping)
			framer->text[framer->used - 1] = byte; /* over the backslash */
		return true;
	}
	if (byte == framer->quote) {
		framer->quote = 0;
		return framer_append(framer, '"');
	}
	if (byte == '\\')
		framer->escaped = true;
	else if (byte == '"')
		return framer_append(framer, '\\') && framer_append(framer, '"');
	return framer_append(framer, byte);
}

static enum qmp_frame framer_open(struct qmp_framer *framer, char byte)
{
	if (framer->depth < QMP_DEPTH_MAX)
		framer->open[framer->depth] = byte;
	framer->depth++;
	if (framer->depth <= QMP_DEPTH_MAX || framer->skipping)
		return framer_append(framer, byte) ? QMP_FRAME_MORE : QMP_FRAME_FATAL;
	framer->skipping = true;
	framer->used = 0;
	snprintf(framer->reason, sizeof(framer->reason), "JSON nesting is deeper than %u levels",
		 QMP_DEPTH_MAX);
	return QMP_FRAME_ERROR;
}

static enum qmp_frame framer_close(struct qmp_framer *framer, char byte)
{
	char open = byte == '}' ? '{' : '[';

	if (!framer->depth ||
	    (framer->depth <= QMP_DEPTH_MAX && framer->open[framer->depth - 1] != open))
		return framer_error(framer, "JSON parse error, unexpected '%c'", byte);
	framer->depth--;
	return framer_append(framer, byte) ? QMP_FRAME_MORE : QMP_FRAME_FATAL;
}

/* One byte between the first and the last of a value, or the first. */
static enum qmp_frame framer_inside(struct qmp_framer *framer, char byte)
{
	enum qmp_frame result = QMP_FRAME_MORE;

	framer->inside = true;
	if (++framer->length > QMP_VALUE_MAX) {
		snprintf(framer->reason, sizeof(framer->reason), "message is larger than %u bytes",
			 QMP_VALUE_MAX);
		return QMP_FRAME_FATAL;
	}
	if (framer->quote) {
		if ((unsigned char)byte < 0x20)
			return framer_error(framer,
					    "JSON parse error, control character 0x%02x "
					    "in a string",
					    (unsigned char)byte);
		if (!framer_append_string(framer, byte))
			result = QMP_FRAME_FATAL;
	} else if (byte == '"' || byte == '\'') {
		framer->quote = byte;
		if (!framer_append(framer, '"'))
			result = QMP_FRAME_FATAL;
	} else if (byte == '{' || byte == '[') {
		result = framer_open(framer, byte);
	} else if (byte == '}' || byte == ']') {
		result = framer_close(framer, byte);
	} else if (!framer_append(framer, byte)) {
		result = QMP_FRAME_FATAL;
	}
	if (result == QMP_FRAME_FATAL)
		snprintf(framer->reason, sizeof(framer->reason), "out of memory for a message");
	if (result != QMP_FRAME_MORE || framer->depth || framer->quote)
		return result;
	if (framer->skipping) {
		framer_restart(framer);
		return QMP_FRAME_MORE;
	}
	framer->complete = true;
	return QMP_FRAME_VALUE;
}

static enum qmp_frame framer_byte(struct qmp_framer *framer, char byte)
{
	unsigned char code = (unsigned char)byte;

	/* Each has its error, since the client that sends one waits for it. */
	if (is_reset(code)) {
		framer_error(framer, "JSON parse error, stray byte 0x%02x", code);
		framer->lost = false;
		return QMP_FRAME_ERROR;
	}
	if (framer->inside)
		return framer_inside(framer, byte);
	if (is_space(code)) {
		framer->lost = false;
		return QMP_FRAME_MORE;
	}
	if (byte == '{' || byte == '[') {
		framer->lost = false;
		return framer_inside(framer, byte);
	}
	if (framer->lost)
		return QMP_FRAME_MORE;
	if (byte == '"' || byte == '\'')
		return framer_inside(framer, byte);
	if (code > 0x20 && code < 0x7f)
		return framer_error(framer,
				    "JSON parse error, unexpected '%c': a QMP message is "
				    "a JSON object",
				    byte);
	return framer_error(framer, "JSON parse error, stray byte 0x%02x", code);
}

void qmp_framer_free(struct qmp_framer *framer)
{
	free(framer->text);
	memset(framer, 0, sizeof(*framer));
}

enum qmp_frame qmp_framer_feed(struct qmp_framer *framer, const char *bytes, size_t len,
			       size_t *taken)
{
	enum qmp_frame result = QMP_FRAME_MORE;
	size_t i = 0;

	if (framer->complete)
		framer_restart(framer);
	while (i < len && result == QMP_FRAME_MORE)
		result = framer_byte(framer, bytes[i++]);
	*taken = i;
	return result;
}
