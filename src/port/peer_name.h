/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who is at the other end of a unix socket, for a person.
 *
 * Trust: the process's name is what that process likes; only printable characters of it
 * are shown.  The process may have ended, and its number be another's: nothing depends on it.
 */
#ifndef UMBRA_PORT_PEER_NAME_H
#define UMBRA_PORT_PEER_NAME_H

#define PEER_NAME_SIZE 64 /* bytes */

/* "pid 4711, qemu-system-x86", or "somebody".  Returns @text. */
const char *peer_name(int fd, char text[PEER_NAME_SIZE]);

#endif
