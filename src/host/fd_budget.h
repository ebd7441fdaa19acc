/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How many fds peers may make this process hold.
 *
 * Theory of operation: a front-end has some fds held for each of its rings and memory
 * regions, and brings as many again of umbra's own into being.  Where the limit of open
 * files is low, that would leave none for the QMP socket, and the operator could not
 * even ask what is going on.  So what peers cause to be opened ends FD_RESERVE short of the
 * limit.  Nothing has to be counted: the kernel gives the lowest free number, so an fd
 * whose number lies within the reserve says that all below are taken.
 *
 * Threads: any.
 */
#ifndef UMBRA_HOST_FD_BUDGET_H
#define UMBRA_HOST_FD_BUDGET_H

/* fds: the QMP clients, and what a message in flight may bring for a moment.  Of a
 * limit that is very low it is the eighth part. */
#define FD_RESERVE 64u

/* May an fd that a peer has caused to be opened be kept?  One that may not is closed: 0,
 * or -EMFILE. */
int fd_budget_claim(int *fd);

#endif
