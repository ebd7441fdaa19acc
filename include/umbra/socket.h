/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * umbra/socket.h - the socket that a device makes for its VMM.
 */
#ifndef UMBRA_SOCKET_H
#define UMBRA_SOCKET_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Who may connect: what the socket's file looks like before anybody can. */
struct umbra_socket_access {
	unsigned int mode;  /* permission bits; 0: what the umask leaves */
	bool sets_group;    /* else the group is the process's */
	unsigned int group; /* id of the group that owns the file; one of the process's own,
			       unless it may do more (CAP_CHOWN) */
};

#ifdef __cplusplus
}
#endif
#endif
