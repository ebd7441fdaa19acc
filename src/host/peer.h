/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The other end of a unix socket: who it is, for a person, and whether it is there.
 *
 * Trust: the process's name is what that process likes; only printable characters of it
 * are shown.  The process may have ended, and its number be another's: nothing depends on it.
 */
#ifndef UMBRA_HOST_PEER_H
#define UMBRA_HOST_PEER_H

#include <stdbool.h>

#define PEER_NAME_SIZE 64 /* bytes */

/* "pid 4711, qemu-system-x86", or "somebody".  Returns @text. */
const char *peer_name(int fd, char text[PEER_NAME_SIZE]);

/* Has it closed the connection? */
bool peer_has_gone(int fd);

#endif
