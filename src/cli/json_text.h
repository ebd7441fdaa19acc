/* SPDX-License-Identifier: BSD-2-Clause */
/* Strings into JSON, whatever bytes they hold. */
#ifndef UMBRA_CLI_JSON_TEXT_H
#define UMBRA_CLI_JSON_TEXT_H

#include <jansson.h>

/*
 * A JSON string of @text, with each byte that is not part of a valid UTF-8
 * sequence shown as '?': a socket's path or a peer's text may hold any byte.
 * NULL only for want of memory.  @text is at most a few hundred bytes.
 */
json_t *json_text(const char *text);

#endif
