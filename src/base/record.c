/* SPDX-License-Identifier: BSD-2-Clause */
/* A program's state as a text: see record.h. */
#include "base/record.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/fd.h"

#define FIRST "umbra-state"
#define NONE UINT32_MAX /* the place of an fd that is not there */
#define WORD_MAX 24u    /* bytes: a space, twenty digits, the end */

/* --- writing ---------------------------------------------------------------- */

static void append(struct record *w, const char *text, size_t bytes)
{
	if (w->failed)
		return;
	if (bytes > w->room - w->bytes) {
		size_t room = MAX(2 * w->room, w->bytes + bytes + 4096);
		char *larger = room > RECORD_BYTES_MAX ? NULL : realloc(w->text, room);

		if (!larger) {
			w->failed = true;
			return;
		}
		w->text = larger;
		w->room = room;
	}
	memcpy(w->text + w->bytes, text, bytes);
	w->bytes += bytes;
}

void record_put(struct record *w, const char *name, const uint64_t *values, unsigned int count)
{
	char word[WORD_MAX];

	append(w, name, strlen(name));
	for (unsigned int i = 0; i < count; i++)
		append(w, word, (size_t)snprintf(word, sizeof(word), " %" PRIu64, values[i]));
	append(w, "\n", 1);
}

void record_write(struct record *w)
{
	*w = (struct record){ .bytes = 0 };
	RECORD_PUT(w, FIRST, RECORD_VERSION);
}

void record_put_fd(struct record *w, int fd)
{
	int *more;

	RECORD_PUT(w, "fd", fd < 0 ? NONE : w->fd_count);
	if (fd < 0)
		return;
	more = w->fd_count < RECORD_FDS_MAX ? realloc(w->fds, (w->fd_count + 1) * sizeof(*w->fds))
					    : NULL;
	if (!more) {
		w->failed = true;
		return;
	}
	w->fds = more;
	w->fds[w->fd_count++] = fd;
}

int record_check(const struct record *w)
{
	return w->failed ? -ENOMEM : 0;
}

/* --- reading ----------------------------------------------------------------- */

/* A number of decimal digits alone, at *@at, which goes past it. */
static bool number_read(const char **at, uint64_t *value)
{
	const char *c = *at;
	uint64_t n = 0;

	if (*c < '0' || *c > '9')
		return false;
	for (; *c >= '0' && *c <= '9'; c++)
		if (__builtin_mul_overflow(n, (uint64_t)10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(*c - '0'), &n))
			return false;
	*at = c;
	*value = n;
	return true;
}

static int line_refuse(const struct record *r, const char *expected, struct umbra_error *err)
{
	const char *line = r->text + r->at;
	int length = (int)MIN(strcspn(line, "\n"), (size_t)60);

	return error_set(err, -EINVAL, "the state says \"%.*s\" at byte %zu, expected %s", length,
			 line, r->at, expected);
}

int record_get_some(struct record *r, const char *name, uint64_t *values, unsigned int least,
		    unsigned int most, unsigned int *count, struct umbra_error *err)
{
	size_t length = strlen(name);
	const char *at = r->text + r->at;
	char expected[80];

	*count = 0;
	snprintf(expected, sizeof(expected), "\"%.40s\" and %u to %u numbers", name, least, most);
	if (strncmp(at, name, length) != 0)
		return line_refuse(r, expected, err);
	for (at += length; *at == ' ';) {
		at++;
		if (*count == most || !number_read(&at, &values[*count]))
			return line_refuse(r, expected, err);
		(*count)++;
	}
	if (*at != '\n' || *count < least)
		return line_refuse(r, expected, err);
	r->at = (size_t)(at + 1 - r->text);
	return 0;
}

int record_get(struct record *r, const char *name, uint64_t *values, unsigned int count,
	       struct umbra_error *err)
{
	unsigned int got;

	return record_get_some(r, name, values, count, count, &got, err);
}

int record_get_count(struct record *r, const char *name, uint64_t most, uint64_t *value,
		     struct umbra_error *err)
{
	size_t before = r->at;
	char expected[80];
	int rc = record_get(r, name, value, 1, err);

	if (rc || *value <= most)
		return rc;
	r->at = before;
	snprintf(expected, sizeof(expected), "\"%.40s\" and at most %" PRIu64, name, most);
	return line_refuse(r, expected, err);
}

int record_get_fd(struct record *r, int *fd, struct umbra_error *err)
{
	size_t before = r->at;
	uint64_t place;
	int rc = record_get_count(r, "fd", NONE, &place, err);

	*fd = -1;
	if (rc || place == NONE)
		return rc;
	if (place < r->fd_count && r->fds[place] >= 0) {
		*fd = fd_take(&r->fds[place]);
		return 0;
	}
	r->at = before;
	return line_refuse(r, "an fd that came along, and was named once", err);
}

int record_end(const struct record *r, struct umbra_error *err)
{
	return r->at == r->bytes ? 0 : line_refuse(r, "its end", err);
}

int record_read(struct record *r, char *text, size_t bytes, int *fds, unsigned int fd_count,
		struct umbra_error *err)
{
	uint64_t version;
	int rc;

	*r = (struct record){
		.text = text, .bytes = bytes, .fds = fds, .fd_count = fd_count, .is_read = true
	};
	text[bytes] = '\0';
	if (strlen(text) != bytes)
		rc = error_set(err, -EINVAL, "the state is no text: a byte of it is 0");
	else
		rc = record_get(r, FIRST, &version, 1, err);
	if (!rc && version != RECORD_VERSION)
		rc = error_set(err, -EINVAL,
			       "the state is of version %" PRIu64
			       ", and this program knows version %u",
			       version, RECORD_VERSION);
	if (rc)
		record_free(r);
	return rc;
}

void record_free(struct record *r)
{
	for (unsigned int i = 0; r->is_read && i < r->fd_count; i++)
		fd_close(&r->fds[i]);
	free(r->fds);
	free(r->text);
	*r = (struct record){ .bytes = 0 };
}
