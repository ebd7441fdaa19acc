/* SPDX-License-Identifier: BSD-2-Clause */
/* Structs that programs of other versions have: see sized.h. */
#include "base/sized.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"

int sized_take(void *out, size_t known, const void *in, size_t least, const char *what,
	       struct umbra_error *err)
{
	const unsigned char *bytes = in;
	size_t size;

	memcpy(&size, in, sizeof(size));
	if (size < least)
		return error_set(err, -EINVAL,
				 "%s: its struct_size is %zu; expected UMBRA_SIZED(), which is at "
				 "least %zu",
				 what, size, least);
	for (size_t i = known; i < size; i++)
		if (bytes[i])
			return error_set(err, -E2BIG,
					 "%s: byte %zu of %zu says something that this version of "
					 "libumbra, which knows %zu, cannot do",
					 what, i, size, known);
	memset(out, 0, known);
	memcpy(out, in, MIN(size, known));
	return 0;
}

void sized_give(void *out, size_t size, const void *in, size_t known)
{
	size_t common = MIN(size, known);

	memcpy(out, in, common);
	memset((unsigned char *)out + common, 0, size - common);
}
