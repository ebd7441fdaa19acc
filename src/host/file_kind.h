/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What kind of file an fd of a peer's is.
 *
 * Theory of operation: some files are served by a program (FUSE) or another machine
 * (NFS, 9P, CIFS), and a call that asks the server returns when the server likes: never,
 * if it belongs to a hostile front-end.  fstat(2), fstatfs(2), poll(2), a page fault
 * and even close(2) ask it.  So the kind is found out first, by what the kernel knows
 * itself:
 *
 *	F_GET_SEALS		answers for memory (tmpfs, a memfd, hugetlbfs), and is
 *				refused for all else, before any file system is asked
 *	statx(AT_STATX_DONT_SYNC)	is answered from the inode that is open
 *	/proc/self/mountinfo	the file system of a mount, found by the number of the
 *				mount that the fd belongs to
 *
 * Files on file systems that are not known to be local, and those whose mount is not to
 * be found (it is another namespace's), count as foreign: a list of those that are known
 * to be foreign would have to be complete.  An overlay is local where it is open to be
 * written, since what is written lies in its upper layer, which cannot be a foreign one.
 *
 * Threads: any.  Trust: nothing that a peer has written is believed.
 */
#ifndef UMBRA_HOST_FILE_KIND_H
#define UMBRA_HOST_FILE_KIND_H

#include <stdbool.h>
#include <stdint.h>

#include "umbra/error.h"

#define FILE_SYSTEM_NAME 24u

enum file_kind {
	FILE_IS_MEMORY,  /* tmpfs, memfd, hugetlbfs: pages and nothing else */
	FILE_IS_LOCAL,   /* a regular file on a file system of this machine */
	FILE_IS_FOREIGN, /* a regular file, and a server may have to be asked */
	FILE_IS_OTHER,   /* no regular file: see `mode` */
};

struct file_nature {
	enum file_kind kind;
	uint32_t mode;                 /* as st_mode */
	uint32_t links;                /* names that it has in folders */
	uint64_t size;                 /* bytes */
	uint64_t preferred;            /* st_blksize, bytes */
	uint64_t device, inode;        /* its identity */
	char system[FILE_SYSTEM_NAME]; /* "ext4", "fuse", ...; "" for memory, and if unknown */
};

/* Never waits for a server.  -errno of statx(2). */
UMBRA_MUST_CHECK int file_judge(int fd, struct file_nature *out);

/* The identity of the file at @path, which is the operator's: 0 or -errno. */
UMBRA_MUST_CHECK int file_identify(const char *path, uint64_t *device, uint64_t *inode);

/* The words of an error about a file that is foreign: what it is, and what is taken. */
const char *file_foreign_text(const struct file_nature *nature, char *text, unsigned int size);

#endif
