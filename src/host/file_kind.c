/* SPDX-License-Identifier: BSD-2-Clause */
/* What kind of file an fd is: see file_kind.h. */
#include "host/file_kind.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/bits.h"

/* File systems whose files are here: nobody else is asked for them. */
static const char *const local_systems[] = { "ext2", "ext3",     "ext4",     "xfs",   "btrfs",
					     "f2fs", "bcachefs", "zfs",      "jfs",   "nilfs2",
					     "vfat", "exfat",    "ntfs3",    "ramfs", "tmpfs",
					     "hfs",  "overlay",  "hugetlbfs" };

static bool is_local(const char *system)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(local_systems); i++)
		if (!strcmp(system, local_systems[i]))
			return true;
	return false;
}

/* --- mounts ---------------------------------------------------------------- */

/*
 * The type of the file system of one line of mountinfo, which is changed: "36 35 98:0 /
 * /mnt rw,noatime shared:1 - ext4 /dev/root rw"; blanks in paths are escaped.
 * NULL: the line is of another mount.
 */
static const char *line_system(char *line, uint64_t mount, uint64_t device)
{
	unsigned int major_of, minor_of, number;
	char *at, *end;

	if (sscanf(line, "%u %*u %u:%u", &number, &major_of, &minor_of) != 3)
		return NULL;
	/* By its number; or, in another namespace than ours, by what is mounted. */
	if (number != mount && (device == 0 || makedev(major_of, minor_of) != device))
		return NULL;
	at = strstr(line, " - ");
	if (!at)
		return NULL;
	at += 3;
	end = strchr(at, ' ');
	if (end)
		*end = '\0';
	return at;
}

static void system_find(uint64_t mount, uint64_t device, char *system)
{
	FILE *mounts = fopen("/proc/self/mountinfo", "re");
	const char *name = NULL;
	char *line = NULL;
	size_t size = 0;

	if (!mounts)
		return;
	while (!name && getline(&line, &size, mounts) >= 0)
		name = line_system(line, mount, device);
	if (name)
		snprintf(system, FILE_SYSTEM_NAME, "%s", name);
	free(line);
	fclose(mounts);
}

/* --- files ------------------------------------------------------------------- */

int file_judge(int fd, struct file_nature *out)
{
	struct statx x;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_BASIC_STATS | STATX_MNT_ID, &x))
		return -errno;
	*out = (struct file_nature){
		.kind = FILE_IS_OTHER,
		.mode = x.stx_mode,
		.links = x.stx_nlink,
		.size = x.stx_size,
		.preferred = x.stx_blksize,
		.device = makedev(x.stx_dev_major, x.stx_dev_minor),
		.inode = x.stx_ino,
	};
	if (!S_ISREG(x.stx_mode))
		return 0;
	if (fcntl(fd, F_GET_SEALS) >= 0) {
		out->kind = FILE_IS_MEMORY;
		return 0;
	}
	system_find(x.stx_mask & STATX_MNT_ID ? x.stx_mnt_id : UINT64_MAX,
		    x.stx_dev_major ? out->device : 0, out->system);
	out->kind = is_local(out->system) ? FILE_IS_LOCAL : FILE_IS_FOREIGN;
	return 0;
}

int file_identify(const char *path, uint64_t *device, uint64_t *inode)
{
	struct statx x;

	if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC, STATX_INO, &x))
		return -errno;
	*device = makedev(x.stx_dev_major, x.stx_dev_minor);
	*inode = x.stx_ino;
	return 0;
}

const char *file_foreign_text(const struct file_nature *nature, char *text, unsigned int size)
{
	snprintf(text, size,
		 "is on %s%s%s, and whoever serves it could make us wait for ever; expected a "
		 "memfd, or a file on tmpfs, hugetlbfs or a local file system (ext4, xfs, "
		 "btrfs, ...)",
		 nature->system[0] ? "the file system '" : "a file system that is not known here",
		 nature->system, nature->system[0] ? "'" : "");
	return text;
}
