/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Answers and events of the QMP socket, for people.
 *
 * Trust: the server may be anything that speaks QMP.  Members that are missing
 * or of another type are shown as "-", and control characters as "?", so that
 * nothing that is shown can steer a terminal.
 */
#ifndef UMBRA_CLI_CTL_SHOW_H
#define UMBRA_CLI_CTL_SHOW_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

/* @text without control characters, and a line feed. */
void show_text(FILE *stream, const char *text);

/* Indented, or on one line; always ASCII. */
void show_json(const json_t *value, bool one_line);

void show_status(const json_t *status);
void show_vhost(const json_t *vhost);
void show_event(const json_t *event);

#endif
