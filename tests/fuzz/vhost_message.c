/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libFuzzer: whatever a front-end sends, the vhost-user server neither falls
 * nor loses an fd.
 *
 * The first byte says whether everything that is offered has been negotiated
 * (odd).  Then comes a run of records, each one message:
 *
 *	byte 0	bits 0-3 number of fds, bit 4 memory files (else eventfds),
 *		bit 5 the device fails, bit 6 the stream ends behind the record,
 *		bit 7 a whole random header follows (else a short one)
 *	short	request (1 byte), flags (1 byte), size of the payload (2 bytes)
 *	whole	request, flags, size (4 bytes each)
 *	payload	as many bytes as are there; zeros for the rest
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../unit/fake_device.h"
#include "../unit/vhost_wire.h"
#include "base/log.h"
#include "fuzz.h"
#include "vhost_user/vhost_user_server.h"

#define MEMORY_FILE_SIZE 65536 /* bytes */
#define RECORDS_MAX 64

static int memory_file, event;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	log_set_level(LOG_ERROR);
	memory_file = memfd_create("fuzz", MFD_CLOEXEC);
	event = eventfd(0, EFD_CLOEXEC);
	return ftruncate(memory_file, MEMORY_FILE_SIZE);
}

static void take_header(struct input *in, uint8_t control, struct vhost_user_header *header)
{
	uint8_t brief[4];

	if (control & 0x80) {
		take_bytes(in, header, sizeof(*header));
		return;
	}
	take_bytes(in, brief, sizeof(brief));
	header->request = brief[0];
	header->flags = brief[1];
	header->size = (uint32_t)(brief[2] | brief[3] << 8) % (VHOST_USER_PAYLOAD_MAX + 1);
}

/* Send one record; returns false when the stream has been ended. */
static bool send_record(struct input *in, int front, struct fake_device *device)
{
	struct wire_message m = { .fd_count = 0 };
	uint8_t control, bytes[sizeof(m)];
	size_t size = sizeof(m.header);

	take_bytes(in, &control, 1);
	take_header(in, control, &m.header);
	memcpy(bytes, &m.header, sizeof(m.header));
	if (m.header.size <= VHOST_USER_PAYLOAD_MAX) {
		take_bytes(in, bytes + size, m.header.size);
		size += m.header.size;
	}
	while (m.fd_count < (control & 0xfu))
		m.fds[m.fd_count++] = control & 0x10 ? memory_file : event;
	device->fail = control & 0x20 ? -22 : 0;
	if (control & 0x40)
		size = size > in->left ? size - in->left % size : size;
	(void)wire_send_bytes(front, bytes, size, m.fds, m.fd_count);
	if (control & 0x40)
		shutdown(front, SHUT_WR);
	return !(control & 0x40);
}

static void negotiate(int front, struct vhost_user_server *server)
{
	struct wire_message m = { .header = { VHOST_USER_GET_PROTOCOL_FEATURES, 1, 0 } };

	if (wire_send(front, &m) || vhost_user_server_receive(server, NULL) != 1 ||
	    wire_receive(front, &m) != 1)
		abort();
	m.header = (struct vhost_user_header){ VHOST_USER_SET_PROTOCOL_FEATURES, 1, 8 };
	if (wire_send(front, &m) || vhost_user_server_receive(server, NULL) != 1)
		abort();
}

/* The lowest free fd: one that is lost moves it. */
static int lowest_fd(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	struct vhost_user_server *server;
	struct fake_device device;
	int pair[2], lowest = lowest_fd(), rc = 1;
	uint8_t first;
	uint8_t reply[VHOST_USER_PAYLOAD_MAX + sizeof(struct vhost_user_header)];

	fake_device_init(&device);
	device.features = device.protocol_features = UINT64_MAX;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) ||
	    vhost_user_server_create(&pair[1], &device.virtio, -1, &server, NULL))
		abort();
	take_bytes(&in, &first, 1);
	if (first & 1)
		negotiate(pair[0], server);
	for (unsigned int i = 0; i < RECORDS_MAX && in.left && rc == 1; i++) {
		bool open = send_record(&in, pair[0], &device);
		struct umbra_error err = { "" };

		rc = vhost_user_server_receive(server, &err);
		if (rc < 0 && !err.text[0])
			abort(); /* an error without a reason */
		vhost_user_server_config_changed(server);
		while (recv(pair[0], reply, sizeof(reply), MSG_DONTWAIT) > 0)
			continue;
		if (!open)
			break;
	}
	vhost_user_server_destroy(&server);
	close(pair[0]);
	fake_device_fini(&device);
	if (lowest_fd() != lowest)
		abort(); /* an fd was lost */
	return 0;
}
