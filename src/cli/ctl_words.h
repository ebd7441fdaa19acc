/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The words of "umbra ctl" that may have been mistyped.
 *
 * "shadwo on" is a mistyped command, not a missing KEY=VALUE, and a person should be
 * told of the one and not of the other.
 *
 * Trust: the server's list of commands may be anything; it is compared, never shown
 * but as a part of an error that is printed with show_text().
 */
#ifndef UMBRA_CLI_CTL_WORDS_H
#define UMBRA_CLI_CTL_WORDS_H

#include "cli/qmp_client.h"
#include "umbra/error.h"

/* The word of umbra ctl's own that @word was probably meant to be, or NULL: it is one, or
 * it is like none. */
const char *ctl_word_like(const char *word);

/* The server has refused @command, as @err says, since there is no such command: add what
 * was probably meant, if anything. */
void ctl_words_suggest(struct qmp_client *client, const char *command, struct umbra_error *err);

#endif
