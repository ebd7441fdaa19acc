/* SPDX-License-Identifier: BSD-2-Clause */
/* Strings and numbers into JSON, whatever they hold. */
#ifndef UMBRA_CLI_JSON_VALUES_H
#define UMBRA_CLI_JSON_VALUES_H

#include <jansson.h>
#include <stdint.h>

/*
 * A JSON string of @text, with each byte that is not part of a valid UTF-8
 * sequence shown as '?': a socket's path or a peer's text may hold any byte.
 * NULL only for want of memory.  @text is at most a few hundred bytes.
 */
json_t *json_text(const char *text);

/* Add @member = @text unless the text is NULL or empty.  Returns @object, or NULL for want
 * of memory, and then @object is gone; NULL stays NULL. */
json_t *json_with_text(json_t *object, const char *member, const char *text);

/* At most INT64_MAX: a counter would need 292 years at one per nanosecond for the 64th bit. */
json_int_t json_number(uint64_t value);

#endif
