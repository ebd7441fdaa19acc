/* SPDX-License-Identifier: BSD-2-Clause */
/* The front-end of a session: see front_end.h. */
#include "session/front_end.h"

#include "base/fd.h"
#include "host/peer.h"

static int connection_fd(const struct front_end *front)
{
	return front->server ? vhost_user_server_fd(front->server) : front->fd;
}

struct pollfd front_end_poll_doorway(const struct front_end *front)
{
	return (struct pollfd){ .fd = doorway_fd(&front->doorway), .events = POLLIN };
}

struct pollfd front_end_poll(const struct front_end *front)
{
	return (struct pollfd){
		.fd = connection_fd(front),
		.events = front->server ? vhost_user_server_events(front->server) : POLLRDHUP,
	};
}

int front_end_wait_ms(struct front_end *front)
{
	return front->state == FRONT_END_ABSENT ? doorway_wait_ms(&front->doorway) : -1;
}

bool front_end_come(struct front_end *front, bool is_readable)
{
	if (front->state != FRONT_END_ABSENT) {
		if (is_readable)
			doorway_turn_away(&front->doorway, connection_fd(front));
		return false;
	}
	if (front->doorway.connected_fd >= 0)
		front->fd = fd_take(&front->doorway.connected_fd);
	else if (is_readable || !doorway_wait_ms(&front->doorway))
		front->fd = doorway_accept(&front->doorway);
	if (front->fd < 0) {
		front->fd = -1;
		return false;
	}
	front->state = FRONT_END_WAITS;
	return true;
}

int front_end_serve(struct front_end *front, struct virtio_device *device, int end_fd,
		    struct umbra_error *err)
{
	int rc = vhost_user_server_create(&front->fd, device, end_fd, &front->server, err);

	if (!rc)
		front->state = FRONT_END_SERVED;
	return rc;
}

int front_end_inherit_served(struct front_end *front, struct record *in,
			     struct virtio_device *device, int end_fd, struct umbra_error *err)
{
	int rc = vhost_user_server_inherit(in, device, end_fd, &front->server, err);

	if (!rc)
		front->state = FRONT_END_SERVED;
	return rc;
}

bool front_end_has_gone(const struct front_end *front)
{
	return front->state != FRONT_END_ABSENT && peer_has_gone(connection_fd(front));
}

void front_end_part(struct front_end *front, bool is_noted)
{
	if (is_noted)
		doorway_note_end(connection_fd(front));
	vhost_user_server_destroy(&front->server);
	fd_close(&front->fd);
	front->state = FRONT_END_ABSENT;
}

int front_end_open(struct front_end *front, const struct doorway_config *config,
		   struct umbra_error *err)
{
	int rc = doorway_open(&front->doorway, config, err);

	front->is_only = front->doorway.connected_fd >= 0;
	return rc;
}

void front_end_close(struct front_end *front)
{
	front_end_part(front, false);
	doorway_close(&front->doorway);
}
