/* SPDX-License-Identifier: BSD-2-Clause */
/* What C has into JSON: see json_values.h. */
#include "cli/json_values.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of the UTF-8 sequence that @byte begins; 0 if none can. */
static size_t sequence_length(unsigned char byte)
{
	if (byte < 0x80)
		return 1;
	if (byte >= 0xc2 && byte <= 0xdf)
		return 2;
	if (byte >= 0xe0 && byte <= 0xef)
		return 3;
	return byte >= 0xf0 && byte <= 0xf4 ? 4 : 0;
}

/* Let the library, which knows overlong forms and surrogates, judge one. */
static bool is_valid_sequence(const char *text, size_t len)
{
	json_t *json = json_stringn(text, len);

	json_decref(json);
	return json;
}

json_t *json_text(const char *text)
{
	json_t *json = json_string(text);
	char *shown;
	size_t i, n;

	if (json)
		return json;
	shown = strdup(text);
	if (!shown)
		return NULL;
	for (i = 0; shown[i]; i += n) {
		n = sequence_length((unsigned char)shown[i]);
		if (!n || strnlen(shown + i, n) < n || !is_valid_sequence(shown + i, n)) {
			shown[i] = '?';
			n = 1;
		}
	}
	json = json_string(shown);
	free(shown);
	return json;
}

json_t *json_with_text(json_t *object, const char *member, const char *text)
{
	if (!object || !text || !text[0])
		return object;
	if (json_object_set_new(object, member, json_text(text))) {
		json_decref(object);
		return NULL;
	}
	return object;
}

json_int_t json_number(uint64_t value)
{
	return value > INT64_MAX ? INT64_MAX : (json_int_t)value;
}
