/* SPDX-License-Identifier: BSD-2-Clause */
/* A UNIX socket that listens at a path: see listener.h. */
#include "host/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"

#define BACKLOG 4 /* connections: one peer, and its next try */

/* Remove the file at the address if it is a socket without a listener. */
static int stale_remove(const struct sockaddr_un *address, struct umbra_error *err)
{
	struct stat st;
	int fd, rc;

	if (lstat(address->sun_path, &st))
		return 0;
	if (!S_ISSOCK(st.st_mode))
		return error_set(err, -EADDRINUSE, "%s exists and is not a socket",
				 address->sun_path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return error_set(err, -errno, "socket: %s", strerror(errno));
	rc = connect(fd, (const struct sockaddr *)address, sizeof(*address)) ? -errno : 0;
	fd_close(&fd);
	if (rc == -ENOENT)
		return 0;
	if (rc != -ECONNREFUSED)
		return error_set(err, -EADDRINUSE, "somebody listens at %s already",
				 address->sun_path);
	if (unlink(address->sun_path))
		return error_set(err, -errno, "the stale socket %s cannot be removed: %s",
				 address->sun_path, strerror(errno));
	return 0;
}

/* Is the file at our path still the one that we made? */
static bool is_own_file(const struct listener *l)
{
	struct stat st;

	return l->path && !lstat(l->path, &st) && st.st_dev == l->device && st.st_ino == l->inode;
}

/*
 * Note which file bind() has made, and let in who may come.  The file is held by an fd
 * that follows no link, so that what is changed is a socket and the one that is noted.
 */
static int file_adopt(struct listener *l, const struct umbra_socket_access *access,
		      struct umbra_error *err)
{
	int fd = open(l->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	char self[sizeof("/proc/self/fd/-2147483648")];
	struct stat st;
	int rc = 0;

	if (fd < 0 || fstat(fd, &st))
		rc = error_set(err, -errno, "%s: %s", l->path, strerror(errno));
	else if (!S_ISSOCK(st.st_mode))
		rc = error_set(err, -EADDRINUSE, "%s was replaced as it was made", l->path);
	if (rc)
		goto out;
	l->device = st.st_dev;
	l->inode = st.st_ino;
	/* A change of the owner may clear bits of the mode: the group comes first. */
	if (access->sets_group && fchownat(fd, "", (uid_t)-1, (gid_t)access->group,
					   AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW)) {
		rc = error_set(err, -errno, "%s cannot be given to group %u: %s", l->path,
			       access->group, strerror(errno));
		goto out;
	}
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	if (access->mode && chmod(self, (mode_t)access->mode))
		rc = error_set(err, -errno, "%s cannot have the mode 0%o: %s", l->path,
			       access->mode, strerror(errno));
out:
	fd_close(&fd);
	return rc;
}

int listener_open(struct listener *l, const char *path, const struct umbra_socket_access *access,
		  struct umbra_error *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int rc;

	*l = LISTENER_CLOSED;
	if (strlen(path) >= sizeof(address.sun_path))
		return error_set(err, -ENAMETOOLONG,
				 "the socket's path is %zu bytes long, at most %zu are possible",
				 strlen(path), sizeof(address.sun_path) - 1);
	strcpy(address.sun_path, path);
	rc = stale_remove(&address, err);
	if (rc)
		return rc;
	l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (l->fd < 0)
		return error_set(err, -errno, "socket: %s", strerror(errno));
	if (bind(l->fd, (const struct sockaddr *)&address, sizeof(address))) {
		rc = error_set(err, -errno, "cannot listen at %s: %s", path, strerror(errno));
		goto fail;
	}
	l->path = strdup(path);
	rc = l->path ? file_adopt(l, access, err)
		     : error_set(err, -ENOMEM, "no memory for a socket's path");
	if (!rc && listen(l->fd, BACKLOG))
		rc = error_set(err, -errno, "cannot listen at %s: %s", path, strerror(errno));
	if (!rc)
		return 0;
fail:
	listener_close(l);
	return rc;
}

void listener_close(struct listener *l)
{
	/* The file before the socket, which keeps its inode's number from being used anew. */
	if (is_own_file(l))
		unlink(l->path);
	fd_close(&l->fd);
	free(l->path);
	l->path = NULL;
}
