/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Structs that programs of other versions have: the library's half of umbra/sized.h.
 *
 * A member that is added goes behind all bytes of the struct before, its padding too: what
 * was padding in a program's copy has never been written.
 */
#ifndef UMBRA_BASE_SIZED_H
#define UMBRA_BASE_SIZED_H

#include <stddef.h>

#include "umbra/error.h"

/* Bytes of struct @type up to the member @last, which its first version ended with. */
#define SIZED_UPTO(type, last) (offsetof(type, last) + sizeof(((type *)NULL)->last))

/*
 * Take a config of the caller's, at @in, that begins with its size_t, into @out, which has
 * @known bytes; what the caller did not know is zero.  @what: its type, for the error.
 * -EINVAL: it is shorter than @least.  -E2BIG: it says more than @known bytes hold.
 */
UMBRA_MUST_CHECK int sized_take(void *out, size_t known, const void *in, size_t least,
				const char *what, struct umbra_error *err);

/* Give the caller @known bytes at @in, in room for @size: no more, and zeros beyond. */
void sized_give(void *out, size_t size, const void *in, size_t known);

#endif
