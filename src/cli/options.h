/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Values of options, with errors that name the option, the value and what was
 * expected.
 *
 * All return 0 or -EINVAL.  @option is the name as typed, "--fd".
 */
#ifndef UMBRA_CLI_OPTIONS_H
#define UMBRA_CLI_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "umbra/error.h"

/* Exit statuses of the program. */
#define EXIT_USAGE 2 /* the command line was wrong */

/* A decimal number in [min, max]. */
UMBRA_MUST_CHECK int option_number(const char *option, const char *text, unsigned int min,
				   unsigned int max, unsigned int *value, struct umbra_error *err);

/* One of the @words, which NULL ends; *@value is its index. */
UMBRA_MUST_CHECK int option_choice(const char *option, const char *text, const char *const *words,
				   unsigned int *value, struct umbra_error *err);

/* A path that fits into a unix socket's address. */
UMBRA_MUST_CHECK int option_socket_path(const char *option, const char *text,
					struct umbra_error *err);

/* Permission bits, in octal: 660. */
UMBRA_MUST_CHECK int option_mode(const char *option, const char *text, unsigned int *mode,
				 struct umbra_error *err);

/* The name or the number of a group. */
UMBRA_MUST_CHECK int option_group(const char *option, const char *text, unsigned int *group,
				  struct umbra_error *err);

/* Do two paths, which need not exist, name the same file, as far as folders tell? */
bool option_is_same_path(const char *a, const char *b);

/* A number of bytes, more than 0: 4096, 512M, 1.5G, 4GiB; a K is 1024.  Less than a byte of
 * a fraction is left out. */
UMBRA_MUST_CHECK int option_size(const char *option, const char *text, uint64_t *value,
				 struct umbra_error *err);

/* A share, from 1% to 100%. */
UMBRA_MUST_CHECK int option_percent(const char *option, const char *text, unsigned int *percent,
				    struct umbra_error *err);
/* Is it written as one? */
bool option_is_percent(const char *text);

/* An inherited fd that is a unix stream socket. */
UMBRA_MUST_CHECK int option_socket_fd(const char *option, const char *text, int *fd,
				      struct umbra_error *err);

/* A device's name: 1 to 64 letters, digits, '.', '_' or '-'. */
UMBRA_MUST_CHECK int option_name(const char *option, const char *text, struct umbra_error *err);

#endif
